//! A decision as a sentence: what happened, what was decided, and why.
//!
//! Every match over the contract's enumerations is spelled out, so that a case that is added there must be given its words
//! here. What policies, servers and files named is repeated only through [`plain`]; `options` and credentials never are.

mod caching;
mod refresh;
mod registry;
mod scheduling;

use crate::model::text::escape;
use crate::policy::contract::{FailureClass, SubjectKind};
use crate::policy::{Correction, DecidedBy, DecisionRecord, Input, Output};

pub(super) use caching::{lookup_reason, rejection};
pub(super) use refresh::reason as refresh_reason;
pub(super) use registry::change_of as registry_change;

use super::limits;

/// Whose view of a decision is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum View<'a> {
    /// That of the subject itself.
    Whole,
    /// That of one connector among others.
    Connector(&'a str),
    /// That of one entry of the registry.
    Entry(&'a str),
}

/// A decision, told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// What happened, as the contract names it.
    pub(super) event: Option<&'static str>,
    /// What was decided.
    pub(super) outcome: Option<String>,
    /// Why, as the contract names it.
    pub(super) reason: Option<String>,
    /// All of it.
    pub(super) sentence: String,
    /// Set if it is no news: how it is counted with others like it.
    pub(super) quiet: Option<Quiet>,
}

/// Decisions that are no news.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Quiet {
    /// A call passed a closed breaker.
    Passed,
    /// A call that had passed was answered.
    Answered,
    /// A call that had passed was given up.
    GivenUp,
    /// The same as before, in these words.
    Same(String),
    /// A step on the way to what another decision tells.
    Step,
}

/// How a kind of subject calls its things.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nouns {
    /// What is kept.
    pub(super) value: &'static str,
    /// Where it comes from.
    pub(super) origin: &'static str,
}

impl Nouns {
    pub(super) fn of(kind: SubjectKind) -> Self {
        match kind {
            SubjectKind::ServiceMap => Self { value: "map", origin: "origin" },
            SubjectKind::Connector => Self { value: "list", origin: "server" },
        }
    }
}

/// Tells a decision; none if it does not concern whose view it is.
pub(super) fn tell(record: &DecisionRecord, view: View<'_>) -> Option<Told> {
    let output = record.output.as_ref();
    let mut told = match &record.input {
        Input::Refresh { config, event, .. } => {
            let decision = if let Some(Output::Refresh(decision)) = output { Some(decision) } else { None };
            refresh::tell(config, event, decision, record.moment)
        }
        Input::Breaker { event, config, state } => {
            let decision = if let Some(Output::Breaker(decision)) = output { Some(decision) } else { None };
            scheduling::breaker(config, (&state.phase, event), decision, record.moment)
        }
        Input::Plan { candidates, .. } => {
            let decision = if let Some(Output::Plan(decision)) = output { Some(decision) } else { None };
            scheduling::plan(candidates, decision, view)?
        }
        Input::Concurrency { event, .. } => {
            let decision = if let Some(Output::Concurrency(decision)) = output { Some(decision) } else { None };
            scheduling::concurrency(event, decision)
        }
        Input::Lookup { config, .. } => {
            let decision = if let Some(Output::Lookup(decision)) = output { Some(decision) } else { None };
            caching::lookup(config, decision, record.moment)
        }
        Input::Advance { config, state, event } => {
            let decision = if let Some(Output::Advance(decision)) = output { Some(decision) } else { None };
            caching::advance(config, state, event, decision)
        }
        Input::Stamp { .. } => {
            let decision = if let Some(Output::Stamp(decision)) = output { Some(decision) } else { None };
            registry::stamp(decision)
        }
        Input::Adopt { base, found, .. } => {
            let decision = if let Some(Output::Adopt(decision)) = output { Some(decision) } else { None };
            registry::adopt(base, found, decision, view)?
        }
        Input::Merge { ours, theirs } => {
            let decision = if let Some(Output::Merge(decision)) = output { Some(decision) } else { None };
            registry::merge(ours, theirs, decision, view)?
        }
        Input::FlushAfter { pending } => {
            let decision = if let Some(Output::FlushAfter(wait)) = output { Some(*wait) } else { None };
            registry::flush_after(pending, decision)
        }
    };
    if output.is_none() {
        let fault = record.default_fault.as_ref().map(|fault| format!(" ({})", plain(&fault.to_string())));
        told.sentence.push_str(": no decision, because the embedded default faulted as well");
        told.sentence.push_str(&fault.unwrap_or_default());
        told.sentence.push_str("; what was in force stays");
        told.quiet = None;
    }
    let provenance = provenance(record);
    if !provenance.is_empty() {
        // A suspended policy is told of once and again, but what is no news is none because of it.
        told.quiet = match (told.quiet, record.faulted.is_none() && record.corrections.is_empty()) {
            (Some(Quiet::Same(words)), true) => Some(Quiet::Same(words + &provenance)),
            (Some(Quiet::Step), true) => Some(Quiet::Step),
            (Some(_), true) => Some(Quiet::Same(told.sentence.clone() + &provenance)),
            (_, _) => None,
        };
        told.sentence.push_str(&provenance);
    }
    Some(told)
}

