//! A connector's tools as they are exposed: the name patched, one `_meta` key of stable facts added, all else as it came.

use serde::Serialize;
use serde_json::value::RawValue;

use super::NameRule;
use crate::model::raw::{self, RawObject};
use crate::model::{Connector, ToolList};

/// Our `_meta` key on every definition.
const META_KEY: &str = "com.brainwav.cortex/connector";

/// The brand that every connector bears (contracts 1.2).
const BRAND: &str = "brAInwav";

/// One tool, exposed.
#[derive(Debug)]
pub(super) struct Exposed {
    /// Under which name.
    pub(super) name: String,
    /// What its server calls it.
    pub(super) original: String,
    /// Its definition.
    pub(super) definition: Box<RawValue>,
}

/// Exposes a list.
pub(super) fn expose(connector: &Connector, rule: NameRule, list: &ToolList) -> Vec<Exposed> {
    let facts = facts(connector);
    let exposed = list.tools().iter().map(|tool| {
        // Every tool of a list is an object.
        let mut definition = RawObject::parse(&tool.definition).unwrap_or_default();
        let name = rule.name(&connector.id, &tool.name);
        definition.set("name", raw::string(&name));
        let meta = definition.get("_meta").filter(|meta| raw::is_object(meta));
        let mut meta = meta.and_then(|meta| RawObject::parse(meta).ok()).unwrap_or_default();
        meta.set(META_KEY, facts.clone());
        definition.set("_meta", meta.to_raw());
        Exposed { name, original: tool.name.clone(), definition: definition.to_raw() }
    });
    exposed.collect()
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
