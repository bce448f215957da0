//! The rules of a shared cache, in the order of RFC 9111: may a response be
//! stored (§3), may a stored one be used (§4), and how old is it (§4.2)?
//! Stale ones: RFC 5861. KR 2.2.5 is the idea: a copy nearer by, and the
//! conditional GET that asks whether it is still good.
//!
//! Decisions only: no socket, no file, no clock. Each is a function of what
//! was said, and each answer has its reason. `cache/store.rs` keeps what
//! these functions let it keep, `proxy/answer.rs` acts on them.
//!
//! Read `may_store`, `Policy::of`, `may_reuse`.
//!
//! Not here: 206 responses are not combined (§3.4), answers to POST are not
//! stored (§3), and qualified `no-cache="…"` counts as plain no-cache, which
//! §5.2.2.4 allows.

pub mod directives;
pub mod disk;
pub mod store;
pub mod stored;
pub mod why;

use super::body::Framing;
use super::date;
use super::fields::Fields;
use super::message::{Request, Response};
use directives::{GREATEST, delta_seconds, directives, has, is, seconds};
use why::WhyNot;

/// "A typical setting of this fraction might be 10%." RFC 9111 §4.2.2
const HEURISTIC_PART: i64 = 10;
/// A guess is good for a day at most.
const HEURISTIC_MOST: i64 = 86_400;

/// May the response be stored? RFC 9111 §3: "A cache MUST NOT store a
/// response to a request unless:"
pub fn may_store(request: &Request, response: &Response) -> Result<(), WhyNot> {
    let asked = &request.fields;
    // "the request method is understood by the cache"
    if request.method != "GET" {
        return Err(WhyNot::Method);
    }
    if Framing::of_request(request) != Ok(Framing::Empty) {
        return Err(WhyNot::RequestContent);
    }
    may_keep(asked, response)
}

/// The same but for the request's method: what a 304 has changed may forbid
/// keeping it.
pub fn may_keep(asked: &Fields, response: &Response) -> Result<(), WhyNot> {
    let fields = &response.fields;
    let understands = has(fields, "must-understand");
    // "the response status code is final": 1xx never come here
    // "if the response status code is 206 or 304, or the must-understand
    // cache directive [...] is present: the cache understands the response
    // status code"
    match response.status {
        206 => return Err(WhyNot::Partial),
        304 => return Err(WhyNot::NotModified),
        412 | 416 => return Err(WhyNot::OwnCondition),
        status if understands && !is_understood(status) => {
            return Err(WhyNot::NotUnderstood);
        }
        _ => {}
    }
    // "the no-store cache directive is not present in the response [...]"; with
    // must-understand, whoever understands ignores it: §5.2.2.3
    if has(fields, "no-store") && !understands {
        return Err(WhyNot::NoStore);
    }
    if has(asked, "no-store") {
        return Err(WhyNot::RequestNoStore);
    }
    // "if the cache is shared: the private response directive is either not
    // present or allows a shared cache to store a modified response [...]"
    if directives(fields)
        .any(|(name, names)| is(name, "private") && names.is_none())
    {
        return Err(WhyNot::Private);
    }
    // "if the cache is shared: the Authorization header field is not present
    // in the request [...] or a response directive is present that explicitly
    // allows shared caching"
    let allowed = ["public", "s-maxage", "must-revalidate"];
    if asked.get("authorization").is_some()
        && !allowed.iter().any(|name| has(fields, name))
    {
        return Err(WhyNot::Authorization);
    }
    // "A stored response with a Vary header field value containing a member
    // "*" always fails to match." §4.1
    if fields.lists("vary", "*") {
        return Err(WhyNot::VaryAll);
    }
    // "the response contains at least one of the following": public,
    // Expires, max-age, s-maxage, or a status that lets a cache guess
    let explicit = has(fields, "public")
        || fields.get("expires").is_some()
        || has(fields, "max-age")
        || has(fields, "s-maxage");
    if !explicit && !is_heuristic(response.status) {
        return Err(WhyNot::NoLifetime);
    }
    // allowed, but good for nothing
    let validator = ["etag", "last-modified"];
    let stale = ["stale-while-revalidate", "stale-if-error"];
    if lifetime(response, 0).0 == 0
        && !validator.iter().any(|name| fields.get(name).is_some())
        && !stale.iter().any(|name| has(fields, name))
    {
        return Err(WhyNot::Useless);
    }
    Ok(())
}