/// Who decided, if not the deployed policy as it stands; empty otherwise.
fn provenance(record: &DecisionRecord) -> String {
    let mut notes: Vec<String> = Vec::new();
    match record.decided_by {
        DecidedBy::Deployed(_) => {}
        DecidedBy::DefaultAfterFault(_) => {
            let fault = record.faulted.as_ref().map(|attempt| plain(&attempt.fault.to_string()));
            let fault = fault.map(|fault| format!(" ({fault})")).unwrap_or_default();
            notes.push(format!("the deployed policy faulted{fault}, so the embedded default decided"));
        }
        DecidedBy::DefaultWhileSuspended(_) => {
            notes
                .push("the deployed policy is suspended after faults in a row, so the embedded default decided".into());
        }
    }
    notes.extend(record.corrections.iter().map(|one| format!("the host corrected it: {}", correction(*one))));
    if notes.is_empty() { String::new() } else { format!(" [{}]", notes.join("; ")) }
}

fn correction(correction: Correction) -> &'static str {
    match correction {
        Correction::PlanOrderDropped => {
            "the order named a connector twice, or one that does not wait; that was dropped"
        }
        Correction::PlanOrderCompleted => "the order left connectors out; they were appended",
        Correction::PlanSlowAfterRaised => "the slow lane began after 0 ms; 1 ms was used",
        Correction::LimitRaised => "the limit was 0; 1 was used",
        Correction::LimitLowered => "the limit was above the configured one; that one was used",
    }
}

/// A failure class as the contract names it.
pub(super) fn class_name(class: FailureClass) -> &'static str {
    crate::model::FailureClass::from(class).as_str()
}

/// What a failure class means.
pub(super) fn class_meaning(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Dns => "the name did not resolve",
        FailureClass::Refused => "no connection, or one that broke",
        FailureClass::Timeout => "a deadline passed",
        FailureClass::Auth => "the credentials were refused",
        FailureClass::NotFound => "there is nothing at the address",
        FailureClass::Gone => "it is gone for good",
        FailureClass::Throttled => "fewer requests were asked for",
        FailureClass::Server => "the other side failed",
        FailureClass::Oversize => "the answer was too large",
        FailureClass::Redirect => "the answer was a redirect that may not be followed",
        FailureClass::Decode => "the answer was not what the protocol demands",
        FailureClass::Signature => "the signature is missing or does not match",
        FailureClass::Schema => "the document breaks a rule of its format",
        FailureClass::Expiry => "the document was past its signed expiry",
        FailureClass::Rollback => "the document is older than an accepted one, or contradicts it",
    }
}

/// A text of others, as it may stand in a sentence on a terminal: no control characters, and not without end.
pub(super) fn plain(text: &str) -> String {
    // No more of it is looked at than is shown.
    let begin: String = text.chars().take(limits::TEXT_LONGEST + 1).collect();
    let escaped = escape(&begin);
    match escaped.char_indices().nth(limits::TEXT_LONGEST) {
        Some((end, _)) => format!("{}…", &escaped[..end]),
        None => escaped.into_owned(),
    }
}

/// The first of several names, and how many more there are.
pub(super) fn listed<'a>(names: impl ExactSizeIterator<Item = &'a str>) -> String {
    let more = names.len().saturating_sub(limits::NAMES_LISTED);
    let shown: Vec<String> = names.take(limits::NAMES_LISTED).map(plain).collect();
    let shown = shown.join(", ");
    if more > 0 { format!("{shown} and {more} more") } else { shown }
}

/// A number and what it counts.
pub(super) fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

/// Joins what is not empty.
fn joined(parts: &[&str], separator: &str) -> String {
    parts.iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_named_can_not_write_to_the_terminal_nor_fill_it() {
        assert_eq!(plain("a\x1b[31mb\nc\u{202e}d"), r"a\u{1b}[31mb\u{a}c\u{202e}d");
        let long = plain(&"x".repeat(1_000));
        assert_eq!((long.chars().count(), long.ends_with('…')), (limits::TEXT_LONGEST + 1, true));
    }

    #[test]
    fn many_names_are_told_by_the_first_ones_and_a_number() {
        assert_eq!(listed(["a", "b"].into_iter()), "a, b");
        assert_eq!(listed(["a", "b", "c", "d", "e"].into_iter()), "a, b, c and 2 more");
    }
}
