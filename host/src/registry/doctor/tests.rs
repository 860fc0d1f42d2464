use std::sync::Arc;
use std::time::Duration;

use super::super::change::Change;
use super::super::entry::RegistryEntry;
use super::super::store::{Acknowledge, Store, StoreOptions, StoreParts};
use super::*;
use crate::config::{Environment, Settings};
use crate::edge::disk::{MemoryDisk, write_all_at};
use crate::gateway::policy_for_commands;
use crate::registry::RegistryMetrics;

const FILE: &str = "servers.json";
const CANARY: &str = "s3cr3t";

/// A registry on that disk. Nobody who could let go of a lock runs while somebody waits for it.
pub(in crate::registry) fn open(disk: &MemoryDisk, writer: &str, acknowledge: Acknowledge) -> Arc<Store> {
    let settings = Settings::from_environment(&Environment::default()).unwrap();
    Store::open(StoreParts {
        disk: Arc::new(disk.clone()),
        file: FILE.to_owned(),
        policy: policy_for_commands(&settings).unwrap(),
        writer: writer.to_owned(),
        metrics: RegistryMetrics::default(),
        options: StoreOptions { acknowledge, lock_patience: Duration::ZERO, ..StoreOptions::default() },
    })
    .unwrap()
}

/// An entry with a secret.
pub(in crate::registry) fn server(name: &str, path: &str) -> RegistryEntry {
    let headers = format!(r#"{{"Authorization":"{CANARY}"}}"#);
    let text = format!(r#"{{"name":"{name}","transport":"http","endpoint":"https://a/{path}","headers":{headers}}}"#);
    RegistryEntry::parse(&text).unwrap()
}

pub(in crate::registry) fn put(disk: &MemoryDisk, name: &str, bytes: &[u8]) {
    if disk.look(name).unwrap().is_some() {
        disk.remove(name).unwrap();
    }
    write_all_at(&*disk.create(name).unwrap(), 0, bytes).unwrap();
}

/// Every file with its bytes.
pub(in crate::registry) fn files(disk: &MemoryDisk) -> Vec<(String, Vec<u8>, u32)> {
    let files = disk.names().unwrap().into_iter();
    files
        .map(|name| {
            let bytes = disk::read(disk, &name, usize::MAX - 1).unwrap().unwrap();
            let mode = disk.look(&name).unwrap().unwrap().mode;
            (name, bytes, mode)
        })
        .collect()
}

fn examined(disk: &MemoryDisk, now: u64) -> Vec<Finding> {
    let before = files(disk);
    let how = Examination { now: WallMs(now), user: Some(0), probe: false };
    let findings = examine(disk, FILE, how);
    assert_eq!(files(disk), before, "nothing is written");
    for finding in &findings {
        assert_eq!(finding.remedy.is_some(), finding.severity > Severity::Ok, "{finding:?}");
        assert!(!format!("{finding:?}").contains(CANARY), "{finding:?}");
        assert!(finding.check.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{finding:?}");
    }
    findings
}

#[track_caller]
fn found<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
    let worst = findings.iter().filter(|finding| finding.check == check).max_by_key(|finding| finding.severity);
    worst.unwrap_or_else(|| panic!("no {check} in {findings:?}"))
}

/// An hour after everything that a disk in memory says.
const LATER: u64 = 3_600_000;

#[test]
fn a_registry_that_is_well_has_no_findings_but_good_ones() {
    let disk = MemoryDisk::new();
    let all_well = |findings: &[Finding]| findings.iter().all(|finding| finding.severity == Severity::Ok);
    assert!(all_well(&examined(&disk, LATER)), "an empty folder");
    let store = open(&disk, "w", Acknowledge::Snapshot);
    let entry =
        r#"{"name":"a","transport":"http","endpoint":"https://a/","headers":{"Authorization":"Bearer ${env:A}"}}"#;
    store.upsert(RegistryEntry::parse(entry).unwrap()).unwrap();
    let findings = examined(&disk, LATER);
    assert!(all_well(&findings), "{findings:?}");
    assert!(found(&findings, "file").message.contains("1 servers at generation 1"));
    assert!(found(&findings, "probe-exchange").message.contains("--probe"));
}

#[test]
fn secrets_that_are_no_references_are_listed_by_entry_and_field_and_never_quoted() {
    let disk = MemoryDisk::new();
    let store = open(&disk, "w", Acknowledge::Snapshot);
    for (entry, fields) in [
        (
            r#"{"name":"a","transport":"http","endpoint":"https://a/","headers":{"X-Plan":"pro","X-Key":"s3cr3t"}}"#,
            "headers.X-Key",
        ),
        (
            r#"{"name":"a","transport":"http","endpoint":"https://a/?key=s3cr3t","oauth":{"secret":"s3cr3t"}}"#,
            "endpoint, oauth",
        ),
        (
            r#"{"name":"a","transport":"stdio","command":"run","args":["-e","A=s3cr3t","--token","s3cr3t"],
                "env":{"B_PAT":"s3cr3t","C":"ghp_s3cr3t","D":"${env:D}","E":"x"}}"#,
            "env.B_PAT, env.C, args[1], args[3]",
        ),
    ] {
        store.upsert(RegistryEntry::parse(entry).unwrap()).unwrap();
        let findings = examined(&disk, LATER);
        let finding = found(&findings, "literal-secrets");
        assert_eq!(finding.message, format!("a holds secrets literally: {fields}"));
        assert_eq!(finding.severity, Severity::Warning);
        assert!(!format!("{finding:?}").contains("s3cr3t"), "{finding:?}");
    }
}

#[test]
fn a_document_that_can_not_be_read_is_an_error_that_says_where_and_what_to_do() {
    for (text, message, mendable) in [
        (&br#"{"servers": [{"name": "s3cr3t"},]}"#[..], "at byte", true),
        (br#"{"servers": {"s3cr3t": {}}}"#, "no object with a list", true),
        (b"s3cr3t", "not one JSON document", true),
        (&vec![b' '; MAX_REGISTRY_BYTES + 1], "larger than", false),
    ] {
        let disk = MemoryDisk::new();
        put(&disk, FILE, text);
        let findings = examined(&disk, LATER);
        let finding = found(&findings, "file");
        assert_eq!((finding.severity, finding.mendable), (Severity::Error, mendable), "{finding:?}");
        assert!(finding.message.contains(message), "{finding:?}");
        assert_eq!(finding.remedy.as_ref().unwrap().contains("repair"), mendable, "{finding:?}");
    }
}

#[test]
fn one_bad_entry_is_a_warning_that_names_it() {
    let disk = MemoryDisk::new();
    put(
        &disk,
        FILE,
        br#"{"servers":[{"name":"bad","transport":"http","endpoint":"s3cr3t"},5,{"name":"w","transport":"ws","endpoint":"ws://a"}]}"#,
    );
    let findings = examined(&disk, LATER);
    let sentences: Vec<_> =
        findings.iter().filter(|one| one.check == "entries").map(|one| one.message.as_str()).collect();
    assert_eq!(sentences.len(), 2, "{sentences:?}");
    assert!(sentences[0].starts_with("servers[0] (bad) has an endpoint"), "{sentences:?}");
    assert_eq!(found(&findings, "leftovers").severity, Severity::Warning);
    assert!(found(&findings, "transport").message.contains("w uses the transport ws"));
    assert!(findings.iter().all(|finding| finding.severity < Severity::Error), "the others are served");
}

#[test]
fn files_that_others_may_read_and_that_are_not_yours_are_warnings() {
    let disk = MemoryDisk::new();
    put(&disk, FILE, br#"{"servers":[]}"#);
    disk.open(FILE).unwrap().unwrap().set_mode(0o644).unwrap();
    let findings = examined(&disk, LATER);
    let finding = found(&findings, "file-permissions");
    assert!(
        finding.mendable && finding.message.contains("0644") && finding.remedy.as_ref().unwrap().contains("chmod 600")
    );
    let of_another = examine(&disk, FILE, Examination { user: Some(1000), ..Examination::default() });
    assert_eq!(found(&of_another, "file-owner").severity, Severity::Warning);
    assert_eq!(found(&of_another, "folder-owner").severity, Severity::Warning);
}

#[test]
fn a_lock_is_told_apart_by_its_age_and_its_holder() {
    let disk = MemoryDisk::new();
    disk.create("servers.json.lock").unwrap();
    let findings = examined(&disk, 1_000);
    let finding = found(&findings, "legacy-lock");
    assert!(!finding.mendable && finding.message.contains("has held its lock"), "{finding:?}");
    let findings = examined(&disk, LATER);
    let finding = found(&findings, "legacy-lock");
    assert!(finding.mendable && finding.message.contains("left its lock 3599 seconds ago"), "{finding:?}");
    disk.remove("servers.json.lock").unwrap();
    let own = disk.create("servers.json.flock").unwrap();
    disk.link("servers.json.flock", "servers.json.lock").unwrap();
    assert!(found(&examined(&disk, 0), "legacy-lock").message.contains("ended while it wrote"));
    assert!(own.try_lock().unwrap());
    assert_eq!(found(&examined(&disk, 0), "legacy-lock").severity, Severity::Ok);
    assert!(found(&examined(&disk, 0), "writers-lock").message.contains("another program is writing"));
}

/// The only segment there is, and where its record of that name begins.
pub(in crate::registry) fn segment(disk: &MemoryDisk, text: &str) -> (String, usize) {
    let name = disk.names().unwrap().into_iter().find(|name| name.contains(".journal-")).unwrap();
    let bytes = disk::read(disk, &name, usize::MAX - 1).unwrap().unwrap();
    let at = bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap();
    (name, at)
}

#[test]
fn journals_are_told_apart_by_whether_they_are_in_use_orphaned_torn_or_damaged() {
    let disk = MemoryDisk::new();
    let store = open(&disk, "gateway", Acknowledge::Journal);
    for name in ["a", "b", "c"] {
        store.change(Change::put(server(name, "1"))).unwrap();
    }
    let findings = examined(&disk, LATER);
    let finding = found(&findings, "journals");
    assert!(finding.severity == Severity::Ok && finding.message.contains("in use and holds 3 changes"), "{finding:?}");
    drop(store);
    let findings = examined(&disk, LATER);
    assert!(found(&findings, "journal-orphaned").mendable);
    let (name, at) = segment(&disk, "\"name\":\"c\"");
    let whole = disk::read(&disk, &name, usize::MAX - 1).unwrap().unwrap();
    disk.open(&name).unwrap().unwrap().write_at(at as u64, b"x").unwrap();
    let findings = examined(&disk, LATER);
    assert!(found(&findings, "journal-torn").message.contains("from change 3 on"));
    put(&disk, &name, &whole);
    let (_, at) = segment(&disk, "\"name\":\"b\"");
    disk.open(&name).unwrap().unwrap().write_at(at as u64, b"x").unwrap();
    let findings = examined(&disk, LATER);
    let finding = found(&findings, "journal-damaged");
    assert!(finding.severity == Severity::Error && finding.message.contains("change 2"), "{finding:?}");
    let aside = FileNames::of(FILE).damaged(&name);
    disk.rename(&name, &aside).unwrap();
    let findings = examined(&disk, LATER);
    let finding = found(&findings, "journal-damaged");
    assert_eq!((finding.mendable, finding.file.as_ref()), (true, Some(&aside)));
    assert!(finding.remedy.as_ref().unwrap().contains("journal dump"));
}

#[test]
fn what_was_left_behind_and_what_is_kept_is_told() {
    let disk = MemoryDisk::new();
    put(&disk, "servers.json.tmp-00000000000001", b"{\"servers\":[]}");
    put(&disk, "servers.json.bad-ab", CANARY.as_bytes());
    put(&disk, "servers.json.kept-w-000001-00000000000000ab", b"x");
    put(&disk, "servers.json.base-1-00000000000000000000000000000000", b"{}");
    let findings = examined(&disk, LATER);
    assert!(found(&findings, "temporaries").mendable);
    for check in ["quarantined", "kept-journals", "bases"] {
        assert_eq!(found(&findings, check).severity, Severity::Warning, "{check}");
    }
}

#[test]
fn a_probe_tells_what_the_file_system_can_and_leaves_nothing_behind() {
    let disk = MemoryDisk::new();
    let findings = examine(&disk, FILE, Examination { probe: true, ..Examination::default() });
    for check in probe::CHECKS {
        assert_eq!(found(&findings, check).severity, Severity::Ok, "{check}");
    }
    assert!(disk.names().unwrap().is_empty());
}
