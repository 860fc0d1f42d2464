//! What the gateway answers to each MCP method, in both eras.
//!
//! Lists come from the published snapshot, calls go to their connector and come back as they are.

use serde::Serialize;
use serde_json::value::RawValue;

use super::door::MayChange;
use super::embed::Gateway;
use super::registry_tools;
use crate::catalog::Part;
use crate::connectors::CallError;
use crate::mcp::Outcome;
use crate::mcp::envelope::error_object;
use crate::mcp::protocol::{
    CLIENT_NAME, CLIENT_VERSION, Era, INITIALIZE, INVALID_PARAMS, LEGACY_VERSIONS, META_SERVER_INFO, METHOD_NOT_FOUND,
    PING, SERVER_DISCOVER, TOOLS_CALL, TOOLS_LIST, VERSION_2026_07_28,
};
use crate::model::raw::{self, RawObject};
use crate::model::{ListState, Scope, milliseconds};

/// Every version that the gateway speaks to its clients, newest first.
pub(super) const VERSIONS: [&str; 4] = [VERSION_2026_07_28, LEGACY_VERSIONS[0], LEGACY_VERSIONS[1], LEGACY_VERSIONS[2]];

/// Our key in the `_meta` of a list: how each connector's list stands.
const CONNECTORS_KEY: &str = "com.brainwav.cortex/connectors";

/// What clients are told about the gateway.
const INSTRUCTIONS: &str = "Tools of several MCP servers behind one endpoint. The part of a tool's name before the \
                            separator is the server's id.";

/// The code of an error that says why a connector gave no answer. The specification gives -32000 to -32019 no meaning.
const CONNECTOR_ERROR: i64 = -32010;

/// A method as metrics name it.
pub(super) fn known_method(method: &str) -> &'static str {
    [INITIALIZE, SERVER_DISCOVER, PING, TOOLS_LIST, TOOLS_CALL]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

/// An answer: the outcome, and whether the method is unknown.
pub(super) struct Answer {
    pub(super) outcome: Outcome,
    pub(super) unknown_method: bool,
}

impl Answer {
    fn result(result: Box<RawValue>) -> Self {
        Self { outcome: Outcome::Result(result), unknown_method: false }
    }

    fn error(code: i64, message: &str, data: Option<&RawValue>) -> Self {
        Self { outcome: Outcome::Error(error_object(code, message, data)), unknown_method: false }
    }
}

/// Answers a request that passed the rules of its era.
pub(super) async fn answer(gateway: &Gateway, era: Era, right: MayChange, method: &str, params: RawObject) -> Answer {
    match (method, era) {
        (INITIALIZE, Era::Legacy) => Answer::result(initialize(&params)),
        (PING, Era::Legacy) => Answer::result(raw::empty_object()),
        (SERVER_DISCOVER, Era::Modern) => Answer::result(discover()),
        (TOOLS_LIST, _) => list(gateway, era, &params).await,
        (TOOLS_CALL, _) => call(gateway, era, right, params).await,
        _ => {
            let outcome =
                Outcome::Error(error_object(METHOD_NOT_FOUND, "this gateway does not serve that method", None));
            Answer { outcome, unknown_method: true }
        }
    }
}

fn initialize(params: &RawObject) -> Box<RawValue> {
    let wanted = params.get_str("protocolVersion");
    let version =
        LEGACY_VERSIONS.into_iter().find(|version| wanted.as_deref() == Some(version)).unwrap_or(LEGACY_VERSIONS[0]);
    let mut result = RawObject::new();
    result.set("protocolVersion", raw::string(version));
    result.set("capabilities", capabilities());
    result.set("serverInfo", server_info());
    result.set("instructions", raw::string(INSTRUCTIONS));
    result.to_raw()
}

fn discover() -> Box<RawValue> {
    let mut result = RawObject::new();
    result.set("resultType", raw::string("complete"));
    let versions: Vec<String> = VERSIONS.iter().map(|version| format!("\"{version}\"")).collect();
    result.set("supportedVersions", raw::trusted(format!("[{}]", versions.join(","))));
    result.set("capabilities", capabilities());
    result.set("instructions", raw::string(INSTRUCTIONS));
    result.set("ttlMs", raw::number(DISCOVER_TTL_MS));
    result.set("cacheScope", raw::string("public"));
    let mut meta = RawObject::new();
    meta.set(META_SERVER_INFO, server_info());
    result.set("_meta", meta.to_raw());
    result.to_raw()
}

/// What a discovery says changes only with the gateway's version.
const DISCOVER_TTL_MS: u64 = 3_600_000;

