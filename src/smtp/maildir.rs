//! Delivery: one file a message, in a Maildir. It is written in `tmp`,
//! synced, moved to `new`, and `new` is synced; only then is the message
//! acknowledged, so that neither a crash nor a power cut loses it.
//!
//! A sync of the directory takes as long for many messages as for one: the
//! sessions that wait for it share it (group commit).

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::error::{Doing, Error};

/// A message is held in memory up to here, then written piece by piece.
const BUFFER: usize = 64 * 1024;

/// Of the host's name so much is in a file's name, of 255 octets at most.
const MAX_HOST: usize = 64;

/// A directory with `tmp`, `new` and `cur`.
pub struct Maildir {
    root: PathBuf,
    host: String,
    delivered: AtomicU64,
    commits: Commits,
}

impl Maildir {
    /// Opens it, or makes it, for its owner alone.
    pub fn open(path: &str, host: &str) -> Result<Maildir, Error> {
        let root = PathBuf::from(path);
        for part in ["tmp", "new", "cur"] {
            let mut builder = DirBuilder::new();
            let made = builder.recursive(true).mode(0o700);
            let part = root.join(part);
            made.create(&part).doing(|| format!("make {}", part.display()))?;
        }
        // what was made must be there after a power cut, too
        let parent = root.parent().filter(|p| !p.as_os_str().is_empty());
        for made in [parent.unwrap_or(Path::new(".")), &root] {
            let synced = File::open(made).and_then(|made| made.sync_all());
            synced.doing(|| format!("sync {}", made.display()))?;
        }
        let new = root.join("new");
        let directory = File::open(&new);
        let directory =
            directory.doing(|| format!("open {}", new.display()))?;
        // "/" and ":" mean something in such a name
        let host = host.replace('/', "\\057").replace(':', "\\072");
        let host = host.chars().take(MAX_HOST).collect();
        Ok(Maildir {
            root,
            host,
            delivered: AtomicU64::new(0),
            commits: Commits::new(move || directory.sync_all()),
        })
    }

    /// A name that no other message has, here or on another machine.
    fn unique_name(&self) -> String {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let now = now.unwrap_or_default();
        let number = self.delivered.fetch_add(1, Relaxed);
        format!(
            "{}.M{:06}P{}Q{number}.{}",
            now.as_secs(),
            now.subsec_micros(),
            process::id(),
            self.host
        )
    }
}

/// One message on its way into a Maildir. What is dropped before `commit`
/// leaves nothing behind.
pub struct Delivery<'a> {
    /// `None`: thrown away (`--discard`).
    maildir: Option<&'a Maildir>,
    pub name: String,
    buffer: Vec<u8>,
    file: Option<File>,
    /// The first fault: the rest of the message is not written.
    fault: Option<io::Error>,
}

impl<'a> Delivery<'a> {
    pub fn new(maildir: Option<&'a Maildir>) -> Delivery<'a> {
        Delivery {
            maildir,
            name: maildir.map_or(String::new(), Maildir::unique_name),
            buffer: Vec::new(),
            file: None,
            fault: None,
        }
    }

    /// Where the message's next octets are to be appended; then comes
    /// `written`.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Makes room in the buffer, if need be. A fault is told by `commit`.
    pub fn written(&mut self) {
        if self.buffer.len() < BUFFER {
            return;
        }
        if self.fault.is_none() {
            self.fault = self.spill().err();
        }
        if self.fault.is_some() {
            self.remove(); // the space is needed
        }
        self.buffer.clear();
    }

    fn spill(&mut self) -> io::Result<()> {
        let Some(maildir) = self.maildir else { return Ok(()) };
        if self.file.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let path = maildir.root.join("tmp").join(&self.name);
            self.file = Some(options.open(path)?);
        }
        match &mut self.file {
            Some(file) => file.write_all(&self.buffer),
            None => Ok(()),
        }
    }

    /// The message is whole: on return it is on the disk, under its name.
    pub fn commit(mut self) -> io::Result<()> {
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        self.spill()?;
        let (Some(maildir), Some(file)) = (self.maildir, &self.file) else {
            return Ok(());
        };
        file.sync_all()?;
        let tmp = maildir.root.join("tmp").join(&self.name);
        let new = maildir.root.join("new").join(&self.name);
        fs::rename(tmp, &new)?;
        self.file = None;
        let committed = maildir.commits.commit();
        if committed.is_err() {
            // it is not acknowledged: so it must not be there, either
            let _ = fs::remove_file(new);
        }
        committed
    }

    fn remove(&mut self) {
        if let (Some(maildir), Some(_)) = (self.maildir, self.file.take()) {
            let tmp = maildir.root.join("tmp").join(&self.name);
            let _ = fs::remove_file(tmp);
        }
    }
}

