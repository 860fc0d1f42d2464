//! The client against the demo server, and against servers that answer by script.

mod eras;
mod faults;
mod hostile;
mod listening;
mod probing;
mod progress;
mod questions;
mod resumption;
mod sessions;
mod verdicts;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::value::RawValue;
use url::Url;

use crate::demo::mcp_server::{McpServer, ServerOptions};
use crate::edge::http::{Body, Http, HttpError, Request, Response};
use crate::edge::redirect::RedirectFault;
use crate::edge::virtual_network::{Host, VirtualNetwork};
use crate::mcp::{Declared, Era, Message, Nobody, Outcome, RawObject, Session, Upstream};
use crate::model::ListKind;

/// A demo server on a virtual network.
struct Rig {
    server: Arc<McpServer>,
    network: Arc<VirtualNetwork>,
    upstream: Upstream,
}

fn endpoint() -> Url {
    Url::parse("https://server.example/mcp?tenant=1").unwrap()
}

fn rig(options: ServerOptions) -> Rig {
    let server = McpServer::new(options);
    let network = Arc::new(VirtualNetwork::new());
    network.set(&endpoint(), Host::Serve(server.router()));
    let upstream = Upstream::new(network.clone(), endpoint(), HeaderMap::new());
    Rig { server, network, upstream }
}

/// Lets everything that runs in the background end.
async fn settle() {
    tokio::time::sleep(Duration::from_secs(60)).await;
}

fn object(text: &str) -> RawObject {
    RawObject::from_str(text).unwrap()
}

fn raw(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn result(outcome: Outcome) -> RawObject {
    match outcome {
        Outcome::Result(result) => RawObject::parse(&result).unwrap(),
        Outcome::Error(error) => panic!("{error}"),
    }
}

fn error_code(outcome: Outcome) -> String {
    match outcome {
        Outcome::Result(result) => panic!("{result}"),
        Outcome::Error(error) => RawObject::parse(&error).unwrap().get("code").unwrap().get().to_owned(),
    }
}

type Script = Box<dyn Fn(&Request) -> Result<Response, HttpError> + Send + Sync>;

/// A network whose every answer is written down in advance; it keeps what it was asked.
struct Scripted {
    script: Script,
    asked: Mutex<Vec<Request>>,
}

impl Scripted {
    fn new(script: impl Fn(&Request) -> Result<Response, HttpError> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self { script: Box::new(script), asked: Mutex::new(Vec::new()) })
    }

    fn upstream(self: &Arc<Self>) -> Upstream {
        Upstream::new(self.clone(), endpoint(), HeaderMap::new())
    }

    fn asked(&self) -> Vec<Request> {
        self.asked.lock().unwrap().clone()
    }
}

impl Http for Scripted {
    fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
        let answer = (self.script)(&request);
        self.asked.lock().unwrap().push(request);
        Box::pin(async move { answer })
    }
}

/// A session with a server of an era that shakes hands as it should and answers everything else by `script`.
async fn session(era: Era, script: impl Fn(&Request) -> Response + Send + Sync + 'static) -> (Session, Arc<Scripted>) {
    let network = Scripted::new(move |request| match Message::parse(&request.body) {
        Ok(Message::Request { id, method, .. }) if method == "initialize" => {
            let mut opened = json(response_of(id.as_json(), r#"{"protocolVersion":"2025-11-25"}"#));
            opened.headers.insert("mcp-session-id", HeaderValue::from_static("s"));
            Ok(opened)
        }
        Ok(Message::Notification { .. } | Message::Response { .. }) => Ok(answer(202, "text/plain", vec![])),
        _ if request.method == Method::DELETE => Ok(answer(200, "text/plain", vec![])),
        _ => Ok(script(request)),
    });
    (network.upstream().open(Some(era), &Declared::default()).await.unwrap(), network)
}

fn response_of(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

/// The id of a posted request, as JSON.
fn id_of(request: &Request) -> String {
    match Message::parse(&request.body) {
        Ok(Message::Request { id, .. }) => id.as_json().to_owned(),
        other => panic!("{other:?}"),
    }
}

/// An answer with a content type and a body that comes in pieces.
fn answer(status: u16, content_type: &'static str, pieces: Vec<Bytes>) -> Response {
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    let body = Body::new(stream::iter(pieces.into_iter().map(Ok)));
    Response { status: StatusCode::from_u16(status).unwrap(), headers, body, proxy: None }
}

fn json(text: String) -> Response {
    answer(200, "application/json; charset=utf-8", vec![text.into()])
}

fn events(text: String) -> Response {
    answer(200, "text/event-stream", vec![text.into()])
}
