//! The gateway as a client of the suite's servers: a driver starts it with the server's address as its only connector,
//! and makes it do what the scenario is about, as a client of either era that is made with rmcp.
//!
//! The driver is this very test binary, run again by the suite: the test `child_process_entry` obeys the environment,
//! and does nothing without it. It ends by itself, and the gateway with it.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use rmcp::model::{
    CallToolRequestParams, CallToolResult, ClientCapabilities, ClientConfig, ElicitRequestParams, ElicitResult,
    ElicitationAction, GetPromptRequestParams, Implementation, JsonObject, ProtocolVersion, ReadResourceRequestParams,
};
use rmcp::service::{ClientLifecycleMode, RequestContext, RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::{ClientHandler, ClientServiceExt, ErrorData};
use serde_json::{Value, json};

use super::processes::{Installation, Serving, until};
use super::runs;

/// The variable that makes this binary a driver.
const DRIVER: &str = "CORTEX_CONFORMANCE_DRIVER";

/// The file in the driver's folder that says that it did its work: the suite does not tell what became of its commands.
pub(crate) const DONE: &str = "done";

/// How long the gateway may take to know its server, and the driver to do its work: less than the suite waits.
const PATIENCE: Duration = Duration::from_secs(12);

/// Writes a command into a folder that makes a driver of this binary, and returns how it is called from there. The
/// suite splits commands at blanks, of which a path may have some.
pub(crate) fn command(folder: &Path) -> String {
    std::fs::create_dir_all(folder).unwrap();
    let (path, own) = (folder.join("driver"), std::env::current_exe().unwrap());
    let own = own.display().to_string().replace('\'', r"'\''");
    let how = "--exact child_process_entry --nocapture --test-threads=1";
    // The address is the last argument; to the test runner it is a name that no test has.
    std::fs::write(&path, format!("#!/bin/sh\n{DRIVER}=1 exec '{own}' {how} \"$@\"\n")).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
    "./driver".to_owned()
}

/// Does what the environment says, if it says anything.
pub(crate) fn obey() {
    if std::env::var_os(DRIVER).is_none() {
        return;
    }
    // No driver outlasts the suite, however that ends; a gateway ends with its driver, or with the suite's group.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
    let scenario = std::env::var("MCP_CONFORMANCE_SCENARIO").unwrap();
    let url = std::env::args().next_back().unwrap();
    let modern =
        std::env::var("MCP_CONFORMANCE_PROTOCOL_VERSION").unwrap() == ProtocolVersion::V_2026_07_28.to_string();

    let installation = Installation::new();
    let gateway = runs::serve(&installation, &url, pinned(&scenario));
    wait_for_the_server(&gateway);
    let listed = gateway.client().list().unwrap().names();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let work = async {
        let transport = StreamableHttpClientTransport::from_uri(gateway.url());
        let client = Caller.serve_with_lifecycle(transport, lifecycle(modern)).await.unwrap();
        drive(&scenario, &client, &listed).await;
        client.cancel().await.unwrap();
    };
    let done = runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await });
    if done.is_err() {
        // A gateway that is asked to end waits for the calls that are in flight.
        panic!("{scenario} was not done within {PATIENCE:?}:\n{}", gateway.kill().stderr);
    }
    let finished = gateway.stop();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    std::fs::write(DONE, "").unwrap();
}

/// Scenarios that count a legacy question as a fault of the client, because it has no modern metadata and no modern
/// headers. No other scenario judges it.
///
/// A server of which nothing is known is asked in both eras: first in the modern one, and, if it has not answered after
/// 25 ms, in the legacy one as well. So a client that knows nothing passes these two when the suite is quick, and fails
/// when the machine is busy. An operator who knows a server's era can say so, and then it is asked in that one only: for
/// these two the driver does.
const MODERN_QUESTIONS_ONLY: [&str; 2] = ["request-metadata", "http-standard-headers"];

/// What else is in the configuration.
fn pinned(scenario: &str) -> &'static str {
    if MODERN_QUESTIONS_ONLY.contains(&scenario) { "[connector.up]\nera = \"modern\"\n" } else { "" }
}

