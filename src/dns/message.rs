//! A DNS message as it stands in a datagram: the header, the question, and
//! the resource records of three sections. RFC 1035 §4, KR 2.4.3
//!
//! ```text
//!  0  1  2  3  4  5  6  7  8  9 10 11 12 13 14 15
//! +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//! |                      ID                       |
//! |QR|   Opcode  |AA|TC|RD|RA|   Z    |   RCODE   |
//! |                    QDCOUNT                    |
//! |                    ANCOUNT                    |
//! |                    NSCOUNT                    |
//! |                    ARCOUNT                    |
//! +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
//! ```

use std::fmt::Write;

pub const HEADER: usize = 12;

/// What we can take in one datagram without fragments: EDNS(0), RFC 6891
/// §6.2.5; the value that operators of name servers agreed upon.
pub const UDP_SIZE: u16 = 1232;

/// In octets, with the length octets. RFC 1035 §2.3.4
const MAX_LABEL: usize = 63;
const MAX_NAME: usize = 255;

/// Records in one message, all sections together: more is no answer.
const MAX_RECORDS: usize = 1000;

/// The Internet's class. RFC 1035 §3.2.4
const IN: u16 = 1;
/// The pseudo record of EDNS(0). RFC 6891 §6.1
const OPT: u16 = 41;

/// The rule that a message breaks. Its name is the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bad {
    /// It ends before its fields do. RFC 1035 §4.1
    Short,
    /// A label of another kind than text or pointer. RFC 1035 §4.1.4
    Label,
    /// A pointer that does not lead to "a prior occurance". RFC 1035 §4.1.4
    Pointer,
    /// A name over 255 octets. RFC 1035 §2.3.4
    Name,
    /// More records than any answer has.
    Records,
    /// The data of a record does not fit its type. RFC 1035 §3.3
    Data,
}

impl std::fmt::Display for Bad {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Bad::Short => "it ends too soon (RFC 1035 §4.1)",
            Bad::Label => "a label of an unknown kind (RFC 1035 §4.1.4)",
            Bad::Pointer => "a pointer that leads forward (RFC 1035 §4.1.4)",
            Bad::Name => "a name over 255 octets (RFC 1035 §2.3.4)",
            Bad::Records => "too many records",
            Bad::Data => "a record's data does not fit (RFC 1035 §3.3)",
        })
    }
}

/// A domain name: its labels, each of any octets. RFC 1035 §3.1
#[derive(Clone, Debug, Default)]
pub struct Name(pub Vec<Vec<u8>>);

impl PartialEq for Name {
    /// "no significance is attached to the case" RFC 1035 §2.3.1
    fn eq(&self, other: &Name) -> bool {
        let same = |(a, b): (&Vec<u8>, &Vec<u8>)| a.eq_ignore_ascii_case(b);
        self.0.len() == other.0.len() && self.0.iter().zip(&other.0).all(same)
    }
}

impl Name {
    /// A name as it is typed: labels between dots, `\.` and `\DDD` within.
    pub fn from_text(text: &str) -> Result<Name, String> {
        let bad = |why: &str| Err(format!("'{text}': {why}"));
        if !text.is_ascii() {
            return bad("a name has its A-label here: xn--…");
        }
        let mut labels = vec![Vec::new()];
        let mut bytes = text.bytes();
        while let Some(byte) = bytes.next() {
            let octet = match byte {
                b'.' => {
                    labels.push(Vec::new());
                    continue;
                }
                b'\\' => match escaped(&mut bytes) {
                    Some(octet) => octet,
                    None => return bad("\\ stands before DDD or a character"),
                },
                other => other,
            };
            if let Some(label) = labels.last_mut() {
                label.push(octet);
            }
        }
        if labels.last().is_some_and(Vec::is_empty) {
            labels.pop(); // the root's dot
        }
        if text == "." {
            labels.clear();
        }
        if text.is_empty() || labels.iter().any(Vec::is_empty) {
            return bad("a label is empty");
        }
        if labels.iter().any(|label| label.len() > MAX_LABEL) {
            return bad("a label is over 63 octets (RFC 1035 §2.3.4)");
        }
        let name = Name(labels);
        match name.emit().len() > MAX_NAME {
            true => bad("the name is over 255 octets (RFC 1035 §2.3.4)"),
            false => Ok(name),
        }
    }

