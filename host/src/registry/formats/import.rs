//! The way in: which format a file has, where its servers stand, and what they become.
//!
//! Every proposed entry has been read by the registry's own reader: what that would refuse is skipped here already.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::clients::UnknownFormat;
use super::expand::{Variables, add};
use super::limits::MAX_IMPORT_SERVERS;
use super::names::{Alphabet, Names, shown};
use super::references::{self, ImportedReferences};
use super::report::{ImportError, Note, Preview, Proposed, SkipReason, Skipped};
use super::{client, server_json, text};
use crate::registry::RegistryEntry;

/// The format of a file to import. Its text form is what [`ImportFormat::as_str`] says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ImportFormat {
    /// A registry's file: `{"servers": [...]}`. Its values are taken as they stand: nothing is replaced.
    Registry,
    /// A client's file: an object of servers under `mcpServers`, `servers`, `mcp.servers` or `context_servers`.
    Client,
    /// The official registry's `server.json`, alone or as its API wraps and lists it.
    ServerJson,
}

impl ImportFormat {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Registry, Self::Client, Self::ServerJson];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Registry => "registry",
            Self::Client => "client",
            Self::ServerJson => "server-json",
        }
    }

    /// The format that a document's shape shows; none if it is none of them.
    pub fn detect(document: &Value) -> Option<Self> {
        let members = document.as_object()?;
        if !roots(members).is_empty() {
            return Some(Self::Client);
        }
        if let Some(Value::Array(servers)) = members.get("servers") {
            let wrapped = |server: &Value| server.get("server").is_some_and(Value::is_object);
            return Some(if servers.iter().any(wrapped) { Self::ServerJson } else { Self::Registry });
        }
        let alone = members.get("server").unwrap_or(document);
        let list = |field: &str| alone.get(field).is_some_and(Value::is_array);
        let schema = alone.get("$schema").and_then(Value::as_str).unwrap_or_default();
        let is_server = list("packages") || list("remotes") || schema.contains("server.schema.json");
        (is_server && alone.get("name").is_some_and(Value::is_string)).then_some(Self::ServerJson)
    }
}

impl fmt::Display for ImportFormat {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for ImportFormat {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        Self::ALL.into_iter().find(|format| format.as_str() == text).ok_or(UnknownFormat)
    }
}

/// Reads what a file would bring into the registry.
///
/// Without a `format` the file's shape decides. A server that refers to files or variables of this machine is skipped unless
/// `references` allows that. `variables` gives the value of an environment variable; an editor's
/// input is asked for as `input:ID`, and what a `server.json` asks its user for by its own name and by the
/// environment's spelling of it (`X-Api-Key` as `X_API_KEY`).
///
/// # Errors
/// [`ImportError`], if nothing of the file can be used; what is wrong with one server is among the skipped instead.
pub fn import(
    bytes: &[u8],
    format: Option<ImportFormat>,
    references: ImportedReferences,
    variables: &dyn Fn(&str) -> Option<String>,
) -> Result<Preview, ImportError> {
    let document = text::read(bytes)?;
    let shape = ImportFormat::detect(&document).ok_or(ImportError::Shape)?;
    let format = match format {
        // A list without entries is a list of either.
        Some(asked) if asked != shape && !is_empty_list(&document) => return Err(ImportError::OtherShape(asked)),
        asked => asked.unwrap_or(shape),
    };
    let mut notes = Vec::new();
    let servers = match format {
        ImportFormat::Registry => registry_servers(&document),
        ImportFormat::Client => client_servers(&document, &mut notes),
        ImportFormat::ServerJson => server_json::servers(&document, &mut notes),
    };
    if servers.len() > MAX_IMPORT_SERVERS {
        return Err(ImportError::TooMany);
    }
    let names = Names::new(Alphabet::Registry, servers.iter().filter_map(|server| server.name));
    let importing =
        Importing { names, references, preview: Preview { format, servers: Vec::new(), skipped: Vec::new(), notes } };
    Ok(importing.run(&servers, &Variables::new(variables, references)))
}

/// A server in a file.
pub(super) struct Found<'a> {
    /// The name that the file gives it.
    pub(super) name: Option<&'a str>,
    /// What the file says of it.
    pub(super) server: &'a Value,
    /// Why it is left out, if where it stands says so.
    pub(super) refused: Option<SkipReason>,
    /// What where it stands says of it.
    pub(super) note: Option<Note>,
}

