//! Where a received document holds its payload and its signature.
//!
//! A flat document is the payload, with a member `signature`. An envelope has a member `payload` and, besides
//! `signature`, nothing else: so whatever stands in an accepted document was signed. Nothing here trusts anything yet.

use serde_json::value::RawValue;

use super::error::{DecodeFault, MapError, SignatureFault};
use crate::model::document::{Object, Source, Value};

/// The member that holds the signature.
pub(super) const SIGNATURE: &str = "signature";

/// A document, taken apart.
pub(super) struct Parts<'a> {
    /// The text of the payload.
    pub(super) text: &'a RawValue,
    /// The payload; in a flat document with the signature still in it.
    pub(super) payload: Object,
    /// The signature's value, whatever it is.
    signature: Option<Value>,
}

impl<'a> Parts<'a> {
    /// Takes a document apart.
    ///
    /// # Errors
    /// [`MapError::Decode`].
    pub(super) fn of(source: &Source<'a>) -> Result<Self, MapError> {
        let members = source.members(source.root())?.ok_or(DecodeFault::NotAnObject)?;
        let member = |name: &str| members.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
        let enveloped = members.iter().all(|(name, _)| name == PAYLOAD || name == SIGNATURE);
        let text = member(PAYLOAD).filter(|_| enveloped).unwrap_or(source.root());
        let Value::Object(payload) = source.value(text)? else { return Err(DecodeFault::NotAnObject.into()) };
        let signature = member(SIGNATURE).map(|value| source.value(value)).transpose()?;
        Ok(Self { text, payload, signature })
    }

    /// The signature's text.
    ///
    /// # Errors
    /// [`SignatureFault::Missing`], or [`SignatureFault::Form`] if it is no text.
    pub(super) fn signature(&self) -> Result<&str, SignatureFault> {
        self.signature.as_ref().ok_or(SignatureFault::Missing)?.as_text().ok_or(SignatureFault::Form)
    }
}

const PAYLOAD: &str = "payload";

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(text: &str) -> Result<(String, Result<String, SignatureFault>), MapError> {
        let source = Source::new(text.as_bytes())?;
        let parts = Parts::of(&source)?;
        Ok((parts.text.get().to_owned(), parts.signature().map(str::to_owned)))
    }

    #[test]
    fn a_flat_document_is_its_own_payload() {
        let flat = r#"{"a":1,"signature":"s"}"#;
        assert_eq!(parts(flat), Ok((flat.to_owned(), Ok("s".to_owned()))));
        assert_eq!(parts(r#"{"a":1}"#).unwrap().1, Err(SignatureFault::Missing));
        assert_eq!(parts(r#"{"signature":null}"#).unwrap().1, Err(SignatureFault::Form));
    }

    #[test]
    fn an_envelope_holds_nothing_but_payload_and_signature() {
        assert_eq!(parts(r#"{"signature":"s","payload":{"a":1}}"#), Ok((r#"{"a":1}"#.to_owned(), Ok("s".to_owned()))));
        let flat = r#"{"payload":{"a":1},"signature":"s","unsigned":2}"#;
        assert_eq!(parts(flat).unwrap().0, flat);
    }

    #[test]
    fn a_payload_that_is_no_object_is_no_map() {
        for text in ["[]", "1", "null", r#"{"payload":[],"signature":"s"}"#] {
            assert_eq!(parts(text), Err(MapError::Decode(DecodeFault::NotAnObject)), "{text}");
        }
    }
}
