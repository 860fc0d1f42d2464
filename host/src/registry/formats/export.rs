//! The way out: entries of the registry, written for another program.
//!
//! What a program has no word for is left out and noted; nothing is ever dropped silently, except the registry's own
//! account of an entry (`rev`).

use std::fmt;

use serde_json::{Map, Value, json};

use super::client::{MEANINGFUL, transport_named};
use super::clients::ExportFormat;
use super::hide;
use super::names::{Alphabet, Names, shown};
use crate::model::text::{escape_json, escape_toml};

/// Whether secrets are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Secrets {
    /// As `***`.
    Hidden,
    /// As they are.
    Revealed,
}

/// A file for another program. Its debug form does not show the text.
#[derive(Clone, PartialEq, Eq)]
pub struct Exported {
    /// The file's text; it ends with a line feed.
    pub text: String,
    /// What the file does not say, or says otherwise.
    pub notes: Vec<ExportNote>,
}

impl fmt::Debug for Exported {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format_args!("{} bytes", self.text.len());
        formatter.debug_struct("Exported").field("text", &text).field("notes", &self.notes).finish()
    }
}

/// What is to be said of a written file, or of one server in it. Its display form is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportNote {
    /// The server; none if it is about the whole file.
    pub server: Option<String>,
    /// What is to be said.
    pub remark: ExportRemark,
}

impl fmt::Display for ExportNote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.server {
            Some(server) => write!(formatter, "{server}: {}", self.remark),
            None => write!(formatter, "{}", self.remark),
        }
    }
}

/// A remark on a written file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExportRemark {
    /// Secrets were hidden.
    #[error("its secrets are written as ***; it does not work until they are filled in")]
    Hidden,
    /// Arguments were written.
    #[error(
        "arguments and commands are written as they are where no name says that they are secret; look them through"
    )]
    ArgumentsShown,
    /// It goes through the bridge.
    #[error("the client starts programs only; the bridge mcp-remote (run by npx) connects it")]
    Bridged,
    /// The client does not speak its transport.
    #[error("the client does not speak the transport {transport}; it will not connect")]
    NotSpoken {
        /// The transport.
        transport: &'static str,
    },
    /// A field can not be said.
    #[error("its field {field} is left out; the file has no place for it")]
    LeftOut {
        /// The field.
        field: String,
    },
    /// It has another name in the file.
    #[error("it is called {to} in the file; its own name is not well-formed there, or is taken")]
    Renamed {
        /// The name in the file.
        to: String,
    },
    /// A value looks like a reference.
    #[error("its field {field} holds a ${{...}}, which the client may replace")]
    MayBeReplaced {
        /// The field.
        field: String,
    },
    /// An entry has no name or no known transport.
    #[error("an entry is left out; it has no name or no known transport")]
    Unreadable,
    /// The client reads the token from its environment.
    #[error("set the variable {variable} to a token of the gateway where the client is started")]
    SetToken {
        /// The variable.
        variable: String,
    },
    /// The client replaces no variables.
    #[error("the client replaces no variables; write the token that {variable} holds in place of {placeholder}")]
    WriteToken {
        /// The variable.
        variable: String,
        /// What to replace in the text.
        placeholder: &'static str,
    },
    /// The client asks for the token.
    #[error("the client asks for the token of the gateway when it first connects")]
    AsksToken,
}

/// Writes entries for another program, in the order given.
pub fn export(entries: &[Map<String, Value>], format: ExportFormat, secrets: Secrets) -> Exported {
    let alphabet = if format == ExportFormat::Codex { Alphabet::Codex } else { Alphabet::Registry };
    let names = entries.iter().filter_map(|entry| entry.get("name").and_then(Value::as_str));
    let mut writing =
        Writing { format, secrets, names: Names::new(alphabet, names), notes: Vec::new(), server: String::new() };
    let mut list = Vec::new();
    let mut servers = Map::new();
    for entry in entries {
        match format {
            ExportFormat::Registry => list.push(Value::Object(writing.own(entry))),
            _ => servers.extend(writing.member(entry).map(|(name, member)| (name, Value::Object(member)))),
        }
    }
    if secrets == Secrets::Hidden && entries.iter().any(|entry| entry.contains_key("args")) {
        writing.notes.push(ExportNote { server: None, remark: ExportRemark::ArgumentsShown });
    }
    let servers = if format == ExportFormat::Registry { Value::Array(list) } else { Value::Object(servers) };
    Exported { text: written(format, &json!({ format.root(): servers })), notes: writing.notes }
}

