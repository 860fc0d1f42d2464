//! One call through a connector: breaker, places, quotas, session, and one more try if nothing was done.
//!
//! Params go in and results come out as raw JSON; nothing here looks into them.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::asking::Seat;
use super::breaker::Passage;
use super::caller::Caller;
use super::gate::Place;
use super::handle::{Handle, Signal};
use super::limits;
use super::own_slot::InUse;
use super::patience::Patience;
use crate::edge::clock::Clock;
use crate::edge::http::HttpError;
use crate::mcp::protocol::{INVALID_PARAMS, METHOD_NOT_FOUND, PROMPTS_GET, TOOLS_CALL, UNSUPPORTED_PROTOCOL_VERSION};
use crate::mcp::{Era, Outcome, ProtocolFault, RpcError, Session, WireError};
use crate::model::Contact;
use crate::model::raw::RawObject;
use crate::model::{ConnectorId, Failure, FailureClass};

/// Why a call has no answer from its server.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// There is no tool of that name.
    #[error("there is no tool {0}")]
    NoTool(String),
    /// There is no such connector.
    #[error("there is no connector {0}")]
    NoConnector(ConnectorId),
    /// The breaker is open.
    #[error("{connector} keeps failing and is given time to recover; retry in {} ms", .retry_after.as_millis())]
    BreakerOpen {
        /// The connector.
        connector: ConnectorId,
        /// When a call may pass.
        retry_after: Duration,
    },
    /// A quota is used up.
    #[error("the quota of {connector} is used up; retry in {} ms", .retry_after.as_millis())]
    Quota {
        /// The connector.
        connector: ConnectorId,
        /// When a call is free.
        retry_after: Duration,
    },
    /// All places for calls at once stay taken, or too many calls wait for one.
    #[error("{connector} has no place free for another call; retry in {} ms", .retry_after.as_millis())]
    Busy {
        /// The connector.
        connector: ConnectorId,
        /// As long as a call waits for a place.
        retry_after: Duration,
    },
    /// The server asked for fewer calls (429) or for time (503 with `Retry-After`), and its time is not over.
    #[error("{connector} asks for fewer calls; retry in {} ms", .retry_after.as_millis())]
    Throttled {
        /// The connector.
        connector: ConnectorId,
        /// When its time is over.
        retry_after: Duration,
    },
    /// The server did not answer.
    #[error("{connector} did not answer: {failure}")]
    Failed {
        /// The connector.
        connector: ConnectorId,
        /// Why.
        failure: Failure,
    },
}

impl CallError {
    /// When to come back, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoTool(_) | Self::NoConnector(_) => None,
            Self::BreakerOpen { retry_after, .. }
            | Self::Quota { retry_after, .. }
            | Self::Busy { retry_after, .. }
            | Self::Throttled { retry_after, .. } => Some(*retry_after),
            Self::Failed { failure, .. } => failure.retry_after,
        }
    }

    /// The connector that it is about, if there is one.
    pub fn connector(&self) -> Option<&ConnectorId> {
        match self {
            Self::NoTool(_) => None,
            Self::NoConnector(connector)
            | Self::BreakerOpen { connector, .. }
            | Self::Quota { connector, .. }
            | Self::Busy { connector, .. }
            | Self::Throttled { connector, .. }
            | Self::Failed { connector, .. } => Some(connector),
        }
    }

    /// A word for machines.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NoTool(_) => "no-tool",
            Self::NoConnector(_) => "no-connector",
            Self::BreakerOpen { .. } => "breaker-open",
            Self::Quota { .. } => "quota",
            Self::Busy { .. } => "busy",
            Self::Throttled { .. } => "throttled",
            Self::Failed { failure, .. } => failure.class.as_str(),
        }
    }
}

/// An answer, and how long the connector took for it.
pub(super) struct Called {
    pub(super) outcome: Outcome,
    pub(super) upstream: Duration,
}

impl Handle {
    /// Sends a request to the connector. `params` already bear the connector's own names.
    pub(super) async fn call(
        self: &Arc<Self>,
        clock: &Arc<dyn Clock>,
        caller: Caller<'_>,
        method: &str,
        params: RawObject,
    ) -> Result<Called, CallError> {
        let _in_flight = self.calls.token();
        let limit = self.deadlines.get().call;
        let (place, passage) = self.admit(clock, limit).await?;
        let patience = Patience::new(caller.interim, &params, limit).seated(Seat::new(&self.gate, place));
        let caller = Caller { interim: &patience, ..caller };
        let own = caller.own.and_then(|own| own.slot(self));
        let beside = own.as_ref().map(|own| own.asking());
        let called = patience.with(self.call_in_place(caller, own, method, params), beside).await;
        match called.unwrap_or_else(|| Err(HttpError::Timeout.into())) {
            Ok(called) => {
                passage.succeeded();
                self.note_contact(Contact::Up);
                if let Outcome::Error(error) = &called.outcome
                    && matches!(method, TOOLS_CALL | PROMPTS_GET)
                    && RpcError::parse(error).is_some_and(|error| denies_the_tool(&error) || is_of_another_era(&error))
                    && self.may_doubt_the_list(clock.boot())
                {
                    // The server may not have it any more.
                    self.signals.send(Signal::Changed);
                }
                Ok(called)
            }
            Err(mut failure) => {
                if matches!(failure.class, FailureClass::Throttled | FailureClass::Auth) {
                    // The server is there; it does not want this call.
                    passage.succeeded();
                } else {
                    passage.failed();
                    self.note_contact(Contact::Down);
                }
                failure.retry_after = self.heed(&failure);
                Err(CallError::Failed { connector: self.id.clone(), failure })
            }
        }
    }

