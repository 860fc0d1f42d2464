//! A server of both eras for the official conformance suite, run in this process.
//!
//! The suite calls tools, prompts and resources by fixed names. Whoever serves them is what the suite can be run
//! against, directly and through the gateway; this does, and their names are not ours to choose. What a tool does is
//! written once, for both eras: where it needs something from the client, the legacy era sends a request over the
//! call's stream and the modern era answers `input_required`.
//!
//! The contents are fixed. The protocol is not: sessions, deadlines, event logs, sealed states and subscriptions are
//! real. It must never depend on the gateway's own library: it would then share the library's mistakes.

#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::expect_used, reason = "tests may")]

mod calls;
mod content;
mod headers;
mod input;
mod legacy;
mod listening;
mod methods;
mod modern;
mod prompts;
mod request_state;
mod resources;
mod session;
mod streams;
mod tools;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::any;
use axum::serve::ListenerExt;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use request_state::RequestStates;
use session::Sessions;
use wire::{Incoming, RpcError};

/// The one version of the modern era that it speaks.
pub(crate) const MODERN_VERSION: &str = "2026-07-28";

/// The versions of the legacy era that it speaks, the newest first.
pub(crate) const LEGACY_VERSIONS: [&str; 3] = ["2025-11-25", "2025-06-18", "2025-03-26"];

/// The longest body that it reads.
const BODY_LIMIT: usize = 4 * 1024 * 1024;

/// Changes that a slow subscriber may be behind.
const CHANGES_KEPT: usize = 256;

/// Which eras a fixture speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Eras {
    /// Each client in its own.
    #[default]
    Both,
    /// Sessions only.
    LegacyOnly,
    /// Stateless requests only.
    ModernOnly,
}

/// How a fixture serves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FixtureOptions {
    /// The eras that it speaks.
    pub(crate) eras: Eras,
    /// Whether it serves under any host name. On a loopback address it must not: a page in a browser could reach it.
    pub(crate) any_host: bool,
    /// Whether legacy clients are asked on the stream that is about no one request, as servers of the TypeScript SDK do
    /// that forget which call they ask for. Otherwise they are asked on the stream of the call.
    pub(crate) asks_apart: bool,
}

/// What changed, for those who subscribed to it.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Change {
    Tools,
    Prompts,
    Resources,
    Resource(String),
}

impl Change {
    /// The notification about it, without `_meta`.
    fn notification(&self) -> Value {
        match self {
            Self::Tools => wire::notification("notifications/tools/list_changed", json!({})),
            Self::Prompts => wire::notification("notifications/prompts/list_changed", json!({})),
            Self::Resources => wire::notification("notifications/resources/list_changed", json!({})),
            Self::Resource(uri) => wire::notification("notifications/resources/updated", json!({ "uri": uri })),
        }
    }
}

/// Entries that come and go by `test_trigger_*_change`.
#[derive(Debug, Default)]
struct Toggles {
    tool: AtomicBool,
    prompt: AtomicBool,
    resource: AtomicBool,
}

/// What every request shares.
struct Shared {
    options: FixtureOptions,
    toggles: Toggles,
    changes: broadcast::Sender<Change>,
    sessions: Sessions,
    states: RequestStates,
    /// How often it was ended: who is served ends when the number is no longer what it was.
    ended: watch::Sender<u64>,
}

impl Shared {
    /// Tells everyone who subscribed, in both eras.
    fn tell(&self, change: &Change) {
        // Nobody listens: nobody is told.
        let _ = self.changes.send(change.clone());
        self.sessions.tell(change);
    }

    /// Waits until it is ended.
    fn end(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut ended = self.ended.subscribe();
        let before = *ended.borrow_and_update();
        async move {
            // Its sender gone, it is over as well.
            let _ = ended.wait_for(|ended| *ended != before).await;
        }
    }

    /// Turns the entry over, and tells.
    fn toggle(&self, which: &AtomicBool, change: &Change) {
        which.fetch_xor(true, Ordering::SeqCst);
        self.tell(change);
    }
}

/// The server.
#[derive(Clone)]
pub(crate) struct FixtureUpstream {
    shared: Arc<Shared>,
}

