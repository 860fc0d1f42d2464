//! Quotas: how often a connector may be called. A refused call is told when to come back.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::edge::clock::Clock;
use crate::model::{Quotas, SlidingWindow};

/// What a connector whose `concurrent` is zero tells its callers: nothing will change soon.
const NEVER: Duration = Duration::from_secs(60);

/// The quotas of one connector.
pub(super) struct QuotaGate {
    windows: Mutex<Vec<SlidingWindow>>,
    places: Option<Arc<Semaphore>>,
    closed: bool,
    clock: Arc<dyn Clock>,
}

impl QuotaGate {
    /// A gate with nothing used up.
    pub(super) fn new(quotas: &Quotas, clock: Arc<dyn Clock>) -> Self {
        let limits = [(quotas.per_minute, 60), (quotas.per_hour, 3_600), (quotas.per_day, 86_400)];
        let windows = limits
            .into_iter()
            .filter_map(|(limit, seconds)| Some(SlidingWindow::new(limit?, Duration::from_secs(seconds))));
        Self {
            windows: Mutex::new(windows.collect()),
            // With no places at all there is nothing to wait for: `take` refuses.
            places: quotas.concurrent.filter(|places| *places > 0).map(|n| Arc::new(Semaphore::new(n as usize))),
            closed: quotas.concurrent == Some(0),
            clock,
        }
    }

    /// Uses up one call of every quota, or of none, and says how long until all have one free.
    pub(super) fn take(&self) -> Result<(), Duration> {
        if self.closed {
            return Err(NEVER);
        }
        let now = self.clock.boot();
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        let wait = windows.iter_mut().filter_map(|window| window.wait(now)).max();
        match wait {
            Some(wait) => Err(wait),
            None => {
                windows.iter_mut().for_each(|window| window.count(now));
                Ok(())
            }
        }
    }

    /// The places for calls at once, if they are limited.
    pub(super) fn places(&self) -> Option<Arc<Semaphore>> {
        self.places.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::clock::VirtualClock;
    use crate::model::WallMs;

    fn gate(quotas: Quotas) -> QuotaGate {
        QuotaGate::new(&quotas, Arc::new(VirtualClock::starting_at(WallMs(0))))
    }

    #[tokio::test(start_paused = true)]
    async fn a_used_up_quota_says_when_to_come_back() {
        let gate = gate(Quotas { per_minute: Some(2), ..Quotas::default() });
        assert_eq!((gate.take(), gate.take()), (Ok(()), Ok(())));
        let wait = gate.take().unwrap_err();
        assert!(wait > Duration::from_secs(59) && wait <= Duration::from_secs(61), "{wait:?}");
        tokio::time::advance(wait).await;
        assert_eq!(gate.take(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn in_no_stretch_of_a_period_does_more_than_the_limit_pass() {
        let gate = gate(Quotas { per_minute: Some(20), ..Quotas::default() });
        let mut passed: Vec<u64> = Vec::new();
        for step in 0..2_000u64 {
            if gate.take().is_ok() {
                passed.push(step * 97);
            }
            tokio::time::advance(Duration::from_millis(97)).await;
        }
        for (position, first) in passed.iter().enumerate() {
            let within = passed[position..].iter().take_while(|time| **time < first + 60_000).count();
            assert!(within <= 20, "{within} calls from {first} ms on");
        }
        assert!(passed.len() >= 60, "{} calls in 194 s", passed.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_refused_call_uses_up_nothing() {
        let gate = gate(Quotas { per_minute: Some(3), per_hour: Some(1), ..Quotas::default() });
        assert_eq!(gate.take(), Ok(()));
        for _ in 0..10 {
            assert!(gate.take().unwrap_err() > Duration::from_secs(3_500));
        }
        tokio::time::advance(Duration::from_secs(3_700)).await;
        assert_eq!(gate.take(), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_zero_allows_nothing_and_none_allows_everything() {
        assert!(gate(Quotas { per_day: Some(0), ..Quotas::default() }).take().is_err());
        assert_eq!(gate(Quotas { concurrent: Some(0), ..Quotas::default() }).take(), Err(NEVER));
        let everything = gate(Quotas::default());
        assert!((0..10_000).all(|_| everything.take().is_ok()));
    }
}
