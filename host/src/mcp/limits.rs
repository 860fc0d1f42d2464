//! The bounds of the wire, in one place: how much is read, how often something is repeated, how long tidying may take.
//!
//! None of these is a deadline of a request; those belong to the caller. Each bound exists because the other side is
//! not trusted to end by itself.

use std::time::Duration;

pub use crate::model::MAX_MESSAGE_BYTES;

/// So many times the largest message a line or an event of a pipe may be long: what is above the largest message is discarded
/// as it is read, but a line that never ends is a flood.
pub const DISCARDED_MESSAGES: usize = 16;

/// How many bytes of a name, a number or an identifier are looked at in a message that cannot be read.
pub const OUTLINE_TOKEN_BYTES: usize = 128;

/// How long the next line of a message over several lines is waited for: a server writes the lines of one message together.
pub const NEXT_LINE_TIMEOUT: Duration = Duration::from_secs(2);

/// How many texts of one process that are no messages are logged.
pub const UNREADABLE_LINES: usize = 3;

/// The most that is read of one event stream that ends with an answer, in bytes; keep-alive comments count. Of a stream
/// that is listened to, the most within one [`LISTEN_WINDOW`].
pub const MAX_STREAM_BYTES: usize = 32 * 1024 * 1024;

/// The stretch of time in which what comes on a stream that is listened to is counted: such a stream may last for ever,
/// so it is bounded in its rate and not in all.
pub const LISTEN_WINDOW: Duration = Duration::from_secs(10);

/// How many events a stream that is listened to may bring within one [`LISTEN_WINDOW`], or how many messages a pipe besides
/// the answers that somebody waits for. A talkative server logs some ten lines a second.
pub const MAX_LISTEN_EVENTS: usize = 5_000;

/// The most that is read of the body of an answer with an error status, in bytes.
pub const MAX_ERROR_BODY_BYTES: usize = 64 * 1024;

/// The most that is read of the challenges of an answer that refuses a credential, in bytes: as much as common servers send in all
/// headers.
pub const CHALLENGE_BYTES_MAX: usize = 4 * 1024;

/// How many of them are kept: a server offers a few schemes.
pub const CHALLENGES_MAX: usize = 4;

/// How many characters of a parameter are kept: an address or a list of scopes.
pub const CHALLENGE_VALUE_CHARACTERS: usize = 256;

/// How many requests of the server are answered on one event stream: in all while it answers one of ours, at once where it
/// is listened to.
pub const MAX_SERVER_REQUESTS: usize = 100;

/// How often in a row one answer's broken stream is resumed without bringing a single event that can be resumed after
/// (2025-11-25, "Resumability and Redelivery"). A server may end a stream as often as it likes while it works and let the
/// client come back, so only the caller's deadline bounds those that go on.
pub const MAX_RESUMPTIONS: usize = 5;

/// How long is waited before a stream is resumed, where its server does not say.
pub const RESUMPTION_WAIT_DEFAULT: Duration = Duration::from_secs(1);

/// The shortest such wait, whatever the server says: one that ends its streams at once is not asked without pause.
pub const RESUMPTION_WAIT_MIN: Duration = Duration::from_millis(100);

/// The longest such wait, whatever the server says.
pub const RESUMPTION_WAIT_MAX: Duration = Duration::from_secs(30);

/// How many pages one list may have.
pub const MAX_PAGES: usize = 100;

/// After so many pages in a row without an item, a list that has items ends: some servers always give another cursor, and some
/// leave out items of a page that their caller may not see.
pub const MAX_EMPTY_PAGES: usize = 8;

/// How many items one list may have.
pub const MAX_ITEMS: usize = 10_000;

/// How large all pages of one list may be together, in bytes.
pub const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;

/// How many tools of one session may mirror arguments into headers.
pub const MAX_MIRRORING_TOOLS: usize = MAX_ITEMS;

/// How many arguments one tool may mirror into headers.
pub const MAX_MIRRORED_ARGUMENTS: usize = 64;

