//! [`Gateway`]: a running gateway, for the command line and for programs that embed one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::assembly::Applied;
use super::builder::GatewayBuilder;
use super::grants::Grants;
use super::limits;
use super::metrics::ServerMetrics;
use super::missing_list::missing_list;
use super::northbound::Northbound;
use super::rate::TokenRates;
use super::request_body::BodyBudget;
use super::state_writer::StateWriter;
use super::status::{BoundsStatus, GatewayStatus, pattern_warnings, warnings};
use super::swap::Former;
use crate::catalog::{Catalog, CatalogSnapshot, Route, View};
use crate::config::Settings;
use crate::connectors::{CallError, Caller, Fleet, PassKind, SyncReport, Synced};
use crate::edge::Edge;
use crate::mcp::Outcome;
use crate::mcp::protocol::TOOLS_CALL;
use crate::mcp::request_members::{Members as _, ParamsMember};
use crate::model::ConnectorId;
use crate::model::raw::RawObject;
use crate::policy::{Policy, PolicyComponent};
use crate::registry::{RegistryView, Store};
use crate::service_map::MapHandle;
use crate::telemetry::MetricRegistry;
use crate::trace::{Shadow, TraceWriter};

/// A running gateway. Cheap to clone.
///
/// [`Gateway::shut_down`] ends it in order. When the last clone is dropped without that, it ends by itself, in the
/// background of the runtime that it was started on: calls in flight are cut off, and connections, child processes, tasks,
/// threads and locks are given up. A [`router`](Self::router) holds a clone for as long as it is held, and so does the
/// future of [`serve`](Self::serve) or [`serve_stdio`](Self::serve_stdio); streams and requests in flight hold none.
#[derive(Clone)]
pub struct Gateway {
    pub(super) inner: Arc<Inner>,
    /// None in the hands of the gateway's own tasks: they keep nothing alive.
    _holder: Option<Arc<Holder>>,
}

/// What the clones of a gateway share. Its end is the gateway's.
struct Holder(Arc<Inner>);

impl Drop for Holder {
    fn drop(&mut self) {
        self.0.begin_to_end(Instant::now());
    }
}

/// What a gateway is made of.
pub(super) struct Parts {
    pub(super) settings: ArcSwap<Settings>,
    pub(super) edge: Edge,
    pub(super) policy: Arc<Policy>,
    /// What the builder was given in the place of a configured policy.
    pub(super) policy_given: Option<Arc<PolicyComponent>>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) fleet: Arc<Fleet>,
    pub(super) metrics: ServerMetrics,
    /// Everything that counts as it happens.
    pub(super) registered: MetricRegistry,
    pub(super) map: Option<MapHandle>,
    pub(super) registry: watch::Receiver<Arc<RegistryView>>,
    pub(super) store: Arc<Store>,
    pub(super) applied: watch::Receiver<Arc<Applied>>,
    pub(super) state: StateWriter,
    pub(super) trace: Option<TraceWriter>,
    pub(super) shadow: Option<Shadow>,
    pub(super) stop: CancellationToken,
    pub(super) first_pass: watch::Sender<Option<Arc<SyncReport>>>,
}

pub(super) struct Inner {
    pub(super) parts: Parts,
    pub(super) started: Instant,
    /// Cancelled once the lists that an earlier process saved are served.
    restored: CancellationToken,
    /// Whether there were such lists: then no request waits for the first ones.
    warm: AtomicBool,
    /// Calls of legacy clients: they go on when the client's connection does not.
    pub(super) calls: tokio_util::task::TaskTracker,
    /// The addresses that it was served on.
    pub(super) listening: ArcSwap<Vec<SocketAddr>>,
    /// What clients hold open: sessions, streams, subscriptions.
    pub(super) northbound: Northbound,
    /// Who works with the registry's disk for a client: so many at once.
    pub(super) registry_turns: Arc<tokio::sync::Semaphore>,
    /// What tokens allow now.
    pub(super) grants: Grants,
    /// How often each token asked.
    pub(super) rates: TokenRates,
    /// The bytes of requests that are in flight.
    pub(super) bodies: Arc<BodyBudget>,
    /// Held by whoever changes policy or settings: one at a time.
    pub(super) changing: Arc<tokio::sync::Mutex<()>>,
    /// The policies that decided before.
    pub(super) former: std::sync::Mutex<Former>,
    /// None once it ends.
    tasks: std::sync::Mutex<Option<Tasks>>,
    /// Cancelled when it has ended.
    ended: CancellationToken,
    /// Where its tasks run: what drops the last clone may be no task.
    pub(super) runtime: tokio::runtime::Handle,
}

