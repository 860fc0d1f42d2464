//! What a question is about, found out from the trace alone.
//!
//! A first reading of the trace: which runs, connectors, tools and registry entries it knows, and what the name that was
//! asked for can mean.

use std::collections::{BTreeMap, BTreeSet};

use super::error::WhyError;
use super::limits;
use crate::model::Moment;
use crate::policy::{Input, Output};
use crate::trace::format::connector_of;
use crate::trace::{Entry, Line};

/// What is asked about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    ServiceMap,
    Connector(String),
    Tool {
        name: String,
        connector: String,
    },
    Registry,
    RegistryEntry(String),
    /// Any other subject of decisions.
    Other,
}

/// A target, and the one subject that the chain is limited to, if it was named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Resolved {
    pub(super) target: Target,
    pub(super) only: Option<String>,
}

impl Resolved {
    fn whole(target: Target) -> Self {
        Self { target, only: None }
    }
}

/// The first reading: it learns what the trace knows.
#[derive(Debug)]
pub struct Survey {
    text: String,
    subjects: BTreeSet<String>,
    connectors: BTreeSet<String>,
    /// What each connector serves by its last line.
    tools: BTreeMap<String, Vec<String>>,
    /// How many names those are.
    tool_names: usize,
    /// The connectors that ever served a tool of the name that is asked for.
    serving: BTreeSet<String>,
    entries: BTreeSet<String>,
    is_entry: bool,
    runs: BTreeMap<String, Moment>,
    run: String,
    /// Names that were met and not kept, as often as they were met.
    others: u64,
}

impl Survey {
    /// One for a question about this.
    pub fn new(subject: &str) -> Self {
        Self {
            text: subject.trim().to_owned(),
            subjects: BTreeSet::new(),
            connectors: BTreeSet::new(),
            tools: BTreeMap::new(),
            tool_names: 0,
            serving: BTreeSet::new(),
            entries: BTreeSet::new(),
            is_entry: false,
            runs: BTreeMap::new(),
            run: String::new(),
            others: 0,
        }
    }

    /// Takes a line.
    pub fn take(&mut self, entry: &Entry) {
        match &entry.line {
            Line::Header(header) => {
                self.run.clone_from(&header.run);
                self.note_moment(header.started);
            }
            Line::Decision(record) => {
                self.note_moment(record.moment);
                if !self.subjects.contains(&record.subject) {
                    self.note_subject(&record.subject);
                    if let Some(connector) = connector_of(&record.subject) {
                        self.note_connector(connector);
                    }
                }
                match (&record.input, &record.output) {
                    (Input::Adopt { base, found, .. }, _) => {
                        let names = base.iter().map(|entry| &entry.name);
                        self.note_entries(names.chain(found.iter().map(|entry| &entry.name)));
                    }
                    (_, Some(Output::Merge(merged))) => {
                        self.note_entries(merged.entries.iter().map(|entry| &entry.name));
                    }
                    _ => {}
                }
            }
            Line::Swap(swap) => self.note_moment(swap.moment),
            Line::Connectors(note) => {
                self.note_moment(note.moment);
                note.enabled.iter().chain(&note.disabled).for_each(|connector| self.note_connector(connector));
            }
            Line::Tools(note) => {
                self.note_moment(note.moment);
                self.note_connector(&note.connector);
                if note.names.iter().any(|name| name == self.asked_tool())
                    && (self.serving.len() < limits::CONNECTORS_KEPT || self.serving.contains(&note.connector))
                {
                    self.serving.insert(note.connector.clone());
                }
                self.note_tools(&note.connector, &note.names);
            }
            Line::Credential(note) => {
                self.note_moment(note.moment);
                self.note_connector(&note.connector);
            }
            Line::Shadow(_) | Line::Dropped(_) => {}
        }
    }

