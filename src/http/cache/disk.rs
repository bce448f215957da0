//! The cache on the disk: a file for each object, as the lab's last exercise
//! asks, to be read with `less`:
//!
//! ```text
//! topdown cache, checksum 6c62272e07bb0142
//! GET http://www.example.com/
//! asked: Sat, 21 Nov 2026 09:30:00 GMT
//! received: Sat, 21 Nov 2026 09:30:01 GMT
//! accept-language: de
//!
//! HTTP/1.1 200 OK
//! Content-Type: text/html
//! Via: 1.1 topdown-1a2b3c4d
//! Age: 0
//!
//! <!DOCTYPE html>…
//! ```
//!
//! First what was asked and when, with the request's fields that Vary names;
//! then the response as it is stored, with its age when it came. The checksum
//! is of all that follows its line: a file that is cut short, changed, or not
//! ours is not served. A file is written aside and gets its name when it is
//! whole, so whatever ends the program leaves whole files.

use std::fs;
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::stored::{Content, Stored, Varying, add_line};
use crate::error::{Doing, Error, reason};
use crate::http::date;
use crate::http::fields::{Fields, Span};
use crate::http::message::{Response, head_length};
use crate::output::say;

const FIRST_LINE: &str = "topdown cache, checksum ";
/// Names of files: 16 digits of a checksum, and this.
const EXTENSION: &str = "http";
/// While it is being written.
const ASIDE: &str = "part";
/// No file of ours is longer.
const MOST: u64 = 4 << 30;

/// The directory.
pub struct Disk {
    directory: PathBuf,
    /// A fault was told: once is enough.
    told: AtomicBool,
    written: AtomicU64,
}

/// An object's file.
pub struct Saved {
    file: PathBuf,
    checksum: u64,
    /// Where the content begins.
    from: usize,
    /// The content, as long as somebody is being served it.
    read: Mutex<Weak<Vec<u8>>>,
}

impl Disk {
    /// Opens or makes the directory; answers what was stored earlier.
    pub fn open(directory: &str) -> Result<(Disk, Vec<Stored>), Error> {
        let path = PathBuf::from(directory);
        let doing = || format!("open the cache {directory}");
        fs::create_dir_all(&path).doing(doing)?;
        let mut found = Vec::new();
        for entry in fs::read_dir(&path).doing(doing)? {
            let file = entry.doing(doing)?.path();
            match file.extension().and_then(|e| e.to_str()) {
                _ if !is_name(&file) || !file.is_file() => {}
                Some(ASIDE) => _ = fs::remove_file(&file),
                _ => match load(&file) {
                    Some(stored) => found.push(stored),
                    // ours once, and spoiled; what is foreign stays
                    None if is_ours(&file) => _ = fs::remove_file(&file),
                    None => {}
                },
            }
        }
        // the order in which they came is as good as that of their use
        found.sort_by_key(|stored| stored.received);
        let (told, written) = (AtomicBool::new(false), AtomicU64::new(0));
        Ok((Disk { directory: path, told, written }, found))
    }

    /// Writes an object whose content is in memory. `None`: it could not be
    /// written, which is said once.
    pub fn save(&self, stored: &Stored) -> Option<Saved> {
        let Content::Memory(content) = &stored.content else { return None };
        let mut rest = format!(
            "GET {}\nasked: {}\nreceived: {}\n",
            stored.uri,
            date::format(stored.asked),
            date::format(stored.received)
        )
        .into_bytes();
        for (name, value) in &stored.varies {
            let value = value.as_deref();
            rest.extend_from_slice(name.as_bytes());
            rest.extend_from_slice(if value.is_some() { b": " } else { b"" });
            rest.extend_from_slice(value.unwrap_or_default());
            rest.push(b'\n');
        }
        rest.push(b'\n');
        rest.extend_from_slice(&stored.head);
        let age = stored.policy.age(stored.received);
        add_line(&mut rest, b"Age", age.to_string().as_bytes());
        rest.extend_from_slice(b"\r\n");
        let checksum = fnv1a(&[&rest, content]);
        let first = format!("{FIRST_LINE}{checksum:016x}\n");
        let from = first.len() + rest.len();
        let whole = [first.as_bytes(), &rest, content].concat();
        let file = self.directory.join(name_of(stored));
        match self.write(&file, &whole) {
            Ok(()) => Some(Saved::new(file, checksum, from)),
            Err(error) => {
                if !self.told.swap(true, SeqCst) {
                    let directory = self.directory.display();
                    let why = reason(&error);
                    say(format!(
                        "topdown web-proxy: write to the cache {directory}: \
                         {why}: serving goes on without it"
                    ));
                }
                None
            }
        }
    }

    /// Aside, and renamed when it is whole.
    fn write(&self, file: &Path, whole: &[u8]) -> io::Result<()> {
        let count = self.written.fetch_add(1, SeqCst);
        let aside = self.directory.join(format!("{count:016x}.{ASIDE}"));
        let written =
            fs::write(&aside, whole).and_then(|()| fs::rename(&aside, file));
        if written.is_err() {
            let _ = fs::remove_file(&aside);
        }
        written
    }

