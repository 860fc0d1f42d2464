//! The words of the protocol: versions, header names, `_meta` keys, methods, error codes, and how header values are
//! written.
//!
//! Constants and pure functions only. Sources: MCP specification 2026-07-28 (`basic/versioning`,
//! `basic/transports/streamable-http`, `basic/index`) and 2025-11-25 (`basic/transports`, `basic/lifecycle`).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderName, HeaderValue};

use super::request_members::ParamsMember;
pub use crate::model::Era;

/// The modern version that this crate speaks.
pub const VERSION_2026_07_28: &str = "2026-07-28";
/// The newest legacy version; what `initialize` offers.
pub const VERSION_2025_11_25: &str = "2025-11-25";
/// A legacy version.
pub const VERSION_2025_06_18: &str = "2025-06-18";
/// The oldest version of Streamable HTTP; it has no version header.
pub const VERSION_2025_03_26: &str = "2025-03-26";

/// The oldest version, of HTTP+SSE and of many servers on standard input and output.
pub const VERSION_2024_11_05: &str = "2024-11-05";

/// The legacy versions, newest first: those that clients are served, and that a server may answer with. The oldest knows no
/// Streamable HTTP; clients and servers that speak that name it all the same. Its messages are those of the next one, without
/// batches and audio.
pub const LEGACY_VERSIONS: [&str; 4] = [VERSION_2025_11_25, VERSION_2025_06_18, VERSION_2025_03_26, VERSION_2024_11_05];

/// The name that the gateway gives as its own.
pub const CLIENT_NAME: &str = "cortex-mcp";
/// The version that the gateway gives as its own.
pub const CLIENT_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The version of the protocol; since 2025-06-18.
pub const PROTOCOL_VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");
/// The method, mirrored; modern.
pub const METHOD_HEADER: HeaderName = HeaderName::from_static("mcp-method");
/// What the method is applied to, mirrored; modern.
pub const NAME_HEADER: HeaderName = HeaderName::from_static("mcp-name");
/// The session; legacy.
pub const SESSION_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");
/// The event that a broken stream is resumed after; legacy.
pub const LAST_EVENT_ID_HEADER: HeaderName = HeaderName::from_static("last-event-id");
/// What the name of a header that mirrors an argument begins with; modern.
pub const PARAMETER_HEADER_PREFIX: &str = "mcp-param-";
/// The key of an input schema that asks for such a header.
pub const PARAMETER_ANNOTATION: &str = "x-mcp-header";

/// What `Accept` must list on every request.
pub const ACCEPT_BOTH: HeaderValue = HeaderValue::from_static("application/json, text/event-stream");
/// The content type of one JSON message.
pub const JSON_TYPE: &str = "application/json";
/// The content type of a stream of events.
pub const EVENT_STREAM_TYPE: &str = "text/event-stream";

/// The `_meta` keys that the modern era owns begin with this.
pub const META_PREFIX: &str = "io.modelcontextprotocol/";
/// `_meta`: the version that a request is written in. Required on modern requests.
pub const META_PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
/// `_meta`: what the client can do. Required on modern requests.
pub const META_CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";
/// `_meta`: who the client is.
pub const META_CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
/// `_meta`: the least severe log messages that the client wants about a request.
pub const META_LOG_LEVEL: &str = "io.modelcontextprotocol/logLevel";
/// `_meta`: how many gateways a request passed through; the gateway's own.
pub const META_HOPS: &str = "com.brainwav.cortex/hops";
/// `_meta`: what notifications about the progress of the request bear.
pub const META_PROGRESS_TOKEN: &str = "progressToken";
/// `_meta` of notifications and results of a subscription: the id of the request that opened it.
pub const META_SUBSCRIPTION_ID: &str = "io.modelcontextprotocol/subscriptionId";
/// `_meta` of results: who the server is.
pub const META_SERVER_INFO: &str = "io.modelcontextprotocol/serverInfo";

