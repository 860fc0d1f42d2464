//! JSON-RPC 2.0 messages over raw JSON: reading which kind of message a text is, and writing messages.
//!
//! Parameters, results and errors stay raw. Batches are refused: only MCP 2025-03-26 ever had them. Members that occur
//! twice are refused as well, so that two readers cannot see two different messages in one text; of clients' messages also
//! members that some readers take for another one ([`request_members`](super::request_members)).

pub mod lenient;

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::hops::HopsError;
use super::limits::MAX_ERROR_MESSAGE_CHARACTERS;
use super::protocol::{INVALID_PARAMS, INVALID_REQUEST, PARSE_ERROR};
use super::raw;
use super::request_members::misspelled;

/// One message.
#[derive(Clone, Debug)]
pub enum Message {
    /// Something that wants an answer.
    Request {
        /// What the answer must repeat.
        id: RequestId,
        /// The method.
        method: String,
        /// The parameters: an object.
        params: Option<Box<RawValue>>,
    },
    /// Something that wants none.
    Notification {
        /// The method.
        method: String,
        /// The parameters: an object.
        params: Option<Box<RawValue>>,
    },
    /// An answer.
    Response {
        /// The id of the request; none only in errors about a request whose id could not be read.
        id: Option<RequestId>,
        /// The answer.
        outcome: Outcome,
    },
}

/// An answer.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The result, whatever it is.
    Result(Box<RawValue>),
    /// The error object `{code, message, data}`; [`RpcError::parse`] reads it.
    Error(Box<RawValue>),
}

/// The id of a request, a string or a number, exactly as it was written.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Box<str>);

impl RequestId {
    /// An id of our own.
    pub fn from_number(number: u64) -> Self {
        Self(number.to_string().into())
    }

    /// An id that was found in a text, which is JSON as far as the reader knows.
    pub(super) fn from_json(json: String) -> Self {
        Self(json.into())
    }

    /// The id as JSON.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Reads an id; none if it is neither a string nor a number.
    pub(crate) fn read(raw: &RawValue) -> Option<Self> {
        let text = raw.get();
        text.starts_with(|first: char| first == '"' || first == '-' || first.is_ascii_digit())
            .then(|| Self(text.into()))
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a text is no message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    /// It is no JSON, or not UTF-8.
    #[error("the text is not JSON")]
    NotJson,
    /// It is an array.
    #[error("batches of messages are not supported")]
    Batch,
    /// It is JSON, and not a message.
    #[error("not a JSON-RPC 2.0 message: {reason}")]
    Invalid {
        /// Which rule it breaks.
        reason: InvalidReason,
        /// Its id, where that much can be read; the error answer repeats it.
        id: Option<RequestId>,
    },
}

impl EnvelopeError {
    /// The JSON-RPC error code of the answer that this deserves.
    pub fn code(&self) -> i64 {
        match self {
            Self::NotJson => PARSE_ERROR,
            Self::Batch | Self::Invalid { .. } => INVALID_REQUEST,
        }
    }

    /// The id that the answer repeats.
    pub fn id(&self) -> Option<&RequestId> {
        match self {
            Self::Invalid { id, .. } => id.as_ref(),
            Self::NotJson | Self::Batch => None,
        }
    }
}

/// The rule of JSON-RPC 2.0 (or of MCP's use of it) that a value breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidReason {
    /// It is no object, or a member of the envelope occurs twice.
    #[error("it is no object, or one of its members occurs twice")]
    Shape,
    /// A member's name can be read as this one of the envelope.
    #[error("one of its members can be read as \"{0}\"; spell it exactly so, or leave it out")]
    Misspelled(&'static str),
    /// `jsonrpc` is not `"2.0"`.
    #[error("jsonrpc is not \"2.0\"")]
    Version,
    /// The id is neither a string nor a number.
    #[error("the id is neither a string nor a number")]
    Id,
    /// The method is no string.
    #[error("the method is not a string")]
    Method,
    /// The parameters are no object.
    #[error("the parameters are not an object")]
    Params,
    /// It is not exactly one of request, result and error.
    #[error("it is not exactly one of request, result and error")]
    Kind,
    /// The error is no object with a whole number as code.
    #[error("the error is not an object with an integer code")]
    Error,
}

/// What an error object says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The code.
    pub code: i64,
    /// The message, cut to [`MAX_ERROR_MESSAGE_CHARACTERS`]. Another server's words: pass them on to the caller, keep
    /// them out of logs.
    pub message: String,
    /// The rule about hops that another gateway says was broken.
    pub hops: Option<HopsError>,
}

