//! `web-client`: gets what URLs name. KR 2.2.3; lab "Web Server", optional
//! exercise 2.
//!
//! The lab's client is called with host, port and file: it connects to the
//! server with TCP, sends a GET request, and displays the server's response.
//! With URLs it prints bodies alone, as one expects of such a tool.
//!
//! ```text
//! $ topdown web-client localhost 6789 HelloWorld.html
//! HTTP/1.1 200 OK
//! Date: Sat, 21 Nov 2026 09:30:00 GMT
//! …
//! ```
//!
//! Read `run`, `Client::get`, `Client::exchange`; `request.rs` makes the
//! request, `origin.rs` speaks to the server, `download.rs` keeps the body.
//!
//! Not here: cookies, compression, HTTP/2: a browser's business.

use std::path::PathBuf;
use std::time::Duration;

use super::body::{Body, Framing};
use super::date;
use super::download::{Download, Sink, copy};
use super::message::Response;
use super::origin::{self, Follows, NoResponse};
use super::request::{Proxy, Wish};
use super::timing::Timing;
use super::url::Url;
use crate::Tool;
use crate::args::{self, Args};
use crate::error::{Error, Outcome};
use crate::net::{self, Family};
use crate::output::{Output, say};
use crate::tls::Trust;
use crate::trace::{Party, Trace};
use crate::wire::Wire;

pub static TOOL: Tool = Tool {
    name: "web-client",
    section: "KR 2.2.3",
    summary: "get what URLs name over HTTP",
    help: "\
usage: topdown web-client [-46CeIiLv] [OPTION]... URL...
       topdown web-client [-46CeIiLv] [OPTION]... HOST PORT FILE

Gets each URL and prints what it names; with HOST PORT FILE, the whole
response, as the lab asks.

  -i, --include              print the response's header, too
  -I, --head                 ask with HEAD for the header alone
  -o, --output FILE          write the body to FILE, once it is whole
  -C, --continue             resume FILE.part, where -o broke off
  -L, --location             follow redirects
      --max-redirects N      but no more than this (default: 20)
  -H, --header 'NAME: VALUE' send this field; 'NAME:' leaves one out
  -X, --request METHOD       ask with this method
  -d, --data DATA            send this with POST; @FILE a file, @- stdin
  -u, --user USER[:PASSWORD] send a user name (Basic)
  -r, --range RANGE          ask for these octets: 0-499, 500-, -500
  -z, --time-cond FILE|DATE  only if changed after FILE's time, or DATE
  -x, --proxy URL            ask this proxy (default: $http_proxy, and
                             $https_proxy for a tunnel)
      --ca-file FILE         trust these authorities (PEM), too
      --insecure             trust anybody: not for secrets
  -W, --timeout SECONDS      the limit of every single wait (default: 30)
      --max-size SIZE        refuse a longer body (4096, 64k, 10M, 2G)
      --http1.0              ask in HTTP/1.0
  -4, --ipv4                 IPv4 only
  -6, --ipv6                 IPv6 only
      --timing               draw where the time went, in RTTs
  -v, --verbose              print the dialogue on standard error
  -e, --explain              the same, each line with its reason
      --diagram FILE.svg     draw the run as a space-time diagram
  -h, --help                 print this
",
    run,
};

/// The body of a redirect is read up to here, to keep the connection.
const MAX_REDIRECT_BODY: u64 = 1 << 20;

struct Client {
    wish: Wish,
    include: bool,
    output: Option<PathBuf>,
    resume: bool,
    follow: Option<usize>,
    max_size: u64,
    patience: Duration,
    family: Family,
    timing: bool,
    proxy: Proxy,
    trust: Trust,
    trace: Trace,
    /// An open connection, and where it leads.
    kept: Option<(Way, Wire)>,
}

/// Where a connection leads: through TLS or not, host and port.
type Way = (bool, String, u16);

fn run(mut args: Args) -> Result<Outcome, Error> {
    let mut client = Client::from_args(&mut args)?;
    let words = args.rest();
    args.finish()?;
    let lab_form = words.len() == 3
        && words[1].bytes().all(|b| b.is_ascii_digit())
        && !words[0].contains("://");
    let urls = if lab_form {
        client.include = true;
        // an IPv6 address gets the brackets that URLs have around it
        let host = match words[0].contains(':') {
            true => format!("[{}]", words[0].trim_matches(['[', ']'])),
            false => words[0].clone(),
        };
        let file = words[2].trim_start_matches('/');
        vec![format!("http://{host}:{}/{file}", words[1])]
    } else {
        words
    };
    if urls.is_empty() {
        return Err(Error::Usage("URL is missing".into()));
    }
    if urls.len() == 2 && urls[1].bytes().all(|b| b.is_ascii_digit()) {
        return Err(Error::Usage("FILE is missing after HOST PORT".into()));
    }
    if urls.len() > 1 && client.output.is_some() {
        return Err(Error::Usage("-o goes with one URL".into()));
    }
    let parsed: Result<Vec<Url>, String> =
        urls.iter().map(|url| Url::parse(url)).collect();
    let urls = parsed.map_err(Error::Usage)?;

    let mut worst = Outcome::Yes;
    let mut fault: Option<Error> = None;
    let mut timing = Timing::default();
    for (i, url) in urls.iter().enumerate() {
        // the last on its connection says so, as in the book's example
        let same = |next: &Url| next.same_origin(url);
        client.wish.close =
            client.follow.is_none() && !urls.get(i + 1).is_some_and(same);
        match client.get(url, &mut timing) {
            Ok(Outcome::Yes) => {}
            Ok(Outcome::No) => worst = Outcome::No,
            Err(Error::OutputClosed) => return Err(Error::OutputClosed),
            // the others may be there: the last fault is told by main
            Err(error) => {
                if let Some(earlier) = fault.replace(error) {
                    say(format!("topdown web-client: {earlier}"));
                }
            }
        }
    }
    fault.map_or(Ok(worst), Err)
}

