//! How large a file to import may be, and what may become of it.

/// The greatest size of a file to import, in bytes.
pub const MAX_IMPORT_BYTES: usize = 16 << 20;

/// How many servers a file to import may name.
pub const MAX_IMPORT_SERVERS: usize = 10_000;

/// How deep lists and objects of a file to import may nest; the document itself is the first level.
pub const MAX_DEPTH: usize = 64;

/// How many bytes the values of all variables in one import may come to.
pub(super) const MAX_EXPANSION_BYTES: usize = 16 << 20;

/// The length of a registry's name, in bytes.
pub(super) const MAX_NAME_LENGTH: usize = 128;

/// How much of a name from a file is shown, in characters.
pub(super) const MAX_SHOWN_LENGTH: usize = 128;

/// How many notes one server may have.
pub(super) const MAX_NOTES: usize = 64;
