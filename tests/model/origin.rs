//! The origin of a trace: it publishes documents, new and old ones, under a ring of two keys that changes over time.
//!
//! Its clock is right, whatever ours says. And the conversions between what the model notes and what the host is told.

use cortex_mcp::policy::UpkeepConfig;
use cortex_mcp::policy::contract::{CacheConfig, CacheScope, FetchedEvent, Instant, RefreshConfig, SubjectKind};

use crate::cache::{self, Arrival, Cache};
use crate::clock::{ModelClock, Stamp};
use crate::trace::{DAY, Document, Expiry, Setting, Which};

/// The origin.
#[derive(Debug)]
pub(crate) struct Origin {
    signs: bool,
    /// The version of the newest document.
    newest: u64,
    rotations: u64,
}

impl Origin {
    pub(crate) fn new(setting: Setting, clock: &ModelClock) -> Self {
        Self { signs: setting.kind == SubjectKind::ServiceMap, newest: clock.truth() - DAY, rotations: 0 }
    }

    /// One key leaves the ring, another comes.
    pub(crate) fn rotate(&mut self) {
        self.rotations += 1;
    }

    /// The keys that verify now.
    pub(crate) fn ring(&self) -> Vec<String> {
        vec![format!("key-{}", self.rotations), format!("key-{}", self.rotations + 1)]
    }

    /// A document, as it arrives. Lists of connectors are neither signed nor versioned.
    pub(crate) fn publish(
        &mut self,
        document: Document,
        credential: &str,
        requested: Stamp,
        clock: &ModelClock,
    ) -> Arrival {
        let wall = clock.stamp().wall;
        let twist = if matches!(document.which, Which::Twisted) { "x" } else { "" };
        let version = match document.which {
            Which::Newer(by) => {
                self.newest = (self.newest + 1).max(clock.truth().saturating_sub(by));
                self.newest
            }
            Which::Same | Which::Twisted => self.newest,
            Which::Older(by) => self.newest - by,
            Which::Ahead(by) => wall + by,
        };
        let key = self.ring().swap_remove(usize::from(document.second_key));
        let expiry = match document.expiry {
            Expiry::None => None,
            Expiry::In(by) => Some(wall + by),
            Expiry::Ago(by) => Some(wall.saturating_sub(by)),
        };
        Arrival {
            digest: format!("{version}{twist}"),
            key: self.signs.then_some(key),
            version: self.signs.then_some(version),
            expiry: expiry.filter(|_| self.signs),
            ttl: document.ttl,
            owner: document.private.then(|| credential.to_owned()),
            requested,
        }
    }
}

pub(crate) fn instant(stamp: Stamp) -> Instant {
    Instant { wall_ms: stamp.wall, boot_ms: stamp.boot, boot_id: stamp.boot_id }
}

pub(crate) fn fetched(arrival: &Arrival, tagged: bool, key_set: Vec<String>) -> FetchedEvent {
    FetchedEvent {
        digest: arrival.digest.clone(),
        etag: tagged.then(|| format!("\"{}\"", arrival.digest)),
        key_id: arrival.key.clone(),
        version: arrival.version,
        signed_expiry_wall_ms: arrival.expiry,
        ttl_ms: arrival.ttl,
        scope: if arrival.owner.is_some() { CacheScope::Private } else { CacheScope::Public },
        credential: arrival.owner.clone().unwrap_or_default(),
        requested: instant(arrival.requested),
        key_set,
    }
}

pub(crate) fn config(setting: Setting, cache: &Cache, now: Stamp) -> UpkeepConfig {
    UpkeepConfig {
        refresh: RefreshConfig {
            kind: setting.kind,
            mode: setting.mode,
            interval_ms: setting.interval,
            floor_ms: setting.floor,
            jitter_permille: 200,
            backoff_min_ms: setting.backoff.0,
            backoff_max_ms: setting.backoff.1,
            options: Vec::new(),
        },
        cache: CacheConfig {
            kind: setting.kind,
            boot_id: now.boot_id,
            ttl_min_ms: cache::TTL_LEAST,
            ttl_max_ms: cache::TTL_GREATEST,
            ttl_default_ms: cache::TTL_DEFAULT,
            soft_permille: 800,
            soft_jitter_permille: 100,
            max_stale_ms: setting.max_stale,
            skew_ms: cache::SKEW,
            negative_min_ms: cache::NEGATIVE_LEAST,
            negative_max_ms: cache::NEGATIVE_GREATEST,
            credential: cache.credential.clone(),
            options: Vec::new(),
        },
    }
}
