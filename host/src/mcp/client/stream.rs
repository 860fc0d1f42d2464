//! Event streams over Streamable HTTP: reading one until it holds the answer or ends, resuming one that breaks off, and
//! passing on what comes on the way.
//!
//! Nothing here is unbounded: a stream that ends with an answer is bounded in all, one that is listened to in its rate,
//! each event by its size, and what is asked on the way in its number. Only legacy streams are resumed: 2026-07-28 has no
//! resumption. Sources: 2025-11-25, Streamable HTTP, "Resumability and Redelivery"; SEP-1699 (polling).

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::exchange::{self, is_answer_to, judge_encoding, tell};
use super::rate::Rate;
use super::transport::Transport;
use super::upstream_headers::CredentialEvidence;
use crate::edge::http::{Body, HttpError, Response};
use crate::mcp::envelope::{self, Message, Outcome, RequestId};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::interim::{Interim, Notice, Question};
use crate::mcp::limits::{
    DRAIN_DEADLINE, MAX_DRAIN_BYTES, MAX_RESUMPTIONS, MAX_SERVER_REQUESTS, RESUMPTION_WAIT_DEFAULT,
    RESUMPTION_WAIT_MAX, RESUMPTION_WAIT_MIN,
};
use crate::mcp::protocol::{CANCELLED, EVENT_STREAM_TYPE, LAST_EVENT_ID_HEADER, PING, PROGRESS};
use crate::mcp::sse::{SseEvent, SseParser};
use crate::model::raw::{self, RawObject};

/// What an event takes on the wire besides its type and its data, in bytes: `event: `, `data: ` and their line breaks.
const EVENT_FRAMING_BYTES: usize = 16;

/// How the messages of a server are taken while it answers.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    /// Who takes them.
    pub(super) interim: &'a dyn Interim,
    /// The headers that answers to questions, and resumptions, carry; none in the modern era, which has neither.
    pub(super) back: Option<&'a HeaderMap>,
    /// What the stream is for.
    pub(super) purpose: Purpose,
}

/// What a stream is for, and so how it is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It ends with an answer: bounded in all.
    Answer,
    /// It carries messages for as long as both like: bounded in its rate.
    Listening,
}

/// Reads a stream until it holds the answer to `id`, and resumes it if it breaks off and its server said where.
///
/// # Errors
/// [`WireError`]. That a stream can not be resumed is never what is said: it is what it broke with, since nobody must
/// take a connection that was refused then for a request that was never sent.
pub(super) async fn answer(
    transport: &Arc<Transport>,
    body: Body,
    way: Way<'_>,
    id: &RequestId,
) -> Result<Outcome, WireError> {
    let mut stream = Stream::new(transport, way);
    let mut body = body;
    loop {
        let broken = match stream.read(body, Some(id)).await {
            Ok(Some(outcome)) => return Ok(outcome),
            Ok(None) => ProtocolFault::StreamEnded.into(),
            Err(error @ WireError::Http(HttpError::Broken)) => error,
            Err(error) => return Err(error),
        };
        body = stream.resume(broken).await?;
    }
}

/// Passes on what comes on a stream that carries messages only, until its server ends it.
///
/// # Errors
/// [`WireError`], if it breaks or breaks a rule.
pub(super) async fn listen(transport: &Arc<Transport>, body: Body, way: Way<'_>) -> Result<(), WireError> {
    let mut stream = Stream::new(transport, way);
    stream.open();
    stream.read(body, None).await.map(drop)
}

/// An event stream, over all connections that it takes.
struct Stream<'a> {
    transport: &'a Arc<Transport>,
    way: Way<'a>,
    opened: bool,
    bounds: Bounds,
    /// Questions that are being answered; they outlive a connection that breaks off.
    answering: FuturesUnordered<BoxFuture<'a, ()>>,
    /// The ids of such questions; what is settled is cancelled too.
    asked: Vec<(RequestId, CancellationToken)>,
    /// A place for each answer until it is delivered.
    places: Arc<Semaphore>,
    last_event: Option<HeaderValue>,
    retry: Option<Duration>,
    resumptions: Resumptions,
}

/// How often a stream was resumed in a row without getting further.
#[derive(Debug, Default)]
struct Resumptions {
    after: Option<HeaderValue>,
    count: usize,
}

impl<'a> Stream<'a> {
    fn new(transport: &'a Arc<Transport>, way: Way<'a>) -> Self {
        Self {
            transport,
            way,
            opened: false,
            bounds: Bounds::of(way.purpose, transport.inbound().max_stream_bytes()),
            answering: FuturesUnordered::new(),
            asked: Vec::new(),
            places: Arc::new(Semaphore::new(MAX_SERVER_REQUESTS)),
            last_event: None,
            retry: None,
            resumptions: Resumptions::default(),
        }
    }

    /// Says once that what is sent from now on arrives.
    fn open(&mut self) {
        if self.way.purpose == Purpose::Listening && !std::mem::replace(&mut self.opened, true) {
            self.way.interim.opened();
        }
    }

