//! Joins what connectors offer into what one view is served: the gateway's own tools first, then the items of connectors, in
//! the order of their ids and then of their servers.
//!
//! Of two tools or prompts of one name, the first keeps it and the other is not served. Of two resources or templates of one
//! URI, the first keeps it and the other is served by its qualified form. Both are reported.

use std::collections::{HashMap, HashSet};

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;

use super::limits;
use super::qualified::qualify;
use super::route::{Collision, Route};
use super::served::{Cut, Served, ServedList};
use super::shelf::{Shelf, Shelves};
use super::template::UriTemplate;
use super::view::View;
use crate::model::raw::{self, RawObject};
use crate::model::{ConnectorId, Digest, ListKind};

/// What a view is served.
pub(super) fn join(shelves: &Shelves, view: &View) -> Served {
    let seen: Vec<(&ConnectorId, &Shelf)> = shelves.parts.iter().filter(|(id, _)| view.sees_connector(id)).collect();
    let (mut own, mut cut, mut collisions) = (HashSet::new(), Cut::default(), Vec::new());
    let mut routes: [HashMap<String, Route>; 4] = Default::default();
    let lists = ListKind::ALL.map(|kind| {
        let mut list = Joining::new(shelves.tools_max.filter(|_| kind == ListKind::Tools));
        let routes = &mut routes[kind as usize];
        if kind == ListKind::Tools {
            for tool in shelves.own.iter().filter(|tool| view.sees_own(tool.name)) {
                if list.add(tool.name, &tool.definition, &mut cut) {
                    own.insert(tool.name);
                }
            }
        }
        for (id, shelf) in &seen {
            for item in shelf.exposed[kind as usize].iter().filter(|item| view.sees(kind, &item.key)) {
                let route = Route { connector: (*id).clone(), original: item.original.clone() };
                let served = routes.get(&item.key).map(|route| route.connector.clone());
                let is_taken = served.is_some() || (kind == ListKind::Tools && own.contains(item.key.as_str()));
                if !is_taken {
                    if list.add(&item.key, &item.definition, &mut cut) {
                        routes.insert(item.key.clone(), route);
                    }
                    continue;
                }
                let other = served.as_ref().is_some_and(|served| served != *id);
                let instead = (other && is_address(kind)).then(|| qualify(id, &item.original));
                collisions.push(Collision {
                    name: item.key.clone(),
                    kind,
                    served,
                    hidden: (*id).clone(),
                    instead: instead.clone(),
                });
                if let Some(key) = instead
                    && !routes.contains_key(&key)
                {
                    list.add(&key, &with_key(&item.definition, kind, &key), &mut cut);
                    routes.insert(key, route);
                }
            }
        }
        list.finish()
    });
    let counts = counts(&routes);
    let mut templates = Vec::new();
    for (id, shelf) in &seen {
        for item in &shelf.exposed[ListKind::Templates as usize] {
            templates.push((UriTemplate::parse(&item.original), (*id).clone()));
            // Also by its qualified form, listed so or not.
            let route = Route { connector: (*id).clone(), original: item.original.clone() };
            routes[ListKind::Templates as usize].entry(qualify(id, &item.original)).or_insert(route);
        }
    }
    // What says most about its URIs is asked first; otherwise the order of the list holds.
    templates.sort_by_key(|(template, _)| std::cmp::Reverse(template.literal_bytes()));
    Served {
        lists,
        own,
        routes,
        templates,
        readers: seen.iter().filter(|(_, shelf)| has_resources(shelf)).map(|(id, _)| (*id).clone()).collect(),
        seen: seen.into_iter().map(|(id, _)| id.clone()).collect(),
        counts,
        collisions,
        cut,
    }
}

/// How many items of each connector are listed: each of them has a route.
fn counts(routes: &[HashMap<String, Route>; 4]) -> HashMap<ConnectorId, [usize; 4]> {
    let mut counts: HashMap<ConnectorId, [usize; 4]> = HashMap::new();
    for kind in ListKind::ALL {
        for route in routes[kind as usize].values() {
            counts.entry(route.connector.clone()).or_default()[kind as usize] += 1;
        }
    }
    counts
}

/// Whether items of a kind are addressed rather than named.
fn is_address(kind: ListKind) -> bool {
    matches!(kind, ListKind::Resources | ListKind::Templates)
}

/// A definition under another key.
fn with_key(definition: &RawValue, kind: ListKind, key: &str) -> Box<RawValue> {
    // Every exposed definition is an object.
    let mut object = RawObject::parse(definition).unwrap_or_default();
    object.set(kind.key(), raw::string(key));
    object.to_raw()
}

fn has_resources(shelf: &Shelf) -> bool {
    shelf.part.offer.as_ref().is_some_and(|offer| {
        let listed = [ListKind::Resources, ListKind::Templates].map(|kind| !offer.list(kind).items().is_empty());
        offer.about().has(ListKind::Resources.capability()) || listed.contains(&true)
    })
}

/// A list that is being put together.
struct Joining {
    bytes: BytesMut,
    items: Vec<(usize, usize)>,
    most: Option<usize>,
}

impl Joining {
    fn new(most: Option<usize>) -> Self {
        Self { bytes: BytesMut::from(&b"["[..]), items: Vec::new(), most }
    }

    /// Adds an item, if there is room for one more.
    fn add(&mut self, key: &str, definition: &RawValue, cut: &mut Cut) -> bool {
        if self.most.is_some_and(|most| self.items.len() >= most) {
            cut.count += 1;
            if cut.first.len() < limits::CUT_NAMES_TOLD {
                cut.first.push(key.to_owned());
            }
            return false;
        }
        if !self.items.is_empty() {
            self.bytes.put_u8(b',');
        }
        let begin = self.bytes.len();
        self.bytes.put_slice(definition.get().as_bytes());
        self.items.push((begin, self.bytes.len()));
        true
    }

    fn finish(mut self) -> ServedList {
        self.bytes.put_u8(b']');
        let digest = Digest::of(&self.bytes);
        ServedList { bytes: self.bytes.freeze(), items: self.items, digest }
    }
}
