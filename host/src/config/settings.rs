//! The effective configuration: every setting with its meaning, its default and its range.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;

use super::connector::variable_names;
use super::environment::bad;
use super::file::{FilePolicy, FileRegistry, FileTrace, FileUrl};
use super::{ConfigError, ConnectorSettings, Environment, FileSettings, Paths, Secrets, Token, limits, token};
use crate::model::{ConnectorId, LogFormat, LogLevel, MAX_MESSAGE_BYTES, VariableName, milliseconds};

/// Everything that is configured. Its debug form is the redacted one.
#[derive(Clone)]
pub struct Settings {
    /// `listen`, `--listen`: where the gateway listens. A port of 0 takes a free one.
    pub listen: SocketAddr,
    /// `service-map-url`, `CONNECTORS_SERVICE_MAP_URL`, `--service-map-url`: https, or http on loopback.
    pub service_map_url: Option<Url>,
    /// `ca-file`: certificates of private authorities in PEM form, trusted besides the platform's: for the map's server and
    /// for connectors.
    pub ca_file: Option<PathBuf>,
    /// `allow-link-local`: whether link-local addresses and metadata services of clouds may be connected to.
    pub allow_link_local: bool,
    /// `names`: how tools are named.
    pub names: NameStyle,
    /// `name-length`: the longest exposed tool name.
    pub name_length: usize,
    /// `tools-warn-above`: more tools than so many are warned of.
    pub tools_warn_above: usize,
    /// `tools-max`: more tools than so many are not served; unset: all are.
    pub tools_max: Option<usize>,
    /// `shared-credential`: whether `CONNECTORS_API_KEY` is sent to every connector that has no credential of its own.
    pub shared_credential: bool,
    /// `refresh-sync`, `MCP_CONNECTOR_REFRESH_SYNC`: true refreshes on demand only, one at a time.
    pub refresh_mode: RefreshMode,
    /// `refresh-interval-ms`, `MCP_CONNECTOR_REFRESH_INTERVAL_MS`.
    pub refresh_interval: Duration,
    /// `concurrency`, `MCP_CONNECTOR_CONCURRENCY`: a fixed number; unset: adaptive.
    pub concurrency: Option<u32>,
    /// `max-stale-ms`: how long past its freshness anything is served.
    pub max_stale: Duration,
    /// `call-timeout-ms`: how long a call may take where the connector does not say.
    pub call_timeout: Duration,
    /// `max-message-bytes`: the largest message that is read from a server.
    pub max_message_bytes: usize,
    /// `trace-context`: whether servers are sent the trace context of clients.
    pub trace_context: bool,
    /// `allowed-hosts`: values of `Host` accepted besides loopback names and the listen address.
    pub allowed_hosts: Vec<String>,
    /// `allowed-origins`: values of `Origin` accepted besides loopback ones.
    pub allowed_origins: Vec<String>,
    /// `pass-environment`: variables of the gateway's environment that child processes get besides the usual ones.
    pub pass_environment: Vec<VariableName>,
    /// `[[token]]`: who may come in. Any token, once one is configured, is needed by everyone.
    pub tokens: Vec<Token>,
    /// `log-level`, `MCP_LOG_LEVEL`.
    pub log_level: LogLevel,
    /// `log-format`: json or pretty; unset: pretty on a terminal.
    pub log_format: Option<LogFormat>,
    /// `[policy]`, `--policy`.
    pub policy: PolicySettings,
    /// `[trace]`, `--trace`, `--no-trace`: the record of every decision; none if there is to be none.
    pub trace: Option<TraceSettings>,
    /// `[registry]`: how its file is written, and whether its tools are served.
    pub registry: RegistrySettings,
    /// `[connector.NAME]`: what is configured for one connector.
    pub connectors: BTreeMap<ConnectorId, ConnectorSettings>,
    /// Where things are.
    pub paths: Paths,
    /// From the environment, and from files that it names.
    pub secrets: Secrets,
}

/// How tools are named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NameStyle {
    /// `<connector>__<tool>`.
    #[default]
    Prefixed,
    /// `<connector>.<tool>`.
    Dotted,
    /// `<tool>`.
    Plain,
}

