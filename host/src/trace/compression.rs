//! Compressed segments: how a segment that ended becomes one, and how its bytes are read.
//!
//! The compressed file is durable before the plain one is removed. Between the two both are there: readers take the plain
//! one, and the next process that holds the folder alone finishes the work. Nothing here is done without the folder's lock.

use std::fs::File;
use std::io::{self, BufRead, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::limits;
use super::segments::{COMPRESSED, FOLDER_LOCK, gone};
use crate::edge::files::Directory;

/// Replaces a plain segment by a compressed one. Nobody may write to it any more, and the caller holds the folder's lock.
/// Whether it was replaced: a segment without a whole line holds no decision, and one that is larger than any of this
/// version may be something else; both are left as they are.
///
/// A compressed file that is there already and whole is kept: after a loss of power the plain one may have lost its end.
///
/// # Errors
/// Whatever the file system says; the plain segment then stands, unless the compressed one does.
pub(super) fn compress(directory: &dyn Directory, segment: &str) -> io::Result<bool> {
    let compressed = format!("{segment}{COMPRESSED}");
    if !is_whole(directory, &compressed) {
        let plain = match directory.read_at_most(segment, limits::COMPRESSED_BYTES_MAX) {
            Ok(Some(plain)) if plain.contains(&b'\n') => plain,
            Ok(_) => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(false),
            Err(error) => return Err(error),
        };
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&plain)?;
        directory.replace(&compressed, &encoder.finish()?)?;
    }
    gone(directory.remove(segment))?;
    Ok(true)
}

/// Whether a file is there, and is compressed bytes to its end.
fn is_whole(directory: &dyn Directory, compressed: &str) -> bool {
    let Ok(Some(bytes)) = directory.read_at_most(compressed, limits::COMPRESSED_BYTES_MAX) else { return false };
    let mut expanded = MultiGzDecoder::new(&bytes[..]).take(limits::SEGMENT_EXPANDED_BYTES_MAX);
    io::copy(&mut expanded, &mut io::sink()).is_ok_and(|length| length > 0)
}

/// Compresses a segment that an earlier run left, or this one after a failure. Whether there is no need to try it again.
pub(super) fn compress_left(directory: &dyn Directory, segment: &str) -> bool {
    let _guard = match directory.try_lock(FOLDER_LOCK) {
        Ok(Some(guard)) => guard,
        Ok(None) => return false,
        Err(_) => return true,
    };
    // To lock a file that is gone would make an empty one.
    let is_there = directory.names().is_ok_and(|names| names.iter().any(|name| name == segment));
    if is_there
        && let Ok(Some(_unused)) = directory.try_lock(segment)
        && let Err(error) = compress(directory, segment)
    {
        tracing::debug!(%error, segment, "a segment of the trace stays uncompressed");
    }
    true
}

/// The first line of a compressed segment, without its end, of which this is the start; none if it does not end in it.
pub(super) fn first_line(start: &[u8]) -> Option<Vec<u8>> {
    let most = u64::try_from(limits::HEADER_BYTES_MAX).unwrap_or(u64::MAX);
    let mut line = Vec::new();
    // An error is that the rest of the file is missing.
    let _ = io::BufReader::new(MultiGzDecoder::new(start).take(most)).read_until(b'\n', &mut line);
    (line.pop() == Some(b'\n')).then_some(line)
}

/// The bytes of a segment's lines, out of a plain or a compressed file: the first bytes tell which it is.
///
/// # Errors
/// If the first bytes can not be read.
pub(super) fn open(file: File, read: Arc<AtomicU64>) -> io::Result<Source> {
    let mut file = io::BufReader::with_capacity(limits::READ_BYTES, Counted { file, read });
    let is_compressed = file.fill_buf()?.starts_with(&GZIP);
    Ok(if is_compressed {
        Source::Compressed(Box::new(MultiGzDecoder::new(file)))
    } else {
        Source::Plain(Box::new(file))
    })
}

/// How a file begins that is compressed (RFC 1952, section 2.3.1). No line of JSON does.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Where a reader takes the bytes of lines from.
pub(super) enum Source {
    Plain(Box<dyn Read + Send + Sync>),
    Compressed(Box<dyn Read + Send + Sync>),
}

impl Source {
    pub(super) fn is_compressed(&self) -> bool {
        matches!(self, Self::Compressed(_))
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(source) | Self::Compressed(source) => source.read(buffer),
        }
    }
}

/// Counts what is read of a file.
struct Counted {
    file: File,
    read: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.read.fetch_add(u64::try_from(length).unwrap_or(0), Ordering::Relaxed);
        Ok(length)
    }
}
