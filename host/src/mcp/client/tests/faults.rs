//! Servers that break the rules: nothing they send is unbounded, misread or passed on as something else.

use http::StatusCode;

use super::*;
use crate::mcp::limits::{MAX_ANSWER_BYTES, MAX_EVENT_BYTES, MAX_SERVER_REQUESTS, MAX_STREAM_BYTES};
use crate::mcp::{EnvelopeError, Era, ProtocolFault, Session, WireError};
use crate::model::FailureClass;

const RESULT: &str = r#"{"tools":[]}"#;

/// A session with a server that answers everything by `script`.
async fn session(
    script: impl Fn(&Request) -> Result<Response, HttpError> + Send + Sync + 'static,
) -> (Session, Arc<Scripted>) {
    let network = Scripted::new(script);
    (network.upstream().open(Some(Era::Modern)).await.unwrap(), network)
}

/// What listing the tools of such a server ends with.
async fn fault(script: impl Fn(&Request) -> Response + Send + Sync + 'static) -> WireError {
    session(move |request| Ok(script(request))).await.0.list_tools().await.unwrap_err()
}

fn response(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{RESULT}}}"#)
}

fn oversize(cap: usize) -> WireError {
    WireError::Http(HttpError::Oversize { cap })
}

#[tokio::test(start_paused = true)]
async fn an_answer_larger_than_the_cap_is_not_read_on() {
    let piece = Bytes::from(vec![b' '; 1 << 20]);
    let error =
        fault(move |_| answer(200, "application/json", vec![piece.clone(); MAX_ANSWER_BYTES / (1 << 20) + 1])).await;
    assert_eq!((error.failure().class, error), (FailureClass::Oversize, oversize(MAX_ANSWER_BYTES)));
}

#[tokio::test(start_paused = true)]
async fn an_endless_event_stream_ends_at_its_cap() {
    let mut comments = vec![b'\n'; 1 << 20];
    comments[0] = b':';
    let comments = Bytes::from(comments);
    let script = move |_: &Request| {
        let mut response = answer(200, "text/event-stream", vec![]);
        response.body = Body::new(stream::repeat_with({
            let comments = comments.clone();
            move || Ok(comments.clone())
        }));
        response
    };
    assert_eq!(fault(script).await, oversize(MAX_STREAM_BYTES));
}

#[tokio::test(start_paused = true)]
async fn an_endless_event_ends_at_its_cap() {
    let script = |_: &Request| {
        let piece = Bytes::from(vec![b'x'; 1 << 20]);
        let mut response = answer(200, "text/event-stream", vec![]);
        response.body = Body::new(stream::repeat_with(move || Ok(piece.clone())));
        response
    };
    assert_eq!(fault(script).await, oversize(MAX_EVENT_BYTES));
}

