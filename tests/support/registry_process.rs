//! Processes that share a registry's folder: workers that are started, killed and waited for, what each of them was told,
//! and programs that know nothing of the others.
//!
//! A worker is this very test binary, run again with an order in its environment; the test `child_process_entry` obeys it
//! and does nothing without one. Workers write down every change before they begin it and every acknowledgement before they go
//! on, so that what they were told outlasts `kill -9`.
#![allow(dead_code, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests may")]

#[path = "registry_process/acks.rs"]
pub(crate) mod acks;
#[path = "registry_process/editors.rs"]
pub(crate) mod editors;
#[path = "registry_process/scene.rs"]
pub(crate) mod scene;
#[path = "registry_process/worker.rs"]
pub(crate) mod worker;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::SystemClock;
use cortex_mcp::edge::disk::SystemDisk;
use cortex_mcp::edge::entropy::SystemEntropy;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::policy::{DiscardRecords, Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::registry::{
    Acknowledge, RegistryMetrics, RegistrySnapshot, Store, StoreError, StoreOptions, StoreParts,
};
use serde::{Deserialize, Serialize};

use acks::{Write, now_ns};

/// The registry's file.
pub(crate) const FILE: &str = "servers.json";

/// The variable that holds a worker's order.
const ORDER: &str = "CORTEX_REGISTRY_WORKER";

/// What a worker is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) folder: PathBuf,
    /// Where it writes down what it begins and what it is told.
    pub(crate) acks: PathBuf,
    /// Its number, which no other worker of the test has. Its writers and its values carry it.
    pub(crate) number: u64,
    pub(crate) seed: u64,
    pub(crate) work: Work,
}

/// A worker's work.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Opens the registry for long, with a thread that tends it, and makes changes until so many upserts are acknowledged.
    Keep {
        upserts: u64,
        names: Names,
        /// Stays after that, until this file is there.
        stay: Option<PathBuf>,
    },
    /// Makes changes as commands do: each opens the registry, is acknowledged by the document, and ends.
    Commands { upserts: u64, names: Names },
    /// The changes of a script, one after the other, as commands or as a keeper: who tends after each, writes the document
    /// after every second, and closes.
    Script { changes: Vec<(String, Option<u64>)>, commands: bool, tends: u32 },
}

/// The names that a worker chooses from.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Names {
    /// Nobody else writes these.
    pub(crate) own: Vec<String>,
    /// Everybody writes these.
    pub(crate) shared: Vec<String>,
}

/// A policy on the real clock.
pub(crate) fn policy() -> Arc<Policy> {
    let component = Arc::new(PolicyComponent::embedded().unwrap());
    let edge = Edge {
        clock: Arc::new(SystemClock::new()),
        entropy: Arc::new(SystemEntropy),
        http: Arc::new(VirtualNetwork::new()),
    };
    Arc::new(Policy::new(component.clone(), component, edge, Arc::new(DiscardRecords), PolicyMetrics::default()))
}

/// Opens the registry in a real folder.
pub(crate) fn open(
    folder: &Path,
    policy: &Arc<Policy>,
    writer: &str,
    acknowledge: Acknowledge,
) -> Result<Arc<Store>, StoreError> {
    Store::open(StoreParts {
        disk: Arc::new(SystemDisk::open_folder(folder)?),
        file: FILE.to_owned(),
        policy: policy.clone(),
        writer: writer.to_owned(),
        metrics: RegistryMetrics::default(),
        options: StoreOptions { acknowledge, ..StoreOptions::default() },
    })
}

/// What a registry says: for each name the value of its entry.
pub(crate) type Said = BTreeMap<String, u64>;

/// What a snapshot says.
pub(crate) fn said(snapshot: &RegistrySnapshot) -> Said {
    snapshot
        .entries()
        .map(|entry| (entry.name.clone(), value_of(&serde_json::from_str(entry.json()).unwrap())))
        .collect()
}

