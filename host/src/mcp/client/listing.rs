//! Reading lists, page by page, under caps and without losing a byte of any item.
//!
//! Only what paging and caching need is understood: the items and their names, `nextCursor`, `ttlMs`, `cacheScope`,
//! `resultType` (2026-07-28, `server/utilities/pagination` and `server/utilities/caching`). The four lists differ in names.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::mcp::envelope::present;
use crate::mcp::error::ProtocolFault;
use crate::mcp::limits::{
    LEFT_OUT_CHARACTERS, LEFT_OUT_NAMED, MAX_EMPTY_PAGES, MAX_ITEM_DEPTH, MAX_ITEMS, MAX_LIST_BYTES, MAX_PAGES,
};
use crate::model::ListKind;
use crate::model::raw::{self, RawObject};
use crate::model::text::escape;

/// A whole list of a server.
#[derive(Clone, Debug)]
pub struct Listed {
    /// The items, in the server's order, exactly as it wrote them. Each is an object with a text as its key.
    pub items: Vec<Box<RawValue>>,
    /// How long the list is fresh, in milliseconds: the least of all pages that say; none if none does.
    pub ttl_ms: Option<u64>,
    /// Who may be served the list; none if no page says.
    pub scope: Option<ListScope>,
    /// How many pages it took.
    pub pages: usize,
    /// What its server offers and nobody is offered.
    pub left_out: LeftOut,
}

/// Items that are left out of a list, since they break a rule.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// How many.
    pub count: usize,
    /// What the first of them are called and why they are left out, as it may be shown: at most [`LEFT_OUT_NAMED`], cut.
    pub first: Vec<String>,
}

impl LeftOut {
    /// One more.
    pub(super) fn add(&mut self, name: &str, reason: impl fmt::Display) {
        self.count += 1;
        if self.first.len() < LEFT_OUT_NAMED {
            let begin: String = name.chars().take(LEFT_OUT_CHARACTERS).collect();
            let name: String = escape(&begin).chars().take(LEFT_OUT_CHARACTERS).collect();
            self.first.push(format!("{name} ({reason})"));
        }
    }
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
#[derive(Debug)]
pub(super) struct Listing {
    kind: ListKind,
    items: Vec<(String, Box<RawValue>)>,
    bytes: usize,
    pages: usize,
    cursors: HashSet<String>,
    /// Whether the next page is asked for with an empty cursor.
    next_is_empty: bool,
    /// Pages in a row that brought no item.
    empty_pages: usize,
    ttl_ms: Option<u64>,
    scopes: Scopes,
    left_out: LeftOut,
    end: ListEnd,
}

/// How a list came to its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum ListEnd {
    /// Its server gave no more cursor.
    #[default]
    Last,
    /// Its server gave a cursor that leads nowhere new.
    Repeats,
}

/// A whole list, before tools that must not be offered are taken out.
#[derive(Debug)]
pub(super) struct Unsifted {
    pub(super) items: Vec<(String, Box<RawValue>)>,
    pub(super) ttl_ms: Option<u64>,
    pub(super) scope: Option<ListScope>,
    pub(super) pages: usize,
    pub(super) left_out: LeftOut,
}

impl Listing {
    /// A list of which nothing has come in.
    pub(super) fn new(kind: ListKind) -> Self {
        Self {
            kind,
            items: Vec::new(),
            bytes: 0,
            pages: 0,
            cursors: HashSet::new(),
            next_is_empty: false,
            empty_pages: 0,
            ttl_ms: None,
            scopes: Scopes::default(),
            left_out: LeftOut::default(),
            end: ListEnd::default(),
        }
    }

