//! The same over real sockets, where the HTTP library is part of what has to hold. Loopback only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cortex_mcp::edge::http::{HttpError, HttpOptions, ReqwestHttp, within};
use cortex_mcp::mcp::{Declared, Era, Nobody, ProtocolFault, Upstream, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// What nothing here takes, unless it hangs.
const DEADLINE: Duration = Duration::from_secs(30);

/// What a request has that is meant to run into its own deadline.
const SHORT_DEADLINE: Duration = Duration::from_millis(300);

const MEBIBYTE: usize = 1 << 20;

/// What a server writes: once, and then again and again for as long as anyone takes it, with a pause between.
#[derive(Clone)]
struct Lines {
    start: Vec<u8>,
    again: Vec<u8>,
    pause: Duration,
}

/// What asking such a server ends with, and how many bytes it could write.
async fn asked(lines: Lines, deadline: Duration) -> (WireError, usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let count = written.clone();
    let mut server = JoinSet::new();
    server.spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            // A client that has enough closes its end.
            drop(write(stream, &lines, &count).await);
        }
    });
    let http = ReqwestHttp::new(&HttpOptions::default()).unwrap();
    let upstream = Upstream::new(Arc::new(http), url, http::HeaderMap::new());
    let session = upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
    let params = r#"{"name":"t"}"#.parse().unwrap();
    let error = within(deadline, session.request("tools/call", params, &Nobody)).await.unwrap_err();
    (error, written.load(Ordering::SeqCst))
}

async fn write(mut stream: TcpStream, lines: &Lines, count: &AtomicUsize) -> std::io::Result<()> {
    let mut request = [0; 4096];
    if stream.read(&mut request).await? == 0 {
        return Ok(());
    }
    stream.write_all(&lines.start).await?;
    while !lines.again.is_empty() {
        stream.write_all(&lines.again).await?;
        count.fetch_add(lines.again.len(), Ordering::SeqCst);
        tokio::time::sleep(lines.pause).await;
    }
    Ok(())
}

fn head(more: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{more}\r\n\r\n").into_bytes()
}

fn flood(start: Vec<u8>, again: Vec<u8>) -> Lines {
    Lines { start, again, pause: Duration::ZERO }
}

/// What lies between two sockets.
const BUFFERS: usize = 24 * MEBIBYTE;

#[tokio::test]
async fn bodies_without_end_are_read_no_further_than_their_caps() {
    let kind = |kind: &str| head(&format!("content-type: {kind}\r\nconnection: close"));
    for (lines, cap) in [
        (flood(kind("application/json"), vec![b' '; MEBIBYTE]), 16 * MEBIBYTE),
        (flood(kind("text/event-stream"), vec![b'x'; MEBIBYTE]), 16 * MEBIBYTE),
        (flood(kind("text/event-stream"), b": on\n".repeat(MEBIBYTE / 5)), 32 * MEBIBYTE),
    ] {
        let (error, written) = asked(lines, DEADLINE).await;
        assert_eq!(error, WireError::Http(HttpError::Oversize { cap }));
        assert!(written <= cap + BUFFERS, "{written} bytes were taken");
    }
}

#[tokio::test]
async fn a_head_without_end_is_no_answer() {
    let many = (0..10_000).map(|number| format!("x-{number}: y\r\n")).collect::<String>();
    let long = format!("x: {}", "y".repeat(8 * MEBIBYTE));
    for lines in [
        flood(head(&many), vec![]),
        flood(head(&long), vec![]),
        flood(b"HTTP/1.1 200 OK\r\n".to_vec(), b"x-more: y\r\n".repeat(1000)),
        flood(b"HTTP/1.1 200 ".to_vec(), vec![b'x'; MEBIBYTE]),
        flood(b"nonsense\r\n\r\n".to_vec(), vec![]),
    ] {
        let (error, written) = asked(lines, DEADLINE).await;
        assert_eq!((&error, error.was_not_sent()), (&WireError::Http(HttpError::Broken), false));
        assert!(written <= BUFFERS, "{written} bytes were taken");
    }
}

#[tokio::test]
async fn what_trickles_or_never_comes_ends_with_the_deadline() {
    let slow = |start: Vec<u8>| Lines { start, again: b"x".to_vec(), pause: Duration::from_millis(50) };
    for lines in [
        slow(b"HTTP/1.1 200 OK\r\nx-slow: ".to_vec()),
        slow(head("content-type: application/json\r\ncontent-length: 100000000")),
        slow(head("content-type: text/event-stream")),
        // Interim answers, one after the other.
        flood(vec![], b"HTTP/1.1 103 Early Hints\r\n\r\n".to_vec()),
    ] {
        let (error, _) = asked(lines, SHORT_DEADLINE).await;
        assert_eq!(error, WireError::Http(HttpError::Timeout));
    }
}

#[tokio::test]
async fn a_body_that_is_shorter_than_it_says_and_one_that_is_packed_are_refused() {
    let short = head("content-type: application/json\r\ncontent-length: 1000");
    let (error, _) = asked(flood([short, b"{}".to_vec()].concat(), vec![]), DEADLINE).await;
    assert_eq!(error, WireError::Http(HttpError::Broken));
    let packed = head("content-type: application/json\r\ncontent-encoding: gzip\r\nconnection: close");
    let (error, written) = asked(flood(packed, vec![0x1f; MEBIBYTE]), DEADLINE).await;
    assert_eq!(error, WireError::Protocol(ProtocolFault::ContentEncoding));
    assert!(written <= BUFFERS, "{written} bytes were taken");
}

/// A firewall that forgets an idle connection says nothing: whatever is sent there is lost.
#[tokio::test]
async fn a_call_after_a_pause_does_not_wait_on_a_connection_that_went_silent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/mcp", listener.local_addr().unwrap()).parse().unwrap();
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut silent = Vec::new();
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = vec![0; 65_536];
            let length = stream.read(&mut request).await.unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let (_, id) = request.split_once(r#""id":"#).unwrap();
            let id = id.split([',', '}']).next().unwrap();
            let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{}}}}"#);
            let head = head(&format!("content-type: application/json\r\ncontent-length: {}", body.len()));
            stream.write_all(&[head, body.into_bytes()].concat()).await.unwrap();
            silent.push(stream);
        }
    });
    let http = ReqwestHttp::new(&HttpOptions::default()).unwrap();
    let upstream = Upstream::new(Arc::new(http), url, http::HeaderMap::new());
    let session = upstream.open(Some(Era::Modern), &Declared::default()).await.unwrap();
    for _ in 0..3 {
        let params = r#"{"name":"t"}"#.parse().unwrap();
        within(DEADLINE, session.request("tools/call", params, &Nobody)).await.unwrap();
        tokio::time::pause();
        tokio::time::advance(Duration::from_secs(3)).await;
        tokio::time::resume();
    }
}
