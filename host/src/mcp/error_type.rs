//! How a request ended, as metrics name it: the error's JSON-RPC code, the class of a failure, or nothing.

use serde_json::value::RawValue;

use super::envelope::Outcome;
use super::protocol::{
    CONNECTOR_ERROR, HEADER_MISMATCH, INTERNAL_ERROR, INVALID_PARAMS, INVALID_REQUEST, METHOD_NOT_FOUND,
    MISSING_CLIENT_CAPABILITY, PARSE_ERROR, RESOURCE_NOT_FOUND, SESSION_NOT_FOUND, TOO_OFTEN, TOOLS_CALL,
    UNSUPPORTED_PROTOCOL_VERSION,
};
use crate::model::FailureClass;
use crate::telemetry::labels;

labels! {
    /// The error of a request. Codes that the specification does not define are one value: anybody can make up others.
    pub enum ErrorType as "error_type" {
        /// It has a result.
        None = "",
        /// The result of a tool says `isError`.
        ToolError = "tool_error",
        /// Its client took it back, or is gone.
        Cancelled = "cancelled",
        /// No JSON.
        ParseError = "-32700",
        /// No request.
        InvalidRequest = "-32600",
        /// An unknown method.
        MethodNotFound = "-32601",
        /// Wrong parameters.
        InvalidParams = "-32602",
        /// An internal error.
        InternalError = "-32603",
        /// An unknown session.
        SessionNotFound = "-32001",
        /// An unknown resource.
        ResourceNotFound = "-32002",
        /// The gateway's own: a connector gave no answer.
        ConnectorError = "-32010",
        /// The gateway's own: a token asks too often.
        RateLimited = "-32011",
        /// Header and body differ.
        HeaderMismatch = "-32020",
        /// The client lacks a capability.
        MissingClientCapability = "-32021",
        /// Another version of the protocol.
        UnsupportedProtocolVersion = "-32022",
        /// Any other code, or none that can be read.
        Other = "other",
        /// See [`FailureClass`].
        Dns = FailureClass::Dns.as_str(),
        /// See [`FailureClass`].
        Refused = FailureClass::Refused.as_str(),
        /// See [`FailureClass`].
        Timeout = FailureClass::Timeout.as_str(),
        /// See [`FailureClass`].
        Auth = FailureClass::Auth.as_str(),
        /// See [`FailureClass`].
        NotFound = FailureClass::NotFound.as_str(),
        /// See [`FailureClass`].
        Gone = FailureClass::Gone.as_str(),
        /// See [`FailureClass`]; also a call that was not sent because its server asked for fewer.
        Throttled = FailureClass::Throttled.as_str(),
        /// See [`FailureClass`].
        Server = FailureClass::Server.as_str(),
        /// See [`FailureClass`].
        Oversize = FailureClass::Oversize.as_str(),
        /// See [`FailureClass`].
        Redirect = FailureClass::Redirect.as_str(),
        /// See [`FailureClass`].
        Decode = FailureClass::Decode.as_str(),
        /// See [`FailureClass`].
        Signature = FailureClass::Signature.as_str(),
        /// See [`FailureClass`].
        Schema = FailureClass::Schema.as_str(),
        /// See [`FailureClass`].
        Expiry = FailureClass::Expiry.as_str(),
        /// See [`FailureClass`].
        Rollback = FailureClass::Rollback.as_str(),
        /// Not sent: the breaker is open.
        BreakerOpen = "breaker-open",
        /// Not sent: a quota is used up.
        Quota = "quota",
        /// Not sent: all places are taken.
        Busy = "busy",
    }
}

impl ErrorType {
    /// Returns how a request with this answer ended. Only the result of a tool call is looked into. Allocates nothing.
    pub fn of_outcome(method: &str, outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Error(error) => Self::of_error(error),
            Outcome::Result(result) if method == TOOLS_CALL => match member(result.get(), "isError") {
                Some("true") => Self::ToolError,
                _ => Self::None,
            },
            Outcome::Result(_) => Self::None,
        }
    }

    /// Returns the value of a JSON-RPC error object. Allocates nothing.
    pub fn of_error(error: &RawValue) -> Self {
        member(error.get(), "code").and_then(|code| code.parse().ok()).map_or(Self::Other, Self::of_code)
    }

    /// Returns the value of a JSON-RPC error code.
    pub fn of_code(code: i64) -> Self {
        match code {
            PARSE_ERROR => Self::ParseError,
            INVALID_REQUEST => Self::InvalidRequest,
            METHOD_NOT_FOUND => Self::MethodNotFound,
            INVALID_PARAMS => Self::InvalidParams,
            INTERNAL_ERROR => Self::InternalError,
            SESSION_NOT_FOUND => Self::SessionNotFound,
            RESOURCE_NOT_FOUND => Self::ResourceNotFound,
            CONNECTOR_ERROR => Self::ConnectorError,
            TOO_OFTEN => Self::RateLimited,
            HEADER_MISMATCH => Self::HeaderMismatch,
            MISSING_CLIENT_CAPABILITY => Self::MissingClientCapability,
            UNSUPPORTED_PROTOCOL_VERSION => Self::UnsupportedProtocolVersion,
            _ => Self::Other,
        }
    }
}

