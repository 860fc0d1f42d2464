//! Bounds of this room.

use std::time::Duration;

/// To open a session, where the connector does not say (design section 5).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// To list everything, where the connector does not say.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// A run that takes longer moves to the slow lane, unless the policy says otherwise (reliability 7).
pub const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Runs in the slow lane at once; whoever does not fit keeps its place.
pub const SLOW_LANE_MAX: usize = 256;

/// Runs that ask for admission within this time of the first are ordered together.
pub const ADMISSION_WINDOW: Duration = Duration::from_millis(5);

/// Messages to the admission that may wait.
pub const ADMISSION_QUEUE: usize = 1_024;

/// Calls to one origin at once (design section 5).
pub const CALLS_PER_ORIGIN: usize = 10;

/// Attempts of one request: the second only if the first was certainly not acted upon.
pub const ATTEMPTS: usize = 2;

/// How long a connector that leaves lets its calls in flight end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long closing a session may take.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Fresh time of a list whose server names none: the steady interval takes its place where that is longer.
pub const LIST_TTL_DEFAULT: Duration = Duration::from_secs(300);

/// Least fresh time of a list that names one above zero (reliability R7).
pub const LIST_TTL_MIN: Duration = Duration::from_secs(30);

/// Greatest fresh time of a list (reliability R7).
pub const LIST_TTL_MAX: Duration = Duration::from_secs(86_400);

/// Backoff of a connector: equal jitter, exponential (design section 3).
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// See [`BACKOFF_MIN`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Least time between two unforced fetches of what is served; never above the interval (design section 3).
pub const REFRESH_FLOOR: Duration = Duration::from_secs(30);

/// Jitter of the steady interval, in permille (design section 3).
pub const REFRESH_JITTER_PERMILLE: u32 = 200;

/// A breaker opens at so many failures in a row (design section 3).
pub const BREAKER_THRESHOLD: u32 = 5;

/// It also opens when half of so many outcomes failed.
pub const BREAKER_WINDOW: u32 = 20;

/// See [`BREAKER_WINDOW`].
pub const BREAKER_RATE_PERMILLE: u32 = 500;

/// Open time of a breaker.
pub const BREAKER_OPEN_MIN: Duration = Duration::from_secs(1);

/// See [`BREAKER_OPEN_MIN`].
pub const BREAKER_OPEN_MAX: Duration = Duration::from_secs(60);

/// Clocks of two machines may differ by this much (reliability R2).
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A refresh is suggested after this share of the fresh time, less some jitter (reliability R7).
pub const SOFT_PERMILLE: u32 = 800;

/// See [`SOFT_PERMILLE`].
pub const SOFT_JITTER_PERMILLE: u32 = 100;

/// Pace of retries while nothing can be served (reliability R8).
pub const NEGATIVE_MIN: Duration = Duration::from_secs(5);

/// See [`NEGATIVE_MIN`].
pub const NEGATIVE_MAX: Duration = Duration::from_secs(60);
