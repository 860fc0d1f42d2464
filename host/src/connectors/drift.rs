//! Drift: how a connector's definitions differ from those it had before.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::model::{Digest, ItemList};

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
    pub fn between(before: &ItemList, after: &ItemList) -> Self {
        let (before, after) = (digests(before), digests(after));
        let missing_in = |other: &BTreeMap<&str, Digest>, these: &BTreeMap<&str, Digest>| -> Vec<String> {
            these.keys().filter(|name| !other.contains_key(*name)).map(|name| (*name).to_owned()).collect()
        };
        let changed = after.iter().filter(|(name, digest)| before.get(*name).is_some_and(|old| old != *digest));
        Self {
            added: missing_in(&before, &after),
            removed: missing_in(&after, &before),
            changed: changed.map(|(name, _)| (*name).to_owned()).collect(),
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

fn digests(list: &ItemList) -> BTreeMap<&str, Digest> {
    list.items().iter().map(|tool| (tool.key.as_str(), Digest::of(tool.definition.get().as_bytes()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn added_removed_and_changed_tools_are_told_apart() {
        let list = |text: &str| ItemList::from_bytes(crate::model::ListKind::Tools, text.as_bytes()).unwrap();
        let before = list(r#"[{"name":"a"},{"name":"b"}]"#);
        let after = list(r#"[{"name":"b","x":1},{"name":"c"}]"#);
        let drift = Drift::between(&before, &after);
        assert_eq!(drift.count(), 3);
        assert_eq!((drift.added, drift.removed, drift.changed), (vec!["c".into()], vec!["a".into()], vec!["b".into()]));
        assert!(Drift::between(&before, &before).is_empty());
    }
}
