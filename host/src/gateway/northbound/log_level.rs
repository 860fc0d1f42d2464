//! Which log messages a client wants.

use crate::model::Severity;
use crate::model::raw::RawObject;

/// Which log messages a client wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WantedLogs {
    /// A modern request that names no level wants none.
    None,
    /// These and more severe ones.
    AtLeast(Severity),
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
                level.as_deref().and_then(Severity::named).is_none_or(|level| level >= least)
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
        let warnings = WantedLogs::AtLeast(Severity::named("warning").unwrap());
        for (level, wanted) in
            [("debug", false), ("notice", false), ("warning", true), ("emergency", true), ("x", true)]
        {
            assert_eq!(warnings.wants(Some(&message(level))), wanted, "{level}");
        }
        assert!(!WantedLogs::None.wants(Some(&message("emergency"))));
        assert!(WantedLogs::AsSent.wants(Some(&message("debug"))));
    }
}
