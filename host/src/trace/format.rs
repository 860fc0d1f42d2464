//! The lines of a trace.
//!
//! A line is a JSON object with one key, which names its kind. Readers skip kinds that they do not know; a change that old
//! readers would misread gets another [`FORMAT`]. One more kind, `value`, is for the readers alone: it defines what later
//! decisions of the segment refer to, see [`references`](super::references).

use serde::{Deserialize, Serialize};

use crate::model::{Digest, Moment};
use crate::policy::{DecisionRecord, InstanceUse, PolicyComponent, limits};

/// The version of the format.
pub const FORMAT: u32 = 2;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Line {
    /// The first of every segment.
    Header(Box<Header>),
    /// A decision.
    Decision(Box<DecisionRecord>),
    /// Another component was deployed.
    Swap(SwapNote),
    /// The shadow policy decided otherwise than was decided.
    Shadow(Box<ShadowNote>),
    /// Decisions are missing here.
    Dropped(DroppedNote),
    /// The connectors that are described from now on.
    Connectors(ConnectorsNote),
    /// The tools that a connector serves from now on.
    Tools(ToolsNote),
    /// The server of a connector refuses its credential from now on, or accepts it again.
    Credential(CredentialNote),
}

/// What a segment's records were made with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// [`FORMAT`].
    pub format: u32,
    /// The version of the gateway.
    pub gateway: String,
    /// The version of the engine: what an operator costs may differ in another.
    pub wasmtime: String,
    /// Names the process that wrote it.
    pub run: String,
    /// The number of the segment in its run, from 0.
    pub segment: u64,
    /// When the segment was begun.
    pub started: Moment,
    /// The component that decides where the deployed one fails to.
    pub default: Digest,
    /// The deployed component when the segment was begun.
    pub deployed: Digest,
    /// Every component that may have decided in this segment's run so far.
    pub policies: Vec<PolicyNote>,
    /// The bounds of the sandbox.
    pub limits: LimitsNote,
    /// The effective configuration when the run began, redacted; null if the header would be too long with it.
    pub configuration: serde_json::Value,
}

/// A component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyNote {
    /// Its digest.
    pub digest: Digest,
    /// The family of its memos.
    pub family: String,
    /// Whether its instances were used again.
    pub instances: InstanceUse,
}

impl PolicyNote {
    /// That of a component.
    pub fn of(component: &PolicyComponent) -> Self {
        Self { digest: component.digest(), family: component.family().to_owned(), instances: component.instance_use() }
    }
}

/// The bounds of the sandbox that a result may depend on. The fuel of a call stands in its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitsNote {
    /// Greatest linear memory.
    pub memory_bytes: usize,
    /// Greatest result.
    pub result_bytes: usize,
    /// Greatest memo.
    pub memo_bytes: usize,
    /// Greatest number of table elements.
    pub table_elements: usize,
}

impl LimitsNote {
    /// Those of this build.
    pub fn current() -> Self {
        Self {
            memory_bytes: limits::MEMORY_BYTES_MAX,
            result_bytes: limits::RESULT_BYTES_MAX,
            memo_bytes: limits::MEMO_BYTES_MAX,
            table_elements: limits::TABLE_ELEMENTS_MAX,
        }
    }
}

/// A swap.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SwapNote {
    /// When.
    pub moment: Moment,
    /// How many decisions had been made.
    pub sequence: u64,
    /// Who decided before.
    pub before: Digest,
    /// Who decides from now on.
    pub after: PolicyNote,
}

/// A difference that the shadow policy made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowNote {
    /// The shadow policy.
    pub shadow: Digest,
    /// The decision's number in the gateway.
    pub sequence: u64,
    /// What was decided about.
    pub subject: String,
    /// The function.
    pub function: crate::policy::Function,
    /// What it would have decided otherwise.
    pub difference: super::Difference,
}

/// Decisions that could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DroppedNote {
    /// How many since the last such line.
    pub count: u64,
    /// How many in this run.
    pub total: u64,
}

/// Which connectors are described, and by whom.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorsNote {
    /// When.
    pub moment: Moment,
    /// Those that are kept.
    pub enabled: Vec<String>,
    /// Those that are described and disabled.
    pub disabled: Vec<String>,
}

/// Which tools a connector serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolsNote {
    /// When.
    pub moment: Moment,
    /// The connector.
    pub connector: String,
    /// Their names as they are exposed; empty if none is served.
    pub names: Vec<String>,
}

/// Whether the server of a connector refuses its credential. No part of the credential or of the answer is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CredentialNote {
    /// When.
    pub moment: Moment,
    /// The connector.
    pub connector: String,
    /// The HTTP status of the refusal, 401 or 403; none if the credential is not refused any more.
    pub refused_with: Option<u16>,
}

/// The connector that a decision's subject belongs to.
pub(super) fn connector_of(subject: &str) -> Option<&str> {
    let (id, _) = subject.strip_prefix("connector/")?.split_once('/')?;
    Some(id)
}
