//! Secrets of command lines: a list of arguments, or one text with white space.

use super::names::{is_password_name, is_secret_assignment, is_secret_flag, is_secret_name, is_secret_of_flag, words};
use super::values::mask_json;
use super::{MASK, mask_address, mask_text};

/// The programs whose `-e NAME` passes a variable on and takes no second value.
const CONTAINER_PROGRAMS: [&str; 5] = ["docker", "podman", "nerdctl", "finch", "container"];

/// What this program's own messages put in place of a value.
const PLACEHOLDERS: [&str; 2] = ["VALUE", "VARIABLE"];

/// How many command lines within each other are looked into, as in `sh -c "sh -c '...'"`.
const MAX_NESTING: usize = 4;

/// The longest group of short flags that ends with one that has a value, as `-itde`.
const MAX_SHORT_FLAGS: usize = 4;

/// What the next argument of a command line is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Next {
    /// Nothing in particular.
    #[default]
    Any,
    /// The value of a flag that is called like a secret. Numbers and `none` are no secrets.
    Secret,
    /// A secret, whatever it is.
    Password,
    /// `NAME=VALUE` for the environment of a program.
    Variable,
    /// The same, or `NAME` and `VALUE` as two arguments.
    VariablePair,
    /// `Name: value`, or both as two arguments.
    Header,
    /// `user:password`.
    User,
}

/// Where `NAME=VALUE` stands for a variable of a program's environment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Assignments {
    /// After a flag that says so.
    #[default]
    AfterFlag,
    /// In what follows `env` or `export`.
    Following,
    /// Anywhere in a shell's command.
    Anywhere,
}

/// Follows the arguments of a command line.
#[derive(Default)]
struct Scanner {
    next: Next,
    assignments: Assignments,
    is_container: bool,
}

impl Scanner {
    /// Masks an argument that is a secret by its place or its form; none if it is none, or one by what it holds.
    fn mask(&mut self, argument: &str) -> Option<String> {
        let this = std::mem::replace(&mut self.next, announced(argument));
        let is_flag = argument.starts_with('-');
        match this {
            // Another flag: the value was left out. One dash alone may begin a secret.
            Next::Secret | Next::Password if !(argument.starts_with("--") || is_flag && argument.len() == 2) => {
                self.next = Next::Any;
                let is_secret = this == Next::Password || is_secret_of_flag("", argument);
                return (is_secret && !is_placeholder(argument)).then(|| MASK.to_owned());
            }
            Next::Variable | Next::VariablePair if argument.contains('=') => return Some(mask_after(argument, '=')),
            Next::VariablePair if !self.is_container && is_variable(argument) => self.next = Next::Password,
            Next::Header if argument.contains([':', '=']) => return Some(mask_header(argument)),
            Next::Header if !is_flag && (argument.contains('-') || is_secret_name(argument)) => {
                self.next = Next::Password;
            }
            Next::User if !is_flag => return mask_user(argument),
            _ => {}
        }
        self.is_container |= CONTAINER_PROGRAMS.contains(&program(argument));
        let assigned = argument.split_once('=').filter(|(name, value)| is_variable(name) && !value.is_empty());
        match self.assignments {
            Assignments::Following if argument.contains('=') && !is_flag => return Some(mask_after(argument, '=')),
            Assignments::Anywhere if assigned.is_some() => return Some(mask_after(argument, '=')),
            Assignments::Following if !is_flag => self.assignments = Assignments::AfterFlag,
            Assignments::AfterFlag if matches!(program(argument), "env" | "export") => {
                self.assignments = Assignments::Following;
            }
            _ => {}
        }
        mask_joined(argument)
    }
}

/// The name of a program without its folder.
fn program(argument: &str) -> &str {
    argument.rsplit('/').next().unwrap_or(argument)
}

