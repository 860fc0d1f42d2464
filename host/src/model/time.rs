//! Times. Two clocks, two types: a wall-clock reading and a boot-clock reading can not be mixed up.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::format_description::well_known::Rfc3339;
use time::{Date, Month, OffsetDateTime, PrimitiveDateTime, Time};

/// A reading of the wall clock: milliseconds since the Unix epoch. It may step between readings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WallMs(pub u64);

impl WallMs {
    /// Reads an ISO 8601 time in UTC: `2025-10-12T12:00:00.000Z`, with or without seconds and fraction. Offsets other
    /// than `Z` are refused, as the service map's schema demands.
    ///
    /// # Errors
    /// [`TimestampError`] if the text is anything else, an impossible date, or before 1970.
    pub fn parse(text: &str) -> Result<Self, TimestampError> {
        let bytes = text.as_bytes();
        let digits = |range: std::ops::Range<usize>| -> Result<u32, TimestampError> {
            let part = bytes.get(range).ok_or(TimestampError)?;
            part.iter().try_fold(0u32, |value, byte| {
                byte.is_ascii_digit().then(|| value * 10 + u32::from(byte - b'0')).ok_or(TimestampError)
            })
        };
        let expect = |at: usize, byte: u8| (bytes.get(at) == Some(&byte)).then_some(()).ok_or(TimestampError);
        expect(4, b'-').and(expect(7, b'-')).and(expect(10, b'T')).and(expect(13, b':'))?;
        let (mut second, mut milli, mut at) = (0, 0, 16);
        if bytes.get(at) == Some(&b':') {
            second = digits(17..19)?;
            at = 19;
            if bytes.get(at) == Some(&b'.') {
                let end = at + 1 + bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
                milli = (0..3).fold(0, |value, place| {
                    value * 10
                        + bytes.get(at + 1 + place).filter(|_| at + 1 + place < end).map_or(0, |b| u32::from(b - b'0'))
                });
                at = end;
            }
        }
        expect(at, b'Z')?;
        if bytes.len() != at + 1 {
            return Err(TimestampError);
        }
        let small = |value: u32| u8::try_from(value).map_err(|_| TimestampError);
        let month = Month::try_from(small(digits(5..7)?)?).map_err(|_| TimestampError)?;
        let year = i32::try_from(digits(0..4)?).map_err(|_| TimestampError)?;
        let date = Date::from_calendar_date(year, month, small(digits(8..10)?)?).map_err(|_| TimestampError)?;
        let time = Time::from_hms(small(digits(11..13)?)?, small(digits(14..16)?)?, small(second)?)
            .map_err(|_| TimestampError)?;
        let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
        let seconds = u64::try_from(seconds).map_err(|_| TimestampError)?;
        Ok(Self(seconds * 1000 + u64::from(milli)))
    }

    /// The time so many milliseconds later; the greatest time instead of an overflow.
    pub fn plus(self, milliseconds: u64) -> Self {
        Self(self.0.saturating_add(milliseconds))
    }
}

impl fmt::Display for WallMs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .ok()
            .and_then(|time| time.format(&Rfc3339).ok());
        match written {
            Some(text) => formatter.write_str(&text),
            None => write!(formatter, "{} ms since the epoch", self.0),
        }
    }
}

/// A reading of the boot clock: milliseconds since the machine started, suspend included. It never steps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct BootMs(pub u64);

impl BootMs {
    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// The time so much later; the greatest time instead of an overflow.
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(milliseconds(duration)))
    }
}

/// The whole milliseconds of a duration; the greatest number instead of an overflow.
pub fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Which boot of the machine a [`BootMs`] belongs to. Below 2^53, so that every language can hold it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct BootId(pub u64);

/// One moment on both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moment {
    /// By the wall clock.
    pub wall: WallMs,
    /// By the boot clock.
    pub boot: BootMs,
    /// The boot that `boot` belongs to.
    pub boot_id: BootId,
}

/// A text that is no UTC time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a time is written YYYY-MM-DDThh:mm[:ss[.fraction]]Z, in UTC with Z")]
pub struct TimestampError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn utc_times_are_read_and_written() {
        for (text, milliseconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("1970-01-01T00:01Z", 60_000),
            ("2025-10-12T12:00:00.000Z", 1_760_270_400_000),
            ("2025-10-12T12:00:00.1Z", 1_760_270_400_100),
            ("2025-10-12T12:00:00.123456789Z", 1_760_270_400_123),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
        ] {
            assert_eq!(WallMs::parse(text), Ok(WallMs(milliseconds)), "{text}");
        }
        assert_eq!(WallMs(1_760_270_400_000).to_string(), "2025-10-12T12:00:00Z");
    }

    #[test]
    fn other_spellings_and_impossible_dates_are_refused() {
        for text in [
            "",
            "2025-10-12",
            "2025-10-12T12:00:00",
            "2025-10-12T12:00:00+00:00",
            "2025-02-30T00:00:00Z",
            "2025-13-01T00:00:00Z",
            "2025-10-12T24:00:00Z",
            "2025-10-12T12:00:00ZZ",
            "2025-10-12 12:00:00Z",
            "1969-12-31T23:59:59Z",
            "2025-10-12T12:00:0xZ",
            "２025-10-12T12:00:00Z",
        ] {
            assert_eq!(WallMs::parse(text), Err(TimestampError), "{text}");
        }
    }
}
