use super::super::doctor::tests::{files, open, put, segment, server};
use super::super::store::Acknowledge;
use super::*;
use crate::edge::disk::MemoryDisk;

const FILE: &str = "servers.json";

fn names(store: &Store) -> Vec<String> {
    store.list().iter().map(|entry| entry.name.clone()).collect()
}

fn mended(disk: &MemoryDisk, consent: bool) -> Vec<Mending> {
    let steps = mend(&open(disk, "repair", Acknowledge::Snapshot), consent).unwrap();
    assert!(!format!("{steps:?}").contains("s3cr3t"), "{steps:?}");
    steps
}

#[track_caller]
fn step(steps: &[Mending], action: MendingAction) -> &Mending {
    steps.iter().find(|step| step.action == action).unwrap_or_else(|| panic!("no {action:?} in {steps:?}"))
}

fn document(disk: &MemoryDisk) -> Vec<u8> {
    disk::read(disk, FILE, usize::MAX - 1).unwrap().unwrap()
}

/// Three entries in the document, the last one not in any former document; a fourth in a journal only.
fn damaged_document(disk: &MemoryDisk) -> Vec<u8> {
    let store = open(disk, "w", Acknowledge::Snapshot);
    for name in ["a", "b", "c"] {
        store.upsert(server(name, "1")).unwrap();
    }
    let latest = bases_of(disk).pop().unwrap();
    disk.remove(&latest).unwrap();
    let gateway = open(disk, "gateway", Acknowledge::Journal);
    gateway.upsert(server("d", "1")).unwrap();
    drop(gateway);
    let whole = String::from_utf8(document(disk)).unwrap();
    // Cut behind its last entry.
    let cut = whole.replace("\"generation\"", "\u{1}").split('\u{1}').next().unwrap().as_bytes().to_vec();
    put(disk, FILE, &cut);
    cut
}

fn bases_of(disk: &MemoryDisk) -> Vec<String> {
    disk.names().unwrap().into_iter().filter(|name| name.contains(".base-")).collect()
}

#[test]
fn a_document_that_can_not_be_read_is_replaced_by_everything_that_can_be_had_and_its_bytes_are_kept() {
    let disk = MemoryDisk::new();
    let bytes = damaged_document(&disk);
    let steps = mended(&disk, true);
    let rewritten = step(&steps, MendingAction::RewriteDocument);
    assert_eq!(rewritten.state, MendingState::Done, "{steps:?}");
    let copies: Vec<_> = files(&disk).into_iter().filter(|(name, ..)| name.contains(".bad-")).collect();
    assert_eq!(copies.len(), 1);
    assert!(copies[0].1 == bytes && copies[0].2 == FILE_MODE && rewritten.message.contains(&copies[0].0));
    let told = rewritten.details.join("\n");
    assert!(told.contains("from the document that could not be read: a, b, c"), "{told}");
    assert!(told.contains("from journals, and what was read before: d"), "{told}");
    let store = open(&disk, "later", Acknowledge::Snapshot);
    assert_eq!(names(&store), ["a", "b", "c", "d"]);
    assert!(store.snapshot().standing.is_writable());
    store.upsert(server("e", "1")).unwrap();
    assert!(mended(&disk, true).is_empty(), "once is enough");
}

#[test]
fn an_entry_that_is_not_whole_comes_from_a_former_document() {
    let disk = MemoryDisk::new();
    let store = open(&disk, "w", Acknowledge::Snapshot);
    store.upsert(server("a", "1")).unwrap();
    store.upsert(server("b", "1")).unwrap();
    put(&disk, FILE, &document(&disk)[..60]);
    let steps = mended(&disk, true);
    let told = step(&steps, MendingAction::RewriteDocument).details.join("\n");
    assert!(told.contains("from the latest former document (remove those that were to be gone): a, b"), "{told}");
    assert_eq!(names(&open(&disk, "later", Acknowledge::Snapshot)), ["a", "b"]);
}

#[test]
fn an_edit_by_hand_that_broke_the_document_is_taken_up_and_what_it_replaced_is_kept() {
    let disk = MemoryDisk::new();
    let store = open(&disk, "w", Acknowledge::Snapshot);
    store.upsert(server("a", "former")).unwrap();
    store.upsert(server("b", "1")).unwrap();
    store.remove("b").unwrap();
    let text = String::from_utf8(document(&disk)).unwrap().replace("former", "by-hand");
    put(
        &disk,
        FILE,
        text.replace("\"servers\": [", "\"servers\": [ {\"name\":\"n\",\"transport\":\"ws\",\"endpoint\":\"ws://n\"}")
            .as_bytes(),
    );
    mended(&disk, true);
    let later = open(&disk, "later", Acknowledge::Snapshot);
    assert_eq!(names(&later), ["a", "n"], "what was removed stays removed");
    assert!(later.get("a").unwrap().json().contains("by-hand"));
    let superseded = disk::read(&disk, "servers.json.superseded", 1 << 20).unwrap().unwrap();
    assert!(String::from_utf8(superseded).unwrap().contains("former"));
}

