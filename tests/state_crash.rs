//! The store of last-known-good state on disks that crash and fail, at every call: what was acknowledged is read again.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cortex_mcp::edge::state::{self, Body, Change, StateRecord, StateStore};
use support::crash_directory::CrashDirectory;
use support::crash_disk::{CrashDisk, Fault, Nature};
use support::turmoil_disk::TurmoilDisk;

/// The record that has a file of its own.
const OWN: &str = "map";

/// The header and the body's number of a record; none if it is removed.
type Value = Option<(u64, u8)>;

/// What may be read.
#[derive(Clone, Default)]
struct History {
    /// What was acknowledged last.
    acknowledged: BTreeMap<String, Value>,
    /// What was tried since then.
    tried: BTreeMap<String, Vec<Value>>,
}

impl History {
    fn assert_allows(&self, read: &BTreeMap<String, (u64, u8)>, what: &str) {
        let names = self.acknowledged.keys().chain(self.tried.keys());
        for name in names {
            let found = read.get(name).copied();
            let tried = self.tried.get(name).into_iter().flatten();
            let acknowledged = self.acknowledged.get(name).copied().flatten();
            let mut allowed = std::iter::once(&acknowledged).chain(tried);
            assert!(allowed.any(|value| *value == found), "{what}: {name}: {found:?}, not {acknowledged:?}");
        }
    }
}

/// Longer than a sector.
fn body(number: u8) -> Bytes {
    if number == 0 { Bytes::new() } else { Bytes::from(vec![b'a' + number; 700 + usize::from(number)]) }
}

fn change(name: &str, value: Value) -> (String, Change) {
    let change = value.map_or(Change::Removal, |(header, number)| {
        Change::Record(StateRecord::new(&header, Body::from(body(number))).unwrap())
    });
    (name.to_owned(), change)
}

/// Writes, and notes what is allowed from then on. Returns whether all of it was acknowledged.
fn commit(store: &mut StateStore, history: &mut History, values: &[(&str, Value)]) -> bool {
    let committed = store.commit(values.iter().map(|(name, value)| change(name, *value)).collect());
    let values: BTreeMap<_, _> = values.iter().copied().collect();
    let mut all = true;
    for (name, result) in committed.results {
        let value = values[&*name];
        match result {
            Ok(()) => {
                history.tried.remove(&name);
                history.acknowledged.insert(name, value);
            }
            Err(_) => {
                all = false;
                history.tried.entry(name).or_default().push(value);
            }
        }
    }
    all
}

fn open(disk: &impl Fn() -> CrashDirectory) -> Option<StateStore> {
    StateStore::open(Arc::new(disk()), &[OWN]).ok().map(|(store, _)| store)
}

fn compact(store: &mut StateStore) {
    if let Some(compaction) = store.begin_compaction() {
        let compacted = compaction.run();
        store.end_compaction(compacted);
    }
}

/// Starts, batches, compactions with and without a batch in their middle, removals, and bodies that come back.
fn play(disk: &impl Fn() -> CrashDirectory, history: &mut History) {
    for restart in 0..9u64 {
        let number = u8::try_from(restart % 4).unwrap();
        let Some(mut store) = open(disk) else { continue };
        commit(&mut store, history, &[("a", Some((restart, 1))), ("b", Some((restart, number)))]);
        let gone = (restart % 3 > 0).then_some((restart, 2));
        commit(&mut store, history, &[("c", gone), (OWN, Some((restart, number)))]);
        // Removed for good, and only an older log says so when they are compacted.
        let removed = (restart < 5).then_some((restart, 2));
        commit(&mut store, history, &[("f", removed)]);
    }
    let Some(mut store) = open(disk) else { return };
    commit(&mut store, history, &[("a", Some((20, 1))), ("d", Some((20, 3)))]);
    // Written, acknowledged or not, and removed by the same process.
    commit(&mut store, history, &[("g", Some((20, 1)))]);
    commit(&mut store, history, &[("g", None)]);
    if let Some(compaction) = store.begin_compaction() {
        commit(&mut store, history, &[("b", Some((21, 1))), ("c", None), ("e", Some((21, 1)))]);
        let compacted = compaction.run();
        store.end_compaction(compacted);
    }
    commit(&mut store, history, &[("a", Some((22, 1))), ("b", Some((22, 2))), (OWN, Some((22, 0)))]);
    compact(&mut store);
}

fn contents(directory: &CrashDirectory) -> BTreeMap<String, (u64, u8)> {
    let saved = state::read(directory, &[OWN]).unwrap();
    let records = saved.records.into_iter().map(|(name, record)| {
        let bytes = record.body.bytes();
        let number = bytes.first().map_or(0, |letter| letter - b'a');
        assert_eq!(bytes, body(number), "{name}");
        (name, (record.header().unwrap(), number))
    });
    records.collect()
}

