//! Tending: what is due is done, again and again, by whoever keeps the store; and closing it.

use std::time::Duration;

use super::journal::segment::{NewSegment, Segment};
use super::limits::{ORPHAN_CHECK_INTERVAL, POLL_INTERVAL, SEGMENT_RETRY};
use super::round::Edit;
use super::standing::{ReadOnlyReason, StoreError};
use super::store::{Acknowledge, Store, locked};
use std::sync::Arc;

impl Store {
    /// Does what is due: looks at what others did, writes the document, makes a segment ready, tries a failed disk again.
    /// Returns after how long to come again, at most [`POLL_INTERVAL`].
    pub fn tend(&self) -> Duration {
        if let Err(error) = self.tend_now() {
            // It is in the standing too; everything is tried again.
            tracing::debug!(%error, "the registry could not be tended");
        }
        let core = locked(&self.core);
        let flush = self.flush_due(&core).map(Duration::from_millis).filter(|_| core.standing.is_writable());
        flush.unwrap_or(POLL_INTERVAL).clamp(LEAST_PAUSE, POLL_INTERVAL)
    }

    fn tend_now(&self) -> Result<(), StoreError> {
        let observed = self.observe();
        if let Err(StoreError::Disk(error)) = &observed {
            let mut core = locked(&self.core);
            if core.standing.reason().is_none() {
                self.degrade(&mut core, ReadOnlyReason::disk(error));
            }
        }
        observed?;
        let now = self.boot();
        let checks = now >= locked(&self.core).check_due;
        if checks && let Ok(mut settling) = self.settling.try_lock() {
            // Looks are believed for a bounded time only.
            self.observe_document(&mut settling, true)?;
        }
        let (due, wants_segment) = {
            let mut core = locked(&self.core);
            self.watch_replaced(&mut core)?;
            let held_back = !core.standing.is_writable() && now < core.probe.0;
            // What was in the way may be gone: then nothing is waited for.
            let cleared = match core.standing.reason() {
                Some(ReadOnlyReason::Unreadable { .. }) => core.wants_settle,
                Some(ReadOnlyReason::JournalDamaged { file, .. }) => self.disk.look(file)?.is_none(),
                Some(ReadOnlyReason::Disk { .. }) | None => false,
            };
            let mut left_over = false;
            if checks {
                core.check_due = now.plus(ORPHAN_CHECK_INTERVAL);
                // What is known and stands nowhere else: a document of the past was put back, or a writer is gone.
                let nowhere = !core.tails.any() && core.waiting.changes == 0 && !core.is_in_document();
                left_over = nowhere || core.tails.any_orphaned(&*self.disk)?;
            }
            let flush = self.flush_due(&core).is_some_and(|wait| wait == 0);
            let old = core.journal.is_old(now);
            let wanted = core.wants_settle || flush || left_over || old || !core.standing.is_writable();
            let due = wanted && (!held_back || cleared);
            let journals = self.options.acknowledge == Acknowledge::Journal
                && core.journal.wants_spare()
                && (now >= core.segment_due || !core.journal.is_ready());
            (due, journals && !held_back)
        };
        if due {
            self.settle(Edit::None)?;
        }
        if let Ok(mut settling) = self.settling.try_lock() {
            self.tidy(&mut settling);
        }
        let standing = locked(&self.core).standing.clone();
        if wants_segment
            && matches!(standing.reason(), None | Some(ReadOnlyReason::Disk { .. }))
            && let Err(error) = self.prepare_segment()
        {
            let mut core = locked(&self.core);
            if core.journal.is_ready() {
                tracing::debug!(%error, "no segment could be made ready for later");
                core.segment_due = now.plus(SEGMENT_RETRY);
            } else {
                self.degrade(&mut core, ReadOnlyReason::disk(&error));
            }
        }
        Ok(())
    }

    /// Looks whether someone wrote to a document after it was replaced.
    fn watch_replaced(&self, core: &mut super::store::Core) -> Result<(), StoreError> {
        // Settling is not waited for: whoever is at it looks by itself.
        if let Ok(settling) = self.settling.try_lock() {
            for (name, look) in &settling.replaced {
                core.wants_settle |= self.disk.look(name)?.is_some_and(|now| now != *look);
            }
        }
        Ok(())
    }

    /// Makes a segment of the journal ready.
    pub(super) fn prepare_segment(&self) -> std::io::Result<()> {
        let _preparing = locked(&self.preparing);
        let mut tries = SEGMENT_TRIES;
        let segment = loop {
            let new = {
                let core = locked(&self.core);
                if !core.journal.wants_spare() {
                    return Ok(());
                }
                NewSegment {
                    writer: core.judge.writer().to_owned(),
                    number: core.journal.next_number(),
                    epoch: self.random(),
                    generation: core.generation,
                    temporary: self.random(),
                    made: self.boot(),
                    bytes: self.options.segment_bytes,
                }
            };
            match Segment::create(&*self.disk, &self.names, &new) {
                // Someone looked at it before it was locked: under another name, nobody does.
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock && tries > 0 => tries -= 1,
                other => break other?,
            }
        };
        let mut core = locked(&self.core);
        core.journal.give(segment);
        if matches!(core.standing.reason(), Some(ReadOnlyReason::Disk { .. })) {
            self.recover(&mut core);
            self.publish(&mut core);
        }
        Ok(())
    }

    /// Writes what waits into the document, now.
    ///
    /// # Errors
    /// [`StoreError`]; what was acknowledged stays in the journal.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.settle(Edit::None)
    }

    /// Closes the store: no more changes are taken, those that wait are answered, and everything is written into the
    /// document. If that fails, the journal stays, and whoever opens the registry next takes it over.
    ///
    /// # Errors
    /// [`StoreError`]; nothing that was acknowledged is lost by one.
    pub fn close(self: &Arc<Self>) -> Result<(), StoreError> {
        self.close_queue();
        let waits = {
            let core = locked(&self.core);
            core.waiting.changes > 0 || (core.wants_settle && self.options.acknowledge == Acknowledge::Journal)
        };
        let settled = if waits { self.settle(Edit::None) } else { Ok(()) };
        self.tidy(&mut locked(&self.settling));
        let mut core = locked(&self.core);
        if core.waiting.changes == 0 {
            core.journal.remove_all(&*self.disk);
        } else if core.journal.seal().is_err() {
            tracing::warn!("the journal could not be sealed; its last batch will be reported as torn, if it is");
        }
        settled
    }
}

/// How often a segment is made again because someone looked at it while it was made.
const SEGMENT_TRIES: usize = 3;

/// The shortest pause between two tendings.
const LEAST_PAUSE: Duration = Duration::from_millis(1);
