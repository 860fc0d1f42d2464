//! One call through a connector: breaker, quotas, places, session, and one more try if nothing was done.
//!
//! Params go in and results come out as raw JSON; nothing here looks into them.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::handle::{Handle, Signal};
use super::limits;
use super::status::Contact;
use crate::edge::clock::Clock;
use crate::edge::http::HttpError;
use crate::mcp::protocol::{INVALID_PARAMS, METHOD_NOT_FOUND};
use crate::mcp::{Outcome, RpcError, WireError};
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
    /// All places for calls at once stay taken.
    #[error("{connector} has no place free for another call; retry in {} ms", .retry_after.as_millis())]
    Busy {
        /// The connector.
        connector: ConnectorId,
        /// How long this call waited.
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
            | Self::Busy { retry_after, .. } => Some(*retry_after),
            Self::Failed { failure, .. } => failure.retry_after,
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
        method: &str,
        params: RawObject,
        timeout: Duration,
    ) -> Result<Called, CallError> {
        let _in_flight = self.calls.token();
        let connector = self.id.clone();
        let passage = self.breaker.ask().map_err(|until| CallError::BreakerOpen {
            connector: connector.clone(),
            retry_after: until.since(clock.boot()),
        })?;
        let limit = self.connector.load().timeouts.call.unwrap_or(timeout);
        // Waiting for our own places says nothing about the server: the breaker hears of it as a call given up.
        let busy = || CallError::Busy { connector: connector.clone(), retry_after: limit };
        let _places = tokio::time::timeout(limit, self.places()).await.map_err(|_| busy())?;
        self.quota.take().map_err(|retry_after| CallError::Quota { connector: connector.clone(), retry_after })?;
        let calling = self.call_in_place(method, params);
        let called = tokio::time::timeout(limit, calling).await.unwrap_or_else(|_| Err(HttpError::Timeout.into()));
        match called {
            Ok(called) => {
                passage.succeeded();
                self.note_contact(Contact::Up);
                if let Outcome::Error(error) = &called.outcome
                    && RpcError::parse(error).is_some_and(|error| denies_the_tool(&error))
                    && self.may_doubt_the_list(clock.boot())
                {
                    // The server may not have this tool any more.
                    self.signals.send(Signal::Changed);
                }
                Ok(called)
            }
            Err(failure) => {
                if matches!(failure.class, FailureClass::Throttled | FailureClass::Auth) {
                    // The server is there; it does not want this call.
                    passage.succeeded();
                } else {
                    passage.failed();
                    self.note_contact(Contact::Down);
                }
                Err(CallError::Failed { connector, failure })
            }
        }
    }

    /// A place at the origin, and one of the connector's own if they are limited.
    async fn places(&self) -> (Option<OwnedSemaphorePermit>, Option<OwnedSemaphorePermit>) {
        let own = match self.quota.places() {
            Some(places) => place(&places).await,
            None => None,
        };
        (place(&self.origin_places).await, own)
    }

    async fn call_in_place(&self, method: &str, params: RawObject) -> Result<Called, Failure> {
        let slot = self.slot.clone()?;
        let mut attempts = limits::ATTEMPTS;
        loop {
            attempts -= 1;
            let session = slot.session().await?;
            let sent = tokio::time::Instant::now();
            match session.request(method, params.clone()).await {
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
                    let connection_is_over = matches!(error, WireError::Http(HttpError::Connect | HttpError::Broken));
                    if session_is_over || connection_is_over {
                        slot.forget(&session, &error);
                    }
                    if attempts == 0 || !(session_is_over || error.was_not_sent()) {
                        return Err(error.failure());
                    }
                }
            }
        }
    }
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

async fn place(places: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
    // The semaphores are never closed.
    places.clone().acquire_owned().await.ok()
}
