//! Following the service map: what a newer document says is done, and whatever else arrives changes
//! nothing that is served, and is counted and told.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cortex_mcp::demo::mcp_server::McpServer;
use cortex_mcp::edge::Edge;
use cortex_mcp::edge::clock::{Clock, VirtualClock};
use cortex_mcp::edge::entropy::VirtualEntropy;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::SyncKind;
use cortex_mcp::model::{BootId, BootMs, ListState, WallMs};
use serde_json::json;
use support::wire::Wire;
use support::{MapAnswer, Rig, Served, seconds, tools_bytes};
use tokio::time::Instant;

async fn force(served: &Served) {
    served.gateway.sync(SyncKind::Force, |_| {}).await;
}

async fn tools(served: &Served) -> String {
    tools_bytes(&served.modern().list().await.body)
}

fn up(served: &Served, id: &str) -> Option<f64> {
    served.metric(&format!("brainwav_mcp_connector_proxy_up{{connector=\"{id}\"}}"))
}

const DAY: u64 = 86_400;

#[tokio::test(start_paused = true)]
async fn a_disabled_connector_takes_its_tools_away_and_its_session_is_closed() {
    let mut rig = Rig::new(3);
    let served = rig.ready().await;
    assert_eq!((served.tools(), up(&served, "s1"), up(&served, "s2")), (9, Some(1.0), Some(1.0)));
    rig.publish(|map| map.connectors[0].enabled = false);
    force(&served).await;
    assert_eq!((served.tools(), up(&served, "s1")), (6, Some(0.0)));
    assert!(!tools(&served).await.contains("s1__"));
    assert_eq!(served.modern().call("s1__echo", "{}").await.code(), Some(-32602));
    assert_eq!(served.gateway.status().disabled[0].as_str(), "s1");
    tokio::time::sleep(seconds(1)).await;
    assert_eq!((rig.server(1).open_sessions(), rig.server(1).counts().deletes), (0, 1));

    // And the newer map that enables it again brings them back.
    rig.publish(|map| map.connectors[0].enabled = true);
    force(&served).await;
    assert_eq!((served.tools(), up(&served, "s1")), (9, Some(1.0)));
}

