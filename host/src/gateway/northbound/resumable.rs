//! Streams that a legacy client may come back for: what it was sent last, and what still comes, wait for it for a while.
//!
//! Bounded for each session in streams, in time and in bytes, and for all of them together in bytes: what was sent and is too
//! old can not be had again, what comes waits in the stream's own queue, and its server with it. Streams that are finished,
//! which the client probably saw to their end, make room for those that are not.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::event_stream::EventStream;
use super::live::{Live, Source};
use super::outlet::Inbox;
use super::session::Session;
use crate::edge::clock::Clock;
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::model::BootMs;

/// The part of a stream that outlives its connection.
pub(in crate::gateway) struct Resumable {
    session: Arc<Session>,
    clock: Arc<dyn Clock>,
    /// Room for what is kept, of the whole gateway, in bytes.
    room: Arc<Semaphore>,
    /// Tells the streams of a session apart.
    stream: u64,
    /// The number of the last event.
    last: u64,
    sent: VecDeque<Sent>,
    bytes: usize,
}

struct Sent {
    number: u64,
    event: Bytes,
    _room: OwnedSemaphorePermit,
}

/// A stream whose client is gone.
struct Kept {
    resumable: Resumable,
    inbox: Inbox,
    since: BootMs,
    /// For what its queue may hold yet.
    _room: Option<OwnedSemaphorePermit>,
}

/// The streams of a session that its client may go on with elsewhere.
#[derive(Default)]
pub(super) struct Streams {
    begun: u64,
    served: HashMap<u64, Weak<Live>>,
    kept: VecDeque<Kept>,
}

impl Resumable {
    /// A new stream of a session.
    pub(in crate::gateway) fn new(gateway: &Gateway, session: &Arc<Session>) -> Self {
        let stream = session.streams(|streams| {
            streams.begun += 1;
            streams.begun
        });
        let (clock, room) = (gateway.inner.parts.edge.clock.clone(), gateway.inner.northbound.replay.clone());
        Self { session: session.clone(), clock, room, stream, last: 0, sent: VecDeque::new(), bytes: 0 }
    }

    /// The id of the last event.
    pub(super) fn place(&self) -> String {
        format!("{}-{}", self.stream, self.last)
    }

    /// Whose it is, and its number there.
    pub(super) fn session_and_number(&self) -> (Arc<Session>, u64) {
        (self.session.clone(), self.stream)
    }

    /// Makes the next event, and remembers it as long as there is room.
    pub(super) fn number(&mut self, event: impl FnOnce(&str) -> Bytes) -> Bytes {
        self.last += 1;
        let event = event(&self.place());
        self.bytes += event.len();
        match room_for(&self.room, event.len()) {
            Some(room) => self.sent.push_back(Sent { number: self.last, event: event.clone(), _room: room }),
            // There must be no gap in what is kept.
            None => {
                self.sent.clear();
                self.bytes = 0;
            }
        }
        while self.bytes > limits::REPLAY_BYTES_MAX {
            let Some(oldest) = self.sent.pop_front() else { break };
            self.bytes -= oldest.event.len();
        }
        event
    }

    /// The events after one of them; none if some of those are forgotten, or that was never sent.
    fn missed(&self, after: u64) -> Option<Vec<Bytes>> {
        let oldest = self.sent.front().map_or(self.last + 1, |sent| sent.number);
        let whole = after <= self.last && after + 1 >= oldest;
        let missed = || self.sent.iter().filter(|sent| sent.number > after).map(|sent| sent.event.clone()).collect();
        whole.then(missed)
    }

    /// Waits for the client to come back; not for one that was cut off, and only if there is room for what may come.
    pub(super) fn keep(self, inbox: Inbox) {
        let (session, since, stream) = (self.session.clone(), self.clock.boot(), self.stream);
        let room = if inbox.is_done() { None } else { room_for(&self.room, QUEUE_BYTES) };
        let is_kept = !inbox.cut().is_cancelled() && (inbox.is_done() || room.is_some());
        let kept = Kept { resumable: self, inbox, since, _room: room };
        // What is forgotten is dropped when the lock is free again.
        let _forgotten = session.streams(|streams| {
            let mut forgotten = streams.forget(since);
            streams.served.remove(&stream);
            // A session that is over has forgotten its streams for good.
            match is_kept && !session.has_ended() {
                true => streams.kept.push_back(kept),
                false => forgotten.push_back(kept),
            }
            while streams.kept.len() > limits::RESUMABLE_STREAMS_MAX {
                let finished = streams.kept.iter().position(|one| one.inbox.is_done());
                forgotten.extend(streams.kept.remove(finished.unwrap_or_default()));
            }
            forgotten
        });
    }
}

/// How much the queue of one stream may hold.
const QUEUE_BYTES: usize = (limits::OUTBOX_KIBIBYTES as usize) << 10;

fn room_for(room: &Arc<Semaphore>, bytes: usize) -> Option<OwnedSemaphorePermit> {
    room.clone().try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
}

impl Streams {
    /// A stream is served from now on.
    pub(super) fn serve(&mut self, number: u64, live: &Arc<Live>) {
        self.served.insert(number, Arc::downgrade(live));
    }

    /// Forgets the streams whose clients did not come back in time. What is returned is to be dropped by who holds no lock.
    fn forget(&mut self, now: BootMs) -> VecDeque<Kept> {
        let (gone, kept) =
            std::mem::take(&mut self.kept).into_iter().partition(|one| now.since(one.since) >= limits::RESUME_WITHIN);
        self.kept = kept;
        gone
    }

    /// Takes a stream of which so much was seen, from the connection that serves it or from what waits.
    fn take(&mut self, stream: u64, after: u64) -> Option<Source> {
        let has_the_rest = |resumable: &Resumable| resumable.missed(after).is_some();
        let live = self.served.get(&stream).and_then(Weak::upgrade);
        let taken = live.and_then(|live| live.take_if(|source| source.resumable.as_ref().is_some_and(has_the_rest)));
        if taken.is_some() {
            return taken;
        }
        let place = self.kept.iter().position(|one| one.resumable.stream == stream)?;
        self.kept.get(place).filter(|one| has_the_rest(&one.resumable))?;
        let Kept { resumable, inbox, .. } = self.kept.remove(place)?;
        Some(Source { inbox, resumable: Some(resumable) })
    }
}

/// Forgets the streams of a session whose clients did not come back in time.
pub(super) fn forget(session: &Session, now: BootMs) {
    drop(session.streams(|streams| streams.forget(now)));
}

/// The rest of a stream of a session, for the client that saw the event of this id last; none if there is none. A connection
/// that serves it still is of no use to the client any more, and ends.
pub(in crate::gateway) fn resume(session: &Session, last_event: &str, now: BootMs) -> Option<EventStream> {
    let (stream, after) = last_event.split_once('-')?;
    let (stream, after) = (stream.parse::<u64>().ok()?, after.parse::<u64>().ok()?);
    forget(session, now);
    let source = session.streams(|streams| streams.take(stream, after))?;
    let missed = source.resumable.as_ref()?.missed(after)?;
    Some(EventStream::rest(missed, source))
}
