//! From received bytes to a verified map: decode, then signature, then schema, in this order and no other.
//!
//! What is verified is the received value, not a reading of it, so a field this gateway does not know is still part of
//! what was signed (defect L4). Time is not judged here: an expired map verifies.

use std::fmt;

use bytes::Bytes;

use crate::model::Digest;

use super::dialect::{self, ServiceMap};
use super::envelope::{Parts, SIGNATURE};
use super::error::{DecodeFault, MapError};
use super::keys::KeyRing;
use super::signature;
use crate::model::canonical;
use crate::model::document::Source;

/// The greatest size of a service map, in bytes, both as it is sent and decoded.
pub const MAX_MAP_BYTES: usize = 4 << 20;

/// A map whose signature holds and whose schema is kept. Its debug form leaves the bytes out.
#[derive(Clone, PartialEq)]
pub struct VerifiedMap {
    /// What it says.
    pub map: ServiceMap,
    /// The key that it was signed with.
    pub key_id: String,
    /// The digest of `raw`.
    pub digest: Digest,
    /// The bytes, as they were received.
    pub raw: Bytes,
}

impl fmt::Debug for VerifiedMap {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut fields = formatter.debug_struct("VerifiedMap");
        fields.field("id", &self.map.id).field("key_id", &self.key_id).field("digest", &self.digest);
        fields.finish_non_exhaustive()
    }
}

