//! Web pages of other origins: what a browser asks before it lets a page use the gateway, and what it wants to hear before
//! it shows the page an answer (Fetch standard, "CORS protocol").
//!
//! Only pages of listed origins are told yes, by their very origin, never by `*`; where everybody needs a token, also pages
//! of this machine. Who is told yes still needs that token, and is judged by the door with each request: a browser shows no
//! token when it asks beforehand.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::door::Door;
use super::limits;

/// What a page may do.
const METHODS: &str = "GET, POST, DELETE";

/// Headers that a page may send, besides those that begin with [`OF_THE_PROTOCOL`].
const HEADERS: [&str; 4] = ["accept", "authorization", "content-type", "last-event-id"];

/// How the names of the protocol's own headers begin: those that mirror arguments have names of their servers' choice.
const OF_THE_PROTOCOL: &str = "mcp-";

/// Headers of answers that a page may read.
const EXPOSED: &str = "mcp-session-id, retry-after, www-authenticate";

/// The middleware of every route with a door: answers what browsers ask beforehand, and marks the answers to pages.
pub(super) async fn share(State(door): State<Arc<Door>>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(ORIGIN).cloned() else {
        return varying(next.run(request).await);
    };
    if request.method() == Method::OPTIONS && request.headers().contains_key(ACCESS_CONTROL_REQUEST_METHOD) {
        return varying(match door.admits_page(&request) {
            Ok(()) => admitted(request.headers(), origin),
            Err(refused) => *refused,
        });
    }
    let known = door.knows_page(request.headers());
    let mut response = next.run(request).await;
    if known {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
    varying(response)
}

/// The answer to a browser whose page may use the gateway.
fn admitted(asked: &HeaderMap, origin: HeaderValue) -> Response {
    let wanted = asked.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter().filter_map(|names| names.to_str().ok());
    let wanted = wanted.flat_map(|names| names.split(',')).map(|name| name.trim().to_ascii_lowercase());
    let mut allowed: Vec<String> = HEADERS.map(str::to_owned).into();
    allowed.extend(wanted.filter(|name| name.starts_with(OF_THE_PROTOCOL)));
    let mut response = StatusCode::NO_CONTENT.into_response();
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
    // It is made of parts of a header.
    if let Ok(allowed) = HeaderValue::try_from(allowed.join(", ")) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
    }
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from(limits::PREFLIGHT_MAX_AGE.as_secs()));
    response
}

/// Tells caches that the answer depends on which page asked.
fn varying(mut response: Response) -> Response {
    response.headers_mut().append(VARY, HeaderValue::from_static("origin"));
    response
}
