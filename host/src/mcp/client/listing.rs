//! Reading tool lists, page by page, under caps and without losing a byte of any tool.
//!
//! Only what paging and caching need is understood: `tools[].name`, `nextCursor`, `ttlMs`, `cacheScope`, `resultType`
//! (2026-07-28, `server/tools`, `server/utilities/pagination` and `server/utilities/caching`).

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::meta;
use crate::mcp::envelope::present;
use crate::mcp::error::ProtocolFault;
use crate::mcp::limits::{MAX_LIST_BYTES, MAX_PAGES, MAX_TOOLS};
use crate::model::raw::{self, RawObject};

/// All tools of a server.
#[derive(Clone, Debug)]
pub struct ToolList {
    /// The tools, in the server's order, exactly as it wrote them. Each is an object with a string `name`.
    pub tools: Vec<Box<RawValue>>,
    /// How long the list is fresh, in milliseconds: the least of all pages that say; none if none does.
    pub ttl_ms: Option<u64>,
    /// Who may be served the list; none if no page says.
    pub scope: Option<ListScope>,
    /// How many pages it took.
    pub pages: usize,
}

/// Who may be served a list (2026-07-28, `server/utilities/caching`, `cacheScope`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListScope {
    /// Anyone.
    Public,
    /// Only callers with the same credentials.
    Private,
}

/// A list as its pages come in.
#[derive(Debug, Default)]
pub(super) struct Listing {
    tools: Vec<(String, Box<RawValue>)>,
    bytes: usize,
    pages: usize,
    cursors: HashSet<String>,
    ttl_ms: Option<u64>,
    scopes: Scopes,
    server_info: Option<Box<RawValue>>,
}

/// A whole list, before tools that must not be offered are taken out.
#[derive(Debug)]
pub(super) struct Listed {
    pub(super) tools: Vec<(String, Box<RawValue>)>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) scope: Option<ListScope>,
    pub(super) pages: usize,
    pub(super) server_info: Option<Box<RawValue>>,
}

impl Listing {
    /// Takes a page and returns the parameters for the next one; none after the last.
    ///
    /// # Errors
    /// [`ProtocolFault`] if the page can not be read or a cap is passed.
    pub(super) fn add(&mut self, result: &RawValue) -> Result<Option<RawObject>, ProtocolFault> {
        self.pages += 1;
        self.bytes += result.get().len();
        if self.bytes > MAX_LIST_BYTES {
            return Err(ProtocolFault::ListTooLarge);
        }
        let page: Page<'_> = raw::is_object(result)
            .then(|| serde_json::from_str(result.get()).ok())
            .flatten()
            .ok_or(ProtocolFault::List)?;
        if page.result_type.is_some_and(|kind| raw::as_text(kind).as_deref() != Some("complete")) {
            return Err(ProtocolFault::ListResultType);
        }
        if self.tools.len() + page.tools.0.len() > MAX_TOOLS {
            return Err(ProtocolFault::TooManyTools);
        }
        for tool in page.tools.0 {
            self.tools.push((name_of(tool).ok_or(ProtocolFault::ToolWithoutName)?, tool.to_owned()));
        }
        self.ttl_ms = self.ttl_ms.into_iter().chain(page.ttl_ms.and_then(milliseconds)).min();
        self.scopes.add(page.cache_scope);
        if self.server_info.is_none() {
            self.server_info = page.meta.and_then(meta::server_info_in);
        }
        let Some(cursor) = page.next_cursor.filter(|cursor| !raw::is_null(cursor)) else { return Ok(None) };
        // An empty cursor is a cursor.
        let text = raw::as_text(cursor).ok_or(ProtocolFault::List)?;
        if !self.cursors.insert(text) {
            return Err(ProtocolFault::RepeatedCursor);
        }
        if self.pages == MAX_PAGES {
            return Err(ProtocolFault::TooManyPages);
        }
        let mut params = RawObject::new();
        params.set("cursor", cursor.to_owned());
        Ok(Some(params))
    }