/// How deep an input schema may nest where header annotations are looked for.
pub const MAX_SCHEMA_DEPTH: usize = 64;

/// How deep an item of a list may nest. One that nests deeper is left out and logged: many JSON readers (serde_json's among
/// them) stop at 128 levels, and one such tool would take the whole list from their clients.
pub const MAX_ITEM_DEPTH: usize = 120;

/// How many items that are left out of a list are named in the log; the others are counted.
pub const LEFT_OUT_NAMED: usize = 3;

/// How many characters of such a name are shown.
pub const LEFT_OUT_CHARACTERS: usize = 64;

/// How many characters of a server's error message are kept.
pub const MAX_ERROR_MESSAGE_CHARACTERS: usize = 512;

/// How long work that nobody waits for may take: closing a session, a cancellation, an answer to the server.
pub const TIDYING_DEADLINE: Duration = Duration::from_secs(5);

/// How long and how far the rest of an answered event stream is read, so that its connection can be used again.
pub const DRAIN_DEADLINE: Duration = Duration::from_millis(250);

/// See [`DRAIN_DEADLINE`]; in bytes.
pub const MAX_DRAIN_BYTES: usize = 64 * 1024;

/// How much later than the modern question the legacy one is asked, at an unknown server. One that is near has answered
/// by then, so that no modern server sees a handshake of a former era; to one that is far it makes no difference.
pub const DISCOVERY_HEAD_START: Duration = Duration::from_millis(25);

/// How long an unknown server that speaks the legacy era is at least given to answer the modern question too.
pub const LEAST_DISCOVERY_GRACE: Duration = Duration::from_millis(250);

/// How long a process of an unknown era is left with the modern question before the legacy one follows it into its pipe:
/// servers that ignore what they do not know answer nothing else. Processes need about a second to start.
pub const PIPE_PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// How often one process is asked the same question while it answers none: who has that many in its pipe needs no more, and
/// a pipe of 64 KiB is not filled by them.
pub const PIPE_QUESTIONS_MAX: usize = 8;

/// How long the answer to `notifications/initialized` is waited for, before a server that gives none is asked for its lists: less
/// than half of the usual deadline of a connection, which also covers what comes before it.
pub const CONFIRMATION_WAIT: Duration = Duration::from_secs(2);

/// How long a stream of 2024-11-05 is given to say where to post to, where a server is only suspected to have one.
pub const SSE_PROBE_TIMEOUT: Duration = Duration::from_secs(2);

/// Messages to a child that wait to be written.
pub const PIPE_QUEUE: usize = 64;

/// How much is read of a child's stream at once, in bytes.
pub const PIPE_BUFFER_BYTES: usize = 64 * 1024;

/// What a server on a pipe said and a reader has not taken yet: messages for each request, and for each session.
pub const PIPE_INBOX_LETTERS: usize = 256;

/// So many announcements that one list changed wait for a reader at most; the ones after them are dropped, since they say no
/// more. As many as show a storm of announcements from an echo of a list.
pub const LIST_CHANGES_HELD: usize = 9;

/// See [`PIPE_INBOX_LETTERS`]; in bytes. A single message may be larger.
pub const PIPE_INBOX_BYTES: usize = 1024 * 1024;

/// Answers to a server of 2024-11-05 that are posted at once, behind the requests.
pub const PIPE_POSTS: usize = 16;

/// How long a child that has ended may leave something unread in its streams.
pub const PIPE_DRAIN: Duration = Duration::from_millis(250);

/// How long a child is given to end after its standard input was closed (2026-07-28, `basic/transports/stdio`, Shutdown).
pub const STDIN_GRACE: Duration = Duration::from_secs(2);

/// How long its process group is given to end after SIGTERM, before it is killed.
pub const TERMINATE_GRACE: Duration = Duration::from_secs(2);

/// How many lines of a child's standard error are logged a second.
pub const MAX_COMPLAINTS_PER_SECOND: usize = 20;

/// How much of one such line is logged, in bytes.
pub const MAX_COMPLAINT_BYTES: usize = 2_048;
