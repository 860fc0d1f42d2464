//! Patterns for names: `*` stands for any characters and `?` for one; everything else stands for itself. In linear memory,
//! and in time that is at worst the product of both lengths: no pattern takes long (unlike the regular expressions that
//! old tools took).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A pattern for a whole name. Upper and lower case differ: names of tools do (specification 2026-07-28, `server/tools`).
/// Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Glob(Arc<str>);

impl Glob {
    /// Whether a name matches.
    pub fn matches(&self, name: &str) -> bool {
        run(&self.0, name, |one, other| one == other)
    }

    /// The pattern.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether a name matches a pattern, whatever the case of ASCII letters: for people who search.
pub fn matches_in_any_case(pattern: &str, name: &str) -> bool {
    run(pattern, name, |one, other| one.eq_ignore_ascii_case(&other))
}

impl FromStr for Glob {
    type Err = GlobError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if (1..=LENGTH_MAX).contains(&text.len()) { Ok(Self(text.into())) } else { Err(GlobError) }
    }
}

impl TryFrom<String> for Glob {
    type Error = GlobError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Glob> for String {
    fn from(glob: Glob) -> Self {
        glob.0.as_ref().to_owned()
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl fmt::Debug for Glob {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A text that is no pattern. An empty one would match nothing that has a name: whoever writes it means something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a pattern is 1 to {LENGTH_MAX} bytes; * stands for any characters and ? for one")]
pub struct GlobError;

/// Longest pattern, in bytes: twice the longest name that the specification suggests.
const LENGTH_MAX: usize = 256;

fn run(pattern: &str, name: &str, equal: impl Fn(u8, u8) -> bool) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut read) = (0, 0);
    // After the last `*`: where the pattern goes on, and up to where the star reaches so far.
    let mut star: Option<(usize, usize)> = None;
    while read < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(b'?') => (at, read) = (at + 1, read + 1),
            Some(byte) if equal(*byte, name[read]) => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                // An earlier star need never reach further: what follows it was found at the first place possible.
                Some((after, reach)) => {
                    *reach += 1;
                    (at, read) = (*after, *reach);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_star_is_any_characters_a_question_mark_one_and_everything_else_itself() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("*", "wiki", true),
            ("wiki", "wiki", true),
            ("wiki", "wiki2", false),
            ("wi*", "wiki", true),
            ("*ki", "wiki", true),
            ("*i*i*", "wiki", true),
            ("w?k?", "wiki", true),
            ("w?k?", "wik", false),
            ("", "wiki", false),
            ("", "", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-d", false),
            (".*", "wiki", false),
            ("w.ki", "wiki", false),
            ("[w]iki", "wiki", false),
        ] {
            assert_eq!(matches_in_any_case(pattern, name), expected, "{pattern} {name}");
            if let Ok(glob) = pattern.parse::<Glob>() {
                assert_eq!(glob.matches(name), expected, "{pattern} {name}");
            }
        }
    }

    #[test]
    fn case_matters_to_who_configures_and_not_to_who_searches() {
        assert!(matches_in_any_case("wiki", "WIKI"));
        assert!(!"wiki".parse::<Glob>().unwrap().matches("WIKI"));
    }

    #[test]
    fn a_pattern_has_a_length() {
        assert_eq!("".parse::<Glob>(), Err(GlobError));
        assert!("x".repeat(LENGTH_MAX).parse::<Glob>().is_ok());
        assert_eq!("x".repeat(LENGTH_MAX + 1).parse::<Glob>(), Err(GlobError));
    }

    #[test]
    fn no_pattern_takes_long() {
        // Exponential for a matcher that tries everything: this ends.
        assert!(!matches_in_any_case(&format!("{}b", "a*".repeat(60)), &"a".repeat(128)));
    }

    /// The definition, for short texts.
    fn by_definition(pattern: &[u8], name: &[u8], equal: fn(u8, u8) -> bool) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if by_definition(rest, name, equal) => true,
            (Some((b'*', _)), Some((_, tail))) => by_definition(pattern, tail, equal),
            (Some((b'?', rest)), Some((_, tail))) => by_definition(rest, tail, equal),
            (Some((one, rest)), Some((other, tail))) => equal(*one, *other) && by_definition(rest, tail, equal),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[aAb*?]{1,8}", name in "[aAb]{0,8}") {
            let (bytes, of) = (pattern.as_bytes(), name.as_bytes());
            let in_any_case = by_definition(bytes, of, |one, other| one.eq_ignore_ascii_case(&other));
            prop_assert_eq!(matches_in_any_case(&pattern, &name), in_any_case);
            let exactly = by_definition(bytes, of, |one, other| one == other);
            prop_assert_eq!(pattern.parse::<Glob>().unwrap().matches(&name), exactly);
        }
    }
}
