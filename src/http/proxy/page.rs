//! The proxy's own page: what is stored, why the last requests hit or
//! missed, and the computation of KR 2.2.5 with this run's own numbers.

use std::fmt::Write;
use std::time::Duration;

use super::counts::{Dealt, Numbers, Recent};
use super::session::{Next, Session};
use crate::http::body::Framing;
use crate::http::cache::store::Store;
use crate::http::cache::stored::Stored;
use crate::http::date;
use crate::http::reply::{Content, escape_html};

/// Stored objects that are shown.
const SHOWN: usize = 100;

const STYLE: &str = "\
:root{color-scheme:light dark}\
body{font:15px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;\
padding:0 1rem}\
h1{font-size:1.5rem}h2{font-size:1.15rem;margin-top:2rem}\
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%}\
.wide table{min-width:44rem}\
th,td{text-align:left;padding:.25rem .8rem .25rem 0;vertical-align:top;\
border-bottom:1px solid #8884}\
td.n,th.n{text-align:right;white-space:nowrap}code{overflow-wrap:anywhere}\
meter{width:6rem}.why{font-size:.85rem;opacity:.8}";

impl Session<'_> {
    /// `http://topdown.proxy/` through the proxy, `/` of the proxy itself.
    pub fn own_page(&mut self, framing: Framing, dealt: &mut Dealt) -> Next {
        let method = dealt.request.map_or("", |request| request.method);
        let reply = &mut self.reply;
        match method {
            "GET" | "HEAD" => {
                reply.begin(200);
                reply.field("Content-Type", "text/html; charset=utf-8");
                reply.field("Cache-Control", "no-store");
                reply.field(
                    "Content-Security-Policy",
                    "default-src 'none'; style-src 'unsafe-inline'; img-src \
                     data:",
                );
                let store = self.proxy.store.as_ref();
                let port = self.proxy.origins.own.port();
                let page = page(&self.proxy.counts.so_far(), store, port);
                reply.content = Content::Bytes(page.into_bytes());
            }
            "OPTIONS" => {
                reply.begin(204);
                reply.field("Allow", "GET, HEAD, OPTIONS");
            }
            _ => {
                reply.page(405, "The proxy's own page is only read.");
                reply.field("Allow", "GET, HEAD, OPTIONS");
            }
        }
        self.send_reply(framing != Framing::Empty, dealt)
    }
}

fn page(numbers: &Numbers, store: Option<&Store>, port: u16) -> String {
    let mut html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <link rel=\"icon\" href=\"data:,\">\n\
         <title>topdown web-proxy</title>\n<style>{STYLE}</style>\n\
         <h1>topdown web-proxy</h1>\n\
         <p>Ask for a page like this: \
         <code>http://localhost:{port}/www.example.com/</code>, or give the \
         browser <code>localhost:{port}</code> as its HTTP proxy.\n"
    );
    html.push_str(&computation(numbers));
    match store {
        None => {
            html.push_str("<p>Nothing is kept (<code>--no-cache</code>).\n")
        }
        Some(store) => html.push_str(&stored_table(store)),
    }
    html.push_str(&recent_table(numbers));
    html
}

