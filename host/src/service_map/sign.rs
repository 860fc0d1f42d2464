//! Signing a service map, for operators and for the demo.
//!
//! Only the recipe (design section 4): whether the payload keeps the schema is the verifier's to say. The text that is
//! signed is otherwise left byte for byte as its author wrote it.

use secrecy::SecretString;

use super::envelope::{Parts, SIGNATURE};
use super::error::MapError;
use super::signature;
use crate::model::canonical;
use crate::model::document::Source;

/// The signature of a document: of a flat one, of an envelope's payload, or of a payload that has none yet. A signature
/// that is there already is replaced in thought.
///
/// # Errors
/// [`MapError::Decode`], or [`MapError::Signature`] for a key that can not be used.
pub fn sign(document: &str, key: &SecretString) -> Result<String, MapError> {
    let source = Source::new(document.as_bytes())?;
    sign_parts(&Parts::of(&source)?, key)
}

/// The signed flat document: the payload's own text with the member `signature` replaced, or else appended.
///
/// # Errors
/// As [`sign`].
pub fn signed_document(document: &str, key: &SecretString) -> Result<String, MapError> {
    let source = Source::new(document.as_bytes())?;
    let parts = Parts::of(&source)?;
    let value = format!("\"{}\"", sign_parts(&parts, key)?);
    let payload = source.range(parts.text);
    let flat = parts.text.get().len() == source.root().get().len();
    // A flat document keeps what surrounds it: a final line feed.
    let whole = if flat { 0..source.text().len() } else { payload.clone() };
    let members = source.members(parts.text)?.unwrap_or_default();
    if let Some((_, present)) = members.iter().find(|(name, _)| name == SIGNATURE) {
        let present = source.range(present);
        return Ok([&document[whole.start..present.start], &value, &document[present.end..whole.end]].concat());
    }
    let inner = &document[payload.start + 1..payload.end - 1];
    // The new member is laid out like the first one.
    let indent = &inner[..inner.len() - inner.trim_start_matches(SPACE).len()];
    let colon = if indent.is_empty() { ":" } else { ": " };
    let comma = if members.is_empty() { "" } else { "," };
    let end = payload.start + 1 + inner.trim_end_matches(SPACE).len();
    let member = [comma, indent, "\"", SIGNATURE, "\"", colon, &value].concat();
    Ok([&document[whole.start..end], &member, &document[end..whole.end]].concat())
}

/// What JSON calls white space.
const SPACE: [char; 4] = [' ', '\t', '\n', '\r'];

fn sign_parts(parts: &Parts<'_>, key: &SecretString) -> Result<String, MapError> {
    Ok(signature::sign(&canonical::object_without(&parts.payload, SIGNATURE), key)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(document: &str) -> String {
        signed_document(document, &"k".into()).unwrap()
    }

    #[test]
    fn flat_enveloped_and_unsigned_forms_have_one_signature() {
        let forms = [
            r#"{"b":1,"a":2}"#,
            r#"{"a":2.0,"signature":"old","b":1}"#,
            r#"{"payload":{"b":1,"a":2}}"#,
            r#"{"payload":{"b":1,"a":2},"signature":"old"}"#,
            "{\n  \"a\": 2,\n  \"b\": 1\n}\n",
        ];
        let signatures: Vec<_> = forms.iter().map(|form| sign(form, &"k".into()).unwrap()).collect();
        assert!(signatures.iter().all(|signature| *signature == signatures[0]));
    }

    #[test]
    fn everything_but_the_signature_keeps_its_bytes() {
        let s = sign(r#"{"a":1}"#, &"k".into()).unwrap();
        for (document, expected) in [
            (r#"{"a":1.0}"#, format!(r#"{{"a":1.0,"signature":"{s}"}}"#)),
            ("{ \"a\": 1 }\n", format!("{{ \"a\": 1, \"signature\": \"{s}\" }}\n")),
            ("{\n  \"a\": 1\n}\n", format!("{{\n  \"a\": 1,\n  \"signature\": \"{s}\"\n}}\n")),
            (r#"{"signature": "old" ,"a":1}"#, format!(r#"{{"signature": "{s}" ,"a":1}}"#)),
            (" {\"payload\": {\"a\":1}} ", format!(r#"{{"a":1,"signature":"{s}"}}"#)),
        ] {
            assert_eq!(signed(document), expected);
            assert_eq!(signed(&signed(document)), expected);
        }
        assert!(signed("{}").starts_with("{\"signature\":"));
    }

    #[test]
    fn what_is_no_object_can_not_be_signed() {
        for document in ["", "[]", r#"{"a":1,"a":2}"#] {
            assert!(matches!(sign(document, &"k".into()), Err(MapError::Decode(_))), "{document}");
        }
    }
}
