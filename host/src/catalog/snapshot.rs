//! The published catalog: one immutable snapshot behind an atomic pointer, rebuilt when a part of it changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use bytes::Bytes;
use tokio::sync::watch;

use super::crowd::{Crowd, ToolBounds};
use super::join::join;
use super::route::{Collision, OwnTool, Route};
use super::served::Served;
use super::shelf::{FilterEffect, Part, Shelf, Shelves};
use super::view::{View, ViewRules};
use super::{NameRule, limits};
use crate::config::ToolFilter;
use crate::model::{BootMs, ConnectorId, ListKind, Scope, milliseconds};

/// The catalog at one moment.
#[derive(Debug)]
pub struct CatalogSnapshot {
    shelves: Arc<Shelves>,
    pub(super) everything: Arc<Served>,
    /// What views are served that do not see everything, at most [`limits::VIEWS_MAX`].
    views: Mutex<Views>,
    parts: BTreeMap<ConnectorId, Part>,
}

/// Each view's lists: made once, by the first reader, while others of that view wait and those of other views do not.
type Views = HashMap<Arc<ViewRules>, Arc<OnceLock<Arc<Served>>>>;

impl CatalogSnapshot {
    /// What a view is served.
    pub fn served(&self, view: &View) -> Arc<Served> {
        match view.rules() {
            Some(rules) => self.served_by(rules, || join(&self.shelves, view)),
            None => self.everything.clone(),
        }
    }

    /// What a view of these rules is served, which `make` makes if it is not known.
    pub(super) fn served_by(&self, rules: &Arc<ViewRules>, make: impl FnOnce() -> Served) -> Arc<Served> {
        let lists = {
            let mut views = self.views.lock().unwrap_or_else(PoisonError::into_inner);
            if views.len() >= limits::VIEWS_MAX && !views.contains_key(rules) {
                // Whoever is still there comes back.
                views.clear();
            }
            views.entry(rules.clone()).or_default().clone()
        };
        lists.get_or_init(|| Arc::new(make())).clone()
    }

    /// How many views' lists are remembered; none while their lock is held.
    #[cfg(test)]
    pub(super) fn views_held(&self) -> Option<usize> {
        self.views.try_lock().ok().map(|views| views.len())
    }

    /// All tools that may be served, as the bytes of a JSON array.
    pub fn tools(&self) -> &Bytes {
        self.everything.list(ListKind::Tools).bytes()
    }

    /// Whether a tool is the gateway's own.
    pub fn is_own(&self, name: &str) -> bool {
        self.everything.is_own(name)
    }

    /// How many tools of connectors there are.
    pub fn tool_count(&self) -> usize {
        self.everything.tool_count()
    }

    /// Where a call goes.
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.everything.tool(name)
    }

    /// What the filters do, by connector; those that have none are left out.
    pub fn filter_effects(&self) -> BTreeMap<ConnectorId, FilterEffect> {
        let effects = self.shelves.parts.iter().filter_map(|(id, shelf)| Some((id.clone(), shelf.effect.clone()?)));
        effects.collect()
    }

    /// Every connector, by id.
    pub fn parts(&self) -> &BTreeMap<ConnectorId, Part> {
        &self.parts
    }

    /// Names that two items claim.
    pub fn collisions(&self) -> &[Collision] {
        self.everything.collisions()
    }

    /// The caching hint for lists: the least time for which every part that a view sees stands, in milliseconds. A part that
    /// is not fresh contributes the time to its next attempt, at least a second (design section 6).
    pub fn ttl_ms(&self, view: &View, now: BootMs) -> u64 {
        let until = |time: Option<BootMs>| time.map_or(0, |time| milliseconds(time.since(now)));
        let seen = self.parts.values().filter(|part| view.sees_connector(&part.connector.id));
        let remaining = seen.map(|part| match part.facts.fresh_until {
            Some(fresh) if fresh > now => until(Some(fresh)),
            _ => until(part.facts.next_attempt).max(LEAST_TTL_MS),
        });
        remaining.min().unwrap_or(LEAST_TTL_MS)
    }

    /// Public only if every part that is served is, and everybody is served the same.
    pub fn scope(&self, view: &View) -> Scope {
        let mut served = self.parts.values().filter(|part| part.offer.is_some());
        let public = view.is_everybodys() && served.all(|part| part.facts.scope == Scope::Public);
        if public { Scope::Public } else { Scope::Private }
    }
}

/// The least caching hint of a list that has a part which is not fresh.
const LEAST_TTL_MS: u64 = 1_000;

/// The catalog: parts are put in and taken out, snapshots are read.
#[derive(Debug)]
pub struct Catalog {
    rule: NameRule,
    making: Mutex<Making>,
    current: ArcSwap<CatalogSnapshot>,
    /// How often what is served may have changed.
    changes: watch::Sender<u64>,
}

