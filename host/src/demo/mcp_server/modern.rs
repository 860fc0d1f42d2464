//! The modern era, 2026-07-28: every request is judged by itself (`basic/index`, `basic/transports/streamable-http`).
//!
//! Stateless: nothing is remembered between requests.

use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::reply::{self, Reply};
use super::{McpServer, ServerEra, tools};
use crate::mcp::client::{add_headers, mirrors_of};
use crate::mcp::protocol::{
    HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, META_PROTOCOL_VERSION, META_SERVER_INFO, METHOD_NOT_FOUND,
    SERVER_DISCOVER, TOOLS_CALL, TOOLS_LIST, VERSION_2026_07_28, decode_header_value,
};
use crate::mcp::server::{judge_modern, meta_of, params_of};
use crate::mcp::{ListScope, Message, RequestId};
use crate::model::raw::{self, RawObject};

/// Whether a message says that it is of the modern era.
pub(super) fn is_modern(message: &Message) -> bool {
    let Message::Request { params: Some(params), .. } = message else { return false };
    RawObject::parse(params).is_ok_and(|params| meta_of(&params).get(META_PROTOCOL_VERSION).is_some())
}

/// Answers a message.
pub(super) fn answer(server: &McpServer, headers: &HeaderMap, message: Message) -> Reply {
    let (id, method, params) = match message {
        Message::Request { id, method, params } => (id, method, params),
        Message::Notification { .. } => return reply::status(StatusCode::ACCEPTED).into(),
        Message::Response { id, .. } => {
            return reply::error(
                StatusCode::BAD_REQUEST,
                id.as_ref(),
                INVALID_REQUEST,
                "a client sends no responses",
                None,
            );
        }
    };
    let params = params_of(params.as_deref()).map(Option::unwrap_or_default);
    let checked = params.and_then(|params| judge_modern(headers, &method, &params, &versions(server)).map(|()| params));
    match checked {
        Ok(params) => carry_out(server, headers, &id, &method, &params.to_object()),
        Err(refused) => {
            reply::error(refused.status, Some(&id), refused.code, &refused.message, refused.data.as_deref())
        }
    }
}

fn carry_out(server: &McpServer, headers: &HeaderMap, id: &RequestId, method: &str, params: &RawObject) -> Reply {
    let style = server.options.answers;
    match method {
        SERVER_DISCOVER => {
            let mut result = RawObject::new();
            let versions: Vec<String> = versions(server).iter().map(|version| format!("\"{version}\"")).collect();
            result.set("supportedVersions", raw::trusted(format!("[{}]", versions.join(","))));
            result.set("capabilities", raw::trusted(r#"{"tools":{"listChanged":false}}"#.to_owned()));
            result.set("instructions", raw::string("A server for demonstrations."));
            add_hints(server, &mut result);
            reply::result(style, id, &complete(server, result), &[])
        }
        TOOLS_LIST => {
            let cursor = params.get_str("cursor");
            let page = server.controls().tools.page(cursor.as_deref(), server.options.page_size);
            let Ok(page) = page else { return reply::rpc_error(style, id, INVALID_PARAMS, "no such cursor") };
            let mut result = RawObject::new();
            result.set("tools", page.tools);
            if let Some(next) = &page.next {
                result.set("nextCursor", raw::string(next));
            }
            add_hints(server, &mut result);
            let mut reply = reply::result(style, id, &complete(server, result), &[]);
            reply.completes_a_list = page.next.is_none();
            reply
        }
        TOOLS_CALL => {
            let name = params.get_str("name").unwrap_or_default();
            let Some(tool) = server.controls().tools.find(&name) else {
                return reply::rpc_error(style, id, INVALID_PARAMS, "no such tool");
            };
            if !mirrored(&tool, params, headers) {
                let text = "an Mcp-Param header does not match the body";
                return reply::error(StatusCode::BAD_REQUEST, Some(id), HEADER_MISMATCH, text, None);
            }
            match arguments(params) {
                Some(arguments) => reply::result(style, id, &complete(server, tools::call(&name, &arguments)), &[]),
                None => reply::rpc_error(style, id, INVALID_PARAMS, "the arguments are not an object"),
            }
        }
        _ => reply::error(StatusCode::NOT_FOUND, Some(id), METHOD_NOT_FOUND, "no such method", None),
    }
}

/// The arguments of a call; none of them is legal too.
pub(super) fn arguments(params: &RawObject) -> Option<RawObject> {
    params.get("arguments").map_or(Some(RawObject::new()), |arguments| RawObject::parse(arguments).ok())
}

/// Who the server is.
pub(super) fn server_info(server: &McpServer) -> Box<RawValue> {
    let mut info = RawObject::new();
    info.set("name", raw::string(&server.options.name));
    info.set("version", raw::string(&server.options.version));
    info.to_raw()
}

/// Whether the headers mirror the arguments as the tool's schema asks.
fn mirrored(tool: &RawValue, params: &RawObject, headers: &HeaderMap) -> bool {
    let Ok(mirrors) = mirrors_of(tool) else { return false };
    let mut expected = HeaderMap::new();
    add_headers(&mirrors, params.get("arguments"), &mut expected);
    mirrors.iter().all(|mirror| {
        let found = headers.get(mirror.header()).map(decode_header_value);
        found == expected.get(mirror.header()).map(decode_header_value)
    })
}

fn complete(server: &McpServer, mut result: RawObject) -> Box<RawValue> {
    result.set("resultType", raw::string("complete"));
    let mut meta = RawObject::new();
    meta.set(META_SERVER_INFO, server_info(server));
    result.set("_meta", meta.to_raw());
    result.to_raw()
}

fn add_hints(server: &McpServer, result: &mut RawObject) {
    result.set("ttlMs", raw::number(server.options.ttl_ms.unwrap_or(0)));
    let scope = match server.options.scope {
        ListScope::Public => "public",
        ListScope::Private => "private",
    };
    result.set("cacheScope", raw::string(scope));
}

fn versions(server: &McpServer) -> Vec<&'static str> {
    match server.options.era {
        ServerEra::Dual => vec![VERSION_2026_07_28, server.options.legacy_version],
        ServerEra::Modern | ServerEra::Legacy => vec![VERSION_2026_07_28],
    }
}
