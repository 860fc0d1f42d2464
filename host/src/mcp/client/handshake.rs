//! The legacy handshake and the session that it opens (2025-11-25, `basic/lifecycle` and `basic/transports`).
//!
//! A session that was opened is closed again, whatever becomes of the future that opened it: by
//! [`LegacySession::close`], else in the background when it is dropped. Capabilities are declared as `{}`, always,
//! because legacy lists depend on them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, HeaderValue};
use serde_json::value::RawValue;

use super::exchange::{ask, tell};
use super::meta;
use super::transport::Transport;
use crate::mcp::envelope::{Outcome, RequestId, RpcError, notification_bytes, request_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::limits::TIDYING_DEADLINE;
use crate::mcp::protocol::{
    CANCELLED, INITIALIZE, INITIALIZED, LEGACY_VERSIONS, PROTOCOL_VERSION_HEADER, SESSION_HEADER, VERSION_2025_03_26,
    VERSION_2025_11_25,
};
use crate::model::raw::{self, RawObject};

/// A legacy session: the version and the id that every request of it carries.
#[derive(Debug)]
pub(super) struct LegacySession {
    transport: Arc<Transport>,
    headers: HeaderMap,
    version: &'static str,
    open: AtomicBool,
}

/// What `initialize` was answered with.
#[derive(Debug)]
pub(super) struct Initialized {
    pub(super) session: LegacySession,
    pub(super) server_info: Option<Box<RawValue>>,
}

/// Sends `initialize`. The notification that must follow is [`LegacySession::confirm`].
///
/// # Errors
/// [`WireError`]; a version that we do not speak is [`ProtocolFault::UnsupportedVersion`].
pub(super) async fn initialize(transport: Arc<Transport>, id: RequestId) -> Result<Initialized, WireError> {
    let mut params = RawObject::new();
    params.set("protocolVersion", raw::string(VERSION_2025_11_25));
    params.set("capabilities", raw::empty_object());
    params.set("clientInfo", meta::client_info());
    let body = request_bytes(&id, INITIALIZE, Some(&params.to_raw()));
    let reply = ask(&transport, &HeaderMap::new(), None, &id, body).await?;
    let mut session = LegacySession {
        transport,
        headers: HeaderMap::new(),
        version: VERSION_2025_11_25,
        open: AtomicBool::new(true),
    };
    // From here on, dropping `session` closes it.
    if let Some(session_id) = reply.headers.get(SESSION_HEADER) {
        session.headers.insert(SESSION_HEADER, session_id.clone());
    }
    let result = match reply.outcome {
        Outcome::Result(result) => RawObject::parse(&result).map_err(|_| ProtocolFault::Handshake)?,
        Outcome::Error(error) => return Err(rpc_error(&error)),
    };
    let version = result.get_str("protocolVersion").ok_or(ProtocolFault::Handshake)?;
    let version = LEGACY_VERSIONS.into_iter().find(|known| *known == version);
    session.version = version.ok_or(ProtocolFault::UnsupportedVersion)?;
    // 2025-03-26 has no version header, and its servers take its absence for that version.
    if session.version != VERSION_2025_03_26 {
        session.headers.insert(PROTOCOL_VERSION_HEADER, HeaderValue::from_static(session.version));
    }
    let server_info = result.get("serverInfo").filter(|info| raw::is_object(info)).map(ToOwned::to_owned);
    Ok(Initialized { session, server_info })
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

    /// Ends the handshake; nothing else may be asked before this returns.
    ///
    /// # Errors
    /// [`WireError`] if the server refuses.
    pub(super) async fn confirm(&self) -> Result<(), WireError> {
        tell(&self.transport, &self.headers, notification_bytes(INITIALIZED, None)).await
    }

    /// Notes that the server forgot the session, so that nobody closes it.
    pub(super) fn lost(&self) {
        self.open.store(false, Ordering::Relaxed);
    }

    /// Deletes the session, best effort, once.
    pub(super) async fn close(&self) {
        if self.open.swap(false, Ordering::Relaxed) && self.has_id() {
            let deleting = self.transport.delete(&self.headers);
            drop(tokio::time::timeout(TIDYING_DEADLINE, deleting).await);
        }
    }

    /// Tells the server that a request is no longer wanted, unless the guard is disarmed before it is dropped.
    pub(super) fn cancel_on_drop<'a>(&'a self, id: &'a RequestId) -> CancelOnDrop<'a> {
        CancelOnDrop { session: self, id, armed: true }
    }
}

impl Drop for LegacySession {
    fn drop(&mut self) {
        if *self.open.get_mut() && self.has_id() {
            let (transport, headers) = (self.transport.clone(), std::mem::take(&mut self.headers));
            let background = transport.clone();
            background.in_background(async move { transport.delete(&headers).await.map(drop) });
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
            let (transport, headers) = (self.session.transport.clone(), self.session.headers.clone());
            let body = notification_bytes(CANCELLED, Some(&params));
            let background = transport.clone();
            background.in_background(async move { tell(&transport, &headers, body).await });
        }
    }
}
