//! The routes of a gateway, and serving them on a socket until told to stop.
//!
//! A request's body must arrive within [`limits::BODY_TIMEOUT`]: who sends half of one does not keep its connection for ever.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use http::StatusCode;
use http_body_util::LengthLimitError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::cross_origin::share;
use super::door::{Door, guard, guard_admin, guard_whole};
use super::embed::Gateway;
use super::metrics::{RequestRefusal, ServerMetrics};
use super::{admin, endpoint, limits, rate};
use crate::telemetry::Label as _;

impl Gateway {
    /// The routes, for whoever serves them: `/mcp`, and beside it `/healthz`, `/readyz`, `/metrics`, `/status`, `/sync`,
    /// `/policy` and `/policy/back`. `listen` is the address that they are reached under. Without tokens, the last two are
    /// open to this machine only: serve the routes with `into_make_service_with_connect_info::<SocketAddr>()`, so that it
    /// is known who asks. Behind a reverse proxy everybody seems to be this machine: have tokens then.
    pub fn router(&self, listen: SocketAddr) -> Router {
        let metrics = self.inner.parts.metrics.clone();
        let door = Arc::new(Door::new(self.clone(), listen));
        let bodies = |longest| from_fn_with_state((metrics.clone(), longest), with_whole_body);
        let guarded = Router::new()
            .route("/mcp", post(endpoint::post).get(endpoint::get).delete(endpoint::delete))
            .layer(DefaultBodyLimit::max(limits::REQUEST_BYTES_MAX))
            // Whoever is turned away at the door is not listened to at all.
            .layer(bodies(limits::REQUEST_BYTES_MAX))
            .layer(from_fn_with_state(door.clone(), guard));
        let whole = Router::new()
            .route("/metrics", get(admin::metrics))
            .route("/status", get(admin::status))
            .route("/sync", post(admin::sync).layer(from_fn_with_state(self.clone(), rate::limit)))
            .layer(DefaultBodyLimit::max(limits::REQUEST_BYTES_MAX))
            .layer(bodies(limits::REQUEST_BYTES_MAX))
            .layer(from_fn_with_state(door.clone(), guard_whole));
        let changing = Router::new()
            .route("/policy", post(admin::swap_policy))
            .route("/policy/back", post(admin::swap_back))
            .layer(DefaultBodyLimit::max(limits::POLICY_BYTES_MAX))
            .layer(bodies(limits::POLICY_BYTES_MAX))
            .layer(from_fn_with_state(door.clone(), guard_admin));
        let open = Router::new().route("/healthz", get(admin::healthz)).route("/readyz", get(admin::readyz));
        let guarded = guarded.merge(whole).merge(changing).layer(from_fn_with_state(door, share));
        guarded.merge(open).with_state(self.clone())
    }

    /// Serves the routes until `stop`; requests in flight then have [`limits::DRAIN_TIMEOUT`] to end.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let connections = Connections {
            router: self.router(listener.local_addr()?),
            metrics: self.inner.parts.metrics.clone(),
            ending: self.inner.northbound.closing.child_token(),
        };
        connections.serve(listener, stop).await;
        Ok(())
    }
}

/// The middleware that waits for a request's body, up to its greatest size and for so long.
async fn with_whole_body(
    State((metrics, longest)): State<(ServerMetrics, usize)>,
    request: Request,
    next: Next,
) -> Response {
    let (parts, body) = request.into_parts();
    let (status, reason) = match tokio::time::timeout(limits::BODY_TIMEOUT, to_bytes(body, longest)).await {
        Ok(Ok(body)) => return next.run(Request::from_parts(parts, Body::from(body))).await,
        Ok(Err(error)) if is_too_long(&error) => (StatusCode::PAYLOAD_TOO_LARGE, RequestRefusal::BodySize),
        Ok(Err(_)) => (StatusCode::BAD_REQUEST, RequestRefusal::BodyBroken),
        Err(_) => (StatusCode::REQUEST_TIMEOUT, RequestRefusal::BodyTimeout),
    };
    if let Some(line) = metrics.request_refused(reason) {
        let (reason, path) = (reason.value(), parts.uri.path());
        tracing::warn!(reason, path, left_out = line.left_out, "the body of a request did not arrive");
    }
    status.into_response()
}

fn is_too_long(error: &axum::Error) -> bool {
    std::error::Error::source(error).is_some_and(|source| source.is::<LengthLimitError>())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use futures_util::{StreamExt, stream};
    use tokio::time::Instant;
    use tower::ServiceExt;

    use super::*;
    use crate::config::{Environment, Settings};
    use crate::edge::Edge;
    use crate::edge::clock::VirtualClock;
    use crate::edge::disk::MemoryDisk;
    use crate::edge::entropy::VirtualEntropy;
    use crate::edge::files::MemoryDirectory;
    use crate::edge::virtual_network::VirtualNetwork;
    use crate::model::WallMs;

    async fn router() -> Router {
        let edge = Edge {
            clock: Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000))),
            entropy: Arc::new(VirtualEntropy::from_number(7)),
            http: Arc::new(VirtualNetwork::new()),
        };
        let mut settings = Settings::from_environment(&Environment::default()).unwrap();
        settings.trace = None;
        let gateway = Gateway::builder(settings)
            .edge(edge)
            .state_directory(Arc::new(MemoryDirectory::new()))
            .registry_disk(Arc::new(MemoryDisk::new()))
            .start();
        gateway.await.unwrap().router("127.0.0.1:8420".parse().unwrap())
    }

    async fn post(router: Router, body: Body) -> StatusCode {
        let request = Request::post("/mcp").header("host", "localhost").header("content-type", "application/json");
        router.oneshot(request.body(body).unwrap()).await.unwrap().status()
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stops_half_way_is_given_up_after_half_a_minute() {
        let router = router().await;
        let began = Instant::now();
        let half = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]).chain(stream::pending());
        let answered = tokio::time::timeout(2 * limits::BODY_TIMEOUT, post(router, Body::from_stream(half))).await;
        assert_eq!(answered, Ok(StatusCode::REQUEST_TIMEOUT));
        assert_eq!(began.elapsed(), limits::BODY_TIMEOUT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_body_passes_and_one_above_the_cap_does_not() {
        let router = router().await;
        let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
        assert_eq!(post(router.clone(), ping.into()).await, StatusCode::OK);
        let large = vec![b' '; limits::REQUEST_BYTES_MAX + 1];
        assert_eq!(post(router.clone(), large.into()).await, StatusCode::PAYLOAD_TOO_LARGE);
        let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
        assert_eq!(post(router, Body::from_stream(broken)).await, StatusCode::BAD_REQUEST);
    }
}
