//! A registry with a syntax error, a wrong shape, one bad entry, a symbolic link, a read-only folder, a full disk, the
//! mode 0644, a lock that someone left: what the commands say of it, that they lose nothing, and that it can be mended.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests may")]

mod processes;
mod support;

use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cortex_mcp::config::{Environment, Settings};
use cortex_mcp::edge::disk::Disk;
use cortex_mcp::gateway::policy_for_commands;
use cortex_mcp::model::WallMs;
use cortex_mcp::registry::{
    Acknowledge, MendingAction, MendingState, RegistryEntry, RegistryMetrics, Store, StoreOptions, StoreParts, mend,
    plan,
};
use processes::{Finished, Installation};
use serde_json::Value;
use support::crash_disk::CrashDisk;

fn registry(installation: &Installation, arguments: &[&str]) -> Finished {
    installation.run(&[&["registry"], arguments].concat())
}

#[track_caller]
fn parsed(installation: &Installation, arguments: &[&str], code: i32) -> Value {
    let finished = registry(installation, &[arguments, &["--json"]].concat());
    assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
    finished.json()
}

/// The worst finding of that check.
#[track_caller]
fn finding(installation: &Installation, check: &str, code: i32) -> Value {
    let said = parsed(installation, &["doctor"], code);
    let of = |severity: &str| {
        let findings = said["findings"].as_array().unwrap().iter();
        findings.clone().find(|one| one["check"] == check && one["severity"] == severity).cloned()
    };
    let found = of("error").or_else(|| of("warning")).or_else(|| of("ok"));
    found.unwrap_or_else(|| panic!("no {check} in {said}"))
}

#[track_caller]
fn says(finding: &Value, severity: &str, message: &str, remedy: &str) {
    assert_eq!(finding["severity"], severity, "{finding}");
    assert!(finding["message"].as_str().unwrap().contains(message), "{finding}");
    assert!(finding["remedy"].as_str().unwrap_or_default().contains(remedy), "{finding}");
}

fn folder(installation: &Installation) -> PathBuf {
    installation.folder().join("home/mcp")
}

/// An installation with this file.
fn with_file(text: &str) -> (Installation, PathBuf) {
    let installation = Installation::new();
    let path = PathBuf::from(installation.file("home/mcp/servers.json", text));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    std::fs::set_permissions(path.parent().unwrap(), PermissionsExt::from_mode(0o700)).unwrap();
    (installation, path)
}

fn listed(installation: &Installation, code: i32) -> Vec<String> {
    let said = parsed(installation, &["list"], code);
    said["servers"].as_array().unwrap().iter().map(|server| server["name"].as_str().unwrap().to_owned()).collect()
}

/// The copies of what could not be read.
fn copies(installation: &Installation) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder(installation)).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.to_str().unwrap().contains(".bad-")).collect()
}

#[test]
fn a_syntax_error_is_told_with_its_place_is_never_overwritten_and_can_be_repaired() {
    let (installation, path) = with_file("");
    std::fs::remove_file(&path).unwrap();
    for name in ["a", "b"] {
        parsed(&installation, &["add", name, "https://a/mcp"], 0);
    }
    let broken = std::fs::read_to_string(&path).unwrap().replacen(']', "", 1);
    std::fs::write(&path, &broken).unwrap();
    says(&finding(&installation, "file", 1), "error", "at byte", "repair");
    let refused = registry(&installation, &["add", "c", "https://c"]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.complaint().contains("repair the file") && refused.complaint().contains("at byte"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), broken, "it is left as it is");
    assert_eq!(listed(&installation, 3), ["a", "b"], "what can be had is shown");
    let told = registry(&installation, &["list"]);
    assert!(told.complaint().contains("registry doctor"), "{told:?}");

    let planned = parsed(&installation, &["repair"], 1);
    assert_eq!(planned["steps"][0]["state"], "needs-consent", "{planned}");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), broken);
    let text = registry(&installation, &["repair"]).stdout;
    assert!(text.contains("needs --yes") && text.contains("2 entries of it are whole"), "{text}");
    let repaired = parsed(&installation, &["repair", "--yes"], 0);
    assert_eq!(
        (&repaired["ok"], &repaired["steps"][0]["action"]),
        (&Value::Bool(true), &Value::from("rewrite-document"))
    );
    assert_eq!(listed(&installation, 0), ["a", "b"]);
    let copies = copies(&installation);
    assert_eq!((copies.len(), std::fs::read_to_string(&copies[0]).unwrap()), (1, broken));
    parsed(&installation, &["add", "c", "https://c"], 0);
    assert_eq!(parsed(&installation, &["repair", "--yes"], 0)["steps"], serde_json::json!([]));
    says(&finding(&installation, "quarantined", 0), "warning", "could not be read", "remove it");
}

