//! The disks that crash: they lose what real ones lose, so that whoever forgets a sync is found out, and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::collections::BTreeSet;
use std::io;

use cortex_mcp::edge::disk::{self, Disk, DiskFile, write_all_at};
use support::crash_disk::{CrashDisk, Crashed, Fault, Nature};
use support::turmoil_disk::TurmoilDisk;

const SEEDS: u64 = 400;

/// Longer than some sectors.
fn text(letter: u8) -> Vec<u8> {
    vec![letter; 2_000]
}

/// Makes a file of these bytes, durable but for its name.
fn made(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Box<dyn DiskFile> {
    disk::write_new(disk, name, bytes, None).unwrap();
    disk.open(name).unwrap().unwrap()
}

/// Puts a file in its place, with or without the syncs.
fn replace(disk: &dyn Disk, letter: u8, sync_file: bool, sync_folder: bool) -> io::Result<()> {
    let file = disk.create("new")?;
    write_all_at(&*file, 0, &text(letter))?;
    if sync_file {
        file.sync_all()?;
    }
    disk.rename("new", "file")?;
    if sync_folder {
        disk.sync()?;
    }
    Ok(())
}

/// What is left of the file.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Left {
    Nothing,
    Old,
    New,
    Torn,
}

fn left(content: Option<Vec<u8>>) -> Left {
    match content {
        None => Left::Nothing,
        Some(content) if content == text(b'a') => Left::Old,
        Some(content) if content == text(b'b') => Left::New,
        Some(_) => Left::Torn,
    }
}

/// What is left after the plug was pulled, over many seeds.
fn after_crashes(nature: Nature, sync_file: bool, sync_folder: bool) -> BTreeSet<Left> {
    let outcomes = (0..SEEDS).map(|seed| {
        let disk = CrashDisk::with(nature, seed);
        replace(&disk, b'a', true, true).unwrap();
        replace(&disk, b'b', sync_file, sync_folder).unwrap();
        left(disk.recover(seed).content("file"))
    });
    outcomes.collect()
}

#[test]
fn a_replacement_with_all_syncs_outlasts_every_crash() {
    for names_in_order in [false, true] {
        let nature = Nature { names_in_order, ..Nature::default() };
        assert_eq!(after_crashes(nature, true, true), BTreeSet::from([Left::New]));
    }
}

#[test]
fn a_replacement_without_a_sync_of_its_file_is_torn_by_some_crashes() {
    let left = after_crashes(Nature::default(), false, true);
    assert!(left.contains(&Left::Torn) && left.contains(&Left::New) && !left.contains(&Left::Old), "{left:?}");
}

#[test]
fn a_replacement_without_a_sync_of_its_folder_is_undone_by_some_crashes() {
    for names_in_order in [false, true] {
        let nature = Nature { names_in_order, ..Nature::default() };
        assert_eq!(after_crashes(nature, true, false), BTreeSet::from([Left::Old, Left::New]));
    }
}

#[test]
fn a_replacement_is_all_or_nothing_whenever_the_plug_is_pulled() {
    let whole = CrashDisk::new(0);
    replace(&whole, b'a', true, true).unwrap();
    let begun = whole.operations();
    replace(&whole, b'b', true, true).unwrap();
    let mut seen = BTreeSet::new();
    for operation in begun + 1..=whole.operations() {
        for seed in 0..40 {
            let disk = CrashDisk::new(seed);
            disk.crash_at(operation);
            replace(&disk, b'a', true, true).unwrap();
            let error = replace(&disk, b'b', true, true).unwrap_err();
            assert!(Crashed::is(&error) && disk.is_dead());
            seen.insert(left(disk.recover(seed).content("file")));
        }
    }
    assert_eq!(seen, BTreeSet::from([Left::Old, Left::New]));
}

