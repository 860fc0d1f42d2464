//! Obedience: for each function of the contract, a policy that decides otherwise changes what the gateway does, in the
//! same scene. So no decision is made by the host in secret.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::time::Duration;

use cortex_mcp::edge::files::Directory;
use cortex_mcp::edge::state;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::policy::{DecidedBy, Function};
use support::policies::contrary;
use support::{Rig, Served, seconds};

/// The rig of a scene, with the default policy or with the one that decides `function` otherwise.
fn rig(servers: usize, function: Option<&str>) -> Rig {
    let mut rig = Rig::new(servers);
    rig.policy = function.map(contrary);
    rig
}

/// The origins of the connectors, in the order of their requests, repetitions dropped.
fn turns(served: &Served) -> Vec<String> {
    let mut turns: Vec<String> = Vec::new();
    for sent in served.wire.sent() {
        let origin = sent.origin();
        if origin != "https://map.test" && turns.last() != Some(&origin) {
            turns.push(origin);
        }
    }
    turns
}

#[tokio::test(start_paused = true)]
async fn refresh_decides_whether_anything_is_ever_fetched() {
    for (policy, fetched) in [(None, true), (Some("refresh"), false)] {
        let rig = rig(2, policy);
        let served = rig.start().await;
        tokio::time::sleep(seconds(600)).await;
        served.modern().list().await;
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        assert_eq!((served.wire.count() > 0, served.tools() > 0), (fetched, fetched), "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn breaker_decides_whether_a_call_passes() {
    for (policy, calls) in [(None, 3), (Some("breaker"), 0)] {
        let rig = rig(2, policy);
        let served = rig.ready().await;
        assert_eq!(served.tools(), 6);
        for _ in 0..3 {
            let answer = served.modern().call("s2__echo", "{}").await;
            match policy {
                None => assert_eq!(answer.code(), None),
                Some(_) => {
                    assert_eq!(answer.json()["error"]["data"]["reason"], "breaker-open");
                    assert_eq!(answer.json()["error"]["data"]["retryAfterMs"], 60_000);
                }
            }
        }
        assert_eq!(rig.server(2).counts().calls, calls, "{policy:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn plan_decides_who_goes_first() {
    let mut orders = Vec::new();
    for policy in [None, Some("plan")] {
        let mut rig = rig(5, policy);
        rig.set("MCP_CONNECTOR_CONCURRENCY", "1");
        let served = rig.ready().await;
        orders.push(turns(&served));
    }
    assert_eq!(orders[0], (1..=5).map(|number| format!("https://s{number}.test")).collect::<Vec<_>>());
    // All that wait are planned together, and the last of them goes first.
    assert_eq!(orders[1], orders[0].iter().rev().cloned().collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn concurrency_decides_how_many_are_under_way_at_once() {
    for (policy, sequential) in [(None, false), (Some("concurrency"), true)] {
        let rig = rig(6, policy);
        rig.servers.iter().for_each(|upstream| upstream.server.set_latency(Duration::from_millis(100)));
        let served = rig.ready().await;
        assert_eq!(served.tools(), 18);
        // Whoever had its turn does not get another one.
        assert_eq!(turns(&served).len() == 6, sequential, "{policy:?}: {:?}", turns(&served));
    }
}

#[tokio::test(start_paused = true)]
async fn lookup_decides_whether_what_is_held_is_served() {
    for (policy, tools) in [(None, 6), (Some("lookup"), 0)] {
        let rig = rig(2, policy);
        let served = rig.ready().await;
        tokio::time::sleep(seconds(5)).await;
        assert_eq!((rig.map.requests() > 0, served.tools()), (true, tools), "{policy:?}");
    }
    // A list that is held already is withheld as well.
    let mut rig = rig(2, None);
    rig.ready().await.gateway.shut_down().await;
    rig.policy = Some(contrary("lookup"));
    assert_eq!(rig.start().await.tools(), 0);
}

#[tokio::test(start_paused = true)]
async fn advance_decides_whether_what_was_fetched_is_accepted() {
    for (policy, tools) in [(None, 6), (Some("advance"), 0)] {
        let rig = rig(2, policy);
        let served = rig.ready().await;
        tokio::time::sleep(seconds(5)).await;
        assert_eq!((rig.map.requests() > 0, served.tools()), (true, tools), "{policy:?}");
        assert_eq!(rig.state.names().unwrap().contains(&state::own_file("service-map")), tools > 0);
        let failure = served.gateway.status().service_map.unwrap().last_failure.map(|failure| failure.class);
        assert_eq!(failure, policy.map(|_| "rollback"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_policy_keeps_is_still_served_and_still_saved() {
    let mut rig = rig(2, Some("keeping"));
    let served = rig.ready().await;
    let before = served.gateway.snapshot().tools().clone();
    rig.server(1).set_tools(9);
    rig.publish(|map| {
        map.generated_at = map.generated_at.plus(1_000);
        map.connectors[1].enabled = false;
    });
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(served.gateway.snapshot().tools(), &before);
    served.gateway.shut_down().await;
    rig.stop_everything();
    let served = rig.start().await;
    assert_eq!(served.gateway.snapshot().tools(), &before);
}

#[tokio::test(start_paused = true)]
async fn stamp_decides_what_saved_state_is_stamped_with() {
    for (policy, stamped) in [(None, false), (Some("stamp"), true)] {
        let rig = rig(2, policy);
        let served = rig.ready().await;
        served.gateway.shut_down().await;
        let saved = state::read(&rig.state, &["service-map"]).unwrap();
        for name in ["service-map", "connector-s1", "connector-s2"] {
            assert!(saved.records.iter().any(|(saved, _)| saved == name), "{name}");
        }
        for (name, record) in saved.records {
            let header: serde_json::Value = record.header().unwrap();
            assert_eq!(
                header["stamp"] == serde_json::json!({ "wall_ms": 7, "counter": 7 }),
                stamped,
                "{name}: {header}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn adopt_and_merge_decide_which_entries_of_the_registry_count() {
    // What is known of a name and what is found there are merged; what is new is adopted only.
    for (policy, found, edited) in [(None, 3, 1), (Some("adopt"), 0, 0), (Some("merge"), 3, 3)] {
        let mut rig = rig(2, policy);
        rig.server(2).set_tools(1);
        rig.environment = [].into();
        let served = rig.start().await;
        for (server, tools) in [("s1", found), ("s2", edited)] {
            let entry = format!(r#"{{"name":"one","transport":"http","endpoint":"https://{server}.test/mcp"}}"#);
            rig.write_registry(&format!(r#"{{"servers":[{entry}]}}"#));
            tokio::time::sleep(seconds(5)).await;
            let connectors = served.gateway.status().connectors.len();
            assert_eq!((served.tools(), connectors), (tools, usize::from(tools > 0)), "{policy:?} {server}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn flush_after_decides_when_state_is_written() {
    for (policy, written) in [(None, true), (Some("flush-after"), false)] {
        let rig = rig(2, policy);
        let served = rig.ready().await;
        assert_eq!(served.tools(), 6);
        tokio::time::sleep(seconds(60)).await;
        let saved = state::read(&rig.state, &["service-map"]).unwrap();
        let lists = saved.records.iter().filter(|(name, _)| name.starts_with("connector-")).count();
        assert_eq!(lists == 2, written, "{policy:?}: {lists}");
        assert_eq!(lists == 0, !written);
    }
}

#[tokio::test(start_paused = true)]
async fn a_gateway_asks_its_policy_for_every_function_and_names_who_decided() {
    let mut rig = rig(2, None);
    // A family of its own, and otherwise the default.
    rig.policy = Some(contrary("nothing"));
    rig.write_registry(r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s2.test/mcp"}]}"#);
    let served = rig.ready().await;
    served.until("all", seconds(1), |served| served.tools() == 9).await;
    rig.write_registry(r#"{"servers":[{"name":"own","transport":"http","endpoint":"https://s1.test/mcp"}]}"#);
    tokio::time::sleep(seconds(1)).await;
    served.modern().call("s1__echo", "{}").await;
    served.gateway.shut_down().await;
    let digest = rig.policy.as_ref().unwrap().digest();
    let records = rig.records.records();
    for function in Function::ALL {
        let made: Vec<_> = records.iter().filter(|record| record.input.function() == function).collect();
        assert!(!made.is_empty(), "{function:?} was never asked");
        assert!(made.iter().all(|record| record.decided_by == DecidedBy::Deployed(digest) && !record.reused_instance));
    }
    // Records are complete, in order, and numbered by subject.
    let mut by_subject = std::collections::BTreeMap::<String, u64>::new();
    for (sequence, record) in (0..).zip(&records) {
        assert_eq!(record.sequence, sequence);
        let next = by_subject.entry(record.subject.clone()).or_default();
        assert_eq!(record.subject_sequence, *next, "{}", record.subject);
        *next += 1;
    }
}