    /// Lets a call pass everything that may keep it: the breaker, the server's own wish for time, the places, the quotas.
    ///
    /// Waiting for our own places says nothing about the server: the breaker hears of it as a call given up. Whoever waited
    /// asks again, since the calls before it may have shown that the server is gone.
    async fn admit(&self, clock: &Arc<dyn Clock>, limit: Duration) -> Result<(Place, Passage), CallError> {
        let connector = || self.id.clone();
        let ask = || {
            if let Some(retry_after) = self.gate.held_for(clock.boot()) {
                return Err(CallError::Throttled { connector: connector(), retry_after });
            }
            self.breaker.ask().map_err(|until| CallError::BreakerOpen {
                connector: connector(),
                retry_after: until.since(clock.boot()),
            })
        };
        let mut passage = ask()?;
        let place = self.gate.enter(limit).await;
        let place = place.map_err(|full| CallError::Busy { connector: connector(), retry_after: full.retry_after })?;
        if place.waited {
            drop(passage);
            passage = ask()?;
        }
        self.quota.take().map_err(|retry_after| CallError::Quota { connector: connector(), retry_after })?;
        Ok((place, passage))
    }

    async fn call_in_place(
        self: &Arc<Self>,
        caller: Caller<'_>,
        own: Option<InUse>,
        method: &str,
        params: RawObject,
    ) -> Result<Called, Failure> {
        let shared = self.slot.clone()?;
        let mut slot = own.as_ref().map_or_else(|| shared.clone(), |own| own.slot.clone());
        let mut attempts = limits::ATTEMPTS;
        loop {
            attempts -= 1;
            let before = slot.open_session();
            let mut session = slot.session().await?;
            if session.era() == Era::Modern && !Arc::ptr_eq(&slot, &shared) {
                // It was a legacy server; now that it is a modern one, a session of one's own means nothing.
                shared.forget_era();
                slot = shared.clone();
                session = slot.session().await?;
            }
            if let (Some(client), Some(own)) = (caller.own, own.as_ref().filter(|own| Arc::ptr_eq(&own.slot, &slot))) {
                client.listen(self, own, &session).await;
            }
            let sent = tokio::time::Instant::now();
            let answered = session.request(method, params.clone(), caller.interim).await;
            if session.take_suspicion() {
                match own.as_ref().filter(|own| Arc::ptr_eq(&own.slot, &slot)) {
                    Some(own) => self.check_own_session(own.shared(), session.clone()),
                    None => self.signals.send(Signal::Suspected),
                }
            }
            self.note_credential(&answered);
            match answered {
                Ok(outcome) => {
                    if slot.take_lost() {
                        // A new session: the server may have been another one meanwhile.
                        self.signals.send(Signal::Changed);
                    }
                    return Ok(Called { outcome, upstream: sent.elapsed() });
                }
                Err(error) => {
                    let session_is_over = matches!(error, WireError::SessionLost | WireError::WrongEra);
                    // A broken connection may mean another server behind the address; an answer that is too large or too
                    // late says nothing about the session.
                    let connection_is_over = matches!(
                        error,
                        WireError::Http(HttpError::Connect | HttpError::Broken)
                            | WireError::Protocol(ProtocolFault::PipeEnded | ProtocolFault::NotWritten)
                    );
                    if session_is_over || connection_is_over || session.has_ended() {
                        slot.forget(&session, &error);
                    }
                    let is_started_here = starts_a_process_again(&session, before.as_ref());
                    if attempts == 0 || is_started_here || !(session_is_over || error.was_not_sent()) {
                        return Err(error.failure());
                    }
                    if matches!(error, WireError::WrongEra) && !Arc::ptr_eq(&slot, &shared) {
                        shared.forget_era();
                        slot = shared.clone();
                    }
                }
            }
        }
    }
}

impl Handle {
    /// Notes whether a call shows that its server takes the credential.
    fn note_credential(&self, answered: &Result<Outcome, WireError>) {
        match (answered, &self.headers) {
            (Ok(_), Some(headers)) => headers.call_answered(),
            (Err(WireError::Status { status, .. }), Some(headers))
                if matches!(*status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) =>
            {
                headers.call_refused();
            }
            _ => {}
        }
    }
}

/// Whether another attempt would start a process again that this request has started: one that is over so soon is left to the
/// backoff.
pub(super) fn starts_a_process_again(session: &Arc<Session>, before: Option<&Arc<Session>>) -> bool {
    session.is_shared_stream() && before.is_none_or(|before| !Arc::ptr_eq(before, session))
}

/// Whether a server says that it speaks no version that it is spoken to in. A call is never made again for that; the next list
/// finds out which era it is of.
fn is_of_another_era(error: &RpcError) -> bool {
    error.code == UNSUPPORTED_PROTOCOL_VERSION
}

/// Whether a server says that it does not know the tool. Bad arguments have the same code (MCP, tools: -32602), so the
/// words decide there.
fn denies_the_tool(error: &RpcError) -> bool {
    let message = error.message.to_ascii_lowercase();
    match error.code {
        METHOD_NOT_FOUND => true,
        INVALID_PARAMS => {
            ["unknown tool", "no such tool", "not found", "does not exist"].iter().any(|it| message.contains(it))
        }
        _ => false,
    }
}
