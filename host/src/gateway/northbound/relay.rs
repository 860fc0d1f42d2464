//! What a server says before it answers, passed on to the client whose request it answers.
//!
//! Whatever the client did not ask for is dropped here, and what it can not answer is refused: a server is told what it
//! would have been told by that client directly, or less.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::log_level::WantedLogs;
use super::outlet::Outlet;
use super::session::{Answering, Session};
use crate::mcp::envelope::notification_bytes;
use crate::mcp::protocol::LOG_MESSAGE;
use crate::mcp::{Interim, Notice, Outcome, Question, interim};
use crate::model::raw::RawObject;

/// Passes messages on. Without an outlet, the client takes an answer and nothing else.
pub(super) struct Relay {
    pub(super) outlet: Option<Outlet>,
    pub(super) logs: WantedLogs,
    /// The session of a client that may be asked.
    pub(super) session: Option<Arc<Session>>,
    /// Held while its request is being answered.
    pub(super) _answering: Option<Answering>,
}

impl Interim for Relay {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        async move {
            let Some(outlet) = &self.outlet else { return };
            if notice.method == LOG_MESSAGE {
                let params = notice.params.as_deref().and_then(|params| RawObject::parse(params).ok());
                if !self.logs.wants(params.as_ref()) {
                    return;
                }
            }
            // Whether its client is still there is the request's own affair.
            drop(outlet.send(notification_bytes(&notice.method, notice.params.as_deref())).await);
        }
        .boxed()
    }

    fn paused(&self, wait: Duration) {
        if let Some(outlet) = &self.outlet {
            outlet.pause(wait);
        }
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        async move {
            match (&self.session, &self.outlet) {
                (Some(session), Some(outlet)) => session.ask(outlet, question).await,
                _ => interim::refusal(),
            }
        }
        .boxed()
    }
}
