//! The resources that one client is told the updates of, and which update means which of them.

use std::collections::{BTreeMap, BTreeSet};

use super::held_bytes::{Held, HeldBytes};
use crate::catalog::Route;
use crate::connectors::{ResourceWish, ServerEvent};
use crate::gateway::limits;
use crate::mcp::Notice;
use crate::mcp::protocol::RESOURCES_UPDATED;
use crate::model::raw::{self, RawObject};

/// Resources by the URIs that the client knows them by. Dropping one takes its wish back.
#[derive(Debug)]
pub(super) struct Subscriptions {
    held: HeldBytes,
    by_uri: BTreeMap<String, Subscribed>,
}

#[derive(Debug)]
struct Subscribed {
    at: Route,
    held: Held,
    _wish: ResourceWish,
}

impl Subscriptions {
    /// None yet; their URIs count as held.
    pub(super) fn none(held: HeldBytes) -> Self {
        Self { held, by_uri: BTreeMap::new() }
    }

    /// Room for one more, in number and in bytes of all clients; none if there is none.
    pub(super) fn room_for(&self, uri: &str) -> Option<Held> {
        let fits = self.by_uri.len() < limits::SUBSCRIPTIONS_MAX || self.by_uri.contains_key(uri);
        // Each is kept twice: as the client knows it, and as its server does.
        fits.then(|| self.held.try_hold(2 * uri.len()))?
    }

    /// The bytes that are held for them.
    pub(super) fn bytes(&self) -> usize {
        self.by_uri.values().map(|one| one.held.bytes()).sum()
    }

    /// Ends all of them.
    pub(super) fn clear(&mut self) {
        self.by_uri.clear();
    }

    /// Whether there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.by_uri.is_empty()
    }

    pub(super) fn add(&mut self, uri: String, at: Route, wish: ResourceWish, held: Held) {
        self.by_uri.insert(uri, Subscribed { at, held, _wish: wish });
    }

    pub(super) fn remove(&mut self, uri: &str) {
        self.by_uri.remove(uri);
    }

    /// The URIs.
    pub(super) fn uris(&self) -> impl Iterator<Item = &str> {
        self.by_uri.keys().map(String::as_str)
    }

    /// The update of a server as this client is told it: once under each URI that it knows what was updated by, and not at
    /// all if it is not about one of these resources.
    pub(super) fn updates(&self, event: &ServerEvent) -> Vec<RawObject> {
        let params = event.notice.params.as_deref().filter(|_| event.notice.method == RESOURCES_UPDATED);
        let Some(params) = params.and_then(|params| RawObject::parse(params).ok()) else { return Vec::new() };
        let Some(updated) = params.get_str("uri") else { return Vec::new() };
        let of_connector = self.by_uri.iter().filter(|(_, one)| one.at.connector == event.connector);
        // Whoever subscribed to a whole and a part of it knows the part by one URI all the same.
        let known_as: BTreeSet<String> = of_connector
            .filter_map(|(uri, one)| Some(format!("{uri}{}", within(&one.at.original, &updated)?)))
            .collect();
        let told = known_as.into_iter().map(|uri| {
            let mut params = params.clone();
            if uri != updated {
                params.set("uri", raw::string(&uri));
            }
            params
        });
        told.collect()
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

/// What `updated` adds to `subscribed`, if it is that or a part of it: a server may name a sub-resource of what was subscribed
/// to (2025-11-25, `server/resources`, Subscriptions). Parts begin where a path, a query or a fragment does (RFC 3986, 3):
/// `note:10` is no part of `note:1`.
fn within<'a>(subscribed: &str, updated: &'a str) -> Option<&'a str> {
    let rest = updated.strip_prefix(subscribed)?;
    let is_part = rest.is_empty() || rest.starts_with(BOUNDARIES) || subscribed.ends_with(BOUNDARIES);
    is_part.then_some(rest)
}

/// What separates a URI from its parts.
const BOUNDARIES: [char; 3] = ['/', '?', '#'];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_begins_at_a_boundary() {
        for (subscribed, updated, rest) in [
            ("note:1", "note:1", Some("")),
            ("note:1", "note:1/a", Some("/a")),
            ("note:1", "note:1?v=2", Some("?v=2")),
            ("note:1", "note:1#top", Some("#top")),
            ("file:///a/", "file:///a/b", Some("b")),
            ("note:1", "note:10", None),
            ("file:///a", "file:///ab", None),
            ("note:1/a", "note:1", None),
        ] {
            assert_eq!(within(subscribed, updated), rest, "{subscribed} {updated}");
        }
    }
}
