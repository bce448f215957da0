//! Datagrams with all that the kernel knows of them: when one came, with
//! which TTL, to which of our addresses, and what ICMP says of those that we
//! sent. ip(7), ipv6(7), recvmsg(2), cmsg(3).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::net::{set_option, socket_address};

/// The time by the system's clock, which the kernel's time stamps have:
/// nanoseconds since 1970.
pub fn wall_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |t| t.as_nanos() as u64)
}

/// With each packet that comes, the time of its coming, its TTL, and to
/// which of our addresses; and with `errors` what ICMP says of our packets.
pub fn hear_all(
    socket: &impl AsRawFd,
    v6: bool,
    errors: bool,
) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1)?;
    let (level, options, error_option) = match v6 {
        false => (
            libc::IPPROTO_IP,
            [libc::IP_RECVTTL, libc::IP_PKTINFO],
            libc::IP_RECVERR,
        ),
        true => (
            libc::IPPROTO_IPV6,
            [libc::IPV6_RECVHOPLIMIT, libc::IPV6_RECVPKTINFO],
            libc::IPV6_RECVERR,
        ),
    };
    for option in options {
        set_option(socket, level, option, 1)?;
    }
    match errors {
        true => set_option(socket, level, error_option, 1),
        false => Ok(()),
    }
}

/// What came, beside its octets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Received {
    pub length: usize,
    pub from: Option<SocketAddr>,
    /// To which of our addresses.
    pub to: Option<IpAddr>,
    /// When, by the kernel: nanoseconds since 1970.
    pub at: Option<u64>,
    pub ttl: Option<u8>,
    /// What an error queue says of a packet of ours; the octets are then
    /// those of the packet, and `from` is where it was sent.
    pub fault: Option<Fault>,
}

/// An entry of the error queue: struct sock_extended_err of ip(7).
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// From ICMP, not from our own system.
    pub is_icmp: bool,
    pub kind: u8,
    pub code: u8,
    /// The MTU, when it is about that.
    pub info: u32,
    pub offender: Option<IpAddr>,
}

/// The next packet, or with `queue` the next error; `None` when there is
/// none yet.
pub fn receive(
    socket: &impl AsRawFd,
    buffer: &mut [u8],
    queue: bool,
) -> io::Result<Option<Received>> {
    // room for a time, a TTL, an address, and an error with its offender
    #[repr(align(8))]
    struct Control([u8; 512]);
    let mut control = Control([0; 512]);
    let flags = match queue {
        true => libc::MSG_DONTWAIT | libc::MSG_ERRQUEUE,
        false => libc::MSG_DONTWAIT,
    };
    // SAFETY: all zeros is valid for these structs of numbers and pointers;
    // each pointer set here is to live memory of the length beside it, which
    // the call does not exceed. The control messages are walked by libc's
    // macros, within the length that the kernel wrote.
    unsafe {
        let mut from: libc::sockaddr_storage = std::mem::zeroed();
        let mut piece = libc::iovec {
            iov_base: buffer.as_mut_ptr().cast(),
            iov_len: buffer.len(),
        };
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_name = (&raw mut from).cast();
        header.msg_namelen = size_of_val(&from) as libc::socklen_t;
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1 as _;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len() as _;
        let count = libc::recvmsg(socket.as_raw_fd(), &mut header, flags);
        if count < 0 {
            let error = io::Error::last_os_error();
            return match error.kind() {
                ErrorKind::WouldBlock => Ok(None),
                _ => Err(error),
            };
        }
        let mut received = Received {
            length: count as usize,
            from: socket_address(&from),
            ..Received::default()
        };
        let mut next = libc::CMSG_FIRSTHDR(&header);
        while !next.is_null() {
            note(&mut received, next);
            next = libc::CMSG_NXTHDR(&header, next);
        }
        Ok(Some(received))
    }
}

/// The data of a control message as a struct of C's, if they are so long.
///
/// # Safety
/// `control` points to a control message that the kernel has written, and
/// any octets are a valid `T`.
unsafe fn data_of<T>(control: *const libc::cmsghdr, skip: usize) -> Option<T> {
    // SAFETY: by the caller's promise header and data are there, as long as
    // the header says, which may lie at any address.
    unsafe {
        let wanted = libc::CMSG_LEN((skip + size_of::<T>()) as u32).into();
        let enough = (*control).cmsg_len as u64 >= wanted;
        let data = libc::CMSG_DATA(control).wrapping_add(skip);
        enough.then(|| data.cast::<T>().read_unaligned())
    }
}

