//! Why a response is not stored, and why a stored one is not used: the
//! cache's reasons, each with its rule. `bad.rs` is the same for the parser.

use std::fmt;

/// Makes the enum, a variant for each reason, and looks its row up.
macro_rules! reasons {
    ($($name:ident $word:literal $reason:literal)*) => {
        /// A reason.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum WhyNot { $(#[doc = $reason] $name,)* }

        impl WhyNot {
            /// For Cache-Status: the `fwd` of RFC 9211 §2.2 when the request
            /// had to go on, the `detail` of §2.8 when its answer was not
            /// stored.
            pub fn word(self) -> &'static str {
                match self { $(WhyNot::$name => $word,)* }
            }
        }

        impl fmt::Display for WhyNot {
            fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str(match self { $(WhyNot::$name => $reason,)* })
            }
        }
    };
}

reasons! {
    // not stored, in the order of RFC 9111 §3
    Method "method"
        "only answers to GET are kept here. RFC 9111 §3"
    Partial "partial"
        "a part (206), and parts are not combined here. RFC 9111 §3.4"
    NotModified "not-modified"
        "304 answers the client's own copy. RFC 9111 §4.3.2"
    RequestContent "request-content"
        "the request had content, which may have had a say. RFC 9110 §9.3.1"
    OwnCondition "condition"
        "it answers the request's own condition or range. RFC 9110 §15.5.13"
    NotUnderstood "must-understand"
        "must-understand, and this status is not understood. \
         RFC 9111 §5.2.2.3"
    NoStore "no-store"
        "Cache-Control no-store. RFC 9111 §5.2.2.5"
    RequestNoStore "request-no-store"
        "the request says no-store. RFC 9111 §5.2.1.5"
    Private "private"
        "Cache-Control private, and this cache is shared. RFC 9111 §3"
    Authorization "authorization"
        "it answers a request with Authorization, and no directive makes \
         that common. RFC 9111 §3.5"
    VaryAll "vary"
        "Vary is *: it matches no other request. RFC 9111 §4.1"
    NoLifetime "no-lifetime"
        "nothing says how long it is good, and its status lets no cache \
         guess. RFC 9111 §3"
    Useless "no-validator"
        "stale at once, and no validator to ask with. RFC 9111 §4.2.2"

    // not stored, for reasons of this cache
    TooLarge "too-large"
        "longer than an eighth of the cache"
    NoRoom "no-room"
        "so much is just being fetched that there is no room"
    Incomplete "incomplete"
        "it broke off, and a part is not the whole. RFC 9111 §3.3"
    Overtaken "invalidated"
        "a request that changes things went to its URI meanwhile. \
          RFC 9111 §4.4"
    NoDisk "disk"
        "the disk did not take it"

    // not used, in the order of RFC 9111 §4
    UriMiss "uri-miss"
        "nothing is stored for this URI. RFC 9111 §4"
    VaryMiss "vary-miss"
        "what is stored answers other request fields (Vary). RFC 9111 §4.1"
    Changed "miss"
        "its file on the disk is short, changed or gone"
    OtherVersion "stale"
        "the 304 speaks of another version than the copy's. RFC 9111 §4.3.4"
    OtherMethod "method"
        "this method is for the origin. RFC 9111 §4"
    Precondition "request"
        "the condition is for the origin to judge. RFC 9111 §4.3.2"
    RequestNoCache "request"
        "the request says no-cache. RFC 9111 §5.2.1.4, §5.4"
    NoCache "stale"
        "no-cache: not without asking the origin. RFC 9111 §5.2.2.4"
    RequestMaxAge "request"
        "older than the request's max-age. RFC 9111 §5.2.1.1"
    RequestMinFresh "request"
        "not fresh for as long as min-fresh asks. RFC 9111 §5.2.1.3"
    MustRevalidate "stale"
        "stale, and must-revalidate (or its like) lets nobody have it so. \
         RFC 9111 §5.2.2.2"
    Stale "stale"
        "stale. RFC 9111 §4.2, KR 2.2.5"
}
