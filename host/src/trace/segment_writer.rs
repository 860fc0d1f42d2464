//! The segments of a trace, as they are written one after the other: by the writer's thread alone.
//!
//! Each begins with a header and with what must be known to read it alone; each ends when it is full, when a component is
//! deployed that its header does not name, or when its disk fails. Then the next one begins, at once or after a while.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::format::{
    ConnectorsNote, DroppedNote, FORMAT, Header, LimitsNote, PolicyNote, ShadowNote, SwapNote, ToolsNote,
};
use super::limits;
use super::segments::{SegmentName, alone, component_file, prune};
use super::worker::Work;
use super::writer::{Message, Shared, TraceFacts};
use crate::edge::files::AppendFile;
use crate::model::Moment;
use crate::policy::{DecisionRecord, PolicyComponent, Swap, WASMTIME_VERSION};

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
    /// The components that may still decide, or have decided in this segment: every one that was deployed since it was
    /// begun, and the one before. The deployed one is the last.
    recent: Vec<Arc<PolicyComponent>>,
    /// The components that the segment's header names.
    named: Vec<PolicyNote>,
    /// The swap that no line on the disk tells yet; of several, from the first one's component to the last one's.
    untold: Option<SwapNote>,
    file: Option<Box<dyn AppendFile>>,
    segment: u64,
    /// How much of the file holds whole lines.
    length: u64,
    /// Whole lines that were not handed to the system yet, and what is in them.
    buffer: Vec<u8>,
    buffered: Buffered,
    /// Up to which number of dropped decisions the lines on the disk tell.
    dropped_noted: u64,
    latest: Moment,
    failed_at: Option<Moment>,
}

/// What the buffer holds.
#[derive(Default)]
struct Buffered {
    decisions: u64,
    notes: u64,
    /// The total of the last line about dropped decisions.
    dropped: Option<u64>,
    /// Whether the untold swap is told.
    swap: bool,
}

impl SegmentWriter {
    pub(super) fn new(facts: TraceFacts, shared: Arc<Shared>) -> Self {
        let (latest, recent) = (facts.started, vec![facts.deployed.clone()]);
        Self {
            facts,
            shared,
            recent,
            named: Vec::new(),
            untold: None,
            file: None,
            segment: 0,
            length: 0,
            buffer: Vec::with_capacity(2 * limits::WRITE_BYTES),
            buffered: Buffered::default(),
            dropped_noted: 0,
            latest,
            failed_at: None,
        }
    }

    fn take_decision(&mut self, record: &DecisionRecord) {
        self.latest = record.moment;
        if self.ready() {
            self.note_dropped();
            if self.push(&LineRef::Decision(record)) {
                self.buffered.decisions += 1;
                return;
            }
        }
        self.shared.drop_one();
    }

    fn take_swap(&mut self, swap: Swap) {
        // What was decided before stands before, whatever comes of what follows.
        self.write_out();
        // From what was told to be deployed: a swap in between may have made room for this one.
        let before = self.untold.take().map_or_else(|| self.facts.deployed.digest(), |untold| untold.before);
        let after = PolicyNote::of(&swap.after);
        self.untold = Some(SwapNote { moment: swap.moment, sequence: swap.sequence, before, after });
        self.remember(swap.before);
        self.remember(swap.after.clone());
        self.facts.deployed = swap.after;
        let is_named = self.untold.as_ref().is_some_and(|swap| self.named.contains(&swap.after));
        if self.failed_at.is_some() {
            // The next segment tells it, as soon as there is one.
            self.ready();
        } else if is_named {
            self.tell_swap();
        } else {
            // Whoever reads a segment finds its components by its header.
            self.end_segment();
            self.begin_segment();
        }
    }

    fn remember(&mut self, component: Arc<PolicyComponent>) {
        let note = PolicyNote::of(&component);
        self.recent.retain(|known| PolicyNote::of(known) != note);
        self.recent.push(component);
        let forgotten = self.recent.len().saturating_sub(limits::FORMERS_MAX);
        self.recent.drain(..forgotten);
    }

