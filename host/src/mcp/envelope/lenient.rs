//! Reading the messages of servers: what only one reading makes sense of is taken, and reported.
//!
//! Servers write `"error": null` beside a result, leave `jsonrpc` out of answers, or begin with a byte order mark. Nothing is
//! forgiven that could be read as another message. What cannot be read says why, and what it seems to be about.

use super::{BYTE_ORDER_MARK, EnvelopeError, Message, Outcome, RequestId, Wire};
use crate::mcp::error::ProtocolFault;
use crate::mcp::inbound::Irregularity;
use crate::mcp::outline::{Extent, Outline};
use crate::model::raw::{self, RawObject};

/// The message of an error that has none. Clients wait without end for an error that their schemas refuse.
const NO_MESSAGE: &str = "the server gave no error message";

/// A message, and what had to be forgiven in it.
#[derive(Debug)]
pub struct Reading {
    /// The message. Without an identifier it may be a result, too.
    pub message: Message,
    /// The rules that it breaks.
    pub forgiven: Vec<Irregularity>,
}

/// A text that is no message.
#[derive(Debug)]
pub struct Unreadable {
    /// Why.
    pub fault: ProtocolFault,
    /// What can be seen of it.
    pub outline: Outline,
}

/// Reads a message of a server.
///
/// # Errors
/// [`Unreadable`], if it is none, or could be read as more than one.
pub fn read(bytes: &[u8]) -> Result<Reading, Unreadable> {
    let mut forgiven = Vec::new();
    let text = bytes.strip_prefix(BYTE_ORDER_MARK);
    forgiven.extend(text.map(|_| Irregularity::ByteOrderMark));
    let text = text.unwrap_or(bytes);
    match read_text(text, &mut forgiven) {
        Ok(message) => Ok(Reading { message, forgiven }),
        Err(error) => {
            let outline = Outline::from_bytes(text);
            Err(Unreadable { fault: fault(error, text, &outline), outline })
        }
    }
}

fn read_text(text: &[u8], forgiven: &mut Vec<Irregularity>) -> Result<Message, EnvelopeError> {
    let mut wire = Wire::parse(text)?;
    wire.forgive(forgiven);
    let id = wire.id.and_then(RequestId::read);
    if let (None, Some(result), None) = (wire.method, wire.result, wire.error)
        && wire.id.is_none_or(raw::is_null)
        && wire.has_version()
    {
        forgiven.push(Irregularity::NoId);
        return Ok(Message::Response { id: None, outcome: Outcome::Result(result.to_owned()) });
    }
    let message = wire.read(id.clone()).map_err(|reason| EnvelopeError::Invalid { reason, id })?;
    Ok(match message {
        Message::Response { id, outcome: Outcome::Error(error) } => {
            Message::Response { id, outcome: Outcome::Error(with_message(error, forgiven)) }
        }
        message => message,
    })
}

fn with_message(
    error: Box<serde_json::value::RawValue>,
    forgiven: &mut Vec<Irregularity>,
) -> Box<serde_json::value::RawValue> {
    match RawObject::parse(&error) {
        Ok(mut object) if object.get_str("message").is_none() => {
            forgiven.push(Irregularity::NoErrorMessage);
            object.set("message", raw::string(NO_MESSAGE));
            object.to_raw()
        }
        _ => error,
    }
}

/// The most precise reason.
fn fault(error: EnvelopeError, text: &[u8], outline: &Outline) -> ProtocolFault {
    match error {
        // A zero byte is no part of JSON, and half of a letter in UTF-16.
        EnvelopeError::NotJson if text.contains(&0) || std::str::from_utf8(text).is_err() => ProtocolFault::NotUtf8,
        EnvelopeError::NotJson if outline.has_non_number() => ProtocolFault::NotANumber,
        EnvelopeError::NotJson if outline.extent() == Extent::Open => ProtocolFault::Unfinished,
        error => error.into(),
    }
}

impl Wire<'_> {
    /// Takes out what only one reading makes sense of.
    fn forgive(&mut self, forgiven: &mut Vec<Irregularity>) {
        let is_null = |member: Option<&_>| member.is_some_and(raw::is_null);
        let has_method = self.method.is_some() && !is_null(self.method);
        let before = [self.id, self.method, self.result, self.error].iter().flatten().count();
        if has_method {
            for member in [&mut self.id, &mut self.result, &mut self.error] {
                *member = member.filter(|value| !raw::is_null(value));
            }
        } else if self.result.is_some() || self.error.is_some() {
            self.method = None;
            match (is_null(self.result), is_null(self.error)) {
                (false, true) if self.result.is_some() => self.error = None,
                (true, false) if self.error.is_some() => self.result = None,
                _ => {}
            }
        }
        if [self.id, self.method, self.result, self.error].iter().flatten().count() < before {
            forgiven.push(Irregularity::NullMember);
        }
        // Only of answers: a line of a log in JSON may well have a method.
        let is_answer = self.method.is_none() && (self.result.is_some() || self.error.is_some());
        if is_answer && self.jsonrpc.is_none_or(raw::is_null) {
            self.jsonrpc = serde_json::from_str(r#""2.0""#).ok();
            forgiven.push(Irregularity::NoVersion);
        }
    }

    fn has_version(&self) -> bool {
        self.jsonrpc.and_then(raw::as_text).as_deref() == Some("2.0")
    }
}

