//! A legacy client's session: what it can do, which messages it wants, its requests and its streams.
//!
//! A session is a few hundred bytes and no task; only while it has a stream of its own is there one, which tells it the
//! news. Nothing here knows of HTTP: a client on stdio has one such session.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::aside::Aside;
use super::held_bytes::Held;
use super::in_flight::InFlight;
use super::links::Links;
use super::log_level::WantedLogs;
use super::news::{Interest, News};
use super::outlet::Outlet;
use super::questions::Questions;
use super::resumable::{self, Streams};
use super::subscriptions::Subscriptions;
use crate::catalog::{Route, View};
use crate::connectors::{LogWish, OwnSessions, ResourceWish, ServerEvent};
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::gateway::visitor::Visitor;
use crate::mcp::envelope::notification_bytes;
use crate::mcp::protocol::{
    ELICITATION_CREATE, LOG_MESSAGE, ROOTS_CHANGED, ROOTS_LIST, SAMPLING_CREATE, VERSION_2025_03_26, VERSION_2025_11_25,
};
use crate::mcp::request_members::{CapabilitiesMember, Members as _, ParamsMember, RequestParams};
use crate::mcp::{Declared, Notice, Outcome, Question, RequestId, interim};
use crate::model::raw::{self, RawObject};
use crate::model::{BootMs, Digest, ListKind, Severity};

/// What a client may be asked, and the capability that it declares for that.
const QUESTIONS: [(&str, CapabilitiesMember); 3] = [
    (SAMPLING_CREATE, CapabilitiesMember::Sampling),
    (ELICITATION_CREATE, CapabilitiesMember::Elicitation),
    (ROOTS_LIST, CapabilitiesMember::Roots),
];

/// A session.
pub(in crate::gateway) struct Session {
    /// What the client names it by; nobody can guess it.
    pub(in crate::gateway) id: String,
    /// Whose it is: the name of the token that opened it.
    token: Option<Arc<str>>,
    /// The client's own sessions with servers; none if it can do nothing but wait for answers.
    own: Option<OwnSessions>,
    /// Which of [`QUESTIONS`] the client declared that it answers.
    answers: [bool; QUESTIONS.len()],
    /// What is known of the client.
    facts: Held,
    /// The resources that results named to the client.
    links: Arc<Links>,
    pub(in crate::gateway) in_flight: Arc<InFlight>,
    questions: Questions,
    /// Whether the client knows that streams can be resumed, and does not trip over events without a message.
    pub(in crate::gateway) resumes: bool,
    /// Whether the client may send several messages as one.
    pub(in crate::gateway) takes_batches: bool,
    streams: Mutex<Streams>,
    state: Mutex<State>,
    used: AtomicU64,
    /// Notified when a stream is closed: what tells the news does not hold it open.
    closed_stream: Notify,
    ended: CancellationToken,
}

struct State {
    view: View,
    logs: WantedLogs,
    log_wish: Option<LogWish>,
    subscriptions: Subscriptions,
    /// What the client knows each list to be.
    known: [Digest; 4],
    streams: Vec<(u64, Outlet)>,
    /// Where requests are answered now.
    answering: Vec<(u64, Outlet)>,
    opened: u64,
    /// Whether a task tells it the news.
    told: bool,
    roots: Roots,
}

/// What servers know of a client's roots.
enum Roots {
    Told,
    /// By a task.
    BeingTold,
    /// While they are being told of the change before; with the parameters of the last one.
    ChangedAgain(Option<Box<RawValue>>),
}

/// A stream that a session holds open. Dropping it closes it.
pub(in crate::gateway) struct OpenStream {
    session: Arc<Session>,
    number: u64,
}

