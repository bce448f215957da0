//! Which fields are for one hop alone, and which go on to the end.
//! RFC 9110 §7.6.1

use super::fields::Fields;

/// "Furthermore, intermediaries SHOULD remove or replace fields that are
/// known to require removal before forwarding, whether or not they appear as
/// a connection-option". RFC 9110 §7.6.1 names the first six. The others:
/// what is between a client and its proxy (RFC 9110 §11.7), and the framing,
/// which is made anew for each hop.
const HOP_BY_HOP: [&str; 10] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "transfer-encoding",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
    "content-length",
];

/// The fields that are not for this hop alone.
pub fn end_to_end<'a>(
    fields: &Fields<'a>,
) -> impl Iterator<Item = (&'a [u8], &'a [u8])> {
    let fields = *fields;
    let options = fields.get("connection").is_some();
    fields.iter().filter(move |(name, _)| {
        !(is_hop_by_hop(name) || options && is_option(&fields, name))
    })
}

pub fn is_hop_by_hop(name: &[u8]) -> bool {
    HOP_BY_HOP.iter().any(|h| name.eq_ignore_ascii_case(h.as_bytes()))
}

/// Of a trailer section the lines that go on. `fields` are those of its
/// message's head.
pub fn trailers(section: &[u8], fields: &Fields) -> Vec<u8> {
    let name = |line: &[u8]| {
        let end = line.iter().position(|b| *b == b':');
        line[..end.unwrap_or(line.len())].to_vec()
    };
    let lines = section.split_inclusive(|b| *b == b'\n');
    let goes_on = |line: &&[u8]| {
        let name = name(line);
        let framing = name.eq_ignore_ascii_case(b"host");
        !(framing || is_hop_by_hop(&name) || is_option(fields, &name))
    };
    lines.filter(goes_on).flatten().copied().collect()
}

/// "Intermediaries MUST parse a received Connection header field before a
/// message is forwarded and, for each connection-option in this field, remove
/// any header or trailer field(s) from the message with the same name as the
/// connection-option". RFC 9110 §7.6.1
///
/// But "Cache-Control is never appropriate as a connection option", and
/// neither is what the decisions of a cache stand on.
fn is_option(fields: &Fields, name: &[u8]) -> bool {
    let never = ["cache-control", "expires", "vary", "date"];
    if never.iter().any(|n| name.eq_ignore_ascii_case(n.as_bytes())) {
        return false;
    }
    fields.list("connection").any(|option| name.eq_ignore_ascii_case(option))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::tests::request;

    #[test]
    fn what_is_of_one_hop_stays_behind() {
        let head = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close, X-Own\r\n\
            Connection: tE\r\nX-Own: 1\r\nX-Other: 2\r\nKeep-Alive: 5\r\n\
            Proxy-Connection: x\r\nTE: trailers\r\nUpgrade: h2c\r\n\
            Transfer-Encoding: chunked\r\nProxy-Authorization: Basic x\r\n\
            Authorization: Basic y\r\nContent-Length: 1\r\n\r\n";
        let names = request(head, |r| {
            let names = end_to_end(&r.fields).map(|(name, _)| name.to_vec());
            names.collect::<Vec<_>>()
        });
        let expected = [&b"Host"[..], b"X-Other", b"Authorization"];
        assert_eq!(names.expect("good"), expected);
    }
}
