//! Decisions on the record, by the real binary: the demo's trace, replay, check, swap, reload, and a crash in between.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;
mod support;

use std::path::Path;

use cortex_mcp::model::Digest;
use cortex_mcp::policy::EMBEDDED_COMPONENT;
use processes::{Installation, PATIENCE, Serving, World, until, wait_for_tools};
use serde_json::{Value, json};
use support::policies::contrary_bytes;

/// What `status` says about the policy.
fn deployed(gateway: &Serving) -> String {
    gateway.client().status()["policy"]["digest"].as_str().unwrap().to_owned()
}

/// Copies the files of a folder.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Makes a line in the middle of a trace unreadable.
fn damage(folder: &Path) {
    let segments = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let segment = segments.into_iter().find(|path| path.extension().is_some_and(|end| end == "jsonl")).unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    let lines = text.lines().enumerate().map(|(number, line)| if number == 5 { "{\"decision\":" } else { line });
    std::fs::write(&segment, lines.collect::<Vec<_>>().join("\n") + "\n").unwrap();
}

fn digest_of(bytes: &[u8]) -> String {
    Digest::of(bytes).to_string()
}

#[test]
fn the_demo_leaves_a_trace_that_replay_confirms_and_why_explains() {
    let installation = Installation::new();
    let demo = ["demo", "--once", "--json", "--connectors", "3", "--latency-ms", "0", "--dead", "1", "--trace", "left"];
    let said = installation.run(&demo);
    assert_eq!(said.code, Some(3), "one server is dead: {said:?}");
    assert_eq!(said.json()["trace"], "left");
    let replayed = installation.run(&["replay", "left", "--json"]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let report = replayed.json();
    assert!(report["records"].as_u64().unwrap() > 30, "{report}");
    assert_eq!(
        (&report["equal"], &report["different"], &report["skipped"]),
        (&report["records"], &json!(0), &json!(0))
    );
    assert_eq!(report["first_difference"], Value::Null);
    let people = installation.run(&["replay", "left"]);
    assert!(people.stdout.contains(&format!("{} decisions", report["records"])), "{people:?}");
    for (subject, word) in [("server-03", "refused"), ("server-01__echo", "fresh"), ("service-map", "fresh")] {
        let why = installation.run(&["why", subject, "--trace", "left"]);
        assert_eq!(why.code, Some(0), "{why:?}");
        assert!(why.stdout.contains(word), "{subject}: {}", why.stdout);
    }
    // Without a trace there is nothing to tell, and that is what it says.
    let said = installation.run(&["demo", "--once", "--json", "--connectors", "1", "--latency-ms", "0", "--no-trace"]);
    assert_eq!((said.code, &said.json()["trace"]), (Some(0), &Value::Null));
    let nothing = installation.run(&["replay"]);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.complaint().contains("trace"), "{nothing:?}");
}

#[test]
fn a_gateway_that_is_killed_leaves_at_most_one_torn_line_and_its_successor_a_trace_of_its_own() {
    let world = World::new(2);
    let installation = world.installation();
    for _ in 0..3 {
        let gateway = installation.serve();
        wait_for_tools(&gateway, 6);
        let client = gateway.client();
        for _ in 0..20 {
            client.call("server-01__echo", &json!({}));
        }
        assert_eq!(gateway.kill().code, None);
    }
    let replayed = installation.run(&["replay", "--json"]);
    assert_eq!(replayed.code, Some(0), "{replayed:?}");
    let report = replayed.json();
    assert_eq!((&report["equal"], &report["different"]), (&report["records"], &json!(0)));
    assert!(report["torn_lines"].as_u64().unwrap() <= 3, "{report}");
    let segments = std::fs::read_dir(installation.folder().join("home/mcp/trace")).unwrap();
    let names = segments.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(names.filter(|name| name.trim_end_matches(".gz").ends_with(".jsonl")).count(), 3);
}

#[test]
fn replay_through_another_policy_exits_with_1_and_names_what_differs() {
    let installation = Installation::new();
    installation.run(&["demo", "--once", "--connectors", "2", "--latency-ms", "0", "--trace", "left"]);
    let other = installation.file("other.wasm", contrary_bytes("breaker"));
    let flags = ["replay", "left", "--policy", &other, "--family", "cortex-default"];
    let people = installation.run(&flags);
    assert_eq!(people.code, Some(1), "{people:?}");
    for part in
        ["first difference: breaker on connector/server-0", "verdict", "recorded", "replayed", "function", "different"]
    {
        assert!(people.stdout.contains(part), "{part} in {}", people.stdout);
    }
    let report = installation.run(&[&flags[..], &["--json"]].concat()).json();
    assert_eq!(report["first_difference"]["function"], "breaker");
    assert_eq!(report["first_difference"]["fields"][0]["field"], "verdict", "{report}");
    assert!(report["summary"].as_array().unwrap().iter().all(|row| row["function"] == "breaker"), "{report}");
    // The same policy by its file is the same policy.
    let same = installation.file("same.wasm", EMBEDDED_COMPONENT);
    assert_eq!(installation.run(&["replay", "left", "--policy", &same]).code, Some(0));
}

