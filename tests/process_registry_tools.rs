//! The registry of a gateway that ends, by the real binary: asked to end, it writes everything; killed, it loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;

use std::path::PathBuf;

use processes::{Installation, PATIENCE, Serving, until};
use serde_json::{Value, json};

/// A gateway whose registry has tools.
fn with_tools() -> Installation {
    let installation = Installation::new();
    installation.file("home/mcp/gateway.toml", "[registry]\ntools = true\nbatch-ms = 600000\n");
    installation
}

fn register(gateway: &Serving, name: &str) {
    let entry = json!({ "name": name, "transport": "http", "endpoint": "http://127.0.0.1:9/mcp" });
    let answer = gateway.client().call("registry_register", &entry);
    assert_eq!(answer["result"]["structuredContent"]["status"], "created", "{answer}");
}

fn folder(installation: &Installation) -> PathBuf {
    installation.folder().join("home/mcp")
}

fn journals(installation: &Installation) -> Vec<String> {
    let entries = std::fs::read_dir(folder(installation)).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".journal-")).collect()
}

/// The names in the file; none if there is no file.
fn written(installation: &Installation) -> Vec<String> {
    let Ok(text) = std::fs::read_to_string(folder(installation).join("servers.json")) else { return Vec::new() };
    let document: Value = serde_json::from_str(&text).unwrap();
    document["servers"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn asked_to_end_a_gateway_writes_what_was_registered_and_leaves_no_journal() {
    let installation = with_tools();
    let gateway = installation.serve();
    register(&gateway, "one");
    assert!(written(&installation).is_empty(), "it is gathered, and durable in the journal");
    let finished = gateway.stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!((written(&installation), journals(&installation)), (vec!["one".to_owned()], Vec::new()));
}

#[test]
fn what_was_acknowledged_by_a_gateway_that_was_killed_is_known_to_the_next_one() {
    let installation = with_tools();
    let gateway = installation.serve();
    register(&gateway, "one");
    gateway.kill();
    assert_eq!(journals(&installation).is_empty(), written(&installation) == ["one"]);
    let gateway = installation.serve();
    let answer = gateway.client().call("registry_get", &json!({ "name": "one" }));
    assert_eq!(answer["result"]["structuredContent"]["server"]["name"], "one", "{answer}");
    register(&gateway, "two");
    gateway.stop();
    assert_eq!((written(&installation), journals(&installation)), (vec!["one".into(), "two".into()], Vec::new()));
}

#[test]
fn two_gateways_and_an_editor_share_one_registry() {
    let installation = with_tools();
    let (one, other) = (installation.serve(), installation.serve());
    register(&one, "first");
    let listed = |gateway: &Serving| {
        let answer = gateway.client().call("registry_list", &json!({}));
        let servers = answer["result"]["structuredContent"]["servers"].as_array().unwrap().clone();
        servers.iter().map(|one| one["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(listed(&other), ["first"], "acknowledged by one, it is told by the other at once");
    until("the other connects to it as well", PATIENCE, || {
        let status = other.client().status();
        status["connectors"].as_array().unwrap().iter().any(|one| one["id"] == "first").then_some(())
    });
    let edited =
        json!({ "servers": [{ "name": "second", "transport": "http", "endpoint": "http://127.0.0.1:9/mcp" }] });
    let temporary = installation.file("home/mcp/edited", edited.to_string());
    std::fs::rename(temporary, folder(&installation).join("servers.json")).unwrap();
    for gateway in [&one, &other] {
        until("the edit is known", PATIENCE, || listed(gateway).contains(&"second".to_owned()).then_some(()));
    }
    let told = installation.run(&["status", "--url", &one.url()]).stdout;
    assert!(told.lines().any(|line| line.starts_with("registry ") && line.contains("entries, writable")), "{told}");
    for gateway in [one, other] {
        assert_eq!(gateway.stop().code, Some(0));
    }
    assert!(written(&installation).contains(&"second".to_owned()));
    assert_eq!(journals(&installation), Vec::<String>::new());
}
