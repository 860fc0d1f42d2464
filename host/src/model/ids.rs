//! Identifiers. A value of these types has been checked; nothing downstream checks it again.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The ID of a connector: `^[a-z0-9][a-z0-9-]{0,62}$`, which is the rule of the connectors manifest and names of one character.
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ConnectorId(Arc<str>);

impl ConnectorId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name of the environment variable that holds this connector's credential:
    /// `CORTEX_CONNECTOR_<ID>_KEY`, upper case, dashes as underscores.
    pub fn credential_variable(&self) -> String {
        format!("{CREDENTIAL_PREFIX}{}{CREDENTIAL_SUFFIX}", self.0.to_ascii_uppercase().replace('-', "_"))
    }

    /// Whether an environment variable of this name holds the credential of some connector.
    pub fn is_credential_variable(name: &str) -> bool {
        name.strip_prefix(CREDENTIAL_PREFIX)
            .is_some_and(|rest| rest.len() > CREDENTIAL_SUFFIX.len() && rest.ends_with(CREDENTIAL_SUFFIX))
    }
}

const CREDENTIAL_PREFIX: &str = "CORTEX_CONNECTOR_";
const CREDENTIAL_SUFFIX: &str = "_KEY";

impl FromStr for ConnectorId {
    type Err = ConnectorIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bytes = text.as_bytes();
        let well_formed = (1..=MAX_LENGTH).contains(&bytes.len())
            && bytes[0] != b'-'
            && bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
        if well_formed { Ok(Self(text.into())) } else { Err(ConnectorIdError) }
    }
}

impl TryFrom<String> for ConnectorId {
    type Error = ConnectorIdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<ConnectorId> for String {
    fn from(id: ConnectorId) -> Self {
        id.0.as_ref().to_owned()
    }
}

impl fmt::Display for ConnectorId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for ConnectorId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that is no connector id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a connector id is 1 to 63 characters of a-z, 0-9 and '-', and does not begin with '-'")]
pub struct ConnectorIdError;

/// Longest identifier of a connector, in bytes: a label of a domain name (RFC 1035, section 2.3.4).
const MAX_LENGTH: usize = 63;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_ids_of_the_manifest_rule_are_accepted() {
        for good in ["demo", "a", "7", "a1", "0-", &"x".repeat(63)] {
            assert!(good.parse::<ConnectorId>().is_ok(), "{good}");
        }
        for bad in ["", "-", "A", "-a", "Demo", "a.b", "a_b", "é1", &"x".repeat(64)] {
            assert!(bad.parse::<ConnectorId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_credential_variable_is_upper_case_with_underscores() {
        let id: ConnectorId = "my-server".parse().unwrap();
        assert_eq!(id.credential_variable(), "CORTEX_CONNECTOR_MY_SERVER_KEY");
        assert!(ConnectorId::is_credential_variable("CORTEX_CONNECTOR_MY_SERVER_KEY"));
        for other in ["CORTEX_CONNECTOR_KEY", "CORTEX_CONNECTOR__KEY", "CORTEX_CONNECTOR_X_KEY_FILE", "CORTEX_HOME"] {
            assert!(!ConnectorId::is_credential_variable(other), "{other}");
        }
    }
}
