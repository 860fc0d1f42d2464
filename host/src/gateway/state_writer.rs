//! The task that writes last known good state: batched as the policy's `flush-after` says, stamped by its `stamp`, and
//! by one process of a directory at a time.
//!
//! Whoever holds the lock writes; the others follow: they serve from their own memory, write nothing, and take over when
//! the lock is free. A change is stamped when it is handed in. Whoever takes over leaves what was written later than its
//! own change was handed in, and drops that change; the service map goes to whoever keeps it, who judges which is newer.

mod inbox;

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use self::inbox::{Inbox, Order, Sender};
use crate::edge::files::{Directory, LockGuard};
use crate::edge::state::{self, Damaged, SavedState, StateRecord, StateSink};
use crate::model::{BootMs, milliseconds};
use crate::policy::contract::{ClockState, Hlc, Pending};
use crate::policy::{Held, Policy, Subject};
use crate::service_map::RECORD_NAME;
use crate::telemetry::Metrics;

/// How long changes may be collected: state is small, and what is not written is lost with the process.
const BATCH: Duration = Duration::from_millis(50);

/// How often a follower tries to take over, and a failed write is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// The lock file.
const LOCK: &str = "state.lock";

/// What this process does with the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StateRole {
    /// It writes.
    Writer,
    /// Another process writes; this one waits for its turn.
    Follower,
    /// It writes, and the last write failed.
    Failing,
}

/// Where records are handed in.
#[derive(Clone, Debug)]
pub(super) struct StateWriter {
    inbox: Arc<Sender>,
    role: watch::Receiver<StateRole>,
    former_map: watch::Receiver<Option<StateRecord>>,
}

/// A record's header on disk: the stamp of the write before what the record says itself.
#[derive(Serialize, Deserialize)]
struct Stamped {
    stamp: Hlc,
    writer: String,
    header: Box<RawValue>,
}

/// A running writer.
pub(super) struct Started {
    pub(super) writer: StateWriter,
    pub(super) saved: Vec<(String, StateRecord)>,
    pub(super) task: JoinHandle<()>,
}

/// Starts the writer. Returns also what was saved before, without its stamps.
pub(super) fn start(
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    directory: Arc<dyn Directory>,
    writer: String,
) -> io::Result<Started> {
    // The lock comes first: what is read under it can not change any more.
    let lock = directory.try_lock(LOCK)?;
    let mut clock = Held::new(ClockState::initial());
    let mut stamps = BTreeMap::new();
    let mut saved = Vec::new();
    for (name, stamp, record) in read_saved(&*directory, lock.is_some())? {
        clock.state.last = latest(clock.state.last, stamp);
        stamps.insert(name.clone(), stamp);
        saved.push((name, record));
    }
    let (inbox, orders) = inbox::inbox();
    let role = watch::Sender::new(if lock.is_some() { StateRole::Writer } else { StateRole::Follower });
    let former_map = watch::Sender::new(None);
    let sink = StateWriter { inbox: Arc::new(inbox), role: role.subscribe(), former_map: former_map.subscribe() };
    let take_over_at = lock.is_none().then(|| policy.edge().clock.boot().plus(RETRY_INTERVAL));
    let task = Task {
        policy,
        metrics,
        directory,
        writer,
        lock,
        take_over_at,
        role,
        former_map,
        clock,
        stamps,
        subject: Subject::new("state"),
        pending: BTreeMap::new(),
        oldest: None,
        flush_at: None,
    };
    Ok(Started { writer: sink, saved, task: tokio::spawn(task.run(orders)) })
}

impl StateWriter {
    /// What this process does with the state.
    pub(super) fn role(&self) -> StateRole {
        *self.role.borrow()
    }

    /// The service map's record as the former writer left it, once this process has taken over from one that wrote it
    /// later than this process read it. Its ratchet must not be lost.
    pub(super) fn former_map(&self) -> watch::Receiver<Option<StateRecord>> {
        self.former_map.clone()
    }

    /// Writes what is pending and ends the task.
    pub(super) async fn close(&self) {
        // The task answers before it ends, and ends but once.
        let _ = self.inbox.close().await;
    }
}

impl StateSink for StateWriter {
    fn keep(&self, name: &str, record: StateRecord) {
        self.inbox.put(name, Change::Record(record), None);
    }

    fn forget(&self, name: &str) {
        self.inbox.put(name, Change::Removal, None);
    }

    fn keep_now(&self, name: &str, record: StateRecord) -> BoxFuture<'_, io::Result<()>> {
        let (written, done) = oneshot::channel();
        self.inbox.put(name, Change::Record(record), Some(written));
        Box::pin(async move { done.await.map_err(|_| io::Error::other("the state writer has ended"))? })
    }
}

/// What is to be done with a record's file.
#[derive(Clone)]
enum Change {
    Record(StateRecord),
    Removal,
}

impl Change {
    fn bytes(&self) -> usize {
        match self {
            Self::Record(record) => record.header.len() + record.body.len(),
            Self::Removal => 0,
        }
    }
}

