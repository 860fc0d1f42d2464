//! The published catalog: one immutable snapshot behind an atomic pointer, rebuilt when a part of it changes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;
use serde_json::value::RawValue;

use super::NameRule;
use super::definition::{Exposed, expose};
use crate::model::{BootMs, Connector, ConnectorId, ListFacts, Scope, ToolList, milliseconds};

/// What the catalog holds of one connector.
#[derive(Clone, Debug)]
pub struct Part {
    /// Its description.
    pub connector: Arc<Connector>,
    /// Its tools; none if there is no list that may be served.
    pub tools: Option<ToolList>,
    /// How it stands.
    pub facts: ListFacts,
}

impl Part {
    /// Whether both parts are exposed alike; how they stand does not matter for that.
    fn exposes_the_same(&self, other: &Self) -> bool {
        let same_list = match (&self.tools, &other.tools) {
            (Some(ours), Some(theirs)) => ours.is_same(theirs),
            (None, None) => true,
            _ => false,
        };
        same_list && self.connector == other.connector
    }
}

/// Where a call to an exposed tool goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// To this connector.
    pub connector: ConnectorId,
    /// Under this name.
    pub tool: String,
}

/// A tool of the gateway itself: no connector answers it, and its name is its own.
#[derive(Clone, Debug)]
pub struct OwnTool {
    /// Its name.
    pub name: &'static str,
    /// Its definition, which bears that name.
    pub definition: Box<RawValue>,
}

/// Two tools of one name. The gateway's own is served, else the first by connector id and upstream order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collision {
    /// The name.
    pub name: String,
    /// Whose tool is served; none: the gateway's own.
    pub served: Option<ConnectorId>,
    /// Whose tool is not.
    pub hidden: ConnectorId,
}

/// The catalog at one moment.
#[derive(Debug, Default)]
pub struct CatalogSnapshot {
    served: Arc<Served>,
    parts: BTreeMap<ConnectorId, Part>,
}

/// What depends on lists and descriptions alone.
#[derive(Debug, Default)]
struct Served {
    tools: Bytes,
    own: HashSet<&'static str>,
    routes: HashMap<String, Route>,
    collisions: Vec<Collision>,
}

impl CatalogSnapshot {
    /// All tools that may be served, as the bytes of a JSON array.
    pub fn tools(&self) -> &Bytes {
        &self.served.tools
    }

    /// Whether a tool is the gateway's own.
    pub fn is_own(&self, name: &str) -> bool {
        self.served.own.contains(name)
    }

    /// How many tools of connectors there are.
    pub fn tool_count(&self) -> usize {
        self.served.routes.len()
    }

    /// Where a call goes.
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.served.routes.get(name)
    }

    /// Every connector, by id.
    pub fn parts(&self) -> &BTreeMap<ConnectorId, Part> {
        &self.parts
    }

    /// Names that two tools claim.
    pub fn collisions(&self) -> &[Collision] {
        &self.served.collisions
    }

    /// The caching hint for the whole list: the least time for which every part stands, in milliseconds. A part that is
    /// not fresh contributes the time to its next attempt, at least a second (design section 6).
    pub fn ttl_ms(&self, now: BootMs) -> u64 {
        let until = |time: Option<BootMs>| time.map_or(0, |time| milliseconds(time.since(now)));
        let remaining = self.parts.values().map(|part| match part.facts.fresh_until {
            Some(fresh) if fresh > now => until(Some(fresh)),
            _ => until(part.facts.next_attempt).max(LEAST_TTL_MS),
        });
        remaining.min().unwrap_or(LEAST_TTL_MS)
    }

    /// Public only if every part that is served is.
    pub fn scope(&self) -> Scope {
        let mut served = self.parts.values().filter(|part| part.tools.is_some());
        if served.all(|part| part.facts.scope == Scope::Public) { Scope::Public } else { Scope::Private }
    }
}

/// The least caching hint of a list that has a part which is not fresh.
const LEAST_TTL_MS: u64 = 1_000;

/// The catalog: parts are put in and taken out, snapshots are read.
#[derive(Debug)]
pub struct Catalog {
    rule: NameRule,
    shelves: Mutex<Shelves>,
    current: ArcSwap<CatalogSnapshot>,
}

/// Everything that is exposed.
#[derive(Debug, Default)]
struct Shelves {
    own: Vec<OwnTool>,
    parts: BTreeMap<ConnectorId, Shelf>,
}

/// A part and its tools as they are exposed, made once for each list.
#[derive(Debug)]
struct Shelf {
    part: Part,
    exposed: Vec<Exposed>,
}

