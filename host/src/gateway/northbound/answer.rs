//! An answer to a client, and how one is made of what a server, or nobody, answered.

use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::value::RawValue;

use super::session::Session;
use crate::connectors::CallError;
use crate::mcp::envelope::error_object;
use crate::mcp::protocol::{
    CONNECTOR_ERROR, Era, HEADER_MISMATCH, INVALID_PARAMS, METHOD_NOT_FOUND, MISSING_CLIENT_CAPABILITY,
    RESOURCE_NOT_FOUND, RESOURCES_READ, UNSUPPORTED_PROTOCOL_VERSION,
};
use crate::mcp::{Outcome, RpcError};
use crate::model::milliseconds;
use crate::model::raw::{self, RawObject};

/// An answer.
pub(in crate::gateway) struct Answer {
    /// The result or the error; none if the client took its request back, and waits for nothing.
    pub(in crate::gateway) outcome: Option<Outcome>,
    /// When to come back, if that is known.
    pub(in crate::gateway) retry_after: Option<Duration>,
    /// The session that this answer opens.
    pub(in crate::gateway) opened: Option<Arc<Session>>,
}

impl Answer {
    pub(super) fn of(outcome: Outcome) -> Self {
        Self { outcome: Some(outcome), retry_after: None, opened: None }
    }

    pub(super) fn result(result: Box<RawValue>) -> Self {
        Self::of(Outcome::Result(result))
    }

    pub(super) fn error(code: i64, message: &str, data: Option<&RawValue>) -> Self {
        Self::of(Outcome::Error(error_object(code, message, data)))
    }

    /// Nothing is answered.
    pub(super) fn none() -> Self {
        Self { outcome: None, retry_after: None, opened: None }
    }

    pub(super) fn unknown_method() -> Self {
        Self::error(METHOD_NOT_FOUND, "this gateway does not serve that method", None)
    }

    /// The gateway ended before its server answered.
    pub(in crate::gateway) fn cut_off() -> Self {
        Self::error(CONNECTOR_ERROR, "the call was cut off by the gateway's end", None)
    }

    /// What its token allows has changed before its server answered.
    pub(super) fn revoked() -> Self {
        Self::error(CONNECTOR_ERROR, "what this token allows has changed: ask again", None)
    }

    /// There is no such resource, in the words of the era.
    pub(super) fn no_resource(era: Era, uri: &str) -> Self {
        let mut data = RawObject::new();
        data.set("uri", raw::string(uri));
        let code = match era {
            Era::Modern => INVALID_PARAMS,
            Era::Legacy => RESOURCE_NOT_FOUND,
        };
        Self::error(code, "Resource not found", Some(&data.to_raw()))
    }

    /// Why a connector gave no answer.
    pub(super) fn failed(error: &CallError) -> Self {
        let mut data = RawObject::new();
        if let Some(connector) = error.connector() {
            data.set("connector", raw::string(connector.as_str()));
        }
        data.set("reason", raw::string(error.reason()));
        if let Some(retry_after) = error.retry_after() {
            data.set("retryAfterMs", raw::number(milliseconds(retry_after)));
        }
        let answer = Self::error(CONNECTOR_ERROR, &error.to_string(), Some(&data.to_raw()));
        Self { retry_after: error.retry_after(), ..answer }
    }

    /// What a server answered to a method, for a client of an era. Equal eras see what was sent.
    pub(super) fn passed(era: Era, method: &str, outcome: Outcome) -> Self {
        match (era, outcome) {
            (Era::Modern, Outcome::Result(result)) => Self::result(complete(method, result)),
            (Era::Legacy, Outcome::Result(result)) => match result_type(&result) {
                Some(kind) if kind != "complete" => Self::can_not_cross(&kind),
                _ => Self::result(result),
            },
            (_, error @ Outcome::Error(_)) => Self::of(error),
        }
    }

    /// A legacy client knows no other results than complete ones.
    fn can_not_cross(kind: &str) -> Self {
        let mut data = RawObject::new();
        data.set("reason", raw::string("era"));
        data.set("resultType", raw::string(kind));
        let message = "the server's answer is one that only clients of 2026-07-28 understand (it needs input in further \
                       rounds, or is a task); use such a client for this";
        Self::error(CONNECTOR_ERROR, message, Some(&data.to_raw()))
    }

