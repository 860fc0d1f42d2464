//! Watching a connector: what its server says outside of requests is heard, and what clients wish for is asked of it.
//!
//! One task for each connector, which goes along with its session: it keeps a listening stream open, carries out wishes,
//! and tells the supervisor of announced changes. It takes no place of a call, and a server that has no such stream, or one
//! that breaks, costs nothing but this: no session ends and no run waits because of it. Questions that a server asks on
//! such a stream are refused: it belongs to nobody. What runs bring is not its affair; the poll stays as the backstop.

mod ear;
mod listening;
mod subscribing;

pub(super) use listening::means_no_stream;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use self::ear::Announcements;
use super::events::EventShare;
use super::handle::{Handle, Signal};
use super::limits;
use super::log_wishes::{self, LogWishes};
use super::session_slot::SessionSlot;
use crate::mcp::{Era, ProtocolFault, Session, WireError};
use crate::model::{About, Severity};

/// What a watcher needs.
pub(super) struct Watcher {
    pub(super) handle: Arc<Handle>,
    pub(super) events: Arc<EventShare>,
    /// The log messages that clients wish for, of any connector.
    pub(super) logs: Arc<LogWishes>,
    pub(super) stop: CancellationToken,
}

/// What goes on over all sessions.
#[derive(Default)]
struct Course {
    /// Permits one signal: announcements that come faster are one.
    announced: Arc<Announcements>,
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
            () = self.events.tell_late_ones() => {}
            () = self.follow(&slot, &course) => {}
        }
    }

    /// Signals announced changes, at a pace. The last one is always signalled.
    async fn pass_announcements_on(&self, course: &Course) {
        loop {
            let announcements = course.announced.next().await;
            self.handle.signals.send(Signal::Changed);
            self.sleep(pace(self.handle.fruitless(), announcements)).await;
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
        let mut failures = 0;
        let patience = self.sleep(limits::LEARN_PATIENCE);
        tokio::pin!(patience);
        loop {
            learning.borrow_and_update();
            if let Some(facts) = session.facts() {
                return facts.about.clone();
            }
            tokio::select! {
                // Its sender is the slot.
                Ok(()) = learning.changed() => {}
                () = &mut patience => {
                    if let Ok(Err(error)) = tokio::time::timeout(self.handle.deadlines.get().connect, session.learn()).await {
                        self.handle.heed(&error.failure());
                    }
                    // Without an answer it is asked again, ever more slowly.
                    failures += 1;
                    let wait = limits::LEARN_PATIENCE + self.wait(failures);
                    patience.set(self.sleep(wait));
                }
            }
        }
    }

    /// Keeps a legacy session at the log level that is wished for. Some time after nobody wishes for any more, its server is
    /// told to be quiet again.
    async fn keep_log_level(&self, session: &Session) {
        let (id, own) = (&self.handle.id, &self.handle.logs);
        let (mut all, mut requests) = (self.logs.changes(), own.changes());
        let mut said: Option<Severity> = None;
        loop {
            all.borrow_and_update();
            requests.borrow_and_update();
            let level = self.logs.most(id).into_iter().chain(own.most(id)).min();
            if let Some(level) = level.filter(|level| said != Some(*level)) {
                log_wishes::say(session, level).await;
                said = Some(level);
            }
            let rests = level.is_none() && said.is_some_and(|said| said != log_wishes::RESTING);
            tokio::select! {
                // Their senders are here and with the connector.
                Ok(()) = all.changed() => {}
                Ok(()) = requests.changed() => {}
                () = self.sleep(limits::LOG_WISH_LINGERS), if rests => {
                    log_wishes::say(session, log_wishes::RESTING).await;
                    said = Some(log_wishes::RESTING);
                }
            }
        }
    }

    /// How long to wait before what failed is tried again, and no shorter than its server asked for.
    fn wait(&self, failures: u32) -> Duration {
        limits::LISTEN_BACKOFF.wait(failures, &*self.handle.edge.entropy).max(self.handle.held_for())
    }

    /// Waits before what failed is tried again, and for the time that was asked for. A refused stream slows nobody but its
    /// watcher: servers bound their streams, and take calls all the same.
    fn pause(&self, failures: u32, asked: Duration) -> impl Future<Output = ()> + Send + use<> {
        self.sleep(self.wait(failures).max(asked.min(limits::THROTTLE_MAX)))
    }

    fn sleep(&self, time: Duration) -> impl Future<Output = ()> + Send + use<> {
        let clock = &self.handle.edge.clock;
        clock.sleep_until(clock.boot().plus(time))
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

/// How long the next announcement is not followed, after so many lists in a row that brought nothing new, and so many
/// announcements since the last list.
///
/// One announcement for each list may well be its echo. Many of them say nothing, but a real change may be among them: they are
/// followed at a steady pace for as long as they last.
fn pace(fruitless: u32, announcements: u32) -> Duration {
    let is_storm = announcements >= limits::STORM_ANNOUNCEMENTS;
    let longest = if is_storm { limits::STORM_PACE } else { limits::REFRESH_FLOOR };
    (limits::LIST_CHANGED_PACE * 2u32.pow(fruitless.min(limits::LIST_CHANGED_DOUBLINGS))).min(longest)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn echoes_are_followed_ever_more_slowly() {
        let one = (0..10).map(|fruitless| pace(fruitless, 1)).collect::<Vec<_>>();
        assert!(one.is_sorted() && one[0] == limits::LIST_CHANGED_PACE && one[9] == limits::REFRESH_FLOOR);
        assert_eq!(pace(0, 200), limits::LIST_CHANGED_PACE);
    }

    /// Follows announcements that come in bursts of so many for ten minutes, and nothing new with any; the longest time between
    /// two signals.
    async fn longest_gap(every: Duration, burst: usize) -> Duration {
        let announced = Announcements::default();
        let (end, mut last, mut longest) = (Instant::now() + Duration::from_secs(600), Instant::now(), Duration::ZERO);
        let coming = async {
            while Instant::now() < end {
                (0..burst).for_each(|_| announced.record());
                tokio::time::sleep(every).await;
            }
        };
        let following = async {
            for fruitless in 0.. {
                let announcements = announced.next().await;
                longest = longest.max(last.elapsed());
                last = Instant::now();
                tokio::time::sleep(pace(fruitless, announcements)).await;
            }
        };
        tokio::select! {
            () = coming => {}
            () = following => {}
        }
        longest
    }

    #[tokio::test(start_paused = true)]
    async fn a_storm_is_followed_at_a_steady_pace_for_as_long_as_it_lasts() {
        // 200 a second, as each comes over HTTP, and in bursts of which a pipe passes on the first only.
        let of_pipe = crate::mcp::limits::LIST_CHANGES_HELD;
        for (every, burst) in [(5, 1), (1_000, 200), (1_000, of_pipe), (100, of_pipe)] {
            let gap = longest_gap(Duration::from_millis(every), burst).await;
            let most = limits::STORM_PACE + Duration::from_millis(every);
            assert!(gap <= most, "{burst} every {every} ms: {gap:?}");
        }
    }

    const _: () = assert!(crate::mcp::limits::LIST_CHANGES_HELD >= limits::STORM_ANNOUNCEMENTS as usize);
}
