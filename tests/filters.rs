//! Filters of the configuration: which tools of a connector are served and under which names, and how many at most; in force
//! at once after a reload, told in `status` and in the log.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests may")]

mod support;

use cortex_mcp::config::ConfigError;
use cortex_mcp::gateway::SwapError;
use serde_json::{Value, json};
use support::log::Log;
use support::{Client, Rig, Served};
use tracing::Level;

/// The tools of a rig's server.
const TOOLS: [&str; 3] = ["echo", "add", "uppercase"];

fn names(connector: &str, tools: &[&str]) -> Vec<String> {
    tools.iter().map(|tool| format!("{connector}__{tool}")).collect()
}

/// What a call of a name that does not exist is answered.
async fn assert_unknown(client: &Client, name: &str) {
    let (asked, nonsense) = (client.call(name, "{}").await, client.call("s1__nonsense", "{}").await);
    assert_eq!((asked.status, asked.code()), (nonsense.status, Some(-32602)));
    assert_eq!(asked.body.replace(name, "X"), nonsense.body.replace("s1__nonsense", "X"));
}

fn status(served: &Served) -> Value {
    serde_json::to_value(served.gateway.status()).unwrap()
}

#[tokio::test(start_paused = true)]
async fn tools_that_are_not_allowed_or_denied_are_neither_listed_nor_callable_in_either_era() {
    let mut rig = Rig::new(2);
    rig.toml = "[connector.s1]\nallow-tools = [\"*e*\", \"a*\"]\ndeny-tools = [\"upper*\"]".to_owned();
    let served = rig.ready().await;
    for client in [served.modern(), served.legacy()] {
        let expected = [names("s1", &["echo", "add"]), names("s2", &TOOLS)].concat();
        assert_eq!(client.list().await.tool_names(), expected);
        assert_unknown(&client, "s1__uppercase").await;
        assert_eq!(client.call("s2__uppercase", r#"{"text":"a"}"#).await.code(), None);
    }
    assert_eq!(rig.server(1).counts().calls, 0, "what is denied is not passed on");
    assert_eq!(status(&served)["filters"], json!({ "s1": { "hidden": 1, "renamed": 0, "unknown": [] } }));
}

#[tokio::test(start_paused = true)]
async fn a_renamed_tool_is_called_under_the_servers_own_name_and_no_other() {
    let mut rig = Rig::new(1);
    rig.toml = "[connector.s1]\nrename = { add = \"sum\", gone = \"x\" }".to_owned();
    let served = rig.ready().await;
    let client = served.modern();
    assert_eq!(client.list().await.tool_names(), names("s1", &["echo", "sum", "uppercase"]));
    assert_eq!(client.call("s1__sum", r#"{"a":1,"b":2}"#).await.result()["content"][0]["text"], "3");
    for gone in ["s1__add", "s1__x"] {
        assert_unknown(&client, gone).await;
    }
    let sent = served.wire.sent();
    let call =
        sent.iter().map(|sent| String::from_utf8_lossy(&sent.request.body)).find(|body| body.contains("tools/call"));
    assert!(call.as_ref().is_some_and(|body| body.contains(r#""name":"add""#)), "{call:?}");
    assert_eq!(status(&served)["filters"], json!({ "s1": { "hidden": 0, "renamed": 1, "unknown": ["gone"] } }));
    let warnings = served.gateway.status().warnings;
    assert!(warnings.len() == 1 && warnings[0].contains("[connector.s1] rename") && warnings[0].ends_with("gone"));
}

#[tokio::test(start_paused = true)]
async fn two_tools_of_one_new_name_are_a_collision_like_any_other() {
    let mut rig = Rig::new(1);
    rig.toml = "[connector.s1]\nrename = { add = \"echo\" }".to_owned();
    let served = rig.ready().await;
    assert_eq!(served.modern().list().await.tool_names(), names("s1", &["echo", "uppercase"]));
    let collision = json!([{ "name": "s1__echo", "kind": "tools", "served": "s1", "hidden": "s1", "instead": null }]);
    assert_eq!(status(&served)["collisions"], collision);
}

#[tokio::test(start_paused = true)]
async fn a_reload_puts_other_filters_in_force_at_once() {
    let mut rig = Rig::new(1);
    let served = rig.ready().await;
    let client = served.modern();
    let lists = rig.server(1).counts().lists;
    rig.toml = "[connector.s1]\ndeny-tools = [\"echo\"]\nrename = { add = \"sum\" }".to_owned();
    let report = served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((report.changed, report.needs_restart.len()), (vec!["connectors".to_owned()], 0));
    assert_eq!(client.list().await.tool_names(), names("s1", &["sum", "uppercase"]));
    assert_unknown(&client, "s1__echo").await;
    rig.toml.clear();
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(client.list().await.tool_names(), names("s1", &TOOLS));
    assert_eq!(rig.server(1).counts().lists, lists, "nobody was asked for that");
}

#[tokio::test(start_paused = true)]
async fn a_reload_with_a_new_name_that_can_not_stand_changes_nothing() {
    let mut rig = Rig::new(1);
    rig.toml = "name-length = 24".to_owned();
    let served = rig.ready().await;
    // By itself this is a configuration like any other; with the length that stays, it is none.
    rig.toml = "name-length = 40\n[connector.s1]\nrename = { add = \"a-name-of-24-characters-\" }".to_owned();
    let error = served.gateway.reload(rig.settings()).await.unwrap_err();
    assert!(matches!(error, SwapError::Settings(ConfigError::Connector { key: "rename", .. })), "{error}");
    assert_eq!(served.modern().list().await.tool_names(), names("s1", &TOOLS));
}

#[tokio::test(start_paused = true)]
async fn what_is_configured_for_a_connector_that_does_not_exist_is_warned_of() {
    let mut rig = Rig::new(2);
    rig.document.connectors[1].more = json!({ "enabled": false });
    rig.toml = "[connector.s1]\ncalls = 1\n[connector.s2]\ncalls = 1\n[connector.s3]\ncalls = 1".to_owned();
    let served = rig.ready().await;
    let warnings = served.gateway.status().warnings;
    assert_eq!(
        warnings,
        ["[connector.s3] is configured, and there is no connector of that id"],
        "a disabled one exists"
    );
    assert_eq!(status(&served)["warnings"], json!(warnings));
}

#[tokio::test(start_paused = true)]
async fn a_list_above_the_bound_is_warned_of_once_and_again_only_after_it_was_below() {
    let mut rig = Rig::new(3);
    rig.toml = "tools-warn-above = 8".to_owned();
    let (log, _guard) = Log::of_this_thread(Level::WARN);
    let served = rig.ready().await;
    let warned = || log.lines("more tools are served than common clients accept").len();
    assert_eq!((served.tools(), warned()), (9, 1));
    assert_eq!(served.gateway.status().tool_bounds.listed, 9);
    assert!(served.gateway.status().warnings[0].contains("9 tools are listed, and common clients accept 8"));
    // It changes and stays above.
    rig.toml = "tools-warn-above = 7\n[connector.s1]\ndeny-tools = [\"echo\"]".to_owned();
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((served.tools(), warned()), (8, 1));
    rig.toml += "\n[connector.s2]\nallow-tools = []";
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((served.tools(), warned(), served.gateway.status().warnings.len()), (5, 1, 0));
    rig.toml = "tools-warn-above = 7".to_owned();
    served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!((served.tools(), warned()), (9, 2));
}

#[tokio::test(start_paused = true)]
async fn nobody_is_warned_of_as_many_tools_as_clients_accept() {
    let options = |number, tools| cortex_mcp::demo::mcp_server::ServerOptions { tools, ..Rig::options(number) };
    let rig = Rig::of([options(1, 100), options(2, 28)]);
    let (log, _guard) = Log::of_this_thread(Level::WARN);
    let served = rig.ready().await;
    assert_eq!((served.tools(), served.gateway.status().warnings.len()), (128, 0));
    assert!(log.lines("more tools").is_empty());
    rig.server(2).set_tools(29);
    served.gateway.sync(cortex_mcp::gateway::SyncKind::Force, |_| {}).await;
    let warnings = served.gateway.status().warnings;
    assert_eq!((served.tools(), warnings.iter().filter(|line| line.contains("tools are listed")).count()), (129, 1));
    assert_eq!(log.lines("more tools").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn more_tools_than_the_most_are_cut_reported_and_not_callable() {
    let mut rig = Rig::new(2);
    rig.toml = "tools-max = 4".to_owned();
    let (log, _guard) = Log::of_this_thread(Level::WARN);
    let served = rig.ready().await;
    let client = served.modern();
    let listed = [names("s1", &TOOLS), names("s2", &["echo"])].concat();
    assert_eq!(client.list().await.tool_names(), listed);
    for cut in ["s2__add", "s2__uppercase"] {
        assert_unknown(&client, cut).await;
    }
    assert_eq!(rig.server(2).counts().calls, 0);
    let bounds = &status(&served)["toolBounds"];
    let told = json!({ "listed": 4, "warnAbove": 128, "most": 4, "cut": 2, "cutFirst": ["s2__add", "s2__uppercase"] });
    assert_eq!(bounds, &told);
    assert_eq!(
        served.gateway.status().warnings,
        ["2 tools are not served because of tools-max: s2__add, s2__uppercase"]
    );
    let lines = log.lines("tools are not served because there are more than tools-max");
    assert!(lines.len() == 1 && lines[0].contains("s2__"), "{lines:?}");
    rig.toml.clear();
    let report = served.gateway.reload(rig.settings()).await.unwrap();
    assert_eq!(report.changed, ["toolsMax"]);
    assert_eq!(client.call("s2__add", r#"{"a":1,"b":2}"#).await.code(), None);
    assert_eq!(served.gateway.status().warnings.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_server_whose_era_is_known_is_asked_no_question_of_the_other_one() {
    for (number, era, unasked) in [(1, "legacy", "server/discover"), (2, "modern", "\"initialize\"")] {
        let latency = std::time::Duration::from_millis(400);
        let options = |number| cortex_mcp::demo::mcp_server::ServerOptions { latency, ..Rig::options(number) };
        let mut rig = Rig::of((1..=2).map(options));
        let asked = |served: &Served| {
            let host = format!("https://s{number}.test");
            let sent = served.wire.sent();
            sent.iter().filter(|sent| sent.origin() == host && sent.body().contains(unasked)).count()
        };
        assert_eq!(asked(&rig.ready().await), 1, "an unknown server is asked both");
        rig.state = cortex_mcp::edge::files::MemoryDirectory::new();
        rig.toml = format!("[connector.s{number}]\nera = \"{era}\"");
        let served = rig.ready().await;
        assert_eq!((asked(&served), served.tools_of(&format!("s{number}"))), (0, 3), "{era}");
    }
}
