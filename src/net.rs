//! Names, addresses and sockets: what every tool does before its protocol
//! begins.
//!
//! `resolve` turns a host into addresses, `connect` tries them all under one
//! deadline, `listen` opens a welcoming socket (KR 2.7.2).

use std::io::{self, ErrorKind};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener,
    TcpStream, ToSocketAddrs,
};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crate::args::{self, Args};
use crate::error::{Doing, Error, reason};

/// How many connections the kernel completes before we accept them.
/// The kernel cuts it to net.core.somaxconn; std's own value is 128, which
/// a thousand clients at once would overflow.
const BACKLOG: i32 = 4096;

/// A name server may take its time, though little is waited for an answer.
const LOOK_UP: Duration = Duration::from_secs(5);

/// Which addresses of a name are wanted: `-4`, `-6`, or any.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    #[default]
    Any,
    V4,
    V6,
}

impl Family {
    /// Reads the flags `--ipv4` and `--ipv6`.
    pub fn from_args(args: &mut Args) -> Result<Family, Error> {
        match (args.flag("--ipv4"), args.flag("--ipv6")) {
            (false, false) => Ok(Family::Any),
            (true, false) => Ok(Family::V4),
            (false, true) => Ok(Family::V6),
            _ => Err(Error::Usage("-4 and -6 exclude each other".into())),
        }
    }

    fn wants(self, address: &SocketAddr) -> bool {
        match self {
            Family::Any => true,
            Family::V4 => address.is_ipv4(),
            Family::V6 => address.is_ipv6(),
        }
    }
}

/// A port number, 1 to 65535.
pub fn port(text: &str) -> Result<u16, String> {
    args::number("port", 1..=65_535)(text)
}

/// The operand of `--listen`: `[ADDR:]PORT`, the loopback address unless
/// said otherwise. Port 0 is any free one.
pub fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let bad =
        || format!("8080, 0.0.0.0:8080 or [::]:8080 is wanted, not '{text}'");
    if let Ok(port) = text.parse::<u16>() {
        return Ok(SocketAddr::from(([127, 0, 0, 1], port)));
    }
    match text.strip_prefix("localhost:") {
        Some(port) => {
            let port = port.parse().map_err(|_| bad())?;
            Ok(SocketAddr::from(([127, 0, 0, 1], port)))
        }
        None => text.parse().map_err(|_| bad()),
    }
}

/// Where a client of KR 2.7 sends to, and how: `HOST [PORT]` and options.
pub struct Destination {
    pub host: String,
    port: u16,
    family: Family,
    pub local_port: u16,
    pub timeout: Duration,
}

impl Destination {
    /// Reads operands and options; the defaults are the tool's.
    pub fn from_args(
        args: &mut Args,
        port: u16,
        timeout: Duration,
    ) -> Result<Destination, Error> {
        let given = args.value("--timeout", args::seconds)?;
        let local_port = args.value("--local-port", self::port)?;
        let family = Family::from_args(args)?;
        let host = args.operand("HOST")?;
        let port = match args.optional_operand() {
            Some(text) => self::port(&text).map_err(Error::Usage)?,
            None => port,
        };
        Ok(Destination {
            host,
            port,
            family,
            local_port: local_port.unwrap_or(0),
            timeout: given.unwrap_or(timeout),
        })
    }

    /// All addresses that the host has.
    pub fn resolve(&self) -> Result<Vec<SocketAddr>, Error> {
        let limit = self.timeout.max(LOOK_UP);
        resolve(&self.host, self.port, self.family, limit)
    }
}

/// The addresses of a host, by name or literally (`::1`, `[::1]`).
/// The system's resolver has no time limit of its own, so it is asked in a
/// thread that is left behind when it takes longer than `limit`.
pub fn resolve(
    host: &str,
    port: u16,
    family: Family,
    limit: Duration,
) -> Result<Vec<SocketAddr>, Error> {
    let doing = || format!("look up {host}");
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let all: Vec<SocketAddr> = match bare.parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, port)],
        Err(_) => {
            let (answer, answered) = mpsc::channel();
            let name = host.to_string();
            let ask = move || {
                let found = (name.as_str(), port).to_socket_addrs();
                let _ = answer.send(found.map(|all| all.collect()));
            };
            thread::Builder::new().spawn(ask).doing(doing)?;
            answered
                .recv_timeout(limit)
                .unwrap_or_else(|_| Err(ErrorKind::TimedOut.into()))
                .map_err(no_such_host)
                .doing(doing)?
        }
    };
    let mut wanted = Vec::new();
    for address in all.into_iter().filter(|a| family.wants(a)) {
        if !wanted.contains(&address) {
            wanted.push(address);
        }
    }
    if wanted.is_empty() {
        let fault = io::Error::other("no address of the wanted family");
        return Err(fault).doing(doing);
    }
    Ok(wanted)
}

