//! What can be wrong with a question.

use super::super::error::TraceError;

/// A question that can not be answered. The messages say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WhyError {
    /// The trace can not be read.
    #[error(transparent)]
    Trace(#[from] TraceError),
    /// Nothing in the trace has this name.
    #[error("the trace knows no {subject}{}", suggestion(.close, .connectors))]
    Unknown {
        /// What was asked about.
        subject: String,
        /// Names that are close, the closest first.
        close: Vec<String>,
        /// Connectors that the trace knows, the first of them.
        connectors: Vec<String>,
    },
    /// Several things have this name.
    #[error("{subject} is several things: ask about {}", .readings.join(" or about "))]
    Ambiguous {
        /// What was asked about.
        subject: String,
        /// How each of them is named without doubt.
        readings: Vec<String>,
    },
    /// The subject exists, and nothing was ever decided about it.
    #[error("the trace holds no decision on {subject}: {hint}")]
    Undecided {
        /// What was asked about.
        subject: String,
        /// Why that may be.
        hint: &'static str,
    },
    /// The trace holds no lines at all.
    #[error("the trace is empty: nothing was decided yet")]
    Empty,
}

fn suggestion(close: &[String], connectors: &[String]) -> String {
    match (close, connectors) {
        ([], []) => "; it knows no connector at all".to_owned(),
        ([], connectors) => format!("; it knows the connectors {}", connectors.join(", ")),
        (close, _) => format!("; did you mean {}?", close.join(", ")),
    }
}
