//! The message behind DATA, as a server takes it off the wire: dots undone,
//! line ends as this system has them, and one end only. RFC 5321 §4.1.1.4,
//! §4.5.2
//!
//! Servers that took other line ends for `<CRLF>.<CRLF>` let one message
//! smuggle in a second, which their relay's checks never saw. So a machine
//! of five states looks at every octet, and nothing else ends a message.

/// Where in a line we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Text,
    /// Behind a CR.
    Cr,
    /// Behind a dot that began the line.
    Dot,
    /// Behind such a dot and a CR: with LF, it is the end.
    DotCr,
}

/// Takes a message in pieces.
#[derive(Debug)]
pub struct Receiver {
    at: At,
    /// In this line.
    column: usize,
    /// As they came, and how many of them were dots that began a line.
    octets: u64,
    dots: u64,
    pub longest_line: usize,
    /// A CR without LF, or an LF without CR, has come.
    pub bare_cr: bool,
    pub bare_lf: bool,
}

impl Receiver {
    pub fn new() -> Receiver {
        Receiver {
            at: At::LineStart,
            column: 0,
            octets: 0,
            dots: 0,
            longest_line: 0,
            bare_cr: false,
            bare_lf: false,
        }
    }

    /// In octets, so far: "the SMTP DATA command's terminating dot or doubled
    /// quoting dots" are not counted. RFC 1870 §5
    pub fn size(&self) -> u64 {
        self.octets - self.dots
    }

    /// Appends what `input` holds of the message to `out`, lines ending in
    /// LF. `Some`: the message has ended, behind so many octets of `input`.
    pub fn take(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<usize> {
        let mut at = 0;
        while at < input.len() {
            if self.at == At::Text {
                let rest = &input[at..];
                let end = rest.iter().position(|b| matches!(b, b'\r' | b'\n'));
                let end = end.unwrap_or(rest.len());
                out.extend_from_slice(&rest[..end]);
                self.column += end;
                at += end;
                if at == input.len() {
                    break;
                }
            }
            at += 1;
            if self.octet(input[at - 1], out) {
                // the CRLF behind the dot is not counted, either
                self.octets = self.octets + at as u64 - 2;
                return Some(at);
            }
        }
        self.octets += input.len() as u64;
        None
    }

    /// One octet; true at the end of the message.
    fn octet(&mut self, octet: u8, out: &mut Vec<u8>) -> bool {
        self.column += 1;
        self.at = match (self.at, octet) {
            (At::DotCr, b'\n') => return true,
            (At::LineStart, b'.') => {
                self.dots += 1;
                At::Dot
            }
            // (a dot that began the line and was not alone is left out)
            (At::Dot, b'\r') => At::DotCr,
            (At::Cr, b'\n') => {
                self.longest_line = self.longest_line.max(self.column - 2);
                self.column = 0;
                out.push(b'\n');
                At::LineStart
            }
            (At::Cr | At::DotCr, other) => {
                self.bare_cr = true;
                out.push(b'\r');
                match other {
                    b'\r' => At::Cr,
                    other => {
                        self.bare_lf |= other == b'\n';
                        out.push(other);
                        At::Text
                    }
                }
            }
            (_, b'\r') => At::Cr,
            // an LF alone begins no line: no dot behind it means anything
            (_, other) => {
                self.bare_lf |= other == b'\n';
                out.push(other);
                At::Text
            }
        };
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The message, and what is left behind its end.
    fn received(input: &str) -> Option<(String, String, Receiver)> {
        let mut whole = None;
        // in one piece, and octet by octet
        for size in [input.len(), 1] {
            let (mut receiver, mut out) = (Receiver::new(), Vec::new());
            let mut at = 0;
            let mut end = None;
            for piece in input.as_bytes().chunks(size) {
                end = receiver.take(piece, &mut out).map(|end| at + end);
                at += piece.len();
                if end.is_some() {
                    break;
                }
            }
            let text = String::from_utf8(out).unwrap();
            let rest = end.map(|end| input[end..].to_string());
            let now = rest.map(|rest| (text, rest, receiver));
            if size == 1 {
                let parts = |w: &Option<(String, String, Receiver)>| {
                    w.as_ref().map(|(t, r, c)| (t.clone(), r.clone(), c.size()))
                };
                assert_eq!(parts(&whole), parts(&now), "{input:?}");
            }
            whole = now;
        }
        whole
    }

    #[test]
    fn a_dot_alone_ends_it() {
        let (text, rest, receiver) =
            received("a\r\n..b\r\n.c\r\n\r\n.\r\nQUIT\r\n").unwrap();
        assert_eq!(text, "a\n.b\nc\n\n");
        assert_eq!(rest, "QUIT\r\n");
        assert_eq!(receiver.size(), 12);
        assert!(!receiver.bare_cr && !receiver.bare_lf);
        assert_eq!(received(".\r\n").unwrap().0, "");
    }

    #[test]
    fn nothing_else_ends_it() {
        for end in [
            "\n.\n",
            "\n.\r\n",
            "\r\n.\n",
            "\r.\r",
            "\r.\r\n",
            "\r\n.\r",
            "\r\r\n.\r\r\n",
            "\r\n..\r\n",
            "\r\n.\0\r\n",
            "\r\n. \r\n",
        ] {
            let input = format!("a{end}MAIL FROM:<x@y>\r\n");
            assert!(received(&input).is_none(), "{end:?}");
            let (_, rest, receiver) =
                received(&format!("{input}.\r\nQ")).unwrap();
            assert_eq!(rest, "Q");
            let legal =
                matches!(end, "\r\n..\r\n" | "\r\n.\0\r\n" | "\r\n. \r\n");
            assert_eq!(receiver.bare_cr || receiver.bare_lf, !legal, "{end:?}");
        }
    }

    #[test]
    fn bare_ends_are_kept_as_data() {
        let (text, _, receiver) = received("a\nb\rc\r\n.\r\n").unwrap();
        assert_eq!(text, "a\nb\rc\n");
        assert!(receiver.bare_cr && receiver.bare_lf);
        let (text, ..) = received("a\n..b\r\n.\r\n").unwrap();
        assert_eq!(text, "a\n..b\n");
    }

    #[test]
    fn the_longest_line_is_known() {
        let long = "x".repeat(999);
        let (.., receiver) =
            received(&format!("a\r\n{long}\r\n.\r\n")).unwrap();
        assert_eq!(receiver.longest_line, 999);
    }
}