impl Session {
    /// A session for a client that says this of itself in `initialize`.
    pub(super) fn open(gateway: &Gateway, visitor: &Visitor, version: &str, params: &RequestParams) -> Arc<Self> {
        let said = params.object(ParamsMember::Capabilities).unwrap_or_default();
        let mut capabilities = RawObject::new();
        for (_, capability) in QUESTIONS {
            if let Some(declared) = said.get(capability).filter(|declared| raw::is_object(declared)) {
                capabilities.set(capability.key(), declared.to_owned());
            }
        }
        let answers = QUESTIONS.map(|(_, capability)| capabilities.get(capability.key()).is_some());
        let info = params.get(ParamsMember::ClientInfo).filter(|info| raw::is_object(info)).map(ToOwned::to_owned);
        let declared = Declared { capabilities: capabilities.to_raw(), info };
        let info = declared.info.as_ref().map_or(0, |info| info.get().len());
        let held = &gateway.inner.northbound.held;
        let facts = held.hold(if capabilities.is_empty() { 0 } else { declared.capabilities.get().len() + info });
        let own = (!capabilities.is_empty()).then(|| OwnSessions::new(declared));
        let own = |session: &Weak<Self>| own.map(|own| own.with_messages(Arc::new(Aside(session.clone()))));
        let served = gateway.snapshot().served(&visitor.view);
        let state = State {
            view: visitor.view.clone(),
            logs: WantedLogs::AsSent,
            log_wish: None,
            subscriptions: Subscriptions::none(held.clone()),
            known: ListKind::ALL.map(|kind| served.list(kind).digest()),
            streams: Vec::new(),
            answering: Vec::new(),
            opened: 0,
            told: false,
            roots: Roots::Told,
        };
        let edge = &gateway.inner.parts.edge;
        Arc::new_cyclic(|session| Self {
            id: edge.entropy.unguessable(),
            token: visitor.token.clone(),
            own: own(session),
            answers,
            facts,
            links: gateway.inner.northbound.session_links(),
            in_flight: Arc::default(),
            questions: Questions::default(),
            resumes: version == VERSION_2025_11_25,
            takes_batches: version == VERSION_2025_03_26,
            streams: Mutex::default(),
            state: Mutex::new(state),
            used: AtomicU64::new(edge.clock.boot().0),
            closed_stream: Notify::new(),
            ended: visitor.grant.child_token(),
        })
    }

    /// Whether it belongs to whoever asks.
    pub(super) fn is_of(&self, visitor: &Visitor) -> bool {
        self.token == visitor.token
    }

    /// The token that opened it.
    pub(super) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// Notes that it was used, and what its client may see now.
    pub(super) fn touch(&self, visitor: &Visitor, now: BootMs) {
        self.used.fetch_max(now.0, Ordering::Relaxed);
        let mut state = self.lock();
        if state.view != visitor.view {
            state.view = visitor.view.clone();
        }
    }

    /// When it was last used, as far as that was noticed.
    pub(super) fn last_used(&self) -> BootMs {
        BootMs(self.used.load(Ordering::Relaxed))
    }

    /// How long it has not been used; none while it is in use.
    pub(super) fn idle(&self, now: BootMs) -> Option<Duration> {
        resumable::forget(self, now);
        if self.in_flight.count() > 0 || !self.lock().streams.is_empty() {
            self.used.fetch_max(now.0, Ordering::Relaxed);
            return None;
        }
        Some(now.since(BootMs(self.used.load(Ordering::Relaxed))))
    }

    /// The client's own sessions with servers.
    pub(super) fn own(&self) -> Option<&OwnSessions> {
        self.own.as_ref()
    }

    /// The resources that results named to the client.
    pub(super) fn links(&self) -> &Arc<Links> {
        &self.links
    }

    /// Which log messages it wants.
    pub(super) fn logs(&self) -> WantedLogs {
        self.lock().logs
    }

    /// Wants log messages of a level and above from now on. Its own sessions with servers are told; bounded by their
    /// deadline.
    pub(super) async fn set_level(&self, level: Severity, wish: LogWish) {
        {
            let mut state = self.lock();
            state.logs = WantedLogs::AtLeast(level);
            state.log_wish = Some(wish);
        }
        if let Some(own) = &self.own {
            own.set_log_level(level.as_str()).await;
        }
    }

    /// The client's roots have changed: its own sessions with servers are told, in the background and bounded by their
    /// deadline. However often that is said meanwhile, they are told once more.
    pub(in crate::gateway) fn roots_changed(self: &Arc<Self>, gateway: &Gateway, params: Option<Box<RawValue>>) {
        let mut state = self.lock();
        if self.own.is_none() {
            return;
        }
        match &mut state.roots {
            Roots::Told => state.roots = Roots::BeingTold,
            roots @ (Roots::BeingTold | Roots::ChangedAgain(_)) => {
                *roots = Roots::ChangedAgain(params);
                return;
            }
        }
        drop(state);
        gateway.inner.northbound.tasks.spawn(self.clone().tell_roots(params));
    }

