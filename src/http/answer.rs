//! What a request is answered with: the method, the file, the conditions,
//! the ranges, in this order. No socket in here; `server.rs` sends it.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;

use super::condition::{self, ByteRange, Ranges, Validators, Verdict};
use super::date;
use super::fetch::Fetch;
use super::files::Root;
use super::listing;
use super::message::{Request, Target};
use super::reply::{Content, Part, Reply};
use super::store::{Found, Representation, Store};
use super::url::{decode_bytes, encode_path, split_query};
use crate::trace::Trace;

/// What may be done with a file here.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// The site that a server serves.
pub struct Site {
    pub root: Root,
    pub store: Store,
    pub dotfiles: bool,
    /// A directory without `index.html` is listed.
    pub listing: bool,
    /// `/echo` answers with the request as it was received.
    pub echo: bool,
    /// `/fetch?url=…` gets a page from elsewhere.
    pub fetch: Option<Fetch>,
}

/// A request as it was received.
pub struct Asked<'a> {
    pub request: &'a Request<'a>,
    pub head: &'a [u8],
    pub body: &'a [u8],
    pub trace: &'a Trace,
}

impl Site {
    /// Does this target want the request's body? All others do without.
    pub fn wants_body(&self, request: &Request) -> bool {
        self.echo && split_query(request.target.path()).0 == "/echo"
    }

    /// Makes `reply` the answer, all but the end of its head. `path` is
    /// room for the decoded path.
    pub fn answer(&self, asked: &Asked, path: &mut Vec<u8>, reply: &mut Reply) {
        let request = asked.request;
        let (target, query) = split_query(request.target.path());
        // Who asks for https must not be answered in clear. RFC 9110 §7.4
        if matches!(request.target, Target::Absolute { scheme, .. }
            if scheme.eq_ignore_ascii_case("https"))
        {
            return reply.page(421, "This connection is not a secured one.");
        }
        let refused = matches!(request.method, "CONNECT" | "TRACE");
        if self.wants_body(request) && !refused {
            return echo(asked, reply);
        }
        match (request.method, request.target) {
            ("OPTIONS", Target::Asterisk) => return options(reply),
            ("GET" | "HEAD", _) => {}
            ("OPTIONS", _) => return options(reply),
            // "The origin server MUST generate an Allow header field in a 405
            // response" RFC 9110 §15.5.6. TRACE would send cookies back to
            // whoever made the browser ask: refused with the rest.
            ("POST" | "PUT" | "DELETE" | "CONNECT" | "TRACE" | "PATCH", _) => {
                reply.page(405, "Files are only read here.");
                reply.field("Allow", ALLOW);
                return;
            }
            (_, _) => {
                reply.page(501, "This method is not known here.");
                return;
            }
        }
        if let ("/fetch", Some(fetch)) = (target, &self.fetch) {
            let query = query.unwrap_or_default();
            fetch.answer(self, query, asked, reply);
            return reply.field("Content-Security-Policy", "sandbox");
        }
        match decode_bytes(target, path) {
            Some(()) if !path.contains(&0) => {
                // "//" is as good as "/" to the kernel: one name for one file
                path.dedup_by(|a, b| (*a, *b) == (b'/', b'/'));
            }
            _ => {
                reply.page(400, "The path's percent-encoding is wrong.");
                return;
            }
        }
        // An encoded slash is no separator, and no file's name has one.
        let encoded_slash = target
            .as_bytes()
            .windows(3)
            .any(|w| w.eq_ignore_ascii_case(b"%2f"));
        if encoded_slash {
            return self.not_found(asked, reply);
        }
        match path.ends_with(b"/") {
            true => self.directory(asked, path, reply),
            false => self.file(asked, path, query, reply),
        }
        // what came from elsewhere runs no scripts as a page of ours
        if path.starts_with(b"/fetched/") {
            reply.field("Content-Security-Policy", "sandbox");
        }
    }

    /// A path that does not end in a slash: a file, or the way to a
    /// directory.
    fn file(
        &self,
        asked: &Asked,
        path: &[u8],
        query: Option<&str>,
        reply: &mut Reply,
    ) {
        match self.store.find(&self.root, path) {
            Ok(Found::File(file)) => represent(asked, &file, reply),
            Ok(Found::Directory(_)) => redirect(asked, path, query, reply),
            Ok(Found::Special) => {
                reply.page(403, "This is no file that could be sent.");
            }
            Err(error) => self.no_file(asked, &error, reply),
        }
    }

