//! `cortex-mcp registry` as people and scripts see it: what each subcommand prints and exits with, that reading writes
//! nothing, and that no secret is told unless that is asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use cortex_mcp::config::{Environment, Settings};
use cortex_mcp::edge::disk::{MemoryDisk, SystemDisk};
use cortex_mcp::gateway::policy_for_commands;
use cortex_mcp::registry::{Acknowledge, RegistryEntry, RegistryMetrics, Store, StoreOptions, StoreParts};
use processes::installation::finish;
use processes::{Finished, Installation};
use serde_json::{Value, json};

const COMMANDS: [&str; 12] = [
    "list",
    "get",
    "add",
    "remove",
    "import",
    "export",
    "snippet",
    "doctor",
    "repair",
    "journal",
    "journal dump",
    "former",
];

fn registry(installation: &Installation, arguments: &[&str]) -> Finished {
    installation.run(&[&["registry"], arguments].concat())
}

/// A client's configuration that knows the gateway already, as most do.
#[test]
fn the_gateway_itself_is_neither_imported_nor_added() {
    let installation = Installation::new();
    let gateway = installation.serve();
    let (url, address) = (gateway.url(), gateway.address());
    let port = address.rsplit_once(':').unwrap().1.to_owned();
    let client = json!({ "mcpServers": {
        "cortex": { "type": "http", "url": url },
        "spelled": { "type": "http", "url": format!("http://localhost:{port}/mcp") },
        "started": { "command": "cortex-mcp", "args": ["serve", "--stdio"] },
        "through": { "command": "npx", "args": ["-y", "mcp-remote", url] },
        "metadata": { "type": "http", "url": "http://169.254.169.254/latest" },
        "other": { "type": "http", "url": "http://127.0.0.1:9/mcp" },
    }});
    let file = installation.file("client.json", client.to_string());
    let imported = parsed(&installation, &["import", &file], 3);
    let of = |name: &str| {
        let servers = imported["servers"].as_array().unwrap();
        servers.iter().find(|server| server["name"] == name).cloned().unwrap()
    };
    for name in ["cortex", "spelled", "started", "through"] {
        let server = of(name);
        assert_eq!((&server["action"], &server["code"]), (&json!("skipped"), &json!("own_address")), "{server}");
        assert!(server["reason"].as_str().unwrap().contains("this gateway itself"), "{server}");
    }
    assert_eq!(of("metadata")["code"], "link_local");
    assert_eq!(of("other")["action"], "created");
    let refused = registry(&installation, &["add", "self", "--endpoint", &url]);
    assert_eq!(refused.code, Some(2), "{refused:?}");
    assert!(refused.stderr.contains("--force") && refused.stderr.contains(&address), "{refused:?}");
    assert_eq!(registry(&installation, &["add", "self", "--endpoint", &url, "--force"]).code, Some(0));
    let metadata = ["add", "metadata", "--endpoint", "http://2852039166/", "--force"];
    assert_eq!(registry(&installation, &metadata).code, Some(2), "a setting allows these, and no flag");
    gateway.stop();
    // What listens no longer is any other address.
    let other = registry(&installation, &["add", "later", "--endpoint", &url]);
    assert_eq!(other.code, Some(0), "{other:?}");
}

/// One JSON value on stdout, and this exit code.
#[track_caller]
fn parsed(installation: &Installation, arguments: &[&str], code: i32) -> Value {
    let finished = registry(installation, &[&["--json"], arguments].concat());
    assert_eq!(finished.code, Some(code), "{arguments:?}: {finished:?}");
    finished.json()
}

fn with_input(installation: &Installation, arguments: &[&str], input: &str) -> Finished {
    let file = installation.file("input", input);
    let mut command = installation.command(&[&["registry"], arguments].concat());
    command.stdin(Stdio::from(std::fs::File::open(file).unwrap()));
    finish(command)
}

fn folder(installation: &Installation) -> PathBuf {
    installation.folder().join("home/mcp")
}

/// Every file below the home folder: its bytes and its mode.
fn files(installation: &Installation) -> BTreeMap<PathBuf, (Vec<u8>, u32)> {
    let Ok(entries) = std::fs::read_dir(folder(installation)) else { return BTreeMap::new() };
    let file = |path: PathBuf| {
        let mode = path.metadata().unwrap().permissions().mode() & 0o7777;
        (path.clone(), (std::fs::read(&path).unwrap(), mode))
    };
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).map(file).collect()
}