impl NameStyle {
    /// What comes before the names of a connector's own.
    pub fn prefix(self, id: &ConnectorId) -> String {
        match self {
            Self::Prefixed => format!("{id}__"),
            Self::Dotted => format!("{id}."),
            Self::Plain => String::new(),
        }
    }

    /// The connector that the prefix of a name is of, whether there is such a connector or not. No ID holds what ends a prefix.
    pub fn connector_of(self, name: &str) -> Option<ConnectorId> {
        let (id, _) = match self {
            Self::Prefixed => name.split_once("__"),
            Self::Dotted => name.split_once('.'),
            Self::Plain => None,
        }?;
        id.parse().ok()
    }
}

/// When refreshes happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefreshMode {
    /// In the background, as the policy says.
    #[default]
    Background,
    /// On demand, one at a time.
    OnDemand,
}

/// Which policy is deployed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySettings {
    /// `file`: a component; unset: the embedded default.
    pub file: Option<PathBuf>,
    /// `family`: whose memos it shares; unset: its digest.
    pub family: Option<String>,
    /// `reuse`: whether its instances may be used again.
    pub reuse: bool,
    /// `shadow`, `--shadow-policy`: a component that decides beside the deployed one and is never obeyed.
    pub shadow: Option<PathBuf>,
    /// `shadow-family`: whose memos the shadow is given; unset: its digest.
    pub shadow_family: Option<String>,
    /// `options`: handed to it with every configuration, and recorded in clear with every decision: no place for secrets.
    pub options: Vec<(String, String)>,
    /// `compiled-cache`: the folder for the compiled code of the embedded default; unset: it is compiled at each start.
    pub compiled_cache: Option<PathBuf>,
}

/// Where decisions are recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceSettings {
    /// `directory`: the folder; unset: `trace` beside the configuration.
    pub directory: PathBuf,
    /// `max-mib`: how much of the disk its decisions may take; the components beside them come on top.
    pub mebibytes: u64,
}

/// How the registry is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegistrySettings {
    /// `tools`: whether the gateway serves its own tools `registry_list`, `registry_get` and so on.
    pub tools: bool,
    /// `commands`: whether these tools may set what is started, or read, on this machine: entries with a command, and references to
    /// files and variables.
    pub commands: bool,
    /// `write-through`, `MCP_REGISTRY_WRITE_THROUGH`: true writes the file on every change.
    pub write_through: bool,
    /// `batch-ms`: how long changes are gathered before the file is written. They are durable before.
    pub batch: Duration,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { tools: false, commands: false, write_through: false, batch: limits::REGISTRY_BATCH_DEFAULT }
    }
}

/// What the command line says; it goes before everything else.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--listen`.
    pub listen: Option<SocketAddr>,
    /// `--service-map-url`.
    pub service_map_url: Option<Url>,
    /// `--policy`.
    pub policy: Option<PathBuf>,
    /// `--shadow-policy`.
    pub shadow_policy: Option<PathBuf>,
    /// `--trace` and `--no-trace`.
    pub trace: TraceFlag,
    /// `--config`.
    pub configuration: Option<PathBuf>,
}

/// What the command line says about the trace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum TraceFlag {
    /// Nothing.
    #[default]
    AsConfigured,
    /// `--trace DIR`.
    Into(PathBuf),
    /// `--no-trace`.
    Off,
}

impl Settings {
    /// Resolves flags, environment and file.
    ///
    /// # Errors
    /// [`ConfigError`], for the first thing that is wrong.
    pub fn resolve(flags: &Flags, environment: &Environment) -> Result<Self, ConfigError> {
        let paths = Paths::of(environment);
        let path = flags.configuration.clone().unwrap_or_else(|| paths.configuration());
        let file = FileSettings::read(&path, flags.configuration.is_some())?;
        let cache = file.policy.compiled_cache.unwrap_or(true).then(|| paths.cache());
        let mut settings = Self::from_parts(flags, environment, file, paths)?;
        settings.policy.compiled_cache = cache;
        Ok(settings)
    }

    /// The defaults, for tests and embedders.
    ///
    /// # Errors
    /// [`ConfigError`], if the environment is not usable.
    pub fn from_environment(environment: &Environment) -> Result<Self, ConfigError> {
        Self::from_parts(&Flags::default(), environment, FileSettings::default(), Paths::of(environment))
    }

