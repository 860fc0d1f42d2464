//! Changed definitions: what is to be approved, and the approval.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::StateRole;
use super::admin::wrong_type;
use super::embed::Gateway;
use super::json;
use crate::connectors::{ApprovalError, ChangedDefinition, DefinitionKind, Fleet, Selection};
use crate::edge::state::StateRecord;
use crate::mcp::protocol::JSON_TYPE;
use crate::model::{ConnectorId, Digest};

/// What is to be approved: one change by its name, or all of one connector.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Only a change of this connector.
    pub connector: Option<ConnectorId>,
    /// What `name` is of.
    #[serde(default = "tools")]
    pub kind: DefinitionKind,
    /// The exposed name, or the server's own one, or a URI or URI template; the connector's ID for instructions. None: every
    /// change of `connector`, or its instructions.
    pub name: Option<String>,
    /// The digest of the change that was reviewed.
    pub digest: Digest,
}

fn tools() -> DefinitionKind {
    DefinitionKind::Tools
}

/// What was approved.
#[derive(Clone, Debug, Serialize)]
pub struct Approved {
    /// The connector.
    pub connector: ConnectorId,
    /// The changes.
    pub approved: Vec<ChangedDefinition>,
}

/// A change that was not approved yet.
#[derive(Clone, Debug, Serialize)]
pub struct PendingDefinition {
    /// The connector.
    pub connector: ConnectorId,
    /// The change.
    #[serde(flatten)]
    pub change: ChangedDefinition,
    /// All definitions of the name that the server lists now, in the order of the list; the digest is that of all of them.
    pub definitions: Vec<Box<RawValue>>,
}

/// Why nothing is approved.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ApproveError {
    /// Another process writes the state.
    #[error(
        "this gateway does not write the state of its home, another process does; approve there, or end that process first"
    )]
    Follower,
    /// Nothing can be saved.
    #[error("the state folder of this gateway cannot be written, and an approval is saved there; make it writable")]
    ReadOnly,
    /// Neither a name nor a connector is given.
    #[error("neither a name nor a connector is given; name what is to be approved")]
    NothingNamed,
    /// There is no such change.
    #[error("there is no change of {} {name:?} to approve; `cortex-mcp status` lists what there is", .kind.singular())]
    Unknown {
        /// What it is of.
        kind: DefinitionKind,
        /// The name.
        name: String,
    },
    /// Several connectors have such a change.
    #[error("{} {name:?} changed at several connectors ({connectors}); name one with --connector", .kind.singular())]
    Ambiguous {
        /// What it is of.
        kind: DefinitionKind,
        /// The name.
        name: String,
        /// The connectors.
        connectors: String,
    },
    /// The connector refuses it.
    #[error(transparent)]
    Refused(#[from] ApprovalError),
}

