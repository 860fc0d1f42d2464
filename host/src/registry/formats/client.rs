//! One server of a client's file, as an entry of the registry.
//!
//! The clients differ in what they call an address and a transport, and agree on the rest. Fields that no client and
//! no registry gives a meaning stay as they are, and so does `cwd`; only the fields of a connection have variables
//! replaced.

use serde_json::{Map, Value};

use super::expand::{Variables, add};
use super::names::shown;
use super::report::{Note, SkipReason};

/// The entry of a server of a client's file, without its name, and what is to be said of it.
///
/// # Errors
/// The first [`SkipReason`].
pub(super) fn entry(server: &Value, variables: &Variables<'_>) -> Result<(Map<String, Value>, Vec<Note>), SkipReason> {
    let server = server.as_object().ok_or(SkipReason::NotAnObject)?;
    let mut reading = Reading { variables, notes: Vec::new(), entry: Map::new(), used: Vec::new() };
    let transport = reading.transport(server)?;
    reading.entry.insert("transport".to_owned(), transport.into());
    if transport == "stdio" {
        reading.program(server)?;
    } else {
        reading.remote(server)?;
    }
    reading.rest(server);
    Ok((reading.entry, reading.notes))
}

/// What clients call an address; the first one that stands there counts.
const ADDRESSES: [&str; 4] = ["httpUrl", "serverUrl", "url", "endpoint"];

/// The fields that say how a server is reached, and the registry's own account of an entry.
pub(super) const MEANINGFUL: [&str; 12] = [
    "name",
    "transport",
    "type",
    "httpUrl",
    "serverUrl",
    "url",
    "endpoint",
    "headers",
    "command",
    "args",
    "env",
    "rev",
];

/// Fields with a meaning in some client that this gateway does not give them.
const NOT_FOLLOWED: [&str; 6] = ["envFile", "headersHelper", "oauth", "auth", "sandbox", "authProviderType"];

/// A server being read.
struct Reading<'a> {
    variables: &'a Variables<'a>,
    notes: Vec<Note>,
    entry: Map<String, Value>,
    /// The meaningful fields that came into the entry.
    used: Vec<&'static str>,
}