    /// "a sequence of labels, where each label consists of a length octet
    /// followed by that number of octets" RFC 1035 §4.1.2
    pub fn emit(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for label in &self.0 {
            bytes.push(label.len() as u8);
            bytes.extend_from_slice(label);
        }
        bytes.push(0);
        bytes
    }
}

/// What stands behind a backslash.
fn escaped(bytes: &mut std::str::Bytes) -> Option<u8> {
    let first = bytes.next()?;
    if !first.is_ascii_digit() {
        return Some(first);
    }
    let digits = [first, bytes.next()?, bytes.next()?];
    std::str::from_utf8(&digits).ok()?.parse().ok()
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        for label in &self.0 {
            for byte in label {
                match byte {
                    b'.' | b'\\' | b'"' | b';' | b'(' | b')' | b'@' | b'$' => {
                        f.write_char('\\')?;
                        f.write_char(char::from(*byte))?;
                    }
                    b'!'..=b'~' => f.write_char(char::from(*byte))?,
                    _ => write!(f, "\\{byte:03}")?,
                }
            }
            f.write_char('.')?;
        }
        if self.0.is_empty() { f.write_char('.') } else { Ok(()) }
    }
}

/// The header's fields but the counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    pub id: u16,
    pub flags: u16,
}

impl Header {
    pub fn is_response(self) -> bool {
        self.flags & 0x8000 != 0
    }

    pub fn opcode(self) -> u16 {
        self.flags >> 11 & 15
    }

    pub fn is_authoritative(self) -> bool {
        self.flags & 0x0400 != 0
    }

    pub fn is_truncated(self) -> bool {
        self.flags & 0x0200 != 0
    }

    pub fn rcode(self) -> u16 {
        self.flags & 15
    }
}

/// One record: whose it is, its type, and its data as text.
#[derive(Clone, Debug)]
pub struct Record {
    pub owner: Name,
    pub kind: u16,
    pub ttl: u32,
    pub data: String,
}

/// A message that was parsed.
#[derive(Clone, Debug)]
pub struct Message {
    pub header: Header,
    pub question: Option<(Name, u16)>,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additional: Vec<Record>,
}

/// A query: the header, one question, and the word that larger datagrams are
/// welcome. RD, bit 7, asks the server to do the walking (KR 2.4.2).
pub fn query(id: u16, name: &Name, kind: u16, edns: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in [id, 0x0100, 1, 0, 0, u16::from(edns)] {
        bytes.extend_from_slice(&field.to_be_bytes());
    }
    bytes.extend_from_slice(&name.emit());
    bytes.extend_from_slice(&kind.to_be_bytes());
    bytes.extend_from_slice(&IN.to_be_bytes());
    if edns {
        bytes.push(0); // the root's name
        for field in [OPT, UDP_SIZE, 0, 0, 0] {
            bytes.extend_from_slice(&field.to_be_bytes());
        }
    }
    bytes
}

impl Message {
    /// Parses a whole message.
    pub fn parse(bytes: &[u8]) -> Result<Message, Bad> {
        let mut reader = Reader { bytes, at: 0 };
        let header = Header { id: reader.u16()?, flags: reader.u16()? };
        let questions = reader.u16()?;
        let counts = [reader.u16()?, reader.u16()?, reader.u16()?];
        let mut question = None;
        for _ in 0..questions {
            let asked = (reader.name()?, reader.u16()?);
            reader.u16()?; // the class
            question.get_or_insert(asked);
        }
        let all: usize = counts.iter().map(|c| usize::from(*c)).sum();
        if all > MAX_RECORDS {
            return Err(Bad::Records);
        }
        let mut section = |count: u16| -> Result<Vec<Record>, Bad> {
            let records = (0..count).map(|_| reader.record());
            let records: Result<Vec<Record>, Bad> = records.collect();
            let mut records = records?;
            records.retain(|record| record.kind != OPT);
            Ok(records)
        };
        Ok(Message {
            header,
            question,
            answers: section(counts[0])?,
            authority: section(counts[1])?,
            additional: section(counts[2])?,
        })
    }
}

