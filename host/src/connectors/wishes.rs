//! What clients wish to be told of resources. A wish lasts as long as it is held.
//!
//! Wishes are counted here and carried out by whoever watches the connector, for each resource one after the other: that it
//! is subscribed to and unsubscribed from at the same time can not happen. They belong to the connector and not to a session:
//! what is wished for is subscribed to in every session that is opened. Nothing here knows what an update says.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::watch;

use super::call::CallError;
use super::fleet::Fleet;
use super::handle::Handle;
use super::limits::{ATTEMPTS, RESOURCE_WISHES_MAX, WISH_TIMEOUT};
pub use super::log_wishes::LogWish;
use super::session_slot::SessionSlot;
use crate::edge::http::HttpError;
use crate::mcp::envelope::error_object;
use crate::mcp::hops::{HOPS_MAX, HopsError};
use crate::mcp::protocol::{METHOD_NOT_FOUND, RESOURCES_SUBSCRIBE};
use crate::mcp::{Era, WireError, hops};
use crate::model::raw::RawObject;
use crate::model::{ConnectorId, Failure};

/// Why a server does not carry out a wish.
#[derive(Clone, Debug)]
pub(super) enum Refusal {
    /// It answered with this JSON-RPC error object.
    Answer(Box<RawValue>),
    /// It could not be asked.
    Failed(Failure),
    /// The session was lost: the next one may carry it out.
    SessionOver(Failure),
}

/// The wishes for resources of one connector.
#[derive(Debug, Default)]
pub(super) struct ResourceWishes {
    wanted: Mutex<BTreeMap<String, Wanted>>,
    /// Touched when what is wanted is another set.
    changed: watch::Sender<()>,
    /// Touched when a wish was carried out or refused.
    settled: watch::Sender<()>,
}

#[derive(Debug)]
struct Wanted {
    holders: usize,
    /// With the least count of hops of those who wish for it: the count of one client is no reason to refuse another.
    params: RawObject,
    standing: Standing,
}

#[derive(Clone, Debug)]
enum Standing {
    /// To be asked for.
    New,
    Granted,
    Refused(Refusal),
}

impl Wanted {
    fn has_failed(&self) -> bool {
        matches!(self.standing, Standing::Refused(Refusal::Failed(_)))
    }
}

/// What is to be done next for a legacy server.
#[derive(Debug)]
pub(super) enum Step {
    Subscribe(String, RawObject),
    Unsubscribe(String),
}

impl Step {
    /// What it is about.
    pub(super) fn uri(&self) -> &str {
        match self {
            Self::Subscribe(uri, _) | Self::Unsubscribe(uri) => uri,
        }
    }
}

impl ResourceWishes {
    /// Tells when the set of what is wanted has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }

    /// The URIs that are wanted.
    pub(super) fn uris(&self) -> BTreeSet<String> {
        self.lock().keys().cloned().collect()
    }

    /// A session begins that knows of no wish.
    pub(super) fn begin_anew(&self) {
        self.lock().values_mut().for_each(|wanted| wanted.standing = Standing::New);
    }

    /// What is to be done next in a session in which `done` is subscribed to.
    ///
    /// Whatever is `busy` is left alone.
    pub(super) fn next_step(&self, done: &BTreeSet<String>, busy: &BTreeSet<String>) -> Option<Step> {
        let wanted = self.lock();
        if let Some(uri) = done.iter().find(|uri| !wanted.contains_key(*uri) && !busy.contains(*uri)) {
            return Some(Step::Unsubscribe(uri.clone()));
        }
        let is_new = |one: &Wanted| matches!(one.standing, Standing::New);
        let new = wanted.iter().find(|(uri, one)| is_new(one) && !busy.contains(*uri));
        new.map(|(uri, one)| Step::Subscribe(uri.clone(), one.params.clone()))
    }

    /// Whether any wish that is held could not be asked for.
    pub(super) fn has_failed(&self) -> bool {
        self.lock().values().any(Wanted::has_failed)
    }

    /// What could not be asked for and is still wished for is to be asked for again.
    pub(super) fn retry_failed(&self) {
        self.lock()
            .values_mut()
            .filter(|wanted| wanted.has_failed())
            .for_each(|wanted| wanted.standing = Standing::New);
    }

    /// A wish that was asked for with this count of hops was carried out, or refused. A refusal of a greater count than the
    /// present one settles nothing.
    pub(super) fn settle(&self, uri: &str, asked: u64, outcome: Result<(), Refusal>) {
        if let Some(wanted) = self.lock().get_mut(uri)
            && (outcome.is_ok() || asked <= hops::of(&wanted.params))
        {
            wanted.standing = match outcome {
                Ok(()) => Standing::Granted,
                Err(refusal) => Standing::Refused(refusal),
            };
        }
        self.settled.send_replace(());
    }

