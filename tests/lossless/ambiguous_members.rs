//! Random spellings and repetitions of members: what the gateway checked is what every reader runs, or no server is asked.
//!
//! The servers' readers are those of CVE-2026-27896 and of its relatives: without regard to case, NUL or delimiters and with
//! the last match (Go), the first exact match (simdjson), the last exact match (most).

use cortex_mcp::edge::virtual_network::Host;
use cortex_mcp::mcp::Era;
use cortex_mcp::model::ListKind;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::ledger::members;
use super::world::{ERAS, talk_to};
use crate::support::scripted::{Ending, Scripted, Style};
use crate::support::talk::{MODERN_META, Talk};
use crate::support::{Rig, Served};

/// A routed request: what may be asked for, and what an attacker wants instead.
#[derive(Clone, Copy, Debug)]
struct Routed {
    method: &'static str,
    /// The member that holds the subject, behind the object it is in, if it is in one.
    path: &'static [&'static str],
    subject: &'static str,
    wanted: &'static str,
    mirrored: bool,
}

const ROUTED: [Routed; 6] = [
    Routed { method: "tools/call", path: &["name"], subject: "read", wanted: "delete_all", mirrored: true },
    Routed { method: "prompts/get", path: &["name"], subject: "open", wanted: "secret", mirrored: true },
    Routed { method: "resources/read", path: &["uri"], subject: "odd://r", wanted: "odd://secret", mirrored: true },
    Routed {
        method: "completion/complete",
        path: &["ref", "name"],
        subject: "open",
        wanted: "secret",
        mirrored: false,
    },
    Routed {
        method: "completion/complete",
        path: &["ref", "uri"],
        subject: "odd://t/{x}",
        wanted: "odd://secret",
        mirrored: false,
    },
    Routed {
        method: "resources/subscribe",
        path: &["uri"],
        // Each one is another resource: what is subscribed to already is not asked for again.
        subject: "odd://t/#",
        wanted: "odd://secret",
        mirrored: false,
    },
];

/// How a member's name is written a second time.
#[derive(Clone, Debug)]
enum Spelling {
    Exact,
    Escaped(usize),
    Upper(Vec<bool>),
    Nul(String),
    Delimited(usize, char),
    Letter,
    Surrogate(usize),
    Other,
}

impl Spelling {
    /// The JSON text of the name.
    fn of(&self, member: &str) -> String {
        match self {
            Self::Exact => format!("\"{member}\""),
            Self::Escaped(at) => {
                let at = at % member.len();
                format!("\"{}\\u{:04x}{}\"", &member[..at], member.as_bytes()[at], &member[at + 1..])
            }
            Self::Upper(which) => {
                let cased = member.chars().zip(which.iter().cycle());
                let cased: String =
                    cased.map(|(letter, up)| if *up { letter.to_ascii_uppercase() } else { letter }).collect();
                format!("\"{cased}\"")
            }
            Self::Nul(rest) => format!("\"{member}\\u0000{rest}\""),
            Self::Delimited(at, delimiter) => {
                let at = at % (member.len() + 1);
                format!("\"{}{delimiter}{}\"", &member[..at], &member[at..])
            }
            Self::Letter => format!("\"{}\"", member.replace('s', "ſ").replace('k', "\u{212a}").replace('i', "ı")),
            Self::Surrogate(at) => {
                let at = at % (member.len() + 1);
                format!("\"{}\\udc00{}\"", &member[..at], &member[at..])
            }
            Self::Other => format!("\"x-{member}\""),
        }
    }
}

fn spelling() -> impl Strategy<Value = Spelling> {
    prop_oneof![
        Just(Spelling::Exact),
        any::<usize>().prop_map(Spelling::Escaped),
        proptest::collection::vec(any::<bool>(), 1..8).prop_map(Spelling::Upper),
        "[a-z]{0,3}".prop_map(Spelling::Nul),
        (any::<usize>(), prop_oneof![Just('-'), Just('_')])
            .prop_map(|(at, delimiter)| Spelling::Delimited(at, delimiter)),
        Just(Spelling::Letter),
        any::<usize>().prop_map(Spelling::Surrogate),
        Just(Spelling::Other),
    ]
}

