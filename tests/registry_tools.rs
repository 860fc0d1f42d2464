//! The gateway's own tools for the registry: off unless they are wanted, first in the list, refused to who may not change the
//! gateway, and never telling a secret.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::ConnectInfo;
use cortex_mcp::edge::Edge;
use cortex_mcp::edge::disk::Disk;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::process::Exit;
use cortex_mcp::edge::virtual_processes::OnTerminate;
use cortex_mcp::mcp::protocol::Era;
use cortex_mcp::model::Digest;
use cortex_mcp::policy::{Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::registry::{RegistryEntry, RegistryMetrics, Store, StoreOptions, StoreParts};
use serde_json::{Value, json};
use support::wire::Wire;
use support::{Client, Rig, Served, seconds, tools_bytes};

const NAMES: [&str; 5] =
    ["registry_list", "registry_get", "registry_register", "registry_unregister", "registry_stats"];

fn with_tools(servers: usize) -> Rig {
    let mut rig = Rig::new(servers);
    rig.environment = [].into();
    rig.toml = "[registry]\ntools = true\n".to_owned();
    rig
}

/// A client on the gateway's own machine.
fn local(served: &Served, era: Era) -> Client {
    let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
    let router = served.gateway.router("127.0.0.1:8420".parse().unwrap()).layer(Extension(ConnectInfo(peer)));
    Client::new(router, era)
}

/// What a tool answers, and whether it says that this is an error.
async fn ask(client: &Client, tool: &str, arguments: Value) -> (Value, bool) {
    let result = client.call(tool, &arguments.to_string()).await.result();
    let content = result["content"].as_array().unwrap();
    assert_eq!((content.len(), &content[0]["type"]), (1, &json!("text")));
    let text = content[0]["text"].as_str().unwrap();
    let told = result["structuredContent"].clone();
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), told);
    assert_eq!(text, serde_json::to_string_pretty(&told).unwrap());
    assert_eq!(result["_meta"]["tool"], tool);
    assert!(result["_meta"]["timestamp"].as_str().unwrap().starts_with("2026-01-01T"), "{result}");
    assert_eq!(result["_meta"]["correlationId"].as_str().unwrap().len(), 36);
    (told, result["isError"] == true)
}

async fn refused(client: &Client, tool: &str, arguments: Value) -> (String, String) {
    let (told, is_error) = ask(client, tool, arguments).await;
    assert!(is_error && told["details"].is_object(), "{told}");
    (told["error"].as_str().unwrap().to_owned(), told["message"].as_str().unwrap().to_owned())
}

async fn good(client: &Client, tool: &str, arguments: Value) -> Value {
    let (told, is_error) = ask(client, tool, arguments).await;
    assert!(!is_error, "{told}");
    told
}

#[tokio::test(start_paused = true)]
async fn the_tools_are_there_only_if_they_are_wanted_and_a_reload_decides_it_anew() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    let client = local(&served, Era::Modern);
    let without = client.list().await;
    assert!(!without.tool_names().iter().any(|name| name.starts_with("registry")));
    assert_eq!(client.call("registry_list", "{}").await.code(), Some(-32602));

    rig.toml = "[registry]\ntools = true\nwrite-through = true\nbatch-ms = 9\n".to_owned();
    let report = served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(report.changed, ["registry.tools"]);
    assert_eq!(report.needs_restart, ["registry.batchMs", "registry.writeThrough"]);
    let shown = served.gateway.status().configuration["registry"].clone();
    assert_eq!(shown, json!({ "tools": true, "commands": false, "writeThrough": false, "batchMs": 5000 }));
    let with = client.list().await;
    assert_eq!(with.tool_names()[..5], NAMES);
    assert_eq!(with.tool_names()[5..], without.tool_names());
    assert_eq!(tools_bytes(&local(&served, Era::Legacy).list().await.body), tools_bytes(&with.body));
    assert_eq!((served.tools(), good(&client, "registry_list", json!({})).await["total"].clone()), (6, json!(0)));

    rig.toml = String::new();
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(tools_bytes(&client.list().await.body), tools_bytes(&without.body));
}

