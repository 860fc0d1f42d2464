//! Who waits for what on a stream that many share: answers go to their requests, and what a server says or asks goes to
//! whom it concerns.
//!
//! - Progress goes to the request that the token names; what names a subscription goes to that subscription's request
//!   (2026-07-28, `basic/transports/stdio`, Receiving Messages).
//! - Log messages go to the one request in flight that asked for some; where several did, nobody can tell whose they
//!   are, and they are dropped rather than told to a stranger.
//! - Where the whole pipe belongs to one client, everything else goes to the latest of its requests in flight.
//! - Everything else waits for whoever listens to the session. Changes of lists wait even if nobody listens yet.
//!
//! Nothing here waits, and nothing here writes: the reader of the stream is never held up.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::inbox::{Inbox, Letter};
use super::token;
use crate::mcp::envelope::{Message, Outcome, RequestId, outcome_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::interim::{self, Notice, Question};
use crate::mcp::limits::MAX_SERVER_REQUESTS;
use crate::mcp::protocol::{CANCELLED, LISTS_CHANGED, LOG_MESSAGE, META_SUBSCRIPTION_ID, PING, PROGRESS};
use crate::model::raw::{self, RawObject};

/// Whose requests a pipe carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mcp::client) enum Audience {
    /// Many clients': what belongs to no request concerns no one in particular.
    Shared,
    /// One client's, who declared what it can do: whatever the server says concerns it.
    OneClient,
}

/// How far a message has come on its way out.
#[derive(Debug, Default)]
pub(super) struct Stage(AtomicU8);

const QUEUED: u8 = 0;
const WRITTEN: u8 = 1;
const WITHDRAWN: u8 = 2;

