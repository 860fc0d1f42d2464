//! `/mcp`: Streamable HTTP, both eras on one endpoint, legacy clients with sessions or without.
//!
//! A request is answered as JSON, or as an event stream as soon as there is a message before the answer, or when there has
//! been no answer for [`limits::SILENCE_MAX`]. A closed connection cancels a modern request; a legacy one that was sent
//! goes on, and is cancelled by a notification.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Extension, State};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCEPT, ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::RawValue;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::connections::Ending;
use super::detached_request::DetachedRequest;
use super::embed::Gateway;
use super::json::json;
use super::northbound::event_stream::EventStream;
use super::northbound::outlet::{self, Inbox, Outlet};
use super::northbound::{Answer, Asked, Resumable, Session, VERSIONS, answer, cancelled_id, is_passed_on, resume};
use super::request_body::BodyLease;
use super::visitor::Visitor;
use super::{batch, limits, rate};
use crate::mcp::envelope::{self, Message};
use crate::mcp::protocol::{
    CANCELLED, EVENT_STREAM_TYPE, Era, INITIALIZE, INVALID_REQUEST, JSON_TYPE, LAST_EVENT_ID_HEADER,
    PROTOCOL_VERSION_HEADER, ROOTS_CHANGED, SESSION_HEADER, SESSION_NOT_FOUND, TOOLS_CALL, VERSION_2025_03_26,
    VERSION_2026_07_28,
};
use crate::mcp::request_members::{ParamsMember, RequestParams};
use crate::mcp::server::{Refusal, era_of, judge_legacy, judge_modern, judge_parameters, params_of};
use crate::mcp::{EnvelopeError, RequestId, TraceContext};
use crate::model::ListKind;

/// What a client can read (RFC 9110, section 12.5.1). Weights matter only where they are 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Accepts {
    json: bool,
    stream: bool,
}

/// Answers one POSTed message, or a batch of them.
pub(super) async fn post(
    State(gateway): State<Gateway>,
    Extension(visitor): Extension<Visitor>,
    ending: Option<Extension<Ending>>,
    lease: Option<Extension<BodyLease>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let is_json = headers
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(JSON_TYPE)));
    if !is_json {
        return (StatusCode::UNSUPPORTED_MEDIA_TYPE, "send application/json").into_response();
    }
    let accepts = accepts(&headers);
    if !accepts.json && !accepts.stream {
        return not_acceptable("accept application/json, text/event-stream");
    }
    let lease = lease.map(|Extension(lease)| lease);
    let client = Client { visitor, accepts, ending: ending_of(&gateway, ending), lease };
    match Message::parse_strict(&body) {
        Err(EnvelopeError::Batch) => batch(&gateway, client, headers, body).await,
        message => {
            // The message has a copy of what it needs: the body of a call is not held while its server works.
            drop(body);
            one(&gateway, client, &headers, message).await
        }
    }
}

/// Answers the messages of a batch, if the client speaks the revision that has them. Without a session and a header it is
/// taken to speak that (2025-06-18, `basic/transports`, Protocol Version Header).
async fn batch(gateway: &Gateway, client: Client, headers: HeaderMap, body: Bytes) -> Response {
    let takes_batches = match session(gateway, &client.visitor, &headers) {
        Ok(Some(session)) => session.takes_batches,
        Ok(None) => headers.get(PROTOCOL_VERSION_HEADER).is_none_or(|version| version == VERSION_2025_03_26),
        Err(refused) => return *refused,
    };
    let invalid = |message: &str| refused(None, StatusCode::BAD_REQUEST, INVALID_REQUEST, message, None);
    if !takes_batches {
        return invalid(&EnvelopeError::Batch.to_string());
    }
    let Some(messages) = batch::messages(&body) else {
        return invalid(&format!("a batch has 1 to {} messages", limits::BATCH_MESSAGES_MAX));
    };
    drop(body);
    let streams = client.accepts.stream;
    let client = Client { accepts: Accepts { json: true, stream: false }, ..client };
    let asked = gateway.for_task();
    let answering = async move {
        let answering = messages.iter().map(|message| async {
            match Message::parse_strict(message.get().as_bytes()) {
                // A session begins with one answer (2025-03-26, `basic/lifecycle`).
                Ok(Message::Request { id, method, .. }) if method == INITIALIZE => {
                    refused(Some(&id), StatusCode::BAD_REQUEST, INVALID_REQUEST, "initialize must come alone", None)
                }
                message => one(&asked, client.clone(), &headers, message).await,
            }
        });
        batch::answers(answering).await
    };
    respond_to_batch(gateway, streams, answering.boxed()).await
}

