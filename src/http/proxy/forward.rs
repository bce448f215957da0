//! There and back: the request as it goes on to the origin, and the answer's
//! head as it goes on to the client. What is for one hop alone stays behind,
//! the framing is made anew, and Via says that we were here.
//! RFC 9110 §7.6, RFC 9112 §6

use super::Proxy;
use super::origins::NoWay;
use super::relay::Marked;
use super::session::{Asked, Session};
use super::target::rewritten;
use crate::http::cache::stored::add_line;
use crate::http::date;
use crate::http::explain;
use crate::http::fields::Fields;
use crate::http::hop::end_to_end;
use crate::http::message::{Response, Version};
use crate::http::origin::{self, Follows, NoResponse};
use crate::http::url::Url;
use crate::trace::Party;
use crate::wire::Wire;

/// What the origin answered: the connection stands at the body.
pub struct Answer {
    pub wire: Wire,
    pub head: Vec<u8>,
    pub follows: Follows,
    /// When the request left and the answer came: of the clock.
    pub times: (i64, i64),
}

/// The fields by which a client asks for something on a condition, or for a
/// part. When the cache asks for itself, it asks for the whole.
const OF_CLIENT: [&str; 4] =
    ["if-none-match", "if-modified-since", "range", "if-range"];

/// The request as it goes on. `condition`: the cache asks whether what it
/// has is still good; `whole`: it asks for all, for all.
pub fn request_head(
    asked: &Asked,
    pseudonym: &str,
    condition: Option<&str>,
    whole: bool,
) -> Vec<u8> {
    let (request, url) = (asked.request, &asked.url);
    let fields = &request.fields;
    let mut head = Vec::with_capacity(512);
    let line = format!("{} {} HTTP/1.1\r\n", request.method, url.path);
    head.extend_from_slice(line.as_bytes());
    // "the proxy MUST ignore the received Host header field (if any) and
    // instead replace it with the host information of the request-target"
    // RFC 9112 §3.2.2
    add_line(&mut head, b"Host", url.authority().as_bytes());
    for (name, value) in end_to_end(fields) {
        let is = |other: &str| name.eq_ignore_ascii_case(other.as_bytes());
        let of_client = whole && OF_CLIENT.iter().any(|n| is(n));
        let forwards = is("max-forwards") && is_counted(request.method);
        let old = request.version == Version::Http10;
        if is("host") || of_client || old && is("expect") {
            continue;
        }
        match forwards.then(|| max_forwards(fields)).flatten() {
            Some(n) => {
                let less = n.saturating_sub(1).to_string();
                add_line(&mut head, name, less.as_bytes());
            }
            None => add_line(&mut head, name, value),
        }
    }
    head.extend_from_slice(condition.unwrap_or_default().as_bytes());
    if fields.list("te").any(|t| t.eq_ignore_ascii_case(b"trailers")) {
        head.extend_from_slice(b"TE: trailers\r\nConnection: TE\r\n");
    }
    let via = via(request.version, pseudonym);
    add_line(&mut head, b"Via", via.as_bytes());
    let marked = Marked::anew(asked.framing, Version::Http11);
    head.extend_from_slice(marked.field().as_bytes());
    head.extend_from_slice(b"\r\n");
    head
}

/// "1.1 topdown-1a2b3c4d": the version that was received, and by whom.
/// RFC 9110 §7.6.3
pub fn via(received: Version, pseudonym: &str) -> String {
    match received {
        Version::Http10 => format!("1.0 {pseudonym}"),
        Version::Http11 => format!("1.1 {pseudonym}"),
    }
}

/// Max-Forwards is for TRACE and OPTIONS alone. RFC 9110 §7.6.2
pub fn is_counted(method: &str) -> bool {
    matches!(method, "TRACE" | "OPTIONS")
}

pub fn max_forwards(fields: &Fields) -> Option<u64> {
    crate::http::body::decimal(fields.get("max-forwards")?)
}

/// Has the request passed here before? RFC 9110 §7.6.3: each proxy's line is
/// "received-protocol RWS received-by".
pub fn came_by(fields: &Fields, pseudonym: &str) -> bool {
    let by = |member: &[u8]| {
        let mut words = member.split(|b| *b == b' ').skip(1);
        words.next() == Some(pseudonym.as_bytes())
    };
    fields.list("via").any(by)
}

