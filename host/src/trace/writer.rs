//! Writing the trace of a running gateway: a queue that never waits, and one thread that empties it.
//!
//! Whoever decides hands its record over and goes on; what does not fit in the queue is dropped and counted, and the trace
//! says so at that place. Lines are handed to the system whole and in order, so that a crash of the process tears at most
//! the last one. A disk that fails costs records, never decisions: writing is tried again later, in a new segment.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

use super::format::{ConnectorsNote, CredentialNote, ShadowNote, ToolsNote};
use super::limits;
use super::segment_writer::SegmentWriter;
use super::segments::run_name;
use super::worker::{Load, Refused, Worker};
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
    /// How many bytes the segments may take. The components beside them, as many as they name, do not count: the
    /// largest one takes no room from the decisions.
    pub bytes_max: u64,
    /// Names this process among those that share the folder: small letters, digits and dashes. Others become dashes.
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
    /// Notes (swaps, differences of the shadow policy, changes of the catalog) that could not be written. The next segment
    /// tells how deployment and catalog stand then.
    pub notes_dropped: u64,
    /// Bytes of lines written, as they are before a full segment is compressed.
    pub bytes: u64,
    /// Why nothing can be written at the moment.
    pub failing: Option<String>,
}

/// Writes a trace. Cheap to clone; [`TraceWriter::close`] ends it, and so does dropping the last clone.
#[derive(Clone)]
pub struct TraceWriter {
    worker: Arc<Worker<Message>>,
    shared: Arc<Shared>,
}

/// What the writer's thread is handed.
pub(super) enum Message {
    Decision(Arc<DecisionRecord>),
    Swap(Box<Swap>),
    Shadow(Box<ShadowNote>),
    Connectors(ConnectorsNote),
    Tools(Arc<ToolsNote>),
    Credential(CredentialNote),
    Flush(SyncSender<()>),
}

/// What both sides of the queue know.
pub(super) struct Shared {
    path: PathBuf,
    run: String,
    pub(super) written: AtomicU64,
    pub(super) dropped: AtomicU64,
    notes_dropped: AtomicU64,
    pub(super) bytes: AtomicU64,
    failing: Mutex<Option<String>>,
    catalog: Mutex<Known>,
    /// Whether [`Known::missed`] holds something.
    pub(super) catalog_missed: AtomicBool,
}

/// What every segment is to tell, because an earlier one may be gone when it is read: the connectors first, the tools of a
/// connector before its first decision.
#[derive(Default)]
pub(super) struct Known {
    pub(super) connectors: Option<ConnectorsNote>,
    pub(super) tools: BTreeMap<String, Arc<ToolsNote>>,
    /// The newest note on each connector whose credential was refused.
    pub(super) credentials: BTreeMap<String, CredentialNote>,
    pub(super) missed: Missed,
}

/// What changed without a line about it, because the queue was full.
#[derive(Default)]
pub(super) struct Missed {
    pub(super) connectors: bool,
    /// The connectors whose tools changed.
    pub(super) tools: BTreeSet<String>,
    /// The connectors whose credential was refused or accepted.
    pub(super) credentials: BTreeSet<String>,
}

