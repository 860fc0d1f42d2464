//! Flipped bits and files that were cut: a record is lost at most, and no wrong bytes are read.

use super::*;

/// A log of several records, some with a history, and what it holds.
fn sample() -> (MemoryDirectory, Model) {
    let directory = MemoryDirectory::new();
    let (mut store, _) = open(&directory);
    commit(&mut store, vec![keep("a", "1", b"[1]"), keep("b", "1", b"[2]"), keep("c", "1", b"[3]")]);
    commit(&mut store, vec![keep("b", "2", b"[2]"), keep("c", "2", b"[4]"), keep("d", "1", b"")]);
    (directory.clone(), stored(&directory))
}

/// What may be read in the place of each record: what was ever stored of it.
fn ever() -> BTreeMap<&'static str, Vec<(&'static str, &'static [u8])>> {
    BTreeMap::from([
        ("a", vec![("1", &b"[1]"[..])]),
        ("b", vec![("1", b"[2]"), ("2", b"[2]")]),
        ("c", vec![("1", b"[3]"), ("2", b"[4]")]),
        ("d", vec![("1", b"")]),
    ])
}

fn assert_genuine(model: &Model, what: &str) {
    for (name, (header, body)) in model {
        assert!(ever()[&**name].contains(&(header, body)), "{what}: {name} {header} {body:?}");
    }
}

#[test]
fn each_flipped_bit_costs_one_record_at_most() {
    let (directory, whole) = sample();
    let log = directory.read("lists-1.log").unwrap().unwrap();
    let mut unharmed = 0;
    for position in 0..log.len() {
        for bit in 0..8 {
            let mut damaged = log.clone();
            damaged[position] ^= 1 << bit;
            directory.replace("lists-1.log", &damaged).unwrap();
            let saved = read(&directory, &[]).unwrap();
            let model = modelled(&saved);
            let what = format!("byte {position}, bit {bit}");
            assert_genuine(&model, &what);
            let differ: Vec<_> = whole.iter().filter(|(name, entry)| model.get(*name) != Some(*entry)).collect();
            assert!(differ.len() <= 1, "{what}: {differ:?}");
            // What does not show costs nothing: a line feed behind a payload, or a frame that a later one replaced.
            assert!(differ.is_empty() || !saved.damaged.is_empty(), "{what}: unreported");
            unharmed += usize::from(differ.is_empty());
        }
    }
    assert!(unharmed > 0);
}

#[test]
fn each_cut_leaves_what_was_written_before_it_and_is_no_damage() {
    let (directory, whole) = sample();
    let log = directory.read("lists-1.log").unwrap().unwrap();
    let mut records = 0;
    for length in 0..=log.len() {
        for zeros in [0, 1, 700] {
            let mut cut = log[..length].to_vec();
            cut.resize(length + zeros, 0);
            directory.replace("lists-1.log", &cut).unwrap();
            let saved = read(&directory, &[]).unwrap();
            let model = modelled(&saved);
            let what = format!("cut to {length}, {zeros} zeros");
            assert_genuine(&model, &what);
            assert_eq!(saved.damaged, [], "{what}");
            assert!(model.len() >= records, "{what}");
            records = model.len();
        }
    }
    directory.replace("lists-1.log", &log).unwrap();
    assert_eq!(stored(&directory), whole);
}

#[test]
fn a_damaged_log_is_quarantined_once_its_records_are_elsewhere() {
    let (directory, whole) = sample();
    let mut log = directory.read("lists-1.log").unwrap().unwrap();
    let at = log.windows(3).position(|bytes| bytes == b"[1]").unwrap();
    log[at] ^= 1;
    directory.replace("lists-1.log", &log).unwrap();
    let follower = read(&directory, &[]).unwrap();
    let damaged = Damaged { file: "lists-1.log".to_owned(), name: Some("a".to_owned()) };
    assert_eq!(follower.damaged, [damaged]);
    let (mut store, saved) = open(&directory);
    assert_eq!(saved, follower);
    assert!(store.is_compaction_due());
    compact(&mut store);
    let quarantined = format!("lists-1.log.{}.damaged", Digest::of(&log).short(8));
    assert_eq!(directory.read(&quarantined).unwrap(), Some(log));
    assert!(!store.is_compaction_due());
    commit(&mut store, vec![keep("a", "1", b"[1]")]);
    assert_eq!(stored(&directory), whole);
}

