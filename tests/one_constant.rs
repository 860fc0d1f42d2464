//! Replay sees every change of the policy: one constant of the default, changed, makes it end with 1 and name the function,
//! the subject and the field; the default as it is makes it end with 0.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod corpus;
mod processes;
mod support;

use std::path::Path;

use processes::Installation;
use serde_json::json;
use support::policies::component_build::PolicyCrate;
use support::policies::copy_of_the_workspace;

/// The constant, as it stands in the guest.
const CONSTANT: &str = "pub const FRESHNESS_SHARE_PERMILLE: u64 = 800;";

/// The same with another value: lists that say how long they are fresh are refreshed a little earlier.
const CHANGED: &str = "pub const FRESHNESS_SHARE_PERMILLE: u64 = 790;";

#[test]
fn one_changed_constant_makes_replay_end_with_1_and_name_function_subject_and_field() {
    let installation = Installation::new();
    let trace = corpus::file("outage-and-recovery").display().to_string();
    let records = corpus::decisions(&[corpus::file("outage-and-recovery")]).len();
    let changed = installation.file("changed.wasm", policy_with_the_change(&installation.folder().join("copy")));
    assert_eq!(installation.run(&["policy", "export", "unchanged.wasm"]).code, Some(0));
    let replay = |policy: &str, more: &[&str]| {
        let arguments = ["replay", trace.as_str(), "--policy", policy, "--family", "cortex-default"];
        installation.run(&[&arguments[..], more].concat())
    };

    let said = replay("unchanged.wasm", &["--json"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert_eq!((&said.json()["equal"], &said.json()["different"]), (&json!(records), &json!(0)), "{said:?}");

    let said = replay(&changed, &["--json"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let report = said.json();
    assert!(report["different"].as_u64().unwrap() > 1 && report["equal"].as_u64().unwrap() > 1, "{report}");
    let first = &report["first_difference"];
    assert_eq!((&first["function"], &first["file"]), (&json!("refresh"), &json!(trace)), "{report}");
    let subject = first["subject"].as_str().unwrap();
    assert_eq!(subject, "connector/s2/refresh", "{report}");
    let fields: Vec<_> =
        first["fields"].as_array().unwrap().iter().map(|field| field["field"].as_str().unwrap()).collect();
    assert_eq!(fields, ["state.phase.Armed.run_at_boot_ms", "state.interval_ms", "run_at_boot_ms"], "{report}");
    let due = &first["fields"][2];
    assert!(due["replayed"].as_u64() < due["recorded"].as_u64(), "{due}");
    // Nothing but refreshes changes.
    let rows = report["summary"].as_array().unwrap();
    assert!(!rows.is_empty() && rows.iter().all(|row| row["function"] == "refresh"), "{report}");

    let said = replay(&changed, &[]);
    assert_eq!(said.code, Some(1), "{said:?}");
    let told = said.stdout.lines().next().unwrap();
    assert!(told.starts_with(&format!("first difference: refresh on {subject}, decision ")), "{said:?}");
    assert!(told.ends_with(&format!("{trace}:{}", first["line"])), "{said:?}");
    for words in [&fields[..], &[&due["recorded"].to_string(), &due["replayed"].to_string()]].concat() {
        assert!(said.stdout.contains(words), "{words}: {said:?}");
    }
}

/// The default policy, built from a copy of the workspace in which the constant has another value.
fn policy_with_the_change(copy: &Path) -> Vec<u8> {
    copy_of_the_workspace(copy);
    let limits = copy.join("guest/src/limits.rs");
    let text = std::fs::read_to_string(&limits).unwrap();
    assert_eq!(text.matches(CONSTANT).count(), 1, "the constant stands elsewhere, or has another value");
    std::fs::write(&limits, text.replace(CONSTANT, CHANGED)).unwrap();
    let inside_target = copy.join("target");
    let built = PolicyCrate { package: "cortex-policy-default", workspace: copy, inside_target: &inside_target };
    built.build().unwrap_or_else(|error| panic!("{error}"))
}