#[test]
fn sectors_reach_the_disk_in_any_order_and_may_be_torn() {
    let (mut holes, mut torn, mut short) = (0, 0, 0);
    for seed in 0..SEEDS {
        let disk = CrashDisk::new(seed);
        let file = disk.create("file").unwrap();
        disk.sync().unwrap();
        write_all_at(&*file, 0, &text(b'b')).unwrap();
        let content = disk.recover(seed).content("file").unwrap();
        let first_zero = content.iter().position(|byte| *byte == 0);
        let written_later = first_zero.is_some_and(|zero| content[zero..].contains(&b'b'));
        holes += u32::from(written_later);
        torn += u32::from(first_zero.is_some_and(|zero| zero % 512 != 0));
        short += u32::from(content.len() < 2_000);
        assert!(content.iter().all(|byte| [0, b'b'].contains(byte)));
    }
    assert!(holes > 20 && torn > 5 && short > 20, "{holes} {torn} {short}");
}

#[test]
fn a_sector_never_has_the_later_of_two_writes_without_the_earlier_unless_it_is_torn() {
    for seed in 0..SEEDS {
        let disk = CrashDisk::new(seed);
        let file = made(&disk, "file", &[0; 512]);
        disk.sync().unwrap();
        write_all_at(&*file, 0, &[1; 200]).unwrap();
        write_all_at(&*file, 100, &[2; 200]).unwrap();
        let content = disk.recover(seed).content("file").unwrap();
        // Both, the first, none, or one of these up to a byte and another from there on: three runs of a version.
        let runs = content.windows(2).filter(|pair| pair[0] != pair[1]).count();
        assert!(runs <= 4, "{content:?}");
    }
}

#[test]
fn names_that_were_not_synced_come_or_not_each_in_its_order() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = CrashDisk::new(seed);
        for name in ["a", "b"] {
            made(&disk, name, name.as_bytes());
        }
        disk.rename("a", "c").unwrap();
        seen.insert(disk.recover(seed).listed().concat());
    }
    let expected = ["", "a", "ab", "b", "bc", "c"].map(str::to_owned);
    assert_eq!(seen, BTreeSet::from(expected));
}

#[test]
fn in_an_ordered_folder_names_come_in_the_order_of_the_calls() {
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        let disk = CrashDisk::with(Nature { names_in_order: true, ..Nature::default() }, seed);
        for name in ["a", "b", "c"] {
            disk.create(name).unwrap();
        }
        seen.insert(disk.recover(seed).listed().concat());
    }
    assert_eq!(seen, ["", "a", "ab", "abc"].map(str::to_owned).into());
}

#[test]
fn a_sync_of_a_new_file_keeps_its_name_only_where_the_file_system_says_so() {
    for (file_sync_keeps_names, least) in [(false, 1), (true, 0)] {
        let lost = (0..SEEDS).filter(|seed| {
            let nature = Nature { file_sync_keeps_names, ..Nature::default() };
            let disk = CrashDisk::with(nature, *seed);
            made(&disk, "file", b"content");
            disk.recover(*seed).content("file").is_none()
        });
        let lost = lost.count();
        assert_eq!(lost > 0, least > 0, "{lost}");
    }
}

#[test]
fn what_a_failed_sync_did_not_write_is_read_and_never_written() {
    let mut lost = 0;
    for seed in 0..SEEDS {
        let disk = CrashDisk::new(seed);
        let file = made(&disk, "file", &text(b'a'));
        disk.sync().unwrap();
        disk.fail_at(disk.operations() + 2, Fault::Eio);
        write_all_at(&*file, 0, &text(b'b')).unwrap();
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(5));
        assert_eq!((disk.hits(), disk.resyncs()), (1, 0));
        // The second call succeeds, the cache shows what was written, and the disk does not have it.
        file.sync_data().unwrap();
        assert_eq!(disk.resyncs(), 1);
        assert_eq!(left(disk.content("file")), Left::New);
        lost += u32::from(left(disk.recover(seed).content("file")) != Left::New);
    }
    assert!(lost > 200, "{lost}");
}

