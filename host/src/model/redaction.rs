//! Recognizes secrets in text, command lines and JSON, and masks them.
//!
//! A value is taken for a secret by the name beside it, by the form of well-known tokens, after an authentication scheme, and by
//! its place in a URL or a command line. This helps and guarantees nothing: a secret can have a form that nothing here knows.
//!
//! ```
//! use cortex_mcp::model::redaction::{is_secret_name, mask_text};
//!
//! assert!(is_secret_name("GITHUB_PAT") && !is_secret_name("PATH"));
//! assert_eq!(mask_text("postgres://me:canary@db/x?apiKey=canary"), "postgres://***@db/x?apiKey=***");
//! ```

mod arguments;
mod keys;
mod names;
mod tokens;
mod values;

#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

pub use arguments::{mask_argument, mask_arguments};
pub use keys::KeyLines;
use names::is_secret_assignment;
pub use names::is_secret_name;
use tokens::{SCHEMES, mask_tokens};
pub use values::{mask_field, program, replace};

use names::is_password_name;

/// Stands for a secret.
pub const MASK: &str = "***";

/// From this length on, in bytes, a part of a path with letters and digits is taken for a key.
const MIN_KEY: usize = 20;

/// Masks the secrets of a text: credentials and parameters of URLs, values that a name or a flag calls secret, tokens of well-known
/// issuers, and what follows an authentication scheme.
pub fn mask_text(text: &str) -> String {
    if keys::has_key_line(text) {
        return MASK.to_owned();
    }
    mask_tokens(&mask_assignments(&mask_logins(&mask_addresses(&arguments::mask_flags(text)))))
}

/// Masks the secrets of an address: its user and password, the values of its query, its fragment, and parts of its path that look
/// like keys.
pub fn mask_address(address: &str) -> String {
    let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
    let (has_user, rest) = without_user(rest);
    let (rest, fragment) = match rest.split_once('#') {
        Some((rest, _)) => (rest, "#***"),
        None => (rest, ""),
    };
    let (path, query) = match rest.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (rest, None),
    };
    let mut masked = if scheme.is_empty() { String::new() } else { format!("{scheme}://") };
    masked.push_str(if has_user { "***@" } else { "" });
    masked.push_str(&mask_tokens(&mask_path(path)));
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

/// What follows a user name and a password, and whether there are any. A password may hold `/`, `?` and `#`, as it should not.
fn without_user(rest: &str) -> (bool, &str) {
    let (authority, after) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let port = authority.rsplit_once(':').map(|(_, port)| port);
    let is_odd = port.is_some_and(|port| !port.bytes().all(|byte| byte.is_ascii_digit() || byte == b']'));
    let is_odd = is_odd || after.starts_with(['?', '#']);
    let at = if authority.contains('@') { authority.rfind('@') } else { rest.rfind('@').filter(|_| is_odd) };
    match at {
        Some(at) => (true, &rest[at + 1..]),
        None => (false, rest),
    }
}

/// Masks the parts of a path that look like keys, and all that follow the host or the part of a webhook, which are its secret
/// (<https://api.slack.com/messaging/webhooks>).
fn mask_path(host_and_path: &str) -> String {
    let mut is_webhook = host_and_path.starts_with("hooks.");
    let parts = host_and_path.split('/').enumerate().map(|(at, part)| {
        let is_secret = at > 0 && !part.is_empty() && (is_webhook || looks_like_key(part));
        is_webhook |= part.starts_with("webhook");
        if is_secret { MASK } else { part }
    });
    parts.collect::<Vec<_>>().join("/")
}

fn looks_like_key(part: &str) -> bool {
    part.len() >= MIN_KEY
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Masks the users, passwords and secret paths of URLs, and the users of the data source names of Go's drivers
/// (`user:password@tcp(host)/db`).
fn mask_addresses(text: &str) -> String {
    let ends = |character: char| character.is_whitespace() || "\"'`<>".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let (address, after) = after.split_at(after.find(ends).unwrap_or(after.len()));
        let (has_user, address) = without_user(address);
        let (path, query) = address.split_at(address.find(['?', '#', ';']).unwrap_or(address.len()));
        masked.extend([before, if has_user { "***@" } else { "" }, &mask_path(path), query]);
        rest = after;
    }
    masked.push_str(rest);
    for network in ["@tcp(", "@unix("] {
        if let Some(at) = masked.find(network) {
            let before = masked[..at].char_indices().rfind(|(_, one)| ends(*one) || *one == '=');
            masked.replace_range(before.map_or(0, |(end, one)| end + one.len_utf8())..at, MASK);
        }
    }
    masked
}

/// What stands before the colon of `npm:name@version` and the like, which have no password.
const NO_USERS: [&str; 8] = ["acct", "jsr", "mailto", "npm", "sha256", "sha512", "sip", "xmpp"];

