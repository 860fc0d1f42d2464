//! What servers say that belongs to no request: log messages, and updates of resources that somebody subscribed to.
//!
//! One bounded channel for everybody: who does not read loses the oldest, and is told how many.

use std::sync::Arc;

use tokio::sync::broadcast;

use super::limits::EVENTS_HELD;
use crate::mcp::Notice;
use crate::model::ConnectorId;

/// Something that a server said.
#[derive(Clone, Debug)]
pub struct ServerEvent {
    /// Whose server.
    pub connector: ConnectorId,
    /// What, as it came.
    pub notice: Notice,
}

/// Where it is told.
#[derive(Clone, Debug)]
pub(super) struct Events(broadcast::Sender<Arc<ServerEvent>>);

impl Default for Events {
    fn default() -> Self {
        Self(broadcast::Sender::new(EVENTS_HELD))
    }
}

impl Events {
    pub(super) fn tell(&self, connector: &ConnectorId, notice: Notice) {
        // Nobody may be listening.
        drop(self.0.send(Arc::new(ServerEvent { connector: connector.clone(), notice })));
    }

    pub(super) fn subscribe(&self) -> broadcast::Receiver<Arc<ServerEvent>> {
        self.0.subscribe()
    }
}
