//! The policy of a running gateway, swapped: checked first, at once, without a decision lost, doubled or failed; and the
//! shadow policy, which decides beside it and changes nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cortex_mcp::edge::Edge;
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::files::MemoryDirectory;
use cortex_mcp::gateway::SwapError;
use cortex_mcp::policy::contract::Pending;
use cortex_mcp::policy::{
    DecidedBy, DecisionRecord, EMBEDDED_COMPONENT, InstanceUse, Policy, PolicyComponent, PolicyMetrics,
};
use cortex_mcp::trace::Line;
use support::policies::{contrary, faulty};
use support::traces::{decisions, dump, lines, replayed, writer};
use support::{Rig, seconds};

fn embedded() -> Arc<PolicyComponent> {
    Arc::new(PolicyComponent::embedded().unwrap())
}

/// Every decision numbered once, in the gateway and about its subject, with a result.
fn none_lost_doubled_or_failed(records: &[DecisionRecord]) {
    let mut sequences: Vec<u64> = records.iter().map(|record| record.sequence).collect();
    sequences.sort_unstable();
    assert!(sequences.iter().copied().eq(0..records.len() as u64), "a number is missing or there twice");
    let mut subjects: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for record in records {
        assert!(record.output.is_some() && record.faulted.is_none(), "{record:?}");
        subjects.entry(&record.subject).or_default().push(record.subject_sequence);
    }
    for (subject, mut numbers) in subjects {
        numbers.sort_unstable();
        assert!(numbers.iter().copied().eq(0..numbers.len() as u64), "{subject}: {numbers:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn under_a_thousand_decisions_a_second_a_hundred_swaps_lose_double_or_fail_none() {
    let mut rig = Rig::new(2);
    rig.trace = Some(MemoryDirectory::new());
    let served = rig.ready().await;
    let others = [contrary("nothing"), contrary("flush-after"), embedded()];
    let calls = async {
        let mut answered = 0;
        for _ in 0..5_000 {
            answered += u32::from(served.gateway.call("s1__echo", None).await.is_ok());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        answered
    };
    let swaps = async {
        let mut expected = Vec::new();
        for number in 0..100 {
            let next = &others[number % others.len()];
            let report = served.gateway.swap_policy(next.clone()).await.unwrap();
            expected.push((report.before.digest, report.after.digest));
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        expected
    };
    let (answered, expected) = tokio::join!(calls, swaps);
    assert_eq!((answered, served.tools()), (5_000, 6));
    served.gateway.shut_down().await;
    let status = served.gateway.status();
    assert_eq!((status.policy.faults, status.trace.unwrap().dropped), (0, 0));

    let folder = dump(rig.trace.as_ref().unwrap());
    let records = decisions(folder.path());
    assert!(records.len() >= 10_000, "{}", records.len());
    assert_eq!(records.len() as u64, served.gateway.status().policy.decisions);
    none_lost_doubled_or_failed(&records);
    // The record tells which digest decided what: between two swaps, the one that was deployed by the first.
    let (mut deployed, mut told) = (others[2].digest(), Vec::new());
    for entry in lines(folder.path()) {
        match entry.line {
            Line::Swap(note) => {
                assert_eq!(note.before, deployed);
                deployed = note.after.digest;
                told.push((note.before, note.after.digest));
            }
            Line::Decision(record) => assert_eq!(record.decided_by, DecidedBy::Deployed(deployed)),
            _ => {}
        }
    }
    assert_eq!(told, expected);
    let report = replayed(folder.path());
    assert_eq!((report.equal, report.different, report.skipped), (records.len() as u64, 0, 0));
}

#[test]
fn threads_that_decide_while_others_swap_lose_double_or_fail_none_and_the_record_knows_everyone_in_time() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let _entered = runtime.enter();
    let rig = Rig::new(0);
    let directory = MemoryDirectory::new();
    let trace = writer(Arc::new(directory.clone()), &rig.clock, 64 << 20);
    let edge =
        Edge { clock: rig.clock.clone(), entropy: Arc::new(VirtualEntropy::from_number(3)), http: rig.network.clone() };
    let components: Vec<_> = std::iter::once(embedded()).chain((0..VARIANTS).map(variant)).collect();
    let default = components[0].clone();
    let policy = Policy::new(default.clone(), default, edge, Arc::new(trace.clone()), PolicyMetrics::default());
    let pending = Pending { changes: 1, bytes: 1, oldest_ms: 1, batch_ms: 5, closing: false, write_through: false };
    let deciding = AtomicUsize::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (policy, pending, deciding) = (&policy, &pending, &deciding);
            scope.spawn(move || {
                let subject = policy.subject(format!("thread/{thread}"));
                for _ in 0..EACH {
                    policy.flush_after(&subject, *pending).unwrap();
                }
                deciding.fetch_sub(1, Ordering::SeqCst);
            });
        }
        // Two who swap at once, again and again for as long as anybody decides.
        for first in 0..2 {
            let (policy, components, deciding) = (&policy, &components, &deciding);
            scope.spawn(move || {
                for swaps in 0..SWAPS {
                    while policy.status().decisions < swaps * BETWEEN && deciding.load(Ordering::SeqCst) > 0 {
                        std::thread::yield_now();
                    }
                    policy.swap(components[(first + swaps as usize) % components.len()].clone());
                }
            });
        }
    });
    runtime.block_on(trace.close());
    assert_eq!(trace.status().dropped, 0);

    let folder = dump(&directory);
    let records = decisions(folder.path());
    assert_eq!(records.len(), THREADS * EACH);
    none_lost_doubled_or_failed(&records);
    // Each swap goes on where the one before ended, and whoever decides was named before.
    let (mut deployed, mut named) = (components[0].digest(), BTreeSet::from([components[0].digest()]));
    let mut swaps = 0;
    for entry in lines(folder.path()) {
        match entry.line {
            Line::Swap(note) => {
                assert_eq!(note.before, deployed);
                deployed = note.after.digest;
                named.insert(deployed);
                swaps += 1;
            }
            Line::Decision(record) => assert!(named.contains(&record.decided_by.digest()), "{record:?}"),
            _ => {}
        }
    }
    assert_eq!(swaps, 2 * SWAPS);
    let report = replayed(folder.path());
    assert_eq!(
        (report.equal, report.different, report.skipped),
        (records.len() as u64, 0, 0),
        "who is named decides so"
    );
}

