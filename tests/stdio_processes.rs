//! Several `cortex-mcp serve --stdio` processes of one installation: all serve, one writes the state and the others
//! follow, and each ends with its client.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod processes;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};

use processes::{Installation, PATIENCE, World, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

/// What a modern client writes into `_meta`.
fn meta() -> Value {
    json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientCapabilities": {},
        "io.modelcontextprotocol/clientInfo": {"name": "test", "version": "1"}
    })
}

/// Which era a client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Era {
    Legacy,
    Modern,
}

/// A process, and the client whose pipes it has.
struct Gateway {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    log: Arc<Mutex<Vec<u8>>>,
    era: Era,
    said: Vec<Value>,
    next: u64,
}

impl Gateway {
    fn start(installation: &Installation, era: Era) -> Self {
        // The usual folder, named so that the process can be found by its arguments: its environment is hidden.
        let trace = installation.folder().join("home/mcp/trace").display().to_string();
        let mut command = installation.command(&["serve", "--stdio", "--trace", &trace]);
        let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
        let (sender, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let log = Arc::new(Mutex::new(Vec::new()));
        let (mut stderr, shared) = (child.stderr.take().unwrap(), log.clone());
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stderr.read(&mut bytes) {
                shared.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines, log, era, said: Vec::new(), next: 0 }
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    fn logged(&self) -> String {
        String::from_utf8_lossy(&self.log.lock().unwrap()).into_owned()
    }

    fn write(&mut self, message: &Value) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(format!("{message}\n").as_bytes()).unwrap();
        input.flush().unwrap();
    }

    /// The next line; every line is a message of the protocol.
    #[track_caller]
    fn line(&mut self) -> Value {
        let line = self.lines.recv_timeout(PATIENCE);
        let line = line.unwrap_or_else(|error| panic!("{} says nothing: {error}; {}", self.pid(), self.logged()));
        self.note(&line)
    }

    #[track_caller]
    fn note(&mut self, line: &str) -> Value {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line:?}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        self.said.push(message.clone());
        message
    }

    /// Asks and waits for the answer; notifications before it are passed over.
    #[track_caller]
    fn ask(&mut self, method: &str, mut params: Value) -> Value {
        self.next += 1;
        let id = self.next;
        if self.era == Era::Modern {
            params["_meta"] = meta();
        }
        self.write(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        loop {
            let message = self.line();
            if message.get("method").is_none() {
                assert_eq!(message["id"], id, "{message}");
                return message;
            }
            assert!(message.get("id").is_none(), "nobody may be asked anything: {message}");
        }
    }

    /// Opens the conversation, in the client's era.
    #[track_caller]
    fn open(&mut self) {
        match self.era {
            Era::Legacy => {
                let client = json!({"name": "test", "version": "1"});
                let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
                let answer = self.ask("initialize", params);
                assert_eq!(answer["result"]["protocolVersion"], "2025-11-25", "{answer}");
                self.write(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
            }
            Era::Modern => {
                let answer = self.ask("server/discover", json!({}));
                let versions = answer["result"]["supportedVersions"].as_array().unwrap();
                assert!(versions.contains(&json!("2026-07-28")), "{answer}");
            }
        }
    }

    #[track_caller]
    fn tools(&mut self) -> Vec<String> {
        let answer = self.ask("tools/list", json!({}));
        let tools = answer["result"]["tools"].as_array().unwrap_or_else(|| panic!("{answer}"));
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    #[track_caller]
    fn wait_for_tools(&mut self, count: usize) -> Vec<String> {
        until(&format!("{count} tools are served by {}", self.pid()), PATIENCE, || {
            Some(self.tools()).filter(|tools| tools.len() == count)
        })
    }

    #[track_caller]
    fn adds(&mut self, tool: &str) {
        let answer = self.ask("tools/call", json!({"name": tool, "arguments": {"a": 40, "b": 2}}));
        assert_eq!(answer["result"]["structuredContent"], json!({"sum": 42}), "{answer}");
    }

    /// Waits for its end, and for the last of its lines.
    #[track_caller]
    fn ended(mut self) -> (ExitStatus, Vec<Value>) {
        let what = format!("process {} ends", self.pid());
        let status = until(&what, PATIENCE, || self.child.try_wait().unwrap());
        // The channel closes with the pipe.
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.note(&line);
        }
        (status, std::mem::take(&mut self.said))
    }

    /// Ends its input, as a client does that goes.
    #[track_caller]
    fn leave(mut self) -> (ExitStatus, Vec<Value>) {
        drop(self.input.take());
        self.ended()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The processes of an installation that live.
fn alive(installation: &Installation) -> BTreeSet<u32> {
    let wanted = installation.folder().join("home/mcp/trace").display().to_string();
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        arguments.split(|byte| *byte == 0).any(|argument| argument == wanted.as_bytes()).then_some(pid)
    });
    processes.collect()
}

/// Who holds the lock of a file, as the kernel tells it.
fn holder(lock: &Path) -> Option<u32> {
    let inode = std::fs::metadata(lock).ok()?.ino();
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    // `1: FLOCK  ADVISORY  WRITE 1234 08:01:5678 0 EOF`; those who wait have `->` in the second place.
    locks.lines().find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let of: u64 = words.get(5)?.rsplit(':').next()?.parse().ok()?;
        (words[1] == "FLOCK" && of == inode).then(|| words[4].parse().unwrap())
    })
}