/// Verifies and reads a service map.
///
/// # Errors
/// The first fault, in the order decode, signature, schema.
pub fn verify(raw: &[u8], keys: &KeyRing) -> Result<VerifiedMap, MapError> {
    if raw.len() > MAX_MAP_BYTES {
        return Err(DecodeFault::TooLarge.into());
    }
    let source = Source::new(raw)?;
    let parts = Parts::of(&source)?;
    let message = canonical::object_without(&parts.payload, SIGNATURE);
    let key_id = signature::verify(&message, parts.signature()?, keys)?.to_owned();
    let map = dialect::read(&parts.payload)?;
    Ok(VerifiedMap { map, key_id, digest: Digest::of(raw), raw: Bytes::copy_from_slice(raw) })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::FailureClass;
    use crate::model::document::{Value, parse};
    use crate::service_map::{SignatureFault, sign, signed_document};

    /// The worked vector T1 of the contracts (section 1.6), in its canonical form.
    const T1: &str = concat!(
        r#"{"brand":"brAInwav","connectors":[{"auth":{"headerName":"X-Api-Key","type":"apiKey"},"#,
        r#""endpoint":"https://connectors.invalid/v1/mcp","id":"demo","#,
        r#""metadata":{"brand":"brAInwav","surface":"remote"},"name":"Demo Connector","quotas":{"perMinute":60},"#,
        r#""scopes":["demo:read"],"status":"enabled","ttl":1760270520,"version":"1.0.0"}],"#,
        r#""generatedAt":"2025-10-12T12:00:00.000Z","id":"01HZ7ZWJ5XJ8W4T7N6MZ2V1PQB","ttlSeconds":120}"#
    );
    const T1_SIGNATURE: &str = "0WT-Jou2lDN6mR9ARpeOzpInQEQBsp-igMVn7CByko4";

    fn with_metadata(members: &str) -> String {
        T1.replace(r#""surface":"remote""#, members)
    }

    fn ring() -> KeyRing {
        KeyRing::single("test-key".into()).unwrap()
    }

    #[test]
    fn the_worked_vector_has_its_canonical_bytes_and_its_signature() {
        let digest = "28b8f11a8a38bb711960b083a88e18d3d690cc3c47436cf785f69215d03225f0";
        let Ok(Value::Object(object)) = parse(T1.as_bytes()) else { panic!("an object") };
        let canonical = canonical::object_without(&object, SIGNATURE);
        assert_eq!((canonical.as_str(), canonical.len()), (T1, 416));
        assert_eq!(Digest::of(canonical.as_bytes()).to_string(), digest);
        assert_eq!(sign(T1, &"test-key".into()).unwrap(), T1_SIGNATURE);
    }

    #[test]
    fn signatures_are_over_raw_utf8_and_code_unit_order() {
        for (metadata, signature) in [
            (r#""note":"café — naïve""#, "5-EGmB9QiG2_k1ugaE_DKO2MV1O_TtbWsT4DbSD929M"),
            (r#""note":"caf\u00e9 \u2014 na\u00efve""#, "5-EGmB9QiG2_k1ugaE_DKO2MV1O_TtbWsT4DbSD929M"),
            (r#""Zone":"eu""#, "08s84yJDf9HU76zG2BtXWFfavjVk1butuh_J-WNjB20"),
            (r#""10":"a","9":"b""#, "6XtTYmD1-WBMPPwsuOvuPIXpo_oCN3N6EDeT-IrVT10"),
        ] {
            assert_eq!(sign(&with_metadata(metadata), &"test-key".into()).unwrap(), signature, "{metadata}");
        }
    }

    #[test]
    fn the_dead_spellings_of_other_signers_do_not_verify() {
        for (metadata, signature) in [
            (r#""note":"café — naïve""#, "xZuT6wF8QjgbdIFTTZub28CUcFgD-5AB_55HT53nGAU"),
            (r#""Zone":"eu""#, "ysgmYHrAks4G9j06NGFPSvhdq0412zexAYjx1HrUfVo"),
            (r#""10":"a","9":"b""#, "bflDKruH6CGvBS-zEolKMf3nT6bGlXdxmrHyRR6yugo"),
        ] {
            let payload = with_metadata(metadata);
            let envelope = format!(r#"{{"payload":{payload},"signature":"{signature}"}}"#);
            assert_eq!(verify(envelope.as_bytes(), &ring()), Err(SignatureFault::Mismatch.into()), "{metadata}");
        }
    }

    #[test]
    fn fields_the_reader_does_not_know_are_still_signed() {
        let unknown = r#""metadata":{"owner":"x"},"ttlSeconds":120,"__proto__":{"a":1}"#;
        let extended = T1.replace(r#""ttlSeconds":120"#, unknown);
        let signed = signed_document(&extended, &"test-key".into()).unwrap();
        assert!(verify(signed.as_bytes(), &ring()).is_ok());
        let changed = signed.replace(r#""owner":"x""#, r#""owner":"y""#);
        assert_eq!(verify(changed.as_bytes(), &ring()), Err(SignatureFault::Mismatch.into()));
    }

    #[test]
    fn the_first_fault_in_the_order_decode_signature_schema_is_reported() {
        let class = |text: &str| verify(text.as_bytes(), &ring()).map_err(|error| error.class()).map(|_| ());
        let wrong_schema = T1.replace("brAInwav\",\"connectors", "other\",\"connectors");
        assert_eq!(class(&wrong_schema), Err(FailureClass::Signature));
        assert_eq!(class(&signed_document(&wrong_schema, &"test-key".into()).unwrap()), Err(FailureClass::Schema));
        assert_eq!(class(&format!("{T1} {T1}")), Err(FailureClass::Decode));
        assert_eq!(class(&" ".repeat(MAX_MAP_BYTES + 1)), Err(FailureClass::Oversize));
    }

    #[test]
    fn a_map_that_expired_long_ago_verifies() {
        let signed = signed_document(T1, &"test-key".into()).unwrap();
        let verified = verify(signed.as_bytes(), &ring()).unwrap();
        assert_eq!(verified.map.expires, verified.map.generated_at.plus(120_000));
        assert_eq!((verified.key_id.as_str(), verified.digest), ("default", Digest::of(signed.as_bytes())));
        assert_eq!(verified.raw, signed.as_bytes());
    }

    #[test]
    fn a_map_signed_with_the_key_that_is_rotated_out_still_verifies_and_names_it() {
        let keys = KeyRing::parse_list("new=n,old=test-key").unwrap();
        let signed = signed_document(T1, &"test-key".into()).unwrap();
        assert_eq!(verify(signed.as_bytes(), &keys).unwrap().key_id, "old");
    }

    #[test]
    fn no_error_quotes_the_document() {
        let secret = with_metadata(r#""s3cr3t":"s3cr3t""#).replace("apiKey", "s3cr3t");
        let error = verify(signed_document(&secret, &"test-key".into()).unwrap().as_bytes(), &ring()).unwrap_err();
        assert_eq!(error.class(), FailureClass::Schema);
        for text in [secret.as_str(), "s3cr3t", r#"{"s3cr3t":1,"s3cr3t":2}"#, r#"{"signature":"s3cr3t"}"#] {
            let failure = verify(text.as_bytes(), &ring()).unwrap_err();
            assert!(!format!("{failure} {failure:?} {error} {error:?}").contains("s3cr3t"), "{failure}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn a_document_with_one_byte_changed_never_says_anything_else(
            place in any::<prop::sample::Index>(), byte: u8, enveloped: bool,
        ) {
            let signed = if enveloped {
                format!(r#"{{"payload": {T1}, "signature": "{T1_SIGNATURE}"}}"#)
            } else {
                signed_document(T1, &"test-key".into()).unwrap()
            };
            let original = verify(signed.as_bytes(), &ring()).unwrap();
            let mut bytes = signed.into_bytes();
            let place = place.index(bytes.len());
            bytes[place] = byte;
            if let Ok(verified) = verify(&bytes, &ring()) {
                prop_assert_eq!(verified.map, original.map);
            }
        }

        #[test]
        fn no_bytes_make_the_verifier_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(verify(&bytes, &ring()).is_err());
        }
    }
}
