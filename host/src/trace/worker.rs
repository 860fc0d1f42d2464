//! A bounded queue, and the thread that empties it: what the trace's writer and the shadow policy have in common.
//!
//! Whoever hands something over never waits for the work: it is taken, or refused at once, and the refused are the caller's
//! to count. What the thread has in hand counts towards the bounds until it is done with. Ending is exact: what is taken
//! before the end is worked off, and after it nothing is taken.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::limits;
use crate::policy::DecisionRecord;

/// How much something takes of a queue; or how much a queue takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Load {
    /// How many there are.
    pub(super) records: usize,
    /// Items of the lists in them.
    pub(super) items: usize,
    /// About how much memory they take.
    pub(super) bytes: usize,
}

impl Load {
    /// That of a decision.
    pub(super) fn of(record: &DecisionRecord) -> Self {
        let items = record.input.items();
        let lists = items.saturating_mul(limits::ITEM_BYTES);
        let bytes = limits::RECORD_BYTES.saturating_add(record.memo_bytes()).saturating_add(lists);
        Self { records: 1, items, bytes }
    }

    /// That of a note of so many bytes.
    pub(super) fn of_note(bytes: usize) -> Self {
        Self { records: 1, items: 0, bytes }
    }

    fn plus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_add(other.records),
            items: self.items.saturating_add(other.items),
            bytes: self.bytes.saturating_add(other.bytes),
        }
    }

    fn minus(self, other: Self) -> Self {
        Self {
            records: self.records.saturating_sub(other.records),
            items: self.items.saturating_sub(other.items),
            bytes: self.bytes.saturating_sub(other.bytes),
        }
    }

    /// Whether a queue that takes this much has room for `more`. Items and bytes may exceed their bound by one record, so
    /// that a large one finds room at all.
    fn has_room_for(self, more: Self, bounds: Self) -> bool {
        self.records < bounds.records
            && (more.items == 0 || self.items <= bounds.items)
            && (more.bytes == 0 || self.bytes <= bounds.bytes)
    }
}

/// What the thread does.
pub(super) trait Work: Send + 'static {
    /// What it is handed.
    type Message: Send + 'static;

    /// How many messages are taken out of the queue at once.
    const BATCH: usize;

    /// Before anything else.
    fn begin(&mut self) {}

    /// Takes a message, in the order in which they were handed over.
    fn take(&mut self, message: Self::Message);

    /// Nothing waits at the moment.
    fn rest(&mut self) {}

    /// It is to end; what still waits comes yet.
    fn closing(&mut self) {}

    /// It was to end, and nothing waits any more.
    fn end(&mut self) {}
}

/// Why a message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// The queue is full.
    Full,
    /// It was told to end.
    Closed,
}

/// A thread and its queue. Dropping it lets the thread end on its own.
pub(super) struct Worker<M> {
    queue: Arc<Queue<M>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

struct Queue<M> {
    bounds: Load,
    state: Mutex<State<M>>,
    /// The thread waits for this: something came in while it slept, or it is to end.
    woken: Condvar,
    /// Whoever waits for the thread's end waits for this.
    ended: Condvar,
}

struct State<M> {
    waiting: VecDeque<(M, Load)>,
    /// Of what waits, and of what is in the thread's hands.
    load: Load,
    asleep: bool,
    closed: bool,
    ended: bool,
}

impl<M: Send + 'static> Worker<M> {
    /// Starts a thread.
    ///
    /// # Errors
    /// If none can be started.
    pub(super) fn start<W: Work<Message = M>>(name: &str, bounds: Load, mut work: W) -> std::io::Result<Self> {
        let state =
            State { waiting: VecDeque::new(), load: Load::default(), asleep: false, closed: false, ended: false };
        let queue = Arc::new(Queue { bounds, state: Mutex::new(state), woken: Condvar::new(), ended: Condvar::new() });
        let end = End(queue.clone());
        let thread = std::thread::Builder::new().name(name.into()).spawn(move || {
            let end = end;
            run(&end.0, &mut work);
        })?;
        Ok(Self { queue, thread: Mutex::new(Some(thread)) })
    }