    /// Takes a page and returns the parameters for the next one; none after the last. A list ends where its server gives a
    /// cursor again, or other cursors for the same items or for none: some always give the same one, or an empty one
    /// (java-sdk#628, csharp-sdk#1072). What came before is the list.
    ///
    /// # Errors
    /// [`ProtocolFault`] if the page can not be read or a cap is passed.
    pub(super) fn add(&mut self, result: &RawValue) -> Result<Option<RawObject>, ProtocolFault> {
        self.pages += 1;
        let page: Page<'_> = raw::is_object(result)
            .then(|| serde_json::from_str(result.get()).ok())
            .flatten()
            .ok_or(ProtocolFault::List(self.kind))?;
        if page.result_type.is_some_and(|kind| raw::as_text(kind).as_deref() != Some("complete")) {
            return Err(ProtocolFault::ListResultType(self.kind));
        }
        let cursor = page.next_cursor.filter(|cursor| !raw::is_null(cursor));
        // An empty cursor is a cursor.
        let text = cursor.map(|cursor| raw::as_text(cursor).ok_or(ProtocolFault::List(self.kind))).transpose()?;
        let items = page.items(self.kind).ok_or(ProtocolFault::List(self.kind))?;
        if text.is_some() && self.has_all(&items.0) {
            self.end = ListEnd::Repeats;
            return Ok(None);
        }
        self.bytes += result.get().len();
        if self.bytes > MAX_LIST_BYTES {
            return Err(ProtocolFault::ListTooLarge(self.kind));
        }
        if self.items.len() + items.0.len() > MAX_ITEMS {
            return Err(ProtocolFault::TooManyItems(self.kind));
        }
        for item in &items.0 {
            let key = key_of(self.kind, item).ok_or(ProtocolFault::NamelessItem(self.kind))?;
            if raw::is_deeper_than(item, MAX_ITEM_DEPTH) {
                self.left_out.add(&key, "it nests too deep");
                continue;
            }
            self.items.push((key, (*item).to_owned()));
        }
        self.ttl_ms = self.ttl_ms.into_iter().chain(page.ttl_ms.and_then(milliseconds)).min();
        self.scopes.add(page.cache_scope);
        self.empty_pages = if items.0.is_empty() { self.empty_pages + 1 } else { 0 };
        let Some((cursor, text)) = cursor.zip(text) else { return Ok(None) };
        self.next_is_empty = text.is_empty();
        let leads_nowhere = self.empty_pages == MAX_EMPTY_PAGES && !self.items.is_empty();
        if leads_nowhere || !self.cursors.insert(text) {
            self.end = ListEnd::Repeats;
            return Ok(None);
        }
        if self.pages == MAX_PAGES {
            return Err(ProtocolFault::TooManyPages(self.kind));
        }
        let mut params = RawObject::new();
        params.set("cursor", cursor.to_owned());
        Ok(Some(params))
    }

    /// The server refused the request for the next page. Returns whether the list ends with what came before: an empty cursor is
    /// how some say that there is none.
    pub(super) fn ends_when_refused(&mut self) -> bool {
        if self.next_is_empty {
            self.end = ListEnd::Repeats;
        }
        self.next_is_empty
    }

    /// Whether a page brings items, and none that did not come before.
    fn has_all(&self, items: &[&RawValue]) -> bool {
        if self.pages < 2 || items.is_empty() {
            return false;
        }
        let known: HashSet<&str> = self.items.iter().map(|(key, _)| key.as_str()).collect();
        items.iter().all(|item| key_of(self.kind, item).is_some_and(|key| known.contains(key.as_str())))
    }

    /// The list, after its last page, and how it came to its end. Of a list that repeats, an item that came twice is left out
    /// once.
    pub(super) fn finish(self) -> (Unsifted, ListEnd) {
        let Self { mut items, ttl_ms, pages, left_out, end, .. } = self;
        if end == ListEnd::Repeats {
            let mut seen = HashSet::new();
            items.retain(|(key, _)| seen.insert(key.clone()));
        }
        (Unsifted { items, ttl_ms, scope: self.scopes.verdict(), pages, left_out }, end)
    }
}

/// What an item is asked for by; none if it is no object with exactly one such member that is a string.
pub(super) fn key_of(kind: ListKind, item: &RawValue) -> Option<String> {
    let text = raw::is_object(item).then(|| item.get())?;
    let mut reader = serde_json::Deserializer::from_str(text);
    reader.deserialize_map(OnlyText(kind.key())).ok()?
}

/// Reads the one member of that name. The names of the others may be anything that JSON can write: a lone surrogate too.
struct OnlyText<'k>(&'k str);

impl<'de> Visitor<'de> for OnlyText<'_> {
    type Value = Option<String>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "an object with a {}", self.0)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Option<String>, A::Error> {
        let mut found = None;
        let mut count = 0;
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            if raw::as_text(key).as_deref() == Some(self.0) {
                count += 1;
                found = raw::as_text(value);
            }
        }
        Ok(found.filter(|_| count == 1))
    }
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
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompts: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resources: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resource_templates: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    next_cursor: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    ttl_ms: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    cache_scope: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    result_type: Option<&'a RawValue>,
}

impl<'a> Page<'a> {
    fn items(&self, kind: ListKind) -> Option<BoundedItems<'a>> {
        let items = match kind {
            ListKind::Tools => self.tools,
            ListKind::Prompts => self.prompts,
            ListKind::Resources => self.resources,
            ListKind::Templates => self.resource_templates,
        };
        serde_json::from_str(items?.get()).ok()
    }
}

