//! Real child processes of the real binary: nothing is left of them, and they see none of the gateway's secrets.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

#[path = "child_processes/look.rs"]
mod look;
mod processes;
#[path = "child_processes/server.rs"]
mod server;
#[path = "child_processes/table.rs"]
mod table;

use std::os::unix::fs::chown;
use std::path::Path;

use processes::interop::skipped;
use processes::{Installation, PATIENCE, Serving, until, wait_for_tools};
use rustix::process::{Pid, Signal, getuid, kill_process};
use serde_json::{Value, json};
use server::Kind;
use table::Process;

/// Not a test: the server that the tests start.
#[test]
fn child_process_entry() {
    server::run_if_asked();
}

/// The user that has no privileges, wherever there are users at all.
const NOBODY: u32 = 65_534;

/// Who runs the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    /// Whoever runs the tests.
    Own,
    /// A user without privileges.
    Nobody,
}

/// A gateway with servers of some kinds.
struct World {
    installation: Installation,
}

impl World {
    fn new(kinds: &[Kind]) -> Self {
        let installation = Installation::new();
        let program = installation.folder().join("server");
        copy(&std::env::current_exe().unwrap(), &program);
        let servers = kinds.iter().map(|kind| kind.entry(&program, &Self::marker(&installation)));
        let servers = json!({ "servers": servers.collect::<Vec<_>>() }).to_string();
        installation.file("home/mcp/servers.json", servers);
        Self { installation }
    }

    /// What every process that belongs to this world has in its environment or its arguments.
    fn marker(installation: &Installation) -> String {
        installation.folder().display().to_string()
    }

    fn configured(self, toml: &str) -> Self {
        self.installation.file("home/mcp/gateway.toml", toml);
        self
    }

    fn with(self, name: &str, value: &str) -> Self {
        Self { installation: self.installation.with(name, value) }
    }

    /// Lets another user run it. None, with the reason printed, if that is not possible.
    fn run_by(mut self, user: User) -> Option<Self> {
        if user == User::Nobody {
            if !getuid().is_root() {
                skipped("only root can run a gateway as another user");
                return None;
            }
            // The build folder may be closed to others.
            let program = self.installation.folder().join("cortex-mcp");
            copy(Path::new(env!("CARGO_BIN_EXE_cortex-mcp")), &program);
            give(self.installation.folder(), NOBODY);
            self.installation = self.installation.run_by(&program, NOBODY);
        }
        Some(self)
    }

    fn serve(&self, tools: usize) -> Serving {
        let gateway = self.installation.serve();
        wait_for_tools(&gateway, tools);
        gateway
    }

    /// What is left of it.
    fn left(&self, known: &[Process]) -> Vec<String> {
        let marker = Self::marker(&self.installation);
        let known = known.iter().filter(|process| process.is_alive()).map(Process::shown);
        known.chain(table::marked(&marker).iter().map(Process::shown)).collect()
    }
}

fn copy(from: &Path, to: &Path) {
    // A link to the same file suffices, where the file system takes one.
    if std::fs::hard_link(from, to).is_err() {
        std::fs::copy(from, to).unwrap();
    }
}

fn give(folder: &Path, user: u32) {
    chown(folder, Some(user), Some(user)).unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            give(&entry.path(), user);
        } else if !["server", "cortex-mcp"].contains(&entry.file_name().to_str().unwrap()) {
            // Programs may be links to those of the build.
            chown(entry.path(), Some(user), Some(user)).unwrap();
        }
    }
}

fn call(gateway: &Serving, tool: &str, arguments: &Value) -> Value {
    let answer = gateway.client().call(tool, arguments);
    let seen = &answer["result"]["structuredContent"];
    assert!(seen.is_object(), "{answer}");
    seen.clone()
}

mod nothing_is_left {
    use super::*;

    /// All kinds, and how many processes they are: with the grandchildren.
    const KINDS: [Kind; 5] = [Kind::Plain, Kind::Deaf, Kind::ForksTwice, Kind::OwnSession, Kind::Unread];
    const PROCESSES: usize = 7;

