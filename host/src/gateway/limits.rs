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

/// How long the body of a request may take to arrive.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(30);

/// Bytes of all requests' bodies that are in flight, from their heads to their answers: sixteen of the largest. Each is held
/// about twice, as what was received and as what is sent on.
pub const BODY_BYTES_MAX: usize = 256 << 20;

/// A body up to this size is small: nearly all requests are. Small bodies have a budget of their own, so that they pass while
/// large ones fill theirs.
pub const SMALL_BODY_BYTES: usize = 64 << 10;

/// Bytes of all small bodies that are in flight.
pub const SMALL_BODY_BYTES_MAX: usize = 32 << 20;

/// How long a body waits for its part of the budget before its request is refused. Nothing of it is read meanwhile.
pub const BODY_BUDGET_WAIT: Duration = Duration::from_secs(1);

/// Bytes of a refused body that are read and thrown away, so that its client sees the answer: those of the largest.
pub const REFUSED_BODY_BYTES_MAX: usize = REQUEST_BYTES_MAX;

/// How long a refused body is read at most.
pub const REFUSED_BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// When a client whose request found no budget may come back: most requests are answered by then.
pub const BODY_BUDGET_RETRY: Duration = Duration::from_secs(1);

/// How long a browser may go without asking anew whether a page may use the gateway. Each request is judged all the same.
pub const PREFLIGHT_MAX_AGE: Duration = Duration::from_secs(600);

/// Messages of one batch, which are answered at once.
pub const BATCH_MESSAGES_MAX: usize = 64;

/// Largest answer to a batch, in bytes.
pub const BATCH_ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long after a cold start a list waits for the first connectors, so that a client that lists once sees them.
pub const COLD_LIST_WAIT: Duration = Duration::from_secs(2);

/// How long it waits at least for the next connector after one came; longer, if that one took longer.
pub const COLD_LIST_QUIET: Duration = Duration::from_millis(100);

/// How long calls in flight may go on after a shutdown began.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long every other task may take to end.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

/// How often a suspend of the machine is looked for.
pub const RESUME_CHECK: Duration = Duration::from_secs(5);

/// Shorter gaps between the boot clock and timers are no suspend.
pub const RESUME_LEAST: Duration = Duration::from_secs(10);

/// Fresh time of a service map is clamped to this.
pub const MAP_TTL_MIN: Duration = Duration::from_secs(30);

/// See [`MAP_TTL_MIN`].
pub const MAP_TTL_MAX: Duration = Duration::from_secs(86_400);

/// First backoff of a service map that was never fetched.
pub const MAP_BACKOFF_MIN: Duration = Duration::from_secs(1);

/// The period of `calls-per-minute`.
pub const RATE_PERIOD: Duration = Duration::from_secs(60);

/// How long a tool of the registry may wait for its disk, and for the locks of other writers: longer than those are waited
/// for.
pub const REGISTRY_PATIENCE: Duration = Duration::from_secs(15);

/// How many tools of the registry work with its disk at once.
pub const REGISTRY_TURNS: usize = 16;

/// Items of one page of a list that is served: well above what clients without paging are ever served.
pub const LIST_PAGE_ITEMS: usize = 1_000;

/// Longest part of a server's instructions that is passed on, in bytes.
pub const INSTRUCTIONS_OF_ONE_MAX: usize = 2 << 10;

/// Longest instructions altogether, in bytes.
pub const INSTRUCTIONS_MAX: usize = 16 << 10;

/// What a discovery says is good for at most this long, in milliseconds: connectors come and go.
pub const DISCOVER_TTL_MAX_MS: u64 = 300_000;

/// Messages that wait for a slow client, on each of its streams.
pub const OUTBOX_MESSAGES: usize = 64;

/// How large they may be together, in KiB; a message that is larger by itself waits alone.
pub const OUTBOX_KIBIBYTES: u32 = 1 << 10;

/// How large the messages may be together that are larger than [`OUTBOX_KIBIBYTES`] and wait for clients, of all clients, in
/// KiB: sixteen of the largest.
pub const LARGE_MESSAGES_KIBIBYTES: u32 = 256 << 10;

/// How long a client may take nothing of what waits for it. Then it is cut off.
pub const CLIENT_STALL_MAX: Duration = Duration::from_secs(30);

/// How long a client may take to answer a question of a server. The call that it belongs to often ends earlier.
pub const QUESTION_TIMEOUT: Duration = Duration::from_secs(300);

/// Questions to one client that wait for an answer.
pub const QUESTIONS_MAX: usize = 64;

/// A legacy session that was not used for so long is ended.
pub const SESSION_IDLE_MAX: Duration = Duration::from_secs(1_800);

/// Legacy sessions at once; for one more, the one that was idle for longest is ended.
pub const SESSIONS_MAX: usize = 4_096;

/// Whoever has so many of them makes room for its next one itself.
pub const SESSIONS_SHARE: usize = SESSIONS_MAX / 8;

/// How often idle sessions are looked for.
pub const SESSION_SWEEP: Duration = Duration::from_secs(60);

/// How long the sessions that a legacy client has of its own may take to end, at a shutdown.
pub const SESSION_CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Streams that one legacy session may hold open with GET.
pub const SESSION_STREAMS_MAX: usize = 4;

