//! The registry's decisions, made by the policy: stamps, what a foreign edit comes to, who wins, when to write.
//!
//! Payloads stay here, and the policy is asked about those names only that differ, since it decides about each name by
//! itself. An answer that names what neither side knows is not followed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::document::RegistryDocument;
use super::entry::RegistryEntry;
use super::state::{Known, State, found};
use crate::policy::contract::{ClockState, Entry, FoundEntry, Hlc, Pending};
use crate::policy::{Held, NoDecision, Policy, Subject};

/// Whether a document says about a name what its base says.
fn is_unchanged(base: &Entry, found: Option<&FoundEntry>) -> bool {
    match found {
        Some(found) => {
            let same_edit = found.stamp == Some(base.stamp) && found.writer.as_ref() == Some(&base.writer);
            same_edit && !base.deleted && found.digest == base.digest
        }
        None => base.deleted,
    }
}

/// How many names one decision is about at most: far fewer than what an answer may be long.
const NAMES_AT_ONCE: usize = 1_000;

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
        let mut joined = Joined { state: ours.clone(), replaced: Vec::new() };
        // What only one side has is not disputed: there is nothing to decide.
        contents.retain(|name, candidates| {
            let disputed = candidates.len() > 1 || ours.get(name).is_some();
            if !disputed {
                candidates.iter().for_each(|known| joined.state.put(known));
            }
            disputed
        });
        let disputed: Vec<(String, Vec<Arc<Known>>)> = contents.into_iter().collect();
        for part in disputed.chunks(NAMES_AT_ONCE) {
            self.join_part(ours, part, &mut joined)?;
        }
        Ok(joined)
    }

    /// Joins what is disputed: names with those of theirs that differ from ours, ordered by name.
    fn join_part(
        &mut self,
        ours: &State,
        disputed: &[(String, Vec<Arc<Known>>)],
        joined: &mut Joined,
    ) -> Result<(), NoDecision> {
        let own = disputed.iter().filter_map(|(name, _)| ours.get(name)).map(|known| known.entry.clone()).collect();
        let others = disputed.iter().flat_map(|(_, known)| known).map(|known| known.entry.clone()).collect();
        let merged = self.policy.merge(&self.subject, own, others)?;
        for winner in merged.entries {
            let Ok(at) = disputed.binary_search_by(|(name, _)| name.cmp(&winner.name)) else { continue };
            // Ours won, or a policy made something up, which changes nothing.
            let Some(known) = disputed[at].1.iter().find(|one| one.entry == winner) else { continue };
            joined.replaced.extend(ours.get(&winner.name).cloned());
            joined.state.put(known);
        }
        Ok(())
    }

    /// What a foreign edit of `base` comes to, and the names that it stamps in the future.
    pub(super) fn adopt(
        &mut self,
        base: &State,
        document: &RegistryDocument,
    ) -> Result<(Vec<Known>, Vec<String>), NoDecision> {
        let now = self.policy.edge().clock.wall();
        let mut found: BTreeMap<String, FoundEntry> =
            found(document).into_iter().map(|found| (found.name.clone(), found)).collect();
        let (mut adopted, mut asked) = (Vec::new(), BTreeMap::new());
        for known in base.iter() {
            self.saw(known.entry.stamp);
            let found = found.remove(&known.entry.name);
            // Nobody touched it. What is stamped in the future is asked about all the same, to be named.
            if is_unchanged(&known.entry, found.as_ref()) && known.entry.stamp.wall_ms <= now.0 {
                adopted.push(Known::clone(known));
            } else {
                asked.insert(known.entry.name.clone(), (Some(known.entry.clone()), found));
            }
        }
        asked.extend(found.into_iter().map(|(name, found)| (name, (None, Some(found)))));
        asked.values().filter_map(|(_, found)| found.as_ref()?.stamp).for_each(|stamp| self.saw(stamp));
        let contents: BTreeMap<&str, _> =
            document.servers.iter().map(|server| (server.entry.name.as_str(), &server.entry)).collect();
        let content = |entry: &Entry| {
            let same = |content: &&Arc<RegistryEntry>| content.digest.to_string() == entry.digest;
            let found = contents.get(entry.name.as_str()).copied().filter(same).cloned();
            found.or_else(|| base.get(&entry.name)?.content.clone().filter(|content| same(&content)))
        };
        let mut future = Vec::new();
        let asked: Vec<_> = asked.into_values().collect();
        for part in asked.chunks(NAMES_AT_ONCE) {
            let base: Vec<Entry> = part.iter().filter_map(|(base, _)| base.clone()).collect();
            let found = part.iter().filter_map(|(_, found)| found.clone()).collect();
            let (entries, names) = self.policy.adopt(&self.subject, &mut self.clock, &self.writer, &base, found)?;
            adopted.extend(entries.into_iter().filter_map(|entry| match entry.deleted {
                true => Some(Known::of(entry, None)),
                false => content(&entry).map(|content| Known::of(entry, Some(content))),
            }));
            future.extend(names);
        }
        Ok((adopted, future))
    }

    /// How long what is pending may wait, in milliseconds.
    pub(super) fn flush_after(&self, pending: Pending) -> Result<u64, NoDecision> {
        self.policy.flush_after(&self.subject, pending)
    }
}
