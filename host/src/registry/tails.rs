//! Following the journals of other processes: what they acknowledged is known here before it stands in the document.
//!
//! Read only, and no lock is needed: a record counts if its checksum does. Whoever stamps a change looks here first, so
//! that the stamp is above everything that was acknowledged before, by whomever.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::journal::change::Change;
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
}

struct Tail {
    file: Box<dyn DiskFile>,
    epoch: u64,
    at: u64,
}

/// How much of a journal is read at once while it is followed.
const CHUNK_BYTES: usize = 64 << 10;

/// The grain of a folder's times, generously: within it, the same look may hide a change.
const GRAIN_NS: u64 = 100_000_000;

impl Tails {
    /// Whether there are journals of others.
    pub(super) fn any(&self) -> bool {
        !self.segments.is_empty()
    }

    /// Whether there are journals whose writers seem to be gone.
    ///
    /// # Errors
    /// Whatever the file system says.
    pub(super) fn any_orphaned(&self, disk: &dyn Disk) -> io::Result<bool> {
        for name in self.segments.keys() {
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
        let mut news = Vec::new();
        let mut read = Vec::new();
        for (name, tail) in &self.segments {
            let at = tail.news(&mut news)?;
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
        Ok(news)
    }

    fn list(&mut self, disk: &dyn Disk, names: &FileNames, own: &str, now: WallMs) -> io::Result<()> {
        let look = disk.look_at_folder()?;
        let settled = now.0.saturating_mul(1_000_000).saturating_sub(look.modified_ns) > GRAIN_NS;
        if self.folder == Some(look) && settled {
            return Ok(());
        }
        let mut present = BTreeMap::new();
        for name in disk.names()? {
            let Some(FileKind::Segment { writer, epoch, .. }) = names.kind(&name) else { continue };
            if writer == own {
                continue;
            }
            if let Some(tail) = self.segments.remove(&name) {
                present.insert(name, tail);
            } else if let Some(file) = disk.open(&name)? {
                present.insert(name, Tail { file, epoch, at: HEADER_BYTES as u64 });
            }
        }
        // A journal that is gone stands in the document, which is read after the journals.
        self.segments = present;
        self.folder = Some(look);
        Ok(())
    }
}

impl Tail {
    /// Appends what was recorded since; returns up to where.
    fn news(&self, news: &mut Vec<Arc<Known>>) -> io::Result<u64> {
        let mut head = [0; 4];
        if self.file.read_at(self.at, &mut head)? < head.len() || format::ends(&head) {
            return Ok(self.at);
        }
        let mut bytes = read_chunk(&*self.file, self.at, CHUNK_BYTES)?;
        // One record, or many: then all that is there.
        if format::record(self.epoch, &bytes).is_none() || bytes.len() == CHUNK_BYTES {
            bytes = disk::read_to_end_at(&*self.file, self.at, SEGMENT_BYTES_MAX as usize + CHUNK_BYTES)?;
        }
        let mut latest: BTreeMap<String, Change<'_>> = BTreeMap::new();
        let mut at = 0;
        while let Some((record, length)) = format::record(self.epoch, &bytes[at..]) {
            match Change::decode(record.payload) {
                Ok(Some(change)) => {
                    latest.insert(change.name.clone().into_owned(), change);
                }
                Ok(None) => {}
                // A later version's: who adopts the journal reports it.
                Err(_) => {}
            }
            at += length;
        }
        news.extend(latest.values().filter_map(|change| change.known().ok()).map(Arc::new));
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
