//! A component that takes minutes to compile: it is given up, keeps others from being compiled as long as it takes the
//! compiler, and holds nothing else up. In a test binary of its own, because it goes on until the process ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::time::Duration;

use cortex_mcp::policy::{DecidedBy, InstanceUse, PolicyComponent, PolicyError};
use support::hostile::{TextPolicy, tangled_function};
use support::policies::contrary;
use support::{Rig, seconds};

/// How often a tool is called while the compiler is busy.
const CALLS: usize = 20;

/// Each within the bounds on a function, and some seconds of a compiler's work.
const SLOW_FUNCTIONS: usize = 200;

fn load_within(bytes: &[u8], limit: Duration) -> Result<PolicyComponent, PolicyError> {
    PolicyComponent::load_within(bytes, "slow", InstanceUse::Fresh, limit)
}

fn slow(functions: usize, size: usize) -> Vec<u8> {
    TextPolicy::new().fields(&tangled_function(size, size).repeat(functions)).bytes()
}

#[tokio::test(start_paused = true)]
async fn a_component_that_takes_minutes_to_compile_is_given_up_and_holds_nothing_up() {
    // One that takes longer than it may, but not for ever: when it has ended, others are compiled again.
    let bytes = slow(4, 100);
    assert!(matches!(load_within(&bytes, Duration::ZERO), Err(PolicyError::CompileTime { limit: Duration::ZERO })));
    loop {
        match load_within(&bytes, seconds(600)) {
            Err(PolicyError::CompileBusy) => std::thread::sleep(Duration::from_millis(10)),
            loaded => break drop(loaded.unwrap()),
        }
    }

    let mut rig = Rig::new(2);
    let policy = contrary("nothing");
    rig.policy = Some(policy.clone());
    let served = rig.ready().await;
    let before = served.gateway.status().policy;

    let limit = Duration::from_millis(50);
    let error = load_within(&slow(SLOW_FUNCTIONS, 550), limit).unwrap_err();
    assert!(matches!(error, PolicyError::CompileTime { limit: told } if told == limit), "{error:?}");
    assert_eq!(error.to_string(), "the policy did not compile within 50ms and was given up");

    let good = policy.bytes().clone();
    for _ in 0..CALLS {
        // A good one has to wait, and is told so at once.
        let error = load_within(&good, seconds(600)).unwrap_err();
        assert!(matches!(error, PolicyError::CompileBusy), "{error:?}");
        assert!(error.to_string().contains("try again"), "{error}");
        for tool in ["s1__echo", "s2__echo"] {
            assert_eq!(served.modern().call(tool, "{}").await.code(), None);
        }
    }
    tokio::time::sleep(seconds(700)).await;
    assert!(matches!(load_within(&good, seconds(600)), Err(PolicyError::CompileBusy)), "it is still being compiled");

    // The embedded default needs no turn.
    PolicyComponent::embedded().unwrap();

    // The deployed policy is what it was, and decided all the while.
    let after = served.gateway.status().policy;
    assert_eq!((after.digest, after.faults, after.suspended), (before.digest, 0, false));
    assert_eq!((served.tools(), rig.server(1).counts().calls, rig.server(2).counts().calls), (6, 20, 20));
    assert!(after.decisions >= before.decisions + 4 * CALLS as u64, "{} {}", before.decisions, after.decisions);
    let records = rig.records.records();
    assert!(records.iter().all(|record| record.decided_by == DecidedBy::Deployed(policy.digest())));
}
