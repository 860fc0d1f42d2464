//! The lists of one view, and the routes of requests about their items.
//!
//! The bytes depend on offers, descriptions, rules, the view and the order of claims alone, never on time. Items that a view does not show are
//! not in it, so that no request reaches them. Everything is shared with the snapshots before and after, but for what
//! changed.

use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::{BufMut, Bytes, BytesMut};
use rpds::RedBlackTreeMapSync;
use serde::Serialize;

use super::aggregate::is_address;
use super::chunk::{Chunk, ListDigest};
use super::claims::{Claim, Claims};
use super::connector_entry::Exposed;
use super::limits;
use super::qualified::{self, qualify};
use super::route::{Collision, OwnTool, Route};
use super::template::UriTemplate;
use super::view::View;
use crate::config::NameStyle;
use crate::model::{ConnectorId, Digest, ListKind, UriScheme};

/// What one view is served.
#[derive(Debug)]
pub struct ViewSnapshot {
    pub(super) view: View,
    pub(super) style: NameStyle,
    /// The version of the catalog that it shows.
    pub(super) version: u64,
    /// The gateway's own tools.
    pub(super) own: Arc<Chunk>,
    /// More tools than this are not served.
    pub(super) tools_max: Option<usize>,
    /// Every connector that the view sees.
    pub(super) connectors: RedBlackTreeMapSync<ConnectorId, Listed>,
    pub(super) claims: [Claims; 4],
    /// The servers' own templates, the oldest claim first.
    pub(super) templates: RedBlackTreeMapSync<Claim, UriTemplate>,
    pub(super) totals: [Total; 4],
    /// Each list as one text, once it was read.
    joined: [OnceLock<Bytes>; 4],
    /// The first tool that is above the limit.
    boundary: OnceLock<Option<Boundary>>,
    /// The digest of the tools, where they are cut.
    cut_digest: OnceLock<Digest>,
    /// The collisions of each list, once it was read.
    collisions: [OnceLock<Collisions>; 4],
}

/// What is exposed and what is listed of one connector, the latter in the order of [`ListKind::ALL`].
#[derive(Clone, Debug, Default)]
pub(super) struct Listed {
    pub(super) exposed: Exposed,
    pub(super) listed: [Arc<Chunk>; 4],
}

/// The size of a list of connectors' items, and its digest.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Total {
    pub(super) items: usize,
    pub(super) digest: ListDigest,
}

/// The first tool of a connector that is not served because there are too many.
#[derive(Clone, Debug)]
struct Boundary {
    connector: ConnectorId,
    /// Its position in what the connector exposes.
    exposed: usize,
    /// Its position in what is listed of the connector.
    listed: usize,
}

/// The collisions of one list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Collisions {
    /// How many there are.
    total: usize,
    /// The first of them, at most [`limits::COLLISIONS_NAMED`].
    first: Vec<Collision>,
}

/// Tools that are not served because there are too many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cut {
    /// How many.
    pub count: usize,
    /// The first of them, in the order in which they would be listed.
    pub first: Vec<String>,
}

impl Clone for ViewSnapshot {
    /// What was joined stays behind: a clone is made to be changed.
    fn clone(&self) -> Self {
        Self {
            view: self.view.clone(),
            style: self.style,
            version: self.version,
            own: self.own.clone(),
            tools_max: self.tools_max,
            connectors: self.connectors.clone(),
            claims: self.claims.clone(),
            templates: self.templates.clone(),
            totals: self.totals,
            joined: Default::default(),
            boundary: OnceLock::new(),
            cut_digest: OnceLock::new(),
            collisions: Default::default(),
        }
    }
}

impl ViewSnapshot {
    /// A view of no connectors.
    pub(super) fn new(view: View, style: NameStyle, own: &[OwnTool]) -> Self {
        let own = own.iter().filter(|tool| view.sees_own(tool.name));
        let own = Chunk::new(own.map(|tool| (Arc::from(tool.name), None, tool.definition.get())));
        Self {
            view,
            style,
            version: 0,
            own: Arc::new(own),
            tools_max: None,
            connectors: RedBlackTreeMapSync::default(),
            claims: Default::default(),
            templates: RedBlackTreeMapSync::default(),
            totals: [Total::default(); 4],
            joined: Default::default(),
            boundary: OnceLock::new(),
            cut_digest: OnceLock::new(),
            collisions: Default::default(),
        }
    }

