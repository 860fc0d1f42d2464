//! Aggregates what connectors expose into the lists of one view: the gateway's own tools first, then the items of connectors,
//! in the order of their IDs and then of their servers.
//!
//! Of two tools or prompts of one name, the first is served and the other is not. Of two resources or templates of one URI,
//! the first is served and the other is served by its qualified form. Both are reported. A change of one connector costs
//! the length of its list, and of the lists of those connectors whose items take the place of its own.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::chunk::Chunk;
use super::claims::Claim;
use super::connector_entry::ConnectorEntry;
use super::qualified::qualify;
use super::template::UriTemplate;
use super::view_snapshot::{Listed, TemplateRank, ViewSnapshot};
use crate::model::raw::{self, RawObject};
use crate::model::{ConnectorId, ListKind};

impl ViewSnapshot {
    /// Puts what a connector exposes in the place of what it exposed before; none if it has left.
    pub(super) fn replace(&mut self, id: &ConnectorId, entry: Option<&ConnectorEntry>) {
        let entry = entry.filter(|_| self.view.sees_connector(id));
        let Listed { exposed: before, mut listed } = self.connectors.get(id).cloned().unwrap_or_default();
        let exposed = entry.map(|entry| entry.exposed.clone()).unwrap_or_default();
        for kind in ListKind::ALL {
            let (old, new) = (&before[kind as usize], &exposed[kind as usize]);
            if Arc::ptr_eq(old, new) || (old.len() == 0 && new.len() == 0) {
                continue;
            }
            let disturbed = self.move_claims(kind, id, old, new);
            let list = self.listing(kind, id, new);
            self.count(kind, &listed[kind as usize], &list);
            listed[kind as usize] = list;
            for other in disturbed.iter().filter(|other| *other != id) {
                self.list_again(kind, other);
            }
            if kind == ListKind::Templates {
                self.move_templates(id, old, new);
            }
        }
        match entry {
            Some(entry) => {
                self.connectors.insert_mut(id.clone(), Listed { exposed, listed });
                if entry.part.has_resources() {
                    self.readers.insert_mut(id.clone());
                } else {
                    self.readers.remove_mut(id);
                }
            }
            None => {
                self.connectors.remove_mut(id);
                self.readers.remove_mut(id);
            }
        }
        self.forget_joined();
    }

    /// Takes the claims of one list away and adds those of another. Returns the connectors whose items are served now, or
    /// are not served any more.
    fn move_claims(&mut self, kind: ListKind, id: &ConnectorId, old: &Chunk, new: &Chunk) -> BTreeSet<ConnectorId> {
        let claims = &mut self.claims[kind as usize];
        let claim = |position| Claim { connector: id.clone(), position };
        let mut disturbed = BTreeSet::new();
        for (position, item) in old.items().iter().enumerate().filter(|(_, item)| self.view.sees(kind, &item.key)) {
            disturbed.extend(claims.remove(&item.key, &claim(position)));
        }
        for (position, item) in new.items().iter().enumerate().filter(|(_, item)| self.view.sees(kind, &item.key)) {
            disturbed.extend(claims.add(&item.key, claim(position)));
        }
        disturbed
    }

    /// What is listed of what a connector exposes: all of it as a rule.
    fn listing(&self, kind: ListKind, id: &ConnectorId, exposed: &Arc<Chunk>) -> Arc<Chunk> {
        let claims = &self.claims[kind as usize];
        let is_served = |position: usize, key: &str| claims.is_first(key, id, position) && !self.is_own_name(kind, key);
        if exposed.items().iter().enumerate().all(|(position, item)| is_served(position, &item.key)) {
            return exposed.clone();
        }
        let mut qualified = HashSet::new();
        let listed = exposed.items().iter().enumerate().filter_map(|(position, item)| {
            let definition = exposed.definition(item);
            if is_served(position, &item.key) {
                return Some((item.key.clone(), item.route.clone(), Cow::Borrowed(definition)));
            }
            let key = qualify(id, &item.route.as_ref()?.original);
            let is_of_another = claims.first(&item.key).is_some_and(|first| first.connector != *id);
            (is_address(kind) && is_of_another && qualified.insert(key.clone()))
                .then(|| (Arc::from(key.as_str()), item.route.clone(), Cow::Owned(with_key(definition, kind, &key))))
        });
        Arc::new(Chunk::new(listed))
    }

    fn list_again(&mut self, kind: ListKind, id: &ConnectorId) {
        let Some(mut connector) = self.connectors.get(id).cloned() else { return };
        let list = self.listing(kind, id, &connector.exposed[kind as usize]);
        self.count(kind, &connector.listed[kind as usize], &list);
        connector.listed[kind as usize] = list;
        self.connectors.insert_mut(id.clone(), connector);
    }

    fn count(&mut self, kind: ListKind, old: &Chunk, new: &Chunk) {
        let total = &mut self.totals[kind as usize];
        total.items = total.items + new.len() - old.len();
        total.digest.subtract(old.digest());
        total.digest.add(new.digest());
    }

    fn move_templates(&mut self, id: &ConnectorId, old: &Chunk, new: &Chunk) {
        let parsed = |chunk: &Chunk| -> Vec<(TemplateRank, UriTemplate)> {
            let routes =
                chunk.items().iter().enumerate().filter_map(|(position, item)| Some((position, item.route.as_ref()?)));
            let parsed = routes.map(|(position, route)| {
                let template = UriTemplate::parse(&route.original);
                (TemplateRank::new(&template, id, position), template)
            });
            parsed.collect()
        };
        for (rank, _) in parsed(old) {
            self.templates.remove_mut(&rank);
        }
        for (rank, template) in parsed(new) {
            self.templates.insert_mut(rank, template);
        }
    }
}

/// Whether items of a kind are addressed rather than named.
pub(super) fn is_address(kind: ListKind) -> bool {
    matches!(kind, ListKind::Resources | ListKind::Templates)
}

/// A definition under another key.
fn with_key(definition: &str, kind: ListKind, key: &str) -> String {
    // Every exposed definition is an object.
    let mut object = RawObject::from_str(definition).unwrap_or_default();
    object.set(kind.key(), raw::string(key));
    RawValue::get(&object.to_raw()).to_owned()
}
