//! An answer as an event stream: one event for each message, comments while there is none. The stream of a request in a
//! session can be resumed: its events have ids, and what a client missed is played to it again ([`Resumable`]).
//!
//! Sources: WHATWG HTML, section 9.2; 2026-07-28, Streamable HTTP, "Receiving Messages"; 2025-11-25, "Resumability and
//! Redelivery".

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderName, HeaderValue};
use tokio_util::task::AbortOnDropHandle;

use super::live::{Live, Played, Source};
use super::outlet::{Inbox, Item};
use super::resumable::Resumable;
use crate::gateway::limits;
use crate::mcp::protocol::EVENT_STREAM_TYPE;

/// Tells proxies that a stream is not to be gathered before it is passed on.
const ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// What keeps a stream alive that has nothing to say.
const COMMENT: Bytes = Bytes::from_static(b": keep-alive\n\n");

/// Events on their way to a client.
pub(in crate::gateway) struct EventStream {
    live: Arc<Live>,
    /// What goes out before anything else.
    ready: VecDeque<Bytes>,
    /// Ends when the client is gone, if nobody else waits for it.
    _held: Option<AbortOnDropHandle<()>>,
    over: bool,
}

impl EventStream {
    /// What comes out of `inbox`, after `first`. `held` is aborted when the stream is over, or its client gone.
    pub(in crate::gateway) fn new(first: Option<Item>, inbox: Inbox, held: AbortOnDropHandle<()>) -> Self {
        let mut stream = Self::of(Source { inbox, resumable: None }, Vec::new());
        stream._held = Some(held);
        stream.begin(first);
        stream
    }

    /// Sends a comment first: some proxies pass the head of an answer on with the first byte of its body only.
    pub(in crate::gateway) fn with_comment(mut self) -> Self {
        self.ready.push_front(COMMENT);
        self
    }

    /// The same for a client that can come back for the rest.
    pub(in crate::gateway) fn resumable(first: Option<Item>, inbox: Inbox, resumable: Resumable) -> Self {
        // An event without a message: from here on the client knows where it is.
        let begins = event(Some(&resumable.place()), b"");
        let mut stream = Self::of(Source { inbox, resumable: Some(resumable) }, vec![begins]);
        stream.begin(first);
        stream
    }

    /// The rest of a stream, from the events on that its client did not see.
    pub(super) fn rest(missed: Vec<Bytes>, source: Source) -> Self {
        Self::of(source, missed)
    }

    fn of(source: Source, ready: Vec<Bytes>) -> Self {
        Self { live: Live::begin(source), ready: ready.into(), _held: None, over: false }
    }

    fn begin(&mut self, first: Option<Item>) {
        if let Some(first) = first {
            let played = self.live.play(first);
            self.make_ready(played);
        }
    }

    fn make_ready(&mut self, played: Played) {
        match played {
            Played::Event(event) => self.ready.push_back(event),
            Played::Last(event) => {
                self.over = true;
                self.ready.push_back(event);
            }
            Played::Nothing => {}
        }
    }

    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(Ok(event));
            }
            if self.over {
                return None;
            }
            let played = tokio::select! {
                biased;
                () = self.live.cut.cancelled() => {
                    // A broken body, and no end: what is missing is not to be taken for all there was.
                    self.over = true;
                    return Some(Err(io::ErrorKind::TimedOut.into()));
                }
                () = self.live.was_taken() => None,
                played = poll_fn(|context| self.live.poll_next(context)) => played,
                () = tokio::time::sleep(limits::KEEP_ALIVE) => return Some(Ok(COMMENT)),
            };
            match played {
                Some(played) => self.make_ready(played),
                None => {
                    self.over = true;
                    return None;
                }
            }
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
        self.live.end();
    }
}

/// One message as an event: a line of data for each of its own lines.
pub(super) fn event(id: Option<&str>, message: &[u8]) -> Bytes {
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
