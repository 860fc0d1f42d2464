//! Policies cross languages both ways: one written in JavaScript decides in this host, and the default decides under
//! Node and Python. `tests/interop/install` installs what that takes; without it a test is skipped with a printed reason.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod processes;
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use cortex_mcp::model::{BootId, BootMs, ListState, Moment, WallMs};
use cortex_mcp::policy::contract::{Entry, Hlc};
use cortex_mcp::policy::{DecidedBy, EMBEDDED_COMPONENT, Function, Input, Output, PolicyComponent, limits};
use processes::interop::{installed, javascript_policy, run, transpiled};
use serde_json::json;
use support::policies::deployed;
use support::{Rig, seconds};

const POLICY_JS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/policies/quickjs/policy.js");

#[tokio::test(start_paused = true)]
async fn a_policy_written_in_javascript_runs_a_gateway() {
    let home = tempfile::tempdir().unwrap();
    let Some(component) = javascript_policy(home.path(), Path::new(POLICY_JS)) else { return };
    let policy = deployed(&component, "javascript");
    assert!(policy.inspection().imports.iter().all(|import| import.starts_with("cortex:policy/")), "WASI is stubbed");
    let mut rig = Rig::new(3);
    rig.policy = Some(policy.clone());

    let served = rig.ready().await;
    assert_eq!(served.tools(), 9);
    let sum = served.modern().call("s2__add", r#"{"a":40,"b":2}"#).await;
    assert_eq!(sum.result()["structuredContent"]["sum"], 42);
    // It refreshes, keeps what it has through an outage, and comes back.
    let before = rig.requests();
    tokio::time::sleep(seconds(700)).await;
    assert!(rig.requests() > before, "nothing is refreshed");
    rig.stop_everything();
    tokio::time::sleep(seconds(1_200)).await;
    assert_eq!((served.tools(), served.connector("s1").unwrap().state), (9, ListState::StaleError));
    rig.servers.iter().for_each(|upstream| upstream.server.set_tools(4));
    rig.revive_everything();
    served.until("the new lists", seconds(900), |served| served.tools() == 12).await;
    served.gateway.shut_down().await;
    rig.stop_everything();
    let again = rig.start().await;
    assert_eq!(again.tools(), 12);
    again.gateway.shut_down().await;

    let mut most: BTreeMap<Function, u64> = BTreeMap::new();
    for record in rig.records.records() {
        assert_eq!(record.decided_by, DecidedBy::Deployed(policy.digest()), "{record:?}");
        assert_eq!((&record.faulted, record.corrections.len()), (&None, 0), "{record:?}");
        let fuel = most.entry(record.input.function()).or_default();
        *fuel = record.fuel.max(*fuel);
    }
    // An interpreter fits the budget with room to spare.
    println!("{} bytes; fuel: {most:?}", component.len());
    assert!(most.values().all(|fuel| *fuel * 4 < limits::CALL_FUEL_BASE), "{most:?}");
}

#[test]
fn a_policy_written_in_javascript_merges_thousands_of_entries_within_its_fuel() {
    let home = tempfile::tempdir().unwrap();
    let Some(component) = javascript_policy(home.path(), Path::new(POLICY_JS)) else { return };
    let entries = |writer: &str| -> Vec<Entry> {
        let stamp = Hlc { wall_ms: 5, counter: 0 };
        let entry = |number| Entry {
            name: format!("server-{number:05}"),
            stamp,
            writer: writer.into(),
            deleted: false,
            digest: writer.into(),
        };
        (0..5_000).map(entry).collect()
    };
    let input = Input::Merge { ours: entries("a"), theirs: entries("b") };
    let moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(1_000), boot_id: BootId(1) };
    let decide = |policy: &PolicyComponent| policy.decide(&input, moment, 1).unwrap_or_else(|fault| panic!("{fault}"));
    let Output::Merge(decision) = decide(&deployed(&component, "javascript")) else { unreachable!() };
    assert_eq!((decision.entries.len(), decision.superseded.len()), (5_000, 5_000));
    assert_eq!(Output::Merge(decision), decide(&PolicyComponent::embedded().unwrap()));
}

#[test]
fn the_default_policy_decides_under_python() {
    let Some(python) = installed("python/bin/python") else { return };
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("cortex-policy.wasm");
    std::fs::write(&file, EMBEDDED_COMPONENT).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/policy.py");
    let said = run(home.path(), &python, &[script, &file.display().to_string()]);
    assert_eq!(said.json(), json!({ "flush-after": [3_800, 0] }));
}

#[test]
fn the_default_policy_decides_under_node() {
    let home = tempfile::tempdir().unwrap();
    let Some(module) = transpiled(home.path(), EMBEDDED_COMPONENT) else { return };
    let Some(node) = installed("bin/node") else { return };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/interop/policy.mjs");
    let said = run(home.path(), &node, &[script, &module.display().to_string()]);
    assert_eq!((said.json(), said.stderr.as_str()), (json!({ "flush-after": [3_800, 0] }), ""));
}