impl RpcError {
    /// Reads an error object; none if it has no integer code.
    pub fn parse(error: &RawValue) -> Option<Self> {
        let wire: WireErrorObject<'_> = raw::is_object(error).then(|| serde_json::from_str(error.get()).ok())??;
        let message = wire.message.and_then(raw::as_text).unwrap_or_default();
        let message = match message.char_indices().nth(MAX_ERROR_MESSAGE_CHARACTERS) {
            Some((end, _)) => message.get(..end).unwrap_or_default().to_owned(),
            None => message,
        };
        let hops = if wire.code == INVALID_PARAMS { HopsError::in_error(error) } else { None };
        Some(Self { code: wire.code, message, hops })
    }
}

impl Message {
    /// Reads a message.
    ///
    /// `params: null` counts as absent. Nothing else is forgiven.
    ///
    /// # Errors
    /// [`EnvelopeError`] if the bytes are not exactly one message.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let wire = Wire::parse(bytes)?;
        let id = wire.id.and_then(RequestId::read);
        wire.read(id.clone()).map_err(|reason| EnvelopeError::Invalid { reason, id })
    }

    /// Reads a message of a client, of which no reader sees another one. A byte order mark before it is ignored.
    ///
    /// # Errors
    /// [`EnvelopeError`], also if a member's name can be read as another one of the envelope.
    pub fn parse_strict(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let wire = Wire::parse(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(bytes))?;
        let id = wire.id.and_then(RequestId::read);
        let misspelled = wire.misspelled.map(InvalidReason::Misspelled);
        let read = misspelled.map_or_else(|| wire.read(id.clone()), Err);
        read.map_err(|reason| EnvelopeError::Invalid { reason, id })
    }
}

impl<'a> Wire<'a> {
    fn parse(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| EnvelopeError::NotJson)?;
        if text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('[') {
            let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
            return Err(if is_json { EnvelopeError::Batch } else { EnvelopeError::NotJson });
        }
        serde_json::from_str(text).map_err(|error| match error.classify() {
            Category::Data if serde_json::from_str::<&RawValue>(text).is_ok() => {
                EnvelopeError::Invalid { reason: InvalidReason::Shape, id: None }
            }
            _ => EnvelopeError::NotJson,
        })
    }
}

/// Writes a request.
pub fn request_bytes(id: &RequestId, method: &str, params: Option<&RawValue>) -> Bytes {
    let mut members = vec![("id", id.as_json())];
    let method = raw::string(method);
    members.push(("method", method.get()));
    members.extend(params.map(|params| ("params", params.get())));
    write(&members)
}

/// Writes a notification.
pub fn notification_bytes(method: &str, params: Option<&RawValue>) -> Bytes {
    let method = raw::string(method);
    let mut members = vec![("method", method.get())];
    members.extend(params.map(|params| ("params", params.get())));
    write(&members)
}

/// Writes a result.
pub fn response_bytes(id: &RequestId, result: &RawValue) -> Bytes {
    write(&[("id", id.as_json()), ("result", result.get())])
}

/// Writes the answer to a request.
pub fn outcome_bytes(id: &RequestId, outcome: &Outcome) -> Bytes {
    match outcome {
        Outcome::Result(result) => response_bytes(id, result),
        Outcome::Error(error) => raw_error_bytes(Some(id), error),
    }
}

