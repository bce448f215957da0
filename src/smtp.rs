//! Mail: SMTP (RFC 5321), the messages that it carries (RFC 5322, MIME's
//! RFC 2045 to 2047 and 2231), and where they are kept. KR 2.3
//!
//! Read `address` and `line` first, then for the client `message` with
//! `text`, `reply`, `dialogue`, `client`; for the server `command`,
//! `session`, `receive`, `maildir`, `server`.

pub mod client;
pub mod server;

mod address;
mod auth;
mod command;
mod content;
mod dead_letter;
mod dialogue;
mod explain;
mod line;
mod lint;
mod maildir;
mod message;
mod options;
mod receive;
mod reply;
mod route;
mod session;
mod stuffing;
mod text;
mod users;
