//! What an editor, an old tool or a cooperating writer may do to a document.

use super::*;
use crate::environment::Recorded;
use crate::registry::{initial_clock_state, merge};
use crate::testing::{Picks, WALL, entry};
use proptest::prelude::*;

fn clock(wall_ms: u64) -> ClockState {
    ClockState { last: Hlc { wall_ms, counter: 0 }, ..initial_clock_state() }
}

fn found(name: &str, digest: &str) -> FoundEntry {
    FoundEntry { name: name.to_owned(), digest: digest.to_owned(), stamp: None, writer: None }
}

fn edit(base: &[Entry], found: &[FoundEntry]) -> AdoptDecision {
    adopt(&mut Recorded::new(WALL, 0, 0), clock(50), "editor", base, found)
}

#[test]
fn a_reformatted_document_is_no_change() {
    let base = [entry("a", 10, "w", "1"), entry("b", 20, "w", "2")];
    let decision = edit(&base, &[found("b", "2"), found("a", "1")]);
    assert_eq!((decision.entries.as_slice(), decision.state.last), (&base[..], Hlc { wall_ms: 50, counter: 0 }));
}

#[test]
fn what_changed_appeared_or_vanished_bears_fresh_stamps_in_the_order_of_names() {
    let base = [entry("changed", 10, "w", "1"), entry("kept", 20, "w", "2"), entry("vanished", 30, "w", "3")];
    let decision = edit(&base, &[found("changed", "x"), found("kept", "2"), found("appeared", "n")]);
    let fresh = |name: &str, counter, digest: &str, deleted| Entry {
        name: name.to_owned(),
        stamp: Hlc { wall_ms: WALL, counter },
        writer: "editor".to_owned(),
        deleted,
        digest: digest.to_owned(),
    };
    assert_eq!(
        decision.entries,
        [
            fresh("appeared", 0, "n", false),
            fresh("changed", 1, "x", false),
            base[1].clone(),
            fresh("vanished", 2, "", true),
        ]
    );
    assert_eq!(decision.state.last, Hlc { wall_ms: WALL, counter: 2 });
}

#[test]
fn what_a_cooperating_writer_stamped_keeps_its_stamp_and_writer() {
    let stamp = Hlc { wall_ms: 40, counter: 3 };
    let other = FoundEntry { stamp: Some(stamp), writer: Some("other".to_owned()), ..found("a", "2") };
    let decision = edit(&[entry("a", 10, "w", "1")], std::slice::from_ref(&other));
    assert_eq!((decision.entries[0].stamp, decision.entries[0].writer.as_str()), (stamp, "other"));
    let added = edit(&[], &[other]);
    assert_eq!(added.entries[0].stamp, stamp);
}

#[test]
fn an_edit_under_an_old_stamp_gets_a_fresh_one() {
    let stale = FoundEntry { stamp: Some(Hlc { wall_ms: 10, counter: 0 }), ..found("a", "edited") };
    let decision = edit(&[entry("a", 10, "w", "1")], &[stale]);
    assert_eq!(decision.entries[0].stamp, Hlc { wall_ms: WALL, counter: 0 });
}

#[test]
fn what_was_removed_stays_removed_until_somebody_writes_it_again() {
    let removed = Entry { deleted: true, digest: String::new(), ..entry("a", 10, "w", "") };
    assert_eq!(edit(std::slice::from_ref(&removed), &[]).entries, [removed.clone()]);
    let revived = edit(&[removed], &[found("a", "back")]);
    assert_eq!((revived.entries[0].deleted, revived.entries[0].stamp.wall_ms), (false, WALL));
}

#[test]
fn fresh_stamps_are_above_every_stamp_in_the_document() {
    let ahead = FoundEntry { stamp: Some(Hlc { wall_ms: WALL + 9, counter: 4 }), ..found("z", "1") };
    let decision = edit(&[], &[ahead, found("a", "1")]);
    assert_eq!(decision.entries[0].stamp, Hlc { wall_ms: WALL + 9, counter: 5 });
}

#[test]
fn stamps_from_the_future_are_named_and_count_all_the_same() {
    let at = |wall_ms| FoundEntry { stamp: Some(Hlc { wall_ms, counter: 0 }), ..found("a", "1") };
    let decision = edit(&[], &[at(WALL + FUTURE_TOLERANCE_MS + 1)]);
    assert_eq!(decision.from_the_future, ["a"]);
    assert_eq!(decision.entries.len(), 1);
    assert!(edit(&[], &[at(WALL + FUTURE_TOLERANCE_MS)]).from_the_future.is_empty());
}

proptest! {
    #[test]
    fn every_name_of_base_and_document_comes_once_and_in_order_with_stamps_at_most_the_clock(seed: u64) {
        let mut picks = Picks::new(seed);
        let base = picks.entries();
        let found: Vec<FoundEntry> = (0..picks.below(12)).map(|_| picks.found()).collect();
        let clock = ClockState { last: picks.hlc(), memo: vec![3] };
        let decision = adopt(&mut picks.environment(), clock.clone(), "me", &base, &found);
        let names: Vec<&str> = decision.entries.iter().map(|entry| entry.name.as_str()).collect();
        let wanted: BTreeSet<&str> =
            base.iter().map(|entry| entry.name.as_str()).chain(found.iter().map(|entry| entry.name.as_str())).collect();
        prop_assert_eq!(names, wanted.into_iter().collect::<Vec<_>>());
        prop_assert!(decision.state.last >= clock.last);
        prop_assert!(decision.entries.iter().all(|entry| entry.stamp <= decision.state.last));
        prop_assert_eq!(decision.state.memo, [3]);
    }

    #[test]
    fn an_adopted_edit_wins_the_merge_with_its_base_and_adopting_it_again_changes_nothing(seed: u64) {
        let mut picks = Picks::new(seed);
        let plain = |picks: &mut Picks| entry(&picks.name(), picks.below(1_000), &picks.name(), &picks.name());
        let base = merge(&(0..8).map(|_| plain(&mut picks)).collect::<Vec<_>>(), &[]).entries;
        let document: BTreeMap<String, FoundEntry> =
            (0..8).map(|_| found(&picks.name(), &picks.name())).map(|entry| (entry.name.clone(), entry)).collect();
        let document: Vec<FoundEntry> = document.into_values().collect();
        let adopted = edit(&base, &document);
        prop_assert_eq!(merge(&base, &adopted.entries).entries, adopted.entries.clone());
        let again = adopt(&mut Recorded::new(WALL + 1, 0, 0), adopted.state.clone(), "editor", &adopted.entries, &document);
        prop_assert_eq!(again.entries, adopted.entries);
        prop_assert_eq!(again.state, adopted.state);
    }
}