/// Waits for the answers of a batch, which are one array. A batch that is silent for too long is answered with an event stream
/// of that array (2025-03-26, Streamable HTTP, "Sending Messages": responses on a stream may be batched).
async fn respond_to_batch(
    gateway: &Gateway,
    streams: bool,
    mut answering: BoxFuture<'static, Option<Bytes>>,
) -> Response {
    tokio::select! {
        biased;
        answers = &mut answering => {
            return answers.map_or_else(|| StatusCode::ACCEPTED.into_response(), |body| json(StatusCode::OK, body));
        }
        () = tokio::time::sleep(limits::SILENCE_MAX), if streams => {}
    }
    let (outlet, inbox) = outlet::bounded(&gateway.inner.parts.metrics, &gateway.inner.northbound.outbox);
    let task = gateway.inner.northbound.tasks.spawn(async move {
        if let Some(answers) = answering.await {
            drop(outlet.send(answers).await);
        }
    });
    EventStream::new(None, inbox, AbortOnDropHandle::new(task)).with_comment().into_response()
}

/// Answers one message.
async fn one(
    gateway: &Gateway,
    client: Client,
    headers: &HeaderMap,
    message: Result<Message, EnvelopeError>,
) -> Response {
    match message {
        Ok(Message::Request { id, method, params }) => {
            if let Some(refused) = rate::too_often(gateway, &client.visitor, client.lease.as_ref(), &id) {
                return refused;
            }
            match params_of(params.as_deref()) {
                Ok(params) => request(gateway, client, headers, (id, method, params)).await,
                Err(ambiguous) => refused_params(gateway, Some(&id), ambiguous),
            }
        }
        Ok(Message::Notification { method, params }) => match session(gateway, &client.visitor, headers) {
            Ok(session) => {
                let checked = match params_of(params.as_deref()) {
                    Ok(checked) => checked,
                    Err(ambiguous) => return refused_params(gateway, None, ambiguous),
                };
                if let Some(session) = session {
                    told(gateway, &session, &method, checked, params);
                }
                StatusCode::ACCEPTED.into_response()
            }
            Err(refused) => *refused,
        },
        Ok(Message::Response { id, outcome }) => match session(gateway, &client.visitor, headers) {
            Ok(session) => {
                if let (Some(session), Some(id)) = (session, id) {
                    session.answered(&id, outcome);
                }
                StatusCode::ACCEPTED.into_response()
            }
            Err(refused) => *refused,
        },
        Err(error) => {
            gateway.inner.parts.metrics.envelope_refused(&error);
            refused(error.id(), StatusCode::BAD_REQUEST, error.code(), &error.to_string(), None)
        }
    }
}

/// Answers parameters that two servers could read differently.
fn refused_params(gateway: &Gateway, id: Option<&RequestId>, refusal: Refusal) -> Response {
    gateway.inner.parts.metrics.ambiguous_members(&refusal.message);
    refused(id, refusal.status, refusal.code, &refusal.message, None)
}

/// Takes a notification of a session's client.
fn told(
    gateway: &Gateway,
    session: &Arc<Session>,
    method: &str,
    checked: Option<RequestParams>,
    params: Option<Box<RawValue>>,
) {
    match method {
        CANCELLED => {
            if let Some(id) = checked.and_then(|params| cancelled_id(&params)) {
                session.in_flight.cancel(&id);
            }
        }
        ROOTS_CHANGED => session.roots_changed(gateway, params),
        _ => {}
    }
}

