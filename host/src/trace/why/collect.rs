//! The second reading: the facts and the chain of one subject, within bounds.

use std::collections::{HashMap, VecDeque};

use super::Question;
use super::error::WhyError;
use super::facts::{BreakerFacts, EntryFacts, RegistryFacts, RunFacts, Standing, ToolsFacts};
use super::fold::{Kept, fold};
use super::limits;
use super::report::{Decider, Note, PolicyFacts, Row, ToldDecision, WhyReport};
use super::sentences::{self, Quiet, Told, View, count, plain};
use super::standing::{self, Stand};
use super::subject::{Resolved, Survey, Target};
use super::times::Clock;
use crate::model::{Digest, Moment, WallMs};
use crate::policy::{DecidedBy, DecisionRecord, Function};
use crate::trace::format::connector_of;
use crate::trace::{ConnectorsNote, CredentialNote, Entry, Line, PolicyNote, ShadowNote, ToolsNote};

/// An answer under way.
#[derive(Debug)]
pub struct Why {
    subject: String,
    resolved: Resolved,
    clock: Clock,
    since: Option<WallMs>,
    limit: usize,
    /// The run whose state is told: the one that ended last.
    latest: String,
    families: HashMap<Digest, String>,
    facts: RunFacts,
    run: Option<String>,
    runs: usize,
    now: Moment,
    kept: VecDeque<Kept>,
    /// Whether something fell out of what is kept.
    overflowed: bool,
    total: u64,
    missing: u64,
    /// The last verdict on each subject: one that only repeats it is no news.
    verdicts: HashMap<String, Quiet>,
    tool_seen: ToolSeen,
    /// How often the first reading met names that it did not keep.
    names_others: u64,
}

/// When a tool was last served.
#[derive(Debug, Default)]
pub(super) struct ToolSeen {
    /// The last line that had it.
    pub(super) last: Option<Moment>,
    /// The first line after that without it.
    pub(super) lost: Option<Moment>,
    /// The first of the lines in a row that have it.
    pub(super) since: Option<Moment>,
}

impl Why {
    /// Begins an answer, with what the first reading learnt.
    ///
    /// # Errors
    /// [`WhyError`] if the trace knows no such subject, or several.
    pub fn new(survey: &Survey, question: &Question) -> Result<Self, WhyError> {
        let (latest, as_of) = survey.latest_run().ok_or(WhyError::Empty)?;
        Ok(Self {
            subject: question.subject.trim().to_owned(),
            resolved: survey.resolve()?,
            clock: Clock { as_of },
            since: question.since.map(|since| since.wall(as_of)),
            limit: question.limit.clamp(1, limits::SHOWN_MAX),
            latest: latest.to_owned(),
            families: HashMap::new(),
            facts: RunFacts::default(),
            run: None,
            runs: 0,
            now: Moment::default(),
            kept: VecDeque::new(),
            overflowed: false,
            total: 0,
            missing: 0,
            verdicts: HashMap::new(),
            tool_seen: ToolSeen::default(),
            names_others: survey.others(),
        })
    }

