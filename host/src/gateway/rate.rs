//! How often a token may ask: `calls-per-minute` of its `[[token]]`, a sliding window of a minute.
//!
//! Every JSON-RPC request counts, whatever it asks for and on whichever listener; notifications and responses do not: they
//! belong to requests that were counted, or are answers. A message with a body that is not small counts before the body is
//! read, whatever it turns out to be. Whoever asks too often is told when to come back, in the header and
//! in the error (RFC 6585 4, RFC 9110 10.2.3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::RETRY_AFTER;
use http::{HeaderValue, StatusCode};

use super::embed::Gateway;
use super::json::json;
use super::limits;
use super::metrics::RequestRefusal;
use super::request_body::BodyLease;
use super::visitor::Visitor;
use crate::config::Token;
use crate::mcp::RequestId;
use crate::mcp::envelope;
use crate::mcp::protocol::TOO_OFTEN;
use crate::model::raw::{self, RawObject};
use crate::model::{BootMs, SlidingWindow, milliseconds};

/// The windows of a gateway's tokens, by their names.
#[derive(Debug, Default)]
pub(super) struct TokenRates(Mutex<HashMap<String, SlidingWindow>>);

impl TokenRates {
    /// Uses up one request of a token, or says how long until there is one.
    fn take(&self, token: &str, limit: u32, now: BootMs) -> Result<(), Duration> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || SlidingWindow::new(limit, limits::RATE_PERIOD);
        let window = windows.entry(token.to_owned()).or_insert_with(new);
        if window.limit() != u64::from(limit) {
            *window = new();
        }
        match window.wait(now) {
            Some(wait) => Err(wait),
            None => {
                window.count(now);
                Ok(())
            }
        }
    }

    /// Forgets tokens that are not configured any more.
    pub(super) fn keep(&self, tokens: &[Token]) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        windows.retain(|name, _| tokens.iter().any(|token| token.name == *name));
    }
}

/// Uses up one request of whoever makes it, or answers it with when to come back. A request with a large body was counted
/// when its head came.
pub(super) fn too_often(
    gateway: &Gateway,
    visitor: &Visitor,
    body: Option<&BodyLease>,
    id: &RequestId,
) -> Option<Response> {
    if body.is_some_and(BodyLease::take_count) {
        return None;
    }
    Some(refused(id, take(gateway, visitor)?))
}

/// The middleware of routes that are no JSON-RPC and cost as much: each request is one. Whoever may change the gateway is
/// not limited.
pub(super) async fn limit(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let visitor = request.extensions().get::<Visitor>();
    let wait = visitor.filter(|visitor| visitor.right.refusal().is_some()).and_then(|visitor| take(&gateway, visitor));
    match wait {
        Some(wait) => {
            let after = [(RETRY_AFTER, HeaderValue::from(seconds(wait)))];
            (StatusCode::TOO_MANY_REQUESTS, after, TOLD).into_response()
        }
        None => next.run(request).await,
    }
}

/// Uses up one request of whoever makes it, or says how long until there is one.
pub(super) fn take(gateway: &Gateway, visitor: &Visitor) -> Option<Duration> {
    let (token, limit) = (visitor.token.as_ref()?, visitor.calls_per_minute?);
    let now = gateway.inner.parts.edge.clock.boot();
    let wait = gateway.inner.rates.take(token, limit, now).err()?;
    if let Some(line) = gateway.inner.parts.metrics.request_refused(RequestRefusal::Rate) {
        let (token, left_out) = (&**token, line.left_out);
        tracing::warn!(token, calls_per_minute = limit, left_out, "request refused: this token asks too often");
    }
    Some(wait)
}

/// Whole seconds, and never too early.
pub(super) fn seconds(wait: Duration) -> u64 {
    milliseconds(wait).div_ceil(1_000)
}

/// What is told who asks too often.
pub(super) const TOLD: &str =
    "this token has used up its requests of this minute; come back later, or raise calls-per-minute";

fn refused(id: &RequestId, wait: Duration) -> Response {
    let mut data = RawObject::new();
    data.set("reason", raw::string("rate"));
    data.set("retryAfterMs", raw::number(milliseconds(wait)));
    let body = envelope::error_bytes(Some(id), TOO_OFTEN, TOLD, Some(&data.to_raw()));
    let mut response = json(StatusCode::TOO_MANY_REQUESTS, body);
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds(wait)));
    response
}
