//! The store against a model, with damage, and what its writes cost.

mod costs;
mod damage;
mod following;
mod model;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::*;
use crate::edge::files::{Directory, MemoryDirectory};
use crate::model::Digest;

/// The name of the record that has a file of its own.
const OWN: &str = "own";

/// What is stored of a name: header and body.
type Model = BTreeMap<String, (String, Vec<u8>)>;

fn open(directory: &MemoryDirectory) -> (StateStore, SavedState) {
    StateStore::open(Arc::new(directory.clone()), &[OWN]).unwrap()
}

fn record(header: &str, body: &[u8]) -> StateRecord {
    StateRecord::new(&header, Body::from(Bytes::copy_from_slice(body))).unwrap()
}

fn keep(name: &str, header: &str, body: &[u8]) -> (String, Change) {
    (name.to_owned(), Change::Record(record(header, body)))
}

/// Writes changes, all of which must succeed.
fn commit(store: &mut StateStore, changes: Vec<(String, Change)>) -> Written {
    let committed = store.commit(changes);
    for (name, result) in committed.results {
        assert!(result.is_ok(), "{name}: {result:?}");
    }
    committed.written
}

fn compact(store: &mut StateStore) -> u64 {
    let Some(compaction) = store.begin_compaction() else { return 0 };
    let compacted = compaction.run();
    let bytes = compacted.as_ref().map_or(0, Compacted::bytes);
    store.end_compaction(compacted);
    bytes
}

fn modelled(saved: &SavedState) -> Model {
    let entry = |(name, record): &(String, StateRecord)| {
        let body = record.body.bytes();
        assert_eq!(record.body.digest(), (!body.is_empty()).then(|| Digest::of(&body)));
        (name.clone(), (record.header().unwrap(), body.to_vec()))
    };
    saved.records.iter().map(entry).collect()
}

/// What a follower reads; nothing may be damaged.
fn stored(directory: &MemoryDirectory) -> Model {
    let saved = read(directory, &[OWN]).unwrap();
    assert_eq!(saved.damaged, []);
    modelled(&saved)
}

fn text(pairs: &[(&str, &str, &str)]) -> Model {
    let entry = |(name, header, body): &(&str, &str, &str)| {
        ((*name).to_owned(), ((*header).to_owned(), body.as_bytes().to_vec()))
    };
    pairs.iter().map(entry).collect()
}

#[test]
fn records_are_read_back_and_the_latest_of_a_name_counts() {
    let directory = MemoryDirectory::new();
    let (mut store, saved) = open(&directory);
    assert_eq!(saved, SavedState::default());
    commit(&mut store, vec![keep("a", "1", b"x"), keep("b", "1", b"y"), keep(OWN, "1", b"z"), keep("gone", "1", b"")]);
    commit(&mut store, vec![keep("a", "2", b"x"), keep("b", "2", b""), ("gone".to_owned(), Change::Removal)]);
    commit(&mut store, vec![keep(OWN, "2", b""), ("unknown".to_owned(), Change::Removal)]);
    let expected = text(&[("a", "2", "x"), ("b", "2", ""), (OWN, "2", "")]);
    assert_eq!(stored(&directory), expected);
    let (mut store, saved) = open(&directory);
    assert_eq!(modelled(&saved), expected);
    commit(&mut store, vec![(OWN.to_owned(), Change::Removal), keep("a", "3", b"x")]);
    assert_eq!(directory.names().unwrap(), ["lists-1.log", "lists-2.log"], "a log is appended to by its creator only");
    assert_eq!(stored(&directory), text(&[("a", "3", "x"), ("b", "2", "")]));
}

#[test]
fn what_cannot_be_stored_is_refused_alone() {
    let directory = MemoryDirectory::new();
    let (mut store, _) = open(&directory);
    let lies = Body::deferred(Digest::of(b"x"), 1, || Bytes::from_static(b"y"));
    let committed = store.commit(vec![
        keep("two\nlines", "1", b"x"),
        keep(&"long".repeat(300), "1", b"x"),
        keep("forged", "1", b"x\ncortex-state 2 "),
        keep("forged too", "1", b"cortex-state 2 "),
        ("lies".to_owned(), Change::Record(StateRecord { header: "1".to_owned(), body: lies })),
        keep("good", "1", b"x"),
    ]);
    let failed: Vec<_> = committed.results.iter().filter(|(_, result)| result.is_err()).collect();
    assert_eq!(failed.len(), 5, "{failed:?}");
    assert!(failed.iter().all(|(_, result)| !matches!(result, Err(WriteError::Io(_)))));
    assert_eq!(stored(&directory), text(&[("good", "1", "x")]));
}

#[test]
fn files_of_the_first_form_are_counted_left_and_not_read() {
    let directory = MemoryDirectory::new();
    let old = b"cortex-state 1 0000\n{}\n[]";
    for name in ["connector-a.state", "service-map.state"] {
        directory.replace(name, old).unwrap();
    }
    let (mut store, saved) = open(&directory);
    assert_eq!(saved, SavedState { old_files: 2, ..SavedState::default() });
    commit(&mut store, vec![keep("connector-a", "1", b"x"), keep(OWN, "1", b"x")]);
    compact(&mut store);
    assert_eq!(directory.read("connector-a.state").unwrap().as_deref(), Some(&old[..]));
    let foreign = MemoryDirectory::new();
    foreign.replace("other.state", b"something else").unwrap();
    assert_eq!(open(&foreign).1.old_files, 0);
}
