//! The server that the tests start: this test binary, run again.
#![allow(clippy::disallowed_methods, reason = "tests may")]

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Resource, getpgrp, getrlimit, setsid};
use serde_json::{Value, json};

use crate::look;

/// The variable that makes a server of this test binary.
const KIND: &str = "TEST_SERVER_KIND";

/// How long a process lives that nothing ends: longer than any test waits.
const LIFE: Duration = Duration::from_secs(300);

/// What a server does besides answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It ends with its input.
    Plain,
    /// The same, with something in its environment that others may see.
    Sibling,
    /// It ignores the end of its input, and SIGTERM.
    Deaf,
    /// It starts a process that is nobody's child any more.
    ForksTwice,
    /// It starts a process like that, in a session of its own, which ignores SIGTERM.
    OwnSession,
    /// It reads nothing any more, once it has listed its tool.
    Unread,
    /// What the two before start.
    Sleeper,
}

impl Kind {
    const ALL: [Self; 7] =
        [Self::Plain, Self::Sibling, Self::Deaf, Self::ForksTwice, Self::OwnSession, Self::Unread, Self::Sleeper];

    fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Sibling => "sibling",
            Self::Deaf => "deaf",
            Self::ForksTwice => "forks-twice",
            Self::OwnSession => "own-session",
            Self::Unread => "unread",
            Self::Sleeper => "sleeper",
        }
    }

    /// Its entry in the registry. Everything that it starts has the marker in its environment.
    pub(crate) fn entry(self, program: &Path, marker: &str) -> Value {
        let test = ["--exact", "child_process_entry", "--nocapture"];
        let mut environment = json!({ KIND: self.name(), "TEST_MARKER": marker });
        if self == Self::Sibling {
            environment["FOR_THE_SIBLING"] = "PLACEHOLDER".into();
        }
        let program = program.display().to_string();
        let (command, arguments) = match self {
            // What is ignored stays ignored over `exec`.
            Self::Deaf => ("sh".to_owned(), [&["-c", "trap '' TERM; exec \"$@\"", "sh", &program], &test[..]].concat()),
            _ => (program.clone(), test.to_vec()),
        };
        json!({
            "name": self.name(), "transport": "stdio", "command": command, "args": arguments, "env": environment,
        })
    }
}

/// Serves, if this process is to be a server.
pub(crate) fn run_if_asked() {
    let Ok(name) = std::env::var(KIND) else { return };
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap();
    match kind {
        Kind::Sleeper => {
            // One that leads its group already has asked for it before.
            let _ = setsid();
            std::thread::sleep(LIFE);
        }
        Kind::ForksTwice => start_orphan("exec sleep 300"),
        Kind::OwnSession => start_orphan("trap '' TERM; TEST_SERVER_KIND=sleeper exec \"$0\" \"$@\""),
        _ => {}
    }
    serve(kind);
    if kind == Kind::Deaf {
        std::thread::sleep(LIFE);
    }
    std::process::exit(0);
}

/// Starts a process whose parent ends at once.
fn start_orphan(script: &str) {
    let mut shell = Command::new("sh");
    shell
        .args(["-c", &format!("({script}) > /dev/null 2>&1 < /dev/null & exit 0")])
        .arg(std::env::current_exe().unwrap());
    shell.args(["--exact", "child_process_entry", "--nocapture"]);
    assert!(shell.stdin(Stdio::null()).status().unwrap().success());
}

fn serve(kind: Kind) {
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).unwrap();
        let Some(id) = message.get("id") else { continue };
        let method = message["method"].as_str().unwrap();
        let mut reply = match method {
            "initialize" => json!({ "result": {
                "protocolVersion": "2025-11-25", "capabilities": { "tools": {} },
                "serverInfo": { "name": "child", "version": "1" },
            }}),
            "tools/list" => json!({ "result": { "tools": [{ "name": "look", "inputSchema": { "type": "object" } }] }}),
            "tools/call" => {
                let seen = seen(&message["params"]["arguments"]);
                json!({ "result": { "content": [], "structuredContent": seen }})
            }
            _ => json!({ "error": { "code": -32601, "message": "no such method" } }),
        };
        (reply["jsonrpc"], reply["id"]) = ("2.0".into(), id.clone());
        writeln!(output, "{reply}").unwrap();
        output.flush().unwrap();
        if kind == Kind::Unread && method == "tools/list" {
            std::thread::sleep(LIFE);
        }
    }
}

/// What the server sees of itself, and of what it is asked to look for.
fn seen(arguments: &Value) -> Value {
    let mut descriptors = look::descriptors(std::process::id());
    // One is the listing itself.
    descriptors.retain(|number| std::fs::read_link(format!("/proc/self/fd/{number}")).is_ok());
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let status: BTreeMap<String, String> = std::fs::read_to_string("/proc/self/status")
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, value)| (name.to_owned(), value.trim().to_owned())))
        .collect();
    let limit = getrlimit(Resource::Nofile).current;
    let mut seen = json!({
        "process": std::process::id(),
        "parent": std::os::unix::process::parent_id(),
        "group": getpgrp().as_raw_nonzero().get(),
        "environment": environment,
        "status": status,
        "descriptors": descriptors,
        "descriptorLimit": limit.map_or("unlimited".to_owned(), |limit| limit.to_string()),
    });
    if let Some(backwards) = arguments["backwards"].as_array() {
        let backwards: Vec<&str> = backwards.iter().map(|text| text.as_str().unwrap()).collect();
        let number = |name: &str| u32::try_from(arguments[name].as_u64().unwrap()).unwrap();
        let (found, processes) = look::for_texts(&backwards, number("gateway"), number("test"));
        (seen["found"], seen["processes"]) = (found.into(), processes.into());
    }
    seen
}
