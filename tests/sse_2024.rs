//! HTTP with Server-Sent Events of 2024-11-05, upstream: found where it is named and where it is not, used by many at
//! once, and over when its stream is.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

#[path = "sse_2024/server.rs"]
mod server;
mod support;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use cortex_mcp::edge::http::HttpError;
use cortex_mcp::edge::process::ChildSpawner;
use cortex_mcp::edge::virtual_network::{Host, VirtualNetwork};
use cortex_mcp::edge::virtual_processes::VirtualProcesses;
use cortex_mcp::mcp::protocol::Era;
use cortex_mcp::mcp::{
    Declared, Interim, Nobody, Notice, Outcome, ProtocolFault, Question, Session, Upstream, WireError,
};
use cortex_mcp::model::raw::{self, RawObject};
use cortex_mcp::model::{ListKind, Reach};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use server::{OldServer, result};
use support::{Rig, seconds};
use tokio::time::Instant;
use url::Url;

const SSE: &str = "https://old.test/sse?tenant=1";
const ENDPOINT: &str = "/messages?session_id={n}";

/// Answers every call with what it was called with.
fn echo(message: &Value) -> Vec<String> {
    match message["method"].as_str() {
        Some("tools/call") => vec![result(message, json!({ "structuredContent": message["params"]["arguments"] }))],
        _ => Vec::new(),
    }
}

struct World {
    server: Arc<OldServer>,
    network: Arc<VirtualNetwork>,
}

impl World {
    fn of(server: Arc<OldServer>) -> Self {
        let network = Arc::new(VirtualNetwork::new());
        network.set(&url(SSE), Host::Serve(server.router()));
        Self { server, network }
    }

    fn upstream(&self, reach: Reach) -> Upstream {
        let mut headers = HeaderMap::new();
        headers.insert("x-key", HeaderValue::from_static("secret"));
        let id = "old-server".parse().unwrap();
        Upstream::reached(
            &reach,
            cortex_mcp::mcp::FixedHeaders::new(headers),
            self.network.clone(),
            ChildSpawner::new(Arc::new(VirtualProcesses::new())),
            &id,
            Default::default(),
        )
    }

    async fn session(&self) -> Session {
        self.upstream(sse()).open(None, &Declared::default()).await.unwrap()
    }
}

fn url(text: &str) -> Url {
    text.parse().unwrap()
}

fn sse() -> Reach {
    Reach::Sse { sse: url(SSE) }
}

fn object(text: &str) -> RawObject {
    RawObject::from_str(text).unwrap()
}

fn text(outcome: Outcome) -> String {
    match outcome {
        Outcome::Result(result) => result.get().to_owned(),
        Outcome::Error(error) => panic!("{error}"),
    }
}

async fn settle() {
    tokio::time::sleep(seconds(60)).await;
}

