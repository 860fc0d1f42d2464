//! What hostile servers send.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use cortex_mcp::mcp::Message;
use cortex_mcp::model::FailureClass;
use futures_util::{Stream, StreamExt, stream};
use tower::ServiceExt;

const MEBIBYTE: usize = 1 << 20;

/// The most that is taken of one body, in pieces of a mebibyte: the cap of a stream, and what was under way.
const MOST_PIECES: usize = 34;

/// One way to be hostile.
pub(crate) struct Attack {
    pub(crate) name: &'static str,
    /// How it is called.
    pub(crate) class: FailureClass,
    /// The answer, for the id that the request has.
    answer: fn(&str) -> Response,
}

thread_local! {
    /// The most pieces that were taken of one body; each test has a thread of its own.
    static MOST_TAKEN: Cell<usize> = const { Cell::new(0) };
}

impl Attack {
    /// The server `inner`, whose answers to `method` are this attack.
    pub(crate) fn on(&'static self, method: &'static str, inner: Router) -> Router {
        Router::new().fallback(move |request: Request| {
            let inner = inner.clone();
            async move {
                let (parts, body) = request.into_parts();
                let body = axum::body::to_bytes(body, MEBIBYTE).await.unwrap();
                match Message::parse(&body) {
                    Ok(Message::Request { id, method: asked, .. }) if asked == method => (self.answer)(id.as_json()),
                    _ => inner.oneshot(Request::from_parts(parts, Body::from(body))).await.unwrap(),
                }
            }
        })
    }

    /// No body was read without end.
    pub(crate) fn was_bounded(&self) {
        let most = MOST_TAKEN.replace(0);
        assert!(most <= MOST_PIECES, "{}: {most} MiB were read", self.name);
    }
}

