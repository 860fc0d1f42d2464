//! The defects of the seeds' registry (cortex-contracts.md 7, R1 to R16), each as the behaviour that it must not have.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::*;
use crate::edge::disk::{DiskFile, DiskLook};

/// A folder where something happens before a document is swapped into its place, and where writing can fail.
struct Eventful {
    inner: MemoryDisk,
    before_exchange: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    full: AtomicBool,
    exchanges: AtomicUsize,
}

impl Eventful {
    fn on(disk: &MemoryDisk) -> Arc<Self> {
        let (before_exchange, full) = (Mutex::default(), AtomicBool::new(false));
        Arc::new(Self { inner: disk.clone(), before_exchange, full, exchanges: AtomicUsize::new(0) })
    }

    fn when_exchanged(&self, event: impl FnOnce() + Send + 'static) {
        *self.before_exchange.lock().unwrap() = Some(Box::new(event));
    }
}

impl Disk for Eventful {
    fn open(&self, name: &str) -> io::Result<Option<Box<dyn DiskFile>>> {
        self.inner.open(name)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn DiskFile>> {
        if self.full.load(Ordering::SeqCst) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.inner.create(name)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.rename(from, to)
    }

    fn exchange(&self, one: &str, other: &str) -> io::Result<()> {
        let event = self.before_exchange.lock().unwrap().take();
        if let Some(event) = event {
            event();
        }
        self.exchanges.fetch_add(1, Ordering::SeqCst);
        self.inner.exchange(one, other)
    }

    fn link(&self, from: &str, to: &str) -> io::Result<()> {
        self.inner.link(from, to)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.inner.remove(name)
    }

    fn sync(&self) -> io::Result<()> {
        self.inner.sync()
    }

    fn names(&self) -> io::Result<Vec<String>> {
        self.inner.names()
    }

    fn look(&self, name: &str) -> io::Result<Option<DiskLook>> {
        self.inner.look(name)
    }

    fn look_at_folder(&self) -> io::Result<DiskLook> {
        self.inner.look_at_folder()
    }
}

fn options() -> StoreOptions {
    StoreOptions { lock_patience: Duration::ZERO, segment_bytes: 8 << 10, ..StoreOptions::default() }
}

/// A store with one entry in its document, on an eventful folder.
fn eventful(world: &World) -> (Arc<Eventful>, Arc<Store>) {
    let disk = Eventful::on(&world.disk);
    let store = world.open_on(disk.clone(), options());
    store.upsert(entry("a", 1)).unwrap();
    store.flush().unwrap();
    (disk, store)
}

#[test]
fn a_change_that_is_acknowledged_while_the_document_is_written_is_in_the_next_one() {
    let world = World::new();
    let (disk, store) = eventful(&world);
    store.upsert(entry("b", 1)).unwrap();
    let during = store.clone();
    disk.when_exchanged(move || {
        std::thread::spawn(move || during.upsert(entry("c", 1)).unwrap()).join().unwrap();
    });
    store.flush().unwrap();
    assert!(!world.text().contains("https://c.test"), "it came too late for this one");
    assert_eq!(store.counts().waiting, 1);
    store.close().unwrap();
    assert!(world.text().contains("https://c.test"));
    assert_eq!(names(&world.command()), ["a", "b", "c"]);
}

#[test]
fn flushes_at_the_same_time_write_one_document_and_all_wait_for_it() {
    let world = World::new();
    let (_, store) = eventful(&world);
    store.upsert(entry("b", 1)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                store.flush().unwrap();
                assert!(world.text().contains("https://b.test"));
            });
        }
    });
    assert_eq!(store.counts().documents, 2);
}

#[test]
fn a_write_that_fails_is_shown_and_tried_again_and_nothing_is_lost() {
    let world = World::new();
    let (disk, store) = eventful(&world);
    store.upsert(entry("b", 1)).unwrap();
    disk.full.store(true, Ordering::SeqCst);
    world.later(6_000);
    store.tend();
    let Standing::Behind { reason, .. } = store.snapshot().standing.clone() else { panic!("behind") };
    assert!(reason.contains("free some space"), "{reason}");
    // The journal was written in advance: what is small can still be kept.
    store.remove("a").unwrap();
    disk.full.store(false, Ordering::SeqCst);
    world.later(2_000);
    store.tend();
    assert!(store.snapshot().standing.is_writable());
    assert_eq!(names(&world.command()), ["b"]);
    assert!(!world.text().contains("https://a.test"));
}

