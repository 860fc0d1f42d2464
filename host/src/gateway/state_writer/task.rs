//! The task of the writer: collects changes, asks the policy when to write them, and has them written.

use std::collections::BTreeMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::inbox::{self, Handed, Inbox, Order};
use super::stamped::{self, load};
use super::{BATCH, LOCK, RETRY_INTERVAL, StateRole, is_read_only};
use crate::connectors::DEFINITIONS_PREFIX;
use crate::edge::files::{Directory, LockGuard};
use crate::edge::state::{Change, StateRecord, StateStore, WriteError, Written};
use crate::gateway::metrics::StateMetrics;
use crate::model::{BootMs, Digest, milliseconds};
use crate::policy::contract::{ClockState, Hlc, Pending};
use crate::policy::{Held, Policy, Subject};
use crate::service_map::RECORD_NAME;

/// What a process has that writes. Clones share it, and the lock is held until the last one is gone: work that goes on in a
/// thread after the task has ended is not followed by another process's.
#[derive(Clone)]
pub(super) struct Leader {
    _lock: Arc<LockGuard>,
    /// Locked by blocking threads only. A panic there leaves it usable.
    store: Arc<Mutex<StateStore>>,
}

impl Leader {
    pub(super) fn new(lock: LockGuard, store: StateStore) -> Self {
        Self { _lock: Arc::new(lock), store: Arc::new(Mutex::new(store)) }
    }

    fn store(&self) -> MutexGuard<'_, StateStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Compacts, if that is due. Returns the bytes that were copied.
    fn compact(&self) -> u64 {
        let Some(compaction) = self.store().begin_compaction() else { return 0 };
        // Without the lock: batches are written meanwhile. A panic is a failure, and the store is always informed of the end.
        let compacted = catch_unwind(AssertUnwindSafe(|| compaction.run()))
            .unwrap_or_else(|_| Err(io::Error::other("the compaction panicked")));
        let bytes = compacted.as_ref().map_or(0, |compacted| compacted.bytes());
        self.store().end_compaction(compacted);
        bytes
    }
}

/// What waits to be written.
struct Waiting {
    change: Change,
    /// When it was handed in to a follower, whose leader may write a later one; a leader stamps its changes as it writes
    /// them.
    stamp: Option<Hlc>,
    bytes: usize,
}

/// What is known of a record on disk.
struct OnDisk {
    stamp: Hlc,
    body: Option<Digest>,
}

/// How much was pending when the policy was last asked when to write it.
#[derive(Clone, Copy)]
struct Asked {
    changes: usize,
    bytes: usize,
}

/// Why a change was not written.
struct Failed {
    error: io::Error,
    /// Whether it never can be.
    is_final: bool,
}

/// What came of a batch.
#[derive(Default)]
struct Flushed {
    results: Vec<(String, Result<(), Failed>)>,
    written: Written,
    is_compaction_due: bool,
}

/// What the previous leader left, for those that decide what becomes of it.
#[derive(Debug, Default)]
pub(super) struct PreviousLeader {
    pub(super) map: watch::Sender<Option<StateRecord>>,
    pub(super) definitions: watch::Sender<Vec<(String, StateRecord)>>,
}

pub(super) struct Task {
    policy: Arc<Policy>,
    metrics: StateMetrics,
    directory: Arc<dyn Directory>,
    writer: String,
    leader: Option<Leader>,
    /// When a follower looks next whether the lock is free. Orders do not move it.
    take_over_at: Option<BootMs>,
    role: watch::Sender<StateRole>,
    previous: PreviousLeader,
    clock: Held<ClockState>,
    on_disk: BTreeMap<String, OnDisk>,
    subject: Subject,
    pending: BTreeMap<String, Waiting>,
    pending_bytes: usize,
    /// When the oldest change came that was not tried yet.
    oldest: Option<BootMs>,
    asked: Option<Asked>,
    flush_at: Option<BootMs>,
    compacting: Option<JoinHandle<u64>>,
    /// Whether a compaction became due while another one had not been seen to end.
    is_compaction_due: bool,
}

impl Task {
    pub(super) fn new(
        policy: Arc<Policy>,
        metrics: StateMetrics,
        directory: Arc<dyn Directory>,
        writer: String,
        (role, previous): (watch::Sender<StateRole>, PreviousLeader),
        leader: Option<Leader>,
    ) -> Self {
        let take_over_at = leader.is_none().then(|| policy.edge().clock.boot().plus(RETRY_INTERVAL));
        Self {
            policy,
            metrics,
            directory,
            writer,
            leader,
            take_over_at,
            role,
            previous,
            clock: Held::new(ClockState::initial()),
            on_disk: BTreeMap::new(),
            subject: Subject::new("state"),
            pending: BTreeMap::new(),
            pending_bytes: 0,
            oldest: None,
            asked: None,
            flush_at: None,
            compacting: None,
            is_compaction_due: false,
        }
    }