impl Shared {
    pub(super) fn drop_one(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn drop_notes(&self, notes: u64) {
        self.notes_dropped.fetch_add(notes, Ordering::Relaxed);
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
    /// If no thread can be started. A folder that cannot be written to is no error here: it shows in [`Self::status`].
    pub fn start(mut facts: TraceFacts) -> std::io::Result<Self> {
        facts.run = run_name(&facts.run);
        let shared = Arc::new(Shared {
            path: facts.path.clone(),
            run: facts.run.clone(),
            written: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
            notes_dropped: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            failing: Mutex::default(),
            catalog: Mutex::default(),
            catalog_missed: AtomicBool::new(false),
        });
        let bounds = Load { records: limits::QUEUE_RECORDS, items: limits::QUEUE_ITEMS, bytes: limits::QUEUE_BYTES };
        let worker = Worker::start("trace", bounds, SegmentWriter::new(facts, shared.clone()))?;
        Ok(Self { worker: Arc::new(worker), shared })
    }

    /// How it stands.
    pub fn status(&self) -> TraceStatus {
        TraceStatus {
            directory: self.shared.path.clone(),
            run: self.shared.run.clone(),
            written: self.shared.written.load(Ordering::Relaxed),
            dropped: self.shared.dropped.load(Ordering::Relaxed),
            notes_dropped: self.shared.notes_dropped.load(Ordering::Relaxed),
            bytes: self.shared.bytes.load(Ordering::Relaxed),
            failing: self.shared.failing().clone(),
        }
    }

    /// Notes a difference that the shadow policy made.
    pub fn shadow(&self, note: ShadowNote) {
        // Off the hot path, and not often: its size is looked up by writing it.
        let bytes = serde_json::to_vec(&note).map_or(0, |line| line.len());
        if self.worker.offer(Message::Shadow(Box::new(note)), Load::of_note(bytes)).is_err() {
            self.shared.drop_notes(1);
        }
    }

    /// Notes which connectors are described from now on.
    pub fn connectors(&self, note: ConnectorsNote) {
        {
            let mut known = self.shared.catalog();
            known.tools.retain(|connector, _| note.enabled.contains(connector));
            known.credentials.retain(|connector, _| note.enabled.contains(connector));
            known.connectors = Some(note.clone());
        }
        let bytes = note.enabled.iter().chain(&note.disabled).map(String::len).sum();
        self.catalog_note(Message::Connectors(note), bytes, |missed| missed.connectors = true);
    }

    /// Notes which tools a connector serves from now on, if that is news.
    pub fn tools(&self, mut note: ToolsNote) {
        note.names.truncate(limits::TOOL_NAMES_MAX);
        let note = Arc::new(note);
        {
            let mut known = self.shared.catalog();
            if known.tools.get(&note.connector).is_some_and(|before| before.names == note.names) {
                return;
            }
            known.tools.insert(note.connector.clone(), note.clone());
        }
        let bytes = note.names.iter().map(String::len).sum();
        let connector = note.connector.clone();
        self.catalog_note(Message::Tools(note), bytes, |missed| {
            missed.tools.insert(connector);
        });
    }

    /// Notes whether the server of a connector refuses its credential from now on, if that is a change.
    pub fn credential(&self, note: CredentialNote) {
        let connector = note.connector.clone();
        {
            let mut known = self.shared.catalog();
            if known.credentials.get(&connector).and_then(|before| before.refused_with) == note.refused_with {
                return;
            }
            known.credentials.insert(connector.clone(), note.clone());
        }
        self.catalog_note(Message::Credential(note), connector.len(), |missed| {
            missed.credentials.insert(connector);
        });
    }

    /// Waits until what was handed over before is with the system: readers see it then. Blocks; not for async code.
    pub fn flush(&self) {
        let (done, flushed) = sync_channel(1);
        if self.worker.insist(Message::Flush(done), usize::MAX, |_| false).is_ok() {
            // Without an answer the thread has ended.
            let _ = flushed.recv();
        } else {
            self.worker.wait_for_end();
        }
    }

    /// Ends it: everything handed over before is written and made durable; what is handed over later is counted as dropped.
    /// Waits at most [`limits::CLOSE_TIMEOUT`], and leaves a thread that hangs to itself.
    pub async fn close(&self) {
        if !self.worker.close(limits::CLOSE_TIMEOUT).await {
            tracing::warn!("the trace did not end in time: its disk hangs");
        }
    }

    /// The catalog is known by now: if this finds no room, it is written later.
    fn catalog_note(&self, message: Message, bytes: usize, miss: impl FnOnce(&mut Missed)) {
        match self.worker.offer(message, Load::of_note(bytes)) {
            Ok(()) => {}
            Err(Refused::Full) => {
                miss(&mut self.shared.catalog().missed);
                self.shared.catalog_missed.store(true, Ordering::Relaxed);
            }
            Err(Refused::Closed) => self.shared.drop_notes(1),
        }
    }
}

impl DecisionSink for TraceWriter {
    fn record(&self, record: Arc<DecisionRecord>) {
        let load = Load::of(&record);
        if self.worker.offer(Message::Decision(record), load).is_err() {
            self.shared.drop_one();
        }
    }

    fn swapped(&self, swap: &Swap) {
        // None is refused for want of room: without it nothing after it could be made again.
        let message = Message::Swap(Box::new(swap.clone()));
        let is_swap = |message: &Message| matches!(message, Message::Swap(_));
        match self.worker.insist(message, limits::QUEUE_SWAPS, is_swap) {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => self.shared.drop_notes(1),
        }
    }
}

impl std::fmt::Debug for TraceWriter {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TraceWriter").field("status", &self.status()).finish_non_exhaustive()
    }
}
