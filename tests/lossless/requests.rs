//! Requests and their answers: parameters as the server gets them, results and errors as the client gets them.

use cortex_mcp::mcp::Era;

use super::corpus;
use super::ledger::{Ledger, members};
use super::world::{ERAS, SERVERS, World};
use crate::support::scripted::{Ending, Style};
use crate::support::talk::{MODERN_META, Talk};

/// What the gateway counts in `_meta` of each request that it passes on.
const HOPS: &str = r#""com.brainwav.cortex/hops":1"#;

/// A request: its method, what the client and the server call its subject, and its other parameters.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    pub(crate) method: &'static str,
    exposed: &'static str,
    original: &'static str,
    params: fn(&str, &str) -> String,
    /// Whether `Mcp-Name` mirrors the subject.
    mirrored: bool,
}

/// Every request that goes on to a server.
pub(crate) const KINDS: [Kind; 5] = [
    Kind {
        method: "tools/call",
        exposed: "s1__odd-tool",
        original: "odd-tool",
        params: |subject, document| format!(r#""name":"{subject}","arguments":{document},"x-odd":{document}"#),
        mirrored: true,
    },
    Kind {
        method: "prompts/get",
        exposed: "s1__odd-prompt",
        original: "odd-prompt",
        params: |subject, document| format!(r#""arguments":{document},"":{document},"name":"{subject}""#),
        mirrored: true,
    },
    Kind {
        method: "resources/read",
        exposed: "odd://r",
        original: "odd://r",
        params: |subject, document| format!(r#""x-odd":{document},"uri":"{subject}""#),
        mirrored: true,
    },
    Kind {
        method: "completion/complete",
        exposed: "s1__odd-prompt",
        original: "odd-prompt",
        params: |subject, document| {
            format!(
                r#""ref":{{"type":"ref/prompt","name":"{subject}","x-odd":{document}}},"argument":{{"name":"a","value":"v","x-odd":{document}}},"context":{document}"#
            )
        },
        mirrored: false,
    },
    Kind {
        method: "completion/complete",
        exposed: "odd://t/{x}",
        original: "odd://t/{x}",
        params: |subject, document| {
            format!(
                r#""argument":{{"name":"x","value":{document}}},"ref":{{"type":"ref/resource","uri":"{subject}","x-odd":{document}}}"#
            )
        },
        mirrored: false,
    },
];

impl Kind {
    /// The parameters as a client of that era writes them, with these members of `_meta` first.
    pub(crate) fn written(&self, era: Era, document: &str, meta: &str) -> String {
        let rest = (self.params)(self.exposed, document);
        match era {
            Era::Legacy => format!(r#"{{{rest},"_meta":{{{meta}}}}}"#),
            Era::Modern => format!(r#"{{{rest},"_meta":{{{meta},{MODERN_META}}}}}"#),
        }
    }

    pub(crate) fn subject(&self) -> Option<&'static str> {
        self.mirrored.then_some(self.exposed)
    }

    /// Compares what the server was sent: everything but the subject, and what is not for its era, as it was written.
    fn compare(&self, ledger: &mut Ledger, place: &str, pair: (Era, Era), document: &str, meta: &str, found: &str) {
        let found = &without_token(found);
        let rest = (self.params)(self.original, document);
        match pair {
            (Era::Legacy, Era::Legacy) | (Era::Modern, Era::Legacy) => {
                ledger.same(place, &format!(r#"{{{rest},"_meta":{{{meta},{HOPS}}}}}"#), found);
            }
            (Era::Modern, Era::Modern) => {
                ledger.same(place, &format!(r#"{{{rest},"_meta":{{{meta},{MODERN_META},{HOPS}}}}}"#), found);
            }
            (Era::Legacy, Era::Modern) => {
                let head = format!(r#"{{{rest},"_meta":{{{meta},{HOPS},"#);
                let added = found.strip_prefix(&head).and_then(|added| added.strip_suffix("}}"));
                match added.map(|added| members(&format!("{{{added}}}"))) {
                    Some(added) => {
                        let modern = added.iter().all(|(key, _)| key.starts_with("\"io.modelcontextprotocol/"));
                        let keys: Vec<_> = added.iter().map(|(key, _)| key.as_str()).collect();
                        ledger.holds(place, modern, &format!("also added: {keys:?}"));
                    }
                    None => ledger.same(place, &head, found),
                }
            }
        }
    }
}

/// The parameters without the gateway's own progress token, which is the last member of their `_meta`.
fn without_token(params: &str) -> String {
    let parts = params.rsplit_once(r#","progressToken":""#);
    let is_own =
        |token: &str| token.strip_suffix(r#""}}"#).is_some_and(|id| id.bytes().all(|byte| byte.is_ascii_digit()));
    parts.filter(|(_, token)| is_own(token)).map_or_else(|| params.to_owned(), |(rest, _)| format!("{rest}}}}}"))
}

/// A result with a document at every depth.
fn result(era: Era, document: &str) -> String {
    let modern = match era {
        Era::Legacy => "",
        Era::Modern => r#""resultType":"complete","ttlMs":5,"cacheScope":"private","#,
    };
    format!(
        r#"{{"x-odd":{document},{modern}"content":{document},"structuredContent":{document},"":0,"_meta":{{"com.example/odd":{document}}}}}"#
    )
}

/// What a modern client may be told beyond a legacy server's result, because its era demands it.
const ADDED: [&str; 3] = ["\"resultType\"", "\"ttlMs\"", "\"cacheScope\""];

fn compare_result(ledger: &mut Ledger, place: &str, pair: (Era, Era), expected: &str, found: &str) {
    if pair != (Era::Modern, Era::Legacy) {
        return ledger.same(place, expected, found);
    }
    let (sent, mut got) = (members(expected), members(found));
    let added = got.split_off(sent.len().min(got.len()));
    let text = |members: &[(String, String)]| {
        members.iter().map(|(key, value)| format!("{key}:{value}")).collect::<Vec<_>>().join(",")
    };
    if added.iter().all(|(key, _)| ADDED.contains(&key.as_str())) {
        ledger.same(place, &text(&sent), &text(&got));
    } else {
        ledger.same(format!("{place}, added"), "", &text(&added));
    }
}

/// Members of `_meta` that no era owns.
fn meta(document: &str) -> String {
    format!(
        r#""com.example/odd":{document},"traceparent":"00-\u0034bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","com.example/list":[{document}]"#
    )
}

async fn ask(client: &Talk, kind: &Kind, document: &str) -> crate::support::talk::Heard {
    client.ask(kind.method, kind.subject(), &kind.written(client.era, document, &meta(document))).await
}

/// Runs `compare` for every document, request, client and server.
async fn everywhere(mut compare: impl AsyncFnMut(&World, &Talk, &Kind, &corpus::Document, String)) -> usize {
    let documents = corpus::all();
    for which in SERVERS {
        let world = World::ordinary(which).await;
        for era in ERAS {
            let client = world.client(era).await;
            for (number, kind) in KINDS.iter().enumerate() {
                for document in &documents {
                    let place = format!("{}, {} {number}, {}", world.with(era), kind.method, document.name);
                    compare(&world, &client, kind, document, place).await;
                }
            }
        }
        world.served.gateway.shut_down().await;
    }
    SERVERS.len() * ERAS.len() * KINDS.len() * documents.len()
}

#[tokio::test(start_paused = true)]
async fn parameters_arrive_and_results_come_back_as_they_were_written() {
    let mut ledger = Ledger::default();
    let asked = everywhere(async |world, client, kind, document, place| {
        let pair = (client.era, world.era);
        let result = result(world.era, &document.text);
        world.server.tell(Vec::new(), Ending::Result(result.clone()));
        let before = world.server.times_asked(kind.method);
        let heard = ask(client, kind, &document.text).await;
        let asked = world.server.asked(kind.method);
        ledger.same(format!("{place}: times asked"), &(before + 1).to_string(), &asked.len().to_string());
        let Some(asked) = asked.last() else { return };
        kind.compare(
            &mut ledger,
            &format!("{place}: parameters"),
            pair,
            &document.text,
            &meta(&document.text),
            &asked.params,
        );
        let found = if heard.answer.contains("\"result\"") { heard.result() } else { heard.answer.clone() };
        compare_result(&mut ledger, &format!("{place}: result"), pair, &world.answered(&result), &found);
    })
    .await;
    ledger.close(3 * asked);
}

/// Error codes that a server may give of its own, or that say something to its client and nothing to a gateway.
const CODES: [i64; 4] = [12345, -32042, -32050, -32603];

/// An error with a document in its data.
fn error(code: i64, document: &str) -> String {
    format!(r#"{{"x-odd":{document},"code":{code},"message":"odd \/ \u0041","data":{document}}}"#)
}

#[tokio::test(start_paused = true)]
async fn errors_come_back_as_they_were_written() {
    let mut ledger = Ledger::default();
    let asked = everywhere(async |world, client, kind, document, place| {
        for code in CODES {
            let error = error(code, &document.text);
            let before = world.server.times_asked(kind.method);
            world.server.tell(Vec::new(), Ending::Error(200, error.clone()));
            let heard = ask(client, kind, &document.text).await;
            let found = if heard.answer.contains("\"error\"") { heard.error() } else { heard.answer.clone() };
            ledger.same(format!("{place}, {code}"), &world.answered(&error), &found);
            let times = world.server.times_asked(kind.method) - before;
            ledger.same(format!("{place}, {code}: times asked"), "1", &times.to_string());
        }
    })
    .await;
    ledger.close(2 * CODES.len() * asked);
}

/// The modern era's own errors have HTTP statuses of their own; the error crosses, the status is for those who know it.
#[tokio::test(start_paused = true)]
async fn a_capability_that_a_modern_server_misses_is_told_with_its_data() {
    let mut ledger = Ledger::default();
    let documents = corpus::all();
    let world = World::ordinary((Era::Modern, Style::Json)).await;
    for era in ERAS {
        let client = world.client(era).await;
        for document in documents.iter().filter(|document| document.text.len() < 10_000) {
            let text = &document.text;
            let error = format!(
                r#"{{"code":-32021,"message":"\/","data":{{"requiredCapabilities":{{"sampling":{{}}}},"odd":{text}}}}}"#
            );
            world.server.tell(Vec::new(), Ending::Error(400, error.clone()));
            let heard = ask(&client, &KINDS[0], text).await;
            let place = format!("{}, {}", world.with(era), document.name);
            let status = if era == Era::Modern { 400 } else { 200 };
            ledger.same(format!("{place}: status"), &status.to_string(), &heard.status.to_string());
            let found = if heard.answer.contains("\"error\"") { heard.error() } else { heard.answer.clone() };
            ledger.same(format!("{place}: error"), &error, &found);
        }
    }
    let small = documents.iter().filter(|document| document.text.len() < 10_000).count();
    ledger.close(ERAS.len() * small * 2);
}

/// The rounds of the modern era need nothing of a gateway but that it keeps its hands off.
#[tokio::test(start_paused = true)]
async fn rounds_of_input_pass_between_modern_peers_as_they_were_written() {
    let mut ledger = Ledger::default();
    let documents = corpus::all();
    let kinds = [KINDS[0], KINDS[1], KINDS[2]];
    for style in [Style::Json, Style::Sse] {
        let world = World::ordinary((Era::Modern, style)).await;
        let client = world.client(Era::Modern).await;
        for kind in &kinds {
            for document in &documents {
                let text = &document.text;
                let place = format!("{style:?}, {}, {}", kind.method, document.name);
                let required = format!(
                    r#"{{"inputRequests":{{"k\u0065y":{{"method":"elicitation/create","params":{text}}}}},"x-odd":{text},"resultType":"input_required","requestState":"\/{}"}}"#,
                    document.name
                );
                world.server.tell(Vec::new(), Ending::Result(required.clone()));
                let heard = ask(&client, kind, text).await;
                ledger.same(format!("{place}: required"), &world.answered(&required), &heard.result());

                let done = result(Era::Modern, text);
                world.server.tell(Vec::new(), Ending::Result(done.clone()));
                let given = format!(
                    r#""inputResponses":{{"k\u0065y":{{"action":"accept","content":{text}}}}},"requestState":"\/{}""#,
                    document.name
                );
                let rest = |subject: &str| format!("{{{given},{}", (kind.params)(subject, text));
                let members = format!("{},{MODERN_META}", meta(text));
                let meta = format!(r#","_meta":{{{members}}}}}"#);
                let counted = format!(r#","_meta":{{{members},{HOPS}}}}}"#);
                let heard = client.ask(kind.method, kind.subject(), &format!("{}{meta}", rest(kind.exposed))).await;
                let asked = world.server.last(kind.method).params;
                ledger.same(
                    format!("{place}: given"),
                    &format!("{}{counted}", rest(kind.original)),
                    &without_token(&asked),
                );
                ledger.same(format!("{place}: done"), &world.answered(&done), &heard.result());
            }
        }
        world.served.gateway.shut_down().await;
    }
    ledger.close(2 * kinds.len() * documents.len() * 3);
}
