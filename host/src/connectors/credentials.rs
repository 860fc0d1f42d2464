//! Credentials: each connector's own key, put into the header that its description names.
//!
//! A key goes to the origin of the verified description and nowhere else (redirects to other origins are not followed).
//! The one key for all is used only if the operator opted in, because it hands one key to every server.

use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Secrets, Settings};
use crate::model::{AuthKind, Connector, ConnectorId, Digest, Failure, FailureClass};

/// Where credentials come from.
#[derive(Clone, Debug)]
pub struct Credentials {
    secrets: Secrets,
    share: bool,
}

/// What is sent to a connector with every request.
pub(super) struct CredentialHeaders {
    /// The headers; those with a key are marked sensitive.
    pub(super) headers: HeaderMap,
    /// Differs between credentials and reveals none; empty for none.
    pub(super) fingerprint: String,
}

/// A connector that can not be authenticated to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// There is no key for it.
    #[error("{id} needs a credential: set {variable}", variable = .id.credential_variable())]
    Missing {
        /// The connector.
        id: ConnectorId,
    },
    /// The key, or a header of the description, can not be sent in a header.
    #[error("a header of {id} has a value that HTTP does not allow (line breaks, control characters)")]
    Unsendable {
        /// The connector.
        id: ConnectorId,
    },
}

impl From<CredentialError> for Failure {
    fn from(error: CredentialError) -> Self {
        Self::new(FailureClass::Auth, error.to_string())
    }
}

impl Credentials {
    /// Those of the configuration.
    pub fn new(settings: &Settings) -> Self {
        Self { secrets: settings.secrets.clone(), share: settings.shared_credential }
    }

    /// The headers for a connector: those of its description, and its credential.
    pub(super) fn headers(&self, connector: &Connector) -> Result<CredentialHeaders, CredentialError> {
        let unsendable = || CredentialError::Unsendable { id: connector.id.clone() };
        let mut headers = HeaderMap::new();
        for (name, value) in &connector.headers {
            let name: HeaderName = name.parse().map_err(|_| unsendable())?;
            let mut value: HeaderValue = value.parse().map_err(|_| unsendable())?;
            // Registries and maps may hold secrets here.
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        if connector.auth.kind == AuthKind::None {
            return Ok(CredentialHeaders { headers, fingerprint: String::new() });
        }
        let key = self.key(&connector.id).ok_or_else(|| CredentialError::Missing { id: connector.id.clone() })?;
        let named = connector.auth.header_name.as_deref().filter(|_| connector.auth.kind == AuthKind::ApiKey);
        let name: HeaderName = named.map_or(Ok(AUTHORIZATION), str::parse).map_err(|_| unsendable())?;
        let value = match name == AUTHORIZATION {
            true => format!("Bearer {}", key.expose_secret()),
            false => key.expose_secret().to_owned(),
        };
        let mut value: HeaderValue = value.parse().map_err(|_| unsendable())?;
        value.set_sensitive(true);
        headers.insert(name, value);
        Ok(CredentialHeaders { headers, fingerprint: fingerprint(&connector.id, &key) })
    }

    /// Reads a connector's key again where it stands in a file.
    pub(super) fn reread(&mut self, id: &ConnectorId) {
        self.secrets.reread_credential(id, self.share);
    }

    /// Where a connector's key comes from, and what is to be done once it was replaced there.
    pub(super) fn source_of(&self, id: &ConnectorId) -> (String, String) {
        match self.secrets.credential_source(id, self.share) {
            (name, Some(file)) => (format!("the file {} of {name}", file.display()), USED_NEXT.to_owned()),
            (name, None) => {
                let then =
                    format!("restart the gateway, or name a file in {name}_FILE, which is read again while it runs");
                (format!("the variable {name}"), then)
            }
        }
    }

    /// Whether a connector's key stands in a file, so that it may be replaced at any time.
    pub(super) fn may_change(&self, id: &ConnectorId) -> bool {
        self.secrets.credential_source(id, self.share).1.is_some()
    }

    fn key(&self, id: &ConnectorId) -> Option<SecretString> {
        let own = self.secrets.credential(id);
        own.or_else(|| self.secrets.shared_credential.clone().filter(|_| self.share))
    }
}

/// What becomes of a credential that is replaced while the gateway runs.
pub(super) const USED_NEXT: &str = "the next request uses it";

/// 32 bits of a digest: enough to notice another key, useless to find one.
fn fingerprint(id: &ConnectorId, key: &SecretString) -> String {
    Digest::of(format!("cortex credential\0{id}\0{}", key.expose_secret()).as_bytes()).short(8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Environment;
    use crate::model::{Auth, Quotas, Source, Timeouts};

    fn connector(kind: AuthKind, header_name: Option<&str>) -> Connector {
        Connector {
            id: "my-server".parse().unwrap(),
            name: "My server".into(),
            version: "1".into(),
            enabled: true,
            reach: None,
            auth: Auth { kind, header_name: header_name.map(str::to_owned) },
            headers: [("X-Plan".to_owned(), "${HOME}".to_owned())].into(),
            scopes: Vec::new(),
            tags: Vec::new(),
            quotas: Quotas::default(),
            timeouts: Timeouts::default(),
            expires: None,
            source: Source::ServiceMap,
        }
    }

    fn headers(share: bool, variables: Environment, connector: &Connector) -> Result<HeaderMap, CredentialError> {
        let secrets = Secrets::of(&variables).unwrap();
        Credentials { secrets, share }.headers(connector).map(|sent| sent.headers)
    }

    #[test]
    fn keys_go_into_the_header_that_the_description_names() {
        let own = || Environment::from([("CORTEX_CONNECTOR_MY_SERVER_KEY", "k")]);
        for (kind, header_name, name, value) in [
            (AuthKind::Bearer, Some("X-Ignored"), "authorization", "Bearer k"),
            (AuthKind::ApiKey, None, "authorization", "Bearer k"),
            (AuthKind::ApiKey, Some("AUTHORIZATION"), "authorization", "Bearer k"),
            (AuthKind::ApiKey, Some("X-Api-Key"), "x-api-key", "k"),
        ] {
            let sent = headers(false, own(), &connector(kind, header_name)).unwrap();
            assert_eq!(sent.get(name).unwrap(), value);
            assert!(sent.get(name).unwrap().is_sensitive());
        }
    }

    #[test]
    fn the_key_for_all_is_sent_only_after_opting_in() {
        let shared = || Environment::from([("CONNECTORS_API_KEY", "k")]);
        let bearer = connector(AuthKind::Bearer, None);
        let missing = headers(false, shared(), &bearer).unwrap_err();
        assert!(missing.to_string().contains("CORTEX_CONNECTOR_MY_SERVER_KEY"), "{missing}");
        assert!(headers(true, shared(), &bearer).unwrap().contains_key("authorization"));
    }

    #[test]
    fn nothing_in_a_description_is_expanded_from_the_environment() {
        let sent = headers(false, Environment::from([("HOME", "/h")]), &connector(AuthKind::None, None)).unwrap();
        assert_eq!(sent.get("x-plan").unwrap(), "${HOME}");
    }
}
