//! The one session of a connector: opened once by whoever needs it first, shared by all, replaced when it is lost.
//!
//! Opening goes on when the caller that began it goes away, under a deadline of its own. A process that is slow to start is
//! kept, however long it takes: whoever waits for it gives up after its start deadline, and the next one finds it there.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::deadlines::Deadlines;
use super::limits::CLOSE_TIMEOUT;
use super::log_wishes;
use super::starts::Starts;
use crate::edge::http::HttpError;
use crate::mcp::{Declared, Era, KnownEra, Session, Start, Upstream, WireError};
use crate::model::{Failure, FailureClass, ListKind, Offer, Severity};

/// A connector's session.
pub(super) struct SessionSlot {
    way: Way,
    inner: Mutex<Slot>,
    /// The session that is open, for whoever goes along with it.
    current: watch::Sender<Option<Arc<Session>>>,
    /// Touched when somebody learned what the session's server has.
    learned: watch::Sender<()>,
}

/// How a session is opened.
#[derive(Clone)]
struct Way {
    upstream: Arc<Upstream>,
    deadlines: Deadlines,
    declared: Declared,
    /// Cancelled when the former connector of this name has left, where two must not be there at once.
    former: Option<CancellationToken>,
    starts: Starts,
    /// Cancelled when the connector leaves: what is being opened is given up.
    leaving: CancellationToken,
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
    /// How a start failed that nobody waited for any more.
    unseen: Option<Failure>,
    /// The least severe log messages that the session's client wants, for sessions that are opened from now on.
    log_level: Option<Severity>,
}

enum SlotState {
    Closed,
    Opening(Opening, Arc<Start>),
    Open(Arc<Session>),
}

type Opening = Shared<BoxFuture<'static, Result<Arc<Session>, Failure>>>;

impl SessionSlot {
    /// No session yet; the era of the last one is remembered. `declared` is what a legacy server is told about the client.
    pub(super) fn new(
        upstream: Upstream,
        deadlines: Deadlines,
        starts: Starts,
        era: Option<Era>,
        declared: Declared,
    ) -> Self {
        let (upstream, leaving) = (Arc::new(upstream), CancellationToken::new());
        Self::with(Way { upstream, deadlines, declared, former: None, starts, leaving }, era, None)
    }

    /// Another session with the same server, of a client of its own.
    pub(super) fn for_client(&self, declared: Declared) -> Self {
        let way = Way { declared, former: None, leaving: CancellationToken::new(), ..self.way.clone() };
        Self::with(way, self.era(), self.offer())
    }

    fn with(way: Way, era: Option<Era>, offer: Option<Offer>) -> Self {
        let slot = Slot {
            state: SlotState::Closed,
            era,
            remembered: era,
            pinned: None,
            lost: false,
            closed: false,
            offer,
            unseen: None,
            log_level: None,
        };
        let (current, learned) = (watch::Sender::new(None), watch::Sender::new(()));
        Self { way, inner: Mutex::new(slot), current, learned }
    }

    /// No session is opened before `former` is cancelled, which its owner bounds.
    pub(super) fn after(mut self, former: Option<CancellationToken>) -> Self {
        self.way.former = former;
        self
    }

    /// Whether the server is a process.
    pub(super) fn is_process(&self) -> bool {
        self.way.upstream.is_process()
    }

    /// The failure that an error of a session stands for. Where the server is a process that has ended, how it did is waited
    /// for, which is bounded by the time that a process is given to end.
    pub(super) async fn failure(&self, session: &Session, error: &WireError) -> Failure {
        if self.is_process() && session.has_ended() {
            session.gone().await;
        }
        self.way.upstream.failure(error)
    }

    /// The failure of a session that has ended, of which nothing is left.
    pub(super) fn death(&self, error: &WireError) -> Failure {
        self.way.upstream.failure(error)
    }

