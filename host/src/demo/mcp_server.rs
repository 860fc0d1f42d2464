//! An MCP server for the demo and the tests: one that keeps the rules of its protocol era strictly, counts what it is
//! asked, and can be made slow, silent, forgetful or broken while it runs.
//!
//! It serves one endpoint, `/mcp`, and knows nothing of sockets: serve [`McpServer::router`] on a loopback listener or
//! put it on a virtual network. It is no example of a safe server: session ids are guessable.

mod legacy;
mod measure;
mod modern;
mod reply;
mod tools;

use std::collections::HashMap;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::response::Response;
use axum::routing::any;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use url::Url;

pub use self::measure::Counts;
pub use self::tools::Tools;

use self::legacy::Sessions;
use self::measure::Measure;
use crate::mcp::protocol::{INITIALIZE, SERVER_DISCOVER, TOOLS_CALL, TOOLS_LIST, VERSION_2025_11_25};
use crate::mcp::{EnvelopeError, ListScope, Message};

/// Which eras a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum ServerEra {
    /// 2026-07-28 only.
    #[default]
    Modern,
    /// `initialize` and sessions only.
    Legacy,
    /// Both, on one endpoint; each request says which.
    Dual,
}

/// In which form requests are answered. Errors with an HTTP error status are always JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum AnswerStyle {
    /// One JSON message.
    #[default]
    Json,
    /// An event stream.
    Sse,
}

/// What a server is like.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// Its name, as `serverInfo.name`.
    pub name: String,
    /// Its version, as `serverInfo.version`.
    pub version: String,
    /// Which eras it speaks.
    pub era: ServerEra,
    /// How many tools it has: `echo`, `add`, `uppercase`, then `tool-4` and so on.
    pub tools: usize,
    /// How long it waits before every answer.
    pub latency: Duration,
    /// How many tools a page of its list has; all on one if none.
    pub page_size: Option<usize>,
    /// In which form it answers.
    pub answers: AnswerStyle,
    /// How long a modern list is fresh, in milliseconds; 0 if none.
    pub ttl_ms: Option<u64>,
    /// Who may be served a modern list.
    pub scope: ListScope,
    /// The newest legacy version that it speaks.
    pub legacy_version: &'static str,
    /// Whether legacy sessions have ids; without, nothing is remembered of anyone.
    pub sessions: bool,
    /// Whether it asks the client something (`ping`, `roots/list`) on the event stream of a legacy `tools/call`.
    pub asks_back: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            name: "demo".to_owned(),
            version: "1.0.0".to_owned(),
            era: ServerEra::default(),
            tools: 3,
            latency: Duration::ZERO,
            page_size: None,
            answers: AnswerStyle::default(),
            ttl_ms: None,
            scope: ListScope::Public,
            legacy_version: VERSION_2025_11_25,
            sessions: true,
            asks_back: false,
        }
    }
}

/// The server. Everything that can be changed can be changed while it serves.
#[derive(Debug)]
pub struct McpServer {
    options: ServerOptions,
    controls: Mutex<Controls>,
    sessions: Sessions,
    measure: Measure,
}

#[derive(Debug)]
struct Controls {
    tools: Tools,
    latency: Duration,
    latencies: HashMap<String, Duration>,
    silent: Vec<String>,
    failure: Option<(StatusCode, Option<Duration>)>,
    bearer: Option<String>,
}

impl McpServer {
    /// A server.
    pub fn new(options: ServerOptions) -> Arc<Self> {
        let controls = Controls {
            tools: options.tools.into(),
            latency: options.latency,
            latencies: HashMap::new(),
            silent: Vec::new(),
            failure: None,
            bearer: None,
        };
        Arc::new(Self {
            options,
            controls: Mutex::new(controls),
            sessions: Sessions::default(),
            measure: Measure::default(),
        })
    }

