//! Servers that fail or answer in unusual ways: nothing that they send is misread or passed on as something else. What is
//! meant to harm stands in `hostile`.

use http::StatusCode;

use super::*;
use crate::mcp::{Era, ProtocolFault, Session, WireError};

const RESULT: &str = r#"{"tools":[]}"#;

/// A session with a server that answers everything by `script`.
async fn session(
    script: impl Fn(&Request) -> Result<Response, HttpError> + Send + Sync + 'static,
) -> (Session, Arc<Scripted>) {
    let network = Scripted::new(script);
    (network.upstream().open(Some(Era::Modern), &Declared::default()).await.unwrap(), network)
}

/// What listing the tools of such a server ends with.
async fn fault(script: impl Fn(&Request) -> Response + Send + Sync + 'static) -> WireError {
    session(move |request| Ok(script(request))).await.0.list(ListKind::Tools).await.unwrap_err()
}

fn response(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{RESULT}}}"#)
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
    assert_eq!(session.list(ListKind::Tools).await.unwrap().items.len(), 0);
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
        let listed = session.list(ListKind::Tools).await;
        if followed {
            assert!(listed.is_ok());
        } else {
            let error = listed.unwrap_err();
            assert!(matches!(error, WireError::Http(HttpError::Redirect(RedirectFault::Origin { .. }))), "{error:?}");
        }
        assert!(network.asked().iter().all(|asked| asked.url.origin() == endpoint().origin()));
    }
}

#[tokio::test(start_paused = true)]
async fn a_json_rpc_error_is_understood_at_any_status_that_says_less() {
    let error = r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32603,"message":"inside","data":{ "n":1.0 }}}"#;
    for status in [200, 500, 502] {
        let (session, _) = session(move |_| Ok(answer(status, "application/json", vec![error.into()]))).await;
        let outcome = session.request("tools/call", object("{\"name\":\"x\"}"), &Nobody).await.unwrap();
        let Outcome::Error(found) = outcome else { panic!() };
        assert_eq!(found.get(), r#"{"code":-32603,"message":"inside","data":{ "n":1.0 }}"#);
        assert!(matches!(session.list(ListKind::Tools).await, Err(WireError::Rpc(found)) if found.message == "inside"));
    }
    for code in [401, 403, 429, 503] {
        let failed = fault(move |_| answer(code, "application/json", vec![error.into()])).await;
        assert_eq!(
            failed,
            WireError::Status { status: StatusCode::from_u16(code).unwrap(), retry_after: None, proxy: None }
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_server_may_name_the_end_of_a_pause_by_its_own_clock() {
    let failed = fault(|_| {
        let mut response = answer(429, "text/plain", vec![]);
        for (name, value) in
            [("date", "Mon, 01 Jan 2001 00:00:00 GMT"), ("retry-after", "Mon, 01 Jan 2001 00:01:30 GMT")]
        {
            response.headers.insert(name, HeaderValue::from_static(value));
        }
        response
    })
    .await;
    assert_eq!(failed.failure().retry_after, Some(Duration::from_secs(90)));
}

#[tokio::test(start_paused = true)]
async fn an_error_page_is_not_read_and_a_large_error_body_is_not_read_on() {
    for (content_type, size) in [("text/html", 1), ("application/json", 1 << 20)] {
        let failed = fault(move |_| answer(500, content_type, vec![Bytes::from(vec![b'['; size])])).await;
        assert_eq!(
            failed,
            WireError::Status { status: StatusCode::INTERNAL_SERVER_ERROR, retry_after: None, proxy: None }
        );
    }
}
