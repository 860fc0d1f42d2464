//! What a server demands of a request before it looks at what is asked: the era, and the rules of that era's headers
//! (specification 2026-07-28, `basic/index` and `basic/transports/streamable-http`).
//!
//! Pure functions of headers and body. Nothing here answers a method.

use std::borrow::Cow;

use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::RawValue;

use super::client::{mirrors_of, mismatched};
use super::protocol::{
    Era, HEADER_MISMATCH, INITIALIZE, INVALID_PARAMS, INVALID_REQUEST, LEGACY_VERSIONS, METHOD_HEADER, NAME_HEADER,
    PROTOCOL_VERSION_HEADER, UNSUPPORTED_PROTOCOL_VERSION, VERSION_2026_07_28, decode_header_value, name_member,
};
use super::request_members::{AmbiguousMember, MetaMember, ParamsMember, RequestParams};
use crate::model::raw::{self, RawObject};

/// A request that is not answered.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: StatusCode,
    /// The JSON-RPC error code.
    pub code: i64,
    /// What is wrong.
    pub message: Cow<'static, str>,
    /// What would be right, for errors that say so.
    pub data: Option<Box<RawValue>>,
}

impl Refusal {
    fn bad_request(code: i64, message: &'static str) -> Self {
        Self { status: StatusCode::BAD_REQUEST, code, message: message.into(), data: None }
    }
}

impl From<AmbiguousMember> for Refusal {
    fn from(error: AmbiguousMember) -> Self {
        let message = error.to_string().into();
        Self { status: StatusCode::BAD_REQUEST, code: INVALID_PARAMS, message, data: None }
    }
}

/// Which era a request is of: the modern one if its `_meta` names a protocol version, or its header the modern version. A
/// handshake is legacy unless its `_meta` says otherwise: whoever can not negotiate sends the version that it hopes for.
pub fn era_of(headers: &HeaderMap, method: &str, params: Option<&RequestParams>) -> Era {
    let by_header = method != INITIALIZE && version_header(headers) == Some(VERSION_2026_07_28);
    if by_header || names_version(params) { Era::Modern } else { Era::Legacy }
}

/// Whether the `_meta` of a request names a protocol version, which only modern requests do.
pub fn names_version(params: Option<&RequestParams>) -> bool {
    params.is_some_and(|params| params.meta().get(MetaMember::ProtocolVersion).is_some())
}

/// Whether a legacy request names a version that is spoken; naming none is fine.
///
/// # Errors
/// [`Refusal`] if it names another.
pub fn judge_legacy(headers: &HeaderMap) -> Result<(), Refusal> {
    match headers.contains_key(&PROTOCOL_VERSION_HEADER) {
        true if !version_header(headers).is_some_and(|version| LEGACY_VERSIONS.contains(&version)) => Err(
            Refusal::bad_request(INVALID_PARAMS, "the MCP-Protocol-Version header names a version that is not spoken"),
        ),
        _ => Ok(()),
    }
}

/// Whether a modern request has the headers and the `_meta` that it must have.
///
/// # Errors
/// [`Refusal`], for the first rule that it breaks. `spoken` is what the error for an unknown version offers.
pub fn judge_modern(headers: &HeaderMap, method: &str, params: &RequestParams, spoken: &[&str]) -> Result<(), Refusal> {
    if method == INITIALIZE && !names_version(Some(params)) {
        return Err(unsupported(spoken, ""));
    }
    let mismatch = |message| Refusal::bad_request(HEADER_MISMATCH, message);
    let header = version_header(headers).ok_or_else(|| mismatch("the MCP-Protocol-Version header is missing"))?;
    let version = described(params)?;
    if header != version {
        return Err(mismatch("the MCP-Protocol-Version header does not match the body"));
    }
    judge_version(&version, spoken)?;
    if headers.get(&METHOD_HEADER).and_then(trimmed).as_ref().and_then(|value| value.to_str().ok()) != Some(method) {
        return Err(mismatch("the Mcp-Method header does not match the body"));
    }
    let name = name_member(method).and_then(|member| params.get_str(member));
    let said = headers.get(&NAME_HEADER).and_then(trimmed);
    if name.is_some() && said.as_ref().and_then(decode_header_value) != name {
        return Err(mismatch("the Mcp-Name header does not match the body"));
    }
    Ok(())
}

