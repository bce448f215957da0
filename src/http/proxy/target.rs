//! Where a request leads: the two ways to ask a proxy.
//!
//! ```text
//! GET http://www.example.com/path HTTP/1.1     a browser's proxy setting
//! GET /www.example.com/path HTTP/1.1           the lab's form, with
//!                                              http://localhost:8888 before
//! ```
//!
//! In the lab's form the browser takes the proxy for the server, and asks it
//! for whatever a page links to by path alone: `GET /style.css`. The Referer
//! then tells whose page that was.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::http::message::{Request, Target, is_host_and_port};
use crate::http::url::Url;

/// The name by which the proxy's own page is asked for.
const OWN_NAME: &str = "topdown.proxy";

/// Paths remembered whose host only a Referer told.
const MAX_REFERRED: usize = 1024;

/// Where a request leads.
pub enum Goal {
    /// To an origin server; `lab`: asked for in the lab's form.
    Origin { url: Url, lab: bool },
    /// Through, to whatever is spoken there: CONNECT.
    Tunnel(Url),
    /// The proxy's own page.
    Own,
    /// Nowhere: a status, and why.
    Nowhere(u16, &'static str),
}

/// What was asked for by path alone, and of which host it is: a style sheet
/// found by its page's Referer is the Referer of its own pictures.
#[derive(Default)]
pub struct Referred(Mutex<HashMap<(IpAddr, String), String>>);

/// Where a request leads.
pub fn goal(request: &Request, client: IpAddr, referred: &Referred) -> Goal {
    if client.is_loopback() && is_rebound(request) {
        return Goal::Nowhere(421, REBOUND);
    }
    match request.target {
        Target::Authority(authority) => tunnel(authority),
        Target::Absolute { scheme, authority, path } => {
            if scheme.eq_ignore_ascii_case("https") {
                return Goal::Nowhere(501, HTTPS);
            }
            match url(authority, path) {
                Some(url) if url.host == OWN_NAME => Goal::Own,
                // "If a proxy receives an OPTIONS request with an
                // absolute-form of request-target in which the URI has an
                // empty path and no query component, then the last proxy on
                // the request chain MUST send a request-target of "*""
                // RFC 9112 §3.2.4
                Some(mut url)
                    if request.method == "OPTIONS" && path.is_empty() =>
                {
                    url.path = "*".into();
                    Goal::Origin { url, lab: false }
                }
                Some(url) => Goal::Origin { url, lab: false },
                None => Goal::Nowhere(400, "The target names no host."),
            }
        }
        Target::Asterisk => Goal::Own,
        Target::Origin(path) => match path.split('?').next() {
            Some("/") if referrer(request).is_none() => Goal::Own,
            _ => lab_form(request, &path[1..], client, referred),
        },
    }
}

const HTTPS: &str = "An https page is not asked for like this: give the \
                     browser this proxy for https, too, and it will ask for \
                     a tunnel (CONNECT).";

fn tunnel(authority: &str) -> Goal {
    match Url::parse(&format!("http://{authority}/")) {
        Ok(url) if !url.host.is_empty() => Goal::Tunnel(url),
        _ => Goal::Nowhere(400, "CONNECT names no host and port."),
    }
}

/// The target's path and query are not touched: "A proxy MUST NOT modify the
/// "absolute-path" and "query" parts of the received target URI when
/// forwarding it to the next inbound server except as required by that
/// forwarding protocol." RFC 9110 §7.7
fn url(authority: &str, path: &str) -> Option<Url> {
    let mut url = Url::parse(&format!("http://{authority}/")).ok()?;
    match path.as_bytes().first() {
        None => {}
        Some(b'/') => url.path = path.to_string(),
        Some(_) => url.path.push_str(path),
    }
    (!url.host.is_empty()).then_some(url)
}

const REBOUND: &str = "This is no name of the proxy: a page elsewhere may \
                       have led here by a name of its own. Ask for localhost.";

/// A page elsewhere can have its own name lead to this machine, and then read
/// what it asks for here (DNS rebinding). Its name gives it away: on this
/// machine the proxy is localhost, or an address.
fn is_rebound(request: &Request) -> bool {
    let Target::Origin(_) = request.target else { return false };
    let host = request.fields.text("host").unwrap_or("localhost");
    let Ok(url) = Url::parse(&format!("http://{host}/")) else { return false };
    let name = url.host.trim_matches(['[', ']']);
    name != "localhost" && name != OWN_NAME && name.parse::<IpAddr>().is_err()
}

/// `path` is without its first slash.
fn lab_form(
    request: &Request,
    path: &str,
    client: IpAddr,
    referred: &Referred,
) -> Goal {
    let asked = written(path);
    let typed = path.starts_with("http:/");
    let origin = referrer(request).and_then(|page| {
        let of_page = written(&page[1..]);
        let known = referred.lock().get(&(client, page.into())).cloned();
        known.or(of_page.map(|u| u.authority()))
    });
    match (asked, origin) {
        // a page that links on by path: the path is its own host's
        (asked, Some(origin))
            if !typed
                && asked.as_ref().is_none_or(|u| u.authority() != origin) =>
        {
            match url(&origin, &format!("/{path}")) {
                Some(url) => {
                    referred.remember(client, format!("/{path}"), origin);
                    Goal::Origin { url, lab: true }
                }
                None => Goal::Nowhere(400, NO_HOST),
            }
        }
        (Some(url), _) => Goal::Origin { url, lab: true },
        (None, _) if path.starts_with("https:/") => Goal::Nowhere(501, HTTPS),
        (None, _) => Goal::Nowhere(400, NO_HOST),
    }
}

const NO_HOST: &str = "The path names no host. Behind the proxy's own \
                       address stands that of the page: /www.example.com/path";

/// `www.example.com/path` or `http://www.example.com/path`; some programs
/// make one slash of two.
fn written(path: &str) -> Option<Url> {
    let rest = match path.strip_prefix("http:/") {
        Some(rest) => rest.strip_prefix('/').unwrap_or(rest),
        None => path,
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let good = !authority.is_empty()
        && !authority.ends_with(':')
        && is_host_and_port(authority.as_bytes());
    good.then(|| url(authority, path))?
}

/// The path of the page that links here, when it came through this proxy in
/// the lab's form: its host is ours.
fn referrer<'a>(request: &Request<'a>) -> Option<&'a str> {
    let (referer, own) =
        (request.fields.text("referer")?, request.fields.text("host")?);
    let page = referer.strip_prefix("http://")?.strip_prefix(own)?;
    (page.starts_with('/') && page.len() > 1).then_some(page)
}

