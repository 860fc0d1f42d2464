//! Aggregates what connectors expose into the lists of one view: the gateway's own tools first, then the items of connectors,
//! in the order of their IDs and then of their servers.
//!
//! Of two tools or prompts of one name, the one that was claimed first is served and the other is not. Of two resources or
//! templates of one URI, the one that was claimed first is served and the other is served by its qualified form. Both are reported. A change of one connector costs
//! the length of its list, and of the lists of those connectors whose items take the place of its own.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::value::RawValue;

use super::chunk::Chunk;
use super::claims::Claim;
use super::connector_entry::{ConnectorEntry, Exposed};
use super::qualified::qualify;
use super::route::Route;
use super::template::UriTemplate;
use super::view::View;
use super::view_snapshot::{Listed, ViewSnapshot};
use crate::config::NameStyle;
use crate::model::raw::{self, RawObject};
use crate::model::{ConnectorId, ListKind};

impl ViewSnapshot {
    /// Puts what a connector exposes in the place of what it exposed before; none if it has left.
    pub(super) fn replace(&mut self, id: &ConnectorId, entry: Option<&ConnectorEntry>) {
        let entry = entry.filter(|_| self.view.sees_connector(id));
        let Listed { exposed: before, mut listed } = self.connectors.get(id).cloned().unwrap_or_default();
        let exposed = entry.map(|entry| entry.exposed.clone()).unwrap_or_default();
        for kind in ListKind::ALL {
            let claims_nothing = |exposed: &Exposed| exposed.claimed_items(kind).next().is_none();
            if before.is_same(&exposed, kind) || (claims_nothing(&before) && claims_nothing(&exposed)) {
                continue;
            }
            let disturbed = self.move_claims(kind, id, &before, &exposed);
            let list = self.listing(kind, id, &exposed);
            self.count(kind, &listed[kind as usize], &list);
            listed[kind as usize] = list;
            for other in disturbed.iter().filter(|other| *other != id) {
                self.list_again(kind, other);
            }
            if kind == ListKind::Templates {
                self.move_templates(id, &before, &exposed);
            }
        }
        match entry {
            Some(_) => self.connectors.insert_mut(id.clone(), Listed { exposed, listed }),
            None => drop(self.connectors.remove_mut(id)),
        }
        self.forget_joined();
    }

    /// Takes the claims of one list away and adds those of another. Returns the connectors whose items are served now, or
    /// are not served any more.
    fn move_claims(&mut self, kind: ListKind, id: &ConnectorId, old: &Exposed, new: &Exposed) -> BTreeSet<ConnectorId> {
        let (view, style) = (&self.view, self.style);
        let claims = &mut self.claims[kind as usize];
        let claim = |exposed: &Exposed, key: &str, position| Claim {
            since: exposed.since(kind, key),
            connector: id.clone(),
            position,
        };
        let mut disturbed = BTreeSet::new();
        for (position, key, _) in shown(view, style, kind, old) {
            disturbed.extend(claims.remove(key, &claim(old, key, position)));
        }
        for (position, key, _) in shown(view, style, kind, new) {
            disturbed.extend(claims.add(key, claim(new, key, position)));
        }
        disturbed
    }

    /// What is listed of what a connector exposes: all of it as a rule.
    fn listing(&self, kind: ListKind, id: &ConnectorId, of: &Exposed) -> Arc<Chunk> {
        let exposed = of.chunk(kind);
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
            let original = &item.route.as_ref()?.original;
            let key = qualify(id, original);
            let is_of_another = claims.first(&item.key).is_some_and(|first| first.connector != *id);
            (is_address(kind) && is_of_another && of.schemes.expose(kind, original) && qualified.insert(key.clone()))
                .then(|| (Arc::from(key.as_str()), item.route.clone(), Cow::Owned(with_key(definition, kind, &key))))
        });
        Arc::new(Chunk::new(listed))
    }

    fn list_again(&mut self, kind: ListKind, id: &ConnectorId) {
        let Some(mut connector) = self.connectors.get(id).cloned() else { return };
        let list = self.listing(kind, id, &connector.exposed);
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

    fn move_templates(&mut self, id: &ConnectorId, old: &Exposed, new: &Exposed) {
        let kind = ListKind::Templates;
        let claim = |exposed: &Exposed, key: &str, position| Claim {
            since: exposed.since(kind, key),
            connector: id.clone(),
            position,
        };
        for (position, key, _) in shown(&self.view, self.style, kind, old) {
            self.templates.remove_mut(&claim(old, key, position));
        }
        for (position, key, route) in shown(&self.view, self.style, kind, new) {
            let Some(route) = route else { continue };
            self.templates.insert_mut(claim(new, key, position), UriTemplate::parse(&route.original));
        }
    }
}

/// The items that a view shows of what a connector claims, with their positions and keys.
fn shown<'a>(
    view: &'a View,
    style: NameStyle,
    kind: ListKind,
    exposed: &'a Exposed,
) -> impl Iterator<Item = (usize, &'a Arc<str>, Option<&'a Route>)> {
    exposed.claimed_items(kind).filter(move |(_, key, route)| match kind {
        ListKind::Tools => view.sees_tool(key, style, *route),
        _ => route.is_none_or(|route| exposed.schemes.expose(kind, &route.original)),
    })
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
