//! The task of one connector: it obeys the policy's times, runs at most one run, and publishes what comes of it.

mod evidence;
mod publication;

use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::evidence::next_report;
use super::connector_headers::CredentialReport;
use super::deaths::{Death, Deaths};
use super::handle::{Handle, Signal, Taken};
use super::limits;
use super::publish::{Published, Publisher};
use super::run::{self, Brought, RunContext};
use super::saved::{self, Saved, SavedHeader};
use super::settings::FleetSettings;
use super::status::LastFailure;
use super::suspicion::Suspicion;
use crate::edge::state::{StateRecord, StateSink};
use crate::mcp::{Era, ListScope, ProtocolFault, Session, WireError};
use crate::model::Contact;
use crate::model::{BootMs, Digest, Failure, FailureClass, Offer, WallMs, milliseconds};
use crate::policy::contract::{
    AdvanceOutcome, CacheScope, Candidate, FetchedEvent, RefreshReason, ServeVerdict, Wanted, case_name,
};
use crate::policy::{Policy, Run, Upkeep, UpkeepConfig};
use crate::telemetry::{LastLogged, RefreshOutcome, RefreshSubject};

/// What a supervisor needs besides its connector.
pub(super) struct Surroundings {
    pub(super) policy: Arc<Policy>,
    pub(super) run: RunContext,
    pub(super) publisher: Arc<dyn Publisher>,
    pub(super) state: Arc<dyn StateSink>,
    pub(super) upkeep: UpkeepConfig,
    /// Where other settings will come from.
    pub(super) settings: watch::Receiver<Arc<FleetSettings>>,
    pub(super) stop: CancellationToken,
}

/// The task's own state.
pub(super) struct Supervisor {
    handle: Arc<Handle>,
    with: Surroundings,
    upkeep: Upkeep,
    offer: Option<Offer>,
    running: Option<(Run, JoinHandle<Result<Brought, Failure>>)>,
    contacting: Option<JoinHandle<Result<(), Failure>>>,
    /// A look whether the server answers again.
    looking: Option<JoinHandle<()>>,
    last_failure: Option<LastFailure>,
    last_logged: LastLogged<FailureClass>,
    last_duration_ms: Option<u64>,
    wanted: bool,
    /// Whether the run under way follows an announced change.
    announced: bool,
    runs: u64,
    forces: u64,
    published: Option<Published>,
    /// When a server that ended by itself is started again.
    restart: Option<BootMs>,
    suspicion: Suspicion,
    /// What became of the credential, as it was last acted on.
    credential: CredentialReport,
}

impl Supervisor {
    /// Starts a connector's upkeep and publishes what was saved of it, before the first packet leaves.
    pub(super) fn new(handle: Arc<Handle>, with: Surroundings, saved: Option<StateRecord>) -> Self {
        let saved = saved.and_then(|record| saved::restore(&record, &handle.connector.load()));
        if let (Ok(slot), Some(era)) = (&handle.slot, saved.as_ref().and_then(|saved| saved.header.era)) {
            slot.remember_era(era);
        }
        let name = format!("connector/{}", handle.id);
        let now = with.run.clock.wall();
        handle.definitions.begin(with.settings.borrow().on_change(&handle.id), now);
        if let Some(Saved { header, offer: Some(offer) }) = &saved
            && let Some(digest) = header.offer_digest()
        {
            handle.definitions.observe(offer, digest, now);
        }
        let (restored, offer, last_duration_ms) = match saved {
            Some(Saved { header, offer }) => (Some(header.cache), offer, header.last_duration_ms),
            None => (None, None, None),
        };
        let upkeep = Upkeep::start(with.policy.clone(), &name, with.upkeep.clone(), restored);
        let mut supervisor = Self {
            handle,
            with,
            upkeep,
            offer,
            running: None,
            contacting: None,
            looking: None,
            last_failure: None,
            last_logged: LastLogged::default(),
            last_duration_ms,
            wanted: false,
            announced: false,
            runs: 0,
            forces: 0,
            published: None,
            restart: None,
            suspicion: Suspicion::default(),
            credential: CredentialReport::default(),
        };
        supervisor.remember_offer();
        // What the server refused of an earlier connector of the name is over.
        supervisor.with.publisher.credential(&supervisor.handle.id, None);
        supervisor.publish();
        supervisor
    }

