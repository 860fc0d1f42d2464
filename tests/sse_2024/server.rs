//! A server of HTTP+SSE, 2024-11-05, as it was before Streamable HTTP: a stream, and a place to post to.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::response::Response;
use axum::routing::{get, post};
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// What a message is answered with on its stream; none: nothing yet.
type React = Box<dyn Fn(&Value) -> Vec<String> + Send + Sync>;

/// The server.
pub(crate) struct OldServer {
    state: Mutex<Streams>,
    numbers: AtomicU64,
    react: React,
    /// What the first event of a stream says, with `{n}` for its number.
    endpoint: String,
    post_status: Mutex<StatusCode>,
}

#[derive(Default)]
struct Streams {
    open: HashMap<u64, mpsc::UnboundedSender<Result<Bytes, Infallible>>>,
    posts: Vec<Value>,
    keys: Vec<Option<String>>,
    gets: usize,
    wrong_posts: usize,
}

impl OldServer {
    /// A server with one tool; `react` answers what is called.
    pub(crate) fn new(endpoint: &str, react: impl Fn(&Value) -> Vec<String> + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            numbers: AtomicU64::new(1),
            react: Box::new(react),
            endpoint: endpoint.to_owned(),
            post_status: Mutex::new(StatusCode::ACCEPTED),
        })
    }

    /// At `/sse` and `/messages`. A post to `/sse` is no method of it.
    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/sse", get(open).post(wrong)).route("/messages", post(message)).with_state(self.clone())
    }

    /// Every post is answered with this status from now on.
    pub(crate) fn answer_posts_with(&self, status: StatusCode) {
        *self.post_status.lock().unwrap() = status;
    }

    /// Says something on every open stream.
    pub(crate) fn say(&self, message: &str) {
        let streams = self.state.lock().unwrap();
        for stream in streams.open.values() {
            drop(stream.send(Ok(event(message))));
        }
    }

    /// Ends every open stream.
    pub(crate) fn hang_up(&self) {
        self.state.lock().unwrap().open.clear();
    }

    /// Streams that somebody still reads.
    pub(crate) fn open_streams(&self) -> usize {
        self.state.lock().unwrap().open.values().filter(|stream| !stream.is_closed()).count()
    }

    /// Streams that were asked for.
    pub(crate) fn gets(&self) -> usize {
        self.state.lock().unwrap().gets
    }

    /// Posts to where nothing is to be posted.
    pub(crate) fn wrong_posts(&self) -> usize {
        self.state.lock().unwrap().wrong_posts
    }

    /// What was posted, with its method or as an answer.
    pub(crate) fn posts(&self) -> Vec<Value> {
        self.state.lock().unwrap().posts.clone()
    }

    /// The keys that posts and streams were asked for with.
    pub(crate) fn keys(&self) -> Vec<Option<String>> {
        self.state.lock().unwrap().keys.clone()
    }
}

async fn open(State(server): State<Arc<OldServer>>, headers: HeaderMap) -> Response {
    let number = server.numbers.fetch_add(1, Ordering::SeqCst);
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let endpoint = server.endpoint.replace("{n}", &number.to_string());
    drop(sender.send(Ok(Bytes::from(format!(": welcome\r\n\r\nevent: endpoint\r\ndata: {endpoint}\r\n\r\n")))));
    {
        let mut streams = server.state.lock().unwrap();
        streams.gets += 1;
        streams.keys.push(key(&headers));
        streams.open.insert(number, sender);
    }
    let pieces = futures_util::stream::poll_fn(move |context| receiver.poll_recv(context));
    Response::builder()
        .header(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")
        .body(Body::from_stream(pieces))
        .unwrap()
}

async fn wrong(State(server): State<Arc<OldServer>>) -> StatusCode {
    server.state.lock().unwrap().wrong_posts += 1;
    StatusCode::METHOD_NOT_ALLOWED
}

async fn message(
    State(server): State<Arc<OldServer>>,
    Query(query): Query<HashMap<String, u64>>,
    headers: HeaderMap,
    body: Bytes,
) -> StatusCode {
    let message: Value = serde_json::from_slice(&body).unwrap();
    let status = *server.post_status.lock().unwrap();
    let stream = {
        let mut streams = server.state.lock().unwrap();
        streams.posts.push(message.clone());
        streams.keys.push(key(&headers));
        streams.open.get(&query["session_id"]).cloned()
    };
    let Some(stream) = stream.filter(|_| status.is_success()) else {
        return if status.is_success() { StatusCode::NOT_FOUND } else { status };
    };
    let replies = match message["method"].as_str() {
        Some("initialize") => vec![result(
            &message,
            json!({ "protocolVersion": "2024-11-05", "capabilities": { "tools": { "listChanged": true } },
                "serverInfo": { "name": "old", "version": "1" } }),
        )],
        Some("tools/list") => {
            vec![result(&message, json!({ "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] }))]
        }
        _ => (server.react)(&message),
    };
    for reply in replies {
        drop(stream.send(Ok(event(&reply))));
    }
    status
}

fn key(headers: &HeaderMap) -> Option<String> {
    headers.get("x-key").map(|value| value.to_str().unwrap().to_owned())
}

/// A result for a request.
pub(crate) fn result(request: &Value, result: Value) -> String {
    json!({ "jsonrpc": "2.0", "id": request["id"], "result": result }).to_string()
}

fn event(data: &str) -> Bytes {
    Bytes::from(format!("event: message\ndata: {data}\n\n"))
}
