//! Crashes of the registry: whatever was acknowledged is there after the machine lost its power at any call, after a
//! process was killed at any call, and after several of these in a row; the document can always be read; and nothing is
//! there that nobody put there.
//!
//! Two numbers in the environment direct it: `CORTEX_CRASH_SIMULATIONS` is how many worlds live, `CORTEX_CRASH_SEED`
//! the number of the first. A violation is told with its seed, and every call of its last round.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod registry_world;
mod support;

use std::cell::Cell;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cortex_mcp::edge::disk::{self, Disk};
use cortex_mcp::registry::{Acknowledge, Outcome};
use registry_world::folder::{Folder, Process, all, at_every_end, cut_in};
use registry_world::machines::Machine;
use registry_world::script::{SCRIPT, at_each, natures, option, say};
use registry_world::{Counts, FILE, World, content, open, said};
use support::crash_disk::{CrashDisk, Dice, Nature};
use support::turmoil_disk::TurmoilDisk;

/// Worlds of a run without the option.
const SIMULATIONS: u64 = 100_000;

/// Of so many worlds, one is turmoil's.
const TURMOIL_SHARE: u64 = 10;

/// A file system of some kind.
fn nature(seed: u64) -> Nature {
    let mut dice = Dice::new(seed);
    Nature {
        exchange: dice.chance(800),
        link: dice.chance(800),
        folder_sync: true,
        names_in_order: dice.coin(),
        file_sync_keeps_names: dice.chance(300),
        short_reads: dice.chance(50),
        grain_ns: *dice.pick(&[1, 1_000_000, 4_000_000]),
        ..Nature::default()
    }
}

fn lives<M: Machine>(machine: M, one_name: bool, seed: u64, log: bool) -> (World<M>, Result<(), String>) {
    if log {
        machine.keep_log();
    }
    let mut world = World::new(machine, seed);
    world.one_name = one_name;
    let rounds = 1 + usize::try_from(seed % 2).unwrap();
    let lived = world.live(rounds);
    (world, lived)
}

/// One world: what happened in it, or the tale of a violation.
fn simulate(seed: u64) -> Result<Counts, String> {
    let tale = |what: String, tale: String| format!("seed {seed}: {what}\n{tale}");
    if seed.is_multiple_of(TURMOIL_SHARE) {
        let machine = || TurmoilDisk::new(seed, 512, u32::try_from(seed % 3 * 100).unwrap());
        let (world, lived) = lives(machine(), true, seed, false);
        return lived.map(|()| world.counts).map_err(|what| tale(what, world.tale()));
    }
    let nature = nature(seed);
    let machine = || CrashDisk::with(nature, seed);
    let (world, lived) = lives(machine(), !nature.link, seed, false);
    if lived.is_ok() {
        return Ok(world.counts);
    }
    // Once more, with a log.
    let (world, lived) = lives(machine(), !nature.link, seed, true);
    Err(tale(lived.err().unwrap_or_else(|| "it does not come again".to_owned()), world.tale()))
}

/// How many violations are enough.
const ENOUGH: usize = 20;

/// Simulates on all cores: what happened, and the tales of the first violations.
fn simulate_all(first: u64, count: u64) -> (Counts, Vec<String>) {
    let next = AtomicU64::new(first);
    let found: Mutex<Vec<String>> = Mutex::default();
    let counts: Mutex<Counts> = Mutex::default();
    let threads = std::thread::available_parallelism().map_or(2, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut own = Counts::default();
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count || found.lock().unwrap().len() >= ENOUGH {
                        break;
                    }
                    match simulate(seed) {
                        Ok(lived) => own.add(lived),
                        Err(tale) => found.lock().unwrap().push(tale),
                    }
                }
                counts.lock().unwrap().add(own);
            });
        }
    });
    (counts.into_inner().unwrap(), found.into_inner().unwrap())
}

