//! A stored response: what was asked, what came, and how what is stored is
//! matched with a request (RFC 9111 §4.1) and made fresh by a 304 (§4.3.4).

use std::sync::Arc;

use super::directives::{directives, is};
use super::disk::Saved;
use super::why::WhyNot;
use super::{Policy, may_keep};
use crate::http::condition::Validators;
use crate::http::date;
use crate::http::fields::{Fields, Span};
use crate::http::hop::end_to_end;
use crate::http::message::Response;

/// What a stored response costs besides head and content.
const COST: u64 = 512;

/// A response as it is stored. It never changes: a 304 makes a new one with
/// the same content.
#[derive(Clone)]
pub struct Stored {
    /// The target URI: the key. RFC 9111 §2
    pub uri: Arc<str>,
    /// The fields of the request that Vary names: name and value.
    pub varies: Vec<Varying>,
    /// Status line and field lines, each with CRLF; no empty line.
    pub head: Vec<u8>,
    pub status: u16,
    pub policy: Policy,
    pub asked: i64,
    pub received: i64,
    /// `None` as long as nothing tells.
    pub length: Option<u64>,
    pub etag: String,
    pub last_modified: Option<i64>,
    /// Its Date.
    pub made: i64,
    pub content: Content,
}

/// A field of the request, in lower case, and its value, if it was there.
pub type Varying = (String, Option<Vec<u8>>);

/// Where the content is.
#[derive(Clone)]
pub enum Content {
    /// Still being received.
    Coming,
    Memory(Arc<Vec<u8>>),
    Disk(Arc<Saved>),
}

impl Stored {
    /// What is to be stored of a response to a request with these fields;
    /// `via` is our own line.
    pub fn new(
        uri: &Arc<str>,
        request: &Fields,
        status_line: &[u8],
        response: &Response,
        via: &str,
        times: (i64, i64),
    ) -> Stored {
        let fields = &response.fields;
        let mut head = status_line.to_vec();
        head.extend_from_slice(b"\r\n");
        for (name, value) in end_to_end(fields) {
            let own = name.eq_ignore_ascii_case(b"age")
                || name.eq_ignore_ascii_case(b"trailer");
            if !own && !is_private(fields, name) {
                add_line(&mut head, name, value);
            }
        }
        if fields.get("date").is_none() {
            let received = date::format(times.1);
            add_line(&mut head, b"Date", received.as_bytes());
        }
        add_line(&mut head, b"Via", via.as_bytes());
        Stored::from_head(uri, varies(request, fields), head, response, times)
    }

    /// `head` as `new` makes it, `response` with its Age.
    pub fn from_head(
        uri: &Arc<str>,
        varies: Vec<Varying>,
        head: Vec<u8>,
        response: &Response,
        (asked, received): (i64, i64),
    ) -> Stored {
        let fields = &response.fields;
        let text = |name| fields.text(name);
        let when = |name| text(name).and_then(|t| date::parse(t, received));
        Stored {
            uri: uri.clone(),
            varies,
            head,
            status: response.status,
            policy: Policy::of(response, asked, received),
            asked,
            received,
            length: None,
            etag: text("etag").unwrap_or_default().to_string(),
            last_modified: when("last-modified"),
            made: when("date").unwrap_or(received),
            content: Content::Coming,
        }
    }

    /// Does this answer a request with these fields? "the cache MUST NOT use
    /// that stored response without revalidation unless all the presented
    /// request header fields nominated by that Vary field value match those
    /// fields in the original request" RFC 9111 §4.1
    pub fn matches(&self, request: &Fields) -> bool {
        let same =
            |(name, value): &Varying| normalised(request, name) == *value;
        self.varies.iter().all(same)
    }

