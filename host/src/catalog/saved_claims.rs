//! The claims of connectors that have no list now, and those that a restart must not decide again: saved by one process,
//! applied by the next one to the lists of the same servers, whatever the order in which these are restored.
//!
//! A claim that nothing contests needs no record while its list can be restored: that happens before anything else is
//! published. Templates of different spelling may match the same URI, so all of them are recorded. For a restored key whose
//! claim is not recorded, the seniority of its connector counts.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claims::{ClaimTime, ClaimTimes};
use super::connector_entry::{ConnectorEntry, Part};
use super::limits;
use super::snapshot::CatalogSnapshot;
use crate::model::{ConnectorId, Digest, ListKind, OfferSource};

/// The claims of all connectors as they are saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRecord {
    connectors: Vec<(ConnectorId, Seniority)>,
    /// The oldest first, each with the position of its connector.
    claims: Vec<(ClaimTime, ListKind, Arc<str>, usize)>,
}

impl ClaimsRecord {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.connectors.is_empty()
    }
}

/// When a connector first claimed anything as the server that it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Seniority {
    /// [`Connector::server_digest`](crate::model::Connector::server_digest): another server of the identifier has no claims.
    server: Digest,
    since: ClaimTime,
}

/// What is known of the claims of connectors besides those that the catalog holds.
#[derive(Debug, Default)]
pub(super) struct ReservedClaims {
    /// The claims of connectors that have published no list, or none since they were withdrawn, of each kind.
    claims: HashMap<ConnectorId, [Arc<ClaimTimes>; 4]>,
    /// Of every connector that has published a list and has an entry.
    seniorities: BTreeMap<ConnectorId, Seniority>,
    /// The keys of each kind of which an earlier process saved a claim, whichever connector's.
    recorded: [HashSet<Arc<str>>; 4],
}

/// What a connector has claimed before it publishes its first list.
pub(super) struct EarlierClaims<'a> {
    claims: Option<[Arc<ClaimTimes>; 4]>,
    /// When keys are claimed of whose claims nothing is recorded, if the list was restored; and the recorded keys. What
    /// others have a record of, and this connector has not, is theirs.
    restored: Option<(ClaimTime, &'a [HashSet<Arc<str>>; 4])>,
    now: ClaimTime,
}

impl EarlierClaims<'_> {
    pub(super) fn none(now: ClaimTime) -> Self {
        Self { claims: None, restored: None, now }
    }

    /// When the connector claimed a key.
    pub(super) fn since(&self, kind: ListKind, key: &str) -> Option<ClaimTime> {
        self.claims.as_ref()?[kind as usize].get(key).copied()
    }

    /// When it claims a key of which it has no claim.
    pub(super) fn first_time(&self, kind: ListKind, key: &str) -> ClaimTime {
        let restored = self.restored.filter(|(_, recorded)| !recorded[kind as usize].contains(key));
        restored.map_or(self.now, |(since, _)| since)
    }
}

impl ReservedClaims {
    /// Reads a record. Returns the time of its latest claim as well.
    pub(super) fn new(ClaimsRecord { connectors, claims }: ClaimsRecord) -> (Self, ClaimTime) {
        let mut of_connectors: HashMap<ConnectorId, [ClaimTimes; 4]> = HashMap::new();
        let mut recorded: [HashSet<Arc<str>>; 4] = Default::default();
        let mut latest = connectors.iter().map(|(_, seniority)| seniority.since).max().unwrap_or_default();
        for (since, kind, key, connector) in claims {
            // A position that names nothing is damage, and costs this claim.
            let Some((id, _)) = connectors.get(connector) else { continue };
            latest = latest.max(since);
            recorded[kind as usize].insert(key.clone());
            of_connectors.entry(id.clone()).or_default()[kind as usize].insert(key, since);
        }
        let claims = of_connectors.into_iter().map(|(id, claims)| (id, claims.map(Arc::new))).collect();
        (Self { claims, seniorities: connectors.into_iter().collect(), recorded }, latest)
    }

