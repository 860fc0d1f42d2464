//! Policies by other authors: a whole one, without a line of the default's, runs a gateway through everything that
//! happens to one; and a middleware, stacked on the default, changes one thing and nothing else.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use cortex_mcp::gateway::SyncKind;
use cortex_mcp::model::{BootId, BootMs, ListState, Moment, WallMs};
use cortex_mcp::policy::contract::{
    CacheConfig, CacheEvent, CacheScope, CacheState, ClockState, Entry, FetchedEvent, FoundEntry, Hlc, Instant,
    case_name,
};
use cortex_mcp::policy::stack::{Layer, StackError, stack};
use cortex_mcp::policy::{
    DecidedBy, EMBEDDED_COMPONENT, Function, Input, InstanceUse, Output, PolicyComponent, PolicyError,
};
use support::contract::upkeep_config;
use support::policies::{CAP_REFRESH, CONSERVATIVE, deployed};
use support::{MapAnswer, Rig, seconds, tools_bytes};

/// Every decision was made by this policy, without a fault and without a correction.
fn all_by(rig: &Rig, policy: &PolicyComponent) {
    let records = rig.records.records();
    assert!(!records.is_empty());
    for record in records {
        assert_eq!(record.decided_by, DecidedBy::Deployed(policy.digest()), "{record:?}");
        assert_eq!((&record.faulted, record.corrections.len()), (&None, 0), "{record:?}");
    }
}

// ---- a whole policy -------------------------------------------------------------------------------------------------

#[test]
fn the_conservative_policy_is_a_page_of_rust_and_knows_nothing_of_the_default() {
    let source = include_str!("policies/conservative/src/lib.rs");
    assert!(source.lines().count() < 300, "{} lines", source.lines().count());
    let manifest = include_str!("policies/conservative/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]\n").unwrap();
    let names: Vec<&str> =
        dependencies.lines().filter_map(|line| line.split_once(" = ")).map(|(name, _)| name).collect();
    assert_eq!(names, ["wit-bindgen"]);
}

