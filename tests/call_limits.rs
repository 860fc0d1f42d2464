//! What the gateway itself may do to a call: make it wait, refuse it, send it once more; and what none of that may
//! look like to the breaker, to the server, or to the list.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use cortex_mcp::connectors::Contact;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use serde_json::json;
use support::canned::{CallAnswer, Canned};
use support::{Answer, Described, Rig, seconds};

fn reason(answer: &Answer) -> String {
    answer.json()["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()
}

/// A rig with one canned modern server.
fn canned() -> (Rig, Arc<Canned>) {
    let mut rig = Rig::new(0);
    let server = Canned::new(r#"{"name":"tool","inputSchema":{"type":"object"}}"#);
    rig.network.set(&"https://odd.test".parse().unwrap(), Host::Serve(server.router()));
    rig.publish(|map| map.connectors.push(Described::new("odd", "https://odd.test/mcp")));
    (rig, server)
}

#[tokio::test(start_paused = true)]
async fn waiting_for_the_gateways_own_places_is_no_failure_of_the_server() {
    let mut rig = Rig::new(1);
    rig.publish(|map| {
        map.connectors[0] =
            map.connectors[0].clone().with(json!({ "quotas": { "concurrent": 1 }, "timeouts": { "callMs": 1000 } }));
    });
    let served = rig.ready().await;
    rig.server(1).set_latency_of("tools/call", std::time::Duration::from_millis(900));
    let client = served.modern();
    let answers = futures_util::future::join_all((0..8).map(|_| client.call("s1__echo", "{}"))).await;
    let answered = answers.iter().filter(|answer| answer.code().is_none()).count();
    assert!(answered >= 1, "{}", answers[0].body);
    let refused: Vec<_> = answers.iter().filter(|answer| answer.code().is_some()).collect();
    let busy = refused.iter().filter(|answer| reason(answer) == "busy" && answer.body.contains("retryAfterMs")).count();
    // The second is sent when a tenth of its deadline is left, which is too short.
    let late = refused.iter().filter(|answer| reason(answer) == "timeout").count();
    assert_eq!((busy, late), (6, 1), "{}", refused[0].body);
    let status = served.connector("s1").unwrap();
    assert_eq!((status.breaker.as_str(), status.contact), ("closed", Contact::Up));
    assert_eq!(client.call("s1__echo", "{}").await.code(), None);
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_no_calls_at_once_refuses_at_once() {
    let mut rig = Rig::new(1);
    rig.publish(|map| map.connectors[0] = map.connectors[0].clone().with(json!({ "quotas": { "concurrent": 0 } })));
    let served = rig.ready().await;
    let began = tokio::time::Instant::now();
    assert_eq!(reason(&served.modern().call("s1__echo", "{}").await), "quota");
    assert_eq!(began.elapsed(), seconds(0));
}

#[tokio::test(start_paused = true)]
async fn a_tools_own_failure_on_a_remembered_session_is_never_taken_for_another_era() {
    for code in [-32000, -32010, -32600] {
        let (mut rig, server) = canned();
        let served = rig.ready().await;
        served.gateway.shut_down().await;
        server.answer(CallAnswer::Error(format!(r#"{{"code":{code},"message":"the tool failed"}}"#)));
        let served = rig.start().await;
        let answer = served.legacy().call("odd__tool", "{}").await;
        assert_eq!((answer.code(), server.calls().len()), (Some(code), 1), "{}", answer.body);
        rig.crash(&served);
    }
}

#[tokio::test(start_paused = true)]
async fn invalid_parameters_cast_doubt_on_the_list_whatever_the_words_and_not_more_often_than_it_may_be_fetched() {
    let (rig, server) = canned();
    let served = rig.ready().await;
    let client = served.modern();
    let lists = || served.wire.sent().iter().filter(|sent| sent.body().contains("tools/list")).count();
    let before = lists();
    for (number, (code, message)) in
        [(-32602, "Unknown tool: tool"), (-32602, "Werkzeug unbekannt"), (-32601, "no"), (-32603, "Unknown tool: tool")]
            .into_iter()
            .enumerate()
    {
        server.answer(CallAnswer::Error(format!(r#"{{"code":{code},"message":"{message}"}}"#)));
        for _ in 0..20 {
            client.call("odd__tool", "{}").await;
            tokio::time::sleep(seconds(1)).await;
        }
        assert_eq!(lists(), before + (number + 1).min(3), "{code} {message}");
        tokio::time::sleep(seconds(30)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_too_large_costs_its_call_and_neither_the_session_nor_the_list() {
    let (rig, server) = canned();
    let served = rig.ready().await;
    let client = served.modern();
    let lists = || served.wire.sent().iter().filter(|sent| sent.body().contains("tools/list")).count();
    let before = lists();
    server
        .answer(CallAnswer::Result(format!(r#"{{"content":[{{"type":"text","text":"{}"}}]}}"#, "x".repeat(17 << 20))));
    for _ in 0..2 {
        assert_eq!(reason(&client.call("odd__tool", "{}").await), "oversize");
    }
    server.answer(CallAnswer::Result(r#"{"content":[]}"#.into()));
    assert_eq!(client.call("odd__tool", "{}").await.code(), None);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(lists(), before);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_leaves_during_a_sync_does_not_hold_it_up() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    rig.hang(2);
    let gateway = served.gateway.clone();
    let syncing = tokio::spawn(async move { gateway.sync(SyncKind::Force, |_| {}).await });
    served
        .until("the run on s2 is under way", seconds(3), |served| {
            served.connector("s2").is_some_and(|status| status.refreshing)
        })
        .await;
    rig.write_registry("{\"servers\":[]}");
    rig.publish(|map| {
        map.generated_at = map.generated_at.plus(1_000);
        map.connectors[1].enabled = false;
    });
    let other = served.gateway.clone();
    let second = tokio::spawn(async move { other.sync(SyncKind::Force, |_| {}).await });
    let (first, second) = tokio::time::timeout(seconds(20), async { (syncing.await.unwrap(), second.await.unwrap()) })
        .await
        .expect("both syncs end");
    assert_eq!((first.connector_count, second.connector_count), (2, 1));
    assert_eq!(served.tools_of("s2"), 0);
}
