//! Drift: how a connector's definitions differ from those it had before.

use std::collections::BTreeMap;

use serde::Serialize;

use super::ToolList;
use crate::model::Digest;

/// A difference between two lists, by the tools' own names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Drift {
    /// Tools that were not there before.
    pub added: Vec<String>,
    /// Tools that are not there any more.
    pub removed: Vec<String>,
    /// Tools whose definition is another one now.
    pub changed: Vec<String>,
}

impl Drift {
    /// What changed from `before` to `after`.
    pub fn between(before: &ToolList, after: &ToolList) -> Self {
        let digests = |list: &ToolList| -> BTreeMap<String, Digest> {
            list.tools().iter().map(|tool| (tool.original.clone(), tool.digest)).collect()
        };
        let (before, after) = (digests(before), digests(after));
        let missing_in = |other: &BTreeMap<String, Digest>, these: &BTreeMap<String, Digest>| -> Vec<String> {
            these.keys().filter(|name| !other.contains_key(*name)).cloned().collect()
        };
        let changed = after.iter().filter(|(name, digest)| before.get(*name).is_some_and(|old| old != *digest));
        Self {
            added: missing_in(&before, &after),
            removed: missing_in(&after, &before),
            changed: changed.map(|(name, _)| name.clone()).collect(),
        }
    }

    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// How many tools it concerns.
    pub fn count(&self) -> usize {
        self.added.len() + self.removed.len() + self.changed.len()
    }
}
