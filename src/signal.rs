//! SIGINT and SIGTERM become a graceful stop.
//!
//! The signals are blocked in every thread but one, which waits for them
//! with `sigtimedwait`: no handler, so no rules about what a handler may do.
//! SIGPIPE needs nothing: Rust's start-up ignores it, and a write to a
//! closed pipe is an error like any other.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process;
use std::thread;
use std::time::Duration;

use crate::error::{Doing, Error, is_timeout};
use crate::net::{self, check};
use crate::trace;

/// How long what is in flight may go on after a stop.
const GRACE: Duration = Duration::from_secs(5);

/// Runs `stop` at the first SIGINT or SIGTERM, upon which the tool is to
/// end. If it has not in due time, or at a second signal, the process ends
/// all the same. To be called before other threads start: they inherit the
/// mask.
pub fn on_stop(stop: impl FnOnce() + Send + 'static) -> Result<(), Error> {
    let doing = || "wait for signals";
    // SAFETY: the set is initialised by sigemptyset before it is used, and
    // the calls only read or write it.
    let signals = unsafe {
        let mut signals = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&mut signals);
        libc::sigaddset(&mut signals, libc::SIGINT);
        libc::sigaddset(&mut signals, libc::SIGTERM);
        let none = std::ptr::null_mut();
        let result = libc::pthread_sigmask(libc::SIG_BLOCK, &signals, none);
        check(if result == 0 { 0 } else { -1 }).doing(doing)?;
        signals
    };
    let wait = move || {
        while wait_for(&signals, Duration::MAX).is_none() {}
        stop();
        if let Some(second) = wait_for(&signals, GRACE) {
            process::exit(128 + second);
        }
        let _ = trace::finish();
        process::exit(0);
    };
    thread::Builder::new().spawn(wait).doing(doing)?;
    Ok(())
}

/// The number of the signal that came within the limit.
fn wait_for(signals: &libc::sigset_t, limit: Duration) -> Option<i32> {
    let limit = libc::timespec {
        tv_sec: limit.as_secs().min(i32::MAX as u64) as libc::time_t,
        tv_nsec: limit.subsec_nanos().into(),
    };
    let nothing = std::ptr::null_mut();
    // SAFETY: both pointers are to live values of the right type.
    let signal = unsafe { libc::sigtimedwait(signals, nothing, &limit) };
    (signal > 0).then_some(signal)
}

/// Signals as a descriptor that can be polled beside sockets, for tools of
/// one thread that have something to say before they end.
pub struct Signals(OwnedFd);

impl Signals {
    /// From now on these signals do nothing but come here. Who does not end
    /// in due time after SIGINT or SIGTERM (held up by whoever reads the
    /// output) is ended, and at once by a second one.
    pub fn new(numbers: &[i32]) -> Result<Signals, Error> {
        let doing = || "wait for signals";
        let mut ends = [0; 2];
        let flags = libc::O_CLOEXEC | libc::O_NONBLOCK;
        // SAFETY: the set is initialised by sigemptyset before it is used,
        // the calls only read it, and the descriptors that pipe2 writes are
        // new and nobody else's.
        let (signals, read_end, write_end) = unsafe {
            let mut signals = std::mem::zeroed::<libc::sigset_t>();
            libc::sigemptyset(&mut signals);
            for number in numbers {
                libc::sigaddset(&mut signals, *number);
            }
            let none = std::ptr::null_mut();
            libc::pthread_sigmask(libc::SIG_BLOCK, &signals, none);
            check(libc::pipe2(ends.as_mut_ptr(), flags)).doing(doing)?;
            let [read_end, write_end] = ends;
            (
                signals,
                OwnedFd::from_raw_fd(read_end),
                OwnedFd::from_raw_fd(write_end),
            )
        };
        let mut pipe = File::from(write_end);
        let wait = move || {
            let mut stopping = false;
            loop {
                let limit = if stopping { GRACE } else { Duration::MAX };
                let signal = wait_for(&signals, limit);
                if stopping && signal != Some(libc::SIGQUIT) {
                    process::exit(128 + signal.unwrap_or(libc::SIGTERM));
                }
                let Some(signal) = signal else { continue };
                stopping |= signal != libc::SIGQUIT;
                let _ = pipe.write_all(&[signal as u8]);
            }
        };
        thread::Builder::new().spawn(wait).doing(doing)?;
        Ok(Signals(read_end))
    }

    /// Waits until a signal comes, one of the other descriptors can be read,
    /// or the time is over; which signal, if one came.
    pub fn wait(
        &self,
        others: &[i32],
        limit: Duration,
    ) -> Result<Option<i32>, Error> {
        let poll = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        let mut waits = vec![poll(self.0.as_raw_fd())];
        waits.extend(others.iter().map(|fd| poll(*fd)));
        match net::poll(&mut waits, limit) {
            Err(e) if is_timeout(&e) => Ok(None),
            other => other.doing(|| "wait").map(|()| self.take()),
        }
    }

    /// The number of a signal that has come.
    fn take(&self) -> Option<i32> {
        let mut number = [0u8];
        // SAFETY: the pointer is to the one octet that may be written.
        let count = unsafe {
            libc::read(self.0.as_raw_fd(), number.as_mut_ptr().cast(), 1)
        };
        (count == 1).then_some(i32::from(number[0]))
    }
}
