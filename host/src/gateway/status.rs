//! What the gateway tells about itself in `/status`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::door::view_rules;
use super::limits;
use super::state_writer::StateRole;
use crate::catalog::{CatalogSnapshot, Collision, FilterEffect, View};
use crate::config::{OnChange, Settings, Token};
use crate::connectors::{ConnectorStatus, DefinitionsStatus};
use crate::model::{ConnectorId, Glob, ListKind};
use crate::policy::PolicyStatus;
use crate::registry::RegistryStatus;
use crate::service_map::MapStatus;
use crate::trace::{PolicyNote, ShadowStatus, TraceStatus};

/// Everything that `/status` tells.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayStatus {
    /// The gateway's version.
    pub version: &'static str,
    /// Whether it has something to serve, or knows that it has not.
    pub ready: bool,
    /// How many tools are served.
    pub tools: usize,
    /// Who decides.
    pub policy: PolicyStatus,
    /// Who decided before and can be gone back to; the newest last.
    pub former_policies: Vec<PolicyNote>,
    /// The service map; none if none is configured.
    pub service_map: Option<MapStatus>,
    /// The registry.
    pub registry: RegistryStatus,
    /// Every connector.
    pub connectors: Vec<Arc<ConnectorStatus>>,
    /// Connectors of the map that are disabled.
    pub disabled: Vec<ConnectorId>,
    /// How many tools there are, and how many there may be.
    pub tool_bounds: BoundsStatus,
    /// What the filters of the configuration do, by connector; those that have none are left out.
    pub filters: BTreeMap<ConnectorId, FilterEffect>,
    /// What an operator should look at, in sentences.
    pub warnings: Vec<String>,
    /// Names that two tools or prompts claim, and addresses that two connectors' resources or templates claim.
    pub collisions: Vec<Collision>,
    /// Connectors that two documents name.
    pub conflicts: Vec<Conflict>,
    /// What this process does with the saved state.
    pub state: StateRole,
    /// The record of its decisions; none if there is none.
    pub trace: Option<TraceStatus>,
    /// The policy that decides beside the deployed one; none if none does.
    pub shadow: Option<ShadowStatus>,
    /// The effective configuration, redacted.
    pub configuration: serde_json::Value,
}

/// How many tools there are, and how many there may be.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BoundsStatus {
    /// How many are listed for who sees everything, with the gateway's own.
    pub listed: usize,
    /// More than so many are warned of.
    pub warn_above: usize,
    /// More than so many are not served; none: all are.
    pub most: Option<usize>,
    /// How many are not served for that reason.
    pub cut: usize,
    /// The first of those.
    pub cut_first: Vec<String>,
}

impl BoundsStatus {
    pub(super) fn of(snapshot: &CatalogSnapshot, settings: &Settings) -> Self {
        let served = snapshot.served(&View::everything());
        let cut = served.cut();
        Self {
            listed: served.list(ListKind::Tools).len(),
            warn_above: settings.tools_warn_above,
            most: settings.tools_max,
            cut: cut.count,
            cut_first: cut.first,
        }
    }
}

/// What an operator should look at: settings that do nothing, and lists that are too long. `known` tells whether there is such
/// a connector.
pub(super) fn warnings(
    settings: &Settings,
    bounds: &BoundsStatus,
    (filters, connectors): (&BTreeMap<ConnectorId, FilterEffect>, &[Arc<ConnectorStatus>]),
    known: impl Fn(&ConnectorId) -> bool,
) -> Vec<String> {
    let strangers = settings.connectors.keys().filter(|id| !known(id));
    let mut warnings: Vec<String> =
        strangers.map(|id| format!("[connector.{id}] is configured, and there is no connector of that id")).collect();
    for (id, effect) in filters.iter().filter(|(_, effect)| !effect.unknown.is_empty()) {
        let names = effect.unknown.join(", ");
        warnings.push(format!("[connector.{id}] rename names tools that the server does not have: {names}"));
    }
    if bounds.listed > bounds.warn_above {
        warnings.push(format!(
            "{} tools are listed, and common clients accept {}: serve fewer with allow-tools, deny-tools or tools-max, show \
             fewer to each token, or raise tools-warn-above",
            bounds.listed, bounds.warn_above
        ));
    }
    if bounds.cut > 0 {
        let names = bounds.cut_first.join(", ");
        let more = if bounds.cut > bounds.cut_first.len() { ", ..." } else { "" };
        warnings.push(format!("{} tools are not served because of tools-max: {names}{more}", bounds.cut));
    }
    warnings.extend(connectors.iter().filter_map(|connector| credential_warning(connector)));
    warnings.extend(connectors.iter().flat_map(|connector| definition_warnings(&connector.id, &connector.definitions)));
    warnings
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}

