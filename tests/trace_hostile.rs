//! Traces that were not meant to be replayed: broken components beside them, names without end, the same bytes under several
//! names. A replay tells what it can, within bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::{Clock, VirtualClock};
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::files::MemoryDirectory;
use cortex_mcp::edge::virtual_network::VirtualNetwork;
use cortex_mcp::model::Digest;
use cortex_mcp::policy::contract::Pending;
use cortex_mcp::policy::{DecidedBy, EMBEDDED_COMPONENT, InstanceUse, Output, Policy, PolicyComponent, PolicyMetrics};
use cortex_mcp::trace::{
    Components, Entry, Excess, Line, PolicyNote, Replay, TraceError, TraceFacts, TraceReader, TraceWriter, limits,
};
use flate2::Compression;
use flate2::write::GzEncoder;
use support::policies::{contrary, faulty};
use support::rig::START;
use support::traces::{dump, lines, replayed};

/// A trace of ten decisions by each of these, deployed one after the other, and its folder.
async fn trace_of(default: Arc<PolicyComponent>, deployed: &[Arc<PolicyComponent>]) -> tempfile::TempDir {
    let directory = MemoryDirectory::new();
    let clock = Arc::new(VirtualClock::starting_at(START));
    let trace = TraceWriter::start(TraceFacts {
        directory: Arc::new(directory.clone()),
        path: PathBuf::from("memory"),
        bytes_max: 64 << 20,
        run: "run".into(),
        started: clock.now(),
        deployed: deployed[0].clone(),
        default: default.clone(),
        configuration: serde_json::json!({}),
    })
    .unwrap();
    let edge = Edge { clock, entropy: Arc::new(VirtualEntropy::from_number(1)), http: Arc::new(VirtualNetwork::new()) };
    let policy = Policy::new(deployed[0].clone(), default, edge, Arc::new(trace.clone()), PolicyMetrics::default());
    let subject = policy.subject("subject".to_owned());
    let pending = Pending { changes: 1, bytes: 1, oldest_ms: 1, batch_ms: 5, closing: false, write_through: false };
    for (number, component) in deployed.iter().enumerate() {
        if number > 0 {
            policy.swap(component.clone());
        }
        for _ in 0..10 {
            policy.flush_after(&subject, pending).unwrap();
        }
    }
    trace.close().await;
    dump(&directory)
}

fn embedded() -> Arc<PolicyComponent> {
    Arc::new(PolicyComponent::embedded().unwrap())
}

fn file_of(folder: &Path, digest: Digest) -> PathBuf {
    folder.join(format!("policy-{digest}.wasm"))
}

