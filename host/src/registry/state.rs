//! What a process knows about the registry: for each name the latest entry, or that it was removed.
//!
//! A value: it is copied in one step and shares what did not change, so that readers hold it as long as they like while
//! writers go on. It knows its own digest, which two states share if and only if they know the same. Nothing here decides
//! who wins; nothing here reads or writes.

use std::fmt;
use std::sync::Arc;

use rpds::RedBlackTreeMapSync;
use sha2::{Digest as _, Sha256};

use super::document::RegistryDocument;
use super::entry::RegistryEntry;
use super::limits::{
    MAX_WRITTEN_BYTES, MAX_WRITTEN_SERVERS, MAX_WRITTEN_TOMBSTONES, MAX_YOUNG_TOMBSTONES, TOMBSTONE_KEPT,
    TOMBSTONE_YOUNG,
};
use super::render;
use super::round::Kept;
use crate::model::{WallMs, milliseconds};
use crate::policy::contract::{Entry, FoundEntry, Hlc};

/// What is known about one name.
#[derive(Clone)]
pub(super) struct Known {
    /// Its latest edit.
    pub(super) entry: Entry,
    /// Its content; none if it was removed.
    pub(super) content: Option<Arc<RegistryEntry>>,
    /// How it stands in the document.
    rendered: Arc<str>,
    mark: u128,
}

/// Name and edit only: the rest may hold secrets.
impl fmt::Debug for Known {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Known").field("entry", &self.entry).finish_non_exhaustive()
    }
}

impl Known {
    /// What an edit made of a name: `content` in force, or nothing if it was removed.
    pub(super) fn new(name: &str, stamp: Hlc, writer: &str, content: Option<Arc<RegistryEntry>>) -> Self {
        let entry = Entry {
            name: name.to_owned(),
            stamp,
            writer: writer.to_owned(),
            deleted: content.is_none(),
            digest: content.as_ref().map(|content| content.digest.to_string()).unwrap_or_default(),
        };
        Self::of(entry, content)
    }

    /// Whether it is an entry that can not be used as it is.
    fn is_unusable(&self) -> bool {
        self.content.as_ref().is_some_and(|content| content.transport.is_err())
    }

    /// Whether it is the same edit of the same name.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.mark == other.mark
    }

    /// The same for an entry that is there already. It is a removal if there is no content.
    pub(super) fn of(entry: Entry, content: Option<Arc<RegistryEntry>>) -> Self {
        let rendered = rendered(&entry, content.as_deref());
        let mark = mark(&entry);
        Self { entry, content, rendered: rendered.into(), mark }
    }
}

/// Everything that is known.
#[derive(Clone, Debug, Default)]
pub(super) struct State {
    entries: RedBlackTreeMapSync<Arc<str>, Arc<Known>>,
    /// The marks of all entries, added up: order does not matter.
    digest: u128,
    in_force: usize,
    unusable: usize,
    bytes: usize,
}

impl State {
    /// What a document says that a cooperating writer wrote, each entry with the edit that it names; none if it is not as
    /// such a writer left it.
    pub(super) fn pristine(document: &RegistryDocument) -> Option<Self> {
        let claimed = document.digest.as_deref()?;
        document.generation?;
        let mut state = Self::default();
        for server in &document.servers {
            let rev = server.rev.as_ref()?;
            let stamp = Hlc { wall_ms: rev.wall_ms, counter: rev.counter };
            state.put(&Arc::new(Known::new(&server.entry.name, stamp, &rev.writer, Some(server.entry.clone()))));
        }
        for removed in &document.removed {
            let stamp = Hlc { wall_ms: removed.rev.wall_ms, counter: removed.rev.counter };
            state.put(&Arc::new(Known::new(&removed.name, stamp, &removed.rev.writer, None)));
        }
        (state.digest() == claimed).then_some(state)
    }