/// A document as text, in the format's language. Characters that a terminal or an editor does not show are escaped.
pub(super) fn written(format: ExportFormat, document: &Value) -> String {
    if format == ExportFormat::Codex {
        // Only what TOML can say comes this far.
        let text = toml::to_string(document).unwrap_or_default();
        let escaped = escape_toml(&text);
        let is_equal = toml::from_str(&escaped).is_ok_and(|read: Value| read == *document);
        return if is_equal { escaped.into_owned() } else { text };
    }
    // The alternate form of a tree is JSON with an indent of two.
    escape_json(&format!("{document:#}\n")).into_owned()
}

/// The member of a remote server in a client's file.
pub(super) fn remote(format: ExportFormat, transport: &str, address: &str) -> Map<String, Value> {
    let mut member = Map::new();
    let says_type = match format {
        ExportFormat::ClaudeCode | ExportFormat::VsCode | ExportFormat::Generic => true,
        ExportFormat::Codex => false,
        _ => transport != "http",
    };
    if says_type {
        member.insert("type".to_owned(), transport.into());
    }
    member.insert(format.address(transport).to_owned(), address.into());
    member
}

/// The bridge that connects a program which only starts programs: its arguments, without headers.
pub(super) fn bridge(address: &str, transport: &str) -> Vec<String> {
    let mut args = vec!["-y".to_owned(), "mcp-remote".to_owned(), address.to_owned()];
    if transport == "sse" {
        args.extend(["--transport", "sse-only"].map(str::to_owned));
    }
    if address.to_ascii_lowercase().starts_with("http:") {
        args.push("--allow-http".to_owned());
    }
    args
}

/// What begins the names of the variables that hold the bridge's header values.
const BRIDGE_VARIABLE: &str = "MCP_REMOTE_HEADER";

/// Fields that Codex knows besides those of the connection.
const CODEX_FIELDS: [&str; 7] =
    ["cwd", "enabled", "enabled_tools", "disabled_tools", "startup_timeout_sec", "tool_timeout_sec", "required"];

/// A file being written.
struct Writing {
    format: ExportFormat,
    secrets: Secrets,
    names: Names,
    notes: Vec<ExportNote>,
    /// The server that is being written.
    server: String,
}

impl Writing {
    fn note(&mut self, remark: ExportRemark) {
        self.notes.push(ExportNote { server: Some(self.server.clone()), remark });
    }

    /// An entry as the registry's own file holds it.
    fn own(&mut self, entry: &Map<String, Value>) -> Map<String, Value> {
        self.server = shown(entry.get("name").and_then(Value::as_str).unwrap_or_default());
        let mut own = entry.clone();
        own.shift_remove("rev");
        self.hide(&mut own);
        own
    }

    fn hide(&mut self, entry: &mut Map<String, Value>) {
        if self.secrets == Secrets::Hidden && hide::entry(entry) {
            self.note(ExportRemark::Hidden);
        }
    }

    /// An entry as a member of a client's file.
    fn member(&mut self, entry: &Map<String, Value>) -> Option<(String, Map<String, Value>)> {
        let text = |field: &str| entry.get(field).and_then(Value::as_str);
        let transport = text("transport").and_then(|transport| transport_named(transport).ok());
        let (Some(own), Some(transport)) = (text("name"), transport) else {
            self.notes.push(ExportNote { server: text("name").map(shown), remark: ExportRemark::Unreadable });
            return None;
        };
        self.server = shown(own);
        let name = self.names.claim(own);
        if name != own {
            self.note(ExportRemark::Renamed { to: name.clone() });
        }
        let mut entry = entry.clone();
        self.references(&entry, transport);
        self.hide(&mut entry);
        let bridged = self.format == ExportFormat::ClaudeDesktop && matches!(transport, "http" | "sse");
        if bridged {
            self.note(ExportRemark::Bridged);
        } else if !self.format.speaks(transport) {
            self.note(ExportRemark::NotSpoken { transport });
        }
        let mut member = match transport {
            "stdio" => self.program(&entry),
            _ if bridged => bridged_member(&entry, transport),
            _ => self.remote(&entry, transport),
        };
        self.rest(&entry, transport, &mut member);
        Some((name, member))
    }