/// Threads that decide, and decisions of each.
const THREADS: usize = 4;
const EACH: usize = 1_500;

/// Swaps of each who swaps, and decisions between two of them.
const SWAPS: u64 = 200;
const BETWEEN: u64 = 25;

/// Components that decide alike and are not the same.
const VARIANTS: u8 = 24;

/// The default with a section that means nothing.
fn variant(number: u8) -> Arc<PolicyComponent> {
    let mut bytes = EMBEDDED_COMPONENT.to_vec();
    bytes.extend([0, 3, 1, b'n', number]);
    Arc::new(PolicyComponent::load(&bytes, "variant", InstanceUse::Reused).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_faults_when_it_is_first_asked_is_not_deployed() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let before = served.gateway.status().policy.digest;
    for way in ["panic", "spin", "memo"] {
        let error = served.gateway.swap_policy(faulty(way, "refresh")).await.unwrap_err();
        assert!(matches!(&error, SwapError::Faults(faults) if faults.len() == 1), "{way}: {error}");
        assert!(error.to_string().contains("refresh") && error.to_string().contains("nothing was changed"), "{error}");
    }
    let status = served.gateway.status().policy;
    assert_eq!((status.digest, status.faults), (before, 0), "neither deployed nor counted against anybody");
}

#[tokio::test(start_paused = true)]
async fn every_policy_that_decided_before_can_be_gone_back_to() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let gateway = &served.gateway;
    assert!(matches!(gateway.swap_back(None).await, Err(SwapError::NothingBefore)));
    let (one, two) = (contrary("breaker"), contrary("nothing"));
    let default = gateway.status().policy.default_digest;
    assert_eq!(gateway.swap_policy(one.clone()).await.unwrap().before.digest, default);
    gateway.swap_policy(two.clone()).await.unwrap();
    let deployed = || gateway.status().policy.digest;
    assert_eq!(gateway.swap_back(None).await.unwrap().after.digest, one.digest());
    assert_eq!(deployed(), one.digest());
    assert_eq!(gateway.swap_back(Some(&two.digest().short(12))).await.unwrap().after.digest, two.digest());
    assert_eq!(gateway.swap_back(Some(&default.short(8))).await.unwrap().after.digest, default);
    let known: Vec<_> = gateway.former_policies().iter().map(|note| note.digest).collect();
    assert_eq!(known.last(), Some(&two.digest()));
    let unknown = gateway.swap_back(Some("ffff0000")).await.unwrap_err();
    assert!(unknown.to_string().contains("ffff0000") && unknown.to_string().contains(&default.short(12)), "{unknown}");
    assert_eq!(deployed(), default);
}