#[tokio::test(start_paused = true)]
async fn a_newer_map_is_found_without_being_forced() {
    let mut rig = Rig::new(3);
    let served = rig.ready().await;
    rig.publish(|map| map.connectors[2].enabled = false);
    // The steady interval and its jitter.
    served.until("the newer map", seconds(360), |served| served.tools() == 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_vanished_connector_leaves_no_trace() {
    let mut rig = Rig::new(3);
    let served = rig.ready().await;
    rig.publish(|map| drop(map.connectors.remove(0)));
    force(&served).await;
    assert_eq!((served.tools(), up(&served, "s1")), (6, None));
    assert!(served.connector("s1").is_none() && served.gateway.status().disabled.is_empty());
    assert!(
        !served.gateway.metrics().lines().any(|line| line.starts_with("mcp_catalog_age") && line.contains("\"s1\""))
    );
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(rig.server(1).open_sessions(), 0);
    let saved = cortex_mcp::edge::state::read(&rig.state, &["service-map"]).unwrap();
    assert!(!saved.records.is_empty() && saved.records.iter().all(|(name, _)| name != "connector-s1"));
}

#[tokio::test(start_paused = true)]
async fn a_changed_endpoint_rebuilds_the_session_and_the_old_list_is_not_served_for_the_new_server() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    let other = McpServer::new(Rig::options(2));
    other.set_tools(7);
    rig.network.set(&"https://elsewhere.test".parse().unwrap(), Host::Serve(other.router()));
    rig.publish(|map| map.connectors[0].endpoint = "https://elsewhere.test/mcp".to_owned());
    force(&served).await;
    assert_eq!((served.tools_of("s1"), served.tools_of("s2"), other.counts().lists), (7, 3, 1));
    tokio::time::sleep(seconds(1)).await;
    assert_eq!(rig.server(1).open_sessions(), 0);
    assert_eq!(rig.server(2).counts().discover, 1, "nobody else's session is touched");
}

#[tokio::test(start_paused = true)]
async fn a_changed_name_or_scope_keeps_the_session() {
    let mut rig = Rig::new(1);
    let served = rig.ready().await;
    rig.publish(|map| {
        map.connectors[0] = map.connectors[0].clone().with(json!({ "displayName": "Renamed", "tags": ["x"] }))
    });
    force(&served).await;
    assert!(tools(&served).await.contains(r#""name":"Renamed""#));
    assert_eq!((rig.server(1).counts().initialize, rig.server(1).counts().deletes), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn whatever_is_no_newer_valid_map_changes_nothing_and_is_counted() {
    let mut rig = Rig::new(2);
    rig.publish(|_| {});
    let served = rig.ready().await;
    let before = tools(&served).await;

    let mut older = rig.document.clone();
    older.generated_at = support::rig::START;
    older.connectors.pop();
    let mut newer = rig.document.clone();
    newer.generated_at = newer.generated_at.plus(500);
    newer.connectors.pop();
    let mut other = rig.document.clone();
    other.connectors.pop();
    let mut future = newer.clone();
    future.generated_at = future.generated_at.plus(600_000);
    let branded = newer.json().replace("brAInwav", "other");
    let unbranded = cortex_mcp::service_map::signed_document(&branded, &support::KEY.into()).unwrap();
    let shapeless = cortex_mcp::service_map::signed_document(r#"{"connectors":7}"#, &support::KEY.into()).unwrap();
    let tampered = newer.signed().replace("https://s1.test", "https://s9.test");

    let cases = [
        ("an older map", MapAnswer::Document(older.signed()), "rollback"),
        ("another map of the same time", MapAnswer::Document(other.signed()), "rollback"),
        ("a map from the future", MapAnswer::Document(future.signed()), "schema"),
        ("a map of another key", MapAnswer::Document(newer.signed_with("not the key")), "signature"),
        ("a map that was changed after signing", MapAnswer::Document(tampered), "signature"),
        ("a map without a signature", MapAnswer::Document(newer.json()), "signature"),
        ("a map of another brand", MapAnswer::Document(unbranded), "schema"),
        ("a map of another shape", MapAnswer::Document(shapeless), "schema"),
        ("a page", MapAnswer::Status(200, "<html>".into()), "decode"),
        ("an empty body", MapAnswer::Status(200, String::new()), "decode"),
        ("a body above the cap", MapAnswer::Status(200, " ".repeat((4 << 20) + 1)), "decode"),
        ("an endless body", MapAnswer::Endless, "transport"),
        ("a redirect to another origin", MapAnswer::Redirect("https://evil.test/map".into()), "transport"),
        ("a refusal", MapAnswer::Status(401, "no".into()), "http"),
        ("a failure", MapAnswer::Status(500, "oh".into()), "http"),
        ("nothing there", MapAnswer::Status(404, String::new()), "http"),
    ];
    let evil = support::MapOrigin::new(MapAnswer::Document(newer.signed()));
    rig.network.set(&"https://evil.test".parse().unwrap(), Host::Serve(evil.router()));
    for (what, answer, class) in cases {
        let kind = if ["transport", "http"].contains(&class) { "unreachable" } else { "rejected" };
        let series = format!("mcp_service_map_{kind}_total{{class=\"{class}\"}}");
        let counted = served.metric(&series).unwrap_or(0.0);
        rig.map.answer(answer);
        force(&served).await;
        let status = served.gateway.status().service_map.unwrap();
        let failure = status.last_failure.unwrap_or_else(|| panic!("{what} was taken"));
        assert_eq!(
            (failure.class, served.metric(&series)),
            (class, Some(counted + 1.0)),
            "{what}: {}",
            failure.message
        );
        assert_eq!((tools(&served).await, status.state.as_str()), (before.clone(), "fresh"), "{what}");
    }
    for (what, host) in [("nobody there", Host::Refuse), ("silence", Host::Hang)] {
        rig.map_host(host);
        force(&served).await;
        let failure = served.gateway.status().service_map.unwrap().last_failure.unwrap();
        assert_eq!((failure.class, tools(&served).await), ("transport", before.clone()), "{what}");
    }
    assert_eq!(evil.requests(), 0, "nothing follows a redirect to another origin");

    rig.revive_map();
    rig.map.serve(&newer);
    force(&served).await;
    assert_eq!((served.tools(), served.gateway.status().service_map.unwrap().last_failure), (3, None));
}

#[tokio::test(start_paused = true)]
async fn an_unchanged_map_is_confirmed_by_its_tag_and_stays_fresh() {
    let mut rig = Rig::new(1);
    // Fresh for a minute from each confirmation, and not expired for five.
    rig.document.generated_at = support::rig::START.plus(240_000);
    rig.document.ttl_seconds = 60;
    rig.map.serve(&rig.document);
    let served = rig.ready().await;
    let fetched_at = || served.gateway.status().service_map.unwrap().fetched_at.unwrap();
    let first = fetched_at();
    let began = Instant::now();
    while began.elapsed() < seconds(200) {
        tokio::time::sleep(seconds(10)).await;
        assert_eq!(served.gateway.status().service_map.unwrap().state.replace("soft", "fresh"), "fresh");
        assert_eq!(served.tools(), 3);
    }
    assert!(rig.map.not_modified() >= 3 && fetched_at() > first);
    let asked = rig.map.asked();
    assert_eq!(asked[0].if_none_match, None);
    assert!(asked[1..].iter().all(|asked| asked.if_none_match.is_some()));
    assert_eq!(rig.map.requests(), rig.map.not_modified() + 1);
}

#[tokio::test(start_paused = true)]
async fn a_map_that_is_confirmed_past_its_expiry_is_frozen_and_that_is_counted() {
    let mut rig = Rig::new(1);
    rig.document.ttl_seconds = 60;
    rig.map.serve(&rig.document);
    let served = rig.ready().await;
    const SERIES: &str = "mcp_service_map_frozen_total{reason=\"frozen\"}";
    assert_eq!(served.metric(SERIES), Some(0.0));
    tokio::time::sleep(seconds(100)).await;
    force(&served).await;
    let status = served.gateway.status().service_map.unwrap();
    assert_eq!((status.state.as_str(), status.last_failure, served.tools()), ("frozen", None, 3));
    let counted = served.metric(SERIES).unwrap();
    assert!(counted >= 1.0);
    // Without a tag the next answer is the whole map again, and no fresher.
    force(&served).await;
    assert!(served.metric(SERIES).unwrap() > counted);
}

#[tokio::test(start_paused = true)]
async fn a_map_expires_by_its_own_word_and_not_by_that_of_an_entry() {
    let rig = Rig::new(1);
    let text = json!({
        "id": "01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB", "brand": "brAInwav", "generatedAt": "2026-01-01T00:00:00Z",
        "ttlSeconds": 3600,
        "connectors": [{ "id": "s1", "version": "1", "name": "One", "scopes": ["a"], "status": "enabled",
                         "ttl": 1_767_225_600 + 120, "endpoint": "https://s1.test/mcp" }],
    });
    let signed = cortex_mcp::service_map::signed_document(&text.to_string(), &support::KEY.into()).unwrap();
    rig.map.answer(MapAnswer::Document(signed));
    let served = rig.ready().await;
    tokio::time::sleep(seconds(200)).await;
    force(&served).await;
    assert_eq!(served.gateway.status().service_map.unwrap().state, "fresh");
}

/// Clocks that are floored at different moments, as real ones are: the wall clock reads one more every other time.
struct Flickering {
    inner: Arc<VirtualClock>,
    reads: AtomicU64,
}

impl Clock for Flickering {
    fn wall(&self) -> WallMs {
        self.inner.wall().plus(self.reads.fetch_add(1, Ordering::SeqCst) % 2)
    }

    fn boot(&self) -> BootMs {
        self.inner.boot()
    }

    fn boot_id(&self) -> BootId {
        self.inner.boot_id()
    }
}

#[tokio::test(start_paused = true)]
async fn lists_of_a_fresh_catalog_do_not_move_the_next_attempt() {
    let rig = Rig::new(1);
    let http = Wire::new(rig.network.clone());
    let clock = Arc::new(Flickering { inner: rig.clock.clone(), reads: AtomicU64::new(0) });
    let entropy = Arc::new(VirtualEntropy::from_number(7));
    let (_, builder) = rig.builder(&rig.network, &rig.state);
    let edge = Edge { clock, entropy, http: http.clone() };
    let gateway = builder.edge(edge).start().await.unwrap();
    gateway.first_pass().await;
    let served = Served { gateway, wire: http, started: Instant::now() };
    let next = || served.gateway.status().service_map.unwrap().next_attempt.unwrap();
    let before = next();
    for _ in 0..20 {
        served.modern().list().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(next(), before);
    }
}

#[tokio::test(start_paused = true)]
async fn a_map_without_a_tag_is_fetched_whole_and_changes_nothing() {
    let rig = Rig::new(1);
    rig.map.answer(MapAnswer::Untagged(rig.document.signed()));
    let served = rig.ready().await;
    let before = tools(&served).await;
    force(&served).await;
    assert!(rig.map.asked().iter().all(|asked| asked.if_none_match.is_none()));
    assert_eq!((tools(&served).await, served.gateway.status().service_map.unwrap().last_failure), (before, None));
    assert_eq!(rig.server(1).counts().initialize, 1);
}

#[tokio::test(start_paused = true)]
async fn without_its_map_server_connectors_stay_until_max_stale_and_not_a_second_longer() {
    let mut rig = Rig::new(2);
    let served = rig.ready().await;
    rig.map_host(Host::Refuse);
    // Fresh until the map's signed expiry, stale for a day after it.
    let end = served.started + seconds(3_600 - 1 + DAY);
    tokio::time::sleep_until(end - seconds(2)).await;
    assert_eq!(served.tools(), 6);
    let state = served.gateway.status().service_map.unwrap();
    assert_eq!((state.state.as_str(), served.connector("s1").unwrap().state), ("stale-error", ListState::Fresh));
    tokio::time::sleep_until(end + seconds(2)).await;
    assert_eq!(served.tools(), 0);
    assert_eq!(served.gateway.status().service_map.unwrap().state, "expired");
    // And a map server that comes back with a newer map is used.
    rig.revive_map();
    rig.publish(|map| map.generated_at = map.generated_at.plus(DAY * 1_000));
    served.until("the newer map", seconds(300), |served| served.tools() == 6).await;
}

#[tokio::test(start_paused = true)]
async fn a_wall_clock_that_is_set_ten_years_wrong_changes_nothing_that_is_served() {
    const TEN_YEARS_MS: i64 = 10 * 365 * 86_400_000;
    for step in [TEN_YEARS_MS, -TEN_YEARS_MS] {
        let rig = Rig::new(2);
        let served = rig.ready().await;
        let before = tools(&served).await;
        rig.clock.step_wall(step);
        for _ in 0..10 {
            tokio::time::sleep(seconds(180)).await;
            assert_eq!(tools(&served).await, before);
        }
        force(&served).await;
        assert_eq!(tools(&served).await, before);
        rig.clock.step_wall(-step);
        force(&served).await;
        assert_eq!(tools(&served).await, before);
        assert_eq!(served.gateway.status().service_map.unwrap().state, "fresh");
    }
}

#[tokio::test(start_paused = true)]
async fn keys_are_rotated_without_a_gap() {
    let mut rig = Rig::new(2);
    rig.environment =
        [("CONNECTORS_SERVICE_MAP_URL", support::MAP_URL), ("CONNECTORS_SIGNATURE_KEYS", "old=one,new=two")].into();
    let old = rig.document.clone();
    rig.map.answer(MapAnswer::Document(old.signed_with("one")));
    let served = rig.ready().await;
    let key = || served.gateway.status().service_map.unwrap().key_id.unwrap();
    assert_eq!((served.tools(), key()), (6, "old".to_owned()));

    rig.document.generated_at = rig.document.generated_at.plus(1_000);
    rig.document.connectors.pop();
    rig.map.answer(MapAnswer::Document(rig.document.signed_with("two")));
    force(&served).await;
    assert_eq!((served.tools(), key()), (3, "new".to_owned()));

    let class = || served.gateway.status().service_map.unwrap().last_failure.unwrap().class;
    rig.map.answer(MapAnswer::Document(old.signed_with("one")));
    force(&served).await;
    assert_eq!((served.tools(), class()), (3, "rollback"));
    rig.document.generated_at = rig.document.generated_at.plus(1_000);
    rig.map.answer(MapAnswer::Document(rig.document.signed_with("three")));
    force(&served).await;
    assert_eq!((served.tools(), class(), key()), (3, "signature", "new".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn a_map_of_the_first_dialect_is_followed_as_well() {
    let rig = Rig::new(1);
    let text = json!({
        "id": "01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB", "brand": "brAInwav", "generatedAt": "2026-01-01T00:00:00Z",
        "ttlSeconds": 3600,
        "connectors": [{ "id": "s1", "version": "1", "name": "One", "scopes": ["a"], "status": "enabled",
                         "ttl": 1_767_229_200, "endpoint": "https://s1.test/mcp" }],
    });
    let signed = cortex_mcp::service_map::signed_document(&text.to_string(), &support::KEY.into()).unwrap();
    rig.map.answer(MapAnswer::Document(signed));
    assert_eq!(rig.ready().await.tools(), 3);
}
