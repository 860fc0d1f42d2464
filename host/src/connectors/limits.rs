//! Bounds of this room.

use std::time::Duration;

use super::backoff::Backoff;

/// To open a session, where the connector does not say. A process that is past its start deadline is given
/// as long in each later attempt.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// From the start of a process to its first answer, where the connector does not say: package runners download first, which
/// takes some 40 s on a usual line (copilot-cli#4421, blockrun-mcp#144).
pub const START_TIMEOUT: Duration = Duration::from_secs(120);

/// How long a start holds its permit at most. A process that is there has answered by then, unless it downloads or hangs, and
/// those need no core.
pub const START_PERMIT: Duration = Duration::from_secs(5);

/// How long the first pass waits for a process that starts: what is slower comes later, and is no reason to wait.
pub const FIRST_PASS_START: Duration = Duration::from_secs(30);

/// To list everything, where the connector does not say.
pub const LIST_TIMEOUT: Duration = Duration::from_secs(5);

/// A run that takes longer moves to the slow lane, unless the policy says otherwise.
pub const SLOW_AFTER: Duration = Duration::from_secs(1);

/// Runs in the slow lane at once; whoever does not fit keeps its place.
pub const SLOW_LANE_MAX: usize = 256;

/// Runs that ask for admission within this time of the first are ordered together.
pub const ADMISSION_WINDOW: Duration = Duration::from_millis(5);

/// Connectors that are started before other tasks have their turn: each takes some tens of microseconds.
pub const STARTS_BETWEEN_YIELDS: usize = 32;

/// After a warm start, how long nothing is contacted: clients that waited for the start read what is saved, and the work of many
/// contacts would be in their way.
pub const WARM_REST: Duration = Duration::from_millis(250);

/// Connectors that restore what was saved of them at once, for each core: each computes for some hundred microseconds, and
/// requests that come meanwhile wait for no more than these.
pub const RESTORES_PER_CORE: usize = 2;

/// Runs that the policy orders at a time: twice as many as may be under way by default. A decision's record names each of them.
pub const PLAN_WINDOW: usize = 64;

/// Messages to the admission that may wait.
pub const ADMISSION_QUEUE: usize = 1_024;

/// Calls to one origin at once.
pub const CALLS_PER_ORIGIN: usize = 10;

/// Places of an origin that are kept free for connectors that hold none, at most: half of all.
pub const KEPT_FREE_MAX: usize = CALLS_PER_ORIGIN / 2;

/// Calls to one connector at once, where the configuration does not say.
pub const CALLS_PER_CONNECTOR: usize = 10;

/// Calls that may wait for a place of one connector, where the configuration does not say; one more is refused at once.
pub const CALL_QUEUE: usize = 256;

/// The part of its deadline, as a divisor, that is left to a call that has waited for a permit: one that waits longer is
/// refused, since its server would work on it for nothing.
pub const CALL_TIME_LEFT: u32 = 10;

/// When a call that found no permit may be tried again, at most: an estimate, since the time that the calls before it take
/// is not known.
pub const BUSY_RETRY_AFTER: Duration = Duration::from_secs(5);

/// How long a server is left alone that asks for fewer calls (429) and does not say for how long. One that fails otherwise
/// (503) is left alone only if it says for how long.
pub const THROTTLE_DEFAULT: Duration = Duration::from_secs(1);

/// The longest that a server may ask to be left alone; what it asks beyond is asked again then.
pub const THROTTLE_MAX: Duration = Duration::from_secs(3_600);

/// So many times its own deadline a call may take in all, however often its server shows progress or asks something
/// (2026-07-28, `basic/utilities/progress` and "Timeouts": progress may renew a deadline, a maximum holds all the same).
pub const CALL_TIMEOUT_STRETCH: u32 = 10;

/// Least time between two signals that a server announced a change of its lists. With what the policy adds (at most half a
/// second) a change is followed within a second.
pub const LIST_CHANGED_PACE: Duration = Duration::from_millis(400);

/// Announcements that brought nothing new double the pace, so many times at most: some servers announce a change whenever
/// they are listed. Together with [`REFRESH_FLOOR`].
pub const LIST_CHANGED_DOUBLINGS: u32 = 7;

/// So many announcements since the last list are a storm, and no echo of that list: it has four kinds at most.
pub const STORM_ANNOUNCEMENTS: u32 = 9;

/// The longest pace amid a storm of announcements. With what the policy adds (at most half a second) a real change is followed
/// within two seconds.
pub const STORM_PACE: Duration = Duration::from_millis(1_300);

