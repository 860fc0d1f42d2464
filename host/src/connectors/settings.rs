//! What binds the fleet: the configuration, as the policy and the calls are told it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::credentials::Credentials;
use super::deadlines::InForce;
use super::limits;
use crate::config::{CallLimits, OnChange, RefreshMode, Settings};
use crate::mcp::TraceForwarding;
use crate::model::{ChildRules, Connector, ConnectorId, Era, Timeouts, VariableName, milliseconds};
use crate::policy::UpkeepConfig;
use crate::policy::contract::{self, CacheConfig, RefreshConfig, SubjectKind};

/// How the fleet behaves.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    refresh_mode: RefreshMode,
    refresh_interval: Duration,
    max_stale: Duration,
    call_timeout: Duration,
    pub(super) concurrency: Option<u32>,
    pub(super) options: Vec<(String, String)>,
    pub(super) credentials: Credentials,
    call_limits: HashMap<ConnectorId, CallLimits>,
    eras: HashMap<ConnectorId, Era>,
    timeouts: HashMap<ConnectorId, Timeouts>,
    /// How many processes may start at once.
    pub(super) starts: NonZeroUsize,
    pass_environment: Vec<VariableName>,
    child_rules: HashMap<ConnectorId, ChildRules>,
    on_change: HashMap<ConnectorId, OnChange>,
    max_message_bytes: usize,
    own_message_bytes: HashMap<ConnectorId, usize>,
    trace_context: bool,
    own_trace_context: HashMap<ConnectorId, (Option<bool>, bool)>,
}

impl FleetSettings {
    /// Those of the configuration.
    pub fn new(settings: &Settings) -> Self {
        Self {
            refresh_mode: settings.refresh_mode,
            refresh_interval: settings.refresh_interval,
            max_stale: settings.max_stale,
            call_timeout: settings.call_timeout,
            concurrency: settings.concurrency,
            options: settings.policy.options.clone(),
            credentials: Credentials::new(settings),
            call_limits: settings.connectors.iter().map(|(id, connector)| (id.clone(), connector.limits)).collect(),
            eras: settings.connectors.iter().filter_map(|(id, one)| Some((id.clone(), one.era?))).collect(),
            timeouts: settings.connectors.iter().map(|(id, connector)| (id.clone(), connector.timeouts)).collect(),
            // A start is work for a core; more than that at once make one another late.
            starts: std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
            pass_environment: settings.pass_environment.clone(),
            child_rules: settings.connectors.iter().map(|(id, one)| (id.clone(), one.child.clone())).collect(),
            on_change: settings.connectors.iter().map(|(id, one)| (id.clone(), one.on_change)).collect(),
            max_message_bytes: settings.max_message_bytes,
            own_message_bytes: settings
                .connectors
                .iter()
                .filter_map(|(id, one)| Some((id.clone(), one.max_message_bytes?)))
                .collect(),
            trace_context: settings.trace_context,
            own_trace_context: settings
                .connectors
                .iter()
                .map(|(id, one)| (id.clone(), (one.trace_context, one.baggage)))
                .collect(),
        }
    }

    /// The same with so many processes that may start at once, in place of the number of cores.
    pub fn with_starts(self, starts: NonZeroUsize) -> Self {
        Self { starts, ..self }
    }

    /// How long a connector may take: what is configured for it, then what its description says, then the gateway's own.
    pub(super) fn deadlines(&self, connector: &Connector) -> InForce {
        let configured = self.timeouts.get(&connector.id).copied().unwrap_or_default();
        InForce::of(configured.or(connector.timeouts), self.call_timeout)
    }

    /// The era that a connector's server is known to speak; none if that is to be found out.
    pub(super) fn era(&self, id: &ConnectorId) -> Option<Era> {
        self.eras.get(id).copied()
    }

    /// The rules that a connector's process is started under: its own, and the variables that every process gets.
    pub(super) fn child_rules(&self, id: &ConnectorId) -> ChildRules {
        let mut rules = self.child_rules.get(id).cloned().unwrap_or_default();
        rules.pass_environment.extend_from_slice(&self.pass_environment);
        rules
    }

    /// What becomes of a connector's changed definitions.
    pub(super) fn on_change(&self, id: &ConnectorId) -> OnChange {
        self.on_change.get(id).copied().unwrap_or_default()
    }

    /// The largest message that is read from a connector's server, in bytes.
    pub(super) fn max_message_bytes(&self, id: &ConnectorId) -> usize {
        self.own_message_bytes.get(id).copied().unwrap_or(self.max_message_bytes)
    }

    /// What a connector's server is sent of the trace context of clients.
    pub(super) fn trace_forwarding(&self, id: &ConnectorId) -> TraceForwarding {
        let (own, baggage) = self.own_trace_context.get(id).copied().unwrap_or_default();
        match (own.unwrap_or(self.trace_context), baggage) {
            (false, _) => TraceForwarding::Nothing,
            (true, false) => TraceForwarding::Trace,
            (true, true) => TraceForwarding::TraceAndBaggage,
        }
    }

    /// How many calls a connector is given: what is configured for it. What is unset has the default of
    /// [`limits`](super::limits).
    pub(super) fn call_limits(&self, id: &ConnectorId) -> CallLimits {
        self.call_limits.get(id).copied().unwrap_or_default()
    }

