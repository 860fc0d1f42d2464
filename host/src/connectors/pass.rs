//! Passes over every connector: waiting until each has tried, without holding up any.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::fleet::Fleet;
use super::handle::{Handle, Signal};
use super::report::{SyncReport, Synced};
use super::status::ConnectorStatus;
use crate::config::limits as config_limits;
use crate::model::{ListState, milliseconds};

/// What a pass waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    /// Every connector serves its list or has tried to; nothing is forced.
    First,
    /// Every connector has a run now; runs under way are joined.
    Force,
    /// Every connector has had a run since the start.
    AtLeastOnce,
}

impl Fleet {
    /// Waits until a pass over every connector is over. `progress` is told of each as it ends.
    /// Times are counted from `started`.
    pub async fn pass(&self, kind: PassKind, started: Instant, progress: impl Fn(&Synced)) -> SyncReport {
        self.rebuilt().await;
        let handles = self.handles();
        let connector_count = handles.len();
        let mut under_way: FuturesUnordered<_> =
            handles.into_iter().map(|handle| async move { handle.passed(kind).await }).collect();
        let mut connectors = Vec::with_capacity(connector_count);
        while let Some(status) = under_way.next().await {
            let failure = status.last_failure.as_ref();
            let served = matches!(status.state, ListState::Fresh | ListState::Soft);
            let ok = failure.is_none() && (served || status.runs > 0);
            let synced = Synced {
                id: status.id.clone(),
                ok,
                tools: status.tools,
                reason: (!ok).then(|| failure.map_or("not-run".into(), |failure| failure.class.to_string())),
                message: failure.map(|failure| failure.message.clone()),
                after_ms: milliseconds(started.elapsed()),
            };
            progress(&synced);
            connectors.push(synced);
        }
        let ready = connectors.iter().filter(|synced| synced.ok).count();
        self.metrics().sync_phase("sync", started.elapsed());
        SyncReport {
            connector_count,
            ready,
            failed: connector_count - ready,
            parallelism: self.concurrency().unwrap_or(config_limits::CONCURRENCY_MAX),
            duration_ms: milliseconds(started.elapsed()),
            connectors,
        }
    }
}

impl Handle {
    /// Waits until a pass is over for this connector.
    async fn passed(&self, kind: PassKind) -> Arc<ConnectorStatus> {
        let mut statuses = self.status.subscribe();
        let before = statuses.borrow_and_update().clone();
        let force = match kind {
            PassKind::First => false,
            PassKind::Force => true,
            PassKind::AtLeastOnce if before.runs > 0 => return before,
            PassKind::AtLeastOnce => true,
        };
        if force {
            self.signals.send(Signal::Forced);
        }
        let over = |now: &Arc<ConnectorStatus>| {
            // A policy may refuse to arm a run: then there is nothing to wait for.
            let nothing_comes = now.next_attempt.is_none() && !now.refreshing;
            match force {
                true => now.runs > before.runs || (now.forces > before.forces && nothing_comes),
                false => {
                    let has_a_list = !matches!(now.state, ListState::Empty | ListState::Expired);
                    now.runs > 0 || has_a_list || nothing_comes
                }
            }
        };
        tokio::select! {
            passed = statuses.wait_for(over) => match passed {
                Ok(status) => status.clone(),
                Err(_) => before,
            },
            // It left, or its supervisor failed: what it said last stands.
            () = self.ended.cancelled() => self.status.borrow().clone(),
        }
    }
}
