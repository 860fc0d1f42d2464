//! The admin routes: health for orchestrators, metrics and status for people, a sync on demand, and the swap of the policy.

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::{Deserialize, Serialize};

use super::embed::{Gateway, SyncKind};
use super::swap::{SwapError, SwapReport};
use crate::model::Digest;
use crate::policy::{InstanceUse, PolicyComponent};

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

/// What is told about the policy that a body holds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Brought {
    /// Whose memos it shares; its own digest's without.
    family: Option<String>,
    /// Whether its instances may be used again.
    #[serde(default)]
    reuse: bool,
}

/// Deploys the component in the body, after it was checked.
pub(super) async fn swap_policy(
    State(gateway): State<Gateway>,
    Query(brought): Query<Brought>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    // A web page can not send this type to another origin without asking first.
    if headers.get(CONTENT_TYPE).is_none_or(|kind| kind.as_bytes() != WASM_TYPE.as_bytes()) {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/wasm").into_response();
    }
    let compiled = tokio::task::spawn_blocking(move || {
        let family = brought.family.unwrap_or_else(|| Digest::of(&body).to_string());
        let instances = if brought.reuse { InstanceUse::Reused } else { InstanceUse::Fresh };
        PolicyComponent::load(&body, &family, instances)
    });
    swapped(match compiled.await {
        Ok(Ok(component)) => gateway.swap_policy(component.into()).await,
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(SwapError::Ending),
    })
}

/// Which policy to go back to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Back {
    /// The beginning of its digest; the last one without.
    digest: Option<String>,
}

/// Deploys a policy that decided before.
pub(super) async fn swap_back(State(gateway): State<Gateway>, Query(back): Query<Back>) -> Response {
    swapped(gateway.swap_back(back.digest.as_deref()).await)
}

fn swapped(result: Result<SwapReport, SwapError>) -> Response {
    match result {
        Ok(report) => json(StatusCode::OK, &report),
        Err(error) => {
            tracing::warn!(%error, "policy not swapped");
            (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()).into_response()
        }
    }
}

/// The media type of a component.
const WASM_TYPE: &str = "application/wasm";

fn json(status: StatusCode, value: &impl Serialize) -> Response {
    match serde_json::to_vec(value) {
        Ok(body) => (status, [(CONTENT_TYPE, HeaderValue::from_static("application/json"))], body).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}
