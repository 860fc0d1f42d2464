//! The task that keeps the service map: it obeys the policy's times, verifies what it fetches, persists it, and only then
//! publishes it.
//!
//! What is published is the newest verified map for as long as the policy lets it be served. A fetch that fails, in
//! whatever way, leaves it untouched. No body is ever logged.

use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::fetch::{Fetched, MapEndpoint, fetch};
use super::keys::KeyRing;
use super::metrics::MapMetrics;
use super::verify::{VerifiedMap, verify};
use super::view::{MapFailure, MapHandle, MapSignals, MapStatus, MapView};
use crate::edge::state::{StateRecord, StateSink};
use crate::model::{BootMs, Failure, FailureClass, Moment, WallMs, milliseconds};
use crate::policy::contract::{
    AdvanceOutcome, AdvanceReason, CacheScope, CacheState, FetchedEvent, Instant, NotModifiedEvent, ServeVerdict,
    ValueFacts, Wanted, case_name,
};
use crate::policy::{Held, Policy, Run, Upkeep, UpkeepConfig};
use crate::telemetry::{RefreshOutcome, RefreshSubject, SyncPhase};

/// The name of the map's record among the saved state.
pub const RECORD_NAME: &str = "service-map";

/// What the maintainer works with.
pub struct Maintenance {
    /// Who decides.
    pub policy: Arc<Policy>,
    /// Where the map is.
    pub endpoint: MapEndpoint,
    /// What verifies it.
    pub keys: KeyRing,
    /// When it is refreshed, and how long it is good.
    pub upkeep: UpkeepConfig,
    /// Where it is kept.
    pub state: Arc<dyn StateSink>,
    /// What another process left there when this one took over from it.
    pub former: watch::Receiver<Option<StateRecord>>,
    /// What is counted.
    pub metrics: MapMetrics,
    /// When it is to end.
    pub stop: CancellationToken,
}

/// What stands before the map's bytes on disk.
#[derive(Serialize, Deserialize)]
struct SavedHeader {
    cache: Held<CacheState>,
}

/// Restores what was saved, publishes it, and starts the task that keeps it.
pub fn start(with: Maintenance, saved: Option<StateRecord>) -> (MapHandle, JoinHandle<()>) {
    let (cache, map) = restore(&with.keys, saved);
    let settled = map.is_some();
    let upkeep = Upkeep::start(with.policy.clone(), RECORD_NAME, with.upkeep.clone(), cache);
    let signals = Arc::new(MapSignals::default());
    let publisher = watch::Sender::new(Arc::new(MapView::default()));
    let (configure, configured) = watch::channel(with.upkeep.clone());
    let handle = MapHandle { view: publisher.subscribe(), upkeep: configure, signals: signals.clone() };
    let mut maintainer = Maintainer {
        with,
        upkeep,
        configured,
        map,
        publisher,
        signals,
        last_failure: None,
        persisted: settled,
        settled,
        next_attempt: None,
        runs: 0,
        forces: 0,
    };
    maintainer.publish();
    (handle, tokio::spawn(maintainer.run()))
}

/// Reads the saved map back. It is verified again: the keys may be others now. Without its bytes a value can not be
/// served, but its ratchets still bind.
fn restore(keys: &KeyRing, saved: Option<StateRecord>) -> (Option<Held<CacheState>>, Option<Arc<VerifiedMap>>) {
    let Some(record) = saved else { return (None, None) };
    let Ok(SavedHeader { mut cache }) = record.header() else { return (None, None) };
    let expected = cache.state.value.as_ref().map(|value| value.digest.clone());
    let map = verify(&record.body.bytes(), keys).ok().filter(|map| expected == Some(map.digest.to_string()));
    if map.is_none() {
        if expected.is_some() {
            tracing::warn!("the saved service map does not verify with the keys of today; it is not served");
        }
        cache.state.value = None;
    }
    (Some(cache), map.map(Arc::new))
}

struct Maintainer {
    with: Maintenance,
    upkeep: Upkeep,
    configured: watch::Receiver<UpkeepConfig>,
    map: Option<Arc<VerifiedMap>>,
    publisher: watch::Sender<Arc<MapView>>,
    signals: Arc<MapSignals>,
    last_failure: Option<MapFailure>,
    persisted: bool,
    settled: bool,
    /// When the next run is due, and which wall-clock time that was when it was decided: computed anew at each look, the
    /// latter would flicker, since the clocks are read one after the other.
    next_attempt: Option<(BootMs, WallMs)>,
    runs: u64,
    forces: u64,
}

