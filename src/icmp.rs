//! ICMP, the network layer's own messages: KR 5.6, RFC 792 and, for IPv6,
//! RFC 4443. (The lab's sheet cites RFC 1739, which is a primer on tools.)
//!
//! Read `message` first, then `names` and `quote` for what routers say,
//! then `ping`. `socket` holds what only the system can do. `draw` is for
//! `-e`, `capture` for `--pcap`.

pub mod ping;
pub mod traceroute;

mod capture;
mod draw;
mod message;
mod names;
mod quote;
mod socket;
