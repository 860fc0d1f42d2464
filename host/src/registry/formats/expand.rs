//! Replacing `${VAR}`, `${VAR:-default}` and `${env:VAR}` by what the environment says, once and while importing. Where references are
//! allowed, `${env:VAR}` in a header or a variable stays one.
//!
//! What a variable holds is not looked into again, and what it holds is never told: reasons and notes name the variable
//! or the field.

use std::cell::Cell;

use serde_json::{Map, Value};

use super::limits::{MAX_EXPANSION_BYTES, MAX_NOTES};
use super::names::shown;
use super::references::ImportedReferences;
use super::report::{Note, SkipReason};
use crate::model::reference::{Piece, pieces};

/// The environment of one import.
pub(super) struct Variables<'a> {
    source: &'a dyn Fn(&str) -> Option<String>,
    references: ImportedReferences,
    /// How many bytes of values may still be taken.
    left: Cell<usize>,
}

impl<'a> Variables<'a> {
    /// The environment behind a closure.
    pub(super) fn new(source: &'a dyn Fn(&str) -> Option<String>, references: ImportedReferences) -> Self {
        Self { source, references, left: Cell::new(MAX_EXPANSION_BYTES) }
    }

    /// What a variable holds; none if it is not set.
    ///
    /// # Errors
    /// [`SkipReason::Expansion`].
    pub(super) fn get(&self, name: &str) -> Result<Option<String>, SkipReason> {
        let Some(value) = (self.source)(name) else { return Ok(None) };
        let left = self.left.get().checked_sub(value.len()).ok_or(SkipReason::Expansion)?;
        self.left.set(left);
        Ok(Some(value))
    }

    /// A text of the field `field` with its variables replaced. `own` is the `env` of the program that gets the text
    /// as an argument: a variable that only stands there is the program's to replace.
    ///
    /// # Errors
    /// [`SkipReason`], naming the variable or input that has no value.
    pub(super) fn replace(
        &self,
        text: &str,
        field: &str,
        own: Option<&Map<String, Value>>,
        notes: &mut Vec<Note>,
    ) -> Result<String, SkipReason> {
        if let Some(name) = text.strip_prefix('$')
            && is_name(name)
        {
            add(notes, Note::Dollar { field: shown(field) });
        }
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(start) = rest.find("${") {
            out.push_str(&rest[..start]);
            let reference = &rest[start..];
            let Some(length) = reference_length(reference) else {
                add(notes, Note::NotReplaced { field: shown(field) });
                rest = reference;
                break;
            };
            let whole = &reference[..length];
            match self.value(&whole[2..length - 1])? {
                Found::Value(value) => out.push_str(&value),
                Found::Unset(name) if own.is_some_and(|own| own.contains_key(name)) => {
                    add(notes, Note::LeftToProgram { name: shown(name) });
                    out.push_str(whole);
                }
                Found::Unset(name) => return Err(SkipReason::Variable { name: shown(name) }),
                Found::Foreign => {
                    add(notes, Note::NotReplaced { field: shown(field) });
                    out.push_str(whole);
                }
            }
            rest = &reference[length..];
        }
        out.push_str(rest);
        Ok(out)
    }

    /// The value of a header or a variable with its variables replaced. A reference to a file stays, and one to a variable too where
    /// references are allowed: the gateway resolves them in these fields, and [`super::references`] has the last word.
    ///
    /// # Errors
    /// [`SkipReason`], naming the variable or input that has no value.
    pub(super) fn replace_in_value(
        &self,
        text: &str,
        field: &str,
        notes: &mut Vec<Note>,
    ) -> Result<String, SkipReason> {
        let mut value = String::with_capacity(text.len());
        for piece in pieces(text) {
            match piece {
                Piece::File(path) => value.extend(["${file:", path, "}"]),
                Piece::Variable(name) if self.references == ImportedReferences::Allowed && is_name(name) => {
                    value.extend(["${env:", name, "}"]);
                }
                Piece::Variable(body) => {
                    value.push_str(&self.replace(&format!("${{env:{body}}}"), field, None, notes)?)
                }
                Piece::Text(text) => value.push_str(&self.replace(text, field, None, notes)?),
            }
        }
        Ok(value)
    }

    fn value<'t>(&self, body: &'t str) -> Result<Found<'t>, SkipReason> {
        if let Some(id) = body.strip_prefix("input:") {
            return match self.get(body)? {
                Some(value) => Ok(Found::Value(value)),
                None => Err(SkipReason::Input { id: shown(id) }),
            };
        }
        let editor = || SkipReason::Editor { name: shown(body) };
        let of_environment = body.strip_prefix("env:");
        let (name, default) = match of_environment.unwrap_or(body).split_once(":-") {
            Some((name, default)) => (name, Some(default)),
            None => (of_environment.unwrap_or(body), None),
        };
        if !is_name(name) {
            let foreign_scheme = body.split_once(':').is_some_and(|(scheme, _)| EDITOR_SCHEMES.contains(&scheme));
            return if foreign_scheme || body == "/" { Err(editor()) } else { Ok(Found::Foreign) };
        }
        if default.is_some_and(|default| default.contains("${")) {
            return Ok(Found::Foreign);
        }
        // As in a shell, an empty variable counts as unset where there is a default.
        let value = self.get(name)?.filter(|value| default.is_none() || !value.is_empty());
        if let Some(value) = value {
            return Ok(Found::Value(value));
        }
        match default {
            Some(default) => Ok(Found::Value(default.to_owned())),
            None if of_environment.is_none() && name == USER_HOME => {
                self.get("HOME")?.map(Found::Value).ok_or_else(editor)
            }
            None if of_environment.is_none() && EDITOR_NAMES.contains(&name) => Err(editor()),
            None => Ok(Found::Unset(name)),
        }
    }
}

