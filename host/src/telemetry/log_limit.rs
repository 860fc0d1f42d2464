//! How many lines a reason may write: what is left out is counted, and the next line says so.
//!
//! Memory is bounded by the closed set of reasons. Time is tokio's, so that tests run in virtual time. The caller writes
//! the line, with the fields that it knows:
//!
//! ```
//! use cortex_mcp::telemetry::{LogLimit, RefreshSubject};
//!
//! let lines = LogLimit::new(1);
//! assert_eq!(lines.admit(RefreshSubject::Connector).map(|line| line.left_out), Some(None));
//! assert_eq!(lines.admit(RefreshSubject::Connector), None, "the window has no line left");
//! assert!(lines.admit(RefreshSubject::ServiceMap).is_some(), "another reason has its own");
//! ```

use std::marker::PhantomData;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

use super::limits;
use super::metrics::LabelSet;

/// A limit of lines for each reason.
pub struct LogLimit<R> {
    /// Lines of a reason in [`limits::LOG_WINDOW`].
    most: u32,
    windows: Box<[Mutex<Window>]>,
    reasons: PhantomData<fn(R)>,
}

/// The lines of one reason.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    began: Option<Instant>,
    written: u32,
    left_out: u64,
}

/// A line that may be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LogLine {
    /// How many lines of the same reason were left out since the last one; none if there were none. A field of the line.
    pub left_out: Option<u64>,
}

/// What was logged last of something that repeats.
#[derive(Clone, Copy, Debug)]
pub struct LastLogged<R>(Option<(R, Instant)>);

impl<R: LabelSet> LogLimit<R> {
    /// Admits at most so many lines of a reason in [`limits::LOG_WINDOW`].
    pub fn new(most: u32) -> Self {
        Self { most, windows: R::all().map(|_| Mutex::default()).collect(), reasons: PhantomData }
    }

    /// Returns whether a line of this reason may be written now; if not, it is counted.
    pub fn admit(&self, reason: R) -> Option<LogLine> {
        let now = Instant::now();
        let mut window = self.window(reason);
        if window.began.is_none_or(|began| now.duration_since(began) >= limits::LOG_WINDOW) {
            (window.began, window.written) = (Some(now), 0);
        }
        if window.written >= self.most {
            window.left_out += 1;
            return None;
        }
        window.written += 1;
        let left_out = std::mem::take(&mut window.left_out);
        Some(LogLine { left_out: (left_out > 0).then_some(left_out) })
    }

    /// Returns whether a line may be written about something that repeats: only when the reason is another one than was
    /// logged last, or every [`limits::REPEAT_INTERVAL`]. What is left out counts like any other.
    pub fn admit_change(&self, last: &mut LastLogged<R>, reason: R) -> Option<LogLine>
    where
        R: PartialEq,
    {
        let now = Instant::now();
        let is_known =
            last.0.is_some_and(|(known, at)| known == reason && now.duration_since(at) < limits::REPEAT_INTERVAL);
        if is_known {
            self.window(reason).left_out += 1;
            return None;
        }
        let line = self.admit(reason)?;
        last.0 = Some((reason, now));
        Some(line)
    }

    fn window(&self, reason: R) -> std::sync::MutexGuard<'_, Window> {
        self.windows[reason.position()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R> Default for LastLogged<R> {
    fn default() -> Self {
        Self(None)
    }
}

impl<R> LastLogged<R> {
    /// It is over: the next one is logged, whatever its reason.
    pub fn clear(&mut self) {
        self.0 = None;
    }
}

impl<R> std::fmt::Debug for LogLimit<R> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogLimit").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::RefreshOutcome::{self, Failed, Succeeded};

    #[tokio::test(start_paused = true)]
    async fn a_reason_writes_its_lines_in_each_window_and_every_other_one_is_counted() {
        let lines = LogLimit::new(10);
        let (mut written, mut told) = (0, 0);
        // Ten a second for ten minutes.
        for _ in 0..6_000 {
            if let Some(line) = lines.admit(Failed) {
                (written, told) = (written + 1, told + line.left_out.unwrap_or(0));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert_eq!(written, 100, "ten in each of ten windows");
        assert_eq!(told, 9 * 590, "what the last window left out is told by the next line");
        tokio::time::sleep(limits::LOG_WINDOW).await;
        assert_eq!(lines.admit(Failed), Some(LogLine { left_out: Some(590) }));
        assert_eq!(lines.admit(Succeeded), Some(LogLine { left_out: None }));
    }

    #[tokio::test(start_paused = true)]
    async fn what_repeats_is_logged_when_it_changes_and_now_and_then() {
        let (lines, mut last) = (LogLimit::new(1_000), LastLogged::default());
        let mut written = Vec::new();
        for minute in 0..180 {
            let reason = if minute < 90 { Failed } else { Succeeded };
            if let Some(line) = lines.admit_change(&mut last, reason) {
                written.push((minute, line.left_out));
            }
            tokio::time::sleep(Duration::from_secs(60)).await;
        }
        assert_eq!(written, [(0, None), (60, Some(59)), (90, None), (150, Some(59))]);
        last.clear();
        assert_eq!(lines.admit_change(&mut last, Succeeded), Some(LogLine { left_out: Some(29) }));
    }

    /// Measured before: 295 to 1,015 lines every 15 s, for ever.
    #[tokio::test(start_paused = true)]
    async fn a_thousand_that_fail_for_an_hour_write_a_bounded_number_of_lines_and_none_is_forgotten() {
        let lines = LogLimit::new(limits::CONNECTOR_LINES);
        let mut connectors = vec![LastLogged::<RefreshOutcome>::default(); 1_000];
        let mut named = vec![false; connectors.len()];
        let (mut written, mut told, mut attempts) = (0u64, 0, 0);
        for _ in 0..240 {
            for (last, named) in connectors.iter_mut().zip(&mut named) {
                attempts += 1;
                if let Some(line) = lines.admit_change(last, Failed) {
                    *named = true;
                    (written, told) = (written + 1, told + line.left_out.unwrap_or(0));
                }
            }
            tokio::time::sleep(Duration::from_secs(15)).await;
        }
        assert_eq!(written, 1_000, "one line for each, at most thirty a minute");
        let waiting = lines.window(Failed).left_out;
        assert_eq!(written + told + waiting, attempts, "every attempt is written or counted");
        assert!(named.iter().all(|named| *named), "none is left out for good");
    }
}
