//! Which era a child speaks, and how many processes it takes to know.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::mcp::limits::{LEAST_DISCOVERY_GRACE, PIPE_PROBE_TIMEOUT};
use crate::mcp::{ProtocolFault, WireError};

async fn opened(rig: &Rig, remembered: Option<Era>) -> Session {
    rig.upstream.open(remembered, &Declared::default()).await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_modern_child_is_found_by_one_question_and_needs_no_handshake() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Modern).await.unwrap();
        assert_eq!(request["method"], "tools/call");
        assert_eq!(request["params"]["_meta"]["io.modelcontextprotocol/protocolVersion"], "2026-07-28");
        peer.answer(&request, r#"{"z":1.0}"#).await;
        peer.rest().await
    });
    let session = opened(&rig, None).await;
    assert_eq!((session.era(), session.is_shared_stream()), (Era::Modern, true));
    assert!(session.facts().unwrap().about.has("tools"));
    let outcome = session.request("tools/call", object(r#"{"name":"t"}"#), &Keeps::default()).await.unwrap();
    assert_eq!((text(outcome).as_str(), rig.processes.started()), (r#"{"z":1.0}"#, 1));
}

#[tokio::test(start_paused = true)]
async fn a_legacy_child_that_answers_with_any_error_is_initialized_in_the_same_process() {
    for code in [-32601, -32602, -32600, -32000, 1] {
        let rig = Rig::new(move |mut peer| async move {
            let request = peer.request().await.unwrap();
            assert_eq!(request["method"], "server/discover");
            peer.refuse(&request, code).await;
            let request = peer.next().await.unwrap();
            assert_eq!(request["method"], "initialize");
            assert_eq!(request["params"]["capabilities"], serde_json::json!({}));
            peer.answer(&request, INITIALIZED).await;
            let notice = peer.next().await.unwrap();
            assert_eq!(notice["method"], "notifications/initialized");
            peer.rest().await
        });
        let session = opened(&rig, None).await;
        assert_eq!((session.era(), session.protocol_version()), (Era::Legacy, "2024-11-05"));
        assert_eq!(rig.processes.started(), 1, "{code}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_legacy_child_costs_one_probe_and_a_remembered_one_none() {
    let rig = Rig::new(|mut peer| async move {
        while let Some(request) = peer.next().await {
            // What it does not know it does not answer; a cancellation of it would be new to it too.
            assert_ne!(request["method"], "notifications/cancelled");
            if request["method"] == "initialize" {
                peer.answer(&request, INITIALIZED).await;
            }
        }
        Exit::Code(0)
    });
    let began = Instant::now();
    assert_eq!(opened(&rig, None).await.era(), Era::Legacy);
    let probed = PIPE_PROBE_TIMEOUT + LEAST_DISCOVERY_GRACE;
    assert_eq!((began.elapsed(), rig.processes.started()), (probed, 1));
    let began = Instant::now();
    assert_eq!(opened(&rig, Some(Era::Legacy)).await.era(), Era::Legacy);
    assert_eq!((began.elapsed(), rig.processes.started()), (Duration::ZERO, 2));
}

#[tokio::test(start_paused = true)]
async fn a_legacy_child_that_ends_at_the_modern_question_is_not_asked_it_the_next_time() {
    for delay in [Duration::ZERO, PIPE_PROBE_TIMEOUT * 2] {
        let rig = Rig::new(move |mut peer| async move {
            tokio::time::sleep(delay).await;
            let request = peer.request().await.unwrap();
            if request["method"] != "initialize" {
                return Exit::Code(1);
            }
            peer.answer(&request, INITIALIZED).await;
            peer.rest().await
        });
        let error = rig.upstream.open(None, &Declared::default()).await.unwrap_err();
        assert_eq!((error, rig.processes.started()), (ProtocolFault::PipeEnded.into(), 1));
        assert_eq!((opened(&rig, None).await.era(), rig.processes.started()), (Era::Legacy, 2));
        assert_eq!((opened(&rig, None).await.era(), rig.processes.started()), (Era::Legacy, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_child_that_only_ends_fails_with_that_and_costs_one_process_each_time() {
    let rig = Rig::new(|_| async move { Exit::Code(1) });
    for started in 1..=4 {
        let error = rig.upstream.open(None, &Declared::default()).await.unwrap_err();
        let ended = matches!(error, WireError::Protocol(ProtocolFault::PipeEnded | ProtocolFault::NotWritten));
        assert!(ended, "{error:?}");
        assert_eq!((rig.processes.started(), rig.processes.running()), (started, 0));
        assert_eq!(rig.upstream.failure(&error).message, "the server's process has ended with status 1");
    }
}

#[tokio::test(start_paused = true)]
async fn a_remembered_era_that_does_not_hold_any_more_is_noticed_without_repeating_a_call() {
    // In the same process, whichever it was.
    for (remembered, era) in [(Era::Modern, Era::Legacy), (Era::Legacy, Era::Modern)] {
        let rig = Rig::new(move |mut peer| async move {
            let request = peer.open(era).await.unwrap();
            peer.answer(&request, "{}").await;
            peer.rest().await
        });
        let session = opened(&rig, Some(remembered)).await;
        assert_eq!((session.era(), rig.processes.started()), (era, 1));
        session.request("tools/call", object(r#"{"name":"t"}"#), &Keeps::default()).await.unwrap();
    }
    let rig = Rig::new(|mut peer| async move {
        peer.open(Era::Modern).await.unwrap();
        Exit::Code(1)
    });
    let session = opened(&rig, Some(Era::Modern)).await;
    let error = session.request("tools/call", object(r#"{"name":"t"}"#), &Keeps::default()).await.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (false, ProtocolFault::PipeEnded.into()));
}

#[tokio::test(start_paused = true)]
async fn a_command_that_does_not_exist_says_so_and_nothing_was_sent() {
    let rig = Rig::new(|_| async move { Exit::Code(0) });
    let command = CommandLine { program: "nothing".into(), arguments: vec![], environment: BTreeMap::new() };
    let (network, id) = (Arc::new(VirtualNetwork::new()), "nothing".parse().unwrap());
    let upstream = Upstream::reached(
        &Reach::Stdio(command),
        crate::mcp::FixedHeaders::new(HeaderMap::new()),
        network,
        ChildSpawner::new(rig.processes.clone()),
        &id,
        Default::default(),
    );
    let error = upstream.open(None, &Declared::default()).await.unwrap_err();
    assert!(error.was_not_sent(), "{error:?}");
    assert!(error.to_string().contains("check the command and PATH"), "{error}");
}
