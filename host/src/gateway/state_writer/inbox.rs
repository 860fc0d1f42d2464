//! What is handed to the writer and not taken by it yet: the latest change of each name, and nothing twice.
//!
//! Nothing that is handed in is dropped while the disk is slow. A later change of a name takes the place of the earlier one,
//! so what waits is bounded: by one record for each connector and one for the service map, each as large as what its source
//! may send, and by [`NAMES_MAX`] names of records to remove.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};

use crate::edge::state::Change;

/// Names that may wait, if the last one is that of a record to remove: the records of connectors that come and go while no
/// write ends. Twice what a registry may hold and a map may name, and about 10 MiB.
const NAMES_MAX: usize = 65_536;

/// Whether one more change finds room beside what waits. A record always does: a connector or the map is behind it, and
/// their number is bounded elsewhere.
pub(super) fn has_room_for<T>(waiting: &BTreeMap<String, T>, name: &str, change: &Change) -> bool {
    matches!(change, Change::Record(_)) || waiting.len() < NAMES_MAX || waiting.contains_key(name)
}

/// What the writer is to do next.
pub(super) enum Order {
    /// Everything that was handed in since the last order, in that order, one change for each name.
    Changes(Vec<Handed>),
    /// Everything is written, and the writer ends.
    Close {
        /// Dropped when that is done.
        closed: Vec<oneshot::Sender<()>>,
    },
}

/// The writer's end. Dropping it refuses everything else.
pub(super) struct Inbox(Arc<Shared>);

/// The other end. Dropping it closes the writer.
#[derive(Debug)]
pub(super) struct Sender(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    touched: Notify,
}

#[derive(Default)]
struct State {
    changes: BTreeMap<String, Latest>,
    /// Their names, in the order in which the first change of each was handed in.
    order: VecDeque<String>,
    closing: Closing,
}

#[derive(Default)]
enum Closing {
    #[default]
    No,
    /// After what was handed in before, with the callers that wait for it.
    Asked(Vec<oneshot::Sender<()>>),
    /// The writer has ended.
    Ended,
}

struct Latest {
    change: Change,
    written: Vec<oneshot::Sender<io::Result<()>>>,
}

/// A change that was handed in.
pub(super) struct Handed {
    pub(super) name: String,
    pub(super) change: Change,
    /// The callers that wait until it is on disk.
    pub(super) written: Vec<oneshot::Sender<io::Result<()>>>,
}

/// Both ends of an empty one.
pub(super) fn inbox() -> (Sender, Inbox) {
    let shared = Arc::new(Shared::default());
    (Sender(shared.clone()), Inbox(shared))
}

impl Sender {
    /// Hands a change in, in the place of an earlier one of that name. `written` is answered once it is on disk, and dropped
    /// if the writer has ended.
    pub(super) fn put(&self, name: &str, change: Change, written: Option<oneshot::Sender<io::Result<()>>>) {
        let mut state = self.0.lock();
        if matches!(state.closing, Closing::Ended) {
            tracing::debug!(name, "the state writer has ended; this change is not written");
            return;
        }
        if !has_room_for(&state.changes, name, &change) {
            tracing::warn!(name, "too many removals of state wait for the disk; this record stays there");
            return;
        }
        let waiting = &mut *state;
        match waiting.changes.get_mut(name) {
            Some(handed) => {
                handed.change = change;
                handed.written.extend(written);
            }
            None => {
                waiting.changes.insert(name.to_owned(), Latest { change, written: written.into_iter().collect() });
                waiting.order.push_back(name.to_owned());
            }
        }
        drop(state);
        self.0.touched.notify_one();
    }

    /// Closes the writer. What is returned ends once it has written everything, or had ended before.
    pub(super) fn close(&self) -> oneshot::Receiver<()> {
        let (closed, done) = oneshot::channel();
        self.0.close(Some(closed));
        done
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.close(None);
    }
}

impl Inbox {
    /// Waits for the next order: what was handed in first comes first. Cancel safe.
    pub(super) async fn next(&self) -> Order {
        loop {
            if let Some(order) = self.0.take() {
                return order;
            }
            self.0.touched.notified().await;
        }
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        // What is dropped with it wakes those that wait. Outside of the lock.
        let ended = State { closing: Closing::Ended, ..State::default() };
        let left = std::mem::replace(&mut *self.0.lock(), ended);
        drop(left);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, closed: Option<oneshot::Sender<()>>) {
        let mut state = self.lock();
        match &mut state.closing {
            closing @ Closing::No => *closing = Closing::Asked(closed.into_iter().collect()),
            Closing::Asked(waiting) => waiting.extend(closed),
            Closing::Ended => {}
        }
        drop(state);
        self.touched.notify_one();
    }

    fn take(&self) -> Option<Order> {
        let mut state = self.lock();
        let state = &mut *state;
        if !state.order.is_empty() {
            let mut changes = std::mem::take(&mut state.changes);
            let handed = std::mem::take(&mut state.order).into_iter().filter_map(|name| {
                let Latest { change, written } = changes.remove(&name)?;
                Some(Handed { name, change, written })
            });
            return Some(Order::Changes(handed.collect()));
        }
        match &mut state.closing {
            Closing::Asked(closed) => Some(Order::Close { closed: std::mem::take(closed) }),
            Closing::No | Closing::Ended => None,
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("State").field("names", &self.order).finish_non_exhaustive()
    }
}