#[tokio::test(start_paused = true)]
async fn a_component_that_can_not_be_used_costs_its_own_decisions_and_is_named_with_the_reason() {
    let other = contrary("flush-after");
    let folder = trace_of(embedded(), &[embedded(), other.clone()]).await;
    let file = file_of(folder.path(), other.digest());
    let whole = std::fs::read(&file).unwrap();
    let wrong = contrary("nothing").bytes().to_vec();
    for (bytes, reason) in [
        (wrong, "is not the component that its name says"),
        (b"no component".to_vec(), "policy-"),
        (whole[..whole.len() / 2].to_vec(), "policy-"),
    ] {
        std::fs::write(&file, bytes).unwrap();
        let report = replayed(folder.path());
        assert_eq!((report.records, report.equal, report.different, report.skipped), (20, 10, 0, 10));
        let [missing] = report.missing.as_slice() else { panic!("{:?}", report.missing) };
        assert_eq!((missing.digest, missing.decisions), (other.digest(), 10));
        assert!(missing.reason.contains(reason), "{}", missing.reason);
    }
    std::fs::remove_file(&file).unwrap();
    let report = replayed(folder.path());
    assert_eq!((report.missing[0].reason.as_str(), report.missing_others), ("not at hand", 0));
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_deployed_as_of_another_family_are_another_component() {
    let fresh = Arc::new(PolicyComponent::load(EMBEDDED_COMPONENT, "mine", InstanceUse::Fresh).unwrap());
    let folder = trace_of(embedded(), &[fresh.clone(), faulty("panic", "flush-after"), fresh.clone()]).await;
    let entries = lines(folder.path());
    let Line::Header(first) = &entries[0].line else { panic!("{:?}", entries[0]) };
    assert_eq!(first.policies, [PolicyNote::of(&embedded()), PolicyNote::of(&fresh)]);
    let report = replayed(folder.path());
    assert_eq!((report.records, report.equal), (30, 30), "{:?}", report.first_difference);

    // Each note is found as what it says.
    let mut components = Components::new();
    for component in [embedded(), fresh] {
        let note = PolicyNote::of(&component);
        let found = components.find(&note, folder.path()).unwrap().unwrap();
        assert_eq!((found.family(), found.instance_use()), (component.family(), component.instance_use()));
        assert_eq!(PolicyNote::of(components.get(&note).unwrap()), note);
    }
}

#[tokio::test(start_paused = true)]
async fn a_replay_of_subjects_without_end_is_bounded_and_counts_the_others() {
    let folder = trace_of(embedded(), &[embedded()]).await;
    let entries = lines(folder.path());
    let mut replay = Replay::same();
    replay.take(&entries[0]).unwrap();
    let Line::Decision(record) = &entries[1].line else { panic!("{:?}", entries[1]) };
    let mut different = record.clone();
    different.output = Some(Output::FlushAfter(1_234_567));
    let mut take = |subject: String, replay: &mut Replay| {
        different.subject = subject;
        let (place, line) = (entries[1].place.clone(), Line::Decision(different.clone()));
        replay.take(&Entry { place, line }).unwrap();
    };
    let most = limits::DIFFERENT_SUBJECTS_MAX;
    take("x".repeat(limits::SUBJECT_BYTES_MAX + 1), &mut replay);
    for number in 0..most + 10 {
        take(format!("subject/{number}"), &mut replay);
    }
    take("subject/7".to_owned(), &mut replay);
    let report = replay.report();
    assert_eq!(report.different, most as u64 + 12);
    assert_eq!(report.summary.len(), limits::SUMMARY_ROWS_MAX);
    assert_eq!((report.summary[0].subject.as_str(), report.summary[0].different), ("subject/7", 2));
    let told: u64 = report.summary.iter().map(|row| row.different).sum();
    assert_eq!(told + report.summary_others, report.different);
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["summary_others"], report.summary_others);

    // So it is for components that nobody has.
    for number in 0..limits::MISSING_TOLD_MAX + 5 {
        let mut record = record.clone();
        record.decided_by = DecidedBy::Deployed(Digest::of(&number.to_le_bytes()));
        let (place, line) = (entries[1].place.clone(), Line::Decision(record));
        replay.take(&Entry { place, line }).unwrap();
    }
    let report = replay.report();
    assert_eq!((report.missing.len(), report.missing_others), (limits::MISSING_TOLD_MAX, 5));
}

/// The lines of a golden trace: its header, a configuration and a state, and the first decision, which refers to them.
fn golden() -> [String; 4] {
    let text = include_str!("traces/alone.jsonl");
    let mut lines = text.lines().take(4).map(|line| format!("{line}\n"));
    std::array::from_fn(|_| lines.next().unwrap())
}

fn compressed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Reads a file to its end: how many lines came of it, how many bytes were in use at once, and how it ended.
fn read(bytes: &[u8]) -> (u64, u64, Option<TraceError>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("hostile");
    std::fs::write(&file, bytes).unwrap();
    let (mut lines, mut error) = (0, None);
    let used = allocation_counter::measure(|| {
        let mut reader = TraceReader::open(std::slice::from_ref(&file)).unwrap();
        loop {
            match reader.next_entry() {
                Ok(Some(_)) => lines += 1,
                Ok(None) => break,
                Err(found) => {
                    error = Some(found);
                    break;
                }
            }
        }
    });
    (lines, used.bytes_max, error)
}