    /// What was joined shows the lists of before.
    pub(super) fn forget_joined(&mut self) {
        self.joined = Default::default();
        self.boundary = OnceLock::new();
        self.cut_digest = OnceLock::new();
        self.collisions = Default::default();
    }

    /// One of the lists.
    pub fn list(&self, kind: ListKind) -> ViewList<'_> {
        ViewList { view: self, kind }
    }

    /// Whether a tool is the gateway's own.
    pub fn is_own(&self, name: &str) -> bool {
        let most = self.tools_max.unwrap_or(usize::MAX);
        self.own.items().iter().take(most).any(|own| *own.key == *name)
    }

    /// How many tools of connectors there are.
    pub fn tool_count(&self) -> usize {
        self.list(ListKind::Tools).len().saturating_sub(self.own.len())
    }

    /// How many items of a connector are in a list.
    pub fn count_of(&self, kind: ListKind, connector: &ConnectorId) -> usize {
        let Some(listed) = self.connectors.get(connector).map(|connector| connector.listed[kind as usize].len()) else {
            return 0;
        };
        match self.boundary().filter(|_| kind == ListKind::Tools) {
            Some(boundary) if boundary.connector == *connector => boundary.listed,
            Some(boundary) if boundary.connector < *connector => 0,
            _ => listed,
        }
    }

    /// Where a call of a tool goes.
    pub fn tool(&self, name: &str) -> Option<&Route> {
        let claim = self.claims[ListKind::Tools as usize].first(name)?;
        let is_cut = self
            .boundary()
            .is_some_and(|boundary| (&claim.connector, claim.position) >= (&boundary.connector, boundary.exposed));
        let is_hidden = is_cut || self.is_own_name(ListKind::Tools, name);
        if is_hidden { None } else { self.routed(ListKind::Tools, name) }
    }

    /// Where a request for a prompt goes.
    pub fn prompt(&self, name: &str) -> Option<&Route> {
        self.routed(ListKind::Prompts, name)
    }

    /// Where a request about a resource template goes. Every template is also known by its qualified form.
    pub fn template(&self, template: &str) -> Option<&Route> {
        self.routed(ListKind::Templates, template).or_else(|| {
            let (connector, own) = qualified::split(template)?;
            let exposed = &self.connectors.get(&connector)?.exposed;
            let mut routes = exposed.claimed_items(ListKind::Templates).filter_map(|(_, _, route)| route);
            routes.find(|route| route.original == own && exposed.schemes.expose(ListKind::Templates, own))
        })
    }

    fn routed(&self, kind: ListKind, key: &str) -> Option<&Route> {
        let claim = self.claims[kind as usize].first(key)?;
        self.connectors.get(&claim.connector)?.exposed.route(kind, claim.position)
    }

    /// Where a resource may be read: the connectors that are requested one after another, each only if the one before denies
    /// having it.
    ///
    /// A qualified URI goes to the connector that it names, and a listed one to the connector that lists it, which refuses it
    /// if it is hidden. `uri-schemes` admit both. Results may name
    /// resources that no connector lists: such a one goes to `named_by`, the connector whose result named it to this client,
    /// if that serves the scheme; else to the connectors with a template for it, and then to those whose `uri-schemes` name
    /// its scheme. No other connector learns of it: URIs may hold secrets.
    pub fn resource(&self, uri: &str, named_by: Option<&ConnectorId>) -> Vec<Route> {
        if let Some((connector, own)) = qualified::split(uri)
            && let Some(Listed { exposed, .. }) = self.connectors.get(&connector)
        {
            let route = Route { connector, original: own.to_owned() };
            return if exposed.schemes.admits(own) { vec![route] } else { Vec::new() };
        }
        if let Some(route) = self.routed(ListKind::Resources, uri) {
            return vec![route.clone()];
        }
        let route = |connector: &ConnectorId| Route { connector: connector.clone(), original: uri.to_owned() };
        let scheme = UriScheme::of_uri(uri);
        let serves = |id: &&ConnectorId| {
            let schemes = self.connectors.get(*id).map(|connector| &connector.exposed.schemes);
            schemes.zip(scheme.as_ref()).is_some_and(|(schemes, scheme)| schemes.has(scheme))
        };
        if let Some(id) = named_by.filter(|id| serves(id) || self.with_templates(uri).any(|other| other == *id)) {
            return vec![route(id)];
        }
        let chosen = self.connectors.iter().filter(|(_, connector)| {
            scheme.as_ref().is_some_and(|scheme| connector.exposed.schemes.is_configured(scheme))
        });
        let mut candidates: Vec<Route> = Vec::new();
        for id in self.with_templates(uri).chain(chosen.map(|(id, _)| id)) {
            if candidates.len() == limits::RESOURCE_CANDIDATES_MAX {
                break;
            }
            if candidates.iter().all(|candidate| candidate.connector != *id) {
                candidates.push(route(id));
            }
        }
        candidates
    }

    /// The connectors with a template for a URI, once for each: the oldest claim first, however literal it is. A template that
    /// fits better must not take from a connector what it has served.
    fn with_templates(&self, uri: &str) -> impl Iterator<Item = &ConnectorId> {
        let compared = self.templates.iter().filter(|_| uri.len() <= limits::TEMPLATE_URI_BYTES_MAX);
        compared.filter_map(move |(claim, template)| {
            let schemes = &self.connectors.get(&claim.connector)?.exposed.schemes;
            (template.matches(uri) && schemes.admits(uri)).then_some(&claim.connector)
        })
    }

    /// Names, URIs and templates that two items claim, by kind and then by the item that is not served.
    pub fn collisions(&self) -> Vec<Collision> {
        ListKind::ALL.into_iter().flat_map(|kind| self.collisions_of(kind)).collect()
    }

    fn collisions_of(&self, kind: ListKind) -> Vec<Collision> {
        let claims = &self.claims[kind as usize];
        let mut hidden = Vec::new();
        for (key, claims) in claims.contested() {
            let own = self.is_own_name(kind, key);
            let first = claims.first().filter(|_| !own);
            hidden.extend(claims.iter().skip(usize::from(!own)).map(|claim| (claim, key.clone(), first)));
        }
        let own = self.own.items().iter().filter(|_| kind == ListKind::Tools);
        hidden.extend(own.filter_map(|own| Some((claims.only(&own.key)?, own.key.clone(), None))));
        hidden.sort_unstable_by_key(|(claim, ..)| (claim.connector.clone(), claim.position));
        let collisions = hidden.into_iter().map(|(claim, key, first)| {
            let of_another = first.is_some_and(|first| first.connector != claim.connector);
            let item =
                |claim: &Claim| self.connectors.get(&claim.connector)?.exposed.chunk(kind).items().get(claim.position);
            let route = item(claim).and_then(|item| item.route.as_ref());
            let instead = route.filter(|_| of_another && is_address(kind));
            let (served, reserved): (Vec<_>, Vec<_>) = first.into_iter().partition(|first| item(first).is_some());
            let connector = |first: Vec<&Claim>| first.first().map(|first| first.connector.clone());
            Collision {
                name: key.to_string(),
                kind,
                served: connector(served),
                reserved_for: connector(reserved),
                hidden: claim.connector.clone(),
                instead: instead.map(|route| qualify(&route.connector, &route.original)),
            }
        });
        collisions.collect()
    }

    /// Whether a tool of the gateway itself has this name.
    pub(super) fn is_own_name(&self, kind: ListKind, key: &str) -> bool {
        kind == ListKind::Tools && self.own.items().iter().any(|own| *own.key == *key)
    }

    /// Tools that are not served because there are too many.
    pub fn cut(&self) -> Cut {
        let list = self.list(ListKind::Tools);
        let names = list.chunks().flat_map(Chunk::items).skip(list.len()).take(limits::CUT_NAMES_TOLD);
        match self.cut_count() {
            0 => Cut::default(),
            count => Cut { count, first: names.map(|item| item.key.to_string()).collect() },
        }
    }

    /// How many tools are not served because there are too many.
    pub fn cut_count(&self) -> usize {
        let list = self.list(ListKind::Tools);
        list.uncut() - list.len()
    }

    fn boundary(&self) -> Option<&Boundary> {
        let most = self.tools_max.filter(|_| self.cut_count() > 0)?;
        let find = || {
            let mut left = most.saturating_sub(self.own.len());
            for (connector, Listed { listed, .. }) in &self.connectors {
                let tools = &listed[ListKind::Tools as usize];
                if let Some(first) = tools.items().get(left) {
                    let claim = self.claims[ListKind::Tools as usize].first(&first.key);
                    let exposed = claim.map_or(0, |claim| claim.position);
                    return Some(Boundary { connector: connector.clone(), exposed, listed: left });
                }
                left -= tools.len();
            }
            // Only tools of the gateway itself are above the limit.
            None
        };
        self.boundary.get_or_init(find).as_ref()
    }
}

