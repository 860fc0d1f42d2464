//! From the connectors into the catalog.

use crate::catalog::{Catalog, Part};
use crate::connectors::{Published, Publisher};
use crate::model::ConnectorId;

impl Publisher for Catalog {
    fn publish(&self, Published { connector, tools, facts }: Published) {
        self.put(Part { connector, tools, facts });
    }

    fn withdraw(&self, id: &ConnectorId) {
        self.remove(id);
    }
}
