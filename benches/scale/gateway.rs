//! The gateway as a process, its home, and what it costs.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// How long a gateway has time for what it was asked to do.
const TIME_LIMIT: Duration = Duration::from_secs(120);

/// How long it does nothing before what it did is counted: longer than what is batched waits.
const SETTLE: Duration = Duration::from_millis(1_500);

/// Where a gateway keeps what it knows.
pub(crate) struct Home(tempfile::TempDir);

impl Home {
    /// One whose registry names these endpoints, as `s0`, `s1` and so on.
    pub(crate) fn new(endpoints: impl Iterator<Item = String>) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir_all(home.path().join("mcp")).expect("a folder");
        let entry =
            |(number, endpoint)| json!({ "name": format!("s{number}"), "transport": "http", "endpoint": endpoint });
        let entries: Vec<Value> = endpoints.enumerate().map(entry).collect();
        let document = json!({ "servers": entries }).to_string();
        std::fs::write(home.path().join("mcp/servers.json"), document).expect("a file");
        Self(home)
    }

    pub(crate) fn trace_bytes(&self) -> u64 {
        self.segments().values().sum()
    }

    /// The size of each segment of the decision record, compressed or not, by its name without that.
    pub(crate) fn segments(&self) -> BTreeMap<String, u64> {
        let files = files(&self.0.path().join("mcp/trace")).into_iter();
        let segments = files.filter_map(|file| {
            let name = file.file_name()?.to_str()?.strip_prefix("trace-")?.to_owned();
            Some((name.trim_end_matches(".gz").to_owned(), file.metadata().ok()?.len()))
        });
        segments.collect()
    }

    /// How long it takes to read everything that a restart reads.
    pub(crate) fn read_state(&self) -> Duration {
        let mcp = self.0.path().join("mcp");
        let started = Instant::now();
        let mut bytes = std::fs::read(mcp.join("servers.json")).expect("the registry").len();
        for file in files(&mcp.join("state")) {
            bytes += std::fs::read(file).expect("a file of the state").len();
        }
        assert!(bytes > 0);
        started.elapsed()
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect()
}

/// A running gateway; it is killed when this is dropped.
pub(crate) struct Gateway {
    process: Child,
    address: SocketAddr,
    started: Instant,
}

impl Gateway {
    /// Starts one on a port that is free, and returns before it serves anything.
    pub(crate) fn start(home: &Home) -> Self {
        // Nothing else takes the port between the two: connections are made to it alone.
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut command = Command::new(env!("CARGO_BIN_EXE_cortex-mcp"));
        command.args(["serve", "--listen", &address.to_string()]);
        command.env_clear().env("CORTEX_HOME", home.0.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        let started = Instant::now();
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn();
        Self { process: process.expect("the gateway starts"), address, started }
    }

    /// The CPU time that the process has taken.
    pub(crate) fn cpu(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id())).expect("it runs");
        let fields: Vec<&str> = stat.rsplit_once(')').expect("its name").1.split_whitespace().collect();
        let ticks = |field: usize| fields[field].parse::<u64>().expect("a number");
        // In hundredths of a second: USER_HZ is 100 on every architecture that Linux runs on today.
        Duration::from_millis((ticks(11) + ticks(12)) * 10)
    }

    /// The CPU time of the threads that it has now, in finer units than [`Self::cpu`].
    pub(crate) fn cpu_of_threads(&self) -> Duration {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.process.id())).expect("it runs");
        let nanoseconds = tasks.filter_map(Result::ok).filter_map(|task| {
            // A thread may have ended since.
            let times = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
            times.split_whitespace().next()?.parse::<u64>().ok()
        });
        Duration::from_nanos(nanoseconds.sum())
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Waits until so many tools are served.
    pub(crate) fn wait_for_tools(&self, tools: usize) {
        while self.ready_tools() != Some(tools as u64) {
            assert!(self.started.elapsed() < TIME_LIMIT, "it serves its tools: {:?} of {tools}", self.ready_tools());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits until it has had nothing to do for a while.
    pub(crate) fn settle(&self) {
        loop {
            let before = self.cpu();
            std::thread::sleep(SETTLE);
            if self.cpu() - before <= Duration::from_millis(20) {
                return;
            }
        }
    }

    /// Reads the whole list, page by page, until it holds so many tools; returns the time since the start.
    pub(crate) fn wait_for_full_list(&self, tools: usize) -> Duration {
        loop {
            if self.list() == Some(tools) {
                return self.started.elapsed();
            }
            assert!(self.started.elapsed() < TIME_LIMIT, "it lists {tools} tools: {:?}", self.list());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn list(&self) -> Option<usize> {
        let (mut listed, mut cursor) = (0, None::<String>);
        loop {
            let params = cursor.map_or_else(|| json!({}), |cursor| json!({ "cursor": cursor }));
            let answer = self.ask("tools/list", &params)?;
            listed += answer["result"]["tools"].as_array()?.len();
            cursor = answer["result"]["nextCursor"].as_str().map(str::to_owned);
            if cursor.is_none() {
                return Some(listed);
            }
        }
    }

    pub(crate) fn call(&self, tool: &str) {
        self.ask("tools/call", &json!({ "name": tool, "arguments": {} })).expect("an answer");
    }

    fn ask(&self, method: &str, params: &Value) -> Option<Value> {
        let body = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params }).to_string();
        let head = format!(
            "POST /mcp HTTP/1.1\r\ncontent-type: application/json\r\naccept: application/json, text/event-stream\r\n\
             mcp-protocol-version: 2025-06-18\r\ncontent-length: {}\r\n",
            body.len()
        );
        serde_json::from_str(&self.exchange(&head, &body)?).ok()
    }

    fn ready_tools(&self) -> Option<u64> {
        serde_json::from_str::<Value>(&self.get("/readyz")?).ok()?["tools"].as_u64()
    }

    /// The body of an answer to a GET.
    pub(crate) fn get(&self, path: &str) -> Option<String> {
        self.exchange(&format!("GET {path} HTTP/1.1\r\n"), "")
    }

    fn exchange(&self, head: &str, body: &str) -> Option<String> {
        let mut stream = TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        write!(stream, "{head}host: localhost\r\nconnection: close\r\n\r\n{body}").ok()?;
        let mut reader = BufReader::new(stream);
        let mut length = None;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            if line.trim().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').unwrap_or_default();
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().ok();
            }
        }
        let mut answer = vec![0; length?];
        reader.read_exact(&mut answer).ok()?;
        String::from_utf8(answer).ok()
    }

    /// How long ago it was started.
    pub(crate) fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Ends it, as an operator does.
    pub(crate) fn end(mut self) {
        let id = rustix::process::Pid::from_child(&self.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("it runs");
        self.process.wait().expect("it ends");
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
