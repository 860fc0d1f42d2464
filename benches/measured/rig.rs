//! A registry in a folder of the disk, as a gateway has it, and entries to put into it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::{Clock, SystemClock};
use cortex_mcp::edge::disk::SystemDisk;
use cortex_mcp::edge::entropy::SystemEntropy;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::policy::{DiscardRecords, Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::registry::{Change, RegistryEntry, RegistryMetrics, Store, StoreOptions, StoreParts};
use tokio_util::sync::CancellationToken;

/// How it is measured.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) json: bool,
    /// The scenes that are wanted; all if none is named.
    scenes: Vec<String>,
    directory: PathBuf,
}

impl Options {
    /// `[--quick] [--json] [--directory DIR] [SCENE...]`; by default beside the executable, which is on a disk.
    pub(crate) fn from_arguments() -> Self {
        let executable = std::env::current_exe().expect("this program has a path");
        let directory = executable.parent().expect("it is in a folder").to_owned();
        let mut options = Self { quick: false, json: false, scenes: Vec::new(), directory };
        let mut arguments = std::env::args().skip(1);
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--quick" => options.quick = true,
                "--json" => options.json = true,
                "--directory" => options.directory = arguments.next().expect("--directory names one").into(),
                // What cargo itself says.
                "--bench" => {}
                scene => options.scenes.push(scene.to_owned()),
            }
        }
        options
    }

    /// A folder of its own, removed with this value.
    pub(crate) fn folder(&self) -> tempfile::TempDir {
        tempfile::Builder::new().prefix("registry-bench-").tempdir_in(&self.directory).expect("a temporary folder")
    }

    /// One number for a measurement, another for a mere check that it runs.
    pub(crate) fn pick<T>(&self, whole: T, quick: T) -> T {
        if self.quick { quick } else { whole }
    }

    /// Whether a scene is wanted.
    pub(crate) fn wants(&self, scene: &str) -> bool {
        self.scenes.is_empty() || self.scenes.iter().any(|wanted| wanted == scene)
    }
}

/// What stores are opened with.
pub(crate) struct Rig {
    component: Arc<PolicyComponent>,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self { component: Arc::new(PolicyComponent::embedded().expect("the default")) }
    }

    /// Opens the registry of a folder.
    pub(crate) fn open(&self, folder: &Path, writer: &str) -> Arc<Store> {
        self.open_with(folder, writer, Arc::new(SystemClock::new()))
    }

    /// The same by another clock.
    pub(crate) fn open_with(&self, folder: &Path, writer: &str, clock: Arc<dyn Clock>) -> Arc<Store> {
        let edge = Edge { clock, entropy: Arc::new(SystemEntropy), http: Arc::new(VirtualNetwork::new()) };
        let (deployed, default) = (self.component.clone(), self.component.clone());
        let policy = Arc::new(Policy::new(deployed, default, edge, Arc::new(DiscardRecords), PolicyMetrics::default()));
        let parts = StoreParts {
            disk: Arc::new(SystemDisk::open_folder(folder).expect("a folder")),
            file: "servers.json".to_owned(),
            policy,
            writer: writer.to_owned(),
            metrics: RegistryMetrics::default(),
            options: StoreOptions::default(),
        };
        Store::open(parts).expect("a registry")
    }
}

/// A registry that is kept as a gateway keeps it: tended all the time, and closed at the end.
pub(crate) struct Kept {
    pub(crate) store: Arc<Store>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Kept {
    pub(crate) fn new(store: Arc<Store>, runtime: &tokio::runtime::Runtime) -> Self {
        let stop = CancellationToken::new();
        let _inside = runtime.enter();
        let (_, task) = cortex_mcp::registry::keep(store.clone(), stop.clone());
        Self { store, stop, task }
    }

    pub(crate) fn close(self, runtime: &tokio::runtime::Runtime) {
        self.stop.cancel();
        runtime.block_on(self.task).expect("the registry is closed");
    }
}

/// The runtime of a gateway.
pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime")
}

/// The name of an entry.
pub(crate) fn name(number: usize) -> String {
    format!("server-{number:05}")
}

/// An entry: about 300 bytes of JSON.
pub(crate) fn json(number: usize, version: usize) -> String {
    let name = name(number);
    format!(
        r#"{{"name":"{name}","transport":"http","endpoint":"https://{name}.tools.example.com/mcp/v{version:06}","headers":{{"Authorization":"Bearer abcdefghijklmnopqrstuvwxyz0123456789","X-Tenant":"tenant-{number:05}"}},"description":"A server that searches documents and answers questions about them.","x-owner":"team-{number:05}"}}"#
    )
}

pub(crate) fn entry(number: usize, version: usize) -> RegistryEntry {
    RegistryEntry::parse(&json(number, version)).expect("an entry")
}

/// What `writers` writers write: each its own names, out of `names`.
pub(crate) fn work(writers: usize, each: usize, names: usize, version: usize) -> Vec<Vec<RegistryEntry>> {
    let one = |writer: usize, turn: usize| entry((writer + turn * writers) % names, version + turn);
    (0..writers).map(|writer| (0..each).map(|turn| one(writer, turn)).collect()).collect()
}

/// Changes per second of threads that each wait for their own.
pub(crate) fn by_threads(store: &Arc<Store>, work: Vec<Vec<RegistryEntry>>) -> f64 {
    let count: usize = work.iter().map(Vec::len).sum();
    let gate = std::sync::Barrier::new(work.len() + 1);
    let started = std::thread::scope(|scope| {
        let gate = &gate;
        for entries in work {
            scope.spawn(move || {
                gate.wait();
                for entry in entries {
                    store.upsert(entry).expect("a durable change");
                }
            });
        }
        gate.wait();
        Instant::now()
    });
    count as f64 / started.elapsed().as_secs_f64()
}

/// Changes per second of tasks that each wait for their own.
pub(crate) fn by_tasks(store: &Arc<Store>, runtime: &tokio::runtime::Runtime, work: Vec<Vec<RegistryEntry>>) -> f64 {
    let count: usize = work.iter().map(Vec::len).sum();
    runtime.block_on(async {
        let started = Instant::now();
        let tasks = work.into_iter().map(|entries| {
            let store = store.clone();
            tokio::spawn(async move {
                for entry in entries {
                    store.change_soon(Change::put(entry)).await.expect("a durable change");
                }
            })
        });
        let tasks: Vec<_> = tasks.collect();
        for task in tasks {
            task.await.expect("a task");
        }
        count as f64 / started.elapsed().as_secs_f64()
    })
}
