//! What servers ask besides their answers, on the sessions that a legacy client has of its own with them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use axum::Router;
use cortex_mcp::edge::virtual_network::Host;
use http::Method;
use serde_json::json;
use support::streaming::{Stream, send};
use support::{Rig, Served};

const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

const CALL: &str = r#"{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{"name":"s1__work"}}"#;

fn router(served: &Served) -> Router {
    served.gateway.router("127.0.0.1:8420".parse().unwrap())
}

/// Opens a session that can do this; returns its id.
async fn session(router: &Router, capabilities: &str) -> String {
    let params = format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"t","version":"1"}}}}"#
    );
    let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
    let response = send(router, Method::POST, &[], &body).await;
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

/// A legacy server that asks on the stream of the session and not on that of the call, as many do.
fn asks_aside() -> Router {
    use axum::body::{Body, Bytes};
    use axum::response::{IntoResponse, Response};
    use cortex_mcp::mcp::Message;
    use futures_util::StreamExt;
    use tokio::sync::{broadcast, mpsc};
    let (questions, _) = broadcast::channel::<String>(4);
    let (answers, answered) = mpsc::channel::<String>(4);
    let answered = Arc::new(tokio::sync::Mutex::new(answered));
    let opened = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let of = |headers: &http::HeaderMap| headers.get("mcp-session-id").map(|id| id.to_str().unwrap().to_owned());
    let listened = questions.clone();
    let get = move |headers: http::HeaderMap| {
        let (mut questions, own) = (listened.subscribe(), of(&headers).unwrap());
        async move {
            let events = futures_util::stream::once(async move {
                // Each session is asked on its own stream.
                while questions.recv().await.unwrap() != own {}
                let question = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#;
                Ok::<_, std::convert::Infallible>(format!("data: {question}\n\n"))
            });
            ([("content-type", "text/event-stream")], Body::from_stream(events.chain(futures_util::stream::pending())))
                .into_response()
        }
    };
    let post = move |headers: http::HeaderMap, body: Bytes| async move {
        let session =
            of(&headers).unwrap_or_else(|| format!("a{}", opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst)));
        let given = session.clone();
        let json = move |text: String| {
            ([("content-type", "application/json"), ("mcp-session-id", given.as_str())], text).into_response()
        };
        let (id, method): (_, String) = match Message::parse(&body) {
            Ok(Message::Request { id, method, .. }) => (id, method),
            Ok(Message::Response { .. }) => {
                answers.send(String::from_utf8(body.to_vec()).unwrap()).await.unwrap();
                return http::StatusCode::ACCEPTED.into_response();
            }
            _ => return http::StatusCode::ACCEPTED.into_response(),
        };
        let id = id.as_json();
        let result: Response = match method.as_str() {
            "initialize" => json(format!(
                r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25","capabilities":{{"tools":{{}}}},"serverInfo":{{"name":"a","version":"1"}}}}}}"#
            )),
            "tools/list" => json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[{{"name":"work"}}]}}}}"#)),
            "tools/call" => {
                assert!(questions.send(session).is_ok(), "nobody listens");
                let answer = answered.lock().await.recv().await.unwrap();
                assert!(answer.contains(r#""action":"accept""#), "{answer}");
                json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"asked":true}}}}"#))
            }
            _ => json(format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#)),
        };
        result
    };
    Router::new().route("/mcp", axum::routing::post(post).get(get).delete(async || http::StatusCode::OK))
}

#[tokio::test(start_paused = true)]
async fn a_question_that_belongs_to_no_request_is_asked_on_the_sessions_stream_or_beside_a_call() {
    for has_stream in [false, true] {
        let rig = Rig::new(1);
        rig.network.set(&rig.servers[0].url, Host::Serve(asks_aside()));
        let served = rig.ready().await;
        let router = router(&served);
        let id = session(&router, r#"{"elicitation":{}}"#).await;
        let headers = [LEGACY, ("mcp-session-id", id.as_str())];
        let mut own = match has_stream {
            true => Some(Stream::of(send(&router, Method::GET, &headers, "").await)),
            false => None,
        };
        let (calling, call_headers) = (router.clone(), id.clone());
        let mut called = Some(tokio::spawn(async move {
            let headers = [LEGACY, ("mcp-session-id", call_headers.as_str())];
            send(&calling, Method::POST, &headers, CALL).await
        }));
        let mut beside = None;
        let asked = match &mut own {
            Some(own) => own.next().await.unwrap(),
            None => beside.insert(Stream::of(called.take().unwrap().await.unwrap())).next().await.unwrap(),
        };
        assert_eq!(asked["method"], "elicitation/create");
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept"}}}}"#, asked["id"]);
        assert_eq!(send(&router, Method::POST, &headers, &answer).await.status(), 202);
        let answer = match beside {
            Some(mut beside) => beside.next().await.unwrap(),
            None => {
                let body = axum::body::to_bytes(called.unwrap().await.unwrap().into_body(), 1 << 20).await.unwrap();
                serde_json::from_slice(&body).unwrap()
            }
        };
        assert_eq!(answer["result"], json!({"asked": true}), "{answer}");
    }
}
