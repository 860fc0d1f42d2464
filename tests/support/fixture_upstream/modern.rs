//! The modern era: every request stands for itself, says its version and what its client can do, and is answered where
//! it was asked. Nothing is kept between two requests, and the server must never ask anything by itself.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::headers::{self, mismatch};
use super::methods::{self, Asked, Outcome, Teller};
use super::wire::{self, Incoming, Members, RpcError};
use super::{LEGACY_VERSIONS, MODERN_VERSION, Shared, listening, tools};

/// The version that a request is in.
pub(super) const META_VERSION: &str = "io.modelcontextprotocol/protocolVersion";

/// What its client can do.
const META_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// The logs that its client wants.
const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";

/// How long lists stay fresh, if no change is told.
const LIST_TTL_MS: u64 = 60_000;

/// How long contents do.
const CONTENTS_TTL_MS: u64 = 1_000;

/// A tool that answers on a stream, even if it has one thing to say.
const STREAMING: &str = "test_streaming_elicitation";

/// Takes a message.
pub(super) async fn post(shared: &Arc<Shared>, headers: &HeaderMap, message: Incoming) -> Response {
    match message {
        Incoming::Request { id, method, params } => request(shared, headers, id, method, params).await,
        Incoming::Notification { .. } => wire::status(StatusCode::ACCEPTED),
        Incoming::Response { .. } => {
            let error = RpcError::new(-32600, "this era has no requests to clients");
            wire::refusal(StatusCode::BAD_REQUEST, None, &error)
        }
    }
}

async fn request(shared: &Arc<Shared>, headers: &HeaderMap, id: Value, method: String, params: Members) -> Response {
    let refused = |error: &RpcError| wire::refusal(StatusCode::BAD_REQUEST, Some(&id), error);
    if let Err(error) = check(headers, &method, &params) {
        return refused(&error);
    }
    match method.as_str() {
        "server/discover" => wire::json_answer(StatusCode::OK, &wire::result(&id, &discovered())),
        "subscriptions/listen" => match listening::Filter::of(&params) {
            Ok(filter) => listening::listen(shared, id, filter),
            Err(error) => refused(&error),
        },
        method if !methods::is_shared(method) => {
            wire::refusal(StatusCode::NOT_FOUND, Some(&id), &RpcError::method_not_found(method))
        }
        "tools/call" => {
            let name = params.get("name").and_then(Value::as_str).unwrap_or_default();
            let none = Members::new();
            let arguments = params.get("arguments").and_then(Value::as_object).unwrap_or(&none);
            let schema = tools::schema(&shared.toggles, name).unwrap_or_default();
            match headers::check_params(headers, &schema, arguments) {
                Ok(()) => run(shared, id, method, params).await,
                Err(error) => refused(&error),
            }
        }
        _ => run(shared, id, method, params).await,
    }
}

/// Checks what every request must say, twice.
fn check(headers: &HeaderMap, method: &str, params: &Members) -> Result<(), RpcError> {
    let header = headers::text(headers, headers::VERSION);
    let meta = params.get("_meta").unwrap_or(&Value::Null);
    if method == "initialize" && meta.get(META_VERSION).is_none() {
        // A client of the other era: it is told which one this is.
        return Err(unsupported(params.get("protocolVersion").and_then(Value::as_str).unwrap_or(LEGACY_VERSIONS[0])));
    }
    let header = header.ok_or_else(|| mismatch("MCP-Protocol-Version is missing"))?;
    let version = meta[META_VERSION].as_str();
    let version = version.ok_or_else(|| RpcError::invalid_params(format!("_meta lacks {META_VERSION}")))?;
    if !meta[META_CAPABILITIES].is_object() {
        return Err(RpcError::invalid_params(format!("_meta lacks {META_CAPABILITIES}")));
    }
    if header != version {
        return Err(mismatch("MCP-Protocol-Version is not the version of the body"));
    }
    if version != MODERN_VERSION {
        return Err(unsupported(version));
    }
    headers::check_names(headers, method, params)
}

fn unsupported(requested: &str) -> RpcError {
    let data = json!({ "supported": [MODERN_VERSION], "requested": requested });
    RpcError::new(-32022, "this version of the protocol is not spoken here").with_data(data)
}

fn discovered() -> Value {
    let result = json!({
        "supportedVersions": [MODERN_VERSION],
        "capabilities": methods::capabilities(),
        "instructions": "A fixture: everything here is made up.",
    });
    completed("server/discover", result)
}

