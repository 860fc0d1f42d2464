//! A request that passed the rules of its era, and what goes with it: who makes it, in which session, and where messages
//! before the answer go.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::in_flight::InFlight;
use super::links::{self, Links};
use super::log_level::WantedLogs;
use super::outlet::Outlet;
use super::relay::Relay;
use super::session::Session;
use crate::connectors::Caller;
use crate::gateway::embed::Gateway;
use crate::gateway::request_body::BodyLease;
use crate::gateway::visitor::Visitor;
use crate::mcp::protocol::{Era, META_LOG_LEVEL};
use crate::mcp::request_members::{MetaMember, RequestParams};
use crate::mcp::server::meta_of;
use crate::mcp::{RequestId, TraceContext};
use crate::model::raw::{self, RawObject};
use crate::model::{Connector, ConnectorId, Severity};
use serde_json::value::RawValue;

/// A request that passed the rules of its era.
pub(in crate::gateway) struct Asked {
    pub(in crate::gateway) id: RequestId,
    pub(in crate::gateway) era: Era,
    pub(in crate::gateway) visitor: Visitor,
    pub(in crate::gateway) method: String,
    pub(in crate::gateway) params: RequestParams,
    /// The session that it is made in; legacy.
    pub(in crate::gateway) session: Option<Arc<Session>>,
    /// The resources that results named to the client, if its connection is its session.
    pub(in crate::gateway) links: Option<Arc<Links>>,
    /// Where messages go that come before the answer; none if the client takes none.
    pub(in crate::gateway) outlet: Option<Outlet>,
    /// Where the client takes requests back, if it can.
    pub(in crate::gateway) in_flight: Option<Arc<InFlight>>,
    /// Cancelled when the client of a legacy request is gone and cannot come back for the answer.
    pub(in crate::gateway) disconnected: CancellationToken,
    /// Cancelled when streams without an end of their own must end.
    pub(in crate::gateway) ending: CancellationToken,
    /// The trace context in its headers.
    pub(in crate::gateway) trace: TraceContext,
    /// The bytes of its body, which are in flight as long as its parameters are held; none where no body came over HTTP.
    pub(in crate::gateway) _lease: Option<BodyLease>,
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
        let own = self.session.as_ref().and_then(|session| session.own());
        Caller { interim: relay, own, trace: Some(&self.trace), disconnected: Some(&self.disconnected) }
    }

    /// Notes the resources that the result of a connector names to the client.
    pub(super) fn note_links(&self, gateway: &Gateway, connector: &Connector, result: &RawValue) {
        if !links::may_name_resources(result) {
            return;
        }
        let now = gateway.inner.parts.edge.clock.boot();
        let of_token = || gateway.inner.northbound.token_links.open(&self.visitor, now);
        if let Some(links) = self.session_links().or_else(|| of_token().filter(|_| self.era == Era::Modern)) {
            links.note(connector, result, now);
        }
    }

    /// Returns the connector whose result named a resource to the client last, if it is the same server still.
    pub(super) fn named_by(&self, gateway: &Gateway, uri: &str) -> Option<ConnectorId> {
        let of_token = || gateway.inner.northbound.token_links.find(&self.visitor);
        let links = self.session_links().or_else(|| of_token().filter(|_| self.era == Era::Modern))?;
        let (connector, server) = links.named_by(uri, gateway.inner.parts.edge.clock.boot())?;
        let is_same = gateway.snapshot().part(&connector).is_some_and(|part| part.connector.server_digest() == server);
        is_same.then_some(connector)
    }

    fn session_links(&self) -> Option<Arc<Links>> {
        self.links.clone().or_else(|| Some(self.session.as_ref()?.links().clone()))
    }

    /// The level of log messages that a modern request names.
    pub(super) fn own_level(&self) -> Option<Severity> {
        Severity::named(&self.params.meta().get_str(MetaMember::LogLevel)?)
    }

    /// The parameters for a server: those of the client, and the level that its session wants, for servers that are told
    /// with each request. Legacy servers are not shown it.
    pub(super) fn params(&self) -> RawObject {
        let mut params = self.params.to_object();
        let logs = self.session.as_ref().map(|session| session.logs());
        if let (Era::Legacy, Some(WantedLogs::AtLeast(level))) = (self.era, logs) {
            let mut meta = meta_of(&params);
            meta.set(META_LOG_LEVEL, raw::string(level.as_str()));
            params.set("_meta", meta.to_raw());
        }
        params
    }
}
