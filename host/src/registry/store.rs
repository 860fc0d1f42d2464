//! The store: the registry in memory, durable on disk, shared with everyone else who writes it.
//!
//! Reading takes no lock and waits for nobody. A change is acknowledged once it is durable: in this process's journal, or
//! in the document itself. Everything is blocking and driven from outside: callers of [`Store::upsert`] commit by
//! themselves or are committed with others, and someone calls [`Store::tend`] again and again. The locks are taken in one
//! order: the turn to settle, settling, then core.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{oneshot, watch};

use super::change::{Acknowledged, Change};
use super::commit::Queue;
use super::entry::RegistryEntry;
use super::journal::writer::Journal;
use super::judge::Judge;
use super::limits::{LOCK_PATIENCE, PROBE_PAUSE, SEGMENT_BYTES};
use super::names::FileNames;
use super::round::Settling;
use super::snapshot::RegistrySnapshot;
use super::standing::{ReadOnlyReason, Standing, StoreError};
use super::state::State;
use super::tails::Tails;
use crate::edge::disk::{Disk, DiskLook};
use crate::model::{BootMs, Digest, WallMs};
use crate::policy::Policy;
use crate::telemetry::Metrics;

/// What a store is made of.
pub struct StoreParts {
    /// The folder that holds the registry's file, its locks, its journals and its bases.
    pub disk: Arc<dyn Disk>,
    /// The name of the file.
    pub file: String,
    /// Who decides. Its edge tells the time.
    pub policy: Arc<Policy>,
    /// The id of this writer: unlike any other's, of `a-z`, `0-9` and `-`.
    pub writer: String,
    /// Where flushes are measured.
    pub metrics: Arc<Metrics>,
    /// How it works.
    pub options: StoreOptions,
}

/// How a store works.
#[derive(Clone, Copy, Debug)]
pub struct StoreOptions {
    /// When a change is acknowledged.
    pub acknowledge: Acknowledge,
    /// Whether the document is written on every change, before it is acknowledged.
    pub write_through: bool,
    /// How long changes are gathered before the document is written: what the policy is asked with.
    pub batch: Duration,
    /// How long the lock of other writers is waited for.
    pub lock_patience: Duration,
    /// The size that a segment of the journal is written with in advance, in bytes.
    pub segment_bytes: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            acknowledge: Acknowledge::Journal,
            write_through: false,
            batch: Duration::from_secs(5),
            lock_patience: LOCK_PATIENCE,
            segment_bytes: SEGMENT_BYTES,
        }
    }
}

/// When a change is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acknowledge {
    /// Once it is durable in this process's journal; the document follows.
    Journal,
    /// Once it is durable in the document: for commands, which end at once.
    Snapshot,
}

/// A registry that is open.
pub struct Store {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) names: FileNames,
    pub(super) options: StoreOptions,
    pub(super) policy: Arc<Policy>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) queue: Mutex<Queue>,
    pub(super) work: Condvar,
    /// Held by whoever settles, also while the registry's lock is waited for.
    pub(super) settle_turn: Mutex<()>,
    pub(super) settling: Mutex<Settling>,
    pub(super) core: Mutex<Core>,
    /// Whether this process holds the registry's lock: then nobody else replaces the document.
    pub(super) holding: AtomicBool,
    publisher: watch::Sender<Arc<RegistrySnapshot>>,
    pub(super) counts: Counts,
    /// Held by whoever makes a segment of the journal ready: one at a time, so that their numbers are in order of use.
    pub(super) preparing: Mutex<()>,
    /// What its random numbers come from, and how many there were. A stream of its own: what is drawn for names of files, on
    /// whichever thread, never changes the seeds of decisions.
    draws: (u64, AtomicU64),
}

/// What every change goes through.
pub(super) struct Core {
    pub(super) judge: Judge,
    pub(super) state: State,
    pub(super) journal: Journal,
    pub(super) tails: Tails,
    pub(super) standing: Standing,
    /// When a failed disk is tried again, and how long after that.
    pub(super) probe: (BootMs, Duration),
    pub(super) waiting: WaitingChanges,
    /// What the document looked like when it was read or written last; none before that.
    pub(super) seen: Option<Option<DiskLook>>,
    /// Whether something is to be written although no change of ours waits.
    pub(super) wants_settle: bool,
    /// When it is looked for what nobody else will write.
    pub(super) check_due: BootMs,
    /// When a segment is to be made ready for later, if that failed.
    pub(super) segment_due: BootMs,
    /// What is shown beside what is known: a foreign document that is not settled yet, or can not be.
    pub(super) shown: Option<Shown>,
    /// What the document of ours that was read or written last says.
    pub(super) document: State,
    pub(super) generation: u64,
    /// What is wrong with the document, and with anything else.
    pub(super) file_problems: Vec<String>,
    pub(super) other_problems: Vec<String>,
}

