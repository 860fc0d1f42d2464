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
use super::limits;
use super::reader::{Entry, Place};
use crate::model::{Digest, Moment};
use crate::policy::{DecidedBy, DecisionRecord, Function, PolicyComponent, WASMTIME_VERSION};

/// A replay under way.
#[derive(Debug)]
pub struct Replay {
    components: Components,
    candidate: Option<Arc<PolicyComponent>>,
    /// How each component that the trace has named so far was deployed last.
    known: HashMap<Digest, PolicyNote>,
    /// The default: the same bytes may be deployed, as of another family.
    default: Option<PolicyNote>,
    same_engine: bool,
    report: ReplayReport,
    different: BTreeMap<Function, HashMap<String, u64>>,
    /// How many subjects are in there.
    different_subjects: usize,
    missing: BTreeMap<Digest, MissingComponent>,
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
    /// Not made again, because their component is not at hand or can not be used.
    pub skipped: u64,
    /// Decisions that the trace says it lacks.
    pub dropped: u64,
    /// The first that was decided otherwise.
    pub first_difference: Option<FirstDifference>,
    /// How many were decided otherwise, by function and subject; the most first. At most
    /// [`limits::SUMMARY_ROWS_MAX`] rows.
    pub summary: Vec<SummaryRow>,
    /// How many were decided otherwise and are in no row.
    pub summary_others: u64,
    /// The components that are not at hand or can not be used, and how many decisions each made. At most
    /// [`limits::MISSING_TOLD_MAX`].
    pub missing: Vec<MissingComponent>,
    /// How many were not made again, by components that are not among these.
    pub missing_others: u64,
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

/// A component that is not at hand, or can not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MissingComponent {
    /// Its digest.
    pub digest: Digest,
    /// How many decisions could not be made again.
    pub decisions: u64,
    /// Why: `not at hand`, or what is wrong with it.
    pub reason: String,
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
            default: None,
            same_engine: false,
            report: ReplayReport::default(),
            different: BTreeMap::new(),
            different_subjects: 0,
            missing: BTreeMap::new(),
        }
    }

    /// Takes a line: makes its decision again, or notes what it tells. A component that can not be used costs its own
    /// decisions only: see [`ReplayReport::missing`].
    ///
    /// # Errors
    /// None at present.
    pub fn take(&mut self, entry: &Entry) -> Result<(), TraceError> {
        match &entry.line {
            Line::Header(header) => {
                self.same_engine = header.wasmtime == WASMTIME_VERSION;
                self.default = header.policies.iter().find(|note| note.digest == header.default).cloned();
                for note in &header.policies {
                    self.meet(note, &entry.place);
                }
            }
            Line::Swap(swap) => self.meet(&swap.after, &entry.place),
            Line::Dropped(note) => self.report.dropped += note.count,
            Line::Decision(record) => {
                let judged = self.judge(record);
                self.count(record, &entry.place, judged);
            }
            Line::Shadow(_) | Line::Connectors(_) | Line::Tools(_) | Line::Credential(_) => {}
        }
        Ok(())
    }

    /// What was found so far.
    pub fn report(&self) -> ReplayReport {
        let mut report = self.report.clone();
        let rows = self.different.iter().flat_map(|(function, subjects)| {
            subjects.iter().map(|(subject, different)| SummaryRow {
                function: *function,
                subject: subject.clone(),
                different: *different,
            })
        });
        report.summary = rows.collect();
        report.summary.sort_by(|one, other| {
            let key = |row: &SummaryRow| (std::cmp::Reverse(row.different), row.function);
            key(one).cmp(&key(other)).then_with(|| one.subject.cmp(&other.subject))
        });
        report.summary.truncate(limits::SUMMARY_ROWS_MAX);
        report.summary_others = report.different - report.summary.iter().map(|row| row.different).sum::<u64>();
        report.missing = self.missing.values().cloned().collect();
        report.missing_others = report.skipped - report.missing.iter().map(|missing| missing.decisions).sum::<u64>();
        report
    }

    fn meet(&mut self, note: &PolicyNote, place: &Place) {
        if self.candidate.is_none()
            && let Err(error) = self.components.find(note, place.file.parent().unwrap_or(Path::new(".")))
        {
            tracing::warn!(%error, digest = %note.digest, "a component beside the trace can not be used");
        }
        if self.known.len() < limits::COMPONENTS_KNOWN_MAX || self.known.contains_key(&note.digest) {
            self.known.insert(note.digest, note.clone());
        }
    }

    /// How whoever decided was deployed.
    fn decider(&self, decided_by: DecidedBy) -> Option<&PolicyNote> {
        let digest = decided_by.digest();
        let default = self.default.as_ref().filter(|default| default.digest == digest);
        match decided_by {
            DecidedBy::Deployed(_) => self.known.get(&digest),
            DecidedBy::DefaultAfterFault(_) | DecidedBy::DefaultWhileSuspended(_) => {
                default.or_else(|| self.known.get(&digest))
            }
        }
    }

    fn judge(&self, record: &DecisionRecord) -> Judged {
        let digest = record.decided_by.digest();
        let decider = self.decider(record.decided_by);
        if let Some(candidate) = &self.candidate {
            let is_relative = decider.is_some_and(|note| note.family == candidate.family());
            return match judge_candidate(candidate, record, is_relative) {
                Ok(()) => Judged::Equal,
                Err(difference) => Judged::Different(candidate.digest(), difference),
            };
        }
        if let Some(attempt) = &record.faulted {
            let faulted = self.known.get(&attempt.digest).and_then(|note| self.components.get(note));
            let Some(faulted) = faulted else { return Judged::Missing(attempt.digest) };
            if let Err(difference) = judge_fault(faulted, record) {
                return Judged::Different(attempt.digest, difference);
            }
        }
        let Some(component) = decider.and_then(|note| self.components.get(note)) else {
            return Judged::Missing(digest);
        };
        match judge(component, record, Comparison::Same { same_engine: self.same_engine }) {
            Ok(()) => Judged::Equal,
            Err(difference) => Judged::Different(digest, difference),
        }
    }

    fn count_missing(&mut self, digest: Digest) {
        if let Some(missing) = self.missing.get_mut(&digest) {
            missing.decisions += 1;
        } else if self.missing.len() < limits::MISSING_TOLD_MAX {
            let reason = self.known.get(&digest).and_then(|note| self.components.reason(note));
            let reason = reason.unwrap_or("not at hand").to_owned();
            self.missing.insert(digest, MissingComponent { digest, decisions: 1, reason });
        }
    }

    fn count_different(&mut self, function: Function, subject: &str) {
        let subjects = self.different.entry(function).or_default();
        if let Some(different) = subjects.get_mut(subject) {
            *different += 1;
        } else if self.different_subjects < limits::DIFFERENT_SUBJECTS_MAX && subject.len() <= limits::SUBJECT_BYTES_MAX
        {
            self.different_subjects += 1;
            subjects.insert(subject.to_owned(), 1);
        }
    }

    fn count(&mut self, record: &DecisionRecord, place: &Place, judged: Judged) {
        self.report.records += 1;
        match judged {
            Judged::Equal => self.report.equal += 1,
            Judged::Missing(digest) => {
                self.report.skipped += 1;
                self.count_missing(digest);
            }
            Judged::Different(replayed_by, difference) => {
                self.report.different += 1;
                self.report.faults += u64::from(difference.is_fault());
                let function = record.input.function();
                self.count_different(function, &record.subject);
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

/// Lets `candidate` decide what was recorded. It is given the memo of its own family, if the record holds one: whoever
/// decided is then the candidate itself, or a relative.
pub(super) fn judge_candidate(
    candidate: &PolicyComponent,
    record: &DecisionRecord,
    is_relative: bool,
) -> Result<(), Difference> {
    if let Some(attempt) = &record.faulted
        && attempt.digest == candidate.digest()
    {
        return judge_fault(candidate, record);
    }
    let is_same = is_relative || record.decided_by.digest() == candidate.digest();
    judge(candidate, record, if is_same { Comparison::SameFamily } else { Comparison::OtherFamily })
}
