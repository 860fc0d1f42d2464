//! rmcp, the Rust SDK, on both sides of the matrix: a server of either era, and a client of each lifecycle that obeys
//! the orders that the scripts obey.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, GetPromptRequestParams, JsonObject, ListToolsResult,
    PaginatedRequestParams, ProtocolVersion, ReadResourceRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{ClientLifecycleMode, RequestContext, RoleClient, RoleServer, RunningService, ServiceError};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ClientServiceExt, ErrorData, ServerHandler};
use serde::Serialize;
use serde_json::{Value, json};

use super::processes::{PATIENCE, Service};

/// A server with one tool, which answers with its arguments. Its schema puts an argument into a header.
#[derive(Clone)]
struct Echo;

impl ServerHandler for Echo {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
        let schema: JsonObject = serde_json::from_value(schema).unwrap();
        Ok(ListToolsResult::with_all_items(vec![Tool::new("echo", "Echoes.", Arc::new(schema))]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::structured(Value::Object(request.arguments.unwrap_or_default())).into())
    }
}

/// An rmcp server: of both eras, or with sessions and nothing but the legacy one. There is a page at `/page` as well.
pub(crate) fn server(modern: bool) -> Service {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = !modern;
    let service = StreamableHttpService::new(|| Ok(Echo), Arc::new(LocalSessionManager::default()), config);
    let endpoint = Router::new().route_service("/mcp", service);
    let endpoint = if modern { endpoint } else { endpoint.layer(from_fn(legacy_only)) };
    Service::started(endpoint.route("/page", get(|| async { "This is the page.\n" })))
}

/// Answers modern requests as servers did that knew nothing of them.
async fn legacy_only(request: Request, next: Next) -> Response {
    let modern = ProtocolVersion::V_2026_07_28.to_string();
    if request.headers().get("mcp-protocol-version").is_some_and(|version| version.as_bytes() == modern.as_bytes()) {
        return (StatusCode::BAD_REQUEST, "Bad Request: Unsupported protocol version").into_response();
    }
    next.run(request).await
}

/// A lifecycle of the client.
pub(crate) fn lifecycle(name: &str) -> ClientLifecycleMode {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    match name {
        "initialize" => ClientLifecycleMode::Initialize,
        "discover" => ClientLifecycleMode::Discover { preferred_versions },
        _ => ClientLifecycleMode::Auto { preferred_versions, legacy_version: Some(ProtocolVersion::V_2025_11_25) },
    }
}

/// Obeys an order and returns what it saw, both as the scripts have them.
pub(crate) fn obey(order: &Value, lifecycle: ClientLifecycleMode) -> Result<Value, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let all = async {
        let url = order["server"]["url"].as_str().unwrap().to_owned();
        let transport = StreamableHttpClientTransport::from_uri(url);
        let client = ().serve_with_lifecycle(transport, lifecycle).await.map_err(|error| error.to_string())?;
        let saw = look(order, &client).await;
        client.cancel().await.map_err(|error| error.to_string())?;
        saw.map_err(|error| error.to_string())
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, all).await.map_err(|late| late.to_string())? })
}

async fn look(order: &Value, client: &RunningService<RoleClient, ()>) -> Result<Value, ServiceError> {
    let mut saw = json!({ "tools": client.list_all_tools().await? });
    let capabilities = client.peer_info().map(|server| server.capabilities.clone()).unwrap_or_default();
    if capabilities.prompts.is_some() {
        saw["prompts"] = json!(client.list_all_prompts().await?);
    }
    if capabilities.resources.is_some() {
        saw["resources"] = json!(client.list_all_resources().await?);
        saw["resourceTemplates"] = json!(client.list_all_resource_templates().await?);
    }
    for (member, orders) in [("called", "calls"), ("prompted", "prompts"), ("read", "resources")] {
        let mut outcomes = Vec::new();
        for one in order[orders].as_array().into_iter().flatten() {
            let name = one["name"].as_str().unwrap_or_default().to_owned();
            let arguments = one["arguments"].as_object().cloned().unwrap_or_default();
            outcomes.push(match member {
                "called" => {
                    outcome(client.call_tool(CallToolRequestParams::new(name).with_arguments(arguments)).await)?
                }
                "prompted" => {
                    outcome(client.get_prompt(GetPromptRequestParams::new(name).with_arguments(arguments)).await)?
                }
                _ => outcome(client.read_resource(ReadResourceRequestParams::new(one.as_str().unwrap())).await)?,
            });
        }
        saw[member] = json!(outcomes);
    }
    Ok(saw)
}

fn outcome(answer: Result<impl Serialize, ServiceError>) -> Result<Value, ServiceError> {
    match answer {
        Ok(result) => Ok(json!(result)),
        Err(ServiceError::McpError(error)) => Ok(json!({"error": {"code": error.code.0, "message": error.message}})),
        Err(error) => Err(error),
    }
}
