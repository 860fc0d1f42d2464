//! The sync: parallel, isolated, published as it comes, in the plan's order and at the limit's pace, once per
//! connector.
//!
//! Virtual time only: round trips are counted by the servers themselves, and times are compared with one another.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

#[path = "sync/definitions.rs"]
mod definitions;
#[path = "sync/loops.rs"]
mod loops;
mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use cortex_mcp::demo::mcp_server::{AnswerStyle, ServerOptions};
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use support::{Rig, Served, seconds, until};

const LATENCY: Duration = Duration::from_millis(500);

/// What a sync may take besides its round trips: the window in which runs are ordered together, and some ticks.
const SLACK_MS: u64 = 50;

fn slow_rig(servers: usize) -> Rig {
    Rig::of((1..=servers).map(|number| ServerOptions { latency: LATENCY, ..Rig::options(number) }))
}

/// When each connector was over, from the start of the first pass.
async fn first_pass(served: &Served) -> BTreeMap<String, u64> {
    let report = served.gateway.first_pass().await;
    report.connectors.iter().map(|synced| (synced.id.to_string(), synced.after_ms)).collect()
}

#[tokio::test(start_paused = true)]
async fn ten_servers_are_synced_at_once_in_three_legacy_or_two_modern_round_trips() {
    let rig = slow_rig(10);
    let served = rig.start().await;
    let report = served.gateway.first_pass().await;
    assert_eq!((report.connector_count, report.ready, report.failed), (10, 10, 0));
    for (number, upstream) in (1..).zip(&rig.servers) {
        let expected = if number % 2 == 1 { 3 } else { 2 };
        assert_eq!(upstream.server.round_trips_until_listed(), Some(expected), "{}", upstream.id);
    }
    assert!(report.duration_ms <= 3 * 500 + SLACK_MS, "{report:?}");
    assert_eq!(served.tools(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_fixed_concurrency_of_one_is_sequential_and_takes_the_sum() {
    let mut rig = slow_rig(10);
    rig.set("MCP_CONNECTOR_CONCURRENCY", "1");
    let served = rig.start().await;
    let report = served.gateway.first_pass().await;
    assert_eq!((report.ready, report.parallelism), (10, 1));
    // Five legacy servers of three round trips and five modern ones of two.
    let sum = 5 * 3 * 500 + 5 * 2 * 500;
    assert!(report.duration_ms >= sum && report.duration_ms <= sum + 10 * SLACK_MS, "{report:?}");
    let mut open: Option<String> = None;
    let mut finished = Vec::new();
    for sent in served.wire.sent().iter().skip(1) {
        let origin = sent.origin();
        if open.as_ref() != Some(&origin) {
            assert!(!finished.contains(&origin), "{origin} was asked again after another had its turn");
            finished.extend(open.replace(origin));
        }
    }
    assert_eq!(finished.len(), 9);
}

#[tokio::test(start_paused = true)]
async fn the_order_of_connects_is_the_plans() {
    let mut rig = Rig::new(5);
    rig.set("MCP_CONNECTOR_CONCURRENCY", "1");
    // Listed in the map in another order than the plan's, which goes by id while nothing else is known.
    rig.publish(|map| map.connectors.reverse());
    let served = rig.ready().await;
    assert_eq!(
        order_of_connects(&served),
        ["https://s1.test", "https://s2.test", "https://s3.test", "https://s4.test", "https://s5.test"]
    );
}

fn order_of_connects(served: &Served) -> Vec<String> {
    let mut order: Vec<String> = Vec::new();
    for sent in served.wire.sent() {
        let origin = sent.origin();
        if origin != "https://map.test" && !order.contains(&origin) {
            order.push(origin);
        }
    }
    order
}

#[tokio::test(start_paused = true)]
async fn one_dead_and_one_hung_server_cost_the_others_nothing() {
    let alone = first_pass(&slow_rig(10).start().await).await;

    let rig = slow_rig(10);
    rig.refuse(3);
    rig.hang(6);
    let served = rig.start().await;
    let report = served.gateway.first_pass().await;
    let together: BTreeMap<String, u64> =
        report.connectors.iter().map(|synced| (synced.id.to_string(), synced.after_ms)).collect();
    for id in ["s1", "s2", "s4", "s5", "s7", "s8", "s9", "s10"] {
        assert!(together[id] <= alone[id] + SLACK_MS, "{id}: {} ms, alone {} ms", together[id], alone[id]);
    }
    assert_eq!((report.ready, report.failed), (8, 2));
    let reason = |id: &str| report.connectors.iter().find(|one| one.id.as_str() == id).unwrap().reason.clone().unwrap();
    assert_eq!((reason("s3"), reason("s6")), ("refused".to_owned(), "timeout".to_owned()));
    assert_eq!(served.tools(), 24);
}

#[tokio::test(start_paused = true)]
async fn a_result_is_served_the_moment_it_is_there() {
    let rig = Rig::new(4);
    rig.server(4).set_latency(Duration::from_millis(800));
    let served = rig.start().await;
    let took = served.until("the quick ones", seconds(1), |served| served.tools() == 9).await;
    assert!(took < seconds(1));
    assert!(served.connector("s4").unwrap().refreshing);
    assert_eq!(served.modern().list().await.tool_names().len(), 9, "a slow one holds up nobody's list");
    assert!(served.started.elapsed() < Duration::from_millis(300), "{:?}", served.started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_cold_list_waits_for_those_that_are_about_as_quick_as_the_first() {
    // Three round trips with legacy servers, two with modern ones.
    let rig = slow_rig(4);
    (1..=4).for_each(|number| rig.server(number).set_latency(Duration::from_millis(400)));
    let served = rig.start().await;
    assert_eq!(served.modern().list().await.tool_names().len(), 12);
}

#[tokio::test(start_paused = true)]
async fn forty_hung_servers_do_not_hold_up_four_healthy_ones() {
    let rig = Rig::new(44);
    // By id the hung ones come first, and they are more than the limit of 32.
    let healthy = ["s9", "s8", "s7", "s6"];
    for number in (1..=44).filter(|number| !healthy.contains(&format!("s{number}").as_str())) {
        rig.hang(number);
    }
    let served = rig.start().await;
    let took = served.until("the healthy four", seconds(4), |served| served.tools() == 12).await;
    // The first hung ones move to the slow lane after a second; nobody waits for their five.
    assert!(took < Duration::from_millis(1_500), "{took:?}");
    let report = served.gateway.first_pass().await;
    assert_eq!((report.ready, report.failed), (4, 40));
    assert!(report.connectors.iter().filter(|one| !one.ok).all(|one| one.reason.as_deref() == Some("timeout")));
}

#[tokio::test(start_paused = true)]
async fn many_forces_at_once_are_one_run_of_each_connector() {
    let rig = slow_rig(4);
    let served = rig.ready().await;
    let lists = |rig: &Rig| rig.servers.iter().map(|one| one.server.counts().lists).collect::<Vec<_>>();
    assert_eq!(lists(&rig), [1, 1, 1, 1]);
    let maps = rig.map.requests();
    let forces: Vec<_> = (0..50)
        .map(|_| {
            let gateway = served.gateway.clone();
            tokio::spawn(async move { gateway.sync(SyncKind::Force, |_| {}).await })
        })
        .collect();
    for force in forces {
        let report = force.await.unwrap();
        assert_eq!((report.ready, report.failed), (4, 0));
    }
    assert_eq!(lists(&rig), [2, 2, 2, 2]);
    assert_eq!(rig.map.requests(), maps + 1);
}

#[tokio::test(start_paused = true)]
async fn a_list_in_pages_arrives_whole_in_both_eras_and_both_styles() {
    for answers in [AnswerStyle::Json, AnswerStyle::Sse] {
        let rig = Rig::of((1..=2).map(|number| ServerOptions {
            tools: 53,
            page_size: Some(10),
            answers,
            ..Rig::options(number)
        }));
        let served = rig.ready().await;
        assert_eq!(served.tools(), 106);
        for number in 1..=2 {
            assert_eq!(rig.server(number).counts().lists, 6);
        }
        let names = served.modern().list().await.tool_names();
        assert_eq!(
            (names[0].as_str(), names[52].as_str(), names[53].as_str()),
            ("s1__echo", "s1__tool-53", "s2__echo")
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_down_at_the_start_joins_by_itself() {
    let rig = Rig::new(3);
    rig.refuse(2);
    let served = rig.ready().await;
    assert_eq!(served.tools(), 6);
    assert_eq!(served.connector("s2").unwrap().last_failure.as_ref().unwrap().class.as_str(), "refused");
    tokio::time::sleep(seconds(20)).await;
    rig.revive(2);
    // The cap of the backoff.
    served.until("the late one", seconds(60), |served| served.tools() == 9).await;
    let status = served.connector("s2").unwrap();
    assert_eq!((status.failures, status.last_failure.is_none()), (0, true));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_down_for_days_joins_within_the_cap_and_is_not_stormed() {
    let rig = Rig::new(1);
    rig.server(1).fail_with(http::StatusCode::BAD_GATEWAY);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(600)).await;
    let early = rig.server(1).counts().requests;
    tokio::time::sleep(seconds(3_600)).await;
    let in_an_hour = rig.server(1).counts().requests - early;
    // Equal jitter below a minute: two requests (both eras are asked) every 30 to 60 s.
    assert!((100..=300).contains(&in_an_hour), "{in_an_hour}");
    rig.server(1).recover();
    served.until("the late one", seconds(60), |served| served.tools() == 3).await;
}

#[tokio::test(start_paused = true)]
async fn a_map_server_that_comes_up_late_is_used_within_seconds() {
    let rig = Rig::new(2);
    rig.map_host(Host::Refuse);
    let served = rig.start().await;
    tokio::time::sleep(seconds(2)).await;
    assert_eq!(served.tools(), 0);
    rig.revive_map();
    served.until("its connectors", seconds(4), |served| served.tools() == 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_hangs_for_ever_costs_only_itself() {
    let rig = Rig::new(3);
    rig.hang(1);
    let served = rig.ready().await;
    assert_eq!(served.tools(), 6);
    tokio::time::sleep(seconds(3_600)).await;
    let hung = served.connector("s1").unwrap();
    assert_eq!(hung.last_failure.as_ref().unwrap().class.as_str(), "timeout");
    assert_eq!((served.tools_of("s2"), served.tools_of("s3")), (3, 3));
    assert_eq!(served.connector("s2").unwrap().state, cortex_mcp::model::ListState::Fresh);
    rig.revive(1);
    served.until("the one that hung", seconds(66), |served| served.tools() == 9).await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_legacy_session_heals_on_the_next_call_and_on_the_next_refresh() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    assert_eq!((rig.server(1).open_sessions(), rig.server(1).counts().initialize), (1, 1));
    rig.server(1).forget_sessions();
    let answer = served.legacy().call("s1__add", r#"{"a":2,"b":40}"#).await;
    assert_eq!(answer.result()["structuredContent"]["sum"], 42);
    assert_eq!(rig.server(1).counts().initialize, 2);

    rig.server(1).forget_sessions();
    let report = served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((report.ready, report.failed), (1, 0));
    assert_eq!((rig.server(1).open_sessions(), served.tools()), (1, 3));
}

#[tokio::test(start_paused = true)]
async fn changed_tools_are_served_and_reported() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    rig.server(1).set_tools(5);
    rig.server(2).set_tools(2);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((served.tools_of("s1"), served.tools_of("s2")), (5, 2));
    let changes = |id: &str| served.connector(id).unwrap().definitions.changes;
    assert_eq!((changes("s1"), changes("s2")), (2, 1));
    let series = r#"mcp_tool_definition_changes_total{connector="s1",kind="tools"}"#;
    assert_eq!(served.metric(series), Some(2.0));
    assert_eq!(served.modern().list().await.tool_names().len(), 7);
}

#[tokio::test(start_paused = true)]
async fn lists_are_refreshed_in_the_background_about_once_an_interval() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    tokio::time::sleep(seconds(3_600)).await;
    for number in 1..=2 {
        // Every 192 to 288 s, because the lists name 300 s of freshness.
        let lists = rig.server(number).counts().lists;
        assert!((12..=21).contains(&lists), "{lists}");
        // A modern server has none.
        assert_eq!(rig.server(number).counts().initialize, number as u64 % 2, "one session serves them all");
    }
    until("fresh lists", seconds(60), || {
        served.gateway.status().connectors.iter().all(|one| one.state == cortex_mcp::model::ListState::Fresh)
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_server_that_changes_its_era_is_found_out_again() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    // Each becomes the other: a new version of the server was deployed.
    for (number, other) in [(1, 2), (2, 1)] {
        let replaced = cortex_mcp::demo::mcp_server::McpServer::new(Rig::options(other));
        replaced.set_tools(4);
        rig.network.set(&rig.servers[number - 1].url, Host::Serve(replaced.router()));
    }
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    served.until("the lists of the new ones", seconds(5), |served| served.tools() == 8).await;
    for name in ["s1__add", "s2__add"] {
        let answer = served.modern().call(name, r#"{"a":2,"b":3}"#).await;
        assert_eq!(answer.result()["structuredContent"]["sum"], 5, "{name}");
    }
    let eras: Vec<_> = served.gateway.status().connectors.iter().map(|one| one.era.unwrap()).collect();
    assert_eq!(eras, [cortex_mcp::mcp::Era::Modern, cortex_mcp::mcp::Era::Legacy]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_is_given_it() {
    for (status, class) in [(503, "server"), (429, "throttled")] {
        let rig = Rig::new(1);
        rig.server(1).fail_with_retry_after(http::StatusCode::from_u16(status).unwrap(), seconds(120));
        let served = rig.ready().await;
        assert_eq!(served.connector("s1").unwrap().last_failure.as_ref().unwrap().class.as_str(), class);
        rig.server(1).recover();
        let asked = rig.server(1).counts().requests;
        tokio::time::sleep(seconds(119)).await;
        assert_eq!(rig.server(1).counts().requests, asked, "{status}");
        served.until("the next attempt", seconds(26), |served| served.tools() == 3).await;
    }
}
