//! Documents of the official registry, and what they become.

use serde_json::{Value, json};

use super::clients::preview;
use crate::registry::formats::{ImportFormat, ImportedReferences, Note, SkipReason, import};

fn server(parts: &Value) -> Value {
    let mut server = json!({"$schema": "https://static.modelcontextprotocol.io/schemas/2025-12-11/server.schema.json",
        "name": "io.github.user/weather", "description": "Weather", "version": "1.0.2"});
    server.as_object_mut().unwrap().extend(parts.as_object().unwrap().clone());
    server
}

fn package(kind: &str, identifier: &str, more: &Value) -> Value {
    let mut package =
        json!({"registryType": kind, "identifier": identifier, "version": "1.0.2", "transport": {"type": "stdio"}});
    package.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server(&json!({"packages": [package]}))
}

fn set(name: &str) -> Option<String> {
    match name {
        "X_API_KEY" => Some("k-1".to_owned()),
        "TENANT" => Some("acme".to_owned()),
        "WORKDIR" => Some("/w".to_owned()),
        _ => None,
    }
}

/// The one entry of a document, without what is kept for people, and its notes.
fn entry(document: &Value) -> (Value, Vec<Note>) {
    let mut preview = import(document.to_string().as_bytes(), None, ImportedReferences::Refused, &set).unwrap();
    assert_eq!((preview.format, preview.skipped.len()), (ImportFormat::ServerJson, 0), "{:?}", preview.skipped);
    let mut server = preview.servers.remove(0);
    for field in ["name", "registryName", "description", "version"] {
        server.entry.shift_remove(field);
    }
    (
        Value::Object(server.entry),
        server.notes.into_iter().filter(|note| !matches!(note, Note::Renamed { .. })).collect(),
    )
}

fn reason(document: &Value) -> SkipReason {
    let mut preview = import(document.to_string().as_bytes(), None, ImportedReferences::Refused, &set).unwrap();
    assert!(preview.servers.is_empty());
    preview.skipped.remove(0).reason
}

#[test]
fn a_remote_is_preferred_and_its_variables_are_filled_in() {
    let document = server(&json!({
        "remotes": [
            {"type": "sse", "url": "https://a.example/sse"},
            {"type": "streamable-http", "url": "https://{tenant}.example/{region}/mcp",
             "variables": {"region": {"default": "eu"}},
             "headers": [{"name": "X-Api-Key", "isRequired": true, "isSecret": true},
                {"name": "X-Plan", "value": "plan={plan}", "variables": {"plan": {"default": "free"}}},
                {"name": "X-Optional"}]}],
        "packages": [{"registryType": "npm", "identifier": "x"}]
    }));
    let (entry, notes) = entry(&document);
    let expected = json!({"transport": "http", "endpoint": "https://acme.example/eu/mcp",
        "headers": {"X-Api-Key": "k-1", "X-Plan": "plan=free"}});
    assert_eq!((entry, notes), (expected, vec![Note::Optional { name: "X_OPTIONAL".to_owned() }]));
    let sse = super::official::entry(&server(&json!({"remotes": [{"type": "sse", "url": "https://a.example/sse"}]}))).0;
    assert_eq!(sse, json!({"transport": "sse", "endpoint": "https://a.example/sse"}));
}

#[test]
fn packages_are_started_by_their_runners() {
    for (kind, identifier, more, command, args) in [
        ("npm", "@u/weather", json!({}), "npx", json!(["-y", "@u/weather@1.0.2"])),
        (
            "npm",
            "w",
            json!({"runtimeHint": "npx", "runtimeArguments": [{"type": "positional", "value": "-y"}],
            "packageArguments": [{"type": "positional", "value": "start"},
                {"type": "named", "name": "--port", "default": "80"},
                {"type": "named", "name": "--verbose", "format": "boolean", "value": "true"}]}),
            "npx",
            json!(["-y", "w@1.0.2", "start", "--port", "80", "--verbose"]),
        ),
        ("pypi", "weather", json!({}), "uvx", json!(["weather@1.0.2"])),
        (
            "oci",
            "docker.io/u/w",
            json!({"runtimeArguments": [
                {"type": "named", "name": "-v", "value": "{workdir}:/w",
                 "variables": {"workdir": {"isRequired": true}}}]}),
            "docker",
            json!(["run", "-i", "--rm", "-v", "/w:/w", "docker.io/u/w:1.0.2"]),
        ),
        (
            "oci",
            "localhost:5000/w@sha256:00",
            json!({"runtimeHint": "podman"}),
            "podman",
            json!(["run", "-i", "--rm", "localhost:5000/w@sha256:00"]),
        ),
        (
            "oci",
            "u/w:2",
            json!({"runtimeArguments": [{"type": "positional", "value": "run"}, {"value": "-i"}]}),
            "docker",
            json!(["run", "-i", "u/w:2"]),
        ),
        (
            "nuget",
            "W.Mcp",
            json!({"packageArguments": [{"type": "positional", "value": "a b; $(c)"}]}),
            "dnx",
            json!(["W.Mcp@1.0.2", "--yes", "--", "a b; $(c)"]),
        ),
    ] {
        let (entry, notes) = entry(&package(kind, identifier, &more));
        assert_eq!(entry, json!({"transport": "stdio", "command": command, "args": args}), "{kind} {identifier}");
        assert_eq!(notes, [], "{kind} {identifier}");
    }
}

