//! What the real binary writes to a terminal: of every character that a server, a file or an argument sends, nothing acts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;
#[path = "terminal/server.rs"]
mod server;
#[path = "terminal/tty.rs"]
mod tty;

use std::process::{Command, Stdio};

use cortex_mcp::model::style::{RESET, Style};
use cortex_mcp::model::text::is_hidden;
use processes::{Client, Installation, PATIENCE, until};
use serde_json::{Value, json};
use server::{Server, every_character, hostile};
use tty::Terminal;

/// Asserts that nothing in the bytes acts on a terminal but line feeds, tabs and, if they may be there, the listed styles.
#[track_caller]
fn assert_harmless(what: &str, bytes: &[u8], may_be_styled: bool) {
    let mut text = String::from_utf8(bytes.to_vec()).unwrap();
    if may_be_styled {
        for sequence in Style::ALL.iter().map(|style| style.sequence()).chain([RESET]) {
            text = text.replace(sequence, "");
        }
    }
    let acts = text.char_indices().find(|(_, one)| is_hidden(*one) && !matches!(one, '\n' | '\t'));
    let Some((at, character)) = acts else { return };
    let before: String = text[..at].chars().rev().take(100).collect::<Vec<_>>().into_iter().rev().collect();
    panic!("{what}: {character:?} after {before:?}");
}

/// Runs a command with its standard output on a terminal, and its standard error in a pipe.
fn on_terminal(mut command: Command) -> (Vec<u8>, Vec<u8>) {
    let (terminal, end) = Terminal::open();
    let child = command.stdout(end).stderr(Stdio::piped()).spawn().unwrap();
    drop(command);
    let written = std::thread::spawn(move || terminal.read());
    let errors = child.wait_with_output().unwrap().stderr;
    (written.join().unwrap(), errors)
}

/// A home with three servers: one that answers with hostile text, one that refuses with it, and a process that complains with it.
fn installation(server: &Server, log_format: &str) -> Installation {
    let installation = Installation::new();
    installation.file(
        "home/mcp/gateway.toml",
        format!(
            "log-format = \"{log_format}\"\n[connector.term]\nera = \"legacy\"\n[connector.bad]\nera = \"legacy\"\n"
        ),
    );
    let entry = |name: &str| {
        json!({ "name": name, "transport": "http", "endpoint": format!("http://{}/{name}", server.address()),
                "description": hostile(), "note": { hostile(): ('\0'..='\u{3000}').collect::<String>() } })
    };
    // What is in a command's arguments or its environment would be masked.
    let noise = installation.file("noise", hostile());
    let arguments = ["-c".to_owned(), format!("cat {noise} >&2")];
    let noisy = json!({ "name": "noisy", "transport": "stdio", "command": "/bin/sh", "args": arguments });
    installation.file("home/mcp/servers.json", json!({ "servers": [entry("term"), entry("bad"), noisy] }).to_string());
    installation
}

#[test]
fn no_character_of_a_server_a_file_or_an_argument_acts_on_a_terminal() {
    let server = Server::start();
    let installation = installation(&server, "pretty");
    let (terminal, end) = Terminal::open();
    let mut command = installation.command(&["serve", "--json", "--listen", "127.0.0.1:0"]);
    let mut gateway = tty::Killed(command.stderr(end).spawn().unwrap());
    drop(command);
    let log = std::thread::spawn(move || terminal.read());
    let mut first = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(gateway.0.stdout.take().unwrap()), &mut first).unwrap();
    let url = serde_json::from_str::<Value>(&first).unwrap()["url"].as_str().unwrap().to_owned();
    let client = Client::new(&url);
    until("all servers were asked", PATIENCE, || {
        let status = client.status();
        let connectors = status["connectors"].as_array().unwrap().clone();
        let is_known = |one: &Value| one["contact"] == "up" || one["lastFailure"] != Value::Null;
        (connectors.len() == 3 && connectors.iter().all(is_known)).then_some(())
    });

    let hostile = hostile();
    let at = ["--url", url.as_str()];
    let liar = format!("http://{}", server.address());
    let commands: [&[&str]; 12] = [
        &["tools", at[0], at[1]],
        &["tools", "--kind", "resources", at[0], at[1]],
        &["status", at[0], at[1]],
        &["status", at[0], &liar],
        &["call", "term__say", at[0], at[1]],
        &["why", "noisy", at[0], at[1]],
        &["registry", "get", "term"],
        &["registry", "list"],
        &["registry", "export"],
        &["registry", "doctor"],
        &["registry", "journal", "dump"],
        &["replay"],
    ];
    let (styled, plain) = (commands.iter(), [0, 2, 4, 5, 6, 7].map(|at: usize| commands[at]));
    // All at once: most of the time of each is its start.
    std::thread::scope(|scope| {
        let installation = &installation;
        for arguments in styled {
            scope.spawn(|| assert_harmless_on_terminal(installation, arguments, false));
        }
        for arguments in plain {
            scope.spawn(move || assert_harmless_on_terminal(installation, arguments, true));
        }
    });
    assert_harmless("help", &on_terminal(installation.command(&["call", "--help"])).0, true);
    // Mistakes quote arguments; here standard error is the terminal.
    for arguments in
        [&["tools", "--kind", &hostile][..], &[&hostile], &["registry", "get", &hostile], &["why", &hostile]]
    {
        let (terminal, end) = Terminal::open();
        let mut command = installation.command(arguments);
        let mut child = tty::Killed(command.stderr(end).spawn().unwrap());
        drop(command);
        let written = terminal.read();
        assert!(!child.0.wait().unwrap().success() && !written.is_empty());
        assert_harmless(&format!("{arguments:?}"), &written, true);
    }
    // The folder of its trace that the gateway names is quoted.
    let (_, errors) = on_terminal(installation.command(&["why", "term", "--url", &liar]));
    assert!(errors.len() > 1 << 20);
    assert_harmless("why, errors", &errors, false);

    drop(gateway);
    let log = log.join().unwrap();
    assert!(String::from_utf8_lossy(&log).contains("owned"), "{}", String::from_utf8_lossy(&log));
    assert_harmless("the log", &log, true);
}

