//! A whole policy in one file, without the default's subtleties: where an author of policies starts.
//!
//! Patient: nothing is refreshed before its interval is over, each failure doubles the wait, concurrency is fixed. Safe:
//! last known good is served up to `max-stale-ms`; what is expired, or older than what was accepted before, is refused.
#![cfg(target_family = "wasm")]
#![allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all, reason = "bindings are generated")]

use cortex::policy::{clock, random, types::*};
use exports::cortex::policy::{caching, registry, scheduling};
use std::collections::{BTreeMap, BTreeSet};

wit_bindgen::generate!({ path: "../../../wit", world: "policy", additional_derives: [PartialEq, Eq, PartialOrd, Ord] });

struct Conservative;
export!(Conservative);

/// Anywhere from half of `ceiling` to all of it. Times are below 2^53: their sums do not overflow.
fn jittered(ceiling: u64) -> u64 {
    ceiling / 2 + ((u128::from(random::next()) * u128::from(ceiling - ceiling / 2 + 1)) >> 32) as u64
}

/// `least`, doubled for each failure after the first, at most `most`; jittered.
fn backoff(least: u64, most: u64, failures: u32) -> u64 {
    let least = least.max(100);
    jittered(least.saturating_mul(1 << failures.saturating_sub(1).min(30)).min(most.max(least)))
}

impl scheduling::Guest for Conservative {
    fn refresh(config: RefreshConfig, mut state: RefreshState, event: RefreshEvent) -> RefreshDecision {
        let reason = next_phase(&config, &mut state, event, clock::boot_ms());
        let run_at_boot_ms = if let RefreshPhase::Armed(run) = &state.phase { Some(run.run_at_boot_ms) } else { None };
        RefreshDecision { state, run_at_boot_ms, reason }
    }

    /// After so many failures in a row one call in four passes, to see whether the server is back.
    fn breaker(config: BreakerConfig, mut state: BreakerState, event: BreakerEvent) -> BreakerDecision {
        state.consecutive = match event {
            BreakerEvent::Succeeded(_) => 0,
            BreakerEvent::Failed(_) => state.consecutive.saturating_add(1),
            BreakerEvent::Asked | BreakerEvent::Cancelled(_) => state.consecutive,
        };
        state.phase = BreakerPhase::Closed;
        if state.consecutive < config.failure_threshold || random::next() % 4 == 0 {
            return BreakerDecision { state, verdict: BreakerVerdict::Allow, reason: BreakerReason::Closed };
        }
        let verdict = BreakerVerdict::Reject(clock::boot_ms() + config.open_min_ms);
        BreakerDecision { state, verdict, reason: BreakerReason::Open }
    }

    /// Who fails goes last; of the others, who is waited for goes first.
    fn plan(config: PlanConfig, candidates: Vec<Candidate>) -> PlanDecision {
        let mut order: Vec<u32> = (0..).take(candidates.len()).collect();
        order.sort_by_key(|at| candidates.get(*at as usize).map(|one| (one.failures, !one.wanted)));
        PlanDecision { order, slow_after_ms: config.slow_after_ms.max(1) }
    }

    fn concurrency(config: ConcurrencyConfig, state: ConcurrencyState, event: ConcurrencyEvent) -> ConcurrencyDecision {
        let (begun, ended) = if event == ConcurrencyEvent::Began { (1, 0) } else { (0, 1) };
        let state = ConcurrencyState { in_flight: (state.in_flight + begun).saturating_sub(ended), ..state };
        let limit = config.fixed.unwrap_or(config.maximum).max(1);
        ConcurrencyDecision { state, limit, reason: ConcurrencyReason::Fixed }
    }
}

