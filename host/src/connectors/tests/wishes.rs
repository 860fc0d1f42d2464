use serde_json::json;

use super::live::{Live, OnCall};
use super::*;
use crate::connectors::{CallError, Caller, ResourceWish, ServerEvent};
use crate::mcp::envelope::RpcError;
use crate::mcp::hops::{self, HopsError};
use crate::model::raw::{self, RawObject};

type Wished = Result<Result<ResourceWish, RpcError>, CallError>;

async fn wish(rig: &Rig, uri: &str) -> Wished {
    wish_after(rig, uri, 1).await
}

/// The wish of a client whose request passed through so many gateways, this one included.
async fn wish_after(rig: &Rig, uri: &str, hops: u64) -> Wished {
    let mut params = RawObject::new();
    params.set("uri", raw::string(uri));
    let wished = rig.fleet.wish_for_resource(&id(), hops::with(params, hops)).await;
    wished.map(|answer| answer.map_err(|error| RpcError::parse(&error).unwrap()))
}

fn subscribed(server: &Live, method: &str) -> Vec<String> {
    server.params(method).iter().map(|params| params["uri"].as_str().unwrap().to_owned()).collect()
}

/// The URIs of every update that was told.
fn updates(events: &mut tokio::sync::broadcast::Receiver<Arc<ServerEvent>>) -> Vec<String> {
    let told = std::iter::from_fn(|| events.try_recv().ok());
    let params = told.filter_map(|event| RawObject::parse(event.notice.params.as_ref()?).ok());
    params.filter_map(|params| params.get_str("uri")).collect()
}

