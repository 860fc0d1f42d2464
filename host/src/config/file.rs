//! `gateway.toml`: every key is optional, unknown keys are errors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::{ConfigError, FileConnector, NameStyle, Token};
use crate::edge::references::resolve_value;
use crate::model::reference::has_reference;
use crate::model::{ConnectorId, LogFormat, LogLevel};

/// What the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `Settings`")]
pub struct FileSettings {
    pub listen: Option<SocketAddr>,
    pub service_map_url: Option<FileUrl>,
    pub ca_file: Option<PathBuf>,
    pub allow_link_local: Option<bool>,
    pub names: Option<NameStyle>,
    pub name_length: Option<u64>,
    pub tools_warn_above: Option<u64>,
    pub tools_max: Option<u64>,
    pub shared_credential: Option<bool>,
    pub refresh_sync: Option<bool>,
    pub refresh_interval_ms: Option<u64>,
    pub concurrency: Option<u64>,
    pub max_stale_ms: Option<u64>,
    pub call_timeout_ms: Option<u64>,
    pub max_message_bytes: Option<u64>,
    pub trace_context: Option<bool>,
    pub allowed_hosts: Option<Vec<String>>,
    pub allowed_origins: Option<Vec<String>>,
    #[serde(default)]
    pub pass_environment: Vec<String>,
    pub log_level: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    #[serde(default)]
    pub policy: FilePolicy,
    #[serde(default)]
    pub trace: FileTrace,
    #[serde(default)]
    pub registry: FileRegistry,
    #[serde(default, rename = "connector")]
    pub connectors: BTreeMap<ConnectorId, FileConnector>,
    #[serde(default, rename = "token")]
    pub tokens: Vec<Token>,
}

/// An address in the file: itself, or a value that refers to files and variables, which hold its secrets.
#[derive(Clone, Deserialize)]
#[serde(try_from = "String")]
pub struct FileUrl(String);

impl FileUrl {
    /// The address, its references resolved.
    ///
    /// # Errors
    /// [`ConfigError::Range`], which names the key and quotes no value.
    pub(super) fn resolve(&self, key: &'static str) -> Result<Url, ConfigError> {
        let resolved =
            resolve_value(&self.0).map_err(|fault| ConfigError::Range { key, expected: fault.to_string() })?;
        Url::parse(&resolved).map_err(|_| ConfigError::Range { key, expected: EXPECTED_URL.into() })
    }
}

impl TryFrom<String> for FileUrl {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match has_reference(&text) || Url::parse(&text).is_ok() {
            true => Ok(Self(text)),
            false => Err(EXPECTED_URL),
        }
    }
}

/// The text may hold a secret.
impl std::fmt::Debug for FileUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("FileUrl")
    }
}

const EXPECTED_URL: &str =
    "write a URL, https or loopback http, in which ${file:/path} and ${env:NAME} may stand for secrets";

/// Its `[policy]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `PolicySettings`")]
pub struct FilePolicy {
    pub file: Option<PathBuf>,
    pub family: Option<String>,
    pub reuse: Option<bool>,
    pub shadow: Option<PathBuf>,
    pub shadow_family: Option<String>,
    pub compiled_cache: Option<bool>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
}

/// Its `[trace]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `TraceSettings`")]
pub struct FileTrace {
    pub enabled: Option<bool>,
    pub directory: Option<PathBuf>,
    pub max_mib: Option<u64>,
}

/// Its `[registry]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `RegistrySettings`")]
pub struct FileRegistry {
    pub tools: Option<bool>,
    pub commands: Option<bool>,
    pub write_through: Option<bool>,
    pub batch_ms: Option<u64>,
}

