//! A session with one server: requests in the server's era, tool lists, and what a refusal means.
//!
//! Used concurrently. A request that is dropped is cancelled: its stream closes, and a legacy server is told. The only
//! requests made again are calls that a modern server refused because its header annotations had changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::discovery::{modern_headers, speaks_other_versions};
use super::exchange::{Reply, ask};
use super::handshake::{LegacySession, rpc_error};
use super::listing::{Listing, ToolList, name_of};
use super::meta;
use super::mirror::{self, Mirrors};
use super::transport::Transport;
use crate::mcp::envelope::{Outcome, RequestId, RpcError, request_bytes};
use crate::mcp::error::WireError;
use crate::mcp::protocol::{
    Era, HEADER_MISMATCH, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND, NAME_HEADER, SESSION_NOT_FOUND,
    TOOLS_CALL, TOOLS_LIST, VERSION_2026_07_28, encode_header_value, is_modern_error, name_member,
};
use crate::model::raw::{self, RawObject};

/// A session with one server. Dropping it closes a legacy session in the background; [`Self::close`] waits for that.
#[derive(Debug)]
pub struct Session {
    transport: Arc<Transport>,
    ids: RequestIds,
    kind: Kind,
    server_info: OnceLock<Box<RawValue>>,
    mirrors: Mirrors,
}

/// Ids that are never used twice within a session.
#[derive(Debug, Default)]
pub(super) struct RequestIds(AtomicU64);

#[derive(Debug)]
enum Kind {
    /// `proven` once an answer showed that the server speaks the modern era.
    Modern {
        proven: AtomicBool,
    },
    Legacy(LegacySession),
}

