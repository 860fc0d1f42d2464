//! References: a value that a segment repeats is defined once, in a line of its own, and named where it is repeated.
//!
//! A definition is the line `{"value":["<name>",<JSON>]}`; the name is the beginning of the lower-case hexadecimal SHA-256
//! of the value's JSON text. In a decision a string that is such a name stands in place of an object, at the members of
//! [`RECORD`] and nowhere else. A definition precedes what refers to it in the same segment, and contains no reference
//! itself. What is short stays in the decision: a reference takes ten bytes, which do not compress.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::limits;
use crate::model::Digest;

/// What stands at a member of a decision.
#[derive(Debug)]
enum Member {
    /// A value, or a reference to one.
    Value,
    /// A list of values and references.
    List,
    /// An object with these members; others are left as they are.
    Object(&'static [(&'static str, Member)]),
}

/// Where references may stand in a decision: one table for writers and readers. An enumeration's case, which may stand at
/// `output.result.state` too, begins with a capital letter and is no name.
const RECORD: Member = Member::Object(&[
    ("input", Member::Object(&[("arguments", Member::Object(ARGUMENTS))])),
    ("output", Member::Object(&[("result", Member::Object(&[("state", Member::Value), ("entries", Member::List)]))])),
]);

const ARGUMENTS: &[(&str, Member)] = &[
    ("config", Member::Value),
    ("state", Member::Value),
    ("clock", Member::Value),
    ("candidates", Member::List),
    ("base", Member::List),
    ("found", Member::List),
    ("ours", Member::List),
    ("theirs", Member::List),
];

/// How long a name may be, in hexadecimal digits: the shortest that is not another value's, because random digits do not
/// compress. Eight digits of the ten thousand values of a segment are ambiguous in one segment of a hundred.
const NAME_DIGITS: [usize; 3] = [8, 16, 64];

/// Whether a text can be the name of a value.
fn is_name(text: &str) -> bool {
    NAME_DIGITS.contains(&text.len()) && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// Why a line could not be written with references, or read without them.
#[derive(Debug, thiserror::Error)]
pub(super) enum ReferenceError {
    /// The line is not the JSON of a decision or a value.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// No earlier line of the segment defines the value.
    #[error("the value {0} is not defined before it is referred to in this segment")]
    Unknown(String),
    /// The text is not what its name was made of.
    #[error("the name {0} is not the digest of its value")]
    WrongName(String),
    /// More than a reader takes.
    #[error("{0}")]
    Excess(#[from] Excess),
}

/// What a segment has more of than a reader takes: no gateway writes such a segment, and what it would take to read it has
/// no bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Excess {
    /// The compressed file expands to more bytes than a segment has.
    #[error("the compressed segment expands to more than {} bytes", limits::SEGMENT_EXPANDED_BYTES_MAX)]
    Expanded,
    /// One decision is too long once its references are replaced by their values.
    #[error("the decision has more than {} bytes with the values that it refers to", limits::LINE_BYTES_MAX)]
    Decision,
    /// All decisions together are too long once their references are replaced by their values.
    #[error("the decisions have more than {} bytes with the values that they refer to", limits::RESOLVED_BYTES_MAX)]
    Resolved,
    /// The segment defines too many values, or too long ones.
    #[error(
        "the segment defines more than {} values or {} bytes of them",
        limits::VALUES_MAX,
        limits::VALUES_BYTES_MAX
    )]
    Values,
}

/// What is done with the text of a value, or of a reference to one, on the way from one text of a decision to the other.
trait Replace {
    fn replace(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), ReferenceError>;
}

/// Copies the text of a decision to `out`, and what stands where references may stand as `replace` has it.
fn rewrite(decision: &str, out: &mut Vec<u8>, replace: &mut impl Replace) -> Result<(), ReferenceError> {
    let mut walk = Walk { out, replace, failed: None };
    let walked = walk.member(&RECORD, decision);
    walk.failed.map_or(walked.map_err(Into::into), Err)
}

struct Walk<'w, R> {
    out: &'w mut Vec<u8>,
    replace: &'w mut R,
    /// The error that ended it, if it was not the JSON: a visitor can only return that of its format.
    failed: Option<ReferenceError>,
}

