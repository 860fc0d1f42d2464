//! Sessions in use: losing them, closing them, cancelling, what passes through, and headers that mirror arguments.

use http::header::AUTHORIZATION;

use super::*;
use crate::demo::mcp_server::{AnswerStyle, ServerEra};
use crate::edge::http::within;
use crate::mcp::{Era, Session, WireError};

const TOOLS: [&str; 3] = [
    r#"{ "name":"od\u0064", "big":123456789012345678901234567890,  "float":1.10, "x":1, "x":2, "é\/":"\ud83d" }"#,
    r#"{"z":{"b":1,"a":2},"inputSchema":{"type":"object"},"name":"echo","execution":{"taskSupport":"optional"}}"#,
    "{\"name\":\"lines\",\n  \"inner\": [ 1,\n 2 ]}",
];

fn odd_tools() -> Vec<Box<RawValue>> {
    TOOLS.iter().map(|tool| raw(tool)).collect()
}

fn legacy() -> ServerOptions {
    ServerOptions { era: ServerEra::Legacy, ..ServerOptions::default() }
}

async fn call(session: &Session, params: &str) -> Result<Outcome, WireError> {
    session.request("tools/call", object(params), &Nobody).await
}

#[tokio::test(start_paused = true)]
async fn definitions_arguments_and_results_pass_through_to_the_byte() {
    for era in [ServerEra::Modern, ServerEra::Legacy] {
        for answers in [AnswerStyle::Json, AnswerStyle::Sse] {
            let rig = rig(ServerOptions { era, answers, page_size: Some(1), ..ServerOptions::default() });
            rig.server.set_tools(odd_tools());
            let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
            let list = session.list(ListKind::Tools).await.unwrap();
            assert_eq!(list.items.iter().map(|tool| tool.get()).collect::<Vec<_>>(), TOOLS);

            let arguments = r#"{"z":98765432109876543210,"a":[ 1.0,2e400 ],"a":"\u00e9\/"}"#;
            let called = call(&session, &format!(r#"{{"name":"echo","arguments":{arguments}}}"#)).await.unwrap();
            assert_eq!(result(called).get("structuredContent").unwrap().get(), arguments);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_forgotten_session_is_lost_and_not_closed_again() {
    let rig = rig(legacy());
    let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
    session.list(ListKind::Tools).await.unwrap();
    rig.server.forget_sessions();
    let error = call(&session, r#"{"name":"echo"}"#).await.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (true, WireError::SessionLost));
    assert_eq!(session.list(ListKind::Tools).await.unwrap_err(), WireError::SessionLost);
    session.close().await;
    drop(session);
    settle().await;
    assert_eq!(rig.server.counts().deletes, 0);
    assert_eq!(
        rig.upstream
            .open(Some(Era::Legacy), &Declared::default())
            .await
            .unwrap()
            .list(ListKind::Tools)
            .await
            .unwrap()
            .items
            .len(),
        3
    );
}

#[tokio::test(start_paused = true)]
async fn every_way_in_which_servers_say_that_a_session_is_gone_is_understood() {
    for (status, content_type, body) in [
        (404, "text/html", "gone"),
        (404, "application/json", r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"no"}}"#),
        (404, "application/json", r#"{"jsonrpc":"2.0","error":{"code":-32600,"message":"Session has expired"}}"#),
        (
            400,
            "application/json",
            r#"{"jsonrpc":"2.0","id":2,"error":{"code":-32000,"message":"No valid session ID"}}"#,
        ),
    ] {
        let network = Scripted::new(move |request| {
            let Ok(Message::Request { id, method, .. }) = Message::parse(&request.body) else {
                return Ok(answer(202, "text/plain", vec![]));
            };
            if method != "initialize" {
                return Ok(answer(status, content_type, vec![body.into()]));
            }
            let text =
                format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"protocolVersion":"2025-06-18"}}}}"#, id.as_json());
            let mut response = json(text);
            response.headers.insert("mcp-session-id", HeaderValue::from_static("s"));
            Ok(response)
        });
        let session = network.upstream().open(Some(Era::Legacy), &Declared::default()).await.unwrap();
        assert_eq!(session.list(ListKind::Tools).await.unwrap_err(), WireError::SessionLost, "{body}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_session_is_closed_once_by_hand_or_when_it_is_dropped() {
    let rig = rig(legacy());
    let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
    session.close().await;
    session.close().await;
    drop(session);
    settle().await;
    assert_eq!(rig.server.counts().deletes, 1);

    drop(rig.upstream.open(None, &Declared::default()).await.unwrap());
    settle().await;
    assert_eq!((rig.server.counts().deletes, rig.server.open_sessions()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_without_session_ids_is_served_too_and_never_asked_to_delete() {
    let rig = rig(ServerOptions { sessions: false, ..legacy() });
    let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
    assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), 3);
    session.close().await;
    assert_eq!(rig.server.counts().deletes, 0);
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_hears_that_a_dropped_request_is_no_longer_wanted() {
    for (era, notifications) in [(ServerEra::Legacy, 2), (ServerEra::Modern, 0)] {
        let rig = rig(ServerOptions { era, ..ServerOptions::default() });
        let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
        rig.server.be_silent_on(&["tools/call"]);
        let calling = within(Duration::from_secs(1), call(&session, r#"{"name":"echo"}"#)).await;
        assert_eq!(calling.unwrap_err(), WireError::Http(HttpError::Timeout));
        settle().await;
        assert_eq!(rig.server.counts().notifications, notifications);
        assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_is_given_up_leaves_no_session_behind() {
    let rig = rig(legacy());
    rig.server.be_silent_on(&["notifications/initialized"]);
    let opening = within(Duration::from_secs(1), rig.upstream.open(None, &Declared::default())).await;
    assert_eq!(opening.map(drop).unwrap_err(), WireError::Http(HttpError::Timeout));
    settle().await;
    assert_eq!((rig.server.counts().deletes, rig.server.open_sessions()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn what_a_legacy_server_asks_on_the_way_is_answered() {
    let rig = rig(ServerOptions { asks_back: true, answers: AnswerStyle::Sse, ..legacy() });
    let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
    result(call(&session, r#"{"name":"echo"}"#).await.unwrap());
    settle().await;
    assert_eq!(rig.server.counts().responses, 2);
}

#[tokio::test(start_paused = true)]
async fn requests_of_one_session_run_side_by_side() {
    for era in [ServerEra::Modern, ServerEra::Legacy] {
        let rig = rig(ServerOptions { era, latency: Duration::from_millis(500), ..ServerOptions::default() });
        let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
        settle().await;
        let calls = (0..50).map(|number| {
            let params = format!(r#"{{"name":"add","arguments":{{"a":{number},"b":0}}}}"#);
            let session = &session;
            async move { (number, result(call(session, &params).await.unwrap())) }
        });
        for (number, answer) in futures_util::future::join_all(calls).await {
            assert_eq!(answer.get("structuredContent").unwrap().get(), format!(r#"{{"sum":{number}}}"#));
        }
        assert_eq!(rig.server.counts().max_in_flight, 50);
    }
}

#[tokio::test(start_paused = true)]
async fn a_modern_request_mirrors_its_body_in_its_headers_and_the_connectors_headers_can_not_change_that() {
    let network = Scripted::new(|request| {
        let result = r#"{"resultType":"complete","tools":[]}"#;
        Ok(json(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id_of(request))))
    });
    let mut own = HeaderMap::new();
    for (name, value) in [("mcp-method", "evil"), ("accept", "text/html"), ("x-own", "kept")] {
        own.insert(name, HeaderValue::from_static(value));
    }
    own.insert(AUTHORIZATION, HeaderValue::from_static("Bearer key"));
    let session =
        Upstream::new(network.clone(), endpoint(), own).open(Some(Era::Modern), &Declared::default()).await.unwrap();
    for (method, params, name) in [
        ("tools/call", r#"{"name":"wörk"}"#, Some("=?base64?d8O2cms=?=")),
        ("resources/read", r#"{"uri":"file:///a"}"#, Some("file:///a")),
        ("tools/list", r#"{"name":"no"}"#, None),
    ] {
        session.request(method, object(params), &Nobody).await.unwrap();
        let asked = network.asked().pop().unwrap();
        let header = |name: &str| asked.headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        assert_eq!(header("mcp-method").as_deref(), Some(method));
        assert_eq!(header("mcp-name").as_deref(), name);
        assert_eq!(header("mcp-protocol-version").as_deref(), Some("2026-07-28"));
        assert_eq!(header("accept").as_deref(), Some("application/json, text/event-stream"));
        assert_eq!(header("content-type").as_deref(), Some("application/json"));
        assert_eq!((header("x-own").as_deref(), header("authorization").is_some()), (Some("kept"), true));
    }
    let ids: Vec<_> = network.asked().iter().map(id_of).collect();
    assert_eq!(ids, ["1", "2", "3"]);
}

fn routed(header: &str) -> Vec<Box<RawValue>> {
    let region = format!(r#"{{"type":"string","x-mcp-header":"{header}"}}"#);
    vec![raw(&format!(r#"{{"name":"route","inputSchema":{{"type":"object","properties":{{"region":{region}}}}}}}"#))]
}

const ROUTED: &str = r#"{"name":"route","arguments":{"region":"Zürich"}}"#;

#[tokio::test(start_paused = true)]
async fn annotated_arguments_are_mirrored_after_a_list_or_a_remembered_list() {
    let rig = rig(ServerOptions::default());
    rig.server.set_tools(routed("Region"));
    let listed = rig.upstream.open(None, &Declared::default()).await.unwrap();
    let tools = listed.list(ListKind::Tools).await.unwrap().items;
    result(call(&listed, ROUTED).await.unwrap());

    let remembering = rig.upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
    remembering.remember_tools(tools.iter().map(|tool| &**tool));
    result(call(&remembering, ROUTED).await.unwrap());
    assert_eq!((rig.server.counts().lists, rig.server.counts().calls), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_because_annotations_changed_is_repaired_once() {
    let rig = rig(ServerOptions::default());
    rig.server.set_tools(routed("Region"));
    let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
    session.list(ListKind::Tools).await.unwrap();
    rig.server.set_tools(routed("Zone"));
    result(call(&session, ROUTED).await.unwrap());
    assert_eq!((rig.server.counts().lists, rig.server.counts().calls), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_header_mismatch_that_a_new_list_does_not_explain_is_passed_on() {
    let network = Scripted::new(|request| {
        let id = id_of(request);
        if request.headers.get("mcp-method").unwrap() == "tools/list" {
            return Ok(json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"tools":[]}}}}"#)));
        }
        let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32020,"message":"no"}}}}"#);
        Ok(answer(400, "application/json", vec![error.into()]))
    });
    let session = network.upstream().open(Some(Era::Modern), &Declared::default()).await.unwrap();
    assert_eq!(error_code(call(&session, ROUTED).await.unwrap()), "-32020");
    assert_eq!(network.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_tool_that_misuses_annotations_is_left_out_in_the_modern_era_only() {
    for (era, count) in [(ServerEra::Modern, 1), (ServerEra::Legacy, 2)] {
        let rig = rig(ServerOptions { era, ..ServerOptions::default() });
        rig.server.set_tools([routed("not a token"), odd_tools()[1..2].to_vec()].concat());
        let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
        assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), count);
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_for_the_notification_that_opens_a_session_does_not_stop_its_lists() {
    for status in [400, 401, 403, 404, 405, 406, 429, 500, 503, 0] {
        let network = Scripted::new(move |request| match Message::parse(&request.body) {
            Ok(Message::Notification { .. }) if status == 0 => Err(HttpError::Broken),
            Ok(Message::Notification { .. }) => Ok(answer(status, "text/plain", vec!["no".into()])),
            Ok(Message::Request { id, method, .. }) if method == "initialize" => {
                Ok(json(response_of(id.as_json(), r#"{"protocolVersion":"2025-06-18"}"#)))
            }
            Ok(Message::Request { id, method, .. }) if method == "tools/list" => {
                Ok(json(response_of(id.as_json(), r#"{"tools":[]}"#)))
            }
            _ => Ok(answer(405, "text/plain", vec![])),
        });
        let session = network.upstream().open(Some(Era::Legacy), &Declared::default()).await.unwrap();
        assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), 0, "{status}");
        assert!(session.take_refused_confirmation().is_some() && session.take_refused_confirmation().is_none());
    }
    // A server that is gone, or a connection that cannot be made, is no server that refuses a notification.
    let gone = Scripted::new(|request| match Message::parse(&request.body) {
        Ok(Message::Request { id, .. }) => Ok(json(response_of(id.as_json(), r#"{"protocolVersion":"2025-06-18"}"#))),
        _ => Err(HttpError::Connect),
    });
    let opened = gone.upstream().open(Some(Era::Legacy), &Declared::default()).await;
    assert_eq!(opened.map(drop).unwrap_err(), WireError::Http(HttpError::Connect));
}

#[tokio::test(start_paused = true)]
async fn a_notification_without_an_answer_does_not_stop_the_lists_either() {
    let rig = rig(legacy());
    rig.server.be_silent_on(&["notifications/initialized"]);
    let session = within(Duration::from_secs(5), rig.upstream.open(None, &Declared::default())).await.unwrap();
    assert_eq!(session.take_refused_confirmation(), Some(WireError::Http(HttpError::Timeout)));
}
