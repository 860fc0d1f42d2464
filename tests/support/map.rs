//! The origin of the service map: signs what it is told, answers conditionally, and can misbehave in every way.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use bytes::Bytes;
use cortex_mcp::model::{Digest, WallMs};
use cortex_mcp::service_map::signed_document;
use futures_util::StreamExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH, LOCATION};
use http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

/// Where the service map is.
pub(crate) const MAP_URL: &str = "https://map.test/v1/service-map";

/// The key that it is signed with.
pub(crate) const KEY: &str = "the signing key of the tests";

/// A connector as the map describes it.
#[derive(Clone, Debug)]
pub(crate) struct Described {
    pub(crate) id: String,
    pub(crate) endpoint: String,
    pub(crate) enabled: bool,
    pub(crate) version: String,
    /// Members beside the required ones: `auth`, `headers`, `quotas`, `timeouts`, ...
    pub(crate) more: Value,
}

impl Described {
    pub(crate) fn new(id: &str, endpoint: &str) -> Self {
        Self {
            id: id.to_owned(),
            endpoint: endpoint.to_owned(),
            enabled: true,
            version: "1.0.0".to_owned(),
            more: json!({}),
        }
    }

    /// The same with these members.
    pub(crate) fn with(mut self, more: Value) -> Self {
        self.more.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self
    }

    fn json(&self) -> Value {
        let mut value = json!({
            "id": self.id,
            "version": self.version,
            "displayName": self.id.to_uppercase(),
            "endpoint": self.endpoint,
            "auth": { "type": "none" },
            "scopes": ["test:all"],
            "ttlSeconds": 3600,
            "enabled": self.enabled,
        });
        value.as_object_mut().unwrap().extend(self.more.as_object().unwrap().clone());
        value
    }
}

/// A service map before it is signed.
#[derive(Clone, Debug)]
pub(crate) struct MapDocument {
    pub(crate) generated_at: WallMs,
    pub(crate) ttl_seconds: u64,
    pub(crate) connectors: Vec<Described>,
}

impl MapDocument {
    pub(crate) fn json(&self) -> String {
        let document = json!({
            "id": "01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB",
            "brand": "brAInwav",
            "generatedAt": self.generated_at.to_string(),
            "ttlSeconds": self.ttl_seconds,
            "connectors": self.connectors.iter().map(Described::json).collect::<Vec<_>>(),
        });
        document.to_string()
    }

    /// Signed with the key of the tests.
    pub(crate) fn signed(&self) -> String {
        self.signed_with(KEY)
    }

    pub(crate) fn signed_with(&self, key: &str) -> String {
        signed_document(&self.json(), &key.into()).unwrap()
    }
}

/// What the origin answers.
#[derive(Clone)]
pub(crate) enum MapAnswer {
    /// This document, under a tag of its own; 304 to whoever has it.
    Document(String),
    /// The same, without a tag.
    Untagged(String),
    /// 304, whatever was asked.
    NotModified,
    /// A status and a body.
    Status(u16, String),
    /// Another place.
    Redirect(String),
    /// A space a second, for ever.
    Endless,
}

/// A request that reached the origin.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) if_none_match: Option<String>,
    pub(crate) authorization: Option<String>,
    pub(crate) headers: HeaderMap,
}

/// The origin.
pub(crate) struct MapOrigin {
    inner: Mutex<Inner>,
}

struct Inner {
    answer: MapAnswer,
    asked: Vec<Asked>,
    not_modified: usize,
    latency: Duration,
}

impl MapOrigin {
    pub(crate) fn new(answer: MapAnswer) -> Arc<Self> {
        let inner = Inner { answer, asked: Vec::new(), not_modified: 0, latency: Duration::ZERO };
        Arc::new(Self { inner: Mutex::new(inner) })
    }

    /// Answers this from now on.
    pub(crate) fn answer(&self, answer: MapAnswer) {
        self.inner.lock().unwrap().answer = answer;
    }

    /// Serves this map, signed, from now on.
    pub(crate) fn serve(&self, document: &MapDocument) {
        self.answer(MapAnswer::Document(document.signed()));
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.inner.lock().unwrap().asked.clone()
    }

    pub(crate) fn requests(&self) -> usize {
        self.inner.lock().unwrap().asked.len()
    }

    /// How often it answered that nothing has changed.
    pub(crate) fn not_modified(&self) -> usize {
        self.inner.lock().unwrap().not_modified
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }
}

async fn serve(State(origin): State<Arc<MapOrigin>>, request: Request) -> Response {
    let text = |name| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (if_none_match, authorization) = (text(IF_NONE_MATCH), text(AUTHORIZATION));
    let mut inner = origin.inner.lock().unwrap();
    let asked = Asked { if_none_match: if_none_match.clone(), authorization, headers: request.headers().clone() };
    inner.asked.push(asked);
    let builder = Response::builder().header(CONTENT_TYPE, "application/json");
    match inner.answer.clone() {
        MapAnswer::Document(document) => {
            let tag = format!("\"{}\"", Digest::of(document.as_bytes()).short(16));
            if if_none_match.as_deref() == Some(tag.as_str()) {
                inner.not_modified += 1;
                return builder.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap();
            }
            builder.header(ETAG, tag).body(document.into()).unwrap()
        }
        MapAnswer::Untagged(document) => builder.body(document.into()).unwrap(),
        MapAnswer::NotModified => {
            inner.not_modified += 1;
            builder.status(StatusCode::NOT_MODIFIED).body(Body::empty()).unwrap()
        }
        MapAnswer::Status(status, body) => builder.status(status).body(body.into()).unwrap(),
        MapAnswer::Redirect(location) => builder.status(302).header(LOCATION, location).body(Body::empty()).unwrap(),
        MapAnswer::Endless => {
            let pieces = futures_util::stream::repeat(()).then(|()| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, Infallible>(Bytes::from_static(b" "))
            });
            builder.body(Body::from_stream(pieces)).unwrap()
        }
    }
}