impl Stage {
    /// Whether the message may be written now; from then on it counts as sent.
    pub(super) fn write(&self) -> bool {
        self.0.compare_exchange(QUEUED, WRITTEN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// Takes it back; false if it was written.
    pub(super) fn withdraw(&self) -> bool {
        self.0.compare_exchange(QUEUED, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }
}

/// What a request wants besides its answer.
#[derive(Debug, Default)]
pub(super) struct Wants {
    /// Its caller's own progress token.
    pub(super) token: Option<Box<serde_json::value::RawValue>>,
    /// Whether it asked for log messages (2026-07-28, `server/utilities/logging`).
    pub(super) logs: bool,
    /// Whether it is a subscription, which its server may end without an answer.
    pub(super) subscribes: bool,
}

/// What a request in flight waits at.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) answer: oneshot::Receiver<Result<Outcome, WireError>>,
    pub(super) inbox: Arc<Inbox>,
    pub(super) stage: Arc<Stage>,
}

/// What a server's message was.
#[derive(Debug)]
pub(super) enum Taken {
    /// An answer that somebody waited for.
    Awaited,
    /// What a request in flight is told before its answer. How much of that is kept is bounded there, so that only its size
    /// counts against the server's rate: one that tells of every step is no flood.
    OnTheWay,
    /// Something else, which counts against the server's rate.
    OfItsOwn,
    /// The same, and it is to be told this at once.
    ToBeTold(Bytes),
}

/// The desk of one pipe.
#[derive(Debug)]
pub(super) struct Desk {
    audience: Audience,
    inner: Mutex<Inner>,
    /// What is for whoever listens.
    unclaimed: Arc<Inbox>,
    /// Cancelled when the pipe has ended.
    over: CancellationToken,
    dropped: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    waiting: HashMap<RequestId, Waiting>,
    entered: u64,
    /// Questions of the server that are being answered.
    asked: HashMap<RequestId, CancellationToken>,
    has_listener: bool,
    ended: bool,
}

#[derive(Debug)]
struct Waiting {
    answer: oneshot::Sender<Result<Outcome, WireError>>,
    inbox: Arc<Inbox>,
    stage: Arc<Stage>,
    wants: Wants,
    number: u64,
}

impl Desk {
    pub(super) fn new(audience: Audience) -> Self {
        Self {
            audience,
            inner: Mutex::default(),
            unclaimed: Arc::default(),
            over: CancellationToken::new(),
            dropped: AtomicU64::new(0),
        }
    }

    /// Gives a request its place.
    ///
    /// # Errors
    /// [`ProtocolFault::NotWritten`] once the pipe has ended.
    pub(super) fn enter(&self, id: &RequestId, wants: Wants) -> Result<Place, WireError> {
        let mut inner = self.lock();
        if inner.ended {
            return Err(ProtocolFault::NotWritten.into());
        }
        let (answer, waits) = oneshot::channel();
        let (inbox, stage) = (Arc::<Inbox>::default(), Arc::<Stage>::default());
        inner.entered += 1;
        let number = inner.entered;
        inner.waiting.insert(id.clone(), Waiting { answer, inbox: inbox.clone(), stage: stage.clone(), wants, number });
        Ok(Place { answer: waits, inbox, stage })
    }

    /// A request is over for its caller. What still comes for it is ignored.
    pub(super) fn leave(&self, id: &RequestId) {
        self.lock().waiting.remove(id);
    }

    /// Somebody listens from now on; none if somebody does already.
    pub(super) fn listen(self: &Arc<Self>) -> Option<Listener> {
        let mut inner = self.lock();
        let is_first = !std::mem::replace(&mut inner.has_listener, true);
        is_first.then(|| Listener { desk: self.clone() })
    }

    /// The server's question is answered, or never will be.
    pub(super) fn settle(&self, question: &RequestId) {
        self.lock().asked.remove(question);
    }

    /// The pipe has ended: every request in flight fails at once, and so does every later one. The first reason counts.
    pub(super) fn end(&self, reason: &WireError) {
        let waiting = {
            let mut inner = self.lock();
            inner.ended = true;
            std::mem::take(&mut inner.waiting)
        };
        // First: whoever is told by its request's failure finds the pipe ended.
        self.over.cancel();
        for waiting in waiting.into_values() {
            let error = if waiting.stage.withdraw() { ProtocolFault::NotWritten.into() } else { reason.clone() };
            // Whoever waited may be gone.
            drop(waiting.answer.send(Err(error)));
        }
    }

    /// Cancelled when the pipe has ended.
    pub(super) fn over(&self) -> &CancellationToken {
        &self.over
    }

    /// How many messages had no reader, or one that was too slow.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Takes what the server wrote. What is no message is ignored: some servers greet people on their standard output.
    pub(super) fn take(&self, message: &[u8]) -> Taken {
        match Message::parse(message) {
            Ok(Message::Response { id, outcome }) => return self.answered(id, outcome),
            Ok(Message::Notification { method, params }) => return self.noticed(Notice { method, params }),
            Ok(Message::Request { id, method, params }) => {
                return self.asked(id, Question { method, params }).map_or(Taken::OfItsOwn, Taken::ToBeTold);
            }
            Err(_) if message.iter().all(u8::is_ascii_whitespace) => {}
            Err(_) => self.count_dropped(),
        }
        Taken::OfItsOwn
    }

    fn answered(&self, id: Option<RequestId>, outcome: Outcome) -> Taken {
        let mut inner = self.lock();
        // An error about a request whose id could not be read; where only one is in flight, it is about that one.
        let id = id.or_else(|| match inner.waiting.len() {
            1 => inner.waiting.keys().next().cloned(),
            _ => None,
        });
        if let Some(waiting) = id.and_then(|id| inner.waiting.remove(&id)) {
            drop(waiting.answer.send(Ok(outcome)));
            Taken::Awaited
        } else {
            // Too late, twice, or nobody's.
            drop(inner);
            self.count_dropped();
            Taken::OfItsOwn
        }
    }

    fn noticed(&self, notice: Notice) -> Taken {
        let mut inner = self.lock();
        let mut taken = Taken::OfItsOwn;
        let told = match notice.method.as_str() {
            PROGRESS => {
                if inner.is_of_a_request(&notice) {
                    taken = Taken::OnTheWay;
                }
                inner.progress(notice)
            }
            CANCELLED => {
                inner.taken_back(&notice);
                Ok(())
            }
            _ => match inner.reader(self.audience, &notice) {
                Some(inbox) => {
                    taken = Taken::OnTheWay;
                    inbox.put(Letter::Notice(notice)).map_err(drop)
                }
                None if notice.method == LOG_MESSAGE && inner.several_want_logs() => Err(()),
                None => self.unclaimed.put(Letter::Notice(notice)).map_err(drop),
            },
        };
        drop(inner);
        if told.is_err() {
            self.count_dropped();
        }
        taken
    }

    fn asked(&self, id: RequestId, question: Question) -> Option<Bytes> {
        if question.method == PING {
            return Some(outcome_bytes(&id, &Outcome::Result(raw::empty_object())));
        }
        let mut inner = self.lock();
        let reader = match self.audience {
            Audience::OneClient => inner.latest(),
            Audience::Shared => None,
        };
        let reader = reader.or_else(|| inner.has_listener.then(|| self.unclaimed.clone()));
        let may_ask = inner.asked.len() < MAX_SERVER_REQUESTS && !inner.asked.contains_key(&id);
        if let Some(inbox) = reader.filter(|_| may_ask) {
            let taken_back = CancellationToken::new();
            let letter = Letter::Question { id: id.clone(), question, taken_back: taken_back.clone() };
            if inbox.put(letter).is_ok() {
                inner.asked.insert(id, taken_back);
                return None;
            }
        }
        Some(refused(&id))
    }

    fn count_dropped(&self) {
        self.dropped.fetch_add(1, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a question is refused.
pub(super) fn refused(id: &RequestId) -> Bytes {
    outcome_bytes(id, &interim::refusal())
}

impl Inner {
    /// Whether progress is that of a request in flight.
    fn is_of_a_request(&self, notice: &Notice) -> bool {
        let id = notice.params.as_deref().and_then(token::request_of);
        id.is_some_and(|id| self.waiting.contains_key(&id))
    }

    fn progress(&self, mut notice: Notice) -> Result<(), ()> {
        let params = notice.params.as_ref().ok_or(())?;
        let waiting = token::request_of(params).and_then(|id| self.waiting.get(&id)).ok_or(())?;
        let own = waiting.wants.token.as_ref().ok_or(())?;
        notice.params = token::restore(params, own);
        waiting.inbox.put(Letter::Notice(notice)).map_err(drop)
    }

    /// The server takes a question back, or ends a subscription (2026-07-28, `basic/patterns/cancellation`). Both sides
    /// number their requests as they like: of no other request of ours does it speak.
    fn taken_back(&mut self, notice: &Notice) {
        let params = notice.params.as_ref().and_then(|params| RawObject::parse(params).ok());
        let Some(id) = params.as_ref().and_then(|params| RequestId::read(params.get("requestId")?)) else { return };
        if let Some(taken_back) = self.asked.remove(&id) {
            taken_back.cancel();
        } else if self.waiting.get(&id).is_some_and(|waiting| waiting.wants.subscribes)
            && let Some(waiting) = self.waiting.remove(&id)
        {
            drop(waiting.answer.send(Err(ProtocolFault::StreamEnded.into())));
        }
    }

    /// The request that a notification concerns.
    fn reader(&self, audience: Audience, notice: &Notice) -> Option<Arc<Inbox>> {
        if let Some(id) = notice.params.as_ref().and_then(|params| subscription_of(params)) {
            return self.waiting.get(&id).map(|waiting| waiting.inbox.clone());
        }
        let is_log = notice.method == LOG_MESSAGE;
        let mut readers = self.waiting.values().filter(|waiting| is_log && waiting.wants.logs);
        match (readers.next(), readers.next()) {
            (Some(only), None) => Some(only.inbox.clone()),
            _ if audience == Audience::OneClient && !LISTS_CHANGED.contains(&notice.method.as_str()) => self.latest(),
            _ => None,
        }
    }

    fn several_want_logs(&self) -> bool {
        self.waiting.values().any(|waiting| waiting.wants.logs)
    }

    fn latest(&self) -> Option<Arc<Inbox>> {
        self.waiting.values().max_by_key(|waiting| waiting.number).map(|waiting| waiting.inbox.clone())
    }
}

fn subscription_of(params: &serde_json::value::RawValue) -> Option<RequestId> {
    let params = RawObject::parse(params).ok()?;
    RequestId::read(RawObject::parse(params.get("_meta")?).ok()?.get(META_SUBSCRIPTION_ID)?)
}

/// Whoever takes what concerns no request. Dropping it makes room for another one.
#[derive(Debug)]
pub(super) struct Listener {
    desk: Arc<Desk>,
}

impl Listener {
    /// What waits.
    pub(super) fn inbox(&self) -> &Inbox {
        &self.desk.unclaimed
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.desk.lock().has_listener = false;
    }
}