/// Writes an error; without an id, the id is `null`.
pub fn error_bytes(id: Option<&RequestId>, code: i64, message: &str, data: Option<&RawValue>) -> Bytes {
    raw_error_bytes(id, &error_object(code, message, data))
}

/// Writes an error whose error object exists already; without an id, the id is `null`.
pub fn raw_error_bytes(id: Option<&RequestId>, error: &RawValue) -> Bytes {
    write(&[("id", id.map_or("null", RequestId::as_json)), ("error", error.get())])
}

/// Makes an error object.
pub fn error_object(code: i64, message: &str, data: Option<&RawValue>) -> Box<RawValue> {
    let message = raw::string(message);
    let message = message.get();
    raw::trusted(match data {
        Some(data) => format!("{{\"code\":{code},\"message\":{message},\"data\":{}}}", data.get()),
        None => format!("{{\"code\":{code},\"message\":{message}}}"),
    })
}

fn write(members: &[(&str, &str)]) -> Bytes {
    let length = members.iter().map(|(key, value)| key.len() + value.len() + 4).sum::<usize>();
    let mut text = String::with_capacity(length + START.len() + 1);
    text.push_str(START);
    for (key, value) in members {
        text.push_str(",\"");
        text.push_str(key);
        text.push_str("\":");
        text.push_str(value);
    }
    text.push('}');
    Bytes::from(text)
}

/// U+FEFF in UTF-8 (RFC 8259, 8.1).
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

const START: &str = "{\"jsonrpc\":\"2.0\"";

/// Each member as it stands: present with `null` is not the same as absent.
#[derive(Default)]
struct Wire<'a> {
    jsonrpc: Option<&'a RawValue>,
    id: Option<&'a RawValue>,
    method: Option<&'a RawValue>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    /// The member that another one's name can be read as.
    misspelled: Option<&'static str>,
}

const MEMBERS: [&str; 6] = ["jsonrpc", "id", "method", "params", "result", "error"];

impl<'de> Deserialize<'de> for Wire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(WireVisitor)
    }
}

struct WireVisitor;

impl<'de> Visitor<'de> for WireVisitor {
    type Value = Wire<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON-RPC message")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Wire<'de>, A::Error> {
        let mut wire = Wire::default();
        while let Some((key, value)) = map.next_entry::<&'de RawValue, &'de RawValue>()? {
            let written = key.get().trim_matches('"');
            let key = if written.contains('\\') { raw::lossy_text(key).into() } else { Cow::Borrowed(written) };
            let member = match &*key {
                "jsonrpc" => &mut wire.jsonrpc,
                "id" => &mut wire.id,
                "method" => &mut wire.method,
                "params" => &mut wire.params,
                "result" => &mut wire.result,
                "error" => &mut wire.error,
                other => {
                    wire.misspelled = wire.misspelled.or_else(|| misspelled(other, &MEMBERS));
                    continue;
                }
            };
            if member.replace(value).is_some() {
                return Err(A::Error::custom("a member occurs twice"));
            }
        }
        Ok(wire)
    }
}

#[derive(Deserialize)]
struct WireErrorObject<'a> {
    code: i64,
    #[serde(borrow, default, deserialize_with = "present")]
    message: Option<&'a RawValue>,
}

