//! Writes last-known-good state: in batches, as the policy's `flush-after` paces them, stamped by its `stamp`, and by one
//! process of a directory at a time.
//!
//! The process that holds the lock leads: it writes. The others follow: they serve from their own memory, write nothing,
//! and take over when the lock is free. A leader stamps the changes of a batch as it writes them: a
//! change that waits for a disk that hangs is stamped late. A follower stamps a change when it takes it. A process that
//! takes over keeps what was written later than its own change was stamped, and drops that change; the service map goes to
//! its refresh task, which decides which one is newer.

mod inbox;
mod stamped;
mod task;

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use self::inbox::Sender;
use self::stamped::load;
use self::task::{Leader, PreviousLeader, Task};
use super::metrics::StateMetrics;
use crate::edge::files::Directory;
use crate::edge::state::{Change, StateRecord, StateSink};
use crate::policy::Policy;

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
    /// The folder cannot be written: what it holds is served, and nothing is kept.
    ReadOnly,
}

/// Whether a folder cannot be written, rather than a write having failed.
fn is_read_only(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied)
}

/// Accepts records to write.
#[derive(Clone, Debug)]
pub(super) struct StateWriter {
    inbox: Arc<Sender>,
    role: watch::Receiver<StateRole>,
    former_map: watch::Receiver<Option<StateRecord>>,
    previous_definitions: watch::Receiver<Vec<(String, StateRecord)>>,
}

/// A running writer.
pub(super) struct Started {
    pub(super) writer: StateWriter,
    /// What was saved before, without its stamps.
    pub(super) saved: Vec<(String, StateRecord)>,
    /// Files of an older form, which are not read.
    pub(super) old_files: usize,
    pub(super) task: JoinHandle<()>,
}

/// Starts the writer.
pub(super) fn start(
    policy: Arc<Policy>,
    metrics: StateMetrics,
    directory: Arc<dyn Directory>,
    writer: String,
) -> io::Result<Started> {
    // The lock comes first: what is read under it cannot change any more.
    let (lock, without_lock) = match directory.try_lock(LOCK) {
        Err(error) if is_read_only(&error) => {
            tracing::warn!(%error, "the state folder cannot be written: saved lists are served, and none are saved");
            (None, StateRole::ReadOnly)
        }
        lock => (lock?, StateRole::Follower),
    };
    let loaded = load(&directory, lock.is_some())?;
    let leader = lock.zip(loaded.store).map(|(lock, store)| Leader::new(lock, store));
    let (inbox, orders) = inbox::inbox();
    let role = watch::Sender::new(if leader.is_some() { StateRole::Writer } else { without_lock });
    let previous = PreviousLeader::default();
    let sink = StateWriter {
        inbox: Arc::new(inbox),
        role: role.subscribe(),
        former_map: previous.map.subscribe(),
        previous_definitions: previous.definitions.subscribe(),
    };
    let mut task = Task::new(policy, metrics, directory, writer, (role, previous), leader);
    let mut saved = Vec::new();
    for (name, stamp, record) in loaded.records {
        task.observe(&name, stamp, &record);
        saved.push((name, record));
    }
    Ok(Started { writer: sink, saved, old_files: loaded.old_files, task: tokio::spawn(task.run(orders)) })
}

/// Reads what a directory holds, without its stamps.
pub(super) fn read_records(directory: &Arc<dyn Directory>) -> io::Result<Vec<(String, StateRecord)>> {
    let records = load(directory, false)?.records;
    Ok(records.into_iter().map(|(name, _, record)| (name, record)).collect())
}

impl StateWriter {
    /// What this process does with the state.
    pub(super) fn role(&self) -> StateRole {
        *self.role.borrow()
    }

    /// What this process does with the state, and when that changes.
    pub(super) fn roles(&self) -> watch::Receiver<StateRole> {
        self.role.clone()
    }

    /// The service map's record as the previous leader left it, once this process has taken over from one that wrote it
    /// later than this process read it. Its rollback protection must not be lost.
    pub(super) fn former_map(&self) -> watch::Receiver<Option<StateRecord>> {
        self.former_map.clone()
    }

    /// What was approved of connectors' definitions, as the previous leader left it, once this process has taken over from
    /// it. An approval must not be lost.
    pub(super) fn previous_definitions(&self) -> watch::Receiver<Vec<(String, StateRecord)>> {
        self.previous_definitions.clone()
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

#[cfg(test)]
mod tests;
