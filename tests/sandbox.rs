//! The sandbox: what is no policy is refused by name, a policy that faults costs one decision, and the embedded one is
//! what the sources say, from whichever folder it is built.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::gateway::{Gateway, StartError};
use cortex_mcp::policy::contract::{Pending, ServeVerdict};
use cortex_mcp::policy::{
    DecidedBy, EMBEDDED_COMPONENT, Fault, Function, InstanceUse, Policy, PolicyComponent, PolicyError, PolicyMetrics,
    Subject, Upkeep, limits,
};
use support::contract::upkeep_config;
use support::policies::{component_build, contrary, copy_of_the_workspace, faulty};
use support::{Rig, seconds};

const HEADER: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

fn refusal(bytes: &[u8]) -> PolicyError {
    PolicyComponent::load(bytes, "x", InstanceUse::Fresh).unwrap_err()
}

/// A component that imports an interface with these functions, none of which takes or gives anything, and exports what every
/// policy exports, by name only.
fn importing(interface: &str, functions: &[&str]) -> Vec<u8> {
    let functions: String = functions.iter().map(|name| format!("(export \"{name}\" (func))")).collect();
    let exports = ["scheduling", "caching", "registry"];
    let exports = exports.map(|name| format!("(export \"cortex:policy/{name}@0.1.0\" (instance $none))")).concat();
    let text = format!("(component (import \"{interface}\" (instance {functions})) (instance $none) {exports})");
    wat::parse_str(text).unwrap()
}

#[test]
fn what_is_no_policy_is_refused_by_name_before_anything_of_it_runs() {
    let core = refusal(&[0, b'a', b's', b'm', 1, 0, 0, 0]);
    assert!(matches!(core, PolicyError::NotAComponent { .. }) && core.to_string().contains("core module"), "{core}");
    for garbage in [&b""[..], b"#!/bin/sh", b"{}"] {
        assert!(matches!(refusal(garbage), PolicyError::NotAComponent { hint: "" }));
    }
    let mut huge = HEADER.to_vec();
    huge.resize(limits::COMPONENT_BYTES_MAX + 1, 0);
    assert!(matches!(refusal(&huge), PolicyError::TooLarge));
    let mut cut = EMBEDDED_COMPONENT.to_vec();
    cut.truncate(cut.len() / 2);
    assert!(matches!(refusal(&cut), PolicyError::Compile { .. }));
    let missing = refusal(&HEADER);
    assert!(matches!(&missing, PolicyError::MissingExport { name } if name == "cortex:policy/scheduling"), "{missing}");
}

#[test]
fn no_more_of_a_file_is_read_than_shows_that_it_is_too_large() {
    let folder = tempfile::tempdir().unwrap();
    // A terabyte of nothing: no machine holds it in memory.
    let endless = folder.path().join("endless.wasm");
    std::fs::File::create(&endless).unwrap().set_len(1 << 40).unwrap();
    let error = PolicyComponent::read(&endless, None, InstanceUse::Fresh).unwrap_err();
    let PolicyError::File { path, reason } = &error else { panic!("{error}") };
    assert!(path.ends_with("endless.wasm") && matches!(**reason, PolicyError::TooLarge), "{error}");
}

#[test]
fn an_import_of_anything_else_is_refused_and_named() {
    for (interface, functions, named) in [
        ("wasi:cli/environment@0.2.0", &[][..], "wasi:cli/environment@0.2.0"),
        ("wasi:sockets/tcp@0.2.0", &["connect"][..], "wasi:sockets/tcp@0.2.0"),
        ("cortex:policy/clock@0.1.0", &["sleep-ms"][..], "cortex:policy/clock@0.1.0#sleep-ms"),
        ("cortex:policy/types@0.1.0", &["escape"][..], "cortex:policy/types@0.1.0#escape"),
    ] {
        let error = refusal(&importing(interface, functions));
        assert!(matches!(&error, PolicyError::ForbiddenImport { name } if name == named), "{interface}: {error}");
        assert!(error.to_string().contains(named) && error.to_string().contains("cortex:policy/clock"), "{error}");
    }
    let other = refusal(&importing("cortex:policy/clock@0.2.0", &[]));
    assert!(matches!(&other, PolicyError::OtherVersion { name } if name == "cortex:policy/clock@0.2.0"), "{other}");
}

