//! The connections to origin servers: names looked up and remembered for a
//! moment, addresses tried, and connections kept open for the next request
//! (KR 2.2.2: a persistent connection saves a round trip and more).

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Doing, Error};
use crate::http::origin;
use crate::http::url::Url;
use crate::net::{self, Family};
use crate::trace::Trace;
use crate::wire::Wire;

/// What a name server said is asked again after this: shorter than any TTL
/// that means something.
const REMEMBERED: Duration = Duration::from_secs(5);
const MAX_NAMES: usize = 1024;

/// Idle connections that are kept, to all origins and to one.
const MAX_KEPT: usize = 512;
const MAX_KEPT_TO_ONE: usize = 128;
/// Servers close idle ones after a few seconds (nginx 75, Apache 5): to ask
/// on one that is just being closed costs a second try.
const KEPT_FOR: Duration = Duration::from_secs(4);

/// All that leads to the origins.
pub struct Origins {
    /// The longest of every single wait for an origin.
    pub patience: Duration,
    family: Family,
    /// Where we listen: nobody is sent there.
    pub own: SocketAddr,
    names: Mutex<HashMap<String, (Instant, Vec<SocketAddr>)>>,
    kept: Mutex<Kept>,
}

/// By host, port, and whether clients from outside may use it.
type Kept = HashMap<(String, u16, bool), Vec<(Instant, Wire)>>;

/// Why there is no connection.
pub enum NoWay {
    /// It would lead back to this proxy: 508.
    Loop,
    /// To this machine's own services, from outside: 403.
    Inside,
    Fault(Error),
}

impl Origins {
    pub fn new(
        patience: Duration,
        family: Family,
        own: SocketAddr,
    ) -> Result<Arc<Origins>, Error> {
        let (names, kept) = (Mutex::default(), Mutex::default());
        let origins = Arc::new(Origins { patience, family, own, names, kept });
        let swept = origins.clone();
        let sweep = move || {
            loop {
                thread::sleep(KEPT_FOR / 2);
                swept.sweep();
            }
        };
        thread::Builder::new().spawn(sweep).doing(|| "start a thread")?;
        Ok(origins)
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection that is open already, if it still seems to be.
    pub fn take(&self, url: &Url, inside: bool) -> Option<Wire> {
        let key = (url.host.clone(), url.port, inside);
        loop {
            let (_, wire) = self.kept().get_mut(&key)?.pop()?;
            if wire.is_quiet() {
                return Some(wire);
            }
        }
    }

    /// Keeps a connection for later requests.
    pub fn keep(&self, url: &Url, inside: bool, wire: Wire) {
        if !wire.is_quiet() {
            return;
        }
        let mut kept = self.kept();
        let all: usize = kept.values().map(Vec::len).sum();
        let key = (url.host.clone(), url.port, inside);
        let to_one = kept.entry(key).or_default();
        if all < MAX_KEPT && to_one.len() < MAX_KEPT_TO_ONE {
            to_one.push((Instant::now(), wire));
        }
    }

    /// Closes what was idle for too long.
    fn sweep(&self) {
        self.kept().retain(|_, wires| {
            wires.retain(|(since, _)| since.elapsed() < KEPT_FOR);
            !wires.is_empty()
        });
    }

    /// A new connection. `inside`: the client is on this machine itself, and
    /// may ask for what listens here.
    pub fn connect(
        &self,
        url: &Url,
        inside: bool,
        trace: &Trace,
    ) -> Result<Wire, NoWay> {
        let addresses = self.addresses(url, inside)?;
        origin::connect(&addresses, self.patience, trace).map_err(NoWay::Fault)
    }

    /// Where a client may be led.
    pub fn addresses(
        &self,
        url: &Url,
        inside: bool,
    ) -> Result<Vec<SocketAddr>, NoWay> {
        let addresses = self.resolve(url).map_err(NoWay::Fault)?;
        let local = |a: &SocketAddr| {
            let ip = a.ip().to_canonical();
            ip.is_loopback() || ip.is_unspecified()
        };
        if addresses.iter().any(|address| self.is_own(address)) {
            return Err(NoWay::Loop);
        }
        if !inside && addresses.iter().any(local) {
            return Err(NoWay::Inside);
        }
        Ok(addresses)
    }

    /// Asks the name servers, or remembers.
    fn resolve(&self, url: &Url) -> Result<Vec<SocketAddr>, Error> {
        let lock = || self.names.lock().unwrap_or_else(PoisonError::into_inner);
        let with_port = |all: &[SocketAddr]| -> Vec<SocketAddr> {
            all.iter().map(|a| SocketAddr::new(a.ip(), url.port)).collect()
        };
        if let Some((since, all)) = lock().get(&url.host) {
            if since.elapsed() < REMEMBERED {
                return Ok(with_port(all));
            }
        }
        let limit = self.patience;
        let all = net::resolve(&url.host, url.port, self.family, limit)?;
        let mut names = lock();
        if names.len() >= MAX_NAMES {
            names.clear();
        }
        names.insert(url.host.clone(), (Instant::now(), all.clone()));
        Ok(all)
    }

    /// Is this the address that we listen on?
    fn is_own(&self, address: &SocketAddr) -> bool {
        let (own, ip) = (self.own.ip(), address.ip().to_canonical());
        address.port() == self.own.port()
            && (ip == own.to_canonical()
                || ip.is_unspecified()
                || own.is_unspecified() && is_of_this_machine(ip))
    }
}

/// One can bind only to addresses of one's own.
fn is_of_this_machine(ip: IpAddr) -> bool {
    UdpSocket::bind((ip, 0)).is_ok()
}
