//! What a UDP ping says: `Ping SEQUENCE TIME`, in the lab's form, padded to
//! the wanted size. An answer is the same again, in whatever case: the
//! book's server makes it upper case.

use std::time::{SystemTime, UNIX_EPOCH};

/// A ping's text. The time is in seconds since 1970, as Python's
/// `time.time()` gives it; it is shown, while the round-trip time is taken
/// from our own clock.
pub fn text(sequence: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (seconds, micros) = (now.as_secs(), now.subsec_micros());
    format!("Ping {sequence} {seconds}.{micros:06}").into_bytes()
}

/// The datagram of a text: padded to the wanted size.
pub fn emit(text: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = text.to_vec();
    if bytes.len() < size {
        bytes.push(b' ');
        bytes.resize(size, b'.');
    }
    bytes
}

/// The sequence number of a datagram that looks like a ping.
pub fn sequence(datagram: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(datagram).ok()?;
    let mut words = text.split(' ');
    let word = words.next().filter(|w| w.eq_ignore_ascii_case("ping"));
    word.and_then(|_| words.next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ping_and_its_number() {
        let ping = emit(&text(7), 56);
        assert_eq!(ping.len(), 56);
        assert!(ping.starts_with(b"Ping 7 "));
        assert_eq!(sequence(&ping), Some(7));
        assert_eq!(sequence(&ping.to_ascii_uppercase()), Some(7));
        assert!(emit(&text(1), 0).len() > 8, "the text is always there");
        for other in ["", "Ping", "Ping x", "Pong 7 1", "Ping -1 2", "é"] {
            assert_eq!(sequence(other.as_bytes()), None, "{other}");
        }
    }
}
