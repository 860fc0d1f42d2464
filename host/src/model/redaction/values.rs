//! Secrets of JSON values.

use serde_json::{Map, Value};
use url::Url;

use super::{MASK, is_secret_name, mask_address, mask_argument, mask_arguments, mask_text};
use crate::model::reference::is_reference;

/// Fields whose values are secrets all of them, in lower case and without `_` and `-`.
const SECRET_FIELDS: [&str; 8] =
    ["env", "environment", "environmentvariables", "envvars", "header", "headers", "httpheaders", "requestheaders"];

/// Fields that hold the arguments of a program.
const ARGUMENT_FIELDS: [&str; 3] = ["args", "arguments", "command"];

/// The program of an object, whose arguments stand beside it.
pub fn program(members: &Map<String, Value>) -> String {
    members.get("command").and_then(Value::as_str).unwrap_or_default().to_owned()
}

/// Masks the secrets of a field and of everything in it; returns whether there were any. `program` has the arguments of the field, if it
/// holds some.
pub fn mask_field(name: &str, value: &mut Value, program: &str) -> bool {
    let plain: String = name.chars().filter(|one| !"_-".contains(*one)).flat_map(char::to_lowercase).collect();
    if SECRET_FIELDS.contains(&plain.as_str()) {
        return mask_all(value);
    }
    match value {
        Value::Object(_) | Value::String(_) | Value::Number(_) if is_secret_name(name) => mask_all(value),
        Value::Object(members) => {
            let program = self::program(members);
            members.iter_mut().fold(false, |hidden, (name, value)| mask_field(name, value, &program) | hidden)
        }
        Value::Array(arguments) if ARGUMENT_FIELDS.contains(&plain.as_str()) => mask_list(arguments, program),
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| mask_field(name, value, "") | hidden),
        Value::String(text) => {
            let masked = if plain == "command" {
                mask_argument(text)
            } else if Url::parse(text).is_ok_and(|url| url.has_host()) {
                mask_text(&mask_address(text))
            } else {
                mask_text(text)
            };
            replace(text, masked)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Masks the secrets of a JSON object or list that is a text; none if the text is no such document. Without secrets it stays as it is.
pub(super) fn mask_json(text: &str) -> Option<String> {
    if !text.trim_start().starts_with(['{', '[']) {
        return None;
    }
    let mut value: Value = serde_json::from_str(text).ok()?;
    Some(if mask_field("", &mut value, "") { value.to_string() } else { text.to_owned() })
}

/// Replaces a text; returns whether that changes it.
pub fn replace(text: &mut String, masked: String) -> bool {
    let differs = *text != masked;
    *text = masked;
    differs
}

/// Masks every text, number and flag of a value.
fn mask_all(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => members.values_mut().fold(false, |hidden, value| mask_all(value) | hidden),
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| mask_all(value) | hidden),
        Value::Null => false,
        // A reference names the place of a secret, not the secret.
        Value::String(text) if is_reference(text) => false,
        value => {
            *value = MASK.into();
            true
        }
    }
}

fn mask_list(arguments: &mut [Value], program: &str) -> bool {
    // What is no text is no argument, and separates those around it.
    let masked = mask_arguments(program, arguments.iter().map(|argument| argument.as_str().unwrap_or_default()));
    arguments.iter_mut().zip(masked).fold(false, |hidden, (argument, masked)| match argument {
        Value::String(text) => replace(text, masked) | hidden,
        value => mask_field("", value, "") | hidden,
    })
}
