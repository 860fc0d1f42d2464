//! A connector's places for calls, and the bounded room in which calls wait for one.
//!
//! A call first takes a place of its connector and then one of the origin, so that whoever waits for the origin holds
//! nothing that another connector could use. What does not fit in the queue is refused at once, and a call that waits is
//! refused after the queue timeout, which leaves it a part of its deadline for its server. A server that asked for time (429) is given it before anybody queues. It never looks at calls.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::limits;
use super::origins::{OriginPlace, OriginShare};
use crate::config::CallLimits;
use crate::model::{BootMs, milliseconds};

/// The places of one connector.
pub(super) struct CallGate {
    bounds: RwLock<Bounds>,
    /// How many calls wait.
    waiting: AtomicUsize,
    /// Its share of the places of its origin; a process has none.
    origin: Option<Arc<OriginShare>>,
    /// The places that its description allows, where it limits them.
    described: Option<Arc<Semaphore>>,
    /// For calls that are under way without a place.
    leaves: Arc<Semaphore>,
    /// Until when the server wants no calls, by the boot clock.
    held_until: AtomicU64,
}

#[derive(Clone)]
struct Bounds {
    calls: usize,
    queue: usize,
    /// None: as long as a call's deadline allows.
    queue_timeout: Option<Duration>,
    places: Arc<Semaphore>,
}

/// What a call holds while it is under way. There is none without a permit of its connector.
pub(super) struct Place {
    _own: OwnedSemaphorePermit,
    /// None where the description allows any number.
    described: Option<OwnedSemaphorePermit>,
    /// None for a process.
    _origin: Option<OriginPlace>,
    /// Whether it had to be waited for: then things may stand differently now.
    pub(super) waited: bool,
}

/// What is left of a place whose call is under way without it.
pub(super) struct Rest {
    described: Option<OwnedSemaphorePermit>,
    waited: bool,
}

impl Place {
    /// Gives back what other calls can use. What the description allows at once stays taken: its server is at work on the call.
    pub(super) fn set_down(self) -> Rest {
        Rest { described: self.described, waited: self.waited }
    }
}

/// When a call arrived, and how long it may take in all, its waiting included.
#[derive(Clone, Copy)]
pub(super) struct CallTime {
    pub(super) arrived: Instant,
    pub(super) limit: Duration,
}

impl CallTime {
    /// Of a call that arrives now.
    pub(super) fn starting_now(limit: Duration) -> Self {
        Self { arrived: Instant::now(), limit }
    }

    /// How long it may wait before it is sent: a part of its deadline is left for its server.
    fn longest_wait(self) -> Duration {
        self.limit - self.limit / limits::CALL_TIME_LEFT
    }

    /// Until when it may wait, for whatever it waits.
    pub(super) fn last_start(self) -> Instant {
        self.arrived + self.longest_wait()
    }

    /// What is left of its deadline.
    pub(super) fn left(self) -> Duration {
        self.limit.saturating_sub(self.arrived.elapsed())
    }

    /// The refusal of one that has waited for as long as it may.
    pub(super) fn is_up(self) -> Full {
        Full { retry_after: self.longest_wait().min(limits::BUSY_RETRY_AFTER) }
    }
}

/// There is no place; when to come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full {
    pub(super) retry_after: Duration,
}

impl CallGate {
    /// A gate with every place free.
    pub(super) fn new(
        configured: CallLimits,
        described: Option<Arc<Semaphore>>,
        origin: Option<Arc<OriginShare>>,
    ) -> Self {
        Self {
            bounds: RwLock::new(Bounds::of(configured)),
            waiting: AtomicUsize::new(0),
            origin,
            described,
            leaves: Arc::new(Semaphore::new(limits::ASKING_CALLS_MAX)),
            held_until: AtomicU64::new(0),
        }
    }

    /// Other limits are in force from now on. Calls under way keep the places of before: until they end there may be as
    /// many more.
    pub(super) fn reconfigure(&self, configured: CallLimits) {
        let fresh = Bounds::of(configured);
        let mut bounds = self.bounds.write().unwrap_or_else(PoisonError::into_inner);
        let places = if bounds.calls == fresh.calls { bounds.places.clone() } else { fresh.places };
        *bounds = Bounds { places, ..fresh };
    }

