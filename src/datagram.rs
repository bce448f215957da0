//! Datagrams with all that the kernel knows of them: when one came, with
//! which TTL, to which of our addresses, and what ICMP says of those that we
//! sent. ip(7), ipv6(7), recvmsg(2), cmsg(3).

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsRawFd;

use crate::net::{set_option, socket_address};

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
        header.msg_iovlen = 1;
        header.msg_control = control.0.as_mut_ptr().cast();
        header.msg_controllen = control.0.len();
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

/// Takes what one control message says.
///
/// # Safety
/// `control` points to a whole control message that the kernel has written.
unsafe fn note(received: &mut Received, control: *const libc::cmsghdr) {
    // SAFETY: by the caller's promise the header is there, and behind it the
    // data that level and type say, which may lie at any address.
    unsafe {
        let data = libc::CMSG_DATA(control);
        let number = || data.cast::<i32>().read_unaligned() as u8;
        match ((*control).cmsg_level, (*control).cmsg_type) {
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                let at = data.cast::<libc::timespec>().read_unaligned();
                let (seconds, nanos) = (at.tv_sec as u64, at.tv_nsec as u64);
                received.at = Some(seconds * 1_000_000_000 + nanos);
            }
            (libc::IPPROTO_IP, libc::IP_TTL)
            | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                received.ttl = Some(number());
            }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                let info = data.cast::<libc::in_pktinfo>().read_unaligned();
                let to = info.ipi_addr.s_addr.to_ne_bytes();
                received.to = Some(IpAddr::from(to));
            }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                let info = data.cast::<libc::in6_pktinfo>().read_unaligned();
                received.to = Some(IpAddr::from(info.ipi6_addr.s6_addr));
            }
            (libc::IPPROTO_IP, libc::IP_RECVERR)
            | (libc::IPPROTO_IPV6, libc::IPV6_RECVERR) => {
                let error =
                    data.cast::<libc::sock_extended_err>().read_unaligned();
                // (the sender of the message lies directly behind)
                let place = data.add(size_of::<libc::sock_extended_err>());
                received.fault = Some(Fault {
                    is_icmp: matches!(
                        error.ee_origin,
                        libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6
                    ),
                    kind: error.ee_type,
                    code: error.ee_code,
                    info: error.ee_info,
                    offender: offender(place),
                });
            }
            _ => {}
        }
    }
}

/// Who sent the ICMP message: a sockaddr of the family that it says.
///
/// # Safety
/// There is a sockaddr there, as the kernel writes it behind an error.
unsafe fn offender(place: *const u8) -> Option<IpAddr> {
    // SAFETY: the family stands first, and the struct that it names is there.
    unsafe {
        let mut storage: libc::sockaddr_storage = std::mem::zeroed();
        let family = place.cast::<libc::sa_family_t>().read_unaligned();
        let length = match i32::from(family) {
            libc::AF_INET => size_of::<libc::sockaddr_in>(),
            libc::AF_INET6 => size_of::<libc::sockaddr_in6>(),
            _ => return None,
        };
        let to = (&raw mut storage).cast::<u8>();
        std::ptr::copy_nonoverlapping(place, to, length);
        socket_address(&storage).map(|address| address.ip())
    }
}
