//! URLs as RFC 3986 has them, as far as `http` and `https` need: parsing,
//! percent coding, and references relative to a base (`Location`).

use super::message::is_host_and_port;

/// `http://user:password@host:port/path?query`, without the fragment, which
/// never goes to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// `https`: over TLS. RFC 9110 §4.2.2
    pub secure: bool,
    /// `user:password`, decoded.
    pub userinfo: Option<String>,
    /// In lower case; an IPv6 address is in brackets.
    pub host: String,
    pub port: u16,
    /// Path and query, percent-encoded, never empty.
    pub path: String,
}

impl Url {
    /// Parses an absolute URL; without a scheme, `http` is meant, as people
    /// type it. Characters that a URL cannot have are percent-encoded,
    /// control characters refused.
    pub fn parse(text: &str) -> Result<Url, String> {
        if text.chars().any(|c| c.is_ascii_control()) {
            return Err("a URL has no control characters".into());
        }
        let is = |scheme: &str, name| scheme.eq_ignore_ascii_case(name);
        let mut secure = false;
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if is(scheme, "http") => rest,
            Some((scheme, rest)) if is(scheme, "https") => {
                secure = true;
                rest
            }
            Some((scheme, _)) if !scheme.contains(['/', '?', '#']) => {
                return Err(format!("'{scheme}:' is not spoken here"));
            }
            _ => text,
        };
        let rest = rest.split('#').next().unwrap_or_default();
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        let (authority, path) = rest.split_at(end);
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((user, host)) => (Some(decode(user)?), host),
            None => (None, authority),
        };
        if host.is_empty() || !is_host_and_port(host.as_bytes()) {
            return Err(format!("no host in '{text}'"));
        }
        let after_literal = host.rfind(']').map_or(0, |at| at + 1);
        let colon = host[after_literal..].find(':');
        let (host, port) = match colon {
            Some(at) => host.split_at(after_literal + at),
            None => (host, ""),
        };
        let port = match port.trim_start_matches(':') {
            "" => default_port(secure),
            port => crate::net::port(port)?,
        };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let path = format!("{slash}{}", encode_illegal(path));
        let host = host.to_ascii_lowercase();
        Ok(Url { secure, userinfo, host, port, path })
    }

    /// What the `Host` field says: the port only when it is not the
    /// scheme's own.
    pub fn authority(&self) -> String {
        match self.port {
            port if port == default_port(self.secure) => self.host.clone(),
            port => format!("{}:{port}", self.host),
        }
    }

    fn scheme(&self) -> &'static str {
        if self.secure { "https" } else { "http" }
    }

    /// Same scheme, host and port: the same origin. RFC 6454 §4
    pub fn same_origin(&self, other: &Url) -> bool {
        (self.secure, &self.host, self.port)
            == (other.secure, &other.host, other.port)
    }

    /// A reference (absolute, or relative to this URL). RFC 3986 §5.2
    pub fn join(&self, reference: &str) -> Result<Url, String> {
        let reference = reference.split('#').next().unwrap_or_default();
        if let Some(network_path) = reference.strip_prefix("//") {
            let scheme = self.scheme();
            return Url::parse(&format!("{scheme}://{network_path}"));
        }
        let first = reference.split(['/', '?']).next().unwrap_or_default();
        if let Some((scheme, _)) = first.split_once(':') {
            return match reference[scheme.len()..].starts_with("://") {
                true => Url::parse(reference),
                false => Err(format!("'{scheme}:' is not spoken here")),
            };
        }
        let (base_path, base_query) = split_query(&self.path);
        let (path, query) = split_query(reference);
        let (path, query) = match path {
            "" => (base_path.to_string(), query.or(base_query)),
            absolute if absolute.starts_with('/') => {
                (remove_dot_segments(absolute), query)
            }
            relative => {
                let end = base_path.rfind('/').map_or(0, |at| at + 1);
                let merged = format!("{}{relative}", &base_path[..end]);
                (remove_dot_segments(&merged), query)
            }
        };
        let path = match query {
            Some(query) => format!("{path}?{query}"),
            None => path,
        };
        let (scheme, authority) = (self.scheme(), self.authority());
        let mut url = Url::parse(&format!("{scheme}://{authority}{path}"))?;
        url.userinfo = self.userinfo.clone();
        Ok(url)
    }
}

impl std::fmt::Display for Url {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "{}://{}{}", self.scheme(), self.authority(), self.path)
    }
}

fn default_port(secure: bool) -> u16 {
    if secure { 443 } else { 80 }
}

/// Path, and query if there is a `?`.
pub fn split_query(target: &str) -> (&str, Option<&str>) {
    match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    }
}

