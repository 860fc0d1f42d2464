//! A small server of either era that lives: it announces changes, is subscribed to, asks, shows progress, breaks off, and
//! comes back as another one. It notes what it is asked.
//!
//! It never depends on the gateway's own library, and is shared by the library's unit tests and the integration tests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::response::Response;
use futures_util::stream;
use http::{HeaderMap, Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};

/// What a listening stream is told.
#[derive(Clone)]
enum Event {
    Say(Value),
    /// The connection breaks.
    Break,
    /// The stream ends in order.
    End,
}

/// How it answers a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnCall {
    /// At once.
    Answer,
    /// After so long.
    After(Duration),
    /// After so many signs of progress, each after so long.
    Progress(u32, Duration),
    /// With half an answer, and then the connection breaks.
    BreakJson,
    /// With an event stream that breaks before the answer.
    BreakEvents,
    /// Not, and the stream of the answer is open.
    SilentEvents,
    /// After it has asked its client something, and so long after that, whatever the client answers.
    Ask(Duration),
    /// 429, with `Retry-After` in seconds.
    Throttle(Option<u64>),
}

/// What a request in an unknown session is answered with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// None: the answer has no content type.
    pub(crate) content_type: Option<&'static str>,
    pub(crate) body: &'static str,
}

struct Inner {
    tools: usize,
    capabilities: Value,
    session: u64,
    asked: Vec<(String, Value)>,
    refuse_streams: Option<u16>,
    refuse_subscriptions: bool,
    hops_max: u64,
    fail_subscriptions: usize,
    hang_on: Option<&'static str>,
    withhold_streams: bool,
    announces_when_listed: bool,
    on_call: OnCall,
    refusal: Option<Refusal>,
    forgets_always: bool,
    bearer: Option<(String, u16)>,
    fail_calls: Option<u16>,
    fail_prompts: Option<u16>,
}

/// The server.
pub(crate) struct Live {
    modern: bool,
    inner: Mutex<Inner>,
    events: broadcast::Sender<Event>,
    streams: AtomicUsize,
}

impl Live {
    /// One that announces everything and has a log.
    pub(crate) fn new(modern: bool, tools: usize) -> Arc<Self> {
        let capabilities = json!({
            "tools": { "listChanged": true },
            "resources": { "subscribe": true, "listChanged": true },
            "logging": {},
        });
        let inner = Inner {
            tools,
            capabilities,
            session: 1,
            asked: Vec::new(),
            refuse_streams: None,
            refuse_subscriptions: false,
            hops_max: u64::MAX,
            fail_subscriptions: 0,
            hang_on: None,
            withhold_streams: false,
            announces_when_listed: false,
            on_call: OnCall::Answer,
            refusal: None,
            forgets_always: false,
            bearer: None,
            fail_calls: None,
            fail_prompts: None,
        };
        Arc::new(Self {
            modern,
            inner: Mutex::new(inner),
            events: broadcast::Sender::new(4_096),
            streams: AtomicUsize::new(0),
        })
    }

    pub(crate) fn router(self: &Arc<Self>) -> Router {
        Router::new().fallback(serve).with_state(self.clone())
    }

    pub(crate) fn set_capabilities(&self, capabilities: Value) {
        self.inner().capabilities = capabilities;
    }

    /// Has so many tools from now on, and says nothing about it.
    pub(crate) fn set_tools(&self, tools: usize) {
        self.inner().tools = tools;
    }

    pub(crate) fn on_call(&self, on_call: OnCall) {
        self.inner().on_call = on_call;
    }

    /// Answers requests in an unknown session like this from now on.
    pub(crate) fn refuse_unknown_sessions(&self, refusal: Refusal) {
        self.inner().refusal = Some(refusal);
    }

    /// Answers every request without this token with this status, and a challenge.
    pub(crate) fn require_bearer(&self, token: &str, status: u16) {
        self.inner().bearer = Some((token.to_owned(), status));
    }

