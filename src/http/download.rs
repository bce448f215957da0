//! Where the web client puts a body: standard output, or a file that gets
//! its name only when it is whole.
//!
//! `-o FILE` writes `FILE.part` and renames it at the end. What broke off
//! stays as `FILE.part`, and `-C` has the rest sent: RFC 9110 §14.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, UNIX_EPOCH};

use super::body::decimal;
use super::message::Response;
use super::origin::body_fault;
use crate::error::{Doing, Error};
use crate::net::check;
use crate::output::{Output, say};

/// What is read at a time.
const PIECE: usize = 64 * 1024;

/// What takes longer gets a progress bar.
const PATIENCE: Duration = Duration::from_secs(1);

/// Where a body goes.
pub enum Sink {
    Output(Output),
    File(Download),
    /// Of a redirect: nobody wants it.
    Nowhere,
}

/// A file on its way. Nothing is touched before there is something to write.
pub struct Download {
    file: PathBuf,
    /// `FILE.part`; `None` for what is no regular file (`/dev/null`).
    part: Option<PathBuf>,
    out: Option<File>,
    /// Octets that were there before, to which more are added.
    pub from: u64,
    /// How many octets the answer to a resumption must bring to the end.
    rest: Option<u64>,
}

impl Download {
    /// With `resume`, what `FILE.part` has is kept.
    pub fn new(file: &Path, resume: bool) -> Download {
        let special = fs::metadata(file).is_ok_and(|m| !m.is_file());
        let mut name = file.as_os_str().to_os_string();
        name.push(".part");
        let part = (!special).then(|| PathBuf::from(name));
        let old = part.as_ref().filter(|_| resume);
        let old = old.and_then(|part| fs::symlink_metadata(part).ok());
        let from = old.filter(|m| m.is_file()).map_or(0, |m| m.len());
        let file = file.to_path_buf();
        Download { file, part, out: None, from, rest: None }
    }

    /// Opens `FILE.part`, for us alone, and never through a link.
    pub fn start(&mut self) -> Result<(), Error> {
        let path = self.part.as_ref().unwrap_or(&self.file);
        let doing = || format!("write {}", path.display());
        let mut options = OpenOptions::new();
        options.write(true);
        if self.part.is_some() {
            options.create(true).append(true).custom_flags(libc::O_NOFOLLOW);
        }
        let out = options.open(path).doing(doing)?;
        if self.part.is_some() {
            // SAFETY: an open descriptor and a number.
            let locked = unsafe {
                libc::flock(out.as_raw_fd(), libc::LOCK_EX | libc::LOCK_NB)
            };
            check(locked)
                .doing(|| format!("{} (is it downloaded already?)", doing()))?;
            out.set_len(self.from).doing(doing)?;
        }
        self.out = Some(out);
        Ok(())
    }

    /// What the response means for the part that we have. True:
    /// its body is to be added. False: the file is whole already.
    pub fn may_continue(&mut self, response: &Response) -> Result<bool, Error> {
        let range = response.fields.text("content-range").unwrap_or_default();
        let bad = |what: &str| {
            let what = format!("{what} (Content-Range: {range})");
            Err(Error::protocol("resume the download", what))
        };
        match response.status {
            206 => match content_range(range) {
                // from where ours ends, up to the end of the whole
                Some((first, last, all))
                    if first == self.from
                        && all.is_none_or(|all| {
                            Some(all) == last.checked_add(1)
                        }) =>
                {
                    self.rest = (last + 1).checked_sub(first);
                    Ok(true)
                }
                _ => bad("the part that came does not continue the file"),
            },
            416 => match range.strip_prefix("bytes */") {
                Some(all) if decimal(all.as_bytes()) == Some(self.from) => {
                    Ok(false)
                }
                _ => bad("the file on the server is shorter than ours"),
            },
            200 => {
                say("topdown web-client: the server sent the whole file");
                self.from = 0;
                Ok(true)
            }
            // a redirect's page, say, must not take the part's place
            status => bad(&format!("the answer is no part: {status}")),
        }
    }

