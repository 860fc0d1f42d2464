//! The traffic: requests made from a seed, and an rmcp client that makes them and notes everything that it is told.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rmcp::model::*;
use rmcp::service::{
    ClientLifecycleMode, NotificationContext, RequestContext, RoleClient, RunningService, ServiceError,
};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientServiceExt, ErrorData};
use serde::Serialize;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::oracle::WATCHED;

/// How long a notification may be on its way after the answer.
const ON_ITS_WAY: Duration = Duration::from_secs(20);

/// The same, once something never came: what is missing is told by the comparison.
const AFTER_A_LOSS: Duration = Duration::from_millis(100);

/// One request.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    List(&'static str),
    Call(&'static str, Map<String, Value>),
    Prompt(&'static str, Map<String, Value>),
    Read(String),
    Complete(Value),
}

/// A generator that is the same on every run (splitmix64).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one<T: Clone>(&mut self, of: &[T]) -> T {
        of[usize::try_from(self.below(of.len() as u64)).unwrap()].clone()
    }

    fn text(&mut self) -> String {
        let parts = ["a", "é", "☃", "\u{2028}", "\u{feff}", "\"", "\\", "\n", "\u{0}", "data: ", " ", "🦀", "/"];
        (0..self.below(9)).map(|_| self.one(&parts)).collect()
    }

    fn value(&mut self, depth: u64) -> Value {
        match self.below(if depth == 0 { 6 } else { 8 }) {
            0 => Value::Null,
            1 => json!(self.below(2) == 0),
            2 => json!(self.next()),
            3 => json!(-(i64::try_from(self.below(1 << 60)).unwrap())),
            4 => json!(self.below(1_000_000) as f64 / 64.0),
            5 => json!(self.text()),
            6 => (0..self.below(4)).map(|_| self.value(depth - 1)).collect(),
            _ => Value::Object(self.object(depth - 1)),
        }
    }

    fn object(&mut self, depth: u64) -> Map<String, Value> {
        (0..self.below(5)).map(|_| (self.text(), self.value(depth))).collect()
    }

    fn arguments(&mut self, names: &[&str]) -> Map<String, Value> {
        let given: Vec<_> = names.iter().filter(|_| self.below(4) > 0).collect();
        given.into_iter().map(|name| ((*name).to_owned(), json!(self.text()))).collect()
    }

    fn request(&mut self) -> Request {
        let steps = |dice: &mut Self| json!({"steps": dice.below(5), "x": dice.text()}).as_object().unwrap().clone();
        match self.below(16) {
            0 => Request::List(self.one(&["tools", "prompts", "resources", "templates"])),
            1..=3 => {
                let mut arguments = self.object(3);
                if self.below(2) == 0 {
                    arguments.insert("region".to_owned(), json!(self.text()));
                }
                Request::Call("echo", arguments)
            }
            4 => Request::Call("content", json!({"count": self.below(9)}).as_object().unwrap().clone()),
            5 => Request::Call("fails", self.object(2)),
            6 => {
                let code = self.one(&[-32603, -32602, -32000, -1, 0, 7, 12345]);
                let refusal = json!({"code": code, "message": self.text(), "data": self.value(2)});
                Request::Call("refuses", refusal.as_object().unwrap().clone())
            }
            7 | 8 => Request::Call("progresses", steps(self)),
            9 | 10 => Request::Call("logs", steps(self)),
            11 => Request::Call("there-is-none", Map::new()),
            12 => {
                let arguments = self.arguments(&["whom", "how"]);
                Request::Prompt(self.one(&["greet", "greet", "plain"]), arguments)
            }
            13 => Request::Prompt("there-is-none", Map::new()),
            14 => {
                let id = self.below(1000);
                let uris = [WATCHED, "mem://text", "mem://blob", "mem://nothing", "other://nothing"];
                let uri = self.one(&uris).to_owned();
                Request::Read(if self.below(3) == 0 { format!("mem://items/{id}") } else { uri })
            }
            _ => {
                let of = self.one(&[
                    json!({"type": "ref/prompt", "name": "greet"}),
                    json!({"type": "ref/resource", "uri": "mem://items/{id}"}),
                ]);
                let mut params = json!({"ref": of, "argument": {"name": "whom", "value": self.text()}});
                if self.below(2) == 0 {
                    params["context"] = json!({"arguments": {"how": self.text()}});
                }
                Request::Complete(params)
            }
        }
    }
}

