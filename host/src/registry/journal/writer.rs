//! A process's own journal: which segment is written, which are full, which one is spare.
//!
//! A commit is one write and one `fdatasync`. After an error the segment is never touched again; its earlier records still
//! count, so it stays until a snapshot holds them.

use std::io;

use super::change::SEAL;
use super::format::HEADER_BYTES;
use super::format::{Record, frame};
use super::segment::Segment;
use crate::edge::disk::{self, Disk};
use crate::model::BootMs;
use crate::registry::limits::{SEGMENT_BYTES_MAX, SEGMENT_KEPT};

/// A process's own journal.
pub(in crate::registry) struct Journal {
    /// The size at which a segment has had its time.
    segment_bytes: u64,
    active: Option<Segment>,
    spare: Option<Segment>,
    /// Segments that are not written any more, each with the last sequence that it holds.
    full: Vec<(Segment, u64)>,
    /// The sequence given last.
    sequence: u64,
    numbers: u64,
    buffer: Vec<u8>,
}

/// Why a commit is not durable.
#[derive(Debug)]
pub(in crate::registry) enum CommitError {
    /// There is no segment to write to.
    NoSegment,
    /// The disk failed. The segment is given up.
    Failed(io::Error),
}

impl Journal {
    /// A journal without any segment yet.
    pub(in crate::registry) fn of(segment_bytes: usize) -> Self {
        Self {
            segment_bytes: segment_bytes as u64,
            active: None,
            spare: None,
            full: Vec::new(),
            sequence: 0,
            numbers: 0,
            buffer: Vec::new(),
        }
    }

    /// The number of the next segment. It is used up only when the segment is given: numbers have no gaps but where a
    /// segment was removed, as the document holds what it said.
    pub(in crate::registry) fn next_number(&self) -> u64 {
        self.numbers + 1
    }

    /// Whether a segment should be made ready.
    pub(in crate::registry) fn wants_spare(&self) -> bool {
        self.spare.is_none()
    }

    /// Whether a change can be committed at once.
    pub(in crate::registry) fn is_ready(&self) -> bool {
        self.spare.is_some() || self.active.as_ref().is_some_and(|active| active.end < SEGMENT_BYTES_MAX)
    }

    /// Takes a segment that was made ready.
    pub(in crate::registry) fn give(&mut self, segment: Segment) {
        self.numbers += 1;
        self.spare = Some(segment);
    }

    /// The sequence of the last record that is durable.
    pub(in crate::registry) fn durable_upto(&self) -> u64 {
        self.sequence
    }

    /// Makes payloads durable, in order, and returns the sequence of the last.
    ///
    /// # Errors
    /// [`CommitError`]; it is then unknown whether they are durable.
    pub(in crate::registry) fn commit(&mut self, payloads: &[Vec<u8>]) -> Result<u64, CommitError> {
        self.rotate();
        let Some(active) = &mut self.active else { return Err(CommitError::NoSegment) };
        self.buffer.clear();
        let durable_upto = self.sequence;
        let mut sequence = self.sequence;
        for payload in payloads {
            sequence += 1;
            frame(active.epoch, &Record { sequence, durable_upto, payload }, &mut self.buffer);
        }
        let written =
            disk::write_all_at(&*active.file, active.end, &self.buffer).and_then(|()| active.file.sync_data());
        match written {
            Ok(()) => {
                active.end += self.buffer.len() as u64;
                self.sequence = sequence;
                Ok(sequence)
            }
            Err(error) => {
                // It is never written again. Its last sequences are given again, in the next segment, which counts more.
                self.retire();
                Err(CommitError::Failed(error))
            }
        }
    }

    /// Goes on to the spare segment if the active one has had its time, or is missing.
    fn rotate(&mut self) {
        let limit = self.segment_bytes;
        let full = |segment: &Segment| segment.end >= limit;
        if self.active.as_ref().is_none_or(full)
            && let Some(spare) = self.spare.take()
        {
            self.retire();
            self.active = Some(spare);
        }
        // One that may not grow any more, although there is no other.
        if self.active.as_ref().is_some_and(|segment| segment.end >= SEGMENT_BYTES_MAX) {
            self.retire();
        }
    }

    /// Writes no more to the active segment: it is unknown what stands at its end. Its last sequences are given again, in the
    /// next segment, which counts more.
    pub(in crate::registry) fn give_up(&mut self) {
        self.retire();
    }

    fn retire(&mut self) {
        if let Some(active) = self.active.take() {
            self.full.push((active, self.sequence));
        }
    }

    /// Removes what a durable snapshot holds: every segment without a record after `sequence`.
    ///
    /// A segment that is half full or older than [`SEGMENT_KEPT`] is given up for a new one: what it says must not outlive the
    /// tombstones that came after it.
    pub(in crate::registry) fn forget(&mut self, disk: &dyn Disk, sequence: u64, now: BootMs) {
        let spent = |active: &Segment| {
            let begun = active.end > HEADER_BYTES as u64;
            begun && (active.end >= self.segment_bytes / 2 || now.since(active.made) >= SEGMENT_KEPT)
        };
        if self.sequence <= sequence && self.active.as_ref().is_some_and(spent) {
            self.retire();
        }
        self.full.retain(|(segment, last)| {
            // What can not be removed now is found and removed later: replaying it again changes nothing.
            let gone = || match disk.remove(&segment.name) {
                Ok(()) => true,
                Err(error) => error.kind() == io::ErrorKind::NotFound,
            };
            *last > sequence || !gone()
        });
    }

    /// Whether it holds changes for longer than they should be kept.
    pub(in crate::registry) fn is_old(&self, now: BootMs) -> bool {
        let old = |active: &Segment| active.end > HEADER_BYTES as u64 && now.since(active.made) >= SEGMENT_KEPT;
        self.active.as_ref().is_some_and(old)
    }

    /// Writes that everything is durable, after which the last batch too is known to be whole.
    ///
    /// # Errors
    /// [`CommitError`].
    pub(in crate::registry) fn seal(&mut self) -> Result<(), CommitError> {
        if self.active.is_none() {
            return Ok(());
        }
        self.commit(&[SEAL.to_vec()]).map(drop)
    }

    /// Removes all of it, once a durable snapshot holds everything.
    pub(in crate::registry) fn remove_all(&mut self, disk: &dyn Disk) {
        self.retire();
        let spare = self.spare.take();
        for segment in self.full.drain(..).map(|(segment, _)| segment).chain(spare) {
            // As above.
            let _ = disk.remove(&segment.name);
        }
    }
}
