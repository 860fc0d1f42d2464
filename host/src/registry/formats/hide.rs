//! Masks the secrets of an entry, and lists those that stand in it literally.
//!
//! Values of headers and of a program's environment are always secrets, unless they refer to a file or a variable. Everywhere else
//! [`redaction`](crate::model::redaction) decides.

use serde_json::{Map, Value};

use crate::model::redaction::{MASK, is_secret_name, mask_address, mask_argument, mask_arguments, mask_text};
use crate::model::reference::{has_reference, is_reference};

/// Masks the secrets of an entry; returns whether there were any.
pub(super) fn entry(entry: &mut Map<String, Value>) -> bool {
    let mut hidden = false;
    for (name, value) in entry.iter_mut() {
        match (name.as_str(), value) {
            ("headers" | "env", value) => hidden |= everything(value),
            ("endpoint", Value::String(address)) => {
                let masked = mask_address(address);
                replace(address, masked, &mut hidden);
            }
            ("command", Value::String(command)) => {
                let masked = mask_argument(command);
                replace(command, masked, &mut hidden);
            }
            ("args", Value::Array(args)) => hidden |= arguments(args),
            ("name" | "transport", _) => {}
            (name, value) => hidden |= named(name, value),
        }
    }
    hidden
}

/// The fields of an entry that hold secrets literally: `headers.Authorization`, `env.API_KEY`, `args[2]`.
pub fn literal_secrets(entry: &Map<String, Value>) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["headers", "env"] {
        for (name, value) in entry.get(field).and_then(Value::as_object).into_iter().flatten() {
            let is_secret = |value: &&str| is_secret_name(name) || mask_text(value) != **value;
            if value.as_str().filter(|value| !has_reference(value)).filter(is_secret).is_some() {
                found.push(format!("{field}.{name}"));
            }
        }
    }
    let mut others = entry.clone();
    others.retain(|name, _| !matches!(name.as_str(), "headers" | "env"));
    let before = others.clone();
    self::entry(&mut others);
    for (name, value) in &before {
        match (value, others.get(name).unwrap_or(value)) {
            (Value::Array(args), Value::Array(masked)) if name == "args" => {
                let differs =
                    |(at, (arg, masked)): (usize, (&Value, &Value))| (arg != masked).then(|| format!("args[{at}]"));
                found.extend(args.iter().zip(masked).enumerate().filter_map(differs));
            }
            (value, masked) if value != masked => found.push(name.clone()),
            _ => {}
        }
    }
    found
}

fn replace(text: &mut String, masked: String, hidden: &mut bool) {
    *hidden |= *text != masked;
    *text = masked;
}

/// Masks every text, number and flag of a value.
fn everything(value: &mut Value) -> bool {
    match value {
        Value::Object(members) => members.values_mut().fold(false, |hidden, value| everything(value) | hidden),
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| everything(value) | hidden),
        Value::Null => false,
        // A reference names the place of a secret, not the secret.
        Value::String(text) if is_reference(text) => false,
        value => {
            *value = MASK.into();
            true
        }
    }
}

/// Masks what is called like a secret, at any depth.
fn named(name: &str, value: &mut Value) -> bool {
    match value {
        Value::Object(members) => members.iter_mut().fold(false, |hidden, (own, value)| {
            let hidden_here = if is_secret_name(name) { everything(value) } else { named(own, value) };
            hidden_here | hidden
        }),
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| named(name, value) | hidden),
        Value::String(_) | Value::Number(_) if is_secret_name(name) => everything(value),
        Value::String(text) => {
            let (masked, mut hidden) = (mask_text(text), false);
            replace(text, masked, &mut hidden);
            hidden
        }
        _ => false,
    }
}

fn arguments(args: &mut [Value]) -> bool {
    let mut hidden = false;
    // What is no text is no argument, and separates those around it.
    let masked = mask_arguments(args.iter().map(|argument| argument.as_str().unwrap_or_default()));
    for (argument, masked) in args.iter_mut().zip(masked) {
        if let Value::String(text) = argument {
            replace(text, masked, &mut hidden);
        }
    }
    hidden
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn hidden(value: Value) -> (Value, bool) {
        let Value::Object(mut members) = value else { panic!("an object") };
        let any = entry(&mut members);
        (Value::Object(members), any)
    }

    #[test]
    fn header_and_environment_values_are_masked_and_names_are_not() {
        let entry = json!({"name": "key", "headers": {"X": "s3cr3t"}, "env": {"A": "s3cr3t", "B": ""}});
        assert_eq!(
            hidden(entry),
            (json!({"name": "key", "headers": {"X": "***"}, "env": {"A": "***", "B": "***"}}), true)
        );
        let plain =
            json!({"name": "a", "command": "npx", "args": ["-y", "x"], "cwd": "/a", "endpoint": "https://a/mcp"});
        assert_eq!(hidden(plain.clone()), (plain, false));
    }

    #[test]
    fn a_reference_is_shown_because_it_says_where_the_secret_is() {
        let shown = json!({"headers": {"A": "Bearer ${file:/run/x}"}, "env": {"B": "${env:B}"}});
        assert_eq!(hidden(shown.clone()), (shown, false));
        let mixed = json!({"headers": {"A": "s3cr3t${env:B}"}});
        assert_eq!(hidden(mixed), (json!({"headers": {"A": "***"}}), true));
    }

    #[test]
    fn what_is_called_like_a_secret_elsewhere_is_masked_too() {
        for (part, masked) in [
            (json!({"args": ["--api-key", "s", "-t", "x"]}), json!({"args": ["--api-key", "***", "-t", "x"]})),
            (json!({"args": ["--token=s", "-e", "API_KEY=s"]}), json!({"args": ["--token=***", "-e", "API_KEY=***"]})),
            (json!({"args": ["Authorization: Bearer s"]}), json!({"args": ["Authorization:***"]})),
            (json!({"command": "API_KEY=s run"}), json!({"command": "API_KEY=***"})),
            (json!({"args": ["-e", "A=s", 7, "ghp_0123456"]}), json!({"args": ["-e", "A=***", 7, "***"]})),
            (json!({"description": "uses ghp_0123456"}), json!({"description": "uses ***"})),
            (json!({"args": ["https://a/?k=s"]}), json!({"args": ["https://a/?k=***"]})),
            (json!({"endpoint": "https://a/mcp?key=s&s#s"}), json!({"endpoint": "https://a/mcp?key=***&***#***"})),
            (
                json!({"endpoint": "https://a0123456789abcdefghi.com/s/0123456789abcdefghij/mcp"}),
                json!({"endpoint": "https://a0123456789abcdefghi.com/s/***/mcp"}),
            ),
            (json!({"oauth": {"id": "s", "on": true}}), json!({"oauth": {"id": "***", "on": "***"}})),
            (json!({"x": [{"clientSecret": "s", "y": 1}]}), json!({"x": [{"clientSecret": "***", "y": 1}]})),
        ] {
            assert_eq!(hidden(part), (masked, true));
        }
    }
}