    /// Reads a body until the answer to `id`, or to its end. Questions are answered meanwhile.
    async fn read(&mut self, mut body: Body, id: Option<&RequestId>) -> Result<Option<Outcome>, WireError> {
        let mut parser = SseParser::new(self.transport.inbound().max_message_bytes());
        loop {
            let Some(chunk) = meanwhile(&mut self.answering, body.chunk()).await? else { return Ok(None) };
            self.bounds.read(chunk.len())?;
            let events = parser.push(&chunk).map_err(|error| HttpError::Oversize { cap: error.cap })?;
            self.retry = parser.retry().or(self.retry);
            if let Some(last) = parser.last_id() {
                self.last_event = HeaderValue::from_bytes(last.as_bytes()).ok().filter(|last| !last.is_empty());
            }
            for event in events {
                if let Some(outcome) = self.take(event, id).await? {
                    finish(self.transport, body);
                    return Ok(Some(outcome));
                }
            }
        }
    }

    /// Takes one event; the answer, if it is that.
    async fn take(&mut self, event: SseEvent, id: Option<&RequestId>) -> Result<Option<Outcome>, WireError> {
        self.bounds.event()?;
        self.open();
        // An event without data only names a place to resume at (2025-11-25).
        if event.event != "message" || event.data.is_empty() {
            return Ok(None);
        }
        let irregularities = &self.transport.inbound().irregularities;
        let message = match exchange::read(&event.data, irregularities) {
            Ok(message) => message,
            // It answers nothing: it is left out as it would be on a pipe.
            Err(unreadable) if id.is_none() || unreadable.outline.has_method() => return Ok(None),
            Err(unreadable) => return Err(unreadable.fault.into()),
        };
        match message {
            Message::Response { id: found, outcome }
                if id.is_some_and(|id| is_answer_to(id, found.as_ref(), irregularities)) =>
            {
                return Ok(Some(outcome));
            }
            Message::Request { id, method, params } => {
                self.bounds.question()?;
                if let Some(back) = self.way.back {
                    let place = self.places.clone().try_acquire_owned();
                    let place = place.map_err(|_| ProtocolFault::TooManyServerRequests)?;
                    let taken_back = CancellationToken::new();
                    self.asked.retain(|(_, open)| !open.is_cancelled());
                    self.asked.push((id.clone(), taken_back.clone()));
                    let replying =
                        reply(self.transport, back, self.way.interim, place, id, Question { method, params });
                    self.answering.push(unless_taken_back(taken_back, replying).boxed());
                }
            }
            // Its id is one of the server's own questions: that means nothing to anybody else.
            Message::Notification { method, params } if method == CANCELLED => {
                let id = params.as_deref().and_then(cancelled_id);
                for (_, open) in self.asked.iter().filter(|(asked, _)| Some(asked) == id.as_ref()) {
                    open.cancel();
                }
            }
            Message::Notification { method, params } => {
                if method == PROGRESS && self.way.interim.drops_progress() {
                    self.bounds.drop_progress(event.event.len() + event.data.len() + EVENT_FRAMING_BYTES)?;
                }
                let noticed = self.way.interim.notify(Notice { method, params });
                meanwhile(&mut self.answering, noticed).await;
            }
            Message::Response { .. } => {}
        }
        Ok(None)
    }

    /// Asks for the rest of a stream that broke off.
    ///
    /// # Errors
    /// What it broke with; [`ProtocolFault::AnswerLost`] if the server knows the session no more.
    async fn resume(&mut self, broken: WireError) -> Result<Body, WireError> {
        let (Some(back), Some(last)) = (self.way.back, self.last_event.clone()) else { return Err(broken) };
        if self.resumptions.after.as_ref() != Some(&last) {
            self.resumptions = Resumptions { after: Some(last.clone()), count: 0 };
        }
        let mut headers = back.clone();
        headers.insert(LAST_EVENT_ID_HEADER, last);
        let mut wait = self.retry.unwrap_or(RESUMPTION_WAIT_DEFAULT);
        if matches!(broken, WireError::Protocol(ProtocolFault::StreamEnded)) {
            // In order: whoever asked may let go of its own stream as well.
            self.way.interim.paused(wait.clamp(RESUMPTION_WAIT_MIN, RESUMPTION_WAIT_MAX));
        }
        while self.resumptions.count < MAX_RESUMPTIONS {
            self.resumptions.count += 1;
            let waiting = tokio::time::sleep(wait.clamp(RESUMPTION_WAIT_MIN, RESUMPTION_WAIT_MAX));
            meanwhile(&mut self.answering, waiting).await;
            let transport = self.transport;
            match meanwhile(&mut self.answering, transport.get(&headers, CredentialEvidence::Conclusive)).await {
                Ok(response) => match judge_resumed(response) {
                    Resumed::Goes(body) => return Ok(body),
                    Resumed::Later(retry_after) => wait = retry_after.unwrap_or_default().max(wait),
                    Resumed::SessionLost => return Err(ProtocolFault::AnswerLost.into()),
                    Resumed::Never => return Err(broken),
                },
                Err(HttpError::Redirect(_)) => return Err(broken),
                // The server may be back in a moment.
                Err(_) => {}
            }
        }
        Err(broken)
    }
}

