//! The access log: a line a request in the Combined Log Format,
//!
//! ```text
//! 127.0.0.1 - - [21/Nov/2026:09:30:00 +0000] "GET / HTTP/1.1" 200 1534 "-" "curl/8"
//! ```

use std::io::{self, Write};
use std::net::IpAddr;

use super::date::{self, Civil, MONTHS};
use super::fields::Fields;

/// Writes the line for one request. `fields` is `None` for a request that
/// could not be parsed; `line` is its first line, as far as there is one;
/// `more` stands behind it all.
pub fn access(
    client: IpAddr,
    line: &[u8],
    fields: Option<&Fields>,
    status: u16,
    sent: u64,
    more: &str,
) {
    let t = Civil::from_seconds(date::now());
    let month = MONTHS[t.month as usize - 1];
    let field = |name| fields.and_then(|f| f.get(name));
    let entry = format!(
        "{client} - - [{:02}/{month}/{:04}:{:02}:{:02}:{:02} +0000] \
         \"{}\" {status} {sent} \"{}\" \"{}\"{more}\n",
        t.day,
        t.year,
        t.hour,
        t.minute,
        t.second,
        quoted(Some(line)),
        quoted(field("referer")),
        quoted(field("user-agent")),
    );
    // Who closed our standard output wants no log; the server goes on.
    let _ = io::stdout().write_all(entry.as_bytes());
}

/// As Apache writes it: what could end the quotes, or drive a terminal, is
/// escaped.
fn quoted(value: Option<&[u8]>) -> String {
    let Some(value) = value.filter(|v| !v.is_empty()) else {
        return "-".into();
    };
    let mut out = String::with_capacity(value.len());
    for byte in value {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(*byte)]),
            b' '..=b'~' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_cannot_break_out_of_its_quotes() {
        assert_eq!(quoted(Some(b"a\"b\\\x1b\xff")), "a\\\"b\\\\\\x1b\\xff");
        assert_eq!(quoted(None), "-");
    }
}
