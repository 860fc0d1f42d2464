//! `gateway.toml`: every key is optional, unknown keys are errors.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;

use super::{ConfigError, NameStyle, Token};
use crate::telemetry::{LogFormat, LogLevel};

/// What the file says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `Settings`")]
pub struct FileSettings {
    pub listen: Option<SocketAddr>,
    pub service_map_url: Option<Url>,
    pub names: Option<NameStyle>,
    pub name_length: Option<u64>,
    pub shared_credential: Option<bool>,
    pub refresh_sync: Option<bool>,
    pub refresh_interval_ms: Option<u64>,
    pub concurrency: Option<u64>,
    pub max_stale_ms: Option<u64>,
    pub call_timeout_ms: Option<u64>,
    pub allowed_hosts: Option<Vec<String>>,
    pub allowed_origins: Option<Vec<String>>,
    pub log_level: Option<LogLevel>,
    pub log_format: Option<LogFormat>,
    #[serde(default)]
    pub policy: FilePolicy,
    #[serde(default, rename = "token")]
    pub tokens: Vec<Token>,
}

/// Its `[policy]` table.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `PolicySettings`")]
pub struct FilePolicy {
    pub file: Option<PathBuf>,
    pub family: Option<String>,
    pub reuse: Option<bool>,
    #[serde(default)]
    pub options: BTreeMap<String, String>,
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
            // The parser's own rendering quotes the offending line; its message alone names key and expectation.
            ConfigError::File { path: path.to_owned(), reason: format!("line {line}: {}", error.message()) }
        })
    }
}
