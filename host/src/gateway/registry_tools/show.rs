//! An entry as it is told to whoever may use the gateway.
//!
//! Values of headers and of the environment are always `***`. Arguments and addresses are told without what looks like a
//! secret. Of the fields that mean nothing here only the names are told: nobody knows what they hold.

use serde_json::{Map, Value, json};
use url::Url;

use crate::model::redaction::MASK;
use crate::registry::formats::{ExportFormat, Secrets, export};
use crate::registry::{RegistryEntry, Transport};

/// The fields that are told with their values.
const TOLD: [&str; 9] = ["name", "transport", "endpoint", "command", "args", "env", "headers", "description", "tags"];

/// An entry without its secrets.
pub(super) fn entry(entry: &RegistryEntry) -> Value {
    let mut members = masked(entry);
    let others: Vec<String> = members.keys().filter(|name| !TOLD.contains(&name.as_str())).cloned().collect();
    for name in &others {
        members.shift_remove(name);
    }
    for name in ["env", "headers"] {
        match members.get_mut(name) {
            Some(Value::Object(values)) => values.values_mut().for_each(|value| *value = MASK.into()),
            Some(value) => *value = MASK.into(),
            None => {}
        }
    }
    if let Some(endpoint) = members.get_mut("endpoint") {
        let safe = endpoint.as_str().is_some_and(|text| {
            Url::parse(text).is_ok_and(|url| url.has_host() && url.username().is_empty() && url.password().is_none())
        });
        if !safe {
            *endpoint = MASK.into();
        }
    }
    if !others.is_empty() {
        members.insert("otherFields".to_owned(), json!(others));
    }
    Value::Object(members)
}

/// What else is to be known about an entry: whether it is served, and if not, why.
pub(super) fn standing(entry: &RegistryEntry) -> (bool, Option<String>) {
    match &entry.transport {
        Ok(transport) if transport.is_served() => (true, None),
        Ok(transport) => {
            let kind = transport.as_str();
            (false, Some(format!("the transport {kind} is kept in the registry, and not served by this gateway")))
        }
        Err(rule) => (false, Some(format!("the entry {rule}"))),
    }
}

/// The transport under its one name; none if it is not usable.
pub(super) fn transport(entry: &RegistryEntry) -> Option<&'static str> {
    entry.transport.as_ref().ok().map(Transport::as_str)
}

/// The entry's tags: the texts of its `tags`.
pub(super) fn tags(entry: &RegistryEntry) -> Vec<String> {
    let Ok(Value::Object(members)) = serde_json::from_str(entry.json()) else { return Vec::new() };
    let tags = members.get("tags").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    tags.iter().filter_map(|tag| tag.as_str().map(str::to_owned)).collect()
}

fn masked(entry: &RegistryEntry) -> Map<String, Value> {
    let Ok(Value::Object(members)) = serde_json::from_str(entry.json()) else { return Map::new() };
    let exported = export(&[members], ExportFormat::Registry, Secrets::Hidden);
    let document: Value = serde_json::from_str(&exported.text).unwrap_or_default();
    match document.pointer("/servers/0") {
        Some(Value::Object(members)) => members.clone(),
        // Rather nothing than a secret.
        _ => Map::from_iter([("name".to_owned(), entry.name.as_str().into())]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::read;

    fn entry_of(json: &str) -> Value {
        // As it stands in a file: what breaks rules is kept.
        let document = read(format!(r#"{{"servers":[{json}]}}"#).as_bytes()).unwrap();
        entry(&document.servers[0].entry)
    }

    #[test]
    fn no_secret_of_an_entry_is_told() {
        for json in [
            r#"{"name":"a","transport":"http","endpoint":"https://a/mcp?key=canary#canary","headers":{"X":"canary"}}"#,
            r#"{"name":"a","transport":"stdio","command":"run","args":["--token","canary"],"env":{"KEY":"canary"}}"#,
            r#"{"name":"a","transport":"stdio","command":"DB_PWD=canary run","args":["-e","A=canary","--x=ghp_canary012345"]}"#,
            r#"{"name":"a","transport":"stdio","command":"run","args":["--header","A: canary","db://u:canary@h/x?y=canary"]}"#,
            r#"{"name":"a","transport":"ws","endpoint":"wss://a/","description":"ghp_canary012345","tags":["sk-canary012345"]}"#,
            r#"{"name":"a","transport":"http","endpoint":"https://a/","headers":{"X":"${file:/canary}"}}"#,
            r#"{"name":"a","transport":"http","endpoint":"https://u:canary@a/mcp"}"#,
            r#"{"name":"a","transport":"http","endpoint":"u:canary@a"}"#,
            r#"{"name":"a","transport":"http","endpoint":["canary"],"headers":"canary","env":["canary"]}"#,
            r#"{"name":"a","transport":"http","endpoint":"https://a/","note":"canary","deep":{"x":["canary"]}}"#,
        ] {
            let told = entry_of(json);
            assert!(!told.to_string().contains("canary"), "{told}");
        }
    }

    #[test]
    fn what_is_no_secret_is_told_and_of_unknown_fields_the_names() {
        let told = entry_of(
            r#"{"name":"a","transport":"http","endpoint":"https://a/mcp","headers":{"X-Key":"k"},
            "tags":["one"],"description":"d","vendor":{"x":1},"rev":{"wallMs":1,"counter":0,"writer":"w"}}"#,
        );
        let expected = json!({ "name": "a", "transport": "http", "endpoint": "https://a/mcp",
            "headers": { "X-Key": "***" }, "tags": ["one"], "description": "d", "otherFields": ["vendor"] });
        assert_eq!(told, expected);
    }
}