/// What is there is allowed, stays there, and can be changed.
fn assert_sound(disk: impl Fn() -> CrashDirectory, mut history: History, what: &str) {
    history.assert_allows(&contents(&disk()), what);
    let mut store = open(&disk).unwrap();
    compact(&mut store);
    history.assert_allows(&contents(&disk()), what);
    let last = [("a", Some((90, 1))), ("b", Some((90, 0))), ("c", None), ("d", Some((90, 3))), (OWN, Some((90, 1)))];
    assert!(commit(&mut store, &mut history, &last), "{what}");
    history.assert_allows(&contents(&disk()), what);
}

/// The folder, each time as another process has it.
fn of(disk: &CrashDisk) -> impl Fn() -> CrashDirectory + use<> {
    let disk = disk.clone();
    move || CrashDirectory::new(disk.process())
}

/// How many calls the whole script makes.
fn operations(nature: Nature) -> u64 {
    let disk = CrashDisk::with(nature, 0);
    let mut history = History::default();
    play(&of(&disk), &mut history);
    assert!(history.tried.is_empty() && disk.listed().iter().filter(|name| name.ends_with(".log")).count() <= 3);
    disk.operations()
}

#[test]
fn what_was_acknowledged_outlasts_a_crash_at_every_call() {
    for (names_in_order, seeds) in [(false, 0..2), (true, 2..3)] {
        let nature = Nature { names_in_order, ..Nature::default() };
        for operation in 1..=operations(nature) {
            for seed in seeds.clone() {
                let disk = CrashDisk::with(nature, seed);
                disk.crash_at(operation);
                let mut history = History::default();
                play(&of(&disk), &mut history);
                assert!(disk.is_dead());
                let recovered = disk.recover(seed);
                assert_sound(of(&recovered), history, &format!("call {operation}, seed {seed}"));
            }
        }
    }
}

#[test]
fn what_a_killed_process_left_is_durable_before_the_next_one_builds_on_it() {
    for operation in 1..=operations(Nature::default()) {
        for seed in 0..2 {
            let disk = CrashDisk::new(seed);
            disk.kill_at(operation);
            let mut history = History::default();
            play(&of(&disk), &mut history);
            let next = disk.kill();
            let mut store = open(&of(&next)).unwrap();
            // Headers alone, where the body is there already, durable or not.
            let found = contents(&of(&next)());
            history.assert_allows(&found, "after the kill");
            let values: Vec<_> = found.iter().map(|(name, (_, body))| (&**name, Some((50, *body)))).collect();
            assert!(commit(&mut store, &mut history, &values));
            let recovered = next.recover(seed);
            assert_sound(of(&recovered), history, &format!("call {operation}, seed {seed}"));
        }
    }
}

#[test]
fn what_was_acknowledged_outlasts_every_failure_of_the_disk_and_a_crash_after_it() {
    for operation in 1..=operations(Nature::default()) {
        // A quota is as a full disk, and a signal fails calls as a device does that recovers.
        for (fault, lasting) in
            [(Fault::Eio, false), (Fault::Eio, true), (Fault::Enospc, true), (Fault::ShortWrite, false)]
        {
            let disk = CrashDisk::new(3);
            match lasting {
                false => disk.fail_at(operation, fault),
                true => disk.fail_from(operation, fault),
            }
            let mut history = History::default();
            play(&of(&disk), &mut history);
            assert_eq!(disk.resyncs(), 0, "a file was synced again after a sync of it had failed");
            disk.heal();
            let what = format!("call {operation}, {fault:?}, lasting: {lasting}");
            history.assert_allows(&contents(&of(&disk)()), &what);
            let recovered = disk.recover(operation);
            assert_sound(of(&recovered), history, &what);
        }
    }
}

#[test]
fn what_was_acknowledged_outlasts_the_crashes_of_another_disk_too() {
    let whole = TurmoilDisk::new(0, 512, 100);
    let disk = whole.clone();
    play(&move || CrashDirectory::new(disk.clone()), &mut History::default());
    // Every tenth call: this disk is slow.
    for operation in (1..=whole.operations()).step_by(10) {
        let disk = TurmoilDisk::new(operation, 512, 100);
        disk.crash_at(operation);
        let mut history = History::default();
        let played = disk.clone();
        play(&move || CrashDirectory::new(played.clone()), &mut history);
        let recovered = disk.recover();
        assert_sound(move || CrashDirectory::new(recovered.clone()), history, &format!("call {operation}"));
    }
}
