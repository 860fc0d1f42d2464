//! Servers on standard input and output, as connectors: served like any other, started again when they die, and ended
//! with the gateway. In virtual time with scripted servers; with real processes where only those can show it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

#[path = "stdio/child.rs"]
mod child;
mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use child::{Behaviour, OnCall, Script, members};
use cortex_mcp::connectors::Contact;
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::process::{ChildSpawner, Exit, SystemProcesses, is_inherited};
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::edge::virtual_processes::OnTerminate;
use cortex_mcp::mcp::protocol::Era;
use cortex_mcp::mcp::{Declared, Nobody, Outcome, ProtocolFault, Session, Upstream};
use cortex_mcp::model::raw::RawObject;
use cortex_mcp::model::{CommandLine, Digest, ListKind, Reach};
use http::HeaderMap;
use serde_json::{Value, json};
use support::log::Log;
use support::{Rig, Served, seconds};
use tokio::io::AsyncWriteExt;
use tokio::time::Instant;

#[test]
fn child_process_entry() {
    child::obey();
}

/// A gateway whose registry names one server, `local`, that is a script.
async fn served(script: &Script) -> (Rig, Served) {
    let rig = Rig::new(0);
    let program = script.clone();
    rig.processes.set("local", OnTerminate::Ends, move |child| program.clone().run(child));
    register(&rig, &["local"]);
    let served = rig.ready().await;
    served.until("the server", seconds(5), |served| served.connector("local").is_some_and(|it| it.runs > 0)).await;
    (rig, served)
}

