//! Reloading a gateway, and going back to a former policy: whole or not at all, whatever is wrong and whenever whoever
//! asked goes away; and what was given by an embedder stays.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use cortex_mcp::config::ConfigError;
use cortex_mcp::gateway::{Gateway, StartError, SwapError};
use cortex_mcp::policy::{EMBEDDED_COMPONENT, EMBEDDED_FAMILY, InstanceUse, PolicyComponent};
use support::policies::{contrary, contrary_bytes, deployed};
use support::{Rig, seconds};
use tokio::task::coop;

const TOKEN: &str =
    "[[token]]\nname = \"agent\"\nsha256 = \"9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08\"\n";

#[tokio::test(start_paused = true)]
async fn a_reload_that_would_open_a_listener_to_everybody_changes_nothing() {
    let mut rig = Rig::new(1);
    rig.toml = format!("listen = \"0.0.0.0:18533\"\n{TOKEN}");
    let served = rig.ready().await;
    let gateway = &served.gateway;
    assert_eq!(served.modern().list().await.status, 401);
    let before = gateway.settings();
    // By itself this is a configuration like any other; with the address that stays, it is none.
    rig.toml = "listen = \"127.0.0.1:18533\"\nmax-stale-ms = 5000".into();
    let error = gateway.reload(rig.settings()).await.unwrap_err();
    assert!(matches!(error, SwapError::Settings(ConfigError::TokensNeeded { .. })), "{error}");
    for part in ["restart", "0.0.0.0:18533", "[[token]]"] {
        assert!(error.to_string().contains(part), "{part} in {error}");
    }
    assert!(Arc::ptr_eq(&before, &gateway.settings()), "nothing was changed");
    assert_eq!(served.modern().list().await.status, 401);
    // With tokens it can be put in force; the address waits for a restart.
    rig.toml += &format!("\n{TOKEN}");
    let report = gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((report.changed, report.needs_restart), (vec!["maxStaleMs".to_owned()], vec!["listen".to_owned()]));
    assert_eq!(gateway.settings().listen, before.listen);
    assert_eq!(served.modern().list().await.status, 401);
}

#[tokio::test(start_paused = true)]
async fn settings_are_asked_whether_they_go_together_wherever_they_came_from() {
    let mut settings = Rig::new(0).settings();
    settings.validate().unwrap();
    settings.listen = "192.0.2.7:1".parse().unwrap();
    assert!(matches!(settings.validate(), Err(ConfigError::TokensNeeded { .. })));
    let started = Gateway::builder(settings.clone()).start().await;
    assert!(matches!(started, Err(StartError::Config(ConfigError::TokensNeeded { .. }))));
    settings.listen = "[::1]:1".parse().unwrap();
    settings.secrets.signature_keys = None;
    assert!(matches!(settings.validate(), Err(ConfigError::MissingSignatureKey)));
}

/// Leaves the task so many steps of this turn: the next one that would be too many waits for another turn.
fn leave(steps: usize, context: &mut Context<'_>) {
    const TURN: usize = 128;
    for _ in steps..TURN {
        assert!(pin!(coop::consume_budget()).poll(context).is_ready());
    }
}