/// At most one run is armed or under way; only the run under way ends itself; wishes only bring a run forward.
fn next_phase(config: &RefreshConfig, state: &mut RefreshState, event: RefreshEvent, now: u64) -> RefreshReason {
    use {RefreshEvent as Event, RefreshPhase as Phase, RefreshReason as Why};
    let interval = config.interval_ms.clamp(1_000, 86_400_000);
    let mut again = false;
    if let Event::Succeeded(SucceededEvent { run_id, .. })
    | Event::Failed(FailedEvent { run_id, .. })
    | Event::Cancelled(run_id) = event
    {
        match &state.phase {
            Phase::Running(run) if run.run_id == run_id => again = run.again,
            _ => return Why::Late,
        }
        (state.phase, state.last_end_boot_ms) = (Phase::Idle, Some(now));
    }
    if matches!(event, Event::Succeeded(_) | Event::CredentialsChanged) {
        (state.failures, state.last_class) = (0, None);
    }
    let (delay, reason) = match event {
        Event::Started(start) if start.start == StartKind::Cold => (0, Why::ColdStart),
        Event::Started(_) => (jittered(interval), Why::WarmStart),
        Event::Began => {
            let Phase::Armed(_) = state.phase else { return Why::Late };
            let run_id = state.next_run_id;
            state.phase = Phase::Running(ActiveRun { run_id, since_boot_ms: now, again: false });
            state.next_run_id = run_id.wrapping_add(1);
            return Why::Began;
        }
        Event::Failed(failure) => {
            (state.failures, state.last_class) = (state.failures.saturating_add(1), Some(failure.class));
            let wait = backoff(config.backoff_min_ms, config.backoff_max_ms.max(interval), state.failures);
            match failure.retry_after_ms.unwrap_or(0).min(3_600_000) {
                _ if failure.class == FailureClass::Auth => (interval * 10, Why::AuthWait),
                asked if asked > wait => (asked + jittered(asked / 4), Why::RetryAfter),
                _ => (wait, Why::Backoff),
            }
        }
        Event::Stopped => {
            state.phase = Phase::Idle;
            return Why::Stopped;
        }
        Event::Succeeded(_) => (interval + jittered(interval / 4), Why::Steady),
        Event::Cancelled(_) => (jittered(interval), Why::Cancelled),
        Event::Wanted(Urgency::Blocking) => (0, Why::WantedBlocking),
        Event::Wanted(Urgency::Background) => (interval / 10, Why::WantedBackground),
        Event::Forced => (0, Why::Forced),
        Event::CredentialsChanged => (0, Why::CredentialsChanged),
        Event::Changed => (interval / 10, Why::Changed),
        Event::Resumed => (jittered(interval / 10), Why::Resumed),
        Event::ConfigChanged => (jittered(interval), Why::ConfigChanged),
    };
    let run_at_boot_ms = if again { now } else { now + delay };
    let wish = matches!(reason, Why::WantedBackground | Why::WantedBlocking | Why::Changed | Why::Resumed);
    let asked_for = wish || again || matches!(reason, Why::ColdStart | Why::Forced | Why::CredentialsChanged);
    match &mut state.phase {
        Phase::Running(run) => {
            run.again |= matches!(reason, Why::Changed | Why::CredentialsChanged);
            if reason == Why::Forced { Why::Joined } else { Why::AlreadyRunning }
        }
        Phase::Armed(run) if run.run_at_boot_ms <= run_at_boot_ms || (wish && state.failures > 0) => Why::AlreadyArmed,
        _ if config.mode == RefreshMode::OnDemand && !asked_for => Why::OnDemand,
        phase => {
            *phase = Phase::Armed(ArmedRun { run_at_boot_ms, reason });
            reason
        }
    }
}

/// How good a value is, why, and for how long it may be served.
fn judge(config: &CacheConfig, state: &CacheState) -> (Freshness, LookupReason, u64) {
    use {Freshness as Is, LookupReason as Why};
    let Some(value) = &state.value else { return (Is::Empty, Why::NoValue, 0) };
    let since = value.stale_since.as_ref().unwrap_or(&value.requested);
    let (wall, boot) = (clock::wall_ms(), clock::boot_ms());
    // Within a boot no wall clock is asked. Across boots one that stands before the request does not know the age.
    let known = match since.boot_id == config.boot_id {
        true => Some(boot.saturating_sub(since.boot_ms)),
        false => (wall + config.skew_ms >= since.wall_ms).then_some(wall.saturating_sub(since.wall_ms)),
    };
    let (age, fresh, life) = (known.unwrap_or(boot), value.fresh_ms, value.fresh_ms + config.max_stale_ms);
    let good = known.is_some() && !value.invalidated && value.standing == ExpiryStanding::Within;
    match value.scope {
        CacheScope::Private if value.credential != config.credential => (Is::Empty, Why::OtherCredential, 0),
        _ if good && age < fresh => (Is::Fresh, Why::WithinTtl, fresh - age),
        _ if config.max_stale_ms == 0 || age >= life => (Is::Expired, Why::PastMaxStale, 0),
        _ if state.failing.is_some() => (Is::StaleError, Why::RefreshFailing, life - age),
        _ => (Is::Stale, if value.invalidated { Why::Invalidated } else { Why::PastTtl }, life - age),
    }
}

