//! A change that someone wants, and what becomes of it.

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

    /// Makes the change to a state. Returns what it does, and the entry that is to become durable, if there is one.
    pub(super) fn apply(&self, judge: &mut Judge, state: &mut State) -> Result<Applied, StoreError> {
        let (name, content, outcome) = match &self.wish {
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
                (&entry.name, Some(entry.clone()), outcome)
            }
            Wish::Remove { name, must_exist } => {
                if !is_name(name) {
                    return Err(EntryRule::Name.into());
                }
                if state.get(name).is_none_or(|known| known.content.is_none()) {
                    if *must_exist {
                        return Err(StoreError::Missing { name: name.clone() });
                    }
                    let acknowledged = Acknowledged { name: name.clone(), outcome: Outcome::Absent };
                    return Ok(Applied { acknowledged, name: None });
                }
                (name, None, Outcome::Removed)
            }
        };
        let known = Arc::new(Known::new(name, judge.stamp()?, judge.writer(), content));
        if state.get(name).is_some() {
            let wanted = known.entry.clone();
            *state = judge.join(state, [known])?.state;
            if state.get(name).is_none_or(|known| known.entry != wanted) {
                return Err(StoreError::Overruled { name: name.clone() });
            }
        } else {
            state.put(&known);
        }
        Ok(Applied { acknowledged: Acknowledged { name: name.clone(), outcome }, name: Some(name.clone()) })
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

/// A change that was made to a state.
pub(super) struct Applied {
    pub(super) acknowledged: Acknowledged,
    /// The name whose entry is to become durable.
    pub(super) name: Option<String>,
}
