use std::sync::atomic::AtomicUsize;

use axum::Router;
use futures_util::{StreamExt, stream};
use tower::ServiceExt;

use super::*;
use crate::config::Token;
use crate::gateway::test_gateway::gateway;
use crate::model::Digest;

const LARGE: usize = limits::REQUEST_BYTES_MAX;

async fn post(router: Router, body: Body) -> StatusCode {
    let request = Request::post("/mcp").header("host", "localhost").header("content-type", "application/json");
    router.oneshot(request.body(body).unwrap()).await.unwrap().status()
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stops_half_way_is_given_up_after_half_a_minute() {
    let (_gateway, router) = gateway(Vec::new()).await;
    let began = Instant::now();
    let half = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"{"))]).chain(stream::pending());
    let answered = timeout(2 * limits::BODY_TIMEOUT, post(router, Body::from_stream(half))).await;
    assert_eq!(answered, Ok(StatusCode::REQUEST_TIMEOUT));
    assert_eq!(began.elapsed(), limits::BODY_TIMEOUT);
}

#[tokio::test(start_paused = true)]
async fn a_whole_body_passes_and_one_above_the_cap_does_not() {
    let (_gateway, router) = gateway(Vec::new()).await;
    let ping = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    assert_eq!(post(router.clone(), ping.into()).await, StatusCode::OK);
    let large = vec![b' '; limits::REQUEST_BYTES_MAX + 1];
    assert_eq!(post(router.clone(), large.into()).await, StatusCode::PAYLOAD_TOO_LARGE);
    let broken = stream::iter([Err::<Bytes, _>(std::io::Error::other("gone"))]);
    assert_eq!(post(router, Body::from_stream(broken)).await, StatusCode::BAD_REQUEST);
}

/// A token whose secret is its name.
fn token(name: &str, calls_per_minute: Option<u32>) -> Token {
    Token { calls_per_minute, ..Token::new(name, Digest::of(name.as_bytes())) }
}

/// A request of a token whose body declares a length, and a count of the bytes that were read of it.
fn declared(token: &str, bytes: usize) -> (Request, Arc<AtomicUsize>) {
    let read = Arc::new(AtomicUsize::new(0));
    let counted = read.clone();
    let body = stream::unfold(0, move |sent| {
        let counted = counted.clone();
        async move {
            if sent >= bytes {
                return None;
            }
            counted.store(sent, Ordering::Relaxed);
            // The last byte never comes.
            let next = (1 << 20).min(bytes - 1 - sent);
            if next == 0 {
                std::future::pending::<()>().await;
            }
            Some((Ok::<_, std::io::Error>(Bytes::from(vec![b' '; next])), sent + next))
        }
    });
    let request = Request::post("/mcp")
        .header("host", "localhost")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(Body::new(Declared { body: Body::from_stream(body), bytes: bytes as u64 }));
    (request.unwrap(), read)
}

/// A body that says how long it is, as one with `Content-Length` does.
struct Declared {
    body: Body,
    bytes: u64,
}

impl hyper::body::Body for Declared {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        hyper::body::SizeHint::with_exact(self.bytes)
    }
}

mod budget {
    use super::*;

    fn owner(name: &str) -> Owner {
        Owner::Token(name.into())
    }

    #[tokio::test(start_paused = true)]
    async fn one_owner_gets_half_and_another_finds_room() {
        let budget = Arc::new(BodyBudget::default());
        let mut held = Vec::new();
        while let Some(reserved) = budget.reserve(&owner("greedy"), Size::Large, LARGE).await {
            held.push(reserved);
        }
        assert_eq!(held.len() * LARGE, limits::BODY_BYTES_MAX / 2);
        assert!(budget.reserve(&owner("modest"), Size::Large, LARGE).await.is_some());
        assert!(budget.reserve(&owner("greedy"), Size::Small, limits::SMALL_BODY_BYTES).await.is_some());
        drop(held);
        assert_eq!(budget.used(), 0);
        assert!(budget.lock().iter().all(|pool| pool.by_owner.is_empty()));
    }

    #[tokio::test(start_paused = true)]
    async fn never_holds_more_than_its_bytes_whoever_asks() {
        let budget = Arc::new(BodyBudget::default());
        let mut held = Vec::new();
        for number in 0..200 {
            held.extend(budget.reserve(&owner(&number.to_string()), Size::Large, LARGE).await);
            assert!(budget.used() <= limits::BODY_BYTES_MAX);
        }
        assert!(held.len() * LARGE > limits::BODY_BYTES_MAX - 2 * LARGE, "nearly all of it is given out");
    }

