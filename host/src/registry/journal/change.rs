//! What a record says: a name, the edit, and the entry that it put there, or that it removed what was there.
//!
//! The digest stands beside the entry, so that a journal is replayed without reading every entry that was replaced since;
//! the record's checksum vouches for it.

use std::borrow::Cow;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::policy::contract::{Entry, Hlc};
use crate::registry::entry::RegistryEntry;
use crate::registry::render;
use crate::registry::state::Known;

/// A change, as a record holds it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::registry) struct Change<'a> {
    /// The name.
    #[serde(borrow)]
    pub(in crate::registry) name: Cow<'a, str>,
    #[serde(borrow)]
    rev: Edit<'a>,
    #[serde(borrow, default)]
    digest: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    entry: Option<&'a RawValue>,
}

/// The name only: the entry may hold secrets.
impl std::fmt::Debug for Change<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Change").field("name", &self.name).finish_non_exhaustive()
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Edit<'a> {
    wall_ms: u64,
    counter: u32,
    #[serde(borrow)]
    writer: Cow<'a, str>,
}

/// A record that says that its writer ended in good order: everything before it is durable.
pub(in crate::registry) const SEAL: &[u8] = b"{\"sealed\":true}";

/// The payload of a change.
pub(in crate::registry) fn encode(known: &Known) -> Vec<u8> {
    let Entry { name, stamp, writer, digest, .. } = &known.entry;
    let mut text = String::with_capacity(256);
    text.push_str("{\"name\":");
    render::string(name, &mut text);
    text.push_str(",\"rev\":{\"wallMs\":");
    text.push_str(&stamp.wall_ms.to_string());
    text.push_str(",\"counter\":");
    text.push_str(&stamp.counter.to_string());
    text.push_str(",\"writer\":");
    render::string(writer, &mut text);
    text.push('}');
    if let Some(content) = &known.content {
        text.push_str(",\"digest\":\"");
        text.push_str(digest);
        text.push_str("\",\"entry\":");
        text.push_str(content.json());
    }
    text.push('}');
    text.into_bytes()
}

/// The name that a payload is about, if it stands there as [`encode`] writes it: for whoever only wants to know that.
pub(in crate::registry) fn plain_name(payload: &[u8]) -> Option<&str> {
    let rest = payload.strip_prefix(b"{\"name\":\"")?;
    let name = &rest[..rest.iter().position(|byte| matches!(byte, b'"' | b'\\'))?];
    // Names that are spelt with escapes have to be read.
    if rest[name.len()] == b'"' { std::str::from_utf8(name).ok() } else { None }
}

/// Why a record with a good checksum says nothing that can be used: a later version of this program wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::registry) struct ChangeFault;

impl<'a> Change<'a> {
    /// Reads a payload; none for a seal.
    pub(in crate::registry) fn decode(payload: &'a [u8]) -> Result<Option<Self>, ChangeFault> {
        if payload == SEAL {
            return Ok(None);
        }
        serde_json::from_slice(payload).map(Some).map_err(|_| ChangeFault)
    }

    /// The edit.
    pub(in crate::registry) fn stamp(&self) -> Hlc {
        Hlc { wall_ms: self.rev.wall_ms, counter: self.rev.counter }
    }

    /// What it made of the name.
    pub(in crate::registry) fn known(&self) -> Result<Known, ChangeFault> {
        let content = match self.entry {
            Some(raw) => Some(Arc::new(RegistryEntry::kept(raw.get()).map_err(|_| ChangeFault)?)),
            None => None,
        };
        let consistent = content.as_ref().is_none_or(|content| content.name == self.name);
        let known = Known::new(&self.name, self.stamp(), &self.rev.writer, content);
        let digest = self.digest.as_deref().unwrap_or_default();
        if consistent && known.entry.digest == digest { Ok(known) } else { Err(ChangeFault) }
    }

    /// Whether it removed what was there.
    pub(in crate::registry) fn removes(&self) -> bool {
        self.entry.is_none()
    }

    /// What it put there.
    pub(in crate::registry) fn entry(&self) -> Option<&'a RawValue> {
        self.entry
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_as_it_was_written() {
        let json = r#"{"name":"a","transport":"http","endpoint":"https://a","later":[1.50]}"#;
        let content = Arc::new(RegistryEntry::parse(json).unwrap());
        for content in [Some(content), None] {
            let known = Known::new("a", Hlc { wall_ms: 5, counter: 2 }, "w \"1\"", content);
            let payload = encode(&known);
            assert_eq!(plain_name(&payload), Some("a"));
            let change = Change::decode(&payload).unwrap().unwrap();
            let read = change.known().unwrap();
            assert_eq!(read.entry, known.entry);
            assert_eq!(read.content.map(|one| one.json().to_owned()), known.content.map(|one| one.json().to_owned()));
        }
        assert!(Change::decode(SEAL).unwrap().is_none());
        assert!(Change::decode(b"{\"name\":\"a\"}").is_err());
        assert_eq!(plain_name(SEAL), None);
        assert_eq!(plain_name(b"{\"name\":\"a\\u0062\"}"), None);
        assert_eq!(plain_name(b"{\"name\":\"a"), None);
    }
}
