//! The trace corpus: the golden traces in `tests/traces`, and what the tests that replay them share.
#![allow(dead_code, unused_imports, reason = "each test binary uses its own part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod contract;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortex_mcp::model::Digest;
use cortex_mcp::policy::{DecidedBy, DecisionRecord, PolicyComponent};
use cortex_mcp::trace::{Entry, Line, Replay, ReplayReport, TraceReader};
use serde_json::Value;

pub(crate) use contract::Contract;

/// Where the golden traces are.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/traces")
}

/// One golden trace.
pub(crate) fn file(name: &str) -> PathBuf {
    folder().join(format!("{name}.jsonl"))
}

/// Every golden trace, in order.
pub(crate) fn files() -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some_and(|ending| ending == "jsonl")).collect();
    files.sort();
    assert!(!files.is_empty(), "there are no golden traces: BLESS=1 cargo test --test traces");
    files
}

/// The lines of traces.
pub(crate) fn entries(files: &[PathBuf]) -> Vec<Entry> {
    let mut reader = TraceReader::open(files).unwrap();
    let mut entries = Vec::new();
    while let Some(entry) = reader.next_entry().unwrap() {
        entries.push(entry);
    }
    assert_eq!((reader.torn(), reader.unknown()), (0, 0));
    entries
}

/// The decisions of traces.
pub(crate) fn decisions(files: &[PathBuf]) -> Vec<DecisionRecord> {
    let decision = |entry: Entry| match entry.line {
        Line::Decision(record) => Some(*record),
        _ => None,
    };
    entries(files).into_iter().filter_map(decision).collect()
}

/// What a component decides otherwise than the traces say.
pub(crate) fn replay(files: &[PathBuf], component: &Arc<PolicyComponent>) -> ReplayReport {
    let mut replay = Replay::through(component.clone());
    for entry in entries(files) {
        replay.take(&entry).unwrap();
    }
    replay.report()
}

/// What a decision came to once more: its output as the bytes of a trace, and the fuel it took.
pub(crate) fn remade(component: &PolicyComponent, record: &DecisionRecord) -> (Vec<u8>, u64, bool) {
    let remade = component.remake(&record.input, record.moment, record.seed, record.fuel_budget);
    let remade = remade.unwrap_or_else(|fault| panic!("{fault}: {record:?}"));
    (serde_json::to_vec(&remade.output).unwrap(), remade.fuel, remade.reused_instance)
}

/// One digest over what many decisions came to, in the order of their records.
pub(crate) fn digest<'a>(made: impl IntoIterator<Item = &'a (Vec<u8>, u64)>) -> Digest {
    let mut bytes = Vec::new();
    for (output, fuel) in made {
        bytes.extend_from_slice(output);
        bytes.extend_from_slice(&fuel.to_le_bytes());
    }
    Digest::of(&bytes)
}

/// Numbers in another order, the same for the same seed.
pub(crate) fn shuffled(length: usize, seed: u64) -> Vec<usize> {
    let mut draws = cortex_mcp::edge::entropy::Draws::from_seed(seed);
    let mut order: Vec<usize> = (0..length).collect();
    for place in (1..length).rev() {
        order.swap(place, draws.next_u32() as usize % (place + 1));
    }
    order
}
