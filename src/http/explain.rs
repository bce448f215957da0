//! The margin notes on HTTP: what each line of a head is, and by which
//! rule. `-v` prints the lines, `-e` the notes beside them.

use super::message::{Request, Response, Version};
use crate::output::printable;
use crate::trace::{Party, Trace};

/// Records a head: every line for the dialogue, an arrow for the diagram.
/// `content` is the length of the body that follows at once.
pub fn head(
    trace: &Trace,
    from: Party,
    number: u64,
    head: &[u8],
    content: u64,
) {
    if !trace.is_on() {
        return;
    }
    let text = |line: &[u8]| printable(line.trim_ascii_end());
    let lines: Vec<&[u8]> = head.split(|b| *b == b'\n').collect();
    let first = lines.first().copied().unwrap_or_default();
    for (i, line) in lines.iter().enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if i + 1 == lines.len() && line.is_empty() {
            break;
        }
        trace.line(from, number, line, || match (i, from) {
            (0, Party::Client | Party::AsClient) => request_line(line),
            (0, Party::Server | Party::AsServer) => status_line(line),
            _ => field_line(line),
        });
    }
    trace.message(from, || {
        let mut label = text(first);
        let conditional = |line: &&[u8]| {
            let name = line.split(|b| *b == b':').next().unwrap_or_default();
            name.eq_ignore_ascii_case(b"if-modified-since")
                || name.eq_ignore_ascii_case(b"if-none-match")
        };
        if lines.iter().any(conditional) {
            label = label.replace(" HTTP/1.1", ", conditional");
        }
        if number > 1 {
            label = format!("#{number} {label}");
        }
        if content > 0 {
            label.push_str(&format!(" + {content} B"));
        }
        label
    });
}

fn request_line(line: &[u8]) -> String {
    let method = line.split(|b| *b == b' ').next().unwrap_or_default();
    let method = match method {
        b"GET" => "GET asks for the object itself",
        b"HEAD" => "HEAD asks for the fields of the answer to GET, no body",
        b"POST" => "POST hands the body to the object for processing",
        b"PUT" => "PUT makes the body the object's new state",
        b"DELETE" => "DELETE removes the object",
        b"OPTIONS" => "OPTIONS asks what can be done with the object",
        b"CONNECT" => "CONNECT asks a proxy for a tunnel",
        b"TRACE" => "TRACE asks for the request itself",
        _ => "an extension method",
    };
    format!(
        "request line: method, target, version. {method}. RFC 9112 §3, \
         KR 2.2.3"
    )
}

fn status_line(line: &[u8]) -> String {
    let class = match line.get(9) {
        Some(b'1') => "1xx: interim, the answer is still to come",
        Some(b'2') => "2xx: it was received, understood and accepted",
        Some(b'3') => {
            "3xx: not from here: from elsewhere, or from the client's own copy"
        }
        Some(b'4') => "4xx: the request is at fault",
        Some(b'5') => "5xx: the server is at fault",
        _ => "no class that is known",
    };
    let status = line.get(9..12).unwrap_or_default();
    let status = match status {
        b"100" => ", go on and send the body (RFC 9110 §15.2.1)",
        b"200" => ", the object follows (RFC 9110 §15.3.1)",
        b"204" => ", there is nothing to send (RFC 9110 §15.3.5)",
        b"206" => ", a part of it follows (RFC 9110 §15.3.7)",
        b"301" => ", it has moved: see Location (RFC 9110 §15.4.2)",
        b"302" => ", for now it is elsewhere (RFC 9110 §15.4.3)",
        b"303" => ", GET the answer elsewhere (RFC 9110 §15.4.4)",
        b"304" => ", your copy is current (RFC 9110 §15.4.5, KR 2.2.5)",
        b"307" => ", for now elsewhere, same method (RFC 9110 §15.4.8)",
        b"308" => ", moved, same method (RFC 9110 §15.4.9)",
        b"400" => ", not understood (RFC 9110 §15.5.1)",
        b"404" => ", there is no such object (RFC 9110 §15.5.5)",
        b"405" => ", not with this method (RFC 9110 §15.5.6)",
        b"412" => ", a condition failed (RFC 9110 §15.5.13)",
        b"416" => ", no such range (RFC 9110 §15.5.17)",
        b"503" => ", try again later (RFC 9110 §15.6.4)",
        b"505" => ", not in this version (RFC 9110 §15.6.6)",
        _ => "",
    };
    format!("status line. {class}{status}. RFC 9112 §4, KR 2.2.3")
}

