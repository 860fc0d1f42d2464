//! What the gateway says of itself: `initialize` for legacy clients, `server/discover` for modern ones.
//!
//! It has every list, and can besides what some connector can that the client may see. Instructions of servers are passed on, each under its
//! connector's id and bounded.

use serde_json::value::RawValue;

use super::answer::Answer;
use super::dispatch::Asked;
use super::session::Session;
use super::{VERSIONS, lists};
use crate::catalog::{CatalogSnapshot, Part, View};
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::mcp::protocol::{CLIENT_NAME, CLIENT_VERSION, LEGACY_VERSIONS, META_SERVER_INFO};
use crate::model::About;
use crate::model::raw::{self, RawObject};

/// What clients are told about the gateway.
const INSTRUCTIONS: &str = "Tools of several MCP servers behind one endpoint. The part of a tool's name before the \
                            separator is the server's id.";

/// Opens a session, and says what it can be used for. Whoever asked decides what becomes of the session.
pub(super) async fn initialize(gateway: &Gateway, asked: &Asked) -> Answer {
    gateway.wait_for_first_lists().await;
    let wanted = asked.params.get_str("protocolVersion");
    let version =
        LEGACY_VERSIONS.into_iter().find(|version| wanted.as_deref() == Some(version)).unwrap_or(LEGACY_VERSIONS[0]);
    let (snapshot, view) = (gateway.snapshot(), &asked.visitor.view);
    let mut result = RawObject::new();
    result.set("protocolVersion", raw::string(version));
    result.set("capabilities", capabilities(&snapshot, view));
    result.set("serverInfo", server_info());
    result.set("instructions", raw::string(&instructions(&snapshot, view)));
    let session = Session::open(gateway, &asked.visitor, version, &asked.params);
    Answer { opened: Some(session), ..Answer::result(result.to_raw()) }
}

pub(super) async fn discover(gateway: &Gateway, asked: &Asked) -> Answer {
    gateway.wait_for_first_lists().await;
    let (snapshot, view) = (gateway.snapshot(), &asked.visitor.view);
    let mut result = RawObject::new();
    result.set("resultType", raw::string("complete"));
    let versions: Vec<String> = VERSIONS.iter().map(|version| format!("\"{version}\"")).collect();
    result.set("supportedVersions", raw::trusted(format!("[{}]", versions.join(","))));
    result.set("capabilities", capabilities(&snapshot, view));
    result.set("instructions", raw::string(&instructions(&snapshot, view)));
    let hint = snapshot.ttl_ms(view, gateway.inner.parts.edge.clock.boot());
    result.set("ttlMs", raw::number(hint.min(limits::DISCOVER_TTL_MAX_MS)));
    result.set("cacheScope", lists::scope(&snapshot, view));
    let mut meta = RawObject::new();
    meta.set(META_SERVER_INFO, server_info());
    result.set("_meta", meta.to_raw());
    Answer::result(result.to_raw())
}

/// Who the gateway is.
pub(super) fn server_info() -> Box<RawValue> {
    let mut info = RawObject::new();
    info.set("name", raw::string(CLIENT_NAME));
    info.set("title", raw::string("Cortex MCP gateway"));
    info.set("version", raw::string(CLIENT_VERSION));
    info.to_raw()
}

fn visible<'a>(snapshot: &'a CatalogSnapshot, view: &'a View) -> impl Iterator<Item = (&'a Part, &'a About)> {
    let parts = snapshot.parts().values().filter(|part| view.sees_connector(&part.connector.id));
    parts.filter_map(|part| Some((part, part.offer.as_ref()?.about())))
}

fn capabilities(snapshot: &CatalogSnapshot, view: &View) -> Box<RawValue> {
    let some = |capability: &str| visible(snapshot, view).any(|(_, about)| about.has(capability));
    let changes = || raw::trusted(r#"{"listChanged":true}"#.to_owned());
    let mut capabilities = RawObject::new();
    if some("logging") {
        capabilities.set("logging", raw::empty_object());
    }
    if some("completions") {
        capabilities.set("completions", raw::empty_object());
    }
    // Connectors may come at any time, and a client that was told of no such list would never look at what they bring.
    capabilities.set("prompts", changes());
    let subscribe = visible(snapshot, view).any(|(_, about)| about.has_flag("resources", "subscribe"));
    let both = raw::trusted(r#"{"subscribe":true,"listChanged":true}"#.to_owned());
    capabilities.set("resources", if subscribe { both } else { changes() });
    capabilities.set("tools", changes());
    capabilities.to_raw()
}

fn instructions(snapshot: &CatalogSnapshot, view: &View) -> String {
    let mut text = INSTRUCTIONS.to_owned();
    for (part, about) in visible(snapshot, view) {
        let Some(said) = about.instructions.as_deref().map(str::trim).filter(|said| !said.is_empty()) else { continue };
        let said = cut(said, limits::INSTRUCTIONS_OF_ONE_MAX);
        let more = format!("\n\n# {}\n\n{said}", part.connector.id);
        if text.len() + more.len() > limits::INSTRUCTIONS_MAX {
            break;
        }
        text.push_str(&more);
    }
    text
}

/// The beginning of a text, in whole characters.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default()
}