fn capabilities() -> Box<RawValue> {
    raw::trusted(r#"{"tools":{}}"#.to_owned())
}

fn server_info() -> Box<RawValue> {
    let mut info = RawObject::new();
    info.set("name", raw::string(CLIENT_NAME));
    info.set("title", raw::string("Cortex MCP gateway"));
    info.set("version", raw::string(CLIENT_VERSION));
    info.to_raw()
}

async fn list(gateway: &Gateway, era: Era, params: &RawObject) -> Answer {
    if params.get("cursor").is_some_and(|cursor| !raw::is_null(cursor)) {
        return Answer::error(INVALID_PARAMS, "this list has one page, and no cursors", None);
    }
    gateway.wait_for_first_lists().await;
    let snapshot = gateway.snapshot();
    gateway.was_read();
    let mut result = RawObject::new();
    if era == Era::Modern {
        result.set("resultType", raw::string("complete"));
    }
    // The snapshot's bytes are an array of definitions that were JSON when they came.
    result.set("tools", raw::trusted(String::from_utf8_lossy(snapshot.tools()).into_owned()));
    let mut meta = RawObject::new();
    if era == Era::Modern {
        let now = gateway.inner.parts.edge.clock.boot();
        result.set("ttlMs", raw::number(snapshot.ttl_ms(now)));
        let scope = match snapshot.scope() {
            Scope::Public => "public",
            Scope::Private => "private",
        };
        result.set("cacheScope", raw::string(scope));
        meta.set(META_SERVER_INFO, server_info());
    }
    let standings: Vec<Standing<'_>> = snapshot.parts().values().map(Standing::of).collect();
    if let Ok(standings) = serde_json::value::to_raw_value(&standings) {
        meta.set(CONNECTORS_KEY, standings);
    }
    result.set("_meta", meta.to_raw());
    Answer::result(result.to_raw())
}

/// How a connector's list stands, in the `_meta` of the whole list.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing<'a> {
    id: &'a str,
    state: ListState,
    reason: &'a str,
    fetched_at: Option<String>,
    tools: usize,
}

impl<'a> Standing<'a> {
    fn of(part: &'a Part) -> Self {
        Self {
            id: part.connector.id.as_str(),
            state: part.facts.state,
            reason: &part.facts.reason,
            fetched_at: part.facts.fetched_at.map(|time| time.to_string()),
            tools: part.tools.as_ref().map_or(0, |list| list.tools().len()),
        }
    }
}

async fn call(gateway: &Gateway, era: Era, right: MayChange, params: RawObject) -> Answer {
    let Some(name) = params.get_str("name") else {
        return Answer::error(INVALID_PARAMS, "params.name must be the name of a tool", None);
    };
    let snapshot = gateway.snapshot();
    if snapshot.is_own(&name) {
        let result = registry_tools::call(gateway, right, &name, params.get("arguments")).await;
        return Answer::result(complete(era, result));
    }
    let Some(route) = snapshot.route(&name).cloned() else {
        return Answer::error(INVALID_PARAMS, &format!("Unknown tool: {name}"), None);
    };
    let outcome = match era {
        Era::Modern => gateway.forward(&route, params).await,
        // A legacy client's connection may end and come back; its call goes on to its deadline (design section 6).
        Era::Legacy => {
            let gateway_of_call = gateway.clone();
            let task = gateway.inner.calls.spawn(async move { gateway_of_call.forward(&route, params).await });
            match task.await {
                Ok(outcome) => outcome,
                Err(_) => return Answer::error(CONNECTOR_ERROR, "the call was cut off by the gateway's end", None),
            }
        }
    };
    match outcome {
        Ok(Outcome::Result(result)) => Answer::result(complete(era, result)),
        Ok(error @ Outcome::Error(_)) => Answer { outcome: error, unknown_method: false },
        Err(error) => connector_error(&error),
    }
}

/// A modern result says of which type it is; legacy servers do not say it, and mean `complete`.
fn complete(era: Era, result: Box<RawValue>) -> Box<RawValue> {
    match (era, RawObject::parse(&result)) {
        (Era::Modern, Ok(mut object)) if object.get("resultType").is_none() => {
            object.set("resultType", raw::string("complete"));
            object.to_raw()
        }
        _ => result,
    }
}

fn connector_error(error: &CallError) -> Answer {
    let mut data = RawObject::new();
    if let CallError::Busy { connector, .. }
    | CallError::BreakerOpen { connector, .. }
    | CallError::Quota { connector, .. }
    | CallError::Failed { connector, .. } = error
    {
        data.set("connector", raw::string(connector.as_str()));
    }
    data.set("reason", raw::string(error.reason()));
    if let Some(retry_after) = error.retry_after() {
        data.set("retryAfterMs", raw::number(milliseconds(retry_after)));
    }
    Answer::error(CONNECTOR_ERROR, &error.to_string(), Some(&data.to_raw()))
}
