//! A gateway that is connected to itself, directly or through others, serves nothing twice.

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use cortex_mcp::edge::files::MemoryDirectory;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::mcp::protocol::Era;
use cortex_mcp::model::ListKind;
use serde_json::Value;
use tower::ServiceExt as _;
use url::Url;

use crate::support::full_disk::FullDisk;
use crate::support::map::Described;
use crate::support::scripted::{Scripted, Style};
use crate::support::{Rig, Served, seconds, tools_bytes};

fn url(number: usize) -> Url {
    format!("http://127.0.0.1:{}/mcp", 8420 + number).parse().unwrap()
}

/// So many gateways in a circle, each with a server of its own and connected to the next one; they speak an era to each
/// other.
async fn circle(gateways: usize, era: &str) -> (Vec<Rig>, Vec<Served>) {
    let mut rigs = Vec::new();
    for number in 0..gateways {
        let mut rig = Rig::new(1);
        rig.entropy = (u64::try_from(number).unwrap() * 31 + 7).into();
        rig.toml = format!("refresh-interval-ms = 1000\n[registry]\ntools = true\n[connector.next]\nera = \"{era}\"\n");
        let next = url((number + 1) % gateways);
        rig.publish(|map| map.connectors.push(Described::new("next", next.as_str())));
        rigs.push(rig);
    }
    let mut all = Vec::new();
    for rig in &rigs {
        all.push(rig.start().await);
    }
    for rig in &rigs {
        for (number, served) in all.iter().enumerate() {
            let router = served.gateway.router(format!("127.0.0.1:{}", 8420 + number).parse().unwrap());
            // Each gateway on a stack of its own, as in a process of its own.
            let serve = move |request: Request| {
                let served = tokio::spawn(router.clone().oneshot(request));
                async { served.await.unwrap() }
            };
            rig.network.set(&url(number), Host::Serve(Router::new().fallback(serve)));
        }
    }
    (rigs, all)
}

async fn names(served: &Served) -> Vec<String> {
    served.modern().list().await.tool_names()
}

