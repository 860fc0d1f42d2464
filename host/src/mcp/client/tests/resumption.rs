//! Streams that break off before the answer: legacy ones are resumed where their server said how, a bounded number of
//! times in vain, and never so that a request is made twice.

use tokio::time::Instant;

use super::*;
use crate::edge::http::within;
use crate::mcp::interim::{Interim, Notice, Question};
use crate::mcp::limits::{MAX_RESUMPTIONS, RESUMPTION_WAIT_MAX, RESUMPTION_WAIT_MIN};
use crate::mcp::{ProtocolFault, WireError};

/// When a stream was asked for again, and after which event.
type Resumed = Arc<Mutex<Vec<(Instant, String)>>>;

/// A call at a server that ends its stream after `first`, and answers what is asked again by `again`, which is given how
/// often that was so before and the id of the call.
async fn called(
    era: Era,
    first: &'static str,
    again: impl Fn(usize, &str) -> Result<Response, HttpError> + Send + Sync + 'static,
) -> (Result<Outcome, WireError>, Vec<(Duration, String)>, Arc<Scripted>) {
    let resumed = Resumed::default();
    let (seen, id) = (resumed.clone(), Mutex::new(String::new()));
    let network = Scripted::new(move |request| match Message::parse(&request.body) {
        Ok(Message::Request { id, method, .. }) if method == "initialize" => {
            let mut opened = json(response_of(id.as_json(), r#"{"protocolVersion":"2025-11-25"}"#));
            opened.headers.insert("mcp-session-id", HeaderValue::from_static("s"));
            Ok(opened)
        }
        Ok(Message::Request { id: asked, .. }) => {
            *id.lock().unwrap() = asked.as_json().to_owned();
            Ok(events(first.to_owned()))
        }
        _ if request.method == Method::GET => {
            assert_eq!(request.headers["mcp-session-id"], "s");
            let after = request.headers.get("last-event-id").unwrap().to_str().unwrap().to_owned();
            let mut seen = seen.lock().unwrap();
            seen.push((Instant::now(), after));
            again(seen.len() - 1, &id.lock().unwrap())
        }
        _ => Ok(answer(202, "text/plain", vec![])),
    });
    let session = network.upstream().open(Some(era), &Declared::default()).await.unwrap();
    let began = Instant::now();
    let called = within(Duration::from_secs(600), session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody));
    let called = called.await;
    drop(session);
    settle().await;
    let resumed = resumed.lock().unwrap().iter().map(|(at, after)| (*at - began, after.clone())).collect();
    (called, resumed, network)
}

const POLLED: &str = "id: event-1\nretry: 500\ndata:\n\n";

fn done(id: &str) -> Response {
    events(format!("id: last\ndata: {}\n\n", response_of(id, "{\"n\":1}")))
}

fn broken() -> Response {
    let mut response = events(String::new());
    response.body = Body::new(stream::iter([Ok(Bytes::from_static(b": on\n")), Err(HttpError::Broken)]));
    response
}

fn kinds(network: &Scripted) -> Vec<String> {
    let asked = network.asked();
    asked
        .iter()
        .map(|request| match Message::parse(&request.body) {
            Ok(Message::Request { method, .. } | Message::Notification { method, .. }) => method,
            _ => request.method.to_string(),
        })
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_its_server_ends_is_asked_for_again_when_and_where_it_said() {
    for first in [POLLED, "id: event-1\nretry: 500\n\n", "retry: 500\nid: event-1\ndata:\n\n: bye"] {
        let (outcome, resumed, network) = called(Era::Legacy, first, |_, id| Ok(done(id))).await;
        assert_eq!(result(outcome.unwrap()).get("n").unwrap().get(), "1");
        assert_eq!(resumed, [(Duration::from_millis(500), "event-1".to_owned())]);
        assert_eq!(kinds(&network), ["initialize", "notifications/initialized", "tools/call", "GET", "DELETE"]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_may_let_its_client_come_back_as_often_as_it_gets_further() {
    const ROUNDS: usize = 10 * MAX_RESUMPTIONS;
    let (outcome, resumed, _) = called(Era::Legacy, POLLED, |round, id| {
        Ok(if round + 1 == ROUNDS { done(id) } else { events(format!("id: more-{round}\ndata:\n\n")) })
    })
    .await;
    assert!(outcome.is_ok());
    assert_eq!((resumed.len(), resumed[ROUNDS - 1].1.as_str()), (ROUNDS, "more-48"));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_never_gets_further_is_given_up_with_what_it_ended_with() {
    let answers: [fn() -> Result<Response, HttpError>; 6] = [
        || Ok(events(String::new())),
        || Ok(broken()),
        || Ok(answer(503, "text/plain", vec![])),
        || Ok(answer(429, "text/plain", vec![])),
        || Err(HttpError::Connect),
        || Err(HttpError::Dns),
    ];
    for again in answers {
        let (outcome, resumed, network) = called(Era::Legacy, POLLED, move |_, _| again()).await;
        let error = outcome.unwrap_err();
        assert!(!error.was_not_sent(), "{error}: it was sent, and may have been carried out");
        let expected = [ProtocolFault::StreamEnded.into(), WireError::Http(HttpError::Broken)];
        assert!(expected.contains(&error), "{error}");
        assert_eq!(resumed.len(), MAX_RESUMPTIONS);
        assert_eq!(kinds(&network).iter().filter(|kind| *kind == "tools/call").count(), 1);
        // The server may still be at it.
        assert!(kinds(&network).contains(&"notifications/cancelled".to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_after_a_while_still_delivers_the_answer() {
    let (outcome, resumed, _) = called(Era::Legacy, POLLED, |round, id| match round {
        0 => Err(HttpError::Connect),
        1 => Ok(answer(503, "text/plain", vec![])),
        2 => Ok(broken()),
        _ => Ok(done(id)),
    })
    .await;
    assert!(outcome.is_ok());
    assert_eq!(resumed.len(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_is_gone_when_its_stream_is_resumed_loses_the_answer_and_is_not_deleted() {
    let (outcome, resumed, network) = called(Era::Legacy, POLLED, |_, _| Ok(answer(404, "text/plain", vec![]))).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.was_not_sent(), error), (false, ProtocolFault::AnswerLost.into()));
    assert_eq!(resumed.len(), 1);
    assert_eq!(kinds(&network), ["initialize", "notifications/initialized", "tools/call", "GET"]);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_resumes_nothing_is_asked_once() {
    for (status, content_type) in [(405, "text/plain"), (400, "text/plain"), (401, "text/plain"), (200, "text/html")] {
        let again = move |_: usize, _: &str| Ok(answer(status, content_type, vec![]));
        let (outcome, resumed, _) = called(Era::Legacy, POLLED, again).await;
        assert_eq!((outcome.unwrap_err(), resumed.len()), (ProtocolFault::StreamEnded.into(), 1), "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_place_to_resume_at_and_in_the_modern_era_nothing_is_resumed() {
    for (era, first) in [
        (Era::Legacy, "retry: 500\ndata:\n\n"),
        (Era::Legacy, "id: 1\ndata:\n\nid:\ndata:\n\n"),
        (Era::Legacy, "id: 1\ndata: "),
        (Era::Modern, POLLED),
    ] {
        let (outcome, resumed, _) = called(era, first, |_, id| Ok(done(id))).await;
        assert_eq!((outcome.unwrap_err(), resumed), (ProtocolFault::StreamEnded.into(), vec![]), "{first:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn how_long_a_server_wants_to_be_waited_for_is_bounded_on_both_sides() {
    for (first, wait) in [
        ("id: 1\nretry: 0\ndata:\n\n", RESUMPTION_WAIT_MIN),
        ("id: 1\nretry: 99999999999\ndata:\n\n", RESUMPTION_WAIT_MAX),
        ("id: 1\nretry: 1\ndata:\n\nretry: 700\n\n", Duration::from_millis(700)),
    ] {
        let (outcome, resumed, _) = called(Era::Legacy, first, |_, id| Ok(done(id))).await;
        assert!(outcome.is_ok());
        assert_eq!(resumed, [(wait, "1".to_owned())]);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_dropped_while_its_stream_is_away_is_cancelled() {
    let (session, network) = session(Era::Legacy, |request| match request.method {
        Method::GET => answer(405, "text/plain", vec![]),
        _ => events("id: 1\nretry: 20000\ndata:\n\n".into()),
    })
    .await;
    let calling = session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody);
    let given_up = within(Duration::from_secs(1), calling).await;
    assert_eq!(given_up.unwrap_err(), HttpError::Timeout.into());
    settle().await;
    assert_eq!(kinds(&network), ["initialize", "notifications/initialized", "tools/call", "notifications/cancelled"]);
}

/// Answers questions after two seconds.
struct Slow;

impl Interim for Slow {
    fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        Box::pin(async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            Outcome::Result(raw(r#"{"action":"accept"}"#))
        })
    }
}

#[tokio::test(start_paused = true)]
async fn a_question_is_answered_though_its_stream_breaks_off_meanwhile() {
    let answered = Arc::new(Mutex::new(None));
    let (heard, id) = (answered.clone(), Mutex::new(String::new()));
    let network = Scripted::new(move |request| match Message::parse(&request.body) {
        Ok(Message::Request { id, method, .. }) if method == "initialize" => {
            Ok(json(response_of(id.as_json(), r#"{"protocolVersion":"2025-11-25"}"#)))
        }
        Ok(Message::Request { id: asked, .. }) => {
            *id.lock().unwrap() = asked.as_json().to_owned();
            let question = r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create","params":{}}"#;
            Ok(events(format!("id: 1\nretry: 500\ndata: {question}\n\n")))
        }
        Ok(Message::Response { id, .. }) => {
            *heard.lock().unwrap() = id;
            Ok(answer(202, "text/plain", vec![]))
        }
        _ if request.method == Method::GET && heard.lock().unwrap().is_some() => Ok(done(&id.lock().unwrap())),
        // Something to resume after each time: the server is at work.
        _ if request.method == Method::GET => Ok(events(format!("id: {:?}\ndata:\n\n", Instant::now()))),
        _ => Ok(answer(202, "text/plain", vec![])),
    });
    let session = network.upstream().open(Some(Era::Legacy), &Declared::default()).await.unwrap();
    let called = within(Duration::from_secs(60), session.request("tools/call", object(r#"{"name":"t"}"#), &Slow)).await;
    assert!(called.is_ok());
    assert_eq!(answered.lock().unwrap().as_ref().unwrap().as_json(), "\"q\"");
}
