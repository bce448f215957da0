//! The request that the web client sends: what the options wish for, as a
//! head, and what a redirect makes of it.

use std::fs;
use std::io::{self, Read};
use std::time::UNIX_EPOCH;

use super::date;
use super::fields::{is_field_value, is_token};
use super::message::Response;
use super::url::Url;
use crate::args::{Args, text};
use crate::base64;
use crate::error::{Doing, Error};
use crate::output::say;
use crate::password;

/// What is asked for, whichever URL it is.
#[derive(Clone)]
pub struct Wish {
    pub method: String,
    pub body: Vec<u8>,
    /// `-H`: name and value; an empty value leaves the field out.
    fields: Vec<(String, String)>,
    /// `user:password`
    user: Option<String>,
    pub range: Option<String>,
    /// Octets that we have already, of `-C`.
    pub resume_from: u64,
    /// `If-Modified-Since`
    since: Option<i64>,
    old_version: bool,
    /// The connection is not needed after this.
    pub close: bool,
}

impl Wish {
    /// Reads the options that make the request.
    pub fn from_args(args: &mut Args) -> Result<Wish, Error> {
        let body = data(args)?;
        let default = match (args.flag("--head"), &body) {
            (true, _) => "HEAD",
            (false, Some(_)) => "POST",
            (false, None) => "GET",
        };
        let method = args.value("--request", |method| {
            match is_token(method.as_bytes()) {
                true => Ok(method.to_string()),
                false => Err(format!("a method is a token, not '{method}'")),
            }
        })?;
        let user = match args.value("--user", text)? {
            Some(user) if !user.contains(':') => {
                let prompt = format!("password for {user}: ");
                Some(format!("{user}:{}", password::ask(&prompt)?))
            }
            user => user,
        };
        Ok(Wish {
            method: method.unwrap_or_else(|| default.into()),
            body: body.unwrap_or_default(),
            fields: args.values("--header", header)?,
            user,
            range: args.value("--range", range)?,
            resume_from: 0,
            since: since(args)?,
            old_version: args.flag("--http1.0"),
            close: false,
        })
    }

    /// Sending it twice does what sending it once does. RFC 9110 §9.2.2
    pub fn is_idempotent(&self) -> bool {
        let method = self.method.as_str();
        matches!(method, "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS")
    }

