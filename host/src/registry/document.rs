//! The registry's document: `{"servers": [...]}`, with `generation`, `digest` and the tombstones `removed` that newer
//! writers add.
//!
//! A document that can not be read is an error, and one entry that can not be read is a problem beside the others
//! (defect R4); whatever is not understood is kept as it stands, so that writing the document loses nothing (R13). Nothing
//! here writes, and no problem quotes what the file says besides well-formed names.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::model::document::DocumentFault;
use crate::model::document::{Source, Value};

use super::entry::{self, EntryRule, RegistryEntry, Rev};
use super::limits::{ABSORBED_KEPT, MAX_REGISTRY_BYTES, MAX_SERVERS};
use super::render;

/// What the registry says.
#[derive(Clone, Default)]
pub struct RegistryDocument {
    /// The entries whose names can be read, in the file's order.
    pub servers: Vec<FoundServer>,
    /// What else stands in the list of servers, as JSON text without white space. It is kept and means nothing.
    pub leftovers: Vec<Arc<str>>,
    /// Members of the document that mean nothing here: name and JSON text without white space. They are kept.
    pub extras: Vec<(String, Arc<str>)>,
    /// What can not be used, in the file's order.
    pub problems: Vec<EntryProblem>,
    /// How often newer writers have written it; none if only old tools did.
    pub generation: Option<u64>,
    /// The digest of all entries and tombstones that its writer put in; none if an old tool dropped it.
    pub digest: Option<String>,
    /// Foreign documents that it holds already: the digests of their bytes, the latest last.
    pub absorbed: Vec<String>,
    /// What was removed, and by which edit.
    pub removed: Vec<Tombstone>,
}

/// Numbers and names only: texts may hold secrets.
impl fmt::Debug for RegistryDocument {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RegistryDocument")
            .field("servers", &self.servers)
            .field("problems", &self.problems)
            .field("generation", &self.generation)
            .finish_non_exhaustive()
    }
}

/// An entry as it stands in a document.
#[derive(Clone, Debug)]
pub struct FoundServer {
    /// The entry.
    pub entry: Arc<RegistryEntry>,
    /// The edit that it came from, if its writer keeps account of that.
    pub rev: Option<Rev>,
}

/// A removed entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tombstone {
    /// Its name.
    pub name: String,
    /// The edit that removed it.
    pub rev: Rev,
}

/// A part of the registry that breaks a rule. Its display form is a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EntryProblem {
    /// Where.
    pub place: Place,
    /// The name found there, if it is well-formed.
    pub name: Option<String>,
    /// Which rule.
    pub rule: EntryRule,
}

impl fmt::Display for EntryProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.name {
            Some(name) => write!(formatter, "{} ({name}) {}", self.place, self.rule),
            None => write!(formatter, "{} {}", self.place, self.rule),
        }
    }
}

/// A place in the registry. Positions count from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// An entry.
    Server(usize),
    /// The list of tombstones.
    Tombstones,
    /// A tombstone.
    Tombstone(usize),
    /// The generation.
    Generation,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Server(index) => write!(formatter, "servers[{index}]"),
            Self::Tombstones => formatter.write_str("removed"),
            Self::Tombstone(index) => write!(formatter, "removed[{index}]"),
            Self::Generation => formatter.write_str("generation"),
        }
    }
}

/// Why nothing of the registry can be used. The file is to be left alone until someone has looked at it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RegistryError {
    /// It is no acceptable JSON document.
    #[error(
        "the registry can not be read: {0}; repair the file, or run `cortex-mcp registry repair --yes`, which keeps a copy"
    )]
    Document(#[from] DocumentFault),
    /// It has another shape.
    #[error(
        "the registry is no object with a list \"servers\"; repair the file, or run `cortex-mcp registry repair --yes`, \
         which keeps a copy"
    )]
    Shape,
    /// It is too large.
    #[error("the registry is larger than {MAX_REGISTRY_BYTES} bytes; is this the right file?")]
    TooLarge,
    /// It has too many entries.
    #[error("the registry has more than {MAX_SERVERS} servers or tombstones; remove some")]
    TooMany,
}

