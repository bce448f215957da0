//! Why and how text becomes 7-bit ASCII: SMTP was made when lines of ASCII
//! were all there was, and "it requires binary multimedia data to be encoded
//! to ASCII before being sent over SMTP" (KR 2.3.1). Quoted-printable for
//! bodies (RFC 2045 §6.7), encoded words for headers (RFC 2047), the
//! parameter coding of file names (RFC 2231), and the folding of long header
//! lines (RFC 5322 §2.2.3).

use crate::base64;

/// "Each line of characters MUST be no more than 998 characters, and SHOULD
/// be no more than 78 characters, excluding the CRLF." RFC 5322 §2.1.1
pub const MAX_LINE: usize = 998;
/// "The Quoted-Printable encoding REQUIRES that encoded lines be no more
/// than 76 characters long." RFC 2045 §6.7; the same goes for base64 (§6.8)
/// and for header lines with encoded words (RFC 2047 §2).
pub const MAX_ENCODED_LINE: usize = 76;
/// "An 'encoded-word' may not be more than 75 characters long" RFC 2047 §2;
/// here a little less, so that a field's name stands before it on the line.
const MAX_WORD: usize = 64;

/// A body as it travels, and how it was made: its
/// Content-Transfer-Encoding. RFC 2045 §6
pub struct Encoded {
    pub encoding: &'static str,
    pub bytes: Vec<u8>,
}

/// Text with lines that end in LF or CRLF: as it is when it is ASCII in
/// lines that are not too long, else in the shorter of the two codings.
pub fn encode_body(text: &str) -> Encoded {
    let lines: Vec<&str> = lines(text).collect();
    let plain = |line: &&str| {
        line.len() <= MAX_LINE
            && line.bytes().all(|b| b.is_ascii() && b != b'\r' && b != 0)
    };
    let joined = |lines: &[&str]| {
        let mut bytes = Vec::new();
        for line in lines {
            bytes.extend_from_slice(line.as_bytes());
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    };
    if lines.iter().all(plain) {
        return Encoded { encoding: "7bit", bytes: joined(&lines) };
    }
    let mut quoted = Vec::new();
    for line in &lines {
        quoted_printable(line.as_bytes(), &mut quoted);
    }
    let mut coded = Vec::new();
    base64_lines(&joined(&lines), &mut coded);
    match quoted.len() <= coded.len() {
        true => Encoded { encoding: "quoted-printable", bytes: quoted },
        false => Encoded { encoding: "base64", bytes: coded },
    }
}

/// The lines of a text, without their ends.
pub fn lines(text: &str) -> impl Iterator<Item = &str> {
    let text = text.strip_suffix('\n').unwrap_or(text);
    text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line))
}

/// One line in quoted-printable: what is not printable ASCII as `=XX`, and
/// soft line breaks (a `=` at the end) where it gets too long.
pub fn quoted_printable(line: &[u8], out: &mut Vec<u8>) {
    let mut column = 0;
    for (i, byte) in line.iter().enumerate() {
        let last = i + 1 == line.len();
        let literal = match byte {
            b'=' => false,
            // "Octets with values of 9 and 32 MAY be represented as US-ASCII
            // TAB (HT) and SPACE characters, respectively, but MUST NOT be
            // so represented at the end of an encoded line." RFC 2045 §6.7
            b' ' | b'\t' => !last,
            byte => (b'!'..=b'~').contains(byte),
        };
        let width = if literal { 1 } else { 3 };
        // (only the last may use the column of the soft break's `=`)
        if column + width + usize::from(!last) > MAX_ENCODED_LINE {
            out.extend_from_slice(b"=\r\n");
            column = 0;
        }
        match literal {
            true => out.push(*byte),
            false => out.extend(format!("={byte:02X}").bytes()),
        }
        column += width;
    }
    out.extend_from_slice(b"\r\n");
}

/// 57 octets become a line of 76 characters. RFC 2045 §6.8
pub fn base64_lines(bytes: &[u8], out: &mut Vec<u8>) {
    for line in bytes.chunks(OCTETS_A_LINE) {
        base64::append(line, out);
        out.extend_from_slice(b"\r\n");
    }
}

/// What makes a line of base64.
pub const OCTETS_A_LINE: usize = MAX_ENCODED_LINE / 4 * 3;