#[test]
fn a_program_that_writes_while_we_do_loses_nothing_and_neither_do_we() {
    let world = World::new();
    let (disk, store) = eventful(&world);
    store.upsert(entry("b", 1)).unwrap();
    let (text, folder) = (world.text(), world.disk.clone());
    disk.when_exchanged(move || {
        let edited = text.replace("https://a.test/1", "https://a.test/5");
        disk::write_new(&folder, "edited", edited.as_bytes(), None).unwrap();
        folder.rename("edited", "servers.json").unwrap();
    });
    store.flush().unwrap();
    assert_eq!((endpoint(&store, "a").as_str(), names(&store)), ("/5", vec!["a".to_owned(), "b".to_owned()]));
    assert!(world.text().contains("https://a.test/5") && world.text().contains("https://b.test/1"));
    assert_eq!(disk.exchanges.load(Ordering::SeqCst), 2);
}

#[test]
fn a_program_that_had_the_file_open_before_it_was_replaced_is_heard_too() {
    let world = World::new();
    let (_, store) = eventful(&world);
    let opened = world.disk.open("servers.json").unwrap().unwrap();
    let text = world.text();
    store.upsert(entry("b", 1)).unwrap();
    store.flush().unwrap();
    // In place, in a file that has not been the registry's any more for a moment.
    let edited = text.replace("https://a.test/1", "https://a.test/6");
    assert_eq!(edited.len(), text.len());
    disk::write_all_at(&*opened, 0, edited.as_bytes()).unwrap();
    store.tend();
    assert_eq!((endpoint(&store, "a").as_str(), names(&store).len()), ("/6", 2));
    assert!(world.text().contains("https://a.test/6"));
}

#[test]
fn the_first_callers_of_a_registry_all_see_what_is_in_it() {
    let world = World::new();
    world.command().upsert(entry("a", 1)).unwrap();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(names(&world.open()), ["a"]));
        }
    });
}

#[test]
fn what_was_handed_out_never_changes() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    let before = store.snapshot();
    store.upsert(entry("a", 2)).unwrap();
    store.remove("a").unwrap();
    assert!(before.get("a").unwrap().json().contains("https://a.test/1"));
    assert!(store.get("a").is_none());
}

#[test]
fn write_through_puts_each_change_into_the_document_before_it_is_acknowledged() {
    let world = World::new();
    let store = world.open_on(Arc::new(world.disk.clone()), StoreOptions { write_through: true, ..options() });
    for number in 1..4 {
        store.upsert(entry("a", number)).unwrap();
        assert!(world.text().contains(&format!("https://a.test/{number}")));
    }
    assert_eq!(store.counts().documents, 3);
}

#[test]
fn the_order_of_the_document_does_not_depend_on_the_order_of_changes() {
    let text = |order: &[&str]| {
        let world = World::new();
        let command = world.command();
        for name in order {
            command.upsert(entry(name, 1)).unwrap();
        }
        let document = read(world.text().as_bytes()).unwrap();
        document.servers.iter().map(|server| server.entry.name.clone()).collect::<Vec<_>>()
    };
    assert_eq!(text(&["b", "c", "a", "b"]), ["a", "b", "c"]);
    assert_eq!(text(&["a", "b", "c"]), ["a", "b", "c"]);
}

