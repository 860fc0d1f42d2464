//! Where a value stands between fresh and forbidden, by time alone.
//!
//! The one place that knows the boundaries: the soft point, the end of the fresh time, and the greatest staleness after
//! it. It must never return a span that reaches past the next boundary, because hosts reuse a verdict for that long.

use super::age::Now;
use crate::types::{CacheConfig, ExpiryStanding, ValueFacts};

/// How long a verdict holds if nothing happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span {
    /// From now on, in milliseconds; never zero.
    pub(super) rest_ms: u64,
}

/// Where a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Staleness {
    /// Before its soft point.
    Fresh(Span),
    /// Between its soft point and the end of its fresh time.
    Soft(Span),
    /// Past its fresh time, or made stale early.
    Stale(Span),
    /// Its age cannot be known: to be treated as stale (R2).
    Unknown(Span),
    /// Past its greatest staleness; until the wall clock can tell better, if it could not tell yet.
    Over(Option<Span>),
}

/// Judges a value by time.
///
/// Staleness is counted from the end of the fresh time, or from `stale-since` where the value has one, and ends *at*
/// `max-stale-ms`: zero means never stale. The bound of R1, age below fresh time plus greatest staleness, holds for a
/// value with `stale-since` too, because its fresh time is zero.
pub(super) fn staleness(now: &Now, config: &CacheConfig, value: &ValueFacts) -> Staleness {
    let counted_from = value.stale_since.as_ref().unwrap_or(&value.requested);
    let fresh_ms = if value.stale_since.is_some() { 0 } else { value.fresh_ms };
    let life = fresh_ms.saturating_add(config.max_stale_ms);
    let Some(age) = now.since(counted_from, config.skew_ms) else {
        return unknown(now, config, value, life);
    };
    let early = value.invalidated || value.standing != ExpiryStanding::Within;
    let soft_ms = value.soft_ms.min(fresh_ms);
    // Without it a short fresh time would end, and begin again, until the wall clock has caught up.
    let still = now.standstill(counted_from);
    let until = |boundary: u64| Span { rest_ms: (boundary - age).saturating_add(still) };
    if !early && age < soft_ms {
        Staleness::Fresh(until(soft_ms))
    } else if !early && age < fresh_ms {
        Staleness::Soft(until(fresh_ms))
    } else if age < life && config.max_stale_ms > 0 {
        Staleness::Stale(until(life))
    } else {
        Staleness::Over(None)
    }
}

/// The wall clock stands before the request and the boot clock is another one. The value predates this boot, so it is
/// at least as old as the boot clock says: that bounds its life even if the wall clock is never set right.
fn unknown(now: &Now, config: &CacheConfig, value: &ValueFacts, life: u64) -> Staleness {
    let counted_from = value.stale_since.as_ref().unwrap_or(&value.requested);
    let witness = now.until_witness(counted_from, config.skew_ms).max(1);
    if config.max_stale_ms == 0 || now.boot_ms >= life {
        return Staleness::Over(Some(Span { rest_ms: witness }));
    }
    Staleness::Unknown(Span { rest_ms: witness.min(life - now.boot_ms) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cache_config, value_facts};

    fn at(age: u64) -> Now {
        let requested = value_facts("a").requested;
        Now { wall_ms: 0, boot_ms: requested.boot_ms + age, boot_id: requested.boot_id }
    }

    #[test]
    fn a_value_passes_its_boundaries_in_order_and_each_verdict_ends_at_the_next() {
        let config = cache_config();
        let value = ValueFacts { fresh_ms: 1_000, soft_ms: 800, ..value_facts("a") };
        let life = 1_000 + config.max_stale_ms;
        assert_eq!(staleness(&at(0), &config, &value), Staleness::Fresh(Span { rest_ms: 800 }));
        assert_eq!(staleness(&at(799), &config, &value), Staleness::Fresh(Span { rest_ms: 1 }));
        assert_eq!(staleness(&at(800), &config, &value), Staleness::Soft(Span { rest_ms: 200 }));
        assert_eq!(staleness(&at(1_000), &config, &value), Staleness::Stale(Span { rest_ms: config.max_stale_ms }));
        assert_eq!(staleness(&at(life - 1), &config, &value), Staleness::Stale(Span { rest_ms: 1 }));
        assert_eq!(staleness(&at(life), &config, &value), Staleness::Over(None));
    }

    #[test]
    fn without_any_staleness_allowed_the_end_of_the_fresh_time_is_the_end() {
        let config = CacheConfig { max_stale_ms: 0, ..cache_config() };
        let value = ValueFacts { fresh_ms: 1_000, soft_ms: 1_000, ..value_facts("a") };
        assert_eq!(staleness(&at(999), &config, &value), Staleness::Fresh(Span { rest_ms: 1 }));
        assert_eq!(staleness(&at(1_000), &config, &value), Staleness::Over(None));
        let invalidated = ValueFacts { invalidated: true, ..value };
        assert_eq!(staleness(&at(1), &config, &invalidated), Staleness::Over(None));
    }

    #[test]
    fn a_value_with_a_first_arrival_is_counted_from_it() {
        let config = cache_config();
        let first = value_facts("a").requested;
        let mut value = ValueFacts { fresh_ms: 0, soft_ms: 0, stale_since: Some(first), ..value_facts("a") };
        // Confirmed an hour later: the count does not start again.
        value.requested.boot_ms += 3_600_000;
        value.standing = ExpiryStanding::ArrivedExpired;
        assert_eq!(staleness(&at(config.max_stale_ms - 1), &config, &value), Staleness::Stale(Span { rest_ms: 1 }));
        assert_eq!(staleness(&at(config.max_stale_ms), &config, &value), Staleness::Over(None));
    }

    #[test]
    fn while_the_wall_clock_catches_up_a_boundary_waits_for_it() {
        let config = CacheConfig { boot_id: 2, ..cache_config() };
        let value = ValueFacts { fresh_ms: 3, soft_ms: 2, ..value_facts("a") };
        let mut now = Now { wall_ms: value.requested.wall_ms - 1_000, boot_ms: 5, boot_id: 2 };
        assert_eq!(staleness(&now, &config, &value), Staleness::Fresh(Span { rest_ms: 1_002 }));
        now.wall_ms += 1_001;
        assert_eq!(staleness(&now, &config, &value), Staleness::Fresh(Span { rest_ms: 1 }));
    }

    #[test]
    fn a_clock_that_stands_before_the_request_bounds_the_life_by_this_boot() {
        let config = CacheConfig { boot_id: 2, ..cache_config() };
        let value = ValueFacts { fresh_ms: 1_000, soft_ms: 800, ..value_facts("a") };
        let life = 1_000 + config.max_stale_ms;
        let early = Now { wall_ms: 0, boot_ms: 5, boot_id: 2 };
        assert!(matches!(staleness(&early, &config, &value), Staleness::Unknown(_)));
        let late = Now { wall_ms: 0, boot_ms: life, boot_id: 2 };
        assert!(matches!(staleness(&late, &config, &value), Staleness::Over(Some(_))));
    }
}
