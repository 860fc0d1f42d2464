//! When a run may be armed: the scheduling rules of the design as ranges of time.
//!
//! The reference draws nothing. For each event it says what may be armed afterwards: nothing, what was armed before, or
//! something within a range. It knows neither the policy's states nor its reasons, only what happened.

use cortex_mcp::policy::contract::{FailureClass, RefreshMode, SubjectKind, Urgency};

use crate::trace::{HOUR, SECOND, Setting};

/// Least time between a run and one that is forced (R5).
const FORCE_LEAST: u64 = SECOND;

/// What may be armed after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Armed {
    /// Nothing.
    Nothing,
    /// What was armed before, to the millisecond.
    AsBefore,
    /// Something in this range.
    Within(u64, u64),
    /// What was armed before, or nothing.
    AsBeforeOrNothing,
    /// What was armed before, or something sooner that is in this range.
    SoonerWithin(u64, u64),
}

/// What armed the run that is armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// A result, or a reader who was served: spaced.
    Spaced,
    /// A failure's pace: spaced, and left alone by wishes.
    Paced,
    /// Refused credentials: their long wait is waited out even over a sleep.
    Told,
    /// A force, or a run that was given up: soon, and left alone by wishes while the last run that ended failed.
    Soon,
    /// Somebody or something that asks for a run soon: a start, a change, a reader who has nothing.
    Asked,
}

/// The reference.
#[derive(Debug)]
pub(crate) struct Schedule {
    pub(crate) setting: Setting,
    pub(crate) due: Option<u64>,
    pub(crate) running: bool,
    pub(crate) stopped: bool,
    pub(crate) cause: Cause,
    failures: u32,
    last_class: Option<FailureClass>,
    last_end: Option<u64>,
    /// Before when the origin asked not to be asked.
    not_before: u64,
    /// Another policy was swapped in since then: it need not know that.
    forgotten: bool,
    /// Whether the last run left something served: the floor holds.
    served: bool,
    again: bool,
}

impl Schedule {
    pub(crate) fn new(setting: Setting) -> Self {
        Self {
            setting,
            due: None,
            running: false,
            stopped: false,
            cause: Cause::Asked,
            failures: 0,
            last_class: None,
            last_end: None,
            not_before: 0,
            forgotten: false,
            served: false,
            again: false,
        }
    }

    fn background(&self) -> bool {
        self.setting.mode == RefreshMode::Background
    }

    // ---- events -----------------------------------------------------------------------------------------------------

    /// Cold: now. Warm: anywhere in the interval.
    pub(crate) fn started(&mut self, serves: bool, now: u64) -> Armed {
        self.cause = Cause::Asked;
        match (serves, self.background()) {
            (false, _) => Armed::Within(now, now),
            (true, true) => Armed::Within(now, now + self.setting.interval),
            (true, false) => Armed::Nothing,
        }
    }

    /// A run begins: what is wrong with its time, if anything is (S1 to S4).
    pub(crate) fn began(&mut self, now: u64) -> Option<String> {
        let due = self.due.take();
        self.running = true;
        self.again = false;
        let not_before = if std::mem::take(&mut self.forgotten) { 0 } else { self.not_before };
        self.not_before = 0;
        if due.is_none_or(|due| now < due) {
            return Some(format!("a run began at {now} and was due at {due:?}"));
        }
        let (Some(end), Cause::Spaced | Cause::Paced | Cause::Told) = (self.last_end, self.cause) else {
            return None;
        };
        if now < not_before {
            return Some(format!("a run that nobody asked for began at {now}, before {not_before}"));
        }
        let least = if self.failures == 0 || self.kept_apart() { self.setting.floor } else { self.backoff().0 };
        (now < end + least).then(|| format!("a run that nobody asked for began {} ms after the last", now - end))
    }

    /// Whether the floor holds after a failure: a fleet shares the map's origin.
    fn kept_apart(&self) -> bool {
        self.setting.kind == SubjectKind::ServiceMap && self.served
    }

    /// Steady: `min(interval, 0.8 x remaining freshness)`, jittered by a fifth, never below the floor.
    pub(crate) fn succeeded(&mut self, remaining: Option<u64>, hangs_on_wall: bool, now: u64) -> Armed {
        (self.failures, self.last_class) = (0, None);
        self.end(now);
        if std::mem::take(&mut self.again) {
            self.cause = Cause::Asked;
            return Armed::Within(now, now);
        }
        if !self.background() {
            return Armed::Nothing;
        }
        self.cause = Cause::Spaced;
        let floor = self.setting.floor.max(SECOND);
        let interval = self.setting.interval;
        let pace = match remaining.map(|remaining| remaining * 8 / 10) {
            Some(soon) if soon > 0 => soon.min(interval),
            _ => interval,
        };
        let least = if hangs_on_wall { floor } else { pace.max(floor) * 8 / 10 };
        let greatest = if hangs_on_wall { interval } else { pace.max(floor) };
        Armed::Within(now + least.max(floor), now + greatest * 12 / 10)
    }

