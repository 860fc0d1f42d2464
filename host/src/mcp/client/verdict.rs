//! What an answer means for the session: whether it is an answer, or says that the session is lost or of the wrong era.
//!
//! Both of the latter have a request made again, so they must never be read out of what a request that was carried out may
//! have been answered with: an error is the server's own unless it plainly came before anything was done. Where that is not
//! plain, the next list shows it.

use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

use super::discovery::speaks_other_versions;
use super::exchange::Reply;
use super::handshake::LegacySession;
use crate::edge::http::HttpError;
use crate::mcp::envelope::{Outcome, RpcError};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::protocol::{
    COMPLETION_COMPLETE, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PING, SERVER_DISCOVER,
    SESSION_NOT_FOUND, SUBSCRIPTIONS_LISTEN, UNSUPPORTED_PROTOCOL_VERSION, is_modern_error,
};
use crate::model::{FailureClass, ListKind};

/// Whether carrying out a request twice may differ from carrying it out once: all but the few that only ask.
fn may_act(method: &str) -> bool {
    let lists = [ListKind::Tools, ListKind::Prompts, ListKind::Resources, ListKind::Templates];
    !matches!(method, COMPLETION_COMPLETE | PING | SERVER_DISCOVER | SUBSCRIPTIONS_LISTEN)
        && !lists.iter().any(|kind| kind.method() == method)
}

/// What a modern answer means. Only until the server has proven to be modern, a refusal may mean that it is not.
pub(super) fn judge_modern(
    proven: &AtomicBool,
    method: &str,
    reply: Result<Reply, WireError>,
) -> Result<Outcome, WireError> {
    let may_be_legacy = !proven.load(Ordering::Relaxed);
    match reply {
        Ok(Reply { status, outcome: Outcome::Error(error), .. }) => {
            let rpc = RpcError::parse(&error);
            let may_have_acted = may_act(method) && !status.is_client_error();
            let legacy = (speaks_other_versions(&error) && !may_have_acted)
                || rpc.as_ref().is_some_and(|rpc| refused_as_legacy(status, method, rpc));
            if may_be_legacy && legacy {
                return Err(WireError::WrongEra);
            }
            if !legacy && rpc.is_some_and(|rpc| is_modern_error(rpc.code)) {
                proven.store(true, Ordering::Relaxed);
            }
            Ok(Outcome::Error(error))
        }
        Ok(reply) => {
            proven.store(true, Ordering::Relaxed);
            Ok(reply.outcome)
        }
        Err(WireError::Status { status, .. }) if may_be_legacy && speaks_of_the_method(status, method) => {
            Err(WireError::WrongEra)
        }
        // Some legacy processes end when they are asked anything before `initialize`. Only what may be asked twice counts.
        Err(WireError::Protocol(ProtocolFault::PipeEnded)) if may_be_legacy && !may_act(method) => {
            Err(WireError::WrongEra)
        }
        Err(error) => Err(error),
    }
}

/// Whether a legacy server refuses a modern request with such an error: an unknown method, a missing session or
/// handshake, or anything at a 4xx status that is no error of the modern era. Of a request that may act, only what is said
/// before anybody looks at the request: some servers answer a call with anything at 200.
fn refused_as_legacy(status: StatusCode, method: &str, error: &RpcError) -> bool {
    if is_modern_error(error.code) {
        return false;
    }
    if may_act(method) {
        return match error.code {
            METHOD_NOT_FOUND => status == StatusCode::NOT_FOUND,
            INVALID_PARAMS => status.is_client_error(),
            // The reference servers' words to whoever has no session.
            _ => matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) && speaks_of_session(&error.message),
        };
    }
    match error.code {
        METHOD_NOT_FOUND | INVALID_PARAMS | INVALID_REQUEST | -32019..=-32000 => true,
        _ => status.is_client_error() || speaks_of_session(&error.message),
    }
}

