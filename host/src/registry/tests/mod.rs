//! The store over a folder in memory: a world to open it in, and what its writers and readers see there.

mod behaviour;
mod defects;
mod half_written;
mod observed;
mod panics;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::*;
use crate::edge::Edge;
use crate::edge::clock::VirtualClock;
use crate::edge::disk::{self, Disk, MemoryDisk};
use crate::edge::entropy::VirtualEntropy;
use crate::edge::virtual_network::VirtualNetwork;
use crate::model::WallMs;
use crate::policy::{KeepRecords, Policy, PolicyComponent};
use crate::telemetry::Metrics;

/// A folder, and a clock for everyone who opens it.
struct World {
    disk: MemoryDisk,
    clock: Arc<VirtualClock>,
    opened: std::sync::atomic::AtomicU64,
}

impl World {
    fn new() -> Self {
        Self {
            disk: MemoryDisk::new(),
            clock: Arc::new(VirtualClock::starting_at(WallMs(1_000_000))),
            opened: 0.into(),
        }
    }

    fn open_as(&self, acknowledge: Acknowledge) -> Arc<Store> {
        let options = StoreOptions { acknowledge, lock_patience: Duration::ZERO, ..StoreOptions::default() };
        self.open_on(Arc::new(self.disk.clone()), options)
    }

    fn open_on(&self, disk: Arc<dyn Disk>, options: StoreOptions) -> Arc<Store> {
        static EMBEDDED: OnceLock<Arc<PolicyComponent>> = OnceLock::new();
        let component = EMBEDDED.get_or_init(|| Arc::new(PolicyComponent::embedded().unwrap())).clone();
        let number = self.opened.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        let edge = Edge {
            clock: self.clock.clone(),
            entropy: Arc::new(VirtualEntropy::from_number(number)),
            http: Arc::new(VirtualNetwork::new()),
        };
        let metrics = Arc::new(Metrics::new());
        let sink = Arc::new(KeepRecords::new(1));
        let policy = Arc::new(Policy::new(component.clone(), component, edge, sink, metrics.clone()));
        Store::open(StoreParts {
            disk,
            file: "servers.json".to_owned(),
            policy,
            writer: format!("writer-{number}"),
            metrics,
            options,
        })
        .unwrap()
    }

    fn open(&self) -> Arc<Store> {
        self.open_as(Acknowledge::Journal)
    }

    fn command(&self) -> Arc<Store> {
        self.open_as(Acknowledge::Snapshot)
    }

    fn later(&self, milliseconds: u64) {
        self.clock.suspend(Duration::from_millis(milliseconds));
    }

    fn text(&self) -> String {
        String::from_utf8(disk::read(&self.disk, "servers.json", 1 << 24).unwrap().unwrap()).unwrap()
    }

    /// As a program that takes no lock and replaces the file.
    fn edit(&self, text: &str) {
        disk::write_new(&self.disk, "edited", text.as_bytes(), None).unwrap();
        self.disk.rename("edited", "servers.json").unwrap();
    }

    /// The names of the files of a kind.
    fn files(&self, wanted: impl Fn(&FileKind) -> bool) -> Vec<String> {
        let names = FileNames::of("servers.json");
        let all = self.disk.names().unwrap();
        all.into_iter().filter(|name| names.kind(name).is_some_and(|kind| wanted(&kind))).collect()
    }

    fn segments(&self) -> Vec<String> {
        self.files(|kind| matches!(kind, FileKind::Segment { .. }))
    }
}

fn entry(name: &str, number: u64) -> RegistryEntry {
    RegistryEntry::parse(&format!(
        r#"{{"name":"{name}","transport":"http","endpoint":"https://{name}.test/{number}","x-later":{{"n":1.50}}}}"#
    ))
    .unwrap()
}

fn names(store: &Store) -> Vec<String> {
    store.list().iter().map(|entry| entry.name.clone()).collect()
}

fn endpoint(store: &Store, name: &str) -> String {
    let entry = store.get(name).unwrap();
    let Ok(Transport::Http { endpoint, .. }) = &entry.transport else { panic!("http") };
    endpoint.path().to_owned()
}
