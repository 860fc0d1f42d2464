//! An MCP server whose every text is hostile.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};

use serde_json::{Value, json};

/// A server on a port of its own.
pub(crate) struct Server(SocketAddr);

impl Server {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                std::thread::spawn(move || serve(&stream));
            }
        });
        Self(address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.0
    }
}

/// Every character.
pub(crate) fn every_character() -> String {
    ('\0'..=char::MAX).collect()
}

/// Characters of every kind that acts, short enough for a name.
pub(crate) fn hostile() -> String {
    "owned\u{1b}]0;t\u{7}\u{1b}[2J\r\n\t\u{7f}\u{9b}31m\u{202e}\u{200b}\u{e0041}\u{fdd0}2J\u{fdd1}\u{fe0f}\u{2028}\u{ad}".to_owned()
}

fn serve(stream: &TcpStream) {
    let mut reader = BufReader::new(stream);
    while let Some((path, body)) = request(&mut reader) {
        let answer = match path.as_str() {
            "/status" => Some(status()),
            _ => serde_json::from_slice(&body).ok().and_then(|message| answer(&path, &message)),
        };
        let (status, body) = match answer {
            Some(answer) => ("200 OK", answer.to_string()),
            None if body.is_empty() => ("405 Method Not Allowed", String::new()),
            None => ("202 Accepted", String::new()),
        };
        let head =
            format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
        if (&*stream).write_all((head + &body).as_bytes()).is_err() {
            return;
        }
    }
}

/// The status of a gateway that lies.
fn status() -> Value {
    let connector = json!({ "id": hostile(), "contact": hostile(), "lastFailure": { "message": every_character(), "stderr": hostile() } });
    json!({
        "connectors": [connector], "warnings": [hostile(), every_character()], "serviceMap": { "state": hostile() },
        "trace": { "directory": every_character() },
    })
}

/// The path and the body of the next request.
fn request(reader: &mut impl BufRead) -> Option<(String, Vec<u8>)> {
    let (mut path, mut length) = (None, 0);
    for line in reader.by_ref().lines() {
        let line = line.ok()?.to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        path = path.or_else(|| line.split(' ').nth(1).map(str::to_owned));
        length = line.strip_prefix("content-length:").map_or(length, |value| value.trim().parse().unwrap());
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    Some((path?, body))
}

fn answer(path: &str, message: &Value) -> Option<Value> {
    let text = hostile();
    let id = message.get("id")?;
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2025-11-25", "serverInfo": { "name": text, "version": text },
            "capabilities": { "tools": {}, "resources": {} },
        }),
        "tools/list" if path == "/bad" => {
            return Some(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32_000, "message": text } }));
        }
        "tools/list" => json!({ "tools": [
            { "name": "say", "description": format!("{text}{}", every_character()), "inputSchema": { "type": "object" } },
            { "name": text, "title": text, "description": text, "inputSchema": { "type": "object" } },
        ] }),
        "resources/list" => json!({ "resources": [{ "uri": "x://a/b", "name": text, "description": text }] }),
        "resources/templates/list" => json!({ "resourceTemplates": [] }),
        "tools/call" => json!({ "content": [{ "type": "text", "text": every_character() }] }),
        "ping" => json!({}),
        _ => return Some(json!({ "jsonrpc": "2.0", "id": id, "error": { "code": -32_601, "message": text } })),
    };
    Some(json!({ "jsonrpc": "2.0", "id": id, "result": result }))
}
