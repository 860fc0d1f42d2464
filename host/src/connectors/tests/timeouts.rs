//! Timeouts: each from each source that can name it, and each over HTTP and of a process.

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::sleep;

use super::starts::{Children, child};
use super::*;
use crate::connectors::Caller;
use crate::demo::mcp_server::{McpServer, ServerEra, ServerOptions};
use crate::edge::process::Exit;
use crate::edge::virtual_processes::{OnTerminate, VirtualChild};
use crate::mcp::Era;
use crate::model::raw::RawObject;

const SET: Option<Duration> = Some(Duration::from_millis(700));

/// Each timeout of a description, and the key that goes before it.
fn each() -> [(&'static str, Timeouts); 4] {
    [
        ("connect", Timeouts { connect: SET, ..Timeouts::default() }),
        ("list", Timeouts { list: SET, ..Timeouts::default() }),
        ("call", Timeouts { call: SET, ..Timeouts::default() }),
        ("start", Timeouts { start: SET, ..Timeouts::default() }),
    ]
}

/// Where 700 ms come from: the description, or the configuration before another description.
fn sources(step: &str, id: &str, timeouts: Timeouts) -> [(FleetSettings, Timeouts); 2] {
    let long = Some(Duration::from_secs(50));
    let other = Timeouts { connect: long, list: long, call: long, start: long };
    let toml = format!("[connector.{id}]\n{step}-timeout-ms = 700");
    [(settings(""), timeouts), (settings(&toml), other)]
}

#[tokio::test(start_paused = true)]
async fn each_is_kept_over_http_whoever_names_it() {
    for (step, timeouts) in each().into_iter().filter(|(step, _)| *step != "start") {
        for (settings, timeouts) in sources(step, "live", timeouts) {
            let server = McpServer::new(ServerOptions { era: ServerEra::Modern, ..ServerOptions::default() });
            server.be_silent_on(if step == "list" { &["tools/list"] } else { &["tools/call"] });
            let network = Arc::new(VirtualNetwork::new());
            network.set(&url(), if step == "connect" { Host::Hang } else { Host::Serve(server.router()) });
            let fleet = fleet(network, Arc::new(VirtualProcesses::new()), settings);
            fleet.apply(vec![Connector { timeouts, ..described("1") }]).await;
            sleep(Duration::from_millis(600)).await;
            assert!(fleet.statuses()[0].last_failure.is_none(), "{step}");
            if step == "call" {
                let params = RawObject::from_str(r#"{"name":"echo"}"#).unwrap();
                let began = tokio::time::Instant::now();
                let called = fleet.call(&id(), Caller::default(), "tools/call", params).await;
                assert_eq!((called.is_err(), began.elapsed()), (true, SET.unwrap()), "{step}");
            } else {
                sleep(Duration::from_millis(200)).await;
                assert_eq!(fleet.statuses()[0].last_failure.as_ref().unwrap().class.as_str(), "timeout", "{step}");
            }
        }
    }
}

/// A modern server that answers until it comes to one method.
async fn silent_from(child: VirtualChild, method: &'static str) -> Exit {
    let VirtualChild { input, mut output, .. } = child;
    let mut lines = BufReader::new(input).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let message: serde_json::Value = serde_json::from_str(&line).unwrap();
        if message["method"] == method {
            std::future::pending::<()>().await;
        }
        let result = match message["method"].as_str().unwrap() {
            "server/discover" => r#"{"supportedVersions":["2026-07-28"],"capabilities":{"tools":{}}}"#,
            _ => r#"{"resultType":"complete","tools":[]}"#,
        };
        let reply = format!("{{\"jsonrpc\":\"2.0\",\"id\":{},\"result\":{result}}}\n", message["id"]);
        output.write_all(reply.as_bytes()).await.unwrap();
    }
    Exit::Code(0)
}

#[tokio::test(start_paused = true)]
async fn each_is_kept_of_a_process_whoever_names_it() {
    for (step, method) in [("start", "server/discover"), ("list", "tools/list"), ("call", "tools/call")] {
        let timeouts = each().into_iter().find(|(name, _)| *name == step).unwrap().1;
        for (settings, timeouts) in sources(step, "local", timeouts) {
            let children = Children::new(settings);
            children.processes.set("local", OnTerminate::Ends, move |child| silent_from(child, method));
            let connect = if step == "start" { SET } else { timeouts.connect };
            let timeouts = Timeouts { connect, ..timeouts };
            children.fleet.apply(vec![Connector { timeouts, ..child("local") }]).await;
            sleep(Duration::from_millis(600)).await;
            assert!(children.status("local").last_failure.is_none(), "{step}");
            if step == "call" {
                let began = tokio::time::Instant::now();
                let params = RawObject::from_str(r#"{"name":"t1"}"#).unwrap();
                let id = "local".parse().unwrap();
                let called = children.fleet.call(&id, Caller::default(), "tools/call", params).await;
                assert_eq!((called.is_err(), began.elapsed()), (true, SET.unwrap()), "{step}");
            } else {
                sleep(Duration::from_millis(200)).await;
                let status = children.status("local");
                assert_eq!(status.last_failure.as_ref().unwrap().class.as_str(), "timeout", "{step}");
            }
            assert_eq!(children.processes.started(), 1);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_at_a_late_process_waits_for_as_long_as_it_may_connect() {
    for (settings, timeouts) in sources("connect", "local", Timeouts { connect: SET, ..Timeouts::default() }) {
        let children = Children::new(settings);
        children.slow("local", Era::Modern, Duration::from_secs(1 << 20));
        let timeouts = Timeouts { start: Some(Duration::from_secs(1)), ..timeouts };
        children.fleet.apply(vec![Connector { timeouts, ..child("local") }]).await;
        sleep(Duration::from_secs(10)).await;
        let slot = children.fleet.handle(&"local".parse().unwrap()).unwrap().slot.clone().unwrap();
        let began = tokio::time::Instant::now();
        assert!(slot.session().await.is_err());
        assert_eq!((began.elapsed(), children.processes.started()), (SET.unwrap(), 1));
    }
}

#[tokio::test(start_paused = true)]
async fn others_are_in_force_without_another_session() {
    let children = Children::new(settings(""));
    children.slow("local", Era::Modern, Duration::ZERO);
    let call = |seconds| Timeouts { call: Some(Duration::from_secs(seconds)), ..Timeouts::default() };
    children.fleet.apply(vec![Connector { timeouts: call(7), ..child("local") }]).await;
    sleep(Duration::from_secs(1)).await;
    let handle = children.fleet.handle(&"local".parse().unwrap()).unwrap();
    let in_force = || handle.deadlines.get().call.as_secs();
    assert_eq!(in_force(), 7);
    children.fleet.apply(vec![Connector { timeouts: call(8), ..child("local") }]).await;
    sleep(Duration::from_secs(1)).await;
    assert_eq!(in_force(), 8);
    children.fleet.reconfigure(settings("[connector.local]\ncall-timeout-ms = 9000"));
    sleep(Duration::from_secs(1)).await;
    assert_eq!((in_force(), children.processes.started()), (9, 1));
}
