//! The one session of a connector: opened once by whoever needs it first, shared by all, replaced when it is lost.
//!
//! Opening goes on when the caller that began it goes away, under a deadline of its own.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::edge::http::HttpError;
use crate::mcp::{Era, Session, Upstream, WireError};
use crate::model::{Failure, FailureClass, ToolList};

/// A connector's session.
pub(super) struct SessionSlot {
    upstream: Arc<Upstream>,
    connect_timeout: Duration,
    inner: Mutex<Slot>,
}

struct Slot {
    state: SlotState,
    era: Option<Era>,
    /// Whether a session was lost since the list was last fetched.
    lost: bool,
    /// Whether the connector has left: a session that opens now is closed at once.
    closed: bool,
    /// The list in force: calls to a modern server mirror what its definitions annotate.
    tools: Option<ToolList>,
}

enum SlotState {
    Closed,
    Opening(Opening),
    Open(Arc<Session>),
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Session>, Failure>>>;

impl SessionSlot {
    /// No session yet; the era of the last one is remembered.
    pub(super) fn new(upstream: Upstream, connect_timeout: Duration, era: Option<Era>) -> Self {
        let inner = Mutex::new(Slot { state: SlotState::Closed, era, lost: false, closed: false, tools: None });
        Self { upstream: Arc::new(upstream), connect_timeout, inner }
    }

    /// The era that the server was last found to speak.
    pub(super) fn era(&self) -> Option<Era> {
        self.lock().era
    }

    /// Notes the list in force, for sessions that are opened without listing.
    pub(super) fn remember(&self, tools: Option<ToolList>) {
        self.lock().tools = tools;
    }

    /// The session, opened if need be.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, Failure> {
        let opening = {
            let mut slot = self.lock();
            match &slot.state {
                SlotState::Open(session) => return Ok(session.clone()),
                SlotState::Opening(opening) => opening.clone(),
                SlotState::Closed => {
                    let opening = self.clone().open(slot.era);
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
                slot.era = None;
            }
        }
    }

    /// Whether a session was lost since the last time this was asked.
    pub(super) fn take_lost(&self) -> bool {
        std::mem::take(&mut self.lock().lost)
    }

    /// Closes the session, if there is one.
    pub(super) async fn close(&self) {
        let state = {
            let mut slot = self.lock();
            slot.closed = true;
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
        self.upstream.close(super::limits::CLOSE_TIMEOUT).await;
    }

    fn open(self: Arc<Self>, era: Option<Era>) -> Opening {
        let slot = self.clone();
        // A task of its own: whoever asked first may go away, the others still wait for it. It ends by its deadline.
        let task = tokio::spawn(async move {
            let opened = match era {
                Some(era) => match self.attempt(Some(era)).await {
                    Err(WireError::WrongEra) => self.attempt(None).await,
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
        slot.era = Some(session.era());
        let tools = slot.tools.iter().flat_map(ToolList::tools);
        session.remember_tools(tools.map(|tool| &*tool.definition));
        slot.state = SlotState::Open(session.clone());
        true
    }

    async fn attempt(&self, era: Option<Era>) -> Result<Session, WireError> {
        let opening = self.upstream.open(era);
        tokio::time::timeout(self.connect_timeout, opening).await.unwrap_or(Err(WireError::Http(HttpError::Timeout)))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