    /// Resolves flags, environment and what a file said.
    ///
    /// # Errors
    /// [`ConfigError`], for the first thing that is wrong.
    pub fn from_parts(
        flags: &Flags,
        environment: &Environment,
        file: FileSettings,
        paths: Paths,
    ) -> Result<Self, ConfigError> {
        let secrets = Secrets::of(environment)?;
        let service_map_url = service_map_url(flags, environment, file.service_map_url)?;
        let log_level = log_level(environment, file.log_level)?;
        let on_demand = environment.boolean("MCP_CONNECTOR_REFRESH_SYNC")?.or(file.refresh_sync).unwrap_or(false);
        let refresh_interval = ranged(
            "refresh-interval-ms (MCP_CONNECTOR_REFRESH_INTERVAL_MS)",
            environment.number("MCP_CONNECTOR_REFRESH_INTERVAL_MS")?.or(file.refresh_interval_ms),
            limits::REFRESH_INTERVAL_MIN_MS..=limits::REFRESH_INTERVAL_MAX_MS,
        )?;
        let max_stale = ranged("max-stale-ms", file.max_stale_ms, 0..=limits::MAX_STALE_MAX_MS)?;
        let call_timeout = ranged("call-timeout-ms", file.call_timeout_ms, 1..=limits::CALL_TIMEOUT_MAX_MS)?;
        let max_message_bytes = size("max-message-bytes", file.max_message_bytes, limits::MESSAGE_BYTES_RANGE)?;
        let name_length = size("name-length", file.name_length, limits::NAME_LENGTH_RANGE)?;
        let tools_warn_above = size("tools-warn-above", file.tools_warn_above, limits::TOOLS_RANGE)?;
        let tools_max = size("tools-max", file.tools_max, limits::TOOLS_RANGE)?;
        let concurrency = concurrency(environment, file.concurrency, on_demand)?;
        let registry = registry(environment, &file.registry)?;
        let trace = trace(flags, file.trace, &paths)?;
        let connectors = file.connectors.into_iter().map(|(id, table)| {
            let settings = ConnectorSettings::of(&id, table)?;
            Ok((id, settings))
        });
        let connectors = connectors.collect::<Result<_, ConfigError>>()?;
        let pass_environment = variable_names(&file.pass_environment)
            .map_err(|fault| ConfigError::Range { key: "pass-environment", expected: fault.to_string() })?;
        let settings = Self {
            listen: listen(flags, file.listen)?,
            service_map_url,
            ca_file: file.ca_file,
            allow_link_local: file.allow_link_local.unwrap_or(false),
            names: file.names.unwrap_or_default(),
            name_length: name_length.unwrap_or(limits::NAME_LENGTH_DEFAULT),
            tools_warn_above: tools_warn_above.unwrap_or(limits::TOOLS_WARN_ABOVE_DEFAULT),
            tools_max,
            shared_credential: file.shared_credential.unwrap_or(false),
            refresh_mode: if on_demand { RefreshMode::OnDemand } else { RefreshMode::Background },
            refresh_interval: refresh_interval.map_or(limits::REFRESH_INTERVAL_DEFAULT, Duration::from_millis),
            concurrency,
            max_stale: max_stale.map_or(limits::MAX_STALE_DEFAULT, Duration::from_millis),
            call_timeout: call_timeout.map_or(limits::CALL_TIMEOUT_DEFAULT, Duration::from_millis),
            max_message_bytes: max_message_bytes.unwrap_or(MAX_MESSAGE_BYTES),
            trace_context: file.trace_context.unwrap_or(true),
            allowed_hosts: file.allowed_hosts.unwrap_or_default(),
            allowed_origins: file.allowed_origins.unwrap_or_default(),
            pass_environment,
            tokens: file.tokens,
            log_level,
            log_format: file.log_format,
            policy: policy(flags, file.policy, &paths),
            trace,
            registry,
            connectors,
            paths,
            secrets,
        };
        settings.validate()?;
        Ok(settings)
    }

