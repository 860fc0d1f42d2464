//! The one session of a connector: opened once by whoever needs it first, shared by all, replaced when it is lost.
//!
//! Opening goes on when the caller that began it goes away, under a deadline of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::log_wishes;
use crate::edge::http::HttpError;
use crate::mcp::{Declared, Era, Session, Upstream, WireError};
use crate::model::{Failure, FailureClass, ListKind, Offer, Severity};

/// A connector's session.
pub(super) struct SessionSlot {
    upstream: Arc<Upstream>,
    connect_timeout: Duration,
    declared: Declared,
    /// Cancelled when the former connector of this name has left, where two must not be there at once.
    former: Option<CancellationToken>,
    inner: Mutex<Slot>,
    /// The session that is open, for whoever goes along with it.
    current: watch::Sender<Option<Arc<Session>>>,
    /// Touched when somebody learned what the session's server has.
    learned: watch::Sender<()>,
}

struct Slot {
    state: SlotState,
    /// What was found out.
    era: Option<Era>,
    /// The same, unless that may have been a passing failure: what the next session is opened in.
    remembered: Option<Era>,
    /// What the operator says; nothing is found out then.
    pinned: Option<Era>,
    /// Whether a session was lost since the list was last fetched.
    lost: bool,
    /// Whether the connector has left: a session that opens now is closed at once.
    closed: bool,
    /// The offer in force: calls to a modern server mirror what its tools' definitions annotate.
    offer: Option<Offer>,
    /// The least severe log messages that the session's client wants, for sessions that are opened from now on.
    log_level: Option<Severity>,
}

enum SlotState {
    Closed,
    Opening(Opening),
    Open(Arc<Session>),
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Session>, Failure>>>;

impl SessionSlot {
    /// No session yet; the era of the last one is remembered. `declared` is what a legacy server is told about the client.
    pub(super) fn new(upstream: Upstream, connect_timeout: Duration, era: Option<Era>, declared: Declared) -> Self {
        Self::with(Arc::new(upstream), connect_timeout, era, None, declared)
    }

    /// Another session with the same server, of a client of its own.
    pub(super) fn for_client(&self, declared: Declared) -> Self {
        let (era, offer) = (self.era(), self.offer());
        Self::with(self.upstream.clone(), self.connect_timeout, era, offer, declared)
    }

    fn with(
        upstream: Arc<Upstream>,
        connect_timeout: Duration,
        era: Option<Era>,
        offer: Option<Offer>,
        declared: Declared,
    ) -> Self {
        let slot = Slot {
            state: SlotState::Closed,
            era,
            remembered: era,
            pinned: None,
            lost: false,
            closed: false,
            offer,
            log_level: None,
        };
        let (current, learned) = (watch::Sender::new(None), watch::Sender::new(()));
        Self { upstream, connect_timeout, declared, former: None, inner: Mutex::new(slot), current, learned }
    }

    /// No session is opened before `former` is cancelled, which its owner bounds.
    pub(super) fn after(self, former: Option<CancellationToken>) -> Self {
        Self { former, ..self }
    }

    /// The session that is open, and every one that takes its place.
    pub(super) fn sessions(&self) -> watch::Receiver<Option<Arc<Session>>> {
        self.current.subscribe()
    }

    /// The session that is open now.
    pub(super) fn open_session(&self) -> Option<Arc<Session>> {
        self.current.borrow().clone()
    }

    /// What the session's server has may be known from now on.
    pub(super) fn note_learned(&self) {
        self.learned.send_replace(());
    }

    /// Tells when [`Self::note_learned`] is called.
    pub(super) fn learning(&self) -> watch::Receiver<()> {
        self.learned.subscribe()
    }

    /// Sessions that are opened from now on are told which log messages are wanted.
    pub(super) fn set_log_level(&self, level: Severity) {
        self.lock().log_level = Some(level);
    }

    /// The era that the server was last found to speak, or is said to.
    pub(super) fn era(&self) -> Option<Era> {
        let slot = self.lock();
        slot.pinned.or(slot.era)
    }

    /// The same, where it need not be asked for again: what may be kept beyond this process.
    pub(super) fn era_to_keep(&self) -> Option<Era> {
        let slot = self.lock();
        slot.pinned.or(slot.remembered)
    }

    /// The operator says which era the server speaks, or nothing; for sessions that are opened from now on.
    pub(super) fn pin(&self, era: Option<Era>) {
        self.lock().pinned = era;
    }

    /// The server was found to be of another era by a session elsewhere: whatever is open here is over too.
    pub(super) fn forget_era(&self) {
        match self.open_session() {
            Some(session) => self.forget(&session, &WireError::WrongEra),
            None => {
                let mut slot = self.lock();
                (slot.era, slot.remembered) = (None, None);
            }
        }
    }

