//! The server's own rules, asked without the client.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use url::Url;

use super::*;
use crate::edge::http::{Http, Lane, Request};
use crate::edge::virtual_network::{Host, VirtualNetwork};

const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}"#
);

struct Asker {
    network: VirtualNetwork,
    url: Url,
}

impl Asker {
    fn new(options: ServerOptions) -> (Arc<McpServer>, Self) {
        let server = McpServer::new(options);
        let (network, url) = (VirtualNetwork::new(), Url::parse("http://127.0.0.1:1/mcp").unwrap());
        network.set(&url, Host::Serve(server.router()));
        (server, Self { network, url })
    }

    async fn send(&self, method: Method, headers: &[(&str, &str)], body: &str) -> (u16, HeaderMap, String) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let request =
            Request { method, url: self.url.clone(), headers: map, body: body.to_owned().into(), lane: Lane::Call };
        let response = self.network.send(request).await.unwrap();
        let body = response.body.collect(1 << 20).await.unwrap();
        (response.status.as_u16(), response.headers, String::from_utf8(body.to_vec()).unwrap())
    }

    async fn post(&self, headers: &[(&str, &str)], body: &str) -> (u16, String) {
        let (status, _, body) = self.send(Method::POST, headers, body).await;
        (status, body)
    }
}

fn legacy() -> ServerOptions {
    ServerOptions { era: ServerEra::Legacy, ..ServerOptions::default() }
}

fn list(meta: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"x","method":"tools/list","params":{{{meta}}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_modern_request_must_say_the_same_in_headers_and_body() {
    let (_, asker) = Asker::new(ServerOptions::default());
    let good = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
    let (status, body) = asker.post(&good, &list(META)).await;
    assert!(status == 200 && body.contains(r#""resultType":"complete""#) && body.contains(r#""ttlMs":0"#), "{body}");

    let old_meta = META.replace("2026-07-28", "1900-01-01");
    for (headers, body, code) in [
        (&good[1..], list(META), "-32020"),
        (&good[..1], list(META), "-32020"),
        (&[("mcp-protocol-version", "2025-11-25"), good[1]][..], list(META), "-32020"),
        (&[good[0], ("mcp-method", "tools/call")][..], list(META), "-32020"),
        (&good[..], list(""), "-32602"),
        (&good[..], list(&META.replace("clientCapabilities", "other")), "-32602"),
        (&[("mcp-protocol-version", "1900-01-01"), good[1]][..], list(&old_meta), "-32022"),
        (&good[..], r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{}}"#.to_owned(), "-32022"),
        (&good[..], "{".to_owned(), "-32700"),
        (&good[..], "[]".to_owned(), "-32600"),
    ] {
        let (status, answer) = asker.post(headers, &body).await;
        assert!(status == 400 && answer.contains(&format!("\"code\":{code}")), "{body}: {status} {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_modern_call_must_mirror_its_name_and_unknown_methods_are_not_found() {
    let (_, asker) = Asker::new(ServerOptions::default());
    let call = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"echo",{META}}}}}"#);
    let headers =
        [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", "=?base64?ZWNobw==?=")];
    assert_eq!(asker.post(&headers, &call).await.0, 200);
    assert_eq!(asker.post(&headers[..2], &call).await.0, 400);

    let ping = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{{META}}}}}"#);
    let (status, body) = asker.post(&[headers[0], ("mcp-method", "ping")], &ping).await;
    assert!(status == 404 && body.contains("-32601"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_modern_only_server_has_neither_get_nor_delete() {
    let (_, asker) = Asker::new(ServerOptions::default());
    for method in [Method::GET, Method::DELETE] {
        assert_eq!(asker.send(method, &[("mcp-session-id", "x")], "").await.0, 405);
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_session_begins_with_a_handshake_and_ends_with_a_delete() {
    let (server, asker) = Asker::new(legacy());
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-06-18"}}"#;
    let (status, headers, body) = asker.send(Method::POST, &[], initialize).await;
    assert!(status == 200 && body.contains(r#""protocolVersion":"2025-06-18""#), "{body}");
    let session = headers["mcp-session-id"].to_str().unwrap();
    let known = [("mcp-session-id", session), ("mcp-protocol-version", "2025-06-18")];

    let (status, early) = asker.post(&known, &list("")).await;
    assert!(status == 200 && early.contains("-32600"), "{early}");
    let (status, _) = asker.post(&known, r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
    assert_eq!(status, 202);
    let (status, listed) = asker.post(&known, &list("")).await;
    assert!(status == 200 && listed.contains(r#""name":"echo""#) && !listed.contains("ttlMs"), "{listed}");

    assert_eq!(asker.post(&[known[1]], &list("")).await.0, 400);
    assert_eq!(asker.post(&[known[0]], &list("")).await.0, 400);
    assert_eq!(asker.post(&[("mcp-session-id", "other"), known[1]], &list("")).await.0, 404);
    assert_eq!(asker.send(Method::GET, &known, "").await.0, 405);
    assert_eq!(asker.send(Method::DELETE, &[], "").await.0, 400);
    assert_eq!(asker.send(Method::DELETE, &known, "").await.0, 200);
    assert_eq!(asker.send(Method::DELETE, &known, "").await.0, 404);
    assert_eq!(server.open_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_of_both_eras_is_told_by_each_request() {
    let (_, asker) = Asker::new(ServerOptions { era: ServerEra::Dual, ..ServerOptions::default() });
    let modern = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/list")];
    assert!(asker.post(&modern, &list(META)).await.1.contains("resultType"));
    assert_eq!(asker.post(&modern, &list("")).await.0, 400);
}

#[tokio::test(start_paused = true)]
async fn credentials_failures_and_foreign_origins_come_before_everything_else() {
    let (server, asker) = Asker::new(ServerOptions::default());
    assert_eq!(asker.post(&[("origin", "https://evil.example")], &list(META)).await.0, 403);
    assert_eq!(asker.post(&[("origin", "http://localhost:3000")], "{").await.0, 400);
    server.require_bearer("key");
    let (status, headers, _) = asker.send(Method::POST, &[], &list(META)).await;
    assert_eq!((status, headers["www-authenticate"].to_str().unwrap()), (401, "Bearer"));
    assert_eq!(asker.post(&[("authorization", "Bearer key")], "{").await.0, 400);
    server.fail_with(StatusCode::BAD_GATEWAY);
    assert_eq!(asker.post(&[], "").await.0, 502);
}
