//! Flow control: so many calls at once and so many waiting, for each connector by itself; what a server asks for is given;
//! and a call lives as long as it shows progress, within a bound. Counts in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cortex_mcp::edge::virtual_network::Host;
use serde_json::{Value, json};
use support::live::{Live, OnCall};
use support::{Answer, Described, Rig, Served, seconds};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// Calls that are made at once.
const MANY: usize = 1_000;

/// A rig with these servers, each at an origin of its own unless an origin is named.
fn rig_of(servers: &[(&str, &Arc<Live>)], origin: Option<&str>) -> Rig {
    let mut rig = Rig::new(0);
    let mut shared = Router::new();
    for (id, server) in servers {
        let url = match origin {
            Some(origin) => {
                shared = shared.nest_service(&format!("/{id}"), server.router());
                format!("https://{origin}/{id}")
            }
            None => {
                let url = format!("https://{id}.test/mcp");
                rig.network.set(&url.parse().unwrap(), Host::Serve(server.router()));
                url
            }
        };
        rig.publish(|map| map.connectors.push(Described::new(id, &url)));
    }
    if let Some(origin) = origin {
        rig.network.set(&format!("https://{origin}").parse().unwrap(), Host::Serve(shared));
    }
    rig
}

fn data(answer: &Answer) -> Value {
    answer.json()["error"]["data"].clone()
}

fn reason(answer: &Answer) -> String {
    data(answer)["reason"].as_str().unwrap_or_default().to_owned()
}

/// Makes so many calls at once, and lets them go as far as they can.
async fn make(served: &Served, tool: &str, calls: usize) -> Vec<JoinHandle<Answer>> {
    let client = served.modern();
    let made = (0..calls)
        .map(|_| {
            let (client, tool) = (client.clone(), tool.to_owned());
            tokio::spawn(async move { client.call(&tool, "{}").await })
        })
        .collect();
    // Time stands still until nobody can go on.
    tokio::time::sleep(Duration::from_millis(1)).await;
    made
}

fn done(calls: &[JoinHandle<Answer>]) -> usize {
    calls.iter().filter(|call| call.is_finished()).count()
}

