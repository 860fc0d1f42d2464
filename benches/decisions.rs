//! What decisions cost: replaying them, recording them, and a fresh instance for each: `cargo bench --bench decisions`.
//!
//! What is compared is measured alternately in one run, in processor time of the thread that does the work, and reported as
//! medians and ratios. Nothing here decides a test.

#![allow(clippy::expect_used, reason = "a measurement that can not run has nothing to report")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::config::{Environment, Settings, TraceSettings};
use cortex_mcp::demo::{Signer, Stage, StageOptions};
use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::{Clock, VirtualClock};
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::files::SystemDirectory;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::gateway::Gateway;
use cortex_mcp::model::WallMs;
use cortex_mcp::policy::contract::{
    CacheConfig, CacheScope, FetchedEvent, RefreshConfig, RefreshMode, SubjectKind, Wanted,
};
use cortex_mcp::policy::{
    DecisionRecord, DecisionSink, DiscardRecords, EMBEDDED_COMPONENT, EMBEDDED_FAMILY, Function, InstanceUse,
    KeepRecords, Policy, PolicyComponent, PolicyMetrics, Upkeep, UpkeepConfig,
};
use cortex_mcp::service_map::signed_document;
use cortex_mcp::trace::{Replay, TraceFacts, TraceReader, TraceWriter};
use rustix::time::{ClockId, clock_gettime};
use secrecy::SecretString;

/// Rounds of each measurement.
const ROUNDS: usize = 7;

/// Decisions of a round.
const DECISIONS: usize = 50_000;

/// Calls of a round through a gateway.
const CALLS: usize = 1_000;

fn main() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    replay(folder.path());
    recording(folder.path());
    instances();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(calls(folder.path()));
}

/// Decisions made again per second of processor time.
fn replay(folder: &Path) {
    let directory = folder.join("replay");
    let kept = Arc::new(KeepRecords::new(10 * DECISIONS));
    let writer = writer(&directory);
    let records = decisions(&kept, is_measured);
    for record in &records {
        writer.record(record.clone());
        if writer.status().dropped > 0 {
            break;
        }
        if record.sequence.is_multiple_of(1_000) {
            writer.flush();
        }
    }
    writer.flush();
    let written = writer.status();
    let bytes = written.bytes / written.written.max(1);
    let (mut whole, mut alone) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut replay = Replay::same();
        let mut reader = TraceReader::open(std::slice::from_ref(&directory)).expect("the trace");
        whole.push(busy(|| {
            while let Some(entry) = reader.next_entry().expect("a line") {
                replay.take(&entry).expect("a decision");
            }
        }));
        let report = replay.report();
        assert_eq!((report.equal, report.different), (written.written, 0), "every decision is made alike");
        let mut reader = TraceReader::open(std::slice::from_ref(&directory)).expect("the trace");
        let mut entries = Vec::new();
        while let Some(entry) = reader.next_entry().expect("a line") {
            entries.push(entry);
        }
        let mut replay = Replay::same();
        alone.push(busy(|| {
            for entry in &entries {
                replay.take(entry).expect("a decision");
            }
        }));
    }
    let rate = |times: &mut Vec<Duration>| written.written as f64 / median(times).as_secs_f64();
    line("replayed", &format!("{} refresh and lookup decisions, {bytes} bytes each", written.written));
    line("replay, from the file", &format!("{:.0} decisions/s per core (at least 300,000)", rate(&mut whole)));
    line("replay, records at hand", &format!("{:.0} decisions/s per core", rate(&mut alone)));
}

fn is_measured(record: &DecisionRecord) -> bool {
    matches!(record.input.function(), Function::Refresh | Function::Lookup)
}