/// Whether a modern request has the `_meta` that it must have, over a transport without headers.
///
/// # Errors
/// [`Refusal`], for the first rule that it breaks.
pub fn judge_modern_body(params: &RequestParams, spoken: &[&str]) -> Result<(), Refusal> {
    judge_version(&described(params)?, spoken)
}

/// Whether the `Mcp-Param-*` headers of a call say what its arguments say, where the tool's `definition` asks for them. A
/// definition that misuses the annotation asks for none.
///
/// # Errors
/// [`Refusal`], if one of them is missing, broken or different.
pub fn judge_parameters(headers: &HeaderMap, definition: &RawValue, params: &RequestParams) -> Result<(), Refusal> {
    let mirrors = mirrors_of(definition).unwrap_or_default();
    match mismatched(&mirrors, params.get(ParamsMember::Arguments), headers) {
        false => Ok(()),
        true => Err(Refusal::bad_request(HEADER_MISMATCH, "an Mcp-Param header does not match the arguments")),
    }
}

/// The version in a modern request's `_meta`, which must hold capabilities too.
fn described(params: &RequestParams) -> Result<String, Refusal> {
    let invalid = |message| Refusal::bad_request(INVALID_PARAMS, message);
    let meta = params.meta();
    let version = meta.get_str(MetaMember::ProtocolVersion).ok_or_else(|| invalid("_meta has no protocol version"))?;
    if !meta.get(MetaMember::ClientCapabilities).is_some_and(raw::is_object) {
        return Err(invalid("_meta has no client capabilities"));
    }
    Ok(version)
}

fn judge_version(version: &str, spoken: &[&str]) -> Result<(), Refusal> {
    if version == VERSION_2026_07_28 { Ok(()) } else { Err(unsupported(spoken, version)) }
}

/// A header's value without the blanks around it, which belong to the line and not to the value (RFC 9110, section 5.5).
fn trimmed(value: &HeaderValue) -> Option<HeaderValue> {
    HeaderValue::from_bytes(value.as_bytes().trim_ascii()).ok()
}

/// The `_meta` of parameters or of a result, to be changed; empty if it has none.
pub fn meta_of(object: &RawObject) -> RawObject {
    object.get("_meta").and_then(|meta| RawObject::parse(meta).ok()).unwrap_or_default()
}

/// Reads the parameters of a client's message.
///
/// # Errors
/// [`Refusal`], if two servers could read different parameters in them.
pub fn params_of(params: Option<&RawValue>) -> Result<Option<RequestParams>, Refusal> {
    let Some(params) = params else { return Ok(None) };
    // The envelope has checked that they are an object.
    let params = RawObject::parse(params).map_err(|_| Refusal::bad_request(INVALID_REQUEST, "unreadable params"))?;
    Ok(Some(RequestParams::new(params)?))
}

fn version_header(headers: &HeaderMap) -> Option<&str> {
    headers.get(&PROTOCOL_VERSION_HEADER)?.to_str().ok()
}

fn unsupported(spoken: &[&str], requested: &str) -> Refusal {
    let mut data = RawObject::new();
    let spoken: Vec<String> = spoken.iter().map(|version| format!("\"{version}\"")).collect();
    data.set("supported", raw::trusted(format!("[{}]", spoken.join(","))));
    data.set("requested", raw::string(requested));
    Refusal {
        data: Some(data.to_raw()),
        ..Refusal::bad_request(UNSUPPORTED_PROTOCOL_VERSION, "unsupported protocol version")
    }
}