impl Wire<'_> {
    fn read(self, id: Option<RequestId>) -> Result<Message, InvalidReason> {
        if self.jsonrpc.and_then(raw::as_text).as_deref() != Some("2.0") {
            return Err(InvalidReason::Version);
        }
        match (self.method, self.result, self.error) {
            (Some(method), None, None) => {
                let method = raw::as_text(method).ok_or(InvalidReason::Method)?;
                let params = self.params.filter(|params| !raw::is_null(params));
                if !params.is_none_or(raw::is_object) {
                    return Err(InvalidReason::Params);
                }
                let params = params.map(ToOwned::to_owned);
                match (self.id, id) {
                    (None, _) => Ok(Message::Notification { method, params }),
                    (Some(_), Some(id)) => Ok(Message::Request { id, method, params }),
                    (Some(_), None) => Err(InvalidReason::Id),
                }
            }
            (None, Some(result), None) => {
                let id = Some(id.ok_or(InvalidReason::Id)?);
                Ok(Message::Response { id, outcome: Outcome::Result(result.to_owned()) })
            }
            (None, None, Some(error)) => {
                if id.is_none() && !self.id.is_none_or(raw::is_null) {
                    return Err(InvalidReason::Id);
                }
                RpcError::parse(error).ok_or(InvalidReason::Error)?;
                Ok(Message::Response { id, outcome: Outcome::Error(error.to_owned()) })
            }
            _ => Err(InvalidReason::Kind),
        }
    }
}

