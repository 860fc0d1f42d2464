//! The catalog as its users see it: what is exposed under which names, and where requests go.

mod addresses;
mod cost;
mod filters;
mod incumbency;
mod pages;
mod reference;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use super::*;
use crate::config::NameStyle;
use crate::model::{
    About, Auth, BootMs, Connector, HiddenKeys, ItemList, ListFacts, ListKind, ListState, Offer, OfferSource, Quotas,
    Scope, Source, Timeouts, raw,
};

pub(super) fn connector(id: &str) -> Arc<Connector> {
    Arc::new(Connector {
        id: id.parse().unwrap(),
        name: id.to_uppercase(),
        version: "1.0.0".into(),
        enabled: true,
        reach: None,
        auth: Auth::default(),
        headers: BTreeMap::new(),
        scopes: vec!["x:read".into()],
        tags: Vec::new(),
        quotas: Quotas::default(),
        timeouts: Timeouts::default(),
        expires: None,
        source: Source::ServiceMap,
    })
}

pub(super) fn facts() -> ListFacts {
    ListFacts {
        state: ListState::Fresh,
        reason: "within-ttl".into(),
        fetched_at: None,
        fresh_until: Some(BootMs(10_000)),
        next_attempt: Some(BootMs(8_000)),
        scope: Scope::Public,
        contact: crate::model::Contact::Up,
    }
}

fn fetched(id: &str, offer: Offer) -> Part {
    let (source, hidden) = (OfferSource::Fetched, HiddenKeys::default());
    Part { connector: connector(id), offer: Some(offer), source, hidden, facts: facts() }
}

pub(super) fn part(id: &str, tools: &[&str]) -> Part {
    let raw = tools.iter().map(|tool| RawValue::from_string((*tool).into()).unwrap()).collect();
    let tools = ItemList::new(ListKind::Tools, raw).unwrap();
    fetched(id, Offer::of_tools(tools))
}

pub(super) fn catalog(style: NameStyle) -> Catalog {
    Catalog::new(NameRule { style, longest: 46 })
}

pub(super) const ODD: &str =
    r#"{ "name":"a" , "vendor":{"z":1,"a":12345678901234567890.50}, "inputSchema":{"type":"object"},"execution":{} }"#;

/// A connector that offers these items: objects of nothing but the key, in each list.
pub(super) fn offering(id: &str, tools: &[&str], prompts: &[&str], resources: &[&str], templates: &[&str]) -> Part {
    let lists = [tools, prompts, resources, templates];
    let lists = std::array::from_fn(|position| {
        let kind = ListKind::ALL[position];
        let item = |key: &&str| raw::trusted(serde_json::json!({ kind.key(): key, "of": id }).to_string());
        ItemList::new(kind, lists[position].iter().map(item).collect()).unwrap()
    });
    let declared: Vec<String> =
        [(tools, "tools"), (prompts, "prompts"), (resources, "resources"), (templates, "resources")]
            .iter()
            .filter(|(items, _)| !items.is_empty())
            .map(|(_, capability)| format!("\"{capability}\":{{}}"))
            .collect();
    let about = About { capabilities: raw::trusted(format!("{{{}}}", declared.join(","))), instructions: None };
    fetched(id, Offer::new(lists, about))
}

/// The keys of a list, in order, and whose items they are.
pub(super) fn listed(served: &ViewSnapshot, kind: ListKind) -> Vec<(String, String)> {
    let list: Vec<Value> = serde_json::from_slice(served.list(kind).bytes()).unwrap();
    assert_eq!(list.len(), served.list(kind).len());
    let text = |item: &Value, key: &str| item[key].as_str().unwrap().to_owned();
    list.iter().map(|item| (text(item, kind.key()), text(item, "of"))).collect()
}

pub(super) fn names(served: &ViewSnapshot, kind: ListKind) -> Vec<String> {
    listed(served, kind).into_iter().map(|(key, _)| key).collect()
}

pub(super) fn route(id: &str, original: &str) -> Route {
    Route { connector: id.parse().unwrap(), original: original.to_owned() }
}
