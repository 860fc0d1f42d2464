//! What the gateway tells about itself: `/status`, and the gauges of `/metrics`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

use super::state_writer::StateRole;
use crate::catalog::{CatalogSnapshot, Collision, FilterEffect, View};
use crate::config::Settings;
use crate::connectors::{ConnectorStatus, Contact};
use crate::model::{ConnectorId, ListKind, WallMs};
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
        Self {
            listed: served.list(ListKind::Tools).len(),
            warn_above: settings.tools_warn_above,
            most: settings.tools_max,
            cut: served.cut().count,
            cut_first: served.cut().first.clone(),
        }
    }
}

/// What an operator should look at: settings that do nothing, and lists that are too long. `known` tells whether there is such
/// a connector.
pub(super) fn warnings(
    settings: &Settings,
    bounds: &BoundsStatus,
    filters: &BTreeMap<ConnectorId, FilterEffect>,
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

/// The gauges and counters of the registry.
pub(super) fn registry(status: &RegistryStatus) -> String {
    let counts = &status.counts;
    let writable = u64::from(status.standing.is_writable());
    let entries = u64::try_from(status.entries).unwrap_or(u64::MAX);
    let mut text = String::new();
    for (name, kind, help, value) in [
        ("mcp_registry_writable", "gauge", "Whether the registry's file can be written (1) or not (0)", writable),
        ("mcp_registry_entries", "gauge", "Servers in the registry", entries),
        (
            "mcp_registry_waiting_changes",
            "gauge",
            "Changes that are durable in the journal and not yet in the file",
            counts.waiting.into(),
        ),
        ("mcp_registry_documents_total", "counter", "Times that the file was written", counts.documents),
        ("mcp_registry_changes_total", "counter", "Changes that were acknowledged", counts.changes),
        (
            "mcp_registry_foreign_edits_total",
            "counter",
            "Edits of the file by programs that take no lock",
            counts.foreign_edits,
        ),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    }
    text
}

/// The counters of trace and shadow policy.
pub(super) fn records(trace: Option<TraceStatus>, shadow: Option<ShadowStatus>) -> String {
    let mut text = String::new();
    let mut counter = |name: &str, help: &str, value: u64| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
    };
    if let Some(trace) = trace {
        counter("mcp_trace_records_total", "Decisions written to the trace", trace.written);
        counter("mcp_trace_dropped_total", "Decisions that could not be written to the trace", trace.dropped);
        counter(
            "mcp_trace_notes_dropped_total",
            "Notes beside decisions that could not be written",
            trace.notes_dropped,
        );
        counter("mcp_trace_bytes_total", "Bytes written to the trace", trace.bytes);
    }
    if let Some(shadow) = shadow {
        counter("mcp_policy_shadow_decisions_total", "Decisions of the shadow policy", shadow.decisions);
        counter("mcp_policy_shadow_different_total", "Those that differ from what was decided", shadow.different);
        counter("mcp_policy_shadow_faults_total", "Those in which the shadow policy faulted", shadow.faults);
        counter("mcp_policy_shadow_skipped_total", "Decisions that the shadow had no time for", shadow.skipped);
    }
    text
}

/// The gauges: what is observed now, for connectors that exist now.
pub(super) fn gauges(
    snapshot: &CatalogSnapshot,
    statuses: &[Arc<ConnectorStatus>],
    disabled: &[ConnectorId],
    now: WallMs,
) -> String {
    let mut text = String::new();
    let mut family = |name: &str, help: &str, series: &mut dyn Iterator<Item = (String, String)>| {
        // Writing to a string does not fail.
        let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
        for (labels, value) in series {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    };
    let up = statuses.iter().map(|status| {
        let up = if status.contact == Contact::Up { "1" } else { "0" };
        (format!("connector=\"{}\"", status.id), up.to_owned())
    });
    let down = disabled.iter().map(|id| (format!("connector=\"{id}\""), "0".to_owned()));
    family(
        "brainwav_mcp_connector_proxy_up",
        "Whether the connector answered last (1) or not (0)",
        &mut up.chain(down),
    );
    let ages = statuses.iter().filter_map(|status| {
        let age = now.0.saturating_sub(status.fetched_wall?.0);
        let state = serde_json::to_value(status.state).ok()?;
        let labels = format!("connector=\"{}\",state=\"{}\"", status.id, state.as_str()?);
        Some((labels, format!("{}.{:03}", age / 1000, age % 1000)))
    });
    family("mcp_catalog_age_seconds", "Age of the connector's list, by its state", &mut { ages });
    family(
        "mcp_catalog_tools",
        "Tools that are served",
        &mut std::iter::once((String::new(), snapshot.tool_count().to_string())),
    );
    text
}
