//! Schemes of URIs (RFC 3986, section 3.1).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The scheme of a URI, in lower case: schemes are case-insensitive. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UriScheme(Arc<str>);

impl UriScheme {
    /// Returns the scheme of a URI or of a URI template; none if it has none, or if an expression is part of it.
    pub fn of_uri(uri: &str) -> Option<Self> {
        // No scheme is looked for behind the longest one: URIs may be megabytes.
        let start = uri.as_bytes().get(..uri.len().min(LENGTH_MAX + 1))?;
        let end = start.iter().position(|byte| *byte == b':')?;
        uri.get(..end)?.parse().ok()
    }

    /// The scheme as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for UriScheme {
    type Err = UriSchemeError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        let is_scheme = text.len() <= LENGTH_MAX
            && text.bytes().next().is_some_and(|first| first.is_ascii_alphabetic())
            && text.bytes().all(is_part);
        if is_scheme { Ok(Self(text.to_ascii_lowercase().into())) } else { Err(UriSchemeError) }
    }
}

impl TryFrom<String> for UriScheme {
    type Error = UriSchemeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<UriScheme> for String {
    fn from(scheme: UriScheme) -> Self {
        scheme.0.as_ref().to_owned()
    }
}

impl fmt::Display for UriScheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for UriScheme {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that is not the scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a URI scheme is 1 to {LENGTH_MAX} characters of a-z, 0-9, '+', '-' and '.', and begins with a letter; write it without the colon"
)]
pub struct UriSchemeError;

/// Longest scheme, in bytes. It is short enough for a qualified one, `cortex+` and a connector's identifier of 63 characters.
const LENGTH_MAX: usize = 80;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_are_those_of_rfc_3986_in_any_case() {
        let long = "x".repeat(LENGTH_MAX);
        for (uri, scheme) in [
            ("bank://accounts/1", Some("bank")),
            ("BANK:1", Some("bank")),
            ("coap+tcp://x", Some("coap+tcp")),
            ("a-b.c+1:", Some("a-b.c+1")),
            ("bank://{id}", Some("bank")),
            ("cortex+wiki:file:///x", Some("cortex+wiki")),
            (&format!("{long}:x"), Some(&*long)),
            (&format!("{long}x:x"), None),
            ("{scheme}://x", None),
            ("b{x}:1", None),
            ("1a:x", None),
            (":x", None),
            ("", None),
            ("relative/path", None),
            ("é:x", None),
            ("bank :x", None),
        ] {
            assert_eq!(UriScheme::of_uri(uri).as_ref().map(UriScheme::as_str), scheme, "{uri}");
        }
        assert!("bank:".parse::<UriScheme>().is_err() && "".parse::<UriScheme>().is_err());
        // The end of the longest scheme is in the middle of a character.
        assert_eq!(UriScheme::of_uri(&"é".repeat(LENGTH_MAX)), None);
    }
}