    fn note_subject(&mut self, subject: &str) {
        const MAP: &str = "service-map/";
        let is_first_of_map =
            subject.starts_with(MAP) && !self.subjects.range(MAP.to_owned()..).any(|known| known.starts_with(MAP));
        let is_asked = subject == self.text || subject == "registry" || is_first_of_map;
        self.others += u64::from(!keep(&mut self.subjects, limits::SUBJECTS_KEPT, subject, is_asked));
    }

    fn note_connector(&mut self, connector: &str) {
        if self.connectors.contains(connector) {
            return;
        }
        let path = self.text.strip_prefix("connector/").unwrap_or_default();
        let is_of_path = path.strip_prefix(connector).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        // Or the beginning of a tool's name: there are as many as it has characters, at most.
        let is_asked = is_of_path || self.asked_tool().starts_with(connector);
        self.others += u64::from(!keep(&mut self.connectors, limits::CONNECTORS_KEPT, connector, is_asked));
    }

    /// Notes what a connector serves, to suggest it: as much of it as there is room for.
    fn note_tools(&mut self, connector: &str, names: &[String]) {
        self.tool_names -= self.tools.remove(connector).map_or(0, |before| before.len());
        let room = limits::TOOL_NAMES_KEPT.saturating_sub(self.tool_names);
        let short = names.iter().filter(|name| name.len() <= limits::NAME_BYTES_KEPT);
        let kept: Vec<String> =
            if self.tools.len() < limits::CONNECTORS_KEPT && connector.len() <= limits::NAME_BYTES_KEPT {
                short.take(room).cloned().collect()
            } else {
                Vec::new()
            };
        self.others = self.others.saturating_add(u64::try_from(names.len() - kept.len()).unwrap_or(u64::MAX));
        if !kept.is_empty() {
            self.tool_names += kept.len();
            self.tools.insert(connector.to_owned(), kept);
        }
    }

