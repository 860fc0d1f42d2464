//! The published catalog: one immutable snapshot behind an atomic pointer, rebuilt when a part of it changes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Serialize;

use super::ToolList;
use crate::model::{BootMs, Connector, ConnectorId, WallMs};

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

/// How a connector's list stands. It moves with time, and stands in the result's `_meta`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListFacts {
    /// How good it is.
    pub state: ListState,
    /// Why.
    pub reason: String,
    /// When it was fetched or last confirmed.
    pub fetched_at: Option<WallMs>,
    /// Until when it is fresh; none if it is not.
    pub fresh_until: Option<BootMs>,
    /// When it is tried again; none if no attempt is planned.
    pub next_attempt: Option<BootMs>,
    /// Who may be given it.
    pub scope: Scope,
}

/// How good a list is: the states of the policy's verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the cases of `freshness` in the policy's contract")]
pub enum ListState {
    Empty,
    Fresh,
    Soft,
    Stale,
    StaleError,
    Expired,
    Frozen,
}

/// Who may be given a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Anyone.
    Public,
    /// Whoever shares our credential.
    Private,
}

/// Where a call to an exposed tool goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// To this connector.
    pub connector: ConnectorId,
    /// Under this name.
    pub tool: String,
}

/// Two tools of one name. The first, by connector id and upstream order, is served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Collision {
    /// The name.
    pub name: String,
    /// Whose tool is served.
    pub served: ConnectorId,
    /// Whose tool is not.
    pub hidden: ConnectorId,
}

/// The catalog at one moment.
#[derive(Debug, Default)]
pub struct CatalogSnapshot {
    tools: Bytes,
    count: usize,
    routes: HashMap<String, Route>,
    parts: BTreeMap<ConnectorId, Part>,
    collisions: Vec<Collision>,
}

impl CatalogSnapshot {
    /// All tools that may be served, as the bytes of a JSON array.
    pub fn tools(&self) -> &Bytes {
        &self.tools
    }

    /// How many there are.
    pub fn tool_count(&self) -> usize {
        self.count
    }

    /// Where a call goes.
    pub fn route(&self, name: &str) -> Option<&Route> {
        self.routes.get(name)
    }

    /// Every connector, by id.
    pub fn parts(&self) -> &BTreeMap<ConnectorId, Part> {
        &self.parts
    }

    /// Names that two tools claim.
    pub fn collisions(&self) -> &[Collision] {
        &self.collisions
    }

    /// The caching hint for the whole list: the least time for which every part stands, in milliseconds. A part that is
    /// not fresh contributes the time to its next attempt, at least a second (design section 6).
    pub fn ttl_ms(&self, now: BootMs) -> u64 {
        let until = |time: Option<BootMs>| {
            time.map_or(0, |time| u64::try_from(time.since(now).as_millis()).unwrap_or(u64::MAX))
        };
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

    fn build(parts: BTreeMap<ConnectorId, Part>) -> Self {
        let mut tools = BytesMut::new();
        let mut routes: HashMap<String, Route> = HashMap::new();
        let mut collisions = Vec::new();
        tools.put_u8(b'[');
        for (id, part) in &parts {
            for tool in part.tools.iter().flat_map(ToolList::tools) {
                if let Some(served) = routes.get(&tool.exposed) {
                    let served = served.connector.clone();
                    collisions.push(Collision { name: tool.exposed.clone(), served, hidden: id.clone() });
                    continue;
                }
                if !routes.is_empty() {
                    tools.put_u8(b',');
                }
                tools.put_slice(tool.definition.get().as_bytes());
                let route = Route { connector: id.clone(), tool: tool.original.clone() };
                routes.insert(tool.exposed.clone(), route);
            }
        }
        tools.put_u8(b']');
        Self { tools: tools.freeze(), count: routes.len(), routes, parts, collisions }
    }
}

/// The least caching hint of a list that has a part which is not fresh.
const LEAST_TTL_MS: u64 = 1_000;

/// The catalog: parts are put in and taken out, snapshots are read.
#[derive(Debug)]
pub struct Catalog {
    parts: Mutex<BTreeMap<ConnectorId, Part>>,
    current: ArcSwap<CatalogSnapshot>,
}

impl Catalog {
    /// An empty one.
    pub fn new() -> Self {
        Self { parts: Mutex::default(), current: ArcSwap::from_pointee(CatalogSnapshot::build(BTreeMap::new())) }
    }

    /// The current snapshot.
    pub fn snapshot(&self) -> Arc<CatalogSnapshot> {
        self.current.load_full()
    }

    /// Puts a connector's part in, in the place of the one it had, and publishes.
    pub fn put(&self, part: Part) {
        self.change(|parts| {
            parts.insert(part.connector.id.clone(), part);
        });
    }

