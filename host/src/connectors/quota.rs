//! Quotas: how often a connector may be called. A refused call is told when to come back.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use governor::clock::{Clock as _, Reference};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::sync::Semaphore;

use crate::edge::clock::Clock;
use crate::model::{BootMs, Quotas};

/// The quotas of one connector.
pub(super) struct QuotaGate {
    rates: Vec<Rate>,
    places: Option<Arc<Semaphore>>,
    clock: BootClock,
}

enum Rate {
    Limited(RateLimiter<NotKeyed, InMemoryState, BootClock, NoOpMiddleware<BootInstant>>),
    /// A quota of zero.
    Nothing {
        period: Duration,
    },
}

impl QuotaGate {
    /// A gate with nothing used up.
    pub(super) fn new(quotas: &Quotas, clock: Arc<dyn Clock>) -> Self {
        let clock = BootClock(clock);
        let rate = |limit: Option<u32>, seconds: u64| {
            let period = Duration::from_secs(seconds);
            limit.map(|limit| match (NonZeroU32::new(limit), Quota::with_period(period / limit.max(1))) {
                (Some(limit), Some(quota)) => {
                    Rate::Limited(RateLimiter::direct_with_clock(quota.allow_burst(limit), clock.clone()))
                }
                _ => Rate::Nothing { period },
            })
        };
        let rates = [rate(quotas.per_minute, 60), rate(quotas.per_hour, 3_600), rate(quotas.per_day, 86_400)];
        let places = quotas.concurrent.map(|places| Arc::new(Semaphore::new(places as usize)));
        Self { rates: rates.into_iter().flatten().collect(), places, clock }
    }

    /// Uses up one call, or says how long until one is free.
    pub(super) fn take(&self) -> Result<(), Duration> {
        for rate in &self.rates {
            match rate {
                Rate::Nothing { period } => return Err(*period),
                Rate::Limited(limiter) => {
                    limiter.check().map_err(|refused| refused.wait_time_from(self.clock.now()))?;
                }
            }
        }
        Ok(())
    }

    /// The places for calls at once, if they are limited.
    pub(super) fn places(&self) -> Option<Arc<Semaphore>> {
        self.places.clone()
    }
}

/// The boot clock as the rate limiter reads it.
#[derive(Clone)]
struct BootClock(Arc<dyn Clock>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BootInstant(BootMs);

impl governor::clock::Clock for BootClock {
    type Instant = BootInstant;

    fn now(&self) -> BootInstant {
        BootInstant(self.0.boot())
    }
}

impl Reference for BootInstant {
    fn duration_since(&self, earlier: Self) -> governor::nanos::Nanos {
        self.0.since(earlier.0).into()
    }

    fn saturating_sub(&self, duration: governor::nanos::Nanos) -> Self {
        let milliseconds = u64::try_from(Duration::from(duration).as_millis()).unwrap_or(u64::MAX);
        Self(BootMs(self.0.0.saturating_sub(milliseconds)))
    }
}

impl std::ops::Add<governor::nanos::Nanos> for BootInstant {
    type Output = Self;

    fn add(self, duration: governor::nanos::Nanos) -> Self {
        Self(self.0.plus(duration.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edge::clock::VirtualClock;
    use crate::model::WallMs;

    #[tokio::test(start_paused = true)]
    async fn a_used_up_quota_says_when_to_come_back() {
        let clock = Arc::new(VirtualClock::starting_at(WallMs(0)));
        let gate = QuotaGate::new(&Quotas { per_minute: Some(2), ..Quotas::default() }, clock);
        assert_eq!((gate.take(), gate.take()), (Ok(()), Ok(())));
        let wait = gate.take().unwrap_err();
        assert!(wait > Duration::from_secs(20) && wait <= Duration::from_secs(30), "{wait:?}");
        tokio::time::advance(wait + Duration::from_millis(1)).await;
        assert_eq!(gate.take(), Ok(()));
        assert!(gate.take().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_quota_of_zero_allows_nothing_and_none_allows_everything() {
        let clock = Arc::new(VirtualClock::starting_at(WallMs(0)));
        let nothing = QuotaGate::new(&Quotas { per_day: Some(0), ..Quotas::default() }, clock.clone());
        assert_eq!(nothing.take(), Err(Duration::from_secs(86_400)));
        let everything = QuotaGate::new(&Quotas::default(), clock);
        assert!((0..10_000).all(|_| everything.take().is_ok()));
    }
}
