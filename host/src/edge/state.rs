//! Last known good state on disk: one file for each subject, its raw bytes behind a header and a digest.
//!
//! A file is `cortex-state 1 <sha256>` on the first line, a JSON header on the second, and the raw bytes after it; the
//! digest covers everything behind the first line. A file that does not read so is moved aside by whoever writes, never
//! overwritten, and its subject starts as if it had none.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::files::Directory;
use crate::model::Digest;

/// What is kept of one subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// What is known about the bytes, as one line of JSON.
    pub header: String,
    /// The bytes, as they were received.
    pub body: Bytes,
}

impl StateRecord {
    /// A record with this header.
    ///
    /// # Errors
    /// If the header does not serialise.
    pub fn new(header: &impl Serialize, body: Bytes) -> Result<Self, serde_json::Error> {
        Ok(Self { header: serde_json::to_string(header)?, body })
    }

    /// Reads the header.
    ///
    /// # Errors
    /// If it is of another form.
    pub fn header<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.header)
    }

    /// The bytes of its file.
    pub fn encode(&self) -> Vec<u8> {
        let mut covered = Vec::with_capacity(self.header.len() + 1 + self.body.len());
        covered.extend_from_slice(self.header.as_bytes());
        covered.push(b'\n');
        covered.extend_from_slice(&self.body);
        let mut file = format!("{MAGIC}{}\n", Digest::of(&covered)).into_bytes();
        file.append(&mut covered);
        file
    }

    /// Reads the bytes of a file; none if they are damaged.
    pub fn decode(file: &[u8]) -> Option<Self> {
        let rest = file.strip_prefix(MAGIC.as_bytes())?;
        let (digest, rest) = split_line(rest)?;
        let digest: Digest = std::str::from_utf8(digest).ok()?.parse().ok()?;
        if Digest::of(rest) != digest {
            return None;
        }
        let (header, body) = split_line(rest)?;
        Some(Self { header: std::str::from_utf8(header).ok()?.to_owned(), body: Bytes::copy_from_slice(body) })
    }
}

/// Takes records to be kept. The latest of a subject replaces the ones before.
pub trait StateSink: Send + Sync + 'static {
    /// Keeps a record soon. It may be written together with others.
    fn keep(&self, name: &str, record: StateRecord);

    /// Keeps nothing of a subject any more.
    fn forget(&self, name: &str);

    /// Keeps a record and returns once it is durable, or once it is certain that another process keeps the state.
    fn keep_now(&self, name: &str, record: StateRecord) -> BoxFuture<'_, io::Result<()>>;
}

/// Everything that a directory holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// The records, by name.
    pub records: Vec<(String, StateRecord)>,
    /// The files that are damaged.
    pub damaged: Vec<Damaged>,
}

/// A file that can not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The name of its record.
    pub name: String,
    /// The digest of its bytes.
    pub digest: Digest,
}

impl Damaged {
    /// A file of these bytes.
    pub fn new(name: &str, bytes: &[u8]) -> Self {
        Self { name: name.to_owned(), digest: Digest::of(bytes) }
    }

    /// Where it is moved: each damaged content has a place of its own.
    pub fn aside(&self) -> String {
        format!("{}.{}.damaged", self.name, self.digest.short(8))
    }
}

/// Moves a damaged file aside. Only for whoever holds the lock: another process may write a good one meanwhile.
///
/// # Errors
/// Whatever the file system says.
pub fn set_aside(directory: &dyn Directory, damaged: &Damaged) -> io::Result<()> {
    directory.rename(&file_name(&damaged.name), &damaged.aside())
}

/// Reads every record of a directory.
///
/// # Errors
/// Whatever the file system says.
pub fn read_all(directory: &dyn Directory) -> io::Result<SavedState> {
    let mut saved = SavedState::default();
    for file in directory.names()? {
        let Some(name) = file.strip_suffix(SUFFIX) else { continue };
        let Some(bytes) = directory.read(&file)? else { continue };
        match StateRecord::decode(&bytes) {
            Some(record) => saved.records.push((name.to_owned(), record)),
            None => saved.damaged.push(Damaged::new(name, &bytes)),
        }
    }
    Ok(saved)
}

/// Writes one record durably.
///
/// # Errors
/// Whatever the file system says.
pub fn write_one(directory: &Arc<dyn Directory>, name: &str, record: &StateRecord) -> io::Result<()> {
    directory.replace(&file_name(name), &record.encode())
}

/// Removes one record; a missing one is as good as removed.
///
/// # Errors
/// Whatever the file system says.
pub fn remove_one(directory: &dyn Directory, name: &str) -> io::Result<()> {
    match directory.remove(&file_name(name)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

const MAGIC: &str = "cortex-state 1 ";
const SUFFIX: &str = ".state";

fn file_name(name: &str) -> String {
    format!("{name}{SUFFIX}")
}

fn split_line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.iter().position(|byte| *byte == b'\n')?;
    Some((&bytes[..end], &bytes[end + 1..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::files::MemoryDirectory;

    #[test]
    fn a_record_is_read_back_and_every_flipped_bit_is_noticed() {
        let record = StateRecord::new(&"header", Bytes::from_static(b"two\nlines")).unwrap();
        let file = record.encode();
        assert_eq!(StateRecord::decode(&file), Some(record));
        for position in 0..file.len() {
            for bit in 0..8 {
                let mut damaged = file.clone();
                damaged[position] ^= 1 << bit;
                assert_eq!(StateRecord::decode(&damaged), None, "byte {position}, bit {bit}");
            }
        }
        for length in 0..file.len() {
            assert_eq!(StateRecord::decode(&file[..length]), None, "cut to {length}");
        }
    }

    #[test]
    fn a_damaged_file_is_moved_aside_and_the_others_are_read() {
        let directory = MemoryDirectory::new();
        let shared: Arc<dyn Directory> = Arc::new(directory.clone());
        let record = StateRecord::new(&1, Bytes::from_static(b"x")).unwrap();
        write_one(&shared, "good", &record).unwrap();
        directory.replace("bad.state", b"cortex-state 1 nonsense").unwrap();
        let saved = read_all(&*shared).unwrap();
        assert_eq!(saved.records, [("good".to_owned(), record)]);
        let damaged = Damaged::new("bad", b"cortex-state 1 nonsense");
        assert_eq!(saved.damaged, std::slice::from_ref(&damaged));
        set_aside(&*shared, &damaged).unwrap();
        assert_eq!(directory.names().unwrap(), [damaged.aside(), "good.state".to_owned()]);
    }

    #[test]
    fn a_file_that_was_moved_aside_is_not_overwritten_by_the_next_one() {
        let directory = MemoryDirectory::new();
        for bytes in [&b"first"[..], b"second", b"first"] {
            directory.replace("bad.state", bytes).unwrap();
            for damaged in read_all(&directory).unwrap().damaged {
                set_aside(&directory, &damaged).unwrap();
            }
        }
        assert_eq!(directory.names().unwrap().len(), 2);
    }
}
