//! URI templates (RFC 6570, levels 1 to 3), compared with URIs: good enough to say whose resource a URI may be, never used to
//! expand one.
//!
//! Literal parts must match. An expression stands for any characters, at least one, except where its variables may be left
//! out as a rule (`{?...}`, `{&...}`, `{;...}`, `{#...}`): then for none as well. So more URIs match than a template expands
//! to, and the server has the last word. Each literal is sought once, from where the one before it ended: the time is linear
//! in the URI for each part of the template, whatever both are.

/// A template, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct UriTemplate {
    /// What it begins with.
    start: String,
    /// What follows: for how many characters at least expressions stand, then a literal, which may be empty at the end only.
    rest: Vec<(usize, String)>,
}

impl UriTemplate {
    /// Takes a template apart. A brace that is never closed is a character like any other.
    pub(super) fn parse(template: &str) -> Self {
        let mut literals = vec![String::new()];
        let mut gaps: Vec<usize> = Vec::new();
        let mut left = template;
        while let Some((before, inside, after)) = next_expression(left) {
            let least = usize::from(!inside.starts_with(['?', '&', ';', '#']));
            match (literals.last_mut(), gaps.last_mut()) {
                // Two expressions side by side are one that is as long as both.
                (Some(literal), Some(gap)) if literal.is_empty() && before.is_empty() => *gap += least,
                (Some(literal), _) => {
                    literal.push_str(before);
                    gaps.push(least);
                    literals.push(String::new());
                }
                (None, _) => {}
            }
            left = after;
        }
        if let Some(literal) = literals.last_mut() {
            literal.push_str(left);
        }
        let mut literals = literals.into_iter();
        let start = literals.next().unwrap_or_default();
        Self { start, rest: gaps.into_iter().zip(literals).collect() }
    }

    /// Whether a URI may be one of its expansions.
    pub(super) fn matches(&self, uri: &str) -> bool {
        let Some(mut left) = uri.strip_prefix(self.start.as_str()) else { return false };
        let Some(((last_gap, last), between)) = self.rest.split_last() else { return left.is_empty() };
        // The first place at which a literal fits leaves most for those that follow.
        for (gap, literal) in between {
            let found = skip(left, *gap).and_then(|open| open.split_once(literal.as_str()));
            let Some((_, after)) = found else { return false };
            left = after;
        }
        skip(left, *last_gap).is_some_and(|open| open.ends_with(last.as_str()))
    }
}

/// A text without so many characters at its beginning.
fn skip(text: &str, characters: usize) -> Option<&str> {
    let mut left = text.chars();
    (0..characters).try_for_each(|_| left.next().map(drop))?;
    Some(left.as_str())
}

/// What stands before the next expression, in it and behind it.
fn next_expression(template: &str) -> Option<(&str, &str, &str)> {
    let (before, from) = template.split_once('{')?;
    let (inside, after) = from.split_once('}')?;
    Some((before, inside, after))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn literals_must_match_and_expressions_stand_for_something() {
        for (template, uri, expected) in [
            ("test://template/{id}/data", "test://template/7/data", true),
            ("test://template/{id}/data", "test://template//data", false),
            ("test://template/{id}/data", "test://template/7/date", false),
            ("test://template/{id}/data", "test://template/7/data/data", true),
            ("test://template/{id}/data", "test://template/a/b/data", true),
            ("test://plain", "test://plain", true),
            ("test://plain", "test://plain2", false),
            ("{+all}", "x", true),
            ("{+all}", "", false),
            ("a{b}{c}", "ab", false),
            ("a{b}{c}", "abc", true),
            ("file:///{+path}", "file:///etc/hosts", true),
            ("s://x{?q,limit}", "s://x", true),
            ("s://x{?q,limit}", "s://x?q=1", true),
            ("s://x{/part}", "s://x", false),
            ("s://{a}-{b}.txt", "s://1-2-3.txt", true),
            ("s://{a}-{b}.txt", "s://1-.txt", false),
            ("s://{open", "s://{open", true),
            ("s://{open", "s://x", false),
            ("s://{a}é{b}", "s://ñéü", true),
            ("s://{a}é{b}", "s://ñü", false),
        ] {
            assert_eq!(UriTemplate::parse(template).matches(uri), expected, "{template} {uri}");
        }
    }

    #[test]
    fn no_template_takes_long() {
        // Exponential for a matcher that tries everything: this ends.
        assert!(UriTemplate::parse(&"a{x}".repeat(500)).matches(&"a".repeat(8_000)));
        assert!(!UriTemplate::parse(&format!("{}b", "a{x}".repeat(500))).matches(&"a".repeat(8_000)));
    }

    /// The definition: parts are literals, or expressions that stand for so many characters at least.
    fn by_definition(parts: &[Result<&str, usize>], text: &str) -> bool {
        match parts.split_first() {
            None => text.is_empty(),
            Some((Ok(literal), rest)) => text.strip_prefix(literal).is_some_and(|text| by_definition(rest, text)),
            Some((Err(least), rest)) => (*least..=text.len()).any(|run| by_definition(rest, &text[run..])),
        }
    }

    proptest! {
        #[test]
        fn it_is_what_the_definition_says(
            parts in proptest::collection::vec("[ab]{1,2}|\\{x\\}|\\{\\?x\\}", 0..6), uri in "[ab]{0,9}"
        ) {
            let defined: Vec<Result<&str, usize>> = parts.iter().map(|part| match part.as_str() {
                "{x}" => Err(1),
                "{?x}" => Err(0),
                literal => Ok(literal),
            }).collect();
            let template = UriTemplate::parse(&parts.concat());
            prop_assert_eq!(template.matches(&uri), by_definition(&defined, &uri), "{:?}", template);
        }

        #[test]
        fn nothing_that_a_server_writes_harms(template in ".{0,60}", uri in ".{0,60}") {
            let _ = UriTemplate::parse(&template).matches(&uri);
        }

        #[test]
        fn what_a_template_expands_to_matches_it(before in "[a-z:/]{0,9}", value in "[a-z0-9%]{1,9}", after in "[a-z/]{0,9}") {
            let template = UriTemplate::parse(&format!("{before}{{id}}{after}"));
            prop_assert!(template.matches(&format!("{before}{value}{after}")), "{:?}", template);
        }
    }
}
