//! What a snapshot serves and how it stands.

use super::*;

#[test]
fn everything_but_name_and_our_meta_key_passes_byte_for_byte() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(part("demo", &[ODD]));
    let text = String::from_utf8(catalog.snapshot().tools().to_vec()).unwrap();
    assert!(text.contains(r#""vendor":{"z":1,"a":12345678901234567890.50}"#), "{text}");
    assert!(text.contains(r#""name":"demo__a""#), "{text}");
    assert!(text.contains(r#""com.brainwav.cortex/connector":{"id":"demo","name":"DEMO","version":"1.0.0""#), "{text}");
}

#[test]
fn the_bytes_do_not_depend_on_the_order_of_arrival() {
    let (one, two) = (catalog(NameStyle::Prefixed), catalog(NameStyle::Prefixed));
    let parts = [part("aa", &[ODD]), part("bb", &[ODD])];
    parts.iter().for_each(|part| drop(one.put(part.clone())));
    parts.iter().rev().for_each(|part| drop(two.put(part.clone())));
    assert_eq!(one.snapshot().tools(), two.snapshot().tools());
}

#[test]
fn of_two_tools_of_one_name_the_one_that_was_claimed_first_is_served_and_both_are_reported() {
    let catalog = catalog(NameStyle::Plain);
    catalog.put(part("bb", &[ODD]));
    catalog.put(part("aa", &[ODD]));
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.tool_count(), 1);
    assert_eq!(snapshot.route("a").unwrap().connector.as_str(), "bb");
    assert_eq!(snapshot.collisions().len(), 1);
    assert_eq!(snapshot.collisions()[0].hidden.as_str(), "aa");
}

#[test]
fn the_gateways_own_tools_come_first_and_hide_tools_of_their_names_until_they_are_taken_away() {
    let catalog = catalog(NameStyle::Plain);
    catalog.put(part("aa", &[ODD]));
    let before = catalog.snapshot().tools().clone();
    let definition = RawValue::from_string(r#"{"name":"a","own":true}"#.into()).unwrap();
    catalog.serve_first(vec![OwnTool { name: "a", definition }]);
    let snapshot = catalog.snapshot();
    assert_eq!(&snapshot.tools()[..], br#"[{"name":"a","own":true}]"#);
    assert!(snapshot.is_own("a") && snapshot.route("a").is_none());
    let hidden = Collision {
        reserved_for: None,
        name: "a".into(),
        kind: ListKind::Tools,
        served: None,
        hidden: "aa".parse().unwrap(),
        instead: None,
    };
    assert_eq!(snapshot.collisions(), [hidden]);
    catalog.serve_first(Vec::new());
    let snapshot = catalog.snapshot();
    assert_eq!((snapshot.tools(), snapshot.is_own("a"), snapshot.collisions()), (&before, false, Vec::new()));
}

#[test]
fn a_connector_that_leaves_takes_its_tools_along() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(part("aa", &[ODD]));
    catalog.remove(&"aa".parse().unwrap());
    assert_eq!(&catalog.snapshot().tools()[..], b"[]");
    assert!(catalog.snapshot().route("aa__a").is_none());
}

#[test]
fn the_hint_is_the_least_remaining_freshness_and_a_stale_part_counts_to_its_next_attempt() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(part("aa", &[ODD]));
    assert_eq!(catalog.snapshot().ttl_ms(&View::everything(), BootMs(4_000)), 6_000);
    let mut stale = part("bb", &[ODD]);
    stale.facts.fresh_until = None;
    catalog.put(stale.clone());
    assert_eq!(catalog.snapshot().ttl_ms(&View::everything(), BootMs(4_000)), 4_000);
    assert_eq!(catalog.snapshot().ttl_ms(&View::everything(), BootMs(7_900)), 1_000);
    stale.facts.scope = Scope::Private;
    catalog.put(stale);
    assert_eq!(catalog.snapshot().scope(&View::everything()), Scope::Private);
}

#[test]
fn a_part_that_merely_stands_differently_leaves_the_served_bytes_alone() {
    let catalog = catalog(NameStyle::Prefixed);
    let mut fresh = part("aa", &[ODD]);
    catalog.put(fresh.clone());
    let before = catalog.snapshot();
    fresh.facts.state = ListState::Stale;
    catalog.put(fresh);
    let after = catalog.snapshot();
    assert!(Arc::ptr_eq(&before.everything, &after.everything));
    assert_eq!(after.parts().next().unwrap().facts.state, ListState::Stale);
}

#[test]
fn who_sees_a_part_is_told_of_that_alone_and_its_lists_are_private() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &["one"], &["ask"], &["x:1"], &["x:{n}"]));
    catalog.put(offering("bb", &["two"], &["say"], &["y:1"], &["y:{n}"]));
    let rules = ViewRules { connectors: Some(vec!["b*".parse().unwrap()]), ..ViewRules::default() };
    let view = View::of(rules);
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&view);
    assert_eq!(names(&served, ListKind::Tools), ["bb__two"]);
    assert_eq!(names(&served, ListKind::Prompts), ["bb__say"]);
    assert_eq!(
        (names(&served, ListKind::Resources), names(&served, ListKind::Templates)),
        (vec!["y:1".to_owned()], vec!["y:{n}".to_owned()])
    );
    assert!(
        served.tool("aa__one").is_none() && served.prompt("aa__ask").is_none() && served.template("x:{n}").is_none()
    );
    assert_eq!(served.template("cortex+aa:x:{n}"), None);
    for uri in ["x:1", "x:2", "cortex+aa:x:1", "nobody:1"] {
        assert!(served.resource(uri, None).iter().all(|route| route.connector.as_str() == "bb"), "{uri}");
    }
    assert_eq!((snapshot.scope(&view), snapshot.scope(&View::everything())), (Scope::Private, Scope::Public));
    assert_eq!(snapshot.scope(&View::everything().of_a_token()), Scope::Private);
    assert_eq!(names(&snapshot.served(&View::everything().of_a_token()), ListKind::Tools), ["aa__one", "bb__two"]);
}

