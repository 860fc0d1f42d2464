//! `subscriptions/listen`: a modern client's stream of news, until it goes away or the gateway ends (2026-07-28,
//! `basic/subscriptions`).
//!
//! The first message says what of the wish is granted. Each message names the request that it belongs to.

use std::sync::{Mutex, PoisonError};

use serde_json::value::RawValue;

use super::answer::{Answer, CONNECTOR_ERROR};
use super::dispatch::Asked;
use super::news::{Interest, News};
use super::outlet::Outlet;
use super::subscriptions::Subscriptions;
use crate::catalog::View;
use crate::connectors::ServerEvent;
use crate::gateway::embed::Gateway;
use crate::mcp::Notice;
use crate::mcp::envelope::notification_bytes;
use crate::mcp::protocol::{INVALID_PARAMS, INVALID_REQUEST, META_SUBSCRIPTION_ID, SUBSCRIPTIONS_ACKNOWLEDGED};
use crate::mcp::server::meta_of;
use crate::model::raw::{self, RawObject};
use crate::model::{Digest, ListKind};

/// The members of a wish for changes of lists. Templates are resources there.
const CHANGES: [(&str, &[ListKind]); 3] = [
    ("toolsListChanged", &[ListKind::Tools]),
    ("promptsListChanged", &[ListKind::Prompts]),
    ("resourcesListChanged", &[ListKind::Resources, ListKind::Templates]),
];

/// The member of a wish for updates of resources.
const RESOURCES: &str = "resourceSubscriptions";

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
    let wish = asked.params.get("notifications").and_then(|wish| RawObject::parse(wish).ok());
    let Some(wish) = wish else {
        return Answer::error(INVALID_PARAMS, "params.notifications must say what to listen to", None);
    };
    let Ok(_place) = gateway.inner.northbound.listens.clone().try_acquire_owned() else {
        return Answer::error(CONNECTOR_ERROR, "too many clients listen already; poll the lists instead", None);
    };
    // From here on nothing is missed.
    let mut news = News::new(gateway);
    let served = gateway.snapshot().served(&asked.visitor.view);
    let known = ListKind::ALL.map(|kind| served.list(kind).digest());
    let mut granted = RawObject::new();
    let mut kinds = Vec::new();
    for (member, of) in CHANGES {
        if wish.get(member).is_some_and(|wish| wish.get() == "true") {
            kinds.extend_from_slice(of);
            granted.set(member, raw::trusted("true".to_owned()));
        }
    }
    let (subscriptions, uris) = subscribe(gateway, asked, &wish).await;
    if !subscriptions.is_empty() {
        granted.set(RESOURCES, raw::trusted(format!("[{}]", uris.join(","))));
    }
    let mut acknowledged = RawObject::new();
    acknowledged.set("notifications", granted.to_raw());
    if tell(asked, outlet, SUBSCRIPTIONS_ACKNOWLEDGED, acknowledged).await.is_none() {
        return Answer::none();
    }
    let listener = Listener { view: asked.visitor.view.clone(), kinds, subscriptions, known: Mutex::new(known) };
    loop {
        let told = tokio::select! {
            () = asked.ending.cancelled() => return ended(asked),
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

/// Subscribes to what of the wish can be subscribed to; returns that, and its URIs as JSON.
async fn subscribe(gateway: &Gateway, asked: &Asked, wish: &RawObject) -> (Subscriptions, Vec<String>) {
    let mut subscriptions = Subscriptions::default();
    let wished = wish.get(RESOURCES).and_then(|uris| serde_json::from_str::<Vec<Box<RawValue>>>(uris.get()).ok());
    let mut granted = Vec::new();
    let served = gateway.snapshot().served(&asked.visitor.view);
    for written in wished.unwrap_or_default() {
        let Some(uri) = raw::as_text(&written).filter(|uri| subscriptions.has_room_for(uri)) else { continue };
        for route in served.resource(&uri) {
            let mut params = RawObject::new();
            params.set("uri", raw::string(&route.original));
            // Who does not take it, or does not answer, is left out of what is granted.
            if let Ok(Ok(wish)) = gateway.inner.parts.fleet.wish_for_resource(&route.connector, params).await {
                subscriptions.add(uri, route, wish);
                granted.push(written.get().to_owned());
                break;
            }
        }
    }
    (subscriptions, granted)
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

    fn told(&self, event: &ServerEvent) -> Option<Notice> {
        let params = self.subscriptions.update(event)?;
        Some(Notice { method: event.notice.method.clone(), params: Some(params.to_raw()) })
    }

    fn missed(&self) -> Vec<Notice> {
        self.subscriptions.all_updated()
    }
}
