//! How much of their logs servers are asked for: as much as the most curious client wishes, for as long as it does.
//!
//! Legacy servers only: a modern client says in each request what it wants (2026-07-28, `server/utilities/logging`).

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::limits::WISH_TIMEOUT;
use crate::mcp::protocol::LOGGING_SET_LEVEL;
use crate::mcp::{Era, Nobody, Session};
use crate::model::raw::{self, RawObject};

/// A severity of RFC 5424, by its place in [`NAMES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Severity(usize);

/// The names, the least severe first (2025-11-25, `server/utilities/logging`).
const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl Severity {
    /// The severity of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    fn name(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or("emergency")
    }
}

/// Tells a legacy server what is wanted of its log, if it has one. What it answers changes nothing: it is asked again with
/// the next session.
pub(super) async fn say(session: &Session, level: Severity) {
    let has_a_log = session.facts().is_some_and(|facts| facts.about.has("logging"));
    if session.era() == Era::Legacy && has_a_log {
        let mut params = RawObject::new();
        params.set("level", raw::string(level.name()));
        let asked = session.request(LOGGING_SET_LEVEL, params, &Nobody);
        drop(tokio::time::timeout(WISH_TIMEOUT, asked).await);
    }
}

/// Who wishes for what.
#[derive(Debug, Default)]
pub(super) struct LogWishes {
    held: Mutex<[usize; NAMES.len()]>,
    most: watch::Sender<Option<Severity>>,
}

impl LogWishes {
    /// Adds a wish. A level of no known name is no wish.
    pub(super) fn wish(self: &Arc<Self>, level: &str) -> LogWish {
        let level = Severity::named(level);
        if let Some(level) = level {
            self.change(level, |held| held + 1);
        }
        LogWish { wishes: self.clone(), level }
    }

    /// The least severe level that anybody wishes for, as it changes.
    pub(super) fn most(&self) -> watch::Receiver<Option<Severity>> {
        self.most.subscribe()
    }

    fn change(&self, level: Severity, by: impl Fn(usize) -> usize) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = held.get_mut(level.0) {
            *held = by(*held);
        }
        let most = held.iter().position(|held| *held > 0).map(Severity);
        // Under the lock, so that the last word is that of the last change.
        self.most.send_if_modified(|before| std::mem::replace(before, most) != most);
    }
}

/// A wish for log messages. Dropping it takes it back.
#[derive(Debug)]
pub struct LogWish {
    wishes: Arc<LogWishes>,
    level: Option<Severity>,
}

impl Drop for LogWish {
    fn drop(&mut self) {
        if let Some(level) = self.level {
            self.wishes.change(level, |held| held.saturating_sub(1));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_verbose_wish_counts_for_as_long_as_it_is_held() {
        let wishes = Arc::<LogWishes>::default();
        let most = wishes.most();
        let now = || most.borrow().map(Severity::name);
        assert_eq!(now(), None);
        let warning = wishes.wish("warning");
        let (debug, other, unknown) = (wishes.wish("debug"), wishes.wish("debug"), wishes.wish("chatty"));
        assert_eq!(now(), Some("debug"));
        drop(debug);
        assert_eq!(now(), Some("debug"));
        drop((other, unknown));
        assert_eq!(now(), Some("warning"));
        drop(warning);
        assert_eq!(now(), None);
    }
}
