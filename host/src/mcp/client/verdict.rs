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
use crate::model::ListKind;

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

/// What a legacy answer means.
pub(super) fn judge_legacy(
    session: &LegacySession,
    method: &str,
    reply: Result<Reply, WireError>,
) -> Result<Outcome, WireError> {
    match reply {
        Ok(Reply { status, outcome: Outcome::Error(error), .. }) => {
            let rpc = RpcError::parse(&error);
            if rpc.as_ref().is_some_and(|rpc| refused_as_modern(status, method, rpc)) {
                return Err(WireError::WrongEra);
            }
            if session.has_id() && rpc.is_some_and(|rpc| says_session_lost(status, &rpc)) {
                session.lost();
                return Err(WireError::SessionLost);
            }
            Ok(Outcome::Error(error))
        }
        Ok(reply) => Ok(reply.outcome),
        Err(WireError::Status { status: StatusCode::NOT_FOUND, .. }) if session.has_id() => {
            session.lost();
            Err(WireError::SessionLost)
        }
        Err(WireError::Protocol(ProtocolFault::AnswerLost)) => {
            session.lost();
            Err(ProtocolFault::AnswerLost.into())
        }
        Err(error) => Err(error),
    }
}

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

/// The specification says 404; the reference servers add an error, and some give it with 400.
fn says_session_lost(status: StatusCode, error: &RpcError) -> bool {
    match status {
        StatusCode::NOT_FOUND => error.code == SESSION_NOT_FOUND || speaks_of_session(&error.message),
        StatusCode::BAD_REQUEST => (-32099..=-32000).contains(&error.code) && speaks_of_session(&error.message),
        _ => false,
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
