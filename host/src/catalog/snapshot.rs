//! The published catalog: one immutable snapshot behind an atomic pointer. The next one shares everything with it but what
//! changed.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bytes::Bytes;
use rpds::RedBlackTreeMapSync;

use super::connector_entry::{ConnectorEntry, FilterEffect, Part};
use super::limits;
use super::route::{Collision, OwnTool, Route};
use super::view::{ToolNames, View, ViewRules};
use super::view_snapshot::ViewSnapshot;
use crate::config::NameStyle;
use crate::model::{BootMs, ConnectorId, Glob, ListKind, Scope, milliseconds};

/// The catalog at one moment.
#[derive(Debug)]
pub struct CatalogSnapshot {
    /// How often what is served had changed.
    pub(super) version: u64,
    style: NameStyle,
    pub(super) own: Arc<[OwnTool]>,
    /// More tools than this are not served.
    pub(super) tools_max: Option<usize>,
    pub(super) entries: RedBlackTreeMapSync<ConnectorId, ConnectorEntry>,
    /// How many connectors offer something.
    offers: usize,
    /// The connectors that changed, by the version of their last change.
    changed: RedBlackTreeMapSync<u64, ConnectorId>,
    /// From which version on `changed` names every change.
    complete_since: u64,
    pub(super) everything: Arc<ViewSnapshot>,
    /// What views are served that do not see everything, at most [`limits::VIEWS_MAX`].
    views: Mutex<Views>,
}

type Views = HashMap<Arc<ViewRules>, HeldView>;

/// The lists of a view: made once, by its first reader, while others of that view wait and those of other views do not.
#[derive(Clone, Debug, Default)]
struct HeldView {
    lists: Arc<OnceLock<Arc<ViewSnapshot>>>,
    /// Those of an earlier snapshot, from which they are made.
    earlier: Option<Arc<ViewSnapshot>>,
}

impl CatalogSnapshot {
    /// A snapshot without connectors.
    pub(super) fn new(style: NameStyle) -> Self {
        Self {
            version: 0,
            style,
            own: Arc::default(),
            tools_max: None,
            entries: RedBlackTreeMapSync::default(),
            offers: 0,
            changed: RedBlackTreeMapSync::default(),
            complete_since: 0,
            everything: Arc::new(ViewSnapshot::new(View::everything(), style, &[])),
            views: Mutex::default(),
        }
    }

    /// What a view is served.
    pub fn served(&self, view: &View) -> Arc<ViewSnapshot> {
        match view.rules() {
            Some(rules) => self.served_by(rules, |earlier| self.shown(view, earlier)),
            None => self.everything.clone(),
        }
    }

    /// What a view of these rules is served, which `make` makes from what it was served earlier, if it is not known.
    pub(super) fn served_by(
        &self,
        rules: &Arc<ViewRules>,
        make: impl FnOnce(Option<&ViewSnapshot>) -> ViewSnapshot,
    ) -> Arc<ViewSnapshot> {
        let HeldView { lists, earlier } = {
            let mut views = self.lock_views();
            if views.len() >= limits::VIEWS_MAX && !views.contains_key(rules) {
                // Those that are still read come back.
                views.clear();
            }
            views.entry(rules.clone()).or_default().clone()
        };
        lists.get_or_init(|| Arc::new(make(earlier.as_deref()))).clone()
    }

    /// What a view shows of this snapshot, from what it showed of an earlier one.
    fn shown(&self, view: &View, earlier: Option<&ViewSnapshot>) -> ViewSnapshot {
        let mut shown = match earlier.filter(|earlier| earlier.version >= self.complete_since) {
            Some(earlier) => {
                let mut shown = earlier.clone();
                let since = (Bound::Excluded(earlier.version), Bound::Unbounded);
                for (_, id) in self.changed.range(since) {
                    shown.replace(id, self.entries.get(id));
                }
                shown
            }
            None => {
                let mut shown = ViewSnapshot::new(view.clone(), self.style, &self.own);
                for (id, entry) in &self.entries {
                    shown.replace(id, Some(entry));
                }
                shown
            }
        };
        shown.version = self.version;
        shown.tools_max = self.tools_max;
        shown
    }

