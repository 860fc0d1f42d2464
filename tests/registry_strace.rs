//! A process of the registry that is killed, or whose disk fails, at every call by which it writes, by `strace`: whatever it
//! was told to be durable is there when the registry is opened again, and a change that is refused is refused with a reason.
//!
//! Without `strace` this is skipped with a printed reason; with `CORTEX_REQUIRE_INTEROP=1` that is a failure.
//! `CORTEX_STRACE_STRIDE=n` visits every n-th call only.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

#[path = "support/registry_process.rs"]
mod registry_process;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cortex_mcp::registry::Acknowledge;
use registry_process::acks::{self, Acks, Fate, Write, lost, now_ns};
use registry_process::scene::converges;
use registry_process::{FILE, Order, Said, Work, command, obey, open, option, policy, said, said_by, say};

/// The calls that change something, or that everything depends on.
const CALLS: [&str; 16] = [
    "openat",
    "openat2",
    "write",
    "pwrite64",
    "fsync",
    "fdatasync",
    "rename",
    "renameat",
    "renameat2",
    "linkat",
    "unlinkat",
    "flock",
    "fchmod",
    "fchown",
    "ftruncate",
    "mkdirat",
];

#[test]
fn child_process_entry() {
    obey();
}

/// One call of the script: the n-th of its name that its thread makes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Site {
    call: String,
    nth: usize,
    /// Whether it changes something: opening for reading does not.
    changes: bool,
}

/// Who is traced.
#[derive(Clone, Debug)]
enum Traced {
    Worker(Work),
    /// The program itself, with the change that it is to make to a registry that holds `a` already.
    Program {
        arguments: &'static [&'static str],
        name: &'static str,
        value: Option<u64>,
    },
}

/// A world of its own for one run.
struct Run {
    home: tempfile::TempDir,
    logs: tempfile::TempDir,
}

/// What a worker did under `strace`.
struct Ended {
    writes: Vec<Write>,
    code: Option<i32>,
    output: String,
    /// Whether the injection took place.
    hit: bool,
}

/// What a script puts where, and what it removes.
fn script(commands: bool) -> Traced {
    let changes = [("a", Some(1)), ("b", Some(2)), ("a", Some(3)), ("b", None), ("c", Some(4))];
    let changes = changes.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect();
    Traced::Worker(Work::Script { changes, commands, tends: 1 })
}

impl Run {
    fn new() -> Self {
        Self { home: tempfile::tempdir().unwrap(), logs: tempfile::tempdir().unwrap() }
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("mcp")
    }

