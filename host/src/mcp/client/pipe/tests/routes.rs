//! Who hears what a server says of its own accord, and who answers what it asks.

use std::time::Duration;

use tokio::sync::mpsc;

use super::*;
use crate::mcp::limits::{LIST_CHANGES_HELD, MAX_SERVER_REQUESTS};
use crate::mcp::{Nobody, ProtocolFault};
use crate::model::ListKind;

const CHANGED: &str = r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#;

#[tokio::test(start_paused = true)]
async fn a_change_that_is_announced_before_anybody_listens_is_heard_by_who_does() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.request().await.unwrap();
        peer.answer(&request, INITIALIZED).await;
        for _ in 0..1_000 {
            peer.say(CHANGED).await;
        }
        peer.request().await;
        peer.say(CHANGED).await;
        peer.rest().await
    });
    let session = rig.session(Era::Legacy).await;
    settle().await;
    let keeps = Arc::new(Keeps::default());
    let (listening, hears) = (session.clone(), keeps.clone());
    let listener = tokio::spawn(async move { listening.listen(&[], &[], &*hears).await });
    settle().await;
    assert_eq!(keeps.told(), ["notifications/tools/list_changed "; LIST_CHANGES_HELD]);
    drop(tokio::time::timeout(Duration::from_secs(1), session.request("x", object("{}"), &Nobody)).await);
    settle().await;
    assert_eq!(keeps.told().len(), LIST_CHANGES_HELD + 1);
    let second = session.listen(&[], &[], &Nobody).await.unwrap_err();
    assert_eq!(second, ProtocolFault::TooManyListeners.into());
    session.close().await;
    assert_eq!(listener.await.unwrap().unwrap_err(), ProtocolFault::PipeEnded.into());
}

/// A server that asks things when it is called, and answers the call with what it was told.
async fn asking(mut peer: Peer, questions: Vec<String>) -> Exit {
    let request = peer.open(Era::Legacy).await.unwrap();
    for question in &questions {
        peer.say(question).await;
    }
    let mut told = Vec::new();
    while told.len() < questions.len() {
        told.push(peer.next().await.unwrap());
    }
    told.sort_by_key(|answer| answer["id"].as_str().map(str::to_owned));
    peer.answer(&request, &serde_json::to_string(&told).unwrap()).await;
    peer.rest().await
}

