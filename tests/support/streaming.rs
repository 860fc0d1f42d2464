//! A response of the gateway that is read as it comes: event by event, or broken off.

use std::collections::VecDeque;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, BodyDataStream};
use cortex_mcp::mcp::sse::SseParser;
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use serde_json::Value;
use tower::ServiceExt;

/// How long, in the clock's time, a message may take that must come.
const PATIENCE: Duration = Duration::from_secs(100);

/// Sends anything to `/mcp`, with the headers that a client of both forms sends, and `headers` over those.
pub(crate) async fn send(router: &Router, method: Method, headers: &[(&str, &str)], body: &str) -> Response<Body> {
    let mut map = HeaderMap::new();
    let usual = [
        ("host", "127.0.0.1:8420"),
        ("content-type", "application/json"),
        ("accept", "application/json, text/event-stream"),
    ];
    for (name, value) in usual.iter().chain(headers) {
        map.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let mut request = Request::builder().method(method).uri("/mcp").body(Body::from(body.to_owned())).unwrap();
    *request.headers_mut() = map;
    router.clone().oneshot(request).await.unwrap()
}

/// An event stream. Dropping it hangs up.
pub(crate) struct Stream {
    pub(crate) headers: HeaderMap,
    body: BodyDataStream,
    parser: SseParser,
    read: VecDeque<String>,
    /// The id of the last event that came.
    pub(crate) last_event: Option<String>,
    /// When the client is to come back.
    pub(crate) retry: Option<Duration>,
}

impl Stream {
    /// Reads a response that must be an event stream.
    #[track_caller]
    pub(crate) fn of(response: Response<Body>) -> Self {
        let (parts, body) = response.into_parts();
        assert_eq!(
            (parts.status.as_u16(), parts.headers["content-type"].to_str().unwrap()),
            (200, "text/event-stream")
        );
        let (parser, read) = (SseParser::new(32 << 20), VecDeque::new());
        Self { headers: parts.headers, body: body.into_data_stream(), parser, read, last_event: None, retry: None }
    }

    /// The next message as it came; none at the end of the stream.
    pub(crate) async fn next_text(&mut self) -> Option<String> {
        loop {
            if let Some(message) = self.read.pop_front() {
                return Some(message);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.body.next()).await.expect("nothing comes");
            for event in self.parser.push(&chunk?.ok()?).unwrap() {
                self.last_event = event.id.or(self.last_event.take());
                self.retry = event.retry.or(self.retry);
                // An event without a message only names a place.
                if !event.data.is_empty() {
                    self.read.push_back(String::from_utf8(event.data).unwrap());
                }
            }
        }
    }

    /// The next message.
    pub(crate) async fn next(&mut self) -> Option<Value> {
        Some(serde_json::from_str(&self.next_text().await?).unwrap())
    }

    /// Every message from here to the end.
    pub(crate) async fn rest(mut self) -> Vec<Value> {
        let mut messages = Vec::new();
        while let Some(message) = self.next().await {
            messages.push(message);
        }
        messages
    }

    /// How many messages come within so long.
    pub(crate) async fn within(&mut self, limit: Duration) -> Vec<Value> {
        let mut messages = Vec::new();
        let deadline = tokio::time::Instant::now() + limit;
        while let Ok(Some(message)) = tokio::time::timeout_at(deadline, self.next()).await {
            messages.push(message);
        }
        messages
    }
}
