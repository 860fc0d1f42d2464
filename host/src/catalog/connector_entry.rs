//! What the catalog holds of each connector: its part, and the items of that as they are exposed.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde::Serialize;

use super::NameRule;
use super::chunk::Chunk;
use super::claims::{ClaimTime, ClaimTimes};
use super::definition::{expose, exposed_key};
use super::route::Route;
use super::saved_claims::EarlierClaims;
use crate::config::ToolFilter;
use crate::model::{Connector, HiddenKeys, InstanceId, ListFacts, ListKind, Offer, OfferSource, UriScheme};

/// What the catalog holds of one connector.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its description.
    pub connector: Arc<Connector>,
    /// What it offers; none if there is nothing that may be served.
    pub offer: Option<Offer>,
    /// Where that comes from.
    pub source: OfferSource,
    /// What its server lists besides, and is hidden until it is approved: it claims its keys and is not served.
    pub hidden: HiddenKeys,
    /// The state of its lists.
    pub facts: ListFacts,
}

impl Part {
    /// Whether both parts are exposed alike, whatever their states are.
    pub(super) fn exposes_the_same(&self, other: &Self) -> bool {
        let same_offer = match (&self.offer, &other.offer) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (None, None) => true,
            _ => false,
        };
        same_offer && self.hidden == other.hidden && self.connector == other.connector
    }
}

/// What the filter of a connector does to its tools.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FilterEffect {
    /// How many of its tools are not served.
    pub hidden: usize,
    /// How many are served under another name.
    pub renamed: usize,
    /// Names that are to be replaced and that no tool has.
    pub unknown: Vec<String>,
}

/// The schemes of the resources that may be requested from a connector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Schemes {
    /// Those of the resources that it lists and of the templates that it has.
    Listed(BTreeSet<UriScheme>),
    /// `uri-schemes`: exactly these, listed or not.
    Configured(BTreeSet<UriScheme>),
}

impl Default for Schemes {
    fn default() -> Self {
        Self::Listed(BTreeSet::new())
    }
}

impl Schemes {
    fn new(chunks: &[Arc<Chunk>; 4], filter: Option<&ToolFilter>) -> Self {
        if let Some(configured) = filter.and_then(|filter| filter.uri_schemes.clone()) {
            return Self::Configured(configured);
        }
        let items = [ListKind::Resources, ListKind::Templates].map(|kind| chunks[kind as usize].items());
        let routes = items.into_iter().flatten().filter_map(|item| item.route.as_ref());
        Self::Listed(routes.filter_map(|route| UriScheme::of_uri(&route.original)).collect())
    }

    /// Whether resources of a scheme may be requested, whether they are listed or not.
    pub(super) fn has(&self, scheme: &UriScheme) -> bool {
        let (Self::Listed(schemes) | Self::Configured(schemes)) = self;
        schemes.contains(scheme)
    }

    /// Whether an operator chose a scheme for the connector.
    pub(super) fn is_configured(&self, scheme: &UriScheme) -> bool {
        matches!(self, Self::Configured(schemes) if schemes.contains(scheme))
    }

    /// Whether a resource that is listed or matches a template may be requested.
    pub(super) fn admits(&self, uri: &str) -> bool {
        match self {
            Self::Listed(_) => true,
            Self::Configured(schemes) => UriScheme::of_uri(uri).is_some_and(|scheme| schemes.contains(&scheme)),
        }
    }

    /// Whether an item is exposed. The expressions of a template may stand for any scheme.
    pub(super) fn expose(&self, kind: ListKind, original: &str) -> bool {
        match kind {
            ListKind::Tools | ListKind::Prompts => true,
            ListKind::Resources => self.admits(original),
            ListKind::Templates => UriScheme::of_uri(original).is_none() || self.admits(original),
        }
    }
}

/// Keys and routes of hidden items.
type HiddenItems = Arc<[(Arc<str>, Route)]>;