/// "Responses with status codes that are defined as heuristically cacheable
/// (e.g., 200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, and 501 in
/// this specification)" RFC 9110 §15.1
fn is_heuristic(status: u16) -> bool {
    let guessed = [200, 203, 204, 206, 300, 301, 308, 404, 405, 410, 414, 501];
    guessed.contains(&status)
}

/// Statuses whose caching rules are those of RFC 9110.
fn is_understood(status: u16) -> bool {
    let redirects = matches!(status, 300..=303 | 307 | 308);
    let errors = matches!(status, 400..=417 | 421 | 422 | 426 | 500..=505);
    matches!(status, 200 | 203 | 204) || redirects || errors
}

/// How long a response is fresh, in seconds, and what says so. RFC 9111
/// §4.2.1; `received` stands in for a missing Date.
fn lifetime(response: &Response, received: i64) -> (i64, &'static str) {
    let fields = &response.fields;
    // "If the cache is shared and the s-maxage response directive [...] is
    // present, use its value, or"
    if let Some(seconds) = seconds(fields, "s-maxage", 0) {
        return (seconds, "s-maxage");
    }
    // "If the max-age response directive [...] is present, use its value, or"
    if let Some(seconds) = seconds(fields, "max-age", 0) {
        return (seconds, "max-age");
    }
    // "If the Expires response header field [...] is present, use its value
    // minus the value of the Date response header field" - an invalid date
    // is one in the past (§5.3), and so are two
    let made = made(fields, received);
    let mut expires = fields.all("expires");
    if let Some(first) = expires.next() {
        let only = expires.next().is_none();
        let when = std::str::from_utf8(first).ok();
        let when = when.filter(|_| only).and_then(|t| date::parse(t, received));
        let seconds = when.map_or(0, |when| when.saturating_sub(made));
        return (seconds.clamp(0, GREATEST), "Expires");
    }
    // "Otherwise, no explicit expiration time is present in the response. A
    // heuristic freshness lifetime might be applicable". §4.2.2
    let guessable = is_heuristic(response.status) || has(fields, "public");
    let modified = fields.text("last-modified");
    match modified.and_then(|text| date::parse(text, received)) {
        Some(modified) if guessable && modified < made => {
            let guess = (made - modified) / HEURISTIC_PART;
            (
                guess.min(HEURISTIC_MOST),
                "a tenth of the time since Last-Modified",
            )
        }
        _ => (0, "nothing says how long"),
    }
}

/// The Date, or when it was received. RFC 9110 §6.6.1
fn made(fields: &Fields, received: i64) -> i64 {
    let date = fields.text("date");
    date.and_then(|text| date::parse(text, received)).unwrap_or(received)
}

/// What a stored response says about its use, as of when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// `freshness_lifetime`, and where it is from. RFC 9111 §4.2
    pub lifetime: i64,
    pub source: &'static str,
    /// `corrected_initial_age`, and the clock when it was so old.
    initial_age: i64,
    received: i64,
    no_cache: bool,
    /// must-revalidate, or what means the same to a shared cache.
    must_revalidate: bool,
    /// RFC 5861 §3 and §4
    stale_while_revalidate: i64,
    stale_if_error: i64,
}

impl Policy {
    /// `asked` and `received`: when the request left and the response came.
    pub fn of(response: &Response, asked: i64, received: i64) -> Policy {
        let fields = &response.fields;
        // RFC 9111 §4.2.3:
        // apparent_age = max(0, response_time - date_value);
        let apparent_age = (received - made(fields, received)).max(0);
        // response_delay = response_time - request_time;
        let response_delay = (received - asked).max(0);
        // corrected_age_value = age_value + response_delay;
        let first = fields.list("age").next();
        let age_value = first.and_then(delta_seconds).unwrap_or(0);
        let corrected_age_value = age_value + response_delay;
        // corrected_initial_age = max(apparent_age, corrected_age_value);
        let initial_age = apparent_age.max(corrected_age_value);
        let (lifetime, source) = lifetime(response, received);
        let strict = ["must-revalidate", "proxy-revalidate", "s-maxage"];
        let stale = |name| seconds(fields, name, 0).unwrap_or(0);
        Policy {
            lifetime,
            source,
            initial_age,
            received,
            no_cache: has(fields, "no-cache"),
            must_revalidate: strict.iter().any(|name| has(fields, name)),
            stale_while_revalidate: stale("stale-while-revalidate"),
            stale_if_error: stale("stale-if-error"),
        }
    }

