//! Streams that carry messages only: as long as both like, at a bounded rate.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;

use super::*;
use crate::mcp::interim::{Interim, Notice, Question, refusal};
use crate::mcp::limits::{LISTEN_WINDOW, MAX_LISTEN_EVENTS, MAX_SERVER_REQUESTS, MAX_STREAM_BYTES};
use crate::mcp::{ProtocolFault, WireError};
use crate::model::FailureClass;

const CHANGED: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/tools/list_changed\"}\n\n";
const QUESTION: &str = "data: {\"jsonrpc\":\"2.0\",\"id\":ID,\"method\":\"roots/list\"}\n\n";

/// Counts what it hears; answers nothing, if it is told so.
#[derive(Default)]
struct Ear {
    opened: AtomicUsize,
    heard: AtomicUsize,
    asked: AtomicUsize,
    is_mute: bool,
}

impl Interim for Ear {
    fn opened(&self) {
        self.opened.fetch_add(1, Ordering::SeqCst);
    }

    fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
        self.heard.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {})
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        Box::pin(async {
            match self.is_mute {
                true => std::future::pending().await,
                false => refusal(),
            }
        })
    }
}

impl Ear {
    fn heard(&self) -> usize {
        self.heard.load(Ordering::SeqCst)
    }
}

/// Listens to a stream of these pieces, each so long after the one before.
async fn listened(era: Era, pieces: Vec<String>, pause: Duration, ear: &Ear) -> Result<(), WireError> {
    let (session, _) = session(era, move |_| {
        let pieces = stream::iter(pieces.clone()).then(move |piece| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::from(piece))
        });
        let mut response = events(String::new());
        response.body = Body::new(pieces);
        response
    })
    .await;
    session.listen(&[ListKind::Tools], &[], ear).await
}

/// How a stream ends that its server ends without a word.
fn end_of(era: Era) -> Result<(), WireError> {
    match era {
        Era::Legacy => Ok(()),
        Era::Modern => Err(ProtocolFault::StreamEnded.into()),
    }
}