    /// The HTTP status that it bears, where nothing was said before (2026-07-28, Streamable HTTP, and `basic/index`).
    pub(in crate::gateway) fn status(&self, era: Era) -> StatusCode {
        let code = match (&self.outcome, era) {
            (Some(Outcome::Error(error)), Era::Modern) => RpcError::parse(error).map(|error| error.code),
            _ => None,
        };
        match code {
            Some(METHOD_NOT_FOUND) => StatusCode::NOT_FOUND,
            Some(HEADER_MISMATCH | MISSING_CLIENT_CAPABILITY | UNSUPPORTED_PROTOCOL_VERSION) => StatusCode::BAD_REQUEST,
            _ => StatusCode::OK,
        }
    }
}

fn result_type(result: &RawValue) -> Option<String> {
    // Without the word, there is none, and nothing to parse.
    result.get().contains("resultType").then(|| RawObject::parse(result).ok()?.get_str("resultType"))?
}

/// What a modern result must say, added where a legacy server does not say it: of which type it is, and, of a resource,
/// how long it may be kept and for whom. Its members stay as they are.
pub(super) fn complete(method: &str, result: Box<RawValue>) -> Box<RawValue> {
    let Ok(mut object) = RawObject::parse(&result) else { return result };
    let mut added = Vec::new();
    if object.get("resultType").is_none() {
        added.push(("resultType", raw::string("complete")));
    }
    let is_complete = object.get_str("resultType").is_none_or(|kind| kind == "complete");
    if method == RESOURCES_READ && is_complete {
        added.extend(object.get("ttlMs").is_none().then(|| ("ttlMs", raw::number(0))));
        added.extend(object.get("cacheScope").is_none().then(|| ("cacheScope", raw::string("private"))));
    }
    if added.is_empty() {
        return result;
    }
    added.into_iter().for_each(|(key, value)| object.set(key, value));
    object.to_raw()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> Box<RawValue> {
        raw::trusted(text.to_owned())
    }

    #[test]
    fn a_complete_modern_result_passes_byte_for_byte_and_a_legacy_one_is_completed() {
        let odd = r#"{ "resultType" :"input_required","b":1.50 }"#;
        assert_eq!(complete("tools/call", raw(odd)).get(), odd);
        assert_eq!(complete("resources/read", raw(odd)).get(), odd, "what is not complete bears no hints");
        assert_eq!(complete("tools/call", raw(r#"{"b": 1.50}"#)).get(), r#"{"b":1.50,"resultType":"complete"}"#);
        let read = complete("resources/read", raw(r#"{"contents":[],"ttlMs":7}"#));
        assert_eq!(read.get(), r#"{"contents":[],"ttlMs":7,"resultType":"complete","cacheScope":"private"}"#);
    }

    #[test]
    fn what_a_legacy_client_can_not_understand_is_a_typed_error_for_it() {
        for (result, crosses) in [
            (r#"{"content":[]}"#, true),
            (r#"{"resultType":"complete","content":[]}"#, true),
            (r#"{"content":[{"resultType":"input_required"}]}"#, true),
            (r#"{"resultType":"input_required","inputRequests":{}}"#, false),
        ] {
            let answer = Answer::passed(Era::Legacy, "tools/call", Outcome::Result(raw(result)));
            match answer.outcome.unwrap() {
                Outcome::Result(passed) => assert!(crosses && passed.get() == result, "{result}"),
                Outcome::Error(error) => assert!(!crosses && error.get().contains(r#""resultType":"input_required""#)),
            }
        }
    }

    #[test]
    fn errors_of_the_modern_era_bear_their_status() {
        for (code, status) in [(-32601, 404), (-32020, 400), (-32021, 400), (-32022, 400), (-32602, 200), (-32010, 200)]
        {
            let answer = Answer::error(code, "no", None);
            assert_eq!((answer.status(Era::Modern).as_u16(), answer.status(Era::Legacy)), (status, StatusCode::OK));
        }
    }
}
