//! Former documents: what foreign edits are compared with.
//!
//! An editor who takes no lock changed what he read, which need not be what stands there now. The generation that his
//! document still carries names its base; if his tool dropped that, the former document that differs least stands in for
//! it. Bases are kept in memory, and in the folder for processes that come later. Losing one loses no entry.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use super::document::{self, RegistryDocument};
use super::limits::{BASES_IN_MEMORY, BASES_ON_DISK, MAX_REGISTRY_BYTES};
use super::names::{FileKind, FileNames};
use super::state::{Known, State};
use crate::edge::disk::{self, Disk};
use crate::policy::contract::Hlc;

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
    /// As the latest document, from which it differs least.
    Latest,
    /// As an older document, from which it differs less than from the latest.
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
        if document.generation.is_some() && document.servers.iter().any(|server| server.rev.is_some()) {
            return Ok(Base { state: claimed(ours, document), found: BaseFound::None });
        }
        let mut candidates: Vec<(u64, State)> = self.remembered.iter().cloned().collect();
        for (generation, digest, name) in &kept {
            if !candidates.iter().any(|(_, state)| state.digest() == *digest) {
                candidates.extend(load(disk, name, digest)?.map(|state| (*generation, state)));
            }
        }
        candidates.sort_by_key(|(generation, _)| *generation);
        let Some(latest) = candidates.last().map(|(generation, _)| *generation) else {
            return Ok(Base { state: claimed(ours, document), found: BaseFound::None });
        };
        // Nobody saves what he did not change: what equals an older document is an edit of a later one. Of those that differ
        // as little the latest counts.
        let edited =
            candidates.into_iter().rev().map(|(generation, state)| (distance(&state, document), generation, state));
        let edited = edited.filter(|(distance, generation, _)| *generation == latest || *distance != (0, 0));
        let nearest = edited.min_by_key(|(distance, ..)| *distance);
        Ok(match nearest {
            Some((_, generation, state)) if generation == latest => Base { state, found: BaseFound::Latest },
            Some((.., state)) => Base { state, found: BaseFound::Nearest },
            None => Base { state: claimed(ours, document), found: BaseFound::None },
        })
    }

    /// The latest document in the folder that can still be read, and the foreign documents that it holds.
    pub(super) fn latest_on_disk(disk: &dyn Disk, names: &FileNames) -> io::Result<Option<(State, Vec<String>)>> {
        for (_, digest, name) in on_disk(disk, names)?.iter().rev() {
            if let Some(found) = load_whole(disk, name, digest)? {
                return Ok(Some(found));
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
            FileKind::Base { generation, digest, .. } => Some((generation, digest, name)),
            _ => None,
        })
        .collect();
    bases.sort();
    Ok(bases)
}

/// Removes the bases that are too old.
pub(super) fn prune(disk: &dyn Disk, names: &FileNames) -> io::Result<()> {
    let bases = on_disk(disk, names)?;
    let present = bases.last().map_or(0, |base| base.0);
    let is_copy = |name: &str| matches!(names.kind(name), Some(FileKind::Base { copy: true, .. }));
    let (copies, kept): (Vec<_>, Vec<_>) = bases.iter().partition(|(_, _, name)| is_copy(name));
    let old = kept.iter().take(kept.len().saturating_sub(BASES_ON_DISK));
    for (_, _, name) in old.chain(copies.iter().filter(|(generation, ..)| *generation < present)) {
        match disk.remove(name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Reads a base; none if it is not what its name says.
pub(super) fn load(disk: &dyn Disk, name: &str, digest: &str) -> io::Result<Option<State>> {
    Ok(load_whole(disk, name, digest)?.map(|(state, _)| state))
}

/// The same, with the foreign documents that it holds.
fn load_whole(disk: &dyn Disk, name: &str, digest: &str) -> io::Result<Option<(State, Vec<String>)>> {
    let bytes = match disk::read(disk, name, MAX_REGISTRY_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Ok(None),
        Err(error) => return Err(error),
    };
    let Ok(document) = document::read(&bytes) else { return Ok(None) };
    let state = State::pristine(&document).filter(|state| state.digest() == digest);
    Ok(state.map(|state| (state, document.absorbed)))
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

/// What the document itself claims to come from, where its base is lost: the edits that it names, with their contents as far
/// as we know them. A content of an edit that we do not know is taken for unchanged, so that it never beats a later one;
/// and what the document lacks is not taken for removed.
fn claimed(ours: &State, document: &RegistryDocument) -> State {
    let mut base = State::default();
    for server in &document.servers {
        let own = ours.get(&server.entry.name);
        match (&server.rev, own) {
            (Some(rev), own) => {
                let stamp = Hlc { wall_ms: rev.wall_ms, counter: rev.counter };
                let same = own.filter(|known| known.entry.stamp == stamp && known.entry.writer == rev.writer);
                let of_document = || Known::new(&server.entry.name, stamp, &rev.writer, Some(server.entry.clone()));
                base.put(&same.cloned().unwrap_or_else(|| Arc::new(of_document())));
            }
            (None, Some(known)) if known.content.as_ref().is_some_and(|own| own.digest == server.entry.digest) => {
                base.put(known);
            }
            (None, _) => {}
        }
    }
    base
}
