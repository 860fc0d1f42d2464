//! What the registry costs, against what the disk itself costs: `cargo bench --bench registry`.
//!
//! Everything is measured in one folder and one run, round by round in turn with a raw loop that makes as many bytes durable
//! with as few calls as can be; what is judged are medians of the ratios of a round. `--quick` only shows that it runs,
//! `--json` is for programs, `--directory DIR` measures another disk, and a scene's name measures that scene alone.
//! Nothing here decides a test.

#![allow(clippy::expect_used, reason = "a measurement that can not run has nothing to report")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cortex_mcp::edge::clock::VirtualClock;
use cortex_mcp::model::WallMs;

use measured::figures::{Report, Target, Values, shown};
use measured::raw::{self, RawLoop};
use measured::rig::{self, Kept, Options, Rig};

mod measured;

/// Entries of the registry in which changes are measured.
const NAMES: usize = 1_000;

fn main() {
    let options = Options::from_arguments();
    let folder = options.folder();
    let rig = Rig::new();
    let mut report = Report::default();
    report.note("file system", raw::file_system(folder.path()));
    let scenes: [(&str, Scene); 6] = [
        ("upsert", upsert),
        ("group", group),
        ("snapshot", snapshot),
        ("replay", replay),
        ("batches", batches),
        ("amplification", amplification),
    ];
    for (name, scene) in scenes {
        if options.wants(name) {
            let folder = folder.path().join(name);
            std::fs::create_dir(&folder).expect("a folder");
            scene(&rig, &options, &folder, &mut report);
            std::fs::remove_dir_all(&folder).expect("it is removed");
        }
    }
    report.print(options.json);
}

type Scene = fn(&Rig, &Options, &Path, &mut Report);

/// A registry of [`NAMES`] entries, kept as a gateway keeps it.
fn kept(rig: &Rig, folder: &Path, runtime: &tokio::runtime::Runtime) -> Kept {
    let kept = Kept::new(rig.open(folder, "bench"), runtime);
    rig::by_tasks(&kept.store, runtime, rig::work(50, NAMES / 50, NAMES, 0));
    kept.store.flush().expect("a document");
    kept.store.upsert(rig::entry(0, 1)).expect("a durable change");
    kept
}

/// The length of the last record of the journals in a folder.
fn record_bytes(folder: &Path) -> usize {
    let mut longest = 0;
    for (_, bytes) in segments(folder) {
        for record in records(&bytes) {
            longest = longest.max(record.len());
        }
    }
    longest
}

/// The segments in a folder: name and bytes.
fn segments(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let files = std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path());
    let segments = files.filter_map(|path| {
        let name = path.file_name()?.to_str()?.to_owned();
        let bytes = name.contains(".journal-").then(|| std::fs::read(&path).expect("a segment"))?;
        Some((name, bytes))
    });
    segments.collect()
}

/// The records of a segment.
fn records(segment: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = &segment[HEADER_BYTES..];
    while let Some(length) = rest.first_chunk().map(|length| u32::from_le_bytes(*length) as usize) {
        if length == 0 {
            break;
        }
        let (record, after) = rest.split_at(RECORD_HEAD_BYTES + length);
        records.push(record);
        rest = after;
    }
    records
}

/// As the journal's format has it.
const HEADER_BYTES: usize = 64;
const RECORD_HEAD_BYTES: usize = 24;
const SEGMENT_BYTES: usize = 1 << 20;

/// One writer, one change at a time.
fn upsert(rig: &Rig, options: &Options, folder: &Path, report: &mut Report) {
    let runtime = rig::runtime();
    let kept = kept(rig, folder, &runtime);
    let record = record_bytes(folder);
    let mut raw = RawLoop::new(folder, record).expect("a raw segment");
    let each = options.pick(400, 20);
    let (mut p50, mut p95, mut raw_p50, mut raw_p95) = <[Values; 4]>::default().into();
    let (mut ratio_p50, mut ratio_p95) = (Values::default(), Values::default());
    for round in 0..options.pick(25, 2) {
        let entries = rig::work(1, each, NAMES, round * each).remove(0);
        let (mut ours, mut theirs) = (Values::default(), Values::default());
        for entry in entries {
            ours.time(|| kept.store.upsert(entry)).expect("a durable change");
        }
        for _ in 0..each {
            theirs.time(|| raw.write()).expect("a durable record");
        }
        ratio_p50.push(ours.percentile(0.5) / theirs.percentile(0.5));
        ratio_p95.push(ours.percentile(0.95) / theirs.percentile(0.95));
        p50.push(ours.percentile(0.5));
        p95.push(ours.percentile(0.95));
        raw_p50.push(theirs.percentile(0.5));
        raw_p95.push(theirs.percentile(0.95));
    }
    kept.close(&runtime);
    report.note("a record with its frame", format!("{record} bytes"));
    report
        .note("raw write + fdatasync, p50 / p95", format!("{} / {}", shown(raw_p50.median()), shown(raw_p95.median())));
    report.note("durable upsert, p50 / p95", format!("{} / {}", shown(p50.median()), shown(p95.median())));
    report.judge("durable upsert / raw, p50", ratio_p50.median(), " x", Target::AtMost(1.3));
    report.judge("durable upsert / raw, p95", ratio_p95.median(), " x", Target::AtMost(1.6));
}

