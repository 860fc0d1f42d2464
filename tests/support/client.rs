//! Clients of the gateway, of both eras, in memory: requests go through its router, answers come back as raw text.

use axum::Router;
use axum::body::Body;
use cortex_mcp::mcp::protocol::{Era, encode_header_value};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use tower::ServiceExt;

/// What a modern request's `_meta` must hold.
pub(crate) const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}"#
);

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(self.message()).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The answer itself: the last message, where it came as an event stream.
    fn message(&self) -> &str {
        let is_stream = self.headers.get("content-type").is_some_and(|kind| kind == "text/event-stream");
        let last = || self.body.lines().filter_map(|line| line.strip_prefix("data: ")).next_back();
        is_stream.then(last).flatten().unwrap_or(&self.body)
    }

    /// The code of its error; none for a result.
    pub(crate) fn code(&self) -> Option<i64> {
        self.json()["error"]["code"].as_i64()
    }

    /// Its result.
    pub(crate) fn result(&self) -> Value {
        let json = self.json();
        assert!(json.get("error").is_none(), "{}", self.body);
        json["result"].clone()
    }

    /// The raw text of its result.
    pub(crate) fn raw_result(&self) -> String {
        #[derive(Deserialize)]
        struct Response {
            result: Box<RawValue>,
        }
        serde_json::from_str::<Response>(self.message()).unwrap().result.get().to_owned()
    }

    /// How each connector's list stands, by id.
    pub(crate) fn standing(&self, id: &str) -> Value {
        let result = self.result();
        let connectors = result["_meta"]["com.brainwav.cortex/connectors"].as_array().unwrap();
        connectors.iter().find(|connector| connector["id"] == id).cloned().unwrap_or(Value::Null)
    }

    /// The names of the tools, in order.
    pub(crate) fn tool_names(&self) -> Vec<String> {
        let result = self.result();
        result["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }
}

/// The `tools` array of a list's answer, as the bytes that it is written in.
pub(crate) fn tools_bytes(body: &str) -> String {
    #[derive(Deserialize)]
    struct Response {
        result: List,
    }
    #[derive(Deserialize)]
    struct List {
        tools: Box<RawValue>,
    }
    serde_json::from_str::<Response>(body)
        .unwrap_or_else(|error| panic!("{error}: {body}"))
        .result
        .tools
        .get()
        .to_owned()
}

/// A client.
#[derive(Clone)]
pub(crate) struct Client {
    router: Router,
    pub(crate) era: Era,
    headers: Vec<(String, String)>,
}

impl Client {
    pub(crate) fn new(router: Router, era: Era) -> Self {
        Self { router, era, headers: Vec::new() }
    }

    /// The same with one header more on every request, or with another value for it.
    pub(crate) fn with_header(&self, name: &str, value: &str) -> Self {
        let mut client = self.clone();
        client.headers.push((name.to_owned(), value.to_owned()));
        client
    }

    /// Sends anything.
    pub(crate) async fn send(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut map = HeaderMap::new();
        map.insert("host", HeaderValue::from_static("127.0.0.1:8420"));
        let own = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in headers.iter().copied().chain(own) {
            map.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        let mut request = Request::builder().method(method).uri(path).body(Body::from(body.to_owned())).unwrap();
        *request.headers_mut() = map;
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answer {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8(body.to_vec()).unwrap(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, &[], "").await
    }

    /// Posts a message as it is, with these headers besides the content type.
    pub(crate) async fn post(&self, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
        all.extend_from_slice(headers);
        self.send(Method::POST, "/mcp", &all, body).await
    }

    /// Makes a request of the client's era. `params` are the members of an object, without its braces.
    pub(crate) async fn ask(&self, method: &str, params: &str) -> Answer {
        match self.era {
            Era::Legacy => {
                let body = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{params}}}}}"#);
                self.post(&[("mcp-protocol-version", "2025-11-25")], &body).await
            }
            Era::Modern => {
                let comma = if params.is_empty() { "" } else { "," };
                let body =
                    format!(r#"{{"jsonrpc":"2.0","id":7,"method":"{method}","params":{{{params}{comma}{META}}}}}"#);
                #[derive(Deserialize)]
                struct Named {
                    name: Option<String>,
                    uri: Option<String>,
                }
                let Named { name, uri } = serde_json::from_str(&format!("{{{params}}}")).unwrap();
                let name = name.or(uri.filter(|_| method == "resources/read"));
                let name = name.map(|name| encode_header_value(&name).to_str().unwrap().to_owned());
                let mut headers = vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)];
                headers.extend(name.as_deref().map(|name| ("mcp-name", name)));
                self.post(&headers, &body).await
            }
        }
    }

    pub(crate) async fn list(&self) -> Answer {
        self.ask("tools/list", "").await
    }

    /// Calls a tool. `arguments` is JSON.
    pub(crate) async fn call(&self, name: &str, arguments: &str) -> Answer {
        self.ask("tools/call", &format!(r#""name":"{name}","arguments":{arguments}"#)).await
    }
}
