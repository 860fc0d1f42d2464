//! Reactions: what a server announces is followed within a second, what it does not announce is seen by the poll, and who
//! comes back as another one is found out. Both eras; virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::model::ListState;
use serde_json::json;
use support::live::{Live, OnCall};
use support::{Answer, Described, Rig, Served, seconds};
use tokio::time::Instant;

const URL: &str = "https://live.test/mcp";

/// A rig with one server, and a gateway that listens to it.
async fn listening(modern: bool) -> (Rig, Arc<Live>, Served) {
    let (rig, server) = rig_of(modern);
    let served = rig.ready().await;
    served.until("the stream is open", seconds(1), |_| server.streams() == 1).await;
    (rig, server, served)
}

fn rig_of(modern: bool) -> (Rig, Arc<Live>) {
    let mut rig = Rig::new(0);
    let server = Live::new(modern, 2);
    rig.network.set(&URL.parse().unwrap(), Host::Serve(server.router()));
    rig.publish(|map| map.connectors.push(Described::new("live", URL)));
    (rig, server)
}

fn reason(answer: &Answer) -> String {
    answer.json()["error"]["data"]["reason"].as_str().unwrap_or_default().to_owned()
}

#[tokio::test(start_paused = true)]
async fn an_announced_change_is_served_within_a_second_in_both_eras() {
    for modern in [false, true] {
        let (_rig, server, served) = listening(modern).await;
        assert_eq!((served.tools(), server.count("tools/list")), (2, 1));
        for tools in [5, 1, 7, 3] {
            server.set_tools(tools);
            server.announce();
            served.until("the new list", seconds(1), |served| served.tools() == tools).await;
            assert_eq!(served.connector("live").unwrap().state, ListState::Fresh);
        }
        assert_eq!(server.count("tools/list"), 5, "one list for each change");
        assert_eq!(server.streams(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_announcements_is_a_few_lists_and_the_last_change_is_never_lost() {
    for modern in [false, true] {
        let (_rig, server, served) = listening(modern).await;
        for tools in 1..=200 {
            server.set_tools(tools);
            server.announce();
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        served.until("the last list", seconds(1), |served| served.tools() == 200).await;
        // Two seconds at the pace of announcements.
        let lists = server.count("tools/list");
        assert!((3..=8).contains(&lists), "{lists}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_announces_a_change_whenever_it_is_listed_is_not_listed_without_end() {
    let (_rig, server, served) = listening(false).await;
    server.announce_when_listed();
    server.announce();
    tokio::time::sleep(seconds(600)).await;
    let lists = server.count("tools/list");
    assert!(lists <= 35, "{lists} lists in ten minutes");
    // What it announces is followed all the same.
    server.set_tools(9);
    served.until("the new list", seconds(31), |served| served.tools() == 9).await;
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_announcements_costs_few_lists_and_hides_no_change() {
    for modern in [false, true] {
        let (_rig, server, served) = listening(modern).await;
        let storm = async |half_seconds: u32| {
            for _ in 0..half_seconds * 100 {
                server.announce();
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        storm(24).await;
        let lists = server.count("tools/list");
        assert!(lists <= 12, "{lists} lists in twelve seconds");
        server.set_tools(9);
        storm(4).await;
        assert_eq!(served.tools(), 9, "the change is served within two seconds");
        // One that brings nothing for long is followed at the same pace, so that a change is seen as soon.
        storm(600).await;
        let lists = server.count("tools/list");
        assert!(lists <= 260, "{lists} lists in five minutes");
        server.set_tools(5);
        storm(4).await;
        assert_eq!(served.tools(), 5, "the change is served within two seconds");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_announced_is_seen_by_the_poll() {
    for modern in [false, true] {
        let (rig, server) = rig_of(modern);
        server.set_capabilities(json!({ "tools": {} }));
        let served = rig.ready().await;
        tokio::time::sleep(seconds(10)).await;
        assert_eq!((server.streams(), server.count("GET"), server.count("subscriptions/listen")), (0, 0, 0));
        server.set_tools(6);
        served.until("the new list", seconds(400), |served| served.tools() == 6).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_no_stream_is_asked_once_and_served_all_the_same() {
    for modern in [false, true] {
        for code in [404, 405, 400] {
            let (rig, server) = rig_of(modern);
            server.refuse_streams(Some(code));
            let served = rig.ready().await;
            tokio::time::sleep(seconds(3_600)).await;
            assert_eq!(server.count("GET") + server.count("subscriptions/listen"), 1, "{modern} {code}");
            assert_eq!((served.tools(), server.count("initialize")), (2, usize::from(!modern)));
            assert_eq!(served.connector("live").unwrap().state, ListState::Fresh);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_fails_is_tried_again_ever_more_slowly_and_holds_nothing_up() {
    for modern in [false, true] {
        let (rig, server) = rig_of(modern);
        server.refuse_streams(Some(503));
        let served = rig.ready().await;
        tokio::time::sleep(seconds(3_600)).await;
        let tries = server.count("GET") + server.count("subscriptions/listen");
        // Equal jitter below a minute.
        assert!((60..=140).contains(&tries), "{tries}");
        assert_eq!(server.count("initialize"), usize::from(!modern), "the session stays");
        let status = served.connector("live").unwrap();
        // The next refresh may just be due.
        assert!(matches!(status.state, ListState::Fresh | ListState::Soft), "{status:?}");
        assert_eq!((status.failures, status.breaker.as_str()), (0, "closed"));
        server.refuse_streams(None);
        served.until("the stream", seconds(61), |_| server.streams() == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_announced_while_the_stream_was_broken_is_seen_when_it_is_back() {
    for (modern, in_order) in [(false, false), (false, true), (true, false), (true, true)] {
        let (_rig, server, served) = listening(modern).await;
        server.refuse_streams(Some(503));
        if in_order {
            server.end_streams()
        } else {
            server.break_streams()
        }
        server.set_tools(4);
        // Nobody hears this.
        server.announce();
        tokio::time::sleep(seconds(5)).await;
        // A legacy server that refuses a stream may have forgotten the session, which a list shows.
        let (seen, next) = if modern { (2, 4) } else { (4, 6) };
        assert_eq!(served.tools(), seen);
        server.set_tools(next);
        server.refuse_streams(None);
        served.until("the stream is back", seconds(10), |_| server.streams() == 1).await;
        served.until("the new list", seconds(1), |served| served.tools() == next).await;
        server.set_tools(5);
        server.announce();
        served.until("the next one", seconds(1), |served| served.tools() == 5).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_comes_back_with_other_tools_is_seen_within_seconds() {
    for modern in [false, true] {
        let (rig, server, served) = listening(modern).await;
        rig.network.set(&URL.parse().unwrap(), Host::Refuse);
        server.restart(12);
        tokio::time::sleep(seconds(3)).await;
        assert_eq!(served.tools(), 2, "its list is served while it is away");
        rig.network.set(&URL.parse().unwrap(), Host::Serve(server.router()));
        served.until("the new list", seconds(8), |served| served.tools() == 12).await;
        served.until("the new stream", seconds(1), |_| server.streams() == 1).await;
        assert_eq!(server.count("initialize"), if modern { 0 } else { 2 });
        let answer = served.modern().call("live__t12", "{}").await;
        assert_eq!(answer.code(), None, "{}", answer.body);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_was_down_at_the_start_is_listened_to_once_it_is_there() {
    for modern in [false, true] {
        let (rig, server) = rig_of(modern);
        rig.network.set(&URL.parse().unwrap(), Host::Refuse);
        let served = rig.ready().await;
        tokio::time::sleep(seconds(300)).await;
        rig.network.set(&URL.parse().unwrap(), Host::Serve(server.router()));
        served.until("the late joiner", seconds(60), |served| served.tools() == 2).await;
        server.set_tools(3);
        served.until("its stream", seconds(1), |_| server.streams() == 1).await;
        server.announce();
        served.until("what it announces", seconds(1), |served| served.tools() == 3).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_remembered_server_is_listened_to_after_a_restart_and_asked_no_more_than_needed() {
    for modern in [false, true] {
        let (rig, server, served) = listening(modern).await;
        served.gateway.shut_down().await;
        assert_eq!(server.streams(), 0, "the stream ends with the gateway");
        let before = (server.count("server/discover"), server.count("initialize"));
        let served = rig.start().await;
        assert_eq!(served.tools(), 2);
        served.until("the stream", seconds(2), |_| server.streams() == 1).await;
        tokio::time::sleep(seconds(2)).await;
        let asked = (server.count("server/discover") - before.0, server.count("initialize") - before.1);
        assert_eq!(asked, if modern { (1, 0) } else { (0, 1) });
        server.set_tools(8);
        server.announce();
        served.until("the new list", seconds(1), |served| served.tools() == 8).await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_denies_a_tool_has_the_list_looked_at() {
    for modern in [false, true] {
        let (_rig, server, served) = listening(modern).await;
        server.set_tools(1);
        assert_eq!(served.modern().call("live__t2", "{}").await.code(), Some(-32602));
        served.until("the shorter list", seconds(1), |served| served.tools() == 1).await;
    }
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_on_a_dying_server_fail_at_once_with_a_typed_error() {
    for modern in [false, true] {
        for on_call in [OnCall::BreakJson, OnCall::BreakEvents] {
            let (_rig, server, served) = listening(modern).await;
            server.on_call(on_call);
            let began = Instant::now();
            let answer = served.modern().call("live__t1", "{}").await;
            assert_eq!(
                (reason(&answer).as_str(), began.elapsed()),
                ("answer-lost", Duration::ZERO),
                "{modern} {on_call:?}"
            );
            assert_eq!(server.count("tools/call"), 1, "it may have been carried out, so it is not made again");
            server.on_call(OnCall::Answer);
            assert_eq!(served.modern().call("live__t1", "{}").await.code(), None);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_its_session_is_given_another_and_the_call_is_made() {
    let (_rig, server, served) = listening(false).await;
    server.restart(2);
    let answer = served.modern().call("live__t1", "{}").await;
    assert_eq!((answer.code(), server.count("initialize")), (None, 2), "{}", answer.body);
    served.until("the new session's stream", seconds(2), |_| server.streams() == 1).await;
}

#[tokio::test(start_paused = true)]
async fn questions_and_other_messages_on_a_shared_stream_harm_nobody() {
    let (_rig, server, served) = listening(false).await;
    server.send(json!({ "jsonrpc": "2.0", "id": 5, "method": "elicitation/create", "params": {} }));
    server.send(json!({ "jsonrpc": "2.0", "id": 6, "result": {} }));
    server.say("notifications/of/nothing", json!({}));
    server.say("notifications/message", json!({ "level": "info", "data": "x" }));
    server.set_tools(3);
    server.announce();
    served.until("what it announces", seconds(1), |served| served.tools() == 3).await;
    // The question was refused, in an answer of its own.
    assert_eq!(server.count(""), 1);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_leaves_takes_its_stream_with_it() {
    for modern in [false, true] {
        let (mut rig, server, served) = listening(modern).await;
        rig.publish(|map| map.connectors[0].enabled = false);
        served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
        served.until("the stream is closed", seconds(1), |_| server.streams() == 0).await;
        tokio::time::sleep(seconds(3_600)).await;
        assert_eq!(server.count("GET") + server.count("subscriptions/listen"), 1);
    }
}
