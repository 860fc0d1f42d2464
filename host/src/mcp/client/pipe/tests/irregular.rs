//! Messages of servers that break a rule: one with a single possible reading is accepted, any other costs its own request only.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::edge::http::HttpError;
use crate::mcp::limits::MAX_MESSAGE_BYTES;
use crate::mcp::{Nobody, ProtocolFault, WireError};

/// A server that answers each call with the text of its argument `answer`, where ID stands for the identifier; none: not at all.
fn scripted(era: Era) -> Rig {
    Rig::new(move |mut peer| async move {
        let mut next = peer.open(era).await;
        while let Some(request) = next {
            if let Some(text) = request["params"]["arguments"]["answer"].as_str() {
                let text = text.replace("ID", &request["id"].to_string());
                let bytes: Vec<u8> = text
                    .chars()
                    .map(|c| if c == '\u{e9}' { vec![0xe9] } else { c.to_string().into_bytes() })
                    .collect::<Vec<_>>()
                    .concat();
                peer.output.write_all(&bytes).await.unwrap();
                peer.output.write_all(b"\n").await.unwrap();
            }
            next = peer.request().await;
        }
        Exit::Code(0)
    })
}

fn params_of(text: &str) -> RawObject {
    object(&serde_json::json!({ "name": "t", "arguments": { "answer": text } }).to_string())
}

