//! Resources of several servers behind one endpoint: each is read where it is, by its own URI or by its qualified one, and
//! its server is asked for what it calls its own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use std::sync::Arc;

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::mcp::Era;
use cortex_mcp::model::{Digest, ListKind};
use http::Method;
use serde_json::{Value, json};
use support::client::META;
use support::scripted::{Ending, Scripted, Style};
use support::streaming::{Stream, send};
use support::{Rig, Served, seconds};

/// A gateway over two servers that both have `note:1` and `note:{n}`; `s2` has `own:2` besides.
async fn two(toml: &str) -> (Arc<Scripted>, Arc<Scripted>, Served) {
    let mut rig = Rig::new(2);
    rig.toml = toml.to_owned();
    let server = |number: usize, era: Era, resources: &[&str]| {
        let server = Scripted::new(era, Style::Json);
        let define = |member: &str, key: &str| format!(r#"{{"{member}":"{key}","name":"n","of":{number}}}"#);
        server.list(ListKind::Resources, resources.iter().map(|uri| define("uri", uri)).collect());
        server.list(ListKind::Templates, vec![define("uriTemplate", "note:{n}")]);
        server
            .tell(Vec::new(), Ending::Result(format!(r#"{{"contents":[{{"uri":"note:1","text":"of s{number}"}}]}}"#)));
        rig.network.set(&rig.servers[number - 1].url, Host::Serve(server.router()));
        server
    };
    let (one, two) = (server(1, Era::Legacy, &["note:1"]), server(2, Era::Modern, &["note:1", "own:2"]));
    (one, two, rig.ready().await)
}

fn asked_for(server: &Scripted) -> Vec<String> {
    let params = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    server
        .asked("resources/read")
        .iter()
        .map(|asked| params(&asked.params)["uri"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_uri_that_two_servers_claim_is_the_firsts_and_the_other_is_read_by_its_qualified_form() {
    let (one, two, served) = two("").await;
    for client in [served.legacy(), served.modern()] {
        let listed = client.ask("resources/list", "").await.result();
        let uris: Vec<_> = listed["resources"].as_array().unwrap().iter().map(|item| item["uri"].clone()).collect();
        assert_eq!(uris, ["note:1", "cortex+s2:note:1", "own:2"]);
        let listed = client.ask("resources/templates/list", "").await.result();
        let templates = listed["resourceTemplates"].as_array().unwrap();
        let templates: Vec<_> = templates.iter().map(|item| item["uriTemplate"].clone()).collect();
        assert_eq!(templates, ["note:{n}", "cortex+s2:note:{n}"]);
        for (uri, number) in
            [("note:1", 1), ("cortex+s2:note:1", 2), ("own:2", 2), ("cortex+s1:note:1", 1), ("cortex+s2:note:7", 2)]
        {
            let read = client.ask("resources/read", &format!(r#""uri":"{uri}""#)).await.result();
            assert_eq!(read["contents"][0]["text"], format!("of s{number}"), "{uri}");
        }
    }
    assert_eq!(asked_for(&one), ["note:1", "note:1", "note:1", "note:1"]);
    assert_eq!(asked_for(&two), ["note:1", "own:2", "note:7", "note:1", "own:2", "note:7"]);
    let named: Vec<_> = two
        .asked("resources/read")
        .iter()
        .map(|asked| asked.headers["mcp-name"].to_str().unwrap().to_owned())
        .collect();
    assert_eq!(named, asked_for(&two), "the header says the same");
    let collisions = serde_json::to_value(served.gateway.status().collisions).unwrap();
    assert_eq!(
        collisions,
        json!([
            { "name": "note:1", "kind": "resources", "served": "s1", "hidden": "s2", "instead": "cortex+s2:note:1" },
            { "name": "note:{n}", "kind": "templates", "served": "s1", "hidden": "s2", "instead": "cortex+s2:note:{n}" }
        ])
    );
    let status = served.connector("s2").unwrap();
    assert_eq!((status.tools, status.prompts, status.resources, status.templates), (0, 0, 2, 1));
    assert_eq!(status.transport, Some("http"));
}

#[tokio::test(start_paused = true)]
async fn who_denies_a_resource_gives_way_to_the_next_that_may_have_it() {
    let (one, two, served) = two("").await;
    let denied =
        Ending::Error(200, r#"{"code":-32002,"message":"no such resource","data":{"uri":"note:9"}}"#.to_owned());
    one.tell(Vec::new(), denied);
    for uri in ["note:9", "made-up:9"] {
        let read = served.modern().ask("resources/read", &format!(r#""uri":"{uri}""#)).await.result();
        assert_eq!(read["contents"][0]["text"], "of s2", "{uri}");
    }
    assert_eq!((asked_for(&one).len(), asked_for(&two).len()), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn what_a_token_does_not_see_is_not_asked_for_under_any_uri() {
    let token = format!("[[token]]\nname = \"t\"\nsha256 = \"{}\"\nconnectors = [\"s1\"]", Digest::of(b"t"));
    let (one, two, served) = two(&token).await;
    let client = served.modern().with_header("authorization", "Bearer t");
    let listed = client.ask("resources/list", "").await;
    assert!(!listed.body.contains("s2") && !listed.body.contains("own:2"), "{}", listed.body);
    let denied = r#"{"code":-32002,"message":"no such resource"}"#;
    one.tell(Vec::new(), Ending::Error(200, denied.to_owned()));
    for uri in ["own:2", "cortex+s2:own:2", "cortex+s2:note:1", "nobody:1"] {
        let read = client.ask("resources/read", &format!(r#""uri":"{uri}""#)).await;
        assert_eq!(read.code(), Some(-32602), "{uri}: {}", read.body);
    }
    assert_eq!(asked_for(&two), Vec::<String>::new());
}

#[tokio::test(start_paused = true)]
async fn an_update_is_told_under_every_uri_that_it_was_subscribed_by_and_not_to_who_subscribed_to_another() {
    let (one, _two, served) = two("").await;
    let headers = [("mcp-protocol-version", "2026-07-28"), ("mcp-method", "subscriptions/listen")];
    let wish = r#""notifications":{"resourceSubscriptions":["note:1","cortex+s1:note:1"]}"#;
    let body = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"subscriptions/listen","params":{{{wish},{META}}}}}"#);
    let router = served.gateway.router("127.0.0.1:8420".parse().unwrap());
    let mut stream = Stream::of(send(&router, Method::POST, &headers, &body).await);
    assert_eq!(stream.within(seconds(5)).await.len(), 1, "the acknowledgement");
    for (updated, told_of) in [
        ("note:10", Vec::new()),
        ("note:1", vec!["cortex+s1:note:1", "note:1"]),
        ("note:1/part", vec!["cortex+s1:note:1/part", "note:1/part"]),
        ("note:2", Vec::new()),
    ] {
        assert_eq!(one.send("notifications/resources/updated", &format!(r#"{{"uri":"{updated}"}}"#)), 1);
        let told = stream.within(seconds(5)).await;
        let uris: Vec<&str> = told.iter().map(|told| told["params"]["uri"].as_str().unwrap()).collect();
        assert_eq!(uris, told_of, "{updated}");
    }
}
