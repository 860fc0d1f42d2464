//! How a sync went: in sum, and for each connector.

use serde::Serialize;

use crate::model::ConnectorId;

/// How a sync went.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SyncReport {
    /// How many enabled connectors there are.
    pub connector_count: usize,
    /// How many of them serve their list.
    pub ready: usize,
    /// How many do not, or failed in this sync.
    pub failed: usize,
    /// How many runs there may be at once: the fixed number, or where the adaptive limit starts.
    pub parallelism: u32,
    /// From its start to its end.
    pub duration_ms: u64,
    /// Each connector, in the order in which they ended.
    pub connectors: Vec<Synced>,
}

impl SyncReport {
    /// Writes the aggregated line of a sync to the log. `described` counts disabled connectors too.
    pub fn log(&self, described: usize) {
        tracing::info!(
            connectorCount = described,
            enabled = self.connector_count,
            ready = self.ready,
            failed = self.failed,
            parallelism = self.parallelism,
            durationMs = self.duration_ms,
            "sync"
        );
    }
}

/// How a sync went for one connector.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Synced {
    /// Its id.
    pub id: ConnectorId,
    /// Whether its run succeeded.
    pub ok: bool,
    /// Its tools.
    pub tools: usize,
    /// Why it failed: a class.
    pub reason: Option<String>,
    /// Why it failed, for people.
    pub message: Option<String>,
    /// When it ended, from the start of the sync.
    pub after_ms: u64,
}
