//! Bounds of this room.

/// How many views a snapshot remembers the lists of. Views come from configured tokens: there are few. Whoever has more of
/// them pays for joining lists again now and then, not with memory.
pub const VIEWS_MAX: usize = 64;

/// Connectors that are requested, one after another, for a resource that none lists: each may take its time, and only a
/// denial leads to the next.
pub const RESOURCE_CANDIDATES_MAX: usize = 16;

/// Longest URI that is compared with templates, in bytes; a longer one is found by its list entry or its qualified form.
pub const TEMPLATE_URI_BYTES_MAX: usize = 8 << 10;

/// How many names of tools that were cut off are told.
pub const CUT_NAMES_TOLD: usize = 10;

/// Collisions that a list names to clients in `_meta`: enough for a person, and some 20 KiB at most of ordinary names.
pub const COLLISIONS_NAMED: usize = 100;

/// Saved claims of one connector. One that contests more than any usual server leaves the others' alone.
pub const SAVED_CLAIMS_OF_ONE_MAX: usize = 1_024;

/// Saved claims of all connectors: 16 connectors that contest all they may.
pub const SAVED_CLAIMS_MAX: usize = 16_384;

/// Longest name, URI or template whose claim is saved, in bytes.
pub const SAVED_KEY_BYTES_MAX: usize = 2 << 10;

/// Names, URIs and templates of all saved claims together, in bytes.
pub const SAVED_CLAIMS_BYTES_MAX: usize = 4 << 20;

/// Connectors that have left and whose last change a snapshot remembers, so that views that were read before need not be made
/// from the beginning: some hundred bytes each.
pub const CHANGES_OF_ABSENT_MAX: usize = 1_024;

/// Changes of the catalog after which a view that was not read is forgotten: to catch up with more costs about as much as to
/// make it again.
pub const VIEW_LAG_MAX: u64 = 1_024;
