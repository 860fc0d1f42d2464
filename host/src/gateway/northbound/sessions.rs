//! The legacy sessions of a gateway, by id: bounded in number, and ended when nobody uses them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio_util::task::TaskTracker;

use super::held_bytes::HeldBytes;
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
    /// Takes a session in. If there are too many, or too many bytes are held, those that make room for it are returned, to be
    /// ended; if all that could are in use, it is the new one.
    pub(super) fn admit(&self, session: &Arc<Session>, held: &HeldBytes, now: BootMs) -> Vec<Arc<Session>> {
        let mut open = self.lock();
        let mut leaving = Vec::new();
        if open.len() >= limits::SESSIONS_MAX {
            let Some(id) = least_used(&open, session, now) else { return vec![session.clone()] };
            leaving.extend(open.remove(&id));
        }
        let mut excess = held.excess();
        while excess > 0 {
            let Some(id) = largest_holder(&open, now) else {
                leaving.push(session.clone());
                return leaving;
            };
            let ended = open.remove(&id);
            excess = excess.saturating_sub(ended.as_ref().map_or(0, |ended| ended.bytes()).max(1));
            leaving.extend(ended);
        }
        open.insert(session.id.clone(), session.clone());
        leaving
    }

    /// The session of this id, if it is the visitor's; it counts as used now.
    pub(in crate::gateway) fn find(&self, id: &str, visitor: &Visitor, now: BootMs) -> Option<Arc<Session>> {
        let session = self.lock().get(id).filter(|session| session.is_of(visitor) && !session.has_ended()).cloned()?;
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
            .extract_if(|_, one| one.has_ended() || one.idle(now).is_some_and(|idle| idle >= limits::SESSION_IDLE_MAX))
            .map(|(_, one)| one)
            .collect()
    }

    /// Takes those out that are over because their tokens are, to be ended.
    pub(super) fn revoked(&self) -> Vec<Arc<Session>> {
        self.lock().extract_if(|_, one| one.has_ended()).map(|(_, one)| one).collect()
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

/// The session that makes room for another one: the one that was idle for longest. Whoever has its share of them makes room
/// itself; for others, those who have more than that do first.
fn least_used(open: &HashMap<String, Arc<Session>>, arriving: &Session, now: BootMs) -> Option<String> {
    let is_own = |one: &Session| one.token() == arriving.token();
    if open.values().filter(|one| is_own(one)).count() >= limits::SESSIONS_SHARE {
        return longest_idle(open, is_own, now);
    }
    let mut counts: HashMap<Option<&str>, usize> = HashMap::new();
    open.values().for_each(|one| *counts.entry(one.token()).or_default() += 1);
    let has_its_share = |one: &Session| counts.get(&one.token()).is_some_and(|count| *count >= limits::SESSIONS_SHARE);
    longest_idle(open, has_its_share, now).or_else(|| longest_idle(open, |_| true, now))
}

/// The session that gives its bytes back: the one that was idle for longest, of the token whose sessions hold the most.
fn largest_holder(open: &HashMap<String, Arc<Session>>, now: BootMs) -> Option<String> {
    let mut held: HashMap<Option<&str>, usize> = HashMap::new();
    open.values().for_each(|one| *held.entry(one.token()).or_default() += one.bytes());
    let most = held.values().copied().max()?;
    let holds_most = |one: &Session| held.get(&one.token()) == Some(&most);
    longest_idle(open, holds_most, now).or_else(|| longest_idle(open, |one| one.bytes() > 0, now))
}

fn longest_idle(
    open: &HashMap<String, Arc<Session>>,
    may_leave: impl Fn(&Session) -> bool,
    now: BootMs,
) -> Option<String> {
    let candidates = || open.values().filter(|one| may_leave(one));
    // Mostly it is the one that was used longest ago. To ask all of them whether they are in use takes its time.
    if let Some(one) = candidates().min_by_key(|one| one.last_used()).filter(|one| one.idle(now).is_some()) {
        return Some(one.id.clone());
    }
    let idle = candidates().filter_map(|one| Some((one.idle(now)?, &one.id)));
    idle.max().map(|(_, id)| id.clone())
}

/// Ends sessions, in the background; whoever owns `tasks` waits for that.
pub(super) fn end(sessions: Vec<Arc<Session>>, tasks: &TaskTracker) {
    for session in sessions {
        tasks.spawn(async move { session.close().await });
    }
}