    /// Hands a message over, if there is room for it.
    ///
    /// # Errors
    /// [`Refused`].
    pub(super) fn offer(&self, message: M, load: Load) -> Result<(), Refused> {
        let state = self.queue.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        if !state.load.has_room_for(load, self.queue.bounds) {
            return Err(Refused::Full);
        }
        self.queue.push(state, message, load);
        Ok(())
    }

    /// Hands a message over, however full the queue is, and wakes the thread. At most `most` of those that are `alike` may
    /// wait: the oldest of them makes room, and is given back.
    ///
    /// # Errors
    /// [`Refused::Closed`].
    pub(super) fn insist(&self, message: M, most: usize, alike: impl Fn(&M) -> bool) -> Result<Option<M>, Refused> {
        let mut state = self.queue.state();
        if state.closed {
            return Err(Refused::Closed);
        }
        let mut replaced = None;
        if state.waiting.iter().filter(|(waiting, _)| alike(waiting)).count() >= most
            && let Some(oldest) = state.waiting.iter().position(|(waiting, _)| alike(waiting))
            && let Some((oldest, load)) = state.waiting.remove(oldest)
        {
            state.load = state.load.minus(load);
            replaced = Some(oldest);
        }
        state.asleep = true;
        self.queue.push(state, message, Load::default());
        Ok(replaced)
    }

    /// Waits until the thread has ended. Blocks.
    pub(super) fn wait_for_end(&self) {
        self.queue.wait_for_end(&AtomicBool::new(false));
    }

    /// Tells the thread to end, and waits for that, but not for longer than `limit`. Whether it has ended.
    ///
    /// The wait for a thread that hangs ends with this call: no runtime has to wait for it any further.
    pub(super) async fn close(&self, limit: Duration) -> bool {
        self.queue.close();
        let wait = Wait { queue: self.queue.clone(), given_up: Arc::default() };
        // In a blocking task, so that a runtime whose clock is paused takes it for the work that it is.
        let ended = tokio::task::spawn_blocking({
            let (queue, given_up) = (self.queue.clone(), wait.given_up.clone());
            move || queue.wait_for_end(&given_up)
        });
        let has_ended = matches!(tokio::time::timeout(limit, ended).await, Ok(Ok(true)));
        drop(wait);
        let thread = if has_ended { self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() } else { None };
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("a thread of the trace panicked");
        }
        has_ended
    }
}

impl<M> Drop for Worker<M> {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// Someone who waits for the end; no more, once this is dropped.
struct Wait<M> {
    queue: Arc<Queue<M>>,
    given_up: Arc<AtomicBool>,
}

impl<M> Drop for Wait<M> {
    fn drop(&mut self) {
        self.given_up.store(true, Ordering::Release);
        // Under the lock: whoever has looked at it before is waiting by now.
        let _state = self.queue.state();
        self.queue.ended.notify_all();
    }
}

/// Tells of the thread's end, however it comes.
struct End<M>(Arc<Queue<M>>);

impl<M> Drop for End<M> {
    fn drop(&mut self) {
        let waiting = {
            let mut state = self.0.state();
            (state.closed, state.ended) = (true, true);
            self.0.ended.notify_all();
            std::mem::take(&mut state.waiting)
        };
        drop(waiting);
    }
}

impl<M> Queue<M> {
    fn state(&self) -> MutexGuard<'_, State<M>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, mut state: MutexGuard<'_, State<M>>, message: M, load: Load) {
        state.load = state.load.plus(load);
        state.waiting.push_back((message, load));
        let asleep = std::mem::take(&mut state.asleep);
        drop(state);
        if asleep {
            self.woken.notify_one();
        }
    }

    fn close(&self) {
        self.state().closed = true;
        self.woken.notify_one();
    }

