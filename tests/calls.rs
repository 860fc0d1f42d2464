//! Calls: from clients of both eras to servers of both eras, losslessly; refused, paced and given up with typed errors.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::time::Duration;

use cortex_mcp::demo::mcp_server::{AnswerStyle, ServerOptions};
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::mcp::protocol::Era;
use cortex_mcp::model::Digest;
use http::StatusCode;
use serde_json::json;
use support::canned::{CallAnswer, Canned};
use support::{Answer, Described, Rig, seconds};
use tokio::time::Instant;

fn data(answer: &Answer) -> serde_json::Value {
    assert_eq!((answer.status, answer.code()), (200, Some(-32010)), "{}", answer.body);
    answer.json()["error"]["data"].clone()
}

/// Arguments that a gateway which parses and writes again would change.
const ODD: [&str; 6] = [
    r#"{"big":123456789012345678901234567890,"small":0.10000000000000000000001,"exponent":1E400,"negative":-0}"#,
    r#"{"z":1,"a":2,"m":{"z":1,"a":2, "spaced" : [ 1 , 2 ]}}"#,
    r#"{"escaped":{"\u00e9\/\u0000":"\ud83d\ude00 \u2028"},"plain":"é😀"}"#,
    r#"{"float":1.0,"zeros":100.000,"null":null,"empty":{},"list":[]}"#,
    r#"{"twice":{"a":1,"a":2}}"#,
    r#"{"deep":[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[["x"]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]}"#,
];

