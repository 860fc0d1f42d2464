//! Group commit: changes that arrive while others are being made durable are made durable together.
//!
//! Whoever finds nobody at work leads: it takes what waits, stamps it, writes it, waits for the disk, and answers everyone.
//! A lone caller therefore commits on its own thread without meeting anybody. Changes that arrive meanwhile are led by the
//! store's own thread, so that no caller works for others without end. Nothing is answered before it is durable. A commit
//! that panics ends neither leading nor waiting: its changes are refused with [`StoreError::Interrupted`].

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::change::{self, Acknowledged, Change};
use super::journal::change::encode;
use super::journal::writer::CommitError;
use super::limits::{BATCH_BYTES, BATCH_MAX, QUEUE_MAX};
use super::round::Edit;
use super::standing::{ReadOnlyReason, Standing, StoreError};
use super::state::State;
use super::store::{Acknowledge, Answer, Core, Store, locked};
use crate::policy::contract::Pending;

/// Changes that wait to be committed.
#[derive(Default)]
pub(super) struct Queue {
    waiting: VecDeque<(Change, Answer)>,
    /// How many changes the last commit made durable, and how long it took.
    last: (usize, Duration),
    /// Whether someone is at work on it.
    led: bool,
    closed: bool,
    thread: Option<JoinHandle<()>>,
}

type Answers = Vec<Result<Acknowledged, StoreError>>;

/// The right to commit what waits: one holder at a time. Dropping it, also by a panic, leaves what came meanwhile to the
/// store's own thread.
struct Lead<'a>(&'a Arc<Store>);

impl<'a> Lead<'a> {
    /// Leads, unless another thread does.
    fn take(store: &'a Arc<Store>, queue: &mut Queue) -> Option<Self> {
        let led = std::mem::replace(&mut queue.led, true);
        (!led).then(|| Self(store))
    }

    /// Commits one batch. False if nothing waited.
    fn commit_batch(&self) -> bool {
        let store = self.0;
        let batch: Vec<(Change, Answer)> = {
            let mut queue = locked(&store.queue);
            let mut bytes = 0;
            let fits = |(change, _): &(Change, Answer)| {
                let fits = bytes < BATCH_BYTES;
                bytes += change.bytes();
                fits
            };
            let count = queue.waiting.iter().take(BATCH_MAX).map(fits).take_while(|fits| *fits).count();
            queue.waiting.drain(..count).collect()
        };
        if batch.is_empty() {
            return false;
        }
        let began = Instant::now();
        let (changes, answers): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        // No lock is held here, and those that a panic leaves are taken over: nothing that it could break is trusted.
        let results = catch_unwind(AssertUnwindSafe(|| store.commit(&changes)));
        let results = results.unwrap_or_else(|_| store.interrupted(changes.len()));
        locked(&store.queue).last = (changes.len(), began.elapsed());
        for (answer, result) in answers.into_iter().zip(results) {
            // Who does not wait any more has its change all the same.
            let _ = answer.send(result);
        }
        true
    }
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        let mut queue = locked(&self.0.queue);
        queue.led = false;
        if queue.closed {
            // Closing waits for this, and commits what is left.
            self.0.work.notify_all();
        } else if !queue.waiting.is_empty() {
            self.0.wake_thread(&mut queue);
        }
    }
}

impl Store {
    /// Commits a change, on this thread if nobody else is at it.
    pub(super) fn commit_here(self: &Arc<Self>, change: Change) -> Result<Acknowledged, StoreError> {
        let (answer, mut answered) = oneshot::channel();
        if let Some(lead) = self.queue_up(change, answer)? {
            lead.commit_batch();
        }
        match answered.try_recv() {
            Ok(result) => result,
            Err(_) => answered.blocking_recv().unwrap_or(Err(StoreError::Interrupted)),
        }
    }

