//! What is written for other programs, and what is never written.

use serde_json::{Map, Value, json};
use url::Url;

use super::clients::environment;
use crate::registry::formats::{
    ExportFormat, ExportRemark, Exported, ImportFormat, ImportedReferences, Secrets, export, import, snippet,
};

fn entries(values: &[Value]) -> Vec<Map<String, Value>> {
    values.iter().map(|value| value.as_object().unwrap().clone()).collect()
}

fn sample() -> Vec<Map<String, Value>> {
    entries(&[
        json!({"name": "wiki", "transport": "http", "endpoint": "https://a/mcp", "headers": {"K": "v"}, "team": "x",
            "rev": {"wallMs": 1, "counter": 0, "writer": "w"}}),
        json!({"name": "files", "transport": "stdio", "command": "npx", "args": ["-y", "f"], "env": {"E": "e"},
            "cwd": "/a"}),
        json!({"name": "old.events", "transport": "sse", "endpoint": "https://a/sse"}),
        json!({"name": "socket", "transport": "ws", "endpoint": "wss://a/mcp"}),
    ])
}

fn document(exported: &Exported) -> Value {
    serde_json::from_str(&exported.text).unwrap()
}

fn remarks(exported: &Exported, server: &str) -> Vec<ExportRemark> {
    let of = exported.notes.iter().filter(|note| note.server.as_deref() == Some(server));
    of.map(|note| note.remark.clone()).collect()
}

#[test]
fn each_client_gets_its_own_words() {
    let revealed = |format| document(&export(&sample(), format, Secrets::Revealed));
    let files = json!({"command": "npx", "args": ["-y", "f"], "env": {"E": "e"}, "cwd": "/a"});
    let wiki = json!({"url": "https://a/mcp", "headers": {"K": "v"}, "team": "x"});
    let cursor = revealed(ExportFormat::Cursor);
    assert_eq!(
        cursor,
        json!({"mcpServers": {"wiki": wiki, "files": files,
        "old.events": {"type": "sse", "url": "https://a/sse"}, "socket": {"type": "ws", "url": "wss://a/mcp"}}})
    );
    assert_eq!(revealed(ExportFormat::Gemini)["mcpServers"]["wiki"]["httpUrl"], json!("https://a/mcp"));
    assert_eq!(revealed(ExportFormat::Gemini)["mcpServers"]["old.events"]["url"], json!("https://a/sse"));
    assert_eq!(revealed(ExportFormat::Windsurf)["mcpServers"]["wiki"]["serverUrl"], json!("https://a/mcp"));
    assert_eq!(revealed(ExportFormat::Zed)["context_servers"]["wiki"], wiki);
    assert_eq!(revealed(ExportFormat::VsCode)["servers"]["files"]["type"], json!("stdio"));
    assert_eq!(revealed(ExportFormat::ClaudeCode)["mcpServers"]["wiki"]["type"], json!("http"));
    let registry = revealed(ExportFormat::Registry);
    let mut own = sample();
    own[0].shift_remove("rev");
    assert_eq!(registry, json!({ "servers": own }));
}

#[test]
fn claude_desktop_gets_a_bridge_and_header_values_stay_off_its_command_line() {
    let exported = export(&sample(), ExportFormat::ClaudeDesktop, Secrets::Revealed);
    let servers = &document(&exported)["mcpServers"];
    let args = json!(["-y", "mcp-remote", "https://a/mcp", "--header", "K:${MCP_REMOTE_HEADER_1}"]);
    let wiki = json!({"command": "npx", "args": args,
        "env": {"MCP_REMOTE_HEADER_1": "v"}, "team": "x"});
    assert_eq!(servers["wiki"], wiki);
    let events = json!(["-y", "mcp-remote", "https://a/sse", "--transport", "sse-only"]);
    assert_eq!(servers["old.events"]["args"], events);
    assert_eq!(remarks(&exported, "wiki"), [ExportRemark::Bridged]);
    assert_eq!(remarks(&exported, "socket"), [ExportRemark::NotSpoken { transport: "ws" }]);
    let back = import(exported.text.as_bytes(), None, ImportedReferences::Refused, &environment).unwrap();
    assert_eq!((back.servers.len(), back.skipped.len()), (4, 0), "{back:?}");
}

#[test]
fn codex_gets_toml_with_its_own_names() {
    let mut entries = sample();
    entries[0].insert("disabled".to_owned(), json!(true));
    entries[1].insert("startup_timeout_sec".to_owned(), json!(20));
    entries[1].insert("tool_timeout_sec".to_owned(), json!(u64::MAX));
    let exported = export(&entries, ExportFormat::Codex, Secrets::Revealed);
    let read: Value = toml::from_str(&exported.text).unwrap();
    let servers = json!({"mcp_servers": {
        "wiki": {"url": "https://a/mcp", "http_headers": {"K": "v"}, "enabled": false},
        "files": {"command": "npx", "args": ["-y", "f"], "env": {"E": "e"}, "cwd": "/a", "startup_timeout_sec": 20},
        "old-events": {"url": "https://a/sse"}, "socket": {"url": "wss://a/mcp"}}});
    assert_eq!(read, servers);
    assert_eq!(remarks(&exported, "wiki"), [ExportRemark::LeftOut { field: "team".to_owned() }]);
    assert_eq!(remarks(&exported, "files"), [ExportRemark::LeftOut { field: "tool_timeout_sec".to_owned() }]);
    let renamed = ExportRemark::Renamed { to: "old-events".to_owned() };
    assert_eq!(remarks(&exported, "old.events"), [renamed, ExportRemark::NotSpoken { transport: "sse" }]);
}

