//! `subscriptions/listen`: a modern client's stream of news, until it goes away or the gateway ends (2026-07-28,
//! `basic/subscriptions`).
//!
//! The first message says what of the wish is granted. Each message names the request that it belongs to.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use futures_util::StreamExt;
use serde_json::value::RawValue;
use tokio::time::Instant;

use super::answer::Answer;
use super::asked::Asked;
use super::calls::{denies_the_resource, resource_routes};
use super::news::{Interest, News};
use super::outlet::Outlet;
use super::subscriptions::Subscriptions;
use crate::catalog::View;
use crate::connectors::ServerEvent;
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::mcp::envelope::notification_bytes;
use crate::mcp::protocol::CONNECTOR_ERROR;
use crate::mcp::protocol::{INVALID_PARAMS, INVALID_REQUEST, META_SUBSCRIPTION_ID, SUBSCRIPTIONS_ACKNOWLEDGED};
use crate::mcp::request_members::{CheckedObject, Members as _, NotificationsMember, ParamsMember};
use crate::mcp::server::meta_of;
use crate::mcp::{Notice, hops};
use crate::model::raw::{self, RawObject};
use crate::model::{Digest, ListKind};

/// The members of a wish for changes of lists. Templates are resources there.
const CHANGES: [(NotificationsMember, &[ListKind]); 3] = [
    (NotificationsMember::Tools, &[ListKind::Tools]),
    (NotificationsMember::Prompts, &[ListKind::Prompts]),
    (NotificationsMember::Resources, &[ListKind::Resources, ListKind::Templates]),
];

/// What a client listens to.
struct Listener {
    view: View,
    kinds: Vec<ListKind>,
    subscriptions: Subscriptions,
    known: Mutex<[Digest; 4]>,
}

/// Tells a client the news. Ends with a result when the gateway ends; else only with its client.
pub(super) async fn listen(gateway: &Gateway, asked: &Asked) -> Answer {
    let Some(outlet) = &asked.outlet else {
        return Answer::error(INVALID_REQUEST, "listening needs a client that accepts text/event-stream", None);
    };
    let wish = asked.params.object(ParamsMember::Notifications);
    let Some(wish) = wish else {
        return Answer::error(INVALID_PARAMS, "params.notifications must say what to listen to", None);
    };
    let Ok(wished) = wished(&wish) else {
        return Answer::error(INVALID_PARAMS, "a URI to listen to is too long", None);
    };
    let several_tokens = gateway.inner.parts.settings.load().tokens.len() > 1;
    let share = if several_tokens { limits::LISTENS_SHARE } else { limits::LISTENS_MAX };
    let Some(_place) = gateway.inner.northbound.listens.take(asked.visitor.token.clone(), share) else {
        return Answer::error(CONNECTOR_ERROR, "too many clients listen already; poll the lists instead", None);
    };
    let ending = async {
        tokio::select! {
            () = asked.ending.cancelled() => {}
            // What is seen has changed: who comes back is judged anew.
            () = asked.visitor.grant.cancelled() => {}
        }
    };
    let mut ending = std::pin::pin!(ending);
    // From here on nothing is missed.
    let mut news = News::new(gateway);
    let served = gateway.snapshot().served(&asked.visitor.view);
    let known = ListKind::ALL.map(|kind| served.list(kind).digest());
    let mut granted = RawObject::new();
    let mut kinds = Vec::new();
    for (member, of) in CHANGES {
        if wish.get(member).is_some_and(|wish| wish.get() == "true") {
            kinds.extend_from_slice(of);
            granted.set(member.key(), raw::trusted("true".to_owned()));
        }
    }
    let (subscriptions, uris) = tokio::select! {
        () = &mut ending => return ended(asked),
        () = outlet.gone() => return Answer::none(),
        granted = subscribe(gateway, asked, wished) => granted,
    };
    if !subscriptions.is_empty() {
        granted.set(NotificationsMember::Subscriptions.key(), raw::trusted(format!("[{}]", uris.join(","))));
    }
    let mut acknowledged = RawObject::new();
    acknowledged.set("notifications", granted.to_raw());
    if tell(asked, outlet, SUBSCRIPTIONS_ACKNOWLEDGED, acknowledged).await.is_none() {
        return Answer::none();
    }
    let listener = Listener { view: asked.visitor.view.clone(), kinds, subscriptions, known: Mutex::new(known) };
    loop {
        let told = tokio::select! {
            () = &mut ending => return ended(asked),
            () = outlet.gone() => return Answer::none(),
            told = news.next(&listener) => told,
        };
        for Notice { method, params } in told {
            let params = params.and_then(|params| RawObject::parse(&params).ok()).unwrap_or_default();
            if tell(asked, outlet, &method, params).await.is_none() {
                return Answer::none();
            }
        }
    }
}

