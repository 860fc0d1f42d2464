//! References: a value that a segment repeats is defined once, in a line of its own, and named where it is repeated.
//!
//! A definition is the line `{"value":["<name>",<JSON>]}`; the name is the beginning of the lower-case hexadecimal SHA-256
//! of the value's JSON text. In a decision a string that is such a name takes the place of an object, at the members of
//! [`RECORD`] and nowhere else. A definition precedes what refers to it in the same segment, and contains no reference
//! itself. What is short stays in the decision: a reference takes eight bytes, which do not compress.

use std::collections::HashMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};
use serde_json::value::RawValue;

use super::limits;
use crate::model::Digest;

/// The content of a member of a decision.
#[derive(Debug)]
enum Member {
    /// A value, or a reference to one.
    Value,
    /// A list of values and references.
    List,
    /// An object with these members, and others, which hold no reference.
    Object(&'static [(&'static str, Member)]),
}

/// Where a decision may contain references: one table for writers and readers. An enumeration's case, which may be at
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
/// compress. Of the ten thousand values of a full segment some three need more than six digits.
const NAME_DIGITS: [usize; 3] = [6, 16, 64];

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
    /// A header is too long.
    #[error("the header has more than {} bytes", limits::HEADER_BYTES_MAX)]
    Header,
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

/// Copies the text of a decision to `out`, with what may be a reference replaced by `replace`. The text is
/// gone through once: a gateway writes many thousands a second.
fn rewrite(decision: &str, out: &mut Vec<u8>, replace: &mut impl Replace) -> Result<(), ReferenceError> {
    let mut copy = Copy { out, replace, failed: None };
    let mut text = serde_json::Deserializer::from_str(decision);
    let copied = At(&mut copy, &RECORD).deserialize(&mut text).and_then(|()| text.end());
    copy.failed.map_or(copied.map_err(Into::into), Err)
}

struct Copy<'c, R> {
    out: &'c mut Vec<u8>,
    replace: &'c mut R,
    /// The error that ended it, if the JSON is not at fault: a visitor can only return errors of its format.
    failed: Option<ReferenceError>,
}

impl<R: Replace> Copy<'_, R> {
    fn value<E: Error>(&mut self, text: &str) -> Result<(), E> {
        self.replace.replace(text, self.out).map_err(|error| {
            let reported = E::custom(&error);
            self.failed = Some(error);
            reported
        })
    }
}

/// Copies the content of a member.
struct At<'a, 'c, R>(&'a mut Copy<'c, R>, &'static Member);

impl<'de, R: Replace> DeserializeSeed<'de> for At<'_, '_, R> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, text: D) -> Result<(), D::Error> {
        match self.1 {
            Member::Value => self.0.value(<&RawValue>::deserialize(text)?.get()),
            Member::List | Member::Object(_) => text.deserialize_any(self),
        }
    }
}

impl<'de, R: Replace> Visitor<'de> for At<'_, '_, R> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if matches!(self.1, Member::List) { "a list" } else { "an object, a number or null" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self(copy, Member::Object(members)) = self else {
            return Err(A::Error::invalid_type(Unexpected::Map, &self));
        };
        copy.out.push(b'{');
        let mut is_first = true;
        while let Some(key) = map.next_key::<&RawValue>()? {
            if !std::mem::take(&mut is_first) {
                copy.out.push(b',');
            }
            copy.out.extend_from_slice(key.get().as_bytes());
            copy.out.push(b':');
            let name = key.get().trim_matches('"');
            match members.iter().find(|(known, _)| *known == name) {
                Some((_, member)) => map.next_value_seed(At(&mut *copy, member))?,
                None => copy.out.extend_from_slice(map.next_value::<&RawValue>()?.get().as_bytes()),
            }
        }
        copy.out.push(b'}');
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Self(copy, Member::List) = self else { return Err(A::Error::invalid_type(Unexpected::Seq, &self)) };
        copy.out.push(b'[');
        let mut is_first = true;
        while let Some(text) = list.next_element::<&RawValue>()? {
            if !std::mem::take(&mut is_first) {
                copy.out.push(b',');
            }
            copy.value(text.get())?;
        }
        copy.out.push(b']');
        Ok(())
    }

    /// There is no output, if even the embedded default gave none.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        self.0.out.extend_from_slice(b"null");
        Ok(())
    }

    /// A result that is a number.
    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.0.out.extend_from_slice(number.to_string().as_bytes());
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
    /// If the text is not the JSON of an object; a part of the lines may then be in `lines`.
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

