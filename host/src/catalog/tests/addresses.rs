//! Resources and templates: who is asked for which URI.

use proptest::prelude::*;

use super::*;

#[test]
fn of_two_resources_of_one_uri_the_first_connectors_keeps_it_and_the_other_is_served_by_its_qualified_form() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("bb", &[], &[], &["x:1", "x:2"], &["x:{n}"]));
    catalog.put(offering("aa", &[], &[], &["x:1"], &["x:{n}"]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, of)| ((*key).to_owned(), (*of).to_owned())).collect()
    };
    let resources = pairs(&[("x:1", "aa"), ("cortex+bb:x:1", "bb"), ("x:2", "bb")]);
    assert_eq!(listed(&served, ListKind::Resources), resources);
    let templates = pairs(&[("x:{n}", "aa"), ("cortex+bb:x:{n}", "bb")]);
    assert_eq!(listed(&served, ListKind::Templates), templates);
    assert_eq!(served.resource("x:1"), [route("aa", "x:1")]);
    assert_eq!(served.resource("cortex+bb:x:1"), [route("bb", "x:1")]);
    assert_eq!(served.resource("x:2"), [route("bb", "x:2")]);
    assert_eq!(served.template("x:{n}"), Some(&route("aa", "x:{n}")));
    assert_eq!(served.template("cortex+bb:x:{n}"), Some(&route("bb", "x:{n}")));
    let collisions = served.collisions();
    let told: Vec<_> = collisions.iter().map(|one| (one.kind, one.name.as_str(), one.instead.as_deref())).collect();
    let both =
        [(ListKind::Resources, "x:1", Some("cortex+bb:x:1")), (ListKind::Templates, "x:{n}", Some("cortex+bb:x:{n}"))];
    assert_eq!(told, both);
    assert!(
        served.collisions().iter().all(|one| one.served == Some("aa".parse().unwrap()) && one.hidden.as_str() == "bb")
    );
}

#[test]
fn a_server_that_lists_one_uri_twice_is_served_once_and_reported() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &["t", "t"], &["p", "p"], &["x:1", "x:1"], &["x:{n}", "x:{n}"]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    for kind in ListKind::ALL {
        assert_eq!(served.list(kind).len(), 1, "{kind:?}");
    }
    assert_eq!(served.collisions().len(), 4);
    assert!(served.collisions().iter().all(|one| one.instead.is_none()));
}

#[test]
fn prompts_are_named_by_the_rule_of_tools_and_are_no_tools() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &["ask"], &["ask", "two words"], &[], &[]));
    let own = OwnTool { name: "aa__ask", definition: raw::trusted(r#"{"name":"aa__ask","of":"own"}"#.to_owned()) };
    catalog.serve_first(vec![own]);
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    assert_eq!(listed(&served, ListKind::Tools), [("aa__ask".to_owned(), "own".to_owned())]);
    let prompts = names(&served, ListKind::Prompts);
    assert!(prompts[0] == "aa__ask" && prompts[1].starts_with("aa__two_words_"), "{prompts:?}");
    assert_eq!(served.prompt("aa__ask"), Some(&route("aa", "ask")));
    assert_eq!(served.prompt(&prompts[1]), Some(&route("aa", "two words")));
    assert_eq!(served.collisions().len(), 1, "a tool hides no prompt: {:?}", served.collisions());
}

#[test]
fn who_has_a_template_for_a_uri_is_asked_before_those_who_merely_have_resources_the_most_literal_first() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &[], &[], &[], &["{+anything}"]));
    catalog.put(offering("bb", &[], &[], &[], &["wiki://{page}", "wiki://pages/{page}"]));
    catalog.put(offering("cc", &[], &[], &["c:1"], &[]));
    catalog.put(offering("dd", &["tool"], &[], &[], &[]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    let uri = "wiki://pages/Bern";
    assert_eq!(served.resource(uri), [route("bb", uri), route("aa", uri)]);
    catalog.remove(&"aa".parse().unwrap());
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(served.resource(uri), [route("bb", uri)]);
    // Nobody lists it: whoever has resources may know it.
    assert_eq!(served.resource("made-up:1"), [route("bb", "made-up:1"), route("cc", "made-up:1")]);
    assert!(catalog_of_tools().resource("made-up:1").is_empty());
}

fn catalog_of_tools() -> Arc<ViewSnapshot> {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &["one"], &[], &[], &[]));
    catalog.snapshot().served(&View::everything())
}

