//! What the headers of a request must say: where it comes from, which types its sender takes, and, in the modern era,
//! the same as its body. Nothing is ever repaired here: a header that is wrong is refused.

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, ORIGIN};
use http::{HeaderMap, StatusCode};
use serde_json::Value;

use super::wire::{self, EVENT_STREAM, JSON, Members, RpcError};

/// The header with the protocol's version.
pub(super) const VERSION: &str = "mcp-protocol-version";

/// The header with the session.
pub(super) const SESSION: &str = "mcp-session-id";

/// A header as text, without the blanks around it.
pub(super) fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| std::str::from_utf8(value.as_bytes()).ok()).map(str::trim)
}

/// Whether host and origin, if there is one, are loopback. Otherwise a page in a browser sent this, under a name that
/// it had rebound.
pub(super) fn from_loopback(headers: &HeaderMap) -> bool {
    let host = text(headers, HOST.as_str()).is_some_and(is_loopback);
    let origin = text(headers, ORIGIN.as_str()).is_none_or(|origin| {
        origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://")).is_some_and(is_loopback)
    });
    host && origin
}

fn is_loopback(authority: &str) -> bool {
    ["localhost", "127.0.0.1", "[::1]"].iter().any(|name| {
        authority.strip_prefix(name).is_some_and(|rest| {
            rest.is_empty() || rest.strip_prefix(':').is_some_and(|port| port.parse::<u16>().is_ok())
        })
    })
}

/// Whether the client takes answers of this type.
pub(super) fn accepts(headers: &HeaderMap, kind: &str) -> bool {
    let accepted = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|one| {
        let one = one.split(';').next().unwrap_or_default().trim();
        one.eq_ignore_ascii_case(kind) || one == "*/*"
    })
}

/// A refusal, if a message comes as another type or its sender does not take both kinds of answer.
pub(super) fn wrong_types(headers: &HeaderMap) -> Option<Response> {
    let kind = text(headers, CONTENT_TYPE.as_str()).and_then(|kind| kind.split(';').next()).unwrap_or_default();
    if !kind.trim().eq_ignore_ascii_case(JSON) {
        let error = RpcError::new(-32000, "a message is application/json");
        return Some(wire::refusal(StatusCode::UNSUPPORTED_MEDIA_TYPE, None, &error));
    }
    if !(accepts(headers, JSON) && accepts(headers, EVENT_STREAM)) {
        let error = RpcError::new(-32000, "a client accepts application/json and text/event-stream");
        return Some(wire::refusal(StatusCode::NOT_ACCEPTABLE, None, &error));
    }
    None
}

/// An error of the modern era: headers and body differ.
pub(super) fn mismatch(message: impl Into<String>) -> RpcError {
    RpcError::new(-32020, message)
}

/// Checks `Mcp-Method` and `Mcp-Name` against the body.
pub(super) fn check_names(headers: &HeaderMap, method: &str, params: &Members) -> Result<(), RpcError> {
    if text(headers, "mcp-method") != Some(method) {
        return Err(mismatch("Mcp-Method is not the method of the body"));
    }
    let named = match method {
        "tools/call" | "prompts/get" => params.get("name"),
        "resources/read" => params.get("uri"),
        _ => return Ok(()),
    };
    match (named.and_then(Value::as_str), text(headers, "mcp-name")) {
        (Some(name), Some(header)) if decoded(header)? == name => Ok(()),
        (None, None) => Ok(()),
        _ => Err(mismatch("Mcp-Name is not what the body names")),
    }
}

/// Checks `Mcp-Param-*` against the arguments of a call, for the properties of its schema that are to be mirrored.
pub(super) fn check_params(headers: &HeaderMap, schema: &Value, arguments: &Members) -> Result<(), RpcError> {
    let none = Members::new();
    for (property, its_schema) in schema["properties"].as_object().unwrap_or(&none) {
        let Some(suffix) = its_schema["x-mcp-header"].as_str() else { continue };
        let name = format!("mcp-param-{}", suffix.to_ascii_lowercase());
        let header = text(headers, &name).map(decoded).transpose()?;
        let value = match arguments.get(property) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text.clone()),
            Some(other) => Some(other.to_string()),
        };
        if header != value {
            return Err(mismatch(format!("Mcp-Param-{suffix} is not the argument {property}")));
        }
    }
    Ok(())
}

/// What a header's value stands for: itself, or what is encoded in it.
fn decoded(value: &str) -> Result<String, RpcError> {
    let Some(encoded) = value.strip_prefix("=?base64?").and_then(|rest| rest.strip_suffix("?=")) else {
        return Ok(value.to_owned());
    };
    let bytes = STANDARD.decode(encoded).map_err(|_| mismatch("a header holds no Base64"))?;
    String::from_utf8(bytes).map_err(|_| mismatch("a header holds no text"))
}
