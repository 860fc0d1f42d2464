//! Which results name which resources, and how long that is remembered.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::catalog::View;
use crate::gateway::door::MayChange;
use crate::model::{Auth, Quotas, Reach, Source, Timeouts, raw};

fn id(text: &str) -> ConnectorId {
    text.parse().unwrap()
}

/// A connector of a server that its ID tells from others.
fn at(text: &str) -> Connector {
    Connector {
        id: id(text),
        name: String::new(),
        version: String::new(),
        enabled: true,
        reach: Some(Reach::Http(format!("https://{text}.example/mcp").parse().unwrap())),
        auth: Auth::default(),
        headers: BTreeMap::new(),
        scopes: Vec::new(),
        tags: Vec::new(),
        quotas: Quotas::default(),
        timeouts: Timeouts::default(),
        expires: None,
        source: Source::Registry,
    }
}

fn named_by(links: &Links, uri: &str, now: BootMs) -> Option<ConnectorId> {
    links.named_by(uri, now).map(|(connector, server)| {
        assert_eq!(server, at(connector.as_str()).server_digest());
        connector
    })
}

fn result(text: &str) -> Box<RawValue> {
    RawValue::from_string(text.to_owned()).unwrap()
}

fn linking(uris: &[&str]) -> Box<RawValue> {
    let links: Vec<_> =
        uris.iter().map(|uri| serde_json::json!({ "type": "resource_link", "uri": uri, "name": "n" })).collect();
    result(&serde_json::json!({ "content": links }).to_string())
}

fn visitor(token: Option<&str>) -> Visitor {
    Visitor {
        token: token.map(Arc::from),
        calls_per_minute: None,
        right: MayChange::owner(),
        view: View::everything(),
        grant: CancellationToken::new(),
    }
}

