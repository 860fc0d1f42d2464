//! Definitions of tools, prompts, resources and resource templates.

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::mcp::Era;
use cortex_mcp::model::ListKind;

use super::corpus;
use super::ledger::{Ledger, member};
use super::world::{ERAS, SERVERS, World, talk_to};
use crate::support::scripted::{Scripted, Style};
use crate::support::talk::Talk;

/// Where our own facts and the path stand in an expected definition.
const FACTS: char = '\u{1}';

/// What stands between the two.
const PATH: &str = ",\"com.brainwav.cortex/path\":";

/// A member of ours, as it ends `_meta`.
fn ours() -> String {
    format!(",\"com.brainwav.cortex/connector\":{FACTS}")
}

/// The member of a list's result.
fn member_of(kind: ListKind) -> &'static str {
    match kind {
        ListKind::Tools => "tools",
        ListKind::Prompts => "prompts",
        ListKind::Resources => "resources",
        ListKind::Templates => "resourceTemplates",
    }
}

/// What an item is asked for by.
fn key(kind: ListKind, number: usize) -> String {
    match kind {
        ListKind::Tools | ListKind::Prompts => format!("item-{number}"),
        ListKind::Resources => format!("odd://item/{number}"),
        ListKind::Templates => format!("odd://item/{number}/{{x}}"),
    }
}

/// What clients ask for it by.
fn exposed(kind: ListKind, number: usize) -> String {
    match kind {
        ListKind::Tools | ListKind::Prompts => format!("s1__{}", key(kind, number)),
        ListKind::Resources | ListKind::Templates => key(kind, number),
    }
}

