//! TCP, the connection-oriented transport: KR 2.7.2 and 3.5, RFC 9293.

pub mod client;
pub mod server;

/// Between the ends of a connection there is a stream of bytes: this many of
/// it are taken at a time, which says nothing about how they were sent.
const PIECE: usize = 16 * 1024;
