//! Files as clients write them, and what they become.

use serde_json::{Value, json};

use crate::registry::formats::{
    ImportError, ImportFormat, ImportedReferences, Note, Preview, SkipReason, Skipped, import,
};

pub(super) fn environment(name: &str) -> Option<String> {
    match name {
        "GITHUB_TOKEN" => Some("ghp_s3cr3t".to_owned()),
        "API_HOST" => Some("api.example.com".to_owned()),
        _ => None,
    }
}

pub(super) fn preview(text: &str) -> Preview {
    import(text.as_bytes(), None, ImportedReferences::Refused, &environment).unwrap()
}

/// The entries of a file that has nothing to skip.
fn entries(text: &str) -> Vec<Value> {
    let preview = preview(text);
    assert_eq!(preview.skipped, [], "{text}");
    preview.servers.into_iter().map(|server| Value::Object(server.entry)).collect()
}

#[test]
fn claude_desktops_file_is_read() {
    let text = r#"{
      "globalShortcut": "Ctrl+Space",
      "mcpServers": {
        "filesystem": {
          "command": "npx",
          "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/u/Desktop"]
        },
        "github": {
          "command": "docker",
          "args": ["run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"],
          "env": {"GITHUB_TOKEN": "ghp_literal"},
          "cwd": "/tmp"
        }
      }
    }"#;
    let expected = [
        json!({"name": "filesystem", "transport": "stdio", "command": "npx",
            "args": ["-y", "@modelcontextprotocol/server-filesystem", "/home/u/Desktop"]}),
        json!({"name": "github", "transport": "stdio", "command": "docker",
            "args": ["run", "-i", "--rm", "-e", "GITHUB_TOKEN", "ghcr.io/github/github-mcp-server"],
            "env": {"GITHUB_TOKEN": "ghp_literal"}, "cwd": "/tmp"}),
    ];
    assert_eq!(entries(text), expected);
}

#[test]
fn claude_codes_file_is_read_and_its_variables_are_replaced() {
    let text = r#"{"mcpServers": {
      "api": {"type": "http", "url": "https://${API_HOST:-localhost}/mcp",
              "headers": {"Authorization": "Bearer ${GITHUB_TOKEN}"}, "timeout": 30},
      "events": {"type": "sse", "url": "https://mcp.example.com/sse"},
      "local": {"command": "${SHELL_OF_NOBODY:-bash}", "args": ["-c", "run ${LEVEL:-info}"], "env": {"A": "${EMPTY:-}"}}
    }}"#;
    let expected = [
        json!({"name": "api", "transport": "http", "endpoint": "https://api.example.com/mcp",
            "headers": {"Authorization": "Bearer ghp_s3cr3t"}, "timeout": 30}),
        json!({"name": "events", "transport": "sse", "endpoint": "https://mcp.example.com/sse"}),
        json!({"name": "local", "transport": "stdio", "command": "bash", "args": ["-c", "run info"], "env": {"A": ""}}),
    ];
    assert_eq!(entries(text), expected);
}

#[test]
fn vs_codes_file_is_read_and_its_inputs_are_asked_for() {
    let text = r#"{
      // Inputs are prompted on first server start, then stored securely by VS Code.
      "inputs": [{"type": "promptString", "id": "perplexity-key", "description": "API Key", "password": true,},],
      "servers": {
        "Perplexity": {"type": "stdio", "command": "npx", "args": ["-y", "server-perplexity-ask"],
          "env": {"PERPLEXITY_API_KEY": "${input:perplexity-key}"}},
        "fetch": {"type": "stdio", "command": "uvx", "args": ["mcp-server-fetch"], "envFile": "${workspaceFolder}/.env",
          "dev": {"watch": "src/**"}},
        "remote": {"type": "http", "url": "https://mcp.example.com/mcp"},
        "pipe": {"type": "http", "url": "unix:///tmp/server.sock"},
      },
    }"#;
    let preview = preview(text);
    assert_eq!(preview.format, ImportFormat::Client);
    let names: Vec<_> = preview.servers.iter().map(|server| server.name.as_str()).collect();
    assert_eq!(names, ["fetch", "remote"]);
    let notes = [Note::NotFollowed { field: "envFile".to_owned() }, Note::NotReplaced { field: "envFile".to_owned() }];
    assert_eq!(preview.servers[0].notes, notes);
    assert_eq!(preview.servers[0].entry["dev"], json!({"watch": "src/**"}));
    let input = SkipReason::Input { id: "perplexity-key".to_owned() };
    assert_eq!(preview.skipped[0], Skipped { name: Some("Perplexity".to_owned()), reason: input });
    assert!(matches!(preview.skipped[1].reason, SkipReason::Entry(_)));
    let given = import(text.as_bytes(), None, ImportedReferences::Refused, &|name| {
        (name == "input:perplexity-key").then(|| "k".to_owned())
    })
    .unwrap();
    assert_eq!(given.servers[0].entry["env"], json!({"PERPLEXITY_API_KEY": "k"}));
}

