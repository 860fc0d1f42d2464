//! The claims that a restart must not decide again: saved by one process, applied by the next one to the lists of the same
//! servers, whatever the order in which these are restored.
//!
//! A claim that nothing contests needs no record: saved lists are restored before anything else is published. Templates of
//! different spelling may match the same URI, so all of them are recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::claims::ClaimTime;
use super::connector_entry::ConnectorEntry;
use super::limits;
use super::snapshot::CatalogSnapshot;
use crate::model::{ConnectorId, Digest, ListKind};

/// The claims of all connectors as they are saved.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimsRecord {
    /// Each with the digest of its origin: another server of the identifier has no claims.
    connectors: Vec<(ConnectorId, Digest)>,
    /// The oldest first, each with the position of its connector.
    claims: Vec<(ListKind, String, usize)>,
}

impl ClaimsRecord {
    /// Whether there is nothing to save.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty()
    }
}

/// The claims of one connector as an earlier process saved them.
#[derive(Debug)]
pub(super) struct SavedClaims {
    pub(super) origin: Digest,
    claims: HashMap<ListKind, HashMap<String, ClaimTime>>,
}

impl SavedClaims {
    pub(super) fn since(&self, kind: ListKind, key: &str) -> Option<ClaimTime> {
        self.claims.get(&kind)?.get(key).copied()
    }
}

/// The saved claims of connectors that have published no list in this process.
#[derive(Debug, Default)]
pub(super) struct ReservedClaims(HashMap<ConnectorId, SavedClaims>);

impl ReservedClaims {
    /// Reads a record. Returns the time after all of its claims as well.
    pub(super) fn new(record: ClaimsRecord) -> (Self, ClaimTime) {
        let ClaimsRecord { connectors, claims } = record;
        let mut reserved = HashMap::new();
        let mut now = ClaimTime::default();
        for (kind, key, connector) in claims {
            // A position that names nothing is damage, and costs this claim.
            let Some((id, origin)) = connectors.get(connector) else { continue };
            now.0 += 1;
            let of_one =
                reserved.entry(id.clone()).or_insert_with(|| SavedClaims { origin: *origin, claims: HashMap::new() });
            of_one.claims.entry(kind).or_default().insert(key, now);
        }
        (Self(reserved), now)
    }

    pub(super) fn take(&mut self, id: &ConnectorId) -> Option<SavedClaims> {
        self.0.remove(id)
    }

    /// Forgets those of other connectors. Returns whether there were any.
    pub(super) fn retain(&mut self, is_kept: impl Fn(&ConnectorId) -> bool) -> bool {
        let before = self.0.len();
        self.0.retain(|id, _| is_kept(id));
        self.0.len() < before
    }
}

/// What is saved, the oldest first.
type ClaimSet = BTreeSet<(ClaimTime, ListKind, Arc<str>, ConnectorId)>;

/// Returns what is to be saved of the claims of a snapshot and of those that are still reserved. The cost is that of the
/// contested claims and of all templates.
pub(super) fn record(snapshot: &CatalogSnapshot, reserved: &ReservedClaims) -> ClaimsRecord {
    let mut saved = ClaimSet::new();
    let mut absent: Vec<(ListKind, Arc<str>)> = Vec::new();
    for kind in ListKind::ALL {
        for (key, claims) in snapshot.everything.claims[kind as usize].contested() {
            saved.extend(claims.iter().map(|claim| (claim.since, kind, key.clone(), claim.connector.clone())));
        }
    }
    for (id, one) in &reserved.0 {
        for (kind, claims) in &one.claims {
            for (key, since) in claims {
                let key = Arc::<str>::from(key.as_str());
                absent.push((*kind, key.clone()));
                saved.insert((*since, *kind, key, id.clone()));
            }
        }
    }
    let of_templates = |entry: &&ConnectorEntry| !entry.exposed.claimed[ListKind::Templates as usize].is_empty();
    let many_have_templates = snapshot.entries.values().filter(of_templates).nth(1).is_some();
    for (id, entry) in &snapshot.entries {
        for kind in ListKind::ALL {
            // Also of a connector that is there, some items may be hidden.
            let claimed = &entry.exposed.claimed[kind as usize];
            let is_absent = claimed.len() > entry.exposed.chunk(kind).len();
            let all = kind == ListKind::Templates && many_have_templates;
            if !is_absent && !all {
                continue;
            }
            for (key, since) in claimed.iter() {
                // What no other connector claims meanwhile needs no record.
                let first = || snapshot.everything.claims[kind as usize].first(key);
                if all || first().is_some_and(|first| first.connector != *id) {
                    saved.insert((*since, kind, key.clone(), id.clone()));
                    absent.extend(is_absent.then(|| (kind, key.clone())));
                }
            }
        }
    }
    // Those that hold meanwhile what an absent connector has claimed.
    for (kind, key) in absent {
        if let Some(only) = snapshot.everything.claims[kind as usize].only(&key) {
            saved.insert((only.since, kind, key, only.connector.clone()));
        }
    }
    bounded(saved, |id| {
        let present = snapshot.entries.get(id).map(|entry| entry.part.connector.origin_digest());
        present.or_else(|| Some(reserved.0.get(id)?.origin))
    })
}

fn bounded(saved: ClaimSet, origin: impl Fn(&ConnectorId) -> Option<Digest>) -> ClaimsRecord {
    let mut record = ClaimsRecord::default();
    let mut known: BTreeMap<ConnectorId, (usize, usize)> = BTreeMap::new();
    let mut bytes = 0;
    for (_, kind, key, id) in saved {
        if !known.contains_key(&id) {
            let Some(origin) = origin(&id) else { continue };
            known.insert(id.clone(), (record.connectors.len(), 0));
            record.connectors.push((id.clone(), origin));
        }
        let Some((position, count)) = known.get_mut(&id) else { continue };
        let fits = key.len() <= limits::SAVED_KEY_BYTES_MAX
            && *count < limits::SAVED_CLAIMS_OF_ONE_MAX
            && bytes + key.len() <= limits::SAVED_CLAIMS_BYTES_MAX;
        // What does not fit is claimed in the order of arrival at the next start.
        if fits && record.claims.len() < limits::SAVED_CLAIMS_MAX {
            *count += 1;
            bytes += key.len();
            record.claims.push((kind, key.to_string(), *position));
        }
    }
    record
}
