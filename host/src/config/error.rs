//! What can be wrong with the configuration. Every message names the place and says what is accepted; none quotes a value
//! that may be secret.

use std::path::PathBuf;

use crate::edge::secret_file::SecretFileFault;
use crate::model::ConnectorId;

/// A configuration that can not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file can not be read.
    #[error(
        "{path} can not be read: {source}; check that the path is right and that you may read it",
        path = .path.display()
    )]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not what it should be: syntax, an unknown key, or a value of another type.
    #[error("{path}: {reason}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the parser says: the line, an unknown key, the expectation; never a value.
        reason: String,
    },
    /// An environment variable has a value that is not accepted.
    #[error("the environment variable {name} is not usable: {expected}")]
    Variable {
        /// The variable.
        name: String,
        /// What is accepted.
        expected: String,
    },
    /// A setting, wherever it came from, is out of its range.
    #[error("{key}: {expected}")]
    Range {
        /// The setting.
        key: &'static str,
        /// What is accepted.
        expected: String,
    },
    /// A setting of one connector can not be used.
    #[error("[connector.{id}] {key}: {expected}")]
    Connector {
        /// The connector.
        id: ConnectorId,
        /// The setting.
        key: &'static str,
        /// What is accepted.
        expected: String,
    },
    /// Tokens can not be told apart, or one can not be used.
    #[error("[[token]] {name:?}: {expected}")]
    Token {
        /// Its name.
        name: String,
        /// What is accepted.
        expected: String,
    },
    /// The file of private authorities can not be read.
    #[error(
        "ca-file: {path} can not be read: {source}; write the path of a file with certificates in PEM form",
        path = .path.display()
    )]
    CaFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A service map can not be verified without a key.
    #[error(
        "a service map is configured but no key to verify it: set CONNECTORS_SIGNATURE_KEY (or CONNECTORS_SIGNATURE_KEYS \
         as id=key,...) to the key that signs the map"
    )]
    MissingSignatureKey,
    /// The file of a secret cannot be used.
    #[error("{name}_FILE (or the credential {name}): {path}: {fault}", path = .path.display())]
    SecretFile {
        /// The variable that the file stands for.
        name: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        fault: SecretFileFault,
    },
    /// A secret stands in several places.
    #[error("{name} is given more than once: set one of {name}, {name}_FILE and the systemd credential {name}")]
    SecretTwice {
        /// The variable.
        name: String,
    },
    /// Both forms of signature keys are set.
    #[error("set either CONNECTORS_SIGNATURE_KEY or CONNECTORS_SIGNATURE_KEYS, not both")]
    TwoSignatureKeys,
    /// A listener that others can reach needs tokens.
    #[error(
        "listening on {address} lets other machines in: add at least one [[token]] (name, sha256) to gateway.toml, or \
         listen on a loopback address"
    )]
    TokensNeeded {
        /// The address.
        address: std::net::SocketAddr,
    },
}
