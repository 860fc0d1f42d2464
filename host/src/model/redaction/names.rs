//! Names of variables, headers, flags and parameters whose values are secrets.

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

/// Words of [`SECRET_WORDS`] and [`SECRET_ENDINGS`] that are followed by nothing but a secret, in any sentence.
const PASSWORD_WORDS: [&str; 9] =
    ["apikey", "accesskey", "pass", "passphrase", "passwd", "password", "privatekey", "pwd", "secret"];

/// The last words of flags that name the place of a secret, or something beside it: `--key-file`, `--token-timeout`.
const PLAIN_LAST_WORDS: [&str; 7] = ["file", "path", "dir", "timeout", "url", "id", "name"];

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
pub(super) fn words(name: &str) -> Vec<String> {
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
    words.retain(|word| !word.is_empty());
    words
}

/// Whether the next argument after this flag is a secret: `--api-key`, but not `--no-auth` or `--key-file`.
pub(super) fn is_secret_flag(flag: &str) -> bool {
    let words = words(flag);
    let is_plain = words.first().is_some_and(|word| word == "no")
        || words.last().is_some_and(|word| PLAIN_LAST_WORDS.contains(&word.as_str()));
    !is_plain && is_secret_name(flag)
}

/// Whether a name calls its value a password, so that every value is one, a number too.
pub(super) fn is_password_name(name: &str) -> bool {
    words(name).iter().any(|word| PASSWORD_WORDS.iter().any(|password| word.ends_with(password)))
}

/// Whether `NAME=VALUE` gives a secret.
pub(super) fn is_secret_assignment(name: &str, value: &str) -> bool {
    if name.starts_with('-') { is_secret_flag(name) && is_secret_of_flag(name, value) } else { is_secret_name(name) }
}

/// Whether the value of a flag that is called like a secret is one: `--max-tokens 4096` and `--auth none` are not.
pub(super) fn is_secret_of_flag(flag: &str, value: &str) -> bool {
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    is_password_name(flag) || !(is_number || ["none", "true", "false"].contains(&value))
}