    /// The head of the request for a URL. `own`: it is of the origin that
    /// the user named, and may get the user's credentials.
    pub fn head(&self, url: &Url, own: bool, proxy: Option<&Url>) -> Vec<u8> {
        let version = if self.old_version { "1.0" } else { "1.1" };
        let connection = match (self.old_version, self.close) {
            (true, false) => "keep-alive",
            (false, true) => "close",
            _ => "",
        };
        let user = url.userinfo.as_ref().or(self.user.as_ref());
        let range = match (&self.range, self.resume_from) {
            (Some(range), _) => format!("bytes={range}"),
            (None, 0) => String::new(),
            (None, from) => format!("bytes={from}-"),
        };
        let encoded = |user: &String| {
            format!("Basic {}", base64::encode(user.as_bytes()))
        };
        let length = match self.body.len() {
            0 if self.method != "POST" => String::new(),
            length => length.to_string(),
        };
        let form = "application/x-www-form-urlencoded";
        let usual = [
            ("Host", url.authority()),
            ("Connection", connection.into()),
            (
                "User-Agent",
                concat!("topdown/", env!("CARGO_PKG_VERSION")).into(),
            ),
            ("Accept", "*/*".into()),
            ("Authorization", user.filter(|_| own).map_or("".into(), encoded)),
            (
                "Proxy-Authorization",
                proxy
                    .and_then(|p| p.userinfo.as_ref())
                    .map_or("".into(), encoded),
            ),
            ("Range", range),
            ("If-Modified-Since", self.since.map_or("".into(), date::format)),
            ("Content-Type", if length.is_empty() { "" } else { form }.into()),
            ("Content-Length", length),
        ];
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        // What is for the origin that the user named stays with it.
        let secret = |name: &str| {
            ["authorization", "cookie", "proxy-authorization", "host"]
                .iter()
                .any(|secret| same(name, secret))
        };
        let fields: Vec<&(String, String)> =
            self.fields.iter().filter(|(n, _)| own || !secret(n)).collect();
        let given = |name: &str| fields.iter().any(|(n, _)| same(n, name));
        // "When making a request to a proxy [...] a client MUST send the
        // target URI in absolute-form" RFC 9112 §3.2.2
        let target = match proxy {
            Some(_) => url.to_string(),
            None => url.path.clone(),
        };
        let mut head = format!("{} {target} HTTP/{version}\r\n", self.method);
        for (name, value) in usual {
            if !value.is_empty() && !given(name) {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        for (name, value) in &fields {
            if !value.is_empty() {
                head.push_str(&format!("{name}: {value}\r\n"));
            }
        }
        head.push_str("\r\n");
        head.into_bytes()
    }

    /// Where a response sends us, and with which method. RFC 9110 §15.4
    pub fn redirect(
        &mut self,
        url: &Url,
        response: &Response,
    ) -> Result<Option<Url>, Error> {
        let Some(location) = response.fields.text("location") else {
            return Ok(None);
        };
        match response.status {
            // "For historical reasons, a user agent MAY change the request
            // method from POST to GET for the subsequent request." §15.4.2
            301 | 302 if self.method == "POST" => self.become_get(),
            // the answer is to be had elsewhere, by GET: §15.4.4
            303 if self.method != "HEAD" => self.become_get(),
            301 | 302 | 303 | 307 | 308 => {}
            _ => return Ok(None),
        }
        match url.join(location) {
            Ok(next) => Ok(Some(next)),
            Err(why) => Err(Error::protocol("follow the redirect", why)),
        }
    }

    fn become_get(&mut self) {
        self.method = "GET".into();
        self.body.clear();
        // what described the body goes with it. RFC 9110 §15.4
        let describes =
            |name: &str| name.to_ascii_lowercase().starts_with("content-");
        self.fields.retain(|(name, _)| !describes(name));
    }
}

/// Which proxy is asked, and for whom not.
pub struct Proxy {
    url: Option<Url>,
    /// For `https`: asked to make a tunnel.
    for_secure: Option<Url>,
    /// `no_proxy`: names, with all that end in them, and addresses.
    not_for: Vec<String>,
}

impl Proxy {
    /// Reads `--proxy`, else `http_proxy` and `https_proxy`; `-x ''` is none.
    /// Not HTTP_PROXY, which a web server sets from a request's Proxy field.
    pub fn from_args(args: &mut Args) -> Result<Proxy, Error> {
        let given = args.value("--proxy", text)?;
        let set = |name| std::env::var(name).unwrap_or_default();
        let parse = |proxy: String| match Url::parse(&proxy) {
            _ if proxy.is_empty() => Ok(None),
            Ok(url) if !url.secure => Ok(Some(url)),
            Ok(_) => {
                Err(Error::Usage("no TLS is spoken to proxies here".into()))
            }
            Err(fault) => Err(Error::Usage(format!("the proxy: {fault}"))),
        };
        let of = |name| given.clone().unwrap_or_else(|| set(name));
        let url = parse(of("http_proxy"))?;
        let for_secure = parse(of("https_proxy"))?;
        let not_for = set("no_proxy").to_ascii_lowercase();
        let not_for = not_for.split(',').map(|n| n.trim().to_string());
        let not_for = not_for.filter(|n| !n.is_empty()).collect();
        Ok(Proxy { url, for_secure, not_for })
    }

    /// The proxy that is asked for this URL.
    pub fn of(&self, url: &Url) -> Option<&Url> {
        let host = url.host.trim_matches(['[', ']']);
        let matches = |name: &String| {
            let name = name.trim_start_matches('.');
            let prefix = host.strip_suffix(name);
            name == "*"
                || prefix.is_some_and(|p| p.is_empty() || p.ends_with('.'))
        };
        let proxy = if url.secure { &self.for_secure } else { &self.url };
        proxy.as_ref().filter(|_| !self.not_for.iter().any(matches))
    }
}

/// `-d`: the data, or the files', joined by `&`.
fn data(args: &mut Args) -> Result<Option<Vec<u8>>, Error> {
    let mut pieces = Vec::new();
    for data in args.values("--data", text)? {
        pieces.push(match data.strip_prefix('@') {
            None => data.into_bytes(),
            Some("-") => {
                let mut all = Vec::new();
                let read = io::stdin().lock().read_to_end(&mut all);
                read.doing(|| "read standard input")?;
                all
            }
            Some(file) => fs::read(file).doing(|| format!("read {file}"))?,
        });
    }
    Ok((!pieces.is_empty()).then(|| pieces.join(&b'&')))
}

/// `-H 'NAME: VALUE'`. Where a message ends is not the user's to say.
fn header(line: &str) -> Result<(String, String), String> {
    let bad = |why: &str| Err(format!("{why}: '{line}'"));
    let Some((name, value)) = line.split_once(':') else {
        return bad("NAME: VALUE is wanted");
    };
    let value = value.trim();
    if !is_token(name.as_bytes()) {
        return bad("a field's name is a token");
    }
    if !is_field_value(value.as_bytes()) {
        return bad("a field's value has no control characters");
    }
    match name.to_ascii_lowercase().as_str() {
        "content-length" | "transfer-encoding" => {
            bad("the framing is not for choosing")
        }
        _ => Ok((name.to_string(), value.to_string())),
    }
}

/// `-r`: what may stand behind `bytes=`.
fn range(text: &str) -> Result<String, String> {
    let legal = |b: u8| b.is_ascii_digit() || matches!(b, b'-' | b',');
    match text.contains('-') && text.bytes().all(legal) {
        true => Ok(text.to_string()),
        false => Err(format!("a range is 0-499, 500- or -500, not '{text}'")),
    }
}

/// `-z`: a date, or the time of a file. Without the file, no condition.
fn since(args: &mut Args) -> Result<Option<i64>, Error> {
    let Some(given) = args.value("--time-cond", text)? else {
        return Ok(None);
    };
    if let Some(date) = date::parse(&given, date::now()) {
        return Ok(Some(date));
    }
    let modified = fs::metadata(&given).and_then(|m| m.modified());
    match modified.map(|t| t.duration_since(UNIX_EPOCH)) {
        Ok(Ok(since)) => Ok(Some(since.as_secs() as i64)),
        Ok(Err(_)) => Ok(Some(0)),
        Err(_) => {
            say(format!(
                "topdown web-client: -z: '{given}' is no HTTP date and no \
                 file: no condition"
            ));
            Ok(None)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish() -> Wish {
        Wish {
            method: "GET".into(),
            body: Vec::new(),
            fields: vec![
                ("Cookie".into(), "a=b".into()),
                ("user-agent".into(), String::new()),
            ],
            user: Some("Aladdin:open sesame".into()),
            range: None,
            resume_from: 5,
            since: Some(784_111_777),
            old_version: false,
            close: true,
        }
    }

    #[test]
    fn a_request_as_in_kr_2_2_3() {
        let url = Url::parse("http://h:81/somedir/page.html").unwrap();
        assert_eq!(
            String::from_utf8(wish().head(&url, true, None)).unwrap(),
            "GET /somedir/page.html HTTP/1.1\r\nHost: h:81\r\n\
             Connection: close\r\nAccept: */*\r\n\
             Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\
             Range: bytes=5-\r\n\
             If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
             Cookie: a=b\r\n\r\n"
        );
        let stranger =
            String::from_utf8(wish().head(&url, false, None)).unwrap();
        assert!(!stranger.contains("Auth") && !stranger.contains("Cookie"));
    }

    #[test]
    fn redirects_change_the_method_as_the_rfc_says() {
        for (status, method, then) in [
            (301, "POST", "GET"),
            (302, "POST", "GET"),
            (303, "PUT", "GET"),
            (303, "HEAD", "HEAD"),
            (301, "PUT", "PUT"),
            (307, "POST", "POST"),
            (308, "POST", "POST"),
        ] {
            let mut wish = Wish { method: method.into(), ..wish() };
            wish.body = b"x".to_vec();
            let url = Url::parse("http://h/a/b").unwrap();
            let head = format!("HTTP/1.1 {status} x\r\nLocation: c\r\n\r\n");
            let mut head = head.into_bytes();
            let mut spans = Vec::new();
            let response = Response::parse(&mut head, &mut spans).unwrap();
            let next = wish.redirect(&url, &response).unwrap().unwrap();
            assert_eq!(
                (next.path.as_str(), wish.method.as_str()),
                ("/a/c", then)
            );
            assert_eq!(wish.body.is_empty(), then == "GET");
        }
    }

    #[test]
    fn injection_by_operands_is_refused() {
        assert!(header("X: a\r\nY: b").is_err() && header("X y: a").is_err());
        assert!(header("Content-Length: 1").is_err() && header("X").is_err());
        assert!(range("0-1\r\n").is_err() && range("5").is_err());
    }
}
