//! `/fetch?url=http://…`: the web server as a client. It gets the page,
//! saves it under `ROOT/fetched/HOST/PATH` and sends the saved file.
//!
//! A server that fetches what strangers name is a way into the network that
//! it stands in (server-side request forgery). So this is off unless asked
//! for with `--fetch`; and on a server that can be reached from outside,
//! only public addresses are fetched from: as resolved, and for every
//! redirect anew, and the connection goes to the very address looked at.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::answer::{Asked, Site, represent};
use super::body::Body;
use super::message::Response;
use super::origin::{self, body_fault};
use super::reply::Reply;
use super::store::Found;
use super::url::{Url, decode};
use crate::error::{Doing, Error, is_timeout};
use crate::net::{self, Family};
use crate::tls::Trust;
use crate::trace::Trace;

const MAX_SIZE: u64 = 16 << 20;
const MAX_REDIRECTS: usize = 5;
/// Fetches at a time.
const MAX_FETCHES: usize = 16;
/// Each single wait, and a whole fetch.
const PATIENCE: Duration = Duration::from_secs(10);
const TOTAL: Duration = Duration::from_secs(30);
/// A fetch says so, so that a loop through ourselves ends.
const VIA: &str = "topdown-fetch";

/// What `/fetch` may do, and is doing.
pub struct Fetch {
    root: PathBuf,
    /// Fetch from public addresses only.
    public_only: bool,
    running: AtomicUsize,
}

impl Fetch {
    pub fn new(root: &str, public_only: bool) -> Fetch {
        let running = AtomicUsize::new(0);
        Fetch { root: PathBuf::from(root), public_only, running }
    }

    /// Makes `reply` the answer to `/fetch?query`.
    pub fn answer(
        &self,
        site: &Site,
        query: &str,
        asked: &Asked,
        reply: &mut Reply,
    ) {
        // a page elsewhere must not make its reader's browser ask for this
        let site_of_page = asked.request.fields.text("sec-fetch-site");
        if site_of_page == Some("cross-site") {
            return reply.page(403, "Another site's page asked for this.");
        }
        let via = asked.request.fields.text("via").unwrap_or_default();
        if via.contains(VIA) {
            return reply.page(508, "This fetch leads back to this server.");
        }
        let url = match wanted(query) {
            Ok(url) => url,
            Err(why) => return reply.page(400, &why),
        };
        let fetched = match self.running.fetch_add(1, SeqCst) {
            before if before < MAX_FETCHES => Some(self.fetch(&url)),
            _ => None,
        };
        self.running.fetch_sub(1, SeqCst);
        let path = match fetched {
            None => return reply.page(503, "Too many fetches at once."),
            Some(Err(error)) => {
                let status = status(&error);
                return reply.page(status, &format!("{url}: {error}"));
            }
            Some(Ok(path)) => path,
        };
        asked.trace.fact(|| format!("fetched {url}, saved as {path}"));
        match site.store.find(&site.root, path.as_bytes()) {
            Ok(Found::File(file)) => represent(asked, &file, reply),
            _ => reply.page(500, "The saved file cannot be read."),
        }
    }

    /// Gets the page and saves it; answers its path on this server.
    fn fetch(&self, first: &Url) -> Result<String, Error> {
        let deadline = Instant::now() + TOTAL;
        let mut url = first.clone();
        for _ in 0..=MAX_REDIRECTS {
            match self.get(&url, deadline)? {
                Got::Saved(path) => return Ok(path),
                Got::Redirect(next) => url = next,
            }
        }
        Err(Error::protocol("follow redirects", "there are too many"))
    }

