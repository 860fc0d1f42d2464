//! Every bound of an answer.

/// How many decisions, or rows, are told by default.
pub const SHOWN_DEFAULT: usize = 20;

/// How many are told at most, also of `all`.
pub const SHOWN_MAX: usize = 100_000;

/// How many lines are kept for each row that is told: so many may be folded into one.
pub(super) const KEPT_PER_ROW: usize = 50;

/// How many close names an error suggests.
pub(super) const SUGGESTIONS: usize = 5;

/// How many connectors an error names if nothing is close.
pub(super) const CONNECTORS_NAMED: usize = 10;

/// Names of registry entries kept to suggest.
pub(super) const ENTRY_NAMES: usize = 20_000;

/// The longest name or text of others that is repeated in a sentence, in characters.
pub(super) const TEXT_LONGEST: usize = 128;

/// How many names a sentence lists.
pub(super) const NAMES_LISTED: usize = 3;

/// How many fields of a shadow's difference a sentence tells.
pub(super) const FIELDS_TOLD: usize = 3;
