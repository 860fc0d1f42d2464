//! Bad input: each kind gives one clear error that names the place and says what to do, with the right exit code, and
//! as an object with `--json`. At runtime it changes nothing of what is served.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;

use std::sync::Arc;

use cortex_mcp::demo::map_document;
use cortex_mcp::edge::clock::{Clock, SystemClock};
use cortex_mcp::model::WallMs;
use cortex_mcp::service_map::{MAX_MAP_BYTES, signed_document};
use http::StatusCode;
use processes::map::signed_map;
use processes::{Answer, Installation, KEY, MapOrigin, PATIENCE, Service, World, until, wait_for_tools};
use serde_json::{Value, json};

/// What others can write is done with the rights of the gateway.
#[test]
fn files_that_others_can_write_are_refused_unless_that_is_allowed() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new(1);
    let mode = |path: &std::path::Path, mode| {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    for (name, content) in [("gateway.toml", "concurrency = 4\n"), ("servers.json", r#"{"servers":[]}"#)] {
        let installation = world.installation();
        let folder = installation.state().parent().unwrap().to_owned();
        std::fs::create_dir_all(&folder).unwrap();
        let file = folder.join(name);
        std::fs::write(&file, content).unwrap();
        for (path, open, private) in [(&file, 0o666, 0o600), (&folder, 0o777, 0o700)] {
            mode(path, open);
            for command in ["serve", "sync"] {
                let refused = installation.run(&[command, "--json"]);
                assert_eq!(
                    (refused.code, &refused.json()["error"]["class"]),
                    (Some(2), &json!("config")),
                    "{refused:?}"
                );
                let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
                let path = path.display().to_string();
                for part in [&*path, "others can write it", "chmod go-w", "--allow-shared-files"] {
                    assert!(message.contains(part), "{message}");
                }
            }
            let allowed = installation.run(&["sync", "--allow-shared-files"]);
            assert_eq!(allowed.code, Some(0), "{allowed:?}");
            assert!(allowed.stderr.contains("other users can write a file of the gateway"), "{allowed:?}");
            mode(path, private);
        }
        mode(&file, 0o660);
        let warned = installation.run(&["sync"]);
        assert_eq!(warned.code, Some(0), "{warned:?}");
        assert!(warned.stderr.contains("other users can write a file of the gateway"), "{warned:?}");
        mode(&file, 0o644);
        let fine = installation.run(&["sync"]);
        assert!(fine.code == Some(0) && !fine.stderr.contains("other users"), "others may read it: {fine:?}");
    }
}

/// One kind of bad input at the start.
struct Case {
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
    code: i32,
    class: &'static str,
    /// What the message must name.
    names: &'static [&'static str],
}

const MAP: (&str, &str) = ("CONNECTORS_SERVICE_MAP_URL", "http://127.0.0.1:9/map");
const A_KEY: (&str, &str) = ("CONNECTORS_SIGNATURE_KEY", "k");

const fn config(
    name: &'static str,
    variables: &'static [(&'static str, &'static str)],
    flags: &'static [&'static str],
    names: &'static [&'static str],
) -> Case {
    Case { name, variables, flags, code: 2, class: "config", names }
}

