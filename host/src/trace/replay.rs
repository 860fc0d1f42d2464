//! Replay: every recorded decision made again, by the component that made it or by another one.
//!
//! Each decision stands for itself (state in, state out), so that one difference does not follow from another: every
//! record is judged on the recorded state, times and seed.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;

use super::components::Components;
use super::difference::{Comparison, Difference, FieldDifference, judge, judge_fault};
use super::error::TraceError;
use super::format::{Line, PolicyNote};
use super::reader::{Entry, Place};
use crate::model::{Digest, Moment};
use crate::policy::{DecidedBy, DecisionRecord, Function, PolicyComponent, WASMTIME_VERSION};

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    components: Components,
    candidate: Option<Arc<PolicyComponent>>,
    /// Every component that the trace has named so far.
    known: HashMap<Digest, PolicyNote>,
    same_engine: bool,
    report: ReplayReport,
    different: BTreeMap<(Function, String), u64>,
    missing: BTreeMap<Digest, u64>,
}

/// What a replay found.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ReplayReport {
    /// Decisions read.
    pub records: u64,
    /// Decided alike.
    pub equal: u64,
    /// Decided otherwise.
    pub different: u64,
    /// Of those, the ones in which the component faulted.
    pub faults: u64,
    /// Not made again, because their component is not at hand.
    pub skipped: u64,
    /// Decisions that the trace says it lacks.
    pub dropped: u64,
    /// The first that was decided otherwise.
    pub first_difference: Option<FirstDifference>,
    /// How many were decided otherwise, by function and subject; the most first.
    pub summary: Vec<SummaryRow>,
    /// The components that are not at hand, and how many decisions each made.
    pub missing: Vec<MissingComponent>,
}

/// How many decisions of a function on a subject differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SummaryRow {
    /// The function.
    pub function: Function,
    /// The subject.
    pub subject: String,
    /// How many differ.
    pub different: u64,
}

/// A component that is not at hand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingComponent {
    /// Its digest.
    pub digest: Digest,
    /// How many decisions could not be made again.
    pub decisions: u64,
}

/// The first difference, with everything that is needed to look at it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FirstDifference {
    /// The file.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The decision's number in its gateway.
    pub sequence: u64,
    /// What was decided about.
    pub subject: String,
    /// Its number among the subject's decisions.
    pub subject_sequence: u64,
    /// The function.
    pub function: Function,
    /// Both clocks.
    pub moment: Moment,
    /// Who had decided.
    pub decided_by: DecidedBy,
    /// Who decides otherwise.
    pub replayed_by: Digest,
    /// What differs.
    pub fields: Vec<FieldDifference>,
}

/// How one decision came out.
enum Judged {
    Equal,
    Different(Digest, Difference),
    Missing(Digest),
}

impl Replay {
    /// Every decision by the component that made it.
    pub fn same() -> Self {
        Self::new(None)
    }

    /// Every decision by `candidate`, whoever made it.
    pub fn through(candidate: Arc<PolicyComponent>) -> Self {
        Self::new(Some(candidate))
    }

    fn new(candidate: Option<Arc<PolicyComponent>>) -> Self {
        let mut components = Components::new();
        if let Some(candidate) = &candidate {
            components.add(candidate.clone());
        }
        Self {
            components,
            candidate,
            known: HashMap::new(),
            same_engine: false,
            report: ReplayReport::default(),
            different: BTreeMap::new(),
            missing: BTreeMap::new(),
        }
    }

    /// Takes a line: makes its decision again, or notes what it tells.
    ///
    /// # Errors
    /// [`TraceError`] if a component beside the trace can not be used.
    pub fn take(&mut self, entry: &Entry) -> Result<(), TraceError> {
        match &entry.line {
            Line::Header(header) => {
                self.same_engine = header.wasmtime == WASMTIME_VERSION;
                for note in &header.policies {
                    self.meet(note, &entry.place)?;
                }
            }
            Line::Swap(swap) => self.meet(&swap.after, &entry.place)?,
            Line::Dropped(note) => self.report.dropped += note.count,
            Line::Decision(record) => {
                let judged = self.judge(record);
                self.count(record, &entry.place, judged);
            }
            Line::Shadow(_) | Line::Connectors(_) | Line::Tools(_) => {}
        }
        Ok(())
    }

