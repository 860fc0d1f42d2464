//! What can not cross between the eras: it is declared to nobody, and where it comes nevertheless it ends in an error that
//! says so.

use cortex_mcp::mcp::Era;
use serde_json::Value;

use super::ledger::member;
use super::requests::KINDS;
use super::world::{ERAS, World};
use crate::support::scripted::{Before, Ending, Style, session_of};
use crate::support::talk::{CAPABILITIES, Talk, envelope};

const META: &str = r#""com.example/odd":1.0"#;

#[tokio::test(start_paused = true)]
async fn a_modern_server_that_wants_input_of_a_legacy_client_is_an_error_that_says_so() {
    let world = World::ordinary((Era::Modern, Style::Json)).await;
    let client = world.client(Era::Legacy).await;
    let secret = "what-the-server-wants-to-know";
    for kind in KINDS.iter().take(3) {
        let required = format!(
            r#"{{"resultType":"input_required","inputRequests":{{"a":{{"method":"elicitation/create","params":{{"message":"{secret}"}}}}}}}}"#
        );
        world.server.tell(Vec::new(), Ending::Result(required));
        let before = world.server.asked(kind.method).len();
        let heard = client.ask(kind.method, kind.subject(), &kind.written(Era::Legacy, "{}", META)).await;
        assert!(heard.answer.contains("\"error\""), "{}: {}", kind.method, heard.answer);
        let error: Value = serde_json::from_str(&heard.error()).unwrap();
        let message = error["message"].as_str().unwrap();
        assert!(error["code"].is_i64() && message.contains("input"), "{}: {error}", kind.method);
        assert!(!heard.answer.contains(secret), "{}: {}", kind.method, heard.answer);
        assert!(heard.before.is_empty(), "{heard:?}");
        assert_eq!(world.server.asked(kind.method).len(), before + 1, "{} was asked again", kind.method);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_legacy_client_can_do_is_not_declared_to_a_modern_server() {
    let world = World::ordinary((Era::Modern, Style::Json)).await;
    let client = world.client(Era::Legacy).await;
    for kind in KINDS {
        world.server.tell(Vec::new(), Ending::Result(r#"{"resultType":"complete"}"#.to_owned()));
        client.ask(kind.method, kind.subject(), &kind.written(Era::Legacy, "{}", META)).await;
        let params = world.server.last(kind.method).params;
        let meta = member(&params, "_meta").unwrap();
        let declared = member(&meta, "io.modelcontextprotocol/clientCapabilities");
        assert_eq!(declared.as_deref(), Some("{}"), "{}: {params}", kind.method);
        assert_eq!(member(&meta, "com.example/odd").as_deref(), Some("1.0"), "{}: {params}", kind.method);
    }
}

/// Asks a tool of a legacy server that asks back, and returns what became of its question.
async fn asked_back(world: &World, client: &Talk) -> Value {
    let params = r#"{"message":"?","requestedSchema":{"type":"object"}}"#;
    let before = vec![Before::Question("elicitation/create", params.to_owned())];
    world.server.tell(before, Ending::Result(r#"{"content":[],"resultType":"complete"}"#.to_owned()));
    let answered = world.server.answers().len();
    let kind = &KINDS[0];
    let heard = client.ask(kind.method, kind.subject(), &kind.written(client.era, "{}", META)).await;
    assert_eq!(heard.before.len(), 0, "the client was asked: {heard:?}");
    assert_eq!(heard.result(), r#"{"content":[],"resultType":"complete"}"#);
    let mut answers = world.server.answers().split_off(answered);
    assert_eq!(answers.len(), 1, "{answers:?}");
    serde_json::from_str(&answers.remove(0)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_is_told_that_a_modern_client_can_do_nothing_and_is_refused_if_it_asks_it() {
    let world = World::ordinary((Era::Legacy, Style::Json)).await;
    let client = world.client(Era::Modern).await;
    let answer = asked_back(&world, &client).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    for asked in world.server.asked("initialize") {
        assert_eq!(member(&asked.params, "capabilities").as_deref(), Some("{}"), "{}", asked.params);
    }
}

/// A client that declared nothing is asked nothing, in its own era too.
#[tokio::test(start_paused = true)]
async fn only_what_a_client_declared_is_asked_of_it() {
    let world = World::ordinary((Era::Legacy, Style::Json)).await;
    let client = Talk::open_with(world.served.gateway.router("127.0.0.1:8420".parse().unwrap()), "{}").await;
    let answer = asked_back(&world, &client).await;
    assert_eq!(answer["error"]["code"], -32601, "{answer}");
    let partly = r#"{"sampling":{}}"#;
    let client = Talk::open_with(world.served.gateway.router("127.0.0.1:8420".parse().unwrap()), partly).await;
    let answer = asked_back(&world, &client).await;
    assert!(answer["error"]["code"].is_i64(), "{answer}");
    assert!(
        !world.server.asked("initialize").iter().any(|asked| asked.params.contains(CAPABILITIES)),
        "nobody declared so much"
    );
}

/// Two legacy clients with sessions of their own: each is asked what belongs to its own call.
#[tokio::test(start_paused = true)]
async fn a_question_goes_to_the_client_whose_call_it_is_about() {
    let world = World::ordinary((Era::Legacy, Style::Json)).await;
    let clients = [world.client(Era::Legacy).await, world.client(Era::Legacy).await];
    let before = vec![Before::Question("elicitation/create", r#"{"message":"?"}"#.to_owned())];
    world.server.tell(before, Ending::Result(r#"{"content":[]}"#.to_owned()));
    let calls = clients.iter().enumerate().map(|(number, client)| async move {
        let kind = &KINDS[0];
        let answer = move |_: &str| format!(r#""result":{{"client":{number}}}"#);
        let params = kind.written(Era::Legacy, &format!("{{\"n\":{number}}}"), META);
        client.ask_and_answer(kind.method, kind.subject(), &params, answer).await
    });
    let heard = futures_util::future::join_all(calls).await;
    for heard in &heard {
        assert_eq!(heard.before.len(), 1, "{heard:?}");
        assert_eq!(envelope(&heard.before[0])["method"].get(), "\"elicitation/create\"");
    }
    // Each answer came in the session that the call of its client was made in, and the sessions are two.
    let answers = world.server.answers_of_sessions();
    let calls = world.server.asked("tools/call");
    assert_eq!((answers.len(), calls.len()), (2, 2));
    let mut sessions = Vec::new();
    for call in calls {
        let session = session_of(&call.headers);
        let number = member(&member(&call.params, "arguments").unwrap(), "n").unwrap();
        let of_session: Vec<_> = answers.iter().filter(|(of, _)| *of == session).collect();
        let [(_, answer)] = of_session.as_slice() else { panic!("{session}: {answers:?}") };
        assert!(answer.contains(&format!(r#""result":{{"client":{number}}}"#)), "{number}: {answer}");
        sessions.push(session);
    }
    assert_ne!(sessions[0], sessions[1]);
}

#[tokio::test(start_paused = true)]
async fn every_pair_of_eras_has_been_proven_to_talk_at_all() {
    for server in ERAS {
        let world = World::ordinary((server, Style::Sse)).await;
        for era in ERAS {
            world.server.tell(Vec::new(), Ending::Result(r#"{"resultType":"complete","a":1.0}"#.to_owned()));
            let client = world.client(era).await;
            for kind in KINDS {
                let heard = client.ask(kind.method, kind.subject(), &kind.written(era, "{}", META)).await;
                assert_eq!(heard.status, 200, "{}: {}", world.with(era), heard.answer);
                assert_eq!(member(&heard.result(), "a").as_deref(), Some("1.0"), "{}", world.with(era));
            }
        }
    }
}
