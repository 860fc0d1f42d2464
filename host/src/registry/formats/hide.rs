//! Masks the secrets of an entry, and lists those that stand in it literally.
//!
//! Values of headers and of a program's environment are always secrets, unless they refer to a file or a variable. Everywhere else
//! [`redaction`](crate::model::redaction) decides.

use serde_json::{Map, Value};

use crate::model::redaction::{is_secret_name, mask_address, mask_field, mask_text, program, replace};
use crate::model::reference::has_reference;

/// Masks the secrets of an entry; returns whether there were any.
pub(super) fn entry(entry: &mut Map<String, Value>) -> bool {
    let program = program(entry);
    let mut hidden = false;
    for (name, value) in entry.iter_mut() {
        hidden |= match (name.as_str(), value) {
            ("name" | "transport", _) => false,
            ("endpoint", Value::String(address)) => {
                let masked = mask_address(address);
                replace(address, masked)
            }
            (name, value) => mask_field(name, value, &program),
        };
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
            (
                json!({"nested": {"environment": {"A": "s"}, "http_headers": ["X: s"], "envVars": "s", "env": {"B": 1}}}),
                json!({"nested": {"environment": {"A": "***"}, "http_headers": ["***"], "envVars": "***", "env": {"B": "***"}}}),
            ),
            (
                json!({"x": [{"url": "https://h/x?k=s", "command": "sh -c 'run --pat s'", "arguments": ["--api-key", "s"]}]}),
                json!({"x": [{"url": "https://h/x?k=***", "command": "sh -c 'run --pat ***'", "arguments": ["--api-key", "***"]}]}),
            ),
            (
                json!({"command": "/usr/bin/env", "args": ["plain=s", "run"]}),
                json!({"command": "/usr/bin/env", "args": ["plain=***", "run"]}),
            ),
            (
                json!({"command": "docker", "args": ["run", "-e", "TOKEN", "img", "--pat", "s"]}),
                json!({"command": "docker", "args": ["run", "-e", "TOKEN", "img", "--pat", "***"]}),
            ),
            (json!({"oauth": {"id": "s", "on": true}}), json!({"oauth": {"id": "***", "on": "***"}})),
            (json!({"x": [{"clientSecret": "s", "y": 1}]}), json!({"x": [{"clientSecret": "***", "y": 1}]})),
        ] {
            assert_eq!(hidden(part), (masked, true));
        }
    }
}
