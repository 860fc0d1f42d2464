//! The command line as people and scripts see it: results on stdout, logs on stderr, exit codes, `--json`, help.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;

use cortex_mcp::model::Digest;
use processes::{Finished, Installation, KEY, World, wait_for_tools};
use serde::Deserialize;
use serde_json::{Value, json};

/// Text for people: something, and no codes for a terminal, since none reads it.
#[track_caller]
fn readable(finished: &Finished, code: i32) -> &str {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    assert!(!finished.stdout.is_empty() && !finished.stdout.contains('\x1b'), "{finished:?}");
    assert!(!finished.stderr.contains('\x1b'), "{finished:?}");
    &finished.stdout
}

/// One JSON value on stdout, and this exit code.
#[track_caller]
fn parsed(finished: &Finished, code: i32) -> Value {
    assert_eq!(finished.code, Some(code), "{finished:?}");
    finished.json()
}

#[test]
fn every_command_helps_with_examples() {
    let installation = Installation::new();
    for command in [
        "",
        "demo",
        "serve",
        "sync",
        "tools",
        "tools approve",
        "token",
        "call",
        "status",
        "map",
        "map sign",
        "map verify",
        "map show",
        "policy",
        "policy inspect",
        "policy export",
        "policy wit",
        "policy stack",
    ] {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let finished = installation.run(&arguments);
        let text = readable(&finished, 0);
        let examples = text.split_once("Examples:").unwrap_or_else(|| panic!("{command}: {text}")).1;
        assert!(examples.contains(&format!("cortex-mcp {command}")), "{command}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{command}: {text}");
    }
}

