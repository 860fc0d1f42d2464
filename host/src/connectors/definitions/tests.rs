//! What a baseline belongs to.

use std::collections::BTreeMap;

use super::*;
use crate::connectors::ConnectorsMetrics;
use crate::connectors::tests::{Nowhere, described};
use crate::model::{AuthKind, CommandLine, Reach, Source};

fn definitions(connector: &Connector) -> Definitions {
    let metrics = ConnectorsMetrics::default().connector(&connector.id);
    Definitions::new(connector, InstanceId::default(), Arc::new(Nowhere), metrics, None)
}

fn offer(description: &str) -> Offer {
    let tools = format!(r#"[{{"name":"pay","description":"{description}"}}]"#);
    Offer::of_tools(ItemList::from_bytes(ListKind::Tools, tools.as_bytes()).unwrap())
}

/// How many changes the next connector of a name sees in another list.
fn changes_after(before: &Connector, after: &Connector) -> usize {
    let observe = |definitions: &Definitions, offer: &Offer| definitions.observe(offer, offer.digest(), WallMs(7));
    let first = definitions(before);
    observe(&first, &offer("pays"));
    let second = definitions(after);
    second.restore(&first.hand_over().unwrap(), WallMs(8));
    observe(&second, &offer("sends the keys"));
    second.status().changes
}

#[test]
fn a_baseline_outlasts_other_credentials_and_no_other_server() {
    let url = |url: &str| Connector { reach: Some(Reach::Http(url.parse().unwrap())), ..described("1") };
    let command = |program: &str, arguments: &[&str], key: &str| {
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let environment = BTreeMap::from([("KEY".to_owned(), key.to_owned())]);
        Connector {
            reach: Some(Reach::Stdio(CommandLine { program: program.to_owned(), arguments, environment })),
            ..described("1")
        }
    };
    let (http, stdio) = (url("https://a.test/mcp"), command("run", &["a"], "1"));
    let mut header = http.clone();
    header.headers.insert("Authorization".to_owned(), "Bearer 2".to_owned());
    let mut auth = http.clone();
    auth.auth.kind = AuthKind::Bearer;
    let registry = Connector { source: Source::Registry, ..http.clone() };
    for (before, after, changes) in [
        (&http, &header, 1),
        (&http, &auth, 1),
        (&http, &url("https://user:key@a.test/mcp"), 1),
        (&http, &described("2"), 0),
        (&http, &url("https://b.test/mcp"), 0),
        (&http, &url("https://a.test/other"), 0),
        (&http, &registry, 0),
        (&http, &stdio, 0),
        (&stdio, &command("run", &["a"], "2"), 1),
        (&stdio, &command("run", &["b"], "1"), 0),
        (&stdio, &command("run", &["a", "b"], "1"), 0),
        (&stdio, &command("walk", &["a"], "1"), 0),
    ] {
        assert_eq!(changes_after(before, after), changes, "{:?} {:?}", before.reach, after.reach);
    }
}

#[test]
fn a_record_of_another_form_is_no_baseline() {
    let definitions = definitions(&described("1"));
    for header in ["{}", "null", r#"{"origin":"00"}"#, r#"{"server":7,"observed":null}"#] {
        let header: serde_json::Value = serde_json::from_str(header).unwrap();
        definitions.restore(&StateRecord::new(&header, bytes::Bytes::from_static(b"{}")).unwrap(), WallMs(7));
        assert_eq!(definitions.status().baseline_taken_at, None);
    }
}
