//! The fleet: every connector that the descriptions name, each with its supervisor. It follows the descriptions: who is
//! new is started, who changed is rebuilt, who is disabled or gone drains and leaves. Each does so by itself.

mod roster;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use rpds::RedBlackTreeMapSync;
use serde_json::value::RawValue;
use tokio::sync::{Semaphore, broadcast, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::roster::Roster;
use super::admission::Admission;
use super::breaker::Breaker;
use super::call::CallError;
use super::caller::Caller;
use super::connector_headers::ConnectorHeaders;
use super::deadlines::Deadlines;
use super::definitions::{self, ApprovalError, ChangedDefinition, Definitions, Selection};
use super::events::{Events, ServerEvent};
use super::gate::CallGate;
use super::handle::{Handle, Signal};
use super::limits;
use super::log_wishes::LogWishes;
use super::metrics::ConnectorsMetrics;
use super::origins::Origins;
use super::publish::Publisher;
use super::quota::QuotaGate;
use super::run::RunContext;
use super::saved;
use super::session_slot::SessionSlot;
use super::settings::FleetSettings;
use super::starts::Starts;
use super::status::ConnectorStatus;
use super::supervisor::{Supervisor, Surroundings};
use super::watch::Watcher;
use super::wishes::ResourceWishes;
use crate::config::limits as config_limits;
use crate::edge::process::{ChildSpawner, Processes};
use crate::edge::state::{StateRecord, StateSink};
use crate::mcp::{Declared, ErrorType, Outcome, Upstream};
use crate::model::raw::RawObject;
use crate::model::{Connector, ConnectorId, Digest, Failure, InstanceId, ListState, Moment, Reach};
use crate::policy::Policy;
use crate::telemetry::{LogLimit, RefreshMetrics, limits as telemetry_limits};

/// Every connector.
pub struct Fleet {
    settings: watch::Sender<Arc<FleetSettings>>,
    policy: Arc<Policy>,
    publisher: Arc<dyn Publisher>,
    state: Arc<dyn StateSink>,
    metrics: ConnectorsMetrics,
    run: RunContext,
    origins: Origins,
    processes: Arc<dyn Processes>,
    starts: Starts,
    events: Events,
    logs: Arc<LogWishes>,
    saved: Mutex<BTreeMap<ConnectorId, StateRecord>>,
    /// What was approved of connectors that are not there now.
    approved: Mutex<BTreeMap<ConnectorId, StateRecord>>,
    instance: InstanceId,
    /// Whether an earlier process saved anything.
    is_warm: bool,
    /// Connectors that are processes and have not left yet: no other process takes their place before.
    leaving: Mutex<BTreeMap<ConnectorId, CancellationToken>>,
    /// Who belongs to it, and who is on the way out. Changes of `members` are made while it is locked.
    roster: Mutex<Roster>,
    /// Touched when one that was on the way out has left.
    retired: watch::Sender<()>,
    members: ArcSwap<Members>,
    /// The supervisors that restore what was saved. Closed: a wait for it is for those there are.
    restoring: TaskTracker,
    /// How many of them do so at once.
    restores: Arc<Semaphore>,
    /// Cancelled once the first connectors that were described serve what was saved of them: packets may leave.
    opened: CancellationToken,
    /// Everything that goes on after its connector left, and the admission.
    draining: TaskTracker,
    stop: CancellationToken,
}

type Members = RedBlackTreeMapSync<ConnectorId, Arc<Member>>;

struct Member {
    handle: Arc<Handle>,
    stop: CancellationToken,
    task: Mutex<Option<JoinHandle<Option<StateRecord>>>>,
    watcher: Mutex<Option<JoinHandle<()>>>,
}

/// What is kept across restarts, and where.
pub struct KeptState {
    /// Takes what is to be kept.
    pub sink: Arc<dyn StateSink>,
    /// What an earlier process kept.
    pub records: Vec<(String, StateRecord)>,
    /// The ID of the gateway's home.
    pub instance: InstanceId,
}

impl Fleet {
    /// A fleet without connectors, and what was kept of former ones.
    pub fn new(
        settings: FleetSettings,
        policy: Arc<Policy>,
        publisher: Arc<dyn Publisher>,
        kept: KeptState,
        metrics: ConnectorsMetrics,
        processes: Arc<dyn Processes>,
    ) -> Self {
        let KeptState { sink: state, records, instance } = kept;
        let approved = definitions::of_records(&records);
        let saved = saved::of_records(records);
        let draining = TaskTracker::new();
        let (opened, stop) = (CancellationToken::new(), CancellationToken::new());
        let restoring = TaskTracker::new();
        restoring.close();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let options = settings.options.clone();
        let maximum = config_limits::CONCURRENCY_MAX;
        let admission = Admission::start(
            policy.clone(),
            maximum,
            settings.concurrency,
            options,
            &draining,
            (opened.clone(), stop.clone()),
        );
        let clock = policy.edge().clock.clone();
        let failures = LogLimit::new(telemetry_limits::CONNECTOR_LINES);
        let run = RunContext { admission, clock, refreshes: metrics.refreshes.clone(), failures: Arc::new(failures) };
        let starts = Starts::new(settings.starts);
        Self {
            settings: watch::Sender::new(Arc::new(settings)),
            policy,
            publisher,
            state,
            metrics,
            run,
            origins: Origins::default(),
            processes,
            starts,
            events: Events::default(),
            logs: Arc::default(),
            is_warm: !saved.is_empty(),
            saved: Mutex::new(saved),
            approved: Mutex::new(approved),
            instance,
            leaving: Mutex::default(),
            roster: Mutex::default(),
            retired: watch::Sender::new(()),
            members: ArcSwap::default(),
            restoring,
            restores: Arc::new(Semaphore::new(cores * limits::RESTORES_PER_CORE)),
            opened,
            draining,
            stop,
        }
    }

    /// Other settings are in force from now on. Sessions stay as they are; other credentials go with their next requests. Where the
    /// credential was missing or is missing now, the session is rebuilt.
    pub fn reconfigure(self: &Arc<Self>, settings: FleetSettings) {
        let credentials = settings.credentials.clone();
        for headers in self.members.load().values().filter_map(|member| member.handle.headers.as_ref()) {
            headers.set_credentials(&credentials);
        }
        self.run.admission.reconfigure(settings.concurrency, settings.options.clone());
        self.settings.send_replace(Arc::new(settings));
        self.rebuild(|handle| credentials.headers(&handle.connector.load()).is_ok() != handle.headers.is_some());
    }

    /// What servers say from now on that belongs to no request.
    pub fn events(&self) -> broadcast::Receiver<Arc<ServerEvent>> {
        self.events.subscribe()
    }

    /// Both clocks, as its decisions read them.
    pub fn now(&self) -> Moment {
        self.run.clock.now()
    }

    /// Every connector's status, by id.
    pub fn statuses(&self) -> Vec<Arc<ConnectorStatus>> {
        self.members.load().values().map(|member| member.handle.status.borrow().clone()).collect()
    }

    /// The status of a connector.
    pub fn status(&self, id: &ConnectorId) -> Option<Arc<ConnectorStatus>> {
        self.members.load().get(id).map(|member| member.handle.status.borrow().clone())
    }

    /// A reader was given the catalog: whoever is not fresh is told that somebody wants it.
    pub fn was_read(&self) {
        for member in self.members.load().values() {
            if member.handle.status.borrow().state != ListState::Fresh {
                member.handle.signals.send(Signal::Wanted);
            }
        }
    }

    /// The machine woke up.
    pub fn resumed(&self) {
        for member in self.members.load().values() {
            member.handle.signals.send(Signal::Resumed);
        }
    }

    /// Calls a connector.
    ///
    /// # Errors
    /// [`CallError`], if there is no answer from its server.
    pub async fn call(
        &self,
        id: &ConnectorId,
        caller: Caller<'_>,
        method: &str,
        params: RawObject,
    ) -> Result<Outcome, CallError> {
        let member = self.members.load().get(id).cloned().ok_or_else(|| CallError::NoConnector(id.clone()))?;
        if let Some(refusal) = member.handle.definitions.refusal(method, &params) {
            return Ok(Outcome::Error(refusal));
        }
        let started = Instant::now();
        let called = member.handle.call(&self.run.clock, caller, method, params).await;
        let (took, metrics) = (started.elapsed(), &member.handle.metrics);
        match &called {
            Ok(called) => {
                metrics.called(method, took, ErrorType::of_outcome(method, &called.outcome));
                self.metrics.overhead(took.saturating_sub(called.upstream));
            }
            Err(error) => {
                metrics.refused(error);
                metrics.called(method, took, error.into());
            }
        }
        called.map(|called| called.outcome)
    }

    /// Where refreshes are counted, for others in this module.
    pub(super) fn refreshes(&self) -> &RefreshMetrics {
        &self.metrics.refreshes
    }

    /// How many runs may go at once, where the operator says so.
    pub(super) fn concurrency(&self) -> Option<u32> {
        self.settings.borrow().concurrency
    }

    /// A connector, for others in this room.
    pub(super) fn handle(&self, id: &ConnectorId) -> Option<Arc<Handle>> {
        self.members.load().get(id).map(|member| member.handle.clone())
    }

    /// What clients wish for of all logs.
    pub(super) fn logs(&self) -> &Arc<LogWishes> {
        &self.logs
    }

    /// Ends every connector: its calls in flight first, until `deadline`.
    pub async fn shut_down(&self, deadline: Instant) {
        let members = self.disband();
        let ending = members.iter().map(|member| async move {
            member.handle.calls.close();
            // Whatever has not ended by then is cut off.
            let _ = tokio::time::timeout_at(deadline, member.handle.calls.wait()).await;
            self.stop(member).await;
            member.handle.close().await;
        });
        futures_util::future::join_all(ending).await;
        self.stop.cancel();
        self.draining.close();
        // Connectors that left earlier end by their own deadlines; what is slower goes with the process.
        let _ =
            tokio::time::timeout_at(deadline.max(Instant::now() + limits::CLOSE_TIMEOUT), self.draining.wait()).await;
    }

    fn start(&self, connector: Connector, wishes: Arc<ResourceWishes>) -> Member {
        let id = connector.id.clone();
        let connector = Arc::new(connector);
        let (saved, approved) = (self.lock_saved().remove(&id), self.lock_approved().remove(&id));
        let mut settings = self.settings.subscribe();
        let in_force = settings.borrow_and_update().clone();
        let metrics = self.metrics.connector(&id);
        let clock = self.run.clock.clone();
        let headers = ConnectorHeaders::new(connector.clone(), in_force.credentials.clone(), clock, metrics.clone());
        let headers = headers.map(Arc::new);
        let fingerprint = headers.as_ref().map(|headers| headers.fingerprint()).unwrap_or_default();
        let deadlines = Deadlines::new(in_force.deadlines(&connector));
        metrics.inbound.set_max_message_bytes(in_force.max_message_bytes(&id));
        let slot = match (&headers, &connector.reach) {
            (Err(error), _) => {
                tracing::warn!(connector = %id, %error, "it can not be connected to");
                Err(error.clone().into())
            }
            (Ok(_), None) => Err(Failure::new(crate::model::FailureClass::Schema, "it has no endpoint")),
            (Ok(headers), Some(reach)) => {
                let http = self.policy.edge().http.clone();
                let (spawner, inbound) = (self.spawner(&id), metrics.inbound.clone());
                let upstream = Upstream::reached(reach, headers.clone(), http, spawner, &id, inbound);
                let former = self.leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
                let former = former.filter(|_| matches!(reach, Reach::Stdio(_)));
                let (deadlines, starts) = (deadlines.clone(), self.starts.clone());
                let slot = SessionSlot::new(upstream, deadlines, starts, None, Declared::default()).after(former);
                slot.pin(in_force.era(&id));
                Ok(Arc::new(slot))
            }
        };
        let origin = connector.reach.as_ref().and_then(Reach::url).map(|url| self.origins.share(url));
        let (call_timeout, options) = in_force.calls(&connector);
        let breaker = Arc::new(Breaker::new(self.policy.clone(), &id, call_timeout, options));
        let quota = QuotaGate::new(&connector.quotas, self.run.clock.clone());
        let edge = self.policy.edge().clone();
        let gate = CallGate::new(in_force.call_limits(&id), quota.places(), origin);
        let definitions = Definitions::new(&connector, self.instance, self.state.clone(), metrics.clone(), approved);
        let (limits, shared) = ((quota, gate, deadlines), (edge, metrics, definitions));
        let handle = Arc::new(Handle::new(connector, (slot, headers.ok()), breaker, limits, wishes, shared));
        handle.set_trace_forwarding(in_force.trace_forwarding(&handle.id));
        let stop = CancellationToken::new();
        let boot_id = self.run.clock.boot_id().0;
        let surroundings = Surroundings {
            policy: self.policy.clone(),
            run: self.run.clone(),
            publisher: self.publisher.clone(),
            state: self.state.clone(),
            upkeep: in_force.upkeep(boot_id, fingerprint),
            settings,
            stop: stop.clone(),
        };
        let watcher = Watcher {
            events: self.events.share(&handle.id),
            handle: handle.clone(),
            logs: self.logs.clone(),
            stop: stop.clone(),
        };
        let watcher = tokio::spawn(watcher.run());
        let ended = handle.ended.clone().drop_guard();
        let (restores, restoring, supervised) = (self.restores.clone(), self.restoring.token(), handle.clone());
        let task = tokio::spawn(async move {
            // Dropped however the supervisor ends.
            let _ended = ended;
            // The semaphore is never closed.
            let permit = restores.acquire().await;
            let supervisor = Supervisor::new(supervised, surroundings, saved);
            drop((permit, restoring));
            supervisor.run().await
        });
        Member { handle, stop, task: Mutex::new(Some(task)), watcher: Mutex::new(Some(watcher)) }
    }

    /// Starts a connector's processes, under the rules of the settings in force.
    fn spawner(&self, id: &ConnectorId) -> ChildSpawner {
        let (settings, id) = (self.settings.subscribe(), id.clone());
        ChildSpawner::with_rules(self.processes.clone(), move || settings.borrow().child_rules(&id))
    }

    /// Stops a connector's supervisor and its watcher. Returns what is to be kept of it.
    async fn stop(&self, member: &Member) -> Option<StateRecord> {
        member.stop.cancel();
        let watcher = member.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher
            && let Err(error) = watcher.await
        {
            tracing::error!(connector = %member.handle.id, %error, "its watcher did not end well");
        }
        let task = member.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        match task {
            Some(task) => task.await.unwrap_or_else(|error| {
                tracing::error!(connector = %member.handle.id, %error, "its supervisor did not end well");
                None
            }),
            None => None,
        }
    }

    /// Every change of a connector's definitions that was not approved, with what its server lists now under the name.
    pub fn changed_definitions(&self, id: &ConnectorId) -> Vec<(ChangedDefinition, Vec<Box<RawValue>>)> {
        self.handle(id).map(|handle| handle.definitions.changes()).unwrap_or_default()
    }

    /// Approves changes of a connector's definitions, if `digest` is that of what is listed now. Returns what was approved,
    /// once that is durable and served.
    ///
    /// # Errors
    /// [`ApprovalError`].
    pub async fn approve(
        &self,
        id: &ConnectorId,
        selection: &Selection,
        digest: Digest,
    ) -> Result<Vec<ChangedDefinition>, ApprovalError> {
        let handle = self.handle(id).ok_or_else(|| ApprovalError::NoChange { connector: id.clone() })?;
        let (approved, written) = handle.definitions.approve(selection, digest)?;
        let written = written.await;
        handle.signals.send(Signal::Observed);
        let mut status = handle.status.subscribe();
        tokio::select! {
            // After the answer, what was approved is served.
            _ = status.wait_for(|shown| shown.definitions == handle.definitions.status()) => {}
            () = handle.ended.cancelled() => {}
        }
        written.map(|()| approved)
    }

    /// Takes what another process approved before this one took over the writing of state.
    pub fn take_over_definitions(&self, records: &[(String, StateRecord)]) {
        let now = self.run.clock.wall();
        for (id, record) in definitions::of_records(records) {
            match self.handle(&id) {
                Some(handle) => {
                    handle.definitions.restore(&record, now);
                    handle.signals.send(Signal::Observed);
                }
                None => drop(self.lock_approved().insert(id, record)),
            }
        }
    }

    fn lock_approved(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConnectorId, StateRecord>> {
        self.approved.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock_saved(&self) -> std::sync::MutexGuard<'_, BTreeMap<ConnectorId, StateRecord>> {
        self.saved.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_set().entries(self.members.load().keys()).finish()
    }
}