impl RequestIds {
    pub(super) fn next(&self) -> RequestId {
        RequestId::from_number(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Session {
    pub(super) fn modern(
        transport: Arc<Transport>,
        ids: RequestIds,
        proven: bool,
        server_info: Option<Box<RawValue>>,
    ) -> Self {
        Self::new(transport, ids, Kind::Modern { proven: AtomicBool::new(proven) }, server_info)
    }

    pub(super) fn legacy(
        transport: Arc<Transport>,
        ids: RequestIds,
        session: LegacySession,
        server_info: Option<Box<RawValue>>,
    ) -> Self {
        Self::new(transport, ids, Kind::Legacy(session), server_info)
    }

    fn new(transport: Arc<Transport>, ids: RequestIds, kind: Kind, server_info: Option<Box<RawValue>>) -> Self {
        let server_info = server_info.map_or_else(OnceLock::new, OnceLock::from);
        Self { transport, ids, kind, server_info, mirrors: Mirrors::default() }
    }

    /// Which era the session is of.
    pub fn era(&self) -> Era {
        match self.kind {
            Kind::Modern { .. } => Era::Modern,
            Kind::Legacy(_) => Era::Legacy,
        }
    }

    /// The protocol version of the session.
    pub fn protocol_version(&self) -> &str {
        match &self.kind {
            Kind::Modern { .. } => VERSION_2026_07_28,
            Kind::Legacy(session) => session.version(),
        }
    }

    /// Who the server says it is, once it said so. A remembered modern server says it with its first list.
    pub fn server_info(&self) -> Option<&RawValue> {
        self.server_info.get().map(|info| &**info)
    }

    /// Lists all tools, page by page. In the modern era, tools that misuse `x-mcp-header` are left out and logged, as
    /// the specification demands.
    ///
    /// # Errors
    /// [`WireError`]; a JSON-RPC error is [`WireError::Rpc`].
    pub async fn list_tools(&self) -> Result<ToolList, WireError> {
        let mut listing = Listing::default();
        let mut next = Some(RawObject::new());
        while let Some(params) = next {
            match self.ask(TOOLS_LIST, &self.prepare(params)).await? {
                Outcome::Result(page) => next = listing.add(&page)?,
                Outcome::Error(error) => return Err(rpc_error(&error)),
            }
        }
        let listed = listing.finish();
        if let Some(info) = listed.server_info {
            // Who was first is as good as who is next.
            drop(self.server_info.set(info));
        }
        let tools = match self.kind {
            Kind::Modern { .. } => {
                let mut found = HashMap::new();
                let tools = mirror::sift(listed.tools, &mut found);
                self.mirrors.replace(found);
                tools
            }
            Kind::Legacy(_) => listed.tools.into_iter().map(|(_, tool)| tool).collect(),
        };
        Ok(ToolList { tools, ttl_ms: listed.ttl_ms, scope: listed.scope, pages: listed.pages })
    }

    /// Tells the session about tools that were listed before, by another session or another process, so that calls
    /// mirror their arguments into headers without a list of their own. What can not be read is skipped.
    pub fn remember_tools<'a>(&self, tools: impl IntoIterator<Item = &'a RawValue>) {
        if self.era() == Era::Modern {
            let tools = tools.into_iter().filter_map(|tool| Some((name_of(tool)?, tool.to_owned()))).collect();
            let mut found = HashMap::new();
            mirror::sift(tools, &mut found);
            self.mirrors.replace(found);
        }
    }

    /// Makes one request and returns its result or its JSON-RPC error as they came. `_meta` and headers are completed
    /// for the era; everything else in `params` goes out as it is.
    ///
    /// # Errors
    /// [`WireError`] if there is neither; never [`WireError::Rpc`].
    pub async fn request(&self, method: &str, params: RawObject) -> Result<Outcome, WireError> {
        let params = self.prepare(params);
        let outcome = self.ask(method, &params).await?;
        if method != TOOLS_CALL || self.era() == Era::Legacy || code_of(&outcome) != Some(HEADER_MISMATCH) {
            return Ok(outcome);
        }
        // The annotations may have changed since the last list (2026-07-28, Streamable HTTP, Client Behavior). Refused
        // before it was carried out, so made again, if there is anything to make differently.
        let tool = member_text(&params, "name").unwrap_or_default();
        let before = self.mirrors.of(&tool);
        if self.list_tools().await.is_err() || self.mirrors.of(&tool) == before {
            return Ok(outcome);
        }
        self.ask(method, &params).await
    }

    /// Ends the session: a legacy one with an id is deleted, best effort and bounded; a modern one needs nothing.
    pub async fn close(&self) {
        if let Kind::Legacy(session) = &self.kind {
            session.close().await;
        }
    }

    fn prepare(&self, params: RawObject) -> Box<RawValue> {
        match self.kind {
            Kind::Modern { .. } => meta::modern(params),
            Kind::Legacy(_) => meta::legacy(params),
        }
    }

    async fn ask(&self, method: &str, params: &RawValue) -> Result<Outcome, WireError> {
        let id = self.ids.next();
        let body = request_bytes(&id, method, Some(params));
        match &self.kind {
            Kind::Modern { proven } => {
                let headers = self.headers(method, params);
                let reply = ask(&self.transport, &headers, None, &id, body).await;
                judge_modern(proven, method, reply)
            }
            Kind::Legacy(session) => {
                let guard = session.cancel_on_drop(&id);
                let headers = session.headers();
                let reply = ask(&self.transport, headers, Some(headers), &id, body).await;
                guard.disarm();
                judge_legacy(session, reply)
            }
        }
    }

    fn headers(&self, method: &str, params: &RawValue) -> HeaderMap {
        let mut headers = modern_headers(method);
        let Some(member) = name_member(method) else { return headers };
        let Ok(params) = RawObject::parse(params) else { return headers };
        let Some(name) = params.get_str(member) else { return headers };
        headers.insert(NAME_HEADER, encode_header_value(&name));
        if method == TOOLS_CALL
            && let Some(mirrors) = self.mirrors.of(&name)
        {
            mirror::add_headers(&mirrors, params.get("arguments"), &mut headers);
        }
        headers
    }
}

/// What a modern answer means. Only until the server has proven to be modern, a refusal may mean that it is not.
fn judge_modern(proven: &AtomicBool, method: &str, reply: Result<Reply, WireError>) -> Result<Outcome, WireError> {
    let may_be_legacy = !proven.load(Ordering::Relaxed);
    match reply {
        Ok(Reply { status, outcome: Outcome::Error(error), .. }) => {
            let legacy = speaks_other_versions(&error)
                || RpcError::parse(&error).is_none_or(|rpc| refused_as_legacy(status, method, &rpc));
            if may_be_legacy && legacy {
                return Err(WireError::WrongEra);
            }
            if !legacy && RpcError::parse(&error).is_some_and(|rpc| is_modern_error(rpc.code)) {
                proven.store(true, Ordering::Relaxed);
            }
            Ok(Outcome::Error(error))
        }
        Ok(reply) => {
            proven.store(true, Ordering::Relaxed);
            Ok(reply.outcome)
        }
        Err(WireError::Status { status, .. }) if may_be_legacy && speaks_of_the_request(status) => {
            Err(WireError::WrongEra)
        }
        Err(error) => Err(error),
    }
}

/// Whether a legacy server refuses a modern request with such an error: an unknown method, a missing session or
/// handshake, or anything at a 4xx status that is no error of the modern era.
fn refused_as_legacy(status: StatusCode, method: &str, error: &RpcError) -> bool {
    // A request that names a tool, prompt or resource may have been carried out: only a refusal that plainly came before
    // that is no question of era. A tool's own failure must never be taken for one, since the call would be sent again.
    let names_something = name_member(method).is_some();
    match error.code {
        code if is_modern_error(code) => false,
        METHOD_NOT_FOUND => true,
        INVALID_PARAMS => !names_something || status.is_client_error(),
        _ if names_something => status.is_client_error() && speaks_of_session(&error.message),
        INVALID_REQUEST | -32019..=-32000 => true,
        _ => status.is_client_error() || speaks_of_session(&error.message),
    }
}

/// What a legacy answer means.
fn judge_legacy(session: &LegacySession, reply: Result<Reply, WireError>) -> Result<Outcome, WireError> {
    match reply {
        Ok(Reply { status, outcome: Outcome::Error(error), .. }) => {
            let rpc = RpcError::parse(&error);
            if rpc.as_ref().is_some_and(|rpc| is_modern_error(rpc.code)) {
                return Err(WireError::WrongEra);
            }
            if session.has_id() && rpc.is_some_and(|rpc| says_session_lost(status, &rpc)) {
                session.lost();
                return Err(WireError::SessionLost);
            }
            Ok(Outcome::Error(error))
        }
        Ok(reply) => Ok(reply.outcome),
        Err(WireError::Status { status: StatusCode::NOT_FOUND, .. }) if session.has_id() => {
            session.lost();
            Err(WireError::SessionLost)
        }
        Err(error) => Err(error),
    }
}

/// The specification says 404; the reference servers add an error, and some give it with 400.
fn says_session_lost(status: StatusCode, error: &RpcError) -> bool {
    match status {
        StatusCode::NOT_FOUND => error.code == SESSION_NOT_FOUND || speaks_of_session(&error.message),
        StatusCode::BAD_REQUEST => (-32099..=-32000).contains(&error.code) && speaks_of_session(&error.message),
        _ => false,
    }
}

fn speaks_of_session(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("session") || message.contains("initializ")
}

/// Whether a status without a JSON-RPC error refuses this kind of request, and not its sender, its rate or its time.
fn speaks_of_the_request(status: StatusCode) -> bool {
    status.is_client_error()
        && !matches!(
            status,
            StatusCode::UNAUTHORIZED
                | StatusCode::FORBIDDEN
                | StatusCode::PROXY_AUTHENTICATION_REQUIRED
                | StatusCode::REQUEST_TIMEOUT
                | StatusCode::GONE
                | StatusCode::TOO_MANY_REQUESTS
        )
}

fn code_of(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Result(_) => None,
        Outcome::Error(error) => RpcError::parse(error).map(|error| error.code),
    }
}

fn member_text(params: &RawValue, key: &str) -> Option<String> {
    RawObject::parse(params).ok()?.get(key).and_then(raw::as_text)
}