    fn after(signal: Signal, user: User) {
        let Some(world) = World::new(&KINDS).configured("[connector.unread]\nera = \"legacy\"\n").run_by(user) else {
            return;
        };
        let gateway = world.serve(KINDS.len());
        let marker = World::marker(&world.installation);
        until("every process is there", PATIENCE, || {
            (table::marked(&marker).iter().filter(|process| process.is_server()).count() == PROCESSES).then_some(())
        });
        let below = table::descendants(gateway.process());
        // The watcher, and for each server its shim and itself.
        assert!(below.len() > 2 * KINDS.len(), "{:?}", below.iter().map(Process::shown).collect::<Vec<_>>());
        kill_process(Pid::from_raw(gateway.process().cast_signed()).unwrap(), signal).unwrap();
        gateway.end();
        until("nothing is left", PATIENCE, || world.left(&below).is_empty().then_some(()));
    }

    #[test]
    fn after_sigterm() {
        after(Signal::TERM, User::Own);
    }

    #[test]
    fn after_sigkill() {
        after(Signal::KILL, User::Own);
    }

    #[test]
    fn after_sigkill_of_an_unprivileged_gateway() {
        after(Signal::KILL, User::Nobody);
    }

    #[test]
    fn of_a_server_that_was_removed() {
        let world = World::new(&KINDS[2..4]);
        let gateway = world.serve(2);
        let marker = World::marker(&world.installation);
        let servers = || table::marked(&marker).into_iter().filter(Process::is_server).collect::<Vec<_>>();
        until("every process is there", PATIENCE, || (servers().len() == 4).then_some(()));
        let kept = call(&gateway, "own-session__look", &json!({}))["process"].as_u64().unwrap();
        world.installation.run(&["registry", "remove", "forks-twice"]);
        let left = until("one and its child are gone", PATIENCE, || Some(servers()).filter(|left| left.len() == 2));
        assert!(left.iter().any(|process| u64::from(process.pid()) == kept), "the other one stays");
        gateway.stop();
    }
}

mod watcher {
    use super::*;

    #[test]
    fn has_no_environment_and_no_secret_in_its_arguments() {
        let world = World::new(&[Kind::Plain]).with("CONNECTORS_API_KEY", "canary");
        let gateway = world.serve(1);
        let below = table::descendants(gateway.process());
        let watchers: Vec<_> = below.iter().filter(|process| !process.is_server()).collect();
        // The watcher and a shim; their environment can be read by root only.
        assert_eq!(watchers.len(), 2);
        for watcher in watchers {
            assert_eq!(watcher.arguments(), ["cortex-mcp", "--watch-child-processes"]);
            if getuid().is_root() {
                assert_eq!(watcher.environment(), Vec::<String>::new());
                assert!(watcher.descriptors() <= 6, "{}", watcher.descriptors());
            }
        }
        gateway.stop();
    }

    #[test]
    fn that_is_killed_is_replaced_and_so_are_its_shims() {
        let world = World::new(&[Kind::Plain]);
        let gateway = world.serve(1);
        let first = call(&gateway, "plain__look", &json!({}))["process"].as_u64().unwrap();
        let below = table::descendants(gateway.process());
        for process in below.iter().filter(|process| !process.is_server()) {
            kill_process(Pid::from_raw(process.pid().cast_signed()).unwrap(), Signal::KILL).unwrap();
        }
        until("all of it is gone", PATIENCE, || (!below.iter().any(Process::is_alive)).then_some(()));
        let second = until("another one answers", PATIENCE, || {
            let answer = gateway.client().call("plain__look", &json!({}));
            answer["result"]["structuredContent"]["process"].as_u64()
        });
        assert_ne!(first, second);
        gateway.wait_for_log("the watcher of the servers' processes has ended", 1);
        gateway.stop();
        until("nothing is left", PATIENCE, || world.left(&[]).is_empty().then_some(()));
    }
}

mod shim {
    use super::*;

