//! What is written in place of secrets.
//!
//! Values of headers and of a program's environment are secrets always. Elsewhere the name tells: an argument, a part
//! of an address or an unknown field that is called like a secret is taken for one. That is a help and no guarantee:
//! an argument can hold a key and not say so.

use serde_json::{Map, Value};

/// What stands for a secret.
pub(super) const MASK: &str = "***";

/// Masks the secrets of an entry; says whether there were any.
pub(super) fn entry(entry: &mut Map<String, Value>) -> bool {
    let mut hidden = false;
    for (name, value) in entry.iter_mut() {
        match (name.as_str(), value) {
            ("headers" | "env", value) => hidden |= everything(value),
            ("endpoint", Value::String(address)) => {
                let masked = masked_address(address);
                replace(address, masked, &mut hidden);
            }
            ("args", Value::Array(args)) => hidden |= arguments(args),
            ("name" | "transport" | "command", _) => {}
            (name, value) => hidden |= named(name, value),
        }
    }
    hidden
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
            let hidden_here = if sounds_secret(name) { everything(value) } else { named(own, value) };
            hidden_here | hidden
        }),
        Value::Array(values) => values.iter_mut().fold(false, |hidden, value| named(name, value) | hidden),
        Value::String(_) | Value::Number(_) if sounds_secret(name) => everything(value),
        _ => false,
    }
}

fn arguments(args: &mut [Value]) -> bool {
    let mut hidden = false;
    let mut announced = false;
    for argument in args {
        let Value::String(text) = argument else { continue };
        let masked = if announced && !text.starts_with('-') {
            MASK.to_owned()
        } else if text.contains("://") {
            masked_address(text)
        } else {
            match text.split_once(['=', ':']) {
                Some((name, _)) if sounds_secret(name) => format!("{}{MASK}", &text[..=name.len()]),
                _ => text.clone(),
            }
        };
        announced = text.starts_with('-') && !text.contains('=') && sounds_secret(text);
        replace(text, masked, &mut hidden);
    }
    hidden
}

/// An address without the values of its query, and without parts of its path that look like keys.
fn masked_address(address: &str) -> String {
    let (address, fragment) = match address.split_once('#') {
        Some((address, _)) => (address, "#***"),
        None => (address, ""),
    };
    let (path, query) = match address.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (address, None),
    };
    let (scheme, rest) = path.split_once("://").unwrap_or(("", path));
    let (user, rest) = without_user(rest);
    let parts = rest.split('/').enumerate();
    let parts: Vec<_> = parts.map(|(at, part)| if at > 0 && looks_like_key(part) { MASK } else { part }).collect();
    let mut masked = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    masked.push_str(if user { "***@" } else { "" });
    masked.push_str(&parts.join("/"));
    if let Some(query) = query {
        let pairs = query.split('&').map(|pair| match pair.split_once('=') {
            Some((name, _)) => format!("{name}={MASK}"),
            None => MASK.to_owned(),
        });
        masked.push('?');
        masked.push_str(&pairs.collect::<Vec<_>>().join("&"));
    }
    masked + fragment
}

/// What follows a user name and a password, and whether there are any. A password may hold a slash, as it should not.
fn without_user(rest: &str) -> (bool, &str) {
    let authority = rest.split('/').next().unwrap_or(rest);
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let odd = port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit() || byte == b']'));
    let at = if authority.contains('@') { authority.rfind('@') } else { rest.rfind('@').filter(|_| odd) };
    match at {
        Some(at) => (true, &rest[at + 1..]),
        None => (false, rest),
    }
}

fn looks_like_key(part: &str) -> bool {
    part.len() >= KEY_LENGTH
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// From this length on, a part of a path with letters and digits is taken for a key.
const KEY_LENGTH: usize = 20;

fn sounds_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["secret", "token", "passw", "key", "auth", "credential", "cookie", "private"]
        .into_iter()
        .any(|word| name.contains(word))
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
    fn a_user_name_and_a_password_in_an_address_are_masked() {
        for (address, masked) in [
            ("https://user:s3cr3t@a.test/mcp", "https://***@a.test/mcp"),
            ("https://user:s3/cr3t@a.test/mcp", "https://***@a.test/mcp"),
            ("https://s3cr3t@a.test:8080/@scope/x", "https://***@a.test:8080/@scope/x"),
            ("https://a.test:8080/@scope/x", "https://a.test:8080/@scope/x"),
            ("https://[::1]:80/@x", "https://[::1]:80/@x"),
        ] {
            assert_eq!(masked_address(address), masked);
        }
    }

    #[test]
    fn what_is_called_like_a_secret_elsewhere_is_masked_too() {
        for (part, masked) in [
            (json!({"args": ["--api-key", "s", "-t", "x"]}), json!({"args": ["--api-key", "***", "-t", "x"]})),
            (json!({"args": ["--token=s", "-e", "API_KEY=s"]}), json!({"args": ["--token=***", "-e", "API_KEY=***"]})),
            (json!({"args": ["Authorization: Bearer s"]}), json!({"args": ["Authorization:***"]})),
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
