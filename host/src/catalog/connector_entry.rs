//! What the catalog holds of each connector: its part, and the items of that as they are exposed.

use std::sync::Arc;

use serde::Serialize;

use super::NameRule;
use super::chunk::Chunk;
use super::definition::expose;
use crate::config::ToolFilter;
use crate::model::{Connector, InstanceId, ListFacts, ListKind, Offer};

/// What the catalog holds of one connector.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its description.
    pub connector: Arc<Connector>,
    /// What it offers; none if there is nothing that may be served.
    pub offer: Option<Offer>,
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
        same_offer && self.connector == other.connector
    }

    /// Whether it has resources, listed or not.
    pub(super) fn has_resources(&self) -> bool {
        self.offer.as_ref().is_some_and(|offer| {
            let listed = [ListKind::Resources, ListKind::Templates].map(|kind| !offer.list(kind).items().is_empty());
            offer.about().has(ListKind::Resources.capability()) || listed.contains(&true)
        })
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

/// A part and its items as they are exposed, rendered once for each offer and filter. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ConnectorEntry {
    pub(super) part: Arc<Part>,
    /// In the order of [`ListKind::ALL`].
    pub(super) exposed: [Arc<Chunk>; 4],
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
        let exposed = ListKind::ALL.map(|kind| {
            let Some(offer) = &part.offer else { return Arc::default() };
            let before = before.filter(|_| is_same_filter || kind != ListKind::Tools);
            let rendered =
                before.and_then(|before| Some((before.part.offer.as_ref()?, &before.exposed[kind as usize])));
            match rendered {
                Some((offered, chunk)) if offered.list(kind).is_same(offer.list(kind)) => chunk.clone(),
                _ => Arc::new(expose(&part.connector, (rule, instance), filter.unwrap_or(&unfiltered), offer, kind)),
            }
        });
        let effect = filter.map(|filter| Arc::new(effect(&part, filter, &exposed[ListKind::Tools as usize])));
        Self { part: Arc::new(part), exposed, effect, version: 0 }
    }

    pub(super) fn tool_names(&self) -> Vec<String> {
        self.exposed[ListKind::Tools as usize].items().iter().map(|tool| tool.key.to_string()).collect()
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
