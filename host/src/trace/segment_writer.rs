//! The segments of a trace, as they are written one after the other: by the writer's thread alone.
//!
//! Each begins with a header and with what must be known to read it alone; each ends when it is full, when a component is
//! deployed that its header does not name, or when its disk fails. Then the next one begins, at once or after a while. One
//! that ended is compressed; those that crashed runs left are, too, while nothing else is to be written.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;

use super::compression::{Uncompressed, compress};
use super::format::{
    ConnectorsNote, CredentialNote, DroppedNote, FORMAT, Header, LimitsNote, PolicyNote, ShadowNote, SwapNote,
    ToolsNote, connector_of,
};
use super::limits;
use super::references::DefinedValues;
use super::segments::{SegmentName, alone, keep_component, plain, prune};
use super::worker::Work;
use super::writer::{Message, Shared, TraceFacts};
use crate::edge::files::AppendFile;
use crate::model::Moment;
use crate::policy::{DecisionRecord, PolicyComponent, Swap, WASMTIME_VERSION};

/// A line, borrowed: see [`super::Line`]. Decisions are written with references, see [`DefinedValues`].
#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
enum LineRef<'a> {
    Header(&'a Header),
    Swap(&'a SwapNote),
    Shadow(&'a ShadowNote),
    Dropped(&'a DroppedNote),
    Connectors(&'a ConnectorsNote),
    Tools(&'a ToolsNote),
    Credential(&'a CredentialNote),
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
    /// The name of the file.
    name: String,
    segment: u64,
    /// The values that the segment defines.
    values: DefinedValues,
    /// How many bytes its decisions have with the values that they refer to.
    resolved: u64,
    /// The connectors that the segment has decisions about, and what it has about their tools, if they serve any.
    tools_noted: HashMap<String, Option<Arc<ToolsNote>>>,
    /// Plain segments that ended, or that another process writes.
    left: Uncompressed,
    /// How much of the file holds whole lines.
    length: u64,
    /// Whole lines that were not handed to the system yet, and what is in them.
    buffer: Vec<u8>,
    buffered: Buffered,
    /// The decision at hand, without references.
    text: Vec<u8>,
    /// Whether something was written since the writer rested last.
    is_busy: bool,
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
            name: String::new(),
            segment: 0,
            values: DefinedValues::default(),
            resolved: 0,
            tools_noted: HashMap::new(),
            left: Uncompressed::default(),
            length: 0,
            buffer: Vec::with_capacity(2 * limits::WRITE_BYTES),
            buffered: Buffered::default(),
            text: Vec::new(),
            is_busy: false,
            dropped_noted: 0,
            latest,
            failed_at: None,
        }
    }

    fn take_decision(&mut self, record: &DecisionRecord) {
        self.latest = record.moment;
        if self.ready() {
            self.note_dropped();
            self.note_tools_of(&record.subject);
            if self.push_decision(record) {
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
            // Readers of a segment find its components by its header.
            self.next_segment();
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

    fn note_connectors(&mut self) {
        let connectors = self.shared.catalog().connectors.clone();
        if let Some(connectors) = connectors {
            self.push(&LineRef::Connectors(&connectors));
        }
    }

    /// Names the connectors whose credential is refused, so that a segment is complete without the earlier ones.
    fn note_refused_credentials(&mut self) {
        let known: Vec<_> = self.shared.catalog().credentials.values().cloned().collect();
        for note in known.iter().filter(|note| note.refused_with.is_some()) {
            self.push(&LineRef::Credential(note));
        }
    }

    /// Names the tools of a connector before the first decision about it, so that a segment is no longer for connectors of
    /// which it holds no decision.
    fn note_tools_of(&mut self, subject: &str) {
        let known = |connector: &&str| self.tools_noted.contains_key(*connector);
        let Some(connector) = connector_of(subject).filter(|connector| !known(connector)) else { return };
        let tools = self.shared.catalog().tools.get(connector).filter(|tools| !tools.names.is_empty()).cloned();
        if let Some(tools) = &tools {
            self.push(&LineRef::Tools(tools));
        }
        self.tools_noted.insert(connector.to_owned(), tools);
    }

    /// Takes what a connector serves from now on, unless the segment has that or a later list, from before its first decision.
    fn take_tools(&mut self, tools: Arc<ToolsNote>) {
        let noted = self.tools_noted.get(&tools.connector).and_then(Option::as_ref);
        if noted.is_some_and(|noted| Arc::ptr_eq(noted, &tools) || tools.moment.boot < noted.moment.boot) {
            return;
        }
        self.push_note_if_ready(&LineRef::Tools(&tools));
        self.tools_noted.insert(tools.connector.clone(), Some(tools));
    }

    /// Writes what changed in the catalog while the queue was full.
    fn note_missed(&mut self) {
        let (missed, mut changed, credentials) = {
            let mut known = self.shared.catalog();
            let missed = std::mem::take(&mut known.missed);
            let changed: Vec<_> =
                missed.tools.iter().filter_map(|connector| known.tools.get(connector).cloned()).collect();
            let credentials = missed.credentials.iter().filter_map(|connector| known.credentials.get(connector));
            let credentials: Vec<_> = credentials.cloned().collect();
            (missed, changed, credentials)
        };
        if missed.connectors {
            self.note_connectors();
        }
        for note in &credentials {
            self.push(&LineRef::Credential(note));
        }
        for tools in changed.drain(..) {
            self.push(&LineRef::Tools(&tools));
            self.tools_noted.insert(tools.connector.clone(), Some(tools));
        }
    }

    /// Whether there is a segment to write to; after a failure, one is tried from time to time.
    fn ready(&mut self) -> bool {
        if let Some(failed) = self.failed_at {
            let waited = self.latest.boot.0.saturating_sub(failed.boot.0);
            if waited < limits::RETRY_AFTER_MS && self.latest.boot_id == failed.boot_id {
                return false;
            }
            self.next_segment();
        }
        self.file.is_some()
    }

    /// Puts a line into the buffer. Whether it is not too long for that.
    fn push(&mut self, line: &LineRef<'_>) -> bool {
        let before = self.buffer.len();
        let written = serde_json::to_writer(&mut self.buffer, line);
        self.buffer.push(b'\n');
        let most = if matches!(line, LineRef::Header(_)) { limits::HEADER_BYTES_MAX } else { limits::LINE_BYTES_MAX };
        let fits = written.is_ok() && self.buffer.len() - before <= most;
        if !fits {
            self.buffer.truncate(before);
        }
        fits
    }

    /// Puts a decision into the buffer, after the values that it is the first to refer to. Whether it is not too long.
    fn push_decision(&mut self, record: &DecisionRecord) -> bool {
        self.text.clear();
        let before = self.buffer.len();
        let written = serde_json::to_writer(&mut self.text, record);
        let fits = written.is_ok() && self.text.len() <= limits::LINE_BYTES_MAX - limits::DECISION_LINE_BYTES;
        let Some(text) = std::str::from_utf8(&self.text).ok().filter(|_| fits) else { return false };
        if self.values.append(text, &mut self.buffer).is_err() {
            self.buffer.truncate(before);
            // Some may have been defined in what was cut off. To define one twice does no harm.
            self.values.clear();
            return false;
        }
        self.resolved = self.resolved.saturating_add(u64::try_from(self.text.len()).unwrap_or(u64::MAX));
        self.text.shrink_to(limits::WRITE_BYTES);
        true
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
            // A part may stand there: it would be read, and is counted as dropped. If it cannot be cut off either, that is
            // how it is: such a disk takes nothing more that could say so.
            let _ = file.truncate(self.length);
            self.lose_buffer();
            return Err(error);
        }
        let bytes = u64::try_from(self.buffer.len()).unwrap_or(u64::MAX);
        self.buffer.clear();
        self.buffer.shrink_to(2 * limits::WRITE_BYTES);
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

    /// What was gathered cannot be written: it is counted.
    fn lose_buffer(&mut self) {
        let Buffered { decisions, notes, .. } = std::mem::take(&mut self.buffered);
        self.buffer.clear();
        self.values.clear();
        self.shared.dropped.fetch_add(decisions, Ordering::Relaxed);
        self.shared.drop_notes(notes);
    }

    /// Ends the segment, if there is one, and begins the next.
    fn next_segment(&mut self) {
        // Until the header is written: no other process removes what it names before it can be read.
        let guard = alone(self.facts.directory.as_ref());
        self.end_segment(guard.is_some());
        self.left.retry();
        self.failed_at = None;
        if let Err(error) = self.try_begin_segment(guard.is_some()) {
            self.failed(&error);
        } else if self.shared.failing().take().is_some() {
            tracing::info!("the trace is written again");
        }
    }

    fn try_begin_segment(&mut self, is_alone: bool) -> io::Result<()> {
        self.lose_buffer();
        let directory = self.facts.directory.clone();
        if is_alone {
            if self.segment == 0 {
                self.left = directory.names().map(|names| Uncompressed::new(plain(&names))).unwrap_or_default();
            }
            if let Err(error) = prune(directory.as_ref(), self.facts.bytes_max.saturating_sub(self.segment_bytes())) {
                let folder = self.facts.path.display();
                tracing::warn!(%error, %folder, "old decisions cannot be removed from the trace");
            }
        }
        let name = SegmentName { started: self.latest.wall, run: self.facts.run.clone(), segment: self.segment };
        self.segment += 1;
        self.name = name.file();
        self.file = Some(directory.create(&self.name)?);
        (self.length, self.resolved) = (0, 0);
        self.tools_noted.clear();
        let begun = self.write_beginning(name.segment);
        if begun.is_err() {
            self.file = None;
            self.lose_buffer();
            // It holds no decision. If it cannot be removed, it is an empty one.
            let _ = directory.remove(&self.name);
        }
        begun
    }

    /// How many bytes of lines begin the next segment.
    fn segment_bytes(&self) -> u64 {
        (self.facts.bytes_max / limits::SEGMENTS).clamp(1, limits::SEGMENT_BYTES)
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
        let mut header = Header {
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
            // Decisions without the configuration are worth more than neither.
            header.configuration = serde_json::Value::Null;
            if !self.push(&LineRef::Header(&header)) {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the header is too long for a line"));
            }
        }
        // First the header: what it names, no other process removes.
        self.try_write_out()?;
        for component in &components {
            keep_component(self.facts.directory.as_ref(), component)?;
        }
        self.tell_swap();
        self.note_connectors();
        self.note_refused_credentials();
        self.try_write_out()?;
        self.named = named;
        let needless = self.recent.len().saturating_sub(2);
        self.recent.drain(..needless);
        Ok(())
    }

    /// Ends the segment: it is durable then, and compressed if no other process works on the folder.
    fn end_segment(&mut self, is_alone: bool) {
        let Some(mut file) = self.file.take() else { return };
        let synced = file.sync();
        if synced.is_ok() && is_alone {
            match compress(self.facts.directory.as_ref(), &self.name) {
                Ok(true) => return,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, segment = self.name, "a segment of the trace stays uncompressed"),
            }
        }
        self.left.push(self.name.clone());
        if let Err(error) = synced {
            self.failed(&error);
        }
    }

    fn failed(&mut self, error: &io::Error) {
        tracing::warn!(%error, folder = %self.facts.path.display(), "the trace cannot be written; decisions go on");
        *self.shared.failing() = Some(error.to_string());
        self.failed_at = Some(self.latest);
        if self.file.take().is_some() {
            self.left.push(self.name.clone());
        }
    }
}

impl Work for SegmentWriter {
    type Message = Message;
    const BATCH: usize = limits::QUEUE_BATCH;

    fn begin(&mut self) {
        self.next_segment();
    }

    fn take(&mut self, message: Message) {
        self.is_busy = true;
        match message {
            Message::Decision(record) => self.take_decision(&record),
            Message::Swap(swap) => self.take_swap(*swap),
            Message::Shadow(note) => self.push_note_if_ready(&LineRef::Shadow(&note)),
            Message::Connectors(note) => self.push_note_if_ready(&LineRef::Connectors(&note)),
            Message::Tools(note) => self.take_tools(note),
            Message::Credential(note) => self.push_note_if_ready(&LineRef::Credential(&note)),
            Message::Flush(done) => {
                self.note_dropped();
                self.write_out();
                // The caller may have gone.
                let _ = done.send(());
            }
        }
        if self.buffer.len() >= limits::WRITE_BYTES {
            self.write_out();
        }
        let is_full = self.length >= self.segment_bytes() || self.resolved >= limits::SEGMENT_RESOLVED_BYTES;
        if self.file.is_some() && is_full {
            self.write_out();
            self.next_segment();
        }
    }

    fn rest(&mut self) {
        // Here, where nothing older waits that would be told after it.
        if self.shared.catalog_missed.load(Ordering::Relaxed) && self.ready() {
            self.shared.catalog_missed.store(false, Ordering::Relaxed);
            self.note_missed();
        }
        self.note_dropped();
        self.write_out();
        // One at a time, and not while decisions come: a start has better use for the processors.
        if !std::mem::take(&mut self.is_busy) {
            self.left.compress_one(self.facts.directory.as_ref());
        }
    }

    fn end(&mut self) {
        self.is_busy = false;
        self.rest();
        self.end_segment(false);
    }
}
