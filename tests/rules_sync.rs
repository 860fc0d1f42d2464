//! The rules of the sync, seen from outside a gateway: gauges of what was observed, rebuilt sessions, deadlines, and an
//! end that is one.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::gateway::SyncKind;
use serde_json::json;
use support::{Rig, Served, seconds};

fn up(served: &Served, id: &str) -> Option<f64> {
    served.metric(&format!("brainwav_mcp_connector_proxy_up{{connector=\"{id}\"}}"))
}

/// M1: the gauge is what was observed: nothing before the first contact, and nothing while a server is down.
#[tokio::test(start_paused = true)]
async fn the_gauge_shows_what_was_observed_and_nothing_that_was_hoped_for() {
    let rig = Rig::new(3);
    rig.server(1).set_latency(seconds(1));
    rig.refuse(2);
    let served = rig.start().await;
    served.until("the quick one", seconds(1), |served| served.tools_of("s3") == 3).await;
    assert_ne!(up(&served, "s1"), Some(1.0), "not yet connected");
    served.gateway.first_pass().await;
    assert_eq!((up(&served, "s1"), up(&served, "s2"), up(&served, "s3")), (Some(1.0), Some(0.0), Some(1.0)));
    rig.refuse(1);
    for _ in 0..5 {
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        assert_eq!((up(&served, "s1"), up(&served, "s2")), (Some(0.0), Some(0.0)));
        tokio::time::sleep(seconds(2)).await;
    }
    assert_eq!(served.tools_of("s1"), 3, "its list is served all the same");
    rig.revive(1);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((up(&served, "s1"), up(&served, "s2")), (Some(1.0), Some(0.0)));
}

/// M4: each part of the fingerprint rebuilds the session of its connector, and of no other.
#[tokio::test(start_paused = true)]
async fn a_changed_version_or_way_to_authenticate_rebuilds_the_session() {
    let mut rig = Rig::new(3);
    rig.set("CORTEX_CONNECTOR_S1_KEY", "key-one");
    let served = rig.ready().await;
    let sessions = |rig: &Rig| (rig.server(1).counts().initialize, rig.server(3).counts().initialize);
    assert_eq!(sessions(&rig), (1, 1));
    rig.publish(|map| map.connectors[0].version = "2.0.0".to_owned());
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(sessions(&rig), (2, 1));
    rig.publish(|map| map.connectors[0] = map.connectors[0].clone().with(json!({ "auth": { "type": "bearer" } })));
    let report = served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((sessions(&rig), report.ready, served.tools()), ((3, 1), 3, 9));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(rig.server(1).open_sessions(), 1, "the sessions of before are closed");
}

/// M7: the breaker guards calls alone; lists are refreshed and served while it is open.
#[tokio::test(start_paused = true)]
async fn an_open_breaker_takes_away_no_list_and_holds_up_no_refresh() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    rig.server(1).fail_with(http::StatusCode::BAD_GATEWAY);
    for _ in 0..5 {
        served.modern().call("s1__echo", "{}").await;
    }
    let refused = served.modern().call("s1__echo", "{}").await;
    assert_eq!((refused.json()["error"]["data"]["reason"].as_str(), served.tools()), (Some("breaker-open"), 3));
    rig.server(1).recover();
    rig.server(1).set_tools(5);
    let report = served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((report.ready, served.tools()), (1, 5));
}

/// M8: what the map says of its connectors is there to be read, whether they answer or not.
#[tokio::test(start_paused = true)]
async fn what_the_map_says_is_published_whether_connectors_answer_or_not() {
    let mut rig = Rig::new(3);
    rig.refuse(1);
    rig.publish(|map| map.connectors[2].enabled = false);
    let served = rig.ready().await;
    let status = served.gateway.status();
    let names: Vec<_> = status.connectors.iter().map(|one| (one.id.to_string(), one.name.clone())).collect();
    assert_eq!(names, [("s1".to_owned(), "S1".to_owned()), ("s2".to_owned(), "S2".to_owned())]);
    assert_eq!(status.disabled[0].as_str(), "s3");
    let before = served.gateway.snapshot();
    rig.server(2).set_tools(7);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    // Whoever read the snapshot of before still holds it, whole.
    assert_eq!((before.tool_count(), served.gateway.snapshot().tool_count()), (3, 7));
}

/// M9: after the end nothing is begun: calls are refused, and a force ends at once.
#[tokio::test(start_paused = true)]
async fn after_the_end_calls_are_refused_and_forces_do_nothing() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    let (sent, calls) = (served.wire.count(), rig.server(1).counts().calls);
    assert!(served.gateway.call("s1__echo", None).await.is_err());
    let force = tokio::time::timeout(seconds(60), served.gateway.sync(SyncKind::Force, |_| {}));
    assert!(force.await.is_ok(), "a force after the end never returns");
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!((served.wire.count(), rig.server(1).counts().calls), (sent, calls));
    assert_eq!(rig.server(1).open_sessions(), 0);
}

/// M11, M15: the deadlines that the map names for a connector are kept, each for its own step.
#[tokio::test(start_paused = true)]
async fn the_maps_deadlines_for_connecting_and_listing_are_kept() {
    let mut rig = Rig::new(3);
    rig.publish(|map| {
        map.connectors[0].more = json!({ "timeouts": { "connectMs": 700 } });
        map.connectors[1].more = json!({ "timeouts": { "listMs": 900 } });
    });
    rig.hang(1);
    rig.server(2).set_latency_of("tools/list", seconds(20));
    let served = rig.start().await;
    let report = served.gateway.first_pass().await;
    let synced = |id: &str| report.connectors.iter().find(|one| one.id.as_str() == id).unwrap();
    for (id, least) in [("s1", 700), ("s2", 900)] {
        let one = synced(id);
        assert_eq!((one.ok, one.reason.as_deref()), (false, Some("timeout")), "{id}");
        assert!((least..least + 800).contains(&one.after_ms), "{id}: {} ms", one.after_ms);
    }
    assert!(synced("s3").ok);
}

/// M13: names that would collide or break a client's rule are altered, each in its own way, and calls find their way back.
#[tokio::test(start_paused = true)]
async fn every_served_name_fits_clients_and_leads_back_to_its_tool() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let names = served.modern().list().await.tool_names();
    let mut distinct = names.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), names.len());
    for name in names {
        let fits = |character: char| character.is_ascii_alphanumeric() || "_-".contains(character);
        assert!(name.len() <= 64 && name.chars().all(fits), "{name}");
        assert_eq!(served.modern().call(&name, r#"{"a":1,"b":1,"text":"x"}"#).await.code(), None, "{name}");
    }
}