/// What a document says; why it can not be read, if so.
pub(crate) fn said_by(bytes: &[u8]) -> Result<Said, String> {
    let document = cortex_mcp::registry::read(bytes).map_err(|error| error.to_string())?;
    if let Some(problem) = document.problems.first() {
        return Err(problem.to_string());
    }
    let value = |json: &str| value_of(&serde_json::from_str(json).unwrap());
    Ok(document.servers.iter().map(|server| (server.entry.name.clone(), value(server.entry.json()))).collect())
}

/// The entry of a name with this value.
pub(crate) fn entry(name: &str, value: u64) -> serde_json::Value {
    serde_json::json!({ "name": name, "transport": "http", "endpoint": format!("https://e.test/{value}") })
}

fn value_of(entry: &serde_json::Value) -> u64 {
    entry["endpoint"].as_str().and_then(|endpoint| endpoint.rsplit('/').next()?.parse().ok()).unwrap_or(u64::MAX)
}

/// Numbers that follow from a seed.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// A number below `bound`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound.max(1)
    }
}

/// A number of the environment.
pub(crate) fn option(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} is no number: {value}")))
}

/// Says the numbers of a run, also where the output of tests that pass is not shown.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What the test `child_process_entry` does: the order in the environment, if there is one.
pub(crate) fn obey() {
    if let Ok(order) = std::env::var(ORDER) {
        // No worker outlasts the test, however that ends.
        let killed = rustix::process::Signal::KILL;
        rustix::process::set_parent_process_death_signal(Some(killed)).unwrap();
        worker::work(&serde_json::from_str(&order).unwrap());
    }
}

/// A command that runs this binary with an order, perhaps below other programs.
pub(crate) fn command(order: &Order, below: &[String]) -> Command {
    let own = std::env::current_exe().unwrap();
    let mut words: Vec<std::ffi::OsString> = below.iter().map(Into::into).collect();
    words.extend([own.into(), "--exact".into(), "child_process_entry".into(), "--nocapture".into()]);
    words.push("--test-threads=1".into());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(ORDER, serde_json::to_string(order).unwrap()).stdin(Stdio::null());
    command
}

/// A worker that was started. It does not outlive this value.
pub(crate) struct Worker {
    pub(crate) order: Order,
    child: Child,
    output: PathBuf,
    /// When it was known to be gone.
    ended: Option<u64>,
}

impl Worker {
    /// Starts a worker.
    pub(crate) fn start(order: Order) -> Self {
        let output = order.acks.with_extension("output");
        let file = File::create(&output).unwrap();
        let child = command(&order, &[]).stdout(file.try_clone().unwrap()).stderr(file).spawn().unwrap();
        Self { order, child, output, ended: None }
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.ended = Some(now_ns());
    }

    /// Whether it has ended. Panics if that was not in good order.
    pub(crate) fn has_ended(&mut self) -> bool {
        let ended = self.child.try_wait().unwrap();
        ended.is_some_and(|status| self.check(status))
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) {
        let status = self.child.wait().unwrap();
        self.check(status);
    }

    fn check(&mut self, status: ExitStatus) -> bool {
        self.ended.get_or_insert_with(now_ns);
        if !status.success() {
            let output = std::fs::read_to_string(&self.output).unwrap_or_default();
            panic!("worker {}: {status}\n{output}", self.order.number);
        }
        true
    }

    /// How many upserts it was told to be durable.
    pub(crate) fn upserts(&self) -> u64 {
        let writes = self.writes();
        writes.iter().filter(|write| write.is_acknowledged() && write.value.is_some()).count() as u64
    }

    /// What else it told.
    pub(crate) fn notes(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.order.acks).unwrap_or_default();
        text.lines().filter_map(|line| Some(line.strip_prefix("note\t")?.to_owned())).collect()
    }

    /// What it wrote down.
    pub(crate) fn writes(&self) -> Vec<Write> {
        acks::read(&self.order.acks, self.ended)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
