//! Requests that a connector answers. Parameters go out and results come back as they are: only the name under which
//! something is known here gives way to the name that its server gave it.

use serde_json::value::RawValue;

use super::answer::Answer;
use super::asked::Asked;
use crate::catalog::Route;
use crate::connectors::CallError;
use crate::gateway::embed::Gateway;
use crate::gateway::missing_list::missing_list;
use crate::gateway::registry_tools;
use crate::mcp::envelope::error_object;
use crate::mcp::protocol::RESOURCE_NOT_FOUND;
use crate::mcp::protocol::{COMPLETION_COMPLETE, Era, INVALID_PARAMS, PROMPTS_GET, RESOURCES_READ, TOOLS_CALL};
use crate::mcp::request_members::{Members as _, ParamsMember, ReferenceMember};
use crate::mcp::{Outcome, RpcError};
use crate::model::raw::{self, RawObject};

/// `tools/call`.
pub(super) async fn tool(gateway: &Gateway, asked: &Asked) -> Answer {
    let Some(name) = asked.params.get_str(ParamsMember::Name) else {
        return Answer::error(INVALID_PARAMS, "params.name must be the name of a tool", None);
    };
    let served = gateway.snapshot().served(&asked.visitor.view);
    if served.is_own(&name) {
        let result =
            registry_tools::call(gateway, asked.visitor.right, &name, asked.params.get(ParamsMember::Arguments)).await;
        return Answer::passed(asked.era, TOOLS_CALL, Outcome::Result(result));
    }
    match served.tool(&name) {
        Some(route) => pass(gateway, asked, route, TOOLS_CALL, ParamsMember::Name).await,
        None => unknown(gateway, asked, "tool", &name),
    }
}

/// `prompts/get`.
pub(super) async fn prompt(gateway: &Gateway, asked: &Asked) -> Answer {
    let Some(name) = asked.params.get_str(ParamsMember::Name) else {
        return Answer::error(INVALID_PARAMS, "params.name must be the name of a prompt", None);
    };
    match gateway.snapshot().served(&asked.visitor.view).prompt(&name) {
        Some(route) => pass(gateway, asked, route, PROMPTS_GET, ParamsMember::Name).await,
        None => unknown(gateway, asked, "prompt", &name),
    }
}

/// `resources/read`.
pub(super) async fn resource(gateway: &Gateway, asked: &Asked) -> Answer {
    let Some(uri) = asked.params.get_str(ParamsMember::Uri) else {
        return Answer::error(INVALID_PARAMS, "params.uri must be the URI of a resource", None);
    };
    let routes = resource_routes(gateway, asked, &uri);
    match in_turn(&routes, &uri, |route| send(gateway, asked, route, RESOURCES_READ, ParamsMember::Uri)).await {
        Some(Ok(Outcome::Error(error))) if denies_the_resource(&error, &uri) => {
            Answer::of(Outcome::Error(not_found(asked.era, error, &uri)))
        }
        Some(Ok(outcome)) => Answer::passed(asked.era, RESOURCES_READ, outcome),
        Some(Err(error)) => Answer::failed(&error),
        None => Answer::no_resource(asked.era, &uri),
    }
}

/// `completion/complete`, of the connector that has the prompt or the template that it refers to.
pub(super) async fn completion(gateway: &Gateway, asked: &Asked) -> Answer {
    let invalid = |message: &str| Answer::error(INVALID_PARAMS, message, None);
    let reference = asked.params.object(ParamsMember::Reference);
    let Some(reference) = reference else { return invalid("params.ref must name a prompt or a resource template") };
    let served = gateway.snapshot().served(&asked.visitor.view);
    let (member, other) = match reference.get_str(ReferenceMember::Type).as_deref() {
        Some("ref/prompt") => (ReferenceMember::Name, ReferenceMember::Uri),
        Some("ref/resource") => (ReferenceMember::Uri, ReferenceMember::Name),
        _ => return invalid("params.ref.type must be ref/prompt or ref/resource"),
    };
    let Some(name) = reference.get_str(member) else { return invalid("params.ref must name what is completed") };
    let routes: Vec<Route> = match member {
        ReferenceMember::Name => served.prompt(&name).cloned().into_iter().collect(),
        _ => match served.template(&name) {
            Some(route) => vec![route.clone()],
            None => resource_routes(gateway, asked, &name),
        },
    };
    let complete = async |route: &Route| {
        let mut params = asked.params();
        let mut reference = reference.to_object();
        reference.set_str(member.key(), &route.original);
        // A server that reads it would complete something that nothing checked here.
        reference.remove(other.key());
        params.set(ParamsMember::Reference.key(), reference.to_raw());
        let relay = asked.relay();
        let fleet = &gateway.inner.parts.fleet;
        fleet.call(&route.connector, asked.caller(&relay), COMPLETION_COMPLETE, params).await
    };
    match in_turn(&routes, &name, complete).await {
        Some(Ok(outcome)) => Answer::passed(asked.era, COMPLETION_COMPLETE, outcome),
        Some(Err(error)) => Answer::failed(&error),
        None => unknown(gateway, asked, "reference", &name),
    }
}

