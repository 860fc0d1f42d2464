//! Times in words. Everything is told relative to the trace's last moment, never to the reader's clock: a trace is read
//! elsewhere, and later.

use std::str::FromStr;

use crate::model::{BootMs, Moment, WallMs};
use crate::policy::contract::Instant;

/// From when on decisions are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    /// From this time on.
    At(WallMs),
    /// So many milliseconds before the trace's last moment.
    Span(u64),
}

impl Since {
    /// The time itself, in a trace that ends at `as_of`.
    pub fn wall(self, as_of: Moment) -> WallMs {
        match self {
            Self::At(wall) => wall,
            Self::Span(milliseconds) => WallMs(as_of.wall.0.saturating_sub(milliseconds)),
        }
    }
}

impl FromStr for Since {
    type Err = SinceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(wall) = WallMs::parse(text) {
            return Ok(Self::At(wall));
        }
        let unit_at = text.find(|character: char| !character.is_ascii_digit()).ok_or(SinceError)?;
        let (number, unit) = text.split_at(unit_at);
        let number: u64 = number.parse().map_err(|_| SinceError)?;
        let milliseconds = match unit {
            "ms" => 1,
            "s" => SECOND,
            "m" | "min" => MINUTE,
            "h" => HOUR,
            "d" => DAY,
            _ => return Err(SinceError),
        };
        number.checked_mul(milliseconds).map(Self::Span).ok_or(SinceError)
    }
}

/// A text that is neither a time nor a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("write a UTC time, as 2026-01-01T12:00:00Z, or a span before the trace's end, as 30s, 10m, 2h or 1d")]
pub struct SinceError;

const SECOND: u64 = 1_000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

/// A duration in words: `41 s`, `12 min`, `2 h 5 min`.
pub(super) fn span(milliseconds: u64) -> String {
    let two = |first: u64, unit: &str, second: u64, smaller: &str| match second {
        0 => format!("{first} {unit}"),
        second => format!("{first} {unit} {second} {smaller}"),
    };
    match milliseconds {
        0..SECOND => format!("{milliseconds} ms"),
        SECOND..10_000 if milliseconds % SECOND >= 100 => {
            format!("{}.{} s", milliseconds / SECOND, milliseconds % SECOND / 100)
        }
        SECOND..120_000 => format!("{} s", milliseconds / SECOND),
        120_000..600_000 => two(milliseconds / MINUTE, "min", milliseconds % MINUTE / SECOND, "s"),
        600_000..7_200_000 => format!("{} min", milliseconds / MINUTE),
        7_200_000..172_800_000 => two(milliseconds / HOUR, "h", milliseconds % HOUR / MINUTE, "min"),
        _ => two(milliseconds / DAY, "d", milliseconds % DAY / HOUR, "h"),
    }
}

/// The time of the day, in UTC: `08:41:02.113`.
pub(super) fn time_of_day(wall: WallMs) -> String {
    let of_day = wall.0 % DAY;
    let (hour, minute) = (of_day / HOUR, of_day % HOUR / MINUTE);
    format!("{hour:02}:{minute:02}:{:02}.{:03}", of_day % MINUTE / SECOND, of_day % SECOND)
}

/// What the wall clock shows when the boot clock shows `boot`, as far as it was known at `moment`.
pub(super) fn wall_of_boot(boot: u64, moment: Moment) -> WallMs {
    let ahead = boot.saturating_sub(moment.boot.0);
    let behind = moment.boot.0.saturating_sub(boot);
    WallMs(moment.wall.0.saturating_add(ahead).saturating_sub(behind))
}

/// A time of the boot clock as it is told with a decision made at `moment`: `at 08:45:33.000 (in 41 s)`, or `now`.
pub(super) fn at_boot(boot: u64, moment: Moment) -> String {
    if boot <= moment.boot.0 {
        return "now".to_owned();
    }
    let wait = span(boot - moment.boot.0);
    format!("at {} (in {wait})", time_of_day(wall_of_boot(boot, moment)))
}

/// Tells times as they look from the trace's last moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    pub(super) as_of: Moment,
}

impl Clock {
    /// What the wall clock shows at a time of the boot clock that was named at `named`.
    pub(super) fn wall(self, boot: u64, named: Moment) -> WallMs {
        // Under one boot id the distance is exact, though the wall clock may have stepped since.
        let near = if named.boot_id == self.as_of.boot_id { self.as_of } else { named };
        wall_of_boot(boot, near)
    }

    /// The wall-clock time so long after an instant.
    pub(super) fn after(self, instant: &Instant, milliseconds: u64) -> WallMs {
        if instant.boot_id == self.as_of.boot_id.0 {
            return wall_of_boot(BootMs(instant.boot_ms).0.saturating_add(milliseconds), self.as_of);
        }
        WallMs(instant.wall_ms).plus(milliseconds)
    }

    /// Whether a time is past.
    pub(super) fn is_past(self, wall: WallMs) -> bool {
        wall <= self.as_of.wall
    }

    /// `in 41 s`, `12 min ago`, `now`.
    pub(super) fn relative(self, wall: WallMs) -> String {
        let (ahead, behind) = (wall.0.saturating_sub(self.as_of.wall.0), self.as_of.wall.0.saturating_sub(wall.0));
        match (ahead, behind) {
            (0, 0) => "now".to_owned(),
            (0, behind) => format!("{} ago", span(behind)),
            (ahead, _) => format!("in {}", span(ahead)),
        }
    }

    /// `2026-11-20T08:40:11Z (12 min ago)`.
    pub(super) fn told(self, wall: WallMs) -> String {
        format!("{} ({})", to_the_second(wall), self.relative(wall))
    }
}

/// A time without its fraction.
pub(super) fn to_the_second(wall: WallMs) -> WallMs {
    WallMs(wall.0 - wall.0 % SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::BootId;

    #[test]
    fn durations_are_told_as_people_say_them() {
        for (milliseconds, told) in [
            (0, "0 ms"),
            (999, "999 ms"),
            (1_500, "1.5 s"),
            (5_005, "5 s"),
            (41_000, "41 s"),
            (119_999, "119 s"),
            (161_000, "2 min 41 s"),
            (120_000, "2 min"),
            (725_000, "12 min"),
            (7_500_000, "2 h 5 min"),
            (86_400_000 * 3, "3 d"),
        ] {
            assert_eq!(span(milliseconds), told);
        }
    }

    #[test]
    fn a_span_and_a_time_are_both_a_since_and_anything_else_is_an_error_that_says_what_to_write() {
        assert_eq!("10m".parse(), Ok(Since::Span(600_000)));
        assert_eq!("2h".parse(), Ok(Since::Span(7_200_000)));
        assert_eq!("1d".parse(), Ok(Since::Span(86_400_000)));
        assert_eq!("2026-01-01T00:00:00Z".parse(), Ok(Since::At(WallMs(1_767_225_600_000))));
        for text in ["", "10", "m", "-1m", "10 m", "10x", "yesterday", "99999999999999999999d", "999999999999999999d"] {
            assert_eq!(text.parse::<Since>(), Err(SinceError), "{text}");
        }
    }

    #[test]
    fn distances_hold_although_the_wall_clock_stepped() {
        let named = Moment { wall: WallMs(1_000_000), boot: BootMs(5_000), boot_id: BootId(1) };
        let as_of = Moment { wall: WallMs(9_000_000), boot: BootMs(6_000), boot_id: BootId(1) };
        let clock = Clock { as_of };
        assert_eq!(clock.relative(clock.wall(7_000, named)), "in 1 s");
        assert_eq!(clock.relative(clock.wall(5_000, named)), "1 s ago");
    }
}
