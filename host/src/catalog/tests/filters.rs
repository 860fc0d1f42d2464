//! Filters, new names and bounds.

use proptest::prelude::*;

use super::*;
use crate::config::ToolFilter;
use crate::model::ConnectorId;

fn filter(allow: Option<&[&str]>, deny: &[&str], rename: &[(&str, &str)]) -> ToolFilter {
    let globs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    let rename = rename.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned())).collect();
    ToolFilter { allow: allow.map(globs), deny: globs(deny), rename, ..ToolFilter::default() }
}

fn filters(of: &str, filter: ToolFilter) -> BTreeMap<ConnectorId, ToolFilter> {
    BTreeMap::from([(of.parse().unwrap(), filter)])
}

fn tools(catalog: &Catalog) -> Vec<String> {
    names(&catalog.snapshot().served(&View::everything()), ListKind::Tools)
}

#[test]
fn a_filter_hides_and_renames_tools_and_only_tools_by_the_servers_own_names() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.set_filters(filters("aa", filter(Some(&["get_*"]), &["*_admin"], &[("get_a", "fetch"), ("gone", "x")])));
    catalog.put(offering("aa", &["get_a", "get_b", "get_admin", "put"], &["put"], &["put"], &[]));
    catalog.put(offering("bb", &["put"], &[], &[], &[]));
    assert_eq!(tools(&catalog), ["aa__fetch", "aa__get_b", "bb__put"]);
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.route("aa__fetch"), Some(&route("aa", "get_a")));
    for gone in ["aa__get_a", "aa__get_admin", "aa__put"] {
        assert_eq!(snapshot.route(gone), None, "{gone}");
    }
    let served = snapshot.served(&View::everything());
    assert_eq!(
        (names(&served, ListKind::Prompts), served.list(ListKind::Resources).len()),
        (vec!["aa__put".to_owned()], 1)
    );
    let effect = FilterEffect { hidden: 2, renamed: 1, unknown: vec!["gone".to_owned()] };
    assert_eq!(snapshot.filter_effects(), BTreeMap::from([("aa".parse().unwrap(), effect)]));
}

#[test]
fn other_filters_take_effect_at_once_and_tell_which_names_changed() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &["one", "two"], &[], &[], &[]));
    catalog.put(offering("bb", &["one"], &[], &[], &[]));
    let before = catalog.snapshot().tools().clone();
    let mut changes = catalog.changes();
    changes.mark_unchanged();
    let denied = filters("aa", filter(None, &["one"], &[]));
    let changed = catalog.set_filters(denied.clone());
    assert_eq!(changed, [("aa".parse().unwrap(), vec!["aa__two".to_owned()])]);
    assert!(changes.has_changed().unwrap());
    assert_eq!(tools(&catalog), ["aa__two", "bb__one"]);
    changes.mark_unchanged();
    assert!(
        catalog.set_filters(denied).is_empty() && !changes.has_changed().unwrap(),
        "the same filters change nothing"
    );
    catalog.set_filters(BTreeMap::new());
    assert_eq!(catalog.snapshot().tools(), &before);
}

#[test]
fn two_tools_of_one_new_name_are_reported_like_others_and_the_first_is_served() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.set_filters(filters("aa", filter(None, &[], &[("one", "two")])));
    catalog.put(offering("aa", &["one", "two"], &[], &[], &[]));
    let snapshot = catalog.snapshot();
    assert_eq!((tools(&catalog), snapshot.route("aa__two")), (vec!["aa__two".to_owned()], Some(&route("aa", "one"))));
    assert_eq!(snapshot.collisions().len(), 1);
    assert_eq!(snapshot.collisions()[0].name, "aa__two");
}

#[test]
fn digests_of_definitions_are_the_servers_whatever_is_exposed() {
    let part = offering("aa", &["one"], &[], &[], &[]);
    let digest = part.offer.as_ref().unwrap().digest();
    let catalog = catalog(NameStyle::Prefixed);
    catalog.set_filters(filters("aa", filter(None, &[], &[("one", "two")])));
    catalog.put(part);
    let snapshot = catalog.snapshot();
    assert_eq!(snapshot.parts().next().unwrap().offer.as_ref().unwrap().digest(), digest);
}