/// The answer to a request about a name that nothing has, as far as the lists are known.
fn unknown(gateway: &Gateway, asked: &Asked, kind: &str, name: &str) -> Answer {
    match missing_list(gateway, &asked.visitor.view, name) {
        Some(error) => Answer::failed(&error),
        None => Answer::error(INVALID_PARAMS, &format!("Unknown {kind}: {name}"), None),
    }
}

/// What a connector makes of a request.
type Reply = Result<Outcome, CallError>;

/// Where a resource may be read, the likeliest connector first.
pub(super) fn resource_routes(gateway: &Gateway, asked: &Asked, uri: &str) -> Vec<Route> {
    let named_by = asked.named_by(gateway, uri);
    gateway.snapshot().served(&asked.visitor.view).resource(uri, named_by.as_ref())
}

/// Asks one connector after another, the next one only if the one before denies that it has the resource: a URI may hold a
/// secret, and each connector that is asked learns it. If all deny it, the first denial is returned; none if there is no
/// connector to ask.
async fn in_turn<'a, Asking>(routes: &'a [Route], uri: &str, ask: impl Fn(&'a Route) -> Asking) -> Option<Reply>
where
    Asking: Future<Output = Reply> + Send,
{
    let mut denied = None;
    for route in routes {
        match ask(route).await {
            Ok(Outcome::Error(error)) if denies_the_resource(&error, uri) => {
                denied.get_or_insert(Ok(Outcome::Error(error)));
            }
            reply => return Some(reply),
        }
    }
    denied
}

async fn pass(gateway: &Gateway, asked: &Asked, route: &Route, method: &str, member: ParamsMember) -> Answer {
    // Before the answer, when another server may have taken its place.
    let called = gateway.snapshot().part(&route.connector).map(|part| part.connector.clone());
    match send(gateway, asked, route, method, member).await {
        Ok(outcome) => {
            if let (Outcome::Result(result), Some(called)) = (&outcome, called) {
                asked.note_links(gateway, &called, result);
            }
            Answer::passed(asked.era, method, outcome)
        }
        Err(error) => Answer::failed(&error),
    }
}

async fn send(
    gateway: &Gateway,
    asked: &Asked,
    route: &Route,
    method: &str,
    member: ParamsMember,
) -> Result<Outcome, CallError> {
    let relay = asked.relay();
    // A legacy server is told of the level once for everybody, and keeps to it while somebody wishes that.
    let fleet = &gateway.inner.parts.fleet;
    let _wish = asked.own_level().and_then(|level| fleet.wish_for_logs_of(&route.connector, level.as_str()));
    // On the heap: gateways behind each other in one process would otherwise fill the stack of a thread.
    Box::pin(gateway.forward(route, asked.caller(&relay), method, member, asked.params())).await
}

/// Whether a server says that it has no such resource: by the code of the legacy era, or as the modern one does, by naming
/// the URI (2026-07-28, `server/resources`, Error Handling).
pub(super) fn denies_the_resource(error: &RawValue, uri: &str) -> bool {
    match RpcError::parse(error).map(|error| error.code) {
        Some(RESOURCE_NOT_FOUND) => true,
        Some(INVALID_PARAMS) => data_of(error).is_some_and(|data| data.get_str("uri").as_deref() == Some(uri)),
        _ => false,
    }
}

fn data_of(error: &RawValue) -> Option<RawObject> {
    RawObject::parse(RawObject::parse(error).ok()?.get("data")?).ok()
}

/// Says it in the words of the client's era. Modern clients know no code of its own for it, and look at `data.uri`.
fn not_found(era: Era, error: Box<RawValue>, uri: &str) -> Box<RawValue> {
    let code = RpcError::parse(&error).map(|error| error.code);
    let (Era::Modern, Some(RESOURCE_NOT_FOUND)) = (era, code) else { return error };
    let Ok(mut object) = RawObject::parse(&error) else { return error_object(INVALID_PARAMS, "", None) };
    let mut data = data_of(&error).unwrap_or_default();
    if data.get("uri").is_none() {
        data.set("uri", raw::string(uri));
        object.set("data", data.to_raw());
    }
    object.set("code", raw::trusted(INVALID_PARAMS.to_string()));
    object.to_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> Box<RawValue> {
        raw::trusted(text.to_owned())
    }

    #[test]
    fn a_missing_resource_is_told_in_the_words_of_the_clients_era() {
        let legacy = error(r#"{"code":-32002,"message":"Resource not found","data":{"odd":1.50}}"#);
        assert!(denies_the_resource(&legacy, "x:y"));
        assert_eq!(
            not_found(Era::Modern, legacy.clone(), "x:y").get(),
            r#"{"code":-32602,"message":"Resource not found","data":{"odd":1.50,"uri":"x:y"}}"#
        );
        assert_eq!(not_found(Era::Legacy, legacy.clone(), "x:y").get(), legacy.get());
        let modern = error(r#"{"code":-32602,"message":"no","data":{"uri":"x:y"}}"#);
        assert!(denies_the_resource(&modern, "x:y") && !denies_the_resource(&modern, "x:z"));
        assert!(!denies_the_resource(&error(r#"{"code":-32602,"message":"bad"}"#), "x:y"));
        assert_eq!(not_found(Era::Modern, modern.clone(), "x:y").get(), modern.get());
    }
}
