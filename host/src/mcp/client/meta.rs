//! The `_meta` of requests: what the modern era demands in it, and what the legacy era must not see.
//!
//! Pure functions over raw objects; every key that is not named here passes through untouched, in its place.

use serde_json::value::RawValue;

use crate::mcp::protocol::{
    CLIENT_NAME, CLIENT_VERSION, META_CLIENT_CAPABILITIES, META_CLIENT_INFO, META_PREFIX, META_PROTOCOL_VERSION,
    META_SERVER_INFO, VERSION_2026_07_28,
};
use crate::model::ListKind;
use crate::model::raw::{self, RawObject};

/// The member of parameters and results that holds metadata.
const META: &str = "_meta";

/// Completes parameters for a modern server (2026-07-28, `basic/index`, `_meta`).
///
/// The version is ours whatever the caller wrote. Capabilities and client info are the caller's where it gave them,
/// else none and ours. A `_meta` that is no object is replaced.
pub(super) fn modern(mut params: RawObject) -> Box<RawValue> {
    let mut meta = params.get(META).and_then(|meta| RawObject::parse(meta).ok()).unwrap_or_default();
    meta.set(META_PROTOCOL_VERSION, raw::string(VERSION_2026_07_28));
    if meta.get(META_CLIENT_CAPABILITIES).is_none() {
        meta.set(META_CLIENT_CAPABILITIES, raw::empty_object());
    }
    if meta.get(META_CLIENT_INFO).is_none() {
        meta.set(META_CLIENT_INFO, client_info());
    }
    params.set(META, meta.to_raw());
    params.to_raw()
}

/// Takes what only the modern era knows out of parameters for a legacy server. A `_meta` that is empty after that, and
/// was not before, goes too.
pub(super) fn legacy(mut params: RawObject) -> Box<RawValue> {
    let Some(mut meta) = params.get(META).and_then(|meta| RawObject::parse(meta).ok()) else {
        return params.to_raw();
    };
    let modern: Vec<String> =
        meta.iter().map(|(key, _)| key).filter(|key| key.starts_with(META_PREFIX)).map(str::to_owned).collect();
    if modern.is_empty() {
        return params.to_raw();
    }
    for key in &modern {
        meta.remove(key);
    }
    if meta.is_empty() {
        params.remove(META);
    } else {
        params.set(META, meta.to_raw());
    }
    params.to_raw()
}

/// The parameters of `subscriptions/listen`: what the stream is to carry.
pub(super) fn listen_params(changes: &[ListKind], resources: &[String]) -> RawObject {
    let mut filter = RawObject::new();
    for (kind, member) in [
        (ListKind::Tools, "toolsListChanged"),
        (ListKind::Prompts, "promptsListChanged"),
        (ListKind::Resources, "resourcesListChanged"),
    ] {
        if changes.contains(&kind) {
            filter.set(member, raw::trusted("true".to_owned()));
        }
    }
    if !resources.is_empty() {
        let uris: Vec<String> = resources.iter().map(|uri| raw::string(uri).get().to_owned()).collect();
        filter.set("resourceSubscriptions", raw::trusted(format!("[{}]", uris.join(","))));
    }
    let mut params = RawObject::new();
    params.set("notifications", filter.to_raw());
    params
}

/// Who we are: `{"name","version"}`.
pub(super) fn client_info() -> Box<RawValue> {
    let mut info = RawObject::new();
    info.set("name", raw::string(CLIENT_NAME));
    info.set("version", raw::string(CLIENT_VERSION));
    info.to_raw()
}

/// Who the server is, by a modern result.
pub(super) fn server_info(result: &RawObject) -> Option<Box<RawValue>> {
    server_info_in(result.get(META)?)
}

/// Who the server is, by the `_meta` of a modern result.
pub(super) fn server_info_in(meta: &RawValue) -> Option<Box<RawValue>> {
    RawObject::parse(meta).ok()?.get(META_SERVER_INFO).filter(|info| raw::is_object(info)).map(ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(text: &str) -> RawObject {
        RawObject::from_str(text).unwrap()
    }

    #[test]
    fn a_modern_request_says_who_asks_and_keeps_what_the_caller_said() {
        let own = client_info();
        let empty = modern(RawObject::new());
        let version = r#""io.modelcontextprotocol/protocolVersion":"2026-07-28""#;
        let none = r#""io.modelcontextprotocol/clientCapabilities":{}"#;
        let expected = format!(r#"{{"_meta":{{{version},{none},"io.modelcontextprotocol/clientInfo":{own}}}}}"#);
        assert_eq!(empty.get(), expected);

        let theirs = concat!(
            r#""io.modelcontextprotocol/clientInfo":{"name":"x"},"#,
            r#""io.modelcontextprotocol/clientCapabilities":{ "roots":{}}"#
        );
        let request = |version: &str| format!(r#"{{"_meta":{{"progressToken":1e99,{version},{theirs}}},"name":"t"}}"#);
        let params = object(&request(r#""io.modelcontextprotocol/protocolVersion":"1900-01-01""#));
        assert_eq!(modern(params).get(), request(version));
    }

    #[test]
    fn a_legacy_request_keeps_everything_but_the_modern_keys() {
        for (given, kept) in [
            ("{}", "{}"),
            (r#"{"_meta":{},"a":1}"#, r#"{"_meta":{},"a":1}"#),
            (r#"{"_meta":{"io.modelcontextprotocol/clientInfo":{}},"a":1}"#, r#"{"a":1}"#),
            (
                r#"{"_meta":{"traceparent":"00","io.modelcontextprotocol/protocolVersion":"x","progressToken":1.0}}"#,
                r#"{"_meta":{"traceparent":"00","progressToken":1.0}}"#,
            ),
            (r#"{"_meta":7}"#, r#"{"_meta":7}"#),
        ] {
            assert_eq!(legacy(object(given)).get(), kept);
        }
    }
}
