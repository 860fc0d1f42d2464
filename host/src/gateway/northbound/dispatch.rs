//! Which method is answered by what, and what becomes of an answer whose client is gone.

use std::sync::Arc;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::in_flight::InFlight;
use super::log_level::{LogLevel, WantedLogs};
use super::outlet::Outlet;
use super::relay::Relay;
use super::session::Session;
use super::{calls, hello, listen, lists, wants};
use crate::connectors::Caller;
use crate::gateway::embed::Gateway;
use crate::gateway::visitor::Visitor;
use crate::mcp::protocol::{
    COMPLETION_COMPLETE, Era, INITIALIZE, LOGGING_SET_LEVEL, META_LOG_LEVEL, PING, PROMPTS_GET, RESOURCES_READ,
    RESOURCES_SUBSCRIBE, RESOURCES_UNSUBSCRIBE, SERVER_DISCOVER, SUBSCRIPTIONS_LISTEN, TOOLS_CALL,
};
use crate::mcp::server::meta_of;
use crate::mcp::{Outcome, RequestId};
use crate::model::ListKind;
use crate::model::raw::{self, RawObject};
use crate::telemetry::CallOutcome;

/// A request that passed the rules of its era.
pub(in crate::gateway) struct Asked {
    pub(in crate::gateway) id: RequestId,
    pub(in crate::gateway) era: Era,
    pub(in crate::gateway) visitor: Visitor,
    pub(in crate::gateway) method: String,
    pub(in crate::gateway) params: RawObject,
    /// The session that it is made in; legacy.
    pub(in crate::gateway) session: Option<Arc<Session>>,
    /// Where messages go that come before the answer; none if the client takes none.
    pub(in crate::gateway) outlet: Option<Outlet>,
    /// Where the client takes requests back, if it can.
    pub(in crate::gateway) in_flight: Option<Arc<InFlight>>,
    /// Cancelled when streams without an end of their own must end.
    pub(in crate::gateway) ending: CancellationToken,
}

impl Asked {
    /// Takes what servers say before they answer.
    pub(super) fn relay(&self) -> Relay {
        let logs = match (self.era, &self.session) {
            (Era::Modern, _) => self.own_level().map_or(WantedLogs::None, WantedLogs::AtLeast),
            (Era::Legacy, Some(session)) => session.logs(),
            (Era::Legacy, None) => WantedLogs::AsSent,
        };
        let answering = self.session.as_ref().zip(self.outlet.as_ref());
        let answering = answering.map(|(session, outlet)| session.answering(outlet));
        Relay { outlet: self.outlet.clone(), logs, session: self.session.clone(), _answering: answering }
    }

    /// The client as connectors know it.
    pub(super) fn caller<'a>(&'a self, relay: &'a Relay) -> Caller<'a> {
        Caller { interim: relay, own: self.session.as_ref().and_then(|session| session.own()) }
    }

    /// The level of log messages that a modern request names.
    pub(super) fn own_level(&self) -> Option<LogLevel> {
        LogLevel::named(&meta_of(&self.params).get_str(META_LOG_LEVEL)?)
    }

    /// The parameters for a server: those of the client, and the level that its session wants, for servers that are told
    /// with each request. Legacy servers are not shown it.
    pub(super) fn params(&self) -> RawObject {
        let mut params = self.params.clone();
        let logs = self.session.as_ref().map(|session| session.logs());
        if let (Era::Legacy, Some(WantedLogs::AtLeast(level))) = (self.era, logs) {
            let mut meta = meta_of(&params);
            meta.set(META_LOG_LEVEL, raw::string(level.as_str()));
            params.set("_meta", meta.to_raw());
        }
        params
    }
}

/// The methods that are served; metrics name no others.
const METHODS: [&str; 15] = [
    INITIALIZE,
    SERVER_DISCOVER,
    PING,
    "tools/list",
    "prompts/list",
    "resources/list",
    "resources/templates/list",
    TOOLS_CALL,
    PROMPTS_GET,
    RESOURCES_READ,
    COMPLETION_COMPLETE,
    RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE,
    LOGGING_SET_LEVEL,
    SUBSCRIPTIONS_LISTEN,
];

/// A method as metrics name it.
fn known_method(method: &str) -> &'static str {
    METHODS.into_iter().find(|known| *known == method).unwrap_or("other")
}

/// Whether a method is one that a connector answers.
pub(in crate::gateway) fn is_passed_on(method: &str) -> bool {
    matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ | COMPLETION_COMPLETE)
}

/// Answers a request. Ends without an answer if the client takes the request back, or was cut off; what was asked of a
/// server is cancelled then. Its deadline is the connector's; a subscription has none.
pub(in crate::gateway) async fn answer(gateway: Gateway, asked: Asked) -> Answer {
    let started = Instant::now();
    let method = known_method(&asked.method);
    let (place, outlet) = (asked.in_flight.as_ref().map(|all| all.begin(&asked.id)), asked.outlet.clone());
    let taken_back = async {
        match &place {
            Some(place) => place.cancelled().await,
            None => std::future::pending().await,
        }
    };
    let cut_off = async {
        match &outlet {
            Some(outlet) => outlet.was_cut().await,
            None => std::future::pending().await,
        }
    };
    let answer = tokio::select! {
        biased;
        () = taken_back => Answer::none(),
        () = cut_off => Answer::none(),
        answer = dispatch(&gateway, asked) => answer,
    };
    let outcome = match &answer.outcome {
        Some(Outcome::Result(_)) => CallOutcome::Result,
        Some(Outcome::Error(_)) | None => CallOutcome::Failed,
    };
    gateway.inner.parts.metrics.served(method, started.elapsed(), outcome);
    answer
}

async fn dispatch(gateway: &Gateway, asked: Asked) -> Answer {
    if let Some(kind) = ListKind::ALL.into_iter().find(|kind| kind.method() == asked.method) {
        return lists::list(gateway, &asked, kind).await;
    }
    match (asked.method.as_str(), asked.era) {
        (INITIALIZE, Era::Legacy) => hello::initialize(gateway, &asked).await,
        (SERVER_DISCOVER, Era::Modern) => hello::discover(gateway, &asked).await,
        (PING, Era::Legacy) => Answer::result(raw::empty_object()),
        (TOOLS_CALL, _) => calls::tool(gateway, &asked).await,
        (PROMPTS_GET, _) => calls::prompt(gateway, &asked).await,
        (RESOURCES_READ, _) => calls::resource(gateway, &asked).await,
        (COMPLETION_COMPLETE, _) => calls::completion(gateway, &asked).await,
        (RESOURCES_SUBSCRIBE, Era::Legacy) => wants::subscribe(gateway, &asked).await,
        (RESOURCES_UNSUBSCRIBE, Era::Legacy) => wants::unsubscribe(&asked),
        (LOGGING_SET_LEVEL, Era::Legacy) => wants::set_level(gateway, &asked).await,
        (SUBSCRIPTIONS_LISTEN, Era::Modern) => listen::listen(gateway, &asked).await,
        _ => Answer::unknown_method(),
    }
}
