//! Clients that each make one call after the other, on a connection of their own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::http::Head;

/// When clients end.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    /// After so long.
    Elapsed(Duration),
    /// After so many calls of all together.
    Calls(u64),
}

/// Makes calls with so many clients at once; returns the calls that were answered well, a second.
pub(crate) fn call(gateway: SocketAddr, clients: usize, until: Until) -> f64 {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let done = Arc::new(AtomicU64::new(0));
        let started = Instant::now();
        let calling = (0..clients).map(|_| tokio::spawn(client(gateway, done.clone(), started, until)));
        for client in calling.collect::<Vec<_>>() {
            client.await.expect("a client");
        }
        done.load(Ordering::Relaxed) as f64 / started.elapsed().as_secs_f64()
    })
}

async fn client(gateway: SocketAddr, done: Arc<AtomicU64>, started: Instant, until: Until) {
    let request = request(
        "tools/call",
        r#"{"name":"lean__work","arguments":{"text":"the quick brown fox jumps over the lazy dog"}}"#,
    );
    let mut stream = TcpStream::connect(gateway).await.expect("the gateway listens");
    stream.set_nodelay(true).expect("a socket");
    let mut buffer = Vec::with_capacity(4 << 10);
    loop {
        let is_over = match until {
            Until::Elapsed(time) => started.elapsed() >= time,
            Until::Calls(calls) => done.load(Ordering::Relaxed) >= calls,
        };
        if is_over {
            return;
        }
        stream.write_all(&request).await.expect("the gateway reads");
        assert!(answer(&mut stream, &mut buffer).await, "the call is answered: {}", String::from_utf8_lossy(&buffer));
        done.fetch_add(1, Ordering::Relaxed);
    }
}

/// Reads one answer, and says whether it is a good one.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> bool {
    buffer.clear();
    loop {
        if let Some(head) = Head::of(buffer).filter(|head| buffer.len() >= head.bytes + head.body) {
            return head.is_ok && super::http::find(&buffer[head.bytes..], b"\"result\"").is_some();
        }
        if stream.read_buf(buffer).await.expect("the gateway answers") == 0 {
            return false;
        }
    }
}

/// A POST of a JSON-RPC request.
fn request(method: &str, params: &str) -> Vec<u8> {
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let length = body.len();
    format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json, \
         text/event-stream\r\nmcp-protocol-version: 2025-06-18\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

/// Offers bodies of 15 MiB of an unfinished 16 MiB body, on connections of their own, until so many bytes are offered;
/// returns the connections. What the gateway does not read stays in the sockets.
pub(crate) fn offer_bodies(gateway: SocketAddr, bytes: usize) -> Vec<std::net::TcpStream> {
    use std::io::Write as _;
    const BODY: usize = 16 << 20;
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\naccept: application/json\r\n\
         content-length: {BODY}\r\n\r\n"
    );
    let chunk = vec![b' '; 1 << 20];
    let offering = (0..bytes.div_ceil(BODY)).map(|_| {
        let mut stream = std::net::TcpStream::connect(gateway).expect("the gateway listens");
        stream.write_all(head.as_bytes()).expect("the gateway reads");
        stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a socket");
        // A refusal, or a gateway that does not read on, ends it.
        let _ = (0..15).try_for_each(|_| stream.write_all(&chunk));
        stream
    });
    offering.collect()
}
