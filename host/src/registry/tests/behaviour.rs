//! What each writer and reader sees: acknowledgements, other processes, foreign edits, damage.

use super::*;

#[test]
fn an_upsert_is_acknowledged_by_the_journal_and_the_document_follows_in_its_batch() {
    let world = World::new();
    let store = world.open();
    store.tend();
    let acknowledged = store.upsert(entry("a", 1)).unwrap();
    assert_eq!(acknowledged.outcome, Outcome::Created);
    assert!(world.disk.look("servers.json").unwrap().is_none());
    assert_eq!(store.upsert(entry("a", 2)).unwrap().outcome, Outcome::Updated);
    store.tend();
    assert_eq!(store.counts().documents, 0);
    world.later(5_000);
    store.tend();
    let counts = store.counts();
    assert_eq!((counts.documents, counts.changes, counts.waiting), (1, 2, 0));
    assert!(world.text().contains("https://a.test/2") && world.text().contains("\"n\": 1.50"));
    store.close().unwrap();
    assert!(world.segments().is_empty(), "a journal that is in the document is gone");
}

#[test]
fn what_was_acknowledged_outlives_a_process_that_just_ends() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.remove("a").unwrap();
    store.upsert(entry("b", 1)).unwrap();
    drop(store);
    assert!(!world.segments().is_empty());
    let next = world.open();
    assert_eq!(names(&next), ["b"]);
    next.tend();
    assert_eq!(next.counts().documents, 1, "the journal was taken over");
    assert!(world.segments().iter().all(|name| name.contains("writer-1")));
}

#[test]
fn every_process_sees_what_any_other_acknowledged() {
    let world = World::new();
    let (one, two) = (world.open(), world.open());
    one.upsert(entry("a", 1)).unwrap();
    two.observe().unwrap();
    assert_eq!(names(&two), ["a"]);
    assert_eq!(names(&world.command()), ["a"]);
    world.command().upsert(entry("b", 1)).unwrap();
    one.observe().unwrap();
    assert_eq!(names(&one), ["a", "b"]);
}

#[test]
fn a_later_change_wins_whoever_made_it_and_whatever_its_clock_says() {
    let world = World::new();
    let (one, two) = (world.open(), world.open());
    for number in 0..20 {
        let writer = if number % 2 == 0 { &one } else { &two };
        if number % 5 == 4 {
            assert_eq!(writer.remove("a").unwrap().outcome, Outcome::Removed, "{number}");
        } else {
            writer.upsert(entry("a", number)).unwrap();
        }
        // Time stands still, or goes back.
        if number == 10 {
            world.clock.step_wall(-500_000);
        }
    }
    world.command().upsert(entry("a", 77)).unwrap();
    one.tend();
    two.tend();
    one.flush().unwrap();
    two.flush().unwrap();
    assert_eq!((endpoint(&one, "a"), endpoint(&two, "a")), ("/77".to_owned(), "/77".to_owned()));
}

#[test]
fn two_gateways_and_commands_converge_to_one_document_and_then_stop_writing() {
    let world = World::new();
    let (one, two) = (world.open(), world.open());
    for number in 0..10 {
        one.upsert(entry(&format!("one{number}"), 1)).unwrap();
        two.upsert(entry(&format!("two{number}"), 1)).unwrap();
        world.command().upsert(entry(&format!("command{number}"), 1)).unwrap();
    }
    two.remove("one3").unwrap();
    for _ in 0..4 {
        world.later(6_000);
        one.tend();
        two.tend();
    }
    let (text, written) = (world.text(), (one.counts().documents, two.counts().documents));
    for _ in 0..4 {
        world.later(6_000);
        one.tend();
        two.tend();
    }
    assert_eq!((one.counts().documents, two.counts().documents), written);
    assert_eq!(world.text(), text);
    assert_eq!((names(&one), names(&one).len()), (names(&two), 29));
}

#[test]
fn an_edit_by_hand_is_stamped_and_kept_with_the_former_value() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.upsert(entry("b", 1)).unwrap();
    store.flush().unwrap();
    let edited = world.text().replace("https://a.test/1", "https://a.test/9");
    // Meanwhile something else is acknowledged.
    store.upsert(entry("c", 1)).unwrap();
    world.edit(&edited);
    store.tend();
    assert_eq!(endpoint(&store, "a"), "/9");
    assert_eq!(names(&store), ["a", "b", "c"]);
    assert!(world.text().contains("https://c.test/1"));
    let kept = disk::read(&world.disk, "servers.json.superseded", 1 << 20).unwrap().unwrap();
    assert!(String::from_utf8(kept).unwrap().contains("https://a.test/1"));
}

