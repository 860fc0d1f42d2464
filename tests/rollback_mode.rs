//! The rollback, `MCP_CONNECTOR_REFRESH_SYNC=true`: no background refresh; a read of something stale refreshes it, one
//! connector at a time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::time::Duration;

use cortex_mcp::gateway::SyncKind;
use cortex_mcp::model::ListState;
use support::{Rig, Served, seconds};

const DAY: u64 = 86_400;

fn rig(servers: usize) -> Rig {
    let mut rig = Rig::new(servers);
    rig.set("MCP_CONNECTOR_REFRESH_SYNC", "true");
    // So that a map does not end within the day.
    rig.publish(|map| map.ttl_seconds = 30 * DAY);
    rig
}

fn states(served: &Served) -> Vec<ListState> {
    served.gateway.status().connectors.iter().map(|one| one.state).collect()
}

#[tokio::test(start_paused = true)]
async fn after_the_first_sync_nothing_leaves_for_a_day() {
    let rig = rig(3);
    let served = rig.ready().await;
    assert_eq!(served.tools(), 9);
    let sent = served.wire.count();
    tokio::time::sleep(seconds(DAY)).await;
    assert_eq!((served.wire.count(), served.tools()), (sent, 9));
    assert!(states(&served).iter().all(|state| *state == ListState::Stale), "{:?}", states(&served));
}

#[tokio::test(start_paused = true)]
async fn a_read_of_fresh_lists_refreshes_nothing() {
    let rig = rig(2);
    let served = rig.ready().await;
    let sent = served.wire.count();
    for _ in 0..20 {
        served.modern().list().await;
        tokio::time::sleep(seconds(5)).await;
    }
    assert_eq!(served.wire.count(), sent);
}

#[tokio::test(start_paused = true)]
async fn a_read_of_stale_lists_refreshes_them_one_at_a_time() {
    let rig = rig(4);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1_000)).await;
    rig.servers.iter().for_each(|upstream| upstream.server.set_latency(Duration::from_millis(100)));
    rig.server(3).set_tools(5);
    let sent = served.wire.count();
    let stale = served.modern().list().await;
    assert_eq!((stale.tool_names().len(), stale.standing("s3")["state"].as_str()), (12, Some("stale")));
    served
        .until("fresh lists", seconds(60), |served| states(served).iter().all(|state| *state == ListState::Fresh))
        .await;
    assert_eq!(served.modern().list().await.tool_names().len(), 14);

    let after: Vec<_> =
        served.wire.sent().split_off(sent).into_iter().filter(|one| one.origin() != "https://map.test").collect();
    assert_eq!(after.len(), 4, "one list each, in the sessions of before");
    for pair in after.windows(2) {
        assert!(pair[1].at.duration_since(pair[0].at) >= Duration::from_millis(100), "two were under way at once");
    }
    // And then all is quiet again.
    let sent = served.wire.count();
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!(served.wire.count(), sent);
}

#[tokio::test(start_paused = true)]
async fn many_readers_at_once_cause_one_refresh() {
    let rig = rig(2);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1_000)).await;
    let lists = |rig: &Rig| (rig.server(1).counts().lists, rig.server(2).counts().lists);
    assert_eq!(lists(&rig), (1, 1));
    let client = served.modern();
    futures_util::future::join_all((0..50).map(|_| client.list())).await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(lists(&rig), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_force_and_a_call_work_as_ever() {
    let rig = rig(2);
    let served = rig.ready().await;
    rig.server(1).set_tools(4);
    let report = served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((report.ready, report.parallelism, served.tools()), (2, 1, 7));
    assert_eq!(served.legacy().call("s2__add", r#"{"a":1,"b":1}"#).await.result()["structuredContent"]["sum"], 2);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_down_joins_when_somebody_asks() {
    let rig = rig(2);
    rig.refuse(2);
    let served = rig.ready().await;
    assert_eq!(served.tools(), 3);
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!(rig.server(2).counts().requests, 0);
    rig.revive(2);
    served.modern().list().await;
    served.until("the one that was down", seconds(60), |served| served.tools() == 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_once_while_its_list_is_served_is_asked_again_by_later_reads() {
    let rig = rig(2);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1_000)).await;
    rig.refuse(2);
    rig.server(2).set_tools(5);
    served.modern().list().await;
    served
        .until("the failure", seconds(60), |served| served.connector("s2").is_some_and(|one| one.failures == 1))
        .await;
    assert_eq!(served.tools(), 6, "the old list is served");
    // Nobody reads: nothing is asked.
    tokio::time::sleep(seconds(600)).await;
    assert_eq!(served.connector("s2").unwrap().failures, 1);
    rig.revive(2);
    served.modern().list().await;
    served.until("the new list", seconds(120), |served| served.tools() == 8).await;
    let status = served.connector("s2").unwrap();
    assert_eq!((status.state, status.failures), (ListState::Fresh, 0));
}

#[tokio::test(start_paused = true)]
async fn many_reads_of_a_server_that_stays_down_keep_to_the_pace_of_its_failures() {
    let rig = rig(1);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1_000)).await;
    rig.server(1).fail_with(http::StatusCode::BAD_GATEWAY);
    let runs = || served.connector("s1").unwrap().runs;
    let before = runs();
    for _ in 0..1_200 {
        served.modern().list().await;
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    // Ten minutes: at least the floor of 30 s between two of them.
    let tries = runs() - before;
    assert!((5..=21).contains(&tries), "{tries}");
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_tried_again_after_their_long_wait_if_somebody_reads() {
    let rig = rig(1);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1_000)).await;
    rig.server(1).fail_with(http::StatusCode::FORBIDDEN);
    rig.server(1).set_tools(4);
    served.modern().list().await;
    let refused = |served: &Served| served.connector("s1").is_some_and(|one| one.failures == 1);
    served.until("the refusal", seconds(60), refused).await;
    assert_eq!(served.connector("s1").unwrap().last_failure.as_ref().unwrap().class.to_string(), "auth");
    rig.server(1).recover();
    // Ten intervals of five minutes, whoever reads meanwhile.
    let sent = served.wire.count();
    for _ in 0..48 {
        served.modern().list().await;
        tokio::time::sleep(seconds(60)).await;
    }
    assert_eq!((served.wire.count(), served.tools()), (sent, 3));
    served.until("the new list", seconds(600), |served| served.tools() == 4).await;
}
