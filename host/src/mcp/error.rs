//! What can go wrong between the gateway and an MCP server, and how the policy is told.
//!
//! No text here quotes a body, a header or another server's message.

use std::time::Duration;

use http::StatusCode;

use super::envelope::{EnvelopeError, RpcError};
use super::limits::{
    LISTEN_WINDOW, MAX_ITEMS, MAX_LIST_BYTES, MAX_LISTEN_EVENTS, MAX_PAGES, MAX_SERVER_REQUESTS, MAX_STREAM_BYTES,
};
use crate::edge::http::{HttpError, ProxyName};
use crate::edge::process::SpawnFault;
use crate::edge::references::ReferenceFault;
use crate::model::{Failure, FailureClass, ListKind};

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// The network failed.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The server answered with an HTTP status that carries no JSON-RPC answer, or that says more than one.
    #[error("the server answered with status {}{}", status.as_u16(), through(*proxy))]
    Status {
        /// The status.
        status: StatusCode,
        /// When the server wants to be asked again.
        retry_after: Option<Duration>,
        /// The proxy in between, which may have answered itself.
        proxy: Option<ProxyName>,
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
    /// A header or a variable of the server's entry refers to what cannot be had; nothing was sent or started.
    #[error(transparent)]
    Reference(#[from] ReferenceFault),
}

/// The rule of the protocol that an answer breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolFault {
    /// The answer is no JSON-RPC message.
    #[error("the answer is not a JSON-RPC message: {0}")]
    Envelope(#[from] EnvelopeError),
    /// The answer is in another encoding.
    #[error("the answer is not UTF-8 text")]
    NotUtf8,
    /// The answer holds a number that JSON does not have.
    #[error("the answer is not JSON: it contains NaN or Infinity")]
    NotANumber,
    /// The answer is cut off.
    #[error("the answer is not JSON: it ends before its object does")]
    Unfinished,
    /// The answer is a request or a notification.
    #[error("the answer is a JSON-RPC message, but not a response")]
    NotAResponse,
    /// The answer is for another request.
    #[error("the answer has the id of another request")]
    WrongId,
    /// The answer's content type is neither JSON nor an event stream; a proxy in between may have answered itself.
    #[error("the answer is neither JSON nor an event stream{}", through_any(.0))]
    ContentType(Option<ProxyName>),
    /// The answer is compressed, which nobody asked for.
    #[error("the answer is compressed, which was not asked for")]
    ContentEncoding,
    /// The server took a request as if it wanted no answer.
    #[error("the server gave no answer to a request")]
    NoAnswer,
    /// The event stream ended before the answer.
    #[error("the event stream ended before the answer")]
    StreamEnded,
    /// The server asked too many questions of its own.
    #[error("the server sent more than {MAX_SERVER_REQUESTS} requests of its own")]
    TooManyServerRequests,
    /// A stream that is listened to brings more than a server can have to say.
    #[error(
        "the stream brings more than {MAX_LISTEN_EVENTS} events, or more bytes than two messages of max-message-bytes may have, at \
         least {MAX_STREAM_BYTES}, in {} s",
        LISTEN_WINDOW.as_secs()
    )]
    EventFlood,
    /// The server forgot the session while it worked on a request of it: whether that was carried out is not known.
    #[error("the server forgot the session before it had answered")]
    AnswerLost,
    /// The server speaks none of our versions.
    #[error("the server speaks no protocol version that this gateway speaks")]
    UnsupportedVersion,
    /// The result of `initialize` or `server/discover` can not be read.
    #[error("the server's description of itself can not be read")]
    Handshake,
    /// A list has no items, or its other members can not be read.
    #[error("the list of {} can not be read", .0.member())]
    List(ListKind),
    /// An item is no object with one name, URI or URI template.
    #[error("an item of the list of {} has no {}", .0.member(), .0.key())]
    NamelessItem(ListKind),
    /// The list is of a type that a list can not be.
    #[error("the result type of the list of {} is not complete", .0.member())]
    ListResultType(ListKind),
    /// The list has too many pages.
    #[error("the list of {} has more than {MAX_PAGES} pages", .0.member())]
    TooManyPages(ListKind),
    /// The list has too many items.
    #[error("the list of {} has more than {MAX_ITEMS} items", .0.member())]
    TooManyItems(ListKind),
    /// The list's pages are too large together.
    #[error("the list of {} is larger than {MAX_LIST_BYTES} bytes", .0.member())]
    ListTooLarge(ListKind),
    /// The server's process, or its stream, has ended.
    #[error("the server's process or stream has ended")]
    PipeEnded,
    /// The server's process, or its stream, had ended before the request was written.
    #[error("the server's process or stream had ended before the request was sent")]
    NotWritten,
    /// Somebody listens to the session already.
    #[error("the session is listened to already")]
    TooManyListeners,
    /// The server's process can not be started.
    #[error("the server's process can not be started: {0}")]
    NotStarted(SpawnFault),
    /// The stream of 2024-11-05 did not say where to post to, or named another origin.
    #[error("the event stream does not name an endpoint of its own origin to post to")]
    NoPostEndpoint,
}

impl WireError {
    /// Whether it is certain that nothing was carried out, so that the same request may be made again: nothing was
    /// sent, or the server refused it before it looked at it.
    pub fn was_not_sent(&self) -> bool {
        match self {
            Self::Http(error) => error.was_not_sent(),
            Self::SessionLost | Self::WrongEra | Self::Reference(_) => true,
            Self::Protocol(ProtocolFault::NotStarted(_) | ProtocolFault::NotWritten) => true,
            Self::Status { .. } | Self::Rpc(_) | Self::Protocol(_) => false,
        }
    }

    /// The failure as the policy and people see it.
    pub fn failure(&self) -> Failure {
        let class = match self {
            Self::Http(error) => return error.clone().into(),
            Self::Status { status, retry_after, .. } => {
                let failure = Failure::new(class_of(*status), self.to_string());
                return Failure { retry_after: *retry_after, ..failure };
            }
            Self::SessionLost | Self::Rpc(_) | Self::Protocol(ProtocolFault::AnswerLost) => FailureClass::Server,
            Self::Protocol(ProtocolFault::ListTooLarge(_) | ProtocolFault::EventFlood) => FailureClass::Oversize,
            Self::Protocol(ProtocolFault::PipeEnded | ProtocolFault::NotWritten | ProtocolFault::NotStarted(_)) => {
                FailureClass::Refused
            }
            Self::Reference(_) => FailureClass::Auth,
            Self::WrongEra | Self::Protocol(_) => FailureClass::Decode,
        };
        Failure::new(class, self.to_string())
    }
}

fn through(proxy: Option<ProxyName>) -> String {
    proxy.map_or_else(String::new, |proxy| format!(", through the proxy {proxy}"))
}

fn through_any(proxy: &Option<ProxyName>) -> String {
    through(*proxy)
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
        WireError::Status { status: StatusCode::from_u16(code).unwrap(), retry_after, proxy: None }
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
        let rpc = WireError::Rpc(RpcError { code: -32603, message: "secret".into(), hops: None });
        for error in [HttpError::Broken.into(), status(503), ProtocolFault::StreamEnded.into(), rpc] {
            assert!(!error.was_not_sent(), "{error}");
        }
    }

    #[test]
    fn a_failure_never_quotes_the_server() {
        let failure = WireError::Rpc(RpcError { code: -32603, message: "token=secret".into(), hops: None }).failure();
        assert_eq!((failure.class, failure.message.contains("secret")), (FailureClass::Server, false));
    }
}
