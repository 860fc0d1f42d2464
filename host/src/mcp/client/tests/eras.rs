//! Which era a server speaks, how that is found out, and what it costs.

use std::time::Duration;

use http::StatusCode;
use http::header::AUTHORIZATION;

use super::*;
use crate::demo::mcp_server::{AnswerStyle, ServerEra};
use crate::edge::http::within;
use crate::mcp::limits::DISCOVERY_HEAD_START;
use crate::mcp::protocol::{
    VERSION_2024_11_05, VERSION_2025_03_26, VERSION_2025_06_18, VERSION_2025_11_25, VERSION_2026_07_28,
};
use crate::mcp::{Era, ListScope, ProtocolFault, WireError};
use crate::model::FailureClass;

const LATENCY: Duration = Duration::from_millis(500);

fn slow(era: ServerEra) -> ServerOptions {
    ServerOptions { era, latency: LATENCY, ..ServerOptions::default() }
}

async fn failure_of(rig: &Rig, remembered: Option<Era>) -> WireError {
    rig.upstream.open(remembered, &Declared::default()).await.map(|session| session.era()).unwrap_err()
}

#[tokio::test(start_paused = true)]
async fn servers_of_both_eras_are_listed_and_called_in_every_form() {
    for (server_era, era, version) in [
        (ServerEra::Modern, Era::Modern, VERSION_2026_07_28),
        (ServerEra::Dual, Era::Modern, VERSION_2026_07_28),
        (ServerEra::Legacy, Era::Legacy, VERSION_2025_11_25),
    ] {
        for answers in [AnswerStyle::Json, AnswerStyle::Sse] {
            for (page_size, pages) in [(None, 1), (Some(2), 3)] {
                for remembered in [None, Some(era)] {
                    let options =
                        ServerOptions { era: server_era, answers, page_size, tools: 5, ..ServerOptions::default() };
                    let rig = rig(ServerOptions { ttl_ms: Some(60_000), ..options });
                    let session = rig.upstream.open(remembered, &Declared::default()).await.unwrap();
                    assert_eq!((session.era(), session.protocol_version()), (era, version));
                    session.learn().await.unwrap();
                    let list = session.list(ListKind::Tools).await.unwrap();
                    assert_eq!((list.items.len(), list.pages), (5, pages));
                    let hints = (era == Era::Modern).then_some((60_000, ListScope::Public));
                    assert_eq!(list.ttl_ms.zip(list.scope), hints);
                    assert_eq!(
                        object(session.facts().unwrap().info.as_ref().unwrap().get()).get_str("name").as_deref(),
                        Some("demo")
                    );
                    let called =
                        session.request("tools/call", object(r#"{"name":"add","arguments":{"a":1,"b":2}}"#), &Nobody);
                    assert_eq!(result(called.await.unwrap()).get("structuredContent").unwrap().get(), r#"{"sum":3}"#);
                    let without_arguments =
                        session.request("tools/call", object(r#"{"name":"echo"}"#), &Nobody).await.unwrap();
                    assert_eq!(result(without_arguments).get("structuredContent").unwrap().get(), "{}");
                    for (method, params, code) in
                        [("tools/call", r#"{"name":"no"}"#, "-32602"), ("prompts/list", "{}", "-32601")]
                    {
                        assert_eq!(error_code(session.request(method, object(params), &Nobody).await.unwrap()), code);
                    }
                    session.close().await;
                    settle().await;
                    assert_eq!(rig.server.open_sessions(), 0);
                }
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_server_costs_a_round_trip_more_than_its_era_needs() {
    for (server_era, remembered, round_trips) in [
        (ServerEra::Legacy, None, 3),
        (ServerEra::Legacy, Some(Era::Legacy), 3),
        (ServerEra::Modern, None, 2),
        (ServerEra::Dual, None, 2),
        (ServerEra::Modern, Some(Era::Modern), 1),
        (ServerEra::Dual, Some(Era::Modern), 1),
    ] {
        let rig = rig(slow(server_era));
        let session = rig.upstream.open(remembered, &Declared::default()).await.unwrap();
        session.list(ListKind::Tools).await.unwrap();
        assert_eq!(rig.server.round_trips_until_listed(), Some(round_trips), "{server_era:?} {remembered:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_legacy_session_of_a_server_that_turns_out_modern_is_closed_in_the_background() {
    let rig = rig(slow(ServerEra::Dual));
    // Later than its head start, and sooner than the handshake is answered.
    rig.server.set_latency_of("server/discover", DISCOVERY_HEAD_START * 4);
    let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
    assert_eq!((session.era(), rig.server.counts().deletes), (Era::Modern, 0));
    settle().await;
    let counts = rig.server.counts();
    assert_eq!((counts.initialize, counts.deletes, rig.server.open_sessions()), (1, 1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_what_it_does_not_know_is_opened_all_the_same() {
    for (server_era, silent, era) in [
        (ServerEra::Legacy, "server/discover", Era::Legacy),
        (ServerEra::Dual, "server/discover", Era::Legacy),
        (ServerEra::Modern, "initialize", Era::Modern),
    ] {
        let rig = rig(slow(server_era));
        rig.server.be_silent_on(&[silent]);
        let session = rig.upstream.open(None, &Declared::default()).await.unwrap();
        assert_eq!((session.era(), session.list(ListKind::Tools).await.unwrap().items.len()), (era, 3));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_of_both_eras_has_as_long_again_to_show_the_modern_one() {
    for (discover_takes, era) in [(900, Era::Modern), (1_100, Era::Legacy)] {
        let rig = rig(slow(ServerEra::Dual));
        rig.server.set_latency_of("server/discover", Duration::from_millis(discover_takes));
        assert_eq!(rig.upstream.open(None, &Declared::default()).await.unwrap().era(), era);
        settle().await;
        assert_eq!(rig.server.open_sessions(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unreachable_server_is_reported_as_such_and_may_be_asked_again() {
    for (host, class) in [(Some(Host::Refuse), FailureClass::Refused), (None, FailureClass::Dns)] {
        let network = Arc::new(VirtualNetwork::new());
        if let Some(host) = host {
            network.set(&endpoint(), host);
        }
        let upstream = Upstream::new(network, endpoint(), HeaderMap::new());
        let error = upstream.open(None, &Declared::default()).await.map(drop).unwrap_err();
        assert_eq!((error.failure().class, error.was_not_sent()), (class, true));
    }
}

#[tokio::test(start_paused = true)]
async fn the_callers_deadline_ends_an_attempt_at_a_server_that_hangs() {
    let rig = rig(ServerOptions::default());
    rig.network.set(&endpoint(), Host::Hang);
    let error =
        within(Duration::from_secs(5), rig.upstream.open(None, &Declared::default())).await.map(drop).unwrap_err();
    assert_eq!(error, WireError::Http(HttpError::Timeout));
}

#[tokio::test(start_paused = true)]
async fn a_refused_credential_is_an_auth_failure_in_every_era() {
    for server_era in [ServerEra::Modern, ServerEra::Legacy, ServerEra::Dual] {
        let rig = rig(slow(server_era));
        rig.server.require_bearer("key");
        for remembered in [None, Some(Era::Legacy)] {
            assert_eq!(failure_of(&rig, remembered).await.failure().class, FailureClass::Auth);
        }
        let session = rig.upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
        assert_eq!(session.list(ListKind::Tools).await.unwrap_err().failure().class, FailureClass::Auth);

        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer key"));
        let upstream = Upstream::new(rig.network.clone(), endpoint(), headers);
        assert_eq!(
            upstream.open(None, &Declared::default()).await.unwrap().list(ListKind::Tools).await.unwrap().items.len(),
            3
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_throttling_server_is_heard_with_its_wish() {
    let rig = rig(slow(ServerEra::Dual));
    rig.server.fail_with_retry_after(StatusCode::TOO_MANY_REQUESTS, Duration::from_secs(30));
    for remembered in [None, Some(Era::Legacy)] {
        let failure = failure_of(&rig, remembered).await.failure();
        assert_eq!((failure.class, failure.retry_after), (FailureClass::Throttled, Some(Duration::from_secs(30))));
    }
    rig.server.recover();
    assert!(rig.upstream.open(None, &Declared::default()).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_no_wrong_era() {
    let rig = rig(slow(ServerEra::Modern));
    for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::SERVICE_UNAVAILABLE] {
        rig.server.fail_with(status);
        assert_eq!(failure_of(&rig, None).await, WireError::Status { status, retry_after: None, proxy: None });
        let session = rig.upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
        assert_eq!(
            session.list(ListKind::Tools).await.unwrap_err(),
            WireError::Status { status, retry_after: None, proxy: None }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_remembered_era_that_does_not_hold_any_more_is_said_so_and_asking_again_helps() {
    let legacy = rig(slow(ServerEra::Legacy));
    let session = legacy.upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
    assert_eq!(legacy.server.counts().requests, 0);
    assert_eq!(session.list(ListKind::Tools).await.unwrap_err(), WireError::WrongEra);
    let call = session.request("tools/call", object(r#"{"name":"echo"}"#), &Nobody);
    assert_eq!(call.await.unwrap_err(), WireError::WrongEra);
    assert_eq!(legacy.upstream.open(None, &Declared::default()).await.unwrap().era(), Era::Legacy);

    let modern = rig(slow(ServerEra::Modern));
    assert_eq!(failure_of(&modern, Some(Era::Legacy)).await, WireError::WrongEra);
    assert_eq!(modern.upstream.open(None, &Declared::default()).await.unwrap().era(), Era::Modern);
}

#[tokio::test(start_paused = true)]
async fn a_remembered_modern_server_without_the_tool_is_not_taken_for_a_legacy_one() {
    let rig = rig(slow(ServerEra::Modern));
    let session = rig.upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
    let outcome = session.request("tools/call", object(r#"{"name":"gone"}"#), &Nobody).await.unwrap();
    assert_eq!(error_code(outcome), "-32602");
}

#[tokio::test(start_paused = true)]
async fn the_legacy_version_is_negotiated_down_to_the_oldest_that_is_spoken() {
    // The oldest is older than the transport; there are servers that answer with it all the same.
    for version in [VERSION_2025_11_25, VERSION_2025_06_18, VERSION_2025_03_26, VERSION_2024_11_05] {
        let options = ServerOptions { legacy_version: version, ..slow(ServerEra::Legacy) };
        let session = rig(options).upstream.open(None, &Declared::default()).await.unwrap();
        assert_eq!(
            (session.protocol_version(), session.list(ListKind::Tools).await.unwrap().items.len()),
            (version, 3)
        );
    }
    let rig = rig(ServerOptions { legacy_version: "2024-10-07", ..slow(ServerEra::Legacy) });
    assert_eq!(failure_of(&rig, None).await, ProtocolFault::UnsupportedVersion.into());
    settle().await;
    assert_eq!((rig.server.counts().deletes, rig.server.open_sessions()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_of_another_version_is_used_through_its_legacy_side() {
    let network = Scripted::new(|request| {
        let id = match Message::parse(&request.body) {
            Ok(Message::Request { id, .. }) => id.as_json().to_owned(),
            _ => return Ok(answer(202, "text/plain", vec![])),
        };
        if request.body.windows(8).any(|part| part == b"discover") {
            let data = r#"{"supported":["2027-01-01","2025-11-25"]}"#;
            let error = format!(r#"{{"code":-32022,"message":"","data":{data}}}"#);
            let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{error}}}"#);
            return Ok(answer(400, "application/json", vec![error.into()]));
        }
        Ok(json(format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"protocolVersion":"2025-11-25"}}}}"#)))
    });
    assert_eq!(network.upstream().open(None, &Declared::default()).await.unwrap().era(), Era::Legacy);
}
