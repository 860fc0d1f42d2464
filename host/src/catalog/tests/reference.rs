//! Whatever is put in, taken out and filtered in whatever order, each view is served what the definition says of the parts
//! that are there in the end.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::config::ToolFilter;
use crate::model::{ConnectorId, Glob};

/// When a connector claimed a key of a kind, counted in publications.
type Times = BTreeMap<(ConnectorId, ListKind, String), usize>;

/// The exposed keys of a part, as views see them.
fn exposed(part: &Part, rule: NameRule, kind: ListKind) -> Vec<(String, String)> {
    let is_address = matches!(kind, ListKind::Resources | ListKind::Templates);
    let items = part.offer.iter().flat_map(|offer| offer.list(kind).items());
    items
        .map(|item| if is_address { item.key.clone() } else { rule.name(&part.connector.id, &item.key) })
        .zip(part.offer.iter().flat_map(|offer| offer.list(kind).items()).map(|item| item.key.clone()))
        .collect()
}

/// Notes what a connector claims from now on, of what it has and shows: what it claimed before and has keeps its time.
fn claim(times: &mut Times, has: &Part, shows: &Part, rule: NameRule, now: usize) {
    let id = &has.connector.id;
    let before = std::mem::take(times);
    let (own, others): (Times, Times) = before.into_iter().partition(|((of, ..), _)| of == id);
    *times = others;
    for kind in ListKind::ALL {
        let shown = exposed(shows, rule, kind);
        for (key, _) in exposed(has, rule, kind) {
            let is_shown = shown.iter().any(|(shown, _)| *shown == key);
            let claim = (id.clone(), kind, key);
            times.extend(own.get(&claim).copied().or(is_shown.then_some(now)).map(|since| (claim, since)));
        }
    }
}

/// One list by the definition: item after item, the one of a key that was claimed first is served; and where each goes.
fn by_definition(
    parts: &BTreeMap<ConnectorId, Part>,
    times: &Times,
    rule: NameRule,
    view: &View,
    kind: ListKind,
) -> Vec<(String, String)> {
    let is_address = matches!(kind, ListKind::Resources | ListKind::Templates);
    let seen = parts.iter().filter(|(id, _)| view.sees_connector(id)).flat_map(|(id, part)| {
        let items = exposed(part, rule, kind).into_iter().enumerate();
        items.map(move |(position, (key, own))| (id, position, key, own))
    });
    let seen: Vec<_> = seen
        .filter(|(id, _, key, own)| {
            kind != ListKind::Tools || view.sees_tool(key, rule.style, Some(&route(id.as_str(), own)))
        })
        .collect();
    let mut owner: BTreeMap<String, (usize, ConnectorId, usize)> = BTreeMap::new();
    for (id, position, key, _) in &seen {
        let since = times[&((*id).clone(), kind, key.clone())];
        let claim = (since, (*id).clone(), *position);
        let first = owner.entry(key.clone()).or_insert_with(|| claim.clone());
        *first = claim.min(first.clone());
    }
    let mut qualified = HashSet::new();
    let listed = seen.into_iter().filter_map(|(id, position, key, own)| {
        let (_, first, at) = &owner[&key];
        let is_served = (first, *at) == (id, position);
        let key = if is_served { key } else { format!("cortex+{id}:{own}") };
        let is_listed = is_served || (first != id && is_address && qualified.insert(key.clone()));
        is_listed.then(|| (key, id.to_string()))
    });
    listed.collect()
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, Vec<u8>),
    Remove(u8),
    /// A view is read in between, so that later snapshots are made from it.
    Read(u8),
    State(u8),
    Filter(u8, Option<u8>),
    Most(Option<usize>),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0u8..5, proptest::collection::vec(0u8..6, 0..5)).prop_map(|(id, items)| Step::Put(id, items)),
        2 => (0u8..5).prop_map(Step::Remove),
        2 => (0u8..3).prop_map(Step::Read),
        1 => (0u8..5).prop_map(Step::State),
        1 => (0u8..5, proptest::option::of(0u8..6)).prop_map(|(id, denied)| Step::Filter(id, denied)),
        1 => proptest::option::of(0usize..9).prop_map(Step::Most),
    ];
    proptest::collection::vec(step, 1..25)
}

fn id(number: u8) -> String {
    format!("s{number}x")
}

fn item(number: u8) -> String {
    format!("i{number}")
}

fn views() -> [View; 3] {
    let globs = |texts: &[&str]| -> Vec<Glob> { texts.iter().map(|text| text.parse().unwrap()).collect() };
    [
        View::everything(),
        View::of(ViewRules { connectors: Some(globs(&["s1x", "s3x"])), ..ViewRules::default() }),
        View::of(ViewRules { deny_tools: globs(&["*i1", "*i2"]), ..ViewRules::default() }),
    ]
}

