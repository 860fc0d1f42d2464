//! One run of a connector: wait for a place, open the session if need be, list everything that its server offers.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout};

use super::admission::{Admission, Ticket};
use super::call::starts_a_process_again;
use super::collect::{Collected, collect};
use super::handle::Handle;
use super::limits;
use super::session_slot::SessionSlot;
use crate::edge::clock::Clock;
use crate::edge::http::HttpError;
use crate::mcp::protocol::PING;
use crate::mcp::{Era, ListScope, Nobody, ProtocolFault, Session, WireError};
use crate::model::Contact;
use crate::model::raw::RawObject;
use crate::model::{Failure, FailureClass, Moment, Offer};
use crate::policy::contract::Candidate;
use crate::telemetry::{LogLimit, RefreshMetrics, SyncPhase};

/// What a run brought.
pub(super) struct Brought {
    pub(super) offer: Offer,
    pub(super) ttl_ms: Option<u64>,
    pub(super) scope: Option<ListScope>,
    /// When it was asked for.
    pub(super) requested: Moment,
    /// From the admission to the end.
    pub(super) duration: Duration,
}

/// What a run needs besides its connector.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) admission: Admission,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) refreshes: RefreshMetrics,
    /// Which failures of runs are logged, over all connectors.
    pub(super) failures: Arc<LogLimit<FailureClass>>,
}

/// Lists what a connector offers.
pub(super) async fn list(handle: Arc<Handle>, context: RunContext, candidate: Candidate) -> Result<Brought, Failure> {
    let Some(mut place) = Place::enter(&context.admission, candidate).await else {
        return Err(Failure::new(FailureClass::Refused, "the gateway is ending"));
    };
    let started = Instant::now();
    let listed = attempt(&handle, &context, &mut place, started).await;
    if let Err(failure @ Failure { retry_after: Some(_), .. }) = &listed {
        // Calls are not what it has time for either.
        handle.heed(failure);
    }
    match &listed {
        Ok(_) => handle.note_answered(),
        Err(_) => handle.note_contact(Contact::Down),
    }
    place.finish(listed.as_ref().map(|_| ()).map_err(|failure| failure.class)).await;
    listed
}

/// Makes sure that a connector can be reached, without listing: after a warm start.
pub(super) async fn contact(handle: Arc<Handle>, context: RunContext, candidate: Candidate) -> Result<(), Failure> {
    let Some(mut place) = Place::enter(&context.admission, candidate).await else {
        return Ok(());
    };
    let reached = match handle.slot.clone() {
        Ok(slot) => reach(&handle, &slot, &mut place).await,
        Err(failure) => Err(failure),
    };
    match &reached {
        Ok(()) => handle.note_answered(),
        Err(_) => handle.note_contact(Contact::Down),
    }
    place.finish(reached.as_ref().copied().map_err(|failure| failure.class)).await;
    reached
}

/// A run's place in the admission, which it gives back while it waits for a process that is slow to start.
struct Place<'a> {
    admission: &'a Admission,
    candidate: Candidate,
    ticket: Option<Ticket>,
}

impl<'a> Place<'a> {
    /// Waits for a place. None: the gateway is ending.
    async fn enter(admission: &'a Admission, candidate: Candidate) -> Option<Self> {
        let ticket = admission.enter(candidate.clone()).await?;
        Some(Self { admission, candidate, ticket: Some(ticket) })
    }

    /// The session, opened if need be. A process that takes longer than its permit to start goes on without a place, so that it
    /// holds up no other run, whatever their number is fixed to; there is one again for what follows.
    async fn session(&mut self, slot: &Arc<SessionSlot>) -> Result<Arc<Session>, Failure> {
        if !slot.is_process() {
            return slot.session().await;
        }
        slot.attempt()?;
        let mut opening = pin!(slot.session());
        if let Ok(opened) = timeout(limits::START_PERMIT, &mut opening).await {
            return opened;
        }
        self.ticket = None;
        let session = opening.await?;
        self.ticket = self.admission.enter(self.candidate.clone()).await;
        Ok(session)
    }

