//! A session with one server: requests in the server's era, tool lists, and what a refusal means.
//!
//! Used concurrently. A request that is dropped is cancelled: its stream closes, and a legacy server is told. The only
//! requests made again are calls that a modern server refused because its header annotations had changed.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use http::{HeaderMap, StatusCode};
use serde_json::value::RawValue;

use super::discovery::{discover, modern_headers, offers_our_version};
use super::exchange::Reply;
use super::facts::ServerFacts;
use super::handshake::{LegacySession, rpc_error};
use super::link::Link;
use super::listing::{LeftOut, ListEnd, Listed, Listing, key_of};
use super::meta;
use super::mirror::{self, Mirrors};
use super::progress::{self, ProgressTokens};
use super::stream::{Purpose, Way};
use super::verdict::{Answered, is_redirect, judge_legacy, judge_modern, may_work_on, speaks_of_the_request};
use crate::mcp::envelope::{Outcome, RequestId, RpcError, notification_bytes, request_bytes};
use crate::mcp::error::{ProtocolFault, WireError};
use crate::mcp::hops;
use crate::mcp::inbound::Irregularity;
use crate::mcp::interim::{Interim, Nobody};
use crate::mcp::limits::TIDYING_DEADLINE;
use crate::mcp::protocol::{
    Era, HEADER_MISMATCH, NAME_HEADER, PING, SUBSCRIPTIONS_LISTEN, TOOLS_CALL, VERSION_2026_07_28, encode_header_value,
    name_member,
};
use crate::mcp::request_members::Members as _;
use crate::mcp::trace_context;
use crate::model::ListKind;
use crate::model::raw::{self, RawObject};

/// A session with one server. Dropping it closes a legacy session in the background; [`Self::close`] waits for that.
#[derive(Debug)]
pub struct Session {
    link: Link,
    ids: RequestIds,
    kind: Kind,
    facts: OnceLock<ServerFacts>,
    mirrors: Mirrors,
    progress: ProgressTokens,
    /// Whether the server may be of another era after all.
    is_doubtful: bool,
    /// What `notifications/initialized` was answered with, where that was an error, until it is reported.
    refused_confirmation: Mutex<Option<WireError>>,
}

/// Ids that are never used twice within a session.
#[derive(Debug, Default)]
pub(super) struct RequestIds(AtomicU64);

#[derive(Debug)]
enum Kind {
    /// `proven` once an answer showed that the server speaks the modern era.
    Modern {
        proven: AtomicBool,
    },
    Legacy(LegacySession),
}

