//! The legacy era: a session is opened, messages are sent in it, and the server may ask things of its own.
//!
//! Calls are answered on event streams that can be resumed; everything else is answered as JSON. Outside a session
//! nothing but its opening must ever be served.

use std::sync::Arc;

use axum::response::Response;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::content;
use super::headers;
use super::methods::{self, Asked, Outcome, Teller};
use super::session::{STANDALONE, Session};
use super::streams::{self, EventStream};
use super::wire::{self, EVENT_STREAM, Incoming, Members, RpcError};
use super::{LEGACY_VERSIONS, Shared};

/// What a missing resource is in this era.
const RESOURCE_NOT_FOUND: i64 = -32002;

/// The most rounds that a call may go.
const ROUNDS: usize = 8;

/// Takes a message.
pub(super) async fn post(shared: &Arc<Shared>, headers: &HeaderMap, message: Incoming) -> Response {
    if let Incoming::Request { id, method, params } = &message
        && method == "initialize"
    {
        return initialize(shared, id, params);
    }
    let session = match session_of(shared, headers) {
        Ok(session) => session,
        Err(refusal) => return refusal.response(),
    };
    match message {
        Incoming::Request { id, method, params } => request(shared, &session, id, method, params).await,
        Incoming::Notification { method, params } => {
            if let ("notifications/cancelled", Some(request)) = (method.as_str(), params.get("requestId")) {
                session.cancel(request);
            }
            wire::status(StatusCode::ACCEPTED)
        }
        Incoming::Response { id, answer } => {
            // An answer that nobody waits for (any more) is as good as any.
            session.answered(&id, answer);
            wire::status(StatusCode::ACCEPTED)
        }
    }
}

/// Opens the stream of a session that is about no one request, or goes on with one that was closed.
pub(super) fn open_stream(shared: &Shared, headers: &HeaderMap) -> Response {
    if !headers::accepts(headers, EVENT_STREAM) {
        return wire::status(StatusCode::NOT_ACCEPTABLE);
    }
    let session = match session_of(shared, headers) {
        Ok(session) => session,
        Err(refusal) => return refusal.response(),
    };
    let (stream, after) = match headers::text(headers, "last-event-id") {
        None => (session.stream(STANDALONE), None),
        Some(id) => match streams::event_of(id) {
            Some((stream, position)) => (session.stream(stream), Some(position)),
            None => (None, None),
        },
    };
    match stream {
        Some(stream) => stream.response(after),
        None => Refusal(StatusCode::BAD_REQUEST, -32000, "there is no such event to go on after").response(),
    }
}

/// Ends a session.
pub(super) fn end_session(shared: &Shared, headers: &HeaderMap) -> Response {
    match session_of(shared, headers) {
        Ok(session) => {
            shared.sessions.end(&session.id);
            wire::status(StatusCode::OK)
        }
        Err(refusal) => refusal.response(),
    }
}

/// The session that a request is in; otherwise what is answered instead.
fn session_of(shared: &Shared, headers: &HeaderMap) -> Result<Arc<Session>, Refusal> {
    if let Some(version) = headers::text(headers, headers::VERSION)
        && !LEGACY_VERSIONS.contains(&version)
    {
        return Err(Refusal(StatusCode::BAD_REQUEST, -32000, "this version of the protocol is not spoken here"));
    }
    let Some(id) = headers::text(headers, headers::SESSION) else {
        return Err(Refusal(StatusCode::BAD_REQUEST, -32000, "Mcp-Session-Id is missing"));
    };
    shared.sessions.get(id).ok_or(Refusal(StatusCode::NOT_FOUND, -32001, "there is no such session"))
}

