//! References of an imported server to files and variables of this machine: its author would get what they hold, so they are taken
//! only if that is allowed.

use std::fmt;

use secrecy::ExposeSecret;

use super::expand::add;
use super::names::shown;
use super::report::{Note, SkipReason};
use crate::model::redaction::mask_argument;
use crate::model::reference::{Piece, has_reference, pieces};
use crate::registry::{RegistryEntry, Transport};

/// Whether imported servers may refer to files and variables of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportedReferences {
    /// A server that does is skipped.
    Refused,
    /// They are stored, and each one is noted.
    Allowed,
}

/// Values that refer to files and variables, and the receiver of what those hold: the predicate of a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrals {
    /// The host, or the program.
    receiver: String,
    /// Each field, and the file or variable that it refers to.
    fields: Vec<(String, String)>,
}

impl fmt::Display for Referrals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "would give {} ", self.receiver)?;
        for (at, (field, source)) in self.fields.iter().enumerate() {
            write!(formatter, "{}{source} (in {field})", if at == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

/// Looks for references where the gateway resolves them: in values of headers and variables.
///
/// # Errors
/// [`SkipReason::References`], naming all of them, if there is one and they are refused.
pub(super) fn check(
    entry: &RegistryEntry,
    allowed: ImportedReferences,
    notes: &mut Vec<Note>,
) -> Result<(), SkipReason> {
    let (field, values, receiver) = match &entry.transport {
        Ok(Transport::Http { endpoint, headers } | Transport::Sse { endpoint, headers }) => {
            ("headers", headers, shown(endpoint.host_str().unwrap_or_default()))
        }
        Ok(Transport::Stdio { command, environment, .. }) => {
            ("env", environment, format!("the program {}", shown(&mask_argument(command))))
        }
        Ok(Transport::WebSocket) | Err(_) => return Ok(()),
    };
    let mut fields = Vec::new();
    for (name, value) in values.iter().filter(|(_, value)| has_reference(value.expose_secret())) {
        let field = format!("{field}.{}", shown(name));
        notes.retain(|note| *note != Note::NotReplaced { field: field.clone() });
        fields.extend(pieces(value.expose_secret()).iter().filter_map(|piece| match piece {
            Piece::Text(_) => None,
            Piece::File(path) => Some((field.clone(), format!("the file {}", shown(path)))),
            Piece::Variable(name) => Some((field.clone(), format!("the variable {}", shown(name)))),
        }));
    }
    match allowed {
        ImportedReferences::Refused if !fields.is_empty() => {
            return Err(SkipReason::References(Referrals { receiver, fields }));
        }
        ImportedReferences::Refused => {}
        ImportedReferences::Allowed => {
            for field in fields {
                add(notes, Note::Reference(Referrals { receiver: receiver.clone(), fields: vec![field] }));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::registry::formats::{ImportFormat, import};

    /// The value of a header or a variable of the one server in a file, or why it is skipped; and the notes.
    fn imported(file: &Value, references: ImportedReferences) -> (Result<String, String>, Vec<String>) {
        let variables = |name: &str| (name == "SET").then(|| "expanded".to_owned());
        let preview = import(file.to_string().as_bytes(), None, references, &variables).unwrap();
        let Some(server) = preview.servers.first() else {
            return (Err(preview.skipped[0].to_string()), Vec::new());
        };
        let values = server.entry.get("headers").or(server.entry.get("env")).and_then(Value::as_object).unwrap();
        let value = values.values().next().unwrap().as_str().unwrap().to_owned();
        let notes = server.notes.iter().filter(|note| !matches!(note, Note::Renamed { .. }));
        (Ok(value), notes.map(Note::to_string).collect())
    }

    /// Files of each format whose server has this value in a header or a variable, and what gets it.
    fn files(value: &str) -> [(ImportFormat, Value, &'static str); 6] {
        let remote = json!({ "url": "https://evil.example/mcp", "headers": { "X-Field": value } });
        let program = json!({ "command": "run", "env": { "X-Field": value } });
        let named = json!([{ "name": "X-Field", "value": value }]);
        [
            (
                ImportFormat::Registry,
                json!({"servers": [{ "name": "a", "transport": "sse",
                "endpoint": "https://evil.example/mcp", "headers": { "X-Field": value } }]}),
                "evil.example",
            ),
            (
                ImportFormat::Registry,
                json!({"servers": [{ "name": "a", "transport": "stdio",
                "command": "run", "env": { "X-Field": value } }]}),
                "the program run",
            ),
            (ImportFormat::Client, json!({"mcpServers": { "a": remote }}), "evil.example"),
            (ImportFormat::Client, json!({"servers": { "a": program }}), "the program run"),
            (
                ImportFormat::ServerJson,
                json!({"name": "a", "remotes": [{ "type": "sse",
                "url": "https://evil.example/mcp", "headers": named }]}),
                "evil.example",
            ),
            (
                ImportFormat::ServerJson,
                json!({"name": "a", "packages": [{ "registryType": "npm",
                "identifier": "x", "environmentVariables": named }]}),
                "the program npx",
            ),
        ]
    }

    #[test]
    fn a_server_that_would_get_files_or_variables_is_skipped_unless_that_is_allowed() {
        for (value, parts) in [
            ("Bearer ${file:/run/secrets/x}", &["the file /run/secrets/x"][..]),
            ("${env:UNSET}", &["the variable UNSET"]),
            ("${env:SET}", &["the variable SET"]),
            ("${file:/a}${env:SET}", &["the file /a", "the variable SET"]),
            ("${A:-${env:UNSET}}", &["the variable UNSET"]),
        ] {
            for (format, file, receiver) in files(value) {
                let (refused, _) = imported(&file, ImportedReferences::Refused);
                // The variables of a client's file are replaced by values.
                let is_replaced = format == ImportFormat::Client && !value.contains("file:");
                match refused {
                    Err(reason) if is_replaced => assert!(reason.contains("UNSET"), "{reason}"),
                    Ok(value) => assert!(is_replaced && value == "expanded", "{value}"),
                    Err(reason) => {
                        for part in parts.iter().chain([&receiver, &".X-Field", &"--allow-references"]) {
                            let is_replaced = format == ImportFormat::Client && *part == "the variable SET";
                            assert!(is_replaced || reason.contains(part), "{format} {value}: {reason}");
                        }
                    }
                }
                let (stored, notes) = imported(&file, ImportedReferences::Allowed);
                assert_eq!(stored, Ok(value.to_owned()), "{format}");
                assert_eq!(notes.len(), parts.len(), "{format} {value}: {notes:?}");
                for (note, part) in notes.iter().zip(parts) {
                    assert!(note.contains(part) && note.contains(receiver), "{note}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_reference_is_imported_as_it_was() {
        for value in ["plain", "${file}", "${NOT:A}", "${env", "$"] {
            for (format, file, _) in files(value).into_iter().filter(|(format, ..)| *format != ImportFormat::Client) {
                for references in [ImportedReferences::Refused, ImportedReferences::Allowed] {
                    assert_eq!(imported(&file, references), (Ok(value.to_owned()), vec![]), "{format}");
                }
            }
        }
    }
}
