//! Pings over UDP: KR 2.7.1 with the lab "UDP Pinger", and 3.5.3 for what
//! TCP would make of the times.
//!
//! Read `payload` first, then `record` and `client`, `dice` and `server`.

pub mod client;
pub mod server;

mod dice;
mod payload;
pub mod record;

/// The lab's port.
pub const PORT: u16 = 12000;