/// A definition with a document at every depth. `last` ends its `_meta`.
fn definition(kind: ListKind, key: &str, document: &str, last: &str) -> String {
    let meta = format!(r#""_meta":{{"com.example/odd":{document}{last}}}"#);
    match kind {
        ListKind::Tools => format!(
            r#"{{"x-odd":{document},"name":"{key}","inputSchema":{{"type":"object","default":{document}}},{meta}}}"#
        ),
        ListKind::Prompts => {
            format!(r#"{{"arguments":[{{"name":"a","x-odd":{document}}}],"name":"{key}","x-odd":{document},{meta}}}"#)
        }
        ListKind::Resources => format!(r#"{{"uri":"{key}","name":"r","x-odd":{document},{meta}}}"#),
        ListKind::Templates => format!(r#"{{"name":"t","uriTemplate":"{key}","x-odd":{document},{meta}}}"#),
    }
}

/// Every document in a definition of every kind.
fn list_the_corpus(server: &Scripted) {
    for kind in ListKind::ALL {
        let documents = corpus::all().into_iter().enumerate();
        server.list(
            kind,
            documents.map(|(number, document)| definition(kind, &key(kind, number), &document.text, "")).collect(),
        );
    }
}

/// Compares a definition; what stands in the place of our facts must be ours.
fn compare(ledger: &mut Ledger, place: &str, expected: &str, found: &str) {
    let (head, tail) = expected.split_once(FACTS).unwrap();
    let facts = found.strip_prefix(head).and_then(|rest| rest.strip_suffix(tail));
    match facts {
        Some(facts) => {
            // The path of a definition that comes from no other gateway holds one instance.
            let (facts, path) = facts.split_once(PATH).unwrap_or((facts, ""));
            let path: Vec<String> = serde_json::from_str(path).unwrap_or_default();
            ledger.holds(format!("{place}, path"), path.len() == 1 && path[0].len() == 32, &format!("{path:?}"));
            let id = serde_json::from_str::<serde_json::Value>(facts).ok().map(|facts| facts["id"].clone());
            ledger.holds(place, id == Some("s1".into()), facts);
        }
        None => ledger.same(place, &expected.replace(FACTS, "{ours}"), found),
    }
}

async fn compare_lists(ledger: &mut Ledger, world: &World, client: &Talk, name: &str) {
    for kind in ListKind::ALL {
        let listed = client.list(kind.method(), member_of(kind)).await;
        let documents = corpus::all();
        ledger.same(format!("{name}, {kind:?}: items"), &documents.len().to_string(), &listed.len().to_string());
        for ((number, document), found) in documents.iter().enumerate().zip(&listed) {
            let place = format!("{name}, {kind:?}, {}", document.name);
            let text = world.answered(&document.text);
            compare(ledger, &place, &definition(kind, &exposed(kind, number), &text, &ours()), found);
        }
    }
}

/// Comparisons of one client that lists all four kinds.
fn comparisons() -> usize {
    ListKind::ALL.len() * (2 * corpus::all().len() + 1)
}

#[tokio::test(start_paused = true)]
async fn definitions_of_every_kind_differ_in_their_name_and_our_key_only() {
    let mut ledger = Ledger::default();
    for which in SERVERS {
        let world = World::new(which, list_the_corpus).await;
        for era in ERAS {
            let client = world.client(era).await;
            compare_lists(&mut ledger, &world, &client, &world.with(era).to_string()).await;
        }
        world.served.gateway.shut_down().await;
    }
    ledger.close(SERVERS.len() * ERAS.len() * comparisons());
}

#[tokio::test(start_paused = true)]
async fn definitions_that_were_on_disk_are_the_same_bytes_after_a_restart() {
    let mut ledger = Ledger::default();
    for which in [(Era::Legacy, Style::Json), (Era::Modern, Style::Json)] {
        let world = World::new(which, list_the_corpus).await;
        world.served.gateway.shut_down().await;
        world.rig.network.set(&world.rig.servers[0].url, Host::Refuse);
        let asked = world.server.asked("tools/list").len();
        let again = world.rig.start().await;
        for era in ERAS {
            let client = talk_to(&again, era).await;
            compare_lists(&mut ledger, &world, &client, &format!("restarted, {}", world.with(era))).await;
        }
        assert_eq!(world.server.asked("tools/list").len(), asked, "nobody could be asked");
        again.gateway.shut_down().await;
    }
    ledger.close(2 * ERAS.len() * comparisons());
}

/// Members that a typed reader stumbles over, at the top of a definition, and definitions whose `_meta` is odd.
#[tokio::test(start_paused = true)]
async fn odd_members_at_the_top_of_a_definition_stay_where_and_as_they_are() {
    let odd = [
        (r#""":0,"#, r#","_meta":{}"#, r#","_meta":{"com.brainwav.cortex/connector":"#),
        (r#""\u0000":1,"a\/b":2,"#, "", r#","_meta":{"com.brainwav.cortex/connector":"#),
        (r#""twice":1,"twice":{"twice":2},"#, "", r#","_meta":{"com.brainwav.cortex/connector":"#),
        (r#""\ud800":3,"#, "", r#","_meta":{"com.brainwav.cortex/connector":"#),
        (
            "\"\u{feff}\u{2028}\":4,",
            r#","_meta":{"\ud800":1,"twice":1,"twice":2}"#,
            r#","_meta":{"\ud800":1,"twice":1,"twice":2,"com.brainwav.cortex/connector":"#,
        ),
    ];
    let mut ledger = Ledger::default();
    for which in SERVERS {
        for (number, (before, after, expected_after)) in odd.iter().enumerate() {
            let schema = r#""inputSchema":{"type":"object"}"#;
            let text = format!(r#"{{{before}"name":"odd",{schema}{after}}}"#);
            let world = World::new(which, |server| server.list(ListKind::Tools, vec![text])).await;
            for era in ERAS {
                let place = format!("{}, {number}", world.with(era));
                let listed = world.client(era).await.list("tools/list", "tools").await;
                let expected = format!(r#"{{{before}"name":"s1__odd",{schema}{expected_after}{FACTS}}}}}"#);
                match listed.as_slice() {
                    [found] => compare(&mut ledger, &place, &expected, found),
                    _ => ledger.holds(&place, false, &format!("{} items instead of one", listed.len())),
                }
            }
            world.served.gateway.shut_down().await;
        }
    }
    ledger.close(2 * SERVERS.len() * ERAS.len() * odd.len());
}

/// White space between the members of a definition is no part of any of them; everything inside a member is kept.
#[tokio::test(start_paused = true)]
async fn a_definition_that_is_laid_out_keeps_the_layout_of_its_members() {
    let schema = "{ \"type\" : \"object\" ,\n \"properties\" : { } }";
    let text = format!("{{ \"name\" : \"odd\" ,\n\t\"inputSchema\" : {schema} }}");
    let world = World::new((Era::Modern, Style::Json), |server| server.list(ListKind::Tools, vec![text])).await;
    let listed = world.client(Era::Modern).await.list("tools/list", "tools").await;
    assert_eq!(listed.len(), 1);
    assert_eq!(member(&listed[0], "inputSchema").as_deref(), Some(schema));
    assert_eq!(member(&listed[0], "name").as_deref(), Some("\"s1__odd\""));
}
