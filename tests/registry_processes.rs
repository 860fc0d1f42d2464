//! Many real processes on one registry: whatever any of them was told to be durable is there in the end, whoever was killed
//! and whoever edits the file without asking; its readers never see anything but a whole document; and once all is written,
//! nobody writes any more.
//!
//! `CORTEX_REGISTRY_PROCESSES`, `CORTEX_REGISTRY_UPSERTS` and `CORTEX_REGISTRY_SEED` direct it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

#[path = "support/registry_process.rs"]
mod registry_process;

use std::collections::BTreeSet;
use std::sync::Arc;

use cortex_mcp::registry::{Acknowledge, RegistryEntry, Store};
use registry_process::acks::{Write, lost};
use registry_process::editors::{Editor, Manner};
use registry_process::scene::{Plan, Played, converges, play};
use registry_process::worker::Tending;
use registry_process::{FILE, Order, Said, Work, Worker, entry, obey, open, option, policy, said, say};

#[test]
fn child_process_entry() {
    obey();
}

/// A command makes a change in the time between an editor's reading and writing, while nobody else looks.
fn a_command_cuts_into_an_edit(manner: Manner) {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let command = |number: u32, value: u64| {
        let store = open(folder.path(), &policy, &format!("c{number}"), Acknowledge::Snapshot).unwrap();
        store.upsert(RegistryEntry::parse(&entry("x", value).to_string()).unwrap()).unwrap();
        store.close().unwrap();
    };
    command(1, 1);
    let mut editor = Editor::new(folder.path(), manner, 9, 1);
    let read = editor.begin().unwrap();
    command(2, 2);
    editor.end(read);
    let store = open(folder.path(), &policy, "later", Acknowledge::Journal).unwrap();
    store.tend();
    store.close().unwrap();
    let said = said(&store.snapshot());
    assert_eq!(said.get("x"), Some(&2), "{said:?}");
    assert_eq!(said.get(&editor.writes[0].name).copied(), editor.writes[0].value, "{said:?}");
}

#[test]
fn a_command_that_an_editor_never_saw_is_not_undone_by_his_renaming() {
    a_command_cuts_into_an_edit(Manner::Renames);
}

#[test]
fn a_command_that_an_editor_never_saw_is_not_undone_by_his_writing_in_place() {
    a_command_cuts_into_an_edit(Manner::InPlace);
}

#[test]
fn what_a_crash_left_of_an_edit_that_was_taken_over_undoes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let put = |store: &Arc<Store>, value: u64| {
        store.upsert(RegistryEntry::parse(&entry("x", value).to_string()).unwrap()).unwrap();
    };
    let stays = open(folder.path(), &policy, "stays", Acknowledge::Journal).unwrap();
    put(&stays, 1);
    stays.flush().unwrap();
    let mut editor = Editor { names: vec!["x".to_owned()], ..Editor::new(folder.path(), Manner::Renames, 9, 1) };
    let read = editor.begin().unwrap();
    editor.end(read);
    let edited = std::fs::read(folder.path().join(FILE)).unwrap();
    stays.flush().unwrap();
    // Somebody swapped the edit out, wrote a document with it, and was killed before he removed it.
    std::fs::write(folder.path().join(format!("{FILE}.tmp-00000000000001")), edited).unwrap();
    put(&stays, 3);
    stays.flush().unwrap();
    stays.close().unwrap();
    assert_eq!(said(&stays.snapshot()).get("x"), Some(&3), "what was acknowledged after the edit");
    assert_eq!(converges(folder.path(), &policy).get("x"), Some(&3), "what was acknowledged after the edit");
}

/// A scene of the size that the environment asks for; `share` is which part of it, in percent.
fn plan(name: &'static str, share: u64, editors: &[Manner]) -> Plan {
    let processes = option("CORTEX_REGISTRY_PROCESSES", 8);
    let upserts = (option("CORTEX_REGISTRY_UPSERTS", 1_000) * share / 100).max(10);
    Plan { name, processes, upserts, victims: 2, kills: 2, commands: upserts / 10, editors: editors.to_vec() }
}

/// Whether everything that was acknowledged is there, when all are gone and after all is written; and nobody writes then.
fn nothing_is_lost(played: &Played, judged: &[Write]) {
    let complaints = lost(judged, &ours(judged, &played.said));
    assert!(complaints.is_empty(), "{} of them:\n{}", complaints.len(), complaints.join("\n"));
    let written = converges(played.folder.path(), &policy());
    let complaints = lost(judged, &ours(judged, &written));
    assert!(complaints.is_empty(), "{} of them, in the document:\n{}", complaints.len(), complaints.join("\n"));
}

/// What is said about the names of these changes.
fn ours(judged: &[Write], said: &Said) -> Said {
    let names: BTreeSet<&str> = judged.iter().map(|write| write.name.as_str()).collect();
    said.iter().filter(|(name, _)| names.contains(name.as_str())).map(|(name, value)| (name.clone(), *value)).collect()
}

#[test]
fn eight_processes_of_which_two_are_killed_lose_nothing() {
    let played = play(&plan("cooperating", 100, &[]));
    nothing_is_lost(&played, &played.writes);
}

