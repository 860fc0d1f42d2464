//! rmcp, the Rust SDK, as the oracle: its client before the gateway's process, its server behind it, and both against
//! our own wire layer without a gateway between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;

use std::sync::Arc;

use axum::Router;
use cortex_mcp::demo::mcp_server::{AnswerStyle, McpServer, ServerEra, ServerOptions};
use cortex_mcp::edge::http::{HttpOptions, ReqwestHttp};
use cortex_mcp::mcp::{Declared, Era, Nobody, Outcome, RawObject, Upstream as Client};
use cortex_mcp::model::ListKind;
use processes::map::signed_map;
use processes::{Answer, MapOrigin, Service, World, wait_for_tools};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, JsonObject, ListToolsResult, PaginatedRequestParams,
    ProtocolVersion, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::{ClientLifecycleMode, RequestContext, RoleClient, RoleServer, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{ClientServiceExt, ErrorData, ServerHandler};
use serde_json::{Value, json};

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
        Ok(ListToolsResult::with_all_items(vec![Tool::new("echo", "Echoes.", Arc::new(schema()))]))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        Ok(CallToolResult::structured(Value::Object(request.arguments.unwrap_or_default())).into())
    }
}

fn schema() -> JsonObject {
    let schema = json!({"type": "object", "properties": {"region": {"type": "string", "x-mcp-header": "Region"}}});
    schema.as_object().unwrap().clone()
}

/// The three ways in which an rmcp server is run: sessions with event streams, and without sessions in both forms.
const WAYS: [(bool, bool); 3] = [(true, false), (false, true), (false, false)];

fn rmcp_server((sessions, json_answers): (bool, bool)) -> Service {
    let mut config = StreamableHttpServerConfig::default();
    config.legacy_session_mode = sessions;
    config.json_response = json_answers;
    let service = StreamableHttpService::new(|| Ok(Echo), Arc::new(LocalSessionManager::default()), config);
    Service::started(Router::new().route_service("/mcp", service))
}

