//! One of a connector's lists as it was received (tools, prompts, resources or resource templates), and how everything
//! that the connector offers stands. Raw JSON: nothing is ever re-typed.

use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::raw::RawObject;
use super::{BootMs, DefinitionPath, Digest, WallMs, canonical};

/// What a list is of. Each is listed by a method of its own (specification 2026-07-28, `server`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListKind {
    /// `tools/list`.
    Tools,
    /// `prompts/list`.
    Prompts,
    /// `resources/list`.
    Resources,
    /// `resources/templates/list`.
    Templates,
}

impl ListKind {
    /// All of them, in the order in which they are kept.
    pub const ALL: [Self; 4] = [Self::Tools, Self::Prompts, Self::Resources, Self::Templates];

    /// The method that lists them.
    pub const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Prompts => "prompts/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
        }
    }

    /// The member of a list's result that holds the items.
    pub fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::Templates => "resourceTemplates",
        }
    }

    /// The member of an item by which it is asked for.
    pub fn key(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::Templates => "uriTemplate",
        }
    }

    /// What one of its items is called.
    pub fn singular(self) -> &'static str {
        match self {
            Self::Tools => "tool",
            Self::Prompts => "prompt",
            Self::Resources => "resource",
            Self::Templates => "resource template",
        }
    }

    /// The capability of a server that has such a list.
    pub fn capability(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources | Self::Templates => "resources",
        }
    }

    /// The notification that says that such a list has changed.
    pub fn changed(self) -> &'static str {
        match self {
            Self::Tools => "notifications/tools/list_changed",
            Self::Prompts => "notifications/prompts/list_changed",
            Self::Resources | Self::Templates => "notifications/resources/list_changed",
        }
    }
}

/// A list, each item byte for byte as its server wrote it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ItemList {
    items: Arc<[ListedItem]>,
    bytes: Arc<[u8]>,
}

/// One item of a list.
#[derive(Clone, Debug)]
pub struct ListedItem {
    /// What its server calls it: a name, a URI or a URI template.
    pub key: String,
    /// Its definition.
    pub definition: Box<RawValue>,
    /// The gateways that it passed through.
    pub path: DefinitionPath,
    digest: OnceLock<Digest>,
}

impl ListedItem {
    /// The digest of the definition's canonical form, computed once: equal for definitions that differ only in the order of
    /// members, in white space, or in what gateways add to `_meta`.
    pub fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| canonical::definition_digest(&self.definition))
    }
}

impl ItemList {
    /// A list of these definitions.
    ///
    /// # Errors
    /// [`ItemListError::Nameless`] if one of them is not an object with a text as its key.
    pub fn new(kind: ListKind, definitions: Vec<Box<RawValue>>) -> Result<Self, ItemListError> {
        let bytes = join(definitions.iter().map(|definition| &**definition)).into();
        let items = definitions.into_iter().enumerate().map(|(position, definition)| {
            let object = RawObject::parse(&definition).ok();
            let key = object.as_ref().and_then(|object| object.get_str(kind.key()));
            let key = key.ok_or(ItemListError::Nameless { kind, position })?;
            let path = object.as_ref().map(DefinitionPath::of).unwrap_or_default();
            Ok(ListedItem { key, definition, path, digest: OnceLock::new() })
        });
        Ok(Self { items: items.collect::<Result<_, ItemListError>>()?, bytes })
    }

    /// The list without the items that `serves` refuses; the very same list if it refuses none.
    #[must_use]
    pub fn filtered(&self, serves: impl Fn(&ListedItem) -> bool) -> Self {
        if self.items.iter().all(&serves) {
            return self.clone();
        }
        let items: Arc<[ListedItem]> = self.items.iter().filter(|item| serves(item)).cloned().collect();
        let bytes = join(items.iter().map(|item| &*item.definition)).into();
        Self { items, bytes }
    }

    /// A list without items.
    pub fn empty() -> Self {
        Self { items: Arc::new([]), bytes: Arc::from(&b"[]"[..]) }
    }

    /// Reads back what [`Self::bytes`] gave.
    ///
    /// # Errors
    /// [`ItemListError`] if that is not what the bytes are.
    pub fn from_bytes(kind: ListKind, bytes: &[u8]) -> Result<Self, ItemListError> {
        Self::new(kind, serde_json::from_slice(bytes).map_err(|_| ItemListError::NotAnArray { kind })?)
    }

    /// The items, in the server's order.
    pub fn items(&self) -> &[ListedItem] {
        &self.items
    }

    /// The list as a JSON array.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether this is the very list that `other` is, not merely an equal one.
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.items, &other.items)
    }
}

/// Documents that are no list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ItemListError {
    /// The bytes are not a JSON array.
    #[error("the list of {} is not a JSON array", .kind.member())]
    NotAnArray {
        /// Of what.
        kind: ListKind,
    },
    /// An item can not be asked for.
    #[error("number {position} of the list of {} is not an object with a text as its {}", .kind.member(), .kind.key())]
    Nameless {
        /// Of what.
        kind: ListKind,
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
    /// Whether its server answered last: what is fresh may be of a server that has gone since.
    pub contact: Contact,
}

/// Whether the last contact with a connector succeeded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contact {
    /// It was not contacted since the start.
    #[default]
    Unknown,
    /// It answered.
    Up,
    /// It did not.
    Down,
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

fn join<'a>(definitions: impl Iterator<Item = &'a RawValue> + Clone) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(2 + definitions.clone().map(|one| one.get().len() + 1).sum::<usize>());
    bytes.push(b'[');
    for (position, definition) in definitions.enumerate() {
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

    fn list(definitions: &[&str]) -> Result<ItemList, ItemListError> {
        ItemList::new(
            ListKind::Tools,
            definitions.iter().map(|text| RawValue::from_string((*text).into()).unwrap()).collect(),
        )
    }

    #[test]
    fn a_list_is_read_back_byte_for_byte() {
        let odd = r#"{ "name":"a" , "z":12345678901234567890.50 }"#;
        let before = list(&[odd, r#"{"name":"b"}"#]).unwrap();
        let after = ItemList::from_bytes(ListKind::Tools, before.bytes()).unwrap();
        assert_eq!((after.bytes(), after.items().len()), (before.bytes(), 2));
        assert_eq!(after.items()[0].definition.get(), odd);
    }

    #[test]
    fn a_tool_without_a_name_is_named_by_its_position() {
        for bad in ["{}", "[]", "1", r#"{"name":7}"#] {
            let error = ItemListError::Nameless { kind: ListKind::Tools, position: 1 };
            assert_eq!(list(&[r#"{"name":"a"}"#, bad]).unwrap_err(), error, "{bad}");
        }
        let error = ItemListError::NotAnArray { kind: ListKind::Resources };
        assert_eq!(ItemList::from_bytes(ListKind::Resources, b"{}").unwrap_err(), error);
    }
}