#[test]
fn an_entry_is_checked_before_it_is_taken() {
    for (json, rule) in [
        (r#"{"name":"a"}"#, EntryRule::Transport),
        (r#"{"name":"../a","transport":"stdio","command":"x"}"#, EntryRule::Name),
        (r#"{"name":"a","transport":"http"}"#, EntryRule::NoEndpoint),
        (r#"{"name":"a","transport":"stdio"}"#, EntryRule::NoCommand),
        (r"[]", EntryRule::Object),
    ] {
        assert_eq!(RegistryEntry::parse(json).map(drop), Err(rule), "{json}");
    }
    let large = format!(r#"{{"name":"a","transport":"stdio","command":"x","note":"{}"}}"#, "x".repeat(64 << 10));
    assert_eq!(RegistryEntry::parse(&large).map(drop), Err(EntryRule::TooLarge));
}

#[test]
fn a_full_registry_refuses_more_and_still_takes_changes_and_removals() {
    let world = World::new();
    let servers: Vec<String> = (0..limits::MAX_WRITTEN_SERVERS)
        .map(|number| format!(r#"{{"name":"n{number}","transport":"sse","endpoint":"https://n.test"}}"#))
        .collect();
    world.edit(&format!("{{\"servers\":[{}]}}", servers.join(",")));
    let store = world.open();
    store.tend();
    assert!(matches!(store.upsert(entry("more", 1)), Err(StoreError::Full { .. })));
    store.upsert(entry("n7", 1)).unwrap();
    store.remove("n8").unwrap();
    store.upsert(entry("more", 1)).unwrap();
    store.close().unwrap();
    assert_eq!(world.command().snapshot().count(), limits::MAX_WRITTEN_SERVERS);
}

#[test]
fn new_files_are_for_their_owner_only_and_the_mode_of_an_old_one_is_kept_and_told() {
    let world = World::new();
    world.command().upsert(entry("a", 1)).unwrap();
    for name in world.disk.names().unwrap() {
        assert_eq!(world.disk.look(&name).unwrap().unwrap().mode, 0o600, "{name}");
    }
    world.disk.open("servers.json").unwrap().unwrap().set_mode(0o644).unwrap();
    let store = world.open();
    store.upsert(entry("b", 1)).unwrap();
    store.flush().unwrap();
    assert_eq!(world.disk.look("servers.json").unwrap().unwrap().mode, 0o644);
    let problems = store.snapshot().problems.join("; ");
    assert!(problems.contains("0644") && problems.contains("chmod 600"), "{problems}");
}

#[test]
fn an_edit_that_could_not_be_settled_is_not_taken_for_dealt_with() {
    let world = World::new();
    let (disk, store) = eventful(&world);
    store.upsert(entry("b", 1)).unwrap();
    let (text, folder, full) = (world.text(), world.disk.clone(), disk.clone());
    // Someone saves between our reading and our replacing, and then the disk is full.
    disk.when_exchanged(move || {
        let edited = text.replace("https://a.test/1", "https://a.test/5");
        disk::write_new(&folder, "edited", edited.as_bytes(), None).unwrap();
        folder.rename("edited", "servers.json").unwrap();
        full.full.store(true, Ordering::SeqCst);
    });
    store.flush().unwrap_err();
    disk.full.store(false, Ordering::SeqCst);
    world.later(2_000);
    store.tend();
    assert_eq!(endpoint(&store, "a"), "/5");
    assert!(world.text().contains("https://a.test/5") && world.text().contains("https://b.test/1"));
}

#[test]
fn nobody_hangs_when_the_store_is_closed_while_changes_are_made() {
    for _ in 0..20 {
        let world = World::new();
        let store = world.open();
        std::thread::scope(|scope| {
            for thread in 0..6 {
                let store = &store;
                scope.spawn(move || {
                    for number in 0.. {
                        match store.upsert(entry(&format!("t{thread}"), number)) {
                            Ok(_) => {}
                            Err(error) => return assert!(matches!(error, StoreError::Closed), "{error}"),
                        }
                    }
                });
            }
            scope.spawn(|| {
                std::thread::yield_now();
                store.close().unwrap();
            });
        });
        // What was acknowledged before the end is in the document, and no journal is left.
        assert!(world.segments().is_empty());
        let known: Vec<_> = store.list().iter().map(|entry| entry.json().to_owned()).collect();
        let written: Vec<_> = world.command().list().iter().map(|entry| entry.json().to_owned()).collect();
        assert_eq!(known, written);
    }
}

#[test]
fn nothing_prints_what_an_entry_says() {
    let world = World::new();
    let json = r#"{"name":"a","transport":"http","endpoint":"https://a.test/","headers":{"X-Key":"s3cr3t"}}"#;
    let store = world.open();
    store.upsert(RegistryEntry::parse(json).unwrap()).unwrap();
    let printed = format!("{:?} {:?}", store.snapshot(), Change::put(RegistryEntry::parse(json).unwrap()));
    assert!(printed.contains("\"a\"") && !printed.contains("s3cr3t"), "{printed}");
}

#[test]
fn a_journal_does_not_outlive_the_tombstones_that_came_after_it() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.tend();
    world.command().remove("a").unwrap();
    store.tend();
    let before = world.segments();
    world.later(3_700_000);
    store.tend();
    store.tend();
    assert!(before.iter().any(|segment| !world.segments().contains(segment)), "the segment was given up");
    world.later(31 * 24 * 3_600_000);
    world.command().upsert(entry("b", 1)).unwrap();
    assert!(!world.text().contains("\"name\": \"a\""), "the tombstone is gone");
    drop(store);
    assert_eq!(names(&world.command()), ["b"]);
    assert_eq!(names(&world.open()), ["b"]);
}

#[test]
fn an_editor_whose_base_is_lost_is_told_of_and_what_he_wrote_is_kept() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.flush().unwrap();
    let read = world.text();
    for number in 2..200 {
        store.upsert(entry("a", number)).unwrap();
        store.flush().unwrap();
        store.tend();
    }
    world.edit(&read.replace("https://a.test/1", "https://a.test/edited"));
    store.tend();
    assert_eq!(endpoint(&store, "a"), "/199");
    let problems = store.snapshot().problems.join("; ");
    assert!(problems.contains("too long ago"), "{problems}");
    let kept = world.files(|kind| *kind == FileKind::Kept);
    let text = disk::read(&world.disk, &kept[0], 1 << 20).unwrap().unwrap();
    assert!(String::from_utf8(text).unwrap().contains("https://a.test/edited"));
}
