//! Following the journals of other processes: what they acknowledged is known here before it stands in the document.
//!
//! Read only, and no lock is needed: a record counts if its checksum does. Whoever stamps a change looks here first, so
//! that the stamp is above everything that was acknowledged before, by whomever.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io;
use std::sync::Arc;

use super::journal::change::{self, Change};
use super::journal::format::{self, HEADER_BYTES};
use super::limits::SEGMENT_BYTES_MAX;
use super::names::{FileKind, FileNames};
use super::state::Known;
use crate::edge::disk::{self, Disk, DiskFile, DiskLook};
use crate::model::WallMs;

/// The journals of others, each up to where it was read.
#[derive(Default)]
pub(super) struct Tails {
    segments: BTreeMap<String, Tail>,
    folder: Option<DiskLook>,
    /// Journals that have to stay where they are although their writers are gone.
    left_alone: BTreeSet<String>,
}

/// What was recorded, taken from the end: for each name the latest of each writer. What it replaced is not even read.
#[derive(Default)]
struct Latest {
    writer: String,
    /// The names that a later record of this writer is about.
    names: HashSet<String>,
    news: Vec<Arc<Known>>,
}

impl Latest {
    /// From here on it is about this writer.
    fn of(&mut self, writer: &str) {
        if self.writer != writer {
            writer.clone_into(&mut self.writer);
            self.names.clear();
        }
    }

    /// Takes a record that is earlier than all that were taken.
    fn take(&mut self, payload: &[u8]) {
        if change::plain_name(payload).is_some_and(|name| self.names.contains(name)) {
            return;
        }
        // What can not be understood is a later version's: who adopts the journal reports it.
        let Ok(Some(change)) = Change::decode(payload) else { return };
        if self.names.insert(change.name.clone().into_owned())
            && let Ok(known) = change.known()
        {
            self.news.push(Arc::new(known));
        }
    }
}

struct Tail {
    writer: String,
    number: u64,
    file: Box<dyn DiskFile>,
    epoch: u64,
    at: u64,
}

/// How much of a journal is read at once while it is followed.
const CHUNK_BYTES: usize = 64 << 10;

/// The length of a record's length.
const LENGTH_BYTES: usize = 4;

/// The grain of a folder's times, generously: within it, the same look may hide a change.
const GRAIN_NS: u64 = 100_000_000;

impl Tails {
    /// Whether there are journals of others.
    pub(super) fn any(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Takes note of journals that have to stay: they are no reason to settle.
    pub(super) fn leave_alone<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        self.left_alone.extend(names.map(str::to_owned));
    }

    /// Whether there are journals whose writers seem to be gone.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn any_orphaned(&self, disk: &dyn Disk) -> io::Result<bool> {
        for name in self.segments.keys().filter(|name| !self.left_alone.contains(*name)) {
            // The lock is given back at once, with the file that is opened for it.
            if let Some(file) = disk.open(name)?
                && file.try_lock().unwrap_or(false)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What was recorded since this was asked last: for each name the latest of each writer.
    ///
    /// # Errors
    /// Whatever the file system says; what was read until then is read again.
    pub(super) fn news(
        &mut self,
        disk: &dyn Disk,
        names: &FileNames,
        own: &str,
        now: WallMs,
    ) -> io::Result<Vec<Arc<Known>>> {
        self.list(disk, names, own, now)?;
        let mut latest = Latest::default();
        let mut read = Vec::new();
        let mut segments: Vec<_> = self.segments.iter().collect();
        segments.sort_by_key(|(_, tail)| (&tail.writer, Reverse(tail.number)));
        for (name, tail) in segments {
            let at = tail.news(&mut latest)?;
            if at != tail.at {
                read.push((name.clone(), at));
            }
        }
        // Only once all was read.
        for (name, at) in read {
            if let Some(tail) = self.segments.get_mut(&name) {
                tail.at = at;
            }
        }
        Ok(latest.news)
    }

    fn list(&mut self, disk: &dyn Disk, names: &FileNames, own: &str, now: WallMs) -> io::Result<()> {
        let look = disk.look_at_folder()?;
        if self.folder == Some(look) {
            return Ok(());
        }
        let mut present = BTreeMap::new();
        for name in disk.names()? {
            let Some(FileKind::Segment { writer, number, epoch }) = names.kind(&name) else { continue };
            if writer == own {
                continue;
            }
            if let Some(tail) = self.segments.remove(&name) {
                present.insert(name, tail);
            } else if let Some(file) = disk.open(&name)? {
                present.insert(name, Tail { writer, number, file, epoch, at: HEADER_BYTES as u64 });
            }
        }
        // A journal that is gone stands in the document, which is read after the journals.
        self.segments = present;
        // A folder that has just changed may change once more and look the same.
        let settled = now.0.saturating_mul(1_000_000).saturating_sub(look.modified_ns) > GRAIN_NS;
        self.folder = settled.then_some(look);
        Ok(())
    }
}

impl Tail {
    /// Takes what was recorded since; returns up to where.
    fn news(&self, latest: &mut Latest) -> io::Result<u64> {
        if format::ends(&read_chunk(&*self.file, self.at, LENGTH_BYTES)?) {
            return Ok(self.at);
        }
        let mut bytes = read_chunk(&*self.file, self.at, CHUNK_BYTES)?;
        // One record, or many: then all that is there.
        if format::record(self.epoch, &bytes).is_none() || bytes.len() == CHUNK_BYTES {
            bytes = disk::read_to_end_at(&*self.file, self.at, SEGMENT_BYTES_MAX as usize + CHUNK_BYTES)?;
        }
        let mut payloads = Vec::new();
        let mut at = 0;
        while let Some((record, length)) = format::record(self.epoch, &bytes[at..]) {
            payloads.push(record.payload);
            at += length;
        }
        latest.of(&self.writer);
        payloads.iter().rev().for_each(|payload| latest.take(payload));
        Ok(self.at + at as u64)
    }
}

fn read_chunk(file: &dyn DiskFile, at: u64, cap: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; cap];
    let mut filled = 0;
    while filled < cap {
        match file.read_at(at + filled as u64, &mut bytes[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}