impl Core {
    /// Whether a foreign document that is not settled yet says something else about a name.
    pub(super) fn is_edited(&self, name: &str) -> bool {
        self.shown.as_ref().is_some_and(|shown| shown.names.contains(name))
    }

    /// Whether the document says all that is known, but for tombstones that are too old.
    pub(super) fn is_in_document(&self) -> bool {
        self.state.is_same(&self.document)
            || self.state.iter().all(|known| {
                known.content.is_none() || self.document.get(&known.entry.name).is_some_and(|own| own.is_same(known))
            })
    }
}

/// What a foreign document seems to come to, until it is settled.
pub(super) struct Shown {
    pub(super) state: State,
    /// The names of which it says something else than was known.
    pub(super) names: HashSet<String>,
}

impl Shown {
    /// What is shown instead of what is known.
    pub(super) fn instead_of(known: &State, state: State) -> Self {
        let differs = |one: &State, name: &str| match (one.get(name), state.get(name)) {
            (Some(own), Some(shown)) => !own.is_same(shown),
            (own, shown) => own.is_some() != shown.is_some(),
        };
        let names = known.iter().chain(state.iter()).map(|one| one.entry.name.as_str());
        let names = names.filter(|name| differs(known, name)).map(str::to_owned).collect();
        Self { state, names }
    }
}

/// Changes that are durable in the journal and not yet in the document.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct WaitingChanges {
    pub(super) changes: u32,
    pub(super) bytes: u64,
    pub(super) oldest: Option<BootMs>,
}

/// What a store did so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) changes: AtomicU64,
    pub(super) commits: AtomicU64,
    pub(super) documents: AtomicU64,
    pub(super) foreign_edits: AtomicU64,
}