    /// A path that ends in a slash: its `index.html`, else its entries.
    fn directory(&self, asked: &Asked, path: &mut Vec<u8>, reply: &mut Reply) {
        let length = path.len();
        path.extend_from_slice(b"index.html");
        let index = self.store.find(&self.root, path);
        path.truncate(length);
        match index {
            Ok(Found::File(file)) => {
                asked.trace.why(|| {
                    "a directory's file is its index.html: a custom of \
                     servers, in no RFC"
                        .into()
                });
                return represent(asked, &file, reply);
            }
            Err(error) if error.kind() != ErrorKind::NotFound => {
                return self.no_file(asked, &error, reply);
            }
            _ => {}
        }
        match self.store.find(&self.root, path) {
            Ok(Found::Directory(directory)) => {
                self.list(asked, &directory, path, reply);
            }
            Ok(_) => self.not_found(asked, reply),
            Err(error) => self.no_file(asked, &error, reply),
        }
    }

    fn list(
        &self,
        asked: &Asked,
        directory: &File,
        path: &[u8],
        reply: &mut Reply,
    ) {
        if !self.listing {
            reply.page(403, "This directory is not listed.");
            return;
        }
        match listing::page(directory, path, self.dotfiles) {
            Ok(page) => {
                reply.begin(200);
                reply.field("Content-Type", "text/html; charset=utf-8");
                reply.field("X-Content-Type-Options", "nosniff");
                reply.content = Content::Bytes(page);
            }
            Err(error) => self.no_file(asked, &error, reply),
        }
    }

    /// Why there is no file, as a status.
    fn no_file(&self, asked: &Asked, error: &io::Error, reply: &mut Reply) {
        match (error.kind(), error.raw_os_error()) {
            (ErrorKind::PermissionDenied, _) => {
                reply.page(403, "The server may not read this file.");
            }
            (ErrorKind::NotFound, _)
            | (
                _,
                Some(
                    libc::ENOTDIR
                    | libc::EXDEV
                    | libc::ELOOP
                    | libc::ENAMETOOLONG
                    | libc::ENXIO,
                ),
            ) => self.not_found(asked, reply),
            (_, Some(libc::EMFILE | libc::ENFILE | libc::EAGAIN)) => {
                reply.page(503, "The server cannot open the file now.");
                reply.field("Retry-After", 1);
            }
            _ => reply.page(500, "The file could not be read."),
        }
    }

    /// 404, with the site's own page for it if there is one.
    fn not_found(&self, asked: &Asked, reply: &mut Reply) {
        asked.trace.why(|| {
            "404: nothing by that name beneath the root. RFC 9110 §15.5.5"
                .into()
        });
        match self.store.find(&self.root, b"/404.html") {
            Ok(Found::File(page)) => {
                reply.begin(404);
                reply.field("Content-Type", page.media_type);
                reply.field("X-Content-Type-Options", "nosniff");
                reply.content = Content::Whole(page);
            }
            _ => reply.page(404, "There is nothing by that name here."),
        }
    }
}

fn options(reply: &mut Reply) {
    reply.begin(204);
    reply.field("Allow", ALLOW);
}

/// The request as it was received, for readers and tests.
fn echo(asked: &Asked, reply: &mut Reply) {
    reply.begin(200);
    reply.field("Content-Type", "text/plain; charset=utf-8");
    reply.field("X-Content-Type-Options", "nosniff");
    reply.content = Content::Bytes([asked.head, asked.body].concat());
}

/// A directory's name without its slash would break the relative links in
/// it. The Location is a path, and one slash begins it, as `answer` has seen
/// to: `//host` would lead to another server.
fn redirect(
    asked: &Asked,
    path: &[u8],
    query: Option<&str>,
    reply: &mut Reply,
) {
    asked.trace.why(|| {
        "301: a directory's path ends in a slash, or relative links in it \
         would miss. RFC 9110 §15.4.2"
            .into()
    });
    let path = encode_path(path);
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    reply.page(301, "This is a directory: its path ends in a slash.");
    reply.field("Location", format_args!("{path}/{query}"));
}