impl Client {
    fn from_args(args: &mut Args) -> Result<Client, Error> {
        let wish = Wish::from_args(args)?;
        let output = args.value("--output", |file| match file {
            "" => Err("a file's name is wanted".into()),
            file => Ok(file.to_string()),
        })?;
        let output = output.filter(|file| file != "-");
        let redirects = args::number("redirects", 0..=1000);
        let redirects = args.value("--max-redirects", redirects)?;
        let follow = args.flag("--location");
        let resume = args.flag("--continue");
        if resume && output.is_none() {
            return Err(Error::Usage("-C goes with -o FILE".into()));
        }
        if resume && wish.range.is_some() {
            return Err(Error::Usage("-C and -r exclude each other".into()));
        }
        let max_size = args.value("--max-size", args::size)?;
        let patience = args.value("--timeout", args::seconds)?;
        Ok(Client {
            include: args.flag("--include") || wish.method == "HEAD",
            wish,
            output: output.map(PathBuf::from),
            resume,
            follow: follow.then(|| redirects.unwrap_or(20)),
            max_size: max_size.unwrap_or(u64::MAX),
            patience: patience.unwrap_or(Duration::from_secs(30)),
            family: Family::from_args(args)?,
            timing: args.flag("--timing"),
            proxy: Proxy::from_args(args)?,
            trust: Trust::from_args(args)?,
            trace: Trace::from_args(args, Party::Client)?,
            kept: None,
        })
    }

    /// Gets one URL, and where it leads.
    fn get(
        &mut self,
        first: &Url,
        timing: &mut Timing,
    ) -> Result<Outcome, Error> {
        let mut wish = self.wish.clone();
        let file = self.output.as_ref();
        let mut download = file.map(|file| Download::new(file, self.resume));
        wish.resume_from = download.as_ref().map_or(0, |d| d.from);
        self.follow(first, wish, &mut download, timing)
    }

    /// One exchange after the other until there is no redirect to follow.
    fn follow(
        &mut self,
        first: &Url,
        mut wish: Wish,
        download: &mut Option<Download>,
        timing: &mut Timing,
    ) -> Result<Outcome, Error> {
        let mut url = first.clone();
        let mut redirects = 0;
        loop {
            timing.start(self.timing);
            let own = url.same_origin(first);
            let (mut wire, follows, mut head) =
                self.exchange(&url, &wish, own, timing)?;
            if self.include {
                Output::new().write(&head)?;
            }
            let mut spans = Vec::new();
            let response = Response::parse(&mut head, &mut spans)
                .map_err(|bad| Error::protocol("read the response", bad))?;
            let next = match self.follow {
                Some(_) => wish.redirect(&url, &response)?,
                None => None,
            };
            let kept = match next {
                Some(_) => self.skip(&mut wire, follows),
                None => self.keep(&mut wire, follows, &response, download),
            }?;
            timing.done("download");
            if let Some(drawing) = timing.draw(kept.octets) {
                say(format!("{url}\n{}", drawing.trim_end()));
            }
            // bytes behind the body are no answer to what is not yet asked
            if follows.stays_open && kept.to_the_end && !wire.has_unread() {
                self.kept = Some((self.way(&url), wire));
            }
            let Some(next) = next else { return Ok(kept.outcome) };
            redirects += 1;
            if self.follow.is_some_and(|most| redirects > most) {
                let what = format!("there are more than {}", redirects - 1);
                return Err(Error::protocol("follow redirects", what));
            }
            self.trace.why(|| format!("the redirect leads to {next}"));
            url = next;
        }
    }

