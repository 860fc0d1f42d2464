//! What servers say and ask a legacy client besides their answers, on the sessions that it has of its own with them.
//!
//! It goes where such things go: on a stream of the client's session, and where it holds none, beside a request that is being
//! answered. Changes of lists are told from the catalog, and updates by subscription: here they are dropped.

use std::sync::Weak;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::session::Session;
use crate::mcp::envelope::notification_bytes;
use crate::mcp::protocol::{CANCELLED, LOG_MESSAGE, RESOURCES_UPDATED};
use crate::mcp::{Interim, Notice, Outcome, Question, interim};
use crate::model::ListKind;
use crate::model::raw::RawObject;

/// Takes it. The session holds it, and not the other way round.
pub(super) struct Aside(pub(super) Weak<Session>);

impl Interim for Aside {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        async move {
            let Some(session) = self.0.upgrade() else { return };
            let is_told_otherwise = matches!(notice.method.as_str(), CANCELLED | RESOURCES_UPDATED)
                || ListKind::ALL.iter().any(|kind| kind.changed() == notice.method);
            let params = notice.params.as_deref().and_then(|params| RawObject::parse(params).ok());
            let is_unwanted = notice.method == LOG_MESSAGE && !session.logs().wants(params.as_ref());
            if is_told_otherwise || is_unwanted {
                return;
            }
            if let Some(outlet) = session.anywhere() {
                // Who is gone can not be told.
                drop(outlet.send(notification_bytes(&notice.method, notice.params.as_deref())).await);
            }
        }
        .boxed()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        async move {
            let Some(session) = self.0.upgrade() else { return interim::refusal() };
            match session.anywhere() {
                Some(outlet) => session.ask(&outlet, question).await,
                None => interim::refusal(),
            }
        }
        .boxed()
    }
}