/// The gateway's own tasks; the writer of state ends last.
struct Tasks {
    loops: Vec<JoinHandle<()>>,
    state: JoinHandle<()>,
}

/// Which connectors a sync is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyncKind {
    /// Nothing is forced: every one serves its list or has tried to, as after a start.
    First,
    /// Every one has a run now; runs under way are joined.
    Force,
    /// Every one has had a run since the start.
    AtLeastOnce,
}

impl Gateway {
    /// Begins to build one.
    pub fn builder(settings: Settings) -> GatewayBuilder {
        GatewayBuilder::new(settings)
    }

    pub(super) fn assemble(parts: Parts, mut tasks: Vec<JoinHandle<()>>, state_task: JoinHandle<()>) -> Self {
        let inner = Arc::new(Inner {
            grants: Grants::of(&parts.settings.load().tokens),
            parts,
            started: Instant::now(),
            restored: CancellationToken::new(),
            warm: AtomicBool::new(false),
            calls: tokio_util::task::TaskTracker::new(),
            listening: ArcSwap::default(),
            northbound: Northbound::new(),
            registry_turns: Arc::new(tokio::sync::Semaphore::new(limits::REGISTRY_TURNS)),
            rates: TokenRates::default(),
            bodies: Arc::default(),
            changing: Arc::default(),
            former: std::sync::Mutex::default(),
            tasks: std::sync::Mutex::new(None),
            ended: CancellationToken::new(),
            runtime: tokio::runtime::Handle::current(),
        });
        let gateway = Self { inner: inner.clone(), _holder: Some(Arc::new(Holder(inner.clone()))) };
        let watcher = gateway.for_task();
        tasks.push(tokio::spawn(async move {
            let stop = watcher.inner.parts.stop.clone();
            tokio::select! {
                () = stop.cancelled() => {}
                () = watcher.observe_first_pass() => {}
            }
        }));
        let restoring = gateway.for_task();
        tasks.push(tokio::spawn(async move { restoring.observe_restored().await }));
        tasks.push(tokio::spawn(gateway.for_task().watch_for_resume()));
        tasks.push(tokio::spawn(gateway.for_task().end_idle_sessions()));
        *inner.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner) =
            Some(Tasks { loops: tasks, state: state_task });
        gateway
    }

    /// A clone for a task that ends with the gateway: it does not keep the gateway alive.
    pub(super) fn for_task(&self) -> Self {
        Self { inner: self.inner.clone(), _holder: None }
    }

    /// Waits until the lists that an earlier process saved are served.
    pub(super) async fn restored(&self) {
        self.inner.restored.cancelled().await;
    }

    async fn observe_restored(&self) {
        // Dropped however this ends: requests do not wait for a task that has gone.
        let _restored = self.inner.restored.clone().drop_guard();
        let mut applied = self.inner.parts.applied.clone();
        // The assembly applies the restored map and the registry first, and returns when they serve what was saved.
        let _ = applied.changed().await;
        self.inner.warm.store(self.snapshot().tool_count() > 0, Ordering::Relaxed);
    }

    /// The registry: to read and to change it.
    pub fn registry(&self) -> &Arc<Store> {
        &self.inner.parts.store
    }

    /// The catalog as it is now.
    pub fn snapshot(&self) -> Arc<CatalogSnapshot> {
        self.inner.parts.catalog.snapshot()
    }

    /// The policy that decides.
    pub fn policy(&self) -> &Arc<Policy> {
        &self.inner.parts.policy
    }

    /// The configuration in force.
    pub fn settings(&self) -> Arc<Settings> {
        self.inner.parts.settings.load_full()
    }

    /// The record of its decisions, if there is one.
    pub fn trace(&self) -> Option<&TraceWriter> {
        self.inner.parts.trace.as_ref()
    }

    /// Waits until every connector serves its list or has tried to, and tells how that went.
    pub async fn first_pass(&self) -> Arc<SyncReport> {
        let mut first_pass = self.inner.parts.first_pass.subscribe();
        match first_pass.wait_for(Option::is_some).await {
            Ok(report) => report.clone().unwrap_or_default(),
            Err(_) => Arc::default(),
        }
    }

    /// Refreshes the service map and every connector, and waits for them. `progress` is told of each as it ends.
    pub async fn sync(&self, kind: SyncKind, progress: impl Fn(&Synced)) -> SyncReport {
        let parts = &self.inner.parts;
        if kind == SyncKind::First {
            let mut applied = parts.applied.clone();
            // The assembly ends only with the gateway.
            let _ = applied.wait_for(|applied| applied.settled).await;
            return parts.fleet.pass(PassKind::First, self.inner.started, progress).await;
        }
        let started = Instant::now();
        // Right after the start not every connector is there yet.
        self.restored().await;
        if let Some(map) = &parts.map {
            let ran = map.view().borrow().status.runs > 0;
            let view =
                if kind == SyncKind::AtLeastOnce && ran { map.view().borrow().clone() } else { map.force().await };
            let mut applied = parts.applied.clone();
            // The assembly follows within microseconds; it ends only with the gateway.
            let _ = applied.wait_for(|applied| applied.map_runs >= view.status.runs).await;
        }
        let pass = if kind == SyncKind::Force { PassKind::Force } else { PassKind::AtLeastOnce };
        let report = parts.fleet.pass(pass, started, progress).await;
        self.log(&report);
        report
    }

    /// Calls a connector's tool by its exposed name. The gateway's own tools are for clients of its endpoint: programs
    /// have [`Self::registry`].
    ///
    /// # Errors
    /// [`CallError`]; an unknown name is [`CallError::NoTool`], or [`CallError::NoList`] of a connector without lists.
    pub async fn call(&self, name: &str, arguments: Option<Box<RawValue>>) -> Result<Outcome, CallError> {
        self.restored().await;
        let snapshot = self.snapshot();
        let unknown =
            || missing_list(self, &View::everything(), name).unwrap_or_else(|| CallError::NoTool(name.to_owned()));
        let route = snapshot.route(name).ok_or_else(unknown)?;
        let mut params = RawObject::new();
        if let Some(arguments) = arguments {
            params.set(ParamsMember::Arguments.key(), arguments);
        }
        self.forward(route, Caller::default(), TOOLS_CALL, ParamsMember::Name, params).await
    }

    /// Sends a request on under the connector's own name for what it is about, which stands in `member`; everything else in
    /// `params` stays as it is.
    pub(super) async fn forward(
        &self,
        route: &Route,
        caller: Caller<'_>,
        method: &str,
        member: ParamsMember,
        mut params: RawObject,
    ) -> Result<Outcome, CallError> {
        params.set_str(member.key(), &route.original);
        self.inner.parts.fleet.call(&route.connector, caller, method, params).await
    }

    /// How everything stands.
    pub fn status(&self) -> GatewayStatus {
        let parts = &self.inner.parts;
        let snapshot = self.snapshot();
        let applied = parts.applied.borrow().clone();
        let settings = parts.settings.load();
        let connectors = parts.fleet.statuses();
        let (tool_bounds, filters) = (BoundsStatus::of(&snapshot, &settings), snapshot.filter_effects());
        // Before the first descriptions came, nobody knows who is missing.
        let is_known = |id: &ConnectorId| {
            !applied.settled || applied.disabled.contains(id) || connectors.iter().any(|status| status.id == *id)
        };
        let mut warnings = warnings(&settings, &tool_bounds, (&filters, &connectors), is_known);
        if applied.settled {
            let ids = || connectors.iter().map(|status| &status.id).chain(&applied.disabled);
            warnings.extend(pattern_warnings(&settings.tokens, &snapshot, ids));
        }
        GatewayStatus {
            version: env!("CARGO_PKG_VERSION"),
            ready: self.is_ready(),
            tools: snapshot.tool_count(),
            policy: parts.policy.status(),
            former_policies: self.former_policies(),
            service_map: parts.map.as_ref().map(|map| map.view().borrow().status.clone()),
            registry: parts.registry.borrow().status.clone(),
            connectors,
            tool_bounds,
            filters,
            warnings,
            disabled: applied.disabled.clone(),
            collisions: snapshot.collisions(),
            conflicts: applied.conflicts.clone(),
            state: parts.state.role(),
            trace: parts.trace.as_ref().map(TraceWriter::status),
            shadow: parts.shadow.as_ref().map(Shadow::status),
            configuration: settings.redacted(),
        }
    }

    /// Whether it has something to serve, or has tried everything that it knows.
    pub fn is_ready(&self) -> bool {
        self.snapshot().tool_count() > 0 || self.inner.parts.first_pass.borrow().is_some()
    }

    /// Ends it, in order: calls in flight end or are cut off, sessions are closed, state is written, tasks are awaited. Calls
    /// have [`limits::DRAIN_TIMEOUT`].
    pub async fn shut_down(&self) {
        self.shut_down_by(Instant::now() + limits::DRAIN_TIMEOUT).await;
    }

    /// The same; calls in flight have until then. For whoever stopped a listener before and let requests end there: both
    /// have one deadline. State that changed before is written meanwhile as ever. One that ends already keeps its deadline,
    /// and is waited for; what is begun goes on if this future is dropped.
    pub async fn shut_down_by(&self, deadline: Instant) {
        self.inner.begin_to_end(deadline);
        self.inner.ended.cancelled().await;
    }

    /// A reader was given the catalog: what is stale is told so.
    pub(super) fn was_read(&self) {
        self.inner.parts.fleet.was_read();
        if let Some(map) = &self.inner.parts.map {
            map.was_read();
        }
    }

    /// Right after a cold start, lets the first connectors come before a list is answered: all of them, or those that take no
    /// longer than twice as long as the last one that came. One that is hung holds up nobody's list.
    pub(super) async fn wait_for_first_lists(&self) {
        let mut first_pass = self.inner.parts.first_pass.subscribe();
        if self.inner.warm.load(Ordering::Relaxed) || first_pass.borrow().is_some() {
            return;
        }
        let started = self.inner.started;
        let deadline = started + limits::COLD_LIST_WAIT;
        let mut changes = self.inner.parts.catalog.changes();
        let mut patience = deadline;
        loop {
            changes.borrow_and_update();
            if self.snapshot().has_offers() {
                let now = Instant::now();
                patience = deadline.min(now + now.duration_since(started).max(limits::COLD_LIST_QUIET));
            }
            tokio::select! {
                biased;
                // Its sender is this gateway.
                _ = first_pass.wait_for(Option::is_some) => return,
                Ok(()) = changes.changed() => {}
                () = tokio::time::sleep_until(patience) => return,
            }
        }
    }

    async fn observe_first_pass(&self) {
        let report = self.sync(SyncKind::First, |_| {}).await;
        // One that comes back later starts without.
        self.inner.parts.catalog.forget_claims_of_absent(&self.inner.parts.fleet.described());
        self.log(&report);
        self.inner.parts.first_pass.send_replace(Some(Arc::new(report)));
    }

    /// Notices that the machine was suspended: the boot clock counts that time, timers do not.
    async fn watch_for_resume(self) {
        let parts = &self.inner.parts;
        loop {
            let (before, boot_before) = (Instant::now(), parts.edge.clock.boot());
            tokio::select! {
                () = parts.stop.cancelled() => return,
                () = tokio::time::sleep(limits::RESUME_CHECK) => {}
            }
            let slept = parts.edge.clock.boot().since(boot_before).saturating_sub(before.elapsed());
            if slept > limits::RESUME_LEAST {
                tracing::info!(seconds = slept.as_secs(), "the machine was suspended");
                parts.fleet.resumed();
                if let Some(map) = &parts.map {
                    map.resumed();
                }
            }
        }
    }

    fn log(&self, report: &SyncReport) {
        report.log(report.connector_count + self.inner.parts.applied.borrow().disabled.len());
    }
}

