//! Watching a connector: what its server says outside of requests is heard, and what clients wish for is asked of it.
//!
//! One task for each connector, which goes along with its session: it keeps a listening stream open, carries out wishes,
//! and tells the supervisor of announced changes. It takes no place of a call, and a server that has no such stream, or one
//! that breaks, costs nothing but this: no session ends and no run waits because of it. Questions that a server asks on
//! such a stream are refused: it belongs to nobody. What runs bring is not its affair; the poll stays as the backstop.

mod ear;
mod listening;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::events::Events;
use super::handle::{Handle, Signal};
use super::limits;
use super::log_wishes::{self, Severity};
use super::session_slot::SessionSlot;
use super::wishes::{Refusal, Step};
use crate::edge::Edge;
use crate::edge::entropy::Draws;
use crate::edge::http::HttpError;
use crate::mcp::protocol::{RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE};
use crate::mcp::{Era, Nobody, Outcome, ProtocolFault, Session, WireError};
use crate::model::raw::{self, RawObject};
use crate::model::{About, milliseconds};

/// What a watcher needs.
pub(super) struct Watcher {
    pub(super) handle: Arc<Handle>,
    pub(super) edge: Edge,
    pub(super) events: Events,
    /// The log messages that clients wish for.
    pub(super) logs: watch::Receiver<Option<Severity>>,
    pub(super) stop: CancellationToken,
}

/// What goes on over all sessions.
#[derive(Default)]
struct Course {
    /// Permits one signal: announcements that come faster are one.
    announced: Arc<Notify>,
    /// Streams in a row that did not last.
    failures: AtomicU32,
}

impl Watcher {
    /// Watches until it is told to stop.
    pub(super) async fn run(self) {
        // Without a way to connect there is nothing to watch.
        let Ok(slot) = self.handle.slot.clone() else { return };
        let course = Course::default();
        tokio::select! {
            biased;
            () = self.stop.cancelled() => {}
            () = self.pass_announcements_on(&course) => {}
            () = self.follow(&slot, &course) => {}
        }
    }

    /// Signals announced changes, at a pace. The last one is always signalled.
    async fn pass_announcements_on(&self, course: &Course) {
        loop {
            course.announced.notified().await;
            self.handle.signals.send(Signal::Changed);
            let doublings = self.handle.fruitless().min(limits::LIST_CHANGED_DOUBLINGS);
            let pace = limits::LIST_CHANGED_PACE * 2u32.pow(doublings);
            self.sleep(pace.min(limits::REFRESH_FLOOR)).await;
        }
    }

    /// Goes along with the session, whichever it is.
    async fn follow(&self, slot: &Arc<SessionSlot>, course: &Course) {
        let mut sessions = slot.sessions();
        loop {
            let session = sessions.borrow_and_update().clone();
            tokio::select! {
                biased;
                changed = sessions.changed() => if changed.is_err() { return },
                () = self.attend(slot, session, course) => return,
            }
        }
    }

    /// Attends to one session; it never returns.
    async fn attend(&self, slot: &Arc<SessionSlot>, session: Option<Arc<Session>>, course: &Course) {
        if let Some(session) = session {
            let since = Instant::now();
            let about = self.learn(slot, &session).await;
            self.handle.wishes.begin_anew();
            if session.era() == Era::Legacy {
                tokio::join!(
                    self.keep_listening(slot, &session, &about, course, since),
                    self.keep_subscribed(slot, &session),
                    self.keep_log_level(&session),
                );
            } else {
                self.keep_listening(slot, &session, &about, course, since).await;
            }
        }
        std::future::pending().await
    }

    /// What the session's server has. Runs ask that anyway, so they are waited for before it is asked here.
    async fn learn(&self, slot: &SessionSlot, session: &Arc<Session>) -> About {
        let mut learning = slot.learning();
        loop {
            learning.borrow_and_update();
            if let Some(facts) = session.facts() {
                return facts.about.clone();
            }
            tokio::select! {
                // Its sender is the slot.
                Ok(()) = learning.changed() => {}
                () = self.sleep(limits::LEARN_PATIENCE) => {
                    // Without an answer it is asked again after as long.
                    drop(tokio::time::timeout(limits::CONNECT_TIMEOUT, session.learn()).await);
                }
            }
        }
    }

