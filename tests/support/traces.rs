//! Traces in tests: what a gateway wrote to a directory in memory, as a folder of files that readers open.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cortex_mcp::edge::clock::{Clock, VirtualClock};
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::policy::{DecisionRecord, PolicyComponent};
use cortex_mcp::trace::{Entry, Line, Replay, ReplayReport, TraceFacts, TraceReader, TraceWriter};

/// Copies every file to a folder.
pub(crate) fn dump(directory: &MemoryDirectory) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for name in directory.names().unwrap() {
        std::fs::write(folder.path().join(&name), directory.read(&name).unwrap().unwrap()).unwrap();
    }
    folder
}

/// The names of its segments, plain and compressed, in order.
pub(crate) fn segments(directory: &dyn Directory) -> Vec<String> {
    let names = directory.names().unwrap().into_iter();
    names.filter(|name| name.ends_with(".jsonl") || name.ends_with(".jsonl.gz")).collect()
}

/// The bytes of a segment's lines, whether it is plain or compressed.
pub(crate) fn plain(bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut lines = Vec::new();
    flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut lines).unwrap();
    lines
}

/// Every line of a trace.
pub(crate) fn lines(path: &Path) -> Vec<Entry> {
    let mut reader = TraceReader::open(&[path.to_owned()]).unwrap();
    std::iter::from_fn(|| reader.next_entry().unwrap()).collect()
}

/// The decisions of a trace.
pub(crate) fn decisions(path: &Path) -> Vec<DecisionRecord> {
    let lines = lines(path).into_iter();
    lines
        .filter_map(|entry| match entry.line {
            Line::Decision(record) => Some(*record),
            _ => None,
        })
        .collect()
}

/// Replays a trace by whoever decided.
pub(crate) fn replayed(path: &Path) -> ReplayReport {
    through(path, Replay::same())
}

/// Replays a trace.
pub(crate) fn through(path: &Path, mut replay: Replay) -> ReplayReport {
    lines(path).iter().for_each(|entry| replay.take(entry).unwrap());
    replay.report()
}

/// A writer of its own, by the embedded default, with room for so many bytes.
pub(crate) fn writer(directory: Arc<dyn Directory>, clock: &VirtualClock, bytes_max: u64) -> TraceWriter {
    writer_of("run", directory, clock, bytes_max)
}

/// The same, of a run of that name.
pub(crate) fn writer_of(run: &str, directory: Arc<dyn Directory>, clock: &VirtualClock, bytes_max: u64) -> TraceWriter {
    let component = Arc::new(PolicyComponent::embedded().unwrap());
    TraceWriter::start(TraceFacts {
        directory,
        path: PathBuf::from("memory"),
        bytes_max,
        run: run.into(),
        started: clock.now(),
        deployed: component.clone(),
        default: component,
        configuration: serde_json::json!({}),
    })
    .unwrap()
}
