//! The challenges of `WWW-Authenticate` (RFC 9110, 11.6.1) in an answer that refuses a credential: the parameters that name the
//! cause and the next step (RFC 6750, section 3; RFC 9728, section 5.1).
//!
//! A server chooses every byte of them: they are bounded here, and output escapes them.

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;
use serde::Serialize;

use crate::mcp::limits::{CHALLENGE_BYTES_MAX, CHALLENGE_VALUE_CHARACTERS, CHALLENGES_MAX};

/// One challenge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Challenge {
    /// The authentication scheme, such as `Bearer`.
    pub scheme: String,
    /// Where the metadata of the protected resource is (RFC 9728).
    pub resource_metadata: Option<String>,
    /// The scope that the request needs.
    pub scope: Option<String>,
    /// Why the credential was refused, such as `invalid_token` or `insufficient_scope`.
    pub error: Option<String>,
}

/// Parses the challenges of an answer. What cannot be read is left out, and so is what is beyond the bounds.
pub(super) fn challenges_of(headers: &HeaderMap) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut left = CHALLENGE_BYTES_MAX;
    for value in headers.get_all(WWW_AUTHENTICATE) {
        let Some(text) = std::str::from_utf8(value.as_bytes()).ok().filter(|text| text.len() <= left) else { continue };
        left -= text.len();
        for element in elements(text) {
            let (token, rest) = split_token(element);
            if token.is_empty() {
                continue;
            }
            if let Some(value) = parameter_value(rest) {
                if let Some(challenge) = challenges.last_mut() {
                    challenge.set(token, &value);
                }
                continue;
            }
            if challenges.len() == CHALLENGES_MAX {
                return challenges;
            }
            let mut challenge = Challenge { scheme: cut(token), ..Challenge::default() };
            let (name, rest) = split_token(rest.trim_start());
            if let Some(value) = parameter_value(rest) {
                challenge.set(name, &value);
            }
            challenges.push(challenge);
        }
    }
    challenges
}

impl Challenge {
    /// Takes a parameter, if it is a known one. The first of a name counts.
    fn set(&mut self, name: &str, value: &str) {
        let known = match name.to_ascii_lowercase().as_str() {
            "resource_metadata" => &mut self.resource_metadata,
            "scope" => &mut self.scope,
            "error" => &mut self.error,
            _ => return,
        };
        known.get_or_insert_with(|| cut(value));
    }
}

fn cut(text: &str) -> String {
    text.chars().take(CHALLENGE_VALUE_CHARACTERS).collect()
}

/// Splits a list at the commas that stand outside of quoted strings.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let (mut is_quoted, mut is_escaped) = (false, false);
    text.split(move |character| {
        let ends = character == ',' && !is_quoted;
        match character {
            _ if is_escaped => is_escaped = false,
            '\\' if is_quoted => is_escaped = true,
            '"' => is_quoted = !is_quoted,
            _ => {}
        }
        ends
    })
    .map(str::trim)
}

/// Splits a token (RFC 9110, 5.6.2) off the beginning.
fn split_token(text: &str) -> (&str, &str) {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(character);
    text.split_at(text.find(|character| !is_part(character)).unwrap_or(text.len()))
}

/// The value of a parameter, of which the text is what follows its name; none if it is no parameter.
fn parameter_value(text: &str) -> Option<String> {
    let value = text.trim_start().strip_prefix('=')?.trim();
    let Some(quoted) = value.strip_prefix('"') else {
        let (token, rest) = split_token(value);
        return (!token.is_empty() && rest.is_empty()).then(|| token.to_owned());
    };
    let mut unquoted = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => return Some(unquoted),
            '\\' => unquoted.push(characters.next()?),
            character => unquoted.push(character),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn parse(values: &[&str]) -> Vec<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        challenges_of(&headers)
    }

    fn challenge(scheme: &str, resource_metadata: &str, scope: &str, error: &str) -> Challenge {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Challenge {
            scheme: scheme.to_owned(),
            resource_metadata: some(resource_metadata),
            scope: some(scope),
            error: some(error),
        }
    }

    #[test]
    fn challenges_are_read_in_every_form() {
        for (values, expected) in [
            (&["Bearer"][..], vec![challenge("Bearer", "", "", "")]),
            (&["Bearer realm=\"x\", error=\"invalid_token\""], vec![challenge("Bearer", "", "", "invalid_token")]),
            (
                &["Bearer error=insufficient_scope , SCOPE=\"a b\",resource_metadata = \"https://a/x?y=1,2\""],
                vec![challenge("Bearer", "https://a/x?y=1,2", "a b", "insufficient_scope")],
            ),
            (&["Bearer scope=\"a \\\"b\\\\\", error=\"x\""], vec![challenge("Bearer", "", "a \"b\\", "x")]),
            (
                &["Negotiate abc==, Basic realm=\"a, b\", Bearer error=x"],
                vec![
                    challenge("Negotiate", "", "", ""),
                    challenge("Basic", "", "", ""),
                    challenge("Bearer", "", "", "x"),
                ],
            ),
            (&["Basic realm=x", "DPoP error=y"], vec![challenge("Basic", "", "", ""), challenge("DPoP", "", "", "y")]),
            (&[", , Bearer , error=\"x\","], vec![challenge("Bearer", "", "", "x")]),
            (&["Bearer error=a, error=b"], vec![challenge("Bearer", "", "", "a")]),
            (&["error=\"x\""], vec![]),
            (&["", "\"", "=", "é"], vec![]),
            (&["Bearer error=\"open"], vec![challenge("Bearer", "", "", "")]),
            (&["Bearer error=\"open\\"], vec![challenge("Bearer", "", "", "")]),
        ] {
            assert_eq!(parse(values), expected, "{values:?}");
        }
    }

    #[test]
    fn a_server_that_says_much_is_cut() {
        let long = format!("Bearer error=\"{}\"", "e".repeat(1_000));
        let error = parse(&[&long]).pop().and_then(|challenge| challenge.error).unwrap();
        assert_eq!(error.len(), CHALLENGE_VALUE_CHARACTERS);
        assert_eq!(parse(&[&"A, ".repeat(100)]).len(), CHALLENGES_MAX);
        assert_eq!(parse(&[&format!("Bearer error=\"{}\"", "e".repeat(CHALLENGE_BYTES_MAX)), "Basic"]).len(), 1);
    }
}
