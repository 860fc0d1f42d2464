//! Former documents: what foreign edits are compared with.
//!
//! An editor who takes no lock changed what he read, which need not be what stands there now. The generation that his
//! document still carries names its base; if his tool dropped that, the former document that differs least stands in for
//! it. Bases are kept in memory, and in the folder for processes that come later. Losing one loses no entry.

use std::collections::VecDeque;
use std::io;

use super::document::{self, RegistryDocument};
use super::limits::{BASES_IN_MEMORY, BASES_ON_DISK, MAX_REGISTRY_BYTES};
use super::names::{FileKind, FileNames};
use super::state::State;
use crate::edge::disk::{self, Disk};

/// The bases that a process knows, the latest last.
#[derive(Default)]
pub(super) struct Bases {
    remembered: VecDeque<(u64, State)>,
}

/// What a foreign document is compared with.
pub(super) struct Base {
    pub(super) state: State,
    /// How it was found.
    pub(super) found: BaseFound,
}

/// How a base was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BaseFound {
    /// By the generation that the document carries.
    Named,
    /// As the one that differs least.
    Nearest,
    /// There is none: what is missing from the document is not taken for removed.
    None,
}

impl Bases {
    /// Remembers a document that stood, or stands, in the file.
    pub(super) fn remember(&mut self, generation: u64, state: State) {
        self.remembered.retain(|(own, known)| *own != generation || known.digest() != state.digest());
        self.remembered.push_back((generation, state));
        if self.remembered.len() > BASES_IN_MEMORY {
            self.remembered.pop_front();
        }
    }

    /// What a foreign document is compared with.
    pub(super) fn of(
        &self,
        disk: &dyn Disk,
        names: &FileNames,
        document: &RegistryDocument,
        ours: &State,
    ) -> io::Result<Base> {
        let named = |generation: u64, digest: &str| {
            document.generation == Some(generation) && document.digest.as_deref().is_none_or(|own| own == digest)
        };
        let remembered = self.remembered.iter().rev().find(|(generation, state)| named(*generation, &state.digest()));
        if let Some((_, state)) = remembered {
            return Ok(Base { state: state.clone(), found: BaseFound::Named });
        }
        let kept = on_disk(disk, names)?;
        for (_, digest, name) in kept.iter().filter(|(generation, digest, _)| named(*generation, digest)) {
            if let Some(state) = load(disk, name, digest)? {
                return Ok(Base { state, found: BaseFound::Named });
            }
        }
        let mut candidates: Vec<State> = self.remembered.iter().map(|(_, state)| state.clone()).collect();
        for (_, digest, name) in &kept {
            if !candidates.iter().any(|state| state.digest() == *digest) {
                candidates.extend(load(disk, name, digest)?);
            }
        }
        // Of equals the last, which is the latest.
        let nearest = candidates.into_iter().rev().min_by_key(|state| distance(state, document));
        Ok(match nearest {
            Some(state) => Base { state, found: BaseFound::Nearest },
            None => Base { state: same_edits(ours, document), found: BaseFound::None },
        })
    }

    /// The latest document in the folder that can still be read.
    pub(super) fn latest_on_disk(disk: &dyn Disk, names: &FileNames) -> io::Result<Option<State>> {
        for (_, digest, name) in on_disk(disk, names)?.iter().rev() {
            if let Some(state) = load(disk, name, digest)? {
                return Ok(Some(state));
            }
        }
        Ok(None)
    }
}

/// The bases in the folder: generation, digest and name, the latest last.
pub(super) fn on_disk(disk: &dyn Disk, names: &FileNames) -> io::Result<Vec<(u64, String, String)>> {
    let mut bases: Vec<_> = disk
        .names()?
        .into_iter()
        .filter_map(|name| match names.kind(&name)? {
            FileKind::Base { generation, digest } => Some((generation, digest, name)),
            _ => None,
        })
        .collect();
    bases.sort();
    Ok(bases)
}

/// Removes the bases that are too old.
pub(super) fn prune(disk: &dyn Disk, names: &FileNames) -> io::Result<()> {
    let bases = on_disk(disk, names)?;
    for (_, _, name) in bases.iter().take(bases.len().saturating_sub(BASES_ON_DISK)) {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Reads a base; none if it is not what its name says.
pub(super) fn load(disk: &dyn Disk, name: &str, digest: &str) -> io::Result<Option<State>> {
    let bytes = match disk::read(disk, name, MAX_REGISTRY_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        Err(error) => return Err(error),
    };
    let state = document::read(&bytes).ok().and_then(|document| State::pristine(&document));
    Ok(state.filter(|state| state.digest() == digest))
}

/// In how many names a document differs from a base: those that only one has, then those with another content.
fn distance(base: &State, document: &RegistryDocument) -> (usize, usize) {
    let (mut missing, mut changed) = (base.count(), 0);
    for server in &document.servers {
        match base.get(&server.entry.name).and_then(|known| known.content.as_ref()) {
            Some(content) => {
                missing -= 1;
                changed += usize::from(content.digest != server.entry.digest);
            }
            None => missing += 1,
        }
    }
    (missing, changed)
}

/// Those of our entries that the document claims to hold unchanged: the same edit.
fn same_edits(ours: &State, document: &RegistryDocument) -> State {
    let mut base = State::default();
    for server in &document.servers {
        let (Some(rev), Some(known)) = (&server.rev, ours.get(&server.entry.name)) else { continue };
        let stamp = known.entry.stamp;
        if (stamp.wall_ms, stamp.counter, known.entry.writer.as_str())
            == (rev.wall_ms, rev.counter, rev.writer.as_str())
        {
            base.put(known);
        }
    }
    base
}
