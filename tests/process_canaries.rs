//! No key, token or argument is ever told: every secret that a gateway can hold is planted, success and failure are
//! driven at the most talkative log level, and everything that comes out is searched.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cortex_mcp::model::Digest;
use cortex_mcp::registry::FileNames;
use flate2::read::GzDecoder;
use http::StatusCode;
use processes::map::signed_map;
use processes::{Answer, Client, Installation, KEY, MapOrigin, PATIENCE, Serving, TOKEN, World, until};
use serde_json::{Value, json};

const SHARED: &str = "canary-shared-credential";
const OWN: &str = "canary-own-credential";
const NAMED: &str = "canary-named-header-credential";
const REFUSED: &str = "canary-refused-credential";
const CLIENT: &str = "canary-client-token";
const STRANGER: &str = "canary-stranger-token";
const QUERY: &str = "canary-query-of-the-map-address";
const ENDPOINT: &str = "canary-query-of-an-endpoint";
const REGISTRY: &str = "canary-header-of-the-registry";
const ARGUMENT: &str = "canary-argument-of-a-call";
const BODY: &str = "canary-body-of-a-bad-map";
const PASSWORD: &str = "canary-password-in-an-address";

const CONTAINER: &str = "canary-variable-of-a-container";
const VARIABLE: &str = "canary-variable-of-a-program";
const DSN: &str = "canary-password-of-a-database";
const FLAG: &str = "ghp_canary0123456789";

const CANARIES: [&str; 18] = [
    KEY, TOKEN, SHARED, OWN, NAMED, REFUSED, CLIENT, STRANGER, QUERY, ENDPOINT, REGISTRY, ARGUMENT, BODY, PASSWORD,
    CONTAINER, VARIABLE, DSN, FLAG,
];

/// What was found where.
#[derive(Default)]
struct Search {
    searched: usize,
    found: Vec<String>,
}

impl Search {
    fn text(&mut self, place: &str, text: &str) {
        self.searched += text.len();
        for canary in CANARIES {
            let spellings = [canary.to_owned(), STANDARD.encode(canary), URL_SAFE_NO_PAD.encode(canary)];
            if let Some(line) = text.lines().find(|line| spellings.iter().any(|spelling| line.contains(spelling))) {
                self.found.push(format!("{place}: {canary}: {line}"));
            }
        }
    }

    /// Every file below a folder, but for those that the user wrote, what the registry keeps of such a file (nobody else may
    /// read that), and the map's own bytes.
    fn files(&mut self, folder: &Path) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                self.files(&path);
            } else if FileNames::of("servers.json").kind(name).is_some() {
                let mode = std::fs::metadata(&path).unwrap().permissions().mode();
                assert_eq!(mode & 0o077, 0, "{name} has mode {mode:o}");
            } else if !["gateway.toml", "service-map.record"].contains(&name) {
                let mut bytes = std::fs::read(&path).unwrap();
                if name.ends_with(".gz") {
                    let compressed = std::mem::take(&mut bytes);
                    GzDecoder::new(&compressed[..]).read_to_end(&mut bytes).unwrap();
                }
                self.text(&path.display().to_string(), &String::from_utf8_lossy(&bytes));
            }
        }
    }
}