fn register(rig: &Rig, names: &[&str]) {
    let servers: Vec<Value> =
        names.iter().map(|name| json!({ "name": name, "transport": "stdio", "command": name })).collect();
    rig.write_registry(&json!({ "servers": servers }).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_is_dropped_ends_its_processes() {
    let (rig, served) = served(&Script::new(2)).await;
    assert_eq!(rig.processes.running(), 1);
    drop(served);
    support::until("it has ended", seconds(10), || rig.processes.running() == 0).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_on_standard_input_is_listed_and_called_by_clients_of_both_eras_in_one_process() {
    let script = Script::new(2);
    let (rig, served) = served(&script).await;
    let status = served.connector("local").unwrap();
    assert_eq!((status.tools, status.contact, status.era), (2, Contact::Up, Some(Era::Legacy)));
    for era in [Era::Legacy, Era::Modern] {
        let answer = served.client(era).call("local__t1", r#"{"big":12345678901234567890123}"#).await;
        assert!(answer.body.contains("structuredContent"), "{}", answer.body);
        let meta = answer.result()["content"][0]["text"].as_str().unwrap().to_owned();
        let (hops, token) = meta.split_once(r#","progressToken":""#).unwrap();
        assert_eq!(hops, r#"{"com.brainwav.cortex/hops":1"#, "{era}");
        assert!(token.trim_end_matches("\"}").parse::<u64>().is_ok(), "{era}: {token}");
    }
    assert_eq!((rig.processes.started(), script.calls.load(Ordering::SeqCst)), (1, 2));
    served.gateway.shut_down().await;
    assert_eq!((rig.processes.running(), rig.processes.terminated(), rig.processes.killed()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_process_whose_description_changes_has_ended_before_the_next_one_starts() {
    let script = Script::new(1);
    let rig = Rig::new(0);
    let (alive, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (program, now, peak) = (script.clone(), alive.clone(), most.clone());
    rig.processes.set("local", OnTerminate::Ends, move |child| {
        let (program, now, peak) = (program.clone(), now.clone(), peak.clone());
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            let exit = program.run(child).await;
            // What it works on, it puts away after its input has ended.
            tokio::time::sleep(Duration::from_millis(500)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            exit
        }
    });
    register(&rig, &["local"]);
    let served = rig.ready().await;
    served.until("the server", seconds(5), |served| served.tools_of("local") == 1).await;
    script.tools.send_replace(2);
    let changed = json!({ "name": "local", "transport": "stdio", "command": "local", "args": ["again"] });
    rig.write_registry(&json!({ "servers": [changed] }).to_string());
    served.until("the next process", seconds(20), |_| rig.processes.started() == 2).await;
    served.until("its list", seconds(5), |served| served.tools_of("local") == 2).await;
    assert_eq!((most.load(Ordering::SeqCst), alive.load(Ordering::SeqCst)), (1, 1), "never two at once");
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_is_seen_within_a_second_of_its_announcement() {
    let script = Script::new(1);
    let (rig, served) = served(&script).await;
    for tools in [3, 2] {
        script.tools.send_replace(tools);
        served.until("the new list", seconds(1), |served| served.tools_of("local") == tools).await;
        tokio::time::sleep(seconds(60)).await;
    }
    assert_eq!(rig.processes.started(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_of_a_call_fails_it_at_once_and_is_back_soon_with_its_list_served_meanwhile() {
    let script = Script::new(2);
    let (rig, served) = served(&script).await;
    tokio::time::sleep(seconds(120)).await;
    script.on_call.send_replace(OnCall::Dies);
    let began = Instant::now();
    let answer = served.modern().call("local__t1", "{}").await;
    assert!(answer.body.contains("ended"), "{}", answer.body);
    assert!(answer.body.contains("so the tool may have run"), "{}", answer.body);
    assert_eq!(answer.json()["error"]["data"]["reason"], "answer-lost");
    assert_eq!(
        (began.elapsed(), rig.processes.started()),
        (Duration::ZERO, 1),
        "nobody starts it for a call that is lost"
    );
    served
        .until("the death", Duration::ZERO, |served| served.connector("local").unwrap().contact == Contact::Down)
        .await;
    let status = served.connector("local").unwrap();
    assert!(status.last_failure.as_ref().unwrap().message.contains("ended"), "{status:?}");
    assert_eq!(status.tools, 2);
    script.on_call.send_replace(OnCall::Answers);
    served.until("the restart", seconds(2), |served| served.connector("local").unwrap().contact == Contact::Up).await;
    assert_eq!(rig.processes.started(), 2);
    assert_eq!(served.modern().call("local__t1", "{}").await.status, 200);
    assert_eq!((rig.processes.started(), rig.processes.running()), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_silent_call_to_a_process_is_kept_alive_too() {
    let script = Script::new(1);
    let (_rig, served) = served(&script).await;
    script.on_call.send_replace(OnCall::Works(45));
    for client in [served.modern(), served.legacy()] {
        let answer = client.call("local__t1", "{}").await;
        assert_eq!(answer.headers["content-type"], "text/event-stream");
        assert_eq!((answer.body.matches(": keep-alive").count(), answer.code()), (4, None), "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_server_that_is_gone_starts_one_process_and_calls_at_once_share_it() {
    let script = Script::new(1);
    let (rig, served) = served(&script).await;
    tokio::time::sleep(seconds(120)).await;
    script.on_call.send_replace(OnCall::Dies);
    served.modern().call("local__t1", "{}").await;
    script.on_call.send_replace(OnCall::Answers);
    // Before the restart is due.
    let client = served.modern();
    let answers = futures_util::future::join_all((0..8).map(|_| client.call("local__t1", "{}"))).await;
    assert!(answers.iter().all(|answer| answer.body.contains("structuredContent")), "{answers:?}");
    assert_eq!(rig.processes.started(), 2);
    tokio::time::sleep(seconds(30)).await;
    assert_eq!((rig.processes.started(), rig.processes.running()), (2, 1), "the restart finds it there");
    // One that dies of every call: each costs one process at most.
    script.on_call.send_replace(OnCall::Dies);
    for _ in 0..4 {
        let before = rig.processes.started();
        client.call("local__t1", "{}").await;
        assert!(rig.processes.started() <= before + 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lists_and_dies_again_and_again_is_started_ever_more_seldom() {
    let script = Script { lists: 1, ..Script::new(1) };
    let (rig, served) = served(&script).await;
    let mut starts = Vec::new();
    for _ in 0..4 {
        let before = rig.processes.started();
        tokio::time::sleep(seconds(300)).await;
        starts.push(rig.processes.started() - before);
    }
    // Doubling from half a second to a minute, with jitter: about ten until then, and some five to ten per window
    // after.
    assert!(starts[0] <= 20 && starts[1..].iter().all(|count| (3..=12).contains(count)), "{starts:?}");
    assert_eq!(served.tools_of("local"), 1, "what it offered stays");
    assert!(rig.processes.running() <= 1);
}

#[tokio::test(start_paused = true)]
async fn a_command_that_can_not_be_started_is_tried_with_backoff_and_says_why() {
    let rig = Rig::new(0);
    register(&rig, &["missing", "broken"]);
    rig.processes.set("broken", OnTerminate::Ends, |_child| async { Exit::Code(127) });
    let served = rig.ready().await;
    tokio::time::sleep(seconds(600)).await;
    let message = |id: &str| served.connector(id).unwrap().last_failure.clone().unwrap().message;
    assert!(message("missing").contains("check the command and PATH"), "{}", message("missing"));
    assert!(message("broken").contains("ended"), "{}", message("broken"));
    // About eight runs until the cap of a minute and one a minute after that; unknown eras cost none more.
    assert!((10..=30).contains(&rig.processes.started()), "{}", rig.processes.started());
    assert_eq!(rig.processes.running(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_a_process_wrote_last_is_told_to_those_who_see_everything_and_to_no_one_else() {
    let (log, _guard) = Log::of_this_thread(tracing::Level::WARN);
    let mut rig = Rig::new(0);
    let directory = MemoryDirectory::new();
    rig.trace = Some(directory.clone());
    let (all, some) = (Digest::of(b"all"), Digest::of(b"some"));
    rig.toml = format!(
        "[registry]\ntools = true\n[[token]]\nname = \"all\"\nsha256 = \"{all}\"\n[[token]]\nname = \"some\"\nsha256 = \
         \"{some}\"\ntools = [\"registry_*\"]"
    );
    rig.processes.set("broken", OnTerminate::Ends, |mut child| async move {
        child.errors.write_all(b"marker-of-stderr: the key canary-value is bad\n").await.unwrap();
        Exit::Code(2)
    });
    let entry =
        json!({ "name": "broken", "transport": "stdio", "command": "broken", "env": { "KEY": "canary-value" } });
    rig.write_registry(&json!({ "servers": [entry] }).to_string());
    let served = rig.ready().await;
    tokio::time::sleep(seconds(30)).await;
    let token = |token: &str| served.modern().with_header("authorization", &format!("Bearer {token}"));
    let status = token("all").get("/status").await;
    let failure = &status.json()["connectors"][0]["lastFailure"];
    assert_eq!(failure["message"], "the server's process has ended with status 2");
    assert_eq!(failure["stderr"], "marker-of-stderr: the key *** is bad");
    let failed = log.lines("sync failed");
    assert!(failed.iter().all(|line| line.contains("status 2") && line.contains("marker-of-stderr")), "{failed:?}");
    assert!(!failed.is_empty() && !log.lines("sync failed").iter().any(|line| line.contains("canary")), "{failed:?}");
    assert_eq!(token("some").get("/status").await.status, 403);
    let listed = token("some").call("registry_get", r#"{"name":"broken","includeStatus":true}"#).await;
    assert!(listed.body.contains("status 2") && !listed.body.contains("marker-of-stderr"), "{}", listed.body);
    served.gateway.shut_down().await;
    let mut bytes = 0;
    for name in directory.names().unwrap() {
        let segment = directory.read(&name).unwrap().unwrap();
        bytes += segment.len();
        assert!(!String::from_utf8_lossy(&segment).contains("marker-of-stderr"), "{name}");
    }
    assert!(bytes > 1_000, "something was recorded");
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_changes_or_goes_ends_its_process() {
    let script = Script::new(1);
    let (rig, served) = served(&script).await;
    let program = script.clone();
    rig.processes.set("other", OnTerminate::Ends, move |child| program.clone().run(child));
    rig.write_registry(r#"{"servers":[{"name":"local","transport":"stdio","command":"other"}]}"#);
    served.until("the other command", seconds(5), |_| rig.processes.started() == 2).await;
    served.until("the end of the first", seconds(5), |_| rig.processes.running() == 1).await;
    rig.write_registry(r#"{"servers":[]}"#);
    served.until("the end of the second", seconds(5), |_| rig.processes.running() == 0).await;
    assert_eq!((rig.processes.started(), served.tools()), (2, 0));
}

// ---- real processes -------------------------------------------------------------------------------------------------

/// Ends by itself, as everything here does: no wait is longer than this.
const PATIENCE: Duration = Duration::from_secs(30);

fn real(command: CommandLine) -> Upstream {
    let (network, id) = (Arc::new(VirtualNetwork::new()), "real".parse().unwrap());
    Upstream::reached(
        &Reach::Stdio(command),
        cortex_mcp::mcp::FixedHeaders::new(HeaderMap::new()),
        network,
        ChildSpawner::new(Arc::new(SystemProcesses::new())),
        &id,
        Default::default(),
    )
}

async fn opened(upstream: &Upstream) -> Session {
    tokio::time::timeout(PATIENCE, upstream.open(Some(Era::Legacy), &Declared::default())).await.unwrap().unwrap()
}

/// What the server sees of itself.
async fn seen(session: &Session) -> Value {
    let call = session.request("tools/call", RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap(), &Nobody);
    match tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap() {
        Outcome::Result(result) => serde_json::from_str::<Value>(result.get()).unwrap()["structuredContent"].clone(),
        Outcome::Error(error) => panic!("{error}"),
    }
}

async fn until_gone(group: u32) {
    tokio::time::timeout(PATIENCE, async {
        while !members(group).is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await
    .unwrap_or_else(|_| panic!("left of the group: {:?}", members(group)));
}

#[tokio::test]
async fn a_real_child_has_a_group_and_an_environment_of_its_own_and_its_complaints_are_logged() {
    let (log, _guard) = Log::of_this_thread(tracing::Level::INFO);
    let upstream = real(Behaviour::Good.command());
    let session = tokio::time::timeout(PATIENCE, upstream.open(None, &Declared::default())).await.unwrap().unwrap();
    assert_eq!((session.era(), session.list(ListKind::Tools).await.unwrap().items.len()), (Era::Legacy, 1));
    let seen = seen(&session).await;
    let process = u32::try_from(seen["process"].as_u64().unwrap()).unwrap();
    assert_eq!(members(process), [process], "it leads its own group");
    let names: Vec<&str> = seen["environment"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
    assert!(std::env::vars().any(|(name, _)| name.starts_with("CARGO")), "there is something to keep from it");
    assert!(names.iter().all(|name| is_inherited(name) || *name == "CORTEX_STDIO_SERVER"), "{names:?}");
    session.close().await;
    assert!(members(process).is_empty(), "who closed the session waited for its end");
    let complaint = log.lines("a complaint with");
    assert!(complaint.len() == 1 && complaint[0].contains(r"\\u{1b}[31mcolour\\u{7}"), "{complaint:?}");
    assert!(complaint[0].contains("real"), "it says whose it is: {complaint:?}");
    assert!(
        log.lines("flood ").len() < 100 && !log.lines("more to stderr than is logged").is_empty(),
        "{}",
        log.text()
    );
    assert!(log.lines("Welcome").is_empty());
}

#[tokio::test]
async fn a_grandchild_ends_with_its_group_when_the_session_is_closed_or_dropped() {
    for dropped in [false, true] {
        let upstream = real(Behaviour::Parent.command());
        let session = opened(&upstream).await;
        let seen = seen(&session).await;
        let number = |key: &str| u32::try_from(seen[key].as_u64().unwrap()).unwrap();
        assert_eq!(members(number("process")).len(), 2);
        assert!(members(number("process")).contains(&number("grandchild")));
        if !dropped {
            session.close().await;
            assert!(!members(number("process")).contains(&number("process")));
        }
        drop(session);
        until_gone(number("process")).await;
    }
}

#[tokio::test]
async fn a_child_that_hears_neither_the_end_of_its_input_nor_the_signal_is_killed() {
    let upstream = real(Behaviour::Deaf.behind_a_trap());
    let session = opened(&upstream).await;
    let process = u32::try_from(seen(&session).await["process"].as_u64().unwrap()).unwrap();
    assert_eq!(members(process).len(), 1);
    session.close().await;
    assert!(members(process).is_empty());
}

#[tokio::test]
async fn a_child_that_aborts_fails_the_call_in_flight_and_leaves_no_zombie() {
    let upstream = real(Behaviour::Parent.command());
    let session = opened(&upstream).await;
    let process = u32::try_from(seen(&session).await["process"].as_u64().unwrap()).unwrap();
    let call = session.request(
        "tools/call",
        RawObject::from_str(r#"{"name":"t1","arguments":{"die":true}}"#).unwrap(),
        &Nobody,
    );
    let error = tokio::time::timeout(PATIENCE, call).await.unwrap().unwrap_err();
    assert_eq!(error, ProtocolFault::PipeEnded.into());
    // The session is still held: its process is gone all the same, and what it had started too.
    until_gone(process).await;
    drop(session);
}

#[tokio::test]
async fn a_runtime_that_ends_takes_its_children_along() {
    let process = std::thread::spawn(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let upstream = real(Behaviour::Parent.command());
            let session = opened(&upstream).await;
            let process = u32::try_from(seen(&session).await["process"].as_u64().unwrap()).unwrap();
            std::mem::forget(session);
            process
        })
    });
    until_gone(process.join().unwrap()).await;
}

#[tokio::test]
async fn the_end_of_a_gateway_is_the_end_of_its_real_children() {
    let rig = Rig::new(0);
    let CommandLine { program, arguments, environment } = Behaviour::Parent.command();
    let entry =
        json!({ "name": "child", "transport": "stdio", "command": program, "args": arguments, "env": environment });
    rig.write_registry(&json!({ "servers": [entry] }).to_string());
    let (_, builder) = rig.builder(&rig.network, &rig.state);
    let gateway = builder.processes(Arc::new(SystemProcesses::new())).start().await.unwrap();
    tokio::time::timeout(PATIENCE, gateway.first_pass()).await.unwrap();
    assert_eq!(gateway.snapshot().tool_count(), 1);
    let called = gateway.call("child__t1", Some(RawObject::from_str("{}").unwrap().to_raw())).await.unwrap();
    let Outcome::Result(result) = called else { panic!("{called:?}") };
    let process =
        serde_json::from_str::<Value>(result.get()).unwrap()["structuredContent"]["process"].as_u64().unwrap();
    let process = u32::try_from(process).unwrap();
    assert_eq!(members(process).len(), 2);
    gateway.shut_down().await;
    assert!(!members(process).contains(&process));
    until_gone(process).await;
}
