//! What readers of the registry get: everything in force at one moment, which never changes under them.

use std::sync::Arc;

use super::entry::RegistryEntry;
use super::standing::Standing;
use super::state::State;

/// The registry at one moment.
#[derive(Clone, Debug, Default)]
pub struct RegistrySnapshot {
    pub(super) state: State,
    /// Whether it can be written.
    pub standing: Standing,
    /// What is wrong with it, each a sentence.
    pub problems: Arc<[String]>,
    /// The generation of the document that was read or written last.
    pub generation: u64,
}

impl RegistrySnapshot {
    /// The entry of that name.
    pub fn get(&self, name: &str) -> Option<&Arc<RegistryEntry>> {
        self.state.get(name)?.content.as_ref()
    }

    /// When the entry of that name was last changed and by whom, in the registry's own account: milliseconds since the Unix
    /// epoch by the clock of the writer, and the writer's id.
    pub fn edit(&self, name: &str) -> Option<(u64, &str)> {
        let known = self.state.get(name)?;
        known.content.as_ref()?;
        Some((known.entry.stamp.wall_ms, &known.entry.writer))
    }

    /// All entries, ordered by name.
    pub fn entries(&self) -> impl Iterator<Item = &Arc<RegistryEntry>> {
        self.state.in_force()
    }

    /// How many entries there are.
    pub fn count(&self) -> usize {
        self.state.count()
    }

    /// How many removed entries are remembered.
    pub fn tombstones(&self) -> usize {
        self.state.iter().count() - self.state.count()
    }
}
