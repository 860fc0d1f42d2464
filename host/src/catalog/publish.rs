//! The catalog: parts are put in and taken out, and each change publishes a snapshot.
//!
//! Lists are rendered outside of the lock; publishing one costs the length of that list.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::NameRule;
use super::claims::ClaimTime;
use super::connector_entry::{ConnectorEntry, Part};
use super::crowd::{Crowd, ToolBounds};
use super::definition::{begin_path, exposed_key};
use super::route::OwnTool;
use super::saved_claims::{self, ClaimsRecord, EarlierClaims, ReservedClaims};
use super::snapshot::CatalogSnapshot;
use crate::config::ToolFilter;
use crate::model::{ConnectorId, InstanceId, ListKind};

/// The catalog.
#[derive(Debug)]
pub struct Catalog {
    rule: NameRule,
    /// What is appended to the path of each definition; none: definitions bear no path.
    instance: Option<InstanceId>,
    publishing: Mutex<Publishing>,
    current: ArcSwap<CatalogSnapshot>,
    /// How often what is served may have changed.
    changes: watch::Sender<u64>,
}

/// What the next snapshot depends on besides this one.
#[derive(Debug, Default)]
struct Publishing {
    filters: BTreeMap<ConnectorId, Arc<ToolFilter>>,
    /// When keys were claimed last.
    claimed: ClaimTime,
    reserved: ReservedClaims,
    bounds: ToolBounds,
    crowd: Crowd,
}

impl Catalog {
    /// An empty one, in which every tool is served.
    pub fn new(rule: NameRule) -> Self {
        let empty = CatalogSnapshot::new(rule.style);
        let current = ArcSwap::from_pointee(empty);
        Self { rule, instance: None, publishing: Mutex::default(), current, changes: watch::Sender::new(0) }
    }

    /// Applies the claims that an earlier process saved to the lists that its connectors publish first.
    pub fn restore_claims(&self, record: ClaimsRecord) {
        let mut publishing = self.lock();
        (publishing.reserved, publishing.claimed) = ReservedClaims::new(record);
    }

