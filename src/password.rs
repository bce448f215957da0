//! A password from the terminal, without echo.

use std::fs::OpenOptions;
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::AsRawFd;

use crate::error::{Doing, Error};
use crate::net::check;

/// Asks on the terminal itself, wherever the standard streams lead.
pub fn ask(prompt: &str) -> Result<String, Error> {
    let doing = || "ask for the password on the terminal";
    let open = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let mut terminal = open.doing(doing)?;
    let fd = terminal.as_raw_fd();
    // SAFETY: all zeros is a valid termios, which the call fills in.
    let before = unsafe {
        let mut before: libc::termios = std::mem::zeroed();
        check(libc::tcgetattr(fd, &mut before)).doing(doing)?;
        before
    };
    let mut silent = before;
    silent.c_lflag &= !libc::ECHO;
    let set = |to: &libc::termios| -> io::Result<()> {
        // SAFETY: an open terminal and a termios that it gave us.
        check(unsafe { libc::tcsetattr(fd, libc::TCSAFLUSH, to) })?;
        Ok(())
    };
    set(&silent).doing(doing)?;
    let mut line = String::new();
    let read = terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| BufReader::new(&terminal).read_line(&mut line));
    set(&before).doing(doing)?;
    let _ = terminal.write_all(b"\n");
    read.doing(doing)?;
    Ok(line.trim_end_matches(['\n', '\r']).to_string())
}
