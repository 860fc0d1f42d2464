//! The trace on disks that fail or hang: whatever comes, decisions are written or counted, and no swap is lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::VirtualClock;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::policy::contract::Pending;
use cortex_mcp::policy::{
    DecisionRecord, DecisionSink, Input, InstanceUse, Output, Policy, PolicyComponent, PolicyMetrics, Subject,
};
use cortex_mcp::trace::{
    ConnectorsNote, Difference, DroppedNote, Line, ShadowNote, SwapNote, ToolsNote, TraceStatus, TraceWriter, limits,
};
use support::faulty_disk::{Faults, FaultyDisk};
use support::hung_disk::HungDisk;
use support::policies::{contrary, faulty};
use support::rig::START;
use support::seconds;
use support::traces::{decisions, dump, lines, replayed, segments, writer};

/// A policy whose every decision is recorded in a trace.
struct Recorded {
    policy: Policy,
    trace: TraceWriter,
    subject: Subject,
}

impl Recorded {
    fn on(disk: Arc<dyn Directory>, bytes_max: u64) -> Self {
        let clock = Arc::new(VirtualClock::starting_at(START));
        let trace = writer(disk, &clock, bytes_max);
        let entropy = Arc::new(VirtualEntropy::from_number(1));
        let edge = Edge { clock: clock.clone(), entropy, http: Arc::new(VirtualNetwork::new()) };
        let embedded = Arc::new(PolicyComponent::embedded().unwrap());
        let sink = Arc::new(trace.clone());
        let policy = Policy::new(embedded.clone(), embedded, edge, sink, PolicyMetrics::default());
        let subject = policy.subject("subject".to_owned());
        Self { policy, trace, subject }
    }

    fn decide(&self, times: usize) {
        for _ in 0..times {
            decide(&self.policy, &self.subject);
        }
    }

    /// Hands over what was decided, and tells how the trace stands then.
    fn flushed(&self) -> TraceStatus {
        self.trace.flush();
        self.trace.status()
    }

    /// Decides until nothing more finds room.
    fn fill(&self) {
        while self.trace.status().dropped == 0 {
            self.decide(1);
        }
    }

    /// Long enough, by the clock of the decisions, that writing is tried again.
    async fn later(&self) {
        tokio::time::advance(seconds(3_600)).await;
    }
}

fn decide(policy: &Policy, subject: &Subject) {
    let pending = Pending { changes: 1, bytes: 1, oldest_ms: 1, batch_ms: 5, closing: false, write_through: false };
    policy.flush_after(subject, pending).unwrap();
}

fn dropped(folder: &Path) -> Vec<DroppedNote> {
    let notes = lines(folder).into_iter();
    notes.filter_map(|entry| if let Line::Dropped(note) = entry.line { Some(note) } else { None }).collect()
}

fn swaps(folder: &Path) -> Vec<SwapNote> {
    let notes = lines(folder).into_iter();
    notes.filter_map(|entry| if let Line::Swap(note) = entry.line { Some(note) } else { None }).collect()
}

fn shadow_note() -> ShadowNote {
    let function = cortex_mcp::policy::Function::Plan;
    let shadow = PolicyComponent::embedded().unwrap().digest();
    ShadowNote { shadow, sequence: 0, subject: "s".into(), function, difference: Difference { fields: Vec::new() } }
}

#[tokio::test(start_paused = true)]
async fn a_swap_finds_room_in_a_full_queue_and_what_follows_can_be_made_again() {
    let disk = Arc::new(HungDisk::default());
    disk.set_hanging(true);
    let recorded = Recorded::on(disk.clone(), 64 << 20);
    recorded.fill();
    let other = contrary("flush-after");
    recorded.policy.swap(other.clone());
    disk.set_hanging(false);
    recorded.trace.flush();
    recorded.decide(10);
    recorded.trace.close().await;
    let folder = dump(&disk.inner);
    let [swap] = swaps(folder.path()).try_into().unwrap();
    assert_eq!(swap.after.digest, other.digest());
    let report = replayed(folder.path());
    assert_eq!((report.equal, report.skipped), (report.records, 0));
    let by_the_other = decisions(folder.path()).into_iter().filter(|one| one.decided_by.digest() == other.digest());
    assert_eq!(by_the_other.count(), 10);
    assert_eq!(recorded.trace.status().notes_dropped, 0);
}

