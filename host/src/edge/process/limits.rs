//! Bounds of starting and ending child processes.

use std::time::Duration;

/// How long the system may take to start a program. Programs on network file systems take seconds; this is the time until
/// the kernel runs them, not until they answer.
pub(super) const EXEC_TIMEOUT: Duration = Duration::from_secs(30);

/// How long processes that were killed may take to be gone. The kernel needs milliseconds; a process in a system call that
/// hangs, or of another user, may never go.
pub(super) const KILL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the gateway waits for a shim that ends its processes: what that takes at most, and some.
pub(super) const SHIM_END_TIMEOUT: Duration = Duration::from_secs(7);

/// How long a killed process is waited for before the process table is read again, in milliseconds. Short against the
/// time in which a person would notice, long against the cost of reading the table.
pub(super) const RESCAN_MS: u64 = 10;

/// How long a request to a watcher whose queue is full waits before it is sent again. The watcher empties its queue within
/// milliseconds.
pub(super) const RESEND_DELAY: Duration = Duration::from_millis(10);
