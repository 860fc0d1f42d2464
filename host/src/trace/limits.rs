//! Every bound of the trace, in one place.

use std::time::Duration;

/// How much of the disk a gateway's trace takes by default: some days of a quiet gateway, hours of a busy one.
pub const SEGMENTS: u64 = 16;

/// Decisions that wait to be written. At a thousand decisions a second the disk may stand still for eight seconds.
pub const QUEUE_RECORDS: usize = 8_192;

/// Items of lists (entries of a registry, candidates of a plan) in the decisions that wait: bounds their memory.
pub const QUEUE_ITEMS: usize = 200_000;

/// Decisions that wait for the shadow policy.
pub const SHADOW_QUEUE_RECORDS: usize = 1_024;

/// Shadow differences written to the trace; later ones are only counted, so that a shadow that decides everything
/// otherwise does not crowd out the decisions.
pub const SHADOW_NOTES_MAX: u64 = 10_000;

/// How long the writer rests between two looks at its queue while decisions come in: waking it for each would cost the
/// deciding thread a system call.
pub const WRITER_REST: Duration = Duration::from_millis(10);

/// How long nothing comes in before the writer sleeps until it is woken.
pub const WRITER_IDLE: Duration = Duration::from_secs(1);

/// After a failed write: how long by the clocks of the decisions until the next attempt.
pub const RETRY_AFTER_MS: u64 = 5_000;

/// How much is gathered before it is handed to the system.
pub const WRITE_BYTES: usize = 64 << 10;

/// The longest line that is read or written: a merge of some ten thousand entries.
pub const LINE_BYTES_MAX: usize = 32 << 20;

/// How long the shadow policy still decides what waits for it when the gateway ends.
pub const SHADOW_CLOSE_TIME: Duration = Duration::from_secs(3);

/// Longest wait for the writer to end.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Names of tools kept for one connector, for `why`.
pub const TOOL_NAMES_MAX: usize = 10_000;

/// Differing fields told of one decision.
pub const FIELDS_TOLD_MAX: usize = 50;