    /// Puts an entry in the place of what was known about its name.
    pub(super) fn put(&mut self, known: &Arc<Known>) {
        let name: Arc<str> = known.entry.name.as_str().into();
        if let Some(before) = self.entries.get(&name) {
            self.digest = self.digest.wrapping_sub(before.mark);
            self.in_force -= usize::from(before.content.is_some());
            self.unusable -= usize::from(before.is_unusable());
            self.bytes -= before.rendered.len();
        }
        self.digest = self.digest.wrapping_add(known.mark);
        self.in_force += usize::from(known.content.is_some());
        self.unusable += usize::from(known.is_unusable());
        self.bytes += known.rendered.len();
        self.entries.insert_mut(name, known.clone());
    }

    /// What is known about a name.
    pub(super) fn get(&self, name: &str) -> Option<&Arc<Known>> {
        self.entries.get(name)
    }

    /// Everything, ordered by name.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Known>> {
        self.entries.values()
    }

    /// The entries in force, ordered by name.
    pub(super) fn in_force(&self) -> impl Iterator<Item = &Arc<RegistryEntry>> {
        self.entries.values().filter_map(|known| known.content.as_ref())
    }

    /// Whether nothing is known at all.
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether the other one knows the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.digest == other.digest && self.entries.size() == other.entries.size()
    }

    /// How many entries and tombstones there are.
    pub(super) fn size(&self) -> usize {
        self.entries.size()
    }

    /// How many entries can not be used as they are.
    pub(super) fn unusable(&self) -> usize {
        self.unusable
    }

    /// How many entries are in force.
    pub(super) fn count(&self) -> usize {
        self.in_force
    }

    /// Whether a limit of what may be written is so near, with so many more bytes of entries, that every change counts.
    pub(super) fn is_nearly_full(&self, more: usize) -> bool {
        self.in_force >= MAX_WRITTEN_SERVERS || self.bytes + more >= MAX_WRITTEN_BYTES / 2
    }

    /// About how many bytes its document has.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The digest of all entries and tombstones: 32 hexadecimal characters.
    pub(super) fn digest(&self) -> String {
        format!("{:032x}", self.digest)
    }

    /// Without the tombstones that need not be written any more.
    pub(super) fn without_old_tombstones(&self, now: WallMs) -> Self {
        if self.entries.size() == self.in_force {
            return self.clone();
        }
        let oldest = now.0.saturating_sub(milliseconds(TOMBSTONE_KEPT));
        let removed = || self.entries.values().filter(|known| known.content.is_none());
        let mut dropped: Vec<_> = removed().filter(|known| known.entry.stamp.wall_ms < oldest).cloned().collect();
        let left = self.entries.size() - self.in_force - dropped.len();
        if left > MAX_WRITTEN_TOMBSTONES {
            let young = now.0.saturating_sub(milliseconds(TOMBSTONE_YOUNG));
            let mut rest: Vec<_> = removed().filter(|known| known.entry.stamp.wall_ms >= oldest).cloned().collect();
            rest.sort_by_key(|known| (known.entry.stamp.wall_ms, known.entry.stamp.counter));
            let (many, far_too_many) = (left - MAX_WRITTEN_TOMBSTONES, left.saturating_sub(MAX_YOUNG_TOMBSTONES));
            let old = rest.partition_point(|known| known.entry.stamp.wall_ms < young);
            // A journal may still hold what a young one removed.
            rest.truncate(many.min(old).max(far_too_many));
            dropped.append(&mut rest);
        }
        let mut state = self.clone();
        for known in dropped {
            state.digest = state.digest.wrapping_sub(known.mark);
            state.bytes -= known.rendered.len();
            state.entries.remove_mut(known.entry.name.as_str());
        }
        state
    }

    /// The document, as its bytes.
    pub(super) fn document(&self, generation: u64, absorbed: &[String], kept: &Kept) -> Vec<u8> {
        self.document_in(Vec::new(), generation, absorbed, kept)
    }

    /// The same in a buffer of which only the capacity counts: large ones cost as much as filling them.
    pub(super) fn document_in(
        &self,
        mut buffer: Vec<u8>,
        generation: u64,
        absorbed: &[String],
        kept: &Kept,
    ) -> Vec<u8> {
        let (extras, leftovers) = kept;
        buffer.clear();
        // Nothing is in it that might be no text.
        let mut text = String::from_utf8(buffer).unwrap_or_default();
        text.reserve(self.bytes + self.entries.size() * SEPARATOR_BYTES + 4096);
        text.push_str("{\n  \"servers\": [");
        let mut first = true;
        let mut next = |text: &mut String| {
            if !std::mem::take(&mut first) {
                text.push(',');
            }
            text.push_str("\n    ");
        };
        for known in self.entries.values().filter(|known| known.content.is_some()) {
            next(&mut text);
            text.push_str(&known.rendered);
        }
        for leftover in leftovers {
            next(&mut text);
            render::pretty(leftover, 2, &mut text);
        }
        if !first {
            render::line(1, &mut text);
        }
        text.push(']');
        for (name, value) in extras {
            text.push_str(",\n  ");
            render::string(name, &mut text);
            text.push_str(": ");
            render::pretty(value, 1, &mut text);
        }
        text.push_str(",\n  \"generation\": ");
        text.push_str(&generation.to_string());
        text.push_str(",\n  \"digest\": \"");
        text.push_str(&self.digest());
        text.push('"');
        if !absorbed.is_empty() {
            text.push_str(",\n  \"absorbed\": [\"");
            text.push_str(&absorbed.join("\", \""));
            text.push_str("\"]");
        }
        text.push_str(",\n  \"removed\": [");
        let mut first = true;
        let tombstones = self.entries.size() - self.in_force;
        for known in self.entries.values().filter(|known| known.content.is_none()).take(tombstones) {
            text.push_str(if std::mem::take(&mut first) { "\n    " } else { ",\n    " });
            text.push_str(&known.rendered);
        }
        if !first {
            render::line(1, &mut text);
        }
        text.push_str("]\n}");
        text.into_bytes()
    }
}

