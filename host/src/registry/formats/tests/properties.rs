//! What holds for every file and every entry.

use std::collections::HashSet;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::registry::RegistryEntry;
use crate::registry::formats::{ExportFormat, ImportFormat, ImportedReferences, Secrets, export, import};

/// Stands wherever a value may stand, and nowhere in what is said.
const CANARY: &str = "c4n4ry";

fn unset(_: &str) -> Option<String> {
    None
}

/// Texts that no client takes for a reference.
fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9 =/.:@{}\"\\\\é-]{0,12}"
}

fn texts(name: &'static str) -> impl Strategy<Value = Value> {
    prop::collection::btree_map(name, "[a-zA-Z0-9 =/.-]{0,8}", 0..3).prop_map(|members| json!(members))
}

fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    let value = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        text().prop_map(Value::from),
        prop::collection::vec(text(), 0..3).prop_map(Value::from),
        texts("[a-z]{1,3}").prop_map(|inner| json!({ "inner": inner }))
    ];
    prop::collection::vec(("x[a-zA-Z_ é]{0,6}", value), 0..3).prop_map(|members| members.into_iter().collect())
}

fn entry() -> impl Strategy<Value = Map<String, Value>> {
    let program = ("[a-z/]{1,8}", prop::collection::vec(text(), 0..4), texts("[A-Z_]{1,5}"))
        .prop_map(|(command, args, env)| json!({"transport": "stdio", "command": command, "args": args, "env": env}));
    let remote = ("(http|sse|ws)", "[a-z]{1,6}", "[a-z0-9/]{0,6}", texts("x-[a-z]{1,4}")).prop_map(
        |(transport, host, path, headers)| {
            let scheme = if transport == "ws" { "wss" } else { "https" };
            json!({"transport": transport, "endpoint": format!("{scheme}://{host}/{path}"), "headers": headers})
        },
    );
    ("[a-zA-Z0-9][a-zA-Z0-9._-]{0,10}", prop_oneof![program, remote], unknown()).prop_map(|(name, how, unknown)| {
        let mut entry = Map::new();
        entry.insert("name".to_owned(), name.into());
        entry.extend(how.as_object().cloned().unwrap_or_default());
        entry.extend(unknown);
        entry
    })
}

fn entries() -> impl Strategy<Value = Vec<Map<String, Value>>> {
    prop::collection::vec(entry(), 0..5).prop_map(|entries| {
        let mut names = HashSet::new();
        entries.into_iter().filter(|entry| names.insert(entry["name"].clone())).collect()
    })
}

/// Text like a file's, from its pieces.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("{"),
        Just("}"),
        Just("["),
        Just("]"),
        Just(","),
        Just(":"),
        Just("\""),
        Just("\\"),
        Just("//"),
        Just("/*"),
        Just("*/"),
        Just("\n"),
        Just("\r"),
        Just("\"mcpServers\":{"),
        Just("\"servers\":"),
        Just("\"command\":\"a\""),
        Just("\"url\":\"https://a\""),
        Just("\"args\":[\"${A}\"]"),
        Just("${"),
        Just("${A:-"),
        Just("é"),
        Just("\u{feff}"),
        Just("\\u00"),
        Just("\\ud800"),
        Just("1e9"),
        Just("-"),
        Just("null"),
        Just("\"remotes\":["),
        Just("\"name\":\"n\""),
        Just("\"type\":\"sse\""),
        Just("\u{2028}"),
        Just("'"),
        Just("\0"),
    ];
    prop::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// Any JSON value, with members that importers look for and the canary as every text.
fn tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!(CANARY)),
        Just(json!(format!("https://u:{CANARY}@a"))),
        Just(json!(format!("https://a/?k={CANARY}"))),
        Just(json!(format!("${{A:-{CANARY}}}"))),
        Just(json!(format!("{{{CANARY}"))),
        Just(json!("stdio")),
        Just(json!("http")),
        Just(json!("npm")),
        Just(json!(null)),
        Just(json!(true)),
        Just(json!(7)),
        Just(json!("${SECRET}")),
        Just(json!("{t}")),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        let name = prop_oneof![
            Just("mcpServers"),
            Just("servers"),
            Just("server"),
            Just("command"),
            Just("args"),
            Just("env"),
            Just("url"),
            Just("headers"),
            Just("type"),
            Just("transport"),
            Just("endpoint"),
            Just("packages"),
            Just("remotes"),
            Just("registryType"),
            Just("identifier"),
            Just("runtimeArguments"),
            Just("environmentVariables"),
            Just("value"),
            Just("default"),
            Just("variables"),
            Just("disabled"),
            Just("mcp"),
            Just("K"),
            Just("version"),
            Just("cwd"),
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((name, inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
            )),
        ]
    })
}