/// Serves a request that both eras have: as JSON, unless there is something to say before the answer.
async fn run(shared: &Arc<Shared>, id: Value, method: String, params: Members) -> Response {
    let streaming = params.get("name").and_then(Value::as_str) == Some(STREAMING);
    let (send, told) = unbounded_channel();
    let meta = params.get("_meta").cloned().unwrap_or_default();
    let teller = Teller {
        send: Box::new(move |message| {
            // The client is gone: there is nobody to tell.
            let _ = send.send(message);
        }),
        progress_token: meta.get("progressToken").cloned(),
        log_level: meta[META_LOG_LEVEL].as_str().map(str::to_owned),
        hang_up: None,
    };
    let serving = Box::pin({
        let (shared, id) = (shared.clone(), id.clone());
        async move {
            let capabilities = &meta[META_CAPABILITIES];
            let asked = Asked { shared: &shared, params: &params, capabilities, teller: &teller };
            let outcome = methods::answer(&method, &asked).await;
            match outcome.and_then(|outcome| worded(&method, outcome, capabilities)) {
                Ok(result) => wire::result(&id, &result),
                Err(error) => error.response(Some(&id)),
            }
        }
    });
    let mut exchange = Exchange { said: VecDeque::new(), told, serving: Some(serving) };
    let Some(first) = exchange.next().await else { return wire::status(StatusCode::INTERNAL_SERVER_ERROR) };
    let alone = exchange.serving.is_none() && exchange.said.is_empty();
    match first["error"]["code"].as_i64() {
        Some(-32021) if alone => wire::json_answer(StatusCode::BAD_REQUEST, &first),
        code if alone && !(streaming && code.is_none()) => wire::json_answer(StatusCode::OK, &first),
        _ => {
            exchange.said.push_front(first);
            wire::event_stream(stream::unfold(exchange, async |mut exchange| {
                let message = exchange.next().await?;
                Some((Ok::<_, Infallible>(Bytes::from(wire::event(&message))), exchange))
            }))
        }
    }
}

/// A request that is being served. Dropped with its connection, which is how a client of this era cancels.
struct Exchange {
    said: VecDeque<Value>,
    told: UnboundedReceiver<Value>,
    serving: Option<BoxFuture<'static, Value>>,
}

impl Exchange {
    /// What is to be sent next: everything that is told, in order, and the answer at the end.
    async fn next(&mut self) -> Option<Value> {
        if self.said.is_empty() {
            let serving = self.serving.as_mut()?;
            tokio::select! {
                biased;
                Some(message) = self.told.recv() => self.said.push_back(message),
                answer = serving => {
                    self.serving = None;
                    while let Ok(message) = self.told.try_recv() {
                        self.said.push_back(message);
                    }
                    self.said.push_back(answer);
                }
            }
        }
        self.said.pop_front()
    }
}

/// An outcome in the words of this era.
fn worded(method: &str, outcome: Outcome, capabilities: &Value) -> Result<Value, RpcError> {
    let (requests, state) = match outcome {
        Outcome::Complete(result) => return Ok(completed(method, result)),
        Outcome::NeedsInput { requests, state } => (requests, state),
    };
    let missing = methods::missing_capabilities(&requests, capabilities);
    if !missing.is_empty() {
        let error = RpcError::new(-32021, "the client lacks what this needs");
        return Err(error.with_data(json!({ "requiredCapabilities": missing })));
    }
    let mut result = json!({ "resultType": "input_required", "inputRequests": requests });
    if let Some(state) = state {
        result["requestState"] = state.into();
    }
    Ok(signed(result))
}

fn completed(method: &str, mut result: Value) -> Value {
    result["resultType"] = "complete".into();
    let (ttl, scope) = match method {
        "server/discover" | "tools/list" | "prompts/list" | "resources/list" | "resources/templates/list" => {
            (LIST_TTL_MS, "public")
        }
        "resources/read" => (CONTENTS_TTL_MS, "private"),
        _ => return signed(result),
    };
    result["ttlMs"] = ttl.into();
    result["cacheScope"] = scope.into();
    signed(result)
}

/// The same with the server's name on it.
pub(super) fn signed(mut result: Value) -> Value {
    result["_meta"]["io.modelcontextprotocol/serverInfo"] = methods::server_info();
    result
}
