//! Lossless JSON objects: members in order, each value as the text that was received.
//!
//! A gateway changes one member of a document and must pass the others through untouched: integers beyond 64 bits,
//! escapes, key order, inner whitespace, members that no schema knows. Never parse a document into a tree to change it;
//! use this. Only the whitespace *between* the members is not kept.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// A JSON object whose untouched members keep their exact bytes.
///
/// Cloning shares the values: a request of many megabytes is held once, however many owners its parameters have.
///
/// Duplicate keys are all kept; looking one up finds the last, as `JSON.parse` does. Keys are compared after their
/// escapes are resolved, and lone surrogates read as U+FFFD; they are written as they came.
#[derive(Clone, Debug, Default)]
pub struct RawObject {
    members: Vec<Member>,
}

/// Why a text is no object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RawError {
    /// The text is no JSON.
    #[error("the text is not JSON")]
    NotJson,
    /// The JSON is something else.
    #[error("the JSON value is not an object")]
    NotAnObject,
}

impl RawObject {
    /// An object without members.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads an object.
    ///
    /// # Errors
    /// [`RawError::NotAnObject`] for any other value.
    pub fn parse(raw: &RawValue) -> Result<Self, RawError> {
        Self::from_str(raw.get())
    }

    /// Reads an object from text.
    ///
    /// # Errors
    /// [`RawError`] if it is none.
    #[allow(clippy::should_implement_trait, reason = "callers need no import; the trait is implemented too")]
    pub fn from_str(text: &str) -> Result<Self, RawError> {
        if !text.trim_start().starts_with('{') {
            let is_json = serde_json::from_str::<&RawValue>(text).is_ok();
            return Err(if is_json { RawError::NotAnObject } else { RawError::NotJson });
        }
        serde_json::from_str(text).map_err(|_| RawError::NotJson)
    }

    /// The value of `key`; the last one if there are several.
    pub fn get(&self, key: &str) -> Option<&RawValue> {
        self.members.iter().rev().find(|member| member.key == key).map(|member| &*member.value)
    }

    /// The value of `key`, if it is a string of Unicode text.
    pub fn get_str(&self, key: &str) -> Option<String> {
        self.get(key).and_then(as_text)
    }

    /// Sets `key`: in the place of the member that [`Self::get`] finds, else at the end. Its duplicates go, so that
    /// every reader sees the new value.
    pub fn set(&mut self, key: &str, value: Box<RawValue>) {
        match self.members.iter().rposition(|member| member.key == key) {
            Some(place) => {
                self.members[place].value = value.into();
                let mut index = 0;
                self.members.retain(|member| {
                    index += 1;
                    index == place + 1 || member.key != key
                });
            }
            None => self.members.push(Member { key: key.to_owned(), written: None, value: value.into() }),
        }
    }

    /// Sets `key` to a string. Its duplicates go; one that is this string already stays as it is written.
    pub fn set_str(&mut self, key: &str, text: &str) {
        let written = self.get(key).filter(|written| as_text(written).as_deref() == Some(text)).map(ToOwned::to_owned);
        self.set(key, written.unwrap_or_else(|| string(text)));
    }

    /// Removes every member with this key and returns the value that [`Self::get`] would have found.
    pub fn remove(&mut self, key: &str) -> Option<Arc<RawValue>> {
        let mut removed = None;
        let mut kept = Vec::with_capacity(self.members.len());
        for member in self.members.drain(..) {
            if member.key == key {
                removed = Some(member.value);
            } else {
                kept.push(member);
            }
        }
        self.members = kept;
        removed
    }

    /// The members in order: keys with their escapes resolved, values as they were received.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RawValue)> {
        self.members.iter().map(|member| (member.key.as_str(), &*member.value))
    }

    /// How many members there are; duplicates count.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// The object as JSON, in the order of its members.
    pub fn to_raw(&self) -> Box<RawValue> {
        let length = self.members.iter().map(|member| member.key.len() + member.value.get().len() + 4).sum::<usize>();
        let mut text = String::with_capacity(length + 2);
        text.push('{');
        for (index, member) in self.members.iter().enumerate() {
            if index > 0 {
                text.push(',');
            }
            match &member.written {
                Some(written) => text.push_str(written),
                None => text.push_str(string(&member.key).get()),
            }
            text.push(':');
            text.push_str(member.value.get());
        }
        text.push('}');
        trusted(text)
    }
}

