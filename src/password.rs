//! A password from the terminal, without echo.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::process;

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
    // no echo; and Ctrl-C comes as a character, so that the echo is back
    // before we go
    let mut silent = before;
    silent.c_lflag &= !(libc::ECHO | libc::ISIG | libc::ICANON);
    let set = |to: &libc::termios| -> io::Result<()> {
        // SAFETY: an open terminal and a termios that it gave us.
        check(unsafe { libc::tcsetattr(fd, libc::TCSAFLUSH, to) })?;
        Ok(())
    };
    set(&silent).doing(doing)?;
    let read = terminal
        .write_all(prompt.as_bytes())
        .and_then(|()| read_line(&mut terminal));
    set(&before).doing(doing)?;
    let _ = terminal.write_all(b"\n");
    match read.doing(doing)? {
        Some(line) => Ok(String::from_utf8_lossy(&line).into_owned()),
        None => process::exit(128 + libc::SIGINT),
    }
}

/// The keys up to the end of the line; `None` at Ctrl-C.
fn read_line(terminal: &mut File) -> io::Result<Option<Vec<u8>>> {
    const CTRL_C: u8 = 3;
    const CTRL_D: u8 = 4;
    const BACKSPACE: [u8; 2] = [8, 127];
    let mut line = Vec::new();
    let mut key = [0];
    loop {
        terminal.read_exact(&mut key)?;
        match key[0] {
            b'\n' | b'\r' | CTRL_D => return Ok(Some(line)),
            CTRL_C => return Ok(None),
            key if BACKSPACE.contains(&key) => _ = line.pop(),
            key => line.push(key),
        }
    }
}
