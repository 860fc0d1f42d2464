//! Values of `scheduling.plan` and `scheduling.concurrency`: who goes first and how many at once.
//!
//! Plain data, and a mirror of `wit/types.wit`: the same names, the same order, the same documentation. Nothing here
//! decides anything, and no `serde` attribute may rename a field: the tests compare these values with those that the
//! host binds from the WIT, name by name.

use super::shared::FailureClass;

/// How a sync is planned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PlanConfig {
    /// A candidate that takes longer than this moves to the slow lane, unless the policy says otherwise.
    pub slow_after_ms: u64,
    /// Settings beyond the known fields.
    pub options: Vec<(String, String)>,
}

/// A connector that waits for its turn.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Candidate {
    /// The connector's id.
    pub id: String,
    /// Its failures in a row.
    pub failures: u32,
    /// The class of its last failure.
    pub last_class: Option<FailureClass>,
    /// How long its last successful run took.
    pub last_duration_ms: Option<u64>,
    /// Whether its last known good list is being served.
    pub serving: bool,
    /// Whether somebody waits for it.
    pub wanted: bool,
}

/// Who goes first.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct PlanDecision {
    /// Positions in the list of candidates, each once, first to go first.
    pub order: Vec<u32>,
    /// Whoever runs longer than this moves to the slow lane and frees its place. At least 1.
    pub slow_after_ms: u64,
}

/// Bounds of the concurrency limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConcurrencyConfig {
    /// The least limit. At least 1.
    pub minimum: u32,
    /// The greatest limit, and the first one.
    pub maximum: u32,
    /// Set when the operator fixed the number: it is the limit.
    pub fixed: Option<u32>,
    /// Settings beyond the known fields.
    pub options: Vec<(String, String)>,
}

/// The state of the concurrency limit.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConcurrencyState {
    /// The limit, in thousandths of a place; 0 before the first decision.
    pub limit_milli: u64,
    /// Runs under way.
    pub in_flight: u32,
    /// The best duration seen, ageing upwards; none before the first.
    pub baseline_ms: Option<u64>,
    /// Outcomes since the limit last fell.
    pub since_decrease: u32,
    /// The policy's own.
    pub memo: Vec<u8>,
}

/// How a run ended, as far as concurrency is concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum RunOutcome {
    /// Well.
    Succeeded,
    /// Not well.
    Failed(FailureClass),
    /// It was given up.
    Cancelled,
}

/// The end of a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FinishedEvent {
    /// How long it took.
    pub duration_ms: u64,
    /// How it ended.
    pub outcome: RunOutcome,
}

/// What happened to the runs.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ConcurrencyEvent {
    /// One began.
    Began,
    /// One ended.
    Finished(FinishedEvent),
}

/// Why the limit is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ConcurrencyReason {
    /// The operator fixed it.
    Fixed,
    /// It is where it started.
    Initial,
    /// A run did well: a little more.
    Increased,
    /// Overload: much less.
    Decreased,
    /// Nothing to learn from this event.
    Unchanged,
}

/// The limit from now on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ConcurrencyDecision {
    /// The state from now on.
    pub state: ConcurrencyState,
    /// How many runs may be under way at once. At least 1.
    pub limit: u32,
    /// Why.
    pub reason: ConcurrencyReason,
}
