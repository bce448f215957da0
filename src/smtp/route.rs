//! Where mail for a domain goes: its mail exchangers in order of preference,
//! else its own address. RFC 5321 §5.1; MX of RFC 1035 §3.3.9; KR 2.4.3

use std::collections::BTreeMap;

use super::address::Address;
use crate::dns::exchangers;
use crate::error::Error;
use crate::net::Family;
use crate::trace::Trace;

/// Mail goes between servers here; RFC 5321 §4.5.4.2.
pub const PORT: u16 = 25;
/// Users hand mail in here. RFC 6409 §3.1
pub const SUBMISSION: u16 = 587;
/// The same in TLS from the first octet on. RFC 8314 §3.3
pub const SUBMISSIONS: u16 = 465;

/// Hosts that take a domain's mail, or why there is none.
pub enum Route {
    Hosts(Vec<String>),
    /// It takes no mail (RFC 7505 §3), or there is no such domain.
    None(String),
}

/// Recipients by their domain, in order of appearance.
pub fn by_domain(to: &[Address]) -> Vec<(String, Vec<&Address>)> {
    let mut groups: Vec<(String, Vec<&Address>)> = Vec::new();
    let mut known = BTreeMap::new();
    for address in to {
        let domain = address.domain.to_ascii_lowercase();
        let at = *known.entry(domain.clone()).or_insert(groups.len());
        if at == groups.len() {
            groups.push((domain, Vec::new()));
        }
        groups[at].1.push(address);
    }
    groups
}

/// The hosts for a domain; an address literal is its own host.
pub fn find(
    domain: &str,
    family: Family,
    trace: &Trace,
) -> Result<Route, Error> {
    if let Some(literal) = domain.strip_prefix('[') {
        let address = literal.trim_end_matches(']');
        let tag = address.get(..5).filter(|t| t.eq_ignore_ascii_case("ipv6:"));
        let address = tag.map_or(address, |_| &address[5..]);
        return Ok(Route::Hosts(vec![address.to_string()]));
    }
    if domain.is_empty() || domain == "localhost" {
        return Ok(Route::Hosts(vec!["localhost".into()]));
    }
    let Some(mut all) = exchangers(domain, family, trace)? else {
        return Ok(Route::None(format!("there is no domain {domain}")));
    };
    if all.is_empty() {
        trace.why(|| {
            format!(
                "no MX: {domain} itself is the only one. \"the address is \
                 treated as if it was associated with an implicit MX RR\" \
                 RFC 5321 §5.1"
            )
        });
        return Ok(Route::Hosts(vec![domain.to_string()]));
    }
    if let [(_, only)] = all.as_slice() {
        if only == "." {
            let why = format!("{domain} takes no mail: null MX (RFC 7505)");
            return Ok(Route::None(why));
        }
    }
    // "the sender-SMTP MUST randomize them to spread the load across
    // multiple mail exchangers": RFC 5321 §5.1
    let random = |_: &(u16, String)| getrandom::u32().unwrap_or(0);
    all.sort_by_cached_key(|exchanger| (exchanger.0, random(exchanger)));
    all.retain(|(_, host)| host != ".");
    trace.fact(|| {
        let host = |(preference, host): &(u16, String)| {
            format!("{host} (preference {preference})")
        };
        let hosts: Vec<String> = all.iter().map(host).collect();
        format!("mail for {domain} goes to {}", hosts.join(", then "))
    });
    Ok(Route::Hosts(all.into_iter().map(|(_, host)| host).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_grouped_by_domain() {
        let all = ["a@x", "b@y", "c@X", "d@y"];
        let all = all.map(|a| Address::parse(a).unwrap());
        let groups = by_domain(&all);
        let sizes: Vec<(&str, usize)> =
            groups.iter().map(|(d, to)| (d.as_str(), to.len())).collect();
        assert_eq!(sizes, [("x", 2), ("y", 2)]);
    }

    #[test]
    fn a_literal_is_its_own_host() {
        let host = |domain| match find(domain, Family::Any, &Trace::default()) {
            Ok(Route::Hosts(hosts)) => hosts.join(" "),
            _ => String::new(),
        };
        assert_eq!(host("[127.0.0.1]"), "127.0.0.1");
        assert_eq!(host("[IPv6:::1]"), "::1");
    }
}
