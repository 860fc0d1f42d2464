//! What an event means for a cached value.
//!
//! A fetch that failed, or that brought something older, contradictory or from the future, leaves what is held alone
//! (R3, R6; the seeds' defects D1, D9 and D10). What is verified and newer takes its place at once. Nothing here reads
//! or compares content: bytes stay in the host, and are known by their digests.
//!
//! # Time
//!
//! How long a value is fresh is fixed when it is stored: its time to live, clamped, but never past its signed expiry
//! (R4, R7). From then on the boot clock alone ends it, so that a wall clock that steps later neither extends a life nor
//! ends one early. An early end (an announced change, an invalidation, a freeze) shortens the fresh time to the age
//! reached, so that staleness counts from that moment.
//!
//! # Refusals
//!
//! A refused value counts as a failed fetch: `failing` grows here, by the class that the refusal has. A host must not
//! send `failed` for the same run as well.

use super::age::Now;
use crate::environment::{Environment, after, exponential, share, uniform};
use crate::limits::{ALL_PERMILLE, EXPIRED_ARRIVALS_GREATEST, RATCHETS_GREATEST, TIME_MAX_MS};
use crate::types::{
    AdvanceDecision, AdvanceOutcome, AdvanceReason, CacheConfig, CacheEvent, CacheScope, CacheState, EntityTag,
    ExpiredArrival, ExpiryStanding, Failing, FailureClass, FetchedEvent, Instant, NotModifiedEvent, Ratchet,
    ValueFacts,
};

#[cfg(test)]
mod tests;

/// The state before the first event: nothing is held, nothing is known.
#[must_use]
pub fn initial_cache_state() -> CacheState {
    CacheState {
        value: None,
        ratchets: Vec::new(),
        failing: None,
        in_flight: None,
        expired_arrivals: Vec::new(),
        memo: Vec::new(),
    }
}

/// Decides what an event means for a cached value.
pub fn advance(
    environment: &mut dyn Environment,
    config: &CacheConfig,
    state: CacheState,
    event: CacheEvent,
) -> AdvanceDecision {
    let now = Now::read(environment, config.boot_id);
    let mut cache = Cache { environment, config, now, state };
    let (outcome, reason) = cache.handle(event);
    AdvanceDecision { state: cache.state, outcome, reason }
}

/// One decision in the making.
struct Cache<'a> {
    environment: &'a mut dyn Environment,
    config: &'a CacheConfig,
    now: Now,
    state: CacheState,
}

/// What was done, and why.
type Answer = (AdvanceOutcome, AdvanceReason);