#[test]
fn a_check_tells_whether_a_policy_can_be_deployed_and_what_it_would_decide_otherwise() {
    let installation = Installation::new();
    installation.run(&["demo", "--once", "--connectors", "2", "--latency-ms", "0", "--trace", "left"]);
    let other = installation.file("other.wasm", contrary_bytes("breaker"));
    let checked = installation.run(&["policy", "check", &other, "--trace", "left", "--json"]);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let report = checked.json();
    assert_eq!((&report["deployable"], &report["dry_run"]["faults"]), (&json!(true), &json!([])));
    assert_eq!(report["digest"], digest_of(&contrary_bytes("breaker")));
    assert_eq!(report["exports"].as_array().unwrap().len(), 10);
    assert!(report["trace"]["different"].as_u64().unwrap() > 0, "{report}");
    let people = installation.run(&["policy", "check", &other, "--trace", "left"]);
    assert!(people.stdout.contains("look at what it decides otherwise"), "{people:?}");
    // Without any trace it is asked once, and the rest is said to be unknown.
    let alone = installation.run(&["policy", "check", &other]);
    assert_eq!(alone.code, Some(0), "{alone:?}");
    assert!(alone.stdout.contains("name a trace with --trace"), "{alone:?}");
    // The usual one is named; where it is damaged, that is told and held against nobody.
    let usual = installation.folder().join("home/mcp/trace");
    copy(&installation.folder().join("left"), &usual);
    let compared = installation.run(&["policy", "check", &other]);
    assert_eq!(compared.code, Some(0), "{compared:?}");
    let line = format!("compared with the decisions in {}", usual.display());
    assert!(compared.stdout.contains(&line), "{compared:?}");
    damage(&usual);
    let forgiven = installation.run(&["policy", "check", &other]);
    assert_eq!(forgiven.code, Some(0), "{forgiven:?}");
    let line = format!("the usual trace at {} could not be compared: ", usual.display());
    assert!(forgiven.stdout.lines().any(|told| told.starts_with(&line)), "{forgiven:?}");
    assert!(forgiven.stdout.contains("it can be deployed"), "{forgiven:?}");
    let json = installation.run(&["policy", "check", &other, "--json"]).json();
    assert_eq!((&json["trace"], &json["traces"]), (&Value::Null, &json!([usual])), "{json}");
    assert!(json["trace_failure"].is_string() && json["deployable"] == true, "{json}");
    let asked = installation.run(&["policy", "check", &other, "--trace", &usual.display().to_string()]);
    assert_eq!(asked.code, Some(1), "who names a damaged trace is told so: {asked:?}");
    let garbage = installation.file("garbage.wasm", "garbage");
    assert_eq!(installation.run(&["policy", "check", &garbage]).code, Some(1));
    assert_eq!(installation.run(&["policy", "check", &other, "--trace", "nowhere"]).code, Some(1));
}

#[test]
fn a_running_gateway_is_given_another_policy_and_its_former_one_back() {
    let world = World::new(2);
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 6);
    let (url, default) = (gateway.url(), deployed(&gateway));
    let bytes = contrary_bytes("breaker");
    let other = installation.file("other.wasm", &bytes);
    let swapped = installation.run(&["policy", "swap", &other, "--url", &url, "--json"]);
    assert_eq!(swapped.code, Some(0), "{swapped:?}");
    assert_eq!(
        (&swapped.json()["before"]["digest"], &swapped.json()["after"]["digest"]),
        (&json!(default), &json!(digest_of(&bytes)))
    );
    assert_eq!(deployed(&gateway), digest_of(&bytes));
    let refused = gateway.client().call("server-01__echo", &json!({}));
    assert_eq!(refused["error"]["data"]["reason"], "breaker-open");
    wait_for_tools(&gateway, 6);

    let back = installation.run(&["policy", "swap", "--back", "--url", &url]);
    assert_eq!(back.code, Some(0), "{back:?}");
    assert!(back.stdout.contains(&format!("policy swap --to {}", &digest_of(&bytes)[..12])), "{back:?}");
    assert_eq!(deployed(&gateway), default);
    assert!(gateway.client().call("server-01__echo", &json!({}))["error"].is_null());
    let to = installation.run(&["policy", "swap", "--to", &digest_of(&bytes)[..8], "--url", &url]);
    assert_eq!((to.code, deployed(&gateway)), (Some(0), digest_of(&bytes)));

    for (arguments, words) in [
        (vec!["policy", "swap", "--to", "ffff", "--url", &url], "ffff"),
        (vec!["policy", "swap", "/nowhere.wasm", "--url", &url], "/nowhere.wasm"),
    ] {
        let said = installation.run(&arguments);
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(said.complaint().contains(words), "{said:?}");
    }
    assert_eq!(deployed(&gateway), digest_of(&bytes), "what could not be swapped changed nothing");
    assert_eq!(gateway.stop().code, Some(0));
    let replayed = installation.run(&["replay", "--json"]).json();
    assert_eq!((&replayed["equal"], &replayed["skipped"]), (&replayed["records"], &json!(0)));
}

