use serde_json::json;

use super::live::{Live, OnCall};
use super::*;
use crate::connectors::{CallError, Caller, OwnSessions, limits};
use crate::mcp::{Declared, Interim, Nobody, Notice, Outcome, Question};
use crate::model::raw::{self, RawObject};

fn client() -> OwnSessions {
    let capabilities = raw::trusted(r#"{"roots":{}}"#.to_owned());
    OwnSessions::new(Declared { capabilities, info: None })
}

/// A client that its servers may also ask beside their answers.
fn listening() -> OwnSessions {
    client().with_messages(Arc::new(Nobody))
}

async fn call(rig: &Rig, own: &OwnSessions) -> Result<Outcome, CallError> {
    let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
    rig.fleet.call(&id(), Caller { interim: &Nobody, own: Some(own), ..Caller::default() }, "tools/call", params).await
}

fn is_result(called: &Result<Outcome, CallError>) -> bool {
    matches!(called, Ok(Outcome::Result(_)))
}

#[tokio::test(start_paused = true)]
async fn a_client_has_a_session_of_its_own_which_is_opened_again_when_it_is_lost() {
    let rig = Rig::new(false).await;
    let own = client();
    assert!(is_result(&call(&rig, &own).await) && is_result(&call(&rig, &own).await));
    let declared: Vec<_> =
        rig.server.params("initialize").iter().map(|params| params["capabilities"].clone()).collect();
    assert_eq!(declared, [json!({}), json!({ "roots": {} })]);
    rig.server.forget();
    assert!(is_result(&call(&rig, &own).await));
    let capabilities = rig.server.params("initialize").pop().unwrap()["capabilities"].clone();
    assert_eq!(capabilities, json!({ "roots": {} }));
    own.close().await;
    assert_eq!(rig.server.count("DELETE"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_clients_level_and_notifications_reach_its_own_sessions_and_the_later_ones() {
    let rig = Rig::new(false).await;
    let own = client();
    // Nothing is open, so nobody is told.
    own.set_log_level("error").await;
    own.tell("notifications/roots/list_changed", None).await;
    assert_eq!((rig.server.count("logging/setLevel"), rig.server.count("notifications/roots/list_changed")), (0, 0));
    call(&rig, &own).await.unwrap();
    own.set_log_level("debug").await;
    own.set_log_level("chatty").await;
    own.tell("notifications/roots/list_changed", None).await;
    let levels: Vec<_> = rig.server.params("logging/setLevel").iter().map(|one| one["level"].clone()).collect();
    assert_eq!(levels, ["error", "debug"]);
    assert_eq!(rig.server.count("notifications/roots/list_changed"), 1);
    // A session that takes the place of a lost one is told before anything is asked of it.
    rig.server.forget();
    call(&rig, &own).await.unwrap();
    assert_eq!(rig.server.params("logging/setLevel").pop().unwrap()["level"], "debug");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_became_modern_is_called_through_the_shared_session() {
    let rig = Rig::new(false).await;
    let own = client();
    assert!(is_result(&call(&rig, &own).await));
    let modern = Live::new(true, 1);
    rig.network.set(&url(), Host::Serve(modern.router()));
    // What a call is answered with is never a reason to make it again; the list that follows shows the era.
    assert!(matches!(call(&rig, &own).await, Ok(Outcome::Error(_))));
    rig.until("its list", || modern.count("tools/list") > 0 && modern.count("server/discover") > 0).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(is_result(&call(&rig, &own).await));
    assert_eq!(modern.count("tools/call"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_session_of_ones_own_fails_at_once_when_its_server_dies() {
    let rig = Rig::new(false).await;
    let own = client();
    rig.server.on_call(OnCall::BreakEvents);
    let began = tokio::time::Instant::now();
    assert!(matches!(call(&rig, &own).await, Err(CallError::AnswerLost { .. })));
    assert_eq!(began.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_connector_that_is_taken_out_takes_the_sessions_and_streams_of_all_clients_with_it() {
    for rebuilt in [false, true] {
        let rig = Rig::new(false).await;
        let clients = [listening(), listening(), listening()];
        for own in &clients {
            assert!(is_result(&call(&rig, own).await));
        }
        assert_eq!((rig.server.streams(), rig.server.count("DELETE")), (4, 0));
        rig.fleet.apply(if rebuilt { vec![described("2")] } else { Vec::new() }).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        // No client has called again.
        let left = usize::from(rebuilt);
        assert_eq!((rig.server.streams(), rig.server.count("DELETE")), (left, 4), "rebuilt: {rebuilt}");
        tokio::time::sleep(Duration::from_secs(600)).await;
        assert_eq!((rig.server.streams(), rig.server.count("GET")), (left, 4 + left));
        assert_eq!(is_result(&call(&rig, &clients[0]).await), rebuilt);
        rig.fleet.shut_down(tokio::time::Instant::now() + Duration::from_secs(1)).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!((rig.server.streams(), rig.server.count("DELETE")), (0, 4 + 2 * left));
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_keeps_the_head_of_its_stream_back_costs_one_call_its_patience_and_no_other() {
    let rig = Rig::new(false).await;
    rig.server.withhold_streams();
    let own = listening();
    let began = tokio::time::Instant::now();
    assert!(is_result(&call(&rig, &own).await));
    assert_eq!(began.elapsed(), Duration::from_secs(1));
    for _ in 0..20 {
        assert!(is_result(&call(&rig, &own).await));
    }
    assert_eq!((began.elapsed(), rig.server.count("tools/call")), (Duration::from_secs(1), 21));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_cut_again_and_again_is_opened_again_each_time() {
    let rig = Rig::new(false).await;
    let own = listening();
    assert!(is_result(&call(&rig, &own).await));
    for cut in 1..=250 {
        tokio::time::sleep(Duration::from_secs(60)).await;
        rig.server.end_streams();
        tokio::time::sleep(Duration::from_millis(10)).await;
        rig.until(&format!("the stream after cut {cut}"), || rig.server.streams() == 2).await;
    }
    rig.server.refuse_streams(Some(503));
    rig.server.break_streams();
    tokio::time::sleep(Duration::from_secs(20)).await;
    rig.server.refuse_streams(None);
    rig.until("the stream after a while without", || rig.server.streams() == 2).await;
    // A server that says that it has no stream is not asked again.
    rig.server.refuse_streams(Some(405));
    rig.server.break_streams();
    tokio::time::sleep(Duration::from_secs(600)).await;
    let asked = rig.server.count("GET");
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!((rig.server.streams(), rig.server.count("GET")), (0, asked));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_finds_no_place_takes_that_of_the_one_that_was_idle_for_the_longest() {
    let rig = Rig::new(false).await;
    let clients: Vec<OwnSessions> = (0..limits::OWN_SESSIONS_MAX).map(|_| client()).collect();
    for own in &clients {
        assert!(is_result(&call(&rig, own).await));
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // The second is idle for the longest now.
    assert!(is_result(&call(&rig, &clients[0]).await));
    let opened = 1 + limits::OWN_SESSIONS_MAX;
    assert_eq!((rig.server.count("initialize"), rig.server.count("DELETE")), (opened, 0));
    let late = client();
    assert!(is_result(&call(&rig, &late).await));
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!((rig.server.count("initialize"), rig.server.count("DELETE")), (opened + 1, 1));
    assert!(is_result(&call(&rig, &clients[0]).await) && is_result(&call(&rig, &clients[2]).await));
    assert_eq!(rig.server.count("initialize"), opened + 1, "they were left alone");
    assert!(is_result(&call(&rig, &clients[1]).await));
    assert_eq!(rig.server.count("initialize"), opened + 2, "it is given another one when it calls again");
}

#[tokio::test(start_paused = true)]
async fn a_session_under_a_call_is_not_taken_away_and_who_finds_none_shares() {
    let rig = Rig::new(false).await;
    rig.server.on_call(OnCall::Ask(Duration::from_secs(40)));
    let clients: Vec<OwnSessions> = (0..limits::OWN_SESSIONS_MAX).map(|_| client()).collect();
    let rig = &rig;
    let calls = clients.iter().map(|own| async move {
        let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
        rig.fleet
            .call(&id(), Caller { interim: &Thinking, own: Some(own), ..Caller::default() }, "tools/call", params)
            .await
    });
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.server.count("tools/call"), limits::OWN_SESSIONS_MAX, "who asks takes no other's place");
        rig.server.on_call(OnCall::Answer);
        assert!(is_result(&call(rig, &client()).await));
    };
    let (called, ()) = tokio::join!(futures_util::future::join_all(calls), late);
    assert!(called.iter().all(is_result));
    assert_eq!(rig.server.count("initialize"), 1 + limits::OWN_SESSIONS_MAX);
}

/// A client whose user takes their time.
struct Thinking;

impl Interim for Thinking {
    fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
        futures_util::future::ready(()).boxed()
    }

    fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
        futures_util::future::pending().boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_that_ask_their_clients_leave_their_places_to_others_up_to_a_bound() {
    let rig = Rig::new(false).await;
    rig.server.on_call(OnCall::Ask(Duration::from_secs(300)));
    let asking = limits::ASKING_CALLS_MAX;
    let calls: Vec<_> = (0..asking + 50)
        .map(|_| async {
            let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
            rig.fleet.call(&id(), Caller { interim: &Thinking, ..Caller::default() }, "tools/call", params).await
        })
        .collect();
    let late = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(rig.server.count("tools/call"), asking + limits::CALLS_PER_CONNECTOR);
    };
    let (called, ()) = tokio::join!(futures_util::future::join_all(calls), late);
    let answered = called.iter().filter(|called| is_result(called)).count();
    assert_eq!(answered, asking + limits::CALLS_PER_CONNECTOR, "no call under way is lost");
    let busy = |called: &&Result<Outcome, CallError>| matches!(called, Err(CallError::Busy { .. }));
    assert_eq!(called.iter().filter(busy).count(), 40);
    rig.server.on_call(OnCall::Answer);
    assert!(is_result(&call(&rig, &client()).await), "every place is free again");
}