/// What waits to be written.
struct Waiting {
    change: Change,
    /// When it was handed in.
    stamp: Hlc,
}

impl Waiting {
    /// The change as it is written: with the stamp before the record's own header.
    fn stamped(&self, writer: &str) -> Result<Change, serde_json::Error> {
        Ok(match &self.change {
            Change::Removal => Change::Removal,
            Change::Record(record) => {
                let header = RawValue::from_string(record.header.clone())?;
                let stamped = Stamped { stamp: self.stamp, writer: writer.to_owned(), header };
                Change::Record(StateRecord::new(&stamped, record.body.clone())?)
            }
        })
    }
}

struct Task {
    policy: Arc<Policy>,
    metrics: Arc<Metrics>,
    directory: Arc<dyn Directory>,
    writer: String,
    lock: Option<LockGuard>,
    /// When a follower looks next whether the lock is free. Orders do not move it.
    take_over_at: Option<BootMs>,
    role: watch::Sender<StateRole>,
    former_map: watch::Sender<Option<StateRecord>>,
    clock: Held<ClockState>,
    /// The stamp of each record on disk, as far as it is known.
    stamps: BTreeMap<String, Hlc>,
    subject: Subject,
    pending: BTreeMap<String, Waiting>,
    oldest: Option<BootMs>,
    flush_at: Option<BootMs>,
}

impl Task {
    async fn run(mut self, orders: Inbox) {
        let clock = self.policy.edge().clock.clone();
        loop {
            tokio::select! {
                order = orders.next() => match order {
                    Order::Change { name, change, written } => {
                        self.note(name.clone(), change);
                        if written.is_empty() {
                            self.schedule();
                            continue;
                        }
                        let failed = self.flush().await.remove(&name);
                        for waits in written {
                            // Whoever asked may have gone.
                            let _ = waits.send(failed.as_ref().map_or(Ok(()), |error| Err(again(error))));
                        }
                    }
                    Order::Close { closed } => {
                        self.report(true).await;
                        drop(closed);
                        return;
                    }
                },
                () = clock.sleep_until_some(self.flush_at) => self.report(false).await,
                () = clock.sleep_until_some(self.take_over_at) => self.try_take_over().await,
            }
        }
    }

    fn note(&mut self, name: String, change: Change) {
        if !inbox::has_room_for(&self.pending, &name, &change) {
            tracing::warn!(name, "too many removals of state wait for the disk; this record stays there");
            return;
        }
        let now = self.policy.edge().clock.boot();
        self.oldest.get_or_insert(now);
        let stamp = self.stamp();
        self.pending.insert(name, Waiting { change, stamp });
    }

    /// Asks the policy when to write.
    fn schedule(&mut self) {
        self.flush_at = Some(self.policy.edge().clock.boot().plus(self.wait(false)));
    }

    fn wait(&self, closing: bool) -> Duration {
        let now = self.policy.edge().clock.boot();
        let bytes = self.pending.values().map(|waiting| waiting.change.bytes());
        let pending = Pending {
            changes: u32::try_from(self.pending.len()).unwrap_or(u32::MAX),
            bytes: u64::try_from(bytes.sum::<usize>()).unwrap_or(u64::MAX),
            oldest_ms: self.oldest.map_or(0, |oldest| milliseconds(now.since(oldest))),
            batch_ms: milliseconds(BATCH),
            closing,
            write_through: false,
        };
        match self.policy.flush_after(&self.subject, pending) {
            Ok(wait) => Duration::from_millis(wait),
            Err(error) => {
                tracing::error!(%error, "state is written at once");
                Duration::ZERO
            }
        }
    }

    async fn report(&mut self, closing: bool) {
        if closing && !self.pending.is_empty() {
            let wait = self.wait(true);
            if !wait.is_zero() {
                tracing::info!(waitMs = milliseconds(wait), "closing writes at once");
            }
        }
        // What failed was told there.
        let _ = self.flush().await;
    }

