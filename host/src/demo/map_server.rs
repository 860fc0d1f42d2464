//! A server of signed service maps: conditional requests, bearer token, a signature that is made anew with each map.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{AUTHORIZATION, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderValue, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

use crate::edge::clock::{Clock, SystemClock};
use crate::model::{ConnectorId, Digest, WallMs};

/// How long a map is good.
const TTL_SECONDS: u64 = 900;

/// The map's id.
const MAP_ID: &str = "01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB";

/// A service map of these connectors, unsigned: the second dialect, in the order given.
pub fn map_document(generated_at: WallMs, connectors: &[(ConnectorId, Url)]) -> serde_json::Value {
    let entries: Vec<_> = connectors
        .iter()
        .map(|(id, endpoint)| {
            json!({
                "id": id, "version": "1.0.0", "displayName": format!("Demo server {id}"), "endpoint": endpoint,
                "auth": { "type": "none" }, "scopes": [format!("{id}:read")], "ttlSeconds": TTL_SECONDS,
                "enabled": true, "metadata": { "brand": "brAInwav" }, "tags": ["demo"],
            })
        })
        .collect();
    json!({
        "id": MAP_ID, "brand": "brAInwav", "generatedAt": generated_at.to_string(), "ttlSeconds": TTL_SECONDS,
        "connectors": entries,
    })
}

/// Signs a document; none if it can not be signed.
pub type Signer = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// The server.
pub struct MapServer {
    sign: Signer,
    token: SecretString,
    connectors: Vec<(ConnectorId, Url)>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    generated_at: WallMs,
    document: String,
    tag: HeaderValue,
}

impl MapServer {
    /// A server of a map of these connectors, signed by `sign`, for whoever shows `token`.
    pub fn new(sign: Signer, token: SecretString, connectors: Vec<(ConnectorId, Url)>) -> Arc<Self> {
        Arc::new(Self { sign, token, connectors, current: Mutex::new(None) })
    }

    /// Its routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/v1/connectors/service-map", get(answer)).with_state(self.clone())
    }

    /// The map in force: a new one is signed when the last is half way to its expiry.
    fn current(&self) -> Option<Current> {
        let now = SystemClock::new().wall();
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(current) = &*current
            && now < current.generated_at.plus(TTL_SECONDS * 500)
        {
            return Some(current.clone());
        }
        let document = (self.sign)(&map_document(now, &self.connectors).to_string())?;
        let tag = format!("\"{}\"", Digest::of(document.as_bytes()).short(16));
        // Hexadecimal digits between quotes are a header value.
        let tag = HeaderValue::try_from(tag).unwrap_or(HeaderValue::from_static("\"map\""));
        Some(current.insert(Current { generated_at: now, document, tag }).clone())
    }
}

impl std::fmt::Debug for MapServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("MapServer")
    }
}

async fn answer(State(server): State<Arc<MapServer>>, headers: HeaderMap) -> Response {
    let expected = format!("Bearer {}", server.token.expose_secret());
    if headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()) != Some(&expected) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(current) = server.current() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    if headers.get(IF_NONE_MATCH) == Some(&current.tag) {
        return (StatusCode::NOT_MODIFIED, [(ETAG, current.tag)]).into_response();
    }
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind), (ETAG, current.tag)], current.document).into_response()
}
