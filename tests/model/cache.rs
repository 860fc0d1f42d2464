//! What a reader must be told about a value: the rules R1 to R8 as the design reads them, kept as simple as they are
//! said. Written from the rules, not from the policy, and with types of its own.
//!
//! The reference remembers what was accepted and when, and says of every moment which value may be served, how good it
//! is at best and at worst, and what a reader may ask for.

use std::collections::BTreeMap;

use cortex_mcp::policy::contract::{
    AdvanceOutcome, AdvanceReason, FailureClass, Freshness, LookupDecision, LookupReason, ServeVerdict, Wanted,
};

use crate::clock::Stamp;
use crate::trace::{DAY, MINUTE, SECOND};

pub(crate) const SKEW: u64 = 5 * MINUTE;
pub(crate) const TTL_LEAST: u64 = 30 * SECOND;
pub(crate) const TTL_GREATEST: u64 = DAY;
pub(crate) const TTL_DEFAULT: u64 = 5 * MINUTE;
pub(crate) const NEGATIVE_LEAST: u64 = 5 * SECOND;
pub(crate) const NEGATIVE_GREATEST: u64 = MINUTE;

/// A document that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) digest: String,
    pub(crate) key: Option<String>,
    pub(crate) version: Option<u64>,
    pub(crate) expiry: Option<u64>,
    pub(crate) ttl: Option<u64>,
    /// The credential it is private to.
    pub(crate) owner: Option<String>,
    pub(crate) requested: Stamp,
}

/// The value that may be served.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub(crate) arrival: Arrival,
    /// Since when it was last known to be right.
    pub(crate) requested: Stamp,
    /// For how long from then.
    pub(crate) fresh: u64,
    /// The first arrival of bytes that were expired already.
    pub(crate) first: Option<Stamp>,
    /// Its fresh time was ended early.
    pub(crate) early: bool,
    pub(crate) frozen: bool,
}

/// The reference.
#[derive(Debug)]
pub(crate) struct Cache {
    pub(crate) max_stale: u64,
    pub(crate) credential: String,
    pub(crate) held: Option<Held>,
    /// The newest accepted under each key.
    accepted: BTreeMap<String, (u64, String)>,
    /// Bytes that arrived expired, oldest first: four are remembered.
    expired: Vec<(String, Stamp)>,
    /// When the last fetch failed, and how, if none did well since.
    failing: Option<(Stamp, FailureClass)>,
}

/// What must become of an arrival.
type Expected = (AdvanceOutcome, AdvanceReason);

impl Cache {
    pub(crate) fn new(max_stale: u64) -> Self {
        let credential = String::from("credential-0");
        Self { max_stale, credential, held: None, accepted: BTreeMap::new(), expired: Vec::new(), failing: None }
    }

    // ---- events -----------------------------------------------------------------------------------------------------

    /// A verified document came (R3, R4, R6, D1, D8, D9).
    pub(crate) fn arrived(&mut self, arrival: Arrival, now: Stamp, ring: &[String]) -> Expected {
        if let Some(reason) = self.refused(&arrival, now, ring) {
            let class = match reason {
                AdvanceReason::RefusedExpired => FailureClass::Expiry,
                _ => FailureClass::Rollback,
            };
            self.failing = Some((now, class));
            return (AdvanceOutcome::Rejected, reason);
        }
        self.failing = None;
        let expired = arrival.expiry.is_some_and(|expiry| expiry <= now.wall);
        let same = self.held.as_ref().is_some_and(|held| held.arrival.digest == arrival.digest);
        if same && expired {
            return self.freeze(now);
        }
        if let Some(version) = arrival.version {
            let key = arrival.key.clone().unwrap_or_default();
            self.accepted.insert(key, (version, arrival.digest.clone()));
        }
        let first = expired.then(|| self.first_arrival(&arrival.digest, now));
        let fresh = if expired { 0 } else { fresh_time(arrival.ttl, arrival.expiry, arrival.requested) };
        let requested = arrival.requested;
        self.held = Some(Held { arrival, requested, fresh, first, early: expired, frozen: false });
        match (same, expired) {
            (true, _) => (AdvanceOutcome::Kept, AdvanceReason::SameAgain),
            (false, true) => (AdvanceOutcome::Stored, AdvanceReason::ArrivedExpired),
            (false, false) => (AdvanceOutcome::Stored, AdvanceReason::Newer),
        }
    }