    /// "resident_time = now - response_time; current_age =
    /// corrected_initial_age + resident_time;" RFC 9111 §4.2.3
    pub fn age(&self, now: i64) -> i64 {
        (self.initial_age + (now - self.received).max(0)).min(GREATEST)
    }

    /// What is left of the lifetime: negative once it is stale.
    pub fn ttl(&self, now: i64) -> i64 {
        self.lifetime - self.age(now)
    }

    /// "age 12 s < lifetime 60 s (max-age)"
    pub fn arithmetic(&self, now: i64) -> String {
        let sign = if self.ttl(now) > 0 { "<" } else { ">=" };
        let (age, lifetime) = (self.age(now), self.lifetime);
        format!("age {age} s {sign} lifetime {lifetime} s ({})", self.source)
    }
}

/// What a request says about answers from a cache. RFC 9111 §5.2.1
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wants {
    no_cache: bool,
    max_age: Option<i64>,
    min_fresh: Option<i64>,
    max_stale: Option<i64>,
    stale_if_error: i64,
    pub only_if_cached: bool,
}

impl Wants {
    pub fn of(fields: &Fields) -> Wants {
        if fields.get("cache-control").is_none() {
            // HTTP/1.0's way to say it, where there is no other: RFC 9111
            // §5.4
            let no_cache = fields.lists("pragma", "no-cache");
            return Wants { no_cache, ..Wants::default() };
        }
        let bare = |(name, value): (&[u8], Option<&[u8]>)| {
            is(name, "max-stale") && value.is_none()
        };
        let any_age = directives(fields).any(bare);
        let max_stale = seconds(fields, "max-stale", 0);
        Wants {
            no_cache: has(fields, "no-cache"),
            max_age: seconds(fields, "max-age", 0),
            min_fresh: seconds(fields, "min-fresh", GREATEST),
            // "If no value is assigned to max-stale, then the client will
            // accept a stale response of any age." §5.2.1.2
            max_stale: if any_age { Some(GREATEST) } else { max_stale },
            stale_if_error: seconds(fields, "stale-if-error", 0).unwrap_or(0),
            only_if_cached: has(fields, "only-if-cached"),
        }
    }
}

/// As what a stored response may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    Fresh,
    /// The origin has just said that it is good. RFC 9111 §4.3
    Validated,
    /// The client's max-stale takes it. RFC 9111 §5.2.1.2
    StaleAsked,
    /// And it is validated in the background. RFC 5861 §3
    StaleMeanwhile,
    /// The origin has failed. RFC 5861 §4
    StaleOnError,
}

/// May a stored response that matches the request be used without asking
/// the origin? RFC 9111 §4: "When presented with a request, a cache MUST NOT
/// reuse a stored response unless:" - URI, method and Vary match already.
pub fn may_reuse(
    wants: &Wants,
    policy: &Policy,
    now: i64,
) -> Result<Reuse, WhyNot> {
    // it "indicates that the client prefers stored response not be used to
    // satisfy the request without successful validation on the origin
    // server" §5.2.1.4
    if wants.no_cache {
        return Err(WhyNot::RequestNoCache);
    }
    // "the stored response does not contain the no-cache directive [...],
    // unless it is successfully validated"
    if policy.no_cache {
        return Err(WhyNot::NoCache);
    }
    // what the client demands: §5.2.1.1 and §5.2.1.3
    let (age, ttl) = (policy.age(now), policy.ttl(now));
    let beyond = wants.max_stale.unwrap_or(0);
    if wants.max_age.is_some_and(|most| age > most.saturating_add(beyond)) {
        return Err(WhyNot::RequestMaxAge);
    }
    if wants.min_fresh.is_some_and(|least| ttl < least) {
        return Err(WhyNot::RequestMinFresh);
    }
    // "the stored response is one of the following: fresh; allowed to be
    // served stale; successfully validated"
    if ttl > 0 {
        return Ok(Reuse::Fresh);
    }
    // "A cache MUST NOT generate a stale response if it is prohibited by an
    // explicit in-protocol directive" §4.2.4
    if policy.must_revalidate {
        return Err(WhyNot::MustRevalidate);
    }
    let overdue = -ttl;
    if wants.max_stale.is_some_and(|most| overdue <= most) {
        return Ok(Reuse::StaleAsked);
    }
    // a client that named an age is not given what is older meanwhile
    if wants.max_age.is_none() && overdue < policy.stale_while_revalidate {
        return Ok(Reuse::StaleMeanwhile);
    }
    Err(WhyNot::Stale)
}

