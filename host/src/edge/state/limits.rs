//! Bounds of the store of last-known-good state.

/// Longest first line of a frame. It holds three digests, two numbers and a record's name, and names have at most 80 bytes.
pub(super) const LINE_BYTES_MAX: usize = 1_024;

/// Logs of one directory before they are merged into one. Each start and each failed write begins another, and all of them
/// are read at the next start.
pub(super) const LOGS_MAX: usize = 8;

/// Bytes that no record needs any more and that are kept beside as many that are needed, before they are compacted away.
/// Small states are rewritten rarely because of it, and reading it takes some milliseconds.
pub(super) const DEAD_BYTES_MAX: u64 = 4 << 20;

/// Bytes that a compaction collects before it appends them: few system calls, and little memory.
pub(super) const COPY_CHUNK_BYTES: usize = 1 << 20;

/// Records that may fail in one batch before the rest of it is left for the next one. One that is too large for the disk
/// keeps the others from nothing, and a disk that takes nothing is not asked a thousand times.
pub(super) const APPEND_FAILURES_MAX: usize = 3;

/// Damaged files that are quarantined. They serve a person who looks for the cause, and each may be as large as the state.
pub(super) const DAMAGED_FILES_MAX: usize = 16;

/// How often a follower lists the logs again because one vanished while it read: each time the leader has compacted them.
pub(super) const READ_ATTEMPTS_MAX: usize = 8;

/// Payload that is verified by one thread. Below it, starting threads takes longer than what they save.
pub(super) const SEQUENTIAL_BYTES_MAX: usize = 1 << 20;