pub(crate) static ATTACKS: [Attack; 18] = [
    Attack { name: "endless JSON", class: FailureClass::Oversize, answer: |_| endless(JSON, vec![b' '; MEBIBYTE]) },
    Attack { name: "100 MiB of JSON", class: FailureClass::Oversize, answer: |_| large(JSON, b"{\"jsonrpc\":\"") },
    Attack { name: "100 MiB of an event", class: FailureClass::Oversize, answer: |_| large(EVENTS, b"data: \"") },
    Attack {
        name: "endless comments",
        class: FailureClass::Oversize,
        answer: |_| endless(EVENTS, b": on\n".repeat(MEBIBYTE / 5)),
    },
    Attack {
        name: "endless events",
        class: FailureClass::Oversize,
        answer: |_| endless(EVENTS, notice().repeat(MEBIBYTE / NOTICE_LENGTH)),
    },
    Attack {
        name: "endless questions",
        class: FailureClass::Decode,
        answer: |_| endless(EVENTS, QUESTION.repeat(MEBIBYTE / QUESTION.len())),
    },
    Attack { name: "a trickle of JSON", class: FailureClass::Timeout, answer: |_| trickle(JSON) },
    Attack { name: "a trickle of events", class: FailureClass::Timeout, answer: |_| trickle(EVENTS) },
    Attack { name: "a silent stream", class: FailureClass::Timeout, answer: |_| of(EVENTS, stream::pending()) },
    Attack {
        name: "a gzip bomb",
        class: FailureClass::Decode,
        answer: |_| {
            let mut bomb = endless(JSON, vec![0x1f; MEBIBYTE]);
            bomb.headers_mut().insert("content-encoding", "gzip".parse().unwrap());
            bomb
        },
    },
    Attack {
        name: "the id of another",
        class: FailureClass::Decode,
        answer: |id| whole(JSON, response(&format!("{id}7"), "{}").into_bytes()),
    },
    Attack {
        name: "two ids in one answer",
        class: FailureClass::Decode,
        answer: |id| whole(JSON, format!(r#"{{"jsonrpc":"2.0","id":1,"id":{id},"result":{{}}}}"#).into_bytes()),
    },
    Attack {
        name: "two answers in one",
        class: FailureClass::Decode,
        answer: |id| whole(JSON, [response(id, "{}"), response(id, "{}")].concat().into_bytes()),
    },
    Attack {
        name: "bytes that are no text",
        class: FailureClass::Decode,
        answer: |id| {
            let bytes = response(id, "{\"text\":\"?\"}").into_bytes();
            whole(JSON, bytes.into_iter().map(|byte| if byte == b'?' { 0xff } else { byte }).collect())
        },
    },
    Attack {
        name: "a request",
        class: FailureClass::Decode,
        answer: |id| whole(JSON, format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#).into_bytes()),
    },
    Attack { name: "a page", class: FailureClass::Decode, answer: |_| whole("text/html", b"<html>".to_vec()) },
    Attack {
        name: "depth instead of an answer",
        class: FailureClass::Decode,
        answer: |_| whole(JSON, deep().into_bytes()),
    },
    Attack {
        name: "a redirect to a metadata address",
        class: FailureClass::Redirect,
        answer: |_| {
            let redirect = Response::builder().status(307).header("location", "http://169.254.169.254/latest/");
            redirect.body(Body::empty()).unwrap()
        },
    },
];

/// No attack after all: a result that nests without a bound is passed on.
pub(crate) static DEEP_RESULT: Attack = Attack {
    name: "a deep result",
    class: FailureClass::Decode,
    answer: |id| whole(JSON, response(id, &format!(r#"{{"content":[],"deep":{}}}"#, deep())).into_bytes()),
};

/// JSON that nests deeper than any stack.
pub(crate) fn deep() -> String {
    format!("{}{}", "[".repeat(100_000), "]".repeat(100_000))
}

/// Counts who comes.
#[derive(Clone, Default)]
pub(crate) struct Witness(Arc<AtomicUsize>);

impl Witness {
    pub(crate) fn router(&self) -> Router {
        let count = self.0.clone();
        Router::new().fallback(move || async move {
            count.fetch_add(1, Ordering::SeqCst);
        })
    }

    pub(crate) fn requests(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

const JSON: &str = "application/json";
const EVENTS: &str = "text/event-stream";
const NOTICE_LENGTH: usize = 16 * 1024;
const QUESTION: &[u8] = b"data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n";

/// A notification, padded: so many of them are passed on that small ones would only take time.
fn notice() -> Vec<u8> {
    let start = r#"data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":""#;
    let end = "\"}}\n\n";
    format!("{start}{}{end}", "x".repeat(NOTICE_LENGTH - start.len() - end.len())).into_bytes()
}

fn response(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}

fn of(kind: &str, body: impl Stream<Item = Bytes> + Send + 'static) -> Response {
    let body = Body::from_stream(body.map(Ok::<_, std::convert::Infallible>));
    Response::builder().header("content-type", kind).body(body).unwrap()
}

fn whole(kind: &str, body: Vec<u8>) -> Response {
    Response::builder().header("content-type", kind).body(Body::from(body)).unwrap()
}

/// Pieces of a body, counted as they are taken.
fn counted(pieces: impl Stream<Item = Bytes> + Send + 'static) -> impl Stream<Item = Bytes> + Send + 'static {
    pieces.enumerate().map(|(number, piece)| {
        MOST_TAKEN.set(MOST_TAKEN.get().max(number + 1));
        piece
    })
}

fn endless(kind: &str, piece: Vec<u8>) -> Response {
    let piece = Bytes::from(piece);
    of(kind, counted(stream::repeat(piece)))
}

/// 100 MiB after a start that promises a message.
fn large(kind: &str, start: &'static [u8]) -> Response {
    let rest = stream::repeat(Bytes::from(vec![b'x'; MEBIBYTE])).take(100);
    of(kind, counted(stream::once(async move { Bytes::from_static(start) }).chain(rest)))
}

/// One byte a second.
fn trickle(kind: &str) -> Response {
    of(
        kind,
        stream::repeat(()).then(|()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Bytes::from_static(b":")
        }),
    )
}