fn is_empty_list(document: &Value) -> bool {
    document.get("servers").and_then(Value::as_array).is_some_and(Vec::is_empty)
}

fn registry_servers(document: &Value) -> Vec<Found<'_>> {
    let servers = document.get("servers").and_then(Value::as_array).into_iter().flatten();
    servers
        .map(|server| Found { name: server.get("name").and_then(Value::as_str), server, refused: None, note: None })
        .collect()
}

/// The objects of servers in a client's file.
fn roots(members: &Map<String, Value>) -> Vec<&Value> {
    let nested = members.get("mcp").and_then(Value::as_object);
    [
        members.get("mcpServers"),
        members.get("servers"),
        members.get("context_servers"),
        nested.and_then(|nested| nested.get("servers")),
        nested.and_then(|nested| nested.get("mcpServers")),
    ]
    .into_iter()
    .flatten()
    .filter(|root| root.is_object())
    .collect()
}

fn client_servers<'a>(document: &'a Value, notes: &mut Vec<Note>) -> Vec<Found<'a>> {
    let Some(members) = document.as_object() else { return Vec::new() };
    let in_project =
        |project: &Value| project.get("mcpServers").and_then(Value::as_object).is_some_and(|own| !own.is_empty());
    if members.get("projects").and_then(Value::as_object).is_some_and(|projects| projects.values().any(in_project)) {
        notes.push(Note::Projects);
    }
    let servers = roots(members).into_iter().filter_map(Value::as_object).flatten();
    servers.map(|(name, server)| Found { name: Some(name), server, refused: None, note: None }).collect()
}

/// An import under way.
struct Importing {
    names: Names,
    references: ImportedReferences,
    preview: Preview,
}

impl Importing {
    fn run(mut self, servers: &[Found<'_>], variables: &Variables<'_>) -> Preview {
        for found in servers {
            match self.proposed(found, variables) {
                Ok(proposed) => self.preview.servers.push(proposed),
                Err(reason) => {
                    let name = found.name.filter(|name| !name.is_empty()).map(shown);
                    self.preview.skipped.push(Skipped { name, reason });
                }
            }
        }
        self.preview
    }

    fn proposed(&mut self, found: &Found<'_>, variables: &Variables<'_>) -> Result<Proposed, SkipReason> {
        if let Some(reason) = &found.refused {
            return Err(reason.clone());
        }
        let (rest, mut notes) = match self.preview.format {
            ImportFormat::Registry => own_entry(found.server)?,
            ImportFormat::Client => client::entry(found.server, variables)?,
            ImportFormat::ServerJson => server_json::entry(found.server, variables)?,
        };
        let given = found.name.ok_or(SkipReason::NoName)?;
        let mut entry = Map::new();
        // The name is claimed only once the entry is known to be good: a refused one takes no name.
        entry.insert("name".to_owned(), PROBE.into());
        entry.extend(rest);
        let parsed = RegistryEntry::parse(&json!(entry).to_string()).map_err(SkipReason::Entry)?;
        references::check(&parsed, self.references, &mut notes)?;
        let name = self.names.claim(given);
        if name != given {
            notes.insert(0, Note::Renamed { from: shown(given) });
        }
        if let Some(note) = &found.note {
            add(&mut notes, note.clone());
        }
        entry.insert("name".to_owned(), name.as_str().into());
        Ok(Proposed { name, entry, notes })
    }
}

/// A well-formed name, while an entry is checked.
const PROBE: &str = "server";

/// An entry of another registry: as it stands, in the order that entries have here, without that registry's `rev`.
fn own_entry(server: &Value) -> Result<(Map<String, Value>, Vec<Note>), SkipReason> {
    let server = server.as_object().ok_or(SkipReason::NotAnObject)?;
    let transport = server.get("transport").and_then(Value::as_str).ok_or(SkipReason::UnknownTransport)?;
    let mut entry = Map::new();
    entry.insert("transport".to_owned(), client::transport_named(transport)?.into());
    for (name, value) in server {
        if !matches!(name.as_str(), "name" | "transport" | "rev") {
            entry.insert(name.clone(), value.clone());
        }
    }
    let notes = if client::is_disabled(server) { vec![Note::Disabled] } else { Vec::new() };
    Ok((entry, notes))
}
