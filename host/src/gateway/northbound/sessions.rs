//! The legacy sessions of a gateway, by id: bounded in number, and ended when nobody uses them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use super::session::Session;
use crate::gateway::limits;
use crate::gateway::visitor::Visitor;
use crate::model::BootMs;

/// The sessions.
#[derive(Debug, Default)]
pub(in crate::gateway) struct Sessions {
    open: Mutex<HashMap<String, Arc<Session>>>,
}

impl Sessions {
    /// Takes a session in. If there are too many, the one that was idle for longest is returned, to be ended; if all of them
    /// are in use, it is the new one.
    pub(super) fn admit(&self, session: &Arc<Session>, now: BootMs) -> Option<Arc<Session>> {
        let mut open = self.lock();
        let mut leaving = None;
        if open.len() >= limits::SESSIONS_MAX {
            let idle = open.values().filter_map(|one| Some((one.idle(now)?, &one.id)));
            let Some(id) = idle.max().map(|(_, id)| id.clone()) else { return Some(session.clone()) };
            leaving = open.remove(&id);
        }
        open.insert(session.id.clone(), session.clone());
        leaving
    }

    /// The session of this id, if it is the visitor's; it counts as used now.
    pub(in crate::gateway) fn find(&self, id: &str, visitor: &Visitor, now: BootMs) -> Option<Arc<Session>> {
        let session = self.lock().get(id).filter(|session| session.is_of(visitor)).cloned()?;
        session.touch(visitor, now);
        Some(session)
    }

    /// Takes a session out, to be ended.
    pub(in crate::gateway) fn remove(&self, session: &Session) {
        self.lock().remove(&session.id);
    }

    /// Takes those out that nobody has used for [`limits::SESSION_IDLE_MAX`], to be ended.
    pub(super) fn expired(&self, now: BootMs) -> Vec<Arc<Session>> {
        self.lock()
            .extract_if(|_, one| one.idle(now).is_some_and(|idle| idle >= limits::SESSION_IDLE_MAX))
            .map(|(_, one)| one)
            .collect()
    }

    /// Takes all of them out, to be ended.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.lock().drain().map(|(_, session)| session).collect()
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Session>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends sessions, in the background; whoever owns `tasks` waits for that.
pub(super) fn end(sessions: Vec<Arc<Session>>, tasks: &TaskTracker) {
    for session in sessions {
        tasks.spawn(async move { session.close().await });
    }
}
