//! Failures of the disk under the registry: at every call, in every way, once and for long. Nothing is acknowledged
//! that is not durable, no file is synced again after a sync of it failed, and the registry is writable again soon
//! after the disk is sound; meanwhile it is read.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod registry_world;
mod support;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cortex_mcp::edge::disk::Disk;
use cortex_mcp::registry::{Acknowledge, ReadOnlyReason, StoreError};
use registry_world::clock::HandClock;
use registry_world::folder::{Folder, all, cut_in};
use registry_world::script::{SCRIPT, at_each, natures, say};
use registry_world::{World, content, open, policy, said};
use support::crash_disk::{CrashDisk, Fault, Nature};

/// How many futures are tried after each failure.
const FUTURES: u64 = 2;

/// A failure: what happens at which call, and whether it lasts until the disk is healed.
#[derive(Clone, Copy, Debug)]
enum Failure {
    Once(u64, Fault),
    Lasting(u64, Fault),
    Full(u64),
}

impl Failure {
    fn prepare(self, disk: &CrashDisk) {
        match self {
            Self::Once(operation, fault) => disk.fail_at(operation, fault),
            Self::Lasting(operation, fault) => disk.fail_from(operation, fault),
            Self::Full(operation) => {
                let full = disk.clone();
                disk.before(operation, move || full.set_full(true));
            }
        }
    }
}

/// Plays the script on a disk that fails; how often it did.
fn fails(nature: Nature, failure: Failure) -> Result<u64, String> {
    let lives = |log: bool| {
        let disk = CrashDisk::with(nature, 7);
        failure.prepare(&disk);
        if log {
            disk.keep_log();
        }
        let mut world = World::new(disk.clone(), 7);
        world.faulty = true;
        let lived = world.play(&SCRIPT).and_then(|()| {
            disk.heal();
            world.healed()
        });
        let lived = lived.and_then(|()| match disk.resyncs() {
            0 => Ok(()),
            count => Err(format!("a file was synced {count} times after a sync of it had failed")),
        });
        (world, disk, lived)
    };
    let (world, disk, lived) = lives(false);
    if lived.is_err() {
        let (world, _, lived) = lives(true);
        return Err(format!("{failure:?}: {}\n{}", lived.unwrap_err(), world.tale()));
    }
    (0..FUTURES).try_for_each(|seed| world.one_future(seed).map_err(|what| format!("{failure:?}: {what}")))?;
    Ok(disk.hits())
}

/// How many calls the script makes.
fn calls(nature: Nature) -> u64 {
    let disk = CrashDisk::with(nature, 7);
    let mut world = World::new(disk.clone(), 7);
    world.play(&SCRIPT).unwrap_or_else(|what| panic!("without any failure: {what}\n{}", world.tale()));
    disk.operations()
}

fn at_every_call(natures: &[Nature], failures: impl Fn(u64) -> Vec<Failure>) {
    for nature in natures {
        let all: Vec<Failure> = (1..=calls(*nature)).flat_map(&failures).collect();
        let hits = AtomicU64::new(0);
        at_each(&all, |failure| {
            let hit = fails(*nature, *failure).map_err(|what| format!("{nature:?}\n{what}"))?;
            hits.fetch_add(hit, Ordering::Relaxed);
            Ok(())
        });
        say(&format!("faults: {} failures, {} calls hit", all.len(), hits.into_inner()));
    }
}

#[test]
fn a_call_that_fails_once_costs_at_most_its_change() {
    at_every_call(&natures()[..3], |operation| Fault::ALL.map(|fault| Failure::Once(operation, fault)).to_vec());
}

#[test]
fn a_disk_that_fails_for_long_makes_the_registry_read_only_until_it_is_sound() {
    at_every_call(&natures()[..2], |operation| Fault::ALL.map(|fault| Failure::Lasting(operation, fault)).to_vec());
}

#[test]
fn a_full_disk_makes_the_registry_read_only_at_most_until_there_is_space() {
    at_every_call(&natures()[..2], |operation| vec![Failure::Full(operation)]);
}

#[test]
fn changes_of_a_registry_that_is_open_are_taken_on_a_full_disk() {
    let disk = CrashDisk::new(1);
    let clock = Arc::new(HandClock::new());
    let policy = policy(&clock, 1);
    let store = open(Arc::new(disk.clone()), &policy, "w1", Acknowledge::Journal).unwrap();
    store.upsert(content("a", 1)).unwrap();
    disk.set_full(true);
    // As many as a segment has room for.
    for number in 2..12 {
        clock.pass(10_000);
        disk.set_wall_ns(clock.wall_ns());
        store.upsert(content("a", number)).unwrap();
    }
    let after = disk.recover(3);
    let store = open(Arc::new(after), &policy, "w2", Acknowledge::Journal).unwrap();
    assert_eq!(said(&store.snapshot())["a"], 11);
}

