//! Recognizes secrets in text and in command lines, and masks them.
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

/// Stands for a secret.
pub const MASK: &str = "***";

/// From this length on, in bytes, what follows the prefix of a token makes it one.
const MIN_TOKEN: usize = 6;

/// From this length on, in bytes, a part of a path with letters and digits is taken for a key.
const MIN_KEY: usize = 20;

/// How tokens of well-known issuers begin, as scanners for leaked secrets know them
/// (<https://docs.github.com/en/code-security/secret-scanning/introduction/supported-secret-scanning-patterns>).
const TOKEN_PREFIXES: [&str; 44] = [
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "glpat-",
    "gldt-",
    "glrt-",
    "glptt-",
    "sk-",
    "sk_",
    "rk_",
    "pk_",
    "whsec_",
    "xoxa-",
    "xoxb-",
    "xoxc-",
    "xoxd-",
    "xoxe-",
    "xoxe.",
    "xoxp-",
    "xoxr-",
    "xoxs-",
    "xapp-",
    "AKIA",
    "ASIA",
    "AIza",
    "ya29.",
    "GOCSPX-",
    "npm_",
    "pypi-",
    "hf_",
    "eyJ",
    "dop_v1_",
    "doo_v1_",
    "shpat_",
    "SG.",
    "dckr_pat_",
    "lin_api_",
    "ntn_",
    "figd_",
    "ATATT",
    "cmcp_",
];

/// Words of a name that make its value a secret, in lower case and in the singular.
const SECRET_WORDS: [&str; 22] = [
    "auth",
    "authorization",
    "bearer",
    "cookie",
    "credential",
    "dsn",
    "jwt",
    "key",
    "oauth",
    "pass",
    "passphrase",
    "passwd",
    "password",
    "pat",
    "private",
    "pwd",
    "secret",
    "session",
    "sig",
    "signature",
    "token",
    "webhook",
];

/// What a word of a name may end with to the same effect: `authtoken`, `PGPASSWORD`, `apikey`.
const SECRET_ENDINGS: [&str; 12] = [
    "accesskey",
    "apikey",
    "authkey",
    "cookie",
    "credential",
    "passphrase",
    "passwd",
    "password",
    "privatekey",
    "secret",
    "secretkey",
    "token",
];

/// The schemes of `Authorization` that a credential follows, in lower case.
const SCHEMES: [&str; 4] = ["bearer", "basic", "token", "apikey"];

/// The schemes that are words of any sentence: what follows them is a credential only in a header or an assignment.
const WORDS_OF_SENTENCES: [&str; 2] = ["token", "apikey"];

/// Whether the value of this name (of a variable, a header, a flag, a parameter) is a secret. Words of the name are compared, in
/// any case: `GITHUB_PAT`, `githubPat` and `--github-pat` have the word `pat`, `PATH` has not.
pub fn is_secret_name(name: &str) -> bool {
    words(name).iter().any(|word| {
        let is_secret =
            |word: &str| SECRET_WORDS.contains(&word) || SECRET_ENDINGS.iter().any(|ending| word.ends_with(ending));
        is_secret(word) || word.strip_suffix('s').is_some_and(is_secret)
    })
}

/// The words of a name in lower case: between other characters than letters, and where `camelCase` begins a new one.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut characters = name.chars().peekable();
    let mut before = ' ';
    while let Some(character) = characters.next() {
        let follows_lower = before.is_lowercase() && character.is_uppercase();
        let begins_word = before.is_uppercase()
            && character.is_uppercase()
            && characters.peek().is_some_and(|next| next.is_lowercase());
        if (follows_lower || begins_word || !character.is_alphabetic())
            && words.last().is_some_and(|word| !word.is_empty())
        {
            words.push(String::new());
        }
        if character.is_alphabetic()
            && let Some(word) = words.last_mut()
        {
            word.extend(character.to_lowercase());
        }
        before = character;
    }
    words
}