/// A refusal before anything is looked at: its status, its code, and why.
struct Refusal(StatusCode, i64, &'static str);

impl Refusal {
    fn response(&self) -> Response {
        wire::refusal(self.0, None, &RpcError::new(self.1, self.2))
    }
}

fn initialize(shared: &Shared, id: &Value, params: &Members) -> Response {
    let Some(requested) = params.get("protocolVersion").and_then(Value::as_str) else {
        let error = RpcError::invalid_params("params.protocolVersion must be a string");
        return wire::json_answer(StatusCode::OK, &error.response(Some(id)));
    };
    let version = LEGACY_VERSIONS.into_iter().find(|version| *version == requested).unwrap_or(LEGACY_VERSIONS[0]);
    let capabilities = params.get("capabilities").cloned().unwrap_or_default();
    let session = shared.sessions.open(version.to_owned(), capabilities);
    let result = json!({
        "protocolVersion": version,
        "capabilities": methods::capabilities(),
        "serverInfo": methods::server_info(),
        "instructions": "A fixture: everything here is made up.",
    });
    let mut response = wire::json_answer(StatusCode::OK, &wire::result(id, &result));
    let value = HeaderValue::from_str(&session.id).expect("ids are visible ASCII");
    response.headers_mut().insert(HeaderName::from_static(headers::SESSION), value);
    response
}

async fn request(shared: &Arc<Shared>, session: &Arc<Session>, id: Value, method: String, params: Members) -> Response {
    if matches!(method.as_str(), "tools/call" | "prompts/get") {
        return run(shared, session, id, method, params);
    }
    let answer = match method.as_str() {
        "ping" => Ok(json!({})),
        "logging/setLevel" => match params.get("level").and_then(Value::as_str) {
            Some(level) if methods::LEVELS.contains(&level) => {
                session.set_log_level(level);
                Ok(json!({}))
            }
            _ => Err(RpcError::invalid_params("params.level is no level")),
        },
        "resources/subscribe" | "resources/unsubscribe" => match params.get("uri").and_then(Value::as_str) {
            Some(uri) if method == "resources/subscribe" => {
                session.subscribe(uri);
                Ok(json!({}))
            }
            Some(uri) => {
                session.unsubscribe(uri);
                Ok(json!({}))
            }
            None => Err(RpcError::invalid_params("params.uri must be a string")),
        },
        _ => {
            let teller = teller(session, &params, None);
            let asked = Asked { shared, params: &params, capabilities: &session.capabilities, teller: &teller };
            match methods::answer(&method, &asked).await {
                Ok(Outcome::Complete(result)) => Ok(result),
                Ok(Outcome::NeedsInput { .. }) => Err(RpcError::new(-32603, "only calls and prompts ask")),
                Err(error) if method == "resources/read" && error.code == -32602 => {
                    Err(error.under(RESOURCE_NOT_FOUND))
                }
                Err(error) => Err(error),
            }
        }
    };
    let message = match answer {
        Ok(result) => wire::result(&id, &result),
        Err(error) => error.response(Some(&id)),
    };
    wire::json_answer(StatusCode::OK, &message)
}

/// Serves a request on a stream of its own, to its end even if nobody reads the stream meanwhile.
fn run(shared: &Arc<Shared>, session: &Arc<Session>, id: Value, method: String, params: Members) -> Response {
    let stream = session.open_stream();
    // Older clients take an event without data for a broken message.
    if session.version == LEGACY_VERSIONS[0] {
        stream.prime();
    }
    let response = stream.response(None);
    let serving = {
        let (shared, session, stream, id) = (shared.clone(), session.clone(), stream.clone(), id.clone());
        async move {
            let message = match rounds(&shared, &session, &stream, &method, params).await {
                Ok(result) => wire::result(&id, &result),
                Err(error) => error.response(Some(&id)),
            };
            stream.finish(Some(&message));
        }
    };
    session.run(&id, &stream, serving);
    response
}

/// Serves a request, round by round: what it needs from the client is asked on its stream.
async fn rounds(
    shared: &Shared,
    session: &Session,
    stream: &Arc<EventStream>,
    method: &str,
    mut params: Members,
) -> Result<Value, RpcError> {
    // Those are for another era, and no client of this one has anything to say there.
    params.remove("inputResponses");
    params.remove("requestState");
    let failed = |why: String| match method {
        "tools/call" => Ok(content::failed(&why)),
        _ => Err(RpcError::new(-32603, why)),
    };
    let teller = teller(session, &params, Some(stream));
    for _ in 0..ROUNDS {
        let asked = Asked { shared, params: &params, capabilities: &session.capabilities, teller: &teller };
        let (requests, state) = match methods::answer(method, &asked).await? {
            Outcome::Complete(result) => return Ok(result),
            Outcome::NeedsInput { requests, state } => (requests, state),
        };
        let missing = methods::missing_capabilities(&requests, &session.capabilities);
        if !missing.is_empty() {
            let names = missing.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            return failed(format!("the client lacks what this needs: {names}"));
        }
        let apart = session.stream(STANDALONE).filter(|_| shared.options.asks_apart);
        let asks_on = apart.as_ref().unwrap_or(stream);
        let mut answers = Members::new();
        for (key, mut request) in requests {
            let asked = request["method"].as_str().unwrap_or_default().to_owned();
            match session.ask(asks_on, &asked, request["params"].take()).await {
                Ok(answer) => answers.insert(key, answer),
                Err(why) => return failed(why),
            };
        }
        params.insert("inputResponses".to_owned(), answers.into());
        params.remove("requestState");
        if let Some(state) = state {
            params.insert("requestState".to_owned(), state.into());
        }
    }
    failed("it asked and asked".to_owned())
}

/// Tells on a request's stream; a request without one is told nothing.
fn teller(session: &Session, params: &Members, stream: Option<&Arc<EventStream>>) -> Teller {
    let send: Box<dyn Fn(Value) + Send + Sync> = match stream.cloned() {
        Some(stream) => Box::new(move |message| stream.push(&message)),
        None => Box::new(|_| {}),
    };
    Teller {
        send,
        progress_token: params.get("_meta").and_then(|meta| meta.get("progressToken")).cloned(),
        log_level: Some(session.log_level()),
        hang_up: stream.cloned().filter(|_| session.version == LEGACY_VERSIONS[0]).map(|stream| {
            let hang_up: Box<dyn Fn() + Send + Sync> = Box::new(move || stream.hang_up());
            hang_up
        }),
    }
}