/// Backoff of a listening stream that ended, of a wish that failed, and of asking a server what it has.
pub(super) const LISTEN_BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(60) };

/// A stream that was open for so long is one that works: its end begins the backoff anew.
pub const LISTEN_PROVEN: Duration = Duration::from_secs(60);

/// A stream that opens later than this after its session may have missed what was announced after the first list.
pub const LISTEN_LATE: Duration = Duration::from_secs(1);

/// How long a run is given to learn what a remembered server has, before the listener asks by itself.
pub const LEARN_PATIENCE: Duration = Duration::from_secs(10);

/// Wishes for resources that come within this time of one another are one change of what is listened to.
pub const WISH_PACE: Duration = Duration::from_millis(10);

/// How long a server is given to take a wish: a subscription, the end of one, a log level.
pub const WISH_TIMEOUT: Duration = Duration::from_secs(5);

/// Resources of one connector that may be wished for at once.
pub const RESOURCE_WISHES_MAX: usize = 1_024;

/// Wishes that a legacy server is asked to carry out at once: one that hangs holds up no other.
pub const WISHES_AT_ONCE: usize = 8;

/// How long a legacy server is left at the log level of the last wish before it is told to be quiet again: wishes of single
/// requests come one after the other.
pub const LOG_WISH_LINGERS: Duration = Duration::from_secs(30);

/// Sessions that legacy clients have of their own with one connector, at once; whoever comes later takes the place of the one
/// that was unused for the longest, or shares the connector's if calls are under way on all.
pub const OWN_SESSIONS_MAX: usize = 64;

/// How long such a session is left to its client at least, when another one wants its place: what a client is in the middle
/// of lives in its session at the server.
pub const OWN_SESSION_IDLE_MIN: Duration = Duration::from_secs(60);

/// How long the first call of such a session waits for its stream.
pub const OWN_STREAM_PATIENCE: Duration = Duration::from_secs(1);

/// How long is waited before the stream of such a session is opened again.
pub(super) const OWN_STREAM_BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(60) };

/// The stream of such a session that was asked for so long ago, and did open, is one that works: its end begins the backoff
/// anew. Balancers cut idle streams, some after half a minute.
pub const OWN_STREAM_PROVEN: Duration = Duration::from_secs(10);

/// How often in a row the stream of one such session may fail to open.
pub const OWN_STREAM_ATTEMPTS: u32 = 100;

/// Messages of servers that belong to no request and wait for a reader. With [`EVENT_BYTES_MAX`] at most 64 MiB.
pub const EVENTS_HELD: usize = 1_024;

/// The largest message of a server that is passed on though it belongs to no request, in bytes of its parameters.
pub const EVENT_BYTES_MAX: usize = 64 * 1_024;

/// So many such messages of one connector are passed on within [`EVENT_WINDOW`]: an eighth of what is held, so that one
/// connector does not push out what the others say.
pub const EVENTS_PER_WINDOW: usize = EVENTS_HELD / 8;

/// So many bytes of such messages of one connector are passed on within [`EVENT_WINDOW`].
pub const EVENT_BYTES_PER_WINDOW: usize = 1_024 * 1_024;

/// See [`EVENTS_PER_WINDOW`].
pub const EVENT_WINDOW: Duration = Duration::from_secs(1);

/// Calls of one connector that may have set their places down because their clients are being asked something. Whoever comes
/// later asks all the same and keeps its place.
pub const ASKING_CALLS_MAX: usize = 256;

/// Attempts of one request: the second only if the first was certainly not acted upon, and never one that starts a process
/// again which this request has started.
pub const ATTEMPTS: usize = 2;

/// How long a connector that leaves lets its calls in flight end.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// How long closing a session may take.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Fresh time of a list whose server names none: the steady interval takes its place where that is longer.
pub const LIST_TTL_DEFAULT: Duration = Duration::from_secs(300);

/// Least fresh time of a list that names one above zero.
pub const LIST_TTL_MIN: Duration = Duration::from_secs(30);

/// Greatest fresh time of a list.
pub const LIST_TTL_MAX: Duration = Duration::from_secs(86_400);

/// Backoff of a connector: equal jitter, exponential.
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// See [`BACKOFF_MIN`].
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Backoff of a server that ended by itself: as its connector's.
pub(super) const RESTART_BACKOFF: Backoff = Backoff { min: BACKOFF_MIN, max: BACKOFF_MAX };

/// Backoff of the checks of one session that its server may have forgotten: a server that fails calls and answers lists is listed
/// no more often than a connector that is down.
pub(super) const SUSPICION_BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: BACKOFF_MAX };

