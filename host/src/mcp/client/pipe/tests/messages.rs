//! What passes: lines, tokens, cancellations, floods.

use std::time::Duration;

use tokio::sync::{Notify, mpsc};

use super::*;
use crate::mcp::Nobody;
use crate::mcp::limits::PIPE_INBOX_LETTERS;

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
    const FLOOD: usize = 10_000;
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
