//! What passes between a server and a client before the answer, over the client's POST: progress, log messages, questions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::limits;
use cortex_mcp::mcp::Era;
use cortex_mcp::model::ListKind;
use futures_util::StreamExt;
use http::Method;
use serde_json::{Value, json};
use support::live::{Live, OnCall};
use support::scripted::{Asked, Before, Ending, Scripted, Style};
use support::streaming::{Stream, send};
use support::{Rig, Served, seconds, until};
use tokio::time::Instant;

const LEGACY: (&str, &str) = ("mcp-protocol-version", "2025-11-25");

/// A gateway over one scripted server `s1`, which has one tool.
async fn served(era: Era) -> (Rig, Arc<Scripted>, Served) {
    let rig = Rig::new(1);
    let server = Scripted::new(era, Style::Json);
    server.list(ListKind::Tools, vec![r#"{"name":"work","inputSchema":{"type":"object"}}"#.to_owned()]);
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    let served = rig.ready().await;
    (rig, server, served)
}

fn router(served: &Served) -> Router {
    served.gateway.router("127.0.0.1:8420".parse().unwrap())
}

/// A call of the tool that asks for progress: its body, in an era, with more in `_meta`.
fn call(era: Era, meta: &str) -> String {
    let modern =
        r#""io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}"#;
    let own = [r#""progressToken":"p""#, modern, meta];
    let own = own.into_iter().filter(|part| !part.is_empty() && (era == Era::Modern || *part != modern));
    let meta = own.collect::<Vec<_>>().join(",");
    format!(r#"{{"jsonrpc":"2.0","id":"c1","method":"tools/call","params":{{"name":"s1__work","_meta":{{{meta}}}}}}}"#)
}

const MODERN: [(&str, &str); 3] =
    [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "s1__work")];

/// Opens a session that can do this; returns its id.
async fn session(router: &Router, capabilities: &str) -> String {
    let params = format!(
        r#"{{"protocolVersion":"2025-11-25","capabilities":{capabilities},"clientInfo":{{"name":"t","version":"1"}}}}"#
    );
    let body = format!(r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{params}}}"#);
    let response = send(router, Method::POST, &[], &body).await;
    response.headers()["mcp-session-id"].to_str().unwrap().to_owned()
}

fn progress(number: u64) -> Before {
    Before::Notice("notifications/progress", format!(r#"{{"progressToken":TOKEN,"progress":{number},"x-odd":1.50}}"#))
}

fn log(level: &str) -> Before {
    Before::Notice("notifications/message", format!(r#"{{"level":"{level}","data":"said"}}"#))
}

fn result() -> Ending {
    Ending::Result(r#"{"content":[],"resultType":"complete"}"#.to_owned())
}

fn methods(messages: &[Value]) -> Vec<&str> {
    messages.iter().map(|message| message["method"].as_str().unwrap_or("answer")).collect()
}

type Headers = [(&'static str, &'static str)];

/// The era of the server, that of the client, and the client's headers.
const PAIRS: [(Era, Era, &Headers); 4] = [
    (Era::Legacy, Era::Legacy, &[LEGACY]),
    (Era::Modern, Era::Modern, &MODERN),
    (Era::Legacy, Era::Modern, &MODERN),
    (Era::Modern, Era::Legacy, &[LEGACY]),
];

#[tokio::test(start_paused = true)]
async fn an_answer_with_nothing_before_it_is_json_and_one_with_messages_a_stream_of_them() {
    for (upstream, client, headers) in PAIRS {
        let (_rig, server, served) = served(upstream).await;
        let router = router(&served);
        server.tell(Vec::new(), result());
        let plain = send(&router, Method::POST, headers, &call(client, "")).await;
        assert_eq!(plain.headers()["content-type"], "application/json");
        server.tell(vec![progress(1), progress(2)], result());
        let stream = send(&router, Method::POST, headers, &call(client, "")).await;
        let mut stream = Stream::of(stream);
        assert_eq!(
            (&stream.headers["cache-control"], &stream.headers["x-accel-buffering"]),
            (&"no-store".parse().unwrap(), &"no".parse().unwrap())
        );
        let first = stream.next_text().await.unwrap();
        assert!(first.ends_with(r#""params":{"progressToken":"p","progress":1,"x-odd":1.50}}"#), "{first}");
        let rest = stream.rest().await;
        assert_eq!(methods(&rest), ["notifications/progress", "answer"], "{upstream} for {client}");
        assert_eq!(rest[1]["id"], "c1");
        let asked = server.last("tools/call").params;
        assert!(
            asked.contains(r#""progressToken":""#) && !asked.contains(r#""p""#),
            "the token is the gateway's: {asked}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn the_trace_context_of_a_request_goes_to_its_server_without_its_baggage() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (upstream, client, headers) in PAIRS {
        let (_rig, server, served) = served(upstream).await;
        let router = router(&served);
        server.tell(Vec::new(), result());
        let asked = async |parent: &str| {
            let trace = [("traceparent", parent), ("tracestate", "a=1"), ("baggage", "user=1")];
            let meta = format!(r#""traceparent":"{parent}","tracestate":"b=2","baggage":"user=2""#);
            let headers = [headers, &trace].concat();
            assert_eq!(send(&router, Method::POST, &headers, &call(client, &meta)).await.status(), 200);
            server.last("tools/call")
        };
        let sent = asked(PARENT).await;
        let header =
            |asked: &Asked, name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header(&sent, "traceparent").as_deref(), Some(PARENT), "{upstream} for {client}");
        assert_eq!(header(&sent, "tracestate").as_deref(), Some("a=1"));
        assert_eq!(header(&sent, "baggage"), None);
        assert!(sent.params.contains(&format!(r#""traceparent":"{PARENT}","tracestate":"b=2""#)), "{}", sent.params);
        assert!(!sent.params.contains("baggage"), "{}", sent.params);
        let broken = asked("00-short").await;
        assert_eq!((header(&broken, "traceparent"), header(&broken, "tracestate")), (None, None));
        assert!(!broken.params.contains("traceparent") && !broken.params.contains("tracestate"), "{}", broken.params);
    }
}

#[tokio::test(start_paused = true)]
async fn a_modern_client_is_told_log_messages_of_the_level_that_it_asked_for_and_no_others() {
    let (_rig, server, served) = served(Era::Modern).await;
    let router = router(&served);
    server.tell(vec![log("debug"), log("error")], result());
    let silent = send(&router, Method::POST, &MODERN, &call(Era::Modern, "")).await;
    assert_eq!(silent.headers()["content-type"], "application/json", "who names no level wants none");
    let level = r#""io.modelcontextprotocol/logLevel":"warning""#;
    let told = Stream::of(send(&router, Method::POST, &MODERN, &call(Era::Modern, level)).await).rest().await;
    assert_eq!(methods(&told), ["notifications/message", "answer"]);
    assert_eq!(told[0]["params"]["level"], "error");
    assert!(server.last("tools/call").params.contains(level), "the server was told, too");
}

#[tokio::test(start_paused = true)]
async fn the_level_of_a_legacy_session_holds_for_its_requests_and_a_modern_server_is_told_with_each() {
    let (_rig, server, served) = served(Era::Modern).await;
    let router = router(&served);
    let id = session(&router, "{}").await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    server.tell(vec![log("info"), log("error")], result());
    let before = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await).rest().await;
    assert_eq!(before.len(), 3, "without a level it is left to the server");
    assert!(!server.last("tools/call").params.contains("logLevel"));
    let set = r#"{"jsonrpc":"2.0","id":1,"method":"logging/setLevel","params":{"level":"error"}}"#;
    let answer = send(&router, Method::POST, &headers, set).await;
    let answer = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
    assert_eq!(answer, r#"{"jsonrpc":"2.0","id":1,"result":{}}"#);
    let after = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await).rest().await;
    assert_eq!((after.len(), &after[0]["params"]["level"]), (2, &json!("error")));
    assert!(server.last("tools/call").params.contains(r#""io.modelcontextprotocol/logLevel":"error""#));
    for (body, code) in [(set.replace("error", "loud"), -32602), (set.to_owned(), -32600)] {
        let headers = if code == -32600 { &headers[..1] } else { &headers };
        let answer = send(&router, Method::POST, headers, &body).await;
        let answer = axum::body::to_bytes(answer.into_body(), 1 << 20).await.unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&answer).unwrap()["error"]["code"], code);
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_reaches_the_client_on_its_call_and_its_answer_the_server() {
    let (_rig, server, served) = served(Era::Legacy).await;
    let router = router(&served);
    let id = session(&router, r#"{"elicitation":{}}"#).await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    let schema = r#"{"message":"who?","requestedSchema":{"type":"object","x-odd":1E400}}"#;
    server.tell(vec![Before::Question("elicitation/create", schema.to_owned()), progress(1)], result());
    let mut stream = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await);
    let asked = stream.next_text().await.unwrap();
    assert!(asked.ends_with(&format!(r#""method":"elicitation/create","params":{schema}}}"#)), "{asked}");
    let asked: Value = serde_json::from_str(&asked).unwrap_or(json!({"id": 1}));
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"accept","x":1.0e5}}}}"#, asked["id"]);
    let other = session(&router, r#"{"elicitation":{}}"#).await;
    let elsewhere = send(&router, Method::POST, &[LEGACY, ("mcp-session-id", &other)], &answer).await;
    assert_eq!((elsewhere.status().as_u16(), server.answers().len()), (202, 0), "another session answers nothing");
    assert_eq!(send(&router, Method::POST, &headers, &answer).await.status(), 202);
    assert_eq!(methods(&stream.rest().await), ["notifications/progress", "answer"]);
    assert!(server.answers()[0].contains(r#""result":{"action":"accept","x":1.0e5}"#), "{:?}", server.answers());
}

#[tokio::test(start_paused = true)]
async fn what_a_client_did_not_declare_it_is_not_asked() {
    let (_rig, server, served) = served(Era::Legacy).await;
    let router = router(&served);
    let ask = |method| vec![Before::Question(method, "{}".to_owned())];
    let elicits = session(&router, r#"{"elicitation":{}}"#).await;
    let nothing = session(&router, "{}").await;
    let accepts_json = ("accept", "application/json");
    for (headers, method) in [
        (vec![LEGACY], "elicitation/create"),
        (vec![LEGACY, ("mcp-session-id", nothing.as_str())], "elicitation/create"),
        (vec![LEGACY, ("mcp-session-id", elicits.as_str())], "sampling/createMessage"),
        (vec![LEGACY, ("mcp-session-id", elicits.as_str())], "something/else"),
        (vec![LEGACY, ("mcp-session-id", elicits.as_str()), accepts_json], "elicitation/create"),
        (MODERN.to_vec(), "elicitation/create"),
    ] {
        server.tell(ask(method), result());
        let era = if headers.len() == 3 && headers[0] == MODERN[0] { Era::Modern } else { Era::Legacy };
        let answers = server.answers().len();
        let response = send(&router, Method::POST, &headers, &call(era, "")).await;
        assert_eq!(response.headers()["content-type"], "application/json", "{headers:?}");
        until("it is refused", seconds(1), || server.answers().len() == answers + 1).await;
        assert!(server.answers()[answers].contains("-32601"), "{:?}", server.answers());
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_that_is_never_answered_is_given_up_and_the_server_told() {
    let (_rig, server, served) = served(Era::Legacy).await;
    let router = router(&served);
    let id = session(&router, r#"{"roots":{}}"#).await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    server.tell(vec![Before::Question("roots/list", "{}".to_owned())], result());
    let messages = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await).rest().await;
    assert_eq!(methods(&messages), ["roots/list", "notifications/cancelled", "answer"]);
    assert_eq!(messages[1]["params"]["requestId"], messages[0]["id"], "the client is told that nobody waits any more");
    until("the server is told", seconds(1), || server.answers().len() == 1).await;
    assert!(server.answers()[0].contains("did not answer in time"), "{:?}", server.answers());
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_read_is_cut_off_and_its_call_given_up() {
    let (_rig, server, served) = served(Era::Modern).await;
    let router = router(&served);
    let notices = (0..200).map(progress).collect();
    server.tell(notices, result());
    let response = send(&router, Method::POST, &MODERN, &call(Era::Modern, "")).await;
    let cut = r#"mcp_requests_refused_total{reason="slow-client"}"#;
    served.until("it is cut off", seconds(60), |served| served.metric(cut) == Some(1.0)).await;
    let mut stream = Stream::of(response);
    let mut read = 0;
    while let Some(message) = stream.next().await {
        assert_eq!(message["method"], "notifications/progress", "no answer follows");
        read += 1;
    }
    assert!(read < 100, "what waits for a client is bounded: {read}");
}

#[tokio::test(start_paused = true)]
async fn a_modern_client_that_hangs_up_takes_its_call_back_also_from_a_stream() {
    let (_rig, server, served) = served(Era::Legacy).await;
    let router = router(&served);
    // The server waits for an answer that nobody gives.
    server.tell(vec![progress(1), Before::Question("ping-like", "{}".to_owned())], result());
    let mut notices: Vec<Before> = vec![progress(1)];
    notices.extend((0..2_000).map(|_| log("info")));
    server.tell(notices, result());
    let level = r#""io.modelcontextprotocol/logLevel":"debug""#;
    let mut stream = Stream::of(send(&router, Method::POST, &MODERN, &call(Era::Modern, level)).await);
    stream.next().await.unwrap();
    drop(stream);
    until("the server is told", Duration::from_secs(1), || !server.asked("notifications/cancelled").is_empty()).await;
}

#[tokio::test(start_paused = true)]
async fn what_only_modern_clients_understand_passes_to_them_and_is_a_typed_error_for_others() {
    let (_rig, server, served) = served(Era::Modern).await;
    let router = router(&served);
    let asks =
        r#"{ "resultType":"input_required","inputRequests":{"q":{"method":"roots/list"}},"requestState":"\u0041" }"#;
    server.tell(Vec::new(), Ending::Result(asks.to_owned()));
    let body = |response: http::Response<axum::body::Body>| async move {
        String::from_utf8(axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap().to_vec()).unwrap()
    };
    let modern = body(send(&router, Method::POST, &MODERN, &call(Era::Modern, "")).await).await;
    assert_eq!(modern, format!(r#"{{"jsonrpc":"2.0","id":"c1","result":{asks}}}"#));
    let legacy = body(send(&router, Method::POST, &[LEGACY], &call(Era::Legacy, "")).await).await;
    let legacy: Value = serde_json::from_str(&legacy).unwrap();
    assert_eq!(legacy["error"]["data"], json!({"reason": "era", "resultType": "input_required"}));
    // The retry carries what the client makes of it, as it is.
    let retry = call(Era::Modern, "")
        .replace(r#""_meta""#, r#""inputResponses":{"q":{"roots":[]}},"requestState":"\u0041","_meta""#);
    send(&router, Method::POST, &MODERN, &retry).await;
    let sent = server.last("tools/call").params;
    assert!(sent.contains(r#""inputResponses":{"q":{"roots":[]}},"requestState":"\u0041""#), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn a_missing_capability_is_told_as_the_server_told_it() {
    let (_rig, server, served) = served(Era::Modern).await;
    let error = r#"{"code":-32021,"message":"no","data":{"requiredCapabilities":{"sampling":{}}}}"#;
    server.tell(Vec::new(), Ending::Error(400, error.to_owned()));
    let response = send(&router(&served), Method::POST, &MODERN, &call(Era::Modern, "")).await;
    assert_eq!(response.status(), 400);
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    assert_eq!(body, format!(r#"{{"jsonrpc":"2.0","id":"c1","error":{error}}}"#));
}

/// Comes back for the rest of a stream.
async fn resume(router: &Router, session: &str, last_event: &str) -> http::Response<axum::body::Body> {
    let headers = [LEGACY, ("mcp-session-id", session), ("last-event-id", last_event)];
    send(router, Method::GET, &headers, "").await
}

#[tokio::test(start_paused = true)]
async fn a_client_that_lost_its_stream_is_played_what_it_missed_and_what_comes() {
    let (_rig, server, served) = served(Era::Legacy).await;
    let router = router(&served);
    let id = session(&router, r#"{"roots":{}}"#).await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    server.tell(vec![progress(1), progress(2), Before::Question("roots/list", "{}".to_owned())], result());
    let mut stream = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await);
    assert_eq!(stream.next().await.unwrap()["params"]["progress"], 1);
    let first = stream.last_event.clone().unwrap();
    // A client may know before the gateway that its connection is of no use any more.
    let mut taken_over = Stream::of(resume(&router, &id, &first).await);
    assert_eq!(taken_over.next().await.unwrap()["params"]["progress"], 2);
    assert_eq!(stream.rest().await.len(), 0, "the former connection ends");
    // The second sign of progress goes down with the connection.
    drop(taken_over);
    tokio::time::sleep(seconds(1)).await;
    let mut stream = Stream::of(resume(&router, &id, &first).await);
    assert_eq!(stream.next().await.unwrap()["params"]["progress"], 2);
    let asked = stream.next().await.unwrap();
    assert_eq!(asked["method"], "roots/list");
    let answer = format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"roots":[]}}}}"#, asked["id"]);
    assert_eq!(send(&router, Method::POST, &headers, &answer).await.status(), 202);
    assert_eq!(stream.next().await.unwrap()["id"], "c1");
    let last = stream.last_event.clone().unwrap();
    drop(stream);
    // Also an answer may get lost on its way.
    let again = Stream::of(resume(&router, &id, &first).await).rest().await;
    assert_eq!(methods(&again), ["notifications/progress", "roots/list", "answer"]);
    let other = session(&router, "{}").await;
    for (session, event) in
        [(&other, &last), (&id, &"9-9".to_owned()), (&id, &"x".to_owned()), (&id, &"1-99".to_owned())]
    {
        assert_eq!(resume(&router, session, event).await.status(), 400, "{event}");
    }
    assert_eq!(Stream::of(resume(&router, &id, &last).await).rest().await.len(), 0);
    tokio::time::sleep(limits::RESUME_WITHIN).await;
    assert_eq!(resume(&router, &id, &last).await.status(), 400, "it was not kept for ever");
}

#[tokio::test(start_paused = true)]
async fn streams_that_nobody_comes_back_for_are_bounded_and_forgotten() {
    let (_rig, server, served) = served(Era::Legacy).await;
    let router = router(&served);
    let id = session(&router, "{}").await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    server.tell(vec![progress(1)], result());
    for _ in 0..2 * limits::RESUMABLE_STREAMS_MAX {
        Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await).rest().await;
    }
    let mut kept = 0;
    for number in 1..=2 * limits::RESUMABLE_STREAMS_MAX {
        kept += usize::from(resume(&router, &id, &format!("{number}-0")).await.status() == 200);
    }
    assert_eq!(kept, limits::RESUMABLE_STREAMS_MAX);
    // What is finished makes room for what somebody waits for.
    let asking = session(&router, r#"{"roots":{}}"#).await;
    let asked_headers = [LEGACY, ("mcp-session-id", asking.as_str())];
    server.tell(vec![Before::Question("roots/list", "{}".to_owned())], result());
    let mut unfinished = Stream::of(send(&router, Method::POST, &asked_headers, &call(Era::Legacy, "")).await);
    unfinished.next().await.unwrap();
    let place = unfinished.last_event.clone().unwrap();
    drop(unfinished);
    server.tell(vec![progress(1)], result());
    for _ in 0..2 * limits::RESUMABLE_STREAMS_MAX {
        Stream::of(send(&router, Method::POST, &asked_headers, &call(Era::Legacy, "")).await).rest().await;
    }
    assert_eq!(resume(&router, &asking, &place).await.status(), 200);
    // A large answer is not kept for those who come back: they ask anew.
    let large = format!(r#"{{"content":"{}"}}"#, "x".repeat(limits::REPLAY_BYTES_MAX));
    server.tell(vec![progress(1)], Ending::Result(large));
    let mut stream = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await);
    stream.next().await.unwrap();
    let first = stream.last_event.clone().unwrap();
    stream.next().await.unwrap();
    drop(stream);
    assert_eq!(resume(&router, &id, &first).await.status(), 400);
}

/// A legacy server that closes the stream of a call before it answers, and answers whoever comes back for it.
fn polled() -> Router {
    use axum::body::Bytes;
    use axum::response::{IntoResponse, Response};
    use cortex_mcp::mcp::Message;
    async fn get(headers: http::HeaderMap) -> Response {
        let kind = [("content-type", "text/event-stream")];
        match headers.get("last-event-id") {
            Some(last) => {
                let id = last.to_str().unwrap();
                (kind, format!("data: {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{\"late\":true}}}}\n\n"))
                    .into_response()
            }
            None => http::StatusCode::METHOD_NOT_ALLOWED.into_response(),
        }
    }
    async fn post(body: Bytes) -> Response {
        let Ok(Message::Request { id, method, .. }) = Message::parse(&body) else {
            return http::StatusCode::ACCEPTED.into_response();
        };
        let id = id.as_json();
        let result = match method.as_str() {
            "initialize" => {
                r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"p","version":"1"}}"#
            }
            "tools/list" => r#"{"tools":[{"name":"work","inputSchema":{"type":"object"}}]}"#,
            "tools/call" => {
                let stream = format!("id: {id}\nretry: 700\ndata: \n\n");
                return ([("content-type", "text/event-stream")], stream).into_response();
            }
            _ => {
                let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#);
                return ([("content-type", "application/json")], error).into_response();
            }
        };
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        ([("content-type", "application/json"), ("mcp-session-id", "p")], answer).into_response()
    }
    Router::new().route("/mcp", axum::routing::post(post).get(get).delete(async || http::StatusCode::OK))
}

#[tokio::test(start_paused = true)]
async fn a_server_that_lets_go_of_its_stream_lets_go_of_the_clients_too() {
    let rig = Rig::new(1);
    rig.network.set(&rig.servers[0].url, Host::Serve(polled()));
    let served = rig.ready().await;
    let router = router(&served);
    let id = session(&router, "{}").await;
    let headers = [LEGACY, ("mcp-session-id", id.as_str())];
    let mut stream = Stream::of(send(&router, Method::POST, &headers, &call(Era::Legacy, "")).await);
    assert_eq!(stream.next().await, None, "it ends before the answer");
    assert_eq!(stream.retry, Some(Duration::from_millis(700)), "what the server wishes is handed on");
    let last = stream.last_event.clone().unwrap();
    let rest = Stream::of(resume(&router, &id, &last).await).rest().await;
    assert_eq!((methods(&rest), &rest[0]["result"]), (vec!["answer"], &json!({"late": true})));
    // Who can not come back waits for the answer.
    let whole = send(&router, Method::POST, &[LEGACY], &call(Era::Legacy, "")).await;
    assert_eq!(whole.headers()["content-type"], "application/json");
}

/// The client of a call that is silent for long.
#[derive(Clone, Copy, Debug)]
enum Waiting {
    Modern,
    WithoutSession,
    /// In a session of this version.
    Session(&'static str),
}

/// A server of an era that answers a call after 40 s, as JSON or on a stream that it keeps alive itself.
async fn slow(era: Era, style: Style) -> (Rig, Served) {
    let rig = Rig::new(1);
    let host = match style {
        Style::Json => {
            let server = Live::new(era == Era::Modern, 1);
            server.on_call(OnCall::After(seconds(40)));
            server.router()
        }
        Style::Sse => {
            let server = Scripted::new(era, Style::Json);
            server.list(ListKind::Tools, vec![r#"{"name":"t1","inputSchema":{"type":"object"}}"#.to_owned()]);
            server.tell(vec![Before::Comments(8, seconds(5))], result());
            server.router()
        }
    };
    rig.network.set(&rig.servers[0].url, Host::Serve(host));
    let served = rig.ready().await;
    (rig, served)
}

/// The headers and the body of a request of that client, in a session of its own where it has one.
async fn asking(router: &Router, client: Waiting, method: &str, params: &str) -> (Vec<(&'static str, String)>, String) {
    let modern = r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","io.modelcontextprotocol/clientCapabilities":{}}"#;
    let (headers, meta) = match client {
        Waiting::Modern => {
            let pairs = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", method), ("mcp-name", "s1__t1")];
            (pairs.map(|(name, value)| (name, value.to_owned())).to_vec(), format!(",{modern}"))
        }
        Waiting::WithoutSession => (Vec::new(), String::new()),
        Waiting::Session(version) => {
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":0,"method":"initialize","params":{{"protocolVersion":"{version}","capabilities":{{}}}}}}"#
            );
            let opened = send(router, Method::POST, &[], &body).await;
            (vec![("mcp-session-id", opened.headers()["mcp-session-id"].to_str().unwrap().to_owned())], String::new())
        }
    };
    (headers, format!(r#"{{"jsonrpc":"2.0","id":"c1","method":"{method}","params":{{{params}{meta}}}}}"#))
}

#[tokio::test(start_paused = true)]
async fn a_silent_call_opens_its_stream_and_is_never_silent_for_longer_than_a_stream_is() {
    let clients = [
        Waiting::Modern,
        Waiting::WithoutSession,
        Waiting::Session("2024-11-05"),
        Waiting::Session("2025-06-18"),
        Waiting::Session("2025-11-25"),
    ];
    for (era, style) in [Era::Modern, Era::Legacy].into_iter().flat_map(|era| [(era, Style::Json), (era, Style::Sse)]) {
        let (_rig, served) = slow(era, style).await;
        let router = router(&served);
        for client in clients {
            let (headers, body) = asking(&router, client, "tools/call", r#""name":"s1__t1","arguments":{}"#).await;
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let began = Instant::now();
            let response = send(&router, Method::POST, &headers, &body).await;
            assert_eq!(began.elapsed(), limits::SILENCE_MAX, "{client:?} {era} {style:?}");
            assert_eq!(
                (response.status().as_u16(), &response.headers()["content-type"]),
                (200, &"text/event-stream".parse().unwrap())
            );
            let (mut pieces, mut last) = (response.into_body().into_data_stream(), Instant::now());
            let (mut text, mut silence) = (String::new(), Duration::ZERO);
            while let Some(piece) = pieces.next().await {
                silence = silence.max(last.elapsed());
                last = Instant::now();
                text.push_str(std::str::from_utf8(&piece.unwrap()).unwrap());
            }
            assert_eq!((silence, began.elapsed()), (limits::KEEP_ALIVE, seconds(40)), "{text}");
            let events: Vec<_> = text.split("\n\n").filter(|event| event.contains("data:")).collect();
            match client {
                Waiting::Session("2025-11-25") => assert!(
                    matches!(events[..], [first, last] if first.contains("id:") && last.contains("id:")),
                    "{text}"
                ),
                _ => assert!(text.starts_with(": ") && events.len() == 1, "{text}"),
            }
            assert!(events.last().unwrap().contains(r#""id":"c1","result""#), "{text}");
        }
        // A client that takes no stream gets what it takes.
        let (headers, body) = asking(&router, Waiting::WithoutSession, "tools/call", r#""name":"s1__t1""#).await;
        assert!(headers.is_empty());
        let plain = send(&router, Method::POST, &[("accept", "application/json")], &body).await;
        assert_eq!(plain.headers()["content-type"], "application/json");
    }
}

#[tokio::test(start_paused = true)]
async fn a_silent_batch_opens_a_stream_of_its_answers_and_an_error_of_a_silent_call_is_an_event() {
    let (_rig, served) = slow(Era::Legacy, Style::Json).await;
    let router = router(&served);
    let (_, call) = asking(&router, Waiting::WithoutSession, "tools/call", r#""name":"s1__t1""#).await;
    let batch = format!(r#"[{call},{{"jsonrpc":"2.0","id":2,"method":"ping"}}]"#);
    let began = Instant::now();
    let mut stream = Stream::of(send(&router, Method::POST, &[], &batch).await);
    assert_eq!(began.elapsed(), limits::SILENCE_MAX);
    let answers = stream.next().await.unwrap();
    assert_eq!((answers[0]["id"].as_str(), answers[1]["id"].as_i64()), (Some("c1"), Some(2)), "{answers}");
    assert_eq!((stream.next().await, began.elapsed()), (None, seconds(40)));
    let plain = send(&router, Method::POST, &[("accept", "application/json")], &batch).await;
    assert_eq!(plain.headers()["content-type"], "application/json");

    let (rig, server, served) = served_hanging().await;
    let failed = Stream::of(send(&self::router(&served), Method::POST, &[], &call).await).rest().await;
    assert_eq!(failed[0]["error"]["data"]["reason"], "timeout", "{failed:?}");
    drop((rig, server));
}

/// A gateway over one server that never answers a call.
async fn served_hanging() -> (Rig, Arc<Live>, Served) {
    let rig = Rig::new(1);
    let server = Live::new(false, 1);
    server.on_call(OnCall::SilentEvents);
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    let served = rig.ready().await;
    (rig, server, served)
}
