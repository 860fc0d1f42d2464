//! Embedding: a gateway ends when it is told to or dropped, leaves no task behind, closes what it owns and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::connectors::CallError;
use cortex_mcp::edge::disk::{self, Disk};
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::http::{Http, Lane, Request};
use cortex_mcp::edge::process::Exit;
use cortex_mcp::edge::virtual_processes::OnTerminate;
use cortex_mcp::gateway::{Gateway, StateRole};
use cortex_mcp::policy::{DecisionSink, PolicyComponent};
use cortex_mcp::registry::{Change, RegistryEntry};
use support::traces::{dump, replayed};
use support::{Rig, seconds};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;

/// How many tasks the runtime has, once those that are ending have ended.
async fn tasks() -> usize {
    tokio::time::sleep(seconds(1)).await;
    alive()
}

/// How many tasks the runtime has.
fn alive() -> usize {
    Handle::current().metrics().num_alive_tasks()
}

/// Threads of this process that bear the names of the gateway's own.
fn own_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| ["trace", "shadow-policy"].contains(&name.trim())).count()
}

/// How a gateway comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    ShutDown,
    Dropped,
}

/// A gateway right after its start, in the middle of the first sync.
async fn starting(rig: &Rig, end: End) {
    let served = rig.start().await;
    named_threads();
    if end == End::ShutDown {
        served.gateway.shut_down().await;
    }
}

