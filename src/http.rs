//! HTTP, the Web's protocol: KR 2.2, RFC 9110 (semantics), RFC 9111 (caches)
//! and RFC 9112 (HTTP/1.1).
//!
//! Read `message`, `head` and `body` first, on which everything stands; then
//! `server` with `answer`, `client`, and `proxy` with `cache`.

pub mod client;
pub mod proxy;
pub mod server;

mod answer;
mod bad;
mod body;
mod cache;
mod condition;
pub mod date;
mod download;
mod explain;
mod fetch;
mod fields;
mod files;
mod head;
mod hop;
mod limits;
mod listing;
mod log;
pub mod media_type;
mod message;
mod origin;
mod reply;
mod request;
mod store;
mod timing;
mod url;

#[cfg(test)]
pub use message::tests::Random;