    fn refused(&self, arrival: &Arrival, now: Stamp, ring: &[String]) -> Option<AdvanceReason> {
        let expired = arrival.expiry.is_some_and(|expiry| expiry <= now.wall);
        let held = self.held.as_ref();
        let Some(version) = arrival.version else {
            let other = held.is_some_and(|held| held.arrival.digest != arrival.digest);
            return (expired && other).then_some(AdvanceReason::RefusedExpired);
        };
        if version > now.wall + SKEW {
            return Some(AdvanceReason::FromTheFuture);
        }
        let key = arrival.key.clone().unwrap_or_default();
        // The newest under this key.
        match self.accepted.get(&key) {
            Some((newest, _)) if version < *newest => return Some(AdvanceReason::Rollback),
            Some((newest, digest)) if version == *newest && *digest != arrival.digest => {
                return Some(AdvanceReason::Equivocation);
            }
            _ => {}
        }
        // And the map in force, unless its key has left.
        let in_force = held.filter(|held| held.arrival.key.as_ref().is_some_and(|key| ring.contains(key)));
        let in_force = in_force.and_then(|held| held.arrival.version);
        if in_force.is_some_and(|held| version < held) {
            return Some(AdvanceReason::Rollback);
        }
        let same = held.is_some_and(|held| held.arrival.digest == arrival.digest);
        let as_new = in_force.is_some_and(|held| held >= version);
        (expired && as_new && !same).then_some(AdvanceReason::RefusedExpired)
    }

    fn first_arrival(&mut self, digest: &str, now: Stamp) -> Stamp {
        if let Some((_, first)) = self.expired.iter().find(|(known, _)| known == digest) {
            return *first;
        }
        self.expired.push((digest.to_owned(), now));
        if self.expired.len() > 4 {
            self.expired.remove(0);
        }
        now
    }

    /// The origin confirmed what is held, or bytes that are not (R4).
    pub(crate) fn confirmed(&mut self, digest: &str, ttl: Option<u64>, requested: Stamp, now: Stamp) -> Expected {
        let known = self.visible().is_some_and(|held| held.arrival.digest == digest);
        if !known {
            return (AdvanceOutcome::Kept, AdvanceReason::ConfirmedOther);
        }
        self.failing = None;
        let expiry = self.held.as_ref().and_then(|held| held.arrival.expiry);
        if expiry.is_some_and(|expiry| expiry <= now.wall) {
            return self.freeze(now);
        }
        if let Some(held) = &mut self.held {
            held.requested = requested;
            held.fresh = fresh_time(ttl, expiry, requested);
            (held.first, held.early, held.frozen) = (None, false, false);
        }
        (AdvanceOutcome::Kept, AdvanceReason::Confirmed)
    }

    fn freeze(&mut self, now: Stamp) -> Expected {
        self.end_freshness(now);
        if let Some(held) = &mut self.held {
            held.frozen = true;
        }
        (AdvanceOutcome::Kept, AdvanceReason::Frozen)
    }

    /// A change was announced, or the value is frozen: it is stale from now on.
    pub(crate) fn end_freshness(&mut self, now: Stamp) {
        if let Some(held) = &mut self.held {
            let age = age(held.requested, now).unwrap_or(0);
            held.fresh = held.fresh.min(age);
            held.early = true;
        }
    }

    /// A fetch failed: what is held stays, unless the origin says that it is gone (R6, R8, D10).
    pub(crate) fn failed(&mut self, class: FailureClass, now: Stamp) {
        self.failing = Some((now, class));
        if class == FailureClass::Gone {
            self.held = None;
        }
    }

    // ---- verdicts ---------------------------------------------------------------------------------------------------

    /// The value, if this credential may see it.
    fn visible(&self) -> Option<&Held> {
        self.held.as_ref().filter(|held| held.arrival.owner.as_ref().is_none_or(|owner| *owner == self.credential))
    }

    /// Whether only the wall clock knows the age of the value: it is of another boot.
    pub(crate) fn hangs_on_wall(&self, now: Stamp) -> bool {
        self.held.as_ref().is_some_and(|held| held.since().boot_id != now.boot_id)
    }

    /// How fresh the value still is, for the schedule; none if it carries no hint or the wall clock alone would know.
    pub(crate) fn remaining(&self, now: Stamp) -> Option<u64> {
        let held = self.held.as_ref()?;
        if held.requested.boot_id != now.boot_id {
            return None;
        }
        Some(if held.first.is_some() { 0 } else { held.fresh.saturating_sub(age(held.requested, now)?) })
    }