#[tokio::test(start_paused = true)]
async fn a_gateway_does_not_start_with_a_policy_that_it_can_not_load() {
    let folder = tempfile::tempdir().unwrap();
    let (missing, garbage) = (folder.path().join("missing.wasm"), folder.path().join("garbage.wasm"));
    std::fs::write(&garbage, "garbage").unwrap();
    for (file, words) in [(missing, "missing.wasm"), (garbage, "not a WebAssembly component")] {
        let mut rig = Rig::new(1);
        rig.toml = format!("[policy]\nfile = {file:?}");
        let (_, builder) = rig.builder(&rig.network, &rig.state);
        let error = builder.start().await.map(|_: Gateway| ()).unwrap_err();
        assert!(matches!(error, StartError::Policy(_)) && error.to_string().contains(words), "{error}");
    }
    // A good one is deployed from its file.
    let good = folder.path().join("policy.wasm");
    std::fs::write(&good, EMBEDDED_COMPONENT).unwrap();
    let mut rig = Rig::new(1);
    rig.toml = format!("[policy]\nfile = {good:?}");
    let served = rig.ready().await;
    let status = served.gateway.status().policy;
    assert_eq!((served.tools(), status.digest), (3, status.default_digest));
}

#[tokio::test(start_paused = true)]
async fn each_way_to_fault_costs_one_decision_which_the_default_makes() {
    for (way, expected) in
        [("panic", Fault::Panicked), ("spin", Fault::OutOfFuel), ("memo", Fault::MemoTooLarge(5_000))]
    {
        let mut rig = Rig::new(2);
        rig.policy = Some(faulty(way, "refresh"));
        let served = rig.ready().await;
        assert_eq!(served.tools(), 6, "{way}");
        let records = rig.records.records();
        let refreshes: Vec<_> = records.iter().filter(|one| one.input.function() == Function::Refresh).collect();
        let status = served.gateway.status().policy;
        assert!(refreshes.len() >= 6);
        for record in &refreshes {
            let faulted = record.faulted.as_ref().unwrap();
            assert_eq!(
                (faulted.digest, &faulted.fault, &record.default_fault),
                (status.digest, &expected, &None),
                "{way}"
            );
            assert!(matches!(record.decided_by, DecidedBy::DefaultAfterFault(by) if by == status.default_digest));
            assert!(record.output.is_some());
        }
        // Other functions of the same policy go on deciding.
        assert!(records.iter().any(|one| matches!(one.decided_by, DecidedBy::Deployed(by) if by == status.digest)));
        assert_eq!((status.faults, status.suspended), (refreshes.len() as u64, false));
        assert_eq!(status.last_fault, Some(expected.to_string()));
        let counted = served.metric(r#"mcp_policy_faults_total{function="refresh"}"#);
        assert_eq!(counted, Some(refreshes.len() as f64));
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_can_be_made_again_from_its_record() {
    let mut rig = Rig::new(1);
    let policy = faulty("remember", "refresh");
    rig.policy = Some(policy.clone());
    let served = rig.ready().await;
    assert_eq!(served.tools(), 3);
    let records = rig.records.records();
    let faulted: Vec<_> = records.iter().filter(|record| record.faulted.is_some()).collect();
    assert!(!faulted.is_empty());
    for record in faulted {
        let attempt = record.faulted.as_ref().unwrap();
        assert_eq!((attempt.digest, attempt.memo.as_slice()), (policy.digest(), &b"once"[..]));
        // Only what it remembered makes it fault: the memo of the default, which decided, does not.
        let given = record.faulted_input().unwrap();
        assert_eq!(policy.decide(&given, record.moment, record.seed), Err(attempt.fault.clone()));
        assert!(policy.decide(&record.input, record.moment, record.seed).is_ok());
    }
}

/// A policy of its own on the rig's clock, and one subject's settings as its gateways have them.
fn bare(rig: &Rig, deployed: Arc<PolicyComponent>, default: Arc<PolicyComponent>) -> Arc<Policy> {
    let entropy = Arc::new(VirtualEntropy::from_number(5));
    let edge = Edge { clock: rig.clock.clone(), entropy, http: rig.network.clone() };
    Arc::new(Policy::new(deployed, default, edge, rig.records.clone(), PolicyMetrics::default()))
}

#[tokio::test(start_paused = true)]
async fn when_the_default_fails_too_both_faults_are_recorded() {
    let rig = Rig::new(0);
    let (deployed, default) = (faulty("panic", "flush-after"), faulty("spin", "flush-after"));
    let policy = bare(&rig, deployed.clone(), default.clone());
    let pending = Pending { changes: 1, bytes: 1, oldest_ms: 1, batch_ms: 1, closing: false, write_through: false };
    let error = policy.flush_after(&Subject::new("writes"), pending).unwrap_err();
    assert_eq!(error.fault, Fault::OutOfFuel);
    let record = rig.records.records().pop().unwrap();
    let faulted = record.faulted.unwrap();
    assert_eq!((faulted.digest, faulted.fault, faulted.memo), (deployed.digest(), Fault::Panicked, vec![]));
    assert_eq!(record.decided_by, DecidedBy::DefaultAfterFault(default.digest()));
    assert_eq!((record.default_fault, record.output), (Some(Fault::OutOfFuel), None));
}

#[tokio::test(start_paused = true)]
async fn what_upkeep_itself_does_otherwise_than_decided_is_counted() {
    let rig = Rig::new(0);
    let embedded = || Arc::new(PolicyComponent::embedded().unwrap());
    let start = |policy: &Arc<Policy>| Upkeep::start(policy.clone(), "map", upkeep_config(), None);

    let policy = bare(&rig, embedded(), embedded());
    let mut upkeep = start(&policy);
    assert!(upkeep.begin().is_some());
    assert_eq!(policy.status().overruled, 0);

    // Verdicts that are over when they are given.
    let policy = bare(&rig, contrary("ending"), embedded());
    let mut upkeep = start(&policy);
    let overruled = policy.status().overruled;
    assert!(overruled > 0);
    upkeep.judge();
    assert_eq!(policy.status().overruled, overruled + 1);
    assert_eq!(upkeep.verdict_until(), Some(policy.edge().clock.boot().plus(seconds(1))));

    // A run that is due and does not begin.
    let policy = bare(&rig, contrary("beginning"), embedded());
    let mut upkeep = start(&policy);
    assert_eq!(upkeep.due(), Some(policy.edge().clock.boot()));
    assert!(upkeep.begin().is_none());
    assert_eq!((policy.status().overruled, upkeep.due()), (1, Some(policy.edge().clock.boot().plus(seconds(1)))));

    // No decision at all: one verdict and one event.
    let policy = bare(&rig, faulty("panic", "any"), faulty("panic", "any"));
    let upkeep = start(&policy);
    assert_eq!((policy.status().overruled, upkeep.due()), (2, Some(policy.edge().clock.boot().plus(seconds(300)))));
}

#[tokio::test(start_paused = true)]
async fn a_verdict_of_a_policy_that_was_swapped_can_be_judged_anew() {
    let rig = Rig::new(0);
    let embedded = Arc::new(PolicyComponent::embedded().unwrap());
    let policy = bare(&rig, contrary("lookup"), embedded.clone());
    let mut upkeep = Upkeep::start(policy.clone(), "map", upkeep_config(), None);
    let verdict = |upkeep: &Upkeep| (upkeep.verdict().serve, upkeep.verdict().reason);
    let contrary = verdict(&upkeep);
    let decisions = policy.status().decisions;
    upkeep.judge_if_swapped();
    assert_eq!((policy.generation(), policy.status().decisions), (0, decisions), "nothing was swapped");
    policy.swap(embedded);
    assert_eq!((policy.generation(), verdict(&upkeep)), (1, contrary));
    upkeep.judge_if_swapped();
    assert_ne!(verdict(&upkeep), contrary);
    assert_eq!((upkeep.verdict().serve, policy.status().decisions), (ServeVerdict::Withhold, decisions + 1));
    upkeep.judge_if_swapped();
    assert_eq!(policy.status().decisions, decisions + 1);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_faults_five_times_in_a_row_is_suspended_until_a_swap() {
    let mut rig = Rig::new(2);
    rig.policy = Some(faulty("panic", "any"));
    let served = rig.ready().await;
    assert_eq!(served.tools(), 6);
    let status = served.gateway.status().policy;
    assert_eq!((status.suspended, status.faults), (true, u64::from(limits::FAULTS_IN_A_ROW_MAX)));
    let records = rig.records.records();
    let suspended = records.iter().filter(|one| matches!(one.decided_by, DecidedBy::DefaultWhileSuspended(_))).count();
    assert_eq!(suspended, records.len() - limits::FAULTS_IN_A_ROW_MAX as usize);

    // A swap keeps every state: nothing is fetched anew, and the new one decides from now on.
    let sent = served.wire.count();
    let next = contrary("nothing");
    assert_eq!(served.gateway.policy().swap(next.clone()), status.digest);
    let status = served.gateway.status().policy;
    assert_eq!((status.digest, status.suspended, status.faults, served.tools()), (next.digest(), false, 0, 6));
    served.modern().call("s1__echo", "{}").await;
    assert_eq!(served.wire.count(), sent + 1);
    let last = rig.records.records().pop().unwrap();
    assert_eq!(last.decided_by, DecidedBy::Deployed(next.digest()));
    tokio::time::sleep(seconds(600)).await;
    assert_eq!((served.tools(), served.gateway.status().policy.faults), (6, 0));
}

#[tokio::test(start_paused = true)]
async fn a_swap_while_running_changes_what_is_decided_next() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let before = served.gateway.policy().swap(contrary("breaker"));
    assert_eq!(served.modern().call("s1__echo", "{}").await.json()["error"]["data"]["reason"], "breaker-open");
    assert_eq!(before, served.gateway.status().policy.default_digest);
    served.gateway.policy().swap(Arc::new(PolicyComponent::embedded().unwrap()));
    assert_eq!(served.modern().call("s1__echo", "{}").await.code(), None);
}

#[test]
fn the_embedded_policy_imports_clock_and_random_and_exports_the_contract() {
    let policy = PolicyComponent::embedded().unwrap();
    let inspection = policy.inspection();
    for import in &inspection.imports {
        let known = ["cortex:policy/clock@", "cortex:policy/random@", "cortex:policy/types@"];
        assert!(known.iter().any(|interface| import.starts_with(interface)), "{import}");
        assert_eq!(import.contains("/types@"), !import.contains('#'), "{import}");
    }
    for function in Function::ALL {
        let exported = inspection.exports.iter().filter(|export| export.ends_with(&format!("#{}", function.name())));
        assert_eq!(exported.count(), 1, "{function:?}");
    }
    assert_eq!((inspection.exports.len(), inspection.size_bytes), (10, EMBEDDED_COMPONENT.len()));
    assert_eq!(policy.digest(), cortex_mcp::model::Digest::of(EMBEDDED_COMPONENT));
    assert_eq!(policy.instance_use(), InstanceUse::Reused);
}

#[test]
fn the_policy_has_the_same_bytes_from_every_folder() {
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("some where else");
    copy_of_the_workspace(&copy);
    let built = component_build::PolicyCrate {
        package: "cortex-policy-default",
        workspace: &copy,
        inside_target: &folder.path().join("target"),
    };
    let bytes = built.build().unwrap_or_else(|error| panic!("{error}"));
    assert!(bytes == EMBEDDED_COMPONENT, "{} and {} bytes", bytes.len(), EMBEDDED_COMPONENT.len());
    let text = String::from_utf8_lossy(&bytes).into_owned();
    for trace in ["some where else", env!("CARGO_MANIFEST_DIR"), "/.cargo/"] {
        assert!(!text.contains(trace), "the component names a folder of this machine: {trace}");
    }
}
