//! Every number that the rules contain and the configuration does not.
//!
//! Each constant names its unit in its name or its documentation, and says where it comes from. Configuration values are
//! clamped to the bounds given here, so that a careless or hostile configuration cannot make a gateway storm an origin.
//! A number that decides anything must stand here and nowhere else.

/// All of something, in permille.
pub const ALL_PERMILLE: u64 = 1_000;

/// The greatest time the contract allows: every time and duration is below 2^53 (`world.wit`).
pub const TIME_MAX_MS: u64 = (1 << 53) - 1;

// ---- refresh --------------------------------------------------------------------------------------------------------

/// Shortest steady interval (`refresh-config.interval-ms`). Also the least interval that jitter may leave.
pub const INTERVAL_LEAST_MS: u64 = 1_000;

/// Longest steady interval: one day (`refresh-config.interval-ms`).
pub const INTERVAL_GREATEST_MS: u64 = 86_400_000;

/// Shortest first backoff that a configuration may ask for. Below it a retry is a busy loop.
pub const BACKOFF_LEAST_MS: u64 = 100;

/// A value is refreshed after this share of its remaining freshness (design.md 3, item 1).
pub const FRESHNESS_SHARE_PERMILLE: u64 = 800;

/// The part of the interval in which a wish, an announced change of a map or a wake-up is spread (design.md 3, item 1).
pub const NEAR_WINDOW_PERMILLE: u64 = 100;

/// The window in which an announced change of a connector is followed: quick for people, not one instant for a fleet.
pub const CHANGED_WINDOW_MS: u64 = 500;

/// Longest `Retry-After` that is honoured: one hour (design.md 3, item 1).
pub const RETRY_AFTER_GREATEST_MS: u64 = 3_600_000;

/// Jitter on top of a `Retry-After`, as a share of it; at least the first backoff is used.
pub const RETRY_AFTER_JITTER_PERMILLE: u64 = 200;

/// A subject whose credentials are refused waits for this many intervals (design.md 3, item 1).
pub const AUTH_WAIT_INTERVALS: u64 = 10;

/// Least time between the end of a run and a run that is forced (reliability.md 5.3, R5: a force is rate limited).
pub const FORCE_LEAST_MS: u64 = 1_000;

// ---- breaker --------------------------------------------------------------------------------------------------------

/// Most outcomes a breaker remembers: the bits of `breaker-state.recent`.
pub const BREAKER_WINDOW_GREATEST: u32 = 32;

/// Shortest open time and shortest probe deadline. Below it a breaker protects nothing.
pub const BREAKER_TIME_LEAST_MS: u64 = 1;

// ---- concurrency ----------------------------------------------------------------------------------------------------

/// One place, in the unit of `concurrency-state.limit-milli`.
pub const PLACE_MILLI: u64 = 1_000;

/// What remains of the limit after overload: three quarters.
pub const DECREASE_PERMILLE: u64 = 750;

/// A run that takes this many times the baseline is a sign of overload (reliability.md 6.3).
pub const OVERLOAD_FACTOR: u64 = 3;

/// A run must also exceed the baseline by this much: three times nothing is still nothing.
pub const OVERLOAD_NOISE_MS: u64 = 50;

/// How much the baseline ages upwards with each good run; at least one millisecond (reliability.md 6.3: re-measure).
pub const BASELINE_AGEING_PERMILLE: u64 = 10;

// ---- caching --------------------------------------------------------------------------------------------------------

/// Most ratchets kept; the oldest version is forgotten first (`cache-state.ratchets`).
pub const RATCHETS_GREATEST: usize = 16;

/// Most expired arrivals kept; the oldest is forgotten first (`cache-state.expired-arrivals`).
pub const EXPIRED_ARRIVALS_GREATEST: usize = 4;

// ---- registry -------------------------------------------------------------------------------------------------------

/// A stamp further in the future than this is reported: five minutes (`adopt-decision.from-the-future`).
pub const FUTURE_TOLERANCE_MS: u64 = 300_000;

/// This many pending changes are written at once, whatever the batch time: it bounds what a start has to replay.
pub const FLUSH_CHANGES_GREATEST: u32 = 1_000;

/// This many pending bytes (4 MiB) are written at once, whatever the batch time.
pub const FLUSH_BYTES_GREATEST: u64 = 4 * 1024 * 1024;