    /// Whether the value may be served now.
    pub(crate) fn serves(&self, now: Stamp) -> bool {
        self.visible().is_some_and(|held| held.freshness(now, self.max_stale) != Freshness::Expired)
    }

    /// What is wrong with a verdict, if anything is.
    pub(crate) fn wrong(&self, verdict: &LookupDecision, running: bool, now: Stamp) -> Option<String> {
        let serve = verdict.serve == ServeVerdict::Serve;
        if serve != self.serves(now) {
            return Some(format!("R1: served is {serve}, and must not be"));
        }
        let expected = match self.visible() {
            None => Freshness::Empty,
            Some(held) => match held.freshness(now, self.max_stale) {
                // The soft point is drawn: at 0.8 of the fresh time, at most a tenth earlier.
                Freshness::Fresh => {
                    let (age, fresh) = (age(held.requested, now).unwrap_or(0), held.fresh);
                    let may = |state| match state {
                        Freshness::Fresh => age <= fresh * 8 / 10,
                        _ => age + 1 >= fresh * 7 / 10,
                    };
                    let named = matches!(verdict.state, Freshness::Fresh | Freshness::Soft) && may(verdict.state);
                    if named { verdict.state } else { Freshness::Fresh }
                }
                Freshness::Stale if held.frozen => Freshness::Frozen,
                Freshness::Stale if self.failing.is_some() => Freshness::StaleError,
                other => other,
            },
        };
        if verdict.state != expected {
            return Some(format!("D6: the state is {:?}, and must be {expected:?}", verdict.state));
        }
        if let Some(wanted) = self.wrong_wish(verdict.wanted, expected, running, now) {
            return Some(wanted);
        }
        let unexplained = serve && verdict.reason == LookupReason::NoValue;
        unexplained.then(|| "R9: what is served is explained by its absence".to_owned())
    }

    /// What a reader may ask for (D4, R5, R8).
    fn wrong_wish(&self, wanted: Wanted, state: Freshness, running: bool, now: Stamp) -> Option<String> {
        let serves = self.serves(now);
        let full = if serves { Wanted::Background } else { Wanted::Blocking };
        let allowed: &[Wanted] = match self.failing {
            _ if running || state == Freshness::Fresh => &[Wanted::None],
            None => &[full],
            Some((at, class)) => {
                let full = if class == FailureClass::Auth { Wanted::Background } else { full };
                match now.boot.saturating_sub(at.boot) {
                    _ if at.boot_id != now.boot_id => &[full],
                    since if since < NEGATIVE_LEAST => &[Wanted::None],
                    since if since < NEGATIVE_GREATEST => &[full, Wanted::None],
                    _ => &[full],
                }
            }
        };
        (!allowed.contains(&wanted)).then(|| format!("R8: a reader wants {wanted:?}, and may want {allowed:?}"))
    }
}

impl Held {
    /// Since when its age is counted.
    fn since(&self) -> Stamp {
        self.first.unwrap_or(self.requested)
    }

    /// Fresh, stale or expired: by time alone (R1, R2, R7).
    fn freshness(&self, now: Stamp, max_stale: u64) -> Freshness {
        let fresh = if self.first.is_some() { 0 } else { self.fresh };
        // Of another boot, and the wall clock knows nothing: stale, and no longer than this boot lasts.
        let (age, known) = match age(self.since(), now) {
            Some(age) => (age, true),
            None => (now.boot, false),
        };
        if known && !self.early && age < fresh {
            Freshness::Fresh
        } else if max_stale > 0 && age < fresh + max_stale {
            Freshness::Stale
        } else {
            Freshness::Expired
        }
    }
}

/// The age of something: by the boot clock within a boot (R1), else by the wall clock, if that can know (R2).
fn age(since: Stamp, now: Stamp) -> Option<u64> {
    if since.boot_id == now.boot_id {
        return Some(now.boot.saturating_sub(since.boot));
    }
    let known = now.wall + SKEW >= since.wall;
    known.then(|| now.wall.saturating_sub(since.wall))
}

/// Fresh until `min(request + ttl, signed expiry)` (R4, R7).
fn fresh_time(ttl: Option<u64>, expiry: Option<u64>, requested: Stamp) -> u64 {
    let ttl = match ttl {
        Some(0) => 0,
        ttl => ttl.unwrap_or(TTL_DEFAULT).clamp(TTL_LEAST, TTL_GREATEST),
    };
    expiry.map_or(ttl, |expiry| ttl.min(expiry.saturating_sub(requested.wall)))
}