    fn program(&self, entry: &Map<String, Value>) -> Map<String, Value> {
        let mut member = Map::new();
        if matches!(self.format, ExportFormat::VsCode | ExportFormat::Generic) {
            member.insert("type".to_owned(), "stdio".into());
        }
        for field in ["command", "args", "env"] {
            if let Some(value) = entry.get(field) {
                member.insert(field.to_owned(), value.clone());
            }
        }
        member
    }

    fn remote(&self, entry: &Map<String, Value>, transport: &str) -> Map<String, Value> {
        let mut member = remote(self.format, transport, endpoint(entry));
        if let Some(headers) = entry.get("headers") {
            let field = if self.format == ExportFormat::Codex { "http_headers" } else { "headers" };
            member.insert(field.to_owned(), headers.clone());
        }
        member
    }

    /// Fields that are not of the connection.
    fn rest(&mut self, entry: &Map<String, Value>, transport: &str, member: &mut Map<String, Value>) {
        let used: &[&str] = if transport == "stdio" { &["command", "args", "env"] } else { &["endpoint", "headers"] };
        for (name, value) in entry {
            if matches!(name.as_str(), "name" | "transport" | "rev") || used.contains(&name.as_str()) {
                continue;
            }
            let is_codex = self.format == ExportFormat::Codex;
            if is_codex && name == "disabled" && value.is_boolean() {
                member.insert("enabled".to_owned(), json!(value == &Value::Bool(false)));
            } else if MEANINGFUL.contains(&name.as_str())
                || (is_codex && !(CODEX_FIELDS.contains(&name.as_str()) && is_toml(value)))
            {
                self.note(ExportRemark::LeftOut { field: shown(name) });
            } else {
                member.insert(name.clone(), value.clone());
            }
        }
    }

    /// Notes the values that a client could take for references to variables.
    fn references(&mut self, entry: &Map<String, Value>, transport: &str) {
        let fields: &[&str] = if transport == "stdio" { &["command", "args", "env"] } else { &["endpoint", "headers"] };
        for field in fields {
            if entry.get(*field).is_some_and(has_reference) {
                self.note(ExportRemark::MayBeReplaced { field: (*field).to_owned() });
            }
        }
    }
}

fn endpoint(entry: &Map<String, Value>) -> &str {
    entry.get("endpoint").and_then(Value::as_str).unwrap_or_default()
}

/// A remote server behind the bridge. Header values stand in the bridge's environment, where other users of the machine
/// do not see them.
fn bridged_member(entry: &Map<String, Value>, transport: &str) -> Map<String, Value> {
    let mut args = bridge(endpoint(entry), transport);
    let mut env = Map::new();
    for (index, (name, value)) in entry.get("headers").and_then(Value::as_object).into_iter().flatten().enumerate() {
        let variable = format!("{BRIDGE_VARIABLE}_{}", index + 1);
        args.extend(["--header".to_owned(), format!("{name}:${{{variable}}}")]);
        env.insert(variable, value.clone());
    }
    let mut member = Map::new();
    member.insert("command".to_owned(), "npx".into());
    member.insert("args".to_owned(), args.into());
    if !env.is_empty() {
        member.insert("env".to_owned(), Value::Object(env));
    }
    member
}

fn has_reference(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${"),
        Value::Array(values) => values.iter().any(has_reference),
        Value::Object(members) => members.values().any(has_reference),
        _ => false,
    }
}

/// Whether TOML can say a value: it has no `null`, and its integers have 64 bits with a sign.
fn is_toml(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Number(number) => !number.is_u64() || number.is_i64(),
        Value::Array(values) => values.iter().all(is_toml),
        Value::Object(members) => members.values().all(is_toml),
        Value::Bool(_) | Value::String(_) => true,
    }
}