impl ApproveError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Follower | Self::ReadOnly | Self::Refused(ApprovalError::OtherDigest { .. }) => StatusCode::CONFLICT,
            Self::NothingNamed | Self::Ambiguous { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            Self::Unknown { .. } | Self::Refused(ApprovalError::NoChange { .. }) => StatusCode::NOT_FOUND,
            Self::Refused(ApprovalError::NotSaved { .. }) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

impl Gateway {
    /// Every change of a connector's definitions that was not approved, with what its server lists now.
    pub fn changed_definitions(&self) -> Vec<PendingDefinition> {
        let fleet = &self.inner.parts.fleet;
        let of_connector = |id: ConnectorId| {
            let changes = fleet.changed_definitions(&id).into_iter();
            changes.map(move |(change, definitions)| PendingDefinition { connector: id.clone(), change, definitions })
        };
        fleet
            .statuses()
            .iter()
            .filter(|status| status.definitions.changes > 0)
            .flat_map(|it| of_connector(it.id.clone()))
            .collect()
    }

    /// Approves changes of definitions, if the digest is that of what is listed now. Returns once that is durable.
    ///
    /// # Errors
    /// [`ApproveError`]; nothing is approved then, unless it only could not be saved.
    pub async fn approve(&self, approval: &Approval) -> Result<Approved, ApproveError> {
        match self.inner.parts.state.role() {
            StateRole::Follower => return Err(ApproveError::Follower),
            StateRole::ReadOnly => return Err(ApproveError::ReadOnly),
            StateRole::Writer | StateRole::Failing => {}
        }
        let (connector, selection) = self.select(approval)?;
        let approved = self.inner.parts.fleet.approve(&connector, &selection, approval.digest).await?;
        tracing::info!(%connector, count = approved.len(), digest = %approval.digest, "changed definitions approved");
        Ok(Approved { connector, approved })
    }

    /// Finds the change that is meant. By the exposed name, or by the one that its server gave it.
    fn select(&self, approval: &Approval) -> Result<(ConnectorId, Selection), ApproveError> {
        let Approval { connector, kind, name, .. } = approval;
        let name = match (name, connector) {
            (Some(name), _) => name.as_str(),
            (None, Some(id)) if *kind == DefinitionKind::Instructions => id.as_str(),
            (None, Some(id)) => return Ok((id.clone(), Selection::All)),
            (None, None) => return Err(ApproveError::NothingNamed),
        };
        let (fleet, catalog) = (&self.inner.parts.fleet, &self.inner.parts.catalog);
        let mut found: Vec<(ConnectorId, String)> = Vec::new();
        for status in fleet.statuses() {
            let id = &status.id;
            if status.definitions.changes == 0 || connector.as_ref().is_some_and(|connector| connector != id) {
                continue;
            }
            let changes = fleet.changed_definitions(id).into_iter().map(|(change, _)| change);
            let is_exposed = |own: &str| kind.list().is_some_and(|list| catalog.exposed_name(id, list, own) == name);
            let is_meant = |own: &str| own == name || is_exposed(own);
            let meant = changes.filter(|change| change.kind == *kind && is_meant(&change.name));
            found.extend(meant.map(|change| (id.clone(), change.name)));
        }
        match found.len() {
            0 => Err(ApproveError::Unknown { kind: *kind, name: name.to_owned() }),
            1 => Ok(found.swap_remove(0)).map(|(id, own)| (id, Selection::Item(*kind, own))),
            _ => {
                let connectors: Vec<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
                Err(ApproveError::Ambiguous { kind: *kind, name: name.to_owned(), connectors: connectors.join(", ") })
            }
        }
    }
}

/// Has the connectors take what a previous leader approved, once this process writes the state in its place.
pub(super) fn take_over(
    fleet: Arc<Fleet>,
    mut previous: watch::Receiver<Vec<(String, StateRecord)>>,
    stop: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::select! {
            () = stop.cancelled() => {}
            Ok(()) = previous.changed() => fleet.take_over_definitions(&previous.borrow_and_update()),
        }
    })
}

/// `GET /definitions`: what is to be approved.
pub(super) async fn changed(State(gateway): State<Gateway>) -> Response {
    json::value(StatusCode::OK, &gateway.changed_definitions())
}

/// `POST /definitions/approve`.
pub(super) async fn approve(State(gateway): State<Gateway>, headers: HeaderMap, body: Bytes) -> Response {
    if let Some(refused) = wrong_type(&headers, JSON_TYPE) {
        return refused;
    }
    let approval: Approval = match serde_json::from_slice(&body) {
        Ok(approval) => approval,
        Err(error) => {
            return (StatusCode::BAD_REQUEST, format!("the approval cannot be read: {error}")).into_response();
        }
    };
    match gateway.approve(&approval).await {
        Ok(approved) => json::value(StatusCode::OK, &approved),
        Err(error) => {
            tracing::warn!(%error, "changed definitions not approved");
            (error.status(), error.to_string()).into_response()
        }
    }
}