async fn update(server: &Live, uri: &str) {
    server.say("notifications/resources/updated", json!({ "uri": uri }));
    tokio::time::sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_is_subscribed_to_once_for_all_and_unsubscribed_from_after_the_last() {
    let rig = Rig::new(false).await;
    let mut events = rig.fleet.events();
    let (one, other) = tokio::join!(wish(&rig, "x:1"), wish(&rig, "x:1"));
    let (one, other) = (one.unwrap().unwrap(), other.unwrap().unwrap());
    assert_eq!(subscribed(&rig.server, "resources/subscribe"), ["x:1"]);
    update(&rig.server, "x:1").await;
    assert_eq!(updates(&mut events), ["x:1"]);
    drop(one);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(rig.server.count("resources/unsubscribe"), 0, "somebody wishes for it still");
    drop(other);
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(subscribed(&rig.server, "resources/unsubscribe"), ["x:1"]);
    let _again = wish(&rig, "x:1").await.unwrap().unwrap();
    assert_eq!(subscribed(&rig.server, "resources/subscribe"), ["x:1", "x:1"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_wished_for_is_subscribed_to_in_the_next_session_and_after_a_rebuild() {
    let rig = Rig::new(false).await;
    let _wishes = (wish(&rig, "x:1").await.unwrap().unwrap(), wish(&rig, "x:2").await.unwrap().unwrap());
    rig.server.restart(2);
    rig.until("the new session", || rig.server.count("resources/subscribe") == 4).await;
    assert_eq!(rig.server.count("initialize"), 2);
    rig.fleet.apply(vec![described("2")]).await;
    rig.until("the rebuilt session", || rig.server.count("resources/subscribe") == 6).await;
    let mut events = rig.fleet.events();
    rig.until("it listens", || rig.server.streams() == 1).await;
    update(&rig.server, "x:2").await;
    assert_eq!(updates(&mut events), ["x:2"]);
}

#[tokio::test(start_paused = true)]
async fn a_servers_own_refusal_is_handed_on_and_the_next_wish_asks_again() {
    let rig = Rig::new(false).await;
    rig.server.refuse_subscriptions();
    for asked in 1..=2 {
        assert_eq!(wish(&rig, "x:1").await.unwrap().unwrap_err().code, -32002);
        assert_eq!(rig.server.count("resources/subscribe"), asked);
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(rig.server.count("resources/unsubscribe"), 0);
}

#[tokio::test(start_paused = true)]
async fn the_count_of_hops_of_one_client_costs_no_other_a_subscription() {
    for modern in [false, true] {
        let rig = Rig::new(modern).await;
        // As another gateway: it counts itself, and four is the most.
        rig.server.limit_hops(3);
        let mut events = rig.fleet.events();
        let before = wish(&rig, "x:1").await.unwrap().unwrap();
        let (far, near) = tokio::join!(wish_after(&rig, "x:2", 4), wish(&rig, "x:3"));
        assert_eq!(far.unwrap().unwrap_err().hops, Some(HopsError::TooMany), "modern: {modern}");
        let (far, shared) = tokio::join!(wish_after(&rig, "x:4", 4), wish(&rig, "x:4"));
        let refused = far.unwrap().err().and_then(|error| error.hops);
        assert_eq!(refused, modern.then_some(HopsError::TooMany), "a legacy server was asked for the nearer one");
        let farthest = wish_after(&rig, "x:5", 3).await.unwrap().unwrap();
        let held = (before, near.unwrap().unwrap(), shared.unwrap().unwrap(), farthest);
        tokio::time::sleep(Duration::from_secs(60)).await;
        let uris = ["x:1", "x:3", "x:4", "x:5"];
        for uri in uris {
            update(&rig.server, uri).await;
        }
        assert_eq!(updates(&mut events), uris, "modern: {modern}");
        assert_eq!(rig.server.streams(), 1);
        let streams = rig.server.params("subscriptions/listen");
        assert!(streams.iter().all(|asked| asked["_meta"]["com.brainwav.cortex/hops"] == 1), "{streams:?}");
        drop(held);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_refused_for_the_count_of_hops_is_asked_for_again() {
    let rig = Rig::new(true).await;
    rig.server.limit_hops(0);
    rig.server.break_streams();
    tokio::time::sleep(Duration::from_secs(60)).await;
    let asked = rig.server.count("subscriptions/listen");
    assert!(asked > 2 && rig.server.streams() == 0, "{asked}");
    rig.server.limit_hops(1);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.server.streams(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_forgot_its_session_is_subscribed_to_in_the_next_one() {
    let rig = Rig::new(false).await;
    // Its stream stays open, so that nobody has noticed.
    rig.server.forget();
    let _wish = wish(&rig, "x:1").await.unwrap().unwrap();
    assert_eq!((rig.server.count("initialize"), rig.server.count("resources/subscribe")), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_is_listened_to_for_what_is_wished_and_nothing_is_missed_meanwhile() {
    let rig = Rig::new(true).await;
    let mut events = rig.fleet.events();
    assert_eq!(rig.server.count("subscriptions/listen"), 1);
    let first = wish(&rig, "x:1").await.unwrap().unwrap();
    update(&rig.server, "x:1").await;
    update(&rig.server, "x:2").await;
    assert_eq!(updates(&mut events), ["x:1"]);
    let (second, third) = tokio::join!(wish(&rig, "x:2"), wish(&rig, "x:3"));
    let others = (second.unwrap().unwrap(), third.unwrap().unwrap());
    assert_eq!(rig.server.count("subscriptions/listen"), 3, "two wishes at once are one new stream");
    for uri in ["x:1", "x:2", "x:3"] {
        update(&rig.server, uri).await;
    }
    assert_eq!(updates(&mut events), ["x:1", "x:2", "x:3"]);
    assert_eq!(rig.server.streams(), 1, "the former stream is left");
    drop((first, others));
    tokio::time::sleep(Duration::from_secs(1)).await;
    update(&rig.server, "x:1").await;
    assert_eq!((updates(&mut events).len(), rig.server.streams()), (0, 1));
    let asked = rig.server.params("subscriptions/listen").pop().unwrap();
    assert_eq!(asked["notifications"], json!({ "toolsListChanged": true, "resourcesListChanged": true }));
}

#[tokio::test(start_paused = true)]
async fn a_wish_goes_on_with_the_stream_that_takes_the_place_of_a_broken_one() {
    let rig = Rig::new(true).await;
    let _wish = wish(&rig, "x:1").await.unwrap().unwrap();
    rig.server.break_streams();
    tokio::time::sleep(Duration::from_millis(10)).await;
    rig.until("the next stream", || rig.server.streams() == 1).await;
    let mut events = rig.fleet.events();
    update(&rig.server, "x:1").await;
    assert_eq!(updates(&mut events), ["x:1"]);
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_without_subscriptions_is_not_asked_for_one() {
    let rig = Rig::new(true).await;
    rig.server.set_capabilities(json!({ "tools": { "listChanged": true }, "resources": {} }));
    rig.fleet.apply(vec![described("2")]).await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    let asked = rig.server.count("subscriptions/listen");
    assert_eq!(wish(&rig, "x:1").await.unwrap().unwrap_err().code, -32601);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((rig.server.count("subscriptions/listen"), rig.server.streams()), (asked, 1));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_gone_and_a_connector_that_never_was_are_typed_errors() {
    let rig = Rig::new(false).await;
    let nobody = rig.fleet.wish_for_resource(&"nobody".parse().unwrap(), RawObject::new()).await;
    assert!(matches!(nobody, Err(CallError::NoConnector(_))));
    rig.network.set(&url(), Host::Refuse);
    rig.server.restart(1);
    assert!(matches!(wish(&rig, "x:1").await, Err(CallError::Failed { .. })));
}

#[tokio::test(start_paused = true)]
async fn the_most_verbose_wish_is_the_level_of_every_session() {
    let rig = Rig::new(false).await;
    let levels = || {
        let asked = rig.server.params("logging/setLevel");
        asked.iter().map(|params| params["level"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let wait = || tokio::time::sleep(Duration::from_millis(100));
    let error = rig.fleet.wish_for_logs("error", |_| true);
    wait().await;
    let debug = rig.fleet.wish_for_logs("debug", |_| true);
    let unknown = rig.fleet.wish_for_logs("whatever", |_| true);
    let _of_others = rig.fleet.wish_for_logs("debug", |connector| *connector != id());
    wait().await;
    assert_eq!(levels(), ["error", "debug"]);
    drop(debug);
    wait().await;
    assert_eq!(levels(), ["error", "debug", "error"], "who does not see it wishes nothing of it");
    rig.server.restart(1);
    rig.until("the new session", || rig.server.count("initialize") == 2 && levels().len() == 4).await;
    let mut events = rig.fleet.events();
    rig.until("it listens", || rig.server.streams() == 1).await;
    rig.server.say("notifications/message", json!({ "level": "error", "data": 1 }));
    wait().await;
    assert_eq!(events.try_recv().unwrap().notice.method, "notifications/message");
    drop((error, unknown));
    wait().await;
    assert_eq!(levels().len(), 4);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(
        (levels().len(), levels().pop().unwrap().as_str()),
        (5, "warning"),
        "it is told to be quiet again, once"
    );
    // Requests wish for as long as they take, and what follows at once is no change of mind.
    for _ in 0..20 {
        let _wish = rig.fleet.wish_for_logs_of(&id(), "info").unwrap();
        wait().await;
    }
    assert_eq!((levels().len(), levels().pop().unwrap().as_str()), (6, "info"));
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!((levels().len(), levels().pop().unwrap().as_str()), (7, "warning"));
    assert!(Rig::new(true).await.fleet.wish_for_logs_of(&id(), "info").is_none(), "a modern server needs no wish");
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_fails_in_another_session_is_tried_again_until_it_is_carried_out() {
    let rig = Rig::new(false).await;
    let _wishes = (wish(&rig, "x:1").await.unwrap().unwrap(), wish(&rig, "x:2").await.unwrap().unwrap());
    rig.server.fail_subscriptions(5);
    rig.server.restart(1);
    rig.until("both are subscribed to again", || rig.server.count("resources/subscribe") == 2 + 5 + 2).await;
    rig.until("it listens", || rig.server.streams() == 1).await;
    let mut events = rig.fleet.events();
    for uri in ["x:1", "x:2"] {
        update(&rig.server, uri).await;
    }
    assert_eq!(updates(&mut events), ["x:1", "x:2"]);
    tokio::time::sleep(Duration::from_secs(600)).await;
    assert_eq!(rig.server.count("resources/subscribe"), 9, "what is carried out is not asked for again");
}

#[tokio::test(start_paused = true)]
async fn a_resource_whose_subscription_hangs_holds_up_no_other() {
    let rig = Rig::new(false).await;
    rig.server.hang_on("x:1");
    let began = tokio::time::Instant::now();
    let hangs = wish(&rig, "x:1");
    let others = async {
        let wishes = (wish(&rig, "x:2").await.unwrap().unwrap(), wish(&rig, "x:3").await.unwrap().unwrap());
        assert_eq!(began.elapsed(), Duration::ZERO);
        wishes
    };
    let (hung, _others) = tokio::join!(hangs, others);
    assert!(matches!(hung, Err(CallError::Failed { .. })));
    assert_eq!(rig.server.count("resources/subscribe"), 3);
}

#[tokio::test(start_paused = true)]
async fn a_modern_server_that_is_short_of_time_is_not_taken_for_one_without_subscriptions() {
    let rig = Rig::new(true).await;
    let first = wish(&rig, "x:1").await.unwrap().unwrap();
    rig.server.refuse_streams(Some(503));
    assert!(matches!(wish(&rig, "x:2").await, Err(CallError::Failed { .. })), "and not: it has none");
    rig.server.refuse_streams(None);
    let second = wish(&rig, "x:2").await.unwrap().unwrap();
    let mut events = rig.fleet.events();
    for uri in ["x:1", "x:2"] {
        update(&rig.server, uri).await;
    }
    assert_eq!(updates(&mut events), ["x:1", "x:2"]);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_for_time_is_not_asked_for_a_stream_or_a_subscription_meanwhile() {
    let rig = Rig::new(false).await;
    rig.server.on_call(OnCall::Throttle(Some(600)));
    let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
    assert!(rig.fleet.call(&id(), Caller::default(), "tools/call", params).await.is_err());
    rig.server.break_streams();
    tokio::time::sleep(Duration::from_secs(500)).await;
    assert!(matches!(wish(&rig, "x:1").await, Err(CallError::Throttled { .. })));
    assert_eq!((rig.server.count("GET"), rig.server.count("resources/subscribe")), (1, 0));
    tokio::time::sleep(Duration::from_secs(101)).await;
    assert_eq!(rig.server.streams(), 1);
    let _wish = wish(&rig, "x:1").await.unwrap().unwrap();
}
