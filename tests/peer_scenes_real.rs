//! The scenes that other gateways fail in (`peers.md` 1.2), once with a real process and real sockets. Deadlines are
//! generous: what is asserted is what is served, and how often something happened.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod processes;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use cortex_mcp::demo::mcp_server::{McpServer, ServerEra, ServerOptions};
use cortex_mcp::model::ConnectorId;
use processes::installation::since;
use processes::map::signed_map;
use processes::{Answer, Installation, Listed, MapOrigin, PATIENCE, Service, Serving, World, until, wait_for_tools};
use serde_json::Value;
use url::Url;

/// Longer than any wait of the gateway's between two looks at a server in these tests.
const A_REFRESH: Duration = Duration::from_secs(150);

/// Something that accepts connections and never says a word.
struct Hung {
    address: SocketAddr,
    accepted: Arc<Mutex<Vec<TcpStream>>>,
}

impl Hung {
    fn new() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let accepted: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let (address, shared) = (listener.local_addr().unwrap(), accepted.clone());
        // It ends with the test's process.
        std::thread::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                shared.lock().unwrap().push(stream);
            }
        });
        Self { address, accepted }
    }
}

/// Servers, one that is dead until it is started, and one that is hung.
struct Stage {
    world: World,
    dead: Service,
    hung: Hung,
    origin: Arc<MapOrigin>,
}

/// A server whose list is stale after a second, with so many tools.
fn options(name: &str, tools: usize) -> ServerOptions {
    ServerOptions { name: name.to_owned(), tools, ttl_ms: Some(1_000), ..ServerOptions::default() }
}

impl Stage {
    /// Eight of ten servers are well.
    fn new() -> Self {
        let mut world = World::with(8, |_| options("server", 10));
        let dead = Service::stopped(McpServer::new(options("late", 10)).router());
        let hung = Hung::new();
        let mut entries = world.entries();
        entries.push(entry("dead", dead.address()));
        entries.push(entry("hung", hung.address));
        let origin = MapOrigin::new(Answer::Document(signed_map(&entries, |_| {})));
        world.map = Service::started(origin.router());
        Self { world, dead, hung, origin }
    }

    /// A gateway that looks again as often as it may.
    fn installation(&self) -> Installation {
        self.world.installation().with("MCP_CONNECTOR_REFRESH_INTERVAL_MS", "1000")
    }
}

fn entry(id: &str, address: SocketAddr) -> (ConnectorId, Url) {
    (id.parse().unwrap(), format!("http://{address}/mcp").parse().unwrap())
}

/// How one connector stands in `/status`.
fn connector(gateway: &Serving, id: &str) -> Value {
    let status = gateway.client().status();
    status["connectors"].as_array().unwrap().iter().find(|one| one["id"] == id).cloned().unwrap_or(Value::Null)
}

fn wait_for_failure(gateway: &Serving, id: &str, class: &str) {
    until(&format!("{id} is told as {class}"), PATIENCE, || {
        let found = connector(gateway, id);
        (found["contact"] == "down" && found["lastFailure"]["class"] == class).then_some(())
    });
}

fn listed(gateway: &Serving, tools: usize) -> Listed {
    let listed = gateway.client().list().unwrap();
    assert_eq!(listed.names().len(), tools);
    listed
}

