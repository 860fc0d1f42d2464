//! The routes of a gateway, and serving them on a socket until told to stop.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::door::{Door, guard};
use super::embed::Gateway;
use super::{admin, endpoint, limits};

impl Gateway {
    /// The routes, for whoever serves them: `/mcp`, and beside it `/healthz`, `/readyz`, `/metrics`, `/status`, `/sync`.
    /// `listen` is the address that they are reached under.
    pub fn router(&self, listen: SocketAddr) -> Router {
        let door = Arc::new(Door::new(self.settings(), listen, self.inner.parts.metrics.clone()));
        let guarded = Router::new()
            .route("/mcp", post(endpoint::post).get(endpoint::get).delete(endpoint::delete))
            .route("/metrics", get(admin::metrics))
            .route("/status", get(admin::status))
            .route("/sync", post(admin::sync))
            .layer(DefaultBodyLimit::max(limits::REQUEST_BYTES_MAX))
            .layer(axum::middleware::from_fn_with_state(door, guard));
        let open = Router::new().route("/healthz", get(admin::healthz)).route("/readyz", get(admin::readyz));
        guarded.merge(open).with_state(self.clone())
    }

    /// Serves the routes until `stop`; requests in flight then have [`limits::DRAIN_TIMEOUT`] to end.
    ///
    /// # Errors
    /// If the listener has no address.
    pub async fn serve(&self, listener: TcpListener, stop: CancellationToken) -> std::io::Result<()> {
        let router = self.router(listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // Answers are small: waiting to fill a packet costs tens of milliseconds (mcp-protocol 0).
            let _ = stream.set_nodelay(true);
        });
        let stopping = stop.clone();
        let serving = axum::serve(listener, router).with_graceful_shutdown(async move { stopping.cancelled().await });
        let deadline = async {
            stop.cancelled().await;
            tokio::time::sleep(limits::DRAIN_TIMEOUT).await;
        };
        tokio::select! {
            served = serving.into_future() => served,
            () = deadline => Ok(()),
        }
    }
}