#[test]
fn environment_variables_are_fixed_given_or_default_and_values_stay_off_the_command_line() {
    let variables = json!({"environmentVariables": [
        {"name": "X_API_KEY", "isRequired": true, "isSecret": true}, {"name": "MODE", "value": "fast"},
        {"name": "LEVEL", "default": "info"}, {"name": "EXTRA"}]});
    let env = json!({"X_API_KEY": "k-1", "MODE": "fast", "LEVEL": "info"});
    let missing = vec![Note::Optional { name: "EXTRA".to_owned() }];
    let (npm, notes) = entry(&package("npm", "w", &variables));
    assert_eq!((&npm["env"], notes), (&env, missing));
    let oci = entry(&package("oci", "u/w", &variables)).0;
    assert_eq!(oci["env"], env);
    let args = json!(["run", "-i", "--rm", "-e", "X_API_KEY", "-e", "MODE", "-e", "LEVEL", "u/w:1.0.2"]);
    assert_eq!(oci["args"], args);
}

#[test]
fn what_is_required_and_not_given_is_named() {
    let needed = |name: &str| SkipReason::Variable { name: name.to_owned() };
    let remote = |remote: Value| server(&json!({ "remotes": [remote] }));
    for (document, name) in [
        (remote(json!({"type": "streamable-http", "url": "https://{host}/mcp"})), "HOST"),
        (
            remote(json!({"type": "sse", "url": "https://a", "headers": [{"name": "X-Token", "isRequired": true}]})),
            "X_TOKEN",
        ),
        (
            remote(json!({"type": "sse", "url": "https://a", "headers": [
                    {"name": "Authorization", "value": "Bearer {token}",
            "variables": {"token": {"isRequired": true}}}]})),
            "TOKEN",
        ),
        (package("npm", "w", &json!({"environmentVariables": [{"name": "KEY", "isRequired": true}]})), "KEY"),
        (
            package(
                "npm",
                "w",
                &json!({"packageArguments": [{"type": "named", "name": "--data-dir", "isRequired": true}]}),
            ),
            "DATA_DIR",
        ),
        (
            package(
                "npm",
                "w",
                &json!({"packageArguments": [{"type": "positional", "valueHint": "file", "isRequired": true}]}),
            ),
            "FILE",
        ),
    ] {
        assert_eq!(reason(&document), needed(name));
    }
}

#[test]
fn what_no_runner_starts_is_skipped_and_a_document_names_no_command() {
    assert_eq!(reason(&server(&json!({"packages": []}))), SkipReason::NothingToRun);
    assert_eq!(reason(&package("mcpb", "https://a/x.mcpb", &json!({}))), SkipReason::NothingToRun);
    let http = json!({"transport": {"type": "streamable-http", "url": "http://localhost:1/mcp"}});
    assert_eq!(reason(&package("npm", "w", &http)), SkipReason::NothingToRun);
    let (entry, notes) = entry(&package("npm", "w", &json!({"runtimeHint": "/tmp/evil"})));
    assert_eq!((entry["command"].as_str(), notes), (Some("npx"), vec![Note::Runtime { used: "npx" }]));
    let option = SkipReason::WrongKind { field: "identifier".to_owned() };
    assert_eq!(reason(&package("npm", "--eval=x", &json!({}))), option);
    let kinds = server(&json!({"packages": [{"registryType": "mcpb", "identifier": "x"},
        {"registryType": "pypi", "identifier": "w"}]}));
    assert_eq!(super::official::entry(&kinds).0["command"], json!("uvx"));
}

#[test]
fn the_apis_wrapper_and_lists_are_read() {
    let official = |more: Value| json!({ "io.modelcontextprotocol.registry/official": more });
    let wrapped = |name: &str, more: Value| {
        let mut server = package("npm", "w", &json!({}));
        server["name"] = json!(name);
        json!({"server": server, "_meta": official(more)})
    };
    let one = preview(&wrapped("a.b/c", json!({"status": "deprecated", "isLatest": false})).to_string());
    assert_eq!(one.servers[0].name, "a.b-c");
    assert_eq!(one.servers[0].notes, [Note::Renamed { from: "a.b/c".to_owned() }, Note::Deprecated]);
    assert_eq!(one.servers[0].entry["registryName"], json!("a.b/c"));
    assert_eq!(one.servers[0].entry["description"], json!("Weather"));
    let list = json!({"servers": [wrapped("a.b/c", json!({"status": "active", "isLatest": true})),
        wrapped("a.b/d", json!({"status": "deleted"})), wrapped("a.b/c", json!({"isLatest": false}))],
        "metadata": {"count": 3, "nextCursor": "a.b/d:1"}});
    let list = preview(&list.to_string());
    assert_eq!((list.format, list.servers.len()), (ImportFormat::ServerJson, 1));
    let reasons: Vec<_> = list.skipped.into_iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::Deleted, SkipReason::Superseded]);
    assert_eq!(list.notes, [Note::MorePages]);
}
