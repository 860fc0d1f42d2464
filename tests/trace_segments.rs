//! Segments: what they repeat is defined once, the full ones are compressed, and neither costs a decision, whatever fails.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod corpus;
mod support;

use std::path::PathBuf;
use std::sync::{Arc, LazyLock};

use cortex_mcp::edge::clock::{Clock, VirtualClock};
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::policy::{DecisionRecord, DecisionSink, Input, Output, PolicyComponent};
use cortex_mcp::trace::{Line, TraceError, TraceFacts, TraceReader, TraceWriter, limits};
use proptest::prelude::*;
use support::crashing_disk::CrashingDisk;
use support::faulty_disk::{Faults, FaultyDisk};
use support::traces::{decisions, dump, lines, plain, segments};
use support::{Rig, seconds};

static COMPONENT: LazyLock<Arc<PolicyComponent>> = LazyLock::new(|| Arc::new(PolicyComponent::embedded().unwrap()));

/// The decisions of the golden traces: of every function.
static RECORDS: LazyLock<Vec<DecisionRecord>> = LazyLock::new(|| corpus::decisions(&corpus::files()));

fn facts(run: &str, directory: Arc<dyn Directory>, bytes_max: u64) -> TraceFacts {
    TraceFacts {
        directory,
        path: PathBuf::from("memory"),
        bytes_max,
        run: run.to_owned(),
        started: VirtualClock::starting_at(support::rig::START).now(),
        deployed: COMPONENT.clone(),
        default: COMPONENT.clone(),
        configuration: serde_json::json!({}),
    }
}

fn writer(run: &str, directory: Arc<dyn Directory>, bytes_max: u64) -> TraceWriter {
    TraceWriter::start(facts(run, directory, bytes_max)).unwrap()
}

/// Runs what waits for a writer's end.
fn close(trace: &TraceWriter) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(trace.close());
}

/// How many segments are compressed, and how many are not.
fn forms(directory: &dyn Directory) -> (usize, usize) {
    let names = segments(directory);
    let compressed = names.iter().filter(|name| name.ends_with(".gz")).count();
    (compressed, names.len() - compressed)
}

/// The decisions in a folder, which may hold no segment at all.
fn read(directory: &MemoryDirectory) -> Vec<DecisionRecord> {
    if segments(directory).is_empty() { Vec::new() } else { decisions(dump(directory).path()) }
}

/// A decision as it is in the corpus, or with a larger state, a longer configuration, or other entries.
fn changed(index: usize, memo: usize, option: usize, repeated: usize) -> DecisionRecord {
    let mut record = RECORDS[index % RECORDS.len()].clone();
    match &mut record.input {
        Input::Refresh { config, state, .. } => {
            state.memo = vec![7; memo];
            config.options = vec![("option".to_owned(), "\"\\\u{7f}ö".repeat(option))];
        }
        Input::Plan { candidates, .. } => {
            *candidates = candidates.iter().cycle().take(candidates.len().min(1) * repeated).cloned().collect();
        }
        Input::Merge { ours, theirs } => std::mem::swap(ours, theirs),
        _ => {}
    }
    if let Some(Output::Refresh(decision)) = &mut record.output {
        decision.state.memo = vec![7; memo];
    }
    if memo == 3 {
        record.output = None;
    }
    record
}

fn sequences() -> impl Strategy<Value = Vec<DecisionRecord>> {
    let one = (0..RECORDS.len(), 0..300usize, 0..40usize, 0..200usize);
    let one = one.prop_map(|(index, memo, option, repeated)| changed(index, memo, option, repeated));
    prop::collection::vec(one, 1..400)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(records in sequences(), bytes_max in 200_000u64..4_000_000) {
        let directory = MemoryDirectory::new();
        let trace = writer("run", Arc::new(directory.clone()), bytes_max);
        for record in &records {
            trace.record(Arc::new(record.clone()));
        }
        close(&trace);
        prop_assert_eq!(trace.status().dropped, 0);
        prop_assert_eq!(forms(&directory).1, 1, "all but the last one are compressed");
        prop_assert!(decisions(dump(&directory).path()) == records);
    }

    #[test]
    fn faults_lose_decisions_and_no_value(
        records in sequences(),
        faults in prop::collection::vec((any::<bool>(), 0..90_000usize, 0..3usize, any::<bool>()), 1..8),
    ) {
        let disk = FaultyDisk::default();
        let trace = writer("run", Arc::new(disk.clone()), 2_000_000);
        let mut records = records.into_iter().enumerate();
        let mut hour = 0;
        for (fails, after, appends_well, replace) in faults {
            *disk.faults() = if fails {
                let replace = replace.then_some(std::io::ErrorKind::StorageFull);
                Faults { append_after: Some(after), appends_well, replace, ..Faults::default() }
            } else {
                Faults::default()
            };
            hour += 1;
            for (number, mut record) in records.by_ref().take(60) {
                record.sequence = number as u64;
                record.moment.boot = record.moment.boot.plus(seconds(3_600 * hour));
                trace.record(Arc::new(record));
            }
            trace.flush();
        }
        *disk.faults() = Faults::default();
        close(&trace);
        let status = trace.status();
        let read = read(&disk.inner);
        prop_assert_eq!(read.len() as u64, status.written);
        prop_assert!(read.windows(2).all(|pair| pair[0].sequence < pair[1].sequence));
    }
}