impl Catalog {
    /// An empty one.
    pub fn new(rule: NameRule) -> Self {
        let empty = CatalogSnapshot { served: Arc::new(serve(&Shelves::default())), parts: BTreeMap::new() };
        Self { rule, shelves: Mutex::default(), current: ArcSwap::from_pointee(empty) }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<CatalogSnapshot> {
        self.current.load_full()
    }

    /// Serves these tools of the gateway itself before all others, in the place of those that it served before.
    pub fn serve_first(&self, own: Vec<OwnTool>) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if own.iter().map(|tool| tool.name).ne(shelves.own.iter().map(|tool| tool.name)) {
            shelves.own = own;
            self.publish(&shelves, Arc::new(serve(&shelves)));
        }
    }

    /// Puts a connector's part in, in the place of the one it had, and publishes. A part that merely stands differently
    /// costs nothing but its own facts. Returns the names under which its tools are exposed, if they may be other ones now.
    pub fn put(&self, part: Part) -> Option<Vec<String>> {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        let id = part.connector.id.clone();
        match shelves.parts.get_mut(&id) {
            Some(shelf) if shelf.part.exposes_the_same(&part) => {
                shelf.part.facts = part.facts;
                self.publish(&shelves, self.current.load().served.clone());
                None
            }
            _ => {
                let exposed = part.tools.as_ref().map(|list| expose(&part.connector, self.rule, list));
                let exposed = exposed.unwrap_or_default();
                let names = exposed.iter().map(|tool| tool.name.clone()).collect();
                shelves.parts.insert(id, Shelf { part, exposed });
                self.publish(&shelves, Arc::new(serve(&shelves)));
                Some(names)
            }
        }
    }

    /// Takes a connector out and publishes.
    pub fn remove(&self, id: &ConnectorId) {
        let mut shelves = self.shelves.lock().unwrap_or_else(PoisonError::into_inner);
        if shelves.parts.remove(id).is_some() {
            self.publish(&shelves, Arc::new(serve(&shelves)));
        }
    }

    fn publish(&self, shelves: &Shelves, served: Arc<Served>) {
        let parts = shelves.parts.iter().map(|(id, shelf)| (id.clone(), shelf.part.clone())).collect();
        self.current.store(Arc::new(CatalogSnapshot { served, parts }));
    }
}