impl Inner {
    /// Ends it in a task of its own, unless it ends already.
    fn begin_to_end(self: &Arc<Self>, deadline: Instant) {
        let tasks = self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(tasks) = tasks else { return };
        let (inner, ended) = (self.clone(), self.ended.clone().drop_guard());
        self.runtime.spawn(async move {
            inner.end(tasks, deadline).await;
            // Dropped however this ends, and last: whoever waits finds everything given up.
            drop(inner);
            drop(ended);
        });
    }

    async fn end(&self, Tasks { loops, state }: Tasks, deadline: Instant) {
        let parts = &self.parts;
        self.northbound.end_streams();
        self.calls.close();
        // Whatever has not ended by then is cut off below.
        let _ = tokio::time::timeout_at(deadline, self.calls.wait()).await;
        parts.stop.cancel();
        end(loops).await;
        self.northbound.close().await;
        parts.fleet.shut_down(deadline).await;
        parts.state.close().await;
        end(vec![state]).await;
        // Nobody decides any more.
        if let Some(shadow) = &parts.shadow {
            shadow.close().await;
        }
        if let Some(trace) = &parts.trace {
            trace.close().await;
        }
        tracing::info!("the gateway has ended");
    }
}

impl std::fmt::Debug for Gateway {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Gateway").field("fleet", &self.inner.parts.fleet).finish_non_exhaustive()
    }
}

/// Awaits tasks that were told to end; those that do not are aborted and awaited again.
async fn end(tasks: Vec<JoinHandle<()>>) {
    for mut task in tasks {
        if tokio::time::timeout(limits::SHUTDOWN_TIMEOUT, &mut task).await.is_err() {
            task.abort();
            // An aborted task ends at its next wait.
            let _ = tokio::time::timeout(Duration::from_secs(1), task).await;
        }
    }
}
