//! Lists, from the published snapshot: page by page, with caching hints for modern clients and how each connector stands.
//!
//! A cursor belongs to the very list that it was given for: if that has changed, so may have every place in it, and the
//! client is told to begin anew.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::value::RawValue;

use super::answer::Answer;
use super::asked::Asked;
use super::facts::{scope, server_info};
use std::ops::Bound;

use crate::catalog::{CatalogSnapshot, Part, View, ViewList, ViewSnapshot};
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::mcp::protocol::{Era, INVALID_PARAMS, META_SERVER_INFO};
use crate::mcp::request_members::ParamsMember;
use crate::model::raw::{self, RawObject};
use crate::model::{ConnectorId, ListKind};

/// Our key in the `_meta` of a list: how each connector's list stands.
const CONNECTORS_KEY: &str = "com.brainwav.cortex/connectors";

/// Our key in the `_meta` of a list: names and addresses that two of the connectors claim, if there are any.
const COLLISIONS_KEY: &str = "com.brainwav.cortex/collisions";

/// Characters of a list's digest in a cursor.
const CURSOR_DIGEST: usize = 16;

/// Answers with a page of a list.
pub(super) async fn list(gateway: &Gateway, asked: &Asked, kind: ListKind) -> Answer {
    gateway.wait_for_first_lists().await;
    let (snapshot, view) = (gateway.snapshot(), &asked.visitor.view);
    gateway.was_read();
    let served = snapshot.served(view);
    let list = served.list(kind);
    let from = match asked.params.get(ParamsMember::Cursor).filter(|cursor| !raw::is_null(cursor)) {
        None => Some(0),
        Some(cursor) => raw::as_text(cursor).and_then(|cursor| place(list, &cursor)),
    };
    let Some(from) = from else {
        return Answer::error(INVALID_PARAMS, "the cursor is unknown or outdated: list again without one", None);
    };
    if let Some(session) = &asked.session {
        session.saw(kind, list.digest());
    }
    let (page, next) = list.page(from, limits::LIST_PAGE_ITEMS);
    let mut result = RawObject::new();
    if asked.era == Era::Modern {
        result.set("resultType", raw::string("complete"));
    }
    // The snapshot's bytes are an array of definitions that were JSON when they came.
    result.set(kind.member(), raw::trusted(String::from_utf8_lossy(&page).into_owned()));
    if let Some(next) = next {
        result.set("nextCursor", raw::string(&cursor(list, next)));
    }
    let mut meta = RawObject::new();
    if asked.era == Era::Modern {
        result.set("ttlMs", raw::number(snapshot.ttl_ms(view, gateway.inner.parts.edge.clock.boot())));
        result.set("cacheScope", scope(&snapshot, view));
        meta.set(META_SERVER_INFO, server_info());
    }
    let range = list.connectors(from, next.unwrap_or(list.len()));
    meta.set(CONNECTORS_KEY, standings(&snapshot, view, &served, kind, range));
    // Once, not with each page.
    let collisions = list.collisions().filter(|_| from == 0);
    if let Some(collisions) = collisions.and_then(|collisions| serde_json::value::to_raw_value(collisions).ok()) {
        meta.set(COLLISIONS_KEY, collisions);
    }
    result.set("_meta", meta.to_raw());
    Answer::result(result.to_raw())
}

/// The cursor of a place in a list.
fn cursor(list: ViewList<'_>, place: usize) -> String {
    URL_SAFE_NO_PAD.encode(format!("{}.{place}", list.digest().short(CURSOR_DIGEST)))
}

/// The place that a cursor names; none if it is not one of this list's.
fn place(list: ViewList<'_>, cursor: &str) -> Option<usize> {
    let text = String::from_utf8(URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()?;
    let (digest, place) = text.split_once('.')?;
    let place = place.parse().ok()?;
    (digest == list.digest().short(CURSOR_DIGEST) && place < list.len()).then_some(place)
}

/// The state of each connector's list, of those that a page is about.
fn standings<'a>(
    snapshot: &'a CatalogSnapshot,
    view: &View,
    served: &ViewSnapshot,
    kind: ListKind,
    range: (Bound<&'a ConnectorId>, Bound<&'a ConnectorId>),
) -> Box<RawValue> {
    let seen = snapshot.parts_in(range).filter(|part| view.sees_connector(&part.connector.id));
    let standings = seen.map(|part| {
        let count = served.count_of(kind, &part.connector.id);
        standing(part, kind, count).get().to_owned()
    });
    let standings: Vec<String> = standings.collect();
    raw::trusted(format!("[{}]", standings.join(",")))
}

fn standing(part: &Part, kind: ListKind, count: usize) -> Box<RawValue> {
    let mut standing = RawObject::new();
    standing.set("id", raw::string(part.connector.id.as_str()));
    if let Ok(state) = serde_json::value::to_raw_value(&part.facts.state) {
        standing.set("state", state);
    }
    standing.set("reason", raw::string(&part.facts.reason));
    if let Ok(contact) = serde_json::value::to_raw_value(&part.facts.contact) {
        standing.set("contact", contact);
    }
    let fetched_at = part.facts.fetched_at.map(|time| raw::string(&time.to_string()));
    standing.set("fetchedAt", fetched_at.unwrap_or_else(|| RawValue::NULL.to_owned()));
    standing.set(kind.member(), raw::number(count as u64));
    standing.to_raw()
}