    /// Acquires a permit, waits for one in the queue, or refuses. A tenth of the call's deadline is left for the call itself,
    /// whatever it waited for before it came here.
    pub(super) async fn enter(&self, time: CallTime) -> Result<Place, Full> {
        let bounds = self.bounds.read().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(place) = self.at_once(&bounds) {
            return Ok(place);
        }
        let longest = time.longest_wait();
        let limit = bounds.queue_timeout.map_or(longest, |configured| configured.min(longest));
        let full = Full { retry_after: limit.min(limits::BUSY_RETRY_AFTER) };
        let _seat = self.seat(bounds.queue).ok_or(full)?;
        let until = (Instant::now() + limit).min(time.last_start());
        match tokio::time::timeout_at(until, self.in_turn(&bounds)).await {
            Ok(Ok(place)) => Ok(place),
            // Nothing closes the semaphores; if something did, no call would pass.
            Ok(Err(AcquireError { .. })) | Err(_) => Err(full),
        }
    }

    /// Leave for a call to be under way without its places, if not too many are.
    pub(super) fn leave(&self) -> Option<OwnedSemaphorePermit> {
        self.leaves.clone().try_acquire_owned().ok()
    }

    /// Takes again what was set down, if it is free; else what is left of the place.
    pub(super) fn return_to(&self, rest: Rest) -> Result<Place, Rest> {
        let places = self.bounds.read().unwrap_or_else(PoisonError::into_inner).places.clone();
        let Ok(own) = places.try_acquire_owned() else { return Err(rest) };
        let origin = match &self.origin {
            Some(share) => match share.try_acquire() {
                Some(place) => Some(place),
                None => return Err(rest),
            },
            None => None,
        };
        Ok(Place { _own: own, described: rest.described, _origin: origin, waited: rest.waited })
    }

    /// How many calls wait.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The server asked for time: no call passes for so long, within [`limits::THROTTLE_MAX`]. Tells for how long, which is
    /// longer where it asked for more before.
    pub(super) fn hold(&self, now: BootMs, asked: Option<Duration>) -> Duration {
        let wait = asked.unwrap_or(limits::THROTTLE_DEFAULT).min(limits::THROTTLE_MAX);
        let until = now.0.saturating_add(milliseconds(wait));
        let before = self.held_until.fetch_max(until, Ordering::Relaxed);
        BootMs(before.max(until)).since(now)
    }

    /// How long the server still wants no calls.
    pub(super) fn held_for(&self, now: BootMs) -> Option<Duration> {
        let left = BootMs(self.held_until.load(Ordering::Relaxed)).since(now);
        (!left.is_zero()).then_some(left)
    }

    fn at_once(&self, bounds: &Bounds) -> Option<Place> {
        let own = bounds.places.clone().try_acquire_owned().ok()?;
        let described = match &self.described {
            Some(places) => Some(places.clone().try_acquire_owned().ok()?),
            None => None,
        };
        let origin = match &self.origin {
            Some(share) => Some(share.try_acquire()?),
            None => None,
        };
        Some(Place { _own: own, described, _origin: origin, waited: false })
    }

    async fn in_turn(&self, bounds: &Bounds) -> Result<Place, AcquireError> {
        let own = bounds.places.clone().acquire_owned().await?;
        let described = match &self.described {
            Some(places) => Some(places.clone().acquire_owned().await?),
            None => None,
        };
        let origin = match &self.origin {
            Some(share) => Some(share.acquire().await),
            None => None,
        };
        Ok(Place { _own: own, described, _origin: origin, waited: true })
    }

    fn seat(&self, seats: usize) -> Option<Seat<'_>> {
        let free = |taken: usize| (taken < seats).then_some(taken + 1);
        let taken = self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free);
        taken.ok().map(|_| Seat(&self.waiting))
    }
}

impl Bounds {
    fn of(configured: CallLimits) -> Self {
        let calls = configured.calls.unwrap_or(limits::CALLS_PER_CONNECTOR).clamp(1, Semaphore::MAX_PERMITS);
        Self {
            calls,
            queue: configured.queue.unwrap_or(limits::CALL_QUEUE),
            queue_timeout: configured.queue_timeout,
            places: Arc::new(Semaphore::new(calls)),
        }
    }
}

