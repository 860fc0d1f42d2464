//! Access: what each token sees, how often it may ask, what the logs say of it; and that private lists never cross
//! credentials.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::demo::mcp_server::{ServerEra, ServerOptions};
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::mcp::{Era, ListScope};
use cortex_mcp::model::{Digest, ListKind};
use http::Method;
use serde_json::json;
use support::log::Log;
use support::scripted::{Scripted, Style};
use support::{Client, Rig, Served, seconds};
use tracing::Level;

/// A `[[token]]` table; the token itself is `secret-NAME`.
fn token(name: &str, more: &str) -> String {
    format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n{more}\n", Digest::of(format!("secret-{name}").as_bytes()))
}

/// A client that shows a token.
fn with_token(client: &Client, name: &str) -> Client {
    client.with_header("authorization", &format!("Bearer secret-{name}"))
}

fn names(connector: &str, tools: &[&str]) -> Vec<String> {
    tools.iter().map(|tool| format!("{connector}__{tool}")).collect()
}

async fn served(rig: &mut Rig, toml: String) -> Served {
    rig.toml = toml;
    rig.ready().await
}

#[tokio::test(start_paused = true)]
async fn a_token_lists_and_calls_what_it_sees_and_the_rest_is_unknown_to_it() {
    let mut rig = Rig::new(3);
    let tokens = [
        token("whole", ""),
        token("wiki", "connectors = [\"s[1]\", \"s2\", \"x-*\"]\ndeny-tools = [\"*__upper*\"]"),
        token("echoes", "tools = [\"*__echo\"]"),
        token("nothing", "connectors = []"),
    ];
    let served = served(&mut rig, tokens.concat()).await;
    let all = ["echo", "add", "uppercase"];
    for client in [served.modern(), served.legacy()] {
        for (name, expected) in [
            ("whole", [names("s1", &all), names("s2", &all), names("s3", &all)].concat()),
            ("wiki", names("s2", &["echo", "add"])),
            ("echoes", ["s1", "s2", "s3"].iter().flat_map(|id| names(id, &["echo"])).collect()),
            ("nothing", Vec::new()),
        ] {
            let client = with_token(&client, name);
            assert_eq!(client.list().await.tool_names(), expected, "{name}");
            for tool in ["s1__add", "s2__uppercase", "s3__echo"] {
                let (asked, nonsense) =
                    (client.call(tool, r#"{"a":1,"b":2,"text":"t"}"#).await, client.call("s9__x", "{}").await);
                if expected.contains(&tool.to_owned()) {
                    assert_eq!(asked.code(), None, "{name} {tool}: {}", asked.body);
                } else {
                    assert_eq!((asked.status, asked.code()), (nonsense.status, Some(-32602)), "{name} {tool}");
                    assert_eq!(asked.body.replace(tool, "X"), nonsense.body.replace("s9__x", "X"), "{name} {tool}");
                }
            }
        }
    }
    let whole: u64 = (1..=3).map(|number| rig.server(number).counts().calls).sum();
    assert_eq!(whole, 2 * (3 + 1), "what is not seen is not passed on");
}

#[tokio::test(start_paused = true)]
async fn a_denied_tool_is_neither_listed_nor_callable_however_its_name_was_altered() {
    let own = ["run", "a_quite_long_tool_name_that_goes_well_beyond_the_limit_admin", "do.it_admin"];
    let mut rig = Rig::new(1);
    let server = Scripted::new(Era::Legacy, Style::Json);
    server.list(ListKind::Tools, own.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect());
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    let tokens = token("whole", "") + &token("agent", "deny-tools = [\"*_admin\"]");
    let served = served(&mut rig, tokens).await;
    for client in [served.modern(), served.legacy()] {
        let all = with_token(&client, "whole").list().await.tool_names();
        assert_eq!(all.len(), own.len());
        let agent = with_token(&client, "agent");
        assert_eq!(agent.list().await.tool_names(), ["s1__run"]);
        for denied in all.iter().filter(|name| *name != "s1__run").map(String::as_str).chain(own) {
            assert_eq!(agent.call(denied, "{}").await.code(), Some(-32602), "{denied}");
        }
    }
    assert_eq!(server.times_asked("tools/call"), 0);
}

#[tokio::test(start_paused = true)]
async fn patterns_of_tokens_that_match_nothing_are_warned_of_once_every_list_came() {
    let mut rig = Rig::new(3);
    rig.document.connectors[2].more = json!({ "enabled": false });
    rig.map.serve(&rig.document);
    rig.hang(2);
    let tokens = [
        token("good", "connectors = [\"s1\", \"s3\"]\ntools = [\"s1__*\"]\ndeny-tools = [\"add\", \"s2__add\"]"),
        token("bad", "connectors = [\"s*\", \"t*\"]\ntools = [\"s1__ad\", \"add\"]\ndeny-tools = [\"*_admin\"]"),
    ];
    let served = served(&mut rig, tokens.concat()).await;
    assert_eq!(served.gateway.status().warnings, ["[[token]] bad connectors matches no connector: t*"]);
    rig.revive(2);
    served.until("every list", seconds(600), |served| served.tools() == 6).await;
    let warnings = [
        "[[token]] bad connectors matches no connector: t*",
        "[[token]] bad tools matches no tool: s1__ad, add",
        "[[token]] bad deny-tools matches no tool: *_admin",
    ];
    assert_eq!(served.gateway.status().warnings, warnings);
}

#[tokio::test(start_paused = true)]
async fn a_list_says_how_the_connectors_stand_that_are_seen_and_no_word_of_others() {
    let mut rig = Rig::new(2);
    let served =
        served(&mut rig, token("part", "connectors = [\"s2\"]\ndeny-tools = [\"*__add\"]") + &token("whole", "")).await;
    let part = with_token(&served.modern(), "part").list().await;
    assert!(!part.body.contains("s1"), "{}", part.body);
    assert_eq!((&part.standing("s2")["state"], &part.standing("s2")["tools"]), (&json!("fresh"), &json!(2)));
    let whole = with_token(&served.modern(), "whole").list().await;
    assert!(whole.body.contains("s1"));
    // What one of them may not see must not reach it through a cache of the other's.
    for answer in [&part, &whole] {
        assert_eq!(answer.result()["cacheScope"], "private");
    }
}

#[tokio::test(start_paused = true)]
async fn what_needs_a_token_is_private_and_becomes_public_when_nobody_needs_one_any_more() {
    let public = || ServerOptions { era: ServerEra::Modern, scope: ListScope::Public, ..Rig::options(2) };
    let mut rig = Rig::of([public()]);
    let served = served(&mut rig, token("one", "")).await;
    let scopes = async |client: &Client| {
        let discovered = client.ask("server/discover", "").await.result();
        [client.list().await.result()["cacheScope"].clone(), discovered["cacheScope"].clone()]
    };
    assert_eq!(scopes(&with_token(&served.modern(), "one")).await, ["private", "private"]);
    rig.toml = String::new();
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(scopes(&served.modern()).await, ["public", "public"]);
}

#[tokio::test(start_paused = true)]
async fn the_gateways_own_tools_tell_of_every_connector_and_only_who_sees_those_has_them() {
    let mut rig = Rig::new(1);
    let tokens = [
        token("whole", ""),
        token("part", "connectors = [\"s1\"]"),
        token("reader", "tools = [\"registry_list\", \"s1__*\"]"),
    ];
    let served = served(&mut rig, tokens.concat() + "[registry]\ntools = true\n").await;
    let listed = async |name| {
        let all = with_token(&served.modern(), name).list().await.tool_names();
        all.into_iter().filter(|tool| tool.starts_with("registry_")).collect::<Vec<_>>()
    };
    assert!(listed("whole").await.len() > 3);
    assert_eq!(listed("part").await, Vec::<String>::new());
    assert_eq!(listed("reader").await, ["registry_list"]);
    assert_eq!(with_token(&served.modern(), "part").call("registry_list", "{}").await.code(), Some(-32602));
    assert_eq!(
        with_token(&served.modern(), "reader").call("registry_get", r#"{"name":"x"}"#).await.code(),
        Some(-32602)
    );
    assert_eq!(with_token(&served.modern(), "reader").call("registry_list", "{}").await.code(), None);
}

#[tokio::test(start_paused = true)]
async fn what_tells_of_everything_is_refused_to_who_sees_a_part() {
    let mut rig = Rig::new(2);
    let tokens = [
        token("whole", ""),
        token("part", "connectors = [\"s2\"]"),
        token("ops", "connectors = [\"s2\"]\nadmin = true"),
    ];
    let served = served(&mut rig, tokens.concat()).await;
    for (name, expected) in [("whole", 200), ("part", 403), ("ops", 200), ("nobody", 401)] {
        let client = with_token(&served.modern(), name);
        for path in ["/status", "/metrics"] {
            let answer = client.get(path).await;
            assert_eq!(answer.status, expected, "{name} {path}");
            assert!(expected == 200 || !answer.body.contains("s1"), "{name} {path}: {}", answer.body);
        }
        assert_eq!(client.send(Method::POST, "/sync", &[], "").await.status, expected, "{name} /sync");
    }
    assert_eq!(served.metric(r#"mcp_requests_refused_total{reason="part"}"#), Some(3.0));
}

#[tokio::test(start_paused = true)]
async fn a_token_that_asks_too_often_is_told_when_to_come_back_and_others_are_not_concerned() {
    let mut rig = Rig::new(1);
    let served = served(&mut rig, token("eager", "calls-per-minute = 3") + &token("other", "")).await;
    let (eager, other) = (with_token(&served.modern(), "eager"), with_token(&served.legacy(), "other"));
    // Another router of the same gateway, another era: the same token.
    assert_eq!((eager.list().await.status, eager.call("s1__echo", r#"{"text":"a"}"#).await.status), (200, 200));
    assert_eq!(with_token(&served.legacy(), "eager").ask("ping", "").await.status, 200);
    let refused = eager.call("s1__echo", r#"{"text":"a"}"#).await;
    assert_eq!((refused.status, refused.code(), &refused.json()["id"]), (429, Some(-32011), &json!(7)));
    let error = &refused.json()["error"]["data"];
    let wait = error["retryAfterMs"].as_u64().unwrap();
    assert_eq!((&error["reason"], wait > 50_000 && wait <= 61_000), (&json!("rate"), true), "{error}");
    let after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!(after * 1_000 >= wait && after * 1_000 < wait + 1_000, "{after} s for {wait} ms");
    assert_eq!(rig.server(1).counts().calls, 1, "a refused call is not passed on");
    for _ in 0..10 {
        assert_eq!(other.ask("ping", "").await.status, 200);
    }
    assert_eq!(served.metric(r#"mcp_requests_refused_total{reason="rate"}"#), Some(1.0));
    // What is no request is not counted, and not refused.
    let notice = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(with_token(&served.legacy(), "eager").post(&[], notice).await.status, 202);
    tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
    assert_eq!(eager.list().await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_leaves_a_token_alone_leaves_what_it_used_up() {
    let mut rig = Rig::new(1);
    let served = served(&mut rig, token("eager", "calls-per-minute = 1")).await;
    let eager = with_token(&served.modern(), "eager");
    assert_eq!((eager.list().await.status, eager.list().await.status), (200, 429));
    rig.toml = "max-stale-ms = 5000\n".to_owned() + &token("eager", "calls-per-minute = 1") + &token("new", "");
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(eager.list().await.status, 429);
    rig.toml = token("eager", "calls-per-minute = 2\ntools = [\"*__add\"]");
    let report = served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(report.changed, ["maxStaleMs", "tokens"]);
    let answer = eager.list().await;
    assert_eq!((answer.status, answer.tool_names()), (200, names("s1", &["add"])), "other rules are in force at once");
}

#[tokio::test(start_paused = true)]
async fn logs_name_the_token_of_every_request_and_of_every_refusal_and_never_quote_it() {
    let mut rig = Rig::new(1);
    let (log, _guard) = Log::of_this_thread(Level::DEBUG);
    let served =
        served(&mut rig, token("agent", "calls-per-minute = 1\ntools = []") + &token("ops", "admin = true")).await;
    let agent = with_token(&served.modern(), "agent");
    agent.list().await;
    agent.list().await;
    agent.get("/status").await;
    agent.send(Method::POST, "/policy/back", &[("content-type", "application/json")], "").await;
    with_token(&served.modern(), "stranger").list().await;
    let lines = |level: &str, part: &str| -> Vec<String> {
        log.lines(part).into_iter().filter(|line| line.contains(level)).collect()
    };
    assert_eq!(lines("DEBUG", "request token=\"agent\" path=\"/mcp\"").len(), 2, "{}", log.text());
    assert_eq!(lines("WARN", "this token asks too often token=\"agent\"").len(), 1, "{}", log.text());
    for (reason, token) in [("part", "token=\"agent\" "), ("admin", "token=\"agent\" "), ("token", "")] {
        let refused = lines("WARN", &format!("request refused at the door reason=\"{reason}\" {token}path="));
        assert_eq!(refused.len(), 1, "{reason}: {}", log.text());
    }
    assert!(!log.text().contains("secret-"), "{}", log.text());
}

/// A modern server whose lists are for whoever has the credential, or for anybody.
async fn restarted_with_another_credential(scope: ListScope) -> (usize, String) {
    let options = ServerOptions { era: ServerEra::Modern, scope, ttl_ms: Some(3_600_000), ..Rig::options(2) };
    let mut rig = Rig::of([options]);
    rig.document.connectors[0].more = json!({ "auth": { "type": "bearer" } });
    rig.map.serve(&rig.document);
    rig.set("CORTEX_CONNECTOR_S1_KEY", "the-first-key");
    rig.server(1).require_bearer("the-first-key");
    let first = rig.ready().await;
    assert_eq!(first.tools(), 3);
    first.gateway.shut_down().await;
    // The same credential: served before the first packet leaves.
    rig.hang(1);
    let same = rig.start().await;
    assert_eq!(same.tools(), 3);
    same.gateway.shut_down().await;
    rig.set("CORTEX_CONNECTOR_S1_KEY", "the-second-key");
    let second = rig.start().await;
    tokio::time::sleep(seconds(30)).await;
    let answer = second.modern().list().await;
    let served = (second.tools(), answer.body);
    // With the server back, the new credential has a list of its own.
    rig.server(1).require_bearer("the-second-key");
    rig.revive(1);
    second.until("a list of its own", seconds(120), |second| second.tools() == 3).await;
    second.gateway.shut_down().await;
    served
}

#[tokio::test(start_paused = true)]
async fn a_private_list_is_never_served_to_another_credential() {
    let (tools, body) = restarted_with_another_credential(ListScope::Private).await;
    assert_eq!(tools, 0);
    assert!(!body.contains("s1__"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_public_list_may_be_served_to_another_credential() {
    assert_eq!(restarted_with_another_credential(ListScope::Public).await.0, 3);
}
