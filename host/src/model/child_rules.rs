//! What a child process is given besides its command: which variables of the gateway's environment, and which privileges.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The rules that a child process is started under.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChildRules {
    /// Variables that are passed on besides those that every child gets.
    pub pass_environment: Vec<VariableName>,
    /// What becomes of the gateway's privileges.
    pub privileges: Privileges,
}

/// What becomes of the gateway's privileges in a child process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Privileges {
    /// The child has no capability and cannot gain one: programs that are setuid or have file capabilities run without.
    #[default]
    Drop,
    /// The child has whatever the gateway has, and setuid programs work. As root it can read the gateway's secrets.
    Keep,
}

/// The name of an environment variable that may be passed on to a child: none of the gateway's own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct VariableName(String);

/// Why a text is not the name of a variable that may be passed on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VariableNameFault {
    /// Not a name. The text is not quoted: it may be an assignment with a secret in it.
    #[error("write names of variables without their values: letters, digits and _, not beginning with a digit")]
    Form,
    /// A variable that the gateway reads itself.
    #[error("{0} is a variable of the gateway itself, which no server gets; remove it")]
    Gateway(String),
}

/// What the names of the gateway's own variables begin with. All of them are refused, so that a new one is too.
const GATEWAY_PREFIXES: [&str; 4] = ["CORTEX_", "CONNECTORS_", "MCP_CONNECTOR", "MCP_REGISTRY"];

/// The gateway's own variables with other names. The last is the folder of a systemd unit's credentials.
const GATEWAY_NAMES: [&str; 2] = ["MCP_LOG_LEVEL", "CREDENTIALS_DIRECTORY"];

impl VariableName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for VariableName {
    type Err = VariableNameFault;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if !text.bytes().all(is_word) || text.bytes().next().is_none_or(|first| first.is_ascii_digit()) {
            return Err(VariableNameFault::Form);
        }
        let upper = text.to_ascii_uppercase();
        if GATEWAY_NAMES.contains(&upper.as_str()) || GATEWAY_PREFIXES.iter().any(|prefix| upper.starts_with(prefix)) {
            return Err(VariableNameFault::Gateway(text.to_owned()));
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for VariableName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    mod variable_name {
        use super::*;

        #[test]
        fn accepts_any_name_of_others() {
            for name in ["AWS_PROFILE", "http_proxy", "_X", "x1", "MCP_SERVER_MODE"] {
                assert_eq!(name.parse::<VariableName>().unwrap().as_str(), name);
            }
        }

        #[test]
        fn refuses_the_gateways_own() {
            for name in [
                "CORTEX_HOME",
                "CORTEX_CONNECTOR_X_KEY",
                "CORTEX_CONNECTOR_X_KEY_FILE",
                "CORTEX_GATEWAY_TOKEN",
                "CONNECTORS_SIGNATURE_KEY",
                "CONNECTORS_API_KEY",
                "connectors_api_key",
                "MCP_CONNECTOR_CONCURRENCY",
                "MCP_REGISTRY_WRITE_THROUGH",
                "MCP_LOG_LEVEL",
                "CREDENTIALS_DIRECTORY",
            ] {
                let refused = name.parse::<VariableName>().unwrap_err();
                assert_eq!(refused, VariableNameFault::Gateway(name.to_owned()));
            }
        }

        #[test]
        fn does_not_quote_what_is_no_name() {
            for text in ["", "1A", "TOKEN=canary", "canary canary", "a-canary", "é", "A\0"] {
                let refused = text.parse::<VariableName>().unwrap_err();
                assert_eq!(refused, VariableNameFault::Form, "{text:?}");
                assert!(!refused.to_string().contains("canary"));
            }
        }
    }
}
