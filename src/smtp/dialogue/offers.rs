//! The extensions that a server offers behind EHLO. RFC 5321 §4.1.1.1

use crate::smtp::reply::Reply;

/// What the server says that it can do, behind EHLO.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Offers {
    pub start_tls: bool,
    pub pipelining: bool,
    pub eight_bit: bool,
    pub utf8: bool,
    /// SIZE, and its limit (0: none told). RFC 1870
    pub size: Option<u64>,
    /// AUTH's mechanisms, in upper case.
    pub mechanisms: Vec<String>,
}

impl Offers {
    /// What the best server would offer, its size limit unknown.
    pub fn all() -> Offers {
        Offers {
            start_tls: true,
            pipelining: true,
            eight_bit: true,
            utf8: true,
            size: Some(0),
            mechanisms: vec!["PLAIN".into()],
        }
    }

    /// `ehlo-keyword *( SP ehlo-param )`, a line each behind the first.
    pub fn parse(reply: &Reply) -> Offers {
        let mut offers = Offers::default();
        for line in &reply.lines[1..] {
            // (AUTH= is an old spelling)
            let line = line.to_ascii_uppercase().replace("AUTH=", "AUTH ");
            let mut words = line.split_whitespace();
            match words.next().unwrap_or_default() {
                "STARTTLS" => offers.start_tls = true,
                "PIPELINING" => offers.pipelining = true,
                "8BITMIME" => offers.eight_bit = true,
                "SMTPUTF8" => offers.utf8 = true,
                "SIZE" => {
                    let limit = words.next().and_then(|n| n.parse().ok());
                    offers.size = Some(limit.unwrap_or(0));
                }
                "AUTH" => offers.mechanisms.extend(words.map(String::from)),
                _ => {}
            }
        }
        offers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ehlo_offers() {
        let lines = "h\nSIZE 100\nauth=LOGIN\nAUTH plain XOAUTH2\nStartTLS\nX"
            .lines()
            .map(String::from)
            .collect();
        let offers = Offers::parse(&Reply { code: 250, lines });
        assert_eq!(offers.size, Some(100));
        assert_eq!(offers.mechanisms, ["LOGIN", "PLAIN", "XOAUTH2"]);
        assert!(offers.start_tls && !offers.pipelining && !offers.utf8);
        let alone = Reply { code: 250, lines: vec!["h".into()] };
        assert_eq!(Offers::parse(&alone), Offers::default());
    }
}
