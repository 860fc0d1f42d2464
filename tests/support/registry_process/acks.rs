//! What was begun and what was acknowledged, by whom and when; and whether a registry says what it must after that.
//!
//! The rule for every name, whoever writes it: a change that was acknowledged before another one began has lost to it.
//! The clock is the machine's monotonic one, which all its processes share.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use super::Said;

/// The monotonic clock, in nanoseconds.
pub(crate) fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

/// A change, and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) name: String,
    /// The value; none if the name was removed.
    pub(crate) value: Option<u64>,
    pub(crate) begin: u64,
    pub(crate) fate: Fate,
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It was acknowledged then.
    Acknowledged(u64),
    /// Nobody was told anything, and by then its process was gone; or it still runs.
    Unknown(Option<u64>),
    /// It was refused, with these words.
    Refused(String),
}

impl Write {
    pub(crate) fn is_acknowledged(&self) -> bool {
        matches!(self.fate, Fate::Acknowledged(_))
    }

    /// The last moment at which it can have taken effect.
    pub(crate) fn latest(&self) -> u64 {
        match self.fate {
            Fate::Acknowledged(at) | Fate::Unknown(Some(at)) => at,
            Fate::Unknown(None) | Fate::Refused(_) => u64::MAX,
        }
    }
}

/// Where a process writes down what it does. Every line reaches the system before the process goes on.
pub(crate) struct Acks {
    file: File,
}

impl Acks {
    pub(crate) fn create(path: &Path) -> Self {
        Self { file: OpenOptions::new().append(true).create(true).open(path).unwrap() }
    }

    /// A change is about to begin.
    pub(crate) fn begin(&mut self, name: &str, value: Option<u64>) {
        let value = value.map_or("-".to_owned(), |value| value.to_string());
        self.line(&format!("begin\t{}\t{name}\t{value}", now_ns()));
    }

    /// It has ended.
    pub(crate) fn end(&mut self, result: Result<(), String>) {
        match result {
            Ok(()) => self.line(&format!("done\t{}", now_ns())),
            Err(error) => self.line(&format!("refused\t{}", error.replace(['\n', '\t'], " "))),
        }
    }

    /// Something worth telling.
    pub(crate) fn note(&mut self, note: &str) {
        self.line(&format!("note\t{}", note.replace(['\n', '\t'], " ")));
    }

    fn line(&mut self, line: &str) {
        self.file.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

/// Reads what a process wrote down, which had ended by then.
pub(crate) fn read(path: &Path, ended: Option<u64>) -> Vec<Write> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let mut writes: Vec<Write> = Vec::new();
    // What follows the last end of line was cut off by a kill.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    for line in whole.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        match words[..] {
            ["begin", at, name, value] => writes.push(Write {
                name: name.to_owned(),
                value: value.parse().ok(),
                begin: at.parse().unwrap(),
                fate: Fate::Unknown(ended),
            }),
            ["done", at] => writes.last_mut().unwrap().fate = Fate::Acknowledged(at.parse().unwrap()),
            ["refused", ref error @ ..] => writes.last_mut().unwrap().fate = Fate::Refused(error.join(" ")),
            ["note", ..] => {}
            _ => panic!("{line}"),
        }
    }
    writes
}

/// What is wrong with what a registry says after these changes, each a sentence.
pub(crate) fn lost(writes: &[Write], said: &Said) -> Vec<String> {
    let mut by_name: BTreeMap<&str, Vec<&Write>> = BTreeMap::new();
    for write in writes {
        by_name.entry(&write.name).or_default().push(write);
    }
    let unknown = said.keys().filter(|name| !by_name.contains_key(name.as_str()));
    let mut lost: Vec<String> = unknown.map(|name| format!("nobody wrote {name}")).collect();
    for (name, writes) in &by_name {
        let value = said.get(*name).copied();
        let overruled = |candidate: u64| writes.iter().find(|other| other.is_acknowledged() && other.begin > candidate);
        let candidates: Vec<&&Write> = writes.iter().filter(|write| write.value == value).collect();
        // What was never there is as if it had been removed before everything.
        let mut since: Vec<u64> = candidates.iter().map(|write| write.latest()).collect();
        if value.is_none() {
            since.push(0);
        }
        let verdicts: Vec<_> = since.into_iter().map(overruled).collect();
        if verdicts.is_empty() {
            lost.push(format!("{name} is {value:?}, which nobody wrote"));
        } else if let Some(Some(later)) = verdicts.iter().find(|verdict| verdict.is_some())
            && verdicts.iter().all(Option::is_some)
        {
            let history: Vec<String> = writes.iter().rev().take(12).map(|write| format!("  {write:?}")).collect();
            lost.push(format!("{name} is {value:?}, although later {later:?}\n{}", history.join("\n")));
        }
    }
    lost
}

/// Counts of changes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) upserts: u64,
    pub(crate) removals: u64,
    pub(crate) unknown: u64,
    pub(crate) refused: u64,
    pub(crate) names: usize,
}

/// Counts changes.
pub(crate) fn tally(writes: &[Write]) -> Tally {
    let count = |which: &dyn Fn(&Write) -> bool| writes.iter().filter(|write| which(write)).count() as u64;
    Tally {
        upserts: count(&|write| write.is_acknowledged() && write.value.is_some()),
        removals: count(&|write| write.is_acknowledged() && write.value.is_none()),
        unknown: count(&|write| matches!(write.fate, Fate::Unknown(_))),
        refused: count(&|write| matches!(write.fate, Fate::Refused(_))),
        names: writes.iter().map(|write| &write.name).collect::<BTreeSet<_>>().len(),
    }
}

/// The reasons of refusals, each once, with how often.
pub(crate) fn refusals(writes: &[Write]) -> BTreeMap<String, u64> {
    let mut reasons = BTreeMap::new();
    for write in writes {
        if let Fate::Refused(reason) = &write.fate {
            *reasons.entry(reason.clone()).or_default() += 1;
        }
    }
    reasons
}
