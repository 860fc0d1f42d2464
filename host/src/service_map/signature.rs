//! HMAC-SHA256 signatures over canonical text.
//!
//! One spelling only: base64url, 43 characters, no padding, spare bits zero, so that a signature can not be rewritten
//! into another that still verifies (defect L8). Comparison takes constant time. Nothing here knows what is signed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::error::SignatureFault;
use super::keys::KeyRing;

/// The signature of `message`.
///
/// # Errors
/// [`SignatureFault::Key`].
pub(super) fn sign(message: &str, key: &SecretString) -> Result<String, SignatureFault> {
    Ok(URL_SAFE_NO_PAD.encode(code(message, key)?.finalize().into_bytes()))
}

/// The id of the first key under which `signature` belongs to `message`.
///
/// # Errors
/// [`SignatureFault::Form`] or [`SignatureFault::Mismatch`].
pub(super) fn verify<'k>(message: &str, signature: &str, keys: &'k KeyRing) -> Result<&'k str, SignatureFault> {
    if signature.len() != LENGTH {
        return Err(SignatureFault::Form);
    }
    // This engine refuses padding, foreign characters and spare bits.
    let bytes = URL_SAFE_NO_PAD.decode(signature).map_err(|_| SignatureFault::Form)?;
    for (id, key) in keys.keys() {
        if code(message, key)?.verify_slice(&bytes).is_ok() {
            return Ok(id);
        }
    }
    Err(SignatureFault::Mismatch)
}

/// 32 bytes in base64url without padding.
const LENGTH: usize = 43;

fn code(message: &str, key: &SecretString) -> Result<Hmac<Sha256>, SignatureFault> {
    let mut code = Hmac::<Sha256>::new_from_slice(key.expose_secret().as_bytes()).map_err(|_| SignatureFault::Key)?;
    code.update(message.as_bytes());
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_tried_and_the_one_that_matches_is_named() {
        let keys = KeyRing::parse_list("new=n,old=o").unwrap();
        for (key, id) in [("n", Ok("new")), ("o", Ok("old")), ("x", Err(SignatureFault::Mismatch))] {
            let signature = sign("message", &key.into()).unwrap();
            assert_eq!(verify("message", &signature, &keys), id);
        }
    }

    #[test]
    fn a_signature_has_one_spelling_only() {
        let keys = KeyRing::single("test-key".into()).unwrap();
        let signature = sign("message", &"test-key".into()).unwrap();
        assert_eq!((signature.len(), verify("message", &signature, &keys)), (LENGTH, Ok("default")));
        let verifying = (0..=u8::MAX).filter(|last| {
            let mut other = signature.clone().into_bytes();
            other[LENGTH - 1] = *last;
            String::from_utf8(other).is_ok_and(|other| verify("message", &other, &keys).is_ok())
        });
        assert_eq!(verifying.count(), 1);
        for other in [format!("{signature}="), format!(" {signature}"), signature[1..].to_owned(), String::new()] {
            assert_eq!(verify("message", &other, &keys), Err(SignatureFault::Form), "{other}");
        }
    }
}