#[test]
fn segment_that_expands_without_end_is_an_error_in_bounded_memory() {
    let [header, ..] = golden();
    // Ten gigabytes in ten megabytes: gzip takes no more than a thousand bytes into one.
    let of = |unit: &[u8]| {
        let whole = compressed(&unit.repeat((64 << 20) / unit.len()));
        [compressed(header.as_bytes()), whole.repeat(160)].concat()
    };
    let unknown = format!("{{\"later\":\"{}\"}}\n", "x".repeat(1 << 20));
    let (lines, bytes_max, error) = read(&of(unknown.as_bytes()));
    assert!(matches!(error, Some(TraceError::Exceeds { excess: Excess::Expanded, .. })), "{error:?}");
    assert!(lines == 1 && bytes_max < 16 << 20, "{lines} lines, {bytes_max} bytes");
    for (unit, most) in [(&b"\0"[..], 128 << 20), (b"\n", 1 << 20), (b"[", 128 << 20)] {
        let (_, bytes_max, error) = read(&of(unit));
        assert!(matches!(error, Some(TraceError::Damaged { line: 2, .. })), "{error:?}");
        assert!(bytes_max < most, "{bytes_max}");
    }
}

#[test]
fn lines_of_many_small_values_take_bounded_memory() {
    let [header, ..] = golden();
    let numbers = format!("[{}0]", "0,".repeat((limits::LINE_BYTES_MAX - 100) / 2));
    let later = format!("{{\"later\":{numbers}}}\n");
    let (lines, bytes_max, error) = read([&*header, &later].concat().as_bytes());
    assert!(error.is_none() && lines == 1, "{lines} lines, {error:?}");
    assert!(bytes_max < 128 << 20, "{bytes_max}");

    // A configuration is kept as it is, and its header is bounded, however its name is written.
    let start = header.strip_suffix("{}}}\n").unwrap();
    for name in ["\"header\"", "\"h\\u0065ader\""] {
        let start = start.replacen("\"header\"", name, 1);
        let line = format!("{start}{numbers}}}}}\n");
        for (text, number) in [(line.clone(), 1), ([&*header, &line].concat(), 2)] {
            let (_, bytes_max, error) = read(text.as_bytes());
            assert!(
                matches!(&error, Some(TraceError::Exceeds { line, excess: Excess::Header, .. }) if *line == number),
                "{error:?}"
            );
            assert!(bytes_max < 128 << 20, "{bytes_max}");
        }
    }
}

#[test]
fn header_that_a_crash_left_as_zeros_is_no_long_one() {
    let [header, ..] = golden();
    let torn = [&header.as_bytes()[..100], &vec![0; 2 * limits::HEADER_BYTES_MAX]].concat();
    let (lines, _, error) = read(&torn);
    assert!(error.is_none() && lines == 0, "{error:?}");
}

#[test]
fn reasons_are_short_and_cannot_control_a_terminal() {
    let [header, ..] = golden();
    // The codes of a terminal, as JSON may and may not have them.
    let kind = format!("{{\"{}\":1,\"x\":1}}\n", "\\u001b[2J".repeat(1_000));
    let name = format!("{{\"value\":[\"{}\",1]}}\n", "\u{9b}2J".repeat(1_000));
    for text in [kind.clone(), [&*header, &kind].concat(), [&*header, &name].concat()] {
        let (_, _, error) = read(text.as_bytes());
        let Some(TraceError::NoHeader { reason, .. } | TraceError::Damaged { reason, .. }) = error else {
            panic!("{error:?}")
        };
        assert!(reason.chars().count() <= limits::REASON_CHARS_MAX, "{reason}");
        assert!(!reason.contains(char::is_control), "{reason:?}");
    }
}

#[test]
fn compressed_segment_that_is_cut_or_changed_is_damaged() {
    let text = include_str!("traces/alone.jsonl");
    let whole = compressed(text.as_bytes());
    let (lines, _, error) = read(&whole);
    assert!(error.is_none() && lines > 300);
    for cut in [2, 10, 11, whole.len() / 2, whole.len() - 1] {
        let (some, _, error) = read(&whole[..cut]);
        assert!(matches!(&error, Some(TraceError::Damaged { line, .. }) if *line > some), "{cut}: {error:?}");
    }
    for place in (10..whole.len()).step_by(whole.len() / 50) {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        let (_, _, error) = read(&bytes);
        assert!(matches!(error, Some(TraceError::Damaged { .. } | TraceError::NoHeader { .. })), "{place}: {error:?}");
    }
    let (_, _, error) = read(&[&whole[..], b"trailing"].concat());
    assert!(matches!(error, Some(TraceError::Damaged { .. })), "{error:?}");
}

