//! How processes start: one for each connector, however slow it is, and no more at once than there are permits.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::time::{Instant, sleep};

use super::*;
use crate::connectors::limits::{FIRST_PASS_START, START_PERMIT, START_TIMEOUT};
use crate::connectors::{Caller, ConnectorStatus, Contact, PassKind};
use crate::edge::process::Exit;
use crate::edge::virtual_processes::{OnTerminate, VirtualChild};
use crate::mcp::Era;
use crate::model::CommandLine;
use crate::model::raw::RawObject;

/// Connectors that are processes, each named after its program.
pub(super) struct Children {
    pub(super) fleet: Arc<Fleet>,
    pub(super) processes: Arc<VirtualProcesses>,
}

pub(super) fn child(name: &str) -> Connector {
    let environment = BTreeMap::from([("KEY".to_owned(), "canary-value".to_owned())]);
    let command = CommandLine { program: name.to_owned(), arguments: Vec::new(), environment };
    let (id, source) = (name.parse().unwrap(), Source::Registry);
    Connector { id, source, reach: Some(Reach::Stdio(command)), ..described("1") }
}

impl Children {
    pub(super) fn new(settings: FleetSettings) -> Self {
        let processes = Arc::new(VirtualProcesses::new());
        Self { fleet: fleet(Arc::new(VirtualNetwork::new()), processes.clone(), settings), processes }
    }

    /// Programs that speak one era and read nothing before so long.
    pub(super) fn slow(&self, name: &str, era: Era, delay: Duration) {
        self.processes.set(name, OnTerminate::Ends, move |child| async move {
            sleep(delay).await;
            serve(child, era, usize::MAX).await
        });
    }

    pub(super) fn status(&self, name: &str) -> Arc<ConnectorStatus> {
        self.fleet.statuses().into_iter().find(|status| status.id.as_str() == name).unwrap()
    }

    fn tools(&self, name: &str) -> usize {
        self.status(name).tools
    }

    async fn end(self) {
        self.fleet.shut_down(Instant::now()).await;
        assert_eq!((self.processes.running(), self.processes.panicked()), (0, 0));
    }
}

