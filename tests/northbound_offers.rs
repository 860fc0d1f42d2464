//! Everything besides tools that clients see of their servers through the gateway: what they can do and say, prompts,
//! resources, templates, completions; pages of lists; and the rules of headers.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use axum::Router;
use cortex_mcp::demo::mcp_server::ServerOptions;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::{SyncKind, limits};
use cortex_mcp::mcp::Era;
use cortex_mcp::model::ListKind;
use http::{Method, StatusCode};
use serde_json::{Value, json};
use support::canned::Canned;
use support::client::META;
use support::scripted::{Ending, Scripted, Style};
use support::streaming::send;
use support::{Rig, Served, seconds};

/// A gateway over scripted servers `s1`, `s2`, ... of these eras, each with one item of every kind.
async fn served(eras: &[Era]) -> (Rig, Vec<Arc<Scripted>>, Served) {
    let rig = Rig::new(eras.len());
    let servers: Vec<Arc<Scripted>> = (1..)
        .zip(eras)
        .map(|(number, era)| {
            let server = Scripted::new(*era, Style::Json);
            let schema = r#"{"type":"object","properties":{"region":{"type":"string","x-mcp-header":"Region"}}}"#;
            server.list(ListKind::Tools, vec![format!(r#"{{"name":"work","inputSchema":{schema}}}"#)]);
            server.list(ListKind::Prompts, vec![r#"{"name":"write","x-odd":1.50}"#.to_owned()]);
            server.list(ListKind::Resources, vec![format!(r#"{{"uri":"file:///{number}","name":"r"}}"#)]);
            server.list(ListKind::Templates, vec![format!(r#"{{"uriTemplate":"t{number}://{{x}}","name":"t"}}"#)]);
            rig.network.set(&rig.servers[number - 1].url, Host::Serve(server.router()));
            server
        })
        .collect();
    let served = rig.ready().await;
    (rig, servers, served)
}

fn router(served: &Served) -> Router {
    served.gateway.router("127.0.0.1:8420".parse().unwrap())
}

/// Asks in an era; `name` is what `Mcp-Name` mirrors. Returns the status, the headers and the answer.
async fn ask(router: &Router, era: Era, method: &str, name: &str, params: &str) -> (u16, http::HeaderMap, Value) {
    let comma = if params.is_empty() { "" } else { "," };
    let (mut headers, params) = match era {
        Era::Legacy => (vec![], format!("{{{params}}}")),
        Era::Modern => {
            (vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", method)], format!("{{{params}{comma}{META}}}"))
        }
    };
    if era == Era::Modern && !name.is_empty() {
        headers.push(("mcp-name", name));
    }
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{params}}}"#);
    let response = send(router, Method::POST, &headers, &body).await;
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, 1 << 24).await.unwrap();
    (parts.status.as_u16(), parts.headers, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_of_everything_that_a_server_may_bring_later() {
    let everything = json!({
        "logging": {}, "completions": {}, "prompts": {"listChanged": true},
        "resources": {"subscribe": true, "listChanged": true}, "tools": {"listChanged": true},
    });
    let (_rig, _servers, full) = served(&[Era::Legacy, Era::Modern]).await;
    let rig = Rig::new(1);
    let tools_only = Canned::new(r#"{"name":"tool","inputSchema":{"type":"object"}}"#);
    rig.network.set(&rig.servers[0].url, Host::Serve(tools_only.router()));
    let bare = rig.ready().await;
    for (served, expected) in [(&full, &everything), (&bare, &everything)] {
        let router = router(served);
        let (_, _, legacy) = ask(&router, Era::Legacy, "initialize", "", r#""protocolVersion":"2025-06-18""#).await;
        assert_eq!(legacy["result"]["capabilities"], *expected);
        let (_, _, modern) = ask(&router, Era::Modern, "server/discover", "", "").await;
        assert_eq!(modern["result"]["capabilities"], *expected);
        assert_eq!(modern["result"]["cacheScope"], "private");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_offered_and_no_server_has_is_refused_by_the_one_that_was_asked() {
    let rig = Rig::new(1);
    let tools_only = Canned::new(r#"{"name":"tool","inputSchema":{"type":"object"}}"#);
    rig.network.set(&rig.servers[0].url, Host::Serve(tools_only.router()));
    let served = rig.ready().await;
    let router = router(&served);
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let opened = send(&router, Method::POST, &[], initialize).await;
    let headers = [("mcp-session-id", opened.headers()["mcp-session-id"].to_str().unwrap())];
    for (method, params, code) in [
        ("logging/setLevel", r#""level":"info""#, Value::Null),
        ("resources/subscribe", r#""uri":"no:where""#, json!(-32002)),
        ("resources/subscribe", r#""uri":"cortex+s1:no:where""#, json!(-32601)),
    ] {
        let body = format!(r#"{{"jsonrpc":"2.0","id":2,"method":"{method}","params":{{{params}}}}}"#);
        let response = send(&router, Method::POST, &headers, &body).await;
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        let answer: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(answer["error"]["code"], code, "{method} {params}: {answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn clients_are_told_how_names_are_made() {
    for (toml, told) in [
        ("", r#"before the first "__" is the server's id"#),
        ("names = \"dotted\"", r#"before the first "." is the server's id"#),
        ("names = \"plain\"", "Names are the servers' own."),
    ] {
        let mut rig = Rig::new(1);
        rig.toml = toml.to_owned();
        let served = rig.ready().await;
        let (_, _, modern) = ask(&router(&served), Era::Modern, "server/discover", "", "").await;
        let instructions = modern["result"]["instructions"].as_str().unwrap();
        assert!(instructions.contains(told), "{toml}: {instructions}");
    }
}

#[tokio::test(start_paused = true)]
async fn every_kind_of_list_is_served_with_its_hints_and_standings() {
    let (_rig, _servers, served) = served(&[Era::Legacy, Era::Modern]).await;
    let router = router(&served);
    for kind in ListKind::ALL {
        let (_, _, modern) = ask(&router, Era::Modern, kind.method(), "", "").await;
        let result = &modern["result"];
        assert_eq!(result[kind.member()].as_array().unwrap().len(), 2, "{kind:?}");
        assert!(
            result["ttlMs"].as_u64().is_some()
                && result["cacheScope"] == "private"
                && result["resultType"] == "complete"
        );
        let standing = &result["_meta"]["com.brainwav.cortex/connectors"][1];
        assert_eq!((&standing["id"], &standing[kind.member()]), (&json!("s2"), &json!(1)), "{standing}");
        let (_, _, legacy) = ask(&router, Era::Legacy, kind.method(), "", "").await;
        assert_eq!(legacy["result"][kind.member()], result[kind.member()]);
        assert!(legacy["result"].get("ttlMs").is_none());
    }
}

#[tokio::test(start_paused = true)]
async fn prompts_and_completions_reach_their_server_under_its_own_names() {
    for (upstream, client) in [(Era::Legacy, Era::Legacy), (Era::Legacy, Era::Modern), (Era::Modern, Era::Legacy)] {
        let (_rig, servers, served) = served(&[upstream, upstream]).await;
        let router = router(&served);
        servers[1].tell(Vec::new(), Ending::Result(r#"{"messages":[],"resultType":"complete"}"#.to_owned()));
        let (status, _, got) =
            ask(&router, client, "prompts/get", "s2__write", r#""name":"s2__write","arguments":{"a":"b"}"#).await;
        assert_eq!((status, &got["result"]["messages"]), (200, &json!([])));
        assert!(servers[1].last("prompts/get").params.starts_with(r#"{"name":"write","arguments":{"a":"b"}"#));
        let argument = r#""argument":{"name":"a","value":"b"}"#;
        for (reference, sent) in [
            (r#"{"type":"ref/prompt","name":"s2__write","x":1.0}"#, r#"{"type":"ref/prompt","name":"write","x":1.0}"#),
            (r#"{"type":"ref/resource","uri":"t2://{x}"}"#, r#"{"type":"ref/resource","uri":"t2://{x}"}"#),
            (r#"{"type":"ref/prompt","name":"s2__write","uri":"t1://{x}"}"#, r#"{"type":"ref/prompt","name":"write"}"#),
            (
                r#"{"name":"s1__write","type":"ref/resource","uri":"t2://{x}"}"#,
                r#"{"type":"ref/resource","uri":"t2://{x}"}"#,
            ),
        ] {
            ask(&router, client, "completion/complete", "", &format!(r#""ref":{reference},{argument}"#)).await;
            assert!(
                servers[1].last("completion/complete").params.starts_with(&format!(r#"{{"ref":{sent},{argument}"#))
            );
        }
        for (method, params) in [
            ("prompts/get", r#""name":"write""#),
            ("completion/complete", r#""ref":{"type":"ref/prompt","name":"s9__write"}"#),
            ("completion/complete", r#""ref":7"#),
            ("completion/complete", r#""ref":{"uri":"t2://{x}","name":"s1__write"}"#),
            ("completion/complete", r#""ref":{"type":"ref/tool","uri":"t2://{x}","name":"s1__write"}"#),
            ("completion/complete", r#""ref":{"type":"Ref/Prompt","uri":"t2://{x}","name":"s2__write"}"#),
            ("completion/complete", r#""ref":{"type":"ref/prompt ","uri":"t2://{x}","name":"s2__write"}"#),
            ("completion/complete", r#""ref":{"type":null,"uri":"t2://{x}"}"#),
            ("completion/complete", r#""ref":{"type":["ref/resource"],"uri":"t2://{x}"}"#),
        ] {
            let (_, _, refused) = ask(&router, client, method, "write", params).await;
            assert_eq!(refused["error"]["code"], -32602, "{method} {params}");
        }
        let asked: usize = servers.iter().map(|server| server.times_asked("completion/complete")).sum();
        assert_eq!(asked, 4, "what is refused reaches no server");
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_is_read_where_it_is_and_bears_hints_for_modern_clients() {
    let (_rig, servers, served) = served(&[Era::Legacy, Era::Modern]).await;
    let router = router(&served);
    servers[0].tell(Vec::new(), Ending::Result(r#"{"contents":[{"x":1.50}]}"#.to_owned()));
    let (_, _, modern) = ask(&router, Era::Modern, "resources/read", "file:///1", r#""uri":"file:///1""#).await;
    let expected = json!({"contents": [{"x": 1.5}], "resultType": "complete", "ttlMs": 0, "cacheScope": "private"});
    assert_eq!(modern["result"], expected);
    let (_, _, legacy) = ask(&router, Era::Legacy, "resources/read", "", r#""uri":"file:///1""#).await;
    assert_eq!(legacy["result"], json!({"contents": [{"x": 1.5}]}));
    assert!(servers[1].asked("resources/read").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_missing_resource_is_told_in_the_words_of_the_clients_era() {
    let (_rig, servers, served) = served(&[Era::Legacy]).await;
    let router = router(&served);
    servers[0].tell(Vec::new(), Ending::Error(200, r#"{"code":-32002,"message":"Resource not found"}"#.to_owned()));
    for uri in ["file:///1", "no:where"] {
        let params = format!(r#""uri":"{uri}""#);
        let (status, _, modern) = ask(&router, Era::Modern, "resources/read", uri, &params).await;
        assert_eq!(
            (status, &modern["error"]["code"], &modern["error"]["data"]["uri"]),
            (200, &json!(-32602), &json!(uri))
        );
        let (_, _, legacy) = ask(&router, Era::Legacy, "resources/read", "", &params).await;
        assert_eq!(legacy["error"]["code"], -32002);
    }
}

#[tokio::test(start_paused = true)]
async fn a_long_list_comes_in_pages_that_make_the_whole() {
    let tools = 2 * limits::LIST_PAGE_ITEMS + 26;
    let rig = Rig::of([ServerOptions { tools, ..Rig::options(2) }]);
    let served = rig.ready().await;
    let router = router(&served);
    let (mut cursor, mut names, mut pages) = (None::<String>, Vec::new(), 0);
    loop {
        let params = cursor.as_ref().map(|cursor| format!(r#""cursor":"{cursor}""#)).unwrap_or_default();
        let (_, _, page) = ask(&router, Era::Modern, "tools/list", "", &params).await;
        names.extend(page["result"]["tools"].as_array().unwrap().iter().map(|tool| tool["name"].clone()));
        pages += 1;
        match page["result"]["nextCursor"].as_str() {
            Some(next) => cursor = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!((pages, names.len()), (3, tools));
    names.dedup();
    assert_eq!(names.len(), tools, "each once");
    // A cursor of a list that has changed names nothing any more, nor does any other text.
    let outdated = cursor.unwrap();
    rig.server(1).set_tools(tools + 1);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    for (method, cursor) in [
        ("tools/list", format!("\"{outdated}\"")),
        ("prompts/list", format!("\"{outdated}\"")),
        ("tools/list", "\"\"".to_owned()),
        ("tools/list", "\"x\"".to_owned()),
        ("tools/list", "7".to_owned()),
    ] {
        let (_, _, refused) = ask(&router, Era::Legacy, method, "", &format!(r#""cursor":{cursor}"#)).await;
        assert_eq!(refused["error"]["code"], -32602, "{method} {cursor}");
    }
}

#[tokio::test(start_paused = true)]
async fn headers_that_mirror_arguments_must_say_what_they_say_in_the_modern_era() {
    for upstream in [Era::Legacy, Era::Modern] {
        let (_rig, servers, served) = served(&[upstream]).await;
        let router = router(&served);
        servers[0].tell(Vec::new(), Ending::Result(r#"{"content":[],"resultType":"complete"}"#.to_owned()));
        for (value, header, status) in [
            (r#""Hello""#, Some("Hello"), 200),
            (r#""Hello""#, Some("=?base64?SGVsbG8=?="), 200),
            (r#""SGVsbG8=""#, Some("SGVsbG8="), 200),
            (r#""=?base64?SGVsbG8=""#, Some("=?base64?SGVsbG8="), 200),
            ("null", None, 200),
            (r#""Hello""#, Some("=?base64?SGVsbG8?="), 400),
            (r#""Hello""#, Some("=?base64?SGVs!!!bG8=?="), 400),
            (r#""Hello""#, Some("hello"), 400),
            (r#""Hello""#, None, 400),
            ("null", Some("Hello"), 400),
        ] {
            let mut headers =
                vec![("mcp-protocol-version", "2026-07-28"), ("mcp-method", "tools/call"), ("mcp-name", " s1__work ")];
            headers.extend(header.map(|header| ("mcp-param-region", header)));
            let params = format!(r#""name":"s1__work","arguments":{{"region":{value}}},{META}"#);
            let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{params}}}}}"#);
            let response = send(&router, Method::POST, &headers, &body).await;
            assert_eq!(response.status(), status, "{value} {header:?}");
            if status == 400 {
                let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
                assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["error"]["code"], -32020);
            }
        }
        let (status, ..) =
            ask(&router, Era::Legacy, "tools/call", "", r#""name":"s1__work","arguments":{"region":"x"}"#).await;
        assert_eq!(status, 200, "a legacy client knows no such headers");
    }
}

#[tokio::test(start_paused = true)]
async fn methods_of_the_other_era_are_unknown_in_the_form_of_the_era() {
    let (_rig, _servers, served) = served(&[Era::Legacy]).await;
    let router = router(&served);
    for method in ["initialize", "ping", "logging/setLevel", "resources/subscribe", "resources/unsubscribe", "no/such"]
    {
        let (status, _, answer) = ask(&router, Era::Modern, method, "", "").await;
        assert_eq!((status, &answer["error"]["code"]), (404, &json!(-32601)), "{method}");
    }
    for method in ["server/discover", "subscriptions/listen", "no/such"] {
        let (status, _, answer) = ask(&router, Era::Legacy, method, "", "").await;
        assert_eq!((status, &answer["error"]["code"]), (200, &json!(-32601)), "{method}");
    }
    let initialize = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25"}}"#;
    let hopeful = send(&router, Method::POST, &[("mcp-protocol-version", "2026-07-28")], initialize).await;
    assert_eq!(hopeful.status(), 200, "a handshake without modern _meta is legacy");
}

#[tokio::test(start_paused = true)]
async fn a_servers_wish_to_be_left_alone_is_handed_on() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    rig.server(1).fail_with_retry_after(StatusCode::TOO_MANY_REQUESTS, seconds(7));
    let (status, headers, answer) =
        ask(&router(&served), Era::Legacy, "tools/call", "", r#""name":"s1__echo","arguments":{}"#).await;
    assert_eq!((status, &answer["error"]["data"]["retryAfterMs"]), (200, &json!(7_000)));
    assert_eq!(headers["retry-after"], "7");
}

#[tokio::test(start_paused = true)]
async fn what_a_client_accepts_decides_the_form() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let list = r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#;
    for (accept, kind) in [
        ("application/json", Some("application/json")),
        ("*/*", Some("application/json")),
        ("application/*;q=0.5, text/html", Some("application/json")),
        ("text/event-stream", Some("text/event-stream")),
        ("application/json;q=0, text/event-stream", Some("text/event-stream")),
        ("text/html", None),
    ] {
        let response = send(&router, Method::POST, &[("accept", accept)], list).await;
        match kind {
            Some(kind) => assert_eq!(response.headers()["content-type"], kind, "{accept}"),
            None => assert_eq!(response.status(), 406),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resource_that_no_server_lists_or_has_a_template_for_reaches_no_server() {
    let (_rig, servers, served) = served(&[Era::Legacy, Era::Modern]).await;
    let router = router(&served);
    for server in &servers {
        server.tell(Vec::new(), Ending::Result(r#"{"contents":[],"completion":{}}"#.to_owned()));
    }
    let before: usize = servers.iter().map(|server| server.requests()).sum();
    for era in [Era::Legacy, Era::Modern] {
        for uri in ["no:where?sig=canary", "nowhere", "t3://x", "FILES:///1"] {
            let code = if era == Era::Modern { -32602 } else { -32002 };
            let (_, _, read) = ask(&router, era, "resources/read", uri, &format!(r#""uri":"{uri}""#)).await;
            assert_eq!(read["error"]["code"], code, "{uri}: {read}");
            let reference =
                format!(r#""ref":{{"type":"ref/resource","uri":"{uri}"}},"argument":{{"name":"a","value":"b"}}"#);
            let (_, _, completed) = ask(&router, era, "completion/complete", "", &reference).await;
            assert_eq!(completed["error"]["code"], -32602, "{uri}: {completed}");
        }
    }
    assert_eq!(servers.iter().map(|server| server.requests()).sum::<usize>(), before);
}
