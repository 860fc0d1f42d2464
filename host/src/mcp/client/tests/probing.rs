//! Finding out what an unknown server is, where it answers in unusual ways.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::mcp::{ProtocolFault, WireError};

const SPEAKS: &str = r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#;
const OPENED: &str = r#"{"protocolVersion":"2025-11-25"}"#;

fn refused(id: &str, code: i64, data: &str) -> Response {
    let text = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":{code},"message":"no","data":{data}}}}}"#);
    answer(400, "application/json", vec![text.into()])
}

/// A server that answers each method by `script`, which is given the id.
fn server(script: impl Fn(&str, &str) -> Response + Send + Sync + 'static) -> Arc<Scripted> {
    Scripted::new(move |request| {
        Ok(match Message::parse(&request.body) {
            Ok(Message::Request { id, method, .. }) => script(&method, id.as_json()),
            _ => answer(202, "text/plain", vec![]),
        })
    })
}

fn methods(network: &Scripted) -> Vec<String> {
    let asked = network.asked();
    asked
        .iter()
        .filter_map(|request| match Message::parse(&request.body) {
            Ok(Message::Request { method, .. }) => Some(method),
            _ => None,
        })
        .collect()
}

fn ids(network: &Scripted) -> usize {
    let ids: std::collections::HashSet<_> = network.asked().iter().map(id_of).collect();
    ids.len()
}

#[tokio::test(start_paused = true)]
async fn a_server_that_answers_anything_with_an_empty_object_is_legacy() {
    let network = server(|method, id| json(response_of(id, if method == "initialize" { OPENED } else { "{}" })));
    let session = network.upstream().open(None, &Declared::default()).await.unwrap();
    assert_eq!((session.era(), methods(&network)), (Era::Legacy, vec!["server/discover".into(), "initialize".into()]));
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_refused_and_offered_in_one_breath_is_asked_for_again() {
    let requests = Arc::new(AtomicUsize::new(0));
    for remembered in [None, Some(Era::Modern)] {
        let count = requests.clone();
        count.store(0, Ordering::SeqCst);
        let network = server(move |method, id| match (count.fetch_add(1, Ordering::SeqCst), method) {
            (0, _) => refused(id, -32022, r#"{"supported":["2026-07-28"],"requested":"2026-07-28"}"#),
            (_, "server/discover") => json(response_of(id, SPEAKS)),
            _ => json(response_of(id, r#"{"tools":[]}"#)),
        });
        let session = network.upstream().open(remembered, &Declared::default()).await.unwrap();
        assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), 0);
        // No handshake of another era, and no id twice.
        assert_eq!(
            (methods(&network).contains(&"initialize".to_owned()), ids(&network)),
            (false, network.asked().len())
        );
        assert_eq!(network.asked().len(), if remembered.is_some() { 2 } else { 3 });
    }
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_always_refused_is_not_asked_for_without_end() {
    let network = server(|_, id| refused(id, -32022, r#"{"supported":["2026-07-28"]}"#));
    let session = network.upstream().open(Some(Era::Modern), &Declared::default()).await.unwrap();
    let called = session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody).await.unwrap();
    assert_eq!((error_code(called), network.asked().len()), ("-32022".into(), 2));
}

#[tokio::test(start_paused = true)]
async fn a_server_near_by_that_is_modern_sees_no_handshake() {
    let network = server(|_, id| json(response_of(id, SPEAKS)));
    assert_eq!(network.upstream().open(None, &Declared::default()).await.unwrap().era(), Era::Modern);
    settle().await;
    assert_eq!(methods(&network), ["server/discover"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_not_there_or_wants_a_pause_is_asked_one_question_only() {
    for (script, expected) in [
        (None, WireError::Http(HttpError::Connect)),
        (Some(429), WireError::Status { status: StatusCode::TOO_MANY_REQUESTS, retry_after: None, proxy: None }),
    ] {
        let network = Scripted::new(move |_| match script {
            None => Err(HttpError::Connect),
            Some(status) => Ok(answer(status, "text/plain", vec![])),
        });
        let opened = network.upstream().open(None, &Declared::default()).await;
        assert_eq!((opened.map(drop).unwrap_err(), network.asked().len()), (expected, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_that_will_not_say_what_it_is_still_serves() {
    for refusal in [-32601, -32600, -32000] {
        let network = server(move |method, id| match method {
            "server/discover" => refused(id, refusal, "{}"),
            _ => json(response_of(id, r#"{"tools":[]}"#)),
        });
        let session = network.upstream().open(Some(Era::Modern), &Declared::default()).await.unwrap();
        assert!(matches!(session.learn().await, Err(WireError::Rpc(error)) if error.code == refusal));
        assert!(session.facts().is_none());
        assert!(session.list(ListKind::Tools).await.is_ok());
    }
}

#[tokio::test(start_paused = true)]
async fn a_description_that_can_not_be_read_is_called_that() {
    for description in ["[]", "7", r#"{"supportedVersions":"all"}"#, r#"{"supportedVersions":[1]}"#] {
        let network = server(move |method, id| match method {
            "server/discover" => json(response_of(id, description)),
            _ => refused(id, -32601, "{}"),
        });
        let session = network.upstream().open(Some(Era::Modern), &Declared::default()).await.unwrap();
        assert_eq!(session.learn().await, Err(ProtocolFault::Handshake.into()), "{description}");
    }
}
