//! A connector as everybody else holds it: its description, session, gates, signals and published status.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::breaker::Breaker;
use super::connector_headers::ConnectorHeaders;
use super::deadlines::Deadlines;
use super::definitions::Definitions;
use super::gate::CallGate;
use super::limits;
use super::log_wishes::LogWishes;
use super::metrics::ConnectorMetrics;
use super::own_slot::OwnSlots;
use super::quota::QuotaGate;
use super::session_slot::SessionSlot;
use super::status::ConnectorStatus;
use super::wishes::ResourceWishes;
use crate::edge::Edge;
use crate::mcp::{Era, Session, TraceForwarding};
use crate::model::Contact;
use crate::model::{BootMs, Connector, ConnectorId, Failure, FailureClass, Reach};

/// A connector.
pub(super) struct Handle {
    pub(super) id: ConnectorId,
    pub(super) connector: ArcSwap<Connector>,
    /// Its session, or why there can be none.
    pub(super) slot: Result<Arc<SessionSlot>, Failure>,
    /// The headers of its requests; none if there can be no session.
    pub(super) headers: Option<Arc<ConnectorHeaders>>,
    pub(super) breaker: Arc<Breaker>,
    pub(super) quota: QuotaGate,
    pub(super) gate: CallGate,
    /// How long each step may take.
    pub(super) deadlines: Deadlines,
    /// What clients wish to be told of its resources.
    pub(super) wishes: Arc<ResourceWishes>,
    /// What single requests wish for of its log.
    pub(super) logs: Arc<LogWishes>,
    /// The sessions that clients have of their own.
    pub(super) own: OwnSlots,
    pub(super) edge: Edge,
    pub(super) metrics: Arc<ConnectorMetrics>,
    /// What is served of its definitions.
    pub(super) definitions: Definitions,
    pub(super) signals: Signals,
    pub(super) calls: TaskTracker,
    pub(super) status: watch::Sender<Arc<ConnectorStatus>>,
    /// Cancelled when its supervisor has ended, however it ended.
    pub(super) ended: CancellationToken,
    contact: AtomicU8,
    /// What its server is sent of the trace context of clients.
    trace_forwarding: ArcSwap<TraceForwarding>,
    /// When a call last cast doubt on the list, by the boot clock; 0 for never.
    doubted_at: AtomicU64,
    /// Announced changes in a row that changed nothing.
    fruitless: AtomicU32,
    /// Whether a run has begun in this process.
    listed: AtomicBool,
    /// Missed deadlines that were excused since a call was answered.
    excused: AtomicU32,
}

impl Handle {
    pub(super) fn new(
        connector: Arc<Connector>,
        (slot, headers): (Result<Arc<SessionSlot>, Failure>, Option<Arc<ConnectorHeaders>>),
        breaker: Arc<Breaker>,
        (quota, gate, deadlines): (QuotaGate, CallGate, Deadlines),
        wishes: Arc<ResourceWishes>,
        (edge, metrics, definitions): (Edge, Arc<ConnectorMetrics>, Definitions),
    ) -> Self {
        let status = ConnectorStatus::blank(&connector);
        Self {
            id: connector.id.clone(),
            connector: ArcSwap::new(connector),
            slot,
            headers,
            breaker,
            quota,
            gate,
            deadlines,
            wishes,
            logs: Arc::default(),
            own: OwnSlots::default(),
            edge,
            metrics,
            definitions,
            signals: Signals::default(),
            calls: TaskTracker::new(),
            status: watch::Sender::new(Arc::new(status)),
            ended: CancellationToken::new(),
            contact: AtomicU8::new(0),
            trace_forwarding: ArcSwap::default(),
            doubted_at: AtomicU64::new(0),
            fruitless: AtomicU32::new(0),
            listed: AtomicBool::new(false),
            excused: AtomicU32::new(0),
        }
    }

    /// Whether a legacy client that can do something may have a session of its own. A child process is shared: another one
    /// beside it might contend with it for what it works on.
    pub(super) fn has_own_sessions(&self) -> bool {
        matches!(self.connector.load().reach, Some(Reach::Http(_) | Reach::Sse { .. }))
    }

    /// Ends every session with its server, best effort and bounded: those that clients have of their own, and the shared one.
    pub(super) async fn close(&self) {
        let shared = async {
            if let Ok(slot) = &self.slot {
                slot.close().await;
            }
        };
        tokio::join!(self.own.close(), shared);
    }

    /// What its server is sent of the trace context of clients.
    pub(super) fn trace_forwarding(&self) -> TraceForwarding {
        **self.trace_forwarding.load()
    }

    /// Sets what its server is sent of the trace context of clients from now on.
    pub(super) fn set_trace_forwarding(&self, forwarding: TraceForwarding) {
        self.trace_forwarding.store(Arc::new(forwarding));
    }