/// Opens a stream of news for a legacy session. Nobody else has one: modern clients listen by a request.
pub(super) async fn get(
    State(gateway): State<Gateway>,
    Extension(visitor): Extension<Visitor>,
    ending: Option<Extension<Ending>>,
    headers: HeaderMap,
) -> Response {
    let session = match session(&gateway, &visitor, &headers) {
        Ok(Some(session)) => session,
        Ok(None) => return not_allowed(&headers),
        Err(refused) => return *refused,
    };
    if !accepts(&headers).stream {
        return not_acceptable("accept text/event-stream");
    }
    if let Some(last) = headers.get(LAST_EVENT_ID_HEADER) {
        let now = gateway.inner.parts.edge.clock.boot();
        let rest = last.to_str().ok().and_then(|last| resume(&session, last, now));
        let unknown = || (StatusCode::BAD_REQUEST, "there is nothing to resume after this event").into_response();
        return rest.map_or_else(unknown, EventStream::into_response);
    }
    let (outlet, inbox) = outlet::bounded(&gateway.inner.parts.metrics, &gateway.inner.northbound.outbox);
    let Some(open) = session.open_stream(&gateway, outlet.clone()) else {
        return (StatusCode::CONFLICT, "this session has too many streams: close one").into_response();
    };
    // It ends with its session, its listener or the gateway.
    let ending = ending_of(&gateway, ending);
    let ends = gateway.inner.northbound.tasks.spawn(async move {
        tokio::select! {
            () = session.ended() => {}
            () = ending.cancelled() => {}
        }
        drop((open, outlet));
    });
    EventStream::new(None, inbox, AbortOnDropHandle::new(ends)).into_response()
}

/// Ends a legacy session. There is none to end without an id, and ending none is fine.
pub(super) async fn delete(
    State(gateway): State<Gateway>,
    Extension(visitor): Extension<Visitor>,
    headers: HeaderMap,
) -> Response {
    if is_modern(&headers) {
        return not_allowed(&headers);
    }
    match session(&gateway, &visitor, &headers) {
        Ok(Some(session)) => {
            gateway.inner.northbound.sessions.remove(&session);
            session.close().await;
            StatusCode::OK.into_response()
        }
        Ok(None) => StatusCode::OK.into_response(),
        Err(refused) => *refused,
    }
}

/// Who makes a request.
#[derive(Clone)]
struct Client {
    visitor: Visitor,
    accepts: Accepts,
    ending: CancellationToken,
    lease: Option<BodyLease>,
}

async fn request(
    gateway: &Gateway,
    Client { visitor, accepts, ending, lease }: Client,
    headers: &HeaderMap,
    (id, method, params): (RequestId, String, Option<RequestParams>),
) -> Response {
    // What is saved has a part in what follows: the headers of a call are compared with its tool's definition.
    gateway.restored().await;
    let era = era_of(headers, &method, params.as_ref());
    let params = params.unwrap_or_default();
    let judged = match era {
        Era::Modern => judge_modern(headers, &method, &params, &VERSIONS)
            .and_then(|()| parameters(gateway, &visitor, headers, &method, &params)),
        Era::Legacy if method == INITIALIZE => Ok(()),
        Era::Legacy => judge_legacy(headers),
    };
    if let Err(Refusal { status, code, message, data }) = judged {
        return refused(Some(&id), status, code, &message, data.as_deref());
    }
    let session = match era {
        Era::Legacy if method != INITIALIZE => match session(gateway, &visitor, headers) {
            Ok(session) => session,
            Err(refused) => return *refused,
        },
        // A handshake opens another one.
        _ => None,
    };
    let (outlet, inbox) = outlet::bounded(&gateway.inner.parts.metrics, &gateway.inner.northbound.outbox);
    let in_flight = session.as_ref().map(|session| session.in_flight.clone());
    let is_call = is_passed_on(&method);
    let goes_on = era == Era::Legacy && is_call;
    let disconnected = CancellationToken::new();
    let resumes = session.clone().filter(|session| goes_on && session.resumes);
    let outlet = if resumes.is_some() { outlet.resumable() } else { outlet };
    let asked = Asked {
        links: None,
        id: id.clone(),
        era,
        visitor,
        method,
        params,
        session,
        outlet: accepts.stream.then(|| outlet.clone()),
        in_flight,
        disconnected: disconnected.clone(),
        ending,
        trace: TraceContext::from_headers(headers),
        _lease: lease,
    };
    let answering = answer(gateway.for_task(), asked).boxed();
    let answering = match goes_on {
        true => DetachedRequest::new(&gateway.inner.calls, answering, disconnected).boxed(),
        false => answering,
    };
    respond(gateway, Exchange { id, era, accepts, is_call, resumes }, answering, (outlet, inbox)).await
}