    /// The paces of failures.
    pub(crate) fn failed(&mut self, class: FailureClass, retry_after: Option<u64>, serving: bool, now: u64) -> Armed {
        self.failures += 1;
        self.last_class = Some(class);
        self.served = serving;
        self.again = false;
        self.end(now);
        // A floor of at most an hour, plus jitter of a fifth, or of the first backoff if that is more.
        let asked = retry_after.unwrap_or(0).min(HOUR);
        let jitter = (asked / 5).max(asked.min(self.setting.backoff.0));
        self.forgotten = false;
        self.not_before = if asked > 0 { now + asked } else { 0 };
        if !self.background() {
            return Armed::Nothing;
        }
        let interval = self.setting.interval;
        let (least, greatest) = match self.setting.kind {
            _ if class == FailureClass::Auth => (10 * interval, 11 * interval),
            SubjectKind::ServiceMap if serving && self.failures == 1 => (self.setting.floor, interval),
            SubjectKind::ServiceMap if serving => ((interval / 2).max(self.setting.floor), interval),
            _ => self.backoff(),
        };
        self.cause = if class == FailureClass::Auth { Cause::Told } else { Cause::Paced };
        Armed::Within(now + least.max(asked), now + greatest.max(asked + jitter))
    }

    pub(crate) fn cancelled(&mut self, now: u64) -> Armed {
        self.again = false;
        self.end(now);
        if !self.background() {
            return Armed::Nothing;
        }
        self.cause = Cause::Soon;
        let (least, greatest) = self.backoff();
        Armed::Within(now + least, now + greatest)
    }

    /// A reader's wish: soon if the reader has nothing, else in the first tenth; never against a failure's pace.
    pub(crate) fn wanted(&mut self, urgency: Urgency, now: u64) -> Armed {
        if self.stopped || self.running {
            return Armed::Nothing;
        }
        let blocking = urgency == Urgency::Blocking;
        // Whoever waits is served nothing: the floor does not hold for that.
        self.served &= !blocking;
        let floor_end = if blocking { 0 } else { self.floor_end() };
        let (least, greatest) = match blocking {
            true => (now, now),
            false => (now.max(floor_end), (now + self.setting.interval / 10).max(floor_end)),
        };
        let Some(due) = self.due else {
            // On demand: from idle, but not before the pace of a failure is over.
            let (wait, longest) = match (self.last_class, self.failures) {
                (_, 0) => (0, 0),
                (Some(FailureClass::Auth), _) => (10 * self.setting.interval, 10 * self.setting.interval),
                _ => self.backoff(),
            };
            let paced = |wait| self.last_end.filter(|_| self.failures > 0).map_or(0, |end| end + wait);
            let (sooner, later) = (now.max(floor_end).max(paced(wait)), now.max(floor_end).max(paced(longest)));
            let told = self.not_before.saturating_sub(self.last_end.unwrap_or(0));
            let jitter = (told / 5).max(told.min(self.setting.backoff.0));
            let (sooner, later) = match told {
                0 => (sooner, later),
                _ if self.forgotten => (sooner, later.max(self.not_before + jitter)),
                _ => (sooner.max(self.not_before), later.max(self.not_before + jitter)),
            };
            self.cause = match (self.failures > 0 && later > now.max(floor_end), blocking) {
                (true, _) => Cause::Paced,
                (false, true) => Cause::Asked,
                (false, false) => Cause::Spaced,
            };
            return Armed::Within(sooner, later);
        };
        if self.paced() || due <= greatest {
            return Armed::AsBefore;
        }
        self.cause = if blocking { Cause::Asked } else { Cause::Spaced };
        Armed::SoonerWithin(least, greatest)
    }

    /// A force: now, a second after the last run at the soonest; it joins what is under way and adds nothing.
    pub(crate) fn forced(&mut self, now: u64) -> Armed {
        if self.stopped || self.running {
            return Armed::Nothing;
        }
        let at = now.max(self.last_end.map_or(0, |end| end + FORCE_LEAST));
        let at = self.due.map_or(at, |due| due.min(at));
        self.cause = Cause::Soon;
        Armed::Within(at, at)
    }

