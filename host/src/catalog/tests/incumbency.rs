//! Which of several claims of one name or address is served: the oldest, across refreshes and restarts.

use proptest::prelude::*;

use super::*;
use crate::config::ToolFilter;
use crate::model::{ConnectorId, Reach};

/// A part of a server at an address.
fn at(url: &str, part: Part) -> Part {
    let reach = Some(Reach::Http(url.parse().unwrap()));
    Part { connector: Arc::new(Connector { reach, ..(*part.connector).clone() }), ..part }
}

/// One item of each kind, under the same key.
fn all_kinds(id: &str, key: &str) -> Part {
    at(&format!("http://{id}.example/"), offering(id, &[key], &[key], &[key], &[key]))
}

fn without_list(id: &str) -> Part {
    Part { offer: None, ..all_kinds(id, "x:1") }
}

/// What lists another key, and [`KEY`], which is hidden until it is approved.
fn hiding(id: &str) -> Part {
    let hidden = Arc::new(std::array::from_fn(|_| vec![KEY.to_owned()]));
    Part { hidden, ..all_kinds(id, "other") }
}

/// The connector that each kind of a key leads to.
fn owners(catalog: &Catalog, view: &View, key: &str) -> Vec<String> {
    let served = catalog.snapshot().served(view);
    let resource = served.resource(key, None).first().cloned();
    let routes = [served.tool(key).cloned(), served.prompt(key).cloned(), resource, served.template(key).cloned()];
    routes.into_iter().map(|route| route.map_or_else(String::new, |route| route.connector.to_string())).collect()
}

const KEY: &str = "x-1";

fn owner(catalog: &Catalog) -> String {
    let mut owners = owners(catalog, &View::everything(), KEY);
    owners.dedup();
    assert_eq!(owners.len(), 1, "every kind is alike: {owners:?}");
    owners.remove(0)
}