fn store(parts: impl FnOnce(StoreParts) -> StoreParts) -> Arc<Store> {
    let settings = Settings::from_environment(&Environment::default()).unwrap();
    let options = StoreOptions { acknowledge: Acknowledge::Journal, ..StoreOptions::default() };
    let parts = parts(StoreParts {
        disk: Arc::new(MemoryDisk::new()),
        file: "servers.json".to_owned(),
        policy: policy_for_commands(&settings).unwrap(),
        writer: "gateway-of-the-test".to_owned(),
        metrics: RegistryMetrics::default(),
        options,
    });
    Store::open(parts).unwrap()
}

#[test]
fn every_subcommand_helps_with_examples() {
    let installation = Installation::new();
    for command in COMMANDS.iter().chain([&""]) {
        let arguments: Vec<_> = command.split_whitespace().chain(["--help"]).collect();
        let finished = registry(&installation, &arguments);
        assert_eq!(finished.code, Some(0), "{command}: {finished:?}");
        let text = &finished.stdout;
        let examples = text.split_once("Examples:").unwrap_or_else(|| panic!("{command}: {text}")).1;
        assert!(examples.contains(&format!("cortex-mcp registry {command}")), "{command}: {text}");
        assert!(text.lines().all(|line| line.chars().count() <= 120), "{command}: {text}");
    }
    let help = registry(&installation, &["add", "--help"]).stdout;
    assert!(help.contains("see the arguments of a running command") && help.contains("--header-env"), "{help}");
}

#[test]
fn wrong_usage_exits_with_2_and_quotes_no_value() {
    let installation = Installation::new();
    for arguments in [
        &["add"][..],
        &["add", "wiki"],
        &["add", "a b", "--endpoint", "https://a"],
        &["add", "wiki", "--transport", "nosuch", "--endpoint", "https://a"],
        &["add", "wiki", "--endpoint", "https://user:s3cr3t@a"],
        &["add", "wiki", "--endpoint", "s3cr3t"],
        &["add", "wiki", "--endpoint", "https://a", "--header", "s3cr3t"],
        &["add", "wiki", "--endpoint", "https://a", "--header", "X-A: s3cr3t", "--header", "X-A: s3cr3t"],
        &["add", "wiki", "--endpoint", "https://a", "--header-env", "X-A=not set: s3cr3t"],
        &["add", "wiki", "--endpoint", "https://a", "--env", "A=s3cr3t"],
        &["add", "wiki", "--transport", "stdio"],
        &["add", "wiki", "--endpoint", "https://a", "--", "run"],
        &["add", "wiki", "--from-json", "-", "--endpoint", "https://a"],
        &["remove"],
        &["import"],
        &["import", "x.json", "--format", "nosuch"],
        &["export", "--format", "nosuch"],
        &["export", "--force"],
        &["snippet", "nosuch"],
        &["snippet", "cursor", "--url", "nowhere"],
        &["journal"],
    ] {
        let finished = registry(&installation, arguments);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(2), ""), "{arguments:?}: {finished:?}");
        assert!(!finished.stderr.is_empty() && !finished.stderr.contains("s3cr3t"), "{arguments:?}: {finished:?}");
    }
    assert!(!folder(&installation).exists(), "nothing was made");
}

