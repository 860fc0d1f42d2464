//! Text of a server's process that people may see: what is secret in it is masked first.
//!
//! Masked are the values of the server's own environment, headers and arguments, tokens in the forms of well-known
//! issuers, credentials of URLs, and what follows an authentication scheme. A help and no guarantee: a server can print a
//! secret in a form that nothing here knows.

use std::fmt;

use serde::Serialize;

use super::CommandLine;
use super::redaction::{MASK, mask_text};
use super::text::escape;

/// The longest cause of a failure that is shown, in characters: what fits two lines of a terminal.
pub const MAX_CAUSE_CHARACTERS: usize = 200;

/// From this length on, in bytes, a value is masked wherever it occurs; a shorter one only as a word of its own, since
/// almost every text holds a `1` or an `on`.
const MIN_PART: usize = 4;

/// The values that a server was given and must not be shown.
#[derive(Clone, Default)]
pub struct Secrets(Vec<String>);

impl Secrets {
    /// The values of a command's environment and arguments; of those, also the parts after `=` and `: `, and the password of a URL.
    pub fn of_command(command: &CommandLine) -> Self {
        let mut values: Vec<&str> = Vec::new();
        for value in command.environment.values().chain(&command.arguments) {
            values.push(value);
            values.extend(value.split_once('=').map(|(_, value)| value));
            values.extend(value.split_once(": ").map(|(_, value)| value));
            values.extend(password(value));
            values.extend(value.lines());
        }
        let mut values: Vec<String> =
            values.into_iter().map(str::trim).filter(|value| !value.is_empty()).map(str::to_owned).collect();
        // The longest first: one may be a part of another.
        values.sort_unstable_by(|one, other| other.len().cmp(&one.len()).then_with(|| one.cmp(other)));
        values.dedup();
        Self(values)
    }

    /// A line that a process wrote, without secrets and escaped. `is_cut` says that its end is missing.
    pub fn masked(&self, line: &[u8], is_cut: bool) -> String {
        escape(&self.mask(&String::from_utf8_lossy(line), is_cut)).into_owned()
    }

    /// The text without secrets. `is_cut` says that its end is missing, so that the beginning of a value counts there.
    fn mask(&self, text: &str, is_cut: bool) -> String {
        let mut text = text.to_owned();
        for value in &self.0 {
            text = if value.len() >= MIN_PART { text.replace(value.as_str(), MASK) } else { mask_word(&text, value) };
            if is_cut {
                mask_cut_value(&mut text, value);
            }
        }
        mask_text(&text)
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Secrets({})", self.0.len())
    }
}

/// A line that a server's process wrote to its standard error, as it may be shown: masked, in one line, bounded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct StderrLine(String);

impl StderrLine {
    /// The line without secrets, escaped, and with at most [`MAX_CAUSE_CHARACTERS`] characters less those of `beside`, which it is shown beside; none if nothing is left.
    pub fn new(line: &[u8], is_cut: bool, secrets: &Secrets, beside: &str) -> Option<Self> {
        let shown = secrets.masked(line.trim_ascii(), is_cut);
        let room = MAX_CAUSE_CHARACTERS.saturating_sub(beside.chars().count());
        let cut: String = shown.chars().take(room).collect();
        (!cut.is_empty()).then_some(Self(cut))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StderrLine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// The password of a URL that has one.
fn password(value: &str) -> Option<&str> {
    let (_, rest) = value.split_once("://")?;
    let (user, _) = rest.split_once('@')?;
    user.split_once(':').map(|(_, password)| password)
}

/// Masks a value where it stands between other characters than letters and digits.
fn mask_word(text: &str, value: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(value) {
        let before = rest[..at].chars().next_back().or_else(|| masked.chars().next_back());
        let after = rest[at + value.len()..].chars().next();
        let is_word = ![before, after].into_iter().flatten().any(char::is_alphanumeric);
        masked.push_str(&rest[..at]);
        masked.push_str(if is_word { MASK } else { value });
        rest = &rest[at + value.len()..];
    }
    masked + rest
}

/// Masks the beginning of a value at the end of a text that was cut there.
fn mask_cut_value(text: &mut String, value: &str) {
    let part = value.char_indices().rev().map(|(at, _)| &value[..at]).find(|part| text.ends_with(*part));
    if let Some(part) = part.filter(|part| part.len() >= MIN_PART) {
        text.truncate(text.len() - part.len());
        text.push_str(MASK);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn secrets() -> Secrets {
        Secrets::of_command(&CommandLine {
            program: "run".into(),
            arguments: vec!["--db=postgres://u:pa55word@db/x".into(), "-y".into()],
            environment: BTreeMap::from([
                ("A".into(), "canary-one".into()),
                ("B".into(), "canary-one-and-more".into()),
                ("C".into(), "7".into()),
                ("PEM".into(), "first line\nsecond line".into()),
            ]),
        })
    }

    fn shown(line: &str) -> String {
        StderrLine::new(line.as_bytes(), false, &secrets(), "").unwrap().as_str().to_owned()
    }

    #[test]
    fn values_of_the_entry_are_masked() {
        for (line, masked) in [
            ("bad key canary-one!", "bad key ***!"),
            ("xcanary-one-and-morex", "x***x"),
            ("no db: pa55word", "no db: ***"),
            ("cannot open postgres://u:pa55word@db/x", "cannot open ***"),
            ("line 17 of 7, x7, 7", "line 17 of ***, x7, ***"),
            ("flag -y is unknown", "flag *** is unknown"),
            ("at second line of it", "at *** of it"),
        ] {
            assert_eq!(shown(line), masked, "{line}");
        }
    }

    #[test]
    fn tokens_are_masked() {
        for (line, masked) in [
            ("GITHUB_TOKEN=ghp_abcdef123 is bad", "GITHUB_TOKEN=*** is bad"),
            ("key 'sk-abc-def-123'", "key '***'"),
            ("Authorization: Bearer abc.def", "Authorization: Bearer ***"),
            ("authorization:bearer abcdef", "authorization:bearer ***"),
            ("got eyJhbGciOi.eyJzdWIi.c2ln", "got ***"),
            ("https://me:secret@host/p failed", "https://***@host/p failed"),
            ("AKIAIOSFODNN7EXAMPLE", "***"),
            ("risk-averse sk-x npm_x: bearer token", "risk-averse sk-x npm_x: bearer token"),
        ] {
            assert_eq!(shown(line), masked, "{line}");
        }
    }

    #[test]
    fn a_value_that_is_cut_at_the_end_is_masked() {
        let line = StderrLine::new(b"bad key canary-on", true, &secrets(), "").unwrap();
        assert_eq!(line.as_str(), "bad key ***");
        let whole = StderrLine::new(b"bad key canary-on", false, &secrets(), "").unwrap();
        assert_eq!(whole.as_str(), "bad key canary-on");
    }

    #[test]
    fn a_line_is_bounded_and_shows_nothing_that_acts() {
        assert_eq!(shown("\x1b[31mred\r\x07"), r"\u{1b}[31mred\u{d}\u{7}");
        let beside = "b".repeat(50);
        let line = StderrLine::new("é".repeat(500).as_bytes(), false, &secrets(), &beside).unwrap();
        assert_eq!(line.as_str().chars().count(), MAX_CAUSE_CHARACTERS - 50);
        assert_eq!(StderrLine::new(b" \t ", false, &secrets(), ""), None);
    }

    #[test]
    fn secrets_do_not_print_themselves() {
        assert!(!format!("{:?}", secrets()).contains("canary"));
    }
}