#[tokio::test(start_paused = true)]
async fn a_server_is_registered_served_shown_replaced_and_unregistered() {
    let rig = with_tools(2);
    let served = rig.ready().await;
    for era in [Era::Modern, Era::Legacy] {
        let client = local(&served, era);
        let entry = json!({ "name": "wiki", "transport": "http", "endpoint": "https://s1.test/mcp",
            "headers": { "X-Key": "canary" }, "tags": ["read"], "extra": { "vendor": { "id": 7 } } });
        let created = good(&client, "registry_register", entry.clone()).await;
        assert_eq!((&created["status"], &created["served"]), (&json!("created"), &json!(true)));
        served.until("its tools", seconds(1), |served| served.tools_of("wiki") == 3).await;
        served
            .until("they answer", seconds(5), |served| {
                served.connector("wiki").is_some_and(|status| status.state == cortex_mcp::model::ListState::Fresh)
            })
            .await;
        assert_eq!(client.call("wiki__echo", r#"{"text":"hello"}"#).await.code(), None);

        let shown = good(&client, "registry_get", json!({ "name": "wiki", "includeStatus": true })).await;
        let server = json!({ "name": "wiki", "transport": "http", "endpoint": "https://s1.test/mcp",
            "headers": { "X-Key": "***" }, "tags": ["read"], "otherFields": ["vendor"] });
        assert_eq!((&shown["server"], &shown["served"]), (&server, &json!(true)));
        let status = &shown["status"];
        assert_eq!((&status["connector"]["contact"], &status["connector"]["tools"]), (&json!("up"), &json!(3)));
        assert!(status["lastModified"].as_str().unwrap().starts_with("2026-01-01T"), "{status}");
        assert!(status["lastModifiedBy"].as_str().unwrap().starts_with("gateway-"), "{status}");
        let plain = good(&client, "registry_get", json!({ "name": "wiki" })).await;
        assert_eq!(plain.get("status"), None);

        let (error, message) = refused(&client, "registry_register", entry.clone()).await;
        assert!(error == "duplicate_server" && message.contains("overwrite"), "{error}: {message}");
        let mut other = entry.clone();
        other["overwrite"] = json!(true);
        other["endpoint"] = json!("https://s2.test/mcp");
        assert_eq!(good(&client, "registry_register", other).await["status"], "updated");

        let listed = good(&client, "registry_list", json!({ "tags": ["read"], "namePattern": "W*" })).await;
        assert_eq!((&listed["total"], &listed["servers"][0]["endpoint"]), (&json!(1), &json!("https://s2.test/mcp")));
        let stats = good(&client, "registry_stats", json!({})).await;
        assert_eq!(
            (&stats["byTransport"], &stats["standing"]),
            (&json!({ "http": 1 }), &json!({ "state": "writable" }))
        );
        for told in [&created, &shown, &listed, &stats] {
            assert!(!told.to_string().contains("canary"), "{told}");
        }

        let removed = good(&client, "registry_unregister", json!({ "name": "wiki" })).await;
        assert_eq!(removed, json!({ "status": "removed", "name": "wiki" }));
        served.until("it is gone", seconds(1), |served| served.tools() == 0).await;
        for tool in ["registry_get", "registry_unregister"] {
            assert_eq!(refused(&client, tool, json!({ "name": "wiki" })).await.0, "not_found");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn who_may_not_change_the_gateway_may_read_the_registry_and_is_told_why_not_more() {
    let wiki = json!({ "name": "wiki", "transport": "http", "endpoint": "https://s1.test/mcp" });
    let rig = with_tools(1);
    let served = rig.ready().await;
    let near = local(&served, Era::Modern);
    for (who, client, reason) in [
        ("somebody elsewhere", served.modern(), "not-local"),
        ("a proxy", near.with_header("x-forwarded-for", "192.0.2.1"), "proxied"),
        ("a page", near.with_header("origin", "http://localhost:3000"), "page"),
    ] {
        for (tool, arguments) in [("registry_register", wiki.clone()), ("registry_unregister", json!({ "name": "a" }))]
        {
            let (told, is_error) = ask(&client, tool, arguments).await;
            assert!(is_error && told["error"] == "security_error", "{who}: {told}");
            assert_eq!(
                (&told["details"]["reason"], told["message"].as_str().unwrap().is_empty()),
                (&json!(reason), false)
            );
        }
        for tool in ["registry_list", "registry_stats"] {
            good(&client, tool, json!({})).await;
        }
        let series = format!("mcp_requests_refused_total{{reason=\"{reason}\"}}");
        assert_eq!(served.metric(&series), Some(2.0), "{who}");
    }
    assert_eq!(served.gateway.registry().list().len(), 0);

    let mut rig = with_tools(1);
    for (name, admin) in [("agent", false), ("admin", true)] {
        let digest = Digest::of(name.as_bytes());
        rig.toml += &format!("[[token]]\nname = \"{name}\"\nsha256 = \"{digest}\"\nadmin = {admin}\n");
    }
    let served = rig.ready().await;
    let client = |token: &str| served.modern().with_header("authorization", &format!("Bearer {token}"));
    let (error, message) = refused(&client("agent"), "registry_register", wiki.clone()).await;
    assert!(error == "security_error" && message.contains("admin = true"), "{error}: {message}");
    assert_eq!(good(&client("agent"), "registry_list", json!({})).await["total"], 0);
    assert_eq!(good(&client("admin"), "registry_register", wiki).await["status"], "created");
    assert_eq!(good(&client("agent"), "registry_list", json!({})).await["total"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_program_is_started_only_with_a_setting_of_its_own_which_a_reload_changes() {
    let mut rig = with_tools(0);
    rig.processes.set("run", OnTerminate::Ends, |_| async { Exit::Code(0) });
    let served = rig.ready().await;
    let entry = json!({ "name": "helper", "transport": "stdio", "command": "run", "args": ["-c", "id > /tmp/x"] });
    for era in [Era::Modern, Era::Legacy] {
        let client = local(&served, era);
        for overwrite in [false, true] {
            let mut entry = entry.clone();
            entry["overwrite"] = overwrite.into();
            let (told, is_error) = ask(&client, "registry_register", entry).await;
            assert!(is_error && told["error"] == "security_error", "{told}");
            assert!(told["message"].as_str().unwrap().contains("commands = true"), "{told}");
            assert_eq!(told["details"]["reason"], "commands");
        }
        let mut reads = json!({ "name": "reader", "transport": "http", "endpoint": "https://s1.test/mcp" });
        reads["headers"] = json!({ "X": "${file:/etc/passwd}" });
        assert_eq!(refused(&client, "registry_register", reads).await.0, "security_error");
    }
    tokio::time::sleep(seconds(60)).await;
    assert_eq!((rig.processes.started(), served.gateway.registry().list().len()), (0, 0), "no program ran");

    rig.toml += "commands = true\n";
    assert_eq!(served.gateway.reload(rig.settings()).await.unwrap().changed, ["registry.commands"]);
    let client = local(&served, Era::Modern);
    assert_eq!(good(&client, "registry_register", entry).await["status"], "created");
    served.until("the program runs", seconds(60), |_| rig.processes.started() > 0).await;
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_wrongly_is_named_and_what_is_not_served_is_said() {
    let rig = with_tools(0);
    let served = rig.ready().await;
    let client = local(&served, Era::Modern);
    for (tool, arguments, part) in [
        ("registry_list", json!({ "includeInactive": true }), "includeInactive"),
        ("registry_list", json!({ "limit": 0 }), "1 to 100"),
        ("registry_get", json!({}), "name"),
        ("registry_get", json!({ "name": "../etc" }), "name"),
        ("registry_unregister", json!({ "name": "a", "force": true }), "force"),
        ("registry_stats", json!({ "x": 1 }), "x"),
        ("registry_register", json!({ "name": "a", "transport": "http", "endpoint": "ftp://a" }), "endpoint"),
    ] {
        let (error, message) = refused(&client, tool, arguments).await;
        assert!(error == "validation_error" && message.contains(part), "{tool}: {error}: {message}");
    }
    let socket = json!({ "name": "live", "transport": "ws", "endpoint": "wss://live.test/" });
    let told = good(&client, "registry_register", socket).await;
    assert!(told["served"] == false && told["note"].as_str().unwrap().contains("ws"), "{told}");
    let shown = good(&client, "registry_get", json!({ "name": "live", "includeStatus": true })).await;
    assert!(shown["served"] == false && shown["status"].get("connector").is_none(), "{shown}");
    let problems = || served.gateway.status().registry.problems;
    served.until("it is reported", seconds(1), |_| problems().iter().any(|one| one.contains("live"))).await;
    assert_eq!(good(&client, "registry_stats", json!({})).await["byTransport"], json!({ "ws": 1 }));
}

#[tokio::test(start_paused = true)]
async fn what_another_process_acknowledged_is_told_at_once_and_a_map_that_names_the_same_wins() {
    let mut rig = Rig::new(1);
    rig.toml = "[registry]\ntools = true\n".to_owned();
    let served = rig.ready().await;
    let client = local(&served, Era::Modern);
    let told = good(
        &client,
        "registry_register",
        json!({ "name": "s1", "transport": "http", "endpoint": "https://s1.test/mcp" }),
    )
    .await;
    assert!(told["served"] == false && told["note"].as_str().unwrap().contains("service map"), "{told}");

    let edge = Edge {
        clock: rig.clock.clone(),
        entropy: Arc::new(VirtualEntropy::from_number(99)),
        http: Wire::new(rig.network.clone()),
    };
    let embedded = Arc::new(PolicyComponent::embedded().unwrap());
    let policy = Policy::new(embedded.clone(), embedded, edge, rig.records.clone(), PolicyMetrics::default());
    let disk: Arc<dyn Disk> = Arc::new(rig.registry.clone());
    let other = Store::open(StoreParts {
        disk,
        file: "servers.json".to_owned(),
        policy: Arc::new(policy),
        writer: "other".to_owned(),
        metrics: RegistryMetrics::default(),
        options: StoreOptions::default(),
    })
    .unwrap();
    other.upsert(RegistryEntry::parse(r#"{"name":"x1","transport":"stdio","command":"run"}"#).unwrap()).unwrap();
    let shown = good(&client, "registry_get", json!({ "name": "x1", "includeStatus": true })).await;
    assert_eq!((&shown["server"]["command"], &shown["status"]["lastModifiedBy"]), (&json!("run"), &json!("other")));
    other.remove("x1").unwrap();
    assert_eq!(refused(&client, "registry_get", json!({ "name": "x1" })).await.0, "not_found");
}