    /// Notes the offer in force, for sessions that are opened without listing.
    pub(super) fn remember(&self, offer: Option<Offer>) {
        self.lock().offer = offer;
    }

    /// The offer in force.
    pub(super) fn offer(&self) -> Option<Offer> {
        self.lock().offer.clone()
    }

    /// The session, opened if need be.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, Failure> {
        let opening = {
            let mut slot = self.lock();
            match &slot.state {
                SlotState::Open(session) => return Ok(session.clone()),
                SlotState::Opening(opening) => opening.clone(),
                SlotState::Closed => {
                    let opening = self.clone().open(slot.pinned.or(slot.remembered), slot.pinned.is_some());
                    slot.state = SlotState::Opening(opening.clone());
                    opening
                }
            }
        };
        opening.await
    }

    /// Forgets `session` after it was lost; with `WrongEra` the era too.
    pub(super) fn forget(&self, session: &Arc<Session>, error: &WireError) {
        let mut slot = self.lock();
        if matches!(&slot.state, SlotState::Open(current) if Arc::ptr_eq(current, session)) {
            slot.state = SlotState::Closed;
            slot.lost = true;
            if matches!(error, WireError::WrongEra) {
                (slot.era, slot.remembered) = (None, None);
            }
            self.current.send_replace(None);
        }
    }

    /// Whether a session was lost since the last time this was asked.
    pub(super) fn take_lost(&self) -> bool {
        std::mem::take(&mut self.lock().lost)
    }

    /// Closes the session, if there is one, and waits for what runs on behind it: the connector leaves.
    pub(super) async fn close(&self) {
        self.close_session().await;
        self.upstream.close(super::limits::CLOSE_TIMEOUT).await;
    }

    /// Closes the session, if there is one; none is opened any more.
    pub(super) async fn close_session(&self) {
        let state = {
            let mut slot = self.lock();
            slot.closed = true;
            self.current.send_replace(None);
            std::mem::replace(&mut slot.state, SlotState::Closed)
        };
        if let SlotState::Opening(opening) = &state {
            // Its task sees that the slot is closed, and closes what it opened.
            let _ = tokio::time::timeout(super::limits::CLOSE_TIMEOUT, opening.clone()).await;
        }
        if let SlotState::Open(session) = state {
            // Closing is a courtesy to the server.
            let _ = tokio::time::timeout(super::limits::CLOSE_TIMEOUT, session.close()).await;
        }
    }

    fn open(self: Arc<Self>, era: Option<Era>, pinned: bool) -> Opening {
        let slot = self.clone();
        // A task of its own: whoever asked first may go away, the others still wait for it. It ends by its deadline.
        let task = tokio::spawn(async move {
            if let Some(former) = &self.former {
                former.cancelled().await;
                if self.lock().closed {
                    return Err(Failure::new(FailureClass::Refused, "the connector has left"));
                }
            }
            let opened = match era {
                Some(era) => match self.attempt(Some(era)).await {
                    Err(WireError::WrongEra) if !pinned => self.attempt(None).await,
                    other => other,
                },
                None => self.attempt(None).await,
            };
            let session = match opened {
                Ok(session) => Arc::new(session),
                Err(error) => {
                    self.lock().state = SlotState::Closed;
                    return Err(error.failure());
                }
            };
            self.say_log_level(&session).await;
            if self.put(&session) {
                return Ok(session);
            }
            session.close().await;
            Err(Failure::new(FailureClass::Refused, "the connector has left"))
        });
        let opening: BoxFuture<'static, _> = Box::pin(async move {
            task.await.unwrap_or_else(|_| {
                slot.lock().state = SlotState::Closed;
                Err(Failure::new(FailureClass::Server, "opening the session failed"))
            })
        });
        opening.shared()
    }

    /// Puts a session in, unless the slot was closed meanwhile.
    fn put(&self, session: &Arc<Session>) -> bool {
        let mut slot = self.lock();
        if slot.closed {
            return false;
        }
        (slot.era, slot.remembered) = (Some(session.era()), session.era_to_remember());
        let tools = slot.offer.iter().flat_map(|offer| offer.list(ListKind::Tools).items());
        session.remember_tools(tools.map(|tool| &*tool.definition));
        slot.state = SlotState::Open(session.clone());
        self.current.send_replace(Some(session.clone()));
        true
    }

    /// What the client wants of the log is said before anything is asked. A server that does not take it serves all the same.
    async fn say_log_level(&self, session: &Session) {
        let level = self.lock().log_level;
        if let Some(level) = level {
            log_wishes::say(session, level).await;
        }
    }

    async fn attempt(&self, era: Option<Era>) -> Result<Session, WireError> {
        let opening = self.upstream.open(era, &self.declared);
        tokio::time::timeout(self.connect_timeout, opening).await.unwrap_or(Err(WireError::Http(HttpError::Timeout)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
