//! Names and addresses that are odd themselves: what a client asks for reaches the server as the server wrote it.

use cortex_mcp::mcp::protocol::decode_header_value;
use cortex_mcp::model::ListKind;

use super::ledger::member;
use super::world::{ERAS, SERVERS, World};
use crate::support::scripted::Ending;
use crate::support::talk::MODERN_META;

/// Names as JSON strings.
fn names() -> Vec<String> {
    let mut names: Vec<String> = [
        r#""名前""#,
        r#""a b""#,
        r#""a\/b""#,
        r#""e\u0301\u00e9""#,
        r#"" padded ""#,
        r#""=?base64?eA==?=""#,
        r#""tab\tline\nquote\"""#,
        r#""\u0000""#,
        r#""\ud83e\udd80🦀""#,
        "\"\u{feff}\u{2028}\"",
        r#""plain-name_1""#,
        r#""s1__prefixed""#,
    ]
    .map(str::to_owned)
    .to_vec();
    names.push(format!("\"{}\"", "x".repeat(300)));
    names.push(format!("\"{}\"", "ñ名🦀".repeat(200)));
    names
}

fn text(json: &str) -> String {
    serde_json::from_str(json).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_tool_or_prompt_of_any_name_is_called_by_its_own_name() {
    for which in SERVERS {
        let names = names();
        let world = World::new(which, |server| {
            let tool = |name: &String| format!(r#"{{"name":{name},"inputSchema":{{"type":"object"}}}}"#);
            server.list(ListKind::Tools, names.iter().map(tool).collect());
            server.list(ListKind::Prompts, names.iter().map(|name| format!(r#"{{"name":{name}}}"#)).collect());
        })
        .await;
        world.server.tell(Vec::new(), Ending::Result(r#"{"resultType":"complete"}"#.to_owned()));
        for era in ERAS {
            let client = world.client(era).await;
            for (list, member_name, method) in
                [("tools/list", "tools", "tools/call"), ("prompts/list", "prompts", "prompts/get")]
            {
                let listed = client.list(list, member_name).await;
                assert_eq!(listed.len(), names.len(), "{} {list}", world.with(era));
                for (item, original) in listed.iter().zip(&names) {
                    let exposed = text(&member(item, "name").unwrap());
                    let clean = exposed.chars().all(|it| it.is_ascii_alphanumeric() || matches!(it, '_' | '-'));
                    assert!(clean && exposed.len() <= 46, "{exposed}");
                    let meta = if era == cortex_mcp::mcp::Era::Modern { MODERN_META } else { "" };
                    let params = format!(r#"{{"name":"{exposed}","_meta":{{{meta}}}}}"#);
                    let heard = client.ask(method, Some(&exposed), &params).await;
                    assert!(heard.answer.contains("\"result\""), "{} {original}: {}", world.with(era), heard.answer);
                    let asked = world.server.last(method);
                    let sent = text(&member(&asked.params, "name").unwrap());
                    assert_eq!(sent, text(original), "{} {method}", world.with(era));
                    if let Some(header) = asked.headers.get("mcp-name") {
                        assert_eq!(decode_header_value(header), Some(text(original)), "{}", world.with(era));
                    }
                }
            }
        }
        world.served.gateway.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn an_address_stays_the_bytes_that_the_server_wrote_it_in() {
    let mut addresses: Vec<String> = [
        r#""odd://å/ü?q=1#f""#,
        r#""ODD:%7e\/..\/x""#,
        r#""odd://\u00e9""#,
        r#""file:///path/to/file%20name.txt""#,
        "\"odd://\u{2028}\u{feff}\"",
        r#""not an address""#,
        r#""s1__odd""#,
    ]
    .map(str::to_owned)
    .to_vec();
    addresses.push(format!("\"odd://{}\"", "ü/".repeat(1_000)));
    for which in SERVERS {
        let world = World::new(which, |server| {
            let resource = |uri: &String| format!(r#"{{"name":"r","uri":{uri}}}"#);
            server.list(ListKind::Resources, addresses.iter().map(resource).collect());
        })
        .await;
        world.server.tell(Vec::new(), Ending::Result(r#"{"resultType":"complete","contents":[]}"#.to_owned()));
        for era in ERAS {
            let client = world.client(era).await;
            let listed = client.list("resources/list", "resources").await;
            let found: Vec<_> = listed.iter().map(|item| member(item, "uri").unwrap()).collect();
            assert_eq!(found, addresses, "{}", world.with(era));
            for uri in &addresses {
                let meta = if era == cortex_mcp::mcp::Era::Modern { MODERN_META } else { "" };
                let params = format!(r#"{{"uri":{uri},"_meta":{{{meta}}}}}"#);
                let heard = client.ask("resources/read", Some(&text(uri)), &params).await;
                assert!(heard.answer.contains("\"result\""), "{} {uri}: {}", world.with(era), heard.answer);
                let asked = world.server.last("resources/read");
                assert_eq!(member(&asked.params, "uri").as_ref(), Some(uri), "{}", world.with(era));
                if let Some(header) = asked.headers.get("mcp-name") {
                    assert_eq!(decode_header_value(header), Some(text(uri)), "{}", world.with(era));
                }
            }
        }
        world.served.gateway.shut_down().await;
    }
}
