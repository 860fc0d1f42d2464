//! The secrets of the configuration. Connectors' credentials may be replaced while the gateway runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::{ConfigError, Environment};
use crate::edge::secret_file::read_secret;
use crate::model::ConnectorId;

/// The keys of the service map.
#[derive(Clone, Debug)]
pub enum SignatureKeys {
    /// `CONNECTORS_SIGNATURE_KEY`.
    Single(SecretString),
    /// `CONNECTORS_SIGNATURE_KEYS`: `id=key,...`.
    List(SecretString),
}

/// What must never be printed.
#[derive(Clone, Debug, Default)]
pub struct Secrets {
    /// The service map's keys.
    pub signature_keys: Option<SignatureKeys>,
    /// `CONNECTORS_SERVICE_MAP_TOKEN`.
    pub service_map_token: Option<SecretString>,
    /// `CONNECTORS_API_KEY`.
    pub shared_credential: Option<SecretString>,
    /// `CORTEX_CONNECTOR_<ID>_KEY`: connectors' own credentials, by the names of their variables.
    credentials: BTreeMap<String, SecretString>,
    /// The files that connectors' credentials stand in, by the names of their variables.
    credential_files: BTreeMap<String, PathBuf>,
}

/// The variable of the credential that every connector may get.
const SHARED_CREDENTIAL: &str = "CONNECTORS_API_KEY";

impl Secrets {
    /// Reads the secrets of the environment, and the files that it names.
    ///
    /// # Errors
    /// [`ConfigError::TwoSignatureKeys`], [`ConfigError::SecretFile`], [`ConfigError::SecretTwice`].
    pub fn of(environment: &Environment) -> Result<Self, ConfigError> {
        let single = environment.secret("CONNECTORS_SIGNATURE_KEY")?;
        let list = environment.secret("CONNECTORS_SIGNATURE_KEYS")?;
        let signature_keys = match (single, list) {
            (Some(_), Some(_)) => return Err(ConfigError::TwoSignatureKeys),
            (Some(key), None) => Some(SignatureKeys::Single(key)),
            (None, Some(keys)) => Some(SignatureKeys::List(keys)),
            (None, None) => None,
        };
        let names = environment.secret_names(ConnectorId::is_credential_variable);
        let shared = SHARED_CREDENTIAL.to_owned();
        let files =
            names.iter().chain([&shared]).filter_map(|name| Some((name.clone(), environment.secret_file(name)?)));
        Ok(Self {
            credential_files: files.collect(),
            signature_keys,
            service_map_token: environment.secret("CONNECTORS_SERVICE_MAP_TOKEN")?,
            shared_credential: environment.secret(SHARED_CREDENTIAL)?,
            credentials: names
                .into_iter()
                .filter_map(|name| Some(environment.secret(&name).transpose()?.map(|secret| (name, secret))))
                .collect::<Result<_, _>>()?,
        })
    }

    /// A connector's own credential.
    pub fn credential(&self, id: &ConnectorId) -> Option<SecretString> {
        self.credentials.get(&id.credential_variable()).cloned()
    }

    /// The variable that a connector's credential comes from, and the file that it stands in, if it stands in one. `shared` is
    /// whether the one for all may be sent.
    pub fn credential_source(&self, id: &ConnectorId, shared: bool) -> (String, Option<&Path>) {
        let own = id.credential_variable();
        let is_shared = shared && !self.credentials.contains_key(&own) && self.shared_credential.is_some();
        let name = if is_shared { SHARED_CREDENTIAL.to_owned() } else { own };
        let file = self.credential_files.get(&name).map(PathBuf::as_path);
        (name, file)
    }

    /// Reads a connector's credential again if it stands in a file. One that cannot be read, being replaced perhaps, stays as it
    /// was.
    pub fn reread_credential(&mut self, id: &ConnectorId, shared: bool) {
        let (name, file) = self.credential_source(id, shared);
        let Some(secret) = file.and_then(|file| read_secret(file).ok()) else { return };
        if name == SHARED_CREDENTIAL {
            self.shared_credential = Some(secret);
        } else {
            self.credentials.insert(name, secret);
        }
    }

    /// The same with the connectors' credentials of `other`.
    pub fn with_credentials_of(self, other: Self) -> Self {
        let Self { shared_credential, credentials, credential_files, .. } = other;
        Self { shared_credential, credentials, credential_files, ..self }
    }
}
