//! What only the system can do: open a socket for ICMP, say how packets are
//! to travel, and give up the privileges that this took.
//!
//! A raw socket hears every ICMP message of the host, with its IP header
//! (IPv4) and its checksum; it wants root or CAP_NET_RAW. Linux has another
//! kind for everybody whose group is in net.ipv4.ping_group_range: a
//! datagram socket for echoes alone, to which the kernel gives an identifier
//! as it gives a port to UDP. Errors about its packets wait in its error
//! queue, like those of a UDP socket (ip(7), IP_RECVERR).
//!
//! Read `open`, `send`, `give_up_privileges`; `datagram.rs` receives.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::message::Version;
use crate::datagram::hear_all;
use crate::error::{Doing, Error};
use crate::net::{check, set_option, sockaddr, socket_address};

// Of linux/icmp.h and linux/icmpv6.h, which libc has not: which types a raw
// socket is not to hear. A set bit blocks.
const ICMP_FILTER: i32 = 1;
const ICMP6_FILTER: i32 = 1;
/// Of IPv4: echo and timestamp requests, our own on loopback first of all.
const BLOCKED_V4: i32 = 1 << 8 | 1 << 13;
/// Of IPv6: all but the errors, 1 to 4, the reply, 129, and redirects, 137.
const HEARD_V6: [u8; 6] = [1, 2, 3, 4, 129, 137];

/// Room for what waits: a flood's replies.
const RECEIVE_BUFFER: i32 = 1 << 20;

/// How a packet is to travel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Travel {
    pub ttl: Option<u8>,
    pub fragments: Option<Fragments>,
}

/// What becomes of a packet that is too large for a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fragments {
    /// Never fragmented, and no larger than the path's MTU, once known.
    Never,
    /// Never fragmented, whatever is known of the path.
    NeverAtAll,
    /// As routers like.
    Allowed,
}

/// A socket that speaks ICMP.
pub struct IcmpSocket {
    fd: OwnedFd,
    pub version: Version,
    /// Every message with its header is heard, or our own replies alone.
    pub raw: bool,
    pub identifier: u16,
}

impl AsRawFd for IcmpSocket {
    fn as_raw_fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }
}

impl IcmpSocket {
    /// A raw socket where that is permitted, else a datagram socket, else an
    /// error that says what would help. It sends from `own`, an address of
    /// ours, or as the routes have it.
    pub fn open(
        version: Version,
        must_be_raw: bool,
        identifier: u16,
        own: Option<IpAddr>,
    ) -> Result<IcmpSocket, Error> {
        let denied = |e: &io::Error| {
            e.kind() == ErrorKind::PermissionDenied
                || e.raw_os_error() == Some(libc::EPERM)
        };
        let raw = match system_socket(version, libc::SOCK_RAW) {
            Err(e) if denied(&e) && !must_be_raw => None,
            Err(e) if denied(&e) => return Err(remedies(true)),
            other => Some(other.doing(|| "open a raw socket")?),
        };
        let is_raw = raw.is_some();
        let fd = match raw {
            Some(fd) => fd,
            None => match system_socket(version, libc::SOCK_DGRAM) {
                Err(e) if denied(&e) => return Err(remedies(false)),
                other => other.doing(|| "open an ICMP socket")?,
            },
        };
        let mut socket = IcmpSocket { fd, version, raw: is_raw, identifier };
        socket.prepare().doing(|| "prepare the ICMP socket")?;
        if let Some(own) = own {
            let doing = || format!("send from {own}");
            socket.bind(SocketAddr::new(own, 0)).doing(doing)?;
        } else if !is_raw {
            // bound to nothing in particular, it gets its identifier
            let any: IpAddr = match version {
                Version::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Version::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            let any = SocketAddr::new(any, 0);
            socket.bind(any).doing(|| "prepare the ICMP socket")?;
        }
        Ok(socket)
    }

    fn prepare(&mut self) -> io::Result<()> {
        set_option(self, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
        match (self.raw, self.version) {
            (true, Version::V4) => {
                // (all else stands in the header that it hears)
                let level = libc::SOL_SOCKET;
                set_option(self, level, libc::SO_TIMESTAMPNS, 1)?;
                set_option(self, libc::SOL_RAW, ICMP_FILTER, BLOCKED_V4)
            }
            (true, Version::V6) => {
                hear_all(self, true, false)?;
                self.filter_v6()
            }
            (false, version) => hear_all(self, version == Version::V6, true),
        }
    }

    fn filter_v6(&self) -> io::Result<()> {
        let mut blocked = [u32::MAX; 8];
        for kind in HEARD_V6 {
            blocked[usize::from(kind) / 32] &= !(1 << (kind % 32));
        }
        let length = size_of_val(&blocked) as libc::socklen_t;
        // SAFETY: the pointer is to `length` bytes that are alive.
        check(unsafe {
            libc::setsockopt(
                self.as_raw_fd(),
                libc::IPPROTO_ICMPV6,
                ICMP6_FILTER,
                blocked.as_ptr().cast(),
                length,
            )
        })?;
        Ok(())
    }

    fn bind(&mut self, address: SocketAddr) -> io::Result<()> {
        let (storage, length) = sockaddr(&address);
        let storage = (&raw const storage).cast();
        // SAFETY: `storage` is a sockaddr of `length` bytes, alive.
        check(unsafe { libc::bind(self.as_raw_fd(), storage, length) })?;
        if !self.raw {
            self.identifier = local_port(self)?;
        }
        Ok(())
    }

    /// What was received as header and message: a raw socket of IPv4 hears
    /// IP's header as well.
    pub fn split_header<'a>(&self, bytes: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        match (self.raw, self.version) {
            (true, Version::V4) => {
                let words = bytes.first().map_or(0, |b| usize::from(b & 15));
                bytes.split_at(bytes.len().min(words * 4))
            }
            _ => bytes.split_at(0),
        }
    }

