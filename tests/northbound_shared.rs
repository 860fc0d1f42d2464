//! What clients share and what they must not: log messages of shared sessions, the deadline of the end, limits of tokens.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::model::Digest;
use http::{Method, Request};
use serde_json::json;
use support::live::Live;
use support::streaming::{Stream, send};
use support::{Described, Rig, seconds, until};
use tokio::time::Instant;
use tower::ServiceExt;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",
    "capabilities":{},"clientInfo":{"name":"t","version":"1"}}}"#;
const SET_LEVEL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"debug"}}"#;

/// A `[[token]]` of this name, whose secret is its name, with more in it.
fn token(name: &str, more: &str) -> String {
    format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n{more}\n", Digest::of(name.as_bytes()))
}

#[tokio::test(start_paused = true)]
async fn a_log_message_that_may_be_about_anybody_is_told_nobody_once_there_are_several_tokens() {
    for (tokens, told) in [(token("one", ""), 1), (token("one", "") + &token("two", ""), 0)] {
        let mut rig = Rig::new(0);
        rig.toml = tokens;
        let server = Live::new(false, 1);
        rig.network.set(&"https://live.test".parse().unwrap(), Host::Serve(server.router()));
        rig.publish(|map| map.connectors.push(Described::new("live", "https://live.test/mcp")));
        let served = rig.ready().await;
        until("the shared stream is open", seconds(1), || server.streams() == 1).await;
        let router = served.gateway.router("127.0.0.1:8420".parse().unwrap());
        let authorized = ("authorization", "Bearer one");
        let response = send(&router, Method::POST, &[authorized], INITIALIZE).await;
        let id = response.headers()["mcp-session-id"].to_str().unwrap().to_owned();
        let headers = [("mcp-session-id", id.as_str()), authorized];
        assert_eq!(send(&router, Method::POST, &headers, SET_LEVEL).await.status(), 200);
        let mut news = Stream::of(send(&router, Method::GET, &headers, "").await);
        assert_eq!(news.within(seconds(1)).await.len(), 0);
        server.say("notifications/message", json!({ "level": "error", "data": "whose?" }));
        assert_eq!(news.within(seconds(5)).await.len(), told);
    }
}

#[tokio::test(start_paused = true)]
async fn a_sync_is_a_request_of_its_token_unless_that_may_change_the_gateway() {
    let mut rig = Rig::new(1);
    rig.toml = token("agent", "calls-per-minute = 2") + &token("ops", "admin = true\ncalls-per-minute = 1");
    let served = rig.ready().await;
    let router = served.gateway.router("127.0.0.1:8420".parse().unwrap());
    let lists = rig.server(1).counts().lists;
    for (name, expected) in [("agent", [200, 200, 429]), ("ops", [200, 200, 200])] {
        for status in expected {
            let request = Request::post("/sync").header("host", "localhost");
            let request = request.header("authorization", format!("Bearer {name}"));
            let response = router.clone().oneshot(request.body(axum::body::Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), status, "{name}");
            assert_eq!(response.headers().contains_key("retry-after"), status == 429);
        }
    }
    assert_eq!(rig.server(1).counts().lists - lists, 5, "a refused one asks nobody");
}

#[tokio::test(start_paused = true)]
async fn calls_have_until_the_deadline_that_was_taken_when_the_end_began() {
    let rig = Rig::new(1);
    rig.server(1).be_silent_on(&["tools/call"]);
    let served = rig.ready().await;
    let router = served.gateway.router("127.0.0.1:8420".parse().unwrap());
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s1__echo","arguments":{}}}"#;
    let calling = tokio::spawn(async move { send(&router, Method::POST, &[], call).await.status() });
    let calls = || served.wire.sent().iter().filter(|sent| sent.body().contains("tools/call")).count();
    until("it is called", seconds(1), || calls() == 1).await;
    let deadline = Instant::now() + seconds(1);
    served.gateway.shut_down_by(deadline).await;
    assert!(deadline.elapsed() < seconds(1), "{:?} after the deadline", deadline.elapsed());
    calling.await.unwrap();
}