#[tokio::test(start_paused = true)]
async fn a_reload_that_is_dropped_anywhere_has_changed_everything_or_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for steps in 1..=4 {
        let mut rig = Rig::new(2);
        let served = rig.ready().await;
        let gateway = &served.gateway;
        let (settings, policy) = (gateway.settings(), gateway.status().policy.digest);
        let file = folder.path().join(format!("{steps}.wasm"));
        std::fs::write(&file, contrary_bytes("breaker")).unwrap();
        rig.toml = format!("concurrency = 1\nrefresh-interval-ms = 60000\n[policy]\nfile = {file:?}");
        {
            let mut reload = pin!(gateway.reload(rig.settings()));
            // Dropped at the first moment at which anything of it can be seen.
            poll_fn(|context| {
                leave(steps, context);
                let ended = reload.as_mut().poll(context).map(|reloaded| drop(reloaded.unwrap()));
                let seen = !Arc::ptr_eq(&settings, &gateway.settings()) || policy != gateway.status().policy.digest;
                if seen { Poll::Ready(()) } else { ended }
            })
            .await;
        }
        assert_eq!(gateway.settings().concurrency, Some(1), "{steps}");
        assert_ne!(gateway.status().policy.digest, policy, "{steps}: the settings without the policy");
        tokio::time::sleep(seconds(1)).await;
        let records = rig.records.records();
        for subject in ["connector/s1/refresh", "service-map/refresh"] {
            let last = records.iter().rfind(|record| record.subject == subject).unwrap();
            let input = serde_json::to_value(&last.input).unwrap();
            assert_eq!(input["arguments"]["config"]["interval_ms"], 60_000, "{steps}: {subject}");
        }
        // The admission has followed too: its next decision has the new number.
        served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
        let records = rig.records.records();
        let last = records.iter().rfind(|record| record.subject == "admission/concurrency").unwrap();
        assert_eq!(serde_json::to_value(&last.input).unwrap()["arguments"]["config"]["fixed"], 1, "{steps}");
        // And whoever reloads next finds nobody in its way.
        assert!(gateway.reload(rig.settings()).await.unwrap().changed.is_empty());
        served.gateway.shut_down().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_the_builder_was_given_is_left_alone_unless_the_settings_name_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.wasm");
    std::fs::write(&file, contrary_bytes("breaker")).unwrap();
    let mut rig = Rig::new(1);
    let given = contrary("nothing");
    rig.policy = Some(given.clone());
    let served = rig.ready().await;
    let gateway = &served.gateway;
    let decides = || gateway.status().policy.digest;
    rig.toml = "max-stale-ms = 5000".into();
    let report = gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((report.changed, report.swap), (vec!["maxStaleMs".to_owned()], None));
    assert_eq!(decides(), given.digest());
    // Nor is one that the embedder has deployed since.
    let other = contrary("lookup");
    gateway.swap_policy(other.clone()).await.unwrap();
    rig.toml = "max-stale-ms = 6000".into();
    assert_eq!((gateway.reload(rig.settings()).await.unwrap().swap, decides()), (None, other.digest()));
    // A file that the settings name decides as long as they do.
    rig.toml = format!("[policy]\nfile = {file:?}");
    assert!(gateway.reload(rig.settings()).await.unwrap().swap.is_some());
    assert!(![given.digest(), other.digest()].contains(&decides()));
    rig.toml = String::new();
    let swap = gateway.reload(rig.settings()).await.unwrap().swap.unwrap();
    assert_eq!((swap.after.digest, decides()), (given.digest(), given.digest()));
}

fn families(gateway: &Gateway) -> Vec<String> {
    gateway.former_policies().into_iter().map(|note| note.family).collect()
}

