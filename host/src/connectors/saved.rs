//! What is kept of a connector on disk: its offer as received, the state of its cache, and the era that it speaks.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::edge::state::{Body, StateRecord};
use crate::mcp::Era;
use crate::model::{Connector, ConnectorId, Digest, ListKind, Offer, WallMs};
use crate::policy::Held;
use crate::policy::contract::CacheState;

/// The header of a connector's record.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct SavedHeader {
    /// Which server the list is of: [`Connector::origin_digest`].
    pub(super) origin: Digest,
    /// The state of the cache.
    pub(super) cache: Held<CacheState>,
    /// The era that the server was found to speak.
    pub(super) era: Option<Era>,
    /// When the list was fetched or last confirmed.
    pub(super) fetched_at: Option<WallMs>,
    /// How long the last successful run took.
    pub(super) last_duration_ms: Option<u64>,
}

impl SavedHeader {
    /// The digest of the offer that the cache's state speaks of.
    pub(super) fn offer_digest(&self) -> Option<Digest> {
        self.cache.state.value.as_ref()?.digest.parse().ok()
    }
}

/// What was read back of a connector.
pub(super) struct Saved {
    pub(super) header: SavedHeader,
    pub(super) offer: Option<Offer>,
}

/// The name of a connector's record.
pub(super) fn record_name(id: &ConnectorId) -> String {
    format!("{PREFIX}{id}")
}

/// The connectors' records among all.
pub(super) fn of_records(records: Vec<(String, StateRecord)>) -> BTreeMap<ConnectorId, StateRecord> {
    let of_connectors = records.into_iter().filter_map(|(name, record)| {
        let id = name.strip_prefix(PREFIX)?.parse().ok()?;
        Some((id, record))
    });
    of_connectors.collect()
}

/// Reads a record back for a connector: none if it is of another server, or of another form. The offer must be the one
/// that the cache's state speaks of.
pub(super) fn restore(record: &StateRecord, connector: &Connector) -> Option<Saved> {
    let header: SavedHeader = record.header().ok()?;
    if header.origin != connector.origin_digest() {
        return None;
    }
    let Some(value) = &header.cache.state.value else { return Some(Saved { header, offer: None }) };
    // An offer is read back byte for byte: the digest of the bytes, which the store has verified, is that of the offer.
    if record.body.digest() != value.digest.parse().ok() {
        return None;
    }
    let offer = Offer::from_bytes(&record.body.bytes()).ok()?;
    Some(Saved { header, offer: Some(offer) })
}

/// Makes a record. The offer must be the one that the cache's state speaks of: it is rendered only if the store lacks it.
pub(super) fn record(header: &SavedHeader, offer: Option<&Offer>) -> Option<StateRecord> {
    // The policy gives the digest. One that does not parse costs the offer, and the header is kept.
    let body = header.offer_digest().zip(offer).map_or_else(Body::default, |(digest, offer)| {
        let length = ListKind::ALL.iter().map(|kind| offer.list(*kind).bytes().len()).sum();
        let offer = offer.clone();
        Body::deferred(digest, length, move || Bytes::from(offer.to_bytes()))
    });
    StateRecord::new(header, body).ok()
}

const PREFIX: &str = "connector-";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{About, ItemList};
    use crate::policy::contract::{CacheScope, ExpiryStanding, Instant, ValueFacts};

    fn header(digest: String) -> SavedHeader {
        let value = ValueFacts {
            digest,
            etag: None,
            key_id: None,
            version: None,
            signed_expiry_wall_ms: None,
            requested: Instant { wall_ms: 1, boot_ms: 1, boot_id: 1 },
            stale_since: None,
            fresh_ms: 1,
            soft_ms: 1,
            invalidated: false,
            standing: ExpiryStanding::Within,
            scope: CacheScope::Private,
            credential: String::new(),
        };
        let cache = Held::new(CacheState { value: Some(value), ..CacheState::initial() });
        SavedHeader { origin: Digest::of(b"origin"), cache, era: None, fetched_at: None, last_duration_ms: None }
    }

    #[test]
    fn a_digest_that_does_not_parse_costs_the_offer_and_no_header() {
        let offer = Offer::new(std::array::from_fn(|_| ItemList::empty()), About::default());
        for (digest, body) in [(offer.digest().to_string(), Some(offer.digest())), ("none".to_owned(), None)] {
            let record = record(&header(digest), Some(&offer)).unwrap();
            assert_eq!(record.body.digest(), body);
            assert!(record.header::<SavedHeader>().is_ok());
        }
    }
}