const fn policy(name: &'static str, flags: &'static [&'static str], names: &'static [&'static str]) -> Case {
    Case { name, variables: &[], flags, code: 1, class: "policy", names }
}

/// Files of these names stand in the working folder; see [`installation`].
const CASES: &[Case] = &[
    config("a configuration that is not there", &[], &["--config", "none.toml"], &["none.toml", "can not be read"]),
    config("a configuration that is a folder", &[], &["--config", "folder"], &["folder", "can not be read"]),
    config("a configuration that is not TOML", &[], &["--config", "broken.toml"], &["broken.toml", "line 1"]),
    config(
        "an unknown key",
        &[],
        &["--config", "unknown.toml"],
        &["unknown.toml", "line 3", "refresh-sink", "refresh-sync"],
    ),
    config("an unknown key of a table", &[], &["--config", "table.toml"], &["table.toml", "line 2", "fil"]),
    config("a value of another type", &[], &["--config", "type.toml"], &["type.toml", "line 1"]),
    config("a value out of range", &[], &["--config", "range.toml"], &["concurrency", "1 to 1000"]),
    config(
        "a switch that is neither on nor off",
        &[("MCP_CONNECTOR_REFRESH_SYNC", "maybe")],
        &[],
        &["MCP_CONNECTOR_REFRESH_SYNC", "true or false"],
    ),
    config(
        "an interval that is no number",
        &[("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "3e5")],
        &[],
        &["MCP_CONNECTOR_REFRESH_INTERVAL_MS", "whole number"],
    ),
    config(
        "an interval that is too short",
        &[("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "5")],
        &[],
        &["MCP_CONNECTOR_REFRESH_INTERVAL_MS", "1000"],
    ),
    config(
        "a concurrency of none",
        &[("MCP_CONNECTOR_CONCURRENCY", "0")],
        &[],
        &["MCP_CONNECTOR_CONCURRENCY", "from 1"],
    ),
    config(
        "a negative concurrency",
        &[("MCP_CONNECTOR_CONCURRENCY", "-4")],
        &[],
        &["MCP_CONNECTOR_CONCURRENCY", "whole number"],
    ),
    config("an unknown log level", &[("MCP_LOG_LEVEL", "loud")], &[], &["MCP_LOG_LEVEL", "error, warn, info"]),
    config(
        "a map address that is none",
        &[A_KEY, ("CONNECTORS_SERVICE_MAP_URL", "nonsense")],
        &[],
        &["CONNECTORS_SERVICE_MAP_URL", "https"],
    ),
    config(
        "a map address of another scheme",
        &[A_KEY, ("CONNECTORS_SERVICE_MAP_URL", "ftp://map.test/m")],
        &[],
        &["service map", "http"],
    ),
    config(
        "a map address in the clear",
        &[A_KEY, ("CONNECTORS_SERVICE_MAP_URL", "http://map.test/m")],
        &[],
        &["service map", "https", "loopback"],
    ),
    config(
        "a map address with a password",
        &[A_KEY, ("CONNECTORS_SERVICE_MAP_URL", "https://user:hidden@map.test/m")],
        &[],
        &["service map", "password"],
    ),
    config("a map without a key", &[MAP], &[], &["CONNECTORS_SIGNATURE_KEY"]),
    config(
        "two kinds of keys",
        &[MAP, A_KEY, ("CONNECTORS_SIGNATURE_KEYS", "a=b")],
        &[],
        &["CONNECTORS_SIGNATURE_KEY", "CONNECTORS_SIGNATURE_KEYS"],
    ),
    config(
        "keys that are no list",
        &[MAP, ("CONNECTORS_SIGNATURE_KEYS", "nonsense")],
        &[],
        &["signature key", "id=key"],
    ),
    config("a listener for others without tokens", &[], &["--listen", "0.0.0.0:0"], &["0.0.0.0:0", "[[token]]"]),
    policy("a policy that is not there", &["--policy", "none.wasm"], &["none.wasm", "can not be read"]),
    policy("a policy that is no component", &["--policy", "unknown.toml"], &["not a WebAssembly component"]),
    policy("a policy that is a core module", &["--policy", "core.wasm"], &["core module", "wit-component"]),
    Case {
        name: "a home that is a file",
        variables: &[("CORTEX_HOME", "core.wasm")],
        flags: &[],
        code: 2,
        class: "config",
        names: &["core.wasm", "check"],
    },
];

fn installation() -> Installation {
    let installation = Installation::new();
    installation.file("folder/any", "");
    installation.file("broken.toml", "listen = [[[");
    installation.file("unknown.toml", "# a comment\nlog-level = \"info\"\nrefresh-sink = true\n");
    installation.file("table.toml", "[policy]\nfil = \"x\"\n");
    installation.file("type.toml", "concurrency = \"four\"\n");
    installation.file("range.toml", "concurrency = 1001\n");
    installation.file("core.wasm", b"\0asm\x01\0\0\0");
    installation
}

#[test]
fn bad_input_at_the_start_is_one_clear_error() {
    for Case { name, variables, flags, code, class, names } in CASES {
        let installation =
            variables.iter().fold(installation(), |installation, (name, value)| installation.with(name, value));
        let listen: &[&str] = if flags.contains(&"--listen") { &[] } else { &["--listen", "127.0.0.1:0"] };
        let arguments = [&["serve"], listen, flags].concat();
        let text = installation.run(&arguments);
        assert_eq!((text.code, text.stdout.as_str()), (Some(*code), ""), "{name}: {text:?}");
        let complaints = text.stderr.lines().filter(|line| line.starts_with("cortex-mcp: ")).count();
        assert_eq!((complaints, text.stderr.lines().last()), (1, Some(text.complaint())), "{name}: one line, the last");
        for part in *names {
            assert!(text.complaint().contains(part), "{name}: {part} in {}", text.complaint());
        }
        assert!(!text.stderr.contains("hidden"), "{name}: {text:?}");

        let object = installation.run(&[&arguments[..], &["--json"]].concat());
        let expected =
            json!({ "error": { "class": class, "message": text.complaint().replacen("cortex-mcp: ", "", 1) } });
        assert_eq!((object.code, object.json()), (Some(*code), expected), "{name}: {object:?}");
        assert_eq!(object.complaint(), "", "{name}: the error is told once");
    }
}

#[test]
fn an_environment_that_another_command_does_not_use_is_checked_all_the_same() {
    let installation = Installation::new().with("MCP_CONNECTOR_CONCURRENCY", "many");
    for command in ["sync", "serve"] {
        let finished = installation.run(&[command]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        assert!(finished.complaint().contains("MCP_CONNECTOR_CONCURRENCY"), "{finished:?}");
    }
}

/// A gateway that follows its map every second, and what it serves.
struct Following {
    world: World,
    origin: Arc<MapOrigin>,
    document: String,
    gateway: processes::Serving,
    tools: String,
}

fn following() -> Following {
    let origin = MapOrigin::new(Answer::Status(StatusCode::SERVICE_UNAVAILABLE));
    let world = World::scripted(2, &origin);
    let document = signed_map(&world.entries(), |_| {});
    origin.answer(Answer::Document(document.clone()));
    let gateway = world.installation().with("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "1000").serve();
    let tools = wait_for_tools(&gateway, 6).tools;
    Following { world, origin, document, gateway, tools }
}

impl Following {
    /// The map server answers so: status says this class, and everything is served as before.
    fn changes_nothing(&self, name: &str, answer: Answer, class: &str) {
        let client = self.gateway.client();
        self.origin.answer(answer);
        let map = until(&format!("{name} is told as {class}"), PATIENCE, || {
            let map = client.status()["serviceMap"].clone();
            (map["lastFailure"]["class"] == class).then_some(map)
        });
        let message = map["lastFailure"]["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.contains('\n'), "{name}: {message}");
        assert!(client.list().unwrap().tools == self.tools, "{name}: other tools are served");
        let answer = client.call("server-01__add", &json!({"a": 40, "b": 2}));
        assert_eq!(answer["result"]["structuredContent"], json!({"sum": 42}), "{name}: {answer}");

        self.origin.answer(Answer::Document(self.document.clone()));
        until(&format!("after {name}, the map is good again"), PATIENCE, || {
            (client.status()["serviceMap"]["lastFailure"] == Value::Null).then_some(())
        });
    }

    fn map_of(&self, generated_at: WallMs, key: &str) -> String {
        let map = map_document(generated_at, &self.world.entries()[..1]);
        signed_document(&map.to_string(), &key.into()).unwrap()
    }
}

#[test]
fn maps_that_can_not_be_read_change_nothing_of_what_is_served() {
    let following = following();
    following.changes_nothing("no JSON", Answer::Document("<html>".into()), "decode");
    following.changes_nothing("no object", Answer::Document("[]".into()), "decode");
    following.changes_nothing("no signature", Answer::Document("{}".into()), "signature");
    let wrong = signed_document(r#"{"connectors":{}}"#, &KEY.into()).unwrap();
    following.changes_nothing("a wrong shape", Answer::Document(wrong), "schema");
    following.changes_nothing("an oversized body", Answer::Big(MAX_MAP_BYTES + 1), "decode");
    following.changes_nothing("a server error", Answer::Status(StatusCode::INTERNAL_SERVER_ERROR), "http");
    following.changes_nothing("no admission", Answer::Status(StatusCode::UNAUTHORIZED), "http");
}

#[test]
fn bodies_without_an_end_change_nothing_of_what_is_served() {
    let following = following();
    following.changes_nothing("an endless body", Answer::Endless, "transport");
    following.changes_nothing("a stalled body", Answer::Stalled, "transport");
}

#[test]
fn a_redirect_to_another_origin_is_not_followed_and_changes_nothing() {
    let following = following();
    let elsewhere = MapOrigin::new(Answer::Document(following.document.clone()));
    let service = Service::started(elsewhere.router());
    let target = format!("http://{}/v1/connectors/service-map", service.address());
    following.changes_nothing("a redirect", Answer::Redirect(target), "transport");
    assert_eq!(elsewhere.asked(), 0, "nothing, and no token, went to the other origin");
}

#[test]
fn older_and_forged_maps_change_nothing_and_are_counted() {
    let following = following();
    let now = SystemClock::new().wall();
    let forged = following.map_of(now, "the key of somebody else");
    following.changes_nothing("a forged map", Answer::Document(forged), "signature");
    let older = following.map_of(WallMs(now.0 - 300_000), KEY);
    following.changes_nothing("an older map", Answer::Document(older), "rollback");
    let (_, metrics) = following.gateway.client().get("/metrics").unwrap();
    for class in ["signature", "rollback"] {
        let series = format!("mcp_service_map_rejected_total{{class=\"{class}\"}}");
        assert!(metrics.lines().any(|line| line.starts_with(&series) && !line.ends_with(" 0")), "{series}");
    }
}

#[test]
fn a_registry_that_can_not_be_read_is_told_and_the_map_is_served() {
    let world = World::new(1);
    let installation = world.installation();
    installation.file("home/mcp/servers.json", "{\"servers\": [");
    let gateway = installation.serve();
    wait_for_tools(&gateway, 3);
    let registry = gateway.client().status()["registry"].clone();
    assert!(registry["error"].is_string(), "{registry}");
}

#[test]
fn damaged_state_is_moved_aside_and_fetched_anew() {
    let world = World::new(2);
    let installation = world.installation();
    let gateway = installation.serve();
    let before = wait_for_tools(&gateway, 6);
    assert_eq!(gateway.stop().code, Some(0));
    let victim = installation.state().join("lists-1.log");
    let mut bytes = std::fs::read(&victim).unwrap();
    // The last one is a line feed.
    let last = bytes.len() - 2;
    bytes[last] ^= 1;
    std::fs::write(&victim, bytes).unwrap();
    let gateway = installation.serve();
    let again = wait_for_tools(&gateway, 6);
    assert!(again.tools == before.tools);
    let finished = gateway.stop();
    assert!(finished.stderr.contains("damaged"), "{finished:?}");
}
