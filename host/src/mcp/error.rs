//! What can go wrong between the gateway and an MCP server, and how the policy is told.
//!
//! No text here quotes a body, a header or another server's message.

use std::time::Duration;

use http::StatusCode;

use super::envelope::{EnvelopeError, RpcError};
use super::limits::{MAX_LIST_BYTES, MAX_PAGES, MAX_SERVER_REQUESTS, MAX_TOOLS};
use crate::edge::http::HttpError;
use crate::model::{Failure, FailureClass};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The network failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server answered with an HTTP status that carries no JSON-RPC answer, or that says more than one.
    #[error("the server answered with status {}", status.as_u16())]
    Status {
        /// The status.
        status: StatusCode,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
    },
    /// The server does not know our session any more; a new one must be opened. The request was not carried out.
    #[error("the server does not know the session any more")]
    SessionLost,
    /// The server does not speak the era that was remembered; ask it again. The request was not carried out.
    #[error("the server does not speak the remembered protocol era")]
    WrongEra,
    /// The server answered with a JSON-RPC error.
    #[error("the server answered with the JSON-RPC error {}", .0.code)]
    Rpc(RpcError),
    /// The answer is not what the protocol demands.
    #[error(transparent)]
    Protocol(#[from] ProtocolFault),
}

/// The rule of the protocol that an answer breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolFault {
    /// The answer is no JSON-RPC message.
    #[error("the answer is not a JSON-RPC message: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The answer is a request or a notification.
    #[error("the answer is a JSON-RPC message, but not a response")]
    NotAResponse,
    /// The answer is for another request.
    #[error("the answer has the id of another request")]
    WrongId,
    /// The answer's content type is neither JSON nor an event stream.
    #[error("the answer is neither JSON nor an event stream")]
    ContentType,
    /// The server took a request as if it wanted no answer.
    #[error("the server gave no answer to a request")]
    NoAnswer,
    /// The event stream ended before the answer.
    #[error("the event stream ended before the answer")]
    StreamEnded,
    /// The server asked too many questions of its own.
    #[error("the server sent more than {MAX_SERVER_REQUESTS} requests while it answered one")]
    TooManyServerRequests,
    /// The server speaks none of our versions.
    #[error("the server speaks no protocol version that this gateway speaks")]
    UnsupportedVersion,
    /// The result of `initialize` or `server/discover` can not be read.
    #[error("the server's description of itself can not be read")]
    Handshake,
    /// A list has no `tools`, or its other members can not be read.
    #[error("the tool list can not be read")]
    List,
    /// A tool is no object with one `name`.
    #[error("a tool of the list has no name")]
    ToolWithoutName,
    /// The list is of a type that a list can not be.
    #[error("the tool list's result type is not complete")]
    ListResultType,
    /// The server gave the same cursor twice.
    #[error("the tool list repeats a cursor")]
    RepeatedCursor,
    /// The list has too many pages.
    #[error("the tool list has more than {MAX_PAGES} pages")]
    TooManyPages,
    /// The list has too many tools.
    #[error("the tool list has more than {MAX_TOOLS} tools")]
    TooManyTools,
    /// The list's pages are too large together.
    #[error("the tool list is larger than {MAX_LIST_BYTES} bytes")]
    ListTooLarge,
}

impl WireError {
    /// Whether it is certain that nothing was carried out, so that the same request may be made again: nothing was
    /// sent, or the server refused it before it looked at it.
    pub fn was_not_sent(&self) -> bool {
        match self {
            Self::Http(error) => error.was_not_sent(),
            Self::SessionLost | Self::WrongEra => true,
            Self::Status { .. } | Self::Rpc(_) | Self::Protocol(_) => false,
        }
    }

    /// The failure as the policy and people see it.
    pub fn failure(&self) -> Failure {
        let class = match self {
            Self::Http(error) => return (*error).into(),
            Self::Status { status, retry_after } => {
                return Failure { class: class_of(*status), message: self.to_string(), retry_after: *retry_after };
            }
            Self::SessionLost | Self::Rpc(_) => FailureClass::Server,
            Self::Protocol(ProtocolFault::ListTooLarge) => FailureClass::Oversize,
            Self::WrongEra | Self::Protocol(_) => FailureClass::Decode,
        };
        Failure::new(class, self.to_string())
    }
}

fn class_of(status: StatusCode) -> FailureClass {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
            FailureClass::Auth
        }
        StatusCode::NOT_FOUND => FailureClass::NotFound,
        StatusCode::REQUEST_TIMEOUT => FailureClass::Timeout,
        StatusCode::GONE => FailureClass::Gone,
        StatusCode::TOO_MANY_REQUESTS => FailureClass::Throttled,
        status if status.is_redirection() => FailureClass::Redirect,
        _ => FailureClass::Server,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(code: u16) -> WireError {
        let retry_after = Some(Duration::from_secs(7));
        WireError::Status { status: StatusCode::from_u16(code).unwrap(), retry_after }
    }

    #[test]
    fn statuses_become_classes_and_keep_the_servers_wish() {
        for (code, class) in [
            (401, FailureClass::Auth),
            (403, FailureClass::Auth),
            (404, FailureClass::NotFound),
            (410, FailureClass::Gone),
            (429, FailureClass::Throttled),
            (304, FailureClass::Redirect),
            (400, FailureClass::Server),
            (500, FailureClass::Server),
            (503, FailureClass::Server),
        ] {
            let failure = status(code).failure();
            assert_eq!((failure.class, failure.retry_after), (class, Some(Duration::from_secs(7))), "{code}");
        }
    }

    #[test]
    fn only_what_the_server_did_not_look_at_may_be_repeated() {
        for error in [HttpError::Connect.into(), HttpError::Dns.into(), WireError::SessionLost, WireError::WrongEra] {
            assert!(error.was_not_sent(), "{error}");
        }
        let rpc = WireError::Rpc(RpcError { code: -32603, message: "secret".into() });
        for error in [HttpError::Broken.into(), status(503), ProtocolFault::StreamEnded.into(), rpc] {
            assert!(!error.was_not_sent(), "{error}");
        }
    }

    #[test]
    fn a_failure_never_quotes_the_server() {
        let failure = WireError::Rpc(RpcError { code: -32603, message: "token=secret".into() }).failure();
        assert_eq!((failure.class, failure.message.contains("secret")), (FailureClass::Server, false));
    }
}
