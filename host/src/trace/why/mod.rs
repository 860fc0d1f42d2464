//! Why a subject is in the state it is in: told in sentences, from a trace alone.
//!
//! A question is answered in two readings of the same lines. The [`Survey`] learns what the trace knows (connectors, tools,
//! registry entries, runs of gateways) and what the name that is asked for means; [`Why`] then gathers the facts and the
//! chain of decisions of that subject, within bounds that do not grow with the trace. Neither asks a clock, a network or
//! another file: the answer is the same on any machine. If several runs are in the trace, the state is that of the run
//! which ended last, and the chain is that of all.

mod collect;
mod error;
mod facts;
mod fold;
mod limits;
mod report;
mod sentences;
mod standing;
mod subject;
mod times;
mod upkeep;

use std::path::PathBuf;

pub use collect::Why;
pub use error::WhyError;
pub use limits::{SHOWN_DEFAULT, SHOWN_MAX};
pub use report::{Condition, Decider, Kind, Note, PolicyFacts, Row, State, ToldDecision, WhyReport};
pub use subject::Survey;
pub use times::{Since, SinceError};

use super::TraceReader;

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// `service-map`, `registry`, a connector, a tool, an entry of the registry, or the path of a subject.
    pub subject: String,
    /// From when on decisions are told.
    pub since: Option<Since>,
    /// How many decisions, or rows, are told: the newest. Above [`SHOWN_MAX`] it is taken for that.
    pub limit: usize,
}

impl Question {
    /// Asks about this, for the newest decisions.
    pub fn about(subject: impl Into<String>) -> Self {
        Self { subject: subject.into(), since: None, limit: SHOWN_DEFAULT }
    }

    /// Answers it from these files and folders. They are read twice.
    ///
    /// # Errors
    /// [`WhyError`] if the trace can not be read, or knows no such subject.
    pub fn answer(&self, traces: &[PathBuf]) -> Result<WhyReport, WhyError> {
        let mut survey = Survey::new(&self.subject);
        let mut reader = TraceReader::open(traces)?;
        while let Some(entry) = reader.next_entry()? {
            survey.take(&entry);
        }
        let mut why = Why::new(&survey, self)?;
        drop(survey);
        let mut reader = TraceReader::open(traces)?;
        while let Some(entry) = reader.next_entry()? {
            why.take(&entry);
        }
        Ok(WhyReport { torn: reader.torn(), ..why.report() })
    }
}
