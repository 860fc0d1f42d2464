//! What a change costs, counted: it grows with the list that changed, never with the catalog.

use super::*;
use crate::catalog::chunk::rendered_bytes;

fn of(number: usize, tools: usize) -> Part {
    let names: Vec<String> = (0..tools).map(|tool| format!("tool-{tool}")).collect();
    offering(&format!("s-{number:04}"), &names.iter().map(String::as_str).collect::<Vec<_>>(), &["ask"], &["x:y"], &[])
}

fn view() -> View {
    View::of(ViewRules { connectors: Some(vec!["s-*".parse().unwrap()]), ..ViewRules::default() })
}

/// A catalog of so many connectors, which a view has read.
fn filled(connectors: usize) -> Catalog {
    let catalog = catalog(NameStyle::Prefixed);
    (0..connectors).for_each(|number| drop(catalog.put(of(number, 10))));
    let _ = catalog.snapshot().served(&view());
    catalog
}

#[test]
fn one_changed_list_renders_its_own_bytes_whatever_else_there_is() {
    let rendered = [10, 1_000].map(|connectors| {
        let catalog = filled(connectors);
        rendered_bytes::during(|| {
            catalog.put(of(5, 11));
            // The view catches up without rendering what its connectors share with everything.
            assert_eq!(catalog.snapshot().served(&view()).list(ListKind::Tools).len(), 10 * connectors + 1);
        })
    });
    assert_eq!(rendered[0], rendered[1]);
}

#[test]
fn another_state_of_a_list_renders_nothing() {
    let catalog = filled(10);
    let part = of(5, 10);
    catalog.put(part.clone());
    let facts = ListFacts { state: ListState::Stale, ..part.facts.clone() };
    assert_eq!(rendered_bytes::during(|| assert_eq!(catalog.put(Part { facts, ..part }), None)), 0);
}

#[test]
fn a_filter_of_one_view_renders_only_the_lists_that_changed() {
    let catalog = filled(100);
    let denied = View::of(ViewRules { deny_tools: vec!["*-0".parse().unwrap()], ..ViewRules::default() });
    let all = rendered_bytes::during(|| drop(catalog.snapshot().served(&denied)));
    let one = rendered_bytes::during(|| {
        catalog.put(of(5, 12));
        let _ = catalog.snapshot().served(&denied);
    });
    assert!(one * 20 < all, "{one} of {all}");
}

#[test]
fn connectors_that_come_and_go_leave_nothing_behind() {
    let catalog = catalog(NameStyle::Prefixed);
    for number in 0..3 * limits::CHANGES_OF_ABSENT_MAX {
        catalog.put(of(number, 1));
        catalog.remove(&format!("s-{number:04}").parse().unwrap());
    }
    assert!(catalog.snapshot().changes_held() <= limits::CHANGES_OF_ABSENT_MAX);
    assert_eq!(&catalog.snapshot().served(&view()).list(ListKind::Tools).bytes()[..], b"[]");
}