/// A run of two hundred decisions that ends after so many changes of its folder; which of them it takes for written.
fn crashed(disk: &CrashingDisk) -> u64 {
    let trace = writer("first", Arc::new(disk.clone()), 160_000);
    for (number, record) in RECORDS.iter().cycle().take(200).enumerate() {
        trace.record(Arc::new(DecisionRecord { sequence: number as u64, ..record.clone() }));
        if number % 5 == 4 {
            trace.flush();
        }
    }
    close(&trace);
    trace.status().written
}

#[test]
fn crash_at_any_step_loses_nothing_that_was_written_and_repeats_nothing() {
    let whole = CrashingDisk::after(usize::MAX, 0);
    assert_eq!(crashed(&whole), 200);
    let (compressed, plain_ones) = forms(&whole.inner);
    assert!(compressed > 5 && plain_ones == 1, "{compressed} and {plain_ones}");
    let steps = usize::MAX - whole.left();
    let mut both = 0;
    for step in 0..steps {
        let disk = CrashingDisk::after(step, step % 3 * 1_000);
        let written = crashed(&disk);
        let read = |directory: &MemoryDirectory| -> Vec<u64> {
            read(directory).into_iter().map(|record| record.sequence).collect()
        };
        let left = read(&disk.inner);
        // A part of the last append may be there, too.
        assert!(left.len() as u64 >= written, "step {step}: {} of {written}", left.len());
        assert!(left.iter().copied().eq(0..left.len() as u64), "step {step}: {left:?}");
        let names = segments(&disk.inner);
        both += names.iter().filter(|name| names.contains(&format!("{name}.gz"))).count();
        // The next run finishes what this one began.
        let next = writer("next", Arc::new(disk.inner.clone()), 1 << 20);
        while forms(&disk.inner).1 > 1 + names_without_lines(&disk.inner) {
            std::thread::yield_now();
        }
        close(&next);
        assert_eq!(read(&disk.inner), left, "step {step}");
    }
    assert!(both > 0, "in some cases a segment was there both plain and compressed");
}

/// Segments that hold no whole line: a crash came before their header.
fn names_without_lines(directory: &MemoryDirectory) -> usize {
    let names = segments(directory).into_iter();
    // One that is gone was compressed meanwhile.
    let texts = names.filter_map(|name| directory.read(&name).unwrap());
    texts.filter(|text| !plain(text.clone()).contains(&b'\n')).count()
}

#[test]
fn configuration_that_is_too_long_for_a_header_costs_no_decision() {
    let directory = MemoryDirectory::new();
    let configuration = serde_json::json!("x".repeat(limits::HEADER_BYTES_MAX));
    let facts = TraceFacts { configuration, ..facts("run", Arc::new(directory.clone()), 64 << 20) };
    let trace = TraceWriter::start(facts).unwrap();
    trace.record(Arc::new(RECORDS[0].clone()));
    close(&trace);
    let folder = dump(&directory);
    let entries = lines(folder.path());
    assert!(matches!(&entries[0].line, Line::Header(header) if header.configuration.is_null()));
    assert_eq!(decisions(folder.path()), RECORDS[..1]);
}

#[test]
fn segments_that_another_process_writes_stay_plain() {
    let directory = MemoryDirectory::new();
    let first = writer("first", Arc::new(directory.clone()), 1 << 20);
    first.record(Arc::new(RECORDS[0].clone()));
    first.flush();
    let second = writer("second", Arc::new(directory.clone()), 1 << 20);
    second.record(Arc::new(RECORDS[1].clone()));
    second.flush();
    close(&second);
    assert_eq!(forms(&directory), (0, 2));
    close(&first);
    let third = writer("third", Arc::new(directory.clone()), 1 << 20);
    while forms(&directory) != (2, 1) {
        std::thread::yield_now();
    }
    close(&third);
    assert_eq!(decisions(dump(&directory).path()), RECORDS[..2]);
}