impl caching::Guest for Conservative {
    fn lookup(config: CacheConfig, state: CacheState) -> LookupDecision {
        let now = clock::boot_ms();
        let (is, reason, rest) = judge(&config, &state);
        let serve = if rest > 0 { ServeVerdict::Serve } else { ServeVerdict::Withhold };
        let end = (rest > 0).then_some(now + rest);
        let paced = state.failing.filter(|failing| failing.at.boot_id == config.boot_id && now < failing.until_boot_ms);
        let (wanted, until_boot_ms) = match paced {
            _ if is == Freshness::Fresh || state.in_flight.is_some() => (Wanted::None, end),
            Some(failing) => (Wanted::None, Some(end.unwrap_or(u64::MAX).min(failing.until_boot_ms))),
            None => (if rest > 0 { Wanted::Background } else { Wanted::Blocking }, end),
        };
        LookupDecision { state: is, serve, wanted, until_boot_ms, reason }
    }

    fn advance(config: CacheConfig, mut state: CacheState, event: CacheEvent) -> AdvanceDecision {
        use {AdvanceOutcome as Did, AdvanceReason as Why, CacheEvent as Event};
        state.in_flight = if let Event::Began(run_id) = event { Some(run_id) } else { None };
        let failed = if let Event::Failed(class) = event { Some(class) } else { None };
        let (outcome, reason) = match event {
            Event::Fetched(new) => fetch(&config, &mut state, new),
            Event::Failed(FailureClass::Gone) => (Did::Dropped, Why::Gone),
            Event::Failed(_) => (Did::Kept, Why::Failed),
            Event::NotModified(_) => (Did::Kept, Why::ConfirmedOther),
            Event::Changed => (Did::Kept, Why::Changed),
            Event::Invalidated => (Did::Kept, Why::Invalidated),
            Event::Revoked => (Did::Dropped, Why::Revoked),
            Event::CredentialsChanged => (Did::Kept, Why::CredentialsChanged),
            Event::Began(_) => (Did::Kept, Why::Began),
            Event::Cancelled => (Did::Kept, Why::Cancelled),
            Event::Restored => (Did::Kept, Why::Restored),
        };
        match (reason, &mut state.value) {
            (Why::Gone | Why::Revoked, value) => *value = None,
            (Why::Changed | Why::Invalidated, Some(value)) => value.invalidated = true,
            (Why::Newer | Why::SameAgain | Why::CredentialsChanged, _) => state.failing = None,
            _ => {}
        }
        // A refusal counts as a failure. Failures set the pace of readers.
        if let Some(class) = failed.or((outcome == Did::Rejected).then_some(FailureClass::Rollback)) {
            let at = Instant { wall_ms: clock::wall_ms(), boot_ms: clock::boot_ms(), boot_id: config.boot_id };
            let count = state.failing.map_or(0, |failing| failing.count).saturating_add(1);
            let until_boot_ms = at.boot_ms + backoff(config.negative_min_ms, config.negative_max_ms, count);
            state.failing = Some(Failing { count, class, at, until_boot_ms });
        }
        AdvanceDecision { state, outcome, reason }
    }
}

/// Takes a value that is not expired and no older than what was accepted under any key that still verifies.
fn fetch(config: &CacheConfig, state: &mut CacheState, new: FetchedEvent) -> (AdvanceOutcome, AdvanceReason) {
    use {AdvanceOutcome as Did, AdvanceReason as Why};
    let (wall, key) = (clock::wall_ms(), new.key_id.clone().unwrap_or_default());
    let version = new.version.unwrap_or(u64::MAX);
    for known in &state.ratchets {
        if version < known.version && (known.key_id == key || new.key_set.contains(&known.key_id)) {
            return (Did::Rejected, Why::Rollback);
        } else if version == known.version && known.key_id == key && known.digest != new.digest {
            return (Did::Rejected, Why::Equivocation);
        }
    }
    if new.version.is_some_and(|version| version > wall + config.skew_ms) {
        return (Did::Rejected, Why::FromTheFuture);
    } else if new.signed_expiry_wall_ms.is_some_and(|expiry| wall >= expiry) {
        return (Did::Rejected, Why::RefusedExpired);
    }
    let same = state.value.as_ref().is_some_and(|value| value.digest == new.digest);
    if let Some(version) = new.version {
        state.ratchets.retain(|known| known.key_id != key);
        state.ratchets.sort_by_key(|known| std::cmp::Reverse(known.version));
        state.ratchets.truncate(15);
        state.ratchets.push(Ratchet { key_id: key, version, digest: new.digest.clone() });
    }
    let signed = new.signed_expiry_wall_ms.map_or(u64::MAX, |expiry| expiry.saturating_sub(new.requested.wall_ms));
    let ttl = new.ttl_ms.unwrap_or(config.ttl_default_ms);
    let fresh_ms = if ttl == 0 { 0 } else { ttl.max(config.ttl_min_ms).min(config.ttl_max_ms).min(signed) };
    state.value = Some(ValueFacts {
        digest: new.digest,
        etag: None, // So that an origin always answers in full.
        key_id: new.key_id,
        version: new.version,
        signed_expiry_wall_ms: new.signed_expiry_wall_ms,
        requested: new.requested,
        stale_since: None,
        fresh_ms,
        soft_ms: fresh_ms,
        invalidated: false,
        standing: ExpiryStanding::Within,
        scope: new.scope,
        credential: new.credential,
    });
    if same { (Did::Kept, Why::SameAgain) } else { (Did::Stored, Why::Newer) }
}