impl Drop for Delivery<'_> {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Does it say that there is no room? That may pass.
pub fn is_full(error: &io::Error) -> bool {
    let full = [libc::ENOSPC, libc::EDQUOT, libc::EFBIG];
    error.raw_os_error().is_some_and(|errno| full.contains(&errno))
}

/// The syncs of a directory, shared by those who wait.
struct Commits {
    /// Syncs the directory.
    sync: Box<dyn Fn() -> io::Result<()> + Send + Sync>,
    turns: Mutex<Turns>,
    changed: Condvar,
}

#[derive(Default)]
struct Turns {
    /// How many have asked, and for how many of them it is done.
    asked: u64,
    done: u64,
    syncing: bool,
    /// A sync failed: what the kernel had to write is lost to us, and a
    /// second sync would not say so. Nothing is acknowledged after it.
    broken: Option<i32>,
}

impl Commits {
    fn new(
        sync: impl Fn() -> io::Result<()> + Send + Sync + 'static,
    ) -> Commits {
        let (turns, changed) = (Mutex::default(), Condvar::new());
        Commits { sync: Box::new(sync), turns, changed }
    }

    /// What is in the directory now is on the disk when this returns. Who
    /// finds nobody syncing does it for all who have asked by then.
    fn commit(&self) -> io::Result<()> {
        let mut turns =
            self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        turns.asked += 1;
        let mine = turns.asked;
        loop {
            if let Some(errno) = turns.broken {
                return Err(io::Error::from_raw_os_error(errno));
            }
            if turns.done >= mine {
                return Ok(());
            }
            if turns.syncing {
                let waited = self.changed.wait(turns);
                turns = waited.unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            turns.syncing = true;
            let upto = turns.asked;
            drop(turns);
            let synced = (self.sync)();
            let locked = self.turns.lock();
            turns = locked.unwrap_or_else(PoisonError::into_inner);
            turns.syncing = false;
            match synced {
                Ok(()) => turns.done = upto,
                Err(e) if is_full(&e) => {
                    // the others find out for themselves
                    self.changed.notify_all();
                    return Err(e);
                }
                Err(e) => {
                    let errno = e.raw_os_error().unwrap_or(libc::EIO);
                    turns.broken = Some(errno);
                }
            }
            self.changed.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::thread;

    #[test]
    fn who_asks_during_a_sync_waits_for_the_next() {
        // each sync takes until the test lets it end
        let (begun, begins) = channel();
        let (end, ends) = channel();
        let ends = Mutex::new(ends);
        let commits = Commits::new(move || {
            begun.send(()).unwrap();
            ends.lock().unwrap().recv().unwrap();
            Ok(())
        });
        let limit = std::time::Duration::from_secs(10);
        let (next, early) = thread::scope(|scope| {
            scope.spawn(|| commits.commit().unwrap());
            begins.recv().unwrap();
            // asked for now: the sync under way may have passed them by
            let late = [0, 1].map(|_| scope.spawn(|| commits.commit()));
            while commits.turns.lock().unwrap().asked < 3 {
                thread::yield_now();
            }
            end.send(()).unwrap();
            let next = begins.recv_timeout(limit); // one more, for both
            let early = late.iter().any(|thread| thread.is_finished());
            end.send(()).unwrap();
            (next, early)
        });
        assert!(next.is_ok() && !early, "the first sync was not theirs");
        assert!(begins.try_recv().is_err(), "two syncs were enough");
    }

    #[test]
    fn after_a_failed_sync_nothing_is_acknowledged() {
        let errno = |error: i32| {
            let failed = AtomicU64::new(0);
            let commits =
                Commits::new(move || match failed.fetch_add(1, Relaxed) {
                    0 => Err(io::Error::from_raw_os_error(error)),
                    _ => Ok(()),
                });
            let first = commits.commit().unwrap_err().raw_os_error();
            assert_eq!(first, Some(error));
            commits.commit().is_ok()
        };
        // what the kernel could not write is lost to us
        assert!(!errno(libc::EIO));
        // but a full disk may have room again
        assert!(errno(libc::ENOSPC) && errno(libc::EDQUOT));
    }

    #[test]
    fn names_are_unique_and_what_is_dropped_is_gone() {
        let path = std::env::temp_dir();
        let path = path.join(format!("topdown-maildir-{}", process::id()));
        let maildir = Maildir::open(path.to_str().unwrap(), "a/b:c").unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for i in 0..20 {
                        let mut delivery = Delivery::new(Some(&maildir));
                        delivery.buffer().extend_from_slice(&[b'x'; BUFFER]);
                        delivery.written();
                        if i % 2 == 0 {
                            delivery.commit().unwrap();
                        }
                    }
                });
            }
        });
        let count = |part| fs::read_dir(path.join(part)).unwrap().count();
        assert_eq!((count("tmp"), count("new"), count("cur")), (0, 80, 0));
        fs::remove_dir_all(path).unwrap();
    }
}