/// Serves one tool, and ends at the request of that number.
async fn serve(child: VirtualChild, era: Era, ends_at: usize) -> Exit {
    let VirtualChild { input, mut output, mut errors, .. } = child;
    let mut lines = BufReader::new(input).lines();
    let mut requests = 0;
    while let Ok(Some(line)) = lines.next_line().await {
        let message: Value = serde_json::from_str(&line).unwrap();
        if message["id"].is_null() {
            continue;
        }
        requests += 1;
        if requests >= ends_at {
            errors.write_all(b"fatal: bad KEY canary-value\n").await.unwrap();
            return Exit::Code(3);
        }
        let result = match (message["method"].as_str().unwrap(), era) {
            ("server/discover", Era::Modern) => {
                json!({ "resultType": "complete", "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } })
            }
            ("initialize", Era::Legacy) => json!({ "protocolVersion": "2025-06-18", "capabilities": { "tools": {} },
                "serverInfo": { "name": "s", "version": "1" } }),
            ("tools/list", _) => {
                json!({ "resultType": "complete", "tools": [{ "name": "t", "inputSchema": { "type": "object" } }] })
            }
            ("tools/call", _) => json!({ "resultType": "complete", "content": [] }),
            _ => Value::Null,
        };
        let mut reply = json!({ "jsonrpc": "2.0", "id": message["id"] });
        match result {
            Value::Null => reply["error"] = json!({ "code": -32601, "message": "no" }),
            result => reply["result"] = result,
        }
        output.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
    }
    Exit::Code(0)
}

#[tokio::test(start_paused = true)]
async fn a_slow_process_of_either_era_comes_up_once_and_at_once() {
    for era in [Era::Modern, Era::Legacy] {
        for delay in [8, 40, 100].map(Duration::from_secs) {
            let children = Children::new(settings(""));
            children.slow("slow", era, delay);
            children.fleet.apply(vec![child("slow")]).await;
            sleep(delay + Duration::from_secs(1)).await;
            let status = children.status("slow");
            assert_eq!((status.tools, status.era, status.failures), (1, Some(era), 0), "{era} {delay:?}");
            sleep(Duration::from_secs(600)).await;
            assert_eq!(children.processes.started(), 1, "{era} {delay:?}");
            children.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_process_that_misses_its_deadline_is_reported_kept_and_taken_when_it_answers() {
    let children = Children::new(settings(""));
    children.slow("slow", Era::Modern, Duration::from_secs(1_000));
    children.fleet.apply(vec![child("slow")]).await;
    sleep(START_TIMEOUT - Duration::from_secs(1)).await;
    assert_eq!((children.status("slow").failures, children.status("slow").refreshing), (0, true));
    for wait in [2, 300, 300] {
        sleep(Duration::from_secs(wait)).await;
        let status = children.status("slow");
        let failure = status.last_failure.clone().unwrap();
        assert!(failure.message.contains("has not answered yet"), "{failure:?}");
        assert_eq!((failure.class.as_str(), status.contact), ("timeout", Contact::Down));
        // Whoever calls it waits for the same process.
        let params = RawObject::from_str(r#"{"name":"t"}"#).unwrap();
        assert!(children.fleet.call(&status.id, Caller::default(), "tools/call", params).await.is_err());
    }
    sleep(Duration::from_secs(500)).await;
    assert_eq!((children.tools("slow"), children.processes.started()), (1, 1));
    children.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_late_process_that_ends_between_two_attempts_is_reported_before_another_starts() {
    let children = Children::new(settings(""));
    children.processes.set("late", OnTerminate::Ends, |child| async move {
        sleep(Duration::from_secs(170)).await;
        drop(child);
        Exit::Code(7)
    });
    children.fleet.apply(vec![child("late")]).await;
    let mut reported = false;
    for _ in 0..1_000 {
        sleep(Duration::from_secs(1)).await;
        let failure = children.status("late").last_failure.clone();
        reported |= failure.is_some_and(|failure| failure.message.ends_with("has ended with status 7"));
        assert!(reported || children.processes.started() == 1, "how it ended is lost");
    }
    assert!(reported && children.processes.started() <= 6, "{}", children.processes.started());
    children.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_process_that_hangs_after_its_start_is_kept_too() {
    let children = Children::new(settings(""));
    children.processes.set("hangs", OnTerminate::Ends, |child| async move {
        let VirtualChild { input, mut output, .. } = child;
        let mut lines = BufReader::new(input).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let message: Value = serde_json::from_str(&line).unwrap();
            if message["method"] == "server/discover" {
                let result = json!({ "supportedVersions": ["2026-07-28"], "capabilities": { "tools": {} } });
                let reply = json!({ "jsonrpc": "2.0", "id": message["id"], "result": result });
                output.write_all(format!("{reply}\n").as_bytes()).await.unwrap();
            }
        }
        Exit::Code(0)
    });
    children.fleet.apply(vec![child("hangs")]).await;
    sleep(Duration::from_secs(600)).await;
    let status = children.status("hangs");
    assert_eq!((children.processes.started(), status.last_failure.as_ref().unwrap().class.as_str()), (1, "timeout"));
    assert!(status.failures > 5, "{}", status.failures);
    children.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_failing_attempt_starts_no_process_twice_and_says_why() {
    // At its first, second and third request: it ends when it is asked who it is, or to list.
    for era in [Era::Modern, Era::Legacy] {
        for ends_at in 1..=3 {
            let children = Children::new(settings(""));
            children.processes.set(
                "ends",
                OnTerminate::Ends,
                move |child| async move { serve(child, era, ends_at).await },
            );
            children.fleet.apply(vec![child("ends")]).await;
            sleep(Duration::from_secs(300)).await;
            let status = children.status("ends");
            if era == Era::Legacy && ends_at == 3 {
                // One that is known to be legacy is asked one question less, and lists.
                assert_eq!(status.tools, 1);
            } else {
                let failure = status.last_failure.clone().unwrap();
                assert_eq!(failure.message, "the server's process has ended with status 3", "{era} {ends_at}");
                assert_eq!(failure.stderr.unwrap().as_str(), "fatal: bad KEY ***");
                let started = children.processes.started() as u64;
                assert!((1..=status.runs + 1).contains(&started), "{era} {ends_at}: {started} of {}", status.runs);
            }
            children.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_that_ends_at_the_modern_question_comes_up_with_its_second_process() {
    let children = Children::new(settings(""));
    children.processes.set("shy", OnTerminate::Ends, |child| async move {
        let VirtualChild { input, output, errors, command, rules, terminated, number } = child;
        let mut lines = BufReader::new(input).lines();
        let first = lines.next_line().await.unwrap().unwrap();
        if !first.contains("\"initialize\"") {
            return Exit::Code(1);
        }
        let (mut back, input) = tokio::io::duplex(1 << 16);
        back.write_all(format!("{first}\n").as_bytes()).await.unwrap();
        let rest = async move {
            while let Ok(Some(line)) = lines.next_line().await {
                back.write_all(format!("{line}\n").as_bytes()).await.unwrap();
            }
        };
        let child = VirtualChild { input, output, errors, command, rules, terminated, number };
        tokio::join!(serve(child, Era::Legacy, usize::MAX), rest).0
    });
    children.fleet.apply(vec![child("shy")]).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!((children.tools("shy"), children.processes.started()), (1, 2));
    children.end().await;
}

#[tokio::test(start_paused = true)]
async fn servers_that_never_answer_delay_the_others_by_no_more_than_their_permits() {
    for permits in [1, 2, 4] {
        // A number of runs that the operator fixed does not make it longer.
        for toml in ["", "concurrency = 1"] {
            let permits = NonZeroUsize::new(permits).unwrap();
            let children = Children::new(settings(toml).with_starts(permits));
            let mut all = Vec::new();
            for number in 0..10 {
                let (silent, healthy) = (format!("a{number}"), format!("b{number}"));
                children.slow(&silent, Era::Modern, Duration::from_secs(1 << 20));
                children.slow(&healthy, Era::Modern, Duration::ZERO);
                all.extend([child(&silent), child(&healthy)]);
            }
            children.fleet.apply(all).await;
            // With one run at once each silent one holds it for as long as its permit.
            let turns = if toml.is_empty() { 10_u32.div_ceil(permits.get() as u32) } else { 10 };
            sleep(START_PERMIT * turns + Duration::from_secs(1)).await;
            let up = (0..10).filter(|number| children.tools(&format!("b{number}")) == 1).count();
            assert_eq!(up, 10, "{permits} {toml}");
            sleep(START_TIMEOUT + Duration::from_secs(60)).await;
            assert_eq!(children.processes.started(), 20, "{permits} {toml}");
            children.end().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_first_pass_does_not_wait_for_a_slow_start() {
    let children = Children::new(settings(""));
    children.slow("slow", Era::Modern, Duration::from_secs(100));
    children.slow("fast", Era::Modern, Duration::ZERO);
    children.fleet.apply(vec![child("slow"), child("fast")]).await;
    let began = Instant::now();
    let report = children.fleet.pass(PassKind::First, began, |_| {}).await;
    assert_eq!((report.ready, began.elapsed()), (1, FIRST_PASS_START));
    children.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_slow_process_ends_with_its_connector_and_a_closed_slot_starts_nothing() {
    let children = Children::new(settings(""));
    children.slow("slow", Era::Modern, Duration::from_secs(1 << 20));
    children.fleet.apply(vec![child("slow")]).await;
    sleep(Duration::from_secs(200)).await;
    let handle = children.fleet.handle(&"slow".parse().unwrap()).unwrap();
    let slot = handle.slot.clone().unwrap();
    children.fleet.apply(Vec::new()).await;
    sleep(Duration::from_secs(10)).await;
    assert_eq!((children.processes.started(), children.processes.running()), (1, 0));
    assert_eq!(slot.session().await.unwrap_err().class.as_str(), "refused");
    sleep(Duration::from_secs(10)).await;
    assert_eq!(children.processes.started(), 1);
    children.end().await;
}
