//! A change that someone wants, and what becomes of it.

use std::collections::HashSet;
use std::sync::Arc;

use serde::Serialize;

use super::entry::{EntryRule, RegistryEntry, is_name};
use super::judge::Judge;
use super::limits::{MAX_WRITTEN_BYTES, MAX_WRITTEN_SERVERS};
use super::standing::StoreError;
use super::state::{Known, State};

/// A change that someone wants.
#[derive(Clone, Debug)]
pub struct Change {
    wish: Wish,
}

#[derive(Clone, Debug)]
enum Wish {
    Put { entry: Arc<RegistryEntry>, only_if_new: bool },
    Remove { name: String, must_exist: bool },
}

/// A change that is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Acknowledged {
    /// The name that it was about.
    pub name: String,
    /// What it did.
    pub outcome: Outcome,
}

/// What a change did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// There was no entry of that name.
    Created,
    /// There was one, and it was replaced.
    Updated,
    /// There was one, and it is gone.
    Removed,
    /// There was none to remove.
    Absent,
}

impl Change {
    /// Puts an entry in the place of whatever has its name.
    pub fn put(entry: RegistryEntry) -> Self {
        Self { wish: Wish::Put { entry: Arc::new(entry), only_if_new: false } }
    }

    /// Puts an entry, unless its name is taken.
    pub fn put_new(entry: RegistryEntry) -> Self {
        Self { wish: Wish::Put { entry: Arc::new(entry), only_if_new: true } }
    }

    /// Removes whatever has that name, if anything does.
    pub fn remove(name: &str) -> Self {
        Self { wish: Wish::Remove { name: name.to_owned(), must_exist: false } }
    }

    /// Removes what has that name, which must be there.
    pub fn remove_existing(name: &str) -> Self {
        Self { wish: Wish::Remove { name: name.to_owned(), must_exist: true } }
    }

    /// How many bytes of an entry it brings.
    pub(super) fn bytes(&self) -> usize {
        match &self.wish {
            Wish::Put { entry, .. } => entry.json().len(),
            Wish::Remove { .. } => 0,
        }
    }

    /// The name that it is about.
    pub(super) fn name(&self) -> &str {
        match &self.wish {
            Wish::Put { entry, .. } => &entry.name,
            Wish::Remove { name, .. } => name,
        }
    }

    /// Makes the change to a state. Returns what it does, and the entry that is to become durable, if there is one.
    pub(super) fn apply(&self, judge: &mut Judge, state: &mut State) -> Result<Applied, StoreError> {
        apply_all(std::slice::from_ref(self), judge, state).pop().unwrap_or(Err(StoreError::Busy))
    }

    /// What it comes to: its outcome, and what is to stand under its name; no content if that is removed. None at all if
    /// nothing is to be done.
    fn effect(&self, state: &State) -> Result<(Outcome, Option<Content>), StoreError> {
        match &self.wish {
            Wish::Put { entry, only_if_new } => {
                let there = state.get(&entry.name).is_some_and(|known| known.content.is_some());
                if there && *only_if_new {
                    return Err(StoreError::Exists { name: entry.name.clone() });
                }
                let full = !there && state.count() >= MAX_WRITTEN_SERVERS
                    || state.bytes() + entry.json().len() > MAX_WRITTEN_BYTES;
                if full {
                    return Err(StoreError::Full { servers: MAX_WRITTEN_SERVERS, bytes: MAX_WRITTEN_BYTES });
                }
                let outcome = if there { Outcome::Updated } else { Outcome::Created };
                Ok((outcome, Some(Some(entry.clone()))))
            }
            Wish::Remove { name, must_exist } => {
                if !is_name(name) {
                    return Err(EntryRule::Name.into());
                }
                if state.get(name).is_none_or(|known| known.content.is_none()) {
                    if *must_exist {
                        return Err(StoreError::Missing { name: name.clone() });
                    }
                    return Ok((Outcome::Absent, None));
                }
                Ok((Outcome::Removed, Some(None)))
            }
        }
    }

    /// Whether a state holds already what is wanted.
    pub(super) fn is_in(&self, state: &State) -> bool {
        match &self.wish {
            Wish::Put { entry, only_if_new } => {
                let content = state.get(&entry.name).and_then(|known| known.content.as_ref());
                !only_if_new && content.is_some_and(|content| content.digest == entry.digest)
            }
            Wish::Remove { .. } => false,
        }
    }
}

/// How many changes from the first on are about names of their own.
pub(super) fn different_names(changes: &[Change]) -> usize {
    let mut names = HashSet::new();
    changes.iter().take_while(|change| names.insert(change.name())).count()
}

/// Makes changes to a state that are about a name each: with one stamp and one decision about what is there already, as
/// nobody can tell which of them was first. Returns what [`Change::apply`] does, for each.
pub(super) fn apply_all(changes: &[Change], judge: &mut Judge, state: &mut State) -> Vec<Result<Applied, StoreError>> {
    let mut applied = Vec::with_capacity(changes.len());
    let mut stamp = None;
    // Those whose names are known, each with its place.
    let mut disputed: Vec<(usize, Arc<Known>)> = Vec::new();
    let mut more = 0;
    for change in changes {
        // What is not joined yet would change a count or two.
        if state.is_nearly_full(more) {
            join(&mut disputed, judge, state, &mut applied);
            more = 0;
        }
        let made = change.effect(state).and_then(|(outcome, content)| {
            let name = change.name().to_owned();
            let Some(content) = content else {
                return Ok(Applied { acknowledged: Acknowledged { name, outcome }, name: None });
            };
            let given = match stamp {
                Some(stamp) => stamp,
                None => *stamp.insert(judge.stamp()?),
            };
            let known = Arc::new(Known::new(&name, given, judge.writer(), content));
            if state.get(&name).is_some() {
                more += known.content.as_ref().map_or(0, |content| content.json().len());
                disputed.push((applied.len(), known));
            } else {
                state.put(&known);
            }
            Ok(Applied { acknowledged: Acknowledged { name: name.clone(), outcome }, name: Some(name) })
        });
        applied.push(made);
    }
    join(&mut disputed, judge, state, &mut applied);
    applied
}

/// Joins entries whose names are known already; those that the policy does not follow are refused.
fn join(
    disputed: &mut Vec<(usize, Arc<Known>)>,
    judge: &mut Judge,
    state: &mut State,
    applied: &mut [Result<Applied, StoreError>],
) {
    if disputed.is_empty() {
        return;
    }
    let joined = judge.join(state, disputed.iter().map(|(_, known)| known.clone()));
    let refused = match joined {
        Ok(joined) => {
            *state = joined.state;
            None
        }
        Err(error) => Some(error),
    };
    for (place, known) in disputed.drain(..) {
        let name = &known.entry.name;
        if let Some(error) = &refused {
            applied[place] = Err(error.clone().into());
        } else if state.get(name).is_none_or(|now| now.entry != known.entry) {
            applied[place] = Err(StoreError::Overruled { name: name.clone() });
        }
    }
}

/// What is to stand under a name; none if what stands there is to be removed.
type Content = Option<Arc<RegistryEntry>>;

/// A change that was made to a state.
pub(super) struct Applied {
    pub(super) acknowledged: Acknowledged,
    /// The name whose entry is to become durable.
    pub(super) name: Option<String>,
}