    /// Takes a line: all those that the survey took, in the same order.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.line {
            Line::Header(header) => {
                for policy in &header.policies {
                    self.meet(policy);
                }
                if self.run.as_ref() != Some(&header.run) {
                    self.run = Some(header.run.clone());
                    self.runs += 1;
                    self.verdicts.clear();
                    self.now = header.started;
                    let family = self.families.get(&header.deployed).cloned().unwrap_or_default();
                    if self.is_latest() {
                        self.facts = RunFacts {
                            started: header.started,
                            deployed: Some((header.deployed, family.clone())),
                            ..RunFacts::default()
                        };
                    }
                    let begun =
                        if header.segment == 0 { "started" } else { "goes on, and what it recorded before is gone" };
                    let policy = policy_name(header.deployed, &family);
                    let gateway = plain(&header.gateway);
                    self.note("gateway", format!("a gateway (cortex-mcp {gateway}) {begun}; {policy} decides"));
                }
            }
            Line::Decision(record) => self.take_decision(record),
            Line::Swap(swap) => {
                self.now = swap.moment;
                self.meet(&swap.after);
                if self.is_latest() {
                    self.facts.deployed = Some((swap.after.digest, swap.after.family.clone()));
                    self.facts.suspended = false;
                }
                let family = |digest: Digest| self.families.get(&digest).map(String::as_str).unwrap_or_default();
                let before = policy_name(swap.before, family(swap.before));
                let after = policy_name(swap.after.digest, &swap.after.family);
                self.note("policy", format!("policy swapped: {before} -> {after}"));
            }
            Line::Shadow(note) => self.take_shadow(note),
            Line::Dropped(note) => {
                self.missing += note.count;
                let missing = usize::try_from(note.count).unwrap_or(usize::MAX);
                self.note("trace", format!("{} missing here", count(missing, "decision is", "decisions are")));
            }
            Line::Connectors(note) => self.take_connectors(note),
            Line::Tools(note) => self.take_tools(note),
            Line::Credential(note) => self.take_credential(note),
        }
    }

    /// The answer.
    pub fn report(&self) -> WhyReport {
        let Stand { kind, headline, condition, state, summary } = standing::tell(self);
        let told: Vec<&Kept> = self.kept.iter().collect();
        let decisions = told.iter().filter_map(|kept| kept.decision.as_deref()).rev().take(self.limit);
        let mut decisions: Vec<ToldDecision> = decisions.cloned().collect();
        decisions.reverse();
        let notes = told.iter().filter(|kept| kept.decision.is_none()).rev().take(self.limit);
        let mut notes: Vec<Note> = notes
            .map(|kept| Note { at: kept.at.to_string(), about: kept.about, sentence: kept.sentence.clone() })
            .collect();
        notes.reverse();
        let mut chain = fold(told);
        let cut = chain.len().saturating_sub(self.limit);
        let chain: Vec<Row> = chain.drain(cut..).collect();
        WhyReport {
            subject: plain(&self.subject),
            kind,
            connector: self.connector().map(str::to_owned),
            headline,
            condition,
            state,
            summary,
            as_of: self.clock.as_of.wall.to_string(),
            since: self.since.map(|since| since.to_string()),
            policy: self.facts.deployed.as_ref().map(|(digest, family)| PolicyFacts {
                digest: *digest,
                family: plain(family),
                suspended: self.facts.suspended,
            }),
            shown: decisions.len(),
            decisions,
            notes,
            total: self.total,
            missing: self.missing,
            torn: 0,
            names_others: self.names_others,
            chain,
            is_cut: cut > 0 || self.overflowed,
        }
    }

    pub(super) fn target(&self) -> &Target {
        &self.resolved.target
    }

    pub(super) fn only(&self) -> Option<&str> {
        self.resolved.only.as_deref()
    }

    pub(super) fn facts(&self) -> &RunFacts {
        &self.facts
    }

    pub(super) fn clock(&self) -> Clock {
        self.clock
    }

    pub(super) fn tool_seen(&self) -> &ToolSeen {
        &self.tool_seen
    }

    pub(super) fn missing(&self) -> u64 {
        self.missing
    }

    /// The connector that is asked about, or that the tool belongs to.
    pub(super) fn connector(&self) -> Option<&str> {
        match &self.resolved.target {
            Target::Connector(id) | Target::Tool { connector: id, .. } => Some(id),
            Target::ServiceMap | Target::Registry | Target::RegistryEntry(_) | Target::Other => None,
        }
    }

    fn is_latest(&self) -> bool {
        self.run.as_ref().is_none_or(|run| *run == self.latest)
    }

    fn meet(&mut self, policy: &PolicyNote) {
        if self.families.len() < limits::FAMILIES_KEPT || self.families.contains_key(&policy.digest) {
            self.families.insert(policy.digest, policy.family.clone());
        }
    }

    /// Whose view of a decision is to be told; none if it does not concern the subject.
    fn view(&self, record: &DecisionRecord) -> Option<View<'_>> {
        let subject = record.subject.as_str();
        if let Some(only) = &self.resolved.only {
            return (subject == only).then_some(View::Whole);
        }
        match &self.resolved.target {
            Target::ServiceMap => subject.starts_with("service-map/").then_some(View::Whole),
            Target::Connector(id) | Target::Tool { connector: id, .. } => match record.input.function() {
                Function::Plan | Function::Adopt | Function::Merge => Some(View::Connector(id)),
                _ => (connector_of(subject) == Some(id)).then_some(View::Whole),
            },
            Target::Registry => (subject == "registry").then_some(View::Whole),
            Target::RegistryEntry(name) => (subject == "registry").then_some(View::Entry(name)),
            Target::Other => None,
        }
    }

    fn take_decision(&mut self, record: &DecisionRecord) {
        self.now = record.moment;
        let told = self.view(record).and_then(|view| sentences::tell(record, view));
        if self.is_latest() {
            self.learn(record, told.as_ref());
        }
        let Some(mut told) = told else { return };
        if record.input.function() == Function::Lookup {
            let verdict = told.quiet.take();
            let before = match &verdict {
                Some(verdict) => {
                    if self.verdicts.len() >= limits::VERDICTS_KEPT {
                        // What repeats one of them is told once more.
                        self.verdicts.clear();
                    }
                    self.verdicts.insert(record.subject.clone(), verdict.clone())
                }
                None => self.verdicts.remove(&record.subject),
            };
            told.quiet = (verdict.is_some() && before == verdict).then_some(Quiet::Step);
        }
        if self.is_before_since(record.moment.wall) {
            return;
        }
        self.total += 1;
        let decision = told_decision(record, &told);
        let Told { sentence, quiet, .. } = told;
        let about = record.input.function().name();
        let (at, run, decision) = (record.moment.wall, self.runs, Some(Box::new(decision)));
        self.keep(Kept { at, run, about, sentence, quiet, decision });
    }

    /// Notes what a decision of the latest run leaves.
    fn learn(&mut self, record: &DecisionRecord, told: Option<&Told>) {
        self.facts.note_decider(record, told.is_some());
        let subject = record.subject.as_str();
        let connector = self.connector().map(str::to_owned);
        if subject.starts_with("service-map/") {
            let is_target = matches!(self.resolved.target, Target::ServiceMap);
            let facts = if is_target { &mut self.facts.upkeep } else { &mut self.facts.map };
            facts.take(record);
        } else if let (Some(asked), Some(id)) = (&connector, connector_of(subject))
            && asked == id
        {
            self.facts.upkeep.take(record);
            BreakerFacts::take(&mut self.facts.breaker, record);
            if matches!(&record.input, crate::policy::Input::Refresh { event, .. } if is_start(event)) {
                // The connector was built anew, and its breaker with it.
                self.facts.breaker = None;
                self.facts.refused_credential = None;
            }
        } else if subject == "registry" {
            let name = match &self.resolved.target {
                Target::RegistryEntry(name) => Some(name.clone()),
                _ => connector,
            };
            if let Some(name) = name {
                EntryFacts::take(&mut self.facts.entry, &name, record);
            }
            RegistryFacts::take(&mut self.facts.registry, record);
        }
        if let Some(told) = told {
            self.facts.last = Some((record.moment, told.sentence.clone()));
        }
    }

    fn take_shadow(&mut self, note: &ShadowNote) {
        let run = self.runs;
        let of = |kept: &&mut Kept| {
            let decision = kept.decision.as_ref();
            kept.run == run && decision.is_some_and(|decision| decision.sequence == note.sequence)
        };
        // The shadow follows closely, or skips.
        let near = self.kept.iter_mut().rev().take(SHADOW_DISTANCE).find(of);
        let Some(kept) = near else { return };
        let fields = note.difference.fields.iter().take(limits::FIELDS_TOLD).map(|field| {
            let value = |value: &serde_json::Value| plain(&value.to_string());
            format!("{} {} instead of {}", plain(&field.field), value(&field.replayed), value(&field.recorded))
        });
        let fields = fields.collect::<Vec<_>>().join(", ");
        let shadow = note.shadow.short(DIGEST_SHOWN);
        let otherwise = format!(" [the shadow policy {shadow} would have decided otherwise: {fields}]");
        kept.quiet = None;
        kept.sentence.push_str(&otherwise);
        if let Some(decision) = &mut kept.decision {
            decision.sentence.push_str(&otherwise);
        }
    }

    fn take_connectors(&mut self, note: &ConnectorsNote) {
        let Some(id) = self.connector().map(str::to_owned) else { return };
        let standing = match (note.enabled.contains(&id), note.disabled.contains(&id)) {
            (true, _) => Standing::Enabled,
            (false, true) => Standing::Disabled,
            (false, false) => Standing::Absent,
        };
        let before = self.facts.standing.map(|(standing, _)| standing);
        if !self.is_latest() || before == Some(standing) {
            return;
        }
        self.facts.standing = Some((standing, note.moment));
        self.now = note.moment;
        let sentence = match (standing, before) {
            (Standing::Enabled, None) => return,
            (Standing::Enabled, Some(_)) => "it is described and enabled again",
            (Standing::Disabled, _) => "it is described as disabled: it was disconnected",
            (Standing::Absent, _) => "it is not described any more: it was disconnected",
        };
        self.note("catalog", sentence.to_owned());
    }

    fn take_tools(&mut self, note: &ToolsNote) {
        if self.connector() != Some(note.connector.as_str()) {
            return;
        }
        let tool = if let Target::Tool { name, .. } = &self.resolved.target { Some(name.clone()) } else { None };
        let seen = &mut self.tool_seen;
        let mut change = None;
        if let Some(tool) = &tool {
            if note.names.contains(tool) {
                if seen.since.is_none() {
                    seen.since = Some(note.moment);
                    change = Some("the tool is served from now on");
                }
                (seen.last, seen.lost) = (Some(note.moment), None);
            } else if seen.last.is_some() && seen.lost.is_none() {
                (seen.lost, seen.since) = (Some(note.moment), None);
                change = Some("the tool is not served any more");
            }
        }
        if !self.is_latest() {
            return;
        }
        let before = self.facts.tools.as_ref().map(|tools| tools.names.as_slice());
        let sentence = match (tool.is_some(), change) {
            (true, change) => change.map(str::to_owned),
            (false, _) if before == Some(&note.names) => None,
            (false, _) if note.names.is_empty() => before.map(|_| "none of its tools is served any more".to_owned()),
            (false, _) => Some(format!("{} served from now on", count(note.names.len(), "tool is", "tools are"))),
        };
        self.facts.tools = Some(ToolsFacts { at: note.moment, names: note.names.clone() });
        if let Some(sentence) = sentence {
            self.now = note.moment;
            self.note("tools", sentence);
        }
    }

    /// Segments repeat what is refused: only a change is noted.
    fn take_credential(&mut self, note: &CredentialNote) {
        let before = self.facts.refused_credential.map(|(status, _)| status);
        if self.connector() != Some(note.connector.as_str()) || !self.is_latest() || before == note.refused_with {
            return;
        }
        self.facts.refused_credential = note.refused_with.map(|status| (status, note.moment));
        let sentence = match note.refused_with {
            Some(status) => format!("the server refused the credential with {status}"),
            None => "the credential is not refused any more".to_owned(),
        };
        self.now = note.moment;
        self.note("credential", sentence);
    }

    fn note(&mut self, about: &'static str, sentence: String) {
        if self.is_before_since(self.now.wall) {
            return;
        }
        self.keep(Kept { at: self.now.wall, run: self.runs, about, sentence, quiet: None, decision: None });
    }

    fn is_before_since(&self, wall: WallMs) -> bool {
        self.since.is_some_and(|since| wall < since)
    }

    fn keep(&mut self, kept: Kept) {
        let most = self.limit.saturating_mul(limits::KEPT_PER_ROW).min(limits::SHOWN_MAX);
        if self.kept.len() >= most {
            self.kept.pop_front();
            self.overflowed = true;
        }
        self.kept.push_back(kept);
    }
}