/// std's "failed to lookup address information: …", without the preamble.
fn no_such_host(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once("information: ") {
        Some((_, cause)) => io::Error::other(cause.to_string()),
        None => error,
    }
}

/// Opens a connection to the first address that takes it. All of them
/// together have `limit`; each has at most what is left, shared among those
/// not yet tried. `local_port` binds our own side first (0: any).
pub fn connect(
    addresses: &[SocketAddr],
    local_port: u16,
    limit: Duration,
) -> Result<TcpStream, Error> {
    let deadline = Instant::now() + limit;
    let mut faults = Vec::new();
    for (tried, address) in addresses.iter().enumerate() {
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / (addresses.len() - tried) as u32;
        let share = share.max(Duration::from_millis(1));
        let outcome = match local_port {
            0 => TcpStream::connect_timeout(address, share),
            port => connect_from(port, address, share),
        };
        match outcome {
            Ok(socket) => return Ok(socket),
            Err(error) => faults.push((address, error)),
        }
    }
    let count = faults.len();
    let Some((address, source)) = faults.pop() else {
        return Err(Error::Usage("no address to connect to".into()));
    };
    let mut doing = format!("connect to {address}");
    if count > 1 {
        let earlier: Vec<String> =
            faults.iter().map(|(a, e)| format!("{a}: {}", reason(e))).collect();
        doing = format!("{} and {address}", earlier.join(", "));
        doing = format!("connect to {doing}");
    }
    Err(Error::Io { doing, source })
}

/// socket, bind, connect: a client that chooses its own port. std binds no
/// TCP client, so the calls are the system's own.
fn connect_from(
    port: u16,
    address: &SocketAddr,
    limit: Duration,
) -> io::Result<TcpStream> {
    let local: SocketAddr = match address {
        SocketAddr::V4(_) => ([0, 0, 0, 0], port).into(),
        SocketAddr::V6(_) => ([0u16; 8], port).into(),
    };
    let domain = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    // SAFETY: plain numbers go in; a fresh descriptor, or -1, comes out.
    let fd = check(unsafe {
        libc::socket(domain, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0)
    })?;
    // SAFETY: the descriptor is new and nobody else's.
    let socket = TcpStream::from(unsafe { OwnedFd::from_raw_fd(fd) });
    set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let (storage, length) = sockaddr(&local);
    let storage = (&raw const storage).cast();
    // SAFETY: `storage` is a sockaddr of `length` bytes that outlives this.
    check(unsafe { libc::bind(fd, storage, length) })?;
    let (storage, length) = sockaddr(address);
    let storage = (&raw const storage).cast();
    // connect has no limit of its own; on Linux the send time limit bounds it
    socket.set_write_timeout(Some(limit))?;
    // SAFETY: as for bind.
    let connected = check(unsafe { libc::connect(fd, storage, length) });
    match connected {
        Err(e) if e.raw_os_error() == Some(libc::EINPROGRESS) => {
            return Err(ErrorKind::TimedOut.into());
        }
        other => other?,
    };
    socket.set_write_timeout(None)?;
    Ok(socket)
}

