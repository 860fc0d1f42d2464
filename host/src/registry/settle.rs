//! Settling: under the registry's lock, everything that anyone wrote is joined and put into the document, if it differs.
//!
//! One round reads the journals of others, takes over those of the dead, reads what crashes left behind and what stands in
//! the file, joins it all, and replaces the document. If something else stood there than was read, that is joined too and
//! the round begins anew. Only what stands in a durable document is removed elsewhere, and a change counts as written only
//! if it was known when the document was made (defect R1). What can not be read is never overwritten (R4).

use std::sync::atomic::Ordering;
use std::time::Duration;

use super::absorb::FoundIn;
use super::bases::{self, Bases};
use super::file::{Content, FoundFile};
use super::journal::scan::Verdict;
use super::limits::{ABSORBED_KEPT, MAX_REGISTRY_BYTES, MAX_SERVERS, ORPHAN_CHECK_INTERVAL, SETTLE_ROUNDS};
use super::lock::WriterLock;
use super::orphans;
use super::round::{Edit, Round, Settling, Tried};
use super::snapshot_file::{NewDocument, Placed, place};
use super::standing::{ReadOnlyReason, StoreError};
use super::store::{Acknowledge, Core, Store, WaitingChanges, locked};
use crate::edge::disk;
use crate::model::BootMs;

impl Store {
    /// Settles, and tells how the registry stands after it.
    ///
    /// # Errors
    /// [`StoreError`]; nothing that was acknowledged is lost by one.
    pub(super) fn settle(&self, edit: Edit<'_>) -> Result<(), StoreError> {
        let _turn = locked(&self.settle_turn);
        let settled = self.settle_when_whole(edit);
        if let Err(error) = &settled {
            let settling = locked(&self.settling);
            let mut core = locked(&self.core);
            if !matches!(settling.file.content(), Content::Pristine(_)) {
                // A change that follows must know of it, although it is not settled.
                match self.show(&settling, &mut core) {
                    Ok(()) => core.seen = Some(settling.file.look),
                    Err(error) => tracing::debug!(%error, "an edit that could not be settled can not be shown either"),
                }
            }
            drop(settling);
            // What can not be read is looked at again when it looks different.
            core.wants_settle = !matches!(error, StoreError::ReadOnly(_));
            match error {
                StoreError::ReadOnly(reason) => self.degrade(&mut core, reason.clone()),
                StoreError::Disk(error) => self.fall_behind(&mut core, ReadOnlyReason::disk(error).to_string()),
                other => self.fall_behind(&mut core, other.to_string()),
            }
        }
        settled
    }

    /// Settles once the document is whole: one that can not be read and was written a moment ago may be half of what another
    /// program is writing, and is waited for, a little. Meanwhile nothing is locked but the turn: nobody else waits for it.
    fn settle_when_whole(&self, mut edit: Edit<'_>) -> Result<(), StoreError> {
        let mut patience = self.options.lock_patience.min(HALF_WRITTEN_PATIENCE);
        let mut trust_looks = true;
        loop {
            match self.settle_locked(&mut edit, trust_looks, patience)? {
                Tried::Done => return Ok(()),
                Tried::HalfWritten => {}
            }
            // Real time: what is waited for is another program.
            std::thread::sleep(HALF_WRITTEN_PAUSE);
            patience = patience.saturating_sub(HALF_WRITTEN_PAUSE);
            // Times are too coarse for so short a time.
            trust_looks = false;
        }
    }