/// A process or stream that lasted so long is started again as if it were the first to end.
pub const RESTART_STEADY: Duration = BACKOFF_MAX;

/// Least time between two unforced fetches of what is served; never above the interval.
pub const REFRESH_FLOOR: Duration = Duration::from_secs(30);

/// Jitter of the steady interval, in permille.
pub const REFRESH_JITTER_PERMILLE: u32 = 200;

/// A breaker opens at so many failures in a row.
pub const BREAKER_THRESHOLD: u32 = 5;

/// It also opens when half of so many outcomes failed.
pub const BREAKER_WINDOW: u32 = 20;

/// See [`BREAKER_WINDOW`].
pub const BREAKER_RATE_PERMILLE: u32 = 500;

/// Open time of a breaker.
pub const BREAKER_OPEN_MIN: Duration = Duration::from_secs(1);

/// See [`BREAKER_OPEN_MIN`].
pub const BREAKER_OPEN_MAX: Duration = Duration::from_secs(60);

/// How long after a call's deadline a probe counts as lost. A probe that fails by its deadline must be known to have failed
/// first: a lost one lets the next call probe at once, and opens the breaker for no longer.
pub const PROBE_MARGIN: Duration = Duration::from_secs(1);

/// How long a call waits for the outcome of the probe under way, if the server is known to answer; never longer than half of
/// what it may take: most tools answer sooner, and a refused call can still be made elsewhere.
pub const PROBE_WAIT: Duration = Duration::from_secs(5);

/// Calls of one connector that wait so: as many as wait for a place by default would hold their arguments for nothing.
pub const PROBE_WAITING_MAX: usize = 64;

/// A probe that passed before its server answered anything is given up if the server answers something else and the probe has
/// been under way for so long: a server that hung, or whose connection was lost, may never answer it.
pub const PROBE_ANSWER_WAIT: Duration = Duration::from_secs(1);

/// The part of the open time, as a divisor, after which a refused call has the gateway look again whether the server answers.
pub const BREAKER_LOOK_PART: u32 = 10;

/// Least time between two such looks: a breaker that closes and opens again at once is no reason for more.
pub const BREAKER_LOOK_MIN: Duration = Duration::from_secs(1);

/// Greatest time between two such looks while calls are refused: a server that came back is called again soon after it.
pub const BREAKER_LOOK_MAX: Duration = Duration::from_secs(5);

/// Missed deadlines in a row of calls that waited for a permit and had less than the time of a list left, which say nothing
/// about their server; as many as open a breaker, so that a server which hangs is noticed behind its queue.
pub const EXCUSED_CALLS_MAX: u32 = BREAKER_THRESHOLD;

/// Clocks of two machines may differ by this much.
pub const CLOCK_SKEW: Duration = Duration::from_secs(300);

/// A refresh is suggested after this share of the fresh time, less some jitter.
pub const SOFT_PERMILLE: u32 = 800;

/// See [`SOFT_PERMILLE`].
pub const SOFT_JITTER_PERMILLE: u32 = 100;

/// Pace of retries while nothing can be served.
pub const NEGATIVE_MIN: Duration = Duration::from_secs(5);

/// See [`NEGATIVE_MIN`].
pub const NEGATIVE_MAX: Duration = Duration::from_secs(60);

/// How long a pass waits for connectors that are being rebuilt. A supervisor ends at its next wait, unless what it calls hangs.
pub const REBUILD_PATIENCE: Duration = Duration::from_secs(5);

/// States of a definition before the present one that are remembered, to recognise one that alternates: between two states
/// usually, between one for each of a few replicas at most.
pub const EARLIER_STATES_MAX: usize = 4;

/// Items of one list that are remembered although they are neither listed nor approved, about 200 bytes each: they would count
/// as new again otherwise.
pub const UNAPPROVED_ABSENT_MAX: usize = 1_000;

/// Connectors that are not there and whose approved definitions are kept for their return. One beyond that starts without.
pub const ABSENT_BASELINES_MAX: usize = 1_024;

/// Lines in a window about the definitions of one connector, for each kind of line.
pub const DEFINITION_LINES: u32 = 3;

/// Changed definitions that a line of the log names; all are counted.
pub const LOGGED_CHANGES_MAX: usize = 10;

/// Characters of a definition's name in a line of the log.
pub const DEFINITION_NAME_CHARACTERS: usize = 80;

/// Changed definitions of one connector that `status` lists; all are counted.
pub const STATUS_CHANGES_MAX: usize = 50;