    pub(crate) fn changed(&mut self, now: u64) -> Armed {
        if self.stopped {
            return Armed::Nothing;
        }
        if self.running {
            self.again = true;
            return Armed::Nothing;
        }
        let window = match self.setting.kind {
            SubjectKind::ServiceMap => self.setting.interval / 10,
            SubjectKind::Connector => 500.min(self.setting.interval),
        };
        match self.due {
            None => Armed::Nothing,
            Some(due) if self.paced() || due <= now + window => Armed::AsBefore,
            Some(_) => {
                self.cause = Cause::Asked;
                Armed::SoonerWithin(now, now + window)
            }
        }
    }

    /// A sleep is over: within the first tenth, but not before what the origin asked for, nor below the floor.
    pub(crate) fn resumed(&mut self, now: u64) -> Armed {
        if self.stopped || self.running {
            return Armed::Nothing;
        }
        let window = now + self.setting.interval / 10;
        match self.due {
            None => Armed::Nothing,
            Some(due) if due <= window => Armed::AsBefore,
            Some(_) if self.cause == Cause::Told && self.failures > 0 => Armed::AsBefore,
            Some(_) => {
                let floor = if self.failures == 0 || self.kept_apart() { self.floor_end() } else { 0 };
                self.cause = if floor > 0 { Cause::Spaced } else { Cause::Asked };
                // A map that serves nothing may be kept apart as well.
                let greatest = match self.setting.kind {
                    SubjectKind::ServiceMap => window.max(self.floor_end()),
                    SubjectKind::Connector => window.max(floor),
                };
                let told = self.not_before.saturating_sub(self.last_end.unwrap_or(0));
                let greatest = greatest.max(self.not_before + (told / 5).max(told.min(self.setting.backoff.0)));
                let told = if self.forgotten { 0 } else { self.not_before };
                Armed::SoonerWithin(now.max(floor).max(told), greatest)
            }
        }
    }

    /// Another policy decides from now on: what the former one kept for itself stays with its family.
    pub(crate) fn swapped(&mut self) {
        self.forgotten = true;
    }

    /// The settings are told anew and say the same: no run moves. On demand, one that nobody asked for may go; in the
    /// background, one is armed wherever none is.
    pub(crate) fn reconfigured(&mut self, now: u64) -> Armed {
        if self.stopped || self.running {
            return Armed::Nothing;
        }
        match (self.setting.mode, self.due) {
            (RefreshMode::OnDemand, None) => Armed::Nothing,
            (RefreshMode::OnDemand, Some(_)) => Armed::AsBeforeOrNothing,
            (RefreshMode::Background, Some(_)) => Armed::AsBefore,
            (RefreshMode::Background, None) => {
                Armed::Within(now.max(self.not_before), (now + self.setting.interval).max(self.not_before))
            }
        }
    }

    pub(crate) fn stopped(&mut self) -> Armed {
        self.stopped = true;
        self.running = false;
        Armed::Nothing
    }

    /// What is wrong with what is armed now, if anything is. What is armed is then noted.
    pub(crate) fn wrong(&mut self, armed: Armed, due: Option<u64>) -> Option<String> {
        let before = std::mem::replace(&mut self.due, due);
        let right = match armed {
            Armed::Nothing => due.is_none(),
            Armed::AsBefore => due == before,
            Armed::AsBeforeOrNothing => due.is_none() || due == before,
            Armed::Within(least, greatest) => due.is_some_and(|due| (least..=greatest).contains(&due)),
            Armed::SoonerWithin(least, greatest) => {
                due == before || due.is_some_and(|due| (least..=greatest).contains(&due) && Some(due) < before)
            }
        };
        if !right {
            return Some(format!("due at {due:?}, before at {before:?}; may be {armed:?}"));
        }
        // In the background something is always armed or under way (S5).
        let forgotten = self.background() && !self.stopped && !self.running && due.is_none();
        forgotten.then(|| "nothing is armed and nothing is under way".to_owned())
    }

    // ---- paces ------------------------------------------------------------------------------------------------------

    fn end(&mut self, now: u64) {
        self.running = false;
        self.last_end = Some(now);
    }

    /// Whether what is armed was armed by a failure, so that wishes leave it alone.
    fn paced(&self) -> bool {
        self.failures > 0 && matches!(self.cause, Cause::Paced | Cause::Told | Cause::Soon)
    }

    fn floor_end(&self) -> u64 {
        self.last_end.map_or(0, |end| end + self.setting.floor)
    }

    /// Equal jitter, exponential: the range.
    fn backoff(&self) -> (u64, u64) {
        let (first, longest) = self.setting.backoff;
        let ceiling = (first << self.failures.saturating_sub(1).min(30)).min(longest);
        (ceiling / 2, ceiling)
    }
}