/// Whether a modern server refuses a legacy request with such an error. To legacy servers, these codes are their own
/// (2025-11-25 itself gives one of the same range to `tools/call`: -32042).
fn refused_as_modern(status: StatusCode, method: &str, error: &RpcError) -> bool {
    let says_so = match error.code {
        UNSUPPORTED_PROTOCOL_VERSION => true,
        HEADER_MISMATCH => error.message.to_ascii_lowercase().contains("header"),
        _ => false,
    };
    says_so && status.is_client_error() && !may_act(method)
}

/// What a request came to, and what that shows about the session.
#[derive(Debug)]
pub struct Answered {
    /// The result or the JSON-RPC error, or why there is neither.
    pub result: Result<Outcome, WireError>,
    /// Whether the server may have forgotten the session, or refuses its credential: only a request that may be repeated shows it.
    pub is_suspect: bool,
}

/// What an answer shows about the session that it was given in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SessionEvidence {
    /// The server knows the session.
    Known,
    /// The server does not know the session; the request was not carried out.
    Lost,
    /// The server may have forgotten the session, and the request may have been carried out.
    Suspect,
    /// Nothing.
    None,
}

/// What a legacy answer means.
pub(super) fn judge_legacy(session: &LegacySession, method: &str, reply: Result<Reply, WireError>) -> Answered {
    let rpc = match &reply {
        Ok(Reply { outcome: Outcome::Error(error), .. }) => RpcError::parse(error),
        _ => None,
    };
    let evidence = match (&reply, &rpc) {
        (Ok(Reply { status, .. }), Some(rpc)) if refused_as_modern(*status, method, rpc) => {
            return Answered { result: Err(WireError::WrongEra), is_suspect: false };
        }
        (Ok(Reply { status, .. }), Some(rpc)) => evidence_of_error(session, method, *status, rpc),
        (Ok(_), None) => SessionEvidence::Known,
        (Err(WireError::Status { status, .. }), _) => evidence_of_status(session, *status),
        // What a server answers without knowing the session may be a page of text.
        (Err(WireError::Protocol(fault)), _) if session.has_id() && *fault != ProtocolFault::AnswerLost => {
            SessionEvidence::Suspect
        }
        // Where a session is known by a proxy, an unknown one is sent to log in.
        (Err(error), _) if is_redirect(error) => SessionEvidence::Suspect,
        (Err(_), _) => SessionEvidence::None,
    };
    if matches!(reply, Err(WireError::Protocol(ProtocolFault::AnswerLost))) {
        session.lost();
    }
    let result = match evidence {
        SessionEvidence::Lost => {
            // Any other status may have been about the request after all; then the session is to be closed.
            let status = status_of(&reply).filter(|_| session.has_id());
            if status.is_some_and(|status| status.is_success() || status == StatusCode::NOT_FOUND) {
                session.lost();
            }
            Err(WireError::SessionLost)
        }
        SessionEvidence::Known => {
            session.set_answered();
            reply.map(|reply| reply.outcome)
        }
        SessionEvidence::Suspect | SessionEvidence::None => reply.map(|reply| reply.outcome),
    };
    Answered { result, is_suspect: evidence == SessionEvidence::Suspect }
}

/// Whether a request was answered with a redirect that is not followed.
pub(super) fn is_redirect(error: &WireError) -> bool {
    error.failure().class == FailureClass::Redirect
}

fn status_of(reply: &Result<Reply, WireError>) -> Option<StatusCode> {
    match reply {
        Ok(Reply { status, .. }) | Err(WireError::Status { status, .. }) => Some(*status),
        Err(_) => None,
    }
}

