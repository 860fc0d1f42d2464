//! Progress over Streamable HTTP: on the stream of its own request, or on the session's own stream.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;

use super::*;
use crate::edge::http::HttpError;
use crate::mcp::interim::{Interim, Notice, Question, refusal};
use crate::mcp::limits::{LISTEN_WINDOW, MAX_STREAM_BYTES};
use crate::mcp::{ProtocolFault, WireError};

/// Keeps the notifications that arrive, and counts progress.
#[derive(Default)]
struct Client {
    received: Mutex<Vec<String>>,
    progressed: AtomicUsize,
}

impl Interim for Client {
    fn progressed(&self) {
        self.progressed.fetch_add(1, Ordering::SeqCst);
    }

    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        self.received.lock().unwrap().push(notice.params.unwrap().get().to_owned());
        Box::pin(async {})
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        Box::pin(async { refusal() })
    }
}

impl Client {
    fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    fn progressed(&self) -> usize {
        self.progressed.load(Ordering::SeqCst)
    }
}

fn progress(token: &str, message: &str) -> String {
    let params = format!(r#"{{"progressToken":{token},"progress":1,"message":"{message}"}}"#);
    format!("data: {{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{params}}}\n\n")
}

/// Pieces of a stream, each a second after the one before.
fn slow(pieces: Vec<String>) -> Response {
    let pieces = stream::iter(pieces).then(|piece| async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        Ok(Bytes::from(piece))
    });
    let mut response = events(String::new());
    response.body = Body::new(pieces);
    response
}

fn call(token: &str) -> RawObject {
    object(&format!(r#"{{"name":"t","_meta":{{"progressToken":{token}}}}}"#))
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_stream_brings_progress_of_another_one_shows_and_counts_none_of_it() {
    for era in [Era::Modern, Era::Legacy] {
        let ids = Arc::new(Mutex::new(Vec::<String>::new()));
        let (session, _) = session(era, move |request| {
            let own = id_of(request);
            ids.lock().unwrap().push(own.clone());
            let (ids, answer) = (ids.clone(), format!("data: {}\n\n", response_of(&own, "{}")));
            let pieces = stream::iter(0..2).then(move |piece| {
                let (ids, own, answer) = (ids.clone(), own.clone(), answer.clone());
                async move {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    let other = ids.lock().unwrap().iter().find(|id| **id != own).cloned().unwrap();
                    let crossed = progress(&format!("\"{other}\""), "crossed") + &progress(&other, "crossed");
                    let own = progress(&format!("\"{own}\""), "own");
                    Ok(Bytes::from(if piece == 0 { crossed + &own } else { answer }))
                }
            });
            let mut response = events(String::new());
            response.body = Body::new(pieces);
            response
        })
        .await;
        let clients = [Client::default(), Client::default()];
        let (one, two) = tokio::join!(
            session.request("tools/call", call("\"a\""), &clients[0]),
            session.request("tools/call", call("\"b\""), &clients[1]),
        );
        assert!(one.is_ok() && two.is_ok(), "{one:?} {two:?}");
        for (client, token) in clients.iter().zip(["a", "b"]) {
            let own = format!(r#"{{"progressToken":"{token}","progress":1,"message":"own"}}"#);
            assert_eq!((client.received(), client.progressed()), (vec![own], 1), "{era:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn progress_on_the_stream_of_a_legacy_session_goes_to_its_call() {
    let calls = Arc::new(Mutex::new(Vec::<String>::new()));
    let (session, _) = session(Era::Legacy, move |request| {
        if request.method == Method::GET {
            let calls = calls.clone();
            let pieces = stream::iter(0..3).then(move |step| {
                let calls = calls.clone();
                async move {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                    let named: Vec<String> = calls.lock().unwrap().clone();
                    let text: String =
                        named.iter().map(|id| progress(&format!("\"{id}\""), &step.to_string())).collect();
                    Ok(Bytes::from(text + &progress("77", "unknown")))
                }
            });
            let mut response = events(String::new());
            response.body = Body::new(pieces);
            return response;
        }
        let id = id_of(request);
        calls.lock().unwrap().push(id.clone());
        let waits = vec![": ".to_owned() + "\n\n"; 6];
        slow(waits.into_iter().chain([format!("data: {}\n\n", response_of(&id, "{}"))]).collect())
    })
    .await;
    let (asked, silent, listener) = (Client::default(), Client::default(), Client::default());
    let (one, two, _) = tokio::join!(
        session.request("tools/call", call("7"), &asked),
        session.request("tools/call", object(r#"{"name":"t"}"#), &silent),
        session.listen(&[], &[], &listener),
    );
    assert!(one.is_ok() && two.is_ok());
    let expected: Vec<String> =
        (0..3).map(|step| format!(r#"{{"progressToken":7,"progress":1,"message":"{step}"}}"#)).collect();
    assert_eq!((asked.received(), asked.progressed()), (expected, 3));
    assert_eq!((silent.received(), silent.progressed()), (vec![], 3));
    assert_eq!((listener.received(), listener.progressed()), (vec![], 0));
}

#[tokio::test(start_paused = true)]
async fn progress_that_no_client_asked_for_does_not_use_up_the_bytes_of_the_answer() {
    for (token, is_answered) in [(None, true), (Some("1"), false)] {
        let (session, _) = session(Era::Modern, move |request| {
            let id = id_of(request);
            let step = progress(&format!("\"{id}\""), &"x".repeat(MAX_STREAM_BYTES / 4));
            let pieces = vec![step; 6].into_iter().chain([format!("data: {}\n\n", response_of(&id, "{}"))]);
            let pieces = stream::iter(pieces).then(|piece| async {
                tokio::time::sleep(LISTEN_WINDOW).await;
                Ok(Bytes::from(piece))
            });
            let mut response = events(String::new());
            response.body = Body::new(pieces);
            response
        })
        .await;
        let params = token.map_or_else(|| object(r#"{"name":"t"}"#), call);
        let client = Client::default();
        let outcome = session.request("tools/call", params, &client).await;
        match is_answered {
            true => assert_eq!((outcome.is_ok(), client.progressed()), (true, 6), "{outcome:?}"),
            false => assert!(matches!(outcome, Err(WireError::Http(HttpError::Oversize { .. }))), "{outcome:?}"),
        }
    }
    // It stays bounded in its rate.
    let (session, _) = session(Era::Modern, move |request| {
        let step = progress(&format!("\"{}\"", id_of(request)), &"x".repeat(MAX_STREAM_BYTES / 4));
        answer(200, "text/event-stream", vec![Bytes::from(step); 6])
    })
    .await;
    let outcome = session.request("tools/call", object(r#"{"name":"t"}"#), &Client::default()).await;
    assert_eq!(outcome.err(), Some(ProtocolFault::EventFlood.into()));
}
