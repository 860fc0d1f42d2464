//! The sessions that legacy clients have of their own with one connector, as the connector knows them: it grants them
//! places, takes back the place that was unused for the longest when there is none, and ends all of them when it leaves.
//!
//! A client holds its session; the connector only points to it. Nothing here opens a session or makes a call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::limits::{OWN_SESSION_IDLE_MIN, OWN_SESSIONS_MAX};
use super::own_stream::OwnStream;
use super::session_slot::SessionSlot;
use crate::edge::Edge;
use crate::mcp::{Interim, Session};
use crate::model::ConnectorId;

/// A session that a client has of its own with a connector, and its stream.
pub(super) struct OwnSlot {
    pub(super) slot: Arc<SessionSlot>,
    stream: Mutex<Option<OwnStream>>,
    /// How many questions its client is asked on that stream now.
    asking: Arc<watch::Sender<usize>>,
    usage: Mutex<Usage>,
    /// Held while its session is checked.
    pub(super) checking: Arc<Semaphore>,
}

struct Usage {
    calls: usize,
    last: Instant,
    /// Its place was taken back, or its connector has left: it is used no more.
    retired: bool,
}

/// A session of one's own while a call is under way on it. Its place is not taken back meanwhile.
pub(super) struct InUse(Arc<OwnSlot>);

/// Every such session of one connector.
#[derive(Default)]
pub(super) struct OwnSlots {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    slots: Vec<Weak<OwnSlot>>,
    closed: bool,
    /// How often a client was left without.
    refused: u64,
}

/// A place, and whoever had to make way for it.
pub(super) struct Granted {
    pub(super) slot: InUse,
    pub(super) evicted: Option<Arc<OwnSlot>>,
}

impl OwnSlot {
    fn new(slot: SessionSlot) -> Arc<Self> {
        let usage = Usage { calls: 0, last: Instant::now(), retired: false };
        let asking = Arc::new(watch::Sender::new(0));
        Arc::new(Self {
            slot: Arc::new(slot),
            stream: Mutex::default(),
            asking,
            usage: Mutex::new(usage),
            checking: Arc::new(Semaphore::new(1)),
        })
    }

    /// How many questions its client is asked beside the answers of its calls.
    pub(super) fn asking(&self) -> watch::Receiver<usize> {
        self.asking.subscribe()
    }

    /// Uses it for a call, unless it is used no more.
    pub(super) fn enter(self: &Arc<Self>) -> Option<InUse> {
        let mut usage = self.usage();
        if usage.retired {
            return None;
        }
        usage.calls += 1;
        Some(InUse(self.clone()))
    }

    /// Sees to it that a session's stream is open, or can not be. What comes on it goes to `messages`, until `ended`.
    /// Bounded by [`super::limits::OWN_STREAM_PATIENCE`].
    pub(super) async fn listen(
        &self,
        session: &Arc<Session>,
        messages: &Arc<dyn Interim>,
        edge: &Edge,
        ended: &CancellationToken,
    ) {
        let settled = {
            let mut stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner);
            if self.usage().retired {
                return;
            }
            if !stream.as_ref().is_some_and(|stream| stream.is_of(session)) {
                *stream =
                    Some(OwnStream::open(session, messages.clone(), self.asking.clone(), edge.clone(), ended.clone()));
            }
            stream.as_ref().map(OwnStream::settled)
        };
        if let Some(settled) = settled {
            settled.await;
        }
    }

    /// Hangs up and ends the session; it is used no more. Bounded by [`super::limits::CLOSE_TIMEOUT`].
    pub(super) async fn close(&self) {
        self.usage().retired = true;
        let stream = self.stream.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(stream) = stream {
            stream.end().await;
        }
        self.slot.close_session().await;
    }

    fn usage(&self) -> MutexGuard<'_, Usage> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::ops::Deref for InUse {
    type Target = OwnSlot;

    fn deref(&self) -> &OwnSlot {
        &self.0
    }
}

impl InUse {
    /// For whoever holds it between calls.
    pub(super) fn shared(&self) -> Arc<OwnSlot> {
        self.0.clone()
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut usage = self.0.usage();
        usage.calls = usage.calls.saturating_sub(1);
        usage.last = Instant::now();
    }
}

impl OwnSlots {
    /// A place for a session of one's own, if need be that of the session which was unused for the longest, and for
    /// [`OWN_SESSION_IDLE_MIN`] at least. None if the connector has left, or if all of them are in use.
    pub(super) fn grant(&self, id: &ConnectorId, slot: impl FnOnce() -> SessionSlot) -> Option<Granted> {
        let mut inner = self.lock();
        inner.slots.retain(|slot| slot.strong_count() > 0);
        if inner.closed {
            return None;
        }
        let mut evicted = None;
        if inner.slots.len() >= OWN_SESSIONS_MAX {
            evicted = inner.evict();
            if evicted.is_none() {
                inner.refused += 1;
                // Once for each doubling: whoever comes too late may come often.
                if inner.refused.is_power_of_two() {
                    let refused = inner.refused;
                    tracing::warn!(connector = %id, refused, "clients share its session: it has no place for their own");
                }
                return None;
            }
            tracing::debug!(connector = %id, "the session of the client that was idle for the longest makes way");
        }
        let slot = OwnSlot::new(slot());
        let in_use = slot.enter()?;
        inner.slots.push(Arc::downgrade(&slot));
        Some(Granted { slot: in_use, evicted })
    }

    /// Grants no more.
    pub(super) fn leave(&self) {
        self.lock().closed = true;
    }

    /// Ends every one, and grants no more. Bounded by [`super::limits::CLOSE_TIMEOUT`].
    pub(super) async fn close(&self) {
        let slots = {
            let mut inner = self.lock();
            inner.closed = true;
            std::mem::take(&mut inner.slots)
        };
        let slots: Vec<Arc<OwnSlot>> = slots.iter().filter_map(Weak::upgrade).collect();
        futures_util::future::join_all(slots.iter().map(|slot| slot.close())).await;
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Takes back the place of the session that no call uses, and none has used for the longest.
    fn evict(&mut self) -> Option<Arc<OwnSlot>> {
        let unused = self.slots.iter().enumerate().filter_map(|(at, slot)| {
            let slot = slot.upgrade()?;
            let last = {
                let usage = slot.usage();
                (usage.calls == 0 && usage.last.elapsed() >= OWN_SESSION_IDLE_MIN).then_some(usage.last)?
            };
            Some((last, at, slot))
        });
        let (_, at, slot) = unused.min_by_key(|(last, at, _)| (*last, *at))?;
        {
            let mut usage = slot.usage();
            // Its client may have come back this very moment.
            if usage.calls > 0 {
                return None;
            }
            usage.retired = true;
        }
        self.slots.remove(at);
        Some(slot)
    }
}
