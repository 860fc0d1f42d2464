//! One request and its answer, whichever form the answer takes: one JSON message, or an event stream that holds it.
//!
//! Everything is read under a cap. What the answer means for the session (lost, wrong era) is decided elsewhere.
//! Sources: 2026-07-28 and 2025-11-25, Streamable HTTP, "Sending Messages" and "Receiving Messages".

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode, header};

use super::transport::Transport;
use crate::edge::http::{Body, HttpError, Response};
use crate::mcp::envelope::{self, Message, Outcome, RequestId};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::limits::{
    DRAIN_DEADLINE, MAX_ANSWER_BYTES, MAX_DRAIN_BYTES, MAX_ERROR_BODY_BYTES, MAX_EVENT_BYTES, MAX_SERVER_REQUESTS,
    MAX_STREAM_BYTES,
};
use crate::mcp::protocol::{EVENT_STREAM_TYPE, JSON_TYPE, METHOD_NOT_FOUND, PING};
use crate::mcp::sse::SseParser;
use crate::model::raw;

/// A JSON-RPC answer and the HTTP answer that it came in.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) outcome: Outcome,
}

/// Sends a request and reads its answer. With `back`, requests of the server on the stream are answered under those
/// headers: `ping` with an empty result, anything else as an unknown method.
///
/// A JSON-RPC error is an answer at any HTTP status except those that say more themselves: 401, 403, 429 and 503.
///
/// # Errors
/// [`WireError::Http`], [`WireError::Status`] or [`WireError::Protocol`].
pub(super) async fn ask(
    transport: &Arc<Transport>,
    headers: &HeaderMap,
    back: Option<&HeaderMap>,
    id: &RequestId,
    body: Bytes,
) -> Result<Reply, WireError> {
    let response = transport.post(headers, body).await?;
    let status = response.status;
    if !status.is_success() {
        return refusal(response, id).await;
    }
    if matches!(status, StatusCode::ACCEPTED | StatusCode::NO_CONTENT) {
        return Err(ProtocolFault::NoAnswer.into());
    }
    let headers = response.headers.clone();
    let outcome = if response.content_type_is(JSON_TYPE) {
        single(&response.body.collect(MAX_ANSWER_BYTES).await?, id)?
    } else if response.content_type_is(EVENT_STREAM_TYPE) {
        streamed(transport, response.body, back, id).await?
    } else {
        return Err(ProtocolFault::ContentType.into());
    };
    Ok(Reply { status, headers, outcome })
}

/// Sends a message that wants no answer.
///
/// # Errors
/// [`WireError::Http`], or [`WireError::Status`] for anything but a success.
pub(super) async fn tell(transport: &Transport, headers: &HeaderMap, body: Bytes) -> Result<(), WireError> {
    let response = transport.post(headers, body).await?;
    if response.status.is_success() { Ok(()) } else { Err(status_error(&response)) }
}

async fn refusal(response: Response, id: &RequestId) -> Result<Reply, WireError> {
    let error = status_error(&response);
    let status = response.status;
    let says_more = matches!(
        status,
        StatusCode::UNAUTHORIZED
            | StatusCode::FORBIDDEN
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::SERVICE_UNAVAILABLE
    );
    // Error pages in HTML are not waited for.
    let may_be_json = !response.headers.contains_key(header::CONTENT_TYPE)
        || response.content_type_is(JSON_TYPE)
        || response.content_type_is("text/plain");
    if says_more || !may_be_json {
        return Err(error);
    }
    let headers = response.headers.clone();
    let Ok(body) = response.body.collect(MAX_ERROR_BODY_BYTES).await else { return Err(error) };
    match Message::parse(&body) {
        Ok(Message::Response { id: found, outcome: outcome @ Outcome::Error(_) })
            if found.as_ref().is_none_or(|found| found == id) =>
        {
            Ok(Reply { status, headers, outcome })
        }
        _ => Err(error),
    }
}

fn status_error(response: &Response) -> WireError {
    WireError::Status { status: response.status, retry_after: response.retry_after() }
}

fn single(body: &[u8], id: &RequestId) -> Result<Outcome, WireError> {
    match Message::parse(body).map_err(ProtocolFault::from)? {
        Message::Response { id: found, outcome } if found.as_ref().is_none_or(|found| found == id) => Ok(outcome),
        Message::Response { .. } => Err(ProtocolFault::WrongId.into()),
        Message::Request { .. } | Message::Notification { .. } => Err(ProtocolFault::NotAResponse.into()),
    }
}

async fn streamed(
    transport: &Arc<Transport>,
    mut body: Body,
    back: Option<&HeaderMap>,
    id: &RequestId,
) -> Result<Outcome, WireError> {
    let mut parser = SseParser::new(MAX_EVENT_BYTES);
    let mut read = 0;
    let mut asked = 0;
    while let Some(chunk) = body.chunk().await? {
        read += chunk.len();
        if read > MAX_STREAM_BYTES {
            return Err(HttpError::Oversize { cap: MAX_STREAM_BYTES }.into());
        }
        let events = parser.push(&chunk).map_err(|error| HttpError::Oversize { cap: error.cap })?;
        // An event without data only names a place to resume at (2025-11-25).
        for event in events.into_iter().filter(|event| event.event == "message" && !event.data.is_empty()) {
            match Message::parse(&event.data).map_err(ProtocolFault::from)? {
                Message::Response { id: found, outcome } if found.as_ref().is_none_or(|found| found == id) => {
                    finish(transport, body);
                    return Ok(outcome);
                }
                Message::Request { id: question, method, .. } => {
                    asked += 1;
                    if asked > MAX_SERVER_REQUESTS {
                        return Err(ProtocolFault::TooManyServerRequests.into());
                    }
                    if let Some(back) = back {
                        answer_server(transport, back, &question, &method);
                    }
                }
                Message::Response { .. } | Message::Notification { .. } => {}
            }
        }
    }
    Err(ProtocolFault::StreamEnded.into())
}

/// Answers a request of the server without holding up what it answers itself.
fn answer_server(transport: &Arc<Transport>, back: &HeaderMap, id: &RequestId, method: &str) {
    let body = if method == PING {
        envelope::response_bytes(id, &raw::empty_object())
    } else {
        envelope::error_bytes(Some(id), METHOD_NOT_FOUND, "this client serves no requests", None)
    };
    let back = back.clone();
    let telling = transport.clone();
    transport.in_background(async move { tell(&telling, &back, body).await });
}

/// Reads the rest of an answered stream, which is nearly always its end, so that the connection can be used again.
fn finish(transport: &Transport, mut body: Body) {
    if body.chunk().now_or_never().is_some_and(|end| !matches!(end, Ok(Some(_)))) {
        return;
    }
    transport.in_background(tokio::time::timeout(DRAIN_DEADLINE, async move {
        let mut read = 0;
        while let Ok(Some(chunk)) = body.chunk().await {
            read += chunk.len();
            if read > MAX_DRAIN_BYTES {
                return;
            }
        }
    }));
}