#[test]
fn a_wrong_shape_is_told_and_what_is_whole_in_it_is_salvaged() {
    let entry = r#"{"name":"a","transport":"http","endpoint":"https://a"}"#;
    let (installation, path) = with_file(&format!("[{entry}]"));
    says(&finding(&installation, "file", 1), "error", "no object with a list", "repair");
    assert!(listed(&installation, 1).is_empty());
    assert_eq!(parsed(&installation, &["get", "a"], 1)["error"]["class"], "read-only");
    let file = installation.folder().join("out.json");
    assert_eq!(
        parsed(&installation, &["export", "--output", file.to_str().unwrap()], 1)["error"]["class"],
        "read-only"
    );
    assert!(!file.exists(), "no empty file is taken for a registry");
    parsed(&installation, &["repair", "--yes"], 0);
    assert_eq!(listed(&installation, 0), ["a"]);
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
}

#[test]
fn one_bad_entry_is_told_by_name_and_the_others_go_on() {
    let (installation, path) = with_file(
        r#"{"servers":[{"name":"bad","transport":"http","endpoint":"nowhere"},{"name":"a","transport":"http","endpoint":"https://a"},7]}"#,
    );
    says(&finding(&installation, "entries", 0), "warning", "servers[0] (bad)", "--overwrite");
    assert_eq!(listed(&installation, 0), ["a", "bad"]);
    let said = parsed(&installation, &["list"], 0);
    assert_eq!((&said["states"][0]["state"], &said["states"][1]["state"]), (&"served".into(), &"invalid".into()));
    assert_eq!(said["problems"].as_array().unwrap().len(), 2, "{said}");
    parsed(&installation, &["add", "b", "https://b"], 0);
    let kept: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert!(kept["servers"].as_array().unwrap().contains(&7.into()), "what is not understood is kept: {kept}");
    parsed(&installation, &["add", "bad", "https://good", "--overwrite"], 0);
    assert_eq!(parsed(&installation, &["list"], 0)["states"][2]["state"], "served");
}

#[test]
fn a_symbolic_link_is_followed_and_stays_a_link() {
    let (installation, path) = with_file(r#"{"servers":[]}"#);
    let target = installation.folder().join("elsewhere");
    std::fs::create_dir(&target).unwrap();
    std::fs::set_permissions(&target, PermissionsExt::from_mode(0o700)).unwrap();
    std::fs::rename(&path, target.join("mine.json")).unwrap();
    symlink("../../elsewhere/mine.json", &path).unwrap();
    let said = finding(&installation, "path", 0);
    assert!(
        said["message"].as_str().unwrap().contains("symbolic link") && said.to_string().contains("mine.json"),
        "{said}"
    );
    parsed(&installation, &["add", "a", "https://a"], 0);
    assert!(path.is_symlink());
    assert!(std::fs::read_to_string(target.join("mine.json")).unwrap().contains("https://a"));
    assert!(target.join("mine.json.flock").exists() && !folder(&installation).join("servers.json.flock").exists());
    std::fs::remove_file(&path).unwrap();
    symlink("servers.json", &path).unwrap();
    says(&finding(&installation, "path", 1), "error", "circle", "remove the symbolic link");
}

#[test]
fn the_mode_0644_is_told_and_mended() {
    let (installation, path) = with_file(r#"{"servers":[]}"#);
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
    std::fs::set_permissions(folder(&installation), PermissionsExt::from_mode(0o755)).unwrap();
    says(&finding(&installation, "file-permissions", 0), "warning", "0644", "chmod 600");
    says(&finding(&installation, "folder-permissions", 0), "warning", "0755", "chmod 700");
    let problems = parsed(&installation, &["list"], 0)["problems"].to_string();
    assert!(problems.contains("0644") && problems.contains("registry repair"), "{problems}");
    let planned = parsed(&installation, &["repair", "--dry-run"], 0);
    assert!(planned["steps"].as_array().unwrap().iter().all(|step| step["state"] == "planned"), "{planned}");
    let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&path), 0o644);
    parsed(&installation, &["repair"], 0);
    assert_eq!((mode(&path), mode(&folder(&installation))), (0o600, 0o700));
    assert_eq!(finding(&installation, "file-permissions", 0)["severity"], "ok");
}

