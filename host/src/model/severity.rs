//! How severe a log message of a server is. What a client wants of it is not decided here.

/// A severity of RFC 5424, section 6.2.1, under the names that MCP gives them (2025-11-25, `server/utilities/logging`). The
/// more severe, the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Severity(usize);

/// The names, the least severe first.
const NAMES: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

impl Severity {
    /// What most people want to be told without asking.
    pub const WARNING: Self = Self(3);

    /// The severity of this name; none if there is no such severity.
    pub fn named(name: &str) -> Option<Self> {
        NAMES.iter().position(|known| *known == name).map(Self)
    }

    /// Its name.
    pub fn as_str(self) -> &'static str {
        NAMES.get(self.0).copied().unwrap_or("emergency")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_published_ones_and_in_order() {
        assert_eq!(NAMES.map(|name| Severity::named(name).unwrap().as_str()), NAMES);
        assert_eq!(Severity::named("Debug"), None);
        assert_eq!(Severity::WARNING.as_str(), "warning");
        assert!(Severity::named("debug") < Severity::named("error"));
    }
}
