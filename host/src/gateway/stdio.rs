//! The gateway on a pair of pipes, for a client that started it: messages as lines of JSON, both eras, each request in the
//! era that it is written in (2026-07-28 and 2025-11-25, `basic/transports`, stdio).
//!
//! There is one client, and it may do what whoever started the process may. Only messages are written to the output.

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::door::MayChange;
use super::embed::Gateway;
use super::limits;
use super::northbound::outlet::{self, Inbox, Outlet};
use super::northbound::{Asked, InFlight, Links, OpenStream, Session, VERSIONS, answer, cancelled_id};
use super::visitor::Visitor;
use crate::catalog::View;
use crate::mcp::envelope::{self, Message};
use crate::mcp::protocol::{
    CANCELLED, Era, INITIALIZE, INITIALIZED, INTERNAL_ERROR, ROOTS_CHANGED, SERVER_DISCOVER, SUBSCRIPTIONS_LISTEN,
};
use crate::mcp::request_members::RequestParams;
use crate::mcp::server::{Refusal, judge_modern_body, names_version, params_of};
use crate::mcp::{EnvelopeError, RequestId, TraceContext};

impl Gateway {
    /// Serves one client on a pair of pipes, until its input ends, its output breaks, or `stop`. Requests in flight then
    /// have [`limits::STDIO_DRAIN_TIMEOUT`] to end, and the client as long to read its last messages. Shutting the gateway
    /// down is left to the caller.
    pub async fn serve_stdio(
        &self,
        input: impl AsyncRead + Unpin,
        output: impl AsyncWrite + Unpin,
        stop: CancellationToken,
    ) {
        let (outlet, inbox) = outlet::bounded(&self.inner.parts.metrics, &self.inner.northbound.outbox);
        let conversation = Conversation {
            gateway: self.clone(),
            visitor: Visitor {
                token: None,
                calls_per_minute: None,
                right: MayChange::owner(),
                view: View::everything(),
                grant: CancellationToken::new(),
            },
            outlet,
            session: None,
            news: None,
            links: self.inner.northbound.session_links(),
            in_flight: Arc::default(),
            requests: TaskTracker::new(),
            places: Arc::new(Semaphore::new(limits::STDIO_REQUESTS_MAX)),
            ending: self.inner.northbound.closing.child_token(),
        };
        let mut writing = std::pin::pin!(write(inbox, output));
        let mut holding = std::pin::pin!(conversation.hold(BufReader::new(input), stop));
        tokio::select! {
            () = &mut writing => holding.await,
            () = &mut holding => {
                // A client that reads nothing is not waited for.
                if tokio::time::timeout(limits::STDIO_DRAIN_TIMEOUT, writing).await.is_err() {
                    tracing::warn!("the client does not read its last messages");
                }
            }
        }
    }
}

/// What is said to and by the client.
struct Conversation {
    gateway: Gateway,
    visitor: Visitor,
    outlet: Outlet,
    /// What a legacy client's handshake opened.
    session: Option<Arc<Session>>,
    /// The stream of news of that session.
    news: Option<OpenStream>,
    /// The resources that results named to the client.
    links: Arc<Links>,
    in_flight: Arc<InFlight>,
    requests: TaskTracker,
    places: Arc<Semaphore>,
    ending: CancellationToken,
}