impl RequestIds {
    pub(super) fn next(&self) -> RequestId {
        RequestId::from_number(self.0.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

impl Session {
    pub(super) fn modern(link: Link, ids: RequestIds, proven: bool, facts: Option<ServerFacts>) -> Self {
        Self::new(link, ids, Kind::Modern { proven: AtomicBool::new(proven) }, facts)
    }

    pub(super) fn legacy(link: Link, ids: RequestIds, session: LegacySession, facts: ServerFacts) -> Self {
        Self::new(link, ids, Kind::Legacy(session), Some(facts))
    }

    fn new(link: Link, ids: RequestIds, kind: Kind, facts: Option<ServerFacts>) -> Self {
        let facts = facts.map_or_else(OnceLock::new, OnceLock::from);
        Self {
            link,
            ids,
            kind,
            facts,
            mirrors: Mirrors::default(),
            progress: ProgressTokens::default(),
            is_doubtful: false,
            refused_confirmation: Mutex::default(),
        }
    }

    /// Which era the session is of.
    pub fn era(&self) -> Era {
        match self.kind {
            Kind::Modern { .. } => Era::Modern,
            Kind::Legacy(_) => Era::Legacy,
        }
    }

    /// The same session, whose server may be of another era: it left the question unanswered.
    pub(super) fn of_doubtful_era(self) -> Self {
        Self { is_doubtful: true, ..self }
    }

    /// The same session, whose server refused `notifications/initialized`.
    pub(super) fn with_refused_confirmation(self, error: WireError) -> Self {
        Self { refused_confirmation: Mutex::new(Some(error)), ..self }
    }

    /// The error that `notifications/initialized` was answered with; once.
    pub fn take_refused_confirmation(&self) -> Option<WireError> {
        self.refused_confirmation.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The era to open the next session in, without asking; none: ask again, since what was asked now had no answer.
    pub fn era_to_remember(&self) -> Option<Era> {
        (!self.is_doubtful).then(|| self.era())
    }

    /// The protocol version of the session.
    pub fn protocol_version(&self) -> &str {
        match &self.kind {
            Kind::Modern { .. } => VERSION_2026_07_28,
            Kind::Legacy(session) => session.version(),
        }
    }

    /// What the server said of itself, once it said so. A remembered modern server has not been asked.
    pub fn facts(&self) -> Option<&ServerFacts> {
        self.facts.get()
    }

    /// Asks a modern server what it says of itself, unless that is known. A server that refuses to say may still serve
    /// everything else: that it is not modern, only other requests show.
    ///
    /// # Errors
    /// [`WireError`]; never [`WireError::WrongEra`].
    pub async fn learn(&self) -> Result<(), WireError> {
        let Kind::Modern { proven } = &self.kind else { return Ok(()) };
        if self.facts.get().is_some() {
            return Ok(());
        }
        let facts = discover(&self.link, &self.ids).await?;
        proven.store(true, Ordering::Relaxed);
        // Who was first is as good as who is next.
        drop(self.facts.set(facts.unwrap_or_default()));
        Ok(())
    }

    /// Asks for any answer: a ping, or in the modern era, which has none, what the server says of itself.
    ///
    /// # Errors
    /// [`WireError`]; one that is not [`WireError::Rpc`] is no answer.
    pub async fn ping(&self) -> Result<(), WireError> {
        match &self.kind {
            Kind::Legacy(_) => self.request(PING, RawObject::new(), &Nobody).await.map(drop),
            Kind::Modern { .. } => discover(&self.link, &self.ids).await.map(drop),
        }
    }

    /// Whether everything that the server sends comes on one stream: then what tells requests apart must be unique on it.
    pub fn is_shared_stream(&self) -> bool {
        self.link.is_shared_stream()
    }

    /// Returns when the session can not be used any more because its process or its stream has ended. One over Streamable HTTP
    /// never ends like that.
    pub async fn ended(&self) {
        self.link.ended().await;
    }

    /// Returns when nothing is left of the process or stream of a session that has ended, which is bounded by the time that
    /// a process is given to end.
    pub async fn gone(&self) {
        self.link.gone().await;
    }

    /// Whether it has.
    pub fn has_ended(&self) -> bool {
        self.link.has_ended()
    }

    /// Whether a request that may be repeated and failed like this ends the session: real servers answer an unknown session with
    /// almost any status. 429 shows nothing about it. 401 and 403 end a session that has answered before, so once: it is the
    /// credential that the next one would fail by, too. A modern session has nothing to lose but its era.
    pub fn is_given_up_after(&self, error: &WireError) -> bool {
        let Kind::Legacy(session) = &self.kind else {
            return matches!(error, WireError::Status { status, .. } if speaks_of_the_request(*status));
        };
        match error {
            WireError::Status { status: StatusCode::TOO_MANY_REQUESTS, .. } => false,
            WireError::Status { status, .. } => !is_credential_refusal(*status) || session.has_answered(),
            // A page of text, an empty answer.
            WireError::Protocol(
                ProtocolFault::ContentType(_)
                | ProtocolFault::NoAnswer
                | ProtocolFault::NotAResponse
                | ProtocolFault::WrongId
                | ProtocolFault::Envelope(_),
            ) => session.has_id() && session.has_answered(),
            error => is_redirect(error),
        }
    }

    /// The same, of sessions of both kinds and of a server that turns out to be of the other era.
    pub fn is_over_after(&self, error: &WireError) -> bool {
        matches!(error, WireError::SessionLost | WireError::WrongEra) || self.is_given_up_after(error)
    }

    /// Lists everything of a kind, page by page. In the modern era, tools that misuse `x-mcp-header` are left out, as the
    /// specification demands; what is left out is to be logged by whoever lists.
    ///
    /// # Errors
    /// [`WireError`]; a JSON-RPC error is [`WireError::Rpc`].
    pub async fn list(&self, kind: ListKind) -> Result<Listed, WireError> {
        let mut listing = Listing::new(kind);
        let mut next = Some(RawObject::new());
        while let Some(params) = next {
            match self.ask(kind.method(), &self.prepare(params), &Nobody, Purpose::Answer).await? {
                Outcome::Result(page) => next = listing.add(&page)?,
                Outcome::Error(_) if self.era() == Era::Legacy && listing.ends_when_refused() => next = None,
                Outcome::Error(error) => return Err(rpc_error(&error)),
            }
        }
        let (mut listed, end) = listing.finish();
        if end == ListEnd::Repeats {
            self.link.inbound().irregularities.record(Irregularity::RepeatedCursor);
        }
        let items = match (&self.kind, kind) {
            (Kind::Modern { .. }, ListKind::Tools) => {
                let mut found = HashMap::new();
                let tools = mirror::sift(listed.items, &mut found, &mut listed.left_out);
                self.mirrors.replace(found);
                tools
            }
            _ => listed.items.into_iter().map(|(_, item)| item).collect(),
        };
        Ok(Listed { items, ttl_ms: listed.ttl_ms, scope: listed.scope, pages: listed.pages, left_out: listed.left_out })
    }

    /// Tells the session about tools that were listed before, by another session or another process, so that calls
    /// mirror their arguments into headers without a list of their own. What can not be read is skipped.
    pub fn remember_tools<'a>(&self, tools: impl IntoIterator<Item = &'a RawValue>) {
        if self.era() == Era::Modern {
            let tools =
                tools.into_iter().filter_map(|tool| Some((key_of(ListKind::Tools, tool)?, tool.to_owned()))).collect();
            let mut found = HashMap::new();
            mirror::sift(tools, &mut found, &mut LeftOut::default());
            self.mirrors.replace(found);
        }
    }

    /// Makes one request and returns its result or its JSON-RPC error as they came; what the server says and asks on the way
    /// goes to `interim`. `_meta` and headers are completed for the era; everything else in `params` goes out as it is.
    ///
    /// # Errors
    /// [`WireError`] if there is neither; never [`WireError::Rpc`].
    pub async fn request(&self, method: &str, params: RawObject, interim: &dyn Interim) -> Result<Outcome, WireError> {
        self.request_with(method, params, &HeaderMap::new(), interim).await.result
    }

    /// The same, with the trace context in the headers of the client's request, and with what the answer shows about the session.
    /// A pipe has no headers for each request: there it goes into `_meta`.
    pub async fn request_with(
        &self,
        method: &str,
        mut params: RawObject,
        headers: &HeaderMap,
        interim: &dyn Interim,
    ) -> Answered {
        if self.link.is_shared_stream() {
            trace_context::move_into_meta(headers, &mut params);
        }
        let params = self.prepare(params);
        let answered = self.ask_with(method, &params, headers, interim, Purpose::Answer).await;
        let code = answered.result.as_ref().ok().and_then(code_of);
        if method != TOOLS_CALL || self.era() == Era::Legacy || code != Some(HEADER_MISMATCH) {
            return answered;
        }
        // The annotations may have changed since the last list (2026-07-28, Streamable HTTP, Client Behavior). Refused
        // before it was carried out, so made again, if there is anything to make differently.
        let tool = member_text(&params, "name").unwrap_or_default();
        let before = self.mirrors.of(&tool);
        if self.list(ListKind::Tools).await.is_err() || self.mirrors.of(&tool) == before {
            return answered;
        }
        self.ask_with(method, &params, headers, interim, Purpose::Answer).await
    }

    /// Passes on what the server sends that belongs to no request, until it ends the stream: changes of its lists, and
    /// updates of `resources`. A legacy server sends what it likes on its session's own stream; a modern one is asked for
    /// what `changes` and `resources` name.
    ///
    /// # Errors
    /// [`WireError`], if the server has no such stream, or the stream breaks.
    pub async fn listen(
        &self,
        changes: &[ListKind],
        resources: &[String],
        interim: &dyn Interim,
    ) -> Result<(), WireError> {
        match &self.kind {
            Kind::Legacy(session) => {
                let interim = self.progress.of_session(interim, &self.link.inbound().irregularities);
                let listened = self.link.listen(session.headers(), &interim).await;
                if matches!(listened, Err(WireError::SessionLost)) {
                    session.lost();
                }
                listened
            }
            Kind::Modern { .. } => {
                // The stream is the gateway's own, whichever clients' subscriptions it carries.
                let params = self.prepare(hops::with(meta::listen_params(changes, resources), 1));
                match self.ask(SUBSCRIPTIONS_LISTEN, &params, interim, Purpose::Listening).await? {
                    Outcome::Result(_) => Ok(()),
                    Outcome::Error(error) => Err(rpc_error(&error)),
                }
            }
        }
    }

    /// Sends a notification to a legacy server, as it is; a modern one takes none.
    ///
    /// # Errors
    /// [`WireError`], if it can not be delivered.
    pub async fn tell(&self, method: &str, params: Option<&RawValue>) -> Result<(), WireError> {
        match &self.kind {
            Kind::Legacy(session) => self.link.tell(session.headers(), notification_bytes(method, params)).await,
            Kind::Modern { .. } => Ok(()),
        }
    }

    /// Ends the session, best effort and bounded: a legacy one with an id is deleted, a pipe is closed with everything behind
    /// it; a modern one over HTTP needs nothing.
    pub async fn close(&self) {
        match &self.kind {
            Kind::Legacy(session) => session.close().await,
            Kind::Modern { .. } if self.link.is_shared_stream() => {
                let none = HeaderMap::new();
                drop(tokio::time::timeout(TIDYING_DEADLINE, self.link.end(&none)).await);
            }
            Kind::Modern { .. } => {}
        }
    }

    fn prepare(&self, params: RawObject) -> Box<RawValue> {
        match self.kind {
            Kind::Modern { .. } => meta::modern(params),
            Kind::Legacy(_) => meta::legacy(params),
        }
    }

    async fn ask(
        &self,
        method: &str,
        params: &RawValue,
        interim: &dyn Interim,
        purpose: Purpose,
    ) -> Result<Outcome, WireError> {
        self.ask_with(method, params, &HeaderMap::new(), interim, purpose).await.result
    }

    async fn ask_with(
        &self,
        method: &str,
        params: &RawValue,
        more: &HeaderMap,
        interim: &dyn Interim,
        purpose: Purpose,
    ) -> Answered {
        match &self.kind {
            Kind::Modern { proven } => {
                let mut headers = self.headers(method, params);
                headers.extend(more.clone());
                let way = Way { interim, back: None, purpose };
                let mut reply = self.ask_once(&headers, way, method, params, &self.ids.next()).await;
                if matches!(&reply, Ok(Reply { outcome: Outcome::Error(error), .. }) if offers_our_version(error)) {
                    reply = self.ask_once(&headers, way, method, params, &self.ids.next()).await;
                }
                let result = judge_modern(proven, method, reply);
                let is_suspect =
                    matches!(&result, Err(WireError::Status { status, .. }) if is_credential_refusal(*status));
                Answered { result, is_suspect }
            }
            Kind::Legacy(session) => {
                let id = self.ids.next();
                let guard = session.cancel_on_drop(&id);
                let own = session.headers();
                let mut headers = own.clone();
                headers.extend(more.clone());
                let way = Way { interim, back: Some(own), purpose };
                let reply = self.ask_once(&headers, way, method, params, &id).await;
                if !reply.as_ref().is_err_and(may_work_on) {
                    guard.disarm();
                }
                judge_legacy(session, method, reply)
            }
        }
    }

    async fn ask_once(
        &self,
        headers: &HeaderMap,
        way: Way<'_>,
        method: &str,
        params: &RawValue,
        id: &RequestId,
    ) -> Result<Reply, WireError> {
        let irregularities = &self.link.inbound().irregularities;
        let Some((params, own)) = progress::ask(method, params, id) else {
            let interim = progress::of_request(None, way.interim, irregularities);
            let way = Way { interim: &interim, ..way };
            return self.link.ask(headers, way, id, request_bytes(id, method, Some(params))).await;
        };
        let interim = progress::of_request(Some((id, own.as_deref())), way.interim, irregularities);
        let way = Way { interim: &interim, ..way };
        let under_way = self.progress.enter(id);
        tokio::select! {
            biased;
            reply = self.link.ask(headers, way, id, request_bytes(id, method, Some(&params))) => reply,
            never = under_way.pass_on(&interim) => match never {},
        }
    }

    fn headers(&self, method: &str, params: &RawValue) -> HeaderMap {
        let mut headers = modern_headers(method);
        let Some(member) = name_member(method) else { return headers };
        let Ok(params) = RawObject::parse(params) else { return headers };
        let Some(name) = params.get_str(member.key()) else { return headers };
        headers.insert(NAME_HEADER, encode_header_value(&name));
        if method == TOOLS_CALL
            && let Some(mirrors) = self.mirrors.of(&name)
        {
            mirror::add_headers(&mirrors, params.get("arguments"), &mut headers);
        }
        headers
    }
}

/// Whether a status refuses the sender's credential.
fn is_credential_refusal(status: StatusCode) -> bool {
    matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
}

fn code_of(outcome: &Outcome) -> Option<i64> {
    match outcome {
        Outcome::Result(_) => None,
        Outcome::Error(error) => RpcError::parse(error).map(|error| error.code),
    }
}

fn member_text(params: &RawValue, key: &str) -> Option<String> {
    RawObject::parse(params).ok()?.get(key).and_then(raw::as_text)
}
