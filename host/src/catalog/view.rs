//! What somebody may see: which connectors, and which tools.
//!
//! A tool that is hidden is not there: it is not listed, and a call of it is answered as a call of a name that does not
//! exist. Of a connector that is hidden, prompts, resources and resource templates are not there either. The gateway's own
//! tools tell of every connector: only who sees all of those sees them.

use std::sync::Arc;

use crate::model::{ConnectorId, Glob, ListKind};

/// What somebody may see. Cheap to clone, and equal if it shows the same for the same reasons.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct View {
    rules: Option<Arc<ViewRules>>,
    audience: Audience,
}

/// What a view is limited to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ViewRules {
    /// Only connectors whose ids match one of these; unset: all.
    pub connectors: Option<Vec<Glob>>,
    /// Only tools whose exposed names match one of these; unset: all.
    pub tools: Option<Vec<Glob>>,
    /// None of the tools whose exposed names match one of these.
    pub deny_tools: Vec<Glob>,
}

/// Who may look at the same gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
enum Audience {
    /// Whoever reaches it.
    #[default]
    Anybody,
    /// Whoever holds a token: what this view is served must be handed to nobody else.
    TokenHolders,
}

impl ViewRules {
    /// Whether they hide nothing, whatever there is.
    pub fn hide_nothing(&self) -> bool {
        self.connectors.is_none() && self.tools.is_none() && self.deny_tools.is_empty()
    }
}

impl View {
    /// Everything there is.
    pub fn everything() -> Self {
        Self::default()
    }

    /// What these rules leave.
    pub fn of(rules: ViewRules) -> Self {
        Self { rules: (!rules.hide_nothing()).then(|| Arc::new(rules)), audience: Audience::Anybody }
    }

    /// The same, for the holder of a token: lists are private, because caches may hand public ones to anybody, also to who
    /// has no token or one that shows less (SEP-2549).
    #[must_use]
    pub fn of_a_token(mut self) -> Self {
        self.audience = Audience::TokenHolders;
        self
    }

    /// Whether nothing is hidden from it.
    pub fn sees_everything(&self) -> bool {
        self.rules.is_none()
    }

    /// Whether everybody sees the same, whoever that is.
    pub fn is_everybodys(&self) -> bool {
        self.rules.is_none() && self.audience == Audience::Anybody
    }

    /// Whether it sees anything of a connector.
    pub fn sees_connector(&self, id: &ConnectorId) -> bool {
        let patterns = self.rules.as_ref().and_then(|rules| rules.connectors.as_ref());
        patterns.is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(id.as_str())))
    }

    /// Whether it sees an item of a connector that it sees, by the name under which that is exposed.
    pub fn sees(&self, kind: ListKind, key: &str) -> bool {
        let (Some(rules), ListKind::Tools) = (&self.rules, kind) else { return true };
        let allowed = rules.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| tool.matches(key)));
        allowed && !rules.deny_tools.iter().any(|tool| tool.matches(key))
    }

    /// Whether it sees a tool of the gateway itself.
    pub fn sees_own(&self, name: &str) -> bool {
        let every_connector = self.rules.as_ref().is_none_or(|rules| rules.connectors.is_none());
        every_connector && self.sees(ListKind::Tools, name)
    }

    /// The rules by which lists are remembered.
    pub(super) fn rules(&self) -> Option<&Arc<ViewRules>> {
        self.rules.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(texts: &[&str]) -> Vec<Glob> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn patterns_hide_tools_by_their_exposed_names_and_everything_of_other_connectors() {
        let rules = ViewRules {
            connectors: Some(globs(&["wiki", "docs-*"])),
            tools: Some(globs(&["*__get_*"])),
            deny_tools: globs(&["*_admin"]),
        };
        let view = View::of(rules);
        let sees = |id: &str| view.sees_connector(&id.parse().unwrap());
        assert!(sees("wiki") && sees("docs-1") && !sees("docs") && !sees("wiki2"));
        assert!(view.sees(ListKind::Tools, "wiki__get_page"));
        assert!(!view.sees(ListKind::Tools, "wiki__put_page") && !view.sees(ListKind::Tools, "wiki__get_admin"));
        for kind in [ListKind::Prompts, ListKind::Resources, ListKind::Templates] {
            assert!(view.sees(kind, "wiki__put_page"));
        }
        assert!(!view.sees_everything() && !view.is_everybodys());
    }

    #[test]
    fn rules_that_hide_nothing_are_no_rules() {
        assert_eq!(View::of(ViewRules::default()), View::everything());
        assert!(View::everything().is_everybodys());
        let holders = View::everything().of_a_token();
        assert!(holders.sees_everything() && !holders.is_everybodys());
        assert!(!View::of(ViewRules { tools: Some(Vec::new()), ..ViewRules::default() }).sees(ListKind::Tools, "a"));
    }

    #[test]
    fn who_does_not_see_every_connector_sees_no_tool_that_tells_of_them() {
        let some = View::of(ViewRules { connectors: Some(globs(&["*"])), ..ViewRules::default() });
        assert!(!some.sees_own("registry_list"));
        let denied = View::of(ViewRules { deny_tools: globs(&["registry_remove"]), ..ViewRules::default() });
        assert!(denied.sees_own("registry_list") && !denied.sees_own("registry_remove"));
        assert!(View::everything().sees_own("registry_remove"));
    }
}
