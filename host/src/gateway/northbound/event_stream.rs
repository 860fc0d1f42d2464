//! An answer as an event stream: one event for each message, comments while there is none. The stream of a request in a
//! session can be resumed: its events have ids, and what a client missed is played to it again ([`Resumable`]).
//!
//! Sources: WHATWG HTML, section 9.2; 2026-07-28, Streamable HTTP, "Receiving Messages"; 2025-11-25, "Resumability and
//! Redelivery".

use std::collections::VecDeque;
use std::io;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use tokio_util::task::AbortOnDropHandle;

use super::outlet::{Inbox, Item};
use super::resumable::Resumable;
use crate::gateway::limits;
use crate::mcp::protocol::EVENT_STREAM_TYPE;
use crate::model::milliseconds;

/// Tells proxies that a stream is not to be gathered before it is passed on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What keeps a stream alive that has nothing to say.
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Events on their way to a client.
pub(in crate::gateway) struct EventStream {
    inbox: Option<Inbox>,
    /// What goes out before anything else.
    ready: VecDeque<Bytes>,
    /// What is written when the client comes back for the rest; none if it can not.
    resumable: Option<Resumable>,
    /// Ends when the client is gone, if nobody else waits for it.
    _held: Option<AbortOnDropHandle<()>>,
    over: bool,
}

impl EventStream {
    /// What comes out of `inbox`, after `first`. `held` is aborted when the stream is over, or its client gone.
    pub(in crate::gateway) fn new(first: Option<Item>, inbox: Inbox, held: AbortOnDropHandle<()>) -> Self {
        let mut stream =
            Self { inbox: Some(inbox), ready: VecDeque::new(), resumable: None, _held: Some(held), over: false };
        stream.begin(first);
        stream
    }

    /// The same for a client that can come back for the rest.
    pub(in crate::gateway) fn resumable(first: Option<Item>, inbox: Inbox, resumable: Resumable) -> Self {
        // An event without a message: from here on the client knows where it is.
        let ready = VecDeque::from([event(Some(&resumable.place()), b"")]);
        let mut stream = Self { inbox: Some(inbox), ready, resumable: Some(resumable), _held: None, over: false };
        stream.begin(first);
        stream
    }

    /// The rest of a stream, from the events on that its client did not see.
    pub(super) fn rest(missed: Vec<Bytes>, inbox: Inbox, resumable: Resumable) -> Self {
        Self { inbox: Some(inbox), ready: missed.into(), resumable: Some(resumable), _held: None, over: false }
    }

    fn begin(&mut self, first: Option<Item>) {
        if let Some(event) = first.and_then(|first| self.play(first)) {
            self.ready.push_back(event);
        }
    }

    /// An item as it goes out.
    fn play(&mut self, item: Item) -> Option<Bytes> {
        match (item, &mut self.resumable) {
            (Item::Message(message), None) => Some(event(None, &message)),
            (Item::Message(message), Some(resumable)) => Some(resumable.number(|id| event(Some(id), &message))),
            (Item::Pause(wait), Some(resumable)) => {
                self.over = true;
                let retry = format!("retry: {}\n", milliseconds(wait));
                Some([retry.as_bytes(), &event(Some(&resumable.place()), b"")].concat().into())
            }
            (Item::Pause(_), None) => None,
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            let inbox = self.inbox.as_mut().filter(|_| !self.over)?;
            let cut = inbox.cut().clone();
            let item = tokio::select! {
                biased;
                () = cut.cancelled() => {
                    // A broken body, and no end: what is missing is not to be taken for all there was.
                    self.over = true;
                    return Some(Err(io::ErrorKind::TimedOut.into()));
                }
                item = inbox.next() => item,
                () = tokio::time::sleep(limits::KEEP_ALIVE) => return Some(Ok(COMMENT)),
            };
            let Some(item) = item else {
                self.over = true;
                return None;
            };
            let event = self.play(item);
            self.ready.extend(event);
        }
    }

    /// The response that holds it.
    pub(in crate::gateway) fn into_response(self) -> Response {
        let events = futures_util::stream::unfold(self, |mut stream| async move {
            let next = stream.next().await?;
            Some((next, stream))
        });
        let headers = [
            (CONTENT_TYPE, HeaderValue::from_static(EVENT_STREAM_TYPE)),
            (CACHE_CONTROL, HeaderValue::from_static("no-store")),
            (ACCEL_BUFFERING, HeaderValue::from_static("no")),
        ];
        (headers, Body::from_stream(events)).into_response()
    }
}

impl Drop for EventStream {
    /// The client may come back, whether it saw everything or not: nobody knows.
    fn drop(&mut self) {
        if let (Some(inbox), Some(resumable)) = (self.inbox.take(), self.resumable.take())
            && !inbox.cut().is_cancelled()
        {
            resumable.keep(inbox);
        }
    }
}

/// One message as an event: a line of data for each of its own lines.
fn event(id: Option<&str>, message: &[u8]) -> Bytes {
    let mut event = BytesMut::with_capacity(message.len() + 32);
    if let Some(id) = id {
        event.put_slice(format!("id: {id}\n").as_bytes());
    }
    let mut rest = message;
    loop {
        let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r'));
        let (line, tail) = rest.split_at(end.unwrap_or(rest.len()));
        event.put_slice(b"data: ");
        event.put_slice(line);
        event.put_u8(b'\n');
        rest = match tail.strip_prefix(b"\r\n").or_else(|| tail.get(1..)) {
            Some(rest) => rest,
            None => break,
        };
    }
    event.put_u8(b'\n');
    event.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::sse::SseParser;

    #[test]
    fn a_message_with_lines_is_one_event_and_read_back_as_it_was() {
        for (message, read) in [
            ("{\"a\":1}", "{\"a\":1}"),
            ("{\n \"a\": 1\n}", "{\n \"a\": 1\n}"),
            ("{\r\n\"a\":\r1}\n", "{\n\"a\":\n1}\n"),
            ("", ""),
        ] {
            let events = SseParser::new(1 << 10).push(&event(Some("7-1"), message.as_bytes())).unwrap();
            assert_eq!((events.len(), events[0].id.as_deref()), (1, Some("7-1")), "{message:?}");
            assert_eq!(String::from_utf8_lossy(&events[0].data), read);
        }
    }
}