/// What a run brought.
enum Brought {
    Map { map: Box<VerifiedMap>, etag: Option<String> },
    NotModified,
}

type Running = Option<(Run, Moment, JoinHandle<Result<Brought, Failure>>)>;

impl Maintainer {
    async fn run(mut self) {
        let clock = self.with.policy.edge().clock.clone();
        let mut running: Running = None;
        let stop = self.with.stop.clone();
        let signals = self.signals.clone();
        let mut former = self.with.former.clone();
        let mut swaps = self.with.policy.swaps();
        let mut configured = self.configured.clone();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Ok(()) = former.changed() => {
                    let record = former.borrow_and_update().clone();
                    self.take_former(record).await;
                }
                () = signals.forced.notified() => {
                    self.forces += 1;
                    self.upkeep.forced();
                }
                () = signals.wanted.notified() => self.upkeep.wanted(),
                () = signals.resumed.notified() => self.upkeep.resumed(),
                // Before the swap that a reload brings: the new policy is not asked with the former options.
                Ok(()) = configured.changed() => {
                    let upkeep = configured.borrow_and_update().clone();
                    self.upkeep.reconfigure(upkeep);
                }
                Ok(()) = swaps.changed() => self.upkeep.judge_if_swapped(),
                (run, requested, result) = ended(&mut running) => {
                    running = None;
                    self.ended(run, requested, result).await;
                }
                () = clock.sleep_until_some(self.upkeep.due()) => running = self.begin(),
                () = clock.sleep_until_some(self.upkeep.verdict_until()) => self.upkeep.judge(),
            }
            self.publish();
        }
        if let Some((run, _, task)) = running {
            task.abort();
            // An aborted task ends at its next wait.
            let _ = task.await;
            self.upkeep.cancelled(run);
        }
        self.upkeep.stopped();
    }

    fn begin(&mut self) -> Running {
        let run = self.upkeep.begin()?;
        let edge = self.with.policy.edge().clone();
        let (endpoint, keys) = (self.with.endpoint.clone(), self.with.keys.clone());
        let refreshes = self.with.metrics.refreshes.clone();
        let etag = self.upkeep.value().and_then(|value| {
            // A tag of other bytes than those held would confirm what we do not have.
            value.etag.as_ref().filter(|etag| etag.digest == value.digest).map(|etag| etag.tag.clone())
        });
        let requested = edge.clock.now();
        let task = tokio::spawn(async move {
            let started = tokio::time::Instant::now();
            let fetched = fetch(&*edge.http, &endpoint, etag.as_deref()).await?;
            refreshes.phase(SyncPhase::Fetch, started.elapsed());
            match fetched {
                Fetched::NotModified => Ok(Brought::NotModified),
                Fetched::Document { raw, etag } => {
                    // A hostile document may take seconds to be refused.
                    let verified = tokio::task::spawn_blocking(move || verify(&raw, &keys)).await;
                    let verified = verified.map_err(|_| Failure::new(FailureClass::Decode, "verification panicked"))?;
                    Ok(Brought::Map { map: Box::new(verified?), etag })
                }
            }
        });
        Some((run, requested, task))
    }

    async fn ended(&mut self, run: Run, requested: Moment, result: Result<Brought, Failure>) {
        self.runs += 1;
        self.settled = true;
        let outcome = match result {
            Err(failure) => {
                self.upkeep.failed(run, &failure);
                self.note_failure(&failure);
                if self.upkeep.value().is_none() {
                    self.drop_map().await;
                }
                RefreshOutcome::Failed
            }
            Ok(Brought::Map { map, etag }) => self.take_map(run, requested, *map, etag).await,
            Ok(Brought::NotModified) => self.take_confirmation(run, requested).await,
        };
        // One line for each run, however it ended (defect S14).
        let now = self.with.policy.edge().clock.boot();
        tracing::debug!(
            outcome = ?outcome,
            duration_ms = milliseconds(now.since(run.began)),
            next_ms = self.upkeep.due().map(|due| milliseconds(due.since(now))),
            "service map run ended"
        );
        self.with.metrics.refreshes.refreshed(RefreshSubject::ServiceMap, outcome);
    }

    async fn take_map(
        &mut self,
        run: Run,
        requested: Moment,
        map: VerifiedMap,
        etag: Option<String>,
    ) -> RefreshOutcome {
        let event = self.event(&map, etag, requested.into());
        match self.upkeep.fetched(run, event) {
            Ok((AdvanceOutcome::Stored, reason)) => {
                self.log_stored(&map, reason);
                // Check, persist, swap: in that order (reliability R3).
                self.persist(map.raw.clone()).await;
                self.map = Some(Arc::new(map));
                self.last_failure = None;
                RefreshOutcome::Succeeded
            }
            Ok((AdvanceOutcome::Kept, reason)) => {
                self.note_kept(reason);
                // The policy kept the value that is held: its bytes are saved, whatever has come.
                self.persist_held().await;
                RefreshOutcome::Succeeded
            }
            Ok((outcome, reason)) => {
                if outcome == AdvanceOutcome::Dropped {
                    self.drop_map().await;
                }
                let (class, message) = rejection(reason);
                self.note_failure(&Failure::new(class, message));
                RefreshOutcome::Failed
            }
            Err(error) => {
                self.note_failure(&Failure::new(FailureClass::Server, error.to_string()));
                RefreshOutcome::Failed
            }
        }
    }

    async fn take_confirmation(&mut self, run: Run, requested: Moment) -> RefreshOutcome {
        let digest = self.upkeep.value().and_then(|value| value.etag.as_ref()).map(|etag| etag.digest.clone());
        let ttl_ms = self.map.as_ref().map(|map| milliseconds(map.map.ttl));
        let event = NotModifiedEvent { digest: digest.unwrap_or_default(), requested: requested.into(), ttl_ms };
        match self.upkeep.not_modified(run, event) {
            Ok((_, reason)) => self.note_kept(reason),
            Err(error) => {
                self.note_failure(&Failure::new(FailureClass::Server, error.to_string()));
                return RefreshOutcome::Failed;
            }
        }
        self.persist_held().await;
        RefreshOutcome::Succeeded
    }

    /// The value that is held stays. That is no failure, but if it is no fresher for that, people are told.
    fn note_kept(&mut self, reason: AdvanceReason) {
        match reason {
            AdvanceReason::Frozen => {
                self.last_failure = None;
                tracing::warn!(
                    failures = self.upkeep.failures().0,
                    "the origin confirms a service map past its signed expiry: it is frozen, and served until max-stale"
                );
            }
            // Nothing was confirmed, so what failed before still stands.
            AdvanceReason::ConfirmedOther => {
                tracing::warn!(
                    "the origin confirms another service map than the one held; the next fetch is of the whole"
                );
            }
            _ => {
                self.last_failure = None;
                return;
            }
        }
        self.with.metrics.confirmed(reason);
    }

    /// Takes the map that another process left, if the policy finds it newer; saves what is in force then.
    async fn take_former(&mut self, record: Option<StateRecord>) {
        if let (Some(Held { state: CacheState { value: Some(facts), .. }, .. }), Some(map)) =
            restore(&self.with.keys, record)
            && self.map.as_ref().is_none_or(|own| own.map.generated_at < map.map.generated_at)
        {
            let etag = facts.etag.filter(|etag| etag.digest == facts.digest).map(|etag| etag.tag);
            let event = self.event(&map, etag, facts.requested);
            match self.upkeep.found(event) {
                Ok((AdvanceOutcome::Stored, reason)) => {
                    self.log_stored(&map, reason);
                    self.map = Some(map);
                }
                Ok((_, reason)) => tracing::info!(reason = case_name(&reason), "the former writer's map is not taken"),
                Err(error) => tracing::error!(%error, "the former writer's map is not taken"),
            }
        }
        self.persist_held().await;
    }

    fn event(&self, map: &VerifiedMap, etag: Option<String>, requested: Instant) -> FetchedEvent {
        FetchedEvent {
            digest: map.digest.to_string(),
            etag,
            key_id: Some(map.key_id.clone()),
            version: Some(map.map.generated_at.0),
            signed_expiry_wall_ms: Some(map.map.expires.0),
            ttl_ms: Some(milliseconds(map.map.ttl)),
            scope: CacheScope::Private,
            credential: String::new(),
            requested,
            key_set: self.with.keys.ids(),
        }
    }

    /// The policy dropped the map: a restart must not bring it back either. Its ratchets stay.
    async fn drop_map(&mut self) {
        if self.map.take().is_some() {
            self.persist(Bytes::new()).await;
        }
    }

    /// Saves the map in force with what the policy knows of it now.
    async fn persist_held(&mut self) {
        if let Some(map) = self.map.clone() {
            self.persist(map.raw.clone()).await;
        }
    }

    async fn persist(&mut self, raw: Bytes) {
        let header = SavedHeader { cache: self.upkeep.cache().clone() };
        let Ok(record) = StateRecord::new(&header, raw) else { return };
        self.persisted = match self.with.state.keep_now(RECORD_NAME, record).await {
            Ok(()) => true,
            Err(error) => {
                // The map is verified and newer: a full disk must not keep a disabled connector alive.
                tracing::error!(%error, "the service map could not be saved; it is used all the same");
                false
            }
        };
    }

    fn log_stored(&self, map: &VerifiedMap, reason: AdvanceReason) {
        let enabled = map.map.connectors.iter().filter(|connector| connector.enabled).count();
        tracing::info!(
            map = map.map.id,
            generatedAt = %map.map.generated_at,
            keyId = map.key_id,
            connectorCount = map.map.connectors.len(),
            enabled,
            reason = case_name(&reason),
            "service map accepted"
        );
    }

    fn note_failure(&mut self, failure: &Failure) {
        let group = failure.class.group();
        let class = group.as_str();
        self.with.metrics.failed(group);
        tracing::warn!(class, failures = self.upkeep.failures().0, %failure, "service map not refreshed");
        let at = self.with.policy.edge().clock.wall().to_string();
        self.last_failure = Some(MapFailure { class, message: failure.message.clone(), at });
    }

    fn publish(&mut self) {
        let due = self.upkeep.due();
        if due != self.next_attempt.map(|(boot, _)| boot) {
            let now = self.with.policy.edge().clock.now();
            self.next_attempt = due.map(|due| (due, now.wall.plus(milliseconds(due.since(now.boot)))));
        }
        let verdict = self.upkeep.verdict();
        let value: Option<&ValueFacts> = self.upkeep.value();
        let map = self.map.clone().filter(|_| verdict.serve == ServeVerdict::Serve);
        let held = self.map.as_ref();
        let status = MapStatus {
            state: case_name(&verdict.state),
            reason: case_name(&verdict.reason),
            id: held.map(|map| map.map.id.clone()),
            generated_at: held.map(|map| map.map.generated_at.to_string()),
            fetched_at: value.map(|value| WallMs(value.requested.wall_ms).to_string()),
            key_id: held.map(|map| map.key_id.clone()),
            next_attempt: self.next_attempt.map(|(_, wall)| wall.to_string()),
            next_reason: case_name(&self.upkeep.reason()),
            failures: self.upkeep.failures().0,
            last_failure: self.last_failure.clone(),
            persisted: self.persisted,
            wanting: verdict.wanted != Wanted::None,
            settled: self.settled,
            runs: self.runs,
            forces: self.forces,
            refreshing: self.upkeep.is_running(),
        };
        self.publisher.send_if_modified(|view| {
            let same_map = match (&view.map, &map) {
                (Some(before), Some(now)) => Arc::ptr_eq(before, now),
                (None, None) => true,
                _ => false,
            };
            if same_map && view.status == status {
                return false;
            }
            *view = Arc::new(MapView { map, status });
            true
        });
    }
}

fn rejection(reason: AdvanceReason) -> (FailureClass, &'static str) {
    match reason {
        AdvanceReason::RefusedExpired => {
            (FailureClass::Expiry, "the map was past its signed expiry when it arrived; the one in force stays")
        }
        AdvanceReason::Rollback => {
            (FailureClass::Rollback, "the map is older than one that was accepted; the one in force stays")
        }
        AdvanceReason::Equivocation => (
            FailureClass::Rollback,
            "the map has the generatedAt of the one in force but another content; give every change a later generatedAt",
        ),
        AdvanceReason::FromTheFuture => (
            FailureClass::Schema,
            "the map's generatedAt lies in the future by more than clocks may differ; check the clocks of both machines",
        ),
        _ => (FailureClass::Rollback, "the policy refused the map"),
    }
}

async fn ended(running: &mut Running) -> (Run, Moment, Result<Brought, Failure>) {
    match running {
        Some((run, requested, task)) => {
            let (run, requested) = (*run, *requested);
            let result = task.await;
            let panicked = || Err(Failure::new(FailureClass::Server, "the fetch panicked"));
            (run, requested, result.unwrap_or_else(|_| panicked()))
        }
        None => std::future::pending().await,
    }
}