/// Masks the secrets of a text: credentials and parameters of URLs, values that a name calls secret, tokens of well-known
/// issuers, and what follows an authentication scheme.
pub fn mask_text(text: &str) -> String {
    if text.contains("PRIVATE KEY-----") {
        return MASK.to_owned();
    }
    mask_tokens(&mask_assignments(&mask_users(text)))
}

/// Masks the secrets of an address: its user and password, the values of its query, its fragment, and parts of its path that look
/// like keys.
pub fn mask_address(address: &str) -> String {
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
    masked.push_str(&mask_tokens(&parts.join("/")));
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

/// What the next argument of a command line is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing in particular.
    Any,
    /// The value of a flag that is called like a secret.
    Secret,
    /// `NAME=VALUE` for the environment of a container.
    Variable,
    /// `Name: value`.
    Header,
}

/// Masks the secrets of a command line's arguments, each one as far as it is a secret.
pub fn mask_arguments<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut next = Next::Any;
    let mut masked = Vec::new();
    for argument in arguments {
        let this = std::mem::replace(&mut next, announced(argument));
        masked.push(match this {
            // A short flag or another long one: the value was left out.
            Next::Secret if !argument.starts_with("--") && !is_short_flag(argument) => {
                next = Next::Any;
                MASK.to_owned()
            }
            Next::Variable => mask_after(argument, '='),
            Next::Header => mask_header(argument),
            Next::Any | Next::Secret => mask_argument(argument),
        });
    }
    masked
}

fn is_short_flag(argument: &str) -> bool {
    argument.len() == 2 && argument.starts_with('-')
}

fn announced(argument: &str) -> Next {
    match argument {
        "-e" | "--env" | "--build-arg" => Next::Variable,
        "-H" | "--header" | "--headers" => Next::Header,
        _ if argument.starts_with('-') && !argument.contains(['=', ':', ' ']) && is_secret_name(argument) => {
            Next::Secret
        }
        _ => Next::Any,
    }
}

/// Masks the secrets of a single argument, of a command or of any other text that is not a sentence.
pub fn mask_argument(argument: &str) -> String {
    for flag in ["--env=", "--build-arg="] {
        if let Some(assignment) = argument.strip_prefix(flag) {
            return format!("{flag}{}", mask_after(assignment, '='));
        }
    }
    for flag in ["--header=", "--headers="] {
        if let Some(header) = argument.strip_prefix(flag) {
            return format!("{flag}{}", mask_header(header));
        }
    }
    // `-eNAME=VALUE`; variables of containers are in upper case, and flags like `-endpoint=` are not.
    if let Some(assignment) = argument.strip_prefix("-e")
        && assignment.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && assignment.contains('=')
    {
        return format!("-e{}", mask_after(assignment, '='));
    }
    if let Some(at) = argument.find(['=', ':'])
        && is_secret_name(&argument[..at])
        && argument.len() > at + 1
        && !argument[at..].starts_with("://")
    {
        return format!("{}{MASK}", &argument[..=at]);
    }
    if argument.contains("://") && !argument.contains(char::is_whitespace) {
        return mask_address(argument);
    }
    mask_text(argument)
}

/// The text up to the separator, and a mask for what follows.
fn mask_after(text: &str, separator: char) -> String {
    match text.split_once(separator) {
        Some((name, value)) if !value.is_empty() => format!("{name}{separator}{MASK}"),
        _ => text.to_owned(),
    }
}

/// Masks the value of a header, `Name: value` or `Name=value`. What is no header, such as a host after `-H`, stays.
fn mask_header(text: &str) -> String {
    match text.find([':', '=']) {
        Some(at) if text[at..].starts_with(": ") => format!("{}: {MASK}", &text[..at]),
        Some(at) if !text[at..].starts_with("://") => {
            mask_after(text, if text[at..].starts_with(':') { ':' } else { '=' })
        }
        _ => mask_argument(text),
    }
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
    part.len() >= MIN_KEY
        && part.bytes().any(|byte| byte.is_ascii_digit())
        && part.bytes().any(|byte| byte.is_ascii_alphabetic())
}