/// The origin has failed (an error, or 500, 502, 503, 504): may the stale
/// one stand in? RFC 5861 §4
pub fn may_stand_in(wants: &Wants, policy: &Policy, now: i64) -> bool {
    let most = policy.stale_if_error.max(wants.stale_if_error);
    let forbidden = policy.no_cache || policy.must_revalidate || wants.no_cache;
    !forbidden && most > 0 && -policy.ttl(now) < most
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::tests::{Random, request, response};

    /// Received at this second, Sun, 06 Nov 1994 08:49:37 GMT.
    const NOW: i64 = 784_111_777;
    const DATE: &str = "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n";

    fn stores(asked: &str, status: &str, fields: &str) -> Option<WhyNot> {
        let asked = format!("{asked} / HTTP/1.1\r\nHost: h\r\n");
        let (line, more) = asked.split_once('|').unwrap_or((&asked, ""));
        let head = format!("{line}{more}\r\n");
        let answer = format!("HTTP/1.1 {status} X\r\n{DATE}{fields}\r\n");
        request(&head, |request| {
            response(&answer, |response| may_store(request, response).err())
                .expect(&answer)
        })
        .expect(&head)
    }

    fn stores_for(fields: &str, answer: &str) -> Option<WhyNot> {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let answer = format!("HTTP/1.1 200 OK\r\n{DATE}{answer}\r\n");
        request(&head, |request| {
            response(&answer, |r| may_store(request, r).err()).expect("good")
        })
        .expect("good")
    }

    #[test]
    fn what_is_stored_by_section_3() {
        let fresh = "Cache-Control: max-age=60\r\n";
        for (method, status, fields, expected) in [
            ("GET", "200", fresh, None),
            ("POST", "200", fresh, Some(WhyNot::Method)),
            ("HEAD", "200", fresh, Some(WhyNot::Method)),
            ("get", "200", fresh, Some(WhyNot::Method)),
            ("GET", "206", fresh, Some(WhyNot::Partial)),
            ("GET", "304", fresh, Some(WhyNot::NotModified)),
            ("GET", "412", fresh, Some(WhyNot::OwnCondition)),
            ("GET", "416", fresh, Some(WhyNot::OwnCondition)),
            // any final status when freshness is explicit
            ("GET", "999", fresh, None),
            ("GET", "500", fresh, None),
            ("GET", "302", fresh, None),
            ("GET", "302", "Expires: 0\r\nETag: \"x\"\r\n", None),
            // else those that let a cache guess
            ("GET", "404", "ETag: \"x\"\r\n", None),
            ("GET", "301", "ETag: \"x\"\r\n", None),
            ("GET", "302", "ETag: \"x\"\r\n", Some(WhyNot::NoLifetime)),
            ("GET", "500", "ETag: \"x\"\r\n", Some(WhyNot::NoLifetime)),
            ("GET", "302", "ETag: \"x\"\r\nCache-Control: public\r\n", None),
            // allowed, but never of use
            ("GET", "200", "", Some(WhyNot::Useless)),
            (
                "GET",
                "200",
                "Cache-Control: max-age=0\r\n",
                Some(WhyNot::Useless),
            ),
            (
                "GET",
                "200",
                "Cache-Control: max-age=0, stale-if-error=9\r\n",
                None,
            ),
            ("GET", "200", "Vary: a, *\r\n", Some(WhyNot::VaryAll)),
            (
                "GET",
                "200",
                "Set-Cookie: a=b\r\nExpires: Sun, 06 Nov 1994 09:49:37 GMT\r\n",
                None,
            ),
        ] {
            let why = stores(method, status, fields);
            assert_eq!(why, expected, "{method} {status} {fields}");
        }
    }

    #[test]
    fn directives_that_forbid() {
        let why = |line: &str| {
            stores_for("", &format!("Cache-Control: {line}\r\nETag: \"x\"\r\n"))
        };
        assert_eq!(why("no-store, max-age=60"), Some(WhyNot::NoStore));
        assert_eq!(why("NO-STORE"), Some(WhyNot::NoStore));
        assert_eq!(
            why("max-age=60\r\nCache-Control: no-store"),
            Some(WhyNot::NoStore)
        );
        assert_eq!(why("private, max-age=60"), Some(WhyNot::Private));
        assert_eq!(why("private=\"set-cookie, x\", max-age=60"), None);
        // a quote that is not closed hides nothing
        assert_eq!(why("max-age=60, x=\"a, no-store"), Some(WhyNot::NoStore));
        let escaped = "max-age=60, x=\"a\\\"b\", no-store";
        assert_eq!(why(escaped), Some(WhyNot::NoStore));
        // not a directive, but a part of an argument
        assert_eq!(why("max-age=60, x=\"no-store, private\""), None);
        // who understands the status need not heed no-store
        assert_eq!(why("must-understand, no-store, max-age=60"), None);
        let unknown = "Cache-Control: must-understand, max-age=60\r\n";
        assert_eq!(stores("GET", "299", unknown), Some(WhyNot::NotUnderstood));
        let no_store = "Cache-Control: no-store\r\n";
        let fresh = "Cache-Control: max-age=60\r\n";
        assert_eq!(stores_for(no_store, fresh), Some(WhyNot::RequestNoStore));
    }

    #[test]
    fn authorization_has_three_exceptions() {
        let with = "Authorization: Basic x\r\n";
        for (directive, expected) in [
            ("max-age=60", Some(WhyNot::Authorization)),
            ("public, max-age=60", None),
            ("s-maxage=60", None),
            ("must-revalidate, max-age=60", None),
            ("proxy-revalidate, max-age=60", Some(WhyNot::Authorization)),
        ] {
            let answer = format!("Cache-Control: {directive}\r\n");
            assert_eq!(stores_for(with, &answer), expected, "{directive}");
        }
    }

    fn policy(fields: &str) -> Policy {
        policy_at(fields, NOW, NOW)
    }

    fn policy_at(fields: &str, asked: i64, received: i64) -> Policy {
        let date = if fields.contains("Date:") { "" } else { DATE };
        let head = format!("HTTP/1.1 200 OK\r\n{date}{fields}\r\n");
        response(&head, |r| Policy::of(r, asked, received)).expect(&head)
    }

    #[test]
    fn lifetimes_in_their_order() {
        let later = "Expires: Sun, 06 Nov 1994 08:59:37 GMT\r\n"; // 600 s
        let old = "Last-Modified: Sun, 06 Nov 1994 07:49:37 GMT\r\n"; // 3600 s
        let modified = "a tenth of the time since Last-Modified";
        let nothing = "nothing says how long";
        for (fields, seconds, source) in [
            ("Cache-Control: s-maxage=1, max-age=2\r\n", 1, "s-maxage"),
            ("Cache-Control: max-age=2, S-MaxAge=1\r\n", 1, "s-maxage"),
            ("Cache-Control: Max-Age=2\r\n", 2, "max-age"),
            ("Cache-Control: max-age=2\r\n", 2, "max-age"),
            ("", 0, nothing),
        ] {
            let p = policy(&format!("{fields}{later}{old}"));
            let expected = match seconds {
                0 => (600, "Expires"),
                _ => (seconds, source),
            };
            assert_eq!((p.lifetime, p.source), expected, "{fields}");
        }
        let p = policy(old);
        assert_eq!((p.lifetime, p.source), (360, modified));
        assert_eq!(policy("").source, nothing);
        // a guess has its bound; one from the future is none
        let p = policy("Last-Modified: Sun, 06 Nov 1950 08:49:37 GMT\r\n");
        assert_eq!(p.lifetime, HEURISTIC_MOST);
        let p = policy("Last-Modified: Sun, 06 Nov 1994 08:50:37 GMT\r\n");
        assert_eq!(p.lifetime, 0);
        // Expires counts from Date, not from our clock
        let p = policy_at(later, NOW + 5000, NOW + 5000);
        assert_eq!(p.lifetime, 600);
    }

    #[test]
    fn doubt_is_on_the_stale_side() {
        for (fields, seconds) in [
            ("Cache-Control: max-age=x\r\n", 0),
            ("Cache-Control: max-age=-5\r\n", 0),
            ("Cache-Control: max-age=+5\r\n", 0),
            ("Cache-Control: max-age=1.5\r\n", 0),
            ("Cache-Control: max-age=\"60\"\r\n", 0),
            ("Cache-Control: max-age=\r\n", 0),
            ("Cache-Control: max-age\r\n", 0),
            ("Cache-Control: max-age=60, max-age=30\r\n", 30),
            ("Cache-Control: max-age=60, max-age=x\r\n", 0),
            ("Cache-Control: s-maxage=x, max-age=60\r\n", 0),
            // §1.2.2 says what becomes of what is too great
            ("Cache-Control: max-age=2147483649\r\n", GREATEST),
            ("Cache-Control: max-age=99999999999999999999999\r\n", GREATEST),
            ("Expires: 0\r\n", 0),
            ("Expires: Sun, 06 Nov 1994 08:00:00 GMT\r\n", 0),
            (
                "Expires: Sun, 06 Nov 1994 08:59:37 GMT\r\n\
                 Expires: Sun, 06 Nov 1994 08:59:37 GMT\r\n",
                0,
            ),
        ] {
            assert_eq!(policy(fields).lifetime, seconds, "{fields}");
        }
    }

    #[test]
    fn age_by_the_rfcs_own_formula() {
        let fresh = "Cache-Control: max-age=60\r\n";
        assert_eq!(policy(fresh).age(NOW + 12), 12);
        // apparent age: the Date is 10 s back
        assert_eq!(policy_at(fresh, NOW + 10, NOW + 10).age(NOW + 10), 10);
        // age value and response delay: the greater way counts
        let aged = format!("{fresh}Age: 30\r\n");
        assert_eq!(policy_at(&aged, NOW, NOW + 4).age(NOW + 4), 34);
        assert_eq!(policy_at(&aged, NOW, NOW + 4).age(NOW + 6), 36);
        // a Date from the future, and a clock that went back
        assert_eq!(policy_at(fresh, NOW - 99, NOW - 99).age(NOW - 99), 0);
        assert_eq!(policy(fresh).age(NOW - 5), 0);
        let age = |line: &str| policy(&format!("{fresh}{line}")).age(NOW);
        assert_eq!(age("Age: 5, 9\r\n"), 5);
        assert_eq!(age("Age: x\r\n"), 0);
        assert_eq!(age("Age: 99999999999999999999\r\n"), GREATEST);
        let p = policy(fresh);
        assert_eq!((p.ttl(NOW + 48), p.ttl(NOW + 60)), (12, 0));
        assert_eq!(
            p.arithmetic(NOW + 12),
            "age 12 s < lifetime 60 s (max-age)"
        );
    }

    fn wants(fields: &str) -> Wants {
        let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        request(&head, |r| Wants::of(&r.fields)).expect(&head)
    }

    /// `age` seconds after a response with these fields came.
    fn reuse(fields: &str, age: i64, asked: &str) -> Result<Reuse, WhyNot> {
        let fields = format!("Cache-Control: {fields}\r\n");
        let asked = match asked.contains(':') {
            true => format!("{asked}\r\n"),
            false => format!("Cache-Control: {asked}\r\n"),
        };
        may_reuse(&wants(&asked), &policy(&fields), NOW + age)
    }

    #[test]
    fn what_is_reused_by_section_4() {
        use Reuse::Fresh;
        use WhyNot::*;
        for (fields, age, asked, expected) in [
            ("max-age=60", 59, "x", Ok(Fresh)),
            ("max-age=60", 60, "x", Err(Stale)),
            ("max-age=60, no-cache", 0, "x", Err(NoCache)),
            ("max-age=60, no-cache=\"a\"", 0, "x", Err(NoCache)),
            ("max-age=60", 0, "no-cache", Err(RequestNoCache)),
            ("max-age=60", 0, "Pragma: no-cache", Err(RequestNoCache)),
            // Pragma counts only where there is no Cache-Control
            (
                "max-age=60",
                0,
                "Pragma: no-cache\r\nCache-Control: x",
                Ok(Fresh),
            ),
            ("max-age=60", 10, "max-age=10", Ok(Fresh)),
            ("max-age=60", 11, "max-age=10", Err(RequestMaxAge)),
            ("max-age=60", 1, "max-age=0", Err(RequestMaxAge)),
            ("max-age=60", 1, "max-age=x", Err(RequestMaxAge)),
            ("max-age=60", 5, "max-age=0, max-stale=5", Ok(Fresh)),
            ("max-age=60", 6, "max-age=0, max-stale=5", Err(RequestMaxAge)),
            ("max-age=60", 40, "min-fresh=20", Ok(Fresh)),
            ("max-age=60", 41, "min-fresh=20", Err(RequestMinFresh)),
            ("max-age=60", 1, "min-fresh=x", Err(RequestMinFresh)),
        ] {
            let got = reuse(fields, age, asked);
            assert_eq!(got, expected, "{fields}; {age} s; {asked}");
        }
    }

    #[test]
    fn what_is_reused_though_it_is_stale() {
        use Reuse::{StaleAsked, StaleMeanwhile};
        use WhyNot::*;
        for (fields, age, asked, expected) in [
            ("max-age=60", 70, "max-stale=10", Ok(StaleAsked)),
            ("max-age=60", 71, "max-stale=10", Err(Stale)),
            ("max-age=60", 9999, "max-stale", Ok(StaleAsked)),
            ("max-age=60", 70, "max-stale=x", Err(Stale)),
            (
                "max-age=60, must-revalidate",
                61,
                "max-stale",
                Err(MustRevalidate),
            ),
            (
                "max-age=60, proxy-revalidate",
                61,
                "max-stale",
                Err(MustRevalidate),
            ),
            ("s-maxage=60", 61, "max-stale", Err(MustRevalidate)),
            (
                "max-age=60, stale-while-revalidate=9",
                68,
                "x",
                Ok(StaleMeanwhile),
            ),
            ("max-age=60, stale-while-revalidate=9", 69, "x", Err(Stale)),
            (
                "max-age=60, stale-while-revalidate=9, must-revalidate",
                61,
                "x",
                Err(MustRevalidate),
            ),
            (
                "max-age=60, stale-while-revalidate=9",
                61,
                "max-age=0",
                Err(RequestMaxAge),
            ),
        ] {
            let got = reuse(fields, age, asked);
            assert_eq!(got, expected, "{fields}; {age} s; {asked}");
        }
        assert!(wants("Cache-Control: Only-If-Cached\r\n").only_if_cached);
    }

    #[test]
    fn a_stale_one_stands_in_only_where_that_is_allowed() {
        let stands = |fields: &str, age, asked: &str| {
            let fields = format!("Cache-Control: {fields}\r\n");
            may_stand_in(&wants(asked), &policy(&fields), NOW + age)
        };
        assert!(stands("max-age=60, stale-if-error=30", 89, ""));
        assert!(!stands("max-age=60, stale-if-error=30", 90, ""));
        assert!(!stands("max-age=60", 61, ""));
        assert!(!stands("max-age=60", 1, "Cache-Control: max-age=0\r\n"));
        assert!(stands(
            "max-age=60",
            61,
            "Cache-Control: stale-if-error=5\r\n"
        ));
        for forbids in ["must-revalidate", "no-cache", "s-maxage=60"] {
            let fields = format!("max-age=60, stale-if-error=30, {forbids}");
            assert!(!stands(&fields, 61, ""), "{forbids}");
        }
        let fields = "max-age=60, stale-if-error=30";
        assert!(!stands(fields, 61, "Cache-Control: no-cache\r\n"));
    }

    #[test]
    fn no_mutation_panics_or_is_fresh_for_ever() {
        let mut random = Random(9111);
        for _ in 0..20_000 {
            let mut line = b"s-maxage=60, max-age=\"9\", private=\"a, b\", \
                stale-while-revalidate=5, max-stale, no-cache"
                .to_vec();
            random.mutate(&mut line);
            line.retain(|b| !matches!(b, b'\r' | b'\n'));
            let text = String::from_utf8_lossy(&line);
            let head = format!(
                "HTTP/1.1 200 OK\r\nCache-Control: {text}\r\nAge: {text}\r\n\
                 Expires: {text}\r\nVary: {text}\r\n\r\n"
            );
            let _ = response(&head, |r| {
                let p = Policy::of(r, NOW, NOW);
                assert!((0..=GREATEST).contains(&p.lifetime));
                assert!((0..=GREATEST).contains(&p.age(NOW)));
            });
            let head = format!(
                "GET / HTTP/1.1\r\nHost: h\r\nCache-Control: {text}\r\n\r\n"
            );
            let _ = request(&head, |r| Wants::of(&r.fields));
        }
    }
}
