//! One call through a connector: breaker, places, quotas, session, and one more try if nothing was done.
//!
//! Params go in and results come out as raw JSON; nothing here looks into them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;

use super::asking::Seat;
use super::breaker::Passage;
use super::caller::Caller;
use super::gate::{CallTime, Full, Place};
use super::handle::{Handle, Signal};
use super::limits;
use super::own_slot::InUse;
use super::patience::Patience;
use crate::edge::clock::Clock;
use crate::edge::http::HttpError;
use crate::mcp::protocol::{INVALID_PARAMS, METHOD_NOT_FOUND, PROMPTS_GET, TOOLS_CALL, UNSUPPORTED_PROTOCOL_VERSION};
use crate::mcp::{Answered, Era, Outcome, ProtocolFault, RpcError, Session, WireError, trace_context};
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
    /// The concurrency limit is reached, and the queue is full or the call has waited in it for as long as it may.
    #[error(
        "connector {connector} has reached its limit of concurrent calls; retry in {} ms", .retry_after.as_millis()
    )]
    Busy {
        /// The connector.
        connector: ConnectorId,
        /// When another attempt may succeed: an estimate.
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
    /// The connector has never listed what it has, so that its tools and prompts are not known.
    #[error("connector {connector} has no list yet: {cause}{}", retry(*.retry_after))]
    NoList {
        /// The connector.
        connector: ConnectorId,
        /// The last failure.
        cause: String,
        /// When it is tried again.
        retry_after: Option<Duration>,
    },
    /// The client of the call disconnected before the call was sent.
    #[error("{connector} was not called: the client has disconnected")]
    Disconnected {
        /// The connector.
        connector: ConnectorId,
    },
    /// The server failed, or could not be reached.
    #[error("{connector} failed: {failure}")]
    Failed {
        /// The connector.
        connector: ConnectorId,
        /// Why.
        failure: Failure,
    },
    /// A request was sent, and there is no answer that can be read.
    #[error("{connector} failed: {failure}{request}")]
    AnswerLost {
        /// The connector.
        connector: ConnectorId,
        /// Why.
        failure: Failure,
        /// The reason for machines: never one that means that nothing was sent.
        reason: &'static str,
        /// What was sent.
        request: LostRequest,
    },
}

/// A request whose answer is lost; its text is what that means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LostRequest {
    /// A tool may have run.
    ToolCall,
    /// Nothing but an answer is lost.
    Other,
}

impl LostRequest {
    fn of(method: &str) -> Self {
        if method == TOOLS_CALL { Self::ToolCall } else { Self::Other }
    }
}

impl std::fmt::Display for LostRequest {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::ToolCall => "; the call was sent, so the tool may have run",
            Self::Other => "",
        })
    }
}

fn retry(after: Option<Duration>) -> String {
    after.map(|after| format!("; retry in {} ms", after.as_millis())).unwrap_or_default()
}

impl CallError {
    /// When to come back, if that is known.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::NoTool(_) | Self::NoConnector(_) | Self::Disconnected { .. } => None,
            Self::NoList { retry_after, .. } => *retry_after,
            Self::BreakerOpen { retry_after, .. }
            | Self::Quota { retry_after, .. }
            | Self::Busy { retry_after, .. }
            | Self::Throttled { retry_after, .. } => Some(*retry_after),
            Self::Failed { failure, .. } | Self::AnswerLost { failure, .. } => failure.retry_after,
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
            | Self::NoList { connector, .. }
            | Self::Disconnected { connector }
            | Self::Failed { connector, .. }
            | Self::AnswerLost { connector, .. } => Some(connector),
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
            Self::NoList { .. } => "no-list",
            Self::Disconnected { .. } => "disconnected",
            Self::AnswerLost { reason, .. } => reason,
            Self::Failed { failure, .. } => failure.class.as_str(),
        }
    }
}

/// Why a call that was let through has no answer.
struct CallFailure {
    failure: Failure,
    /// The reason for machines, if the request was sent and its answer is lost.
    lost: Option<&'static str>,
}

impl From<Failure> for CallFailure {
    fn from(failure: Failure) -> Self {
        Self { failure, lost: None }
    }
}

impl From<WireError> for CallFailure {
    fn from(error: WireError) -> Self {
        Self { failure: error.failure(), lost: lost_answer(&error) }
    }
}