/// Whether a text is spelt as variables usually are.
fn is_variable(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_uppercase() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

fn is_placeholder(value: &str) -> bool {
    PLACEHOLDERS.contains(&value) || value.starts_with('<') && value.ends_with('>')
}

/// Masks the secrets of a command line's arguments, each one as far as it is a secret. The program, which may be empty, is not among them.
pub fn mask_arguments<'a>(program: &str, arguments: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut scanner = Scanner::default();
    scanner.mask(program);
    let arguments = arguments.into_iter();
    arguments.map(|argument| scanner.mask(argument).unwrap_or_else(|| mask_content(argument))).collect()
}

/// Masks the secrets of a single argument, of a command or of any other text that is not a sentence.
pub fn mask_argument(argument: &str) -> String {
    mask_joined(argument).unwrap_or_else(|| mask_content(argument))
}

/// Masks what an argument holds, wherever it stands.
fn mask_content(argument: &str) -> String {
    if let Some(masked) = mask_json(argument) {
        return masked;
    }
    if let Some(at) = argument.find(['=', ':'])
        && argument.len() > at + 1
        && is_secret_assignment(&argument[..at], &argument[at + 1..])
        && !argument[at..].starts_with("://")
    {
        return format!("{}{MASK}", &argument[..=at]);
    }
    if argument.contains(char::is_whitespace) {
        return mask_text(&mask_line(argument, Assignments::Anywhere, MAX_NESTING));
    }
    // An address may stand beside other values: `Endpoint=sb://host/;SharedAccessKey=...`.
    if argument.contains("://") { mask_text(&mask_address(argument)) } else { mask_text(argument) }
}

/// What a flag says of the next argument.
fn announced(argument: &str) -> Next {
    if !argument.starts_with('-') || argument.contains(['=', ':']) || argument.contains(char::is_whitespace) {
        return Next::Any;
    }
    let words = words(argument);
    let last = words.last().map_or("", String::as_str);
    match argument {
        "-e" | "--env" => Next::VariablePair,
        "-H" => Next::Header,
        "-u" | "-U" => Next::User,
        // As in `docker run -ite NAME=VALUE`.
        _ if is_short_flags(argument) && argument.ends_with('e') => Next::VariablePair,
        "--build-arg" => Next::Variable,
        _ if ["header", "headers"].contains(&last) => Next::Header,
        _ if last == "user" => Next::User,
        _ if words.iter().any(|word| ["env", "envs", "environment"].contains(&word.as_str())) => Next::Variable,
        _ if is_secret_flag(argument) && is_password_name(argument) => Next::Password,
        _ if is_secret_flag(argument) => Next::Secret,
        _ => Next::Any,
    }
}

/// Whether an argument is a group of short flags without values of their own, and one more: `-itde`.
fn is_short_flags(argument: &str) -> bool {
    let Some((_, before)) = argument.as_bytes()[1..].split_last() else { return false };
    before.len() < MAX_SHORT_FLAGS && before.iter().all(|flag| b"itdPq".contains(flag))
}

/// Masks a flag and its value in one argument: `--env=NAME=VALUE`, `-eNAME=VALUE`, `-HName: value`, `-uname:password`.
fn mask_joined(argument: &str) -> Option<String> {
    if !argument.starts_with('-') {
        return None;
    }
    if let Some((flag, value)) = argument.split_once('=') {
        let masked = match announced(flag) {
            Next::Variable | Next::VariablePair => Some(mask_after(value, '=')),
            Next::Header => Some(mask_header(value)),
            Next::User => mask_user(value),
            Next::Any | Next::Secret | Next::Password => None,
        };
        if let Some(masked) = masked {
            return Some(format!("{flag}={masked}"));
        }
    }
    if let Some(header) = argument.strip_prefix("-H").filter(|header| header.contains(':')) {
        return Some(format!("-H{}", mask_header(header)));
    }
    if let Some(user) = argument.strip_prefix("-u").filter(|user| user.contains(':')) {
        return mask_user(user).map(|user| format!("-u{user}"));
    }
    // Names of variables in capital letters, after other flags too; in small letters after `-e` alone.
    let capital = argument.find(|character: char| character.is_ascii_uppercase() || character == '_');
    let (flags, assignment) = match capital.filter(|at| is_short_flags(&argument[..*at])) {
        Some(at) => argument.split_at(at),
        None => ("-e", argument.strip_prefix("-e")?),
    };
    let is_assignment = flags.ends_with('e')
        && assignment.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && assignment.split_once('=').is_some_and(|(_, value)| !value.contains("://"));
    is_assignment.then(|| format!("{flags}{}", mask_after(assignment, '=')))
}