fn question(id: &str, method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":"{id}","method":"{method}","params":{{}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn a_ping_is_always_answered_and_other_questions_are_refused_where_nobody_listens() {
    let rig = Rig::new(|peer| asking(peer, vec![question("a", "ping"), question("b", "roots/list")]));
    let session = rig.session(Era::Legacy).await;
    let keeps = Keeps::default();
    let told = text(session.request("tools/call", object("{}"), &keeps).await.unwrap());
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told[0], serde_json::json!({"jsonrpc":"2.0","id":"a","result":{}}));
    assert_eq!((&told[1]["id"], &told[1]["error"]["code"]), (&"b".into(), &(-32601).into()));
    // A shared session's question is never asked of a client that happens to call.
    assert!(keeps.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn questions_go_to_who_listens_or_to_the_one_client_whose_session_it_is() {
    let rig = Rig::new(|peer| asking(peer, vec![question("a", "sampling/createMessage")]));
    let session = rig.session(Era::Legacy).await;
    let (keeps, listening) = (Arc::new(Keeps::default()), session.clone());
    let hears = keeps.clone();
    tokio::spawn(async move { listening.listen(&[], &[], &*hears).await });
    settle().await;
    let told = text(session.request("tools/call", object("{}"), &Nobody).await.unwrap());
    assert_eq!(told, r#"[{"jsonrpc":"2.0","id":"a","result":{}}]"#);
    assert_eq!(keeps.told(), ["asked sampling/createMessage"]);

    let rig = Rig::new(|mut peer| async move {
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"early":1}}"#).await;
        asking(peer, vec![question("a", "elicitation/create")]).await
    });
    let declared = Declared { capabilities: object(r#"{"elicitation":{}}"#).to_raw(), info: None };
    let session = rig.upstream.open(Some(Era::Legacy), &declared).await.unwrap();
    let keeps = Keeps::default();
    let told = text(session.request("tools/call", object("{}"), &keeps).await.unwrap());
    assert_eq!(told, r#"[{"jsonrpc":"2.0","id":"a","result":{}}]"#);
    assert_eq!(keeps.told(), ["asked elicitation/create"]);
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_questions_is_refused_beyond_the_bound_and_the_pipe_goes_on() {
    /// Never answers.
    struct Mute;
    impl Interim for Mute {
        fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
            futures_util::future::ready(()).boxed()
        }
        fn ask(&self, _: Question) -> BoxFuture<'_, Outcome> {
            futures_util::future::pending().boxed()
        }
    }
    const FLOOD: usize = MAX_SERVER_REQUESTS + 20;
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Legacy).await.unwrap();
        for number in 0..FLOOD {
            peer.say(&question(&number.to_string(), "roots/list")).await;
        }
        let mut refused = 0;
        while refused < FLOOD - MAX_SERVER_REQUESTS {
            let answer = peer.next().await.unwrap();
            assert_eq!(answer["error"]["code"], -32601);
            refused += 1;
        }
        // One that is open is taken back: it is not answered any more.
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":"5"}}"#).await;
        peer.answer(&request, r#"{"done":true}"#).await;
        let mut rest = Vec::new();
        while let Some(answer) = peer.next().await {
            rest.push(answer["id"].as_str().unwrap().to_owned());
        }
        assert!(!rest.contains(&"5".to_owned()));
        // Whoever is asked something is told in the end, even if nobody answered; as many at once as the way out holds.
        assert!((1..MAX_SERVER_REQUESTS).contains(&rest.len()), "{}", rest.len());
        Exit::Code(7)
    });
    let declared = Declared { capabilities: object(r#"{"roots":{}}"#).to_raw(), info: None };
    let session = rig.upstream.open(Some(Era::Legacy), &declared).await.unwrap();
    let outcome = session.request("tools/call", object("{}"), &Mute).await.unwrap();
    assert_eq!(text(outcome), r#"{"done":true}"#);
    settle().await;
    session.close().await;
}

#[tokio::test(start_paused = true)]
async fn a_subscription_hears_what_names_it_and_ends_when_its_server_says_so() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Modern).await.unwrap();
        assert_eq!(request["method"], "subscriptions/listen");
        let id = request["id"].clone();
        let about = |method: &str, id: &Value| {
            let meta = format!(r#"{{"io.modelcontextprotocol/subscriptionId":{id}}}"#);
            format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{{"_meta":{meta}}}}}"#)
        };
        peer.say(&about("notifications/subscriptions/acknowledged", &id)).await;
        peer.say(&about("notifications/tools/list_changed", &id)).await;
        peer.say(&about("notifications/tools/list_changed", &"another".into())).await;
        let call = peer.request().await.unwrap();
        peer.answer(&call, "{}").await;
        peer.say(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#))
            .await;
        peer.rest().await
    });
    let session = rig.session(Era::Modern).await;
    let (keeps, listening) = (Arc::new(Keeps::default()), session.clone());
    let hears = keeps.clone();
    let listener = tokio::spawn(async move { listening.listen(&[ListKind::Tools], &[], &*hears).await });
    settle().await;
    let other = Keeps::default();
    session.request("tools/call", object("{}"), &other).await.unwrap();
    let ended = listener.await.unwrap().unwrap_err();
    assert_eq!(ended, ProtocolFault::StreamEnded.into());
    let methods: Vec<_> = keeps.told().iter().map(|told| told.split(' ').next().unwrap().to_owned()).collect();
    assert_eq!(methods, ["notifications/subscriptions/acknowledged", "notifications/tools/list_changed"]);
    assert!(other.told().is_empty());
}

#[tokio::test(start_paused = true)]
async fn log_messages_go_to_the_one_request_that_asked_for_some_and_to_no_stranger() {
    let (step, mut steps) = mpsc::unbounded_channel::<()>();
    let rig = Rig::new(|mut peer| async move {
        let log = |number: u32| {
            format!(r#"{{"jsonrpc":"2.0","method":"notifications/message","params":{{"data":{number}}}}}"#)
        };
        let silent = peer.open(Era::Modern).await.unwrap();
        let first = peer.request().await.unwrap();
        peer.say(&log(1)).await;
        peer.answer(&first, "{}").await;
        let (second, third) = (peer.request().await.unwrap(), peer.request().await.unwrap());
        peer.say(&log(2)).await;
        for request in [second, third, silent] {
            peer.answer(&request, "{}").await;
        }
        peer.rest().await
    });
    let session = rig.session(Era::Modern).await;
    let logs = || object(r#"{"_meta":{"io.modelcontextprotocol/logLevel":"debug"}}"#);
    let (stranger, calling) = (Arc::new(Keeps::default()), session.clone());
    let hears = stranger.clone();
    let silent = tokio::spawn(async move {
        let outcome = calling.request("tools/call", object("{}"), &*hears).await;
        step.send(()).unwrap();
        outcome
    });
    settle().await;
    let keeps = [Keeps::default(), Keeps::default(), Keeps::default()];
    session.request("tools/call", logs(), &keeps[0]).await.unwrap();
    let (second, third) = tokio::join!(
        session.request("tools/call", logs(), &keeps[1]),
        session.request("tools/call", logs(), &keeps[2]),
    );
    assert!(second.is_ok() && third.is_ok());
    steps.recv().await;
    silent.await.unwrap().unwrap();
    assert_eq!(keeps.map(|keeps| keeps.told().len()), [1, 0, 0], "two that asked can not be told apart");
    assert!(stranger.told().is_empty());
}