/// What a decision costs its thread with and without a record.
fn recording(folder: &Path) {
    let mut costs = [Vec::new(), Vec::new(), Vec::new()];
    let mut allocations = [0, 0, 0];
    let mut dropped = 0;
    for round in 0..ROUNDS {
        let trace = writer(&folder.join(format!("recording-{round}")));
        let sinks: [Arc<dyn DecisionSink>; 3] =
            [Arc::new(DiscardRecords), Arc::new(KeepRecords::new(1)), Arc::new(trace.clone())];
        for (place, sink) in sinks.into_iter().enumerate() {
            let mut world = World::new(sink);
            world.run(1_000);
            let mut cost = Duration::ZERO;
            let counted = allocation_counter::measure(|| {
                for _ in 0..DECISIONS / 1_000 {
                    cost += busy(|| world.run(1_000));
                    // Between two measured stretches, so that the queue never fills: what is asked is the price of a
                    // record that is taken.
                    trace.flush();
                }
            });
            costs[place].push(cost / u32::try_from(DECISIONS).unwrap_or(1));
            allocations[place] = counted.count_total / u64::try_from(DECISIONS).unwrap_or(1);
        }
        dropped += trace.status().dropped;
    }
    let [without, kept, traced] = costs.each_mut().map(|times| median(times));
    line("a decision, no record", &format!("{without:?}, {} allocations", allocations[0]));
    line("a decision, record made", &format!("{kept:?}, {} allocations", allocations[1]));
    line("a decision, record to the trace", &format!("{traced:?}, {} allocations", allocations[2]));
    line(
        "recording costs the deciding thread",
        &format!(
            "{:?} and {} allocations a decision, {:.2} x; {dropped} dropped",
            traced.saturating_sub(without),
            allocations[2].saturating_sub(allocations[0]),
            traced.as_secs_f64() / without.as_secs_f64()
        ),
    );
}

/// What a fresh instance costs.
fn instances() {
    let kept = Arc::new(KeepRecords::new(DECISIONS));
    let records = decisions(&kept, is_measured);
    let load = |instances| PolicyComponent::load(EMBEDDED_COMPONENT, EMBEDDED_FAMILY, instances).expect("the default");
    let (fresh, used) = (load(InstanceUse::Fresh), load(InstanceUse::Reused));
    let (mut fresh_times, mut used_times) = (Vec::new(), Vec::new());
    let some = &records[..10_000.min(records.len())];
    for _ in 0..ROUNDS {
        for (component, times) in [(&fresh, &mut fresh_times), (&used, &mut used_times)] {
            times.push(busy(|| {
                for record in some {
                    let made = component.remake(&record.input, record.moment, record.seed, record.fuel_budget);
                    made.expect("a decision");
                }
            }));
        }
    }
    let each = |times: &mut Vec<Duration>| median(times) / u32::try_from(some.len()).unwrap_or(1);
    let (fresh, used) = (each(&mut fresh_times), each(&mut used_times));
    line("a decision on a used instance", &format!("{used:?}"));
    line(
        "a decision on a fresh instance",
        &format!("{fresh:?}: {:?} more, {:.1} x", fresh.saturating_sub(used), fresh.as_secs_f64() / used.as_secs_f64()),
    );
}

/// Calls through a gateway whose upstream answers at once: with and without a trace.
async fn calls(folder: &Path) {
    let key = SecretString::from("a key");
    let sign: Signer = Arc::new(move |document| signed_document(document, &key).ok());
    let options = StageOptions { connectors: 2, tools: 3, latency: Duration::ZERO, dead: 0, hung: 0 };
    let stage = Stage::set_up(options, sign).await.expect("a stage");
    let start = |name: &'static str, trace: bool| {
        let home = folder.join(name);
        let environment = Environment::default()
            .plus("CORTEX_HOME", &home.display().to_string())
            .plus("CONNECTORS_SERVICE_MAP_URL", stage.map_url().as_str())
            .plus("CONNECTORS_SERVICE_MAP_TOKEN", stage.token())
            .plus("CONNECTORS_SIGNATURE_KEY", "a key");
        let mut settings = Settings::from_environment(&environment).expect("settings");
        let directory = home.join("trace");
        settings.trace = trace.then_some(TraceSettings { directory, mebibytes: 64 });
        async move {
            let gateway = Gateway::builder(settings).start().await.expect("a gateway");
            gateway.first_pass().await;
            gateway
        }
    };
    let (traced, untraced) = (start("traced", true).await, start("untraced", false).await);
    let (mut traced_times, mut untraced_times) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        for (gateway, times) in [(&untraced, &mut untraced_times), (&traced, &mut traced_times)] {
            let started = std::time::Instant::now();
            for _ in 0..CALLS {
                gateway.call("server-02__echo", None).await.expect("an answer");
            }
            times.push(started.elapsed() / u32::try_from(CALLS).unwrap_or(1));
        }
    }
    let (traced_time, untraced_time) = (median(&mut traced_times), median(&mut untraced_times));
    line("a call, upstream latency 0, no trace", &format!("{untraced_time:?}"));
    line(
        "the same with a trace (two decisions)",
        &format!(
            "{traced_time:?}, {:.3} x; {} dropped",
            traced_time.as_secs_f64() / untraced_time.as_secs_f64(),
            traced.status().trace.map_or(0, |trace| trace.dropped)
        ),
    );
    traced.shut_down().await;
    untraced.shut_down().await;
}

