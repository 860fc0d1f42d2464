//! A connector's list of tools as it was received, and how it stands. Raw JSON: nothing is ever re-typed.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;

use super::raw::RawObject;
use super::{BootMs, Digest, WallMs};

/// A list of tools, byte for byte as its server wrote them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ToolList {
    tools: Arc<[ListedTool]>,
    bytes: Arc<[u8]>,
}

/// One tool of a list.
#[derive(Debug)]
pub struct ListedTool {
    /// What its server calls it.
    pub name: String,
    /// SHA-256 of its definition.
    pub digest: Digest,
    /// Its definition.
    pub definition: Box<RawValue>,
}

impl ToolList {
    /// A list of these definitions.
    ///
    /// # Errors
    /// [`ToolListError::Nameless`] if one of them is not an object with a text as its name.
    pub fn new(definitions: Vec<Box<RawValue>>) -> Result<Self, ToolListError> {
        let bytes = join(&definitions).into();
        let tools = definitions.into_iter().enumerate().map(|(position, definition)| {
            let name = RawObject::parse(&definition).ok().and_then(|object| object.get_str("name"));
            let name = name.ok_or(ToolListError::Nameless { position })?;
            Ok(ListedTool { name, digest: Digest::of(definition.get().as_bytes()), definition })
        });
        Ok(Self { tools: tools.collect::<Result<_, ToolListError>>()?, bytes })
    }

    /// Reads back what [`Self::bytes`] gave.
    ///
    /// # Errors
    /// [`ToolListError`] if that is not what the bytes are.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, ToolListError> {
        Self::new(serde_json::from_slice(bytes).map_err(|_| ToolListError::NotAnArray)?)
    }

    /// The tools, in the server's order.
    pub fn tools(&self) -> &[ListedTool] {
        &self.tools
    }

    /// The list as a JSON array.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The digest of [`Self::bytes`].
    pub fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }

    /// Whether this is the very list that `other` is, not merely an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.tools, &other.tools)
    }
}

/// Documents that are no list of tools.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ToolListError {
    /// The bytes are not a JSON array.
    #[error("the list is not a JSON array")]
    NotAnArray,
    /// A tool can not be called by name.
    #[error("tool number {position} of the list is not an object with a text as its name")]
    Nameless {
        /// Its position, from 0.
        position: usize,
    },
}

/// How a connector's list stands. It moves with time, and stands beside the list in results.
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

fn join(definitions: &[Box<RawValue>]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + definitions.iter().map(|one| one.get().len() + 1).sum::<usize>());
    bytes.push(b'[');
    for (position, definition) in definitions.iter().enumerate() {
        if position > 0 {
            bytes.push(b',');
        }
        bytes.extend_from_slice(definition.get().as_bytes());
    }
    bytes.push(b']');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(definitions: &[&str]) -> Result<ToolList, ToolListError> {
        ToolList::new(definitions.iter().map(|text| RawValue::from_string((*text).into()).unwrap()).collect())
    }

    #[test]
    fn a_list_is_read_back_byte_for_byte() {
        let odd = r#"{ "name":"a" , "z":12345678901234567890.50 }"#;
        let before = list(&[odd, r#"{"name":"b"}"#]).unwrap();
        let after = ToolList::from_bytes(before.bytes()).unwrap();
        assert_eq!((after.digest(), after.tools().len()), (before.digest(), 2));
        assert_eq!(after.tools()[0].definition.get(), odd);
    }

    #[test]
    fn a_tool_without_a_name_is_named_by_its_position() {
        for bad in ["{}", "[]", "1", r#"{"name":7}"#] {
            assert_eq!(list(&[r#"{"name":"a"}"#, bad]).unwrap_err(), ToolListError::Nameless { position: 1 }, "{bad}");
        }
        assert_eq!(ToolList::from_bytes(b"{}").unwrap_err(), ToolListError::NotAnArray);
    }
}