    /// A wish that a lost session refused is to be carried out by the next one.
    fn renew(&self, uri: &str) {
        if let Some(wanted) = self.lock().get_mut(uri)
            && matches!(wanted.standing, Standing::Refused(Refusal::SessionOver(_)))
        {
            wanted.standing = Standing::New;
        }
        self.changed.send_replace(());
    }

    /// Every wish that waits is refused for the same reason.
    pub(super) fn refuse_all(&self, refusal: &Refusal) {
        for wanted in self.lock().values_mut().filter(|wanted| matches!(wanted.standing, Standing::New)) {
            wanted.standing = Standing::Refused(refusal.clone());
        }
        self.settled.send_replace(());
    }

    /// Whether it is carried out already.
    fn is_granted(&self, uri: &str) -> bool {
        self.lock().get(uri).is_some_and(|wanted| matches!(wanted.standing, Standing::Granted))
    }

    /// Adds a wish, if there is room for it.
    fn wish(self: &Arc<Self>, uri: &str, params: RawObject) -> Option<ResourceWish> {
        {
            let mut all = self.lock();
            if all.len() >= RESOURCE_WISHES_MAX && !all.contains_key(uri) {
                return None;
            }
            let new = || Wanted { holders: 0, params: params.clone(), standing: Standing::New };
            let wanted = all.entry(uri.to_owned()).or_insert_with(new);
            wanted.holders += 1;
            if hops::of(&params) < hops::of(&wanted.params) {
                wanted.params = params;
            }
            if matches!(wanted.standing, Standing::Refused(_)) {
                wanted.standing = Standing::New;
            }
        }
        self.changed.send_replace(());
        Some(ResourceWish { wishes: self.clone(), uri: uri.to_owned() })
    }

    fn release(&self, uri: &str) {
        {
            let mut all = self.lock();
            let Some(wanted) = all.get_mut(uri) else { return };
            wanted.holders -= 1;
            if wanted.holders > 0 {
                return;
            }
            all.remove(uri);
        }
        self.changed.send_replace(());
    }