#[test]
fn an_editor_that_read_an_older_document_undoes_nothing_that_came_since() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.upsert(entry("b", 1)).unwrap();
    store.flush().unwrap();
    let read = world.text();
    store.upsert(entry("a", 2)).unwrap();
    store.upsert(entry("new", 1)).unwrap();
    store.remove("b").unwrap();
    store.flush().unwrap();
    world.edit(&read.replace(
        "\"servers\": [",
        "\"servers\": [ {\"name\":\"mine\",\"transport\":\"sse\",\"endpoint\":\"https://m.test\"},",
    ));
    store.tend();
    assert_eq!(names(&store), ["a", "mine", "new"]);
    assert_eq!(endpoint(&store, "a"), "/2");
    // The same for a process that was not there before: the base is in the folder.
    world.edit(&read.replace("https://a.test/1", "https://a.test/3"));
    drop(store);
    let command = world.command();
    command.upsert(entry("z", 1)).unwrap();
    assert_eq!(names(&command), ["a", "mine", "new", "z"]);
    assert_eq!(endpoint(&command, "a"), "/3");
}

#[test]
fn what_is_not_understood_survives_a_thousand_round_trips_byte_for_byte() {
    let world = World::new();
    let odd = r#"{"$schema":"x","servers":[{"name":"a","transport":"streamableHttp","endpoint":"https://a.test/","big":12345678901234567890,"deep":[{"z":1.0,"a":"\u0061"}]},17,{"no":"name"}],"later":{"k":[1e3]}}"#;
    world.edit(odd);
    for round in 0..1_000 {
        let command = world.command();
        command.upsert(entry("b", round)).unwrap();
    }
    let text = world.text();
    for kept in [
        "\"$schema\": \"x\"",
        "12345678901234567890",
        "\"z\": 1.0",
        "\"\\u0061\"",
        "1e3",
        "\"no\": \"name\"",
        "\n    17",
    ] {
        assert!(text.contains(kept), "{kept} in {text}");
    }
    assert!(read(text.as_bytes()).unwrap().generation.unwrap() >= 1_000);
}

#[test]
fn a_document_that_can_not_be_read_is_copied_and_left_alone_until_it_can() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.flush().unwrap();
    let good = world.text();
    world.edit("{\"servers\": [");
    store.tend();
    assert!(matches!(store.snapshot().standing.reason(), Some(ReadOnlyReason::Unreadable { .. })));
    assert_eq!(names(&store), ["a"]);
    assert!(matches!(store.upsert(entry("b", 1)), Err(StoreError::ReadOnly(_))));
    assert!(matches!(world.command().upsert(entry("b", 1)), Err(StoreError::ReadOnly(_))));
    assert_eq!(world.text(), "{\"servers\": [");
    assert_eq!(world.files(|kind| *kind == FileKind::Quarantined).len(), 1);
    assert_eq!(names(&world.open()), ["a"], "the last document that can be read is better than nothing");
    world.edit(&good);
    store.tend();
    assert!(store.snapshot().standing.is_writable());
    store.upsert(entry("b", 1)).unwrap();
}

#[test]
fn a_file_that_vanishes_removes_nothing_and_is_written_again() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.flush().unwrap();
    world.disk.remove("servers.json").unwrap();
    store.tend();
    assert_eq!(names(&store), ["a"]);
    assert!(world.text().contains("https://a.test/1"));
    assert!(store.snapshot().problems.iter().any(|problem| problem.contains("was gone")));
}

/// The document without anything that old tools do not know.
fn old(names: &[&str]) -> String {
    let servers: Vec<_> = names.iter().map(|name| entry(name, 1).json().to_owned()).collect();
    format!("{{\"servers\":[{}]}}", servers.join(","))
}

#[test]
fn a_removal_by_a_tool_that_drops_the_generation_is_a_removal_although_an_older_document_was_the_same() {
    let world = World::new();
    let store = world.open();
    for (step, names_then) in [&["one"][..], &["one", "two"], &["one"]].into_iter().enumerate() {
        world.edit(&old(names_then));
        store.tend();
        assert_eq!(names(&store), names_then, "step {step}");
    }
    let kept = disk::read(&world.disk, "servers.json.superseded", 1 << 20).unwrap().unwrap();
    assert!(String::from_utf8(kept).unwrap().contains("https://two.test/1"));
}

#[test]
fn an_edit_that_can_only_be_guessed_at_is_told() {
    let world = World::new();
    let store = world.open();
    world.edit(&old(&["one"]));
    store.tend();
    world.edit(&old(&["one", "two"]));
    store.tend();
    // Nearer to the first document than to the second: what the second added is kept, and that is said.
    world.edit(&old(&["one", "bad", "local"]));
    store.tend();
    assert_eq!(names(&store), ["bad", "local", "one", "two"]);
    let problems = store.snapshot().problems.join("; ");
    assert!(problems.contains("1 servers that are not in it are kept"), "{problems}");
}

