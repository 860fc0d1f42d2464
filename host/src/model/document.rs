//! A JSON document as an owned tree, for values that are signed or digested.
//!
//! Stricter than a usual reader, because two readers must never disagree on what was signed: a member name stands once
//! in an object, every number is finite, nesting is bounded, and nothing follows the document. Numbers are read from
//! their own text, correctly rounded (`serde_json`'s float path is up to one unit off), so that they print as
//! ECMAScript prints them. Faults name a place, never what stands there.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How deep lists and objects may nest; the document itself is the first level.
pub const MAX_DEPTH: usize = 64;

/// Why bytes are no acceptable JSON document. Places are bytes from the document's start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    /// The bytes are not UTF-8.
    #[error("it is not UTF-8 text (at byte {at})")]
    Encoding {
        /// The first byte that is not.
        at: usize,
    },
    /// The text is not JSON, or more follows it.
    #[error("it is not one JSON document (at byte {at})")]
    Syntax {
        /// About where.
        at: usize,
    },
    /// An object has two members of one name.
    #[error("an object has two members of one name (the object begins at byte {at})")]
    RepeatedMember {
        /// Where the object begins.
        at: usize,
    },
    /// Lists and objects nest too deep.
    #[error("it nests deeper than {MAX_DEPTH} levels (at byte {at})")]
    Depth {
        /// Where the first level too many begins.
        at: usize,
    },
    /// A number is too large for a double.
    #[error("a number is out of range (at byte {at})")]
    Number {
        /// Where the number begins.
        at: usize,
    },
}

/// A JSON value. Equal trees have equal canonical forms.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) enum Value {
    /// `null`.
    Null,
    /// `true` or `false`.
    Flag(bool),
    /// A finite number, as ECMAScript holds it.
    Number(f64),
    /// A string.
    Text(String),
    /// An array.
    List(Vec<Self>),
    /// An object.
    Object(Object),
}

impl Value {
    /// The number, if it is an integer from zero to [`MAX_INTEGER`].
    pub(crate) fn as_natural(&self) -> Option<u64> {
        match self {
            // In this range the conversion is exact.
            Self::Number(number) if (0.0..=MAX_INTEGER as f64).contains(number) && number.fract() == 0.0 => {
                Some(*number as u64)
            }
            _ => None,
        }
    }

    /// The text, if it is one.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }
}

/// The greatest integer that is read as one: 2^53 - 1, beyond which doubles skip integers.
pub(crate) const MAX_INTEGER: u64 = (1 << 53) - 1;

/// A JSON object, its members in the document's order, each name once.
#[derive(Clone, PartialEq)]
#[cfg_attr(test, derive(Debug))]
pub(crate) struct Object(Vec<(String, Value)>);

impl Object {
    /// The value of a member.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(own, _)| own == name).map(|(_, value)| value)
    }

    /// All members, in the document's order.
    pub(crate) fn members(&self) -> &[(String, Value)] {
        &self.0
    }

    /// An object of these members, whose names the caller knows to be distinct.
    #[cfg(test)]
    pub(crate) fn of(members: Vec<(String, Value)>) -> Self {
        Self(members)
    }
}

/// A document's text, which its parts are read from and which places are measured in.
#[derive(Clone, Copy)]
pub(crate) struct Source<'a> {
    text: &'a str,
    root: &'a RawValue,
}

impl<'a> Source<'a> {
    /// A document: UTF-8, one JSON value, nothing after it.
    ///
    /// # Errors
    /// [`DocumentFault::Encoding`] or [`DocumentFault::Syntax`].
    pub(crate) fn new(raw: &'a [u8]) -> Result<Self, DocumentFault> {
        let text = std::str::from_utf8(raw).map_err(|error| DocumentFault::Encoding { at: error.valid_up_to() })?;
        let root: &RawValue =
            serde_json::from_str(text).map_err(|error| DocumentFault::Syntax { at: place(text, &error) })?;
        Ok(Self { text, root })
    }

