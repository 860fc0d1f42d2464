//! Where a request about an exposed item goes, what the gateway exposes of itself, and what happens to names that two claim.

use serde::Serialize;
use serde_json::value::RawValue;

use crate::model::{ConnectorId, ListKind};

/// Where a request about an exposed item goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// To this connector.
    pub connector: ConnectorId,
    /// Under this name, URI or URI template.
    pub original: String,
}

/// A tool of the gateway itself: no connector answers it, and its name is its own.
#[derive(Clone, Debug)]
pub struct OwnTool {
    /// Its name.
    pub name: &'static str,
    /// Its definition, which bears that name.
    pub definition: Box<RawValue>,
}

/// Two items of one name, or two connectors' of one address. The gateway's own is served, else the one
/// that was claimed first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collision {
    /// The name, URI or URI template.
    pub name: String,
    /// Of what kind they are.
    pub kind: ListKind,
    /// Whose item is served; none: the gateway's own, or that of `reserved_for` once it is approved.
    pub served: Option<ConnectorId>,
    /// Whose item claimed the name first and is hidden until it is approved: nothing is served by that name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reserved_for: Option<ConnectorId>,
    /// Whose item is not, or not by this name.
    pub hidden: ConnectorId,
    /// The qualified URI or template by which that is served instead; none for tools and prompts, which are not.
    pub instead: Option<String>,
}