/// What an HTTP status without a JSON-RPC error shows. The specification answers an unknown session with 404; the official
/// Python SDK 1.10 to 1.20 with 400 and plain text (python-sdk#1004), which is not plain in a session that has answered nothing
/// yet; others with 500, 503 or 401.
fn evidence_of_status(session: &LegacySession, status: StatusCode) -> SessionEvidence {
    match status {
        StatusCode::TOO_MANY_REQUESTS => SessionEvidence::None,
        StatusCode::NOT_FOUND if session.holds_something() => SessionEvidence::Lost,
        StatusCode::BAD_REQUEST if session.holds_something() && session.has_answered() => SessionEvidence::Lost,
        _ => SessionEvidence::Suspect,
    }
}

/// What a JSON-RPC error shows. The specification demands 404; the reference servers add an error, some give it with 400, and some
/// with 200 (anubis-mcp#124, python-sdk#1004). An error that is given in a session that has answered nothing yet is the server's
/// own, unless it plainly speaks of the session: another session would be answered the same.
fn evidence_of_error(session: &LegacySession, method: &str, status: StatusCode, error: &RpcError) -> SessionEvidence {
    let speaks_of_session = speaks_of_session(&error.message);
    let is_reserved = (-32099..=-32000).contains(&error.code) || matches!(error.code, INVALID_REQUEST | INVALID_PARAMS);
    let is_lost = session.has_id()
        && match status {
            StatusCode::NOT_FOUND => error.code == SESSION_NOT_FOUND || speaks_of_session,
            StatusCode::BAD_REQUEST if (-32099..=-32000).contains(&error.code) && speaks_of_session => true,
            StatusCode::BAD_REQUEST if session.has_answered() => {
                speaks_of_session
                    || error.code == INVALID_REQUEST
                    || (error.code == INVALID_PARAMS && error.message.eq_ignore_ascii_case(INVALID_REQUEST_PARAMETERS))
            }
            status if status.is_success() && session.has_answered() => {
                error.code == SESSION_NOT_FOUND && speaks_of_session
            }
            _ => false,
        };
    match status {
        _ if is_lost => SessionEvidence::Lost,
        StatusCode::TOO_MANY_REQUESTS => SessionEvidence::None,
        status if status.is_success() && !(speaks_of_session && is_reserved) => SessionEvidence::Known,
        // These two may be repeated, and every server that knows the session answers them.
        _ if (method == PING || method == ListKind::Tools.method())
            && session.has_id()
            && session.has_answered()
            && error.code != METHOD_NOT_FOUND =>
        {
            SessionEvidence::Lost
        }
        _ => SessionEvidence::Suspect,
    }
}

/// The message of the official Python SDK to a request in a session that has not shaken hands.
const INVALID_REQUEST_PARAMETERS: &str = "invalid request parameters";

/// Whether a legacy server may still work on a request whose answer is given up: a stream that is closed cancels nothing
/// there (2025-11-25, Streamable HTTP, "Sending Messages").
pub(super) fn may_work_on(error: &WireError) -> bool {
    match error {
        WireError::Http(error) => matches!(error, HttpError::Broken | HttpError::Timeout | HttpError::Oversize { .. }),
        WireError::Protocol(fault) => {
            !matches!(fault, ProtocolFault::AnswerLost | ProtocolFault::NoAnswer | ProtocolFault::PipeEnded)
        }
        WireError::Status { .. }
        | WireError::SessionLost
        | WireError::WrongEra
        | WireError::Rpc(_)
        | WireError::Reference(_) => false,
    }
}

fn speaks_of_session(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("session") || message.contains("initializ")
}

/// Whether a status without a JSON-RPC error refuses requests of this method: one that may act might have been answered with
/// any other.
fn speaks_of_the_method(status: StatusCode, method: &str) -> bool {
    match may_act(method) {
        true => matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED),
        false => speaks_of_the_request(status),
    }
}

/// Whether a status without a JSON-RPC error refuses this kind of request, and not its sender, its rate or its time.
pub(super) fn speaks_of_the_request(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::GONE
                | StatusCode::TOO_MANY_REQUESTS
        )
}
