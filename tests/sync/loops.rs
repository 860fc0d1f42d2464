//! A gateway that is connected to itself, directly or through others, serves nothing twice.

use std::sync::Arc;

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::mcp::protocol::Era;
use serde_json::Value;
use url::Url;

use crate::support::map::Described;
use crate::support::{Rig, Served, seconds};

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
            rig.network.set(&url(number), Host::Serve(router));
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
            let bytes = all[0].modern().list().await.body;
            for _ in 0..100 {
                for served in &all {
                    served.gateway.sync(SyncKind::Force, |_| {}).await;
                }
            }
            assert_eq!(all[0].modern().list().await.body.len(), bytes.len(), "{era}, {gateways}");
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
                assert!(warnings.iter().any(|line| line.contains("connector next: 8 definitions")), "{warnings:?}");
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
            if method != "completion/complete" {
                headers.push(("mcp-name", &name));
            }
            client.post(&headers, &body).await
        };
        for (method, params) in [
            ("tools/call", r#""name":"s1__add","arguments":{"a":1,"b":2}"#),
            ("prompts/get", r#""name":"s1__none""#),
            ("resources/read", r#""uri":"x:y""#),
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