#[test]
fn reader_follows_a_segment_that_is_compressed_after_it_was_listed() {
    let directory = MemoryDirectory::new();
    let trace = writer("run", Arc::new(directory.clone()), 64 << 20);
    RECORDS[..50].iter().for_each(|record| trace.record(Arc::new(record.clone())));
    close(&trace);
    let folder = dump(&directory);
    let mut reader = TraceReader::open(&[folder.path().to_owned()]).unwrap();
    let listed: Vec<PathBuf> = reader.files().map(PathBuf::from).collect();
    let next = writer("next", Arc::new(directory.clone()), 64 << 20);
    while forms(&directory).0 == 0 {
        std::thread::yield_now();
    }
    close(&next);
    let compressed = segments(&directory).into_iter().find(|name| name.ends_with(".gz")).unwrap();
    std::fs::write(folder.path().join(&compressed), directory.read(&compressed).unwrap().unwrap()).unwrap();
    std::fs::remove_file(folder.path().join(compressed.trim_end_matches(".gz"))).unwrap();
    let mut lines = 0;
    while reader.next_entry().unwrap().is_some() {
        lines += 1;
    }
    assert!(lines > 50, "{lines}");

    // One that is named is found, too, and counts.
    let mut reader = TraceReader::open(&listed).unwrap();
    let length = directory.look(&compressed).unwrap().unwrap().length;
    assert_eq!(reader.progress(), (0, length));
    while reader.next_entry().unwrap().is_some() {}
    assert_eq!(reader.progress(), (length, length));
    std::fs::remove_file(folder.path().join(&compressed)).unwrap();
    assert!(matches!(TraceReader::open(&listed), Err(TraceError::Read { path, .. }) if path == listed[0]));
}

#[test]
fn compressed_segment_that_is_whole_outlasts_what_a_loss_of_power_leaves_of_the_plain_one() {
    let whole = MemoryDirectory::new();
    let trace = writer("run", Arc::new(whole.clone()), 64 << 20);
    RECORDS[..50].iter().for_each(|record| trace.record(Arc::new(record.clone())));
    close(&trace);
    let name = segments(&whole).pop().unwrap();
    let text = whole.read(&name).unwrap().unwrap();
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        std::io::Write::write_all(&mut encoder, bytes).unwrap();
        encoder.finish().unwrap()
    };
    let (compressed, short) = (gzip(&text), gzip(&text[..2_000]));
    let zeros = [&text[..2_000], &[0; 500]].concat();
    for (plain, compressed) in [
        (&b""[..], &compressed[..]),
        (&text[..2_000], &compressed),
        (&zeros, &compressed),
        (&text, &compressed),
        // One that another program began to write, or cut short before it compressed it.
        (&text, &compressed[..compressed.len() / 2]),
        (&text, &short),
        (&text, b""),
    ] {
        let directory = MemoryDirectory::new();
        directory.replace(&name, plain).unwrap();
        directory.replace(&format!("{name}.gz"), compressed).unwrap();
        let next = writer("next", Arc::new(directory.clone()), 64 << 20);
        while directory.read(&name).unwrap().is_some() {
            std::thread::yield_now();
        }
        close(&next);
        assert_eq!(read(&directory), RECORDS[..50]);
    }
}

/// What the trace of so many unreachable connectors takes: decisions, and compressed bytes. Without the plans,
/// which list every connector that waits.
async fn burst(connectors: usize) -> (u64, u64) {
    let rig = Rig::new(connectors);
    (1..=connectors).for_each(|number| rig.refuse(number));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(600)).await;
    served.gateway.shut_down().await;
    let directory = MemoryDirectory::new();
    let trace = writer("run", Arc::new(directory.clone()), 64 << 20);
    let mut records = 0;
    for record in rig.records.shared().into_iter().filter(|record| !matches!(record.input, Input::Plan { .. })) {
        trace.record(record);
        records += 1;
        if records % 1_000 == 0 {
            trace.flush();
        }
    }
    trace.close().await;
    assert_eq!((trace.status().written, trace.status().dropped), (records, 0));
    let next = writer("next", Arc::new(directory.clone()), 64 << 20);
    while forms(&directory).1 > 1 {
        std::thread::yield_now();
    }
    next.close().await;
    let compressed = segments(&directory).into_iter().filter(|name| name.ends_with(".gz"));
    (records, compressed.map(|name| directory.look(&name).unwrap().unwrap().length).sum())
}

#[tokio::test(start_paused = true)]
async fn burst_of_failures_takes_few_bytes_a_decision_and_grows_with_the_connectors() {
    let (few, few_bytes) = burst(20).await;
    let (many, many_bytes) = burst(160).await;
    println!("20 connectors: {few} decisions in {few_bytes} bytes; 160: {many} in {many_bytes}");
    assert!(many > 6 * few, "{few} and {many}");
    assert!(many_bytes <= 45 * many, "{many_bytes} bytes for {many} decisions");
    assert!(many_bytes <= 12 * few_bytes, "{few_bytes} and {many_bytes}");
}
