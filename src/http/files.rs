//! The files under a server's root, opened so that no request reaches
//! outside it.
//!
//! The kernel itself does the walking: `openat2` with `RESOLVE_BENEATH`
//! refuses every step out of the root, by `..`, by a symbolic link, or by
//! one put there in the very moment. A check of the path's text before a
//! plain `open` could promise none of this.

use std::ffi::CString;
use std::fs::{File, Metadata};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::error::{Doing, Error};
use crate::net::check;

/// Never to wait for the writer of a FIFO, nor to get a terminal.
const FLAGS: i32 =
    libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;

/// While something is renamed, openat2 may be unable to say whether `..` in
/// a link stays beneath the root, and fails with EAGAIN.
const RETRIES: usize = 32;

/// A directory, and the way to everything in it.
pub struct Root {
    directory: OwnedFd,
    dotfiles: bool,
}

/// What tells one state of a file from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub size: u64,
    pub modified: (i64, i64),
    changed: (i64, i64),
    inode: u64,
    device: u64,
}

impl Root {
    /// Opens the directory itself.
    pub fn open(path: &str, dotfiles: bool) -> Result<Root, Error> {
        let doing = || format!("open the root {path}");
        let file = File::open(Path::new(path)).doing(doing)?;
        if !file.metadata().doing(doing)?.is_dir() {
            let fault = io::Error::from_raw_os_error(libc::ENOTDIR);
            return Err(fault).doing(doing);
        }
        Ok(Root { directory: file.into(), dotfiles })
    }

    /// Opens what is at a decoded path, which begins with `/`. Directories
    /// too; whoever asks looks at the metadata.
    pub fn open_file(&self, path: &[u8]) -> io::Result<File> {
        let path = self.relative(path)?;
        let root = self.directory.as_raw_fd();
        let mut opened = open_beneath(root, &path);
        for _ in 0..RETRIES {
            match &opened {
                Err(e) if e.raw_os_error() == Some(libc::EAGAIN) => {
                    opened = open_beneath(root, &path);
                }
                _ => break,
            }
        }
        match opened {
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS)) => {
                open_step_by_step(root, path.as_bytes())
            }
            other => other,
        }
    }

    /// The stamp of what is at the path now. Good for comparing with a file
    /// that `open_file` opened earlier, and for nothing else: the kernel is
    /// not asked to stay beneath the root.
    pub fn stamp(&self, path: &CString) -> Option<Stamp> {
        // SAFETY: all zeros is a valid stat, which the call fills in; the
        // path is a C string and the descriptor is open.
        let stat = unsafe {
            let mut stat: libc::stat = std::mem::zeroed();
            let root = self.directory.as_raw_fd();
            let path = path.as_ptr();
            check(libc::fstatat(root, path, &mut stat, 0)).ok()?;
            stat
        };
        Some(Stamp {
            size: stat.st_size as u64,
            modified: (stat.st_mtime, stat.st_mtime_nsec),
            changed: (stat.st_ctime, stat.st_ctime_nsec),
            inode: stat.st_ino,
            device: stat.st_dev,
        })
    }

    /// The path as openat wants it: relative, and nothing hidden. A name
    /// that begins with a dot is hidden, `..` with it; `.well-known` is
    /// there to be seen (RFC 8615).
    pub fn relative(&self, path: &[u8]) -> io::Result<CString> {
        let hidden =
            |name: &[u8]| name.starts_with(b".") && name != b".well-known";
        if !self.dotfiles && path.split(|b| *b == b'/').any(hidden) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let start = path.iter().position(|b| *b != b'/');
        let relative = start.map_or(&b"."[..], |start| &path[start..]);
        CString::new(relative).map_err(|_| io::ErrorKind::NotFound.into())
    }
}

impl Stamp {
    /// Of an open file.
    pub fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            inode: metadata.ino(),
            device: metadata.dev(),
        }
    }

    /// A strong validator: any write to the file changes it.
    /// RFC 9110 §8.8.1
    pub fn etag(&self) -> String {
        let (seconds, nanoseconds) = self.modified;
        let time =
            i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds);
        format!("\"{time:x}-{:x}-{:x}\"", self.size, self.inode)
    }
}