    /// Notes a record that is on disk. Returns the stamp of the one that was there before, as far as it is known.
    pub(super) fn observe(&mut self, name: &str, stamp: Hlc, record: &StateRecord) -> Option<Hlc> {
        self.clock.state.last = latest(self.clock.state.last, stamp);
        let on_disk = OnDisk { stamp, body: list_digest(name, record) };
        self.on_disk.insert(name.to_owned(), on_disk).map(|before| before.stamp)
    }

    pub(super) async fn run(mut self, orders: Inbox) {
        let clock = self.policy.edge().clock.clone();
        // Damage and many logs are dealt with before anything is written.
        self.compact();
        loop {
            tokio::select! {
                order = orders.next() => match order {
                    Order::Changes(changes) => self.take(changes).await,
                    Order::Close { closed } => {
                        self.report(true).await;
                        if let Some(compacting) = &mut self.compacting {
                            // The lock is free for another process when this one has ended.
                            let _ = compacting.await;
                        }
                        drop(self);
                        drop(closed);
                        return;
                    }
                },
                () = clock.sleep_until_some(self.flush_at) => self.report(false).await,
                () = clock.sleep_until_some(self.take_over_at) => self.try_take_over().await,
                bytes = ended(&mut self.compacting) => self.compacted(bytes),
            }
        }
    }

    /// Takes what was handed in, and writes it if a caller waits for that.
    async fn take(&mut self, changes: Vec<Handed>) {
        let stamp = self.leader.is_none().then(|| self.stamp());
        let mut waiting: Vec<(String, Vec<oneshot::Sender<io::Result<()>>>)> = Vec::new();
        for Handed { name, change, written } in changes {
            if !written.is_empty() {
                waiting.push((name.clone(), written));
            }
            self.note(name, change, stamp);
        }
        if waiting.is_empty() {
            self.schedule();
            return;
        }
        let failed = self.flush().await;
        for (name, written) in waiting {
            for waits in written {
                // The caller may be gone.
                let _ = waits.send(failed.get(&name).map_or(Ok(()), |error| Err(again(error))));
            }
        }
    }

    fn note(&mut self, name: String, change: Change, stamp: Option<Hlc>) {
        if !inbox::has_room_for(&self.pending, &name, &change) {
            tracing::warn!(name, "too many removals of state wait for the disk; this record stays there");
            return;
        }
        if self.pending.is_empty() || self.oldest.is_none() {
            (self.oldest, self.asked) = (Some(self.policy.edge().clock.boot()), None);
        }
        let bytes = self.bytes(&name, &change);
        self.pending_bytes += bytes;
        if let Some(before) = self.pending.insert(name, Waiting { change, stamp, bytes }) {
            self.pending_bytes -= before.bytes;
        }
    }

    /// What the change writes, about.
    fn bytes(&self, name: &str, change: &Change) -> usize {
        let Change::Record(record) = change else { return 0 };
        let body = list_digest(name, record);
        let is_there = body.is_some() && self.on_disk.get(name).is_some_and(|on_disk| on_disk.body == body);
        record.header.len() + if is_there { 0 } else { record.body.estimated_length() }
    }

    fn drop_pending(&mut self, name: &str) -> Option<Waiting> {
        let waiting = self.pending.remove(name)?;
        self.pending_bytes -= waiting.bytes;
        Some(waiting)
    }

    /// Asks the policy when to write: for the first change of a batch, and whenever what waits has doubled.
    fn schedule(&mut self) {
        let (changes, bytes) = (self.pending.len(), self.pending_bytes);
        let has_doubled = |asked: Asked| changes >= 2 * asked.changes || bytes >= 2 * asked.bytes.max(1);
        if changes == 0 || !self.asked.is_none_or(has_doubled) {
            return;
        }
        self.asked = Some(Asked { changes, bytes });
        let at = self.policy.edge().clock.boot().plus(self.wait(false));
        // What failed before is due at its own time.
        self.flush_at = Some(self.flush_at.map_or(at, |before| before.min(at)));
    }

