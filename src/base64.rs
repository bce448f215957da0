//! Base64, RFC 4648 §4: three bytes become four characters of 6 bits each.

const ALPHABET: &[u8; 64] =
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// The characters of `bytes`, padded with `=`.
pub fn encode(bytes: &[u8]) -> String {
    let mut out = Vec::with_capacity(bytes.len().div_ceil(3) * 4);
    append(bytes, &mut out);
    out.into_iter().map(char::from).collect()
}

/// Appends them to `out`.
pub fn append(bytes: &[u8], out: &mut Vec<u8>) {
    let character = |bits: u32, i: u32| {
        ALPHABET[(bits >> (18 - 6 * i)) as usize & 63] // 0 is the first
    };
    let groups = bytes.chunks_exact(3);
    let rest = groups.remainder();
    for group in groups {
        let bits = u32::from_be_bytes([0, group[0], group[1], group[2]]);
        out.extend_from_slice(&[
            character(bits, 0),
            character(bits, 1),
            character(bits, 2),
            character(bits, 3),
        ]);
    }
    match *rest {
        [a] => {
            let bits = u32::from_be_bytes([0, a, 0, 0]);
            out.extend([character(bits, 0), character(bits, 1), b'=', b'=']);
        }
        [a, b] => {
            let bits = u32::from_be_bytes([0, a, b, 0]);
            let c = |i| character(bits, i);
            out.extend([c(0), c(1), c(2), b'=']);
        }
        _ => {}
    }
}

/// The bytes of a text; `None` when it is not what `encode` would make.
pub fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.chunks(4) {
        let [a, b, c, d] = *group else { return None };
        let value = |character: u8| {
            let at = ALPHABET.iter().position(|a| *a == character)?;
            u32::try_from(at).ok()
        };
        let count = match (c, d) {
            (b'=', b'=') => 1,
            (_, b'=') => 2,
            _ => 3,
        };
        let pad =
            |character, kept| if kept { value(character) } else { Some(0) };
        let bits = value(a)? << 18
            | value(b)? << 12
            | pad(c, count > 1)? << 6
            | pad(d, count > 2)?;
        out.extend_from_slice(&bits.to_be_bytes()[1..=count]);
    }
    // what it stands for must be written the one way that there is
    (encode(&out).as_bytes() == text).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::{decode, encode};

    #[test]
    fn the_vectors_of_rfc_4648_10() {
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(encode(bytes.as_bytes()), text);
            assert_eq!(
                decode(text.as_bytes()).as_deref(),
                Some(bytes.as_bytes())
            );
        }
        for bad in ["Zg", "Zg=", "Z===", "Zh==", "Zg==Zg==", "Z*==", "Zm9\n"] {
            assert_eq!(decode(bad.as_bytes()), None, "{bad}");
        }
    }
}
