//! Resources and templates: which connectors are requested for which URI.

use proptest::prelude::*;

use super::*;

#[test]
fn of_two_resources_of_one_uri_the_incumbent_keeps_it_and_the_other_is_served_by_its_qualified_form() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &[], &[], &["x:1"], &["x:{n}"]));
    catalog.put(offering("bb", &[], &[], &["x:1", "x:2"], &["x:{n}"]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(key, of)| ((*key).to_owned(), (*of).to_owned())).collect()
    };
    let resources = pairs(&[("x:1", "aa"), ("cortex+bb:x:1", "bb"), ("x:2", "bb")]);
    assert_eq!(listed(&served, ListKind::Resources), resources);
    let templates = pairs(&[("x:{n}", "aa"), ("cortex+bb:x:{n}", "bb")]);
    assert_eq!(listed(&served, ListKind::Templates), templates);
    assert_eq!(served.resource("x:1", None), [route("aa", "x:1")]);
    assert_eq!(served.resource("cortex+bb:x:1", None), [route("bb", "x:1")]);
    assert_eq!(served.resource("x:2", None), [route("bb", "x:2")]);
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

/// A catalog whose connectors `aa`, `bb`, `cc` have templates, `dd` has a resource, and `ee` has tools only.
fn with_templates() -> Catalog {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("cc", &[], &[], &[], &["wiki://pages/{id}"]));
    catalog.put(offering("aa", &[], &[], &[], &["{+anything}"]));
    catalog.put(offering("bb", &[], &[], &["WIKI://main"], &["wiki://{page}", "wiki://pages/{page}"]));
    catalog.put(offering("dd", &[], &[], &["d:1"], &[]));
    catalog.put(offering("ee", &["tool"], &[], &[], &[]));
    catalog
}

#[test]
fn an_unlisted_uri_goes_where_it_was_named_else_to_matching_templates_and_nowhere_else() {
    let catalog = with_templates();
    let set = |id: &str, schemes: &[&str]| {
        let uri_schemes = Some(schemes.iter().map(|scheme| scheme.parse().unwrap()).collect());
        let filter = crate::config::ToolFilter { uri_schemes, ..Default::default() };
        catalog.set_filters(BTreeMap::from([(id.parse().unwrap(), filter)]));
    };
    let routes = |uri: &str, named_by: Option<&str>| -> Vec<String> {
        let named_by = named_by.map(|id| id.parse().unwrap());
        let routes = catalog.snapshot().served(&View::everything()).resource(uri, named_by.as_ref());
        assert!(routes.iter().all(|route| route.original == uri));
        routes.into_iter().map(|route| route.connector.to_string()).collect()
    };
    let assert_all = |rows: &[(&str, Option<&str>, &[&str])]| {
        for (uri, named_by, expected) in rows {
            assert_eq!(routes(uri, *named_by), *expected, "{uri} named by {named_by:?}");
        }
    };
    assert_all(&[
        // The oldest template first, however literal it is.
        ("wiki://pages/Bern", None, &["cc", "aa", "bb"]),
        ("wiki://Bern", None, &["aa", "bb"]),
        // The one that named it alone, if it has the scheme.
        ("wiki://pages/Bern", Some("bb"), &["bb"]),
        ("wiki:Bern", Some("bb"), &["bb"]),
        ("wiki:Bern", Some("cc"), &["cc"]),
        ("WIKI:Bern", Some("cc"), &["cc"]),
        ("d:2?sig=x", Some("dd"), &["dd"]),
        ("made-up:1", Some("aa"), &["aa"]),
        ("no scheme", Some("aa"), &["aa"]),
        // Without the scheme, the others decide.
        ("wiki://pages/Bern", Some("dd"), &["cc", "aa", "bb"]),
        ("wiki://pages/Bern", Some("ee"), &["cc", "aa", "bb"]),
        ("wiki://pages/Bern", Some("gone"), &["cc", "aa", "bb"]),
        // Listed and qualified ones are where they are, whichever result names them.
        ("d:1", Some("aa"), &["dd"]),
    ]);
    catalog.remove(&"aa".parse().unwrap());
    assert_all(&[
        ("d:2?sig=x", None, &[]),
        ("made-up:1", None, &[]),
        ("no scheme", None, &[]),
        ("made-up:1", Some("dd"), &[]),
        ("made-up:1", Some("ee"), &[]),
        ("d:2", Some("cc"), &[]),
    ]);
    // Exactly these schemes, listed or not.
    set("bb", &["made-up", "d"]);
    assert_all(&[
        ("made-up:1", None, &["bb"]),
        ("MADE-UP:1", None, &["bb"]),
        ("d:2", None, &["bb"]),
        ("d:2", Some("dd"), &["dd"]),
        ("d:1", None, &["dd"]),
        ("wiki://pages/Bern", None, &["cc"]),
        ("wiki://pages/Bern", Some("bb"), &["cc"]),
        ("WIKI://main", None, &[]),
    ]);
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(names(&served, ListKind::Resources), ["d:1"], "what may not be requested is not listed");
    assert_eq!(names(&served, ListKind::Templates), ["wiki://pages/{id}"]);
    // Nor by its qualified form.
    for (uri, own) in [("cortex+bb:wiki://x", None), ("cortex+bb:WIKI://main", None), ("cortex+bb:D:2", Some("D:2"))] {
        let expected: Vec<Route> = own.map(|own| route("bb", own)).into_iter().collect();
        assert_eq!(served.resource(uri, None), expected, "{uri}");
    }
    assert_eq!(served.template("cortex+bb:wiki://{page}"), None);
    assert_eq!(served.template("cortex+cc:wiki://pages/{id}"), Some(&route("cc", "wiki://pages/{id}")));
    set("bb", &["wiki"]);
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(names(&served, ListKind::Resources), ["WIKI://main", "d:1"]);
    assert_all(&[("wiki://pages/Bern", None, &["cc", "bb"]), ("made-up:1", Some("bb"), &[])]);
}

