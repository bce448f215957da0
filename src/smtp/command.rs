//! Commands, as a server reads them: the verbs, in which state each is
//! allowed, and the grammar of what follows. RFC 5321 §4.1

use super::address::Address;

/// Where a conversation stands. RFC 5321 §4.1.4
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody has said HELO yet.
    Connected,
    /// No envelope is open.
    Greeted,
    /// MAIL was taken: the envelope has a reverse-path.
    Mail,
    /// RCPT was taken: it has a recipient, too.
    Rcpt,
    /// What comes now is the message.
    Data,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Connected => "connected",
            State::Greeted => "greeted",
            State::Mail => "mail",
            State::Rcpt => "rcpt",
            State::Data => "data",
        }
    }
}

/// What can be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Helo,
    Ehlo,
    Mail,
    Rcpt,
    Data,
    Rset,
    Noop,
    Quit,
    Vrfy,
    Expn,
    Help,
    StartTls,
    Auth,
    /// Known, and not done here.
    NotImplemented,
}

use State::{Connected, Data, Greeted, Mail, Rcpt};

const ANY: &[State] = &[Connected, Greeted, Mail, Rcpt];

/// What is allowed where: elsewhere it is answered by 503. RFC 5321 §4.1.4,
/// §4.3.2
const VERBS: [(&str, Verb, &[State]); 17] = [
    ("HELO", Verb::Helo, ANY),
    ("EHLO", Verb::Ehlo, ANY),
    ("MAIL", Verb::Mail, &[Greeted]),
    ("RCPT", Verb::Rcpt, &[Mail, Rcpt]),
    ("DATA", Verb::Data, &[Rcpt]),
    ("RSET", Verb::Rset, ANY),
    ("NOOP", Verb::Noop, ANY),
    ("QUIT", Verb::Quit, ANY),
    ("VRFY", Verb::Vrfy, ANY),
    ("EXPN", Verb::Expn, ANY),
    ("HELP", Verb::Help, ANY),
    ("STARTTLS", Verb::StartTls, &[Greeted]),
    ("AUTH", Verb::Auth, &[Greeted]),
    // of RFC 821, and BDAT of RFC 3030
    ("SEND", Verb::NotImplemented, ANY),
    ("SOML", Verb::NotImplemented, ANY),
    ("SAML", Verb::NotImplemented, ANY),
    ("BDAT", Verb::NotImplemented, ANY),
];

impl Verb {
    /// The verb of that name, in either case, and where it is allowed.
    pub fn find(name: &str) -> Option<(Verb, &'static [State])> {
        let same = |row: &&(&str, Verb, _)| row.0.eq_ignore_ascii_case(name);
        VERBS.iter().find(same).map(|row| (row.1, row.2))
    }

    /// What must have come before, when it is not allowed.
    pub fn wants(self, state: State) -> &'static str {
        match (self, state) {
            (_, Connected) => "HELO or EHLO comes first",
            (Verb::Mail | Verb::StartTls | Verb::Auth, _) => {
                "an envelope is open: RSET closes it"
            }
            (Verb::Rcpt, _) => "MAIL comes first",
            (Verb::Data, Mail) => "RCPT comes first",
            (Verb::Data, Greeted | Rcpt | Data) => "MAIL comes first",
            _ => "not now",
        }
    }
}

/// `Reverse-path` and `Forward-path`, and the parameters behind.
#[derive(Debug, PartialEq, Eq)]
pub struct Path<'a> {
    /// `None`: `<>`, the null reverse-path. RFC 5321 §4.5.5
    pub address: Option<Address>,
    /// `KEYWORD` and value (often empty).
    pub parameters: Vec<(&'a str, &'a str)>,
    /// What was not quite as the grammar has it.
    pub notes: Vec<&'static str>,
}

/// What follows MAIL or RCPT: `FROM:<path>` or `TO:<path>`, and parameters.
/// RFC 5321 §4.1.1.2, §4.1.1.3
pub fn path<'a>(argument: &'a str, word: &str) -> Result<Path<'a>, String> {
    let rest = match argument.get(..word.len()) {
        Some(w) if w.eq_ignore_ascii_case(word) => &argument[word.len()..],
        _ => return Err(format!("{word}<address> is wanted")),
    };
    let mut notes = Vec::new();
    let path = rest.trim_start_matches(' ');
    if path.len() < rest.len() {
        notes.push(
            "the book's space behind the colon: \"spaces are not permitted \
             on either side of the colon\" RFC 5321 §3.3",
        );
    }
    let Some(inside) = path.strip_prefix('<') else {
        return Err("the address stands in <>".into());
    };
    let mut inside = inside;
    if inside.starts_with('@') {
        // "MUST BE accepted, SHOULD NOT be generated, and SHOULD be ignored"
        let route =
            inside.split_once(':').ok_or("a route without its colon")?;
        notes.push("a source route, ignored: RFC 5321 §4.1.2, appendix C");
        inside = route.1;
    }
    let (address, rest) = match inside.strip_prefix('>') {
        Some(rest) => (None, rest),
        None => {
            let (address, rest) = Address::at_start(inside)?;
            let rest = rest.strip_prefix('>').ok_or("no > ends the address")?;
            (Some(address), rest)
        }
    };
    if !rest.is_empty() && !rest.starts_with(' ') {
        return Err("a space stands before a parameter".into());
    }
    let words = rest.split(' ').filter(|word| !word.is_empty());
    let parameters = words.map(|w| w.split_once('=').unwrap_or((w, "")));
    Ok(Path { address, parameters: parameters.collect(), notes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::Random;

    #[test]
    fn verbs_and_their_states() {
        assert_eq!(Verb::find("mail"), Some((Verb::Mail, &[Greeted][..])));
        assert_eq!(Verb::find("MAILX"), None);
        let (_, allowed) = Verb::find("DATA").unwrap();
        assert_eq!(allowed, [Rcpt]);
    }

    #[test]
    fn paths() {
        let of = |text| path(text, "FROM:");
        let address = |text| of(text).unwrap().address.map(|a| a.to_string());
        assert_eq!(address("FROM:<a@b>"), Some("a@b".into()));
        assert_eq!(address("from:<a@b>"), Some("a@b".into()));
        assert_eq!(address("FROM:<>"), None);
        assert_eq!(address("FROM:<@x,@y:a@b>"), Some("a@b".into()));
        assert_eq!(address("FROM:<\"a>b\"@c>"), Some("\"a>b\"@c".into()));
        assert_eq!(of("FROM: <a@b>").unwrap().notes.len(), 1);
        let parameters = of("FROM:<a@b> SIZE=5  SMTPUTF8").unwrap().parameters;
        assert_eq!(parameters, [("SIZE", "5"), ("SMTPUTF8", "")]);
        for bad in [
            "",
            "FROM",
            "TO:<a@b>",
            "FROM:a@b",
            "FROM:<a@b",
            "FROM:<a@b>x",
            "FROM:<a b@c>",
            "FROM:<@x a@b>",
            "FROM:<a>",
        ] {
            assert!(of(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn no_command_panics() {
        let mut random = Random(11);
        for _ in 0..20_000 {
            let mut line = b"FROM:<@r:\"a b\"@[127.0.0.1]> SIZE=1".to_vec();
            random.mutate(&mut line);
            let line = String::from_utf8_lossy(&line);
            let _ = path(&line, "FROM:");
        }
    }
}
