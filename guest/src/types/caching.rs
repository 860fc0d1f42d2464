//! Values of `caching`: what is known about a cached value and how it is judged.
//!
//! Plain data, and a mirror of `wit/types.wit`: the same names, the same order, the same documentation. Nothing here
//! decides anything, and no `serde` attribute may rename a field: the tests compare these values with those that the
//! host binds from the WIT, name by name.

use super::shared::{FailureClass, SubjectKind};

/// How long values are good.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CacheConfig {
    /// What the value is.
    pub kind: SubjectKind,
    /// The id of this boot of the machine.
    pub boot_id: u64,
    /// Least time to live of a value that names one above zero.
    pub ttl_min_ms: u64,
    /// Greatest time to live.
    pub ttl_max_ms: u64,
    /// Time to live of a value that names none.
    pub ttl_default_ms: u64,
    /// A refresh is suggested after this share of the fresh time, less some jitter. 0 to 1000.
    pub soft_permille: u32,
    /// Jitter of the soft point, in permille of the fresh time. 0 to `soft_permille`.
    pub soft_jitter_permille: u32,
    /// How long past its freshness a value may be served. 0: not at all.
    pub max_stale_ms: u64,
    /// How far the clocks of two machines may differ.
    pub skew_ms: u64,
    /// First pace of retries while nothing can be served.
    pub negative_min_ms: u64,
    /// Slowest pace of retries while nothing can be served.
    pub negative_max_ms: u64,
    /// The credential in use, as an opaque fingerprint; empty for none.
    pub credential: String,
    /// Settings beyond the known fields.
    pub options: Vec<(String, String)>,
}

/// Who may be given a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CacheScope {
    /// Anyone.
    Public,
    /// Only the credential that fetched it.
    Private,
}

/// An entity tag and the bytes that it belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct EntityTag {
    /// The tag, as the origin sent it.
    pub tag: String,
    /// The digest of the bytes it was sent with.
    pub digest: String,
}

/// A moment on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Instant {
    /// By the wall clock.
    pub wall_ms: u64,
    /// By the boot clock.
    pub boot_ms: u64,
    /// The boot id under which `boot_ms` holds.
    pub boot_id: u64,
}

/// How a value relates to its signed expiry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ExpiryStanding {
    /// Within it, or it has none.
    Within,
    /// It was past its signed expiry when it first arrived.
    ArrivedExpired,
    /// The origin confirmed it past its signed expiry and has nothing newer.
    Frozen,
}

/// The facts of the newest verified value. Its bytes stay in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ValueFacts {
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// The entity tag to send with the next request.
    pub etag: Option<EntityTag>,
    /// The key that verified it; none for unsigned values.
    pub key_id: Option<String>,
    /// Its version (`generatedAt` of a service map, ms since the epoch); none for unversioned values.
    pub version: Option<u64>,
    /// When it expires by its own signed word, by the wall clock.
    pub signed_expiry_wall_ms: Option<u64>,
    /// When the request that brought or last confirmed it was sent.
    pub requested: Instant,
    /// When its staleness is counted from, if not from the end of its fresh time: the first arrival of bytes that
    /// were expired already.
    pub stale_since: Option<Instant>,
    /// How long it is fresh from `requested`.
    pub fresh_ms: u64,
    /// After how much of that a refresh is suggested: drawn when it was stored.
    pub soft_ms: u64,
    /// Whether an announced change or an invalidation made it stale early.
    pub invalidated: bool,
    /// Its standing towards its signed expiry.
    pub standing: ExpiryStanding,
    /// Who may be given it.
    pub scope: CacheScope,
    /// The credential it was fetched with.
    pub credential: String,
}

/// The newest version accepted under a key. It outlives the value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Ratchet {
    /// The key; empty for unsigned values.
    pub key_id: String,
    /// The version.
    pub version: u64,
    /// The digest accepted at that version.
    pub digest: String,
}

/// Failures since the last success.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Failing {
    /// How many in a row.
    pub count: u32,
    /// The class of the last one.
    pub class: FailureClass,
    /// When the last one happened.
    pub at: Instant,
    /// The failure's pace: no reader asks for a retry before this time of the boot clock, under the boot id of `at`.
    pub until_boot_ms: u64,
}

/// Bytes that were accepted although they arrived expired.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ExpiredArrival {
    /// Their digest.
    pub digest: String,
    /// When they first arrived.
    pub first: Instant,
}

/// What is known about a cached value. No value is a state too.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct CacheState {
    /// The newest verified value.
    pub value: Option<ValueFacts>,
    /// One ratchet for each key seen. At most 16; the oldest version is forgotten first.
    pub ratchets: Vec<Ratchet>,
    /// Failures since the last success.
    pub failing: Option<Failing>,
    /// The run that is fetching, if one is.
    pub in_flight: Option<u64>,
    /// Bytes accepted although expired. At most 4, oldest first.
    pub expired_arrivals: Vec<ExpiredArrival>,
    /// The policy's own.
    pub memo: Vec<u8>,
}