    /// Commits changes, on this thread if nobody else is at it: together, as far as one batch goes.
    pub(super) fn commit_all_here(self: &Arc<Self>, changes: Vec<Change>) -> Answers {
        let rounds = changes.len().div_ceil(BATCH_MAX);
        let (answered, lead) = {
            let mut queue = locked(&self.queue);
            let queue_up = |change| {
                let (answer, answered) = oneshot::channel();
                if let Err((error, answer)) = queue.push(change, answer) {
                    // The receiver is ours.
                    let _ = answer.send(Err(error));
                }
                answered
            };
            let answered: Vec<_> = changes.into_iter().map(queue_up).collect();
            let lead = if queue.waiting.is_empty() { None } else { Lead::take(self, &mut queue) };
            (answered, lead)
        };
        if let Some(lead) = lead {
            for _ in 0..rounds {
                lead.commit_batch();
            }
        }
        let wait = |mut answered: oneshot::Receiver<_>| match answered.try_recv() {
            Ok(result) => result,
            Err(_) => answered.blocking_recv().unwrap_or(Err(StoreError::Interrupted)),
        };
        answered.into_iter().map(wait).collect()
    }

    /// Commits a change on the store's own thread.
    pub(super) fn commit_there(
        self: &Arc<Self>,
        change: Change,
    ) -> oneshot::Receiver<Result<Acknowledged, StoreError>> {
        let (answer, answered) = oneshot::channel();
        let mut queue = locked(&self.queue);
        if let Err((error, answer)) = queue.push(change, answer) {
            // The receiver is ours.
            let _ = answer.send(Err(error));
            return answered;
        }
        if !queue.led {
            self.wake_thread(&mut queue);
        }
        answered
    }

