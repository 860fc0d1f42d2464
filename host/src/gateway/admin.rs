//! The admin routes: health for orchestrators, metrics and status for people, a sync on demand, and the swap of the policy.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};

use super::embed::{Gateway, SyncKind};
use super::json;
use super::swap::{SwapError, SwapReport};
use crate::mcp::protocol::JSON_TYPE;
use crate::model::Digest;
use crate::policy::{InstanceUse, PolicyComponent};
use crate::registry::Standing;
use crate::telemetry::MetricsFormat;

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
        /// How the registry stands, if it can not be written: what is served is served all the same.
        #[serde(skip_serializing_if = "Option::is_none")]
        registry: Option<&'static str>,
    }
    let readiness = Readiness {
        ready: gateway.is_ready(),
        tools: gateway.snapshot().tool_count(),
        state: gateway.inner.parts.state.role(),
        registry: match gateway.inner.parts.registry.borrow().status.standing {
            Standing::Writable => None,
            Standing::Behind { .. } => Some("behind"),
            Standing::ReadOnly { .. } => Some("read-only"),
        },
    };
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json::value(status, &readiness)
}

/// The metrics, in the format that is asked for.
pub(super) async fn metrics(State(gateway): State<Gateway>, headers: HeaderMap) -> Response {
    let format = MetricsFormat::accepted(&headers);
    ([(CONTENT_TYPE, format.content_type())], gateway.metrics_as(format)).into_response()
}

/// Everything that is known.
pub(super) async fn status(State(gateway): State<Gateway>) -> Response {
    json::value(StatusCode::OK, &gateway.status())
}

/// Refreshes everything now, and answers when that is done.
pub(super) async fn sync(State(gateway): State<Gateway>) -> Response {
    json::value(StatusCode::OK, &gateway.sync(SyncKind::Force, |_| {}).await)
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
    if let Some(refused) = wrong_type(&headers, WASM_TYPE) {
        return refused;
    }
    // First of all: a thread is held by one change at a time.
    let changing = match gateway.try_begin_change() {
        Ok(changing) => changing,
        Err(busy) => return swapped(Err(busy)),
    };
    let load = move || {
        let family = brought.family.unwrap_or_else(|| Digest::of(&body).to_string());
        PolicyComponent::load(&body, &family, instance_use(brought.reuse)).map(Arc::new)
    };
    swapped(gateway.swap_loaded(changing, load).await)
}

fn instance_use(reuse: bool) -> InstanceUse {
    if reuse { InstanceUse::Reused } else { InstanceUse::Fresh }
}

/// The answer to a body that is not of this type, which a web page can not send to another origin without asking first.
pub(super) fn wrong_type(headers: &HeaderMap, expected: &'static str) -> Option<Response> {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let refused = || (StatusCode::UNSUPPORTED_MEDIA_TYPE, format!("send this with the content type {expected}"));
    (!kind.eq_ignore_ascii_case(expected)).then(|| refused().into_response())
}

/// Which policy to go back to.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Back {
    /// The beginning of its digest; the last one without.
    digest: Option<String>,
    /// The family that it was deployed with; whichever it was without.
    family: Option<String>,
    /// Whether its instances were used again; told together with the family.
    #[serde(default)]
    reuse: bool,
}

/// Deploys a policy that decided before.
pub(super) async fn swap_back(
    State(gateway): State<Gateway>,
    Query(back): Query<Back>,
    headers: HeaderMap,
) -> Response {
    if let Some(refused) = wrong_type(&headers, JSON_TYPE) {
        return refused;
    }
    let deployed_as = back.family.as_deref().map(|family| (family, instance_use(back.reuse)));
    swapped(match gateway.try_begin_change() {
        Ok(changing) => gateway.swap_former(changing, back.digest.as_deref(), deployed_as).await,
        Err(busy) => Err(busy),
    })
}

fn swapped(result: Result<SwapReport, SwapError>) -> Response {
    match result {
        Ok(report) => json::value(StatusCode::OK, &report),
        Err(error) => {
            tracing::warn!(%error, "policy not swapped");
            let status = match error {
                SwapError::Busy => StatusCode::CONFLICT,
                _ => StatusCode::UNPROCESSABLE_ENTITY,
            };
            (status, error.to_string()).into_response()
        }
    }
}

/// The media type of a component.
const WASM_TYPE: &str = "application/wasm";