#[tokio::test(start_paused = true)]
async fn a_reload_applies_what_it_can_names_what_it_can_not_and_changes_nothing_after_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.wasm");
    std::fs::write(&file, support::policies::contrary_bytes("breaker")).unwrap();
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    let gateway = &served.gateway;
    rig.toml = format!(
        "name-length = 60\nca-file = \"other.pem\"\nrefresh-interval-ms = 60000\nmax-stale-ms = 5000\ncall-timeout-ms = 7000\n\
         allowed-hosts = [\"other.example\"]\n[policy]\nfile = {file:?}\noptions = {{ a = \"b\" }}"
    );
    let report = gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(report.needs_restart, ["caFile", "nameLength"]);
    assert_eq!(
        report.changed,
        ["allowedHosts", "callTimeoutMs", "maxStaleMs", "policy.file", "policy.options", "refreshIntervalMs"]
    );
    assert_eq!(report.swap.as_ref().unwrap().after.digest, gateway.status().policy.digest);
    let kept = (gateway.settings().name_length, gateway.settings().ca_file.clone());
    assert_eq!(kept, (46, None), "what needs a restart stays as it is");

    // The new settings reach the decisions of every subject, once each and at once.
    tokio::time::sleep(seconds(1)).await;
    let records = rig.records.records();
    for subject in ["connector/s1/refresh", "connector/s2/refresh", "service-map/refresh"] {
        let last = records.iter().rfind(|record| record.subject == subject).unwrap();
        let input = serde_json::to_value(&last.input).unwrap();
        assert_eq!(input["arguments"]["event"], "ConfigChanged", "{subject}");
        assert_eq!(input["arguments"]["config"]["interval_ms"], 60_000);
        assert_eq!(input["arguments"]["config"]["options"][0][1], "b");
    }
    let refused = served.modern().call("s1__echo", "{}").await.json();
    assert_eq!(refused["error"]["data"]["reason"], "breaker-open", "the new policy decides");
    let records = rig.records.records();
    let breaker = records.iter().rfind(|record| record.subject == "connector/s1/breaker").unwrap();
    assert_eq!(serde_json::to_value(&breaker.input).unwrap()["arguments"]["config"]["options"][0][0], "a");

    // A policy that is not there: nothing changes, not even what is right.
    let before = gateway.status().policy.digest;
    rig.toml = "refresh-interval-ms = 90000\n[policy]\nfile = \"/nowhere/policy.wasm\"".into();
    let error = gateway.reload(rig.settings()).await.unwrap_err();
    assert!(matches!(error, SwapError::Policy(_)) && error.to_string().contains("/nowhere/policy.wasm"), "{error}");
    assert_eq!(gateway.status().policy.digest, before);
    assert_eq!(gateway.settings().refresh_interval, seconds(60));

    // Back to what it was: the embedded default decides again.
    rig.toml = String::new();
    let report = gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(report.swap.unwrap().after.digest, gateway.status().policy.default_digest);
    assert_eq!(served.modern().call("s2__echo", "{}").await.code(), None);
    // And the same once more is no change at all.
    let report = gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((report.changed.len(), report.needs_restart.len(), report.swap), (0, 0, None));
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_decides_alike_differs_in_nothing() {
    let mut rig = Rig::new(2);
    rig.shadow = Some(embedded());
    let served = rig.ready().await;
    for _ in 0..20 {
        served.modern().call("s1__echo", "{}").await;
    }
    tokio::time::sleep(seconds(600)).await;
    served.gateway.shut_down().await;
    let status = served.gateway.status();
    let shadow = status.shadow.unwrap();
    assert_eq!((shadow.different, shadow.faults), (0, 0));
    assert_eq!(shadow.decisions + shadow.skipped, status.policy.decisions);
    assert!(shadow.decisions > 0);
}

#[tokio::test(start_paused = true)]
async fn a_shadow_that_decides_otherwise_is_counted_and_noted_and_never_obeyed() {
    let mut records = Vec::new();
    for shadow in [None, Some(contrary("breaker")), Some(faulty("panic", "breaker")), Some(faulty("spin", "breaker"))] {
        let mut rig = Rig::new(2);
        rig.trace = Some(MemoryDirectory::new());
        rig.shadow = shadow.clone();
        let served = rig.ready().await;
        for _ in 0..10 {
            assert_eq!(served.modern().call("s1__echo", "{}").await.code(), None);
        }
        tokio::time::sleep(seconds(400)).await;
        served.gateway.shut_down().await;
        let status = served.gateway.status();
        assert_eq!((status.policy.faults, status.policy.suspended), (0, false));
        records.push(rig.records.records());
        let Some(shadow) = status.shadow else { continue };
        assert_eq!(shadow.decisions + shadow.skipped, status.policy.decisions, "made or counted as skipped");
        assert!(shadow.different > 0, "{shadow:?}");
        let folder = dump(rig.trace.as_ref().unwrap());
        let noted = lines(folder.path()).into_iter().filter(|entry| matches!(entry.line, Line::Shadow(_))).count();
        assert_eq!(noted as u64, shadow.different);
        let metric = served.metric("mcp_policy_shadow_different_total");
        assert_eq!(metric, Some(shadow.different as f64));
        let report = replayed(folder.path());
        assert_eq!((report.equal, report.different), (report.records, 0), "what was decided is the active policy's");
    }
    let [without, with @ ..] = records.as_slice() else { panic!("four runs") };
    for with in with {
        assert_eq!(with, without, "every decision is the same with a shadow and without one");
    }
}