/// The requests of a seed: each list once, then so many.
pub(crate) fn requests(seed: u64, count: usize) -> Vec<Request> {
    let mut dice = Dice(seed);
    let lists = ["tools", "prompts", "resources", "templates"].map(Request::List);
    lists.into_iter().chain((0..count).map(|_| dice.request())).collect()
}

/// What the client is told besides answers.
#[derive(Debug, Default)]
struct Told {
    progress: Vec<Value>,
    logs: Vec<Value>,
    updated: Vec<Value>,
    changed: usize,
}

#[derive(Clone, Default)]
struct Ears {
    told: Arc<Mutex<Told>>,
    answers: bool,
}

#[allow(deprecated, reason = "what is deprecated is still spoken")]
impl ClientHandler for Ears {
    fn get_info(&self) -> ClientConfig {
        let mut info = ClientConfig::default();
        if self.answers {
            info.capabilities = serde_json::from_value(json!({"sampling": {}})).unwrap();
        }
        info
    }

    async fn create_message(
        &self,
        params: CreateMessageRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<CreateMessageResult, ErrorData> {
        let said = json!({
            "role": "assistant", "content": {"type": "text", "text": "42"}, "stopReason": "endTurn",
            "model": format!("42, in {} messages", params.messages.len())
        });
        Ok(serde_json::from_value(said).unwrap())
    }

    async fn on_progress(&self, params: ProgressNotificationParam, _: NotificationContext<RoleClient>) {
        // The token is the client's own, and every client counts its own.
        let notice = json!([params.progress, params.total, params.message]);
        self.told.lock().unwrap().progress.push(notice);
    }

    async fn on_logging_message(&self, params: LoggingMessageNotificationParam, _: NotificationContext<RoleClient>) {
        self.told.lock().unwrap().logs.push(json!([params.level, params.logger, params.data]));
    }

    async fn on_resource_updated(&self, params: ResourceUpdatedNotificationParam, _: NotificationContext<RoleClient>) {
        self.told.lock().unwrap().updated.push(json!(params.uri));
    }

    async fn on_tool_list_changed(&self, _: NotificationContext<RoleClient>) {
        self.told.lock().unwrap().changed += 1;
    }
}

/// A client that is connected.
pub(crate) struct Visit {
    client: RunningService<RoleClient, Ears>,
    modern: bool,
    /// Whether log messages are waited for.
    pub(crate) logs: bool,
    /// Whether something that was waited for never came.
    lost: AtomicBool,
}

#[allow(deprecated, reason = "what is deprecated is still spoken")]
impl Visit {
    pub(crate) async fn open(url: &str, lifecycle: ClientLifecycleMode) -> Self {
        Self::with(url, lifecycle, Ears::default()).await
    }

    async fn with(url: &str, lifecycle: ClientLifecycleMode, ears: Ears) -> Self {
        let modern = !matches!(lifecycle, ClientLifecycleMode::Initialize);
        let transport = StreamableHttpClientTransport::from_uri(url.to_owned());
        let client = ears.serve_with_lifecycle(transport, lifecycle).await.unwrap();
        if !modern {
            client.set_level(SetLevelRequestParams::new(LoggingLevel::Debug)).await.unwrap();
        }
        Self { client, modern, logs: true, lost: AtomicBool::new(false) }
    }

    pub(crate) async fn close(self) {
        self.client.cancel().await.unwrap();
    }

    /// What every request wants: log messages.
    fn meta(&self) -> Option<RequestMetaObject> {
        self.modern.then(|| {
            let mut meta = RequestMetaObject::new();
            meta.set_log_level(LoggingLevel::Debug);
            meta
        })
    }

    /// Makes all of them, one after another.
    pub(crate) async fn all(&self, requests: &[Request]) -> Vec<Value> {
        let mut seen = Vec::new();
        for request in requests {
            seen.push(self.one(request).await);
        }
        seen
    }

