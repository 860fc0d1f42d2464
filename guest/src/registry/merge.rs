//! The join of two sets of entries.
//!
//! For each name the greater entry by (stamp, writer, deleted, digest): a total order, so the join is idempotent,
//! commutative and associative, and replicas that saw the same entries agree whatever the order. It reads no clock, and
//! must never refuse an entry for its stamp: a set that one replica refuses and another keeps never converges.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::types::{Entry, MergeDecision};

/// Joins two sets of entries. Losers with another content (digest, or removal against content) are returned too, so that
/// nothing that somebody wrote is beyond recovery.
#[must_use]
pub fn merge(ours: &[Entry], theirs: &[Entry]) -> MergeDecision {
    let mut winners: BTreeMap<&str, &Entry> = BTreeMap::new();
    for entry in ours.iter().chain(theirs) {
        winners
            .entry(&entry.name)
            .and_modify(|winner| {
                if order(entry, winner) == Ordering::Greater {
                    *winner = entry;
                }
            })
            .or_insert(entry);
    }
    let mut superseded: Vec<&Entry> = ours
        .iter()
        .chain(theirs)
        .filter(|entry| winners.get(entry.name.as_str()).is_some_and(|winner| !same_content(entry, winner)))
        .collect();
    superseded.sort_by(|one, other| one.name.cmp(&other.name).then_with(|| order(one, other)));
    superseded.dedup();
    MergeDecision {
        entries: winners.into_values().cloned().collect(),
        superseded: superseded.into_iter().cloned().collect(),
    }
}

/// The total order of entries of one name.
pub(super) fn order(one: &Entry, other: &Entry) -> Ordering {
    one.stamp
        .cmp(&other.stamp)
        .then_with(|| one.writer.cmp(&other.writer))
        .then_with(|| one.deleted.cmp(&other.deleted))
        .then_with(|| one.digest.cmp(&other.digest))
}

fn same_content(one: &Entry, other: &Entry) -> bool {
    one.deleted == other.deleted && one.digest == other.digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Picks, entry};
    use crate::types::Hlc;
    use proptest::prelude::*;

    fn join(ours: &[Entry], theirs: &[Entry]) -> Vec<Entry> {
        merge(ours, theirs).entries
    }

    #[test]
    fn the_later_stamp_wins_and_the_loser_is_kept_for_recovery() {
        let old = entry("a", 1, "x", "one");
        let new = entry("a", 2, "w", "two");
        let decision = merge(std::slice::from_ref(&old), std::slice::from_ref(&new));
        assert_eq!(decision.entries, [new]);
        assert_eq!(decision.superseded, [old]);
    }

    #[test]
    fn equal_stamps_are_decided_by_writer_then_removal_then_digest() {
        let by_a = entry("n", 5, "a", "z");
        let by_b = entry("n", 5, "b", "y");
        assert_eq!(join(&[by_a.clone()], &[by_b.clone()]), [by_b.clone()]);
        let removed = Entry { deleted: true, digest: String::new(), ..by_b.clone() };
        assert_eq!(join(&[removed.clone()], std::slice::from_ref(&by_b)), [removed]);
        let other = Entry { digest: "zz".to_owned(), ..by_b.clone() };
        assert_eq!(join(&[by_b], std::slice::from_ref(&other)), [other]);
    }

    #[test]
    fn a_later_removal_beats_an_edit_and_a_later_edit_beats_a_removal() {
        let edit = entry("n", 5, "a", "content");
        let removal = Entry { deleted: true, digest: String::new(), ..entry("n", 6, "a", "") };
        assert_eq!(join(&[edit], std::slice::from_ref(&removal)), [removal.clone()]);
        let revived = entry("n", 7, "a", "content");
        assert_eq!(join(&[removal], std::slice::from_ref(&revived)), [revived]);
    }

    #[test]
    fn the_same_content_under_two_stamps_supersedes_nothing() {
        let decision = merge(&[entry("n", 1, "a", "same")], &[entry("n", 2, "b", "same")]);
        assert!(decision.superseded.is_empty());
        assert_eq!(decision.entries[0].stamp, Hlc { wall_ms: 2, counter: 0 });
    }

    #[test]
    fn entries_are_ordered_by_name() {
        let names: Vec<String> = join(&[entry("c", 1, "", ""), entry("a", 1, "", "")], &[entry("b", 1, "", "")])
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert_eq!(names, ["a", "b", "c"]);
    }

    #[test]
    fn a_stamp_from_the_future_is_merged_like_any_other() {
        let future = entry("n", u64::MAX, "a", "later");
        assert_eq!(join(&[entry("n", 1, "b", "now")], std::slice::from_ref(&future)), [future]);
    }

    proptest! {
        #[test]
        fn the_join_is_idempotent_commutative_and_associative(seed: u64) {
            let mut picks = Picks::new(seed);
            let (a, b, c) = (picks.entries(), picks.entries(), picks.entries());
            let once = join(&a, &b);
            prop_assert_eq!(join(&once, &once), once.clone());
            prop_assert_eq!(join(&once, &a), once.clone());
            prop_assert_eq!(join(&b, &a), once.clone());
            prop_assert_eq!(join(&once, &c), join(&a, &join(&b, &c)));
        }

        #[test]
        fn nothing_that_lost_is_forgotten(seed: u64) {
            let mut picks = Picks::new(seed);
            let (ours, theirs) = (picks.entries(), picks.entries());
            let decision = merge(&ours, &theirs);
            prop_assert_eq!(&merge(&theirs, &ours), &decision);
            for entry in ours.iter().chain(&theirs) {
                let won = decision.entries.iter().any(|winner| winner.name == entry.name && same_content(winner, entry));
                prop_assert!(won || decision.superseded.contains(entry));
            }
        }
    }
}