/// At most one item more than the cap is held.
struct BoundedItems<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for BoundedItems<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = BoundedItems<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an array of items")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut held = Vec::new();
        while held.len() <= MAX_ITEMS {
            match items.next_element()? {
                Some(item) => held.push(item),
                None => return Ok(BoundedItems(held)),
            }
        }
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(BoundedItems(held))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(listing: &mut Listing, page: &str) -> Result<Option<String>, ProtocolFault> {
        let next = listing.add(&RawValue::from_string(page.to_owned()).unwrap())?;
        Ok(next.map(|params| params.to_raw().get().to_owned()))
    }

    fn list(pages: &[&str]) -> Unsifted {
        let mut listing = Listing::new(ListKind::Tools);
        for page in pages {
            add(&mut listing, page).unwrap();
        }
        listing.finish().0
    }

    #[test]
    fn tools_of_all_pages_keep_their_bytes_and_their_order() {
        let odd = r#"{ "name":"b\u0061","n":123456789012345678901234567890,"x":1.0,"x":2 }"#;
        let listed = list(&[
            &format!(r#"{{"tools":[{odd}],"nextCursor":""}}"#),
            r#"{"tools":[{"name":"a"}],"nextCursor":null}"#,
        ]);
        let tools: Vec<_> = listed.items.iter().map(|(name, tool)| (name.as_str(), tool.get())).collect();
        assert_eq!(tools, [("ba", odd), ("a", r#"{"name":"a"}"#)]);
        assert_eq!(listed.pages, 2);
    }

    #[test]
    fn an_empty_cursor_is_a_cursor_and_goes_back_as_it_came() {
        let mut listing = Listing::new(ListKind::Tools);
        assert_eq!(add(&mut listing, r#"{"tools":[],"nextCursor":""}"#), Ok(Some(r#"{"cursor":""}"#.into())));
        assert_eq!(
            add(&mut listing, r#"{"tools":[],"nextCursor":"\u0061"}"#),
            Ok(Some(r#"{"cursor":"\u0061"}"#.into()))
        );
        assert_eq!(add(&mut listing, r#"{"tools":[],"nextCursor":"a"}"#), Ok(None));
        assert_eq!(listing.finish().1, ListEnd::Repeats);
    }

    #[test]
    fn a_list_that_does_not_advance_ends_with_what_there_is() {
        let page = |names: &[&str], cursor: &str| {
            let tools: Vec<String> = names.iter().map(|name| format!(r#"{{"name":"{name}"}}"#)).collect();
            format!(r#"{{"tools":[{}]{cursor}}}"#, tools.join(","))
        };
        let cursor = |cursor: &str| format!(r#","nextCursor":"{cursor}""#);
        let many: Vec<String> = (0..MAX_ITEMS).map(|number| number.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        for (pages, expected, end) in [
            // Always an empty one, always the same one, a circle, and another one each time for the same items.
            (vec![page(&["a", "b"], &cursor("")), page(&["a", "b"], &cursor(""))], 2, ListEnd::Repeats),
            (vec![page(&["a"], &cursor("x")), page(&["a", "b"], &cursor("x"))], 2, ListEnd::Repeats),
            (
                vec![page(&["a"], &cursor("x")), page(&["b"], &cursor("y")), page(&["c"], &cursor("x"))],
                3,
                ListEnd::Repeats,
            ),
            (vec![page(&["a"], &cursor("1")), page(&["a"], &cursor("2"))], 1, ListEnd::Repeats),
            (vec![page(&many, &cursor("x")), page(&many, &cursor("x"))], MAX_ITEMS, ListEnd::Repeats),
            // Another cursor each time for nothing more.
            (
                std::iter::once(page(&["a"], &cursor("x")))
                    .chain((0..MAX_EMPTY_PAGES).map(|number| page(&[], &cursor(&number.to_string()))))
                    .collect(),
                1,
                ListEnd::Repeats,
            ),
            // An empty cursor that leads on, an empty page, and twins of a list that ends.
            (vec![page(&["a"], &cursor("")), page(&["b"], "")], 2, ListEnd::Last),
            (vec![page(&[], &cursor("1")), page(&[], &cursor("2")), page(&["a", "a"], "")], 2, ListEnd::Last),
            (vec![page(&["a"], r#","nextCursor":null"#)], 1, ListEnd::Last),
        ] {
            let mut listing = Listing::new(ListKind::Tools);
            let last = pages.len() - 1;
            for (number, page) in pages.iter().enumerate() {
                assert_eq!(add(&mut listing, page).unwrap().is_none(), number == last, "{number}");
            }
            let (listed, found) = listing.finish();
            assert_eq!((listed.items.len(), found), (expected, end), "{:.80}", pages[0]);
        }
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
    fn each_kind_of_list_has_its_own_member_and_key() {
        for (kind, page, key) in [
            (ListKind::Prompts, r#"{"prompts":[{"name":"p"}],"tools":[]}"#, "p"),
            (ListKind::Resources, r#"{"resources":[{"uri":"x:1","name":"n"}]}"#, "x:1"),
            (ListKind::Templates, r#"{"resourceTemplates":[{"uriTemplate":"x:{1}","name":"n"}]}"#, "x:{1}"),
        ] {
            let mut listing = Listing::new(kind);
            add(&mut listing, page).unwrap();
            assert_eq!(listing.finish().0.items[0].0, key);
            assert_eq!(add(&mut Listing::new(ListKind::Tools), page).is_ok(), kind == ListKind::Prompts);
        }
    }

    #[test]
    fn what_is_no_list_is_refused() {
        for (page, fault) in [
            ("[]", ProtocolFault::List(ListKind::Tools)),
            ("{}", ProtocolFault::List(ListKind::Tools)),
            (r#"{"tools":{}}"#, ProtocolFault::List(ListKind::Tools)),
            (r#"{"tools":[],"nextCursor":7}"#, ProtocolFault::List(ListKind::Tools)),
            (r#"{"tools":[["name"]]}"#, ProtocolFault::NamelessItem(ListKind::Tools)),
            (r#"{"tools":[{"title":"x"}]}"#, ProtocolFault::NamelessItem(ListKind::Tools)),
            (r#"{"tools":[{"name":7}]}"#, ProtocolFault::NamelessItem(ListKind::Tools)),
            (r#"{"tools":[],"resultType":"input_required"}"#, ProtocolFault::ListResultType(ListKind::Tools)),
        ] {
            assert_eq!(add(&mut Listing::new(ListKind::Tools), page), Err(fault), "{page}");
        }
    }

    #[test]
    fn an_item_that_nests_deeper_than_readers_go_is_left_out_and_costs_no_other() {
        let nested = |name: &str, depth: usize| {
            let (open, close) = ("{\"not\":".repeat(depth - 2), "}".repeat(depth - 2));
            format!(r#"{{"name":"{name}","inputSchema":{open}{{}}{close}}}"#)
        };
        let items =
            [nested("a", MAX_ITEM_DEPTH), nested("b", MAX_ITEM_DEPTH + 1), nested("c", 100_000), nested("d", 2)];
        let listed = list(&[&format!(r#"{{"tools":[{}]}}"#, items.join(","))]);
        assert_eq!(listed.items.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["a", "d"]);
        assert_eq!((listed.left_out.count, listed.left_out.first.len()), (2, 2));
        // The whole answer is still no deeper than the least that readers take.
        const { assert!(MAX_ITEM_DEPTH + 4 < 128) };
    }

    #[test]
    fn what_is_left_out_is_counted_and_only_the_first_are_named_cut_and_without_hidden_characters() {
        let mut left_out = LeftOut::default();
        for _ in 0..10_000 {
            left_out.add(&format!("\u{1b}[31m\n{}", "x".repeat(1 << 10)), "why");
        }
        assert_eq!((left_out.count, left_out.first.len()), (10_000, LEFT_OUT_NAMED));
        let name = format!(r"\u{{1b}}[31m\u{{a}}{}", "x".repeat(LEFT_OUT_CHARACTERS - 15));
        assert!(left_out.first.iter().all(|first| *first == format!("{name} (why)")));
    }

    #[test]
    fn a_list_ends_at_its_caps() {
        let mut listing = Listing::new(ListKind::Tools);
        for page in 1..MAX_PAGES {
            add(&mut listing, &format!(r#"{{"tools":[],"nextCursor":"{page}"}}"#)).unwrap();
        }
        assert_eq!(
            add(&mut listing, r#"{"tools":[],"nextCursor":"last"}"#),
            Err(ProtocolFault::TooManyPages(ListKind::Tools))
        );

        let many = format!(r#"{{"tools":[{}1]}}"#, r#"{"name":"x"},"#.repeat(MAX_ITEMS));
        assert_eq!(add(&mut Listing::new(ListKind::Tools), &many), Err(ProtocolFault::TooManyItems(ListKind::Tools)));

        let large = format!(r#"{{"tools":[],"x":"{}"}}"#, "x".repeat(MAX_LIST_BYTES));
        assert_eq!(add(&mut Listing::new(ListKind::Tools), &large), Err(ProtocolFault::ListTooLarge(ListKind::Tools)));
    }
}
