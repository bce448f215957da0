//! The application of KR 2.7: characters in, the same in upper case out.

use crate::output::whole_characters;

/// The port of the book's servers, over UDP and TCP alike.
pub const PORT: u16 = 12_000;

/// Converts a stream piece by piece, as it arrives.
///
/// Upper case is Unicode's, where one character may become several:
/// `straße` is `STRASSE`. What is not UTF-8 passes unchanged.
#[derive(Default)]
pub struct UpperCase {
    /// A piece may end in mid-character: its first bytes wait here.
    pending: Vec<u8>,
}

impl UpperCase {
    /// Appends the next piece, in upper case, to `modified`.
    pub fn convert(&mut self, piece: &[u8], modified: &mut Vec<u8>) {
        if self.pending.is_empty() && piece.is_ascii() {
            return modified.extend(piece.iter().map(u8::to_ascii_uppercase));
        }
        self.pending.extend_from_slice(piece);
        let whole = whole_characters(&self.pending);
        for chunk in self.pending[..whole].utf8_chunks() {
            let text = chunk.valid().to_uppercase();
            modified.extend_from_slice(text.as_bytes());
            modified.extend_from_slice(chunk.invalid());
        }
        self.pending.drain(..whole);
    }

    /// Appends what still waits for its end when there is no more.
    pub fn finish(self, modified: &mut Vec<u8>) {
        modified.extend_from_slice(&self.pending);
    }
}

/// A whole message in upper case.
pub fn upper_case(message: &[u8]) -> Vec<u8> {
    let mut modified = Vec::with_capacity(message.len());
    let mut converter = UpperCase::default();
    converter.convert(message, &mut modified);
    converter.finish(&mut modified);
    modified
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_is_unicodes() {
        let upper = |text: &str| String::from_utf8(upper_case(text.as_bytes()));
        assert_eq!(upper("straße").unwrap(), "STRASSE");
        assert_eq!(upper("ÿ ǆ ﬁ ός").unwrap(), "Ÿ Ǆ FI ΌΣ");
        assert_eq!(upper("").unwrap(), "");
    }

    #[test]
    fn bytes_that_are_not_utf8_pass_unchanged() {
        assert_eq!(upper_case(b"a\xffb\xc3"), b"A\xffB\xc3");
        assert_eq!(upper_case(b"\xed\xa0\x80z"), b"\xed\xa0\x80Z");
    }

    #[test]
    fn pieces_of_any_size_give_the_same() {
        let text = "aß😀é\u{0}z".as_bytes();
        let text = [text, b"\xf0\x9f", text, b"\xe2\x82"].concat();
        for size in 1..text.len() {
            let mut converter = UpperCase::default();
            let mut modified = Vec::new();
            for piece in text.chunks(size) {
                converter.convert(piece, &mut modified);
            }
            converter.finish(&mut modified);
            assert_eq!(modified, upper_case(&text), "pieces of {size}");
        }
    }
}
