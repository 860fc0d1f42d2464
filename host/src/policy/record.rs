//! What is recorded of a decision: enough to make it again, bit for bit, with the same policy or another one.
//!
//! Values only: who is handed them is [`DecisionSink`](super::DecisionSink)'s business.

use serde::{Deserialize, Serialize};

use super::contract::*;
use super::fault::Fault;
use super::function::Function;
use crate::model::{Digest, Moment};

/// The arguments of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "function", content = "arguments")]
#[allow(missing_docs, reason = "each case is the function of that name, each field its argument; see the WIT")]
pub enum Input {
    Refresh { config: RefreshConfig, state: RefreshState, event: RefreshEvent },
    Breaker { config: BreakerConfig, state: BreakerState, event: BreakerEvent },
    Plan { config: PlanConfig, candidates: Vec<Candidate> },
    Concurrency { config: ConcurrencyConfig, state: ConcurrencyState, event: ConcurrencyEvent },
    Lookup { config: CacheConfig, state: CacheState },
    Advance { config: CacheConfig, state: CacheState, event: CacheEvent },
    Stamp { clock: ClockState },
    Adopt { clock: ClockState, writer: String, base: Vec<Entry>, found: Vec<FoundEntry> },
    Merge { ours: Vec<Entry>, theirs: Vec<Entry> },
    FlushAfter { pending: Pending },
}

impl Input {
    /// Which function they are for.
    pub fn function(&self) -> Function {
        match self {
            Self::Refresh { .. } => Function::Refresh,
            Self::Breaker { .. } => Function::Breaker,
            Self::Plan { .. } => Function::Plan,
            Self::Concurrency { .. } => Function::Concurrency,
            Self::Lookup { .. } => Function::Lookup,
            Self::Advance { .. } => Function::Advance,
            Self::Stamp { .. } => Function::Stamp,
            Self::Adopt { .. } => Function::Adopt,
            Self::Merge { .. } => Function::Merge,
            Self::FlushAfter { .. } => Function::FlushAfter,
        }
    }

    /// How many items its lists hold: the fuel budget grows with them.
    pub fn items(&self) -> usize {
        match self {
            Self::Plan { candidates, .. } => candidates.len(),
            Self::Adopt { base, found, .. } => base.len() + found.len(),
            Self::Merge { ours, theirs } => ours.len() + theirs.len(),
            _ => 0,
        }
    }

    /// The memo of the state among them.
    fn memo(&self) -> Option<&[u8]> {
        match self {
            Self::Refresh { state, .. } => Some(&state.memo),
            Self::Breaker { state, .. } => Some(&state.memo),
            Self::Concurrency { state, .. } => Some(&state.memo),
            Self::Lookup { state, .. } | Self::Advance { state, .. } => Some(&state.memo),
            Self::Stamp { clock } | Self::Adopt { clock, .. } => Some(&clock.memo),
            Self::Plan { .. } | Self::Merge { .. } | Self::FlushAfter { .. } => None,
        }
    }

    /// The memo of the state among them.
    pub(crate) fn memo_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Refresh { state, .. } => Some(&mut state.memo),
            Self::Breaker { state, .. } => Some(&mut state.memo),
            Self::Concurrency { state, .. } => Some(&mut state.memo),
            Self::Lookup { state, .. } | Self::Advance { state, .. } => Some(&mut state.memo),
            Self::Stamp { clock } | Self::Adopt { clock, .. } => Some(&mut clock.memo),
            Self::Plan { .. } | Self::Merge { .. } | Self::FlushAfter { .. } => None,
        }
    }
}

/// The result of a decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "function", content = "result")]
#[allow(
    missing_docs,
    clippy::large_enum_variant,
    reason = "each case is the function of that name; see the WIT. Outputs live for one decision, on the stack"
)]
pub enum Output {
    Refresh(RefreshDecision),
    Breaker(BreakerDecision),
    Plan(PlanDecision),
    Concurrency(ConcurrencyDecision),
    Lookup(LookupDecision),
    Advance(AdvanceDecision),
    Stamp(StampDecision),
    Adopt(AdoptDecision),
    Merge(MergeDecision),
    FlushAfter(u64),
}

