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

use super::format::{ConnectorsNote, ShadowNote, ToolsNote};
use super::limits;
use super::segment_writer::SegmentWriter;
use crate::edge::files::Directory;
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

/// What the writer's thread is handed.
pub(super) enum Message {
    Decision(Arc<DecisionRecord>),
    Swap(Box<Swap>),
    Shadow(Box<ShadowNote>),
    Connectors(ConnectorsNote),
    Tools(ToolsNote),
    Flush(SyncSender<()>),
}

/// What both sides of the queue know.
pub(super) struct Shared {
    path: PathBuf,
    run: String,
    closing: AtomicBool,
    pub(super) queued_items: AtomicUsize,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) bytes: AtomicU64,
    failing: Mutex<Option<String>>,
    catalog: Mutex<Known>,
}

/// What every segment is to tell, because an earlier one may be gone when it is read.
#[derive(Clone, Default)]
pub(super) struct Known {
    pub(super) connectors: Option<ConnectorsNote>,
    pub(super) tools: BTreeMap<String, ToolsNote>,
}

impl Shared {
    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn failing(&self) -> MutexGuard<'_, Option<String>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn catalog(&self) -> MutexGuard<'_, Known> {
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
