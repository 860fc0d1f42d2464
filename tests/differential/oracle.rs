//! An rmcp server that has everything: tools of all kinds, prompts, resources, templates, completions, subscriptions.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use rmcp::model::*;
use rmcp::service::{NotificationContext, Peer, RequestContext, RoleServer, SubscriptionContext};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ErrorData, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::broadcast;

use super::processes::Service;

/// How many tools it has, before `late` comes.
pub(crate) const TOOLS: usize = 8;

/// The resource that changes when it is touched.
pub(crate) const WATCHED: &str = "mem://watched";

/// Which eras it speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Eras {
    /// Sessions, and nothing modern.
    Legacy,
    /// Both.
    Both,
}

/// The server, running.
pub(crate) struct Oracle {
    service: Service,
    shared: Arc<Shared>,
}

impl Oracle {
    pub(crate) fn start(eras: Eras) -> Self {
        let shared = Arc::new(Shared::default());
        let handler = Handler(shared.clone());
        let config = StreamableHttpServerConfig::default();
        let service =
            StreamableHttpService::new(move || Ok(handler.clone()), Arc::new(LocalSessionManager::default()), config);
        let router = Router::new().route_service("/mcp", service);
        let router = if eras == Eras::Legacy { router.layer(from_fn(legacy_only)) } else { router };
        Self { service: Service::started(router), shared }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/mcp", self.service.address())
    }

    /// Takes back what was touched.
    pub(crate) fn forget(&self) {
        self.shared.late.store(false, Ordering::SeqCst);
        self.shared.peers.lock().unwrap().clear();
        self.shared.subscribed.lock().unwrap().clear();
    }
}

/// Answers modern requests as servers did that knew nothing of them.
async fn legacy_only(request: Request, next: Next) -> Response {
    let modern = ProtocolVersion::V_2026_07_28.to_string();
    if request.headers().get("mcp-protocol-version").is_some_and(|version| version.as_bytes() == modern.as_bytes()) {
        return (StatusCode::BAD_REQUEST, "Bad Request: Unsupported protocol version").into_response();
    }
    next.run(request).await
}

/// What all its sessions share.
struct Shared {
    late: AtomicBool,
    changes: broadcast::Sender<Change>,
    peers: Mutex<Vec<Peer<RoleServer>>>,
    subscribed: Mutex<Vec<(Peer<RoleServer>, String)>>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            late: AtomicBool::new(false),
            changes: broadcast::channel(64).0,
            peers: Mutex::default(),
            subscribed: Mutex::default(),
        }
    }
}

#[derive(Clone, Debug)]
enum Change {
    Watched,
    Tools,
}

#[derive(Clone)]
struct Handler(Arc<Shared>);

fn typed<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

/// A result of the modern era; rmcp takes the type out again where a client is legacy.
fn complete<T: DeserializeOwned>(mut value: Value) -> T {
    value["resultType"] = json!("complete");
    typed(value)
}

fn tools(late: bool) -> Vec<Tool> {
    let any = json!({"type": "object"});
    let mut tools = json!([
        {
            "name": "echo", "title": "Echo, with everything", "description": "Answers with its arguments. ☃",
            "inputSchema": {
                "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
                "properties": {"region": {"type": "string", "x-mcp-header": "Region"}, "zeta": {}, "alpha": {"default": 1.5}}
            },
            "outputSchema": {"type": "object", "additionalProperties": true},
            "annotations": {"title": "E", "readOnlyHint": true, "destructiveHint": false, "idempotentHint": true, "openWorldHint": false},
            "icons": [{"src": "data:image/png;base64,AAAA", "mimeType": "image/png", "sizes": ["48x48"]}],
            "_meta": {"com.example/odd": [1, 2.5, null, {"": "x"}]}
        },
        {"name": "content", "inputSchema": any},
        {"name": "fails", "inputSchema": any},
        {"name": "refuses", "inputSchema": any},
        {"name": "progresses", "inputSchema": any},
        {"name": "logs", "inputSchema": any},
        {"name": "asks", "inputSchema": any},
        {"name": "touch", "inputSchema": any}
    ]);
    if late {
        tools.as_array_mut().unwrap().push(json!({"name": "late", "inputSchema": any}));
    }
    typed(tools)
}

fn number(arguments: &JsonObject, name: &str) -> i64 {
    arguments.get(name).and_then(Value::as_i64).unwrap_or_default()
}

fn unknown(what: &str, name: &str) -> ErrorData {
    ErrorData::invalid_params(format!("Unknown {what}: {name}"), None)
}

