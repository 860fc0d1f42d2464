//! Reloading, by the real binary: what is served meanwhile, what is never given up, and how it ends. Pipes stand for disks
//! that hang.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;
mod support;

use std::path::{Path, PathBuf};

use cortex_mcp::model::Digest;
use http::StatusCode;
use processes::{Client, Installation, PATIENCE, Serving, World, until, wait_for_tools};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;
use support::policies::contrary_bytes;

/// A pipe without a writer: whoever opens it to read waits.
fn pipe(path: &Path) {
    if path.exists() {
        std::fs::remove_file(path).unwrap();
    }
    mkfifoat(CWD, path, Mode::RWXU).unwrap();
}

fn configuration(installation: &Installation) -> PathBuf {
    installation.folder().join("home/mcp/gateway.toml")
}

/// A gateway whose reload hangs.
fn hanging(installation: &Installation) -> Serving {
    let gateway = installation.serve();
    pipe(&configuration(installation));
    gateway.hang_up();
    gateway.wait_for_log("asked to reload", 1);
    gateway
}

#[test]
fn a_gateway_serves_new_connections_while_a_reload_is_under_way() {
    let installation = Installation::new();
    let gateway = hanging(&installation);
    for _ in 0..3 {
        // A client of its own each time, and so a connection.
        assert_eq!(Client::new(&gateway.url()).get("/healthz"), Some((StatusCode::OK, "ok".to_owned())));
    }
    // Asked again meanwhile, it reloads once more after that, and not at the same time.
    gateway.hang_up();
    gateway.hang_up();
    assert_eq!(Client::new(&gateway.url()).get("/healthz"), Some((StatusCode::OK, "ok".to_owned())));
    assert_eq!(gateway.logged("asked to reload").len(), 1);
    std::fs::write(configuration(&installation), "max-stale-ms = 7000\n").unwrap();
    gateway.wait_for_log("configuration reloaded", 1);
    assert_eq!(gateway.client().status()["configuration"]["maxStaleMs"], 7000);
    gateway.wait_for_log("asked to reload", 2);
    std::fs::write(configuration(&installation), "max-stale-ms = 8000\n").unwrap();
    gateway.wait_for_log("configuration reloaded", 2);
    assert_eq!(gateway.client().status()["configuration"]["maxStaleMs"], 8000);
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn a_gateway_ends_when_it_is_asked_to_also_while_a_reload_hangs() {
    let installation = Installation::new();
    let finished = hanging(&installation).stop();
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(finished.stderr.contains("the gateway has ended"), "{finished:?}");
}

#[test]
fn a_policy_that_is_a_pipe_is_refused_and_not_waited_for() {
    let installation = Installation::new();
    let path = installation.folder().join("pipe.wasm");
    pipe(&path);
    let name = path.display().to_string();
    for arguments in [
        vec!["serve", "--listen", "127.0.0.1:0", "--policy", &name],
        vec!["serve", "--listen", "127.0.0.1:0", "--shadow-policy", &name],
        vec!["policy", "inspect", &name],
        vec!["policy", "stack", &name, "--output", "out.wasm"],
        vec!["policy", "inspect", "/dev/zero"],
        vec!["policy", "inspect", "home"],
    ] {
        std::fs::create_dir_all(installation.folder().join("home")).unwrap();
        let said = installation.run(&arguments);
        assert_eq!(said.code, Some(1), "{arguments:?}: {said:?}");
        assert!(said.complaint().contains("write the component to a regular file"), "{arguments:?}: {said:?}");
    }
    let gateway = installation.serve();
    installation.file("home/mcp/gateway.toml", format!("max-stale-ms = 7000\n[policy]\nfile = {name:?}\n"));
    let before = gateway.client().status();
    gateway.hang_up();
    let line = gateway.wait_for_log("configuration not reloaded", 1);
    assert!(line.contains("regular file"), "{line}");
    let after = gateway.client().status();
    assert_eq!(
        (&after["configuration"], &after["policy"]["digest"]),
        (&before["configuration"], &before["policy"]["digest"])
    );
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn a_reload_never_takes_the_tokens_from_a_listener_that_others_reach() {
    let installation = Installation::new();
    let token = |name: &str| format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n", Digest::of(name.as_bytes()));
    installation.file("home/mcp/gateway.toml", format!("listen = \"0.0.0.0:0\"\n{}", token("first")));
    let gateway = installation.serve_with(&[]);
    let answers = |name: Option<&str>| {
        let client = Client::new(&gateway.url());
        let client = if let Some(name) = name { client.with_token(name) } else { client };
        client.get("/status").map(|(status, _)| status)
    };
    assert_eq!((answers(None), answers(Some("first"))), (Some(StatusCode::UNAUTHORIZED), Some(StatusCode::OK)));

    installation.file("home/mcp/gateway.toml", "listen = \"127.0.0.1:0\"\nmax-stale-ms = 7000\n");
    gateway.hang_up();
    let line = gateway.wait_for_log("configuration not reloaded", 1);
    assert!(line.contains("0.0.0.0:0") && line.contains("[[token]]"), "{line}");
    assert_eq!((answers(None), answers(Some("first"))), (Some(StatusCode::UNAUTHORIZED), Some(StatusCode::OK)));
    let status = gateway.client().with_token("first").status();
    assert_eq!(status["configuration"]["maxStaleMs"], 86_400_000, "nothing else was changed either");

    // Other tokens are put in force, with the same new address: that one waits for a restart.
    installation.file("home/mcp/gateway.toml", format!("listen = \"127.0.0.1:0\"\n{}", token("second")));
    gateway.hang_up();
    gateway.wait_for_log("configuration reloaded", 1);
    assert_eq!(
        (answers(None), answers(Some("first"))),
        (Some(StatusCode::UNAUTHORIZED), Some(StatusCode::UNAUTHORIZED))
    );
    assert_eq!(answers(Some("second")), Some(StatusCode::OK));
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn options_that_are_recorded_are_warned_of_by_name_and_never_by_value() {
    let installation = Installation::new();
    installation.file("home/mcp/gateway.toml", "[policy]\noptions = { eager = \"canary\" }\n");
    for (flags, warnings) in [(&["--listen", "127.0.0.1:0"][..], 1), (&["--listen", "127.0.0.1:0", "--no-trace"], 0)] {
        let gateway = installation.serve_with(flags);
        until("it is served", PATIENCE, || gateway.client().list());
        let finished = gateway.stop();
        let told: Vec<_> = finished.stderr.lines().filter(|line| line.contains("no place for secrets")).collect();
        assert_eq!(told.len(), warnings, "{finished:?}");
        assert!(told.iter().all(|line| line.contains("eager") && line.contains("\"warn\"")), "{told:?}");
        assert!(!finished.stderr.contains("canary"), "{finished:?}");
    }
    let help = installation.run(&["serve", "--help"]).stdout;
    assert!(help.contains("recorded in the trace"), "{help}");
}

#[test]
fn the_same_component_deployed_otherwise_is_another_policy_and_can_be_gone_back_to() {
    let world = World::new(1);
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 3);
    let url = gateway.url();
    let bytes = contrary_bytes("nothing");
    let digest = Digest::of(&bytes).to_string();
    let other = installation.file("other.wasm", &bytes);
    let swap = |flags: &[&str]| installation.run(&[&["policy", "swap", "--url", &url], flags].concat());
    let policy = || gateway.client().status()["policy"]["family"].as_str().unwrap().to_owned();
    let first = swap(&[&other, "--family", "one", "--json"]).json();
    assert_eq!(first["dry_run"]["faults"], json!([]), "the same names as in `policy check --json`: {first}");
    let again = swap(&[&other, "--family", "two", "--reuse"]);
    assert!(again.stdout.contains("of the family two") && again.stdout.contains("policy swap --back"), "{again:?}");
    assert_eq!((swap(&["--back"]).code, policy()), (Some(0), "one".to_owned()));
    swap(&[&other, "--family", "three"]);

    // One and two have the digest, and three, which decides: the first two can be meant.
    let short = &digest[..12];
    let unclear = swap(&["--to", short]);
    assert_eq!(unclear.code, Some(1), "{unclear:?}");
    for part in ["--family one", "--family two --reuse"] {
        assert!(unclear.complaint().contains(part), "{unclear:?}");
    }
    assert!(!unclear.complaint().contains("three"), "{unclear:?}");
    let people = installation.run(&["status", "--url", &url]).stdout;
    for command in [format!("--to {short} --family one`"), format!("--to {short} --family two --reuse`")] {
        assert!(people.contains(&command), "{people}");
    }
    assert!(!people.contains("--family three"), "who decides is not among those before: {people}");
    let told = swap(&["--to", short, "--family", "two", "--reuse"]);
    assert_eq!((told.code, policy()), (Some(0), "two".to_owned()), "{told:?}");
    assert_eq!(swap(&["--to", short, "--reuse"]).code, Some(2));
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn the_demo_says_that_its_record_stays_where_nobody_named_a_folder() {
    let temporary = tempfile::tempdir().unwrap();
    let installation = Installation::new().with("TMPDIR", &temporary.path().display().to_string());
    let demo = ["demo", "--once", "--connectors", "1", "--latency-ms", "0"];
    let stays = "it stays when the demo ends; remove it when you have looked";
    let said = installation.run(&demo);
    assert!(said.stdout.contains(stays), "{said:?}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1, "its record, and nothing else");
    for flags in [&["--trace", "left"][..], &["--no-trace"]] {
        let said = installation.run(&[&demo[..], flags].concat());
        assert!(!said.stdout.contains(stays), "{said:?}");
    }
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 1);
    let help = installation.run(&["demo", "--help"]).stdout;
    assert!(help.contains("stays when the demo ends"), "{help}");
}
