//! What is kept of a connector's definitions on disk. It is written only when it changed.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::baseline::Baseline;
use crate::edge::state::StateRecord;
use crate::model::{ConnectorId, Digest, InstanceId};

/// What the names of these records begin with.
pub(crate) const RECORD_PREFIX: &str = "definitions-";

/// The name of a connector's record.
pub(in crate::connectors) fn record_name(id: &ConnectorId) -> String {
    format!("{RECORD_PREFIX}{id}")
}

/// The connectors' records among all.
pub(in crate::connectors) fn of_records(records: &[(String, StateRecord)]) -> BTreeMap<ConnectorId, StateRecord> {
    let of_connectors = records.iter().filter_map(|(name, record)| {
        let id = name.strip_prefix(RECORD_PREFIX)?.parse().ok()?;
        Some((id, record.clone()))
    });
    of_connectors.collect()
}

/// The header of a record; its body is the baseline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Header {
    /// Which server the baseline is of: [`Connector::server_digest`](crate::model::Connector::server_digest).
    pub(super) server: Digest,
    /// The offer that was observed last, and by which gateway: it need not be compared again.
    pub(super) observed: Option<(Digest, InstanceId)>,
}

/// Makes a record.
pub(super) fn record(header: &Header, baseline: &Baseline) -> Result<StateRecord, serde_json::Error> {
    StateRecord::new(header, Bytes::from(serde_json::to_vec(baseline)?))
}

/// Reads a record back: none if it is of another server, or of another form.
pub(super) fn restore(record: &StateRecord, server: Digest) -> Option<(Header, Baseline)> {
    let header: Header = record.header().ok()?;
    let baseline = serde_json::from_slice(&record.body.bytes()).ok()?;
    (header.server == server).then_some((header, baseline))
}
