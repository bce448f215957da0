//! Heartbeats: who is still there? Lab "UDP Pinger", optional exercise 2; KR
//! 2.7.1. The ideas are those of BFD, RFC 5880: jittered sending, a
//! detection time that is a multiple of the sender's interval, a number that
//! tells one run of a sender from the next.
//!
//! Read `message` first, then `client`; `watch` is what the server knows of
//! one client, `server` the rest.

pub mod client;
pub mod server;

mod message;
mod watch;

/// Beside the pings' 12000.
pub const PORT: u16 = 12001;