    fn settle_locked(&self, edit: &mut Edit<'_>, trust_looks: bool, patience: Duration) -> Result<Tried, StoreError> {
        // First the lock, which may be waited for: whoever only wants to look at the document does not wait as well.
        let lock = WriterLock::acquire(&self.disk, &self.names, self.options.lock_patience, &|| self.wall())?;
        let settling = &mut *locked(&self.settling);
        let (state, upto, waiting) = {
            let core = locked(&self.core);
            (core.state.clone(), core.journal.durable_upto(), core.waiting)
        };
        let began = self.boot();
        let mut round = Round {
            known: state.clone(),
            state,
            orphans: Vec::new(),
            leftovers: Vec::new(),
            late: Vec::new(),
            kept: None,
            absorbed: Vec::new(),
            problems: Vec::new(),
            patience,
        };
        self.join_journals(&mut round)?;
        if self.join_file(settling, &mut round, trust_looks)? == Tried::HalfWritten {
            return Ok(Tried::HalfWritten);
        }
        self.join_leftovers(settling, &mut round)?;
        // Only now: whoever stamps a change meanwhile knows what others acknowledged by the document.
        let _holding = Holding::of(self);
        self.join_late_edits(settling, &mut round)?;
        // What is good of a damaged journal is saved, and no change is made before someone has seen to it.
        let damage = round.orphans.iter().any(|orphan| matches!(orphan.verdict, Verdict::Damaged { .. }));
        let refused = damage && matches!(edit, Edit::Changes { .. });
        let mut nothing = Edit::None;
        self.edit(&mut round, if refused { &mut nothing } else { edit })?;
        if self.write(settling, &mut round)? == Tried::HalfWritten {
            return Ok(Tried::HalfWritten);
        }
        // From here on, everything that was known at the beginning is durable in the document.
        for mut orphan in round.orphans.drain(..) {
            if let Verdict::Damaged { sequence } = orphan.verdict {
                let file = orphan.quarantine(&*self.disk, &self.names)?;
                tracing::error!(file, sequence, "an acknowledged change in a journal is damaged");
            } else if matches!(orphan.verdict, Verdict::Torn { .. }) {
                orphan.keep(&*self.disk, &self.names);
            } else {
                orphan.remove(&*self.disk);
            }
        }
        let left = round.leftovers.len();
        self.remove_leftovers(&mut round, left);
        if self.options.acknowledge == Acknowledge::Snapshot {
            self.tidy(settling);
        }
        let damaged = self.damaged()?;
        let mut core = locked(&self.core);
        self.settled(&mut core, settling, round, waiting, began)?;
        core.journal.forget(&*self.disk, upto, self.boot());
        core.state = core.state.without_old_tombstones(self.wall());
        let journals = self.options.acknowledge == Acknowledge::Journal;
        let no_journal =
            journals && matches!(core.standing.reason(), Some(ReadOnlyReason::Disk { .. })) && !core.journal.is_ready();
        match &damaged {
            Some(reason) => self.degrade(&mut core, reason.clone()),
            // Without a journal, no change can be taken yet.
            None if no_journal => {}
            None => self.recover(&mut core),
        }
        self.publish(&mut core);
        drop(core);
        drop(lock);
        match damaged.filter(|_| refused) {
            Some(reason) => Err(StoreError::ReadOnly(reason)),
            None => Ok(Tried::Done),
        }
    }

    /// Takes note of what is in the document now.
    fn settled(
        &self,
        core: &mut Core,
        settling: &mut Settling,
        round: Round,
        waiting: WaitingChanges,
        began: BootMs,
    ) -> Result<(), StoreError> {
        // Changes that were acknowledged meanwhile are later than what is joined here.
        if !round.state.is_same(&round.known) {
            core.state = core.judge.join_states(&core.state, &round.state)?.state;
        }
        for (name, look) in round.late {
            if let Some(watched) = settling.replaced.iter_mut().find(|watched| watched.0 == name) {
                watched.1 = look;
            }
        }
        let changes = core.waiting.changes.saturating_sub(waiting.changes);
        let bytes = core.waiting.bytes.saturating_sub(waiting.bytes);
        core.waiting = WaitingChanges { changes, bytes, oldest: (changes > 0).then_some(began) };
        core.seen = Some(settling.file.look);
        core.shown = None;
        core.generation = settling.file.generation();
        core.wants_settle = false;
        core.check_due = self.boot().plus(ORPHAN_CHECK_INTERVAL);
        if let Content::Pristine(state) = settling.file.content() {
            core.document = state;
        }
        core.file_problems = settling.file.problems();
        for note in round.problems {
            tracing::warn!(note, "registry");
            if !core.other_problems.contains(&note) {
                core.other_problems.push(note);
            }
            if core.other_problems.len() > NOTES_KEPT {
                core.other_problems.remove(0);
            }
        }
        Ok(())
    }