impl Cache<'_> {
    fn handle(&mut self, event: CacheEvent) -> Answer {
        match event {
            CacheEvent::Began(run_id) => {
                self.state.in_flight = Some(run_id);
                (AdvanceOutcome::Kept, AdvanceReason::Began)
            }
            CacheEvent::Fetched(event) => self.fetched(event),
            CacheEvent::NotModified(event) => self.not_modified(&event),
            CacheEvent::Failed(class) => self.failed(class),
            CacheEvent::Cancelled => {
                self.state.in_flight = None;
                (AdvanceOutcome::Kept, AdvanceReason::Cancelled)
            }
            CacheEvent::Changed => self.end_freshness(AdvanceReason::Changed),
            CacheEvent::Invalidated => self.end_freshness(AdvanceReason::Invalidated),
            CacheEvent::Restored => {
                // The process that was fetching is gone.
                self.state.in_flight = None;
                (AdvanceOutcome::Kept, AdvanceReason::Restored)
            }
            CacheEvent::Revoked => {
                // The ratchets stay: what was revoked may not come back as an older version.
                self.state.value = None;
                (AdvanceOutcome::Dropped, AdvanceReason::Revoked)
            }
            CacheEvent::CredentialsChanged => self.credentials_changed(),
        }
    }

    // ---- a value came -----------------------------------------------------------------------------------------------

    fn fetched(&mut self, event: FetchedEvent) -> Answer {
        self.state.in_flight = None;
        if let Some(refusal) = self.refusal(&event) {
            return self.refuse(refusal);
        }
        let expired = event.signed_expiry_wall_ms.is_some_and(|expiry| self.now.wall_ms >= expiry);
        let same = self.state.value.as_ref().is_some_and(|value| value.digest == event.digest);
        if same && expired {
            self.state.failing = None;
            return self.freeze();
        }
        if expired && self.holds_as_new(&event) {
            return self.refuse(AdvanceReason::RefusedExpired);
        }
        self.raise_ratchet(&event);
        self.state.failing = None;
        let facts = if expired { self.facts_of_expired(event) } else { self.facts_of(event) };
        self.state.value = Some(facts);
        match (same, expired) {
            (true, _) => (AdvanceOutcome::Kept, AdvanceReason::SameAgain),
            (false, true) => (AdvanceOutcome::Stored, AdvanceReason::ArrivedExpired),
            (false, false) => (AdvanceOutcome::Stored, AdvanceReason::Newer),
        }
    }

    /// Why a value may not be accepted, by its version alone (R3). Unversioned values have no order.
    fn refusal(&self, event: &FetchedEvent) -> Option<AdvanceReason> {
        let version = event.version?;
        if version > self.now.wall_ms.saturating_add(self.config.skew_ms) {
            return Some(AdvanceReason::FromTheFuture);
        }
        let key = key_of(event.key_id.as_ref());
        for ratchet in self.state.ratchets.iter().filter(|ratchet| ratchet.key_id == key) {
            if version < ratchet.version {
                return Some(AdvanceReason::Rollback);
            }
            if version == ratchet.version && event.digest != ratchet.digest {
                return Some(AdvanceReason::Equivocation);
            }
        }
        let held = self.state.value.as_ref()?;
        let held_version = held.version?;
        let held_key = key_of(held.key_id.as_ref());
        if version < held_version && binds(held_key, event) {
            return Some(AdvanceReason::Rollback);
        }
        if version == held_version && key == held_key && event.digest != held.digest {
            return Some(AdvanceReason::Equivocation);
        }
        None
    }

    /// Whether something as new as this expired value is held, other than these very bytes.
    fn holds_as_new(&self, event: &FetchedEvent) -> bool {
        let Some(held) = &self.state.value else {
            return false;
        };
        match (held.version, event.version) {
            (Some(held_version), Some(version)) => {
                held_version >= version && binds(key_of(held.key_id.as_ref()), event)
            }
            // Without versions nothing tells which is newer: an expired value proves nothing against one that is held.
            (_, None) => true,
            (None, Some(_)) => false,
        }
    }

    fn refuse(&mut self, reason: AdvanceReason) -> Answer {
        let class = match reason {
            AdvanceReason::RefusedExpired => FailureClass::Expiry,
            _ => FailureClass::Rollback,
        };
        self.count_failure(class);
        (AdvanceOutcome::Rejected, reason)
    }

    fn raise_ratchet(&mut self, event: &FetchedEvent) {
        let Some(version) = event.version else {
            return;
        };
        let key_id = key_of(event.key_id.as_ref());
        // One ratchet for each key: whatever the state held, only the newest of this key goes on.
        self.state.ratchets.retain(|ratchet| ratchet.key_id != key_id);
        self.state.ratchets.push(Ratchet { key_id: key_id.to_owned(), version, digest: event.digest.clone() });
        while self.state.ratchets.len() > RATCHETS_GREATEST {
            let older = self.state.ratchets.len() - 1;
            let oldest = (0..older).min_by_key(|at| self.state.ratchets.get(*at).map(|ratchet| ratchet.version));
            match oldest {
                Some(at) => drop(self.state.ratchets.remove(at)),
                None => break,
            }
        }
    }

    fn facts_of(&mut self, event: FetchedEvent) -> ValueFacts {
        let fresh_ms = self.fresh_time(event.ttl_ms, event.signed_expiry_wall_ms, &event.requested);
        let soft_ms = self.soft_point(fresh_ms);
        facts(event, ExpiryStanding::Within, None, fresh_ms, soft_ms)
    }

    fn facts_of_expired(&mut self, event: FetchedEvent) -> ValueFacts {
        let known = self.state.expired_arrivals.iter().find(|arrival| arrival.digest == event.digest);
        let first = match known {
            Some(arrival) => arrival.first,
            None => {
                let first = self.now.instant();
                let arrivals = &mut self.state.expired_arrivals;
                arrivals.push(ExpiredArrival { digest: event.digest.clone(), first });
                let surplus = arrivals.len().saturating_sub(EXPIRED_ARRIVALS_GREATEST);
                arrivals.drain(..surplus);
                first
            }
        };
        facts(event, ExpiryStanding::ArrivedExpired, Some(first), 0, 0)
    }

    // ---- the origin has nothing new ---------------------------------------------------------------------------------

    fn not_modified(&mut self, event: &NotModifiedEvent) -> Answer {
        self.state.in_flight = None;
        let credential = &self.config.credential;
        let Some(value) = self.state.value.as_mut() else {
            return (AdvanceOutcome::Kept, AdvanceReason::ConfirmedOther);
        };
        let foreign = value.scope == CacheScope::Private && value.credential != *credential;
        if value.digest != event.digest || foreign {
            // The tag lied about our bytes: the next request must go without it (R4).
            value.etag = None;
            return (AdvanceOutcome::Kept, AdvanceReason::ConfirmedOther);
        }
        let expiry = value.signed_expiry_wall_ms;
        self.state.failing = None;
        if expiry.is_some_and(|expiry| self.now.wall_ms >= expiry) {
            return self.freeze();
        }
        let fresh_ms = self.fresh_time(event.ttl_ms, expiry, &event.requested);
        let soft_ms = self.soft_point(fresh_ms);
        if let Some(value) = self.state.value.as_mut() {
            value.requested = event.requested;
            value.fresh_ms = fresh_ms;
            value.soft_ms = soft_ms;
            value.invalidated = false;
            value.stale_since = None;
            value.standing = ExpiryStanding::Within;
        }
        (AdvanceOutcome::Kept, AdvanceReason::Confirmed)
    }

    /// The origin confirms bytes past their signed expiry: nothing becomes fresher, and the next request must be
    /// unconditional, lest a cache in between keeps us here.
    fn freeze(&mut self) -> Answer {
        self.shorten_freshness();
        if let Some(value) = self.state.value.as_mut() {
            value.etag = None;
            value.standing = ExpiryStanding::Frozen;
        }
        (AdvanceOutcome::Kept, AdvanceReason::Frozen)
    }

    // ---- the value is worth less ------------------------------------------------------------------------------------

    fn failed(&mut self, class: FailureClass) -> Answer {
        self.state.in_flight = None;
        self.count_failure(class);
        if class == FailureClass::Gone {
            self.state.value = None;
            return (AdvanceOutcome::Dropped, AdvanceReason::Gone);
        }
        (AdvanceOutcome::Kept, AdvanceReason::Failed)
    }

    fn count_failure(&mut self, class: FailureClass) {
        let count = self.state.failing.as_ref().map_or(0, |failing| failing.count).saturating_add(1);
        let least = self.config.negative_min_ms;
        let pace = exponential(least, self.config.negative_max_ms.max(least), count);
        self.state.failing =
            Some(Failing { count, class, at: self.now.instant(), until_boot_ms: after(self.now.boot_ms, pace) });
    }

    fn end_freshness(&mut self, reason: AdvanceReason) -> Answer {
        self.shorten_freshness();
        if let Some(value) = self.state.value.as_mut() {
            value.invalidated = true;
        }
        (AdvanceOutcome::Kept, reason)
    }

    /// Ends the fresh time now, so that staleness counts from now; an unknown age ends it at the request.
    fn shorten_freshness(&mut self) {
        let skew_ms = self.config.skew_ms;
        if let Some(value) = self.state.value.as_mut() {
            let age = self.now.since(&value.requested, skew_ms).unwrap_or(0);
            value.fresh_ms = value.fresh_ms.min(age);
            value.soft_ms = value.soft_ms.min(value.fresh_ms);
        }
    }

    fn credentials_changed(&mut self) -> Answer {
        // What the old credential was refused says nothing about the new one (R8).
        self.state.failing = None;
        let foreign = self
            .state
            .value
            .as_ref()
            .is_some_and(|value| value.scope == CacheScope::Private && value.credential != self.config.credential);
        if foreign {
            self.state.value = None;
            return (AdvanceOutcome::Dropped, AdvanceReason::CredentialsChanged);
        }
        (AdvanceOutcome::Kept, AdvanceReason::CredentialsChanged)
    }

    // ---- times ------------------------------------------------------------------------------------------------------

    /// For how long from its request a value is fresh: zero stays zero, everything else is clamped (R7), and nothing is
    /// fresh past its signed expiry (R4).
    fn fresh_time(&self, ttl_ms: Option<u64>, signed_expiry_wall_ms: Option<u64>, requested: &Instant) -> u64 {
        let ttl = match ttl_ms.unwrap_or(self.config.ttl_default_ms) {
            0 => 0,
            ttl => ttl.max(self.config.ttl_min_ms).min(self.config.ttl_max_ms),
        };
        let signed = signed_expiry_wall_ms.map_or(u64::MAX, |expiry| expiry.saturating_sub(requested.wall_ms));
        ttl.min(signed).min(TIME_MAX_MS)
    }

    /// The soft point: a share of the fresh time, less some jitter, so that a fleet does not refresh as one.
    fn soft_point(&mut self, fresh_ms: u64) -> u64 {
        let soft = u64::from(self.config.soft_permille).min(ALL_PERMILLE);
        let spread = u64::from(self.config.soft_jitter_permille).min(soft);
        let earlier = uniform(self.environment, share(fresh_ms, spread));
        share(fresh_ms, soft).saturating_sub(earlier)
    }
}

/// The name under which a key's ratchet stands: empty for unsigned values.
fn key_of(key_id: Option<&String>) -> &str {
    key_id.map_or("", String::as_str)
}

/// Whether what was accepted under this key binds this value: the key still verifies, or it is the value's own.
fn binds(key: &str, event: &FetchedEvent) -> bool {
    key == key_of(event.key_id.as_ref()) || event.key_set.iter().any(|known| known == key)
}

fn facts(
    event: FetchedEvent,
    standing: ExpiryStanding,
    stale_since: Option<Instant>,
    fresh_ms: u64,
    soft_ms: u64,
) -> ValueFacts {
    ValueFacts {
        etag: event.etag.map(|tag| EntityTag { tag, digest: event.digest.clone() }),
        digest: event.digest,
        key_id: event.key_id,
        version: event.version,
        signed_expiry_wall_ms: event.signed_expiry_wall_ms,
        requested: event.requested,
        stale_since,
        fresh_ms,
        soft_ms,
        invalidated: false,
        standing,
        scope: event.scope,
        credential: event.credential,
    }
}