#[test]
fn a_damaged_body_is_hashed_once_for_all_headers_that_refer_to_it() {
    let directory = MemoryDirectory::new();
    let (mut store, _) = open(&directory);
    for header in 0..20 {
        commit(&mut store, vec![keep("a", &header.to_string(), b"[1]")]);
    }
    let mut log = directory.read("lists-1.log").unwrap().unwrap();
    let at = log.windows(3).position(|bytes| bytes == b"[1]").unwrap();
    log[at] ^= 1;
    directory.replace("lists-1.log", &log).unwrap();
    let before = read::HASHED.get();
    assert_eq!(read(&directory, &[]).unwrap().records, []);
    assert_eq!(read::HASHED.get() - before, 20 + 1);
}

#[test]
fn a_log_that_is_cut_or_removed_while_it_runs_costs_its_records_only() {
    for remains in [Some(400), None] {
        let (directory, whole) = sample();
        let (mut store, _) = open(&directory);
        for _ in 0..8 {
            drop(std::mem::replace(&mut store, open(&directory).0));
            commit(&mut store, vec![keep("d", "2", b"[5]")]);
        }
        let log = directory.read("lists-1.log").unwrap().unwrap();
        directory.remove("lists-1.log").unwrap();
        if let Some(length) = remains {
            directory.replace("lists-1.log", &log[..length]).unwrap();
        }
        assert!(compact(&mut store) > 0);
        assert!(!directory.names().unwrap().contains(&"lists-1.log".to_owned()));
        assert_eq!(stored(&directory)["d"], ("2".to_owned(), b"[5]".to_vec()));
        let missing = vec![keep("a", "1", b"[1]"), keep("b", "2", b"[2]"), keep("c", "2", b"[4]"), keep("d", "1", b"")];
        commit(&mut store, missing);
        assert_eq!(stored(&directory), whole);
    }
}

#[test]
fn damage_that_happens_while_it_runs_is_not_copied() {
    let (directory, _) = sample();
    let (mut store, _) = open(&directory);
    for _ in 0..8 {
        drop(std::mem::replace(&mut store, open(&directory).0));
        commit(&mut store, vec![keep("d", "2", b"[5]"), keep("a", "1", b"[1]")]);
    }
    let mut log = directory.read("lists-1.log").unwrap().unwrap();
    let at = log.windows(3).position(|bytes| bytes == b"[1]").unwrap();
    log[at] ^= 1;
    directory.replace("lists-1.log", &log).unwrap();
    assert!(compact(&mut store) > 0);
    assert!(!modelled(&read(&directory, &[]).unwrap()).contains_key("a"));
    assert!(directory.names().unwrap().iter().any(|name| name.ends_with(".damaged")));
    let written = commit(&mut store, vec![keep("a", "2", b"[1]")]);
    assert_eq!((written.frames, stored(&directory)["a"].clone()), (2, ("2".to_owned(), b"[1]".to_vec())));
}

#[test]
fn a_file_of_its_own_is_whole_or_quarantined_and_never_an_older_version() {
    let directory = MemoryDirectory::new();
    let (mut store, _) = open(&directory);
    commit(&mut store, vec![keep(OWN, "1", b"[1]")]);
    commit(&mut store, vec![keep(OWN, "2", b"[2]")]);
    let file = directory.read("own.record").unwrap().unwrap();
    for position in 0..file.len() {
        for bit in 0..8 {
            let mut damaged = file.clone();
            damaged[position] ^= 1 << bit;
            directory.replace("own.record", &damaged).unwrap();
            let saved = read(&directory, &[OWN]).unwrap();
            // The line feeds behind the payloads carry nothing.
            let is_end = [b'\n'].contains(&file[position]) && saved.damaged.is_empty();
            assert!(is_end || saved.records.is_empty(), "byte {position}, bit {bit}");
            assert!(is_end || saved.damaged.len() == 1, "byte {position}, bit {bit}");
        }
    }
    for length in 0..file.len() {
        directory.replace("own.record", &file[..length]).unwrap();
        assert!(read(&directory, &[OWN]).unwrap().records.is_empty(), "cut to {length}");
    }
    let (_, saved) = open(&directory);
    assert_eq!((saved.records.len(), saved.damaged.len()), (0, 1));
    assert!(directory.names().unwrap()[0].starts_with("own.record.") && directory.names().unwrap().len() == 1);
}

#[test]
fn damaged_files_that_are_kept_are_bounded() {
    let directory = MemoryDirectory::new();
    for number in 0..100 {
        directory.replace("own.record", format!("damaged {number}").as_bytes()).unwrap();
        open(&directory);
    }
    assert_eq!(directory.names().unwrap().len(), limits::DAMAGED_FILES_MAX);
}