fn writer(installation: &Installation) -> Option<u32> {
    holder(&installation.state().join("state.lock"))
}

#[test]
fn processes_with_one_home_all_serve_and_one_writes_until_it_is_killed() {
    let mut world = World::new(3);
    let installation = world.installation();
    let eras = [Era::Legacy, Era::Modern, Era::Legacy, Era::Modern];
    let mut gateways: Vec<_> = eras.into_iter().map(|era| Gateway::start(&installation, era)).collect();
    let mut lists = BTreeSet::new();
    for gateway in &mut gateways {
        gateway.open();
        lists.insert(gateway.wait_for_tools(9));
        gateway.adds("server-01__add");
        gateway.adds("server-02__add");
    }
    assert_eq!(lists.len(), 1, "all list the same");
    assert_eq!(alive(&installation).len(), 4);

    let first = until("somebody writes", PATIENCE, || writer(&installation));
    assert!(gateways.iter().any(|gateway| gateway.pid() == first), "{first} is none of ours");
    let kept = ["server-01", "server-02", "server-03", "service-map"];
    until("the state is written", PATIENCE, || {
        let names = installation.kept();
        kept.iter().all(|kept| names.iter().any(|name| name.contains(kept))).then_some(())
    });

    // The writer is killed without a word: another one of them writes, and all that are left go on serving.
    let place = gateways.iter().position(|gateway| gateway.pid() == first).unwrap();
    let mut killed = gateways.remove(place);
    killed.child.kill().unwrap();
    let (status, _) = killed.ended();
    assert_eq!(status.code(), None);
    let second = until("another one writes", PATIENCE, || writer(&installation).filter(|pid| *pid != first));
    let successor = gateways.iter().position(|gateway| gateway.pid() == second).expect("one of those that are left");
    until("it says so", PATIENCE, || {
        gateways[successor].logged().contains("this process writes from now on").then_some(())
    });
    for gateway in &mut gateways {
        gateway.wait_for_tools(9);
        gateway.adds("server-03__add");
    }
    let others: usize = gateways.iter().filter(|gateway| gateway.logged().contains("writes from now on")).count();
    assert_eq!(others, 1, "the others follow");

    // Each ends when its client goes, and only then.
    while let Some(gateway) = gateways.pop() {
        let pid = gateway.pid();
        let (status, said) = gateway.leave();
        assert_eq!(status.code(), Some(0), "{pid}");
        assert!(said.len() >= 5, "{said:?}");
        assert!(!alive(&installation).contains(&pid));
        for gateway in &mut gateways {
            gateway.adds("server-01__add");
        }
    }
    assert_eq!(alive(&installation), BTreeSet::new(), "no process is left");

    // What they wrote together is whole: the next one serves it while nobody can be reached.
    world.stop();
    let mut next = Gateway::start(&installation, Era::Modern);
    next.open();
    assert_eq!(next.tools(), *lists.first().unwrap());
    assert_eq!(next.leave().0.code(), Some(0));
}

#[test]
fn a_process_ends_with_its_input_however_many_start_at_once() {
    let world = World::new(2);
    let installation = world.installation();
    // Some clients go before anything was said, some in the middle of a line, some with a call that is not answered yet.
    let mut gateways: Vec<_> = (0..6).map(|_| Gateway::start(&installation, Era::Legacy)).collect();
    for (number, gateway) in gateways.iter_mut().enumerate() {
        match number % 3 {
            0 => {}
            1 => gateway.input.as_mut().unwrap().write_all(b"{\"jsonrpc\":\"2.0\",\"id\":1,\"meth").unwrap(),
            _ => {
                gateway.open();
                gateway.wait_for_tools(6);
                let params = json!({"name": "server-01__echo", "arguments": {}});
                gateway.write(&json!({"jsonrpc": "2.0", "id": 99, "method": "tools/call", "params": params}));
            }
        }
    }
    for gateway in gateways {
        let pid = gateway.pid();
        let log = gateway.log.clone();
        let (status, _) = gateway.leave();
        assert_eq!(status.code(), Some(0), "{pid}: {}", String::from_utf8_lossy(&log.lock().unwrap()));
    }
    assert_eq!(alive(&installation), BTreeSet::new());
}

#[test]
fn sigterm_ends_a_process_whose_client_stays() {
    let world = World::new(1);
    let installation = world.installation();
    let mut gateway = Gateway::start(&installation, Era::Modern);
    gateway.open();
    gateway.wait_for_tools(3);
    kill_process(Pid::from_child(&gateway.child), Signal::TERM).unwrap();
    let (status, _) = gateway.ended();
    assert_eq!(status.code(), Some(0));
    assert_eq!(alive(&installation), BTreeSet::new());
}

#[test]
fn nonsense_on_a_line_is_answered_with_an_error_and_ends_nothing() {
    let world = World::new(1);
    let installation = world.installation();
    let mut gateway = Gateway::start(&installation, Era::Legacy);
    gateway.open();
    for (line, code) in [("nonsense", -32700), ("{\"jsonrpc\":\"2.0\",\"id\":{}}", -32600), ("[]", -32600)] {
        gateway.input.as_mut().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
        assert_eq!(gateway.line()["error"]["code"], code, "{line}");
    }
    // Empty lines are nothing at all.
    gateway.input.as_mut().unwrap().write_all(b"\n\r\n").unwrap();
    gateway.wait_for_tools(3);
    gateway.adds("server-01__add");
    assert_eq!(gateway.leave().0.code(), Some(0));
}
