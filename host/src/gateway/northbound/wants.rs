//! What a legacy client wants to be told from now on: updates of resources, and log messages of a level. Both need a
//! session, because without one there is no way to tell it anything.

use super::answer::Answer;
use super::asked::Asked;
use super::calls::{denies_the_resource, resource_routes};
use crate::gateway::embed::Gateway;
use crate::gateway::limits;
use crate::mcp::Outcome;
use crate::mcp::protocol::{INVALID_PARAMS, INVALID_REQUEST};
use crate::mcp::request_members::{Members as _, ParamsMember};
use crate::model::{Severity, raw};

/// What is told who has no session.
fn needs_a_session() -> Answer {
    let message = "this needs a session: send initialize first, and the Mcp-Session-Id of its answer with each request";
    Answer::error(INVALID_REQUEST, message, None)
}

/// `resources/subscribe`.
pub(super) async fn subscribe(gateway: &Gateway, asked: &Asked) -> Answer {
    let Some(session) = &asked.session else { return needs_a_session() };
    let Some(uri) = asked.params.get_str(ParamsMember::Uri) else {
        return Answer::error(INVALID_PARAMS, "params.uri must be the URI of a resource", None);
    };
    if uri.len() > limits::SUBSCRIPTION_URI_BYTES_MAX {
        return Answer::error(INVALID_PARAMS, "params.uri is too long to be subscribed to", None);
    }
    let Some(held) = session.room_for(&uri) else {
        return Answer::error(
            INVALID_REQUEST,
            "too many resources are subscribed to; unsubscribe from others first",
            None,
        );
    };
    let mut refused = None;
    for route in resource_routes(gateway, asked, &uri) {
        let mut params = asked.params.to_object();
        params.set_str(ParamsMember::Uri.key(), &route.original);
        match gateway.inner.parts.fleet.wish_for_resource(&route.connector, params).await {
            Ok(Ok(wish)) => {
                session.subscribe(uri, route, wish, held);
                return Answer::result(raw::empty_object());
            }
            Ok(Err(error)) if denies_the_resource(&error, &uri) => {
                refused.get_or_insert_with(|| Answer::of(Outcome::Error(error)));
            }
            Ok(Err(error)) => return Answer::of(Outcome::Error(error)),
            Err(error) => return Answer::failed(&error),
        }
    }
    refused.unwrap_or_else(|| Answer::no_resource(asked.era, &uri))
}

/// `resources/unsubscribe`.
pub(super) fn unsubscribe(asked: &Asked) -> Answer {
    let Some(session) = &asked.session else { return needs_a_session() };
    let Some(uri) = asked.params.get_str(ParamsMember::Uri) else {
        return Answer::error(INVALID_PARAMS, "params.uri must be the URI of a resource", None);
    };
    session.unsubscribe(&uri);
    Answer::result(raw::empty_object())
}

/// `logging/setLevel`.
pub(super) async fn set_level(gateway: &Gateway, asked: &Asked) -> Answer {
    let Some(session) = &asked.session else { return needs_a_session() };
    let level = asked.params.get_str(ParamsMember::Level);
    let Some(level) = level.as_deref().and_then(Severity::named) else {
        return Answer::error(INVALID_PARAMS, "params.level must be a level of RFC 5424, in small letters", None);
    };
    let view = asked.visitor.view.clone();
    let wish = gateway.inner.parts.fleet.wish_for_logs(level.as_str(), move |connector| view.sees_connector(connector));
    session.set_level(level, wish).await;
    Answer::result(raw::empty_object())
}