#[test]
fn more_tools_than_the_bound_are_cut_from_the_end_and_can_not_be_called() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("bb", &["three", "four"], &["p1", "p2", "p3"], &[], &[]));
    catalog.put(offering("aa", &["one", "two"], &[], &[], &[]));
    catalog.set_bounds(ToolBounds { most: Some(3), ..ToolBounds::default() });
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!(names(&served, ListKind::Tools), ["aa__one", "aa__two", "bb__three"]);
    assert!(served.tool("bb__four").is_none());
    assert_eq!(served.cut(), Cut { count: 1, first: vec!["bb__four".to_owned()] });
    assert_eq!(served.list(ListKind::Prompts).len(), 3);
    // Whoever sees less has room for what others do not get.
    let rules = ViewRules { connectors: Some(vec!["bb".parse().unwrap()]), ..ViewRules::default() };
    let part = catalog.snapshot().served(&View::of(rules));
    assert_eq!((names(&part, ListKind::Tools).len(), part.cut().count), (2, 0));
    catalog.set_bounds(ToolBounds::default());
    assert_eq!(tools(&catalog).len(), 4);
}

#[test]
fn the_gateways_own_tools_count_and_come_first() {
    let catalog = catalog(NameStyle::Prefixed);
    catalog.put(offering("aa", &["one", "two"], &[], &[], &[]));
    let own = |name| OwnTool { name, definition: raw::trusted(format!(r#"{{"name":"{name}","of":"own"}}"#)) };
    catalog.serve_first(vec![own("own_1"), own("own_2")]);
    catalog.set_bounds(ToolBounds { most: Some(1), ..ToolBounds::default() });
    let snapshot = catalog.snapshot();
    assert_eq!(tools(&catalog), ["own_1"]);
    assert!(snapshot.is_own("own_1") && !snapshot.is_own("own_2"));
    assert_eq!(snapshot.served(&View::everything()).cut().first, ["own_2", "aa__one", "aa__two"]);
}

#[test]
fn only_the_first_names_of_many_are_told() {
    let tools: Vec<String> = (0..100).map(|number| format!("t{number:02}")).collect();
    let catalog = catalog(NameStyle::Prefixed);
    catalog.set_bounds(ToolBounds { most: Some(10), ..ToolBounds::default() });
    catalog.put(offering("aa", &tools.iter().map(String::as_str).collect::<Vec<_>>(), &[], &[], &[]));
    let served = catalog.snapshot().served(&View::everything());
    assert_eq!((served.cut().count, served.cut().first.len()), (90, limits::CUT_NAMES_TOLD));
    assert_eq!(served.cut().first[0], "aa__t10");
}

/// The tools of the security review's case 23, of a connector `term`.
const ADMIN: [&str; 3] = ["run", "a_quite_long_tool_name_that_goes_well_beyond_the_limit_admin", "do.it_admin"];

#[test]
fn a_token_pattern_reaches_tools_whose_names_were_cut_altered_or_renamed() {
    let [run, long, dotted] = ["run", "a_quite_long_tool_name_that_goe_82b2b27e", "do_it_admin_30616523"];
    let all = vec![run, long, dotted];
    for (style, prefix) in [(NameStyle::Prefixed, "term__"), (NameStyle::Dotted, "term.")] {
        let catalog = catalog(style);
        catalog.put(offering("term", &ADMIN, &[], &[], &[]));
        for (deny, allow, seen) in [
            (&["*_admin"][..], None, vec![run]),
            // By the own name.
            (&["do.it_admin"], None, vec![run, long]),
            (&["a_quite_*"], None, vec![run, dotted]),
            // By the unshortened exposed name.
            (&["term?do.it*", "term??do.it*"], None, vec![run, long]),
            // By the exposed name.
            (&["*_82b2b27e"], None, vec![run, dotted]),
            (&["ADMIN"], None, all.clone()),
            (&[], Some(&["*_admin"][..]), vec![long, dotted]),
            (&[], Some(&["term*do.it_admin"]), vec![dotted]),
            (&[], Some(&["do.it_admin", "run"]), vec![]),
            (&["*_admin"], Some(&["*_admin", "*run"]), vec![run]),
        ] {
            let globs = |texts: &[&str]| -> Vec<_> { texts.iter().map(|text| text.parse().unwrap()).collect() };
            let rules = ViewRules { tools: allow.map(globs), deny_tools: globs(deny), ..ViewRules::default() };
            let served = catalog.snapshot().served(&View::of(rules));
            // The hash is that of connector and name, and where a name is cut depends on the prefix.
            let of_kind = |name: &str| all.iter().position(|own| name.contains(&own[..3])).unwrap();
            let listed: Vec<usize> = names(&served, ListKind::Tools).iter().map(|name| of_kind(name)).collect();
            let expected: Vec<usize> = seen.iter().map(|name| of_kind(name)).collect();
            if style == NameStyle::Prefixed || !deny.contains(&"*_82b2b27e") {
                assert_eq!(listed, expected, "{prefix} {deny:?} {allow:?}");
            }
            let every = catalog.snapshot().served(&View::everything());
            for name in names(&every, ListKind::Tools) {
                assert_eq!(served.tool(&name).is_some(), listed.contains(&of_kind(&name)), "{name}");
            }
        }
    }
}

#[test]
fn a_rename_opens_nothing_and_plain_names_are_the_servers_own() {
    let denied = View::of(ViewRules { deny_tools: vec!["*_admin".parse().unwrap()], ..ViewRules::default() });
    let allowed = View::of(ViewRules { tools: Some(vec!["bank__*".parse().unwrap()]), ..ViewRules::default() });
    for style in [NameStyle::Prefixed, NameStyle::Plain] {
        let catalog = catalog(style);
        catalog.set_filters(filters("term", filter(None, &[], &[("root_admin", "safe")])));
        catalog.put(offering("term", &["root_admin", "bank__pay"], &[], &[], &[]));
        let served = catalog.snapshot().served(&denied);
        assert_eq!(served.list(ListKind::Tools).len(), 1, "{style:?}");
        assert!(served.tool("term__safe").is_none() && served.tool("safe").is_none());
        // With prefixes, no server can imitate the prefix of another connector.
        let imitated = catalog.snapshot().served(&allowed).list(ListKind::Tools).len();
        assert_eq!(imitated, usize::from(style == NameStyle::Plain));
    }
}

#[test]
fn patterns_that_match_no_tool_are_found_once_every_connector_has_a_list() {
    let catalog = catalog(NameStyle::Prefixed);
    let globs =
        |texts: &[&str]| -> Vec<crate::model::Glob> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    let rules = ViewRules {
        connectors: None,
        tools: Some(globs(&["term__*", "do.it_admin", "own", "x*"])),
        deny_tools: globs(&["*_admin", "do.it_admin", "own", "term__rum"]),
    };
    catalog.put(offering("term", &ADMIN, &[], &[], &[]));
    let own = OwnTool { name: "own", definition: raw::trusted(r#"{"name":"own"}"#.to_owned()) };
    catalog.serve_first(vec![own]);
    let unmatched = || catalog.snapshot().unmatched_tool_patterns(&rules);
    assert_eq!(unmatched(), [globs(&["do.it_admin", "x*"]), globs(&["term__rum"])]);
    catalog.put(Part { offer: None, ..offering("down", &[], &[], &[], &[]) });
    assert_eq!(unmatched(), [Vec::new(), Vec::new()], "its tools may be those that are meant");
}

proptest! {
    #[test]
    fn a_tool_is_listed_exactly_if_it_can_be_called(
        tools in proptest::collection::hash_set("[ab]{1,3}", 0..8), allow in "[ab*?]{1,3}", deny in "[ab*?]{1,3}",
        view in "[ab_*?]{1,6}", most in 1usize..6
    ) {
        let catalog = catalog(NameStyle::Prefixed);
        catalog.set_bounds(ToolBounds { most: Some(most), ..ToolBounds::default() });
        catalog.set_filters(filters("aa", filter(Some(&[&allow]), &[&deny], &[])));
        let all: Vec<&str> = tools.iter().map(String::as_str).collect();
        catalog.put(offering("aa", &all, &[], &[], &[]));
        let rules = ViewRules { tools: Some(vec![view.parse().unwrap()]), ..ViewRules::default() };
        let served = catalog.snapshot().served(&View::of(rules));
        let listed = names(&served, ListKind::Tools);
        prop_assert!(listed.len() <= most);
        for tool in &all {
            let exposed = format!("aa__{tool}");
            prop_assert_eq!(served.tool(&exposed).is_some(), listed.contains(&exposed), "{}", tool);
        }
    }
}