#[test]
fn servers_are_found_under_mcp_in_vs_codes_settings_and_under_context_servers_in_zeds() {
    let text = r#"{"editor.fontSize": 14, "mcp": {"inputs": [], "servers": {"a": {"command": "a"}}}}"#;
    assert_eq!(entries(text), [json!({"name": "a", "transport": "stdio", "command": "a"})]);
    let text = r#"{"theme": "One Dark", "context_servers": {
      "old": {"command": {"path": "node", "args": ["x.js"], "env": {"K": "${GITHUB_TOKEN}"}}, "settings": {"x": 1}},
      "new": {"source": "custom", "command": "node", "args": [], "env": {}, "enabled": false},
      "remote": {"url": "https://mcp.example.com/mcp", "headers": {}}}}"#;
    let expected = [
        json!({"name": "old", "transport": "stdio", "command": "node", "args": ["x.js"], "env": {"K": "ghp_s3cr3t"},
            "settings": {"x": 1}}),
        json!({"name": "new", "transport": "stdio", "command": "node", "args": [], "env": {}, "source": "custom",
            "enabled": false}),
        json!({"name": "remote", "transport": "http", "endpoint": "https://mcp.example.com/mcp", "headers": {}}),
    ];
    assert_eq!(entries(text), expected);
    assert_eq!(preview(text).servers[1].notes, [Note::Disabled]);
}

