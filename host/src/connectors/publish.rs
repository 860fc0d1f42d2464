//! Where connectors publish their lists: whoever serves them implements [`Publisher`].

use std::sync::Arc;

use crate::model::{Connector, ConnectorId, ListFacts, Offer};

/// What a connector publishes: the whole of it, each time.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its description.
    pub connector: Arc<Connector>,
    /// What it offers; none if there is nothing that may be served.
    pub offer: Option<Offer>,
    /// How the list stands.
    pub facts: ListFacts,
}

impl Published {
    /// Whether nothing is new in `self` after `before`.
    pub(super) fn says_the_same_as(&self, before: &Self) -> bool {
        let same_list = match (&self.offer, &before.offer) {
            (Some(now), Some(before)) => now.is_same(before),
            (None, None) => true,
            _ => false,
        };
        same_list && self.facts == before.facts && self.connector == before.connector
    }
}

/// Takes what connectors publish. Called by their supervisors; it must not block.
pub trait Publisher: Send + Sync + 'static {
    /// Takes a connector's list, in the place of the one it had.
    fn publish(&self, published: Published);

    /// A connector has left.
    fn withdraw(&self, id: &ConnectorId);
}
