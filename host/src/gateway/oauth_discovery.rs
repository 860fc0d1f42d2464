//! Ends the search for an authorization server that a client begins when its token is refused: there is none.
//!
//! MCP clients look for metadata (RFC 9728, RFC 8414, OpenID Connect Discovery) and, where they find none, take the gateway itself
//! for the authorization server and try to register (2025-03-26, "Fallbacks for Servers without Metadata Discovery"). 404 ends each
//! search. The registration is refused with an OAuth error, whose description the client shows in place of the 401.

use axum::Router;
use axum::response::Response;
use axum::routing::{get, post};
use http::StatusCode;
use serde_json::json;

use super::embed::Gateway;
use super::json::value;

/// Where clients look for metadata, each with and without the path of the endpoint.
const METADATA: [&str; 3] = ["oauth-protected-resource", "oauth-authorization-server", "openid-configuration"];

/// Where clients register that found no metadata.
const REGISTRATION: &str = "/register";

/// The routes. They tell nothing that depends on the gateway, so they need no token.
pub(super) fn routes() -> Router<Gateway> {
    let others = Router::new()
        .route(REGISTRATION, post(registration))
        .route("/mcp/.well-known/openid-configuration", get(metadata));
    METADATA.iter().fold(others, |routes, name| {
        routes
            .route(&format!("/.well-known/{name}"), get(metadata))
            .route(&format!("/.well-known/{name}/{{*path}}"), get(metadata))
    })
}

async fn metadata() -> Response {
    let description = "this gateway has no authorization server; send a token that a [[token]] in gateway.toml allows as \
                       Authorization: Bearer";
    refusal(StatusCode::NOT_FOUND, "not_found", description)
}

async fn registration() -> Response {
    let description = "401: the gateway refused the bearer token (invalid_token), and it registers no clients; send a token that a \
                       [[token]] in gateway.toml allows as Authorization: Bearer";
    refusal(StatusCode::UNAUTHORIZED, "invalid_token", description)
}

/// An error as RFC 6749, section 5.2, forms it.
fn refusal(status: StatusCode, error: &str, description: &str) -> Response {
    value(status, &json!({ "error": error, "error_description": description }))
}
