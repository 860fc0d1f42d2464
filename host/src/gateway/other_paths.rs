//! What is answered beside the served paths: a page of text at `/`, and elsewhere an error that names the endpoint.
//!
//! Clients and people enter an address without its path, or with another one: an empty answer does not help them, and a
//! legacy client takes a bare 404 for a lost session.

use std::fmt::Write as _;

use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, StatusCode};

use super::embed::Gateway;
use super::json::json;
use super::visitor::Visitor;
use crate::mcp::envelope::error_bytes;
use crate::mcp::protocol::{INVALID_REQUEST, JSON_TYPE};
use crate::model::Contact;

/// The path of the MCP endpoint. With one slash more it is the same: clients and people add one.
pub(super) const ENDPOINT: [&str; 2] = ["/mcp", "/mcp/"];

const NOTHING_HERE: &str = "nothing is served at this path; the MCP endpoint of this gateway is /mcp";

/// Answers a request for a path that is not served, as JSON-RPC if that is what was sent.
pub(super) async fn not_found(headers: HeaderMap) -> Response {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    match kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON_TYPE)) {
        true => json(StatusCode::NOT_FOUND, error_bytes(None, INVALID_REQUEST, NOTHING_HERE, None)),
        false => (StatusCode::NOT_FOUND, format!("{NOTHING_HERE}\n")).into_response(),
    }
}

/// Returns the page: version, health and addresses. Without a token, where one is needed, it names the endpoint only.
pub(super) async fn index(State(gateway): State<Gateway>, visitor: Option<Extension<Visitor>>) -> String {
    let mut page = "cortex-mcp, a gateway of MCP servers\n\n".to_owned();
    let Some(Extension(visitor)) = visitor else {
        page.push_str("/mcp      the MCP endpoint; needs a bearer token\n/healthz  whether the process is alive\n");
        return page;
    };
    let statuses = gateway.inner.parts.fleet.statuses();
    let seen = statuses.iter().filter(|status| visitor.view.sees_connector(&status.id));
    let (mut all, mut down) = (0, 0);
    for status in seen {
        all += 1;
        down += usize::from(status.contact == Contact::Down);
    }
    let state = if gateway.is_ready() { "ready" } else { "starting" };
    // Writing to a text cannot fail.
    let _ = write!(
        page,
        "version   {}\nhealth    {state}; {all} connectors, {down} of them down\n\n\
         /mcp      the MCP endpoint: enter this address in a client\n/healthz  whether the process is alive\n\
         /readyz   whether there is something to serve\n",
        env!("CARGO_PKG_VERSION"),
    );
    if visitor.sees_the_whole() {
        page.push_str("/status   every connector, as JSON\n/metrics  metrics for Prometheus\n");
    }
    page
}