proptest! {
    #[test]
    fn every_view_is_served_what_the_definition_says(steps in steps(), plain in any::<bool>()) {
        let style = if plain { NameStyle::Plain } else { NameStyle::Prefixed };
        let catalog = catalog(style);
        let mut parts: BTreeMap<ConnectorId, Part> = BTreeMap::new();
        let mut filters: BTreeMap<ConnectorId, ToolFilter> = BTreeMap::new();
        let mut most = None;
        let mut times = Times::new();
        let rule = NameRule { style, longest: 46 };
        let admitted = |part: &Part, filter: Option<&ToolFilter>| {
            let Some(filter) = filter else { return part.clone() };
            let keys = |kind: ListKind| -> Vec<String> {
                let items = part.offer.as_ref().unwrap().list(kind).items().iter().map(|item| item.key.clone());
                items.filter(|key| kind != ListKind::Tools || filter.admits(key)).collect()
            };
            let [tools, prompts, resources, templates] = ListKind::ALL.map(keys);
            let strs = |keys: &[String]| -> Vec<&'static str> {
                keys.iter().map(|key| &*Box::leak(key.clone().into_boxed_str())).collect()
            };
            offering(part.connector.id.as_str(), &strs(&tools), &strs(&prompts), &strs(&resources), &strs(&templates))
        };
        for (now, step) in steps.into_iter().enumerate() {
            match step {
                Step::Put(number, items) => {
                    let keys: Vec<String> = items.into_iter().map(item).collect();
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let part = offering(&id(number), &keys, &keys, &keys, &keys);
                    catalog.put(part.clone());
                    claim(&mut times, &part, &admitted(&part, filters.get(&part.connector.id)), rule, now);
                    parts.insert(part.connector.id.clone(), part);
                }
                Step::Remove(number) => {
                    let id = id(number).parse().unwrap();
                    catalog.remove(&id);
                    parts.remove(&id);
                    times.retain(|(of, ..), _| *of != id);
                }
                Step::Read(number) => drop(catalog.snapshot().served(&views()[usize::from(number)])),
                Step::State(number) => {
                    if let Some(part) = parts.get_mut(&id(number).parse().unwrap()) {
                        part.facts.state = ListState::Stale;
                        catalog.put(part.clone());
                    }
                }
                Step::Filter(number, denied) => {
                    let id: ConnectorId = id(number).parse().unwrap();
                    filters.remove(&id);
                    if let Some(denied) = denied {
                        let filter = ToolFilter { deny: vec![item(denied).parse().unwrap()], ..ToolFilter::default() };
                        filters.insert(id.clone(), filter);
                    }
                    catalog.set_filters(filters.clone());
                    if let Some(part) = parts.get(&id) {
                        claim(&mut times, part, &admitted(part, filters.get(&id)), rule, now);
                    }
                }
                Step::Most(tools) => {
                    most = tools;
                    catalog.set_bounds(ToolBounds { most, ..ToolBounds::default() });
                }
            }
        }
        let admitted: BTreeMap<ConnectorId, Part> =
            parts.iter().map(|(id, part)| (id.clone(), admitted(part, filters.get(id)))).collect();
        let snapshot = catalog.snapshot();
        for view in views() {
            let served = snapshot.served(&view);
            for kind in ListKind::ALL {
                let mut expected = by_definition(&admitted, &times, rule, &view, kind);
                let above = match most {
                    Some(most) if kind == ListKind::Tools => expected.split_off(most.min(expected.len())),
                    _ => Vec::new(),
                };
                prop_assert_eq!(&listed(&served, kind), &expected, "{:?} of {:?}", kind, view);
                for (key, of) in &expected {
                    let route = match kind {
                        ListKind::Tools => served.tool(key).cloned(),
                        ListKind::Prompts => served.prompt(key).cloned(),
                        ListKind::Resources => served.resource(key, None).first().cloned(),
                        ListKind::Templates => served.template(key).cloned(),
                    };
                    prop_assert_eq!(route.map(|route| route.connector.to_string()), Some(of.clone()), "{}", key);
                }
                for (key, _) in &above {
                    prop_assert!(served.tool(key).is_none(), "{} is cut", key);
                }
                for id in parts.keys() {
                    let count = expected.iter().filter(|(_, of)| of == id.as_str()).count();
                    prop_assert_eq!(served.count_of(kind, id), count);
                }
            }
        }
        // A view that is made from the beginning shows the same, by its digests too.
        for view in views() {
            let (one, other) = (snapshot.served(&view), snapshot.made_again(&view));
            for kind in ListKind::ALL {
                prop_assert_eq!(one.list(kind).digest(), other.list(kind).digest());
                prop_assert_eq!(one.list(kind).bytes(), other.list(kind).bytes());
            }
            prop_assert_eq!(one.collisions(), other.collisions());
        }
    }
}
