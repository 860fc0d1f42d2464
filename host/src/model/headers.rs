//! Which header fields a document may ask to be sent to its connector.
//!
//! Fields that frame the message or belong to the connection or the protocol are refused: a document that could set
//! them could smuggle requests or speak in the gateway's name. Values are taken literally: `${NAME}` in a map is never
//! expanded from the environment, which would hand the gateway's secrets to whoever writes maps.

use http::{HeaderName, HeaderValue};

/// Why a header field is refused, as the predicate of a sentence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderFault {
    /// The name is no HTTP token.
    #[error("must name HTTP header fields")]
    Name,
    /// The name is not the document's to set.
    #[error("must not name a header field of the connection, the message's framing or the protocol")]
    Reserved,
    /// The value is no text, or holds what no header may.
    #[error("must give header values without control characters")]
    Value,
    /// One name, twice, in different case.
    #[error("must name each header field once")]
    Repeated,
}

/// Whether a document may set the field `name`.
///
/// # Errors
/// [`HeaderFault::Name`] or [`HeaderFault::Reserved`].
pub(crate) fn check_name(name: &str) -> Result<HeaderName, HeaderFault> {
    let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| HeaderFault::Name)?;
    let reserved = RESERVED.contains(&name.as_str()) || name.as_str().starts_with(PROTOCOL_PREFIX);
    if reserved { Err(HeaderFault::Reserved) } else { Ok(name) }
}

/// Whether `value` can be sent.
///
/// # Errors
/// [`HeaderFault::Value`].
pub(crate) fn check_value(value: &str) -> Result<(), HeaderFault> {
    HeaderValue::from_str(value).map(|_| ()).map_err(|_| HeaderFault::Value)
}

/// Fields of the connection and of the message's framing, RFC 9110 section 7.6.1 and RFC 9112 section 6.
const RESERVED: [&str; 12] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The names that the Model Context Protocol takes for itself begin so.
const PROTOCOL_PREFIX: &str = "mcp-";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_the_connection_and_the_protocol_are_refused_in_any_case() {
        for name in ["Host", "content-length", "TRANSFER-ENCODING", "Connection", "Mcp-Session-Id", "te"] {
            assert_eq!(check_name(name), Err(HeaderFault::Reserved), "{name}");
        }
        for name in ["", "X Key", "X:Key", "clé", "X\nKey"] {
            assert_eq!(check_name(name), Err(HeaderFault::Name), "{name}");
        }
        for name in ["Authorization", "X-Api-Key", "x_plan", "Accept"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }

    #[test]
    fn values_may_not_break_the_line() {
        assert_eq!(check_value("a\r\nX: b"), Err(HeaderFault::Value));
        assert_eq!(check_value("a\0"), Err(HeaderFault::Value));
        assert_eq!(check_value("Bearer ${KEY}"), Ok(()));
    }
}
