//! What the server was asked, and how many requests had to wait for one another.
//!
//! Counts and depths only; no durations, so that tests assert order and never time.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// How often the server was asked what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// HTTP requests of any kind.
    pub requests: u64,
    /// `initialize`.
    pub initialize: u64,
    /// `server/discover`.
    pub discover: u64,
    /// `tools/list`; each page counts.
    pub lists: u64,
    /// `tools/call`.
    pub calls: u64,
    /// Notifications.
    pub notifications: u64,
    /// Answers to what the server asked.
    pub responses: u64,
    /// HTTP DELETE.
    pub deletes: u64,
    /// The most HTTP requests that were unanswered at one time.
    pub max_in_flight: u64,
}

/// The measurements of one server.
#[derive(Debug, Default)]
pub(super) struct Measure(Mutex<Measured>);

#[derive(Debug, Default)]
struct Measured {
    counts: Counts,
    in_flight: u64,
    deepest_answered: u64,
    listed_at: Option<u64>,
}

/// One HTTP request; dropping it without an answer means that the client went away.
#[derive(Debug)]
pub(super) struct Ticket<'a> {
    measure: &'a Measure,
    depth: u64,
}

impl Measure {
    pub(super) fn counts(&self) -> Counts {
        self.measured().counts
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.measured().counts);
    }

    pub(super) fn round_trips_until_listed(&self) -> Option<u64> {
        self.measured().listed_at
    }

    pub(super) fn begin(&self) -> Ticket<'_> {
        let mut measured = self.measured();
        measured.counts.requests += 1;
        measured.in_flight += 1;
        measured.counts.max_in_flight = measured.counts.max_in_flight.max(measured.in_flight);
        Ticket { measure: self, depth: measured.deepest_answered + 1 }
    }

    fn measured(&self) -> MutexGuard<'_, Measured> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ticket<'_> {
    pub(super) fn finish(self, completes_a_list: bool) {
        let mut measured = self.measure.measured();
        measured.deepest_answered = measured.deepest_answered.max(self.depth);
        if completes_a_list {
            measured.listed_at.get_or_insert(self.depth);
        }
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.measure.measured().in_flight -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_overlap_count_as_one_round_trip() {
        let measure = Measure::default();
        let (first, second) = (measure.begin(), measure.begin());
        first.finish(false);
        let third = measure.begin();
        second.finish(false);
        third.finish(true);
        measure.begin().finish(true);
        assert_eq!(measure.round_trips_until_listed(), Some(2));
        assert_eq!((measure.counts().requests, measure.counts().max_in_flight), (4, 2));
    }

    #[test]
    fn a_request_whose_client_went_away_is_no_round_trip() {
        let measure = Measure::default();
        drop(measure.begin());
        measure.begin().finish(true);
        assert_eq!((measure.round_trips_until_listed(), measure.counts().max_in_flight), (Some(1), 1));
    }
}
