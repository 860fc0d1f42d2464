//! One run of a connector: wait for a place, open the session if need be, list everything.

use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::time::Instant;

use super::admission::Admission;
use super::handle::Handle;
use super::limits;
use super::session_slot::SessionSlot;
use super::status::Contact;
use crate::edge::clock::Clock;
use crate::edge::http::HttpError;
use crate::mcp::{Era, ListScope, Session, ToolList, WireError};
use crate::model::raw::RawObject;
use crate::model::{Failure, FailureClass, Moment};
use crate::policy::contract::Candidate;
use crate::telemetry::Metrics;

/// What a run brought.
pub(super) struct Listed {
    pub(super) tools: Vec<Box<RawValue>>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) scope: Option<ListScope>,
    /// When the list was asked for.
    pub(super) requested: Moment,
    /// From the admission to the end.
    pub(super) duration: Duration,
}

/// What a run needs besides its connector.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) admission: Admission,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
}

/// Lists a connector's tools.
pub(super) async fn list(handle: Arc<Handle>, context: RunContext, candidate: Candidate) -> Result<Listed, Failure> {
    let Some(ticket) = context.admission.enter(candidate).await else {
        return Err(Failure::new(FailureClass::Refused, "the gateway is ending"));
    };
    let started = Instant::now();
    let listed = attempt(&handle, &context, started).await;
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
    let method = match session.era() {
        Era::Modern => "server/discover",
        Era::Legacy => "ping",
    };
    let asked = tokio::time::timeout(limits::CONNECT_TIMEOUT, session.request(method, RawObject::new())).await;
    match asked.unwrap_or(Err(WireError::Http(HttpError::Timeout))) {
        // Whatever it answered, it answered.
        Ok(_) => Ok(()),
        Err(error) => {
            slot.forget(&session, &error);
            Err(error.failure())
        }
    }
}

async fn attempt(handle: &Handle, context: &RunContext, started: Instant) -> Result<Listed, Failure> {
    let slot = handle.slot.clone()?;
    let limit = handle.connector.load().timeouts.list.unwrap_or(limits::LIST_TIMEOUT);
    let mut attempts = limits::ATTEMPTS;
    loop {
        attempts -= 1;
        let connecting = Instant::now();
        let session = slot.session().await?;
        context.metrics.sync_phase("connect", connecting.elapsed());
        let requested = context.clock.now();
        let listing = Instant::now();
        match list_within(&session, limit).await {
            Ok(ToolList { tools, ttl_ms, scope, .. }) => {
                context.metrics.sync_phase("list", listing.elapsed());
                slot.take_lost();
                return Ok(Listed { tools, ttl_ms, scope, requested, duration: started.elapsed() });
            }
            Err(error) => {
                let session_is_over = matches!(error, WireError::SessionLost | WireError::WrongEra);
                // A server that answers a list with an error, or with nonsense, may be another one than the one that
                // opened this session: the next run opens its own.
                if session_is_over || matches!(error, WireError::Http(_) | WireError::Rpc(_) | WireError::Protocol(_)) {
                    slot.forget(&session, &error);
                }
                if !session_is_over || attempts == 0 {
                    return Err(error.failure());
                }
            }
        }
    }
}

async fn list_within(session: &Session, limit: Duration) -> Result<ToolList, WireError> {
    tokio::time::timeout(limit, session.list_tools()).await.unwrap_or(Err(WireError::Http(HttpError::Timeout)))
}
