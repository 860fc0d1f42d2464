//! The description of a connector, whichever document and dialect it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConnectorId, Digest, Reach, WallMs};

/// One MCP server that the gateway is to connect to.
#[derive(Clone, PartialEq, Eq)]
pub struct Connector {
    /// Its id, unique in the gateway.
    pub id: ConnectorId,
    /// Its name, for people.
    pub name: String,
    /// Its version; a change rebuilds the session.
    pub version: String,
    /// Whether it is to be served.
    pub enabled: bool,
    /// How it is reached; present whenever it is enabled.
    pub reach: Option<Reach>,
    /// How it is authenticated to.
    pub auth: Auth,
    /// Headers from the document, sent as they stand: nothing in them is expanded from the environment.
    pub headers: BTreeMap<String, String>,
    /// What it may be used for.
    pub scopes: Vec<String>,
    /// Free words.
    pub tags: Vec<String>,
    /// How often it may be called.
    pub quotas: Quotas,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Its own signed expiry, where the dialect has one.
    pub expires: Option<WallMs>,
    /// Which document it came from.
    pub source: Source,
}

impl Connector {
    /// A digest of everything whose change must rebuild the session: endpoint, kind of credential, version and document. Other
    /// headers go with the next request of the session.
    pub fn fingerprint(&self) -> Digest {
        digest_of(&(&self.reach, &self.auth, self.source, &self.version))
    }

    /// A digest of which server it is: its address, or its program and arguments, and the document that names it. Credentials
    /// are no part of it: approved definitions and claims outlast a key that is rotated.
    pub fn server_digest(&self) -> Digest {
        let reach = self.reach.as_ref();
        let address = reach.and_then(Reach::url).cloned().map(|mut url| {
            // An address that has no host has no user information either.
            let _ = url.set_username("");
            let _ = url.set_password(None);
            url
        });
        let command = reach.and_then(Reach::command).map(|command| (&command.program, &command.arguments));
        digest_of(&(reach.map(Reach::transport), address, command, self.source))
    }

    /// A digest of everything whose change makes it another server: a list of one is no list of the other.
    pub fn origin_digest(&self) -> Digest {
        digest_of(&(&self.reach, &self.auth, &self.headers, self.source))
    }
}

impl fmt::Debug for Connector {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Header values may be secrets, and so may an address's query.
        formatter
            .debug_struct("Connector")
            .field("id", &self.id)
            .field("enabled", &self.enabled)
            .field("headers", &self.headers.keys())
            .finish_non_exhaustive()
    }
}

fn digest_of(parts: &impl Serialize) -> Digest {
    // Structures without maps of other keys than strings always serialise.
    Digest::of(&serde_json::to_vec(parts).unwrap_or_default())
}

/// How a connector is authenticated to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Auth {
    /// Which scheme.
    pub kind: AuthKind,
    /// The header of an API key; `Authorization` if none is named.
    pub header_name: Option<String>,
}

/// An authentication scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum AuthKind {
    /// A key in a header of its own.
    ApiKey,
    /// `Authorization: Bearer`.
    Bearer,
    /// No credential.
    #[default]
    None,
}

/// How often a connector may be called. An absent limit does not limit; zero allows nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quotas {
    /// Calls per minute.
    pub per_minute: Option<u32>,
    /// Calls per hour.
    pub per_hour: Option<u32>,
    /// Calls per day.
    pub per_day: Option<u32>,
    /// Calls at once.
    pub concurrent: Option<u32>,
}

/// How long a connector may take. Absent ones are the gateway's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeouts {
    /// To open a session (`connectMs`).
    pub connect: Option<Duration>,
    /// To list everything (`listMs`).
    pub list: Option<Duration>,
    /// For a call (`callMs`).
    pub call: Option<Duration>,
    /// For a process, from its start to its first answer (`startMs`).
    pub start: Option<Duration>,
}

impl Timeouts {
    /// Takes what is absent here from `other`.
    pub fn or(self, other: Self) -> Self {
        Self {
            connect: self.connect.or(other.connect),
            list: self.list.or(other.list),
            call: self.call.or(other.call),
            start: self.start.or(other.start),
        }
    }
}

/// The longest timeout of a connector: an hour is longer than any install or call that somebody waits for.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(3600);

/// The largest message that is read from a server, in bytes, where the configuration does not say (`max-message-bytes`): ten
/// screenshots of 13.5 MB together pass (figwright#128).
pub const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Which document describes a connector.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Source {
    /// The signed service map.
    ServiceMap,
    /// The local registry.
    Registry,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CommandLine;

    fn connector(reach: Reach) -> Connector {
        Connector {
            id: "wiki".parse().unwrap(),
            name: String::new(),
            version: String::new(),
            enabled: true,
            reach: Some(reach),
            auth: Auth::default(),
            headers: BTreeMap::new(),
            scopes: Vec::new(),
            tags: Vec::new(),
            quotas: Quotas::default(),
            timeouts: Timeouts::default(),
            expires: None,
            source: Source::Registry,
        }
    }

    #[test]
    fn a_rotated_credential_leaves_the_server_what_it_is() {
        let http = |url: &str| connector(Reach::Http(url.parse().unwrap()));
        let command = |arguments: &[&str], key: &str| {
            connector(Reach::Stdio(CommandLine {
                program: "run".to_owned(),
                arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
                environment: BTreeMap::from([("KEY".to_owned(), key.to_owned())]),
            }))
        };
        let one = http("https://a.example/mcp");
        let mut rotated = one.clone();
        rotated.headers.insert("Authorization".to_owned(), "Bearer 2".to_owned());
        rotated.auth.kind = AuthKind::Bearer;
        rotated.version = "2".to_owned();
        assert_eq!(one.server_digest(), rotated.server_digest());
        assert_ne!(one.origin_digest(), rotated.origin_digest());
        assert_eq!(command(&["a"], "1").server_digest(), command(&["a"], "2").server_digest());
        let url = "https://a.example/mcp".parse().unwrap();
        let of_map = Connector { source: Source::ServiceMap, ..one.clone() };
        for other in [
            http("https://b.example/mcp"),
            http("https://a.example/other"),
            http("https://a.example/mcp?tenant=b"),
            http("http://a.example/mcp"),
            connector(Reach::Sse { sse: url }),
            command(&["a"], "1"),
            of_map,
        ] {
            assert_ne!(one.server_digest(), other.server_digest(), "{:?}", other.reach);
        }
        assert_ne!(command(&["a"], "1").server_digest(), command(&["b"], "1").server_digest());
    }
}