async fn called(session: &Session, text: &str) -> (Result<Outcome, WireError>, Duration) {
    let began = Instant::now();
    let limit = Duration::from_secs(30);
    let outcome = tokio::time::timeout(limit, session.request("tools/call", params_of(text), &Nobody)).await;
    (outcome.unwrap_or(Err(HttpError::Timeout.into())), began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_one_reading_is_taken() {
    for era in [Era::Legacy, Era::Modern] {
        let rig = scripted(era);
        let session = rig.session(era).await;
        for written in [
            r#"{"id":ID,"result":{"a":1}}"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":{"a":1},"error":null}"#,
            r#"{"jsonrpc":"2.0","id":"ID","result":{"a":1}}"#,
            "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"a\":1}}",
            "{\n  \"jsonrpc\": \"2.0\",\n\n  \"id\": ID,\n  \"result\":\n  {\"a\":1}\n}",
            "noise\n{\"level\":\"info\",\"method\":\"GET\",\"id\":ID}\n{\"id\":ID,\"result\":{\"a\":1}}",
        ] {
            let (outcome, took) = called(&session, written).await;
            let outcome = outcome.unwrap_or_else(|error| panic!("{era:?} {written}: {error}"));
            assert_eq!((text(outcome).as_str(), took), (r#"{"a":1}"#, Duration::ZERO), "{era:?} {written}");
        }
        let (outcome, _) =
            called(&session, r#"{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":null}}"#).await;
        let Ok(Outcome::Error(error)) = outcome else { panic!("{outcome:?}") };
        assert_eq!(error.get(), r#"{"code":-32000,"message":"the server gave no error message"}"#);
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_cannot_be_read_fails_its_request_at_once_with_the_reason() {
    use ProtocolFault::{NotANumber, NotUtf8, Unfinished};
    let rig = scripted(Era::Legacy);
    let session = rig.session(Era::Legacy).await;
    let other = session.clone();
    let waiting = tokio::spawn(async move { called(&other, "").await.0 });
    for (written, fault) in [
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"mean":NaN}}"#, NotANumber),
        (r#"{"result":[-Infinity],"jsonrpc":"2.0","id":"ID"}"#, NotANumber),
        ("{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"text\":\"caf\u{e9}\"}}", NotUtf8),
        (
            "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\n{\"jsonrpc\":\"2.0\",\"method\":\"notifications/x\"}",
            Unfinished,
        ),
    ] {
        let (outcome, took) = called(&session, written).await;
        assert_eq!((outcome.map(text).unwrap_err(), took), (fault.into(), Duration::ZERO), "{written}");
    }
    for (written, part) in [
        (r#"{"jsonrpc":"2.0","id":ID,"error":{"code":"x","message":"no"}}"#, "an integer code"),
        (r#"{"jsonrpc":"1.0","id":ID,"result":1}"#, "jsonrpc is not"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":1,"error":{"code":1,"message":""}}"#, "exactly one of"),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{'a':1}}"#, "not JSON"),
    ] {
        let (outcome, took) = called(&session, written).await;
        let error = outcome.map(text).unwrap_err().to_string();
        assert!(error.contains(part) && took == Duration::ZERO, "{written}: {error} after {took:?}");
    }
    // One that does not go on is given up soon.
    let (outcome, took) = called(&session, "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{").await;
    assert_eq!(outcome.map(text).unwrap_err(), Unfinished.into());
    assert!(took < Duration::from_secs(5), "{took:?}");
    // Nothing of all that was the other's.
    assert_eq!(waiting.await.unwrap().map(text).unwrap_err(), HttpError::Timeout.into());
}

#[tokio::test(start_paused = true)]
async fn an_error_without_an_identifier_is_about_a_request_only_if_it_could_not_be_read() {
    let rig = scripted(Era::Legacy);
    let session = rig.session(Era::Legacy).await;
    for id in ["", "\"id\":null,"] {
        for (code, is_pinned) in [(-32700, true), (-32600, true), (-32601, false), (-32603, false), (-32000, false)] {
            let written = format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":{code},"message":"Method not found"}}}}"#);
            let (outcome, _) = called(&session, &written).await;
            assert_eq!(outcome.is_ok(), is_pinned, "{written}: {outcome:?}");
            // With two requests in flight it is not known which one is meant.
            let (one, two) = tokio::join!(called(&session, ""), called(&session, &written));
            assert!(one.0.is_err() && two.0.is_err(), "{written}");
        }
        let (outcome, _) = called(&session, &format!(r#"{{"jsonrpc":"2.0",{id}"result":{{}}}}"#)).await;
        assert!(outcome.is_err(), "a result without an identifier may answer a notification");
    }
    assert_eq!(rig.processes.running(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_above_the_cap_costs_its_own_request_only() {
    for era in [Era::Legacy, Era::Modern] {
        let rig = Rig::new(move |mut peer| async move {
            let other = peer.open(era).await.unwrap();
            while let Some(request) = peer.request().await {
                let id = &request["id"];
                let large = "x".repeat(MAX_MESSAGE_BYTES);
                match request["params"]["name"].as_str().unwrap() {
                    "first" => peer.say(&format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{{"a":"{large}"}}}}"#)).await,
                    "last" => peer.say(&format!(r#"{{"result":{{"a":"{large}","id":77}},"id":{id}}}"#)).await,
                    "unknown" => peer.say(&format!(r#"{{"result":{{"a":"{large}"}}}}"#)).await,
                    _ => {
                        peer.answer(&other, "{}").await;
                        peer.answer(&request, "{}").await;
                    }
                }
            }
            Exit::Code(0)
        });
        let session = rig.session(era).await;
        let call = async |name: &str| {
            let params = object(&format!(r#"{{"name":"{name}"}}"#));
            tokio::time::timeout(Duration::from_secs(30), session.request("tools/call", params, &Nobody)).await
        };
        let (other, ()) = tokio::join!(call("other"), async {
            for name in ["first", "last"] {
                let error = call(name).await.unwrap().map(text).unwrap_err();
                assert_eq!(error, HttpError::Oversize { cap: MAX_MESSAGE_BYTES }.into(), "{era:?} {name}");
            }
            assert!(call("unknown").await.is_err(), "its request is not known");
            call("end").await.unwrap().unwrap();
        });
        drop(other);
        assert_eq!((rig.processes.running(), session.has_ended()), (1, false), "{era:?}");
    }
}

/// The lines of a result of so many bytes, as a pretty printer writes them.
fn pretty(id: &Value, bytes: usize) -> String {
    let item = format!("      {{\n        \"text\": \"{}\"\n      }}", "x".repeat(100));
    let items = vec![item.as_str(); bytes / item.len() + 1].join(",\n");
    format!(
        "{{\n  \"jsonrpc\": \"2.0\",\n  \"result\": {{\n    \"content\": [\n{items}\n    ]\n  }},\n  \"id\": {id}\n}}"
    )
}

#[tokio::test(start_paused = true)]
async fn a_message_over_many_lines_costs_its_own_request_only() {
    let rig = Rig::new(|mut peer| async move {
        let other = peer.open(Era::Legacy).await.unwrap();
        while let Some(request) = peer.request().await {
            let id = &request["id"];
            match request["params"]["name"].as_str().unwrap() {
                "large" => peer.say(&pretty(id, MAX_MESSAGE_BYTES + MAX_MESSAGE_BYTES / 4)).await,
                "whole" => peer.say(&pretty(id, MAX_MESSAGE_BYTES / 4 * 3)).await,
                "line" => peer.say(&pretty(id, 1_000).replacen('x', &"x".repeat(MAX_MESSAGE_BYTES), 1)).await,
                "unreadable" => peer.say(&pretty(id, MAX_MESSAGE_BYTES / 4).replacen("\"text\"", "'text'", 1)).await,
                "cut" => peer.say(pretty(id, MAX_MESSAGE_BYTES * 2).trim_end_matches('}')).await,
                _ => {
                    peer.answer(&other, "{}").await;
                    peer.answer(&request, "{}").await;
                }
            }
        }
        Exit::Code(0)
    });
    let session = rig.session(Era::Legacy).await;
    let call = async |name: &str| {
        let params = object(&format!(r#"{{"name":"{name}"}}"#));
        tokio::time::timeout(Duration::from_secs(30), session.request("tools/call", params, &Nobody)).await.unwrap()
    };
    let (other, ()) = tokio::join!(call("other"), async {
        let oversize = WireError::from(HttpError::Oversize { cap: MAX_MESSAGE_BYTES });
        // In one window, so that what comes counts together.
        for _ in 0..2 {
            for name in ["large", "line", "cut"] {
                assert_eq!(call(name).await.map(text).unwrap_err(), oversize, "{name}");
            }
            for _ in 0..2 {
                assert!(text(call("whole").await.unwrap()).contains("content"));
            }
            let error = call("unreadable").await.map(text).unwrap_err().to_string();
            assert!(error.contains("not JSON"), "{error}");
        }
        call("end").await.unwrap();
    });
    assert!(other.is_ok() && !session.has_ended(), "{other:?}");
}

#[tokio::test(start_paused = true)]
async fn lines_of_a_log_fail_no_request_and_other_encodings_fail_theirs_at_once() {
    let rig = scripted(Era::Legacy);
    let session = rig.session(Era::Legacy).await;
    for log in ["{\"error\": failed to connect}", "{'level': 'info', 'error': 'x'}", "{\n  error: no route,\n}"] {
        let written = format!("{log}\n{{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{{}}}}");
        assert!(called(&session, &written).await.0.is_ok(), "{log}");
    }
    let answer = "{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{}}";
    let wide = |text: &str| text.chars().flat_map(|letter| [letter, '\0']).collect::<String>();
    for (written, part) in [
        ("{'jsonrpc': '2.0', 'id': ID, 'result': {'text': \"it's\"}}".to_owned(), "not JSON"),
        ("{'jsonrpc': '2.0',\n 'result': {'is': None},\n 'id': ID}".to_owned(), "not JSON"),
        (wide(answer).replace("I\0D\0", "ID\0"), "UTF-8"),
    ] {
        let (outcome, took) = called(&session, &written).await;
        let error = outcome.map(text).unwrap_err().to_string();
        assert!(error.contains(part) && took == Duration::ZERO, "{written}: {error} after {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_cap_is_the_connectors_and_follows_a_reload() {
    let rig = scripted(Era::Legacy);
    let session = rig.session(Era::Legacy).await;
    let written = format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{"a":"{}"}}}}"#, "x".repeat(1_000));
    for (cap, is_taken) in [(2_000, true), (500, false), (2_000, true)] {
        rig.inbound.set_max_message_bytes(cap);
        // The line that is waited for already has the cap of before.
        drop(called(&session, r#"{"id":ID,"result":1}"#).await);
        let (outcome, _) = called(&session, &written).await;
        assert_eq!(outcome.is_ok(), is_taken, "{cap}: {outcome:?}");
    }
}
