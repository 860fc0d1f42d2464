//! What a document that something else wrote comes to: compared with its base, stamped, joined, and nothing lost silently.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bases::BaseFound;
use super::document::RegistryDocument;
use super::judge::Judge;
use super::settle::Settling;
use super::standing::StoreError;
use super::state::{Known, State};
use super::store::{Store, locked};
use super::superseded;
use crate::model::Digest;

/// Where a foreign document was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FoundIn {
    /// In the registry's place.
    File,
    /// In a file that a crash left behind, or that was swapped out.
    Leftover,
    /// In a former document, which someone had opened before it was replaced.
    Replaced,
}

impl FoundIn {
    /// The beginning of a sentence about it.
    fn as_str(self) -> &'static str {
        match self {
            Self::File => "servers.json was edited",
            Self::Leftover => "a document was edited while it was replaced",
            Self::Replaced => "a document was edited after it was replaced",
        }
    }
}

/// What a foreign document came to.
pub(super) struct Absorbed {
    pub(super) state: State,
    /// What it changed or removed, with the former values.
    pub(super) replaced: Vec<Arc<Known>>,
    /// What should be told about it, each a sentence.
    pub(super) notes: Vec<String>,
}

impl Store {
    /// Joins a document into a state: as it stands if a cooperating writer left it so, else as an edit of its base. What an
    /// edit replaced is kept, durably, before anything else.
    ///
    /// # Errors
    /// [`StoreError`].
    pub(super) fn absorb(
        &self,
        settling: &mut Settling,
        state: &mut State,
        (document, bytes): (&RegistryDocument, &[u8]),
        found_in: FoundIn,
    ) -> Result<(), StoreError> {
        if let Some(theirs) = State::pristine(document) {
            *state = locked(&self.core).judge.join_states(state, &theirs)?.state;
            return Ok(());
        }
        let digest = Digest::of(bytes).short(16);
        if found_in != FoundIn::File && settling.absorbed.contains(&digest) {
            // A crash left a copy of what was dealt with; stamping it again would put it above what came since.
            return Ok(());
        }
        let how = found_in.as_str();
        let absorbed = self.foreign(&mut locked(&self.core).judge, settling, state, document, found_in)?;
        settling.take_over(&[digest]);
        superseded::keep(&*self.disk, &self.names, self.wall(), how, absorbed.replaced.iter().map(|known| &**known))?;
        self.counts.foreign_edits.fetch_add(1, Ordering::Relaxed);
        settling.notes.extend(absorbed.notes);
        *state = absorbed.state;
        Ok(())
    }

    /// What a foreign document comes to.
    pub(super) fn foreign(
        &self,
        judge: &mut Judge,
        settling: &Settling,
        ours: &State,
        document: &RegistryDocument,
        found_in: FoundIn,
    ) -> Result<Absorbed, StoreError> {
        let how = found_in.as_str();
        let base = settling.bases.of(&*self.disk, &self.names, document, ours)?;
        let (adopted, future) = judge.adopt(&base.state, document)?;
        let joined = judge.join(ours, adopted.into_iter().map(Arc::new))?;
        let changed = |known: &&Arc<Known>| {
            joined.state.get(&known.entry.name).is_none_or(|now| now.entry.digest != known.entry.digest)
        };
        let replaced: Vec<_> =
            joined.replaced.iter().filter(|known| known.content.is_some()).filter(changed).cloned().collect();
        let mut notes: Vec<String> =
            future.into_iter().map(|name| format!("{name} is stamped in the future; check the clocks")).collect();
        if base.found == BaseFound::Nearest {
            let there: BTreeSet<&str> = document.servers.iter().map(|server| server.entry.name.as_str()).collect();
            let since = joined.state.in_force().filter(|entry| !there.contains(entry.name.as_str())).count();
            if since > 0 {
                notes.push(format!(
                    "{how} by a program that drops \"generation\"; it is taken for an edit of an older document, and {since} \
                     servers that are not in it are kept: remove them again if they were meant to go"
                ));
            }
        }
        if matches!(base.found, BaseFound::Latest | BaseFound::Nearest) && !replaced.is_empty() {
            let names: Vec<&str> = replaced.iter().take(NAMED).map(|known| known.entry.name.as_str()).collect();
            let more = replaced.len().saturating_sub(NAMED);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            notes.push(format!(
                "{how} by a program that drops \"generation\", so what it meant is a guess; it replaced or removed {}{more}, \
                 whose former values are kept in {}",
                names.join(", "),
                self.names.superseded()[0]
            ));
        }
        Ok(Absorbed { state: joined.state, replaced, notes })
    }
}

/// How many names a note lists.
const NAMED: usize = 5;