fn lifecycles() -> [(ClientLifecycleMode, &'static str); 3] {
    let preferred_versions = vec![ProtocolVersion::V_2026_07_28];
    let legacy_version = Some(ProtocolVersion::V_2025_11_25);
    [
        (ClientLifecycleMode::Initialize, "initialize"),
        (ClientLifecycleMode::Discover { preferred_versions: preferred_versions.clone() }, "discover"),
        (ClientLifecycleMode::Auto { preferred_versions, legacy_version }, "auto"),
    ]
}

async fn rmcp_client(url: &str, lifecycle: ClientLifecycleMode) -> RunningService<RoleClient, ()> {
    ().serve_with_lifecycle(StreamableHttpClientTransport::from_uri(url.to_owned()), lifecycle).await.unwrap()
}

async fn sum(client: &RunningService<RoleClient, ()>, tool: &'static str) -> Option<Value> {
    let arguments = json!({"a": 40, "b": 2}).as_object().unwrap().clone();
    let result = client.call_tool(CallToolRequestParams::new(tool).with_arguments(arguments)).await.unwrap();
    result.structured_content
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

#[test]
fn an_rmcp_client_lists_and_calls_through_the_gateway_in_every_lifecycle() {
    let world = World::new(2);
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 6);
    runtime().block_on(async {
        for (lifecycle, name) in lifecycles() {
            let client = rmcp_client(&gateway.url(), lifecycle).await;
            let tools = client.list_all_tools().await.unwrap();
            let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
            assert_eq!((names.len(), names[0], names[5]), (6, "server-01__echo", "server-02__uppercase"), "{name}");
            assert_eq!(sum(&client, "server-01__add").await, Some(json!({"sum": 42})), "{name}");
            assert_eq!(sum(&client, "server-02__add").await, Some(json!({"sum": 42})), "{name}");
            client.cancel().await.unwrap();
        }
    });
    let calls: u64 = world.upstreams.iter().map(|upstream| upstream.server.counts().calls).sum();
    assert_eq!(calls, 6);
}

#[test]
fn rmcp_servers_are_served_by_the_gateway_in_every_way_that_they_can_be_run() {
    let servers: Vec<_> = WAYS.map(rmcp_server).into_iter().collect();
    let entries: Vec<_> = ["sessions", "plain-json", "plain-stream"]
        .into_iter()
        .zip(&servers)
        .map(|(id, server)| (id.parse().unwrap(), format!("http://{}/mcp", server.address()).parse().unwrap()))
        .collect();
    let origin = MapOrigin::new(Answer::Document(signed_map(&entries, |_| {})));
    let world = World::scripted(0, &origin);
    let installation = world.installation();
    let gateway = installation.serve();
    let listed = wait_for_tools(&gateway, 3);
    assert_eq!(listed.names(), ["plain-json__echo", "plain-stream__echo", "sessions__echo"]);
    let tools: Vec<Value> = serde_json::from_str(&listed.tools).unwrap();
    assert!(tools.iter().all(|tool| tool["inputSchema"] == Value::Object(schema())), "{tools:?}");
    for name in listed.names() {
        let arguments = json!({"region": "Zürich ☃", "n": 12});
        let answer = gateway.client().call(&name, &arguments);
        assert_eq!(answer["result"]["structuredContent"], arguments, "{name}: {answer}");
    }
    runtime().block_on(async {
        for (lifecycle, name) in lifecycles() {
            let client = rmcp_client(&gateway.url(), lifecycle).await;
            for tool in ["sessions__echo", "plain-json__echo", "plain-stream__echo"] {
                assert_eq!(sum(&client, tool).await, Some(json!({"a": 40, "b": 2})), "{name} {tool}");
            }
            client.cancel().await.unwrap();
        }
    });
}

#[test]
fn our_client_speaks_both_eras_with_rmcp_servers() {
    runtime().block_on(async {
        for way in WAYS {
            let server = tokio::task::spawn_blocking(move || rmcp_server(way)).await.unwrap();
            let url = format!("http://{}/mcp", server.address()).parse().unwrap();
            let upstream =
                Client::new(Arc::new(ReqwestHttp::new(&HttpOptions::default()).unwrap()), url, http::HeaderMap::new());
            for (asked, got) in
                [(None, Era::Modern), (Some(Era::Modern), Era::Modern), (Some(Era::Legacy), Era::Legacy)]
            {
                let session = upstream.open(asked, &Declared::default()).await.unwrap();
                assert_eq!(session.era(), got, "{way:?} {asked:?}");
                let list = session.list(ListKind::Tools).await.unwrap();
                let tool = RawObject::parse(&list.items[0]).unwrap();
                assert_eq!((list.items.len(), tool.get_str("name").as_deref()), (1, Some("echo")));
                let params = r#"{"name":"echo","arguments":{"region":"Zürich"}}"#.parse().unwrap();
                let called = session.request("tools/call", params, &Nobody).await.unwrap();
                let Outcome::Result(result) = called else { panic!("{way:?} {asked:?}: {called:?}") };
                let result: Value = serde_json::from_str(result.get()).unwrap();
                assert_eq!(result["structuredContent"], json!({"region": "Zürich"}), "{way:?} {asked:?}");
                let unknown = session.request("no/such", RawObject::new(), &Nobody).await.unwrap();
                assert!(matches!(unknown, Outcome::Error(_)), "{way:?} {asked:?}: {unknown:?}");
                session.close().await;
            }
            tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
        }
    });
}

#[test]
fn rmcp_clients_take_the_demo_servers_for_what_they_say_they_are() {
    runtime().block_on(async {
        for era in [ServerEra::Modern, ServerEra::Legacy, ServerEra::Dual] {
            for answers in [AnswerStyle::Json, AnswerStyle::Sse] {
                let options =
                    ServerOptions { era, answers, tools: 7, page_size: Some(2), ttl_ms: Some(5), ..Default::default() };
                let server = McpServer::new(options);
                let router = server.router();
                let service = tokio::task::spawn_blocking(move || Service::started(router)).await.unwrap();
                let [.., (auto, _)] = lifecycles();
                let client = rmcp_client(&format!("http://{}/mcp", service.address()), auto).await;
                assert_eq!(client.list_all_tools().await.unwrap().len(), 7, "{era:?} {answers:?}");
                assert_eq!(sum(&client, "add").await, Some(json!({"sum": 42})), "{era:?} {answers:?}");
                client.cancel().await.unwrap();
                assert_eq!(server.counts().calls, 1, "{era:?} {answers:?}");
                tokio::task::spawn_blocking(move || drop(service)).await.unwrap();
            }
        }
    });
}