#[tokio::test(start_paused = true)]
async fn the_conservative_policy_brings_a_gateway_through_outage_and_restart() {
    let policy = deployed(&CONSERVATIVE, "conservative");
    let mut rig = Rig::new(4);
    rig.policy = Some(policy.clone());

    // Cold start.
    let served = rig.ready().await;
    assert_eq!(served.tools(), 12);
    for client in [served.modern(), served.legacy()] {
        let sum = client.call("s3__add", r#"{"a":40,"b":2}"#).await;
        assert_eq!(sum.result()["structuredContent"]["sum"], 42);
    }

    // Steady: patient, and never dearer than the default's floor.
    let before = rig.requests();
    tokio::time::sleep(seconds(1_200)).await;
    let steady = rig.requests() - before;
    assert!(steady > 0 && steady < 5 * 4 * 6, "{steady} requests in twenty minutes");

    // A change that is pushed is followed, and so is a new map.
    rig.server(1).set_tools(5);
    rig.publish(|map| map.connectors[1].enabled = false);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    served.until("the change", seconds(60), |served| (served.tools_of("s1"), served.tools()) == (5, 11)).await;

    // Outage: everything known is served, and nobody is hammered.
    let list = tools_bytes(&served.modern().list().await.body);
    let asked = served.wire.count();
    rig.stop_everything();
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!(tools_bytes(&served.modern().list().await.body), list);
    assert_eq!(served.connector("s1").unwrap().state, ListState::StaleError);
    let tried = served.wire.count() - asked;
    assert!((4..400).contains(&tried), "{tried} requests in an hour of outage");

    // Recovery.
    rig.servers.iter().for_each(|upstream| upstream.server.set_tools(6));
    rig.revive_everything();
    served.until("the recovery", seconds(1_200), |served| served.tools() == 18).await;
    let list = tools_bytes(&served.modern().list().await.body);
    served.gateway.shut_down().await;

    // Restart, with nobody there.
    rig.stop_everything();
    let again = rig.start().await;
    assert_eq!((tools_bytes(&again.modern().list().await.body), again.wire.count()), (list, 0));
    assert_eq!(again.gateway.status().policy.digest, policy.digest());
    again.gateway.shut_down().await;

    // Last known good ends somewhere.
    rig.clock.suspend(seconds(2 * 86_400));
    rig.clock.reboot();
    assert_eq!(rig.start().await.tools(), 0);
    all_by(&rig, &policy);
}

#[tokio::test(start_paused = true)]
async fn the_conservative_policy_refuses_a_map_that_is_older_than_the_one_it_took() {
    let mut rig = Rig::new(2);
    rig.policy = Some(deployed(&CONSERVATIVE, "conservative"));
    let served = rig.ready().await;
    let old = rig.document.signed();
    rig.publish(|map| map.connectors[1].enabled = false);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(served.tools(), 3);
    rig.map.answer(MapAnswer::Document(old));
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(served.tools(), 3, "the older map came back into force");
    let failure = served.gateway.status().service_map.unwrap().last_failure.unwrap();
    assert_eq!(failure.class, "rollback");
}

/// A moment of the tests below.
const NOW: Moment = Moment { wall: WallMs(1_767_225_600_000), boot: BootMs(50_000), boot_id: BootId(7) };

#[test]
fn the_conservative_policy_takes_nothing_expired_contradictory_or_from_the_future() {
    let policy = deployed(&CONSERVATIVE, "conservative");
    let config = CacheConfig { boot_id: 7, ttl_min_ms: 1_000, ttl_max_ms: 3_600_000, ..upkeep_config().cache };
    let advance = |state: &CacheState, digest: &str, version: u64, expiry: u64| {
        let event = FetchedEvent {
            digest: digest.into(),
            etag: Some("tag".into()),
            key_id: Some("a".into()),
            version: Some(version),
            signed_expiry_wall_ms: Some(expiry),
            ttl_ms: Some(600_000),
            scope: CacheScope::Public,
            credential: String::new(),
            requested: Instant::from(NOW),
            key_set: vec!["a".into()],
        };
        let event = CacheEvent::Fetched(event);
        let input = Input::Advance { config: config.clone(), state: state.clone(), event };
        let Output::Advance(decision) = policy.decide(&input, NOW, 1).unwrap() else { unreachable!() };
        (case_name(&decision.reason), decision.state)
    };
    let wall = NOW.wall.0;
    let (reason, held) = advance(&CacheState::initial(), "one", wall, wall + 60_000);
    assert_eq!(reason, "newer");
    // Fresh no longer than it is signed for.
    assert_eq!(held.value.as_ref().unwrap().fresh_ms, 60_000);
    for (digest, version, expiry, expected) in [
        ("one", wall, wall + 60_000, "same-again"),
        ("two", wall, wall + 60_000, "equivocation"),
        ("two", wall - 1, wall + 60_000, "rollback"),
        ("two", wall + 300_001, wall + 999_999, "from-the-future"),
        ("two", wall + 1, wall, "refused-expired"),
        ("two", wall + 1, wall + 1, "newer"),
    ] {
        let (reason, state) = advance(&held, digest, version, expiry);
        assert_eq!(reason, expected, "{digest} {version} {expiry}");
        let taken = ["newer", "same-again"].contains(&expected);
        assert_eq!(state.failing.is_none(), taken, "{expected}: a refusal counts as a failure");
        assert_eq!(state.value.unwrap().digest, if taken { digest } else { "one" }, "{expected}");
    }
}

fn entry(name: &str, wall_ms: u64, writer: &str, digest: &str) -> Entry {
    let stamp = Hlc { wall_ms, counter: 0 };
    Entry { name: name.into(), stamp, writer: writer.into(), deleted: digest.is_empty(), digest: digest.into() }
}

/// What a policy decides about a registry, whatever the order of the arguments.
fn registry_decisions(policy: &PolicyComponent) -> Vec<Output> {
    let (a, b, c) = (entry("n", 5, "a", "one"), entry("n", 6, "a", "two"), entry("n", 6, "b", ""));
    let other = entry("m", 9, "a", "one");
    let sets = [vec![a.clone(), other.clone()], vec![b.clone(), c.clone()], vec![c, a.clone(), b], vec![other, a]];
    let mut decisions = Vec::new();
    for ours in &sets {
        for theirs in &sets {
            decisions.push(Input::Merge { ours: ours.clone(), theirs: theirs.clone() });
        }
    }
    let found = |name: &str, digest: &str, stamp: Option<u64>| FoundEntry {
        name: name.into(),
        digest: digest.into(),
        stamp: stamp.map(|wall_ms| Hlc { wall_ms, counter: 0 }),
        writer: stamp.map(|_| "other".into()),
    };
    let late = NOW.wall.0 + 300_001;
    for documents in [
        vec![],
        vec![found("kept", "one", None), found("new", "x", None)],
        vec![found("kept", "two", None), found("gone", "back", None), found("theirs", "x", Some(late))],
        vec![found("kept", "two", Some(3)), found("gone", "back", Some(99))],
    ] {
        let base = vec![entry("kept", 5, "a", "one"), entry("gone", 6, "a", ""), entry("dropped", 7, "a", "x")];
        let clock = ClockState { last: Hlc { wall_ms: NOW.wall.0, counter: u32::MAX }, memo: vec![1] };
        decisions.push(Input::Stamp { clock: clock.clone() });
        decisions.push(Input::Adopt { clock, writer: "me".into(), base, found: documents });
    }
    decisions.iter().map(|input| without_order(policy.decide(input, NOW, 1).unwrap())).collect()
}

/// The same without the order in which an adoption gave its fresh stamps: that is for the policy to choose.
fn without_order(mut output: Output) -> Output {
    if let Output::Adopt(decision) = &mut output {
        let mut given: Vec<Hlc> = Vec::new();
        for entry in decision.entries.iter_mut().filter(|entry| entry.writer == "me") {
            assert!(!given.contains(&entry.stamp), "given twice: {entry:?}");
            given.push(std::mem::replace(&mut entry.stamp, decision.state.last));
            decision.from_the_future.retain(|name| *name != entry.name);
        }
    }
    output
}

#[test]
fn stamps_adoptions_and_merges_of_the_conservative_policy_are_those_of_the_default() {
    let default = PolicyComponent::embedded().unwrap();
    assert_eq!(registry_decisions(&deployed(&CONSERVATIVE, "conservative")), registry_decisions(&default));
}

// ---- middleware -----------------------------------------------------------------------------------------------------

fn cap_refresh() -> Layer {
    Layer::new("cap-refresh", CAP_REFRESH.clone())
}

/// The middleware on the default, so many times.
fn stacked(layers: usize) -> Arc<PolicyComponent> {
    deployed(&stack(&Layer::embedded(), &vec![cap_refresh(); layers]).unwrap(), "stacked")
}

#[test]
fn a_stack_is_an_ordinary_policy_of_the_same_bytes_each_time() {
    let default = PolicyComponent::embedded().unwrap();
    for layers in [1, 2, 5] {
        let policy = stacked(layers);
        assert_eq!(policy.digest(), stacked(layers).digest());
        let sorted = |mut names: Vec<String>| {
            names.sort();
            names
        };
        let (inspection, plain) = (policy.inspection(), default.inspection());
        assert_eq!(sorted(inspection.exports.clone()), sorted(plain.exports.clone()), "{layers}");
        assert_eq!(sorted(inspection.imports.clone()), sorted(plain.imports.clone()), "{layers}");
    }
    // What comes out can be stacked on.
    let once = Layer::new("once", stack(&Layer::embedded(), &[cap_refresh()]).unwrap());
    deployed(&stack(&once, &[cap_refresh()]).unwrap(), "stacked");
}

/// The instants at which the servers of a rig were asked, one list each, over an hour of virtual time.
async fn paces(policy: Option<Arc<PolicyComponent>>, floor_ms: Option<u64>) -> (Rig, BTreeMap<String, usize>) {
    let mut rig = Rig::new(3);
    rig.policy = policy;
    rig.toml = floor_ms.map_or_else(String::new, |floor| format!("[policy]\noptions = {{ floor-ms = \"{floor}\" }}"));
    let served = rig.ready().await;
    let asked = served.wire.count();
    tokio::time::sleep(seconds(3_600)).await;
    assert_eq!(served.tools(), 9);
    let mut paces = BTreeMap::new();
    for sent in served.wire.sent().iter().skip(asked) {
        *paces.entry(sent.origin()).or_default() += 1;
    }
    served.gateway.shut_down().await;
    (rig, paces)
}

#[tokio::test(start_paused = true)]
async fn a_stacked_floor_is_kept_and_everything_else_is_as_the_default_decides() {
    let (plain_rig, plain) = paces(None, None).await;
    let decisions = |rig: &Rig| {
        let records = rig.records.records();
        records.into_iter().map(|record| (record.subject, record.input, record.output)).collect::<Vec<_>>()
    };
    // Without its option it changes nothing, however often it is stacked.
    for layers in [1, 2] {
        let policy = stacked(layers);
        let (rig, same) = paces(Some(policy.clone()), None).await;
        assert_eq!(same, plain, "{layers}");
        assert!(decisions(&rig) == decisions(&plain_rig), "{layers}: other decisions than the default's");
        all_by(&rig, &policy);
    }
    // Twenty minutes apart, instead of every five.
    let floor_ms = 1_200_000;
    for layers in [1, 2] {
        let policy = stacked(layers);
        let (rig, slow) = paces(Some(policy.clone()), Some(floor_ms)).await;
        all_by(&rig, &policy);
        for (origin, requests) in &plain {
            let slower = slow.get(origin).copied().unwrap_or_default();
            assert!(slower * 2 < *requests && slower > 0, "{origin}: {slower} instead of {requests}");
        }
        let mut refreshes = 0;
        for record in rig.records.records() {
            if let Some(Output::Refresh(decision)) = &record.output
                && let (Some(at), Some(end)) = (decision.run_at_boot_ms, decision.state.last_end_boot_ms)
            {
                assert!(at >= end + floor_ms, "{record:?}");
                refreshes += 1;
            }
        }
        assert!(refreshes > 0);
        // Every decision but the pace is the default's own, made of the same arguments.
        let default = PolicyComponent::embedded().unwrap();
        for record in rig.records.records() {
            if record.input.function() != Function::Refresh {
                let moment = record.moment;
                let output = default.decide(&record.input, moment, record.seed).unwrap();
                assert_eq!(Some(output), record.output, "{}", record.subject);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_force_passes_a_stacked_floor() {
    let mut rig = Rig::new(1);
    rig.policy = Some(stacked(1));
    rig.toml = "[policy]\noptions = { floor-ms = \"86400000\" }".into();
    let served = rig.ready().await;
    rig.server(1).set_tools(7);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(served.tools(), 7);
}

/// A component that imports an instance of this name, with nothing in it, and exports nothing.
fn importing(interface: &str) -> Vec<u8> {
    let mut component = vec![0, b'a', b's', b'm', 0x0d, 0, 1, 0, 7, 3, 1, 0x42, 0, 10];
    let length = u8::try_from(interface.len()).unwrap();
    component.extend([length + 5, 1, 0, length]);
    component.extend(interface.bytes());
    component.extend([5, 0]);
    component
}

#[test]
fn what_can_not_be_stacked_is_refused_by_name() {
    let on = |base: &Layer, top: Layer| stack(base, &[top]).unwrap_err();
    let default = Layer::embedded();
    let nothing = stack(&default, &[]).unwrap_err();
    assert!(matches!(nothing, StackError::Nothing), "{nothing}");

    for bytes in [&b"garbage"[..], &[0, b'a', b's', b'm', 1, 0, 0, 0]] {
        for error in [on(&default, Layer::new("mine.wasm", bytes)), on(&Layer::new("mine.wasm", bytes), cap_refresh())]
        {
            let StackError::Form { layer, reason } = &error else { panic!("{error}") };
            assert!(layer == "mine.wasm" && matches!(**reason, PolicyError::NotAComponent { .. }), "{error}");
        }
    }
    let mut cut = CAP_REFRESH.clone();
    cut.truncate(cut.len() / 2);
    let error = on(&default, Layer::new("cut.wasm", cut));
    assert!(matches!(&error, StackError::Invalid { layer, .. } if layer == "cut.wasm"), "{error}");
    let empty = [0, b'a', b's', b'm', 0x0d, 0, 1, 0];
    let error = on(&Layer::new("empty", empty), cap_refresh());
    let StackError::MissingExport { layer, interface } = &error else { panic!("{error}") };
    assert_eq!((layer.as_str(), interface.as_str()), ("empty", "cortex:policy/scheduling"), "{error}");
    let error = on(&default, Layer::new("empty", empty));
    assert!(matches!(&error, StackError::DecidesNothing { layer } if layer == "empty"), "{error}");
    let error = on(&default, Layer::new("whole", CONSERVATIVE.clone()));
    assert!(matches!(&error, StackError::AsksForNothing { layer } if layer == "whole"), "{error}");
    assert!(error.to_string().contains("--on"), "{error}");
    let error = on(&cap_refresh(), cap_refresh());
    assert!(matches!(&error, StackError::BaseIsMiddleware { layer, .. } if layer == "cap-refresh"), "{error}");
    for (interface, other_version) in [("wasi:cli/stdout@0.2.0", false), ("cortex:policy/clock@0.2.0", true)] {
        let error = on(&default, Layer::new("foreign", importing(interface)));
        match &error {
            StackError::ForbiddenImport { layer, import } => {
                assert_eq!((layer.as_str(), import.as_str()), ("foreign", interface))
            }
            StackError::OtherVersion { interface: named, .. } => {
                assert!(other_version && named == interface, "{error}")
            }
            _ => panic!("{error}"),
        }
    }
    // A middleware alone is no policy.
    let alone = PolicyComponent::load(&CAP_REFRESH, "x", InstanceUse::Fresh).unwrap_err();
    assert!(matches!(&alone, PolicyError::ForbiddenImport { .. }), "{alone}");
    assert_ne!(EMBEDDED_COMPONENT, &CAP_REFRESH[..]);
}
