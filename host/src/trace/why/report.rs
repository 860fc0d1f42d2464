//! The answer: what state a subject is in, and the decisions that led there.

use serde::Serialize;

use crate::model::{Digest, WallMs};
use crate::policy::Function;

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WhyReport {
    /// What was asked about.
    pub subject: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// The connector: itself, or the one of a tool.
    pub connector: Option<String>,
    /// The state in a few words.
    pub headline: String,
    /// How good that is.
    pub condition: Condition,
    /// The state in facts.
    pub state: State,
    /// The state in sentences.
    pub summary: Vec<String>,
    /// The trace's last moment: every relative time is as of then.
    pub as_of: String,
    /// From when on decisions are told, if that was asked for.
    pub since: Option<String>,
    /// Who decides at the end of the trace.
    pub policy: Option<PolicyFacts>,
    /// The newest decisions on it, oldest first.
    pub decisions: Vec<ToldDecision>,
    /// What else happened between those decisions: swaps, restarts, missing decisions, other tools.
    pub notes: Vec<Note>,
    /// How many decisions there are.
    pub total: u64,
    /// How many of them are told.
    pub shown: usize,
    /// How many decisions, on whatever subject, the trace says that it lacks.
    pub missing: u64,
    /// Last lines that are incomplete; they were skipped. A gateway crashed there, or is writing them.
    pub torn: u64,
    /// How often the trace names connectors, tools, entries and subjects beyond those that are kept to tell what a name
    /// means, and to suggest.
    pub names_others: u64,
    /// Decisions and notes for people: what is no news is folded.
    #[serde(skip)]
    pub chain: Vec<Row>,
    /// Whether there are older rows that the chain leaves out.
    #[serde(skip)]
    pub is_cut: bool,
}

/// What kind of thing a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The service map.
    ServiceMap,
    /// A connector.
    Connector,
    /// A tool.
    Tool,
    /// The registry as a whole.
    Registry,
    /// An entry of the registry.
    RegistryEntry,
    /// Any other subject of decisions.
    Subject,
}

/// How good a state is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Condition {
    /// All is well.
    Good,
    /// It works, with something that should be looked at.
    Doubtful,
    /// It does not work.
    Bad,
}

/// The facts of a state, as far as they are known. Times are RFC 3339; names are those of the policy contract.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct State {
    /// `enabled`, `disabled` or `absent` by the newest descriptions.
    pub described: Option<&'static str>,
    /// Since when.
    pub described_since: Option<String>,
    /// How fresh the value is.
    pub freshness: Option<String>,
    /// Whether it is served.
    pub serve: Option<bool>,
    /// Why.
    pub reason: Option<String>,
    /// When the value was fetched or last confirmed.
    pub fetched_at: Option<String>,
    /// Until when it is fresh.
    pub fresh_until: Option<String>,
    /// Until when it may be served.
    pub serve_until: Option<String>,
    /// The version of a service map.
    pub generated_at: Option<String>,
    /// Its signed expiry.
    pub signed_expiry: Option<String>,
    /// Whether a run is under way.
    pub running: Option<bool>,
    /// When the next run is due.
    pub next_run_at: Option<String>,
    /// Why then.
    pub next_run_reason: Option<String>,
    /// Failures in a row.
    pub failures: Option<u32>,
    /// The class of the last one.
    pub last_class: Option<&'static str>,
    /// Why the value that came last was refused.
    pub rejected: Option<String>,
    /// `closed`, `open` or `half-open`.
    pub breaker: Option<&'static str>,
    /// Until when it refuses calls.
    pub breaker_until: Option<String>,
    /// How many tools the connector serves.
    pub tools: Option<usize>,
    /// Whether the tool is among them.
    pub tool_served: Option<bool>,
    /// When the connector last said that it serves the tool.
    pub tool_last_served: Option<String>,
    /// With which HTTP status the server refuses the credential.
    pub credential_refused_with: Option<u16>,
    /// Entries of the registry in force.
    pub entries: Option<usize>,
    /// Whether the entry was removed.
    pub removed: Option<bool>,
    /// Who changed the entry last.
    pub writer: Option<String>,
    /// When.
    pub changed_at: Option<String>,
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyFacts {
    /// The digest of its component.
    pub digest: Digest,
    /// The family of its memos.
    pub family: String,
    /// Whether the last decision of all was the embedded default's, because this policy is suspended.
    pub suspended: bool,
}

/// A decision, told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ToldDecision {
    /// When, by the wall clock.
    pub at: String,
    /// Its number in its gateway.
    pub sequence: u64,
    /// What was decided about.
    pub subject: String,
    /// The function.
    pub function: Function,
    /// What happened.
    pub event: Option<&'static str>,
    /// What was decided.
    pub outcome: Option<String>,
    /// Why.
    pub reason: Option<String>,
    /// Who decided.
    pub decided_by: Decider,
    /// All of it.
    pub sentence: String,
}

/// Who decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decider {
    /// `deployed`, `default-after-fault` or `default-while-suspended`.
    pub by: &'static str,
    /// The component.
    pub digest: Digest,
    /// How the deployed policy faulted, if it did.
    pub fault: Option<String>,
}

/// What happened between decisions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// When, by the wall clock.
    pub at: String,
    /// What it is about: `gateway`, `policy`, `trace`, `tools` or `catalog`.
    pub about: &'static str,
    /// What happened.
    pub sentence: String,
}

/// A line of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// When; of folded ones, the first.
    pub at: WallMs,
    /// When the last of the folded ones was.
    pub until: WallMs,
    /// The function, or what a note is about.
    pub about: &'static str,
    /// What happened.
    pub sentence: String,
}