impl FixtureUpstream {
    /// A server of both eras.
    pub(crate) fn new() -> Self {
        Self::with(FixtureOptions::default())
    }

    /// A server that serves as told.
    pub(crate) fn with(options: FixtureOptions) -> Self {
        let shared = Shared {
            options,
            toggles: Toggles::default(),
            changes: broadcast::Sender::new(CHANGES_KEPT),
            sessions: Sessions::default(),
            states: RequestStates::default(),
            ended: watch::Sender::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Its only route, `/mcp`.
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/mcp", any(serve_request)).with_state(self.shared.clone())
    }

    /// Serves on a free loopback port until the guard is dropped or stopped: its address, and the guard.
    pub(crate) async fn serve(&self) -> (String, FixtureGuard) {
        self.serve_on(0).await
    }

    /// The same on this port.
    pub(crate) async fn serve_on(&self, port: u16) -> (String, FixtureGuard) {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("a loopback port");
        let url = format!("http://{}/mcp", listener.local_addr().expect("a bound listener has an address"));
        let listener = listener.tap_io(|stream| {
            // Small events are not to wait for a full packet.
            let _ = stream.set_nodelay(true);
        });
        let server = axum::serve(listener, self.router()).with_graceful_shutdown(self.shared.end());
        let task = tokio::spawn(async move { server.await.expect("accepting goes on until it is told to end") });
        (url, FixtureGuard { shared: self.shared.clone(), task: Some(task) })
    }
}

/// Keeps a fixture served. Dropped, it ends every session, every subscription (gracefully) and the listener.
pub(crate) struct FixtureGuard {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

impl FixtureGuard {
    /// Ends it, and waits until the last connection is closed.
    pub(crate) async fn stop(mut self) {
        self.end();
        if let Some(task) = self.task.take() {
            task.await.expect("the fixture ends without a panic");
        }
    }

    fn end(&self) {
        self.shared.ended.send_modify(|ended| *ended += 1);
        self.shared.sessions.end_all();
    }
}

impl Drop for FixtureGuard {
    fn drop(&mut self) {
        self.end();
    }
}

async fn serve_request(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let headers = parts.headers;
    if !shared.options.any_host && !headers::from_loopback(&headers) {
        return wire::refusal(StatusCode::FORBIDDEN, None, &RpcError::new(-32000, "this server is for loopback only"));
    }
    let legacy = shared.options.eras != Eras::ModernOnly;
    match parts.method {
        Method::GET if legacy => legacy::open_stream(&shared, &headers),
        Method::DELETE if legacy => legacy::end_session(&shared, &headers),
        Method::POST => {
            if let Some(refusal) = headers::wrong_types(&headers) {
                return refusal;
            }
            let Ok(body) = to_bytes(body, BODY_LIMIT).await else {
                return wire::status(StatusCode::PAYLOAD_TOO_LARGE);
            };
            match Incoming::parse(&body) {
                Ok(message) if is_modern(shared.options.eras, &headers, &message) => {
                    modern::post(&shared, &headers, message).await
                }
                Ok(message) => legacy::post(&shared, &headers, message).await,
                Err(error) => wire::refusal(StatusCode::BAD_REQUEST, None, &error),
            }
        }
        _ => wire::method_not_allowed(if legacy { "GET, POST, DELETE" } else { "POST" }),
    }
}

/// Whether a message is of the modern era: its body says so, or its header, or only that era has its method.
fn is_modern(eras: Eras, headers: &http::HeaderMap, message: &Incoming) -> bool {
    match eras {
        Eras::LegacyOnly => false,
        Eras::ModernOnly => true,
        Eras::Both => {
            let version = headers::text(headers, headers::VERSION);
            let of_header = version.is_some_and(|version| !LEGACY_VERSIONS.contains(&version));
            let of_body = match message {
                Incoming::Request { method, params, .. } => {
                    matches!(method.as_str(), "server/discover" | "subscriptions/listen")
                        || params.get("_meta").and_then(|meta| meta.get(modern::META_VERSION)).is_some()
                }
                Incoming::Notification { .. } | Incoming::Response { .. } => false,
            };
            of_header || of_body
        }
    }
}