    async fn one(&self, request: &Request) -> Value {
        *self.client.service().told.lock().unwrap() = Told::default();
        let mut seen = match request {
            Request::List("tools") => items(self.client.list_all_tools().await),
            Request::List("prompts") => items(self.client.list_all_prompts().await),
            Request::List("resources") => items(self.client.list_all_resources().await),
            Request::List(_) => items(self.client.list_all_resource_templates().await),
            Request::Call(tool, arguments) => {
                let mut params = CallToolRequestParams::new(*tool).with_arguments(arguments.clone());
                params.meta = self.meta();
                answer(self.client.call_tool(params).await)
            }
            Request::Prompt(prompt, arguments) => {
                let mut params = GetPromptRequestParams::new(*prompt);
                params.arguments = Some(arguments.clone());
                answer(self.client.get_prompt(params).await)
            }
            Request::Read(uri) => answer(self.client.read_resource(ReadResourceRequestParams::new(uri)).await),
            Request::Complete(params) => {
                answer(self.client.complete(serde_json::from_value(params.clone()).unwrap()).await)
            }
        };
        let steps = |tool: &str| match request {
            Request::Call(called, arguments) if *called == tool => {
                usize::try_from(arguments["steps"].as_u64().unwrap()).unwrap()
            }
            _ => 0,
        };
        let (progress, logs) = (steps("progresses"), if self.logs { steps("logs") } else { 0 });
        self.until(|told| told.progress.len() >= progress && told.logs.len() >= logs).await;
        let told = std::mem::take(&mut *self.client.service().told.lock().unwrap());
        seen["progress"] = json!(told.progress);
        seen["logs"] = json!(told.logs);
        seen
    }

    /// Waits until so much was told, or long enough.
    async fn until(&self, enough: impl Fn(&Told) -> bool) {
        let patience = if self.lost.load(Ordering::Relaxed) { AFTER_A_LOSS } else { ON_ITS_WAY };
        let deadline = Instant::now() + patience;
        while !enough(&self.client.service().told.lock().unwrap()) {
            if Instant::now() > deadline {
                return self.lost.store(true, Ordering::Relaxed);
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// Calls a tool that asks its caller's model something.
    pub(crate) async fn asked(url: &str) -> Value {
        let ears = Ears { answers: true, ..Ears::default() };
        let visit = Self::with(url, ClientLifecycleMode::Initialize, ears).await;
        let seen = answer(visit.client.call_tool(CallToolRequestParams::new("asks")).await);
        visit.close().await;
        seen
    }

    /// Subscribes to everything, touches the server, and tells what was told and whether the new tool is listed then.
    pub(crate) async fn follow(url: String, lifecycle: ClientLifecycleMode) -> Value {
        let visit = Self::open(&url, lifecycle).await;
        let touch = || async { visit.client.call_tool(CallToolRequestParams::new("touch")).await.unwrap() };
        let mut updated = Vec::new();
        if visit.modern {
            let filter = SubscriptionFilter::builder().tools_list_changed().resource_subscriptions([WATCHED]).build();
            let mut subscription = visit.client.listen(filter).await.unwrap();
            touch().await;
            let mut changed = 0;
            while updated.is_empty() || changed == 0 {
                let next = tokio::time::timeout(ON_ITS_WAY, subscription.next()).await;
                match next.expect("both changes are told").unwrap().expect("the stream goes on") {
                    ServerNotification::ResourceUpdatedNotification(update) => updated.push(json!(update.params.uri)),
                    ServerNotification::ToolListChangedNotification(_) => changed += 1,
                    other => panic!("{other:?}"),
                }
            }
        } else {
            visit.client.subscribe(SubscribeRequestParams::new(WATCHED)).await.unwrap();
            touch().await;
            visit.until(|told| !told.updated.is_empty() && told.changed > 0).await;
            updated = visit.client.service().told.lock().unwrap().updated.clone();
        }
        let late = visit.client.list_all_tools().await.unwrap().iter().any(|tool| tool.name == "late");
        visit.close().await;
        json!({"updated": updated, "late": late})
    }
}

/// A list, without what a gateway adds to each of its items.
fn items(listed: Result<Vec<impl Serialize>, ServiceError>) -> Value {
    let listed = listed.map(|items| {
        let mut items = json!(items);
        for item in items.as_array_mut().unwrap() {
            let meta = item.get_mut("_meta").and_then(Value::as_object_mut);
            if let Some(meta) = meta
                && meta.remove("com.brainwav.cortex/connector").is_some()
                && meta.remove("com.brainwav.cortex/path").is_some()
                && meta.is_empty()
            {
                item.as_object_mut().unwrap().remove("_meta");
            }
        }
        json!({"items": items})
    });
    answer(listed)
}

fn answer(answer: Result<impl Serialize, ServiceError>) -> Value {
    match answer {
        Ok(result) => json!({"result": result}),
        Err(ServiceError::McpError(error)) => json!({"error": error}),
        Err(error) => json!({"failed": error.to_string()}),
    }
}
