//! Values of `scheduling.breaker`: whether calls pass to a connector.
//!
//! Plain data, and a mirror of `wit/types.wit`: the same names, the same order, the same documentation. Nothing here
//! decides anything, and no `serde` attribute may rename a field: the tests compare these values with those that the
//! host binds from the WIT, name by name.

/// When a breaker opens and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BreakerConfig {
    /// It opens at this many failures in a row. At least 1.
    pub failure_threshold: u32,
    /// It also opens when, of the last `window` outcomes, at least `rate_permille` failed. 1 to 32.
    pub window: u32,
    /// See `window`. 1 to 1000.
    pub rate_permille: u32,
    /// The first open time.
    pub open_min_ms: u64,
    /// The longest open time.
    pub open_max_ms: u64,
    /// How long a half-open probe may take.
    pub probe_deadline_ms: u64,
    /// Settings beyond the known fields.
    pub options: Vec<(String, String)>,
}

/// A breaker that lets nothing through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct OpenBreaker {
    /// Until when, by the boot clock.
    pub until_boot_ms: u64,
}

/// A breaker that lets one probe through.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct HalfOpenBreaker {
    /// The id of the probe under way.
    pub probe_id: u64,
    /// When the probe counts as lost, by the boot clock.
    pub deadline_boot_ms: u64,
}

/// Closed, open or half open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BreakerPhase {
    /// Everything passes.
    Closed,
    /// Nothing passes.
    Open(OpenBreaker),
    /// One probe passes.
    HalfOpen(HalfOpenBreaker),
}

/// The state of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BreakerState {
    /// Closed, open or half open.
    pub phase: BreakerPhase,
    /// Failures in a row.
    pub consecutive: u32,
    /// The last outcomes, newest in bit 0, a set bit is a failure.
    pub recent: u32,
    /// How many bits of `recent` count. At most 32.
    pub recent_count: u32,
    /// How often it opened since it last closed.
    pub opened: u32,
    /// The id that the next probe gets.
    pub next_probe_id: u64,
    /// The policy's own.
    pub memo: Vec<u8>,
}

/// What happened at a breaker. A tool's own error counts as a success here: the server answered. While not every call
/// passes, whatever else the server answers (a list, the opening of a session, a ping) is a success without an id.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BreakerEvent {
    /// A call asks to pass.
    Asked,
    /// A call that passed was answered; the id if it was a probe. Without an id and while not every call passes: the
    /// server answered something other than a probe.
    Succeeded(Option<u64>),
    /// A call that passed failed; the id if it was the probe.
    Failed(Option<u64>),
    /// A call that passed was given up before it had an outcome; the id if it was the probe. Its outcome may follow.
    Cancelled(Option<u64>),
}

/// What a call may do. To an event other than `asked` it tells what the next call would be told.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BreakerVerdict {
    /// Pass.
    Allow,
    /// Pass, as the one probe: its id.
    Probe(u64),
    /// Do not pass before this time of the boot clock.
    Reject(u64),
}

/// Why a breaker answers as it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum BreakerReason {
    /// It is closed.
    Closed,
    /// Too many failures in a row: it opens.
    ConsecutiveFailures,
    /// Too large a share of failures: it opens.
    FailureRate,
    /// It is open.
    Open,
    /// Its open time is over, or ended by an answer to something other than a probe: a probe may pass.
    Probing,
    /// A probe is under way.
    ProbeInFlight,
    /// The probe did well: it closes.
    ProbeSucceeded,
    /// The probe failed: it opens again, for longer.
    ProbeFailed,
    /// The probe was given up, or lost: another may pass.
    ProbeLost,
    /// The outcome belongs to no probe under way, and changes nothing for the next call.
    Late,
}

/// What becomes of a breaker.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct BreakerDecision {
    /// The state from now on.
    pub state: BreakerState,
    /// What the call may do.
    pub verdict: BreakerVerdict,
    /// Why.
    pub reason: BreakerReason,
}
