//! Bounds of what is logged.

use std::time::Duration;

/// The window in which lines of one reason are counted.
pub const LOG_WINDOW: Duration = Duration::from_secs(60);

/// Lines in a window of one reason that somebody outside can bring about: enough to see what goes on, and 1 KiB of each of some
/// thirty reasons stays below a third of a MiB.
pub const REFUSAL_LINES: u32 = 10;

/// Lines in a window of one class of failure of all connectors: each of a few dozen servers is named when they all go down.
pub const CONNECTOR_LINES: u32 = 30;

/// Lines in a window about processes of one connector that ended by themselves: it is restarted with a growing backoff, and by
/// every call.
pub const EXIT_LINES: u32 = 3;

/// A failure that stays the same is logged again after this long: by then a thousand connectors that fail for one reason have
/// each had their first line.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(3_600);
