//! Conditional requests (RFC 9110 §13) and ranges (§14): pure decisions over
//! a request's fields and the validators of what is stored. The conditional
//! GET of KR 2.2.5 is `If-Modified-Since` below.

use super::date;
use super::fields::Fields;

/// "Servers ought to ignore, coalesce, or reject egregious range requests,
/// such as requests for more than two overlapping ranges or for many small
/// ranges in a single set" RFC 9110 §17.15
const MAX_RANGES: usize = 16;

/// What can be compared with a client's copy.
#[derive(Clone, Copy, Debug)]
pub struct Validators<'a> {
    /// With its quotes, and `W/` before them if it is weak; empty: none.
    pub etag: &'a str,
    /// Seconds since 1970.
    pub last_modified: i64,
}

/// What the conditions of a request come to, each with its reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As if there were none.
    Proceed(&'static str),
    /// 304: the client's copy is current.
    NotModified(&'static str),
    /// 412: the client does not want it like this.
    Failed(&'static str),
}

/// The five conditions in the order of RFC 9110 §13.2.2, for GET and HEAD.
pub fn evaluate(fields: &Fields, validators: &Validators, now: i64) -> Verdict {
    let date = |name| date::parse(fields.text(name)?, now);
    // 1. If-Match
    if fields.get("if-match").is_some() {
        if !any_tag(fields, "if-match", validators.etag, false) {
            return Verdict::Failed(
                "412: no tag of If-Match is the ETag. RFC 9110 §13.1.1",
            );
        }
    // 2. If-Unmodified-Since, where there is no If-Match
    } else if date("if-unmodified-since")
        .is_some_and(|date| validators.last_modified > date)
    {
        return Verdict::Failed(
            "412: changed after If-Unmodified-Since. RFC 9110 §13.1.4",
        );
    }
    // 3. If-None-Match
    if fields.get("if-none-match").is_some() {
        if any_tag(fields, "if-none-match", validators.etag, true) {
            return Verdict::NotModified(
                "304: the copy is current, If-None-Match equals the ETag. \
                 RFC 9110 §13.1.2, KR 2.2.5",
            );
        }
        return Verdict::Proceed(
            "the copy is old: no tag of If-None-Match is the ETag. \
             RFC 9110 §13.1.2",
        );
    }
    // 4. If-Modified-Since, where there is no If-None-Match
    if let Some(date) = date("if-modified-since") {
        if validators.last_modified <= date {
            return Verdict::NotModified(
                "304: the copy is current, not changed after \
                 If-Modified-Since. RFC 9110 §13.1.3, KR 2.2.5",
            );
        }
        return Verdict::Proceed(
            "the copy is old: changed after If-Modified-Since. \
             RFC 9110 §13.1.3, KR 2.2.5",
        );
    }
    // 5. If-Range goes with Range: see `ranges`
    // 6. otherwise, perform the method
    let conditions = ["if-match", "if-unmodified-since", "if-modified-since"];
    Verdict::Proceed(match conditions.iter().any(|c| fields.get(c).is_some()) {
        true => "no condition fails (or its date is none). RFC 9110 §13.2.2",
        false => "no condition was asked. RFC 9110 §13.2.2",
    })
}

/// Does a list of entity tags hold this one, or `*`? The weak comparison
/// overlooks `W/`, the strong one refuses it. RFC 9110 §8.8.3.2
fn any_tag(
    fields: &Fields,
    name: &'static str,
    etag: &str,
    weak: bool,
) -> bool {
    let strong = etag.strip_prefix("W/").unwrap_or(etag);
    let comparable = weak || strong == etag;
    fields.all(name).any(|value| {
        if value == b"*" {
            return true;
        }
        let mut rest = value;
        loop {
            rest = rest.trim_ascii_start();
            rest = match rest {
                [b',', more @ ..] => more,
                _ => match entity_tag(rest) {
                    None => return false,
                    Some((is_weak, opaque, more)) => {
                        let same = opaque == strong.as_bytes();
                        if same && comparable && (weak || !is_weak) {
                            return true;
                        }
                        more
                    }
                },
            };
        }
    })
}

/// `[ W/ ] DQUOTE *etagc DQUOTE`, and what follows. A comma may stand inside.
fn entity_tag(text: &[u8]) -> Option<(bool, &[u8], &[u8])> {
    let (is_weak, tag) = match text.strip_prefix(b"W/") {
        Some(tag) => (true, tag),
        None => (false, text),
    };
    let inner = tag.strip_prefix(b"\"")?;
    let end = inner.iter().position(|b| *b == b'"')?;
    Some((is_weak, &tag[..end + 2], &tag[end + 2..]))
}

/// First and last octet, both included.
pub type ByteRange = (u64, u64);

/// What a Range field comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ranges {
    /// The whole, since there is no range that counts.
    Whole(&'static str),
    /// 206: these, apart from each other.
    Parts(Vec<ByteRange>),
    /// 416: all begin behind the end.
    Unsatisfiable,
}

/// `Range` and `If-Range` of a GET. RFC 9110 §14.2, §13.1.5
pub fn ranges(
    fields: &Fields,
    validators: &Validators,
    length: u64,
    now: i64,
) -> Ranges {
    let Some(range) = fields.text("range") else {
        return Ranges::Whole("no range was asked. RFC 9110 §14.2");
    };
    let changed = |tag: &str| !still_the_same(tag, validators, now);
    if fields.text("if-range").is_some_and(changed) {
        return Ranges::Whole(
            "the part would be of another version than If-Range's: \
             the whole. RFC 9110 §13.1.5",
        );
    }
    let unit = range.get(..6).filter(|u| u.eq_ignore_ascii_case("bytes="));
    let set = unit.and_then(|_| range_set(&range[6..]));
    let Some(set) = set else {
        return Ranges::Whole(
            "Range is of another unit, or malformed: ignored. \
             RFC 9110 §14.2",
        );
    };
    let spans: Vec<ByteRange> =
        set.into_iter().filter_map(|r| r.within(length)).collect();
    let spans = coalesce(spans);
    match spans.len() {
        0 => Ranges::Unsatisfiable,
        1..=MAX_RANGES => Ranges::Parts(spans),
        _ => Ranges::Whole("too many ranges: the whole. RFC 9110 §14.2"),
    }
}

/// Tags are compared strongly. A date must be the very one, and is only good
/// when a second has passed since: what changed in the second in which it
/// was sent would have the same date. RFC 9110 §13.1.5
fn still_the_same(if_range: &str, validators: &Validators, now: i64) -> bool {
    if if_range.starts_with(['"', 'W']) && if_range.ends_with('"') {
        return if_range == validators.etag && !if_range.starts_with('W');
    }
    date::parse(if_range, now) == Some(validators.last_modified)
        && validators.last_modified < now
}

/// One `ranges-specifier`, before the length is known.
enum Specifier {
    From(u64),
    Between(u64, u64),
    /// The last so many octets.
    Suffix(u64),
}

impl Specifier {
    /// `None`: unsatisfiable.
    fn within(&self, length: u64) -> Option<ByteRange> {
        let last = length.checked_sub(1)?;
        match *self {
            Specifier::From(first) => (first <= last).then_some((first, last)),
            Specifier::Between(first, to) => {
                (first <= last).then_some((first, to.min(last)))
            }
            Specifier::Suffix(0) => None,
            Specifier::Suffix(count) => {
                Some((length.saturating_sub(count), last))
            }
        }
    }
}

/// `1#( first-pos "-" [ last-pos ] / "-" suffix-length )`; `None`: invalid.
fn range_set(text: &str) -> Option<Vec<Specifier>> {
    let mut set = Vec::new();
    for part in text.split(',').map(|p| p.trim_matches([' ', '\t'])) {
        if part.is_empty() {
            continue;
        }
        let (first, last) = part.split_once('-')?;
        set.push(match (first, last) {
            ("", suffix) => Specifier::Suffix(position(suffix)?),
            (first, "") => Specifier::From(position(first)?),
            (first, last) => {
                let (first, last) = (position(first)?, position(last)?);
                (first <= last).then_some(Specifier::Between(first, last))?
            }
        });
    }
    (!set.is_empty()).then_some(set)
}

/// Digits; what is beyond all files is as good as the greatest number.
fn position(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// Joins what overlaps or touches, so that nothing is sent twice; in the
/// order asked for where there is nothing to join. RFC 9110 §15.3.7.2
fn coalesce(asked: Vec<ByteRange>) -> Vec<ByteRange> {
    let mut sorted = asked.clone();
    sorted.sort_unstable();
    let mut joined: Vec<ByteRange> = Vec::new();
    for (first, last) in sorted {
        match joined.last_mut() {
            Some(before) if first <= before.1.saturating_add(1) => {
                before.1 = before.1.max(last);
            }
            _ => joined.push((first, last)),
        }
    }
    if joined.len() == asked.len() { asked } else { joined }
}

#[cfg(test)]
mod tests {
    use super::super::message::Request;
    use super::*;

    const NOW: i64 = 1_790_000_000;
    /// Sun, 06 Nov 1994 08:49:37 GMT
    const VALIDATORS: Validators =
        Validators { etag: "\"a,b\"", last_modified: 784_111_777 };

    fn with_fields<T>(fields: &str, test: impl Fn(&Fields) -> T) -> T {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        test(&Request::parse(head.as_bytes(), &mut Vec::new()).unwrap().fields)
    }

    fn status(fields: &str) -> u16 {
        with_fields(fields, |f| match evaluate(f, &VALIDATORS, NOW) {
            Verdict::Proceed(_) => 200,
            Verdict::NotModified(_) => 304,
            Verdict::Failed(_) => 412,
        })
    }

    const OLD: &str = "Sun, 06 Nov 1994 08:49:36 GMT\r\n";
    const SAME: &str = "Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    #[test]
    fn if_match_compares_strongly_13_1_1() {
        assert_eq!(status("If-Match: \"a,b\"\r\n"), 200);
        assert_eq!(status("If-Match: *\r\n"), 200);
        assert_eq!(status("If-Match: \"x\", \"a,b\"\r\n"), 200);
        assert_eq!(status("If-Match: W/\"a,b\"\r\n"), 412);
        assert_eq!(status("If-Match: \"x\"\r\n"), 412);
        assert_eq!(status("If-Match: nonsense\r\n"), 412);
    }

    #[test]
    fn if_none_match_compares_weakly_13_1_2() {
        assert_eq!(status("If-None-Match: \"a,b\"\r\n"), 304);
        assert_eq!(status("If-None-Match: W/\"a,b\"\r\n"), 304);
        assert_eq!(status("If-None-Match: *\r\n"), 304);
        assert_eq!(status("If-None-Match: ,\"x\" ,  W/\"a,b\"\r\n"), 304);
        assert_eq!(
            status("If-None-Match: \"x\"\r\nIf-None-Match: \"a,b\"\r\n"),
            304
        );
        assert_eq!(status("If-None-Match: \"x\"\r\n"), 200);
        assert_eq!(status("If-None-Match: \"a\r\n"), 200);
    }

    #[test]
    fn dates_13_1_3_and_13_1_4() {
        let since = |date| status(&format!("If-Modified-Since: {date}"));
        assert_eq!(since(SAME), 304);
        assert_eq!(since(OLD), 200);
        assert_eq!(since("junk\r\n"), 200);
        let until = |date| status(&format!("If-Unmodified-Since: {date}"));
        assert_eq!(until(SAME), 200);
        assert_eq!(until(OLD), 412);
        assert_eq!(until("junk\r\n"), 200);
    }

    #[test]
    fn tags_win_over_dates_13_2_2() {
        let both = format!("If-None-Match: \"x\"\r\nIf-Modified-Since: {SAME}");
        assert_eq!(status(&both), 200);
        let both = format!("If-Match: \"a,b\"\r\nIf-Unmodified-Since: {OLD}");
        assert_eq!(status(&both), 200);
        let both = format!("If-Unmodified-Since: {OLD}If-None-Match: *\r\n");
        assert_eq!(status(&both), 412);
    }

    fn asked(fields: &str, length: u64) -> Ranges {
        with_fields(fields, |f| ranges(f, &VALIDATORS, length, NOW))
    }

    fn parts(set: &str, length: u64) -> Vec<ByteRange> {
        match asked(&format!("Range: bytes={set}\r\n"), length) {
            Ranges::Parts(parts) => parts,
            Ranges::Unsatisfiable => vec![],
            Ranges::Whole(_) => vec![(0, u64::MAX)],
        }
    }

    #[test]
    fn the_examples_of_rfc_9110_14_1_2() {
        assert_eq!(parts("0-499", 10_000), [(0, 499)]);
        assert_eq!(parts("500-999", 10_000), [(500, 999)]);
        assert_eq!(parts("-500", 10_000), [(9_500, 9_999)]);
        assert_eq!(parts("9500-", 10_000), [(9_500, 9_999)]);
        assert_eq!(parts("0-0,-1", 10_000), [(0, 0), (9_999, 9_999)]);
        assert_eq!(parts("500-600,601-999", 10_000), [(500, 999)]);
        assert_eq!(parts("500-700,601-999", 10_000), [(500, 999)]);
    }

    #[test]
    fn ranges_at_the_edges() {
        assert_eq!(parts("-1,0-0", 10), [(9, 9), (0, 0)]);
        assert_eq!(parts("5-6,0-1,1-2", 10), [(0, 2), (5, 6)]);
        assert_eq!(parts("0-", 1), [(0, 0)]);
        assert_eq!(parts("-5", 3), [(0, 2)]);
        assert_eq!(parts("3-", 3), []);
        assert_eq!(parts("-0", 3), []);
        assert_eq!(parts("0-", 0), []);
        assert_eq!(parts("1-99999999999999999999999", 3), [(1, 2)]);
        let whole = [(0, u64::MAX)];
        for bad in ["", "a-b", "2-1", "1", "--1", "1-2-3", "+1-2"] {
            assert_eq!(parts(bad, 3), whole, "{bad}");
        }
        let many: Vec<String> =
            (0..17).map(|i| format!("{}-{}", i * 4, i * 4)).collect();
        assert_eq!(parts(&many.join(","), 1000), whole);
        assert_eq!(parts(&many[..16].join(","), 1000).len(), 16);
    }

    #[test]
    fn if_range_13_1_5() {
        let with = |if_range| {
            let fields =
                format!("Range: bytes=1-1\r\nIf-Range: {if_range}\r\n");
            matches!(asked(&fields, 9), Ranges::Parts(_))
        };
        assert!(with("\"a,b\""));
        assert!(!with("W/\"a,b\"") && !with("\"x\"") && !with("junk"));
        assert!(with(SAME.trim_end()) && !with(OLD.trim_end()));
        // a date of this very second is no strong validator
        let now = VALIDATORS.last_modified;
        assert!(!still_the_same(SAME.trim_end(), &VALIDATORS, now));
        assert!(still_the_same(SAME.trim_end(), &VALIDATORS, now + 1));
    }
}
