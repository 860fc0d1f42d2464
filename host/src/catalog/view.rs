//! What somebody may see: which connectors, and which tools.
//!
//! A tool that is hidden is not there: it is not listed, and a call of it is answered as a call of a name that does not
//! exist. Of a connector that is hidden, prompts, resources and resource templates are not there either. The gateway's own
//! tools tell of every connector: only who sees all of those sees them.

use std::borrow::Cow;
use std::sync::Arc;

use super::route::Route;
use crate::config::NameStyle;
use crate::model::{ConnectorId, Glob};

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
    /// Only tools whose exposed names match one of these, as they are or unshortened; unset: all.
    pub tools: Option<Vec<Glob>>,
    /// None of the tools whose exposed names match one of these, as they are or unshortened, or whose own names do.
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

    fn admit(&self, names: &ToolNames<'_>) -> bool {
        let allowed = self.tools.as_ref().is_none_or(|tools| tools.iter().any(|tool| names.match_allowed(tool)));
        allowed && !self.deny_tools.iter().any(|tool| names.match_denied(tool))
    }
}

/// The names of a tool that patterns are compared with. What is cut, replaced or renamed on the way to the exposed name must
/// not take a tool out of a pattern's reach.
pub(super) struct ToolNames<'a> {
    exposed: &'a str,
    /// The exposed name as it would be if every name could be exposed.
    unshortened: Cow<'a, str>,
    own: &'a str,
}

impl<'a> ToolNames<'a> {
    pub(super) fn new(exposed: &'a str, style: NameStyle, route: Option<&'a Route>) -> Self {
        let Some(route) = route else { return Self::of_own(exposed) };
        let unshortened = style.prefix(&route.connector) + &route.original;
        Self { exposed, unshortened: Cow::Owned(unshortened), own: &route.original }
    }

    /// Those of a tool of the gateway itself.
    pub(super) fn of_own(name: &'a str) -> Self {
        Self { exposed: name, unshortened: Cow::Borrowed(name), own: name }
    }

    /// Whether a pattern of `tools` matches. The own name counts for nothing: a server chooses it, and could begin it with the
    /// prefix of another connector.
    pub(super) fn match_allowed(&self, pattern: &Glob) -> bool {
        pattern.matches(self.exposed) || pattern.matches(&self.unshortened)
    }

    /// Whether a pattern of `deny-tools` matches.
    pub(super) fn match_denied(&self, pattern: &Glob) -> bool {
        self.match_allowed(pattern) || pattern.matches(self.own)
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

    /// Whether it sees a tool of a connector that it sees.
    pub(super) fn sees_tool(&self, exposed: &str, style: NameStyle, route: Option<&Route>) -> bool {
        let rules = self.rules.as_ref().filter(|rules| rules.tools.is_some() || !rules.deny_tools.is_empty());
        rules.is_none_or(|rules| rules.admit(&ToolNames::new(exposed, style, route)))
    }

    /// Whether it sees a tool of the gateway itself.
    pub fn sees_own(&self, name: &str) -> bool {
        let every_connector = self.rules.as_ref().is_none_or(|rules| rules.connectors.is_none());
        every_connector && self.rules.as_ref().is_none_or(|rules| rules.admit(&ToolNames::of_own(name)))
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
        let route = |tool: &str| Route { connector: "wiki".parse().unwrap(), original: tool.to_owned() };
        for (exposed, own, seen) in [
            ("wiki__get_page", "get_page", true),
            ("wiki__put_page", "put_page", false),
            ("wiki__get_admin", "get_admin", false),
            // Shortened, cleaned or renamed.
            ("wiki__get_some_82b2b27e", "get_something_admin", false),
            ("wiki__get_it_admin_30616523", "get.it_admin", false),
            ("wiki__get_safe", "root_admin", false),
            ("wiki__read_82b2b27e", "x__get_something", true),
            ("wiki__read", "get_page", true),
            // A server's own name allows nothing by itself.
            ("wiki__zzz", "xget_it", false),
        ] {
            assert_eq!(view.sees_tool(exposed, NameStyle::Prefixed, Some(&route(own))), seen, "{exposed} {own}");
        }
        // The prefix of an own name is not that of a connector.
        let only_docs = View::of(ViewRules { tools: Some(globs(&["docs__*"])), ..ViewRules::default() });
        assert!(!only_docs.sees_tool("wiki__docs__get", NameStyle::Prefixed, Some(&route("docs__get"))));
        assert!(!view.sees_everything() && !view.is_everybodys());
    }

    #[test]
    fn rules_that_hide_nothing_are_no_rules() {
        assert_eq!(View::of(ViewRules::default()), View::everything());
        assert!(View::everything().is_everybodys());
        let holders = View::everything().of_a_token();
        assert!(holders.sees_everything() && !holders.is_everybodys());
        assert!(!View::of(ViewRules { tools: Some(Vec::new()), ..ViewRules::default() }).sees_own("a"));
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
