//! What was left behind: documents on their way when a process died, documents that someone went on writing to after they
//! were replaced, documents that can not be read, and journals that are damaged.
//!
//! Each is read before anything is done with it. What can be read is joined, and removed only once that is durable; what can
//! not is moved or copied aside, and never removed.

use super::absorb::FoundIn;
use super::document::RegistryDocument;
use super::journal::format::MAGIC;
use super::limits::{MAX_REGISTRY_BYTES, TEMPORARY_KEPT};
use super::names::FileKind;
use super::round::{Round, Settling};
use super::standing::{ReadOnlyReason, StoreError};
use super::store::{Store, locked};
use crate::edge::disk;
use crate::model::Digest;

impl Store {
    /// What crashes left behind: documents on their way, or swapped out and not looked at.
    pub(super) fn join_leftovers(&self, settling: &mut Settling, round: &mut Round) -> Result<(), StoreError> {
        for name in self.disk.names()? {
            if self.names.kind(&name) == Some(FileKind::Temporary) {
                self.join_leftover(settling, round, &name)?;
            }
        }
        Ok(())
    }

    /// What was written to former documents by programs that had opened them before they were replaced.
    pub(super) fn join_late_edits(&self, settling: &mut Settling, round: &mut Round) -> Result<(), StoreError> {
        for (name, look) in settling.replaced.clone() {
            let Some(now) = self.disk.look(&name)?.filter(|now| *now != look) else { continue };
            let bytes = disk::read(&*self.disk, &name, MAX_REGISTRY_BYTES)?;
            // One that can not be read is perhaps still being written: then it looks different once more.
            let bytes = bytes.unwrap_or_default();
            if let Ok(document) = super::document::read(&bytes) {
                self.absorb(settling, round, (&document, &bytes), FoundIn::Replaced)?;
            }
            round.late.push((name, now));
        }
        Ok(())
    }

    /// Reads a temporary file that nobody is at work on, and takes note to remove it. One that can not be read is moved
    /// aside: it may be what a foreign program wrote.
    pub(super) fn join_leftover(
        &self,
        settling: &mut Settling,
        round: &mut Round,
        name: &str,
    ) -> Result<Option<RegistryDocument>, StoreError> {
        let Some(file) = self.disk.open(name)? else { return Ok(None) };
        match file.try_lock() {
            Ok(true) => {}
            // A segment that is being made.
            Ok(false) => return Ok(None),
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => {}
            Err(error) => return Err(error.into()),
        }
        let bytes = disk::read_to_end_at(&*file, 0, MAX_REGISTRY_BYTES)?;
        if bytes.iter().all(|byte| *byte == 0) || bytes.starts_with(&MAGIC) {
            let age = self.wall().0.saturating_mul(1_000_000).saturating_sub(file.look()?.modified_ns);
            if !bytes.is_empty() || u128::from(age) > TEMPORARY_KEPT.as_nanos() {
                round.leftovers.push(name.to_owned());
            }
            return Ok(None);
        }
        if let Ok(document) = super::document::read(&bytes) {
            self.absorb(settling, round, (&document, &bytes), FoundIn::Leftover)?;
            round.leftovers.push(name.to_owned());
            return Ok(Some(document));
        }
        let aside = self.names.quarantined(&Digest::of(&bytes).short(16));
        self.disk.rename(name, &aside)?;
        round.problems.push(format!("a file that was left behind can not be read; it is kept as {aside}"));
        Ok(None)
    }

    /// Copies a document that can not be read, once, and returns the copy's name.
    pub(super) fn quarantine(&self, settling: &Settling) -> Result<Option<String>, StoreError> {
        let Some(bytes) = settling.file.bytes() else { return Ok(None) };
        if let Some(ReadOnlyReason::Unreadable { copy: Some(copy), .. }) = locked(&self.core).standing.reason() {
            // One copy for as long as it can not be read, however often someone saves it meanwhile.
            return Ok(Some(copy.clone()));
        }
        let name = self.names.quarantined(&Digest::of(bytes).short(16));
        if self.disk.look(&name)?.is_none() {
            let temporary = self.names.temporary(self.random());
            disk::write_new(&*self.disk, &temporary, bytes, None)?;
            self.disk.rename(&temporary, &name)?;
            disk::sync_names(&*self.disk)?;
        }
        Ok(Some(name))
    }

    /// Whether there is a damaged journal that nobody has seen to.
    pub(super) fn damaged(&self) -> Result<Option<ReadOnlyReason>, StoreError> {
        let names = self.disk.names()?;
        let Some(file) = names.into_iter().find(|name| self.names.kind(name) == Some(FileKind::Damaged)) else {
            return Ok(None);
        };
        let sequence = super::inspect::damaged_sequence(&*self.disk, &self.names, &file)?;
        Ok(Some(ReadOnlyReason::JournalDamaged { file, sequence }))
    }
}