impl From<FailureClass> for ErrorType {
    fn from(class: FailureClass) -> Self {
        match class {
            FailureClass::Dns => Self::Dns,
            FailureClass::Refused => Self::Refused,
            FailureClass::Timeout => Self::Timeout,
            FailureClass::Auth => Self::Auth,
            FailureClass::NotFound => Self::NotFound,
            FailureClass::Gone => Self::Gone,
            FailureClass::Throttled => Self::Throttled,
            FailureClass::Server => Self::Server,
            FailureClass::Oversize => Self::Oversize,
            FailureClass::Redirect => Self::Redirect,
            FailureClass::Decode => Self::Decode,
            FailureClass::Signature => Self::Signature,
            FailureClass::Schema => Self::Schema,
            FailureClass::Expiry => Self::Expiry,
            FailureClass::Rollback => Self::Rollback,
        }
    }
}

/// Returns the literal that a member of an object has as its value, as it stands there: a number, `true`, `false` or `null`. None
/// if there is no such member, or its value is none of them.
///
/// The text is known to be JSON. A parser would allocate for what is skipped.
fn member<'a>(object: &'a str, name: &str) -> Option<&'a str> {
    let bytes = object.as_bytes();
    let (mut at, mut depth) = (0, 0_usize);
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                let begin = at + 1;
                at = begin;
                while *bytes.get(at)? != b'"' {
                    at += if bytes.get(at) == Some(&b'\\') { 2 } else { 1 };
                }
                if depth == 1
                    && object.get(begin..at) == Some(name)
                    && let Some(value) = object.get(at + 1..)?.trim_start().strip_prefix(':')
                {
                    let value = value.trim_start();
                    let end = value.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '-' | '+' | '.'))?;
                    return value.get(..end).filter(|literal| !literal.is_empty());
                }
            }
            _ => {}
        }
        at += 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Label as _;

    fn raw(text: &str) -> Box<RawValue> {
        RawValue::from_string(text.into()).unwrap()
    }

    #[test]
    fn errors_are_named_by_the_codes_that_are_known() {
        for (error, expected) in [
            (r#"{"code":-32602,"message":"m","data":{"code":1}}"#, "-32602"),
            (r#"{"message":"-32700","code":-32010}"#, "-32010"),
            (r#"{ "message" : "\"code\":-32700" , "code" : -32600 }"#, "-32600"),
            (r#"{"code":77,"message":"made up"}"#, "other"),
            (r#"{"code":-32602.5}"#, "other"),
            (r#"{"code":"-32602"}"#, "other"),
            ("[]", "other"),
        ] {
            assert_eq!(ErrorType::of_outcome(TOOLS_CALL, &Outcome::Error(raw(error))).value(), expected, "{error}");
        }
    }

    #[test]
    fn only_a_tool_result_can_be_an_error() {
        let failed = Outcome::Result(raw(r#"{"content":[{"isError":false}],"isError":true}"#));
        assert_eq!(ErrorType::of_outcome(TOOLS_CALL, &failed), ErrorType::ToolError);
        assert_eq!(ErrorType::of_outcome("prompts/get", &failed), ErrorType::None);
        for result in [
            r#"{"content":[{"isError":true}]}"#,
            r#"{"content":["isError",true,"\\\",\"isError\":true"]}"#,
            r#"{"text":"isError","isError":"true"}"#,
            r#"{"isError" : null}"#,
            "{}",
        ] {
            let outcome = Outcome::Result(raw(result));
            assert_eq!(ErrorType::of_outcome(TOOLS_CALL, &outcome), ErrorType::None, "{result}");
        }
    }

    #[test]
    fn the_codes_of_the_values_are_those_that_lead_to_them() {
        for error in ErrorType::ALL {
            if let Ok(code) = error.value().parse() {
                assert_eq!(ErrorType::of_code(code), *error);
            }
        }
    }

    #[test]
    fn looking_allocates_nothing() {
        let outcomes = [
            Outcome::Error(raw(r#"{"code":-32602,"message":"a \"quoted\" word","data":{"a\u0041":[1,2]}}"#)),
            Outcome::Result(raw(r#"{"content":[{"type":"text","text":"\u00e9\n"}],"isError":true}"#)),
        ];
        let counted = allocation_counter::measure(|| {
            for outcome in &outcomes {
                std::hint::black_box(ErrorType::of_outcome(TOOLS_CALL, outcome));
            }
        });
        assert_eq!(counted.count_total, 0);
    }
}