    pub fn set_travel(&self, travel: Travel) -> io::Result<()> {
        set_travel(self, self.version, travel)
    }

    pub fn send(&self, message: &[u8], to: &SocketAddr) -> io::Result<()> {
        let (storage, length) = sockaddr(to);
        let storage = (&raw const storage).cast();
        let (data, count) = (message.as_ptr().cast(), message.len());
        let fd = self.as_raw_fd();
        // SAFETY: both pointers are to live bytes of the lengths beside
        // them.
        let sent = unsafe { libc::sendto(fd, data, count, 0, storage, length) };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }
}

/// All that is sent leaves by this interface.
pub fn bind_to_interface(socket: &impl AsRawFd, name: &str) -> io::Result<()> {
    let length = name.len() as libc::socklen_t;
    let (fd, level) = (socket.as_raw_fd(), libc::SOL_SOCKET);
    let option = libc::SO_BINDTODEVICE;
    let name = name.as_ptr().cast();
    // SAFETY: the pointer is to `length` bytes that are alive.
    check(unsafe { libc::setsockopt(fd, level, option, name, length) })?;
    Ok(())
}

fn system_socket(version: Version, kind: i32) -> io::Result<OwnedFd> {
    let (domain, protocol) = match version {
        Version::V4 => (libc::AF_INET, libc::IPPROTO_ICMP),
        Version::V6 => (libc::AF_INET6, libc::IPPROTO_ICMPV6),
    };
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: plain numbers go in; the descriptor that comes out is new and
    // nobody else's.
    unsafe {
        let fd = check(libc::socket(domain, kind | flags, protocol))?;
        Ok(OwnedFd::from_raw_fd(fd))
    }
}

fn remedies(raw: bool) -> Error {
    let sysctl = match raw {
        true => "",
        false => "'sysctl net.ipv4.ping_group_range=\"0 2147483647\"', ",
    };
    let fault = format!(
        "Operation not permitted. What helps: sudo, {sysctl}or 'setcap \
         cap_net_raw+ep' on a copy of this program named after the tool"
    );
    Error::protocol("open a socket for ICMP", fault)
}

