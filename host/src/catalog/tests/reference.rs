//! Whatever is put in, taken out and filtered in whatever order, each view is served what the definition says of the parts
//! that are there in the end.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::config::ToolFilter;
use crate::model::{ConnectorId, Glob};

/// One list by the definition: item after item, the first of a key is served; and where each of them goes.
fn by_definition(
    parts: &BTreeMap<ConnectorId, Part>,
    rule: NameRule,
    view: &View,
    kind: ListKind,
) -> Vec<(String, String)> {
    let mut listed = Vec::new();
    let mut owner: BTreeMap<String, ConnectorId> = BTreeMap::new();
    let mut qualified = HashSet::new();
    for (id, part) in parts.iter().filter(|(id, _)| view.sees_connector(id)) {
        for item in part.offer.iter().flat_map(|offer| offer.list(kind).items()) {
            let is_address = matches!(kind, ListKind::Resources | ListKind::Templates);
            let key = if is_address { item.key.clone() } else { rule.name(id, &item.key) };
            if !view.sees(kind, &key) {
                continue;
            }
            match owner.get(&key) {
                None => {
                    owner.insert(key.clone(), id.clone());
                    listed.push((key, id.to_string()));
                }
                Some(first) if first != id && is_address => {
                    let key = format!("cortex+{id}:{}", item.key);
                    if qualified.insert(key.clone()) {
                        listed.push((key, id.to_string()));
                    }
                }
                Some(_) => {}
            }
        }
    }
    listed
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
        for step in steps {
            match step {
                Step::Put(number, items) => {
                    let keys: Vec<String> = items.into_iter().map(item).collect();
                    let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
                    let part = offering(&id(number), &keys, &keys, &keys, &keys);
                    catalog.put(part.clone());
                    parts.insert(part.connector.id.clone(), part);
                }
                Step::Remove(number) => {
                    let id = id(number).parse().unwrap();
                    catalog.remove(&id);
                    parts.remove(&id);
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
                        filters.insert(id, filter);
                    }
                    catalog.set_filters(filters.clone());
                }
                Step::Most(tools) => {
                    most = tools;
                    catalog.set_bounds(ToolBounds { most, ..ToolBounds::default() });
                }
            }
        }
        let admitted: BTreeMap<ConnectorId, Part> = parts.iter().map(|(id, part)| {
            let Some(filter) = filters.get(id) else { return (id.clone(), part.clone()) };
            let keys = |kind: ListKind| -> Vec<String> {
                let items = part.offer.as_ref().unwrap().list(kind).items().iter().map(|item| item.key.clone());
                items.filter(|key| kind != ListKind::Tools || filter.admits(key)).collect()
            };
            let [tools, prompts, resources, templates] = ListKind::ALL.map(keys);
            let strs = |keys: &[String]| -> Vec<&'static str> {
                keys.iter().map(|key| &*Box::leak(key.clone().into_boxed_str())).collect()
            };
            (id.clone(), offering(id.as_str(), &strs(&tools), &strs(&prompts), &strs(&resources), &strs(&templates)))
        }).collect();
        let rule = NameRule { style, longest: 46 };
        let snapshot = catalog.snapshot();
        for view in views() {
            let served = snapshot.served(&view);
            for kind in ListKind::ALL {
                let mut expected = by_definition(&admitted, rule, &view, kind);
                let above = match most {
                    Some(most) if kind == ListKind::Tools => expected.split_off(most.min(expected.len())),
                    _ => Vec::new(),
                };
                prop_assert_eq!(&listed(&served, kind), &expected, "{:?} of {:?}", kind, view);
                for (key, of) in &expected {
                    let route = match kind {
                        ListKind::Tools => served.tool(key).cloned(),
                        ListKind::Prompts => served.prompt(key).cloned(),
                        ListKind::Resources => served.resource(key).first().cloned(),
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
        // The same parts in one go are the same lists, by their digests too.
        let fresh = super::catalog(style);
        fresh.set_bounds(ToolBounds { most, ..ToolBounds::default() });
        fresh.set_filters(filters);
        parts.values().for_each(|part| drop(fresh.put(part.clone())));
        for view in views() {
            let (one, other) = (snapshot.served(&view), fresh.snapshot().served(&view));
            for kind in ListKind::ALL {
                prop_assert_eq!(one.list(kind).digest(), other.list(kind).digest());
                prop_assert_eq!(one.list(kind).bytes(), other.list(kind).bytes());
            }
            prop_assert_eq!(one.collisions(), other.collisions());
        }
    }
}
