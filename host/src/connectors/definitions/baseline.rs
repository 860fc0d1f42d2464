//! What was approved of a connector's definitions, and how what is listed differs from it. A pure state machine.
//!
//! The state of an item is the digest of its definition, or that it is not listed. The first list with any item is the
//! baseline: everything in it is approved. An item that is in another state than the approved one is a change, until that
//! state is approved or the item returns to the approved one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::kind::DefinitionKind;
use super::status::{ChangeKind, ChangedDefinition};
use crate::connectors::limits::{EARLIER_STATES_MAX, UNAPPROVED_ABSENT_MAX};
use crate::model::{Digest, ItemList, WallMs};

/// The digest of an item's definition; none if it is not listed.
type ItemState = Option<Digest>;

/// The digest of each item that is listed.
pub(super) type Listed<'a> = BTreeMap<&'a str, Digest>;

/// The approved and the observed definitions of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Baseline {
    /// When the first definition came.
    pub(super) taken_at: WallMs,
    /// Without a kind of which nothing came yet.
    items: BTreeMap<DefinitionKind, BTreeMap<String, Item>>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Item {
    approved: ItemState,
    observed: ItemState,
    /// The states before the observed one, the latest last, each once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    earlier: Vec<ItemState>,
    /// Whether it returned to a state that it had left and that is not the approved one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    unstable: bool,
}

/// An item that is in another state now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Transition {
    pub(super) kind: DefinitionKind,
    pub(super) name: String,
    pub(super) to: TransitionKind,
}

/// What an item's new state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TransitionKind {
    /// One that it did not have recently.
    Change(ChangeKind),
    /// One that it had recently, for the first time.
    Unstable,
    /// One that it had recently, once more.
    Again,
    /// The approved one.
    Return,
}

/// What is to be approved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every change of the connector.
    All,
    /// The change of one item, by its server's own name, URI or URI template.
    Item(DefinitionKind, String),
}

impl Baseline {
    /// Returns one that holds no kind yet.
    pub(super) fn new(taken_at: WallMs) -> Self {
        Self { taken_at, items: BTreeMap::new() }
    }

    /// Whether it holds a kind: something to compare a list with.
    pub(super) fn has(&self, kind: DefinitionKind) -> bool {
        self.items.contains_key(&kind)
    }

    /// Approves the first items of a kind.
    pub(super) fn approve_first(&mut self, kind: DefinitionKind, listed: &Listed<'_>) {
        let approved = |(name, digest): (&&str, &Digest)| {
            ((*name).to_owned(), Item { approved: Some(*digest), observed: Some(*digest), ..Item::default() })
        };
        self.items.insert(kind, listed.iter().map(approved).collect());
    }

    /// Takes note of the items of a kind that it holds. Returns what is in another state now.
    pub(super) fn observe(&mut self, kind: DefinitionKind, listed: Listed<'_>) -> Vec<Transition> {
        let Some(items) = self.items.get_mut(&kind) else { return Vec::new() };
        let mut transitions = Vec::new();
        let mut note = |name: &str, item: &mut Item, state: ItemState| {
            let to = item.observe(state)?;
            transitions.push(Transition { kind, name: name.to_owned(), to });
            Some(())
        };
        for (name, item) in items.iter_mut().filter(|(name, _)| !listed.contains_key(name.as_str())) {
            note(name, item, None);
        }
        for (name, digest) in listed {
            match items.get_mut(name) {
                Some(item) => drop(note(name, item, Some(digest))),
                None => drop(note(name, items.entry(name.to_owned()).or_default(), Some(digest))),
            }
        }
        forget_absent(items);
        transitions
    }

    /// Whether an item may be served when changes are hidden.
    pub(super) fn is_approved(&self, kind: DefinitionKind, name: &str) -> bool {
        let item = self.items.get(&kind).and_then(|items| items.get(name));
        // An item that is not listed any more and never was approved is in no approved state.
        item.is_some_and(|item| item.approved.is_some() && item.observed == item.approved)
    }

    /// The changes, in the order of kinds and names.
    pub(super) fn changes(&self) -> impl Iterator<Item = ChangedDefinition> {
        self.items.iter().flat_map(|(kind, items)| {
            items.iter().filter_map(|(name, item)| {
                let change = item.change()?;
                let digest = item.digest_to_approve();
                Some(ChangedDefinition { kind: *kind, name: name.clone(), change, unstable: item.unstable, digest })
            })
        })
    }

