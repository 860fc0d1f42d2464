//! Compaction: what records still need goes to one new log, and the older logs go.
//!
//! A crash at any point leaves every record readable. The new log holds copies of frames that are older than whatever is
//! written meanwhile, and its generation is lower; the older logs go once it is durable, the oldest first, so that a removal
//! never goes before what it removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;

use super::frame;
use super::limits::{COPY_CHUNK_BYTES, DAMAGED_FILES_MAX};
use super::read::{Location, log_name};
use crate::edge::files::{AppendFile, Directory};
use crate::model::Digest;

/// A compaction that was begun. Blocking; it needs nothing of its store.
pub struct Compaction {
    pub(super) directory: Arc<dyn Directory>,
    pub(super) target: u64,
    /// The frames to copy, in the order in which they were written.
    pub(super) live: Vec<Location>,
    /// The logs that go, and whether they are damaged.
    pub(super) logs: BTreeMap<u64, bool>,
}

/// What a compaction did.
#[derive(Debug, Default)]
pub struct Compacted {
    pub(super) target: u64,
    /// The length of the new log, if there is one.
    pub(super) length: Option<u64>,
    pub(super) moved: BTreeMap<Location, Location>,
    /// Frames that were damaged, cut off or removed since they were read or written.
    pub(super) lost: BTreeSet<Location>,
    pub(super) removed: Vec<u64>,
    /// Whether all older logs are gone.
    pub(super) is_complete: bool,
}

impl Compacted {
    /// Bytes that were copied.
    pub fn bytes(&self) -> u64 {
        self.length.unwrap_or(0)
    }
}

impl Compaction {
    /// Copies what is needed, and removes the older logs.
    ///
    /// # Errors
    /// Whatever the file system reports before the copy is durable. The older logs are all there then, and the store removes
    /// the copy.
    pub fn run(mut self) -> io::Result<Compacted> {
        let mut compacted = Compacted { target: self.target, ..Compacted::default() };
        if !self.live.is_empty() {
            let name = log_name(self.target);
            let file = self.directory.create(&name)?;
            self.copy(file, &mut compacted)?;
            self.directory.persist(&name)?;
        }
        for at in &compacted.lost {
            self.logs.insert(at.generation, true);
        }
        compacted.is_complete = true;
        for (generation, is_damaged) in &self.logs {
            if let Err(error) = self.drop_log(*generation, *is_damaged) {
                tracing::warn!(log = log_name(*generation), %error, "a log of saved state could not be removed");
                // The later ones stay too: they may hold removals of what this one holds.
                compacted.is_complete = false;
                break;
            }
            compacted.removed.push(*generation);
        }
        Ok(compacted)
    }

    fn copy(&self, mut file: Box<dyn AppendFile>, compacted: &mut Compacted) -> io::Result<()> {
        let mut chunk = Vec::new();
        let mut offset = 0;
        for at in &self.live {
            let frame = match self.directory.read_range(&log_name(at.generation), at.offset, at.length) {
                Ok(frame) => frame,
                // It is gone for good. Other errors may pass, and end this compaction: nothing readable is given up.
                Err(error) if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::NotFound) => {
                    Vec::new()
                }
                Err(error) => return Err(error),
            };
            if !frame::is_whole(&frame) {
                let log = log_name(at.generation);
                tracing::warn!(log, "saved state was damaged on disk; it is written again as it changes");
                compacted.lost.insert(*at);
                continue;
            }
            compacted.moved.insert(*at, Location { generation: self.target, offset, length: at.length });
            offset += at.length as u64;
            chunk.extend_from_slice(&frame);
            if chunk.len() >= COPY_CHUNK_BYTES {
                file.append(&chunk)?;
                chunk.clear();
            }
        }
        file.append(&chunk)?;
        compacted.length = Some(offset);
        Ok(())
    }

    fn drop_log(&self, generation: u64, is_damaged: bool) -> io::Result<()> {
        let name = log_name(generation);
        if is_damaged {
            return quarantine(&*self.directory, &name);
        }
        missing_is_fine(self.directory.remove(&name))
    }
}

/// Keeps a damaged file under another name, which its content determines. If many are kept already, it is removed.
pub(super) fn quarantine(directory: &dyn Directory, file: &str) -> io::Result<()> {
    let Some(bytes) = directory.read(file)? else { return Ok(()) };
    let quarantined = format!("{file}.{}{DAMAGED_SUFFIX}", Digest::of(&bytes).short(8));
    let names = directory.names()?;
    let kept = names.iter().filter(|name| name.ends_with(DAMAGED_SUFFIX)).count();
    if kept >= DAMAGED_FILES_MAX && !names.contains(&quarantined) {
        tracing::warn!(
            file,
            kept,
            "a damaged file is removed: enough of them are kept; delete those that are not needed"
        );
        return missing_is_fine(directory.remove(file));
    }
    tracing::warn!(file, quarantined, "a damaged file of saved state is quarantined");
    directory.rename(file, &quarantined)
}

const DAMAGED_SUFFIX: &str = ".damaged";

pub(super) fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

impl std::fmt::Debug for Compaction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Compaction").field("target", &self.target).finish_non_exhaustive()
    }
}
