//! Values of `scheduling.refresh`: when a subject is fetched again.
//!
//! Plain data, and a mirror of `wit/types.wit`: the same names, the same order, the same documentation. Nothing here
//! decides anything, and no `serde` attribute may rename a field: the tests compare these values with those that the
//! host binds from the WIT, name by name.

use super::shared::{FailureClass, SubjectKind};

/// Whether the gateway refreshes in the background.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RefreshMode {
    /// The policy arms runs by itself.
    Background,
    /// Only reads and forces arm runs (the rollback `MCP_CONNECTOR_REFRESH_SYNC=true`).
    OnDemand,
}

/// How a subject is to be refreshed. The host takes it from its own configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RefreshConfig {
    /// What is refreshed.
    pub kind: SubjectKind,
    /// Background or on demand.
    pub mode: RefreshMode,
    /// T: the steady interval between refreshes. 1,000 to 86,400,000.
    pub interval_ms: u64,
    /// The least time between two unforced fetches of something that is served. 0 to `interval_ms`.
    pub floor_ms: u64,
    /// Jitter on each steady interval: plus or minus this much. 0 to 1000.
    pub jitter_permille: u32,
    /// First backoff of a subject that serves nothing.
    pub backoff_min_ms: u64,
    /// Longest backoff of a subject that serves nothing.
    pub backoff_max_ms: u64,
    /// Settings beyond the known fields, in the order of the configuration file.
    pub options: Vec<(String, String)>,
}

/// A run that waits for its time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ArmedRun {
    /// When it is due, by the boot clock.
    pub run_at_boot_ms: u64,
    /// The reason it was armed with.
    pub reason: RefreshReason,
}

/// A run under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ActiveRun {
    /// The id of the run. Results that carry another id are late and change nothing.
    pub run_id: u64,
    /// When it began, by the boot clock.
    pub since_boot_ms: u64,
    /// A change or a force arrived that this run may have missed: run once more when it ends.
    pub again: bool,
}

/// Where a subject stands. At most one run is armed or under way.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RefreshPhase {
    /// Nothing is armed.
    Idle,
    /// A run waits for its time.
    Armed(ArmedRun),
    /// A run is under way.
    Running(ActiveRun),
}

/// The state of a subject's refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RefreshState {
    /// Idle, armed or running.
    pub phase: RefreshPhase,
    /// Failures in a row.
    pub failures: u32,
    /// The class of the last failure, if the last run failed.
    pub last_class: Option<FailureClass>,
    /// The steady interval drawn last; 0 before the first.
    pub interval_ms: u64,
    /// The id that the next run gets.
    pub next_run_id: u64,
    /// When the last run ended, by the boot clock, if one ended under this boot id.
    pub last_end_boot_ms: Option<u64>,
    /// The boot id under which the times above hold.
    pub boot_id: u64,
    /// The policy's own.
    pub memo: Vec<u8>,
}

/// What a gateway has in hand when it starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum StartKind {
    /// Nothing to serve.
    Cold,
    /// A last known good value, still fresh.
    Warm,
    /// A last known good value that is stale.
    WarmStale,
}

/// How urgent a reader's wish is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Urgency {
    /// The reader was served and suggests a refresh.
    Background,
    /// The reader has nothing and waits.
    Blocking,
}

/// The first event of a subject's life in this process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StartedEvent {
    /// What there is to serve.
    pub start: StartKind,
    /// The id of this boot of the machine.
    pub boot_id: u64,
}

/// The end of a run that succeeded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct SucceededEvent {
    /// The run.
    pub run_id: u64,
    /// How long it took.
    pub duration_ms: u64,
    /// For how long the value is fresh from now on; none if it carries no such hint.
    pub fresh_for_ms: Option<u64>,
}

/// The end of a run that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FailedEvent {
    /// The run.
    pub run_id: u64,
    /// Why it failed.
    pub class: FailureClass,
    /// What the origin asked for (`Retry-After`).
    pub retry_after_ms: Option<u64>,
    /// How long it took.
    pub duration_ms: u64,
    /// Whether a last known good value is being served meanwhile.
    pub serving: bool,
}

/// What happened to a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RefreshEvent {
    /// The subject starts.
    Started(StartedEvent),
    /// The armed run begins now.
    Began,
    /// A run ended well.
    Succeeded(SucceededEvent),
    /// A run failed.
    Failed(FailedEvent),
    /// A run was cancelled before it had a result: its id.
    Cancelled(u64),
    /// A reader wishes a refresh.
    Wanted(Urgency),
    /// Somebody insists on a refresh now.
    Forced,
    /// The origin announced a change.
    Changed,
    /// The machine woke up, or the boot clock jumped ahead.
    Resumed,
    /// The subject ends.
    Stopped,
    /// The configuration changed.
    ConfigChanged,
    /// The credentials changed.
    CredentialsChanged,
}

/// Why a run is armed for the time it is armed for, or why nothing changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RefreshReason {
    /// Nothing to serve at the start: now.
    ColdStart,
    /// Something fresh or stale to serve at the start: at a random point of the interval.
    WarmStart,
    /// The steady interval, jittered.
    Steady,
    /// The value's own freshness is shorter than the interval.
    Freshness,
    /// A failure with nothing to serve: exponential backoff with equal jitter.
    Backoff,
    /// A first failure while something is served: anywhere in the interval.
    BackoffServing,
    /// A further failure while something is served: in the later half of the interval.
    BackoffServingAgain,
    /// The origin said when to come back.
    RetryAfter,
    /// The origin refuses our credentials: wait for others.
    AuthWait,
    /// A force: now.
    Forced,
    /// A force found a run under way and joined it.
    Joined,
    /// A reader suggested it.
    WantedBackground,
    /// A reader waits for it.
    WantedBlocking,
    /// The origin announced a change.
    Changed,
    /// The machine woke up.
    Resumed,
    /// The subject ended; nothing is armed.
    Stopped,
    /// The configuration changed.
    ConfigChanged,
    /// The credentials changed: now.
    CredentialsChanged,
    /// A run began.
    Began,
    /// A run was cancelled.
    Cancelled,
    /// A run is armed already, and no later than this wish.
    AlreadyArmed,
    /// A run is under way already.
    AlreadyRunning,
    /// Nothing is refreshed in the background.
    OnDemand,
    /// The event belongs to another run, or to no run.
    Late,
}

/// What becomes of a subject's refresh.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct RefreshDecision {
    /// The state from now on.
    pub state: RefreshState,
    /// When the host is to send `began`, by the boot clock; none: nothing is armed.
    pub run_at_boot_ms: Option<u64>,
    /// Why.
    pub reason: RefreshReason,
}
