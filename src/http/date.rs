//! HTTP dates: one form to write, three to read. RFC 9110 §5.6.7
//!
//! Times are seconds since 1970-01-01 00:00:00 UTC, without leap seconds.

use std::time::{SystemTime, UNIX_EPOCH};

const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
const LONG_DAYS: [&str; 7] = [
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "Monday",
    "Tuesday",
    "Wednesday",
];
/// As dates and the access log have them.
pub const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct",
    "Nov", "Dec",
];

/// The present second.
pub fn now() -> i64 {
    match SystemTime::now().duration_since(UNIX_EPOCH) {
        Ok(since) => since.as_secs() as i64,
        Err(_) => 0,
    }
}

/// A second as calendar and clock have it, in UTC.
pub struct Civil {
    pub year: i64,
    /// 1 to 12
    pub month: i64,
    /// 1 to 31
    pub day: i64,
    pub hour: i64,
    pub minute: i64,
    pub second: i64,
}

impl Civil {
    /// Years are counted from 1 March here, so that the leap day is last;
    /// 400 of them have 146,097 days.
    pub fn from_seconds(seconds: i64) -> Civil {
        let (days, rest) =
            (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let since_0000_03_01 = days + 719_468;
        let era = since_0000_03_01.div_euclid(146_097);
        let day_of_era = since_0000_03_01.rem_euclid(146_097);
        let year_of_era = (day_of_era - day_of_era / 1_460
            + day_of_era / 36_524
            - day_of_era / 146_096)
            / 365;
        let day_of_year = day_of_era
            - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let month = (month_from_march + 2) % 12 + 1;
        Civil {
            year: era * 400 + year_of_era + i64::from(month <= 2),
            month,
            day: day_of_year - (153 * month_from_march + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
        }
    }

    /// `None` for a date that does not exist.
    fn to_seconds(&self) -> Option<i64> {
        let in_range = (1..=12).contains(&self.month)
            && (1..=31).contains(&self.day)
            && self.hour < 24
            && self.minute < 60
            && self.second <= 60;
        if !in_range {
            return None;
        }
        let year = self.year - i64::from(self.month <= 2);
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = (self.month + 9) % 12;
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4
            - year_of_era / 100
            + day_of_year;
        let days = era * 146_097 + day_of_era - 719_468;
        let seconds = days * 86_400
            + self.hour * 3600
            + self.minute * 60
            + self.second.min(59);
        // 31 June would have become 1 July
        (Civil::from_seconds(seconds).day == self.day).then_some(seconds)
    }
}

/// The form that senders write: `Sun, 06 Nov 1994 08:49:37 GMT`.
pub fn format(seconds: i64) -> String {
    let c = Civil::from_seconds(seconds);
    let day = DAYS[seconds.div_euclid(86_400).rem_euclid(7) as usize];
    let month = MONTHS[c.month as usize - 1];
    format!(
        "{day}, {:02} {month} {:04} {:02}:{:02}:{:02} GMT",
        c.day, c.year, c.hour, c.minute, c.second
    )
}

/// Any of the three forms:
///
/// ```text
/// Sun, 06 Nov 1994 08:49:37 GMT    ; IMF-fixdate
/// Sunday, 06-Nov-94 08:49:37 GMT   ; obsolete RFC 850 format
/// Sun Nov  6 08:49:37 1994         ; ANSI C's asctime() format
/// ```
///
/// "A recipient that parses a timestamp value in an HTTP field MUST accept
/// all three HTTP-date formats." `now` serves the two-digit year's rule.
pub fn parse(text: &str, now: i64) -> Option<i64> {
    let words: Vec<&str> = text.split(' ').filter(|w| !w.is_empty()).collect();
    let (day, month, year, clock) = match words[..] {
        [name, day, month, year, clock, "GMT"] => {
            let name = name.strip_suffix(',')?;
            DAYS.contains(&name).then_some(())?;
            (day, month, number(year, 4)?, clock)
        }
        [name, date, clock, "GMT"] => {
            LONG_DAYS.contains(&name.strip_suffix(',')?).then_some(())?;
            let mut date = date.split('-');
            let (day, month) = (date.next()?, date.next()?);
            let year = full_year(number(date.next()?, 2)?, now);
            date.next().is_none().then_some(())?;
            (day, month, year, clock)
        }
        [name, month, day, clock, year] => {
            DAYS.contains(&name).then_some(())?;
            (day, month, number(year, 4)?, clock)
        }
        _ => return None,
    };
    let mut clock = clock.split(':');
    let civil = Civil {
        year,
        month: MONTHS.iter().position(|m| *m == month)? as i64 + 1,
        day: number(day, day.len().clamp(1, 2))?,
        hour: number(clock.next()?, 2)?,
        minute: number(clock.next()?, 2)?,
        second: number(clock.next()?, 2)?,
    };
    clock.next().is_none().then_some(())?;
    civil.to_seconds()
}

/// "Recipients of a timestamp value in rfc850-date format, which uses a
/// two-digit year, MUST interpret a timestamp that appears to be more than
/// 50 years in the future as representing the most recent year in the past
/// that had the same last two digits." RFC 9110 §5.6.7
fn full_year(two_digits: i64, now: i64) -> i64 {
    let this_year = Civil::from_seconds(now).year;
    let year = this_year - this_year % 100 + two_digits;
    if year > this_year + 50 { year - 100 } else { year }
}

/// Just so many digits.
fn number(text: &str, digits: usize) -> Option<i64> {
    let good = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    good.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The RFC's own example.
    const SECOND: i64 = 784_111_777;
    /// 2026
    const NOW: i64 = 1_790_000_000;

    #[test]
    fn the_three_forms_of_rfc_9110_5_6_7() {
        assert_eq!(format(SECOND), "Sun, 06 Nov 1994 08:49:37 GMT");
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
        ] {
            assert_eq!(parse(text, NOW), Some(SECOND), "{text}");
        }
    }

    #[test]
    fn a_two_digit_year_is_at_most_50_years_ahead() {
        let year = |text| Civil::from_seconds(parse(text, NOW).unwrap()).year;
        assert_eq!(year("Tuesday, 01-Jan-76 00:00:00 GMT"), 2076);
        assert_eq!(year("Tuesday, 01-Jan-77 00:00:00 GMT"), 1977);
    }

    #[test]
    fn dates_that_are_none() {
        for text in [
            "",
            "Sun, 06 Nov 1994 08:49:37",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 31 Jun 1994 08:49:37 GMT",
            "Sun, 29 Feb 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:00:00 GMT",
            "Sun, 06 nov 1994 08:49:37 GMT",
            "Sun, 06 Nov 94 08:49:37 GMT",
            "Sun, +6 Nov 1994 08:49:37 GMT",
            "784111777",
        ] {
            assert_eq!(parse(text, NOW), None, "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_comes_back() {
        for day in -80_000..80_000_i64 {
            let seconds = day * 86_400 + 3_661;
            if Civil::from_seconds(seconds).year >= 1000 {
                assert_eq!(parse(&format(seconds), NOW), Some(seconds));
            }
        }
    }
}
