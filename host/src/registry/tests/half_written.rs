//! A document that another program is writing while it is settled: it is waited for, and nobody waits meanwhile.

use std::sync::Mutex;

use super::observed::{Done, Observed};
use super::*;

const WHOLE: &str = r#"{"servers":[{"name":"edited","transport":"http","endpoint":"https://edited.test/1"}]}"#;

/// Puts the first so many bytes of a document into the file, as of a moment ago, however slow the machine is.
fn write(world: &World, bytes: usize) {
    world.edit(&WHOLE[..bytes]);
    world.disk.set_modified("servers.json", 2_000_000 * 1_000_000);
}

/// How often the lock was taken, and how often the file was read.
type Counts = Arc<Mutex<(usize, usize)>>;

/// A store over a file of which a program has written half. It writes the rest before the file is read for the `whole_at`th
/// time.
fn opened(world: &World, whole_at: usize) -> (Arc<Store>, Counts) {
    let disk = Observed::on(&world.disk);
    let options = StoreOptions { lock_patience: Duration::from_secs(10), ..StoreOptions::default() };
    let store = world.open_on(Arc::new(disk.clone()), options);
    store.upsert(entry("a", 1)).unwrap();
    store.flush().unwrap();
    write(world, WHOLE.len() / 2);
    let counts = Counts::default();
    disk.tell({
        let (counts, other) = (counts.clone(), World { disk: world.disk.clone(), ..World::new() });
        move |done| {
            let mut counts = counts.lock().unwrap();
            match done {
                Done::Link("servers.json.lock") => counts.0 += 1,
                Done::Open("servers.json") => {
                    counts.1 += 1;
                    if counts.1 == whole_at {
                        write(&other, WHOLE.len());
                    }
                }
                _ => {}
            }
        }
    });
    (store, counts)
}

#[test]
fn is_waited_for_without_the_lock() {
    let world = World::new();
    let (store, counts) = opened(&world, 4);
    store.flush().unwrap();
    let (locked, read) = *counts.lock().unwrap();
    assert!(locked >= 4, "the lock was taken {locked} times for {read} reads");
    assert_eq!(names(&store), ["edited"], "the program has removed the other one");
    assert!(world.files(|kind| matches!(kind, FileKind::Quarantined)).is_empty(), "it was not taken for damaged");
}

#[test]
fn is_taken_for_damaged_if_it_stays_so() {
    let world = World::new();
    let (store, counts) = opened(&world, usize::MAX);
    assert!(matches!(store.flush(), Err(StoreError::ReadOnly(ReadOnlyReason::Unreadable { copy: Some(_), .. }))));
    let (locked, read) = *counts.lock().unwrap();
    assert!(locked == read && (5..=20).contains(&read), "{locked} locks for {read} reads");
}

#[test]
fn changes_are_answered_once_though_they_are_tried_again() {
    let world = World::new();
    opened(&world, usize::MAX);
    write(&world, WHOLE.len() / 2);
    let disk = Observed::on(&world.disk);
    let options = StoreOptions {
        acknowledge: Acknowledge::Snapshot,
        lock_patience: Duration::from_secs(10),
        ..StoreOptions::default()
    };
    let store = world.open_on(Arc::new(disk.clone()), options);
    let (mut reads, other) = (0, World { disk: world.disk.clone(), ..World::new() });
    disk.tell(move |done| {
        if let Done::Open("servers.json") = done {
            reads += 1;
            if reads == 3 {
                write(&other, WHOLE.len());
            }
        }
    });
    assert_eq!(store.upsert(entry("b", 1)).unwrap().outcome, Outcome::Created);
    assert_eq!(names(&store), ["b", "edited"]);
}
