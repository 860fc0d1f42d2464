//! What is kept, what stands, and what is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;

use super::inbox::Order;
use super::stamped::load;
use super::*;
use crate::edge::Edge;
use crate::edge::clock::VirtualClock;
use crate::edge::entropy::VirtualEntropy;
use crate::edge::files::{AppendFile, LockGuard, MemoryDirectory};
use crate::edge::state::{self, Body, own_file};
use crate::edge::virtual_network::VirtualNetwork;
use crate::model::WallMs;
use crate::policy::{KeepRecords, PolicyComponent, PolicyMetrics};
use crate::service_map::RECORD_NAME;

/// A directory where some records cannot be written, one write panics, and writes wait while it is held.
#[derive(Default)]
struct Faulty {
    inner: MemoryDirectory,
    faults: Arc<Faults>,
}

#[derive(Default)]
struct Faults {
    /// Writes that hold one of these texts fail.
    refused: Mutex<BTreeSet<String>>,
    /// The next write that holds this text panics.
    panics: Mutex<Option<String>>,
    /// Whether syncs and truncations of growing files fail.
    is_unsynced: AtomicBool,
    held: Mutex<()>,
    writes: AtomicUsize,
}

impl Faults {
    fn check(&self, bytes: &[u8]) -> io::Result<()> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        drop(self.held.lock().unwrap());
        let text = String::from_utf8_lossy(bytes);
        let panics = self.panics.lock().unwrap().take_if(|chosen| text.contains(&**chosen)).is_some();
        assert!(!panics, "planned");
        if self.refused.lock().unwrap().iter().any(|refused| text.contains(refused)) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    fn check_sync(&self) -> io::Result<()> {
        if self.is_unsynced.load(Ordering::SeqCst) { Err(io::Error::other("planned")) } else { Ok(()) }
    }
}

/// A growing file of it.
struct FaultyFile {
    inner: Box<dyn AppendFile>,
    faults: Arc<Faults>,
}

impl AppendFile for FaultyFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.faults.check(bytes)?;
        self.inner.append(bytes)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        self.faults.check_sync()?;
        self.inner.truncate(length)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.faults.check_sync()?;
        self.inner.sync()
    }
}

impl Directory for Faulty {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.inner.read(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.faults.check(bytes)?;
        self.inner.replace(name, bytes)
    }

    fn persist(&self, name: &str) -> io::Result<()> {
        self.inner.persist(name)
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
        Ok(Box::new(FaultyFile { inner: self.inner.create(name)?, faults: self.faults.clone() }))
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        self.inner.try_lock(name)
    }
}

fn policy() -> Arc<Policy> {
    recording(Arc::new(KeepRecords::new(1_000)))
}

fn recording(sink: Arc<KeepRecords>) -> Arc<Policy> {
    let component = Arc::new(PolicyComponent::embedded().unwrap());
    let edge = Edge {
        clock: Arc::new(VirtualClock::starting_at(WallMs(1_767_225_600_000))),
        entropy: Arc::new(VirtualEntropy::from_number(7)),
        http: Arc::new(VirtualNetwork::new()),
    };
    Arc::new(Policy::new(component.clone(), component, edge, sink, PolicyMetrics::default()))
}

fn started(policy: &Arc<Policy>, directory: Arc<dyn Directory>, writer: &str) -> Started {
    start(policy.clone(), StateMetrics::default(), directory, writer.to_owned()).unwrap()
}

fn record(text: &'static str) -> StateRecord {
    StateRecord::new(&"header", Bytes::from_static(text.as_bytes())).unwrap()
}

/// What the directory holds, by name.
fn kept(directory: &Arc<dyn Directory>) -> BTreeMap<String, Bytes> {
    let loaded = load(directory, false).unwrap();
    loaded.records.into_iter().map(|(name, _, record)| (name, record.body.bytes())).collect()
}

