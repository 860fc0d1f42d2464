//! Which method is answered by what, and what becomes of an answer whose client is gone.

use tokio::time::Instant;

use super::answer::Answer;
use super::asked::Asked;
use super::in_flight::Place;
use super::{calls, hello, listen, lists, wants};
use crate::gateway::embed::Gateway;
use crate::gateway::metrics::ServedMethod;
use crate::mcp::protocol::{
    COMPLETION_COMPLETE, Era, INITIALIZE, LOGGING_SET_LEVEL, PING, PROMPTS_GET, RESOURCES_READ, RESOURCES_SUBSCRIBE,
    RESOURCES_UNSUBSCRIBE, SERVER_DISCOVER, SUBSCRIPTIONS_LISTEN, TOOLS_CALL,
};
use crate::mcp::{ErrorType, Outcome, hops};
use crate::model::ListKind;
use crate::model::raw;

/// Whether a method is one that a connector answers.
pub(in crate::gateway) fn is_passed_on(method: &str) -> bool {
    matches!(method, TOOLS_CALL | PROMPTS_GET | RESOURCES_READ | COMPLETION_COMPLETE)
}

/// Answers a request. Ends without an answer if the client takes the request back, or was cut off, and with an error if its
/// token is taken away; what was asked of a server is cancelled then. Its deadline is the connector's; a subscription has
/// none. From this call on, before anybody awaits it, the request can be taken back.
pub(in crate::gateway) fn answer(gateway: Gateway, asked: Asked) -> impl Future<Output = Answer> + Send + use<> {
    let place = asked.in_flight.as_ref().map(|all| all.begin(&asked.id));
    answer_in(gateway, asked, place)
}

async fn answer_in(gateway: Gateway, asked: Asked, place: Option<Place>) -> Answer {
    let started = Instant::now();
    let method = ServedMethod::of(&asked.method);
    let (outlet, grant) = (asked.outlet.clone(), asked.visitor.grant.clone());
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
        // Subscriptions see to their end themselves.
        answer = dispatch(&gateway, asked) => answer,
        () = grant.cancelled() => Answer::revoked(),
    };
    let error = match &answer.outcome {
        Some(Outcome::Error(error)) => ErrorType::of_error(error),
        // What a tool says in its result was looked into where the call was made.
        Some(Outcome::Result(_)) => ErrorType::None,
        None => ErrorType::Cancelled,
    };
    gateway.inner.parts.metrics.served(method, started.elapsed(), error);
    answer
}

async fn dispatch(gateway: &Gateway, mut asked: Asked) -> Answer {
    gateway.restored().await;
    if is_passed_on(&asked.method) || matches!(asked.method.as_str(), RESOURCES_SUBSCRIBE | SUBSCRIPTIONS_LISTEN) {
        asked.params = match hops::counted(asked.params) {
            Ok(params) => params,
            Err(error) => return Answer::error(error.code(), &error.to_string(), Some(&error.data())),
        };
    }
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
