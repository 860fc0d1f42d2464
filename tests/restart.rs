//! Restarts: what was served before is served again before the first packet leaves, after a stop as after a crash, by
//! one process of a directory as by several.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::edge::clock::Clock;
use cortex_mcp::edge::files::{Directory, MemoryDirectory};
use cortex_mcp::edge::state::{self, own_file};
use cortex_mcp::edge::virtual_network::{Host, VirtualNetwork};
use cortex_mcp::gateway::{StateRole, SyncKind};
use cortex_mcp::model::{Contact, ListState};
use serde_json::json;
use std::collections::BTreeSet;
use std::sync::Arc;
use support::full_disk::FullDisk;
use support::{Described, KEY, MAP_URL, MapAnswer, MapDocument, MapOrigin, Rig, Served, seconds, tools_bytes};
use tokio::time::Instant;

/// Lists through the gateway, and shows that neither virtual time nor a packet was spent on it.
async fn listed_at_once(served: &Served) -> String {
    assert_eq!(served.wire.count(), 0, "packets left before the first list");
    let answer = served.modern().list().await;
    assert_eq!((served.wire.count(), Instant::now() - served.started), (0, seconds(0)));
    for id in answer.result()["_meta"]["com.brainwav.cortex/connectors"].as_array().unwrap() {
        assert!(id["state"].is_string() && id["fetchedAt"].is_string(), "{id}");
    }
    tools_bytes(&answer.body)
}

