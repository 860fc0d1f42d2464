//! How much of their logs servers are asked for: as much as the most curious client wishes that may see them, for as long as
//! it does.
//!
//! Legacy servers only: a modern client says in each request what it wants (2026-07-28, `server/utilities/logging`).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::limits::WISH_TIMEOUT;
use crate::mcp::protocol::LOGGING_SET_LEVEL;
use crate::mcp::{Era, Nobody, Session};
use crate::model::raw::{self, RawObject};
use crate::model::{ConnectorId, Severity};

/// What a server is told once nobody wishes for its log any more. The protocol has no way to take a level back, so this is
/// the one that servers commonly begin with.
pub(super) const RESTING: Severity = Severity::WARNING;

/// Tells which connectors a wish is for.
pub(super) type Sees = Arc<dyn Fn(&ConnectorId) -> bool + Send + Sync>;

/// Tells a legacy server what is wanted of its log, if it has one. What it answers changes nothing: it is asked again with
/// the next session.
pub(super) async fn say(session: &Session, level: Severity) {
    let has_a_log = session.facts().is_some_and(|facts| facts.about.has("logging"));
    if session.era() == Era::Legacy && has_a_log {
        let mut params = RawObject::new();
        params.set("level", raw::string(level.as_str()));
        let asked = session.request(LOGGING_SET_LEVEL, params, &Nobody);
        drop(tokio::time::timeout(WISH_TIMEOUT, asked).await);
    }
}

/// Who wishes for what.
#[derive(Default)]
pub(super) struct LogWishes {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct Inner {
    held: BTreeMap<u64, (Severity, Sees)>,
    last: u64,
}

impl LogWishes {
    /// Adds a wish, of the connectors that `sees` names. A level of no known name is no wish.
    pub(super) fn wish(self: &Arc<Self>, level: &str, sees: Sees) -> LogWish {
        let number = Severity::named(level).map(|level| {
            let mut inner = self.lock();
            inner.last += 1;
            let number = inner.last;
            inner.held.insert(number, (level, sees));
            number
        });
        if number.is_some() {
            self.changed.send_replace(());
        }
        LogWish { wishes: self.clone(), number }
    }

    /// Tells when a wish came or went.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The least severe level that anybody wishes for of a connector.
    pub(super) fn most(&self, id: &ConnectorId) -> Option<Severity> {
        self.lock().held.values().filter(|(_, sees)| sees(id)).map(|(level, _)| *level).min()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wish for log messages. Dropping it takes it back.
pub struct LogWish {
    wishes: Arc<LogWishes>,
    number: Option<u64>,
}

impl Drop for LogWish {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let gone = self.wishes.lock().held.remove(&number);
            self.wishes.changed.send_replace(());
            // Outside of the lock: what it sees by may be anything.
            drop(gone);
        }
    }
}

impl std::fmt::Debug for LogWish {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LogWish").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_verbose_wish_counts_for_as_long_as_it_is_held_and_for_whom_it_is() {
        let wishes = Arc::<LogWishes>::default();
        let (one, two): (ConnectorId, ConnectorId) = ("one".parse().unwrap(), "two".parse().unwrap());
        let now = || [&one, &two].map(|id| wishes.most(id).map(Severity::as_str));
        let all: Sees = Arc::new(|_| true);
        let only = one.clone();
        let warning = wishes.wish("warning", all.clone());
        let debug = wishes.wish("debug", Arc::new(move |id| *id == only));
        let (other, unknown) = (wishes.wish("info", all.clone()), wishes.wish("chatty", all));
        assert_eq!(now(), [Some("debug"), Some("info")]);
        drop(debug);
        assert_eq!(now(), [Some("info"), Some("info")]);
        drop((other, unknown));
        assert_eq!(now(), [Some("warning"), Some("warning")]);
        drop(warning);
        assert_eq!(now(), [None, None]);
    }
}