#[test]
fn what_was_acknowledged_outlasts_crashes_at_random_calls() {
    let default = std::env::var("CORTEX_CRASH_SEED").map_or(SIMULATIONS, |_| 1);
    let (count, first) = (option("CORTEX_CRASH_SIMULATIONS", default), option("CORTEX_CRASH_SEED", 1));
    let began = Instant::now();
    let (counts, found) = simulate_all(first, count);
    let rate = count as f64 / began.elapsed().as_secs_f64();
    say(&format!("crashes: {count} worlds from seed {first}, {rate:.0} a second: {counts:?}"));
    if let Some(tale) = found.iter().min_by_key(|tale| tale.len()) {
        let heads: Vec<&str> = found.iter().filter_map(|tale| tale.lines().next()).collect();
        panic!("{} violations:\n{}\nthe shortest:\n{tale}", found.len(), heads.join("\n"));
    }
    assert!(count < 1_000 || counts.mid_call * 4 > counts.crashes, "too few crashes in the middle of something");
}

/// A world in which the script was played, on a disk that was prepared for it.
fn played(nature: Nature, prepare: impl FnOnce(&CrashDisk)) -> (World<CrashDisk>, CrashDisk, Result<(), String>) {
    let disk = CrashDisk::with(nature, 7);
    prepare(&disk);
    let mut world = World::new(disk.clone(), 7);
    world.one_name = !nature.link;
    let result = world.play(&SCRIPT);
    (world, disk, result)
}

/// Does something for every call of the script that changes something; how many there are.
fn at_every_change(nature: Nature, check: impl Fn(u64) -> Result<(), String> + Sync) -> usize {
    let (world, disk, result) = played(nature, |_| {});
    result.unwrap_or_else(|what| panic!("without any crash: {what}\n{}", world.tale()));
    let changes = disk.changes();
    at_each(&changes, |operation| check(*operation).map_err(|what| format!("{nature:?}\nat call {operation}: {what}")));
    changes.len()
}

/// How many futures of each crash are tried.
const FUTURES: u64 = 6;

#[test]
fn what_was_acknowledged_outlasts_a_crash_at_every_call() {
    for nature in natures() {
        let calls = at_every_change(nature, |operation| {
            let (world, _, result) = played(nature, |disk| disk.crash_at(operation));
            result.map_err(|what| format!("{what}\n{}", world.tale()))?;
            (0..FUTURES).try_for_each(|seed| world.one_future(seed))
        });
        say(&format!("crashes: at each of {calls} calls, with {FUTURES} futures"));
    }
}

#[test]
fn what_was_acknowledged_outlasts_the_death_of_a_process_at_every_call() {
    for nature in natures() {
        at_every_change(nature, |operation| {
            let (mut world, _, result) = played(nature, |disk| disk.kill_at(operation));
            result.and_then(|()| world.next_process()).map_err(|what| format!("{what}\n{}", world.tale()))?;
            (0..2).try_for_each(|seed| world.one_future(seed))
        });
    }
}

#[test]
fn a_change_after_an_edit_by_hand_hides_nothing_and_removes_what_it_says() {
    let folder = Folder::new(Nature::default());
    folder.command("a", 1);
    let mut edit = folder.editor();
    edit.set("f", Some(2));
    folder.save(&edit);
    let store = folder.open(Acknowledge::Journal);
    assert_eq!(said(&store.snapshot()), all(&[("a", 1), ("f", 2)]));
    store.upsert(content("h", 3)).unwrap();
    assert_eq!(said(&store.snapshot()), all(&[("a", 1), ("f", 2), ("h", 3)]));
    folder.pass(1);
    assert_eq!(store.remove("a").unwrap().outcome, Outcome::Removed);
    assert_eq!(said(&store.snapshot()), all(&[("f", 2), ("h", 3)]));
    store.close().unwrap();
    assert_eq!(said(&folder.open(Acknowledge::Journal).snapshot()), all(&[("f", 2), ("h", 3)]));
}

#[test]
fn an_edit_of_an_older_document_loses_no_later_change() {
    for in_place in [false, true] {
        let folder = Folder::new(Nature::default());
        folder.command("b", 1);
        let mut edit = folder.editor();
        folder.command("b", 2);
        let store = folder.open(Acknowledge::Journal);
        store.upsert(content("c", 3)).unwrap();
        store.close().unwrap();
        edit.set("f", Some(4));
        if in_place {
            edit.save_in_place(&folder.disk, FILE).unwrap();
        } else {
            folder.save(&edit);
        }
        // Nobody is there who remembers; the folder does.
        let store = folder.open(Acknowledge::Journal);
        assert_eq!(said(&store.snapshot()), all(&[("b", 2), ("c", 3), ("f", 4)]), "in place: {in_place}");
        store.flush().unwrap();
        assert_eq!(said(&store.snapshot()), all(&[("b", 2), ("c", 3), ("f", 4)]), "in place: {in_place}");
    }
}