    /// Takes a connector out and publishes.
    pub fn remove(&self, id: &ConnectorId) {
        self.change(|parts| {
            parts.remove(id);
        });
    }

    fn change(&self, change: impl FnOnce(&mut BTreeMap<ConnectorId, Part>)) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut parts);
        self.current.store(Arc::new(CatalogSnapshot::build(parts.clone())));
    }
}

impl Default for Catalog {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::value::RawValue;

    use super::*;
    use crate::catalog::{Drift, NameRule, tools_of_bytes};
    use crate::config::NameStyle;
    use crate::model::{Auth, Quotas, Source, Timeouts};

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

    fn part(id: &str, style: NameStyle, tools: &[&str]) -> Part {
        let raw: Vec<Box<RawValue>> = tools.iter().map(|tool| RawValue::from_string((*tool).into()).unwrap()).collect();
        let connector = connector(id);
        let tools = Some(ToolList::new(&connector, NameRule { style, longest: 46 }, &raw).unwrap());
        Part { connector, tools, facts: facts() }
    }

    const ODD: &str = r#"{ "name":"a" , "vendor":{"z":1,"a":12345678901234567890.50}, "inputSchema":{"type":"object"},"execution":{} }"#;

    #[test]
    fn everything_but_name_and_our_meta_key_passes_byte_for_byte() {
        let catalog = Catalog::new();
        catalog.put(part("demo", NameStyle::Prefixed, &[ODD]));
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
        let (one, two) = (Catalog::new(), Catalog::new());
        let parts = [part("aa", NameStyle::Prefixed, &[ODD]), part("bb", NameStyle::Prefixed, &[ODD])];
        parts.iter().for_each(|part| one.put(part.clone()));
        parts.iter().rev().for_each(|part| two.put(part.clone()));
        assert_eq!(one.snapshot().tools(), two.snapshot().tools());
    }

    #[test]
    fn of_two_tools_of_one_name_the_first_by_connector_is_served_and_both_are_reported() {
        let catalog = Catalog::new();
        catalog.put(part("bb", NameStyle::Plain, &[ODD]));
        catalog.put(part("aa", NameStyle::Plain, &[ODD]));
        let snapshot = catalog.snapshot();
        assert_eq!(snapshot.tool_count(), 1);
        assert_eq!(snapshot.route("a").unwrap().connector.as_str(), "aa");
        assert_eq!(snapshot.collisions().len(), 1);
        assert_eq!(snapshot.collisions()[0].hidden.as_str(), "bb");
    }

    #[test]
    fn a_connector_that_leaves_takes_its_tools_along() {
        let catalog = Catalog::new();
        catalog.put(part("aa", NameStyle::Prefixed, &[ODD]));
        catalog.remove(&"aa".parse().unwrap());
        assert_eq!(&catalog.snapshot().tools()[..], b"[]");
        assert!(catalog.snapshot().route("aa__a").is_none());
    }

    #[test]
    fn the_hint_is_the_least_remaining_freshness_and_a_stale_part_counts_to_its_next_attempt() {
        let catalog = Catalog::new();
        catalog.put(part("aa", NameStyle::Prefixed, &[ODD]));
        assert_eq!(catalog.snapshot().ttl_ms(BootMs(4_000)), 6_000);
        let mut stale = part("bb", NameStyle::Prefixed, &[ODD]);
        stale.facts.fresh_until = None;
        catalog.put(stale.clone());
        assert_eq!(catalog.snapshot().ttl_ms(BootMs(4_000)), 4_000);
        assert_eq!(catalog.snapshot().ttl_ms(BootMs(7_900)), LEAST_TTL_MS);
        stale.facts.scope = Scope::Private;
        catalog.put(stale);
        assert_eq!(catalog.snapshot().scope(), Scope::Private);
    }

    #[test]
    fn lists_are_read_back_as_they_were_and_their_drift_is_told() {
        let before = part("aa", NameStyle::Prefixed, &[ODD, r#"{"name":"b"}"#]).tools.unwrap();
        let raw = tools_of_bytes(before.upstream_bytes()).unwrap();
        let again =
            ToolList::new(&connector("aa"), NameRule { style: NameStyle::Prefixed, longest: 46 }, &raw).unwrap();
        assert_eq!(again.digest(), before.digest());
        assert!(Drift::between(&before, &again).is_empty());
        let after = part("aa", NameStyle::Prefixed, &[r#"{"name":"b","x":1}"#, r#"{"name":"c"}"#]).tools.unwrap();
        let drift = Drift::between(&before, &after);
        assert_eq!((drift.added, drift.removed, drift.changed), (vec!["c".into()], vec!["a".into()], vec!["b".into()]));
    }
}
