//! Values of `registry`: stamps, entries and joins.
//!
//! Plain data, and a mirror of `wit/types.wit`: the same names, the same order, the same documentation. Nothing here
//! decides anything, and no `serde` attribute may rename a field: the tests compare these values with those that the
//! host binds from the WIT, name by name.

/// A hybrid logical clock's stamp: ordered by `wall_ms`, then `counter`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Hlc {
    /// Milliseconds since the epoch, never less than any stamp seen.
    pub wall_ms: u64,
    /// Tells stamps of the same millisecond apart.
    pub counter: u32,
}

/// The state of the hybrid logical clock.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct ClockState {
    /// The greatest stamp given or seen.
    pub last: Hlc,
    /// The policy's own.
    pub memo: Vec<u8>,
}

/// A fresh stamp.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct StampDecision {
    /// The state from now on.
    pub state: ClockState,
    /// The stamp: above every stamp given or seen.
    pub stamp: Hlc,
}

/// What is known about a named thing. Its content stays in the host.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// When it was last changed.
    pub stamp: Hlc,
    /// Who changed it.
    pub writer: String,
    /// Whether the change was its removal.
    pub deleted: bool,
    /// The digest of its content; empty if removed.
    pub digest: String,
}

/// A named thing as it stands in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct FoundEntry {
    /// Its name.
    pub name: String,
    /// The digest of its content.
    pub digest: String,
    /// The stamp that the document gives it, if it gives one.
    pub stamp: Option<Hlc>,
    /// The writer that the document names.
    pub writer: Option<String>,
}

/// What a foreign edit comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct AdoptDecision {
    /// The state from now on: above every stamp seen.
    pub state: ClockState,
    /// Every entry of base and document; what the editor changed, added or removed bears a fresh stamp.
    pub entries: Vec<Entry>,
    /// Names whose stamps lie in the future by more than clocks may differ (5 minutes). They count all the same.
    pub from_the_future: Vec<String>,
}

/// The join of two sets of entries.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct MergeDecision {
    /// For each name the greater entry by (stamp, writer, deleted, digest), ordered by name.
    pub entries: Vec<Entry>,
    /// The entries that lost against another content, ordered by name.
    pub superseded: Vec<Entry>,
}

/// Changes that wait to be written to disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Pending {
    /// How many there are.
    pub changes: u32,
    /// Their bytes.
    pub bytes: u64,
    /// The age of the oldest.
    pub oldest_ms: u64,
    /// The batch time that the operator set. The default is 5,000.
    pub batch_ms: u64,
    /// Whether the store is closing.
    pub closing: bool,
    /// Whether the operator wants every change written at once.
    pub write_through: bool,
}