/// Reads fields one after the other, never beyond the end.
pub struct Reader<'a> {
    pub bytes: &'a [u8],
    pub at: usize,
}

impl<'a> Reader<'a> {
    pub fn take(&mut self, count: usize) -> Result<&'a [u8], Bad> {
        let end = self.at.checked_add(count).ok_or(Bad::Short)?;
        let taken = self.bytes.get(self.at..end).ok_or(Bad::Short)?;
        self.at = end;
        Ok(taken)
    }

    pub fn u8(&mut self) -> Result<u8, Bad> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<u16, Bad> {
        let field = self.take(2)?;
        Ok(u16::from_be_bytes([field[0], field[1]]))
    }

    pub fn u32(&mut self) -> Result<u32, Bad> {
        let high = u32::from(self.u16()?);
        Ok(high << 16 | u32::from(self.u16()?))
    }

    /// A name, of which the end may stand elsewhere: "a pointer to a prior
    /// occurance of the same name". RFC 1035 §4.1.4. Each pointer must lead
    /// further back than all before it, so this ends.
    pub fn name(&mut self) -> Result<Name, Bad> {
        let mut labels = Vec::new();
        let mut length = 1;
        let mut least = self.at;
        let mut back = None;
        loop {
            let octet = self.u8()?;
            match octet {
                0 => break,
                1..=63 => {
                    let label = self.take(usize::from(octet))?;
                    length += 1 + label.len();
                    if length > MAX_NAME {
                        return Err(Bad::Name);
                    }
                    labels.push(label.to_vec());
                }
                0xc0.. => {
                    let low = self.u8()?;
                    let to = usize::from(u16::from_be_bytes([octet & 63, low]));
                    if to >= least {
                        return Err(Bad::Pointer);
                    }
                    back.get_or_insert(self.at);
                    (self.at, least) = (to, to);
                }
                _ => return Err(Bad::Label),
            }
        }
        self.at = back.unwrap_or(self.at);
        Ok(Name(labels))
    }

    /// `NAME TYPE CLASS TTL RDLENGTH RDATA`. RFC 1035 §4.1.3
    fn record(&mut self) -> Result<Record, Bad> {
        let owner = self.name()?;
        let kind = self.u16()?;
        self.u16()?; // the class, or of OPT the size
        // "treat TTL values received with the most significant bit set as if
        // the entire value received was zero" RFC 2181 §8
        let ttl = self.u32()?;
        let ttl = if ttl >> 31 == 1 { 0 } else { ttl };
        let length = usize::from(self.u16()?);
        let end = self.at + length;
        if end > self.bytes.len() {
            return Err(Bad::Short);
        }
        // the data ends where it says, whatever is in it
        let mut data = Reader { bytes: &self.bytes[..end], at: self.at };
        let text = super::record::data(kind, &mut data, length)?;
        if data.at != end {
            return Err(Bad::Data);
        }
        self.at = end;
        Ok(Record { owner, kind, ttl, data: text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Random;

    /// An answer for www.example.com A: an alias, its address, and of the
    /// zone a mail server, with pointers as servers write them.
    fn answer() -> Vec<u8> {
        let mut bytes = vec![0x12, 0x34, 0x81, 0x80, 0, 1, 0, 2, 0, 1, 0, 0];
        bytes.extend(b"\x03www\x07example\x03com\0\0\x01\0\x01");
        // www.example.com CNAME host.example.com
        bytes.extend(b"\xc0\x0c\0\x05\0\x01\0\0\x0e\x10\0\x07\x04host\xc0\x10");
        // host.example.com A 192.0.2.1
        bytes.extend(b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xc0\0\x02\x01");
        // example.com MX 10 host.example.com
        bytes.extend(b"\xc0\x10\0\x0f\0\x01\x80\0\0\0\0\x04\0\x0a\xc0\x2d");
        bytes
    }

    #[test]
    fn a_query_is_what_rfc_1035_says() {
        let name = Name::from_text("Www.example.com").expect("good");
        let bytes = query(0xabcd, &name, 15, false);
        let expected = b"\xab\xcd\x01\0\0\x01\0\0\0\0\0\0\
            \x03Www\x07example\x03com\0\0\x0f\0\x01";
        assert_eq!(bytes, expected);
        let with_size = query(0xabcd, &name, 15, true);
        assert_eq!(with_size[11], 1);
        assert!(with_size.ends_with(b"\0\0\x29\x04\xd0\0\0\0\0\0\0"));
        let message = Message::parse(&with_size).expect("good");
        let (asked, kind) = message.question.expect("one");
        assert!(asked == name && kind == 15 && message.additional.is_empty());
    }

    #[test]
    fn an_answer_with_pointers() {
        let message = Message::parse(&answer()).expect("good");
        assert!(message.header.is_response());
        assert!(!message.header.is_authoritative());
        let text = |r: &Record| format!("{} {} {}", r.owner, r.ttl, r.data);
        let answers: Vec<String> = message.answers.iter().map(text).collect();
        assert_eq!(
            answers,
            [
                "www.example.com. 3600 host.example.com.",
                "host.example.com. 60 192.0.2.1",
            ]
        );
        // a TTL with its first bit set is none
        assert_eq!(
            text(&message.authority[0]),
            "example.com. 0 10 host.example.com."
        );
    }

    #[test]
    fn what_is_refused() {
        let with = |change: &dyn Fn(&mut Vec<u8>)| {
            let mut bytes = answer();
            change(&mut bytes);
            Message::parse(&bytes).err()
        };
        assert_eq!(with(&|b| b.truncate(11)), Some(Bad::Short));
        assert_eq!(with(&|b| b.truncate(b.len() - 1)), Some(Bad::Short));
        // a pointer to itself, and one forward
        assert_eq!(with(&|b| b[34] = 33), Some(Bad::Pointer));
        assert_eq!(with(&|b| b[34] = 60), Some(Bad::Pointer));
        assert_eq!(with(&|b| b[33] = 0x80), Some(Bad::Label));
        assert_eq!(with(&|b| b[6] = 0xff), Some(Bad::Records));
        // the length of the address's data is 3
        assert!(with(&|b| b[63] = 3).is_some());
        let mut long = vec![0; HEADER];
        long[5] = 1;
        for _ in 0..5 {
            long.push(63);
            long.extend([b'a'; 63]);
        }
        long.extend([0, 0, 1, 0, 1]);
        assert_eq!(Message::parse(&long).err(), Some(Bad::Name));
    }

    #[test]
    fn names_as_they_are_typed() {
        for (text, shown) in [
            ("example.com", "example.com."),
            ("example.com.", "example.com."),
            (".", "."),
            ("a\\.b.c", "a\\.b.c."),
            ("a\\046b", "a\\.b."),
            ("\\000\\255", "\\000\\255."),
        ] {
            let name = Name::from_text(text).expect(text);
            assert_eq!(name.to_string(), shown);
            let again = Name::from_text(&name.to_string()).expect(shown);
            assert!(again == name, "{text}");
        }
        let long = "a".repeat(64);
        let many = "abcdefg.".repeat(32);
        for bad in ["", "..", "a..b", ".a", "ä.de", "a\\25", &long, &many] {
            assert!(Name::from_text(bad).is_err(), "{bad}");
        }
        let upper = Name::from_text("EXAMPLE.com").expect("good");
        assert!(upper == Name::from_text("example.COM").expect("good"));
    }

    #[test]
    fn no_mutation_panics_or_hangs() {
        let mut random = Random(1035);
        for _ in 0..50_000 {
            let mut bytes = answer();
            random.mutate(&mut bytes);
            let _ = Message::parse(&bytes);
        }
    }
}