/// A Location as the lab's form has it, so that the browser comes back to the
/// proxy; `None`: it may stay as it is.
pub fn rewritten(location: &str, of: &Url) -> Option<String> {
    if let Some(network_path) = location.strip_prefix("//") {
        return Some(format!("/http://{network_path}"));
    }
    if location.starts_with('/') {
        return Some(format!("/{}{location}", of.authority()));
    }
    let scheme = location.get(..7)?;
    if !scheme.eq_ignore_ascii_case("http://") {
        return None;
    }
    let rest = &location[7..];
    match Url::parse(location) {
        Ok(to) if to.same_origin(of) => {
            let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
            let path = rest[end..].trim_start_matches('/');
            Some(format!("/{}/{path}", to.authority()))
        }
        _ => Some(format!("/http://{rest}")),
    }
}

impl Referred {
    fn lock(&self) -> MutexGuard<'_, HashMap<(IpAddr, String), String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember(&self, client: IpAddr, path: String, origin: String) {
        let mut known = self.lock();
        if known.len() >= MAX_REFERRED {
            known.clear();
        }
        known.insert((client, path), origin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::message::tests::request;

    fn leads(line: &str, referer: &str, referred: &Referred) -> String {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: localhost:8888\r\nReferer: {referer}\r\n\r\n"
        );
        let from = IpAddr::from([127, 0, 0, 1]);
        let text = |r: &Request| match goal(r, from, referred) {
            Goal::Origin { url, lab: true } => format!("lab {url}"),
            Goal::Origin { url, lab: false } => url.to_string(),
            Goal::Tunnel(url) => format!("tunnel {}:{}", url.host, url.port),
            Goal::Own => "own".into(),
            Goal::Nowhere(status, _) => status.to_string(),
        };
        request(&head, text).expect(&head)
    }

