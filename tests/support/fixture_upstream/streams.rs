//! The event streams of a session: each is a log that can be read again from any event on. It must never have two
//! readers at a time: a client would hear everything twice.

use std::convert::Infallible;
use std::sync::Arc;

use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use serde_json::Value;
use tokio::sync::watch;

use super::wire;

/// How long a client is to wait before it comes back to a stream that was closed.
const RETRY_MS: u64 = 500;

#[derive(Default)]
struct Log {
    events: Vec<String>,
    /// Nothing will be added.
    finished: bool,
    /// Counts the readers: only the last one may go on, the one before up to `cut`.
    reader: u64,
    cut: usize,
    /// The event that is next for a reader that does not say where to begin.
    delivered: usize,
}

/// A stream.
pub(super) struct EventStream {
    number: u64,
    log: watch::Sender<Log>,
}

impl EventStream {
    /// An empty one.
    pub(super) fn new(number: u64) -> Self {
        Self { number, log: watch::Sender::default() }
    }

    /// Makes it resumable before anything is said.
    pub(super) fn prime(&self) {
        self.log.send_modify(|log| {
            let id = self.event_id(log.events.len());
            log.events.push(wire::priming_event(&id, RETRY_MS));
        });
    }

    /// Says something.
    pub(super) fn push(&self, message: &Value) {
        self.log.send_modify(|log| {
            let id = self.event_id(log.events.len());
            log.events.push(wire::event_with_id(&id, message));
        });
    }

    /// Says something for the last time.
    pub(super) fn finish(&self, last: Option<&Value>) {
        if let Some(last) = last {
            self.push(last);
        }
        self.log.send_modify(|log| log.finished = true);
    }

    /// Whether nothing more will be said.
    pub(super) fn is_finished(&self) -> bool {
        self.log.borrow().finished
    }

    /// Ends the response that it is read by, after what has been said. What is said later is for another reader.
    pub(super) fn hang_up(&self) {
        self.log.send_modify(|log| {
            log.reader += 1;
            log.cut = log.events.len();
        });
    }

    /// A response with its events: those after this one, or those that nobody has read. A reader before it ends.
    pub(super) fn response(self: &Arc<Self>, after: Option<usize>) -> Response {
        let (mut reader, mut position) = (0, 0);
        self.log.send_modify(|log| {
            log.reader += 1;
            log.cut = 0;
            reader = log.reader;
            position = after.map_or(log.delivered, |after| after + 1);
        });
        let state = (self.clone(), self.log.subscribe(), position);
        wire::event_stream(stream::unfold(state, move |(this, mut changes, position)| async move {
            let event = {
                let goes_on = |log: &Log| log.reader == reader || (log.reader == reader + 1 && position < log.cut);
                let ready = |log: &Log| position < log.events.len() || log.finished || !goes_on(log);
                let log = changes.wait_for(|log| ready(log)).await.ok()?;
                if !goes_on(&log) {
                    return None;
                }
                log.events.get(position)?.clone()
            };
            this.log.send_if_modified(|log| {
                log.delivered = log.delivered.max(position + 1);
                false
            });
            Some((Ok::<_, Infallible>(Bytes::from(event)), (this, changes, position + 1)))
        }))
    }

    fn event_id(&self, position: usize) -> String {
        format!("{}-{position}", self.number)
    }
}

/// The stream and the position that an event id stands for.
pub(super) fn event_of(id: &str) -> Option<(u64, usize)> {
    let (stream, position) = id.split_once('-')?;
    Some((stream.parse().ok()?, position.parse().ok()?))
}