    /// The next snapshot, in which these connectors expose other items; none of those that have left. Costs what their
    /// lists hold, and the views that are held know what to catch up with.
    pub(super) fn with_entries(&self, entries: Vec<(ConnectorId, Option<ConnectorEntry>)>) -> Self {
        let mut next = self.next_version();
        let mut everything = (*self.everything).clone();
        for (id, entry) in entries {
            next.version += 1;
            if let Some(known) = next.entries.get(&id).cloned() {
                next.changed.remove_mut(&known.version);
                next.offers -= usize::from(known.part.offer.is_some());
            }
            next.offers += usize::from(entry.as_ref().is_some_and(|entry| entry.part.offer.is_some()));
            everything.replace(&id, entry.as_ref());
            match entry {
                Some(entry) => next.entries.insert_mut(id.clone(), ConnectorEntry { version: next.version, ..entry }),
                None => drop(next.entries.remove_mut(&id)),
            }
            next.changed.insert_mut(next.version, id);
        }
        // Those that left long ago.
        while next.changed.size() > next.entries.size() + limits::CHANGES_OF_ABSENT_MAX {
            let Some(oldest) = next.changed.first().map(|(version, _)| *version) else { break };
            next.changed.remove_mut(&oldest);
            next.complete_since = oldest;
        }
        next.show(everything)
    }

    /// The next snapshot, in which the lists of one connector are in another state.
    pub(super) fn with_part(&self, part: Part) -> Self {
        let id = part.connector.id.clone();
        let views = self.lock_views().clone();
        let mut next = Self { views: Mutex::new(views), ..self.share() };
        if let Some(entry) = next.entries.get(&id).cloned() {
            next.entries.insert_mut(id, ConnectorEntry { part: Arc::new(part), ..entry });
        }
        next
    }

    /// The next snapshot, with other tools of the gateway itself. Every view is made again.
    pub(super) fn with_own(&self, own: Vec<OwnTool>) -> Self {
        let mut next = self.next_version();
        next.version += 1;
        next.complete_since = next.version;
        next.own = own.into();
        let everything = next.shown(&View::everything(), None);
        next.show(everything)
    }

    /// The next snapshot, with another limit for the number of tools.
    pub(super) fn with_tools_max(&self, tools_max: Option<usize>) -> Self {
        let mut next = self.next_version();
        next.version += 1;
        next.tools_max = tools_max;
        next.show((*self.everything).clone())
    }

    /// This snapshot without its views.
    fn share(&self) -> Self {
        Self {
            version: self.version,
            style: self.style,
            own: self.own.clone(),
            tools_max: self.tools_max,
            entries: self.entries.clone(),
            offers: self.offers,
            changed: self.changed.clone(),
            complete_since: self.complete_since,
            everything: self.everything.clone(),
            views: Mutex::default(),
        }
    }

    /// This snapshot, with views that are made from those of this one when they are read.
    fn next_version(&self) -> Self {
        let views = self.lock_views();
        let held = views.iter().filter_map(|(rules, view)| {
            // Without what was joined for its readers.
            let read = view.lists.get().map(|lists| Arc::new((**lists).clone()));
            let earlier = read.or_else(|| view.earlier.clone())?;
            // One that is not read any more holds on to lists that nothing else needs.
            let is_recent = self.version - earlier.version <= limits::VIEW_LAG_MAX;
            is_recent.then(|| (rules.clone(), HeldView { lists: Arc::default(), earlier: Some(earlier) }))
        });
        Self { views: Mutex::new(held.collect()), ..self.share() }
    }

    fn show(mut self, mut everything: ViewSnapshot) -> Self {
        everything.version = self.version;
        everything.tools_max = self.tools_max;
        self.everything = Arc::new(everything);
        self
    }

