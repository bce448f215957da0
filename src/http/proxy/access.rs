//! Who may use the proxy. A proxy that anyone may use serves those who want
//! to be somebody else: so there is none by accident.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use crate::args::{self, Args, text};
use crate::base64;
use crate::error::{Doing, Error};
use crate::http::fields::Fields;

/// Who is let in.
pub struct Access {
    nets: Vec<Net>,
    /// `user:password` in base64; `None`: nobody is asked.
    users: Option<Vec<String>>,
    ports: Vec<u16>,
}

/// An address and how many of its first bits count: CIDR, RFC 4632 §3.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Net {
    address: IpAddr,
    bits: u32,
}

/// Why somebody is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum Denied {
    /// 403
    Address,
    /// 407: the user is to say who that is.
    Unknown,
}

impl Access {
    /// Reads `--allow`, `--auth` and `--connect-port`.
    pub fn from_args(
        args: &mut Args,
        listen: SocketAddr,
    ) -> Result<Access, Error> {
        let nets = args.values("--allow", Net::parse)?;
        let file = args.value("--auth", text)?;
        let mut ports =
            args.values("--connect-port", args::number("port", 1..=65_535))?;
        ports.push(443);
        if !listen.ip().is_loopback() && nets.is_empty() && file.is_none() {
            return Err(Error::Usage(format!(
                "{listen} can be reached by others: say who may use the \
                 proxy, with --allow NET or --auth FILE"
            )));
        }
        let users = file.map(|file| users(&file)).transpose()?;
        Ok(Access { nets, users, ports })
    }

    /// May this client ask for something?
    pub fn admit(&self, client: IpAddr, fields: &Fields) -> Result<(), Denied> {
        let client = client.to_canonical();
        let inside = self.nets.iter().any(|net| net.contains(client));
        if !self.nets.is_empty() && !inside && !client.is_loopback() {
            return Err(Denied::Address);
        }
        let Some(users) = &self.users else { return Ok(()) };
        let said = fields.get("proxy-authorization").unwrap_or_default();
        let (scheme, said) = said.split_at(said.len().min(6));
        let said = said.trim_ascii();
        // all are compared, and each to its end: how long that takes tells
        // nothing of how much was right
        let known = users.iter().fold(false, |known, user| {
            known | same_in_constant_time(user.as_bytes(), said)
        });
        match known && scheme.eq_ignore_ascii_case(b"Basic ") {
            true => Ok(()),
            false => Err(Denied::Unknown),
        }
    }

    /// May a tunnel go to that port? It could speak anything, mail for
    /// instance. RFC 9110 §9.3.6
    pub fn may_connect(&self, port: u16) -> bool {
        self.ports.contains(&port)
    }
}

/// The lines of a file, each `user:password`.
fn users(file: &str) -> Result<Vec<String>, Error> {
    let doing = || format!("read {file}");
    let text = fs::read_to_string(file).doing(doing)?;
    let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
    let users: Vec<String> = lines
        .filter(|line| line.contains(':'))
        .map(|line| base64::encode(line.as_bytes()))
        .collect();
    match users.is_empty() {
        true => Err(Error::Usage(format!("{file}: no line user:password"))),
        false => Ok(users),
    }
}

fn same_in_constant_time(a: &[u8], b: &[u8]) -> bool {
    let differ = a.iter().zip(b).fold(0, |acc, (a, b)| acc | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differ) == 0
}

impl Net {
    /// `192.0.2.0/24`, `2001:db8::/32`, or one address.
    fn parse(text: &str) -> Result<Net, String> {
        let bad = || format!("192.0.2.0/24 is wanted, not '{text}'");
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |b| b.parse().map_err(|_| bad()))?;
        if bits > most {
            return Err(bad());
        }
        Ok(Net { address, bits })
    }

    fn contains(&self, other: IpAddr) -> bool {
        let number = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let differ = number(self.address) ^ number(other);
        self.address.is_ipv4() == other.is_ipv4()
            && differ.checked_shr(128 - self.bits).unwrap_or(0) == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::tests::request;

    #[test]
    fn nets_hold_their_addresses() {
        for (net, address, inside) in [
            ("192.0.2.0/24", "192.0.2.255", true),
            ("192.0.2.0/24", "192.0.3.0", false),
            ("192.0.2.7", "192.0.2.7", true),
            ("192.0.2.7", "192.0.2.6", false),
            ("10.0.0.0/9", "10.127.0.1", true),
            ("10.0.0.0/9", "10.128.0.1", false),
            ("0.0.0.0/0", "203.0.113.1", true),
            ("0.0.0.0/0", "2001:db8::1", false),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "2001:db8::1", true),
        ] {
            let net = Net::parse(net).expect(net);
            let address = address.parse().expect(address);
            assert_eq!(net.contains(address), inside, "{net:?} {address}");
        }
        for bad in ["", "h", "192.0.2.0/33", "::/129", "192.0.2.0/-1", "/8"] {
            assert!(Net::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn users_say_who_they_are() {
        let line = base64::encode(b"alice:secret");
        let users = Some(vec![base64::encode(b"bob:x"), line.clone()]);
        let access = Access { nets: Vec::new(), users, ports: vec![443] };
        let from = "127.0.0.1".parse().expect("an address");
        let admits = |field: &str| {
            let head = format!("GET / HTTP/1.1\r\nHost: h\r\n{field}\r\n");
            request(&head, |r| access.admit(from, &r.fields)).expect("good")
        };
        let field = |text: &str| format!("Proxy-Authorization: {text}\r\n");
        assert_eq!(admits(&field(&format!("Basic {line}"))), Ok(()));
        assert_eq!(admits(&field(&format!("basic  {line}"))), Ok(()));
        let short = &line[..line.len() - 1];
        for wrong in [
            String::new(),
            field("Basic"),
            field(&format!("Basic {short}")),
            field(&format!("Basic {line}x")),
            field(&format!("Bearer {line}")),
            format!("Authorization: Basic {line}\r\n"),
        ] {
            assert_eq!(admits(&wrong), Err(Denied::Unknown), "{wrong}");
        }
    }
}