    /// The whole text.
    pub(crate) fn text(&self) -> &'a str {
        self.text
    }

    /// The document's one value.
    pub(crate) fn root(&self) -> &'a RawValue {
        self.root
    }

    /// Where a part stands in the text.
    pub(crate) fn range(&self, part: &RawValue) -> Range<usize> {
        let start = part.get().as_ptr().addr().saturating_sub(self.text.as_ptr().addr());
        start..start + part.get().len()
    }

    /// The members of a part, one level deep; none if it is no object.
    ///
    /// # Errors
    /// [`DocumentFault::RepeatedMember`], or [`DocumentFault::Syntax`] for a name that is no text.
    pub(crate) fn members(&self, part: &'a RawValue) -> Result<Option<RawMembers<'a>>, DocumentFault> {
        if !part.get().starts_with('{') {
            return Ok(None);
        }
        let Members(members) = self.read(part)?;
        let mut names = HashSet::with_capacity(members.len());
        if members.iter().all(|(name, _)| names.insert(name.as_str())) {
            return Ok(Some(members));
        }
        Err(DocumentFault::RepeatedMember { at: self.range(part).start })
    }

    /// The elements of a part, one level deep; none if it is no list.
    ///
    /// # Errors
    /// [`DocumentFault::Syntax`].
    pub(crate) fn elements(&self, part: &'a RawValue) -> Result<Option<Vec<&'a RawValue>>, DocumentFault> {
        if part.get().starts_with('[') { self.read(part).map(Some) } else { Ok(None) }
    }

    /// A part as a tree.
    ///
    /// # Errors
    /// [`DocumentFault`].
    pub(crate) fn value(&self, part: &'a RawValue) -> Result<Value, DocumentFault> {
        self.value_at(part, 1)
    }

    /// The recursion is bounded by [`MAX_DEPTH`]; each level scans its text once more.
    fn value_at(&self, part: &'a RawValue, depth: usize) -> Result<Value, DocumentFault> {
        let at = || self.range(part).start;
        match part.get().as_bytes().first() {
            Some(b'{' | b'[') if depth > MAX_DEPTH => Err(DocumentFault::Depth { at: at() }),
            Some(b'{') => {
                let members = self.members(part)?.unwrap_or_default().into_iter();
                let read = members.map(|(name, value)| Ok((name, self.value_at(value, depth + 1)?)));
                Ok(Value::Object(Object(read.collect::<Result<_, _>>()?)))
            }
            Some(b'[') => {
                let elements = self.elements(part)?.unwrap_or_default().into_iter();
                Ok(Value::List(elements.map(|value| self.value_at(value, depth + 1)).collect::<Result<_, _>>()?))
            }
            Some(b'"') => self.read(part).map(Value::Text),
            Some(b't' | b'f') => self.read(part).map(Value::Flag),
            Some(b'n') => Ok(Value::Null),
            _ => match part.get().parse() {
                Ok(number) if f64::is_finite(number) => Ok(Value::Number(number)),
                _ => Err(DocumentFault::Number { at: at() }),
            },
        }
    }

    fn read<T: Deserialize<'a>>(&self, part: &'a RawValue) -> Result<T, DocumentFault> {
        serde_json::from_str(part.get())
            .map_err(|error| DocumentFault::Syntax { at: self.range(part).start + place(part.get(), &error) })
    }
}

/// The members of an object, each value still text.
pub(crate) type RawMembers<'a> = Vec<(String, &'a RawValue)>;

/// Reads a whole document as a tree.
///
/// # Errors
/// [`DocumentFault`].
pub(crate) fn parse(raw: &[u8]) -> Result<Value, DocumentFault> {
    let source = Source::new(raw)?;
    source.value(source.root())
}

/// All members in order, repeated ones included.
struct Members<'a>(RawMembers<'a>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The byte that an error's line and column mean.
fn place(text: &str, error: &serde_json::Error) -> usize {
    let before = text.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    (before + error.column().saturating_sub(1)).min(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_name_stands_once_in_an_object_however_it_is_spelt() {
        let text = br#"{"a":[{"b":1,"\u0062":2}]}"#;
        assert_eq!(parse(text), Err(DocumentFault::RepeatedMember { at: 6 }));
        assert!(parse(br#"[{"a":1},{"a":2}]"#).is_ok());
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(DocumentFault::Depth { at: MAX_DEPTH }));
        assert_eq!(parse(nested(100_000).as_bytes()), Err(DocumentFault::Depth { at: MAX_DEPTH }));
    }

    #[test]
    fn numbers_are_the_nearest_doubles_and_finite() {
        for (text, number) in [
            ("12345678901234567890", 12_345_678_901_234_567_000.0),
            ("-0", -0.0),
            ("1.0", 1.0),
            ("9007199254740993", 9_007_199_254_740_992.0),
            ("1e-400", 0.0),
            ("2.2250738585072011e-308", 2.225_073_858_507_201e-308),
        ] {
            assert_eq!(parse(text.as_bytes()), Ok(Value::Number(number)), "{text}");
        }
        assert_eq!(parse(b"[1e400]"), Err(DocumentFault::Number { at: 1 }));
    }

    #[test]
    fn only_integers_that_doubles_hold_exactly_are_integers() {
        for (text, natural) in [
            ("0", Some(0)),
            ("120.0", Some(120)),
            ("9007199254740991", Some(MAX_INTEGER)),
            ("-1", None),
            ("0.5", None),
            ("9007199254740992", None),
            ("1e300", None),
            ("\"1\"", None),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap().as_natural(), natural, "{text}");
        }
    }

    #[test]
    fn what_is_not_one_json_document_is_refused_with_its_place() {
        assert_eq!(parse(b"<html>"), Err(DocumentFault::Syntax { at: 0 }));
        assert_eq!(parse(b"{\"a\":\n 1} x").map(|_| ()), Err(DocumentFault::Syntax { at: 10 }));
        assert_eq!(parse(b"[\"\xff\"]"), Err(DocumentFault::Encoding { at: 2 }));
        for text in
            ["", " ", "[1,]", "{\"a\"}", "[01]", "nul", "\u{feff}{}", r#"["\ud800"]"#, r#"{"\udc00":1}"#, "[\"\u{1}\"]"]
        {
            assert!(matches!(parse(text.as_bytes()), Err(DocumentFault::Syntax { .. })), "{text}");
        }
    }

    #[test]
    fn members_keep_the_order_of_the_document() {
        let Ok(Value::Object(object)) = parse(br#"{"b":1,"a":"\ud83d\ude00"}"#) else { panic!("an object") };
        assert_eq!(object.members()[0].0, "b");
        assert_eq!(object.get("a").and_then(Value::as_text), Some("😀"));
    }
}