/// What the next snapshot is made of.
#[derive(Debug, Default)]
struct Making {
    shelves: Arc<Shelves>,
    filters: BTreeMap<ConnectorId, ToolFilter>,
    bounds: ToolBounds,
    crowd: Crowd,
}

impl Catalog {
    /// An empty one, in which every tool is served.
    pub fn new(rule: NameRule) -> Self {
        let making = Making::default();
        let current = ArcSwap::from_pointee(snapshot(making.shelves.clone(), None));
        Self { rule, making: Mutex::new(making), current, changes: watch::Sender::new(0) }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<CatalogSnapshot> {
        self.current.load_full()
    }

    /// Tells whenever what is served may be other than before: not when parts merely stand differently.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Serves these tools of the gateway itself before all others, in the place of those that it served before.
    pub fn serve_first(&self, own: Vec<OwnTool>) {
        let mut making = self.lock();
        if own.iter().map(|tool| tool.name).ne(making.shelves.own.iter().map(|tool| tool.name)) {
            Arc::make_mut(&mut making.shelves).own = own;
            self.publish(&mut making);
        }
    }

    /// Other filters are in force from now on. Returns the connectors whose tools are exposed otherwise now, and under which
    /// names.
    pub fn set_filters(&self, filters: BTreeMap<ConnectorId, ToolFilter>) -> Vec<(ConnectorId, Vec<String>)> {
        let mut making = self.lock();
        let before = std::mem::replace(&mut making.filters, filters);
        let Making { shelves, filters, .. } = &mut *making;
        let mut changed = Vec::new();
        let concerned: Vec<ConnectorId> =
            shelves.parts.keys().filter(|id| before.get(*id) != filters.get(*id)).cloned().collect();
        for id in concerned {
            if let Some(shelf) = Arc::make_mut(shelves).parts.get_mut(&id) {
                *shelf = Shelf::new(shelf.part.clone(), self.rule, filters.get(&id));
                changed.push((id, shelf.tool_names()));
            }
        }
        if !changed.is_empty() {
            self.publish(&mut making);
        }
        changed
    }

    /// Other bounds for the number of tools are in force from now on.
    pub fn set_bounds(&self, bounds: ToolBounds) {
        let mut making = self.lock();
        making.bounds = bounds;
        if making.shelves.tools_max == bounds.most {
            let served = self.snapshot();
            making.crowd.look(bounds, &served.everything);
        } else {
            Arc::make_mut(&mut making.shelves).tools_max = bounds.most;
            self.publish(&mut making);
        }
    }

    /// Puts a connector's part in, in the place of the one it had, and publishes. A part that merely stands differently
    /// costs nothing but its own facts. Returns the names under which its tools are exposed, if they may be other ones now.
    pub fn put(&self, part: Part) -> Option<Vec<String>> {
        let mut making = self.lock();
        let Making { shelves, filters, .. } = &mut *making;
        let id = part.connector.id.clone();
        let changing = Arc::make_mut(shelves);
        match changing.parts.get_mut(&id) {
            Some(shelf) if shelf.part.exposes_the_same(&part) => {
                shelf.part.facts = part.facts;
                let before = self.current.load_full();
                self.current.store(Arc::new(snapshot(shelves.clone(), Some(&before))));
                None
            }
            _ => {
                let shelf = Shelf::new(part, self.rule, filters.get(&id));
                let names = shelf.tool_names();
                changing.parts.insert(id, shelf);
                self.publish(&mut making);
                Some(names)
            }
        }
    }

    /// Takes a connector out and publishes.
    pub fn remove(&self, id: &ConnectorId) {
        let mut making = self.lock();
        if Arc::make_mut(&mut making.shelves).parts.remove(id).is_some() {
            self.publish(&mut making);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Making> {
        self.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, making: &mut Making) {
        let snapshot = snapshot(making.shelves.clone(), None);
        making.crowd.look(making.bounds, &snapshot.everything);
        self.current.store(Arc::new(snapshot));
        self.changes.send_modify(|changes| *changes += 1);
    }
}

/// A snapshot of the shelves; with what was served `before`, if that is still so.
fn snapshot(shelves: Arc<Shelves>, before: Option<&CatalogSnapshot>) -> CatalogSnapshot {
    let parts = shelves.parts.iter().map(|(id, shelf)| (id.clone(), shelf.part.clone())).collect();
    let (everything, views) = match before {
        Some(before) => {
            let views = before.views.lock().unwrap_or_else(PoisonError::into_inner).clone();
            (before.everything.clone(), views)
        }
        None => (Arc::new(join(&shelves, &View::everything())), HashMap::new()),
    };
    CatalogSnapshot { shelves, everything, views: Mutex::new(views), parts }
}
