//! Items of one connector as they are listed, rendered once and shared by every snapshot that lists them.

use std::ops::Range;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};

use super::route::Route;
use crate::model::Digest;

/// Rendered items, in the order in which they are listed.
#[derive(Clone, Debug, Default)]
pub(super) struct Chunk {
    /// The definitions, separated by commas, without brackets.
    bytes: Bytes,
    items: Vec<ChunkItem>,
    digest: ListDigest,
}

/// One item.
#[derive(Clone, Debug)]
pub(super) struct ChunkItem {
    /// The name, URI or URI template under which it is exposed.
    pub(super) key: Arc<str>,
    /// Where requests about it go; none for a tool of the gateway itself.
    pub(super) route: Option<Route>,
    /// Where its definition stands in the bytes.
    definition: Range<usize>,
}

impl Chunk {
    /// Renders items.
    pub(super) fn new<D: AsRef<str>>(items: impl IntoIterator<Item = (Arc<str>, Option<Route>, D)>) -> Self {
        let (mut bytes, mut rendered) = (BytesMut::new(), Vec::new());
        for (key, route, definition) in items {
            if !rendered.is_empty() {
                bytes.put_u8(b',');
            }
            let begin = bytes.len();
            bytes.put_slice(definition.as_ref().as_bytes());
            rendered.push(ChunkItem { key, route, definition: begin..bytes.len() });
        }
        #[cfg(test)]
        rendered_bytes::add(bytes.len());
        let digest = rendered.first().map(|first| {
            let connector = first.route.as_ref().map_or("", |route| route.connector.as_str());
            ListDigest::of(connector, &bytes)
        });
        Self { bytes: bytes.freeze(), items: rendered, digest: digest.unwrap_or_default() }
    }

    pub(super) fn items(&self) -> &[ChunkItem] {
        &self.items
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// What it contributes to the digest of a list.
    pub(super) fn digest(&self) -> ListDigest {
        self.digest
    }

    /// The definition of an item.
    pub(super) fn definition(&self, item: &ChunkItem) -> &str {
        // Definitions were JSON texts when they were put in.
        self.bytes.get(item.definition.clone()).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("{}")
    }

    /// The bytes of some of the items, with the commas between them.
    pub(super) fn slice(&self, items: Range<usize>) -> &[u8] {
        match self.items.get(items) {
            Some([first, .., last]) => self.bytes.get(first.definition.start..last.definition.end),
            Some([only]) => self.bytes.get(only.definition.clone()),
            _ => None,
        }
        .unwrap_or_default()
    }
}

/// A digest of a list that one connector's change updates without the others: the sum of the digests of its chunks (modulo
/// 2^64 in each of four lanes). An attacker who owns many connectors may find two lists of one digest; that costs one change
/// notification.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ListDigest([u64; 4]);

impl ListDigest {
    fn of(connector: &str, bytes: &[u8]) -> Self {
        let digest = Sha256::new().chain_update(connector).chain_update([0]).chain_update(bytes).finalize();
        let mut lanes = [0; 4];
        for (lane, bytes) in lanes.iter_mut().zip(digest.chunks_exact(8)) {
            *lane = bytes.iter().fold(0, |lane, byte| lane << 8 | u64::from(*byte));
        }
        Self(lanes)
    }

    pub(super) fn add(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_add(other));
    }

    pub(super) fn subtract(&mut self, other: Self) {
        self.0.iter_mut().zip(other.0).for_each(|(lane, other)| *lane = lane.wrapping_sub(other));
    }

    pub(super) fn digest(self) -> Digest {
        Digest::of(self.0.map(u64::to_be_bytes).as_flattened())
    }
}

/// A definition as [`Chunk::new`] takes it.
pub(super) struct Rendered(pub(super) Box<RawValue>);

impl AsRef<str> for Rendered {
    fn as_ref(&self) -> &str {
        self.0.get()
    }
}

/// How many bytes this thread has rendered.
#[cfg(test)]
pub(super) mod rendered_bytes {
    use std::cell::Cell;

    thread_local!(static RENDERED: Cell<usize> = const { Cell::new(0) });

    pub(super) fn add(bytes: usize) {
        RENDERED.with(|rendered| rendered.set(rendered.get() + bytes));
    }

    pub(in crate::catalog) fn during(work: impl FnOnce()) -> usize {
        let before = RENDERED.with(Cell::get);
        work();
        RENDERED.with(Cell::get) - before
    }
}