#[tokio::test(start_paused = true)]
async fn the_beginning_of_a_digest_must_be_long_enough_and_mean_one_policy() {
    let rig = Rig::new(0);
    let served = rig.ready().await;
    let gateway = &served.gateway;
    let bytes = contrary_bytes("nothing");
    let as_family = |family: &str| deployed(&bytes, family);
    let digest = as_family("one").digest();
    gateway.swap_policy(as_family("one")).await.unwrap();
    for asked in ["", "f", &digest.short(5), "not hexadecimal", "../../../../"] {
        let error = gateway.swap_back(Some(asked)).await.unwrap_err();
        assert!(matches!(error, SwapError::NoDigest { .. }), "{asked}: {error}");
        assert!(error.to_string().contains("first 6 or more"), "{error}");
    }
    let unknown = gateway.swap_back(Some("ffff0000")).await.unwrap_err();
    let SwapError::Unknown { known, .. } = &unknown else { panic!("{unknown}") };
    assert_eq!(known.len(), 2, "the default and the deployed one, once each: {unknown}");

    gateway.swap_policy(as_family("two")).await.unwrap();
    gateway.swap_policy(as_family("three")).await.unwrap();
    assert_eq!(families(gateway), [EMBEDDED_FAMILY, "one", "two"]);
    let error = gateway.swap_back(Some(&digest.short(6).to_uppercase())).await.unwrap_err();
    let SwapError::Ambiguous { found, .. } = &error else { panic!("{error}") };
    assert_eq!(found.iter().map(|note| note.family.as_str()).collect::<Vec<_>>(), ["one", "two"]);
    assert!(error.to_string().contains("--family one") && error.to_string().contains("--family two"), "{error}");
    assert_eq!(gateway.status().policy.family, "three", "nobody was taken silently");
    let report = gateway.swap_to(&digest.short(6), "one", InstanceUse::Fresh).await.unwrap();
    assert_eq!(report.after.family, "one");
    let error = gateway.swap_to(&digest.short(6), "one", InstanceUse::Reused).await.unwrap_err();
    assert!(matches!(error, SwapError::Unknown { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn the_same_bytes_deployed_otherwise_can_be_gone_back_from_and_who_decides_is_no_former_one() {
    let rig = Rig::new(0);
    let served = rig.ready().await;
    let gateway = &served.gateway;
    let embedded = |family, instances| Arc::new(PolicyComponent::load(EMBEDDED_COMPONENT, family, instances).unwrap());
    let deployed = || (gateway.status().policy.family, gateway.policy().deployed().instance_use());
    let (usual, mine) = ((EMBEDDED_FAMILY.to_owned(), InstanceUse::Reused), ("mine".to_owned(), InstanceUse::Fresh));
    gateway.swap_policy(embedded("mine", InstanceUse::Fresh)).await.unwrap();
    assert_eq!((deployed(), families(gateway)), (mine.clone(), vec![usual.0.clone()]));
    gateway.swap_back(None).await.unwrap();
    assert_eq!((deployed(), families(gateway)), (usual.clone(), vec![mine.0.clone()]));
    gateway.swap_back(None).await.unwrap();
    assert_eq!((deployed(), families(gateway)), (mine.clone(), vec![usual.0.clone()]));
    // Another use of the instances is another policy too.
    gateway.swap_policy(embedded("mine", InstanceUse::Reused)).await.unwrap();
    assert_eq!(families(gateway), [usual.0.clone(), mine.0.clone()]);
    gateway.swap_back(None).await.unwrap();
    assert_eq!(deployed(), mine);
    // The same once more is no other policy.
    gateway.swap_policy(embedded("mine", InstanceUse::Fresh)).await.unwrap();
    assert_eq!(families(gateway), [usual.0, mine.0]);
    let formers = serde_json::to_value(gateway.status()).unwrap()["formerPolicies"].as_array().unwrap().clone();
    assert_eq!(formers.len(), 2);
    assert!(!formers.iter().any(|former| former["family"] == "mine" && former["instances"] == "fresh"), "{formers:?}");
}

#[tokio::test(start_paused = true)]
async fn the_fields_of_reports_are_written_as_those_of_a_check_are() {
    let rig = Rig::new(0);
    let served = rig.ready().await;
    let report = served.gateway.swap_policy(contrary("nothing")).await.unwrap();
    let json = serde_json::to_value(report).unwrap();
    assert!(json["dry_run"]["fuel_permille_max"].is_u64(), "{json}");
    let report = serde_json::to_value(served.gateway.reload(rig.settings()).await.unwrap()).unwrap();
    assert!(report["needs_restart"].is_array() && report["swap"]["dry_run"].is_object(), "{report}");
}

#[tokio::test]
async fn compiling_at_the_start_leaves_the_embedders_other_tasks_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("policy.wasm");
    std::fs::write(&file, contrary_bytes("breaker")).unwrap();
    let mut rig = Rig::new(0);
    let wrong = folder.path().join("wrong.wasm");
    std::fs::write(&wrong, "no component").unwrap();
    rig.toml = format!("[policy]\nfile = {file:?}\nshadow = {wrong:?}");
    let (_, builder) = rig.builder(&rig.network, &rig.state);
    let mut start = pin!(builder.start());
    // The policy is compiled before the shadow turns out to be none. Its first step, on the only thread of this runtime,
    // ends before that.
    let first = poll_fn(|context| Poll::Ready(start.as_mut().poll(context).is_ready())).await;
    assert!(!first);
    let error = start.await.unwrap_err();
    assert!(error.to_string().contains("wrong.wasm"), "{error}");
}