/// How the line of a decision begins, as a gateway writes it.
pub(super) const DECISION: &[u8] = br#"{"decision":"#;

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
        // The whole digest is no other value's.
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

#[cfg(test)]
mod tests {
    use super::*;

    const STATE: &str = r#"{"phase":"Idle","failures":18446744073709551615,"memo":[0,1,2]}"#;

    fn decision(state: &str) -> String {
        format!(
            r#"{{"a":[1.50,{{}}],"input":{{"arguments":{{"state":{state},"b":{{}}}}}},"output":null,"c":"\u00f6"}}"#
        )
    }

    fn written(values: &mut DefinedValues, decision: &str) -> Vec<String> {
        let mut lines = Vec::new();
        values.append(decision, &mut lines).unwrap();
        String::from_utf8(lines).unwrap().lines().map(str::to_owned).collect()
    }

    fn resolved(known: &mut KnownValues, lines: &[String]) -> Result<String, ReferenceError> {
        let (decision, definitions) = lines.split_last().unwrap();
        for line in definitions {
            known.define(line.as_bytes())?;
        }
        let mut out = Vec::new();
        known.resolve(&decision[DECISION.len()..decision.len() - 1], &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    #[test]
    fn value_is_defined_once_and_the_text_comes_out_as_it_went_in() {
        let (mut values, mut known) = (DefinedValues::default(), KnownValues::new(limits::RESOLVED_BYTES_MAX));
        let text = decision(STATE);
        for definitions in [1, 0, 0] {
            let lines = written(&mut values, &text);
            assert_eq!(lines.len(), 1 + definitions, "{lines:?}");
            assert_eq!(resolved(&mut known, &lines).unwrap(), text);
        }
        values.clear();
        assert_eq!(written(&mut values, &text).len(), 2);
        for other in [r#""Empty""#, "{}", r#"{"short":1}"#, r#""not a name""#] {
            let lines = written(&mut values, &decision(other));
            assert_eq!((lines.len(), resolved(&mut known, &lines).unwrap()), (1, decision(other)));
        }
        for result in ["5000", "null", r#"{"state":"Fresh","entries":[]}"#] {
            let text = format!(r#"{{"output":{{"function":"f","result":{result}}}}}"#);
            let lines = written(&mut values, &text);
            assert_eq!((lines.len(), resolved(&mut known, &lines).unwrap()), (1, text));
        }
    }

    #[test]
    fn name_is_longer_where_a_shorter_one_is_another_values() {
        let digits = Digest::of(STATE.as_bytes()).to_string();
        for (taken, expected) in [(0, 6), (1, 16), (2, 64)] {
            let mut values = DefinedValues::default();
            for length in &NAME_DIGITS[..taken] {
                values.names.insert(digits[..*length].into(), Digest::of(b"another"));
            }
            let lines = written(&mut values, &decision(STATE));
            assert!(lines[0].starts_with(&format!(r#"{{"value":["{}",{{"#, &digits[..expected])), "{lines:?}");
            let mut known = KnownValues::new(limits::RESOLVED_BYTES_MAX);
            assert_eq!(resolved(&mut known, &lines).unwrap(), decision(STATE));
        }
    }

    #[test]
    fn text_that_is_no_decision_is_an_error() {
        for text in ["", "{", "5 6", r#"{"input":{"arguments":[]}}"#, r#"{"input":{"arguments":{"base":{}}}}"#, "{} {}"]
        {
            let mut values = DefinedValues::default();
            assert!(values.append(text, &mut Vec::new()).is_err(), "{text}");
        }
    }

    #[test]
    fn references_are_followed_to_a_bound() {
        let lines = written(&mut DefinedValues::default(), &decision(STATE));
        let length = u64::try_from(decision(STATE).len()).unwrap();
        let mut known = KnownValues::new(2 * length);
        for _ in 0..2 {
            resolved(&mut known, &lines).unwrap();
        }
        let third = resolved(&mut known, &lines);
        assert!(matches!(third, Err(ReferenceError::Excess(Excess::Resolved))), "{third:?}");
        let unknown = resolved(&mut KnownValues::new(length), &lines[1..]);
        assert!(matches!(&unknown, Err(ReferenceError::Unknown(name)) if lines[0].contains(name)), "{unknown:?}");
        let wrong = known.define(lines[0].replace("Idle", "Busy").as_bytes());
        assert!(matches!(wrong, Err(ReferenceError::WrongName(_))), "{wrong:?}");
    }
}