#[tokio::test(start_paused = true)]
async fn an_answer_for_another_request_is_refused() {
    for id in ["7", "\"1\"", "1.0"] {
        assert_eq!(fault(move |_| json(response(id))).await, ProtocolFault::WrongId.into(), "{id}");
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_stream_everything_but_our_answer_is_passed_over() {
    let (session, network) = session(|request| {
        let id = id_of(request);
        let noise = concat!(
            "event: ping\ndata: not json\n\nid: 1\ndata:\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/message\"}\n\n",
            "data: {\"jsonrpc\":\"2.0\",\"id\":9,\"method\":\"ping\"}\n\n",
        );
        let (other, ours) = (response("99"), response(&id));
        Ok(events(format!("{noise}data: {other}\n\ndata: {ours}\n\ndata: garbage after it\n\n")))
    })
    .await;
    assert_eq!(session.list_tools().await.unwrap().tools.len(), 0);
    settle().await;
    // A modern client answers no requests of a server.
    assert_eq!(network.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_ends_or_breaks_before_the_answer_is_no_answer() {
    assert_eq!(fault(|_| events(format!("data: {}\n", response("1")))).await, ProtocolFault::StreamEnded.into());
    let script = |_: &Request| {
        let mut response = events(String::new());
        response.body = Body::new(stream::iter([Ok(Bytes::from_static(b": hello\n\n")), Err(HttpError::Broken)]));
        response
    };
    assert_eq!(fault(script).await, WireError::Http(HttpError::Broken));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_asks_without_end_is_cut_off() {
    let question = "data: {\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n\n";
    let error = fault(move |_| events(question.repeat(MAX_SERVER_REQUESTS + 1))).await;
    assert_eq!(error, ProtocolFault::TooManyServerRequests.into());
}

#[tokio::test(start_paused = true)]
async fn what_is_no_answer_is_called_what_it_is() {
    let request = r#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#;
    for (status, content_type, body, expected) in [
        (202, "application/json", String::new(), ProtocolFault::NoAnswer),
        (204, "application/json", String::new(), ProtocolFault::NoAnswer),
        (200, "text/html", response("1"), ProtocolFault::ContentType),
        (200, "application/json", "<html>".into(), EnvelopeError::NotJson.into()),
        (200, "application/json", format!("[{}]", response("1")), EnvelopeError::Batch.into()),
        (200, "application/json", request.into(), ProtocolFault::NotAResponse),
        (200, "text/event-stream", "data: nonsense\n\n".into(), EnvelopeError::NotJson.into()),
    ] {
        let error = fault(move |_| answer(status, content_type, vec![body.clone().into()])).await;
        assert_eq!((error.failure().class, error), (FailureClass::Decode, expected.into()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cursor_that_comes_back_ends_the_list() {
    let (session, network) = session(|request| {
        let result = r#"{"tools":[{"name":"a"}],"nextCursor":"again"}"#;
        Ok(json(format!(r#"{{"jsonrpc":"2.0","id":{},"result":{result}}}"#, id_of(request))))
    })
    .await;
    assert_eq!(session.list_tools().await.unwrap_err(), ProtocolFault::RepeatedCursor.into());
    assert_eq!(network.asked().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_within_the_origin_and_never_out_of_it() {
    for (location, followed) in
        [("/moved", true), ("https://elsewhere.example/mcp", false), ("http://server.example/mcp", false)]
    {
        let (session, network) = session(move |request| {
            if request.url.path() == "/moved" {
                return Ok(json(response(&id_of(request))));
            }
            let mut redirect = answer(307, "text/plain", vec![]);
            redirect.headers.insert(header::LOCATION, HeaderValue::from_static(location));
            Ok(redirect)
        })
        .await;
        let listed = session.list_tools().await;
        if followed {
            assert!(listed.is_ok());
        } else {
            assert_eq!(listed.unwrap_err(), WireError::Http(HttpError::Redirect));
        }
        assert!(network.asked().iter().all(|asked| asked.url.origin() == endpoint().origin()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_json_rpc_error_is_understood_at_any_status_that_says_less() {
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"inside","data":{ "n":1.0 }}}"#;
    for status in [200, 500, 502] {
        let (session, _) = session(move |_| Ok(answer(status, "application/json", vec![error.into()]))).await;
        let outcome = session.request("tools/call", object("{\"name\":\"x\"}")).await.unwrap();
        let Outcome::Error(found) = outcome else { panic!() };
        assert_eq!(found.get(), r#"{"code":-32603,"message":"inside","data":{ "n":1.0 }}"#);
        assert!(matches!(session.list_tools().await, Err(WireError::Rpc(found)) if found.message == "inside"));
    }
    for code in [401, 403, 429, 503] {
        let failed = fault(move |_| answer(code, "application/json", vec![error.into()])).await;
        assert_eq!(failed, WireError::Status { status: StatusCode::from_u16(code).unwrap(), retry_after: None });
    }
}

#[tokio::test(start_paused = true)]
async fn an_error_page_is_not_read_and_a_large_error_body_is_not_read_on() {
    for (content_type, size) in [("text/html", 1), ("application/json", 1 << 20)] {
        let failed = fault(move |_| answer(500, content_type, vec![Bytes::from(vec![b'['; size])])).await;
        assert_eq!(failed, WireError::Status { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after: None });
    }
}