    #[tokio::test(start_paused = true)]
    async fn is_waited_for_and_given_on() {
        let budget = Arc::new(BodyBudget::default());
        let held = budget.reserve(&owner("a"), Size::Large, limits::BODY_BYTES_MAX / 2).await.unwrap();
        let mut shrinking = budget.reserve(&owner("b"), Size::Large, LARGE).await.unwrap();
        let a = owner("a");
        let mut waiting = std::pin::pin!(budget.reserve(&a, Size::Large, LARGE));
        assert!(timeout(limits::BODY_BUDGET_WAIT / 2, &mut waiting).await.is_err());
        shrinking.shrink_to(7);
        drop(held);
        assert!(waiting.await.is_some());
        assert_eq!(budget.used(), 7);
    }

    #[tokio::test(start_paused = true)]
    async fn that_is_full_refuses_large_bodies_unread_and_serves_the_rest() {
        let (gateway, router) = gateway(vec![token("greedy", None), token("modest", None)]).await;
        let mut hung = Vec::new();
        for _ in 0..120 {
            let (request, _) = declared("greedy", LARGE);
            hung.push(tokio::spawn(router.clone().oneshot(request)));
        }
        tokio::task::yield_now().await;
        let (request, read) = declared("greedy", LARGE);
        let began = Instant::now();
        let refused = router.clone().oneshot(request).await.unwrap();
        assert_eq!((refused.status(), began.elapsed()), (StatusCode::SERVICE_UNAVAILABLE, limits::BODY_BUDGET_WAIT));
        assert_eq!(refused.headers()[RETRY_AFTER], "1");
        assert_eq!(read.load(Ordering::Relaxed), 0, "nothing of it was read");
        assert_eq!(gateway.inner.bodies.used(), limits::BODY_BYTES_MAX / 2);
        for name in ["greedy", "modest"] {
            let ping = Request::post("/mcp")
                .header("host", "localhost")
                .header("content-type", "application/json")
                .header("authorization", format!("Bearer {name}"))
                .body(Body::from(r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#));
            assert_eq!(router.clone().oneshot(ping.unwrap()).await.unwrap().status(), StatusCode::OK, "{name}");
        }
        for task in hung {
            let status = task.await.unwrap().unwrap().status();
            assert!(matches!(status, StatusCode::REQUEST_TIMEOUT | StatusCode::SERVICE_UNAVAILABLE), "{status}");
        }
        assert_eq!(gateway.inner.bodies.used(), 0);
    }
}

mod rate_of_a_token {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_taken_before_a_large_body_is_read() {
        let (_gateway, router) = gateway(vec![token("once", Some(1))]).await;
        let (first, _) = declared("once", LARGE);
        let first = tokio::spawn(router.clone().oneshot(first));
        tokio::task::yield_now().await;
        for _ in 0..60 {
            let (request, read) = declared("once", LARGE);
            let refused = router.clone().oneshot(request).await.unwrap();
            assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
            assert!(refused.headers().contains_key(RETRY_AFTER));
            assert_eq!(read.load(Ordering::Relaxed), 0);
        }
        first.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn counts_a_large_request_once() {
        let (_gateway, router) = gateway(vec![token("twice", Some(2))]).await;
        let padding = " ".repeat(limits::SMALL_BODY_BYTES);
        let ping = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping"{padding}}}"#);
        for expected in [StatusCode::OK, StatusCode::OK, StatusCode::TOO_MANY_REQUESTS] {
            let request = Request::post("/mcp")
                .header("host", "localhost")
                .header("content-type", "application/json")
                .header("authorization", "Bearer twice")
                .body(Body::from(ping.clone()));
            assert_eq!(router.clone().oneshot(request.unwrap()).await.unwrap().status(), expected);
        }
    }
}

mod refused_body {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn is_thrown_away_behind_the_answer_and_not_for_ever() {
        let (gateway, router) = gateway(vec![token("once", Some(1))]).await;
        let (first, _) = declared("once", LARGE);
        let first = tokio::spawn(router.clone().oneshot(first));
        tokio::task::yield_now().await;
        let held = gateway.inner.bodies.used();
        let (request, read) = declared("once", LARGE);
        let refused = router.oneshot(request).await.unwrap();
        let (began, mut answer) = (Instant::now(), refused.into_body());
        let message = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(message.starts_with(b"this token has used up"), "{message:?}");
        assert_eq!((read.load(Ordering::Relaxed), began.elapsed()), (0, Duration::ZERO), "it is told at once");
        assert!(answer.frame().await.is_none());
        assert_eq!(began.elapsed(), limits::REFUSED_BODY_TIMEOUT, "its last byte never comes");
        assert_eq!(read.load(Ordering::Relaxed), LARGE - 1);
        assert_eq!(gateway.inner.bodies.used(), held, "nothing of it is held");
        first.abort();
    }
}
