//! The sandbox: what is no policy is refused by name, a policy that faults costs one decision, and the embedded one is
//! what the sources say, from whichever folder it is built.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::path::Path;
use std::sync::Arc;

use cortex_mcp::gateway::{Gateway, StartError};
use cortex_mcp::policy::{
    DecidedBy, EMBEDDED_COMPONENT, Fault, Function, InstanceUse, PolicyComponent, PolicyError, limits,
};
use support::policies::{component_build, contrary, faulty};
use support::{Rig, seconds};

const HEADER: [u8; 8] = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];

fn refusal(bytes: &[u8]) -> PolicyError {
    PolicyComponent::load(bytes, "x", InstanceUse::Fresh).unwrap_err()
}

/// A component that imports an interface with these functions, none of which takes or gives anything.
fn importing(interface: &str, functions: &[&str]) -> Vec<u8> {
    let length = |text: &str| u8::try_from(text.len()).unwrap();
    // An instance type: for each function its type, and its export.
    let mut kind = vec![1, 0x42, u8::try_from(2 * functions.len()).unwrap()];
    for (number, function) in (0u8..).zip(functions) {
        kind.extend([1, 0x40, 0, 1, 0, 4, 0, length(function)]);
        kind.extend(function.bytes());
        kind.extend([1, number]);
    }
    let mut import = vec![1, 0, length(interface)];
    import.extend(interface.bytes());
    import.extend([5, 0]);
    let mut component = HEADER.to_vec();
    for (section, content) in [(7, kind), (10, import)] {
        component.extend([section, u8::try_from(content.len()).unwrap()]);
        component.extend(content);
    }
    component
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
    assert!(matches!(refusal(&huge), PolicyError::TooLarge { .. }));
    let mut cut = EMBEDDED_COMPONENT.to_vec();
    cut.truncate(cut.len() / 2);
    assert!(matches!(refusal(&cut), PolicyError::Compile { .. }));
    let missing = refusal(&HEADER);
    assert!(matches!(&missing, PolicyError::MissingExport { name } if name == "cortex:policy/scheduling"), "{missing}");
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
            assert_eq!(record.fault.as_ref(), Some(&expected), "{way}");
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
async fn endless_recursion_and_hunger_for_memory_end_in_a_fault() {
    for way in ["recurse", "allocate"] {
        let mut rig = Rig::new(1);
        rig.policy = Some(faulty(way, "breaker"));
        let served = rig.ready().await;
        assert_eq!(served.modern().call("s1__echo", "{}").await.code(), None);
        let fault = served.gateway.status().policy.last_fault;
        assert!(fault.is_some(), "{way}");
    }
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
    for part in ["Cargo.toml", "Cargo.lock", "guest", "wit", "host", "tests", "benches"] {
        copy_all(&Path::new(env!("CARGO_MANIFEST_DIR")).join(part), &copy.join(part));
    }
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

fn copy_all(from: &Path, to: &Path) {
    if from.is_dir() {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let name = entry.unwrap().file_name();
            copy_all(&from.join(&name), &to.join(&name));
        }
    } else if from.exists() {
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        std::fs::copy(from, to).unwrap();
    }
}
