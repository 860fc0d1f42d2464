//! How often the document is written: the old gateway wrote it once for every change.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::VirtualClock;
use cortex_mcp::edge::disk::MemoryDisk;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::model::WallMs;
use cortex_mcp::policy::{DiscardRecords, Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::registry::{RegistryEntry, RegistryMetrics, Store, StoreOptions, StoreParts};

/// A store over a folder in memory, and the clock that it lives by.
fn store() -> (Arc<Store>, Arc<VirtualClock>) {
    static EMBEDDED: OnceLock<Arc<PolicyComponent>> = OnceLock::new();
    let component = EMBEDDED.get_or_init(|| Arc::new(PolicyComponent::embedded().unwrap())).clone();
    let clock = Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000)));
    let edge = Edge {
        clock: clock.clone(),
        entropy: Arc::new(VirtualEntropy::from_number(1)),
        http: Arc::new(VirtualNetwork::new()),
    };
    let policy = Policy::new(component.clone(), component, edge, Arc::new(DiscardRecords), PolicyMetrics::default());
    let parts = StoreParts {
        disk: Arc::new(MemoryDisk::new()),
        file: "servers.json".to_owned(),
        policy: Arc::new(policy),
        writer: "counted".to_owned(),
        metrics: RegistryMetrics::default(),
        options: StoreOptions::default(),
    };
    (Store::open(parts).unwrap(), clock)
}

fn entry(name: usize, number: usize) -> RegistryEntry {
    let json =
        format!(r#"{{"name":"server-{name}","transport":"http","endpoint":"https://server-{name}.test/{number}"}}"#);
    RegistryEntry::parse(&json).unwrap()
}

/// Makes a hundred changes, one after each pause, tended as a gateway tends it. Returns how many documents were written.
fn documents(pause: Duration) -> u64 {
    let (store, clock) = store();
    for number in 0..100 {
        if number % 10 == 9 {
            store.remove(&format!("server-{}", number % 7)).unwrap();
        } else {
            store.upsert(entry(number % 7, number)).unwrap();
        }
        store.tend();
        clock.suspend(pause);
        store.tend();
    }
    store.close().unwrap();
    let counts = store.counts();
    assert_eq!((counts.changes, counts.waiting), (100, 0), "everything that was acknowledged is in the document");
    counts.documents
}

#[test]
fn a_hundred_changes_at_once_are_one_document() {
    assert_eq!(documents(Duration::from_millis(10)), 1);
}

#[test]
fn a_hundred_changes_cause_at_most_twenty_documents() {
    for pause in [100, 500, 1_000] {
        let written = documents(Duration::from_millis(pause));
        assert!((1..=20).contains(&written), "{written} documents, a change every {pause} ms");
    }
}
