//! Connectors that leave, and those that do not wait for them.

use super::*;
use crate::connectors::{PassKind, limits};

fn named(name: &str, version: &str) -> Connector {
    Connector { id: name.parse().unwrap(), ..described(version) }
}

fn ids(rig: &Rig) -> Vec<String> {
    rig.fleet.statuses().iter().map(|status| status.id.to_string()).collect()
}

/// How many runs a connector has had.
fn runs(rig: &Rig, name: &str) -> u64 {
    let statuses = rig.fleet.statuses();
    statuses.iter().find(|status| status.id.as_str() == name).map_or(0, |status| status.runs)
}

#[tokio::test(start_paused = true)]
async fn one_that_hangs_delays_no_new_one_and_no_other_change() {
    let rig = Rig::new(false).await;
    rig.fleet.apply(vec![named("live", "1"), named("other", "1")]).await;
    rig.until("the other one is listed", || runs(&rig, "other") == 1).await;
    let _hangs = rig.fleet.hang_on_leaving(&id());
    rig.fleet.apply(vec![named("new", "1"), named("other", "2")]).await;
    assert_eq!(ids(&rig), ["new", "other"], "at once, and before anybody has left");
    let opened = rig.server.count("initialize");
    rig.until("both are listed", || runs(&rig, "new") == 1 && rig.server.count("initialize") == opened + 2).await;
    // Nor does a pass wait for it.
    let began = tokio::time::Instant::now();
    let report = rig.fleet.pass(PassKind::Force, began, |_| {}).await;
    assert_eq!((report.connector_count, report.ready), (2, 2));
    assert!(began.elapsed() < limits::REBUILD_PATIENCE);
}

#[tokio::test(start_paused = true)]
async fn one_that_comes_back_waits_for_the_former_of_its_name() {
    let rig = Rig::new(false).await;
    let hangs = rig.fleet.hang_on_leaving(&id());
    rig.fleet.apply(Vec::new()).await;
    rig.fleet.apply(vec![described("1")]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(ids(&rig).is_empty());
    assert_eq!(rig.server.count("initialize"), 1);
    // What is described when it has left counts.
    rig.fleet.apply(vec![described("2"), named("other", "1")]).await;
    drop(hangs);
    rig.until("both are listed", || runs(&rig, "live") == 1 && runs(&rig, "other") == 1).await;
    assert_eq!(rig.server.count("initialize"), 3);
}

#[tokio::test(start_paused = true)]
async fn one_that_is_rebuilt_stays_until_it_is_and_a_pass_waits_for_it() {
    let rig = Rig::new(false).await;
    let hangs = rig.fleet.hang_on_leaving(&id());
    rig.fleet.apply(vec![described("2")]).await;
    assert_eq!(ids(&rig), ["live"]);
    let began = tokio::time::Instant::now();
    let release = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(hangs);
    };
    let (report, ()) = tokio::join!(rig.fleet.pass(PassKind::AtLeastOnce, began, |_| {}), release);
    assert_eq!((report.connector_count, report.ready, rig.server.count("initialize")), (1, 1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_fleet_that_ends_starts_nobody_any_more() {
    let rig = Rig::new(false).await;
    let hangs = rig.fleet.hang_on_leaving(&id());
    rig.fleet.apply(vec![described("2")]).await;
    rig.fleet.shut_down(tokio::time::Instant::now()).await;
    drop(hangs);
    rig.fleet.apply(vec![described("3")]).await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(ids(&rig).is_empty());
    assert_eq!((rig.server.count("initialize"), rig.server.streams()), (1, 0));
}