    /// What others recorded, living or dead.
    fn join_journals(&self, round: &mut Round) -> Result<(), StoreError> {
        let mut core = locked(&self.core);
        let core = &mut *core;
        let own = core.judge.writer().to_owned();
        // Also those that are about to be taken over: what was read once is known.
        let news = core.tails.news(&*self.disk, &self.names, &own, self.wall())?;
        core.state = core.judge.join(&core.state, news)?.state;
        // What was known at the beginning is known now.
        round.state = core.state.clone();
        round.known = core.state.clone();
        for mut orphan in orphans::take_over(&*self.disk, &self.names, &own)? {
            let changes = std::mem::take(&mut orphan.changes);
            round.state = core.judge.join(&round.state, changes)?.state;
            match orphan.verdict {
                Verdict::Whole => {}
                Verdict::Torn { sequence } => round.problems.push(format!(
                    "the journal of {} ends in a batch that is not whole, from change {sequence} on: most likely it was \
                     never acknowledged",
                    orphan.writer
                )),
                Verdict::Damaged { .. } => {}
            }
            if let Some(version) = orphan.version {
                round.problems.push(format!(
                    "the journal of {} has the format {version}, which a later version of this program wrote; start that",
                    orphan.writer
                ));
            } else if orphan.unknown > 0 {
                round.problems.push(format!(
                    "{} changes in the journal of {} can not be understood; it is kept",
                    orphan.unknown, orphan.writer
                ));
            }
            if matches!(orphan.verdict, Verdict::Damaged { .. }) || !orphan.must_stay() {
                round.orphans.push(orphan);
            } else {
                core.tails.leave_alone(orphan.files());
            }
        }
        Ok(())
    }

    /// What stands in the file.
    fn join_file(&self, settling: &mut Settling, round: &mut Round, trust_looks: bool) -> Result<Tried, StoreError> {
        settling.file.read(&*self.disk, &self.names, self.boot(), trust_looks)?;
        match settling.file.content() {
            Content::Missing => {
                self.join_latest_base(settling, round)?;
                if round.state.count() > 0 && locked(&self.core).generation > 0 {
                    round.problems.push(GONE.to_owned());
                }
                Ok(Tried::Done)
            }
            Content::Pristine(state) => {
                if settling.file.is_outdated(&*self.disk, &self.names)? {
                    // Someone saved what he had read long ago, as it was.
                    self.join_latest_base(settling, round)?;
                    round.problems.push(PUT_BACK.to_owned());
                }
                settling.bases.remember(settling.file.generation(), state.clone());
                let absorbed = settling.file.absorbed().to_vec();
                settling.take_over(&absorbed);
                let mut core = locked(&self.core);
                let core = &mut *core;
                core.seen = Some(settling.file.look);
                // What was joined when it was read or written last need not be joined again.
                if !state.is_same(&core.document) {
                    core.state = core.judge.join_states(&core.state, &state)?.state;
                    round.state = core.judge.join_states(&round.state, &state)?.state;
                }
                Ok(Tried::Done)
            }
            Content::Foreign(document) => {
                self.join_latest_base(settling, round)?;
                let bytes = settling.file.bytes().unwrap_or_default().to_vec();
                self.absorb(settling, round, (&document, &bytes), FoundIn::File)?;
                Ok(Tried::Done)
            }
            Content::Unreadable(_) if !round.patience.is_zero() && self.is_being_written(&settling.file) => {
                Ok(Tried::HalfWritten)
            }
            Content::Unreadable(error) => {
                let copy = self.quarantine(settling)?;
                Err(StoreError::ReadOnly(ReadOnlyReason::Unreadable { error, copy }))
            }
        }
    }

