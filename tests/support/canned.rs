//! A modern server that answers a call with exactly the bytes that it was told, or dies while it answers.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use cortex_mcp::mcp::Message;
use futures_util::StreamExt;

/// What it answers to calls.
#[derive(Clone)]
pub(crate) enum CallAnswer {
    /// A result.
    Result(String),
    /// An error object.
    Error(String),
    /// Half a result, and then the connection breaks.
    Dies,
}

/// The server. It has one tool.
pub(crate) struct Canned {
    tool: String,
    answer: Mutex<CallAnswer>,
    calls: Mutex<Vec<String>>,
}

impl Canned {
    /// A server with this tool, whose name is `tool`.
    pub(crate) fn new(tool: &str) -> Arc<Self> {
        let answer = Mutex::new(CallAnswer::Result(r#"{"content":[]}"#.to_owned()));
        Arc::new(Self { tool: tool.to_owned(), answer, calls: Mutex::default() })
    }

    pub(crate) fn answer(&self, answer: CallAnswer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// The params of every call so far, as they came.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().unwrap().clone()
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }
}

async fn serve(State(server): State<Arc<Canned>>, body: Bytes) -> Response {
    let json = |status: u16, body: String| {
        Response::builder().status(status).header("content-type", "application/json").body(Body::from(body)).unwrap()
    };
    let Ok(Message::Request { id, method, params }) = Message::parse(&body) else { return json(202, String::new()) };
    let id = id.as_json().to_owned();
    let result = |result: &str| json(200, format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#));
    match method.as_str() {
        "server/discover" => {
            result(r#"{"resultType":"complete","supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#)
        }
        "tools/list" => result(&format!(
            r#"{{"resultType":"complete","tools":[{}],"ttlMs":300000,"cacheScope":"private"}}"#,
            server.tool
        )),
        "tools/call" => {
            server.calls.lock().unwrap().push(params.map(|params| params.get().to_owned()).unwrap_or_default());
            match server.answer.lock().unwrap().clone() {
                CallAnswer::Result(text) => result(&text),
                CallAnswer::Error(text) => json(200, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{text}}}"#)),
                CallAnswer::Dies => {
                    let half = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from_static(b"{\"jsonrpc\""))]);
                    let end = futures_util::stream::iter([Err(std::io::Error::other("reset"))]);
                    let body = half.map(|piece| piece.map_err(std::io::Error::other)).chain(end);
                    let builder = Response::builder().header("content-type", "application/json");
                    builder.body(Body::from_stream(body)).unwrap()
                }
            }
        }
        _ => {
            json(404, format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no such method"}}}}"#))
        }
    }
}
