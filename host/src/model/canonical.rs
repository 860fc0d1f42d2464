//! The canonical text of a JSON value: the bytes that signatures and digests are made of.
//!
//! ECMAScript's `JSON.stringify` without white space, members sorted by name at every level. Names compare by UTF-16
//! code unit (not by locale, not by code point); text stays raw UTF-8 and only `"`, `\` and U+0000 to U+001F are
//! escaped; numbers are written as ECMAScript writes them. Any other spelling breaks every signature in the field.

use std::fmt::Write as _;

use serde_json::value::RawValue;

use super::document::{self, Object, Value};
use super::raw::{self, RawObject};
use super::{Digest, META_CONNECTOR, META_PATH};

/// The digest of a definition's canonical form without what gateways add to its `_meta`. A definition that has no canonical
/// form (it nests too deeply, repeats a member or holds a number that no double is) is digested as it is written. So is one
/// whose canonical form is not the same value: beyond 2^53 doubles skip integers (RFC 8259, section 6), and a reader with
/// wider numbers reads another one.
pub(super) fn definition_digest(definition: &RawValue) -> Digest {
    let stripped = without_gateway_keys(definition);
    let text = stripped.as_deref().unwrap_or(definition).get();
    match document::parse(text.as_bytes()) {
        Ok(value) if numbers(text).all(is_double) => {
            let mut canonical = String::with_capacity(text.len());
            write_value(&mut canonical, &value);
            Digest::of(canonical.as_bytes())
        }
        _ => Digest::of(text.as_bytes()),
    }
}

/// The numbers in a JSON text, as they are written.
fn numbers(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        loop {
            let start = rest.find(|character: char| matches!(character, '"' | '-' | '0'..='9'))?;
            let (is_text, from) = (rest[start..].starts_with('"'), &rest[start..]);
            let end = if is_text { end_of_text(from) } else { from.find([',', ']', '}', ' ', '\t', '\n', '\r']) };
            let (token, after) = from.split_at(end.unwrap_or(from.len()));
            rest = after;
            if !is_text {
                return Some(token);
            }
        }
    })
}

/// Where the JSON string ends that a text begins with.
fn end_of_text(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    let quote = text.char_indices().skip(1).find(|(_, character)| {
        let ends = *character == '"' && !is_escaped;
        is_escaped = *character == '\\' && !is_escaped;
        ends
    });
    quote.map(|(at, _)| at + 1)
}

/// Whether the double that is read from a number is written as a number of the same value.
fn is_double(number: &str) -> bool {
    let written = number.parse().map(|double: f64| Decimal::of(ryu_js::Buffer::new().format(double)));
    written.is_ok_and(|written| written.is_some() && written == Decimal::of(number))
}

/// The value of a number: one for each way to write it.
#[derive(PartialEq, Eq)]
struct Decimal {
    sign: char,
    /// Without zeros at either end; empty for zero.
    digits: String,
    /// The power of ten of the last digit; 0 for zero.
    exponent: i64,
}

impl Decimal {
    /// Reads a JSON number; none if the exponent is out of range.
    fn of(number: &str) -> Option<Self> {
        let (sign, number) = number.strip_prefix('-').map_or(('+', number), |positive| ('-', positive));
        let (mantissa, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        let short = digits.trim_end_matches('0');
        let dropped = i64::try_from(digits.len() - short.len()).ok()? - i64::try_from(fraction.len()).ok()?;
        let exponent: i64 = exponent.parse().ok()?;
        let exponent = if short.is_empty() { 0 } else { exponent.checked_add(dropped)? };
        Some(Self { sign, digits: short.trim_start_matches('0').to_owned(), exponent })
    }
}

/// The definition without the `_meta` keys of gateways; none if it has none of them.
fn without_gateway_keys(definition: &RawValue) -> Option<Box<RawValue>> {
    let mut object = RawObject::parse(definition).ok()?;
    let mut meta = RawObject::parse(object.get("_meta").filter(|meta| raw::is_object(meta))?).ok()?;
    let mut has_any = false;
    for key in [META_PATH, META_CONNECTOR] {
        has_any |= meta.remove(key).is_some();
    }
    if meta.is_empty() {
        object.remove("_meta");
    } else {
        object.set("_meta", meta.to_raw());
    }
    has_any.then(|| object.to_raw())
}

/// The canonical text of an object without one of its own members: a signature is not part of what it signs.
pub(crate) fn object_without(object: &Object, excluded: &str) -> String {
    let mut text = String::new();
    write_object(&mut text, object, Some(excluded));
    text
}

/// The canonical text of a value. The recursion is as deep as the value, which the reader has bounded.
fn write_value(text: &mut String, value: &Value) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Flag(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(ryu_js::Buffer::new().format_finite(*number)),
        Value::Text(content) => write_text(text, content),
        Value::List(elements) => {
            text.push('[');
            for (index, element) in elements.iter().enumerate() {
                if index > 0 {
                    text.push(',');
                }
                write_value(text, element);
            }
            text.push(']');
        }
        Value::Object(object) => write_object(text, object, None),
    }
}

