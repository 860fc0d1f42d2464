//! Legacy sessions: opened, used by whose they are, told the news on one stream, ended by their client or by idleness.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use axum::Router;
use axum::body::Body;
use cortex_mcp::demo::mcp_server::{ServerEra, ServerOptions};
use cortex_mcp::gateway::limits;
use cortex_mcp::model::Digest;
use http::{Method, Response};
use serde_json::{Value, json};
use support::streaming::{Stream, send};
use support::{Rig, Served, seconds, until};

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",
    "capabilities":{"sampling":{}},"clientInfo":{"name":"t","version":"1"}}}"#;
const LIST: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;

fn router(served: &Served) -> Router {
    served.gateway.router("127.0.0.1:8420".parse().unwrap())
}

/// Opens a session; returns the headers that its requests carry.
async fn open(router: &Router) -> String {
    let response = send(router, Method::POST, &[], INITIALIZE).await;
    assert_eq!(response.status(), 200);
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

async fn get(router: &Router, id: &str) -> Response<Body> {
    send(router, Method::GET, &[("mcp-session-id", id), ("accept", "text/event-stream")], "").await
}

async fn post(router: &Router, id: &str, body: &str) -> Response<Body> {
    send(router, Method::POST, &[("mcp-session-id", id)], body).await
}

async fn json(response: Response<Body>) -> Value {
    serde_json::from_slice(&axum::body::to_bytes(response.into_body(), 1 << 24).await.unwrap()).unwrap()
}

/// How many sessions are open.
fn sessions(served: &Served) -> f64 {
    served.metric("mcp_sessions").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_session_lasts_until_its_client_deletes_it() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    assert_eq!(post(&router, &id, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await.status(), 202);
    assert_eq!(json(post(&router, &id, LIST).await).await["result"]["tools"].as_array().unwrap().len(), 3);
    let delete = [("mcp-session-id", id.as_str())];
    assert_eq!(send(&router, Method::DELETE, &delete, "").await.status(), 200);
    assert_eq!(sessions(&served), 0.0);
    let gone = post(&router, &id, LIST).await;
    assert_eq!((gone.status().as_u16(), json(gone).await["error"]["code"].as_i64()), (404, Some(-32001)));
    assert_eq!(post(&router, &id, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await.status(), 404);
    assert_eq!(get(&router, &id).await.status(), 404);
    assert_eq!(send(&router, Method::DELETE, &delete, "").await.status(), 404);
    // Who has no session is served without.
    assert_eq!(send(&router, Method::POST, &[], LIST).await.status(), 200);
    assert_eq!(send(&router, Method::DELETE, &[], "").await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_its_tokens_and_not_there_for_others() {
    let mut rig = Rig::new(1);
    let token = |name: &str| format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n", Digest::of(name.as_bytes()));
    rig.toml = token("one") + &token("two");
    let served = rig.ready().await;
    let router = router(&served);
    let response = send(&router, Method::POST, &[("authorization", "Bearer one")], INITIALIZE).await;
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    for (bearer, status) in [("Bearer one", 200), ("Bearer two", 404)] {
        let headers = [("mcp-session-id", id.as_str()), ("authorization", bearer)];
        assert_eq!(send(&router, Method::POST, &headers, LIST).await.status(), status, "{bearer}");
    }
    let headers = [("mcp-session-id", id.as_str()), ("authorization", "Bearer two")];
    assert_eq!(send(&router, Method::DELETE, &headers, "").await.status(), 404);
    assert_eq!(sessions(&served), 1.0);
}

/// A `[[token]]` of this name, whose secret is its name, with more in it.
fn token(name: &str, more: &str) -> String {
    format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n{more}\n", Digest::of(name.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn a_reload_ends_what_is_open_for_tokens_that_are_gone_or_changed_and_nothing_else() {
    let mut rig = Rig::new(2);
    rig.toml = token("gone", "") + &token("narrowed", "") + &token("same", "calls-per-minute = 60");
    rig.server(2).be_silent_on(&["tools/call"]);
    let served = rig.ready().await;
    let router = router(&served);
    let mut open = Vec::new();
    for bearer in ["Bearer gone", "Bearer narrowed", "Bearer same"] {
        let authorized = ("authorization", bearer);
        let response = send(&router, Method::POST, &[authorized], INITIALIZE).await;
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let headers = [("mcp-session-id", id.as_str()), authorized];
        let news = Stream::of(send(&router, Method::GET, &headers, "").await);
        let (calling, session) = (router.clone(), id.clone());
        let call = tokio::spawn(async move {
            let call = r#"{"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"s2__echo","arguments":{}}}"#;
            let headers = [("mcp-session-id", session.as_str()), ("authorization", bearer)];
            send(&calling, Method::POST, &headers, call).await.status()
        });
        open.push((bearer, id, news, call));
    }
    let calls = || served.wire.sent().iter().filter(|sent| sent.body().contains("tools/call")).count();
    until("all are called", seconds(1), || calls() == 3).await;
    rig.toml = token("same", "calls-per-minute = 70") + &token("narrowed", "connectors = [\"s1\"]");
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(sessions(&served), 1.0);
    for (bearer, id, mut news, call) in open {
        let headers = [("mcp-session-id", id.as_str()), ("authorization", bearer)];
        let status = send(&router, Method::POST, &headers, LIST).await.status().as_u16();
        match bearer {
            "Bearer same" => {
                assert_eq!(status, 200);
                assert!(!call.is_finished());
                rig.server(1).set_tools(5);
                served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
                assert_eq!(news.within(seconds(5)).await.len(), 1, "{bearer}");
                call.abort();
            }
            _ => {
                assert_eq!(status, if bearer == "Bearer gone" { 401 } else { 404 });
                assert_eq!(news.rest().await.len(), 0, "{bearer}");
                tokio::time::timeout(seconds(1), call).await.expect("it is cut off").unwrap();
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_token_ends_what_was_open_to_everybody() {
    let mut rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    let news = Stream::of(get(&router, &id).await);
    rig.toml = token("one", "");
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((news.rest().await.len(), sessions(&served)), (0, 0.0));
}

#[tokio::test(start_paused = true)]
async fn a_token_with_its_share_of_sessions_makes_room_for_its_next_one_itself() {
    let mut rig = Rig::new(1);
    rig.toml = token("modest", "") + &token("greedy", "");
    let served = rig.ready().await;
    let router = router(&served);
    let open = async |bearer: &str| {
        let response = send(&router, Method::POST, &[("authorization", bearer)], INITIALIZE).await;
        response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
    };
    let works = async |id: &str, bearer: &str| {
        let headers = [("mcp-session-id", id), ("authorization", bearer)];
        send(&router, Method::POST, &headers, LIST).await.status() == 200
    };
    let oldest = open("Bearer modest").await;
    let mut greedy = Vec::new();
    for _ in 0..limits::SESSIONS_MAX + 10 {
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        greedy.push(open("Bearer greedy").await);
    }
    assert_eq!(sessions(&served), limits::SESSIONS_MAX as f64);
    let newer = open("Bearer modest").await;
    assert!(works(&oldest, "Bearer modest").await && works(&newer, "Bearer modest").await);
    assert!(!works(&greedy[11], "Bearer greedy").await && works(&greedy[12], "Bearer greedy").await);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_says_of_itself_is_bounded_and_so_are_the_uris_that_it_subscribes_to() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let large = "x".repeat(limits::CLIENT_FACTS_BYTES_MAX);
    for said in [
        format!(r#""capabilities":{{}},"clientInfo":{{"name":"{large}"}}"#),
        format!(r#""capabilities":{{"sampling":{{"x":"{large}"}}}}"#),
    ] {
        let params = format!(r#"{{"protocolVersion":"2025-11-25",{said}}}"#);
        let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
        assert_eq!(json(send(&router, Method::POST, &[], &body).await).await["error"]["code"], -32602);
    }
    assert_eq!(sessions(&served), 0.0);
    let id = open(&router).await;
    let uri = format!("x:{}", "y".repeat(limits::SUBSCRIPTION_URI_BYTES_MAX));
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{{"uri":"{uri}"}}}}"#);
    assert_eq!(json(post(&router, &id, &body).await).await["error"]["code"], -32602);
}

#[tokio::test(start_paused = true)]
async fn a_session_is_named_also_on_a_stream() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let response = send(&router, Method::POST, &[("accept", "text/event-stream")], INITIALIZE).await;
    let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
    assert_eq!(Stream::of(response).rest().await[0]["result"]["protocolVersion"], "2025-11-25");
    assert_eq!(post(&router, &id, LIST).await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn however_often_roots_change_servers_are_told_now_and_once_more() {
    let rig = Rig::of([ServerOptions { era: ServerEra::Legacy, ..Rig::options(1) }]);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"s1__echo","arguments":{}}}"#;
    assert_eq!(post(&router, &id, call).await.status(), 200);
    rig.server(1).set_latency(std::time::Duration::from_millis(500));
    for _ in 0..50 {
        let changed = r#"{"jsonrpc":"2.0","method":"notifications/roots/list_changed"}"#;
        assert_eq!(post(&router, &id, changed).await.status(), 202);
    }
    tokio::time::sleep(seconds(60)).await;
    let told = served.wire.sent().iter().filter(|sent| sent.body().contains("roots/list_changed")).count();
    assert_eq!(told, 2);
}

#[tokio::test(start_paused = true)]
async fn a_modern_request_is_of_no_session_and_gets_no_stream() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    let modern = [("mcp-protocol-version", "2026-07-28"), ("mcp-session-id", id.as_str())];
    for method in [Method::GET, Method::DELETE] {
        let response = send(&router, method.clone(), &modern, "").await;
        assert_eq!(
            (response.status().as_u16(), &response.headers()["allow"]),
            (405, &"POST".parse().unwrap()),
            "{method}"
        );
    }
    assert_eq!(sessions(&served), 1.0);
    assert_eq!(send(&router, Method::GET, &[], "").await.status(), 405, "nor does a legacy client without a session");
    assert_eq!(
        send(&router, Method::GET, &[("mcp-session-id", &id), ("accept", "application/json")], "").await.status(),
        406
    );
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_once_on_the_newest_stream_and_a_burst_of_changes_is_two() {
    let rig = Rig::new(6);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    let mut older = Stream::of(get(&router, &id).await);
    let mut newer = Stream::of(get(&router, &id).await);
    assert_eq!(newer.within(seconds(5)).await, Vec::<Value>::new(), "nothing has changed");
    for number in 1..=6 {
        rig.server(number).set_tools(4);
        rig.server(number).set_latency(std::time::Duration::from_millis(60 * number as u64));
    }
    served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
    let told = newer.within(seconds(5)).await;
    let changed = json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed"});
    assert_eq!((told.len(), &told[0]), (2, &changed), "the first at once, the others together: {told:?}");
    assert_eq!(older.within(seconds(1)).await, Vec::<Value>::new());
    // With the newest gone, the one before is told.
    drop(newer);
    rig.server(1).set_tools(7);
    served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
    assert_eq!(older.within(seconds(5)).await, std::slice::from_ref(&changed));
    // What changed while nobody listened is told to whoever listens next, unless it was listed meanwhile.
    drop(older);
    for (listed, told) in [(false, 1), (true, 0)] {
        rig.server(1).set_tools(if listed { 8 } else { 9 });
        served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
        if listed {
            post(&router, &id, LIST).await;
        }
        let mut stream = Stream::of(get(&router, &id).await);
        assert_eq!(stream.within(seconds(5)).await.len(), told, "listed: {listed}");
    }
}

#[tokio::test(start_paused = true)]
async fn streams_of_a_session_are_bounded_and_end_with_it() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    let mut streams = Vec::new();
    for _ in 0..limits::SESSION_STREAMS_MAX {
        streams.push(Stream::of(get(&router, &id).await));
    }
    assert_eq!(get(&router, &id).await.status(), 409);
    streams.pop();
    until("its place is free", seconds(1), || true).await;
    tokio::time::sleep(seconds(1)).await;
    streams.push(Stream::of(get(&router, &id).await));
    send(&router, Method::DELETE, &[("mcp-session-id", &id)], "").await;
    for stream in streams {
        assert_eq!(stream.rest().await.len(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_cancelled_request_is_cancelled_upstream_and_never_answered() {
    for number in [1, 2] {
        let rig = Rig::new(number);
        rig.server(number).be_silent_on(&["tools/call"]);
        let served = rig.ready().await;
        let router = router(&served);
        let (id, other) = (open(&router).await, open(&router).await);
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":"a","method":"tools/call","params":{{"name":"s{number}__echo","arguments":{{}}}}}}"#
        );
        let (calling, session) = (router.clone(), id.clone());
        let called = tokio::spawn(async move {
            let response = post(&calling, &session, &call).await;
            let status = response.status().as_u16();
            (status, axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap())
        });
        let calls = || served.wire.sent().iter().filter(|sent| sent.body().contains("tools/call")).count();
        until("it is called", seconds(1), || calls() == 1).await;
        let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"a"}}"#;
        assert_eq!(post(&router, &other, cancel).await.status(), 202);
        assert_eq!(send(&router, Method::POST, &[], cancel).await.status(), 202);
        tokio::time::sleep(seconds(1)).await;
        assert!(!called.is_finished(), "an id means the request of its own session only");
        assert_eq!(post(&router, &id, cancel).await.status(), 202);
        let (status, body) = called.await.unwrap();
        assert_eq!((status, body.len()), (200, 0), "the stream ends and says nothing");
        if number == 1 {
            let told = || served.wire.sent().iter().any(|sent| sent.body().contains("notifications/cancelled"));
            until("the legacy server is told", seconds(1), told).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sessions_that_were_abandoned_leave_nothing_behind() {
    let rig = Rig::of([ServerOptions { ..Rig::options(1) }]);
    let served = rig.ready().await;
    let router = router(&served);
    let upstream = rig.server(1).open_sessions();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();
    let call = r#"{"jsonrpc":"2.0","id":2,"method":"tools/call","params":{"name":"s1__echo","arguments":{}}}"#;
    for number in 0..10_000 {
        let id = open(&router).await;
        // Some of them do something: each of those has a session of its own with the server.
        if number % 100 == 0 {
            assert_eq!(post(&router, &id, call).await.status(), 200);
        }
        assert!(sessions(&served) <= limits::SESSIONS_MAX as f64);
    }
    assert_eq!(sessions(&served), limits::SESSIONS_MAX as f64, "so many are kept, and no more");
    tokio::time::sleep(limits::SESSION_IDLE_MAX + 2 * limits::SESSION_SWEEP).await;
    assert_eq!(sessions(&served), 0.0);
    until("every session with the server has ended", seconds(30), || rig.server(1).open_sessions() <= upstream).await;
    until("every task has ended", seconds(30), || tasks() <= before).await;
    let refused = served.metric(r#"mcp_requests_refused_total{reason="sessions"}"#);
    assert_eq!(refused, Some((10_000 - limits::SESSIONS_MAX) as f64));
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_used_does_not_expire_and_one_with_a_stream_neither() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let (used, listening, idle) = (open(&router).await, open(&router).await, open(&router).await);
    let stream = get(&router, &listening).await;
    for _ in 0..3 {
        tokio::time::sleep(limits::SESSION_IDLE_MAX * 2 / 3).await;
        assert_eq!(post(&router, &used, LIST).await.status(), 200);
    }
    assert_eq!(sessions(&served), 2.0);
    assert_eq!(post(&router, &idle, LIST).await.status(), 404);
    drop(stream);
    tokio::time::sleep(limits::SESSION_IDLE_MAX + 2 * limits::SESSION_SWEEP).await;
    assert_eq!(sessions(&served), 0.0);
}

#[tokio::test(start_paused = true)]
async fn a_gateway_that_ends_ends_its_sessions_and_their_streams() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let id = open(&router).await;
    let stream = Stream::of(get(&router, &id).await);
    served.gateway.shut_down().await;
    assert_eq!(stream.rest().await.len(), 0);
    assert_eq!(sessions(&served), 0.0);
}
