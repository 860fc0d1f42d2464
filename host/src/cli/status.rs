//! `cortex-mcp status`: how a running gateway stands.

use std::fmt::Display;

use clap::Args;
use cortex_mcp::model::style::Style;
use serde_json::Value;
use serde_json::value::RawValue;

use super::client::GatewayAddress;
use super::error::{CommandError, Exit};
use super::output::{Output, Span, shorten};

/// Tells how a running gateway stands: policy, service map, registry, every connector.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  cortex-mcp status
  cortex-mcp status --json | jq '.connectors[] | select(.contact != \"up\")'

Exit codes: 0 every connector is up and takes its credential, 3 some do not.")]
pub(crate) struct Status {
    #[command(flatten)]
    address: GatewayAddress,
}

impl Status {
    pub(crate) async fn run(self, output: &Output) -> Result<Exit, CommandError> {
        let body = self.address.open()?.admin(http::Method::GET, "/status").await?;
        let text = String::from_utf8_lossy(&body).into_owned();
        let status: Value =
            serde_json::from_str(&text).map_err(|_| CommandError::Refused("an unreadable status".into()))?;
        if output.is_json() {
            match RawValue::from_string(text) {
                Ok(raw) => output.value(&raw),
                Err(_) => output.value(&status),
            }
        } else {
            describe(*output, &status);
        }
        let connectors = status["connectors"].as_array().map_or(&[][..], Vec::as_slice);
        let is_up = |connector: &Value| connector["contact"] == "up" && connector["credential"].is_null();
        let all_up = connectors.iter().all(is_up);
        Ok(if all_up { Exit::Good } else { Exit::Partly })
    }
}

fn describe(output: Output, status: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let policy = &status["policy"];
    output.line(format_args!(
        "policy      {} ({} decisions, {} faults{})",
        shorten(&text(&policy["digest"]), 12),
        policy["decisions"],
        policy["faults"],
        if policy["suspended"] == true { ", suspended: the default decides" } else { "" }
    ));
    if let Some(fault) = policy["last_fault"].as_str() {
        detail(output, format_args!("its last fault: {fault}"), Style::Error);
    }
    let formers = status["formerPolicies"].as_array().map_or(&[][..], Vec::as_slice);
    for former in formers.iter().rev() {
        let digest: String = text(&former["digest"]).chars().take(12).collect();
        // The same bytes may have been deployed in several ways; the embedded default is always known.
        let known = formers.iter().filter(|other| other["digest"] == former["digest"]).count();
        let (family, reuse) = (text(&former["family"]), former["instances"] == "reused");
        let more = if known < 2 && former["digest"] != policy["default_digest"] {
            String::new()
        } else {
            format!(" --family {family}{}", if reuse { " --reuse" } else { "" })
        };
        output.line(format_args!(
            "            before: {digest}; go back with `cortex-mcp policy swap --to {digest}{more}`"
        ));
    }
    let shadow = &status["shadow"];
    if !shadow.is_null() {
        output.line(format_args!(
            "shadow      {} ({} decisions, {} different, {} faults, {} skipped)",
            shorten(&text(&shadow["digest"]), 12),
            shadow["decisions"],
            shadow["different"],
            shadow["faults"],
            shadow["skipped"]
        ));
    }
    let trace = &status["trace"];
    if trace.is_null() {
        output.line("trace       none: decisions are not recorded");
    } else {
        output.line(format_args!(
            "trace       {} ({} decisions written, {} dropped)",
            text(&trace["directory"]),
            trace["written"],
            trace["dropped"]
        ));
        if let Some(failing) = trace["failing"].as_str() {
            detail(output, failing, Style::Error);
        }
    }
    let map = &status["serviceMap"];
    if map.is_null() {
        output.line("service map none is configured");
    } else {
        output.line(format_args!(
            "service map {} ({}), generated {}, fetched {}, next {}",
            text(&map["state"]),
            text(&map["reason"]),
            text(&map["generatedAt"]),
            text(&map["fetchedAt"]),
            text(&map["nextAttempt"])
        ));
        if let Some(message) = map["lastFailure"]["message"].as_str() {
            detail(output, message, Style::Warning);
        }
    }
    describe_registry(output, &status["registry"]);
    output.line(format_args!("state       {}", text(&status["state"])));
    let headings = ["connector", "contact", "over", "list", "tools", "more", "fetched", "next attempt", "last failure"];
    let mut table = output.table(&headings);
    for connector in status["connectors"].as_array().into_iter().flatten() {
        let contact = text(&connector["contact"]);
        // A server that refuses the credential is there, and of no use.
        let contact = connector["credential"]["state"].as_str().map_or(contact, str::to_owned);
        let style = match contact.as_str() {
            "up" => Style::Success,
            "down" | "unauthorized" | "forbidden" => Style::Error,
            _ => Style::Warning,
        };
        table.add_row([
            text(&connector["id"]).into(),
            Span::styled(contact, style),
            text(&connector["transport"]).into(),
            format_args!("{} ({})", text(&connector["state"]), text(&connector["reason"])).into(),
            tools_of(connector, &status["filters"]).into(),
            more_of(connector).into(),
            text(&connector["fetchedAt"]).into(),
            text(&connector["nextAttempt"]).into(),
            shorten(connector["lastFailure"]["message"].as_str().unwrap_or(""), 40).into(),
        ]);
    }
    output.rows(&table);
    for connector in status["connectors"].as_array().into_iter().flatten() {
        if let Some(cause) = cause_of(connector) {
            output.spans([Span::styled(cause, Style::Warning)]);
        }
    }
    for connector in status["connectors"].as_array().into_iter().flatten() {
        if connector["definitions"]["onChange"] == "hide" && connector["definitions"]["baselineTakenAt"].is_string() {
            output.line(format_args!(
                "{}: changed definitions are hidden; the baseline was taken at {}",
                text(&connector["id"]),
                text(&connector["definitions"]["baselineTakenAt"])
            ));
        }
    }
    for connector in status["connectors"].as_array().into_iter().flatten() {
        for warning in connector["warnings"].as_array().into_iter().flatten() {
            let line = format!("{}: {}", text(&connector["id"]), text(warning));
            output.spans([Span::styled(line, Style::Warning)]);
        }
    }
    for collision in status["collisions"].as_array().into_iter().flatten() {
        let instead = match collision["instead"].as_str() {
            Some(instead) => format!("; the second is served as {instead}"),
            None => String::new(),
        };
        let (owner, state) = match collision["reservedFor"].as_str() {
            Some(owner) => (owner, "hidden until it is approved"),
            None => (collision["served"].as_str().unwrap_or("this gateway itself"), "served"),
        };
        output.line(format_args!(
            "{} is one of the {} of {owner} and of {}; the first is {state}{instead}",
            text(&collision["name"]),
            text(&collision["kind"]),
            text(&collision["hidden"])
        ));
    }
    for warning in status["warnings"].as_array().into_iter().flatten() {
        output.spans([Span::styled(text(warning), Style::Warning)]);
    }
    for conflict in status["conflicts"].as_array().into_iter().flatten() {
        output.line(format_args!(
            "{} is named twice; the entry {} is not served",
            text(&conflict["id"]),
            text(&conflict["hidden"])
        ));
    }
}