/// The members that readers see in an object, each with its raw value.
fn read(object: &str) -> Vec<(String, String)> {
    members(object).into_iter().map(|(key, value)| (text(&key), value)).collect()
}

/// The text of a name, for readers that drop lone surrogates.
fn text(key: &str) -> String {
    serde_json::from_str(key).or_else(|_| serde_json::from_str(&key.replace("\\udc00", ""))).unwrap()
}

/// A name for readers that ignore case, NUL and delimiters: written apart from what the gateway does, for the names here.
fn loosely(name: &str) -> String {
    let name = name.split('\0').next().unwrap_or_default().to_lowercase();
    name.replace('ſ', "s").replace('ı', "i").replace(['-', '_'], "")
}

type Reader = fn(&str, &str) -> Option<String>;

const READERS: [(&str, Reader); 3] = [
    ("loose, last", |object, member| {
        read(object).into_iter().rfind(|(key, _)| loosely(key) == loosely(member)).map(|(_, value)| value)
    }),
    ("exact, first", |object, member| read(object).into_iter().find(|(key, _)| key == member).map(|(_, value)| value)),
    ("exact, last", |object, member| read(object).into_iter().rfind(|(key, _)| key == member).map(|(_, value)| value)),
];

/// Second spellings of members, each before the first or after it.
type Extra = Vec<(Spelling, bool)>;

/// A member with further spellings of it.
fn spelled(member: &str, value: &str, extra: &Extra, other: &str) -> String {
    let mut members = vec![format!("\"{member}\":{value}")];
    for (spelling, before) in extra {
        let second = format!("{}:{other}", spelling.of(member));
        if *before { members.insert(0, second) } else { members.push(second) }
    }
    members.join(",")
}

