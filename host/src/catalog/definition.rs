//! A connector's items as they are exposed: the name patched, stable facts and the path added to its
//! `_meta`, all else as it came.

use serde::Serialize;
use serde_json::value::RawValue;

use super::NameRule;
use super::chunk::{Chunk, Rendered};
use super::qualified::address;
use super::route::Route;
use crate::config::ToolFilter;
use crate::model::raw::{self, RawObject};
use crate::model::{Connector, ConnectorId, DefinitionPath, InstanceId, ListKind, META_CONNECTOR, META_PATH, Offer};

/// The brand that every connector bears (contracts 1.2).
const BRAND: &str = "brAInwav";

/// Exposes one list of an offer: what the filter lets through, under the names that it gives.
pub(super) fn expose(
    connector: &Connector,
    (rule, instance): (NameRule, Option<InstanceId>),
    filter: &ToolFilter,
    offer: &Offer,
    kind: ListKind,
) -> Chunk {
    let facts = facts(connector);
    let items = offer.list(kind).items().iter();
    let admitted = items.filter(|item| kind != ListKind::Tools || filter.admits(&item.key));
    let exposed = admitted.map(|item| {
        // Every item of a list is an object.
        let mut definition = RawObject::parse(&item.definition).unwrap_or_default();
        let key = exposed_key(rule, filter, &connector.id, kind, &item.key);
        if key != item.key {
            definition.set(kind.key(), raw::string(&key));
        }
        let mut meta = meta_of(&definition);
        meta.set(META_CONNECTOR, facts.clone());
        if let Some(own) = instance {
            meta.set(META_PATH, item.path.followed_by(own));
        }
        definition.set("_meta", meta.to_raw());
        let route = Route { connector: connector.id.clone(), original: item.key.clone() };
        (key.into(), Some(route), Rendered(definition.to_raw()))
    });
    Chunk::new(exposed)
}

/// The name, URI or URI template under which an item of a connector is exposed.
pub(super) fn exposed_key(rule: NameRule, filter: &ToolFilter, id: &ConnectorId, kind: ListKind, own: &str) -> String {
    match kind {
        ListKind::Tools => rule.name(id, filter.renamed(own).unwrap_or(own)),
        ListKind::Prompts => rule.name(id, own),
        // An address is what it is: results name it, and clients ask for what results name.
        ListKind::Resources | ListKind::Templates => address(id, own),
    }
}

/// Adds the path of a definition that begins at this gateway.
pub(super) fn begin_path(definition: &RawValue, own: InstanceId) -> Box<RawValue> {
    // Every definition is an object.
    let mut definition = RawObject::parse(definition).unwrap_or_default();
    let mut meta = meta_of(&definition);
    meta.set(META_PATH, DefinitionPath::Direct.followed_by(own));
    definition.set("_meta", meta.to_raw());
    definition.to_raw()
}

fn meta_of(definition: &RawObject) -> RawObject {
    let meta = definition.get("_meta").filter(|meta| raw::is_object(meta));
    meta.and_then(|meta| RawObject::parse(meta).ok()).unwrap_or_default()
}

#[derive(Serialize)]
struct Facts<'a> {
    id: &'a str,
    name: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    version: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    scopes: &'a [String],
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    brand: &'static str,
}

/// The stable facts about a connector that each of its definitions bears.
fn facts(connector: &Connector) -> Box<RawValue> {
    let Connector { id, name, version, scopes, tags, .. } = connector;
    let facts = Facts { id: id.as_str(), name, version, scopes, tags, brand: BRAND };
    // A struct of strings always serialises.
    serde_json::value::to_raw_value(&facts).unwrap_or_else(|_| raw::empty_object())
}