#[test]
fn a_server_is_added_listed_shown_replaced_and_removed() {
    let installation = Installation::new().with("TOKEN", "from-the-environment");
    let added = parsed(
        &installation,
        &[
            "add",
            "Wiki.Data",
            "--transport",
            "http",
            "--endpoint",
            "https://a/mcp",
            "--header",
            "X-A: one:two",
            "--header",
            "X-B=2",
        ],
        0,
    );
    assert_eq!(added, json!({ "ok": true, "added": "Wiki.Data", "source": "arguments", "outcome": "created" }));
    parsed(&installation, &["add", "socket", "wss://a/s", "--header-env", "X-T=TOKEN"], 0);
    parsed(&installation, &["add", "files", "--env", "TOKEN", "--env", "B=c=d", "--", "npx", "-y", "x"], 0);
    let listed = parsed(&installation, &["list", "--reveal"], 0);
    assert_eq!(
        listed["servers"],
        json!([
            { "name": "Wiki.Data", "transport": "http", "endpoint": "https://a/mcp", "headers": { "X-A": "one:two", "X-B": "2" } },
            { "name": "files", "transport": "stdio", "command": "npx", "args": ["-y", "x"],
              "env": { "TOKEN": "from-the-environment", "B": "c=d" } },
            { "name": "socket", "transport": "ws", "endpoint": "wss://a/s", "headers": { "X-T": "from-the-environment" } },
        ])
    );
    let states: Vec<_> =
        listed["states"].as_array().unwrap().iter().map(|one| one["state"].as_str().unwrap()).collect();
    assert_eq!((states[0], states[2], listed["generation"].clone()), ("served", "not-served", json!(3)));
    assert_ne!(listed["states"][0]["connector"], "Wiki.Data", "an id is told where it differs");
    assert_eq!(parsed(&installation, &["list", "--transport", "stdio"], 0)["servers"].as_array().unwrap().len(), 1);
    let text = registry(&installation, &["list"]).stdout;
    assert!(text.contains("Wiki.Data") && text.contains("npx -y x") && !text.contains('\x1b'), "{text}");
    assert_eq!(parsed(&installation, &["get", "files"], 0)["env"], json!({ "TOKEN": "***", "B": "***" }));
    assert!(registry(&installation, &["get", "files"]).stdout.contains("changed"));

    assert_eq!(parsed(&installation, &["add", "files", "--", "other"], 1)["error"]["class"], "exists");
    assert_eq!(parsed(&installation, &["add", "files", "https://b", "--overwrite"], 0)["outcome"], "updated");
    let gone = parsed(&installation, &["remove", "files", "socket", "files"], 0);
    assert_eq!(gone, json!({ "ok": true, "removed": ["files", "socket"], "missing": [], "failed": [] }));
    assert_eq!(parsed(&installation, &["remove", "files"], 1)["error"]["class"], "not-found");
    let partly = parsed(&installation, &["remove", "Wiki.Data", "files"], 3);
    assert_eq!((&partly["removed"], &partly["missing"]), (&json!(["Wiki.Data"]), &json!(["files"])));
    assert_eq!(parsed(&installation, &["remove", "files", "--if-present"], 0)["ok"], true);
    let missing = registry(&installation, &["get", "files"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (Some(1), ""));
    assert!(missing.complaint().contains("registry list"), "{missing:?}");
}

#[test]
fn an_entry_from_stdin_keeps_its_spelling() {
    let installation = Installation::new();
    let entry = r#" { "transport" : "ws", "endpoint":"wss://a", "later": [1.50, 1e2, "\u0061"] } "#;
    let finished = with_input(&installation, &["add", "sock", "--from-json", "-", "--json"], entry);
    assert_eq!((finished.code, finished.json()["source"].clone()), (Some(0), json!("stdin")), "{finished:?}");
    let shown = registry(&installation, &["get", "sock", "--json", "--reveal"]).stdout;
    assert!(shown.contains(r#""later":[1.50,1e2,"\u0061"]"#), "{shown}");
    let twice = with_input(&installation, &["add", "other", "--from-json", "-"], r#"{"name":"sock"}"#);
    assert_eq!(twice.code, Some(2), "{twice:?}");
}

#[test]
fn reading_writes_nothing_not_even_a_folder() {
    let installation = Installation::new();
    let reading: [&[&str]; 8] = [
        &["list"],
        &["get", "a"],
        &["export"],
        &["journal", "dump"],
        &["former"],
        &["doctor"],
        &["repair", "--dry-run"],
        &["snippet", "cursor"],
    ];
    for arguments in reading {
        registry(&installation, arguments);
        assert!(!installation.folder().join("home").exists(), "{arguments:?}");
    }
    parsed(&installation, &["add", "a", "https://a"], 0);
    std::fs::write(folder(&installation).join("servers.json"), r#"{"servers":[{"name":"by-hand"}]}"#).unwrap();
    let before = files(&installation);
    for arguments in reading {
        registry(&installation, arguments);
        assert_eq!(files(&installation), before, "{arguments:?}");
    }
}

#[test]
fn what_another_process_acknowledged_is_shown_before_it_is_in_the_file() {
    let installation = Installation::new();
    parsed(&installation, &["add", "a", "https://a"], 0);
    let before = std::fs::read(folder(&installation).join("servers.json")).unwrap();
    let disk = Arc::new(SystemDisk::open_existing(&folder(&installation)).unwrap());
    let other = store(|parts| StoreParts { disk, ..parts });
    let entry = r#"{"name":"b","transport":"http","endpoint":"https://b/","headers":{"X":"s3cr3t"}}"#;
    other.upsert(RegistryEntry::parse(entry).unwrap()).unwrap();
    other.remove("a").unwrap();
    assert_eq!(std::fs::read(folder(&installation).join("servers.json")).unwrap(), before);
    let listed = parsed(&installation, &["list"], 0);
    assert_eq!(listed["servers"].as_array().unwrap().iter().map(|one| &one["name"]).collect::<Vec<_>>(), ["b"]);
    let dumped = parsed(&installation, &["journal", "dump"], 0);
    let journal = &dumped["journals"][0];
    assert_eq!((&journal["inUse"], &journal["problem"]), (&json!(true), &Value::Null), "{dumped}");
    assert_eq!(
        (&journal["records"][0]["entry"]["headers"]["X"], &journal["records"][1]["removes"]),
        (&json!("***"), &json!(true))
    );
    let file = journal["file"].as_str().unwrap();
    assert!(registry(&installation, &["journal", "dump", file, "--reveal"]).stdout.contains("s3cr3t"));
    assert_eq!(parsed(&installation, &["journal", "dump", "nosuch"], 1)["error"]["class"], "not-found");
    // And the other way round: what a command writes is above what was acknowledged.
    assert_eq!(parsed(&installation, &["add", "b", "https://c", "--overwrite"], 0)["outcome"], "updated");
    other.observe().unwrap();
    assert!(other.get("b").unwrap().json().contains("https://c"));
}

#[test]
fn an_import_is_told_first_and_made_in_one_write() {
    let installation = Installation::new().with("KEY", "s3cr3t");
    parsed(&installation, &["add", "there", "https://there"], 0);
    parsed(&installation, &["add", "same", "https://same"], 0);
    let file = installation.file(
        "client.json",
        r#"{"mcpServers": { // of a client
            "new": {"command": "run", "args": ["--api-key", "${KEY}"]}, "also new!": {"url": "https://n/?k=s3cr3t"},
            "there": {"url": "https://other"}, "same": {"url": "https://same"}, "unset": {"url": "https://a/${NOT_SET}"}}}"#,
    );
    let before = files(&installation);
    let preview = parsed(&installation, &["import", &file, "--dry-run"], 3);
    assert_eq!(files(&installation), before);
    let counts =
        |said: &Value| ["created", "updated", "unchanged", "skipped"].map(|field| said[field].as_u64().unwrap());
    assert_eq!(
        (counts(&preview), &preview["dryRun"], &preview["format"]),
        ([2, 0, 1, 2], &json!(true), &json!("client"))
    );
    let codes: Vec<_> = preview["servers"].as_array().unwrap().iter().filter_map(|row| row["code"].as_str()).collect();
    assert_eq!(codes, ["exists", "variable_not_set"]);
    let imported = parsed(&installation, &["import", &file], 3);
    assert_eq!((counts(&imported), &imported["servers"]), (counts(&preview), &preview["servers"]));
    let listed = parsed(&installation, &["list", "--reveal"], 0);
    assert_eq!(
        (listed["servers"].as_array().unwrap().len(), &listed["generation"]),
        (4, &json!(3)),
        "one write: {listed}"
    );
    assert!(listed.to_string().contains("\"--api-key\",\"s3cr3t\""), "variables are replaced: {listed}");
    assert_eq!(counts(&parsed(&installation, &["import", &file, "--overwrite", "--only", "there"], 0)), [0, 1, 0, 0]);
    assert_eq!(
        counts(&parsed(&installation, &["import", &file, "--only", "unset", "--only", "nosuch"], 1)),
        [0, 0, 0, 2]
    );
    let text = registry(&installation, &["import", &file]).stdout;
    assert!(text.contains("NOT_SET") && text.contains("unchanged"), "{text}");
    assert_eq!(parsed(&installation, &["import", "nosuch.json"], 1)["error"]["class"], "file");
    let nonsense = with_input(&installation, &["import", "-"], "s3cr3t");
    assert!(nonsense.code == Some(1) && nonsense.complaint().contains("line 1, column"), "{nonsense:?}");
}

#[test]
fn an_import_gives_no_file_and_no_variable_of_this_machine_to_a_server_unless_that_is_allowed() {
    let installation = Installation::new().with("SECRET", "s3cr3t");
    let headers = json!({ "A": "Bearer ${file:/run/key}", "B": "${env:SECRET}" });
    let entry = json!({ "name": "a", "transport": "http", "endpoint": "https://evil.example/mcp", "headers": headers });
    let file = installation.file("servers.json", json!({ "servers": [entry] }).to_string());
    let refused = parsed(&installation, &["import", &file], 1);
    let row = &refused["servers"][0];
    assert_eq!((&row["action"], &row["code"]), (&json!("skipped"), &json!("references")));
    for part in ["the file /run/key (in headers.A)", "the variable SECRET (in headers.B)", "evil.example"] {
        assert!(row["reason"].as_str().unwrap().contains(part), "{row}");
    }
    assert_eq!(parsed(&installation, &["list"], 0)["servers"], json!([]));
    let allowed = parsed(&installation, &["import", &file, "--allow-references"], 0);
    assert_eq!(allowed["servers"][0]["notes"].as_array().unwrap().len(), 2, "{allowed}");
    let stored = parsed(&installation, &["list", "--reveal"], 0);
    assert_eq!(
        stored["servers"][0]["entry"]["headers"].as_object().or(stored["servers"][0]["headers"].as_object()),
        headers.as_object(),
        "{stored}"
    );
    let client = json!({ "mcpServers": { "b": { "url": "https://b/", "headers": { "A": "${env:SECRET}" } } } });
    let file = installation.file("client.json", client.to_string());
    parsed(&installation, &["import", &file, "--allow-references"], 0);
    let stored = registry(&installation, &["list", "--reveal", "--json"]).stdout;
    assert!(!stored.contains("s3cr3t") && stored.matches("${env:SECRET}").count() == 2, "{stored}");
}

#[test]
fn an_export_comes_back_as_it_was_and_its_file_is_its_owners_alone() {
    let installation = Installation::new();
    parsed(&installation, &["add", "a", "https://a", "--header", "X=s3cr3t"], 0);
    let file = installation.folder().join("out/backup.json");
    let path = file.to_str().unwrap();
    assert_eq!(parsed(&installation, &["export", "--output", path], 1)["error"]["class"], "file", "no folder");
    std::fs::create_dir(file.parent().unwrap()).unwrap();
    parsed(&installation, &["export", "--reveal", "--output", path], 0);
    assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    let refused = parsed(&installation, &["export", "--output", path], 1);
    assert!(refused["error"]["message"].as_str().unwrap().contains("--force"), "{refused}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("s3cr3t"), "it is as it was");
    parsed(&installation, &["remove", "a"], 0);
    assert_eq!(parsed(&installation, &["import", path], 0)["created"], 1);
    assert_eq!(parsed(&installation, &["get", "a", "--reveal"], 0)["headers"]["X"], "s3cr3t");
    parsed(&installation, &["export", "--output", path, "--force"], 0);
    assert!(!std::fs::read_to_string(&file).unwrap().contains("s3cr3t"));
    assert_eq!(std::fs::read_dir(file.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    let text = registry(&installation, &["export", "--format", "vscode"]);
    assert!(serde_json::from_str::<Value>(&text.stdout).unwrap()["servers"]["a"].is_object(), "{text:?}");
    assert!(text.complaint().contains("***"), "{text:?}");
    let snippet = registry(&installation, &["snippet", "cursor"]);
    assert!(snippet.stdout.contains("http://127.0.0.1:8420/mcp"), "{snippet:?}");
}

#[test]
fn an_export_over_a_file_of_the_registry_is_refused() {
    let installation = Installation::new();
    parsed(&installation, &["add", "a", "https://a"], 0);
    let link = installation.folder().join("link.json");
    std::os::unix::fs::symlink(folder(&installation).join("servers.json"), &link).unwrap();
    let before = files(&installation);
    let beside = |name: &str| folder(&installation).join(name).to_str().unwrap().to_owned();
    for path in [
        beside("servers.json"),
        beside("servers.json.flock"),
        beside("../mcp/servers.json.superseded"),
        link.to_str().unwrap().to_owned(),
    ] {
        let refused = parsed(&installation, &["export", "--output", &path, "--force"], 2);
        assert_eq!(refused["error"]["class"], "usage", "{path}: {refused}");
        assert_eq!(files(&installation), before, "{path}");
    }
    parsed(&installation, &["export", "--output", &beside("backup.json")], 0);
}

#[test]
fn a_removal_that_fails_in_part_tells_what_was_done() {
    let installation = Installation::new();
    for name in ["a", "b"] {
        parsed(&installation, &["add", name, "https://a"], 0);
    }
    let said = parsed(&installation, &["remove", "a", "no name", "b", "c"], 3);
    assert_eq!((&said["removed"], &said["missing"]), (&json!(["a", "b"]), &json!(["c"])), "{said}");
    assert_eq!((&said["failed"][0]["name"], &said["failed"][0]["class"]), (&json!("no name"), &json!("name")));
    assert_eq!(parsed(&installation, &["list"], 0)["servers"], json!([]));
    assert_eq!(parsed(&installation, &["remove", "no name"], 2)["error"]["class"], "name", "nothing was done");
}

#[test]
fn what_an_edit_by_hand_replaced_is_listed_and_can_be_had_back() {
    let installation = Installation::new();
    parsed(&installation, &["add", "a", "https://a/former", "--header", "X=s3cr3t"], 0);
    let path = folder(&installation).join("servers.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("former", "by-hand")).unwrap();
    assert_eq!(parsed(&installation, &["former"], 0), json!({ "former": [], "torn": 0 }));
    parsed(&installation, &["add", "b", "https://b"], 0);
    let listed = parsed(&installation, &["former", "a"], 0);
    let entry = &listed["former"][0]["entry"];
    assert_eq!((&entry["headers"]["X"], listed["former"][0]["at"].is_u64()), (&json!("***"), true), "{listed}");
    let text = registry(&installation, &["former"]).stdout;
    assert!(text.contains("https://a/former") && !text.contains("s3cr3t"), "{text}");
    assert!(registry(&installation, &["former", "--reveal"]).stdout.contains("s3cr3t"));
    assert_eq!(parsed(&installation, &["former", "b"], 1)["former"], json!([]));
    let entry = parsed(&installation, &["former", "a", "--reveal"], 0)["former"][0]["entry"].to_string();
    let back = with_input(&installation, &["add", "--from-json", "-", "--overwrite"], &entry);
    assert_eq!(back.code, Some(0), "{back:?}");
    assert_eq!(parsed(&installation, &["get", "a"], 0)["endpoint"], "https://a/former");
}

const CANARIES: [&str; 16] = [
    "canary-header",
    "canary-env",
    "canary-argument",
    "canary-flag",
    "canary-query",
    "canary-field",
    "canary-path-0123456789",
    "canary-deep",
    "canary-container",
    "canary-header-flag",
    "canary-dsn",
    "ghp_canary0123456789",
    "canary-command",
    "canary-line",
    "canary-jdbc",
    "canary-nested",
];

#[test]
fn no_secret_is_told_unless_that_is_asked_for() {
    let installation = Installation::new().with("MCP_LOG_LEVEL", "trace").with("IMPORTED", CANARIES[1]);
    let mut said = Vec::new();
    let mut all = |arguments: &[&str], input: &str| {
        for json in [false, true] {
            let json: &[&str] = if json { &["--json"] } else { &[] };
            let arguments = [json, arguments].concat();
            said.push((arguments.join(" "), with_input(&installation, &arguments, input)));
        }
    };
    let remote = r#"{"name":"remote","transport":"http","endpoint":"https://a/canary-path-0123456789/mcp?key=canary-query",
        "headers":{"Authorization":"Bearer canary-header"},"apiToken":"canary-field","more":[{"password":{"x":"canary-deep"}}]}"#;
    let program = r#"{"name":"program","transport":"stdio","command":"run","args":["--api-key","canary-argument",
        "--token=canary-flag","-e","PLAIN=canary-container","--header","X-Any: canary-header-flag","mysql://u:canary-dsn@h/x",
        "use ghp_canary0123456789"],"env":{"A":"canary-env"},"description":"ghp_canary0123456789"}"#;
    let shell = r#"{"name":"shell","transport":"stdio","command":"DB_PWD=canary-command run",
        "args":["-c","npx server --api-key canary-line","jdbc:x://h:1;password=canary-jdbc"],"more":{"environment":{"A":"canary-nested"}}}"#;
    let list = format!(
        r#"{{"servers":[{remote},{program},{shell},{{"name":"x","transport":"http","endpoint":"canary-query"}}]}}"#
    );
    let client = r#"{"mcpServers":{"c":{"command":"x","env":{"A":"${IMPORTED}"}},"d":{"url":"canary-query"}}}"#;
    for entry in [remote, program, shell] {
        all(&["add", "--from-json", "-"], entry);
    }
    let reading = |all: &mut dyn FnMut(&[&str], &str)| {
        for arguments in [
            &["list"][..],
            &["get", "remote"],
            &["get", "program"],
            &["export", "--format", "codex"],
            &["journal", "dump"],
            &["former"],
            &["doctor"],
            &["repair", "--dry-run"],
        ] {
            all(arguments, "");
        }
    };
    reading(&mut all);
    for format in ["registry", "claude-desktop", "vscode"] {
        all(&["export", "--format", format], "");
    }
    all(&["import", "-", "--dry-run", "--overwrite"], &list);
    all(&["import", "-"], client);
    all(&["import", "-"], "canary-field");
    all(&["add", "--from-json", "-"], "canary-field");
    all(&["add", "--from-json", "-"], r#"{"name":"y","transport":"canary-field"}"#);
    let disk = Arc::new(SystemDisk::open_existing(&folder(&installation)).unwrap());
    let other = store(|parts| StoreParts { disk, ..parts });
    other.upsert(RegistryEntry::parse(&remote.replace("remote", "journaled")).unwrap()).unwrap();
    reading(&mut all);
    drop(other);
    let path = folder(&installation).join("servers.json");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("\"generation\"", "canary-field")).unwrap();
    reading(&mut all);
    all(&["add", "z", "https://z"], "");
    all(&["repair"], "");
    all(&["repair", "--yes"], "");
    let _ = all;
    assert!(said.len() > 60);
    for (arguments, finished) in &said {
        for canary in CANARIES {
            let told = format!("{}{}", finished.stdout, finished.stderr);
            assert!(!told.contains(canary), "{arguments}: {canary} in {finished:?}");
        }
    }
    let revealed = registry(&installation, &["list", "--json", "--reveal"]).stdout;
    for canary in CANARIES {
        assert!(revealed.contains(canary), "{canary} was there: {revealed}");
    }
}

#[test]
fn unknown_fields_survive_a_thousand_round_trips_byte_for_byte() {
    let disk = Arc::new(MemoryDisk::new());
    let entry = r#"{"name":"a","transport":"ws","endpoint":"wss://a","x":[1.50,-0,12345678901234567890,1e2,"\u0061é",{"b":{},"a":null}],"y":{"Z":true}}"#;
    let first = store(|parts| StoreParts { disk: disk.clone(), ..parts });
    first.upsert(RegistryEntry::parse(entry).unwrap()).unwrap();
    first.close().unwrap();
    let policy = {
        let settings = Settings::from_environment(&Environment::default()).unwrap();
        policy_for_commands(&settings).unwrap()
    };
    let other = r#"{"name":"b","transport":"ws","endpoint":"wss://b/N"}"#;
    for round in 0..1_000 {
        let options = StoreOptions { acknowledge: Acknowledge::Snapshot, ..StoreOptions::default() };
        let (writer, file, metrics) =
            (format!("command-{round}"), "servers.json".to_owned(), RegistryMetrics::default());
        let (disk, policy) = (disk.clone(), policy.clone());
        let store = Store::open(StoreParts { disk, file, policy, writer, metrics, options }).unwrap();
        assert_eq!(store.get("a").unwrap().json(), entry, "round {round}");
        store.upsert(RegistryEntry::parse(&other.replace('N', &round.to_string())).unwrap()).unwrap();
        let own = store.get("a").unwrap();
        store.upsert(RegistryEntry::parse(own.json()).unwrap()).unwrap();
    }
    let last = store(|parts| StoreParts { disk, ..parts });
    assert_eq!(last.get("a").unwrap().json(), entry);
    assert_eq!(last.snapshot().generation, 1_001, "each round wrote once: what is there already is not written");
}
