//! What a client is told that it did not ask for: lists that changed, resources that were updated, log messages.
//!
//! A list has changed for a client when the bytes that its view is served are other ones, whatever happened upstream. A
//! burst of changes is one notice; the last change is always told.
//!
//! A log message that came on a session which clients share may be about anybody's request. Where there are several tokens,
//! those whom it is not about are not to read it: it is told nobody. What a server says while it answers a request is told
//! whoever made that, and what it says on a session that a client has of its own, that client.

use std::sync::Arc;

use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::catalog::View;
use crate::connectors::ServerEvent;
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::mcp::Notice;
use crate::mcp::protocol::LOG_MESSAGE;
use crate::model::{Digest, ListKind};

/// What somebody wants to be told, asked anew each time.
pub(super) trait Interest: Send + Sync {
    /// What it sees.
    fn view(&self) -> View;

    /// Notes what a list of its view is now, and tells whether that is other than what it knew and it wants to hear of it.
    fn list_is(&self, kind: ListKind, digest: Digest) -> bool;

    /// A message of a server, as it is told, under each of the names that it is known by; none if it is not wanted.
    fn told(&self, event: &ServerEvent) -> Vec<Notice>;

    /// What is told if messages were missed.
    fn missed(&self) -> Vec<Notice>;
}

/// The news of a gateway, for one client.
pub(super) struct News {
    gateway: Gateway,
    changes: watch::Receiver<u64>,
    events: broadcast::Receiver<Arc<ServerEvent>>,
    /// Whether the catalog may have changed since it was last compared.
    pending: bool,
    /// When a change was last told.
    told: Option<Instant>,
}

impl News {
    /// The news from now on, and the changes since what the client knows.
    pub(super) fn new(gateway: &Gateway) -> Self {
        let parts = &gateway.inner.parts;
        let (changes, events) = (parts.catalog.changes(), parts.fleet.events());
        Self { gateway: gateway.for_task(), changes, events, pending: true, told: None }
    }

    /// Waits for the next ones, at least one. Cancel safe: what was not returned is told next time.
    pub(super) async fn next(&mut self, interest: &dyn Interest) -> Vec<Notice> {
        loop {
            let due = self.told.map(|told| told + limits::LIST_CHANGED_PACE).unwrap_or_else(Instant::now);
            let news = tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Ok(event) if !self.is_of_nobody(&event) => interest.told(&event),
                    Ok(_) => Vec::new(),
                    Err(RecvError::Lagged(missed)) => {
                        tracing::warn!(missed, "messages of servers came faster than a client took them");
                        interest.missed()
                    }
                    // The fleet ends with the gateway, and so does this.
                    Err(RecvError::Closed) => std::future::pending().await,
                },
                Ok(()) = self.changes.changed() => {
                    self.pending = true;
                    Vec::new()
                }
                () = tokio::time::sleep_until(due), if self.pending => {
                    self.pending = false;
                    let news = self.changed_lists(interest);
                    if !news.is_empty() {
                        self.told = Some(Instant::now());
                    }
                    news
                }
            };
            if !news.is_empty() {
                return news;
            }
        }
    }

    /// Whether nobody may be told, because nobody knows whom it is about.
    fn is_of_nobody(&self, event: &ServerEvent) -> bool {
        event.notice.method == LOG_MESSAGE && self.gateway.inner.parts.settings.load().tokens.len() > 1
    }

    fn changed_lists(&self, interest: &dyn Interest) -> Vec<Notice> {
        let served = self.gateway.snapshot().served(&interest.view());
        let mut methods: Vec<&'static str> = Vec::new();
        for kind in ListKind::ALL {
            if interest.list_is(kind, served.list(kind).digest()) && !methods.contains(&kind.changed()) {
                methods.push(kind.changed());
            }
        }
        methods.into_iter().map(|method| Notice { method: method.to_owned(), params: None }).collect()
    }
}