    /// Knows no session a moment after it was opened.
    pub(crate) fn forget_always(&self) {
        self.inner().forgets_always = true;
    }

    /// Answers calls with this status, and nothing else with it.
    pub(crate) fn fail_calls(&self, status: Option<u16>) {
        self.inner().fail_calls = status;
    }

    /// Has prompts by its own account, and answers their list with this status.
    pub(crate) fn fail_prompts(&self, status: u16) {
        let mut inner = self.inner();
        inner.capabilities["prompts"] = json!({});
        inner.fail_prompts = Some(status);
    }

    /// Answers every request for a stream with this status; none: serves them.
    pub(crate) fn refuse_streams(&self, status: Option<u16>) {
        self.inner().refuse_streams = status;
    }

    /// Refuses subscriptions and streams with a greater count of hops, as another gateway does.
    pub(crate) fn limit_hops(&self, most: u64) {
        self.inner().hops_max = most;
    }

    pub(crate) fn refuse_subscriptions(&self) {
        self.inner().refuse_subscriptions = true;
    }

    /// Answers the next so many subscriptions with 503.
    pub(crate) fn fail_subscriptions(&self, times: usize) {
        self.inner().fail_subscriptions = times;
    }

    /// Never answers a subscription to this URI.
    pub(crate) fn hang_on(&self, uri: &'static str) {
        self.inner().hang_on = Some(uri);
    }

    /// Answers no request for a stream, not even with its head.
    pub(crate) fn withhold_streams(&self) {
        self.inner().withhold_streams = true;
    }

    /// Announces a change whenever it is listed, as some servers do.
    pub(crate) fn announce_when_listed(&self) {
        self.inner().announces_when_listed = true;
    }

    /// Announces that its tools changed.
    pub(crate) fn announce(&self) {
        self.say("notifications/tools/list_changed", json!({}));
    }

    /// Sends a notification on every listening stream that is open.
    pub(crate) fn say(&self, method: &str, params: Value) {
        let message = json!({ "jsonrpc": "2.0", "method": method, "params": params });
        // Nobody may be listening.
        drop(self.events.send(Event::Say(message)));
    }

    /// Sends any message.
    pub(crate) fn send(&self, message: Value) {
        drop(self.events.send(Event::Say(message)));
    }

    pub(crate) fn break_streams(&self) {
        drop(self.events.send(Event::Break));
    }

    pub(crate) fn end_streams(&self) {
        drop(self.events.send(Event::End));
    }

    /// Comes back as another process: sessions are forgotten and streams broken.
    pub(crate) fn restart(&self, tools: usize) {
        {
            let mut inner = self.inner();
            inner.session += 1;
            inner.tools = tools;
        }
        self.break_streams();
    }

    /// Knows no session of before any more; streams stay open.
    pub(crate) fn forget(&self) {
        self.inner().session += 1;
    }