/// Many writers at once.
fn group(rig: &Rig, options: &Options, folder: &Path, report: &mut Report) {
    let runtime = rig::runtime();
    let kept = kept(rig, folder, &runtime);
    let store = &kept.store;
    let sizes = [(1, options.pick(600, 20)), (16, options.pick(250, 4)), (256, options.pick(60, 2))];
    let mut single = Values::default();
    // For each number of writers: by threads and by tasks; the rate, its ratio to one writer, changes per commit.
    let mut many: [[[Values; 3]; 2]; 2] = Default::default();
    for round in 0..options.pick(11, 1) {
        let mut alone = 0.0;
        for (place, (writers, each)) in sizes.into_iter().enumerate() {
            let work = || rig::work(writers, each, NAMES, round * each);
            if place == 0 {
                alone = rig::by_threads(store, work());
                single.push(alone);
                continue;
            }
            for (how, values) in many[place - 1].iter_mut().enumerate() {
                let before = store.counts();
                let rate =
                    if how == 0 { rig::by_threads(store, work()) } else { rig::by_tasks(store, &runtime, work()) };
                let after = store.counts();
                values[0].push(rate);
                values[1].push(rate / alone);
                values[2].push((after.changes - before.changes) as f64 / (after.commits - before.commits) as f64);
            }
        }
    }
    kept.close(&runtime);
    report.note("one writer", format!("{:.0} changes/s", single.median()));
    for ((writers, least), ways) in [(16, 8.0), (256, 20.0)].into_iter().zip(&many) {
        for (way, values) in ["threads", "tasks"].into_iter().zip(ways) {
            let batch = values[2].median();
            let figure = format!("{:.0} changes/s, {batch:.1} per commit", values[0].median());
            report.note(format!("{writers} {way}"), figure);
            report.judge(format!("{writers} {way} / one writer"), values[1].median(), " x", Target::AtLeast(least));
        }
    }
}

/// The document of a large registry.
fn snapshot(rig: &Rig, options: &Options, folder: &Path, report: &mut Report) {
    let count = options.pick(10_000, 500);
    let runtime = rig::runtime();
    let store = rig.open(folder, "bench");
    rig::by_tasks(&store, &runtime, rig::work(100, count / 100, count, 0));
    store.flush().expect("a document");
    let (mut ours, mut theirs, mut ratios) = <[Values; 3]>::default().into();
    let mut length = 0;
    for round in 0..options.pick(25, 2) {
        store.upsert(rig::entry(round, 1)).expect("a durable change");
        ours.time(|| store.flush()).expect("a document");
        let bytes = std::fs::read(folder.join("servers.json")).expect("the document");
        length = bytes.len();
        theirs.time(|| raw::replace(folder, &bytes)).expect("a raw document");
        ratios.push(ours.last() / theirs.last());
    }
    store.close().expect("the registry is closed");
    report.note(format!("document of {count} entries"), format!("{length} bytes"));
    report.note("raw write + fsync + rename + fsync of the folder", shown(theirs.median()));
    report.note("snapshot after one change", shown(ours.median()));
    report.judge("snapshot / raw", ratios.median(), " x", Target::AtMost(1.3));
}