/// Reads a registry.
///
/// # Errors
/// [`RegistryError`], if nothing of it can be used; whatever is wrong with one entry is among the problems instead.
pub fn read(raw: &[u8]) -> Result<RegistryDocument, RegistryError> {
    if raw.len() > MAX_REGISTRY_BYTES {
        return Err(RegistryError::TooLarge);
    }
    let source = Source::new(raw)?;
    let members = source.members(source.root())?.ok_or(RegistryError::Shape)?;
    let member = |name: &str| members.iter().find(|(own, _)| own == name).map(|(_, value)| *value);
    let servers = source.elements(member("servers").ok_or(RegistryError::Shape)?)?.ok_or(RegistryError::Shape)?;
    let removed = member("removed").map(|part| source.elements(part)).transpose()?;
    if servers.len() > MAX_SERVERS || removed.iter().flatten().flatten().count() > MAX_SERVERS {
        return Err(RegistryError::TooMany);
    }
    let mut reading = Reading { source, names: HashSet::new(), document: RegistryDocument::default() };
    let extras = members.iter().filter(|(name, _)| !OWN_MEMBERS.contains(&name.as_str()));
    reading.document.extras = extras.map(|(name, part)| (name.clone(), compacted(part))).collect();
    for (index, part) in servers.into_iter().enumerate() {
        reading.server(index, part);
    }
    match removed {
        Some(Some(parts)) => {
            for (index, part) in parts.into_iter().enumerate() {
                reading.tombstone(index, part);
            }
        }
        Some(None) => reading.problem(Place::Tombstones, None, EntryRule::List),
        None => {}
    }
    if let Some(part) = member("generation") {
        reading.document.generation = source.value(part).ok().and_then(|value| value.as_natural());
        if reading.document.generation.is_none() {
            reading.problem(Place::Generation, None, EntryRule::Generation);
        }
    }
    // A digest in another form is one that no document has.
    let digest = member("digest").and_then(|part| source.value(part).ok());
    reading.document.digest = digest.as_ref().and_then(Value::as_text).map(str::to_owned);
    if let Some(part) = member("absorbed")
        && let Ok(Value::List(digests)) = source.value(part)
    {
        let texts = digests.iter().filter_map(Value::as_text).map(str::to_owned);
        reading.document.absorbed = texts.take(ABSORBED_KEPT).collect();
    }
    Ok(reading.document)
}

/// The members that this program writes.
const OWN_MEMBERS: [&str; 5] = ["servers", "generation", "digest", "absorbed", "removed"];

fn compacted(part: &RawValue) -> Arc<str> {
    let mut text = String::with_capacity(part.get().len());
    render::compact(part.get(), &mut text);
    text.into()
}

/// A document being read.
struct Reading<'a> {
    source: Source<'a>,
    names: HashSet<String>,
    document: RegistryDocument,
}

impl<'a> Reading<'a> {
    fn problem(&mut self, place: Place, name: Option<&str>, rule: EntryRule) {
        self.document.problems.push(EntryProblem { place, name: name.map(str::to_owned), rule });
    }

    fn server(&mut self, index: usize, part: &'a RawValue) {
        let place = Place::Server(index);
        let found = match RegistryEntry::read(&self.source, part) {
            Ok((object, Some(entry))) if !self.names.contains(&entry.name) => (object, entry),
            Ok((_, Some(entry))) => {
                self.problem(place, Some(&entry.name), EntryRule::RepeatedName);
                return self.document.leftovers.push(compacted(part));
            }
            Ok((_, None)) => {
                self.problem(place, None, EntryRule::Name);
                return self.document.leftovers.push(compacted(part));
            }
            Err(rule) => {
                self.problem(place, None, rule);
                return self.document.leftovers.push(compacted(part));
            }
        };
        let (object, entry) = found;
        if let Err(rule) = entry.transport {
            self.problem(place, Some(&entry.name), rule);
        }
        // A broken account of edits is no reason to take the server away.
        let rev = entry::rev(&object).unwrap_or_else(|rule| {
            self.problem(place, Some(&entry.name), rule);
            None
        });
        self.names.insert(entry.name.clone());
        self.document.servers.push(FoundServer { entry: Arc::new(entry), rev });
    }

