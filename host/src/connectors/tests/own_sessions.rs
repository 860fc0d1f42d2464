use serde_json::json;

use super::live::{Live, OnCall};
use super::*;
use crate::connectors::{CallError, Caller, OwnSessions};
use crate::mcp::{Declared, Nobody, Outcome};
use crate::model::raw::{self, RawObject};

fn client() -> OwnSessions {
    let capabilities = raw::trusted(r#"{"roots":{}}"#.to_owned());
    OwnSessions::new(Declared { capabilities, info: None })
}

async fn call(rig: &Rig, own: &OwnSessions) -> Result<Outcome, CallError> {
    let params = RawObject::from_str(r#"{"name":"t1","arguments":{}}"#).unwrap();
    rig.fleet.call(&id(), Caller { interim: &Nobody, own: Some(own) }, "tools/call", params).await
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
    assert!(is_result(&call(&rig, &own).await));
    assert!(is_result(&call(&rig, &own).await));
    assert_eq!(modern.count("tools/call"), 3, "the first was refused for its era");
}

#[tokio::test(start_paused = true)]
async fn a_call_on_a_session_of_ones_own_fails_at_once_when_its_server_dies() {
    let rig = Rig::new(false).await;
    let own = client();
    rig.server.on_call(OnCall::BreakEvents);
    let began = tokio::time::Instant::now();
    assert!(matches!(call(&rig, &own).await, Err(CallError::Failed { .. })));
    assert_eq!(began.elapsed(), Duration::ZERO);
}