    fn get(&self, url: &Url, deadline: Instant) -> Result<Got, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let source = io::ErrorKind::TimedOut.into();
            return Err(Error::Io { doing: "fetch".into(), source });
        }
        let patience = PATIENCE.min(left);
        let trace = Trace::default();
        let mut addresses =
            net::resolve(&url.host, url.port, Family::Any, patience)?;
        addresses.retain(|a| !self.public_only || is_public(a.ip()));
        if addresses.is_empty() {
            let why = "this address is not fetched from";
            return Err(Error::protocol(url.host.clone(), why));
        }
        let mut wire = origin::connect(&addresses, patience, &trace)?;
        if url.secure {
            origin::secure(&mut wire, url, &Trust::default(), &trace)?;
        }
        let left = deadline.saturating_duration_since(Instant::now());
        wire.set_deadline(Some(left)); // for all that is read
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nVia: 1.1 {VIA}\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n",
            url.path,
            url.authority()
        );
        origin::send(&wire, head.as_bytes(), b"", &trace, 0)?;
        let (mut head, trace) = (Vec::new(), (&trace, 0));
        let method = "GET";
        let follows = origin::read_head(
            &mut wire,
            method,
            &mut head,
            patience,
            trace,
            |_| (),
        )?;
        let mut spans = Vec::new();
        let response = Response::parse(&mut head, &mut spans)
            .map_err(|bad| Error::protocol("read the response", bad))?;
        let location = response.fields.text("location");
        if let (301 | 302 | 303 | 307 | 308, Some(to)) =
            (response.status, location)
        {
            let next = url.join(to);
            let next = next.map_err(|e| Error::protocol("redirect", e))?;
            return Ok(Got::Redirect(next));
        }
        if response.status != 200 {
            let why = format!("it answered {}", response.status);
            return Err(Error::protocol("fetch", why));
        }
        let kind = response.fields.text("content-type").unwrap_or_default();
        let path = safe_path(url, kind.starts_with("text/html"));
        let file = self.root.join(&path);
        let body = Body::new(&mut wire, follows.framing);
        save(body, &file)?;
        Ok(Got::Saved(format!("/{path}")))
    }
}

enum Got {
    /// The path on this server.
    Saved(String),
    Redirect(Url),
}

/// The `url` of a form's query: `url=http%3A%2F%2F…`
fn wanted(query: &str) -> Result<Url, String> {
    let field = query.split('&').find_map(|pair| pair.strip_prefix("url="));
    let text = field.ok_or("?url=http://… is missing.")?.replace('+', " ");
    Url::parse(decode(&text)?.trim())
}

/// 504 when it took too long, 500 when it is our own disk, else 502.
fn status(error: &Error) -> u16 {
    match error {
        Error::Io { source, .. } if is_timeout(source) => 504,
        Error::Io { doing, .. } if doing.starts_with("save") => 500,
        _ => 502,
    }
}

/// `fetched/HOST/PATH`, of harmless names only. What is HTML gets a name
/// that says so, since the server goes by names.
fn safe_path(url: &Url, html: bool) -> String {
    let mut path = String::from("fetched/");
    path.push_str(&url.authority().replace(['[', ']', ':'], "_"));
    let decoded = decode(&url.path).unwrap_or_else(|_| url.path.clone());
    for name in decoded.split('/').filter(|name| !name.is_empty()) {
        path.push('/');
        path.push_str(&safe_name(name));
    }
    if decoded.ends_with('/') {
        path.push_str("/index.html");
    }
    let named = path.ends_with(".html") || path.ends_with(".htm");
    if html && !named {
        path.push_str(".html");
    }
    path
}

/// A name that is neither hidden nor a way out, nor too long. One that had
/// to be changed for that gets a number by which it stays apart from others.
fn safe_name(name: &str) -> String {
    let safe = |c: char| c.is_alphanumeric() || "-._~=,@+".contains(c);
    let mut harmless: String =
        name.chars().take(60).map(|c| if safe(c) { c } else { '_' }).collect();
    if harmless.starts_with('.') {
        harmless.replace_range(..1, "_");
    }
    if harmless != name {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        harmless = format!("{:x}-{harmless}", hasher.finish());
    }
    harmless
}

/// Writes the body aside and renames it when it is whole.
fn save(mut body: impl Read, file: &Path) -> Result<(), Error> {
    let doing = || format!("save {}", file.display());
    let directory = file.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(directory).doing(doing)?;
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(io::Error::other).doing(doing)?;
    let aside =
        directory.join(format!(".{:x}.part", u64::from_ne_bytes(random)));
    let mut copy = || -> Result<(), Error> {
        let mut out = File::create(&aside).doing(doing)?;
        let mut buffer = vec![0; 64 * 1024];
        let mut size = 0;
        loop {
            let count = body.read(&mut buffer).map_err(body_fault)?;
            if count == 0 {
                break;
            }
            size += count as u64;
            if size > MAX_SIZE {
                let why = format!("larger than {} MiB", MAX_SIZE >> 20);
                return Err(Error::protocol("read the body", why));
            }
            out.write_all(&buffer[..count]).doing(doing)?;
        }
        fs::rename(&aside, file).doing(doing)
    };
    let saved = copy();
    if saved.is_err() {
        let _ = fs::remove_file(&aside);
    }
    saved
}