/// Runs a command as text, with styles or without, and with styles as JSON too.
fn assert_harmless_on_terminal(installation: &Installation, arguments: &[&str], is_plain: bool) {
    let ways: &[(&[&str], &str)] = if is_plain { &[(&[], "1")] } else { &[(&[], ""), (&["--json"], "")] };
    for (more, no_color) in ways {
        let arguments = [arguments, *more].concat();
        let mut command = installation.command(&arguments);
        command.env("NO_COLOR", no_color);
        let (written, errors) = on_terminal(command);
        assert!(!written.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&errors));
        assert_harmless(&format!("{arguments:?} {no_color}"), &written, more.is_empty() && no_color.is_empty());
        assert_harmless(&format!("{arguments:?}, errors"), &errors, false);
        if !more.is_empty() {
            serde_json::from_slice::<Value>(&written).unwrap();
        }
    }
}

/// As many entries as every character needs: an entry has a greatest size.
#[test]
fn no_character_of_a_registry_acts_on_a_terminal() {
    let installation = Installation::new();
    let characters: Vec<char> = every_character().chars().collect();
    let entry = |(at, text): (usize, &[char])| json!({ "name": format!("all-{at}"), "transport": "ws", "endpoint": "wss://h/", "description": String::from_iter(text) });
    let entries: Vec<Value> = characters.chunks(10_000).enumerate().map(entry).collect();
    let last = format!("all-{}", entries.len() - 1);
    installation.file("home/mcp/servers.json", json!({ "servers": entries }).to_string());
    // The table of `registry list` has no descriptions.
    for arguments in [&["registry", "list", "--json"][..], &["registry", "get", "all-0"], &["registry", "get", &last]] {
        let (written, errors) = on_terminal(installation.command(arguments));
        assert!(!written.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&errors));
        assert_harmless(&format!("{arguments:?}"), &written, !arguments.contains(&"--json"));
    }
}

/// Standard output and standard error on terminals of their own.
#[test]
fn progress_is_written_to_standard_error_only_and_logs_have_no_styles_without_color() {
    let server = Server::start();
    let installation = installation(&server, "pretty");
    for (arguments, no_color) in [(&["sync"][..], ""), (&["sync", "--json"], "1"), (&["demo", "--once"], "")] {
        let ((out, out_end), (err, err_end)) = (Terminal::open(), Terminal::open());
        let mut command = installation.command(arguments);
        command.env("NO_COLOR", no_color).env("TERM", "xterm");
        let mut child = tty::Killed(command.stdout(out_end).stderr(err_end).spawn().unwrap());
        drop(command);
        let errors = std::thread::spawn(move || err.read());
        let written = out.read();
        child.0.wait().unwrap();
        let errors = errors.join().unwrap();
        let shows = |bytes: &[u8]| String::from_utf8_lossy(bytes).contains("syncing");
        assert_harmless(&format!("{arguments:?}"), &written, no_color.is_empty());
        assert!(!written.is_empty() && !shows(&written), "{arguments:?}");
        let text = String::from_utf8_lossy(&errors);
        match no_color {
            "" => assert!(shows(&errors), "{arguments:?}: {text}"),
            _ => assert_harmless("the log without styles", &errors, false),
        }
    }
}

/// A client's messages come back with its identifiers.
#[test]
fn messages_of_stdio_are_escaped_on_a_terminal() {
    let installation = Installation::new();
    let (terminal, end) = Terminal::open();
    let mut command = installation.command(&["serve", "--stdio"]);
    let mut child = tty::Killed(command.stdin(Stdio::piped()).stdout(end).spawn().unwrap());
    drop(command);
    let id = every_character().chars().filter(|one| is_hidden(*one)).take(500).collect::<String>();
    let message = json!({ "jsonrpc": "2.0", "id": id, "method": "ping" });
    let mut stdin = child.0.stdin.take().unwrap();
    std::io::Write::write_all(&mut stdin, format!("{message}\n").as_bytes()).unwrap();
    drop(stdin);
    let written = terminal.read();
    assert_harmless("an answer", &written, false);
    let answer: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(answer["id"], id);
}

/// `call` keeps every character that does not act, and the JSON value as it was.
#[test]
fn json_on_a_terminal_is_the_value_that_the_server_sent() {
    let server = Server::start();
    let installation = installation(&server, "json");
    let gateway = installation.serve();
    let client = gateway.client();
    until("the server is up", PATIENCE, || client.list().filter(|listed| !listed.names().is_empty()));
    let (written, _) = on_terminal(installation.command(&["call", "term__say", "--json", "--url", &gateway.url()]));
    let result: Value = serde_json::from_slice(&written).unwrap();
    assert_eq!(result["content"][0]["text"].as_str().unwrap(), every_character());
    gateway.wait_for_log("owned", 1);
    let log = gateway.stop().stderr;
    assert_harmless("the log", log.as_bytes(), false);
    assert!(log.lines().all(|line| serde_json::from_str::<Value>(line).is_ok()), "{log}");
}