#[test]
fn hidden_secrets_are_stars_and_the_note_says_what_to_do() {
    for format in ExportFormat::ALL {
        let mut entries = sample();
        entries[0]["headers"] = json!({"K": "s3cr3t"});
        entries[1]["env"] = json!({"E": "s3cr3t"});
        entries[2].insert("clientSecret".to_owned(), json!("s3cr3t"));
        let exported = export(&entries, format, Secrets::Hidden);
        assert!(!exported.text.contains("s3cr3t") && exported.text.contains("***"), "{format}");
        assert!(remarks(&exported, "wiki").contains(&ExportRemark::Hidden), "{format}");
        assert!(!remarks(&exported, "socket").contains(&ExportRemark::Hidden), "{format}");
        assert!(exported.notes.iter().any(|note| note.remark == ExportRemark::ArgumentsShown), "{format}");
    }
}

#[test]
fn what_a_file_has_no_place_for_is_noted() {
    let exported = export(
        &entries(&[
            json!({"name": "a", "transport": "stdio", "command": "x", "url": 1, "headers": {}, "args": ["${X}"]}),
            json!({"name": "b"}),
            json!({"transport": "stdio"}),
        ]),
        ExportFormat::Cursor,
        Secrets::Revealed,
    );
    let left_out = |field: &str| ExportRemark::LeftOut { field: field.to_owned() };
    let may_be = ExportRemark::MayBeReplaced { field: "args".to_owned() };
    assert_eq!(remarks(&exported, "a"), [may_be, left_out("url"), left_out("headers")]);
    assert_eq!(exported.notes.iter().filter(|note| note.remark == ExportRemark::Unreadable).count(), 2);
}

#[test]
fn formats_have_names_that_are_read_back() {
    for format in ExportFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
        assert!(!format.file().is_empty());
    }
    assert!("word".parse::<ExportFormat>().is_err());
    for format in ImportFormat::ALL {
        assert_eq!(format.to_string().parse(), Ok(format));
    }
}

#[test]
fn a_snippet_points_at_the_endpoint_and_says_where_the_token_comes_from() {
    let gateway = Url::parse("http://127.0.0.1:8400").unwrap();
    let text = |client| snippet(client, &gateway, Some("CORTEX_TOKEN")).text;
    for client in ExportFormat::ALL {
        assert!(text(client).contains("http://127.0.0.1:8400/mcp\""), "{client}");
        assert!(!snippet(client, &gateway, None).text.contains("uthorization"), "{client}");
        let with_path = Url::parse("https://g.example/base/mcp/").unwrap();
        assert!(snippet(client, &with_path, None).text.contains("https://g.example/base/mcp"), "{client}");
    }
    assert_eq!(
        serde_json::from_str::<Value>(&text(ExportFormat::ClaudeCode)).unwrap(),
        json!({"mcpServers": {"cortex-mcp": {"type": "http", "url": "http://127.0.0.1:8400/mcp",
            "headers": {"Authorization": "Bearer ${CORTEX_TOKEN}"}}}})
    );
    assert_eq!(
        text(ExportFormat::Codex),
        "[mcp_servers.cortex-mcp]\nurl = \"http://127.0.0.1:8400/mcp\"\nbearer_token_env_var = \"CORTEX_TOKEN\"\n"
    );
    assert!(text(ExportFormat::Cursor).contains("Bearer ${env:CORTEX_TOKEN}"));
    let code: Value = serde_json::from_str(&text(ExportFormat::VsCode)).unwrap();
    assert_eq!(code["inputs"][0]["id"], json!("cortex-mcp-token"));
    assert_eq!(code["servers"]["cortex-mcp"]["headers"]["Authorization"], json!("Bearer ${input:cortex-mcp-token}"));
    let desktop: Value = serde_json::from_str(&text(ExportFormat::ClaudeDesktop)).unwrap();
    assert_eq!(desktop["mcpServers"]["cortex-mcp"]["command"], json!("npx"));
    let notes: Vec<_> =
        snippet(ExportFormat::Zed, &gateway, Some("T")).notes.into_iter().map(|note| note.remark).collect();
    assert_eq!(notes, [ExportRemark::WriteToken { variable: "T".to_owned(), placeholder: "YOUR-TOKEN" }]);
}

#[test]
fn a_snippet_can_be_imported_like_any_file() {
    let gateway = Url::parse("https://g.example").unwrap();
    for client in ExportFormat::ALL.into_iter().filter(|client| *client != ExportFormat::Codex) {
        let preview =
            import(snippet(client, &gateway, None).text.as_bytes(), None, ImportedReferences::Refused, &environment)
                .unwrap();
        assert_eq!(preview.servers.len(), 1, "{client}: {:?}", preview.skipped);
    }
}
