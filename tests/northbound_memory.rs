//! Sessions that are opened and abandoned by the ten thousand leave the memory of a real gateway as it was.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod processes;

use std::convert::Infallible;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use cortex_mcp::gateway::limits;
use cortex_mcp::mcp::Message;
use http::StatusCode;
use processes::{Installation, Service, wait_for_tools};

/// Sessions of one round.
const SESSIONS: usize = 10_000;

/// Clients that open them at once, each on a connection of its own.
const CLIENTS: usize = 4;

/// One session in so many calls a tool, and has a session of its own with the server.
const CALLS_EACH: usize = 100;

/// How much more memory than after the first round there may be after the second, in hundredths.
const GROWTH_MAX: usize = 10;

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25",
    "capabilities":{"sampling":{},"roots":{}},"clientInfo":{"name":"t","version":"1"}}}"#;

const CALL: &str = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"mine__work","arguments":{}}}"#;

/// A legacy server with a stream for each of its sessions, which counts the streams that stand.
fn server(streams: &Arc<AtomicUsize>) -> Router {
    struct Standing(Arc<AtomicUsize>);
    impl Drop for Standing {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::SeqCst);
        }
    }
    let streams = streams.clone();
    let get = move || {
        streams.fetch_add(1, Ordering::SeqCst);
        let standing = Standing(streams.clone());
        async move {
            let first = futures_util::stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b": here\n\n")) });
            let never = futures_util::stream::unfold(standing, |standing| async move {
                std::future::pending::<()>().await;
                Some((Ok(Bytes::new()), standing))
            });
            let events = futures_util::StreamExt::chain(first, never);
            ([("content-type", "text/event-stream")], Body::from_stream(events)).into_response()
        }
    };
    let opened = Arc::new(AtomicUsize::new(0));
    let post = move |body: Bytes| async move {
        let Ok(Message::Request { id, method, .. }) = Message::parse(&body) else {
            return StatusCode::ACCEPTED.into_response();
        };
        let id = id.as_json();
        let result = match method.as_str() {
            "initialize" => {
                r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"serverInfo":{"name":"m","version":"1"}}"#
            }
            "tools/list" => r#"{"tools":[{"name":"work","inputSchema":{"type":"object"}}]}"#,
            "tools/call" => r#"{"content":[]}"#,
            _ => {
                let error = format!(r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32601,"message":"no"}}}}"#);
                return ([("content-type", "application/json")], error).into_response();
            }
        };
        let session = format!("s{}", opened.fetch_add(1, Ordering::SeqCst));
        let answer = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
        let mut response: Response = ([("content-type", "application/json")], answer).into_response();
        if method == "initialize" {
            response.headers_mut().insert("mcp-session-id", session.parse().unwrap());
        }
        response
    };
    Router::new().route("/mcp", axum::routing::post(post).get(get).delete(async || StatusCode::OK))
}

/// A connection that is kept.
struct Connection(BufReader<TcpStream>);

impl Connection {
    fn to(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(processes::PATIENCE)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Posts a message; returns the status line and the id of the session that was named.
    fn post(&mut self, session: Option<&str>, body: &str) -> (String, Option<String>) {
        let session = session.map(|id| format!("mcp-session-id: {id}\r\n")).unwrap_or_default();
        let kinds = "content-type: application/json\r\naccept: application/json, text/event-stream\r\n";
        let length = body.len();
        let head = format!("POST /mcp HTTP/1.1\r\nhost: localhost\r\n{kinds}{session}content-length: {length}\r\n\r\n");
        self.0.get_mut().write_all(format!("{head}{body}").as_bytes()).unwrap();
        let (mut status, mut named, mut length) = (String::new(), None, 0);
        self.0.read_line(&mut status).unwrap();
        loop {
            let mut line = String::new();
            self.0.read_line(&mut line).unwrap();
            match line.trim_end().split_once(": ") {
                Some(("mcp-session-id", id)) => named = Some(id.to_owned()),
                Some(("content-length", bytes)) => length = bytes.parse().unwrap(),
                Some(_) => {}
                None => break,
            }
        }
        std::io::copy(&mut Read::by_ref(&mut self.0).take(length), &mut std::io::sink()).unwrap();
        (status, named)
    }
}

/// Opens sessions and abandons them.
fn round(address: &str) {
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut connection = Connection::to(address);
                for number in 0..SESSIONS / CLIENTS {
                    let (status, id) = connection.post(None, INITIALIZE);
                    let id = id.unwrap_or_else(|| panic!("no session: {status}"));
                    if number % CALLS_EACH == 0 {
                        let (status, _) = connection.post(Some(&id), CALL);
                        assert!(status.contains(" 200 "), "{status}");
                    }
                }
            });
        }
    });
}

/// The memory of a process, in KiB.
fn memory(process: u32) -> usize {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn twenty_thousand_abandoned_sessions_take_no_more_memory_than_ten_thousand() {
    let streams = Arc::new(AtomicUsize::new(0));
    let service = Service::started(server(&streams));
    let installation = Installation::new().with("MCP_LOG_LEVEL", "error");
    let entry = format!(r#"{{"name":"mine","transport":"http","endpoint":"http://{}/mcp"}}"#, service.address());
    installation.file("home/mcp/servers.json", format!(r#"{{"servers":[{entry}]}}"#));
    let gateway = installation.serve();
    wait_for_tools(&gateway, 1);
    let (address, process) = (gateway.address(), gateway.process());
    let before = memory(process);
    let rounds = [(); 2].map(|()| {
        round(&address);
        memory(process)
    });
    let open = streams.load(Ordering::SeqCst);
    println!("KiB before and after two rounds of {SESSIONS}: {before}, {rounds:?}; {open} streams of servers stand");
    assert!(rounds[1] <= rounds[0] + rounds[0] * GROWTH_MAX / 100, "{before}, {rounds:?}");
    assert!((1..=1 + limits::SESSIONS_MAX / CALLS_EACH + 2 * CLIENTS).contains(&open), "{open} streams stand");
    assert_eq!(gateway.stop().code, Some(0));
}
