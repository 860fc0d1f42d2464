//! Streams that a legacy client may come back for: what it was sent last, and what still comes, wait for it for a while.
//!
//! Bounded for each session in streams, in time and in bytes: what was sent and is too old can not be had again, what comes
//! waits in the stream's own queue, and its server with it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::event_stream::EventStream;
use super::outlet::Inbox;
use super::session::Session;
use crate::edge::clock::Clock;
use crate::gateway::limits;
use crate::model::BootMs;

/// The part of a stream that outlives its connection.
pub(in crate::gateway) struct Resumable {
    session: Arc<Session>,
    clock: Arc<dyn Clock>,
    /// Tells the streams of a session apart.
    stream: u64,
    /// The number of the last event.
    last: u64,
    sent: VecDeque<(u64, Bytes)>,
    bytes: usize,
}

/// A stream whose client is gone.
struct Kept {
    resumable: Resumable,
    inbox: Inbox,
    since: BootMs,
}

/// The streams of a session whose clients are gone.
#[derive(Default)]
pub(super) struct Streams {
    begun: u64,
    kept: VecDeque<Kept>,
}

impl Resumable {
    /// A new stream of a session.
    pub(in crate::gateway) fn new(session: &Arc<Session>, clock: &Arc<dyn Clock>) -> Self {
        let stream = session.streams(|streams| {
            streams.begun += 1;
            streams.begun
        });
        let (session, clock) = (session.clone(), clock.clone());
        Self { session, clock, stream, last: 0, sent: VecDeque::new(), bytes: 0 }
    }

    /// The id of the last event.
    pub(super) fn place(&self) -> String {
        format!("{}-{}", self.stream, self.last)
    }

    /// Makes the next event, and remembers it as long as there is room.
    pub(super) fn number(&mut self, event: impl FnOnce(&str) -> Bytes) -> Bytes {
        self.last += 1;
        let event = event(&self.place());
        self.bytes += event.len();
        self.sent.push_back((self.last, event.clone()));
        while self.bytes > limits::REPLAY_BYTES_MAX {
            let Some((_, oldest)) = self.sent.pop_front() else { break };
            self.bytes -= oldest.len();
        }
        event
    }

    /// The events after one of them; none if some of those are forgotten, or that was never sent.
    fn missed(&self, after: u64) -> Option<Vec<Bytes>> {
        let oldest = self.sent.front().map_or(self.last + 1, |(number, _)| *number);
        let whole = after <= self.last && after + 1 >= oldest;
        whole.then(|| self.sent.iter().filter(|(number, _)| *number > after).map(|(_, event)| event.clone()).collect())
    }

    /// Waits for the client to come back.
    pub(super) fn keep(self, inbox: Inbox) {
        let (session, since) = (self.session.clone(), self.clock.boot());
        let kept = Kept { resumable: self, inbox, since };
        // A session that is over has forgotten its streams for good.
        session.streams(|streams| {
            if !session.has_ended() {
                streams.kept.push_back(kept);
            }
            let surplus = streams.kept.len().saturating_sub(limits::RESUMABLE_STREAMS_MAX);
            streams.kept.drain(..surplus).for_each(drop);
        });
    }
}

impl Streams {
    /// Forgets the streams whose clients did not come back in time. What is returned is to be dropped by who holds no lock.
    pub(super) fn forget(&mut self, now: BootMs) -> impl Sized + use<> {
        let (gone, kept) =
            std::mem::take(&mut self.kept).into_iter().partition(|one| now.since(one.since) >= limits::RESUME_WITHIN);
        self.kept = kept;
        let gone: VecDeque<Kept> = gone;
        gone
    }
}

/// The rest of a stream of a session, for the client that saw the event of this id last; none if there is none.
pub(in crate::gateway) fn resume(session: &Session, last_event: &str, now: BootMs) -> Option<EventStream> {
    let (stream, after) = last_event.split_once('-')?;
    let (stream, after) = (stream.parse::<u64>().ok()?, after.parse::<u64>().ok()?);
    drop(session.streams(|streams| streams.forget(now)));
    let Kept { resumable, inbox, .. } = session.streams(|streams| {
        let place = streams.kept.iter().position(|one| one.resumable.stream == stream)?;
        streams.kept.get(place)?.resumable.missed(after)?;
        streams.kept.remove(place)
    })?;
    Some(EventStream::rest(resumable.missed(after)?, inbox, resumable))
}
