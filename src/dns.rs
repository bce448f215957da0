//! DNS, the Internet's directory service: KR 2.4, RFC 1035.
//!
//! Read `message` first, then `resolver`, then `lookup`.

pub mod lookup;

mod message;
mod record;
mod resolver;
pub mod reverse;

use crate::error::Error;
use crate::net::Family;
use crate::trace::Trace;
use message::Name;
use resolver::Resolver;

/// Where the system says which servers to ask.
pub const RESOLV_CONF: &str = "/etc/resolv.conf";

/// What this machine itself knows, before any server is asked.
const HOSTS: &str = "/etc/hosts";

/// The mail exchangers of a domain, preference and host, in the order that
/// they came in. A domain without any has an empty list; `None`: there is no
/// such domain. A server that fails is an error: to be tried again later.
pub fn exchangers(
    domain: &str,
    family: Family,
    trace: &Trace,
) -> Result<Option<Vec<(u16, String)>>, Error> {
    let name = Name::from_text(domain).map_err(Error::Usage)?;
    let resolver = Resolver::from_file(RESOLV_CONF, family)?;
    let (_, message) = resolver.ask(&name, record::MX, trace)?;
    match message.header.rcode() {
        0 => {}
        3 => return Ok(None),
        other => {
            let rcode = resolver::rcode_name(other);
            let doing = format!("look up the mail exchangers of {domain}");
            return Err(Error::protocol(doing, rcode));
        }
    }
    let mut all = Vec::new();
    for record in message.answers.iter().filter(|r| r.kind == record::MX) {
        // PREFERENCE EXCHANGE. RFC 1035 §3.3.9
        let parts = record.data.split_once(' ');
        let (preference, host) = parts.unwrap_or_default();
        let host = match host.trim_end_matches('.') {
            "" => ".".to_string(),
            host => host.to_string(),
        };
        all.push((preference.parse().unwrap_or(u16::MAX), host));
    }
    Ok(Some(all))
}
