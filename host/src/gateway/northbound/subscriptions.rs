//! The resources that one client is told the updates of, and which update means which of them.

use std::collections::BTreeMap;

use crate::catalog::Route;
use crate::connectors::{ResourceWish, ServerEvent};
use crate::gateway::limits;
use crate::mcp::Notice;
use crate::mcp::protocol::RESOURCES_UPDATED;
use crate::model::raw::{self, RawObject};

/// Resources by the URIs that the client knows them by. Dropping one takes its wish back.
#[derive(Debug, Default)]
pub(super) struct Subscriptions(BTreeMap<String, Subscribed>);

#[derive(Debug)]
struct Subscribed {
    at: Route,
    _wish: ResourceWish,
}

impl Subscriptions {
    /// Whether one more fits.
    pub(super) fn has_room_for(&self, uri: &str) -> bool {
        self.0.len() < limits::SUBSCRIPTIONS_MAX || self.0.contains_key(uri)
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, uri: String, at: Route, wish: ResourceWish) {
        self.0.insert(uri, Subscribed { at, _wish: wish });
    }

    pub(super) fn remove(&mut self, uri: &str) {
        self.0.remove(uri);
    }

    /// The URIs.
    pub(super) fn uris(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The update of a server as this client is told it; none if it is not about one of these resources. A server may
    /// name a part of what was subscribed to (specification 2025-11-25, `server/resources`, Subscriptions).
    pub(super) fn update(&self, event: &ServerEvent) -> Option<RawObject> {
        if event.notice.method != RESOURCES_UPDATED {
            return None;
        }
        let mut params = RawObject::parse(event.notice.params.as_deref()?).ok()?;
        let updated = params.get_str("uri")?;
        let of_connector = self.0.iter().filter(|(_, one)| one.at.connector == event.connector);
        let (uri, rest) = of_connector
            .filter_map(|(uri, one)| Some((uri, updated.strip_prefix(&one.at.original)?)))
            .min_by_key(|(_, rest)| rest.len())?;
        if !rest.is_empty() || *uri != updated {
            params.set("uri", raw::string(&format!("{uri}{rest}")));
        }
        Some(params)
    }

    /// An update of each: what is told when updates were missed.
    pub(super) fn all_updated(&self) -> Vec<Notice> {
        let update = |uri| {
            let mut params = RawObject::new();
            params.set("uri", raw::string(uri));
            Notice { method: RESOURCES_UPDATED.to_owned(), params: Some(params.to_raw()) }
        };
        self.uris().map(update).collect()
    }
}
