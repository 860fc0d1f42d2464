//! `[connector.NAME]`: what an operator says about one connector. Which of its tools are served, under which names, and how
//! many calls it is given at once, and how long it may take.
//!
//! Patterns and names are the server's own: the prefix of the exposed names is not part of them. Nothing here knows whether
//! there is such a connector.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, NameStyle, limits};
use crate::model::{
    ChildRules, ConnectorId, Era, Glob, Privileges, Timeouts, UriScheme, VariableName, VariableNameFault, milliseconds,
};

/// The table as the file has it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
#[allow(missing_docs, reason = "each is the key of that name, documented at `ConnectorSettings`")]
pub struct FileConnector {
    pub allow_tools: Option<Vec<Glob>>,
    #[serde(default)]
    pub deny_tools: Vec<Glob>,
    #[serde(default)]
    pub rename: BTreeMap<String, String>,
    pub uri_schemes: Option<BTreeSet<UriScheme>>,
    pub calls: Option<u64>,
    pub queue: Option<u64>,
    pub queue_timeout_ms: Option<u64>,
    pub era: Option<Era>,
    pub connect_timeout_ms: Option<u64>,
    pub list_timeout_ms: Option<u64>,
    pub call_timeout_ms: Option<u64>,
    pub start_timeout_ms: Option<u64>,
    #[serde(default)]
    pub pass_environment: Vec<String>,
    pub privileges: Option<Privileges>,
    pub on_change: Option<OnChange>,
    pub max_message_bytes: Option<u64>,
    pub trace_context: Option<bool>,
    pub baggage: Option<bool>,
}

/// What is configured for one connector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConnectorSettings {
    /// Which of its tools and resources are served, and under which names.
    pub filter: ToolFilter,
    /// How many calls it is given.
    pub limits: CallLimits,
    /// `era`: the one that its server speaks; unset: it is found out. A server whose era is known is asked no question of the
    /// other one.
    pub era: Option<Era>,
    /// `connect-timeout-ms`, `list-timeout-ms`, `call-timeout-ms` and, for a process, `start-timeout-ms`: each before what the
    /// connector's description says.
    pub timeouts: Timeouts,
    /// `pass-environment`, `privileges`: what its process is given.
    pub child: ChildRules,
    /// `on-change`: what becomes of a definition that is another one than was approved.
    pub on_change: OnChange,
    /// `max-message-bytes`: the largest message that is read from its server; unset: as for all.
    pub max_message_bytes: Option<usize>,
    /// `trace-context`: whether its server is sent the trace context of clients; unset: as for all.
    pub trace_context: Option<bool>,
    /// `baggage`: whether its server is sent the baggage of clients, too.
    pub baggage: bool,
}

/// What becomes of a definition that was changed or added after the connector's definitions were first seen or approved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnChange {
    /// It is served, logged, counted and shown in `status`.
    #[default]
    Warn,
    /// It is also neither listed nor callable until it is approved.
    Hide,
}

/// Which tools and resources of a connector are served, and under which names.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ToolFilter {
    /// `allow-tools`: only tools whose own names match one of these; unset: all.
    #[serde(rename = "allowTools")]
    pub allow: Option<Vec<Glob>>,
    /// `deny-tools`: none of those whose own names match one of these, allowed or not.
    #[serde(rename = "denyTools")]
    pub deny: Vec<Glob>,
    /// `rename`: the server's own name, and what stands in its place. The prefix still comes before it.
    pub rename: BTreeMap<String, String>,
    /// `uri-schemes`: resources of exactly these schemes are requested from the connector, listed or not; unset: of those
    /// that it lists or has templates for.
    pub uri_schemes: Option<BTreeSet<UriScheme>>,
}

/// How many calls a connector is given. What is unset has the default of the room that enforces it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CallLimits {
    /// `calls`: so many at once.
    pub calls: Option<usize>,
    /// `queue`: so many more may wait for a place.
    pub queue: Option<usize>,
    /// `queue-timeout-ms`: how long; unset: as long as its deadline allows, which is also the most.
    pub queue_timeout: Option<Duration>,
}

impl ToolFilter {
    /// Whether a tool of that name is served.
    pub fn admits(&self, tool: &str) -> bool {
        let allowed = self.allow.as_ref().is_none_or(|allow| allow.iter().any(|glob| glob.matches(tool)));
        allowed && !self.deny.iter().any(|glob| glob.matches(tool))
    }

    /// Whether it is about tools, and not only about resources.
    pub fn is_about_tools(&self) -> bool {
        self.allow.is_some() || !self.deny.is_empty() || !self.rename.is_empty()
    }

    /// What stands in the place of a tool's own name; nothing, if that is left alone.
    pub fn renamed(&self, tool: &str) -> Option<&str> {
        self.rename.get(tool).map(String::as_str)
    }

