//! rmcp as the oracle: the same traffic of an rmcp client with an rmcp server, once directly and once through the
//! gateway's process, has the same typed answers, errors and notifications. Real sockets, on loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

#[path = "differential/oracle.rs"]
mod oracle;
mod processes;
#[path = "differential/traffic.rs"]
mod traffic;

use std::time::Duration;

use oracle::{Eras, Oracle};
use processes::map::signed_map;
use processes::{Answer, Installation, MapOrigin, Serving, World, wait_for_tools};
use rmcp::model::ProtocolVersion;
use rmcp::service::ClientLifecycleMode;
use serde_json::{Value, json};
use traffic::Visit;

/// The seed of the traffic, and how much of it there is.
const SEED: u64 = 0x2026_0728;
const REQUESTS: usize = 200;

fn initialize() -> ClientLifecycleMode {
    ClientLifecycleMode::Initialize
}

fn discover() -> ClientLifecycleMode {
    ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
}

/// A gateway before one server, which keeps the server's names.
struct Before {
    gateway: Serving,
    _installation: Installation,
    _world: World,
}

impl Before {
    fn new(server: &Oracle) -> Self {
        let entries = [("oracle".parse().unwrap(), server.url().parse().unwrap())];
        let origin = MapOrigin::new(Answer::Document(signed_map(&entries, |_| {})));
        let world = World::scripted(0, &origin);
        let installation = world.installation();
        installation.file("home/mcp/gateway.toml", "names = \"plain\"\n");
        let gateway = installation.serve();
        wait_for_tools(&gateway, oracle::TOOLS);
        Self { gateway, _installation: installation, _world: world }
    }
}

fn in_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(300), work).await.expect("the traffic ends") })
}

/// What the same traffic is answered with.
fn traffic(url: &str, lifecycle: ClientLifecycleMode) -> Vec<Value> {
    traffic_with(url, lifecycle, true)
}

/// The same, with log messages that may come or not.
fn traffic_with(url: &str, lifecycle: ClientLifecycleMode, logs: bool) -> Vec<Value> {
    in_a_runtime(async {
        let mut visit = Visit::open(url, lifecycle).await;
        visit.logs = logs;
        let seen = visit.all(&traffic::requests(SEED, REQUESTS)).await;
        visit.close().await;
        seen
    })
}

/// What only one era's answers hold, taken out of both sides where the server's era is not the client's.
fn without_eras(mut answer: Value) -> Value {
    if let Some(result) = answer["result"].as_object_mut() {
        for member in ["resultType", "ttlMs", "cacheScope"] {
            result.remove(member);
        }
        if let Some(meta) = result.get_mut("_meta").and_then(Value::as_object_mut) {
            meta.remove("io.modelcontextprotocol/serverInfo");
            if meta.is_empty() {
                result.remove("_meta");
            }
        }
    }
    // The legacy code for a resource that there is not is another one (2026-07-28, `server/resources`, Error Handling).
    if answer["error"]["code"] == json!(-32002) {
        answer["error"]["code"] = json!(-32602);
    }
    answer
}

#[track_caller]
fn compare(name: &str, direct: &[Value], through: &[Value], normal: impl Fn(Value) -> Value) {
    let requests = traffic::requests(SEED, REQUESTS);
    assert_eq!((direct.len(), through.len()), (requests.len(), requests.len()), "{name}");
    let mut differing = Vec::new();
    for ((request, direct), through) in requests.iter().zip(direct).zip(through) {
        let (direct, through) = (normal(direct.clone()), normal(through.clone()));
        if direct != through {
            differing.push(format!("{request:?}\n   directly {direct}\n    through {through}"));
        }
    }
    let first: Vec<_> = differing.iter().take(8).cloned().collect();
    assert!(differing.is_empty(), "{name}: {} of {} differ:\n{}", differing.len(), requests.len(), first.join("\n"));
}

/// Whatever is compared is worth it: results of both kinds, errors and notifications occurred.
#[track_caller]
fn is_rich(seen: &[Value]) {
    let count = |so: &dyn Fn(&Value) -> bool| seen.iter().filter(|answer| so(answer)).count();
    assert!(count(&|answer| answer["result"].is_object()) > 80, "{seen:?}");
    assert!(count(&|answer| answer["result"]["isError"] == true) > 4);
    assert!(count(&|answer| answer["error"]["code"].is_i64()) > 10);
    assert!(count(&|answer| answer["progress"].as_array().is_some_and(|notices| notices.len() > 1)) > 4);
    assert!(count(&|answer| answer["logs"].as_array().is_some_and(|notices| notices.len() > 1)) > 4);
    assert_eq!(count(&|answer| answer.get("failed").is_some()), 0, "{seen:?}");
}

#[test]
fn a_legacy_client_sees_a_legacy_server_as_it_is() {
    let server = Oracle::start(Eras::Legacy);
    let direct = traffic(&server.url(), initialize());
    is_rich(&direct);
    let before = Before::new(&server);
    compare("legacy", &direct, &traffic(&before.gateway.url(), initialize()), |answer| answer);
}

#[test]
fn a_modern_client_sees_a_modern_server_as_it_is() {
    let server = Oracle::start(Eras::Both);
    let direct = traffic(&server.url(), discover());
    is_rich(&direct);
    let before = Before::new(&server);
    compare("modern", &direct, &traffic(&before.gateway.url(), discover()), |answer| answer);
}

#[test]
fn a_client_sees_a_server_of_the_other_era_as_one_of_its_own() {
    let (legacy, both) = (Oracle::start(Eras::Legacy), Oracle::start(Eras::Both));
    let direct = traffic(&both.url(), initialize());
    is_rich(&direct);
    let before = Before::new(&both);
    compare("legacy client, modern server", &direct, &traffic(&before.gateway.url(), initialize()), without_eras);
    let direct = traffic(&both.url(), discover());
    is_rich(&direct);
    let before = Before::new(&legacy);
    // rmcp writes log messages of a legacy session to the session's own stream. There they belong to no request, and a
    // modern client is told of its requests only: of all that differs between the eras this alone does not cross.
    let without_logs = |mut answer: Value| {
        answer["logs"] = Value::Null;
        without_eras(answer)
    };
    compare(
        "modern client, legacy server",
        &direct,
        &traffic_with(&before.gateway.url(), discover(), false),
        without_logs,
    );
}

/// What a server asks while it is called reaches a legacy client, and the answer the server.
#[test]
fn a_legacy_server_asks_a_legacy_client_through_the_gateway() {
    let server = Oracle::start(Eras::Legacy);
    let ask = |url: &str| in_a_runtime(Visit::asked(url));
    let direct = ask(&server.url());
    assert_eq!(direct["result"]["content"][0]["text"], "the model says: 42, in 2 messages", "{direct}");
    let before = Before::new(&server);
    assert_eq!(ask(&before.gateway.url()), direct);
}

/// Updates of a resource that is subscribed to, and of the list of tools.
#[test]
fn subscriptions_tell_what_they_tell_directly() {
    for (eras, lifecycle) in [(Eras::Legacy, initialize()), (Eras::Both, discover())] {
        let server = Oracle::start(eras);
        let follow = |url: String| in_a_runtime(Visit::follow(url, lifecycle.clone()));
        let direct = follow(server.url());
        assert_eq!(direct, json!({"updated": [oracle::WATCHED], "late": true}), "{eras:?}");
        server.forget();
        let before = Before::new(&server);
        assert_eq!(follow(before.gateway.url()), direct, "{eras:?}");
    }
}
