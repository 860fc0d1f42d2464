//! Flipped bits in the registry's files. Every record of a journal that a later one, or the end of the journal, knows
//! to be durable is missed when it is damaged; a last batch that nobody vouches for is reported by its number. A
//! document that can not be read any more is copied, never overwritten, and served from its base; of one that still can
//! be read, whatever differs counts as an edit, and the former value is kept.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod registry_world;
mod support;

use std::sync::Arc;

use cortex_mcp::edge::disk::Disk;
use cortex_mcp::registry::{Acknowledge, ReadOnlyReason, Store};
use registry_world::clock::HandClock;
use registry_world::ledger::Said;
use registry_world::script::{at_each, say};
use registry_world::{FILE, content, open, policy, said};
use support::crash_disk::CrashDisk;

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A process that opens the registry later, on another day, and does what is due.
fn next(disk: &CrashDisk, seed: u64) -> Arc<Store> {
    let clock = Arc::new(HandClock::new());
    clock.pass(24 * 3_600_000);
    disk.set_wall_ns(clock.wall_ns());
    let store = open(Arc::new(disk.process()), &policy(&clock, seed), "next", Acknowledge::Journal).unwrap();
    store.tend();
    store
}

/// A folder in which somebody was killed after each of the names was set, one change at a time; or sealed his journal
/// because the disk was full when he ended.
fn journalled(sealed: bool) -> (CrashDisk, String) {
    let disk = CrashDisk::new(1);
    let clock = Arc::new(HandClock::new());
    let store = open(Arc::new(disk.clone()), &policy(&clock, 1), "gone", Acknowledge::Journal).unwrap();
    for (name, number) in NAMES.iter().zip(1..) {
        clock.pass(10);
        disk.set_wall_ns(clock.wall_ns());
        store.upsert(content(name, number)).unwrap();
    }
    if sealed {
        disk.set_full(true);
        store.close().unwrap_err();
        disk.heal();
    }
    disk.kill();
    drop(store);
    let all = disk.listed();
    let journals: Vec<_> = all.into_iter().filter(|name| name.contains(".journal-")).collect();
    let written = |name: &&String| disk.content(name).unwrap()[64..].iter().any(|byte| *byte != 0);
    let journal = journals.iter().find(written).unwrap().clone();
    (disk.copy(), journal)
}

/// All names, without one.
fn without(missing: Option<usize>) -> Said {
    let all = NAMES.iter().enumerate().filter(|(index, _)| Some(*index) != missing);
    all.map(|(index, name)| ((*name).to_owned(), index as u32 + 1)).collect()
}

/// The places of the records of a segment: where each begins, and where the last ends.
fn records(segment: &[u8]) -> Vec<usize> {
    let mut places = vec![64];
    loop {
        let at = *places.last().unwrap();
        let length = u32::from_le_bytes(segment[at..at + 4].try_into().unwrap()) as usize;
        if length == 0 {
            return places;
        }
        places.push(at + 24 + length);
    }
}

/// What is told about a journal of which one bit was flipped.
fn flipped_journal(disk: &CrashDisk, journal: &str, byte: usize, bit: u32, sealed: bool) -> Result<(), String> {
    let places = records(&disk.content(journal).unwrap());
    let count = places.len() - 1;
    let record = places.iter().rposition(|place| *place <= byte).filter(|index| *index < count);
    let copy = disk.copy();
    copy.flip(journal, byte, bit);
    let store = next(&copy, 2);
    let snapshot = store.snapshot();
    let now = said(&snapshot);
    let told = snapshot.problems.join("; ");
    let reason = snapshot.standing.reason();
    let complain = |what: &str| Err(format!("byte {byte} bit {bit}: {what}: {now:?}, {reason:?}, {told:?}"));
    match record {
        // The header, or what was never written.
        None if now != without(None) => complain("something is missing"),
        None if reason.is_some() => complain("nothing is missing, and it is read-only"),
        None => Ok(()),
        Some(index) if index + 1 < count => {
            let sequence = index as u64 + 1;
            let detected =
                matches!(reason, Some(ReadOnlyReason::JournalDamaged { sequence: own, .. }) if *own == sequence);
            if !detected {
                return complain("damage is not reported");
            }
            if now == without(Some(index)) { Ok(()) } else { complain("something else than the record is missing") }
        }
        Some(index) => {
            // The last one: a seal, of which nothing is missed, or a change that nobody vouches for.
            let expected = if sealed { without(None) } else { without(Some(index)) };
            if now != expected {
                return complain("something else than the last record is missing");
            }
            if !told.contains(&format!("from change {} on", index + 1)) {
                return complain("the last batch is not reported by its number");
            }
            if reason.is_some() { complain("a torn tail makes it read-only") } else { Ok(()) }
        }
    }
}