/// `/a/./b/../c` is `/a/c`; nothing climbs over the top. RFC 3986 §5.2.4
fn remove_dot_segments(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut segments = path.split('/').skip(1).peekable();
    while let Some(segment) = segments.next() {
        let last = segments.peek().is_none();
        match segment {
            "." | ".." => {
                if segment == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            other => out.push(other),
        }
    }
    format!("/{}", out.join("/"))
}

/// Encodes only what may not stand in a URL at all: spaces, quotes, what is
/// not ASCII. What is encoded already stays so.
fn encode_illegal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'"' | b'<' | b'>' | b'\\' | b'^' | b'`' | b'{' | b'|' | b'}' => {
                out.push_str(&format!("%{byte:02X}"));
            }
            0x21..=0x7e => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Encodes a file's path for use in a link: all but unreserved characters
/// and the slash. RFC 3986 §2.3
pub fn encode_path(path: &[u8]) -> String {
    let mut out = String::with_capacity(path.len());
    for byte in path {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => {
                out.push(char::from(*byte));
            }
            b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(*byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

/// Decodes every `%XX`, once, to bytes; `None` when one is malformed.
pub fn decode_bytes(text: &str, out: &mut Vec<u8>) -> Option<()> {
    out.clear();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let high = char::from(bytes.next()?).to_digit(16)?;
                let low = char::from(bytes.next()?).to_digit(16)?;
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    Some(())
}

/// The same for text.
pub fn decode(text: &str) -> Result<String, String> {
    let mut bytes = Vec::new();
    decode_bytes(text, &mut bytes)
        .and_then(|()| String::from_utf8(bytes).ok())
        .ok_or_else(|| format!("bad percent-encoding in '{text}'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url() {
        let url = Url::parse("HTTP://u:p%40@Example.ORG:81/a b?q=é#f").unwrap();
        assert_eq!(url.userinfo.as_deref(), Some("u:p@"));
        assert_eq!((url.host.as_str(), url.port), ("example.org", 81));
        assert_eq!(url.path, "/a%20b?q=%C3%A9");
        assert_eq!(url.to_string(), "http://example.org:81/a%20b?q=%C3%A9");
        let url = Url::parse("[::1]:8080").unwrap();
        assert_eq!((url.host.as_str(), url.port), ("[::1]", 8080));
        let url = Url::parse("https://h/x").unwrap();
        assert_eq!((url.secure, url.port), (true, 443));
        assert_eq!(url.join("//g/y").unwrap().to_string(), "https://g/y");
        assert_eq!(url.join("z").unwrap().to_string(), "https://h/z");
        assert!(!url.same_origin(&Url::parse("http://h:443/").unwrap()));
        assert_eq!(Url::parse("localhost?x").unwrap().path, "/?x");
        assert_eq!(
            Url::parse("h/%41?u=http://x").unwrap().path,
            "/%41?u=http://x"
        );
    }

    #[test]
    fn what_is_no_url() {
        for bad in [
            "",
            "http://",
            "http:///x",
            "ftp://h/",
            "h:0",
            "h:65536",
            "h/\r\nX: y",
            "h\0",
            "http://a b/",
            "u%zz@h",
        ] {
            assert!(Url::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_examples_of_rfc_3986_5_4() {
        let base = Url::parse("http://a/b/c/d;p?q").unwrap();
        for (reference, expected) in [
            ("g", "http://a/b/c/g"),
            ("./g", "http://a/b/c/g"),
            ("g/", "http://a/b/c/g/"),
            ("/g", "http://a/g"),
            ("//g", "http://g/"),
            ("?y", "http://a/b/c/d;p?y"),
            ("g?y", "http://a/b/c/g?y"),
            ("#s", "http://a/b/c/d;p?q"),
            ("", "http://a/b/c/d;p?q"),
            (".", "http://a/b/c/"),
            ("..", "http://a/b/"),
            ("../g", "http://a/b/g"),
            ("../../../g", "http://a/g"),
            ("/./g", "http://a/g"),
            ("g;x=1/../y", "http://a/b/c/y"),
            ("http://h:8/x", "http://h:8/x"),
        ] {
            let url = base.join(reference).unwrap();
            assert_eq!(url.to_string(), expected, "{reference}");
        }
        assert!(base.join("mailto:a@b").is_err());
    }

    #[test]
    fn percent_coding() {
        let mut bytes = Vec::new();
        assert!(decode_bytes("%41%00%2f%", &mut bytes).is_none());
        assert!(decode_bytes("%4g", &mut bytes).is_none());
        decode_bytes("%2541", &mut bytes).unwrap();
        assert_eq!(bytes, b"%41");
        assert_eq!(encode_path(b"/a b\\\r?"), "/a%20b%5C%0D%3F");
    }
}