    /// What the last document of ours said, where something else stands now, or nothing: this process may never have seen it.
    fn join_latest_base(&self, settling: &mut Settling, round: &mut Round) -> Result<(), StoreError> {
        if let Some((state, absorbed)) = Bases::latest_on_disk(&*self.disk, &self.names)? {
            settling.take_over(&absorbed);
            round.state = locked(&self.core).judge.join_states(&round.state, &state)?.state;
        }
        Ok(())
    }

    /// Whether the file was written so short a time ago that its writer may still be at it.
    fn is_being_written(&self, file: &FoundFile) -> bool {
        let modified = file.look.map_or(0, |look| look.modified_ns);
        let age = self.wall().0.saturating_mul(1_000_000).saturating_sub(modified);
        u128::from(age) <= HALF_WRITTEN_PATIENCE.as_nanos()
    }

    fn edit(&self, round: &mut Round, edit: &mut Edit<'_>) -> Result<(), StoreError> {
        match edit {
            Edit::None => Ok(()),
            Edit::Join(state) => {
                round.state = locked(&self.core).judge.join_states(&round.state, state)?.state;
                Ok(())
            }
            Edit::Changes { changes, answers } => {
                if let Some(reason) = self.damaged()? {
                    return Err(StoreError::ReadOnly(reason));
                }
                // Those of a try that came to nothing.
                answers.clear();
                for change in *changes {
                    let mut core = locked(&self.core);
                    let known = change.is_in(&round.state);
                    let before = round.state.clone();
                    let applied = change.apply(&mut core.judge, &mut round.state);
                    if known && applied.is_ok() {
                        // Nothing changes: the document is not written for it.
                        round.state = before;
                    }
                    answers.push(applied.map(|applied| applied.acknowledged));
                }
                Ok(())
            }
        }
    }

    /// Puts what is known into the document, unless it stands there already.
    fn write(&self, settling: &mut Settling, round: &mut Round) -> Result<Tried, StoreError> {
        for _ in 0..SETTLE_ROUNDS {
            let covered = round.leftovers.len();
            let state = round.state.without_old_tombstones(self.wall());
            let kept = round.kept.clone().unwrap_or_else(|| settling.file.kept());
            if settling.file.holds(&state, &kept) {
                settling.file.make_durable(&*self.disk, &self.names)?;
                return Ok(Tried::Done);
            }
            let latest_base = bases::on_disk(&*self.disk, &self.names)?.last().map_or(0, |base| base.0);
            let generation = settling.file.generation().max(locked(&self.core).generation).max(latest_base) + 1;
            let absorbed: Vec<String> = settling.absorbed.iter().chain(&round.absorbed).cloned().collect();
            let latest = absorbed.len().saturating_sub(ABSORBED_KEPT);
            let spare = std::mem::take(&mut settling.spare);
            let bytes = state.document_in(spare, generation, &absorbed[latest..], &kept);
            let removed = state.size() - state.count();
            if bytes.len() > MAX_REGISTRY_BYTES || state.count() > MAX_SERVERS || removed > MAX_SERVERS {
                return Err(StoreError::Full {
                    servers: super::limits::MAX_WRITTEN_SERVERS,
                    bytes: super::limits::MAX_WRITTEN_BYTES,
                });
            }
            let (former, former_look) = (settling.file.base(&self.names), settling.file.look);
            let stopwatch = std::time::Instant::now();
            let temporary = self.names.temporary(self.random());
            let new = NewDocument {
                bytes: &bytes,
                base: self.names.base(generation, &state.digest()),
                copy: self.names.copy(generation, &state.digest()),
                copied: self.options.acknowledge == Acknowledge::Snapshot,
                temporary: temporary.clone(),
                expected: settling.file.bytes(),
                former: former.as_deref(),
                like: settling.file.look,
            };
            let (placed, look) = place(&*self.disk, &self.names, &new)?;
            if !matches!(placed, Placed::Changed) {
                self.metrics.registry_flush(stopwatch.elapsed());
                self.counts.documents.fetch_add(1, Ordering::Relaxed);
                settling.bases.remember(generation, state.clone());
                let former_bytes = settling.file.wrote(self.boot(), look, bytes, (generation, state, kept));
                settling.spare = former_bytes.unwrap_or_default();
                settling.untidy = true;
                settling.take_over(&std::mem::take(&mut round.absorbed));
                settling.watch(former, former_look);
                // They are in the document, whatever comes of this round.
                self.remove_leftovers(round, covered);
            }
            match placed {
                Placed::Done(durable) => {
                    if durable == disk::NamesDurable::NotPromised {
                        round
                            .problems
                            .push("the file system does not promise that files outlast a power failure".to_owned());
                    }
                    return Ok(Tried::Done);
                }
                Placed::Changed => {
                    if self.join_file(settling, round, false)? == Tried::HalfWritten {
                        return Ok(Tried::HalfWritten);
                    }
                }
                Placed::Displaced => {
                    if let Some(document) = self.join_leftover(settling, round, &temporary)? {
                        round.kept = Some((document.extras, document.leftovers));
                    }
                }
            }
        }
        bases::prune(&*self.disk, &self.names)?;
        Err(StoreError::Contended)
    }

