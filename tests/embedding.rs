//! Embedding: a gateway ends when it is told to, leaves no task behind, closes what it owns and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::connectors::CallError;
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::http::{Http, Lane, Request};
use cortex_mcp::gateway::Gateway;
use cortex_mcp::policy::{DecisionSink, PolicyComponent};
use support::traces::{dump, replayed};
use support::{Rig, seconds};
use tokio::runtime::Handle;

/// How many tasks the runtime has, once those that are ending have ended.
async fn tasks() -> usize {
    tokio::time::sleep(seconds(1)).await;
    Handle::current().metrics().num_alive_tasks()
}

/// Threads of this process that bear the names of the gateway's own.
fn own_threads() -> usize {
    let names = std::fs::read_dir("/proc/self/task").unwrap();
    let names = names.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|name| ["trace", "shadow-policy"].contains(&name.trim())).count()
}

// One test, because the threads of all tests of a process are counted together.
#[tokio::test(start_paused = true)]
async fn a_gateway_that_was_shut_down_has_left_no_task_no_thread_and_no_lock_behind() {
    let mut rig = Rig::new(4);
    rig.trace = Some(MemoryDirectory::new());
    rig.shadow = Some(Arc::new(PolicyComponent::embedded().unwrap()));
    rig.refuse(3);
    rig.hang(4);
    let before = tasks().await;
    for round in 0..3 {
        let served = rig.start().await;
        // A thread bears its name a moment after it was started.
        while own_threads() < 2 {
            std::thread::yield_now();
        }
        if round > 0 {
            served.gateway.first_pass().await;
            served.modern().call("s1__echo", "{}").await;
            // One that nobody answers, in flight when the gateway ends.
            let gateway = served.gateway.clone();
            rig.hang(1);
            let hung = tokio::spawn(async move { gateway.call("s1__echo", None).await });
            tokio::time::sleep(Duration::from_millis(50)).await;
            served.gateway.shut_down().await;
            assert!(hung.await.unwrap().is_err(), "it is cut off, not left hanging");
            rig.revive(1);
        } else {
            // Right after the start, in the middle of the first sync.
            served.gateway.shut_down().await;
        }
        assert_eq!(tasks().await, before, "round {round}");
        assert_eq!(own_threads(), 0);
        let locks = rig.state.names().unwrap().into_iter().filter(|name| name.contains("lock"));
        for lock in locks {
            assert!(rig.state.try_lock(&lock).unwrap().is_some(), "{lock} is still held");
        }
    }
    let report = replayed(dump(rig.trace.as_ref().unwrap()).path());
    assert_eq!((report.equal, report.different, report.dropped), (report.records, 0, 0));
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