    /// The file is whole: it gets its name, and the time that it has on the
    /// server, for `-z` to send back.
    pub fn finish(
        self,
        octets: u64,
        last_modified: Option<i64>,
    ) -> Result<(), Error> {
        if self.rest.is_some_and(|rest| rest != octets) {
            self.say_what_is_kept();
            let what = "it is not the range that was announced";
            return Err(Error::protocol("resume the download", what));
        }
        let Some(part) = self.part else { return Ok(()) };
        let seconds = last_modified.and_then(|s| s.try_into().ok());
        if let (Some(out), Some(seconds)) = (&self.out, seconds) {
            let time = UNIX_EPOCH + Duration::from_secs(seconds);
            let _ = out.set_modified(time);
        }
        let doing = || format!("rename {}", part.display());
        fs::rename(&part, &self.file).doing(doing)
    }

    /// When the body broke off.
    pub fn say_what_is_kept(&self) {
        let empty = |out: &File| out.metadata().is_ok_and(|m| m.len() == 0);
        if self.out.as_ref().is_some_and(empty) {
            let _ = self.part.as_ref().map(fs::remove_file);
        } else if let Some(part) = &self.part {
            let part = part.display();
            say(format!("topdown web-client: what came is in {part}"));
        }
    }
}

/// First and last octet, and the length of the whole where it is known:
/// `bytes 0-499/1234`. RFC 9110 §14.4
fn content_range(value: &str) -> Option<(u64, u64, Option<u64>)> {
    let (range, all) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = range.split_once('-')?;
    let (first, last) = (decimal(first.as_bytes())?, decimal(last.as_bytes())?);
    let all = match all {
        "*" => None,
        all => Some(decimal(all.as_bytes())?),
    };
    (first <= last && last < u64::MAX).then_some((first, last, all))
}

/// Reads a body to its end, into the sink; answers its length.
pub fn copy(
    body: &mut impl Read,
    sink: &mut Sink,
    expected: Option<u64>,
    max_size: u64,
) -> Result<u64, Error> {
    let mut buffer = vec![0; PIECE];
    let mut length = 0;
    let mut progress = Progress::new(sink, expected);
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                progress.clear();
                return Err(body_fault(error));
            }
        };
        length += count as u64;
        if length > max_size {
            progress.clear();
            let what = format!("it is larger than --max-size {max_size}");
            return Err(Error::protocol("read the body", what));
        }
        match sink {
            Sink::Output(output) => output.write(&buffer[..count])?,
            Sink::File(download) => {
                if let Some(out) = &mut download.out {
                    let doing = || format!("write {}", download.file.display());
                    out.write_all(&buffer[..count]).doing(doing)?;
                }
            }
            Sink::Nowhere => {}
        }
        progress.show(length);
    }
    progress.clear();
    Ok(length)
}

/// A bar on the terminal, while a file takes its time.
struct Progress {
    wanted: bool,
    start: Instant,
    drawn: Instant,
    before: u64,
    expected: Option<u64>,
}

impl Progress {
    fn new(sink: &Sink, expected: Option<u64>) -> Progress {
        let before = match sink {
            Sink::File(download) => download.from,
            _ => 0,
        };
        let wanted =
            matches!(sink, Sink::File(_)) && io::stderr().is_terminal();
        let start = Instant::now();
        Progress { wanted, start, drawn: start, before, expected }
    }

    fn show(&mut self, length: u64) {
        if !self.wanted || self.drawn.elapsed() < PATIENCE / 5 {
            return;
        }
        let elapsed = self.start.elapsed();
        if elapsed < PATIENCE {
            return;
        }
        self.drawn = Instant::now();
        let mib = |octets: f64| octets / f64::from(1 << 20);
        let rate = mib(length as f64) / elapsed.as_secs_f64();
        let have = self.before + length;
        let bar = match self.expected {
            Some(rest) if rest > 0 => {
                let all = self.before.saturating_add(rest);
                let share = (have as f64 / all as f64).min(1.0);
                let full = (share * 30.0) as usize;
                let (done, left) = ("=".repeat(full), 30 - full);
                format!("{:3.0} % [{done}{:left$}]", share * 100.0, "")
            }
            _ => String::new(),
        };
        let have = mib(have as f64);
        let line = format!("\r{bar} {have:.1} MiB, {rate:.1} MiB/s\x1b[K");
        let _ = io::stderr().write_all(line.as_bytes());
    }

    fn clear(&self) {
        if self.wanted && self.drawn > self.start {
            let _ = io::stderr().write_all(b"\r\x1b[K");
        }
    }
}