    #[test]
    fn that_is_killed_leaves_nothing_behind() {
        let world = World::new(&[Kind::OwnSession]);
        let gateway = world.serve(1);
        let server = call(&gateway, "own-session__look", &json!({}));
        let marker = World::marker(&world.installation);
        let servers = || table::marked(&marker).into_iter().filter(Process::is_server).collect::<Vec<_>>();
        let first = until("the server and what it started are there", PATIENCE, || {
            Some(servers()).filter(|servers| servers.len() == 2)
        });
        let shim = i32::try_from(server["parent"].as_u64().unwrap()).unwrap();
        kill_process(Pid::from_raw(shim).unwrap(), Signal::KILL).unwrap();
        until("both are gone", PATIENCE, || (!first.iter().any(Process::is_alive)).then_some(()));
        until("another server is there", PATIENCE, || (servers().len() == 2).then_some(()));
        gateway.stop();
        until("nothing is left", PATIENCE, || world.left(&[]).is_empty().then_some(()));
    }
}

/// The process layer as an embedding program uses it.
mod embedded {
    use std::path::PathBuf;

    use cortex_mcp::edge::process::{Child, Exit, Processes, SpawnFault, SystemProcesses};
    use cortex_mcp::model::{ChildRules, CommandLine};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn watched() -> SystemProcesses {
        SystemProcesses::new().watched_by(PathBuf::from(env!("CARGO_BIN_EXE_cortex-mcp")))
    }

    async fn start(processes: &SystemProcesses, script: &str, arguments: &[String]) -> Result<Child, SpawnFault> {
        let own = ["-c", script, "sh"].map(str::to_owned);
        let arguments = own.into_iter().chain(arguments.iter().cloned()).collect();
        let command = CommandLine { program: "sh".to_owned(), arguments, environment: [].into() };
        tokio::time::timeout(PATIENCE, processes.start(&command, &ChildRules::default())).await.unwrap()
    }

    #[tokio::test]
    async fn a_command_of_many_bytes_is_started_and_its_streams_and_its_end_are_told() {
        for processes in [watched(), SystemProcesses::new()] {
            let arguments: Vec<String> = (0..12).map(|_| "x".repeat(100_000)).collect();
            let script = "read line; printf '%s %s' \"$line\" \"$#\"; echo complaint >&2; exit 7";
            let mut child = start(&processes, script, &arguments).await.unwrap();
            child.input.write_all(b"said\n").await.unwrap();
            let (mut output, mut errors) = (String::new(), String::new());
            child.output.read_to_string(&mut output).await.unwrap();
            child.errors.read_to_string(&mut errors).await.unwrap();
            assert_eq!((output.as_str(), errors.as_str()), ("said 12", "complaint\n"));
            child.life.ended().await;
            child.life.ended().await;
            assert_eq!(child.life.bury().await, Exit::Code(7));
        }
    }

    #[tokio::test]
    async fn a_child_is_asked_to_end_or_is_killed_and_so_is_what_it_started() {
        let processes = watched();
        let mut child = start(&processes, "sleep 300; echo never", &[]).await.unwrap();
        until("it has a child", PATIENCE, || (table::descendants(child.pid).len() == 1).then_some(()));
        let below = table::descendants(child.pid);
        child.life.terminate();
        child.life.ended().await;
        assert_eq!(child.life.bury().await, Exit::Signal(15));
        assert!(!below.iter().any(Process::is_alive));

        let child = start(&processes, "trap '' TERM; sleep 300; echo never", &[]).await.unwrap();
        assert_eq!(child.life.bury().await, Exit::Signal(9));

        let child = start(&processes, "sleep 300; echo never", &[]).await.unwrap();
        let all: Vec<_> = table::descendants(std::process::id());
        let own = all.into_iter().filter(|process| process.pid() == child.pid).collect::<Vec<_>>();
        assert_eq!(own.len(), 1);
        drop(child);
        until("it is gone", PATIENCE, || (!own[0].is_alive()).then_some(()));
    }

