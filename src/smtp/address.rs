//! Mailboxes, `local-part@domain`, by the grammar of RFC 5321 §4.1.2; what
//! is not ASCII by RFC 6531 §3.3.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// "The maximum total length of a user name or other local-part is 64
/// octets." RFC 5321 §4.5.3.1.1
const MAX_LOCAL_PART: usize = 64;
/// "The maximum total length of a domain name or number is 255 octets."
/// RFC 5321 §4.5.3.1.2
const MAX_DOMAIN: usize = 255;

/// One mailbox. Only the local part `postmaster` may be without a domain.
#[derive(Clone, Debug, Eq)]
pub struct Address {
    pub local_part: String,
    pub domain: String,
}

impl PartialEq for Address {
    /// "the local-part MUST be interpreted and assigned semantics only by the
    /// host specified in the domain part" RFC 5321 §2.3.11; a domain is the
    /// same in either case.
    fn eq(&self, other: &Address) -> bool {
        self.local_part == other.local_part
            && self.domain.eq_ignore_ascii_case(&other.domain)
    }
}

impl Address {
    /// Parses the whole text.
    pub fn parse(text: &str) -> Result<Address, String> {
        match Address::at_start(text) {
            Ok((address, "")) => Ok(address),
            Ok((_, rest)) => Err(format!(
                "an address ends before '{}' in '{text}' (RFC 5321 §4.1.2)",
                rest.chars().next().unwrap_or_default()
            )),
            Err(why) => Err(format!("{why} in '{text}' (RFC 5321 §4.1.2)")),
        }
    }

    /// Parses the address that the text begins with; the rest comes back.
    pub fn at_start(text: &str) -> Result<(Address, &str), &'static str> {
        let length = match text.starts_with('"') {
            true => quoted_string(text).ok_or("a bad quoted string")?,
            false => dot_string(text).ok_or("no local part")?,
        };
        let (local_part, rest) = text.split_at(length);
        if local_part.len() > MAX_LOCAL_PART {
            return Err("a local part over 64 octets");
        }
        let local_part = local_part.to_string();
        let Some(rest) = rest.strip_prefix('@') else {
            return match local_part.eq_ignore_ascii_case("postmaster") {
                true => {
                    Ok((Address { local_part, domain: String::new() }, rest))
                }
                false => Err("no @"),
            };
        };
        let end = domain(rest).ok_or("no domain")?;
        let (domain, rest) = rest.split_at(end);
        match domain.len() {
            ..=MAX_DOMAIN => {
                Ok((Address { local_part, domain: domain.into() }, rest))
            }
            _ => Err("a domain over 255 octets"),
        }
    }

    /// No extension is needed to carry it.
    pub fn is_ascii(&self) -> bool {
        self.local_part.is_ascii() && self.domain.is_ascii()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.domain.as_str() {
            "" => write!(f, "{}", self.local_part),
            domain => write!(f, "{}@{domain}", self.local_part),
        }
    }
}

/// `Dot-string = Atom *("." Atom)`: its length.
fn dot_string(text: &str) -> Option<usize> {
    let legal = |c: char| c == '.' || is_atext(c);
    let end = text.find(|c| !legal(c)).unwrap_or(text.len());
    let atoms = text[..end].split('.').all(|atom| !atom.is_empty());
    atoms.then_some(end)
}

/// "Printable US-ASCII characters not including specials." RFC 5322 §3.2.3;
/// and what is not ASCII, RFC 6531 §3.3.
pub fn is_atext(c: char) -> bool {
    c.is_ascii_alphanumeric()
        || "!#$%&'*+-/=?^_`{|}~".contains(c)
        || !c.is_ascii() && !c.is_control()
}

/// `Quoted-string = DQUOTE *QcontentSMTP DQUOTE`: its length.
fn quoted_string(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if c.is_control() => return None,
            '"' if !escaped => return Some(at + 1),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    None
}