#[tokio::test(start_paused = true)]
async fn swaps_on_a_disk_that_fails_are_told_as_one_when_it_works_again() {
    let disk = Arc::new(FaultyDisk::default());
    let recorded = Recorded::on(disk.clone(), 64 << 20);
    recorded.decide(5);
    let status = recorded.flushed();
    assert_eq!((status.written, status.failing), (5, None));
    *disk.faults() = Faults { append_after: Some(7), ..Faults::default() };
    let (first, second) = (contrary("flush-after"), faulty("panic", "flush-after"));
    let before = recorded.policy.swap(first.clone());
    recorded.decide(3);
    recorded.policy.swap(second.clone());
    recorded.decide(1);
    assert!(recorded.flushed().failing.is_some());
    *disk.faults() = Faults::default();
    recorded.later().await;
    recorded.decide(4);
    recorded.trace.close().await;
    let status = recorded.trace.status();
    assert_eq!((status.written, status.dropped, status.failing), (9, 4, None));
    let folder = dump(&disk.inner);
    let [swap] = swaps(folder.path()).try_into().unwrap();
    assert_eq!((swap.before, swap.after.digest), (before, second.digest()));
    let report = replayed(folder.path());
    assert_eq!((report.equal, report.skipped, report.dropped), (9, 0, 4));
}

