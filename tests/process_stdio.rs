//! `cortex-mcp serve --stdio` as a process: messages on stdout and nothing else, the end with its client, signals, and two of
//! them over one home.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests may")]

mod processes;

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};
use std::time::Duration;

use processes::{Installation, PATIENCE, World, until};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

const INITIALIZE: &str = r#""protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"t","version":"1"}"#;

/// A gateway and the pipes to it.
struct Piped {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Piped {
    fn start(installation: &Installation, flags: &[&str]) -> Self {
        let mut command = installation.command(&[&["serve", "--stdio"], flags].concat());
        let mut child = command.stdin(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn ask(&mut self, method: &str, params: &str) -> Value {
        let message = format!("{{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"{method}\",\"params\":{{{params}}}}}\n");
        self.input.as_mut().unwrap().write_all(message.as_bytes()).unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.output.read_line(&mut line).unwrap(), 0, "it ended");
            let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"));
            if message["id"] == 1 {
                return message;
            }
            assert!(message["method"].as_str().unwrap().ends_with("list_changed"), "{line}");
        }
    }

    /// Its exit code, and what else it printed.
    fn end(mut self) -> (Option<i32>, String) {
        drop(self.input.take());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).unwrap();
        let child = &mut self.child;
        let ended = until("it ends", PATIENCE, || child.try_wait().unwrap());
        (ended.code(), rest)
    }
}

impl Drop for Piped {
    fn drop(&mut self) {
        // It has ended already, unless its test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_client_that_starts_its_gateway_is_served_until_it_goes() {
    let world = World::new(2);
    let installation = world.installation();
    let mut piped = Piped::start(&installation, &[]);
    assert_eq!(piped.ask("initialize", INITIALIZE)["result"]["serverInfo"]["name"], "cortex-mcp");
    until("every tool is there", PATIENCE, || {
        (piped.ask("tools/list", "")["result"]["tools"].as_array().unwrap().len() == 6).then_some(())
    });
    let answer = piped.ask("tools/call", r#""name":"server-01__add","arguments":{"a":40,"b":2}"#);
    assert_eq!(answer["result"]["structuredContent"], json!({"sum": 42}), "{answer}");
    assert_eq!(piped.end(), (Some(0), String::new()));
}

#[test]
fn a_gateway_on_pipes_ends_on_sigterm_although_its_client_says_nothing() {
    let installation = World::new(1).installation();
    let mut piped = Piped::start(&installation, &[]);
    piped.ask("initialize", INITIALIZE);
    kill_process(Pid::from_child(&piped.child), Signal::TERM).unwrap();
    let child = &mut piped.child;
    let ended = until("it ends", PATIENCE, || child.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
}

#[test]
fn several_gateways_on_pipes_share_one_home_and_a_socket_is_open_only_if_asked_for() {
    let world = World::new(2);
    let installation = world.installation();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut piped: Vec<Piped> = vec![
        Piped::start(&installation, &[]),
        Piped::start(&installation, &["--listen", &port.to_string()]),
        Piped::start(&installation, &[]),
    ];
    for one in &mut piped {
        one.ask("initialize", INITIALIZE);
        until("every tool is there", PATIENCE, || {
            (one.ask("tools/list", "")["result"]["tools"].as_array().unwrap().len() == 6).then_some(())
        });
    }
    let mut socket = std::net::TcpStream::connect_timeout(&port, Duration::from_secs(5)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    for one in piped {
        assert_eq!(one.end(), (Some(0), String::new()));
    }
}
