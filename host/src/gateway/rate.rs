//! How often a token may ask: `calls-per-minute` of its `[[token]]`, a sliding window of a minute.
//!
//! Every JSON-RPC request counts, whatever it asks for and on whichever listener; notifications and responses do not: they
//! belong to requests that were counted, or are answers. Whoever asks too often is told when to come back, in the header and
//! in the error (RFC 6585 4, RFC 9110 10.2.3).

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Method, StatusCode};

use super::embed::Gateway;
use super::limits;
use super::visitor::Visitor;
use crate::config::Token;
use crate::mcp::RequestId;
use crate::mcp::envelope::{self, Message};
use crate::mcp::protocol::JSON_TYPE;
use crate::model::raw::{self, RawObject};
use crate::model::{BootMs, SlidingWindow, milliseconds};

/// The code of an error that says that a token asks too often. The specification gives -32000 to -32019 no meaning.
const TOO_OFTEN: i64 = -32_011;

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

/// The middleware of the endpoint, inside of the one that waits for the whole body.
pub(super) async fn limit(State(gateway): State<Gateway>, request: Request, next: Next) -> Response {
    let asked = request.extensions().get::<Visitor>().and_then(|visitor| {
        let token = visitor.token.clone()?;
        Some((token, visitor.calls_per_minute?))
    });
    let Some((token, limit)) = asked.filter(|_| request.method() == Method::POST) else {
        return next.run(request).await;
    };
    let (parts, body) = request.into_parts();
    // The body is there: this waits for nothing.
    let Ok(body) = to_bytes(body, limits::REQUEST_BYTES_MAX).await else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    if let Ok(Message::Request { id, .. }) = Message::parse(&body) {
        let now = gateway.inner.parts.edge.clock.boot();
        if let Err(wait) = gateway.inner.rates.take(&token, limit, now) {
            gateway.inner.parts.metrics.request_refused("rate");
            tracing::warn!(token = &*token, calls_per_minute = limit, "request refused: this token asks too often");
            return refused(&id, wait);
        }
    }
    next.run(Request::from_parts(parts, Body::from(body))).await
}

fn refused(id: &RequestId, wait: Duration) -> Response {
    let mut data = RawObject::new();
    data.set("reason", raw::string("rate"));
    data.set("retryAfterMs", raw::number(milliseconds(wait)));
    let message = "this token has used up its requests of this minute; come back later, or raise calls-per-minute";
    let body = envelope::error_bytes(Some(id), TOO_OFTEN, message, Some(&data.to_raw()));
    // Whole seconds, and never too early.
    let seconds = milliseconds(wait).div_ceil(1_000);
    let json = (CONTENT_TYPE, HeaderValue::from_static(JSON_TYPE));
    (StatusCode::TOO_MANY_REQUESTS, [json, (RETRY_AFTER, HeaderValue::from(seconds))], body).into_response()
}
