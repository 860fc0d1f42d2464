//! What binds the fleet: the configuration, as the policy and the calls are told it.

use std::time::Duration;

use super::credentials::Credentials;
use super::limits;
use crate::config::{RefreshMode, Settings};
use crate::model::{Connector, milliseconds};
use crate::policy::UpkeepConfig;
use crate::policy::contract::{self, CacheConfig, RefreshConfig, SubjectKind};

/// How the fleet behaves.
#[derive(Clone, Debug)]
pub struct FleetSettings {
    refresh_mode: RefreshMode,
    refresh_interval: Duration,
    max_stale: Duration,
    pub(super) call_timeout: Duration,
    pub(super) concurrency: Option<u32>,
    pub(super) options: Vec<(String, String)>,
    pub(super) credentials: Credentials,
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
        }
    }

    /// What binds the breakers: the longest call, and the policy's options.
    pub(super) fn calls(&self, connector: &Connector) -> (Duration, Vec<(String, String)>) {
        (connector.timeouts.call.unwrap_or(self.call_timeout), self.options.clone())
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
