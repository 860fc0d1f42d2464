//! One run of a connector: wait for a place, open the session if need be, list everything that its server offers.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::admission::Admission;
use super::collect::{Collected, collect};
use super::handle::Handle;
use super::limits;
use super::session_slot::SessionSlot;
use crate::edge::clock::Clock;
use crate::edge::http::HttpError;
use crate::mcp::protocol::PING;
use crate::mcp::{Era, ListScope, Nobody, ProtocolFault, WireError};
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
    let Some(ticket) = context.admission.enter(candidate).await else {
        return Err(Failure::new(FailureClass::Refused, "the gateway is ending"));
    };
    let started = Instant::now();
    let listed = attempt(&handle, &context, started).await;
    if let Err(failure @ Failure { retry_after: Some(_), .. }) = &listed {
        // Calls are not what it has time for either.
        handle.heed(failure);
    }
    handle.note_contact(if listed.is_ok() { Contact::Up } else { Contact::Down });
    ticket.finish(listed.as_ref().map(|_| ()).map_err(|failure| failure.class)).await;
    listed
}

/// Makes sure that a connector can be reached, without listing: after a warm start.
pub(super) async fn contact(handle: Arc<Handle>, context: RunContext, candidate: Candidate) -> Result<(), Failure> {
    let Some(ticket) = context.admission.enter(candidate).await else {
        return Ok(());
    };
    let slot = handle.slot.clone();
    let reached = match slot {
        Ok(slot) => reach(&slot).await,
        Err(failure) => Err(failure),
    };
    handle.note_contact(if reached.is_ok() { Contact::Up } else { Contact::Down });
    ticket.finish(reached.as_ref().copied().map_err(|failure| failure.class)).await;
    reached
}

async fn reach(slot: &Arc<SessionSlot>) -> Result<(), Failure> {
    let session = slot.session().await?;
    // A remembered era opens a session without a word on the wire.
    let asking = async {
        match session.era() {
            Era::Modern => session.learn().await,
            Era::Legacy => session.request(PING, RawObject::new(), &Nobody).await.map(drop),
        }
    };
    let asked = tokio::time::timeout(limits::CONNECT_TIMEOUT, asking).await;
    slot.note_learned();
    match asked.unwrap_or(Err(WireError::Http(HttpError::Timeout))) {
        // Whatever it answered, it answered.
        Ok(()) | Err(WireError::Rpc(_)) => Ok(()),
        Err(error) => {
            slot.forget(&session, &error);
            Err(error.failure())
        }
    }
}

async fn attempt(handle: &Handle, context: &RunContext, started: Instant) -> Result<Brought, Failure> {
    let slot = handle.slot.clone()?;
    let limit = handle.connector.load().timeouts.list.unwrap_or(limits::LIST_TIMEOUT);
    let mut attempts = limits::ATTEMPTS;
    loop {
        attempts -= 1;
        let connecting = Instant::now();
        let session = slot.session().await?;
        context.refreshes.phase(SyncPhase::Connect, connecting.elapsed());
        let requested = context.clock.now();
        let listing = Instant::now();
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
                // A process that is slow is still the one that calls are under way on: another one beside it would contend
                // with it. One that hangs ends those calls by their deadlines, and then it is another one's turn.
                let is_only_slow = matches!(error, WireError::Http(HttpError::Timeout))
                    && session.is_shared_stream()
                    && !handle.calls.is_empty();
                if session_is_over || (may_be_another && !is_only_slow) {
                    slot.forget(&session, &error);
                }
                if !session_is_over || attempts == 0 {
                    return Err(error.failure());
                }
            }
        }
    }
}