/// A URI is longer than [`limits::SUBSCRIPTION_URI_BYTES_MAX`].
struct TooLong;

/// The URIs that are wished for, each once and as it is written, as far as they fit.
fn wished(wish: &CheckedObject<NotificationsMember>) -> Result<Vec<(String, Box<RawValue>)>, TooLong> {
    let written = wish
        .get(NotificationsMember::Subscriptions)
        .and_then(|uris| serde_json::from_str::<Vec<Box<RawValue>>>(uris.get()).ok());
    let mut wished: Vec<(String, Box<RawValue>)> = Vec::new();
    let mut known = BTreeSet::new();
    for written in written.unwrap_or_default() {
        let Some(uri) = raw::as_text(&written) else { continue };
        if uri.len() > limits::SUBSCRIPTION_URI_BYTES_MAX {
            return Err(TooLong);
        }
        if known.len() < limits::SUBSCRIPTIONS_MAX && known.insert(uri.clone()) {
            wished.push((uri, written));
        }
    }
    Ok(wished)
}

/// Subscribes to what of the wish can be subscribed to within [`limits::LISTEN_GRANT_TIMEOUT`], to several resources at once;
/// returns that, and its URIs as JSON, in the order of the wish.
async fn subscribe(
    gateway: &Gateway,
    asked: &Asked,
    wished: Vec<(String, Box<RawValue>)>,
) -> (Subscriptions, Vec<String>) {
    let deadline = Instant::now() + limits::LISTEN_GRANT_TIMEOUT;
    let granting = wished.into_iter().map(|(uri, written)| {
        let routes = resource_routes(gateway, asked, &uri);
        async move {
            for route in routes {
                let mut params = RawObject::new();
                params.set("uri", raw::string(&route.original));
                let params = hops::with(params, hops::of(&asked.params.to_object()));
                let wishing = gateway.inner.parts.fleet.wish_for_resource(&route.connector, params);
                // What its server refuses, or does not answer, is left out of what is granted.
                match tokio::time::timeout_at(deadline, wishing).await {
                    Ok(Ok(Ok(wish))) => return Some((uri, written, route, wish)),
                    Ok(Ok(Err(error))) if denies_the_resource(&error, &uri) => {}
                    _ => return None,
                }
            }
            None
        }
    });
    let granted: Vec<_> = futures_util::stream::iter(granting).buffered(limits::LISTEN_GRANTS_AT_ONCE).collect().await;
    let mut subscriptions = Subscriptions::none(gateway.inner.northbound.held.clone());
    let mut uris = Vec::new();
    for (uri, written, route, wish) in granted.into_iter().flatten() {
        // What does not fit is left out of what is granted.
        let Some(held) = subscriptions.room_for(&uri) else { continue };
        subscriptions.add(uri, route, wish, held);
        uris.push(written.get().to_owned());
    }
    (subscriptions, uris)
}

/// Sends a message that belongs to the request; none if the client is gone.
async fn tell(asked: &Asked, outlet: &Outlet, method: &str, mut params: RawObject) -> Option<()> {
    mark(asked, &mut params);
    outlet.send(notification_bytes(method, Some(&params.to_raw()))).await.ok()
}

fn ended(asked: &Asked) -> Answer {
    let mut result = RawObject::new();
    result.set("resultType", raw::string("complete"));
    mark(asked, &mut result);
    Answer::result(result.to_raw())
}

/// Names the request in `_meta`, in the words in which its id was written.
fn mark(asked: &Asked, object: &mut RawObject) {
    let mut meta = meta_of(object);
    meta.set(META_SUBSCRIPTION_ID, raw::trusted(asked.id.as_json().to_owned()));
    object.set("_meta", meta.to_raw());
}

impl Interest for Listener {
    fn view(&self) -> View {
        self.view.clone()
    }

    fn list_is(&self, kind: ListKind, digest: Digest) -> bool {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut known[kind as usize], digest) != digest && self.kinds.contains(&kind)
    }

    fn told(&self, event: &ServerEvent) -> Vec<Notice> {
        let updates = self.subscriptions.updates(event).into_iter();
        let notice = |params: RawObject| Notice { method: event.notice.method.clone(), params: Some(params.to_raw()) };
        updates.map(notice).collect()
    }

    fn missed(&self) -> Vec<Notice> {
        self.subscriptions.all_updated()
    }
}
