//! Secrets: canaries are planted wherever a key, a token or a caller's data goes, a scene of successes and failures of
//! all sorts is played, and everything that the gateway says or keeps is searched for them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::{Arc, Mutex};

use cortex_mcp::config::{Environment, FileSettings, Flags, Paths, Settings};
use cortex_mcp::connectors::Contact;
use cortex_mcp::edge::disk::{self, Disk};
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::process::Exit;
use cortex_mcp::edge::state::own_file;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::edge::virtual_processes::OnTerminate;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::model::{Digest, FailureClass};
use cortex_mcp::service_map::KeyRing;
use http::{Method, StatusCode};
use serde_json::json;
use support::canned::{CallAnswer, Canned};
use support::log::Log;
use support::{Client, Described, MapAnswer, Rig, seconds};

/// What every canary begins with.
const CANARY: &str = "canary-";

fn search(place: &str, text: &str) {
    if let Some(at) = text.find(CANARY) {
        let from = text[..at].char_indices().rev().nth(200).map_or(0, |(at, _)| at);
        let to = text[at..].char_indices().nth(80).map_or(text.len(), |(more, _)| at + more);
        panic!("{place} holds a canary: ...{}...", &text[from..to]);
    }
}

fn planted() -> Rig {
    let mut rig = Rig::new(6);
    for (name, value) in [
        ("CONNECTORS_SIGNATURE_KEY", "canary-signature-key"),
        ("CONNECTORS_SERVICE_MAP_TOKEN", "canary-map-token"),
        ("CONNECTORS_SERVICE_MAP_URL", "https://map.test/v1/service-map?key=canary-map-query"),
        ("CONNECTORS_API_KEY", "canary-key-for-all"),
        ("CORTEX_CONNECTOR_S1_KEY", "canary-key-one"),
        ("CORTEX_CONNECTOR_S2_KEY", "canary-key-two"),
        ("CORTEX_CONNECTOR_S3_KEY", "canary-wrong-key"),
        ("CORTEX_CONNECTOR_S4_KEY", "canary-\nunsendable"),
    ] {
        rig.set(name, value);
    }
    rig.toml = format!(
        "log-level = \"trace\"\n[[token]]\nname = \"agent\"\nsha256 = \"{}\"",
        Digest::of(b"canary-gateway-token")
    );
    rig.document.connectors[0].more =
        json!({ "auth": { "type": "bearer" }, "headers": { "X-Secret": "canary-map-header" } });
    rig.document.connectors[1].more = json!({ "auth": { "type": "apiKey", "headerName": "X-Api-Key" } });
    rig.document.connectors[2].more = json!({ "auth": { "type": "bearer" } });
    rig.document.connectors[3].more = json!({ "auth": { "type": "bearer" } });
    rig.document.connectors[4].endpoint = "https://s5.test/mcp?key=canary-endpoint-query".to_owned();
    rig.document.connectors.push(Described::new("s7", "https://canned.test/mcp"));
    rig.server(1).require_bearer("canary-key-one");
    rig.server(3).require_bearer("right");
    rig.refuse(6);
    rig
}

fn serve(rig: &Rig) {
    rig.map.answer(MapAnswer::Document(rig.document.signed_with("canary-signature-key")));
}

/// Everything that can be asked of a gateway.
async fn everything_told(client: &Client) -> String {
    let mut told = String::new();
    for path in ["/status", "/metrics", "/readyz"] {
        told += &client.get(path).await.body;
    }
    told += &client.list().await.body;
    told
}

