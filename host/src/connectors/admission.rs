//! Admission: which waiting run goes next, and how many are under way at once.
//!
//! One task owns the queue. The policy orders it (`plan`) and sets the limit (`concurrency`). A run that takes longer
//! than the plan's `slow-after-ms` moves to the slow lane and frees its place, so that hung servers never hold up healthy
//! ones; with a number that the operator fixed, nobody moves, and that number bounds everything under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::limits;
use crate::model::{BootMs, FailureClass, milliseconds};
use crate::policy::contract::{
    Candidate, ConcurrencyConfig, ConcurrencyEvent, ConcurrencyState, FinishedEvent, PlanConfig, RunOutcome,
};
use crate::policy::{Held, Policy, Subject};

/// The door that every run passes. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Admission {
    sender: mpsc::Sender<Message>,
    settings: watch::Sender<AdmissionSettings>,
}

/// What can change while it runs.
#[derive(Clone, Debug)]
struct AdmissionSettings {
    fixed: Option<u32>,
    options: Vec<(String, String)>,
}

enum Message {
    Enter { candidate: Candidate, admitted: oneshot::Sender<Ticket> },
    Finished { ticket: u64, event: FinishedEvent },
}

/// A run under way. Dropped without an outcome, it counts as cancelled.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    sender: mpsc::Sender<Message>,
    since: tokio::time::Instant,
    reported: bool,
}

impl Ticket {
    /// The run ended.
    pub(super) async fn finish(mut self, outcome: Result<(), FailureClass>) {
        self.reported = true;
        let outcome = match outcome {
            Ok(()) => RunOutcome::Succeeded,
            Err(class) => RunOutcome::Failed(class.into()),
        };
        // The admission ends only with the gateway.
        let _ = self.sender.send(self.message(outcome)).await;
    }

    fn message(&self, outcome: RunOutcome) -> Message {
        let duration_ms = milliseconds(self.since.elapsed());
        Message::Finished { ticket: self.id, event: FinishedEvent { duration_ms, outcome } }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.reported {
            // A full queue is drained within microseconds; a lost message would cost a place, so a task waits for it.
            let (sender, message) = (self.sender.clone(), self.message(RunOutcome::Cancelled));
            if let Err(mpsc::error::TrySendError::Full(message)) = sender.clone().try_send(message)
                && let Ok(runtime) = tokio::runtime::Handle::try_current()
            {
                runtime.spawn(async move { sender.send(message).await });
            }
        }
    }
}

impl Admission {
    /// Starts the task that owns the queue. It ends with `stop`, or when every clone of the admission is gone.
    pub fn start(
        policy: Arc<Policy>,
        maximum: u32,
        fixed: Option<u32>,
        options: Vec<(String, String)>,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(limits::ADMISSION_QUEUE);
        let settings = watch::Sender::new(AdmissionSettings { fixed, options: options.clone() });
        let slow_after_ms = milliseconds(limits::SLOW_AFTER);
        let queue = Queue {
            plan_subject: Subject::new("admission/plan"),
            concurrency_subject: Subject::new("admission/concurrency"),
            plan_config: PlanConfig { slow_after_ms, options: options.clone() },
            concurrency_config: ConcurrencyConfig { minimum: 1, maximum, fixed, options },
            concurrency: Held::new(ConcurrencyState::initial()),
            limit: fixed.unwrap_or(maximum).max(1),
            waiting: Vec::new(),
            under_way: HashMap::new(),
            next_ticket: 0,
            window_ends: None,
            sender: sender.downgrade(),
            policy,
        };
        tasks.spawn(queue.run(receiver, settings.subscribe(), stop));
        Self { sender, settings }
    }

    /// Other settings are in force from now on; they bind those who ask later. It does not wait, so that whoever puts
    /// settings in force can not be interrupted here.
    pub(super) fn reconfigure(&self, fixed: Option<u32>, options: Vec<(String, String)>) {
        self.settings.send_replace(AdmissionSettings { fixed, options });
    }

    /// Waits for a place. None: the gateway is ending.
    pub(super) async fn enter(&self, candidate: Candidate) -> Option<Ticket> {
        let (admitted, place) = oneshot::channel();
        self.sender.send(Message::Enter { candidate, admitted }).await.ok()?;
        place.await.ok()
    }
}

struct Queue {
    policy: Arc<Policy>,
    plan_subject: Subject,
    concurrency_subject: Subject,
    plan_config: PlanConfig,
    concurrency_config: ConcurrencyConfig,
    concurrency: Held<ConcurrencyState>,
    limit: u32,
    waiting: Vec<(Candidate, oneshot::Sender<Ticket>)>,
    under_way: HashMap<u64, UnderWay>,
    next_ticket: u64,
    /// Until when runs that ask are only collected, so that they are ordered together.
    window_ends: Option<BootMs>,
    sender: mpsc::WeakSender<Message>,
}