#[test]
fn results_name_resources_as_links_and_embedded() {
    let escaped = r#"{"content":[{"type":"\u0072esource_link","uri":"x:\u0031"}]}"#;
    let inner = r#"{"content":[{"type":"r\u0065source","resource":{"uri":"x:1"}}]}"#;
    let last = r#"{"content":[{"type":"resource\u005flink","uri":"x:1"}]}"#;
    let twice = r#"{"content":[{"type":"resource_link","uri":"x:1","uri":"x:2"}]}"#;
    for (text, named) in [
        (r#"{"content":[{"type":"resource_link","uri":"x:1","name":"n"},{"type":"text","text":"t"}]}"#, &["x:1"][..]),
        (r#"{"content":[{"type":"resource","resource":{"uri":"x:1","text":"t","_meta":{}}}]}"#, &["x:1"]),
        (r#"{"messages":[{"role":"user","content":{"type":"resource","resource":{"uri":"x:1"}}}]}"#, &["x:1"]),
        (r#"{"messages":[{"role":"user","content":{"type":"resource_link","uri":"x:1"}}]}"#, &["x:1"]),
        (
            r#"{"messages":[{"content":[{"type":"resource_link","uri":"x:1"},{"type":"text"}]},{"content":7}]}"#,
            &["x:1"],
        ),
        (escaped, &["x:1"]),
        (inner, &["x:1"]),
        (last, &["x:1"]),
        (r#"{ "content" : [ { "uri" : "x:1" , "type" : "resource_link" } ] , "isError" : true }"#, &["x:1"]),
        (r#"{"content":[{"type":"resource_link","uri":"x:1"},{"type":"resource_link","uri":"x:2"}]}"#, &["x:1", "x:2"]),
        // No blocks of these types.
        (r#"{"content":[{"type":"text","uri":"x:1","text":"a \"resource_link\" to x:1"}]}"#, &[]),
        (r#"{"structuredContent":{"content":[{"type":"resource_link","uri":"x:1"}]}}"#, &[]),
        (r#"{"content":[{"type":"resource","uri":"x:1"}]}"#, &[]),
        (r#"{"content":[{"type":"resource_link","uri":7}]}"#, &[]),
        (r#"{"content":{"type":"resource_link","uri":"x:1"}}"#, &[]),
        (twice, &[]),
        ("null", &[]),
    ] {
        let result = result(text);
        assert_eq!(named_resources(&result), named, "{text}");
        assert!(named.is_empty() || may_name_resources(&result), "{text}");
    }
    let accented = r#"{"content":[{"type":"text","text":"caf\u00e9"}]}"#;
    for text in [accented, r#"{"content":[{"type":"text","text":"some resources are elsewhere: ü \n"}]}"#, "{}"] {
        assert!(!may_name_resources(&result(text)), "{text}");
    }
}

#[test]
fn the_last_result_that_named_a_resource_counts_and_the_oldest_is_forgotten() {
    let links = Links::of_session(LinkBytes::default());
    links.note(&at("aa"), &linking(&["x:1", "x:2"]), BootMs(0));
    links.note(&at("bb"), &linking(&["x:1"]), BootMs(0));
    assert_eq!(named_by(&links, "x:1", BootMs(u64::MAX)), Some(id("bb")));
    assert_eq!(named_by(&links, "x:2", BootMs(0)), Some(id("aa")));
    assert_eq!(named_by(&links, "x:3", BootMs(0)), None);
    let many: Vec<String> = (0..limits::LINKS_MAX - 1).map(|number| format!("y:{number}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    links.note(&at("cc"), &linking(&many), BootMs(0));
    assert_eq!(named_by(&links, "x:2", BootMs(0)), None, "it was named before x:1");
    assert_eq!(named_by(&links, "x:1", BootMs(0)), Some(id("bb")));
    links.note(&at("cc"), &linking(&["y:next"]), BootMs(0));
    assert_eq!(named_by(&links, "x:1", BootMs(0)), None);
    // Bounded in bytes as well.
    let long: Vec<String> = (0..200).map(|number| format!("z:{number}{}", "z".repeat(8_000))).collect();
    let long: Vec<&str> = long.iter().map(String::as_str).collect();
    links.note(&at("cc"), &linking(&long), BootMs(0));
    let table = links.lock();
    assert!(
        table.bytes <= limits::LINKS_BYTES_MAX && table.by_uri.len() == limits::LINKS_BYTES_MAX / 8_261,
        "{}",
        table.by_uri.len()
    );
    drop(table);
    let too_long = format!("z:{}", "z".repeat(limits::LINK_URI_BYTES_MAX));
    links.note(&at("cc"), &linking(&[&too_long]), BootMs(0));
    assert_eq!(named_by(&links, &too_long, BootMs(0)), None);
}

#[test]
fn what_all_clients_hold_is_bounded_and_a_client_that_holds_little_keeps_it() {
    let pool = LinkBytes::default();
    let uris: Vec<String> = (0..limits::LINKS_MAX).map(|number| format!("y:{number}{}", "y".repeat(240))).collect();
    let uris: Vec<&str> = uris.iter().map(String::as_str).collect();
    let small = Links::of_session(pool.clone());
    small.note(&at("aa"), &linking(&["x:1", "x:2"]), BootMs(0));
    let count = 2 * limits::HELD_BYTES_MAX / limits::LINKS_BYTES_MAX;
    let many: Vec<_> = (0..count).map(|_| Links::of_session(pool.clone())).collect();
    let held = || many.iter().chain([&small]).map(|links| links.lock().bytes).sum::<usize>();
    for links in &many {
        links.note(&at("bb"), &linking(&uris), BootMs(0));
        assert!(held() <= limits::HELD_BYTES_MAX && links.lock().by_uri.len() > limits::LINKS_MAX / 2);
    }
    // Those that hold little and those that come late find room.
    let late = Links::of_session(pool.clone());
    late.note(&at("cc"), &linking(&["x:1"]), BootMs(0));
    assert_eq!(named_by(&small, "x:1", BootMs(0)), Some(id("aa")));
    assert_eq!(named_by(&late, "x:1", BootMs(0)), Some(id("cc")));
    let newest = uris.last().unwrap();
    assert!(many.iter().all(|links| named_by(links, newest, BootMs(0)).is_some()), "the oldest are lost first");
    // It is given back, and nothing is left to be lost.
    drop((small, many, late));
    let rest = pool.hold(limits::HELD_BYTES_MAX).unwrap();
    assert!(pool.hold(1).is_none());
    drop(rest);
    (0..1_000).for_each(|_| drop(Links::of_session(pool.clone())));
    assert!(pool.lock().len() < 1_000, "clients that have left are forgotten");
}

#[test]
fn a_token_remembers_for_ten_minutes_and_no_other_learns_of_it() {
    let all = TokenLinks::new(LinkBytes::default());
    let (one, two, none) = (visitor(Some("one")), visitor(Some("two")), visitor(None));
    let minutes = |minutes: u64| BootMs(minutes * 60_000);
    let named_by = |visitor: &Visitor, now| named_by(&*all.find(visitor)?, "x:1", now);
    all.open(&one, minutes(0)).unwrap().note(&at("aa"), &linking(&["x:1"]), minutes(0));
    assert_eq!(named_by(&one, BootMs(599_999)), Some(id("aa")));
    assert_eq!(named_by(&one, minutes(10)), None);
    assert_eq!(named_by(&two, minutes(0)), None);
    assert!(all.open(&none, minutes(0)).is_none() && all.find(&none).is_none());
    // What is over is forgotten with the next call, and with the next sweep.
    let links = all.open(&one, minutes(10)).unwrap();
    links.note(&at("aa"), &linking(&["x:2"]), minutes(10));
    assert_eq!(links.lock().by_uri.len(), 1);
    all.expire(minutes(20));
    assert!(all.lock().is_empty());
    // A token of the same name that was replaced is another one.
    all.open(&one, minutes(20)).unwrap().note(&at("aa"), &linking(&["x:1"]), minutes(20));
    one.grant.cancel();
    let replaced = visitor(Some("one"));
    assert_eq!(named_by(&replaced, minutes(20)), None);
    assert!(all.open(&one, minutes(20)).is_none());
    // Bounded in number.
    for number in 0..2 * limits::LINK_TOKENS_MAX {
        let links = all.open(&visitor(Some(&format!("t{number}"))), BootMs(number as u64));
        links.unwrap().note(&at("aa"), &linking(&["x:1"]), minutes(0));
    }
    assert_eq!(all.lock().len(), limits::LINK_TOKENS_MAX);
}

proptest! {
    #[test]
    fn what_is_remembered_is_what_the_definition_says(
        named in proptest::collection::vec((0u8..3, "x:[a-f]{1,2}", 0u64..400), 0..60)
    ) {
        let links = Links::of_token(LinkBytes::default());
        let mut now = 0;
        let mut expected: HashMap<String, (u8, u64)> = HashMap::new();
        for (connector, uri, wait) in named {
            now += wait * 1_000;
            links.note(&at(&format!("s{connector}")), &linking(&[&uri]), BootMs(now));
            expected.insert(uri, (connector, now));
        }
        for (uri, (connector, at)) in expected {
            let known = (now - at < 600_000).then(|| id(&format!("s{connector}")));
            prop_assert_eq!(named_by(&links, &uri, BootMs(now)), known);
        }
        let table = links.lock();
        prop_assert_eq!(table.bytes, table.by_uri.values().map(|link| link.held.bytes()).sum::<usize>());
        prop_assert_eq!(table.order.len(), table.by_uri.len());
    }

    #[test]
    fn nothing_that_a_server_sends_harms(text in ".{0,80}") {
        let _ = named_resources(&raw::string(&text));
    }
}
