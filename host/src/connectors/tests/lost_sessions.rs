//! Servers that forget their sessions and answer what is asked in one as real servers do: the next call or the one after it
//! works, and no call is made twice that may have been carried out.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures_util::stream;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::live::{Live, OnCall, Refusal};
use super::*;
use crate::connectors::{CallError, Caller, OwnSessions, PassKind};
use crate::mcp::{Declared, Outcome};
use crate::model::raw::{self, RawObject};

const JSON: Option<&str> = Some("application/json");
const TEXT: Option<&str> = Some("text/plain");

/// What becomes of the first call.
#[derive(Clone, Copy, Debug, PartialEq)]
enum First {
    /// It was refused before it was carried out, so it is made again.
    Repeated,
    /// It may have been carried out.
    Fails,
}

use First::{Fails, Repeated};

/// Answers to a request in an unknown session, from public bug reports and their neighbours.
const REFUSALS: [(Refusal, First); 25] = [
    (
        refusal(404, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#),
        Repeated,
    ),
    (refusal(404, TEXT, "nope"), Repeated),
    (refusal(404, None, ""), Repeated),
    (
        refusal(
            400,
            JSON,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: No valid session ID"}}"#,
        ),
        Repeated,
    ),
    (
        refusal(400, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Server not initialized"}}"#),
        Repeated,
    ),
    (
        refusal(400, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"No active session"}}"#),
        Repeated,
    ),
    (refusal(400, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Bad"}}"#), Repeated),
    (
        refusal(
            400,
            JSON,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"Invalid request parameters"}}"#,
        ),
        Repeated,
    ),
    (refusal(400, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"unknown session"}}"#), Repeated),
    (refusal(400, TEXT, "Invalid session"), Repeated),
    (refusal(400, None, "Bad Request: No valid session ID provided"), Repeated),
    (refusal(400, JSON, r#"{"error":"no"}"#), Repeated),
    (
        refusal(200, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#),
        Repeated,
    ),
    (refusal(200, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Session expired"}}"#), Fails),
    (refusal(200, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"not initialized"}}"#), Fails),
    (refusal(200, TEXT, "session expired"), Fails),
    (refusal(302, TEXT, "log in"), Fails),
    (refusal(401, TEXT, "session expired"), Fails),
    (refusal(403, None, ""), Fails),
    (refusal(409, TEXT, "no such session"), Fails),
    (refusal(410, None, ""), Fails),
    (refusal(422, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"unknown"}}"#), Fails),
    (refusal(500, TEXT, "session not found"), Fails),
    (refusal(500, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"unknown session"}}"#), Fails),
    (refusal(503, JSON, r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"unknown session"}}"#), Fails),
];

const fn refusal(status: u16, content_type: Option<&'static str>, body: &'static str) -> Refusal {
    Refusal { status, content_type, body }
}

/// A client whose calls go over the shared session, or over one of its own.
fn client(is_own: bool) -> Option<OwnSessions> {
    let capabilities = raw::trusted(r#"{"roots":{}}"#.to_owned());
    is_own.then(|| OwnSessions::new(Declared { capabilities, info: None }))
}

async fn call(rig: &Rig, own: Option<&OwnSessions>) -> Result<Outcome, CallError> {
    let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
    rig.fleet.call(&id(), Caller { own, ..Caller::default() }, "tools/call", params).await
}

fn is_result(called: &Result<Outcome, CallError>) -> bool {
    matches!(called, Ok(Outcome::Result(_)))
}

async fn rig_with(settings_of_fleet: &str) -> Rig {
    let server = Live::new(false, 1);
    let network = Arc::new(VirtualNetwork::new());
    network.set(&url(), Host::Serve(server.router()));
    let fleet = fleet(network.clone(), Arc::new(VirtualProcesses::new()), settings(settings_of_fleet));
    fleet.apply(vec![described("1")]).await;
    let rig = Rig { fleet, server, network };
    rig.until("it is listed", || rig.server.count("tools/list") == 1).await;
    rig
}

async fn second() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_call_or_the_next_one_opens_another_session_however_the_server_says_that_it_forgot() {
    for (refusal, first) in REFUSALS {
        for (is_own, mode) in [(false, "background"), (true, "background"), (false, "on-demand")] {
            let rig = rig_with(if mode == "on-demand" { "refresh-sync = true" } else { "" }).await;
            rig.server.refuse_unknown_sessions(refusal);
            let own = client(is_own);
            assert!(is_result(&call(&rig, own.as_ref()).await));
            second().await;
            let before = (rig.server.count("initialize"), rig.server.count("tools/call"));
            rig.server.forget();
            let answered = call(&rig, own.as_ref()).await;
            let case = format!("{refusal:?} own {is_own} {mode}: {answered:?}");
            assert_eq!(is_result(&answered), first == Repeated, "{case}");
            let sent = if first == Repeated { 2 } else { 1 };
            assert_eq!(rig.server.count("tools/call"), before.1 + sent, "{case}");
            second().await;
            assert!(is_result(&call(&rig, own.as_ref()).await), "{case}");
            second().await;
            let opened = rig.server.count("initialize") - before.0;
            assert!((1..=2).contains(&opened), "{case}: {opened}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_alone_finds_out_too() {
    for (refusal, _) in REFUSALS {
        let rig = rig_with("").await;
        rig.server.refuse_unknown_sessions(refusal);
        rig.server.forget();
        let before = rig.server.count("initialize");
        rig.fleet.pass(PassKind::Force, tokio::time::Instant::now(), |_| {}).await;
        assert_eq!(rig.server.count("initialize"), before + 1, "{refusal:?}");
        assert!(is_result(&call(&rig, None).await), "{refusal:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_fails_calls_and_answers_lists_keeps_the_session_and_is_listed_ever_less() {
    for status in [401, 403, 409, 500, 502, 503] {
        for is_own in [false, true] {
            let rig = rig_with("").await;
            let own = client(is_own);
            assert!(is_result(&call(&rig, own.as_ref()).await));
            second().await;
            rig.server.fail_calls(Some(status));
            let before = (rig.server.count("initialize"), rig.server.count("tools/list"));
            for _ in 0..120 {
                assert!(!is_result(&call(&rig, own.as_ref()).await));
                second().await;
            }
            assert_eq!(rig.server.count("initialize"), before.0, "{status} {is_own}");
            let listed = rig.server.count("tools/list") - before.1;
            // One for each check of the session, and one for each time that the breaker is open.
            assert!(listed <= 16, "{status} {is_own}: {listed} lists");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_that_always_fails_casts_no_doubt_on_the_session_with_every_call() {
    for status in [403, 500] {
        let rig = rig_with("").await;
        rig.server.fail_prompts(status);
        rig.server.restart(1);
        // Learns of the prompts, and lists them again and again on its own account.
        for _ in 0..10 {
            drop(call(&rig, None).await);
            second().await;
        }
        assert!(rig.server.count("prompts/list") > 0, "{status}");
        let listed = rig.server.count("tools/list");
        for _ in 0..200 {
            assert!(is_result(&call(&rig, None).await), "{status}");
            second().await;
        }
        assert!(rig.server.count("tools/list") - listed <= 1, "{status}: {}", rig.server.count("tools/list") - listed);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_fewer_calls_keeps_the_session_and_is_not_listed() {
    let rig = rig_with("").await;
    rig.server.on_call(OnCall::Throttle(Some(1)));
    let before = (rig.server.count("initialize"), rig.server.count("tools/list"));
    for _ in 0..10 {
        assert!(!is_result(&call(&rig, None).await));
        tokio::time::sleep(Duration::from_millis(1_500)).await;
    }
    assert_eq!((rig.server.count("initialize"), rig.server.count("tools/list")), before);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_refuses_every_list_is_shaken_hands_with_once_for_each_step_of_the_backoff() {
    // A list and a call for each of some twelve steps, and a ping for each time that the breaker is open.
    let refusal = refusal(503, TEXT, "no");
    for (refusal, most) in [(refusal, 40), (Refusal { status: 401, ..refusal }, 2)] {
        let rig = rig_with("").await;
        rig.server.refuse_unknown_sessions(refusal);
        rig.server.forget_always();
        let before = rig.server.count("initialize");
        for _ in 0..300 {
            drop(call(&rig, None).await);
            second().await;
        }
        let opened = rig.server.count("initialize") - before;
        assert!((1..=most).contains(&opened), "{refusal:?}: {opened}");
    }
}

type Events = mpsc::Sender<Result<Bytes, std::io::Error>>;

/// A server of 2024-11-05, whose sessions are its streams: it answers posts to one that it has forgotten with a status.
struct Streams {
    refusal: u16,
    inner: Mutex<(usize, Option<Events>)>,
    posts: AtomicUsize,
}

async fn serve_streams(State(server): State<Arc<Streams>>, request: Request) -> Response {
    let number = |path: &str| path.strip_prefix("/messages/").and_then(|number| number.parse::<usize>().ok());
    let Some(session) = number(request.uri().path()) else {
        let (sender, receiver) = mpsc::channel(8);
        let opened = {
            let mut inner = server.inner.lock().unwrap();
            inner.0 += 1;
            inner.1 = Some(sender.clone());
            inner.0
        };
        sender.send(Ok(Bytes::from(format!("event: endpoint\ndata: /messages/{opened}\n\n")))).await.unwrap();
        let events = stream::unfold(receiver, async |mut events| Some((events.recv().await?, events)));
        return Response::builder()
            .header("content-type", "text/event-stream")
            .body(Body::from_stream(events))
            .unwrap();
    };
    let (current, stream) = server.inner.lock().unwrap().clone();
    if session != current {
        return Response::builder().status(server.refusal).body(Body::from("unknown session")).unwrap();
    }
    let message: Value =
        serde_json::from_slice(&axum::body::to_bytes(request.into_body(), 65_536).await.unwrap()).unwrap();
    let result = match message["method"].as_str().unwrap() {
        "initialize" => json!({ "protocolVersion": "2024-11-05", "capabilities": { "tools": {} } }),
        "tools/list" => json!({ "tools": [{ "name": "t1", "inputSchema": { "type": "object" } }] }),
        "tools/call" => {
            server.posts.fetch_add(1, Ordering::SeqCst);
            json!({ "content": [] })
        }
        _ => json!({}),
    };
    if !message["id"].is_null() {
        let answer = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
        stream.unwrap().send(Ok(Bytes::from(format!("event: message\ndata: {answer}\n\n")))).await.unwrap();
    }
    Response::builder().status(202).body(Body::empty()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_2024_11_05_whose_posts_are_refused_is_opened_again() {
    for refusal in [400, 404, 410, 500, 503] {
        let server = Arc::new(Streams { refusal, inner: Mutex::default(), posts: AtomicUsize::new(0) });
        let network = Arc::new(VirtualNetwork::new());
        network.set(&url(), Host::Serve(Router::new().fallback(serve_streams).with_state(server.clone())));
        let fleet = fleet(network.clone(), Arc::new(VirtualProcesses::new()), settings(""));
        fleet.apply(vec![Connector { reach: Some(Reach::Sse { sse: url() }), ..described("1") }]).await;
        let rig = Rig { fleet, server: Live::new(false, 0), network };
        second().await;
        assert!(is_result(&call(&rig, None).await), "{refusal}");
        // The stream stays open, and its session is not known any more.
        server.inner.lock().unwrap().0 += 1;
        let repeated = matches!(refusal, 400 | 404 | 410);
        assert_eq!(is_result(&call(&rig, None).await), repeated, "{refusal}");
        second().await;
        assert!(is_result(&call(&rig, None).await), "{refusal}");
        assert_eq!(server.posts.load(Ordering::SeqCst), if repeated { 3 } else { 2 }, "{refusal}");
    }
}
