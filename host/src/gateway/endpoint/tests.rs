use axum::Router;
use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use http::{Method, Request};
use tokio::time::Instant;
use tower::ServiceExt;

use super::*;
use crate::gateway::test_gateway::gateway;

/// Sends a request with the usual headers and these.
async fn send(router: &Router, method: Method, headers: &[(&str, &str)], body: &str) -> Response {
    let mut request = Request::builder().method(method).uri("/mcp").header("host", "localhost");
    let usual = [("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    for (name, value) in usual.iter().chain(headers) {
        request = request.header(*name, *value);
    }
    router.clone().oneshot(request.body(Body::from(body.to_owned())).unwrap()).await.unwrap()
}

/// An idle stream of each kind, whose client has read what it began with.
async fn idle_streams(router: &Router) -> [BodyDataStream; 2] {
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25",
        "capabilities":{},"clientInfo":{"name":"c","version":"1"}}}"#;
    let opened = send(router, Method::POST, &[], initialize).await;
    let session = opened.headers()[SESSION_HEADER].to_str().unwrap();
    let get = send(router, Method::GET, &[("mcp-session-id", session)], "").await.into_body().into_data_stream();
    let listen = r#"{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{"notifications":
        {"toolsListChanged":true},"_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28",
        "io.modelcontextprotocol/clientInfo":{"name":"c","version":"1"},
        "io.modelcontextprotocol/clientCapabilities":{}}}}"#;
    let modern = [("mcp-protocol-version", VERSION_2026_07_28), ("mcp-method", "subscriptions/listen")];
    let mut listen = send(router, Method::POST, &modern, listen).await.into_body().into_data_stream();
    let acknowledged = listen.next().await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&acknowledged).contains("acknowledged"), "{acknowledged:?}");
    [get, listen]
}

mod idle_streams {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn end_properly_and_at_once_with_their_listener() {
        let (_gateway, router) = gateway(Vec::new()).await;
        let ending = CancellationToken::new();
        let router = router.layer(Extension(Ending(ending.clone())));
        let streams = idle_streams(&router).await;
        // Whatever tells the news is waiting for some.
        tokio::time::sleep(limits::KEEP_ALIVE / 2).await;
        ending.cancel();
        let began = Instant::now();
        for stream in streams {
            let rest: Vec<_> = stream.collect().await;
            assert!(rest.iter().all(Result::is_ok), "the body is not broken: {rest:?}");
        }
        assert_eq!(began.elapsed(), std::time::Duration::ZERO);
    }
}
