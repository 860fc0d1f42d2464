//! What passes: lines, tokens, cancellations, floods.

use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::*;
use crate::mcp::limits::{LISTEN_WINDOW, MAX_LISTEN_EVENTS, PIPE_INBOX_LETTERS};
use crate::mcp::{Nobody, ProtocolFault};

#[tokio::test(start_paused = true)]
async fn a_request_is_one_line_and_its_result_comes_as_it_was_written() {
    let (heard, mut hears) = mpsc::unbounded_channel();
    let rig = Rig::with(OnTerminate::Ends, move |child| {
        let heard = heard.clone();
        async move {
            let mut peer = Peer::of(child);
            peer.open(Era::Legacy).await.unwrap();
            let line = peer.input.next_line().await.unwrap().unwrap();
            let request: Value = serde_json::from_str(&line).unwrap();
            heard.send(line).unwrap();
            // Greetings and empty lines are no messages.
            peer.say("Server running on stdio!\n\n[1,2]\n{\"jsonrpc\":\"2.0\"}").await;
            peer.answer(&request, r#"{"big":123456789012345678901234567890,"f":1.10,"x":1,"x":2,"s":"\ud83d"}"#).await;
            peer.rest().await
        }
    });
    let session = rig.session(Era::Legacy).await;
    let params = "{\"arguments\":{\n \"z\" : 1E2,\r\n\t\"s\":\"a\\nb\" } ,\"name\":\"t\"}";
    let first = session.clone();
    tokio::spawn(async move { first.request("tools/call", object("{}"), &Nobody).await });
    settle().await;
    let outcome = session.request("tools/call", object(params), &Nobody).await.unwrap();
    assert_eq!(text(outcome), r#"{"big":123456789012345678901234567890,"f":1.10,"x":1,"x":2,"s":"\ud83d"}"#);
    let line = hears.recv().await.unwrap();
    assert!(line.contains("\"arguments\":{  \"z\" : 1E2,  \t\"s\":\"a\\nb\" }"), "{line}");
}

#[tokio::test(start_paused = true)]
async fn two_callers_with_equal_tokens_each_hear_of_their_own_progress_with_their_own_token() {
    let rig = Rig::new(|mut peer| async move {
        let one = peer.open(Era::Legacy).await.unwrap();
        let two = peer.request().await.unwrap();
        let token = |request: &Value| request["params"]["_meta"]["progressToken"].clone();
        assert_ne!(token(&one), token(&two));
        for (step, request) in [(1, &one), (2, &two), (3, &one)] {
            let (token, name) = (token(request), &request["params"]["name"]);
            peer.say(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progress":{step}.0,"progressToken":{token},"message":{name}}}}}"#
            ))
            .await;
        }
        // Of nobody's request, and of one that gave no token.
        peer.say(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":"mine","progress":1}}"#,
        )
        .await;
        peer.answer(&two, "{}").await;
        peer.answer(&one, "{}").await;
        peer.rest().await
    });
    let session = rig.session(Era::Legacy).await;
    let (first, second) = (Keeps::default(), Keeps::default());
    let params = |name: &str| object(&format!(r#"{{"name":"{name}","_meta":{{"progressToken":"mine"}}}}"#));
    let (one, two) = tokio::join!(
        session.request("tools/call", params("one"), &first),
        session.request("tools/call", params("two"), &second),
    );
    assert!(one.is_ok() && two.is_ok());
    let said = |step: u32, name: &str| {
        format!(r#"notifications/progress {{"progress":{step}.0,"progressToken":"mine","message":"{name}"}}"#)
    };
    assert_eq!(first.told(), [said(1, "one"), said(3, "one")]);
    assert_eq!(second.told(), [said(2, "two")]);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_is_cancelled_once_and_its_late_answer_is_ignored() {
    for era in [Era::Legacy, Era::Modern] {
        let (heard, mut hears) = mpsc::unbounded_channel();
        let rig = Rig::new(move |mut peer| {
            let heard = heard.clone();
            async move {
                let given_up = peer.open(era).await.unwrap();
                let cancelled = peer.next().await.unwrap();
                heard.send((given_up["id"].clone(), cancelled)).unwrap();
                peer.answer(&given_up, r#"{"late":true}"#).await;
                let next = peer.next().await.unwrap();
                assert_eq!(next["method"], "tools/call");
                peer.answer(&next, r#"{"late":false}"#).await;
                peer.rest().await
            }
        });
        let session = rig.session(era).await;
        let asked = session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody);
        assert!(tokio::time::timeout(Duration::from_secs(1), asked).await.is_err());
        let (id, cancelled) = hears.recv().await.unwrap();
        assert_eq!(cancelled["method"], "notifications/cancelled");
        assert_eq!(cancelled["params"]["requestId"], id);
        let outcome = session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody).await.unwrap();
        assert_eq!(text(outcome), r#"{"late":false}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_before_it_was_written_never_is() {
    let reads = Arc::new(Notify::new());
    let reading = reads.clone();
    let (heard, mut hears) = mpsc::unbounded_channel();
    let rig = Rig::new(move |mut peer| {
        let (reading, heard) = (reading.clone(), heard.clone());
        async move {
            let request = peer.request().await.unwrap();
            peer.answer(&request, INITIALIZED).await;
            peer.next().await.unwrap();
            reading.notified().await;
            while let Some(message) = peer.next().await {
                heard.send(message["params"]["name"].as_str().map_or(0, str::len)).unwrap();
                peer.answer(&message, "{}").await;
            }
            Exit::Code(0)
        }
    });
    let session = rig.session(Era::Legacy).await;
    let blocking = session.clone();
    let large = object(&format!(r#"{{"name":"{}"}}"#, "x".repeat(300_000)));
    let first = tokio::spawn(async move { blocking.request("tools/call", large, &Nobody).await });
    settle().await;
    let given_up = session.request("tools/call", object(r#"{"name":"never"}"#), &Nobody);
    assert!(tokio::time::timeout(Duration::from_secs(1), given_up).await.is_err());
    reads.notify_one();
    first.await.unwrap().unwrap();
    session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody).await.unwrap();
    session.close().await;
    drop(rig);
    let mut lengths = Vec::new();
    while let Ok(length) = hears.try_recv() {
        lengths.push(length);
    }
    assert_eq!(lengths, [300_000, 1]);
}

/// Takes nothing until it is allowed to.
struct Slow {
    may_go_on: Notify,
    kept: Keeps,
}

impl Interim for Slow {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        async move {
            self.may_go_on.notified().await;
            self.may_go_on.notify_one();
            self.kept.notify(notice).await;
        }
        .boxed()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        self.kept.ask(question)
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_client_holds_up_nobody_else_and_a_flood_for_it_is_bounded() {
    // Less than ends the pipe.
    const FLOOD: usize = MAX_LISTEN_EVENTS - 1;
    let rig = Rig::new(|mut peer| async move {
        let slow = peer.open(Era::Legacy).await.unwrap();
        let token = slow["params"]["_meta"]["progressToken"].clone();
        for step in 0..FLOOD {
            peer.say(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},"progress":{step}}}}}"#
            ))
            .await;
        }
        peer.answer(&slow, r#"{"slow":true}"#).await;
        while let Some(request) = peer.request().await {
            peer.answer(&request, r#"{"slow":false}"#).await;
        }
        Exit::Code(0)
    });
    let session = rig.session(Era::Legacy).await;
    let slow = Arc::new(Slow { may_go_on: Notify::new(), kept: Keeps::default() });
    let (calling, taking) = (session.clone(), slow.clone());
    let slow_call = tokio::spawn(async move {
        calling.request("tools/call", object(r#"{"_meta":{"progressToken":1}}"#), &*taking).await
    });
    settle().await;
    for _ in 0..10 {
        let outcome = session.request("tools/call", object("{}"), &Nobody).await.unwrap();
        assert_eq!(text(outcome), r#"{"slow":false}"#);
    }
    assert!(!slow_call.is_finished() && slow.kept.told().is_empty());
    slow.may_go_on.notify_one();
    assert_eq!(text(slow_call.await.unwrap().unwrap()), r#"{"slow":true}"#);
    let told = slow.kept.told();
    assert!(told.len() >= PIPE_INBOX_LETTERS && told.len() <= PIPE_INBOX_LETTERS + 1, "{}", told.len());
    assert!(told[0].contains(r#""progress":0}"#), "what came first was kept, in order: {}", told[0]);
}

#[tokio::test(start_paused = true)]
async fn progress_is_told_before_the_answer_that_came_after_it() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Modern).await.unwrap();
        let (token, id) = (&request["params"]["_meta"]["progressToken"], &request["id"]);
        // In one piece: the reader sees all of it before anybody else runs.
        peer.say(&format!(
            "{{\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\"params\":{{\"progressToken\":{token},\"progress\":1}}}}\n\
             {{\"jsonrpc\":\"2.0\",\"id\":{id},\"result\":{{}}}}"
        ))
        .await;
        peer.rest().await
    });
    let session = rig.session(Era::Modern).await;
    let keeps = Keeps::default();
    session.request("tools/call", object(r#"{"_meta":{"progressToken":7}}"#), &keeps).await.unwrap();
    assert_eq!(keeps.told(), [r#"notifications/progress {"progressToken":7,"progress":1}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_cancellation_whose_id_is_a_request_of_ours_by_chance_ends_nothing() {
    for era in [Era::Legacy, Era::Modern] {
        let rig = Rig::new(move |mut peer| async move {
            let request = peer.open(era).await.unwrap();
            let id = &request["id"];
            peer.say(&format!(
                r#"{{"jsonrpc":"2.0","method":"notifications/cancelled","params":{{"requestId":{id}}}}}"#
            ))
            .await;
            peer.answer(&request, r#"{"done":true}"#).await;
            peer.rest().await
        });
        let session = rig.session(era).await;
        let outcome = session.request("tools/call", object(r#"{"name":"t"}"#), &Nobody).await.unwrap();
        assert_eq!(text(outcome), r#"{"done":true}"#);
    }
}

/// What a child says that is no answer anybody waits for, in two ways.
const NOISE: [&str; 2] = ["no message at all", r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#];

#[tokio::test(start_paused = true)]
async fn a_child_that_says_more_than_anybody_can_have_to_say_is_ended() {
    for noise in NOISE {
        let rig = Rig::new(move |mut peer| async move {
            let request = peer.open(Era::Legacy).await.unwrap();
            for _ in 0..2 * MAX_LISTEN_EVENTS {
                peer.say(noise).await;
            }
            peer.answer(&request, "{}").await;
            peer.rest().await
        });
        let session = rig.session(Era::Legacy).await;
        let failed = session.request("tools/call", object("{}"), &Nobody).await.unwrap_err();
        assert_eq!(failed, ProtocolFault::EventFlood.into());
        settle().await;
        assert_eq!(rig.processes.running(), 0);
    }
}

#[tokio::test(start_paused = true)]
async fn at_a_sound_rate_a_child_may_go_on_for_ever_and_answers_do_not_count() {
    let rig = Rig::new(|mut peer| async move {
        let mut request = peer.open(Era::Legacy).await.unwrap();
        for _ in 0..4 {
            for _ in 0..MAX_LISTEN_EVENTS / 2 {
                peer.say(NOISE[1]).await;
            }
            tokio::time::sleep(LISTEN_WINDOW / 2).await;
        }
        loop {
            peer.answer(&request, "{}").await;
            let Some(next) = peer.request().await else { return Exit::Code(0) };
            request = next;
        }
    });
    let session = rig.session(Era::Legacy).await;
    for _ in 0..2 * MAX_LISTEN_EVENTS {
        session.request("tools/call", object("{}"), &Nobody).await.unwrap();
    }
}

/// Takes no notice, ever; answers questions.
#[derive(Default)]
struct Blocked(Keeps);

impl Interim for Blocked {
    fn notify(&self, _: Notice) -> BoxFuture<'_, ()> {
        std::future::pending().boxed()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        self.0.ask(question)
    }
}

#[tokio::test(start_paused = true)]
async fn the_end_of_a_child_is_seen_while_a_client_takes_no_notice() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Legacy).await.unwrap();
        let token = &request["params"]["_meta"]["progressToken"];
        let progress = format!(r#"{{"progressToken":{token},"progress":1}}"#);
        peer.say(&format!(r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{progress}}}"#)).await;
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/tools/list_changed"}"#).await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        Exit::Code(1)
    });
    let session = rig.session(Era::Legacy).await;
    let blocked = Blocked::default();
    let (called, listened) = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::join!(
            session.request("tools/call", object(r#"{"_meta":{"progressToken":1}}"#), &blocked),
            session.listen(&[], &[], &blocked),
        )
    })
    .await
    .expect("a client that takes nothing holds up the end");
    assert_eq!(called.unwrap_err(), ProtocolFault::PipeEnded.into());
    assert_eq!(listened.unwrap_err(), ProtocolFault::PipeEnded.into());
}

/// Takes no notice before it has answered a question, which takes it a while.
#[derive(Default)]
struct AnswersFirst {
    answered: Notify,
    kept: Keeps,
}

impl Interim for AnswersFirst {
    fn notify(&self, notice: Notice) -> BoxFuture<'_, ()> {
        async move {
            self.answered.notified().await;
            self.kept.notify(notice).await;
        }
        .boxed()
    }

    fn ask(&self, question: Question) -> BoxFuture<'_, Outcome> {
        async move {
            tokio::time::sleep(Duration::from_secs(5)).await;
            self.answered.notify_one();
            self.kept.ask(question).await
        }
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn questions_are_answered_while_a_client_takes_no_notice() {
    let rig = Rig::new(|mut peer| async move {
        let request = peer.open(Era::Legacy).await.unwrap();
        peer.say(r#"{"jsonrpc":"2.0","id":"q","method":"elicitation/create"}"#).await;
        peer.say(r#"{"jsonrpc":"2.0","method":"notifications/message","params":{}}"#).await;
        assert_eq!(peer.next().await.unwrap()["id"], "q");
        peer.answer(&request, "{}").await;
        peer.rest().await
    });
    let declared = Declared { capabilities: object(r#"{"elicitation":{}}"#).to_raw(), info: None };
    let session = rig.upstream.open(Some(Era::Legacy), &declared).await.unwrap();
    let client = AnswersFirst::default();
    let asked = session.request("tools/call", object("{}"), &client);
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect("the question is not answered").unwrap();
    assert_eq!(client.kept.told(), ["asked elicitation/create", "notifications/message {}"]);
}