    /// Whether the settings go together, wherever each of them came from: to be asked of whatever is to be in force.
    ///
    /// # Errors
    /// [`ConfigError::MissingSignatureKey`], [`ConfigError::TokensNeeded`], and [`ConfigError::Connector`] for a new name
    /// that can not stand, and [`ConfigError::Token`] for tokens that can not be told apart.
    pub fn validate(&self) -> Result<(), ConfigError> {
        if self.service_map_url.is_some() && self.secrets.signature_keys.is_none() {
            return Err(ConfigError::MissingSignatureKey);
        }
        token::check(&self.tokens)?;
        for (id, connector) in &self.connectors {
            connector.filter.check(id, self.names, self.name_length)?;
        }
        if !self.listen.ip().is_loopback() && self.tokens.is_empty() {
            return Err(ConfigError::TokensNeeded { address: self.listen });
        }
        Ok(())
    }

    /// Reads the certificates of private authorities, if `ca-file` names a file of them.
    ///
    /// # Errors
    /// [`ConfigError::CaFile`].
    pub fn private_roots(&self) -> Result<Vec<Vec<u8>>, ConfigError> {
        let Some(path) = &self.ca_file else { return Ok(Vec::new()) };
        match std::fs::read(path) {
            Ok(roots) => Ok(vec![roots]),
            Err(source) => Err(ConfigError::CaFile { path: path.clone(), source }),
        }
    }

    /// The configuration as it is shown: without secrets, and without what could hide one: of the map's URL only the
    /// origin, of the policy's options only the names.
    ///
    /// Their values are hidden here and nowhere else: an option is an argument of every decision, so that each record of
    /// the trace holds all of them in clear. Options are no place for secrets.
    pub fn redacted(&self) -> serde_json::Value {
        let set = |secret: bool| if secret { "set" } else { "unset" };
        // Any other part of a URL may hold a token, the path too.
        let url = self.service_map_url.as_ref().map(|url| url.origin().ascii_serialization());
        // What an option means is known to its policy only: its value may be a secret.
        let options: Vec<&str> = self.policy.options.iter().map(|(name, _)| name.as_str()).collect();
        serde_json::json!({
            "listen": self.listen.to_string(),
            "serviceMapUrl": url,
            "caFile": self.ca_file,
            "allowLinkLocal": self.allow_link_local,
            "names": self.names,
            "nameLength": self.name_length,
            "toolsWarnAbove": self.tools_warn_above,
            "toolsMax": self.tools_max,
            "sharedCredential": self.shared_credential,
            "refreshMode": self.refresh_mode,
            "refreshIntervalMs": milliseconds(self.refresh_interval),
            "concurrency": self.concurrency,
            "maxStaleMs": milliseconds(self.max_stale),
            "callTimeoutMs": milliseconds(self.call_timeout),
            "maxMessageBytes": self.max_message_bytes,
            "traceContext": self.trace_context,
            "allowedHosts": self.allowed_hosts,
            "allowedOrigins": self.allowed_origins,
            "passEnvironment": self.pass_environment,
            "tokens": self.tokens.iter().map(Token::shown).collect::<Vec<_>>(),
            "logLevel": self.log_level.as_str(),
            "logFormat": self.log_format.map(LogFormat::as_str),
            "policy": { "file": self.policy.file, "family": self.policy.family, "reuse": self.policy.reuse,
                        "options": options, "shadow": self.policy.shadow, "shadowFamily": self.policy.shadow_family,
                        "compiledCache": self.policy.compiled_cache.is_some() },
            "trace": self.trace.as_ref().map(|trace| {
                serde_json::json!({ "directory": trace.directory, "maxMib": trace.mebibytes })
            }),
            "registry": { "tools": self.registry.tools, "commands": self.registry.commands,
                          "writeThrough": self.registry.write_through,
                          "batchMs": milliseconds(self.registry.batch) },
            "connectors": self.connectors.iter().map(|(id, connector)| (id.to_string(), connector.shown()))
                .collect::<serde_json::Map<_, _>>(),
            "home": self.paths.mcp(),
            "secrets": {
                "signatureKeys": set(self.secrets.signature_keys.is_some()),
                "serviceMapToken": set(self.secrets.service_map_token.is_some()),
                "connectorsApiKey": set(self.secrets.shared_credential.is_some()),
            },
        })
    }
}

impl std::fmt::Debug for Settings {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Settings{}", self.redacted())
    }
}

fn listen(flags: &Flags, file: Option<SocketAddr>) -> Result<SocketAddr, ConfigError> {
    match flags.listen.or(file) {
        Some(address) => Ok(address),
        None => limits::LISTEN_DEFAULT
            .parse()
            .map_err(|_| ConfigError::Range { key: "listen", expected: "an address and a port".into() }),
    }
}