/// Opening after a crash: everything is in the journal of a writer that is gone.
fn replay(rig: &Rig, options: &Options, folder: &Path, report: &mut Report) {
    let count = options.pick(100_000, 2_000);
    let runtime = rig::runtime();
    for names in [1_000, 10_000] {
        let made = folder.join(format!("made-{names}"));
        let store = rig.open(&made, "gone");
        rig::by_tasks(&store, &runtime, rig::work(250, count / 250, names, 0));
        drop(store);
        let (grown, cut) = (segments(&made), cut(&segments(&made)));
        for (how, segments) in [("1 MiB segments", &cut), ("one grown segment", &grown)] {
            let (mut opened, mut adopted) = (Values::default(), Values::default());
            for round in 0..options.pick(7, 1) {
                let folder = folder.join(format!("replay-{names}-{round}-{}", segments.len()));
                std::fs::create_dir(&folder).expect("a folder");
                for (name, bytes) in segments {
                    std::fs::write(folder.join(name), bytes).expect("a segment");
                }
                let store = opened.time(|| rig.open(&folder, "next"));
                assert_eq!(store.list().len(), names.min(count), "everything that was acknowledged is there");
                adopted.time(|| store.flush()).expect("a document");
                assert!(segmentless(&folder), "what is in the document is in no journal");
                store.close().expect("the registry is closed");
                std::fs::remove_dir_all(&folder).expect("it is removed");
            }
            let what = format!("open, {count} records of {names} names, {how}");
            report.judge(what, opened.median() * 1e3, " ms", Target::AtMost(150.0));
            report.note("  and then taken over into the document", shown(adopted.median()));
        }
    }
}

/// The same records in as many segments as a store that is tended uses.
fn cut(segments: &[(String, Vec<u8>)]) -> Vec<(String, Vec<u8>)> {
    let mut cut = Vec::new();
    for (name, bytes) in segments {
        let (stem, epoch) = name.rsplit_once('-').expect("a segment's name");
        let (stem, _) = stem.rsplit_once('-').expect("a segment's name");
        let mut segment = bytes[..HEADER_BYTES].to_vec();
        let mut push = |mut segment: Vec<u8>| {
            segment.resize(segment.len().max(SEGMENT_BYTES), 0);
            let number = cut.len() + 1;
            cut.push((format!("{stem}-{number:06}-{epoch}"), segment));
        };
        for record in records(bytes) {
            if segment.len() >= SEGMENT_BYTES {
                push(std::mem::replace(&mut segment, bytes[..HEADER_BYTES].to_vec()));
            }
            segment.extend_from_slice(record);
        }
        push(segment);
    }
    cut
}

fn segmentless(folder: &Path) -> bool {
    segments(folder).iter().all(|(name, _)| !name.contains("-gone-"))
}

/// How often the document is written for a hundred changes, which the old gateway wrote it for a hundred times.
fn batches(rig: &Rig, _: &Options, folder: &Path, report: &mut Report) {
    for (pause, what) in [(10, "a hundred changes within a second"), (1_000, "a hundred changes, one a second")] {
        let clock = Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000)));
        let store = rig.open_with(&folder.join(pause.to_string()), "bench", clock.clone());
        for number in 0..100 {
            store.upsert(rig::entry(number % 7, number)).expect("a durable change");
            clock.suspend(Duration::from_millis(pause));
            store.tend();
        }
        store.close().expect("the registry is closed");
        let documents = store.counts().documents as f64;
        report.judge(format!("{what}: documents"), documents, "", Target::AtMost(20.0));
    }
}

/// How much is written for what is changed.
fn amplification(rig: &Rig, options: &Options, folder: &Path, report: &mut Report) {
    let runtime = rig::runtime();
    let kept = kept(rig, folder, &runtime);
    let count = options.pick(5_000, 100);
    let mut raw = RawLoop::new(folder, record_bytes(folder)).expect("a raw segment");
    let entries = rig::work(1, count, NAMES, 0).remove(0);
    let useful: usize = entries.iter().map(|entry| entry.json().len()).sum();
    let (before, documents) = (raw::written(), kept.store.counts().documents);
    for entry in entries {
        kept.store.upsert(entry).expect("a durable change");
    }
    kept.store.flush().expect("a document");
    let (after, documents) = (raw::written(), kept.store.counts().documents - documents);
    for _ in 0..count {
        raw.write().expect("a durable record");
    }
    let end = raw::written();
    kept.close(&runtime);
    let share = |bytes: u64| format!("{:.2} x", bytes as f64 / useful as f64);
    report.note(format!("written per byte of entry, {documents} documents"), share(after - before));
    report.note("the same, raw loop", share(end - after));
}
