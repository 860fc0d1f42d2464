//! The catalog: what every connector offers under names that never clash, published as one immutable snapshot.
//!
//! Definitions pass through losslessly: raw JSON in, raw JSON out, with the name patched and one `_meta` key of stable
//! facts added. The bytes of a list depend on offers, descriptions, the view, and, where two connectors claim one name or address,
//! on which of them claimed it first. What moves (state,
//! age, reason) stands beside it, once per connector. Nothing here fetches, waits or decides.

mod aggregate;
mod chunk;
mod claims;
mod connector_entry;
mod crowd;
mod definition;
pub mod limits;
mod names;
mod publish;
mod qualified;
mod route;
mod saved_claims;
mod snapshot;
mod template;
mod view;
mod view_snapshot;

pub use connector_entry::{FilterEffect, Part};
pub use crowd::ToolBounds;
pub use names::NameRule;
pub use publish::Catalog;
pub use route::{Collision, OwnTool, Route};
pub use saved_claims::ClaimsRecord;
pub use snapshot::CatalogSnapshot;
pub use view::{View, ViewRules};
pub use view_snapshot::{Collisions, Cut, ViewList, ViewSnapshot};

#[cfg(test)]
mod tests;
