//! Clients in other languages list and call through the gateway: the official inspector and the Python SDK, in both
//! eras. `tests/interop/install` installs them. Where they are missing a test is skipped with a printed reason, unless
//! `CORTEX_REQUIRE_INTEROP=1`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod interop_sessions;
mod processes;

use std::path::Path;

use cortex_mcp::demo::mcp_server::{AnswerStyle, ServerOptions};
use processes::interop::{self, installed};
use processes::{Finished, Installation, Serving, World, wait_for_tools};
use serde_json::{Value, json};

/// A gateway before a legacy server that answers with event streams and a modern one that answers with JSON.
fn gateway() -> (World, Installation, Serving) {
    let world = World::with(2, |number| ServerOptions {
        answers: if number == 1 { AnswerStyle::Sse } else { AnswerStyle::Json },
        page_size: Some(2),
        ..ServerOptions::default()
    });
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 6);
    (world, installation, gateway)
}

/// The names that every client must see, in this order.
const NAMES: [&str; 6] = [
    "server-01__echo",
    "server-01__add",
    "server-01__uppercase",
    "server-02__echo",
    "server-02__add",
    "server-02__uppercase",
];

/// Runs a client to its end, in a home of its own.
fn run(installation: &Installation, program: &Path, arguments: &[&str]) -> Finished {
    interop::run(&installation.folder().join("client-home"), program, arguments)
}

fn names(tools: &Value) -> Vec<&str> {
    tools.as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect()
}

#[test]
fn the_official_inspector_lists_and_calls_in_both_eras() {
    let (Some(node), Some(inspector)) = (installed("bin/node"), installed("node_modules/.bin/mcp-inspector")) else {
        return;
    };
    let (world, installation, gateway) = gateway();
    let inspector = inspector.display().to_string();
    let url = gateway.url();
    for era in ["legacy", "modern", "auto"] {
        let common = [inspector.as_str(), "--cli", "--format", "json", "-q", "--protocol-era", era, &url];
        let listed = run(&installation, &node, &[&common[..], &["--method", "tools/list"]].concat());
        assert_eq!(names(&listed.json()["result"]["tools"]), NAMES, "{era}");
        assert_eq!(listed.stderr, "", "{era}: the inspector warns");
        for tool in ["server-01__add", "server-02__add"] {
            let call = ["--method", "tools/call", "--tool-name", tool, "--tool-arg", "a=40", "--tool-arg", "b=2"];
            let called = run(&installation, &node, &[&common[..], &call].concat());
            assert_eq!(called.json()["result"]["structuredContent"], json!({ "sum": 42 }), "{era} {tool}");
            assert_eq!(called.stderr, "", "{era}: the inspector warns");
        }
    }
    assert_eq!(world.upstreams.iter().map(|upstream| upstream.server.counts().calls).collect::<Vec<_>>(), [3, 3]);
}

#[test]
fn the_inspector_finds_no_schema_that_is_not_portable() {
    let (Some(node), Some(inspector)) = (installed("bin/node"), installed("node_modules/.bin/mcp-inspector")) else {
        return;
    };
    let (_world, installation, gateway) = gateway();
    let arguments = ["--cli", "--format", "json", "-q", "--strict", &gateway.url(), "--method", "tools/list"];
    let listed = run(&installation, &node, &[&[inspector.display().to_string().as_str()], &arguments[..]].concat());
    assert_eq!(names(&listed.json()["result"]["tools"]), NAMES);
}

/// What the scripts of the Python SDKs say that they saw, for an order to add with this tool.
fn added(installation: &Installation, python: &Path, script: &str, url: &str, mode: &str, tool: &str) -> Value {
    let calls = [json!({"name": tool, "arguments": {"a": 40, "b": 2}})];
    let order = json!({ "server": { "url": url }, "mode": mode, "calls": calls });
    let script = format!("{}/tests/interop/{script}", env!("CARGO_MANIFEST_DIR"));
    let said = run(installation, python, &[&script, &order.to_string()]);
    assert_eq!(said.stderr, "", "{mode}: the SDK warns");
    let saw = said.json();
    let called = &saw["called"][0];
    json!({
        "protocol": saw["protocol"], "tools": names(&saw["tools"]),
        "structured": called["structuredContent"], "isError": called["isError"],
    })
}

#[test]
fn the_python_sdk_lists_and_calls_in_both_eras() {
    let Some(python) = installed("python/bin/python") else { return };
    let (_world, installation, gateway) = gateway();
    for (mode, protocol) in [("legacy", "2025-11-25"), ("auto", "2026-07-28"), ("modern", "2026-07-28")] {
        for tool in ["server-01__add", "server-02__add"] {
            let said = added(&installation, &python, "client.py", &gateway.url(), mode, tool);
            let expected = json!({
                "protocol": protocol, "tools": NAMES, "structured": { "sum": 42 }, "isError": false,
            });
            assert_eq!(said, expected, "{mode} {tool}");
        }
    }
}

#[test]
fn the_former_python_sdk_lists_and_calls() {
    let Some(python) = installed("python-mcp-1/bin/python") else { return };
    let (_world, installation, gateway) = gateway();
    for tool in ["server-01__add", "server-02__add"] {
        let said = added(&installation, &python, "client_mcp_1.py", &gateway.url(), "legacy", tool);
        let expected =
            json!({ "protocol": "2025-11-25", "tools": NAMES, "structured": { "sum": 42 }, "isError": false });
        assert_eq!(said, expected, "{tool}");
    }
}
