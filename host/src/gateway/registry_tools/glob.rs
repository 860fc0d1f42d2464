//! Patterns for names: `*` stands for any characters and `?` for one. In linear memory, and in time that is at worst the
//! product of both lengths: no pattern takes long (unlike the regular expressions that old tools took).

/// Whether a name matches a pattern, whatever the case of ASCII letters.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
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
            Some(byte) if byte.eq_ignore_ascii_case(&name[read]) => (at, read) = (at + 1, read + 1),
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
            ("wiki", "WIKI", true),
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
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn no_pattern_takes_long() {
        // Exponential for a matcher that tries everything: this ends.
        assert!(!matches(&format!("{}b", "a*".repeat(60)), &"a".repeat(128)));
    }

    /// The definition, for short texts.
    fn by_definition(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) if by_definition(rest, name) => true,
            (Some((b'*', _)), Some((_, tail))) => by_definition(pattern, tail),
            (Some((b'?', rest)), Some((_, tail))) => by_definition(rest, tail),
            (Some((one, rest)), Some((other, tail))) => one.eq_ignore_ascii_case(other) && by_definition(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(pattern in "[aAb*?]{0,8}", name in "[ab]{0,8}") {
            prop_assert_eq!(matches(&pattern, &name), by_definition(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
