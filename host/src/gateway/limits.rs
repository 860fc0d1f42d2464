//! Bounds of this room.

use std::time::Duration;

/// Policies that decided before and are kept, to go back to.
pub const FORMER_POLICIES_MAX: usize = 8;

/// Fewest digits of a digest that name a policy to go back to.
pub const DIGEST_PREFIX_MIN: usize = 6;

/// Greatest body of a request that brings a policy.
pub const POLICY_BYTES_MAX: usize = crate::policy::limits::COMPONENT_BYTES_MAX;

/// Largest request that is read.
pub const REQUEST_BYTES_MAX: usize = 16 << 20;

/// How long after a cold start a list waits for the first connectors, so that a client that lists once sees them.
pub const COLD_LIST_WAIT: Duration = Duration::from_secs(2);

/// How long calls in flight may go on after a shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long every other task may take to end.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a suspend of the machine is looked for.
pub const RESUME_CHECK: Duration = Duration::from_secs(5);

/// Shorter gaps between the boot clock and timers are no suspend.
pub const RESUME_LEAST: Duration = Duration::from_secs(10);

/// Fresh time of a service map is clamped to this (reliability R7).
pub const MAP_TTL_MIN: Duration = Duration::from_secs(30);

/// See [`MAP_TTL_MIN`].
pub const MAP_TTL_MAX: Duration = Duration::from_secs(86_400);

/// First backoff of a service map that was never fetched (design section 3).
pub const MAP_BACKOFF_MIN: Duration = Duration::from_secs(1);

/// How long a tool of the registry may wait for its disk, and for the locks of other writers: longer than those are waited
/// for.
pub const REGISTRY_PATIENCE: Duration = Duration::from_secs(15);

/// How many tools of the registry work with its disk at once.
pub const REGISTRY_TURNS: usize = 16;