#[tokio::test(start_paused = true)]
async fn a_circle_of_gateways_serves_each_tool_once_however_often_it_is_refreshed() {
    for era in ["modern", "legacy"] {
        for gateways in 1..=3 {
            let (_rigs, all) = circle(gateways, era).await;
            for _ in 0..gateways + 2 {
                for served in &all {
                    served.gateway.sync(SyncKind::Force, |_| {}).await;
                }
            }
            // Three tools of a server and five of the registry at each gateway, and those of all the others.
            let expected = 8 * gateways;
            let before = names(&all[0]).await;
            assert_eq!(before.len(), expected, "{era}, {gateways}: {before:?}");
            let bytes = tools_bytes(&all[0].modern().list().await.body);
            // Each refresh of a circle is many requests.
            let refreshes = if era == "modern" { 100 } else { 10 };
            for _ in 0..refreshes {
                for served in &all {
                    served.gateway.sync(SyncKind::Force, |_| {}).await;
                }
            }
            assert_eq!(tools_bytes(&all[0].modern().list().await.body), bytes, "{era}, {gateways}");
            for served in &all {
                assert_eq!(names(served).await.len(), expected, "{era}, {gateways}");
                assert!(
                    served.legacy().list().await.tool_names().iter().all(|name| !name.starts_with("next__next__next"))
                );
                // What came back: the own tools.
                let left_out = served.connector("next").unwrap().definitions.left_out;
                assert_eq!((left_out.own_instance, left_out.path_too_long), (8, 0), "{era}, {gateways}");
                assert_eq!(served.metric("mcp_definitions_left_out{connector=\"next\"}"), Some(8.0));
                let warnings = served.gateway.status().warnings;
                assert!(
                    warnings.iter().any(|line| line.contains("connector next: 8 definitions are not served")),
                    "{warnings:?}"
                );
            }
            for served in &all {
                served.gateway.shut_down().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_serves_what_passed_through_at_most_four_gateways() {
    let gateways = 6;
    let (_rigs, all) = circle(gateways, "modern").await;
    for _ in 0..gateways + 2 {
        for served in &all {
            served.gateway.sync(SyncKind::Force, |_| {}).await;
        }
    }
    let result = all[0].modern().list().await.result();
    let paths: Vec<usize> = result["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|tool| tool["_meta"]["com.brainwav.cortex/path"].as_array().unwrap().len())
        .collect();
    assert_eq!((paths.len(), paths.iter().max()), (8 * 4, Some(&4)));
    let left_out = all[0].connector("next").unwrap().definitions.left_out;
    assert_eq!((left_out.own_instance, left_out.path_too_long), (0, 8));
    // A call goes as far as its definition came.
    let longest = names(&all[0]).await.into_iter().find(|name| name.starts_with("next__next__next__s1__echo")).unwrap();
    let answer = all[0].modern().call(&longest, r#"{"text":"far"}"#).await;
    assert!(answer.body.contains("far"), "{}", answer.body);
    for served in &all {
        served.gateway.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nothing_lists_ends_at_the_hop_limit() {
    for era in ["modern", "legacy"] {
        for gateways in 1..=3 {
            let (_rigs, all) = circle(gateways, era).await;
            for served in &all {
                served.gateway.sync(SyncKind::Force, |_| {}).await;
            }
            let sent = |all: &[Served]| all.iter().map(|served| served.wire.sent().len()).sum::<usize>();
            let before = sent(&all);
            for client in [all[0].modern(), all[0].legacy()] {
                let answer = client.ask("resources/read", r#""uri":"x://nowhere/a""#).await;
                assert!(answer.code().is_some(), "{}", answer.body);
            }
            tokio::time::sleep(seconds(1)).await;
            let asked = sent(&all) - before;
            assert!(asked <= 60, "{era}, {gateways}: {asked} requests");
            for served in &all {
                served.gateway.shut_down().await;
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_of_hops_is_checked_counted_and_never_passed_on_as_it_is() {
    let rig = Arc::new(Rig::new(2));
    let served = rig.ready().await;
    let key = "com.brainwav.cortex/hops";
    for era in [Era::Modern, Era::Legacy] {
        let client = served.client(era);
        let asked = async |hops: &str, method: &str, params: &str| {
            let version = match era {
                Era::Modern => concat!(
                    r#","io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
                    r#""io.modelcontextprotocol/clientCapabilities":{}"#
                ),
                Era::Legacy => "",
            };
            let body = format!(
                r#"{{"jsonrpc":"2.0","id":1,"method":"{method}","params":{{{params},"_meta":{{"{key}":{hops}{version}}}}}}}"#
            );
            let name = serde_json::from_str::<Value>(&format!("{{{params}}}")).unwrap();
            let name = name["name"].as_str().or(name["uri"].as_str()).unwrap_or_default().to_owned();
            let mut headers = vec![
                ("mcp-method", method),
                (
                    "mcp-protocol-version",
                    match era {
                        Era::Modern => "2026-07-28",
                        Era::Legacy => "2025-11-25",
                    },
                ),
            ];
            if !matches!(method, "completion/complete" | "subscriptions/listen") {
                headers.push(("mcp-name", &name));
            }
            client.post(&headers, &body).await
        };
        for (method, params) in [
            ("tools/call", r#""name":"s1__add","arguments":{"a":1,"b":2}"#),
            ("prompts/get", r#""name":"s1__none""#),
            ("resources/read", r#""uri":"x:y""#),
            match era {
                Era::Modern => ("subscriptions/listen", r#""notifications":{"toolsListChanged":true}"#),
                Era::Legacy => ("resources/subscribe", r#""uri":"x:y""#),
            },
            (
                "completion/complete",
                r#""ref":{"type":"ref/prompt","name":"s1__none"},"argument":{"name":"a","value":""}"#,
            ),
        ] {
            for (hops, reason) in
                [("4", "hop-limit"), ("99", "hop-limit"), ("-1", "hops-malformed"), ("\"1\"", "hops-malformed")]
            {
                let answer = asked(hops, method, params).await;
                let error = &answer.json()["error"];
                assert_eq!(
                    (error["code"].as_i64(), error["data"]["reason"].as_str()),
                    (Some(-32602), Some(reason)),
                    "{method} {hops}"
                );
            }
        }
        let answer = asked("3", "tools/call", r#""name":"s1__add","arguments":{"a":1,"b":2}"#).await;
        assert_eq!(answer.result()["structuredContent"]["sum"], 3);
    }
    served.gateway.shut_down().await;
}

/// The instances in the path of each item of a list.
async fn paths(served: &Served, kind: ListKind) -> Vec<Vec<String>> {
    let result = served.modern().ask(kind.method(), "").await.result();
    let items = result[kind.member()].as_array().unwrap().clone();
    let path = |item: &Value| serde_json::from_value(item["_meta"]["com.brainwav.cortex/path"].clone()).unwrap();
    items.iter().map(path).collect()
}

#[tokio::test(start_paused = true)]
async fn a_home_keeps_its_instance_and_shares_it_with_every_gateway_of_it() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let own = paths(&served, ListKind::Tools).await[0].clone();
    tokio::time::sleep(seconds(1)).await;
    let follower = rig.ready().await;
    assert_eq!(paths(&follower, ListKind::Tools).await[0], own);
    follower.gateway.shut_down().await;
    served.gateway.shut_down().await;
    let again = rig.ready().await;
    assert_eq!(paths(&again, ListKind::Tools).await[0], own, "it is on disk");
    again.gateway.shut_down().await;
    let elsewhere = rig.start_on(&rig.network, &MemoryDirectory::new()).await;
    elsewhere.gateway.first_pass().await;
    assert_ne!(paths(&elsewhere, ListKind::Tools).await[0], own);
    elsewhere.gateway.shut_down().await;
    // A disk that takes nothing: an ID for as long as the process lives.
    let full = Arc::new(FullDisk::default());
    full.set_full(true);
    let (wire, builder) = rig.builder(&rig.network, &rig.state);
    let gateway = builder.state_directory(full).start().await.unwrap();
    gateway.first_pass().await;
    let homeless = Served { gateway, wire, started: tokio::time::Instant::now() };
    assert_eq!(paths(&homeless, ListKind::Tools).await[0].len(), 1);
    homeless.gateway.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_that_starts_with_its_leader_waits_for_the_instance() {
    let rig = Rig::new(1);
    let (leader, follower) = tokio::join!(rig.ready(), rig.ready());
    assert_eq!(paths(&leader, ListKind::Tools).await, paths(&follower, ListKind::Tools).await);
    leader.gateway.shut_down().await;
    follower.gateway.shut_down().await;
}

#[tokio::test(start_paused = true)]
async fn a_definition_with_a_path_that_is_wrong_is_left_out_whatever_it_is_of() {
    let other = |digit: char| format!("\"{}\"", digit.to_string().repeat(32));
    for era in [Era::Modern, Era::Legacy] {
        let rig = Rig::new(1);
        let server = Scripted::new(era, Style::Json);
        server.list(ListKind::Tools, vec![r#"{"name":"a","inputSchema":{"type":"object"}}"#.to_owned()]);
        rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
        let served = rig.ready().await;
        let own = format!("\"{}\"", paths(&served, ListKind::Tools).await[0][0]);
        let cases = [
            ("good", format!("[{}]", other('1'))),
            ("full", format!("[{},{},{}]", other('1'), other('2'), other('3'))),
            ("long", format!("[{},{},{},{}]", other('1'), other('2'), other('3'), other('4'))),
            ("own", format!("[{},{own}]", other('1'))),
            ("text", "\"a\"".to_owned()),
            ("upper", format!("[{}]", other('A'))),
        ];
        for kind in ListKind::ALL {
            let item = |(key, path): &(&str, String)| {
                format!(
                    r#"{{"{}":"x:{key}","title":"t","inputSchema":{{"type":"object"}},"_meta":{{"com.brainwav.cortex/path":{path}}}}}"#,
                    kind.key()
                )
            };
            server.list(kind, cases.iter().map(item).collect());
        }
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        for kind in ListKind::ALL {
            let lengths: Vec<usize> = paths(&served, kind).await.iter().map(Vec::len).collect();
            assert_eq!(lengths, [2, 4], "{era} {kind:?}");
        }
        let left_out = served.connector("s1").unwrap().definitions.left_out;
        assert_eq!((left_out.own_instance, left_out.path_too_long, left_out.path_malformed), (4, 4, 8), "{era}");
        served.gateway.shut_down().await;
    }
}