    async fn tell_roots(self: Arc<Self>, mut params: Option<Box<RawValue>>) {
        let Some(own) = &self.own else { return };
        loop {
            own.tell(ROOTS_CHANGED, params.as_deref()).await;
            let mut state = self.lock();
            match std::mem::replace(&mut state.roots, Roots::BeingTold) {
                Roots::ChangedAgain(later) => params = later,
                Roots::Told | Roots::BeingTold => {
                    state.roots = Roots::Told;
                    return;
                }
            }
        }
    }

    /// Room for a subscription to one more resource; none if there is none.
    pub(super) fn room_for(&self, uri: &str) -> Option<Held> {
        self.lock().subscriptions.room_for(uri)
    }

    /// The bytes that are held for its client between requests.
    pub(super) fn bytes(&self) -> usize {
        self.facts.bytes() + self.lock().subscriptions.bytes()
    }

    /// Wants the updates of a resource from now on.
    pub(super) fn subscribe(&self, uri: String, at: Route, wish: ResourceWish, held: Held) {
        self.lock().subscriptions.add(uri, at, wish, held);
    }

    /// Wants them no more.
    pub(super) fn unsubscribe(&self, uri: &str) {
        self.lock().subscriptions.remove(uri);
    }

    /// The client was given a list: it is not told of that state of it any more.
    pub(super) fn saw(&self, kind: ListKind, digest: Digest) {
        self.lock().known[kind as usize] = digest;
    }

    /// Asks the client on one of its streams, if it declared that it answers such questions.
    pub(super) async fn ask(&self, outlet: &Outlet, question: Question) -> Outcome {
        let declared = QUESTIONS.iter().zip(self.answers).filter(|(_, answers)| *answers);
        if declared.map(|((method, _), _)| *method).all(|method| method != question.method) {
            return interim::refusal();
        }
        tokio::select! {
            () = self.ended.cancelled() => interim::refusal(),
            outcome = self.questions.ask(outlet, question) => outcome,
        }
    }

    /// Notes that a request is being answered there: also what belongs to no request may be said there meanwhile.
    pub(super) fn answering(self: &Arc<Self>, outlet: &Outlet) -> Answering {
        let mut state = self.lock();
        state.opened += 1;
        let number = state.opened;
        state.answering.push((number, outlet.clone()));
        Answering { session: self.clone(), number }
    }

    /// The client answered a question.
    pub(in crate::gateway) fn answered(&self, id: &RequestId, outcome: Outcome) {
        self.questions.answered(id, outcome);
    }

    /// Opens a stream for news; none if there are too many, or the session is over. News go to the newest one.
    pub(in crate::gateway) fn open_stream(self: &Arc<Self>, gateway: &Gateway, outlet: Outlet) -> Option<OpenStream> {
        let mut state = self.lock();
        state.streams.retain(|(_, outlet)| !outlet.is_gone());
        if state.streams.len() >= limits::SESSION_STREAMS_MAX || self.ended.is_cancelled() {
            return None;
        }
        state.opened += 1;
        let number = state.opened;
        state.streams.push((number, outlet));
        if !std::mem::replace(&mut state.told, true) {
            gateway.inner.northbound.tasks.spawn(tell_news(gateway.for_task(), self.clone()));
        }
        Some(OpenStream { session: self.clone(), number })
    }