/// Time to live, and whether routers may fragment.
pub fn set_travel(
    socket: &impl AsRawFd,
    version: Version,
    travel: Travel,
) -> io::Result<()> {
    let set = |level, name, value| set_option(socket, level, name, value);
    if let Some(ttl) = travel.ttl {
        let ttl = i32::from(ttl);
        match version {
            Version::V4 => {
                set(libc::IPPROTO_IP, libc::IP_TTL, ttl)?;
                set(libc::IPPROTO_IP, libc::IP_MULTICAST_TTL, ttl)?;
            }
            Version::V6 => {
                let level = libc::IPPROTO_IPV6;
                set(level, libc::IPV6_UNICAST_HOPS, ttl)?;
                set(level, libc::IPV6_MULTICAST_HOPS, ttl)?;
            }
        }
    }
    let (level, name) = match version {
        Version::V4 => (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER),
        Version::V6 => (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    match travel.fragments {
        Some(Fragments::Never) => set(level, name, libc::IP_PMTUDISC_DO),
        Some(Fragments::NeverAtAll) => {
            set(level, name, libc::IP_PMTUDISC_PROBE)
        }
        Some(Fragments::Allowed) => set(level, name, libc::IP_PMTUDISC_DONT),
        None => Ok(()),
    }
}

fn local_port(socket: &impl AsRawFd) -> io::Result<u16> {
    // SAFETY: the struct is all zeros, which is valid, and the call fills in
    // no more than the length that it is given.
    let storage = unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        let mut length = size_of_val(&storage) as libc::socklen_t;
        let place = (&raw mut storage).cast();
        check(libc::getsockname(socket.as_raw_fd(), place, &mut length))?;
        storage
    };
    Ok(socket_address(&storage).map_or(0, |address| address.port()))
}

/// The number of an interface, as a link-local address needs it.
pub fn interface_number(name: &str) -> Option<u32> {
    let name = std::ffi::CString::new(name).ok()?;
    // SAFETY: the name ends with a zero octet and is alive.
    let number = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (number != 0).then_some(number)
}

/// The MTU of the path to an address, as far as the system knows it: a
/// connected socket of UDP can be asked.
pub fn path_mtu(to: &SocketAddr) -> Option<i32> {
    let (any, level, name): (IpAddr, _, _) = match to {
        SocketAddr::V4(_) => {
            (Ipv4Addr::UNSPECIFIED.into(), libc::IPPROTO_IP, libc::IP_MTU)
        }
        SocketAddr::V6(_) => {
            (Ipv6Addr::UNSPECIFIED.into(), libc::IPPROTO_IPV6, libc::IPV6_MTU)
        }
    };
    let socket = UdpSocket::bind((any, 0)).ok()?;
    let mut discard = *to;
    discard.set_port(9);
    socket.connect(discard).ok()?;
    let (mut mtu, fd) = (0i32, socket.as_raw_fd());
    let mut length = size_of::<i32>() as libc::socklen_t;
    let place = (&raw mut mtu).cast();
    // SAFETY: `place` is to an int of `length` bytes that is alive.
    let result =
        unsafe { libc::getsockopt(fd, level, name, place, &mut length) };
    (result == 0).then_some(mtu)
}

/// Is this root, who may send as fast as the machine can?
pub fn is_root() -> bool {
    // SAFETY: no arguments; it cannot fail.
    unsafe { libc::getuid() == 0 }
}

/// The sockets are open: what let us open them is given up. Root keeps its
/// own until `also_root`, so that it can still open the files it named.
pub fn give_up_privileges(also_root: bool) -> Result<(), Error> {
    if is_root() && !also_root {
        return Ok(());
    }
    let doing = || "give up privileges";
    /// Of linux/capability.h: version 3 has two words of each set.
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let none = [[0u32; 3]; 2];
    // SAFETY: plain numbers, and two pointers to live structs of the shape
    // that the kernel's interface gives them.
    unsafe {
        // (of a set-user-ID program: back to who started it)
        check(libc::setgid(libc::getgid())).doing(doing)?;
        check(libc::setuid(libc::getuid())).doing(doing)?;
        let result =
            libc::syscall(libc::SYS_capset, &raw mut header, &raw const none);
        check(result as i32).doing(doing)?;
    }
    Ok(())
}