/// The C form of an address, and its length.
pub fn sockaddr(
    address: &SocketAddr,
) -> (libc::sockaddr_storage, libc::socklen_t) {
    // SAFETY: all zeros is a valid sockaddr_storage.
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let length = match address {
        SocketAddr::V4(v4) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in>();
            let family = libc::AF_INET as libc::sa_family_t;
            // SAFETY: sockaddr_storage is made to hold any sockaddr.
            unsafe {
                (*place).sin_family = family;
                (*place).sin_port = v4.port().to_be();
                (*place).sin_addr.s_addr = u32::from_ne_bytes(v4.ip().octets());
            }
            size_of::<libc::sockaddr_in>()
        }
        SocketAddr::V6(v6) => {
            let place = (&raw mut storage).cast::<libc::sockaddr_in6>();
            let family = libc::AF_INET6 as libc::sa_family_t;
            // SAFETY: as above.
            unsafe {
                (*place).sin6_family = family;
                (*place).sin6_port = v6.port().to_be();
                (*place).sin6_addr.s6_addr = v6.ip().octets();
                (*place).sin6_scope_id = v6.scope_id();
            }
            size_of::<libc::sockaddr_in6>()
        }
    };
    (storage, length as libc::socklen_t)
}

/// The address that a C form holds, if it is one of IP.
pub fn socket_address(storage: &libc::sockaddr_storage) -> Option<SocketAddr> {
    let place = &raw const *storage;
    match i32::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says which struct lies there, and all of
            // its bytes are initialised: they are numbers.
            let v4 = unsafe { &*place.cast::<libc::sockaddr_in>() };
            let ip = Ipv4Addr::from(v4.sin_addr.s_addr.to_ne_bytes());
            let port = u16::from_be(v4.sin_port);
            Some(SocketAddr::from((ip, port)))
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let v6 = unsafe { &*place.cast::<libc::sockaddr_in6>() };
            let ip = Ipv6Addr::from(v6.sin6_addr.s6_addr);
            let port = u16::from_be(v6.sin6_port);
            let (flow, scope) = (v6.sin6_flowinfo, v6.sin6_scope_id);
            Some(SocketAddrV6::new(ip, port, flow, scope).into())
        }
        _ => None,
    }
}

/// A welcoming socket: socket, bind, listen, in one call of std's. The
/// second listen only lengthens the queue.
pub fn listen(address: SocketAddr) -> Result<TcpListener, Error> {
    let doing = || format!("listen on {address}");
    let server_socket = TcpListener::bind(address).doing(doing)?;
    // SAFETY: an open listening descriptor and a number.
    check(unsafe { libc::listen(server_socket.as_raw_fd(), BACKLOG) })
        .doing(doing)?;
    Ok(server_socket)
}

/// setsockopt with an int.
pub fn set_option(
    socket: &impl AsRawFd,
    level: i32,
    name: i32,
    value: i32,
) -> io::Result<()> {
    let length = size_of::<i32>() as libc::socklen_t;
    let pointer = (&raw const value).cast();
    let fd = socket.as_raw_fd();
    // SAFETY: `pointer` is to an int of `length` bytes that is alive.
    check(unsafe { libc::setsockopt(fd, level, name, pointer, length) })?;
    Ok(())
}

/// To close this socket will reset the connection: SO_LINGER of 0.
pub fn reset_at_close(socket: &impl AsRawFd) -> io::Result<()> {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let length = size_of::<libc::linger>() as libc::socklen_t;
    let pointer = (&raw const linger).cast();
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    let name = libc::SO_LINGER;
    // SAFETY: `pointer` is to a linger of `length` bytes that is alive.
    check(unsafe { libc::setsockopt(fd, level, name, pointer, length) })?;
    Ok(())
}

/// The longest wait in a read, and in a write, of any socket.
pub fn set_time_limits(
    socket: &impl AsRawFd,
    read: Duration,
    write: Duration,
) -> io::Result<()> {
    let both = [(libc::SO_RCVTIMEO, read), (libc::SO_SNDTIMEO, write)];
    for (name, limit) in both {
        let value = libc::timeval {
            tv_sec: limit.as_secs() as libc::time_t,
            tv_usec: limit.subsec_micros().into(),
        };
        let length = size_of::<libc::timeval>() as libc::socklen_t;
        let pointer = (&raw const value).cast();
        let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
        // SAFETY: `pointer` is to a timeval of `length` bytes, alive.
        check(unsafe { libc::setsockopt(fd, level, name, pointer, length) })?;
    }
    Ok(())
}