    /// Works on the streams that its client may come back for.
    pub(super) fn streams<T>(&self, work: impl FnOnce(&mut Streams) -> T) -> T {
        work(&mut self.streams.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is over.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Returns when it is over.
    pub(in crate::gateway) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Ends it: its requests are taken back, its streams close, its sessions with servers end. Bounded by the latter's
    /// deadline.
    pub(in crate::gateway) async fn close(&self) {
        self.ended.cancel();
        self.in_flight.cancel_all();
        {
            let mut state = self.lock();
            state.streams.clear();
            state.subscriptions.clear();
            state.log_wish = None;
        }
        drop(self.streams(std::mem::take));
        if let Some(own) = &self.own {
            own.close().await;
        }
    }

    /// Where news go now: the newest stream that is open.
    fn newest(&self) -> Option<Outlet> {
        self.lock().newest()
    }

    /// The same, for the task that tells the news: without a stream there is nobody to tell, and it ends.
    fn goes_on(&self) -> Option<Outlet> {
        let mut state = self.lock();
        let newest = state.newest();
        state.told = newest.is_some();
        newest
    }

    /// Where to say what belongs to no request: on the newest stream, else beside the newest request.
    pub(super) fn anywhere(&self) -> Option<Outlet> {
        self.newest().or_else(|| {
            let state = self.lock();
            state.answering.iter().rev().find(|(_, outlet)| !outlet.is_gone()).map(|(_, outlet)| outlet.clone())
        })
    }

    /// Tells the client something, on its newest stream. If it has none any more, it has not seen the list that changed.
    async fn tell(&self, notice: Notice) {
        let message = notification_bytes(&notice.method, notice.params.as_deref());
        while let Some(outlet) = self.newest() {
            if outlet.send(message.clone()).await.is_ok() {
                return;
            }
        }
        for kind in ListKind::ALL.into_iter().filter(|kind| kind.changed() == notice.method) {
            self.saw(kind, Digest::of(&[]));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn newest(&mut self) -> Option<Outlet> {
        self.streams.retain(|(_, outlet)| !outlet.is_gone());
        self.streams.last().map(|(_, outlet)| outlet.clone())
    }
}

impl Interest for Session {
    fn view(&self) -> View {
        self.lock().view.clone()
    }

    fn list_is(&self, kind: ListKind, digest: Digest) -> bool {
        std::mem::replace(&mut self.lock().known[kind as usize], digest) != digest
    }

    fn told(&self, event: &ServerEvent) -> Vec<Notice> {
        let state = self.lock();
        if !state.view.sees_connector(&event.connector) {
            return Vec::new();
        }
        if event.notice.method == LOG_MESSAGE {
            let params = event.notice.params.as_deref().and_then(|params| RawObject::parse(params).ok());
            // Other clients share these servers: only who asked for messages is told them.
            let wanted = matches!(state.logs, WantedLogs::AtLeast(_)) && state.logs.wants(params.as_ref());
            return wanted.then(|| event.notice.clone()).into_iter().collect();
        }
        let updates = state.subscriptions.updates(event).into_iter();
        let told = updates.map(|params| Notice {
            method: event.notice.method.clone(),
            params: Some(without_subscription(params).to_raw()),
        });
        told.collect()
    }

    fn missed(&self) -> Vec<Notice> {
        self.lock().subscriptions.all_updated()
    }
}

/// An update without the mark of the stream that it came on.
fn without_subscription(mut params: RawObject) -> RawObject {
    use crate::mcp::protocol::META_SUBSCRIPTION_ID;
    let Some(mut meta) = params.get("_meta").and_then(|meta| RawObject::parse(meta).ok()) else { return params };
    if meta.remove(META_SUBSCRIPTION_ID).is_some() {
        match meta.is_empty() {
            true => drop(params.remove("_meta")),
            false => params.set("_meta", meta.to_raw()),
        }
    }
    params
}

/// A request that is being answered.
pub(super) struct Answering {
    session: Arc<Session>,
    number: u64,
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.session.lock().answering.retain(|(number, _)| *number != self.number);
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.session.lock().streams.retain(|(number, _)| *number != self.number);
        self.session.closed_stream.notify_one();
    }
}

impl std::fmt::Debug for Session {
    /// Without the id: who knows it, has the session.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Session").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Tells a session the news, each on exactly one of its streams, as long as it has any.
async fn tell_news(gateway: Gateway, session: Arc<Session>) {
    let mut news = News::new(&gateway);
    while let Some(outlet) = session.goes_on() {
        let told = tokio::select! {
            () = session.ended() => return,
            () = gateway.inner.northbound.closing.cancelled() => return,
            // Another stream may be open, or none.
            () = outlet.gone() => continue,
            () = session.closed_stream.notified() => continue,
            told = news.next(&*session) => told,
        };
        for notice in told {
            session.tell(notice).await;
        }
    }
}
