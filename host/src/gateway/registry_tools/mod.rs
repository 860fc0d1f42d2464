//! The gateway's own tools: the registry, listed, read and changed over MCP. Off unless `[registry] tools = true`.
//!
//! Their names hold no `__`, so that with the usual names no tool of a connector has one of them; where one does
//! (`names = "plain"`), the gateway's is served and the collision is reported like any other. What they mean is that of the
//! old registry tools without their defects: a pattern is a glob and never a regular expression, no argument is accepted
//! and ignored, and values of headers and environments are never told. Who changes the registry changes what the gateway
//! connects to, and needs the right to change the gateway.

mod answer;
mod arguments;
mod read;
mod register;
mod schemas;
mod show;

use std::sync::Arc;

use serde_json::value::RawValue;
use serde_json::{Value, json};

use self::answer::{Failure, Meta, envelope};
use self::arguments::Arguments;
use self::read::{GetQuery, ListQuery};
use self::register::Registration;
use super::door::MayChange;
use super::embed::Gateway;
use super::limits;
use super::listening::target_rules;
use crate::catalog::OwnTool;
use crate::config::RegistrySettings;
use crate::model::Source;
use crate::registry::{Acknowledged, Change, RegistrySnapshot, Store, StoreError, connector_id};
use crate::telemetry::Label as _;

const LIST: &str = "registry_list";
const GET: &str = "registry_get";
const REGISTER: &str = "registry_register";
const UNREGISTER: &str = "registry_unregister";
const STATS: &str = "registry_stats";

/// The tools that are served under these settings.
pub(super) fn served(settings: &RegistrySettings) -> Vec<OwnTool> {
    if settings.tools { schemas::all() } else { Vec::new() }
}

/// Answers a call of one of these tools: always with a result, which says whether it is an error.
pub(super) async fn call(
    gateway: &Gateway,
    right: MayChange,
    tool: &str,
    arguments: Option<&RawValue>,
) -> Box<RawValue> {
    let answered = answer(gateway, right, tool, arguments).await;
    if let Err(failure) = &answered {
        tracing::info!(tool, error = failure.code(), "a tool of the registry was not served");
    }
    envelope(answered, &Meta::new(&gateway.inner.parts.edge, tool))
}

async fn answer(
    gateway: &Gateway,
    right: MayChange,
    tool: &str,
    arguments: Option<&RawValue>,
) -> Result<Value, Failure> {
    let arguments = Arguments::parse(arguments)?;
    match tool {
        LIST => {
            let query = ListQuery::parse(&arguments)?;
            let (snapshot, doubt) = observed(gateway).await;
            Ok(with_doubt(read::list(snapshot.entries(), &query), doubt))
        }
        GET => {
            let query = GetQuery::parse(&arguments)?;
            let (snapshot, doubt) = observed(gateway).await;
            let facts = query.include_status.then(|| facts(gateway, &snapshot, &query.name));
            Ok(with_doubt(read::get(&snapshot, &query, facts)?, doubt))
        }
        STATS => {
            arguments.only(&[])?;
            let (snapshot, doubt) = observed(gateway).await;
            let status = gateway.status().registry;
            Ok(with_doubt(read::stats(&snapshot, &status), doubt))
        }
        REGISTER => {
            may_change(gateway, right)?;
            let registration = Registration::parse(&arguments)?;
            registration.check_commands(&gateway.settings().registry)?;
            let listening = gateway.inner.listening.load_full();
            let checked = target_rules(&gateway.settings(), &listening).check(&registration.entry);
            checked.map_err(|fault| Failure::argument(fault.field(), fault.to_string()))?;
            let acknowledged = change(gateway, registration.change()).await?;
            let connector = hidden_by_the_map(gateway, &acknowledged.name);
            Ok(register::registered(&registration.entry, acknowledged.outcome, connector.as_deref()))
        }
        UNREGISTER => {
            may_change(gateway, right)?;
            arguments.only(&["name"])?;
            let name = arguments.name()?;
            let acknowledged = change(gateway, Change::remove_existing(&name)).await?;
            Ok(json!({ "status": acknowledged.outcome, "name": acknowledged.name }))
        }
        other => Err(Failure::internal(format!("there is no tool {other:?}"))),
    }
}

/// Only who may change the gateway changes what it connects to.
fn may_change(gateway: &Gateway, right: MayChange) -> Result<(), Failure> {
    let Some((reason, message)) = right.refusal() else { return Ok(()) };
    let line = gateway.inner.parts.metrics.request_refused(reason);
    let reason = reason.value();
    if let Some(line) = line {
        tracing::warn!(reason, left_out = line.left_out, "a change of the registry was refused");
    }
    Err(Failure::Refused { reason, message })
}

/// Works with the store, off the async workers and by turns: a disk that hangs holds up a few threads and nobody else.
async fn with_store<T: Send + 'static>(
    gateway: &Gateway,
    work: impl FnOnce(&Arc<Store>) -> T + Send + 'static,
) -> Option<T> {
    let (store, turns) = (gateway.registry().clone(), gateway.inner.registry_turns.clone());
    let working = async {
        let turn = turns.acquire_owned().await.ok()?;
        let worked = tokio::task::spawn_blocking(move || {
            let _turn = turn;
            work(&store)
        });
        worked.await.ok()
    };
    tokio::time::timeout(limits::REGISTRY_PATIENCE, working).await.ok().flatten()
}

/// The registry with what others acknowledged up to now. If that can not be read, what is known is told, and why.
async fn observed(gateway: &Gateway) -> (Arc<RegistrySnapshot>, Option<String>) {
    let doubt = match with_store(gateway, |store| store.observe()).await {
        Some(Ok(())) => None,
        Some(Err(error)) => Some(error.to_string()),
        None => Some("the registry's folder does not answer".to_owned()),
    };
    (gateway.registry().snapshot(), doubt)
}

fn with_doubt(mut told: Value, doubt: Option<String>) -> Value {
    if let (Some(members), Some(doubt)) = (told.as_object_mut(), doubt) {
        members.insert("warning".to_owned(), format!("what was read before is told: {doubt}").into());
    }
    told
}

async fn change(gateway: &Gateway, change: Change) -> Result<Acknowledged, Failure> {
    let changed: Option<Result<Acknowledged, StoreError>> = with_store(gateway, |store| store.change(change)).await;
    let unanswered = || {
        Failure::internal(format!(
            "the change was not acknowledged within {} s, and may or may not be kept; look with {GET}",
            limits::REGISTRY_PATIENCE.as_secs()
        ))
    };
    Ok(changed.ok_or_else(unanswered)??)
}

/// The id of the connector that an entry would become, if the service map names that too.
fn hidden_by_the_map(gateway: &Gateway, name: &str) -> Option<String> {
    let id = connector_id(name);
    let statuses = gateway.inner.parts.fleet.statuses();
    statuses.iter().any(|status| status.id == id && status.source == Source::ServiceMap).then(|| id.to_string())
}

/// What is observed of an entry.
fn facts(gateway: &Gateway, snapshot: &RegistrySnapshot, name: &str) -> Value {
    let id = connector_id(name);
    let statuses = gateway.inner.parts.fleet.statuses();
    let connector = statuses.iter().find(|status| status.id == id).map(|status| &**status);
    read::facts(snapshot.edit(name), gateway.inner.parts.edge.clock.wall(), connector)
}
