//! Processes and streams that end by themselves: noticed at once, and followed by a restart that is paced.
//!
//! The supervisor asks for a run after each death, which starts the server again; here is when. A server that dies
//! again and again waits longer and longer, whatever its runs bring meanwhile: only one that has lived for a while is
//! forgiven. A call that needs the server sooner starts it itself, once.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use super::limits;
use crate::mcp::Session;

/// Follows the sessions of a connector.
pub(super) struct Deaths {
    sessions: Option<watch::Receiver<Option<Arc<Session>>>>,
    living: Option<(Arc<Session>, Instant)>,
    /// One that has ended, until nothing is left of it: how it ended is known then, and no other process starts beside it.
    dying: Option<Death>,
    /// In a row, each soon after its start.
    count: u32,
}

/// A session that ended by itself.
pub(super) struct Death {
    pub(super) session: Arc<Session>,
    /// How many there were in a row.
    pub(super) count: u32,
}

impl Deaths {
    /// Of the sessions that come; none: there never are any.
    pub(super) fn of(sessions: Option<watch::Receiver<Option<Arc<Session>>>>) -> Self {
        let mut sessions = sessions;
        // One may be open already.
        sessions.iter_mut().for_each(watch::Receiver::mark_changed);
        Self { sessions, living: None, dying: None, count: 0 }
    }

    /// Waits for the next one. Dropping the future loses none.
    pub(super) async fn next(&mut self) -> Death {
        let Some(sessions) = &mut self.sessions else { return std::future::pending().await };
        loop {
            if let Some(death) = &self.dying {
                death.session.gone().await;
            }
            if let Some(death) = self.dying.take() {
                return death;
            }
            let ended = async {
                match &self.living {
                    Some((session, _)) => session.ended().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // Before the change: whoever noticed first may have forgotten the session already.
                () = ended => {
                    if let Some((session, since)) = self.living.take() {
                        let lived = since.elapsed() >= limits::RESTART_STEADY;
                        self.count = if lived { 1 } else { self.count.saturating_add(1) };
                        self.dying = Some(Death { session, count: self.count });
                    }
                }
                changed = sessions.changed() => {
                    if changed.is_err() {
                        std::future::pending::<()>().await;
                    }
                    self.living = sessions.borrow_and_update().clone().map(|session| (session, Instant::now()));
                }
            }
        }
    }
}
