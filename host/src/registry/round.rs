//! What a settling works on: what is remembered from one to the next, and what one round has found.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::bases::Bases;
use super::change::{Acknowledged, Change};
use super::file::FoundFile;
use super::limits::ABSORBED_KEPT;
use super::orphans::Orphan;
use super::standing::StoreError;
use super::state::State;
use crate::edge::disk::DiskLook;
use crate::policy::contract::Entry;

/// What only settling needs.
#[derive(Default)]
pub(super) struct Settling {
    /// What stands in the file, as it was read or written last.
    pub(super) file: FoundFile,
    pub(super) bases: Bases,
    /// Former documents that someone may still be writing to: who opened them before they were replaced.
    pub(super) replaced: VecDeque<(String, DiskLook)>,
    /// Whether the document that was written last has no copy yet.
    pub(super) untidy: bool,
    /// A buffer for the next document.
    pub(super) spare: Vec<u8>,
    /// What was recorded last as replaced by a foreign document: its digest, and the replaced entries.
    pub(super) recorded: Option<(String, Vec<Entry>)>,
    /// The foreign documents that the document holds, or will: the digests of their bytes, the latest last.
    pub(super) absorbed: Vec<String>,
}

/// What is to be settled besides what is known.
pub(super) enum Edit<'a> {
    /// Nothing.
    None,
    /// Entries that were stamped already.
    Join(&'a State),
    /// Changes, made once everything else is known; an answer for each.
    Changes {
        /// The changes.
        changes: &'a [Change],
        /// Where the answers go.
        answers: &'a mut Vec<Result<Acknowledged, StoreError>>,
    },
}

/// One settling under way.
pub(super) struct Round {
    pub(super) state: State,
    /// What of it is known already.
    pub(super) known: State,
    /// What is removed once the document is durable.
    pub(super) orphans: Vec<Orphan>,
    pub(super) leftovers: Vec<String>,
    /// Replaced documents that were edited late, and what they look like now.
    pub(super) late: Vec<(String, DiskLook)>,
    /// What is to be kept in the document besides what is known, if that is not what stands there.
    pub(super) kept: Option<Kept>,
    /// The foreign documents that were dealt with, and are in no document yet.
    pub(super) absorbed: Vec<String>,
    pub(super) problems: Vec<String>,
    /// How much longer a document is waited for that another program may be writing.
    pub(super) patience: Duration,
}

/// How a try to settle ended, if it did not fail.
#[must_use]
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tried {
    /// With what was to be done.
    Done,
    /// With nothing: the document seems to be half of what another program is writing.
    HalfWritten,
}

impl Settling {
    /// Watches a document that was replaced for a while. `look` is what it looked like when it was read.
    pub(super) fn watch(&mut self, replaced: Option<String>, look: Option<DiskLook>) {
        if let (Some(name), Some(look)) = (replaced, look) {
            self.replaced.push_back((name, look));
            if self.replaced.len() > REPLACED_WATCHED {
                self.replaced.pop_front();
            }
        }
    }

    /// Takes note of foreign documents that are held already.
    pub(super) fn take_over(&mut self, absorbed: &[String]) {
        for digest in absorbed {
            self.absorbed.retain(|own| own != digest);
            self.absorbed.push(digest.clone());
        }
        let excess = self.absorbed.len().saturating_sub(ABSORBED_KEPT);
        self.absorbed.drain(..excess);
    }
}

/// How many replaced documents are watched for late writers.
const REPLACED_WATCHED: usize = 2;

/// The texts that mean nothing here and are kept.
pub(super) type Kept = (Vec<(String, Arc<str>)>, Vec<Arc<str>>);