/// Parameters with second spellings of each member that leads to the subject, and of one in `_meta`.
fn params(routed: Routed, era: Era, prefix: &str, (extra, in_meta): (&Extra, &Extra)) -> String {
    let subject = match routed.path.last() {
        Some(&"name") => format!("{prefix}{}", routed.subject),
        _ => routed.subject.to_owned(),
    };
    let mut value = format!("\"{subject}\"");
    let mut wanted = format!("\"{}\"", routed.wanted);
    for (depth, member) in routed.path.iter().enumerate().rev() {
        let kind = if depth == 0 { String::new() } else { format!(r#""type":"ref/{}","#, kind(member)) };
        value = format!("{{{kind}{}}}", spelled(member, &value, extra, &wanted));
        wanted = format!("{{{kind}\"{member}\":{wanted}}}");
    }
    let rest = match (routed.method, era) {
        ("completion/complete", _) => r#","argument":{"name":"a","value":"v"}"#,
        _ => "",
    };
    let token = spelled("progressToken", "1", in_meta, "2");
    let meta = if era == Era::Modern { format!("{MODERN_META},{token}") } else { token };
    format!(r#"{}{rest},"_meta":{{{meta}}}}}"#, value.strip_suffix('}').unwrap())
}

fn kind(member: &str) -> &'static str {
    if member == "name" { "prompt" } else { "resource" }
}

/// Two servers' worth of items behind one gateway, of which one tool is denied.
async fn served(server_era: Era, names: &str) -> (std::sync::Arc<Scripted>, Served) {
    let mut rig = Rig::new(1);
    let server = Scripted::new(server_era, Style::Json);
    let tool = |name: &str| format!(r#"{{"name":"{name}","inputSchema":{{"type":"object"}}}}"#);
    server.list(ListKind::Tools, vec![tool("read"), tool("delete_all")]);
    server.list(ListKind::Prompts, vec![r#"{"name":"open"}"#.into(), r#"{"name":"secret"}"#.into()]);
    server.list(ListKind::Resources, vec![r#"{"uri":"odd://r","name":"r"}"#.into()]);
    server.list(ListKind::Templates, vec![r#"{"uriTemplate":"odd://t/{x}","name":"t"}"#.into()]);
    server.tell(Vec::new(), Ending::Result("{}".to_owned()));
    rig.network.set(&rig.servers[0].url, Host::Serve(server.router()));
    rig.toml = format!("names = \"{names}\"\n[connector.s1]\ndeny-tools = [\"delete_*\"]\n");
    let served = rig.ready().await;
    (server, served)
}

/// The value that a reader finds at the path.
fn found(reader: Reader, object: &str, path: &[&str]) -> Option<String> {
    let (first, rest) = path.split_first()?;
    let value = reader(object, first)?;
    if rest.is_empty() { Some(value) } else { found(reader, &value, rest) }
}

/// Asks, and says whether the server was asked: then every reader runs what was checked.
async fn runs(client: &Talk, server: &Scripted, routed: Routed, prefix: &str, params: &str) -> bool {
    let before = server.times_asked(routed.method);
    let exposed = format!("{}{}", if routed.path.last() == Some(&"name") { prefix } else { "" }, routed.subject);
    let heard = client.ask(routed.method, routed.mirrored.then_some(&*exposed), params).await;
    let asked = server.asked(routed.method);
    if asked.len() == before {
        assert!(heard.answer.contains("-32602"), "{params}: {}", heard.answer);
        return false;
    }
    for asked in &asked[before..] {
        for (name, reader) in READERS {
            let run = found(reader, &asked.params, routed.path);
            let subject = routed.subject.split('#').next().unwrap();
            assert!(
                run.is_some_and(|run| run.starts_with(&format!("\"{subject}"))),
                "{name}: {params} became {}",
                asked.params
            );
        }
    }
    true
}

#[tokio::test(start_paused = true)]
async fn what_was_checked_is_what_every_reader_runs() {
    let mut runner = TestRunner::deterministic();
    let extra = |most| proptest::collection::vec((spelling(), any::<bool>()), 0..=most);
    let extras = (extra(2), extra(1));
    let (mut asked, mut refused) = (0, 0);
    for names in ["plain", "prefixed"] {
        let prefix = if names == "plain" { "" } else { "s1__" };
        for server_era in ERAS {
            let (server, served) = served(server_era, names).await;
            for era in ERAS {
                let client = talk_to(&served, era).await;
                // Only where both are legacy the request goes on as it came.
                let subscribes = (era, server_era) == (Era::Legacy, Era::Legacy);
                for routed in ROUTED.into_iter().filter(|routed| routed.method != "resources/subscribe" || subscribes) {
                    for _ in 0..40 {
                        let (extra, in_meta) = extras.new_tree(&mut runner).unwrap().current();
                        let params = params(routed, era, prefix, (&extra, &in_meta));
                        let params = params.replace('#', &(asked + refused).to_string());
                        let is_plain = |extra: &Extra, members: &[&str]| {
                            let spellings =
                                extra.iter().flat_map(|(spelling, _)| members.iter().map(move |of| (spelling, *of)));
                            spellings.into_iter().all(|(spelling, of)| loosely(&text(&spelling.of(of))) != loosely(of))
                        };
                        let is_plain = is_plain(&extra, routed.path) && is_plain(&in_meta, &["progressToken"]);
                        let runs = runs(&client, &server, routed, prefix, &params).await;
                        assert_eq!(runs, is_plain, "{era} client, {server_era} server, {names}: {params}");
                        if runs { asked += 1 } else { refused += 1 }
                    }
                }
            }
            served.gateway.shut_down().await;
        }
    }
    assert!(asked > 200 && refused > 800, "{asked} {refused}");
}

/// Each message of a batch is checked like one that comes alone.
#[tokio::test(start_paused = true)]
async fn a_batch_is_no_way_around() {
    let (server, served) = served(Era::Legacy, "plain").await;
    let call = |id: u32, members: &str| {
        format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"read",{members}}}}}"#)
    };
    let envelope = r#"{"jsonrpc":"2.0","id":3,"method":"ping","Method":"tools/call"}"#;
    let batch = format!("[{},{},{envelope}]", call(1, r#""Name":"delete_all""#), call(2, r#""arguments":{}"#));
    let json = [("content-type", "application/json"), ("accept", "application/json")];
    let answer = served.legacy().send(http::Method::POST, "/mcp", &json, &batch).await;
    let code = |id: u64| {
        let answers = answer.json().as_array().unwrap().clone();
        answers.into_iter().find(|answer| answer["id"] == id).unwrap()["error"]["code"].as_i64()
    };
    assert_eq!((code(1), code(2), code(3)), (Some(-32602), None, Some(-32600)), "{}", answer.body);
    assert_eq!(server.times_asked("tools/call"), 1);
}

/// The variants by which a server with a lenient reader was made to run a denied tool, and what is answered today.
#[tokio::test(start_paused = true)]
async fn the_ways_around_a_filter_are_refused_and_counted() {
    for names in ["plain", "prefixed"] {
        let prefix = if names == "plain" { "" } else { "s1__" };
        let (server, served) = served(Era::Legacy, names).await;
        for era in ERAS {
            let client = talk_to(&served, era).await;
            for (variant, reads) in [
                (r#""name":"P-read","Name":"delete_all""#, "name"),
                (r#""Name":"delete_all","name":"P-read""#, "name"),
                (r#""NAME":"delete_all","name":"P-read""#, "name"),
                (r#""name":"P-read","name\u0000":"delete_all""#, "name"),
                (r#""name":"delete_all","name":"P-read""#, "name"),
                (r#""n\u0061me":"delete_all","name":"P-read""#, "name"),
                (r#""name":"P-read","Arguments":{}"#, "arguments"),
                (r#""name":"P-read","argumentſ":{}"#, "arguments"),
                (r#""name":"P-read","_META":{}"#, "_meta"),
                (r#""name":"P-read","_meta":{"ProgressToken":1}"#, "progressToken"),
            ] {
                let variant = variant.replace("P-", prefix);
                let meta = if era == Era::Modern { format!(r#","_meta":{{{MODERN_META}}}"#) } else { String::new() };
                if era == Era::Modern && variant.contains(r#""_meta""#) {
                    continue;
                }
                let subject = format!("{prefix}read");
                let heard = client.ask("tools/call", Some(&subject), &format!("{{{variant}{meta}}}")).await;
                assert_eq!(heard.status, 400, "{variant}");
                let error = heard.error();
                assert!(error.contains("-32602") && error.contains(&format!(r#"\"{reads}\""#)), "{variant}: {error}");
            }
            // What its author may call anything he likes is not looked into.
            let fine = format!(r#"{{"name":"{prefix}read","arguments":{{"Name":1,"name":2,"NAME":3}}"#);
            let meta = if era == Era::Modern { format!(r#","_meta":{{{MODERN_META}}}"#) } else { String::new() };
            let heard = client.ask("tools/call", Some(&format!("{prefix}read")), &format!("{fine}{meta}}}")).await;
            assert_eq!(heard.status, 200, "{heard:?}");
        }
        assert_eq!(server.times_asked("tools/call"), 2);
        let metrics = served.gateway.metrics();
        let counted =
            metrics.lines().find(|line| line.starts_with("mcp_requests_refused_total{reason=\"ambiguous-members\"}"));
        assert!(counted.is_some_and(|line| line.ends_with(" 19")), "{counted:?}");
        served.gateway.shut_down().await;
    }
}
