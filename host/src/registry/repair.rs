//! Mending a registry: what the doctor reports as mendable, and never the removal of the only copy of anything.
//!
//! A document that can not be read is copied first; the copy is durable and read back, byte for byte, before a new
//! document is written of what can be had: entries that are whole in the unreadable text, the latest former document,
//! all journals. Whose value stands for a name is decided by the policy, as ever. Damaged journals keep their files
//! under another name, and what is good in them is in the document before that. Both give something up, and are done
//! with consent only.

mod document;
mod salvage;

#[cfg(test)]
mod tests;

use std::io;
use std::sync::Arc;

use serde::Serialize;

use super::doctor::is_left;
use super::document::{RegistryError, read};
use super::journal::change::Change;
use super::journal::scan::scan;
use super::limits::{MAX_REGISTRY_BYTES, SEGMENT_BYTES_MAX};
use super::lock::{WriterLock, is_forgotten};
use super::names::{FileKind, FileNames};
use super::round::Edit;
use super::standing::StoreError;
use super::state::{Known, State};
use super::store::{Store, locked};
use crate::edge::disk::{self, Disk, FILE_MODE};
use crate::model::WallMs;

/// Something that is mended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Mending {
    /// What is done: a stable name in kebab case.
    pub action: MendingAction,
    /// The file that it is about.
    pub file: String,
    /// What is or was done, as a sentence.
    pub message: String,
    /// What came of it.
    pub state: MendingState,
    /// More sentences: what came from where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MendingAction {
    /// A file is made its owner's alone.
    MakePrivate,
    /// A file is given to the user whose the folder is.
    ChangeOwner,
    /// A lock that nobody holds is removed.
    RemoveLock,
    /// A document that can not be read is kept under another name, and a new one is written.
    RewriteDocument,
    /// What ended programs left is merged into the document.
    Merge,
    /// The loss in a damaged journal is accepted, and its file kept under another name.
    AcceptJournal,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MendingState {
    /// Nothing yet.
    Planned,
    /// It waits for consent.
    NeedsConsent,
    /// It is done.
    Done,
    /// It could not be done.
    Failed,
    /// It has to be done by hand.
    ByHand,
}

impl Mending {
    fn planned(action: MendingAction, file: &str, message: impl Into<String>) -> Self {
        let (file, message) = (file.to_owned(), message.into());
        Self { action, file, message, state: MendingState::Planned, details: Vec::new() }
    }

    fn done(mut self, done: Result<(), impl std::fmt::Display>) -> Self {
        match done {
            Ok(()) => self.state = MendingState::Done,
            Err(error) => {
                self.state = MendingState::Failed;
                self.details.push(error.to_string());
            }
        }
        self
    }
}

/// What [`mend`] would do. Nothing is written.
///
/// # Errors
/// Whatever the file system says.
pub fn plan(disk: &dyn Disk, file: &str, now: WallMs) -> io::Result<Vec<Mending>> {
    let names = FileNames::of(file);
    let mut plan = Vec::new();
    let present = disk.names()?;
    let owner = disk.look_at_folder()?.owner.0;
    for name in present.iter().filter(|name| names.kind(name).is_some()) {
        let Some(look) = disk.look(name)? else { continue };
        if look.owner.0 != owner {
            let message = format!("give it to the user {owner}, whose the folder is (`chown {owner}`)");
            plan.push(Mending::planned(MendingAction::ChangeOwner, name, message));
        }
        if look.mode & 0o077 != 0 {
            plan.push(Mending::planned(MendingAction::MakePrivate, name, "give it the mode 0600"));
        }
    }
    let legacy = names.legacy_lock();
    // What is no regular file is for people to remove.
    if let Some(look) = disk.look(&legacy)?.filter(|_| present.contains(&legacy)) {
        let own = disk.open(&names.lock())?;
        let is_ours = own.as_ref().map(|own| own.look()).transpose()?.is_some_and(|own| own.file == look.file);
        let is_held = is_ours && own.is_some_and(|own| matches!(own.try_lock(), Ok(false)));
        if !is_held && (is_ours || is_forgotten(look.modified_ns, now)) {
            plan.push(Mending::planned(
                MendingAction::RemoveLock,
                &legacy,
                "remove the lock, which nobody holds any more",
            ));
        }
    }
    plan.extend(document::plan(disk, &names)?);
    if is_waiting(disk, &names, now)? {
        let message = "merge the journals and files that ended programs left, and then remove them";
        plan.push(Mending::planned(MendingAction::Merge, names.snapshot(), message));
    }
    for name in present.iter().filter(|name| names.kind(name) == Some(FileKind::Damaged)) {
        plan.push(accepting(&names, name));
    }
    Ok(plan)
}

fn accepting(names: &FileNames, name: &str) -> Mending {
    let message = format!("accept that changes in it are lost, and keep it as {}", names.kept(name));
    Mending::planned(MendingAction::AcceptJournal, name, message)
}

