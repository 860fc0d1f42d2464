//! HTTP answers of the server: JSON, event streams, bare statuses.
//!
//! Forms only; what is answered is decided by the eras.

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::value::RawValue;

use super::AnswerStyle;
use crate::mcp::RequestId;
use crate::mcp::envelope;
use crate::mcp::protocol::{EVENT_STREAM_TYPE, JSON_TYPE};

/// An answer, and whether a client holds a whole list after it.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) response: Response,
    pub(super) completes_a_list: bool,
}

impl Reply {
    pub(super) fn new(response: Response) -> Self {
        Self { response, completes_a_list: false }
    }

    /// Adds a header.
    pub(super) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.response.headers_mut().insert(name, value);
        self
    }
}

impl From<Response> for Reply {
    fn from(response: Response) -> Self {
        Self::new(response)
    }
}

/// A result, in the server's form. `before` are messages that go ahead of it on an event stream.
pub(super) fn result(style: AnswerStyle, id: &RequestId, result: &RawValue, before: &[Bytes]) -> Reply {
    message(style, envelope::response_bytes(id, result), before)
}

/// A JSON-RPC error that is no HTTP error, in the server's form.
pub(super) fn rpc_error(style: AnswerStyle, id: &RequestId, code: i64, text: &str) -> Reply {
    message(style, envelope::error_bytes(Some(id), code, text, None), &[])
}

/// A JSON-RPC error under an HTTP error status.
pub(super) fn error(
    status: StatusCode,
    id: Option<&RequestId>,
    code: i64,
    text: &str,
    data: Option<&RawValue>,
) -> Reply {
    Reply::new(respond(status, JSON_TYPE, envelope::error_bytes(id, code, text, data).into()))
}

/// Nothing but a status.
pub(super) fn status(status: StatusCode) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    response
}

/// For methods that the endpoint does not have.
pub(super) fn method_not_allowed() -> Response {
    let mut response = status(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("POST, DELETE"));
    response
}

fn message(style: AnswerStyle, message: Bytes, before: &[Bytes]) -> Reply {
    Reply::new(match style {
        AnswerStyle::Json => respond(StatusCode::OK, JSON_TYPE, message.into()),
        AnswerStyle::Sse => {
            // The first event only opens the stream, as servers of 2025-11-25 do.
            let opening = Bytes::from_static(b": open\n\nid: 0\ndata:\n\n");
            let events = before.iter().chain([&message]).map(event);
            let pieces: Vec<_> = std::iter::once(opening).chain(events).map(Ok::<_, std::io::Error>).collect();
            let body = Body::from_stream(stream::iter(pieces));
            let mut response = respond(StatusCode::OK, EVENT_STREAM_TYPE, body);
            response.headers_mut().insert("x-accel-buffering", HeaderValue::from_static("no"));
            response
        }
    })
}

fn event(message: &Bytes) -> Bytes {
    let mut text = b"event: message\n".to_vec();
    for line in message.split(|byte| *byte == b'\n') {
        text.extend_from_slice(b"data: ");
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text.push(b'\n');
    text.into()
}

fn respond(status: StatusCode, content_type: &'static str, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
