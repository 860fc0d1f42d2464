//! The registry's decisions, made by the policy: stamps, what a foreign edit comes to, who wins, when to write.
//!
//! Payloads stay here, and the policy is asked about those names only that differ, since it decides about each name by
//! itself. An answer that names what neither side knows is not followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::RegistryDocument;
use super::state::{Known, State, found};
use crate::policy::contract::{ClockState, Entry, Hlc, Pending};
use crate::policy::{Held, NoDecision, Policy, Subject};

/// Whoever decides about one registry.
pub(super) struct Judge {
    policy: Arc<Policy>,
    subject: Subject,
    writer: String,
    clock: Held<ClockState>,
}

/// A joined state.
#[derive(Debug, Default)]
pub(super) struct Joined {
    /// What is known now.
    pub(super) state: State,
    /// What was known before and is not any more.
    pub(super) replaced: Vec<Arc<Known>>,
}

impl Judge {
    pub(super) fn new(policy: Arc<Policy>, writer: String) -> Self {
        let subject = policy.subject("registry".to_owned());
        Self { policy, subject, writer, clock: Held::new(ClockState::initial()) }
    }

    /// Who writes.
    pub(super) fn writer(&self) -> &str {
        &self.writer
    }

    /// Takes note of a stamp: every later one of ours is above it.
    pub(super) fn saw(&mut self, stamp: Hlc) {
        let last = &mut self.clock.state.last;
        if (last.wall_ms, last.counter) < (stamp.wall_ms, stamp.counter) {
            *last = stamp;
        }
    }

    /// A stamp above every stamp given or seen.
    pub(super) fn stamp(&mut self) -> Result<Hlc, NoDecision> {
        self.policy.stamp(&self.subject, &mut self.clock)
    }

    /// Joins two states.
    pub(super) fn join_states(&mut self, ours: &State, theirs: &State) -> Result<Joined, NoDecision> {
        if ours.is_same(theirs) {
            return Ok(Joined { state: ours.clone(), replaced: Vec::new() });
        }
        self.join(ours, theirs.iter().cloned())
    }

    /// Joins what is known with what others know.
    pub(super) fn join(
        &mut self,
        ours: &State,
        theirs: impl IntoIterator<Item = Arc<Known>>,
    ) -> Result<Joined, NoDecision> {
        let mut contents: BTreeMap<String, Vec<Arc<Known>>> = BTreeMap::new();
        for known in theirs {
            self.saw(known.entry.stamp);
            if ours.get(&known.entry.name).is_none_or(|own| !own.is_same(&known)) {
                contents.entry(known.entry.name.clone()).or_default().push(known);
            }
        }
        if contents.is_empty() {
            return Ok(Joined { state: ours.clone(), replaced: Vec::new() });
        }
        let own: Vec<Entry> =
            contents.keys().filter_map(|name| ours.get(name)).map(|known| known.entry.clone()).collect();
        let others = contents.values().flatten().map(|known| known.entry.clone()).collect();
        let merged = self.policy.merge(&self.subject, own, others)?;
        let mut joined = Joined { state: ours.clone(), replaced: Vec::new() };
        for winner in merged.entries {
            let Some(candidates) = contents.get_mut(&winner.name) else { continue };
            // Ours won, or a policy made something up, which changes nothing.
            let Some(at) = candidates.iter().position(|one| one.entry == winner) else { continue };
            joined.replaced.extend(ours.get(&winner.name).cloned());
            joined.state.put(&candidates.swap_remove(at));
        }
        Ok(joined)
    }

    /// What a foreign edit of `base` comes to, and the names that it stamps in the future.
    pub(super) fn adopt(
        &mut self,
        base: &State,
        document: &RegistryDocument,
    ) -> Result<(Vec<Known>, Vec<String>), NoDecision> {
        let entries: Vec<Entry> = base.iter().map(|known| known.entry.clone()).collect();
        let (adopted, future) =
            self.policy.adopt(&self.subject, &mut self.clock, &self.writer, &entries, found(document))?;
        let contents: BTreeMap<&str, _> =
            document.servers.iter().map(|server| (server.entry.name.as_str(), &server.entry)).collect();
        let known = adopted.into_iter().filter_map(|entry| {
            if entry.deleted {
                return Some(Known::of(entry, None));
            }
            let same = |content: &&Arc<super::entry::RegistryEntry>| content.digest.to_string() == entry.digest;
            let found = contents.get(entry.name.as_str()).copied().filter(same).cloned();
            let content = found.or_else(|| base.get(&entry.name)?.content.clone().filter(|content| same(&content)))?;
            Some(Known::of(entry, Some(content)))
        });
        Ok((known.collect(), future))
    }

    /// How long what is pending may wait, in milliseconds.
    pub(super) fn flush_after(&self, pending: Pending) -> Result<u64, NoDecision> {
        self.policy.flush_after(&self.subject, pending)
    }
}