#[tokio::test(start_paused = true)]
async fn no_log_line_error_metric_answer_or_record_holds_a_secret() {
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).with_ansi(false);
    tracing::subscriber::set_global_default(subscriber.finish()).unwrap();

    let mut rig = planted();
    let trace = MemoryDirectory::new();
    rig.trace = Some(trace.clone());
    let canned = Canned::new(r#"{"name":"tool","inputSchema":{}}"#);
    rig.network.set(&"https://canned.test".parse().unwrap(), Host::Serve(canned.router()));
    serve(&rig);
    rig.write_registry(
        r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s2.test/mcp?key=canary-registry-query",
        "headers":{"X-Own":"canary-registry-header"}},
        {"name":"local","transport":"stdio","command":"canary-command","env":{"KEY":"canary-env"}}]}"#,
    );
    let served = rig.ready().await;
    let client = served.modern().with_header("authorization", "Bearer canary-gateway-token");
    let mut errors = String::new();
    assert_eq!((served.tools_of("s1"), served.tools_of("s2"), served.tools_of("own")), (3, 3, 3));
    search("the first answers", &everything_told(&client).await);

    // Calls that succeed may tell the caller its own data, and nobody else.
    for name in ["s1__echo", "s2__echo", "own__echo"] {
        let answer = client.call(name, r#"{"password":"canary-argument"}"#).await;
        assert!(answer.body.contains("canary-argument"), "{}", answer.body);
    }
    // Calls that fail.
    canned.answer(CallAnswer::Dies);
    errors += &client.call("s7__tool", r#"{"password":"canary-argument"}"#).await.body;
    rig.server(2).fail_with(StatusCode::BAD_GATEWAY);
    for _ in 0..7 {
        errors += &client.call("s2__echo", r#"{"password":"canary-argument"}"#).await.body;
    }
    rig.server(1).be_silent_on(&["tools/call"]);
    errors += &client.call("s1__echo", r#"{"password":"canary-argument"}"#).await.body;
    // Doors that stay shut.
    errors += &served.modern().with_header("authorization", "Bearer canary-other-token").list().await.body;
    errors += &client.with_header("origin", "https://canary-origin.example").list().await.body;
    errors += &client
        .post(&[("mcp-protocol-version", "canary-version")], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#)
        .await
        .body;
    errors += &client.post(&[], r#"{"canary-body":"#).await.body;
    // Maps and registries that are refused.
    let other = rig.document.signed_with("canary-other-key");
    for answer in [
        MapAnswer::Document(other),
        MapAnswer::Status(200, "canary-body".into()),
        MapAnswer::Status(200, r#"{"canary-member":1,"signature":"canary-signature"}"#.into()),
        MapAnswer::Status(500, "canary-body".into()),
        MapAnswer::Status(401, "canary-body".into()),
        MapAnswer::Redirect("https://evil.test/?canary-location".into()),
    ] {
        rig.map.answer(answer);
        let report = served.gateway.sync(SyncKind::Force, |_| {}).await;
        errors += &serde_json::to_string(&report).unwrap();
        errors += &serde_json::to_string(&served.gateway.status()).unwrap();
    }
    rig.write_registry(r#"{"servers":[{"name":"own","headers":{"X":"canary-registry-header"},"#);
    tokio::time::sleep(seconds(2)).await;
    rig.write_registry(
        r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://canary-user:canary-password@s2.test/"}]}"#,
    );
    tokio::time::sleep(seconds(2)).await;
    errors += &client.send(Method::POST, "/sync", &[], "").await.body;
    search("an error", &errors);
    search("an answer", &everything_told(&client).await);
    search(
        "the Debug form",
        &format!("{:?} {:?} {:?}", served.gateway, served.gateway.settings(), served.gateway.policy()),
    );
    search("the Debug form of the catalog", &format!("{:?}", served.gateway.snapshot()));
    search("the Debug form of the status", &format!("{:?}", served.gateway.status()));
    search("the decision records", &serde_json::to_string(&rig.records.records()).unwrap());

    served.gateway.shut_down().await;
    for name in rig.state.names().unwrap() {
        let file = rig.state.read(&name).unwrap().unwrap();
        let file = String::from_utf8(file).unwrap();
        // The map's own bytes hold what the map holds; what is written beside them does not.
        let searched = if name == own_file("service-map") { file.lines().take(2).collect() } else { file };
        search(&name, &searched);
    }
    let segments = support::traces::segments(&trace);
    assert!(!segments.is_empty());
    for name in segments {
        let lines = support::traces::plain(trace.read(&name).unwrap().unwrap());
        search(&name, &String::from_utf8(lines).unwrap());
    }
    let logged = log.text();
    assert!(logged.lines().count() > 50 && logged.contains("sync failed") && logged.contains("refused at the door"));
    search("the log", &logged);
}

#[test]
fn no_start_up_error_quotes_a_value() {
    let settings = |file: &str, variables: &[(&str, &str)]| {
        let environment = variables.iter().fold(Environment::default(), |all, (name, value)| all.plus(name, value));
        let path = std::path::Path::new("gateway.toml");
        let file = FileSettings::parse(file, path)?;
        Settings::from_parts(&Flags::default(), &environment, file, Paths::below(path))
    };
    for (file, variables) in [
        ("", &[("MCP_CONNECTOR_CONCURRENCY", "canary-number")][..]),
        ("", &[("MCP_CONNECTOR_REFRESH_SYNC", "canary-boolean")][..]),
        ("", &[("CONNECTORS_SERVICE_MAP_URL", "canary-no-url")][..]),
        ("", &[("CONNECTORS_SIGNATURE_KEY", "canary-a"), ("CONNECTORS_SIGNATURE_KEYS", "a=canary-b")][..]),
        ("service-map-url = \"https://user:canary-password@m.test/\"", &[][..]),
        ("[[token]]\nname = \"a\"\nsha256 = \"canary-digest\"", &[][..]),
        ("listen = \"canary-address\"", &[][..]),
    ] {
        let error = settings(file, variables).unwrap_err();
        search("an error of the configuration", &format!("{error} {error:?}"));
    }
    for list in ["canary-key", "a=canary-key,canary-other", "a=canary-key,a=canary-key", "canary key=1"] {
        let error = KeyRing::parse_list(list).unwrap_err();
        search("an error of the keys", &format!("{error} {error:?}"));
    }
    let keys = KeyRing::parse_list("a=canary-one,b=canary-two").unwrap();
    search("the keys", &format!("{keys:?}"));
}

#[tokio::test(start_paused = true)]
async fn references_are_resolved_at_each_connect_kept_nowhere_and_fail_their_own_connector_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let log = Log::default();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).with_ansi(false);
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let mut rig = Rig::new(5);
    rig.environment = [].into();
    let reference = format!("Bearer ${{file:{}}}", path.display());
    let two_lines = folder.path().join("lines");
    std::fs::write(&two_lines, "canary\nsecond").unwrap();
    let entry = |name: &str, server: usize, value: &str| {
        json!({ "name": name, "transport": "http", "endpoint": format!("https://s{server}.test/mcp"),
                "headers": { "Authorization": value } })
    };
    let local = json!({ "name": "local", "transport": "stdio", "command": "local", "env": { "KEY": reference } });
    let servers = [
        entry("one", 1, &reference),
        entry("two", 2, &reference),
        entry("missing", 3, "Bearer ${file:/no/such/file}"),
        entry("reserved", 4, "Bearer ${env:CONNECTORS_SIGNATURE_KEY}"),
        entry("lines", 5, &format!("é ${{file:{}}}", two_lines.display())),
        local,
    ];
    rig.write_registry(&json!({ "servers": servers }).to_string());
    let given = Arc::new(Mutex::new(Vec::new()));
    let taken = given.clone();
    rig.processes.set("local", OnTerminate::Ends, move |child| {
        taken.lock().unwrap().push(child.command.environment["KEY"].clone());
        async { Exit::Code(1) }
    });
    let rotate = |secret: &str| {
        std::fs::write(&path, format!("{secret}\n")).unwrap();
        (1..=2).for_each(|number| rig.server(number).require_bearer(secret));
    };
    rotate("canary-first");
    let served = rig.ready().await;
    for secret in ["canary-first", "canary-second"] {
        rotate(secret);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        for connector in ["one", "two"] {
            let status = served.connector(connector).unwrap();
            assert!(status.contact == Contact::Up && status.last_failure.is_none(), "{connector}: {status:?}");
        }
        assert_eq!(given.lock().unwrap().last(), Some(&format!("Bearer {secret}")));
    }
    for (connector, part) in
        [("missing", "/no/such/file"), ("reserved", "CONNECTORS_SIGNATURE_KEY"), ("lines", "authorization")]
    {
        let failure = served.connector(connector).unwrap().last_failure.clone().unwrap();
        assert!(failure.message.contains(part), "{}", failure.message);
        assert_eq!(failure.class, FailureClass::Auth);
    }
    search("the status", &serde_json::to_string(&served.gateway.status()).unwrap());
    served.gateway.shut_down().await;
    for name in rig.registry.names().unwrap() {
        let file = disk::read(&rig.registry, &name, 1 << 20).unwrap().unwrap();
        search(&name, &String::from_utf8_lossy(&file));
    }
    search("the decision records", &serde_json::to_string(&rig.records.records()).unwrap());
    search("the log", &log.text());
}