    /// One request and the head of its response, over the connection that is
    /// open, or over a new one. `own`: credentials may be sent there.
    fn exchange(
        &mut self,
        url: &Url,
        wish: &Wish,
        own: bool,
        timing: &mut Timing,
    ) -> Result<(Wire, Follows, Vec<u8>), Error> {
        let proxy = self.proxy.of(url);
        let request = wish.head(url, own, proxy.filter(|_| !url.secure));
        let way = self.way(url);
        let kept = self.kept.take_if(|kept| kept.0 == way);
        if let Some((_, mut wire)) = kept.filter(|k| !k.1.has_unread()) {
            self.trace.why(|| "the open connection is used again".into());
            match self.ask(&mut wire, wish, &request, timing) {
                Ok((follows, head)) => return Ok((wire, follows, head)),
                // The server may have closed just when we asked. "A client
                // SHOULD NOT automatically retry a request with a
                // non-idempotent method" RFC 9110 §9.2.2
                Err(NoResponse::Silence(_)) if wish.is_idempotent() => {}
                Err(no_response) => return Err(no_response.into()),
            }
        }
        let to = proxy.unwrap_or(url);
        let addresses =
            net::resolve(&to.host, to.port, self.family, self.patience)?;
        timing.done("resolve");
        let mut wire = origin::connect(&addresses, self.patience, &self.trace)?;
        timing.done("connect");
        if url.secure {
            if let Some(proxy) = proxy {
                origin::tunnel(
                    &mut wire,
                    url,
                    proxy,
                    self.patience,
                    &self.trace,
                )?;
            }
            origin::secure(&mut wire, url, &self.trust, &self.trace)?;
            timing.done("secure");
        }
        let (follows, head) = self.ask(&mut wire, wish, &request, timing)?;
        Ok((wire, follows, head))
    }

    /// Where the connection for a URL leads: to its proxy, if it has one,
    /// which is the same for all; a tunnel leads to the origin.
    fn way(&self, url: &Url) -> Way {
        let to = match self.proxy.of(url) {
            Some(proxy) if !url.secure => proxy,
            _ => url,
        };
        (url.secure, to.host.clone(), to.port)
    }

    fn ask(
        &self,
        wire: &mut Wire,
        wish: &Wish,
        request: &[u8],
        timing: &mut Timing,
    ) -> Result<(Follows, Vec<u8>), NoResponse> {
        let (trace, patience) = (&self.trace, self.patience);
        origin::send(wire, request, &wish.body, trace, 0)
            .map_err(NoResponse::Silence)?;
        let (method, mut head) = (&wish.method, Vec::new());
        let trace = (trace, 0);
        let follows = origin::read_head(
            wire,
            method,
            &mut head,
            patience,
            trace,
            |_| (),
        )?;
        timing.done("first byte");
        Ok((follows, head))
    }

    /// Reads the body into where it belongs.
    fn keep(
        &self,
        wire: &mut Wire,
        follows: Follows,
        response: &Response,
        download: &mut Option<Download>,
    ) -> Result<Received, Error> {
        let status = response.status;
        let mut outcome = match status {
            400.. => Outcome::No,
            _ => Outcome::Yes,
        };
        let resumes = download.as_ref().is_some_and(|d| d.from > 0);
        let for_file = (200..400).contains(&status) && status != 304
            || status == 416 && resumes;
        let last_modified = response.fields.text("last-modified");
        let last_modified =
            last_modified.and_then(|text| date::parse(text, date::now()));
        let mut sink = match download.take_if(|_| for_file) {
            None => Sink::Output(Output::new()),
            Some(mut file) => {
                if !resumes || file.may_continue(response)? {
                    file.start()?;
                    Sink::File(file)
                } else {
                    file.finish(0, last_modified)?;
                    outcome = Outcome::Yes;
                    Sink::Nowhere
                }
            }
        };
        let expected = match follows.framing {
            Framing::Length(length) => Some(length),
            _ => None,
        };
        let mut body = Body::new(wire, follows.framing);
        let copied = copy(&mut body, &mut sink, expected, self.max_size);
        let to_the_end = body.is_at_end();
        for line in body.trailers.split(|b| *b == b'\n') {
            if !line.is_empty() {
                let note = || "a trailer field. RFC 9110 §6.5".into();
                let line = line.trim_ascii_end();
                self.trace.line(Party::Server, 0, line, note);
            }
        }
        if let (Sink::File(file), Err(_)) = (&sink, &copied) {
            file.say_what_is_kept();
        }
        let octets = copied?;
        if octets > 0 {
            let what = || format!("the last of {octets} octets of body");
            self.trace.message(Party::Server, what);
        }
        if let Sink::File(file) = sink {
            file.finish(octets, last_modified)?;
        }
        Ok(Received { octets, to_the_end, outcome })
    }

    /// Reads the body of a redirect, as far as that pays.
    fn skip(
        &self,
        wire: &mut Wire,
        follows: Follows,
    ) -> Result<Received, Error> {
        wire.set_deadline(Some(self.patience));
        let mut body = Body::new(wire, follows.framing);
        let nowhere = &mut Sink::Nowhere;
        let copied = copy(&mut body, nowhere, None, MAX_REDIRECT_BODY);
        let to_the_end = copied.is_ok() && body.is_at_end();
        let octets = copied.unwrap_or(0);
        wire.set_deadline(None);
        Ok(Received { octets, to_the_end, outcome: Outcome::Yes })
    }
}

/// What became of a body.
struct Received {
    octets: u64,
    /// The connection is free for the next request.
    to_the_end: bool,
    outcome: Outcome,
}