    /// Takes the claims of a connector that publishes a list.
    pub(super) fn take(&mut self, part: &Part, now: ClaimTime) -> EarlierClaims<'_> {
        let (id, server) = (&part.connector.id, part.connector.server_digest());
        let claims = self.claims.remove(id);
        let seniority = self.seniorities.entry(id.clone()).or_insert(Seniority { server, since: now });
        if seniority.server != server {
            *seniority = Seniority { server, since: now };
            return EarlierClaims::none(now);
        }
        let restored = (part.source == OfferSource::Saved).then_some((seniority.since, &self.recorded));
        EarlierClaims { claims, restored, now }
    }

    /// Keeps the claims of a connector that is withdrawn.
    pub(super) fn keep(&mut self, entry: &ConnectorEntry) {
        if entry.exposed.claimed.iter().any(|claims| !claims.is_empty()) {
            self.claims.insert(entry.part.connector.id.clone(), entry.exposed.claimed.clone());
        }
    }

    /// Forgets those of other connectors. Returns whether there were any.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&ConnectorId) -> bool) -> bool {
        let before = self.seniorities.len();
        self.claims.retain(|id, _| is_kept(id));
        self.seniorities.retain(|id, _| is_kept(id));
        self.seniorities.len() < before
    }
}

/// Claims, the oldest first.
type ClaimSet = BTreeSet<(ClaimTime, ListKind, Arc<str>, ConnectorId)>;

/// Returns what is to be saved of the claims of a snapshot and of those that are reserved. The cost is that of the contested
/// claims, of all templates, and of the claims of connectors without a list.
pub(super) fn record(snapshot: &CatalogSnapshot, reserved: &ReservedClaims) -> ClaimsRecord {
    let current = |kind: ListKind| &snapshot.everything.claims[kind as usize];
    let (mut contested, mut others) = (ClaimSet::new(), ClaimSet::new());
    for kind in ListKind::ALL {
        for (key, claims) in current(kind).contested() {
            contested.extend(claims.iter().map(|claim| (claim.since, kind, key.clone(), claim.connector.clone())));
        }
    }
    let of_templates = |entry: &&ConnectorEntry| !entry.exposed.claimed[ListKind::Templates as usize].is_empty();
    let many_have_templates = snapshot.entries.values().filter(of_templates).nth(1).is_some();
    let present = snapshot.entries.iter().map(|(id, entry)| (id, &entry.exposed.claimed, Some(entry)));
    let absent = reserved.claims.iter().map(|(id, claims)| (id, claims, None));
    for (id, claimed, entry) in present.chain(absent) {
        let entry = entry.filter(|entry| entry.part.offer.is_some());
        for kind in ListKind::ALL {
            let claimed = &claimed[kind as usize];
            let has_all = entry.is_some_and(|entry| claimed.len() <= entry.exposed.chunk(kind).len());
            let saves_all = entry.is_none() || (kind == ListKind::Templates && many_have_templates);
            if has_all && !saves_all {
                continue;
            }
            for (key, since) in claimed.iter() {
                let claim = || (*since, kind, key.clone(), id.clone());
                match current(kind).first(key).filter(|first| first.connector != *id) {
                    // Another connector holds meanwhile what this one has claimed.
                    Some(first) => {
                        contested.insert(claim());
                        contested.insert((first.since, kind, key.clone(), first.connector.clone()));
                    }
                    None if saves_all => drop(others.insert(claim())),
                    // What no other connector claims meanwhile needs no record.
                    None => {}
                }
            }
        }
    }
    bounded(&contested, &others, &reserved.seniorities)
}

fn bounded(contested: &ClaimSet, others: &ClaimSet, seniorities: &BTreeMap<ConnectorId, Seniority>) -> ClaimsRecord {
    let connectors: Vec<_> = seniorities.iter().map(|(id, seniority)| (id.clone(), *seniority)).collect();
    let mut known: HashMap<&ConnectorId, (usize, usize)> =
        seniorities.keys().enumerate().map(|(position, id)| (id, (position, 0))).collect();
    let (mut claims, mut bytes) = (Vec::new(), 0);
    for (since, kind, key, id) in contested.iter().chain(others.difference(contested)) {
        let Some((position, count)) = known.get_mut(id) else { continue };
        let fits = key.len() <= limits::SAVED_KEY_BYTES_MAX
            && *count < limits::SAVED_CLAIMS_OF_ONE_MAX
            && bytes + key.len() <= limits::SAVED_CLAIMS_BYTES_MAX;
        if fits && claims.len() < limits::SAVED_CLAIMS_MAX {
            *count += 1;
            bytes += key.len();
            claims.push((*since, *kind, key.clone(), *position));
        }
    }
    claims.sort_unstable();
    ClaimsRecord { connectors, claims }
}
