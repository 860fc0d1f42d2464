//! The rules of scheduling, seen from outside a gateway: how often anything is asked for, and that nothing is after the
//! end. Counts, never durations.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

#[path = "rules_scheduling/evidence.rs"]
mod evidence;
mod support;

use cortex_mcp::gateway::SyncKind;
use support::{Rig, seconds};

const DAY: u64 = 86_400;

/// S1: a force replaces what is armed; it adds no chain.
#[tokio::test(start_paused = true)]
async fn forces_do_not_multiply_the_steady_rate() {
    let rates = [0, 5].map(async |forces| {
        let mut rig = Rig::new(2);
        rig.publish(|map| map.ttl_seconds = DAY);
        let served = rig.ready().await;
        for _ in 0..forces {
            tokio::time::sleep(seconds(2)).await;
            served.gateway.sync(SyncKind::Force, |_| {}).await;
        }
        let before = (rig.map.requests(), rig.server(1).counts().lists);
        tokio::time::sleep(seconds(4 * 3_600)).await;
        (rig.map.requests() - before.0, rig.server(1).counts().lists - before.1)
    });
    let [left_alone, forced] = rates;
    for (maps, lists) in [left_alone.await, forced.await] {
        // Every 240 to 360 s, and every 192 to 288 s, because the lists name 300 s.
        assert!((40..=60).contains(&maps), "{maps}");
        assert!((45..=75).contains(&lists), "{lists}");
    }
}

/// S2: the end cancels everything, also what is under way, and nothing leaves after it.
#[tokio::test(start_paused = true)]
async fn after_the_end_nothing_is_sent_any_more() {
    for hung in [false, true] {
        let rig = Rig::new(3);
        let served = rig.ready().await;
        if hung {
            (1..=3).for_each(|number| rig.hang(number));
            let gateway = served.gateway.clone();
            tokio::spawn(async move { gateway.sync(SyncKind::Force, |_| {}).await });
            served.until("the runs", seconds(3), |served| served.connector("s2").unwrap().refreshing).await;
            assert!(served.connector("s1").unwrap().refreshing);
        }
        served.gateway.shut_down().await;
        let sent = served.wire.count();
        tokio::time::sleep(seconds(2 * DAY)).await;
        assert_eq!(served.wire.count(), sent);
    }
}

/// S3: an end and a start during a run leave one loop.
#[tokio::test(start_paused = true)]
async fn an_end_and_a_start_during_a_run_leave_one_loop() {
    let rig = Rig::new(2);
    let mut served = rig.ready().await;
    for _ in 0..4 {
        (1..=2).for_each(|number| rig.hang(number));
        let gateway = served.gateway.clone();
        tokio::spawn(async move { gateway.sync(SyncKind::Force, |_| {}).await });
        tokio::time::sleep(seconds(1)).await;
        served.gateway.shut_down().await;
        (1..=2).for_each(|number| rig.revive(number));
        served = rig.ready().await;
    }
    tokio::time::sleep(seconds(300)).await;
    let before = rig.server(2).counts().lists;
    tokio::time::sleep(seconds(4 * 3_600)).await;
    let lists = rig.server(2).counts().lists - before;
    assert!((45..=75).contains(&lists), "{lists}");
}

/// S4: readers of an empty gateway share its first fetch.
#[tokio::test(start_paused = true)]
async fn many_readers_of_a_cold_gateway_share_one_fetch() {
    let rig = Rig::new(2);
    rig.servers.iter().for_each(|upstream| upstream.server.set_latency(seconds(1)));
    let served = rig.start().await;
    let client = served.modern();
    futures_util::future::join_all((0..50).map(|_| client.list())).await;
    served.gateway.first_pass().await;
    tokio::time::sleep(seconds(20)).await;
    assert_eq!((rig.map.requests(), served.tools()), (1, 6));
    assert_eq!((rig.server(1).counts().lists, rig.server(2).counts().lists), (1, 1));
}

/// S11: whoever forces learns how it went.
#[tokio::test(start_paused = true)]
async fn a_force_tells_who_failed_and_why() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    rig.server(2).fail_with(http::StatusCode::BAD_GATEWAY);
    let report = served.gateway.sync(SyncKind::Force, |_| {}).await;
    let told = |id: &str| report.connectors.iter().find(|one| one.id.as_str() == id).unwrap();
    assert_eq!((told("s1").ok, told("s1").reason.as_deref()), (true, None));
    assert_eq!((told("s2").ok, told("s2").reason.as_deref(), told("s2").tools), (false, Some("server"), 3));
}

/// S12: a gateway that was described and not started does nothing.
#[tokio::test(start_paused = true)]
async fn nothing_happens_before_the_start() {
    let rig = Rig::new(2);
    let (wire, builder) = rig.builder(&rig.network, &rig.state);
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!((wire.count(), rig.records.records().len()), (0, 0));
    let gateway = builder.start().await.unwrap();
    assert_eq!(gateway.first_pass().await.ready, 2);
}

/// S10, warm: what was saved is served, and the map's next fetch lies anywhere in the interval, another place each time.
#[tokio::test(start_paused = true)]
async fn warm_starts_are_spread_over_the_interval() {
    let rig = Rig::new(1);
    rig.ready().await.gateway.shut_down().await;
    let mut waits = Vec::new();
    for _ in 0..24 {
        let asked = rig.map.requests();
        let again = rig.start().await;
        waits.push(again.until("the map", seconds(301), |_| rig.map.requests() > asked).await.as_secs());
        again.gateway.shut_down().await;
    }
    let early = waits.iter().filter(|wait| **wait < 150).count();
    assert!((4..=20).contains(&early), "{waits:?}");
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 15, "{waits:?}");
}

/// Retry-after in the rollback mode: reads do not go before what the server asked for.
#[tokio::test(start_paused = true)]
async fn on_demand_too_a_server_that_asks_for_time_is_given_it() {
    let mut rig = Rig::new(1);
    rig.set("MCP_CONNECTOR_REFRESH_SYNC", "true");
    rig.publish(|map| map.ttl_seconds = 30 * DAY);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1_000)).await;
    rig.server(1).fail_with_retry_after(http::StatusCode::TOO_MANY_REQUESTS, seconds(1_800));
    served.modern().list().await;
    served.until("the refusal", seconds(60), |served| served.connector("s1").unwrap().failures == 1).await;
    rig.server(1).recover();
    rig.server(1).set_tools(4);
    let asked = rig.server(1).counts().requests;
    for _ in 0..178 {
        served.modern().list().await;
        tokio::time::sleep(seconds(10)).await;
    }
    assert_eq!((rig.server(1).counts().requests, served.tools()), (asked, 3));
    served.until("the new list", seconds(400), |served| served.tools() == 4).await;
}
