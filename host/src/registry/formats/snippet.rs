//! What makes a program use this gateway: the one entry that its file needs.
//!
//! A token never stands in a snippet: the client takes it from a variable, asks for it, or a placeholder says where to
//! write it.

use serde_json::{Map, Value, json};
use url::Url;

use super::clients::ExportFormat;
use super::export::{ExportNote, ExportRemark, Exported, bridge, remote, written};
use super::names::shown;

/// The snippet that points a client at the gateway's endpoint `/mcp`, streamable HTTP.
///
/// `gateway` is the gateway's address; `/mcp` is added unless its path ends with that. With a `token_variable`, the
/// client sends the token that this environment variable holds.
pub fn snippet(client: ExportFormat, gateway: &Url, token_variable: Option<&str>) -> Exported {
    let address = endpoint(gateway);
    let mut notes = Vec::new();
    if client == ExportFormat::ClaudeDesktop {
        notes.push(ExportRemark::Bridged);
    }
    let (server, inputs) = match client {
        ExportFormat::Registry => (registry_entry(&address, token_variable), None),
        ExportFormat::ClaudeDesktop => (desktop(&address, token_variable), None),
        ExportFormat::Codex => (codex(&address, token_variable), None),
        _ => {
            let mut server = remote(client, "http", &address);
            if let Some(variable) = token_variable {
                server.insert("headers".to_owned(), json!({ "Authorization": authorization(client, variable) }));
            }
            let inputs = token_variable.filter(|_| client == ExportFormat::VsCode).map(inputs);
            (server, inputs)
        }
    };
    if let Some(variable) = token_variable {
        let variable = shown(variable);
        notes.push(match client {
            ExportFormat::VsCode => ExportRemark::AsksToken,
            _ if replaces_variables(client) => ExportRemark::SetToken { variable },
            _ => ExportRemark::WriteToken { variable, placeholder: PLACEHOLDER },
        });
    }
    let servers = match client {
        ExportFormat::Registry => json!([server]),
        _ => json!({ NAME: server }),
    };
    let mut document = Map::new();
    if let Some(inputs) = inputs {
        document.insert("inputs".to_owned(), inputs);
    }
    document.insert(client.root().to_owned(), servers);
    let notes = notes.into_iter().map(|remark| ExportNote { server: None, remark }).collect();
    Exported { text: written(client, &Value::Object(document)), notes }
}

/// What the gateway is called in a client's file.
const NAME: &str = "cortex-mcp";

/// What a person replaces by the token.
const PLACEHOLDER: &str = "YOUR-TOKEN";

/// The path that the gateway serves MCP at.
const PATH: &str = "/mcp";

/// The input that VS Code asks for.
const INPUT: &str = "cortex-mcp-token";

/// The variable that holds the bridge's header.
const BRIDGE_HEADER: &str = "CORTEX_MCP_AUTHORIZATION";

fn endpoint(gateway: &Url) -> String {
    let path = gateway.path().trim_end_matches('/');
    let mut address = gateway.clone();
    address.set_path(&if path.ends_with(PATH) { path.to_owned() } else { format!("{path}{PATH}") });
    address.into()
}

/// Whether a client puts the values of variables into its file by itself.
fn replaces_variables(client: ExportFormat) -> bool {
    !matches!(client, ExportFormat::Registry | ExportFormat::ClaudeDesktop | ExportFormat::Zed)
}

/// The header's value, with the token in the client's way of saying it.
fn authorization(client: ExportFormat, variable: &str) -> String {
    match client {
        ExportFormat::VsCode => format!("Bearer ${{input:{INPUT}}}"),
        ExportFormat::Cursor | ExportFormat::Windsurf => format!("Bearer ${{env:{variable}}}"),
        _ if replaces_variables(client) => format!("Bearer ${{{variable}}}"),
        _ => format!("Bearer {PLACEHOLDER}"),
    }
}

fn inputs(variable: &str) -> Value {
    let description = format!("Token of the gateway cortex-mcp ({})", shown(variable));
    json!([{ "type": "promptString", "id": INPUT, "description": description, "password": true }])
}

fn registry_entry(address: &str, token_variable: Option<&str>) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("name".to_owned(), NAME.into());
    entry.insert("transport".to_owned(), "http".into());
    entry.insert("endpoint".to_owned(), address.into());
    if let Some(variable) = token_variable {
        let authorization = authorization(ExportFormat::Registry, variable);
        entry.insert("headers".to_owned(), json!({ "Authorization": authorization }));
    }
    entry
}

fn desktop(address: &str, token_variable: Option<&str>) -> Map<String, Value> {
    let mut args = bridge(address, "http");
    let mut member = Map::new();
    member.insert("command".to_owned(), "npx".into());
    if let Some(variable) = token_variable {
        // Without a space: some clients split arguments at spaces.
        args.extend(["--header".to_owned(), format!("Authorization:${{{BRIDGE_HEADER}}}")]);
        let authorization = authorization(ExportFormat::ClaudeDesktop, variable);
        member.insert("env".to_owned(), json!({ BRIDGE_HEADER: authorization }));
    }
    member.insert("args".to_owned(), args.into());
    member
}

fn codex(address: &str, token_variable: Option<&str>) -> Map<String, Value> {
    let mut member = remote(ExportFormat::Codex, "http", address);
    if let Some(variable) = token_variable {
        member.insert("bearer_token_env_var".to_owned(), variable.into());
    }
    member
}