    /// Waits until a wish is carried out or refused.
    async fn outcome(&self, uri: &str) -> Result<(), Refusal> {
        let mut settled = self.settled.subscribe();
        loop {
            settled.borrow_and_update();
            match self.lock().get(uri).map(|wanted| wanted.standing.clone()) {
                Some(Standing::Granted) => return Ok(()),
                Some(Standing::Refused(refusal)) => return Err(refusal),
                Some(Standing::New) | None => {}
            }
            if settled.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Wanted>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wish for updates of one resource. Dropping it takes it back.
#[derive(Debug)]
pub struct ResourceWish {
    wishes: Arc<ResourceWishes>,
    uri: String,
}

impl Drop for ResourceWish {
    fn drop(&mut self) {
        self.wishes.release(&self.uri);
    }
}

impl Fleet {
    /// Wishes for updates of a resource, by its server's own URI, in `params`' `uri`. Returns when the server has taken a
    /// subscription, or when the stream that tells of it is open; updates come with [`Fleet::events`].
    ///
    /// # Errors
    /// [`CallError`], if the server can not be asked; the inner error is its own JSON-RPC error object.
    pub async fn wish_for_resource(
        &self,
        id: &ConnectorId,
        params: RawObject,
    ) -> Result<Result<ResourceWish, Box<RawValue>>, CallError> {
        let handle = self.handle(id).ok_or_else(|| CallError::NoConnector(id.clone()))?;
        let limit = handle.deadlines.get().call;
        handle.wish_for_resource(params, limit).await
    }

    /// Wishes for log messages of this level (RFC 5424's names) and above, of every server that has any and that `sees`
    /// names.
    pub fn wish_for_logs(&self, level: &str, sees: impl Fn(&ConnectorId) -> bool + Send + Sync + 'static) -> LogWish {
        self.logs().wish(level, Arc::new(sees))
    }

    /// Wishes for log messages of one server, for as long as a request to it takes. None if it needs no such wish: a modern
    /// server is told in the request.
    pub fn wish_for_logs_of(&self, id: &ConnectorId, level: &str) -> Option<LogWish> {
        let handle = self.handle(id)?;
        let is_legacy = handle.slot.as_ref().is_ok_and(|slot| slot.era() == Some(Era::Legacy));
        is_legacy.then(|| handle.logs.wish(level, Arc::new(|_| true)))
    }
}

impl Handle {
    async fn wish_for_resource(
        &self,
        mut params: RawObject,
        limit: Duration,
    ) -> Result<Result<ResourceWish, Box<RawValue>>, CallError> {
        let failed = |failure: Failure| CallError::Failed { connector: self.id.clone(), failure };
        // What belongs to one request is not said again in the next session.
        let hops = hops::of(&params);
        params.remove("_meta");
        let params = hops::with(params, hops);
        let uri = params.get_str("uri").unwrap_or_default();
        if let Some(refusal) = self.definitions.refusal(RESOURCES_SUBSCRIBE, &params) {
            return Ok(Err(refusal));
        }
        // Who is carried out already costs its server nothing; anything else is one more request to it.
        if !self.wishes.is_granted(&uri) {
            let connector = || self.id.clone();
            if let Some(retry_after) = self.gate.held_for(self.edge.clock.boot()) {
                return Err(CallError::Throttled { connector: connector(), retry_after });
            }
            self.quota.take().map_err(|retry_after| CallError::Quota { connector: connector(), retry_after })?;
        }
        let busy = || CallError::Busy { connector: self.id.clone(), retry_after: WISH_TIMEOUT };
        let wish = self.wishes.wish(&uri, params).ok_or_else(busy)?;
        let slot = self.slot.clone().map_err(failed)?;
        let mut attempts = ATTEMPTS;
        loop {
            attempts -= 1;
            let carried_out = async {
                can_subscribe(&slot, hops).await?;
                self.wishes.outcome(&uri).await
            };
            let timeout = || Err(Refusal::Failed(WireError::Http(HttpError::Timeout).failure()));
            let outcome = tokio::select! {
                outcome = tokio::time::timeout(limit, carried_out) => outcome.unwrap_or_else(|_| timeout()),
                // It leaves, or is rebuilt: nobody carries wishes out any more.
                () = self.ended.cancelled() => return Err(CallError::NoConnector(self.id.clone())),
            };
            match outcome {
                Ok(()) => return Ok(Ok(wish)),
                Err(Refusal::Answer(error)) => return Ok(Err(error)),
                Err(Refusal::SessionOver(_)) if attempts > 0 => self.wishes.renew(&uri),
                Err(Refusal::Failed(failure) | Refusal::SessionOver(failure)) => return Err(failed(failure)),
            }
        }
    }
}

/// Opens the session if need be. A modern server that has no subscriptions is not asked for one. It has one stream for all
/// clients, which carries no count of theirs: what another gateway would refuse for the count is refused here, alone.
async fn can_subscribe(slot: &Arc<SessionSlot>, hops: u64) -> Result<(), Refusal> {
    let session = slot.session().await.map_err(Refusal::Failed)?;
    if session.era() == Era::Legacy {
        return Ok(());
    }
    if hops >= HOPS_MAX {
        return Err(Refusal::Answer(HopsError::TooMany.error()));
    }
    if let Err(error) = session.learn().await {
        slot.forget(&session, &error);
        let failure = error.failure();
        return Err(if matches!(error, WireError::WrongEra) {
            Refusal::SessionOver(failure)
        } else {
            Refusal::Failed(failure)
        });
    }
    slot.note_learned();
    match session.facts().is_some_and(|facts| facts.about.has_flag("resources", "subscribe")) {
        true => Ok(()),
        false => Err(Refusal::Answer(no_subscriptions())),
    }
}

/// What is answered for a server that has none.
pub(super) fn no_subscriptions() -> Box<RawValue> {
    error_object(METHOD_NOT_FOUND, "this resource's server has no subscriptions", None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_of_a_greater_count_of_hops_settles_nothing() {
        let wishes = Arc::new(ResourceWishes::default());
        let nothing = BTreeSet::new();
        let asked = |wishes: &ResourceWishes| match wishes.next_step(&nothing, &nothing) {
            Some(Step::Subscribe(_, params)) => Some(hops::of(&params)),
            _ => None,
        };
        let params = |hops: u64| hops::with(RawObject::new(), hops);
        let refused = || Err(Refusal::Answer(HopsError::TooMany.error()));
        let _far = wishes.wish("x:1", params(4)).unwrap();
        assert_eq!(asked(&wishes), Some(4));
        let _near = wishes.wish("x:1", params(2)).unwrap();
        wishes.settle("x:1", 4, refused());
        assert_eq!(asked(&wishes), Some(2), "the nearer one is asked for");
        let _farther = wishes.wish("x:1", params(3)).unwrap();
        assert_eq!(asked(&wishes), Some(2));
        wishes.settle("x:1", 2, refused());
        assert_eq!(asked(&wishes), None);
    }
}