/// What an answer depends on besides itself.
struct Exchange {
    id: RequestId,
    era: Era,
    accepts: Accepts,
    /// Whether an upstream server answers it, which may take long.
    is_call: bool,
    /// The session whose client may come back for the rest of the answer.
    resumes: Option<Arc<Session>>,
}

/// Waits for the answer or for a message before it, and answers in the form that fits. Proxies cut connections that carry no
/// byte for some time: a client that takes a stream is given one before that.
async fn respond(
    gateway: &Gateway,
    mut exchange: Exchange,
    mut answering: BoxFuture<'static, Answer>,
    (outlet, mut inbox): (Outlet, Inbox),
) -> Response {
    let mut opened = None;
    let mut is_silent = false;
    let first = tokio::select! {
        biased;
        first = inbox.next() => first,
        mut answer = &mut answering => {
            let first = inbox.take();
            let Accepts { json, stream } = exchange.accepts;
            if first.is_none() && (!stream || (json && answer.outcome.is_some())) {
                return whole(gateway, &exchange, answer);
            }
            opened = answer.opened.take();
            if answer.outcome.is_none() {
                // Nobody comes back for what was taken back.
                exchange.resumes = None;
            }
            answering = futures_util::future::ready(answer).boxed();
            first
        }
        () = tokio::time::sleep(limits::SILENCE_MAX), if exchange.is_call && exchange.accepts.stream => {
            is_silent = true;
            None
        }
    };
    let Exchange { id, resumes, .. } = exchange;
    // Whoever streams an answer waits for its client in a task of its own: a deadline must not depend on whether the
    // client reads. It ends with the answer, by the deadline of that, or when the response is dropped for good.
    let task = gateway.inner.northbound.tasks.spawn(async move {
        if let Some(outcome) = answering.await.outcome {
            // A client that is gone needs no answer.
            drop(outlet.send(envelope::outcome_bytes(&id, &outcome)).await);
        }
    });
    let mut response = match resumes {
        Some(session) => EventStream::resumable(first, inbox, Resumable::new(gateway, &session)).into_response(),
        None => {
            let stream = EventStream::new(first, inbox, AbortOnDropHandle::new(task));
            if is_silent { stream.with_comment() } else { stream }.into_response()
        }
    };
    name_session(gateway, opened, &mut response);
    response
}

/// Takes the session in that an answer opens, and tells its id.
fn name_session(gateway: &Gateway, opened: Option<Arc<Session>>, response: &mut Response) {
    if let Some(session) = opened
        && gateway.admit(&session)
        && let Ok(id) = HeaderValue::try_from(&session.id)
    {
        response.headers_mut().insert(SESSION_HEADER, id);
    }
}

/// An answer before which nothing was said.
fn whole(gateway: &Gateway, exchange: &Exchange, answer: Answer) -> Response {
    let Some(outcome) = &answer.outcome else {
        // The client does not wait for it any more (2025-11-25, `basic/utilities/cancellation`).
        return StatusCode::NO_CONTENT.into_response();
    };
    let mut response = json(answer.status(exchange.era), envelope::outcome_bytes(&exchange.id, outcome));
    if let Some(wait) = answer.retry_after {
        let seconds = wait.as_millis().div_ceil(1_000).max(1);
        if let Ok(seconds) = HeaderValue::try_from(seconds.to_string()) {
            response.headers_mut().insert(RETRY_AFTER, seconds);
        }
    }
    name_session(gateway, answer.opened, &mut response);
    response
}