/// What a connector exposes. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Exposed {
    /// In the order of [`ListKind::ALL`].
    pub(super) chunks: [Arc<Chunk>; 4],
    /// What is hidden until it is approved, in the same order. It is claimed and not listed; its connector
    /// refuses requests about it.
    hidden: [HiddenItems; 4],
    /// When it claimed each key, in the same order, with those that it lists and that are hidden. Without a list that may be
    /// served, those of the last one: a server that is down gives nothing up.
    pub(super) claimed: [Arc<ClaimTimes>; 4],
    pub(super) schemes: Arc<Schemes>,
}

impl Exposed {
    pub(super) fn chunk(&self, kind: ListKind) -> &Arc<Chunk> {
        &self.chunks[kind as usize]
    }

    /// What claims a key, with its position: what is listed, and then what is hidden.
    pub(super) fn claimed_items(&self, kind: ListKind) -> impl Iterator<Item = (usize, &Arc<str>, Option<&Route>)> {
        let listed = self.chunk(kind).items().iter().map(|item| (&item.key, item.route.as_ref()));
        let hidden = self.hidden[kind as usize].iter().map(|(key, route)| (key, Some(route)));
        listed.chain(hidden).enumerate().map(|(position, (key, route))| (position, key, route))
    }

    /// The route of the claimed item at a position.
    pub(super) fn route(&self, kind: ListKind, position: usize) -> Option<&Route> {
        let listed = self.chunk(kind).items();
        match position.checked_sub(listed.len()) {
            Some(hidden) => self.hidden[kind as usize].get(hidden).map(|(_, route)| route),
            None => listed.get(position)?.route.as_ref(),
        }
    }

    /// Whether the same is listed and claimed of a kind.
    pub(super) fn is_same(&self, other: &Self, kind: ListKind) -> bool {
        Arc::ptr_eq(self.chunk(kind), other.chunk(kind))
            && self.hidden[kind as usize] == other.hidden[kind as usize]
            && self.schemes == other.schemes
    }

    /// When a key was claimed.
    pub(super) fn since(&self, kind: ListKind, key: &str) -> ClaimTime {
        self.claimed[kind as usize].get(key).copied().unwrap_or_default()
    }
}

/// A part and its items as they are exposed, rendered once for each offer and filter. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ConnectorEntry {
    pub(super) part: Arc<Part>,
    pub(super) exposed: Exposed,
    /// What its filter does; none if it has none.
    pub(super) effect: Option<Arc<FilterEffect>>,
    /// The version of the catalog in which what is exposed changed last.
    pub(super) version: u64,
}

impl ConnectorEntry {
    /// Exposes a part. The lists that are those of `before` are not rendered again; tools are, if they are filtered otherwise
    /// than before.
    pub(super) fn new(
        part: Part,
        (rule, instance): (NameRule, Option<InstanceId>),
        filter: Option<&ToolFilter>,
        (before, is_same_filter): (Option<&Self>, bool),
    ) -> Self {
        let unfiltered = ToolFilter::default();
        let before = before.filter(|before| before.part.connector == part.connector);
        let chunks = ListKind::ALL.map(|kind| {
            let Some(offer) = &part.offer else { return Arc::default() };
            let before = before.filter(|_| is_same_filter || kind != ListKind::Tools);
            let rendered = before.and_then(|before| Some((before.part.offer.as_ref()?, before.exposed.chunk(kind))));
            match rendered {
                Some((offered, chunk)) if offered.list(kind).is_same(offer.list(kind)) => chunk.clone(),
                _ => Arc::new(expose(&part.connector, (rule, instance), filter.unwrap_or(&unfiltered), offer, kind)),
            }
        });
        let about_tools = filter.filter(|filter| filter.is_about_tools());
        let effect = about_tools.map(|filter| Arc::new(effect(&part, filter, &chunks[ListKind::Tools as usize])));
        let schemes = Arc::new(Schemes::new(&chunks, filter));
        let hidden = ListKind::ALL.map(|kind| {
            let filter = filter.unwrap_or(&unfiltered);
            // What an operator hides blocks nothing.
            let admits = |own: &&String| match kind {
                ListKind::Tools => filter.admits(own),
                _ => schemes.expose(kind, own),
            };
            let items = part.hidden[kind as usize].iter().filter(admits).map(|own| {
                let key = exposed_key(rule, filter, &part.connector.id, kind, own);
                (Arc::from(key), Route { connector: part.connector.id.clone(), original: own.clone() })
            });
            items.collect()
        });
        let exposed = Exposed { chunks, hidden, claimed: Default::default(), schemes };
        Self { part: Arc::new(part), exposed, effect, version: 0 }
    }