impl RequestId {
    /// The number that a string holds in exactly its decimal form; none of anything else.
    pub(crate) fn number_in_text(&self) -> Option<Self> {
        let digits = self.as_json().strip_prefix('"')?.strip_suffix('"')?;
        let number: u64 = digits.parse().ok()?;
        Some(Self::from_number(number)).filter(|id| id.as_json() == digits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mcp::envelope::InvalidReason;

    fn reading(text: &[u8]) -> String {
        match read(text) {
            Ok(Reading { message, forgiven }) => format!("{message:?} {forgiven:?}"),
            Err(unreadable) => format!("{:?} {:?}", unreadable.fault, unreadable.outline.id()),
        }
    }

    #[test]
    fn what_only_one_reading_makes_sense_of_is_taken_and_reported() {
        use Irregularity::{ByteOrderMark, NoErrorMessage, NoId, NoVersion, NullMember};
        for (text, result, expected) in [
            (r#"{"jsonrpc":"2.0","id":1,"result":{"a":1.0}}"#, true, vec![]),
            (r#"{"id":1,"result":{"a":1.0}}"#, true, vec![NoVersion]),
            (
                r#"{"jsonrpc":null,"id":1,"result":{"a":1.0},"error":null,"method":null}"#,
                true,
                vec![NullMember, NoVersion],
            ),
            (r#"{"jsonrpc":"2.0","id":1,"result":{"a":1.0},"error":null}"#, true, vec![NullMember]),
            (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":{"code":1,"message":"no"}}"#, false, vec![NullMember]),
            ("\u{feff}{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{\"a\":1.0}}", true, vec![ByteOrderMark]),
            (r#"{"jsonrpc":"2.0","id":null,"result":{"a":1.0}}"#, true, vec![NoId]),
            (r#"{"jsonrpc":"2.0","result":{"a":1.0}}"#, true, vec![NoId]),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":null}}"#, false, vec![NoErrorMessage]),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":1}}"#, false, vec![NoErrorMessage]),
        ] {
            let Ok(Reading { message: Message::Response { outcome, .. }, forgiven }) = read(text.as_bytes()) else {
                panic!("{text}: {}", reading(text.as_bytes()));
            };
            assert_eq!(forgiven, expected, "{text}");
            match outcome {
                Outcome::Result(found) => assert!(result && found.get() == r#"{"a":1.0}"#, "{text}"),
                Outcome::Error(error) => {
                    assert!(!result && RawObject::parse(&error).unwrap().get_str("message").is_some(), "{text}");
                }
            }
        }
        for text in [
            r#"{"jsonrpc":"2.0","id":null,"method":"m"}"#,
            r#"{"jsonrpc":"2.0","method":"m","result":null,"error":null}"#,
        ] {
            let read = read(text.as_bytes()).unwrap();
            assert!(matches!(read.message, Message::Notification { .. }), "{text}");
            assert_eq!(read.forgiven, [NullMember], "{text}");
        }
    }

    #[test]
    fn what_has_two_readings_or_none_fails_with_its_reason_and_identifier() {
        use ProtocolFault::{NotANumber, NotUtf8, Unfinished};
        for (text, fault) in [
            (&br#"{"jsonrpc":"2.0","id":1,"result":{"mean":NaN}}"#[..], NotANumber),
            (br#"{"jsonrpc":"2.0","id":1,"result":[-Infinity]}"#, NotANumber),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":\"caf\xe9\"}", NotUtf8),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{", Unfinished),
            (b"{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{'a':1}}", EnvelopeError::NotJson.into()),
            (b"{'jsonrpc': '2.0', 'id': 1, 'result': {'is': None}}", EnvelopeError::NotJson.into()),
            (b"{\0\"\0i\0d\0\"\0:\x001\0,\0\"\0r\0e\0s\0u\0l\0t\0\"\0:\x001\0}\0", NotUtf8),
        ] {
            let unreadable = read(text).unwrap_err();
            assert_eq!(unreadable.fault, fault, "{}", String::from_utf8_lossy(text));
            assert_eq!(unreadable.outline.id().unwrap().as_json(), "1");
            assert!(unreadable.outline.is_answer());
        }
        for (text, expected) in [
            (r#"{"id":1,"method":"m"}"#, InvalidReason::Version),
            (r#"{"jsonrpc":"1.0","id":1,"result":1}"#, InvalidReason::Version),
            (r#"{"jsonrpc":"2.0","id":1,"result":null,"error":null}"#, InvalidReason::Kind),
            (r#"{"jsonrpc":"2.0","id":1,"result":1,"error":{"code":1,"message":""}}"#, InvalidReason::Kind),
            (r#"{"jsonrpc":"2.0","id":1,"error":{"code":"-32000","message":"x"}}"#, InvalidReason::Error),
            (r#"{"jsonrpc":"2.0","id":{},"result":1}"#, InvalidReason::Id),
        ] {
            let unreadable = read(text.as_bytes()).unwrap_err();
            let is_it = matches!(&unreadable.fault, ProtocolFault::Envelope(EnvelopeError::Invalid { reason, .. }) if *reason == expected);
            assert!(is_it, "{text}: {:?}", unreadable.fault);
        }
    }

    #[test]
    fn only_the_exact_decimal_form_in_a_string_is_a_number() {
        for (id, number) in [
            ("\"1\"", Some("1")),
            ("\"0\"", Some("0")),
            ("\"01\"", None),
            ("\"1.0\"", None),
            ("\"+1\"", None),
            ("\" 1\"", None),
            ("\"\"", None),
            ("1", None),
        ] {
            let found = RequestId::from_json(id.to_owned()).number_in_text();
            assert_eq!(found.as_ref().map(RequestId::as_json), number, "{id}");
        }
    }
}