/// Writes more about the fact in the line above.
fn detail(output: Output, text: impl Display, style: Style) {
    output.spans([Span::from("            "), Span::styled(text, style)]);
}

/// Why a connector failed last, in full.
fn cause_of(connector: &Value) -> Option<String> {
    let message = connector["lastFailure"]["message"].as_str()?;
    let id = connector["id"].as_str().unwrap_or_default();
    let stderr = connector["lastFailure"]["stderr"].as_str();
    let stderr = stderr.map(|line| format!("; its standard error ends with: {line}")).unwrap_or_default();
    Some(format!("{id}: {message}{stderr}"))
}

/// How many tools of a connector there are; with a filter, how many of them are served.
fn tools_of(connector: &Value, filters: &Value) -> String {
    let effect = connector["id"].as_str().map_or(&Value::Null, |id| &filters[id]);
    match (connector["tools"].as_u64(), effect["hidden"].as_u64()) {
        (Some(tools), Some(hidden @ 1..)) => format!("{} of {tools}", tools.saturating_sub(hidden)),
        _ => connector["tools"].to_string(),
    }
}

/// What a connector has besides tools.
fn more_of(connector: &Value) -> String {
    let kinds = [("prompts", "prompts"), ("resources", "resources"), ("templates", "templates")];
    let counts = kinds.iter().filter_map(|(member, word)| match connector[*member].as_u64() {
        Some(count @ 1..) => Some(format!("{count} {word}")),
        _ => None,
    });
    counts.collect::<Vec<_>>().join(", ")
}

/// How the registry stands; the sentences say what to do.
fn describe_registry(output: Output, registry: &Value) {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let waiting = match registry["counts"]["waiting"].as_u64() {
        Some(waiting @ 1..) => format!(", {waiting} changes wait for the file"),
        _ => String::new(),
    };
    output.line(format_args!(
        "registry    {} entries, {}, generation {}{waiting}",
        registry["entries"],
        text(&registry["standing"]["state"]),
        registry["generation"]
    ));
    if let Some(error) = registry["error"].as_str() {
        detail(output, error, Style::Error);
    }
    for problem in registry["problems"].as_array().into_iter().flatten() {
        detail(output, text(problem), Style::Warning);
    }
}
