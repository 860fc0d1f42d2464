//! Traces that nobody meant to be replayed: broken components beside them, names without end, the same bytes under several
//! names. A replay tells what it can, within bounds.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

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
use cortex_mcp::trace::{Components, Entry, Line, PolicyNote, Replay, TraceFacts, TraceWriter, limits};
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
