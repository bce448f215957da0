//! Where a message's octets come from: files that stay files until they are
//! sent, and memory for what can be read once only.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use super::text::OCTETS_A_LINE;
use crate::error::{Doing, Error};

/// What is no regular file (a pipe) is read whole, up to here.
const MAX_IN_MEMORY: u64 = 64 << 20;

/// Read from a file at a time: a thousand lines of base64.
pub const PIECE: usize = 1000 * OCTETS_A_LINE;

/// A file to go along.
pub struct Attachment {
    pub name: String,
    pub content: Content,
}

/// Octets, in a file or in memory.
pub enum Content {
    File { file: File, path: String, size: u64 },
    Memory(Vec<u8>),
}

impl Attachment {
    pub fn open(path: &str) -> Result<Attachment, Error> {
        let name = Path::new(path).file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        if name.chars().any(char::is_control) {
            let fault = format!("a control character in the name {name:?}");
            return Err(Error::Usage(fault));
        }
        Ok(Attachment { name, content: Content::open(path)? })
    }
}

impl Content {
    fn open(path: &str) -> Result<Content, Error> {
        let doing = || format!("read {path}");
        let file = File::open(path).doing(doing)?;
        let metadata = file.metadata().doing(doing)?;
        if metadata.is_dir() {
            let fault: io::Error = ErrorKind::IsADirectory.into();
            return Err(fault).doing(doing);
        }
        // (files of /proc are longer than they say)
        if metadata.is_file() && metadata.size() > 0 {
            let size = metadata.size();
            return Ok(Content::File { file, path: path.into(), size });
        }
        Content::from_stream(file, path)
    }

    fn from_stream(stream: impl Read, path: &str) -> Result<Content, Error> {
        let doing = || format!("read {path}");
        let mut bytes = Vec::new();
        let mut stream = stream.take(MAX_IN_MEMORY + 1);
        stream.read_to_end(&mut bytes).doing(doing)?;
        match bytes.len() as u64 > MAX_IN_MEMORY {
            true => Err(Error::Usage(format!("{path}: more than 64 MiB"))),
            false => Ok(Content::Memory(bytes)),
        }
    }

    /// In octets.
    pub fn size(&self) -> u64 {
        match self {
            Content::File { size, .. } => *size,
            Content::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Hands the octets from `start` on to `take`, piece by piece.
    pub fn each_piece(
        &self,
        start: u64,
        mut take: impl FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        match self {
            Content::Memory(bytes) => {
                bytes[start as usize..].chunks(PIECE).try_for_each(take)
            }
            Content::File { file, path, size } => {
                let mut buffer = vec![0; PIECE];
                let mut at = start;
                while at < *size {
                    let most = (*size - at).min(PIECE as u64) as usize;
                    let piece = &mut buffer[..most];
                    file.read_exact_at(piece, at).map_err(|error| {
                        io::Error::other(format!(
                            "{path} is not what it was: {error}"
                        ))
                    })?;
                    take(piece)?;
                    at += most as u64;
                }
                Ok(())
            }
        }
    }
}

/// A complete message, before it is known where its header begins.
pub struct RawFile(pub Content);

impl RawFile {
    pub fn open(path: &str) -> Result<RawFile, Error> {
        let content = match path {
            "-" => Content::from_stream(io::stdin().lock(), "standard input"),
            path => Content::open(path),
        };
        Ok(RawFile(content?))
    }

    /// What it begins with, for the envelope of `dead_letter.rs`.
    pub fn beginning(&self, most: usize) -> Result<Vec<u8>, Error> {
        match &self.0 {
            Content::Memory(bytes) => Ok(bytes[..bytes.len().min(most)].into()),
            Content::File { file, path, size } => {
                let mut bytes = vec![0; most.min(*size as usize)];
                let read = file.read_exact_at(&mut bytes, 0);
                read.doing(|| format!("read {path}"))?;
                Ok(bytes)
            }
        }
    }
}
