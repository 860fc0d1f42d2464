//! From the connectors into the catalog, and the names of their tools onto the record.

use std::sync::Arc;

use crate::catalog::{Catalog, Part};
use crate::connectors::{Published, Publisher};
use crate::edge::clock::Clock;
use crate::model::ConnectorId;
use crate::trace::{ToolsNote, TraceWriter};

/// Publishes in a catalog.
pub(super) struct Publishing {
    /// What is served.
    pub(super) catalog: Arc<Catalog>,
    /// What is recorded, if anything is.
    pub(super) trace: Option<TraceWriter>,
    /// When.
    pub(super) clock: Arc<dyn Clock>,
}

impl Publishing {
    fn note(&self, id: &ConnectorId, names: Vec<String>) {
        if let Some(trace) = &self.trace {
            trace.tools(ToolsNote { moment: self.clock.now(), connector: id.to_string(), names });
        }
    }
}

impl Publisher for Publishing {
    fn publish(&self, Published { connector, tools, facts }: Published) {
        let id = connector.id.clone();
        if let Some(names) = self.catalog.put(Part { connector, tools, facts }) {
            self.note(&id, names);
        }
    }

    fn withdraw(&self, id: &ConnectorId) {
        self.catalog.remove(id);
        self.note(id, Vec::new());
    }
}
