//! What the catalog holds of each connector: its part, and the items of that as they are exposed.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::NameRule;
use super::definition::{Exposed, expose};
use super::route::OwnTool;
use crate::config::ToolFilter;
use crate::model::{Connector, ConnectorId, ListFacts, ListKind, Offer};

/// What the catalog holds of one connector.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its description.
    pub connector: Arc<Connector>,
    /// What it offers; none if there is nothing that may be served.
    pub offer: Option<Offer>,
    /// How it stands.
    pub facts: ListFacts,
}

impl Part {
    /// Whether both parts are exposed alike; how they stand does not matter for that.
    pub(super) fn exposes_the_same(&self, other: &Self) -> bool {
        let same_offer = match (&self.offer, &other.offer) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (None, None) => true,
            _ => false,
        };
        same_offer && self.connector == other.connector
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

/// Everything that is exposed. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Shelves {
    pub(super) own: Vec<OwnTool>,
    pub(super) parts: BTreeMap<ConnectorId, Shelf>,
    /// More tools than so many are not served.
    pub(super) tools_max: Option<usize>,
}

/// A part and its items as they are exposed, made once for each offer and filter.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    pub(super) part: Part,
    /// In the order of [`ListKind::ALL`].
    pub(super) exposed: Arc<[Vec<Exposed>; 4]>,
    /// What its filter does; none if it has none.
    pub(super) effect: Option<FilterEffect>,
}

impl Shelf {
    pub(super) fn new(part: Part, rule: NameRule, filter: Option<&ToolFilter>) -> Self {
        let everything = ToolFilter::default();
        let exposed = ListKind::ALL.map(|kind| match &part.offer {
            Some(offer) => expose(&part.connector, rule, filter.unwrap_or(&everything), offer, kind),
            None => Vec::new(),
        });
        let effect = filter.map(|filter| {
            let tools = part.offer.as_ref().map(|offer| offer.list(ListKind::Tools).items()).unwrap_or_default();
            let unknown = filter.rename.keys().filter(|name| !tools.iter().any(|tool| tool.key == **name)).cloned();
            let served = &exposed[ListKind::Tools as usize];
            FilterEffect {
                hidden: tools.len() - served.len(),
                renamed: served.iter().filter(|tool| filter.renamed(&tool.original).is_some()).count(),
                // Of a connector that offers nothing now, nobody knows what it has.
                unknown: if part.offer.is_some() { unknown.collect() } else { Vec::new() },
            }
        });
        Self { part, exposed: Arc::new(exposed), effect }
    }

    pub(super) fn tool_names(&self) -> Vec<String> {
        self.exposed[ListKind::Tools as usize].iter().map(|tool| tool.key.clone()).collect()
    }
}