    /// What binds the breakers: the longest call, and the policy's options.
    pub(super) fn calls(&self, connector: &Connector) -> (Duration, Vec<(String, String)>) {
        (self.deadlines(connector).call, self.options.clone())
    }

    /// The settings of a connector's upkeep.
    pub(super) fn upkeep(&self, boot_id: u64, credential: String) -> UpkeepConfig {
        UpkeepConfig {
            refresh: RefreshConfig {
                kind: SubjectKind::Connector,
                mode: match self.refresh_mode {
                    RefreshMode::Background => contract::RefreshMode::Background,
                    RefreshMode::OnDemand => contract::RefreshMode::OnDemand,
                },
                interval_ms: milliseconds(self.refresh_interval),
                floor_ms: milliseconds(limits::REFRESH_FLOOR.min(self.refresh_interval)),
                jitter_permille: limits::REFRESH_JITTER_PERMILLE,
                backoff_min_ms: milliseconds(limits::BACKOFF_MIN),
                backoff_max_ms: milliseconds(limits::BACKOFF_MAX),
                options: self.options.clone(),
            },
            cache: CacheConfig {
                kind: SubjectKind::Connector,
                boot_id,
                ttl_min_ms: milliseconds(limits::LIST_TTL_MIN),
                ttl_max_ms: milliseconds(limits::LIST_TTL_MAX),
                ttl_default_ms: milliseconds(limits::LIST_TTL_DEFAULT.max(self.refresh_interval.mul_f64(TTL_MARGIN))),
                soft_permille: limits::SOFT_PERMILLE,
                soft_jitter_permille: limits::SOFT_JITTER_PERMILLE,
                max_stale_ms: milliseconds(self.max_stale),
                skew_ms: milliseconds(limits::CLOCK_SKEW),
                negative_min_ms: milliseconds(limits::NEGATIVE_MIN),
                negative_max_ms: milliseconds(limits::NEGATIVE_MAX),
                credential,
                options: self.options.clone(),
            },
        }
    }
}

/// A list without a hint is fresh for this many intervals: the longest jittered interval and some.
const TTL_MARGIN: f64 = 1.5;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{ConnectorSettings, Environment};
    use crate::model::Privileges;

    #[test]
    fn a_connector_has_the_limits_that_are_configured_for_it_and_no_other_has() {
        let mut settings = Settings::from_environment(&Environment::default()).unwrap();
        let limits = CallLimits { calls: Some(3), queue: Some(0), queue_timeout: Some(Duration::from_millis(9)) };
        let wiki: ConnectorId = "wiki".parse().unwrap();
        settings.connectors.insert(wiki.clone(), ConnectorSettings { limits, ..ConnectorSettings::default() });
        let fleet = FleetSettings::new(&settings);
        assert_eq!(fleet.call_limits(&wiki), limits);
        assert_eq!(fleet.call_limits(&"other".parse().unwrap()), CallLimits::default());
    }

    #[test]
    fn messages_and_trace_context_of_a_connector_are_its_own_or_those_of_all() {
        let mut settings = Settings::from_environment(&Environment::default()).unwrap();
        let (wiki, other): (ConnectorId, ConnectorId) = ("wiki".parse().unwrap(), "other".parse().unwrap());
        settings.max_message_bytes = 100_000;
        for (all, own, baggage, expected) in [
            (true, None, false, TraceForwarding::Trace),
            (true, None, true, TraceForwarding::TraceAndBaggage),
            (true, Some(false), true, TraceForwarding::Nothing),
            (false, None, true, TraceForwarding::Nothing),
            (false, Some(true), true, TraceForwarding::TraceAndBaggage),
        ] {
            settings.trace_context = all;
            let one = ConnectorSettings {
                max_message_bytes: Some(200_000),
                trace_context: own,
                baggage,
                ..ConnectorSettings::default()
            };
            settings.connectors.insert(wiki.clone(), one);
            let fleet = FleetSettings::new(&settings);
            assert_eq!(fleet.trace_forwarding(&wiki), expected, "{all} {own:?} {baggage}");
            assert_eq!((fleet.max_message_bytes(&wiki), fleet.max_message_bytes(&other)), (200_000, 100_000));
        }
    }

    #[test]
    fn a_process_gets_the_variables_of_all_and_its_own() {
        let mut settings = Settings::from_environment(&Environment::default()).unwrap();
        let wiki: ConnectorId = "wiki".parse().unwrap();
        let child = ChildRules { pass_environment: vec!["OWN".parse().unwrap()], privileges: Privileges::Keep };
        settings.connectors.insert(wiki.clone(), ConnectorSettings { child, ..ConnectorSettings::default() });
        settings.pass_environment = vec!["ALL".parse().unwrap()];
        let fleet = FleetSettings::new(&settings);
        let names = |rules: &ChildRules| rules.pass_environment.iter().map(|name| name.as_str().to_owned()).collect();
        let (own, other) = (fleet.child_rules(&wiki), fleet.child_rules(&"other".parse().unwrap()));
        assert_eq!((own.privileges, names(&own)), (Privileges::Keep, vec!["OWN".to_owned(), "ALL".to_owned()]));
        assert_eq!((other.privileges, names(&other)), (Privileges::Drop, vec!["ALL".to_owned()]));
    }
}