/// "The average response time" of KR 2.2.5: hit rate × the store's delay +
/// miss rate × the origins' delay.
fn computation(numbers: &Numbers) -> String {
    let hits = numbers.store;
    let sum = |a: (u64, Duration), b: (u64, Duration)| (a.0 + b.0, a.1 + b.1);
    let others = sum(numbers.validated, sum(numbers.collapsed, numbers.origin));
    let all = hits.0 + others.0;
    let mean = |(count, total): (u64, Duration)| match count {
        0 => 0.0,
        count => total.as_secs_f64() * 1e3 / count as f64,
    };
    let rate = if all == 0 { 0.0 } else { hits.0 as f64 / all as f64 };
    let (near, far) = (mean(hits), mean(others));
    let with = rate * near + (1.0 - rate) * far;
    let without = mean(numbers.origin);
    let mut html = String::from("<h2>What the cache is good for</h2>\n");
    html.push_str("<div class=\"scroll\"><table>\n");
    let rows = [
        ("from the store", hits),
        ("from the store, after the origin said 304", numbers.validated),
        ("from another request's fetch", numbers.collapsed),
        ("from the origin", numbers.origin),
    ];
    html.push_str("<tr><th>Answers<th class=\"n\">number");
    html.push_str("<th class=\"n\">mean delay\n");
    for (what, row) in rows {
        let (count, mean) = (row.0, mean(row));
        let _ = writeln!(
            html,
            "<tr><td>{what}<td class=\"n\">{count}<td class=\"n\">{mean:.3} ms"
        );
    }
    let _ = write!(
        html,
        "</table></div>\n<p>Besides: {} tunnels, {} answers of the proxy's \
         own.\n<p>The delay is that until an answer begins. With the hit rate \
         {rate:.3} of this run the mean is, as in KR 2.2.5,\n\
         <p><code>{rate:.3} × {near:.3} ms + {:.3} × {far:.3} ms = {with:.3} \
         ms</code>\n<p>and without the cache it would be that from the \
         origin, <code>{without:.3} ms</code>.\n",
        numbers.tunnels,
        numbers.here,
        1.0 - rate,
    );
    html
}

fn stored_table(store: &Store) -> String {
    let (stored, count, size) = store.list(SHOWN);
    let mut html = format!(
        "<h2>What is stored</h2>\n<p>{count} objects, {} KiB of {} KiB; the \
         last used first.\n<div class=\"scroll wide\"><table>\n<tr><th>Object\
         <th class=\"n\">octets<th class=\"n\">age<th>fresh for<th>by\n",
        size >> 10,
        store.limit() >> 10
    );
    let now = date::now();
    for stored in stored {
        html.push_str(&stored_row(&stored, now));
    }
    html.push_str("</table></div>\n");
    html
}

fn stored_row(stored: &Stored, now: i64) -> String {
    let policy = &stored.policy;
    let (age, lifetime, ttl) =
        (policy.age(now), policy.lifetime, policy.ttl(now));
    let varies: Vec<&str> =
        stored.varies.iter().map(|(name, _)| name.as_str()).collect();
    let varies = match varies.is_empty() {
        true => String::new(),
        false => format!(" (varies by {})", varies.join(", ")),
    };
    let left = match ttl > 0 {
        true => format!("{ttl} s"),
        false => "stale".into(),
    };
    format!(
        "<tr><td><code>{}</code>{}<td class=\"n\">{}<td class=\"n\">{age} s\
         <td><meter max=\"{}\" value=\"{}\">{left}</meter> {left}<td>{}\n",
        escape_html(&stored.uri),
        escape_html(&varies),
        stored.length.unwrap_or(0),
        lifetime.max(1),
        ttl.max(0),
        policy.source,
    )
}

fn recent_table(numbers: &Numbers) -> String {
    let mut html = String::from(
        "<h2>The last requests</h2>\n<div class=\"scroll wide\"><table>\n\
         <tr><th>Request<th class=\"n\">status<th class=\"n\">delay<th>why\n",
    );
    for recent in &numbers.recent {
        html.push_str(&recent_row(recent));
    }
    html.push_str("</table></div>\n");
    html
}

fn recent_row(recent: &Recent) -> String {
    format!(
        "<tr><td><code>{} {}</code><td class=\"n\">{}<td class=\"n\">{:.3} ms\
         <td><code>{}</code><div class=\"why\">{}</div>\n",
        escape_html(&recent.method),
        escape_html(&recent.uri),
        recent.status,
        recent.delay.as_secs_f64() * 1e3,
        escape_html(&recent.cache_status),
        escape_html(&recent.why),
    )
}
