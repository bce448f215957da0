//! How long a client may take over what: each wait has a name, an option and
//! a reason.

use std::io;
use std::net::TcpListener;
use std::time::Duration;

use crate::args::{self, Args};
use crate::error::Error;
use crate::net;

/// How long a client may take.
pub struct Limits {
    pub idle: Duration,
    pub header: Duration,
    pub body: Duration,
    pub send: Duration,
}

impl Limits {
    /// Reads the options of `web-server`.
    pub fn from_args(args: &mut Args) -> Result<Limits, Error> {
        let mut limit = |name, default| -> Result<Duration, Error> {
            let given = args.value(name, args::seconds)?;
            Ok(given.unwrap_or(Duration::from_secs(default)))
        };
        Ok(Limits {
            idle: limit("--idle", 60)?,
            header: limit("--header-timeout", 10)?,
            body: limit("--body-timeout", 60)?,
            send: limit("--send-timeout", 30)?,
        })
    }

    /// On Linux a connection socket inherits the welcoming socket's options:
    /// set once here, they cost no call per connection.
    pub fn apply(
        &self,
        server_socket: &TcpListener,
        sequential: bool,
    ) -> io::Result<()> {
        let (tcp, nodelay) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
        net::set_option(server_socket, tcp, nodelay, 1)?;
        if !sequential {
            // A connection is accepted with its first bytes, or a second
            // later: its thread need not sleep a second time. Not where the
            // reader is to see that a silent client holds up the others.
            let defer = libc::TCP_DEFER_ACCEPT;
            net::set_option(server_socket, tcp, defer, 1)?;
        }
        // Between two writes the kernel itself keeps the time: data that
        // nobody acknowledges, or takes, for so long end the connection.
        let user_timeout = self.send.as_millis() as i32;
        let name = libc::TCP_USER_TIMEOUT;
        net::set_option(server_socket, tcp, name, user_timeout)?;
        net::set_time_limits(server_socket, self.idle, self.send)
    }
}
