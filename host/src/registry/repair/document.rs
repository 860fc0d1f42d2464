//! Replacing a document that can not be read by one of everything that can be had.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use super::super::bases::{self, Bases};
use super::super::document::read;
use super::super::entry::Rev;
use super::super::limits::MAX_REGISTRY_BYTES;
use super::super::names::FileNames;
use super::super::round::Kept;
use super::super::snapshot_file::{NewDocument, Placed, place};
use super::super::standing::StoreError;
use super::super::state::{Known, State};
use super::super::store::{Store, locked};
use super::super::superseded;
use super::salvage::{Salvaged, salvage};
use super::{Mending, MendingAction, MendingState, good_of_damaged, is_replaceable, lock};
use crate::edge::disk::{self, Disk, DiskLook, FILE_MODE};
use crate::model::Digest;
use crate::policy::contract::Hlc;

/// What would be done about the document; none if it can be read.
pub(super) fn plan(disk: &dyn Disk, names: &FileNames) -> io::Result<Option<Mending>> {
    let name = names.snapshot();
    let by_hand = |message: String| {
        let step = Mending::planned(MendingAction::RewriteDocument, name, message);
        Ok(Some(Mending { state: MendingState::ByHand, ..step }))
    };
    let bytes = match disk::read(disk, name, MAX_REGISTRY_BYTES) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Ok(None),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            let message =
                "it is too large to be a registry; if it is none, move it away, and the latest former one is written";
            return by_hand(message.to_owned());
        }
        Err(error) => return Err(error),
    };
    let Err(error) = read(&bytes) else { return Ok(None) };
    if !is_replaceable(&error) {
        return by_hand(error.to_string());
    }
    let copy = copy_name(disk, names, &bytes)?;
    let message = format!("keep it as {copy}, and write a new one of everything that can be had");
    let mut step = Mending::planned(MendingAction::RewriteDocument, name, message);
    step.details.push(error.to_string());
    let found = salvage(&bytes);
    step.details.push(format!("{} entries of it are whole", found.entries.len()));
    step.details.push(match bases::on_disk(disk, names)?.last() {
        Some((generation, ..)) => format!("the latest former document is of generation {generation}"),
        None => "there is no former document".to_owned(),
    });
    let journals = super::super::inspect::journals(disk, names.snapshot())?;
    let changes: usize = journals.iter().map(|journal| journal.records.len()).sum();
    step.details.push(format!("journals hold {changes} changes"));
    Ok(Some(step))
}

