//! What a path stands for right now: a file with its validators, small ones
//! kept in memory.
//!
//! To open, read and close a small file at every request costs more than to
//! send it. So it is kept, and each request asks the kernel just one thing:
//! are size, times and inode still those of the file that was read? An edit
//! shows at once.

use std::collections::HashMap;
use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read};
use std::sync::{Arc, PoisonError, RwLock};

use super::date;
use super::files::{Root, Stamp};
use super::media_type;

/// The largest file that is kept; a larger one goes by `sendfile`.
const KEPT_FILE: u64 = 64 * 1024;
/// All kept files together, with what each costs besides its content.
const KEPT_TOTAL: u64 = 16 << 20;
const COST: u64 = 512;
/// A file that changed this recently (seconds) is not kept: it could change
/// again within one tick of the clock that times files.
const SETTLED: i64 = 2;

/// A file as HTTP sees it: a selected representation. RFC 9110 §3.2
pub struct Representation {
    pub stamp: Stamp,
    pub etag: String,
    pub last_modified: i64,
    pub media_type: &'static str,
    /// The field lines that depend on the file alone, but its length.
    pub fields: Vec<u8>,
    pub source: Source,
    path: CString,
}

/// Where its content is.
pub enum Source {
    Memory(Vec<u8>),
    Disk(File),
}

/// What is at a path.
pub enum Found {
    File(Arc<Representation>),
    Directory(File),
    /// A FIFO, device or socket: nothing to send.
    Special,
}

/// The files that are kept.
#[derive(Default)]
pub struct Store {
    kept: RwLock<Kept>,
}

#[derive(Default)]
struct Kept {
    files: HashMap<Vec<u8>, Arc<Representation>>,
    total: u64,
}

impl Store {
    /// What is at the decoded path now.
    pub fn find(&self, root: &Root, path: &[u8]) -> io::Result<Found> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let known = kept.files.get(path).cloned();
        drop(kept);
        if let Some(known) = known {
            if root.stamp(&known.path) == Some(known.stamp) {
                return Ok(Found::File(known));
            }
            self.forget(path);
        }
        let file = root.open_file(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Ok(Found::Directory(file));
        }
        if !metadata.is_file() {
            return Ok(Found::Special);
        }
        let stamp = Stamp::of(&metadata);
        let relative = root.relative(path)?;
        let mut found = Representation::new(path, relative, stamp, file);
        let settled = date::now() - stamp.modified.0 >= SETTLED;
        if stamp.size <= KEPT_FILE && settled && found.read()? {
            let found = Arc::new(found);
            self.keep(path, found.clone());
            return Ok(Found::File(found));
        }
        Ok(Found::File(Arc::new(found)))
    }

    fn keep(&self, path: &[u8], found: Arc<Representation>) {
        let mut kept =
            self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.total += found.cost();
        let before = kept.files.insert(path.to_vec(), found);
        kept.total -= before.map_or(0, |b| b.cost());
        // Whichever comes first goes: what is asked for often comes back.
        while kept.total > KEPT_TOTAL {
            let Some(victim) = kept.files.keys().next().cloned() else {
                return;
            };
            let gone = kept.files.remove(&victim);
            kept.total -= gone.map_or(0, |g| g.cost());
        }
    }

    fn forget(&self, path: &[u8]) {
        let mut kept =
            self.kept.write().unwrap_or_else(PoisonError::into_inner);
        let gone = kept.files.remove(path);
        kept.total -= gone.map_or(0, |g| g.cost());
    }
}

impl Representation {
    fn new(
        path: &[u8],
        relative: CString,
        stamp: Stamp,
        file: File,
    ) -> Representation {
        let etag = stamp.etag();
        // "An origin server with a clock [...] MUST NOT generate a
        // Last-Modified date that is later than the server's time of message
        // origination" RFC 9110 §8.8.2.1
        let last_modified = stamp.modified.0.min(date::now());
        let media_type = media_type::of(path);
        let fields = format!(
            "Content-Type: {media_type}\r\n\
             X-Content-Type-Options: nosniff\r\n\
             Last-Modified: {}\r\n\
             ETag: {etag}\r\n\
             Accept-Ranges: bytes\r\n",
            date::format(last_modified)
        )
        .into_bytes();
        let source = Source::Disk(file);
        let path = relative;
        Representation {
            stamp,
            etag,
            last_modified,
            media_type,
            fields,
            source,
            path,
        }
    }

    /// What it takes to keep it. One file may be asked for by many names
    /// (`/a//b`), which are as long as their askers like.
    fn cost(&self) -> u64 {
        self.stamp.size + 2 * self.path.count_bytes() as u64 + COST
    }

    /// Reads the file into memory. False: it changed meanwhile.
    fn read(&mut self) -> io::Result<bool> {
        let Source::Disk(file) = &self.source else { return Ok(true) };
        let mut content = Vec::with_capacity(self.stamp.size as usize);
        file.take(self.stamp.size + 1).read_to_end(&mut content)?;
        let unchanged = Stamp::of(&file.metadata()?) == self.stamp
            && content.len() as u64 == self.stamp.size;
        if unchanged {
            self.source = Source::Memory(content);
        }
        Ok(unchanged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, SystemTime};

    #[test]
    fn what_is_kept_is_bounded_and_settled() {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("topdown-{:x}", u64::from_ne_bytes(random));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        let write = |name: &str, size: usize, age: u64| {
            std::fs::write(folder.join(name), vec![b'x'; size]).unwrap();
            let file = File::options().append(true).open(folder.join(name));
            let time = SystemTime::now() - Duration::from_secs(age);
            file.unwrap().set_modified(time).unwrap();
        };
        let root = Root::open(folder.to_str().unwrap(), false).unwrap();
        let store = Store::default();
        let kept = || {
            let kept = store.kept.read().unwrap();
            (kept.files.len(), kept.total)
        };
        write("fresh", 10, 0);
        write("large", KEPT_FILE as usize + 1, 100);
        for path in ["/fresh", "/large"] {
            assert!(matches!(
                store.find(&root, path.as_bytes()),
                Ok(Found::File(_))
            ));
            assert_eq!(kept().0, 0, "{path}");
        }
        for i in 0..300 {
            let name = format!("{i}");
            write(&name, KEPT_FILE as usize, 100);
            store.find(&root, format!("/{name}").as_bytes()).unwrap();
        }
        assert!(kept().1 <= KEPT_TOTAL && kept().0 > 200);
        write("empty", 0, 100);
        for slashes in 1..2000 {
            let path = format!("{}empty", "/".repeat(slashes));
            store.find(&root, path.as_bytes()).unwrap();
        }
        assert!(kept().1 <= KEPT_TOTAL && kept().0 < 30_000);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
