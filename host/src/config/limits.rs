//! Ranges and defaults of what can be configured.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::MAX_TIMEOUT;

/// Where the gateway listens by default: loopback only.
pub const LISTEN_DEFAULT: &str = "127.0.0.1:8420";
/// T: the steady interval between refreshes.
pub const REFRESH_INTERVAL_DEFAULT: Duration = Duration::from_millis(300_000);
/// Shortest interval: below it a gateway polls.
pub const REFRESH_INTERVAL_MIN_MS: u64 = 1_000;
/// Longest interval: a day.
pub const REFRESH_INTERVAL_MAX_MS: u64 = 86_400_000;
/// Where the adaptive concurrency limit starts and its greatest value.
pub const CONCURRENCY_MAX: u32 = 32;
/// Greatest number that an operator may fix.
pub const CONCURRENCY_FIXED_MAX: u64 = 1_000;
/// How long past its freshness a list is served.
pub const MAX_STALE_DEFAULT: Duration = Duration::from_secs(86_400);
/// Longest staleness that can be configured: 30 days.
pub const MAX_STALE_MAX_MS: u64 = 2_592_000_000;
/// How long a tool call may take.
pub const CALL_TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);
/// Longest call.
pub const CALL_TIMEOUT_MAX_MS: u64 = 3_600_000;
/// Longest exposed tool name: 64 less what clients put before it.
pub const NAME_LENGTH_DEFAULT: usize = 46;
/// More tools than this are warned of: the least that common clients accept (128 a request in the APIs of several model
/// providers; docker/roadmap#850).
pub const TOOLS_WARN_ABOVE_DEFAULT: usize = 128;
/// Numbers of tools that can be configured.
pub const TOOLS_RANGE: RangeInclusive<u64> = 1..=1_000_000;
/// How much of the disk a gateway's trace takes: some days of a quiet gateway, hours of a busy one.
pub const TRACE_MIB_DEFAULT: u64 = 256;
/// Least and most that can be configured.
pub const TRACE_MIB_RANGE: RangeInclusive<u64> = 1..=1_048_576;
/// How long changes of the registry are gathered before its file is written: what the old tools did.
pub const REGISTRY_BATCH_DEFAULT: Duration = Duration::from_millis(5_000);
/// Shortest and longest, in milliseconds: every change is durable at once however long this is.
pub const REGISTRY_BATCH_RANGE_MS: RangeInclusive<u64> = 1..=600_000;
/// Calls of one connector at once that can be configured.
pub const CONNECTOR_CALLS_RANGE: RangeInclusive<u64> = 1..=10_000;
/// Calls of one connector that wait, that can be configured: none refuses whatever finds no place.
pub const CONNECTOR_QUEUE_RANGE: RangeInclusive<u64> = 0..=100_000;
/// Timeouts of one connector that can be configured, in milliseconds: what a map may say.
pub const CONNECTOR_TIMEOUT_RANGE_MS: RangeInclusive<u64> = 1..=MAX_TIMEOUT.as_millis() as u64;
/// Longest name of a token, in characters.
pub const TOKEN_NAME_MAX: usize = 64;
/// Requests a minute of a token that can be configured.
pub const TOKEN_CALLS_RANGE: RangeInclusive<u32> = 1..=1_000_000;
/// Shortest and longest that can be configured.
pub const NAME_LENGTH_RANGE: RangeInclusive<u64> = 24..=128;
/// Largest messages of servers that can be configured, in bytes: smaller ones would refuse usual lists of tools, larger ones take
/// more memory at once than gateways usually have.
pub const MESSAGE_BYTES_RANGE: RangeInclusive<u64> = 65_536..=268_435_456;
