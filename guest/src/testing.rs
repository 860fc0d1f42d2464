//! Arbitrary values and fixtures for the tests of this crate.
//!
//! [`Picks`] turns one seed into values of every type, with numbers from the edges of their ranges as often as not, so
//! that a property over a seed is a property over all inputs. It is compiled into tests only.

use crate::environment::{Environment, Recorded, SplitMix64};
use crate::types::*;

/// The wall clock of the fixtures: 2023-11-14.
pub(crate) const WALL: u64 = 1_700_000_000_000;
/// The boot clock of the fixtures.
pub(crate) const BOOT: u64 = 1_000_000;
/// The boot id of the fixtures.
pub(crate) const BOOT_ID: u64 = 1;

/// The environment of the fixtures, `later` milliseconds on.
pub(crate) fn later(later: u64, seed: u64) -> Recorded {
    Recorded::new(WALL + later, BOOT + later, seed)
}

/// The defaults of a service map's cache.
pub(crate) fn cache_config() -> CacheConfig {
    CacheConfig {
        kind: SubjectKind::ServiceMap,
        boot_id: BOOT_ID,
        ttl_min_ms: 30_000,
        ttl_max_ms: 86_400_000,
        ttl_default_ms: 300_000,
        soft_permille: 800,
        soft_jitter_permille: 100,
        max_stale_ms: 86_400_000,
        skew_ms: 300_000,
        negative_min_ms: 5_000,
        negative_max_ms: 60_000,
        credential: "mine".to_owned(),
        options: Vec::new(),
    }
}

/// The moment of the fixtures, as a stored instant.
pub(crate) fn instant(later: u64) -> Instant {
    Instant { wall_ms: WALL + later, boot_ms: BOOT + later, boot_id: BOOT_ID }
}

/// A public, unversioned value that is fresh for five minutes.
pub(crate) fn value_facts(digest: &str) -> ValueFacts {
    ValueFacts {
        digest: digest.to_owned(),
        etag: Some(EntityTag { tag: "\"tag\"".to_owned(), digest: digest.to_owned() }),
        key_id: None,
        version: None,
        signed_expiry_wall_ms: None,
        requested: instant(0),
        stale_since: None,
        fresh_ms: 300_000,
        soft_ms: 240_000,
        invalidated: false,
        standing: ExpiryStanding::Within,
        scope: CacheScope::Public,
        credential: "mine".to_owned(),
    }
}

/// An entry without a counter.
pub(crate) fn entry(name: &str, wall_ms: u64, writer: &str, digest: &str) -> Entry {
    Entry {
        name: name.to_owned(),
        stamp: Hlc { wall_ms, counter: 0 },
        writer: writer.to_owned(),
        deleted: false,
        digest: digest.to_owned(),
    }
}

/// Every failure class.
pub(crate) const CLASSES: [FailureClass; 15] = [
    FailureClass::Dns,
    FailureClass::Refused,
    FailureClass::Timeout,
    FailureClass::Auth,
    FailureClass::NotFound,
    FailureClass::Gone,
    FailureClass::Throttled,
    FailureClass::Server,
    FailureClass::Oversize,
    FailureClass::Redirect,
    FailureClass::Decode,
    FailureClass::Signature,
    FailureClass::Schema,
    FailureClass::Expiry,
    FailureClass::Rollback,
];

/// Arbitrary values, all of them functions of one seed.
pub(crate) struct Picks(SplitMix64);

