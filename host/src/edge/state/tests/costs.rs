//! Counts of bytes, frames and files: a change costs what changed.

use super::*;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bytes that a frame has besides its payload, at most, for the names used here.
const FRAME_BYTES: u64 = 260;

/// The list of a connector: 10 tools of 300 bytes.
fn list(number: usize, version: usize) -> Vec<u8> {
    format!("[{}]", vec![format!("\"{number:08} {version:08} {}\"", "x".repeat(280)); 10].join(",")).into_bytes()
}

fn name(number: usize) -> String {
    format!("connector-{number}")
}

/// A store that holds the lists of 1,000 connectors.
fn thousand(directory: &MemoryDirectory) -> StateStore {
    let (mut store, _) = open(directory);
    let written = commit(&mut store, (0..1_000).map(|number| keep(&name(number), "1", &list(number, 0))).collect());
    assert_eq!((written.files, written.frames, written.records), (1, 2_000, 1_000));
    store
}

#[test]
fn one_changed_list_among_a_thousand_costs_one_file_two_frames_and_its_own_bytes() {
    let directory = MemoryDirectory::new();
    let mut store = thousand(&directory);
    let changed = list(7, 1);
    let written = commit(&mut store, vec![keep(&name(7), "2", &changed)]);
    assert_eq!((written.files, written.frames, written.records), (1, 2, 1));
    assert!(written.bytes <= changed.len() as u64 + 2 * FRAME_BYTES, "{written:?}");
    assert_eq!(written.rendered_bytes, changed.len() as u64);
    assert_eq!(directory.replaces(), 0);
    assert_eq!(directory.names().unwrap(), ["lists-1.log"]);
}

#[test]
fn a_failed_run_costs_one_header_and_renders_nothing_also_after_a_restart() {
    let directory = MemoryDirectory::new();
    drop(thousand(&directory));
    let (mut store, _) = open(&directory);
    let rendered = Arc::new(AtomicUsize::new(0));
    let failed = |number: usize| {
        let (rendered, body) = (rendered.clone(), list(number, 0));
        let body = Body::deferred(Digest::of(&body), body.len(), move || {
            rendered.fetch_add(1, Ordering::SeqCst);
            Bytes::from(body.clone())
        });
        (name(number), Change::Record(StateRecord::new(&"failed", body).unwrap()))
    };
    let written = commit(&mut store, vec![failed(7)]);
    assert_eq!((written.files, written.frames, written.rendered_bytes), (1, 1, 0));
    assert!(written.bytes <= FRAME_BYTES, "{written:?}");
    let written = commit(&mut store, (0..1_000).map(failed).collect());
    assert_eq!((written.files, written.frames, written.rendered_bytes), (1, 1_000, 0));
    assert_eq!(rendered.load(Ordering::SeqCst), 0);
    assert_eq!(stored(&directory)[&name(7)], ("failed".to_owned(), list(7, 0)));
}

#[test]
fn compactions_write_about_as_much_as_what_changed() {
    let directory = MemoryDirectory::new();
    let mut store = thousand(&directory);
    let (mut handed_in, mut written, mut compactions) = (0, 0, 0);
    // The same few connectors change again and again, and by turns all of them.
    for round in 1..40 {
        for batch in 0..10 {
            let chosen = if round % 2 == 0 { 0..100 } else { batch * 100..batch * 100 + 100 };
            let lists: Vec<_> = chosen.map(|number| (number, list(number, round * 10 + batch))).collect();
            handed_in += lists.iter().map(|(_, list)| list.len() as u64).sum::<u64>();
            let changes = lists.iter().map(|(number, list)| keep(&name(*number), "1", list)).collect();
            written += commit(&mut store, changes).bytes;
            let copied = compact(&mut store);
            compactions += usize::from(copied > 0);
            written += copied;
        }
    }
    assert!(compactions > 5, "{compactions}");
    assert!(written <= 2 * handed_in + handed_in / 2, "{written} of {handed_in}");
    let total: usize = directory.names().unwrap().iter().map(|name| directory.read(name).unwrap().unwrap().len()).sum();
    assert!(total <= (2 * 1_000 * 3_600) + (5 << 20), "{total}");
    assert_eq!(stored(&directory).len(), 1_000);
}

#[test]
fn restarts_leave_a_bounded_number_of_logs() {
    let directory = MemoryDirectory::new();
    for restart in 0..100 {
        let (mut store, saved) = open(&directory);
        assert_eq!(saved.records.len(), usize::from(restart > 0));
        commit(&mut store, vec![keep("a", &restart.to_string(), b"x")]);
        compact(&mut store);
        assert!(directory.names().unwrap().len() <= 9, "{:?}", directory.names());
    }
}