    /// Claims what it exposes and what is hidden until it is approved. What was claimed `before` or earlier keeps its time,
    /// also while a filter hides it: an item that may be served again later has given nothing up. The cost is that of the
    /// lists that changed.
    pub(super) fn claim(
        &mut self,
        (before, earlier): (Option<&Self>, &EarlierClaims<'_>),
        rule: NameRule,
        filter: Option<&ToolFilter>,
    ) {
        let connector = &self.part.connector;
        // Another server of the same identifier starts without.
        let is_same_server = |before: &&Self| {
            let old = &before.part.connector;
            Arc::ptr_eq(old, connector) || old.server_digest() == connector.server_digest()
        };
        let before = before.filter(is_same_server).map(|before| &before.exposed);
        self.exposed.claimed = ListKind::ALL.map(|kind| {
            let chunk = self.exposed.chunk(kind);
            let known = before.map(|before| &before.claimed[kind as usize]);
            let is_same = before.is_some_and(|before| before.is_same(&self.exposed, kind));
            let offered = self.part.offer.as_ref().map(|offer| offer.list(kind).items());
            let Some(offered) = offered.filter(|_| !is_same) else { return known.cloned().unwrap_or_default() };
            let kept = |key: &str| known.and_then(|times| times.get(key).copied()).or_else(|| earlier.since(kind, key));
            let since = |key: &str| kept(key).unwrap_or_else(|| earlier.first_time(kind, key));
            let claimed = self.exposed.claimed_items(kind).map(|(_, key, _)| (key.clone(), since(key)));
            let mut claims: ClaimTimes = claimed.collect();
            let unapproved = &self.part.hidden[kind as usize];
            if chunk.len() + self.exposed.hidden[kind as usize].len() < offered.len() + unapproved.len() {
                let unfiltered = ToolFilter::default();
                let filter = filter.unwrap_or(&unfiltered);
                let own = offered.iter().map(|item| &item.key).chain(unapproved);
                let keys = own.map(|own| exposed_key(rule, filter, &connector.id, kind, own));
                let filtered: Vec<String> = keys.filter(|key| !claims.contains_key(key.as_str())).collect();
                claims.extend(filtered.into_iter().filter_map(|key| Some((Arc::from(key.as_str()), kept(&key)?))));
            }
            Arc::new(claims)
        });
    }

    pub(super) fn tool_names(&self) -> Vec<String> {
        self.exposed.chunk(ListKind::Tools).items().iter().map(|tool| tool.key.to_string()).collect()
    }
}

fn effect(part: &Part, filter: &ToolFilter, served: &Chunk) -> FilterEffect {
    let tools = part.offer.as_ref().map(|offer| offer.list(ListKind::Tools).items()).unwrap_or_default();
    let unknown = filter.rename.keys().filter(|name| !tools.iter().any(|tool| tool.key == **name)).cloned();
    FilterEffect {
        hidden: tools.len() - served.len(),
        renamed: served.items().iter().filter_map(|tool| filter.renamed(&tool.route.as_ref()?.original)).count(),
        // A connector that offers nothing now may have tools of these names.
        unknown: if part.offer.is_some() { unknown.collect() } else { Vec::new() },
    }
}