#[test]
fn a_lock_that_an_old_tool_left_is_told_and_removed_and_holds_nobody_up() {
    let (installation, _) = with_file(r#"{"servers":[]}"#);
    let lock = folder(&installation).join("servers.json.lock");
    let left = || {
        let file = std::fs::File::create(&lock).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(3_600)).unwrap();
        std::fs::set_permissions(&lock, PermissionsExt::from_mode(0o600)).unwrap();
    };
    left();
    says(&finding(&installation, "legacy-lock", 0), "warning", "left its lock 36", "repair");
    parsed(&installation, &["repair"], 0);
    assert!(!lock.exists());
    left();
    parsed(&installation, &["add", "a", "https://a"], 0);
    assert!(!lock.exists());
    std::fs::File::create(&lock).unwrap();
    says(&finding(&installation, "legacy-lock", 0), "warning", "has held its lock", "end that tool");
}

#[test]
fn a_lock_that_is_a_folder_or_a_link_that_leads_nowhere_is_told() {
    let (installation, _) = with_file(r#"{"servers":[]}"#);
    let lock = folder(&installation).join("servers.json.lock");
    std::fs::create_dir(&lock).unwrap();
    says(&finding(&installation, "legacy-lock", 0), "warning", "no regular file", "rmdir");
    std::fs::remove_dir(&lock).unwrap();
    symlink("nowhere", &lock).unwrap();
    says(&finding(&installation, "legacy-lock", 1), "error", "leads nowhere", "remove it");
    assert_eq!(parsed(&installation, &["repair"], 0)["steps"], serde_json::json!([]));
    assert!(lock.is_symlink(), "that is for people");
}

#[test]
fn a_lock_of_another_user_in_ones_folder_is_an_error_and_is_given_back_by_who_may() {
    if !rustix::process::geteuid().is_root() {
        let _ = writeln!(std::io::stdout(), "SKIPPED: a file of another user: giving files away needs root");
        return;
    }
    let (installation, _) = with_file(r#"{"servers":[]}"#);
    parsed(&installation, &["add", "a", "https://a"], 0);
    let lock = folder(&installation).join("servers.json.flock");
    std::os::unix::fs::chown(&lock, Some(4_711), Some(4_711)).unwrap();
    let told = finding(&installation, "file-owner", 1);
    says(&told, "error", "belongs to the user 4711", "chown 0");
    assert_eq!((&told["file"], &told["mendable"]), (&"servers.json.flock".into(), &true.into()));
    let repaired = parsed(&installation, &["repair"], 0);
    assert_eq!(repaired["steps"][0]["action"], "change-owner", "{repaired}");
    assert_eq!(std::os::unix::fs::MetadataExt::uid(&lock.metadata().unwrap()), 0);
    assert_eq!(finding(&installation, "file-owner", 0)["severity"], "ok");
}

#[test]
fn a_damaged_journal_is_given_up_only_if_that_is_said() {
    let (installation, _) = with_file(r#"{"servers":[]}"#);
    let name = "servers.json.damaged-w-000001-00000000000000ab";
    let path = PathBuf::from(installation.file(&format!("home/mcp/{name}"), "x"));
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
    says(&finding(&installation, "journal-damaged", 1), "error", "damaged", "registry repair --yes");
    let planned = parsed(&installation, &["repair"], 1);
    assert_eq!((&planned["ok"], &planned["steps"][0]["state"]), (&false.into(), &"needs-consent".into()), "{planned}");
    assert!(path.exists());
    let accepted = parsed(&installation, &["repair", "--yes"], 0);
    assert_eq!(accepted["steps"][0]["action"], "accept-journal", "{accepted}");
    assert!(!path.exists());
}

/// A file system of its own for a registry, for those who may mount one.
struct Mounted {
    installation: Installation,
}

impl Mounted {
    fn new(what: &str) -> Option<Self> {
        let installation = Installation::new();
        let folder = folder(&installation);
        std::fs::create_dir_all(&folder).unwrap();
        let mounted = mount(&["-t", "tmpfs", "-o", "size=64k,mode=700", "none", folder.to_str().unwrap()]);
        if !mounted {
            let is_required = std::env::var_os("CORTEX_REQUIRE_INTEROP").is_some_and(|value| value == "1");
            assert!(!is_required, "a file system must be mounted for {what}");
            // Also where nobody prints: tests are not to be skipped unseen.
            let _ = writeln!(std::io::stdout(), "SKIPPED: {what}: mounting a file system needs root");
            return None;
        }
        Some(Self { installation })
    }

    fn make_read_only(&self) {
        assert!(mount(&["-o", "remount,ro", folder(&self.installation).to_str().unwrap()]));
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(folder(&self.installation)).status();
    }
}

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).output().is_ok_and(|done| done.status.success())
}

#[test]
fn a_read_only_folder_is_read_and_a_change_says_what_to_do() {
    let Some(mounted) = Mounted::new("a read-only folder") else { return };
    let installation = &mounted.installation;
    parsed(installation, &["add", "a", "https://a"], 0);
    mounted.make_read_only();
    assert_eq!(listed(installation, 0), ["a"]);
    for arguments in [&["get", "a"][..], &["export"], &["journal", "dump"]] {
        assert_eq!(registry(installation, arguments).code, Some(0), "{arguments:?}");
    }
    says(&finding(installation, "folder-writable", 1), "error", "read-only", "mount it writable");
    let refused = registry(installation, &["add", "b", "https://b"]);
    assert!(refused.code == Some(1) && refused.complaint().contains("can be written"), "{refused:?}");
    assert_eq!(registry(installation, &["doctor", "--probe"]).code, Some(1));
    assert_eq!(listed(installation, 0), ["a"]);
}

#[test]
fn a_full_disk_refuses_a_change_loses_nothing_and_takes_it_once_there_is_room() {
    let Some(mounted) = Mounted::new("a full disk") else { return };
    let installation = &mounted.installation;
    parsed(installation, &["add", "a", "https://a"], 0);
    let before = std::fs::read(folder(installation).join("servers.json")).unwrap();
    let stuffing = folder(installation).join("stuffing");
    // Until nothing goes in any more.
    let _ = std::fs::write(&stuffing, vec![1; 1 << 20]);
    let refused = registry(installation, &["add", "b", "https://b"]);
    let complaint = refused.complaint();
    assert!(refused.code == Some(1) && complaint.contains("No space left"), "{refused:?}");
    assert_eq!(std::fs::read(folder(installation).join("servers.json")).unwrap(), before);
    assert_eq!(listed(installation, 0), ["a"]);
    says(
        &{
            let said = parsed(installation, &["doctor", "--probe"], 0);
            said["findings"].as_array().unwrap().iter().find(|one| one["check"] == "file").unwrap().clone()
        },
        "ok",
        "1 servers",
        "",
    );
    std::fs::remove_file(&stuffing).unwrap();
    parsed(installation, &["add", "b", "https://b"], 0);
    assert_eq!(listed(installation, 0), ["a", "b"]);
}

fn store(disk: &CrashDisk, writer: &str) -> Arc<Store> {
    let settings = Settings::from_environment(&Environment::default()).unwrap();
    let options =
        StoreOptions { acknowledge: Acknowledge::Snapshot, lock_patience: Duration::ZERO, ..StoreOptions::default() };
    let disk: Arc<dyn Disk> = Arc::new(disk.process());
    Store::open(StoreParts {
        disk,
        file: "servers.json".to_owned(),
        policy: policy_for_commands(&settings).unwrap(),
        writer: writer.to_owned(),
        metrics: RegistryMetrics::default(),
        options,
    })
    .unwrap()
}

fn entry(name: &str) -> RegistryEntry {
    RegistryEntry::parse(&format!(r#"{{"name":"{name}","transport":"http","endpoint":"https://a"}}"#)).unwrap()
}

/// A disk with a document that can not be read, and its bytes.
fn unreadable() -> (CrashDisk, Vec<u8>) {
    let disk = CrashDisk::new(7);
    let writer = store(&disk, "w");
    writer.upsert(entry("a")).unwrap();
    writer.upsert(entry("b")).unwrap();
    let file = disk.open("servers.json").unwrap().unwrap();
    file.write_at(2, b"~~").unwrap();
    file.sync_all().unwrap();
    disk.sync().unwrap();
    let bytes = disk.content("servers.json").unwrap();
    (disk, bytes)
}

#[test]
fn a_repair_on_a_full_disk_changes_nothing_and_works_once_there_is_room() {
    let (disk, bytes) = unreadable();
    disk.set_full(true);
    assert!(mend(&store(&disk, "repair"), true).is_err());
    assert_eq!(disk.content("servers.json").unwrap(), bytes);
    let planned = plan(&disk, "servers.json", WallMs(0)).unwrap();
    assert!(planned.iter().any(|step| step.action == MendingAction::RewriteDocument), "{planned:?}");
    disk.set_full(false);
    let steps = mend(&store(&disk, "repair"), true).unwrap();
    assert!(steps.iter().all(|step| step.state == MendingState::Done), "{steps:?}");
    assert_eq!(store(&disk, "later").list().len(), 2);
}

#[test]
fn a_repair_that_is_cut_off_anywhere_keeps_the_only_copy_and_can_be_made_again() {
    let calls = {
        let (disk, _) = unreadable();
        let before = disk.operations();
        mend(&store(&disk, "repair"), true).unwrap();
        before..disk.operations()
    };
    assert!(calls.end > calls.start + 20, "{calls:?}");
    let mut cut_off = 0;
    for call in calls {
        let (disk, bytes) = unreadable();
        disk.crash_at(call);
        let settings = Settings::from_environment(&Environment::default()).unwrap();
        let opened = Store::open(StoreParts {
            disk: Arc::new(disk.process()),
            file: "servers.json".to_owned(),
            policy: policy_for_commands(&settings).unwrap(),
            writer: "repair".to_owned(),
            metrics: RegistryMetrics::default(),
            options: StoreOptions {
                acknowledge: Acknowledge::Snapshot,
                lock_patience: Duration::ZERO,
                ..StoreOptions::default()
            },
        });
        cut_off += u32::from(opened.is_err() || opened.is_ok_and(|store| mend(&store, true).is_err()));
        for seed in 0..4 {
            let after = disk.recover(seed);
            let is_kept = |name: &String| after.content(name).unwrap() == bytes;
            assert!(after.names().unwrap().iter().any(is_kept), "call {call}, seed {seed}: {:?}", after.names());
            let steps = mend(&store(&after, "again"), true).unwrap_or_else(|error| panic!("call {call}: {error}"));
            assert!(steps.iter().all(|step| step.state == MendingState::Done), "call {call}: {steps:?}");
            assert_eq!(store(&after, "later").list().len(), 2, "call {call}, seed {seed}");
            assert!(after.names().unwrap().iter().any(is_kept), "call {call}, seed {seed}: {:?}", after.names());
        }
    }
    assert!(cut_off > 20, "{cut_off}");
}
