//! Why a service map is refused: a closed set of faults, each a sentence that names a place and a rule.
//!
//! No message ever quotes what the document says: a body can hold secrets, and whoever sends it could write our logs
//! (defects L5 and L6).

use crate::model::{ConnectorIdError, Failure, FailureClass, FailureGroup, TimestampError};

use super::{MAX_CONNECTORS, MAX_MAP_BYTES};
use crate::model::address::AddressFault;
use crate::model::document::DocumentFault;
use crate::model::headers::HeaderFault;

/// Why a service map is refused: the first fault, in the order decode, signature, schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MapError {
    /// It can not be read.
    #[error("the service map can not be read: {0}")]
    Decode(#[from] DecodeFault),
    /// Its signature does not hold.
    #[error("the service map is not trusted: {0}")]
    Signature(#[from] SignatureFault),
    /// It breaks its schema.
    #[error("the service map breaks its schema: {path} {rule}")]
    Schema {
        /// Where: names of the schema's own fields, and positions in lists counted from 0.
        path: String,
        /// Which rule.
        rule: SchemaRule,
    },
}

impl MapError {
    /// The class that the policy reasons with.
    pub fn class(&self) -> FailureClass {
        match self {
            Self::Decode(DecodeFault::TooLarge) => FailureClass::Oversize,
            Self::Decode(_) => FailureClass::Decode,
            Self::Signature(_) => FailureClass::Signature,
            Self::Schema { .. } => FailureClass::Schema,
        }
    }

    /// The public group of the class.
    pub fn group(&self) -> FailureGroup {
        self.class().group()
    }
}

impl From<DocumentFault> for MapError {
    fn from(fault: DocumentFault) -> Self {
        Self::Decode(fault.into())
    }
}

impl From<MapError> for Failure {
    fn from(error: MapError) -> Self {
        Self::new(error.class(), error.to_string())
    }
}

/// Why the bytes are no service map at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeFault {
    /// They are no acceptable JSON document.
    #[error(transparent)]
    Document(#[from] DocumentFault),
    /// The document, or an envelope's payload, is no object.
    #[error("it, or the payload of its envelope, is not a JSON object")]
    NotAnObject,
    /// There are too many bytes.
    #[error("it is larger than {MAX_MAP_BYTES} bytes")]
    TooLarge,
}

/// Why the signature does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SignatureFault {
    /// There is none.
    #[error("it has no signature")]
    Missing,
    /// It is spelt in another way than the one.
    #[error("its signature is not 43 characters of base64url without padding")]
    Form,
    /// It belongs to no key in force.
    #[error("its signature belongs to none of the signature keys")]
    Mismatch,
    /// A key can not be used.
    #[error("a signature key can not be used with HMAC-SHA256")]
    Key,
}

/// A rule of the schema, as the predicate of a sentence whose subject is the path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaRule {
    /// The field must be there.
    #[error("is required")]
    Required,
    /// An object.
    #[error("must be an object")]
    Object,
    /// A list.
    #[error("must be a list")]
    List,
    /// A text with at least one character.
    #[error("must be a text that is not empty")]
    Text,
    /// A boolean.
    #[error("must be true or false")]
    Flag,
    /// An integer above zero.
    #[error("must be an integer above zero, and below 2^53")]
    Positive,
    /// An integer, zero included.
    #[error("must be an integer from zero, and below 2^53")]
    Natural,
    /// A lifetime within bounds.
    #[error("must be at most ten years, in seconds")]
    Lifetime,
    /// An absolute expiry in seconds.
    #[error("must be seconds since 1970, before the year 10000")]
    EpochSeconds,
    /// The brand.
    #[error("must be the text \"brAInwav\"")]
    Brand,
    /// A ULID.
    #[error("must be a ULID: 26 upper-case characters of Crockford's alphabet")]
    Ulid,
    /// A time in UTC.
    #[error("must be a UTC time: {0}")]
    Time(TimestampError),
    /// The id of a connector.
    #[error("must be a connector id: {0}")]
    ConnectorId(ConnectorIdError),
    /// The ID of a connector of a map is longer than those of the registry may be.
    #[error("must have at least two characters")]
    ShortConnectorId,
    /// Ids are unique (defect M10).
    #[error("repeats the id of another connector")]
    RepeatedId,
    /// At least one connector.
    #[error("must name at least one connector")]
    NoConnectors,
    /// At most so many connectors.
    #[error("must name at most {MAX_CONNECTORS} connectors")]
    TooManyConnectors,
    /// The first dialect's switch.
    #[error("must be \"enabled\" or \"disabled\"")]
    Status,
    /// One dialect for the whole map, so that nobody's `enabled: false` is overlooked.
    #[error("must be written in the dialect of the first connector: all with status, or all with enabled")]
    MixedDialects,
    /// A connector that is enabled has an address.
    #[error("is required of an enabled connector")]
    EnabledWithoutEndpoint,
    /// An acceptable address.
    #[error(transparent)]
    Address(#[from] AddressFault),
    /// A known scheme.
    #[error("must be \"apiKey\", \"bearer\" or \"none\"")]
    AuthKind,
    /// An acceptable header.
    #[error(transparent)]
    Header(#[from] HeaderFault),
    /// A map of integers.
    #[error("must hold only integers from zero, and below 2^53")]
    Timeouts,
    /// At least one scope.
    #[error("must hold at least one scope")]
    NoScopes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_error_has_a_class_and_becomes_a_failure_with_its_sentence() {
        let schema = MapError::Schema { path: "connectors[0].auth.type".to_owned(), rule: SchemaRule::AuthKind };
        for (error, class, group) in [
            (DecodeFault::NotAnObject.into(), FailureClass::Decode, FailureGroup::Decode),
            (DecodeFault::TooLarge.into(), FailureClass::Oversize, FailureGroup::Decode),
            (SignatureFault::Mismatch.into(), FailureClass::Signature, FailureGroup::Signature),
            (schema.clone(), FailureClass::Schema, FailureGroup::Schema),
        ] as [(MapError, _, _); 4]
        {
            assert_eq!((error.class(), error.group()), (class, group));
            assert_eq!(Failure::from(error.clone()), Failure::new(class, error.to_string()));
        }
        assert_eq!(
            schema.to_string(),
            "the service map breaks its schema: connectors[0].auth.type must be \"apiKey\", \"bearer\" or \"none\""
        );
    }
}
