//! The names under which tools are exposed.
//!
//! `<connector>__<tool>` by default. Upstream names may be anything, so they are cleaned to what model APIs accept
//! (`[A-Za-z0-9_-]`, mcp-protocol 2.5) and cut to a budget; a name that had to be altered carries a hash of the original,
//! so that two originals never share a name by accident. The same input always gives the same name.

use crate::config::NameStyle;
use crate::model::{ConnectorId, Digest};

/// How tools are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameRule {
    /// With or without the connector, and how they are joined.
    pub style: NameStyle,
    /// Longest name, in characters. At least 24.
    pub longest: usize,
}

impl NameRule {
    /// The exposed name of `tool` of `connector`.
    pub fn name(&self, connector: &ConnectorId, tool: &str) -> String {
        let prefix = self.style.prefix(connector);
        let clean = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        let fits = prefix.len() + tool.len() <= self.longest;
        if fits && !tool.is_empty() && tool.chars().all(clean) {
            return prefix + tool;
        }
        let hash = Digest::of(format!("{connector}\0{tool}").as_bytes()).short(HASH_CHARACTERS);
        let cleaned = tool.chars().map(|character| if clean(character) { character } else { '_' });
        let mut name: String = prefix.chars().chain(cleaned).take(self.longest - HASH_CHARACTERS - 1).collect();
        name.push('_');
        name.push_str(&hash);
        name
    }
}

/// Characters of the hash in an altered name: 32 bits, among the tools of one gateway.
const HASH_CHARACTERS: usize = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(text: &str) -> ConnectorId {
        text.parse().unwrap()
    }

    const RULE: NameRule = NameRule { style: NameStyle::Prefixed, longest: 46 };

    #[test]
    fn ordinary_names_are_prefixed_and_otherwise_left_alone() {
        assert_eq!(RULE.name(&id("demo"), "get_claims"), "demo__get_claims");
        let dotted = NameRule { style: NameStyle::Dotted, ..RULE };
        assert_eq!(dotted.name(&id("demo"), "sparql"), "demo.sparql");
        let plain = NameRule { style: NameStyle::Plain, ..RULE };
        assert_eq!(plain.name(&id("demo"), "sparql"), "sparql");
    }

    #[test]
    fn altered_names_carry_a_hash_of_the_original() {
        let dotted = RULE.name(&id("demo"), "a.b");
        let underscored = RULE.name(&id("demo"), "a_b");
        assert_eq!(underscored, "demo__a_b");
        assert!(dotted.starts_with("demo__a_b_") && dotted != underscored, "{dotted}");
        assert_ne!(RULE.name(&id("demo"), "a.b"), RULE.name(&id("demo"), "a/b"));
    }

    #[test]
    fn a_tool_called_constructor_is_a_tool_like_any_other() {
        assert_eq!(RULE.name(&id("wikidata"), "constructor"), "wikidata__constructor");
    }

    proptest! {
        #[test]
        fn every_name_fits_the_budget_and_the_alphabet(tool in ".{0,80}", longest in 24usize..129) {
            for style in [NameStyle::Prefixed, NameStyle::Plain] {
                let name = NameRule { style, longest }.name(&id("some-connector"), &tool);
                prop_assert!(!name.is_empty() && name.len() <= longest);
                prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte)));
            }
        }

        #[test]
        fn different_tools_have_different_names(one in ".{0,60}", two in ".{0,60}") {
            prop_assume!(one != two);
            prop_assert_ne!(RULE.name(&id("demo"), &one), RULE.name(&id("demo"), &two));
        }
    }
}