    /// Writes everything that is pending, and returns what failed, by name. That stays pending, except for what never can
    /// be written.
    async fn flush(&mut self) -> BTreeMap<String, io::Error> {
        let mut failed = BTreeMap::new();
        self.flush_at = None;
        if self.pending.is_empty() || self.lock.is_none() {
            // A follower keeps its records for the day it takes over.
            return failed;
        }
        let started = Instant::now();
        let mut batch = Vec::new();
        for (name, waiting) in &self.pending {
            match waiting.stamped(&self.writer) {
                Ok(change) => batch.push((name.clone(), change)),
                Err(error) => {
                    tracing::error!(name, %error, "a record of state can not be written and is dropped");
                    failed.insert(name.clone(), io::Error::other(error));
                }
            }
        }
        self.pending.retain(|name, _| !failed.contains_key(name));
        let directory = self.directory.clone();
        // Nothing else touches what is pending until this is over.
        match tokio::task::spawn_blocking(move || write_batch(&directory, batch)).await {
            Ok(results) => {
                for (name, result) in results {
                    match result {
                        Ok(()) => self.stamps.extend(self.pending.remove(&name).map(|written| (name, written.stamp))),
                        Err(error) => drop(failed.insert(name, error)),
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "writing state was cut off");
                let cut_off = |name: &String| (name.clone(), io::ErrorKind::Interrupted.into());
                failed.extend(self.pending.keys().map(cut_off));
            }
        }
        self.metrics.state_flush(started.elapsed());
        let role = if self.pending.is_empty() { StateRole::Writer } else { StateRole::Failing };
        self.role.send_if_modified(|current| std::mem::replace(current, role) != role);
        if let Some((name, error)) = failed.iter().find(|(name, _)| self.pending.contains_key(*name)) {
            let records = self.pending.len();
            tracing::error!(name, %error, records, "last known good state could not be written; it is tried again");
            self.flush_at = Some(self.policy.edge().clock.boot().plus(RETRY_INTERVAL));
        } else {
            self.oldest = None;
        }
        failed
    }

    fn stamp(&mut self) -> Hlc {
        match self.policy.stamp(&self.subject, &mut self.clock) {
            Ok(stamp) => stamp,
            Err(error) => {
                tracing::error!(%error, "the stamp follows the last one");
                self.clock.state.last.counter = self.clock.state.last.counter.saturating_add(1);
                self.clock.state.last
            }
        }
    }

    /// Takes the lock if it is free. What another process wrote later than ours was handed in stands.
    async fn try_take_over(&mut self) {
        self.take_over_at = Some(self.policy.edge().clock.boot().plus(RETRY_INTERVAL));
        let directory = self.directory.clone();
        let taken = tokio::task::spawn_blocking(move || -> io::Result<_> {
            let Some(lock) = directory.try_lock(LOCK)? else { return Ok(None) };
            Ok(Some((lock, read_saved(&*directory, true)?)))
        });
        match taken.await.map_err(io::Error::other).and_then(|taken| taken) {
            Ok(None) => {}
            Ok(Some((lock, found))) => {
                tracing::info!("the state lock is free: this process writes from now on");
                for (name, stamp, record) in found {
                    self.found(name, stamp, record);
                }
                self.lock = Some(lock);
                self.take_over_at = None;
                self.role.send_replace(StateRole::Writer);
                self.report(false).await;
            }
            Err(error) => tracing::warn!(%error, "the state lock can not be taken"),
        }
    }

    /// The former writer left this record.
    fn found(&mut self, name: String, stamp: Hlc, record: StateRecord) {
        self.clock.state.last = latest(self.clock.state.last, stamp);
        let known = self.stamps.insert(name.clone(), stamp);
        if name == RECORD_NAME {
            if known.is_none_or(|known| later(stamp, known)) {
                // The former writer's map may be newer than ours: whoever keeps the map judges it, and saves it.
                self.pending.remove(&name);
                self.former_map.send_replace(Some(record));
            }
        } else if self.pending.get(&name).is_some_and(|ours| later(stamp, ours.stamp)) {
            // Ours is the older one. It is served on, and its next change is written.
            self.pending.remove(&name);
        }
    }
}

/// Reads every record, with its stamp and without. What can not be understood is moved aside, if this process `writes`.
fn read_saved(directory: &dyn Directory, writes: bool) -> io::Result<Vec<(String, Hlc, StateRecord)>> {
    let SavedState { records, mut damaged } = state::read_all(directory)?;
    let mut saved = Vec::new();
    for (name, record) in records {
        match strip(&record) {
            Some((stamp, record)) => saved.push((name, stamp, record)),
            None => damaged.push(Damaged::new(&name, &record.encode())),
        }
    }
    for damaged in damaged {
        if writes {
            state::set_aside(directory, &damaged)?;
            let aside = damaged.aside();
            tracing::warn!(
                name = damaged.name,
                aside,
                "saved state is damaged; it was moved aside and is fetched anew"
            );
        } else {
            tracing::warn!(name = damaged.name, "saved state is damaged; it is fetched anew");
        }
    }
    Ok(saved)
}

fn write_batch(directory: &Arc<dyn Directory>, batch: Vec<(String, Change)>) -> Vec<(String, io::Result<()>)> {
    let write = |(name, change): (String, Change)| {
        let result = match &change {
            Change::Record(record) => state::write_one(directory, &name, record),
            Change::Removal => state::remove_one(&**directory, &name),
        };
        (name, result)
    };
    batch.into_iter().map(write).collect()
}

/// The same kind of error and the same words, for one more caller.
fn again(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}

/// The record without its stamp.
fn strip(record: &StateRecord) -> Option<(Hlc, StateRecord)> {
    let stamped: Stamped = record.header().ok()?;
    Some((stamped.stamp, StateRecord { header: stamped.header.get().to_owned(), body: record.body.clone() }))
}

fn later(one: Hlc, other: Hlc) -> bool {
    (one.wall_ms, one.counter) > (other.wall_ms, other.counter)
}

fn latest(one: Hlc, other: Hlc) -> Hlc {
    if later(other, one) { other } else { one }
}

#[cfg(test)]
mod tests;