#[test]
fn cursors_geminis_and_windsurfs_words_are_understood() {
    for (server, transport, field, value) in [
        (r#"{"url": "https://a/mcp", "headers": {"K": "${env:GITHUB_TOKEN}"}}"#, "http", "endpoint", "https://a/mcp"),
        (r#"{"httpUrl": "https://a/mcp", "url": "https://a/sse"}"#, "http", "endpoint", "https://a/mcp"),
        (r#"{"serverUrl": "https://a/mcp", "disabled": true}"#, "http", "endpoint", "https://a/mcp"),
        (r#"{"endpoint": "https://a/mcp", "transport": "streamable-http"}"#, "http", "endpoint", "https://a/mcp"),
        (r#"{"url": "https://a/mcp", "type": "streamableHttp"}"#, "http", "endpoint", "https://a/mcp"),
        (r#"{"url": "https://a/sse", "transport": "SSE"}"#, "sse", "endpoint", "https://a/sse"),
        (r#"{"url": "wss://a/mcp"}"#, "ws", "endpoint", "wss://a/mcp"),
        (r#"{"url": "ws://a/mcp", "type": "websocket"}"#, "ws", "endpoint", "ws://a/mcp"),
        (r#"{"command": "a", "type": null}"#, "stdio", "command", "a"),
        (r#"{"command": "a", "url": "https://a/mcp"}"#, "stdio", "command", "a"),
        (r#"{"command": "a", "url": "https://a/mcp", "type": "http"}"#, "http", "endpoint", "https://a/mcp"),
    ] {
        let entry = &entries(&format!(r#"{{"mcpServers": {{"s": {server}}}}}"#))[0];
        assert_eq!((&entry["transport"], &entry[field]), (&json!(transport), &json!(value)), "{server}");
    }
}

#[test]
fn what_an_entry_can_not_say_is_noted() {
    let note = |server: &str| preview(&format!(r#"{{"mcpServers": {{"s": {server}}}}}"#)).servers[0].notes.clone();
    let field = |field: &str| field.to_owned();
    for (server, notes) in [
        (r#"{"command": "a", "url": "https://a"}"#, vec![Note::BothKinds, Note::LeftOut { field: field("url") }]),
        (r#"{"type": "http", "url": "https://a", "env": {}}"#, vec![Note::LeftOut { field: field("env") }]),
        (
            r#"{"command": "a", "env": {"P": 1, "Q": null}}"#,
            vec![Note::MadeText { field: field("env.P") }, Note::LeftOut { field: field("env.Q") }],
        ),
        (r#"{"command": "a", "env": {"K": "$KEY"}}"#, vec![Note::Dollar { field: field("env.K") }]),
        (r#"{"command": "a", "args": ["${X%%y}"]}"#, vec![Note::NotReplaced { field: field("args[0]") }]),
        (r#"{"command": "a", "args": ["${X}"], "env": {"X": "y"}}"#, vec![Note::LeftToProgram { name: field("X") }]),
        (r#"{"command": "a", "name": "Nice", "rev": {}}"#, vec![Note::LeftOut { field: field("name") }]),
        (
            r#"{"command": "a", "disabled": true, "oauth": {}}"#,
            vec![Note::NotFollowed { field: field("oauth") }, Note::Disabled],
        ),
        (r#"{"command": "a", "disabled": false, "enabled": true, "cwd": "/x"}"#, vec![]),
    ] {
        assert_eq!(note(server), notes, "{server}");
    }
}

#[test]
fn what_can_not_be_imported_says_why() {
    let wrong = |field: &str| SkipReason::WrongKind { field: field.to_owned() };
    for (server, reason) in [
        ("1", SkipReason::NotAnObject),
        ("{}", SkipReason::NoServer),
        (r#"{"type": "stdio"}"#, SkipReason::Missing { field: "command" }),
        (r#"{"type": "http", "command": "a"}"#, SkipReason::Missing { field: "url" }),
        (r#"{"type": "carrier-pigeon", "url": "https://a"}"#, SkipReason::UnknownTransport),
        (r#"{"type": 1, "url": "https://a"}"#, wrong("type")),
        (r#"{"command": ["a"]}"#, wrong("command")),
        (r#"{"command": ""}"#, SkipReason::Missing { field: "command" }),
        (r#"{"command": "a", "args": "b"}"#, wrong("args")),
        (r#"{"command": "a", "args": [[]]}"#, wrong("args[0]")),
        (r#"{"command": "a", "args": [null]}"#, wrong("args[0]")),
        (r#"{"command": "a", "env": []}"#, wrong("env")),
        (r#"{"url": 1}"#, wrong("url")),
        (r#"{"url": "https://${NOBODY}/mcp"}"#, SkipReason::Variable { name: "NOBODY".to_owned() }),
        (r#"{"command": "${workspaceFolder}/a"}"#, SkipReason::Editor { name: "workspaceFolder".to_owned() }),
    ] {
        let preview = preview(&format!(r#"{{"mcpServers": {{"s": {server}, "good": {{"command": "a"}}}}}}"#));
        assert_eq!(preview.skipped, [Skipped { name: Some("s".to_owned()), reason }], "{server}");
        assert_eq!(preview.servers.len(), 1, "{server}");
    }
    for server in [
        r#"{"url": "https://u:p@a"}"#,
        r#"{"url": "ftp://a"}"#,
        r#"{"url": "https://a", "headers": {"Host": "b"}}"#,
        r#"{"url": "https://a", "headers": {"K": "a\nb"}}"#,
        r#"{"command": "a", "env": {"A=B": "c"}}"#,
    ] {
        let preview = preview(&format!(r#"{{"mcpServers": {{"s": {server}}}}}"#));
        assert!(matches!(preview.skipped[0].reason, SkipReason::Entry(_)), "{server}");
    }
}

#[test]
fn a_registrys_own_file_is_taken_as_it_stands() {
    let text = r#"{"generation": 3, "servers": [
      {"name": "wiki", "transport": "streamableHttp", "endpoint": "https://a/mcp", "headers": {"K": "${GITHUB_TOKEN}"},
       "rev": {"wallMs": 1, "counter": 0, "writer": "w"}, "team": {"x": [1]}},
      {"name": "files", "transport": "stdio", "command": "npx", "disabled": true},
      {"transport": "stdio", "command": "a"}, {"name": "b"}, 7]}"#;
    let preview = preview(text);
    let entries: Vec<_> = preview.servers.iter().map(|server| Value::Object(server.entry.clone())).collect();
    let expected = [
        json!({"name": "wiki", "transport": "http", "endpoint": "https://a/mcp", "headers": {"K": "${GITHUB_TOKEN}"},
            "team": {"x": [1]}}),
        json!({"name": "files", "transport": "stdio", "command": "npx", "disabled": true}),
    ];
    assert_eq!((preview.format, entries.as_slice()), (ImportFormat::Registry, expected.as_slice()));
    assert_eq!(preview.servers[1].notes, [Note::Disabled]);
    let reasons: Vec<_> = preview.skipped.iter().map(|skipped| skipped.reason.clone()).collect();
    assert_eq!(reasons, [SkipReason::NoName, SkipReason::UnknownTransport, SkipReason::NotAnObject]);
}

#[test]
fn names_are_made_well_formed_and_distinct() {
    let text = r#"{"mcpServers": {"My Server": {"command": "a"}, "My-Server": {"command": "b"}, "": {"command": "c"}},
      "servers": {"My-Server": {"command": "d"}}}"#;
    let preview = preview(text);
    let names: Vec<_> = preview.servers.iter().map(|server| server.name.as_str()).collect();
    assert!(names[0].starts_with("My-Server-") && names[3].starts_with("My-Server-") && names[0] != names[3]);
    assert_eq!(names[1..3], ["My-Server", "server"]);
    assert_eq!(preview.servers[0].notes, [Note::Renamed { from: "My Server".to_owned() }]);
    assert!(preview.servers.iter().all(|server| server.entry["name"] == json!(server.name)));
}

#[test]
fn a_file_of_no_accepted_shape_is_an_error_that_names_the_shapes() {
    for text in ["[]", "{}", "1", r#"{"mcpServers": []}"#, r#"{"name": "x"}"#, r#"{"servers": 1}"#] {
        assert_eq!(
            import(text.as_bytes(), None, ImportedReferences::Refused, &environment).unwrap_err(),
            ImportError::Shape,
            "{text}"
        );
    }
    assert!(ImportError::Shape.to_string().contains("mcpServers"));
    let client = br#"{"mcpServers": {}}"#;
    let other = import(client, Some(ImportFormat::Registry), ImportedReferences::Refused, &environment).unwrap_err();
    assert_eq!(other, ImportError::OtherShape(ImportFormat::Registry));
    assert!(import(client, Some(ImportFormat::Client), ImportedReferences::Refused, &environment).is_ok());
    for format in [ImportFormat::Registry, ImportFormat::ServerJson] {
        assert_eq!(
            import(br#"{"servers": []}"#, Some(format), ImportedReferences::Refused, &environment).unwrap().format,
            format
        );
    }
}

#[test]
fn how_many_servers_a_file_names_is_bounded() {
    let many = |count: usize| {
        let servers =
            (0..count).map(|index| format!(r#""s{index}": {{"command": "a"}}"#)).collect::<Vec<_>>().join(",");
        import(
            format!(r#"{{"mcpServers": {{{servers}}}}}"#).as_bytes(),
            None,
            ImportedReferences::Refused,
            &environment,
        )
    };
    assert_eq!(many(10_000).unwrap().servers.len(), 10_000);
    assert_eq!(many(10_001).unwrap_err(), ImportError::TooMany);
}

#[test]
fn servers_of_single_projects_are_not_read_and_that_is_said() {
    let text = r#"{"mcpServers": {}, "projects": {"/home/u/p": {"mcpServers": {"a": {"command": "a"}}}}}"#;
    assert_eq!(preview(text).notes, [Note::Projects]);
    assert_eq!(preview(r#"{"mcpServers": {}, "projects": {"/p": {"mcpServers": {}}}}"#).notes, []);
}