    /// The program, for this home folder.
    fn program(&self, below: &[String], arguments: &[&str]) -> Command {
        let words = [below, &[env!("CARGO_BIN_EXE_cortex-mcp").to_owned()]].concat();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).args(arguments).env_clear().env("CORTEX_HOME", self.home.path());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
        command
    }

    /// Does the work with this injection.
    fn go(&self, traced: &Traced, injection: Option<&str>) -> Ended {
        let trace = self.logs.path().join("trace");
        let mut below: Vec<String> = ["strace", "-f", "-y", "-o"].map(str::to_owned).to_vec();
        below.push(trace.to_str().unwrap().to_owned());
        below.extend(["-e".to_owned(), format!("trace={}", CALLS.join(","))]);
        below.extend(injection.iter().flat_map(|injection| ["-e".to_owned(), format!("inject={injection}")]));
        let acks = self.logs.path().join("acks");
        let mut told = Acks::create(&acks);
        let mut command = match traced {
            Traced::Worker(work) => {
                let order = Order { folder: self.folder(), acks: acks.clone(), number: 1, seed: 1, work: work.clone() };
                command(&order, &below)
            }
            Traced::Program { arguments, name, value } => {
                told.begin("a", Some(1));
                let made = self.program(&[], &["registry", "add", "a", "https://e.test/1"]).output().unwrap();
                assert!(made.status.success(), "{made:?}");
                told.end(Ok(()));
                told.begin(name, *value);
                self.program(&below, arguments)
            }
        };
        let output = command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
        let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
        let code = output.status.code();
        if let (Traced::Program { .. }, Some(code)) = (traced, code) {
            told.end(if code == 0 { Ok(()) } else { Err(text.clone()) });
        }
        let trace = std::fs::read_to_string(&trace).unwrap();
        let hit = trace.contains("(INJECTED)") || trace.contains("killed by SIGKILL");
        Ended { writes: acks::read(&acks, Some(now_ns())), code, output: text, hit }
    }

    /// The calls within the folder that were made.
    fn sites(&self) -> Vec<Site> {
        let trace = std::fs::read_to_string(self.logs.path().join("trace")).unwrap();
        let folder = self.folder();
        let folder = folder.to_str().unwrap();
        let mut counts: BTreeMap<(&str, &str), usize> = BTreeMap::new();
        let mut sites = BTreeSet::new();
        for line in trace.lines() {
            let Some((thread, rest)) = line.split_once(' ') else { continue };
            let Some((call, arguments)) = rest.trim_start().split_once('(') else { continue };
            if !CALLS.contains(&call) {
                continue;
            }
            let count = counts.entry((thread, call)).or_default();
            *count += 1;
            if arguments.contains(folder) {
                let changes = !call.starts_with("openat") || arguments.contains("O_CREAT");
                sites.insert(Site { call: call.to_owned(), nth: *count, changes });
            }
        }
        sites.into_iter().collect()
    }

    /// What whoever comes next finds.
    fn find(&self, policy: &std::sync::Arc<cortex_mcp::policy::Policy>) -> Result<Said, String> {
        let document = match std::fs::read(self.folder().join(FILE)) {
            Ok(bytes) => Some(said_by(&bytes).map_err(|error| format!("{FILE}: {error}"))?),
            Err(_) => None,
        };
        let store = open(&self.folder(), policy, "next", Acknowledge::Journal).map_err(|error| error.to_string())?;
        let snapshot = store.snapshot();
        let damage = snapshot.standing.reason().map(ToString::to_string);
        damage.map_or(Ok(()), |reason| Err(format!("read-only: {reason}; the document says {document:?}")))?;
        Ok(said(&snapshot))
    }
}

/// Whether `strace` can be used here.
fn is_there() -> bool {
    let works = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "true"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !works {
        let reason = "SKIPPED: strace is not installed, or may not trace";
        assert!(std::env::var_os("CORTEX_REQUIRE_INTEROP").is_none(), "{reason}");
        say(reason);
    }
    works
}

/// Runs the script once for each call and injection.
fn at_every_call(
    name: &str,
    traced: &Traced,
    injections: &[Injection],
    check: impl Fn(&Ended) -> Result<(), String> + Sync,
) {
    if !is_there() {
        return;
    }
    let clean = Run::new();
    let ended = clean.go(traced, None);
    assert_eq!(ended.code, Some(0), "{}", ended.output);
    let stride = usize::try_from(option("CORTEX_STRACE_STRIDE", 1)).unwrap();
    let sites: Vec<Site> = clean.sites().into_iter().step_by(stride).collect();
    let all: Vec<(Site, &str)> = injections
        .iter()
        .flat_map(|(injection, wanted)| {
            let those = sites.iter().filter(|site| wanted(site));
            those.map(|site| (site.clone(), *injection))
        })
        .collect();
    let policy = policy();
    let next = AtomicUsize::new(0);
    let faults: Mutex<Vec<String>> = Mutex::default();
    let (acknowledged, refused, hits) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, usize::from) {
            scope.spawn(|| {
                while let Some((site, injection)) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let run = Run::new();
                    let ended = run.go(traced, Some(&format!("{}:{injection}:when={}", site.call, site.nth)));
                    hits.fetch_add(usize::from(ended.hit), Ordering::Relaxed);
                    let count =
                        |fate: &dyn Fn(&Fate) -> bool| ended.writes.iter().filter(|write| fate(&write.fate)).count();
                    acknowledged.fetch_add(count(&|fate| matches!(fate, Fate::Acknowledged(_))), Ordering::Relaxed);
                    refused.fetch_add(count(&|fate| matches!(fate, Fate::Refused(_))), Ordering::Relaxed);
                    let judge = |said: &Said| match lost(&ended.writes, said) {
                        complaints if complaints.is_empty() => Ok(()),
                        complaints => Err(complaints.join("\n")),
                    };
                    // What nobody was told may come to light only when it is written.
                    let judged = check(&ended)
                        .and_then(|()| judge(&run.find(&policy)?))
                        .and_then(|()| judge(&converges(&run.folder(), &policy)));
                    if let Err(what) = judged {
                        let fault = format!("{site:?} {injection}: {what}\n{}\n{:?}", ended.output, ended.writes);
                        faults.lock().unwrap().push(fault);
                    }
                }
            });
        }
    });
    let hits = hits.into_inner();
    say(&format!(
        "{name}: {} calls, {} runs, {hits} hit, {} changes acknowledged, {} refused",
        sites.len(),
        all.len(),
        acknowledged.into_inner(),
        refused.into_inner()
    ));
    // Which call is the n-th varies a little with the threads of the policy's compiler.
    assert!(hits * 10 >= all.len() * 9, "too few of the runs were hit");
    let faults = faults.into_inner().unwrap();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n\n"));
}