#[test]
fn without_consent_and_in_a_plan_nothing_is_written() {
    let disk = MemoryDisk::new();
    damaged_document(&disk);
    let before = files(&disk);
    let steps = mended(&disk, false);
    assert_eq!(step(&steps, MendingAction::RewriteDocument).state, MendingState::NeedsConsent);
    let told = step(&steps, MendingAction::RewriteDocument).details.join("\n");
    assert!(told.contains("3 entries of it are whole") && told.contains("journals hold 1 changes"), "{told}");
    let planned = plan(&disk, FILE, WallMs(0)).unwrap();
    assert_eq!(step(&planned, MendingAction::RewriteDocument).state, MendingState::Planned);
    assert_eq!(files(&disk), before);
}

#[test]
fn a_copy_is_never_written_over() {
    let disk = MemoryDisk::new();
    let bytes = damaged_document(&disk);
    let usual = FileNames::of(FILE).quarantined(&crate::model::Digest::of(&bytes).short(16));
    put(&disk, &usual, b"another thing");
    mended(&disk, true);
    assert_eq!(disk::read(&disk, &usual, 100).unwrap().unwrap(), b"another thing");
    assert!(files(&disk).iter().any(|(name, content, _)| name.contains(".bad-") && *content == bytes));
}

#[test]
fn what_is_too_large_is_left_to_people() {
    let disk = MemoryDisk::new();
    put(&disk, FILE, &vec![b' '; MAX_REGISTRY_BYTES + 1]);
    let planned = plan(&disk, FILE, WallMs(0)).unwrap();
    assert_eq!(step(&planned, MendingAction::RewriteDocument).state, MendingState::ByHand);
}

#[test]
fn a_damaged_journal_is_kept_and_what_is_good_in_it_is_in_the_document() {
    for set_aside in [false, true] {
        let disk = MemoryDisk::new();
        let gateway = open(&disk, "gateway", Acknowledge::Journal);
        for name in ["a", "b", "c"] {
            gateway.upsert(server(name, "1")).unwrap();
        }
        drop(gateway);
        let (name, at) = segment(&disk, "\"name\":\"b\"");
        disk.open(&name).unwrap().unwrap().write_at(at as u64, b"x").unwrap();
        let bytes = disk::read(&disk, &name, usize::MAX - 1).unwrap().unwrap();
        if set_aside {
            // Somebody did that, and ended before the document was written.
            disk.rename(&name, &FileNames::of(FILE).damaged(&name)).unwrap();
        }
        let store = open(&disk, "w", Acknowledge::Snapshot);
        assert!(store.upsert(server("x", "1")).is_err(), "nothing is written until someone has seen to it");
        let steps = mended(&disk, false);
        assert_eq!(step(&steps, MendingAction::AcceptJournal).state, MendingState::NeedsConsent, "{steps:?}");
        assert!(!files(&disk).iter().any(|(name, ..)| name.contains(".kept-")), "nothing is given up unasked");
        assert!(open(&disk, "w", Acknowledge::Snapshot).upsert(server("x", "1")).is_err());
        let steps = mended(&disk, true);
        let accepted = step(&steps, MendingAction::AcceptJournal);
        assert!(accepted.state == MendingState::Done && accepted.details[0].starts_with("2 good"), "{steps:?}");
        assert!(files(&disk).iter().any(|(name, content, _)| name.contains(".kept-") && *content == bytes));
        let later = open(&disk, "later", Acknowledge::Snapshot);
        assert_eq!(names(&later), ["a", "c"]);
        later.upsert(server("x", "1")).unwrap();
    }
}

#[test]
fn a_damaged_journal_stays_while_the_document_can_not_be_read() {
    let disk = MemoryDisk::new();
    put(&disk, "servers.json.damaged-w-000001-00000000000000ab", b"x");
    put(&disk, FILE, b"{");
    let steps = mended(&disk, false);
    assert!(!steps.iter().any(|step| step.action == MendingAction::AcceptJournal), "{steps:?}");
    let steps = mended(&disk, true);
    assert_eq!(step(&steps, MendingAction::AcceptJournal).state, MendingState::Done);
}

#[test]
fn permissions_locks_and_leftovers_are_mended() {
    let disk = MemoryDisk::new();
    let gateway = open(&disk, "gateway", Acknowledge::Journal);
    gateway.upsert(server("a", "1")).unwrap();
    drop(gateway);
    put(&disk, FILE, br#"{"servers":[]}"#);
    disk.open(FILE).unwrap().unwrap().set_mode(0o664).unwrap();
    put(&disk, "servers.json.lock", b"");
    let steps = mended(&disk, false);
    for action in [MendingAction::MakePrivate, MendingAction::RemoveLock, MendingAction::Merge] {
        assert_eq!(step(&steps, action).state, MendingState::Done, "{steps:?}");
    }
    assert_eq!(disk.look(FILE).unwrap().unwrap().mode, FILE_MODE);
    let left: Vec<_> = disk.names().unwrap();
    assert!(!left.iter().any(|name| name.contains(".journal-") || name.ends_with(".lock")), "{left:?}");
    assert_eq!(names(&open(&disk, "later", Acknowledge::Snapshot)), ["a"]);
    assert!(mended(&disk, true).is_empty());
}