/// Masks the users and passwords of URLs, and of the data source names of Go's drivers (`user:password@tcp(host)/db`).
fn mask_users(text: &str) -> String {
    let ends = |character: char| character.is_whitespace() || "\"'`<>".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        let (address, after) = after.split_at(after.find(ends).unwrap_or(after.len()));
        let (authority_and_path, query) = address.split_at(address.find(['?', '#']).unwrap_or(address.len()));
        let (has_user, host) = without_user(authority_and_path);
        masked.extend([before, if has_user { "***@" } else { "" }, host, query]);
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

/// Masks values that a name calls secret: `NAME=value`, up to the next separator, and `"name": "value"`.
fn mask_assignments(text: &str) -> String {
    let is_name = |character: char| character.is_ascii_alphanumeric() || "_-.".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['=', ':']) {
        let (before, after) = rest.split_at(at + 1);
        masked.push_str(before);
        rest = after;
        let name = before[..at].trim_end_matches(['"', '\'']);
        let name = &name[name
            .rfind(|character| !is_name(character))
            .map_or(0, |end| end + name[end..].chars().next().map_or(1, char::len_utf8))..];
        let value = after.trim_start_matches(' ');
        let quote = value.chars().next().filter(|first| "\"'`".contains(*first));
        if !is_secret_name(name) || (before.ends_with(':') || value.len() < after.len()) && quote.is_none() {
            continue;
        }
        let begin = after.len() - value.len() + quote.map_or(0, char::len_utf8);
        let length = match quote {
            Some(quote) => after[begin..].find(quote),
            None => after[begin..].find(|one: char| one.is_whitespace() || "\"'`&;,)}]#".contains(one)),
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

/// Masks what looks like a token, and what follows an authentication scheme.
fn mask_tokens(text: &str) -> String {
    let is_part = |character: char| character.is_ascii_alphanumeric() || "_-.+/=~:@%".contains(character);
    let mut masked = String::with_capacity(text.len());
    let mut after_scheme = false;
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let end = rest.find(|character| is_part(character) != is_part(first)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if !is_part(first) {
            masked.push_str(word);
        } else if after_scheme && word.len() >= MIN_TOKEN {
            masked.push_str(MASK);
        } else {
            push_masked(word, &mut masked);
        }
        if is_part(first) {
            let scheme = word.rsplit([':', '=']).next().unwrap_or(word);
            let is_in_header = scheme.len() < word.len() || masked.trim_end_matches(word).ends_with(": ");
            after_scheme = !after_scheme
                && SCHEMES.iter().any(|known| scheme.eq_ignore_ascii_case(known))
                && (is_in_header || !WORDS_OF_SENTENCES.iter().any(|known| scheme.eq_ignore_ascii_case(known)));
        } else {
            // A scheme is followed by one space.
            after_scheme &= word.chars().all(|character| character == ' ');
        }
        rest = after;
    }
    masked
}

/// Appends a word, in which what looks like a token is masked.
fn push_masked(word: &str, masked: &mut String) {
    // Tokens hold none of these, and follow them: `key=ghp_...`, `?t=sk-...`.
    for part in word.split_inclusive(['=', ':', '/', '@']) {
        let (body, end) = match part.char_indices().next_back() {
            Some((at, last)) if "=:/@".contains(last) => part.split_at(at),
            _ => (part, ""),
        };
        let is_token = |prefix: &&str| body.strip_prefix(*prefix).is_some_and(|rest| rest.len() >= MIN_TOKEN);
        masked.push_str(if TOKEN_PREFIXES.iter().any(is_token) { MASK } else { body });
        masked.push_str(end);
    }
}

#[cfg(test)]
mod tests;