#[tokio::test(start_paused = true)]
async fn a_component_that_can_not_be_written_is_the_reason_told_and_costs_nothing_before_it() {
    let disk = Arc::new(FaultyDisk::default());
    let recorded = Recorded::on(disk.clone(), 64 << 20);
    recorded.flushed();
    disk.faults().replace = Some(ErrorKind::QuotaExceeded);
    recorded.decide(10);
    recorded.policy.swap(contrary("flush-after"));
    recorded.decide(10);
    let status = recorded.flushed();
    assert_eq!((status.written, status.dropped), (10, 10));
    assert_eq!(status.failing, Some(std::io::Error::from(ErrorKind::QuotaExceeded).to_string()));
    // What was begun in vain is not left behind.
    assert_eq!(segments(&disk.inner).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_failed_write_left_is_cut_off_and_every_decision_is_written_or_counted() {
    for (part, truncate_fails) in [(0, false), (1, false), (900, false), (3_000, false), (3_000, true)] {
        let disk = Arc::new(FaultyDisk::default());
        let recorded = Recorded::on(disk.clone(), 64 << 20);
        recorded.decide(10);
        recorded.flushed();
        *disk.faults() = Faults { append_after: Some(part), truncate: truncate_fails, ..Faults::default() };
        recorded.decide(20);
        let status = recorded.flushed();
        assert_eq!((status.written, status.dropped), (10, 20));
        *disk.faults() = Faults::default();
        recorded.later().await;
        recorded.decide(5);
        recorded.trace.close().await;
        let status = recorded.trace.status();
        assert_eq!((status.written, status.dropped, status.failing), (15, 20, None));
        let folder = dump(&disk.inner);
        let report = replayed(folder.path());
        assert_eq!(report.dropped, 20);
        if !truncate_fails {
            assert_eq!((report.records, report.equal), (15, 15), "{part}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_count_of_dropped_decisions_that_could_not_be_written_is_told_later() {
    let disk = Arc::new(FaultyDisk::default());
    let recorded = Recorded::on(disk.clone(), 64 << 20);
    recorded.decide(1);
    recorded.flushed();
    disk.faults().append_after = Some(0);
    recorded.decide(10);
    recorded.flushed();
    // A segment can be begun, and then what tells of the ten can not be written.
    *disk.faults() = Faults { append_after: Some(0), appends_well: 1, ..Faults::default() };
    recorded.later().await;
    recorded.decide(5);
    assert_eq!(recorded.flushed().dropped, 15);
    *disk.faults() = Faults::default();
    recorded.later().await;
    recorded.decide(2);
    recorded.trace.close().await;
    let folder = dump(&disk.inner);
    assert_eq!(dropped(folder.path()), [DroppedNote { count: 15, total: 15 }]);
    assert_eq!(recorded.trace.status().written, 3);
}

#[tokio::test(start_paused = true)]
async fn a_segment_whose_header_can_not_be_written_is_none_and_the_trace_says_that_it_fails() {
    let disk = Arc::new(FaultyDisk::default());
    disk.faults().append_after = Some(10);
    let recorded = Recorded::on(disk.clone(), 64 << 20);
    for _ in 0..3 {
        recorded.decide(1);
        let status = recorded.flushed();
        assert!(status.failing.is_some(), "{status:?}");
        assert_eq!(segments(&disk.inner), [""; 0]);
        recorded.later().await;
    }
    *disk.faults() = Faults::default();
    recorded.decide(1);
    let status = recorded.flushed();
    assert_eq!((status.written, status.dropped, status.failing), (1, 3, None));
}

#[tokio::test(start_paused = true)]
async fn notes_are_counted_apart_from_decisions_and_the_catalog_is_told_when_there_is_room() {
    let disk = Arc::new(HungDisk::default());
    disk.set_hanging(true);
    let recorded = Recorded::on(disk.clone(), 64 << 20);
    recorded.fill();
    let before = recorded.trace.status();
    recorded.trace.shadow(shadow_note());
    let moment = recorded.policy.edge().clock.now();
    let enabled = vec!["one".to_owned()];
    recorded.trace.connectors(ConnectorsNote { moment, enabled: enabled.clone(), disabled: Vec::new() });
    recorded.trace.tools(ToolsNote { moment, connector: "one".into(), names: vec!["one__tool".into()] });
    let status = recorded.trace.status();
    assert_eq!((status.dropped, status.notes_dropped), (before.dropped, 1));
    disk.set_hanging(false);
    recorded.trace.close().await;
    let folder = dump(&disk.inner);
    let told = lines(folder.path());
    assert!(told.iter().any(|entry| matches!(&entry.line, Line::Connectors(note) if note.enabled == enabled)));
    assert!(told.iter().any(|entry| matches!(&entry.line, Line::Tools(note) if note.names == ["one__tool"])));
    // After the end, nothing is taken, and everything is counted.
    recorded.trace.shadow(shadow_note());
    recorded.decide(1);
    let after = recorded.trace.status();
    assert_eq!((after.dropped, after.notes_dropped), (before.dropped + 1, 2));
}

#[test]
fn threads_that_decide_while_the_trace_is_closed_have_each_decision_written_or_counted() {
    for _ in 0..20 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let _entered = runtime.enter();
        let directory = MemoryDirectory::new();
        let recorded = Recorded::on(Arc::new(directory.clone()), 64 << 20);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let (policy, stop) = (&recorded.policy, &stop);
                scope.spawn(move || {
                    let subject = policy.subject(format!("thread/{thread}"));
                    while !stop.load(Ordering::Relaxed) {
                        decide(policy, &subject);
                    }
                });
            }
            while recorded.policy.status().decisions < 50 {
                std::thread::yield_now();
            }
            runtime.block_on(recorded.trace.close());
            let closed_at = recorded.policy.status().decisions;
            while recorded.policy.status().decisions < closed_at + 50 {
                std::thread::yield_now();
            }
            stop.store(true, Ordering::Relaxed);
        });
        let (status, decided) = (recorded.trace.status(), recorded.policy.status().decisions);
        assert_eq!(status.written + status.dropped, decided);
        assert_eq!(decisions(dump(&directory).path()).len() as u64, status.written);
    }
}

#[test]
fn a_disk_that_hangs_holds_up_neither_the_end_nor_the_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let disk = Arc::new(HungDisk::default());
    disk.set_hanging(true);
    let recorded = {
        let _entered = runtime.enter();
        Recorded::on(disk.clone(), 64 << 20)
    };
    runtime.block_on(async {
        recorded.decide(10);
        let begun = tokio::time::Instant::now();
        // The clock of a runtime that has work in hand does not run by itself.
        let clock = async {
            for _ in 0..100 {
                tokio::time::advance(limits::CLOSE_TIMEOUT / 100).await;
            }
            tokio::time::advance(seconds(1)).await;
        };
        tokio::join!(recorded.trace.close(), clock);
        assert!(begun.elapsed() >= limits::CLOSE_TIMEOUT);
    });
    drop(runtime);
    assert_eq!(recorded.trace.status().written, 0, "it hangs yet");
    disk.set_hanging(false);
    recorded.trace.flush();
    assert_eq!(recorded.trace.status().written, 10, "nothing was lost by that");
}