    /// Runs until it is stopped; returns what is to be kept.
    pub(super) async fn run(mut self) -> Option<StateRecord> {
        let clock = self.with.run.clock.clone();
        let due_now = self.upkeep.due().is_some_and(|due| due <= clock.boot());
        if self.offer.is_some() && !due_now {
            // After a warm start sessions are opened at once, in the policy's order.
            let (handle, context) = (self.handle.clone(), self.with.run.clone());
            self.contacting = Some(tokio::spawn(run::contact(handle, context, self.candidate())));
        }
        let mut swaps = self.with.policy.swaps();
        let mut settings = self.with.settings.clone();
        let mut credential = self.handle.headers.as_ref().map(|headers| headers.reports());
        let mut deaths = Deaths::of(self.handle.slot.as_ref().ok().map(|slot| slot.sessions()));
        let mut phases = self.handle.breaker.phases();
        let mut sessions = self.handle.slot.as_ref().ok().map(|slot| slot.sessions());
        loop {
            let stop = self.with.stop.clone();
            let handle = self.handle.clone();
            let time = clock.sleep_until_some(self.next_time());
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // Before the swap that a reload brings: the new policy is not asked with the former options.
                Ok(()) = settings.changed() => {
                    let in_force = settings.borrow_and_update().clone();
                    self.reconfigure(&in_force);
                }
                Ok(()) = swaps.changed() => self.upkeep.judge_if_swapped(),
                report = next_report(&mut credential) => self.credential_reported(&report),
                signals = handle.signals.take() => self.signalled(signals),
                (run, ended) = ended(&mut self.running) => self.ended(run, ended),
                reached = contacted(&mut self.contacting) => self.contacted(reached),
                death = deaths.next() => self.died(&death),
                session = opened(&mut sessions) => self.opened(&session),
                Ok(()) = phases.changed() => {}
                // The status shows it.
                () = handle.metrics.inbound.irregularities.another_kind() => {}
                () = time => self.on_time(clock.boot()),
            }
            self.publish();
        }
        self.end().await
    }

    /// When something is to be done next. One timer for all of it: a timer costs more than the comparison.
    fn next_time(&self) -> Option<BootMs> {
        [self.restart, self.suspicion.due(), self.upkeep.due(), self.upkeep.verdict_until()].into_iter().flatten().min()
    }

    /// Does what is due first.
    fn on_time(&mut self, now: BootMs) {
        let is_due = |time: Option<BootMs>| time.is_some_and(|time| time <= now);
        if is_due(self.restart) {
            self.start_again();
        } else if is_due(self.suspicion.due()) {
            self.check_session(now);
        } else if is_due(self.upkeep.due()) {
            self.begin();
        } else if is_due(self.upkeep.verdict_until()) {
            self.upkeep.judge();
        }
    }

    async fn end(mut self) -> Option<StateRecord> {
        if let Some((run, task)) = self.running.take() {
            task.abort();
            // An aborted task ends at its next wait.
            let _ = task.await;
            self.upkeep.cancelled(run);
        }
        self.upkeep.stopped();
        self.looking.iter().for_each(JoinHandle::abort);
        if let Some(task) = self.contacting.take() {
            task.abort();
            let _ = task.await;
        }
        self.record()
    }

    fn reconfigure(&mut self, settings: &FleetSettings) {
        let cache = &self.upkeep.config().cache;
        let upkeep = settings.upkeep(cache.boot_id, cache.credential.clone());
        self.upkeep.reconfigure(upkeep);
        self.set_deadlines(settings);
        self.handle.gate.reconfigure(settings.call_limits(&self.handle.id));
        self.handle.definitions.set_on_change(settings.on_change(&self.handle.id));
        self.handle.metrics.inbound.set_max_message_bytes(settings.max_message_bytes(&self.handle.id));
        self.handle.set_trace_forwarding(settings.trace_forwarding(&self.handle.id));
        if let Ok(slot) = &self.handle.slot {
            slot.pin(settings.era(&self.handle.id));
        }
    }

    fn set_deadlines(&self, settings: &FleetSettings) {
        let connector = self.handle.connector.load();
        let (call_timeout, options) = settings.calls(&connector);
        self.handle.breaker.reconfigure(call_timeout, options);
        self.handle.deadlines.set(settings.deadlines(&connector));
    }

    fn signalled(&mut self, signals: Taken) {
        if signals.has(Signal::Described) {
            let settings = self.with.settings.borrow().clone();
            self.set_deadlines(&settings);
        }
        if signals.has(Signal::Resumed) {
            self.upkeep.resumed();
        }
        if signals.has(Signal::Changed) {
            self.upkeep.changed();
        }
        if signals.has(Signal::Suspected) {
            self.suspect_session();
        }
        if signals.has(Signal::MayHaveChanged) {
            self.upkeep.may_have_changed();
        }
        if signals.has(Signal::Wanted) && self.upkeep.verdict().wanted != Wanted::None {
            self.wanted = true;
            self.upkeep.wanted();
        }
        if signals.has(Signal::Refused) {
            self.wanted = true;
            self.upkeep.awaited();
            self.look_if_paced();
        }
        if signals.has(Signal::Forced) {
            self.wanted = true;
            self.forces += 1;
            self.upkeep.forced();
        }
    }

    fn candidate(&self) -> Candidate {
        let (failures, last_class) = self.upkeep.failures();
        Candidate {
            id: self.handle.id.to_string(),
            failures,
            last_class,
            last_duration_ms: self.last_duration_ms,
            serving: self.offer.is_some() && self.upkeep.verdict().serve == ServeVerdict::Serve,
            wanted: self.wanted,
        }
    }

    fn begin(&mut self) {
        let candidate = self.candidate();
        let announced = self.upkeep.reason() == RefreshReason::Changed;
        if let Some(run) = self.upkeep.begin() {
            self.handle.note_listed();
            self.wanted = false;
            self.announced = announced;
            let task = tokio::spawn(run::list(self.handle.clone(), self.with.run.clone(), candidate));
            self.running = Some((run, task));
        }
    }

    fn contacted(&mut self, reached: Result<(), Failure>) {
        self.contacting = None;
        match reached {
            // A session that takes the place of another: changes that were announced in between were missed. So were those
            // before the start of the process, for which the policy, which knows of the warm start, has armed a run, unless
            // it refreshes on demand.
            Ok(()) if self.handle.was_listed() || self.upkeep.due().is_none() => self.upkeep.may_have_changed(),
            Ok(()) => {}
            Err(failure) => {
                // What is served may be out of date and nobody would tell: from now on the backoff looks after it.
                tracing::info!(connector = %self.handle.id, class = %failure.class, "not reached after a warm start");
                self.note_failure(&failure);
                self.upkeep.forced();
            }
        }
    }

    /// A session was opened, by a run or by anything else. Only a legacy server certainly answered for that. To the breaker it
    /// is evidence where it is opened, unless the probe opened it.
    fn opened(&self, session: &Session) {
        if session.era() == Era::Legacy {
            self.handle.note_contact(Contact::Up);
        }
    }

    /// The server's process or stream has ended by itself. What it served stays; it is started again soon.
    fn died(&mut self, death: &Death) {
        let error = WireError::Protocol(ProtocolFault::PipeEnded);
        let failure = match &self.handle.slot {
            Ok(slot) => {
                slot.forget(&death.session, &error);
                slot.death(&error)
            }
            Err(failure) => failure.clone(),
        };
        self.note_failure(&failure);
        self.handle.note_contact(Contact::Down);
        if self.running.is_some() || self.upkeep.failures().0 > 0 {
            // The run under way starts it, or fails, and then its backoff is in force: one failure is one start.
            return;
        }
        let wait = limits::RESTART_BACKOFF.wait(death.count, &*self.with.policy.edge().entropy);
        self.restart = Some(self.with.run.clock.boot().plus(wait));
    }

    /// The policy says when: the next run starts the server, unless a call did that meanwhile, and shows whether it is
    /// the same.
    fn start_again(&mut self) {
        self.restart = None;
        self.upkeep.may_have_changed();
    }

    fn ended(&mut self, run: Run, result: Result<Brought, Failure>) {
        self.running = None;
        self.runs += 1;
        let outcome = match result {
            Ok(brought) => self.take(run, brought),
            Err(failure) => {
                self.note_failure(&failure);
                self.upkeep.failed(run, &failure);
                RefreshOutcome::Failed
            }
        };
        self.log_run(run, outcome);
        self.with.run.refreshes.refreshed(RefreshSubject::Connector, outcome);
        self.save();
    }

    /// One line for each run, however it ended: how, how long it took, and when the next one is due. A failure is a warning
    /// when its class changes, and now and then; at the debug level it is always there.
    fn log_run(&mut self, run: Run, outcome: RefreshOutcome) {
        let now = self.with.run.clock.boot();
        let duration_ms = milliseconds(now.since(run.began));
        let next_ms = self.upkeep.due().map(|due| milliseconds(due.since(now)));
        let connector = &self.handle.id;
        match &self.last_failure {
            Some(failure) if outcome == RefreshOutcome::Failed => {
                let (class, message, failures) = (failure.class, &*failure.message, self.upkeep.failures().0);
                let stderr = failure.stderr.as_ref().map(tracing::field::display);
                match self.with.run.failures.admit_change(&mut self.last_logged, class) {
                    Some(line) => tracing::warn!(
                        %connector, %class, failure = message, stderr, failures, duration_ms, next_ms,
                        left_out = line.left_out, "sync failed"
                    ),
                    None => tracing::debug!(
                        %connector, %class, failure = message, stderr, failures, duration_ms, next_ms, "sync failed"
                    ),
                }
            }
            _ => {
                self.last_logged.clear();
                tracing::debug!(%connector, duration_ms, next_ms, "synced");
            }
        }
    }

    fn take(&mut self, run: Run, brought: Brought) -> RefreshOutcome {
        let digest = brought.offer.digest();
        if std::mem::take(&mut self.announced) {
            let is_new = self.offer.as_ref().is_none_or(|offer| offer.digest() != digest);
            self.handle.note_announced(is_new);
        }
        if let Some(headers) = &self.handle.headers {
            self.upkeep.set_credential(headers.fingerprint());
        }
        let event = FetchedEvent {
            digest: digest.to_string(),
            etag: None,
            key_id: None,
            version: None,
            signed_expiry_wall_ms: None,
            ttl_ms: brought.ttl_ms,
            scope: match brought.scope {
                Some(ListScope::Public) => CacheScope::Public,
                Some(ListScope::Private) | None => CacheScope::Private,
            },
            credential: self.upkeep.config().cache.credential.clone(),
            requested: brought.requested.into(),
            key_set: Vec::new(),
        };
        let duration_ms = milliseconds(brought.duration);
        match self.upkeep.fetched(run, event) {
            Ok((outcome @ (AdvanceOutcome::Stored | AdvanceOutcome::Kept), _)) => {
                self.last_failure = None;
                self.last_duration_ms = Some(duration_ms);
                if outcome == AdvanceOutcome::Stored {
                    self.replace_offer(brought.offer, digest);
                }
                RefreshOutcome::Succeeded
            }
            Ok((outcome, reason)) => {
                let message = format!("the policy {} the list: {}", case_name(&outcome), case_name(&reason));
                self.note_failure(&Failure::new(FailureClass::Rollback, message));
                if outcome == AdvanceOutcome::Dropped {
                    self.offer = None;
                }
                RefreshOutcome::Failed
            }
            Err(error) => {
                self.note_failure(&Failure::new(FailureClass::Server, error.to_string()));
                RefreshOutcome::Failed
            }
        }
    }

    fn replace_offer(&mut self, offer: Offer, digest: Digest) {
        self.handle.definitions.observe(&offer, digest, self.with.run.clock.wall());
        self.offer = Some(offer);
        self.remember_offer();
    }

    /// Sessions that are opened without listing know the offer that is in force.
    fn remember_offer(&self) {
        if let Ok(slot) = &self.handle.slot {
            slot.remember(self.offer.clone());
        }
    }

    fn note_failure(&mut self, failure: &Failure) {
        self.last_failure = Some(LastFailure {
            class: failure.class,
            message: failure.message.clone(),
            stderr: failure.stderr.clone(),
            at: self.with.run.clock.wall().to_string(),
        });
    }

    fn save(&self) {
        if let Some(record) = self.record() {
            self.with.state.keep(&saved::record_name(&self.handle.id), record);
        }
    }

    fn record(&self) -> Option<StateRecord> {
        let value = self.upkeep.value();
        let header = SavedHeader {
            origin: self.handle.connector.load().origin_digest(),
            cache: self.upkeep.cache().clone(),
            era: self.handle.slot.as_ref().ok().and_then(|slot| slot.era_to_keep()),
            fetched_at: value.map(|value| WallMs(value.requested.wall_ms)),
            last_duration_ms: self.last_duration_ms,
        };
        let offer = self.offer.as_ref().filter(|_| value.is_some());
        saved::record(&header, offer)
    }
}

/// Waits for the run under way; for ever if there is none. Cancelling it loses nothing.
async fn ended(running: &mut Option<(Run, JoinHandle<Result<Brought, Failure>>)>) -> (Run, Result<Brought, Failure>) {
    match running {
        Some((run, task)) => {
            let run = *run;
            let result = task.await;
            (run, result.unwrap_or_else(|_| Err(Failure::new(FailureClass::Server, "the run panicked"))))
        }
        None => std::future::pending().await,
    }
}

/// Waits for the next session that is opened; for ever if there is never any.
async fn opened(sessions: &mut Option<watch::Receiver<Option<Arc<Session>>>>) -> Arc<Session> {
    while let Some(sessions) = sessions
        && sessions.changed().await.is_ok()
    {
        if let Some(session) = sessions.borrow_and_update().clone() {
            return session;
        }
    }
    std::future::pending().await
}

async fn contacted(contacting: &mut Option<JoinHandle<Result<(), Failure>>>) -> Result<(), Failure> {
    match contacting {
        // A panic here costs the contact only.
        Some(task) => task.await.unwrap_or(Ok(())),
        None => std::future::pending().await,
    }
}