    /// How many listening streams are open.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::SeqCst)
    }

    /// How often it was asked this so far; `GET` for streams.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.inner().asked.iter().filter(|(asked, _)| asked == method).count()
    }

    /// The params of everything of this method, in order.
    pub(crate) fn params(&self, method: &str) -> Vec<Value> {
        let inner = self.inner();
        inner.asked.iter().filter(|(asked, _)| asked == method).map(|(_, params)| params.clone()).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    fn session(&self) -> String {
        format!("live-{}", self.inner().session)
    }

    fn note(&self, method: &str, params: Value) {
        self.inner().asked.push((method.to_owned(), params));
    }

    /// A listening stream, which tells what `wants` lets through; `first` goes ahead, and `last` is its end in order.
    fn listen(
        self: &Arc<Self>,
        first: Option<Value>,
        last: Option<Value>,
        wants: impl Fn(&Value) -> bool + Send + 'static,
        mark: Option<Value>,
    ) -> Response {
        let mut events = self.events.subscribe();
        let (sender, receiver) = mpsc::channel(16);
        let server = self.clone();
        server.streams.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(async move {
            if let Some(first) = first {
                drop(sender.send(Ok(event(&first))).await);
            }
            loop {
                let heard = tokio::select! {
                    () = sender.closed() => break,
                    heard = events.recv() => heard,
                };
                match heard {
                    Ok(Event::Say(message)) if !wants(&message) => {}
                    Ok(Event::Say(mut message)) => {
                        if let Some(mark) = &mark {
                            message["params"]["_meta"]["io.modelcontextprotocol/subscriptionId"] = mark.clone();
                        }
                        drop(sender.send(Ok(event(&message))).await);
                    }
                    Ok(Event::Break) => {
                        drop(sender.send(Err(std::io::Error::other("reset"))).await);
                        break;
                    }
                    Ok(Event::End) => {
                        if let Some(last) = last {
                            drop(sender.send(Ok(event(&last))).await);
                        }
                        break;
                    }
                    Err(_) => break,
                }
            }
            server.streams.fetch_sub(1, Ordering::SeqCst);
        });
        events_of(receiver)
    }

    fn post(self: &Arc<Self>, headers: &HeaderMap, message: &Value) -> Answer {
        let (id, method) = (message["id"].clone(), message["method"].as_str().unwrap_or("").to_owned());
        let params = message["params"].clone();
        self.note(&method, params.clone());
        let session = headers.get("mcp-session-id").and_then(|id| id.to_str().ok()).map(str::to_owned);
        let is_known = session.as_deref() == Some(&self.session()) && (id.is_null() || !self.inner().forgets_always);
        if !self.modern && method != "initialize" && !is_known {
            return Answer::Now(match self.inner().refusal {
                Some(Refusal { status: code, content_type: Some(kind), body }) => {
                    response(code, kind, Body::from(body))
                }
                Some(Refusal { status: code, content_type: None, body }) => {
                    let mut response = Response::new(Body::from(body));
                    *response.status_mut() = StatusCode::from_u16(code).unwrap();
                    response
                }
                None => status(if session.is_some() { 404 } else { 400 }),
            });
        }
        if self.modern && headers.get("mcp-protocol-version").is_none_or(|version| version != "2026-07-28") {
            let data = json!({ "supported": ["2026-07-28"], "requested": "?" });
            let error = json!({ "code": -32022, "message": "not that version", "data": data });
            let body = json!({ "jsonrpc": "2.0", "id": id, "error": error }).to_string();
            return Answer::Now(response(400, "application/json", Body::from(body)));
        }
        if id.is_null() {
            return Answer::Now(status(202));
        }
        let result = |mut result: Value| {
            if self.modern {
                result["resultType"] = "complete".into();
                result["ttlMs"] = 300_000.into();
                result["cacheScope"] = "public".into();
            }
            Answer::Now(json_of(&json!({ "jsonrpc": "2.0", "id": id, "result": result })))
        };
        let error = |code: i64| {
            let error = json!({ "code": code, "message": "not here" });
            Answer::Now(json_of(&json!({ "jsonrpc": "2.0", "id": id, "error": error })))
        };
        let capabilities = self.inner().capabilities.clone();
        let hops = params["_meta"]["com.brainwav.cortex/hops"].as_u64().unwrap_or_default();
        if matches!(method.as_str(), "resources/subscribe" | "subscriptions/listen") && hops > self.inner().hops_max {
            let error = json!({ "code": -32602, "message": "too far", "data": { "reason": "hop-limit" } });
            return Answer::Now(json_of(&json!({ "jsonrpc": "2.0", "id": id, "error": error })));
        }
        match (method.as_str(), self.modern) {
            ("initialize", false) => {
                let result = json!({
                    "protocolVersion": "2025-11-25", "capabilities": capabilities,
                    "serverInfo": { "name": "live", "version": "1" },
                });
                let mut response = json_of(&json!({ "jsonrpc": "2.0", "id": id, "result": result }));
                response.headers_mut().insert("mcp-session-id", self.session().parse().unwrap());
                Answer::Now(response)
            }
            ("server/discover", true) => {
                result(json!({ "supportedVersions": ["2026-07-28"], "capabilities": capabilities }))
            }
            ("tools/list", _) => {
                let tools = self.inner().tools;
                if self.inner().announces_when_listed {
                    self.announce();
                }
                let tools =
                    (1..=tools).map(|n| json!({ "name": format!("t{n}"), "inputSchema": { "type": "object" } }));
                result(json!({ "tools": tools.collect::<Vec<_>>() }))
            }
            ("prompts/list", _) => Answer::Now(status(self.inner().fail_prompts.unwrap_or(404))),
            ("resources/list", _) => result(json!({ "resources": [] })),
            ("resources/templates/list", _) => result(json!({ "resourceTemplates": [] })),
            ("ping" | "logging/setLevel", false) => result(json!({})),
            ("resources/subscribe" | "resources/unsubscribe", false) if self.inner().refuse_subscriptions => {
                error(-32002)
            }
            ("resources/subscribe", false) if self.inner().hang_on.is_some_and(|uri| params["uri"] == uri) => {
                Answer::Never
            }
            ("resources/subscribe", false) if self.inner().fail_subscriptions > 0 => {
                self.inner().fail_subscriptions -= 1;
                Answer::Now(status(503))
            }
            ("resources/subscribe" | "resources/unsubscribe", false) => result(json!({})),
            ("subscriptions/listen", true) => {
                let refusal = self.inner().refuse_streams;
                if let Some(code) = refusal {
                    return Answer::Now(status(code));
                }
                let wanted = params["notifications"].clone();
                let granted =
                    json!({ "notifications": wanted, "_meta": { "io.modelcontextprotocol/subscriptionId": id } });
                let ack = "notifications/subscriptions/acknowledged";
                let first = json!({ "jsonrpc": "2.0", "method": ack, "params": granted });
                let last = json!({ "jsonrpc": "2.0", "id": id, "result": { "resultType": "complete" } });
                let wants = move |message: &Value| match message["method"].as_str() {
                    Some("notifications/tools/list_changed") => wanted["toolsListChanged"] == true,
                    Some("notifications/resources/updated") => {
                        let uris = wanted["resourceSubscriptions"].as_array();
                        uris.is_some_and(|uris| uris.contains(&message["params"]["uri"]))
                    }
                    _ => true,
                };
                Answer::Now(self.listen(Some(first), Some(last), wants, Some(id)))
            }
            ("tools/call", _) => {
                if let Some(code) = self.inner().fail_calls {
                    return Answer::Now(status(code));
                }
                let (tools, on_call) = {
                    let inner = self.inner();
                    (inner.tools, inner.on_call)
                };
                let number =
                    params["name"].as_str().and_then(|name| name.strip_prefix('t')).and_then(|n| n.parse().ok());
                if number.is_none_or(|number: usize| number > tools) {
                    let error = json!({ "code": -32602, "message": "Unknown tool" });
                    return Answer::Now(json_of(&json!({ "jsonrpc": "2.0", "id": id, "error": error })));
                }
                Answer::Call { on_call, id, token: params["_meta"]["progressToken"].clone(), modern: self.modern }
            }
            _ => error(-32601),
        }
    }
}