    /// Whether a new name can stand as it is: one that would have to be altered is none that somebody chose.
    pub(super) fn check(&self, id: &ConnectorId, names: NameStyle, longest: usize) -> Result<(), ConfigError> {
        let prefix = names.prefix(id).len();
        let most = longest.saturating_sub(prefix);
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        match self.rename.values().find(|new| !(1..=most).contains(&new.len()) || !new.bytes().all(plain)) {
            None => Ok(()),
            Some(_) => Err(ConfigError::Connector {
                id: id.clone(),
                key: "rename",
                expected: format!(
                    "write new names of 1 to {most} characters of A-Z, a-z, 0-9, _ and - (name-length is {longest}, \
                     of which {prefix} are the prefix)"
                ),
            }),
        }
    }
}

impl ConnectorSettings {
    /// Reads a table.
    pub(super) fn of(id: &ConnectorId, file: FileConnector) -> Result<Self, ConfigError> {
        let ranged = |key, value: Option<u64>, range: std::ops::RangeInclusive<u64>| match value {
            Some(value) if !range.contains(&value) => Err(ConfigError::Connector {
                id: id.clone(),
                key,
                expected: format!("write a number from {} to {}", range.start(), range.end()),
            }),
            value => Ok(value),
        };
        let count = |value: Option<u64>| value.and_then(|value| usize::try_from(value).ok());
        let calls = ranged("calls", file.calls, limits::CONNECTOR_CALLS_RANGE)?;
        let queue = ranged("queue", file.queue, limits::CONNECTOR_QUEUE_RANGE)?;
        let queue_timeout = ranged("queue-timeout-ms", file.queue_timeout_ms, 0..=limits::CALL_TIMEOUT_MAX_MS)?;
        let filter = ToolFilter {
            allow: file.allow_tools,
            deny: file.deny_tools,
            rename: file.rename,
            uri_schemes: file.uri_schemes,
        };
        let queue_timeout = queue_timeout.map(Duration::from_millis);
        let call_limits = CallLimits { calls: count(calls), queue: count(queue), queue_timeout };
        let timeout = |key, value| {
            ranged(key, value, limits::CONNECTOR_TIMEOUT_RANGE_MS).map(|value| value.map(Duration::from_millis))
        };
        let timeouts = Timeouts {
            connect: timeout("connect-timeout-ms", file.connect_timeout_ms)?,
            list: timeout("list-timeout-ms", file.list_timeout_ms)?,
            call: timeout("call-timeout-ms", file.call_timeout_ms)?,
            start: timeout("start-timeout-ms", file.start_timeout_ms)?,
        };
        let pass_environment = variable_names(&file.pass_environment).map_err(|fault| ConfigError::Connector {
            id: id.clone(),
            key: "pass-environment",
            expected: fault.to_string(),
        })?;
        let child = ChildRules { pass_environment, privileges: file.privileges.unwrap_or_default() };
        let on_change = file.on_change.unwrap_or_default();
        let max_message_bytes = ranged("max-message-bytes", file.max_message_bytes, limits::MESSAGE_BYTES_RANGE)?;
        Ok(Self {
            filter,
            limits: call_limits,
            era: file.era,
            timeouts,
            child,
            on_change,
            max_message_bytes: count(max_message_bytes),
            trace_context: file.trace_context,
            baggage: file.baggage.unwrap_or(false),
        })
    }

    /// As it is shown.
    pub(super) fn shown(&self) -> serde_json::Value {
        serde_json::json!({
            "allowTools": self.filter.allow,
            "denyTools": self.filter.deny,
            "rename": self.filter.rename,
            "uriSchemes": self.filter.uri_schemes,
            "calls": self.limits.calls,
            "queue": self.limits.queue,
            "queueTimeoutMs": self.limits.queue_timeout.map(milliseconds),
            "era": self.era,
            "connectTimeoutMs": self.timeouts.connect.map(milliseconds),
            "listTimeoutMs": self.timeouts.list.map(milliseconds),
            "callTimeoutMs": self.timeouts.call.map(milliseconds),
            "startTimeoutMs": self.timeouts.start.map(milliseconds),
            "passEnvironment": self.child.pass_environment,
            "privileges": self.child.privileges,
            "onChange": self.on_change,
            "maxMessageBytes": self.max_message_bytes,
            "traceContext": self.trace_context,
            "baggage": self.baggage,
        })
    }
}

/// Reads the names of variables that children are given.
pub(super) fn variable_names(names: &[String]) -> Result<Vec<VariableName>, VariableNameFault> {
    names.iter().map(|name| name.parse()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(allow: Option<&[&str]>, deny: &[&str]) -> ToolFilter {
        let globs = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        ToolFilter { allow: allow.map(globs), deny: globs(deny), ..ToolFilter::default() }
    }

    #[test]
    fn a_tool_is_served_if_it_is_allowed_and_not_denied() {
        for (allow, deny, served) in [
            (None, &[][..], true),
            (None, &["*_admin"], false),
            (Some(&["get_*"][..]), &[], true),
            (Some(&["get_*"]), &["get_*"], false),
            (Some(&["put_*"]), &[], false),
            (Some(&[]), &[], false),
            (None, &["GET_*"], true),
        ] {
            assert_eq!(filter(allow, deny).admits("get_admin"), served, "{allow:?} {deny:?}");
        }
    }
}