impl<R: Replace> Walk<'_, R> {
    fn member(&mut self, member: &'static Member, text: &str) -> Result<(), serde_json::Error> {
        match member {
            Member::Value => self.value(text),
            Member::List if text.starts_with('[') => {
                serde_json::Deserializer::from_str(text).deserialize_seq(ListVisitor(self))
            }
            Member::Object(members) if text.starts_with('{') => {
                serde_json::Deserializer::from_str(text).deserialize_map(ObjectVisitor(self, members))
            }
            Member::List | Member::Object(_) => {
                self.out.extend_from_slice(text.as_bytes());
                Ok(())
            }
        }
    }

    fn value(&mut self, text: &str) -> Result<(), serde_json::Error> {
        self.replace.replace(text, self.out).map_err(|error| {
            let reported = serde_json::Error::custom(&error);
            self.failed = Some(error);
            reported
        })
    }
}

struct ObjectVisitor<'v, 'w, R>(&'v mut Walk<'w, R>, &'static [(&'static str, Member)]);

impl<'de, R: Replace> Visitor<'de> for ObjectVisitor<'_, '_, R> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(walk, members) = self;
        let mut before = b'{';
        while let Some((key, text)) = map.next_entry::<&RawValue, &RawValue>()? {
            walk.out.push(std::mem::replace(&mut before, b','));
            walk.out.extend_from_slice(key.get().as_bytes());
            walk.out.push(b':');
            let name = key.get().trim_matches('"');
            match members.iter().find(|(known, _)| *known == name) {
                Some((_, member)) => walk.member(member, text.get()).map_err(A::Error::custom)?,
                None => walk.out.extend_from_slice(text.get().as_bytes()),
            }
        }
        walk.out.extend_from_slice(if before == b'{' { b"{}" } else { b"}" });
        Ok(())
    }
}

struct ListVisitor<'v, 'w, R>(&'v mut Walk<'w, R>);

impl<'de, R: Replace> Visitor<'de> for ListVisitor<'_, '_, R> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(walk) = self;
        let mut before = b'[';
        while let Some(text) = list.next_element::<&RawValue>()? {
            walk.out.push(std::mem::replace(&mut before, b','));
            walk.value(text.get()).map_err(A::Error::custom)?;
        }
        walk.out.extend_from_slice(if before == b'[' { b"[]" } else { b"]" });
        Ok(())
    }
}

/// The values that a segment defines, as its writer knows them.
///
/// It takes about as many bytes as the segment: a value takes more in its own line than here.
#[derive(Debug, Default)]
pub(super) struct DefinedValues {
    names: HashMap<Box<str>, Digest>,
}

impl DefinedValues {
    /// Appends a line for each value that the decision is the first to refer to, then the decision's own line.
    ///
    /// # Errors
    /// If the text is not the JSON of an object; a part of the lines may then stand in `lines`.
    pub(super) fn append(&mut self, decision: &str, lines: &mut Vec<u8>) -> Result<(), ReferenceError> {
        let mut line = Vec::with_capacity(decision.len());
        line.extend_from_slice(DECISION);
        rewrite(decision, &mut line, &mut Define { names: &mut self.names, lines })?;
        line.extend_from_slice(b"}\n");
        lines.extend_from_slice(&line);
        Ok(())
    }

    /// Forgets every value: the next segment defines its own.
    pub(super) fn clear(&mut self) {
        self.names = HashMap::new();
    }
}

/// How the line of a decision begins.
const DECISION: &[u8] = br#"{"decision":"#;

struct Define<'d> {
    names: &'d mut HashMap<Box<str>, Digest>,
    lines: &'d mut Vec<u8>,
}

