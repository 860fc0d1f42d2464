//! The endpoint itself: who may come in, which messages are answered how, and what a list's answer says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::demo::mcp_server::ServerOptions;
use cortex_mcp::gateway::limits;
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
async fn a_page_forces_no_refresh() {
    let mut rig = Rig::new(1);
    let served = rig.ready().await;
    let sync = async |served: &support::Served, headers: &[(&str, &str)]| {
        served.modern().send(Method::POST, "/sync", headers, "").await.status
    };
    for origin in ["http://localhost:3000", "http://127.0.0.1:8420", "http://[::1]"] {
        assert_eq!(sync(&served, &[("origin", origin), ("content-type", "text/plain")]).await, 403, "{origin}");
    }
    assert_eq!(served.metric(r#"mcp_requests_refused_total{reason="page"}"#), Some(3.0));
    assert_eq!(sync(&served, &[]).await, 200);
    served.gateway.shut_down().await;
    // A page that the operator listed may; where everybody needs a token, the browser asks before it sends one.
    rig.toml = "allowed-origins = [\"http://localhost:3000\"]".to_owned();
    let served = rig.ready().await;
    assert_eq!(sync(&served, &[("origin", "http://localhost:3000")]).await, 200);
    assert_eq!(sync(&served, &[("origin", "http://localhost:3001")]).await, 403);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_mcp_is_neither_guessed_at_nor_cached_nor_embedded() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let client = served.modern();
    for (method, path) in [
        (Method::GET, "/healthz"),
        (Method::GET, "/readyz"),
        (Method::GET, "/status"),
        (Method::GET, "/metrics"),
        (Method::POST, "/sync"),
        (Method::POST, "/policy"),
        (Method::POST, "/policy/back"),
        (Method::GET, "/no/such"),
        (Method::PUT, "/status"),
    ] {
        for host in ["localhost", "evil.example"] {
            let answer = client.with_header("host", host).send(method.clone(), path, &[], "").await;
            let header = |name: &str| answer.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
            let found =
                [header("x-content-type-options"), header("cache-control"), header("cross-origin-resource-policy")];
            let expected = ["nosniff", "no-store", "same-origin"].map(|value| Some(value.to_owned()));
            assert_eq!(found, expected, "{method} {path} {}", answer.status);
        }
    }
    assert!(!client.list().await.headers.contains_key("cross-origin-resource-policy"));
}

/// What a browser asks before a page may post a call.
const PREFLIGHT: [(&str, &str); 2] = [
    ("access-control-request-method", "POST"),
    ("access-control-request-headers", "Authorization,content-type,mcp-method,Mcp-Param-Region,x-other"),
];

#[tokio::test(start_paused = true)]
async fn a_browser_may_send_pages_of_known_origins_and_shows_them_the_answers() {
    let mut rig = Rig::new(1);
    rig.toml = format!(
        "allowed-origins = [\"https://app.example\"]\n[[token]]\nname = \"page\"\nsha256 = \"{}\"",
        Digest::of(b"open sesame")
    );
    let served = rig.ready().await;
    let page = served.modern().with_header("origin", "https://app.example");
    for path in ["/mcp", "/status", "/policy"] {
        let asked = page.send(Method::OPTIONS, path, &PREFLIGHT, "").await;
        assert_eq!((asked.status, asked.body.as_str()), (204, ""), "a browser shows no token beforehand");
        for (name, value) in [
            ("access-control-allow-origin", "https://app.example"),
            ("access-control-allow-methods", "GET, POST, DELETE"),
            (
                "access-control-allow-headers",
                "accept, authorization, content-type, last-event-id, mcp-method, mcp-param-region",
            ),
            ("access-control-max-age", "600"),
            ("vary", "origin"),
        ] {
            assert_eq!(asked.headers[name], value, "{path}");
        }
    }
    let shown = page.with_header("authorization", "Bearer open sesame").list().await;
    let refused = page.list().await;
    assert_eq!((shown.status, refused.status), (200, 401));
    for answer in [&shown, &refused] {
        assert_eq!(answer.headers["access-control-allow-origin"], "https://app.example");
        assert_eq!(answer.headers["access-control-expose-headers"], "mcp-session-id, retry-after, www-authenticate");
        assert_eq!(answer.headers["vary"], "origin");
    }
}

#[tokio::test(start_paused = true)]
async fn a_browser_is_told_nothing_for_pages_of_other_origins_or_hosts_and_clients_without_one_neither() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let client = served.modern();
    let (stranger, here) =
        (client.with_header("origin", "https://evil.example"), client.with_header("origin", "http://localhost:3000"));
    for page in [&stranger, &here.with_header("host", "evil.example")] {
        let asked = page.send(Method::OPTIONS, "/mcp", &PREFLIGHT, "").await;
        assert_eq!(asked.status, 403);
        for answer in [asked, page.list().await] {
            assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
        }
    }
    // Without tokens, a page that merely comes from this machine is not let in, whatever else may be asked from there.
    let (asked, listed) = (here.send(Method::OPTIONS, "/mcp", &PREFLIGHT, "").await, here.list().await);
    assert_eq!((asked.status, listed.status), (403, 200));
    for answer in [asked, listed] {
        assert!(answer.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
    }
    let plain = client.list().await;
    assert_eq!((plain.status, &plain.headers["vary"]), (200, &"origin".parse().unwrap()));
    assert!(plain.headers.keys().all(|name| !name.as_str().starts_with("access-control-")));
    assert_eq!(client.send(Method::OPTIONS, "/mcp", &[], "").await.status, 405, "that asks for nothing");
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
    let unknown = client.with_header("authorization", "Bearer other").list().await;
    let challenge = unknown.headers["www-authenticate"].to_str().unwrap();
    assert_eq!((unknown.status, challenge), (401, "Bearer error=\"invalid_token\""));
    // A client that looks for an authorization server finds none, and no registration.
    for name in ["oauth-protected-resource", "oauth-authorization-server", "openid-configuration"] {
        for path in [format!("/.well-known/{name}"), format!("/.well-known/{name}/mcp")] {
            assert_eq!(client.get(&path).await.status, 404, "{path}");
        }
    }
    let registered = client.send(Method::POST, "/register", &[], "{}").await;
    assert_eq!(registered.status, 401);
    assert!(
        registered.body.contains("invalid_token") && registered.body.contains("gateway.toml"),
        "{}",
        registered.body
    );
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
        json!(["2026-07-28", "2025-11-25", "2025-06-18", "2025-03-26", "2024-11-05"])
    );
}

#[tokio::test(start_paused = true)]
async fn a_legacy_client_shakes_hands_and_is_served_with_its_session_or_without() {
    let rig = Rig::new(1);
    let client = rig.ready().await.legacy();
    for (wanted, negotiated) in [
        ("2025-11-25", "2025-11-25"),
        ("2025-06-18", "2025-06-18"),
        ("2024-11-05", "2024-11-05"),
        ("1999-01-01", "2024-11-05"),
    ] {
        let params =
            format!(r#""protocolVersion":"{wanted}","capabilities":{{}},"clientInfo":{{"name":"t","version":"1"}}"#);
        let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{{params}}}}}"#);
        let answer = client.post(&[], &body).await;
        let result = answer.result();
        let changes = json!({ "listChanged": true });
        assert_eq!(result["protocolVersion"], negotiated);
        assert_eq!(
            (result["capabilities"].clone(), answer.headers.contains_key("mcp-session-id")),
            (
                json!({
                    "logging": {}, "completions": {}, "prompts": changes,
                    "resources": { "subscribe": true, "listChanged": true }, "tools": changes,
                }),
                true
            )
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
async fn a_client_of_2025_03_26_may_send_batches_and_no_other() {
    let mut rig = Rig::new(1);
    rig.toml = format!("[[token]]\nname = \"t\"\ncalls-per-minute = 8\nsha256 = \"{}\"", Digest::of(b"open sesame"));
    let served = rig.ready().await;
    let client = served.legacy().with_header("authorization", "Bearer open sesame");
    let request = |id: &str, method: &str, params: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)
    };
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#.to_owned();
    let batch = |messages: &[&str]| format!(" [{}]", messages.join(" , "));
    let call = request("\"a\"", "tools/call", r#""name":"s1__echo","arguments":{"text":"hello"}"#);
    let opened = async |version: &str| {
        let body = request("0", "initialize", &format!(r#""protocolVersion":"{version}""#));
        client.post(&[], &body).await.headers["mcp-session-id"].to_str().unwrap().to_owned()
    };
    let (old, newer) = (opened("2025-03-26").await, opened("2025-06-18").await);
    // Requests are answered, each by its id; notifications are not, and a session begins alone.
    let body = batch(&[&call, &notice, "7", &request("1", "initialize", ""), &request("2", "ping", "")]);
    for headers in [&[("mcp-session-id", old.as_str())][..], &[("mcp-protocol-version", "2025-03-26")]] {
        let answer = client.post(headers, &body).await;
        let answers = answer.json();
        let ids: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["id"].clone()).collect();
        assert_eq!((answer.status, ids), (200, vec![json!("a"), json!(null), json!(1), json!(2)]));
        assert_eq!(answers[0]["result"]["structuredContent"]["text"], "hello", "{}", answer.body);
        assert_eq!((&answers[1]["error"]["code"], &answers[2]["error"]["code"]), (&json!(-32600), &json!(-32600)));
    }
    assert_eq!(client.post(&[("mcp-session-id", &old)], &batch(&[&notice, &notice])).await.status, 202);
    for (headers, body) in [
        (&[("mcp-session-id", newer.as_str())][..], &batch(&[&notice])),
        (&[("mcp-protocol-version", "2025-11-25")], &batch(&[&notice])),
        (&[("mcp-session-id", &old)], &batch(&[])),
        (&[("mcp-session-id", &old)], &batch(&[notice.as_str(); limits::BATCH_MESSAGES_MAX + 1])),
    ] {
        let answer = client.post(headers, body).await;
        assert_eq!((answer.status, answer.code()), (400, Some(-32600)), "{}", answer.body);
    }
    // Each request of a batch counts: two handshakes and four requests were made.
    let answers = client.post(&[], &batch(&[&call, &call, &call])).await.json();
    let codes: Vec<_> = answers.as_array().unwrap().iter().map(|answer| answer["error"]["code"].clone()).collect();
    assert_eq!(codes, [json!(null), json!(null), json!(-32011)]);
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

#[tokio::test(start_paused = true)]
async fn a_slash_more_is_the_same_endpoint_and_other_paths_name_it() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let client = served.legacy();
    let json_type = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let initialize = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    for path in ["/mcp", "/mcp/", "/mcp/?profile=a", "/mcp?profile=a"] {
        let list =
            client.send(Method::POST, path, &json_type, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).await;
        assert_eq!((list.status, list.tool_names().len()), (200, 3), "{path}");
        assert!(!list.headers.contains_key("cross-origin-resource-policy"));
        let opened = client.send(Method::POST, path, &json_type, initialize).await;
        let session = [("mcp-session-id", opened.headers["mcp-session-id"].to_str().unwrap())];
        assert_eq!(client.get(path).await.status, 405);
        assert_eq!(client.send(Method::DELETE, path, &session, "").await.status, 200);
        assert_eq!(client.send(Method::DELETE, path, &session, "").await.status, 404, "{path}");
    }
    for (method, path) in [
        (Method::POST, "/"),
        (Method::GET, "/sse"),
        (Method::POST, "/mcp/x"),
        (Method::POST, "/MCP"),
        (Method::DELETE, "/v1/mcp"),
        (Method::GET, "//mcp"),
    ] {
        let text = client.send(method.clone(), path, &[], "").await;
        let kind = text.headers["content-type"].to_str().unwrap();
        assert_eq!((text.status, kind), (404, "text/plain; charset=utf-8"), "{method} {path}");
        assert!(text.body.contains("is /mcp"), "{}", text.body);
        let rpc = client.send(method, path, &json_type, "{}").await;
        assert_eq!((rpc.status, rpc.code()), (404, Some(-32600)));
        assert!(rpc.json()["error"]["message"].as_str().unwrap().contains("is /mcp"));
    }
}

#[tokio::test(start_paused = true)]
async fn the_index_says_what_this_is_and_no_more_than_the_token_may_see() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    let index = served.modern().get("/").await;
    assert_eq!((index.status, index.headers["content-type"].to_str().unwrap()), (200, "text/plain; charset=utf-8"));
    for part in
        [env!("CARGO_PKG_VERSION"), "ready; 2 connectors, 0 of them down", "/mcp ", "/healthz", "/status", "/metrics"]
    {
        assert!(index.body.contains(part), "{part} in {}", index.body);
    }
    assert_eq!(served.modern().with_header("host", "evil.example").get("/").await.status, 403);
    assert_eq!(served.modern().with_header("origin", "https://evil.example").get("/").await.status, 403);
    served.gateway.shut_down().await;
    let token = |name: &str, more: &str| {
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n{more}\n", Digest::of(name.as_bytes()))
    };
    rig.toml = token("all", "") + &token("part", "connectors = [\"s1\"]");
    let served = rig.ready().await;
    for (bearer, shown, hidden) in [
        ("Bearer all", &["2 connectors", "/status"][..], &["s1"][..]),
        ("Bearer part", &["1 connectors", "/mcp"], &["/status", "/metrics", "s1"]),
        ("Bearer wrong", &["/mcp", "needs a bearer token"], &[env!("CARGO_PKG_VERSION"), "connectors", "/status"]),
    ] {
        let index = served.modern().with_header("authorization", bearer).get("/").await;
        assert_eq!(index.status, 200);
        assert!(shown.iter().all(|part| index.body.contains(part)), "{bearer}: {}", index.body);
        assert!(!hidden.iter().any(|part| index.body.contains(part)), "{bearer}: {}", index.body);
    }
}
