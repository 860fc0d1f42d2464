//! The rules of caching, seen from outside a gateway: what is served while nothing new can be had, and for how long.
//!
//! The pure rules have their tests beside the policy; here the whole gateway keeps them, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::time::Duration;

use cortex_mcp::demo::mcp_server::ServerOptions;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::model::ListState;
use support::{MapAnswer, Rig, Served, seconds};

const DAY: u64 = 86_400;

fn map_state(served: &Served) -> (String, String) {
    let status = served.gateway.status().service_map.unwrap();
    (status.state, status.reason)
}

/// D4, D6: stale is no hit; a reader is served at once and the refresh comes.
#[tokio::test(start_paused = true)]
async fn expired_entry_is_served_stale_while_it_is_refreshed() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    rig.stop_everything();
    tokio::time::sleep(seconds(400)).await;
    assert_eq!(served.connector("s2").unwrap().state, ListState::StaleError);
    rig.revive_everything();
    rig.server(2).set_tools(5);
    rig.server(2).set_latency(seconds(2));
    let lists = rig.server(2).counts().lists;
    served.until("the refresh", seconds(60), |served| served.connector("s2").unwrap().refreshing).await;
    let meanwhile = served.modern().list().await;
    assert_eq!(meanwhile.tool_names().len(), 6, "the stale list is served while it is refreshed");
    served.until("the new list", seconds(10), |served| served.tools_of("s2") == 5).await;
    assert_eq!(rig.server(2).counts().lists, lists + 1);
    assert_eq!(served.connector("s2").unwrap().state, ListState::Fresh);
}

/// D1, D2: last known good is the newest verified map, also when it has expired, and also the first one.
#[tokio::test(start_paused = true)]
async fn the_newest_map_is_served_stale_and_never_the_one_before() {
    for newer in [false, true] {
        let mut rig = Rig::new(3);
        rig.publish(|map| map.ttl_seconds = 120);
        let served = rig.ready().await;
        if newer {
            rig.publish(|map| drop(map.connectors.pop()));
            served.gateway.sync(SyncKind::Force, |_| {}).await;
        }
        let tools = if newer { 6 } else { 9 };
        rig.map_host(Host::Refuse);
        for _ in 0..20 {
            tokio::time::sleep(seconds(1_800)).await;
            assert_eq!((served.tools(), map_state(&served).0.as_str()), (tools, "stale-error"));
        }
    }
}

/// D3, R7: a list that names no time to live is never fresh, and is served all the same; many readers cause one fetch.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_never_fresh_is_served_and_refetched_once_for_many_readers() {
    let rig = Rig::of([ServerOptions { ttl_ms: Some(0), ..Rig::options(2) }]);
    let served = rig.ready().await;
    assert_eq!(served.connector("s1").unwrap().state, ListState::Stale);
    rig.server(1).set_latency(seconds(1));
    tokio::time::sleep(seconds(40)).await;
    let lists = rig.server(1).counts().lists;
    let client = served.modern();
    for answer in futures_util::future::join_all((0..50).map(|_| client.list())).await {
        assert_eq!(answer.tool_names().len(), 3);
    }
    // In the first tenth of the interval, and then not before the floor.
    tokio::time::sleep(seconds(34)).await;
    assert_eq!(rig.server(1).counts().lists, lists + 1);
}

/// D8: a map past its expiry is used as stale, for a day from its first arrival, however often it arrives.
#[tokio::test(start_paused = true)]
async fn a_map_that_arrives_expired_is_served_as_stale_for_a_day_and_no_longer() {
    let mut rig = Rig::new(2);
    rig.document.ttl_seconds = 1;
    rig.map.answer(MapAnswer::Untagged(rig.document.signed()));
    rig.clock.step_wall(3_600_000);
    let served = rig.ready().await;
    assert_eq!((served.tools(), map_state(&served)), (6, ("stale".into(), "arrived-expired".into())));
    tokio::time::sleep_until(served.started + seconds(DAY - 10)).await;
    assert_eq!((served.tools(), map_state(&served).0.as_str()), (6, "frozen"));
    assert!(rig.map.requests() > 100, "it arrived again and again");
    tokio::time::sleep(seconds(20)).await;
    assert_eq!((served.tools(), map_state(&served).0.as_str()), (0, "expired"));
}

/// R7, D5: without any staleness allowed, the end of the map is the end of its connectors.
#[tokio::test(start_paused = true)]
async fn without_any_staleness_allowed_a_map_that_ended_is_not_served() {
    let mut rig = Rig::new(2);
    rig.toml = "max-stale-ms = 0".to_owned();
    let served = rig.ready().await;
    rig.map_host(Host::Refuse);
    let end = served.started + seconds(3_600 - 1);
    tokio::time::sleep_until(end - seconds(2)).await;
    assert_eq!(served.tools(), 6);
    tokio::time::sleep_until(end + seconds(2)).await;
    assert_eq!((served.tools(), map_state(&served).0.as_str()), (0, "expired"));
}

/// R8: while nothing can be served, readers do not turn a missing map into a storm.
#[tokio::test(start_paused = true)]
async fn a_map_that_is_not_there_is_asked_for_at_its_pace_however_many_read() {
    let rig = Rig::new(1);
    let document = rig.document.signed();
    rig.map.answer(MapAnswer::Status(404, String::new()));
    let served = rig.ready().await;
    let mut asked = Vec::new();
    for _ in 0..1_800 {
        served.modern().list().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
        asked.push(rig.map.requests());
    }
    // Doubling from a second to the interval, each at least half of that: not more than a dozen in a quarter of an hour.
    assert!((5..=12).contains(asked.last().unwrap()), "{:?}", asked.last());
    rig.map.answer(MapAnswer::Document(document));
    served.until("the map", seconds(330), |served| served.tools() == 3).await;
}

/// R9: what is fresh is served from memory, and what is served says how good it is and why.
#[tokio::test(start_paused = true)]
async fn a_read_of_what_is_fresh_asks_neither_the_policy_nor_the_network_and_explains_itself() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1)).await;
    let (decisions, sent) = (served.gateway.policy().status().decisions, served.wire.count());
    let client = served.modern();
    for _ in 0..200 {
        assert_eq!(client.list().await.standing("s1")["state"], "fresh");
    }
    assert_eq!((served.gateway.policy().status().decisions, served.wire.count()), (decisions, sent));
    assert_eq!(served.connector("s1").unwrap().reason, "within-ttl");
    assert_eq!(map_state(&served), ("fresh".into(), "within-ttl".into()));
    rig.stop_everything();
    tokio::time::sleep(seconds(500)).await;
    let standing = client.list().await.standing("s1");
    assert_eq!(
        (standing["state"].as_str(), standing["reason"].as_str()),
        (Some("stale-error"), Some("refresh-failing"))
    );
}

/// R8: what the origin calls gone is gone at once, from memory as from disk.
#[tokio::test(start_paused = true)]
async fn a_list_that_is_gone_is_not_served_any_more() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    rig.server(2).fail_with(http::StatusCode::GONE);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((served.tools_of("s1"), served.tools_of("s2")), (3, 0));
    served.gateway.shut_down().await;
    rig.stop_everything();
    assert_eq!(rig.start().await.tools(), 3);
}