/// A file: its conditions, its ranges, or the whole.
pub fn represent(asked: &Asked, file: &Arc<Representation>, reply: &mut Reply) {
    let fields = &asked.request.fields;
    let validators =
        Validators { etag: &file.etag, last_modified: file.last_modified };
    let now = date::now();
    match condition::evaluate(fields, &validators, now) {
        Verdict::Failed(why) => {
            asked.trace.why(|| why.into());
            return reply.page(412, "The file is not in the state asked for.");
        }
        Verdict::NotModified(why) => {
            asked.trace.why(|| why.into());
            reply.begin(304);
            reply.field("Last-Modified", date::format(file.last_modified));
            return reply.field("ETag", &file.etag);
        }
        Verdict::Proceed(why) => asked.trace.why(|| why.into()),
    }
    asked.trace.why(|| {
        format!("{}: by the name's extension. RFC 9110 §8.3", file.media_type)
    });
    // "A server MUST ignore a Range header field received with a request
    // method that is unrecognized or for which range handling is not
    // defined. For this specification, GET is the only method
    // [...]" RFC 9110 §14.2
    if asked.request.method == "GET" && fields.get("range").is_some() {
        let length = file.stamp.size;
        match condition::ranges(fields, &validators, length, now) {
            Ranges::Whole(why) => asked.trace.why(|| why.into()),
            Ranges::Parts(spans) => {
                asked.trace.why(|| {
                    "206: the parts asked for. RFC 9110 §15.3.7".into()
                });
                return partial(file, &spans, reply);
            }
            Ranges::Unsatisfiable => {
                asked.trace.why(|| {
                    "416: no range begins within the file. RFC 9110 \
                     §15.5.17"
                        .into()
                });
                reply.page(416, "The file has no such range.");
                let value = format_args!("bytes */{length}");
                return reply.field("Content-Range", value);
            }
        }
    }
    reply.begin(200);
    reply.fields(&file.fields);
    reply.content = Content::Whole(file.clone());
}

/// 206: one part as it is, several as multipart/byteranges.
/// RFC 9110 §15.3.7
fn partial(file: &Arc<Representation>, spans: &[ByteRange], reply: &mut Reply) {
    let length = file.stamp.size;
    let range =
        |(first, last): &ByteRange| format!("bytes {first}-{last}/{length}");
    reply.begin(206);
    if let [span] = spans {
        reply.fields(&file.fields);
        reply.field("Content-Range", range(span));
        let parts = vec![Part { before: Vec::new(), span: *span }];
        let of = file.clone();
        reply.content = Content::Parts { of, parts, after: Vec::new() };
        return;
    }
    let (kind, parts, after) = multipart(file.media_type, length, spans);
    reply.field("Content-Type", kind);
    // all the file's fields but the first, its own Content-Type
    let first_line = file.fields.iter().position(|b| *b == b'\n');
    reply.fields(&file.fields[first_line.map_or(0, |at| at + 1)..]);
    reply.content = Content::Parts { of: file.clone(), parts, after };
}

/// Several parts as one content: its type, the parts with what stands before
/// each, and what stands behind them all. RFC 9110 §14.6
pub fn multipart(
    media_type: &str,
    length: u64,
    spans: &[ByteRange],
) -> (String, Vec<Part>, Vec<u8>) {
    let boundary = boundary();
    let kind = format!("multipart/byteranges; boundary={boundary}");
    let part = |(i, (first, last)): (usize, &ByteRange)| {
        let line_end = if i == 0 { "" } else { "\r\n" };
        let before = format!(
            "{line_end}--{boundary}\r\nContent-Type: {media_type}\r\n\
             Content-Range: bytes {first}-{last}/{length}\r\n\r\n"
        );
        Part { before: before.into_bytes(), span: (*first, *last) }
    };
    let parts = spans.iter().enumerate().map(part).collect();
    let after = format!("\r\n--{boundary}--\r\n").into_bytes();
    (kind, parts, after)
}

/// A line that stands in no file, since nobody could guess it.
fn boundary() -> String {
    let mut random = [0; 16];
    // Without randomness a fixed boundary is still a boundary.
    let _ = getrandom::fill(&mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