    fn wait(&self, closing: bool) -> Duration {
        let now = self.policy.edge().clock.boot();
        let pending = Pending {
            changes: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
            bytes: u64::try_from(self.pending_bytes).unwrap_or(u64::MAX),
            oldest_ms: self.oldest.map_or(0, |oldest| milliseconds(now.since(oldest))),
            batch_ms: milliseconds(BATCH),
            closing,
            write_through: false,
        };
        match self.policy.flush_after(&self.subject, pending) {
            Ok(wait) => Duration::from_millis(wait),
            Err(error) => {
                tracing::error!(%error, "flush decision failed; writing state immediately");
                Duration::ZERO
            }
        }
    }

    async fn report(&mut self, closing: bool) {
        if closing && !self.pending.is_empty() {
            let wait = self.wait(true);
            if !wait.is_zero() {
                tracing::info!(wait_ms = milliseconds(wait), "state is written at once: the gateway ends");
            }
        }
        // A failure was logged there.
        let _ = self.flush().await;
    }

    /// Writes everything that is pending, and returns what failed, by name. That stays pending, except for what never can
    /// be written.
    async fn flush(&mut self) -> BTreeMap<String, io::Error> {
        let mut failed = BTreeMap::new();
        self.flush_at = None;
        let Some(leader) = self.leader.clone().filter(|_| !self.pending.is_empty()) else {
            // A follower keeps its records for the time when it takes over.
            return failed;
        };
        let started = Instant::now();
        // One for the batch.
        let is_unstamped = self.pending.values().any(|waiting| waiting.stamp.is_none());
        let now = if is_unstamped { self.stamp() } else { self.clock.state.last };
        let mut batch = Vec::with_capacity(self.pending.len());
        for (name, waiting) in &mut self.pending {
            batch.push((name.clone(), waiting.change.clone(), *waiting.stamp.get_or_insert(now)));
        }
        let writer = self.writer.clone();
        // Nothing else touches what is pending until this is over.
        let flushed = match tokio::task::spawn_blocking(move || write_batch(&leader, &writer, batch)).await {
            Ok(flushed) => flushed,
            Err(error) => {
                tracing::error!(%error, "writing state was cut off");
                let cut_off = |name: &String| (name.clone(), io::ErrorKind::Interrupted.into());
                failed.extend(self.pending.keys().map(cut_off));
                Flushed::default()
            }
        };
        for (name, result) in flushed.results {
            match result {
                Ok(()) => self.written(name),
                Err(Failed { error, is_final }) => {
                    if is_final {
                        tracing::error!(name, %error, "a record of state cannot be written and is dropped");
                        self.drop_pending(&name);
                    }
                    failed.insert(name, error);
                }
            }
        }
        self.metrics.flushed(started.elapsed(), flushed.written);
        let role = if self.pending.is_empty() { StateRole::Writer } else { StateRole::Failing };
        let is_other_role = self.role.send_if_modified(|current| std::mem::replace(current, role) != role);
        if let Some((name, error)) = failed.iter().find(|(name, _)| self.pending.contains_key(*name)) {
            let records = self.pending.len();
            // Once: a disk that takes nothing is tried many times a second while lists change. `status` shows the role.
            if is_other_role {
                tracing::error!(name, %error, records, "last known good state could not be written; it is tried again");
            } else {
                tracing::debug!(name, %error, records, "last known good state could not be written; it is tried again");
            }
            self.flush_at = Some(self.policy.edge().clock.boot().plus(RETRY_INTERVAL));
        }
        // What failed was tried. The policy is asked again for the next change, as for the first one of a batch.
        (self.oldest, self.asked) = (None, None);
        if flushed.is_compaction_due {
            self.is_compaction_due = true;
            self.compact();
        }
        failed
    }

    /// A change is on disk.
    fn written(&mut self, name: String) {
        let Some(Waiting { change, stamp, .. }) = self.drop_pending(&name) else { return };
        let Change::Record(record) = &change else {
            self.on_disk.remove(&name);
            return;
        };
        let body = list_digest(&name, record);
        self.on_disk.insert(name, OnDisk { stamp: stamp.unwrap_or(self.clock.state.last), body });
    }

    /// Compacts in a blocking thread, unless one does that already.
    fn compact(&mut self) {
        if let (Some(leader), None) = (&self.leader, &self.compacting) {
            let leader = leader.clone();
            self.is_compaction_due = false;
            self.compacting = Some(tokio::task::spawn_blocking(move || leader.compact()));
        }
    }

    fn compacted(&mut self, bytes: io::Result<u64>) {
        self.compacting = None;
        match bytes {
            Ok(bytes) => self.metrics.compacted(bytes),
            Err(error) => {
                tracing::error!(%error, "compaction was cut off; saved state is not compacted until a restart")
            }
        }
        if self.is_compaction_due {
            self.compact();
        }
    }