    /// The failure of a session that is not open at a caller's deadline.
    pub(super) fn not_answered(&self) -> Failure {
        self.way.upstream.not_answered()
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

    /// The era that the server spoke in an earlier process, unless it was found out by now.
    pub(super) fn remember_era(&self, era: Era) {
        let mut slot = self.lock();
        if slot.era.is_none() {
            (slot.era, slot.remembered) = (Some(era), Some(era));
        }
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
    ///
    /// # Errors
    /// [`Failure`]: it can not be opened, or the connector has left. A process that has not answered within its start deadline
    /// is one too; it is kept, and the next caller waits for the same one.
    pub(super) async fn session(self: &Arc<Self>) -> Result<Arc<Session>, Failure> {
        let (opening, start) = {
            let mut slot = self.lock();
            match &slot.state {
                SlotState::Open(session) => return Ok(session.clone()),
                _ if slot.closed => return Err(has_left()),
                SlotState::Opening(opening, start) => (opening.clone(), start.clone()),
                SlotState::Closed => {
                    let start = Arc::new(Start::default());
                    let known = match (slot.pinned, slot.remembered) {
                        (Some(era), _) => KnownEra::Configured(era),
                        (None, Some(era)) => KnownEra::Remembered(era),
                        (None, None) => KnownEra::Unknown,
                    };
                    let opening = self.open(known, start.clone());
                    slot.state = SlotState::Opening(opening.clone(), start.clone());
                    (opening, start)
                }
            }
        };
        self.wait(opening, &start).await
    }

    /// For each attempt at a process, before [`Self::session`]: has one asked again that is past its start deadline and has not
    /// answered.
    ///
    /// # Errors
    /// [`Failure`]: the process has ended since the last attempt, while nobody waited for it. The next attempt starts another.
    pub(super) fn attempt(&self) -> Result<(), Failure> {
        let mut slot = self.lock();
        if let Some(failure) = slot.unseen.take() {
            return Err(failure);
        }
        if let SlotState::Opening(_, start) = &slot.state {
            let began = *start.began().borrow();
            if began.is_some_and(|began| began.elapsed() >= self.way.deadlines.get().start) {
                start.ask_again();
            }
        }
        Ok(())
    }

    /// Waits for a session that is being opened. Where that is a process, its deadline counts from its start: before, it waits
    /// for its permit, which is bounded by what the starts before it hold theirs.
    async fn wait(&self, mut opening: Opening, start: &Start) -> Result<Arc<Session>, Failure> {
        if !self.is_process() {
            return opening.await;
        }
        let (asked, mut began) = (Instant::now(), start.began());
        loop {
            let in_force = self.way.deadlines.get();
            let deadline =
                (*began.borrow_and_update()).map(|began| (began + in_force.start).max(asked + in_force.connect));
            tokio::select! {
                biased;
                opened = &mut opening => return opened,
                Ok(()) = began.changed() => {}
                () = sleep_until(deadline.unwrap_or(asked)), if deadline.is_some() => {
                    return Err(self.way.upstream.not_answered());
                }
            }
        }
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
        self.way.upstream.close(CLOSE_TIMEOUT).await;
    }

    /// Closes the session, if there is one; none is opened any more.
    pub(super) async fn close_session(&self) {
        let state = {
            let mut slot = self.lock();
            slot.closed = true;
            self.current.send_replace(None);
            std::mem::replace(&mut slot.state, SlotState::Closed)
        };
        self.way.leaving.cancel();
        match state {
            // Its task sees that the slot is closed, and closes what it opened.
            SlotState::Opening(opening, _) => drop(timeout(CLOSE_TIMEOUT, opening).await),
            // Closing is a courtesy to the server.
            SlotState::Open(session) => drop(timeout(CLOSE_TIMEOUT, session.close()).await),
            SlotState::Closed => {}
        }
    }

    fn open(self: &Arc<Self>, known: KnownEra, start: Arc<Start>) -> Opening {
        // What is opened holds no slot: one that is dropped gives it up.
        let (way, slot) = (self.way.clone(), Arc::downgrade(self));
        let opened = slot.clone();
        // A task of its own: whoever asked first may go away, the others still wait for it. It ends by its deadline, or where it
        // waits for a process with the slot.
        let task = tokio::spawn(async move {
            let opening = tokio::select! {
                biased;
                () = way.leaving.cancelled() => return Err(has_left()),
                opening = way.open(known, &start) => opening,
            };
            match opened.upgrade() {
                Some(slot) => slot.opened(opening, &start).await,
                None => Err(has_left()),
            }
        });
        let opening: BoxFuture<'static, _> = Box::pin(async move {
            task.await.unwrap_or_else(|_| {
                if let Some(slot) = slot.upgrade() {
                    slot.lock().state = SlotState::Closed;
                }
                Err(Failure::new(FailureClass::Server, "opening the session failed"))
            })
        });
        opening.shared()
    }

    /// Takes what was opened.
    async fn opened(&self, opening: Result<Session, Failure>, start: &Start) -> Result<Arc<Session>, Failure> {
        let session = match opening {
            Ok(session) => Arc::new(session),
            Err(failure) => {
                let mut slot = self.lock();
                slot.state = SlotState::Closed;
                slot.unseen = (self.is_process() && !start.is_watched()).then(|| failure.clone());
                return Err(failure);
            }
        };
        self.say_log_level(&session).await;
        if self.put(&session) {
            return Ok(session);
        }
        session.close().await;
        Err(has_left())
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
        slot.unseen = None;
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

    fn lock(&self) -> std::sync::MutexGuard<'_, Slot> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SessionSlot {
    fn drop(&mut self) {
        self.way.leaving.cancel();
    }
}

impl Way {
    async fn open(&self, known: KnownEra, start: &Start) -> Result<Session, Failure> {
        if let Some(former) = &self.former {
            former.cancelled().await;
        }
        let opened = if self.upstream.is_process() {
            self.starts.run(self.upstream.start(known, &self.declared, start)).await
        } else {
            match self.attempt(known.era()).await {
                Err(WireError::WrongEra) if matches!(known, KnownEra::Remembered(_)) => self.attempt(None).await,
                opened => opened,
            }
        };
        opened.map_err(|error| self.upstream.failure(&error))
    }

    async fn attempt(&self, era: Option<Era>) -> Result<Session, WireError> {
        let opening = self.upstream.open(era, &self.declared);
        timeout(self.deadlines.get().connect, opening).await.unwrap_or(Err(WireError::Http(HttpError::Timeout)))
    }
}

fn has_left() -> Failure {
    Failure::new(FailureClass::Refused, "the connector has left")
}
