//! The legacy handshake and the session that it opens (2025-11-25, `basic/lifecycle` and `basic/transports`).
//!
//! A session that was opened is closed again, whatever becomes of the future that opened it: by
//! [`LegacySession::close`], else in the background when it is dropped. What is declared is the caller's to say: a session
//! that many clients share declares nothing, because legacy lists depend on it.

use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderValue};
use serde_json::value::RawValue;

use super::facts::ServerFacts;
use super::link::Link;
use super::meta;
use super::stream::{Purpose, Way};
use crate::mcp::envelope::{Outcome, RequestId, RpcError, notification_bytes, request_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::interim::Nobody;
use crate::mcp::limits::TIDYING_DEADLINE;
use crate::mcp::protocol::{
    CANCELLED, INITIALIZE, INITIALIZED, LEGACY_VERSIONS, PROTOCOL_VERSION_HEADER, SESSION_HEADER, VERSION_2024_11_05,
    VERSION_2025_03_26, VERSION_2025_11_25,
};
use crate::model::raw::{self, RawObject};

/// A legacy session: the version and the id that every request of it carries.
#[derive(Debug)]
pub(super) struct LegacySession {
    link: Link,
    headers: HeaderMap,
    version: &'static str,
    open: AtomicBool,
    /// Whether the server has answered a request of the session.
    answered: AtomicBool,
}

/// What `initialize` was answered with.
#[derive(Debug)]
pub(super) struct Initialized {
    pub(super) session: LegacySession,
    pub(super) facts: ServerFacts,
}

/// What a client says of itself when it opens a legacy session.
#[derive(Clone, Debug)]
pub struct Declared {
    /// What it can do: an object.
    pub capabilities: Box<RawValue>,
    /// Who it is; none: this gateway.
    pub info: Option<Box<RawValue>>,
}

impl Default for Declared {
    /// Nothing, for a session that many clients share.
    fn default() -> Self {
        Self { capabilities: raw::empty_object(), info: None }
    }
}

impl Declared {
    /// Whether the client can do nothing that a server could ask of it.
    pub(super) fn is_nothing(&self) -> bool {
        RawObject::parse(&self.capabilities).is_ok_and(|capabilities| capabilities.is_empty())
    }
}

/// Sends `initialize`. The notification that must follow is [`LegacySession::confirm`].
///
/// # Errors
/// [`WireError`]; a version that we do not speak is [`ProtocolFault::UnsupportedVersion`].
pub(super) async fn initialize(link: Link, id: RequestId, declared: &Declared) -> Result<Initialized, WireError> {
    let mut params = RawObject::new();
    params.set("protocolVersion", raw::string(VERSION_2025_11_25));
    params.set("capabilities", declared.capabilities.clone());
    params.set("clientInfo", declared.info.clone().unwrap_or_else(meta::client_info));
    let body = request_bytes(&id, INITIALIZE, Some(&params.to_raw()));
    let way = Way { interim: &Nobody, back: None, purpose: Purpose::Answer };
    let reply = link.ask(&HeaderMap::new(), way, &id, body).await?;
    // From here on, dropping `session` closes it. A pipe holds none before the server accepts one: where it refuses, it may be
    // asked the other question on the same pipe.
    let open = AtomicBool::new(!link.is_shared_stream());
    let mut session = LegacySession {
        link,
        headers: HeaderMap::new(),
        version: VERSION_2025_11_25,
        open,
        answered: AtomicBool::new(false),
    };
    if let Some(session_id) = reply.headers.get(SESSION_HEADER) {
        session.headers.insert(SESSION_HEADER, session_id.clone());
    }
    let result = match reply.outcome {
        Outcome::Result(result) => RawObject::parse(&result).map_err(|_| ProtocolFault::Handshake)?,
        Outcome::Error(error) => return Err(rpc_error(&error)),
    };
    let version = result.get_str("protocolVersion").ok_or(ProtocolFault::Handshake)?;
    let version = LEGACY_VERSIONS.iter().find(|known| **known == version).copied();
    session.version = version.ok_or(ProtocolFault::UnsupportedVersion)?;
    // Neither has a version header, and its absence means 2025-03-26 or older.
    if !matches!(session.version, VERSION_2025_03_26 | VERSION_2024_11_05) {
        session.headers.insert(PROTOCOL_VERSION_HEADER, HeaderValue::from_static(session.version));
    }
    *session.open.get_mut() = true;
    Ok(Initialized { session, facts: ServerFacts::of_initialize(&result) })
}

/// The error that an error object stands for.
pub(super) fn rpc_error(error: &RawValue) -> WireError {
    // An envelope with an unreadable error never gets this far.
    RpcError::parse(error).map_or(ProtocolFault::NotAResponse.into(), WireError::Rpc)
}

impl LegacySession {
    /// The negotiated version.
    pub(super) fn version(&self) -> &'static str {
        self.version
    }

    /// What every request of the session carries.
    pub(super) fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// Whether the server gave the session an id.
    pub(super) fn has_id(&self) -> bool {
        self.headers.contains_key(SESSION_HEADER)
    }

    /// Whether there is anything to end, or to lose: an id at the server, or a pipe.
    pub(super) fn holds_something(&self) -> bool {
        self.has_id() || self.link.is_shared_stream()
    }

    /// Whether the server has answered a request of the session, so that it knew the session then.
    pub(super) fn has_answered(&self) -> bool {
        self.answered.load(Ordering::Relaxed)
    }

    /// Notes that it has.
    pub(super) fn set_answered(&self) {
        self.answered.store(true, Ordering::Relaxed);
    }

    /// Ends the handshake; nothing else may be asked before this returns.
    ///
    /// # Errors
    /// [`WireError`] if the server refuses.
    pub(super) async fn confirm(&self) -> Result<(), WireError> {
        self.link.tell(&self.headers, notification_bytes(INITIALIZED, None)).await
    }

    /// Notes that the server forgot the session, so that nobody closes it.
    pub(super) fn lost(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Deletes the session, best effort, once.
    pub(super) async fn close(&self) {
        if self.open.swap(false, Ordering::Relaxed) && self.holds_something() {
            drop(tokio::time::timeout(TIDYING_DEADLINE, self.link.end(&self.headers)).await);
        }
    }

    /// Tells the server that a request is no longer wanted, unless the guard is disarmed before it is dropped. A pipe tells it
    /// by itself.
    pub(super) fn cancel_on_drop<'a>(&'a self, id: &'a RequestId) -> CancelOnDrop<'a> {
        CancelOnDrop { session: self, id, armed: !self.link.is_shared_stream() }
    }
}

impl Drop for LegacySession {
    fn drop(&mut self) {
        if *self.open.get_mut() && self.holds_something() {
            let (link, headers) = (self.link.clone(), std::mem::take(&mut self.headers));
            let background = link.clone();
            background.in_background(async move { link.end(&headers).await });
        }
    }
}

/// See [`LegacySession::cancel_on_drop`].
#[derive(Debug)]
pub(super) struct CancelOnDrop<'a> {
    session: &'a LegacySession,
    id: &'a RequestId,
    armed: bool,
}

impl CancelOnDrop<'_> {
    /// The request is answered.
    pub(super) fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        if self.armed {
            let params = raw::trusted(format!("{{\"requestId\":{}}}", self.id.as_json()));
            let (link, headers) = (self.session.link.clone(), self.session.headers.clone());
            let body = notification_bytes(CANCELLED, Some(&params));
            let background = link.clone();
            background.in_background(async move { link.tell(&headers, body).await });
        }
    }
}