    fn stamp(&mut self) -> Hlc {
        match self.policy.stamp(&self.subject, &mut self.clock) {
            Ok(stamp) => stamp,
            Err(error) => {
                tracing::error!(%error, "stamp decision failed; the stamp follows the last one");
                self.clock.state.last.counter = self.clock.state.last.counter.saturating_add(1);
                self.clock.state.last
            }
        }
    }

    /// Takes the lock if it is free. What another process wrote later than ours was stamped is kept.
    async fn try_take_over(&mut self) {
        self.take_over_at = Some(self.policy.edge().clock.boot().plus(RETRY_INTERVAL));
        let directory = self.directory.clone();
        let taken = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let Some(lock) = directory.try_lock(LOCK)? else { return Ok(None) };
            let loaded = load(&directory, true)?;
            Ok(loaded.store.map(|store| (Leader::new(lock, store), loaded.records)))
        });
        match taken.await.map_err(io::Error::other).and_then(|taken| taken) {
            Ok(None) => {}
            Ok(Some((leader, found))) => {
                tracing::info!("the state lock is free: this process writes from now on");
                let mut definitions = Vec::new();
                for (name, stamp, record) in found {
                    definitions.extend(self.found(name, stamp, record));
                }
                if !definitions.is_empty() {
                    self.previous.definitions.send_replace(definitions);
                }
                self.leader = Some(leader);
                self.take_over_at = None;
                self.role.send_replace(StateRole::Writer);
                self.report(false).await;
                self.compact();
            }
            Err(error) if is_read_only(&error) && *self.role.borrow() == StateRole::ReadOnly => {}
            Err(error) => tracing::warn!(%error, "the state lock cannot be taken"),
        }
    }

    /// The previous leader left this record. Returned if it holds approvals that this process does not know.
    fn found(&mut self, name: String, stamp: Hlc, record: StateRecord) -> Option<(String, StateRecord)> {
        let known = self.observe(&name, stamp, &record);
        let is_unknown = known.is_none_or(|known| later(stamp, known));
        if name.starts_with(DEFINITIONS_PREFIX) {
            // What was approved there counts, however late this process saw a change: that is found and saved again.
            return is_unknown.then(|| {
                self.drop_pending(&name);
                (name, record)
            });
        }
        if name == RECORD_NAME {
            if is_unknown {
                // The previous leader's map may be newer than ours: the map's refresh task decides, and saves it.
                self.drop_pending(&name);
                self.previous.map.send_replace(Some(record));
            }
        } else if self.pending.get(&name).and_then(|ours| ours.stamp).is_some_and(|ours| later(stamp, ours)) {
            // Ours is the older one. It is served on, and its next change is written.
            self.drop_pending(&name);
        }
        None
    }
}

/// Waits for the compaction; for ever if there is none. Cancelling it loses nothing.
async fn ended(compacting: &mut Option<JoinHandle<u64>>) -> io::Result<u64> {
    match compacting {
        Some(task) => task.await.map_err(io::Error::other),
        None => std::future::pending().await,
    }
}

fn write_batch(leader: &Leader, writer: &str, batch: Vec<(String, Change, Hlc)>) -> Flushed {
    let mut flushed = Flushed::default();
    let mut changes = Vec::with_capacity(batch.len());
    for (name, change, stamp) in batch {
        let change = match change {
            Change::Record(record) => stamped::stamp(record, stamp, writer).map(Change::Record),
            Change::Removal => Ok(Change::Removal),
        };
        match change {
            Ok(change) => changes.push((name, change)),
            Err(error) => {
                let failed = Failed { error: io::Error::other(error), is_final: true };
                flushed.results.push((name, Err(failed)));
            }
        }
    }
    let mut store = leader.store();
    let committed = store.commit(changes);
    flushed.written = committed.written;
    flushed.is_compaction_due = store.is_compaction_due();
    let failed = |error: WriteError| match error {
        WriteError::Io(error) => Failed { error, is_final: false },
        error => Failed { error: io::Error::other(error), is_final: true },
    };
    flushed.results.extend(committed.results.into_iter().map(|(name, result)| (name, result.map_err(failed))));
    flushed
}

/// The digest of a body that is written only if it is another one than before. The map's is always written.
fn list_digest(name: &str, record: &StateRecord) -> Option<Digest> {
    if name == RECORD_NAME { None } else { record.body.digest() }
}

/// The same kind of error with the same text, for one more caller.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

fn later(one: Hlc, other: Hlc) -> bool {
    (one.wall_ms, one.counter) > (other.wall_ms, other.counter)
}

fn latest(one: Hlc, other: Hlc) -> Hlc {
    if later(other, one) { other } else { one }
}