fn service_map_url(
    flags: &Flags,
    environment: &Environment,
    file: Option<FileUrl>,
) -> Result<Option<Url>, ConfigError> {
    match (&flags.service_map_url, environment.get("CONNECTORS_SERVICE_MAP_URL")) {
        (Some(url), _) => Ok(Some(url.clone())),
        (None, Some(text)) => {
            let url = Url::parse(text);
            url.map(Some).map_err(|_| bad("CONNECTORS_SERVICE_MAP_URL", "write a URL, https or loopback http"))
        }
        (None, None) => file.map(|url| url.resolve("service-map-url")).transpose(),
    }
}

fn log_level(environment: &Environment, file: Option<LogLevel>) -> Result<LogLevel, ConfigError> {
    match environment.get("MCP_LOG_LEVEL") {
        Some(text) => {
            let expected = format!("write one of {}", LogLevel::NAMES);
            LogLevel::parse(text).ok_or_else(|| bad("MCP_LOG_LEVEL", expected))
        }
        None => Ok(file.unwrap_or_default()),
    }
}

/// On demand, the gateway refreshes one at a time, unless the operator fixed another number.
fn concurrency(environment: &Environment, file: Option<u64>, on_demand: bool) -> Result<Option<u32>, ConfigError> {
    let number = ranged(
        "concurrency (MCP_CONNECTOR_CONCURRENCY)",
        environment.number("MCP_CONNECTOR_CONCURRENCY")?.or(file),
        1..=limits::CONCURRENCY_FIXED_MAX,
    )?;
    Ok(number.and_then(|number| u32::try_from(number).ok()).or(on_demand.then_some(1)))
}

fn registry(environment: &Environment, file: &FileRegistry) -> Result<RegistrySettings, ConfigError> {
    let write_through = environment.boolean("MCP_REGISTRY_WRITE_THROUGH")?.or(file.write_through);
    let batch = ranged("[registry] batch-ms", file.batch_ms, limits::REGISTRY_BATCH_RANGE_MS)?;
    Ok(RegistrySettings {
        tools: file.tools.unwrap_or(false),
        commands: file.commands.unwrap_or(false),
        write_through: write_through.unwrap_or(false),
        batch: batch.map_or(limits::REGISTRY_BATCH_DEFAULT, Duration::from_millis),
    })
}

fn trace(flags: &Flags, file: FileTrace, paths: &Paths) -> Result<Option<TraceSettings>, ConfigError> {
    let mebibytes = ranged("[trace] max-mib", file.max_mib, limits::TRACE_MIB_RANGE)?;
    let directory = match &flags.trace {
        TraceFlag::Off => None,
        TraceFlag::Into(directory) => Some(directory.clone()),
        TraceFlag::AsConfigured if file.enabled == Some(false) => None,
        TraceFlag::AsConfigured => Some(file.directory.unwrap_or_else(|| paths.trace())),
    };
    let mebibytes = mebibytes.unwrap_or(limits::TRACE_MIB_DEFAULT);
    Ok(directory.map(|directory| TraceSettings { directory, mebibytes }))
}

fn policy(flags: &Flags, file: FilePolicy, paths: &Paths) -> PolicySettings {
    PolicySettings {
        file: flags.policy.clone().or(file.file),
        family: file.family,
        reuse: file.reuse.unwrap_or(false),
        shadow: flags.shadow_policy.clone().or(file.shadow),
        shadow_family: file.shadow_family,
        options: file.options.into_iter().collect(),
        compiled_cache: (file.compiled_cache == Some(true)).then(|| paths.cache()),
    }
}

/// A number of bytes, characters or items.
fn size(
    key: &'static str,
    value: Option<u64>,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<usize>, ConfigError> {
    Ok(ranged(key, value, range)?.and_then(|number| usize::try_from(number).ok()))
}

fn ranged(
    key: &'static str,
    value: Option<u64>,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, ConfigError> {
    match value {
        Some(value) if !range.contains(&value) => {
            let expected = format!("write a number from {} to {}", range.start(), range.end());
            Err(ConfigError::Range { key, expected })
        }
        value => Ok(value),
    }
}

#[cfg(test)]
mod tests;