    fn tombstone(&mut self, index: usize, part: &'a RawValue) {
        let place = Place::Tombstone(index);
        let object = match self.source.value(part) {
            Ok(Value::Object(object)) => object,
            Ok(_) => return self.problem(place, None, EntryRule::Object),
            Err(fault) => return self.problem(place, None, fault.into()),
        };
        match (entry::name(&object), entry::rev(&object)) {
            (Some(name), Ok(Some(rev))) => self.document.removed.push(Tombstone { name: name.to_owned(), rev }),
            (name, _) => self.problem(place, name, EntryRule::Tombstone),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_file_of_the_old_tools_is_read() {
        let raw = br#"{
  "servers": [
    {"name": "files", "transport": "stdio", "command": "npx", "args": ["files"], "env": {"KEY": "s3cr3t"}},
    {"name": "Wiki.Data", "transport": "streamableHttp", "endpoint": "https://wiki.invalid/mcp",
     "headers": {"Authorization": "Bearer s3cr3t"}}
  ]
}"#;
        let document = read(raw).unwrap();
        let names: Vec<_> = document.servers.iter().map(|server| server.entry.name.as_str()).collect();
        assert_eq!(names, ["files", "Wiki.Data"]);
        assert!(document.problems.is_empty() && document.removed.is_empty() && document.generation.is_none());
        assert!(!format!("{document:?}").contains("s3cr3t"));
    }

    #[test]
    fn the_account_of_newer_writers_is_read() {
        let document = read(
            br#"{"servers":[{"name":"a","transport":"ws","endpoint":"wss://a","rev":{"wallMs":2,"counter":1,"writer":"w"}}],"generation":7,
            "removed":[{"name":"b","rev":{"wallMs":3,"counter":0,"writer":"v"}}]}"#,
        )
        .unwrap();
        assert_eq!(document.generation, Some(7));
        assert_eq!(document.servers[0].rev.as_ref().map(|rev| (rev.wall_ms, rev.counter)), Some((2, 1)));
        let rev = Rev { wall_ms: 3, counter: 0, writer: "v".to_owned() };
        assert_eq!(document.removed, [Tombstone { name: "b".to_owned(), rev }]);
    }

    #[test]
    fn one_bad_entry_is_a_problem_and_the_others_are_kept() {
        let document = read(
            br#"{"servers":[1,{"name":"x y","transport":"stdio"},{"name":"a","name":"b"},
            {"name":"s3","transport":"s3cr3t"},{"name":"good","transport":"stdio","command":"x"},{"name":"good","transport":"ws","endpoint":"ws://a"},
            {"name":"late","transport":"ws","endpoint":"ws://a","rev":0},{"name":"h","transport":"http","endpoint":"https://s3cr3t@a"}],
            "removed":[{"name":"t"}],"generation":-1}"#,
        )
        .unwrap();
        let names: Vec<_> = document.servers.iter().map(|server| server.entry.name.as_str()).collect();
        assert_eq!(names, ["s3", "good", "late", "h"]);
        assert_eq!(document.servers.iter().filter(|server| server.entry.transport.is_ok()).count(), 2);
        assert_eq!(document.leftovers.len(), 4, "what can not be read is kept");
        let sentences: Vec<_> = document.problems.iter().map(ToString::to_string).collect();
        assert_eq!(sentences.len(), 9);
        assert_eq!(sentences[0], "servers[0] must be an object");
        assert_eq!(sentences[3], "servers[3] (s3) must have the transport http, streamableHttp, stdio, sse or ws");
        assert!(matches!(document.problems[2].rule, EntryRule::Document(DocumentFault::RepeatedMember { .. })));
        assert!(sentences.iter().all(|sentence| !sentence.contains("s3cr3t")));
    }

    #[test]
    fn of_two_entries_with_one_name_the_first_counts() {
        let document =
            read(br#"{"servers":[{"name":"a","transport":"ws","endpoint":"ws://a"},{"name":"a"}]}"#).unwrap();
        assert_eq!(document.servers.len(), 1);
        assert_eq!(
            (document.problems[0].place, document.problems[0].rule),
            (Place::Server(1), EntryRule::RepeatedName)
        );
    }

    #[test]
    fn a_damaged_document_is_an_error_and_never_an_empty_registry() {
        for raw in ["", "{\"servers\":[", "<html>", "{\"servers\":[],\"servers\":[]}"] {
            assert!(matches!(read(raw.as_bytes()), Err(RegistryError::Document(_))), "{raw}");
        }
        for raw in ["[]", "{}", "null", "{\"servers\":{}}"] {
            assert_eq!(read(raw.as_bytes()).map(|_| ()), Err(RegistryError::Shape), "{raw}");
        }
        assert_eq!(read(&vec![b' '; MAX_REGISTRY_BYTES + 1]).map(|_| ()), Err(RegistryError::TooLarge));
        let many = format!("{{\"servers\":[{}0]}}", "0,".repeat(MAX_SERVERS));
        assert_eq!(read(many.as_bytes()).map(|_| ()), Err(RegistryError::TooMany));
        assert!(RegistryError::Shape.to_string().contains("registry repair --yes`, which keeps a copy"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(read(&bytes).is_err());
        }
    }
}
