//! Values of the contract that several tests take.

use cortex_mcp::policy::UpkeepConfig;
use cortex_mcp::policy::contract::{CacheConfig, FailureClass, RefreshConfig, RefreshMode, SubjectKind};

/// Every class of failures.
pub(crate) const CLASSES: [FailureClass; 15] = [
    FailureClass::Dns,
    FailureClass::Refused,
    FailureClass::Timeout,
    FailureClass::Auth,
    FailureClass::NotFound,
    FailureClass::Gone,
    FailureClass::Throttled,
    FailureClass::Server,
    FailureClass::Oversize,
    FailureClass::Redirect,
    FailureClass::Decode,
    FailureClass::Signature,
    FailureClass::Schema,
    FailureClass::Expiry,
    FailureClass::Rollback,
];

/// The settings of a service map's upkeep.
pub(crate) fn upkeep_config() -> UpkeepConfig {
    UpkeepConfig {
        refresh: RefreshConfig {
            kind: SubjectKind::ServiceMap,
            mode: RefreshMode::Background,
            interval_ms: 300_000,
            floor_ms: 30_000,
            jitter_permille: 200,
            backoff_min_ms: 1_000,
            backoff_max_ms: 300_000,
            options: Vec::new(),
        },
        cache: CacheConfig {
            kind: SubjectKind::ServiceMap,
            boot_id: 1,
            ttl_min_ms: 30_000,
            ttl_max_ms: 86_400_000,
            ttl_default_ms: 300_000,
            soft_permille: 800,
            soft_jitter_permille: 100,
            max_stale_ms: 86_400_000,
            skew_ms: 300_000,
            negative_min_ms: 5_000,
            negative_max_ms: 60_000,
            credential: String::new(),
            options: Vec::new(),
        },
    }
}