#[test]
fn an_older_document_that_is_saved_once_more_as_it_was_loses_no_later_change() {
    let folder = Folder::new(Nature::default());
    folder.command("b", 1);
    let edit = folder.editor();
    folder.command("b", 2);
    folder.command("c", 3);
    folder.save(&edit);
    let store = folder.open(Acknowledge::Journal);
    assert_eq!(said(&store.snapshot()), all(&[("b", 2), ("c", 3)]));
    store.flush().unwrap();
    assert_eq!(said(&store.snapshot()), all(&[("b", 2), ("c", 3)]));
}

#[test]
fn without_second_names_a_former_document_outlasts_a_crash_too() {
    for seed in 0..40 {
        let folder = Folder::new(Nature { link: false, ..Nature::default() });
        folder.command("b", 1);
        let mut edit = folder.editor();
        folder.pass(20_000);
        folder.command("b", 2);
        edit.set("f", Some(3));
        folder.save(&edit);
        folder.pass(20_000);
        let after = folder.disk.recover(seed);
        let store = open(Arc::new(after), &folder.policy, "later", Acknowledge::Journal).unwrap();
        assert_eq!(said(&store.snapshot()), all(&[("b", 2), ("f", 3)]), "future {seed}");
    }
}

#[test]
fn what_a_crash_leaves_of_an_edit_that_was_dealt_with_is_not_dealt_with_again() {
    for forgets in [false, true] {
        let folder = Folder::new(Nature::default());
        folder.command("b", 1);
        let mut edit = folder.editor();
        if forgets {
            edit.forget();
        }
        edit.set("f", Some(2));
        folder.save(&edit);
        let store = folder.open(Acknowledge::Journal);
        store.upsert(content("c", 3)).unwrap();
        store.flush().unwrap();
        drop(store);
        // The document that was swapped out, not removed before the machine went down.
        edit.save(&folder.disk, "servers.json.tmp-00000000000001", "editing").unwrap();
        let store = folder.open(Acknowledge::Journal);
        store.upsert(content("f", 4)).unwrap();
        folder.pass(12_000);
        store.flush().unwrap();
        assert_eq!(said(&store.snapshot()), all(&[("b", 1), ("c", 3), ("f", 4)]), "forgets: {forgets}");
    }
}

#[test]
fn a_journal_that_appears_within_a_tick_of_the_file_system_is_seen() {
    let folder = Folder::new(Nature { grain_ns: 4_000_000, ..Nature::default() });
    folder.command("a", 1);
    let first = folder.open(Acknowledge::Journal);
    first.observe().unwrap();
    let second = open(Arc::new(folder.disk.process()), &folder.policy, "second", Acknowledge::Journal).unwrap();
    second.upsert(content("b", 2)).unwrap();
    folder.pass(12_000);
    first.observe().unwrap();
    assert_eq!(said(&first.snapshot()), all(&[("a", 1), ("b", 2)]));
}

#[test]
fn a_read_that_gives_a_part_is_no_end() {
    let folder = Folder::new(Nature { short_reads: true, ..Nature::default() });
    let store = folder.open(Acknowledge::Journal);
    for number in 1..20 {
        folder.pass(1);
        store.upsert(content("a", number)).unwrap();
        let other = folder.open(Acknowledge::Journal);
        assert_eq!(said(&other.snapshot()), all(&[("a", number)]));
    }
}

#[test]
fn what_a_journal_acknowledged_outlasts_a_crash_right_after_it() {
    for (seed, nature) in (0..16).flat_map(|seed| natures().map(|nature| (seed, nature))) {
        let folder = Folder::new(nature);
        let store = folder.open(Acknowledge::Journal);
        store.upsert(content("a", 1)).unwrap();
        store.upsert(content("a", 2)).unwrap();
        assert_eq!(folder.after(seed).says(), all(&[("a", 2)]), "future {seed}");
    }
}