/// Whether ended programs left something to be merged: journals, or files on their way.
fn is_waiting(disk: &dyn Disk, names: &FileNames, now: WallMs) -> io::Result<bool> {
    for name in disk.names()? {
        let waits = match names.kind(&name) {
            Some(FileKind::Segment { .. }) => match disk.open(&name) {
                Ok(Some(file)) => matches!(file.try_lock(), Ok(true)),
                Ok(None) => false,
                // Whose it is comes first.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => false,
                Err(error) => return Err(error),
            },
            Some(FileKind::Temporary) => is_left(disk, &name, now)?,
            _ => false,
        };
        if waits {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Mends a registry, and tells what came of each step. With `consent` only, a document that can not be read is replaced,
/// and the loss in a damaged journal accepted.
///
/// # Errors
/// [`StoreError`], if the registry can not be locked, read or written; steps that were done before that stay done.
pub fn mend(store: &Arc<Store>, consent: bool) -> Result<Vec<Mending>, StoreError> {
    let disk = &*store.disk;
    let mut mended = Vec::new();
    let mut merges = false;
    for step in plan(disk, store.names.snapshot(), store.wall())? {
        match step.action {
            MendingAction::MakePrivate => {
                let made = make_private(disk, &step.file);
                mended.push(step.done(made));
            }
            MendingAction::ChangeOwner => {
                let given = change_owner(disk, &step.file);
                mended.push(step.done(given));
            }
            MendingAction::RemoveLock => {
                // Taking the registry's lock takes over what nobody holds, and giving it back removes it.
                let taken = lock(store).map(drop);
                mended.push(step.done(taken));
            }
            MendingAction::RewriteDocument if step.state == MendingState::ByHand => mended.push(step),
            MendingAction::RewriteDocument if consent => mended.extend(document::rewrite(store, step)?),
            MendingAction::RewriteDocument => {
                mended.push(Mending { state: MendingState::NeedsConsent, ..step });
            }
            MendingAction::Merge => merges = true,
            // Below: merging may find more of them.
            MendingAction::AcceptJournal => {}
        }
    }
    if matches!(disk::read(disk, store.names.snapshot(), MAX_REGISTRY_BYTES)?.as_deref().map(read), Some(Err(_))) {
        // What is good in journals can not be put into the document, so they stay what they are.
        return Ok(mended);
    }
    if merges {
        store.flush()?;
        let message = "merged the journals and files that ended programs left";
        mended.push(
            Mending::planned(MendingAction::Merge, store.names.snapshot(), message).done(Ok::<_, StoreError>(())),
        );
    }
    let damaged: Vec<String> =
        disk.names()?.into_iter().filter(|name| store.names.kind(name) == Some(FileKind::Damaged)).collect();
    if consent && !damaged.is_empty() {
        mended.extend(accept(store, &damaged)?);
    } else {
        mended.extend(damaged.iter().map(|name| Mending {
            state: MendingState::NeedsConsent,
            details: vec!["`cortex-mcp registry journal dump` shows what is good in it".to_owned()],
            ..accepting(&store.names, name)
        }));
    }
    Ok(mended)
}

/// Accepts damaged journals: first everything that is good in them is in the document, then they get another name.
fn accept(store: &Arc<Store>, damaged: &[String]) -> Result<Vec<Mending>, StoreError> {
    let disk = &*store.disk;
    let (state, counts) = good_of_damaged(store)?;
    store.settle(Edit::Join(&state))?;
    let _lock = lock(store)?;
    let mut accepted = Vec::new();
    for (name, count) in damaged.iter().zip(counts) {
        let kept = store.names.kept(name);
        // Nothing is renamed over what is kept already.
        let renamed = match disk.look(&kept)? {
            None => disk.rename(name, &kept).and_then(|()| disk::sync_names(disk).map(drop)),
            Some(_) => Err(io::ErrorKind::AlreadyExists.into()),
        };
        let mut step = accepting(&store.names, name);
        step.details.push(format!("{count} good changes of it are in the document"));
        accepted.push(step.done(renamed));
    }
    Ok(accepted)
}

/// What is good in damaged journals, joined; and how many changes that are in each.
fn good_of_damaged(store: &Store) -> Result<(State, Vec<usize>), StoreError> {
    let (disk, names) = (&*store.disk, &store.names);
    let (mut known, mut counts) = (Vec::new(), Vec::new());
    for name in disk.names()? {
        if names.kind(&name) != Some(FileKind::Damaged) {
            continue;
        }
        let before = known.len();
        if let Some(segment) = names.segment_of_damaged(&name)
            && let Some(FileKind::Segment { epoch, .. }) = names.kind(&segment)
            && let Some(bytes) = disk::read(disk, &name, usize::try_from(SEGMENT_BYTES_MAX * 2).unwrap_or(usize::MAX))?
        {
            known.extend(changes(epoch, &bytes));
        }
        counts.push(known.len() - before);
    }
    let state = locked(&store.core).judge.join(&State::default(), known)?.state;
    Ok((state, counts))
}

/// The good changes of a segment.
fn changes(epoch: u64, bytes: &[u8]) -> Vec<Arc<Known>> {
    let scan = scan(epoch, bytes);
    let payloads = scan.records.iter().map(|record| record.payload);
    let changes = payloads.filter_map(|payload| Change::decode(payload).ok().flatten());
    changes.filter_map(|change| change.known().ok()).map(Arc::new).collect()
}

fn make_private(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.open(name)? {
        Some(file) => file.set_mode(FILE_MODE),
        // It is gone by now.
        None => Ok(()),
    }
}

/// Gives a file to the user and group whose the folder is.
fn change_owner(disk: &dyn Disk, name: &str) -> io::Result<()> {
    match disk.open(name)? {
        Some(file) => file.set_owner(disk.look_at_folder()?.owner),
        // It is gone by now.
        None => Ok(()),
    }
}

fn lock(store: &Store) -> Result<WriterLock, StoreError> {
    Ok(WriterLock::acquire(&store.disk, &store.names, store.options.lock_patience, &|| store.wall())?)
}

/// Whether a document that can not be read can be replaced here; one that is too large or too many is for its owner.
fn is_replaceable(error: &RegistryError) -> bool {
    matches!(error, RegistryError::Document(_) | RegistryError::Shape)
}