/// How many lines back a shadow's note may refer to.
const SHADOW_DISTANCE: usize = 4_096;

/// How many characters of a digest people are shown.
const DIGEST_SHOWN: usize = 12;

fn is_start(event: &crate::policy::contract::RefreshEvent) -> bool {
    matches!(event, crate::policy::contract::RefreshEvent::Started(_))
}

/// A policy, for people.
fn policy_name(digest: Digest, family: &str) -> String {
    // A policy of no named family is of its own.
    let own = family.is_empty() || family == digest.to_string();
    let family = if own { String::new() } else { format!(" ({})", plain(family)) };
    format!("the policy {}{family}", digest.short(DIGEST_SHOWN))
}

fn told_decision(record: &DecisionRecord, told: &Told) -> ToldDecision {
    let by = match record.decided_by {
        DecidedBy::Deployed(_) => "deployed",
        DecidedBy::DefaultAfterFault(_) => "default-after-fault",
        DecidedBy::DefaultWhileSuspended(_) => "default-while-suspended",
    };
    ToldDecision {
        at: record.moment.wall.to_string(),
        sequence: record.sequence,
        subject: plain(&record.subject),
        function: record.input.function(),
        event: told.event,
        outcome: told.outcome.clone(),
        reason: told.reason.clone(),
        decided_by: Decider {
            by,
            digest: record.decided_by.digest(),
            fault: record.faulted.as_ref().map(|attempt| plain(&attempt.fault.to_string())),
        },
        sentence: told.sentence.clone(),
    }
}
