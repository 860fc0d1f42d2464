//! What the disk can do: the same bytes, made durable by the fewest calls.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// As large as a segment of the registry's journal.
const SEGMENT_BYTES: usize = 1 << 20;

/// A segment that was written in advance, in which records are made durable one after the other, over and over.
pub(crate) struct RawLoop {
    file: File,
    record: Vec<u8>,
    at: u64,
}

impl RawLoop {
    pub(crate) fn new(folder: &Path, record_bytes: usize) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).truncate(true).read(true).write(true).open(folder.join("raw"))?;
        file.write_all_at(&vec![0; SEGMENT_BYTES], 0)?;
        file.sync_all()?;
        Ok(Self { file, record: vec![b'x'; record_bytes], at: 64 })
    }

    /// One record: a write and an `fdatasync`.
    pub(crate) fn write(&mut self) -> io::Result<()> {
        if self.at as usize + self.record.len() > SEGMENT_BYTES {
            self.at = 64;
        }
        self.file.write_all_at(&self.record, self.at)?;
        self.at += self.record.len() as u64;
        self.file.sync_data()
    }
}

/// Puts bytes in the place of a file: write, fsync, rename, fsync of the folder.
pub(crate) fn replace(folder: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = folder.join("raw-document.tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, folder.join("raw-document"))?;
    File::open(folder)?.sync_all()
}

/// The kind of the file system that a folder is on, as the kernel names it.
pub(crate) fn file_system(folder: &Path) -> String {
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mounts = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        Some((PathBuf::from(words.next()?), words.next()?.to_owned()))
    });
    let holding = mounts.filter(|(point, _)| folder.starts_with(point));
    holding.max_by_key(|(point, _)| point.components().count()).map_or_else(|| "unknown".to_owned(), |(_, kind)| kind)
}

/// How many bytes this process gave to the kernel so far. What the disk writes for them is counted by whole folios there
/// (`write_bytes`), which says nothing about small records in a segment that was written in advance.
pub(crate) fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|number| number.parse().ok()).unwrap_or(0)
}