/// Takes what one control message says.
///
/// # Safety
/// `control` points to a control message that the kernel has written.
unsafe fn note(received: &mut Received, control: *const libc::cmsghdr) {
    // SAFETY: the caller's promise; and all of these are structs of numbers.
    unsafe {
        match ((*control).cmsg_level, (*control).cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                let at = data_of::<libc::timespec>(control, 0);
                received.at = at.map(|at| {
                    at.tv_sec as u64 * 1_000_000_000 + at.tv_nsec as u64
                });
            }
            (libc::IPPROTO_IP, libc::IP_TTL)
            | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                received.ttl = data_of::<i32>(control, 0).map(|t| t as u8);
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = data_of::<libc::in_pktinfo>(control, 0);
                let octets = |i: libc::in_pktinfo| {
                    IpAddr::from(i.ipi_addr.s_addr.to_ne_bytes())
                };
                received.to = info.map(octets);
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = data_of::<libc::in6_pktinfo>(control, 0);
                received.to = info.map(|i| IpAddr::from(i.ipi6_addr.s6_addr));
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR)
            | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                let error = data_of::<libc::sock_extended_err>(control, 0);
                received.fault = error.map(|error| Fault {
                    is_icmp: matches!(
                        error.ee_origin,
                        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
                    ),
                    kind: error.ee_type,
                    code: error.ee_code,
                    info: error.ee_info,
                    offender: offender(control),
                });
            }
            _ => {}
        }
    }
}

/// Who sent the ICMP message: a sockaddr, directly behind the error, of the
/// family that it says.
///
/// # Safety
/// `control` points to a control message of IP_RECVERR or IPV6_RECVERR.
unsafe fn offender(control: *const libc::cmsghdr) -> Option<IpAddr> {
    let skip = size_of::<libc::sock_extended_err>();
    // SAFETY: the caller's promise; both are structs of numbers.
    unsafe {
        let v4 = data_of::<libc::sockaddr_in>(control, skip)?;
        match i32::from(v4.sin_family) {
            libc::AF_INET => {
                Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
            }
            libc::AF_INET6 => {
                let v6 = data_of::<libc::sockaddr_in6>(control, skip)?;
                Some(IpAddr::from(v6.sin6_addr.s6_addr))
            }
            _ => None,
        }
    }
}

/// An error of the system that says what ICMP said of an earlier datagram:
/// it surfaces in the next call, whatever that is. icmp(7)
pub fn is_from_icmp(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(
            libc::ECONNREFUSED
                | libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::ENOPROTOOPT
                | libc::EOPNOTSUPP
                | libc::EPROTO
                | libc::EACCES
                | libc::EMSGSIZE
                | libc::ENONET
                | libc::EHOSTDOWN
        )
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    /// Time, TTL and our own address come with a datagram; and what ICMP
    /// says of one that nobody takes waits in the error queue.
    #[test]
    fn what_the_kernel_knows_of_a_datagram() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        hear_all(&socket, false, true).unwrap();
        let own = socket.local_addr().unwrap();
        let mut buffer = [0; 64];
        assert!(receive(&socket, &mut buffer, false).unwrap().is_none());
        // (the kernel begins to stamp a moment after it is asked to)
        let mut stamped = None;
        for _ in 0..1000 {
            let before = wall_clock();
            socket.send_to(b"hello", own).unwrap();
            let came = receive(&socket, &mut buffer, false).unwrap().unwrap();
            let after = wall_clock();
            assert_eq!((came.length, came.from), (5, Some(own)));
            assert_eq!((came.ttl, came.to), (Some(64), Some(own.ip())));
            stamped = came.at.filter(|at| (before..=after).contains(at));
        }
        assert!(stamped.is_some());
        let gone = {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.local_addr().unwrap()
        };
        socket.send_to(b"nobody", gone).unwrap();
        let fault = loop {
            match receive(&socket, &mut buffer, true).unwrap() {
                Some(came) => break came,
                None => std::thread::yield_now(),
            }
        };
        assert_eq!(
            (fault.from, &buffer[..fault.length]),
            (Some(gone), &b"nobody"[..])
        );
        let fault = fault.fault.unwrap();
        assert!(fault.is_icmp);
        assert_eq!((fault.kind, fault.code), (3, 3));
        assert_eq!(fault.offender, Some(own.ip()));
    }
}