#[tokio::test(start_paused = true)]
async fn an_old_server_is_opened_without_a_probe_and_serves_many_at_once_on_one_stream() {
    let world = World::of(OldServer::new(ENDPOINT, echo));
    let session = world.session().await;
    assert_eq!((session.era(), session.protocol_version()), (Era::Legacy, "2024-11-05"));
    let methods: Vec<_> = world.server.posts().iter().map(|post| post["method"].clone()).collect();
    assert_eq!(methods, ["initialize", "notifications/initialized"]);
    assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), 1);
    let calls = (0..20).map(|number| {
        let params = object(&format!(r#"{{"name":"t","arguments":{{"n":{number}}}}}"#));
        let session = &session;
        async move { text(session.request("tools/call", params, &Nobody).await.unwrap()) }
    });
    for (number, told) in futures_util::future::join_all(calls).await.into_iter().enumerate() {
        assert_eq!(told, format!(r#"{{"structuredContent":{{"n":{number}}}}}"#));
    }
    assert_eq!(world.server.gets(), 1);
    assert!(world.server.keys().iter().all(|key| key.as_deref() == Some("secret")), "{:?}", world.server.keys());
    session.close().await;
    assert_eq!(world.server.open_streams(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_stream_fails_every_call_in_flight_at_once() {
    let world = World::of(OldServer::new(ENDPOINT, |_| Vec::new()));
    let session = world.session().await;
    let began = Instant::now();
    let call = || session.request("tools/call", object("{}"), &Nobody);
    let hanging_up = async {
        tokio::task::yield_now().await;
        while world.server.posts().len() < 4 {
            tokio::task::yield_now().await;
        }
        world.server.hang_up();
    };
    let (one, two, ()) = tokio::join!(call(), call(), hanging_up);
    for error in [one, two].map(Result::unwrap_err) {
        assert_eq!((error.was_not_sent(), error), (false, ProtocolFault::PipeEnded.into()));
    }
    let error = call().await.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (true, ProtocolFault::NotWritten.into()));
    assert!(session.has_ended() && began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_given_up_is_cancelled_and_what_is_announced_is_heard() {
    let world = World::of(OldServer::new(ENDPOINT, |_| Vec::new()));
    let session = Arc::new(world.session().await);
    world.server.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#);
    let asked = session.request("tools/call", object("{}"), &Nobody);
    assert!(tokio::time::timeout(seconds(1), asked).await.is_err());
    settle().await;
    let posts = world.server.posts();
    let (call, cancelled) = (&posts[2], &posts[3]);
    assert_eq!(
        (&cancelled["method"], &cancelled["params"]["requestId"]),
        (&"notifications/cancelled".into(), &call["id"])
    );
    assert_eq!(posts.len(), 4);

    let told = Arc::new(Told::default());
    let (hears, listening) = (told.clone(), session.clone());
    let listener = tokio::spawn(async move { listening.listen(&[], &[], &*hears).await });
    settle().await;
    assert_eq!(told.methods(), ["notifications/tools/list_changed"]);
    world.server.hang_up();
    assert_eq!(listener.await.unwrap().unwrap_err(), ProtocolFault::PipeEnded.into());
}

/// Answers every call with the text of its argument, where ID stands for the identifier, and FILL for more than is read.
fn scripted_answer(message: &Value) -> Vec<String> {
    let answer = message["params"]["arguments"]["answer"].as_str();
    let fill = "x".repeat(17 << 20);
    answer.map(|text| text.replace("ID", &message["id"].to_string()).replace("FILL", &fill)).into_iter().collect()
}

#[tokio::test(start_paused = true)]
async fn what_is_not_quite_the_protocol_costs_its_own_request_at_most() {
    let world = World::of(OldServer::new(ENDPOINT, scripted_answer));
    let session = world.session().await;
    let call = async |text: &str| {
        let params = object(&json!({ "name": "t", "arguments": { "answer": text } }).to_string());
        let called = tokio::time::timeout(seconds(30), session.request("tools/call", params, &Nobody)).await;
        called.unwrap_or(Err(HttpError::Timeout.into()))
    };
    for taken in [
        r#"{"id":ID,"result":{}}"#,
        r#"{"jsonrpc":"2.0","id":"ID","result":{}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":null}"#,
        r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"no"}}"#,
    ] {
        assert!(call(taken).await.is_ok(), "{taken}");
    }
    for (refused, expected) in [
        (r#"{"jsonrpc":"2.0","id":ID,"result":NaN}"#, WireError::from(ProtocolFault::NotANumber)),
        (r#"{"result":"FILL","id":ID}"#, HttpError::Oversize { cap: 16 << 20 }.into()),
        (r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32601,"message":"no"}}"#, HttpError::Timeout.into()),
        (r#"{"jsonrpc":"2.0","error":{"code":-32601,"message":"no"}}"#, HttpError::Timeout.into()),
    ] {
        let error = call(refused).await.map(text).unwrap_err();
        assert_eq!(error, expected, "{refused}");
    }
    assert_eq!((session.has_ended(), world.server.gets()), (false, 1));
}

#[derive(Default)]
struct Told(Mutex<Vec<String>>);

impl Told {
    fn methods(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

impl Interim for Told {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        self.0.lock().unwrap().push(notice.method);
        futures_util::future::ready(()).boxed()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        self.0.lock().unwrap().push(question.method);
        futures_util::future::ready(Outcome::Result(raw::empty_object())).boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn questions_are_asked_of_the_client_whose_session_it_is_and_pings_are_always_answered() {
    let ask = |message: &Value| match message["method"].as_str() {
        Some("tools/call") => vec![
            r#"{"jsonrpc":"2.0","id":"p","method":"ping"}"#.to_owned(),
            r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#.to_owned(),
        ],
        _ => Vec::new(),
    };
    let world = World::of(OldServer::new(ENDPOINT, ask));
    let declared = Declared { capabilities: object(r#"{"elicitation":{}}"#).to_raw(), info: None };
    let session = world.upstream(sse()).open(None, &declared).await.unwrap();
    let told = Told::default();
    let call = session.request("tools/call", object("{}"), &told);
    assert!(tokio::time::timeout(seconds(1), call).await.is_err(), "the call itself is never answered");
    assert_eq!(told.methods(), ["elicitation/create"]);
    let mut answers: Vec<_> = world.server.posts().into_iter().filter(|post| post.get("result").is_some()).collect();
    answers.sort_by_key(|answer| answer["id"].to_string());
    assert_eq!(answers.iter().map(|answer| &answer["id"]).collect::<Vec<_>>(), ["p", "q"]);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_posted_to_another_origin_or_to_nowhere() {
    for endpoint in ["https://evil.test/messages?session_id={n}", "//evil.test/m", "http://old.test/m", "https://"] {
        let world = World::of(OldServer::new(endpoint, echo));
        let evil = OldServer::new(ENDPOINT, echo);
        world.network.set(&url("https://evil.test/"), Host::Serve(evil.router()));
        let error = world.upstream(sse()).open(None, &Declared::default()).await.unwrap_err();
        assert_eq!(error, ProtocolFault::NoPostEndpoint.into(), "{endpoint}");
        assert_eq!((evil.posts().len(), evil.gets(), world.server.posts().len()), (0, 0, 0));
        settle().await;
        assert_eq!(world.server.open_streams(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_a_stream_or_a_post_is_a_typed_failure() {
    let world = World::of(OldServer::new(ENDPOINT, echo));
    let missing = Reach::Sse { sse: url("https://old.test/nothing") };
    let error = world.upstream(missing).open(None, &Declared::default()).await.unwrap_err();
    assert!(matches!(error, WireError::Status { status: StatusCode::NOT_FOUND, .. }), "{error:?}");

    let session = world.session().await;
    for status in [StatusCode::UNAUTHORIZED, StatusCode::TOO_MANY_REQUESTS, StatusCode::INTERNAL_SERVER_ERROR] {
        world.server.answer_posts_with(status);
        let error = session.request("tools/call", object("{}"), &Nobody).await.unwrap_err();
        assert!(matches!(error, WireError::Status { status: found, .. } if found == status), "{error:?}");
    }
    world.server.answer_posts_with(StatusCode::NOT_FOUND);
    let error = session.request("tools/call", object("{}"), &Nobody).await.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (true, WireError::SessionLost));
    session.ended().await;

    world.server.answer_posts_with(StatusCode::ACCEPTED);
    let session = world.session().await;
    world.network.set(&url(SSE), Host::Refuse);
    let error = session.request("tools/call", object("{}"), &Nobody).await.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (true, HttpError::Connect.into()));
}

#[tokio::test(start_paused = true)]
async fn an_old_server_at_an_address_of_streamable_http_is_found_and_then_found_at_once() {
    let world = World::of(OldServer::new(ENDPOINT, echo));
    let upstream = world.upstream(Reach::Http(url(SSE)));
    for remembered in [None, Some(Era::Legacy), None] {
        let session = upstream.open(remembered, &Declared::default()).await.unwrap();
        assert_eq!((session.era(), session.is_shared_stream()), (Era::Legacy, true));
        let told = session.request("tools/call", object(r#"{"arguments":{"a":1}}"#), &Nobody).await.unwrap();
        assert_eq!(text(told), r#"{"structuredContent":{"a":1}}"#);
        session.close().await;
    }
    assert_eq!((world.server.gets(), world.server.wrong_posts()), (3, 2), "both questions, once");
    // After a restart of the gateway, only the era is remembered.
    let upstream = world.upstream(Reach::Http(url(SSE)));
    upstream.open(Some(Era::Legacy), &Declared::default()).await.unwrap();
    assert_eq!((world.server.gets(), world.server.wrong_posts()), (4, 3));
    assert_eq!(world.server.posts().iter().filter(|post| post["method"] == "initialize").count(), 4);
}

#[tokio::test(start_paused = true)]
async fn an_address_where_nothing_speaks_the_protocol_fails_as_it_did_before_an_old_server_was_thought_of() {
    let network = Arc::new(VirtualNetwork::new());
    // A page for people: it knows no post, and its stream never says where to post to.
    let silent = axum::Router::new().route(
        "/sse",
        axum::routing::get(|| async {
            let pieces = futures_util::stream::pending::<Result<axum::body::Bytes, std::convert::Infallible>>();
            let body = axum::body::Body::from_stream(pieces);
            http::Response::builder().header("content-type", "text/event-stream").body(body).unwrap()
        }),
    );
    network.set(&url(SSE), Host::Serve(silent));
    let upstream = Upstream::new(network, url(SSE), HeaderMap::new());
    let declared = Declared::default();
    let opening = upstream.open(None, &declared);
    let error = tokio::time::timeout(seconds(4), opening).await.expect("within a connector's deadline").unwrap_err();
    assert!(matches!(error, WireError::Status { status: StatusCode::METHOD_NOT_ALLOWED, .. }), "{error:?}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_serves_old_servers_by_both_ways_of_naming_them_and_reconnects_when_a_stream_ends() {
    let rig = Rig::new(0);
    let old = OldServer::new(ENDPOINT, echo);
    rig.network.set(&url(SSE), Host::Serve(old.router()));
    let entry = |name: &str, transport: &str| json!({ "name": name, "transport": transport, "endpoint": SSE });
    rig.write_registry(&json!({ "servers": [entry("named", "sse"), entry("found", "http")] }).to_string());
    let served = rig.ready().await;
    served.until("both", seconds(10), |served| served.tools() == 2).await;
    for name in ["named__t", "found__t"] {
        for era in [Era::Legacy, Era::Modern] {
            let answer = served.client(era).call(name, r#"{"a":1.0}"#).await;
            assert!(answer.body.contains(r#""structuredContent":{"a":1.0}"#), "{}", answer.body);
        }
    }
    let before = old.gets();
    old.hang_up();
    served.until("both streams again", seconds(5), |_| old.gets() == before + 2).await;
    let answer = served.modern().call("named__t", "{}").await;
    assert!(answer.body.contains("structuredContent"), "{}", answer.body);
    served.gateway.shut_down().await;
    assert_eq!(old.open_streams(), 0);
}
