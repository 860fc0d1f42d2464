//! A map server that answers whatever it is told to: a signed map, or something that is none.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use cortex_mcp::demo::map_document;
use cortex_mcp::edge::clock::{Clock, SystemClock};
use cortex_mcp::model::ConnectorId;
use cortex_mcp::service_map::signed_document;
use http::header::{AUTHORIZATION, CONTENT_TYPE, LOCATION};
use http::{HeaderMap, StatusCode};
use serde_json::Value;
use url::Url;

use super::world::{KEY, TOKEN};

/// What it answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// These bytes.
    Document(String),
    /// A status and nothing else.
    Status(StatusCode),
    /// A redirect to there.
    Redirect(String),
    /// A body of so many bytes.
    Big(usize),
    /// A body that has no end.
    Endless,
    /// Headers, and then no body.
    Stalled,
}

/// The server's mind.
#[derive(Debug)]
pub(crate) struct MapOrigin {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Option<String>>>,
}

impl MapOrigin {
    pub(crate) fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(answer), asked: Mutex::default() })
    }

    /// What it answers from now on.
    pub(crate) fn answer(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub(crate) fn asked(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// The `Authorization` headers that it was shown.
    pub(crate) fn shown(&self) -> Vec<Option<String>> {
        self.asked.lock().unwrap().clone()
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().route("/v1/connectors/service-map", get(answer)).with_state(self.clone())
    }
}

/// A map of these connectors that was generated now, with every connector changed by `change`, signed with [`KEY`].
pub(crate) fn signed_map(connectors: &[(ConnectorId, Url)], change: impl Fn(&mut Value)) -> String {
    let mut map = map_document(SystemClock::new().wall(), connectors);
    map["connectors"].as_array_mut().unwrap().iter_mut().for_each(change);
    signed_document(&map.to_string(), &KEY.into()).unwrap()
}

async fn answer(State(origin): State<Arc<MapOrigin>>, headers: HeaderMap) -> Response {
    let shown = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let allowed = shown.as_deref() == Some(&format!("Bearer {TOKEN}"));
    origin.asked.lock().unwrap().push(shown);
    if !allowed {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let answer = origin.answer.lock().unwrap().clone();
    let json = [(CONTENT_TYPE, "application/json")];
    match answer {
        Answer::Document(document) => (json, document).into_response(),
        Answer::Status(status) => status.into_response(),
        Answer::Redirect(target) => (StatusCode::FOUND, [(LOCATION, target)]).into_response(),
        Answer::Big(bytes) => (json, " ".repeat(bytes)).into_response(),
        Answer::Endless => {
            let piece = Bytes::from_static(&[b' '; 64]);
            let pieces = futures_util::stream::unfold((), move |()| {
                let piece = piece.clone();
                async move {
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    Some((Ok::<_, Infallible>(piece), ()))
                }
            });
            (json, Body::from_stream(pieces)).into_response()
        }
        Answer::Stalled => {
            (json, Body::from_stream(futures_util::stream::pending::<Result<Bytes, Infallible>>())).into_response()
        }
    }
}