/// What stands between two entries of a document, at most.
const SEPARATOR_BYTES: usize = 8;

/// What a document says, as the policy takes it.
pub(super) fn found(document: &RegistryDocument) -> Vec<FoundEntry> {
    let found = document.servers.iter().map(|server| FoundEntry {
        name: server.entry.name.clone(),
        digest: server.entry.digest.to_string(),
        stamp: server.rev.as_ref().map(|rev| Hlc { wall_ms: rev.wall_ms, counter: rev.counter }),
        writer: server.rev.as_ref().map(|rev| rev.writer.clone()),
    });
    found.collect()
}

/// How an entry stands in the document: an element of `servers`, or of `removed`.
fn rendered(entry: &Entry, content: Option<&RegistryEntry>) -> String {
    let mut text = String::new();
    let rev = |text: &mut String| {
        text.push_str("\"rev\": {\"wallMs\": ");
        text.push_str(&entry.stamp.wall_ms.to_string());
        text.push_str(", \"counter\": ");
        text.push_str(&entry.stamp.counter.to_string());
        text.push_str(", \"writer\": ");
        render::string(&entry.writer, text);
        text.push('}');
    };
    match content {
        Some(content) => {
            render::pretty(content.json(), 2, &mut text);
            // The object has a name at least; its closing brace stands on a line of its own.
            let closing = text.rfind('\n').unwrap_or(text.len());
            text.truncate(closing);
            text.push_str(",\n      ");
            rev(&mut text);
            text.push_str("\n    }");
        }
        None => {
            text.push_str("{\"name\": ");
            render::string(&entry.name, &mut text);
            text.push_str(", ");
            rev(&mut text);
            text.push('}');
        }
    }
    text
}

/// The digest of one entry: half of a SHA-256, of which sums tell states apart. It is no defence against anyone.
fn mark(entry: &Entry) -> u128 {
    let mut hasher = Sha256::new();
    for text in [entry.name.as_str(), entry.writer.as_str(), entry.digest.as_str()] {
        hasher.update((text.len() as u64).to_le_bytes());
        hasher.update(text);
    }
    hasher.update(entry.stamp.wall_ms.to_le_bytes());
    hasher.update(entry.stamp.counter.to_le_bytes());
    hasher.update([u8::from(entry.deleted)]);
    let digest = hasher.finalize();
    let mut half = [0; 16];
    half.copy_from_slice(&digest[..16]);
    u128::from_le_bytes(half)
}
