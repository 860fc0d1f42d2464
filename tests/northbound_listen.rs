//! `subscriptions/listen`: what is granted, what is told, and how it ends.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use axum::Router;
use axum::body::Body;
use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::gateway::{SyncKind, limits};
use cortex_mcp::mcp::Era;
use cortex_mcp::model::{Digest, ListKind};
use http::{Method, Response};
use serde_json::{Value, json};
use support::client::META;
use support::scripted::{Scripted, Style};
use support::streaming::{Stream, send};
use support::{Rig, Served, seconds};

const SUBSCRIPTION: &str = "io.modelcontextprotocol/subscriptionId";

fn router(served: &Served) -> Router {
    served.gateway.router("127.0.0.1:8420".parse().unwrap())
}

async fn listen(router: &Router, id: &str, notifications: &str) -> Response<Body> {
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
    let params = format!(r#"{{"notifications":{notifications},{META}}}"#);
    let body = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"subscriptions/listen","params":{params}}}"#);
    send(router, Method::POST, &headers, &body).await
}

async fn code(response: Response<Body>) -> Option<i64> {
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
    serde_json::from_slice::<Value>(&body).unwrap()["error"]["code"].as_i64()
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_is_said_first_and_every_message_names_its_request() {
    let rig = Rig::new(2);
    let served = rig.ready().await;
    let router = router(&served);
    let wish = r#"{"toolsListChanged":true,"promptsListChanged":false,"resourcesListChanged":true,"odd":true,
        "resourceSubscriptions":["no:where",7]}"#;
    for (id, expected) in [("7", json!(7)), (r#""seven""#, json!("seven"))] {
        let mut stream = Stream::of(listen(&router, id, wish).await);
        let first = stream.next().await.unwrap();
        let params = json!({
            "notifications": {"toolsListChanged": true, "resourcesListChanged": true},
            "_meta": {SUBSCRIPTION: expected},
        });
        let method = "notifications/subscriptions/acknowledged";
        assert_eq!(first, json!({"jsonrpc": "2.0", "method": method, "params": params}));
        rig.server(1).set_tools(if id == "7" { 4 } else { 5 });
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        let told = stream.within(seconds(5)).await;
        let params = json!({"_meta": {SUBSCRIPTION: expected}});
        assert_eq!(told, [json!({"jsonrpc": "2.0", "method": "notifications/tools/list_changed", "params": params})]);
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_is_told_what_it_did_not_ask_for() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let mut prompts = Stream::of(listen(&router, "1", r#"{"promptsListChanged":true}"#).await);
    let mut nothing = Stream::of(listen(&router, "2", "{}").await);
    rig.server(1).set_tools(4);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    for stream in [&mut prompts, &mut nothing] {
        let told = stream.within(seconds(40)).await;
        assert_eq!(told.len(), 1, "the acknowledgement, and comments: {told:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_changed_list_of_each_kind_is_told_as_that_and_an_equal_one_not() {
    let rig = Rig::new(1);
    let server = Scripted::new(Era::Modern, Style::Json);
    let item = |kind: ListKind, name: &str| {
        format!(r#"{{"{}":"{name}","name":"n"}}"#, kind.key()).replace(r#","name":"n"}"#, "}")
    };
    let list = |kind: ListKind, name: &str| server.list(kind, vec![item(kind, name)]);
    ListKind::ALL.into_iter().for_each(|kind| list(kind, "a:b"));
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    let served = rig.ready().await;
    let wish = r#"{"toolsListChanged":true,"promptsListChanged":true,"resourcesListChanged":true}"#;
    let mut stream = Stream::of(listen(&router(&served), "1", wish).await);
    assert_eq!(stream.within(seconds(1)).await.len(), 1);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(stream.within(seconds(2)).await.len(), 0, "the same again is no change");
    for kind in ListKind::ALL {
        list(kind, "c:d");
        served.gateway.sync(SyncKind::Force, |_| {}).await;
        let told = stream.within(seconds(2)).await;
        assert_eq!(told.len(), 1, "{kind:?}: {told:?}");
        assert_eq!(told[0]["method"], kind.changed());
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_with_a_result_when_the_gateway_ends() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let stream = Stream::of(listen(&router(&served), "9", r#"{"toolsListChanged":true}"#).await);
    served.gateway.shut_down().await;
    let messages = stream.rest().await;
    let result = json!({"resultType": "complete", "_meta": {SUBSCRIPTION: 9}});
    assert_eq!(messages[1..], [json!({"jsonrpc": "2.0", "id": 9, "result": result})]);
}

#[tokio::test(start_paused = true)]
async fn subscriptions_are_bounded_and_a_closed_one_frees_its_place() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    let mut streams = Vec::new();
    for _ in 0..limits::LISTENS_MAX {
        streams.push(listen(&router, "1", "{}").await);
    }
    assert_eq!(served.metric("mcp_subscription_streams"), Some(limits::LISTENS_MAX as f64));
    assert_eq!(code(listen(&router, "1", "{}").await).await, Some(-32010));
    streams.pop();
    served
        .until("one place is free", seconds(1), |served| {
            served.metric("mcp_subscription_streams") == Some((limits::LISTENS_MAX - 1) as f64)
        })
        .await;
    Stream::of(listen(&router, "1", "{}").await);
}

#[tokio::test(start_paused = true)]
async fn a_wish_that_can_not_be_read_or_streamed_is_refused() {
    let rig = Rig::new(1);
    let served = rig.ready().await;
    let router = router(&served);
    assert_eq!(code(listen(&router, "1", "7").await).await, Some(-32602));
    let headers = [
        ("mcp-protocol-version", "2026-07-28"),
        ("mcp-method", "subscriptions/listen"),
        ("accept", "application/json"),
    ];
    let body = format!(
        r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{"notifications":{{}},{META}}}}}"#
    );
    assert_eq!(code(send(&router, Method::POST, &headers, &body).await).await, Some(-32600));
}

#[tokio::test(start_paused = true)]
async fn a_subscription_ends_when_its_token_sees_something_else_and_stays_when_it_does_not() {
    let token = |name: &str, more: &str| {
        format!("[[token]]\nname = \"{name}\"\nsha256 = \"{}\"\n{more}\n", Digest::of(name.as_bytes()))
    };
    let mut rig = Rig::new(1);
    rig.toml = token("changed", "") + &token("same", "");
    let served = rig.ready().await;
    let router = router(&served);
    let listen = async |bearer: &str| {
        let headers =
            [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen"), ("authorization", bearer)];
        let params = format!(r#"{{"notifications":{{"toolsListChanged":true}},{META}}}"#);
        let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{params}}}"#);
        Stream::of(send(&router, Method::POST, &headers, &body).await)
    };
    let (changed, mut same) = (listen("Bearer changed").await, listen("Bearer same").await);
    rig.toml = token("changed", "deny-tools = [\"*\"]") + &token("same", "");
    served.gateway.reload(rig.settings()).await.unwrap();
    let messages = changed.rest().await;
    assert_eq!((messages.len(), &messages[1]["result"]["resultType"]), (2, &json!("complete")));
    rig.server(1).set_tools(5);
    served.gateway.sync(SyncKind::Force, |_| {}).await;
    assert_eq!(same.within(seconds(5)).await.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn servers_that_do_not_answer_hold_up_no_acknowledgement_for_long() {
    let rig = Rig::new(1);
    let server = Scripted::new(Era::Legacy, Style::Json);
    server.list(ListKind::Resources, vec![r#"{"uri":"a:b","name":"r"}"#.to_owned()]);
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    let served = rig.ready().await;
    rig.network.set(&rig.servers[0].url, Host::Hang);
    let uris: Vec<String> = (0..100).map(|number| format!("\"a:{number}\"")).collect();
    let wish = format!(r#"{{"toolsListChanged":true,"resourceSubscriptions":[{}]}}"#, uris.join(","));
    let began = tokio::time::Instant::now();
    let mut stream = Stream::of(listen(&router(&served), "1", &wish).await);
    let granted = stream.next().await.unwrap();
    assert_eq!(granted["params"]["notifications"], json!({"toolsListChanged": true}));
    assert!(began.elapsed() <= limits::LISTEN_GRANT_TIMEOUT, "{:?}", began.elapsed());
    let long = format!(r#"{{"resourceSubscriptions":["x:{}"]}}"#, "y".repeat(limits::SUBSCRIPTION_URI_BYTES_MAX));
    assert_eq!(code(listen(&router(&served), "1", &long).await).await, Some(-32602));
}
