//! `cortex-mcp policy`: the contract is written out, and middleware is stacked, by the real binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;
mod support;

use cortex_mcp::model::Digest;
use cortex_mcp::policy::contract;
use processes::{Installation, World, wait_for_tools};
use serde_json::json;
use support::policies::{CAP_REFRESH, CONSERVATIVE};

#[test]
fn the_contract_is_written_out_as_it_stands_in_the_sources() {
    let installation = Installation::new();
    let said = installation.run(&["policy", "wit", "my/wit", "--json"]);
    assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
    let mut names: Vec<_> = std::fs::read_dir(installation.folder().join("my/wit"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let mut sources: Vec<_> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/wit"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    sources.sort();
    assert_eq!(names, sources);
    for name in &names {
        let written = std::fs::read_to_string(installation.folder().join("my/wit").join(name)).unwrap();
        let source = std::fs::read_to_string(format!("{}/wit/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
        assert_eq!(written, source, "{name}");
    }
    let files: Vec<_> = contract::WIT.iter().map(|(name, _)| format!("my/wit/{name}")).collect();
    assert_eq!(said.json()["files"], json!(files));
    // Again is as good as once, and people are told the names too.
    let said = installation.run(&["policy", "wit", "my/wit"]);
    assert_eq!(said.stdout.lines().collect::<Vec<_>>(), files, "{said:?}");
}

#[test]
fn a_stack_is_written_inspected_and_deployed() {
    let world = World::new(1);
    let installation = world.installation();
    let (cap, conservative) =
        (installation.file("cap.wasm", &*CAP_REFRESH), installation.file("conservative.wasm", &*CONSERVATIVE));
    let digest = |file: &str| Digest::of(&std::fs::read(installation.folder().join(file)).unwrap()).to_string();
    for (arguments, file) in [
        (&[cap.as_str()][..], "on-default.wasm"),
        (&[&cap], "again.wasm"),
        (&[&cap, &cap], "twice.wasm"),
        (&[&cap, "--on", &conservative], "on-conservative.wasm"),
    ] {
        let said = installation.run(&[&["policy", "stack"], arguments, &["--output", file, "--json"]].concat());
        assert_eq!((said.code, said.stderr.as_str()), (Some(0), ""), "{said:?}");
        assert_eq!((&said.json()["file"], &said.json()["digest"]), (&json!(file), &json!(digest(file))));
        let inspected = installation.run(&["policy", "inspect", file, "--json"]).json();
        assert_eq!(
            (&inspected["digest"], &inspected["size_bytes"]),
            (&json!(digest(file)), &said.json()["size_bytes"])
        );
    }
    assert_eq!(digest("on-default.wasm"), digest("again.wasm"));
    let said = installation.run(&["policy", "stack", &cap, "--output", "again.wasm"]);
    assert!(said.stdout.contains(&digest("again.wasm")), "{said:?}");

    let gateway = installation.serve_with(&["--listen", "127.0.0.1:0", "--policy", "twice.wasm"]);
    wait_for_tools(&gateway, 3);
    let policy = gateway.client().status()["policy"].clone();
    assert_eq!((&policy["digest"], &policy["faults"]), (&json!(digest("twice.wasm")), &json!(0)), "{policy}");
}

#[test]
fn a_stack_that_can_not_be_made_says_why_and_writes_nothing() {
    let installation = Installation::new();
    let (cap, whole) = (installation.file("cap.wasm", &*CAP_REFRESH), installation.file("whole.wasm", &*CONSERVATIVE));
    let garbage = installation.file("garbage.wasm", "garbage");
    for (arguments, words) in [
        (&["missing.wasm"][..], "missing.wasm can not be read"),
        (&[garbage.as_str()], "garbage.wasm: this is not a WebAssembly component"),
        (&[&cap, "--on", &garbage], "garbage.wasm: this is not a WebAssembly component"),
        (&[&whole], "whole.wasm is not a middleware"),
        (&[&cap, "--on", &cap], "cap.wasm can not be the base"),
    ] {
        let arguments = [&["policy", "stack"], arguments, &["--output", "out.wasm"]].concat();
        let said = installation.run(&arguments);
        assert_eq!((said.code, said.stdout.as_str()), (Some(1), ""), "{arguments:?}: {said:?}");
        assert!(said.complaint().contains(words), "{arguments:?}: {said:?}");
        let said = installation.run(&[&arguments[..], &["--json"]].concat());
        assert_eq!(said.json()["error"]["class"], "policy", "{arguments:?}");
        assert!(!installation.folder().join("out.wasm").exists(), "{arguments:?}");
    }
    for arguments in [&["policy", "stack"][..], &["policy", "stack", "cap.wasm"], &["policy", "stack", "--output", "x"]]
    {
        assert_eq!(installation.run(arguments).code, Some(2), "{arguments:?}");
    }
}
