//! The signature keys: one, or several while keys are rotated, each with an id that records may name.
//!
//! Keys are used byte for byte, untrimmed and undecoded, as every signer of service maps does. Nothing here prints a
//! key; errors do not even quote an id, because a mistyped list may hold a key where an id belongs.

use std::collections::HashSet;
use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// The signature keys in force, at least one. Its debug form shows ids only.
#[derive(Clone)]
pub struct KeyRing {
    first: Key,
    others: Vec<Key>,
}

impl KeyRing {
    /// The one key of `CONNECTORS_SIGNATURE_KEY`, under the id `default`.
    ///
    /// # Errors
    /// [`KeyRingError::EmptyKey`].
    pub fn single(key: SecretString) -> Result<Self, KeyRingError> {
        if key.expose_secret().is_empty() {
            return Err(KeyRingError::EmptyKey { position: 1 });
        }
        Ok(Self { first: Key { id: DEFAULT_ID.to_owned(), key }, others: Vec::new() })
    }

    /// The keys of `CONNECTORS_SIGNATURE_KEYS`: `id=key,id2=key2`. A key may hold `=`, but no comma; the first one
    /// signs.
    ///
    /// # Errors
    /// [`KeyRingError`], which names the position in the list and quotes nothing.
    pub fn parse_list(text: &str) -> Result<Self, KeyRingError> {
        let mut ids = HashSet::new();
        let mut keys = Vec::new();
        for (position, item) in (1..).zip(text.split(',')) {
            let (id, key) = item.split_once('=').ok_or(KeyRingError::Form { position })?;
            if !is_id(id) {
                return Err(KeyRingError::Id { position });
            }
            if key.is_empty() {
                return Err(KeyRingError::EmptyKey { position });
            }
            if !ids.insert(id) {
                return Err(KeyRingError::RepeatedId { position });
            }
            keys.push(Key { id: id.to_owned(), key: key.into() });
        }
        let mut keys = keys.into_iter();
        // Splitting never yields an empty list.
        let first = keys.next().ok_or(KeyRingError::Form { position: 1 })?;
        Ok(Self { first, others: keys.collect() })
    }

    /// The ids, in the order of the list.
    pub fn ids(&self) -> Vec<String> {
        self.keys().map(|(id, _)| id.to_owned()).collect()
    }

    /// The first key, which signs.
    pub fn first(&self) -> (&str, &SecretString) {
        (&self.first.id, &self.first.key)
    }

    /// All keys, in the order of the list.
    pub(super) fn keys(&self) -> impl Iterator<Item = (&str, &SecretString)> {
        std::iter::once(&self.first).chain(&self.others).map(|key| (key.id.as_str(), &key.key))
    }
}

impl fmt::Debug for KeyRing {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyRing")?;
        formatter.debug_list().entries(self.keys().map(|(id, _)| id)).finish()
    }
}

/// Why a text is no list of keys. Positions count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyRingError {
    /// An item is not `id=key`.
    #[error("signature key {position} is not written id=key")]
    Form {
        /// Which item.
        position: usize,
    },
    /// An id breaks the rule.
    #[error(
        "the id of signature key {position} is not 1 to {MAX_ID_LENGTH} characters of A-Z, a-z, 0-9, '.', '_', '-'"
    )]
    Id {
        /// Which item.
        position: usize,
    },
    /// A key is empty.
    #[error("signature key {position} is empty")]
    EmptyKey {
        /// Which item.
        position: usize,
    },
    /// An id stands twice.
    #[error("signature key {position} has the id of an earlier one")]
    RepeatedId {
        /// Which item.
        position: usize,
    },
}

#[derive(Clone)]
struct Key {
    id: String,
    key: SecretString,
}

const DEFAULT_ID: &str = "default";
/// Longest identifier of a signature key, in bytes.
const MAX_ID_LENGTH: usize = 64;

fn is_id(text: &str) -> bool {
    (1..=MAX_ID_LENGTH).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_keeps_its_order_and_takes_keys_byte_for_byte() {
        let ring = KeyRing::parse_list("2025-b=new=,old= spaced ").unwrap();
        assert_eq!(ring.ids(), ["2025-b", "old"]);
        let keys: Vec<_> = ring.keys().map(|(_, key)| key.expose_secret()).collect();
        assert_eq!(keys, ["new=", " spaced "]);
        assert_eq!(ring.first().0, "2025-b");
    }

    #[test]
    fn the_only_key_has_the_id_default() {
        let ring = KeyRing::single("k".into()).unwrap();
        assert_eq!(ring.ids(), ["default"]);
        assert_eq!(KeyRing::single("".into()).unwrap_err(), KeyRingError::EmptyKey { position: 1 });
    }

    #[test]
    fn malformed_lists_are_refused_by_position() {
        for (text, error) in [
            ("", KeyRingError::Form { position: 1 }),
            ("a=1,", KeyRingError::Form { position: 2 }),
            ("secret", KeyRingError::Form { position: 1 }),
            ("=1", KeyRingError::Id { position: 1 }),
            ("a=1, b=2", KeyRingError::Id { position: 2 }),
            ("c2VjcmV0=", KeyRingError::EmptyKey { position: 1 }),
            ("a=1,b=2,a=3", KeyRingError::RepeatedId { position: 3 }),
        ] {
            assert_eq!(KeyRing::parse_list(text).unwrap_err(), error, "{text}");
        }
        assert!(KeyRing::parse_list(&format!("{}=k", "x".repeat(65))).is_err());
    }

    #[test]
    fn the_debug_form_shows_ids_and_no_key() {
        let ring = KeyRing::parse_list("one=hush,two=quiet").unwrap();
        assert_eq!(format!("{ring:?}"), r#"KeyRing["one", "two"]"#);
    }
}