    /// What was found so far.
    pub fn report(&self) -> ReplayReport {
        let mut report = self.report.clone();
        let rows = self.different.iter().map(|((function, subject), different)| SummaryRow {
            function: *function,
            subject: subject.clone(),
            different: *different,
        });
        report.summary = rows.collect();
        report.summary.sort_by_key(|row| std::cmp::Reverse(row.different));
        let missing = self.missing.iter();
        report.missing =
            missing.map(|(digest, decisions)| MissingComponent { digest: *digest, decisions: *decisions }).collect();
        report
    }

    fn meet(&mut self, note: &PolicyNote, place: &Place) -> Result<(), TraceError> {
        if self.candidate.is_none() {
            self.components.find(note, place.file.parent().unwrap_or(Path::new(".")))?;
        }
        self.known.insert(note.digest, note.clone());
        Ok(())
    }

    fn judge(&self, record: &DecisionRecord) -> Judged {
        let decider = record.decided_by.digest();
        if let Some(candidate) = &self.candidate {
            let difference =
                judge_candidate(candidate, record, |digest| self.known.get(&digest).map(|note| note.family.as_str()));
            return match difference {
                Ok(()) => Judged::Equal,
                Err(difference) => Judged::Different(candidate.digest(), difference),
            };
        }
        if let Some(attempt) = &record.faulted {
            let Some(faulted) = self.components.get(attempt.digest) else { return Judged::Missing(attempt.digest) };
            if let Err(difference) = judge_fault(faulted, record) {
                return Judged::Different(attempt.digest, difference);
            }
        }
        let Some(component) = self.components.get(decider) else { return Judged::Missing(decider) };
        match judge(component, record, Comparison::Same { same_engine: self.same_engine }) {
            Ok(()) => Judged::Equal,
            Err(difference) => Judged::Different(decider, difference),
        }
    }

    fn count(&mut self, record: &DecisionRecord, place: &Place, judged: Judged) {
        self.report.records += 1;
        match judged {
            Judged::Equal => self.report.equal += 1,
            Judged::Missing(digest) => {
                self.report.skipped += 1;
                *self.missing.entry(digest).or_default() += 1;
            }
            Judged::Different(replayed_by, difference) => {
                self.report.different += 1;
                self.report.faults += u64::from(difference.is_fault());
                let function = record.input.function();
                *self.different.entry((function, record.subject.clone())).or_default() += 1;
                self.report.first_difference.get_or_insert_with(|| FirstDifference {
                    file: place.file.display().to_string(),
                    line: place.line,
                    sequence: record.sequence,
                    subject: record.subject.clone(),
                    subject_sequence: record.subject_sequence,
                    function,
                    moment: record.moment,
                    decided_by: record.decided_by,
                    replayed_by,
                    fields: difference.fields,
                });
            }
        }
    }
}

/// Lets `candidate` decide what was recorded. It is given the memo of its own family, if the record holds one: `family`
/// names a component's.
pub(super) fn judge_candidate<'a>(
    candidate: &PolicyComponent,
    record: &DecisionRecord,
    family: impl Fn(Digest) -> Option<&'a str>,
) -> Result<(), Difference> {
    let decider = record.decided_by.digest();
    let same = |digest: Digest| digest == candidate.digest() || family(digest) == Some(candidate.family());
    if let Some(attempt) = &record.faulted
        && attempt.digest == candidate.digest()
    {
        return judge_fault(candidate, record);
    }
    let comparison = if same(decider) { Comparison::SameFamily } else { Comparison::OtherFamily };
    judge(candidate, record, comparison)
}
