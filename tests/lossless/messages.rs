//! Messages before an answer: progress and log messages, questions of legacy servers, and what clients answer to them.

use std::time::Duration;

use cortex_mcp::mcp::Era;

use super::corpus::{self, over_a_stream};
use super::ledger::{Ledger, member, members};
use super::requests::KINDS;
use super::world::{ERAS, World};
use crate::support::scripted::{Before, Ending, Style, session_of};
use crate::support::talk::{CAPABILITIES, Heard, Talk, envelope};

/// A client's token; the server is given another one, and writes that.
const TOKEN: &str = r#""progressToken":"token-\u0031""#;

fn notices(document: &str) -> Vec<(&'static str, String)> {
    vec![
        (
            "notifications/progress",
            format!(r#"{{"progressToken":TOKEN,"progress":1.0,"message":"\/","x-odd":{document}}}"#),
        ),
        (
            "notifications/message",
            format!(
                r#"{{"data":{document},"level":"error","logger":"\u0000","_meta":{{"com.example/odd":{document}}}}}"#
            ),
        ),
        (
            "notifications/progress",
            format!(r#"{{"x-odd":[{document}],"progressToken":TOKEN,"progress":2e0,"total":1E400}}"#),
        ),
    ]
}

/// A client that wants to be told everything.
async fn curious(world: &World, era: Era) -> Talk {
    let client = world.client(era).await;
    if era == Era::Legacy {
        let heard = client.ask("logging/setLevel", None, r#"{"level":"debug"}"#).await;
        assert_eq!(heard.result(), "{}");
    }
    client
}

fn compare_before(ledger: &mut Ledger, place: &str, sent: &[(&str, String)], heard: &Heard) {
    ledger.same(format!("{place}: messages"), &sent.len().to_string(), &heard.before.len().to_string());
    for (number, (method, params)) in sent.iter().enumerate() {
        let found = heard.before.get(number).map(|message| {
            let read = envelope(message);
            let text = |key: &str| read.get(key).map(|value| value.get().to_owned()).unwrap_or_default();
            format!("{}:{}", text("method"), text("params"))
        });
        let params = params.replace(r#""progressToken":TOKEN"#, TOKEN);
        let expected = format!("\"{method}\":{}", over_a_stream(&params));
        ledger.same(format!("{place}: message {number}"), &expected, &found.unwrap_or_default());
    }
}

#[tokio::test(start_paused = true)]
async fn progress_and_log_messages_arrive_in_order_before_the_answer() {
    let mut ledger = Ledger::default();
    let documents = corpus::all();
    for server in ERAS {
        let world = World::ordinary((server, Style::Json)).await;
        for era in ERAS {
            let client = curious(&world, era).await;
            for kind in [&KINDS[0], &KINDS[1], &KINDS[2]] {
                for document in &documents {
                    let place = format!("{}, {}, {}", world.with(era), kind.method, document.name);
                    let sent = notices(&document.text);
                    let before = sent.iter().map(|(method, params)| Before::Notice(method, params.clone())).collect();
                    let result = format!(
                        r#"{{"resultType":"complete","ttlMs":0,"cacheScope":"private","x-odd":{}}}"#,
                        document.text
                    );
                    world.server.tell(before, Ending::Result(result.clone()));
                    let params = kind.written(era, &document.text, TOKEN);
                    let heard = client.ask(kind.method, kind.subject(), &params).await;
                    compare_before(&mut ledger, &place, &sent, &heard);
                    ledger.holds(format!("{place}: streamed"), heard.streamed, "one JSON message");
                    ledger.same(format!("{place}: result"), &over_a_stream(&result), &heard.result());
                }
            }
        }
        world.served.gateway.shut_down().await;
    }
    ledger.close(2 * ERAS.len() * 3 * documents.len() * 6);
}

#[tokio::test(start_paused = true)]
async fn an_error_after_messages_arrives_after_them() {
    let mut ledger = Ledger::default();
    let documents = corpus::all();
    for server in ERAS {
        let world = World::ordinary((server, Style::Json)).await;
        for era in ERAS {
            let client = curious(&world, era).await;
            for document in &documents {
                let place = format!("{}, {}", world.with(era), document.name);
                let sent = notices(&document.text);
                let before = sent.iter().map(|(method, params)| Before::Notice(method, params.clone())).collect();
                let error = format!(r#"{{"code":-1,"data":{},"message":""}}"#, document.text);
                world.server.tell(before, Ending::Error(200, error.clone()));
                let params = KINDS[0].written(era, "{}", TOKEN);
                let heard = client.ask(KINDS[0].method, KINDS[0].subject(), &params).await;
                compare_before(&mut ledger, &place, &sent, &heard);
                ledger.same(format!("{place}: error"), &over_a_stream(&error), &heard.error());
            }
        }
        world.served.gateway.shut_down().await;
    }
    ledger.close(2 * ERAS.len() * documents.len() * 5);
}

/// A notification that no specification knows is the peers' own business.
#[tokio::test(start_paused = true)]
async fn a_notification_that_nobody_knows_is_passed_on_between_equal_eras() {
    for server in ERAS {
        let world = World::ordinary((server, Style::Json)).await;
        let client = curious(&world, server).await;
        let params = r#"{"progressToken":"token-1","":[1E400]}"#;
        let before = vec![Before::Notice("notifications/com.example/odd", params.to_owned())];
        world.server.tell(before, Ending::Result(r#"{"resultType":"complete"}"#.to_owned()));
        let heard = client.ask("tools/call", KINDS[0].subject(), &KINDS[0].written(server, "{}", TOKEN)).await;
        assert_eq!(heard.before.len(), 1, "{}: {heard:?}", world.with(server));
        assert_eq!(envelope(&heard.before[0])["params"].get(), params);
    }
}

/// What a legacy server may ask, with a document at every depth.
fn questions(document: &str) -> Vec<(&'static str, String)> {
    vec![
        (
            "elicitation/create",
            format!(
                r#"{{"message":"\/","requestedSchema":{{"type":"object","properties":{{"":{{"default":{document}}}}}}},"x-odd":{document},"_meta":{{"com.example/odd":{document}}}}}"#
            ),
        ),
        ("sampling/createMessage", format!(r#"{{"messages":{document},"maxTokens":1.0,"metadata":{document}}}"#)),
        ("roots/list", format!(r#"{{"_meta":{{"com.example/odd":{document}}},"":0}}"#)),
    ]
}

#[tokio::test(start_paused = true)]
async fn questions_reach_a_legacy_client_and_its_answers_the_server_as_they_were_written() {
    let mut ledger = Ledger::default();
    let documents = corpus::all();
    let world = World::ordinary((Era::Legacy, Style::Json)).await;
    let client = curious(&world, Era::Legacy).await;
    assert!(client.has_session(), "a legacy client that can be asked needs a session");
    for document in &documents {
        let text = &document.text;
        let answers = [
            format!(
                r#""result":{{"action":"accept","content":{text},"":[{text}],"_meta":{{"com.example/odd":{text}}}}}"#
            ),
            format!(r#""error":{{"message":"\/","code":-1,"data":{text},"x-odd":{text}}}"#),
        ];
        for (kind, answer) in KINDS.iter().take(3).zip(answers.iter().cycle()) {
            let place = format!("{}, {}", kind.method, document.name);
            let sent = questions(text);
            let before = sent.iter().map(|(method, params)| Before::Question(method, params.clone())).collect();
            let result = format!(r#"{{"":{text}}}"#);
            world.server.tell(before, Ending::Result(result.clone()));
            let answered = world.server.answers().len();
            let params = kind.written(Era::Legacy, text, TOKEN);
            let heard = client.ask_and_answer(kind.method, kind.subject(), &params, |_| answer.clone()).await;
            compare_before(&mut ledger, &place, &sent, &heard);
            ledger.same(format!("{place}: result"), &over_a_stream(&result), &heard.result());
            let arrived = world.server.answers().split_off(answered);
            ledger.same(format!("{place}: answers"), &sent.len().to_string(), &arrived.len().to_string());
            for (number, arrived) in arrived.iter().enumerate() {
                let of = member(arrived, "id").unwrap_or_default();
                let expected = format!(r#"{{"jsonrpc":"2.0","id":{of},{answer}}}"#);
                ledger.same(format!("{place}: answer {number}"), &expected, arrived);
            }
        }
    }
    ledger.close(documents.len() * 3 * (4 + 1 + 1 + 3));
    // The list was read in a session that declared nothing; the calls were made in one that declared what the client can be
    // asked, as the client declared it, and nothing that the gateway knows nothing of.
    let declared: Vec<_> = world.server.asked("initialize").iter().map(|asked| capabilities(&asked.params)).collect();
    let own = ["elicitation", "roots", "sampling"];
    let own = own.map(|key| (format!("\"{key}\""), member(CAPABILITIES, key).unwrap())).to_vec();
    assert_eq!(declared, [vec![], own]);

    // What it tells of its roots reaches the server in that session too.
    client.tell("notifications/roots/list_changed", r#"{"_meta":{"com.example/odd":1E400}}"#).await;
    let told = "notifications/roots/list_changed";
    crate::support::until("the server is told", Duration::from_secs(10), || !world.server.asked(told).is_empty()).await;
    let call = world.server.last("tools/call");
    assert_eq!(session_of(&world.server.last(told).headers), session_of(&call.headers));
    assert_eq!(world.server.last(told).params, r#"{"_meta":{"com.example/odd":1E400}}"#);
    assert_eq!(world.server.asked(told).len(), 1);
}

/// What a client of the server declared, by key.
fn capabilities(params: &str) -> Vec<(String, String)> {
    let mut declared = members(&member(params, "capabilities").unwrap());
    declared.sort();
    declared
}

/// What belongs to no request comes on the session's own stream.
#[tokio::test(start_paused = true)]
async fn messages_of_a_session_arrive_on_the_stream_of_the_session_as_they_were_written() {
    let mut ledger = Ledger::default();
    let mut documents = corpus::all();
    // What everybody is told of is held for everybody, so it is bounded: larger messages are dropped (64 KiB each).
    documents.retain(|document| document.text.len() < 30 << 10);
    let world = World::ordinary((Era::Legacy, Style::Json)).await;
    let router = world.served.gateway.router("127.0.0.1:8420".parse().unwrap());
    let client = Talk::open_with(router, "{}").await;
    assert_eq!(client.ask("logging/setLevel", None, r#"{"level":"debug"}"#).await.result(), "{}");
    let subscribed = client.ask("resources/subscribe", None, r#"{"uri":"odd://r"}"#).await;
    assert!(subscribed.answer.contains("\"result\""), "{subscribed:?}");
    let mut stream = client.listen().await;
    crate::support::until("the gateway listens", Duration::from_secs(100), || world.server.streams() > 0).await;
    for document in &documents {
        let text = &document.text;
        let sent = [
            ("notifications/message", format!(r#"{{"data":{text},"level":"error","x-odd":[{text}]}}"#)),
            ("notifications/resources/updated", format!(r#"{{"uri":"odd://r","_meta":{{"com.example/odd":{text}}}}}"#)),
        ];
        for (method, params) in sent {
            assert_eq!(world.server.send(method, &params), 1, "one session, one stream");
            let read = envelope(&stream.next().await);
            let found = format!("{}:{}", read["method"].get(), read["params"].get());
            let expected = format!("\"{method}\":{}", over_a_stream(&params));
            ledger.same(format!("{method}, {}", document.name), &expected, &found);
        }
    }
    ledger.close(2 * documents.len());
}