#[tokio::test(start_paused = true)]
async fn decisions_that_wait_are_bounded_by_their_memos_too() {
    let rig = support::Rig::new(1);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    let records = rig.records.records();
    let mut record = records.into_iter().find(|record| matches!(record.input, Input::Refresh { .. })).unwrap();
    if let (Input::Refresh { state, .. }, Some(Output::Refresh(made))) = (&mut record.input, &mut record.output) {
        (state.memo, made.state.memo) = (vec![7; 4_096], vec![7; 4_096]);
    }
    let disk = Arc::new(HungDisk::default());
    disk.set_hanging(true);
    let trace = writer(disk.clone(), &rig.clock, 64 << 20);
    let record: Arc<DecisionRecord> = Arc::new(record);
    for _ in 0..limits::QUEUE_RECORDS {
        trace.record(record.clone());
    }
    let most = limits::QUEUE_BYTES / 8_192;
    let taken = limits::QUEUE_RECORDS as u64 - trace.status().dropped;
    assert!((most as u64 / 2..most as u64).contains(&taken), "{taken}");
    disk.set_hanging(false);
    trace.close().await;
    assert_eq!(trace.status().written, taken);
}

#[tokio::test(start_paused = true)]
async fn a_component_that_is_larger_than_the_trace_may_be_leaves_room_for_decisions() {
    let directory = MemoryDirectory::new();
    let size = PolicyComponent::embedded().unwrap().bytes().len() as u64;
    let recorded = Recorded::on(Arc::new(directory.clone()), size / 2);
    for _ in 0..50 {
        recorded.decide(100);
        recorded.trace.flush();
    }
    recorded.trace.close().await;
    let folder = dump(&directory);
    let report = replayed(folder.path());
    assert!(report.records > 50 && report.equal == report.records, "{report:?}");
    let files = segments(&directory);
    let held: u64 = files.iter().map(|name| directory.look(name).unwrap().unwrap().length).sum();
    assert!(held <= size / 2 + limits::WRITE_BYTES as u64, "{held} of {size}");
    // It was written once: who is there stays. The others were compressed.
    let ended: usize = files.last().unwrap().rsplit_once('-').unwrap().1[..6].parse().unwrap();
    assert!(ended > 10);
    assert_eq!(directory.replaces(), 1 + ended);
}

