//! The styles of text on a terminal: every control sequence that this program writes on its standard output, and in its log.

use std::io::IsTerminal;

/// How a piece of text is styled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// What is as it should be.
    Success,
    /// What needs attention.
    Warning,
    /// What failed.
    Error,
    /// The heading of a column.
    Heading,
    /// What is rarely of interest.
    Faint,
}

/// Ends every style.
pub const RESET: &str = "\x1b[0m";

impl Style {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Success, Self::Warning, Self::Error, Self::Heading, Self::Faint];

    /// The sequence that begins the style (Select Graphic Rendition of ECMA-48).
    pub const fn sequence(self) -> &'static str {
        match self {
            Self::Success => "\x1b[32m",
            Self::Warning => "\x1b[33m",
            Self::Error => "\x1b[31m",
            Self::Heading => "\x1b[1m",
            Self::Faint => "\x1b[2m",
        }
    }
}

/// Whether styles are written to a stream: on a terminal, unless `NO_COLOR` is set and not empty (<https://no-color.org>).
pub fn is_styled(stream: &impl IsTerminal) -> bool {
    stream.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
