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
mod hello;
mod in_flight;
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
pub(super) use resumable::{Resumable, resume};
pub(super) use session::{OpenStream, Session};

use std::sync::Arc;

use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use self::places::Places;
use self::sessions::Sessions;
use super::embed::Gateway;
use super::limits;
use crate::mcp::protocol::{LEGACY_VERSIONS, VERSION_2026_07_28};

/// Every version that the gateway speaks to its clients, newest first.
pub(super) const VERSIONS: [&str; 4] = [VERSION_2026_07_28, LEGACY_VERSIONS[0], LEGACY_VERSIONS[1], LEGACY_VERSIONS[2]];

/// What the clients of a gateway hold open.
pub(super) struct Northbound {
    pub(super) sessions: Sessions,
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
        Self {
            sessions: Sessions::default(),
            listens: Arc::default(),
            replay: Arc::new(Semaphore::new(limits::RESUMABLE_BYTES_MAX)),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
        }
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

    /// What is held open now, in Prometheus text.
    pub(super) fn gauges(&self) -> String {
        let listens = self.listens.count();
        let gauge = |name: &str, help: &str, value: usize| {
            format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")
        };
        gauge("mcp_sessions", "Legacy sessions of clients that are open", self.sessions.count())
            + &gauge("mcp_subscription_streams", "Streams of subscriptions/listen that are open", listens)
    }
}

impl Gateway {
    /// Takes a client's session in; false if there is no room for it.
    pub(super) fn admit(&self, session: &Arc<Session>) -> bool {
        let northbound = &self.inner.northbound;
        let Some(leaving) = northbound.sessions.admit(session, self.inner.parts.edge.clock.boot()) else { return true };
        self.inner.parts.metrics.request_refused("sessions");
        let admitted = !Arc::ptr_eq(&leaving, session);
        tracing::warn!(admitted, "there are too many sessions of clients: one ends");
        sessions::end(vec![leaving], &northbound.tasks);
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
            let expired = northbound.sessions.expired(parts.edge.clock.boot());
            if !expired.is_empty() {
                tracing::info!(sessions = expired.len(), "sessions that nobody used have ended");
            }
            sessions::end(expired, &northbound.tasks);
        }
    }
}