/// Streams of one legacy session whose client is gone and may come back.
pub const RESUMABLE_STREAMS_MAX: usize = 4;

/// How long it may take for that.
pub const RESUME_WITHIN: Duration = Duration::from_secs(60);

/// How much of what was sent on a stream can be had again, in bytes.
pub const REPLAY_BYTES_MAX: usize = 128 << 10;

/// Resources that results named to one client and that are remembered with their connectors; for one more, the oldest is
/// forgotten.
pub const LINKS_MAX: usize = 1_024;

/// Bytes that the links of one client hold: [`LINKS_MAX`] of ordinary length.
pub const LINKS_BYTES_MAX: usize = 512 << 10;

/// What a link holds besides its URI, in bytes: its entries in two maps.
pub const LINK_OVERHEAD_BYTES: usize = 256;

/// Longest URI that is remembered: longer ones are not compared with templates either.
pub const LINK_URI_BYTES_MAX: usize = 8 << 10;

/// How long a link of a token is remembered: the modern era has no sessions that end.
pub const LINK_LIFETIME: Duration = Duration::from_secs(600);

/// Tokens whose links are remembered; for one more, those of the token that called longest ago are forgotten.
pub const LINK_TOKENS_MAX: usize = 1_024;

/// How large what a legacy client says of itself may be, its capabilities and its name together: it is kept, and told to
/// servers.
pub const CLIENT_FACTS_BYTES_MAX: usize = 64 << 10;

/// Bytes that are held for all clients between their requests: what sessions know of their clients, and the URIs of
/// subscriptions. A thousand of the largest clients; a usual one is below 1 KiB.
pub const HELD_BYTES_MAX: usize = 64 << 20;

/// Longest URI that can be subscribed to.
pub const SUBSCRIPTION_URI_BYTES_MAX: usize = 8 << 10;

/// How long servers may take to grant the subscriptions of a `subscriptions/listen`: what is not granted then is left out.
pub const LISTEN_GRANT_TIMEOUT: Duration = Duration::from_secs(5);

/// Subscriptions of one `subscriptions/listen` that are asked for at once.
pub const LISTEN_GRANTS_AT_ONCE: usize = 32;

/// How much is kept altogether for clients that may come back for their streams, in bytes.
pub const RESUMABLE_BYTES_MAX: usize = 256 << 20;

/// Resources that one client may be subscribed to.
pub const SUBSCRIPTIONS_MAX: usize = 256;

/// Streams of `subscriptions/listen` at once.
pub const LISTENS_MAX: usize = 1_024;

/// How many of them one token may have, where there are several tokens.
pub const LISTENS_SHARE: usize = LISTENS_MAX / 4;

/// Least time between two notices that a list has changed. The first is told at once, the last always.
pub const LIST_CHANGED_PACE: Duration = Duration::from_millis(500);

/// How often a stream without messages sends a comment: proxies cut connections that carry no byte for 30 s (HAProxy's usual
/// `timeout client`) to 125 s, some for less.
pub const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long a call may be without an answer before its event stream opens, if its client takes one: a call and its stream
/// are never silent for longer than a stream is.
pub const SILENCE_MAX: Duration = KEEP_ALIVE;

/// Connections at once, where the process may have enough descriptors: the longest idle one makes room for one more.
pub const CONNECTIONS_MAX: usize = 4_096;

/// Descriptors that connections of clients leave to the gateway's own files, its upstream connections and the pipes of its
/// children. Where the process may have few, they leave it half of them.
pub const DESCRIPTORS_RESERVED: usize = 256;

/// Connections at once on which no request has passed authentication. A new one is admitted with its first request, so that
/// few are pending at any time, whatever the load.
pub const PENDING_CONNECTIONS_MAX: usize = 64;

/// How long a connection may be pending: the deadline of its first request's head and of nothing after it.
pub const PENDING_TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes that one connection buffers of a request's head, and of an answer before it is written. Heads of MCP requests are
/// below 8 KiB; arguments that are mirrored into headers need more.
pub const CONNECTION_BUFFER_BYTES: usize = 64 << 10;

/// Bytes of answers, of all clients together, that are handed to connections and not yet taken by their clients: as much as
/// may be in flight of requests. Beyond that the client that has taken nothing for the longest time is closed.
pub const UNREAD_ANSWER_BYTES_MAX: u64 = BODY_BYTES_MAX as u64;

/// How long the head of a request may take to arrive on an admitted connection; an idle one is closed then, too.
pub const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(60);

/// How long is waited before another connection is accepted, after none could be: of file descriptors, mostly.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Requests of a client on stdio that are answered at once; one more is refused.
pub const STDIO_REQUESTS_MAX: usize = 256;

/// How long requests in flight may go on after the end of a client's input.
pub const STDIO_DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long requests that were cancelled then may take to end, before what waits for a client that does not read is dropped.
pub const STDIO_CUT_TIMEOUT: Duration = Duration::from_secs(1);

/// Changed definitions that a warning of `status` names; all are counted.
pub const WARNED_CHANGES_MAX: usize = 10;

/// Characters of a definition's name in a warning of `status`.
pub const WARNED_NAME_CHARACTERS: usize = 80;
