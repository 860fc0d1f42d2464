//! What a document that something else wrote comes to: compared with its base, stamped, joined, and nothing lost silently.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::bases::BaseFound;
use super::document::RegistryDocument;
use super::judge::Judge;
use super::round::{Round, Settling};
use super::standing::StoreError;
use super::state::{Known, State};
use super::store::{Store, locked};
use super::superseded;
use crate::edge::disk;
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
    /// Whether its base is lost, so that not everything that it meant can be told.
    unsure: bool,
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
        round: &mut Round,
        (document, bytes): (&RegistryDocument, &[u8]),
        found_in: FoundIn,
    ) -> Result<(), StoreError> {
        if let Some(theirs) = State::pristine(document) {
            round.state = locked(&self.core).judge.join_states(&round.state, &theirs)?.state;
            return Ok(());
        }
        let digest = Digest::of(bytes).short(16);
        let dealt_with = settling.absorbed.contains(&digest) || round.absorbed.contains(&digest);
        if found_in != FoundIn::File && dealt_with {
            // A crash left a copy of what was dealt with; stamping it again would put it above what came since.
            return Ok(());
        }
        let absorbed = self.foreign(&mut locked(&self.core).judge, settling, &round.state, document, found_in)?;
        self.record(settling, &digest, &absorbed, found_in)?;
        if absorbed.unsure {
            self.put_aside(&digest, bytes)?;
        }
        self.counts.foreign_edits.fetch_add(1, Ordering::Relaxed);
        round.problems.extend(absorbed.notes);
        round.state = absorbed.state;
        round.absorbed.push(digest);
        Ok(())
    }

    /// Keeps what an edit replaced, once, however often settling it is tried.
    fn record(
        &self,
        settling: &mut Settling,
        digest: &str,
        absorbed: &Absorbed,
        found_in: FoundIn,
    ) -> Result<(), StoreError> {
        let replaced: Vec<_> = absorbed.replaced.iter().map(|known| known.entry.clone()).collect();
        if settling.recorded.as_ref().is_none_or(|(own, entries)| own != digest || *entries != replaced) {
            let values = absorbed.replaced.iter().map(|known| &**known);
            superseded::keep(&*self.disk, &self.names, self.wall(), found_in.as_str(), values)?;
            settling.recorded = Some((digest.to_owned(), replaced));
        }
        Ok(())
    }

    /// Keeps a foreign document of which not everything could be told.
    fn put_aside(&self, digest: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let name = self.names.put_aside(digest);
        if self.disk.look(&name)?.is_none() {
            disk::write_new(&*self.disk, &name, bytes, None)?;
        }
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
        let unsure = base.found == BaseFound::None && document.generation.is_some();
        if unsure {
            notes.push(format!(
                "{how} by a program that had read it too long ago to tell what it changed: later changes and what it may have \
                 removed are kept, and what it wrote is in a file of its own, {}*",
                self.names.put_aside("")
            ));
        }
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
        Ok(Absorbed { state: joined.state, replaced, notes, unsure })
    }
}

/// How many names a note lists.
const NAMED: usize = 5;
