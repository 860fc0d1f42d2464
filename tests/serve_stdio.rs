//! The gateway on a pair of pipes, in virtual time: both eras, messages before answers, questions, cancellation, the end.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::{SyncKind, limits};
use cortex_mcp::mcp::Era;
use cortex_mcp::model::ListKind;
use serde_json::{Value, json};
use support::client::META;
use support::scripted::{Before, Ending, Scripted, Style};
use support::{Rig, Served, seconds, until};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, DuplexStream, Lines};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A client on pipes.
struct Pipes {
    input: Option<DuplexStream>,
    output: Lines<BufReader<DuplexStream>>,
    stop: CancellationToken,
    serving: JoinHandle<()>,
}

impl Pipes {
    fn of(served: &Served) -> Self {
        let (input, to_serve) = tokio::io::duplex(64 << 10);
        let (served_to, output) = tokio::io::duplex(64 << 10);
        let (gateway, stop) = (served.gateway.clone(), CancellationToken::new());
        let stopping = stop.clone();
        let serving = tokio::spawn(async move {
            gateway.serve_stdio(to_serve, served_to, stopping).await;
        });
        Self { input: Some(input), output: BufReader::new(output).lines(), stop, serving }
    }

    async fn say(&mut self, message: &str) {
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{message}\n").as_bytes()).await.unwrap();
    }

    /// The next message; none at the end.
    async fn hear(&mut self) -> Option<Value> {
        let line = tokio::time::timeout(seconds(100), self.output.next_line()).await.expect("nothing comes");
        Some(serde_json::from_str(&line.unwrap()?).unwrap())
    }

    /// Whether nothing comes for so long.
    async fn is_quiet(&mut self) -> bool {
        tokio::time::timeout(seconds(5), self.output.next_line()).await.is_err()
    }

