//! A lean MCP server of the legacy era: it reads a request, answers it from bytes that are ready, and does nothing else.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::http::{Head, find};

/// Serves on a thread of its own until the process ends.
pub(crate) fn start() -> SocketAddr {
    let (address, addresses) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            address.send(listener.local_addr().expect("an address")).expect("the starter waits");
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
    });
    addresses.recv().expect("the server starts")
}

async fn serve(mut stream: TcpStream) {
    stream.set_nodelay(true).expect("a socket");
    let mut buffer = Vec::with_capacity(16 << 10);
    loop {
        let head = loop {
            if let Some(head) = Head::of(&buffer).filter(|head| buffer.len() >= head.bytes + head.body) {
                break head;
            }
            match stream.read_buf(&mut buffer).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        };
        let rest = buffer.split_off(head.bytes + head.body);
        let answer = answer(&buffer[..head.bytes], &buffer[head.bytes..]);
        buffer = rest;
        if stream.write_all(&answer).await.is_err() {
            return;
        }
    }
}

fn answer(head: &[u8], body: &[u8]) -> Vec<u8> {
    let has = |text: &str| find(body, text.as_bytes()).is_some();
    if head.starts_with(b"DELETE") {
        return b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    if head.starts_with(b"GET") {
        return b"HTTP/1.1 405 Method Not Allowed\r\ncontent-length: 0\r\n\r\n".to_vec();
    }
    let Some(id) = id(body) else { return b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n".to_vec() };
    let result = if has("\"tools/call\"") {
        r#"{"content":[{"type":"text","text":"done"}]}"#
    } else if has("\"tools/list\"") {
        r#"{"tools":[{"name":"work","description":"Works.","inputSchema":{"type":"object"}}]}"#
    } else if has("\"initialize\"") {
        concat!(
            r#"{"protocolVersion":"2025-11-25","capabilities":{"tools":{}},"#,
            r#""serverInfo":{"name":"lean","version":"1"}}"#
        )
    } else {
        "{}"
    };
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#);
    let length = body.len();
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn id(body: &[u8]) -> Option<&str> {
    let start = find(body, b"\"id\":")? + 5;
    let end = start + body[start..].iter().position(|byte| matches!(byte, b',' | b'}'))?;
    std::str::from_utf8(&body[start..end]).ok()
}