/// Joins what is exposed: the gateway's own tools, then those of connectors, in the order of their ids and then of their
/// servers.
fn serve(shelves: &Shelves) -> Served {
    let mut tools = BytesMut::new();
    let own: HashSet<&'static str> = shelves.own.iter().map(|tool| tool.name).collect();
    let mut routes: HashMap<String, Route> = HashMap::new();
    let mut collisions = Vec::new();
    let mut first = true;
    let mut define = |definition: &RawValue| {
        if !std::mem::take(&mut first) {
            tools.put_u8(b',');
        }
        tools.put_slice(definition.get().as_bytes());
    };
    shelves.own.iter().for_each(|tool| define(&tool.definition));
    for (id, shelf) in &shelves.parts {
        for tool in &shelf.exposed {
            let served = routes.get(&tool.name).map(|route| route.connector.clone());
            if served.is_some() || own.contains(tool.name.as_str()) {
                collisions.push(Collision { name: tool.name.clone(), served, hidden: id.clone() });
                continue;
            }
            define(&tool.definition);
            routes.insert(tool.name.clone(), Route { connector: id.clone(), tool: tool.original.clone() });
        }
    }
    let list = [&b"["[..], &tools, b"]"].concat();
    Served { tools: list.into(), own, routes, collisions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::NameStyle;
    use crate::model::{Auth, ListState, Quotas, Source, Timeouts};

    fn connector(id: &str) -> Arc<Connector> {
        Arc::new(Connector {
            id: id.parse().unwrap(),
            name: id.to_uppercase(),
            version: "1.0.0".into(),
            enabled: true,
            endpoint: None,
            auth: Auth::default(),
            headers: BTreeMap::new(),
            scopes: vec!["x:read".into()],
            tags: Vec::new(),
            quotas: Quotas::default(),
            timeouts: Timeouts::default(),
            expires: None,
            source: Source::ServiceMap,
        })
    }

    fn facts() -> ListFacts {
        ListFacts {
            state: ListState::Fresh,
            reason: "within-ttl".into(),
            fetched_at: None,
            fresh_until: Some(BootMs(10_000)),
            next_attempt: Some(BootMs(8_000)),
            scope: Scope::Public,
        }
    }

    fn part(id: &str, tools: &[&str]) -> Part {
        let raw = tools.iter().map(|tool| RawValue::from_string((*tool).into()).unwrap()).collect();
        Part { connector: connector(id), tools: Some(ToolList::new(raw).unwrap()), facts: facts() }
    }

    fn catalog(style: NameStyle) -> Catalog {
        Catalog::new(NameRule { style, longest: 46 })
    }

    const ODD: &str = r#"{ "name":"a" , "vendor":{"z":1,"a":12345678901234567890.50}, "inputSchema":{"type":"object"},"execution":{} }"#;

    #[test]
    fn everything_but_name_and_our_meta_key_passes_byte_for_byte() {
        let catalog = catalog(NameStyle::Prefixed);
        catalog.put(part("demo", &[ODD]));
        let text = String::from_utf8(catalog.snapshot().tools().to_vec()).unwrap();
        assert!(text.contains(r#""vendor":{"z":1,"a":12345678901234567890.50}"#), "{text}");
        assert!(text.contains(r#""name":"demo__a""#), "{text}");
        assert!(
            text.contains(r#""com.brainwav.cortex/connector":{"id":"demo","name":"DEMO","version":"1.0.0""#),
            "{text}"
        );
    }

    #[test]
    fn the_bytes_do_not_depend_on_the_order_of_arrival() {
        let (one, two) = (catalog(NameStyle::Prefixed), catalog(NameStyle::Prefixed));
        let parts = [part("aa", &[ODD]), part("bb", &[ODD])];
        parts.iter().for_each(|part| drop(one.put(part.clone())));
        parts.iter().rev().for_each(|part| drop(two.put(part.clone())));
        assert_eq!(one.snapshot().tools(), two.snapshot().tools());
    }

    #[test]
    fn of_two_tools_of_one_name_the_first_by_connector_is_served_and_both_are_reported() {
        let catalog = catalog(NameStyle::Plain);
        catalog.put(part("bb", &[ODD]));
        catalog.put(part("aa", &[ODD]));
        let snapshot = catalog.snapshot();
        assert_eq!(snapshot.tool_count(), 1);
        assert_eq!(snapshot.route("a").unwrap().connector.as_str(), "aa");
        assert_eq!(snapshot.collisions().len(), 1);
        assert_eq!(snapshot.collisions()[0].hidden.as_str(), "bb");
    }

    #[test]
    fn the_gateways_own_tools_come_first_and_hide_tools_of_their_names_until_they_are_taken_away() {
        let catalog = catalog(NameStyle::Plain);
        catalog.put(part("aa", &[ODD]));
        let before = catalog.snapshot().tools().clone();
        let definition = RawValue::from_string(r#"{"name":"a","own":true}"#.into()).unwrap();
        catalog.serve_first(vec![OwnTool { name: "a", definition }]);
        let snapshot = catalog.snapshot();
        assert_eq!(&snapshot.tools()[..], br#"[{"name":"a","own":true}]"#);
        assert!(snapshot.is_own("a") && snapshot.route("a").is_none());
        let hidden = Collision { name: "a".into(), served: None, hidden: "aa".parse().unwrap() };
        assert_eq!(snapshot.collisions(), [hidden]);
        catalog.serve_first(Vec::new());
        let snapshot = catalog.snapshot();
        assert_eq!((snapshot.tools(), snapshot.is_own("a"), snapshot.collisions()), (&before, false, &[][..]));
    }

    #[test]
    fn a_connector_that_leaves_takes_its_tools_along() {
        let catalog = catalog(NameStyle::Prefixed);
        catalog.put(part("aa", &[ODD]));
        catalog.remove(&"aa".parse().unwrap());
        assert_eq!(&catalog.snapshot().tools()[..], b"[]");
        assert!(catalog.snapshot().route("aa__a").is_none());
    }

    #[test]
    fn the_hint_is_the_least_remaining_freshness_and_a_stale_part_counts_to_its_next_attempt() {
        let catalog = catalog(NameStyle::Prefixed);
        catalog.put(part("aa", &[ODD]));
        assert_eq!(catalog.snapshot().ttl_ms(BootMs(4_000)), 6_000);
        let mut stale = part("bb", &[ODD]);
        stale.facts.fresh_until = None;
        catalog.put(stale.clone());
        assert_eq!(catalog.snapshot().ttl_ms(BootMs(4_000)), 4_000);
        assert_eq!(catalog.snapshot().ttl_ms(BootMs(7_900)), LEAST_TTL_MS);
        stale.facts.scope = Scope::Private;
        catalog.put(stale);
        assert_eq!(catalog.snapshot().scope(), Scope::Private);
    }

    #[test]
    fn a_part_that_merely_stands_differently_leaves_the_served_bytes_alone() {
        let catalog = catalog(NameStyle::Prefixed);
        let mut fresh = part("aa", &[ODD]);
        catalog.put(fresh.clone());
        let before = catalog.snapshot();
        fresh.facts.state = ListState::Stale;
        catalog.put(fresh);
        let after = catalog.snapshot();
        assert!(Arc::ptr_eq(&before.served, &after.served));
        assert_eq!(after.parts().values().next().unwrap().facts.state, ListState::Stale);
    }
}
