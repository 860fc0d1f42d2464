//! Bounds of this room.

/// How many views a snapshot remembers the lists of. Views come from configured tokens: there are few. Whoever has more of
/// them pays for joining lists again now and then, not with memory.
pub const VIEWS_MAX: usize = 64;

/// How many connectors are asked, one after another, for a resource that nobody lists: each may take its time.
pub const RESOURCE_ROUTES_MAX: usize = 16;

/// Longest URI that is compared with templates, in bytes; a longer one is found by its list entry or its qualified form.
pub const TEMPLATE_URI_BYTES_MAX: usize = 8 << 10;

/// How many names of tools that were cut off are told.
pub const CUT_NAMES_TOLD: usize = 10;

/// Connectors that have left and whose last change a snapshot remembers, so that views that were read before need not be made
/// from the beginning: some hundred bytes each.
pub const CHANGES_OF_ABSENT_MAX: usize = 1_024;

/// Changes of the catalog after which a view that was not read is forgotten: to catch up with more costs about as much as to
/// make it again.
pub const VIEW_LAG_MAX: u64 = 1_024;
