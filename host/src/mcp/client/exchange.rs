//! One request over Streamable HTTP and its answer, whichever form the answer takes: one JSON message, or an event stream
//! that holds it.
//!
//! Everything is read under a cap, and nothing is unpacked. What the answer means for the session (lost, wrong era) is
//! decided elsewhere. Sources: 2026-07-28 and 2025-11-25, Streamable HTTP, "Sending Messages", "Receiving Messages".

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};

use super::stream::{self, Purpose, Way};
use super::transport::Transport;
use super::upstream_headers::CredentialEvidence;
use crate::edge::http::{Lane, Response};
use crate::mcp::envelope::lenient::{self, Unreadable};
use crate::mcp::envelope::{Message, Outcome, RequestId, RpcError};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::inbound::{Irregularities, Irregularity};
use crate::mcp::limits::MAX_ERROR_BODY_BYTES;
use crate::mcp::protocol::{EVENT_STREAM_TYPE, JSON_TYPE, SESSION_NOT_FOUND};

/// A JSON-RPC answer and the HTTP answer that it came in.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) outcome: Outcome,
}

/// Sends a request and reads its answer.
///
/// A JSON-RPC error is an answer at any HTTP status except those that say more themselves: 401, 403, 429 and 503.
///
/// # Errors
/// [`WireError::Http`], [`WireError::Status`] or [`WireError::Protocol`].
pub(super) async fn ask(
    transport: &Arc<Transport>,
    headers: &HeaderMap,
    way: Way<'_>,
    id: &RequestId,
    body: Bytes,
) -> Result<Reply, WireError> {
    let lane = match way.purpose {
        Purpose::Answer => Lane::Call,
        Purpose::Listening => Lane::Stream,
    };
    let response = transport.post(headers, body, lane).await?;
    let status = response.status;
    if !status.is_success() {
        return refusal(response, id, &transport.inbound().irregularities).await;
    }
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        return Err(ProtocolFault::NoAnswer.into());
    }
    judge_encoding(&response)?;
    let (headers, inbound) = (response.headers.clone(), transport.inbound());
    let outcome = if response.content_type_is(JSON_TYPE) {
        single(&response.body.collect(inbound.max_message_bytes()).await?, id, &inbound.irregularities)?
    } else if response.content_type_is(EVENT_STREAM_TYPE) {
        stream::answer(transport, response.body, way, id).await?
    } else {
        return Err(ProtocolFault::ContentType(response.proxy).into());
    };
    Ok(Reply { status, headers, outcome })
}

/// Sends a message that wants no answer.
///
/// # Errors
/// [`WireError::Http`], or [`WireError::Status`] for anything but a success.
pub(super) async fn tell(transport: &Transport, headers: &HeaderMap, body: Bytes) -> Result<(), WireError> {
    let response = transport.post(headers, body, Lane::Call).await?;
    if response.status.is_success() { Ok(()) } else { Err(status_error(&response)) }
}

/// Opens the stream of a legacy session that carries messages only, and passes them on until it ends; then it is opened
/// anew, by whoever wants to go on.
///
/// # Errors
/// [`WireError::Status`] if there is no such stream (405, and often 404), [`WireError::SessionLost`] if the server says that
/// it knows no such session, or what the network failed with.
pub(super) async fn listen(transport: &Arc<Transport>, headers: &HeaderMap, way: Way<'_>) -> Result<(), WireError> {
    let response = transport.get(headers, CredentialEvidence::Inconclusive).await?;
    if response.status == StatusCode::NOT_FOUND {
        return Err(judge_missing(response).await);
    }
    if !response.status.is_success() {
        return Err(status_error(&response));
    }
    judge_encoding(&response)?;
    if !response.content_type_is(EVENT_STREAM_TYPE) {
        return Err(ProtocolFault::ContentType(response.proxy).into());
    }
    stream::listen(transport, response.body, way).await
}

