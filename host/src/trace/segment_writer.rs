//! The segments of a trace, as they are written one after the other: by the writer's thread alone.
//!
//! Each begins with a header and with what must be known to read it alone; each ends when it is full, or when its disk fails.
//! Then the next one begins, at once or after a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::format::{
    ConnectorsNote, DroppedNote, FORMAT, Header, LimitsNote, PolicyNote, ShadowNote, SwapNote, ToolsNote,
};
use super::limits;
use super::segments::{SegmentName, component_file, prune};
use super::writer::{Message, Shared, TraceFacts};
use crate::edge::files::AppendFile;
use crate::model::Moment;
use crate::policy::{DecisionRecord, PolicyComponent, WASMTIME_VERSION};

/// A line, borrowed: see [`super::Line`].
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum LineRef<'a> {
    Header(&'a Header),
    Decision(&'a DecisionRecord),
    Swap(&'a SwapNote),
    Shadow(&'a ShadowNote),
    Dropped(&'a DroppedNote),
    Connectors(&'a ConnectorsNote),
    Tools(&'a ToolsNote),
}

/// The segments, as they are written one after the other.
pub(super) struct SegmentWriter {
    facts: TraceFacts,
    shared: Arc<Shared>,
    /// The one before the last swap: decisions of its may still come in.
    former: Option<Arc<PolicyComponent>>,
    file: Option<Box<dyn AppendFile>>,
    segment: u64,
    length: u64,
    /// Whole lines that were not handed to the system yet.
    buffer: Vec<u8>,
    /// Decisions in the buffer.
    buffered: u64,
    dropped_noted: u64,
    latest: Moment,
    failed_at: Option<Moment>,
}

impl SegmentWriter {
    pub(super) fn new(facts: TraceFacts, shared: Arc<Shared>) -> Self {
        let latest = facts.started;
        Self {
            facts,
            shared,
            former: None,
            file: None,
            segment: 0,
            length: 0,
            buffer: Vec::with_capacity(2 * limits::WRITE_BYTES),
            buffered: 0,
            dropped_noted: 0,
            latest,
            failed_at: None,
        }
    }

    pub(super) fn take(&mut self, message: Message) {
        match message {
            Message::Decision(record) => {
                self.shared.queued_items.fetch_sub(record.input.items(), Ordering::Relaxed);
                self.latest = record.moment;
                if self.ready() {
                    self.note_dropped();
                    let before = self.buffer.len();
                    self.push(&LineRef::Decision(&record));
                    self.buffered += u64::from(self.buffer.len() > before);
                    if self.buffer.len() == before {
                        self.shared.drop_one();
                    }
                } else {
                    self.shared.drop_one();
                }
            }
            Message::Swap(swap) => {
                let note = SwapNote {
                    moment: swap.moment,
                    sequence: swap.sequence,
                    before: swap.before.digest(),
                    after: PolicyNote::of(&swap.after),
                };
                self.former = Some(swap.before);
                self.facts.deployed = swap.after;
                if self.ready() {
                    let kept = keep_component(&self.facts, &self.facts.deployed);
                    self.push(&LineRef::Swap(&note));
                    if let Err(error) = kept {
                        self.failed(&error);
                    }
                }
            }
            Message::Shadow(note) => self.push_if_ready(&LineRef::Shadow(&note)),
            Message::Connectors(note) => self.push_if_ready(&LineRef::Connectors(&note)),
            Message::Tools(note) => self.push_if_ready(&LineRef::Tools(&note)),
            Message::Flush(done) => {
                self.note_dropped();
                self.write_out();
                // Whoever asked may have gone.
                let _ = done.send(());
            }
        }
        if self.buffer.len() >= limits::WRITE_BYTES {
            self.write_out();
        }
        if self.length >= (self.facts.bytes_max / limits::SEGMENTS).max(1) {
            self.write_out();
            self.end_segment();
            self.begin_segment();
        }
    }

    /// Whether there is a segment to write to; after a failure, one is tried from time to time.
    fn ready(&mut self) -> bool {
        if let Some(failed) = self.failed_at {
            let waited = self.latest.boot.0.saturating_sub(failed.boot.0);
            if waited < limits::RETRY_AFTER_MS && self.latest.boot_id == failed.boot_id {
                return false;
            }
            self.begin_segment();
        }
        self.file.is_some()
    }

    fn push_if_ready(&mut self, line: &LineRef<'_>) {
        if self.ready() {
            self.push(line);
        }
    }

    fn push(&mut self, line: &LineRef<'_>) {
        let before = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, line);
        self.buffer.push(b'\n');
        if written.is_err() || self.buffer.len() - before > limits::LINE_BYTES_MAX {
            self.buffer.truncate(before);
        }
    }

    /// Says how many decisions are missing here, if some are.
    pub(super) fn note_dropped(&mut self) {
        let total = self.shared.dropped.load(Ordering::Relaxed);
        if total > self.dropped_noted && self.file.is_some() {
            let note = DroppedNote { count: total - self.dropped_noted, total };
            self.dropped_noted = total;
            self.push(&LineRef::Dropped(&note));
        }
    }

    /// Hands the buffer to the system.
    pub(super) fn write_out(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let decisions = std::mem::take(&mut self.buffered);
        let written = match &mut self.file {
            Some(file) => file.append(&self.buffer),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let bytes = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.clear();
        match written {
            Ok(()) => {
                self.length += bytes;
                self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
                self.shared.written.fetch_add(decisions, Ordering::Relaxed);
            }
            Err(error) => {
                self.shared.dropped.fetch_add(decisions, Ordering::Relaxed);
                self.failed(&error);
            }
        }
    }

    pub(super) fn begin_segment(&mut self) {
        self.failed_at = None;
        if let Err(error) = self.try_begin_segment() {
            self.failed(&error);
        } else if self.shared.failing().take().is_some() {
            tracing::info!("the trace is written again");
        }
    }

    fn try_begin_segment(&mut self) -> io::Result<()> {
        let facts = &self.facts;
        prune(facts.directory.as_ref(), facts.bytes_max.saturating_sub(facts.bytes_max / limits::SEGMENTS))?;
        let mut components = vec![facts.default.clone(), facts.deployed.clone()];
        components.extend(self.former.clone());
        components.sort_by_key(|component| component.digest());
        components.dedup_by_key(|component| component.digest());
        for component in &components {
            keep_component(facts, component)?;
        }
        let name = SegmentName { started: self.latest.wall, run: facts.run.clone(), segment: self.segment };
        self.segment += 1;
        self.file = Some(facts.directory.create(&name.file())?);
        self.length = 0;
        let header = Header {
            format: FORMAT,
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            wasmtime: WASMTIME_VERSION.to_owned(),
            run: facts.run.clone(),
            segment: name.segment,
            started: self.latest,
            default: facts.default.digest(),
            deployed: facts.deployed.digest(),
            policies: components.iter().map(|component| PolicyNote::of(component)).collect(),
            limits: LimitsNote::current(),
            configuration: facts.configuration.clone(),
        };
        // What was gathered for the segment before has been handed to the system, or is lost and counted.
        self.buffer.clear();
        self.push(&LineRef::Header(&header));
        let known = self.shared.catalog().clone();
        if let Some(connectors) = &known.connectors {
            self.push(&LineRef::Connectors(connectors));
        }
        for tools in known.tools.values() {
            self.push(&LineRef::Tools(tools));
        }
        self.write_out();
        Ok(())
    }

    fn end_segment(&mut self) {
        if let Some(mut file) = self.file.take()
            && let Err(error) = file.sync()
        {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        tracing::warn!(%error, folder = %self.facts.path.display(), "the trace can not be written; decisions go on");
        *self.shared.failing() = Some(error.to_string());
        self.failed_at = Some(self.latest);
        self.file = None;
    }

    pub(super) fn end(&mut self) {
        self.note_dropped();
        self.write_out();
        self.end_segment();
    }
}

/// Puts a component beside the segments, so that its decisions can be made again anywhere. It is written anew each time: by
/// its age is told when no segment can need it any more.
fn keep_component(facts: &TraceFacts, component: &PolicyComponent) -> io::Result<()> {
    facts.directory.replace(&component_file(component.digest()), component.bytes())
}
