//! Whose error an error is: the server's own goes to whoever asked, and only what plainly speaks of the protocol says that
//! the session is of the wrong era. Nothing that may have been carried out is ever made again.

use super::*;
use crate::mcp::WireError;

const CALL: &str = r#"{"name":"t"}"#;

/// How often a method was asked.
fn asked(network: &Scripted, method: &str) -> usize {
    let is_it = |request: &Request| matches!(Message::parse(&request.body), Ok(Message::Request { method: found, .. }) if found == method);
    network.asked().iter().filter(|request| is_it(request)).count()
}

fn error(code: i64, message: &str, data: &str) -> String {
    format!(r#"{{ "code":{code},"message":"{message}","data":{data} }}"#)
}

/// An answer with an error to a request; bare, if there is none.
fn refusal(request: &Request, status: u16, error: Option<&str>) -> Response {
    match error {
        Some(error) => {
            let text = format!(r#"{{"jsonrpc":"2.0","id":{},"error":{error}}}"#, id_of(request));
            answer(status, "application/json", vec![text.into()])
        }
        None => answer(status, "text/plain", vec![]),
    }
}

#[tokio::test(start_paused = true)]
async fn a_legacy_servers_own_error_is_passed_on_as_it_is_and_the_call_is_made_once() {
    let elicitation = r#"{"elicitations":[{"mode":"url","url":"https://x.example/\u0061","n":1.0}]}"#;
    let refused = r#"{"supported":["2026-07-28"]}"#;
    for (code, message, data) in [
        (-32042, "URL elicitation required", elicitation),
        (-32050, "out of widgets", "null"),
        (-32020, "the header of the file is broken", "{}"),
        (-32022, "unsupported", refused),
    ] {
        for status in [200, 400, 404, 500] {
            for method in ["tools/call", "prompts/get", "resources/read", "vendor/acts"] {
                let sent = error(code, message, data);
                let script = sent.clone();
                let (session, network) =
                    session(Era::Legacy, move |request| refusal(request, status, Some(&script))).await;
                let outcome = session.request(method, object(CALL), &Nobody).await.unwrap();
                let Outcome::Error(found) = outcome else { panic!("{method}") };
                assert_eq!((found.get(), asked(&network, method)), (sent.as_str(), 1), "{code} {status} {method}");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_says_that_a_server_is_modern_says_so_and_only_about_what_asks() {
    for (code, message, status, is_wrong_era) in [
        (-32022, "unsupported protocol version", 400, true),
        (-32020, "the Mcp-Method header is missing", 400, true),
        (-32020, "the quota is used up", 400, false),
        (-32022, "unsupported protocol version", 200, false),
        (-32042, "URL elicitation required", 400, false),
        (-32050, "out of widgets", 400, false),
    ] {
        let sent = error(code, message, "{}");
        let (session, _) = session(Era::Legacy, move |request| refusal(request, status, Some(&sent))).await;
        let failed = session.list(ListKind::Tools).await.unwrap_err();
        assert_eq!(matches!(failed, WireError::WrongEra), is_wrong_era, "{code} {message} {status}: {failed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_to_a_remembered_modern_server_is_made_again_only_if_it_was_plainly_not_carried_out() {
    let none = |code| Some(error(code, "no", "{}"));
    let session_missing = Some(error(-32000, "Bad Request: Mcp-Session-Id header is required", "{}"));
    for (status, error, is_wrong_era) in [
        (200, none(-32601), false),
        (400, none(-32601), false),
        (404, none(-32601), true),
        (200, none(-32602), false),
        (400, none(-32602), true),
        (200, none(-32600), false),
        (400, none(-32603), false),
        (400, session_missing.clone(), true),
        (200, session_missing.clone(), false),
        (409, session_missing, false),
        (404, None, true),
        (405, None, true),
        (400, None, false),
        (409, None, false),
        (413, None, false),
        (422, None, false),
    ] {
        let sent = error.clone();
        let (session, network) = session(Era::Modern, move |request| refusal(request, status, sent.as_deref())).await;
        let called = session.request("tools/call", object(CALL), &Nobody).await;
        assert_eq!(called.is_err_and(|failed| failed == WireError::WrongEra), is_wrong_era, "{status} {error:?}");
        assert_eq!(asked(&network, "tools/call"), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_list_of_a_remembered_modern_server_is_asked_for_again_at_any_doubt() {
    for (status, error) in [(200, Some(error(-32601, "no", "{}"))), (409, None), (422, None), (400, None)] {
        let (session, _) = session(Era::Modern, move |request| refusal(request, status, error.as_deref())).await;
        assert_eq!(session.list(ListKind::Tools).await.unwrap_err(), WireError::WrongEra, "{status}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_era_is_remembered_only_if_the_other_one_was_refused_and_not_if_it_had_no_answer() {
    type Discovery = fn(&Request) -> Option<Result<Response, HttpError>>;
    let cases: [(Discovery, Option<Era>); 10] = [
        (|request| Some(Ok(refusal(request, 400, Some(&error(-32601, "no", "{}"))))), Some(Era::Legacy)),
        (|request| Some(Ok(refusal(request, 200, Some(&error(-32000, "no", "{}"))))), Some(Era::Legacy)),
        (|request| Some(Ok(refusal(request, 400, Some(&error(-32050, "no", "{}"))))), Some(Era::Legacy)),
        (|request| Some(Ok(refusal(request, 404, None))), Some(Era::Legacy)),
        (|request| Some(Ok(json(response_of(&id_of(request), "{}")))), Some(Era::Legacy)),
        (|request| Some(Ok(refusal(request, 502, None))), None),
        (|request| Some(Ok(refusal(request, 500, Some(&error(-32603, "oops", "{}"))))), None),
        (|_| Some(Err(HttpError::Broken)), None),
        (|_| Some(Ok(events(": nothing\n\n".to_owned()))), None),
        (|_| None, None),
    ];
    for (number, (discovery, expected)) in cases.into_iter().enumerate() {
        let network = Arc::new(Discovered(discovery));
        let upstream = Upstream::new(network, endpoint(), HeaderMap::new());
        let session = upstream.open(None, &Declared::default()).await.unwrap();
        assert_eq!((session.era(), session.era_to_remember()), (Era::Legacy, expected), "{number}");
    }

    /// A server that shakes hands, and answers the modern question like that; none: never.
    struct Discovered(Discovery);

    impl Http for Discovered {
        fn send(&self, request: Request) -> BoxFuture<'_, Result<Response, HttpError>> {
            let answered = match Message::parse(&request.body) {
                Ok(Message::Request { method, .. }) if method == "server/discover" => (self.0)(&request),
                Ok(Message::Request { id, .. }) => {
                    Some(Ok(json(response_of(id.as_json(), r#"{"protocolVersion":"2025-11-25"}"#))))
                }
                _ => Some(Ok(answer(202, "text/plain", vec![]))),
            };
            Box::pin(async move {
                match answered {
                    Some(answered) => answered,
                    None => std::future::pending().await,
                }
            })
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_stays_open_never_shares_a_connection_with_what_is_answered() {
    use crate::edge::http::Lane;
    for era in [Era::Modern, Era::Legacy] {
        let (session, network) = session(era, |request| match request.method {
            Method::GET => events(String::new()),
            _ => json(response_of(&id_of(request), r#"{"tools":[]}"#)),
        })
        .await;
        session.list(ListKind::Tools).await.unwrap();
        session.request("tools/call", object(CALL), &Nobody).await.unwrap();
        drop(session.listen(&[ListKind::Tools], &[], &Nobody).await);
        session.close().await;
        let is_stream = |request: &Request| {
            request.method == Method::GET
                || String::from_utf8_lossy(&request.body).contains(r#""method":"subscriptions/listen""#)
        };
        let asked = network.asked();
        for request in &asked {
            let expected = if is_stream(request) { Lane::Stream } else { Lane::Call };
            assert_eq!(request.lane, expected, "{era:?} {}", String::from_utf8_lossy(&request.body));
        }
        assert_eq!(asked.iter().filter(|request| is_stream(request)).count(), 1, "{era:?}");
    }
}
