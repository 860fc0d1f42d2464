//! A connector's list of tools, made ready once when it arrives: names patched, digests taken, bytes joined.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::NameRule;
use crate::model::raw::{self, RawObject};
use crate::model::{Connector, Digest};

/// Our `_meta` key on every definition.
const META_KEY: &str = "com.brainwav.cortex/connector";

/// The brand that every connector bears (contracts 1.2).
const BRAND: &str = "brAInwav";

/// A connector's tools, ready to be served.
#[derive(Clone, Debug)]
pub struct ToolList {
    tools: Arc<[Tool]>,
    upstream: Arc<[u8]>,
}

/// One tool.
#[derive(Debug)]
pub(super) struct Tool {
    /// Under which name it is exposed.
    pub(super) exposed: String,
    /// What its server calls it.
    pub(super) original: String,
    /// SHA-256 of its definition as received.
    pub(super) digest: Digest,
    /// Its definition as served.
    pub(super) definition: Box<RawValue>,
}

impl ToolList {
    /// Makes a list ready.
    ///
    /// # Errors
    /// [`DefinitionError`] if one of the tools is not an object with a name.
    pub fn new(connector: &Connector, rule: NameRule, tools: &[Box<RawValue>]) -> Result<Self, DefinitionError> {
        let facts = facts(connector);
        let ready = tools.iter().enumerate().map(|(position, tool)| {
            let fault = DefinitionError { position };
            let mut definition = RawObject::parse(tool).map_err(|_| fault)?;
            let original = definition.get_str("name").ok_or(fault)?;
            let exposed = rule.name(&connector.id, &original);
            definition.set("name", raw::string(&exposed));
            let mut meta = match definition.get("_meta") {
                Some(meta) if raw::is_object(meta) => RawObject::parse(meta).map_err(|_| fault)?,
                _ => RawObject::new(),
            };
            meta.set(META_KEY, facts.clone());
            definition.set("_meta", meta.to_raw());
            let digest = Digest::of(tool.get().as_bytes());
            Ok(Tool { exposed, original, digest, definition: definition.to_raw() })
        });
        let ready: Arc<[Tool]> = ready.collect::<Result<_, DefinitionError>>()?;
        Ok(Self { tools: ready, upstream: bytes_of_tools(tools).into() })
    }

    /// How many tools there are.
    pub fn len(&self) -> usize {
        self.tools.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// The list as received: a JSON array, byte for byte what [`tools_of_bytes`] reads back.
    pub fn upstream_bytes(&self) -> &[u8] {
        &self.upstream
    }

    /// The digest of [`Self::upstream_bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.upstream)
    }

    /// Whether this is the very list that `other` is, not merely an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tools, &other.tools)
    }

    pub(super) fn tools(&self) -> &[Tool] {
        &self.tools
    }
}

/// A tool that can not be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tool number {position} of the list is not an object with a text as its name")]
pub struct DefinitionError {
    /// Its position, from 0.
    pub position: usize,
}

/// Reads back a list that [`ToolList::upstream_bytes`] wrote.
///
/// # Errors
/// If the bytes are not a JSON array.
pub fn tools_of_bytes(bytes: &[u8]) -> Result<Vec<Box<RawValue>>, serde_json::Error> {
    serde_json::from_slice(bytes)
}

fn bytes_of_tools(tools: &[Box<RawValue>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + tools.iter().map(|tool| tool.get().len() + 1).sum::<usize>());
    bytes.push(b'[');
    for (position, tool) in tools.iter().enumerate() {
        if position > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(tool.get().as_bytes());
    }
    bytes.push(b']');
    bytes
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