    fn tell_swap(&mut self) {
        if let Some(swap) = self.untold.take() {
            self.buffered.swap = self.push_note(&LineRef::Swap(&swap));
            self.untold = Some(swap);
        }
    }

    fn tell_catalog(&mut self) {
        let known = self.shared.catalog().clone();
        if let Some(connectors) = &known.connectors {
            self.push(&LineRef::Connectors(connectors));
        }
        for tools in known.tools.values() {
            self.push(&LineRef::Tools(tools));
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

    /// Puts a line into the buffer. Whether it is not too long for that.
    fn push(&mut self, line: &LineRef<'_>) -> bool {
        let before = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, line);
        self.buffer.push(b'\n');
        let fits = written.is_ok() && self.buffer.len() - before <= limits::LINE_BYTES_MAX;
        if !fits {
            self.buffer.truncate(before);
        }
        fits
    }

    fn push_note(&mut self, line: &LineRef<'_>) -> bool {
        let pushed = self.push(line);
        if pushed {
            self.buffered.notes += 1;
        } else {
            self.shared.drop_notes(1);
        }
        pushed
    }

    fn push_note_if_ready(&mut self, line: &LineRef<'_>) {
        if self.ready() {
            self.push_note(line);
        } else {
            self.shared.drop_notes(1);
        }
    }

    /// Says how many decisions are missing here, if some are.
    fn note_dropped(&mut self) {
        let total = self.shared.dropped.load(Ordering::Relaxed);
        let noted = self.buffered.dropped.unwrap_or(self.dropped_noted);
        if total > noted && self.file.is_some() {
            let note = DroppedNote { count: total - noted, total };
            if self.push(&LineRef::Dropped(&note)) {
                self.buffered.dropped = Some(total);
            }
        }
    }

    /// Hands the buffer to the system.
    fn write_out(&mut self) {
        if let Err(error) = self.try_write_out() {
            self.failed(&error);
        }
    }

    fn try_write_out(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else {
            // Why there is none was told when it went.
            self.lose_buffer();
            return Ok(());
        };
        if self.buffer.is_empty() {
            return Ok(());
        }
        if let Err(error) = file.append(&self.buffer) {
            // A part may stand there: it would be read, and is counted as dropped. If it can not be cut off either, that is
            // how it is: such a disk takes nothing more that could say so.
            let _ = file.truncate(self.length);
            self.lose_buffer();
            return Err(error);
        }
        let bytes = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.clear();
        let Buffered { decisions, dropped, swap, .. } = std::mem::take(&mut self.buffered);
        self.length = self.length.saturating_add(bytes);
        self.dropped_noted = dropped.unwrap_or(self.dropped_noted);
        if swap {
            self.untold = None;
        }
        self.shared.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.written.fetch_add(decisions, Ordering::Relaxed);
        Ok(())
    }

    /// What was gathered can not be written: it is counted.
    fn lose_buffer(&mut self) {
        let Buffered { decisions, notes, .. } = std::mem::take(&mut self.buffered);
        self.buffer.clear();
        self.shared.dropped.fetch_add(decisions, Ordering::Relaxed);
        self.shared.drop_notes(notes);
    }

    fn begin_segment(&mut self) {
        self.failed_at = None;
        if let Err(error) = self.try_begin_segment() {
            self.failed(&error);
        } else if self.shared.failing().take().is_some() {
            tracing::info!("the trace is written again");
        }
    }

    fn try_begin_segment(&mut self) -> io::Result<()> {
        self.lose_buffer();
        let facts = &self.facts;
        // Until the header is written: nobody else removes what it names before it can be read.
        let guard = alone(facts.directory.as_ref());
        let room = facts.bytes_max.saturating_sub(facts.bytes_max / limits::SEGMENTS);
        if guard.is_some()
            && let Err(error) = prune(facts.directory.as_ref(), room)
        {
            tracing::warn!(%error, folder = %facts.path.display(), "old decisions can not be removed from the trace");
        }
        let name = SegmentName { started: self.latest.wall, run: facts.run.clone(), segment: self.segment };
        self.segment += 1;
        self.file = Some(facts.directory.create(&name.file())?);
        self.length = 0;
        let begun = self.write_beginning(name.segment);
        if begun.is_err() {
            self.file = None;
            self.lose_buffer();
            // It holds no decision. If it can not be removed, it is an empty one.
            let _ = self.facts.directory.remove(&name.file());
        }
        begun
    }

    /// Writes what must be known to read a segment alone, and puts its components beside it.
    fn write_beginning(&mut self, segment: u64) -> io::Result<()> {
        // The default is the first and the deployed one the last: where both are the same bytes, that tells them apart.
        let mut components = vec![self.facts.default.clone()];
        components.extend(self.recent.iter().cloned());
        let mut named: Vec<PolicyNote> = Vec::new();
        for note in components.iter().map(|component| PolicyNote::of(component)) {
            if !named.contains(&note) {
                named.push(note);
            }
        }
        let deployed = components.last().map(|component| PolicyNote::of(component));
        if deployed.as_ref() != named.last() {
            named.extend(deployed);
        }
        let header = Header {
            format: FORMAT,
            gateway: env!("CARGO_PKG_VERSION").to_owned(),
            wasmtime: WASMTIME_VERSION.to_owned(),
            run: self.facts.run.clone(),
            segment,
            started: self.latest,
            default: self.facts.default.digest(),
            // A swap that is told right after it had not happened yet.
            deployed: self.untold.as_ref().map_or_else(|| self.facts.deployed.digest(), |swap| swap.before),
            policies: named.clone(),
            limits: LimitsNote::current(),
            configuration: self.facts.configuration.clone(),
        };
        if !self.push(&LineRef::Header(&header)) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the configuration is too long for a line"));
        }
        // First the header: what it names, no other process removes.
        self.try_write_out()?;
        for component in &components {
            keep_component(&self.facts, component)?;
        }
        self.tell_swap();
        self.tell_catalog();
        self.try_write_out()?;
        self.named = named;
        let needless = self.recent.len().saturating_sub(2);
        self.recent.drain(..needless);
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
}

impl Work for SegmentWriter {
    type Message = Message;
    const BATCH: usize = limits::QUEUE_BATCH;