#[test]
fn an_edit_that_leaves_no_trace_in_the_times_of_the_file_is_seen_within_seconds() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    store.flush().unwrap();
    store.tend();
    let edited = world.text().replace("https://a.test/1", "https://a.test/2");
    let (file, look) = (world.disk.open("servers.json").unwrap().unwrap(), world.disk.look("servers.json").unwrap());
    disk::write_all_at(&*file, 0, edited.as_bytes()).unwrap();
    world.disk.set_modified("servers.json", look.unwrap().modified_ns);
    store.tend();
    assert_eq!(endpoint(&store, "a"), "/1");
    world.later(6_000);
    store.tend();
    assert_eq!(endpoint(&store, "a"), "/2");
}

#[test]
fn a_change_that_breaks_a_condition_is_refused_and_changes_nothing() {
    let world = World::new();
    let store = world.open();
    store.upsert(entry("a", 1)).unwrap();
    assert!(matches!(store.change(Change::put_new(entry("a", 2))), Err(StoreError::Exists { .. })));
    assert!(matches!(store.change(Change::remove_existing("b")), Err(StoreError::Missing { .. })));
    assert_eq!(store.remove("b").unwrap().outcome, Outcome::Absent);
    assert!(matches!(store.remove("../b"), Err(StoreError::Entry(EntryRule::Name))));
    assert_eq!(endpoint(&store, "a"), "/1");
    store.close().unwrap();
    assert!(matches!(store.upsert(entry("a", 3)), Err(StoreError::Closed)));
}

#[test]
fn many_threads_are_committed_together_and_each_is_answered() {
    let world = World::new();
    let store = world.open();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let store = &store;
            scope.spawn(move || {
                for number in 0..50 {
                    store.upsert(entry(&format!("t{thread}-{number}"), number)).unwrap();
                }
            });
        }
    });
    assert_eq!((store.snapshot().count(), store.counts().changes), (400, 400));
    store.close().unwrap();
    assert_eq!(names(&world.command()).len(), 400);
}

#[test]
fn a_damaged_journal_makes_the_registry_read_only_until_someone_has_seen_to_it() {
    let world = World::new();
    let store = world.open();
    for number in 0..3 {
        store.upsert(entry(&format!("n{number}"), 1)).unwrap();
    }
    drop(store);
    let segment = world.segments().remove(0);
    let file = world.disk.open(&segment).unwrap().unwrap();
    file.write_at(64 + 40, b"#").unwrap();
    drop(file);
    let next = world.open();
    next.tend();
    assert_eq!(names(&next), ["n1", "n2"], "the rest is recovered");
    let Standing::ReadOnly { reason, .. } = next.snapshot().standing.clone() else { panic!("read-only") };
    assert!(reason.to_string().contains("registry repair"), "{reason}");
    assert!(matches!(reason, ReadOnlyReason::JournalDamaged { sequence: 1, .. }), "{reason}");
    assert!(matches!(next.upsert(entry("a", 1)), Err(StoreError::ReadOnly(_))));
    assert!(matches!(world.command().upsert(entry("a", 1)), Err(StoreError::ReadOnly(_))));
    let damaged = world.files(|kind| *kind == FileKind::Damaged).remove(0);
    world.disk.rename(&damaged, &FileNames::of("servers.json").kept(&damaged)).unwrap();
    world.later(120_000);
    next.tend();
    next.upsert(entry("a", 1)).unwrap();
}

#[test]
fn what_is_good_of_a_damaged_journal_is_in_the_document_before_it_is_moved_aside() {
    let world = World::new();
    let store = world.open();
    for number in 0..3 {
        store.upsert(entry(&format!("n{number}"), 1)).unwrap();
    }
    drop(store);
    let segment = world.segments().remove(0);
    world.disk.open(&segment).unwrap().unwrap().write_at(64 + 40, b"#").unwrap();
    // While the document can not be read, nothing is moved, and nothing is lost.
    world.edit("{");
    let store = world.open();
    store.tend();
    assert!(world.files(|kind| *kind == FileKind::Damaged).is_empty());
    drop(store);
    world.edit("{\"servers\":[]}");
    assert!(matches!(world.command().upsert(entry("a", 1)), Err(StoreError::ReadOnly(_))));
    assert_eq!(world.files(|kind| *kind == FileKind::Damaged).len(), 1);
    assert_eq!(names(&world.open()), ["n1", "n2"]);
    assert!(world.text().contains("https://n2.test"));
}