enum Answer {
    Now(Response),
    Never,
    Call { on_call: OnCall, id: Value, token: Value, modern: bool },
}

async fn serve(State(server): State<Arc<Live>>, method: Method, headers: HeaderMap, body: Bytes) -> Response {
    let bearer = server.inner().bearer.clone();
    if let Some((token, code)) = bearer
        && headers.get("authorization").is_none_or(|shown| shown != &format!("Bearer {token}"))
    {
        server.note("refused", Value::Null);
        let challenge =
            "Bearer error=\"invalid_token\", scope=\"a b\", resource_metadata=\"https://live.test/metadata\"";
        let mut refused = status(code);
        refused.headers_mut().insert("www-authenticate", challenge.parse().unwrap());
        return refused;
    }
    match method {
        Method::POST => {
            let message: Value = serde_json::from_slice(&body).unwrap();
            match server.post(&headers, &message) {
                Answer::Now(response) => response,
                Answer::Never => std::future::pending().await,
                Answer::Call { on_call, id, token, modern } => call(on_call, id, token, modern).await,
            }
        }
        Method::GET if !server.modern => {
            server.note("GET", Value::Null);
            let known = headers.get("mcp-session-id").is_some_and(|id| id.as_bytes() == server.session().as_bytes());
            let (refusal, withheld) = {
                let inner = server.inner();
                (inner.refuse_streams, inner.withhold_streams)
            };
            if withheld {
                std::future::pending::<()>().await;
            }
            match (refusal, known) {
                (Some(code), _) => status(code),
                (None, false) => status(404),
                (None, true) => server.listen(None, None, |_| true, None),
            }
        }
        Method::DELETE if !server.modern => {
            server.note("DELETE", Value::Null);
            status(200)
        }
        _ => status(405),
    }
}