/// The method that every modern server serves and no legacy one knows.
pub const SERVER_DISCOVER: &str = "server/discover";
/// The method that opens a legacy session.
pub const INITIALIZE: &str = "initialize";
/// The notification that ends the legacy handshake.
pub const INITIALIZED: &str = "notifications/initialized";
/// The legacy notification that a request is no longer wanted.
pub const CANCELLED: &str = "notifications/cancelled";
/// Are you there?
pub const PING: &str = "ping";
/// Lists tools.
pub const TOOLS_LIST: &str = "tools/list";
/// Calls a tool.
pub const TOOLS_CALL: &str = "tools/call";
/// Fetches a prompt.
pub const PROMPTS_GET: &str = "prompts/get";
/// Reads a resource.
pub const RESOURCES_READ: &str = "resources/read";

/// Completes an argument of a prompt or of a resource template.
pub const COMPLETION_COMPLETE: &str = "completion/complete";
/// Opens a stream of notifications; modern.
pub const SUBSCRIPTIONS_LISTEN: &str = "subscriptions/listen";
/// The first message of such a stream: what it will carry.
pub const SUBSCRIPTIONS_ACKNOWLEDGED: &str = "notifications/subscriptions/acknowledged";
/// Subscribes to a resource; legacy.
pub const RESOURCES_SUBSCRIBE: &str = "resources/subscribe";
/// Ends that subscription; legacy.
pub const RESOURCES_UNSUBSCRIBE: &str = "resources/unsubscribe";
/// A resource that is subscribed to was updated.
pub const RESOURCES_UPDATED: &str = "notifications/resources/updated";
/// Sets the least severe log messages that a client wants; legacy.
pub const LOGGING_SET_LEVEL: &str = "logging/setLevel";
/// The notifications that a list has changed.
pub const LISTS_CHANGED: [&str; 3] =
    ["notifications/tools/list_changed", "notifications/prompts/list_changed", "notifications/resources/list_changed"];
/// A log message.
pub const LOG_MESSAGE: &str = "notifications/message";
/// How far a request has come.
pub const PROGRESS: &str = "notifications/progress";
/// Asks a client to have its model say something; legacy, and in multi-round results.
pub const SAMPLING_CREATE: &str = "sampling/createMessage";
/// Asks a client's user something; legacy, and in multi-round results.
pub const ELICITATION_CREATE: &str = "elicitation/create";
/// Asks a client which folders it works in; legacy, and in multi-round results.
pub const ROOTS_LIST: &str = "roots/list";
/// A legacy client's roots have changed.
pub const ROOTS_CHANGED: &str = "notifications/roots/list_changed";

/// JSON-RPC: the text is no JSON.
pub const PARSE_ERROR: i64 = -32700;
/// JSON-RPC: the JSON is no message.
pub const INVALID_REQUEST: i64 = -32600;
/// JSON-RPC: no such method.
pub const METHOD_NOT_FOUND: i64 = -32601;
/// JSON-RPC: the parameters do not fit; MCP: also an unknown tool.
pub const INVALID_PARAMS: i64 = -32602;
/// JSON-RPC: the server failed.
pub const INTERNAL_ERROR: i64 = -32603;
/// The code that the reference implementations give for a session they do not know; no meaning by the specification.
pub const SESSION_NOT_FOUND: i64 = -32001;
/// What legacy servers answer if there is no such resource (2025-11-25, `server/resources`, Error Handling).
pub const RESOURCE_NOT_FOUND: i64 = -32002;
/// The gateway's own code: why a connector gave no answer. The specification gives -32000 to -32019 no meaning.
pub const CONNECTOR_ERROR: i64 = -32010;
/// The gateway's own code: a token asks too often.
pub const TOO_OFTEN: i64 = -32011;
/// Modern: a header does not say what the body says.
pub const HEADER_MISMATCH: i64 = -32020;
/// Modern: the request needs a capability that the client did not declare.
pub const MISSING_CLIENT_CAPABILITY: i64 = -32021;
/// Modern: the server does not speak the version; `data.supported` lists what it speaks.
pub const UNSUPPORTED_PROTOCOL_VERSION: i64 = -32022;

/// Whether a server that gives this error code is modern. The whole range from -32020 to -32099 belongs to the specification
/// since 2026-07-28 (`basic/index`, Error Codes), but before that it was the servers' own, and 2025-11-25 uses one of it
/// (-32042): only the codes that mean something there tell the eras apart.
pub fn is_modern_error(code: i64) -> bool {
    matches!(code, HEADER_MISMATCH | MISSING_CLIENT_CAPABILITY | UNSUPPORTED_PROTOCOL_VERSION)
}

