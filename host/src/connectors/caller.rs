//! Who makes a call: where its messages go, and whether it has sessions of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::value::RawValue;
use tokio::sync::OwnedSemaphorePermit;

use super::handle::Handle;
use super::limits;
use super::log_wishes::{self, Severity};
use super::own_stream::OwnStream;
use super::session_slot::SessionSlot;
use crate::mcp::{Declared, Era, Interim, Nobody, Session};
use crate::model::ConnectorId;

/// Who makes a call.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Takes what the server says on the way, and answers what it asks.
    pub interim: &'a dyn Interim,
    /// The sessions that a legacy client has of its own, if it can do more than wait for an answer.
    pub own: Option<&'a OwnSessions>,
}

impl Default for Caller<'_> {
    /// Somebody who wants the answer and nothing else.
    fn default() -> Self {
        Self { interim: &Nobody, own: None }
    }
}

/// The sessions that one legacy client has of its own, one with each legacy server that it calls: there the server is told
/// what this very client can do, and what it asks is asked of this client. They are opened on first use.
///
/// Servers that are modern need none, and child processes are shared: their one session declares nothing.
pub struct OwnSessions {
    declared: Declared,
    /// Takes what servers say and ask besides their answers; without, they have no stream for it.
    messages: Option<Arc<dyn Interim>>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    slots: HashMap<ConnectorId, Own>,
    closed: bool,
    /// The least severe log messages that the client wants, once it said so.
    log_level: Option<Severity>,
}

struct Own {
    /// The connector as it was then: one that was rebuilt since is another one.
    of: Weak<Handle>,
    slot: Arc<SessionSlot>,
    /// The stream of the session that is open.
    stream: Option<OwnStream>,
    _place: OwnedSemaphorePermit,
}

impl OwnSessions {
    /// None yet, for a client that declares this.
    pub fn new(declared: Declared) -> Self {
        Self { declared, messages: None, open: Mutex::default() }
    }

    /// The same, whose servers may also say and ask something besides their answers, which goes to `messages`.
    #[must_use]
    pub fn with_messages(self, messages: Arc<dyn Interim>) -> Self {
        Self { messages: Some(messages), ..self }
    }

    /// Sees to it that a session's stream is open, or can not be. Bounded by [`limits::OWN_STREAM_PATIENCE`].
    pub(super) async fn listen(&self, id: &ConnectorId, session: &Arc<Session>) {
        let Some(messages) = &self.messages else { return };
        let settled = {
            let mut open = self.lock();
            let Some(own) = open.slots.get_mut(id) else { return };
            if !own.stream.as_ref().is_some_and(|stream| stream.is_of(session)) {
                own.stream = Some(OwnStream::open(session, messages.clone()));
            }
            own.stream.as_ref().map(OwnStream::settled)
        };
        if let Some(settled) = settled {
            settled.await;
        }
    }

    /// The client's own session with a connector, where it is to have one.
    pub(super) fn slot(&self, handle: &Arc<Handle>) -> Option<Arc<SessionSlot>> {
        let shared = handle.slot.as_ref().ok()?;
        if shared.era() != Some(Era::Legacy) || !handle.has_own_sessions() {
            return None;
        }
        let mut open = self.lock();
        if open.closed {
            return None;
        }
        if let Some(own) = open.slots.get(&handle.id).filter(|own| std::ptr::eq(own.of.as_ptr(), Arc::as_ptr(handle))) {
            return Some(own.slot.clone());
        }
        // Without a place the shared session answers, which declares less.
        let place = handle.own_places.clone().try_acquire_owned().ok()?;
        let slot = Arc::new(shared.for_client(self.declared.clone()));
        if let Some(level) = open.log_level {
            slot.set_log_level(level);
        }
        let own = Own { of: Arc::downgrade(handle), slot: slot.clone(), stream: None, _place: place };
        if let Some(former) = open.slots.insert(handle.id.clone(), own) {
            handle.calls.spawn(former.close());
        }
        Some(slot)
    }

    /// The client wants log messages of this level (RFC 5424's names) and above: its open sessions are told, and those that
    /// are opened later. Best effort and bounded; a level of no known name changes nothing.
    pub async fn set_log_level(&self, level: &str) {
        let Some(level) = Severity::named(level) else { return };
        let sessions = {
            let mut open = self.lock();
            open.log_level = Some(level);
            open.slots.values().for_each(|own| own.slot.set_log_level(level));
            open.sessions()
        };
        let telling = sessions.iter().map(|session| log_wishes::say(session, level));
        futures_util::future::join_all(telling).await;
    }

    /// Passes a notification of the client on to every session that is open, best effort and bounded.
    pub async fn tell(&self, method: &str, params: Option<&RawValue>) {
        let sessions = self.lock().sessions();
        let telling = sessions.iter().map(|session| {
            // A server that does not take it does without.
            tokio::time::timeout(limits::WISH_TIMEOUT, session.tell(method, params))
        });
        futures_util::future::join_all(telling).await;
    }

    /// Ends all of them, best effort and bounded; none is opened any more.
    pub async fn close(&self) {
        let slots = {
            let mut open = self.lock();
            open.closed = true;
            std::mem::take(&mut open.slots)
        };
        let closing = slots.into_values().map(Own::close);
        drop(tokio::time::timeout(limits::CLOSE_TIMEOUT, futures_util::future::join_all(closing)).await);
    }
}

impl OwnSessions {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Own {
    async fn close(self) {
        if let Some(stream) = self.stream {
            stream.end().await;
        }
        self.slot.close_session().await;
    }
}

impl Open {
    /// The sessions that are open.
    fn sessions(&self) -> Vec<Arc<Session>> {
        self.slots.values().filter_map(|own| own.slot.open_session()).collect()
    }
}

impl std::fmt::Debug for OwnSessions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.lock();
        formatter.debug_set().entries(open.slots.keys()).finish()
    }
}
