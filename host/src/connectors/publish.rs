//! Where connectors publish their lists: whoever serves them implements [`Publisher`].

use std::sync::Arc;

use crate::model::{Connector, ConnectorId, HiddenKeys, ListFacts, Offer, OfferSource};

/// What a connector publishes: the whole of it, each time.
#[derive(Clone, Debug)]
pub struct Published {
    /// Its description.
    pub connector: Arc<Connector>,
    /// What it offers; none if there is nothing that may be served.
    pub offer: Option<Offer>,
    /// Where that comes from.
    pub source: OfferSource,
    /// What its server lists besides, and is hidden until it is approved.
    pub hidden: HiddenKeys,
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
        same_list && self.hidden == before.hidden && self.facts == before.facts && self.connector == before.connector
    }
}

/// Takes what connectors publish. Called by their supervisors; it must not block.
pub trait Publisher: Send + Sync + 'static {
    /// Takes a connector's list, in the place of the one it had.
    fn publish(&self, published: Published);

    /// The server of a connector refuses its credential from now on, with this HTTP status; none: not any more.
    fn credential(&self, id: &ConnectorId, refused_with: Option<u16>);

    /// Nothing of a connector is served any more. Its entry exists: it may come back.
    fn withdraw(&self, id: &ConnectorId);

    /// The entry of a connector has left, whether that was served or not.
    fn forget(&self, id: &ConnectorId);
}