/// What is known of a call on its way.
struct Sending {
    /// Whether its outcome decides about the breaker.
    is_probe: bool,
    /// Set while the server may work on it.
    sent: AtomicBool,
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
        mut params: RawObject,
    ) -> Result<Called, CallError> {
        trace_context::retain_in_meta(&mut params, self.trace_forwarding());
        let _in_flight = self.calls.token();
        let time = CallTime::starting_now(self.deadlines.get().call);
        let (place, passage) = tokio::select! {
            biased;
            () = caller.disconnected() => return Err(CallError::Disconnected { connector: self.id.clone() }),
            admitted = self.admit(clock, time) => admitted?,
        };
        let (had, waited) = (time.left(), place.waited);
        let sending = Sending { is_probe: passage.is_probe(), sent: AtomicBool::new(false) };
        let patience = Patience::new(caller.interim, time.arrived, time.limit).seated(Seat::new(&self.gate, place));
        let caller = Caller { interim: &patience, ..caller };
        let own = caller.own.and_then(|own| own.slot(self));
        let beside = own.as_ref().map(|own| own.asking());
        let called = patience.with(self.call_in_place(caller, own, (method, params), &sending), beside).await;
        let is_late = called.is_none();
        match called.unwrap_or_else(|| Err(self.late(sending.sent.load(Ordering::Relaxed)))) {
            // The server was not asked anything: the breaker hears of a call given up.
            Ok(None) => Err(CallError::Disconnected { connector: self.id.clone() }),
            Ok(Some(called)) => {
                passage.succeeded();
                self.note_call_answered();
                if let Outcome::Error(error) = &called.outcome
                    && matches!(method, TOOLS_CALL | PROMPTS_GET)
                    && RpcError::parse(error).is_some_and(|error| casts_doubt_on_the_list(&error))
                    && self.may_doubt_the_list(clock.boot())
                {
                    // The server may not have it any more.
                    self.signals.send(Signal::Changed);
                }
                Ok(called)
            }
            Err(CallFailure { mut failure, lost }) => {
                if matches!(failure.class, FailureClass::Throttled | FailureClass::Auth) {
                    // The server is there; it does not want this call.
                    passage.succeeded();
                } else if is_late && waited && !sending.is_probe && self.excuses(had) {
                    drop(passage);
                } else {
                    passage.failed();
                    self.note_contact(Contact::Down);
                }
                failure.retry_after = self.heed(&failure);
                let connector = self.id.clone();
                let request = LostRequest::of(method);
                Err(match lost {
                    Some(reason) => CallError::AnswerLost { connector, failure, reason, request },
                    None => CallError::Failed { connector, failure },
                })
            }
        }
    }

    /// The failure of a call whose deadline has passed.
    fn late(&self, was_sent: bool) -> CallFailure {
        let error = WireError::from(HttpError::Timeout);
        let failure = match &self.slot {
            Ok(slot) if was_sent => slot.death(&error),
            Ok(slot) => slot.not_answered(),
            Err(failure) => failure.clone(),
        };
        CallFailure { failure, lost: lost_answer(&error).filter(|_| was_sent) }
    }

    /// Lets a call pass everything that may keep it: the breaker, the server's own wish for time, the places, the quotas. All
    /// of it together leaves a part of the call's deadline for its server.
    ///
    /// Waiting for our own places says nothing about the server: the breaker hears of it as a call given up. Whoever waited
    /// asks again, since the calls before it may have shown that the server is gone.
    async fn admit(&self, clock: &Arc<dyn Clock>, time: CallTime) -> Result<(Place, Passage), CallError> {
        let connector = || self.id.clone();
        let busy = |full: Full| CallError::Busy { connector: connector(), retry_after: full.retry_after };
        let ask = async || {
            if let Some(retry_after) = self.gate.held_for(clock.boot()) {
                return Err(CallError::Throttled { connector: connector(), retry_after });
            }
            self.pass_breaker(time).await.map_err(|until| CallError::BreakerOpen {
                connector: connector(),
                retry_after: until.since(clock.boot()),
            })
        };
        let mut passage = ask().await?;
        let place = self.gate.enter(time).await.map_err(busy)?;
        if place.waited {
            drop(passage);
            passage = ask().await?;
        }
        if Instant::now() > time.last_start() {
            return Err(busy(time.is_up()));
        }
        self.quota.take().map_err(|retry_after| CallError::Quota { connector: connector(), retry_after })?;
        Ok((place, passage))
    }

    /// Makes the call; none if its client disconnected before it was sent.
    async fn call_in_place(
        self: &Arc<Self>,
        caller: Caller<'_>,
        own: Option<InUse>,
        (method, params): (&str, RawObject),
        sending: &Sending,
    ) -> Result<Option<Called>, CallFailure> {
        let shared = self.slot.clone()?;
        let mut slot = own.as_ref().map_or_else(|| shared.clone(), |own| own.slot.clone());
        let headers = caller.trace.map(|trace| trace.headers(self.trace_forwarding())).unwrap_or_default();
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
            if !sending.is_probe {
                self.note_opened(&session, before.as_ref());
            }
            if let (Some(client), Some(own)) = (caller.own, own.as_ref().filter(|own| Arc::ptr_eq(&own.slot, &slot))) {
                client.listen(self, own, &session).await;
            }
            if caller.is_disconnected() {
                return Ok(None);
            }
            sending.sent.store(true, Ordering::Relaxed);
            let began = Instant::now();
            let Answered { result: answered, is_suspect } =
                session.request_with(method, params.clone(), &headers, caller.interim).await;
            self.note_credential(&answered);
            if is_suspect {
                match own.as_ref().filter(|own| Arc::ptr_eq(&own.slot, &slot)) {
                    Some(own) => self.check_own_session(own.shared(), session.clone()),
                    None => self.signals.send(Signal::Suspected),
                }
            }
            match answered {
                Ok(outcome) => {
                    if slot.take_lost() {
                        // A new session: the server may have been another one meanwhile.
                        self.signals.send(Signal::Changed);
                    }
                    return Ok(Some(Called { outcome, upstream: began.elapsed() }));
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
                        return Err(error.into());
                    }
                    sending.sent.store(false, Ordering::Relaxed);
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

/// Whether the error of a call is a reason to list again. An unknown tool has the code of invalid parameters (2025-11-25 and
/// 2026-07-28, `server/tools`, Error Handling), which bad arguments have too: the words of servers differ, and what follows is
/// paced. A server that speaks another version is not called again; the next list finds out its era.
fn casts_doubt_on_the_list(error: &RpcError) -> bool {
    matches!(error.code, METHOD_NOT_FOUND | INVALID_PARAMS | UNSUPPORTED_PROTOCOL_VERSION)
}

/// The reason for machines, where a request was sent and its answer is lost: clients send what was `refused` again.
fn lost_answer(error: &WireError) -> Option<&'static str> {
    use ProtocolFault::{AnswerLost, NoAnswer, PipeEnded, StreamEnded};
    match error {
        _ if error.was_not_sent() => None,
        WireError::Http(HttpError::Broken) | WireError::Protocol(AnswerLost | NoAnswer | PipeEnded | StreamEnded) => {
            Some("answer-lost")
        }
        WireError::Http(HttpError::Timeout | HttpError::Oversize { .. }) | WireError::Protocol(_) => {
            Some(error.failure().class.as_str())
        }
        // A balancer gave up on the server behind it, which may be at work on the request.
        WireError::Status { status: StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT, .. } => {
            Some(error.failure().class.as_str())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::EnvelopeError;

    fn status(code: u16) -> WireError {
        WireError::Status { status: StatusCode::from_u16(code).unwrap(), retry_after: None, proxy: None }
    }

    #[test]
    fn what_was_sent_and_not_answered_is_never_called_refused() {
        for (error, reason) in [
            (HttpError::Connect.into(), None),
            (HttpError::Dns.into(), None),
            (WireError::SessionLost, None),
            (ProtocolFault::NotWritten.into(), None),
            (HttpError::Broken.into(), Some("answer-lost")),
            (ProtocolFault::PipeEnded.into(), Some("answer-lost")),
            (ProtocolFault::StreamEnded.into(), Some("answer-lost")),
            (ProtocolFault::AnswerLost.into(), Some("answer-lost")),
            (HttpError::Timeout.into(), Some("timeout")),
            (HttpError::Oversize { cap: 1 }.into(), Some("oversize")),
            (ProtocolFault::Envelope(EnvelopeError::NotJson).into(), Some("decode")),
            (status(502), Some("server")),
            (status(504), Some("server")),
            (status(500), None),
            (status(503), None),
        ] {
            assert_eq!(lost_answer(&error), reason, "{error}");
        }
    }

    #[test]
    fn a_lost_answer_says_that_the_tool_may_have_run_and_a_failure_does_not() {
        let connector: ConnectorId = "up".parse().unwrap();
        let failure = Failure::new(FailureClass::Server, "the server answered with status 500");
        let failed = CallError::Failed { connector: connector.clone(), failure: failure.clone() };
        assert_eq!(failed.to_string(), "up failed: the server answered with status 500");
        for (method, says_so) in [(TOOLS_CALL, true), (PROMPTS_GET, false), ("resources/read", false)] {
            let (connector, failure, request) = (connector.clone(), failure.clone(), LostRequest::of(method));
            let lost = CallError::AnswerLost { connector, failure, reason: "answer-lost", request };
            assert_eq!(lost.to_string().ends_with("so the tool may have run"), says_so, "{lost}");
            assert_eq!(lost.reason(), "answer-lost");
        }
    }
}