/// The text up to the separator, and a mask for what follows.
fn mask_after(text: &str, separator: char) -> String {
    match text.split_once(separator) {
        Some((name, value)) if !value.is_empty() && !is_placeholder(value.trim_end_matches('>')) => {
            format!("{name}{separator}{MASK}")
        }
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
        _ => mask_content(text),
    }
}

/// Masks the password of `user:password`. `1000:1000` are numbers of a user and a group.
fn mask_user(text: &str) -> Option<String> {
    let (user, password) = text.split_once(':')?;
    let is_number = password.bytes().all(|byte| byte.is_ascii_digit());
    (!is_number && !password.starts_with("//")).then(|| format!("{user}:{MASK}"))
}

/// Masks what the flags of a command line within a text announce. A text without flags stays as it is.
pub(super) fn mask_flags(text: &str) -> String {
    let begins = |before: char, flag: &str| "\"'`([{,".contains(before) || before.is_whitespace() && flag.len() > 1;
    let has_flag = text.starts_with('-')
        || text
            .match_indices('-')
            .any(|(at, _)| text[..at].chars().next_back().is_some_and(|before| begins(before, &text[at..])));
    let is_line = has_flag && text.contains(char::is_whitespace);
    if is_line { mask_line(text, Assignments::AfterFlag, MAX_NESTING) } else { text.to_owned() }
}

/// Masks a command line that is one text: its words as arguments, with what stands between them as it is.
fn mask_line(line: &str, assignments: Assignments, nesting: usize) -> String {
    let is_around = |character: char| "[](){},;\"'`".contains(character);
    let mut scanner = Scanner { assignments, ..Scanner::default() };
    let (mut masked, mut end) = (String::with_capacity(line.len()), 0);
    for (begin, word) in words_of(line) {
        masked.push_str(&line[end..begin]);
        end = begin + word.len();
        let content = word.trim_start_matches(is_around);
        let before = &word[..word.len() - content.len()];
        let content = content.trim_end_matches(is_around);
        let after = &word[before.len() + content.len()..];
        let is_line = content.len() < word.len() && content.contains(char::is_whitespace);
        let inner = match scanner.mask(content) {
            Some(masked) => masked,
            None if is_line && nesting == 0 => MASK.to_owned(),
            None if is_line => mask_line(content, Assignments::Anywhere, nesting - 1),
            None => content.to_owned(),
        };
        masked.extend([before, &inner, after]);
    }
    masked + &line[end..]
}

/// The words of a line and where they begin. White space between quotes is part of a word.
fn words_of(line: &str) -> Vec<(usize, &str)> {
    let mut words = Vec::new();
    let (mut begin, mut quote, mut before) = (None, None, ' ');
    for (at, character) in line.char_indices() {
        let may_open = before.is_whitespace() || "=:([{,".contains(before);
        match quote {
            Some(open) if open == character => quote = None,
            Some(_) => {}
            None if "\"'`".contains(character) && may_open && line[at + 1..].contains(character) => {
                quote = Some(character);
            }
            None if character.is_whitespace() => {
                if let Some(begin) = begin.take() {
                    words.push((begin, &line[begin..at]));
                }
            }
            None => {}
        }
        if begin.is_none() && !(quote.is_none() && character.is_whitespace()) {
            begin = Some(at);
        }
        before = character;
    }
    words.extend(begin.map(|begin| (begin, &line[begin..])));
    words
}
