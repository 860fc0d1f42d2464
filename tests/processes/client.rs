//! A client that blocks: requests to a gateway's endpoint and its admin routes, with the answers' bytes as they came.

use std::time::Duration;

use reqwest::{RequestBuilder, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use super::PATIENCE;

/// The client.
pub(crate) struct Client {
    base: String,
    token: Option<String>,
    http: reqwest::Client,
    runtime: Runtime,
}

/// An answer to `tools/list`.
pub(crate) struct Listed {
    /// The bytes of the `tools` array.
    pub(crate) tools: String,
    /// The result's `_meta`.
    pub(crate) meta: Value,
}

impl Listed {
    pub(crate) fn names(&self) -> Vec<String> {
        let tools: Vec<Value> = serde_json::from_str(&self.tools).unwrap();
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    /// How each connector stands.
    pub(crate) fn standings(&self) -> Vec<Value> {
        self.meta["com.brainwav.cortex/connectors"].as_array().unwrap().clone()
    }
}

#[derive(Deserialize)]
struct Envelope {
    result: ListResult,
}

#[derive(Deserialize)]
struct ListResult {
    tools: Box<RawValue>,
    #[serde(rename = "_meta")]
    meta: Value,
}

impl Client {
    /// A client of the gateway whose endpoint is `url`.
    pub(crate) fn new(url: &str) -> Self {
        Self {
            base: url.strip_suffix("/mcp").unwrap().to_owned(),
            token: None,
            http: reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap(),
            runtime: tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// The same, who shows a token.
    pub(crate) fn with_token(self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self }
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// Asks for the tools, as a legacy client. None if there is no answer.
    pub(crate) fn list(&self) -> Option<Listed> {
        let body = self.post("tools/list", &json!({}))?;
        let envelope: Envelope = serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"));
        Some(Listed { tools: envelope.result.tools.get().to_owned(), meta: envelope.result.meta })
    }

    /// Calls a tool, as a legacy client, and returns the whole message.
    pub(crate) fn call(&self, name: &str, arguments: &Value) -> Value {
        let body = self.post("tools/call", &json!({ "name": name, "arguments": arguments }));
        serde_json::from_str(&body.expect("an answer")).unwrap()
    }

    /// Posts a request and returns the answer's body, if there is an answer.
    pub(crate) fn post(&self, method: &str, params: &Value) -> Option<String> {
        let message = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let request = self
            .http
            .post(format!("{}/mcp", self.base))
            .header("content-type", "application/json")
            .header("accept", "application/json, text/event-stream")
            .body(message.to_string());
        let request = self.authorized(request);
        self.runtime.block_on(async move {
            let answer = request.send().await.ok()?;
            answer.text().await.ok()
        })
    }

    /// An admin route's answer.
    pub(crate) fn get(&self, path: &str) -> Option<(StatusCode, String)> {
        let request = self.http.get(format!("{}{path}", self.base)).timeout(Duration::from_secs(10));
        let request = self.authorized(request);
        self.runtime.block_on(async move {
            let answer = request.send().await.ok()?;
            Some((answer.status(), answer.text().await.ok()?))
        })
    }

    /// `/status`.
    pub(crate) fn status(&self) -> Value {
        let (status, body) = self.get("/status").expect("an answer");
        assert_eq!(status, StatusCode::OK, "{body}");
        serde_json::from_str(&body).unwrap()
    }
}
