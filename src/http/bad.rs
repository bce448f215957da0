//! The rules of HTTP that a message can break: the list of what the parser
//! refuses, and the status that tells the client so.

use std::fmt;
use std::io::{self, ErrorKind};

/// One variant for each rule. None has a field: the rule says it all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// `method SP target SP version`. RFC 9112 §3
    RequestLine,
    /// A method is a token. RFC 9110 §9.1
    Method,
    /// A target has no white space, controls, fragment or non-ASCII.
    /// RFC 9112 §3.2
    Target,
    /// Origin, absolute, authority (CONNECT alone) or asterisk form
    /// (OPTIONS alone). RFC 9112 §3.2
    TargetForm,
    /// `HTTP/` digit `.` digit. RFC 9112 §2.3
    VersionForm,
    /// Only major version 1 is spoken here. RFC 9110 §15.6.6
    Version,
    /// `version SP three digits SP reason`. RFC 9112 §4
    StatusLine,
    /// Lines end in CRLF; we do not take LF alone from a client. RFC 9112 §2.2
    BareLineFeed,
    /// CR stands only before LF. RFC 9112 §2.2
    BareCarriageReturn,
    /// At least 8,000 octets of request line are taken. RFC 9112 §3
    RequestLineTooLong,
    /// All field lines together are bounded. RFC 6585 §5
    HeadTooLong,
    /// The number of fields is bounded. RFC 6585 §5
    TooManyFields,
    /// A field line has a colon after its name. RFC 9112 §5
    NoColon,
    /// A field name is a token. RFC 9110 §5.1
    FieldName,
    /// No white space between name and colon. RFC 9112 §5.1
    SpaceBeforeColon,
    /// A line that begins with white space continues none. RFC 9112 §5.2
    LineFolding,
    /// A value has no control character but tab. RFC 9110 §5.5
    FieldValue,
    /// An HTTP/1.1 request has a Host. RFC 9112 §3.2
    HostMissing,
    /// … and just one. RFC 9112 §3.2
    HostRepeated,
    /// … which is a host and perhaps a port. RFC 9110 §7.2
    Host,
    /// Content-Length is digits. RFC 9110 §8.6
    ContentLength,
    /// Several Content-Lengths say the same. RFC 9112 §6.3
    ContentLengthsDiffer,
    /// Transfer-Encoding and Content-Length exclude each other: the way of
    /// request smuggling. RFC 9112 §6.1
    LengthAndEncoding,
    /// HTTP/1.0 has no Transfer-Encoding. RFC 9112 §6.1
    EncodingInOldVersion,
    /// `chunked` comes last, once. RFC 9112 §6.1
    ChunkedNotFinal,
    /// Other transfer codings are not known here. RFC 9112 §6.1
    UnknownEncoding,
    /// A chunk begins with its size in hexadecimal digits. RFC 9112 §7.1
    ChunkSize,
    /// A chunk ends with CRLF. RFC 9112 §7.1
    ChunkEnd,
    /// Chunk extensions are bounded. RFC 9112 §7.1.1
    ChunkLineTooLong,
    /// The trailer section is bounded. RFC 9112 §7.1.2
    TrailersTooLong,
    /// The only expectation is 100-continue. RFC 9110 §10.1.1
    Expectation,
    /// The content is larger than is taken. RFC 9110 §15.5.14
    TooLarge,
    /// The request did not arrive in time. RFC 9110 §15.5.9
    TooSlow,
}

impl Bad {
    /// What a server answers.
    pub fn status(self) -> u16 {
        match self {
            Bad::TooSlow => 408,
            Bad::TooLarge => 413,
            Bad::RequestLineTooLong => 414,
            Bad::Expectation => 417,
            Bad::HeadTooLong | Bad::TooManyFields => 431,
            Bad::TrailersTooLong => 431,
            Bad::UnknownEncoding => 501,
            Bad::Version => 505,
            _ => 400,
        }
    }

    /// The rule in words, with its section.
    fn rule(self) -> &'static str {
        match self {
            Bad::RequestLine => "no request line (RFC 9112 §3)",
            Bad::Method => "the method is no token (RFC 9110 §9.1)",
            Bad::Target => {
                "the target has an octet that must be percent-encoded \
                 (RFC 9112 §3.2)"
            }
            Bad::TargetForm => {
                "a target of this form does not go with the method \
                 (RFC 9112 §3.2)"
            }
            Bad::VersionForm => "no HTTP version (RFC 9112 §2.3)",
            Bad::Version => "only HTTP/1.x is spoken here (RFC 9110 §15.6.6)",
            Bad::StatusLine => "no status line (RFC 9112 §4)",
            Bad::BareLineFeed => "a line ends in LF alone (RFC 9112 §2.2)",
            Bad::BareCarriageReturn => "CR without LF (RFC 9112 §2.2)",
            Bad::RequestLineTooLong => {
                "the request line is over 8,000 octets (RFC 9112 §3)"
            }
            Bad::HeadTooLong => "the header is over 32 KiB (RFC 6585 §5)",
            Bad::TooManyFields => "more than 100 fields (RFC 6585 §5)",
            Bad::NoColon => "a field line without a colon (RFC 9112 §5)",
            Bad::FieldName => "a field name is no token (RFC 9110 §5.1)",
            Bad::SpaceBeforeColon => {
                "white space before a colon (RFC 9112 §5.1)"
            }
            Bad::LineFolding => "a folded field line (RFC 9112 §5.2)",
            Bad::FieldValue => {
                "a control character in a field value (RFC 9110 §5.5)"
            }
            Bad::HostMissing => "no Host field (RFC 9112 §3.2)",
            Bad::HostRepeated => "more than one Host field (RFC 9112 §3.2)",
            Bad::Host => "Host is no host (RFC 9110 §7.2)",
            Bad::ContentLength => "Content-Length is no number (RFC 9110 §8.6)",
            Bad::ContentLengthsDiffer => {
                "two Content-Lengths that differ (RFC 9112 §6.3)"
            }
            Bad::LengthAndEncoding => {
                "Content-Length beside Transfer-Encoding (RFC 9112 §6.1)"
            }
            Bad::EncodingInOldVersion => {
                "Transfer-Encoding in HTTP/1.0 (RFC 9112 §6.1)"
            }
            Bad::ChunkedNotFinal => {
                "chunked is not the last coding (RFC 9112 §6.1)"
            }
            Bad::UnknownEncoding => {
                "an unknown transfer coding (RFC 9112 §6.1)"
            }
            Bad::ChunkSize => "no chunk size (RFC 9112 §7.1)",
            Bad::ChunkEnd => "no CRLF after a chunk (RFC 9112 §7.1)",
            Bad::ChunkLineTooLong => {
                "a chunk-size line is too long (RFC 9112 §7.1.1)"
            }
            Bad::TrailersTooLong => {
                "the trailer section is too long (RFC 9112 §7.1.2)"
            }
            Bad::Expectation => "an unknown expectation (RFC 9110 §10.1.1)",
            Bad::TooLarge => "the content is too large (RFC 9110 §15.5.14)",
            Bad::TooSlow => {
                "the request did not arrive in time (RFC 9110 §15.5.9)"
            }
        }
    }

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
