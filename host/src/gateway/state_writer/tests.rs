//! What is kept, what stands, and what is tried again.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::*;
use crate::edge::Edge;
use crate::edge::clock::VirtualClock;
use crate::edge::entropy::VirtualEntropy;
use crate::edge::files::{AppendFile, MemoryDirectory};
use crate::edge::virtual_network::VirtualNetwork;
use crate::model::WallMs;
use crate::policy::{KeepRecords, PolicyComponent};

/// A directory where some files can not be written, one write panics, and writes wait while it is held.
#[derive(Default)]
struct Faulty {
    inner: MemoryDirectory,
    refused: Mutex<BTreeSet<String>>,
    panics: Mutex<Option<String>>,
    held: Mutex<()>,
    writes: AtomicUsize,
}

impl Directory for Faulty {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        drop(self.held.lock().unwrap());
        let panics = self.panics.lock().unwrap().take_if(|chosen| chosen == name).is_some();
        assert!(!panics, "as told");
        if self.refused.lock().unwrap().contains(name) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        self.inner.replace(name, bytes)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        self.inner.create(name)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        self.inner.try_lock(name)
    }
}

fn policy() -> Arc<Policy> {
    let component = Arc::new(PolicyComponent::embedded().unwrap());
    let edge = Edge {
        clock: Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000))),
        entropy: Arc::new(VirtualEntropy::from_number(7)),
        http: Arc::new(VirtualNetwork::new()),
    };
    let sink = Arc::new(KeepRecords::new(1_000));
    Arc::new(Policy::new(component.clone(), component, edge, sink, Arc::new(Metrics::new())))
}

fn started(policy: &Arc<Policy>, directory: Arc<dyn Directory>, writer: &str) -> Started {
    start(policy.clone(), Arc::new(Metrics::new()), directory, writer.to_owned()).unwrap()
}

fn record(text: &'static str) -> StateRecord {
    StateRecord::new(&"header", Bytes::from_static(text.as_bytes())).unwrap()
}

/// What the directory holds, by name.
fn kept(directory: &dyn Directory) -> BTreeMap<String, Bytes> {
    read_saved(directory, false).unwrap().into_iter().map(|(name, _, record)| (name, record.body)).collect()
}