impl Output {
    /// The memo of the state in it.
    pub(super) fn memo(&self) -> Option<&[u8]> {
        match self {
            Self::Refresh(decision) => Some(&decision.state.memo),
            Self::Breaker(decision) => Some(&decision.state.memo),
            Self::Concurrency(decision) => Some(&decision.state.memo),
            Self::Advance(decision) => Some(&decision.state.memo),
            Self::Stamp(decision) => Some(&decision.state.memo),
            Self::Adopt(decision) => Some(&decision.state.memo),
            Self::Lookup(_) | Self::Plan(_) | Self::Merge(_) | Self::FlushAfter(_) => None,
        }
    }

    /// The memo of the state in it.
    pub(crate) fn memo_mut(&mut self) -> Option<&mut Vec<u8>> {
        match self {
            Self::Refresh(decision) => Some(&mut decision.state.memo),
            Self::Breaker(decision) => Some(&mut decision.state.memo),
            Self::Concurrency(decision) => Some(&mut decision.state.memo),
            Self::Advance(decision) => Some(&mut decision.state.memo),
            Self::Stamp(decision) => Some(&mut decision.state.memo),
            Self::Adopt(decision) => Some(&mut decision.state.memo),
            Self::Lookup(_) | Self::Plan(_) | Self::Merge(_) | Self::FlushAfter(_) => None,
        }
    }
}

/// Who decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecidedBy {
    /// The deployed policy.
    Deployed(Digest),
    /// The embedded default, because the deployed policy faulted.
    DefaultAfterFault(Digest),
    /// The embedded default, because the deployed policy is suspended after faults in a row.
    DefaultWhileSuspended(Digest),
}

impl DecidedBy {
    /// The component.
    pub fn digest(self) -> Digest {
        match self {
            Self::Deployed(digest) | Self::DefaultAfterFault(digest) | Self::DefaultWhileSuspended(digest) => digest,
        }
    }
}

/// What the host changed about a decision before it applied it, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Correction {
    /// The planned order named a candidate twice, or one that does not exist: dropped.
    PlanOrderDropped,
    /// The planned order left candidates out: they were appended.
    PlanOrderCompleted,
    /// A slow lane after zero milliseconds: one was used.
    PlanSlowAfterRaised,
    /// A limit of zero: one was used.
    LimitRaised,
    /// A limit above the operator's fixed number, or above the configured greatest one: that number was used.
    LimitLowered,
}

/// How the deployed policy failed to make a decision. With the record's other arguments, both clocks, the seed and the
/// fuel budget, it is enough to let that policy fault again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultedAttempt {
    /// The component that faulted.
    pub digest: Digest,
    /// The memo that it was given: its own family's, in place of the one in [`DecisionRecord::input`]. Empty where the
    /// arguments hold none.
    pub memo: Vec<u8>,
    /// How it faulted.
    pub fault: Fault,
}

impl DecisionRecord {
    /// How many bytes its memos have, together.
    pub(crate) fn memo_bytes(&self) -> usize {
        let given = self.input.memo().map_or(0, <[u8]>::len);
        let made = self.output.as_ref().and_then(Output::memo).map_or(0, <[u8]>::len);
        given + made + self.faulted.as_ref().map_or(0, |attempt| attempt.memo.len())
    }

    /// The arguments as the deployed policy had them when it faulted; none if it did not.
    pub fn faulted_input(&self) -> Option<Input> {
        let faulted = self.faulted.as_ref()?;
        let mut input = self.input.clone();
        if let Some(memo) = input.memo_mut() {
            memo.clone_from(&faulted.memo);
        }
        Some(input)
    }
}

/// One decision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DecisionRecord {
    /// Its number in this gateway.
    pub sequence: u64,
    /// What was decided about.
    pub subject: String,
    /// Its number among the subject's decisions.
    pub subject_sequence: u64,
    /// The arguments, with the memo of whoever [decided](Self::decided_by).
    pub input: Input,
    /// Both clocks, as the policy read them.
    pub moment: Moment,
    /// The seed of its random draws.
    pub seed: u64,
    /// The result; none if even the embedded default gave none.
    pub output: Option<Output>,
    /// The fuel it was given.
    pub fuel_budget: u64,
    /// The fuel it took.
    pub fuel: u64,
    /// Who decided.
    pub decided_by: DecidedBy,
    /// Whether the instance had been used before.
    pub reused_instance: bool,
    /// The attempt of the deployed policy, if it faulted and left the decision to the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub faulted: Option<FaultedAttempt>,
    /// The fault of the embedded default, if it failed as well: then there is no output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_fault: Option<Fault>,
    /// What the host changed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub corrections: Vec<Correction>,
}