#[tokio::test(start_paused = true)]
async fn a_thousand_calls_to_a_slow_connector_leave_a_fast_ones_unqueued() {
    for (modern, origin) in [(false, None), (true, None), (false, Some("shared.test")), (true, Some("shared.test"))] {
        let (slow, fast) = (Live::new(modern, 1), Live::new(!modern, 1));
        let rig = rig_of(&[("slow", &slow), ("fast", &fast)], origin);
        let served = rig.ready().await;
        slow.on_call(OnCall::SilentEvents);
        let calls = make(&served, "slow__t1", MANY).await;
        // With an origin of its own a connector has all ten places of it, and with a neighbour one less.
        let places = if origin.is_some() { 9 } else { 10 };
        assert_eq!(slow.count("tools/call"), places);
        assert_eq!(done(&calls), MANY - places - 256, "what does not fit in the room is refused at once");

        let began = Instant::now();
        for call in 0..100 {
            let answer = served.modern().call("fast__t1", "{}").await;
            assert_eq!((answer.code(), began.elapsed()), (None, Duration::ZERO), "call {call}: {}", answer.body);
        }
        assert_eq!((fast.count("tools/call"), slow.count("tools/call")), (100, places));

        tokio::time::sleep(seconds(53)).await;
        assert_eq!(done(&calls), MANY - places - 256, "a call waits as long as its deadline allows");
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(
            done(&calls),
            MANY - places,
            "a tenth of the deadline would not be left to a call that waits longer"
        );
        tokio::time::sleep(seconds(60)).await;
        let mut reasons = std::collections::BTreeMap::new();
        for call in calls {
            *reasons.entry(reason(&call.await.unwrap())).or_insert(0) += 1;
        }
        let expected = [("busy".to_owned(), MANY - places), ("timeout".to_owned(), places)];
        assert_eq!(reasons.into_iter().collect::<Vec<_>>(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn slow_connectors_at_one_origin_starve_none_of_the_others() {
    let servers: Vec<_> = (0..4).map(|number| Live::new(number % 2 == 0, 1)).collect();
    let named: Vec<_> = ["aa", "bb", "cc", "dd"].into_iter().zip(&servers).collect();
    let rig = rig_of(&named, Some("shared.test"));
    let served = rig.ready().await;
    servers[0].on_call(OnCall::SilentEvents);
    servers[1].on_call(OnCall::SilentEvents);
    let _slow = (make(&served, "aa__t1", 300).await, make(&served, "bb__t1", 300).await);
    // Ten places: the first leaves one to each of three, and the second one to each of two.
    assert_eq!((servers[0].count("tools/call"), servers[1].count("tools/call")), (7, 1));
    let began = Instant::now();
    for _ in 0..20 {
        let client = served.modern();
        let (one, other) = tokio::join!(client.call("cc__t1", "{}"), client.call("dd__t1", "{}"));
        assert_eq!((one.code(), other.code(), began.elapsed()), (None, None, Duration::ZERO), "{}", one.body);
    }
}

#[tokio::test(start_paused = true)]
async fn the_configured_places_queue_and_timeout_are_kept() {
    let server = Live::new(true, 1);
    let mut rig = rig_of(&[("live", &server)], None);
    rig.toml = "[connector.live]\ncalls = 2\nqueue = 3\nqueue-timeout-ms = 1500\n".to_owned();
    let served = rig.ready().await;
    server.on_call(OnCall::After(seconds(1)));
    let calls = make(&served, "live__t1", 9).await;
    assert_eq!((server.count("tools/call"), done(&calls)), (2, 4));
    let answers: Vec<Answer> = futures_util::future::join_all(calls).await.into_iter().map(Result::unwrap).collect();
    let busy: Vec<_> = answers.iter().filter(|answer| answer.code().is_some()).collect();
    // Two at once, two after a second; the fifth would begin after two.
    assert_eq!((busy.len(), server.count("tools/call")), (5, 4));
    for answer in busy {
        assert_eq!((reason(answer).as_str(), data(answer)["retryAfterMs"].as_u64()), ("busy", Some(1_500)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_fewer_calls_is_given_the_time_that_it_asks_for() {
    for (asked, least, most) in
        [(Some(30), 30_000, 30_000), (None, 1_000, 1_000), (Some(1 << 40), 3_600_000, 3_600_000)]
    {
        let server = Live::new(true, 1);
        let rig = rig_of(&[("live", &server)], None);
        let served = rig.ready().await;
        server.on_call(OnCall::Throttle(asked));
        let first = data(&served.modern().call("live__t1", "{}").await);
        let wait = first["retryAfterMs"].as_u64().unwrap();
        assert!(first["reason"] == "throttled" && (least..=most).contains(&wait), "{first}");
        server.on_call(OnCall::Answer);
        tokio::time::sleep(Duration::from_millis(wait / 2)).await;
        for _ in 0..20 {
            let refused = data(&served.modern().call("live__t1", "{}").await);
            assert_eq!((refused["reason"].as_str(), refused["connector"].as_str()), (Some("throttled"), Some("live")));
            assert!(refused["retryAfterMs"].as_u64().unwrap() <= wait / 2 + 1, "{refused}");
        }
        assert_eq!(server.count("tools/call"), 1, "it is left alone");
        tokio::time::sleep(Duration::from_millis(wait / 2 + 1)).await;
        assert_eq!(served.modern().call("live__t1", "{}").await.code(), None);
        assert_eq!(served.connector("live").unwrap().breaker, "closed");
        let refused = r#"mcp_calls_refused_total{connector="live",reason="throttled"}"#;
        assert_eq!(served.metric(refused), Some(20.0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_no_time_for_a_list_is_not_called_either() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let both = [http::StatusCode::TOO_MANY_REQUESTS, http::StatusCode::SERVICE_UNAVAILABLE];
    for (status, (number, name)) in
        both.into_iter().flat_map(|status| [(status, (1, "s1__echo")), (status, (2, "s2__echo"))])
    {
        let before = rig.server(number).counts().calls;
        rig.server(number).fail_with_retry_after(status, seconds(120));
        served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
        rig.server(number).recover();
        let refused = served.modern().call(name, "{}").await;
        assert_eq!(
            (reason(&refused).as_str(), rig.server(number).counts().calls),
            ("throttled", before),
            "{status} {}",
            refused.body
        );
        tokio::time::sleep(seconds(121)).await;
        assert_eq!(served.modern().call(name, "{}").await.code(), None);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_when_the_server_asks_for_time_are_not_made() {
    let server = Live::new(true, 1);
    let mut rig = rig_of(&[("live", &server)], None);
    rig.toml = "[connector.live]\ncalls = 1\n".to_owned();
    let served = rig.ready().await;
    server.on_call(OnCall::After(seconds(1)));
    let first = make(&served, "live__t1", 1).await;
    let waiting = make(&served, "live__t1", 50).await;
    server.on_call(OnCall::Throttle(Some(60)));
    tokio::time::sleep(seconds(2)).await;
    assert_eq!((done(&first), done(&waiting), server.count("tools/call")), (1, 50, 2));
    for call in waiting {
        assert_eq!(reason(&call.await.unwrap()), "throttled");
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_wait_for_a_server_that_turns_out_to_be_gone_are_refused_by_the_breaker() {
    let server = Live::new(true, 1);
    let mut rig = rig_of(&[("live", &server)], None);
    rig.toml = "[connector.live]\ncalls = 1\nqueue-timeout-ms = 60000\n".to_owned();
    rig.publish(|map| map.connectors[0].more = json!({ "timeouts": { "callMs": 1000 } }));
    let served = rig.ready().await;
    server.on_call(OnCall::SilentEvents);
    let calls = make(&served, "live__t1", 50).await;
    tokio::time::sleep(seconds(60)).await;
    assert_eq!(done(&calls), 50);
    // Five in a row open it; from then on one probe at a time.
    assert!(server.count("tools/call") <= 12, "{}", server.count("tools/call"));
}

#[tokio::test(start_paused = true)]
async fn a_call_lives_as_long_as_it_shows_progress_but_not_for_ever() {
    for modern in [false, true] {
        let server = Live::new(modern, 1);
        let mut rig = rig_of(&[("live", &server)], None);
        rig.publish(|map| map.connectors[0].more = json!({ "timeouts": { "callMs": 1000 } }));
        let served = rig.ready().await;
        let params = r#""name":"live__t1","arguments":{},"_meta":{"progressToken":"here"}"#;
        let call = async |progress: u32, gap_ms: u64, params: &str| {
            server.on_call(OnCall::Progress(progress, Duration::from_millis(gap_ms)));
            let began = Instant::now();
            let answer = served.legacy().ask("tools/call", params).await;
            (answer.body.contains("\"done\""), answer.body.contains("\"timeout\""), began.elapsed())
        };
        let ms = Duration::from_millis;
        assert_eq!(call(5, 800, params).await, (true, false, ms(4_800)), "progress counts the deadline anew");
        assert_eq!(call(5, 1_100, params).await, (false, true, ms(1_000)), "silence does not");
        assert_eq!(call(1_000, 800, params).await, (false, true, seconds(10)), "and there is an end to it");
        // The gateway asks for progress itself; a client that did not ask gets none.
        let other = r#""name":"live__t1","arguments":{}"#;
        assert_eq!(call(5, 800, other).await, (true, false, ms(4_800)));
        server.on_call(OnCall::Progress(5, ms(1)));
        let answer = served.legacy().ask("tools/call", other).await;
        assert!(!answer.body.contains("notifications/progress"), "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn calls_of_an_agent_that_fans_out_wait_for_one_another_and_are_all_answered() {
    for modern in [false, true] {
        let server = Live::new(modern, 1);
        let rig = rig_of(&[("live", &server)], None);
        let served = rig.ready().await;
        server.on_call(OnCall::After(seconds(8)));
        let began = Instant::now();
        for call in make(&served, "live__t1", 25).await {
            let answer = call.await.unwrap();
            assert_eq!(answer.code(), None, "{}", answer.body);
        }
        assert!(began.elapsed() < seconds(25), "{:?}", began.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn waiting_counts_against_the_deadline_of_a_call() {
    let server = Live::new(false, 1);
    let mut rig = rig_of(&[("live", &server)], None);
    rig.toml = "[connector.live]\ncalls = 1\ncall-timeout-ms = 10000\n".to_owned();
    let served = rig.ready().await;
    server.on_call(OnCall::After(seconds(8)));
    let began = Instant::now();
    let calls = make(&served, "live__t1", 3).await;
    let mut ends = Vec::new();
    for call in calls {
        ends.push((reason(&call.await.unwrap()), began.elapsed().as_secs()));
    }
    // The second is sent after 8 s and has 2 s left; the third has none of the tenth that a call must have.
    assert_eq!(ends, [(String::new(), 8), ("timeout".to_owned(), 10), ("busy".to_owned(), 10)]);
    assert_eq!(server.count("tools/call"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_client_is_gone_before_it_was_sent_is_not_sent() {
    // How long it has waited by then: its stream is open after 10 s.
    for waited in [1, 15] {
        let server = Live::new(false, 1);
        let mut rig = rig_of(&[("live", &server)], None);
        rig.toml = "[connector.live]\ncalls = 1\n".to_owned();
        let served = rig.ready().await;
        server.on_call(OnCall::After(seconds(30)));
        let first = make(&served, "live__t1", 1).await;
        let opened = served.legacy().ask("initialize", r#""protocolVersion":"2025-06-18","capabilities":{}"#).await;
        let session = opened.headers["mcp-session-id"].to_str().unwrap();
        let in_session = served.legacy().with_header("mcp-session-id", session);
        let clients = [served.legacy(), served.modern(), in_session.clone(), in_session.clone()];
        let waiting = clients.map(|client| tokio::spawn(async move { client.call("live__t1", "{}").await }));
        tokio::time::sleep(seconds(waited)).await;
        let [alone, modern, closed, cancelled] = waiting;
        [&alone, &modern, &closed].into_iter().for_each(JoinHandle::abort);
        tokio::time::sleep(Duration::from_millis(1)).await;
        // The two in the session have one identifier: the later is cancelled.
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":7}}"#;
        assert_eq!(in_session.post(&[], cancel).await.status, 202);
        cancelled.await.unwrap();
        assert_eq!(reason(&first.into_iter().next().unwrap().await.unwrap()), "");
        tokio::time::sleep(seconds(60)).await;
        assert_eq!(server.count("tools/call"), 1, "after {waited} s");
        // One that was sent goes on without its client, and its permit is free afterwards.
        server.on_call(OnCall::After(seconds(1)));
        let sent = make(&served, "live__t1", 1).await;
        sent.iter().for_each(JoinHandle::abort);
        assert_eq!(served.legacy().call("live__t1", "{}").await.code(), None);
        assert_eq!(server.count("tools/call"), 3);
    }
}