    /// Forgets the saved claims of connectors that have no entry: one that gets one later starts without.
    pub fn forget_claims_of_absent(&self, described: &BTreeSet<ConnectorId>) {
        let mut publishing = self.lock();
        if publishing.reserved.retain(|id| described.contains(id)) {
            // The record is another one.
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    /// Returns the claims that the next process needs.
    pub fn claims(&self) -> ClaimsRecord {
        let publishing = self.lock();
        saved_claims::record(&self.snapshot(), &publishing.reserved)
    }

    /// The same catalog of the gateway of this ID: each definition that it serves bears its path.
    #[must_use]
    pub fn with_instance(self, instance: InstanceId) -> Self {
        Self { instance: Some(instance), ..self }
    }

    /// The name, URI or URI template under which an item of a connector is exposed, whether it is served or not.
    pub fn exposed_name(&self, id: &ConnectorId, kind: ListKind, own: &str) -> String {
        let filter = self.lock().filters.get(id).cloned().unwrap_or_default();
        exposed_key(self.rule, &filter, id, kind, own)
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<CatalogSnapshot> {
        self.current.load_full()
    }

    /// Changes whenever what is served may be other than before: not when only the state of a list is.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Serves these tools of the gateway itself before all others, in the place of those that it served before.
    pub fn serve_first(&self, mut own: Vec<OwnTool>) {
        if let Some(instance) = self.instance {
            own.iter_mut().for_each(|tool| tool.definition = begin_path(&tool.definition, instance));
        }
        let mut publishing = self.lock();
        let current = self.snapshot();
        if own.iter().map(|tool| tool.name).ne(current.own.iter().map(|tool| tool.name)) {
            self.publish(&mut publishing, current.with_own(own));
        }
    }

    /// Other filters are in force from now on. Returns the connectors whose tools are exposed otherwise now, and under which
    /// names.
    pub fn set_filters(&self, filters: BTreeMap<ConnectorId, ToolFilter>) -> Vec<(ConnectorId, Vec<String>)> {
        let mut publishing = self.lock();
        let current = self.snapshot();
        let filters = filters.into_iter().map(|(id, filter)| (id, Arc::new(filter))).collect();
        let before = std::mem::replace(&mut publishing.filters, filters);
        let mut names = Vec::new();
        let mut changed = Vec::new();
        let mut claimed = publishing.claimed;
        let concerned: BTreeSet<&ConnectorId> = before.keys().chain(publishing.filters.keys()).collect();
        for id in concerned {
            let filter = publishing.filters.get(id);
            let Some(entry) = current.entries.get(id).filter(|_| before.get(id) != filter) else { continue };
            let filter = filter.map(|filter| &**filter);
            let mut exposed =
                ConnectorEntry::new((*entry.part).clone(), (self.rule, self.instance), filter, (Some(entry), false));
            claimed.0 += 1;
            exposed.claim((Some(entry), &EarlierClaims::none(claimed)), self.rule, filter);
            names.push((id.clone(), exposed.tool_names()));
            changed.push((id.clone(), Some(exposed)));
        }
        publishing.claimed = claimed;
        if !changed.is_empty() {
            self.publish(&mut publishing, current.with_entries(changed));
        }
        names
    }

    /// Other bounds for the number of tools are in force from now on.
    pub fn set_bounds(&self, bounds: ToolBounds) {
        let mut publishing = self.lock();
        publishing.bounds = bounds;
        let current = self.snapshot();
        if current.tools_max == bounds.most {
            publishing.crowd.look(bounds, &current.everything);
        } else {
            self.publish(&mut publishing, current.with_tools_max(bounds.most));
        }
    }

    /// Puts a connector's part in, in the place of the one it had, and publishes. Returns the names under which its tools are
    /// exposed, if they may be other ones now: not if only the state of its lists is another one.
    pub fn put(&self, part: Part) -> Option<Vec<String>> {
        let id = part.connector.id.clone();
        let mut publishing = self.lock();
        loop {
            let current = self.snapshot();
            let before = current.entries.get(&id);
            if before.is_some_and(|entry| entry.part.exposes_the_same(&part)) {
                self.current.store(Arc::new(current.with_part(part)));
                return None;
            }
            let filter = publishing.filters.get(&id).cloned();
            drop(publishing);
            let mut entry =
                ConnectorEntry::new(part.clone(), (self.rule, self.instance), filter.as_deref(), (before, true));
            publishing = self.lock();
            if publishing.filters.get(&id) == filter.as_ref() {
                let current = self.snapshot();
                publishing.claimed.0 += 1;
                let now = publishing.claimed;
                let earlier = match part.offer {
                    Some(_) => publishing.reserved.take(&part, now),
                    None => EarlierClaims::none(now),
                };
                entry.claim((current.entries.get(&id), &earlier), self.rule, filter.as_deref());
                let names = entry.tool_names();
                let changed = vec![(id, Some(entry))];
                self.publish(&mut publishing, current.with_entries(changed));
                return Some(names);
            }
            // Another filter came into force meanwhile.
        }
    }

    /// Takes a connector out and publishes. It keeps its claims for when it comes back.
    pub fn withdraw(&self, id: &ConnectorId) {
        let mut publishing = self.lock();
        if let Some(entry) = self.snapshot().entries.get(id) {
            publishing.reserved.keep(entry);
        }
        self.take_out(&mut publishing, id);
    }

    /// Takes a connector out and publishes. It keeps no claims.
    pub fn remove(&self, id: &ConnectorId) {
        let mut publishing = self.lock();
        let had_claims = publishing.reserved.retain(|other| other != id);
        if !self.take_out(&mut publishing, id) && had_claims {
            // The record is another one.
            self.changes.send_modify(|changes| *changes += 1);
        }
    }

    fn take_out(&self, publishing: &mut Publishing, id: &ConnectorId) -> bool {
        let current = self.snapshot();
        let is_there = current.entries.contains_key(id);
        if is_there {
            self.publish(publishing, current.with_entries(vec![(id.clone(), None)]));
        }
        is_there
    }

    fn lock(&self) -> MutexGuard<'_, Publishing> {
        self.publishing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn publish(&self, publishing: &mut Publishing, snapshot: CatalogSnapshot) {
        publishing.crowd.look(publishing.bounds, &snapshot.everything);
        self.current.store(Arc::new(snapshot));
        self.changes.send_modify(|changes| *changes += 1);
    }
}