/// Waits until the gateway has the lists of its server.
fn wait_for_the_server(gateway: &Serving) {
    let client = gateway.client();
    until("the gateway knows its server", PATIENCE, || {
        let status = client.status();
        let up = status["connectors"].as_array()?.iter().find(|connector| connector["id"] == "up")?.clone();
        (up["contact"] == "up" && up["fetchedAt"].is_string()).then_some(())
    });
}

fn lifecycle(modern: bool) -> ClientLifecycleMode {
    if modern {
        ClientLifecycleMode::Discover { preferred_versions: vec![ProtocolVersion::V_2026_07_28] }
    } else {
        ClientLifecycleMode::Initialize
    }
}

/// A client whose user accepts whatever is asked: the defaults, and else yes.
struct Caller;

impl ClientHandler for Caller {
    fn get_info(&self) -> ClientConfig {
        let capabilities = ClientCapabilities::builder().enable_elicitation().build();
        ClientConfig::new(capabilities, Implementation::new("conformance-driver", "1"))
    }

    async fn create_elicitation(
        &self,
        request: ElicitRequestParams,
        _: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        let request = serde_json::to_value(request).unwrap();
        let fields = request["requestedSchema"]["properties"].as_object().cloned().unwrap_or_default();
        let answer = |schema: &Value| schema.get("default").cloned().unwrap_or(Value::Bool(true));
        let content = fields.iter().map(|(name, schema)| (name.clone(), answer(schema))).collect();
        Ok(ElicitResult::new(ElicitationAction::Accept).with_content(Value::Object(content)))
    }
}

/// What the driver speaks through.
type Client = RunningService<RoleClient, Caller>;

/// Does what a scenario is about.
async fn drive(scenario: &str, client: &Client, listed: &[String]) {
    let tools = client.list_all_tools().await.unwrap();
    let names: Vec<&str> = tools.iter().map(|tool| tool.name.as_ref()).collect();
    match scenario {
        "initialize" | "request-metadata" | "json-schema-ref-no-deref" => {}
        "tools_call" => call(client, "add_numbers", json!({ "a": 5, "b": 3 })).await,
        "elicitation-sep1034-client-defaults" => call(client, "test_client_elicitation_defaults", json!({})).await,
        "sse-retry" => call(client, "test_reconnection", json!({})).await,
        "json-schema-2020-12-preservation" => {
            let tool = tools.iter().find(|tool| tool.name == "json_schema_2020_12_tool").unwrap();
            call(client, "json_schema_echo", json!({ "schema": tool.input_schema })).await;
        }
        "sep-2322-client-request-state" => {
            let all = ["test_mrtr_echo_state", "test_mrtr_no_state", "test_mrtr_unrelated", "test_mrtr_no_result_type"];
            for tool in all {
                call(client, tool, json!({})).await;
            }
        }
        "http-standard-headers" => {
            for tool in names {
                call(client, tool, json!({})).await;
            }
            for resource in client.list_all_resources().await.unwrap() {
                client.read_resource(ReadResourceRequestParams::new(resource.uri.clone())).await.unwrap();
            }
            for prompt in client.list_all_prompts().await.unwrap() {
                client.get_prompt(GetPromptRequestParams::new(prompt.name.clone())).await.unwrap();
            }
        }
        "http-custom-headers" => {
            let context: Value = serde_json::from_str(&std::env::var("MCP_CONFORMANCE_CONTEXT").unwrap()).unwrap();
            for told in context["toolCalls"].as_array().unwrap() {
                call(client, told["name"].as_str().unwrap(), told["arguments"].clone()).await;
            }
        }
        "http-invalid-tool-headers" => {
            call(client, "valid_tool", json!({ "region": "eu" })).await;
            // rmcp leaves such tools out as well: what the gateway lists was asked for without it.
            assert_eq!(listed, ["valid_tool"]);
        }
        other => panic!("the suite has a new scenario: {other}"),
    }
}

async fn call(client: &Client, tool: &str, arguments: Value) {
    let arguments: JsonObject = serde_json::from_value(arguments).unwrap();
    let params = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
    let result: CallToolResult = client.call_tool(params).await.unwrap_or_else(|error| panic!("{tool}: {error}"));
    assert_ne!(result.is_error, Some(true), "{tool}: {result:?}");
}