async fn seconds(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

#[tokio::test(start_paused = true)]
async fn a_follower_takes_over_as_soon_when_it_is_busy_as_when_it_is_idle() {
    let directory = MemoryDirectory::new();
    let held = directory.try_lock(LOCK).unwrap();
    let follower = started(&policy(), Arc::new(directory), "b").writer;
    assert_eq!(follower.role(), StateRole::Follower);
    drop(held);
    for _ in 0..30 {
        follower.keep("busy", record("x"));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(follower.role(), StateRole::Writer);
}

#[tokio::test(start_paused = true)]
async fn what_the_former_writer_wrote_later_than_ours_was_handed_in_stands() {
    let (policy, directory) = (policy(), MemoryDirectory::new());
    let first = started(&policy, Arc::new(directory.clone()), "a").writer;
    first.keep("both", record("first"));
    seconds(1).await;
    let second = started(&policy, Arc::new(directory.clone()), "b").writer;
    second.keep("older", record("of the follower"));
    first.keep("newer", record("of the writer"));
    seconds(1).await;
    first.keep("older", record("of the writer"));
    second.keep("newer", record("of the follower"));
    seconds(1).await;
    first.close().await;
    seconds(5).await;
    assert_eq!(second.role(), StateRole::Writer);
    let kept = kept(&directory);
    assert_eq!((&kept["older"][..], &kept["newer"][..]), (&b"of the writer"[..], &b"of the follower"[..]));
    second.keep("older", record("changed again"));
    seconds(1).await;
    assert_eq!(&self::kept(&directory)["older"][..], b"changed again");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_can_not_be_written_is_no_failure_of_another() {
    let directory = Arc::new(Faulty::default());
    directory.refused.lock().unwrap().insert("bad.state".to_owned());
    let writer = started(&policy(), directory.clone(), "a").writer;
    assert!(writer.keep_now("bad", record("x")).await.is_err());
    assert!(writer.keep_now("good", record("x")).await.is_ok());
    assert_eq!(writer.role(), StateRole::Failing);
    directory.refused.lock().unwrap().clear();
    seconds(3).await;
    assert_eq!((writer.role(), kept(&*directory).len()), (StateRole::Writer, 2));
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_header_is_no_json_is_dropped_and_the_others_are_written() {
    let directory = MemoryDirectory::new();
    let writer = started(&policy(), Arc::new(directory.clone()), "a").writer;
    writer.keep("a", record("x"));
    writer.keep("z", record("x"));
    let broken = StateRecord { header: "{".to_owned(), body: Bytes::new() };
    assert!(writer.keep_now("broken", broken).await.is_err());
    assert_eq!(kept(&directory).into_keys().collect::<Vec<_>>(), ["a", "z"]);
    assert_eq!(writer.role(), StateRole::Writer);
}

#[tokio::test(start_paused = true)]
async fn what_was_pending_when_the_writing_was_cut_off_is_written_later() {
    let directory = Arc::new(Faulty::default());
    *directory.panics.lock().unwrap() = Some("one.state".to_owned());
    let writer = started(&policy(), directory.clone(), "a").writer;
    writer.keep("two", record("x"));
    assert!(writer.keep_now("one", record("x")).await.is_err());
    assert_eq!(writer.role(), StateRole::Failing);
    seconds(3).await;
    assert_eq!((writer.role(), kept(&*directory).len()), (StateRole::Writer, 2));
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_stamp_can_not_be_read_is_moved_aside_by_the_writer_and_by_nobody_else() {
    let directory = MemoryDirectory::new();
    let shared: Arc<dyn Directory> = Arc::new(directory.clone());
    state::write_one(&shared, "odd", &record("without a stamp")).unwrap();
    let held = directory.try_lock(LOCK).unwrap();
    let policy = policy();
    let follower = started(&policy, shared.clone(), "b").writer;
    follower.keep("odd", record("new"));
    seconds(1).await;
    assert_eq!(directory.names().unwrap(), ["odd.state"]);
    drop(held);
    seconds(3).await;
    let aside = Damaged::new("odd", &record("without a stamp").encode()).aside();
    assert_eq!(directory.names().unwrap(), [aside, "odd.state".to_owned()]);
    assert_eq!(&kept(&directory)["odd"][..], b"new");
    follower.close().await;

    directory.remove("odd.state").unwrap();
    state::write_one(&shared, "odd", &record("another")).unwrap();
    let saved = started(&policy, shared, "c").saved;
    assert!(saved.is_empty() && directory.names().unwrap().len() == 2);
}

#[allow(clippy::await_holding_lock, reason = "the guard is what makes the directory slow")]
mod slow_directory {
    use super::*;

    /// A writer in the middle of a write that does not end before `held` is dropped.
    async fn writing(directory: &Arc<Faulty>) -> StateWriter {
        let writer = started(&policy(), directory.clone(), "a").writer;
        let first = writer.keep_now("first", record("x"));
        while directory.writes.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        writer
    }

    #[tokio::test(start_paused = true)]
    async fn drops_nothing_that_was_handed_in() {
        let directory = Arc::new(Faulty::default());
        let held = directory.held.lock().unwrap();
        let writer = writing(&directory).await;
        let body = |number: usize| StateRecord::new(&"header", Bytes::from(number.to_string())).unwrap();
        for number in 0..=5_000 {
            writer.keep("often", body(number));
        }
        writer.keep("once", record("x"));
        writer.forget("first");
        drop(held);
        seconds(1).await;
        let kept = kept(&*directory);
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["often", "once"]);
        assert_eq!(&kept["often"][..], b"5000", "the latest");
        assert!(directory.writes.load(Ordering::SeqCst) <= 4, "what was replaced is not written");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_those_that_wait_for_a_record_that_was_replaced() {
        let directory = Arc::new(Faulty::default());
        let held = directory.held.lock().unwrap();
        let writer = writing(&directory).await;
        let waiting = [writer.keep_now("one", record("former")), writer.keep_now("one", record("latter"))];
        drop(held);
        for written in waiting {
            written.await.unwrap();
        }
        assert_eq!(&kept(&*directory)["one"][..], b"latter");
    }
}

#[tokio::test(start_paused = true)]
async fn after_its_end_nothing_is_taken_and_nobody_waits() {
    let directory = MemoryDirectory::new();
    let Started { writer, task, .. } = started(&policy(), Arc::new(directory.clone()), "a");
    writer.keep("last", record("x"));
    tokio::join!(writer.close(), writer.close());
    assert!(writer.keep_now("late", record("x")).await.is_err());
    writer.close().await;
    task.await.unwrap();
    assert_eq!(kept(&directory).into_keys().collect::<Vec<_>>(), ["last"]);
}

#[test]
fn removals_that_wait_are_bounded_and_records_are_not_refused() {
    let (sender, inbox) = inbox::inbox();
    for number in 0..70_000 {
        sender.put(&number.to_string(), Change::Removal, None);
    }
    sender.put("record", Change::Record(record("x")), None);
    sender.put("0", Change::Removal, None);
    drop(sender);
    let mut taken = 0;
    while let Some(Order::Change { .. }) = futures_util::FutureExt::now_or_never(inbox.next()) {
        taken += 1;
    }
    assert_eq!(taken, 65_536 + 1);
}