async fn call(on_call: OnCall, id: Value, token: Value, modern: bool) -> Response {
    let mut result = json!({ "content": [{ "type": "text", "text": "done" }] });
    if modern {
        result["resultType"] = "complete".into();
    }
    let answer = json!({ "jsonrpc": "2.0", "id": id, "result": result });
    let (sender, receiver) = mpsc::channel(16);
    match on_call {
        OnCall::Answer => json_of(&answer),
        OnCall::After(time) => {
            tokio::time::sleep(time).await;
            json_of(&answer)
        }
        OnCall::Progress(times, gap) => {
            tokio::spawn(async move {
                for number in 1..=times {
                    tokio::time::sleep(gap).await;
                    let params = json!({ "progressToken": token, "progress": number });
                    let progress = json!({ "jsonrpc": "2.0", "method": "notifications/progress", "params": params });
                    drop(sender.send(Ok(event(&progress))).await);
                }
                tokio::time::sleep(gap).await;
                drop(sender.send(Ok(event(&answer))).await);
            });
            events_of(receiver)
        }
        OnCall::BreakJson => {
            let pieces = [Ok(Bytes::from_static(b"{\"jsonrpc\"")), Err(std::io::Error::other("reset"))];
            response(200, "application/json", Body::from_stream(stream::iter(pieces)))
        }
        OnCall::BreakEvents => {
            let pieces = [Ok(Bytes::from_static(b": open\n\n")), Err(std::io::Error::other("reset"))];
            response(200, "text/event-stream", Body::from_stream(stream::iter(pieces)))
        }
        OnCall::SilentEvents => {
            tokio::spawn(async move { sender.closed().await });
            events_of(receiver)
        }
        OnCall::Ask(time) => {
            let question = json!({ "jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {} });
            tokio::spawn(async move {
                drop(sender.send(Ok(event(&question))).await);
                tokio::time::sleep(time).await;
                drop(sender.send(Ok(event(&answer))).await);
            });
            events_of(receiver)
        }
        OnCall::Throttle(seconds) => {
            let mut response = status(429);
            if let Some(seconds) = seconds {
                response.headers_mut().insert("retry-after", seconds.into());
            }
            response
        }
    }
}

fn event(message: &Value) -> Bytes {
    format!("event: message\ndata: {message}\n\n").into()
}

fn events_of(events: mpsc::Receiver<Result<Bytes, std::io::Error>>) -> Response {
    let body = stream::unfold(events, async |mut events| Some((events.recv().await?, events)));
    response(200, "text/event-stream", Body::from_stream(body))
}

fn json_of(message: &Value) -> Response {
    response(200, "application/json", Body::from(message.to_string()))
}

fn status(code: u16) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::from_u16(code).unwrap();
    response
}

fn response(code: u16, kind: &str, body: Body) -> Response {
    Response::builder().status(code).header("content-type", kind).body(body).unwrap()
}