/// A server that has no stream to listen to may say 404 for that alone: only its words tell that the session is lost.
async fn judge_missing(response: Response) -> WireError {
    let error = status_error(&response);
    let Some(body) = error_body(response).await else { return error };
    match Message::parse(&body) {
        Ok(Message::Response { outcome: Outcome::Error(found), .. })
            if RpcError::parse(&found).is_some_and(|rpc| rpc.code == SESSION_NOT_FOUND) =>
        {
            WireError::SessionLost
        }
        _ => error,
    }
}

/// Nobody asked for a compressed answer, so nobody unpacks one: what a server packs unasked is refused as that.
pub(super) fn judge_encoding(response: &Response) -> Result<(), ProtocolFault> {
    let mut encodings = response.headers.get_all(header::CONTENT_ENCODING).iter();
    let unpacked = encodings.all(|encoding| encoding.as_bytes().eq_ignore_ascii_case(b"identity"));
    if unpacked { Ok(()) } else { Err(ProtocolFault::ContentEncoding) }
}

async fn refusal(response: Response, id: &RequestId, irregularities: &Irregularities) -> Result<Reply, WireError> {
    let error = status_error(&response);
    let status = response.status;
    let says_more = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
    );
    let headers = response.headers.clone();
    if says_more {
        return Err(error);
    }
    let Some(body) = error_body(response).await else { return Err(error) };
    // Many pages of errors are JSON and no messages, which breaks no rule.
    match lenient::read(&body).map(|reading| reading.message) {
        Ok(Message::Response { id: found, outcome: outcome @ Outcome::Error(_) })
            if is_answer_to(id, found.as_ref(), irregularities) =>
        {
            Ok(Reply { status, headers, outcome })
        }
        _ => Err(error),
    }
}

/// The body of an answer with an error status, if it may be a message. Error pages in HTML are not waited for.
async fn error_body(response: Response) -> Option<Bytes> {
    let may_be_json = !response.headers.contains_key(header::CONTENT_TYPE)
        || response.content_type_is(JSON_TYPE)
        || response.content_type_is("text/plain");
    if !may_be_json || judge_encoding(&response).is_err() {
        return None;
    }
    response.body.collect(MAX_ERROR_BODY_BYTES).await.ok()
}

pub(super) fn status_error(response: &Response) -> WireError {
    WireError::Status { status: response.status, retry_after: response.retry_after(), proxy: response.proxy }
}

fn single(body: &[u8], id: &RequestId, irregularities: &Irregularities) -> Result<Outcome, WireError> {
    match read(body, irregularities).map_err(|unreadable| unreadable.fault)? {
        Message::Response { id: found, outcome } if is_answer_to(id, found.as_ref(), irregularities) => Ok(outcome),
        Message::Response { .. } => Err(ProtocolFault::WrongId.into()),
        Message::Request { .. } | Message::Notification { .. } => Err(ProtocolFault::NotAResponse.into()),
    }
}

/// Reads a message of a server, and records what had to be forgiven in it.
///
/// # Errors
/// [`Unreadable`], which is recorded too.
pub(super) fn read(text: &[u8], irregularities: &Irregularities) -> Result<Message, Unreadable> {
    let reading = lenient::read(text).inspect_err(|_| irregularities.record(Irregularity::Unreadable))?;
    reading.forgiven.into_iter().for_each(|irregularity| irregularities.record(irregularity));
    Ok(reading.message)
}

/// Whether an answer in the exchange of one request belongs to that: it may have no identifier there, or its number as a string.
pub(super) fn is_answer_to(id: &RequestId, found: Option<&RequestId>, irregularities: &Irregularities) -> bool {
    let Some(found) = found else { return true };
    if found == id {
        return true;
    }
    let is_it = found.number_in_text().is_some_and(|number| number == *id);
    if is_it {
        irregularities.record(Irregularity::TextId);
    }
    is_it
}
