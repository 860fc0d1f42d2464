//! The admin routes: health for orchestrators, metrics and status for people, and a sync on demand.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde::Serialize;

use super::embed::{Gateway, SyncKind};

/// The process is alive.
pub(super) async fn healthz() -> &'static str {
    "ok"
}

/// Whether the gateway has something to serve, or has tried everything that it knows.
pub(super) async fn readyz(State(gateway): State<Gateway>) -> Response {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Readiness {
        ready: bool,
        tools: usize,
        state: super::StateRole,
    }
    let readiness = Readiness {
        ready: gateway.is_ready(),
        tools: gateway.snapshot().tool_count(),
        state: gateway.inner.parts.state.role(),
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json(status, &readiness)
}

/// Prometheus text.
pub(super) async fn metrics(State(gateway): State<Gateway>) -> Response {
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(CONTENT_TYPE, kind)], gateway.metrics()).into_response()
}

/// Everything that is known.
pub(super) async fn status(State(gateway): State<Gateway>) -> Response {
    json(StatusCode::OK, &gateway.status())
}

/// Refreshes everything now, and answers when that is done.
pub(super) async fn sync(State(gateway): State<Gateway>) -> Response {
    json(StatusCode::OK, &gateway.sync(SyncKind::Force, |_| {}).await)
}

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
