//! What is observed of a connector, as `status`, `/readyz` and the gauges tell it.

use std::sync::Arc;

use serde::Serialize;

use super::connector_headers::RefusedCredential;
use super::definitions::DefinitionsStatus;
use crate::mcp::Era;
use crate::model::mask::StderrLine;
use crate::model::{Connector, ConnectorId, Contact, FailureClass, ListState, Reach, Source, WallMs};

/// The last failure of a connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LastFailure {
    /// Its class.
    pub class: FailureClass,
    /// What happened. It quotes no body, header or key.
    pub message: String,
    /// What the server's process last wrote to its standard error, where it is about a process. Together with the message at
    /// most [`MAX_CAUSE_CHARACTERS`](crate::model::mask::MAX_CAUSE_CHARACTERS), with secrets masked. It is for those who may
    /// see everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stderr: Option<StderrLine>,
    /// When.
    pub at: String,
}

/// One connector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConnectorStatus {
    /// Its id.
    pub id: ConnectorId,
    /// Its name.
    pub name: String,
    /// Which document it came from.
    pub source: Source,
    /// Whether it answered last.
    pub contact: Contact,
    /// The era it speaks, once known.
    pub era: Option<Era>,
    /// How good its list is.
    pub state: ListState,
    /// Why.
    pub reason: String,
    /// Over which transport it is reached: `http`, `sse` or `stdio`; none if its description has no endpoint.
    pub transport: Option<&'static str>,
    /// How many tools it has that may be served, before filters.
    pub tools: usize,
    /// How many prompts are served of it.
    pub prompts: usize,
    /// How many resources are served of it.
    pub resources: usize,
    /// How many resource templates are served of it.
    pub templates: usize,
    /// When its list was fetched or last confirmed.
    pub fetched_at: Option<String>,
    /// Whether a run is under way.
    pub refreshing: bool,
    /// When the next run is due.
    pub next_attempt: Option<String>,
    /// Why then.
    pub next_reason: String,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure since the last success.
    pub last_failure: Option<LastFailure>,
    /// How the server refuses the connector's credential; none if it takes it.
    pub credential: Option<Arc<RefusedCredential>>,
    /// `closed`, `open` or `half-open`.
    pub breaker: String,
    /// How its definitions differ from what was approved.
    pub definitions: Arc<DefinitionsStatus>,
    /// Which rules of the protocol its server broke since the start, and what becomes of such messages.
    pub warnings: Vec<&'static str>,
    /// How long its last successful run took, in milliseconds.
    pub last_duration_ms: Option<u64>,
    /// When the list was fetched, as a number.
    #[serde(skip)]
    pub fetched_wall: Option<WallMs>,
    /// How many runs ended since the start.
    #[serde(skip)]
    pub runs: u64,
    /// How many forces were decided on since the start.
    #[serde(skip)]
    pub forces: u64,
}

impl ConnectorStatus {
    /// That of a connector of which nothing is known yet.
    pub(super) fn blank(connector: &Connector) -> Self {
        Self {
            id: connector.id.clone(),
            name: connector.name.clone(),
            source: connector.source,
            contact: Contact::Unknown,
            era: None,
            state: ListState::Empty,
            reason: "no-value".into(),
            transport: connector.reach.as_ref().map(Reach::transport),
            tools: 0,
            prompts: 0,
            resources: 0,
            templates: 0,
            fetched_at: None,
            refreshing: false,
            next_attempt: None,
            next_reason: "cold-start".into(),
            failures: 0,
            last_failure: None,
            credential: None,
            breaker: "closed".into(),
            definitions: Arc::default(),
            warnings: Vec::new(),
            last_duration_ms: None,
            fetched_wall: None,
            runs: 0,
            forces: 0,
        }
    }
}