    /// The run ended.
    async fn finish(self, outcome: Result<(), FailureClass>) {
        if let Some(ticket) = self.ticket {
            ticket.finish(outcome).await;
        }
    }
}

async fn reach(handle: &Handle, slot: &Arc<SessionSlot>, place: &mut Place<'_>) -> Result<(), Failure> {
    let session = place.session(slot).await?;
    // A remembered era opens a session over HTTP without a word on the wire.
    let asking = async {
        match session.era() {
            Era::Modern => session.learn().await,
            Era::Legacy => session.request(PING, RawObject::new(), &Nobody).await.map(drop),
        }
    };
    let asked = timeout(handle.deadlines.get().connect, asking).await;
    slot.note_learned();
    match asked.unwrap_or(Err(WireError::Http(HttpError::Timeout))) {
        // Whatever it answered, it answered.
        Ok(()) | Err(WireError::Rpc(_)) => Ok(()),
        Err(error) => {
            if !is_slow_process(slot, &error) {
                slot.forget(&session, &error);
            }
            Err(slot.failure(&session, &error).await)
        }
    }
}

/// Whether a process is slow, which is no reason to start another one: it is the same one then as before, and what it works
/// on is lost.
fn is_slow_process(slot: &SessionSlot, error: &WireError) -> bool {
    slot.is_process() && matches!(error, WireError::Http(HttpError::Timeout))
}

async fn attempt(
    handle: &Handle,
    context: &RunContext,
    place: &mut Place<'_>,
    started: Instant,
) -> Result<Brought, Failure> {
    let slot = handle.slot.clone()?;
    let mut attempts = limits::ATTEMPTS;
    loop {
        attempts -= 1;
        let connecting = Instant::now();
        let before = slot.open_session();
        let session = place.session(&slot).await?;
        handle.note_opened(&session, before.as_ref());
        context.refreshes.phase(SyncPhase::Connect, connecting.elapsed());
        let requested = context.clock.now();
        let listing = Instant::now();
        let limit = handle.deadlines.get().list;
        let collected = collect(&session, slot.offer().as_ref(), &handle.id, limit).await;
        // Whoever waits to know what the server has may know it now.
        slot.note_learned();
        match collected {
            Ok(Collected { offer, ttl_ms, scope }) => {
                context.refreshes.phase(SyncPhase::List, listing.elapsed());
                slot.take_lost();
                return Ok(Brought { offer, ttl_ms, scope, requested, duration: started.elapsed() });
            }
            Err(error) => {
                // A process that had ended before it was asked anything is no reason to fail: it is started again, once.
                let session_is_over = matches!(
                    error,
                    WireError::SessionLost | WireError::WrongEra | WireError::Protocol(ProtocolFault::NotWritten)
                );
                // A server that answers a list with an error, or with nonsense, may be another one than the one that
                // opened this session: the next run opens its own.
                let may_be_another = matches!(error, WireError::Http(_) | WireError::Rpc(_) | WireError::Protocol(_));
                // One stream that is slow is still the one that calls are under way on. One that hangs ends those calls by their
                // deadlines, and then it is another one's turn.
                let is_only_slow = is_slow_process(&slot, &error)
                    || (matches!(error, WireError::Http(HttpError::Timeout))
                        && session.is_shared_stream()
                        && !handle.calls.is_empty());
                let is_given_up = session.is_given_up_after(&error);
                if session_is_over || is_given_up || (may_be_another && !is_only_slow) {
                    slot.forget(&session, &error);
                }
                // One handshake for each run: a session that this run has opened is no better the second time.
                let was_open = before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &session));
                let is_repeated = session_is_over || (is_given_up && was_open && error.failure().retry_after.is_none());
                if !is_repeated || attempts == 0 || starts_a_process_again(&session, before.as_ref()) {
                    return Err(slot.failure(&session, &error).await);
                }
            }
        }
    }
}