    #[test]
    fn both_ways_to_ask() {
        for (line, expected) in [
            ("GET http://www.example.com/a?b", "http://www.example.com/a?b"),
            ("GET http://WWW.Example.com:80", "http://www.example.com/"),
            ("GET http://h?q", "http://h/?q"),
            // the path is not touched
            ("GET http://h/a|b\"{}/../c%7e", "http://h/a|b\"{}/../c%7e"),
            ("GET http://[::1]:81/x", "http://[::1]:81/x"),
            ("GET /www.example.com/a?b", "lab http://www.example.com/a?b"),
            ("GET /www.example.com", "lab http://www.example.com/"),
            ("GET /http://h:81/a", "lab http://h:81/a"),
            ("GET /http:/h/a", "lab http://h/a"),
            ("GET /[::1]:81/x", "lab http://[::1]:81/x"),
            ("GET /h?a=http://b/", "lab http://h/?a=http://b/"),
            ("GET /", "own"),
            ("GET /?x", "own"),
            ("GET http://topdown.proxy/", "own"),
            ("GET http://Topdown.Proxy/any", "own"),
            ("OPTIONS *", "own"),
            ("GET https://h/", "501"),
            ("GET /https://h/", "501"),
            ("GET //h/", "400"),
            ("GET /a@b/", "400"),
            ("GET http://:80/", "400"),
            ("GET /:80/", "400"),
            ("CONNECT h:443", "tunnel h:443"),
            ("CONNECT [::1]:443", "tunnel [::1]:443"),
            ("CONNECT :443", "400"),
            ("CONNECT h:0", "400"),
        ] {
            let got = leads(line, "-", &Referred::default());
            assert_eq!(got, expected, "{line}");
        }
    }

    #[test]
    fn a_page_links_on_by_path() {
        let referred = Referred::default();
        let page = "http://localhost:8888/www.example.com/dir/page.html";
        for (line, referer, expected) in [
            ("GET /style.css", page, "lab http://www.example.com/style.css"),
            ("GET /", page, "lab http://www.example.com/"),
            ("GET /?q", page, "lab http://www.example.com/?q"),
            ("GET /a/b?c", page, "lab http://www.example.com/a/b?c"),
            // relative links have the host in them already
            (
                "GET /www.example.com/dir/x",
                page,
                "lab http://www.example.com/dir/x",
            ),
            ("GET /http://other/x", page, "lab http://other/x"),
            // the style sheet's own pictures
            (
                "GET /pic.png",
                "http://localhost:8888/style.css",
                "lab http://www.example.com/pic.png",
            ),
            // not a page of ours
            ("GET /h/x", "http://www.example.com/", "lab http://h/x"),
            ("GET /h/x", "http://localhost:8888/", "lab http://h/x"),
            (
                "GET /x.png",
                "http://localhost:8888/http://h:81/page",
                "lab http://h:81/x.png",
            ),
        ] {
            let got = leads(line, referer, &referred);
            assert_eq!(got, expected, "{line} from {referer}");
        }
    }

    #[test]
    fn a_foreign_name_for_this_machine_is_refused() {
        let from = |host: &str, client: [u8; 4]| {
            let head = format!("GET /h/x HTTP/1.1\r\nHost: {host}\r\n\r\n");
            let goal = |r: &Request| {
                let goal = goal(r, client.into(), &Referred::default());
                matches!(goal, Goal::Origin { .. })
            };
            request(&head, goal).expect(&head)
        };
        for host in ["localhost:8888", "127.0.0.1:8888", "[::1]:8888"] {
            assert!(from(host, [127, 0, 0, 1]), "{host}");
        }
        assert!(!from("evil.example:8888", [127, 0, 0, 1]));
        assert!(from("proxy.example:8888", [192, 0, 2, 1]));
    }

    #[test]
    fn a_location_comes_back_to_the_proxy() {
        let of = Url::parse("http://h:81/dir/page").expect("good");
        for (location, expected) in [
            ("/a", Some("/h:81/a")),
            ("//other/a", Some("/http://other/a")),
            ("http://h:81/a?b#c", Some("/h:81/a?b#c")),
            ("http://h:81", Some("/h:81/")),
            ("HTTP://other/a", Some("/http://other/a")),
            ("https://other/a", None),
            ("a/b", None),
            ("?q", None),
        ] {
            let got = rewritten(location, &of);
            assert_eq!(got.as_deref(), expected, "{location}");
        }
    }
}