/// Content of every kind, so many blocks of it.
fn content(count: i64) -> CallToolResult {
    let kinds = [
        json!({"type": "text", "text": "é\u{2028}\u{0}", "annotations": {"audience": ["user"], "priority": 0.5}}),
        json!({"type": "image", "data": "AAAA", "mimeType": "image/png", "_meta": {"com.example/a": 1}}),
        json!({"type": "audio", "data": "BBBB", "mimeType": "audio/wav"}),
        json!({"type": "resource_link", "uri": "mem://text", "name": "text", "size": 7}),
        json!({"type": "resource", "resource": {"uri": "mem://text", "mimeType": "text/plain", "text": "embedded"}}),
        json!({"type": "resource", "resource": {"uri": "mem://blob", "blob": "AAAA"}}),
    ];
    let blocks: Vec<_> = kinds.into_iter().cycle().take(usize::try_from(count).unwrap()).collect();
    complete(json!({"content": blocks, "_meta": {"com.example/count": count}}))
}

#[allow(deprecated, reason = "what is deprecated is still spoken")]
impl Handler {
    async fn progress(&self, arguments: &JsonObject, context: &RequestContext<RoleServer>) {
        let Some(token) = context.meta.get_progress_token() else { return };
        let steps = number(arguments, "steps");
        for step in 1..=steps {
            let mut notice = ProgressNotificationParam::new(token.clone(), step as f64);
            notice.total = (step % 2 == 0).then_some(steps as f64);
            notice.message = (step % 3 != 0).then(|| format!("step {step} ☃"));
            context.peer.notify_progress(notice).await.unwrap();
        }
    }

    async fn log(&self, arguments: &JsonObject, context: &RequestContext<RoleServer>) {
        let levels = [LoggingLevel::Debug, LoggingLevel::Info, LoggingLevel::Warning, LoggingLevel::Emergency];
        for (step, level) in (0..number(arguments, "steps")).zip(levels.into_iter().cycle()) {
            let data = json!({"step": step, "of": arguments});
            let notice = LoggingMessageNotificationParam::new(level, data).with_logger("oracle");
            context.peer.notify_logging_message(notice).await.unwrap();
        }
    }

    async fn touch(&self) {
        self.0.late.store(true, Ordering::SeqCst);
        // Nobody may listen.
        let _ = self.0.changes.send(Change::Watched);
        let _ = self.0.changes.send(Change::Tools);
        let (subscribed, peers) = (self.0.subscribed.lock().unwrap().clone(), self.0.peers.lock().unwrap().clone());
        for (peer, uri) in subscribed {
            let _ = peer.notify_resource_updated(ResourceUpdatedNotificationParam::new(uri)).await;
        }
        for peer in peers {
            let _ = peer.notify_tool_list_changed().await;
        }
    }
}

#[allow(deprecated, reason = "what is deprecated is still spoken")]
impl ServerHandler for Handler {
    fn get_info(&self) -> ServerConfig {
        let capabilities = json!({
            "tools": {"listChanged": true}, "prompts": {"listChanged": true}, "completions": {}, "logging": {},
            "resources": {"subscribe": true, "listChanged": true}
        });
        ServerConfig::new(typed(capabilities))
    }

