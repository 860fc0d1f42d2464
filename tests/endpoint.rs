//! The endpoint itself: who may come in, which messages are answered how, and what a list's answer says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::demo::mcp_server::ServerOptions;
use cortex_mcp::mcp::ListScope;
use cortex_mcp::model::Digest;
use http::Method;
use serde_json::json;
use support::client::META;
use support::{Rig, tools_bytes};

const MODERN: [(&str, &str); 2] = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];

fn modern_list() -> String {
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{META}}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn without_a_session_there_is_no_stream_to_get_and_none_to_delete() {
    let rig = Rig::new(1);
    let client = rig.ready().await.legacy();
    let get = client.send(Method::GET, "/mcp", &[], "").await;
    assert_eq!((get.status, get.headers["allow"].to_str().unwrap()), (405, "POST, DELETE"));
    assert_eq!(client.send(Method::DELETE, "/mcp", &[], "").await.status, 200);
    assert_eq!(client.send(Method::DELETE, "/mcp", &[("mcp-session-id", "x")], "").await.status, 404);
}

#[tokio::test(start_paused = true)]
async fn foreign_hosts_and_origins_are_refused_on_every_guarded_route() {
    let mut rig = Rig::new(1);
    rig.toml = "allowed-hosts = [\"gateway.example\"]\nallowed-origins = [\"https://app.example\"]".to_owned();
    let served = rig.ready().await;
    let client = served.modern();
    for path in ["/status", "/metrics"] {
        assert_eq!(client.get(path).await.status, 200);
        assert_eq!(client.with_header("host", "evil.example").get(path).await.status, 403);
        assert_eq!(client.with_header("origin", "https://evil.example").get(path).await.status, 403);
        assert_eq!(client.with_header("host", "gateway.example").get(path).await.status, 200);
        assert_eq!(client.with_header("origin", "https://app.example").get(path).await.status, 200);
    }
    assert_eq!(client.with_header("host", "evil.example").list().await.status, 403);
    assert_eq!(client.with_header("origin", "null").list().await.status, 403);
    assert_eq!(client.with_header("host", "evil.example").get("/healthz").await.status, 200);
    assert_eq!(served.metric(r#"mcp_requests_refused_total{reason="host"}"#), Some(3.0));
    assert_eq!(served.metric(r#"mcp_requests_refused_total{reason="origin"}"#), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn once_tokens_are_configured_everybody_needs_one() {
    let mut rig = Rig::new(1);
    rig.toml = format!("[[token]]\nname = \"agent\"\nsha256 = \"{}\"", Digest::of(b"open sesame"));
    let served = rig.ready().await;
    let client = served.modern();
    let refused = client.list().await;
    assert_eq!((refused.status, refused.headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    for path in ["/status", "/metrics"] {
        assert_eq!(client.get(path).await.status, 401);
    }
    assert_eq!(client.send(Method::POST, "/sync", &[], "").await.status, 401);
    assert_eq!(client.with_header("authorization", "Bearer other").list().await.status, 401);
    let known = client.with_header("authorization", "Bearer open sesame");
    assert_eq!((known.list().await.status, known.get("/status").await.status), (200, 200));
    assert_eq!((client.get("/healthz").await.status, client.get("/readyz").await.status), (200, 200));
    // The key that opens this door is not passed on.
    assert!(served.wire.sent().iter().all(|sent| !sent.request.headers.contains_key("authorization")));
}

#[tokio::test(start_paused = true)]
async fn a_modern_request_must_say_the_same_in_headers_and_body() {
    let rig = Rig::new(1);
    let client = rig.ready().await.modern();
    let good = client.post(&MODERN, &modern_list()).await;
    assert_eq!((good.status, good.code()), (200, None));
    let other_version = modern_list().replace("2026-07-28", "2099-01-01");
    let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"s1__echo",{META}}}}}"#);
    for (headers, body, code) in [
        (&MODERN[1..], modern_list(), -32020),
        (&MODERN[..1], modern_list(), -32020),
        (&[("mcp-protocol-version", "2025-11-25"), MODERN[1]][..], modern_list(), -32020),
        (&[MODERN[0], ("mcp-method", "tools/call")][..], call.clone(), -32020),
        (&[MODERN[0], ("mcp-method", "tools/call"), ("mcp-name", "other")][..], call, -32020),
        (&[("mcp-protocol-version", "2099-01-01"), MODERN[1]][..], other_version, -32022),
        (&MODERN[..], modern_list().replace("clientCapabilities", "nothing"), -32602),
    ] {
        let answer = client.post(headers, &body).await;
        assert_eq!((answer.status, answer.code()), (400, Some(code)), "{}", answer.body);
    }
    let refused = client
        .post(&[("mcp-protocol-version", "2099-01-01"), MODERN[1]], &modern_list().replace("2026-07-28", "2099-01-01"))
        .await;
    assert_eq!(
        refused.json()["error"]["data"]["supported"],
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_legacy_client_shakes_hands_and_is_served_with_its_session_or_without() {
    let rig = Rig::new(1);
    let client = rig.ready().await.legacy();
    for (wanted, negotiated) in
        [("2025-11-25", "2025-11-25"), ("2025-06-18", "2025-06-18"), ("1999-01-01", "2025-11-25")]
    {
        let params =
            format!(r#""protocolVersion":"{wanted}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}"#);
        let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{{params}}}}}"#);
        let answer = client.post(&[], &body).await;
        let result = answer.result();
        let changes = json!({ "listChanged": true });
        assert_eq!(result["protocolVersion"], negotiated);
        assert_eq!(
            (result["capabilities"].clone(), answer.headers.contains_key("mcp-session-id")),
            (json!({ "prompts": changes, "resources": changes, "tools": changes }), true)
        );
    }
    let note = client.post(&[], r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!((note.status, note.body.as_str()), (202, ""));
    assert_eq!(client.ask("ping", "").await.result(), json!({}));
    let plain = client.post(&[], r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
    assert_eq!(plain.tool_names().len(), 3, "params and the version header may be left out");
    let odd =
        client.post(&[("mcp-protocol-version", "1999-01-01")], r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).await;
    assert_eq!(odd.status, 400);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_is_told_so() {
    let rig = Rig::new(1);
    let client = rig.ready().await.modern();
    for (body, code) in
        [("{", -32700), ("[]", -32600), (r#"{"jsonrpc":"1.0","id":1,"method":"x"}"#, -32600), ("7", -32600)]
    {
        let answer = client.post(&[], body).await;
        assert_eq!((answer.status, answer.code()), (400, Some(code)), "{body}: {}", answer.body);
    }
    let text = client.send(Method::POST, "/mcp", &[("content-type", "text/plain")], &modern_list()).await;
    assert_eq!(text.status, 415);
    let huge = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}"}}"#, "x".repeat(17 << 20));
    assert_eq!(client.post(&[], &huge).await.status, 413);
}

#[tokio::test(start_paused = true)]
async fn a_modern_list_bears_its_caching_hints_and_a_legacy_one_does_not() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let modern = served.modern().list().await;
    let result = modern.result();
    assert_eq!(result["resultType"], "complete");
    assert!((1..=300_000).contains(&result["ttlMs"].as_u64().unwrap()), "{}", result["ttlMs"]);
    // A legacy server says nothing about who may share its list.
    assert_eq!(result["cacheScope"], "private");
    assert_eq!(result["_meta"]["io.modelcontextprotocol/serverInfo"]["name"], "cortex-mcp");
    assert_eq!(modern.standing("s1")["state"], "fresh");
    let legacy = served.legacy().list().await;
    assert!(["resultType", "ttlMs", "cacheScope"].iter().all(|key| legacy.result().get(key).is_none()));
    assert_eq!(tools_bytes(&legacy.body), tools_bytes(&modern.body));
    let discovered = served.modern().ask("server/discover", "").await.result();
    assert_eq!(
        (discovered["resultType"].as_str(), discovered["supportedVersions"][0].as_str()),
        (Some("complete"), Some("2026-07-28"))
    );

    for (scope, word) in [(ListScope::Public, "public"), (ListScope::Private, "private")] {
        let rig = Rig::of([ServerOptions { scope, ..Rig::options(2) }]);
        let result = rig.ready().await.modern().list().await.result();
        assert_eq!(result["cacheScope"], word);
    }
}

#[tokio::test(start_paused = true)]
async fn readiness_and_status_tell_what_is_served() {
    let rig = Rig::new(2);
    rig.hang(1);
    rig.server(2).set_latency(std::time::Duration::from_millis(100));
    let served = rig.start().await;
    let client = served.modern();
    assert_eq!((client.get("/healthz").await.status, client.get("/readyz").await.status), (200, 503));
    served.gateway.first_pass().await;
    let ready = client.get("/readyz").await;
    assert_eq!((ready.status, ready.json()), (200, json!({ "ready": true, "tools": 3, "state": "writer" })));
    let status = client.get("/status").await.json();
    assert_eq!(
        (status["tools"].as_u64(), status["connectors"][0]["lastFailure"]["class"].as_str()),
        (Some(3), Some("timeout"))
    );
    assert_eq!(status["policy"]["digest"], status["policy"]["default_digest"]);
    let synced = client.send(Method::POST, "/sync", &[], "").await.json();
    assert_eq!(
        (synced["connectorCount"].as_u64(), synced["ready"].as_u64(), synced["failed"].as_u64()),
        (Some(2), Some(1), Some(1))
    );
    let metrics = client.get("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain; version=0.0.4"));
    assert_eq!(served.metric(r#"brainwav_mcp_connector_proxy_up{connector="s1"}"#), Some(0.0));
    assert_eq!(served.metric(r#"brainwav_mcp_connector_proxy_up{connector="s2"}"#), Some(1.0));
}