impl FromStr for RawObject {
    type Err = RawError;

    fn from_str(text: &str) -> Result<Self, RawError> {
        Self::from_str(text)
    }
}

/// A string as raw JSON.
pub fn string(text: &str) -> Box<RawValue> {
    // A string always serialises.
    serde_json::value::to_raw_value(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// A whole number as raw JSON.
pub fn number(value: u64) -> Box<RawValue> {
    trusted(value.to_string())
}

/// `{}` as raw JSON.
pub fn empty_object() -> Box<RawValue> {
    trusted("{}".to_owned())
}

/// The text of a raw string; none if it is no string, or holds a lone surrogate.
pub fn as_text(raw: &RawValue) -> Option<String> {
    serde_json::from_str(raw.get()).ok()
}

/// The text of a raw string, in which lone surrogates are U+FFFD.
pub(crate) fn lossy_text(raw: &RawValue) -> String {
    if let Some(text) = as_text(raw) {
        return text;
    }
    let (mut units, mut buffer) = (Vec::new(), [0; 2]);
    let mut characters = raw.get().trim_matches('"').chars();
    while let Some(character) = characters.next() {
        let escaped = if character == '\\' { characters.next() } else { None };
        let unit = match escaped {
            Some('u') => {
                let digits: String = characters.by_ref().take(4).collect();
                u16::from_str_radix(&digits, 16).unwrap_or(REPLACEMENT)
            }
            Some('b') => 8,
            Some('f') => 12,
            Some('n') => 10,
            Some('r') => 13,
            Some('t') => 9,
            other => {
                units.extend_from_slice(other.unwrap_or(character).encode_utf16(&mut buffer));
                continue;
            }
        };
        units.push(unit);
    }
    String::from_utf16_lossy(&units)
}

/// U+FFFD.
const REPLACEMENT: u16 = 0xfffd;

/// Whether a raw value is an object.
pub fn is_object(raw: &RawValue) -> bool {
    raw.get().starts_with('{')
}

/// Whether a raw value is `null`.
pub fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

/// Whether objects and arrays nest deeper than `most` levels. It takes no stack, however deep they nest.
pub fn is_deeper_than(raw: &RawValue, most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0, false, false);
    for byte in raw.get().bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b'}' | b']' => depth -= 1,
            _ => {}
        }
    }
    false
}

/// Makes raw JSON of a text that this crate put together from raw JSON.
pub(crate) fn trusted(text: String) -> Box<RawValue> {
    // What is put together from valid parts is valid; should that ever be wrong, nothing is better than nonsense.
    RawValue::from_string(text).unwrap_or_else(|_| RawValue::NULL.to_owned())
}

/// `written` is the key with quotes, where writing `key` again would not give the same text.
#[derive(Clone, Debug)]
struct Member {
    key: String,
    written: Option<Box<str>>,
    value: Arc<RawValue>,
}

/// A copy of a received value that its owners share.
fn shared(value: &RawValue) -> Arc<RawValue> {
    value.to_owned().into()
}

impl Member {
    fn received(key: &RawValue, value: &RawValue) -> Self {
        let quoted = key.get();
        let inner = quoted.trim_matches('"');
        let plain = !inner.contains('\\') && inner.len() + 2 == quoted.len();
        if plain && !inner.bytes().any(|byte| byte < b' ') {
            return Self { key: inner.to_owned(), written: None, value: shared(value) };
        }
        Self { key: lossy_text(key), written: Some(quoted.into()), value: shared(value) }
    }
}

