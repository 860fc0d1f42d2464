//! Messages and HTTP answers of the fixture. Forms only: what is answered is decided by the eras.

use std::convert::Infallible;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::Stream;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, StatusCode};
use serde_json::{Map, Value, json};

/// The type of event streams.
pub(super) const EVENT_STREAM: &str = "text/event-stream";

/// The type of everything else.
pub(super) const JSON: &str = "application/json";

/// The members of an object.
pub(super) type Members = Map<String, Value>;

/// A JSON-RPC error.
#[derive(Clone, Debug)]
pub(super) struct RpcError {
    pub(super) code: i64,
    message: String,
    data: Option<Value>,
}

impl RpcError {
    pub(super) fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    pub(super) fn with_data(mut self, data: Value) -> Self {
        self.data = Some(data);
        self
    }

    /// The same under another code.
    pub(super) fn under(self, code: i64) -> Self {
        Self { code, ..self }
    }

    pub(super) fn invalid_params(message: impl Into<String>) -> Self {
        Self::new(-32602, message)
    }

    pub(super) fn method_not_found(method: &str) -> Self {
        Self::new(-32601, format!("no such method: {method}"))
    }

    /// The message that carries it.
    pub(super) fn response(&self, id: Option<&Value>) -> Value {
        let mut error = json!({ "code": self.code, "message": self.message });
        if let Some(data) = &self.data {
            error["data"] = data.clone();
        }
        let mut message = json!({ "jsonrpc": "2.0" });
        if let Some(id) = id {
            message["id"] = id.clone();
        }
        message["error"] = error;
        message
    }
}

/// A message from the client.
#[derive(Debug)]
pub(super) enum Incoming {
    /// It wants an answer.
    Request { id: Value, method: String, params: Members },
    /// It wants none.
    Notification { method: String, params: Members },
    /// It is one: a result, or an error object.
    Response { id: Value, answer: Result<Value, Value> },
}

impl Incoming {
    /// Reads one message. Batches are none.
    pub(super) fn parse(body: &[u8]) -> Result<Self, RpcError> {
        let value: Value =
            serde_json::from_slice(body).map_err(|error| RpcError::new(-32700, format!("no JSON: {error}")))?;
        let invalid = |why: &str| RpcError::new(-32600, format!("no message of JSON-RPC 2.0: {why}"));
        let Value::Object(mut message) = value else { return Err(invalid("not an object")) };
        if message.get("jsonrpc") != Some(&json!("2.0")) {
            return Err(invalid("jsonrpc"));
        }
        let id = message.remove("id");
        if let Some(method) = message.remove("method") {
            let Value::String(method) = method else { return Err(invalid("method")) };
            let params = match message.remove("params") {
                None => Members::new(),
                Some(Value::Object(params)) => params,
                Some(_) => return Err(invalid("params")),
            };
            return match id {
                None => Ok(Self::Notification { method, params }),
                Some(id @ (Value::String(_) | Value::Number(_))) => Ok(Self::Request { id, method, params }),
                Some(_) => Err(invalid("id")),
            };
        }
        let id = id.ok_or_else(|| invalid("neither method nor id"))?;
        match (message.remove("result"), message.remove("error")) {
            (Some(result), None) => Ok(Self::Response { id, answer: Ok(result) }),
            (None, Some(error)) => Ok(Self::Response { id, answer: Err(error) }),
            _ => Err(invalid("neither method, result nor error")),
        }
    }
}

/// The message that carries a result.
pub(super) fn result(id: &Value, result: &Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "result": result })
}

/// A message that wants no answer.
pub(super) fn notification(method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "method": method, "params": params })
}

/// A message that wants an answer.
pub(super) fn request(id: &str, method: &str, params: Value) -> Value {
    json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params })
}

/// An event without an id.
pub(super) fn event(message: &Value) -> String {
    format!("event: message\ndata: {message}\n\n")
}

/// An event that a client can resume after.
pub(super) fn event_with_id(id: &str, message: &Value) -> String {
    format!("event: message\nid: {id}\ndata: {message}\n\n")
}

/// The event that makes a stream resumable before anything was said: an id, how long to wait, and no data.
pub(super) fn priming_event(id: &str, retry_ms: u64) -> String {
    format!("id: {id}\nretry: {retry_ms}\ndata: \n\n")
}

/// A message as JSON.
pub(super) fn json_answer(status: StatusCode, message: &Value) -> Response {
    respond(status, JSON, Body::from(message.to_string()))
}

/// An event stream.
pub(super) fn event_stream(events: impl Stream<Item = Result<Bytes, Infallible>> + Send + 'static) -> Response {
    let mut response = respond(StatusCode::OK, EVENT_STREAM, Body::from_stream(events));
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-cache"));
    headers.insert(HeaderName::from_static("x-accel-buffering"), http::HeaderValue::from_static("no"));
    response
}

/// An error under an HTTP status.
pub(super) fn refusal(status: StatusCode, id: Option<&Value>, error: &RpcError) -> Response {
    json_answer(status, &error.response(id))
}

/// Nothing but a status.
pub(super) fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// For HTTP methods that the endpoint does not have.
pub(super) fn method_not_allowed(allowed: &'static str) -> Response {
    let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, http::HeaderValue::from_static(allowed));
    response
}

fn respond(status: StatusCode, kind: &'static str, body: Body) -> Response {
    Response::builder().status(status).header(CONTENT_TYPE, kind).body(body).expect("a status and a type")
}
