//! Records of decisions: numbered by subject for as long as the gateway lives, and replaced verdicts after a swap.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::collections::BTreeMap;

use support::policies::contrary;
use support::{Rig, seconds};

#[tokio::test(start_paused = true)]
async fn the_decisions_on_a_subject_are_numbered_without_gap_or_repetition_also_when_its_connector_is_rebuilt() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    for version in ["2.0.0", "3.0.0"] {
        rig.publish(|map| {
            map.generated_at = map.generated_at.plus(1_000);
            map.connectors[0].version = version.to_owned();
        });
        served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
        tokio::time::sleep(seconds(2)).await;
    }
    served.gateway.shut_down().await;
    let mut next: BTreeMap<String, u64> = BTreeMap::new();
    for record in rig.records.records() {
        let expected = next.entry(record.subject.clone()).or_default();
        assert_eq!(record.subject_sequence, *expected, "{}", record.subject);
        *expected += 1;
    }
    assert!(next["connector/s1/refresh"] > next["connector/s2/refresh"], "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn a_swapped_policy_judges_what_is_served_at_once() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    assert_eq!(served.tools(), 6);
    served.gateway.policy().swap(contrary("lookup"));
    served.until("nothing may be served", seconds(1), |served| served.tools() == 0).await;
    // The map is not to be served either, so its connectors leave.
    served.until("the connectors leave", seconds(1), |served| served.connector("s1").is_none()).await;
    assert_eq!(served.gateway.status().service_map.unwrap().state, "expired");
}