/// What an operator should know about a credential that a server refuses.
fn credential_warning(connector: &ConnectorStatus) -> Option<String> {
    let refused = connector.credential.as_ref()?;
    // Escaped: a server chooses its words.
    let asked = refused.challenges.iter().map(|challenge| {
        let members = [("error", &challenge.error), ("scope", &challenge.scope), ("see", &challenge.resource_metadata)];
        let members = members.iter().filter_map(|(name, value)| Some(format!(" {name} {:?}", value.as_ref()?)));
        format!("{:?}{}", challenge.scheme, members.collect::<String>())
    });
    let asked = asked.collect::<Vec<_>>().join(", ");
    let asks = if asked.is_empty() { String::new() } else { format!("; the server asks for {asked}") };
    Some(format!(
        "connector {}: its server refuses the credential with {} since {}{asks}; {}",
        connector.id, refused.http_status, refused.since, refused.action
    ))
}

/// What an operator should know about the definitions of a connector.
fn definition_warnings(id: &ConnectorId, definitions: &DefinitionsStatus) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(digest) = definitions.digest {
        // Escaped: a server chooses its names.
        let named = definitions.first.iter().take(limits::WARNED_CHANGES_MAX).map(|change| {
            let name: String = change.name.chars().take(limits::WARNED_NAME_CHARACTERS).collect();
            let unstable = if change.unstable { ", unstable" } else { "" };
            format!("{} {name:?} ({}{unstable})", change.kind.singular(), change.change.as_str())
        });
        let named = named.collect::<Vec<_>>().join(", ");
        let more = if definitions.changes > limits::WARNED_CHANGES_MAX { ", ..." } else { "" };
        let hidden = match definitions.hidden {
            0 => String::new(),
            hidden => format!("; hidden until approved: {hidden}"),
        };
        warnings.push(format!(
            "connector {id}: {} from what was approved: {named}{more}{hidden}; review with `cortex-mcp tools --changed \
             --connector {id}`, and approve all with `cortex-mcp tools approve --connector {id} --digest {digest}`",
            counted(definitions.changes, "definition differs", "definitions differ")
        ));
    }
    if definitions.on_change == OnChange::Hide && definitions.baseline_taken_at.is_none() {
        warnings.push(format!("connector {id}: there is no baseline yet; the first definitions it lists are served"));
    }
    let left_out = definitions.left_out.count();
    if left_out > 0 {
        warnings.push(format!(
            "connector {id}: {} not served, having come through this gateway or too many others; is the connector this \
             gateway itself?",
            counted(left_out, "definition is", "definitions are")
        ));
    }
    warnings
}

/// The patterns of tokens that match nothing, in sentences: a misspelt one shows or hides other tools than it is meant to.
/// `ids` are the connectors that exist.
pub(super) fn pattern_warnings<'a, Ids: Iterator<Item = &'a ConnectorId>>(
    tokens: &[Token],
    snapshot: &CatalogSnapshot,
    ids: impl Fn() -> Ids,
) -> Vec<String> {
    let mut warnings = Vec::new();
    for token in tokens {
        let rules = view_rules(token);
        let [allowed, denied] = snapshot.unmatched_tool_patterns(&rules);
        let matches_none = |pattern: &Glob| !ids().any(|id| pattern.matches(id.as_str()));
        let connectors = rules.connectors.into_iter().flatten().filter(matches_none).collect();
        for (key, unmatched, what) in
            [("connectors", connectors, "connector"), ("tools", allowed, "tool"), ("deny-tools", denied, "tool")]
        {
            let unmatched: Vec<&str> = unmatched.iter().map(Glob::as_str).collect();
            if !unmatched.is_empty() {
                let patterns = unmatched.join(", ");
                warnings.push(format!("[[token]] {} {key} matches no {what}: {patterns}", token.name));
            }
        }
    }
    warnings
}

/// A connector id that two entries claim; the first is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Conflict {
    /// The id.
    pub id: ConnectorId,
    /// The name of the entry that is not served.
    pub hidden: String,
}
