//! Who makes a call: where its messages go, and whether it has sessions of its own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;

use super::handle::Handle;
use super::limits;
use super::log_wishes;
use super::own_slot::{Granted, InUse, OwnSlot};
use crate::mcp::{Declared, Era, Interim, Nobody, Session, TraceContext};
use crate::model::{ConnectorId, Severity};

/// Who makes a call.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Takes what the server says on the way, and answers what it asks.
    pub interim: &'a dyn Interim,
    /// The sessions that a legacy client has of its own, if it can do more than wait for an answer.
    pub own: Option<&'a OwnSessions>,
    /// The trace context of the client's request.
    pub trace: Option<&'a TraceContext>,
    /// Cancelled when nothing reads the answer any more; none: the caller drops the call then. A call that is not sent by
    /// then is not sent at all.
    pub disconnected: Option<&'a CancellationToken>,
}

impl Caller<'_> {
    /// Whether nothing reads the answer any more.
    pub(super) fn is_disconnected(&self) -> bool {
        self.disconnected.is_some_and(CancellationToken::is_cancelled)
    }

    /// Returns when nothing reads the answer any more.
    pub(super) async fn disconnected(&self) {
        match self.disconnected {
            Some(disconnected) => disconnected.cancelled().await,
            None => std::future::pending().await,
        }
    }
}

impl Default for Caller<'_> {
    /// Somebody who wants the answer and nothing else.
    fn default() -> Self {
        Self { interim: &Nobody, own: None, trace: None, disconnected: None }
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
    slot: Arc<OwnSlot>,
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
    pub(super) async fn listen(&self, handle: &Handle, slot: &OwnSlot, session: &Arc<Session>) {
        if let Some(messages) = &self.messages {
            slot.listen(session, messages, &handle.edge, &handle.ended).await;
        }
    }

    /// The client's own session with a connector, where it is to have one; it lasts at least as long as what is returned.
    pub(super) fn slot(&self, handle: &Arc<Handle>) -> Option<InUse> {
        let shared = handle.slot.as_ref().ok()?;
        if shared.era() != Some(Era::Legacy) || !handle.has_own_sessions() {
            return None;
        }
        let mut open = self.lock();
        if open.closed {
            return None;
        }
        let own = open.slots.get(&handle.id).filter(|own| std::ptr::eq(own.of.as_ptr(), Arc::as_ptr(handle)));
        if let Some(slot) = own.and_then(|own| own.slot.enter()) {
            return Some(slot);
        }
        // Without a place the shared session answers, which declares less.
        let granted = handle.own.grant(&handle.id, || {
            let slot = shared.for_client(self.declared.clone());
            if let Some(level) = open.log_level {
                slot.set_log_level(level);
            }
            slot
        });
        let Granted { slot, evicted } = granted?;
        let own = Own { of: Arc::downgrade(handle), slot: slot.shared() };
        let former = open.slots.insert(handle.id.clone(), own).map(|former| former.slot);
        for one in former.into_iter().chain(evicted) {
            handle.calls.spawn(async move { one.close().await });
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
            open.slots.values().for_each(|own| own.slot.slot.set_log_level(level));
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
        let closing = slots.values().map(|own| own.slot.close());
        drop(tokio::time::timeout(limits::CLOSE_TIMEOUT, futures_util::future::join_all(closing)).await);
    }
}

impl OwnSessions {
    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// The sessions that are open.
    fn sessions(&self) -> Vec<Arc<Session>> {
        self.slots.values().filter_map(|own| own.slot.slot.open_session()).collect()
    }
}

impl std::fmt::Debug for OwnSessions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let open = self.lock();
        formatter.debug_set().entries(open.slots.keys()).finish()
    }
}