/// Masks `user:password@host` without a scheme.
fn mask_logins(text: &str) -> String {
    let ends = |character: char| character.is_whitespace() || "\"'`<>=,;()".contains(character);
    let mut masked = String::with_capacity(text.len());
    for piece in text.split_inclusive(ends) {
        let at = piece.rfind('@').filter(|at| !piece.contains("://") && is_login(&piece[..*at], &piece[at + 1..]));
        masked.extend([if at.is_some() { MASK } else { "" }, &piece[at.unwrap_or(0)..]]);
    }
    masked
}

fn is_login(login: &str, host: &str) -> bool {
    let Some((user, password)) = login.split_once(':') else { return false };
    let name = host.split([':', '/']).next().unwrap_or_default().trim_end();
    let is_host = host.starts_with(|first: char| first.is_ascii_alphabetic() || first == '[')
        && !["sha256", "sha512"].contains(&name)
        || name.parse::<Ipv4Addr>().is_ok();
    let is_user = user.starts_with(|first: char| first.is_alphabetic() || first == '_') && !user.contains('/');
    is_user && is_host && !password.is_empty() && !NO_USERS.contains(&user.to_ascii_lowercase().as_str())
}

/// Masks values that a name calls secret: `NAME=value`, up to the next separator, `"name": "value"`, also with escaped quotes, and
/// `Name: value`.
fn mask_assignments(text: &str) -> String {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        masked.push_str(before);
        rest = after;
        let name = before[..at].trim_end_matches(['"', '\'', '\\']);
        let begin = name
            .rfind(|character| !is_name(character))
            .map_or(0, |end| end + name[end..].chars().next().map_or(1, char::len_utf8));
        let name = &name[begin..];
        let value = after.trim_start_matches(' ');
        let opened = value.trim_start_matches('\\');
        let quote = opened.chars().next().filter(|first| "\"'`".contains(*first));
        let escapes = if quote.is_some() { value.len() - opened.len() } else { 0 };
        let word = &value[..value.find(ends_value).unwrap_or(value.len())];
        let is_value = match quote {
            Some(_) => true,
            None if before.ends_with(':') => {
                is_header(name, &masked[..masked.len() - before.len() + begin], value, word)
            }
            None => value.len() == after.len() || is_password_name(name),
        };
        if !is_value || !is_secret_assignment(name, word) {
            continue;
        }
        let begin = after.len() - value.len() + escapes + quote.map_or(0, char::len_utf8);
        let length = match quote {
            Some(quote) => closing(&after[begin..], quote, escapes),
            None if is_cookie(name) => after[begin..].find(['\n', '"', '\'']),
            None => after[begin..].find(ends_value),
        };
        let length = length.unwrap_or(after.len() - begin);
        if length > 0 {
            masked.extend([&after[..begin], MASK]);
            rest = &after[begin + length..];
        }
    }
    masked.push_str(rest);
    masked
}

fn ends_value(character: char) -> bool {
    character.is_whitespace() || "\"'`&;,)}]#".contains(character)
}

fn is_cookie(name: &str) -> bool {
    ["cookie", "set-cookie"].iter().any(|cookie| name.eq_ignore_ascii_case(cookie))
}

/// Whether `name: word` is a header or a field of a document, and no part of a sentence such as `invalid token: expected text`.
fn is_header(name: &str, head: &str, value: &str, word: &str) -> bool {
    let is_scheme = SCHEMES.iter().any(|scheme| word.eq_ignore_ascii_case(scheme)) && value.len() > word.len();
    let is_number = word.bytes().all(|byte| byte.is_ascii_digit());
    if is_scheme || word.starts_with([':', '/']) || is_number && !is_password_name(name) {
        return false;
    }
    let head = head.trim_end_matches(['"', '\'', ' ', '\t']);
    let begins = head.is_empty() || head.ends_with(['\n', '\r', '{', '[', '(', ',', ';', '|']);
    let rest = value[word.len()..].trim_start_matches([' ', '\t']);
    let is_alone = rest.is_empty() || rest.starts_with(|next: char| ends_value(next));
    is_password_name(name) || is_cookie(name) || name.trim_start_matches('-').contains(['-', '_']) || begins && is_alone
}

/// Where the quote that closes a value stands, or the backslashes before it. One with more backslashes than the opening one is part of
/// the value.
fn closing(text: &str, quote: char, escapes: usize) -> Option<usize> {
    let mut backslashes = 0;
    for (at, character) in text.char_indices() {
        match character {
            '\\' => backslashes += 1,
            _ if character == quote && backslashes <= escapes => return Some(at - backslashes),
            _ => backslashes = 0,
        }
    }
    None
}