#[test]
fn a_hangup_reloads_the_configuration_and_the_policy_and_a_wrong_one_changes_nothing() {
    let world = World::new(1);
    let installation = world.installation();
    let gateway = installation.serve();
    wait_for_tools(&gateway, 3);
    let default = deployed(&gateway);
    let bytes = contrary_bytes("breaker");
    installation.file("other.wasm", &bytes);
    installation.file("home/mcp/gateway.toml", "[policy]\nfile = \"other.wasm\"\n");
    gateway.hang_up();
    gateway.wait_for_log("configuration reloaded", 1);
    assert_eq!(deployed(&gateway), digest_of(&bytes));

    let before = gateway.client().status()["configuration"].clone();
    installation.file("nothing.wasm", "nothing");
    for (number, (wrong, told)) in [
        ("max-stale-ms = 5\nlissten = 1\n", "lissten"),
        ("max-stale-ms = 5\n[policy]\nfile = \"nothing.wasm\"\n", "nothing.wasm"),
        ("max-stale-ms = 5\n[policy]\nfile = \"home\"\n", "regular file"),
    ]
    .into_iter()
    .enumerate()
    {
        installation.file("home/mcp/gateway.toml", wrong);
        gateway.hang_up();
        let line = gateway.wait_for_log("configuration not reloaded", number + 1);
        assert!(line.contains(told), "{line}");
        let now = gateway.client().status();
        assert_eq!((&now["configuration"], deployed(&gateway)), (&before, digest_of(&bytes)), "{wrong}");
    }

    installation.file("home/mcp/gateway.toml", "max-stale-ms = 7000\n");
    gateway.hang_up();
    gateway.wait_for_log("configuration reloaded", 2);
    assert_eq!(gateway.client().status()["configuration"]["maxStaleMs"], 7000);
    assert_eq!(deployed(&gateway), default);
    let finished = gateway.stop();
    assert_eq!(finished.code, Some(0));
}

#[test]
fn only_an_admin_token_swaps_where_there_are_tokens() {
    let world = World::new(1);
    let installation = world.installation();
    let hash = |token: &str| Digest::of(token.as_bytes());
    installation.file(
        "home/mcp/gateway.toml",
        format!(
            "[[token]]\nname = \"agent\"\nsha256 = \"{}\"\n[[token]]\nname = \"admin\"\nsha256 = \"{}\"\nadmin = true\n",
            hash("agent-token"),
            hash("admin-token")
        ),
    );
    let gateway = installation.serve();
    let url = gateway.url();
    let other = installation.file("other.wasm", contrary_bytes("nothing"));
    let swap = |installation: &Installation| installation.run(&["policy", "swap", &other, "--url", &url]);
    let nobody = swap(&installation);
    assert_eq!(nobody.code, Some(1), "{nobody:?}");
    let installation = installation.with("CORTEX_GATEWAY_TOKEN", "agent-token");
    let agent = swap(&installation);
    assert_eq!(agent.code, Some(1), "{agent:?}");
    assert!(agent.complaint().contains("admin = true"), "{agent:?}");
    let installation = installation.with("CORTEX_GATEWAY_TOKEN", "admin-token");
    let admin = swap(&installation);
    assert_eq!(admin.code, Some(0), "{admin:?}");
    assert_eq!(gateway.stop().code, Some(0));
}

#[test]
fn a_shadow_policy_is_shown_in_the_status_and_decides_nothing() {
    let world = World::new(1);
    let installation = world.installation();
    let other = installation.file("other.wasm", contrary_bytes("breaker"));
    let gateway = installation.serve_with(&["--listen", "127.0.0.1:0", "--shadow-policy", &other]);
    wait_for_tools(&gateway, 3);
    assert!(gateway.client().call("server-01__echo", &json!({}))["error"].is_null());
    let shadow = until("the shadow has differed", PATIENCE, || {
        let shadow = gateway.client().status()["shadow"].clone();
        (shadow["different"].as_u64().unwrap() > 0).then_some(shadow)
    });
    assert_eq!(shadow["digest"], digest_of(&contrary_bytes("breaker")));
    assert!(shadow["by_function"]["breaker"].as_u64().unwrap() > 0, "{shadow}");
    let status = installation.run(&["status", "--url", &gateway.url()]);
    assert!(status.stdout.contains("shadow"), "{status:?}");
    assert_eq!(gateway.stop().code, Some(0));
}
