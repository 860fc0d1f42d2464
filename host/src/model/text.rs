//! Text of servers, files, traces and documents, escaped for output: it must not move the cursor, recolor a terminal, turn the
//! direction in which a line is read, or hide instructions that a model reads and a person does not see.
//!
//! Every output goes through one of these functions. Each is idempotent and leaves other text as it is.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Characters that act or are invisible, in order: the general categories `Cc`, `Cf`, `Zl`, `Zp` and `Co`, the property
/// `Default_Ignorable_Code_Point`, and the noncharacters of plane 0; those of other planes follow a rule
/// ([`is_hidden`]).
///
/// Source: Unicode 16.0, <https://www.unicode.org/Public/16.0.0/ucd/UnicodeData.txt> and
/// <https://www.unicode.org/Public/16.0.0/ucd/DerivedCoreProperties.txt>. A test compares the table with `regex-syntax`.
const HIDDEN: [(char, char); 29] = [
    ('\u{0}', '\u{1f}'),
    ('\u{7f}', '\u{9f}'),
    ('\u{ad}', '\u{ad}'),
    ('\u{34f}', '\u{34f}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{e000}', '\u{f8ff}'),
    ('\u{fdd0}', '\u{fdef}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{fff0}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    // Tag characters and the supplement of variation selectors; then the planes for private use.
    ('\u{e0000}', '\u{e0fff}'),
];

/// The first character of the planes for private use.
const PRIVATE_PLANES: char = '\u{f0000}';

/// Whether a character acts on a terminal or is invisible. Line breaks and tabs are among them.
pub fn is_hidden(character: char) -> bool {
    // Most text is ASCII.
    if character.is_ascii() {
        return character.is_ascii_control();
    }
    let is_noncharacter = u32::from(character) & 0xfffe == 0xfffe;
    is_noncharacter
        || character >= PRIVATE_PLANES
        || HIDDEN
            .binary_search_by(|(first, last)| match character {
                _ if *last < character => std::cmp::Ordering::Less,
                _ if *first > character => std::cmp::Ordering::Greater,
                _ => std::cmp::Ordering::Equal,
            })
            .is_ok()
}

/// The text in one line, each hidden character as `\u{202e}`.
pub fn escape(text: &str) -> Cow<'_, str> {
    replace(text, is_hidden, push_braced)
}

/// The same, but line breaks and tabs stay.
pub fn escape_lines(text: &str) -> Cow<'_, str> {
    replace(text, is_hidden_in_lines, push_braced)
}

/// A JSON document with the same value, in which hidden characters are escaped as `\u202e`.
pub fn escape_json(json: &str) -> Cow<'_, str> {
    replace(json, is_hidden_in_lines, |character, escaped| {
        if character.is_ascii_control() && character != '\u{7f}' {
            // JSON has none in a string, so this is white space between two tokens.
            return escaped.push(' ');
        }
        for unit in character.encode_utf16(&mut [0; 2]) {
            // Writing to a string does not fail.
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    })
}

/// A TOML document in which hidden characters are escaped as `\U0000202e`: with the same value, if they stand in basic strings
/// only. A literal string (`'...'`) has no escapes.
pub fn escape_toml(toml: &str) -> Cow<'_, str> {
    replace(toml, is_hidden_in_lines, |character, escaped| {
        let _ = write!(escaped, "\\U{:08x}", u32::from(character));
    })
}

fn is_hidden_in_lines(character: char) -> bool {
    is_hidden(character) && !matches!(character, '\n' | '\t')
}

fn push_braced(character: char, escaped: &mut String) {
    // Writing to a string does not fail.
    let _ = write!(escaped, "\\u{{{:x}}}", u32::from(character));
}

fn replace(text: &str, is_replaced: fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let Some(first) = text.find(is_replaced) else { return Cow::Borrowed(text) };
    let mut escaped = String::with_capacity(text.len() + 16);
    escaped.push_str(&text[..first]);
    for character in text[first..].chars() {
        if is_replaced(character) {
            write(character, &mut escaped);
        } else {
            escaped.push(character);
        }
    }
    Cow::Owned(escaped)
}

#[cfg(test)]
mod tests {
    use regex_syntax::hir::HirKind;

    use super::*;

    /// Every character, in order.
    fn all() -> String {
        ('\0'..=char::MAX).collect()
    }

    /// Every character of a class of `regex-syntax`.
    fn class(pattern: &str) -> Vec<char> {
        let hir = regex_syntax::parse(pattern).unwrap();
        let HirKind::Class(regex_syntax::hir::Class::Unicode(class)) = hir.kind() else { panic!("{pattern}") };
        class.ranges().iter().flat_map(|range| range.start()..=range.end()).collect()
    }

    #[test]
    fn hidden_is_what_the_unicode_properties_call_so() {
        let expected =
            class(r"[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Default_Ignorable_Code_Point}\p{Noncharacter_Code_Point}]");
        let found: Vec<char> = all().chars().filter(|character| is_hidden(*character)).collect();
        let differs = |one: &[char], other: &[char]| one.iter().find(|character| !other.contains(character)).copied();
        assert!(found == expected, "{:?} {:?}", differs(&found, &expected), differs(&expected, &found));
    }

    #[test]
    fn no_escaped_text_holds_a_hidden_character_and_escaping_twice_changes_nothing() {
        let all = all();
        for escape in [escape, escape_lines] {
            let escaped = escape(&all).into_owned();
            let kept = |character: char| !is_hidden(character) || matches!(character, '\n' | '\t');
            assert!(escaped.chars().all(kept));
            assert_eq!(escape(&escaped), escaped);
        }
        assert!(!escape(&all).contains(['\n', '\t']));
        assert_eq!(escape("\u{1b}[2J\u{9b}\u{fdd0}\u{e0041}"), "\\u{1b}[2J\\u{9b}\\u{fdd0}\\u{e0041}");
        for plain in ["", "Grüße, 世界 🦀 \\u{1b}"] {
            assert!(matches!(escape(plain), Cow::Borrowed(text) if text == plain));
        }
    }

    #[test]
    fn documents_keep_their_value_and_hold_no_hidden_character() {
        let value = serde_json::json!({ "all": all(), "a\u{202e}": ["\u{7f}", "\\", "\\\u{9b}"] });
        let text = serde_json::to_string(&value).unwrap().replace("],", "],\r\n\t");
        let json = escape_json(&text);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap(), value);
        for text in [all(), "\u{9b}'".to_owned(), "a\nb\u{9b}\nc".to_owned()] {
            let value = serde_json::json!({ "text": text });
            let toml = escape_toml(&toml::to_string(&value).unwrap()).into_owned();
            assert_eq!(toml::from_str::<serde_json::Value>(&toml).unwrap(), value, "{toml:.200}");
            assert!(![json.as_ref(), &toml].iter().any(|text| text.contains(is_hidden_in_lines)));
        }
    }
}
