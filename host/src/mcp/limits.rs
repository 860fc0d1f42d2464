//! The bounds of the wire, in one place: how much is read, how often something is repeated, how long tidying may take.
//!
//! None of these is a deadline of a request; those belong to the caller. Each bound exists because the other side is
//! not trusted to end by itself.

use std::time::Duration;

/// The largest JSON answer that is read, in bytes.
pub const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// The largest single event of an event stream, in bytes.
pub const MAX_EVENT_BYTES: usize = 16 * 1024 * 1024;

/// The most that is read of one event stream, in bytes; keep-alive comments count.
pub const MAX_STREAM_BYTES: usize = 32 * 1024 * 1024;

/// The most that is read of the body of an answer with an error status, in bytes.
pub const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// How many requests of the server are answered on one event stream.
pub const MAX_SERVER_REQUESTS: usize = 100;

/// How many pages one list may have.
pub const MAX_PAGES: usize = 100;

/// How many tools one list may have.
pub const MAX_TOOLS: usize = 10_000;

/// How large all pages of one list may be together, in bytes.
pub const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// How many tools of one session may mirror arguments into headers.
pub const MAX_MIRRORING_TOOLS: usize = MAX_TOOLS;

/// How many arguments one tool may mirror into headers.
pub const MAX_MIRRORED_ARGUMENTS: usize = 64;

/// How deep an input schema may nest where header annotations are looked for.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// How many characters of a server's error message are kept.
pub const MAX_ERROR_MESSAGE_CHARACTERS: usize = 512;

/// How long work that nobody waits for may take: closing a session, a cancellation, an answer to the server.
pub const TIDYING_DEADLINE: Duration = Duration::from_secs(5);

/// How long and how far the rest of an answered event stream is read, so that its connection can be used again.
pub const DRAIN_DEADLINE: Duration = Duration::from_millis(250);

/// See [`DRAIN_DEADLINE`]; in bytes.
pub const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// How long an unknown server that speaks the legacy era is at least given to answer the modern question too.
pub const LEAST_DISCOVERY_GRACE: Duration = Duration::from_millis(250);
