//! The rules of HTTP that a message can break: the list of what the parser
//! refuses, with the status by which a server tells the client so.

use std::fmt;
use std::io::{self, ErrorKind};

/// Makes the enum, with a variant for each rule, and the two functions that
/// look a variant's row up. No variant has a field: the rule says it all.
macro_rules! rules {
    ($($name:ident $status:literal $rule:literal)*) => {
        /// A rule that was broken.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Bad { $(#[doc = $rule] $name,)* }

        impl Bad {
            /// What a server answers.
            pub fn status(self) -> u16 {
                match self { $(Bad::$name => $status,)* }
            }

            /// What was wrong, with the section of the rule.
            fn rule(self) -> &'static str {
                match self { $(Bad::$name => $rule,)* }
            }
        }
    };
}

rules! {
    // the request line
    RequestLine 400
        "no request line: method, target, version (RFC 9112 §3)"
    Method 400
        "the method is no token (RFC 9110 §9.1)"
    Target 400
        "the target has an octet that must be percent-encoded \
         (RFC 9112 §3.2)"
    TargetForm 400
        "a target of this form does not go with the method (RFC 9112 §3.2)"
    VersionForm 400
        "no HTTP version (RFC 9112 §2.3)"
    Version 505
        "only HTTP/1.x is spoken here (RFC 9110 §15.6.6)"
    RequestLineTooLong 414
        "the request line is over 8,000 octets (RFC 9112 §3)"

    // the status line
    StatusLine 400
        "no status line: version, three digits, reason (RFC 9112 §4)"

    // lines and fields
    BareLineFeed 400
        "a line ends in LF alone (RFC 9112 §2.2)"
    BareCarriageReturn 400
        "CR without LF (RFC 9112 §2.2)"
    HeadTooLong 431
        "the header is over 32 KiB (RFC 6585 §5)"
    TooManyFields 431
        "more than 100 fields (RFC 6585 §5)"
    NoColon 400
        "a field line without a colon (RFC 9112 §5)"
    FieldName 400
        "a field name is no token (RFC 9110 §5.1)"
    SpaceBeforeColon 400
        "white space before a colon (RFC 9112 §5.1)"
    LineFolding 400
        "a folded field line (RFC 9112 §5.2)"
    FieldValue 400
        "a control character in a field value (RFC 9110 §5.5)"
    HostMissing 400
        "no Host field (RFC 9112 §3.2)"
    HostRepeated 400
        "more than one Host field (RFC 9112 §3.2)"
    Host 400
        "Host is no host (RFC 9110 §7.2)"

    // where the body ends; two lengths are the way of request smuggling
    ContentLength 400
        "Content-Length is no number (RFC 9110 §8.6)"
    ContentLengthsDiffer 400
        "two Content-Lengths that differ (RFC 9112 §6.3)"
    LengthAndEncoding 400
        "Content-Length beside Transfer-Encoding (RFC 9112 §6.1)"
    EncodingInOldVersion 400
        "Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)"
    ChunkedNotFinal 400
        "chunked is not the last coding (RFC 9112 §6.1)"
    UnknownEncoding 501
        "an unknown transfer coding (RFC 9112 §6.1)"

    // the body
    ChunkSize 400
        "no chunk size (RFC 9112 §7.1)"
    ChunkEnd 400
        "no CRLF after a chunk (RFC 9112 §7.1)"
    ChunkLineTooLong 400
        "a chunk-size line is too long (RFC 9112 §7.1.1)"
    TrailersTooLong 431
        "the trailer section is too long (RFC 9112 §7.1.2)"
    TooLarge 413
        "the content is too large (RFC 9110 §15.5.14)"

    // the request as a whole
    Expectation 417
        "an unknown expectation (RFC 9110 §10.1.1)"
    TooSlow 408
        "the request did not arrive in time (RFC 9110 §15.5.9)"
}

impl Bad {
    /// The rule that a reader of a body reported, if it was one.
    pub fn from_io(error: &io::Error) -> Option<Bad> {
        error.get_ref()?.downcast_ref().copied()
    }
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.rule())
    }
}

impl std::error::Error for Bad {}

impl From<Bad> for io::Error {
    fn from(bad: Bad) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, bad)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_of_rfc_9110_15_and_rfc_6585() {
        for (bad, status) in [
            (Bad::TooSlow, 408),
            (Bad::TooLarge, 413),
            (Bad::RequestLineTooLong, 414),
            (Bad::Expectation, 417),
            (Bad::HeadTooLong, 431),
            (Bad::TooManyFields, 431),
            (Bad::TrailersTooLong, 431),
            (Bad::UnknownEncoding, 501),
            (Bad::Version, 505),
        ] {
            assert_eq!(bad.status(), status, "{bad}");
        }
        use Bad::*;
        for bad in [
            RequestLine,
            Method,
            Target,
            TargetForm,
            VersionForm,
            BareLineFeed,
            BareCarriageReturn,
            NoColon,
            FieldName,
            SpaceBeforeColon,
            LineFolding,
            FieldValue,
            HostMissing,
            HostRepeated,
            Host,
            ContentLength,
            ContentLengthsDiffer,
            LengthAndEncoding,
            EncodingInOldVersion,
            ChunkedNotFinal,
            ChunkSize,
            ChunkEnd,
            ChunkLineTooLong,
        ] {
            assert_eq!(bad.status(), 400, "{bad}");
        }
    }
}
