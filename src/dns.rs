//! DNS, the Internet's directory service: KR 2.4, RFC 1035.
//!
//! Read `message` first, then `resolver`, then `lookup`.

pub mod lookup;

mod message;
mod record;
mod resolver;
