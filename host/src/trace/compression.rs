//! Compressed segments: how a segment that ended becomes one, and how its bytes are read.
//!
//! The compressed file is durable before the plain one is removed. Between the two both are there: readers take the plain
//! one, and the next process that holds the folder alone finishes the work. Files change only under the folder's lock.

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

/// Replaces a complete plain segment, which no process writes any more, by a compressed one, whatever has that name.
/// The caller holds the folder's lock. Returns whether it was replaced: a segment without a whole line holds no
/// decision, and one that is larger than any of this version may be something else; both are left as they are.
///
/// # Errors
/// Those of the file system; the plain segment is left then.
pub(super) fn compress(directory: &dyn Directory, segment: &str) -> io::Result<bool> {
    read_plain(directory, segment)?.map_or(Ok(false), |plain| replace(directory, segment, &plain))
}

/// The bytes of a plain segment; none if it is gone or too large.
fn read_plain(directory: &dyn Directory, segment: &str) -> io::Result<Option<Vec<u8>>> {
    match directory.read_at_most(segment, limits::COMPRESSED_BYTES_MAX) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(None),
        read => read,
    }
}

fn replace(directory: &dyn Directory, segment: &str, plain: &[u8]) -> io::Result<bool> {
    if !plain.contains(&b'\n') {
        return Ok(false);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(plain)?;
    directory.replace(&format!("{segment}{COMPRESSED}"), &encoder.finish()?)?;
    gone(directory.remove(segment))?;
    Ok(true)
}

/// How many bytes a compressed file expands to; none if it is missing, broken, incomplete or above the bound.
fn expanded_length(directory: &dyn Directory, compressed: &str) -> Option<u64> {
    let bytes = directory.read_at_most(compressed, limits::COMPRESSED_BYTES_MAX).ok()??;
    let mut expanded = MultiGzDecoder::new(&bytes[..]).take(limits::SEGMENT_EXPANDED_BYTES_MAX);
    let length = io::copy(&mut expanded, &mut io::sink()).ok()?;
    // At the bound the rest of the file was not looked at.
    (length < limits::SEGMENT_EXPANDED_BYTES_MAX).then_some(length)
}

/// The plain segments of a folder that are still to be compressed.
#[derive(Default)]
pub(super) struct Uncompressed {
    due: Vec<String>,
    /// Those that failed, or that another process writes.
    postponed: Vec<String>,
    has_warned: bool,
}

impl Uncompressed {
    pub(super) fn new(due: Vec<String>) -> Self {
        Self { due, ..Self::default() }
    }

    pub(super) fn push(&mut self, segment: String) {
        self.due.push(segment);
    }

    /// Makes the postponed segments due again.
    pub(super) fn retry(&mut self) {
        self.due.append(&mut self.postponed);
    }

    /// Tries one segment that is due, unless another process works on the folder.
    pub(super) fn compress_one(&mut self, directory: &dyn Directory) {
        let Some(segment) = self.due.pop() else { return };
        let _guard = match directory.try_lock(FOLDER_LOCK) {
            Ok(Some(guard)) => guard,
            Ok(None) => return self.due.push(segment),
            Err(error) => return self.postpone(segment, &error),
        };
        match compress_left(directory, &segment) {
            Ok(true) => {}
            Ok(false) => self.postponed.push(segment),
            Err(error) => self.postpone(segment, &error),
        }
    }

    /// Warns once: a full disk, or a file of another user, fails every time.
    fn postpone(&mut self, segment: String, error: &io::Error) {
        if !std::mem::replace(&mut self.has_warned, true) {
            tracing::warn!(%error, segment, "cannot compress a segment of the trace; trying again with the next segment");
        }
        self.postponed.push(segment);
    }
}

/// Compresses a segment that an earlier run left, or this one after a failure. Returns whether there is nothing left to
/// do; otherwise another process writes the segment.
///
/// A whole compressed file that is no shorter is kept: after a loss of power the plain one may have lost its end, or have
/// zeros there.
fn compress_left(directory: &dyn Directory, segment: &str) -> io::Result<bool> {
    // To lock a file that is gone would make an empty one.
    if !directory.names()?.iter().any(|name| name == segment) {
        return Ok(true);
    }
    let Some(_unused) = directory.try_lock(segment)? else { return Ok(false) };
    let Some(plain) = read_plain(directory, segment)? else { return Ok(true) };
    let length = plain.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let is_kept = expanded_length(directory, &format!("{segment}{COMPRESSED}"))
        .is_some_and(|expanded| expanded > 0 && expanded >= u64::try_from(length).unwrap_or(u64::MAX));
    if is_kept {
        gone(directory.remove(segment))?;
    } else {
        replace(directory, segment, &plain)?;
    }
    Ok(true)
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
/// If the first bytes cannot be read.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::files::MemoryDirectory;

    const NAME: &str = "trace-1767225600000-run-000000.jsonl";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// What the folder holds of the segment: the plain bytes, and those of the compressed file.
    fn held(directory: &MemoryDirectory) -> (Option<Vec<u8>>, Option<Vec<u8>>) {
        let expanded = directory.read(&format!("{NAME}{COMPRESSED}")).unwrap().map(|bytes| {
            let mut expanded = Vec::new();
            MultiGzDecoder::new(&bytes[..]).read_to_end(&mut expanded).unwrap();
            expanded
        });
        (directory.read(NAME).unwrap(), expanded)
    }

    #[test]
    fn a_complete_plain_segment_replaces_any_compressed_one() {
        for present in [&b"one\n"[..], b"one\ntwo\nthree\n", b"foreign, and longer than the segment"] {
            let directory = MemoryDirectory::new();
            directory.replace(NAME, b"one\ntwo\n").unwrap();
            directory.replace(&format!("{NAME}{COMPRESSED}"), &gzip(present)).unwrap();
            assert!(compress(&directory, NAME).unwrap());
            assert_eq!(held(&directory), (None, Some(b"one\ntwo\n".to_vec())));
        }
    }

    #[test]
    fn of_a_segment_that_was_left_the_longer_form_stays() {
        let (one, both) = (&b"one\n"[..], &b"one\ntwo\n"[..]);
        for (plain, compressed, expected) in [
            (both, gzip(one), both),
            (both, gzip(b""), both),
            (both, gzip(both)[..15].to_vec(), both),
            (both, [gzip(both), b"x".to_vec()].concat(), both),
            (both, gzip(both), both),
            (one, gzip(both), both),
            (b"one\nt\0\0\0\0\0\0", gzip(both), both),
            (b"", gzip(both), both),
        ] {
            let directory = MemoryDirectory::new();
            directory.replace(NAME, plain).unwrap();
            directory.replace(&format!("{NAME}{COMPRESSED}"), &compressed).unwrap();
            assert!(compress_left(&directory, NAME).unwrap());
            assert_eq!(held(&directory), (None, Some(expected.to_vec())), "{plain:?}");
        }
    }

    #[test]
    fn a_segment_that_is_in_use_is_tried_again_on_request() {
        let directory = MemoryDirectory::new();
        directory.replace(NAME, b"one\n").unwrap();
        let mut uncompressed = Uncompressed::new(vec![NAME.to_owned()]);
        let folder = directory.try_lock(FOLDER_LOCK).unwrap();
        uncompressed.compress_one(&directory);
        drop(folder);
        let writer = directory.try_lock(NAME).unwrap();
        uncompressed.compress_one(&directory);
        drop(writer);
        uncompressed.compress_one(&directory);
        assert_eq!(held(&directory), (Some(b"one\n".to_vec()), None), "not yet due again");
        uncompressed.retry();
        uncompressed.compress_one(&directory);
        assert_eq!(held(&directory), (None, Some(b"one\n".to_vec())));
        assert!(uncompressed.due.is_empty() && uncompressed.postponed.is_empty());
    }
}