/// How long so many octets are as lines of base64.
pub fn base64_length(octets: u64) -> u64 {
    let lines = octets.div_ceil(OCTETS_A_LINE as u64);
    octets.div_ceil(3) * 4 + 2 * lines
}

/// A header field of free text, such as Subject, with its CRLF.
pub fn unstructured(name: &str, text: &str) -> String {
    let long = |word: &str| word.len() > MAX_WORD;
    let plain = text.is_ascii()
        && !text.contains("=?")
        && !text.starts_with(' ')
        && !text.ends_with(' ')
        && !text.contains("  ")
        && !text.split(' ').any(long);
    let words: Vec<String> = match plain {
        true => text.split(' ').map(String::from).collect(),
        false => encoded_words(text),
    };
    fold(name, &words)
}

/// A field of words, broken between them into lines of at most 76, which is
/// right for encoded words, too.
pub fn fold(name: &str, words: &[String]) -> String {
    let mut out = format!("{name}:");
    let mut column = out.len();
    for (i, word) in words.iter().enumerate() {
        let width = word.chars().count() + 1;
        if i > 0 && column + width > MAX_ENCODED_LINE {
            out.push_str("\r\n");
            column = 0;
        }
        out.push(' ');
        out.push_str(word);
        column += width;
    }
    out.push_str("\r\n");
    out
}

/// A display name before an address: atoms, a quoted string, or encoded
/// words. RFC 5322 §3.2.5, RFC 2047 §5 (3)
pub fn phrase(name: &str) -> Vec<String> {
    let atom = |word: &str| {
        let legal = |c: char| c.is_ascii() && super::address::is_atext(c);
        !word.is_empty() && !word.starts_with("=?") && word.chars().all(legal)
    };
    let long = name.split(' ').any(|word| word.len() > MAX_WORD);
    if !long && name.split(' ').all(atom) {
        return name.split(' ').map(String::from).collect();
    }
    let escaped = name.replace('\\', "\\\\").replace('"', "\\\"");
    if name.is_ascii() && escaped.len() < MAX_WORD {
        return vec![format!("\"{escaped}\"")];
    }
    encoded_words(name)
}

/// `=?utf-8?Q?Gr=C3=BC=C3=9Fe?=`, in as many words as it takes; each is
/// whole by itself, so that no character is divided. RFC 2047 §2, §5
pub fn encoded_words(text: &str) -> Vec<String> {
    let room = MAX_WORD - "=?utf-8?Q??=".len();
    let quoted = |text: &str| -> String {
        let safe = |b: u8| b.is_ascii_alphanumeric() || b"!*+-/".contains(&b);
        let octet = |b| match b {
            b' ' => "_".to_string(),
            b if safe(b) => char::from(b).to_string(),
            b => format!("={b:02X}"),
        };
        text.bytes().map(octet).collect()
    };
    let coded = |text: &str| base64::encode(text.as_bytes());
    let by_quoting = quoted(text).len() <= coded(text).len();
    let code = |text: &str| if by_quoting { quoted(text) } else { coded(text) };
    let letter = if by_quoting { 'Q' } else { 'B' };
    let mut words = Vec::new();
    let mut piece = String::new();
    for c in text.chars() {
        piece.push(c);
        if code(&piece).len() > room {
            piece.pop();
            words.push(format!("=?utf-8?{letter}?{}?=", code(&piece)));
            piece = c.to_string();
        }
    }
    words.push(format!("=?utf-8?{letter}?{}?=", code(&piece)));
    words
}

