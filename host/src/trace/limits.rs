//! Every bound of the trace, in one place.

use std::time::Duration;

/// Into how many segments a small trace is divided, at least: the oldest of them makes room for the next.
pub const SEGMENTS: u64 = 16;

/// How many bytes of lines begin the next segment: compressing them takes less than a tenth of a second, in which the queue
/// does not fill, and a value that several decisions refer to is mostly in the same segment.
pub const SEGMENT_BYTES: u64 = 4 << 20;

/// How many bytes of decisions begin the next segment, with the values that they refer to: a reader takes twice as many.
pub const SEGMENT_RESOLVED_BYTES: u64 = RESOLVED_BYTES_MAX / 2;

/// Segments in a folder, whatever their size: each is looked at when one is removed.
pub const SEGMENT_FILES_MAX: usize = 8_192;

/// The largest segment that is compressed: one with the longest line twice, once as values and once with references to
/// them. What was not written by this version may be larger, and stays as it is.
pub const COMPRESSED_BYTES_MAX: usize = 2 * LINE_BYTES_MAX + (4 << 20);

/// Bytes that a compressed segment expands to, at most: more than three times what the largest has.
pub const SEGMENT_EXPANDED_BYTES_MAX: u64 = 256 << 20;

/// The shortest object that a decision refers to instead of repeating it: a reference and the value's own line take more
/// than a shorter one.
pub const VALUE_BYTES_MIN: usize = 40;

/// Values that a reader keeps of a segment: those of the longest line, if each is as short as a value can be.
pub const VALUES_MAX: usize = 1 << 20;

/// Bytes of the values that a reader keeps of a segment: more than the longest line and a full segment hold.
pub const VALUES_BYTES_MAX: usize = 64 << 20;

/// Bytes of the decisions of a segment with the values that they refer to: what it takes to read a segment stays bounded
/// though one value may be referred to a million times. A full segment of the largest states has less than a half.
pub const RESOLVED_BYTES_MAX: u64 = 1 << 30;

/// Decisions that wait to be written: those of five thousand connectors that start at once, six of each. At a thousand
/// decisions a second the disk may stand still for half a minute.
pub const QUEUE_RECORDS: usize = 32_768;

/// Items of lists (entries of a registry, candidates of a plan) in the decisions that wait: bounds their memory.
pub const QUEUE_ITEMS: usize = 200_000;

/// About how many bytes the decisions that wait take: as many small ones as may wait, less of those with large memos.
pub const QUEUE_BYTES: usize = 32 << 20;

/// Decisions taken out of the queue at once.
pub const QUEUE_BATCH: usize = 64;

/// Swaps that wait to be written. The deciding threads wait for none of them, and none is refused: of more, the oldest
/// makes room, which its successor tells of.
pub const QUEUE_SWAPS: usize = 1_024;

/// What a decision that waits takes, about, without its memos and lists.
pub const RECORD_BYTES: usize = 1_024;

/// What an item of a list takes, about.
pub const ITEM_BYTES: usize = 160;

/// Decisions that wait for the shadow policy.
pub const SHADOW_QUEUE_RECORDS: usize = 1_024;

/// Items of lists in the decisions that wait for the shadow policy.
pub const SHADOW_QUEUE_ITEMS: usize = 50_000;

/// About how many bytes the decisions that wait for the shadow policy take.
pub const SHADOW_QUEUE_BYTES: usize = 8 << 20;

/// Deployed components of the shadow's own family that it remembers: the newest. A memo of an earlier one's is not given
/// to it.
pub const SHADOW_RELATIVES_MAX: usize = 256;

/// The niceness of the shadow policy's thread, where a thread has one of its own: the greatest that there is.
pub const SHADOW_NICENESS: i32 = 19;

/// Shadow differences written to the trace; later ones are only counted, so that a shadow that decides everything
/// otherwise does not crowd out the decisions.
pub const SHADOW_NOTES_MAX: u64 = 10_000;

/// How long the writer rests between two looks at its queue while decisions come in: waking it for each would cost the
/// deciding thread a system call.
pub const WRITER_REST: Duration = Duration::from_millis(10);

/// How often a writer looks whether the folder is free before it begins a segment all the same.
pub const FOLDER_ATTEMPTS: usize = 100;

/// How long nothing comes in before the writer sleeps until it is woken.
pub const WRITER_IDLE: Duration = Duration::from_secs(1);

/// After a failed write: how long by the clocks of the decisions until the next attempt.
pub const RETRY_AFTER_MS: u64 = 5_000;

/// How much is gathered before it is handed to the system.
pub const WRITE_BYTES: usize = 64 << 10;

/// The longest line that is read or written: a merge of some ten thousand entries.
pub const LINE_BYTES_MAX: usize = 32 << 20;

/// How much longer the line of a decision is than the decision: its kind, braces and the line's end.
pub const DECISION_LINE_BYTES: usize = 16;

/// How much of a trace is read at once.
pub const READ_BYTES: usize = 256 << 10;

/// The longest header that is read or written. It is most of what is read of a segment to learn which components it names,
/// and its configuration takes some thirty times as much memory once it is parsed.
pub const HEADER_BYTES_MAX: usize = 1 << 20;

/// How much of a compressed segment is read first to learn that: the header of most is in there.
pub const HEADER_BYTES_COMPRESSED: usize = 16 << 10;

/// Formerly deployed components that a header names, the newest: those that may still have a decision under way.
pub const FORMERS_MAX: usize = 64;

/// How long the shadow policy still decides what waits for it when the gateway ends.
pub const SHADOW_CLOSE_TIME: Duration = Duration::from_secs(3);

/// Longest wait for the writer to end.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Names of tools kept for one connector, for `why`.
pub const TOOL_NAMES_MAX: usize = 10_000;

/// Characters of the reason why a line is no line of a trace: it may quote the line.
pub const REASON_CHARS_MAX: usize = 200;

/// Differing fields told of one decision.
pub const FIELDS_TOLD_MAX: usize = 50;

/// Pairs of function and subject whose differing decisions a replay counts apart; those of more are counted together.
pub const DIFFERENT_SUBJECTS_MAX: usize = 10_000;

/// The longest subject whose differing decisions a replay counts apart, in bytes.
pub const SUBJECT_BYTES_MAX: usize = 1_024;

/// Rows of a replay's summary; what the others say is counted together.
pub const SUMMARY_ROWS_MAX: usize = 1_000;

/// Components that a replay knows by name: the first that the trace names.
pub const COMPONENTS_KNOWN_MAX: usize = 4_096;

/// Components that are not at hand and are told of; decisions of more are counted together.
pub const MISSING_TOLD_MAX: usize = 100;