fn write_object(text: &mut String, object: &Object, excluded: Option<&str>) {
    let mut members: Vec<_> = object.members().iter().filter(|(name, _)| Some(name.as_str()) != excluded).collect();
    members.sort_by(|(left, _), (right, _)| left.encode_utf16().cmp(right.encode_utf16()));
    text.push('{');
    for (index, (name, value)) in members.into_iter().enumerate() {
        if index > 0 {
            text.push(',');
        }
        write_text(text, name);
        text.push(':');
        write_value(text, value);
    }
    text.push('}');
}

fn write_text(text: &mut String, content: &str) {
    text.push('"');
    for character in content.chars() {
        match character {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\u{8}' => text.push_str("\\b"),
            '\t' => text.push_str("\\t"),
            '\n' => text.push_str("\\n"),
            '\u{c}' => text.push_str("\\f"),
            '\r' => text.push_str("\\r"),
            '\0'..='\u{1f}' => {
                // Writing to a string never fails.
                let _ = write!(text, "\\u{:04x}", u32::from(character));
            }
            _ => text.push(character),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::document::parse;

    fn canonical(text: &str) -> String {
        let mut written = String::new();
        write_value(&mut written, &parse(text.as_bytes()).unwrap());
        written
    }

    #[test]
    fn numbers_are_written_as_ecmascript_writes_them() {
        for (read, written) in [
            ("1.0", "1"),
            ("-0", "0"),
            ("-0.0", "0"),
            ("1e21", "1e+21"),
            ("1E+20", "100000000000000000000"),
            ("0.000001", "0.000001"),
            ("1e-7", "1e-7"),
            ("12345678901234567890", "12345678901234567000"),
            ("9007199254740993", "9007199254740992"),
            ("0.1", "0.1"),
            ("-1.50", "-1.5"),
            ("5e-324", "5e-324"),
            ("1.7976931348623157e308", "1.7976931348623157e+308"),
            ("333333333.33333329", "333333333.3333333"),
        ] {
            assert_eq!(canonical(read), written, "{read}");
        }
    }

    #[test]
    fn only_quotes_backslashes_and_controls_are_escaped() {
        assert_eq!(
            canonical("\"\\u0000\\u001f\\b\\t\\n\\f\\r\\\"\\\\\\/\\u007f\\u2028é😀\""),
            "\"\\u0000\\u001f\\b\\t\\n\\f\\r\\\"\\\\/\u{7f}\u{2028}é😀\""
        );
    }

    #[test]
    fn names_sort_by_utf16_code_unit_at_every_level() {
        let read = r#" [ {"a_b":1,"a-b":2,"aB":3,"ab":4,"10":5,"9":6,"\ue000":7,"😀":8,"x":{"b":[ ],"a":{ }}} ] "#;
        let written = r#"[{"10":5,"9":6,"a-b":2,"aB":3,"a_b":1,"ab":4,"x":{"a":{},"b":[]},"😀":8,"\ue000":7}]"#;
        assert_eq!(canonical(read), written.replace("\\ue000", "\u{e000}"));
    }

    #[test]
    fn only_the_outermost_signature_is_left_out() {
        let Ok(Value::Object(object)) = parse(br#"{"signature":1,"a":{"signature":2}}"#) else { panic!("an object") };
        assert_eq!(object_without(&object, "signature"), r#"{"a":{"signature":2}}"#);
    }

    #[test]
    fn a_definition_has_the_digest_of_what_its_server_wrote() {
        let digest = |text: &str| definition_digest(&raw::trusted(text.to_owned()));
        let plain = digest(r#"{"name":"a","n":1,"_meta":{"x":1}}"#);
        for same in [
            r#" { "n" : 1.0, "_meta": {"x":1}, "name":"\u0061" }"#,
            r#"{"name":"a","n":1,"_meta":{"com.brainwav.cortex/path":["0"],"x":1,"com.brainwav.cortex/connector":{}}}"#,
        ] {
            assert_eq!(digest(same), plain, "{same}");
        }
        let bare = digest(r#"{"name":"a"}"#);
        assert_eq!(digest(r#"{"name":"a","_meta":{"com.brainwav.cortex/path":[]}}"#), bare);
        for other in [r#"{"name":"a","_meta":{"x":2},"n":1}"#, r#"{"name":"a","n":1}"#, r#"{"name":"a","_meta":{}}"#] {
            assert!(digest(other) != plain && digest(other) != bare, "{other}");
        }
        let deep = |inner: &str| format!(r#"{{"name":"a","x":{}{inner}{}}}"#, "[".repeat(99), "]".repeat(99));
        assert_ne!(digest(&deep("1")), digest(&deep("2")));
    }

    #[test]
    fn numbers_that_doubles_confuse_have_digests_of_their_own() {
        let digest = |number: &str| definition_digest(&raw::trusted(format!(r#"{{"a":"\\\"1","n":[{number}]}}"#)));
        for same in [&["1", "1.0", "10e-1", "0.1E+1"][..], &["0", "0.0", "0e9"], &["1e21", "1E+21"], &["-1.50", "-1.5"]]
        {
            for number in same {
                assert_eq!(digest(number), digest(same[0]), "{number}");
            }
        }
        for other in [
            ["9007199254740993", "9007199254740992"],
            ["12345678901234567890", "12345678901234567891"],
            ["0.1", "0.1000000000000000055511151231257827"],
            ["1e-400", "0"],
            ["-0", "0"],
            ["0e99999999999999999999", "0"],
        ] {
            assert_ne!(digest(other[0]), digest(other[1]), "{other:?}");
        }
    }

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Flag),
            any::<f64>().prop_filter("finite", |number| number.is_finite()).prop_map(Value::Number),
            any::<String>().prop_map(Value::Text),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..5)
                    .prop_map(|members| Value::Object(Object::of(members.into_iter().collect()))),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_canonical_form_of_a_canonical_form_is_itself(value in values()) {
            let mut once = String::new();
            write_value(&mut once, &value);
            prop_assert_eq!(&canonical(&once), &once);
        }

        /// Two integers are one digest only if they are one integer, also beside text that looks like one.
        #[test]
        fn each_integer_has_a_digest_of_its_own(one in any::<i128>(), step in 1..9i128, text in any::<String>()) {
            let digest = |number: i128| {
                definition_digest(&raw::trusted(format!(r#"{{{}:{number}}}"#, raw::string(&text))))
            };
            prop_assert_ne!(digest(one), digest(one.wrapping_add(step)));
        }

        #[test]
        fn the_order_of_members_and_white_space_do_not_matter(value in values()) {
            let mut once = String::new();
            write_value(&mut once, &value);
            let mut respelt = String::new();
            respell(&mut respelt, &value);
            prop_assert_eq!(canonical(&respelt), once);
        }
    }

    /// The value with its members in reverse order and white space between everything.
    fn respell(text: &mut String, value: &Value) {
        match value {
            Value::List(elements) => {
                text.push('[');
                for (index, element) in elements.iter().enumerate() {
                    text.push_str(if index > 0 { ",\n" } else { " " });
                    respell(text, element);
                }
                text.push_str("\t]");
            }
            Value::Object(object) => {
                text.push('{');
                for (index, (name, value)) in object.members().iter().rev().enumerate() {
                    text.push_str(if index > 0 { "\n, " } else { " " });
                    write_text(text, name);
                    text.push_str(" : ");
                    respell(text, value);
                }
                text.push_str(" }");
            }
            other => write_value(text, other),
        }
    }
}