/// The name of the copy of a document: one that is free, or that such a copy has already.
fn copy_name(disk: &dyn Disk, names: &FileNames, bytes: &[u8]) -> io::Result<String> {
    let digest = Digest::of(bytes);
    // A copy under the usual name that is not the same is no copy, and is left alone.
    for length in [16, 32, 64] {
        let name = names.quarantined(&digest.short(length));
        match disk::read(disk, &name, MAX_REGISTRY_BYTES) {
            Ok(None) => return Ok(name),
            Ok(Some(there)) if there == bytes => return Ok(name),
            Ok(Some(_)) => {}
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {}
            Err(error) => return Err(error),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// Makes a durable copy, and reads it back.
fn keep_copy(store: &Store, bytes: &[u8]) -> io::Result<String> {
    let disk = &*store.disk;
    let name = copy_name(disk, &store.names, bytes)?;
    if let Some(file) = disk.open(&name)? {
        // Whoever made it may have ended before it was durable.
        file.sync_all()?;
    } else {
        let temporary = store.names.temporary(store.random());
        disk::write_new(disk, &temporary, bytes, None)?;
        disk.rename(&temporary, &name)?;
    }
    disk::sync_names(disk)?;
    match disk::read(disk, &name, MAX_REGISTRY_BYTES)? {
        Some(there) if there == bytes => Ok(name),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "the copy of the document is not what was written")),
    }
}

/// Replaces the document; nothing if it can be read by now.
pub(super) fn rewrite(store: &Arc<Store>, mut step: Mending) -> Result<Option<Mending>, StoreError> {
    let disk = &*store.disk;
    let _lock = lock(store)?;
    let Some(bytes) = disk::read(disk, store.names.snapshot(), MAX_REGISTRY_BYTES)? else { return Ok(None) };
    if read(&bytes).is_ok() {
        return Ok(None);
    }
    let copy = keep_copy(store, &bytes)?;
    // Everything that anyone acknowledged and that can be read: journals, and what was read before.
    store.observe()?;
    let (damaged, _) = good_of_damaged(store)?;
    let (former, absorbed) = Bases::latest_on_disk(disk, &store.names)?.unwrap_or_default();
    let found = salvage(&bytes);
    let (state, replaced) = joined(store, &former, &damaged, &found)?;
    superseded::keep(
        disk,
        &store.names,
        store.wall(),
        "the registry was repaired",
        replaced.iter().map(|known| &**known),
    )?;
    let (generation, kept) = latest(disk, &store.names)?;
    let generation = generation.max(locked(&store.core).generation) + 1;
    let document = state.document(generation, &absorbed, &kept);
    let look = disk.look(store.names.snapshot())?.map(|look| DiskLook { mode: FILE_MODE, ..look });
    let temporary = store.names.temporary(store.random());
    let new = NewDocument {
        bytes: &document,
        base: store.names.base(generation, &state.digest()),
        copy: store.names.copy(generation, &state.digest()),
        copied: true,
        temporary: temporary.clone(),
        expected: Some(&bytes),
        former: None,
        like: look,
    };
    match place(disk, &store.names, &new)?.0 {
        Placed::Done(_) => {}
        Placed::Changed => return Err(StoreError::Contended),
        Placed::Displaced => step.details.push(format!(
            "it was changed in the same moment; that is kept in {temporary}, and merged by the next writer"
        )),
    }
    step.message = format!("kept as {copy}; a new one of {} entries is written", state.count());
    step.details.extend(origins(&state, &found, &former));
    step.details
        .push(format!("`cortex-mcp registry import {copy} --dry-run` tells whether other programs' forms are in it"));
    Ok(Some(step.done(Ok::<_, StoreError>(()))))
}

/// Everything that can be had, and what of it was replaced.
fn joined(
    store: &Store,
    former: &State,
    damaged: &State,
    found: &Salvaged,
) -> Result<(State, Vec<Arc<Known>>), StoreError> {
    let mut core = locked(&store.core);
    let core = &mut *core;
    let mut state = core.judge.join_states(&core.state, former)?.state;
    state = core.judge.join_states(&state, damaged)?.state;
    let stamp = |rev: &Rev| Hlc { wall_ms: rev.wall_ms, counter: rev.counter };
    let (mut stamped, mut unstamped) = (Vec::new(), Vec::new());
    for (entry, rev) in &found.entries {
        match rev {
            Some(rev) => stamped.push(Arc::new(Known::new(&entry.name, stamp(rev), &rev.writer, Some(entry.clone())))),
            None => unstamped.push(entry),
        }
    }
    // The same edit with another content was edited by hand.
    let is_edit = |known: &Arc<Known>| {
        let there = state.get(&known.entry.name);
        there.is_some_and(|there| {
            (there.entry.stamp.wall_ms, there.entry.stamp.counter, &there.entry.writer)
                == (known.entry.stamp.wall_ms, known.entry.stamp.counter, &known.entry.writer)
                && there.entry.digest != known.entry.digest
        })
    };
    let (edited, stamped): (Vec<_>, Vec<_>) = stamped.into_iter().partition(is_edit);
    unstamped.extend(
        found
            .entries
            .iter()
            .map(|(entry, _)| entry)
            .filter(|entry| edited.iter().any(|known| known.entry.name == entry.name)),
    );
    let tombstones = found.removed.iter().map(|gone| Known::new(&gone.name, stamp(&gone.rev), &gone.rev.writer, None));
    state = core.judge.join(&state, stamped.into_iter().chain(tombstones.map(Arc::new)))?.state;
    let mut replaced = Vec::new();
    for entry in unstamped {
        let there = state.get(&entry.name).cloned();
        if there.as_ref().and_then(|there| there.content.as_ref()).is_some_and(|content| content.digest == entry.digest)
        {
            continue;
        }
        // What someone wrote into the document by hand is later than what was there.
        let known = Known::new(&entry.name, core.judge.stamp()?, core.judge.writer(), Some(entry.clone()));
        state.put(&Arc::new(known));
        replaced.extend(there.filter(|there| there.content.is_some()));
    }
    Ok((state, replaced))
}

/// The generation of the latest former document, and what in it means nothing here and is kept.
fn latest(disk: &dyn Disk, names: &FileNames) -> io::Result<(u64, Kept)> {
    let bases = bases::on_disk(disk, names)?;
    let generation = bases.last().map_or(0, |base| base.0);
    for (_, digest, name) in bases.iter().rev() {
        if bases::load(disk, name, digest)?.is_some()
            && let Some(Ok(document)) = disk::read(disk, name, MAX_REGISTRY_BYTES)?.as_deref().map(read)
        {
            return Ok((generation, (document.extras, document.leftovers)));
        }
    }
    Ok((generation, Kept::default()))
}

/// What came from where, a sentence for each place.
fn origins(state: &State, found: &Salvaged, former: &State) -> Vec<String> {
    let mut from: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for entry in state.in_force() {
        let is_found = found.entries.iter().any(|(own, _)| own.name == entry.name && own.digest == entry.digest);
        let known = former.get(&entry.name).and_then(|known| known.content.as_ref());
        let place = if is_found {
            "the document that could not be read"
        } else if known.is_some_and(|content| content.digest == entry.digest) {
            "the latest former document (remove those that were to be gone)"
        } else {
            "journals, and what was read before"
        };
        from.entry(place).or_default().push(&entry.name);
    }
    from.into_iter().map(|(place, names)| format!("from {place}: {}", names.join(", "))).collect()
}