    #[tokio::test]
    async fn a_watcher_that_cannot_be_started_is_told_apart_from_a_missing_command() {
        let nowhere = SystemProcesses::new().watched_by("/nowhere/cortex-mcp".into());
        let fault = start(&nowhere, "true", &[]).await.map(drop).unwrap_err();
        assert_eq!(fault, SpawnFault::Watcher(std::io::ErrorKind::NotFound));
        // A program that is no watcher ends at once.
        let other = SystemProcesses::new().watched_by("/bin/true".into());
        let fault = start(&other, "true", &[]).await.map(drop).unwrap_err();
        assert!(matches!(fault, SpawnFault::Watcher(_) | SpawnFault::Other(_)), "{fault}");
        for processes in [watched(), SystemProcesses::new()] {
            let command =
                CommandLine { program: "no-such-program".to_owned(), arguments: Vec::new(), environment: [].into() };
            let fault = processes.start(&command, &ChildRules::default()).await.map(drop).unwrap_err();
            assert_eq!(fault, SpawnFault::NotFound);
        }
    }
}

mod secrets {
    use super::*;

    /// The secrets of the test, made here: nobody else on this machine has them.
    fn canary(kind: &str) -> String {
        format!("canary-{kind}-{}-{:?}", std::process::id(), std::time::Instant::now()).replace([' ', '"'], "")
    }

    fn world(signature: &str, key: &str, sibling: &str) -> World {
        let world = World::new(&[Kind::Plain, Kind::Sibling]);
        let servers = world.installation.folder().join("home/mcp/servers.json");
        let with_sibling = std::fs::read_to_string(&servers).unwrap().replace("PLACEHOLDER", sibling);
        std::fs::write(&servers, with_sibling).unwrap();
        let file = world.installation.file("secret/signature", format!("{signature}\n"));
        world.with("CONNECTORS_SIGNATURE_KEY_FILE", &file).with("CONNECTORS_API_KEY", key)
    }

    /// What the server sees, of the gateway's tree and of every process, of these texts.
    fn seen(gateway: &Serving, canaries: &[&str]) -> Value {
        // Backwards, so that the server itself does not hold what it looks for.
        let backwards: Vec<String> = canaries.iter().map(|canary| canary.chars().rev().collect()).collect();
        let arguments = json!({ "backwards": backwards, "gateway": gateway.process(), "test": std::process::id() });
        call(gateway, "plain__look", &arguments)
    }

    fn are_not_seen(user: User) {
        let (signature, key, sibling) = (canary("signature"), canary("key"), canary("sibling"));
        let Some(world) = world(&signature, &key, &sibling).run_by(user) else { return };
        let gateway = world.serve(2);
        let seen = seen(&gateway, &[&signature, &key]);
        assert_eq!(seen["found"], json!([]), "{seen}");
        assert!(seen["processes"].as_u64().unwrap() >= 5, "{seen}");
        for capabilities in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
            assert_eq!(seen["status"][capabilities], "0000000000000000", "{seen}");
        }
        if getuid().is_root() && user == User::Own {
            assert_eq!(seen["status"]["CapBnd"], "0000000000000000", "{seen}");
        }
        assert_eq!(seen["status"]["NoNewPrivs"], "1", "{seen}");
        // What it looks with works: it sees what its sibling was given.
        let others = self::seen(&gateway, &[&sibling]);
        assert!(others["found"].as_array().unwrap().iter().any(|found| found["in"] == "environ"), "{others}");
        gateway.stop();
    }

    #[test]
    fn are_not_seen_by_a_child_of_the_same_user() {
        are_not_seen(User::Own);
    }

    #[test]
    fn are_not_seen_by_a_child_of_an_unprivileged_gateway() {
        are_not_seen(User::Nobody);
    }

    #[test]
    fn are_seen_by_a_child_of_root_that_keeps_its_privileges() {
        let own = std::fs::read_to_string("/proc/self/status").unwrap();
        let effective = own.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        const SYS_PTRACE: u64 = 1 << 19;
        if u64::from_str_radix(effective, 16).unwrap() & SYS_PTRACE == 0 {
            skipped("only a user who may trace can look into a process that hides");
            return;
        }
        let (signature, key) = (canary("signature"), canary("key"));
        let world = world(&signature, &key, "x").configured("[connector.plain]\nprivileges = \"keep\"\n");
        let gateway = world.serve(2);
        let seen = seen(&gateway, &[&key]);
        let of_the_gateway = |place: &str| {
            let found = seen["found"].as_array().unwrap().iter();
            found.filter(|found| found["process"] == gateway.process() && found["in"] == place).count()
        };
        assert!(of_the_gateway("environ") > 0 && of_the_gateway("mem") > 0, "{seen}");
        assert_eq!(seen["status"]["NoNewPrivs"], "0");
        gateway.stop();
    }
}

