//! Keeping a legacy session subscribed to what is wished for: several wishes at once, each resource one step at a time, and
//! what failed and is still wished for again and again, ever more slowly.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};

use super::{Watcher, is_over};
use crate::connectors::limits;
use crate::connectors::session_slot::SessionSlot;
use crate::connectors::wishes::{Refusal, Step};
use crate::edge::http::HttpError;
use crate::mcp::protocol::{RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE};
use crate::mcp::{Nobody, Outcome, Session, WireError, hops};
use crate::model::raw::{self, RawObject};

/// What came of a step.
enum Came {
    /// With the count of hops that it was asked with.
    Subscribed(String, u64, Result<(), Refusal>),
    Unsubscribed(String),
}

impl Watcher {
    /// Keeps a legacy session subscribed to what is wished for; it never returns.
    pub(super) async fn keep_subscribed(&self, slot: &SessionSlot, session: &Arc<Session>) {
        let wishes = &self.handle.wishes;
        let mut changes = wishes.changes();
        // What is subscribed to, and what is being asked for: never the same resource twice at once.
        let (mut done, mut busy) = (BTreeSet::new(), BTreeSet::new());
        let mut asking = FuturesUnordered::new();
        let mut failures = 0;
        let mut again = None;
        loop {
            changes.borrow_and_update();
            while asking.len() < limits::WISHES_AT_ONCE
                && let Some(step) = wishes.next_step(&done, &busy)
            {
                busy.insert(step.uri().to_owned());
                asking.push(self.step(slot, session, step));
            }
            if again.is_none() && wishes.has_failed() {
                failures += 1;
                again = Some(self.pause(failures, Duration::ZERO).boxed());
            }
            tokio::select! {
                biased;
                Some(came) = asking.next() => match came {
                    Came::Subscribed(uri, hops, outcome) => {
                        busy.remove(&uri);
                        if outcome.is_ok() {
                            done.insert(uri.clone());
                        }
                        wishes.settle(&uri, hops, outcome);
                        if !wishes.has_failed() {
                            failures = 0;
                        }
                    }
                    Came::Unsubscribed(uri) => {
                        busy.remove(&uri);
                        done.remove(&uri);
                    }
                },
                () = super::listening::when_due(&mut again) => {
                    again = None;
                    wishes.retry_failed();
                }
                changed = changes.changed() => if changed.is_err() {
                    std::future::pending::<()>().await;
                },
            }
        }
    }

    async fn step(&self, slot: &SessionSlot, session: &Arc<Session>, step: Step) -> Came {
        match step {
            Step::Subscribe(uri, params) => {
                let hops = hops::of(&params);
                let outcome = self.ask(slot, session, RESOURCES_SUBSCRIBE, params).await;
                Came::Subscribed(uri, hops, outcome)
            }
            Step::Unsubscribe(uri) => {
                let mut params = RawObject::new();
                params.set("uri", raw::string(&uri));
                // Updates that come all the same are nobody's.
                drop(self.ask(slot, session, RESOURCES_UNSUBSCRIBE, params).await);
                Came::Unsubscribed(uri)
            }
        }
    }

    async fn ask(
        &self,
        slot: &SessionSlot,
        session: &Arc<Session>,
        method: &str,
        params: RawObject,
    ) -> Result<(), Refusal> {
        let asked = tokio::time::timeout(limits::WISH_TIMEOUT, session.request(method, params, &Nobody)).await;
        match asked.unwrap_or(Err(WireError::Http(HttpError::Timeout))) {
            Ok(Outcome::Result(_)) => Ok(()),
            Ok(Outcome::Error(error)) => Err(Refusal::Answer(error)),
            Err(error) if is_over(&error) => {
                slot.forget(session, &error);
                Err(Refusal::SessionOver(error.failure()))
            }
            Err(error) => {
                let failure = error.failure();
                self.handle.heed(&failure);
                Err(Refusal::Failed(failure))
            }
        }
    }
}