    /// The list, after its last page.
    pub(super) fn finish(self) -> Listed {
        Listed {
            tools: self.tools,
            ttl_ms: self.ttl_ms,
            scope: self.scopes.verdict(),
            pages: self.pages,
            server_info: self.server_info,
        }
    }
}

/// The name of a tool; none if it is no object with exactly one `name` that is a string.
pub(super) fn name_of(tool: &RawValue) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Named {
        name: String,
    }
    let named: Named = raw::is_object(tool).then(|| serde_json::from_str(tool.get()).ok())??;
    Some(named.name)
}

/// Whole milliseconds; negative ones count as none, and what is no number as absent.
fn milliseconds(raw: &RawValue) -> Option<u64> {
    let number = raw.get();
    number.parse().ok().or_else(|| {
        let number: f64 = serde_json::from_str(number).ok()?;
        // A float beyond the range becomes the end of the range.
        Some(number as u64)
    })
}

/// Which scopes the pages gave.
#[derive(Debug, Default)]
struct Scopes {
    public: usize,
    silent: usize,
    private: usize,
}

impl Scopes {
    fn add(&mut self, scope: Option<&RawValue>) {
        match scope.map(raw::as_text) {
            None => self.silent += 1,
            Some(Some(scope)) if scope == "public" => self.public += 1,
            // A scope that nobody knows is none to share.
            Some(_) => self.private += 1,
        }
    }

    /// Public only if every page says so.
    fn verdict(&self) -> Option<ListScope> {
        match self {
            Self { private: 0, public: 0, .. } => None,
            Self { private: 0, silent: 0, .. } => Some(ListScope::Public),
            _ => Some(ListScope::Private),
        }
    }
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Page<'a> {
    #[serde(borrow)]
    tools: BoundedTools<'a>,
    #[serde(borrow, default, deserialize_with = "present")]
    next_cursor: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    cache_scope: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result_type: Option<&'a RawValue>,
    #[serde(rename = "_meta", borrow, default, deserialize_with = "present")]
    meta: Option<&'a RawValue>,
}

/// At most one tool more than the cap is held.
struct BoundedTools<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for BoundedTools<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ToolsVisitor)
    }
}

struct ToolsVisitor;

