//! Replies: three digits and a text, on one line or on many. RFC 5321 §4.2
//!
//! ```text
//! 250-hamburger.edu
//! 250-8BITMIME
//! 250 SIZE 33554432
//! ```

use std::fmt;
use std::time::Duration;

use super::line::{self, Line};
use crate::error::{Error, is_timeout};
use crate::output::printable;
use crate::wire::Wire;

/// "The maximum total length of a reply line including the reply code and
/// the <CRLF> is 512 octets." RFC 5321 §4.5.3.1.5; some say more.
const MAX_LINE: usize = 2048;
/// A longer reply does not end, for all we know.
const MAX_LINES: usize = 256;

/// A whole reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 200 to 559
    pub code: u16,
    /// The texts behind the code, line by line.
    pub lines: Vec<String>,
}

/// Why a line is none of a reply. RFC 5321 §4.2.1
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// Three digits: 2 to 5, then 0 to 5, then any.
    Code,
    /// A space, a hyphen or nothing follows them.
    Separator,
    /// All lines have the same code.
    CodesDiffer,
    TooLong,
    /// More than 256 lines.
    Endless,
    /// A line ends with LF alone, or has a CR or NUL within.
    LineEnd,
}

impl fmt::Display for Bad {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Bad::Code => "no reply code (RFC 5321 §4.2)",
            Bad::Separator => "no space or hyphen after the reply code",
            Bad::CodesDiffer => "a reply whose lines have different codes",
            Bad::TooLong => "a reply line over 2048 octets",
            Bad::Endless => "a reply of more than 256 lines",
            Bad::LineEnd => "a reply line that does not end with CRLF",
        })
    }
}

/// One line: its code, whether more follow, its text.
pub fn parse_line(line: &[u8]) -> Result<(u16, bool, &[u8]), Bad> {
    let code = match line.get(..3) {
        Some([a @ b'2'..=b'5', b @ b'0'..=b'5', c @ b'0'..=b'9']) => {
            [a, b, c].iter().fold(0, |n, d| n * 10 + u16::from(**d - b'0'))
        }
        _ => return Err(Bad::Code),
    };
    match line.get(3) {
        None => Ok((code, false, b"")),
        Some(b' ') => Ok((code, false, &line[4..])),
        Some(b'-') => Ok((code, true, &line[4..])),
        Some(_) => Err(Bad::Separator),
    }
}

impl Reply {
    /// Reads a whole reply within `limit`; each line is shown to `show` as it
    /// comes.
    pub fn read(
        wire: &mut Wire,
        limit: Duration,
        show: impl FnMut(&[u8]),
    ) -> Result<Reply, Error> {
        wire.set_deadline(Some(limit));
        let reply = Reply::read_lines(wire, limit, show);
        wire.set_deadline(None);
        reply
    }

    fn read_lines(
        wire: &mut Wire,
        limit: Duration,
        mut show: impl FnMut(&[u8]),
    ) -> Result<Reply, Error> {
        let doing = "read the server's reply";
        let io = |source| Error::Io { doing: doing.into(), source };
        let mut reply: Option<Reply> = None;
        let mut bytes = Vec::new();
        loop {
            let line = match line::read(wire, &mut bytes, MAX_LINE, limit) {
                Ok(Some(line)) => line,
                Ok(None) => {
                    let why = "the server closed the connection";
                    return Err(Error::protocol(doing, why));
                }
                Err(e) if is_timeout(&e) => {
                    let why = format!("none came in {limit:?}");
                    return Err(Error::protocol(doing, why));
                }
                Err(error) => return Err(io(error)),
            };
            show(&bytes);
            let bad = |bad: Bad| {
                let shown = &bytes[..bytes.len().min(80)];
                let text = format!("{bad}: '{}'", printable(shown));
                Error::protocol(doing, text)
            };
            match line {
                Line::Good => {}
                Line::TooLong => return Err(bad(Bad::TooLong)),
                _ => return Err(bad(Bad::LineEnd)),
            }
            let (code, more, text) = parse_line(&bytes).map_err(bad)?;
            let text = String::from_utf8_lossy(text).into_owned();
            let reply = reply.get_or_insert(Reply { code, lines: Vec::new() });
            if reply.code != code {
                return Err(bad(Bad::CodesDiffer));
            }
            reply.lines.push(text);
            if !more {
                return Ok(reply.clone());
            }
            if reply.lines.len() >= MAX_LINES {
                return Err(bad(Bad::Endless));
            }
        }
    }

    /// Its first line, and how many there are, for a diagram.
    pub fn label(&self) -> String {
        let first = self.lines.first().map_or("", String::as_str);
        let first = printable(format!("{} {first}", self.code));
        match self.lines.len() {
            0 | 1 => first,
            count => format!("{first} ({count} lines)"),
        }
    }

    /// 2yz: done.
    pub fn is_done(&self) -> bool {
        self.code / 100 == 2
    }

    /// 5yz: a no, not only for now.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// What kind of no it is.
    pub fn advice(&self) -> &'static str {
        match self.code {
            530 => return "one must log in: --user",
            535 => return "the user or the password is wrong",
            _ => {}
        }
        match self.code / 100 {
            4 => "try again later",
            5 => "no, and asking again will not help",
            _ => "an answer that does not fit here",
        }
    }
}

impl fmt::Display for Reply {
    /// On one line.
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} {}", self.code, self.lines.join(" / "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Random;

    #[test]
    fn lines_of_replies() {
        assert_eq!(parse_line(b"250 ok"), Ok((250, false, &b"ok"[..])));
        assert_eq!(parse_line(b"250-SIZE 1"), Ok((250, true, &b"SIZE 1"[..])));
        assert_eq!(parse_line(b"354"), Ok((354, false, &b""[..])));
        assert_eq!(parse_line(b"550 "), Ok((550, false, &b""[..])));
        for bad in ["", "25", "150 x", "260 x", "650 x", "2x0 y", "HTTP/1.1"] {
            assert_eq!(parse_line(bad.as_bytes()), Err(Bad::Code), "{bad}");
        }
        assert_eq!(parse_line(b"250_x"), Err(Bad::Separator));
        assert_eq!(parse_line(b"2500"), Err(Bad::Separator));
    }

    #[test]
    fn no_line_panics() {
        let mut random = Random(7);
        for _ in 0..20_000 {
            let mut line = b"250-ENHANCEDSTATUSCODES".to_vec();
            random.mutate(&mut line);
            if let Ok((code, _, text)) = parse_line(&line) {
                assert!((200..560).contains(&code));
                assert!(text.len() < line.len());
            }
        }
    }
}