#[test]
fn a_resource_that_may_not_be_requested_claims_nothing() {
    let catalog = catalog(NameStyle::Prefixed);
    let filter = crate::config::ToolFilter { uri_schemes: Some(["own".parse().unwrap()].into()), ..Default::default() };
    catalog.put(offering("aa", &[], &[], &["bank:1", "own:1"], &["bank:{n}", "{any}:1"]));
    catalog.set_filters(BTreeMap::from([("aa".parse().unwrap(), filter)]));
    catalog.put(offering("bb", &[], &[], &["bank:1"], &["bank:{n}"]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    assert_eq!(names(&served, ListKind::Resources), ["own:1", "bank:1"]);
    assert_eq!(names(&served, ListKind::Templates), ["{any}:1", "bank:{n}"], "an open scheme may be one of its own");
    assert_eq!(served.resource("bank:1", None), [route("bb", "bank:1")]);
    assert_eq!(served.resource("bank:2", None), [route("bb", "bank:2")]);
    assert_eq!(served.resource("own:1", None), [route("aa", "own:1")]);
    assert!(served.collisions().is_empty() && snapshot.filter_effects().is_empty());
}

#[test]
fn a_view_is_led_to_no_connector_that_it_does_not_see() {
    let catalog = with_templates();
    let rules = ViewRules { connectors: Some(vec!["cc".parse().unwrap()]), ..Default::default() };
    let served = catalog.snapshot().served(&View::of(rules));
    for (uri, named_by) in
        [("wiki:x", "bb"), ("wiki://pages/x", "bb"), ("d:2", "dd"), ("d:1", "dd"), ("cortex+bb:x", "bb")]
    {
        let routes = served.resource(uri, Some(&named_by.parse().unwrap()));
        assert!(routes.iter().all(|route| route.connector.as_str() == "cc"), "{uri}: {routes:?}");
    }
}

#[test]
fn only_so_many_are_requested_for_what_none_lists() {
    let catalog = catalog(NameStyle::Prefixed);
    for number in 0..3 * limits::RESOURCE_CANDIDATES_MAX {
        catalog.put(offering(&format!("s-{number:03}"), &[], &[], &[], &["x:{n}"]));
    }
    let served = catalog.snapshot().served(&View::everything());
    let routes = served.resource("x:1", None);
    assert_eq!(routes.len(), limits::RESOURCE_CANDIDATES_MAX);
    assert!(routes.is_sorted_by_key(|route| route.connector.clone()));
    let long = format!("x:{}", "1".repeat(limits::TEMPLATE_URI_BYTES_MAX));
    assert!(served.resource(&long, None).is_empty(), "too long to be compared with templates");
    assert_eq!(served.resource(&long, Some(&"s-047".parse().unwrap())).len(), 1);
}

#[test]
fn no_server_can_claim_the_qualified_form_of_another_one() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &[], &[], &["cortex+bb:secret"], &["cortex+bb:{n}"]));
    catalog.put(offering("bb", &[], &[], &["secret"], &[]));
    let snapshot = catalog.snapshot();
    let served = snapshot.served(&View::everything());
    assert_eq!(served.resource("cortex+bb:secret", None), [route("bb", "secret")]);
    assert_eq!(names(&served, ListKind::Resources), ["cortex+aa:cortex+bb:secret", "secret"]);
    assert_eq!(served.resource("cortex+aa:cortex+bb:secret", None), [route("aa", "cortex+bb:secret")]);
    // Behind another gateway, results name what that one calls its own.
    catalog.remove(&"bb".parse().unwrap());
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(served.resource("cortex+bb:other", None), [route("aa", "cortex+bb:other")]);
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
        // In the other order, but with the same claims.
        two.restore_claims(one.claims());
        parts.iter().rev().for_each(|part| drop(two.put(part.clone())));
        let (one, two) = (one.snapshot().served(&View::everything()), two.snapshot().served(&View::everything()));
        for kind in [ListKind::Resources, ListKind::Templates] {
            prop_assert_eq!(one.list(kind).bytes(), two.list(kind).bytes());
            let all = listed(&one, kind);
            for (key, of) in &all {
                prop_assert_eq!(all.iter().filter(|(other, _)| other == key).count(), 1, "{} is listed twice", key);
                let to = match kind {
                    ListKind::Templates => one.template(key).cloned().into_iter().collect(),
                    _ => one.resource(key, None),
                };
                prop_assert_eq!(to.len(), 1, "{}", key);
                prop_assert_eq!(to[0].connector.as_str(), of.as_str(), "{}", key);
                // And by its qualified form, listed so or not.
                let qualified = format!("cortex+{}:{}", of, to[0].original);
                prop_assert_eq!(one.resource(&qualified, None), to.clone());
            }
        }
        for (id, own) in first.iter().map(|own| ("s1", own)).chain(second.iter().map(|own| ("s2", own))) {
            prop_assert_eq!(one.resource(&format!("cortex+{id}:{own}"), None), vec![route(id, own)]);
        }
        // Total and deterministic, whatever is asked for.
        for uri in first.iter().chain(&second).chain(&templates) {
            prop_assert_eq!(one.resource(uri, None), two.resource(uri, None));
        }
    }
}
