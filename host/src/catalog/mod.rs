//! The catalog: what every connector offers under names that never clash, published as one immutable snapshot.
//!
//! Definitions pass through losslessly: raw JSON in, raw JSON out, with the name patched and one `_meta` key of stable
//! facts added. The bytes of a list depend on offers, descriptions and the view alone, never on time. What moves (state,
//! age, reason) stands beside it, once per connector. Nothing here fetches, waits or decides.

mod crowd;
mod definition;
mod join;
pub mod limits;
mod names;
mod qualified;
mod route;
mod served;
mod shelf;
mod snapshot;
mod template;
mod view;

pub use crowd::ToolBounds;
pub use names::NameRule;
pub use route::{Collision, OwnTool, Route};
pub use served::{Cut, Served, ServedList};
pub use shelf::{FilterEffect, Part};
pub use snapshot::{Catalog, CatalogSnapshot};
pub use view::{View, ViewRules};

#[cfg(test)]
mod tests;