impl Picks {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SplitMix64::new(seed))
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.draw_u64() % bound.max(1)
    }

    pub(crate) fn chance(&mut self) -> bool {
        self.below(2) == 0
    }

    /// Any number: small ones, plausible times, and the edges.
    pub(crate) fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => 0,
            1 => 1,
            2 => self.below(1_000),
            3 => self.below(90_000_000),
            4 => WALL.wrapping_add(self.below(10_000_000)).wrapping_sub(5_000_000),
            5 => self.below(1 << 53),
            6 => u64::MAX - self.below(3),
            _ => self.0.draw_u64(),
        }
    }

    pub(crate) fn small(&mut self) -> u32 {
        match self.below(4) {
            0 => self.below(4) as u32,
            1 => self.below(1_200) as u32,
            2 => u32::MAX - self.below(2) as u32,
            _ => self.0.draw(),
        }
    }

    pub(crate) fn pick<T: Clone>(&mut self, among: &[T]) -> T {
        among[self.below(among.len() as u64) as usize].clone()
    }

    pub(crate) fn option<T>(&mut self, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        if self.chance() { Some(value(self)) } else { None }
    }

    pub(crate) fn name(&mut self) -> String {
        self.pick(&["", "a", "b", "c", "d", "e"]).to_owned()
    }

    pub(crate) fn class(&mut self) -> FailureClass {
        self.pick(&CLASSES)
    }

    pub(crate) fn environment(&mut self) -> Recorded {
        Recorded::new(self.number(), self.number(), self.number())
    }

    pub(crate) fn hlc(&mut self) -> Hlc {
        Hlc { wall_ms: self.number(), counter: self.small() }
    }

    pub(crate) fn entry(&mut self) -> Entry {
        Entry {
            name: self.name(),
            stamp: if self.chance() {
                Hlc { wall_ms: self.below(3), counter: self.below(2) as u32 }
            } else {
                self.hlc()
            },
            writer: self.name(),
            deleted: self.chance(),
            digest: self.name(),
        }
    }

    pub(crate) fn entries(&mut self) -> Vec<Entry> {
        (0..self.below(12)).map(|_| self.entry()).collect()
    }

    pub(crate) fn found(&mut self) -> FoundEntry {
        FoundEntry {
            name: self.name(),
            digest: self.name(),
            stamp: self.option(|picks| picks.hlc()),
            writer: self.option(|picks| picks.name()),
        }
    }

    pub(crate) fn candidate(&mut self) -> Candidate {
        Candidate {
            id: self.name(),
            failures: if self.chance() { 0 } else { self.small() },
            last_class: self.option(|picks| picks.class()),
            last_duration_ms: self.option(|picks| picks.number()),
            serving: self.chance(),
            wanted: self.chance(),
        }
    }

    pub(crate) fn refresh_config(&mut self) -> RefreshConfig {
        RefreshConfig {
            kind: self.pick(&[SubjectKind::ServiceMap, SubjectKind::Connector]),
            mode: self.pick(&[RefreshMode::Background, RefreshMode::OnDemand]),
            interval_ms: self.number(),
            floor_ms: self.number(),
            jitter_permille: self.small(),
            backoff_min_ms: self.number(),
            backoff_max_ms: self.number(),
            options: Vec::new(),
        }
    }

    pub(crate) fn refresh_reason(&mut self) -> RefreshReason {
        self.pick(&[
            RefreshReason::ColdStart,
            RefreshReason::Steady,
            RefreshReason::Backoff,
            RefreshReason::RetryAfter,
            RefreshReason::AuthWait,
            RefreshReason::Forced,
            RefreshReason::WantedBackground,
        ])
    }

    pub(crate) fn refresh_state(&mut self) -> RefreshState {
        let phase = match self.below(3) {
            0 => RefreshPhase::Idle,
            1 => RefreshPhase::Armed(ArmedRun { run_at_boot_ms: self.number(), reason: self.refresh_reason() }),
            _ => RefreshPhase::Running(ActiveRun {
                run_id: self.below(3),
                since_boot_ms: self.number(),
                again: self.chance(),
            }),
        };
        RefreshState {
            phase,
            failures: self.small(),
            last_class: self.option(|picks| picks.class()),
            interval_ms: self.number(),
            next_run_id: self.number(),
            last_end_boot_ms: self.option(|picks| picks.number()),
            boot_id: self.below(3),
            memo: Vec::new(),
        }
    }

    /// An event; results carry `run_id` or one nearby.
    pub(crate) fn refresh_event(&mut self, run_id: u64) -> RefreshEvent {
        let run_id = if self.below(4) == 0 { self.below(9) } else { run_id };
        match self.below(13) {
            0 => RefreshEvent::Started(StartedEvent {
                start: self.pick(&[StartKind::Cold, StartKind::Warm, StartKind::WarmStale]),
                boot_id: self.below(3),
            }),
            1 | 2 => RefreshEvent::Began,
            3 => RefreshEvent::Succeeded(SucceededEvent {
                run_id,
                duration_ms: self.number(),
                fresh_for_ms: self.option(|picks| picks.number()),
            }),
            4 => RefreshEvent::Failed(FailedEvent {
                run_id,
                class: self.class(),
                retry_after_ms: self.option(|picks| picks.number()),
                duration_ms: self.number(),
                serving: self.chance(),
            }),
            5 => RefreshEvent::Cancelled(run_id),
            6 => RefreshEvent::Wanted(Urgency::Background),
            7 => RefreshEvent::Wanted(Urgency::Blocking),
            8 => RefreshEvent::Forced,
            9 => RefreshEvent::Changed,
            10 => RefreshEvent::Resumed,
            11 => RefreshEvent::ConfigChanged,
            _ => RefreshEvent::CredentialsChanged,
        }
    }

    pub(crate) fn instant(&mut self) -> Instant {
        Instant { wall_ms: self.number(), boot_ms: self.number(), boot_id: self.below(3) }
    }

    pub(crate) fn cache_config(&mut self) -> CacheConfig {
        CacheConfig {
            kind: self.pick(&[SubjectKind::ServiceMap, SubjectKind::Connector]),
            boot_id: self.below(3),
            ttl_min_ms: self.number(),
            ttl_max_ms: self.number(),
            ttl_default_ms: self.number(),
            soft_permille: self.small(),
            soft_jitter_permille: self.small(),
            max_stale_ms: self.number(),
            skew_ms: self.number(),
            negative_min_ms: self.number(),
            negative_max_ms: self.number(),
            credential: self.name(),
            options: Vec::new(),
        }
    }

    pub(crate) fn value_facts(&mut self) -> ValueFacts {
        ValueFacts {
            digest: self.name(),
            etag: self.option(|picks| EntityTag { tag: picks.name(), digest: picks.name() }),
            key_id: self.option(|picks| picks.name()),
            version: self.option(|picks| picks.number()),
            signed_expiry_wall_ms: self.option(|picks| picks.number()),
            requested: self.instant(),
            stale_since: self.option(|picks| picks.instant()),
            fresh_ms: self.number(),
            soft_ms: self.number(),
            invalidated: self.chance(),
            standing: self.pick(&[ExpiryStanding::Within, ExpiryStanding::ArrivedExpired, ExpiryStanding::Frozen]),
            scope: self.pick(&[CacheScope::Public, CacheScope::Private]),
            credential: self.name(),
        }
    }

    pub(crate) fn cache_state(&mut self) -> CacheState {
        CacheState {
            value: self.option(|picks| picks.value_facts()),
            ratchets: (0..self.below(20))
                .map(|_| Ratchet { key_id: self.name(), version: self.number(), digest: self.name() })
                .collect(),
            failing: self.option(|picks| Failing {
                count: picks.small(),
                class: picks.class(),
                at: picks.instant(),
                until_boot_ms: picks.number(),
            }),
            in_flight: self.option(|picks| picks.number()),
            expired_arrivals: (0..self.below(7))
                .map(|_| ExpiredArrival { digest: self.name(), first: self.instant() })
                .collect(),
            memo: Vec::new(),
        }
    }

    pub(crate) fn cache_event(&mut self) -> CacheEvent {
        match self.below(12) {
            0 => CacheEvent::Began(self.number()),
            1..=3 => CacheEvent::Fetched(FetchedEvent {
                digest: self.name(),
                etag: self.option(|picks| picks.name()),
                key_id: self.option(|picks| picks.name()),
                version: self.option(|picks| picks.number()),
                signed_expiry_wall_ms: self.option(|picks| picks.number()),
                ttl_ms: self.option(|picks| picks.number()),
                scope: self.pick(&[CacheScope::Public, CacheScope::Private]),
                credential: self.name(),
                requested: self.instant(),
                key_set: (0..self.below(4)).map(|_| self.name()).collect(),
            }),
            4 => CacheEvent::NotModified(NotModifiedEvent {
                digest: self.name(),
                requested: self.instant(),
                ttl_ms: self.option(|picks| picks.number()),
            }),
            5 => CacheEvent::Failed(self.class()),
            6 => CacheEvent::Cancelled,
            7 => CacheEvent::Changed,
            8 => CacheEvent::Invalidated,
            9 => CacheEvent::Restored,
            10 => CacheEvent::Revoked,
            _ => CacheEvent::CredentialsChanged,
        }
    }
}

#[test]
fn fixtures_are_a_function_of_their_seed() {
    assert_eq!(Picks::new(7).cache_state(), Picks::new(7).cache_state());
    assert_eq!(later(5, 1).boot_ms(), BOOT + 5);
}
