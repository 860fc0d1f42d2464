//! What the gateway says of itself: `initialize` for legacy clients, `server/discover` for modern ones.
//!
//! It declares the same for every client at any time: connectors come and go, and a client that was told of no lists, logs,
//! completions or subscriptions would never ask for those that a connector brings. What a server has not, it says itself.
//! Instructions of servers are passed on, each under its connector's id and bounded.

use super::VERSIONS;
use super::answer::Answer;
use super::asked::Asked;
use super::facts::{scope, server_info};
use super::session::Session;
use crate::catalog::{CatalogSnapshot, Part, View};
use crate::config::NameStyle;
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::mcp::protocol::{INVALID_PARAMS, LEGACY_VERSIONS, META_SERVER_INFO};
use crate::mcp::request_members::ParamsMember;
use crate::model::About;
use crate::model::raw::{self, RawObject};

/// What clients are told about the gateway.
const INSTRUCTIONS: &str = "Tools of several MCP servers behind one endpoint.";

/// What it can do, in the words of both eras.
const CAPABILITIES: &str = concat!(
    r#"{"logging":{},"completions":{},"prompts":{"listChanged":true},"#,
    r#""resources":{"subscribe":true,"listChanged":true},"tools":{"listChanged":true}}"#
);

/// Opens a session, and says what it can be used for. Whoever asked decides what becomes of the session.
pub(super) async fn initialize(gateway: &Gateway, asked: &Asked) -> Answer {
    let said = [ParamsMember::Capabilities, ParamsMember::ClientInfo]
        .map(|member| asked.params.get(member).map_or(0, |said| said.get().len()));
    if said.iter().sum::<usize>() > limits::CLIENT_FACTS_BYTES_MAX {
        return Answer::error(INVALID_PARAMS, "params.capabilities and params.clientInfo are too large", None);
    }
    gateway.wait_for_first_lists().await;
    let version = version_for(asked.params.get_str(ParamsMember::ProtocolVersion).as_deref());
    let (snapshot, view) = (gateway.snapshot(), &asked.visitor.view);
    let mut result = RawObject::new();
    result.set("protocolVersion", raw::string(version));
    result.set("capabilities", raw::trusted(CAPABILITIES.to_owned()));
    result.set("serverInfo", server_info());
    result.set("instructions", raw::string(&instructions(&snapshot, view, gateway.settings().names)));
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
    result.set("capabilities", raw::trusted(CAPABILITIES.to_owned()));
    result.set("instructions", raw::string(&instructions(&snapshot, view, gateway.settings().names)));
    let hint = snapshot.ttl_ms(view, gateway.inner.parts.edge.clock.boot());
    result.set("ttlMs", raw::number(hint.min(limits::DISCOVER_TTL_MAX_MS)));
    result.set("cacheScope", scope(&snapshot, view));
    let mut meta = RawObject::new();
    meta.set(META_SERVER_INFO, server_info());
    result.set("_meta", meta.to_raw());
    Answer::result(result.to_raw())
}

/// The version that a legacy client is answered with: the newest that is not newer than what it asks for, which a client that
/// knows neither newer ones nor negotiation can use; the oldest, if it asks for an older one.
fn version_for(wanted: Option<&str>) -> &'static str {
    // Versions are dates, so that their order is that of their texts.
    let fitting = LEGACY_VERSIONS.into_iter().find(|version| wanted.is_none_or(|wanted| *version <= wanted));
    fitting.unwrap_or(LEGACY_VERSIONS[LEGACY_VERSIONS.len() - 1])
}

fn visible<'a>(snapshot: &'a CatalogSnapshot, view: &'a View) -> impl Iterator<Item = (&'a Part, &'a About)> {
    let parts = snapshot.parts().filter(|part| view.sees_connector(&part.connector.id));
    parts.filter_map(|part| Some((part, part.offer.as_ref()?.about())))
}

/// How the names of tools and prompts are made, for whoever reads them.
fn naming(style: NameStyle) -> &'static str {
    match style {
        NameStyle::Prefixed => " The part of a name before the first \"__\" is the server's id.",
        NameStyle::Dotted => " The part of a name before the first \".\" is the server's id.",
        NameStyle::Plain => " Names are the servers' own.",
    }
}

fn instructions(snapshot: &CatalogSnapshot, view: &View, style: NameStyle) -> String {
    let mut text = format!("{INSTRUCTIONS}{}", naming(style));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_legacy_client_is_answered_with_a_version_that_it_can_use() {
        for (wanted, answered) in [
            (Some("2026-07-28"), "2025-11-25"),
            (Some("2025-11-25"), "2025-11-25"),
            (Some("2025-07-01"), "2025-06-18"),
            (Some("2025-06-18"), "2025-06-18"),
            (Some("2025-03-26"), "2025-03-26"),
            (Some("2024-11-05"), "2024-11-05"),
            (Some("2024-10-07"), "2024-11-05"),
            (Some("1.0"), "2024-11-05"),
            (Some("DRAFT-2025-v3"), "2025-11-25"),
            (None, "2025-11-25"),
        ] {
            assert_eq!(version_for(wanted), answered, "{wanted:?}");
        }
    }
}