#[test]
fn what_a_command_acknowledged_outlasts_a_crash_right_after_it() {
    for (seed, nature) in (0..16).flat_map(|seed| natures().map(|nature| (seed, nature))) {
        let folder = Folder::new(nature);
        folder.command("a", 1 + u32::try_from(seed % 2).unwrap());
        if seed % 2 == 0 {
            // The first one makes the document, each later one replaces it.
            folder.command("a", 2);
        }
        assert_eq!(folder.after(seed).document(), all(&[("a", 2)]), "future {seed}");
    }
}

#[test]
fn a_document_is_whole_at_every_end_of_who_writes_it() {
    let prepare = || {
        let folder = Folder::new(Nature::default());
        folder.command("a", 1);
        (folder, Cell::new(false))
    };
    let act = |folder: &Folder, acknowledged: &Cell<bool>| acknowledged.set(folder.commands("a", 2));
    at_every_end(prepare, act, |folder, acknowledged| {
        let document = folder.document();
        let may_be = document == all(&[("a", 2)]) || (!acknowledged.get() && document == all(&[("a", 1)]));
        assert!(may_be, "{document:?}");
    });
}

#[test]
fn a_journal_is_there_until_the_document_says_what_it_says() {
    let prepare = || {
        let folder = Folder::new(Nature::default());
        let process = folder.process();
        for number in 1..=20 {
            process.store.upsert(content("a", number)).unwrap();
        }
        (folder, process)
    };
    // Large enough to be removed.
    let act = |_: &Folder, process: &Process| drop(process.store.flush());
    at_every_end(prepare, act, |folder, _| assert_eq!(folder.says(), all(&[("a", 20)])));
}

#[test]
fn a_journal_of_the_dead_is_there_until_the_document_says_what_it_says() {
    let prepare = || {
        let folder = Folder::new(Nature::default());
        let process = folder.process();
        process.store.upsert(content("a", 1)).unwrap();
        process.disk.kill();
        (folder, process)
    };
    let act = |folder: &Folder, _: &Process| {
        drop(folder.try_process(Acknowledge::Journal).map(|next| next.store.flush()));
    };
    at_every_end(prepare, act, |folder, _| assert_eq!(folder.says(), all(&[("a", 1)])));
}

#[test]
fn a_change_is_above_whatever_anybody_was_told_before_it() {
    let folder = Folder::new(Nature::default());
    let (one, two) = (folder.process(), folder.process());
    (1..=5).for_each(|number| drop(one.store.upsert(content("a", number)).unwrap()));
    two.store.upsert(content("a", 6)).unwrap();
    assert_eq!(folder.says(), all(&[("a", 6)]));
}

#[test]
fn the_journal_of_a_writer_that_lives_is_left_to_it() {
    let folder = Folder::new(Nature::default());
    let (one, two) = (folder.process(), folder.process());
    one.store.upsert(content("a", 1)).unwrap();
    two.store.upsert(content("b", 2)).unwrap();
    two.store.flush().unwrap();
    one.store.upsert(content("a", 3)).unwrap();
    one.disk.kill();
    two.disk.kill();
    assert_eq!(folder.says(), all(&[("a", 3), ("b", 2)]));
}

#[test]
fn an_edit_that_was_swapped_out_is_not_lost_at_any_end_of_who_did_it() {
    let act = |_: &Folder, (process, _): &(Process, Arc<AtomicBool>)| drop(process.store.flush());
    at_every_end(cut_in, act, |folder, (_, saved)| {
        let mut says = folder.says();
        if !saved.load(Ordering::Relaxed) {
            says.insert("f".to_owned(), 3);
        }
        assert_eq!(says, all(&[("a", 1), ("b", 2), ("f", 3)]));
    });
}

