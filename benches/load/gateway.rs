//! A gateway as a process of its own, and the memory that it takes.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::json;

/// How a gateway is run.
#[derive(Clone, Copy)]
pub(crate) struct Variant<'a> {
    pub(crate) name: &'a str,
    pub(crate) binary: &'a Path,
    /// A library that is loaded before it, such as another allocator.
    pub(crate) preload: Option<&'a str>,
}

/// A running gateway; it is killed when this is dropped.
pub(crate) struct Gateway {
    process: Child,
    pub(crate) address: SocketAddr,
    _home: tempfile::TempDir,
}

impl Gateway {
    /// Starts one in front of so many servers at `upstream`, and waits until it serves them.
    pub(crate) fn start(variant: Variant<'_>, upstream: SocketAddr, servers: usize) -> Self {
        let home = tempfile::tempdir().expect("a temporary folder");
        let mcp = home.path().join("mcp");
        std::fs::create_dir_all(&mcp).expect("a folder");
        let name = |number| if number == 0 { "lean".to_owned() } else { format!("lean{number}") };
        let names: Vec<String> = (0..servers).map(name).collect();
        let entries: Vec<_> = names
            .iter()
            .map(|name| json!({ "name": name, "transport": "http", "endpoint": format!("http://{upstream}/mcp") }))
            .collect();
        std::fs::write(mcp.join("servers.json"), json!({ "servers": entries }).to_string()).expect("a file");
        let tables = names.iter().map(|name| format!("[connector.{name}]\nera = \"legacy\"\ncalls = 256\n"));
        std::fs::write(mcp.join("gateway.toml"), tables.collect::<String>()).expect("a file");
        let mut command = Command::new(variant.binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--json"]);
        command.env_clear().env("CORTEX_HOME", home.path()).env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(variant.preload.map(|library| ("LD_PRELOAD", library)));
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("the gateway starts");
        let mut lines = BufReader::new(process.stdout.take().expect("its output"));
        let mut document = String::new();
        let listen = loop {
            assert!(lines.read_line(&mut document).expect("its output") > 0, "it says where it listens: {document}");
            if let Ok(said) = serde_json::from_str::<serde_json::Value>(&document) {
                break said["listen"].as_str().expect("its address").to_owned();
            }
        };
        let gateway = Self { process, address: listen.parse().expect("an address"), _home: home };
        gateway.wait_for_tools(servers);
        gateway
    }

    /// Its resident memory, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
    }

    /// Whether it answers that it is alive.
    pub(crate) fn is_alive(&self) -> bool {
        self.get("/healthz").is_some_and(|answer| answer.ends_with("ok"))
    }

    fn wait_for_tools(&self, servers: usize) {
        for _ in 0..300 {
            let tools = self.get("/readyz").and_then(|answer| {
                let body = answer.split_once("\r\n\r\n")?.1;
                serde_json::from_str::<serde_json::Value>(body).ok()?["tools"].as_u64()
            });
            if tools == Some(servers as u64) {
                return;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!("the gateway does not serve its tools");
    }

    fn get(&self, path: &str) -> Option<String> {
        use std::io::{Read as _, Write as _};
        let mut stream = std::net::TcpStream::connect(self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // It ends by itself when asked twice; nothing is to be kept.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