/// The line that defines a value, and its name.
fn definition(text: &str) -> (String, String) {
    let name = Digest::of(text.as_bytes()).short(6);
    (format!("{{\"value\":[\"{name}\",{text}]}}\n"), name)
}

/// A configuration of about so many bytes.
fn configuration(bytes: usize) -> String {
    let [_, config, ..] = golden();
    let line: serde_json::Value = serde_json::from_str(&config).unwrap();
    let mut config = line["value"][1].clone();
    config["options"] = serde_json::json!([["x", "y".repeat(bytes)]]);
    config.to_string()
}

#[test]
fn decision_that_repeats_a_large_value_is_an_error() {
    let [header, ..] = golden();
    let (large, name) = definition(&configuration(1 << 20));
    let references = format!("\"{name}\",").repeat(1_000_000);
    let list = references.trim_end_matches(',');
    let bomb = format!("{{\"decision\":{{\"input\":{{\"arguments\":{{\"candidates\":[{list}]}}}}}}}}\n");
    let (_, bytes_max, error) = read([header, large, bomb].concat().as_bytes());
    assert!(matches!(error, Some(TraceError::Exceeds { line: 3, excess: Excess::Decision, .. })), "{error:?}");
    assert!(bytes_max < 128 << 20, "{bytes_max}");
}

#[test]
fn decisions_that_repeat_a_large_value_are_an_error_in_the_end() {
    let [header, config, state, decision] = golden();
    let (large, name) = definition(&configuration(16 << 20));
    let small = config.split('"').nth(3).unwrap();
    let decision = decision.replace(small, &name);
    let text = [header, state, large, decision.repeat(1_000_000 / decision.len())].concat();
    for bytes in [text.as_bytes().to_vec(), compressed(text.as_bytes())] {
        let (lines, bytes_max, error) = read(&bytes);
        assert!(matches!(error, Some(TraceError::Exceeds { excess: Excess::Resolved, .. })), "{error:?}");
        assert_eq!(lines, 1 + limits::RESOLVED_BYTES_MAX / (16 << 20) - 1, "as many as fit");
        assert!(bytes_max < 256 << 20, "{bytes_max}");
    }
}

#[test]
fn values_without_end_are_an_error() {
    let [header, ..] = golden();
    let values = (0..5).map(|number| definition(&format!("\"{}\"", number.to_string().repeat(15 << 20))).0);
    let (_, bytes_max, error) = read(&compressed((header.clone() + &values.collect::<String>()).as_bytes()));
    assert!(matches!(error, Some(TraceError::Exceeds { line: 6, excess: Excess::Values, .. })), "{error:?}");
    assert!(bytes_max < 256 << 20, "{bytes_max}");
    // They end with their segment.
    let (value, name) = definition(&configuration(100));
    let [_, _, state, decision] = golden();
    let decision = decision.replace(golden()[1].split('"').nth(3).unwrap(), &name);
    let (lines, _, error) = read([&*header, &*value, &*header, &*state, &*decision].concat().as_bytes());
    assert!(matches!(&error, Some(TraceError::Damaged { line: 5, reason, .. }) if reason.contains(&name)), "{error:?}");
    assert_eq!(lines, 2);
}

#[test]
fn value_refers_to_no_value() {
    let [header, _, state, decision] = golden();
    let [_, config, ..] = golden();
    let small = config.split('"').nth(3).unwrap().to_owned();
    let (nested, name) = definition(&format!("\"{small}\""));
    let text = [&*header, &*config, &*state, &*nested, &*decision.replace(&small, &name)].concat();
    let (_, _, error) = read(text.as_bytes());
    assert!(matches!(error, Some(TraceError::Damaged { line: 5, .. })), "{error:?}");
}