/// How a server answers the wish to resume.
enum Resumed {
    Goes(Body),
    Later(Option<Duration>),
    SessionLost,
    Never,
}

fn judge_resumed(response: Response) -> Resumed {
    match response.status {
        status if status.is_success() => {
            let goes = response.content_type_is(EVENT_STREAM_TYPE) && judge_encoding(&response).is_ok();
            if goes { Resumed::Goes(response.body) } else { Resumed::Never }
        }
        StatusCode::NOT_FOUND => Resumed::SessionLost,
        StatusCode::TOO_MANY_REQUESTS => Resumed::Later(response.retry_after()),
        status if status.is_server_error() => Resumed::Later(response.retry_after()),
        _ => Resumed::Never,
    }
}

/// What came so far, against what may.
#[derive(Debug)]
enum Bounds {
    /// In all; progress that goes no further, in its rate.
    Answer { most: usize, bytes: usize, questions: usize, progress: Rate },
    /// In its rate.
    Listening(Rate),
}

impl Bounds {
    fn of(purpose: Purpose, most: usize) -> Self {
        match purpose {
            Purpose::Answer => Self::Answer { most, bytes: 0, questions: 0, progress: Rate::new(most) },
            Purpose::Listening => Self::Listening(Rate::new(most)),
        }
    }

    fn read(&mut self, length: usize) -> Result<(), WireError> {
        match self {
            Self::Answer { most, bytes, .. } => {
                *bytes += length;
                if *bytes > *most {
                    return Err(HttpError::Oversize { cap: *most }.into());
                }
            }
            Self::Listening(rate) => rate.read(length)?,
        }
        Ok(())
    }

    /// So many of the bytes were progress that goes no further: a client that did not ask for it must not lose its answer to it.
    fn drop_progress(&mut self, length: usize) -> Result<(), ProtocolFault> {
        match self {
            Self::Answer { bytes, progress, .. } => {
                *bytes = bytes.saturating_sub(length);
                progress.read(length)
            }
            Self::Listening(_) => Ok(()),
        }
    }

    fn event(&mut self) -> Result<(), ProtocolFault> {
        match self {
            Self::Answer { .. } => Ok(()),
            Self::Listening(rate) => rate.event(),
        }
    }

    fn question(&mut self) -> Result<(), ProtocolFault> {
        if let Self::Answer { questions, .. } = self {
            *questions += 1;
            if *questions > MAX_SERVER_REQUESTS {
                return Err(ProtocolFault::TooManyServerRequests);
            }
        }
        Ok(())
    }
}

/// Does some work while questions are answered.
async fn meanwhile<T>(answering: &mut FuturesUnordered<BoxFuture<'_, ()>>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            biased;
            Some(()) = answering.next() => {}
            done = &mut work => return done,
        }
    }
}

/// Answers a question unless the server takes it back: then whoever was asked is let go of. Cancels `taken_back` in any case.
async fn unless_taken_back(taken_back: CancellationToken, replying: impl Future<Output = ()>) {
    let _settled = taken_back.clone().drop_guard();
    tokio::select! {
        biased;
        () = taken_back.cancelled() => {}
        () = replying => {}
    }
}

/// Which request a cancellation names (2025-11-25, `basic/utilities/cancellation`).
fn cancelled_id(params: &RawValue) -> Option<RequestId> {
    RequestId::read(RawObject::parse(params).ok()?.get("requestId")?)
}

/// Answers a request of the server: `ping` at once, anything else as whoever asked says. A server that does not take the
/// answer will not go on either, which is its own affair.
async fn reply(
    transport: &Arc<Transport>,
    back: &HeaderMap,
    interim: &dyn Interim,
    place: OwnedSemaphorePermit,
    id: RequestId,
    question: Question,
) {
    let outcome = match question.method.as_str() {
        PING => Outcome::Result(raw::empty_object()),
        _ => interim.ask(question).await,
    };
    let body = envelope::outcome_bytes(&id, &outcome);
    let (telling, back) = (transport.clone(), back.clone());
    // The stream may end with its answer before this is delivered.
    transport.in_background(async move {
        let told = tell(&telling, &back, body).await;
        drop(place);
        told
    });
}

/// Reads the rest of an answered stream, which is nearly always its end, so that the connection can be used again.
pub(super) fn finish(transport: &Transport, mut body: Body) {
    if body.chunk().now_or_never().is_some_and(|end| !matches!(end, Ok(Some(_)))) {
        return;
    }
    transport.in_background(tokio::time::timeout(DRAIN_DEADLINE, async move {
        let mut read = 0;
        while let Ok(Some(chunk)) = body.chunk().await {
            read += chunk.len();
            if read > MAX_DRAIN_BYTES {
                return;
            }
        }
    }));
}