#[test]
fn scenes_a_to_d_one_dead_one_hung_all_gone_back_with_others_and_a_late_joiner() {
    let mut stage = Stage::new();
    let installation = stage.installation();

    // A: healthy tools at once, whatever the others do.
    let gateway = installation.serve();
    let listening = Instant::now();
    wait_for_tools(&gateway, 80);
    println!("A: 80 of 80 tools were listed {} ms after the gateway listened", since(listening).as_millis());
    wait_for_failure(&gateway, "hung", "timeout");
    wait_for_failure(&gateway, "dead", "refused");
    assert!(!stage.hung.accepted.lock().unwrap().is_empty(), "the hung server was reached");
    let healthy = listed(&gateway, 80);
    for standing in healthy.standings() {
        let id = standing["id"].as_str().unwrap();
        let (tools, fetched) = if id.starts_with("server") { (10, true) } else { (0, false) };
        assert_eq!((&standing["tools"], standing["fetchedAt"].is_string()), (&tools.into(), fetched), "{standing}");
    }

    // B: everything is killed. Calls fail at once with an error that says why; everything stays listed, and says so.
    stage.world.upstreams.iter_mut().for_each(|upstream| upstream.service.stop());
    stage.origin.answer(Answer::Stalled);
    let ids: Vec<String> = stage.world.upstreams.iter().map(|upstream| upstream.id.to_string()).collect();
    for id in &ids {
        let answer = gateway.client().call(&format!("{id}__echo"), &serde_json::json!({}));
        assert_eq!(answer["error"]["data"]["connector"], *id, "{answer}");
        assert!(answer["error"]["data"]["reason"].is_string(), "{answer}");
    }
    for id in &ids {
        until(&format!("{id} is told as down"), PATIENCE, || {
            (connector(&gateway, id)["contact"] == "down").then_some(())
        });
    }
    // The modern servers said that their lists are fresh for a moment only. The legacy ones can not say so: theirs count
    // as fresh for the gateway's own time, and `/status` tells that they are down.
    let stale = until("every list that has a term is told as stale", A_REFRESH, || {
        let listed = listed(&gateway, 80);
        let standings = listed.standings();
        let stale = standings.iter().filter(|standing| standing["state"] == "stale-error").count();
        (stale == 4).then_some(listed)
    });
    assert!(stale.tools == healthy.tools, "the definitions are the same bytes");
    for standing in stale.standings().iter().filter(|standing| standing["tools"] == 10) {
        let reason = if standing["state"] == "stale-error" { "refresh-failing" } else { "within-ttl" };
        assert!(standing["fetchedAt"].is_string(), "{standing}");
        assert_eq!(standing["reason"], reason, "{standing}");
    }

    // C: they return with other tools; D: and the dead one is alive for the first time.
    stage.world.upstreams.iter().for_each(|upstream| upstream.server.set_tools(12));
    stage.world.start();
    stage.dead.start();
    let back = Instant::now();
    until("96 tools and the late joiner's are served", A_REFRESH, || {
        gateway.client().list().filter(|listed| listed.names().len() == 8 * 12 + 10)
    });
    println!(
        "C, D: all new lists and the late joiner's were served {} ms after they were back",
        since(back).as_millis()
    );
    for tool in ["server-01__add", "server-08__add", "dead__add"] {
        let answer = until(&format!("{tool} is called"), A_REFRESH, || {
            let answer = gateway.client().call(tool, &serde_json::json!({"a": 40, "b": 2}));
            answer.get("result").cloned()
        });
        assert_eq!(answer["structuredContent"]["sum"], 42, "{answer}");
    }
    wait_for_failure(&gateway, "hung", "timeout");
    let finished = gateway.stop();
    assert_eq!(finished.code, Some(0), "{finished:?}");
}

#[test]
fn scene_e_every_page_of_a_list_is_read() {
    for era in [ServerEra::Legacy, ServerEra::Modern] {
        let paged = ServerOptions { page_size: Some(10), era, ..options("paged", 25) };
        let paged = Service::started(McpServer::new(paged).router());
        let single = Service::started(McpServer::new(ServerOptions { era, ..options("single", 1) }).router());
        let entries = [entry("paged", paged.address()), entry("single", single.address())];
        let origin = MapOrigin::new(Answer::Document(signed_map(&entries, |_| {})));
        let world = World::scripted(0, &origin);
        let gateway = world.installation().serve();
        let listed = wait_for_tools(&gateway, 26);
        let standings = listed.standings();
        let of = |id: &str| standings.iter().find(|one| one["id"] == id).unwrap()["tools"].clone();
        assert_eq!((of("paged"), of("single")), (25.into(), 1.into()), "{era:?}");
        assert_eq!(gateway.stop().code, Some(0));
    }
}
