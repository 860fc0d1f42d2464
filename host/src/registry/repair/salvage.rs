//! What can be had of a text that is no registry: its entries that are whole.
//!
//! An object with a name and a transport is taken for an entry, wherever it stands; one that has only a name and an
//! edit, behind the word `removed`, for a tombstone. Of two with one name the first counts, as everywhere.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::super::document::Tombstone;
use super::super::entry::{self, RegistryEntry, Rev};
use crate::model::document::Source;

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Salvaged {
    /// Entries, each with the edit that it names.
    pub(super) entries: Vec<(Arc<RegistryEntry>, Option<Rev>)>,
    /// Tombstones.
    pub(super) removed: Vec<Tombstone>,
}

/// How much text one object is looked for in: more than the largest entry takes in any layout.
const WINDOW: usize = 1 << 20;

/// How much text may be read in vain, besides that of the text itself some times over: nonsense that nests deep would
/// be read again from each of its levels.
const VAIN: usize = 32 << 20;

/// Reads what is whole.
pub(super) fn salvage(text: &[u8]) -> Salvaged {
    let mut salvaged = Salvaged::default();
    let mut left = VAIN.saturating_add(text.len().saturating_mul(4));
    let mut names = HashSet::new();
    let mut tombstones_from = usize::MAX;
    let mut at = 0;
    while at < text.len() && left > 0 {
        if text[at] == b'"' && text[at..].starts_with(b"\"removed\"") {
            tombstones_from = tombstones_from.min(at);
        }
        let raw = match (text[at] == b'{').then(|| object(&text[at..])) {
            Some(Ok(raw)) => raw,
            Some(Err(read)) => {
                left = left.saturating_sub(read);
                at += 1;
                continue;
            }
            None => {
                at += 1;
                continue;
            }
        };
        match part(raw) {
            Part::Entry(found, rev) => {
                if names.insert(found.name.clone()) {
                    salvaged.entries.push((Arc::from(found), rev));
                }
                at += raw.get().len();
            }
            Part::Tombstone(tombstone) if tombstones_from < at => {
                salvaged.removed.push(tombstone);
                at += raw.get().len();
            }
            Part::Broken => at += raw.get().len(),
            Part::Tombstone(_) | Part::Other => {
                // What is in it is read once more.
                left = left.saturating_sub(raw.get().len());
                at += 1;
            }
        }
    }
    salvaged
}

enum Part {
    Entry(Box<RegistryEntry>, Option<Rev>),
    Tombstone(Tombstone),
    /// An entry that can not be read: nothing inside it is one.
    Broken,
    Other,
}

/// The object that begins with the text; if it is not whole, how much was read.
fn object(text: &[u8]) -> Result<&RawValue, usize> {
    let window = &text[..text.len().min(WINDOW)];
    let read = serde_json::Deserializer::from_slice(window).into_iter::<&RawValue>().next();
    read.unwrap_or(Ok(RawValue::NULL)).map_err(|error| {
        let lines = window.split_inclusive(|byte| *byte == b'\n').take(error.line().saturating_sub(1));
        lines.map(<[u8]>::len).sum::<usize>() + error.column() + 1
    })
}

fn part(raw: &RawValue) -> Part {
    let Ok(source) = Source::new(raw.get().as_bytes()) else { return broken_or_other(raw) };
    let Ok((object, found)) = RegistryEntry::read(&source, source.root()) else { return broken_or_other(raw) };
    let rev = entry::rev(&object).ok().flatten();
    if object.get("transport").is_some() {
        return found.map_or(Part::Broken, |found| Part::Entry(Box::new(found), rev));
    }
    match (found, rev) {
        (Some(found), Some(rev)) if object.members().len() == 2 => Part::Tombstone(Tombstone { name: found.name, rev }),
        _ => Part::Other,
    }
}

fn broken_or_other(raw: &RawValue) -> Part {
    let has = |name| raw.get().contains(name);
    // The document itself has these words too, and a list of servers.
    if has("\"name\"") && has("\"transport\"") && !has("\"servers\"") { Part::Broken } else { Part::Other }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        salvage(text.as_bytes()).entries.into_iter().map(|(entry, _)| entry.name.clone()).collect()
    }

    const ONE: &str =
        r#"{"name":"one","transport":"http","endpoint":"https://one/{\"name\":\"x\"}","more":{"name":"in"}}"#;
    const TWO: &str = r#"{ "name": "two", "transport": "stdio", "command": "run", "rev": {"wallMs": 1, "counter": 0, "writer": "w"} }"#;

    #[test]
    fn the_whole_entries_of_a_truncated_document_are_found() {
        let whole = format!("{{\"servers\": [{ONE},\n{TWO}]}}");
        for end in 0..whole.len() {
            let found = names(&whole[..end]);
            let expected = [("one", ONE), ("two", TWO)].into_iter().filter(|(_, text)| whole[..end].contains(text));
            assert_eq!(found, expected.map(|(name, _)| name.to_owned()).collect::<Vec<_>>(), "{}", &whole[..end]);
        }
    }

    #[test]
    fn entries_around_a_fault_are_found_and_nothing_inside_a_broken_one_is() {
        let broken =
            r#"{"name":"b","name":"c","transport":"ws","more":{"name":"in","transport":"stdio","command":"x"}}"#;
        assert_eq!(names(&format!("{{\"servers\": [{ONE},,{broken},{TWO}]")), ["one", "two"]);
        assert_eq!(names(&format!("<<<<<<< mine\n{ONE}\n=======\n{ONE}{TWO}")), ["one", "two"]);
        assert_eq!(names(&format!("{{\"servers\":[],\"servers\":[{TWO}]}}")), ["two"]);
        assert_eq!(names(&format!("{{\"server\": [{TWO}]}}")), ["two"]);
        assert!(names("").is_empty() && names("{\"servers\": [{\"name\": \"a\", \"transport\": \"http\"").is_empty());
    }

    #[test]
    fn edits_and_tombstones_are_found_too() {
        let rev = r#""rev":{"wallMs":5,"counter":1,"writer":"w"}"#;
        let text = format!("{{\"servers\": [{TWO}], \"removed\": [{{\"name\":\"gone\",{rev}}}, {{\"na");
        let found = salvage(text.as_bytes());
        assert_eq!(found.entries[0].1.as_ref().map(|rev| rev.wall_ms), Some(1));
        assert_eq!((found.removed.len(), found.removed[0].name.as_str()), (1, "gone"));
        assert!(salvage(format!("[{{\"name\":\"gone\",{rev}}}").as_bytes()).removed.is_empty());
    }

    #[test]
    fn deep_and_long_nonsense_ends_soon() {
        for text in
            ["{".repeat(1 << 16), "{\"a\":[".repeat(1 << 14), "{\"a\":\"".repeat(1 << 14), "{\"a\":\n[".repeat(1 << 14)]
        {
            assert!(salvage(text.as_bytes()).entries.is_empty());
        }
        assert!(salvage(b"{\"\xff\"} \xff{").entries.is_empty());
    }
}