    /// Takes the file away.
    pub fn remove(&self, saved: &Saved) {
        let _ = fs::remove_file(&saved.file);
    }
}

impl Saved {
    fn new(file: PathBuf, checksum: u64, from: usize) -> Saved {
        Saved { file, checksum, from, read: Mutex::default() }
    }

    /// The content, which must be what was written; read once for all who
    /// are served it at a time.
    pub fn read(&self) -> io::Result<Arc<Vec<u8>>> {
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = read.upgrade() {
            return Ok(bytes);
        }
        let mut whole = fs::read(&self.file)?;
        if checked(&whole) != Some(self.checksum) {
            return Err(ErrorKind::InvalidData.into());
        }
        let bytes = Arc::new(whole.split_off(self.from));
        *read = Arc::downgrade(&bytes);
        Ok(bytes)
    }
}

impl Stored {
    /// The content, wherever it is.
    pub fn bytes(&self) -> io::Result<Arc<Vec<u8>>> {
        match &self.content {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::Disk(saved) => saved.read(),
            Content::Coming => Err(ErrorKind::InvalidInput.into()),
        }
    }
}

/// The same request has the same file.
fn name_of(stored: &Stored) -> String {
    let varies = format!("{:?}", stored.varies);
    let name = fnv1a(&[stored.uri.as_bytes(), varies.as_bytes()]);
    format!("{name:016x}.{EXTENSION}")
}

fn is_name(file: &Path) -> bool {
    let stem = file.file_stem().and_then(|s| s.to_str()).unwrap_or_default();
    let extension = file.extension().and_then(|e| e.to_str());
    stem.len() == 16
        && stem.bytes().all(|b| b.is_ascii_hexdigit())
        && matches!(extension, Some(EXTENSION | ASIDE))
}

/// Does it begin as our files do?
fn is_ours(file: &Path) -> bool {
    let mut start = [0; FIRST_LINE.len()];
    let opened = fs::File::open(file);
    let read = opened.and_then(|mut f| f.read_exact(&mut start));
    read.is_ok() && start == FIRST_LINE.as_bytes()
}

/// The checksum that a file names, if it is true.
fn checked(whole: &[u8]) -> Option<u64> {
    let rest = whole.strip_prefix(FIRST_LINE.as_bytes())?;
    let (digits, rest) = (rest.get(..16)?, rest.get(17..)?);
    let digits = std::str::from_utf8(digits).ok()?;
    let checksum = u64::from_str_radix(digits, 16).ok()?;
    (checksum == fnv1a(&[rest])).then_some(checksum)
}

/// An object of an earlier run; `None` for what is not one of ours.
fn load(file: &Path) -> Option<Stored> {
    let size = fs::metadata(file).ok()?.len();
    let whole = (size < MOST).then(|| fs::read(file).ok())??;
    let checksum = checked(&whole)?;
    let start = FIRST_LINE.len() + 17;
    let asked_end = whole.windows(2).position(|w| w == b"\n\n")? + 2;
    let text = std::str::from_utf8(whole.get(start..asked_end)?).ok()?;
    let mut lines = text.lines();
    let uri = lines.next()?.strip_prefix("GET ")?;
    let time = |line: Option<&str>, name| {
        date::parse(line?.strip_prefix(name)?, date::now())
    };
    let asked = time(lines.next(), "asked: ")?;
    let received = time(lines.next(), "received: ")?;
    let vary = |line: &str| -> Varying {
        match line.split_once(": ") {
            Some((name, value)) => (name.into(), Some(value.into())),
            None => (line.into(), None),
        }
    };
    let varies = lines.filter(|l| !l.is_empty()).map(vary).collect();
    let length = head_length(&whole[asked_end..])?;
    let mut head = whole[asked_end..asked_end + length].to_vec();
    let mut spans = Vec::<Span>::new();
    let kept = without_age(&head)?;
    let response = Response::parse(&mut head, &mut spans).ok()?;
    // the Age at its receipt has the delay in it
    let uri: Arc<str> = uri.into();
    let times = (received, received);
    let stored = Stored::from_head(&uri, varies, kept, &response, times);
    let from = asked_end + length;
    let saved = Saved::new(file.to_path_buf(), checksum, from);
    Some(Stored {
        asked,
        length: Some((whole.len() - from) as u64),
        content: Content::Disk(Arc::new(saved)),
        ..stored
    })
}

/// Status line and fields as `Stored` has them.
fn without_age(head: &[u8]) -> Option<Vec<u8>> {
    let line = head.iter().position(|b| *b == b'\n')? + 1;
    let mut spans = Vec::new();
    let fields = Fields::parse(head, line, false, &mut spans).ok()?;
    let mut kept = head[..line].to_vec();
    for (name, value) in fields.iter() {
        if !name.eq_ignore_ascii_case(b"age") {
            add_line(&mut kept, name, value);
        }
    }
    Some(kept)
}

/// FNV-1a of 64 bits: against accidents, not against an enemy, who could
/// write a true checksum as well.
fn fnv1a(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in parts.iter().flat_map(|part| part.iter()) {
        hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash
}
