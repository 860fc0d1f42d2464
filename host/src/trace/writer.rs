//! Writing the trace of a running gateway: a queue that never waits, and one thread that empties it.
//!
//! Whoever decides hands its record over and goes on; what does not fit in the queue is dropped and counted, and the trace
//! says so at that place. Lines are handed to the system whole and in order, so that a crash of the process tears at most
//! the last one. A disk that fails costs records, never decisions: writing is tried again later, in a new segment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde::Serialize;

use super::format::{
    ConnectorsNote, DroppedNote, FORMAT, Header, LimitsNote, PolicyNote, ShadowNote, SwapNote, ToolsNote,
};
use super::limits;
use super::segments::{SegmentName, component_file, prune};
use crate::edge::files::{AppendFile, Directory};
use crate::model::Moment;
use crate::policy::{DecisionRecord, DecisionSink, PolicyComponent, Swap};

/// What a writer is started with.
#[derive(Clone)]
pub struct TraceFacts {
    /// Where the segments go.
    pub directory: Arc<dyn Directory>,
    /// The same as a path, for people.
    pub path: PathBuf,
    /// How many bytes the folder may hold.
    pub bytes_max: u64,
    /// Names this process among those that share the folder.
    pub run: String,
    /// When it starts.
    pub started: Moment,
    /// The deployed component.
    pub deployed: Arc<PolicyComponent>,
    /// The component that decides where the deployed one fails to.
    pub default: Arc<PolicyComponent>,
    /// The effective configuration, redacted.
    pub configuration: serde_json::Value,
}

/// How a trace stands.
#[derive(Clone, Debug, Serialize)]
pub struct TraceStatus {
    /// Its folder.
    pub directory: PathBuf,
    /// The name of this process in it.
    pub run: String,
    /// Decisions written.
    pub written: u64,
    /// Decisions that could not be written.
    pub dropped: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Why nothing can be written at the moment.
    pub failing: Option<String>,
}

/// Writes a trace. Cheap to clone; [`TraceWriter::close`] ends it.
#[derive(Clone)]
pub struct TraceWriter {
    sender: SyncSender<Message>,
    shared: Arc<Shared>,
    thread: Arc<Mutex<Option<JoinHandle<()>>>>,
}

enum Message {
    Decision(Arc<DecisionRecord>),
    Swap(Box<Swap>),
    Shadow(Box<ShadowNote>),
    Connectors(ConnectorsNote),
    Tools(ToolsNote),
    Flush(SyncSender<()>),
}

struct Shared {
    path: PathBuf,
    run: String,
    closing: AtomicBool,
    queued_items: AtomicUsize,
    written: AtomicU64,
    dropped: AtomicU64,
    bytes: AtomicU64,
    failing: Mutex<Option<String>>,
    catalog: Mutex<Known>,
}

/// What every segment is to tell, because an earlier one may be gone when it is read.
#[derive(Clone, Default)]
struct Known {
    connectors: Option<ConnectorsNote>,
    tools: BTreeMap<String, ToolsNote>,
}

impl Shared {
    fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn failing(&self) -> MutexGuard<'_, Option<String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn catalog(&self) -> MutexGuard<'_, Known> {
        self.catalog.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TraceWriter {
    /// Begins a trace, and the thread that writes it.
    ///
    /// # Errors
    /// If no thread can be started. A folder that can not be written to is no error here: it shows in [`Self::status`].
    pub fn start(facts: TraceFacts) -> std::io::Result<Self> {
        let (sender, receiver) = sync_channel(limits::QUEUE_RECORDS);
        let shared = Arc::new(Shared {
            path: facts.path.clone(),
            run: facts.run.clone(),
            closing: AtomicBool::new(false),
            queued_items: AtomicUsize::new(0),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failing: Mutex::default(),
            catalog: Mutex::default(),
        });
        let mut file = SegmentWriter::new(facts, shared.clone());
        let thread = std::thread::Builder::new().name("trace".into()).spawn({
            let shared = shared.clone();
            move || {
                file.begin_segment();
                run(&receiver, &shared, &mut file);
            }
        })?;
        Ok(Self { sender, shared, thread: Arc::new(Mutex::new(Some(thread))) })
    }

    /// How it stands.
    pub fn status(&self) -> TraceStatus {
        TraceStatus {
            directory: self.shared.path.clone(),
            run: self.shared.run.clone(),
            written: self.shared.written.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            failing: self.shared.failing().clone(),
        }
    }

    /// Notes a difference that the shadow policy made.
    pub fn shadow(&self, note: ShadowNote) {
        self.send(Message::Shadow(Box::new(note)));
    }

    /// Notes which connectors are described from now on.
    pub fn connectors(&self, note: ConnectorsNote) {
        {
            let mut known = self.shared.catalog();
            known.tools.retain(|connector, _| note.enabled.contains(connector));
            known.connectors = Some(note.clone());
        }
        self.send(Message::Connectors(note));
    }

    /// Notes which tools a connector serves from now on, if that is news.
    pub fn tools(&self, mut note: ToolsNote) {
        note.names.truncate(limits::TOOL_NAMES_MAX);
        {
            let mut known = self.shared.catalog();
            if known.tools.get(&note.connector).is_some_and(|before| before.names == note.names) {
                return;
            }
            known.tools.insert(note.connector.clone(), note.clone());
        }
        self.send(Message::Tools(note));
    }

    /// Waits until what was handed over before is with the system: readers see it then. Blocks; not for async code.
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.sender.send(Message::Flush(done)).is_ok() {
            // Without an answer the thread has ended, and has written everything before.
            let _ = flushed.recv();
        }
    }

    /// Ends it: everything handed over before is written and made durable. Waits at most [`limits::CLOSE_TIMEOUT`].
    pub async fn close(&self) {
        self.shared.closing.store(true, Ordering::Release);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(thread) = thread else { return };
        thread.thread().unpark();
        let joined = tokio::task::spawn_blocking(move || thread.join());
        if tokio::time::timeout(limits::CLOSE_TIMEOUT, joined).await.is_err() {
            tracing::warn!("the trace did not end in time: its disk hangs");
        }
    }

    fn send(&self, message: Message) {
        if self.sender.try_send(message).is_err() {
            self.shared.drop_one();
        }
    }
}

impl DecisionSink for TraceWriter {
    fn record(&self, record: Arc<DecisionRecord>) {
        let items = record.input.items();
        // Two that look at once may both pass: the bound is one on memory, and soft by one decision a thread.
        if items > 0 && self.shared.queued_items.fetch_add(items, Ordering::Relaxed) > limits::QUEUE_ITEMS {
            self.shared.queued_items.fetch_sub(items, Ordering::Relaxed);
            self.shared.drop_one();
            return;
        }
        if self.shared.closing.load(Ordering::Relaxed) || self.sender.try_send(Message::Decision(record)).is_err() {
            self.shared.queued_items.fetch_sub(items, Ordering::Relaxed);
            self.shared.drop_one();
        }
    }

