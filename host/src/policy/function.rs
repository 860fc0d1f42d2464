//! The functions of the contract, by name: what budgets, records and summaries go by.

use serde::{Deserialize, Serialize};

/// A function of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Function {
    /// `scheduling.refresh`
    Refresh,
    /// `scheduling.breaker`
    Breaker,
    /// `scheduling.plan`
    Plan,
    /// `scheduling.concurrency`
    Concurrency,
    /// `caching.lookup`
    Lookup,
    /// `caching.advance`
    Advance,
    /// `registry.stamp`
    Stamp,
    /// `registry.adopt`
    Adopt,
    /// `registry.merge`
    Merge,
    /// `registry.flush-after`
    FlushAfter,
}

impl Function {
    /// Every function.
    pub const ALL: [Self; 10] = [
        Self::Refresh,
        Self::Breaker,
        Self::Plan,
        Self::Concurrency,
        Self::Lookup,
        Self::Advance,
        Self::Stamp,
        Self::Adopt,
        Self::Merge,
        Self::FlushAfter,
    ];

    /// Its name in the contract.
    pub fn name(self) -> &'static str {
        match self {
            Self::Refresh => "refresh",
            Self::Breaker => "breaker",
            Self::Plan => "plan",
            Self::Concurrency => "concurrency",
            Self::Lookup => "lookup",
            Self::Advance => "advance",
            Self::Stamp => "stamp",
            Self::Adopt => "adopt",
            Self::Merge => "merge",
            Self::FlushAfter => "flush-after",
        }
    }
}