/// The same directory.
fn shared(directory: &MemoryDirectory) -> Arc<dyn Directory> {
    Arc::new(directory.clone())
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
    let kept = kept(&shared(&directory));
    assert_eq!((&kept["older"][..], &kept["newer"][..]), (&b"of the writer"[..], &b"of the follower"[..]));
    second.keep("older", record("changed again"));
    seconds(1).await;
    assert_eq!(&self::kept(&shared(&directory))["older"][..], b"changed again");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_written_is_no_failure_of_another() {
    let directory = Arc::new(Faulty::default());
    let faults = directory.faults.clone();
    faults.refused.lock().unwrap().insert("bad".to_owned());
    let directory: Arc<dyn Directory> = directory;
    let writer = started(&policy(), directory.clone(), "a").writer;
    assert!(writer.keep_now("bad", record("x")).await.is_err());
    assert!(writer.keep_now("good", record("x")).await.is_ok());
    assert_eq!(writer.role(), StateRole::Failing);
    faults.refused.lock().unwrap().clear();
    seconds(3).await;
    assert_eq!((writer.role(), kept(&directory).len()), (StateRole::Writer, 2));
}

#[tokio::test(start_paused = true)]
async fn a_change_after_a_failure_waits_for_the_policys_time_and_delays_no_retry() {
    let directory = Arc::new(Faulty::default());
    let faults = directory.faults.clone();
    faults.refused.lock().unwrap().insert("bad".to_owned());
    let directory: Arc<dyn Directory> = directory;
    let writer = started(&policy(), directory.clone(), "a").writer;
    assert!(writer.keep_now("bad", record("x")).await.is_err());
    writer.keep("good", record("x"));
    tokio::time::sleep(2 * BATCH).await;
    assert_eq!(kept(&directory).into_keys().collect::<Vec<_>>(), ["good"]);
    faults.refused.lock().unwrap().clear();
    seconds(2).await;
    assert_eq!((writer.role(), kept(&directory).len()), (StateRole::Writer, 2));
}

#[tokio::test(start_paused = true)]
async fn a_removal_outlasts_a_record_whose_sync_and_truncation_failed() {
    let directory = Arc::new(Faulty::default());
    let faults = directory.faults.clone();
    let directory: Arc<dyn Directory> = directory;
    let writer = started(&policy(), directory.clone(), "a").writer;
    writer.keep_now("first", record("x")).await.unwrap();
    faults.is_unsynced.store(true, Ordering::SeqCst);
    assert!(writer.keep_now("gone", record("x")).await.is_err());
    assert!(kept(&directory).contains_key("gone"), "it is in the log, and not acknowledged");
    faults.is_unsynced.store(false, Ordering::SeqCst);
    writer.forget("gone");
    seconds(3).await;
    assert_eq!(kept(&directory).into_keys().collect::<Vec<_>>(), ["first"]);
}

#[tokio::test(start_paused = true)]
async fn a_compaction_that_panics_stops_no_write_and_leaves_no_copy() {
    let directory = Arc::new(Faulty::default());
    let faults = directory.faults.clone();
    let directory: Arc<dyn Directory> = directory;
    // As many logs as there may be: the next one makes a compaction due.
    for _ in 0..8 {
        let writer = started(&policy(), directory.clone(), "a").writer;
        writer.keep_now("one", record("x")).await.unwrap();
        writer.close().await;
    }
    let before = directory.names().unwrap();
    *faults.panics.lock().unwrap() = Some(" one\n".to_owned());
    let writer = started(&policy(), directory.clone(), "a").writer;
    writer.keep_now("two", record("x")).await.unwrap();
    // Virtual time stands still while the compaction runs.
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(faults.panics.lock().unwrap().is_none(), "it copies the first record");
    writer.keep_now("three", record("x")).await.unwrap();
    writer.close().await;
    // The log that there was when it began, the next one, and nothing of the copy, whose generation lies between the two.
    let mut names = directory.names().unwrap();
    names.retain(|name| !before.contains(name));
    assert_eq!(names, ["lists-11.log", "lists-9.log"]);
    assert_eq!(kept(&directory).len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_record_whose_header_is_no_json_is_dropped_and_the_others_are_written() {
    let directory = MemoryDirectory::new();
    let writer = started(&policy(), Arc::new(directory.clone()), "a").writer;
    writer.keep("a", record("x"));
    writer.keep("z", record("x"));
    let broken = StateRecord { header: "{".to_owned(), body: Body::default() };
    assert!(writer.keep_now("broken", broken).await.is_err());
    assert_eq!(kept(&shared(&directory)).into_keys().collect::<Vec<_>>(), ["a", "z"]);
    assert_eq!(writer.role(), StateRole::Writer);
}

#[tokio::test(start_paused = true)]
async fn what_was_pending_when_the_writing_was_cut_off_is_written_later() {
    let directory = Arc::new(Faulty::default());
    *directory.faults.panics.lock().unwrap() = Some(" one\n".to_owned());
    let directory: Arc<dyn Directory> = directory;
    let writer = started(&policy(), directory.clone(), "a").writer;
    writer.keep("two", record("x"));
    assert!(writer.keep_now("one", record("x")).await.is_err());
    assert_eq!(writer.role(), StateRole::Failing);
    seconds(3).await;
    assert_eq!((writer.role(), kept(&directory).len()), (StateRole::Writer, 2));
}

/// Writes a record without the stamp that it should have.
fn write_unstamped(directory: &Arc<dyn Directory>, name: &str, text: &'static str) {
    let (mut store, _) = state::StateStore::open(directory.clone(), &[RECORD_NAME]).unwrap();
    store.commit(vec![(name.to_owned(), Change::Record(record(text)))]);
}

#[tokio::test(start_paused = true)]
async fn unstamped_records_are_quarantined_by_the_leader_only() {
    for (name, file) in [("odd", "lists-1.log".to_owned()), (RECORD_NAME, own_file(RECORD_NAME))] {
        let directory = MemoryDirectory::new();
        let shared = shared(&directory);
        write_unstamped(&shared, name, "without a stamp");
        let content = directory.read(&file).unwrap().unwrap();
        let held = directory.try_lock(LOCK).unwrap();
        let policy = policy();
        let follower = started(&policy, shared.clone(), "b").writer;
        follower.keep(name, record("new"));
        seconds(1).await;
        assert_eq!(directory.names().unwrap(), std::slice::from_ref(&file));
        drop(held);
        seconds(3).await;
        let names = directory.names().unwrap();
        let quarantined = names.iter().find(|name| name.starts_with(&file) && name.ends_with(".damaged"));
        assert_eq!(directory.read(quarantined.unwrap()).unwrap(), Some(content), "{names:?}");
        assert_eq!(&kept(&shared)[name][..], b"new");
        follower.close().await;
        let saved = started(&policy, shared, "c").saved;
        assert_eq!((saved.len(), directory.names().unwrap().len()), (1, names.len()));
    }
}

/// How often the policy was asked for `function`.
fn asked(records: &KeepRecords, function: &str) -> usize {
    let records = serde_json::to_value(records.records()).unwrap();
    records.as_array().unwrap().iter().filter(|record| record.to_string().contains(function)).count()
}

#[tokio::test(start_paused = true)]
async fn the_policy_is_asked_once_for_a_stamp_of_a_batch_and_when_what_waits_doubles() {
    let records = Arc::new(KeepRecords::new(1_000));
    let writer = started(&recording(records.clone()), Arc::new(MemoryDirectory::new()), "a").writer;
    for number in 0..500 {
        writer.keep(&number.to_string(), record("x"));
    }
    seconds(1).await;
    let first = (asked(&records, "stamp"), asked(&records, "flush"));
    for number in 0..64 {
        writer.keep(&number.to_string(), record("y"));
        tokio::task::yield_now().await;
    }
    seconds(1).await;
    let later = (asked(&records, "stamp") - first.0, asked(&records, "flush") - first.1);
    assert_eq!(first, (1, 1));
    assert!(later.0 <= 64 && later.1 <= 7, "{later:?}");
}

#[allow(clippy::await_holding_lock, reason = "the guard is what makes the directory slow")]
mod slow_directory {
    use super::*;

    /// A writer in the middle of a write that does not end before `held` is dropped.
    async fn writing(directory: &Arc<Faulty>) -> StateWriter {
        let writer = started(&policy(), directory.clone(), "a").writer;
        let first = writer.keep_now("first", record("x"));
        while directory.faults.writes.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
        drop(first);
        writer
    }

    #[tokio::test(start_paused = true)]
    async fn drops_nothing_that_was_handed_in() {
        let directory = Arc::new(Faulty::default());
        let held = directory.faults.held.lock().unwrap();
        let writer = writing(&directory).await;
        let body = |number: usize| StateRecord::new(&"header", Bytes::from(number.to_string())).unwrap();
        for number in 0..=5_000 {
            writer.keep("often", body(number));
        }
        writer.keep("once", record("x"));
        writer.forget("first");
        drop(held);
        seconds(1).await;
        let kept = kept(&(directory.clone() as Arc<dyn Directory>));
        assert_eq!(kept.keys().collect::<Vec<_>>(), ["often", "once"]);
        assert_eq!(&kept["often"][..], b"5000", "the latest");
        assert!(directory.faults.writes.load(Ordering::SeqCst) <= 4, "what was replaced is not written");
    }

    #[tokio::test(start_paused = true)]
    async fn answers_those_that_wait_for_a_record_that_was_replaced() {
        let directory = Arc::new(Faulty::default());
        let held = directory.faults.held.lock().unwrap();
        let writer = writing(&directory).await;
        let waiting = [writer.keep_now("one", record("former")), writer.keep_now("one", record("latter"))];
        drop(held);
        for written in waiting {
            written.await.unwrap();
        }
        assert_eq!(&kept(&(directory.clone() as Arc<dyn Directory>))["one"][..], b"latter");
    }
}

#[tokio::test(start_paused = true)]
async fn after_its_end_nothing_is_taken_and_no_caller_waits() {
    let directory = MemoryDirectory::new();
    let Started { writer, task, .. } = started(&policy(), Arc::new(directory.clone()), "a");
    writer.keep("last", record("x"));
    tokio::join!(writer.close(), writer.close());
    assert!(writer.keep_now("late", record("x")).await.is_err());
    writer.close().await;
    task.await.unwrap();
    assert_eq!(kept(&shared(&directory)).into_keys().collect::<Vec<_>>(), ["last"]);
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
    let taken = futures_util::FutureExt::now_or_never(inbox.next());
    assert!(matches!(taken, Some(Order::Changes(changes)) if changes.len() == 65_536 + 1));
}