    async fn ask(&mut self, id: &str, method: &str, params: &str) -> Value {
        self.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"{method}","params":{{{params}}}}}"#)).await;
        self.hear().await.unwrap()
    }

    /// Shakes hands as a legacy client that can do this.
    async fn shake_hands(&mut self, capabilities: &str) -> Value {
        let info = r#""clientInfo":{"name":"t","version":"1"}"#;
        let params = format!(r#""protocolVersion":"2025-11-25","capabilities":{capabilities},{info}"#);
        let answer = self.ask("0", "initialize", &params).await;
        self.say(r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#).await;
        answer
    }
}

async fn scripted(era: Era) -> (Rig, Arc<Scripted>, Served) {
    let rig = Rig::new(1);
    let server = Scripted::new(era, Style::Json);
    server.list(ListKind::Tools, vec![r#"{"name":"work","inputSchema":{"type":"object"}}"#.to_owned()]);
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    let served = rig.ready().await;
    (rig, server, served)
}

const CALL: &str = r#""name":"s1__work","arguments":{}"#;

#[tokio::test(start_paused = true)]
async fn each_request_is_answered_in_the_era_that_it_is_written_in() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let mut pipes = Pipes::of(&served);
    let discovered = pipes.ask("1", "server/discover", META).await;
    assert_eq!(discovered["result"]["supportedVersions"][0], "2026-07-28");
    let listed = pipes.ask("2", "tools/list", META).await;
    assert_eq!((&listed["id"], &listed["result"]["resultType"]), (&json!(2), &json!("complete")));
    let shaken = pipes.shake_hands("{}").await;
    assert_eq!(shaken["result"]["protocolVersion"], "2025-11-25");
    let listed = pipes.ask("\"three\"", "tools/list", "").await;
    assert_eq!((&listed["id"], listed["result"].get("resultType")), (&json!("three"), None));
    let called = pipes.ask("4", "tools/call", r#""name":"s1__echo","arguments":{"text":"x"}"#).await;
    assert!(called["result"]["content"].is_array(), "{called}");
    assert_eq!(pipes.ask("5", "ping", "").await["result"], json!({}));
    assert_eq!(pipes.ask("6", "logging/setLevel", r#""level":"info""#).await["result"], json!({}));
}

#[tokio::test(start_paused = true)]
async fn ambiguous_members_are_refused_in_both_eras_and_counted() {
    let (_rig, server, served) = scripted(Era::Legacy).await;
    let mut pipes = Pipes::of(&served);
    pipes.shake_hands("{}").await;
    for more in [r#""Name":"other""#, r#""name":"other""#, r#""name\u0000":"other""#, r#""_META":{}"#] {
        for meta in ["", &format!(",{META}")] {
            let answer = pipes.ask("1", "tools/call", &format!("{CALL},{more}{meta}")).await;
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32602)), "{more}: {answer}");
        }
    }
    for line in [
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","Method":"tools/call"}"#,
        r#"{"jsonrpc":"2.0","id":1,"method":"ping","PARAMS":{}}"#,
    ] {
        pipes.say(line).await;
        let answer = pipes.hear().await.unwrap();
        assert_eq!((&answer["id"], &answer["error"]["code"]), (&json!(1), &json!(-32600)), "{line}: {answer}");
    }
    pipes.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1,"requestID":2}}"#).await;
    assert_eq!(pipes.ask("2", "ping", "").await["result"], json!({}), "a notification is not answered");
    let metrics = served.gateway.metrics();
    assert!(metrics.contains("mcp_requests_refused_total{reason=\"ambiguous-members\"} 11"), "{metrics}");
    assert_eq!(server.times_asked("tools/call"), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_message_or_breaks_a_rule_is_told_so_and_the_next_line_is_read() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let mut pipes = Pipes::of(&served);
    let other_version = META.replace("2026-07-28", "2099-01-01");
    for (line, code) in [
        ("{".to_owned(), -32700),
        ("[]".to_owned(), -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"server/discover","params":{}}"#.to_owned(), -32602),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{{{other_version}}}}}"#), -32022),
        (r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#.to_owned(), -32601),
    ] {
        pipes.say(&line).await;
        assert_eq!(pipes.hear().await.unwrap()["error"]["code"], code, "{line}");
    }
    pipes.say("\r").await;
    assert_eq!(pipes.ask("2", "ping", "").await["result"], json!({}), "empty lines are none");
}

#[tokio::test(start_paused = true)]
async fn messages_and_questions_come_before_the_answer() {
    let (_rig, server, served) = scripted(Era::Legacy).await;
    let mut pipes = Pipes::of(&served);
    pipes.shake_hands(r#"{"elicitation":{}}"#).await;
    let question = "{\"message\":\r\n \"who?\"}".to_owned();
    let notice = Before::Notice("notifications/progress", r#"{"progressToken":TOKEN,"progress":1}"#.to_owned());
    server.tell(vec![notice, Before::Question("elicitation/create", question)], Ending::Result("{\"a\":1}".into()));
    let first = pipes.ask("7", "tools/call", &format!(r#"{CALL},"_meta":{{"progressToken":1}}"#)).await;
    assert_eq!(first["method"], "notifications/progress");
    let asked = pipes.hear().await.unwrap();
    assert_eq!((&asked["method"], &asked["params"]["message"]), (&json!("elicitation/create"), &json!("who?")));
    pipes.say(&format!(r#"{{"jsonrpc":"2.0","id":{},"result":{{"action":"decline"}}}}"#, asked["id"])).await;
    assert_eq!(pipes.hear().await.unwrap(), json!({"jsonrpc": "2.0", "id": 7, "result": {"a": 1}}));
    assert!(server.answers()[0].contains(r#""action":"decline""#), "{:?}", server.answers());
}

#[tokio::test(start_paused = true)]
async fn requests_are_answered_as_they_are_ready_and_a_cancelled_one_never() {
    for meta in ["", META] {
        let rig = Rig::new(2);
        rig.server(1).be_silent_on(&["tools/call"]);
        let served = rig.ready().await;
        let mut pipes = Pipes::of(&served);
        let more = if meta.is_empty() { String::new() } else { format!(",{meta}") };
        let call = |number: u32| {
            let params = format!(r#""name":"s{number}__echo","arguments":{{}}{more}"#);
            format!(r#"{{"jsonrpc":"2.0","id":{number},"method":"tools/call","params":{{{params}}}}}"#)
        };
        pipes.say(&call(1)).await;
        pipes.say(&call(2)).await;
        assert_eq!(pipes.hear().await.unwrap()["id"], 2);
        pipes.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#).await;
        let told = || served.wire.sent().iter().any(|sent| sent.body().contains("notifications/cancelled"));
        until("the server is told", seconds(1), told).await;
        assert!(pipes.is_quiet().await);
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_client_is_told_of_changes_once_it_is_ready_and_a_modern_one_that_listens() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let change = async |tools: usize| {
        rig.server(1).set_tools(tools);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
    };
    let mut legacy = Pipes::of(&served);
    let mut modern = Pipes::of(&served);
    let listen = format!(r#""notifications":{{"toolsListChanged":true}},{META}"#);
    let acknowledged = modern.ask("1", "subscriptions/listen", &listen).await;
    assert_eq!(acknowledged["method"], "notifications/subscriptions/acknowledged");
    change(4).await;
    assert_eq!(modern.hear().await.unwrap()["method"], "notifications/tools/list_changed");
    assert!(legacy.is_quiet().await, "who has not shaken hands is told nothing");
    legacy.shake_hands("{}").await;
    change(5).await;
    assert_eq!(legacy.hear().await.unwrap()["method"], "notifications/tools/list_changed");
    assert_eq!(modern.hear().await.unwrap()["method"], "notifications/tools/list_changed");
    modern.input = None;
    let ended = modern.hear().await.unwrap();
    assert_eq!((&ended["id"], &ended["result"]["resultType"]), (&json!(1), &json!("complete")));
    assert_eq!(modern.hear().await, None);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_input_leaves_requests_in_flight_some_time() {
    for (latency, answered) in [(limits::STDIO_DRAIN_TIMEOUT / 2, true), (limits::STDIO_DRAIN_TIMEOUT * 2, false)] {
        for signalled in [false, true] {
            let rig = Rig::new(1);
            rig.server(1).set_latency_of("tools/call", latency);
            let served = rig.ready().await;
            let mut pipes = Pipes::of(&served);
            let params = r#"{"name":"s1__echo","arguments":{}}"#;
            pipes.say(&format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)).await;
            let called = || served.wire.sent().iter().any(|sent| sent.body().contains("tools/call"));
            until("it is called", seconds(1), called).await;
            match signalled {
                true => pipes.stop.cancel(),
                false => pipes.input = None,
            }
            assert_eq!(pipes.hear().await.is_some(), answered);
            assert_eq!(if answered { pipes.hear().await } else { None }, None);
            pipes.serving.await.unwrap();
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_breaks_its_pipes_is_not_waited_for() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let mut pipes = Pipes::of(&served);
    pipes.shake_hands("{}").await;
    let Pipes { input, output, serving, .. } = pipes;
    drop((input, output));
    tokio::time::timeout(seconds(60), serving).await.expect("it ends").unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_client_that_stops_reading_keeps_nobody_from_ending() {
    for asked_to in [false, true] {
        let rig = Rig::new(1);
        let served = rig.ready().await;
        let (mut input, to_serve) = tokio::io::duplex(64 << 10);
        // The pipe stands, and is full at once.
        let (served_to, _output) = tokio::io::duplex(1);
        let (gateway, stop) = (served.gateway.clone(), CancellationToken::new());
        let stopping = stop.clone();
        let serving = tokio::spawn(async move { gateway.serve_stdio(to_serve, served_to, stopping).await });
        for id in 0..4 {
            let list = format!("{{\"jsonrpc\":\"2.0\",\"id\":{id},\"method\":\"ping\"}}\n");
            input.write_all(list.as_bytes()).await.unwrap();
        }
        tokio::time::sleep(seconds(1)).await;
        let _input = match asked_to {
            true => {
                stop.cancel();
                Some(input)
            }
            false => {
                drop(input);
                None
            }
        };
        let patience = 3 * limits::STDIO_DRAIN_TIMEOUT;
        tokio::time::timeout(patience, serving).await.expect("it ends").unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_taken_back_in_the_same_breath_is_never_answered() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let mut pipes = Pipes::of(&served);
    let call = r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"s1__echo","arguments":{}}}"#;
    let cancel = r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":1}}"#;
    let ping = r#"{"jsonrpc":"2.0","id":2,"method":"ping"}"#;
    pipes.say(&format!("{call}\n{cancel}\n{ping}")).await;
    assert_eq!(pipes.hear().await.unwrap()["id"], 2);
    assert!(pipes.is_quiet().await);
}

#[tokio::test(start_paused = true)]
async fn a_client_on_stdio_is_one_session_for_the_resources_that_results_named() {
    let rig = Rig::new(2);
    let servers =
        [r#"{"uriTemplate":"{+any}","name":"n"}"#, r#"{"uriTemplate":"bank:list/{n}","name":"n"}"#].map(|template| {
            let server = Scripted::new(Era::Legacy, Style::Json);
            server.list(ListKind::Templates, vec![template.to_owned()]);
            server.list(ListKind::Tools, vec![r#"{"name":"work","inputSchema":{"type":"object"}}"#.to_owned()]);
            let link = r#"{"type":"resource_link","name":"n","uri":"bank:2?sig=canary"}"#;
            server.tell(Vec::new(), Ending::Result(format!(r#"{{"content":[{link}],"contents":[]}}"#)));
            server
        });
    for (upstream, server) in rig.servers.iter().zip(&servers) {
        rig.network.set(&upstream.url, Host::Serve(server.router()));
    }
    let served = rig.ready().await;
    let read = async |pipes: &mut Pipes, modern: bool| {
        let meta = if modern { format!(",{META}") } else { String::new() };
        pipes.ask("1", "resources/read", &format!(r#""uri":"bank:2?sig=canary"{meta}"#)).await;
        servers.each_ref().map(|server| server.times_asked("resources/read"))
    };
    let (mut legacy, mut modern) = (Pipes::of(&served), Pipes::of(&served));
    legacy.shake_hands("{}").await;
    legacy.ask("1", "tools/call", r#""name":"s2__work","arguments":{}"#).await;
    assert_eq!(read(&mut legacy, false).await, [0, 1]);
    // Another client knows nothing of it.
    assert_eq!(read(&mut modern, true).await, [1, 1]);
    modern.ask("1", "tools/call", &format!(r#""name":"s2__work","arguments":{{}},{META}"#)).await;
    assert_eq!(read(&mut modern, true).await, [1, 2]);
}