#[tokio::test(start_paused = true)]
async fn a_restart_serves_every_list_before_the_first_packet_leaves() {
    let rig = Rig::new(10);
    let served = rig.ready().await;
    let before = tools_bytes(&served.modern().list().await.body);
    assert_eq!(served.tools(), 30);
    served.gateway.shut_down().await;

    rig.stop_everything();
    let again = rig.start().await;
    assert_eq!(listed_at_once(&again).await, before);
    assert_eq!(tools_bytes(&again.legacy().list().await.body), before);
    let standing = again.modern().list().await.standing("s4");
    assert_eq!(
        (standing["state"].as_str(), standing["fetchedAt"].as_str()),
        (Some("fresh"), Some("2026-01-01T00:00:01.005Z"))
    );
    assert_eq!(again.gateway.status().service_map.unwrap().state, "fresh");

    // They return with other tools.
    tokio::time::sleep(seconds(400)).await;
    assert_eq!(again.tools(), 30, "what is known is served while nobody answers");
    rig.servers.iter().for_each(|upstream| upstream.server.set_tools(4));
    rig.revive_everything();
    again.until("the new lists", seconds(60), |served| served.tools() == 40).await;
    let sum = again.modern().call("s7__add", r#"{"a":40,"b":2}"#).await;
    assert_eq!(sum.result()["structuredContent"]["sum"], 42);
}

#[tokio::test(start_paused = true)]
async fn six_gateways_that_restart_list_no_server_before_the_policys_spread() {
    let rig = Rig::new(5);
    let states: Vec<MemoryDirectory> = (0..6).map(|_| MemoryDirectory::new()).collect();
    let lists = || rig.servers.iter().map(|upstream| upstream.server.counts().lists).sum::<u64>();
    for state in &states {
        let served = rig.start_on(&rig.network, state).await;
        served.gateway.first_pass().await;
        served.gateway.shut_down().await;
    }
    assert_eq!(lists(), 30);

    let mut gateways = Vec::new();
    for state in &states {
        gateways.push(rig.start_on(&rig.network, state).await);
    }
    // When the policy has each of them listed: it spreads that over the interval.
    let status = |served: &Served| served.gateway.status().connectors;
    let due: BTreeSet<String> = gateways.iter().flat_map(status).map(|one| one.next_attempt.clone().unwrap()).collect();
    assert_eq!(due.len(), 30, "each at another time: {due:?}");
    let first = due.first().unwrap();
    while rig.clock.wall().plus(20).to_string() < *first {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        assert_eq!(lists(), 30, "before {first}");
    }
    // Sessions and streams are open all the same.
    assert!(gateways.iter().flat_map(status).all(|one| one.contact == Contact::Up));
    tokio::time::sleep(seconds(360)).await;
    assert!(lists() >= 60, "and then they are listed");
}

#[tokio::test(start_paused = true)]
async fn a_crash_loses_nothing_that_was_served_a_moment_ago() {
    let mut rig = Rig::new(10);
    let served = rig.ready().await;
    let before = tools_bytes(&served.modern().list().await.body);
    // The batch of the state writer.
    tokio::time::sleep(seconds(1)).await;
    rig.crash(&served);
    rig.stop_everything();

    let again = rig.start().await;
    assert_eq!(listed_at_once(&again).await, before);
    rig.servers.iter().for_each(|upstream| upstream.server.set_tools(5));
    rig.revive_everything();
    again.until("the new lists", seconds(400), |served| served.tools() == 50).await;
    assert_eq!(again.legacy().call("s1__add", r#"{"a":1,"b":1}"#).await.result()["structuredContent"]["sum"], 2);
}

#[tokio::test(start_paused = true)]
async fn contested_names_keep_their_owners_until_another_endpoint_or_the_end_of_the_entry() {
    let mut rig = Rig::new(3);
    rig.toml = "names = \"plain\"".to_owned();
    rig.hang(1);
    rig.hang(2);
    let served = rig.ready().await;
    // `s3` has the names of all tools, then comes `s2`, at last `s1`.
    for number in [2, 1] {
        rig.revive(number);
        let id = format!("s{number}");
        served.until("its list", seconds(600), |served| served.connector(&id).is_some_and(|one| one.runs > 0)).await;
        tokio::time::sleep(seconds(60)).await;
    }
    let owner = |served: &Served| {
        let snapshot = served.gateway.snapshot();
        let collisions = served.gateway.status().collisions;
        assert!(collisions.len().is_multiple_of(3) && collisions.len() <= 6, "{collisions:?}");
        snapshot.route("add").unwrap().connector.to_string()
    };
    assert_eq!(owner(&served), "s3");
    let before = files(&rig.state);
    let follower = rig.ready().await;
    follower.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((owner(&follower), follower.gateway.status().state), ("s3".to_owned(), StateRole::Follower));
    follower.gateway.shut_down().await;
    assert!(files(&rig.state) == before, "a follower writes nothing");
    served.gateway.shut_down().await;
    for crashes in [true, false, true] {
        rig.stop_everything();
        let again = rig.start().await;
        assert_eq!((owner(&again), again.wire.count()), ("s3".to_owned(), 0));
        rig.revive_everything();
        again.gateway.sync(SyncKind::Force, |_| {}).await;
        assert_eq!(owner(&again), "s3");
        tokio::time::sleep(seconds(5)).await;
        match crashes {
            true => rig.crash(&again),
            false => again.gateway.shut_down().await,
        }
    }
    // A rotated key and a time without service leave the server what it is, here and across a restart; another endpoint is
    // another server, and so is an entry that comes back.
    let elsewhere: url::Url = "https://elsewhere.test/mcp".parse().unwrap();
    rig.network.set(&elsewhere, Host::Serve(rig.server(3).router()));
    let second = rig.servers[1].url.to_string();
    let rotated = |value: &str| json!({ "headers": { "x-key": value } });
    let mut served = rig.ready().await;
    type Change<'a> = Box<dyn Fn(&mut MapDocument) + 'a>;
    let steps: [(&str, Change<'_>, &str); 7] = [
        ("a rotated key", Box::new(|map| map.connectors[2].more = rotated("1")), "s3"),
        ("disabled", Box::new(|map| map.connectors[2].enabled = false), "s2"),
        ("enabled", Box::new(|map| map.connectors[2].enabled = true), "s3"),
        ("another endpoint", Box::new(|map| map.connectors[2].endpoint = elsewhere.to_string()), "s2"),
        ("rotated the second time", Box::new(|map| map.connectors[1].more = rotated("2")), "s2"),
        ("without an entry", Box::new(|map| drop(map.connectors.remove(1))), "s1"),
        ("with an entry again", Box::new(|map| map.connectors.push(Described::new("s2", &second))), "s1"),
    ];
    for (step, change, expected) in steps {
        rig.publish(change);
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        served.until(step, seconds(60), |served| owner(served) == expected).await;
        tokio::time::sleep(seconds(5)).await;
        served.gateway.shut_down().await;
        served = rig.ready().await;
        assert_eq!(owner(&served), expected, "{step}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_failing_before_the_restart_does_not_delay_its_first_list() {
    let mut rig = Rig::new(4);
    // A server that was never reached: nothing is saved of it.
    rig.hang(4);
    let served = rig.ready().await;
    rig.stop_everything();
    // The lists are past their time, and refreshing them keeps failing.
    tokio::time::sleep(seconds(1_200)).await;
    assert_eq!(served.connector("s1").unwrap().state, ListState::StaleError);
    let before = tools_bytes(&served.modern().list().await.body);
    rig.crash(&served);

    rig.hang(4);
    let again = rig.start().await;
    let answer = again.modern().list().await;
    assert_eq!((again.wire.count(), Instant::now() - again.started), (0, seconds(0)));
    assert_eq!(tools_bytes(&answer.body), before);
    assert_eq!(answer.standing("s1")["state"], "stale-error");
    assert_eq!(answer.standing("s4")["state"], "empty");
}

#[tokio::test(start_paused = true)]
async fn a_restart_after_a_reboot_knows_the_age_of_its_lists_by_the_wall_clock() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let before = tools_bytes(&served.modern().list().await.body);
    served.gateway.shut_down().await;
    rig.stop_everything();
    rig.clock.suspend(seconds(3_000));
    rig.clock.reboot();
    let again = rig.start().await;
    assert_eq!(listed_at_once(&again).await, before);
    assert_eq!(again.connector("s1").unwrap().state, ListState::Stale);
    again.gateway.shut_down().await;

    // Past the greatest staleness nothing is served any more.
    rig.clock.suspend(seconds(2 * 86_400));
    rig.clock.reboot();
    let late = rig.start().await;
    assert_eq!(late.tools(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_moved_aside_and_fetched_anew() {
    let mut rig = Rig::new(3);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    let mut log = rig.state.read("lists-1.log").unwrap().unwrap();
    let line = b" connector-s2\n";
    let list = log.windows(line.len()).position(|bytes| bytes == line).unwrap() + line.len();
    log[list + 9] ^= 1;
    rig.state = rig.copy_of_state();
    rig.state.replace("lists-1.log", &log).unwrap();
    let lists = rig.server(2).counts().lists;

    let again = rig.start().await;
    assert_eq!(again.tools(), 6);
    again.until("the list of s2", seconds(1), |served| served.tools() == 9).await;
    assert_eq!(rig.server(2).counts().lists, lists + 1);
    tokio::time::sleep(seconds(1)).await;
    let names = rig.state.names().unwrap();
    let quarantined = names.iter().find(|name| name.ends_with(".damaged")).unwrap();
    assert_eq!(rig.state.read(quarantined).unwrap().as_deref(), Some(&log[..]), "{names:?}");
    assert!(saved_names(&rig.state).contains(&"connector-s2".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn saved_state_of_the_first_form_is_reported_once_and_left_in_place() {
    let (log, _guard) = support::log::Log::of_this_thread(tracing::Level::INFO);
    let rig = Rig::new(2);
    let old = b"cortex-state 1 0000\n{}\n[]";
    for name in ["connector-s1.state", "service-map.state"] {
        rig.state.replace(name, old).unwrap();
    }
    let served = rig.ready().await;
    assert_eq!(served.tools(), 6);
    served.gateway.shut_down().await;
    assert_eq!(rig.state.read("connector-s1.state").unwrap().as_deref(), Some(&old[..]));
    let reports = log.lines("older form");
    assert!(reports.len() == 1 && reports[0].contains("files=2"), "{reports:?}");
}

#[tokio::test(start_paused = true)]
async fn failed_runs_write_headers_alone_and_a_changed_list_writes_itself() {
    let rig = Rig::new(10);
    rig.servers.iter().for_each(|upstream| upstream.server.set_tools(40));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(1)).await;
    let written = || {
        let metric = |name| served.metric(name).unwrap();
        (metric("mcp_state_records_written_total"), metric("mcp_state_written_bytes_total"))
    };
    let list = served.modern().list().await.body.len() as f64 / 10.0;
    let per_record = |before: (f64, f64), after: (f64, f64)| (after.1 - before.1) / (after.0 - before.0);
    let first = written();
    rig.stop_everything();
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    tokio::time::sleep(seconds(1)).await;
    let failed = written();
    assert!(failed.0 - first.0 >= 10.0, "each run is written");
    assert!(per_record(first, failed) < list / 4.0, "{first:?} {failed:?} {list}");
    rig.revive_everything();
    rig.server(1).set_tools(41);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    tokio::time::sleep(seconds(1)).await;
    let changed = written();
    assert!(changed.0 - failed.0 >= 10.0, "each confirmed list is written");
    let one_list = (changed.1 - failed.1) - (changed.0 - failed.0) * per_record(first, failed);
    assert!((list / 2.0..list * 2.0).contains(&one_list), "{one_list} {failed:?} {changed:?} {list}");
    assert_eq!(rig.state.names().unwrap(), ["lists-1.log", "service-map.record"]);
}

/// The names of the records that a directory holds, none of them damaged.
fn saved_names(directory: &dyn Directory) -> Vec<String> {
    let saved = state::read(directory, &["service-map"]).unwrap();
    assert_eq!(saved.damaged, []);
    saved.records.into_iter().map(|(name, _)| name).collect()
}

/// Every file of a directory.
fn files(directory: &dyn Directory) -> Vec<(String, Option<Vec<u8>>)> {
    let names = directory.names().unwrap().into_iter();
    names.map(|name| (name.clone(), directory.read(&name).unwrap())).collect()
}

#[tokio::test(start_paused = true)]
async fn a_saved_map_is_verified_again_with_the_keys_of_the_day() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    served.gateway.shut_down().await;
    rig.set("CONNECTORS_SIGNATURE_KEY", "another key");
    let again = rig.ready().await;
    assert_eq!(again.tools(), 0);
    let status = again.gateway.status().service_map.unwrap();
    assert_eq!(status.last_failure.unwrap().class, "signature");
    again.gateway.shut_down().await;

    rig.set("CONNECTORS_SIGNATURE_KEY", KEY);
    let back = rig.ready().await;
    assert_eq!(back.tools(), 6);
}

#[tokio::test(start_paused = true)]
async fn remembered_eras_save_the_probe() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let (legacy, modern) = (rig.server(1).counts(), rig.server(2).counts());
    // A modern server that is near has answered before it would be asked for the legacy era at all.
    assert_eq!((legacy.discover, legacy.initialize, modern.discover, modern.initialize), (1, 1, 1, 0));
    served.gateway.shut_down().await;
    let again = rig.ready().await;
    again.gateway.sync(SyncKind::Force, |_| {}).await;
    let (legacy, modern) = (rig.server(1).counts(), rig.server(2).counts());
    assert_eq!((legacy.discover, legacy.initialize), (1, 2), "a legacy server is not asked for the modern era again");
    assert_eq!(modern.initialize, 0, "a modern server is not asked for the legacy era");
    let eras: Vec<_> = again.gateway.status().connectors.iter().map(|one| one.era.unwrap()).collect();
    assert_eq!(eras, [cortex_mcp::mcp::Era::Legacy, cortex_mcp::mcp::Era::Modern]);
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_closes_its_legacy_sessions() {
    let rig = Rig::new(4);
    let served = rig.ready().await;
    assert_eq!((rig.server(1).open_sessions(), rig.server(3).open_sessions()), (1, 1));
    served.gateway.shut_down().await;
    for number in [1, 3] {
        assert_eq!((rig.server(number).open_sessions(), rig.server(number).counts().deletes), (0, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_gateways_on_one_directory_one_writes_and_the_other_takes_over() {
    let rig = Rig::new(2);
    let first = rig.ready().await;
    let second = rig.ready().await;
    let roles = || (first.gateway.status().state, second.gateway.status().state);
    assert_eq!(roles(), (StateRole::Writer, StateRole::Follower));
    assert_eq!(second.tools(), 6);
    tokio::time::sleep(seconds(10)).await;
    let before = files(&rig.state);
    rig.server(1).set_tools(4);
    second.gateway.sync(SyncKind::Force, |_| {}).await;
    tokio::time::sleep(seconds(10)).await;
    assert_eq!(second.tools(), 7);
    assert!(files(&rig.state) == before, "a follower writes nothing");

    first.gateway.shut_down().await;
    second.until("the take-over", seconds(4), |second| second.gateway.status().state == StateRole::Writer).await;
    tokio::time::sleep(seconds(1)).await;
    second.gateway.shut_down().await;
    rig.stop_everything();
    let third = rig.start().await;
    assert_eq!(third.tools(), 7, "what the follower knew was written when it took over");
}

#[tokio::test(start_paused = true)]
async fn a_take_over_does_not_lose_the_ratchet_of_the_former_writer() {
    let mut rig = Rig::new(2);
    // The follower reaches another copy of the map, one that is never updated.
    let elsewhere = Arc::new(VirtualNetwork::new());
    let stale_origin = MapOrigin::new(MapAnswer::Document(rig.document.signed()));
    elsewhere.set(&MAP_URL.parse().unwrap(), Host::Serve(stale_origin.router()));
    for upstream in &rig.servers {
        elsewhere.set(&upstream.url, Host::Serve(upstream.server.router()));
    }
    let old: MapDocument = rig.document.clone();
    let writer = rig.ready().await;
    let follower = rig.start_on(&elsewhere, &rig.state.clone()).await;
    follower.gateway.first_pass().await;
    follower.gateway.sync(SyncKind::Force, |_| {}).await;

    rig.publish(|map| map.connectors[1].enabled = false);
    writer.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((writer.tools(), follower.tools()), (3, 6));
    writer.gateway.shut_down().await;
    follower.until("the take-over", seconds(4), |one| one.gateway.status().state == StateRole::Writer).await;
    follower.gateway.sync(SyncKind::Force, |_| {}).await;
    tokio::time::sleep(seconds(400)).await;
    follower.gateway.shut_down().await;

    // Whoever comes next refuses the old map, as the first writer would have.
    rig.map.serve(&old);
    let next = rig.ready().await;
    next.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(next.tools(), 3, "a disabled connector came back");
    assert_eq!(next.gateway.status().service_map.unwrap().last_failure.unwrap().class, "rollback");
}

#[tokio::test(start_paused = true)]
async fn a_take_over_leaves_the_lists_that_the_former_writer_saved_later() {
    let mut rig = Rig::new(2);
    let writer = rig.ready().await;
    tokio::time::sleep(seconds(1)).await;
    let follower = rig.ready().await;
    follower.gateway.sync(SyncKind::Force, |_| {}).await;
    tokio::time::sleep(seconds(10)).await;
    // Only the writer sees the newer list before it ends.
    rig.server(1).set_tools(7);
    writer.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((writer.tools(), follower.tools()), (10, 6));
    writer.gateway.shut_down().await;
    follower.until("the take-over", seconds(4), |one| one.gateway.status().state == StateRole::Writer).await;
    // Nothing that the follower still learns may hide what it wrote when it took over.
    rig.crash(&follower);
    rig.stop_everything();
    assert_eq!(rig.start().await.tools(), 10);
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_told_changes_nothing_that_is_served_and_is_written_later() {
    let mut rig = Rig::new(2);
    let disk = Arc::new(FullDisk::default());
    disk.set_full(true);
    let (_, builder) = rig.builder(&rig.network, &rig.state);
    let gateway = builder.state_directory(disk.clone()).start().await.unwrap();
    gateway.first_pass().await;
    tokio::time::sleep(seconds(10)).await;
    let status = gateway.status();
    assert_eq!((status.tools, status.state), (6, StateRole::Failing));
    assert!(!status.service_map.unwrap().persisted);
    // A newer map is used although it can not be saved: a full disk must not keep a disabled connector alive.
    rig.publish(|map| map.connectors[1].enabled = false);
    gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!((gateway.snapshot().tool_count(), disk.inner.names().unwrap().len()), (3, 0));

    disk.set_full(false);
    tokio::time::sleep(seconds(5)).await;
    assert_eq!(gateway.status().state, StateRole::Writer);
    // What was approved of a connector, and its claims, are kept for its return.
    let saved = ["claims", "connector-s1", "definitions-s1", "definitions-s2", "instance", "service-map"];
    assert_eq!(saved_names(&disk.inner), saved);
    assert!(disk.inner.names().unwrap().contains(&own_file("service-map")));
    gateway.shut_down().await;
    rig.stop_everything();
    rig.state = disk.inner.clone();
    assert_eq!(rig.start().await.tools(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_not_written_before_the_end_is_written_by_the_end() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    // Within the batch of the state writer.
    rig.server(1).set_tools(9);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    served.gateway.shut_down().await;
    rig.stop_everything();
    assert_eq!(rig.start().await.tools(), 12);
}

#[tokio::test(start_paused = true)]
async fn a_disabled_connector_does_not_come_back_with_a_restart() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    rig.publish(|map| map.connectors[0].enabled = false);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    // At once: the newer map was durable before it was served.
    rig.crash(&served);
    rig.stop_everything();
    let again = rig.start().await;
    assert_eq!((again.tools(), again.gateway.status().disabled.len()), (3, 1));
}

#[tokio::test(start_paused = true)]
async fn a_map_that_is_gone_for_good_stays_gone_after_a_restart() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    rig.map.answer(MapAnswer::Status(410, String::new()));
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(served.tools(), 0);
    served.gateway.shut_down().await;
    assert_eq!(rig.start().await.gateway.status().connectors.len(), 0);
}