/// The member of `params` that `Mcp-Name` mirrors for a method; none where the header does not apply.
///
/// `tools/call`, `prompts/get`, `resources/read` by `basic/transports/streamable-http`; the rest by the tasks
/// extension (SEP-2663).
pub fn name_member(method: &str) -> Option<ParamsMember> {
    match method {
        TOOLS_CALL | PROMPTS_GET => Some(ParamsMember::Name),
        RESOURCES_READ => Some(ParamsMember::Uri),
        "tasks/get" | "tasks/update" | "tasks/cancel" => Some(ParamsMember::TaskId),
        _ => None,
    }
}

/// Writes a value of `Mcp-Name` or `Mcp-Param-*`.
///
/// Printable ASCII stands as it is. Anything else, padded text, and text that looks encoded already becomes
/// `=?base64?...?=` (2026-07-28, `basic/transports/streamable-http`, Value Encoding).
pub fn encode_header_value(text: &str) -> HeaderValue {
    let plain = text.bytes().all(|byte| byte == b'\t' || (b' '..=b'~').contains(&byte))
        && text.trim_matches([' ', '\t']).len() == text.len()
        && !(text.starts_with(ENCODED_PREFIX) && text.ends_with(ENCODED_SUFFIX));
    let encoded =
        if plain { text.to_owned() } else { format!("{ENCODED_PREFIX}{}{ENCODED_SUFFIX}", STANDARD.encode(text)) };
    // Both forms are printable ASCII, which every header value may hold.
    HeaderValue::try_from(encoded).unwrap_or(HeaderValue::from_static(""))
}

/// Reads what [`encode_header_value`] wrote; none if it is no text or its base64 is broken.
pub fn decode_header_value(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let inner = text.strip_prefix(ENCODED_PREFIX).and_then(|rest| rest.strip_suffix(ENCODED_SUFFIX));
    match inner {
        Some(inner) => String::from_utf8(STANDARD.decode(inner).ok()?).ok(),
        None => Some(text.to_owned()),
    }
}

const ENCODED_PREFIX: &str = "=?base64?";
const ENCODED_SUFFIX: &str = "?=";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_values_are_written_as_the_examples_of_the_specification() {
        for (text, header) in [
            ("us-west1", "us-west1"),
            ("Hello, 世界", "=?base64?SGVsbG8sIOS4lueVjA==?="),
            (" padded ", "=?base64?IHBhZGRlZCA=?="),
            ("line1\nline2", "=?base64?bGluZTEKbGluZTI=?="),
            ("=?base64?literal?=", "=?base64?PT9iYXNlNjQ/bGl0ZXJhbD89?="),
            ("tab\tinside", "tab\tinside"),
            ("\ttab", "=?base64?CXRhYg==?="),
            ("a\u{7f}", "=?base64?YX8=?="),
            ("=?base64?open", "=?base64?open"),
            ("", ""),
        ] {
            let value = encode_header_value(text);
            assert_eq!(value.to_str().unwrap(), header, "{text:?}");
            assert_eq!(decode_header_value(&value).as_deref(), Some(text));
        }
    }

    #[test]
    fn broken_base64_in_a_header_is_no_value() {
        assert_eq!(decode_header_value(&HeaderValue::from_static("=?base64?***?=")), None);
        assert_eq!(decode_header_value(&HeaderValue::from_static("=?base64?/w==?=")), None);
    }

    #[test]
    fn an_era_is_written_in_kebab_case() {
        assert_eq!(serde_json::to_string(&Era::Modern).unwrap(), "\"modern\"");
        assert_eq!(serde_json::from_str::<Era>("\"legacy\"").unwrap(), Era::Legacy);
    }

    #[test]
    fn only_codes_that_the_modern_era_gave_a_meaning_are_modern() {
        for code in [HEADER_MISMATCH, MISSING_CLIENT_CAPABILITY, UNSUPPORTED_PROTOCOL_VERSION] {
            assert!(is_modern_error(code), "{code}");
        }
        for code in [-32000, -32001, -32019, -32042, -32050, -32099, -32100, METHOD_NOT_FOUND, PARSE_ERROR] {
            assert!(!is_modern_error(code), "{code}");
        }
    }
}