impl Reading<'_> {
    /// The transport of the registry: what the server says, or what its other fields show.
    fn transport(&mut self, server: &Map<String, Value>) -> Result<&'static str, SkipReason> {
        let has_command = present(server, "command");
        let address = ADDRESSES.into_iter().find(|field| present(server, field));
        let mut said = None;
        for field in ["type", "transport"] {
            match server.get(field) {
                Some(Value::String(text)) => said = said.or(Some(transport_named(text)?)),
                None | Some(Value::Null) => {}
                Some(_) => return Err(wrong(field)),
            }
            self.used.push(field);
        }
        if let Some(said) = said {
            return Ok(said);
        }
        match (has_command, address) {
            (true, None) => Ok("stdio"),
            (true, Some(_)) => {
                self.notes.push(Note::BothKinds);
                Ok("stdio")
            }
            (false, Some(field)) => {
                let text = server.get(field).and_then(Value::as_str).unwrap_or_default();
                let scheme = text.split(':').next().unwrap_or_default().to_ascii_lowercase();
                Ok(if matches!(scheme.as_str(), "ws" | "wss") { "ws" } else { "http" })
            }
            (false, None) => Err(SkipReason::NoServer),
        }
    }

    fn program(&mut self, server: &Map<String, Value>) -> Result<(), SkipReason> {
        // Zed once had the whole program in one object.
        if let Some(Value::Object(program)) = server.get("command") {
            let path = program.get("path").cloned().unwrap_or_default();
            return self.program_of(&path, program.get("args"), program.get("env"));
        }
        let command = server.get("command").cloned().unwrap_or_default();
        self.program_of(&command, server.get("args"), server.get("env"))
    }

    fn program_of(&mut self, command: &Value, args: Option<&Value>, env: Option<&Value>) -> Result<(), SkipReason> {
        let command = match command {
            Value::String(command) if !command.is_empty() => command,
            Value::Null | Value::String(_) => return Err(SkipReason::Missing { field: "command" }),
            _ => return Err(wrong("command")),
        };
        self.used.extend(["command", "args", "env"]);
        let command = self.variables.replace(command, "command", None, &mut self.notes)?;
        self.entry.insert("command".to_owned(), command.into());
        let own = env.and_then(Value::as_object);
        match args {
            None | Some(Value::Null) => {}
            Some(Value::Array(args)) => {
                let mut replaced = Vec::with_capacity(args.len());
                for (index, argument) in args.iter().enumerate() {
                    let field = format!("args[{index}]");
                    let text = self.text(argument, &field)?.ok_or_else(|| wrong(&field))?;
                    replaced.push(self.variables.replace(&text, &field, own, &mut self.notes)?.into());
                }
                self.entry.insert("args".to_owned(), Value::Array(replaced));
            }
            Some(_) => return Err(wrong("args")),
        }
        self.texts("env", env)
    }

    fn remote(&mut self, server: &Map<String, Value>) -> Result<(), SkipReason> {
        let field = ADDRESSES.into_iter().find(|field| present(server, field));
        let field = field.ok_or(SkipReason::Missing { field: "url" })?;
        let address = server.get(field).and_then(Value::as_str).ok_or_else(|| wrong(field))?;
        self.used.extend([field, "headers"]);
        let address = self.variables.replace(address, field, None, &mut self.notes)?;
        self.entry.insert("endpoint".to_owned(), address.into());
        self.texts("headers", server.get("headers"))
    }

    /// An object of texts.
    fn texts(&mut self, field: &str, members: Option<&Value>) -> Result<(), SkipReason> {
        let members = match members {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(members)) => members,
            Some(_) => return Err(wrong(field)),
        };
        let mut replaced = Map::new();
        for (name, value) in members {
            let field = format!("{field}.{}", shown(name));
            match self.text(value, &field)? {
                Some(text) => {
                    let text = self.variables.replace_in_value(&text, &field, &mut self.notes)?;
                    replaced.insert(name.clone(), text.into());
                }
                None => add(&mut self.notes, Note::LeftOut { field }),
            }
        }
        self.entry.insert(field.to_owned(), Value::Object(replaced));
        Ok(())
    }

    /// A value as a text; none if it is `null`.
    fn text(&mut self, value: &Value, field: &str) -> Result<Option<String>, SkipReason> {
        match value {
            Value::Null => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Bool(_) | Value::Number(_) => {
                add(&mut self.notes, Note::MadeText { field: field.to_owned() });
                Ok(Some(value.to_string()))
            }
            Value::Array(_) | Value::Object(_) => Err(wrong(field)),
        }
    }

    /// What else the server says.
    fn rest(&mut self, server: &Map<String, Value>) {
        for (name, value) in server {
            if MEANINGFUL.contains(&name.as_str()) {
                // What the registry does not keep from any file is not worth a word.
                if !self.used.contains(&name.as_str()) && name != "rev" && !value.is_null() {
                    add(&mut self.notes, Note::LeftOut { field: name.clone() });
                }
                continue;
            }
            if NOT_FOLLOWED.contains(&name.as_str()) {
                add(&mut self.notes, Note::NotFollowed { field: name.clone() });
            }
            if value.as_str().is_some_and(|text| text.contains("${")) {
                add(&mut self.notes, Note::NotReplaced { field: shown(name) });
            }
            self.entry.insert(name.clone(), value.clone());
        }
        if is_disabled(server) {
            add(&mut self.notes, Note::Disabled);
        }
    }
}

/// Whether an entry says that it is switched off.
pub(super) fn is_disabled(entry: &Map<String, Value>) -> bool {
    entry.get("disabled") == Some(&Value::Bool(true)) || entry.get("enabled") == Some(&Value::Bool(false))
}

/// The registry's transport for what files call it.
///
/// # Errors
/// [`SkipReason::UnknownTransport`].
pub(super) fn transport_named(text: &str) -> Result<&'static str, SkipReason> {
    match text.to_ascii_lowercase().replace(['-', '_'], "").as_str() {
        "http" | "streamablehttp" => Ok("http"),
        "sse" => Ok("sse"),
        "stdio" => Ok("stdio"),
        "ws" | "websocket" => Ok("ws"),
        _ => Err(SkipReason::UnknownTransport),
    }
}

fn present(server: &Map<String, Value>, field: &str) -> bool {
    server.get(field).is_some_and(|value| !value.is_null())
}

fn wrong(field: &str) -> SkipReason {
    SkipReason::WrongKind { field: shown(field) }
}
