//! Observing: what others acknowledged becomes known here, without a lock and without writing anything.

use std::sync::atomic::Ordering;

use super::absorb::FoundIn;
use super::bases::Bases;
use super::file::Content;
use super::round::Settling;
use super::standing::{ReadOnlyReason, Standing, StoreError};
use super::store::{Core, Shown, Store, locked};

impl Store {
    /// Reads what others acknowledged up to now: a change that is made after this is above all of it.
    ///
    /// # Errors
    /// [`StoreError::Disk`] if the folder can not be read, [`StoreError::Policy`] if the policy gives no decision.
    pub fn observe(&self) -> Result<(), StoreError> {
        // First the journals, then the document: what is gone from a journal stands in the document.
        let seen = {
            let mut core = locked(&self.core);
            self.observe_journals(&mut core)?;
            core.seen
        };
        // While the lock is ours, nobody else acknowledges by the document.
        if self.holding.load(Ordering::SeqCst) {
            return Ok(());
        }
        if seen != Some(self.disk.look(self.names.snapshot())?) {
            self.observe_document(&mut locked(&self.settling), true)?;
        }
        Ok(())
    }

    fn observe_journals(&self, core: &mut Core) -> Result<(), StoreError> {
        let own = core.judge.writer().to_owned();
        let news = core.tails.news(&*self.disk, &self.names, &own, self.wall())?;
        if !news.is_empty() {
            core.state = core.judge.join(&core.state, news)?.state;
            self.publish(core);
        }
        Ok(())
    }

    /// Reads the document, if it looks different. What a cooperating writer wrote is known from then on; an edit of anyone
    /// else waits for the next settling, which stamps it under the lock.
    pub(super) fn observe_document(&self, settling: &mut Settling, trust_looks: bool) -> Result<(), StoreError> {
        let changed = settling.file.read(&*self.disk, &self.names, self.boot(), trust_looks)?;
        let mut core = locked(&self.core);
        let core = &mut *core;
        core.seen = Some(settling.file.look);
        if !changed {
            return Ok(());
        }
        match settling.file.content() {
            Content::Pristine(state) => {
                if settling.file.is_outdated(&*self.disk, &self.names)?
                    && let Some((latest, _)) = Bases::latest_on_disk(&*self.disk, &self.names)?
                {
                    // Someone saved what he had read long ago, as it was.
                    core.state = core.judge.join_states(&core.state, &latest)?.state;
                    core.wants_settle = true;
                }
                core.state = core.judge.join_states(&core.state, &state)?.state;
                core.generation = core.generation.max(settling.file.generation());
                settling.bases.remember(settling.file.generation(), state.clone());
                let absorbed = settling.file.absorbed().to_vec();
                settling.take_over(&absorbed);
                core.file_problems = settling.file.problems();
                core.document = state;
                core.shown = None;
                if matches!(core.standing.reason(), Some(ReadOnlyReason::Unreadable { .. })) {
                    core.wants_settle = true;
                }
            }
            Content::Missing | Content::Foreign(_) | Content::Unreadable(_) => {
                core.wants_settle = true;
                self.show(settling, core)?;
            }
        }
        self.publish(core);
        Ok(())
    }

    /// Shows what a document that is not ours seems to come to. It is not known yet: only settling stamps it, once, for
    /// everyone.
    pub(super) fn show(&self, settling: &Settling, core: &mut Core) -> Result<(), StoreError> {
        let mut shown = core.state.clone();
        if let Some((state, _)) = Bases::latest_on_disk(&*self.disk, &self.names)? {
            // What the last document of ours said, where something else stands now, or nothing.
            shown = core.judge.join_states(&shown, &state)?.state;
        }
        if let Content::Foreign(document) = settling.file.content() {
            shown = self.foreign(&mut core.judge, settling, &shown, &document, FoundIn::File)?.state;
            core.file_problems = settling.file.problems();
        }
        core.shown = Some(Shown::instead_of(&core.state, shown));
        Ok(())
    }

    /// The first look: what is there is published before anything is served, whoever wrote it.
    pub(super) fn first_look(&self) -> Result<(), StoreError> {
        let mut settling = locked(&self.settling);
        {
            let mut core = locked(&self.core);
            self.observe_journals(&mut core)?;
        }
        self.observe_document(&mut settling, false)?;
        let damaged = self.damaged()?;
        let mut core = locked(&self.core);
        let core = &mut *core;
        if matches!(settling.file.content(), Content::Missing) && core.shown.is_none() {
            self.show(&settling, core)?;
        }
        core.wants_settle |= core.tails.any() || core.shown.as_ref().is_some_and(|shown| !shown.state.is_empty());
        if let Content::Unreadable(error) = settling.file.content() {
            tracing::error!(%error, "the registry can not be read");
            let reason = ReadOnlyReason::Unreadable { error, copy: None };
            core.standing = Standing::ReadOnly { reason, since: self.wall() };
        }
        if let Some(reason) = damaged {
            core.standing = Standing::ReadOnly { reason, since: self.wall() };
        }
        self.publish(core);
        Ok(())
    }
}