    /// Takes what waits first, after `done` was done with. Whether it is to end.
    fn take(&self, most: usize, batch: &mut Vec<(M, Load)>, done: Load) -> bool {
        let mut state = self.state();
        state.load = state.load.minus(done);
        let taken = state.waiting.len().min(most);
        batch.extend(state.waiting.drain(..taken));
        state.closed
    }

    /// Waits: a moment after something came in, during which nobody has to wake it; later until it is woken.
    fn rest(&self, idle: Duration) -> Duration {
        let mut state = self.state();
        if !state.waiting.is_empty() || state.closed {
            return idle;
        }
        let is_long = idle >= limits::WRITER_IDLE;
        state.asleep = is_long;
        let rest = if is_long { limits::WRITER_IDLE } else { limits::WRITER_REST };
        let waited = self.woken.wait_timeout(state, rest);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.asleep = false;
        idle.saturating_add(rest)
    }

    fn wait_for_end(&self, given_up: &AtomicBool) -> bool {
        let mut state = self.state();
        while !state.ended && !given_up.load(Ordering::Acquire) {
            state = self.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.ended
    }
}

fn run<W: Work>(queue: &Queue<W::Message>, work: &mut W) {
    work.begin();
    let mut batch = Vec::with_capacity(W::BATCH);
    let (mut done, mut idle, mut is_closing) = (Load::default(), Duration::ZERO, false);
    loop {
        let closed = queue.take(W::BATCH, &mut batch, std::mem::take(&mut done));
        if closed && !is_closing {
            is_closing = true;
            work.closing();
        }
        if batch.is_empty() {
            if closed {
                // Seen together: nothing can have come in between.
                return work.end();
            }
            work.rest();
            idle = queue.rest(idle);
            continue;
        }
        idle = Duration::ZERO;
        for (message, load) in batch.drain(..) {
            done = done.plus(load);
            work.take(message);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    /// Tells what it takes, and takes the next only when it is let.
    struct Slow {
        taken: Sender<u32>,
        next: Receiver<()>,
        ends: Arc<AtomicUsize>,
    }

    impl Work for Slow {
        type Message = u32;
        const BATCH: usize = 1;

        fn take(&mut self, message: u32) {
            self.taken.send(message).unwrap();
            let _ = self.next.recv();
        }

        fn end(&mut self) {
            self.ends.fetch_add(1, Ordering::SeqCst);
        }
    }

    fn slow(bounds: Load) -> (Worker<u32>, Receiver<u32>, Sender<()>, Arc<AtomicUsize>) {
        let (taken, seen) = channel();
        let (next, nexts) = channel();
        let ends = Arc::new(AtomicUsize::new(0));
        let worker = Worker::start("slow", bounds, Slow { taken, next: nexts, ends: ends.clone() }).unwrap();
        (worker, seen, next, ends)
    }

    const WIDE: Load = Load { records: 100, items: 100, bytes: 100 };

    fn load(items: usize, bytes: usize) -> Load {
        Load { records: 1, items, bytes }
    }

    #[test]
    fn records_items_and_bytes_are_bounded_and_what_is_in_hand_counts() {
        for (bounds, each, fit) in [
            (Load { records: 3, ..WIDE }, load(0, 0), 3),
            (Load { items: 10, ..WIDE }, load(4, 0), 3),
            (Load { bytes: 10, ..WIDE }, load(0, 4), 3),
        ] {
            let (worker, seen, next, _) = slow(bounds);
            worker.offer(0, each).unwrap();
            assert_eq!(seen.recv(), Ok(0), "it is in hand, and not done with");
            let taken = (1..10).filter(|number| worker.offer(*number, each).is_ok()).count();
            assert_eq!(taken + 1, fit, "{bounds:?}");
            assert_eq!(worker.offer(10, each), Err(Refused::Full));
            drop(next);
        }
        // What takes none of a bound is taken though that is reached.
        let (worker, seen, next, _) = slow(Load { items: 0, ..WIDE });
        worker.offer(0, load(5, 0)).unwrap();
        assert_eq!(seen.recv(), Ok(0));
        assert_eq!(worker.offer(1, load(1, 0)), Err(Refused::Full));
        assert_eq!(worker.offer(1, load(0, 0)), Ok(()));
        drop(next);
    }

    #[test]
    fn what_is_insisted_on_is_taken_by_a_full_queue_and_the_oldest_alike_makes_room() {
        let (worker, seen, next, _) = slow(Load { records: 2, ..WIDE });
        worker.offer(0, load(0, 0)).unwrap();
        assert_eq!(seen.recv(), Ok(0));
        worker.offer(1, load(0, 0)).unwrap();
        assert_eq!(worker.offer(2, load(0, 0)), Err(Refused::Full));
        let is_large = |number: &u32| *number >= 100;
        assert_eq!(worker.insist(100, 2, is_large), Ok(None));
        assert_eq!(worker.insist(101, 2, is_large), Ok(None));
        assert_eq!(worker.insist(102, 2, is_large), Ok(Some(100)));
        drop(next);
        assert_eq!(seen.iter().take(3).collect::<Vec<_>>(), [1, 101, 102]);
    }

    #[test]
    fn a_worker_that_is_dropped_works_off_what_it_took_and_ends() {
        let (worker, seen, next, ends) = slow(WIDE);
        (0..5).for_each(|number| worker.offer(number, load(0, 0)).unwrap());
        drop(next);
        drop(worker);
        assert_eq!(seen.iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
        assert_eq!(ends.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_runtime_can_end_though_the_thread_hangs() {
        let (worker, seen, next, ends) = slow(WIDE);
        worker.offer(0, load(0, 0)).unwrap();
        assert_eq!(seen.recv(), Ok(0));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let limit = limits::CLOSE_TIMEOUT;
        let ended = runtime.block_on(async {
            let closing = worker.close(limit);
            let (ended, ()) = tokio::join!(closing, tokio::time::advance(limit + Duration::from_millis(1)));
            ended
        });
        assert!(!ended);
        assert_eq!(worker.offer(1, load(0, 0)), Err(Refused::Closed));
        // This would wait for every blocking task.
        drop(runtime);
        assert_eq!(ends.load(Ordering::SeqCst), 0, "it still hangs");
        next.send(()).unwrap();
        worker.wait_for_end();
        assert_eq!(ends.load(Ordering::SeqCst), 1);
        // A future that is dropped before its time leaves nothing behind either.
        let (worker, seen, next, _) = slow(WIDE);
        worker.offer(0, load(0, 0)).unwrap();
        assert_eq!(seen.recv(), Ok(0));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let worker = Arc::new(worker);
        let closing = runtime.spawn({
            let worker = worker.clone();
            async move { worker.close(Duration::from_secs(3_600)).await }
        });
        while !worker.queue.state().closed {
            std::thread::yield_now();
        }
        drop(runtime);
        drop((closing, next));
        worker.wait_for_end();
    }

    #[test]
    fn a_panic_ends_it_and_nobody_waits_for_ever() {
        struct Panics;
        impl Work for Panics {
            type Message = std::sync::mpsc::SyncSender<()>;
            const BATCH: usize = 8;
            fn take(&mut self, _message: Self::Message) {
                panic!("as told");
            }
        }
        let worker = Worker::start("panics", WIDE, Panics).unwrap();
        let (done, flushed) = std::sync::mpsc::sync_channel(1);
        let _ = worker.offer(done.clone(), load(0, 0));
        let _ = worker.offer(done, load(0, 0));
        assert!(flushed.recv().is_err());
        worker.wait_for_end();
        let (done, _) = std::sync::mpsc::sync_channel(1);
        assert_eq!(worker.offer(done, load(0, 0)), Err(Refused::Closed));
    }
}
