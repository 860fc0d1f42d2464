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

/// Subjects of decisions that are kept to tell what a name means. What is asked for is kept beyond that.
pub(super) const SUBJECTS_KEPT: usize = 50_000;

/// Connectors that are kept. What is asked for is kept beyond that.
pub(super) const CONNECTORS_KEPT: usize = 10_000;

/// Names of tools kept to suggest, of all connectors together.
pub(super) const TOOL_NAMES_KEPT: usize = 200_000;

/// The longest name that is kept though it is not asked for, in bytes.
pub(super) const NAME_BYTES_KEPT: usize = 512;

/// Runs of gateways whose last moment is kept: the latest.
pub(super) const RUNS_KEPT: usize = 1_000;

/// Components whose family is known.
pub(super) const FAMILIES_KEPT: usize = 4_096;

/// Subjects whose last verdict is known: one that repeats it is no news.
pub(super) const VERDICTS_KEPT: usize = 10_000;

/// The longest name or text of others that is repeated in a sentence, in characters.
pub(super) const TEXT_LONGEST: usize = 128;

/// How many names a sentence lists.
pub(super) const NAMES_LISTED: usize = 3;

/// How many fields of a shadow's difference a sentence tells.
pub(super) const FIELDS_TOLD: usize = 3;