#[test]
fn an_editor_who_keeps_the_generation_costs_nobody_anything() {
    let played = play(&plan("an editor who renames", 25, &[Manner::Renames]));
    nothing_is_lost(&played, &played.writes);
}

#[test]
fn an_old_tool_that_takes_its_lock_costs_nobody_anything() {
    let played = play(&plan("an old tool under its lock", 25, &[Manner::Locks]));
    nothing_is_lost(&played, &played.writes);
}

#[test]
fn an_editor_who_writes_in_place_costs_the_others_nothing() {
    let played = play(&plan("an editor in place", 25, &[Manner::InPlace]));
    let edited: BTreeSet<&str> = played.editors[0].names.iter().map(String::as_str).collect();
    let others: Vec<Write> =
        played.writes.iter().filter(|write| !edited.contains(write.name.as_str())).cloned().collect();
    let own = lost(&played.editors[0].writes, &ours(&played.editors[0].writes, &played.said));
    say(&format!("an editor in place: {} of his own entries were overtaken", own.len()));
    nothing_is_lost(&played, &others);
}

#[test]
fn what_an_editor_who_drops_the_generation_undoes_is_kept_beside_the_file() {
    let played = play(&plan("an editor who drops the generation", 25, &[Manner::Drops]));
    let written = converges(played.folder.path(), &policy());
    let kept: String = ["superseded", "superseded-older"]
        .iter()
        .filter_map(|half| std::fs::read_to_string(played.folder.path().join(format!("{FILE}.{half}"))).ok())
        .collect();
    let complaints = lost(&played.writes, &written);
    let (mut undone, mut back) = (0, 0);
    for complaint in &complaints {
        let name = complaint.split(' ').next().unwrap();
        // The last acknowledged value that no later one replaced: of writes that overlap, either may be the last.
        let acknowledged = || played.writes.iter().filter(|write| write.name == name && write.is_acknowledged());
        let newest = acknowledged().map(|write| write.begin).max().unwrap();
        let last: Vec<_> = acknowledged().filter(|write| write.latest() >= newest).map(|write| write.value).collect();
        if last.contains(&None) {
            back += 1;
            continue;
        }
        undone += 1;
        let is_kept = last.iter().flatten().any(|value| kept.contains(&format!("https://e.test/{value}\"")));
        assert!(is_kept, "silently lost: {complaint}\n{:?}", played.problems);
    }
    say(&format!("an editor who drops the generation: {undone} values undone and kept, {back} removals undone"));
}

#[test]
fn two_that_stay_and_thirty_commands_converge_and_then_nobody_writes() {
    let folder = tempfile::tempdir().unwrap();
    let policy = policy();
    let stores = ["one", "two"].map(|writer| open(folder.path(), &policy, writer, Acknowledge::Journal).unwrap());
    let tending = stores.each_ref().map(Tending::start);
    let script = |number: u64| {
        let changes = (0..10).map(|index| (format!("command-{}", (number + index) % 7), Some(number << 24 | index)));
        Work::Script { changes: changes.collect(), commands: true, tends: 0 }
    };
    let logs = tempfile::tempdir().unwrap();
    let mut workers: Vec<Worker> = (1..=3)
        .map(|number| {
            let acks = logs.path().join(format!("worker-{number}.acks"));
            Worker::start(Order { folder: folder.path().to_owned(), acks, number, seed: number, work: script(number) })
        })
        .collect();
    for (store, name) in stores.iter().zip(["a", "b"]) {
        for value in 0..50 {
            store.upsert(RegistryEntry::parse(&entry(name, value).to_string()).unwrap()).unwrap();
        }
    }
    let writes: Vec<Write> = workers
        .iter_mut()
        .flat_map(|worker| {
            worker.wait();
            worker.writes()
        })
        .collect();
    tending.into_iter().for_each(Tending::stop);
    // What waits is written, and each reads what the other wrote.
    stores.iter().for_each(|store| store.flush().unwrap());
    stores.iter().for_each(|store| _ = store.tend());
    let documents = stores.each_ref().map(|store| store.counts().documents);
    let bytes = std::fs::read(folder.path().join(FILE)).unwrap();
    for _ in 0..5 {
        stores.iter().for_each(|store| _ = store.tend());
    }
    let snapshots = stores.each_ref().map(|store| said(&store.snapshot()));
    assert_eq!(snapshots[0], snapshots[1]);
    assert_eq!(snapshots[0].get("a").zip(snapshots[0].get("b")), Some((&49, &49)));
    let complaints = lost(&writes, &ours(&writes, &snapshots[0]));
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
    stores.iter().for_each(|store| store.close().unwrap());
    assert_eq!(stores.each_ref().map(|store| store.counts().documents), documents, "documents written for nothing");
    assert!(std::fs::read(folder.path().join(FILE)).unwrap() == bytes);
    say(&format!("two that stay and 30 commands: {documents:?} documents by those that stay"));
    assert_eq!(converges(folder.path(), &policy), snapshots[0]);
}