/// Adds a note once, and no more notes than anybody reads.
pub(super) fn add(notes: &mut Vec<Note>, note: Note) {
    if notes.len() < MAX_NOTES && !notes.contains(&note) {
        notes.push(if notes.len() + 1 == MAX_NOTES { Note::More } else { note });
    }
}

/// What a reference stands for.
enum Found<'a> {
    Value(String),
    /// A variable that is not set.
    Unset(&'a str),
    /// A form that is not replaced here.
    Foreign,
}

/// The editor's name of the user's home folder.
const USER_HOME: &str = "userHome";

/// Names that VS Code and Cursor give a value of their own.
const EDITOR_NAMES: [&str; 5] =
    ["workspaceFolder", "workspaceFolderBasename", "pathSeparator", "fileWorkspaceFolder", "execPath"];

/// What stands before the colon in the editors' other variables.
const EDITOR_SCHEMES: [&str; 4] = ["config", "command", "workspaceFolder", "file"];

/// The length of the reference that a text begins with, its braces matched.
fn reference_length(text: &str) -> Option<usize> {
    let mut open = 0_usize;
    let mut before = 0;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'{' if before == b'$' => open += 1,
            b'}' if open == 1 => return Some(at + 1),
            b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        before = byte;
    }
    None
}

fn is_name(text: &str) -> bool {
    text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn environment(name: &str) -> Option<String> {
        match name {
            "KEY" => Some("k-1".to_owned()),
            "EMPTY" => Some(String::new()),
            "TRICK" => Some("${KEY}".to_owned()),
            "HOME" => Some("/home/u".to_owned()),
            "input:given" => Some("by hand".to_owned()),
            "LARGE" => Some("x".repeat(MAX_EXPANSION_BYTES / 2)),
            _ => None,
        }
    }

    fn replace(text: &str) -> (Result<String, SkipReason>, Vec<Note>) {
        let mut notes = Vec::new();
        let own = json!({"OWN": "o", "KEY": "other"});
        let replaced = Variables::new(&environment, ImportedReferences::Refused).replace(
            text,
            "args[0]",
            own.as_object(),
            &mut notes,
        );
        (replaced, notes)
    }

    #[test]
    fn three_spellings_are_replaced_and_nothing_is_replaced_twice() {
        for (text, replaced) in [
            ("Bearer ${KEY}", "Bearer k-1"),
            ("${env:KEY}${KEY}", "k-1k-1"),
            ("${KEY:-d}", "k-1"),
            ("${NONE:-d}", "d"),
            ("${env:NONE:-d e}", "d e"),
            ("${NONE:-}", ""),
            ("${EMPTY:-d}", "d"),
            ("<${EMPTY}>", "<>"),
            ("${TRICK}", "${KEY}"),
            ("${userHome}/x", "/home/u/x"),
            ("${input:given}", "by hand"),
            ("plain $ {} }", "plain $ {} }"),
        ] {
            assert_eq!(replace(text), (Ok(replaced.to_owned()), vec![]), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_is_named() {
        for (text, reason) in [
            ("${NONE}", SkipReason::Variable { name: "NONE".to_owned() }),
            ("${KEY} ${env:NONE}", SkipReason::Variable { name: "NONE".to_owned() }),
            ("${input:api-key}", SkipReason::Input { id: "api-key".to_owned() }),
            ("${workspaceFolder}/x", SkipReason::Editor { name: "workspaceFolder".to_owned() }),
            ("${config:a.b}", SkipReason::Editor { name: "config:a.b".to_owned() }),
        ] {
            assert_eq!(replace(text).0, Err(reason), "{text}");
        }
    }

    #[test]
    fn other_forms_stand_as_they_are_and_are_noted() {
        for text in ["${NONE%%x}", "${}", "${NONE:=x}", "${A:-${B}}", "x ${KEY", "${a b}"] {
            let note = Note::NotReplaced { field: "args[0]".to_owned() };
            assert_eq!(replace(text), (Ok(text.to_owned()), vec![note]), "{text}");
        }
        assert_eq!(replace("$KEY"), (Ok("$KEY".to_owned()), vec![Note::Dollar { field: "args[0]".to_owned() }]));
    }

    #[test]
    fn a_variable_that_only_the_programs_env_sets_is_left_to_the_program() {
        let left = vec![Note::LeftToProgram { name: "OWN".to_owned() }];
        assert_eq!(replace("K:${OWN}"), (Ok("K:${OWN}".to_owned()), left));
        assert_eq!(replace("${KEY}").0, Ok("k-1".to_owned()));
    }

    #[test]
    fn the_notes_of_one_server_are_bounded_and_the_last_one_says_so() {
        let mut notes = Vec::new();
        for index in 0..2 * MAX_NOTES {
            add(&mut notes, Note::LeftOut { field: index.to_string() });
        }
        assert_eq!((notes.len(), notes.last()), (MAX_NOTES, Some(&Note::More)));
    }

    #[test]
    fn the_values_of_one_import_are_bounded() {
        assert!(replace("${LARGE}${LARGE}").0.is_ok());
        assert_eq!(replace("${LARGE}${LARGE}${KEY}").0, Err(SkipReason::Expansion));
    }
}