/// What is done at which calls.
type Injection = (&'static str, fn(&Site) -> bool);

/// Between two calls that change nothing there is nothing to be killed between.
const KILL: [Injection; 1] = [("signal=KILL", |site| site.changes)];

/// Failures, and writes that wrote nothing.
const ERRORS: [Injection; 4] = [
    ("error=EIO", |_| true),
    ("error=ENOSPC", |site| site.changes),
    ("error=EINTR", |site| site.changes),
    ("retval=0", |site| site.call == "pwrite64"),
];

fn any_end(_ended: &Ended) -> Result<(), String> {
    Ok(())
}

/// Who was refused says so, as commands do.
fn good_end(ended: &Ended) -> Result<(), String> {
    match ended.code {
        Some(0) if ended.writes.iter().all(Write::is_acknowledged) => Ok(()),
        Some(1) if ended.output.contains("error: ") => Ok(()),
        code => Err(format!("it ended with {code:?}")),
    }
}

#[test]
fn a_long_running_process_that_is_killed_at_any_call_keeps_what_it_acknowledged() {
    at_every_call("killed, journal", &script(false), &KILL, any_end);
}

#[test]
fn a_command_that_is_killed_at_any_call_keeps_what_it_acknowledged() {
    at_every_call("killed, commands", &script(true), &KILL, any_end);
}

#[test]
fn a_long_running_process_whose_disk_fails_at_any_call_acknowledges_nothing_false() {
    at_every_call("failing, journal", &script(false), &ERRORS, good_end);
}

#[test]
fn a_command_whose_disk_fails_at_any_call_acknowledges_nothing_false() {
    at_every_call("failing, commands", &script(true), &ERRORS, good_end);
}

const ADD: Traced =
    Traced::Program { arguments: &["registry", "add", "b", "https://e.test/2"], name: "b", value: Some(2) };
const REMOVE: Traced = Traced::Program { arguments: &["registry", "remove", "a"], name: "a", value: None };

#[test]
fn the_program_that_is_killed_at_any_call_keeps_what_it_acknowledged() {
    at_every_call("killed, registry add", &ADD, &KILL, any_end);
    at_every_call("killed, registry remove", &REMOVE, &KILL, any_end);
}

#[test]
fn the_program_whose_disk_fails_at_any_call_acknowledges_nothing_false() {
    at_every_call("failing, registry add", &ADD, &ERRORS, |ended| match ended.code {
        Some(0) => Ok(()),
        Some(1 | 2) if ended.output.contains("cortex-mcp: ") => Ok(()),
        code => Err(format!("it ended with {code:?}")),
    });
}

#[test]
fn the_paths_of_traced_calls_are_told() {
    if is_there() {
        let run = Run::new();
        run.go(&script(false), None);
        let sites = run.sites();
        for call in ["openat", "pwrite64", "fsync", "fdatasync", "renameat2", "linkat", "unlinkat", "flock"] {
            assert!(sites.iter().any(|site| site.call == call), "{call} is not among {sites:?}");
        }
        assert!(run.folder().join(FILE).exists());
    }
}