    async fn on_initialized(&self, context: NotificationContext<RoleServer>) {
        self.0.peers.lock().unwrap().push(context.peer);
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(tools(self.0.late.load(Ordering::SeqCst))))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let done = |text: String| CallToolResult::success(vec![ContentBlock::text(text)]);
        let result = match request.name.as_ref() {
            "echo" => CallToolResult::structured(Value::Object(arguments)),
            "content" => content(number(&arguments, "count")),
            "fails" => CallToolResult::error(vec![ContentBlock::text(format!("failed: {arguments:?}"))]),
            "refuses" => {
                let code = i32::try_from(number(&arguments, "code")).unwrap();
                let message = arguments.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
                return Err(ErrorData::new(ErrorCode(code), message, arguments.get("data").cloned()));
            }
            "progresses" => {
                self.progress(&arguments, &context).await;
                done("progressed".to_owned())
            }
            "logs" => {
                self.log(&arguments, &context).await;
                done("logged".to_owned())
            }
            "asks" => {
                let messages = json!([
                    {"role": "user", "content": {"type": "text", "text": "what is it?"}},
                    {"role": "assistant", "content": {"type": "text", "text": "what is what?"}}
                ]);
                let question = typed(json!({"messages": messages, "maxTokens": 100, "systemPrompt": "☃"}));
                match context.peer.create_message(question).await {
                    Ok(said) => done(format!("the model says: {}", said.model)),
                    Err(error) => CallToolResult::error(vec![ContentBlock::text(error.to_string())]),
                }
            }
            "touch" => {
                self.touch().await;
                done("touched".to_owned())
            }
            name => return Err(unknown("tool", name)),
        };
        Ok(result.into())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        Ok(ListPromptsResult::with_all_items(typed(json!([
            {
                "name": "greet", "title": "Greeting", "description": "Greets.", "_meta": {"com.example/p": true},
                "arguments": [
                    {"name": "whom", "title": "Whom", "description": "who", "required": true}, {"name": "how"}
                ]
            },
            {"name": "plain"}
        ]))))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let arguments = request.arguments.unwrap_or_default();
        let text = json!({"role": "user", "content": {"type": "text", "text": format!("{arguments:?}")}});
        let linked = json!({
            "role": "assistant",
            "content": {"type": "resource", "resource": {"uri": "mem://text", "text": "x"}}
        });
        let result = match request.name.as_str() {
            "greet" if !arguments.contains_key("whom") => {
                return Err(ErrorData::invalid_params("whom is missing", Some(json!({"argument": "whom"}))));
            }
            "greet" => json!({"description": "A greeting", "messages": [text, linked]}),
            "plain" => json!({"messages": [text]}),
            name => return Err(unknown("prompt", name)),
        };
        Ok(complete::<GetPromptResult>(result).into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        Ok(ListResourcesResult::with_all_items(typed(json!([
            {
                "uri": "mem://text", "name": "text", "title": "Text", "description": "A text", "mimeType": "text/plain",
                "size": 4, "annotations": {"audience": ["assistant"], "priority": 1.0}
            },
            {"uri": "mem://blob", "name": "blob", "_meta": {"com.example/r": {"a": []}}},
            {"uri": WATCHED, "name": "watched"}
        ]))))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(ListResourceTemplatesResult::with_all_items(typed(json!([
            {"uriTemplate": "mem://items/{id}", "name": "items", "description": "Items", "mimeType": "text/plain"}
        ]))))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let contents = match uri {
            "mem://text" | WATCHED => json!([
                {"uri": uri, "mimeType": "text/plain", "text": "text ☃"},
                {"uri": uri, "text": "", "_meta": {"com.example/c": 1}}
            ]),
            "mem://blob" => json!([{"uri": uri, "mimeType": "application/octet-stream", "blob": "AAECAw=="}]),
            _ => match uri.strip_prefix("mem://items/") {
                Some(id) => json!([{"uri": uri, "text": format!("item {id}")}]),
                None => return Err(ErrorData::resource_not_found("Resource not found", Some(json!({"uri": uri})))),
            },
        };
        Ok(complete::<ReadResourceResult>(json!({"contents": contents})).into())
    }

    async fn complete(
        &self,
        request: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        let of = match &request.r#ref {
            Reference::Prompt(prompt) => prompt.name.clone(),
            Reference::Resource(template) => template.uri.clone(),
            other => return Err(unknown("reference", other.reference_type())),
        };
        let context = request.context.map(|context| json!(context).to_string()).unwrap_or_default();
        let values = [of, request.argument.name, request.argument.value, context];
        Ok(complete(json!({"completion": {"values": values, "total": 4, "hasMore": false}})))
    }

    async fn set_level(&self, _: SetLevelRequestParams, _: RequestContext<RoleServer>) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn subscribe(
        &self,
        request: SubscribeRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.subscribed.lock().unwrap().push((context.peer, request.uri));
        Ok(())
    }

    async fn unsubscribe(
        &self,
        request: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.0.subscribed.lock().unwrap().retain(|(_, uri)| *uri != request.uri);
        Ok(())
    }

    fn accepted_subscription_filter(&self, requested: &SubscriptionFilter) -> Option<SubscriptionFilter> {
        Some(requested.clone())
    }

    async fn listen(&self, context: SubscriptionContext) -> Result<(), ErrorData> {
        let mut changes = self.0.changes.subscribe();
        loop {
            tokio::select! {
                () = context.cancelled() => return Ok(()),
                change = changes.recv() => {
                    let Ok(change) = change else { return Ok(()) };
                    // What this stream did not ask for is refused by its sink.
                    let _ = match change {
                        Change::Watched => context.sink().notify_resource_updated(WATCHED).await,
                        Change::Tools => context.sink().notify_tool_list_changed().await,
                    };
                }
            }
        }
    }
}
