//! How severe a log message is (RFC 5424, section 6.2.1), and which ones a client wants.

use crate::model::raw::RawObject;

/// The levels, the least severe first.
const LEVELS: [&str; 8] = ["debug", "info", "notice", "warning", "error", "critical", "alert", "emergency"];

/// A level.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::gateway) struct LogLevel(usize);

impl LogLevel {
    /// The level of this name; none if there is no such level.
    pub(super) fn named(name: &str) -> Option<Self> {
        LEVELS.iter().position(|level| *level == name).map(Self)
    }

    /// Its name.
    pub(super) fn as_str(self) -> &'static str {
        LEVELS.get(self.0).copied().unwrap_or("emergency")
    }
}

/// Which log messages a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedLogs {
    /// A modern request that names no level wants none.
    None,
    /// These and more severe ones.
    AtLeast(LogLevel),
    /// A legacy client that set no level leaves it to its servers.
    AsSent,
}

impl WantedLogs {
    /// Whether a message with such parameters is wanted. What names no known level is passed on to whoever wants any.
    pub(super) fn wants(self, params: Option<&RawObject>) -> bool {
        match self {
            Self::None => false,
            Self::AsSent => true,
            Self::AtLeast(least) => {
                let level = params.and_then(|params| params.get_str("level"));
                level.as_deref().and_then(LogLevel::named).is_none_or(|level| level >= least)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_wants_itself_and_what_is_more_severe() {
        let message = |level: &str| RawObject::from_str(&format!(r#"{{"level":"{level}","data":1}}"#)).unwrap();
        let warnings = WantedLogs::AtLeast(LogLevel::named("warning").unwrap());
        for (level, wanted) in
            [("debug", false), ("notice", false), ("warning", true), ("emergency", true), ("x", true)]
        {
            assert_eq!(warnings.wants(Some(&message(level))), wanted, "{level}");
        }
        assert!(!WantedLogs::None.wants(Some(&message("emergency"))));
        assert!(WantedLogs::AsSent.wants(Some(&message("debug"))));
        assert_eq!(LogLevel::named("Debug"), None);
        assert_eq!(LEVELS.map(|level| LogLevel::named(level).unwrap().as_str()), LEVELS);
    }
}
