//! The store of last-known-good state: what a change costs on disk is what changed.
//!
//! Records are appended to a log, `lists-<generation>.log`, one sync for each batch. A record is a header and a body; a body
//! is written only if it is another one than before. What no record needs any more is compacted away. A record that must
//! never fall back to an older version has a file of its own, which is replaced atomically.
//!
//! One process of a directory writes, through a [`StateStore`]; any others [`read`]. Only the frames that are damaged are
//! lost (see `frame`), and a damaged file is quarantined before it goes.

mod compaction;
mod frame;
mod limits;
mod read;
mod record;
mod store;

use std::io;

use futures_util::future::BoxFuture;

pub use compaction::{Compacted, Compaction};
pub use frame::FrameError;
pub use read::read;
pub use record::{Body, Change, StateRecord};
pub use store::{Committed, StateStore, WriteError, Written};

/// Takes records to be kept. The latest of a subject replaces the ones before.
pub trait StateSink: Send + Sync + 'static {
    /// Keeps a record soon. It may be written together with others.
    fn keep(&self, name: &str, record: StateRecord);

    /// Keeps nothing of a subject any more.
    fn forget(&self, name: &str);

    /// Keeps a record and returns once it is durable, or once it is certain that another process keeps the state.
    fn keep_now(&self, name: &str, record: StateRecord) -> BoxFuture<'_, io::Result<()>>;
}

/// Everything that a directory holds.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SavedState {
    /// The records, by name.
    pub records: Vec<(String, StateRecord)>,
    /// What was lost.
    pub damaged: Vec<Damaged>,
    /// Files of the first form, one for each record. They are neither read nor changed.
    pub old_files: usize,
}

/// Something that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damaged {
    /// The file.
    pub file: String,
    /// The record; absent if the damage hides the name.
    pub name: Option<String>,
}

/// The name of the file of a record that has its own.
pub fn own_file(name: &str) -> String {
    format!("{name}.record")
}

#[cfg(test)]
mod tests;