#[tokio::test(start_paused = true)]
async fn clients_of_both_eras_call_servers_of_both_eras_and_odd_arguments_pass_byte_for_byte() {
    for answers in [AnswerStyle::Json, AnswerStyle::Sse] {
        let rig = Rig::of((1..=2).map(|number| ServerOptions { answers, asks_back: true, ..Rig::options(number) }));
        let served = rig.ready().await;
        for era in [Era::Legacy, Era::Modern] {
            for name in ["s1__echo", "s2__echo"] {
                for odd in ODD {
                    let answer = served.client(era).call(name, odd).await;
                    let expected = format!("\"structuredContent\":{odd},");
                    assert!(answer.status == 200 && answer.body.contains(&expected), "{era:?} {name}: {}", answer.body);
                    if era == Era::Modern {
                        assert!(answer.body.contains(r#""resultType":"complete""#), "{}", answer.body);
                    }
                }
            }
        }
        assert_eq!((rig.server(1).counts().calls, rig.server(2).counts().calls), (12, 12));
    }
}

#[tokio::test(start_paused = true)]
async fn odd_results_errors_params_and_definitions_pass_as_they_are() {
    let mut rig = Rig::new(0);
    let tool =
        r#"{"name":"tool","x-vendor":{"z":1.0,"a":[1E400]},"inputSchema":{"type":"object"},"future":{"k":"\u00e9"}}"#;
    let server = Canned::new(tool);
    rig.network.set(&"https://odd.test".parse().unwrap(), Host::Serve(server.router()));
    rig.publish(|map| map.connectors.push(Described::new("odd", "https://odd.test/mcp")));
    let served = rig.ready().await;
    let listed = served.legacy().list().await.body;
    assert!(
        listed.contains(r#""x-vendor":{"z":1.0,"a":[1E400]},"inputSchema":{"type":"object"},"future":{"k":"\u00e9"}"#),
        "{listed}"
    );

    for result in [
        r#"{"content":[{"type":"hologram","data":1.50,"_x":{}}],"resultType":"complete","extra":[1E2]}"#,
        r#"{"resultType":"input_required","inputRequests":{"a":{}},"requestState":"\u0041"}"#,
    ] {
        server.answer(CallAnswer::Result(result.to_owned()));
        assert_eq!(served.modern().call("odd__tool", "{}").await.raw_result(), result);
        let legacy = served.legacy().call("odd__tool", "{}").await;
        match result.contains("input_required") {
            // Legacy clients know no rounds.
            true => assert_eq!(legacy.code(), Some(-32010), "{}", legacy.body),
            false => assert_eq!(legacy.raw_result(), result),
        }
    }
    let error = r#"{"code":-31999,"message":"mine","data":{"z":1.0,"a":2}}"#;
    server.answer(CallAnswer::Error(error.to_owned()));
    let answer = served.modern().call("odd__tool", "{}").await;
    assert!(answer.body.contains(error), "{}", answer.body);

    served
        .legacy()
        .ask("tools/call", r#""x":1.0,"name":"odd__tool","_meta":{"progressToken":1E2,"own":"\u0041"}"#)
        .await;
    let sent = server.calls().pop().unwrap();
    assert!(
        sent.contains(r#""x":1.0,"name":"tool""#)
            && sent.contains(r#"","own":"\u0041""#)
            && sent.contains(r#""progressToken":""#)
            && !sent.contains("1E2"),
        "{sent}"
    );
}

#[tokio::test(start_paused = true)]
async fn unknown_tools_and_methods_are_told_in_the_words_of_the_era() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    for era in [Era::Legacy, Era::Modern] {
        let client = served.client(era);
        let answer = client.call("s1__nothing", "{}").await;
        assert_eq!((answer.status, answer.code()), (200, Some(-32602)), "{}", answer.body);
        let answer = client.ask("no/such", "").await;
        let status = if era == Era::Modern { 404 } else { 200 };
        assert_eq!((answer.status, answer.code()), (status, Some(-32601)));
        assert_eq!(client.ask("tools/list", r#""cursor":"x""#).await.code(), Some(-32602));
        assert_eq!(client.ask("tools/call", "").await.code(), Some(-32602));
    }
    assert_eq!(rig.server(1).counts().calls + rig.server(2).counts().calls, 0);
    // A tool that the server dropped meanwhile: its own error, and its list is looked at again.
    rig.server(2).set_tools(1);
    let answer = served.modern().call("s2__add", r#"{"a":1,"b":2}"#).await;
    assert_eq!(answer.code(), Some(-32602));
    served.until("the shorter list", seconds(1), |served| served.tools_of("s2") == 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_tools_own_error_passes_and_never_opens_the_breaker() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    for _ in 0..30 {
        for name in ["s1__add", "s2__add"] {
            let answer = served.modern().call(name, r#"{"a":"x"}"#).await;
            assert_eq!(answer.result()["isError"], true);
        }
    }
    assert_eq!(served.connector("s1").unwrap().breaker, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_dies_during_a_call_is_told_at_once_and_not_asked_twice() {
    let mut rig = Rig::new(0);
    let server = Canned::new(r#"{"name":"tool","inputSchema":{}}"#);
    rig.network.set(&"https://odd.test".parse().unwrap(), Host::Serve(server.router()));
    rig.publish(|map| map.connectors.push(Described::new("odd", "https://odd.test/mcp")));
    let served = rig.ready().await;
    server.answer(CallAnswer::Dies);
    let began = Instant::now();
    let error = data(&served.modern().call("odd__tool", "{}").await);
    assert_eq!((error["connector"].as_str(), error["reason"].as_str()), (Some("odd"), Some("answer-lost")));
    assert_eq!((began.elapsed(), server.calls().len()), (Duration::ZERO, 1));
    assert_eq!(served.tools(), 1, "its list stays");
}

#[tokio::test(start_paused = true)]
async fn the_breaker_opens_after_five_failures_says_when_to_come_back_and_lets_one_probe_pass() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    for number in [1, 2] {
        rig.server(number).fail_with(StatusCode::BAD_GATEWAY);
        let name = format!("s{number}__echo");
        let client = served.modern();
        for _ in 0..5 {
            assert_eq!(data(&client.call(&name, "{}").await)["reason"], "server");
        }
        let called = rig.server(number).counts().calls;
        let rejected = data(&client.call(&name, "{}").await);
        assert_eq!(rejected["reason"], "breaker-open");
        let wait = rejected["retryAfterMs"].as_u64().unwrap();
        assert!((1..=1_000).contains(&wait), "{wait}");
        assert_eq!(rig.server(number).counts().calls, called, "a rejected call does not reach the server");
        assert_eq!(served.connector(&format!("s{number}")).unwrap().tools, 3, "its list stays");

        rig.server(number).recover();
        rig.server(number).set_latency_of("tools/call", seconds(1));
        tokio::time::sleep(Duration::from_millis(wait)).await;
        let (probe, other) = tokio::join!(client.call(&name, "{}"), client.call(&name, "{}"));
        assert_eq!(
            (probe.code(), other.code()),
            (None, None),
            "the list was answered: the other call waits for the probe"
        );
        assert_eq!(client.call(&name, "{}").await.code(), None);
        let refused = format!(r#"mcp_calls_refused_total{{connector="s{number}",reason="breaker-open"}}"#);
        assert_eq!(served.metric(&refused), Some(1.0));
    }
}

#[tokio::test(start_paused = true)]
async fn beside_a_probe_other_calls_are_refused_at_once_if_nothing_else_was_answered() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    for number in [1, 2] {
        let (server, name) = (rig.server(number), format!("s{number}__echo"));
        server.fail_with(StatusCode::BAD_GATEWAY);
        server.be_silent_on(&["tools/list"]);
        let client = served.modern();
        for _ in 0..6 {
            client.call(&name, "{}").await;
        }
        server.recover();
        server.set_latency_of("tools/call", seconds(1));
        tokio::time::sleep(seconds(1)).await;
        let began = Instant::now();
        let other = async { (client.call(&name, "{}").await, began.elapsed()) };
        let (probe, (other, waited)) = tokio::join!(client.call(&name, "{}"), other);
        assert_eq!((probe.code(), data(&other)["reason"].as_str()), (None, Some("breaker-open")));
        assert_eq!(waited, Duration::ZERO);
    }
}

fn one_with(more: serde_json::Value) -> Rig {
    let mut rig = Rig::new(1);
    rig.publish(|map| map.connectors[0] = map.connectors[0].clone().with(more));
    rig
}

#[tokio::test(start_paused = true)]
async fn a_quota_per_minute_is_kept_and_the_refusal_says_when_to_come_back() {
    let rig = one_with(json!({ "quotas": { "perMinute": 2, "perDay": 1000 } }));
    let served = rig.ready().await;
    let client = served.legacy();
    assert_eq!((client.call("s1__echo", "{}").await.code(), client.call("s1__echo", "{}").await.code()), (None, None));
    let refused = data(&client.call("s1__echo", "{}").await);
    let wait = refused["retryAfterMs"].as_u64().unwrap();
    assert!(refused["reason"] == "quota" && (59_000..=61_000).contains(&wait), "{refused}");
    assert_eq!(rig.server(1).counts().calls, 2);
    tokio::time::sleep(Duration::from_millis(wait + 1)).await;
    assert_eq!(client.call("s1__echo", "{}").await.code(), None);
    assert_eq!(served.connector("s1").unwrap().breaker, "closed");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_one_quota_refuses_uses_up_no_other() {
    let rig = one_with(json!({ "quotas": { "perMinute": 1, "perHour": 3 } }));
    let served = rig.ready().await;
    let client = served.modern();
    for minute in 0..3 {
        assert_eq!(client.call("s1__echo", "{}").await.code(), None, "minute {minute}");
        for _ in 0..5 {
            assert_eq!(data(&client.call("s1__echo", "{}").await)["reason"], "quota");
        }
        tokio::time::sleep(seconds(61)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_quota_of_calls_at_once_makes_them_wait_for_one_another() {
    let rig = one_with(json!({ "quotas": { "concurrent": 2 } }));
    let served = rig.ready().await;
    rig.server(1).set_latency_of("tools/call", seconds(1));
    let client = served.modern();
    let began = Instant::now();
    let calls = (0..6).map(|_| client.call("s1__echo", "{}"));
    let answers = futures_util::future::join_all(calls).await;
    assert!(answers.iter().all(|answer| answer.code().is_none()));
    assert_eq!((began.elapsed(), rig.server(1).counts().max_in_flight), (seconds(3), 2));
}

#[tokio::test(start_paused = true)]
async fn a_call_is_given_up_after_the_time_that_the_map_allows_and_the_server_is_told() {
    let rig = one_with(json!({ "timeouts": { "callMs": 700 } }));
    let served = rig.ready().await;
    let told = rig.server(1).counts().notifications;
    rig.server(1).be_silent_on(&["tools/call"]);
    let began = Instant::now();
    let error = data(&served.modern().call("s1__echo", "{}").await);
    assert_eq!((error["reason"].as_str(), began.elapsed()), (Some("timeout"), Duration::from_millis(700)));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(rig.server(1).counts().notifications, told + 1);
    assert_eq!(served.tools(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_modern_caller_that_goes_cancels_its_call_and_a_legacy_one_does_not() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    rig.server(1).set_latency_of("tools/call", seconds(10));
    let told = rig.server(1).counts().notifications;
    for (era, cancelled) in [(Era::Legacy, 0), (Era::Modern, 1)] {
        let client = served.client(era);
        let call = tokio::time::timeout(seconds(1), client.call("s1__echo", "{}"));
        assert!(call.await.is_err());
        tokio::time::sleep(seconds(1)).await;
        assert_eq!(rig.server(1).counts().notifications, told + cancelled, "{era:?}");
    }
    assert_eq!(served.connector("s1").unwrap().breaker, "closed");
}

#[tokio::test(start_paused = true)]
async fn each_key_goes_to_its_server_in_its_header_and_nowhere_else() {
    let mut rig = Rig::new(4);
    rig.publish(|map| {
        map.connectors[0].more = json!({ "auth": { "type": "bearer" } });
        map.connectors[1].more =
            json!({ "auth": { "type": "apiKey", "headerName": "X-Api-Key" }, "headers": { "X-Plan": "${HOME}" } });
        map.connectors[2].more = json!({ "auth": { "type": "bearer" } });
    });
    rig.set("CORTEX_CONNECTOR_S1_KEY", "key-one");
    rig.set("CORTEX_CONNECTOR_S2_KEY", "key-two");
    rig.set("CONNECTORS_API_KEY", "key-for-all");
    rig.set("CONNECTORS_SERVICE_MAP_TOKEN", "map-token");
    rig.set("HOME", "/home/x");
    rig.server(1).require_bearer("key-one");
    let served = rig.ready().await;
    assert_eq!(served.modern().call("s1__add", r#"{"a":1,"b":2}"#).await.result()["structuredContent"]["sum"], 3);
    served.modern().call("s2__echo", "{}").await;
    assert_eq!((served.tools_of("s1"), served.tools_of("s2"), served.tools_of("s4")), (3, 3, 3));

    let failure = served.connector("s3").unwrap().last_failure.clone().unwrap();
    assert_eq!(failure.class.as_str(), "auth");
    assert!(failure.message.contains("CORTEX_CONNECTOR_S3_KEY"), "{}", failure.message);
    for sent in served.wire.sent() {
        let headers = format!(
            "{:?}",
            sent.request
                .headers
                .iter()
                .map(|(n, v)| (n.as_str(), String::from_utf8_lossy(v.as_bytes())))
                .collect::<Vec<_>>()
        );
        let expected: &[&str] = match sent.origin().as_str() {
            "https://map.test" => &["map-token"],
            "https://s1.test" => &["key-one"],
            "https://s2.test" => &["key-two"],
            _ => &[],
        };
        for key in ["map-token", "key-one", "key-two", "key-for-all", "/home/x"] {
            assert_eq!(headers.contains(key), expected.contains(&key), "{key} at {}: {headers}", sent.origin());
        }
        if sent.origin() == "https://s2.test" {
            assert_eq!(sent.request.headers["x-plan"], "${HOME}");
            assert_eq!(sent.request.headers["x-api-key"], "key-two");
        }
    }
    assert!(served.wire.sent().iter().all(|sent| sent.origin() != "https://s3.test"));
}

#[tokio::test(start_paused = true)]
async fn the_key_for_all_is_sent_only_if_the_operator_opted_in() {
    for share in [false, true] {
        let mut rig = one_with(json!({ "auth": { "type": "bearer" } }));
        rig.set("CONNECTORS_API_KEY", "key-for-all");
        rig.toml = format!("shared-credential = {share}");
        rig.server(1).require_bearer("key-for-all");
        let served = rig.ready().await;
        assert_eq!(served.tools(), if share { 3 } else { 0 });
    }
}

#[tokio::test(start_paused = true)]
async fn refused_credentials_are_told_and_not_hammered() {
    let mut rig = one_with(json!({ "auth": { "type": "bearer" } }));
    rig.set("CORTEX_CONNECTOR_S1_KEY", "wrong");
    rig.server(1).require_bearer("right");
    let served = rig.ready().await;
    assert_eq!(served.connector("s1").unwrap().last_failure.as_ref().unwrap().class.as_str(), "auth");
    let status = served.gateway.status();
    let refused = status.connectors[0].credential.clone().unwrap();
    assert_eq!(refused.http_status, 401);
    assert!(refused.action.contains("CORTEX_CONNECTOR_S1_KEY") && !refused.action.contains("wrong"), "{refused:?}");
    assert!(status.warnings.iter().any(|warning| warning.contains("401")), "{:?}", status.warnings);
    let asked = rig.server(1).counts().requests;
    tokio::time::sleep(seconds(1_800)).await;
    assert_eq!(rig.server(1).counts().requests, asked);
}

#[tokio::test(start_paused = true)]
async fn one_origin_has_ten_calls_at_once_and_the_others_wait() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    rig.server(2).set_latency_of("tools/call", seconds(1));
    let client = served.modern();
    let began = Instant::now();
    let many = futures_util::future::join_all((0..25).map(|_| client.call("s2__echo", "{}")));
    let (answers, other) = tokio::join!(many, client.call("s1__echo", "{}"));
    assert!(answers.iter().all(|answer| answer.code().is_none()) && other.code().is_none());
    assert_eq!((rig.server(2).counts().max_in_flight, began.elapsed()), (10, seconds(3)));
}

#[tokio::test(start_paused = true)]
async fn calls_in_flight_end_before_the_gateway_does() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    for number in [1, 2] {
        rig.server(number).set_latency_of("tools/call", seconds(3));
    }
    let calls: Vec<_> = [Era::Legacy, Era::Modern]
        .into_iter()
        .flat_map(|era| ["s1__add", "s2__add"].map(|name| (served.client(era), name)))
        .map(|(client, name)| tokio::spawn(async move { client.call(name, r#"{"a":1,"b":1}"#).await }))
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    served.gateway.shut_down().await;
    assert!(began.elapsed() >= Duration::from_millis(2_900) && began.elapsed() <= seconds(4), "{:?}", began.elapsed());
    for call in calls {
        assert_eq!(call.await.unwrap().result()["structuredContent"]["sum"], 2);
    }
    assert_eq!(rig.server(1).open_sessions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_never_ends_does_not_keep_the_gateway_from_ending() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let calls: Vec<_> = [(Era::Legacy, 1), (Era::Modern, 2)]
        .into_iter()
        .map(|(era, number)| {
            rig.server(number).be_silent_on(&["tools/call"]);
            let client = served.client(era);
            tokio::spawn(async move { client.call(&format!("s{number}__echo"), "{}").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let began = Instant::now();
    served.gateway.shut_down().await;
    assert!(began.elapsed() <= seconds(25), "{:?}", began.elapsed());
    for call in calls {
        assert_eq!(call.await.unwrap().code(), Some(-32010));
    }
}

#[tokio::test(start_paused = true)]
async fn a_disabled_connector_lets_its_calls_end() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    rig.server(1).set_latency_of("tools/call", seconds(2));
    let client = served.modern();
    let call = tokio::spawn(async move { client.call("s1__add", r#"{"a":1,"b":1}"#).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    rig.publish(|map| map.connectors[0].enabled = false);
    served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
    assert_eq!((served.tools(), rig.server(1).counts().deletes), (3, 0));
    assert_eq!(call.await.unwrap().result()["structuredContent"]["sum"], 2);
    tokio::time::sleep(seconds(1)).await;
    assert_eq!((rig.server(1).open_sessions(), rig.server(1).counts().deletes), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn a_name_of_a_connector_without_lists_is_answered_with_its_cause_and_never_as_unknown() {
    for era in [Era::Legacy, Era::Modern] {
        let mut rig = Rig::new(2);
        rig.publish(|map| map.connectors.push(Described::new("missing", "https://missing.test/mcp")));
        rig.toml = format!("[[token]]\nname = \"part\"\nsha256 = \"{}\"\nconnectors = [\"s1\"]", Digest::of(b"part"))
            + &format!("\n[[token]]\nname = \"all\"\nsha256 = \"{}\"", Digest::of(b"all"));
        let served = rig.ready().await;
        let client = |token: &str| {
            let client = if era == Era::Modern { served.modern() } else { served.legacy() };
            client.with_header("authorization", &format!("Bearer {token}"))
        };
        for (method, params) in [
            ("tools/call", r#""name":"missing__x""#),
            ("prompts/get", r#""name":"missing__x""#),
            (
                "completion/complete",
                r#""ref":{"type":"ref/prompt","name":"missing__x"},"argument":{"name":"a","value":""}"#,
            ),
        ] {
            let answer = client("all").ask(method, params).await;
            let error = answer.json()["error"].clone();
            assert_eq!(
                (error["code"].as_i64(), error["data"]["reason"].as_str()),
                (Some(-32010), Some("no-list")),
                "{error}"
            );
            assert_eq!(
                (&error["data"]["connector"], answer.headers.contains_key("retry-after")),
                (&json!("missing"), true)
            );
            assert!(error["data"]["retryAfterMs"].as_u64().is_some_and(|wait| wait <= 60_000), "{error}");
            let message = error["message"].as_str().unwrap();
            assert!(
                message.starts_with("connector missing has no list yet: ") && message.contains("does not resolve"),
                "{message}"
            );
            // What a token does not see is not there; what is listed is known.
            for (token, params) in [("part", params.to_owned()), ("all", params.replace("missing__x", "s1__x"))] {
                assert_eq!(client(token).ask(method, &params).await.code(), Some(-32602), "{token} {params}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_reference_is_invalid_params() {
    for modern in [false, true] {
        let rig = Rig::new(1);
        let served = rig.ready().await;
        let client = if modern { served.modern() } else { served.legacy() };
        for reference in
            [r#"{"type":"ref/other","name":"x"}"#, r#"{"type":7}"#, r#"{"name":"x"}"#, "{}", "[]", "7", "\"x\"", "null"]
        {
            let params = format!(r#""ref":{reference},"argument":{{"name":"a","value":""}}"#);
            assert_eq!(client.ask("completion/complete", &params).await.code(), Some(-32602), "{reference}");
        }
        assert_eq!(
            client.ask("completion/complete", r#""argument":{"name":"a","value":""}"#).await.code(),
            Some(-32602)
        );
    }
}
