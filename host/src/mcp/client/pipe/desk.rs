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
use std::sync::atomic::{AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::value::RawValue;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::inbox::{Inbox, Letter};
use crate::edge::http::HttpError;
use crate::mcp::client::progress;
use crate::mcp::envelope::lenient::{self, Reading, Unreadable};
use crate::mcp::envelope::{Message, Outcome, RequestId, RpcError, outcome_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::inbound::{Inbound, Irregularity};
use crate::mcp::interim::{self, Notice, Question};
use crate::mcp::limits::{MAX_COMPLAINT_BYTES, MAX_SERVER_REQUESTS, UNREADABLE_LINES};
use crate::mcp::outline::{Extent, Outline};
use crate::mcp::protocol::{
    CANCELLED, INVALID_REQUEST, LISTS_CHANGED, LOG_MESSAGE, META_SUBSCRIPTION_ID, PARSE_ERROR, PING, PROGRESS,
};
use crate::model::mask::Secrets;
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
    /// Texts that are no messages.
    unreadable: AtomicUsize,
    inbound: Arc<Inbound>,
    /// What may not be shown of what the server writes.
    secrets: Secrets,
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
    pub(super) fn new(audience: Audience, inbound: Arc<Inbound>, secrets: Secrets) -> Self {
        Self {
            audience,
            inner: Mutex::default(),
            unclaimed: Arc::default(),
            over: CancellationToken::new(),
            dropped: AtomicU64::new(0),
            unreadable: AtomicUsize::new(0),
            inbound,
            secrets,
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

    /// Takes what the server wrote. What is no message fails the request that it answers; some servers greet people on their
    /// standard output, which is ignored.
    pub(super) fn take(&self, text: &[u8]) -> Taken {
        match lenient::read(text) {
            Ok(reading) => self.take_message(reading),
            Err(unreadable) => self.take_unreadable(unreadable, text),
        }
    }

    /// Takes a message of the server.
    pub(super) fn take_message(&self, reading: Reading) -> Taken {
        let Reading { message, forgiven } = reading;
        forgiven.into_iter().for_each(|irregularity| self.inbound.irregularities.record(irregularity));
        match message {
            Message::Response { id, outcome } => self.answered(id, outcome),
            Message::Notification { method, params } => self.noticed(Notice { method, params }),
            Message::Request { id, method, params } => {
                self.asked(id, Question { method, params }).map_or(Taken::OfItsOwn, Taken::ToBeTold)
            }
        }
    }

    /// Takes a text that is no message.
    pub(super) fn take_unreadable(&self, unreadable: Unreadable, text: &[u8]) -> Taken {
        let Unreadable { fault, outline } = unreadable;
        if outline.extent() == Extent::Blank {
            return Taken::OfItsOwn;
        }
        self.inbound.irregularities.record(Irregularity::Unreadable);
        let taken = self.fail(&outline, fault.into());
        // Greetings and the like are counted only.
        let may_be_a_message = text.trim_ascii_start().starts_with(b"{");
        if !matches!(taken, Taken::Awaited)
            && may_be_a_message
            && self.unreadable.fetch_add(1, Ordering::Relaxed) < UNREADABLE_LINES
        {
            let (begin, rest) = text.split_at(text.len().min(MAX_COMPLAINT_BYTES));
            let line = self.secrets.masked(begin, !rest.is_empty());
            let connector = self.inbound.irregularities.connector().map(tracing::field::display);
            tracing::info!(
                connector,
                line = line.as_str(),
                missing_bytes = rest.len(),
                "the server wrote what is no message"
            );
        }
        taken
    }

    /// Takes a message that is too large, of which only the outline is known.
    pub(super) fn take_oversize(&self, outline: &Outline) -> Taken {
        self.inbound.irregularities.record(Irregularity::Oversize);
        self.fail(outline, HttpError::Oversize { cap: self.inbound.max_message_bytes() }.into())
    }

    /// Fails the request that a message answers which cannot be taken. Without an identifier it is the only one in flight, if
    /// the message is certainly an answer whose identifier may stand in what could not be read.
    fn fail(&self, outline: &Outline, error: WireError) -> Taken {
        let mut inner = self.lock();
        let id = match outline.id() {
            Some(id) if !outline.has_method() => self.waiting_id(&inner, id),
            None if outline.is_answer() && outline.extent() != Extent::Whole => inner.only_one(),
            _ => None,
        };
        match id.and_then(|id| inner.waiting.remove(&id)) {
            Some(waiting) => {
                drop(waiting.answer.send(Err(error)));
                Taken::Awaited
            }
            None => {
                drop(inner);
                self.count_dropped();
                Taken::OfItsOwn
            }
        }
    }

    fn answered(&self, id: Option<RequestId>, outcome: Outcome) -> Taken {
        let mut inner = self.lock();
        let id = match (id, &outcome) {
            (Some(id), _) => self.waiting_id(&inner, &id),
            // Only these two may have no identifier: it could not be read (JSON-RPC 2.0, section 5). Some servers answer
            // notifications with other errors, and those concern no request.
            (None, Outcome::Error(error)) if is_about_an_unreadable_request(error) => inner.only_one(),
            (None, outcome) => {
                if matches!(outcome, Outcome::Error(_)) {
                    self.inbound.irregularities.record(Irregularity::NoId);
                }
                None
            }
        };
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

    /// The request in flight of that identifier, which some servers repeat as a string.
    fn waiting_id(&self, inner: &Inner, id: &RequestId) -> Option<RequestId> {
        if inner.waiting.contains_key(id) {
            return Some(id.clone());
        }
        let number = id.number_in_text().filter(|number| inner.waiting.contains_key(number))?;
        self.inbound.irregularities.record(Irregularity::TextId);
        Some(number)
    }

    fn noticed(&self, notice: Notice) -> Taken {
        let mut inner = self.lock();
        let mut taken = Taken::OfItsOwn;
        let told = match notice.method.as_str() {
            PROGRESS => {
                let waiting = notice.params.as_deref().and_then(progress::request_of);
                match waiting.and_then(|id| inner.waiting.get(&id)) {
                    Some(waiting) => {
                        taken = Taken::OnTheWay;
                        waiting.inbox.put(Letter::Notice(notice)).map_err(drop)
                    }
                    None => {
                        self.inbound.irregularities.record(Irregularity::UnknownProgressToken);
                        Err(())
                    }
                }
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
    /// The request in flight, if there is only one.
    fn only_one(&self) -> Option<RequestId> {
        match self.waiting.len() {
            1 => self.waiting.keys().next().cloned(),
            _ => None,
        }
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

/// Whether an error is one about a request that could not be read.
fn is_about_an_unreadable_request(error: &RawValue) -> bool {
    RpcError::parse(error).is_some_and(|error| matches!(error.code, PARSE_ERROR | INVALID_REQUEST))
}

fn subscription_of(params: &RawValue) -> Option<RequestId> {
    let params = RawObject::parse(params).ok()?;
    let id = RequestId::read(RawObject::parse(params.get("_meta")?).ok()?.get(META_SUBSCRIPTION_ID)?)?;
    // Identifiers of the gateway are numbers, which some servers repeat as strings.
    Some(id.number_in_text().unwrap_or(id))
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