impl Conversation {
    async fn hold(mut self, mut input: impl AsyncBufRead + Unpin, stop: CancellationToken) {
        let mut line = Line::default();
        loop {
            let read = tokio::select! {
                () = stop.cancelled() => break,
                () = self.outlet.gone() => break,
                read = line.read(&mut input) => read,
            };
            match read {
                Some(Ok(message)) => tokio::select! {
                    // Also a client that reads nothing is heard no more then.
                    () = stop.cancelled() => break,
                    () = self.hear(&message) => {}
                },
                Some(Err(TooLong)) => {
                    let error = EnvelopeError::NotJson;
                    self.say(envelope::error_bytes(None, error.code(), "the line is too long", None)).await;
                }
                None => break,
            }
        }
        // Subscriptions end with a result; everything else has some time left.
        self.ending.cancel();
        self.requests.close();
        if tokio::time::timeout(limits::STDIO_DRAIN_TIMEOUT, self.requests.wait()).await.is_err() {
            tracing::warn!(requests = self.requests.len(), "requests that did not end in time are cut off");
            self.in_flight.cancel_all();
            if tokio::time::timeout(limits::STDIO_CUT_TIMEOUT, self.requests.wait()).await.is_err() {
                // They wait for room for their answers: the client does not read.
                self.outlet.cut();
                self.requests.wait().await;
            }
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    async fn hear(&mut self, message: &[u8]) {
        if message.trim_ascii().is_empty() {
            return;
        }
        match Message::parse_strict(message) {
            Ok(Message::Request { id, method, params }) => match params_of(params.as_deref()) {
                Ok(params) => self.request(id, method, params).await,
                Err(Refusal { code, message, .. }) => {
                    self.gateway.inner.parts.metrics.ambiguous_members(&message);
                    self.refuse(&id, code, &message).await;
                }
            },
            Ok(Message::Notification { method, params }) => self.notification(&method, params),
            Ok(Message::Response { id, outcome }) => {
                if let (Some(session), Some(id)) = (&self.session, id) {
                    session.answered(&id, outcome);
                }
            }
            Err(error) => {
                self.gateway.inner.parts.metrics.envelope_refused(&error);
                self.say(envelope::error_bytes(error.id(), error.code(), &error.to_string(), None)).await;
            }
        }
    }

    /// Takes a notification. One whose parameters are ambiguous is counted and ignored: notifications are not answered.
    fn notification(&mut self, method: &str, params: Option<Box<RawValue>>) {
        let checked = match params_of(params.as_deref()) {
            Ok(checked) => checked,
            Err(refusal) => return self.gateway.inner.parts.metrics.ambiguous_members(&refusal.message),
        };
        match method {
            CANCELLED => {
                if let Some(id) = checked.and_then(|params| cancelled_id(&params)) {
                    self.in_flight.cancel(&id);
                }
            }
            // Nothing that it did not ask for is said to a client before it says that it is ready.
            INITIALIZED if self.news.is_none() => {
                let session = self.session.as_ref();
                self.news = session.and_then(|session| session.open_stream(&self.gateway, self.outlet.clone()));
            }
            ROOTS_CHANGED => {
                if let Some(session) = &self.session {
                    session.roots_changed(&self.gateway, params);
                }
            }
            _ => {}
        }
    }

    async fn request(&mut self, id: RequestId, method: String, params: Option<RequestParams>) {
        let only_modern = matches!(method.as_str(), SERVER_DISCOVER | SUBSCRIPTIONS_LISTEN);
        let era = if only_modern || names_version(params.as_ref()) { Era::Modern } else { Era::Legacy };
        let params = params.unwrap_or_default();
        if era == Era::Modern
            && let Err(Refusal { code, message, data, .. }) = judge_modern_body(&params, &VERSIONS)
        {
            self.say(envelope::error_bytes(Some(&id), code, &message, data.as_deref())).await;
            return;
        }
        let Ok(place) = self.places.clone().try_acquire_owned() else {
            self.refuse(&id, INTERNAL_ERROR, "too many requests at once: wait for answers first").await;
            return;
        };
        let is_handshake = era == Era::Legacy && method == INITIALIZE;
        let asked = Asked {
            id: id.clone(),
            era,
            visitor: self.visitor.clone(),
            method,
            params,
            session: self.session.clone().filter(|_| era == Era::Legacy),
            links: Some(self.links.clone()),
            outlet: Some(self.outlet.clone()),
            in_flight: Some(self.in_flight.clone()),
            disconnected: CancellationToken::new(),
            ending: self.ending.clone(),
            trace: TraceContext::default(),
            _lease: None,
        };
        let answering = answer(self.gateway.for_task(), asked);
        if is_handshake {
            // Whatever comes next is said in the session that this opens.
            let answer = answering.await;
            if let Some(session) = answer.opened {
                self.news = None;
                if let Some(former) = self.session.replace(session) {
                    former.close().await;
                }
            }
            if let Some(outcome) = answer.outcome {
                self.say(envelope::outcome_bytes(&id, &outcome)).await;
            }
            return;
        }
        let outlet = self.outlet.clone();
        self.requests.spawn(async move {
            let _place = place;
            if let Some(outcome) = answering.await.outcome {
                // A client that is gone needs no answer.
                drop(outlet.send(envelope::outcome_bytes(&id, &outcome)).await);
            }
        });
    }

    async fn refuse(&self, id: &RequestId, code: i64, message: &str) {
        self.say(envelope::error_bytes(Some(id), code, message, None)).await;
    }

    async fn say(&self, message: Bytes) {
        // Who is gone is found out where the next message is waited for.
        drop(self.outlet.send(message).await);
    }
}

impl Drop for Conversation {
    /// Whoever serves it may give it up half way: nothing of it goes on then.
    fn drop(&mut self) {
        self.ending.cancel();
        self.in_flight.cancel_all();
        if let Some(session) = self.session.take() {
            self.gateway.end_session(session);
        }
    }
}

/// Writes messages, each on a line of its own, until there are no more or nobody reads.
async fn write(mut inbox: Inbox, mut output: impl AsyncWrite + Unpin) {
    let cut = inbox.cut().clone();
    let writing = async {
        while let Some(message) = inbox.next_message().await {
            if output.write_all(&one_line(&message)).await.is_err() || output.flush().await.is_err() {
                tracing::info!("the client does not read any more");
                return;
            }
        }
    };
    tokio::select! {
        () = cut.cancelled() => {}
        () = writing => {}
    }
}

/// A message without line breaks, and one at its end. In JSON they only ever stand between the parts of a value.
fn one_line(message: &[u8]) -> Bytes {
    let mut line = BytesMut::with_capacity(message.len() + 1);
    line.put_slice(message);
    line.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')).for_each(|byte| *byte = b' ');
    line.put_u8(b'\n');
    line.freeze()
}

/// A line that is being read. Cancel safe: what was read stays.
#[derive(Default)]
struct Line {
    read: Vec<u8>,
    /// Whether the line is too long, and its rest is skipped.
    skipping: bool,
}

/// A line is longer than [`limits::REQUEST_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Line {
    /// The next line, without its end; none at the end of the input.
    async fn read(&mut self, input: &mut (impl AsyncBufRead + Unpin)) -> Option<Result<Vec<u8>, TooLong>> {
        loop {
            let available = input.fill_buf().await.ok()?;
            if available.is_empty() {
                // A line without an end is no message.
                return None;
            }
            let end = available.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(available.len(), |end| end + 1);
            if self.read.len() + taken > limits::REQUEST_BYTES_MAX {
                self.skipping = true;
                self.read = Vec::new();
            }
            if !self.skipping {
                self.read.extend_from_slice(available.get(..end.unwrap_or(taken)).unwrap_or_default());
            }
            input.consume(taken);
            if end.is_some() {
                let line = std::mem::take(&mut self.read);
                return Some(if std::mem::take(&mut self.skipping) { Err(TooLong) } else { Ok(line) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_read_whole_and_one_that_is_too_long_is_skipped_to_its_end() {
        let mut text = b"{}\r\n\n".to_vec();
        text.extend(vec![b'x'; limits::REQUEST_BYTES_MAX + 1]);
        text.extend(b"\nlast\nhalf");
        let (mut line, mut input) = (Line::default(), BufReader::new(&text[..]));
        let mut read = Vec::new();
        while let Some(next) = line.read(&mut input).await {
            read.push(next.map(|line| String::from_utf8(line).unwrap()));
        }
        assert_eq!(read, [Ok("{}\r".to_owned()), Ok(String::new()), Err(TooLong), Ok("last".to_owned())]);
    }

    #[test]
    fn a_message_is_one_line_whatever_its_server_wrote() {
        assert_eq!(one_line(b"{\r\n\"a\": [\n1]}"), &b"{  \"a\": [ 1]}\n"[..]);
    }
}