    /// Keeps a legacy session subscribed to what is wished for.
    async fn keep_subscribed(&self, slot: &SessionSlot, session: &Arc<Session>) {
        let wishes = &self.handle.wishes;
        let mut changes = wishes.changes();
        let mut done = BTreeSet::new();
        loop {
            changes.borrow_and_update();
            match wishes.next_step(&done) {
                None => {
                    if changes.changed().await.is_err() {
                        std::future::pending::<()>().await;
                    }
                }
                Some(Step::Subscribe(uri, params)) => {
                    let outcome = self.ask(slot, session, RESOURCES_SUBSCRIBE, params).await;
                    if outcome.is_ok() {
                        done.insert(uri.clone());
                    }
                    wishes.settle(&uri, outcome);
                }
                Some(Step::Unsubscribe(uri)) => {
                    let mut params = RawObject::new();
                    params.set("uri", raw::string(&uri));
                    done.remove(&uri);
                    // Updates that come all the same are nobody's.
                    drop(self.ask(slot, session, RESOURCES_UNSUBSCRIBE, params).await);
                }
            }
        }
    }

    async fn ask(
        &self,
        slot: &SessionSlot,
        session: &Arc<Session>,
        method: &str,
        params: RawObject,
    ) -> Result<(), Refusal> {
        let asked = tokio::time::timeout(limits::WISH_TIMEOUT, session.request(method, params, &Nobody)).await;
        match asked.unwrap_or(Err(WireError::Http(HttpError::Timeout))) {
            Ok(Outcome::Result(_)) => Ok(()),
            Ok(Outcome::Error(error)) => Err(Refusal::Answer(error)),
            Err(error) if is_over(&error) => {
                slot.forget(session, &error);
                Err(Refusal::SessionOver(error.failure()))
            }
            Err(error) => Err(Refusal::Failed(error.failure())),
        }
    }

    /// Keeps a legacy session at the log level that is wished for. Where nobody wishes for any more, it stays as it is.
    async fn keep_log_level(&self, session: &Session) {
        let mut logs = self.logs.clone();
        let mut said = None;
        loop {
            let level = *logs.borrow_and_update();
            if let Some(level) = level.filter(|level| said != Some(*level)) {
                log_wishes::say(session, level).await;
                said = Some(level);
            }
            if logs.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    /// How long to wait before a stream is opened again: equal jitter, exponential.
    fn backoff(&self, failures: u32) -> Duration {
        let ceiling = limits::LISTEN_BACKOFF_MIN * 2u32.pow(failures.saturating_sub(1).min(16));
        let half = milliseconds(ceiling.min(limits::LISTEN_BACKOFF_MAX)) / 2;
        let draw = u64::from(Draws::from_seed(self.edge.entropy.seed()).next_u32());
        Duration::from_millis(half + ((draw * half) >> 32))
    }

    async fn sleep(&self, time: Duration) {
        let clock = &self.edge.clock;
        clock.sleep_until(clock.boot().plus(time)).await;
    }
}

impl Course {
    /// A stream has ended after so long; tells how many in a row did not last.
    fn ended_after(&self, lasted: Duration) -> u32 {
        let before = if lasted >= limits::LISTEN_PROVEN { 0 } else { self.failures.load(Ordering::Relaxed) };
        let failures = before.saturating_add(1);
        self.failures.store(failures, Ordering::Relaxed);
        failures
    }
}

/// Whether the session is over, so that only another one can go on.
fn is_over(error: &WireError) -> bool {
    matches!(
        error,
        WireError::SessionLost
            | WireError::WrongEra
            | WireError::Protocol(ProtocolFault::PipeEnded | ProtocolFault::NotWritten)
    )
}