    fn note_entries<'a>(&mut self, names: impl Iterator<Item = &'a String>) {
        let asked = self.text.strip_prefix("registry/").unwrap_or(&self.text).to_owned();
        for name in names {
            self.is_entry |= *name == asked;
            self.others += u64::from(!keep(&mut self.entries, limits::ENTRY_NAMES, name, false));
        }
    }

    fn note_moment(&mut self, moment: Moment) {
        if self.runs.len() >= limits::RUNS_KEPT && !self.runs.contains_key(&self.run) {
            let earliest = self.runs.iter().min_by_key(|(_, moment)| moment.wall).map(|(run, _)| run.clone());
            earliest.and_then(|run| self.runs.remove(&run));
        }
        let known = self.runs.entry(self.run.clone()).or_insert(moment);
        // One run has one boot, whose clock never steps. Notes that a segment repeats are older than what came before.
        if moment.boot >= known.boot {
            *known = moment;
        }
    }

    fn asked_tool(&self) -> &str {
        self.text.strip_prefix("tool/").unwrap_or(&self.text)
    }

    /// How often names were met that were not kept.
    pub(super) fn others(&self) -> u64 {
        self.others
    }

    /// The run that ended last, and its last moment.
    pub(super) fn latest_run(&self) -> Option<(&str, Moment)> {
        self.runs.iter().max_by_key(|(_, moment)| moment.wall).map(|(run, moment)| (run.as_str(), *moment))
    }

    /// What the name that was asked for means.
    pub(super) fn resolve(&self) -> Result<Resolved, WhyError> {
        let text = self.text.as_str();
        if text.contains('/') {
            return self.resolve_path(text);
        }
        let mut readings = Vec::new();
        if matches!(text, "service-map" | "map") {
            readings.push(("service-map/".to_owned(), Target::ServiceMap));
        }
        if text == "registry" {
            readings.push(("registry/".to_owned(), Target::Registry));
        }
        if self.connectors.contains(text) {
            readings.push((format!("connector/{text}"), Target::Connector(text.to_owned())));
        }
        let tools = self.serving.iter().map(|connector| {
            (format!("connector/{connector}"), Target::Tool { name: text.to_owned(), connector: connector.clone() })
        });
        readings.extend(tools);
        // An entry is a connector too, if its name can be one: what people see is the connector.
        if readings.is_empty() && self.is_entry {
            readings.push((format!("registry/{text}"), Target::RegistryEntry(text.to_owned())));
        }
        if readings.is_empty()
            && let Some(connector) = self.connector_of_tool(text)
        {
            let connector = connector.to_owned();
            readings.push((String::new(), Target::Tool { name: text.to_owned(), connector }));
        }
        if readings.is_empty() && self.subjects.contains(text) {
            return Ok(Resolved { target: Target::Other, only: Some(text.to_owned()) });
        }
        match <[_; 1]>::try_from(readings) {
            Ok([(_, target)]) => self.decided(target),
            Err(readings) if readings.is_empty() => Err(self.unknown()),
            Err(readings) => {
                let readings = readings.into_iter().map(|(name, _)| name).collect();
                Err(WhyError::Ambiguous { subject: text.to_owned(), readings })
            }
        }
    }

    fn resolve_path(&self, text: &str) -> Result<Resolved, WhyError> {
        match text.split_once('/') {
            Some(("service-map" | "map", "")) => return self.decided(Target::ServiceMap),
            Some(("registry", "")) => return self.decided(Target::Registry),
            Some(("registry", name)) if self.is_entry => {
                return Ok(Resolved::whole(Target::RegistryEntry(name.to_owned())));
            }
            Some(("connector", id)) if self.connectors.contains(id) => {
                return Ok(Resolved::whole(Target::Connector(id.to_owned())));
            }
            Some(("tool", name)) => {
                let connector = self.serving.first().map(String::as_str).or_else(|| self.connector_of_tool(name));
                if let Some(connector) = connector {
                    let target = Target::Tool { name: name.to_owned(), connector: connector.to_owned() };
                    return Ok(Resolved::whole(target));
                }
            }
            _ => {}
        }
        if !self.subjects.contains(text) {
            return Err(self.unknown());
        }
        let target = match connector_of(text) {
            Some(id) => Target::Connector(id.to_owned()),
            None if text.starts_with("service-map/") => Target::ServiceMap,
            None => Target::Other,
        };
        Ok(Resolved { target, only: Some(text.to_owned()) })
    }

    /// The service map and the registry are always there to be asked for; whether anything was decided is another matter.
    fn decided(&self, target: Target) -> Result<Resolved, WhyError> {
        let undecided = |subject: &str, hint| Err(WhyError::Undecided { subject: subject.to_owned(), hint });
        match target {
            Target::ServiceMap if !self.subjects.iter().any(|subject| subject.starts_with("service-map/")) => {
                undecided("the service map", "the gateway was configured without one, or the trace is of another time")
            }
            Target::Registry if !self.subjects.contains("registry") => {
                undecided("the registry", "the trace begins after it was read last")
            }
            target => Ok(Resolved::whole(target)),
        }
    }

    /// The connector whose name a tool's name begins with; the longest one.
    fn connector_of_tool(&self, tool: &str) -> Option<&str> {
        let named = self.connectors.iter().filter(|id| {
            let rest = tool.strip_prefix(id.as_str());
            rest.is_some_and(|rest| rest.len() > 1 && (rest.starts_with("__") || rest.starts_with('.')))
        });
        named.max_by_key(|id| id.len()).map(String::as_str)
    }

    fn unknown(&self) -> WhyError {
        let tools = self.tools.values().flatten();
        let fixed = ["service-map", "registry"].map(str::to_owned);
        let names = self.connectors.iter().chain(tools).chain(&self.entries).chain(&fixed);
        let paths = self.subjects.iter().filter(|_| self.text.contains('/'));
        let mut close: Vec<(usize, &String)> = names
            .chain(paths)
            .filter_map(|name| Some((distance_if_close(&self.text, name)?, name)))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        close.dedup_by(|one, other| one.1 == other.1);
        WhyError::Unknown {
            subject: super::sentences::plain(&self.text),
            close: close.iter().take(limits::SUGGESTIONS).map(|(_, name)| super::sentences::plain(name)).collect(),
            connectors: self.connectors.iter().take(limits::CONNECTORS_NAMED).cloned().collect(),
        }
    }
}