/// `Domain / address-literal`: the length of what the text begins with.
pub fn domain(text: &str) -> Option<usize> {
    if text.starts_with('[') {
        let end = text.find(']')?;
        let literal = &text[1..end];
        let good = match literal.get(..5) {
            Some(tag) if tag.eq_ignore_ascii_case("IPv6:") => {
                literal[5..].parse::<Ipv6Addr>().is_ok()
            }
            _ => literal.parse::<Ipv4Addr>().is_ok(),
        };
        return good.then_some(end + 1);
    }
    let legal = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '-' | '.')
            || !c.is_ascii() && !c.is_control()
    };
    let end = text.find(|c| !legal(c)).unwrap_or(text.len());
    let label = |label: &str| {
        !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    };
    text[..end].split('.').all(label).then_some(end)
}

/// Is this a domain or an address literal, and nothing else?
pub fn is_domain(text: &str) -> bool {
    (1..=MAX_DOMAIN).contains(&text.len()) && domain(text) == Some(text.len())
}

/// A mailbox as headers have it, `Alice Liddell <alice@crepes.fr>`, or the
/// address alone. RFC 5322 §3.4
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The display name; often empty.
    pub name: String,
    pub address: Address,
}

impl Mailbox {
    pub fn parse(text: &str) -> Result<Mailbox, String> {
        if text.chars().any(char::is_control) {
            let text = text.escape_debug();
            return Err(format!("a control character in '{text}'"));
        }
        if let Ok(address) = Address::parse(text.trim()) {
            return Ok(Mailbox { name: String::new(), address });
        }
        let (name, address) = match text.rsplit_once('<') {
            Some((name, rest)) => {
                let bad = || format!("no '>' ends '{text}'");
                let address = rest.trim_end().strip_suffix('>');
                (name.trim(), address.ok_or_else(bad)?)
            }
            None => ("", text.trim()),
        };
        if address.contains(',') && !address.starts_with('"') {
            return Err(format!("one address at a time, not '{text}'"));
        }
        let quoted = name.strip_prefix('"').and_then(|n| n.strip_suffix('"'));
        let name = quoted.unwrap_or(name).replace("\\\"", "\"");
        Ok(Mailbox { name, address: Address::parse(address)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_rfc_5321_4_1_2() {
        for good in [
            "alice@crepes.fr",
            "a.b+c@d-e.example",
            "\"a b\"@x",
            "\"a\\\"@b>\"@x.y",
            "bob@[127.0.0.1]",
            "bob@[IPv6:::1]",
            "postmaster",
            "Postmaster",
            "δοκιμή@παράδειγμα.example",
            "x@xn--mnchen-3ya.example",
        ] {
            let address = Address::parse(good).expect(good);
            assert_eq!(address.to_string(), good);
        }
        let long = format!("{}@x", "a".repeat(65));
        for bad in [
            "",
            "alice",
            "@x",
            "a@",
            "a@b@c",
            ".a@b",
            "a.@b",
            "a..b@c",
            "a b@c",
            "a@b c",
            "a@-b",
            "a@b-",
            "a@b..c",
            "a@[1.2.3]",
            "a@[",
            "a@[x]",
            "\"a@b",
            "\"a\"b@c",
            "a@b\r\n",
            "a\0@b",
            "a<b@c",
            "a@b>",
            &long,
        ] {
            assert!(Address::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn mailboxes_with_names() {
        let name = |text| Mailbox::parse(text).map(|m| m.name);
        assert_eq!(name("alice@x").as_deref(), Ok(""));
        assert_eq!(name("Alice L. <alice@x>").as_deref(), Ok("Alice L."));
        assert_eq!(name("\"L, A\" <alice@x>").as_deref(), Ok("L, A"));
        assert_eq!(name("<alice@x>").as_deref(), Ok(""));
        assert_eq!(name("\"a<b\"@x").as_deref(), Ok(""));
        for bad in ["A <a@x", "A\r\nBcc: b <a@x>", "a@x,b@x", "A", "A <>"] {
            assert!(Mailbox::parse(bad).is_err(), "{bad}");
        }
    }
}
