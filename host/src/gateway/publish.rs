//! From the connectors and the configuration into the catalog, and the names of tools onto the record.

use std::sync::Arc;

use crate::catalog::{Catalog, Part, ToolBounds};
use crate::config::{Settings, ToolFilter};
use crate::connectors::{Published, Publisher};
use crate::edge::clock::Clock;
use crate::model::ConnectorId;
use crate::trace::{CredentialNote, ToolsNote, TraceWriter};

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
        note(self.trace.as_ref(), self.clock.as_ref(), id, names);
    }
}

/// Puts the filters and bounds of the configuration in force in a catalog. Returns the connectors whose tools are exposed
/// otherwise now, and under which names.
pub(super) fn obey(catalog: &Catalog, settings: &Settings) -> Vec<(ConnectorId, Vec<String>)> {
    catalog.set_bounds(ToolBounds { warn_above: settings.tools_warn_above, most: settings.tools_max });
    let filters = settings.connectors.iter().filter(|(_, connector)| connector.filter != ToolFilter::default());
    catalog.set_filters(filters.map(|(id, connector)| (id.clone(), connector.filter.clone())).collect())
}

/// Records under which names a connector's tools are exposed from now on.
pub(super) fn note(trace: Option<&TraceWriter>, clock: &dyn Clock, id: &ConnectorId, names: Vec<String>) {
    if let Some(trace) = trace {
        trace.tools(ToolsNote { moment: clock.now(), connector: id.to_string(), names });
    }
}

impl Publisher for Publishing {
    fn publish(&self, Published { connector, offer, source, hidden, facts }: Published) {
        let id = connector.id.clone();
        if let Some(names) = self.catalog.put(Part { connector, offer, source, hidden, facts }) {
            self.note(&id, names);
        }
    }

    fn credential(&self, id: &ConnectorId, refused_with: Option<u16>) {
        if let Some(trace) = &self.trace {
            let moment = self.clock.now();
            trace.credential(CredentialNote { moment, connector: id.to_string(), refused_with });
        }
    }

    fn withdraw(&self, id: &ConnectorId) {
        self.catalog.withdraw(id);
        self.note(id, Vec::new());
    }

    fn forget(&self, id: &ConnectorId) {
        self.catalog.remove(id);
        self.note(id, Vec::new());
    }
}
