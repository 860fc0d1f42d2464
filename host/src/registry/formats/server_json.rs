//! The official registry's `server.json`, alone, wrapped as its API does, or in the API's lists.
//!
//! A remote is preferred (streamable HTTP, then server-sent events), then the first package that some runner can start
//! over standard input and output. The preferred one decides: if it needs what is not given, the server is skipped and
//! the reason says what to set, rather than another way being taken silently.

use serde_json::{Map, Value};

use super::arguments::Inputs;
use super::expand::Variables;
use super::import::Found;
use super::names::shown;
use super::package;
use super::report::{Note, SkipReason};

/// The servers of a document, in its order.
pub(super) fn servers<'a>(document: &'a Value, notes: &mut Vec<Note>) -> Vec<Found<'a>> {
    let Some(list) = document.get("servers").and_then(Value::as_array) else {
        return vec![found(document, false)];
    };
    let cursor = document.get("metadata").and_then(|metadata| metadata.get("nextCursor"));
    if cursor.is_some_and(|cursor| !cursor.is_null()) {
        notes.push(Note::MorePages);
    }
    list.iter().map(|wrapped| found(wrapped, true)).collect()
}

/// The entry of a server, without its name, and what is to be said of it.
///
/// # Errors
/// The first [`SkipReason`].
pub(super) fn entry(server: &Value, variables: &Variables<'_>) -> Result<(Map<String, Value>, Vec<Note>), SkipReason> {
    let server = server.as_object().ok_or(SkipReason::NotAnObject)?;
    let mut inputs = Inputs::new(variables);
    let mut entry = match remote(server) {
        Some((transport, remote)) => remote_entry(transport, remote, &mut inputs)?,
        None => package::entry(server, &mut inputs)?,
    };
    if let Some(name) = server.get("name") {
        entry.insert(REGISTRY_NAME.to_owned(), name.clone());
    }
    for field in KEPT {
        if let Some(value) = server.get(field) {
            entry.insert(field.to_owned(), value.clone());
        }
    }
    Ok((entry, inputs.notes))
}

/// The field of an entry that holds the official registry's name of its server.
const REGISTRY_NAME: &str = "registryName";

/// Fields that go into the entry as they are, for people and tools that list it.
const KEPT: [&str; 5] = ["title", "description", "version", "websiteUrl", "repository"];

/// What the official registry itself says of a server.
const OFFICIAL: &str = "io.modelcontextprotocol.registry/official";

fn found(document: &Value, listed: bool) -> Found<'_> {
    let server = document.get("server").unwrap_or(document);
    let official = [document, server].into_iter().find_map(|place| place.get("_meta")?.get(OFFICIAL));
    let official = |field: &str| official.and_then(|official| official.get(field));
    let status = official("status").or_else(|| server.get("status")).and_then(Value::as_str);
    let refused = match status {
        Some("deleted") => Some(SkipReason::Deleted),
        _ if listed && official("isLatest") == Some(&Value::Bool(false)) => Some(SkipReason::Superseded),
        _ => None,
    };
    let note = (status == Some("deprecated")).then_some(Note::Deprecated);
    Found { name: server.get("name").and_then(Value::as_str), server, refused, note }
}

/// The preferred remote and its transport in the registry.
fn remote(server: &Map<String, Value>) -> Option<(&'static str, &Map<String, Value>)> {
    let remotes = server.get("remotes").and_then(Value::as_array)?;
    let of = |kinds: &[&str]| {
        let kind = |remote: &Map<String, Value>| {
            let kind = remote.get("type").or_else(|| remote.get("transport_type")).and_then(Value::as_str);
            kind.is_some_and(|kind| kinds.contains(&kind))
        };
        remotes.iter().filter_map(Value::as_object).find(|remote| kind(remote))
    };
    of(&["streamable-http", "http"])
        .map(|remote| ("http", remote))
        .or_else(|| of(&["sse"]).map(|remote| ("sse", remote)))
}

fn remote_entry(
    transport: &'static str,
    remote: &Map<String, Value>,
    inputs: &mut Inputs<'_, '_>,
) -> Result<Map<String, Value>, SkipReason> {
    let address = remote.get("url").and_then(Value::as_str).ok_or(SkipReason::Missing { field: "url" })?;
    let address = inputs.address(address, remote.get("variables").and_then(Value::as_object))?;
    let mut entry = Map::new();
    entry.insert("transport".to_owned(), transport.into());
    entry.insert("endpoint".to_owned(), address.into());
    let headers = inputs.named(remote.get("headers"), "headers")?;
    if !headers.is_empty() {
        let headers = headers.into_iter().map(|(name, value)| (name, value.into())).collect();
        entry.insert("headers".to_owned(), Value::Object(headers));
    }
    Ok(entry)
}

/// A reason that names a field of a document.
pub(super) fn wrong(field: &str) -> SkipReason {
    SkipReason::WrongKind { field: shown(field) }
}