/// A seat in the room; dropping it leaves.
struct Seat<'a>(&'a AtomicUsize);

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(calls: usize, queue: usize) -> Arc<CallGate> {
        let configured = CallLimits { calls: Some(calls), queue: Some(queue), queue_timeout: None };
        Arc::new(CallGate::new(configured, None, None))
    }

    const LONG: Duration = Duration::from_secs(60);

    fn arriving() -> CallTime {
        CallTime::starting_now(LONG)
    }

    #[tokio::test(start_paused = true)]
    async fn the_room_is_bounded_and_whoever_waits_too_long_gives_up() {
        let gate = gate(1, 2);
        let first = gate.enter(arriving()).await.unwrap_or_else(|_| panic!("there is a place"));
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let gate = gate.clone();
                tokio::spawn(async move { gate.enter(arriving()).await.map(|place| place.waited) })
            })
            .collect();
        tokio::task::yield_now().await;
        assert_eq!(gate.waiting(), 2);
        let began = Instant::now();
        let full = Full { retry_after: limits::BUSY_RETRY_AFTER };
        assert_eq!((gate.enter(arriving()).await.err(), began.elapsed()), (Some(full), Duration::ZERO));
        for one in waiting {
            assert_eq!(one.await.unwrap(), Err(full));
        }
        assert_eq!((gate.waiting(), began.elapsed()), (0, LONG - LONG / 10));
        drop(first);
        assert!(gate.enter(arriving()).await.is_ok_and(|place| !place.waited));
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_call_waited_for_before_counts_against_its_queue() {
        for (waited, queued) in [(0, 54), (5, 49), (53, 1), (54, 0), (60, 0)] {
            let gate = gate(1, 1);
            let _held = gate.enter(arriving()).await;
            let time = arriving();
            tokio::time::sleep(Duration::from_secs(waited)).await;
            let began = Instant::now();
            assert_eq!(gate.enter(time).await.err(), Some(time.is_up()));
            assert_eq!(began.elapsed(), Duration::from_secs(queued), "after {waited} s");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_leaves_its_seat_and_its_turn() {
        let gate = gate(1, 1);
        let held = gate.enter(arriving()).await;
        assert!(tokio::time::timeout(Duration::from_secs(1), gate.enter(arriving())).await.is_err());
        assert_eq!(gate.waiting(), 0);
        drop(held);
        assert!(gate.enter(arriving()).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_passes_without_a_permit_though_a_semaphore_is_closed() {
        for closes_the_descriptions in [false, true] {
            let described = Arc::new(Semaphore::new(1));
            let configured = CallLimits { calls: Some(1), queue: Some(1), queue_timeout: None };
            let gate = CallGate::new(configured, Some(described.clone()), None);
            match closes_the_descriptions {
                false => gate.bounds.read().unwrap().places.close(),
                true => described.close(),
            }
            assert_eq!(gate.enter(arriving()).await.err(), Some(Full { retry_after: limits::BUSY_RETRY_AFTER }));
            assert_eq!(gate.waiting(), 0);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn other_limits_bind_those_who_come_after_them() {
        let gate = gate(1, 0);
        let _held = gate.enter(arriving()).await;
        assert!(gate.enter(arriving()).await.is_err());
        gate.reconfigure(CallLimits { calls: Some(2), queue: Some(0), queue_timeout: None });
        let _more = [gate.enter(arriving()).await, gate.enter(arriving()).await].map(|place| place.is_ok());
        assert_eq!(_more, [true, true]);
    }

    #[test]
    fn a_server_that_asks_for_time_is_given_it_within_a_bound() {
        let gate = gate(1, 1);
        let at = |milliseconds: u64| BootMs(milliseconds);
        assert_eq!(gate.held_for(at(0)), None);
        assert_eq!(gate.hold(at(1_000), None), limits::THROTTLE_DEFAULT);
        assert_eq!(gate.held_for(at(1_400)), Some(Duration::from_millis(600)));
        assert_eq!(gate.hold(at(1_000), Some(Duration::from_millis(10))), Duration::from_secs(1), "the longest holds");
        assert_eq!(gate.held_for(at(1_999)), Some(Duration::from_millis(1)), "a shorter wish takes nothing back");
        assert_eq!(gate.held_for(at(2_000)), None);
        assert_eq!(gate.hold(at(2_000), Some(Duration::from_secs(1 << 40))), limits::THROTTLE_MAX);
    }
}
