//! The binary itself, from outside: its command line, its tools against
//! each other, against scripted peers, and against real programs.

#![allow(clippy::unwrap_used)]

mod cli;
mod dns;
mod harness;
mod heartbeat;
mod icmp_ping;
mod lab;
mod mail_client;
mod mail_disk;
mod mail_peers;
mod mail_server;
mod peers;
mod ping;
mod proxy_faults;
mod proxy_peers;
mod tls;
mod traceroute;
mod upper_case;
mod web_cache;
mod web_client;
mod web_limits;
mod web_proxy;
mod web_server;