/// Keeps a name, if it is asked for or there is room for it. Whether it is kept.
fn keep(names: &mut BTreeSet<String>, most: usize, name: &str, is_asked: bool) -> bool {
    let has_room = names.len() < most && name.len() <= limits::NAME_BYTES_KEPT;
    names.contains(name) || ((has_room || is_asked) && names.insert(name.to_owned()))
}

/// How far apart two names are, if they may be meant for each other: few edits, or one within the other.
fn distance_if_close(asked: &str, known: &str) -> Option<usize> {
    let (asked, known) = (asked.to_ascii_lowercase(), known.to_ascii_lowercase());
    let longest = asked.len().max(known.len());
    if asked.is_empty() || longest > limits::TEXT_LONGEST {
        return None;
    }
    let edits = edits(&asked, &known);
    let within = asked.len() >= 3 && known.len() >= 3 && (known.contains(&asked) || asked.contains(&known));
    (edits <= 2.max(longest / 4) && edits < longest || within).then_some(edits)
}

/// The number of characters to insert, remove or replace to get from one text to the other.
fn edits(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut before: Vec<usize> = (0..=to.len()).collect();
    for (position, character) in from.chars().enumerate() {
        let mut row = vec![position + 1];
        for (at, other) in to.iter().enumerate() {
            let replaced = before[at] + usize::from(character != *other);
            row.push(replaced.min(before[at + 1] + 1).min(row[at] + 1));
        }
        before = row;
    }
    before[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{ConnectorsNote, ToolsNote};

    fn survey(text: &str) -> Survey {
        let mut survey = Survey::new(text);
        survey.connectors = ["server-01", "server-02", "server", "wiki"].map(str::to_owned).into();
        survey.subjects =
            ["connector/server-01/breaker", "registry", "service-map/cache", "state"].map(str::to_owned).into();
        survey.tools.insert("server-01".into(), vec!["server-01__echo".into(), "find".into()]);
        survey.tools.insert("wiki".into(), vec!["wiki__page".into()]);
        if survey.tools["server-01"].contains(&survey.asked_tool().to_owned()) {
            survey.serving.insert("server-01".into());
        }
        survey.entries.insert("Wiki Data".into());
        survey.is_entry = text.trim_start_matches("registry/") == "Wiki Data";
        survey
    }

    fn target(text: &str) -> Target {
        target_of(&survey(text))
    }

    #[test]
    fn names_mean_what_the_trace_knows_by_them() {
        let tool = |name: &str, connector: &str| Target::Tool { name: name.into(), connector: connector.into() };
        for (text, expected) in [
            ("map", Target::ServiceMap),
            ("service-map", Target::ServiceMap),
            ("registry", Target::Registry),
            ("server-01", Target::Connector("server-01".into())),
            ("connector/wiki", Target::Connector("wiki".into())),
            ("connector/server-01/breaker", Target::Connector("server-01".into())),
            ("server-01__echo", tool("server-01__echo", "server-01")),
            ("find", tool("find", "server-01")),
            ("tool/find", tool("find", "server-01")),
            ("server-02__gone", tool("server-02__gone", "server-02")),
            ("server.gone", tool("server.gone", "server")),
            ("Wiki Data", Target::RegistryEntry("Wiki Data".into())),
            ("registry/Wiki Data", Target::RegistryEntry("Wiki Data".into())),
            ("service-map/cache", Target::ServiceMap),
            ("state", Target::Other),
        ] {
            assert_eq!(target(text), expected, "{text}");
        }
    }

    #[test]
    fn an_unknown_name_is_answered_with_close_ones_or_with_the_connectors() {
        for (text, close) in [
            ("server-03", "server-01"),
            ("sever-02", "server-02"),
            ("echo", "server-01__echo"),
            ("wiki__pages2", "wiki__page"),
            ("Registry", "registry"),
        ] {
            match survey(text).resolve() {
                Err(error) => assert!(error.to_string().contains(close), "{text}: {error}"),
                Ok(resolved) => assert!(matches!(resolved.target, Target::Tool { .. }), "{text}: {resolved:?}"),
            }
        }
        let error = survey("qqqqqqqqqqqqqqq").resolve().unwrap_err().to_string();
        assert!(error.contains("it knows the connectors server, server-01"), "{error}");
    }

    #[test]
    fn a_name_of_several_things_asks_which() {
        let mut survey = survey("map");
        survey.connectors.insert("map".into());
        let error = survey.resolve().unwrap_err().to_string();
        assert!(error.contains("connector/map") && error.contains("service-map/"), "{error}");
    }

    fn entry(line: Line) -> Entry {
        let file = std::sync::Arc::new(std::path::PathBuf::new());
        Entry { place: crate::trace::Place { file, line: 1 }, line }
    }

    fn connectors(ids: impl IntoIterator<Item = String>) -> Entry {
        entry(Line::Connectors(ConnectorsNote { enabled: ids.into_iter().collect(), ..ConnectorsNote::default() }))
    }

    fn tools(connector: &str, names: impl IntoIterator<Item = String>) -> Entry {
        let (connector, names) = (connector.to_owned(), names.into_iter().collect());
        entry(Line::Tools(ToolsNote { moment: Moment::default(), connector, names }))
    }

    #[test]
    fn what_is_kept_of_a_trace_is_bounded_and_what_is_asked_for_is_found_nevertheless() {
        let most = limits::CONNECTORS_KEPT;
        for asked in ["last", "connector/last", "last__tool"] {
            let mut survey = Survey::new(asked);
            survey.take(&connectors((0..most + 5).map(|number| format!("c{number}"))));
            survey.take(&connectors(["x".repeat(10_000), "last".to_owned()]));
            assert_eq!((survey.connectors.len(), survey.others()), (most + 1, 6));
            assert!(survey.resolve().is_ok(), "{asked}");
        }
        let mut survey = Survey::new("last");
        for connector in 0..3 {
            let names = (0..limits::TOOL_NAMES_KEPT / 2).map(|number| format!("t{number}"));
            survey.take(&tools(&connector.to_string(), names));
        }
        assert_eq!(survey.tools.values().flatten().count(), limits::TOOL_NAMES_KEPT);
        assert_eq!(survey.others(), limits::TOOL_NAMES_KEPT as u64 / 2);
        survey.take(&tools("0", []));
        survey.take(&tools("9", ["last".to_owned()]));
        assert_eq!(target_of(&survey), Target::Tool { name: "last".into(), connector: "9".into() });
        for number in 0..limits::SUBJECTS_KEPT + 5 {
            survey.note_subject(&format!("s{number}"));
        }
        for subject in ["service-map/refresh", "service-map/cache", "registry", "last"] {
            survey.note_subject(subject);
        }
        assert_eq!(survey.subjects.len(), limits::SUBJECTS_KEPT + 3);
        assert!(!survey.subjects.contains("service-map/cache") && survey.subjects.contains("registry"));
        for number in 0..2 * limits::RUNS_KEPT {
            survey.run = format!("r{number}");
            survey.note_moment(Moment { wall: crate::model::WallMs(number as u64), ..Moment::default() });
        }
        assert_eq!(survey.runs.len(), limits::RUNS_KEPT);
        assert_eq!(survey.latest_run().unwrap().0, format!("r{}", 2 * limits::RUNS_KEPT - 1));
    }

    fn target_of(survey: &Survey) -> Target {
        survey.resolve().unwrap_or_else(|error| panic!("{error}")).target
    }

    #[test]
    fn edits_are_counted() {
        assert_eq!((edits("server-01", "server-01"), edits("sever-02", "server-01"), edits("", "ab")), (0, 2, 2));
    }
}