/// What the commoner fields are for.
const NOTES: [(&str, &str); 45] = [
    ("accept", "media types the client can use. RFC 9110 §12.5.1"),
    ("accept-encoding", "codings the client can undo. RFC 9110 §12.5.3"),
    ("accept-language", "what the reader reads. RFC 9110 §12.5.4, KR 2.2.3"),
    ("accept-ranges", "parts can be asked for. RFC 9110 §14.3"),
    ("age", "seconds since it left the origin. RFC 9111 §5.1"),
    ("allow", "what can be done with it. RFC 9110 §10.2.1"),
    ("authorization", "who asks. RFC 9110 §11.6.2"),
    ("cache-control", "what caches may do. RFC 9111 §5.2, KR 2.2.5"),
    ("cache-status", "what the caches on the way did, and why. RFC 9211"),
    (
        "connection",
        "whether the connection stays open after this, and which fields \
         are for this hop alone. RFC 9110 §7.6.1, KR 2.2.2",
    ),
    ("content-encoding", "how the body is coded. RFC 9110 §8.4"),
    (
        "content-length",
        "octets in the body: where it ends on a connection that goes on. \
         RFC 9110 §8.6, KR 2.2.3",
    ),
    ("content-range", "which part this is. RFC 9110 §14.4"),
    ("content-type", "what the body is. RFC 9110 §8.3, KR 2.2.3"),
    ("cookie", "what the server told us to say. RFC 6265, KR 2.2.4"),
    ("date", "when the message was made. RFC 9110 §6.6.1, KR 2.2.3"),
    ("etag", "the version's name, for conditional requests. RFC 9110 §8.8.3"),
    ("expect", "wait for 100 before the body. RFC 9110 §10.1.1"),
    ("expires", "fresh until then. RFC 9111 §5.3"),
    (
        "host",
        "which of the server's sites is meant; the one field that \
         HTTP/1.1 demands. RFC 9110 §7.2, KR 2.2.3",
    ),
    ("if-match", "only if still this version. RFC 9110 §13.1.1"),
    (
        "if-modified-since",
        "only if newer: conditional GET. RFC 9110 §13.1.3, KR 2.2.5",
    ),
    ("if-none-match", "only if not this version. RFC 9110 §13.1.2"),
    ("if-range", "the part only if unchanged. RFC 9110 §13.1.5"),
    ("if-unmodified-since", "only if not newer. RFC 9110 §13.1.4"),
    ("keep-alive", "a hint of HTTP/1.0. RFC 9112 §C.2.2"),
    ("last-modified", "when the object changed. RFC 9110 §8.8.2, KR 2.2.3"),
    ("location", "where it is. RFC 9110 §10.2.2"),
    ("max-forwards", "so many proxies more. RFC 9110 §7.6.2"),
    ("origin", "which site's page made the browser ask. RFC 6454 §7"),
    ("pragma", "HTTP/1.0's no-cache. RFC 9111 §5.4"),
    ("proxy-authenticate", "who asks must say so. RFC 9110 §11.7.1"),
    (
        "proxy-authorization",
        "who asks, for the proxy alone: it goes no further. \
         RFC 9110 §11.7.2",
    ),
    ("proxy-connection", "a custom of old clients, in no RFC"),
    ("range", "only this part. RFC 9110 §14.2"),
    ("referer", "the page with the link. RFC 9110 §10.1.3"),
    ("retry-after", "not before that. RFC 9110 §10.2.3"),
    ("server", "the server's software. RFC 9110 §10.2.4, KR 2.2.3"),
    ("set-cookie", "to be said from now on. RFC 6265, KR 2.2.4"),
    (
        "transfer-encoding",
        "how the body's end is marked, hop by hop. RFC 9112 §6.1",
    ),
    ("upgrade", "another protocol would do, too. RFC 9110 §7.8"),
    ("user-agent", "the client's software. RFC 9110 §10.1.5, KR 2.2.3"),
    ("vary", "the answer depends on these. RFC 9110 §12.5.5"),
    ("via", "the proxies on the way. RFC 9110 §7.6.3"),
    ("x-content-type-options", "do not guess another type: the Fetch standard"),
];

fn field_line(line: &[u8]) -> String {
    if line.is_empty() {
        return "an empty line ends the header. RFC 9112 §2.1, KR 2.2.3".into();
    }
    let name = line.split(|b| *b == b':').next().unwrap_or_default();
    let name = name.to_ascii_lowercase();
    let known = NOTES.iter().find(|(n, _)| n.as_bytes() == name);
    match known {
        Some((_, note)) => (*note).to_string(),
        None => "an extension field".into(),
    }
}

/// Why the connection stays open after a request, or does not.
pub fn connection(request: &Request, stays: bool) -> &'static str {
    let closes = request.fields.lists("connection", "close");
    match (stays, request.version) {
        (true, Version::Http11) => {
            "the connection stays open: that is the rule in HTTP/1.1. \
             RFC 9112 §9.3, KR 2.2.2"
        }
        (true, Version::Http10) => {
            "the connection stays open: 'keep-alive' was said. \
             RFC 9112 §9.3, KR 2.2.2"
        }
        (false, _) if closes => {
            "the connection ends: 'close' was said. RFC 9112 §9.6, KR 2.2.2"
        }
        (false, Version::Http10) => {
            "the connection ends: that is the rule in HTTP/1.0. \
             RFC 9112 §9.3, KR 2.2.2"
        }
        (false, Version::Http11) => {
            "the connection ends: the server wants it so (--once, a stop, \
             or a body that was not read). RFC 9112 §9.6"
        }
    }
}

/// How the end of a response's body will be known.
pub fn framing(response: &Response, framing: super::body::Framing) -> String {
    use super::body::Framing;
    match framing {
        Framing::Empty => {
            format!(
                "no body: status {} or HEAD. RFC 9112 §6.3",
                response.status
            )
        }
        Framing::Length(length) => {
            format!("the body ends after {length} octets. RFC 9112 §6.2")
        }
        Framing::Chunked => {
            "the body comes in chunks, each with its length; one of length \
             0 ends it. RFC 9112 §7.1"
                .into()
        }
        Framing::ToClose => {
            "no length is told: the body ends with the connection. \
             RFC 9112 §6.3, KR 2.2.2"
                .into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_are_sorted_and_cite() {
        assert!(NOTES.is_sorted());
        for (name, note) in NOTES {
            assert!(note.contains("RFC") || name.starts_with("x-"), "{name}");
        }
    }

    #[test]
    fn every_kind_of_line_has_a_note() {
        assert!(request_line(b"GET / HTTP/1.1").contains("KR 2.2.3"));
        assert!(status_line(b"HTTP/1.1 304 Not Modified").contains("2.2.5"));
        assert!(status_line(b"").contains("no class"));
        assert!(field_line(b"HOST: h").contains("HTTP/1.1 demands"));
        assert_eq!(field_line(b"X: y"), "an extension field");
    }
}