impl Replace for Define<'_> {
    fn replace(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), ReferenceError> {
        if text.len() < limits::VALUE_BYTES_MIN || !text.starts_with('{') {
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        }
        let digest = Digest::of(text.as_bytes());
        let digits = digest.to_string();
        // The whole digest is nobody else's.
        let mut name = digits.as_str();
        let mut is_new = true;
        for short in NAME_DIGITS.iter().filter_map(|length| digits.get(..*length)) {
            match self.names.get(short) {
                Some(other) if *other != digest => continue,
                known => is_new = known.is_none(),
            }
            name = short;
            break;
        }
        if is_new {
            self.lines.extend_from_slice(br#"{"value":[""#);
            self.lines.extend_from_slice(name.as_bytes());
            self.lines.extend_from_slice(br#"","#);
            self.lines.extend_from_slice(text.as_bytes());
            self.lines.extend_from_slice(b"]}\n");
            self.names.insert(name.into(), digest);
        }
        out.push(b'"');
        out.extend_from_slice(name.as_bytes());
        out.push(b'"');
        Ok(())
    }
}

/// The values that a segment has defined so far, as a reader knows them, and what it may still take to replace references.
#[derive(Debug)]
pub(super) struct KnownValues {
    texts: HashMap<Box<str>, Box<str>>,
    bytes: usize,
    resolved: u64,
    resolved_max: u64,
}

/// The definition of a value.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Definition<'a> {
    #[serde(borrow)]
    value: (&'a str, &'a RawValue),
}

impl KnownValues {
    /// No value yet; the decisions may have so many bytes together.
    pub(super) fn new(resolved_max: u64) -> Self {
        Self { texts: HashMap::new(), bytes: 0, resolved: 0, resolved_max }
    }

    /// Forgets the values of the segment before.
    pub(super) fn clear(&mut self) {
        self.texts = HashMap::new();
        self.bytes = 0;
    }

    /// Takes a line that defines a value. A later definition of a name replaces the earlier one.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub(super) fn define(&mut self, line: &[u8]) -> Result<(), ReferenceError> {
        let Definition { value: (name, text) } = serde_json::from_slice(line)?;
        if !is_name(name) || !Digest::of(text.get().as_bytes()).to_string().starts_with(name) {
            return Err(ReferenceError::WrongName(name.chars().take(NAME_DIGITS[2]).collect()));
        }
        let before = self.texts.insert(name.into(), text.get().into());
        self.bytes =
            self.bytes.saturating_add(text.get().len()).saturating_sub(before.map_or(0, |before| before.len()));
        if self.texts.len() > limits::VALUES_MAX || self.bytes > limits::VALUES_BYTES_MAX {
            return Err(Excess::Values.into());
        }
        Ok(())
    }

    /// Writes to `out` the text of a decision with its references replaced by the values.
    ///
    /// # Errors
    /// [`ReferenceError`].
    pub(super) fn resolve(&mut self, decision: &str, out: &mut Vec<u8>) -> Result<(), ReferenceError> {
        out.clear();
        // What the references add counts, too, where it is too much for one decision.
        let left = self.resolved_max.saturating_sub(self.resolved);
        let resolved = rewrite(decision, out, &mut Resolve { texts: &self.texts, left });
        self.resolved = self.resolved.saturating_add(u64::try_from(out.len()).unwrap_or(u64::MAX));
        resolved?;
        if out.len() > limits::LINE_BYTES_MAX { Err(Excess::Decision.into()) } else { Ok(()) }
    }
}

struct Resolve<'r> {
    texts: &'r HashMap<Box<str>, Box<str>>,
    left: u64,
}

impl Replace for Resolve<'_> {
    fn replace(&mut self, text: &str, out: &mut Vec<u8>) -> Result<(), ReferenceError> {
        let name = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).filter(|name| is_name(name));
        let Some(name) = name else {
            out.extend_from_slice(text.as_bytes());
            return Ok(());
        };
        let value = self.texts.get(name).ok_or_else(|| ReferenceError::Unknown(name.to_owned()))?;
        let length = out.len().saturating_add(value.len());
        if length > limits::LINE_BYTES_MAX {
            return Err(Excess::Decision.into());
        }
        if u64::try_from(length).unwrap_or(u64::MAX) > self.left {
            return Err(Excess::Resolved.into());
        }
        out.extend_from_slice(value.as_bytes());
        Ok(())
    }
}