    fn lock_views(&self) -> MutexGuard<'_, Views> {
        self.views.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many views' lists are remembered; none while their lock is held.
    #[cfg(test)]
    pub(super) fn views_held(&self) -> Option<usize> {
        self.views.try_lock().ok().map(|views| views.len())
    }

    /// What a view shows, from the beginning.
    #[cfg(test)]
    pub(super) fn made_again(&self, view: &View) -> ViewSnapshot {
        self.shown(view, None)
    }

    /// How many changes are remembered.
    #[cfg(test)]
    pub(super) fn changes_held(&self) -> usize {
        self.changed.size()
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
        let effects =
            self.entries.iter().filter_map(|(id, entry)| Some((id.clone(), (**entry.effect.as_ref()?).clone())));
        effects.collect()
    }

    /// Returns the patterns of these rules for tools that match no tool: those of `tools`, and those of `deny-tools`. None
    /// while a connector has no list, whose tools they may match.
    pub fn unmatched_tool_patterns(&self, rules: &ViewRules) -> [Vec<Glob>; 2] {
        if self.entries.values().any(|entry| entry.part.offer.is_none()) {
            return Default::default();
        }
        let mut allowed = rules.tools.clone().unwrap_or_default();
        let mut denied = rules.deny_tools.clone();
        let mut compare = |names: &ToolNames<'_>| {
            allowed.retain(|pattern| !names.match_allowed(pattern));
            denied.retain(|pattern| !names.match_denied(pattern));
            allowed.is_empty() && denied.is_empty()
        };
        let is_done = self.own.iter().any(|own| compare(&ToolNames::of_own(own.name)));
        let items = || self.entries.values().flat_map(|entry| entry.exposed.chunk(ListKind::Tools).items());
        let _ = is_done || items().any(|item| compare(&ToolNames::new(&item.key, self.style, item.route.as_ref())));
        [allowed, denied]
    }

    /// Every connector, by ID.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.entries.values().map(|entry| &*entry.part)
    }

    /// The connectors whose IDs are in a range, by ID.
    pub fn parts_in<'a>(
        &'a self,
        range: (Bound<&'a ConnectorId>, Bound<&'a ConnectorId>),
    ) -> impl Iterator<Item = &'a Part> {
        self.entries.range::<ConnectorId, _>(range).map(|(_, entry)| &*entry.part)
    }

    /// Whether a connector offers something.
    pub fn has_offers(&self) -> bool {
        self.offers > 0
    }

    /// One connector.
    pub fn part(&self, id: &ConnectorId) -> Option<&Part> {
        self.entries.get(id).map(|entry| &*entry.part)
    }

    /// Names that two items claim.
    pub fn collisions(&self) -> Vec<Collision> {
        self.everything.collisions()
    }

    /// The caching hint for lists, in milliseconds: the least time for which every part that a view sees is fresh. A part
    /// that is not fresh contributes the time to its next attempt, at least a second.
    pub fn ttl_ms(&self, view: &View, now: BootMs) -> u64 {
        let until = |time: Option<BootMs>| time.map_or(0, |time| milliseconds(time.since(now)));
        let seen = self.parts().filter(|part| view.sees_connector(&part.connector.id));
        let remaining = seen.map(|part| match part.facts.fresh_until {
            Some(fresh) if fresh > now => until(Some(fresh)),
            _ => until(part.facts.next_attempt).max(LEAST_TTL_MS),
        });
        remaining.min().unwrap_or(LEAST_TTL_MS)
    }

    /// Public only if every part that is served is, and every client is served the same.
    pub fn scope(&self, view: &View) -> Scope {
        let is_public = |part: &Part| part.offer.is_none() || part.facts.scope == Scope::Public;
        if view.is_everybodys() && self.parts().all(is_public) { Scope::Public } else { Scope::Private }
    }
}

/// The least caching hint of a list that has a part which is not fresh.
const LEAST_TTL_MS: u64 = 1_000;