    /// Puts a change into the queue. The caller leads if no other thread does.
    fn queue_up(self: &Arc<Self>, change: Change, answer: Answer) -> Result<Option<Lead<'_>>, StoreError> {
        let mut queue = locked(&self.queue);
        queue.push(change, answer).map_err(|(error, _)| error)?;
        Ok(Lead::take(self, &mut queue))
    }

    fn wake_thread(self: &Arc<Self>, queue: &mut Queue) {
        if queue.thread.is_none() && !queue.closed {
            let store = Arc::downgrade(self);
            let spawned = std::thread::Builder::new().name("registry".to_owned()).spawn(move || {
                while let Some(store) = store.upgrade() {
                    if !store.lead_until_idle() {
                        return;
                    }
                }
            });
            match spawned {
                Ok(thread) => queue.thread = Some(thread),
                Err(error) => {
                    // Without a thread nobody would answer.
                    let kind = error.kind();
                    for (_, answer) in queue.waiting.drain(..) {
                        let _ = answer.send(Err(StoreError::Disk(kind.into())));
                    }
                }
            }
        }
        self.work.notify_one();
    }

    /// The store's own thread: leads when nobody does and something waits. False once the store is closed.
    fn lead_until_idle(self: &Arc<Self>) -> bool {
        let mut queue = locked(&self.queue);
        let lead = if queue.waiting.is_empty() { None } else { Lead::take(self, &mut queue) };
        let Some(lead) = lead else {
            if queue.closed {
                return false;
            }
            // Woken up again now and then, to notice that the store is gone.
            drop(self.work.wait_timeout(queue, THREAD_LOOKS_UP));
            return true;
        };
        drop(queue);
        while lead.commit_batch() {
            self.gather();
        }
        true
    }

    /// Lets those who were just answered ask again, for a fraction of what a commit takes: who comes a moment too late waits
    /// for a whole commit, and so does everyone after him. A lone caller is never waited for.
    fn gather(&self) {
        let (wanted, patience) = {
            let queue = locked(&self.queue);
            (queue.last.0.min(BATCH_MAX), queue.last.1.min(GATHERED_MAX) / GATHERED_SHARE)
        };
        if wanted < 2 {
            return;
        }
        let began = Instant::now();
        while locked(&self.queue).waiting.len() < wanted && began.elapsed() < patience {
            std::thread::yield_now();
        }
    }

    /// Makes changes durable, and answers each.
    fn commit(&self, changes: &[Change]) -> Answers {
        let answers = match self.options.acknowledge {
            Acknowledge::Snapshot => self.commit_to_document(changes),
            Acknowledge::Journal => self.commit_to_journal(changes),
        };
        let made = answers.iter().filter(|answer| answer.is_ok()).count();
        self.counts.changes.fetch_add(made as u64, Ordering::Relaxed);
        answers
    }

    /// A commit panicked. What it wrote of its last segment is unknown, so nothing is written after it there; what was
    /// acknowledged before stays in it until the document holds it.
    fn interrupted(&self, count: usize) -> Answers {
        tracing::error!(changes = count, "a commit of the registry was cut off by a panic");
        let mut core = locked(&self.core);
        core.journal.give_up();
        core.wants_settle = true;
        repeated(StoreError::Interrupted, count)
    }

    /// Makes changes durable in the document.
    fn commit_to_document(&self, changes: &[Change]) -> Answers {
        let mut answers = Vec::new();
        let settled = self.settle(Edit::Changes { changes, answers: &mut answers });
        match settled {
            Ok(()) => answers,
            // Perhaps after the document was replaced, and before that was known to be durable.
            Err(StoreError::Disk(error)) => {
                repeated(StoreError::Unacknowledged(ReadOnlyReason::disk(&error)), changes.len())
            }
            Err(error) => repeated(error, changes.len()),
        }
    }

    /// Makes changes durable in the journal.
    fn commit_to_journal(&self, changes: &[Change]) -> Answers {
        // Every stamp is above what anybody was told before.
        if let Err(error) = self.observe() {
            return repeated(error, changes.len());
        }
        let mut core = locked(&self.core);
        if changes.iter().any(|change| core.is_edited(change.name())) {
            // The edit by hand has no stamp yet; a change of the same name that follows it must be above it.
            drop(core);
            if let Err(error) = self.settle(Edit::None) {
                return repeated(error, changes.len());
            }
            core = locked(&self.core);
        }
        if let Standing::ReadOnly { reason, .. } = &core.standing {
            return changes.iter().map(|_| Err(StoreError::ReadOnly(reason.clone()))).collect();
        }
        if !core.journal.is_ready() {
            drop(core);
            if let Err(error) = self.prepare_segment() {
                let mut core = locked(&self.core);
                let reason = ReadOnlyReason::disk(&error);
                self.degrade(&mut core, reason.clone());
                return changes.iter().map(|_| Err(StoreError::ReadOnly(reason.clone()))).collect();
            }
            core = locked(&self.core);
        }
        let mut state = core.state.clone();
        let mut payloads = Vec::with_capacity(changes.len());
        let mut answers: Answers = Vec::with_capacity(changes.len());
        let mut rest = changes;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(change::different_names(rest));
            for applied in change::apply_all(run, &mut core.judge, &mut state) {
                answers.push(applied.map(|applied| {
                    let known = applied.name.as_deref().and_then(|name| state.get(name));
                    payloads.extend(known.map(|known| encode(known)));
                    applied.acknowledged
                }));
            }
            rest = after;
        }
        if payloads.is_empty() {
            return answers;
        }
        match core.journal.commit(&payloads) {
            Ok(_) => {
                self.counts.commits.fetch_add(1, Ordering::Relaxed);
                self.durable(&mut core, state, &payloads);
            }
            Err(CommitError::NoSegment) => return repeated(StoreError::Busy, changes.len()),
            Err(CommitError::Failed(error)) => {
                // Whether it is durable is unknown, and asking that file again would not tell.
                let reason = ReadOnlyReason::disk(&error);
                drop(core);
                return self.rescue(state, answers, reason);
            }
        }
        let through = self.options.write_through && self.flush_due(&core).is_some_and(|wait| wait == 0);
        drop(core);
        if through && let Err(error) = self.settle(Edit::None) {
            tracing::warn!(%error, "the change is durable in the journal, and not yet in the document");
        }
        answers
    }

    /// Takes over a state whose changes are durable.
    fn durable(&self, core: &mut Core, state: State, payloads: &[Vec<u8>]) {
        core.state = state;
        core.waiting.changes = core.waiting.changes.saturating_add(u32::try_from(payloads.len()).unwrap_or(u32::MAX));
        core.waiting.bytes += payloads.iter().map(|payload| payload.len() as u64).sum::<u64>();
        let now = self.boot();
        core.waiting.oldest.get_or_insert(now);
        self.publish(core);
    }

    /// After the journal failed: everything from memory into a new document, once (reliability.md 3.4).
    fn rescue(&self, state: State, answers: Answers, reason: ReadOnlyReason) -> Answers {
        let rescued = self.settle(Edit::Join(&state));
        let renewed = rescued.and_then(|()| self.prepare_segment().map_err(StoreError::Disk));
        match renewed {
            Ok(()) => {
                tracing::warn!(%reason, "the journal failed, and everything was written to the document instead");
                answers
            }
            Err(error) => {
                tracing::error!(%error, "the document can not be written either");
                self.degrade(&mut locked(&self.core), reason.clone());
                let count = answers.len();
                let refused = answers.into_iter().map(|answer| match answer {
                    Ok(_) => Err(StoreError::Unacknowledged(reason.clone())),
                    refused => refused,
                });
                let refused: Answers = refused.collect();
                debug_assert_eq!(refused.len(), count);
                refused
            }
        }
    }

    /// How long what waits may wait for the document, in milliseconds; none if nothing does.
    pub(super) fn flush_due(&self, core: &Core) -> Option<u64> {
        let oldest = core.waiting.oldest?;
        let pending = Pending {
            changes: core.waiting.changes,
            bytes: core.waiting.bytes,
            oldest_ms: crate::model::milliseconds(self.boot().since(oldest)),
            batch_ms: crate::model::milliseconds(self.options.batch),
            closing: false,
            write_through: self.options.write_through,
        };
        // Without a decision it is written now: that is never wrong.
        Some(core.judge.flush_after(pending).unwrap_or(0))
    }

    /// Takes no more changes, and ends the store's thread once those that wait are answered.
    pub(super) fn close_queue(self: &Arc<Self>) {
        let thread = {
            let mut queue = locked(&self.queue);
            queue.closed = true;
            queue.thread.take()
        };
        self.work.notify_all();
        if let Some(thread) = thread
            && thread.thread().id() != std::thread::current().id()
        {
            // If it panicked, what it had in hand was answered by the fall of its sender; the rest is committed below.
            let _ = thread.join();
        }
        loop {
            let mut queue = locked(&self.queue);
            let Some(lead) = Lead::take(self, &mut queue) else {
                // A caller commits on its own thread; what it acknowledges is to be in the document too.
                drop(self.work.wait_timeout(queue, THREAD_LOOKS_UP));
                continue;
            };
            drop(queue);
            if !lead.commit_batch() {
                return;
            }
        }
    }
}

/// Which part of a commit's time is spent on letting more changes come, and the longest commit that counts.
const GATHERED_SHARE: u32 = 4;
/// The longest commit that counts for [`GATHERED_SHARE`].
const GATHERED_MAX: Duration = Duration::from_millis(2);

/// How often the store's thread looks up although nobody woke it.
const THREAD_LOOKS_UP: Duration = Duration::from_secs(1);

impl Queue {
    fn push(&mut self, change: Change, answer: Answer) -> Result<(), (StoreError, Answer)> {
        if self.closed {
            return Err((StoreError::Closed, answer));
        }
        if self.waiting.len() >= QUEUE_MAX {
            return Err((StoreError::Busy, answer));
        }
        self.waiting.push_back((change, answer));
        Ok(())
    }
}

/// The same error for everyone: the first gets it as it is, the others what it comes to.
fn repeated(error: StoreError, count: usize) -> Answers {
    let mut answers: Answers = (1..count).map(|_| Err(error.again())).collect();
    answers.push(Err(error));
    answers
}