struct UnderWay {
    slow_at: BootMs,
    lane: Lane,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Lane {
    Fast,
    Slow,
}

impl Queue {
    async fn run(
        mut self,
        mut receiver: mpsc::Receiver<Message>,
        mut settings: watch::Receiver<AdmissionSettings>,
        stop: CancellationToken,
    ) {
        let clock = self.policy.edge().clock.clone();
        loop {
            let next_slow = self.next_slow();
            let mut taken = None;
            tokio::select! {
                () = stop.cancelled() => return,
                message = receiver.recv() => match message {
                    Some(message) => taken = Some(message),
                    None => return,
                },
                Ok(()) = settings.changed() => {}
                () = clock.sleep_until_some(self.window_ends) => self.window_ends = None,
                () = clock.sleep_until_some(next_slow) => self.move_slow_ones(),
            }
            // Here and not in the branch: what was sent before a message binds who sent the message.
            self.follow(&settings.borrow_and_update());
            if let Some(message) = taken {
                self.take(message);
            }
            if self.window_ends.is_none() {
                self.admit();
            }
        }
    }

    fn follow(&mut self, settings: &AdmissionSettings) {
        let AdmissionSettings { fixed, options } = settings;
        if (*fixed, options) == (self.concurrency_config.fixed, &self.concurrency_config.options) {
            return;
        }
        self.plan_config.options.clone_from(options);
        self.concurrency_config.options.clone_from(options);
        self.concurrency_config.fixed = *fixed;
        // The operator's number binds at once; an adaptive limit is the policy's, which is asked with the next run.
        self.limit = fixed.unwrap_or(self.limit).max(1);
    }

    fn now(&self) -> BootMs {
        self.policy.edge().clock.boot()
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Enter { candidate, admitted } => {
                if self.waiting.is_empty() && self.window_ends.is_none() {
                    self.window_ends = Some(self.now().plus(limits::ADMISSION_WINDOW));
                }
                self.waiting.push((candidate, admitted));
            }
            Message::Finished { ticket, event } => {
                if self.under_way.remove(&ticket).is_some() {
                    self.decide_limit(ConcurrencyEvent::Finished(event));
                }
            }
        }
    }

    fn decide_limit(&mut self, event: ConcurrencyEvent) {
        let (subject, config) = (&self.concurrency_subject, &self.concurrency_config);
        match self.policy.concurrency(subject, config, &mut self.concurrency, event) {
            Ok((limit, _)) => self.limit = limit,
            Err(error) => tracing::error!(%error, limit = self.limit, "the limit stays"),
        }
    }

    fn places_taken(&self) -> usize {
        self.under_way.values().filter(|run| run.lane == Lane::Fast).count()
    }

    fn next_slow(&self) -> Option<BootMs> {
        if self.concurrency_config.fixed.is_some() || self.slow_lane() >= limits::SLOW_LANE_MAX {
            return None;
        }
        self.under_way.values().filter(|run| run.lane == Lane::Fast).map(|run| run.slow_at).min()
    }

    fn slow_lane(&self) -> usize {
        self.under_way.len() - self.places_taken()
    }

    fn move_slow_ones(&mut self) {
        let now = self.now();
        let mut free = limits::SLOW_LANE_MAX.saturating_sub(self.slow_lane());
        for run in self.under_way.values_mut().filter(|run| run.lane == Lane::Fast && run.slow_at <= now) {
            if free > 0 {
                run.lane = Lane::Slow;
                free -= 1;
            }
        }
    }

    fn admit(&mut self) {
        // Whoever was dropped while waiting needs no place.
        self.waiting.retain(|(_, admitted)| !admitted.is_closed());
        let limit = usize::try_from(self.limit).unwrap_or(usize::MAX);
        if self.waiting.is_empty() || self.places_taken() >= limit {
            return;
        }
        let candidates = self.waiting.iter().map(|(candidate, _)| candidate.clone()).collect();
        let (order, slow_after) = match self.policy.plan(&self.plan_subject, &self.plan_config, candidates) {
            Ok(plan) => (plan.order, Duration::from_millis(plan.slow_after_ms)),
            Err(error) => {
                tracing::error!(%error, "the order is that of arrival");
                ((0..u32::try_from(self.waiting.len()).unwrap_or(u32::MAX)).collect(), limits::SLOW_AFTER)
            }
        };
        let mut waiting: Vec<Option<_>> = std::mem::take(&mut self.waiting).into_iter().map(Some).collect();
        for position in order {
            let Some(place) = usize::try_from(position).ok().and_then(|at| waiting.get_mut(at)) else { continue };
            // The limit may fall with each decision.
            if self.places_taken() >= usize::try_from(self.limit).unwrap_or(usize::MAX) {
                break;
            }
            let Some((_, admitted)) = place.take() else { continue };
            self.start(admitted, slow_after);
        }
        self.waiting = waiting.into_iter().flatten().collect();
    }

    fn start(&mut self, admitted: oneshot::Sender<Ticket>, slow_after: Duration) {
        let Some(sender) = self.sender.upgrade() else { return };
        self.next_ticket += 1;
        let id = self.next_ticket;
        let ticket = Ticket { id, sender, since: tokio::time::Instant::now(), reported: false };
        self.under_way.insert(id, UnderWay { slow_at: self.now().plus(slow_after), lane: Lane::Fast });
        self.decide_limit(ConcurrencyEvent::Began);
        if let Err(mut ticket) = admitted.send(ticket) {
            ticket.reported = true;
            self.under_way.remove(&id);
            let event = FinishedEvent { duration_ms: 0, outcome: RunOutcome::Cancelled };
            self.decide_limit(ConcurrencyEvent::Finished(event));
        }
    }
}