    /// Notes how the last contact ended.
    pub(super) fn note_contact(&self, contact: Contact) {
        let code = match contact {
            Contact::Unknown => 0,
            Contact::Up => 1,
            Contact::Down => 2,
        };
        if self.contact.swap(code, Ordering::Relaxed) != code {
            self.signals.send(Signal::Observed);
        }
    }

    /// Its server answered something other than a call: a list or a ping.
    pub(super) fn note_answered(&self) {
        self.note_contact(Contact::Up);
        self.breaker.answered();
    }

    /// A session was opened that is another one than `before`, by something else than the probe. Only a legacy server
    /// certainly answered for that.
    pub(super) fn note_opened(&self, session: &Arc<Session>, before: Option<&Arc<Session>>) {
        let is_new = before.is_none_or(|before| !Arc::ptr_eq(before, session));
        if is_new && session.era() == Era::Legacy {
            self.note_answered();
        }
    }

    /// A call was answered.
    pub(super) fn note_call_answered(&self) {
        self.note_contact(Contact::Up);
        self.excused.store(0, Ordering::Relaxed);
    }

    /// Whether the missed deadline of a call that waited for its permit says nothing about its server, which had so much time
    /// for it. Not for long: behind a queue that never empties, no call has its whole time.
    pub(super) fn excuses(&self, had: Duration) -> bool {
        had < self.deadlines.get().list && self.excused.fetch_add(1, Ordering::Relaxed) < limits::EXCUSED_CALLS_MAX
    }

    /// A request failed: if its server asked for time, nobody asks anything of it meanwhile. Tells how long that is.
    pub(super) fn heed(&self, failure: &Failure) -> Option<Duration> {
        let asks = failure.class == FailureClass::Throttled || failure.retry_after.is_some();
        asks.then(|| self.gate.hold(self.edge.clock.boot(), failure.retry_after))
    }

    /// How long its server still wants to be left alone.
    pub(super) fn held_for(&self) -> Duration {
        self.gate.held_for(self.edge.clock.boot()).unwrap_or(Duration::ZERO)
    }

    /// Whether an answer may cast doubt on the list now: not more often than a list may be fetched unforced, whatever
    /// clients call.
    pub(super) fn may_doubt_the_list(&self, now: BootMs) -> bool {
        let last = self.doubted_at.load(Ordering::Relaxed);
        let may = last == 0 || now.since(BootMs(last)) >= limits::REFRESH_FLOOR;
        may && self.doubted_at.compare_exchange(last, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// How many announced changes in a row changed nothing.
    pub(super) fn fruitless(&self) -> u32 {
        self.fruitless.load(Ordering::Relaxed)
    }

    /// A list was fetched because its server announced a change; whether there was one.
    pub(super) fn note_announced(&self, changed: bool) {
        let count = if changed { 0 } else { self.fruitless().saturating_add(1) };
        self.fruitless.store(count, Ordering::Relaxed);
    }

    /// Its list is fetched.
    pub(super) fn note_listed(&self) {
        self.listed.store(true, Ordering::Relaxed);
    }

    /// Whether its list was fetched in this process, or is now, over this session or an earlier one. Before that, changes are
    /// found by the run that the policy armed at the start.
    pub(super) fn was_listed(&self) -> bool {
        self.listed.load(Ordering::Relaxed)
    }

    /// How the last contact ended.
    pub(super) fn contact(&self) -> Contact {
        match self.contact.load(Ordering::Relaxed) {
            1 => Contact::Up,
            2 => Contact::Down,
            _ => Contact::Unknown,
        }
    }
}

/// What others tell a supervisor. Repeated signals are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Somebody insists on a refresh.
    Forced = 1,
    /// A reader found the verdict wanting.
    Wanted = 2,
    /// The list may have changed upstream.
    Changed = 4,
    /// What is published is out of date.
    Observed = 8,
    /// The machine woke up.
    Resumed = 16,
    /// The list may have changed while nobody would have heard of it.
    MayHaveChanged = 32,
    /// Its description changed in a way that needs no other session.
    Described = 64,
    /// The server may have forgotten the session that calls share, or refuses its credential.
    Suspected = 128,
    /// The breaker refused a call: a list or a ping shows whether the server answers again.
    Refused = 256,
}

/// Signals that wait to be taken.
#[derive(Debug, Default)]
pub(super) struct Signals {
    waiting: AtomicU16,
    notify: Notify,
}

impl Signals {
    pub(super) fn send(&self, signal: Signal) {
        self.waiting.fetch_or(signal as u16, Ordering::AcqRel);
        self.notify.notify_one();
    }

    /// Waits until there are some, and takes them.
    pub(super) async fn take(&self) -> Taken {
        loop {
            let taken = self.waiting.swap(0, Ordering::AcqRel);
            if taken != 0 {
                return Taken(taken);
            }
            self.notify.notified().await;
        }
    }
}

/// Signals that were taken.
#[derive(Clone, Copy, Debug)]
pub(super) struct Taken(u16);

impl Taken {
    pub(super) fn has(self, signal: Signal) -> bool {
        self.0 & signal as u16 != 0
    }
}