#[test]
fn what_was_left_behind_is_there_until_the_document_says_what_it_says() {
    let (dry, (process, _)) = cut_in();
    let sync = dry.call_within(&["Exchange", "SyncFolder"], || process.store.flush().unwrap());
    let prepare = || {
        let (folder, (process, _)) = cut_in();
        folder.disk.kill_at(sync);
        process.store.flush().unwrap_err();
        (folder, process)
    };
    let act = |folder: &Folder, _: &Process| {
        drop(folder.try_process(Acknowledge::Journal).map(|next| next.store.flush()));
    };
    at_every_end(prepare, act, |folder, _| assert_eq!(folder.says(), all(&[("a", 1), ("b", 2), ("f", 3)])));
}

#[test]
fn a_command_that_finds_what_it_wants_is_acknowledged_once_that_outlasts_a_crash() {
    let ready = || {
        let folder = Folder::new(Nature::default());
        folder.command("a", 1);
        folder
    };
    let dry = ready();
    let sync = dry.call_within(&["Exchange", "SyncFolder"], || dry.command("a", 2));
    for seed in 0..16 {
        // Another one exchanged the documents, and ended before that was durable.
        let folder = ready();
        folder.disk.kill_at(sync);
        assert!(!folder.commands("a", 2));
        assert_eq!(folder.document(), all(&[("a", 2)]));
        folder.command("a", 2);
        assert_eq!(folder.after(seed).document(), all(&[("a", 2)]), "future {seed}");
    }
}

#[test]
fn a_document_that_was_put_back_by_a_copy_is_durable_once_a_command_finds_what_it_wants_there() {
    for seed in 0..16 {
        let folder = Folder::new(Nature::default());
        folder.command("a", 1);
        // As `cp` and `mv` do it.
        disk::write_copy(&folder.disk, "copied", &folder.bytes(FILE).unwrap(), None).unwrap();
        folder.disk.rename("copied", FILE).unwrap();
        folder.command("a", 1);
        assert_eq!(folder.after(seed).document(), all(&[("a", 1)]), "future {seed}");
    }
}

#[test]
fn a_former_value_outlasts_a_crash_after_the_edit_that_replaced_it() {
    for seed in 0..16 {
        let folder = Folder::new(Nature::default());
        folder.command("a", 1);
        let mut edit = folder.editor();
        edit.set("a", Some(2));
        folder.save(&edit);
        folder.open(Acknowledge::Journal).flush().unwrap();
        let kept = folder.after(seed).bytes("servers.json.superseded").unwrap_or_default();
        let kept = String::from_utf8_lossy(&kept).into_owned();
        assert!(kept.contains("https://a.test/v1"), "future {seed}: {kept:?}");
    }
}

#[test]
fn a_copy_of_what_can_not_be_read_outlasts_a_crash_once_it_is_told() {
    for seed in 0..16 {
        let folder = Folder::new(Nature::default());
        folder.command("a", 1);
        disk::write_new(&folder.disk, "editing", b"{ \"servers\": [ oh", None).unwrap();
        folder.disk.rename("editing", FILE).unwrap();
        folder.open(Acknowledge::Journal).flush().unwrap_err();
        let copies: Vec<String> = folder.named(FILE).into_iter().filter(|name| name != FILE).collect();
        let copy = copies.iter().find(|name| folder.bytes(name) == folder.bytes(FILE)).unwrap();
        assert_eq!(folder.after(seed).bytes(copy), folder.bytes(FILE), "future {seed}");
    }
}

#[test]
fn a_change_that_comes_while_the_document_is_written_is_not_taken_for_written() {
    let ready = || {
        let folder = Folder::new(Nature::default());
        let process = folder.process();
        process.store.upsert(content("a", 1)).unwrap();
        process.store.flush().unwrap();
        process.store.upsert(content("a", 2)).unwrap();
        (folder, process)
    };
    let (dry, process) = ready();
    let exchange = dry.call_within(&["Exchange"], || process.store.flush().unwrap());
    let (folder, Process { store, .. }) = ready();
    let other = store.clone();
    folder.disk.before(exchange, move || drop(other.upsert(content("b", 3)).unwrap()));
    store.flush().unwrap();
    assert_eq!(folder.document(), all(&[("a", 2)]));
    store.close().unwrap();
    assert_eq!(folder.says(), all(&[("a", 2), ("b", 3)]));
}
