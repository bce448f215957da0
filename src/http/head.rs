//! Where a message's head ends: what is read before there is anything to
//! parse. RFC 9112 §2.1

use std::io::{self, BufRead, ErrorKind};
use std::time::Duration;

use super::bad::Bad;
use super::fields::{MAX_HEAD, is_token};
use super::message::{MAX_REQUEST_LINE, head_length};
use crate::error::is_timeout;
use crate::wire::{Wire, let_others_work};

/// Why there is no head to parse.
#[derive(Debug)]
pub enum NoHead {
    /// The peer closed before a first byte: nothing is wrong.
    Closed,
    /// No first byte came within the idle limit.
    Idle,
    /// A head began and did not end in time.
    Slow,
    /// The peer closed, or the connection broke, in mid-head.
    Broken(io::Error),
    /// It breaks a rule before it could end.
    Bad(Bad),
}

impl Wire {
    /// Takes the next message's head, the empty line included, into `head`.
    /// `limit` is the time for the whole head, from its first byte on, unless
    /// there is a deadline already.
    pub fn read_head(
        &mut self,
        head: &mut Vec<u8>,
        limit: Duration,
        request: bool,
    ) -> Result<(), NoHead> {
        head.clear();
        self.shrink();
        let deadline = self.deadline;
        let mut skipped_empty_line = false;
        loop {
            if request && !skipped_empty_line {
                if self.buffered().starts_with(b"\r\n") {
                    self.consume(2);
                    skipped_empty_line = true;
                } else if self.buffered().len() > 1 {
                    skipped_empty_line = true;
                }
            }
            if let Some(length) = head_length(self.buffered()) {
                if length > MAX_HEAD {
                    return Err(NoHead::Bad(too_long(self.buffered())));
                }
                head.extend_from_slice(&self.buffered()[..length]);
                self.consume(length);
                self.deadline = deadline;
                return Ok(());
            }
            if request {
                check_beginning(self.buffered()).map_err(NoHead::Bad)?;
            }
            if self.buffered().len() > MAX_HEAD {
                return Err(NoHead::Bad(too_long(self.buffered())));
            }
            let began = !self.buffered().is_empty();
            // (a connection's first request is there when it is accepted)
            let first = request && self.is_new();
            if !began && !first {
                let_others_work();
            }
            if began && self.deadline.is_none() {
                self.set_deadline(Some(limit));
            }
            match self.fill() {
                Ok(0) if !began => return Err(NoHead::Closed),
                Ok(0) => {
                    let eof = ErrorKind::UnexpectedEof.into();
                    return Err(NoHead::Broken(eof));
                }
                Ok(_) => {}
                // (a TLS stream cut off between messages is closed, too)
                Err(e) if !began && e.kind() == ErrorKind::UnexpectedEof => {
                    return Err(NoHead::Closed);
                }
                Err(e) if is_timeout(&e) && began => return Err(NoHead::Slow),
                Err(e) if is_timeout(&e) => return Err(NoHead::Idle),
                Err(e) => return Err(NoHead::Broken(e)),
            }
        }
    }
}

/// What can be seen at once need not wait for the end of the head: a TLS
/// handshake is no request, and an endless line is too long.
fn check_beginning(bytes: &[u8]) -> Result<(), Bad> {
    match bytes.first() {
        Some(b'\r') if bytes.len() == 1 => return Ok(()),
        Some(first) if !is_token(&[*first]) => return Err(Bad::Method),
        _ => {}
    }
    match bytes.len() > MAX_REQUEST_LINE {
        true => match too_long(bytes) {
            Bad::RequestLineTooLong => Err(Bad::RequestLineTooLong),
            _ => Ok(()),
        },
        false => Ok(()),
    }
}

/// Which of the two: no line end within the limit of the first line?
fn too_long(bytes: &[u8]) -> Bad {
    let line = &bytes[..bytes.len().min(MAX_REQUEST_LINE + 2)];
    match line.contains(&b'\n') {
        true => Bad::HeadTooLong,
        false => Bad::RequestLineTooLong,
    }
}