impl<'de> Visitor<'de> for ToolsVisitor {
    type Value = BoundedTools<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of tools")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut tools: A) -> Result<Self::Value, A::Error> {
        let mut held = Vec::new();
        while held.len() <= MAX_TOOLS {
            match tools.next_element()? {
                Some(tool) => held.push(tool),
                None => return Ok(BoundedTools(held)),
            }
        }
        while tools.next_element::<IgnoredAny>()?.is_some() {}
        Ok(BoundedTools(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(listing: &mut Listing, page: &str) -> Result<Option<String>, ProtocolFault> {
        let next = listing.add(&RawValue::from_string(page.to_owned()).unwrap())?;
        Ok(next.map(|params| params.to_raw().get().to_owned()))
    }

    fn list(pages: &[&str]) -> Listed {
        let mut listing = Listing::default();
        for page in pages {
            add(&mut listing, page).unwrap();
        }
        listing.finish()
    }

    #[test]
    fn tools_of_all_pages_keep_their_bytes_and_their_order() {
        let odd = r#"{ "name":"b\u0061","n":123456789012345678901234567890,"x":1.0,"x":2 }"#;
        let listed = list(&[
            &format!(r#"{{"tools":[{odd}],"nextCursor":""}}"#),
            r#"{"tools":[{"name":"a"}],"nextCursor":null}"#,
        ]);
        let tools: Vec<_> = listed.tools.iter().map(|(name, tool)| (name.as_str(), tool.get())).collect();
        assert_eq!(tools, [("ba", odd), ("a", r#"{"name":"a"}"#)]);
        assert_eq!(listed.pages, 2);
    }

    #[test]
    fn an_empty_cursor_is_a_cursor_and_goes_back_as_it_came() {
        let mut listing = Listing::default();
        assert_eq!(add(&mut listing, r#"{"tools":[],"nextCursor":""}"#), Ok(Some(r#"{"cursor":""}"#.into())));
        assert_eq!(
            add(&mut listing, r#"{"tools":[],"nextCursor":"\u0061"}"#),
            Ok(Some(r#"{"cursor":"\u0061"}"#.into()))
        );
        assert_eq!(add(&mut listing, r#"{"tools":[],"nextCursor":"a"}"#), Err(ProtocolFault::RepeatedCursor));
    }

    #[test]
    fn the_freshness_of_a_list_is_that_of_its_least_fresh_page() {
        for (hints, expected) in [
            (["", ""], None),
            ([r#","ttlMs":5000"#, ""], Some(5000)),
            ([r#","ttlMs":5000"#, r#","ttlMs":70.5"#], Some(70)),
            ([r#","ttlMs":5000"#, r#","ttlMs":-1"#], Some(0)),
            ([r#","ttlMs":1e99"#, r#","ttlMs":"soon""#], Some(u64::MAX)),
        ] {
            let pages = hints.map(|hint| format!(r#"{{"tools":[]{hint}}}"#));
            assert_eq!(list(&[&pages[0], &pages[1]]).ttl_ms, expected, "{hints:?}");
        }
    }

    #[test]
    fn a_list_is_public_only_if_every_page_is() {
        const PUBLIC: &str = r#","cacheScope":"public""#;
        for (hints, expected) in [
            (["", ""], None),
            ([PUBLIC, PUBLIC], Some(ListScope::Public)),
            ([PUBLIC, ""], Some(ListScope::Private)),
            ([PUBLIC, r#","cacheScope":"private""#], Some(ListScope::Private)),
            (["", r#","cacheScope":"tribal""#], Some(ListScope::Private)),
        ] {
            let pages = hints.map(|hint| format!(r#"{{"tools":[]{hint}}}"#));
            assert_eq!(list(&[&pages[0], &pages[1]]).scope, expected, "{hints:?}");
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (page, fault) in [
            ("[]", ProtocolFault::List),
            ("{}", ProtocolFault::List),
            (r#"{"tools":{}}"#, ProtocolFault::List),
            (r#"{"tools":[],"nextCursor":7}"#, ProtocolFault::List),
            (r#"{"tools":[["name"]]}"#, ProtocolFault::ToolWithoutName),
            (r#"{"tools":[{"title":"x"}]}"#, ProtocolFault::ToolWithoutName),
            (r#"{"tools":[{"name":7}]}"#, ProtocolFault::ToolWithoutName),
            (r#"{"tools":[],"resultType":"input_required"}"#, ProtocolFault::ListResultType),
        ] {
            assert_eq!(add(&mut Listing::default(), page), Err(fault), "{page}");
        }
    }

    #[test]
    fn a_list_ends_at_its_caps() {
        let mut listing = Listing::default();
        for page in 1..MAX_PAGES {
            add(&mut listing, &format!(r#"{{"tools":[],"nextCursor":"{page}"}}"#)).unwrap();
        }
        assert_eq!(add(&mut listing, r#"{"tools":[],"nextCursor":"last"}"#), Err(ProtocolFault::TooManyPages));

        let many = format!(r#"{{"tools":[{}1]}}"#, r#"{"name":"x"},"#.repeat(MAX_TOOLS));
        assert_eq!(add(&mut Listing::default(), &many), Err(ProtocolFault::TooManyTools));

        let large = format!(r#"{{"tools":[],"x":"{}"}}"#, "x".repeat(MAX_LIST_BYTES));
        assert_eq!(add(&mut Listing::default(), &large), Err(ProtocolFault::ListTooLarge));
    }
}