/// The session that a legacy message is of, if it is of one.
fn session(gateway: &Gateway, visitor: &Visitor, headers: &HeaderMap) -> Result<Option<Arc<Session>>, Box<Response>> {
    let Some(id) = headers.get(SESSION_HEADER).filter(|_| !is_modern(headers)) else { return Ok(None) };
    let now = gateway.inner.parts.edge.clock.boot();
    let found = id.to_str().ok().and_then(|id| gateway.inner.northbound.sessions.find(id, visitor, now));
    let unknown = || {
        let message = "there is no such session, or it has ended: send initialize again";
        Box::new(refused(None, StatusCode::NOT_FOUND, SESSION_NOT_FOUND, message, None))
    };
    found.map(Some).ok_or_else(unknown)
}

/// Whether the `Mcp-Param-*` headers of a call say what its arguments say.
fn parameters(
    gateway: &Gateway,
    visitor: &Visitor,
    headers: &HeaderMap,
    method: &str,
    params: &RequestParams,
) -> Result<(), Refusal> {
    let Some(name) = params.get_str(ParamsMember::Name).filter(|_| method == TOOLS_CALL) else { return Ok(()) };
    let snapshot = gateway.snapshot();
    let served = snapshot.served(&visitor.view);
    let Some(route) = served.tool(&name) else { return Ok(()) };
    let offer = snapshot.part(&route.connector).and_then(|part| part.offer.as_ref());
    let tools = offer.into_iter().flat_map(|offer| offer.list(ListKind::Tools).items());
    match tools.into_iter().find(|tool| tool.key == route.original) {
        Some(tool) => judge_parameters(headers, &tool.definition, params),
        None => Ok(()),
    }
}

fn accepts(headers: &HeaderMap) -> Accepts {
    // Whoever says nothing is not surprised with a stream.
    if !headers.contains_key(ACCEPT) {
        return Accepts { json: true, stream: false };
    }
    let listed = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let ranges: Vec<String> = listed
        .flat_map(|value| value.split(','))
        .filter(|range| !range.split(';').skip(1).any(|weight| matches!(weight.trim(), "q=0" | "q=0.0")))
        .map(|range| range.split(';').next().unwrap_or_default().trim().to_ascii_lowercase())
        .collect();
    let has = |kind: &str, any: &str| ranges.iter().any(|range| range == kind || range == any || range == "*/*");
    Accepts { json: has(JSON_TYPE, "application/*"), stream: has(EVENT_STREAM_TYPE, "text/*") }
}

fn is_modern(headers: &HeaderMap) -> bool {
    headers.get(PROTOCOL_VERSION_HEADER).is_some_and(|version| version == VERSION_2026_07_28)
}

/// When streams without an end of their own end: with the listener that they came in by, or with the gateway.
fn ending_of(gateway: &Gateway, ending: Option<Extension<Ending>>) -> CancellationToken {
    ending.map_or_else(|| gateway.inner.northbound.closing.clone(), |Extension(Ending(ending))| ending)
}

/// There is no such thing here, for such a client.
fn not_allowed(headers: &HeaderMap) -> Response {
    let allowed = if is_modern(headers) { "POST" } else { "POST, DELETE" };
    (StatusCode::METHOD_NOT_ALLOWED, [(ALLOW, HeaderValue::from_static(allowed))]).into_response()
}

fn not_acceptable(message: &'static str) -> Response {
    (StatusCode::NOT_ACCEPTABLE, message).into_response()
}

fn refused(id: Option<&RequestId>, status: StatusCode, code: i64, message: &str, data: Option<&RawValue>) -> Response {
    json(status, envelope::error_bytes(id, code, message, data))
}

#[cfg(test)]
mod tests;