fn flip_journals(sealed: bool) {
    let (disk, journal) = journalled(sealed);
    let content = disk.content(&journal).unwrap();
    let end = *records(&content).last().unwrap();
    assert_eq!(records(&content).len() - 1, NAMES.len() + usize::from(sealed));
    // Every bit of the first and last records, a bit of every byte between and of some behind the end.
    let all: Vec<(usize, u32)> = (0..end + 64)
        .chain((end + 64..content.len()).step_by(100_003))
        .flat_map(|byte| {
            let every = byte < 64 + 200 || (end.saturating_sub(200)..end).contains(&byte);
            let bits = if every { 0..8 } else { byte as u32 % 8..byte as u32 % 8 + 1 };
            bits.map(move |bit| (byte, bit))
        })
        .collect();
    at_each(&all, |(byte, bit)| flipped_journal(&disk, &journal, *byte, *bit, sealed));
    say(&format!("flips: {} in a journal of {} records", all.len(), records(&content).len() - 1));
}

#[test]
fn a_flipped_bit_in_a_journal_is_reported_and_costs_one_record_at_most() {
    flip_journals(false);
}

#[test]
fn a_flipped_bit_in_a_sealed_journal_is_reported_wherever_it_is() {
    flip_journals(true);
}

/// A folder with a document of all names, and a name that was removed.
fn written() -> CrashDisk {
    let disk = CrashDisk::new(1);
    let clock = Arc::new(HandClock::new());
    let store = open(Arc::new(disk.clone()), &policy(&clock, 1), "gone", Acknowledge::Journal).unwrap();
    for (name, number) in NAMES.iter().zip(1..) {
        clock.pass(10);
        if number == NAMES.len() as u32 {
            store.upsert(content("x", 99)).unwrap();
            store.flush().unwrap();
            store.remove("x").unwrap();
        }
        store.upsert(content(name, number)).unwrap();
    }
    store.close().unwrap();
    drop(store);
    disk.copy()
}

/// What comes of a document of which one bit was flipped.
fn flipped_document(disk: &CrashDisk, byte: usize, bit: u32) -> Result<(), String> {
    let copy = disk.copy();
    copy.flip(FILE, byte, bit);
    let flipped = copy.content(FILE).unwrap();
    let store = next(&copy, 2);
    let snapshot = store.snapshot();
    let now = said(&snapshot);
    let reason = snapshot.standing.reason();
    let complain = |what: &str| {
        let text = String::from_utf8_lossy(&flipped).into_owned();
        Err(format!("byte {byte} bit {bit}: {what}: {now:?}, {reason:?}, {:?}\n{text}", snapshot.problems))
    };
    if let Some(reason) = reason {
        let ReadOnlyReason::Unreadable { copy: Some(kept), .. } = reason else {
            return complain("it is read-only for another reason");
        };
        if copy.content(FILE).unwrap() != flipped || copy.content(kept).unwrap() != flipped {
            return complain("what can not be read was overwritten, or not copied");
        }
        return if now == without(None) { Ok(()) } else { complain("the base is not served") };
    }
    let superseded = copy.content("servers.json.superseded").unwrap_or_default();
    let superseded = String::from_utf8(superseded).unwrap();
    for (name, number) in without(None) {
        let former = format!("https://{name}.test/v{number}");
        if now.get(&name) != Some(&number) && !superseded.contains(&former) {
            return complain(&format!("the former value of {name} is nowhere"));
        }
    }
    if now.len() > NAMES.len() + 1 { complain("something was made up") } else { Ok(()) }
}

#[test]
fn a_flipped_bit_in_the_document_loses_nothing() {
    let disk = written();
    let length = disk.content(FILE).unwrap().len();
    let all: Vec<(usize, u32)> = (0..length).flat_map(|byte| (0..8).map(move |bit| (byte, bit))).collect();
    at_each(&all, |(byte, bit)| flipped_document(&disk, *byte, *bit));
    say(&format!("flips: {} in a document of {length} bytes", all.len()));
}

#[test]
fn a_flipped_bit_in_a_base_changes_nothing() {
    let disk = written();
    // One of them is the document itself, by a second name.
    let which = |name: &str| disk.look(name).unwrap().unwrap().file;
    let apart = |name: &String| which(name) != which(FILE) && (name.contains(".base-") || name.contains(".copy-"));
    let bases = disk.listed().into_iter().filter(apart);
    let all: Vec<(String, usize)> = bases
        .flat_map(|name| {
            let length = disk.content(&name).unwrap().len();
            (0..length).step_by(7).map(move |byte| (name.clone(), byte))
        })
        .collect();
    assert!(all.len() > 100);
    at_each(&all, |(name, byte)| {
        let copy = disk.copy();
        copy.flip(name, *byte, *byte as u32 % 8);
        let snapshot = next(&copy, 2).snapshot();
        if said(&snapshot) == without(None) && snapshot.standing.reason().is_none() {
            return Ok(());
        }
        Err(format!("{name}, byte {byte}: {:?}, {:?}", said(&snapshot), snapshot.standing))
    });
}