/// A gateway that has served, and is asked something by nobody but one client who is never answered.
async fn in_use(rig: &Rig, end: End) {
    let served = rig.start().await;
    named_threads();
    served.gateway.first_pass().await;
    assert_eq!(served.gateway.status().state, StateRole::Writer, "nobody else holds the lock");
    let client = served.modern();
    client.call("s1__echo", "{}").await;
    rig.hang(1);
    let (gateway, legacy) = (served.gateway.clone(), served.legacy());
    match end {
        End::ShutDown => {
            let hung = tokio::spawn(async move { gateway.call("s1__echo", None).await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            served.gateway.shut_down().await;
            assert!(hung.await.unwrap().is_err(), "it is cut off, not left hanging");
        }
        End::Dropped => {
            // A legacy client's call goes on without its connection.
            let hung = tokio::spawn(async move { legacy.call("s1__echo", "{}").await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            hung.abort();
            drop(gateway);
            // A router is as good as a clone.
            drop(served);
            tokio::time::sleep(seconds(5)).await;
            assert_eq!(client.call("s2__echo", "{}").await.status, 200);
        }
    }
    rig.revive(1);
}

/// Waits until the gateway's threads bear their names, a moment after they were started.
fn named_threads() {
    while own_threads() < 2 {
        std::thread::yield_now();
    }
}

// One test, because the threads of all tests of a process are counted together.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_shut_down_or_dropped_has_left_no_task_no_thread_no_process_and_no_lock_behind() {
    let mut rig = Rig::new(4);
    rig.trace = Some(MemoryDirectory::new());
    rig.shadow = Some(Arc::new(PolicyComponent::embedded().unwrap()));
    rig.refuse(3);
    rig.hang(4);
    rig.write_registry(r#"{"servers":[{"name":"silent","transport":"stdio","command":"silent"}]}"#);
    // It reads and never answers; and it ends with its input.
    rig.processes.set("silent", OnTerminate::IsHandled, |mut child| async move {
        tokio::io::copy(&mut child.input, &mut tokio::io::sink()).await.unwrap();
        Exit::Code(0)
    });
    let before = tasks().await;
    for end in [End::ShutDown, End::Dropped] {
        for round in 0..3 {
            if round == 0 {
                starting(&rig, end).await;
            } else {
                in_use(&rig, end).await;
            }
            // What is being opened is given up by its own deadline.
            support::until(&format!("{end:?}, round {round}"), seconds(60), || alive() == before).await;
            let left = (own_threads(), rig.processes.running());
            assert_eq!(left, (0, 0), "threads and processes, {end:?}, round {round}");
            let locks = rig.state.names().unwrap().into_iter().filter(|name| name.contains("lock"));
            for lock in locks {
                assert!(rig.state.try_lock(&lock).unwrap().is_some(), "{lock} is still held");
            }
            let lock = rig.registry.open("servers.json.flock").unwrap().unwrap();
            assert!(lock.try_lock().unwrap(), "the registry's lock is still held");
        }
    }
    assert!(rig.processes.started() > 0);
    let report = replayed(dump(rig.trace.as_ref().unwrap()).path());
    assert_eq!((report.equal, report.different, report.dropped), (report.records, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn what_was_changed_before_a_gateway_was_dropped_is_kept() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let entry = RegistryEntry::parse(r#"{"name":"kept","transport":"http","endpoint":"https://kept.test/mcp"}"#);
    served.gateway.registry().change_soon(Change::put(entry.unwrap())).await.unwrap();
    let written = || disk::read(&rig.registry, "servers.json", 1 << 20).unwrap();
    assert!(written().is_none(), "it is in the journal");
    drop(served);
    tokio::time::sleep(seconds(3)).await;
    assert!(String::from_utf8(written().unwrap()).unwrap().contains("kept.test"));
    rig.stop_everything();
    let again = rig.ready().await;
    assert_eq!((again.tools(), again.gateway.registry().list().len()), (6, 1));
}

#[tokio::test(start_paused = true)]
async fn an_orderly_end_goes_on_when_nobody_waits_for_it() {
    let rig = Rig::new(2);
    let before = tasks().await;
    let served = rig.ready().await;
    rig.hang(1);
    let gateway = served.gateway.clone();
    let hung = tokio::spawn(async move { gateway.call("s1__echo", None).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(tokio::time::timeout(Duration::from_millis(1), served.gateway.shut_down()).await.is_err());
    assert!(hung.await.unwrap().is_err());
    // Whoever asks again waits for the same end.
    served.gateway.shut_down().await;
    assert_eq!(tasks().await, before);
}

#[tokio::test(start_paused = true)]
async fn a_listener_that_is_given_up_half_way_leaves_no_connection_behind() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let before = alive();
    let gateway = served.gateway.clone();
    let serving = tokio::spawn(async move { gateway.serve(listener, CancellationToken::new()).await });
    let _client = tokio::net::TcpStream::connect(address).await.unwrap();
    support::until("it is accepted", seconds(1), || alive() == before + 2).await;
    serving.abort();
    support::until("both are gone", seconds(1), || alive() == before).await;
}

#[test]
fn a_gateway_that_outlives_its_runtime_is_dropped_in_peace() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let rig = Rig::new(1);
    let served = runtime.block_on(rig.ready());
    drop(runtime);
    drop(served);
    assert!(rig.state.try_lock("state.lock").unwrap().is_some());
}

#[tokio::test(start_paused = true)]
async fn what_was_handed_to_a_gateway_is_usable_after_its_end() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    let decided = rig.records.records().len();
    // Its HTTP client, the sink, the policy and the folders belong to whoever embeds it.
    let request = Request {
        method: http::Method::POST,
        url: rig.servers[0].url.clone(),
        headers: http::HeaderMap::new(),
        body: bytes::Bytes::from_static(b"{}"),
        lane: Lane::Call,
    };
    assert!(served.wire.send(request).await.is_ok());
    rig.records.record(rig.records.shared()[0].clone());
    assert_eq!(rig.records.records().len(), decided + 1);
    rig.state.replace("own", b"x").unwrap();
    let again = rig.ready().await;
    assert_eq!(again.tools(), 6);
}

#[tokio::test(start_paused = true)]
async fn after_its_end_a_gateway_answers_with_an_error_and_ending_twice_is_ending_once() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let second: Gateway = served.gateway.clone();
    tokio::join!(served.gateway.shut_down(), second.shut_down());
    served.gateway.shut_down().await;
    let error = served.gateway.call("s1__echo", None).await.unwrap_err();
    assert!(matches!(error, CallError::NoConnector(_)), "{error}");
    let sent = served.wire.count();
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!(served.wire.count(), sent, "nothing leaves any more");
}
