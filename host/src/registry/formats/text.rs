//! JSON with comments and trailing commas, and a byte order mark before it, as a tree.
//!
//! Nothing else of JSON's looser relatives is accepted, and a member name stands once in an object: two readers must
//! never take one file for two things. Faults name a line and a column, never what stands there.

use std::fmt;

use jsonc_parser::ParseOptions;
use jsonc_parser::errors::{ParseError, ParseErrorKind};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::limits::{MAX_DEPTH, MAX_IMPORT_BYTES};
use super::report::ImportError;

/// Reads a file.
///
/// # Errors
/// [`ImportError`]: its size, its encoding, its syntax or its depth.
pub(super) fn read(bytes: &[u8]) -> Result<Value, ImportError> {
    if bytes.len() > MAX_IMPORT_BYTES {
        return Err(ImportError::TooLarge);
    }
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => {
            let (line, column) = place(&String::from_utf8_lossy(&bytes[..error.valid_up_to()]));
            return Err(ImportError::Encoding { line, column });
        }
    };
    if depth(text) > MAX_DEPTH {
        return Err(ImportError::TooDeep);
    }
    match jsonc_parser::parse_to_serde_value::<Tree>(text, &OPTIONS) {
        // The parser takes a file without any value for `null`.
        Ok(Tree(Value::Null)) => Err(ImportError::Shape),
        Ok(Tree(value)) => Ok(value),
        Err(error) => Err(fault(&error)),
    }
}

const OPTIONS: ParseOptions = ParseOptions {
    allow_comments: true,
    allow_loose_object_property_names: false,
    allow_trailing_commas: true,
    allow_missing_commas: false,
    allow_single_quoted_strings: false,
    allow_hexadecimal_numbers: false,
    allow_unary_plus_numbers: false,
    allow_bare_decimal_point_numbers: false,
    allow_non_finite_numbers: false,
    allow_extended_string_escapes: false,
};

/// What a tree's reader says of a repeated name; the parser passes it on as it is.
const REPEATED: &str = "repeated member";

fn fault(error: &ParseError) -> ImportError {
    let (line, column) = (error.line_display(), error.column_display());
    match error.kind() {
        ParseErrorKind::Custom(message) if message == REPEATED => ImportError::Repeated { line, column },
        ParseErrorKind::NestingDepthExceeded => ImportError::TooDeep,
        _ => ImportError::Syntax { line, column },
    }
}

/// The line and the column after a text.
fn place(before: &str) -> (usize, usize) {
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let last = before.rsplit('\n').next().unwrap_or_default();
    (line, last.chars().count() + 1)
}

/// How deep a text nests. The parser recurses, so this is known before it begins.
fn depth(text: &str) -> usize {
    let mut bytes = text.bytes().peekable();
    let (mut depth, mut deepest) = (0_usize, 0);
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'\\' => {
                            bytes.next();
                        }
                        b'"' => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek() == Some(&b'/') => {
                for byte in bytes.by_ref() {
                    if matches!(byte, b'\n' | b'\r') {
                        break;
                    }
                }
            }
            b'/' if bytes.peek() == Some(&b'*') => {
                bytes.next();
                while let Some(byte) = bytes.next() {
                    if byte == b'*' && bytes.peek() == Some(&b'/') {
                        bytes.next();
                        break;
                    }
                }
            }
            _ => {}
        }
    }
    deepest
}

/// A tree whose objects have each name once.
struct Tree(Value);

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Build).map(Self)
    }
}

struct Build;

impl<'de> Visitor<'de> for Build {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E: Error>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Tree(value)) = access.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some((name, Tree(value))) = access.next_entry::<String, Tree>()? {
            if members.insert(name, value).is_some() {
                return Err(A::Error::custom(REPEATED));
            }
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_trailing_commas_and_a_byte_order_mark_are_allowed() {
        let text = "\u{feff}// first\n{\"a\": [1, -2.5, true, null,], /* \" [ */ \"b\": \"\\u00e9 // no\",}\n";
        assert_eq!(read(text.as_bytes()), Ok(json!({"a": [1, -2.5, true, null], "b": "é // no"})));
    }

    #[test]
    fn nothing_else_is() {
        for text in
            ["{a: 1}", "{'a': 1}", "[0x1]", "[1 2]", "[+1]", "[.5]", "[NaN]", "{} {}", "{", "[1", "\"a", "/*", "<a>"]
        {
            assert!(matches!(read(text.as_bytes()), Err(ImportError::Syntax { .. })), "{text}");
        }
        for text in ["", " \n", "null", "// only"] {
            assert_eq!(read(text.as_bytes()), Err(ImportError::Shape), "{text}");
        }
    }

    #[test]
    fn a_fault_names_its_line_and_column() {
        assert_eq!(read(b"{\n  \"a\": s3cr3t\n}"), Err(ImportError::Syntax { line: 2, column: 8 }));
        assert_eq!(
            read("{\n \"é\": \"\u{1}".as_bytes())
                .map(|_| ())
                .map_err(|error| matches!(error, ImportError::Syntax { line: 2, .. })),
            Err(true)
        );
        assert_eq!(read(b"{\n \"\xff\""), Err(ImportError::Encoding { line: 2, column: 3 }));
    }

    #[test]
    fn a_member_name_stands_once_in_an_object() {
        assert!(matches!(read(b"{\"a\": 1,\n \"\\u0061\": 2}"), Err(ImportError::Repeated { .. })));
        assert!(read(br#"[{"a": 1}, {"a": 2}]"#).is_ok());
    }

    #[test]
    fn nesting_and_size_are_bounded() {
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(read(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(read(nested(MAX_DEPTH + 1).as_bytes()), Err(ImportError::TooDeep));
        assert_eq!(read("[".repeat(1_000_000).as_bytes()), Err(ImportError::TooDeep));
        let quiet = format!("[\"{0}\", /*{0}*/ 1] // {0}", "[{\\\"".repeat(100));
        assert!(read(quiet.as_bytes()).is_ok());
        assert_eq!(read(&vec![b' '; MAX_IMPORT_BYTES + 1]), Err(ImportError::TooLarge));
    }
}