    fn swapped(&self, swap: &Swap) {
        self.send(Message::Swap(Box::new(swap.clone())));
    }
}

impl std::fmt::Debug for TraceWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TraceWriter").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Empties the queue until it is told to end, or nobody is left to fill it.
fn run(receiver: &Receiver<Message>, shared: &Shared, file: &mut SegmentWriter) {
    let mut idle = std::time::Duration::ZERO;
    loop {
        // Read first: what was handed over before closing is in the queue by then.
        let closing = shared.closing.load(Ordering::Acquire);
        let mut some = false;
        loop {
            match receiver.try_recv() {
                Ok(message) => {
                    some = true;
                    file.take(message);
                }
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return file.end(),
            }
        }
        file.note_dropped();
        file.write_out();
        if closing {
            return file.end();
        }
        if some {
            idle = std::time::Duration::ZERO;
        }
        if idle < limits::WRITER_IDLE {
            std::thread::park_timeout(limits::WRITER_REST);
            idle += limits::WRITER_REST;
            continue;
        }
        match receiver.recv_timeout(limits::WRITER_IDLE) {
            Ok(message) => {
                idle = std::time::Duration::ZERO;
                file.take(message);
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return file.end(),
        }
    }
}

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
struct SegmentWriter {
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
    fn new(facts: TraceFacts, shared: Arc<Shared>) -> Self {
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

    fn take(&mut self, message: Message) {
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
    fn note_dropped(&mut self) {
        let total = self.shared.dropped.load(Ordering::Relaxed);
        if total > self.dropped_noted && self.file.is_some() {
            let note = DroppedNote { count: total - self.dropped_noted, total };
            self.dropped_noted = total;
            self.push(&LineRef::Dropped(&note));
        }
    }

    /// Hands the buffer to the system.
    fn write_out(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        let decisions = std::mem::take(&mut self.buffered);
        let written = match &mut self.file {
            Some(file) => file.append(&self.buffer),
            None => Err(std::io::ErrorKind::NotFound.into()),
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

    fn begin_segment(&mut self) {
        self.failed_at = None;
        if let Err(error) = self.try_begin_segment() {
            self.failed(&error);
        } else if self.shared.failing().take().is_some() {
            tracing::info!("the trace is written again");
        }
    }

    fn try_begin_segment(&mut self) -> std::io::Result<()> {
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
            wasmtime: crate::policy::WASMTIME_VERSION.to_owned(),
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

    fn failed(&mut self, error: &std::io::Error) {
        tracing::warn!(%error, folder = %self.facts.path.display(), "the trace can not be written; decisions go on");
        *self.shared.failing() = Some(error.to_string());
        self.failed_at = Some(self.latest);
        self.file = None;
    }

    fn end(&mut self) {
        self.note_dropped();
        self.write_out();
        self.end_segment();
    }
}

/// Puts a component beside the segments, so that its decisions can be made again anywhere. It is written anew each time: by
/// its age is told when no segment can need it any more.
fn keep_component(facts: &TraceFacts, component: &PolicyComponent) -> std::io::Result<()> {
    facts.directory.replace(&component_file(component.digest()), component.bytes())
}