    /// The digest of all changes; none if there is none.
    pub(super) fn digest_of_changes(&self) -> Option<Digest> {
        let changes: Vec<_> = self.changes().map(|change| (change.kind, change.name, change.digest)).collect();
        // Tuples of texts always serialize.
        (!changes.is_empty()).then(|| Digest::of(&serde_json::to_vec(&changes).unwrap_or_default()))
    }

    /// The digest by which a selection is approved; none if it holds no change.
    pub(super) fn digest_of(&self, selection: &Selection) -> Option<Digest> {
        match selection {
            Selection::All => self.digest_of_changes(),
            Selection::Item(kind, name) => {
                let item = self.items.get(kind)?.get(name)?;
                item.change().map(|_| item.digest_to_approve())
            }
        }
    }

    /// Approves the observed state of a selection.
    pub(super) fn approve(&mut self, selection: &Selection) {
        for (kind, items) in &mut self.items {
            items.retain(|name, item| {
                let is_selected = match selection {
                    Selection::All => true,
                    Selection::Item(of, one) => of == kind && one == name,
                };
                if is_selected && item.change().is_some() {
                    *item = Item { approved: item.observed, observed: item.observed, ..Item::default() };
                }
                item.approved.is_some() || item.observed.is_some() || !item.earlier.is_empty()
            });
        }
    }
}

impl Item {
    /// Takes note of its state. Returns what that is, if it is another one than before.
    fn observe(&mut self, state: ItemState) -> Option<TransitionKind> {
        if state == self.observed {
            return None;
        }
        let is_known = self.earlier.contains(&state);
        let before = std::mem::replace(&mut self.observed, state);
        self.earlier.retain(|earlier| *earlier != before);
        if self.earlier.len() >= EARLIER_STATES_MAX {
            self.earlier.remove(0);
        }
        self.earlier.push(before);
        Some(match self.change_from_approved() {
            None => TransitionKind::Return,
            Some(_) if is_known && self.unstable => TransitionKind::Again,
            Some(_) if is_known => {
                self.unstable = true;
                TransitionKind::Unstable
            }
            Some(change) => TransitionKind::Change(change),
        })
    }

    fn change_from_approved(&self) -> Option<ChangeKind> {
        match (self.approved, self.observed) {
            (approved, observed) if approved == observed => None,
            (None, _) => Some(ChangeKind::Added),
            (_, None) => Some(ChangeKind::Removed),
            (Some(_), Some(_)) => Some(ChangeKind::Changed),
        }
    }

    /// The change that an operator is to look at. An unstable item stays one in its approved state.
    fn change(&self) -> Option<ChangeKind> {
        self.change_from_approved().or_else(|| self.unstable.then_some(ChangeKind::Returned))
    }

    /// The digest by which its observed state is approved. For an item that is not listed it is that of `null`.
    fn digest_to_approve(&self) -> Digest {
        self.observed.unwrap_or_else(|| Digest::of(b"null"))
    }
}

/// The digest of each item. Items of one name are one: that of all their digests, in the order of the list.
pub(super) fn digests(list: &ItemList) -> Listed<'_> {
    let mut digests = Listed::new();
    for item in list.items() {
        let digest = item.digest();
        let joined = |before: &mut Digest| *before = Digest::of(&[*before.bytes(), *digest.bytes()].concat());
        digests.entry(&item.key).and_modify(joined).or_insert(digest);
    }
    digests
}

/// Bounds what is remembered of items that are not listed and never were approved: a server may list others each time.
fn forget_absent(items: &mut BTreeMap<String, Item>) {
    let is_absent = |item: &Item| item.approved.is_none() && item.observed.is_none();
    let mut excess = items.values().filter(|item| is_absent(item)).count().saturating_sub(UNAPPROVED_ABSENT_MAX);
    items.retain(|_, item| {
        let is_forgotten = excess > 0 && is_absent(item);
        excess -= usize::from(is_forgotten);
        !is_forgotten
    });
}

#[cfg(test)]
mod tests;
