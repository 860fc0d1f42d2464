//! The registry's limits, in one place.
//!
//! What may be written is smaller than what can be read: two writers that each stay within their bounds may together make a
//! document that is a little larger, and it must still be readable.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::model::MAX_TIMEOUT;

/// The greatest size of a registry that is read, in bytes.
pub const MAX_REGISTRY_BYTES: usize = 32 << 20;

/// How many servers, and how many tombstones, a registry that is read may hold.
pub const MAX_SERVERS: usize = 20_000;

/// The greatest size of what this program writes, in bytes: what would make the document larger is refused.
pub const MAX_WRITTEN_BYTES: usize = 16 << 20;

/// How many servers this program puts into a registry.
pub const MAX_WRITTEN_SERVERS: usize = 10_000;

/// The greatest size of one entry, in bytes of its JSON text without white space.
pub const MAX_ENTRY_BYTES: usize = 64 << 10;

/// Timeouts that an entry may name, in milliseconds: what a service map may.
pub const TIMEOUT_RANGE_MS: RangeInclusive<u64> = 1..=MAX_TIMEOUT.as_millis() as u64;

/// How many tombstones are written: the latest. Ten times what a person removes in a busy year.
pub const MAX_WRITTEN_TOMBSTONES: usize = 5_000;

/// How many tombstones are written at most, however young they are.
pub const MAX_YOUNG_TOMBSTONES: usize = 15_000;

/// How long a tombstone is kept: nobody edits a document that he read a month ago.
pub const TOMBSTONE_KEPT: Duration = Duration::from_secs(30 * 24 * 3600);

/// How many former documents are kept in the folder, for foreign edits to be compared with.
pub const BASES_ON_DISK: usize = 64;

/// How many former documents a process remembers.
pub const BASES_IN_MEMORY: usize = 64;

/// How many foreign documents a document remembers to hold: those of which a crash may have left a copy.
pub const ABSORBED_KEPT: usize = 8;

/// The size that a journal's segment is written with in advance. Rotated when that is used up.
pub const SEGMENT_BYTES: usize = 1 << 20;

/// The size that a segment may grow to if no new one can be had in time.
pub const SEGMENT_BYTES_MAX: u64 = 64 << 20;

/// How long a segment is written to, once the document holds what it says. Far below the age at which tombstones go.
pub const SEGMENT_KEPT: Duration = Duration::from_secs(3600);

/// The age from which on the number of tombstones is bounded: longer than any journal keeps what they are about.
pub const TOMBSTONE_YOUNG: Duration = Duration::from_secs(24 * 3600);

/// How long after a segment could not be made ready it is tried again, as long as another one is in use.
pub const SEGMENT_RETRY: Duration = Duration::from_secs(10);

/// How many bytes of entries one commit makes durable together, about.
pub const BATCH_BYTES: usize = 1 << 20;

/// How many changes one commit makes durable together, at most.
pub const BATCH_MAX: usize = 1024;

/// How many changes may wait for their commit. Beyond it, they are refused.
pub const QUEUE_MAX: usize = 16 * 1024;

/// How often a snapshot is written anew because a foreign writer changed the file meanwhile, before it is put off.
pub const SETTLE_ROUNDS: usize = 16;

/// How often the folder is looked at for what others did.
pub const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// How long a file that looks the same is taken for the same without being read: the grain of times may hide a change.
pub const LOOKS_ARE_TRUSTED: Duration = Duration::from_secs(5);

/// How often journals of others are tried for whether their writers are gone.
pub const ORPHAN_CHECK_INTERVAL: Duration = Duration::from_secs(5);

/// How long the lock of other writers is waited for.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(10);

/// The first and the longest pause between two tries for a lock.
pub const LOCK_PAUSE: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(20));

/// The age at which a lock file of the old tools counts as forgotten: they hold it for milliseconds, and give up after
/// 150 ms themselves.
pub const LEGACY_LOCK_STALE: Duration = Duration::from_secs(10);

/// How long after a failure of the disk it is tried again, at first and at most.
pub const PROBE_PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// How many bytes of superseded values are kept, twice: the ring has two halves.
pub const SUPERSEDED_BYTES: u64 = 1 << 20;

/// How long a temporary file of another process is left alone: it may be at work on it.
pub const TEMPORARY_KEPT: Duration = Duration::from_secs(10);
