//! The page for a directory without an `index.html`.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;

use super::date::Civil;
use super::reply::escape_html;
use super::url::encode_path;

/// A page of more would be of no use.
const MAX_ENTRIES: usize = 10_000;

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:1rem}\
table{border-collapse:collapse}td,th{padding:.1rem .8rem .1rem 0;\
text-align:left;overflow-wrap:anywhere}.n{text-align:right;\
white-space:nowrap}";

/// One entry, in the order in which entries are sorted.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    is_file: bool,
    name: Vec<u8>,
    /// Of a file; where a link leads is not looked up.
    size: Option<u64>,
    modified: i64,
}

/// The page: directories first, then files, by name.
pub fn page(
    directory: &File,
    path: &[u8],
    dotfiles: bool,
) -> io::Result<Vec<u8>> {
    // The descriptor was opened beneath the root; its name might by now
    // lead elsewhere.
    let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
    let mut entries = Vec::new();
    for entry in fs::read_dir(name)?.take(MAX_ENTRIES) {
        let entry = entry?;
        let name = entry.file_name().as_bytes().to_vec();
        let visible = dotfiles || !name.starts_with(b".");
        if let Some(metadata) = entry.metadata().ok().filter(|_| visible) {
            entries.extend(Entry::new(name, &metadata));
        }
    }
    entries.sort();
    let title = escape_html(&String::from_utf8_lossy(path));
    let mut page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <h1>{title}</h1>\n<table>\n\
         <tr><th>Name<th class=\"n\">Size<th>Last modified (UTC)\n"
    );
    if path != b"/" {
        page.push_str("<tr><td><a href=\"../\">../</a><td><td>\n");
    }
    for entry in &entries {
        page.push_str(&entry.row());
    }
    page.push_str("</table>\n");
    Ok(page.into_bytes())
}

impl Entry {
    /// `None` for what could not be sent: a FIFO, a device, a socket.
    fn new(name: Vec<u8>, metadata: &Metadata) -> Option<Entry> {
        let kind = metadata.file_type();
        let known = kind.is_file() || kind.is_dir() || kind.is_symlink();
        known.then(|| Entry {
            is_file: !kind.is_dir(),
            name,
            size: kind.is_file().then(|| metadata.size()),
            modified: metadata.mtime(),
        })
    }

    /// `./` before the name, or `a:b` would be a URL of the scheme `a`.
    fn row(&self) -> String {
        let slash = if self.is_file { "" } else { "/" };
        let link = encode_path(&self.name);
        let name = escape_html(&String::from_utf8_lossy(&self.name));
        let size = self.size.map_or("-".into(), |s| s.to_string());
        let t = Civil::from_seconds(self.modified);
        format!(
            "<tr><td><a href=\"./{link}{slash}\">{name}{slash}</a>\
             <td class=\"n\">{size}\
             <td>{:04}-{:02}-{:02} {:02}:{:02}\n",
            t.year, t.month, t.day, t.hour, t.minute
        )
    }
}