/// The stamp after `last`: the wall clock if it is ahead, else the next of the same millisecond.
fn next(wall_ms: u64, last: Hlc) -> Hlc {
    let (full, counter) = (last.counter == u32::MAX, last.counter.wrapping_add(1));
    let after = Hlc { wall_ms: last.wall_ms + u64::from(full), counter };
    if wall_ms > last.wall_ms { Hlc { wall_ms, counter: 0 } } else { after }
}

impl registry::Guest for Conservative {
    fn stamp(clock: ClockState) -> StampDecision {
        let stamp = next(clock::wall_ms(), clock.last);
        StampDecision { state: ClockState { last: stamp, ..clock }, stamp }
    }

    fn adopt(clock: ClockState, writer: String, mut base: Vec<Entry>, found: Vec<FoundEntry>) -> AdoptDecision {
        let wall = clock::wall_ms();
        let seen = base.iter().map(|entry| entry.stamp).chain(found.iter().filter_map(|found| found.stamp));
        let mut last = seen.fold(clock.last, Hlc::max);
        base.sort();
        let mut entries: BTreeMap<String, Entry> = base.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        let names: BTreeSet<String> = found.iter().map(|found| found.name.clone()).collect();
        let missing: Vec<Entry> = entries.values().filter(|entry| !names.contains(&entry.name)).cloned().collect();
        let gone = missing.into_iter().map(|entry| (entry.name, true, String::new(), None, None));
        let found = found.into_iter().map(|found| (found.name, false, found.digest, found.stamp, found.writer));
        for (name, deleted, digest, given, by) in found.chain(gone) {
            let before = entries.get(&name);
            let own = given.filter(|given| before.is_none_or(|before| *given > before.stamp));
            if own.is_none() && before.is_some_and(|known| (known.deleted, &known.digest) == (deleted, &digest)) {
                continue;
            }
            last = if own.is_some() { last } else { next(wall, last) };
            let by = by.filter(|_| own.is_some()).unwrap_or_else(|| writer.clone());
            entries.insert(name.clone(), Entry { name, stamp: own.unwrap_or(last), writer: by, deleted, digest });
        }
        let from_the_future = entries.values().filter(|entry| entry.stamp.wall_ms > wall + 300_000);
        let from_the_future = from_the_future.map(|entry| entry.name.clone()).collect();
        AdoptDecision { state: ClockState { last, ..clock }, entries: entries.into_values().collect(), from_the_future }
    }

    /// An entry's fields stand in the order in which entries are compared: the greatest of a name comes last, and stays.
    fn merge(ours: Vec<Entry>, theirs: Vec<Entry>) -> MergeDecision {
        let all: BTreeSet<Entry> = ours.into_iter().chain(theirs).collect();
        let won: BTreeMap<String, Entry> = all.iter().map(|entry| (entry.name.clone(), entry.clone())).collect();
        let lost = |entry: &Entry, won: &Entry| (won.deleted, &won.digest) != (entry.deleted, &entry.digest);
        let superseded = all.into_iter().filter(|entry| lost(entry, &won[&entry.name])).collect();
        MergeDecision { entries: won.into_values().collect(), superseded }
    }

    fn flush_after(pending: Pending) -> u64 {
        if pending.closing || pending.write_through { 0 } else { pending.batch_ms.saturating_sub(pending.oldest_ms) }
    }
}
