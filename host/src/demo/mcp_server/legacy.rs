//! The legacy era: `initialize`, `notifications/initialized`, sessions (2025-11-25, `basic/lifecycle` and
//! `basic/transports`).
//!
//! Strict: nothing is served before the handshake is over, and nothing to a session that is not known.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::modern::{arguments, server_info};
use super::reply::{self, Reply};
use super::{McpServer, tools};
use crate::mcp::envelope::request_bytes;
use crate::mcp::protocol::{
    INITIALIZE, INITIALIZED, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, PING, PROTOCOL_VERSION_HEADER,
    SESSION_HEADER, SESSION_NOT_FOUND, TOOLS_CALL, TOOLS_LIST, VERSION_2024_11_05, VERSION_2025_03_26,
};
use crate::mcp::{Message, RequestId};
use crate::model::raw::{self, RawObject};

/// The sessions that are open.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    opened: u64,
    open: HashMap<String, Session>,
}

#[derive(Clone, Debug)]
struct Session {
    version: String,
    ready: bool,
}

impl Sessions {
    pub(super) fn forget(&self) {
        self.known().open.clear();
    }

    pub(super) fn count(&self) -> usize {
        self.known().open.len()
    }

    /// Ends a session: 200, or 404 if nobody knows it, or 400 if none is named.
    pub(super) fn delete(&self, headers: &HeaderMap) -> Response {
        let Some(id) = id_of(headers) else { return reply::status(StatusCode::BAD_REQUEST) };
        let known = self.known().open.remove(&id).is_some();
        reply::status(if known { StatusCode::OK } else { StatusCode::NOT_FOUND })
    }

    fn open(&self, version: &str) -> String {
        let mut known = self.known();
        known.opened += 1;
        let id = format!("session-{}", known.opened);
        known.open.insert(id.clone(), Session { version: version.to_owned(), ready: false });
        id
    }

    fn find(&self, id: &str) -> Option<Session> {
        self.known().open.get(id).cloned()
    }

    fn make_ready(&self, id: &str) {
        if let Some(session) = self.known().open.get_mut(id) {
            session.ready = true;
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a message.
pub(super) fn answer(server: &McpServer, headers: &HeaderMap, message: Message) -> Reply {
    if let Message::Request { id, method, params } = &message
        && method == INITIALIZE
    {
        let params = params.as_deref().and_then(|params| RawObject::parse(params).ok()).unwrap_or_default();
        return initialize(server, id, &params);
    }
    let id = match &message {
        Message::Request { id, .. } => Some(id),
        Message::Notification { .. } | Message::Response { .. } => None,
    };
    let mut ready = true;
    if server.options.sessions {
        let Some(session_id) = id_of(headers) else {
            return reply::error(StatusCode::BAD_REQUEST, id, -32000, "Bad Request: Mcp-Session-Id is required", None);
        };
        let Some(session) = server.sessions.find(&session_id) else {
            return reply::error(StatusCode::NOT_FOUND, None, SESSION_NOT_FOUND, "Session not found", None);
        };
        let version = headers.get(PROTOCOL_VERSION_HEADER).and_then(|value| value.to_str().ok());
        let without = [VERSION_2025_03_26, VERSION_2024_11_05].contains(&session.version.as_str());
        if version.map_or(!without, |version| version != session.version) {
            let text = "Bad Request: MCP-Protocol-Version is not the negotiated one";
            return reply::error(StatusCode::BAD_REQUEST, id, INVALID_REQUEST, text, None);
        }
        if matches!(&message, Message::Notification { method, .. } if method == INITIALIZED) {
            server.sessions.make_ready(&session_id);
        }
        ready = session.ready;
    }
    match message {
        Message::Request { id, method, .. } if !ready && method != PING => {
            reply::rpc_error(server.options.answers, &id, INVALID_REQUEST, "the handshake is not over")
        }
        Message::Request { id, method, params } => {
            let params = params.and_then(|params| RawObject::parse(&params).ok()).unwrap_or_default();
            carry_out(server, &id, &method, &params)
        }
        Message::Notification { .. } | Message::Response { .. } => reply::status(StatusCode::ACCEPTED).into(),
    }
}

fn initialize(server: &McpServer, id: &RequestId, params: &RawObject) -> Reply {
    let Some(wanted) = params.get_str("protocolVersion") else {
        return reply::rpc_error(server.options.answers, id, INVALID_PARAMS, "protocolVersion is missing");
    };
    // Versions are dates, so that the older one is the lesser text.
    let newest = server.options.legacy_version;
    let version = if (VERSION_2025_03_26..=newest).contains(&wanted.as_str()) { wanted } else { newest.to_owned() };
    let mut result = RawObject::new();
    result.set("protocolVersion", raw::string(&version));
    result.set("capabilities", raw::trusted(r#"{"tools":{"listChanged":false}}"#.to_owned()));
    result.set("serverInfo", server_info(server));
    let reply = reply::result(server.options.answers, id, &result.to_raw(), &[]);
    if !server.options.sessions {
        return reply;
    }
    match HeaderValue::try_from(server.sessions.open(&version)) {
        Ok(session_id) => reply.with_header(SESSION_HEADER, session_id),
        Err(_) => reply,
    }
}

fn carry_out(server: &McpServer, id: &RequestId, method: &str, params: &RawObject) -> Reply {
    let style = server.options.answers;
    match method {
        PING => reply::result(style, id, &raw::empty_object(), &[]),
        TOOLS_LIST => {
            let cursor = params.get_str("cursor");
            let page = server.controls().tools.page(cursor.as_deref(), server.options.page_size);
            let Ok(page) = page else { return reply::rpc_error(style, id, INVALID_PARAMS, "no such cursor") };
            let mut result = RawObject::new();
            result.set("tools", page.tools);
            if let Some(next) = &page.next {
                result.set("nextCursor", raw::string(next));
            }
            let mut reply = reply::result(style, id, &result.to_raw(), &[]);
            reply.completes_a_list = page.next.is_none();
            reply
        }
        TOOLS_CALL => {
            let name = params.get_str("name").unwrap_or_default();
            if server.controls().tools.find(&name).is_none() {
                return reply::rpc_error(style, id, INVALID_PARAMS, "no such tool");
            }
            let Some(arguments) = arguments(params) else {
                return reply::rpc_error(style, id, INVALID_PARAMS, "the arguments are not an object");
            };
            let before = if server.options.asks_back { questions() } else { Vec::new() };
            reply::result(style, id, &tools::call(&name, &arguments).to_raw(), &before)
        }
        _ => reply::rpc_error(style, id, METHOD_NOT_FOUND, "no such method"),
    }
}

fn questions() -> Vec<Bytes> {
    let (first, second) = (RequestId::from_number(1), RequestId::from_number(2));
    vec![request_bytes(&first, PING, None), request_bytes(&second, "roots/list", None)]
}

fn id_of(headers: &HeaderMap) -> Option<String> {
    headers.get(SESSION_HEADER)?.to_str().ok().map(str::to_owned)
}
