//! Admission: which waiting run goes next, and how many are under way at once.
//!
//! One task owns the queue. The policy orders it (`plan`) and sets the limit (`concurrency`). A run that takes longer
//! than the plan's `slow-after-ms` moves to the slow lane and frees its place, so that hung servers never hold up healthy
//! ones; with a number that the operator fixed, no run moves, and that number bounds everything under way.
//!
//! The policy orders a window of the queue: the first [`limits::PLAN_WINDOW`] runs, those of connectors that did not fail before
//! the others, and of each kind those that a client waits for. It is asked again when other runs join the window: as soon as
//! all that wait fit into it, when it is empty, or when a run of a better class takes the place of one in it. So a long
//! queue is planned once for each run, not once for each pair of runs.

use std::collections::{HashMap, VecDeque};
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
    /// Starts the task that owns the queue. It admits nothing before `opened`, and ends with `stop`, or when every clone of the
    /// admission is gone.
    pub fn start(
        policy: Arc<Policy>,
        maximum: u32,
        fixed: Option<u32>,
        options: Vec<(String, String)>,
        tasks: &TaskTracker,
        (opened, stop): (CancellationToken, CancellationToken),
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
            arrivals: Arrivals::default(),
            window: VecDeque::new(),
            is_planned: false,
            slow_after: limits::SLOW_AFTER,
            under_way: HashMap::new(),
            next_ticket: 0,
            window_ends: None,
            sender: sender.downgrade(),
            policy,
        };
        let settings_in_force = settings.subscribe();
        tasks.spawn(async move {
            tokio::select! {
                () = stop.cancelled() => return,
                () = opened.cancelled() => {}
            }
            queue.run(receiver, settings_in_force, stop).await;
        });
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
    arrivals: Arrivals,
    /// The runs that go next, in the policy's order once they are planned.
    window: VecDeque<Waiting>,
    is_planned: bool,
    slow_after: Duration,
    under_way: HashMap<u64, UnderWay>,
    next_ticket: u64,
    /// Until when runs that ask are only collected, so that they are ordered together.
    window_ends: Option<BootMs>,
    sender: mpsc::WeakSender<Message>,
}

type Waiting = (Candidate, oneshot::Sender<Ticket>);

/// What a run is worth before the policy orders it: the order of the default policy's first two keys. A window that was
/// filled by arrival alone would show the policy nothing but servers that hang, once enough of them wait.
fn class(candidate: &Candidate) -> usize {
    2 * usize::from(candidate.failures > 0) + usize::from(!candidate.wanted)
}

/// Runs that are not in the window yet: those of the first class before those of the next, each class by arrival.
#[derive(Default)]
struct Arrivals([VecDeque<Waiting>; 4]);

impl Arrivals {
    fn push(&mut self, waiting: Waiting) {
        self.0[class(&waiting.0)].push_back(waiting);
    }

    /// Takes one back that goes before all others of its class.
    fn put_back(&mut self, waiting: Waiting) {
        self.0[class(&waiting.0)].push_front(waiting);
    }

    /// The next one that was not given up.
    fn pop(&mut self) -> Option<Waiting> {
        let next = || self.0.iter_mut().find_map(VecDeque::pop_front);
        std::iter::from_fn(next).find(|(_, admitted)| !admitted.is_closed())
    }

    /// The class of the next one.
    fn best(&self) -> Option<usize> {
        self.0.iter().position(|class| !class.is_empty())
    }

    fn len(&self) -> usize {
        self.0.iter().map(VecDeque::len).sum()
    }
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
                if self.window.is_empty() && self.arrivals.len() == 0 && self.window_ends.is_none() {
                    self.window_ends = Some(self.now().plus(limits::ADMISSION_WINDOW));
                }
                self.arrivals.push((candidate, admitted));
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
        while self.has_place() {
            self.fill_window();
            if !self.is_planned {
                self.plan();
            }
            let Some((_, admitted)) = self.window.pop_front() else { return };
            self.start(admitted, self.slow_after);
        }
    }

    /// Whether one more run may be under way. The limit may change with each decision.
    fn has_place(&self) -> bool {
        self.places_taken() < usize::try_from(self.limit).unwrap_or(usize::MAX)
    }

    fn fill_window(&mut self) {
        // Runs that were given up while they waited need no place.
        self.window.retain(|(_, admitted)| !admitted.is_closed());
        if !self.window.is_empty() && self.window.len() + self.arrivals.len() > limits::PLAN_WINDOW {
            return self.exchange();
        }
        while self.window.len() < limits::PLAN_WINDOW {
            let Some(waiting) = self.arrivals.pop() else { break };
            self.window.push_back(waiting);
            self.is_planned = false;
        }
    }

    /// Lets arrivals of a better class take the places of runs of a worse one, the last of which go back.
    fn exchange(&mut self) {
        while let Some(best) = self.arrivals.best() {
            let worse = self.window.iter().rposition(|(candidate, _)| class(candidate) > best);
            let Some(back) = worse.and_then(|position| self.window.remove(position)) else { return };
            self.arrivals.put_back(back);
            self.window.extend(self.arrivals.pop());
            self.is_planned = false;
        }
    }

    /// Puts the window in the policy's order.
    fn plan(&mut self) {
        self.is_planned = true;
        if self.window.is_empty() {
            return;
        }
        let candidates = self.window.iter().map(|(candidate, _)| candidate.clone()).collect();
        match self.policy.plan(&self.plan_subject, &self.plan_config, candidates) {
            Ok(plan) => {
                self.slow_after = Duration::from_millis(plan.slow_after_ms);
                let mut waiting: Vec<Option<Waiting>> = self.window.drain(..).map(Some).collect();
                // The host has made a permutation of the order.
                let ordered =
                    plan.order.into_iter().filter_map(|at| waiting.get_mut(usize::try_from(at).ok()?)?.take());
                self.window.extend(ordered);
            }
            Err(error) => {
                self.slow_after = limits::SLOW_AFTER;
                tracing::error!(%error, "no plan; runs start in the order of arrival");
            }
        }
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

#[cfg(test)]
mod tests;