#[test]
fn the_hint_of_a_view_is_that_of_the_parts_that_it_sees() {
    let catalog = catalog(NameStyle::Prefixed);
    let mut stale = offering("aa", &["one"], &[], &[], &[]);
    stale.facts.fresh_until = None;
    catalog.put(stale);
    catalog.put(offering("bb", &["two"], &[], &[], &[]));
    let view = View::of(ViewRules { connectors: Some(vec!["bb".parse().unwrap()]), ..ViewRules::default() });
    let snapshot = catalog.snapshot();
    assert_eq!((snapshot.ttl_ms(&view, BootMs(0)), snapshot.ttl_ms(&View::everything(), BootMs(0))), (10_000, 8_000));
}

#[test]
fn the_lists_of_views_are_made_once_and_not_for_ever_more_views() {
    let catalog = catalog(NameStyle::Prefixed);
    let part = offering("aa", &["one"], &[], &[], &[]);
    catalog.put(part.clone());
    let view = |number: usize| {
        View::of(ViewRules { deny_tools: vec![format!("none-{number}").parse().unwrap()], ..ViewRules::default() })
    };
    let snapshot = catalog.snapshot();
    assert!(Arc::ptr_eq(&snapshot.served(&view(0)), &snapshot.served(&view(0))));
    for number in 0..3 * limits::VIEWS_MAX {
        assert_eq!(snapshot.served(&view(number)).tool_count(), 1);
        assert!(snapshot.views_held().unwrap() <= limits::VIEWS_MAX);
    }
    // A part that merely stands differently leaves them alone too.
    let held = snapshot.served(&view(7));
    catalog.put(Part { facts: ListFacts { state: ListState::Stale, ..part.facts.clone() }, ..part });
    assert!(Arc::ptr_eq(&held, &catalog.snapshot().served(&view(7))));
}

#[test]
fn who_waits_for_changes_is_told_of_other_lists_and_not_of_other_standings() {
    let catalog = catalog(NameStyle::Prefixed);
    let changes = catalog.changes();
    let part = offering("aa", &["one"], &[], &[], &[]);
    catalog.put(part.clone());
    assert_eq!(*changes.borrow(), 1);
    catalog.put(Part { facts: ListFacts { state: ListState::Stale, ..part.facts.clone() }, ..part });
    assert_eq!(*changes.borrow(), 1);
    catalog.remove(&"aa".parse().unwrap());
    assert_eq!(*changes.borrow(), 2);
}

mod rendering {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn view(number: usize) -> View {
        View::of(ViewRules { deny_tools: vec![format!("none-{number}").parse().unwrap()], ..ViewRules::default() })
    }

    fn snapshot_of_one_tool() -> Arc<CatalogSnapshot> {
        let catalog = catalog(NameStyle::Prefixed);
        catalog.put(offering("aa", &["one"], &[], &[], &[]));
        catalog.snapshot()
    }

    fn nothing() -> ViewSnapshot {
        ViewSnapshot::new(View::everything(), NameStyle::Prefixed, &[])
    }

    #[test]
    fn of_one_view_holds_up_no_other() {
        let snapshot = snapshot_of_one_tool();
        snapshot.served_by(view(1).rules().unwrap(), |_| {
            assert_eq!(snapshot.views_held(), Some(1), "their lock is free");
            assert_eq!(snapshot.served(&view(2)).tool_count(), 1);
            nothing()
        });
        assert_eq!(snapshot.views_held(), Some(2));
    }

    #[test]
    fn of_a_view_that_several_read_is_done_once() {
        let (snapshot, view, rendered) = (snapshot_of_one_tool(), view(1), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    snapshot.served_by(view.rules().unwrap(), |_| {
                        rendered.fetch_add(1, Ordering::SeqCst);
                        nothing()
                    })
                });
            }
        });
        assert_eq!((rendered.load(Ordering::SeqCst), snapshot.views_held()), (1, Some(1)));
    }
}