    fn begin(&mut self) {
        self.begin_segment();
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Decision(record) => self.take_decision(&record),
            Message::Swap(swap) => self.take_swap(*swap),
            Message::Shadow(note) => self.push_note_if_ready(&LineRef::Shadow(&note)),
            Message::Connectors(note) => self.push_note_if_ready(&LineRef::Connectors(&note)),
            Message::Tools(note) => self.push_note_if_ready(&LineRef::Tools(&note)),
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
        if self.file.is_some() && self.length >= (self.facts.bytes_max / limits::SEGMENTS).max(1) {
            self.write_out();
            self.end_segment();
            self.begin_segment();
        }
    }

    fn rest(&mut self) {
        // Here, where nothing older waits that would be told after it.
        if self.shared.catalog_missed.load(Ordering::Relaxed) && self.ready() {
            self.shared.catalog_missed.store(false, Ordering::Relaxed);
            self.tell_catalog();
        }
        self.note_dropped();
        self.write_out();
    }

    fn end(&mut self) {
        self.rest();
        self.end_segment();
    }
}

/// Puts a component beside the segments, so that its decisions can be made again anywhere; if it is there, it stays.
fn keep_component(facts: &TraceFacts, component: &PolicyComponent) -> io::Result<()> {
    let file = component_file(component.digest());
    let held = facts.directory.look(&file)?.map(|look| look.length);
    if held == u64::try_from(component.bytes().len()).ok() {
        return Ok(());
    }
    facts.directory.replace(&file, component.bytes())
}
