//! How entries are shown: as they stand in the file, without their secrets unless those are asked for.

use cortex_mcp::model::style::Style;
use cortex_mcp::registry::RegistryEntry;
use cortex_mcp::registry::formats::{ExportFormat, Secrets, export};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use crate::cli::output::{Span, shorten};

/// Whether secrets are shown.
pub(super) fn secrets(reveal: bool) -> Secrets {
    if reveal { Secrets::Revealed } else { Secrets::Hidden }
}

/// An entry as an object.
pub(super) fn object(json: &str) -> Map<String, Value> {
    // What the registry holds is an object.
    serde_json::from_str(json).unwrap_or_default()
}

/// An entry without its secrets, as an object.
pub(super) fn masked(json: &str) -> Map<String, Value> {
    let text = export(&[object(json)], ExportFormat::Registry, Secrets::Hidden).text;
    let exported: Value = serde_json::from_str(&text).unwrap_or_default();
    exported["servers"][0].as_object().cloned().unwrap_or_default()
}

/// An entry as JSON: revealed to the letter, or without its secrets.
pub(super) fn entry(json: &str, secrets: Secrets) -> Value {
    match secrets {
        Secrets::Hidden => Value::Object(masked(json)),
        Secrets::Revealed => Value::Object(object(json)),
    }
}

/// The same with numbers as they were spelt, where secrets are shown.
pub(super) fn raw(json: &str, secrets: Secrets) -> Box<RawValue> {
    let text = match secrets {
        Secrets::Revealed => json.to_owned(),
        Secrets::Hidden => Value::Object(masked(json)).to_string(),
    };
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// The endpoint, or the command with its arguments.
pub(super) fn target(entry: &Map<String, Value>) -> String {
    let text = |field: &str| entry.get(field).and_then(Value::as_str);
    if let Some(command) = text("command").filter(|_| text("transport") == Some("stdio")) {
        let args = entry.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        return std::iter::once(command).chain(args).collect::<Vec<_>>().join(" ");
    }
    text("endpoint").or(text("command")).unwrap_or_default().to_owned()
}

/// How an entry stands, in a word for machines and a sentence for people.
pub(super) fn state(entry: &RegistryEntry) -> (&'static str, Option<String>) {
    match &entry.transport {
        Ok(transport) if transport.is_served() => ("served", None),
        Ok(transport) => ("not-served", Some(format!("the transport {} is not served", transport.as_str()))),
        Err(rule) => ("invalid", Some(format!("it {rule}"))),
    }
}

/// The same for a table.
pub(super) fn told_state(entry: &RegistryEntry) -> Span {
    match state(entry) {
        (word, None) => Span::styled(word, Style::Success),
        ("invalid", Some(problem)) => Span::styled(shorten(&problem, 60), Style::Error),
        (_, Some(problem)) => Span::styled(shorten(&problem, 60), Style::Warning),
    }
}

/// The same for machines.
pub(super) fn state_value(entry: &RegistryEntry) -> Value {
    let (state, problem) = state(entry);
    let connector = cortex_mcp::registry::connector_id(&entry.name);
    json!({ "name": entry.name, "connector": connector, "state": state, "problem": problem })
}