#[test]
fn a_folder_that_can_not_be_written_is_read_and_says_so() {
    let disk = CrashDisk::new(1);
    let clock = Arc::new(HandClock::new());
    let policy = policy(&clock, 1);
    let store = open(Arc::new(disk.clone()), &policy, "w1", Acknowledge::Snapshot).unwrap();
    store.upsert(content("a", 1)).unwrap();
    store.close().unwrap();
    drop(store);
    disk.become_of(|nature| nature.read_only = true);
    let next = disk.process();
    let store = open(Arc::new(next), &policy, "w2", Acknowledge::Journal).unwrap();
    assert_eq!(said(&store.snapshot())["a"], 1);
    let refused = store.upsert(content("a", 2)).unwrap_err();
    assert!(matches!(refused, StoreError::ReadOnly(ReadOnlyReason::Disk { .. })), "{refused:?}");
    assert!(refused.to_string().contains("make the registry's folder writable"), "{refused}");
    assert_eq!(said(&store.snapshot())["a"], 1);

    disk.become_of(|nature| nature.read_only = false);
    clock.pass(61_000);
    store.tend();
    store.upsert(content("a", 2)).unwrap();
    assert_eq!(said(&store.snapshot())["a"], 2);
}

#[test]
fn a_commit_whose_sync_fails_is_not_synced_again_and_is_durable_elsewhere_if_acknowledged() {
    let ready = || {
        let folder = Folder::new(Nature::default());
        let process = folder.process();
        process.store.upsert(content("a", 1)).unwrap();
        (folder, process)
    };
    let (dry, process) = ready();
    let sync = dry.call_within(&["SyncFile"], || drop(process.store.upsert(content("a", 2)).unwrap()));
    for (seed, fault) in (0..12).flat_map(|seed| [(seed, Fault::Eio), (seed, Fault::Enospc)]) {
        let (folder, process) = ready();
        folder.disk.fail_at(sync, fault);
        process.store.upsert(content("a", 2)).unwrap();
        assert_eq!((folder.disk.hits(), folder.disk.resyncs()), (1, 0), "{fault:?}");
        assert_eq!(folder.after(seed).says(), all(&[("a", 2)]), "{fault:?}, future {seed}");
    }
}

/// The calls of who writes a document into which an editor cuts in, from the exchange on.
fn calls_after_the_editor() -> std::ops::RangeInclusive<u64> {
    let (dry, (process, _)) = cut_in();
    let exchange = dry.call_within(&["Exchange"], || process.store.flush().unwrap());
    exchange..=dry.disk.operations()
}

#[test]
fn an_edit_that_was_swapped_out_survives_the_failure_of_who_did_it() {
    for (call, fault) in calls_after_the_editor().flat_map(|call| Fault::ALL.map(|fault| (call, fault))) {
        for (lasting, next) in [(false, false), (false, true), (true, false), (true, true)] {
            let (folder, (process, saved)) = cut_in();
            match lasting {
                true => folder.disk.fail_from(call, fault),
                false => folder.disk.fail_at(call, fault),
            }
            drop(process.store.flush());
            folder.disk.heal();
            assert!(saved.load(Ordering::Relaxed), "the editor comes first");
            let expected = all(&[("a", 1), ("b", 2), ("f", 3)]);
            let told = format!("{fault:?} at call {call}, lasting: {lasting}, seen by the next one: {next}");
            if next {
                process.disk.kill();
            } else {
                folder.pass(61_000);
                process.store.flush().unwrap();
                assert_eq!(said(&process.store.snapshot()), expected, "{told}");
                process.store.close().unwrap();
            }
            assert_eq!(folder.says(), expected, "{told}");
        }
    }
}

#[test]
fn a_segment_whose_lock_someone_else_holds_for_a_moment_is_never_taken_from_its_writer() {
    let dry = Folder::new(Nature::default());
    let process = dry.process();
    let lock = dry.call_within(&["Create", "Lock"], || drop(process.store.upsert(content("a", 1)).unwrap()));

    let folder = Folder::new(Nature::default());
    let (one, two) = (folder.process(), folder.disk.process());
    let held = Arc::new(Mutex::new(Vec::new()));
    let holding = held.clone();
    // As who looks whether a file was left behind.
    folder.disk.before(lock, move || {
        for name in two.names().unwrap().into_iter().filter(|name| name.contains(".tmp-")) {
            let file = two.open(&name).unwrap().unwrap();
            assert!(file.try_lock().unwrap());
            holding.lock().unwrap().push(file);
        }
    });
    let acknowledged = one.store.upsert(content("a", 1)).is_ok();
    assert_eq!(held.lock().unwrap().len(), 1);
    held.lock().unwrap().clear();
    if !acknowledged {
        folder.pass(61_000);
        let _next = one.store.tend();
    }
    folder.process().store.flush().unwrap();
    one.store.upsert(content("a", 2)).unwrap();
    one.disk.kill();
    assert_eq!(folder.says(), all(&[("a", 2)]));
}