/// A subject that is refreshed, read and refreshed again, in virtual time.
struct World {
    clock: Arc<VirtualClock>,
    policy: Arc<Policy>,
    upkeep: Upkeep,
    version: u64,
}

impl World {
    fn new(sink: Arc<dyn DecisionSink>) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000)));
        let edge = Edge {
            clock: clock.clone(),
            entropy: Arc::new(VirtualEntropy::from_number(7)),
            http: Arc::new(VirtualNetwork::new()),
        };
        let default = Arc::new(PolicyComponent::embedded().expect("the default"));
        let policy = Arc::new(Policy::new(default.clone(), default, edge, sink, PolicyMetrics::default()));
        let upkeep = Upkeep::start(policy.clone(), "connector/one", config(), None);
        Self { clock, policy, upkeep, version: 0 }
    }

    /// Goes on until so many decisions were made.
    fn run(&mut self, decisions: u64) {
        let until = self.policy.status().decisions + decisions;
        while self.policy.status().decisions < until {
            let next = [self.upkeep.due(), self.upkeep.verdict_until()].into_iter().flatten().min();
            if let Some(next) = next {
                self.clock.suspend(next.since(self.clock.boot()));
            }
            if self.upkeep.due().is_some_and(|due| due <= self.clock.boot()) {
                if let Some(run) = self.upkeep.begin() {
                    self.version += 1;
                    let requested = self.clock.now().into();
                    // The owner of a subject gets an answer it can keep, whatever the policy makes of it.
                    let _ = self.upkeep.fetched(run, fetched(self.version / 4, requested));
                }
            } else {
                self.upkeep.judge();
                if self.upkeep.verdict().wanted != Wanted::None {
                    self.upkeep.wanted();
                }
            }
        }
    }
}

fn fetched(version: u64, requested: cortex_mcp::policy::contract::Instant) -> FetchedEvent {
    FetchedEvent {
        digest: format!("{version:064x}"),
        etag: None,
        key_id: None,
        version: None,
        signed_expiry_wall_ms: None,
        ttl_ms: Some(300_000),
        scope: CacheScope::Private,
        credential: String::new(),
        requested,
        key_set: Vec::new(),
    }
}

fn config() -> UpkeepConfig {
    UpkeepConfig {
        refresh: RefreshConfig {
            kind: SubjectKind::Connector,
            mode: RefreshMode::Background,
            interval_ms: 300_000,
            floor_ms: 30_000,
            jitter_permille: 200,
            backoff_min_ms: 500,
            backoff_max_ms: 60_000,
            options: Vec::new(),
        },
        cache: CacheConfig {
            kind: SubjectKind::Connector,
            boot_id: 1,
            ttl_min_ms: 30_000,
            ttl_max_ms: 86_400_000,
            ttl_default_ms: 450_000,
            soft_permille: 800,
            soft_jitter_permille: 100,
            max_stale_ms: 86_400_000,
            skew_ms: 300_000,
            negative_min_ms: 5_000,
            negative_max_ms: 60_000,
            credential: String::new(),
            options: Vec::new(),
        },
    }
}

/// Records of a world's life.
fn decisions(kept: &Arc<KeepRecords>, wanted: impl Fn(&DecisionRecord) -> bool) -> Vec<Arc<DecisionRecord>> {
    let mut world = World::new(kept.clone());
    world.run(u64::try_from(2 * DECISIONS).unwrap_or(u64::MAX));
    kept.shared().into_iter().filter(|record| wanted(record)).take(DECISIONS).collect()
}

fn writer(directory: &Path) -> TraceWriter {
    let component = Arc::new(PolicyComponent::embedded().expect("the default"));
    let facts = TraceFacts {
        directory: Arc::new(SystemDirectory::open(directory).expect("a folder")),
        path: directory.to_owned(),
        bytes_max: 1 << 30,
        run: "bench".into(),
        started: VirtualClock::starting_at(WallMs(1_767_225_600_000)).now(),
        deployed: component.clone(),
        default: component,
        configuration: serde_json::Value::Null,
    };
    TraceWriter::start(facts).expect("a thread")
}

/// Processor time of this thread.
fn busy(work: impl FnOnce()) -> Duration {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let before = now();
    work();
    now().saturating_sub(before)
}

fn median(times: &mut [Duration]) -> Duration {
    times.sort();
    times[times.len() / 2]
}

fn line(what: &str, figure: &str) {
    #[allow(clippy::print_stdout, reason = "this is the report")]
    {
        println!("{what:<42} {figure}");
    }
}