impl FileSettings {
    /// Reads the file; a missing one says nothing, unless it was `named` by the user.
    ///
    /// # Errors
    /// [`ConfigError::Read`] or [`ConfigError::File`].
    pub fn read(path: &Path, named: bool) -> Result<Self, ConfigError> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&text, path),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => Ok(Self::default()),
            Err(source) => Err(ConfigError::Read { path: path.to_owned(), source }),
        }
    }

    /// Reads the text of the file at `path`.
    ///
    /// # Errors
    /// [`ConfigError::File`].
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
            // The parser's own rendering quotes the offending line, and its message the offending value.
            ConfigError::File {
                path: path.to_owned(),
                reason: format!("line {line}: {}", without_values(error.message())),
            }
        })
    }
}

/// What the parser says, without the values that it quotes: a value in the wrong place may well be a secret. The names
/// of unknown keys stay.
fn without_values(message: &str) -> String {
    const ABOUT_KEYS: [&str; 3] = ["unknown field ", "missing field ", "duplicate field "];
    const ABOUT_VALUES: [&str; 3] = ["invalid type: ", "invalid value: ", "unknown variant "];
    if ABOUT_KEYS.iter().any(|start| message.starts_with(start)) {
        return message.to_owned();
    }
    if ABOUT_VALUES.iter().any(|start| message.starts_with(start)) {
        // The value stands before the last expectation, whatever it contains.
        let (found, expected) = message.rsplit_once(", expected ").unwrap_or((message, ""));
        let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
        return if expected.is_empty() { kind.to_owned() } else { format!("{kind}, expected {expected}") };
    }
    // Errors of the syntax quote only the syntax, in backticks; errors of our own types quote nothing.
    match (message.find('"'), message.rfind('"')) {
        (Some(first), Some(last)) => format!("{}...{}", &message[..first], &message[last + 1..]),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> String {
        FileSettings::parse(text, Path::new("gateway.toml")).unwrap_err().to_string()
    }

    #[test]
    fn no_error_of_the_file_quotes_a_value() {
        for text in [
            "token = \"s3cr3t\"",
            "token = [\"s3cr3t\"]",
            "concurrency = \"s3cr3t, expected s3cr3t\"",
            "listen = \"s3cr3t\"",
            "service-map-url = \"s3cr3t\"",
            "service-map-url = \"https://s3cr3t:s3cr3t\"",
            "log-level = \"s3cr3t\"",
            "log-format = \"a`, expected `s3cr3t\"",
            "names = 's3cr3t\"s3cr3t'",
            "policy = \"s3cr3t\"",
            "policy = { options = \"s3cr3t\" }",
            "[[token]]\nname = \"n\"\nsha256 = \"s3cr3t\"",
            "[[token]]\nname = \"n\"\ntools = \"s3cr3t\"",
            "[[token]]\nname = \"n\"\ncalls-per-minute = \"s3cr3t\"",
            "[connector.wiki]\ncalls = \"s3cr3t\"",
            "[connector.wiki]\nrename = { a = [\"s3cr3t\"] }",
            "[connector.\"s3cr3t!\"]\ncalls = 1",
            "tools-max = \"s3cr3t\"",
            "listen = s3cr3t",
            "listen = \"s3cr3t",
            "[[token]]\nname = \"n\"\nname = \"s3cr3t\"",
            "listen = \"s3cr3t\" s3cr3t",
        ] {
            let complaint = complaint(text);
            assert!(!complaint.contains("s3cr3t"), "{complaint}");
            assert!(complaint.contains("line "), "{complaint}");
        }
        for number in ["names = 4242", "log-level = 42.42", "allowed-hosts = 4242"] {
            assert!(!complaint(number).contains("42"), "{}", complaint(number));
        }
    }

    #[test]
    fn errors_of_the_file_say_what_is_expected_and_name_unknown_keys() {
        for (text, part) in [
            ("lissten = 1", "`lissten`"),
            ("log-format = \"xml\"", "expected `json` or `pretty`"),
            ("concurrency = \"four\"", "expected u64"),
            ("listen = [[[", "line 1"),
        ] {
            assert!(complaint(text).contains(part), "{}", complaint(text));
        }
    }
}