/// What happens to a connector.
#[derive(Clone, Copy)]
enum Step {
    Lists(&'static str),
    ListsNothing(&'static str),
    /// There is nothing that may be served of it.
    IsDown(&'static str),
    Leaves(&'static str),
    IsDisabled(&'static str),
    RotatesItsKey(&'static str),
    /// It lists the key, which is hidden until it is approved.
    Hides(&'static str),
    MovesElsewhere(&'static str),
    /// It is described otherwise, and is the same server.
    IsRenamed(&'static str),
}

fn apply(catalog: &Catalog, step: Step) {
    match step {
        Step::Lists(id) => drop(catalog.put(all_kinds(id, KEY))),
        Step::ListsNothing(id) => drop(catalog.put(all_kinds(id, "other"))),
        Step::IsDown(id) => drop(catalog.put(without_list(id))),
        Step::Leaves(id) => catalog.remove(&id.parse().unwrap()),
        Step::IsDisabled(id) => catalog.withdraw(&id.parse().unwrap()),
        Step::RotatesItsKey(id) => {
            let part = all_kinds(id, KEY);
            let headers = BTreeMap::from([("authorization".to_owned(), "Bearer 2".to_owned())]);
            let connector = Connector { headers, ..(*part.connector).clone() };
            catalog.withdraw(&connector.id);
            catalog.put(Part { connector: Arc::new(connector), ..part });
        }
        Step::Hides(id) => drop(catalog.put(hiding(id))),
        Step::MovesElsewhere(id) => drop(catalog.put(at("http://elsewhere.example/", all_kinds(id, KEY)))),
        Step::IsRenamed(id) => {
            let part = all_kinds(id, KEY);
            let connector = Connector { name: "Renamed".to_owned(), ..(*part.connector).clone() };
            catalog.put(Part { connector: Arc::new(connector), ..part });
        }
    }
}

#[test]
fn the_connector_that_claimed_a_key_first_keeps_it_while_it_lists_it() {
    use Step::*;
    let first = [Lists("bank"), Lists("aaa-evil")];
    for (steps, expected) in [
        (&[][..], "bank"),
        (&[Lists("aaa-evil"), Lists("bank")], "bank"),
        (&[IsRenamed("bank")], "bank"),
        (&[ListsNothing("bank")], "aaa-evil"),
        (&[ListsNothing("bank"), Lists("bank")], "aaa-evil"),
        (&[Leaves("bank"), Lists("bank")], "aaa-evil"),
        (&[MovesElsewhere("bank")], "aaa-evil"),
        (&[MovesElsewhere("aaa-evil")], "bank"),
        (&[IsDown("bank")], "aaa-evil"),
        (&[IsDown("bank"), Lists("bank")], "bank"),
        (&[IsDown("bank"), IsDown("bank"), Lists("aaa-evil"), Lists("bank")], "bank"),
        (&[IsDisabled("bank")], "aaa-evil"),
        (&[IsDisabled("bank"), Lists("bank")], "bank"),
        (&[IsDisabled("bank"), IsDown("bank"), IsDisabled("bank"), Lists("bank")], "bank"),
        (&[IsDisabled("bank"), Leaves("bank"), Lists("bank")], "aaa-evil"),
        (&[IsDisabled("bank"), MovesElsewhere("bank")], "aaa-evil"),
        (&[RotatesItsKey("bank")], "bank"),
        // Requests go to the owner, which refuses them.
        (&[Hides("bank")], "bank"),
        (&[Hides("bank"), Lists("aaa-evil"), Lists("third")], "bank"),
        (&[Hides("bank"), Leaves("aaa-evil"), Lists("aaa-evil"), Lists("bank")], "bank"),
        (&[Hides("bank"), IsDown("bank")], "aaa-evil"),
        (&[Hides("bank"), IsDown("bank"), Lists("bank")], "bank"),
        (&[Hides("bank"), ListsNothing("bank")], "aaa-evil"),
        (&[Hides("bank"), ListsNothing("bank"), Lists("bank")], "aaa-evil"),
        (&[Hides("aaa-evil")], "bank"),
        (&[IsDown("bank"), MovesElsewhere("bank")], "aaa-evil"),
        (&[IsDown("bank"), Leaves("bank"), Lists("bank")], "aaa-evil"),
        (&[IsDown("bank"), ListsNothing("bank"), Lists("bank")], "aaa-evil"),
        (&[Leaves("aaa-evil"), Lists("aaa-evil"), Leaves("bank")], "aaa-evil"),
        (&[Lists("third"), ListsNothing("bank")], "aaa-evil"),
        (&[Lists("third"), ListsNothing("bank"), ListsNothing("aaa-evil")], "third"),
    ] {
        let catalog = catalog(NameStyle::Plain);
        first.iter().chain(steps).for_each(|step| apply(&catalog, *step));
        assert_eq!(owner(&catalog), expected, "{}", steps.len());
        // A view that sees all of them is served the same; one that sees not the owner, the next.
        let view = |pattern: &str| {
            View::of(ViewRules { connectors: Some(vec![pattern.parse().unwrap()]), ..ViewRules::default() })
        };
        assert_eq!(owners(&catalog, &view("*"), KEY), owners(&catalog, &View::everything(), KEY));
        let evil = owners(&catalog, &view("aaa-*"), KEY);
        assert!(evil.iter().all(|owner| owner.is_empty() || owner == "aaa-evil"), "{evil:?}");
    }
}

#[test]
fn a_tool_that_is_hidden_for_a_while_has_given_nothing_up() {
    let deny = |id: &str| {
        let filter = ToolFilter { deny: vec![KEY.parse().unwrap()], ..ToolFilter::default() };
        BTreeMap::from([(id.parse().unwrap(), filter)])
    };
    let owner = |catalog: &Catalog| catalog.snapshot().route(KEY).unwrap().connector.to_string();
    let before = catalog(NameStyle::Plain);
    [Step::Lists("bank"), Step::Lists("aaa-evil")].into_iter().for_each(|step| apply(&before, step));
    before.set_filters(deny("bank"));
    assert_eq!(owner(&before), "aaa-evil");
    // Also across a restart, and while its list changes.
    let after = catalog(NameStyle::Plain);
    after.restore_claims(before.claims());
    after.set_filters(deny("bank"));
    apply(&after, Step::Lists("aaa-evil"));
    after.put(at("http://bank.example/", offering("bank", &[KEY, "other"], &[], &[], &[])));
    for catalog in [&before, &after] {
        assert_eq!(owner(catalog), "aaa-evil");
        catalog.set_filters(BTreeMap::new());
        assert_eq!(owner(catalog), "bank");
        catalog.set_filters(deny("bank"));
        apply(catalog, Step::ListsNothing("bank"));
        catalog.set_filters(BTreeMap::new());
        apply(catalog, Step::Lists("bank"));
        assert_eq!(owner(catalog), "aaa-evil", "it was dropped meanwhile");
    }
}

#[test]
fn a_restart_restores_the_owners_in_whatever_order_the_lists_come() {
    let order = ["mm", "aa", "zz"];
    let before = catalog(NameStyle::Plain);
    order.iter().for_each(|id| apply(&before, Step::Lists(id)));
    let record = before.claims();
    let text = serde_json::to_string(&record).unwrap();
    for again in [["aa", "mm", "zz"], ["zz", "aa", "mm"], ["zz", "mm", "aa"], ["mm", "zz", "aa"]] {
        let catalog = catalog(NameStyle::Plain);
        catalog.restore_claims(serde_json::from_str(&text).unwrap());
        // Nothing is served of some of them at first.
        apply(&catalog, Step::IsDown(again[2]));
        again.iter().for_each(|id| apply(&catalog, Step::Lists(id)));
        assert_eq!(catalog.claims(), record, "nothing else is written");
        for expected in order {
            assert_eq!(owner(&catalog), expected, "{again:?}");
            apply(&catalog, Step::Leaves(expected));
        }
    }
}

#[test]
fn what_was_saved_of_another_server_or_of_one_that_was_away_counts_for_nothing() {
    let before = catalog(NameStyle::Plain);
    ["mm", "aa"].iter().for_each(|id| apply(&before, Step::Lists(id)));
    let restored = || {
        let catalog = catalog(NameStyle::Plain);
        catalog.restore_claims(before.claims());
        catalog
    };
    let moved = restored();
    [Step::Lists("aa"), Step::MovesElsewhere("mm")].into_iter().for_each(|step| apply(&moved, step));
    assert_eq!(owner(&moved), "aa");
    let absent = restored();
    apply(&absent, Step::Lists("aa"));
    absent.forget_claims_of_absent(&["aa".parse().unwrap()].into());
    apply(&absent, Step::Lists("mm"));
    assert_eq!(owner(&absent), "aa");
    // One that is there and down is not absent.
    let down = restored();
    [Step::Lists("aa"), Step::IsDown("mm")].into_iter().for_each(|step| apply(&down, step));
    down.forget_claims_of_absent(&["aa", "mm"].map(|id| id.parse().unwrap()).into());
    assert_eq!((owner(&down), down.claims() == before.claims()), ("aa".to_owned(), true));
    apply(&down, Step::Lists("mm"));
    assert_eq!(owner(&down), "mm");
    // It is restored once: what it drops and lists again is a new claim.
    [Step::ListsNothing("mm"), Step::Lists("mm")].into_iter().for_each(|step| apply(&down, step));
    assert_eq!(owner(&down), "aa");
    let left = restored();
    left.remove(&"mm".parse().unwrap());
    [Step::Lists("aa"), Step::Lists("mm")].into_iter().for_each(|step| apply(&left, step));
    assert_eq!(owner(&left), "aa");
}

#[test]
fn what_is_hidden_until_it_is_approved_is_served_of_no_other_connector_also_after_a_restart() {
    let deny = |id: &str| {
        let uri_schemes = Some(["other".parse().unwrap()].into());
        let filter = ToolFilter { deny: vec![KEY.parse().unwrap()], uri_schemes, ..ToolFilter::default() };
        BTreeMap::from([(id.parse().unwrap(), filter)])
    };
    let saved = |part: Part| Part { source: OfferSource::Saved, ..part };
    let before = catalog(NameStyle::Plain);
    [Step::Lists("bank"), Step::Hides("bank")].into_iter().for_each(|step| apply(&before, step));
    let after = catalog(NameStyle::Plain);
    after.restore_claims(before.claims());
    after.put(saved(hiding("bank")));
    for catalog in [before, after] {
        apply(&catalog, Step::Lists("aaa-evil"));
        let snapshot = catalog.snapshot();
        let served = snapshot.served(&View::everything());
        assert_eq!(owner(&catalog), "bank");
        for kind in ListKind::ALL {
            let is_address = matches!(kind, ListKind::Resources | ListKind::Templates);
            let mut expected = vec![("other".to_owned(), "bank".to_owned())];
            expected.splice(0..0, is_address.then(|| (format!("cortex+aaa-evil:{KEY}"), "aaa-evil".to_owned())));
            assert_eq!(listed(&served, kind), expected);
        }
        let collisions = served.collisions();
        assert_eq!(collisions.len(), 4);
        for one in collisions {
            assert_eq!((one.served, one.reserved_for), (None, Some("bank".parse().unwrap())));
            let is_address = matches!(one.kind, ListKind::Resources | ListKind::Templates);
            assert_eq!((one.hidden.as_str(), one.instead.is_some()), ("aaa-evil", is_address));
        }
        // What the operator hides besides blocks nothing, and has given nothing up.
        catalog.set_filters(deny("bank"));
        let owners = owners(&catalog, &View::everything(), KEY);
        assert_eq!(owners, ["aaa-evil", "bank", "aaa-evil", "bank"], "neither prompts nor templates of any scheme");
        catalog.set_filters(BTreeMap::new());
        assert_eq!(owner(&catalog), "bank");
        // An approval gives it back.
        apply(&catalog, Step::Lists("bank"));
        assert_eq!(owner(&catalog), "bank");
        assert!(catalog.snapshot().collisions().iter().all(|one| one.served.is_some() && one.reserved_for.is_none()));
    }
    // A hidden template keeps the resources that match it.
    let catalog = catalog(NameStyle::Plain);
    let bank = offering("bank", &[], &[], &[], &["bank:{n}"]);
    catalog.put(bank.clone());
    let hidden = Arc::new([vec![], vec![], vec![], vec!["bank:{n}".to_owned()]]);
    catalog.put(Part { hidden, ..offering("bank", &[], &[], &[], &[]) });
    catalog.put(offering("aaa-evil", &[], &[], &[], &["bank:1{n}"]));
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(served.resource("bank:12", None), [route("bank", "bank:12"), route("aaa-evil", "bank:12")]);
    assert_eq!(served.template("bank:{n}"), Some(&route("bank", "bank:{n}")));
}

#[test]
fn a_restored_key_without_a_record_is_claimed_by_the_seniority_of_its_connector() {
    let saved = |part: Part| Part { source: OfferSource::Saved, ..part };
    let uris: Vec<String> = (0..2 * limits::SAVED_CLAIMS_OF_ONE_MAX).map(|number| format!("y:{number}")).collect();
    let mut uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let long = "z".repeat(limits::SAVED_KEY_BYTES_MAX + 1);
    uris.push(&long);
    let list = |id: &str| offering(id, &[], &[], &uris, &[]);
    let before = catalog(NameStyle::Plain);
    // Written before anything was contested: the process ended before it wrote more.
    before.put(list("mm"));
    before.put(offering("aa", &[], &[], &["x:1"], &[]));
    let early = before.claims();
    before.put(list("aa"));
    for (record, is_early) in [(early, true), (before.claims(), false)] {
        for order in [["aa", "mm"], ["mm", "aa"]] {
            let after = catalog(NameStyle::Plain);
            after.restore_claims(record.clone());
            order.iter().for_each(|id| drop(after.put(saved(list(id)))));
            let served = after.snapshot().served(&View::everything());
            for uri in &uris {
                assert_eq!(served.resource(uri, None), [route("mm", uri)], "{is_early} {order:?}");
            }
            // What is fetched is claimed when it is.
            let fetched = catalog(NameStyle::Plain);
            fetched.restore_claims(record.clone());
            fetched.put(saved(list("aa")));
            fetched.put(list("mm"));
            let owner = fetched.snapshot().served(&View::everything()).resource(&long, None);
            assert_eq!(owner, [route("aa", &long)]);
        }
    }
}

#[test]
fn seniority_takes_no_key_of_which_another_connector_has_a_record() {
    let saved = |part: Part| Part { source: OfferSource::Saved, ..part };
    let old: Vec<String> = (0..limits::SAVED_CLAIMS_OF_ONE_MAX).map(|number| format!("y:{number}")).collect();
    let old: Vec<&str> = old.iter().map(String::as_str).collect();
    let all: Vec<&str> = old.iter().copied().chain(["bank:1"]).collect();
    let (evil, more) = (offering("evil", &[], &[], &old, &[]), offering("evil", &[], &[], &all, &[]));
    let parts = [evil, offering("other", &[], &[], &old, &[]), offering("bank", &[], &[], &["bank:1"], &[]), more];
    let before = catalog(NameStyle::Plain);
    parts.iter().for_each(|part| drop(before.put(part.clone())));
    let after = catalog(NameStyle::Plain);
    after.restore_claims(before.claims());
    parts[1..].iter().rev().for_each(|part| drop(after.put(saved(part.clone()))));
    assert_eq!(after.snapshot().served(&View::everything()).resource("bank:1", None), [route("bank", "bank:1")]);
}

#[test]
fn a_connector_without_a_list_has_its_claims_after_a_restart() {
    for absent in [Step::IsDown("mm"), Step::IsDisabled("mm")] {
        let before = catalog(NameStyle::Plain);
        [Step::Lists("mm"), absent].into_iter().for_each(|step| apply(&before, step));
        let again = catalog(NameStyle::Plain);
        again.restore_claims(before.claims());
        again.forget_claims_of_absent(&["mm".parse().unwrap()].into());
        assert_eq!(again.claims(), before.claims());
        [Step::Lists("aa"), absent].into_iter().for_each(|step| apply(&again, step));
        assert_eq!(owner(&again), "aa");
        apply(&again, Step::Lists("mm"));
        assert_eq!(owner(&again), "mm");
        again.remove(&"mm".parse().unwrap());
        again.remove(&"aa".parse().unwrap());
        assert!(again.claims().is_empty(), "nothing is kept without an entry");
    }
}

#[test]
fn only_what_a_restart_could_decide_otherwise_is_saved_and_within_bounds() {
    let catalog = catalog(NameStyle::Plain);
    catalog.put(offering("aa", &["one"], &["ask"], &["x:1"], &["x:{n}"]));
    let nothing = serde_json::to_value(catalog.claims()).unwrap();
    assert_eq!(nothing["claims"], serde_json::json!([]), "nothing is contested");
    catalog.put(offering("bb", &["two"], &[], &["x:1"], &["x:{other}"]));
    let record = serde_json::to_value(catalog.claims()).unwrap();
    let claims = serde_json::json!([
        [1, "resources", "x:1", 0],
        [1, "templates", "x:{n}", 0],
        [2, "resources", "x:1", 1],
        [2, "templates", "x:{other}", 1]
    ]);
    assert_eq!(record["claims"], claims);
    let uris: Vec<String> = (0..2 * limits::SAVED_CLAIMS_OF_ONE_MAX).map(|number| format!("y:{number}")).collect();
    let mut uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let long = "z".repeat(limits::SAVED_KEY_BYTES_MAX + 1);
    uris.push(&long);
    for id in ["mm", "nn"] {
        catalog.put(offering(id, &[], &[], &uris, &[]));
    }
    let record = serde_json::to_value(catalog.claims()).unwrap();
    assert_eq!(record["claims"].as_array().unwrap().len(), 4 + 2 * limits::SAVED_CLAIMS_OF_ONE_MAX);
    assert!(record.to_string().len() < 200 << 10);
    // A damaged record costs what it does not say.
    let catalog = super::catalog(NameStyle::Plain);
    catalog.restore_claims(serde_json::from_str(r#"{"connectors":[],"claims":[[3,"tools","one",7]]}"#).unwrap());
    assert!(catalog.claims().is_empty());
}

#[test]
fn of_matching_templates_the_oldest_is_requested_first_also_after_a_restart() {
    let parts = [offering("zz", &[], &[], &[], &["x:{n}"]), offering("aa", &[], &[], &[], &["x:1{more}"])];
    let candidates = |catalog: &Catalog| -> Vec<String> {
        let routes = catalog.snapshot().served(&View::everything()).resource("x:12", None);
        routes.into_iter().map(|route| route.connector.to_string()).collect()
    };
    let before = catalog(NameStyle::Plain);
    parts.iter().for_each(|part| drop(before.put(part.clone())));
    assert_eq!(candidates(&before), ["zz", "aa"]);
    let after = catalog(NameStyle::Plain);
    after.restore_claims(before.claims());
    parts.iter().rev().for_each(|part| drop(after.put(part.clone())));
    assert_eq!(candidates(&after), ["zz", "aa"]);
    // A template of its own that it had later comes later, whatever else it had before.
    after.put(offering("zz", &[], &[], &[], &["x:{renamed}"]));
    assert_eq!(candidates(&after), ["aa", "zz"]);
}

#[test]
fn a_list_names_its_collisions_to_views_of_both_sides() {
    let catalog = catalog(NameStyle::Plain);
    let tools: Vec<String> = (0..limits::COLLISIONS_NAMED + 5).map(|number| format!("t{number}")).collect();
    let tools: Vec<&str> = tools.iter().map(String::as_str).collect();
    for id in ["bb", "aa"] {
        catalog.put(offering(id, &tools, &[], &["x:1"], &[]));
    }
    let served = catalog.snapshot().served(&View::everything());
    let named = |served: &ViewSnapshot, kind| serde_json::to_value(served.list(kind).collisions()).unwrap();
    let resources = named(&served, ListKind::Resources);
    let one = serde_json::json!({
        "name": "x:1", "kind": "resources", "served": "bb", "hidden": "aa", "instead": "cortex+aa:x:1"
    });
    assert_eq!(resources, serde_json::json!({ "total": 1, "first": [one] }));
    let tools = named(&served, ListKind::Tools);
    assert_eq!(tools["total"], limits::COLLISIONS_NAMED + 5);
    assert_eq!(tools["first"].as_array().unwrap().len(), limits::COLLISIONS_NAMED);
    assert_eq!(named(&served, ListKind::Prompts), Value::Null);
    let one_sided = View::of(ViewRules { connectors: Some(vec!["aa".parse().unwrap()]), ..ViewRules::default() });
    assert_eq!(named(&catalog.snapshot().served(&one_sided), ListKind::Resources), Value::Null);
    catalog.remove(&"bb".parse().unwrap());
    assert_eq!(named(&catalog.snapshot().served(&View::everything()), ListKind::Tools), Value::Null);
}

proptest! {
    /// Whatever happened before, a restart of the same servers serves every key as it was served.
    #[test]
    fn a_restart_serves_what_was_served(
        steps in proptest::collection::vec((0u8..4, proptest::collection::vec(0u8..4, 0..4), any::<bool>()), 1..15),
        order in Just([0u8, 1, 2, 3]).prop_shuffle()
    ) {
        let keys = |items: &[u8]| -> Vec<&'static str> {
            items.iter().map(|item| ["k:0", "k:1", "k:2", "k:{n}"][usize::from(*item)]).collect()
        };
        let id = |number: u8| format!("s{number}");
        let before = catalog(NameStyle::Plain);
        let mut parts: BTreeMap<ConnectorId, Part> = BTreeMap::new();
        for (number, items, leaves) in steps {
            let keys = keys(&items);
            let part = offering(&id(number), &keys, &keys, &keys, &keys);
            if leaves {
                before.remove(&part.connector.id);
                parts.remove(&part.connector.id);
            } else {
                before.put(part.clone());
                parts.insert(part.connector.id.clone(), part);
            }
        }
        let after = catalog(NameStyle::Plain);
        after.restore_claims(before.claims());
        for number in order {
            if let Some(part) = parts.get(&id(number).parse().unwrap()) {
                after.put(Part { source: OfferSource::Saved, ..part.clone() });
            }
        }
        prop_assert_eq!(after.claims(), before.claims());
        let (one, two) = (before.snapshot().served(&View::everything()), after.snapshot().served(&View::everything()));
        for kind in ListKind::ALL {
            prop_assert_eq!(one.list(kind).bytes(), two.list(kind).bytes());
        }
        prop_assert_eq!(one.collisions(), two.collisions());
        prop_assert_eq!(one.resource("k:9", None), two.resource("k:9", None));
    }
}
