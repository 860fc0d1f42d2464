//! What the gateway answers to each MCP method, in both eras, whatever it is asked over.
//!
//! A client sees here what it would see of its servers directly, only under one roof: lists come from the published
//! snapshot, calls go to their connector and come back as they are, what a server says on the way is passed on. Between
//! different eras less is declared, and what can not cross is a typed error. Nothing here knows of HTTP, but for the
//! statuses that errors bear and the form of an event stream.

mod answer;
mod aside;
mod asked;
mod calls;
mod dispatch;
pub(super) mod event_stream;
mod facts;
mod held_bytes;
mod hello;
mod in_flight;
mod links;
mod listen;
mod lists;
mod live;
mod log_level;
mod news;
pub(super) mod outlet;
mod places;
mod questions;
mod relay;
mod resumable;
mod session;
mod sessions;
mod subscriptions;
mod wants;

pub(super) use answer::Answer;
pub(super) use asked::Asked;
pub(super) use dispatch::{answer, is_passed_on};
pub(super) use in_flight::{InFlight, cancelled_id};
pub(super) use links::Links;
pub(super) use resumable::{Resumable, resume};
pub(super) use session::{OpenStream, Session};

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::held_bytes::HeldBytes;
use self::links::{LinkBytes, TokenLinks};
use self::places::Places;
use self::sessions::Sessions;
use super::embed::Gateway;
use super::limits;
use super::metrics::RequestRefusal;
use crate::mcp::protocol::{LEGACY_VERSIONS, VERSION_2026_07_28};

/// Every version that the gateway speaks to its clients, newest first.
pub(super) const VERSIONS: [&str; 5] =
    [VERSION_2026_07_28, LEGACY_VERSIONS[0], LEGACY_VERSIONS[1], LEGACY_VERSIONS[2], LEGACY_VERSIONS[3]];

/// What the clients of a gateway hold open.
pub(super) struct Northbound {
    pub(super) sessions: Sessions,
    /// What is held for clients between their requests.
    held: HeldBytes,
    /// What links to resources hold, of all clients.
    link_bytes: LinkBytes,
    token_links: TokenLinks,
    /// How much large messages may hold that wait for clients, in KiB.
    pub(super) outbox: Arc<Semaphore>,
    /// Places for subscriptions.
    listens: Arc<Places>,
    /// How much may still be kept for clients that come back for their streams, in bytes.
    pub(super) replay: Arc<Semaphore>,
    /// Everything that goes on for clients behind their requests; [`Self::close`] waits for it.
    pub(super) tasks: TaskTracker,
    /// Cancelled when the gateway ends: streams without an end of their own end.
    pub(super) closing: CancellationToken,
}

impl Northbound {
    /// Nobody is there yet.
    pub(super) fn new() -> Self {
        let link_bytes = LinkBytes::default();
        Self {
            sessions: Sessions::default(),
            held: HeldBytes::default(),
            token_links: TokenLinks::new(link_bytes.clone()),
            link_bytes,
            outbox: Arc::new(Semaphore::new(limits::LARGE_MESSAGES_KIBIBYTES as usize)),
            listens: Arc::default(),
            replay: Arc::new(Semaphore::new(limits::RESUMABLE_BYTES_MAX)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
    }

    /// The memory of the links of one session.
    pub(super) fn session_links(&self) -> Arc<Links> {
        Links::of_session(self.link_bytes.clone())
    }

    /// Ends the streams that have no end of their own, so that whoever serves them can end.
    pub(super) fn end_streams(&self) {
        self.closing.cancel();
    }

    /// Ends every session, and waits, for so long, for everything that goes on.
    pub(super) async fn close(&self) {
        self.closing.cancel();
        sessions::end(self.sessions.all(), &self.tasks);
        self.tasks.close();
        if tokio::time::timeout(limits::SESSION_CLOSE_TIMEOUT, self.tasks.wait()).await.is_err() {
            tracing::warn!("some clients' sessions did not end in time");
        }
    }

    /// How many sessions and how many streams of subscriptions are open.
    pub(super) fn open(&self) -> (usize, usize) {
        (self.sessions.count(), self.listens.count())
    }
}

impl Gateway {
    /// Takes a client's session in; false if there is no room for it.
    pub(super) fn admit(&self, session: &Arc<Session>) -> bool {
        let northbound = &self.inner.northbound;
        let leaving = northbound.sessions.admit(session, &northbound.held, self.inner.parts.edge.clock.boot());
        if leaving.is_empty() {
            return true;
        }
        let admitted = leaving.iter().all(|leaving| !Arc::ptr_eq(leaving, session));
        for _ in &leaving {
            if let Some(line) = self.inner.parts.metrics.request_refused(RequestRefusal::Sessions) {
                let left_out = line.left_out;
                tracing::warn!(admitted, left_out, "too many sessions of clients, or too large ones; one ends");
            }
        }
        sessions::end(leaving, &northbound.tasks);
        admitted
    }

    /// Ends a session in the background.
    pub(super) fn end_session(&self, session: Arc<Session>) {
        self.inner.northbound.tasks.spawn_on(async move { session.close().await }, &self.inner.runtime);
    }

    /// Ends the sessions of tokens that were taken away or allow something else now.
    pub(super) fn end_revoked_sessions(&self) {
        let northbound = &self.inner.northbound;
        let revoked = northbound.sessions.revoked();
        if !revoked.is_empty() {
            tracing::info!(sessions = revoked.len(), "sessions ended whose tokens have changed");
        }
        sessions::end(revoked, &northbound.tasks);
    }

    /// Ends sessions that nobody uses, until the gateway ends.
    pub(super) async fn end_idle_sessions(self) {
        let (parts, northbound) = (&self.inner.parts, &self.inner.northbound);
        loop {
            tokio::select! {
                () = parts.stop.cancelled() => return,
                () = tokio::time::sleep(limits::SESSION_SWEEP) => {}
            }
            let now = parts.edge.clock.boot();
            northbound.token_links.expire(now);
            let expired = northbound.sessions.expired(now);
            if !expired.is_empty() {
                tracing::info!(sessions = expired.len(), "sessions that nobody used have ended");
            }
            sessions::end(expired, &northbound.tasks);
        }
    }
}
