//! What answers of the gateway's own say beside their matter: who it is, and who else may be served them.

use serde_json::value::RawValue;

use crate::catalog::{CatalogSnapshot, View};
use crate::mcp::protocol::{CLIENT_NAME, CLIENT_VERSION};
use crate::model::Scope;
use crate::model::raw::{self, RawObject};

/// Who the gateway is.
pub(super) fn server_info() -> Box<RawValue> {
    let mut info = RawObject::new();
    info.set("name", raw::string(CLIENT_NAME));
    info.set("title", raw::string("Cortex MCP gateway"));
    info.set("version", raw::string(CLIENT_VERSION));
    info.to_raw()
}

/// Who may be served what this view is.
pub(super) fn scope(snapshot: &CatalogSnapshot, view: &View) -> Box<RawValue> {
    raw::string(match snapshot.scope(view) {
        Scope::Public => "public",
        Scope::Private => "private",
    })
}