/// Four servers, each with another kind of credential, and a registry entry with a secret header.
fn set_up(world: &World, origin: &MapOrigin) -> Installation {
    let map = signed_map(&world.entries(), |connector| {
        connector["auth"] = match connector["id"].as_str().unwrap() {
            "server-03" => json!({ "type": "apiKey", "headerName": "X-Api-Key" }),
            _ => json!({ "type": "bearer" }),
        };
        connector["endpoint"] = format!("{}?key={ENDPOINT}", connector["endpoint"].as_str().unwrap()).into();
    });
    origin.answer(Answer::Document(map));
    world.upstreams[0].server.require_bearer(SHARED);
    world.upstreams[1].server.require_bearer(OWN);
    world.upstreams[3].server.require_bearer("another key than the gateway has");
    let installation = world
        .installation()
        .with("CONNECTORS_SERVICE_MAP_URL", &format!("{}?token={QUERY}", world.map_url()))
        .with("CONNECTORS_API_KEY", SHARED)
        .with("CORTEX_CONNECTOR_SERVER_02_KEY", OWN)
        .with("CORTEX_CONNECTOR_SERVER_03_KEY", NAMED)
        .with("CORTEX_CONNECTOR_SERVER_04_KEY", REFUSED)
        .with("CORTEX_GATEWAY_TOKEN", CLIENT)
        .with("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "1000")
        .with("MCP_LOG_LEVEL", "trace");
    let digest = Digest::of(CLIENT.as_bytes());
    installation.file(
        "home/mcp/gateway.toml",
        format!("shared-credential = true\n[[token]]\nname = \"agent\"\nsha256 = \"{digest}\"\n"),
    );
    let nowhere = "http://127.0.0.1:9/mcp";
    let registry = installation.file(
        "home/mcp/servers.json",
        json!({"servers": [
            {"name": "local", "transport": "http", "endpoint": nowhere, "headers": {"X-Secret": REGISTRY}},
            // It writes all that it is given to its standard error.
            {"name": "noisy", "transport": "stdio", "command": "/bin/sh", "env": {"PLAIN": VARIABLE},
             "args": ["-c", "echo it got \"$PLAIN\" \"$@\" >&2; exit 3", "sh", "-e", format!("PLAIN={CONTAINER}"),
                      format!("postgres://u:{DSN}@db/x"), format!("--x={FLAG}")]},
            {"name": "odd", "transport": "http", "endpoint": format!("https://user:{PASSWORD}@odd.test/mcp")},
        ]})
        .to_string(),
    );
    std::fs::set_permissions(registry, std::fs::Permissions::from_mode(0o600)).unwrap();
    installation
}

/// Successes and failures of every kind; the answers that are searched besides what the gateway itself writes.
fn drive(world: &mut World, origin: &MapOrigin, gateway: &Serving, search: &mut Search) {
    let client = gateway.client().with_token(CLIENT);
    until("three servers are served", PATIENCE, || client.list().filter(|listed| listed.names().len() == 9));
    for (tool, ok) in [("server-01__echo", true), ("server-03__add", false), ("server-02__uppercase", true)] {
        let answer = client.call(tool, &json!({ "text": ARGUMENT }));
        assert_eq!(answer["result"]["isError"], !ok, "{answer}");
    }
    search.text("an unknown tool", &client.call("no-such-tool", &json!({ "text": ARGUMENT })).to_string());
    // Strangers at the door.
    let stranger = Client::new(&gateway.url()).with_token(STRANGER);
    for path in ["/status", "/metrics"] {
        let (status, body) = stranger.get(path).unwrap();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
        search.text("the door", &body);
    }
    // A bad map, a redirect, and then servers that fail, refuse and vanish.
    for (answer, class) in [
        (Answer::Document(format!("{{\"{BODY}\": ")), "decode"),
        (Answer::Document(json!({ "connectors": BODY, "signature": BODY }).to_string()), "signature"),
        (Answer::Redirect(format!("https://map.test/?token={BODY}")), "transport"),
        (Answer::Status(StatusCode::FORBIDDEN), "http"),
    ] {
        origin.answer(answer);
        until(class, PATIENCE, || (client.status()["serviceMap"]["lastFailure"]["class"] == class).then_some(()));
    }
    world.upstreams[0].server.fail_with(StatusCode::INTERNAL_SERVER_ERROR);
    world.upstreams[1].server.require_bearer("a key that was rotated");
    world.upstreams[2].service.stop();
    for tool in ["server-01__echo", "server-02__echo", "server-03__echo"] {
        let answer = client.call(tool, &json!({ "text": ARGUMENT }));
        assert!(answer["error"].is_object(), "{answer}");
        search.text("a failed call", &answer.to_string());
    }
    until("all connectors fail", PATIENCE, || {
        let status = client.status();
        let connectors = status["connectors"].as_array().unwrap().clone();
        connectors.iter().all(|one| one["lastFailure"] != Value::Null).then_some(())
    });
    for path in ["/status", "/metrics", "/healthz", "/readyz"] {
        search.text(path, &client.get(path).unwrap().1);
    }
}

#[test]
fn the_search_finds_what_is_there() {
    let mut search = Search::default();
    search.text("plain", &format!("a line\nkey={OWN}"));
    search.text("encoded", &format!("Basic {}", STANDARD.encode(OWN)));
    let installation = Installation::new();
    installation.file("home/mcp/state/any.state", TOKEN);
    search.files(&installation.folder().join("home"));
    assert_eq!(search.found.len(), 3, "{:?}", search.found);
}

#[test]
fn no_secret_is_told_anywhere() {
    let origin = MapOrigin::new(Answer::Status(StatusCode::SERVICE_UNAVAILABLE));
    let mut world = World::scripted(4, &origin);
    let installation = set_up(&world, &origin);
    let mut search = Search::default();
    let gateway = installation.serve();
    drive(&mut world, &origin, &gateway, &mut search);
    assert!(origin.shown().contains(&Some(format!("Bearer {TOKEN}"))), "the secrets are in use");

    let url = gateway.url();
    for arguments in [
        &["status"][..],
        &["status", "--json"],
        &["tools"],
        &["call", "server-01__echo", "text=a"],
        &["call", "server-01__echo", "text=a", "--json"],
        &["sync", "--running", "--json"],
        &["tools", "--json"],
        &["why", "noisy"],
        &["why", "registry/noisy", "--json"],
    ] {
        let finished = installation.run(&[arguments, &["--url", &url]].concat());
        search.text(&format!("{arguments:?}"), &format!("{}{}", finished.stdout, finished.stderr));
    }
    let stranger = installation.with("CORTEX_GATEWAY_TOKEN", STRANGER);
    let refused = stranger.run(&["tools", "--url", &url]);
    assert_eq!(refused.code, Some(1));
    search.text("a refused command", &format!("{}{}", refused.stdout, refused.stderr));
    let synced = stranger.run(&["sync", "--json"]);
    search.text("a sync of its own", &format!("{}{}", synced.stdout, synced.stderr));

    let finished = gateway.stop();
    assert_eq!(finished.code, Some(0));
    assert!(finished.stderr.contains("it got"), "a process complained");
    for level in ["debug", "info", "warn"] {
        assert!(finished.stderr.contains(&format!("\"level\":\"{level}\"")), "{level} is logged");
    }
    search.text("stdout", &finished.stdout);
    search.text("stderr", &finished.stderr);
    search.files(&stranger.folder().join("home"));
    assert!(search.searched > 10_000, "something was searched: {}", search.searched);
    assert!(search.found.is_empty(), "{}", search.found.join("\n"));
}

#[test]
fn errors_at_the_start_tell_no_secret() {
    let mut search = Search::default();
    let key = ("CONNECTORS_SIGNATURE_KEY", KEY);
    for variables in [
        vec![key, ("CONNECTORS_SIGNATURE_KEYS", OWN)],
        vec![("CONNECTORS_SIGNATURE_KEYS", OWN), ("CONNECTORS_SERVICE_MAP_URL", "https://map.test/")],
        vec![
            key,
            ("CONNECTORS_SERVICE_MAP_TOKEN", "canary-client-token\u{7f}"),
            ("CONNECTORS_SERVICE_MAP_URL", "https://map.test/"),
        ],
        vec![key, ("MCP_CONNECTOR_CONCURRENCY", NAMED)],
        vec![key, ("MCP_LOG_LEVEL", NAMED)],
        vec![key, ("MCP_CONNECTOR_REFRESH_SYNC", NAMED)],
    ] {
        let installation = Installation::new();
        let installation = variables.iter().fold(installation, |one, (name, value)| one.with(name, value));
        for json in [&[][..], &["--json"]] {
            let finished = installation.run(&[&["serve", "--listen", "127.0.0.1:0"][..], json].concat());
            assert!(matches!(finished.code, Some(1 | 2)), "{finished:?}");
            search.text(&format!("{:?}", variables[1].0), &format!("{}{}", finished.stdout, finished.stderr));
        }
    }
    for address in [
        format!("https://user:{PASSWORD}@map.test/"),
        format!("ftp://map.test/?token={QUERY}"),
        format!("http://map.test/?token={QUERY}"),
        format!("https://map test/?token={QUERY}"),
    ] {
        let installation = Installation::new().with(key.0, key.1).with("MCP_LOG_LEVEL", "trace");
        let installation = installation.with("CONNECTORS_SERVICE_MAP_URL", &address);
        let finished = installation.run(&["serve", "--listen", "127.0.0.1:0"]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        search.text("an address", &finished.stderr);
        let flag = Installation::new().with(key.0, key.1);
        let finished = flag.run(&["serve", "--listen", "127.0.0.1:0", "--service-map-url", &address]);
        assert_eq!(finished.code, Some(2), "{finished:?}");
        search.text("a flag", &finished.stderr);
    }
    assert!(search.found.is_empty(), "{}", search.found.join("\n"));
}