/// Raises the soft limit on descriptors to the hard one, as a server with a
/// descriptor a connection must; answers how many there may be.
pub fn raise_descriptor_limit() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 1024, rlim_max: 1024 };
    // SAFETY: the call fills in, or reads, the struct it is given.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) == 0 {
            limit.rlim_cur = limit.rlim_max;
            if libc::setrlimit(libc::RLIMIT_NOFILE, &limit) != 0 {
                libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
            }
        }
    }
    usize::try_from(limit.rlim_cur).unwrap_or(usize::MAX)
}

/// Waits until one of several descriptors is ready, to the nanosecond as
/// the kernel's clock has it; `Duration::MAX` is for ever.
pub fn poll(waits: &mut [libc::pollfd], limit: Duration) -> io::Result<()> {
    let limit = libc::timespec {
        tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    };
    let count = waits.len() as libc::nfds_t;
    let no_mask = std::ptr::null();
    loop {
        // SAFETY: pointer and count are those of a live slice of pollfds,
        // and the limit is alive; no mask is given.
        let ready = check(unsafe {
            libc::ppoll(waits.as_mut_ptr(), count, &limit, no_mask)
        });
        match ready {
            Ok(0) => return Err(ErrorKind::TimedOut.into()),
            Ok(_) => return Ok(()),
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// From now on the kernel wakes us at the moment that `poll` asks for, and
/// not up to 50 microseconds later, to wake several at once.
pub fn wake_exactly() {
    let (slack, unused) = (1 as libc::c_ulong, 0 as libc::c_ulong);
    // SAFETY: plain numbers. That it fails is no harm.
    unsafe {
        libc::prctl(libc::PR_SET_TIMERSLACK, slack, unused, unused, unused);
    }
}

/// C's convention (-1 and errno) as a `Result`.
pub fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    match result {
        -1 => Err(io::Error::last_os_error()),
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn listen_addresses() {
        let text = |t| listen_address(t).map(|a| a.to_string());
        assert_eq!(text("80").unwrap(), "127.0.0.1:80");
        assert_eq!(text("localhost:0").unwrap(), "127.0.0.1:0");
        assert_eq!(text("[::]:80").unwrap(), "[::]:80");
        assert!(text("65536").is_err() && text("::1:x").is_err());
        assert!(text("").is_err());
    }

    #[test]
    fn addresses_in_c_and_back() {
        for text in ["192.0.2.1:7", "[2001:db8::1]:65535", "[fe80::1%3]:1"] {
            let address: SocketAddr = text.parse().unwrap();
            let (storage, _) = sockaddr(&address);
            assert_eq!(socket_address(&storage), Some(address));
        }
        // SAFETY: all zeros is a valid sockaddr_storage, of no family.
        let nothing = unsafe { std::mem::zeroed() };
        assert_eq!(socket_address(&nothing), None);
    }

    #[test]
    fn literal_addresses_need_no_resolver() {
        let all = resolve("[::1]", 7, Family::Any, SECOND).unwrap();
        assert_eq!(all, [SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], 7))]);
        let none = resolve("127.0.0.1", 7, Family::V6, SECOND);
        assert_eq!(
            none.unwrap_err().to_string(),
            "look up 127.0.0.1: no address of the wanted family"
        );
    }

    #[test]
    fn all_addresses_are_tried() {
        let server_socket = listen(listen_address("0").unwrap()).unwrap();
        let good = server_socket.local_addr().unwrap();
        let closed = {
            let gone = listen(listen_address("0").unwrap()).unwrap();
            gone.local_addr().unwrap()
        };
        let socket = connect(&[closed, good], 0, SECOND).unwrap();
        assert_eq!(socket.peer_addr().unwrap(), good);
        let error = connect(&[closed, closed], 0, SECOND).unwrap_err();
        assert!(error.to_string().ends_with("Connection refused"));
    }

    #[test]
    fn a_client_may_choose_its_port() {
        let server_socket = listen(listen_address("0").unwrap()).unwrap();
        let server = server_socket.local_addr().unwrap();
        let free = {
            let gone = listen(listen_address("0").unwrap()).unwrap();
            gone.local_addr().unwrap().port()
        };
        let socket = connect(&[server], free, SECOND).unwrap();
        assert_eq!(socket.local_addr().unwrap().port(), free);
        let (_, client) = server_socket.accept().unwrap();
        assert_eq!(client.port(), free);
    }
}