/// openat2(2), which libc has the number of but no function.
fn open_beneath(root: RawFd, path: &CString) -> io::Result<File> {
    // SAFETY: all zeros is a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = FLAGS as u64;
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS;
    let size = size_of::<libc::open_how>();
    let number = libc::SYS_openat2;
    // SAFETY: path is a C string, `how` a struct of `size` bytes, both alive.
    let fd = check(unsafe {
        libc::syscall(number, root, path.as_ptr(), &raw const how, size)
    } as i32)?;
    // SAFETY: the descriptor is new and nobody else's.
    Ok(File::from(unsafe { OwnedFd::from_raw_fd(fd) }))
}

/// The same where the kernel is older than 5.6: one name at a time, and
/// links are not followed at all.
fn open_step_by_step(root: RawFd, path: &[u8]) -> io::Result<File> {
    // SAFETY: a new descriptor of an open one.
    let copy = check(unsafe { libc::fcntl(root, libc::F_DUPFD_CLOEXEC, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let mut at = unsafe { OwnedFd::from_raw_fd(copy) };
    let must_be_directory = path.ends_with(b"/");
    let mut names =
        path.split(|b| *b == b'/').filter(|name| !name.is_empty()).peekable();
    while let Some(name) = names.next() {
        if name == b".." {
            return Err(io::Error::from_raw_os_error(libc::EXDEV));
        }
        let within = names.peek().is_some() || must_be_directory;
        let directory = if within { libc::O_DIRECTORY } else { 0 };
        let name = CString::new(name)?;
        let flags = FLAGS | libc::O_NOFOLLOW | directory;
        // SAFETY: name is a C string; the result is checked.
        let fd = check(unsafe {
            libc::openat(at.as_raw_fd(), name.as_ptr(), flags)
        })?;
        // SAFETY: the descriptor is new and nobody else's.
        at = unsafe { OwnedFd::from_raw_fd(fd) };
    }
    Ok(File::from(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    /// A root with a file, a directory, links, and a secret beside it.
    fn site() -> std::path::PathBuf {
        let mut random = [0; 8];
        getrandom::fill(&mut random).unwrap();
        let name = format!("topdown-{:x}", u64::from_ne_bytes(random));
        let base = std::env::temp_dir().join(name);
        let root = base.join("root");
        fs::create_dir_all(root.join("dir")).unwrap();
        fs::write(base.join("secret"), "s").unwrap();
        fs::write(root.join("a"), "a").unwrap();
        fs::write(root.join("dir/b"), "b").unwrap();
        fs::write(root.join(".hidden"), "h").unwrap();
        symlink("dir/b", root.join("inside")).unwrap();
        symlink("../secret", root.join("outside")).unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        base
    }

    #[test]
    fn nothing_outside_the_root_opens() {
        let base = site();
        let path = base.join("root");
        let root = Root::open(path.to_str().unwrap(), true).unwrap();
        let open = |path: &str| root.open_file(path.as_bytes()).is_ok();
        for good in ["/a", "/dir/b", "//a", "/", "/inside", "/dir/../a"] {
            assert!(open(good), "{good}");
        }
        for bad in [
            "/../secret",
            "/dir/../../secret",
            "/outside",
            "/absolute",
            "/a/",
            "/none",
            "/proc/self/root/etc/passwd",
        ] {
            assert!(!open(bad), "{bad}");
        }
        let fd = root.directory.as_raw_fd();
        let open = |path: &str| open_step_by_step(fd, path.as_bytes()).is_ok();
        assert!(open("a") && open("dir/b") && open(".") && open("dir/"));
        for bad in ["../secret", "dir/../a", "inside", "outside", "a/"] {
            assert!(!open(bad), "{bad}");
        }
        fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn names_with_a_dot_are_hidden() {
        let base = site();
        let path = base.join("root");
        let root = Root::open(path.to_str().unwrap(), false).unwrap();
        assert!(root.open_file(b"/.hidden").is_err());
        assert!(root.open_file(b"/dir/../a").is_err());
        assert!(root.open_file(b"/a\0").is_err());
        assert!(root.relative(b"/.well-known/x").is_ok());
        fs::remove_dir_all(base).unwrap();
    }
}
