//! Reading while another process appends and compacts.

use super::*;
use crate::edge::files::{AppendFile, LockGuard};
use std::sync::Mutex;

/// A directory on which something happens before each read of a file, and whose first listing may lack names.
struct Interrupted {
    inner: MemoryDirectory,
    first_listing: Mutex<Option<Vec<String>>>,
    before_read: Mutex<Box<dyn FnMut() + Send>>,
}

impl Directory for Interrupted {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        (self.before_read.lock().unwrap())();
        self.inner.read(name)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
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
        self.first_listing.lock().unwrap().take().map_or_else(|| self.inner.names(), Ok)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn AppendFile>> {
        self.inner.create(name)
    }

    fn try_lock(&self, name: &str) -> io::Result<Option<LockGuard>> {
        self.inner.try_lock(name)
    }
}

#[test]
fn a_follower_misses_nothing_that_a_compaction_moves_meanwhile() {
    // After how many reads of the follower the leader compacts.
    for moment in 0..12 {
        let directory = MemoryDirectory::new();
        for restart in 0..9 {
            let (mut store, _) = open(&directory);
            commit(
                &mut store,
                vec![keep(&format!("r{restart}"), "1", b"[1]"), keep("all", &restart.to_string(), b"[2]")],
            );
        }
        let expected = stored(&directory);
        let (mut store, _) = open(&directory);
        let mut reads = 0;
        let compacting = move || {
            if reads == moment {
                assert!(compact(&mut store) > 0);
                commit(&mut store, vec![keep("later", "1", b"[3]")]);
            }
            reads += 1;
        };
        let interrupted = Interrupted {
            inner: directory.clone(),
            first_listing: Mutex::default(),
            before_read: Mutex::new(Box::new(compacting)),
        };
        let mut seen = modelled(&read(&interrupted, &[]).unwrap());
        seen.remove("later");
        assert_eq!(seen, expected, "compacted before read {moment}");
    }
}

#[test]
fn a_follower_reads_again_when_a_listing_lacks_older_or_newer_logs() {
    let directory = MemoryDirectory::new();
    for restart in 0..6 {
        let (mut store, _) = open(&directory);
        commit(&mut store, vec![keep(&format!("r{restart}"), "1", b"[1]")]);
    }
    let names = directory.names().unwrap();
    for listed in [&names[..3], &names[3..]] {
        let interrupted = Interrupted {
            inner: directory.clone(),
            first_listing: Mutex::new(Some(listed.to_vec())),
            before_read: Mutex::new(Box::new(|| ())),
        };
        assert_eq!(modelled(&read(&interrupted, &[]).unwrap()), stored(&directory), "{listed:?}");
    }
}

#[test]
fn a_follower_that_reads_in_the_middle_of_an_append_reports_no_damage() {
    let directory = MemoryDirectory::new();
    let (mut store, _) = open(&directory);
    commit(&mut store, vec![keep("a", "1", b"[1]")]);
    let before = directory.read("lists-1.log").unwrap().unwrap().len();
    commit(&mut store, vec![keep("a", "2", b"[2]")]);
    let log = directory.read("lists-1.log").unwrap().unwrap();
    for length in before..log.len() {
        directory.replace("lists-1.log", &log[..length]).unwrap();
        assert_eq!(stored(&directory), text(&[("a", "1", "[1]")]), "{length}");
    }
}

#[test]
fn what_is_written_during_a_compaction_outlasts_it() {
    let directory = MemoryDirectory::new();
    for restart in 0..9 {
        let (mut store, _) = open(&directory);
        commit(&mut store, vec![keep("a", &restart.to_string(), b"[1]"), keep("b", "1", b"[1]"), keep("c", "1", b"")]);
    }
    let (mut store, _) = open(&directory);
    let compaction = store.begin_compaction().unwrap();
    assert!(store.begin_compaction().is_none());
    commit(
        &mut store,
        vec![keep("a", "new", b"[2]"), keep("b", "header only", b"[1]"), ("c".to_owned(), Change::Removal)],
    );
    let expected = text(&[("a", "new", "[2]"), ("b", "header only", "[1]")]);
    assert_eq!(stored(&directory), expected);
    let compacted = compaction.run();
    assert_eq!(stored(&directory), expected);
    store.end_compaction(compacted);
    let written = commit(&mut store, vec![keep("b", "again", b"[1]")]);
    assert_eq!((written.frames, directory.names().unwrap().len()), (1, 2), "the body has only moved");
    assert_eq!(stored(&directory)["b"].0, "again");
}

#[test]
fn what_a_compaction_left_that_was_cut_off_brings_no_removed_record_back() {
    let directory = MemoryDirectory::new();
    for restart in 0..9 {
        let (mut store, _) = open(&directory);
        commit(&mut store, vec![keep("a", &restart.to_string(), b"[1]"), keep("b", "1", b"")]);
    }
    let (mut store, _) = open(&directory);
    // The copy is there, and its end was never reported.
    let cut_off = store.begin_compaction().unwrap();
    let target = read::log_name(cut_off.target);
    directory.replace(&target, &directory.read("lists-1.log").unwrap().unwrap()).unwrap();
    store.end_compaction(Err(io::ErrorKind::Interrupted.into()));
    assert!(!directory.names().unwrap().contains(&target));
    commit(&mut store, vec![("a".to_owned(), Change::Removal)]);
    assert_eq!(stored(&directory), text(&[("b", "1", "")]));
}
