//! SIGINT and SIGTERM become a graceful stop.
//!
//! The signals are blocked in every thread but one, which waits for them
//! with `sigwait`: no handler, so no rules about what a handler may do.
//! SIGPIPE needs nothing: Rust's start-up ignores it, and a write to a
//! closed pipe is an error like any other.

use std::process;
use std::thread;

use crate::error::{Doing, Error};
use crate::net::check;

/// Runs `stop` at the first SIGINT or SIGTERM; a second one ends the process
/// at once. To be called before other threads start: they inherit the mask.
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
        wait_for(&signals);
        stop();
        let second = wait_for(&signals);
        process::exit(128 + second);
    };
    thread::Builder::new().spawn(wait).doing(doing)?;
    Ok(())
}

/// The number of the signal that came.
fn wait_for(signals: &libc::sigset_t) -> i32 {
    let mut signal = 0;
    // SAFETY: both pointers are to live values of the right type.
    while unsafe { libc::sigwait(signals, &mut signal) } != 0 {}
    signal
}