/// What a store did so far, and what waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StoreCounts {
    /// Changes that were acknowledged.
    pub changes: u64,
    /// Commits of the journal that made them durable.
    pub commits: u64,
    /// Documents that were written.
    pub documents: u64,
    /// Edits of programs that take no lock.
    pub foreign_edits: u64,
    /// Changes that are acknowledged and not yet in the document.
    pub waiting: u32,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// Opens a registry, reads what everyone acknowledged, and writes nothing. One that can not be read is opened too: it
    /// is read-only, and serves what can be had.
    ///
    /// # Errors
    /// [`StoreError::Disk`] if the folder can not be read, [`StoreError::Policy`] if the policy gives no decision.
    pub fn open(parts: StoreParts) -> Result<Arc<Self>, StoreError> {
        let StoreParts { disk, file, policy, writer, metrics, options } = parts;
        let (now, seed) = (policy.edge().clock.boot(), policy.edge().entropy.seed());
        let core = Core {
            judge: Judge::new(policy.clone(), writer),
            state: State::default(),
            journal: Journal::of(options.segment_bytes),
            tails: Tails::default(),
            standing: Standing::Writable,
            probe: (now, PROBE_PAUSE.0),
            waiting: WaitingChanges::default(),
            seen: None,
            wants_settle: false,
            check_due: now,
            document: State::default(),
            segment_due: now,
            shown: None,
            generation: 0,
            file_problems: Vec::new(),
            other_problems: Vec::new(),
        };
        let store = Arc::new(Self {
            disk,
            names: FileNames::of(&file),
            options,
            policy,
            metrics,
            queue: Mutex::default(),
            work: Condvar::new(),
            settle_turn: Mutex::default(),
            settling: Mutex::default(),
            core: Mutex::new(core),
            holding: AtomicBool::new(false),
            publisher: watch::Sender::new(Arc::default()),
            counts: Counts::default(),
            preparing: Mutex::new(()),
            draws: (seed, AtomicU64::new(0)),
        });
        store.first_look()?;
        Ok(store)
    }

    /// The registry as it is known now.
    pub fn snapshot(&self) -> Arc<RegistrySnapshot> {
        self.publisher.borrow().clone()
    }

    /// The entry of that name, as it is known now.
    pub fn get(&self, name: &str) -> Option<Arc<RegistryEntry>> {
        self.snapshot().get(name).cloned()
    }

    /// All entries, as they are known now, ordered by name.
    pub fn list(&self) -> Vec<Arc<RegistryEntry>> {
        self.snapshot().entries().cloned().collect()
    }

    /// Tells of every later change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<RegistrySnapshot>> {
        self.publisher.subscribe()
    }

    /// Puts an entry into the registry. Returns once that is durable.
    ///
    /// # Errors
    /// [`StoreError`].
    ///
    /// # Panics
    /// Within an async task, if it has to wait: use [`Self::change_soon`] there. So do the others that block.
    pub fn upsert(self: &Arc<Self>, entry: RegistryEntry) -> Result<Acknowledged, StoreError> {
        self.change(Change::put(entry))
    }

    /// Removes the entry of that name, if it is there. Returns once that is durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn remove(self: &Arc<Self>, name: &str) -> Result<Acknowledged, StoreError> {
        self.change(Change::remove(name))
    }

    /// Makes a change, on this thread. Returns once it is durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub fn change(self: &Arc<Self>, change: Change) -> Result<Acknowledged, StoreError> {
        self.commit_here(change)
    }

    /// Makes changes, on this thread, together: what is written for one is written for all of them, as far as one batch
    /// goes. Returns once each is durable or refused, with an answer for each.
    pub fn change_all(self: &Arc<Self>, changes: Vec<Change>) -> Vec<Result<Acknowledged, StoreError>> {
        self.commit_all_here(changes)
    }

    /// Makes a change on the store's own thread: for callers that must not block.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn change_soon(self: &Arc<Self>, change: Change) -> Result<Acknowledged, StoreError> {
        // The store's thread answers each, also when the store is closed.
        self.commit_there(change).await.unwrap_or(Err(StoreError::Interrupted))
    }

    /// What it did so far.
    pub fn counts(&self) -> StoreCounts {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        StoreCounts {
            changes: read(&self.counts.changes),
            commits: read(&self.counts.commits),
            documents: read(&self.counts.documents),
            foreign_edits: read(&self.counts.foreign_edits),
            waiting: locked(&self.core).waiting.changes,
        }
    }

    pub(super) fn wall(&self) -> WallMs {
        self.policy.edge().clock.wall()
    }

    pub(super) fn boot(&self) -> BootMs {
        self.policy.edge().clock.boot()
    }

    pub(super) fn random(&self) -> u64 {
        let (seed, draws) = &self.draws;
        let drawn = Digest::of(format!("{seed} {}", draws.fetch_add(1, Ordering::Relaxed)).as_bytes());
        // Thirteen digits are 52 bits; every one of them is a number.
        u64::from_str_radix(&drawn.short(13), 16).unwrap_or(*seed)
    }

    /// Tells everyone what is known now.
    pub(super) fn publish(&self, core: &mut Core) {
        let state = match &core.shown {
            // Without a decision, what is known is shown.
            Some(shown) => {
                core.judge.join_states(&shown.state, &core.state).map_or(core.state.clone(), |joined| joined.state)
            }
            None => core.state.clone(),
        };
        let snapshot = RegistrySnapshot {
            state,
            standing: core.standing.clone(),
            problems: core.file_problems.iter().chain(&core.other_problems).cloned().collect(),
            generation: core.generation,
        };
        self.publisher.send_if_modified(|published| {
            let same = published.state.digest() == snapshot.state.digest()
                && published.standing == snapshot.standing
                && published.problems == snapshot.problems
                && published.generation == snapshot.generation;
            if !same {
                *published = Arc::new(snapshot);
            }
            !same
        });
    }

    /// Takes note that the document can not be written, while the journal can.
    pub(super) fn fall_behind(&self, core: &mut Core, reason: String) {
        // A command has no journal, and is told by its answer.
        if core.standing.is_writable() && self.options.acknowledge == Acknowledge::Journal {
            tracing::error!(reason, "the registry's document can not be written; changes are kept in the journal");
        }
        let since = match core.standing {
            Standing::Behind { since, .. } => since,
            Standing::ReadOnly { .. } => return,
            Standing::Writable => {
                core.probe.1 = PROBE_PAUSE.0;
                self.wall()
            }
        };
        self.probe_later(core);
        core.standing = Standing::Behind { reason, since };
        self.publish(core);
    }

    fn probe_later(&self, core: &mut Core) {
        let pause = core.probe.1;
        core.probe = (self.boot().plus(pause), (pause * 2).min(PROBE_PAUSE.1));
    }

    /// Makes the registry read-only. What can not be written now is tried again later, less and less often.
    pub(super) fn degrade(&self, core: &mut Core, reason: ReadOnlyReason) {
        if core.standing.reason() != Some(&reason) {
            tracing::error!(%reason, "the registry is read-only; what was read before is served");
        }
        let since = match core.standing {
            Standing::ReadOnly { since, .. } => since,
            Standing::Writable | Standing::Behind { .. } => {
                core.probe.1 = PROBE_PAUSE.0;
                self.wall()
            }
        };
        self.probe_later(core);
        core.standing = Standing::ReadOnly { reason, since };
        self.publish(core);
    }

    /// Makes it writable again.
    pub(super) fn recover(&self, core: &mut Core) {
        if !core.standing.is_writable() {
            tracing::warn!("the registry can be written again");
            core.standing = Standing::Writable;
        }
    }
}

/// What a caller waits for.
pub(super) type Answer = oneshot::Sender<Result<Acknowledged, StoreError>>;