#[tokio::test(start_paused = true)]
async fn what_comes_at_a_sound_rate_is_passed_on_for_as_long_as_it_comes() {
    for era in [Era::Modern, Era::Legacy] {
        // In all more events and more bytes than one window may hold.
        let piece = CHANGED.repeat(MAX_LISTEN_EVENTS / 2) + ":" + &"x".repeat(MAX_STREAM_BYTES / 4) + "\n";
        let ear = Ear::default();
        let ended = listened(era, vec![piece; 8], LISTEN_WINDOW, &ear).await;
        assert_eq!((ended, ear.heard(), ear.opened.into_inner()), (end_of(era), 4 * MAX_LISTEN_EVENTS, 1), "{era:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_events_or_of_bytes_ends_the_stream() {
    for era in [Era::Modern, Era::Legacy] {
        let ear = Ear::default();
        let flood = vec![CHANGED.repeat(100); MAX_LISTEN_EVENTS / 100 + 1];
        let error = listened(era, flood, Duration::from_millis(1), &ear).await.unwrap_err();
        assert_eq!((error.failure().class, error), (FailureClass::Oversize, ProtocolFault::EventFlood.into()));
        assert_eq!(ear.heard(), MAX_LISTEN_EVENTS);

        let comments = vec![":".to_owned() + &"x".repeat(1 << 20) + "\n"; MAX_STREAM_BYTES / (1 << 20)];
        let error = listened(era, comments, Duration::from_millis(1), &Ear::default()).await.unwrap_err();
        assert_eq!(error, ProtocolFault::EventFlood.into());
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_may_ask_as_often_as_it_likes_and_only_so_much_at_once() {
    let questions = |count: usize| (0..count).map(|id| QUESTION.replace("ID", &id.to_string())).collect::<Vec<_>>();
    let ear = Ear::default();
    let ended = listened(Era::Legacy, questions(10 * MAX_SERVER_REQUESTS), Duration::from_millis(100), &ear).await;
    assert_eq!((ended, ear.asked.into_inner()), (Ok(()), 10 * MAX_SERVER_REQUESTS));

    let mute = Ear { is_mute: true, ..Ear::default() };
    let ended = listened(Era::Legacy, questions(MAX_SERVER_REQUESTS + 1), Duration::from_millis(100), &mute).await;
    assert_eq!(ended, Err(ProtocolFault::TooManyServerRequests.into()));
    assert_eq!(mute.asked.into_inner(), MAX_SERVER_REQUESTS);
}

#[tokio::test(start_paused = true)]
async fn only_what_a_server_says_of_its_sessions_makes_a_missing_stream_a_lost_session() {
    let unknown = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32001,"message":"Session not found"}}"#;
    let status = |status| WireError::Status { status, retry_after: None, proxy: None };
    for (code, content_type, body, expected) in [
        (404, "application/json", unknown, WireError::SessionLost),
        (404, "text/html", "Cannot GET /mcp", status(StatusCode::NOT_FOUND)),
        (404, "application/json", "{}", status(StatusCode::NOT_FOUND)),
        (405, "application/json", unknown, status(StatusCode::METHOD_NOT_ALLOWED)),
        (200, "application/json", "{}", ProtocolFault::ContentType(None).into()),
    ] {
        let (session, network) = session(Era::Legacy, move |_| answer(code, content_type, vec![body.into()])).await;
        let ear = Ear::default();
        assert_eq!(session.listen(&[], &[], &ear).await, Err(expected.clone()));
        assert_eq!(ear.opened.into_inner(), 0);
        drop(session);
        settle().await;
        let deleted = network.asked().iter().filter(|request| request.method == Method::DELETE).count();
        assert_eq!(deleted, usize::from(expected != WireError::SessionLost));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_no_longer_listened_to_just_closes() {
    for era in [Era::Modern, Era::Legacy] {
        let (session, network) = session(era, |_| {
            let mut response = events(String::new());
            response.body = Body::new(stream::pending());
            response
        })
        .await;
        let listening = session.listen(&[ListKind::Tools], &[], &Nobody);
        assert!(tokio::time::timeout(Duration::from_secs(5), listening).await.is_err());
        settle().await;
        let messages = network.asked().len();
        assert_eq!(messages, if era == Era::Modern { 1 } else { 3 }, "{era:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_that_has_nothing_to_say_ends_the_stream_with_an_answer() {
    for form in [json as fn(String) -> Response, |text| events(format!("data: {text}\n\n"))] {
        let script = move |request: &Request| form(response_of(&id_of(request), r#"{"resultType":"complete"}"#));
        let (session, _) = session(Era::Modern, script).await;
        assert_eq!(session.listen(&[ListKind::Tools], &[], &Nobody).await, Ok(()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_of_2024_is_bounded_in_its_rate_too() {
    let comment = format!(":{}\n", "x".repeat(1 << 20));
    for (flood, times) in [(CHANGED, MAX_LISTEN_EVENTS + 1), (&comment, MAX_STREAM_BYTES / (1 << 20) + 1)] {
        let flood = flood.to_owned();
        let network = Scripted::new(move |request| {
            if request.method != Method::GET {
                return Ok(answer(202, "text/plain", vec![]));
            }
            let opened = response_of("1", r#"{"protocolVersion":"2024-11-05"}"#);
            let first =
                ["event: endpoint\ndata: /messages\n\n".to_owned(), format!("event: message\ndata: {opened}\n\n")];
            let rest = std::iter::repeat_n(flood.clone(), times);
            let pieces = stream::iter(first.into_iter().chain(rest)).then(|piece| async {
                tokio::time::sleep(Duration::from_millis(1)).await;
                Ok(Bytes::from(piece))
            });
            let mut response = events(String::new());
            response.body = Body::new(pieces);
            Ok(response)
        });
        let reach = crate::model::Reach::Sse { sse: endpoint() };
        let processes = Arc::new(crate::edge::virtual_processes::VirtualProcesses::new());
        let id = "old".parse().unwrap();
        let upstream = Upstream::reached(
            &reach,
            crate::mcp::FixedHeaders::new(HeaderMap::new()),
            network,
            crate::edge::process::ChildSpawner::new(processes),
            &id,
            Default::default(),
        );
        let session = upstream.open(None, &Declared::default()).await.unwrap();
        let failed = session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody).await.unwrap_err();
        assert_eq!(failed, ProtocolFault::EventFlood.into());
        assert!(session.has_ended());
    }
}