#[test]
fn faults_come_once_or_until_they_are_healed() {
    let disk = CrashDisk::new(1);
    let file = disk.create("file").unwrap();
    disk.fail_at(2, Fault::ShortWrite);
    let taken = file.write_at(0, b"content").unwrap();
    assert!((1..7).contains(&taken));
    assert_eq!(file.write_at(0, b"content").unwrap(), 7);

    disk.fail_from(4, Fault::Enospc);
    for _ in 0..3 {
        assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
    assert!(file.look().is_ok(), "reading needs no space");
    disk.heal();
    file.write_at(0, b"x").unwrap();

    disk.fail_from(disk.operations() + 1, Fault::Eintr);
    write_all_at(&*file, 0, b"those who repeat get on").unwrap();
    disk.heal();
    disk.fail_at(disk.operations() + 1, Fault::Edquot);
    assert_eq!(disk.create("other").err().unwrap().kind(), io::ErrorKind::QuotaExceeded);
}

#[test]
fn a_full_disk_takes_what_was_written_before_and_nothing_else() {
    let disk = CrashDisk::new(1);
    let file = made(&disk, "file", &[0; 100]);
    disk.set_full(true);
    write_all_at(&*file, 0, &[1; 100]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(file.write_at(60, &[2; 100]).unwrap(), 40, "what has room is written");
    assert_eq!(file.write_at(100, &[2]).unwrap_err().kind(), io::ErrorKind::StorageFull);
    assert_eq!(disk.create("other").err().unwrap().kind(), io::ErrorKind::StorageFull);
    disk.heal();
    file.write_at(100, &[2]).unwrap();
}

#[test]
fn a_killed_process_loses_its_locks_and_nothing_else() {
    let disk = CrashDisk::new(1);
    let other = disk.process();
    let file = disk.create("file").unwrap();
    file.write_at(0, b"not synced").unwrap();
    assert!(file.try_lock().unwrap() && file.try_lock().unwrap());
    let theirs = other.open("file").unwrap().unwrap();
    assert!(!theirs.try_lock().unwrap());
    assert!(!disk.open("file").unwrap().unwrap().try_lock().unwrap(), "another open file is another holder");

    let next = disk.kill();
    assert!(disk.is_dead() && !other.is_dead() && !next.is_dead());
    assert!(Crashed::is(&file.write_at(0, b"late").unwrap_err()) && Crashed::is(&disk.names().unwrap_err()));
    assert!(theirs.try_lock().unwrap());
    assert_eq!(disk::read(&next, "file", 100).unwrap().unwrap(), b"not synced");
    drop(theirs);
    assert!(next.open("file").unwrap().unwrap().try_lock().unwrap());
}

#[test]
fn another_process_cuts_in_before_a_call() {
    let disk = CrashDisk::new(1);
    let other = disk.process();
    disk.before(2, move || drop(other.create("theirs").unwrap()));
    disk.create("ours").unwrap();
    assert_eq!(disk.names().unwrap(), ["ours", "theirs"]);
    assert_eq!(disk.operations(), 3);
}

#[test]
fn a_reboot_ends_all_processes_and_frees_all_locks() {
    let disk = CrashDisk::new(1);
    let other = disk.process();
    let file = made(&disk, "file", b"content");
    disk.sync().unwrap();
    assert!(file.try_lock().unwrap());
    let again = disk.recover(1);
    assert!(disk.is_dead() && other.is_dead());
    assert!(again.open("file").unwrap().unwrap().try_lock().unwrap());
    assert_eq!(again.operations(), 2);
}

#[test]
fn an_open_file_stays_what_it_is_and_its_number_is_given_again_when_it_is_gone() {
    let disk = CrashDisk::new(1);
    let file = made(&disk, "file", b"old");
    made(&disk, "new", b"new");
    disk.exchange("file", "new").unwrap();
    disk.remove("new").unwrap();
    disk.sync().unwrap();
    assert_eq!(disk::read_to_end_at(&*file, 0, 9).unwrap(), b"old");
    assert_eq!(disk::read(&disk, "file", 9).unwrap().unwrap(), b"new");
    let number = file.look().unwrap().file;
    assert_ne!(disk.create("third").unwrap().look().unwrap().file, number);
    drop(file);
    assert_eq!(disk.create("fourth").unwrap().look().unwrap().file, number);
}

#[test]
fn what_a_file_system_can_not_do_it_refuses() {
    let disk = CrashDisk::new(1);
    for name in ["a", "b"] {
        disk.create(name).unwrap();
    }
    disk.become_of(|nature| (nature.exchange, nature.link, nature.folder_sync) = (false, false, false));
    for refused in [disk.exchange("a", "b"), disk.link("a", "c"), disk.sync()] {
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::Unsupported);
    }
    assert_eq!(disk::sync_names(&disk).unwrap(), disk::NamesDurable::NotPromised);
    disk.become_of(|nature| nature.read_only = true);
    assert_eq!(disk.create("c").err().unwrap().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(disk.remove("a").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    let file = disk.open("a").unwrap().unwrap();
    assert_eq!(file.write_at(0, b"x").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert!(file.try_lock().unwrap());
}

#[test]
fn equal_seeds_leave_equal_disks() {
    let run = |seed| {
        let disk = CrashDisk::new(seed);
        disk.keep_log();
        replace(&disk, b'a', false, false).unwrap();
        let log = disk.log();
        let left = disk.recover(seed + 1);
        (log, left.listed().iter().map(|name| left.content(name)).collect::<Vec<_>>())
    };
    for seed in 0..50 {
        assert_eq!(run(seed), run(seed));
    }
}

#[test]
fn bits_flip_durably_and_copies_are_apart() {
    let disk = CrashDisk::new(1);
    made(&disk, "file", b"aaa");
    disk.sync().unwrap();
    let copy = disk.copy();
    copy.flip("file", 1, 0);
    assert_eq!((disk.content("file").unwrap(), copy.content("file").unwrap()), (b"aaa".to_vec(), b"a`a".to_vec()));
    assert_eq!(copy.recover(3).content("file").unwrap(), b"a`a");
}

/// What turmoil leaves, over many seeds.
fn after_turmoil(sync_file: bool, sync_folder: bool) -> BTreeSet<Left> {
    let outcomes = (0..SEEDS).map(|seed| {
        let disk = TurmoilDisk::new(seed, 512, 100);
        replace(&disk, b'a', true, true).unwrap();
        replace(&disk, b'b', sync_file, sync_folder).unwrap();
        let after = disk.recover();
        assert!(disk.is_dead() && Crashed::is(&disk.names().unwrap_err()));
        left(disk::read(&after, "file", 9_999).unwrap())
    });
    outcomes.collect()
}

#[test]
fn turmoil_finds_missing_syncs_too() {
    assert_eq!(after_turmoil(true, true), BTreeSet::from([Left::New]));
    assert_eq!(after_turmoil(true, false), BTreeSet::from([Left::Old]));
    assert!(after_turmoil(false, true).contains(&Left::Torn));
}

#[test]
fn turmoil_has_locks_and_files_that_stay_what_they_are() {
    let disk = TurmoilDisk::new(1, 512, 0);
    let file = made(&disk, "file", b"old");
    assert!(file.try_lock().unwrap());
    assert!(!disk.open("file").unwrap().unwrap().try_lock().unwrap());
    made(&disk, "new", b"new");
    disk.rename("new", "file").unwrap();
    assert_eq!(disk::read(&disk, "file", 9).unwrap().unwrap(), b"new");
    assert_eq!(disk::read_to_end_at(&*file, 0, 9).unwrap(), b"old");
    write_all_at(&*file, 3, b"er").unwrap();
    assert_eq!(disk::read_to_end_at(&*file, 0, 9).unwrap(), b"older");
    disk.remove("file").unwrap();
    let again = disk.create("file").unwrap();
    assert_eq!(again.look().unwrap().length, 0);
    assert_eq!(disk.names().unwrap(), ["file"]);
    assert_eq!(disk.exchange("file", "new").unwrap_err().kind(), io::ErrorKind::Unsupported);
}
