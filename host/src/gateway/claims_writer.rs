//! Keeps the owners of contested names and addresses across restarts: one record beside those of the connectors, written
//! when it changed, by the process that writes state.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::state_writer::{StateRole, StateWriter};
use crate::catalog::{Catalog, ClaimsRecord};
use crate::edge::state::{Body, StateRecord, StateSink};

/// The name of the record.
pub(super) const RECORD_NAME: &str = "claims";

/// Shortest time between two writes. To collect the claims costs what all contested ones cost, and many connectors publish
/// one after another at a start.
const WRITE_INTERVAL: Duration = Duration::from_secs(1);

/// Applies the record of an earlier process. Returns what it held, if that can be read.
pub(super) fn restore(catalog: &Catalog, saved: Option<&StateRecord>) -> ClaimsRecord {
    let record = saved.and_then(|saved| match saved.header::<ClaimsRecord>() {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(%error, "saved claims cannot be read; contested names go to the connector that lists them first");
            None
        }
    });
    let record = record.unwrap_or_default();
    catalog.restore_claims(record.clone());
    record
}

/// Writes the claims whenever they changed, until `stop`.
pub(super) async fn run(catalog: Arc<Catalog>, state: StateWriter, stop: CancellationToken, saved: ClaimsRecord) {
    let mut changes = catalog.changes();
    let mut roles = state.roles();
    let mut writer = ClaimsWriter { catalog, state, roles: roles.clone(), saved };
    loop {
        writer.write();
        let ended = tokio::select! {
            () = stop.cancelled() => true,
            // Its sender is the catalog, which this task holds.
            Ok(()) = changes.changed() => false,
            Ok(()) = roles.changed() => false,
        };
        if ended || tokio::time::timeout(WRITE_INTERVAL, stop.cancelled()).await.is_ok() {
            return writer.write();
        }
    }
}

struct ClaimsWriter {
    catalog: Arc<Catalog>,
    state: StateWriter,
    roles: watch::Receiver<StateRole>,
    /// What the record holds.
    saved: ClaimsRecord,
}

impl ClaimsWriter {
    fn write(&mut self) {
        // A follower's claims are in the order in which it saw the lists, which is not that of the process that writes.
        if *self.roles.borrow() == StateRole::Follower {
            return;
        }
        let claims = self.catalog.claims();
        if claims == self.saved {
            return;
        }
        if claims.is_empty() {
            self.state.forget(RECORD_NAME);
        } else {
            match StateRecord::new(&claims, Body::default()) {
                Ok(record) => self.state.keep(RECORD_NAME, record),
                Err(error) => return tracing::error!(%error, "claims cannot be saved"),
            }
        }
        self.saved = claims;
    }
}
