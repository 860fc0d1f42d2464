//! What counts as a change, and how it ends.

use proptest::prelude::*;

use super::*;
use crate::model::ListKind;

fn list(kind: ListKind, items: &[(&str, u8)]) -> ItemList {
    let definitions: Vec<String> =
        items.iter().map(|(name, content)| format!(r#"{{"{}":"{name}","x":{content}}}"#, kind.key())).collect();
    ItemList::from_bytes(kind, format!("[{}]", definitions.join(",")).as_bytes()).unwrap()
}

fn baseline(kind: ListKind, items: &[(&str, u8)]) -> Baseline {
    let mut baseline = Baseline::new(WallMs(7));
    baseline.approve_first(kind.into(), &digests(&list(kind, items)));
    baseline
}

fn names(transitions: &[Transition]) -> Vec<(&str, TransitionKind)> {
    transitions.iter().map(|transition| (transition.name.as_str(), transition.to)).collect()
}

const CHANGED: TransitionKind = TransitionKind::Change(ChangeKind::Changed);
const ADDED: TransitionKind = TransitionKind::Change(ChangeKind::Added);
const REMOVED: TransitionKind = TransitionKind::Change(ChangeKind::Removed);

#[test]
fn each_kind_of_list_is_compared_item_by_item() {
    for kind in ListKind::ALL {
        let mut baseline = baseline(kind, &[("a", 1), ("b", 1), ("c", 1)]);
        assert_eq!(
            baseline.observe(kind.into(), digests(&list(kind, &[("c", 1), ("a", 1), ("b", 1)]))),
            [],
            "another order"
        );
        let after = baseline.observe(kind.into(), digests(&list(kind, &[("a", 2), ("b", 1), ("d", 1)])));
        assert_eq!(names(&after), [("c", REMOVED), ("a", CHANGED), ("d", ADDED)]);
        let approved = ["a", "b", "c", "d", "e"].map(|name| baseline.is_approved(kind.into(), name));
        assert_eq!(approved, [false, true, false, false, false]);
        assert_eq!(baseline.changes().count(), 3);
        assert_eq!(
            baseline.observe(kind.into(), digests(&list(kind, &[("a", 2), ("b", 1), ("d", 1)]))),
            [],
            "it is reported once"
        );
        let other = DefinitionKind::ALL[(kind as usize + 1) % 5];
        assert!(!baseline.is_approved(other, "b"), "an item of another list is another item");
    }
}

#[test]
fn an_item_that_returns_is_no_change_and_one_that_alternates_is_unstable_once() {
    let kind = ListKind::Tools;
    for (states, expected) in [
        // Each state is the content of `a`; 0 stands for its absence. It begins with 1.
        (&[2, 1][..], &[Some(CHANGED), Some(TransitionKind::Return)][..]),
        (&[0, 1], &[Some(REMOVED), Some(TransitionKind::Return)]),
        (
            &[2, 1, 2, 1, 2, 1, 2],
            &[
                Some(CHANGED),
                Some(TransitionKind::Return),
                Some(TransitionKind::Unstable),
                Some(TransitionKind::Return),
                Some(TransitionKind::Again),
                Some(TransitionKind::Return),
                Some(TransitionKind::Again),
            ],
        ),
        (&[0, 1, 0], &[Some(REMOVED), Some(TransitionKind::Return), Some(TransitionKind::Unstable)]),
        (&[2, 3, 2, 3], &[Some(CHANGED), Some(CHANGED), Some(TransitionKind::Unstable), Some(TransitionKind::Again)]),
        (&[2, 2, 3, 4, 5], &[Some(CHANGED), None, Some(CHANGED), Some(CHANGED), Some(CHANGED)]),
    ] {
        let mut baseline = baseline(kind, &[("a", 1)]);
        for (state, expected) in states.iter().zip(expected) {
            let items: &[(&str, u8)] = if *state == 0 { &[] } else { &[("a", *state)] };
            let found = baseline.observe(kind.into(), digests(&list(kind, items)));
            assert_eq!(found.first().map(|transition| transition.to), *expected, "{states:?} at {state}");
        }
    }
}

#[test]
fn an_approval_is_of_the_digest_that_is_listed_now() {
    let kind = ListKind::Resources;
    let mut baseline = baseline(kind, &[("a", 1), ("b", 1)]);
    baseline.observe(kind.into(), digests(&list(kind, &[("a", 2), ("c", 1)])));
    let item = |name: &str| Selection::Item(kind.into(), name.to_owned());
    assert_eq!(baseline.digest_of(&item("x")), None);
    let (before, all) = (baseline.digest_of(&item("a")).unwrap(), baseline.digest_of(&Selection::All).unwrap());
    baseline.observe(kind.into(), digests(&list(kind, &[("a", 3), ("c", 1)])));
    assert_ne!(baseline.digest_of(&item("a")), Some(before));
    assert_ne!(baseline.digest_of(&Selection::All), Some(all));
    baseline.approve(&item("a"));
    assert!(baseline.is_approved(kind.into(), "a") && !baseline.is_approved(kind.into(), "c"));
    assert_eq!(baseline.changes().map(|change| change.name).collect::<Vec<_>>(), ["b", "c"]);
    baseline.approve(&Selection::All);
    assert_eq!((baseline.changes().count(), baseline.digest_of_changes()), (0, None));
    assert_eq!(
        names(&baseline.observe(kind.into(), digests(&list(kind, &[("a", 3), ("b", 1), ("c", 1)])))),
        [("b", ADDED)]
    );
}

#[test]
fn an_item_that_was_listed_for_a_while_and_never_approved_is_not_approved() {
    let kind = ListKind::Resources;
    let mut baseline = baseline(kind, &[("a", 1)]);
    for items in [&[("a", 1), ("b", 1)][..], &[("a", 1)]] {
        baseline.observe(kind.into(), digests(&list(kind, items)));
        assert!(!baseline.is_approved(kind.into(), "b"), "{items:?}");
    }
}

#[test]
fn two_items_of_one_name_are_one_that_changes_with_either() {
    let kind = ListKind::Prompts;
    let mut baseline = baseline(kind, &[("a", 1), ("a", 2)]);
    assert_eq!(baseline.observe(kind.into(), digests(&list(kind, &[("a", 1), ("a", 2)]))), []);
    for items in [&[("a", 1), ("a", 3)][..], &[("a", 2), ("a", 1)], &[("a", 1)], &[("a", 1), ("a", 2), ("a", 2)]] {
        let mut baseline = baseline.clone();
        assert_eq!(names(&baseline.observe(kind.into(), digests(&list(kind, items)))), [("a", CHANGED)], "{items:?}");
    }
}

#[test]
fn a_server_that_lists_others_each_time_is_remembered_in_bounds() {
    let kind = ListKind::Tools;
    let mut baseline = baseline(kind, &[("a", 1)]);
    for round in 0..3 * UNAPPROVED_ABSENT_MAX {
        baseline.observe(kind.into(), digests(&list(kind, &[("a", 1), (&format!("t{round}"), 1)])));
    }
    assert_eq!(baseline.items[&kind.into()].len(), UNAPPROVED_ABSENT_MAX + 2);
    assert!(baseline.is_approved(kind.into(), "a"));
    let most = baseline.items[&kind.into()].values().map(|item| item.earlier.len()).max();
    assert!(most <= Some(EARLIER_STATES_MAX));
}

proptest! {
    /// Whatever a server lists, in whatever order: an item is approved exactly if it is as it was approved last, a change is
    /// reported exactly if there is one, and what is kept is read back as it was.
    #[test]
    fn what_is_approved_is_what_was_approved(rounds in prop::collection::vec(
        (prop::collection::btree_map("[a-d]", 1..4u8, 0..4), prop::option::of("[a-d]")), 1..20
    )) {
        let kind = ListKind::Templates;
        let mut baseline = baseline(kind, &[("a", 1), ("b", 1)]);
        let mut approved: BTreeMap<String, u8> = [("a".to_owned(), 1), ("b".to_owned(), 1)].into();
        let mut listed = approved.clone();
        for (next, approve) in rounds {
            let items: Vec<(&str, u8)> = next.iter().map(|(name, content)| (name.as_str(), *content)).collect();
            let transitions = baseline.observe(kind.into(), digests(&list(kind, &items)));
            let moved = ["a", "b", "c", "d"].iter().filter(|name| next.get(**name) != listed.get(**name)).count();
            prop_assert_eq!(transitions.len(), moved);
            listed = next;
            if let Some(name) = approve {
                baseline.approve(&Selection::Item(kind.into(), name.clone()));
                match listed.get(&name) {
                    Some(content) => drop(approved.insert(name, *content)),
                    None => drop(approved.remove(&name)),
                }
            }
            for name in listed.keys() {
                prop_assert_eq!(baseline.is_approved(kind.into(), name), listed.get(name) == approved.get(name));
            }
            let read: Baseline = serde_json::from_slice(&serde_json::to_vec(&baseline).unwrap()).unwrap();
            prop_assert_eq!(&read, &baseline);
        }
    }
}