mod child {
    use super::*;

    #[test]
    fn gets_the_listed_variables_the_configured_ones_and_its_own() {
        let toml = "pass-environment = [\"FOR_ALL\"]\n[connector.plain]\npass-environment = [\"FOR_ONE\"]\n";
        let world = World::new(&[Kind::Plain, Kind::Deaf])
            .configured(toml)
            .with("NODE_EXTRA_CA_CERTS", "/certificates")
            .with("HTTPS_PROXY", "http://user:canary@127.0.0.1:1")
            .with("FOR_ALL", "all")
            .with("FOR_ONE", "one")
            .with("FOR_NONE", "none");
        let gateway = world.serve(2);
        for (tool, for_one) in [("plain__look", json!("one")), ("deaf__look", Value::Null)] {
            let environment = &call(&gateway, tool, &json!({}))["environment"];
            assert_eq!(environment["NODE_EXTRA_CA_CERTS"], "/certificates", "{environment}");
            assert_eq!(environment["HTTPS_PROXY"], "http://127.0.0.1:1");
            assert_eq!((&environment["FOR_ALL"], &environment["FOR_ONE"]), (&json!("all"), &for_one));
            assert_eq!((&environment["FOR_NONE"], &environment["CORTEX_HOME"]), (&Value::Null, &Value::Null));
        }
        gateway.stop();
    }

    #[test]
    fn has_the_original_limit_of_descriptors_no_others_and_a_group_of_its_own() {
        let world = World::new(&[Kind::Plain]);
        let gateway = world.serve(1);
        let seen = call(&gateway, "plain__look", &json!({}));
        let soft = |process: &str| {
            let limits = std::fs::read_to_string(format!("/proc/{process}/limits")).unwrap();
            let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap().to_owned();
            let mut words = line["Max open files".len()..].split_whitespace().map(str::to_owned);
            (words.next().unwrap(), words.next().unwrap())
        };
        let (original, hard) = soft("self");
        assert_eq!(seen["descriptorLimit"], original);
        let raised: u64 = soft(&gateway.process().to_string()).0.parse().unwrap_or(u64::MAX);
        let (original, hard) = (original.parse().unwrap_or(u64::MAX), hard.parse().unwrap_or(u64::MAX));
        assert_eq!(raised, hard.min(65_536).max(original));
        assert_eq!(seen["descriptors"], json!([0, 1, 2]), "{seen}");
        assert_eq!(seen["group"], seen["process"]);
        gateway.stop();
    }

    #[test]
    fn that_cannot_be_started_says_why() {
        let world = World::new(&[Kind::Plain]);
        world.installation.run(&["registry", "add", "missing", "--", "no-such-program-anywhere"]);
        world.installation.run(&["registry", "add", "forbidden", "--", "/"]);
        let gateway = world.serve(1);
        for (id, part) in [("missing", "check the command and PATH"), ("forbidden", "check its permissions")] {
            until(&format!("{id} says {part}"), PATIENCE, || {
                let status = gateway.client().status();
                let one = status["connectors"].as_array()?.iter().find(|one| one["id"] == id)?.clone();
                one["lastFailure"]["message"].as_str()?.contains(part).then_some(())
            });
        }
        gateway.stop();
    }
}
