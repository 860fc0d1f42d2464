//! The routes of a gateway, and serving them on a socket until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::Response;
use axum::routing::{get, post};
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Uri};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::connections::Connections;
use super::cross_origin::share;
use super::door::{Door, guard, guard_admin, guard_whole};
use super::embed::Gateway;
use super::request_body::{self, BodyRule};
use super::{admin, definitions, endpoint, limits, oauth_discovery, rate};

/// Marks everything that is not MCP as what it is: no browser guesses its type, no cache keeps it, and no page of another
/// origin embeds it.
async fn harden(uri: Uri, mut response: Response) -> Response {
    if uri.path() != "/mcp" {
        let headers = response.headers_mut();
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(CORP, HeaderValue::from_static("same-origin"));
    }
    response
}

/// Fetch standard, "Cross-Origin-Resource-Policy header".
const CORP: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

impl Gateway {
    /// The routes, for whoever serves them: `/mcp`, and beside it `/healthz`, `/readyz`, `/metrics`, `/status`,
    /// `/definitions`, `/sync`, `/definitions/approve`, `/policy` and `/policy/back`; `/register` and what clients look for below
    /// `/.well-known` only answer that there is no authorization server. `listen` is the address that they are
    /// reached under. Without tokens, the three that change
    /// anything are open to this machine only: serve the routes with `into_make_service_with_connect_info::<SocketAddr>()`, so that it
    /// is known who asks. Behind a reverse proxy everybody seems to be this machine: have tokens then.
    pub fn router(&self, listen: SocketAddr) -> Router {
        let door = Arc::new(Door::new(self.clone(), listen));
        let bodies = |bytes_max, is_rated| {
            from_fn_with_state((self.clone(), BodyRule { bytes_max, is_rated }), request_body::read)
        };
        let guarded = Router::new()
            .route("/mcp", post(endpoint::post).get(endpoint::get).delete(endpoint::delete))
            .layer(DefaultBodyLimit::max(limits::REQUEST_BYTES_MAX))
            // Whoever is turned away at the door is not listened to at all.
            .layer(bodies(limits::REQUEST_BYTES_MAX, true))
            .layer(from_fn_with_state(door.clone(), guard));
        let whole = Router::new()
            .route("/metrics", get(admin::metrics))
            .route("/status", get(admin::status))
            .route("/definitions", get(definitions::changed))
            .route(
                "/sync",
                post(admin::sync)
                    .layer(bodies(limits::SMALL_BODY_BYTES, false))
                    .layer(from_fn_with_state(self.clone(), rate::limit)),
            )
            .layer(from_fn_with_state(door.clone(), guard_whole));
        let changing = Router::new()
            .route("/policy", post(admin::swap_policy))
            .route("/policy/back", post(admin::swap_back))
            .layer(DefaultBodyLimit::max(limits::POLICY_BYTES_MAX))
            .layer(bodies(limits::POLICY_BYTES_MAX, false))
            .layer(from_fn_with_state(door.clone(), guard_admin));
        let approving = Router::new()
            .route("/definitions/approve", post(definitions::approve))
            .layer(bodies(limits::SMALL_BODY_BYTES, false))
            .layer(from_fn_with_state(door.clone(), guard_admin));
        let open = Router::new().route("/healthz", get(admin::healthz)).route("/readyz", get(admin::readyz));
        let guarded = guarded.merge(whole).merge(changing).merge(approving).layer(from_fn_with_state(door, share));
        guarded.merge(open).merge(oauth_discovery::routes()).layer(map_response(harden)).with_state(self.clone())
    }

    /// Serves the routes until `stop`; requests in flight then have [`limits::DRAIN_TIMEOUT`] to end.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let address = listener.local_addr()?;
        self.inner.listening.rcu(|known| [&known[..], &[address]].concat());
        let connections = Connections {
            router: self.router(address),
            metrics: self.inner.parts.metrics.clone(),
            ending: self.inner.northbound.closing.child_token(),
        };
        connections.serve(listener, stop).await;
        Ok(())
    }
}
