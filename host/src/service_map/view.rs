//! The service map as everybody else sees it: what is published of it, and the handle by which its maintainer is told things.

use std::sync::Arc;

use serde::Serialize;
use tokio::sync::{Notify, watch};

use super::verify::VerifiedMap;
use crate::policy::UpkeepConfig;

/// What is published about the service map.
#[derive(Clone, Debug, Default)]
pub struct MapView {
    /// The map in force; none if none may be served.
    pub map: Option<Arc<VerifiedMap>>,
    /// How it stands.
    pub status: MapStatus,
}

/// How the service map stands, as `status` tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MapStatus {
    /// `fresh`, `stale`, ...: the policy's verdict.
    pub state: String,
    /// Why.
    pub reason: String,
    /// The map's id.
    pub id: Option<String>,
    /// When it was generated.
    pub generated_at: Option<String>,
    /// When it was fetched or last confirmed.
    pub fetched_at: Option<String>,
    /// Which key verified it.
    pub key_id: Option<String>,
    /// When the next run is due.
    pub next_attempt: Option<String>,
    /// Why then.
    pub next_reason: String,
    /// Failures in a row.
    pub failures: u32,
    /// The last failure since the last success.
    pub last_failure: Option<MapFailure>,
    /// Whether the newest map is on disk.
    pub persisted: bool,
    /// Whether a reader is to tell that it read: the policy wants a refresh for it.
    #[serde(skip)]
    pub wanting: bool,
    /// Whether a run has ended since the start, or a saved map was restored.
    #[serde(skip)]
    pub settled: bool,
    /// How many runs ended since the start.
    #[serde(skip)]
    pub runs: u64,
    /// How many forces were decided on since the start.
    #[serde(skip)]
    pub forces: u64,
    /// Whether a run is under way.
    pub refreshing: bool,
}

/// A failure to bring a newer map.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MapFailure {
    /// The public class: config, transport, http, decode, signature, schema, expiry or rollback.
    pub class: &'static str,
    /// What happened.
    pub message: String,
    /// When.
    pub at: String,
}

/// The service map, as everybody else holds it.
#[derive(Clone, Debug)]
pub struct MapHandle {
    pub(super) view: watch::Receiver<Arc<MapView>>,
    pub(super) upkeep: watch::Sender<UpkeepConfig>,
    pub(super) signals: Arc<MapSignals>,
}

/// What others tell the maintainer.
#[derive(Debug, Default)]
pub(super) struct MapSignals {
    pub(super) forced: Notify,
    pub(super) wanted: Notify,
    pub(super) resumed: Notify,
}

impl MapHandle {
    /// The current view, and every later one.
    pub fn view(&self) -> watch::Receiver<Arc<MapView>> {
        self.view.clone()
    }

    /// The map was read. Only if the policy's verdict wants something for it is anything done.
    pub fn was_read(&self) {
        if self.view.borrow().status.wanting {
            self.signals.wanted.notify_one();
        }
    }

    /// Other settings are in force from now on.
    pub fn reconfigure(&self, upkeep: UpkeepConfig) {
        self.upkeep.send_replace(upkeep);
    }

    /// The machine woke up.
    pub fn resumed(&self) {
        self.signals.resumed.notify_one();
    }

    /// Insists on a refresh, and waits until a run has ended; one under way is joined.
    pub async fn force(&self) -> Arc<MapView> {
        let mut view = self.view.clone();
        let before = view.borrow_and_update().clone();
        self.signals.forced.notify_one();
        let over = |now: &Arc<MapView>| {
            let refused =
                now.status.forces > before.status.forces && now.status.next_attempt.is_none() && !now.status.refreshing;
            now.status.runs > before.status.runs || refused
        };
        match view.wait_for(over).await {
            Ok(view) => view.clone(),
            Err(_) => before,
        }
    }
}