#[test]
fn only_so_many_are_asked_for_what_nobody_lists() {
    let catalog = catalog(NameStyle::Prefixed);
    for number in 0..3 * limits::RESOURCE_ROUTES_MAX {
        catalog.put(offering(&format!("s-{number:03}"), &[], &[], &[], &["x:{n}"]));
    }
    let served = catalog.snapshot().served(&View::everything());
    for uri in ["x:1", "nobody:1", &format!("x:{}", "1".repeat(limits::TEMPLATE_URI_BYTES_MAX))] {
        let routes = served.resource(uri);
        assert_eq!(routes.len(), limits::RESOURCE_ROUTES_MAX);
        assert!(routes.is_sorted_by_key(|route| route.connector.clone()));
    }
}

#[test]
fn no_server_can_claim_the_qualified_form_of_another_one() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &[], &[], &["cortex+bb:secret"], &["cortex+bb:{n}"]));
    catalog.put(offering("bb", &[], &[], &["secret"], &[]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    assert_eq!(served.resource("cortex+bb:secret"), [route("bb", "secret")]);
    assert_eq!(names(&served, ListKind::Resources), ["cortex+aa:cortex+bb:secret", "secret"]);
    assert_eq!(served.resource("cortex+aa:cortex+bb:secret"), [route("aa", "cortex+bb:secret")]);
    // Behind another gateway, results name what that one calls its own.
    catalog.remove(&"bb".parse().unwrap());
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(served.resource("cortex+bb:other"), [route("aa", "cortex+bb:other")]);
}

fn uris() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("x:[ab]{1,2}|cortex\\+s[12]:x:a|[a-z/:]{0,6}", 0..5)
}

proptest! {
    #[test]
    fn everything_that_is_listed_is_routed_to_whose_it_is(first in uris(), second in uris(), templates in uris()) {
        let texts = |texts: &[String]| -> Vec<String> { texts.to_vec() };
        let (first, second, templates) = (texts(&first), texts(&second), texts(&templates));
        let as_str = |texts: &'_ [String]| -> Vec<&'static str> {
            texts.iter().map(|text| &*Box::leak(text.clone().into_boxed_str())).collect()
        };
        let parts = [
            offering("s1", &[], &[], &as_str(&first), &as_str(&templates)),
            offering("s2", &[], &[], &as_str(&second), &as_str(&templates)),
        ];
        let (one, two) = (catalog(NameStyle::Prefixed), catalog(NameStyle::Prefixed));
        parts.iter().for_each(|part| drop(one.put(part.clone())));
        parts.iter().rev().for_each(|part| drop(two.put(part.clone())));
        let (one, two) = (one.snapshot().served(&View::everything()), two.snapshot().served(&View::everything()));
        for kind in [ListKind::Resources, ListKind::Templates] {
            prop_assert_eq!(one.list(kind).bytes(), two.list(kind).bytes());
            let all = listed(&one, kind);
            for (key, of) in &all {
                prop_assert_eq!(all.iter().filter(|(other, _)| other == key).count(), 1, "{} is listed twice", key);
                let to = match kind {
                    ListKind::Templates => one.template(key).cloned().into_iter().collect(),
                    _ => one.resource(key),
                };
                prop_assert_eq!(to.len(), 1, "{}", key);
                prop_assert_eq!(to[0].connector.as_str(), of.as_str(), "{}", key);
                // And by its qualified form, listed so or not.
                let qualified = format!("cortex+{}:{}", of, to[0].original);
                prop_assert_eq!(one.resource(&qualified), to.clone());
            }
        }
        for (id, own) in first.iter().map(|own| ("s1", own)).chain(second.iter().map(|own| ("s2", own))) {
            prop_assert_eq!(one.resource(&format!("cortex+{id}:{own}")), vec![route(id, own)]);
        }
        // Total and deterministic, whatever is asked for.
        for uri in first.iter().chain(&second).chain(&templates) {
            prop_assert_eq!(one.resource(uri), two.resource(uri));
        }
    }
}