#[tokio::test(start_paused = true)]
async fn each_component_outlives_its_run_for_as_long_as_one_of_its_decisions_does() {
    let directory = MemoryDirectory::new();
    let (first, second) = (contrary("flush-after"), contrary("nothing"));
    {
        // This one crashes: its last component was deployed in the middle, and no later segment tells of it.
        let recorded = Recorded::on(Arc::new(directory.clone()), 64 << 20);
        for component in [&first, &second] {
            recorded.decide(5);
            recorded.policy.swap(component.clone());
        }
        recorded.decide(5);
        recorded.trace.flush();
    }
    let clock = VirtualClock::starting_at(START);
    let next = support::traces::writer_of("next", Arc::new(directory.clone()), &clock, 64 << 20);
    next.close().await;
    let report = replayed(dump(&directory).path());
    assert_eq!((report.records, report.equal, report.skipped), (15, 15, 0), "{:?}", report.missing);
    // Whoever was deployed shortly before may have had a decision under way: the last header names both.
    let headers = lines(dump(&directory).path()).into_iter().filter_map(|entry| match entry.line {
        Line::Header(header) if header.run == "run" => Some(header),
        _ => None,
    });
    let last = headers.last().unwrap();
    for component in [&first, &second] {
        assert!(last.policies.iter().any(|note| note.digest == component.digest()), "{last:?}");
    }
    // Their decisions gone, they go too.
    for segment in segments(&directory) {
        directory.remove(&segment).unwrap();
    }
    support::traces::writer_of("last", Arc::new(directory.clone()), &clock, 64 << 20).close().await;
    let components = directory.names().unwrap().into_iter().filter(|name| name.ends_with(".wasm")).count();
    assert_eq!(components, 1);
}

#[tokio::test(start_paused = true)]
async fn files_of_somebody_else_that_can_not_be_touched_stop_no_trace_and_stay() {
    let disk = FaultyDisk::default();
    // An older run of another user, with a component that nobody else names, and more than the trace may take.
    let segment = "trace-1000000000000-0f0f-000000.jsonl";
    disk.inner.replace(segment, &[b'x'; 50_000]).unwrap();
    let component = format!("policy-{}.wasm", "0f".repeat(32));
    disk.inner.replace(&component, b"theirs").unwrap();
    disk.faults().foreign = Some("0f0f");
    let recorded = Recorded::on(Arc::new(disk.clone()), 20_000);
    for _ in 0..10 {
        recorded.decide(50);
        recorded.trace.flush();
    }
    recorded.trace.close().await;
    let status = recorded.trace.status();
    assert_eq!((status.written, status.dropped, status.failing), (500, 0, None));
    let names = disk.inner.names().unwrap();
    assert!(names.contains(&segment.to_owned()) && names.contains(&component), "{names:?}");
    // One's own oldest decisions go all the same.
    let own = segments(&disk.inner).into_iter().filter(|name| name.contains("-run-"));
    let held: u64 = own.map(|name| disk.inner.look(&name).unwrap().unwrap().length).sum();
    assert!(held < 20_000, "{held}");
}

#[tokio::test(start_paused = true)]
async fn the_deployed_policy_stands_last_in_a_header_also_if_its_bytes_are_those_of_another() {
    let directory = MemoryDirectory::new();
    let recorded = Recorded::on(Arc::new(directory.clone()), 60_000);
    let default = recorded.policy.deployed();
    let twin = PolicyComponent::load(default.bytes(), "twin", InstanceUse::Fresh).unwrap();
    recorded.policy.swap(Arc::new(twin));
    recorded.decide(1);
    recorded.policy.swap(default.clone());
    for _ in 0..10 {
        recorded.decide(60);
        recorded.trace.flush();
    }
    recorded.trace.close().await;
    let headers: Vec<_> = lines(dump(&directory).path())
        .into_iter()
        .filter_map(|entry| if let Line::Header(header) = entry.line { Some(header) } else { None })
        .collect();
    // The first two come before the swap back.
    let later: Vec<_> = headers.iter().filter(|header| header.segment >= 2).collect();
    assert!(later.len() > 2, "{}", headers.len());
    for header in later {
        assert_eq!(header.policies.last().map(|note| note.family.as_str()), Some(default.family()), "{header:?}");
    }
    let report = replayed(dump(&directory).path());
    assert_eq!((report.equal, report.skipped), (report.records, 0));
}
