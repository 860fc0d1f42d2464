//! Whether a server answers again, asked while its breaker refuses calls: by a request that may be repeated, at the breaker's
//! pace.

use std::sync::Arc;

use tokio::time::timeout;

use super::handle::Handle;
use super::limits;
use super::session_slot::SessionSlot;
use crate::mcp::{Session, WireError};

impl Handle {
    /// Pings the server, over the session that is open or one that is opened for it. An answer is evidence; a failure changes
    /// nothing. Each step ends by the connector's deadline to connect.
    pub(super) async fn look(self: Arc<Self>) {
        let Ok(slot) = &self.slot else { return };
        if self.held_for().is_zero() && self.answers_a_ping(slot).await {
            self.note_answered();
        }
    }

    async fn answers_a_ping(&self, slot: &Arc<SessionSlot>) -> bool {
        for _ in 0..limits::ATTEMPTS {
            let Some(session) = self.session_to_ping(slot).await else { return false };
            match timeout(self.deadlines.get().connect, session.ping()).await {
                // Whatever it answered, it answered.
                Ok(Ok(()) | Err(WireError::Rpc(_))) => return true,
                // The server was started again, perhaps; in a new session it may answer.
                Ok(Err(error)) if session.is_over_after(&error) => slot.forget(&session, &error),
                Ok(Err(_)) | Err(_) => return false,
            }
        }
        false
    }

    /// A process that is not running is started by its list or by the probe, and never for a ping.
    async fn session_to_ping(&self, slot: &Arc<SessionSlot>) -> Option<Arc<Session>> {
        if let Some(session) = slot.open_session() {
            return Some(session);
        }
        if slot.is_process() {
            return None;
        }
        let session = slot.session().await.ok()?;
        self.note_opened(&session, None);
        Some(session)
    }
}