    /// Its one route, `/mcp`.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/mcp", any(serve)).with_state(self.clone())
    }

    /// Changes its tools: a number of generated ones, or documents.
    pub fn set_tools(&self, tools: impl Into<Tools>) {
        self.controls().tools = tools.into();
    }

    /// Changes how long it waits before every answer.
    pub fn set_latency(&self, latency: Duration) {
        self.controls().latency = latency;
    }

    /// Changes how long it waits before it answers one method.
    pub fn set_latency_of(&self, method: &str, latency: Duration) {
        self.controls().latencies.insert(method.to_owned(), latency);
    }

    /// Never answers requests with one of these methods any more.
    pub fn be_silent_on(&self, methods: &[&str]) {
        self.controls().silent = methods.iter().map(|method| (*method).to_owned()).collect();
    }

    /// Answers everything with this status and nothing else, until [`Self::recover`].
    pub fn fail_with(&self, status: StatusCode) {
        self.controls().failure = Some((status, None));
    }

    /// Like [`Self::fail_with`], with a `Retry-After` in whole seconds.
    pub fn fail_with_retry_after(&self, status: StatusCode, wish: Duration) {
        self.controls().failure = Some((status, Some(wish)));
    }

    /// Works again.
    pub fn recover(&self) {
        self.controls().failure = None;
    }

    /// Demands `Authorization: Bearer <key>` from now on.
    pub fn require_bearer(&self, key: &str) {
        self.controls().bearer = Some(key.to_owned());
    }

    /// Demands no key any more.
    pub fn require_no_bearer(&self) {
        self.controls().bearer = None;
    }

    /// Forgets every legacy session, as a restart does.
    pub fn forget_sessions(&self) {
        self.sessions.forget();
    }

    /// How many legacy sessions are open.
    pub fn open_sessions(&self) -> usize {
        self.sessions.count()
    }

    /// What it was asked so far.
    pub fn counts(&self) -> Counts {
        self.measure.counts()
    }

    /// How many requests had to follow one another until the first whole list was out: the depth of its last page,
    /// where a request is one deeper than the deepest request that was answered before it arrived.
    pub fn round_trips_until_listed(&self) -> Option<u64> {
        self.measure.round_trips_until_listed()
    }

    fn controls(&self) -> MutexGuard<'_, Controls> {
        self.controls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, headers: &HeaderMap) -> Option<Response> {
        let controls = self.controls();
        if let Some((status, wish)) = controls.failure {
            let mut response = reply::status(status);
            if let Some(wish) = wish {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(wish.as_secs()));
            }
            return Some(response);
        }
        let expected = controls.bearer.as_ref().map(|key| format!("Bearer {key}"));
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        if expected.is_some() && expected.as_deref() != given {
            let mut response = reply::status(StatusCode::UNAUTHORIZED);
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            return Some(response);
        }
        // A browser on another site is not to reach a server on this machine (DNS rebinding).
        (!is_local_origin(headers)).then(|| reply::status(StatusCode::FORBIDDEN))
    }

    async fn wait(&self, method: &str) {
        let latency = {
            let controls = self.controls();
            if controls.silent.iter().any(|silent| silent == method) {
                None
            } else {
                Some(controls.latencies.get(method).copied().unwrap_or(controls.latency))
            }
        };
        match latency {
            Some(latency) => tokio::time::sleep(latency).await,
            None => pending().await,
        }
    }

    fn count(&self, method: &Method, message: &Result<Message, EnvelopeError>) {
        self.measure.count(|counts| match message {
            _ if method == Method::DELETE => counts.deletes += 1,
            Ok(Message::Notification { .. }) => counts.notifications += 1,
            Ok(Message::Response { .. }) => counts.responses += 1,
            Ok(Message::Request { method, .. }) => match method.as_str() {
                INITIALIZE => counts.initialize += 1,
                SERVER_DISCOVER => counts.discover += 1,
                TOOLS_LIST => counts.lists += 1,
                TOOLS_CALL => counts.calls += 1,
                _ => {}
            },
            Err(_) => {}
        });
    }
}

async fn serve(State(server): State<Arc<McpServer>>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let ticket = server.measure.begin();
    let message = Message::parse(&body);
    server.count(&method, &message);
    let name = match &message {
        Ok(Message::Request { method, .. } | Message::Notification { method, .. }) => method.as_str(),
        Ok(Message::Response { .. }) | Err(_) => "",
    };
    server.wait(name).await;
    let answer = match (server.refusal(&headers), &method) {
        (Some(refusal), _) => reply::Reply::new(refusal),
        (None, &Method::POST) => answer(&server, &headers, message),
        (None, &Method::DELETE) if server.options.era != ServerEra::Modern => server.sessions.delete(&headers).into(),
        (None, _) => reply::method_not_allowed().into(),
    };
    ticket.finish(answer.completes_a_list);
    answer.response
}

fn answer(server: &McpServer, headers: &HeaderMap, message: Result<Message, EnvelopeError>) -> reply::Reply {
    let message = match message {
        Ok(message) => message,
        Err(error) => return reply::error(StatusCode::BAD_REQUEST, error.id(), error.code(), &error.to_string(), None),
    };
    let modern = match server.options.era {
        ServerEra::Modern => true,
        ServerEra::Legacy => false,
        ServerEra::Dual => modern::is_modern(&message),
    };
    if modern { modern::answer(server, headers, message) } else { legacy::answer(server, headers, message) }
}

fn is_local_origin(headers: &HeaderMap) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let origin = origin.to_str().ok().and_then(|origin| Url::parse(origin).ok());
    origin.is_some_and(|origin| matches!(origin.host_str(), Some("localhost" | "127.0.0.1" | "[::1]")))
}

#[cfg(test)]
mod tests;