/// An address of the public Internet: none of the special-purpose blocks
/// of RFC 6890, and no IPv6 form that carries one of IPv4's.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_public_v4(v4),
        IpAddr::V6(v6) => {
            let s = v6.segments();
            let embedded = |high: u16, low: u16| {
                is_public_v4(Ipv4Addr::from(
                    u32::from(high) << 16 | u32::from(low),
                ))
            };
            match s {
                [0, 0, 0, 0, 0, 0xffff, high, low] => embedded(high, low),
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => embedded(high, low),
                [0x2002, high, low, ..] => embedded(high, low),
                // 2000::/3 is all that is given out, and of that not the
                // blocks for protocols (2001::/23) and documentation
                [0x2001, second, ..] if second < 0x200 => false,
                [0x2001, 0xdb8, ..] => false,
                [first, ..] => first & 0xe000 == 0x2000,
            }
        }
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 168, ..]
            | [192, 0, 0 | 2, _]
            | [198, 18..=19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inner_addresses_are_not_public() {
        for inner in [
            "127.0.0.1",
            "10.1.2.3",
            "172.31.0.1",
            "192.168.1.1",
            "0.0.0.0",
            "169.254.169.254",
            "100.64.0.1",
            "224.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fc00::1",
            "::ffff:127.0.0.1",
            "64:ff9b::a00:1",
            "2002:7f00:1::",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
        ] {
            assert!(!is_public(inner.parse().unwrap()), "{inner}");
        }
        for public in ["1.1.1.1", "172.32.0.1", "2606:4700::1", "2a00::1"] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
    }

    #[test]
    fn saved_names_are_harmless() {
        let path = |url: &str, html| safe_path(&Url::parse(url).unwrap(), html);
        assert_eq!(path("h", true), "fetched/h/index.html");
        assert_eq!(path("h:81/a/b.gif", false), "fetched/h_81/a/b.gif");
        let harmless = |path: &str| {
            let names: Vec<&str> = path.split('/').collect();
            names[0] == "fetched"
                && names.iter().all(|n| !n.is_empty() && !n.starts_with('.'))
                && !path.contains(['%', '\0', '?'])
        };
        for url in ["h/a?b=1/2", "h/%2e%2e/%2e%2e%2fetc/.ssh%00", "[::1]/."] {
            assert!(harmless(&path(url, true)), "{}", path(url, true));
        }
        assert_ne!(path("h/a?b", false), path("h/a_b", false));
        let tail = |end| path(&format!("h/{}{end}", "a".repeat(99)), false);
        assert_ne!(tail("1"), tail("2"));
        let long = path(&format!("h/{}", "é".repeat(300)), false);
        assert!(long.len() <= "fetched/h/".len() + 120 + 17);
    }

    #[test]
    fn a_failure_says_whose_it_is() {
        let io = |doing: &str, kind: io::ErrorKind| {
            status(&Error::Io { doing: doing.into(), source: kind.into() })
        };
        assert_eq!(io("connect to h", io::ErrorKind::TimedOut), 504);
        assert_eq!(io("read the body", io::ErrorKind::WouldBlock), 504);
        assert_eq!(io("connect to h", io::ErrorKind::ConnectionRefused), 502);
        assert_eq!(io("save x", io::ErrorKind::StorageFull), 500);
        assert_eq!(status(&Error::protocol("fetch", "it answered 404")), 502);
    }

    #[test]
    fn the_forms_query() {
        let url = wanted("x=1&url=http%3A%2F%2Fh%2Fa+b").unwrap();
        assert_eq!(url.to_string(), "http://h/a%20b");
        assert!(wanted("").is_err() && wanted("url=%zz").is_err());
    }
}