/// Reads a member that is there, be it `null`.
pub(super) fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Message, EnvelopeError> {
        Message::parse(text.as_bytes())
    }

    fn reason(text: &str) -> InvalidReason {
        match parse(text) {
            Err(EnvelopeError::Invalid { reason, .. }) => reason,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn each_kind_of_message_is_told_apart() {
        let request = parse(r#" {"id":"a\u0062","jsonrpc":"2.0","method":"tools/call","params":{ "x":1e999 }} "#);
        let Ok(Message::Request { id, method, params }) = request else { panic!("{request:?}") };
        assert_eq!(
            (id.as_json(), method.as_str(), params.unwrap().get()),
            (r#""a\u0062""#, "tools/call", r#"{ "x":1e999 }"#)
        );

        let notification = parse(r#"{"jsonrpc":"2.0","method":"notifications/initialized","params":null}"#);
        assert!(matches!(notification, Ok(Message::Notification { params: None, .. })), "{notification:?}");

        let result = parse(r#"{"jsonrpc":"2.0","id":12345678901234567890123,"result":null}"#);
        let Ok(Message::Response { id: Some(id), outcome: Outcome::Result(result) }) = result else { panic!() };
        assert_eq!((id.as_json(), result.get()), ("12345678901234567890123", "null"));

        for id in ["\"id\":null,", ""] {
            let error = parse(&format!(r#"{{"jsonrpc":"2.0",{id}"error":{{"code":-32700,"message":"no"}}}}"#));
            assert!(matches!(error, Ok(Message::Response { id: None, outcome: Outcome::Error(_) })), "{error:?}");
        }
    }

    #[test]
    fn what_is_no_json_is_a_parse_error() {
        for bytes in [&b""[..], b"{", b"{\"jsonrpc\":\"2.0\"} x", b"[1,", b"\xff\xfe", b"{\"jsonrpc\":\"\xff\"}", b"{]"]
        {
            let error = Message::parse(bytes).unwrap_err();
            assert_eq!((error.code(), error), (PARSE_ERROR, EnvelopeError::NotJson));
        }
    }

    #[test]
    fn a_batch_is_refused_as_a_batch() {
        for text in ["[]", " \n[{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}]"] {
            let error = parse(text).unwrap_err();
            assert_eq!((error.code(), error), (INVALID_REQUEST, EnvelopeError::Batch));
        }
    }

    #[test]
    fn a_clients_message_has_no_member_that_can_be_read_as_another() {
        for member in MEMBERS {
            for key in [
                member.to_uppercase(),
                format!("{member}\\u0000"),
                format!("{member}\\u0000\\ud800"),
                member.replace('d', "-d").replace('s', "ſ"),
            ] {
                let text = format!(r#"{{"jsonrpc":"2.0","id":7,"method":"m","{key}":1}}"#);
                assert!(key == member || parse(&text).is_ok(), "a server's is read: {text}");
                let strict = Message::parse_strict(text.as_bytes());
                match strict {
                    Err(EnvelopeError::Invalid { reason: InvalidReason::Misspelled(found), id: Some(id) }) => {
                        assert_eq!((found, id.as_json()), (member, "7"));
                    }
                    Err(EnvelopeError::Invalid { .. }) => assert_eq!(key, member),
                    other => assert!(key == member, "{text}: {other:?}"),
                }
            }
        }
        let text = r#"{"jsonrpc":"2.0","id":7,"method":"m","x":1,"x":2,"meta":3}"#;
        assert!(Message::parse_strict(text.as_bytes()).is_ok(), "other members are left alone");
        assert!(Message::parse_strict(format!("\u{feff}{text}").as_bytes()).is_ok(), "a byte order mark is ignored");
    }

    #[test]
    fn what_breaks_a_rule_says_which() {
        for text in ["1", "\"x\"", "null", r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"m"}"#] {
            assert_eq!(reason(text), InvalidReason::Shape, "{text}");
        }
        for (text, expected) in [
            (r#"{"id":1,"method":"m"}"#, InvalidReason::Version),
            (r#"{"jsonrpc":2.0,"id":1,"method":"m"}"#, InvalidReason::Version),
            (r#"{"jsonrpc":"1.0","id":1,"method":"m"}"#, InvalidReason::Version),
            (r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#, InvalidReason::Id),
            (r#"{"jsonrpc":"2.0","id":{},"method":"m"}"#, InvalidReason::Id),
            (r#"{"jsonrpc":"2.0","id":true,"error":{"code":1,"message":""}}"#, InvalidReason::Id),
            (r#"{"jsonrpc":"2.0","result":1}"#, InvalidReason::Id),
            (r#"{"jsonrpc":"2.0","id":null,"result":1}"#, InvalidReason::Id),
            (r#"{"jsonrpc":"2.0","id":1,"method":7}"#, InvalidReason::Method),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","params":[1]}"#, InvalidReason::Params),
            (r#"{"jsonrpc":"2.0","id":1}"#, InvalidReason::Kind),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":null}"#, InvalidReason::Kind),
            (r#"{"jsonrpc":"2.0","id":1,"method":"m","result":1}"#, InvalidReason::Kind),
            (r#"{"jsonrpc":"2.0","id":1,"error":"no"}"#, InvalidReason::Error),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":"x"}}"#, InvalidReason::Error),
        ] {
            assert_eq!(reason(text), expected, "{text}");
        }
    }

    #[test]
    fn the_id_of_a_broken_message_is_known_where_it_can_be_read() {
        let error = parse(r#"{"jsonrpc":"1.0","id":"x","method":"m"}"#).unwrap_err();
        assert_eq!(error.id().unwrap().as_json(), "\"x\"");
        assert!(parse("{}").unwrap_err().id().is_none());
    }

    #[test]
    fn what_is_written_can_be_read() {
        let id = RequestId::from_number(7);
        let raw = raw::trusted(r#"{"n":1.0}"#.to_owned());
        assert_eq!(request_bytes(&id, "m", Some(&raw)), r#"{"jsonrpc":"2.0","id":7,"method":"m","params":{"n":1.0}}"#);
        assert_eq!(notification_bytes("n\"", None), r#"{"jsonrpc":"2.0","method":"n\""}"#);
        assert_eq!(response_bytes(&id, &raw), r#"{"jsonrpc":"2.0","id":7,"result":{"n":1.0}}"#);
        let error = error_bytes(None, -32602, "no \"x\"", Some(&raw));
        assert_eq!(
            error,
            r#"{"jsonrpc":"2.0","id":null,"error":{"code":-32602,"message":"no \"x\"","data":{"n":1.0}}}"#
        );
        assert!(matches!(Message::parse(&error), Ok(Message::Response { id: None, outcome: Outcome::Error(_) })));
    }

    #[test]
    fn an_error_message_is_cut_between_characters() {
        let error = error_object(1, &"é".repeat(600), None);
        let parsed = RpcError::parse(&error).unwrap();
        assert_eq!((parsed.code, parsed.message), (1, "é".repeat(512)));
    }
}