/// How good a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Freshness {
    /// There is none.
    Empty,
    /// As good as new.
    Fresh,
    /// Fresh, and due for a refresh.
    Soft,
    /// Past its time, served while it is refreshed.
    Stale,
    /// Past its time, served because refreshing fails.
    StaleError,
    /// Past the last moment at which it may be served.
    Expired,
    /// The origin has nothing newer than bytes past their signed expiry.
    Frozen,
}

/// Whether a value may be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ServeVerdict {
    /// Serve it.
    Serve,
    /// Do not serve it.
    Withhold,
}

/// Whether a reader should ask for a refresh.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Wanted {
    /// No.
    None,
    /// Yes, and be served meanwhile.
    Background,
    /// Yes, and wait.
    Blocking,
}

/// Why a value is judged so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum LookupReason {
    /// No value was ever stored, or it was dropped.
    NoValue,
    /// Within its fresh time.
    WithinTtl,
    /// Past its soft point.
    PastSoftPoint,
    /// Past its fresh time.
    PastTtl,
    /// The origin announced a change.
    Invalidated,
    /// The wall clock is before the request: how old the value is cannot be known.
    ClockBehind,
    /// Refreshing fails.
    RefreshFailing,
    /// Past the greatest staleness.
    PastMaxStale,
    /// It arrived expired and nothing newer is held.
    ArrivedExpired,
    /// The origin confirms only bytes past their signed expiry.
    Frozen,
    /// Another credential is in use, and the value is private.
    OtherCredential,
}

/// A verdict on a cached value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct LookupDecision {
    /// How good it is.
    pub state: Freshness,
    /// Whether it may be served.
    pub serve: ServeVerdict,
    /// Whether to ask for a refresh.
    pub wanted: Wanted,
    /// The verdict holds until this time of the boot clock; none: until an event.
    pub until_boot_ms: Option<u64>,
    /// Why.
    pub reason: LookupReason,
}

/// A verified value that a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FetchedEvent {
    /// SHA-256 of the bytes, in hexadecimal.
    pub digest: String,
    /// The entity tag sent with it.
    pub etag: Option<String>,
    /// The key that verified it.
    pub key_id: Option<String>,
    /// Its version.
    pub version: Option<u64>,
    /// Its signed expiry, by the wall clock.
    pub signed_expiry_wall_ms: Option<u64>,
    /// The time to live that it names.
    pub ttl_ms: Option<u64>,
    /// Who may be given it.
    pub scope: CacheScope,
    /// The credential it was fetched with.
    pub credential: String,
    /// When the request was sent.
    pub requested: Instant,
    /// The ids of all keys that verify maps now; a ratchet of any other key binds no more.
    pub key_set: Vec<String>,
}

/// The origin's word that what we hold still stands.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct NotModifiedEvent {
    /// The digest that the entity tag we sent belongs to.
    pub digest: String,
    /// When the request was sent.
    pub requested: Instant,
    /// The time to live that the answer names.
    pub ttl_ms: Option<u64>,
}

/// What happened to a cached value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum CacheEvent {
    /// A run began to fetch: its id.
    Began(u64),
    /// It brought a verified value.
    Fetched(FetchedEvent),
    /// It brought the word that the value still stands.
    NotModified(NotModifiedEvent),
    /// It failed.
    Failed(FailureClass),
    /// It was given up.
    Cancelled,
    /// The origin announced a change.
    Changed,
    /// A reader found out that the value is wrong.
    Invalidated,
    /// The value was read back from disk.
    Restored,
    /// The value may not be served any more.
    Revoked,
    /// The credential changed to the one in the configuration.
    CredentialsChanged,
}

/// What was done about an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AdvanceOutcome {
    /// The new value took the place of the old one.
    Stored,
    /// What was held is still held.
    Kept,
    /// The new value was refused.
    Rejected,
    /// What was held is gone.
    Dropped,
}

/// Why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum AdvanceReason {
    /// A value where there was none, or a newer one.
    Newer,
    /// The same bytes again: fresh once more.
    SameAgain,
    /// The origin confirmed what is held.
    Confirmed,
    /// The confirmation was for other bytes than those held.
    ConfirmedOther,
    /// Confirmed past its signed expiry: frozen.
    Frozen,
    /// Expired on arrival, and nothing newer is held: accepted, to be served as stale.
    ArrivedExpired,
    /// Expired on arrival, and something as new is held.
    RefusedExpired,
    /// Older than what was accepted before.
    Rollback,
    /// Same version, other content: `generatedAt` must grow with every change.
    Equivocation,
    /// Its version lies in the future by more than the clocks may differ.
    FromTheFuture,
    /// A fetch began.
    Began,
    /// A fetch failed: what is held stays.
    Failed,
    /// The origin says it is gone.
    Gone,
    /// A fetch was given up.
    Cancelled,
    /// A change was announced: stale from now on.
    Changed,
    /// A reader found it wrong: stale from now on.
    Invalidated,
    /// Read back from disk.
    Restored,
    /// Revoked.
    Revoked,
    /// The credential changed and the value was private.
    CredentialsChanged,
}

/// What becomes of a cached value.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AdvanceDecision {
    /// The state from now on.
    pub state: CacheState,
    /// What was done.
    pub outcome: AdvanceOutcome,
    /// Why.
    pub reason: AdvanceReason,
}