    /// Does what need not be done before a change is durable: a copy of the document, which stays what it is when someone
    /// writes over the document; and former documents that are too many go.
    pub(super) fn tidy(&self, settling: &mut Settling) {
        if !std::mem::take(&mut settling.untidy) {
            return;
        }
        let tidied = (|| {
            if let (Content::Pristine(state), Some(bytes)) = (settling.file.content(), settling.file.bytes()) {
                let copy = self.names.copy(settling.file.generation(), &state.digest());
                if self.disk.look(&copy)?.is_none() {
                    disk::write_copy(&*self.disk, &copy, bytes, settling.file.look)?;
                }
            }
            bases::prune(&*self.disk, &self.names)
        })();
        if let Err(error) = tidied {
            tracing::debug!(%error, "the document has no copy, or too many: the next one is tidied again");
        }
    }

    /// Removes the first so many files that were left behind: they are in a durable document.
    fn remove_leftovers(&self, round: &mut Round, covered: usize) {
        for name in round.leftovers.drain(..covered) {
            // One that stays is read again, and changes nothing.
            let _ = self.disk.remove(&name);
        }
    }
}

/// How long a document that can not be read is taken for one that is being written, and how often it is looked at.
const HALF_WRITTEN_PATIENCE: Duration = Duration::from_millis(200);
const HALF_WRITTEN_PAUSE: Duration = Duration::from_millis(20);

/// What is told when an older document stands where a newer one stood.
const PUT_BACK: &str = "an older version of the registry's file was put back, and joined with what came after it; to go back for \
                        good, use `cortex-mcp registry import FILE --overwrite`";

/// What is told when the document vanished.
const GONE: &str = "the registry's file was gone, and is written again from what is known; to begin anew, remove its entries, or \
                    every file of its name while nothing uses them";

/// How many notes about past events `status` shows.
const NOTES_KEPT: usize = 16;

/// Holds for as long as the registry's lock is ours.
struct Holding<'a>(&'a Store);

impl<'a> Holding<'a> {
    fn of(store: &'a Store) -> Self {
        store.holding.store(true, Ordering::SeqCst);
        Self(store)
    }
}

impl Drop for Holding<'_> {
    fn drop(&mut self) {
        self.0.holding.store(false, Ordering::SeqCst);
    }
}