/// A file of one of the shapes around a tree.
fn file() -> impl Strategy<Value = Value> {
    (tree(), tree(), 0..4).prop_map(|(left, right, shape)| match shape {
        0 => json!({"mcpServers": {"a": left, "b": right}}),
        1 => json!({"servers": [left, right]}),
        2 => json!({"name": "a.b/c", "remotes": [left], "packages": [right]}),
        _ => json!({"servers": {"a": {"command": left, "args": [right], "env": {"K": CANARY}}}}),
    })
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        text in pieces(),
        any in ".{0,40}",
    ) {
        for bytes in [bytes.as_slice(), text.as_bytes(), any.as_bytes()] {
            for format in ImportFormat::ALL.map(Some).into_iter().chain([None]) {
                let _ = import(bytes, format, ImportedReferences::Refused, &unset);
            }
        }
    }

    #[test]
    fn what_is_proposed_is_what_the_registry_takes(file in file()) {
        let Ok(preview) = import(file.to_string().as_bytes(), None, ImportedReferences::Refused, &unset) else { return Ok(()) };
        let mut names = HashSet::new();
        for proposed in &preview.servers {
            let read = RegistryEntry::parse(&Value::Object(proposed.entry.clone()).to_string());
            prop_assert_eq!(read.map(|entry| entry.name), Ok(proposed.name.clone()));
            prop_assert!(names.insert(proposed.name.clone()));
            prop_assert!(!proposed.entry.contains_key("rev"));
        }
    }

    #[test]
    fn no_value_is_ever_told(file in file(), cut in 0_usize..400) {
        let text = file.to_string();
        let secret = |name: &str| (name == "SECRET").then(|| CANARY.to_owned());
        let broken = text.get(..cut.min(text.len())).unwrap_or_default();
        for bytes in [text.as_bytes(), broken.as_bytes()] {
            match import(bytes, None, ImportedReferences::Refused, &secret) {
                Ok(preview) => {
                    let mut told = format!("{preview:?}");
                    for skipped in &preview.skipped {
                        told += &format!("{skipped} {}", skipped.reason.code());
                    }
                    for note in preview.servers.iter().flat_map(|server| &server.notes).chain(&preview.notes) {
                        told += &format!("{note} {}", note.code());
                    }
                    let entries: Vec<_> = preview.servers.into_iter().map(|server| server.entry).collect();
                    for format in ExportFormat::ALL {
                        for secrets in [Secrets::Hidden, Secrets::Revealed] {
                            let exported = export(&entries, format, secrets);
                            told += &format!("{exported:?}");
                            for note in &exported.notes {
                                told += &note.to_string();
                            }
                        }
                    }
                    prop_assert!(!told.contains(CANARY), "{}", told);
                }
                Err(error) => {
                    let told = format!("{error} {error:?}");
                    prop_assert!(!told.contains(CANARY), "{}", told);
                }
            }
        }
    }

    #[test]
    fn what_is_exported_is_imported_again(entries in entries()) {
        for format in ExportFormat::ALL {
            let exported = export(&entries, format, Secrets::Revealed);
            if format == ExportFormat::Codex {
                let read: Result<Value, _> = toml::from_str(&exported.text);
                let servers = read.ok().and_then(|read| Some(read.get("mcp_servers")?.as_object()?.len()));
                prop_assert_eq!(servers, Some(entries.len()));
                continue;
            }
            let asked = (format == ExportFormat::Registry).then_some(ImportFormat::Registry);
            let preview = import(exported.text.as_bytes(), asked, ImportedReferences::Refused, &unset).unwrap();
            prop_assert_eq!(&preview.skipped, &[], "{}", format);
            prop_assert_eq!(preview.servers.len(), entries.len());
            for (proposed, entry) in preview.servers.iter().zip(&entries) {
                let is_web = matches!(entry["transport"].as_str(), Some("http" | "sse"));
                let bridged = is_web && format == ExportFormat::ClaudeDesktop;
                if bridged {
                    prop_assert_eq!(&proposed.entry["transport"], "stdio");
                } else {
                    prop_assert_eq!(&proposed.entry, entry, "{}", format);
                }
            }
        }
    }

    #[test]
    fn hidden_files_hold_no_value_of_headers_or_environment(entries in entries()) {
        let mut entries = entries;
        for entry in &mut entries {
            for field in ["headers", "env"] {
                if let Some(Value::Object(members)) = entry.get_mut(field) {
                    members.values_mut().for_each(|value| *value = CANARY.into());
                }
            }
        }
        for format in ExportFormat::ALL {
            let exported = export(&entries, format, Secrets::Hidden);
            prop_assert!(!exported.text.contains(CANARY), "{}", format);
        }
    }
}
