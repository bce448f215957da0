//! Cache-Control, and the numbers in it. RFC 9111 §5.2

use crate::http::body::quoted_string;
use crate::http::fields::Fields;

/// "the cache MUST consider the value to be 2147483648 (2^31) or the
/// greatest positive integer it can conveniently represent" RFC 9111 §1.2.2
pub const GREATEST: i64 = 1 << 31;

/// Is there such a directive? Cache-Control alone counts.
pub fn has(fields: &Fields, wanted: &str) -> bool {
    directives(fields).any(|(name, _)| is(name, wanted))
}

/// The seconds that a directive names. Of several the one that makes stale
/// sooner (the least, but of min-fresh the greatest); one that is no number
/// (a sign, quotes, nothing) counts as `invalid`, so that doubt makes stale,
/// not fresh.
pub fn seconds(fields: &Fields, wanted: &str, invalid: i64) -> Option<i64> {
    let all = directives(fields).filter(|(name, _)| is(name, wanted));
    let value = |argument: Option<&[u8]>| {
        argument.and_then(delta_seconds).unwrap_or(invalid)
    };
    let values = all.map(|(_, argument)| value(argument));
    if invalid > 0 { values.max() } else { values.min() }
}

/// `1*DIGIT`; what is too great is as much as there can be. RFC 9111 §1.2.2
pub fn delta_seconds(text: &[u8]) -> Option<i64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse::<i64>();
    Some(number.map_or(GREATEST, |seconds| seconds.min(GREATEST)))
}

pub fn is(name: &[u8], wanted: &str) -> bool {
    name.eq_ignore_ascii_case(wanted.as_bytes())
}

/// The directives of Cache-Control, of all its lines:
///
/// ```text
/// cache-directive = token [ "=" ( token / quoted-string ) ]
/// ```
///
/// A comma in a quoted string separates nothing; a quote that is not closed
/// begins none, or it would hide what follows. RFC 9111 §5.2
pub fn directives<'a>(
    fields: &Fields<'a>,
) -> impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> {
    fields.all("cache-control").flat_map(|line| {
        let mut at = 0;
        let mut quoted_until = 0;
        let separates = move |b: &u8| {
            if *b == b'"' && at >= quoted_until {
                quoted_until = at + quoted_string(&line[at..]);
            }
            at += 1;
            *b == b',' && at > quoted_until
        };
        line.split(separates).map(|member| {
            let member = member.trim_ascii();
            match member.iter().position(|b| *b == b'=') {
                None => (member, None),
                Some(at) => (
                    member[..at].trim_ascii_end(),
                    Some(member[at + 1..].trim_ascii_start()),
                ),
            }
        })
    })
}