/// The status line of a response, as it came, in our version.
pub fn status_line(head: &[u8]) -> Vec<u8> {
    let line = head.split(|b| *b == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let rest = line.get(8..).unwrap_or_default();
    let space: &[u8] = if rest.len() == 4 { b" " } else { b"" };
    [b"HTTP/1.1", rest, space].concat()
}

/// Status line and fields of an answer that goes on, without the framing.
pub fn response_lines(
    status_line: &[u8],
    response: &Response,
    pseudonym: &str,
    received: i64,
) -> Vec<u8> {
    let mut lines = status_line.to_vec();
    lines.extend_from_slice(b"\r\n");
    for (name, value) in end_to_end(&response.fields) {
        add_line(&mut lines, name, value);
    }
    // "A recipient with a clock that receives a response message without a
    // Date header field MUST record the time it was received and append a
    // corresponding Date header field to the message's header section if it
    // is cached or forwarded downstream." RFC 9110 §6.6.1
    if response.fields.get("date").is_none() {
        add_line(&mut lines, b"Date", date::format(received).as_bytes());
    }
    let via = via(response.version, pseudonym);
    add_line(&mut lines, b"Via", via.as_bytes());
    lines
}

/// For a page in the lab's form, where an absolute path leads to the proxy.
pub fn with_lab_location(lines: Vec<u8>, of: &Url) -> Vec<u8> {
    let mut out = Vec::with_capacity(lines.len() + 64);
    for line in lines.split_inclusive(|b| *b == b'\n') {
        let is_location =
            line.get(..9).is_some_and(|n| n.eq_ignore_ascii_case(b"location:"));
        let location = is_location.then(|| line[9..].trim_ascii());
        let text = location.and_then(|l| std::str::from_utf8(l).ok());
        match text.and_then(|text| rewritten(text, of)) {
            Some(to) => add_line(&mut out, b"Location", to.as_bytes()),
            None => out.extend_from_slice(line),
        }
    }
    out
}

impl Proxy {
    /// Sends a request whose body is here, and reads the answer's head. A
    /// request that may be repeated goes over a connection that is open
    /// already, and once more over a new one if that turns out closed.
    pub fn ask(
        &self,
        asked: &Asked,
        head: &[u8],
        mut pass_on: impl FnMut(&Response),
    ) -> Result<Answer, NoWay> {
        // "A proxy MUST NOT automatically retry non-idempotent requests."
        // RFC 9110 §9.2.2
        let repeatable = matches!(
            asked.request.method,
            "GET" | "HEAD" | "PUT" | "DELETE" | "OPTIONS" | "TRACE"
        );
        let (url, inside) = (&asked.url, asked.inside);
        let kept = repeatable.then(|| self.origins.take(url, inside));
        if let Some(wire) = kept.flatten() {
            self.trace.fact(|| "an open connection is used again".into());
            match self.ask_over(wire, asked, head, &mut pass_on) {
                Err(NoResponse::Silence(_)) => {
                    self.trace.fact(|| "it was closed: once more".into());
                }
                other => return other.map_err(|e| NoWay::Fault(e.into())),
            }
        }
        let wire = self.origins.connect(url, inside, &self.trace)?;
        let answer = self.ask_over(wire, asked, head, &mut pass_on);
        answer.map_err(|e| NoWay::Fault(e.into()))
    }

    fn ask_over(
        &self,
        wire: Wire,
        asked: &Asked,
        head: &[u8],
        pass_on: impl FnMut(&Response),
    ) -> Result<Answer, NoResponse> {
        let now = date::now();
        origin::send(&wire, head, &asked.body, &self.trace, asked.number)
            .map_err(NoResponse::Silence)?;
        self.await_answer(wire, asked, now, pass_on)
    }

    /// Reads up to the end of the final answer's head.
    pub fn await_answer(
        &self,
        mut wire: Wire,
        asked: &Asked,
        sent: i64,
        pass_on: impl FnMut(&Response),
    ) -> Result<Answer, NoResponse> {
        let (mut head, method) = (Vec::new(), asked.request.method);
        let patience = self.origins.patience;
        let trace = (&self.trace, asked.number);
        let follows = origin::read_head(
            &mut wire, method, &mut head, patience, trace, pass_on,
        )?;
        Ok(Answer { wire, head, follows, times: (sent, date::now()) })
    }
}

/// 1xx go on to clients that know of them. RFC 9110 §15.2
pub fn pass_on(
    asked: &Asked,
    proxy: &Proxy,
    client: &Wire,
    interim: &Response,
) {
    if asked.request.version == Version::Http10 {
        return;
    }
    let trace = &proxy.trace;
    let via = via(interim.version, &proxy.pseudonym);
    let mut head = format!("HTTP/1.1 {} \r\n", interim.status).into_bytes();
    for (name, value) in end_to_end(&interim.fields) {
        add_line(&mut head, name, value);
    }
    add_line(&mut head, b"Via", via.as_bytes());
    head.extend_from_slice(b"\r\n");
    explain::head(trace, Party::AsServer, asked.number, &head, 0);
    // a client that has gone is noticed soon enough
    let _ = client.send(&head, b"");
}

impl Session<'_> {
    /// Asks the origin for this client.
    pub fn ask(&self, asked: &Asked, head: &[u8]) -> Result<Answer, NoWay> {
        let (proxy, client) = (self.proxy, &self.wire);
        proxy.ask(asked, head, |r| pass_on(asked, proxy, client, r))
    }
}