impl<'de> Deserialize<'de> for RawObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = RawObject;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawObject, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(Member::received(key, value));
        }
        Ok(RawObject { members })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Documents that a typed model would damage.
    const ODD: [&str; 8] = [
        r#"{"z":1,"a":2,"m":3}"#,
        r#"{"big":123456789012345678901234567890,"exact":1.10,"exponent":1E400,"zero":-0}"#,
        r#"{"escaped":"\u00e9\/\ud83d\ude00","raw":"é/😀"}"#,
        r#"{"twice":1,"twice":{"deep":[1, 2,  3]},"twice":"last"}"#,
        r#"{"sp\u0061ce":{ "inner" :  [ ] },"quote\"d":true,"":null}"#,
        r#"{"lone\ud800key":1,"lone":"\udc00"}"#,
        r#"{"\u0000":0,"\t":1}"#,
        "{}",
    ];

    #[test]
    fn untouched_members_keep_their_bytes() {
        for text in ODD {
            assert_eq!(RawObject::from_str(text).unwrap().to_raw().get(), text);
        }
    }

    #[test]
    fn only_the_whitespace_between_members_is_lost() {
        let object = RawObject::from_str(" {\n \"a\" : [1,  2] ,\t\"b\":{ \"c\": 1 }\n} ").unwrap();
        assert_eq!(object.to_raw().get(), r#"{"a":[1,  2],"b":{ "c": 1 }}"#);
    }

    #[test]
    fn changing_one_member_leaves_the_others_alone() {
        let mut object = RawObject::from_str(ODD[1]).unwrap();
        object.set("exact", string("new"));
        object.set("added\n", number(7));
        assert_eq!(
            object.to_raw().get(),
            r#"{"big":123456789012345678901234567890,"exact":"new","exponent":1E400,"zero":-0,"added\n":7}"#
        );
    }

    #[test]
    fn of_duplicate_keys_the_last_is_found_replaced_and_all_are_removed() {
        let mut object = RawObject::from_str(ODD[3]).unwrap();
        assert_eq!(object.get_str("twice").as_deref(), Some("last"));
        object.set("twice", number(9));
        assert_eq!(object.to_raw().get(), r#"{"twice":9}"#);
        object = RawObject::from_str(ODD[3]).unwrap();
        assert_eq!(object.remove("twice").unwrap().get(), "\"last\"");
        assert!(object.is_empty());
        assert!(object.remove("twice").is_none());
    }

    #[test]
    fn a_string_that_is_set_already_stays_as_it_is_written() {
        let mut object = RawObject::from_str(r#"{"a":"x","b":1,"a":"\/y"}"#).unwrap();
        object.set_str("a", "/y");
        assert_eq!(object.to_raw().get(), r#"{"b":1,"a":"\/y"}"#);
        object.set_str("a", "z");
        assert_eq!(object.to_raw().get(), r#"{"b":1,"a":"z"}"#);
    }

    #[test]
    fn keys_are_compared_after_their_escapes() {
        let object = RawObject::from_str(ODD[4]).unwrap();
        assert_eq!(object.get("space").unwrap().get(), r#"{ "inner" :  [ ] }"#);
        assert_eq!(object.get("quote\"d").unwrap().get(), "true");
        assert_eq!(object.get("").unwrap().get(), "null");
        assert_eq!(object.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["space", "quote\"d", ""]);
    }

    #[test]
    fn lone_surrogates_read_as_replacements_and_other_escapes_as_what_they_are() {
        for (written, text) in [
            (r#""lone\ud800key""#, "lone\u{fffd}key"),
            (r#""\udc00\ud83d\ude00\"\\\/\b\f\n\r\té\u0000""#, "\u{fffd}😀\"\\/\u{8}\u{c}\n\r\té\0"),
            (r#""n\u0061me\u0000\ud800""#, "name\0\u{fffd}"),
            (r#""plain""#, "plain"),
        ] {
            assert_eq!(lossy_text(&RawValue::from_string(written.to_owned()).unwrap()), text);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for text in ["[]", "1", "\"{}\"", "null"] {
            assert_eq!(RawObject::from_str(text).unwrap_err(), RawError::NotAnObject, "{text}");
        }
        for text in ["", "{", "{\"a\":}", "{} {}", "{\"a\":1,}", "nonsense"] {
            assert_eq!(RawObject::from_str(text).unwrap_err(), RawError::NotJson, "{text}");
        }
    }

    #[test]
    fn depth_is_counted_outside_of_strings() {
        for (text, depth) in [
            ("7", 0),
            (r#""[[[""#, 0),
            (r#"{"\"[{":["]",{}]}"#, 3),
            (r#"["\\",[1],[2],{"a":[]}]"#, 3),
            ("[[],[],[]]", 2),
        ] {
            let raw = RawValue::from_string(text.to_owned()).unwrap();
            assert!(!is_deeper_than(&raw, depth), "{text}");
            assert!(depth == 0 || is_deeper_than(&raw, depth - 1), "{text}");
        }
    }

    #[test]
    fn nesting_deeper_than_any_stack_is_passed_through() {
        let text = format!("{{\"deep\":{}{}}}", "[".repeat(200_000), "]".repeat(200_000));
        assert_eq!(RawObject::from_str(&text).unwrap().to_raw().get(), text);
    }
}