/// One list of a view.
#[derive(Clone, Copy, Debug)]
pub struct ViewList<'a> {
    view: &'a ViewSnapshot,
    kind: ListKind,
}

impl<'a> ViewList<'a> {
    /// The whole list: a JSON array.
    pub fn bytes(self) -> &'a Bytes {
        self.view.joined[self.kind as usize].get_or_init(|| self.join(0, self.len()))
    }

    /// The collisions among its items; none if there are none. They are looked for once in a snapshot.
    pub fn collisions(self) -> Option<&'a Collisions> {
        let find = || {
            let mut first = self.view.collisions_of(self.kind);
            let total = first.len();
            first.truncate(limits::COLLISIONS_NAMED);
            Collisions { total, first }
        };
        let collisions = self.view.collisions[self.kind as usize].get_or_init(find);
        (collisions.total > 0).then_some(collisions)
    }

    /// How many items there are.
    pub fn len(self) -> usize {
        let most = self.view.tools_max.filter(|_| self.kind == ListKind::Tools);
        self.uncut().min(most.unwrap_or(usize::MAX))
    }

    /// Whether there are none.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Differs for lists that differ. Costs no more for a long list, unless `tools-max` cuts it.
    pub fn digest(self) -> Digest {
        if self.len() < self.uncut() {
            return *self.view.cut_digest.get_or_init(|| Digest::of(self.bytes()));
        }
        let mut digest = self.view.totals[self.kind as usize].digest;
        if self.kind == ListKind::Tools {
            digest.add(self.view.own.digest());
        }
        digest.digest()
    }

    /// At most `most` items from the one at `from` on, as a JSON array, and where the next page begins; none after the last.
    pub fn page(self, from: usize, most: usize) -> (Bytes, Option<usize>) {
        let end = from.saturating_add(most).min(self.len());
        if from == 0 && end == self.len() {
            return (self.bytes().clone(), None);
        }
        (self.join(from, end), (end < self.len()).then_some(end))
    }

    /// The connectors that a page is about: those of its items, and those without items beside them. The pages of a list,
    /// one after the other, are about every connector.
    pub fn connectors(self, from: usize, end: usize) -> (Bound<&'a ConnectorId>, Bound<&'a ConnectorId>) {
        let first = self.connector_of(from).filter(|_| from > 0);
        let next = self.connector_of(end).filter(|_| end < self.len());
        let last = next.map(|(id, begin)| if begin < end { Bound::Included(id) } else { Bound::Excluded(id) });
        (first.map_or(Bound::Unbounded, |(id, _)| Bound::Included(id)), last.unwrap_or(Bound::Unbounded))
    }

    /// The connector of an item, and the position of the first item of that.
    fn connector_of(self, position: usize) -> Option<(&'a ConnectorId, usize)> {
        let mut begin = if self.kind == ListKind::Tools { self.view.own.len() } else { 0 };
        if position < begin {
            return None;
        }
        self.view.connectors.iter().find_map(|(id, connector)| {
            let length = connector.listed[self.kind as usize].len();
            begin += length;
            (position < begin).then_some((id, begin - length))
        })
    }

    fn uncut(self) -> usize {
        let own = if self.kind == ListKind::Tools { self.view.own.len() } else { 0 };
        own + self.view.totals[self.kind as usize].items
    }

    fn chunks(self) -> impl Iterator<Item = &'a Chunk> {
        let own = (self.kind == ListKind::Tools).then_some(&*self.view.own);
        own.into_iter()
            .chain(self.view.connectors.values().map(move |connector| &*connector.listed[self.kind as usize]))
    }

    /// The items from the one at `from` to the one before `end`, as a JSON array.
    fn join(self, from: usize, end: usize) -> Bytes {
        let (mut bytes, mut position) = (BytesMut::new(), 0);
        bytes.put_u8(b'[');
        for chunk in self.chunks() {
            if position >= end {
                break;
            }
            let items = from.saturating_sub(position)..chunk.len().min(end - position);
            position += chunk.len();
            if items.start < items.end {
                if bytes.len() > 1 {
                    bytes.put_u8(b',');
                }
                bytes.put_slice(chunk.slice(items));
            }
        }
        bytes.put_u8(b']');
        bytes.freeze()
    }
}