    /// What a client's conditions are compared with. Without Last-Modified
    /// the Date stands in. RFC 9111 §4.3.2
    pub fn validators(&self) -> Validators<'_> {
        let last_modified = self.last_modified.unwrap_or(self.made);
        Validators { etag: &self.etag, last_modified }
    }

    /// The same for If-Range, where nothing stands in.
    pub fn strong_validators(&self) -> Validators<'_> {
        let last_modified = self.last_modified.unwrap_or(i64::MIN);
        Validators { etag: &self.etag, last_modified }
    }

    /// The condition with which the origin is asked whether this is still
    /// good; `None` without a validator. RFC 9111 §4.3.1
    pub fn condition(&self) -> Option<String> {
        let mut lines = String::new();
        if !self.etag.is_empty() {
            lines.push_str(&format!("If-None-Match: {}\r\n", self.etag));
        }
        if let Some(when) = self.last_modified {
            let when = date::format(when);
            lines.push_str(&format!("If-Modified-Since: {when}\r\n"));
        }
        (!lines.is_empty()).then_some(lines)
    }

    /// Does a 304 (or the answer to HEAD) speak of this one? RFC 9111
    /// §4.3.4: a tag that it has must be ours, strong or weak; else its date;
    /// without either, it can only mean what was asked about.
    pub fn is_meant_by(&self, response: &Response) -> bool {
        let (fields, received) = (&response.fields, self.received);
        if let Some(etag) = fields.text("etag") {
            return etag == self.etag;
        }
        match fields.text("last-modified") {
            Some(text) => date::parse(text, received) == self.last_modified,
            None => true,
        }
    }

    /// The same content with the fields of a 304: "the cache MUST update its
    /// header fields with the header fields provided in the 304 (Not
    /// Modified) response" RFC 9111 §4.3.4, but for those that describe the
    /// content as it is stored. §3.2
    /// With it comes whether that may be kept: what the 304 says may forbid
    /// keeping it. `request`: the fields of the one that was validated for.
    pub fn freshened(
        &self,
        request: &Fields,
        response: &Response,
        times: (i64, i64),
    ) -> Option<(Stored, Result<(), WhyNot>)> {
        let excepted: [&[u8]; 5] = [
            b"content-encoding",
            b"content-range",
            b"content-type",
            b"age",
            b"via",
        ];
        let given = &response.fields;
        let new: Vec<(&[u8], &[u8])> = end_to_end(given)
            .filter(|(name, _)| !is_private(given, name))
            .filter(|(name, _)| {
                !excepted.iter().any(|e| name.eq_ignore_ascii_case(e))
            })
            .collect();
        let mut old_head = self.head.clone();
        old_head.extend_from_slice(b"\r\n");
        let line = old_head.iter().position(|b| *b == b'\n')? + 1;
        let mut head = old_head[..line].to_vec();
        let mut spans = Vec::new();
        let old = Fields::parse(&old_head, line, false, &mut spans).ok()?;
        for (name, value) in old.iter() {
            if !new.iter().any(|(n, _)| n.eq_ignore_ascii_case(name)) {
                add_line(&mut head, name, value);
            }
        }
        for (name, value) in new {
            add_line(&mut head, name, value);
        }
        // parsed again as a whole, with the Age of the 304
        let mut whole = head.clone();
        if let Some(age) = given.get("age") {
            add_line(&mut whole, b"Age", age);
        }
        whole.extend_from_slice(b"\r\n");
        let mut spans = Vec::<Span>::new();
        let response = Response::parse(&mut whole, &mut spans).ok()?;
        let varies = varies(request, &response.fields);
        let may_keep = may_keep(request, &response);
        let fresh =
            Stored::from_head(&self.uri, varies, head, &response, times);
        let (length, content) = (self.length, self.content.clone());
        Some((Stored { length, content, ..fresh }, may_keep))
    }

    /// Head and content, in octets: what it takes of the cache.
    pub fn size(&self) -> u64 {
        let head = (self.head.len() + self.uri.len()) as u64;
        head + self.length.unwrap_or(0) + COST
    }
}

pub fn add_line(head: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    head.extend_from_slice(name);
    head.extend_from_slice(b": ");
    head.extend_from_slice(value);
    head.extend_from_slice(b"\r\n");
}

/// The request's fields that the response's Vary names.
fn varies(request: &Fields, response: &Fields) -> Vec<Varying> {
    let name = |n: &[u8]| String::from_utf8_lossy(n).to_ascii_lowercase();
    let names = response.list("vary").map(name);
    names.map(|n| (n.clone(), normalised(request, &n))).collect()
}

/// A field's value, as it is compared: lines combined, and in the lists that
/// begin with Accept, white space removed "where allowed in the header
/// field's syntax". RFC 9111 §4.1
fn normalised(request: &Fields, name: &str) -> Option<Vec<u8>> {
    let is_list = name.starts_with("accept");
    // what was not passed on did not choose: `end_to_end`
    let lines: Vec<Vec<u8>> = end_to_end(request)
        .filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()))
        .map(|(_, line)| {
            let members = line.split(|b| is_list && *b == b',');
            members.map(<[u8]>::trim_ascii).collect::<Vec<_>>().join(&b',')
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join(&b','))
}

/// Is the field named by `private="…"`? Then it is for one user alone, and
/// the rest may be stored. RFC 9111 §5.2.2.7
fn is_private(fields: &Fields, field_name: &[u8]) -> bool {
    directives(fields).any(|(name, names)| {
        is(name, "private")
            && names.is_some_and(|names| {
                let names = names.strip_prefix(b"\"").unwrap_or(names);
                let names = names.strip_suffix(b"\"").unwrap_or(names);
                names
                    .split(|b| *b == b',')
                    .any(|n| n.trim_ascii().eq_ignore_ascii_case(field_name))
            })
    })
}