/// The parameter of a file's name: `filename=kiwi.gif`, or in the coding of
/// RFC 2231 §4, in numbered pieces where it is long (§3).
pub fn parameter(name: &str, value: &str) -> Vec<String> {
    let token =
        |b: u8| b.is_ascii_graphic() && !b"()<>@,;:\\\"/[]?=*'%".contains(&b);
    let room = MAX_ENCODED_LINE - name.len() - 20;
    if value.is_ascii() && value.len() <= room && !value.contains('\\') {
        return vec![match value.bytes().all(token) && !value.is_empty() {
            true => format!("{name}={value}"),
            false => format!("{name}=\"{}\"", value.replace('"', "\\\"")),
        }];
    }
    let octet = |b: u8| match token(b) {
        true => char::from(b).to_string(),
        false => format!("%{b:02X}"),
    };
    let mut pieces = vec![String::from("utf-8''")];
    for c in value.chars() {
        let mut bytes = [0; 4];
        let coded = c.encode_utf8(&mut bytes).bytes().map(octet);
        let coded: String = coded.collect();
        match pieces.last_mut() {
            Some(last) if last.len() + coded.len() <= room => {
                last.push_str(&coded);
            }
            _ => pieces.push(coded),
        }
    }
    match pieces.as_slice() {
        [only] => vec![format!("{name}*={only}")],
        _ => {
            let numbered = pieces.iter().enumerate();
            numbered.map(|(i, p)| format!("{name}*{i}*={p}")).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quoted(line: &str) -> String {
        let mut out = Vec::new();
        quoted_printable(line.as_bytes(), &mut out);
        String::from_utf8(out).expect("ASCII")
    }

    #[test]
    fn quoted_printable_rfc_2045_6_7() {
        assert_eq!(quoted("a = é"), "a =3D =C3=A9\r\n");
        assert_eq!(quoted("end "), "end=20\r\n");
        assert_eq!(quoted("tab\t"), "tab=09\r\n");
        assert_eq!(quoted(""), "\r\n");
        assert_eq!(quoted(&"x".repeat(76)), format!("{}\r\n", "x".repeat(76)));
        let two = format!("{}=\r\nxx\r\n", "x".repeat(75));
        assert_eq!(quoted(&"x".repeat(77)), two);
        for line in quoted(&"é".repeat(200)).lines() {
            assert!(line.len() <= 76);
            assert!(!line.contains("=C=") && !line.ends_with("=C"));
        }
    }

    #[test]
    fn the_coding_is_chosen() {
        let of = |text: &str| encode_body(text).encoding;
        assert_eq!(of("plain\nlines\n"), "7bit");
        assert_eq!(encode_body("a\nb").bytes, b"a\r\nb\r\n");
        assert_eq!(of("Grüße an alle, die das hier lesen"), "quoted-printable");
        assert_eq!(of("Привет, как дела?"), "base64");
        assert_eq!(of(&"x".repeat(998)), "7bit");
        assert_eq!(of(&"x".repeat(999)), "quoted-printable");
        assert_eq!(of("a\rb"), "quoted-printable");
        assert_eq!(of("a\0b\n"), "quoted-printable");
    }

    #[test]
    fn base64_has_the_length_that_was_said() {
        for octets in [0, 1, 2, 3, 56, 57, 58, 114, 1000] {
            let mut out = Vec::new();
            base64_lines(&vec![7; octets], &mut out);
            assert_eq!(out.len() as u64, base64_length(octets as u64));
        }
    }

    #[test]
    fn header_words_rfc_2047() {
        assert_eq!(unstructured("Subject", "hi you"), "Subject: hi you\r\n");
        assert_eq!(
            unstructured("Subject", "A small café on the corner"),
            "Subject: =?utf-8?Q?A_small_caf=C3=A9_on_the_corner?=\r\n"
        );
        assert_eq!(
            unstructured("Subject", "=?x?="),
            "Subject: =?utf-8?B?PT94Pz0=?=\r\n"
        );
        for text in [
            "word ".repeat(60).trim_end().to_string(),
            "ж".repeat(300),
            "x".repeat(2000),
        ] {
            for line in unstructured("Subject", &text).split("\r\n") {
                assert!(line.len() <= 78, "{line}");
            }
        }
        assert_eq!(phrase("Alice B"), ["Alice", "B"]);
        assert_eq!(phrase("B, \"A\""), ["\"B, \\\"A\\\"\""]);
        assert_eq!(phrase("Ä"), ["=?utf-8?B?w4Q=?="]);
    }

    #[test]
    fn names_of_files_rfc_2231() {
        assert_eq!(parameter("filename", "kiwi.gif"), ["filename=kiwi.gif"]);
        assert_eq!(parameter("filename", "a b"), ["filename=\"a b\""]);
        assert_eq!(
            parameter("filename", "ä.txt"),
            ["filename*=utf-8''%C3%A4.txt"]
        );
        let pieces = parameter("filename", &"ж".repeat(40));
        assert!(pieces.len() > 2);
        assert!(pieces[1].starts_with("filename*1*=%D0%B6"));
        assert!(pieces.iter().all(|p| p.len() <= 76));
    }
}
