//! Everything that a hostile server can send, in both eras: each ends in a typed error, within its deadline and its bound,
//! and nothing is read that is not needed for that.

use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::StreamExt;

use super::*;
use crate::edge::http::within;
use crate::mcp::limits::{MAX_MESSAGE_BYTES, MAX_PAGES, MAX_SERVER_REQUESTS, MAX_STREAM_BYTES};
use crate::mcp::{EnvelopeError, Era, ProtocolFault, Session, WireError};
use crate::model::FailureClass;

const ERAS: [Era; 2] = [Era::Modern, Era::Legacy];
const MEBIBYTE: usize = 1 << 20;

/// What a call ends with, and the network that saw it.
async fn called(
    era: Era,
    script: impl Fn(&Request) -> Response + Send + Sync + 'static,
) -> (Result<Outcome, WireError>, Arc<Scripted>) {
    let (session, network) = session(era, script).await;
    let called = within(Duration::from_secs(60), call(&session)).await;
    (called, network)
}

async fn call(session: &Session) -> Result<Outcome, WireError> {
    session.request("tools/call", object(r#"{"name":"echo"}"#), &Nobody).await
}

/// What a call ends with that has no answer.
async fn fault(era: Era, script: impl Fn(&Request) -> Response + Send + Sync + 'static) -> WireError {
    called(era, script).await.0.expect_err("no answer")
}

fn oversize(cap: usize) -> WireError {
    HttpError::Oversize { cap }.into()
}

/// An answer whose body has no end, and how many pieces of it were taken.
fn endless(content_type: &'static str, piece: Vec<u8>) -> (impl Fn(&Request) -> Response, Arc<AtomicUsize>) {
    let taken = Arc::new(AtomicUsize::new(0));
    let (count, piece) = (taken.clone(), Bytes::from(piece));
    let script = move |_: &Request| {
        let (count, piece) = (count.clone(), piece.clone());
        let mut response = answer(200, content_type, vec![]);
        response.body = Body::new(stream::repeat_with(move || {
            count.fetch_add(1, Ordering::SeqCst);
            Ok(piece.clone())
        }));
        response
    };
    (script, taken)
}

#[tokio::test(start_paused = true)]
async fn an_endless_body_is_read_no_further_than_its_cap() {
    let comment = [b":".as_slice(), &vec![b'x'; MEBIBYTE - 2], b"\n"].concat();
    let notice = b"data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n";
    let notices = notice.repeat(MEBIBYTE / notice.len());
    for era in ERAS {
        for (content_type, piece, cap) in [
            ("application/json", vec![b' '; MEBIBYTE], MAX_MESSAGE_BYTES),
            ("text/event-stream", vec![b'x'; MEBIBYTE], MAX_MESSAGE_BYTES),
            ("text/event-stream", b"data: x\n".repeat(MEBIBYTE / 8), MAX_STREAM_BYTES),
            ("text/event-stream", comment.clone(), MAX_STREAM_BYTES),
            ("text/event-stream", notices.clone(), MAX_STREAM_BYTES),
            ("text/event-stream", b"\n".repeat(MEBIBYTE), MAX_STREAM_BYTES),
        ] {
            let length = piece.len();
            let (script, taken) = endless(content_type, piece);
            let error = fault(era, script).await;
            assert_eq!((error.failure().class, error), (FailureClass::Oversize, oversize(cap)), "{era:?}");
            let read = taken.load(Ordering::SeqCst) * length;
            assert!(read <= cap + 2 * MEBIBYTE, "{era:?} {content_type}: {read} bytes");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_status_does_not_open_the_way_for_a_large_body() {
    for era in ERAS {
        let taken = Arc::new(AtomicUsize::new(0));
        let count = taken.clone();
        let error = fault(era, move |_| {
            let count = count.clone();
            let mut response = answer(500, "application/json", vec![]);
            response.body = Body::new(stream::repeat_with(move || {
                count.fetch_add(1, Ordering::SeqCst);
                Ok(Bytes::from(vec![b' '; 16 * 1024]))
            }));
            response
        });
        assert_eq!(
            error.await,
            WireError::Status { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after: None, proxy: None }
        );
        assert!(taken.load(Ordering::SeqCst) <= 6, "{era:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_trickles_ends_with_the_callers_deadline() {
    for era in ERAS {
        for content_type in ["application/json", "text/event-stream"] {
            let taken = Arc::new(AtomicUsize::new(0));
            let count = taken.clone();
            let error = fault(era, move |_| {
                let count = count.clone();
                let trickle = stream::repeat(()).then(move |()| {
                    count.fetch_add(1, Ordering::SeqCst);
                    async {
                        tokio::time::sleep(Duration::from_secs(1)).await;
                        Ok(Bytes::from_static(b"d"))
                    }
                });
                let mut response = answer(200, content_type, vec![]);
                response.body = Body::new(trickle);
                response
            });
            assert_eq!(error.await, HttpError::Timeout.into());
            assert!(taken.load(Ordering::SeqCst) <= 61, "{era:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_packed_unasked_is_refused_before_a_byte_of_it_is_read() {
    for era in ERAS {
        for status in [200, 404, 500] {
            for encoding in ["gzip", "GZIP", "br", "identity, gzip", "identity;gzip"] {
                for content_type in ["application/json", "text/event-stream"] {
                    let (bomb, taken) = endless(content_type, vec![0x1f; 1024]);
                    let (called, network) = called(era, move |request| {
                        let mut response = bomb(request);
                        response.status = StatusCode::from_u16(status).unwrap();
                        response.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
                        response
                    })
                    .await;
                    let error = called.unwrap_err();
                    if status == 200 {
                        assert_eq!(error, ProtocolFault::ContentEncoding.into(), "{era:?} {encoding}");
                    }
                    assert_eq!(taken.load(Ordering::SeqCst), 0, "{era:?} {status} {encoding}");
                    let posts = network.asked();
                    assert!(posts.iter().all(|post| post.headers[header::ACCEPT_ENCODING] == "identity"));
                }
            }
        }
    }
    // What is not packed may say so.
    let (called, _) = called(Era::Modern, |request| {
        let mut response = json(response_of(&id_of(request), "{}"));
        response.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("Identity"));
        response
    })
    .await;
    assert!(called.is_ok());
}

#[tokio::test(start_paused = true)]
async fn json_that_nests_deeper_than_any_stack_passes_as_a_result_and_harms_nothing() {
    const LEVELS: usize = 100_000;
    let deep = format!("{}{}", "[".repeat(LEVELS), "]".repeat(LEVELS));
    for era in ERAS {
        for form in [json as fn(String) -> Response, |text| events(format!("data: {text}\n\n"))] {
            let result = format!(r#"{{"content":[],"deep":{deep}}}"#);
            let sent = result.clone();
            let (outcome, _) = called(era, move |request| form(response_of(&id_of(request), &sent))).await;
            let Ok(Outcome::Result(found)) = outcome else { panic!("{era:?}") };
            assert_eq!(found.get(), result);
            // As data of an error, as members of the envelope, as what the server asks.
            for text in [
                format!(r#"{{"jsonrpc":"2.0","id":ID,"error":{{"code":-32022,"message":"","data":{deep}}}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":ID,"result":{{}},"other":{deep}}}"#),
            ] {
                let (outcome, _) = called(era, move |request| form(text.replace("ID", &id_of(request)))).await;
                assert!(!matches!(outcome, Err(WireError::Protocol(ProtocolFault::NotAResponse))), "{outcome:?}");
            }
            for text in [
                format!(r#"{{"jsonrpc":"2.0","id":{deep},"result":{{}}}}"#),
                format!(r#"{{"jsonrpc":"2.0","id":1,"error":{deep}}}"#),
                deep.clone(),
            ] {
                let error = fault(era, move |_| form(text.clone())).await;
                assert_eq!(error.failure().class, FailureClass::Decode, "{era:?}");
            }
            // Tools whose schemas nest like that are left out, the others stay.
            let annotated = format!(r#"{{"name":"b","inputSchema":{{"x-mcp-header":"A","not":{deep}}}}}"#);
            let tools = format!(
                r#"{{"tools":[{{"name":"a","inputSchema":{{"enum":{deep}}}}},{annotated},{{"name":"c","inputSchema":{{}}}}]}}"#
            );
            let (session, _) = session(era, move |request| form(response_of(&id_of(request), &tools))).await;
            let listed = session.list(ListKind::Tools).await.unwrap();
            assert_eq!(
                listed.items.iter().map(|tool| tool.get()).collect::<Vec<_>>(),
                [r#"{"name":"c","inputSchema":{}}"#]
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_with_the_id_of_another_request_is_none() {
    for era in ERAS {
        for id in ["77", "\"0ID\"", "\"ID.0\"", "ID.0", "-ID", "\"\""] {
            let wrong = move |request: &Request| response_of(&id.replace("ID", &id_of(request)), "{}");
            assert_eq!(fault(era, move |request| json(wrong(request))).await, ProtocolFault::WrongId.into(), "{id}");
            let on_stream = fault(era, move |request| events(format!("data: {}\n\n", wrong(request)))).await;
            assert_eq!(on_stream, ProtocolFault::StreamEnded.into(), "{era:?} {id}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn of_two_answers_the_first_counts_and_two_in_one_text_are_none() {
    for era in ERAS {
        let (outcome, _) = called(era, |request| {
            let id = id_of(request);
            events(format!("data: {}\n\ndata: {}\n\n", response_of(&id, "{\"n\":1}"), response_of(&id, "{\"n\":2}")))
        })
        .await;
        assert_eq!(result(outcome.unwrap()).get("n").unwrap().get(), "1");
        for text in [
            r#"{"jsonrpc":"2.0","id":ID,"result":{"n":1},"result":{"n":2}}"#,
            r#"{"jsonrpc":"2.0","id":7,"id":ID,"result":{}}"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":{},"error":{"code":1,"message":""}}"#,
            r#"{"jsonrpc":"2.0","id":ID,"result":{}}{"jsonrpc":"2.0","id":ID,"result":{}}"#,
            r#"[{"jsonrpc":"2.0","id":ID,"result":{}},{"jsonrpc":"2.0","id":ID,"result":{}}]"#,
        ] {
            let error = fault(era, move |request| json(text.replace("ID", &id_of(request)))).await;
            assert!(matches!(error, WireError::Protocol(ProtocolFault::Envelope(_))), "{text}: {error:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn cursors_that_come_round_or_never_end_end_the_list() {
    for era in ERAS {
        for (period, requests) in [(1, 2), (3, 4), (usize::MAX, MAX_PAGES)] {
            let asked = Arc::new(AtomicUsize::new(0));
            let count = asked.clone();
            let (session, _) = session(era, move |request| {
                let cursor = count.fetch_add(1, Ordering::SeqCst) % period;
                let page = format!(r#"{{"tools":[{{"name":"t{cursor}"}}],"nextCursor":"{cursor}"}}"#);
                json(response_of(&id_of(request), &page))
            })
            .await;
            let listed = session.list(ListKind::Tools).await;
            match period {
                usize::MAX => assert_eq!(listed.unwrap_err(), ProtocolFault::TooManyPages(ListKind::Tools).into()),
                period => assert_eq!(listed.unwrap().items.len(), period, "{era:?}"),
            }
            assert_eq!(asked.load(Ordering::SeqCst), requests, "{era:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_list_ends_where_its_server_refuses_its_own_empty_cursor() {
    for (era, cursor, status, is_served) in [
        (Era::Legacy, "", 200, true),
        (Era::Legacy, "x", 200, false),
        (Era::Legacy, "", 500, false),
        (Era::Modern, "", 200, false),
    ] {
        let (session, _) = session(era, move |request| {
            let id = id_of(request);
            match String::from_utf8_lossy(&request.body).contains("\"cursor\"") {
                false => json(response_of(&id, &format!(r#"{{"tools":[{{"name":"t"}}],"nextCursor":"{cursor}"}}"#))),
                true if status == 500 => answer(500, "text/plain", vec![]),
                true => json(format!(
                    r#"{{"jsonrpc":"2.0","id":{id},"error":{{"code":-32602,"message":"Invalid cursor"}}}}"#
                )),
            }
        })
        .await;
        let listed = session.list(ListKind::Tools).await.map(|listed| listed.items.len());
        assert_eq!(listed.ok(), is_served.then_some(1), "{era:?} {cursor:?} {status}");
    }
}

/// What a server writes instead of a well-formed answer, with ID for the identifier, and what becomes of it.
#[tokio::test(start_paused = true)]
async fn an_answer_that_has_one_reading_is_taken_in_both_forms_and_any_other_fails_at_once() {
    let taken = [
        r#"{"id":ID,"result":{"a":1.0}}"#,
        r#"{"jsonrpc":"2.0","id":ID,"result":{"a":1.0},"error":null}"#,
        r#"{"jsonrpc":"2.0","id":"ID","result":{"a":1.0}}"#,
        r#"{"jsonrpc":"2.0","id":null,"result":{"a":1.0}}"#,
        "\u{feff}{\"jsonrpc\":\"2.0\",\"id\":ID,\"result\":{\"a\":1.0}}",
    ];
    let refused = [
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"a":NaN}}"#, ProtocolFault::NotANumber),
        (r#"{"jsonrpc":"2.0","id":ID,"result":{"a""#, ProtocolFault::Unfinished),
    ];
    for era in ERAS {
        for form in [json as fn(String) -> Response, |text| events(format!("data: {text}\n\n"))] {
            for text in taken {
                let (outcome, _) = called(era, move |request| form(text.replace("ID", &id_of(request)))).await;
                let Ok(Outcome::Result(found)) = outcome else { panic!("{era:?} {text}: {outcome:?}") };
                assert_eq!(found.get(), r#"{"a":1.0}"#, "{text}");
            }
            for (text, expected) in refused.clone() {
                let error = fault(era, move |request| form(text.replace("ID", &id_of(request)))).await;
                assert_eq!(error, expected.into(), "{era:?} {text}");
            }
        }
        // A notification that cannot be read costs no answer.
        let (outcome, _) = called(era, |request| {
            let broken = r#"{"jsonrpc":"2.0","method":"notifications/message","params":{"data":NaN}}"#;
            events(format!("data: {broken}\n\ndata: {}\n\n", response_of(&id_of(request), "{}")))
        })
        .await;
        assert!(outcome.is_ok(), "{era:?} {outcome:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_text_is_no_message() {
    for era in ERAS {
        for (content_type, start, end) in [
            ("application/json", "", ""),
            ("text/event-stream", "data: ", "\n\n"),
            ("text/event-stream", "id: 1\ndata: ", "\n\n"),
        ] {
            let error = fault(era, move |request| {
                let text = response_of(&id_of(request), "{\"text\":\"BAD\"}");
                let (head, tail) = text.split_once("BAD").unwrap();
                let body = [start.as_bytes(), head.as_bytes(), b"\xff\xfe", tail.as_bytes(), end.as_bytes()].concat();
                answer(200, content_type, vec![body.into()])
            });
            assert_eq!(error.await, ProtocolFault::NotUtf8.into(), "{era:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_redirect_to_a_metadata_address_is_never_followed() {
    for era in ERAS {
        for status in [301, 302, 303, 307, 308] {
            for location in
                ["http://169.254.169.254/latest/meta-data/", "//169.254.169.254/", "http://[fd00:ec2::254]/"]
            {
                let script = move |_: &Request| {
                    let mut redirect = answer(status, "text/plain", vec![]);
                    redirect.headers.insert(header::LOCATION, HeaderValue::from_static(location));
                    redirect
                };
                let (session, network) = session(era, script).await;
                let errors = [
                    call(&session).await.unwrap_err(),
                    session.list(ListKind::Tools).await.unwrap_err(),
                    session.listen(&[ListKind::Tools], &[], &Nobody).await.unwrap_err(),
                ];
                let refused = |error: &WireError| matches!(error, WireError::Http(HttpError::Redirect(_)));
                assert!(errors.iter().all(refused), "{errors:?}");
                session.close().await;
                settle().await;
                assert!(network.asked().iter().all(|asked| asked.url == endpoint()), "{era:?} {status} {location}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_of_another_kind_is_called_what_it_is() {
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for era in ERAS {
        for (status, content_type, body, expected) in [
            (202, "application/json", "", ProtocolFault::NoAnswer),
            (204, "text/event-stream", "", ProtocolFault::NoAnswer),
            (200, "text/html", "<html>", ProtocolFault::ContentType(None)),
            (200, "application/x-ndjson", "{}", ProtocolFault::ContentType(None)),
            (200, "application/json", request, ProtocolFault::NotAResponse),
            (200, "application/json", "<html>", EnvelopeError::NotJson.into()),
            (200, "application/json", "[]", EnvelopeError::Batch.into()),
            (200, "text/event-stream", "data: nonsense\n\n", EnvelopeError::NotJson.into()),
            (200, "text/event-stream", "", ProtocolFault::StreamEnded),
            (200, "text/event-stream", ": only this\n\n", ProtocolFault::StreamEnded),
        ] {
            let error = fault(era, move |_| answer(status, content_type, vec![body.into()])).await;
            assert_eq!((error.failure().class, error), (FailureClass::Decode, expected.into()), "{era:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_back_without_end_is_cut_off() {
    for era in ERAS {
        let question = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n";
        let error = fault(era, move |_| events(question.repeat(MAX_SERVER_REQUESTS + 1))).await;
        assert_eq!(error, ProtocolFault::TooManyServerRequests.into(), "{era:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_server_whose_answer_is_given_up_hears_that_it_need_not_go_on() {
    for (piece, told) in [("x".repeat(MEBIBYTE), 1), (String::new(), 0)] {
        let (session, network) = session(Era::Legacy, move |request| match piece.is_empty() {
            true => answer(503, "application/json", vec![]),
            false => endless("application/json", piece.clone().into_bytes()).0(request),
        })
        .await;
        call(&session).await.unwrap_err();
        settle().await;
        let cancelled = |request: &&Request| matches!(Message::parse(&request.body), Ok(Message::Notification { method, .. }) if method == "notifications/cancelled");
        assert_eq!(network.asked().iter().filter(cancelled).count(), told);
    }
}