#[test]
fn wrong_usage_is_told_on_stderr_and_exits_with_2() {
    let installation = Installation::new();
    for arguments in [
        &[][..],
        &["no-such-command"],
        &["serve", "--no-such-flag"],
        &["serve", "--listen", "nowhere"],
        &["call"],
        &["call", "tool", "no-pair"],
        &["call", "tool", "--arguments", "[1]"],
        &["call", "tool", "a=1", "--arguments", "{}"],
        &["demo", "--connectors", "0"],
        &["demo", "--once", "--connectors", "2", "--dead", "2", "--hung", "1"],
        &["map", "verify"],
        &["map", "verify", "any.json", "--at", "yesterday"],
        &["policy"],
        &["tools", "approve"],
        &["tools", "approve", "x"],
        &["tools", "approve", "x", "--digest", "9f86d081"],
        &["tools", "--changed", "--kind", "prompts"],
    ] {
        let finished = installation.run(arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn the_demo_prints_one_object_and_exits_with_0() {
    let finished = Installation::new().run(&[
        "demo",
        "--once",
        "--json",
        "--connectors",
        "4",
        "--tools",
        "5",
        "--latency-ms",
        // Farther than the head start of the modern question.
        "50",
    ]);
    let said = parsed(&finished, 0);
    for (field, expected) in [
        ("connectors", 4),
        ("ready", 4),
        ("failed", 0),
        ("tools", 20),
        ("round_trips", 3),
        ("calls_ok", 4),
        ("calls_failed", 0),
    ] {
        assert_eq!(said[field], expected, "{field} in {said}");
    }
    assert!(said["sync_ms"].is_u64() && said["healthy_ms"].is_u64(), "{said}");
    assert_eq!((said["failures"].clone(), said["policy_digest"].as_str().unwrap().len()), (json!([]), 64));
}

#[test]
fn the_demo_tells_who_failed_and_exits_with_3() {
    let finished = Installation::new().run(&[
        "demo",
        "--once",
        "--json",
        "--connectors",
        "4",
        "--latency-ms",
        "5",
        "--dead",
        "1",
        "--hung",
        "1",
    ]);
    let said = parsed(&finished, 3);
    assert_eq!((&said["connectors"], &said["ready"], &said["failed"]), (&json!(4), &json!(2), &json!(2)), "{said}");
    assert_eq!((&said["calls_ok"], &said["tools"]), (&json!(2), &json!(20)), "{said}");
    let failures: Vec<_> =
        said["failures"].as_array().unwrap().iter().map(|one| (&one["id"], &one["reason"])).collect();
    let expected = [(&json!("server-03"), &json!("refused")), (&json!("server-04"), &json!("timeout"))];
    assert_eq!(failures, expected, "{said}");
}

#[test]
fn the_demo_is_readable_without_a_terminal() {
    let finished = Installation::new().run(&["demo", "--once", "--connectors", "2", "--latency-ms", "1"]);
    let text = readable(&finished, 0);
    assert!(text.contains("2 of 2 connectors ready") && text.contains("server-02"), "{text}");
}

#[test]
fn the_embedded_policy_imports_a_clock_and_a_random_source_and_nothing_else() {
    let installation = Installation::new();
    let said = parsed(&installation.run(&["policy", "inspect", "--json"]), 0);
    let list = |name: &str| -> Vec<String> {
        said[name].as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_owned()).collect()
    };
    for import in list("imports") {
        let (interface, function) = import.split_once('#').unwrap_or((&import, ""));
        let known = match interface {
            "cortex:policy/clock@0.1.0" => ["wall-ms", "boot-ms"].contains(&function),
            "cortex:policy/random@0.1.0" => function == "next",
            "cortex:policy/types@0.1.0" => function.is_empty(),
            _ => false,
        };
        assert!(known, "{import}");
    }
    let exports = list("exports");
    for function in [
        "scheduling@0.1.0#refresh",
        "scheduling@0.1.0#breaker",
        "scheduling@0.1.0#plan",
        "scheduling@0.1.0#concurrency",
        "caching@0.1.0#lookup",
        "caching@0.1.0#advance",
        "registry@0.1.0#stamp",
        "registry@0.1.0#adopt",
        "registry@0.1.0#merge",
        "registry@0.1.0#flush-after",
    ] {
        assert!(exports.contains(&format!("cortex:policy/{function}")), "{function} in {exports:?}");
    }
    let text = installation.run(&["policy", "inspect"]);
    assert!(readable(&text, 0).contains(said["digest"].as_str().unwrap()), "{text:?}");
}

#[test]
fn an_exported_policy_has_the_digest_that_inspect_tells_and_can_be_deployed() {
    let world = World::new(1);
    let installation = world.installation();
    let inspected = parsed(&installation.run(&["policy", "inspect", "--json"]), 0);
    let file = installation.folder().join("exported.wasm").display().to_string();
    let exported = parsed(&installation.run(&["policy", "export", &file, "--json"]), 0);
    let bytes = std::fs::read(&file).unwrap();
    let digest = Digest::of(&bytes).to_string();
    assert_eq!((&inspected["digest"], &inspected["size_bytes"]), (&json!(digest), &json!(bytes.len())));
    assert_eq!(exported["size_bytes"], json!(bytes.len()));
    assert_eq!(parsed(&installation.run(&["policy", "inspect", &file, "--json"]), 0), inspected);

    let gateway = installation.serve_with(&["--listen", "127.0.0.1:0", "--policy", &file]);
    wait_for_tools(&gateway, 3);
    let policy = gateway.client().status()["policy"].clone();
    assert_eq!((&policy["digest"], &policy["faults"]), (&json!(digest), &json!(0)), "{policy}");
}

#[derive(Deserialize)]
struct Vectors {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    key: String,
    document: String,
    verdict: String,
    error: Option<String>,
}

#[test]
fn map_verify_judges_every_vector_as_it_says() {
    let vectors: Vectors = serde_json::from_str(include_str!("vectors/service-map.json")).unwrap();
    assert!(vectors.cases.len() >= 25);
    for Case { name, key, document, verdict, error } in vectors.cases {
        let installation = Installation::new().with("CONNECTORS_SIGNATURE_KEY", &key);
        let file = installation.file("map.json", &document);
        let finished = installation.run(&["map", "verify", &file, "--json"]);
        let said = parsed(&finished, i32::from(verdict != "valid"));
        assert_eq!((&said["verdict"], said["error"].as_str()), (&json!(verdict), error.as_deref()), "{name}");
        if verdict == "valid" {
            assert_eq!(said, json!({ "verdict": "valid" }), "{name}");
        } else {
            assert!(!said["message"].as_str().unwrap().is_empty(), "{name}");
        }
        let text = installation.run(&["map", "verify", &file]);
        assert!(readable(&text, i32::from(verdict != "valid")).starts_with(&verdict), "{name}: {text:?}");
        assert_eq!((finished.stderr.as_str(), text.stderr.as_str()), ("", ""), "{name}");
    }
}

#[test]
fn a_map_is_signed_verified_judged_at_a_time_and_shown() {
    let installation = Installation::new().with("CONNECTORS_SIGNATURE_KEY", KEY);
    let unsigned = json!({
        "id": "01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB", "brand": "brAInwav", "generatedAt": "2026-01-01T00:00:00Z",
        "ttlSeconds": 60,
        "connectors": [{
            "id": "wikidata", "version": "1.0.0", "displayName": "Wikidata", "endpoint": "https://wikidata.test/mcp",
            "auth": {"type": "none"}, "scopes": ["read"], "ttlSeconds": 60, "enabled": true,
        }],
    });
    let file = installation.file("unsigned.json", unsigned.to_string());
    let missing = parsed(&installation.run(&["map", "verify", &file, "--json"]), 1);
    assert_eq!(missing["error"], "signature", "{missing}");
    let signed = installation.run(&["map", "sign", &file]);
    assert_eq!((signed.code, signed.stderr.as_str()), (Some(0), ""), "{signed:?}");
    let file = installation.file("signed.json", &signed.stdout);
    assert_eq!(parsed(&installation.run(&["map", "verify", &file, "--json"]), 0), json!({"verdict": "valid"}));
    for (at, code, error) in [
        ("2026-01-01T00:00:00Z", 0, None),
        ("2026-01-01T00:00:59.999Z", 0, None),
        ("2026-01-01T00:01:00Z", 1, Some("expiry")),
        ("2025-12-31T23:59:59Z", 1, Some("schema")),
    ] {
        let said = parsed(&installation.run(&["map", "verify", &file, "--json", "--at", at]), code);
        assert_eq!(said["error"].as_str(), error, "{at}: {said}");
    }
    let shown = parsed(&installation.run(&["map", "show", &file, "--json"]), 0);
    let connector = &shown["connectors"][0];
    assert_eq!((&shown["expires"], &connector["id"]), (&json!("2026-01-01T00:01:00Z"), &json!("wikidata")));
    assert!(readable(&installation.run(&["map", "show", &file]), 0).contains("wikidata.test"));
    // What no gateway takes is not signed: addresses, headers, times, names.
    for (member, value) in [
        ("endpoint", json!("http://169.254.169.254/latest/meta-data")),
        ("endpoint", json!("http://10.0.0.1/mcp")),
        ("endpoint", json!("ftp://wikidata.test/mcp")),
        ("endpoint", json!("https://user:password@wikidata.test/mcp")),
        ("headers", json!({"Host": "evil.example"})),
        ("headers", json!({"X-Plan": "a\r\nX-Other: b"})),
        ("headers", json!({"Mcp-Session-Id": "a"})),
        ("id", json!("no such id!")),
        ("ttlSeconds", json!(-1)),
        ("enabled", json!("yes")),
    ] {
        let mut refused = unsigned.clone();
        refused["connectors"][0][member] = value.clone();
        let file = installation.file("refused.json", refused.to_string());
        let signed = installation.run(&["map", "sign", &file]);
        assert_eq!((signed.code, signed.stdout.as_str()), (Some(1), ""), "{member}: {value}: {signed:?}");
        assert!(signed.stderr.contains(member), "{member}: {value}: {}", signed.stderr);
    }
    let other = installation.with("CONNECTORS_SIGNATURE_KEY", "another");
    assert_eq!(parsed(&other.run(&["map", "verify", &file, "--json"]), 1)["error"], "signature");
    let none = other.without("CONNECTORS_SIGNATURE_KEY");
    assert_eq!(parsed(&none.run(&["map", "verify", &file, "--json"]), 2)["error"]["class"], "config");
}

#[test]
fn tools_and_call_speak_to_a_running_gateway() {
    let world = World::new(2);
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 6);
    let url = gateway.url();
    let run = |arguments: &[&str]| {
        let finished = installation.run(&[arguments, &["--url", &url]].concat());
        assert_eq!(finished.stderr, "", "{arguments:?}");
        finished
    };
    let tools = parsed(&run(&["tools", "--json"]), 0);
    assert_eq!(tools["tools"].as_array().unwrap().len(), 6, "{tools}");
    let tools = parsed(&run(&["tools", "--json", "--connector", "server-02"]), 0);
    assert_eq!((tools["tools"].as_array().unwrap().len(), &tools["tools"][0]["name"]), (3, &json!("server-02__echo")));
    let prompts = parsed(&run(&["tools", "--kind", "prompts", "--json"]), 0);
    assert_eq!(prompts, json!({ "prompts": [] }));
    for (kind, told) in [("resources", "0 resources"), ("templates", "0 templates")] {
        let text = run(&["tools", "--kind", kind]);
        assert!(readable(&text, 0).contains(told), "{text:?}");
    }
    let text = run(&["tools"]);
    assert!(readable(&text, 0).contains("server-01__add") && text.stdout.contains("6 tools"), "{text:?}");

    let called = parsed(&run(&["call", "server-01__add", "a=40", "b=2", "--json"]), 0);
    assert_eq!(called["structuredContent"], json!({"sum": 42}), "{called}");
    let called = run(&["call", "server-02__uppercase", "--arguments", r#"{"text":"hello"}"#]);
    assert_eq!(readable(&called, 0), "HELLO\n");
    let failed = run(&["call", "server-01__add", "a=1"]);
    assert!(readable(&failed, 1).contains('b'), "a tool's own failure: {failed:?}");
    let unknown = parsed(&run(&["call", "no-such-tool", "--json"]), 1);
    assert!(unknown["error"]["message"].as_str().unwrap().contains("no-such-tool"), "{unknown}");
}

#[test]
fn status_and_sync_speak_to_a_running_gateway() {
    let mut world = World::new(2);
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 6);
    let url = gateway.url();
    let run = |arguments: &[&str]| installation.run(&[arguments, &["--url", &url]].concat());
    let status = parsed(&run(&["status", "--json"]), 0);
    assert_eq!((&status["tools"], status["connectors"].as_array().unwrap().len()), (&json!(6), 2), "{status}");
    assert!(readable(&run(&["status"]), 0).contains("server-02"));
    let synced = parsed(&run(&["sync", "--running", "--json"]), 0);
    assert_eq!((&synced["connectorCount"], &synced["ready"], &synced["failed"]), (&json!(2), &json!(2), &json!(0)));
    assert!(readable(&run(&["sync", "--running"]), 0).contains("2 of 2 connectors ready"));

    world.upstreams[0].service.stop();
    let synced = parsed(&run(&["sync", "--running", "--json"]), 3);
    assert_eq!((&synced["ready"], &synced["failed"]), (&json!(1), &json!(1)), "{synced}");
    assert!(readable(&run(&["status"]), 3).contains("down"));
    world.upstreams[1].service.stop();
    assert_eq!(parsed(&run(&["sync", "--running", "--json"]), 1)["failed"], 2);
    assert_eq!(gateway.client().list().unwrap().names().len(), 6, "what is known is served");
}

#[test]
fn a_changed_definition_is_shown_and_approved_by_the_digest_that_was_shown() {
    let world = World::new(1);
    let installation = world.installation();
    installation.file("home/mcp/gateway.toml", "[connector.server-01]\non-change = \"hide\"\n");
    let gateway = installation.serve();
    wait_for_tools(&gateway, 3);
    let url = gateway.url();
    let run = |arguments: &[&str]| installation.run(&[arguments, &["--url", &url]].concat());
    assert!(
        readable(&run(&["status"]), 0).contains("server-01: changed definitions are hidden; the baseline was taken")
    );
    assert_eq!(readable(&run(&["tools", "--changed"]), 0), "0 changed definitions\n");
    world.upstreams[0].server.set_tools(5);
    parsed(&run(&["sync", "--running", "--json"]), 0);
    gateway.wait_for_log("definitions differ from what was approved", 1);

    let status = run(&["status"]);
    let text = readable(&status, 0);
    assert!(text.contains("connector server-01: 2 definitions differ from what was approved: tool "), "{text}");
    assert!(
        text.contains("hidden until approved: 2") && text.contains("tools approve --connector server-01 --digest"),
        "{text}"
    );
    let changed = parsed(&run(&["tools", "--changed", "--json"]), 0);
    let [first, second] = changed.as_array().unwrap().as_slice() else { panic!("{changed}") };
    assert_eq!((&first["change"], &first["definitions"][0]["name"]), (&json!("added"), &first["name"]), "{changed}");
    let name = format!("server-01__{}", first["name"].as_str().unwrap());
    let digest = |one: &Value| one["digest"].as_str().unwrap().to_owned();
    let wrong = run(&["tools", "approve", &name, "--digest", &digest(second)]);
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(wrong.stderr.contains(&digest(first)), "{wrong:?}");
    let approved = parsed(&run(&["tools", "approve", &name, "--digest", &digest(first), "--json"]), 0);
    assert_eq!((&approved["connector"], &approved["approved"][0]["name"]), (&json!("server-01"), &first["name"]));
    assert_eq!(gateway.client().list().unwrap().names().len(), 4);
    let status = parsed(&run(&["status", "--json"]), 0);
    let all = status["connectors"][0]["definitions"]["digest"].as_str().unwrap().to_owned();
    let approved = run(&["tools", "approve", "--connector", "server-01", "--digest", &all]);
    assert!(readable(&approved, 0).contains("which was added"), "{approved:?}");
    assert_eq!(gateway.client().list().unwrap().names().len(), 5);
    assert_eq!(run(&["tools", "approve", &name, "--digest", &all]).code, Some(1));

    // It is there after the next start, and nothing is to be approved.
    gateway.kill();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 5);
    let status = installation.run(&["status", "--json", "--url", &gateway.url()]).json();
    assert_eq!(status["connectors"][0]["definitions"]["changes"], 0, "{status}");
}

#[test]
fn sync_runs_alone_too_and_its_lists_are_served_by_the_next_gateway() {
    let mut world = World::new(2);
    let installation = world.installation();
    let synced = installation.run(&["sync", "--json"]);
    assert_eq!(parsed(&synced, 0)["ready"], 2, "{synced:?}");
    for line in synced.stderr.lines() {
        let record: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(record["brand"], "brAInwav", "{record}");
        assert!(record["component"].is_string(), "{record}");
    }
    assert!(synced.stderr.contains("\"connectorCount\":2"), "{synced:?}");
    let text = Installation::new().run(&["sync"]);
    assert!(readable(&text, 0).contains("0 of 0 connectors ready"), "{text:?}");
    world.stop();
    let gateway = installation.serve();
    assert_eq!(gateway.client().list().unwrap().names().len(), 6);
}

#[test]
fn a_token_is_made_once_and_lets_in_whoever_shows_it_as_far_as_its_table_says() {
    let world = World::new(1);
    let installation = world.installation();
    let made = |arguments: &[&str]| parsed(&installation.run(&[&["token", "--json"], arguments].concat()), 0);
    let (agent, ops) = (made(&[]), made(&["--name", "the \"ops\"", "--admin"]));
    for token in [&agent, &ops] {
        let text = token["token"].as_str().unwrap();
        let random = text.strip_prefix("cmcp_").unwrap();
        assert!(random.len() == 43 && !random.contains(['+', '/', '=']), "256 bits as base64url: {text}");
        assert_eq!(token["sha256"], json!(Digest::of(text.as_bytes())));
        assert!(!token["table"].as_str().unwrap().contains(random), "{token}");
    }
    assert_ne!(agent["token"], ops["token"]);
    let said = installation.run(&["token", "--name", "laptop"]);
    let text = readable(&said, 0);
    assert!(text.starts_with("cmcp_") && text.contains("[[token]]\nname = \"laptop\"\nsha256 = "), "{text}");
    assert_eq!(installation.run(&["token", "--name", ""]).code, Some(2));

    let tables: String = [&agent, &ops].iter().map(|token| token["table"].as_str().unwrap()).collect();
    let file = installation.file("gateway.toml", tables);
    let gateway = installation.serve_with(&["--listen", "127.0.0.1:0", "--config", &file]);
    let url = gateway.url();
    let show = |token: &str| {
        let output = installation.run_with("CORTEX_GATEWAY_TOKEN", token, &["status", "--json", "--url", &url]);
        (output.code, output.json())
    };
    let shown = |token: &Value| show(token["token"].as_str().unwrap()).1["configuration"]["tokens"].clone();
    let names = json!(["agent", "the \"ops\""]);
    for token in [&agent, &ops] {
        let tokens = shown(token);
        assert_eq!(json!([tokens[0]["name"], tokens[1]["name"]]), names, "{tokens}");
        assert_eq!((&tokens[0]["admin"], &tokens[1]["admin"]), (&json!(false), &json!(true)));
    }
    assert_eq!(show("cmcp_nobody").0, Some(1));
}

#[test]
fn commands_without_a_gateway_say_how_to_start_one() {
    let installation = Installation::new();
    let nobody = processes::Service::stopped(axum::Router::new());
    let url = format!("http://{}/mcp", nobody.address());
    for command in [&["tools"][..], &["call", "any"], &["status"], &["sync", "--running"]] {
        let finished = installation.run(&[command, &["--url", &url]].concat());
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{command:?}: {finished:?}");
        assert!(finished.complaint().contains("cortex-mcp serve"), "{command:?}: {finished:?}");
        let said = parsed(&installation.run(&[command, &["--url", &url, "--json"]].concat()), 1);
        assert_eq!(said["error"]["class"], "no-gateway", "{command:?}");
    }
}
