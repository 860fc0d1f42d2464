//! Servers on standard input and output: scripted ones in memory, and a real one that is this test binary, run again.
#![allow(clippy::disallowed_methods, reason = "tests may")]

use std::collections::BTreeMap;
use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cortex_mcp::edge::process::Exit;
use cortex_mcp::edge::virtual_processes::VirtualChild;
use cortex_mcp::model::CommandLine;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::sync::watch;

/// What a scripted server does when a tool of it is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OnCall {
    Answers,
    Dies,
    /// Answers after so many seconds.
    Works(u64),
}

/// A scripted server: legacy, with as many tools as it is told to have.
#[derive(Clone)]
pub(crate) struct Script {
    pub(crate) tools: watch::Sender<usize>,
    pub(crate) on_call: watch::Sender<OnCall>,
    /// How many lists it gives before it ends by itself.
    pub(crate) lists: usize,
    pub(crate) calls: Arc<AtomicUsize>,
}

impl Script {
    pub(crate) fn new(tools: usize) -> Self {
        let (tools, on_call) = (watch::Sender::new(tools), watch::Sender::new(OnCall::Answers));
        Self { tools, on_call, lists: usize::MAX, calls: Arc::default() }
    }

    pub(crate) async fn run(self, child: VirtualChild) -> Exit {
        let VirtualChild { input, mut output, errors: _errors, .. } = child;
        let (mut lines, mut tools, mut lists) = (BufReader::new(input).lines(), self.tools.subscribe(), 0);
        loop {
            let reply = tokio::select! {
                Ok(()) = tools.changed() => json!({ "method": "notifications/tools/list_changed" }),
                line = lines.next_line() => {
                    let Ok(Some(line)) = line else { return Exit::Code(0) };
                    let message: Value = serde_json::from_str(&line).unwrap();
                    let count = *tools.borrow_and_update();
                    match message["method"].as_str() {
                        Some("tools/call") => {
                            self.calls.fetch_add(1, Ordering::SeqCst);
                            let on_call = *self.on_call.borrow();
                            match on_call {
                                OnCall::Answers => {}
                                OnCall::Dies => return Exit::Signal(11),
                                OnCall::Works(seconds) => {
                                    tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
                                }
                            }
                        }
                        Some("tools/list") => {
                            lists += 1;
                            if lists > self.lists {
                                return Exit::Code(1);
                            }
                        }
                        _ => {}
                    }
                    match answer(&message, count) {
                        Some(answer) => answer,
                        None => continue,
                    }
                }
            };
            if output.write_all(line_of(reply).as_bytes()).await.is_err() {
                return Exit::Code(0);
            }
            if lists >= self.lists {
                // It lives as long as its answer takes to be read.
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                return Exit::Code(1);
            }
        }
    }
}

/// What a legacy server answers; none where no answer is wanted.
fn answer(message: &Value, tools: usize) -> Option<Value> {
    let id = message.get("id")?;
    let result = match message["method"].as_str()? {
        "initialize" => json!({
            "protocolVersion": "2024-11-05", "capabilities": { "tools": { "listChanged": true } },
            "serverInfo": { "name": "child", "version": "1" },
        }),
        "tools/list" => {
            let tool = |number: usize| json!({ "name": format!("t{number}"), "inputSchema": { "type": "object" } });
            json!({ "tools": (1..=tools).map(tool).collect::<Vec<_>>() })
        }
        "tools/call" => {
            let meta = json!({ "type": "text", "text": message["params"]["_meta"].to_string() });
            json!({ "content": [meta], "structuredContent": message["params"]["arguments"] })
        }
        "ping" => json!({}),
        _ => return Some(json!({ "id": id, "error": { "code": -32601, "message": "no" } })),
    };
    Some(json!({ "id": id, "result": result }))
}

fn line_of(mut message: Value) -> String {
    message["jsonrpc"] = "2.0".into();
    format!("{message}\n")
}

/// The variable that makes a server of this test binary.
const BEHAVIOUR: &str = "CORTEX_STDIO_SERVER";

/// What the real server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// It ends when its input does.
    Good,
    /// It starts a grandchild, and ends when its input does. The grandchild does not.
    Parent,
    /// It goes on when its input ends.
    Deaf,
}

impl Behaviour {
    const ALL: [Self; 3] = [Self::Good, Self::Parent, Self::Deaf];

    fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Parent => "parent",
            Self::Deaf => "deaf",
        }
    }

    /// How it is started.
    pub(crate) fn command(self) -> CommandLine {
        let own = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let arguments = ["--exact", "child_process_entry", "--nocapture"].map(str::to_owned).to_vec();
        let environment = BTreeMap::from([(BEHAVIOUR.to_owned(), self.name().to_owned())]);
        CommandLine { program: own, arguments, environment }
    }

    /// The same, started by a shell so that it never hears of SIGTERM.
    pub(crate) fn behind_a_trap(self) -> CommandLine {
        let CommandLine { program, arguments, environment } = self.command();
        // What is ignored stays ignored over `exec`.
        let mut all = ["-c", r#"trap "" TERM; exec "$@""#, "sh"].map(str::to_owned).to_vec();
        all.push(program);
        all.extend(arguments);
        CommandLine { program: "sh".to_owned(), arguments: all, environment }
    }
}

/// What the test `child_process_entry` does: serves, if it is to.
pub(crate) fn obey() {
    let Ok(name) = std::env::var(BEHAVIOUR) else { return };
    let behaviour = Behaviour::ALL.into_iter().find(|behaviour| behaviour.name() == name).unwrap();
    serve(behaviour);
    std::process::exit(0);
}

/// A real server. Its one tool tells what it sees: its process, its grandchild, the names in its environment.
fn serve(behaviour: Behaviour) {
    let grandchild = (behaviour == Behaviour::Parent).then(|| {
        // It ends by itself, should nobody end it.
        std::process::Command::new("sleep").arg("300").spawn().unwrap()
    });
    let mut errors = std::io::stderr();
    writeln!(errors, "a complaint with \x1b[31mcolour\x07").unwrap();
    for number in 0..200 {
        writeln!(errors, "flood {number}").unwrap();
    }
    let mut output = std::io::stdout();
    writeln!(output, "Welcome! This is no message.").unwrap();
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let message: Value = serde_json::from_str(&line).unwrap();
        let Some(mut reply) = answer(&message, 1) else { continue };
        if message["method"] == "tools/call" {
            let names: Vec<String> = std::env::vars().map(|(name, _)| name).collect();
            reply["result"]["structuredContent"] = json!({
                "process": std::process::id(),
                "grandchild": grandchild.as_ref().map(std::process::Child::id),
                "environment": names,
            });
            if message["params"]["arguments"]["die"] == true {
                std::process::abort();
            }
        }
        output.write_all(line_of(reply).as_bytes()).unwrap();
        output.flush().unwrap();
    }
    if behaviour == Behaviour::Deaf {
        // It ends by itself, should nobody end it.
        std::thread::sleep(std::time::Duration::from_secs(300));
    }
}

/// Who is left of a process group: the living, and the dead that this process should have waited for. A dead grandchild
/// is the system's to wait for.
pub(crate) fn members(group: u32) -> Vec<u32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name in brackets may hold anything; after it come state, parent and group.
        let mut after = stat.rsplit_once(") ")?.1.split(' ');
        let (state, parent, of) = (after.next()?, after.next()?, after.next()?);
        let is_ours = parent == std::process::id().to_string();
        (of == group.to_string() && (state != "Z" || is_ours)).then_some(process)
    });
    processes.collect()
}
