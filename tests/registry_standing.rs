//! A registry that can not be written: it is told everywhere, nothing that is served suffers, and it ends by itself.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::edge::disk;
use cortex_mcp::registry::{Change, RegistryEntry, Store, StoreError};
use serde_json::{Value, json};
use support::crash_disk::{CrashDisk, Fault};
use support::{Rig, Served, seconds};
use tokio::time::Instant;

async fn start_on(rig: &Rig, disk: &CrashDisk) -> Served {
    let (wire, builder) = rig.builder(&rig.network, &rig.state);
    let gateway = builder.registry_disk(Arc::new(disk.clone())).start().await.unwrap();
    let served = Served { gateway, wire, started: Instant::now() };
    served.gateway.first_pass().await;
    served
}

fn entry(name: &str) -> RegistryEntry {
    RegistryEntry::parse(&format!(r#"{{"name":"{name}","transport":"http","endpoint":"https://s1.test/mcp"}}"#))
        .unwrap()
}

async fn change(store: &Arc<Store>, change: Change) -> Result<(), StoreError> {
    let store = store.clone();
    tokio::task::spawn_blocking(move || store.change(change)).await.unwrap().map(drop)
}

/// Whether the disk is the reason: it can not be written, or not even read.
fn is_of_the_disk(error: &StoreError) -> bool {
    matches!(error, StoreError::ReadOnly(_) | StoreError::Unacknowledged(_) | StoreError::Disk(_))
}

async fn readiness(served: &Served) -> Value {
    let answer = served.modern().get("/readyz").await;
    assert_eq!(answer.status, 200, "what is served is served");
    answer.json()["registry"].clone()
}

/// Calls for so long, and returns how many failed.
async fn failed_calls(served: &Served, time: Duration) -> (usize, usize) {
    let (began, client) = (Instant::now(), served.modern());
    let (mut calls, mut failed) = (0, 0);
    while began.elapsed() < time {
        for tool in ["s1__echo", "s2__echo"] {
            let answer = client.call(tool, r#"{"text":"hello"}"#).await.json();
            calls += 1;
            failed += usize::from(answer.get("error").is_some() || answer["result"]["isError"] == true);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    (calls, failed)
}

#[tokio::test(start_paused = true)]
async fn a_disk_that_fails_makes_the_registry_read_only_for_no_longer_than_that_and_no_call_fails() {
    let rig = Rig::new(2);
    let disk = CrashDisk::new(1);
    let served = start_on(&rig, &disk).await;
    let store = served.gateway.registry().clone();
    change(&store, Change::put(entry("one"))).await.unwrap();
    served.until("it is served", seconds(1), |served| served.tools_of("one") == 3).await;
    assert_eq!((readiness(&served).await, served.metric("mcp_registry_writable")), (Value::Null, Some(1.0)));

    disk.fail_from(disk.operations(), Fault::Eio);
    let refused = change(&store, Change::put(entry("two"))).await.unwrap_err();
    assert!(is_of_the_disk(&refused), "{refused}");
    served.until("it is told", seconds(1), |served| served.metric("mcp_registry_writable") == Some(0.0)).await;
    let status = served.gateway.status().registry;
    assert!(status.standing.reason().is_some(), "{status:?}");
    assert!(status.error.as_ref().is_some_and(|error| error.contains("check the disk")), "{status:?}");
    assert_eq!(readiness(&served).await, "read-only");
    let shown = served.modern().get("/status").await.json()["registry"]["standing"].clone();
    assert_eq!((&shown["state"], &shown["reason"]), (&json!("read-only"), &json!("disk")));
    let refused = change(&store, Change::put(entry("three"))).await.unwrap_err();
    assert!(is_of_the_disk(&refused), "{refused}");
    let (calls, failed) = failed_calls(&served, seconds(30)).await;
    assert!(calls > 100 && failed == 0, "{failed} of {calls} calls failed");
    assert_eq!(served.tools_of("one"), 3, "and so is what was registered before");

    disk.heal();
    served.until("it ends by itself", seconds(120), |served| served.metric("mcp_registry_writable") == Some(1.0)).await;
    assert_eq!(readiness(&served).await, Value::Null);
    assert_eq!(served.gateway.status().registry.error, None);
    change(&store, Change::put(entry("four"))).await.unwrap();
    served.gateway.shut_down().await;
    let text = String::from_utf8(disk::read(&disk, "servers.json", usize::MAX).unwrap().unwrap()).unwrap();
    for name in ["one", "four"] {
        assert!(text.contains(&format!("\"name\": \"{name}\"")), "{name} in {text}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_leaves_the_registry_behind_or_read_only_and_is_told_with_what_to_do() {
    let rig = Rig::new(2);
    let disk = CrashDisk::new(2);
    let served = start_on(&rig, &disk).await;
    let store = served.gateway.registry().clone();
    change(&store, Change::put(entry("one"))).await.unwrap();
    disk.set_full(true);
    // The journal's room was taken before: what is acknowledged stays acknowledged.
    let mut acknowledged = vec!["one".to_owned()];
    for number in 0..20 {
        let name = format!("n{number}");
        if change(&store, Change::put(entry(&name))).await.is_ok() {
            acknowledged.push(name);
        }
    }
    served.until("it is told", seconds(10), |served| served.metric("mcp_registry_writable") == Some(0.0)).await;
    let status = served.gateway.status().registry;
    assert!(status.error.as_ref().is_some_and(|error| error.contains("free some space")), "{status:?}");
    let told = readiness(&served).await;
    assert!(told == "behind" || told == "read-only", "{told}");
    let (calls, failed) = failed_calls(&served, seconds(10)).await;
    assert!(calls > 50 && failed == 0, "{failed} of {calls} calls failed");
    disk.set_full(false);
    served.until("it ends by itself", seconds(120), |served| served.metric("mcp_registry_writable") == Some(1.0)).await;
    for name in acknowledged {
        assert!(store.get(&name).is_some(), "{name}");
    }
}

#[tokio::test(start_paused = true)]
async fn metrics_count_entries_changes_documents_foreign_edits_and_what_waits() {
    let mut rig = Rig::new(1);
    rig.environment = [].into();
    rig.toml = "[registry]\nbatch-ms = 20000\n".to_owned();
    let served = rig.ready().await;
    let store = served.gateway.registry().clone();
    let metric = |name: &str| served.metric(&format!("mcp_registry_{name}"));
    tokio::time::sleep(seconds(1)).await;
    let documents = metric("documents_total").unwrap();
    for name in ["one", "two"] {
        change(&store, Change::put(entry(name))).await.unwrap();
    }
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(
        (metric("entries"), metric("changes_total"), metric("waiting_changes")),
        (Some(2.0), Some(2.0), Some(2.0))
    );
    assert_eq!(metric("documents_total"), Some(documents), "changes are gathered as long as is configured");
    tokio::time::sleep(seconds(15)).await;
    assert_eq!((metric("waiting_changes"), metric("documents_total")), (Some(0.0), Some(documents + 1.0)));
    assert!(served.metric("mcp_registry_flush_duration_seconds_count").unwrap() >= 1.0);
    assert_eq!(metric("foreign_edits_total"), Some(0.0));
    rig.write_registry(r#"{"servers":[]}"#);
    tokio::time::sleep(seconds(2)).await;
    assert_eq!((metric("foreign_edits_total"), metric("entries")), (Some(1.0), Some(0.0)));
}

#[tokio::test(start_paused = true)]
async fn with_write_through_the_file_holds_a_change_before_it_is_acknowledged() {
    for (through, holds) in [(true, true), (false, false)] {
        let mut rig = Rig::new(1);
        rig.set("MCP_REGISTRY_WRITE_THROUGH", if through { "true" } else { "false" });
        let served = rig.ready().await;
        change(served.gateway.registry(), Change::put(entry("one"))).await.unwrap();
        let file = disk::read(&rig.registry, "servers.json", usize::MAX).unwrap().unwrap_or_default();
        assert_eq!(String::from_utf8(file).unwrap().contains("\"one\""), holds);
    }
}
