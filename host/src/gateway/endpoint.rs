//! `/mcp`: Streamable HTTP, both eras on one endpoint, without sessions.

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::door::MayChange;
use super::embed::Gateway;
use super::northbound::{self, VERSIONS};
use crate::mcp::envelope::{self, Message};
use crate::mcp::protocol::{Era, INITIALIZE, INVALID_REQUEST, JSON_TYPE};
use crate::mcp::server::{Refusal, era_of, judge_legacy, judge_modern};
use crate::mcp::{Outcome, RequestId};
use crate::model::raw::RawObject;
use crate::telemetry::CallOutcome;

/// Answers one POSTed message.
pub(super) async fn post(
    State(gateway): State<Gateway>,
    Extension(right): Extension<MayChange>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON_TYPE)));
    if !is_json {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json").into_response();
    }
    match Message::parse(&body) {
        Ok(Message::Request { id, method, params }) => {
            let params = params.map(|params| RawObject::parse(&params)).transpose();
            match params {
                Ok(params) => request(&gateway, right, &headers, &id, &method, params).await,
                // The envelope has checked that they are an object.
                Err(_) => refused(Some(&id), StatusCode::BAD_REQUEST, INVALID_REQUEST, "unreadable params", None),
            }
        }
        // Nothing that a client may tell changes anything here. A legacy client's `notifications/cancelled` names an id that
        // other clients use as well: without sessions it can not be told whose call it means, so calls run to their end.
        Ok(Message::Notification { .. } | Message::Response { .. }) => StatusCode::ACCEPTED.into_response(),
        Err(error) => refused(error.id(), StatusCode::BAD_REQUEST, error.code(), &error.to_string(), None),
    }
}

/// There is no stream to listen on.
pub(super) async fn get() -> Response {
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, HeaderValue::from_static("POST, DELETE"))]).into_response()
}

/// There is no session to end, and ending none is fine.
pub(super) async fn delete() -> StatusCode {
    StatusCode::OK
}

async fn request(
    gateway: &Gateway,
    right: MayChange,
    headers: &HeaderMap,
    id: &RequestId,
    method: &str,
    params: Option<RawObject>,
) -> Response {
    let started = Instant::now();
    let era = era_of(headers, params.as_ref());
    let params = params.unwrap_or_default();
    let judged = match era {
        Era::Modern => judge_modern(headers, method, &params, &VERSIONS),
        Era::Legacy if method == INITIALIZE => Ok(()),
        Era::Legacy => judge_legacy(headers),
    };
    if let Err(Refusal { status, code, message, data }) = judged {
        return refused(Some(id), status, code, message, data.as_deref());
    }
    let answer = northbound::answer(gateway, era, right, method, params).await;
    let (body, outcome) = match &answer.outcome {
        Outcome::Result(result) => (envelope::response_bytes(id, result), CallOutcome::Result),
        Outcome::Error(error) => (envelope::raw_error_bytes(Some(id), error), CallOutcome::Failed),
    };
    gateway.inner.parts.metrics.served(northbound::known_method(method), started.elapsed(), outcome);
    let status = match (answer.unknown_method, era) {
        (true, Era::Modern) => StatusCode::NOT_FOUND,
        _ => StatusCode::OK,
    };
    json(status, body)
}

fn refused(
    id: Option<&RequestId>,
    status: StatusCode,
    code: i64,
    message: &str,
    data: Option<&serde_json::value::RawValue>,
) -> Response {
    json(status, envelope::error_bytes(id, code, message, data))
}

fn json(status: StatusCode, body: Bytes) -> Response {
    (status, [(CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE))], body).into_response()
}
